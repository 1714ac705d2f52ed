//! OpenFlow tables: rules, changes to them, and what time does to them.
//!
//! [`Tables`] is a value: cheap to clone, never changed once published. A flow-mod works on a clone;
//! several may, before the result is published, which is how a bundle becomes visible at one instant.
//! There is no clock in here: `now` comes in with every change.

mod check;
mod classifier;
mod eviction;
pub(crate) mod features;
mod learned;
mod objects;
mod rule;
mod settings;
mod shared;
mod timed;
mod trigger;
mod users;

pub use check::Limits;
pub use classifier::{CELLS_MAX, Cells, Changes, Classifier, Pattern};
pub(crate) use rule::shorter;
pub use rule::{Counters, Rule};
pub use settings::{Asked, Settings};
pub use users::{Object, PLACES};

use crate::clock::Now;
use crate::config::TableSpec;
use crate::group::Groups;
use crate::meter::Meters;
use eviction::Evictable;
use openflow::error::ErrorKind;
use openflow::{
    FlowFilter, FlowMod, FlowModCommand, FlowRemoved, FlowRemovedReason, FlowUpdate, Match,
    MonitoredFlow, OfError, PortNo, TABLE_ALL,
};
use shared::Shared;
use std::collections::BTreeMap;
use std::sync::Arc;
use timed::Timed;
use trigger::Triggers;

/// Most rules of a bridge, over all tables: a bound on memory. A rule takes 250 to 500 bytes, instructions of its own apart.
pub const RULES_MAX: usize = 1_000_000;

/// Flows looked at to evict one: those that were used since their timeouts were last looked at are passed over so often.
const EVICTION_TRIES: usize = 64;

/// Lookups of a table.
#[derive(Debug, Default)]
pub struct TableCounters {
    /// Those that found a rule.
    pub matched: Counters,
    /// Those that did not.
    pub missed: Counters,
}

/// One table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its rules.
    pub classifier: Classifier,
    /// Those that may go when it is full, if it evicts.
    evictable: Option<Evictable>,
    /// Its lookups.
    pub counters: Arc<TableCounters>,
}

/// A rule that asked to be told of when it goes, and went. Its counters go on counting what was on its way.
#[derive(Clone)]
pub struct Removed {
    /// Why.
    pub reason: FlowRemovedReason,
    /// The rule.
    pub rule: Arc<Rule>,
}

/// What changes brought about that others are to be told of.
#[derive(Default)]
pub struct Effects {
    /// Rules that went and asked to be told of.
    pub removed: Vec<Removed>,
    /// Whether every change of a rule is noted.
    watched: bool,
    /// Who asks for the next change.
    pub origin: u64,
    /// Every change of a rule, in order, by whom; empty unless somebody watches.
    pub updates: Vec<(u64, FlowUpdate)>,
}

impl Effects {
    /// Nothing yet. `watched` says whether every change of a rule is to be noted.
    pub fn new(watched: bool) -> Effects {
        Effects {
            watched,
            ..Effects::default()
        }
    }

    fn note(&mut self, rule: &Rule, update: impl FnOnce(MonitoredFlow) -> FlowUpdate) {
        if self.watched {
            self.updates.push((self.origin, update(rule.monitored())));
        }
    }

    fn gone(&mut self, rule: Arc<Rule>, reason: FlowRemovedReason) {
        self.note(&rule, |flow| FlowUpdate::Removed(reason, flow));
        if rule.flags.send_flow_rem {
            self.removed.push(Removed { reason, rule });
        }
    }
}

impl Removed {
    /// What is told of it.
    pub fn tell(&self, now: Now) -> FlowRemoved {
        FlowRemoved {
            reason: self.reason,
            flow: self.rule.stats(now),
        }
    }
}

