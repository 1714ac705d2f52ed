//! Tables against a plain list of flows: every command with its filters and flags, timeouts, limits, evictions, and what
//! who watches is told.

use super::*;
use crate::config::TableSpec;
use openflow::{Action, FieldId, FlowFlags, Instructions, Subfield};
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMITS: Limits = Limits { tables: 3 };
/// Table 1 takes so many flows, and evicts.
const EVICTS_AT: usize = 8;
/// Table 2 takes so many flows, and refuses.
const REFUSES_AT: usize = 6;

#[derive(Clone, Debug, PartialEq)]
struct Flow {
    id: u64,
    table: u8,
    priority: u16,
    matching: Match,
    port: u32,
    cookie: u64,
    idle: u16,
    hard: u16,
    importance: u16,
    send: bool,
    modified: u64,
    used: u64,
    packets: u64,
}

impl Flow {
    /// When it ends, in seconds, if it is not used.
    fn end(&self) -> Option<u64> {
        let hard = (self.hard != 0).then(|| self.modified + u64::from(self.hard));
        let idle = (self.idle != 0).then(|| self.used.max(self.modified) + u64::from(self.idle));
        hard.into_iter().chain(idle).min()
    }

    fn reason(&self) -> FlowRemovedReason {
        if self.hard != 0 && self.end() == Some(self.modified + u64::from(self.hard)) {
            FlowRemovedReason::HardTimeout
        } else {
            FlowRemovedReason::IdleTimeout
        }
    }

    /// What watchers tell flows by.
    fn key(&self) -> (u8, u16, Match) {
        (self.table, self.priority, self.matching.clone())
    }
}

/// The flows, and those told of as removed.
#[derive(Clone, Default)]
struct List {
    flows: Vec<Flow>,
    next: u64,
    removed: Vec<(FlowRemovedReason, u64)>,
}

impl List {
    fn remove(&mut self, at: usize, reason: FlowRemovedReason) {
        let f = self.flows.remove(at);
        if f.send {
            self.removed.push((reason, f.id));
        }
    }

    fn expire(&mut self, now: u64) {
        while let Some(at) = self
            .flows
            .iter()
            .position(|f| f.end().is_some_and(|e| e <= now))
        {
            let reason = self.flows[at].reason();
            self.remove(at, reason);
        }
    }

    fn evict(&mut self, table: u8) -> bool {
        let group = |f: &Flow| f.matching.get(FieldId::EthType).0;
        let may: Vec<&Flow> = self
            .flows
            .iter()
            .filter(|f| f.table == table && f.end().is_some())
            .collect();
        let size = |g| may.iter().filter(|f| group(f) == g).count();
        let Some(largest) = may.iter().map(|f| group(f)).max_by_key(|g| (size(*g), *g)) else {
            return false;
        };
        let first = may
            .iter()
            .filter(|f| group(f) == largest)
            .min_by_key(|f| (f.importance, f.end(), f.id))
            .map(|f| f.id);
        let at = self.flows.iter().position(|f| Some(f.id) == first);
        self.remove(at.expect("it is there"), FlowRemovedReason::Eviction);
        true
    }

    fn add(&mut self, m: &FlowMod, now: u64) -> Result<(), ErrorKind> {
        let same =
            |f: &Flow| f.table == m.table && f.priority == m.priority && f.matching == m.matching;
        let old = self.flows.iter().position(same);
        if old.is_none() {
            let overlaps = |f: &Flow| {
                f.table == m.table && f.priority == m.priority && f.matching.overlaps(&m.matching)
            };
            if m.flags.check_overlap && self.flows.iter().any(overlaps) {
                return Err(ErrorKind::Overlap);
            }
            let here = self.flows.iter().filter(|f| f.table == m.table).count();
            let full = m.table == 1 && here >= EVICTS_AT && !self.evict(1)
                || m.table == 2 && here >= REFUSES_AT;
            if full {
                return Err(ErrorKind::TableFull);
            }
        }
        let old = old.map(|i| self.flows.remove(i));
        let kept = old.filter(|_| !m.flags.reset_counts);
        if kept.is_none() {
            self.next += 1;
        }
        self.flows.push(Flow {
            id: kept.as_ref().map_or(self.next, |f| f.id),
            table: m.table,
            priority: m.priority,
            matching: m.matching.clone(),
            port: port_of(&m.instructions),
            cookie: m.cookie,
            idle: m.idle_timeout,
            hard: m.hard_timeout,
            importance: m.importance,
            send: m.flags.send_flow_rem,
            modified: now,
            used: kept.as_ref().map_or(now, |f| f.used),
            packets: kept.as_ref().map_or(0, |f| f.packets),
        });
        Ok(())
    }

