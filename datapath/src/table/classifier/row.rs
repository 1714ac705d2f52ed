//! The rules of one match.

use super::super::rule::Rule;
use std::sync::Arc;

/// The rules of one match, at different priorities: only the highest is ever found by a packet.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Priority of the highest rule and one: 0 is "nothing", in comparisons.
    pub(super) rank: u32,
    /// The highest rule.
    pub(super) rule: Arc<Rule>,
    /// The others.
    below: Option<Box<imbl::OrdMap<u16, Arc<Rule>>>>,
}

/// A priority as a rank.
pub(super) fn rank(priority: u16) -> u32 {
    u32::from(priority) + 1
}

/// What became of a row from which a rule was taken.
pub(super) enum Left {
    /// Another rule of it is the highest now, or still.
    Row(Row),
    /// Nothing.
    Nothing,
}

impl Row {
    pub(super) fn new(rule: Arc<Rule>) -> Row {
        Row {
            rank: rank(rule.priority),
            rule,
            below: None,
        }
    }

    pub(super) fn find(&self, priority: u16) -> Option<&Arc<Rule>> {
        if self.rule.priority == priority {
            return Some(&self.rule);
        }
        self.below.as_ref()?.get(&priority)
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        std::iter::once(&self.rule).chain(self.below.iter().flat_map(|b| b.values()))
    }

    /// Puts a rule in; the one of its priority that was there.
    pub(super) fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        let here = self.rule.priority;
        let lower = match rule.priority.cmp(&here) {
            std::cmp::Ordering::Equal => return Some(std::mem::replace(&mut self.rule, rule)),
            std::cmp::Ordering::Greater => {
                self.rank = rank(rule.priority);
                std::mem::replace(&mut self.rule, rule)
            }
            std::cmp::Ordering::Less => rule,
        };
        self.below
            .get_or_insert_default()
            .insert(lower.priority, lower)
    }

    /// Takes the rule of a priority out, if there is one.
    pub(super) fn remove(mut self, priority: u16) -> (Left, Option<Arc<Rule>>) {
        let mut below = self.below.take().unwrap_or_default();
        let gone = if self.rule.priority == priority {
            let Some(next) = below.get_max().map(|(p, _)| *p) else {
                return (Left::Nothing, Some(self.rule));
            };
            let next = below.remove(&next).expect("its key was just read");
            self.rank = rank(next.priority);
            Some(std::mem::replace(&mut self.rule, next))
        } else {
            below.remove(&priority)
        };
        self.below = (!below.is_empty()).then_some(below);
        (Left::Row(self), gone)
    }
}
