//! Nicira's learn: packets make rules (ovs-actions(7), `learn`).
//!
//! A translation makes a [`Lesson`] of the packet: the rule to be. Taking it to heart is up to the forwarding thread, right
//! after the translation and before any other packet is looked up, and it is cheap when the rule is there already: that it
//! was used is noted on the rule without a lock. Only a rule that is new or other than it was takes the lock of those who
//! change flows. The lesson stays with the cached flow: packets that take it refresh the rule whenever they are counted,
//! and bring it back if it went.
//!
//! Fields that go into the rule are looked at, so a cached flow teaches one thing.

use super::trace::What;
use super::translate::{Here, Xlate};
use super::translation::{Credit, Dep};
use crate::bridge::Bridge;
use crate::clock::Now;
use crate::engine::events::EventSender;
use crate::table::{Cells, Effects, Pattern, Rule, Tables, shorter};
use openflow::action::{Learn, LearnSource, LearnTarget};
use openflow::{Action, FlowFlags, FlowMod, FlowModCommand, Instructions, Match, PortNo, Subfield};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a rule with a hard timeout goes without that beginning anew, though packets make it again: to note it takes the
/// lock, and timeouts are looked at once a second.
const REFRESH: Duration = Duration::from_millis(500);

/// A rule that packets make.
pub struct Lesson {
    bridge: Arc<Bridge>,
    learn: Learn,
    rule: FlowMod,
    pattern: Pattern,
    /// What a FIN or RST shortens its timeouts to.
    fin: Option<(u16, u16)>,
}

impl Xlate<'_> {
    pub(super) fn learn(&mut self, here: Here, l: &Learn) {
        let mut matching = Match::new();
        let mut apply = Vec::new();
        for spec in &l.specs {
            let value = match spec.source {
                LearnSource::Field(f) => self.read(f),
                LearnSource::Value { value, .. } => value,
            };
            match spec.target {
                LearnTarget::Match(t) => matching.set_bits(t, value),
                LearnTarget::Load(target) => apply.push(loading(target, value)),
                LearnTarget::Output => {
                    // Sixteen bits hold OpenFlow 1.0's numbers of reserved ports.
                    let port = match value as u32 {
                        n @ 0xff00..=0xffff => n | 0xffff_0000,
                        n => n,
                    };
                    let port = PortNo(port);
                    let known = port.is_physical()
                        || matches!(
                            port,
                            PortNo::IN_PORT
                                | PortNo::FLOOD
                                | PortNo::ALL
                                | PortNo::LOCAL
                                | PortNo::CONTROLLER
                                | PortNo::NORMAL
                        );
                    if known {
                        apply.push(Action::Output { port, max_len: 0 });
                    }
                }
            }
        }
        let rule = FlowMod {
            command: FlowModCommand::Add,
            cookie: l.cookie,
            table: l.table,
            priority: l.priority,
            idle_timeout: l.idle_timeout,
            hard_timeout: l.hard_timeout,
            flags: FlowFlags {
                send_flow_rem: l.send_flow_rem,
                ..FlowFlags::default()
            },
            ..FlowMod::add(matching, Instructions::apply(apply))
        };
        let lesson = Lesson {
            bridge: here.0.clone(),
            learn: l.clone(),
            pattern: Pattern::new(&rule.matching),
            rule,
            fin: (l.fin_idle_timeout != 0 || l.fin_hard_timeout != 0)
                .then_some((l.fin_idle_timeout, l.fin_hard_timeout)),
        };
        if l.limit != 0 {
            // How many there are changes with any rule of the table.
            if let Some(t) = here.1.tables.get(l.table) {
                self.out.deps.push(Dep::Rules {
                    changes: t.classifier.changes().clone(),
                    since: here.1.version,
                    cells: Cells::any(),
                });
            }
        }
        let tables = &here.1.tables;
        let done = lesson.known(tables).is_some() || l.limit == 0 || tables.learned_by(l) < l.limit;
        if !done {
            self.remark(|| "Limit exceeded, learn failed".into());
        } else if self.effects {
            self.tell(|| What::Learned(Box::new(lesson.rule.clone())));
        } else {
            self.tell(|| What::Warning("suppressing side effects, so learn action ignored".into()));
        }
        if let Some(bit) = l.result {
            self.load(bit, done.into());
            self.tell_now(bit);
        }
        self.out.teaches = true;
        self.out.credits.push(Credit::Lesson(Arc::new(lesson)));
    }

    /// Writes a run of bits.
    pub(super) fn load(&mut self, target: Subfield, value: u128) {
        let ones = match target.bits {
            128.. => u128::MAX,
            n => (1 << n) - 1,
        };
        self.set_field(
            target.field,
            (value & ones) << target.offset,
            ones << target.offset,
        );
    }
}