/// All tables of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    tables: Vec<Option<Arc<Table>>>,
    next_id: u64,
    len: usize,
    timed: Timed,
    triggers: Triggers,
    shared: Shared,
    settings: Settings,
    /// Tables changed since the last publication, a bit each.
    changed: [u64; 4],
    /// Whether a table came since.
    came: bool,
    /// The group table.
    pub(crate) groups: Groups,
    /// The meter table.
    pub(crate) meters: Meters,
    users: users::Users,
    learned: learned::Learned,
    /// Places of groups and meters changed since the last publication, a bit each.
    changed_objects: u64,
}

impl Tables {
    /// A table, if it ever had a rule.
    #[inline]
    pub fn get(&self, table: u8) -> Option<&Table> {
        self.tables.get(usize::from(table))?.as_deref()
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes sure the table exists, so that its lookups are counted.
    pub(crate) fn table_mut(&mut self, table: u8) -> &mut Table {
        let i = usize::from(table);
        self.changed[i / 64] |= 1 << (i % 64);
        if self.tables.len() <= i {
            self.tables.resize(i + 1, None);
        }
        self.came |= self.tables[i].is_none();
        Arc::make_mut(self.tables[i].get_or_insert_default())
    }

    fn put(&mut self, rule: Arc<Rule>) {
        let end = rule.end();
        let old = self.table_mut(rule.table).classifier.insert(rule.clone());
        match old {
            Some(old) => {
                self.untime(&old);
                if old.id != rule.id {
                    self.triggers.went(&old);
                }
                self.users.went(&old);
                self.learned_went(&old);
            }
            None => self.len += 1,
        }
        self.triggers.came(&rule);
        self.users.came(&rule);
        self.learned_came(&rule);
        if let Some((end, _)) = end {
            self.time(rule, end);
        }
    }

    /// Has the timeouts of a rule looked at at `due`, which were not to be looked at yet.
    fn time(&mut self, rule: Arc<Rule>, due: Now) {
        if let Some(e) = self.evictable(rule.table) {
            e.add(&rule, due);
        }
        self.timed.set(rule, due);
    }

    fn untime(&mut self, rule: &Rule) {
        if rule.is_timed()
            && let Some(due) = self.timed.remove(rule.id)
            && let Some(e) = self.evictable(rule.table)
        {
            e.remove(rule, due);
        }
    }

    /// A table's rules that may go, if it evicts.
    fn evictable(&mut self, table: u8) -> Option<&mut Evictable> {
        self.get(table)?.evictable.as_ref()?;
        self.table_mut(table).evictable.as_mut()
    }

    fn take(&mut self, rule: &Rule) {
        self.untime(rule);
        let table = self.table_mut(rule.table);
        let gone = table.classifier.remove(&rule.pattern, rule.priority);
        if let Some(gone) = gone {
            self.len -= 1;
            self.triggers.went(&gone);
            self.users.went(&gone);
            self.learned_went(&gone);
        }
        if self.len == 0 {
            self.shared.clear();
        }
    }

    /// Tables from `first` on that a request for `table` speaks of.
    fn range(&self, table: u8) -> impl Iterator<Item = &Table> {
        let (from, to) = match table {
            TABLE_ALL => (0, self.tables.len()),
            t => {
                let t = usize::from(t);
                (t.min(self.tables.len()), (t + 1).min(self.tables.len()))
            }
        };
        self.tables[from..to].iter().flatten().map(|t| &**t)
    }

    /// Tells cached flows of what changed since the last time: before this value is published as
    /// `version`. Whether there is a table that was not there.
    pub(crate) fn publish(&mut self, version: u64) -> bool {
        let changed = std::mem::take(&mut self.changed);
        for (i, table) in self.tables.iter_mut().enumerate() {
            if let Some(t) = table
                && changed[i / 64] >> (i % 64) & 1 != 0
            {
                Arc::make_mut(t).classifier.publish(version);
            }
        }
        std::mem::take(&mut self.came)
    }

    /// The rules a filter selects (OpenFlow 1.3.5 7.3.5.2), by table, falling priority and age.
    pub fn select(&self, f: &FlowFilter) -> Vec<Arc<Rule>> {
        // No rule is within a match that none can have.
        if check::matching(&f.matching).is_err() {
            return Vec::new();
        }
        let pattern = Pattern::new(&f.matching);
        let mut rules: Vec<Arc<Rule>> = self
            .range(f.table)
            .flat_map(|t| t.classifier.within(&pattern))
            .filter(|r| {
                r.cookie & f.cookie_mask == f.cookie & f.cookie_mask
                    && outputs(r, f.out_port, f.out_group)
            })
            .cloned()
            .collect();
        // The rules lie anywhere in memory: each is looked at once.
        rules.sort_by_cached_key(|r| (r.table, std::cmp::Reverse(r.priority), r.id));
        rules
    }

    /// Carries out a change; what came of it is appended to `effects`. One that fails changes nothing.
    pub fn apply(
        &mut self,
        m: &FlowMod,
        limits: &Limits,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), OfError> {
        self.check(m, limits)?;
        match m.command {
            FlowModCommand::Add => self.add(m, now, effects),
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
                self.modify(m, false, now, effects);
                Ok(())
            }
            FlowModCommand::Delete | FlowModCommand::DeleteStrict => {
                self.delete(m, effects);
                Ok(())
            }
        }?;
        self.forget_orphans(effects);
        Ok(())
    }

