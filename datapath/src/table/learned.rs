//! What learn actions made, told by cookie and table: how many rules there are where a limit holds, and which go with the
//! rule that made them (ovs-actions(7), `limit` and `delete_learned`).
//!
//! Only cookies that a learn action with such a wish names are counted; a bridge without any pays for one comparison a change.

use super::{Rule, Tables};
use openflow::Action;
use openflow::action::{Learn, each_action};

/// A table and a cookie.
type Where = (u8, u64);

/// What is known of a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Learn actions that name it.
    sources: u32,
    /// Of these, those with `delete_learned`.
    owners: u32,
    /// Rules with it.
    rules: u32,
}

/// See the module's essay.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    counts: imbl::OrdMap<Where, Count>,
    /// Cookies whose last owner went since [`Tables::forget_orphans`].
    orphans: Vec<Where>,
}

/// Calls `f` with the learn actions of a rule that are to be counted.
fn sources(rule: &Rule, f: &mut dyn FnMut(&Learn)) {
    let mut look = |a: &Action| {
        if let Action::Learn(l) = a
            && (l.delete_learned || l.limit != 0)
        {
            f(l);
        }
    };
    each_action(&rule.instructions.apply, &mut look);
}

impl Learned {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

impl Tables {
    /// A rule was put in.
    pub(super) fn learned_came(&mut self, rule: &Rule) {
        if let Some(c) = self.learned.counts.get_mut(&(rule.table, rule.cookie)) {
            c.rules += 1;
        }
        sources(rule, &mut |l| {
            let at = (l.table, l.cookie);
            if !self.learned.counts.contains_key(&at) {
                let rules = self.get(l.table).map_or(0, |t| {
                    let rules = t.classifier.rules().into_iter();
                    rules.filter(|r| r.cookie == l.cookie).count() as u32
                });
                let count = Count {
                    rules,
                    ..Count::default()
                };
                self.learned.counts.insert(at, count);
            }
            let c = &mut self.learned.counts[&at];
            c.sources += 1;
            c.owners += u32::from(l.delete_learned);
        });
    }

    /// A rule was taken out.
    pub(super) fn learned_went(&mut self, rule: &Rule) {
        if self.learned.counts.is_empty() {
            return;
        }
        if let Some(c) = self.learned.counts.get_mut(&(rule.table, rule.cookie)) {
            c.rules = c.rules.saturating_sub(1);
        }
        let learned = &mut self.learned;
        sources(rule, &mut |l| {
            let at = (l.table, l.cookie);
            let Some(c) = learned.counts.get_mut(&at) else {
                return;
            };
            c.sources -= 1;
            if l.delete_learned {
                c.owners -= 1;
                if c.owners == 0 {
                    learned.orphans.push(at);
                }
            }
            if c.sources == 0 {
                learned.counts.remove(&at);
            }
        });
    }

    /// How many rules a learn action with a limit made.
    pub(crate) fn learned_by(&self, l: &Learn) -> u32 {
        let count = self.learned.counts.get(&(l.table, l.cookie));
        count.map_or(0, |c| c.rules)
    }

    /// Takes out the rules whose makers are all gone.
    pub(super) fn forget_orphans(&mut self, effects: &mut super::Effects) {
        while let Some((table, cookie)) = self.learned.orphans.pop() {
            let at = (table, cookie);
            if self.learned.counts.get(&at).is_some_and(|c| c.owners > 0) {
                continue;
            }
            let rules = self.get(table).map_or_else(Vec::new, |t| {
                let rules = t.classifier.rules().into_iter();
                rules.filter(|r| r.cookie == cookie).cloned().collect()
            });
            for rule in rules {
                self.take(&rule);
                effects.gone(rule, openflow::FlowRemovedReason::Delete);
            }
        }
    }
}