/// The action that loads a value.
fn loading(target: Subfield, value: u128) -> Action {
    match u64::try_from(value) {
        Ok(value) if target.bits <= 64 => Action::Load { target, value },
        _ => Action::SetField {
            field: target.field,
            value: value << target.offset,
            mask: match target.bits {
                128.. => u128::MAX,
                n => ((1 << n) - 1) << target.offset,
            },
        },
    }
}

impl Lesson {
    /// The rule as it is made.
    #[cfg(test)]
    pub(super) fn rule(&self) -> &FlowMod {
        &self.rule
    }

    /// The rule in its place, whatever it does.
    fn known<'t>(&self, tables: &'t Tables) -> Option<&'t Arc<Rule>> {
        let t = tables.get(self.rule.table)?;
        t.classifier.find(&self.pattern, self.rule.priority)
    }

    /// Whether a rule is what was learned; timeouts may have become shorter by a FIN.
    fn is_taught(&self, rule: &Rule) -> bool {
        let (idle, hard) = (self.rule.idle_timeout, self.rule.hard_timeout);
        let timeouts = (rule.idle_timeout, rule.hard_timeout) == (idle, hard)
            || self
                .fin
                .is_some_and(|fin| (rule.idle_timeout, rule.hard_timeout) == self.short(fin));
        rule.cookie == self.rule.cookie
            && rule.flags == self.rule.flags
            && timeouts
            && *rule.instructions == self.rule.instructions
    }

    /// The timeouts of the rule once a FIN or RST was seen.
    fn short(&self, (idle, hard): (u16, u16)) -> (u16, u16) {
        (
            shorter(self.rule.idle_timeout, idle),
            shorter(self.rule.hard_timeout, hard),
        )
    }

    /// Packets taught it, the last of them at `used`, perhaps the end of a TCP connection (`fin`). Whether rules changed.
    pub(crate) fn teach(&self, used: Now, fin: bool, events: &EventSender) -> bool {
        let fin = self.fin.filter(|_| fin);
        let state = self.bridge.state.load();
        let is_done = |rule: &Rule| {
            self.is_taught(rule)
                && fin.is_none_or(|f| (rule.idle_timeout, rule.hard_timeout) == self.short(f))
                && (rule.hard_timeout == 0 || used < rule.modified + REFRESH)
        };
        match self.known(&state.tables) {
            Some(rule) if is_done(rule) => {
                rule.counters.add(0, 0, used.as_nanos() as u64);
                return false;
            }
            Some(_) => {}
            None if self.is_over(&state.tables) => return false,
            None => {}
        }
        let mut rule = self.rule.clone();
        if let Some(f) = fin {
            (rule.idle_timeout, rule.hard_timeout) = self.short(f);
        }
        let watched = &self.bridge.watched;
        let done = self.bridge.update_then(
            |s| {
                // Another thread may have been faster.
                let there = self.known(&s.tables).cloned();
                if there.as_deref().is_some_and(is_done)
                    || there.is_none() && self.is_over(&s.tables)
                {
                    return Err(());
                }
                let mut effects = Effects::new(watched.load(Ordering::Relaxed));
                match s.tables.teach(&rule, used, &mut effects) {
                    Ok(()) => Ok(effects),
                    Err(_) => Err(()),
                }
            },
            |effects, version| {
                events.tell_watchers(&self.bridge, effects.updates, version);
                effects.removed
            },
        );
        match done {
            Ok(removed) => {
                events.tell_removed(&self.bridge, &removed, used);
                true
            }
            Err(()) => false,
        }
    }

    /// Whether no more rules may be learned.
    fn is_over(&self, tables: &Tables) -> bool {
        self.learn.limit != 0 && tables.learned_by(&self.learn) >= self.learn.limit
    }
}