    /// Carries out a modify as OpenFlow 1.0 and 1.1 have it: where there is nothing to modify and cookies do not
    /// matter, it adds; `cookie` says whether rules get its cookie, as in 1.0.
    pub fn modify_or_add(
        &mut self,
        m: &FlowMod,
        cookie: bool,
        limits: &Limits,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), OfError> {
        let add = FlowMod {
            command: FlowModCommand::Add,
            table: if m.table == TABLE_ALL { 0 } else { m.table },
            ..m.clone()
        };
        self.check(&add, limits)?;
        if !self.modify(m, cookie, now, effects) && m.cookie_mask == 0 {
            self.add(&add, now, effects)?;
        }
        self.forget_orphans(effects);
        Ok(())
    }

    /// Whether a flow-mod can be carried out, apart from what rules there are.
    fn check(&self, m: &FlowMod, limits: &Limits) -> Result<(), OfError> {
        let deletes = matches!(
            m.command,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict
        );
        if m.buffer.is_some() && !deletes {
            return Err(OfError::new(
                ErrorKind::BufferUnknown,
                "Packets are not buffered: send them whole in a packet-out",
            ));
        }
        if m.table == TABLE_ALL && !deletes || m.table != TABLE_ALL && m.table >= limits.tables {
            return Err(OfError::new(
                ErrorKind::FlowModBadTableId,
                format!("Table {}: tables are 0 to {}", m.table, limits.tables - 1),
            ));
        }
        check::matching(&m.matching)?;
        if !deletes {
            check::instructions(m, limits, &self.groups, &self.meters)?;
        }
        Ok(())
    }