    fn wanted(f: &Flow, m: &FlowMod) -> bool {
        let strict = matches!(
            m.command,
            FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict
        );
        let deletes = matches!(
            m.command,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict
        );
        (m.table == TABLE_ALL || f.table == m.table)
            && f.cookie & m.cookie_mask == m.cookie & m.cookie_mask
            && if strict {
                f.priority == m.priority && f.matching == m.matching
            } else {
                f.matching.is_within(&m.matching)
            }
            && (!deletes || m.out_port == PortNo::ANY || m.out_port.0 == f.port)
    }

    /// As `apply`, or for `cookie` as `modify_or_add`.
    fn apply(&mut self, m: &FlowMod, cookie: Option<bool>, now: u64) -> Result<(), ErrorKind> {
        match m.command {
            FlowModCommand::Add => self.add(m, now),
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
                let mut any = false;
                for f in self.flows.iter_mut().filter(|f| List::wanted(f, m)) {
                    any = true;
                    f.port = port_of(&m.instructions);
                    f.modified = now;
                    if m.flags.reset_counts {
                        f.packets = 0;
                    }
                    if cookie == Some(true) {
                        f.cookie = m.cookie;
                    }
                }
                if cookie.is_some() && !any && m.cookie_mask == 0 {
                    let table = if m.table == TABLE_ALL { 0 } else { m.table };
                    return self.add(&FlowMod { table, ..m.clone() }, now);
                }
                Ok(())
            }
            _ => {
                while let Some(at) = self.flows.iter().position(|f| List::wanted(f, m)) {
                    self.remove(at, FlowRemovedReason::Delete);
                }
                Ok(())
            }
        }
    }
}

fn port_of(i: &Instructions) -> u32 {
    match i.apply.first() {
        Some(Action::Output { port, .. }) => port.0,
        _ => 0,
    }
}

/// Few values, so that flows meet.
fn any_match() -> impl Strategy<Value = Match> {
    let eth = prop_oneof![Just(None), Just(Some(0x800u128)), Just(Some(0x806))];
    (eth, 0u128..4, prop_oneof![Just(0u128), Just(1), Just(3)]).prop_map(|(eth, port, mask)| {
        let mut m = Match::new();
        if let Some(e) = eth {
            m.set(FieldId::EthType, e);
        }
        m.set_masked(FieldId::Metadata, port & mask, mask);
        m
    })
}

fn any_mod() -> impl Strategy<Value = FlowMod> {
    use FlowModCommand::*;
    let command = prop_oneof![
        6 => Just(Add), 1 => Just(Modify), 1 => Just(ModifyStrict), 1 => Just(Delete), 1 => Just(DeleteStrict)
    ];
    let table = prop_oneof![4 => 0u8..3, 1 => Just(TABLE_ALL)];
    let timeout = || prop_oneof![2 => Just(0u16), 1 => 1u16..20];
    let filter = (0u64..4, prop_oneof![3 => Just(0u64), 1 => 1u64..4]);
    let port = prop_oneof![2 => Just(PortNo::ANY), 1 => (1u32..4).prop_map(PortNo)];
    (
        (command, table, 1u16..4, any_match()),
        (timeout(), timeout(), 0u16..3),
        (filter, port, 1u32..4),
        (any::<bool>(), 0u8..8),
    )
        .prop_map(
            |(
                (command, table, priority, matching),
                (idle_timeout, hard_timeout, importance),
                ((cookie, cookie_mask), out_port, to),
                (send_flow_rem, flags),
            )| {
                let out = Action::Output {
                    port: PortNo(to),
                    max_len: 0,
                };
                let all = matches!(command, Delete | DeleteStrict);
                FlowMod {
                    command,
                    table: if table == TABLE_ALL && !all { 1 } else { table },
                    priority,
                    idle_timeout,
                    hard_timeout,
                    importance,
                    cookie,
                    cookie_mask,
                    out_port,
                    flags: FlowFlags {
                        send_flow_rem,
                        check_overlap: flags == 1,
                        reset_counts: flags == 2,
                        ..FlowFlags::default()
                    },
                    ..FlowMod::add(matching, Instructions::apply(vec![out]))
                }
            },
        )
}

#[derive(Clone, Debug)]
enum Step {
    Change(FlowMod),
    /// A modify of OpenFlow 1.0 or 1.1.
    Legacy(FlowMod, bool),
    /// A packet hits the flow that manieth.
    Use(usize),
    /// Seconds pass.
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_mod().prop_map(Step::Change),
        1 => (any_mod(), any::<bool>()).prop_map(|(m, cookie)| {
            let command = match m.priority {
                1 => FlowModCommand::Modify,
                _ => FlowModCommand::ModifyStrict,
            };
            Step::Legacy(FlowMod { command, ..m }, cookie)
        }),
        2 => any::<usize>().prop_map(Step::Use),
        2 => (1u64..6).prop_map(Step::Wait),
    ]
}

