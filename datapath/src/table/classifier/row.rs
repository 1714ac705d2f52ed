//! The rules of one match.

use super::super::rule::Rule;
use super::pattern::Pattern;
use std::sync::Arc;

/// The rules of one match, at different priorities: only the highest is ever found by a packet.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The highest rule.
    pub(super) rule: Arc<Rule>,
    /// The others.
    below: Option<Box<imbl::OrdMap<u16, Arc<Rule>>>>,
}

/// A priority as a rank: 0 is "nothing", in comparisons.
pub(super) fn rank(priority: u16) -> u32 {
    u32::from(priority) + 1
}

impl Row {
    pub(super) fn new(rule: Arc<Rule>) -> Row {
        Row { rule, below: None }
    }

    /// The match.
    #[inline]
    pub(super) fn pattern(&self) -> &Pattern {
        &self.rule.pattern
    }

    /// The rank of the highest rule.
    #[inline]
    pub(super) fn rank(&self) -> u32 {
        rank(self.rule.priority)
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
            std::cmp::Ordering::Greater => std::mem::replace(&mut self.rule, rule),
            std::cmp::Ordering::Less => rule,
        };
        self.below
            .get_or_insert_default()
            .insert(lower.priority, lower)
    }

    /// Takes the rule of a priority out, if there is one; what is left, if anything is.
    pub(super) fn remove(mut self, priority: u16) -> (Option<Row>, Option<Arc<Rule>>) {
        let mut below = self.below.take().unwrap_or_default();
        let gone = if self.rule.priority == priority {
            let Some((_, next)) = below.get_max().cloned() else {
                return (None, Some(self.rule));
            };
            below.remove(&next.priority);
            Some(std::mem::replace(&mut self.rule, next))
        } else {
            below.remove(&priority)
        };
        self.below = (!below.is_empty()).then_some(below);
        (Some(self), gone)
    }
}
