//! Flows whose statistics are told of without being asked for: when they pass the thresholds of a stat-trigger
//! instruction (OpenFlow 1.5.1 5.9 and 7.2.5).
//!
//! Rules with the instruction are kept apart, and looked at whenever time acts on flows, about once a second: packets know
//! nothing of them. However many multiples of however many thresholds were passed since the last look, it is told once. A
//! trigger begins with what its flow has counted already: what was passed before the instruction came is not told.

use super::rule::Rule;
use crate::clock::Now;
use openflow::action::StatTrigger;
use parking_lot::Mutex;
use std::sync::Arc;

/// The rules, by id. A clone shares everything, also what was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Triggers {
    rules: imbl::OrdMap<u64, (Arc<Rule>, Arc<Mutex<Told>>)>,
}

impl Triggers {
    /// A rule came, perhaps in place of another. What was told stays so if it has the counters and the trigger of a rule
    /// that is here.
    pub(super) fn came(&mut self, rule: &Arc<Rule>) {
        let was = self.rules.remove(&rule.id);
        let Some(trigger) = &rule.instructions.stat_trigger else {
            return;
        };
        let told = match was {
            Some((old, told)) if old.instructions.stat_trigger.as_ref() == Some(trigger) => told,
            _ => Arc::new(Mutex::new(Told::starting(rule, trigger))),
        };
        self.rules.insert(rule.id, (rule.clone(), told));
    }

    /// A rule went.
    pub(super) fn went(&mut self, rule: &Rule) {
        if rule.instructions.stat_trigger.is_some() {
            self.rules.remove(&rule.id);
        }
    }

    /// The rules that passed thresholds since they were last looked at, which they are one by one as they are asked for.
    pub(super) fn passed(&self, now: Now) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.values().filter_map(move |(rule, told)| {
            let trigger = rule.instructions.stat_trigger.as_deref()?;
            told.lock().look(rule, trigger, now).then_some(rule)
        })
    }
}

/// Statistics that have thresholds: age, idle time, packets, bytes.
const STATISTICS: usize = 4;
const IDLE: usize = 1;

/// What of a rule was told.
#[derive(Debug, Default)]
struct Told {
    /// How often each threshold was passed.
    passed: [u64; STATISTICS],
    /// Since when it is idle.
    used: Now,
    /// The statistic that was the first to pass its threshold.
    first: Option<usize>,
}

impl Told {
    fn starting(rule: &Rule, trigger: &StatTrigger) -> Told {
        let mut told = Told::default();
        told.look(rule, trigger, rule.modified);
        told.first = None;
        told
    }

    /// Compares a rule's statistics with its thresholds; whether they are to be told.
    fn look(&mut self, rule: &Rule, trigger: &StatTrigger, now: Now) -> bool {
        let used = rule.counters.used();
        if used != self.used {
            self.used = used;
            self.passed[IDLE] = 0;
        }
        let (packets, bytes) = rule.counters.get();
        let age = |since: Now| now.saturating_sub(since).as_secs();
        let counted = [age(rule.created), age(used), packets, bytes];
        let thresholds: [u64; STATISTICS] = [
            trigger.duration.into(),
            trigger.idle.into(),
            trigger.packets,
            trigger.bytes,
        ];
        let mut tell = false;
        for (i, (counted, threshold)) in counted.into_iter().zip(thresholds).enumerate() {
            let times = counted.checked_div(threshold).unwrap_or(0);
            let times = if trigger.periodic {
                times
            } else {
                times.min(1)
            };
            let before = std::mem::replace(&mut self.passed[i], times);
            if times <= before {
                continue;
            }
            // "Only first": one statistic counts alone from the first time on, and tells again only if it is periodic.
            match self.first {
                Some(first) if trigger.only_first => tell |= first == i && trigger.periodic,
                _ => {
                    self.first = Some(i);
                    tell = true;
                }
            }
        }
        tell
    }
}
