//! Rules with timeouts, in the order in which they are to be looked at.
//!
//! A rule stands here under the time at which its time would be over if it were not used any more. When that comes, it is
//! over, or the rule was used meanwhile and is put where it would be over now: so a rule is looked at once for each of its
//! timeouts at most, however many there are.

use super::rule::Rule;
use crate::clock::Now;
use std::sync::Arc;
use std::time::Duration;

/// The queue. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Timed {
    /// By time, in nanoseconds, and id.
    rules: imbl::OrdMap<(u64, u64), Arc<Rule>>,
    /// Each rule's time, by id.
    times: imbl::OrdMap<u64, u64>,
}

impl Timed {
    /// Puts a rule in, or to another place, to be looked at at `due`.
    pub(super) fn set(&mut self, rule: Arc<Rule>, due: Now) {
        let due = due.as_nanos() as u64;
        if let Some(old) = self.times.insert(rule.id, due) {
            self.rules.remove(&(old, rule.id));
        }
        self.rules.insert((due, rule.id), rule);
    }

    /// Takes a rule out, if it is here; when it would have been looked at.
    pub(super) fn remove(&mut self, id: u64) -> Option<Now> {
        let due = self.times.remove(&id)?;
        self.rules.remove(&(due, id));
        Some(Duration::from_nanos(due))
    }

    /// When a rule is looked at.
    pub(super) fn due(&self, id: u64) -> Option<Now> {
        self.times.get(&id).copied().map(Duration::from_nanos)
    }

    /// The rule to be looked at next, and when.
    pub(super) fn first(&self) -> Option<(Now, &Arc<Rule>)> {
        let ((due, _), rule) = self.rules.get_min()?;
        Some((Duration::from_nanos(*due), rule))
    }
}