    fn add(&mut self, m: &FlowMod, now: Now, effects: &mut Effects) -> Result<(), OfError> {
        let pattern = Pattern::sharing(&m.matching, |mask| self.shared.mask(mask));
        let table = self.get(m.table);
        let old = table.and_then(|t| t.classifier.find(&pattern, m.priority));
        if old.is_none() {
            if m.flags.check_overlap
                && let Some(r) = table.and_then(|t| t.classifier.overlapping(&pattern, m.priority))
            {
                return Err(OfError::new(
                    ErrorKind::Overlap,
                    format!("Overlaps the rule with cookie {:#x}", r.cookie),
                ));
            }
            if self.len >= RULES_MAX {
                return Err(OfError::new(
                    ErrorKind::TableFull,
                    format!("The bridge has {RULES_MAX} flows, as many as it takes"),
                ));
            }
            if let Some(limit) = self.settings.limit(m.table)
                && table.map_or(0, |t| t.classifier.len()) >= limit as usize
                && !self.evict(m.table, now, effects)
            {
                return Err(OfError::new(
                    ErrorKind::TableFull,
                    format!("Table {} has {limit} flows, as many as it takes", m.table),
                ));
            }
        }
        // It may have been looked up before another went.
        let old = self
            .get(m.table)
            .and_then(|t| t.classifier.find(&pattern, m.priority));
        let replaces = old.is_some();
        // An add in place of a rule keeps its counters unless asked not to (7.3.4.2), and its id.
        let (id, counters) = match old {
            Some(old) if !m.flags.reset_counts => (old.id, old.counters.clone()),
            _ => {
                self.next_id += 1;
                (self.next_id, Arc::new(Counters::starting(now)))
            }
        };
        let rule = Arc::new(Rule {
            id,
            table: m.table,
            priority: m.priority,
            pattern,
            instructions: self.shared.instructions(&m.instructions),
            cookie: m.cookie,
            idle_timeout: m.idle_timeout,
            hard_timeout: m.hard_timeout,
            importance: m.importance,
            flags: m.flags,
            created: now,
            modified: now,
            counters,
        });
        let update = if replaces {
            FlowUpdate::Modified
        } else {
            FlowUpdate::Added
        };
        effects.note(&rule, update);
        self.put(rule);
        Ok(())
    }

    /// Puts in the rule that a packet made, or tells one that is there already that it was made again: its hard timeout
    /// begins anew.
    pub(crate) fn teach(
        &mut self,
        m: &FlowMod,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), OfError> {
        let same = |r: &&Arc<Rule>| {
            r.cookie == m.cookie
                && r.flags == m.flags
                && (r.idle_timeout, r.hard_timeout) == (m.idle_timeout, m.hard_timeout)
                && *r.instructions == m.instructions
        };
        let pattern = Pattern::new(&m.matching);
        let there = self
            .get(m.table)
            .and_then(|t| t.classifier.find(&pattern, m.priority));
        match there.filter(same) {
            Some(rule) => {
                let rule = Rule {
                    modified: now,
                    ..(**rule).clone()
                };
                self.put(Arc::new(rule));
            }
            None => self.add(m, now, effects)?,
        }
        self.forget_orphans(effects);
        Ok(())
    }

    /// Shortens the timeouts of a rule that a connection ended by, if it is there still.
    pub(crate) fn shorten(&mut self, rule: &Rule, idle: u16, hard: u16) {
        let table = self.get(rule.table);
        let there = table.and_then(|t| t.classifier.find(&rule.pattern, rule.priority));
        if let Some(r) = there
            && r.id == rule.id
        {
            let (idle_timeout, hard_timeout) = r.shortened(idle, hard);
            let rule = Rule {
                idle_timeout,
                hard_timeout,
                ..(**r).clone()
            };
            self.put(Arc::new(rule));
        }
    }

    /// Gives rules new instructions, and if asked for the cookie; whether there were any. Nothing to modify is no error
    /// (OpenFlow 1.3.5 6.4).
    fn modify(&mut self, m: &FlowMod, cookie: bool, now: Now, effects: &mut Effects) -> bool {
        let rules = self.selected(m);
        let instructions = self.shared.instructions(&m.instructions);
        let any = !rules.is_empty();
        for rule in rules {
            if m.flags.reset_counts {
                rule.reset_counts();
                self.triggers.went(&rule);
            }
            let rule = Arc::new(Rule {
                instructions: instructions.clone(),
                modified: now,
                cookie: if cookie { m.cookie } else { rule.cookie },
                ..(*rule).clone()
            });
            effects.note(&rule, FlowUpdate::Modified);
            self.put(rule);
        }
        any
    }