fn dump(t: &Tables) -> Vec<Flow> {
    let mut flows: Vec<Flow> = t
        .select(&FlowFilter::default())
        .iter()
        .map(|r| Flow {
            id: r.id,
            table: r.table,
            priority: r.priority,
            matching: r.matching(),
            port: port_of(&r.instructions),
            cookie: r.cookie,
            idle: r.idle_timeout,
            hard: r.hard_timeout,
            importance: r.importance,
            send: r.flags.send_flow_rem,
            modified: r.modified.as_secs(),
            used: r.counters.used().as_secs(),
            packets: r.counters.get().0,
        })
        .collect();
    flows.sort_by_key(|f| f.id);
    flows
}

/// Carries out what a watcher is told.
fn follow(seen: &mut Vec<MonitoredFlow>, update: &FlowUpdate) {
    let at = |seen: &[MonitoredFlow], f: &MonitoredFlow| {
        let key = |f: &MonitoredFlow| (f.table, f.priority, f.matching.clone());
        seen.iter().position(|s| key(s) == key(f))
    };
    match update {
        FlowUpdate::Added(f) => {
            assert_eq!(at(seen, f), None);
            seen.push(f.clone());
        }
        FlowUpdate::Modified(f) => {
            let i = at(seen, f).expect("it was told of before");
            seen[i] = f.clone();
        }
        FlowUpdate::Removed(_, f) => {
            let i = at(seen, f).expect("it was told of before");
            seen.remove(i);
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn tables_do_what_a_list_does(steps in proptest::collection::vec(any_step(), 1..80)) {
        let mut tables = Tables::default();
        let mut specs = BTreeMap::new();
        specs.insert(1, TableSpec {
            flow_limit: Some(EVICTS_AT as u32),
            evict: true,
            groups: vec![Subfield::whole(FieldId::EthType)],
            ..TableSpec::default()
        });
        specs.insert(2, TableSpec {
            flow_limit: Some(REFUSES_AT as u32),
            ..TableSpec::default()
        });
        tables.configure(&specs, Now::default(), &mut Effects::default());
        let mut list = List::default();
        let mut seen = Vec::new();
        let mut now = 0;
        for step in &steps {
            let mut effects = Effects::new(true);
            let at = Now::from_secs(now);
            list.removed.clear();
            // A change that is not published is as if it never was.
            let mut dropped = tables.clone();
            let (mine, theirs) = match step {
                Step::Change(m) => {
                    let _ = dropped.apply(m, &LIMITS, at, &mut Effects::default());
                    (
                        tables.apply(m, &LIMITS, at, &mut effects).map_err(|e| e.kind),
                        list.apply(m, None, now),
                    )
                }
                Step::Legacy(m, cookie) => (
                    tables
                        .modify_or_add(m, *cookie, &LIMITS, at, &mut effects)
                        .map_err(|e| e.kind),
                    list.apply(m, Some(*cookie), now),
                ),
                Step::Use(n) => {
                    if !list.flows.is_empty() {
                        let n = n % list.flows.len();
                        let f = &mut list.flows[n];
                        f.packets += 1;
                        f.used = now;
                        let rules = tables.select(&FlowFilter::default());
                        let rule = rules.iter().find(|r| r.id == f.id).expect("the same flows");
                        rule.counters.add(1, 60, at.as_nanos() as u64);
                    }
                    (Ok(()), Ok(()))
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    list.expire(now);
                    tables.expire(Now::from_secs(now), &mut effects);
                    (Ok(()), Ok(()))
                }
            };
            prop_assert_eq!(mine, theirs, "{:?}", step);
            list.flows.sort_by_key(|f| f.id);
            prop_assert_eq!(dump(&tables), list.flows.clone(), "{:?}", step);
            prop_assert_eq!(tables.len(), list.flows.len());
            let order = |mut v: Vec<(FlowRemovedReason, u64)>| {
                v.sort_by_key(|r| r.1);
                v
            };
            let removed = effects.removed.iter().map(|r| (r.reason, r.rule.id)).collect();
            prop_assert_eq!(order(removed), order(list.removed.clone()), "{:?}", step);
            effects.updates.iter().for_each(|(_, u)| follow(&mut seen, u));
            let told: BTreeSet<String> =
                seen.iter().map(|f| format!("{:?}", (f.table, f.priority, &f.matching))).collect();
            let there: BTreeSet<String> =
                list.flows.iter().map(|f| format!("{:?}", f.key())).collect();
            prop_assert_eq!(told, there);
            let next = list.flows.iter().filter_map(Flow::end).min();
            // Looked at no later than it must be.
            prop_assert!(tables.next_expiry().is_none_or(|d| Some(d.as_secs()) <= next));
            prop_assert_eq!(tables.next_expiry().is_some(), next.is_some());
        }
    }
}