    fn delete(&mut self, m: &FlowMod, effects: &mut Effects) {
        let all = m.command == FlowModCommand::Delete
            && m.matching.is_empty()
            && m.cookie_mask == 0
            && m.out_port == PortNo::ANY
            && m.out_group.is_none();
        if all {
            return self.clear(m.table, effects);
        }
        for rule in self.selected(m) {
            self.take(&rule);
            effects.gone(rule, FlowRemovedReason::Delete);
        }
    }

    /// Takes out all rules of a table, or of all.
    fn clear(&mut self, table: u8, effects: &mut Effects) {
        let tables: Vec<u8> = self
            .iter()
            .filter(|(n, t)| (table == TABLE_ALL || table == *n) && !t.classifier.is_empty())
            .map(|(n, _)| n)
            .collect();
        // Most rules are of no interest once they are gone.
        let all = effects.watched || !self.users.is_empty() || !self.learned.is_empty();
        for n in tables {
            let rules: Vec<Arc<Rule>> = self
                .get(n)
                .into_iter()
                .flat_map(|t| t.classifier.rules())
                .filter(|r| {
                    all || r.flags.send_flow_rem
                        || r.is_timed()
                        || r.instructions.stat_trigger.is_some()
                })
                .cloned()
                .collect();
            let t = self.table_mut(n);
            let len = t.classifier.len();
            t.classifier.clear();
            self.len -= len;
            for rule in rules {
                self.untime(&rule);
                self.triggers.went(&rule);
                self.users.went(&rule);
                self.learned_went(&rule);
                effects.gone(rule, FlowRemovedReason::Delete);
            }
        }
        if self.len == 0 {
            self.shared.clear();
        }
    }

    /// The rules that a modify or delete speaks of, by table, falling priority and age.
    fn selected(&self, m: &FlowMod) -> Vec<Arc<Rule>> {
        let strict = matches!(
            m.command,
            FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict
        );
        let deletes = matches!(
            m.command,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict
        );
        let wanted = |r: &Arc<Rule>| {
            r.cookie & m.cookie_mask == m.cookie & m.cookie_mask
                && (!deletes || outputs(r, m.out_port, m.out_group))
        };
        let pattern = Pattern::new(&m.matching);
        if strict {
            return self
                .range(m.table)
                .filter_map(|t| t.classifier.find(&pattern, m.priority))
                .filter(|r| wanted(r))
                .cloned()
                .collect();
        }
        let mut rules: Vec<Arc<Rule>> = self
            .range(m.table)
            .flat_map(|t| t.classifier.within(&pattern))
            .filter(|r| wanted(r))
            .cloned()
            .collect();
        rules.sort_by_key(|r| (r.table, std::cmp::Reverse(r.priority), r.id));
        rules
    }

    /// Takes out the flow of a table that is the first to go, if there is one.
    fn evict(&mut self, table: u8, now: Now, effects: &mut Effects) -> bool {
        for tries in 0.. {
            let Some(rule) = self.evictable(table).and_then(|e| e.first().cloned()) else {
                return false;
            };
            match rule.end() {
                // It was used meanwhile: perhaps another goes first.
                Some((end, _))
                    if tries < EVICTION_TRIES
                        && self.timed.due(rule.id) < Some(end)
                        && end > now =>
                {
                    self.untime(&rule);
                    self.time(rule, end);
                }
                _ => {
                    self.take(&rule);
                    effects.gone(rule, FlowRemovedReason::Eviction);
                    return true;
                }
            }
        }
        false
    }

    /// How tables are set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sets tables up as the database says. Those that evict and have more flows than they take lose some.
    pub(crate) fn configure(
        &mut self,
        tables: &BTreeMap<u8, TableSpec>,
        now: Now,
        effects: &mut Effects,
    ) {
        let before: Vec<u8> = self.settings.tables().collect();
        if self.settings.set_database(tables) {
            let after: Vec<u8> = self.settings.tables().collect();
            for table in before.into_iter().chain(after) {
                self.arrange(table, now, effects);
            }
        }
    }

    /// Sets a table up as a controller asks.
    pub(crate) fn ask(
        &mut self,
        table: u8,
        change: impl FnOnce(&mut Asked),
        now: Now,
        effects: &mut Effects,
    ) {
        self.settings.ask(table, change);
        self.came = true;
        self.arrange(table, now, effects);
    }

    /// Brings a table in line with its settings.
    fn arrange(&mut self, table: u8, now: Now, effects: &mut Effects) {
        let by = self.settings.spec(table).map(|s| s.groups.clone());
        let evictable = self.settings.evicts(table).then(|| {
            let mut e = Evictable::new(by.unwrap_or_default());
            let rules = self.get(table).map(|t| t.classifier.rules());
            for rule in rules.into_iter().flatten() {
                if let Some(due) = self.timed.due(rule.id) {
                    e.add(rule, due);
                }
            }
            e
        });
        let old = self.get(table).is_some_and(|t| t.evictable.is_some());
        if evictable.is_some() || old {
            self.table_mut(table).evictable = evictable;
        }
        if let Some(limit) = self.settings.limit(table) {
            while self
                .get(table)
                .is_some_and(|t| t.classifier.len() > limit as usize)
                && self.evict(table, now, effects)
            {}
        }
    }

    /// When some rule's timeouts are to be looked at next.
    pub fn next_expiry(&self) -> Option<Now> {
        self.timed.first().map(|(due, _)| due)
    }

    /// Takes out the rules whose time is over; says whether anything changed. Counters must have been
    /// flushed.
    pub fn expire(&mut self, now: Now, effects: &mut Effects) -> bool {
        let mut any = false;
        while let Some((due, rule)) = self.timed.first()
            && due <= now
        {
            any = true;
            let rule = rule.clone();
            match rule.end() {
                Some((end, reason)) if end <= now => {
                    self.take(&rule);
                    effects.gone(rule, reason);
                }
                // It was used meanwhile.
                Some((end, _)) => {
                    self.untime(&rule);
                    self.time(rule, end);
                }
                None => self.untime(&rule),
            }
        }
        self.forget_orphans(effects);
        any
    }

    /// The rules whose statistics are to be told of, since they passed thresholds since this was last asked. Counters must
    /// have been flushed.
    pub(crate) fn triggered(&self, now: Now) -> impl Iterator<Item = &Arc<Rule>> {
        self.triggers.passed(now)
    }

    /// Every table that has a number below `n`, with its rules and lookups.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Table)> {
        self.tables
            .iter()
            .enumerate()
            .filter_map(|(i, t)| Some((i as u8, t.as_deref()?)))
    }
}

fn outputs(rule: &Rule, port: PortNo, group: Option<u32>) -> bool {
    (port == PortNo::ANY || rule.instructions.outputs_to(port))
        && group.is_none_or(|g| rule.instructions.uses_group(g))
}

impl Tables {
    /// Checks the actions of a packet-out, for a packet of which `matching` is true.
    pub(crate) fn check_actions(
        &self,
        actions: &[openflow::Action],
        matching: &Match,
        limits: &Limits,
    ) -> Result<(), OfError> {
        let scope = check::Scope {
            limits,
            groups: &self.groups,
            meters: &self.meters,
            table: None,
            packet_out: true,
            set: false,
            blind: false,
            nested: 0,
        };
        check::actions(actions, matching, &scope)
    }

    /// Checks what a controller says is left to do of a pipeline, for packets of which nothing is known.
    pub(crate) fn check_continuation(
        &self,
        i: &openflow::Instructions,
        limits: &Limits,
    ) -> Result<(), OfError> {
        check::continuation(i, limits, &self.groups, &self.meters)
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod precise_tests;
#[cfg(test)]
mod tests;
