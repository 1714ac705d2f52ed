//! Conjunctive matches (ovs-fields(7), "Conjunctive Match Fields").
//!
//! A rule with conjunction actions is a *clause*: by itself it does nothing. Where a packet matches at least one rule of every
//! clause of a conjunction, all of them of one priority above that of the best plain rule, it is looked up once more among
//! the plain rules, with the conjunction's id in the field `conj_id`. What that finds is the answer; if it finds nothing, the
//! next lower priority of clauses has its turn, and in the end the plain rule.
//!
//! Clauses are kept apart from plain rules, by mask in hash tables: sets of addresses and ports, many rules of few masks. A
//! lookup tries every mask, and that is what it looks at; it costs tables without clauses one comparison. All clauses of a
//! table have one cell: who depends on a lookup looks again when any of them changes.

use super::changes::{Cells, Pending, cell};
use super::pattern::{Mask, Pattern};
use crate::flow::{FlowKey, FlowMask};
use crate::table::rule::Rule;
use openflow::Action;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of the node of the cell that all clauses share: nodes of the tree and hash tables never get it.
const NODE: u32 = u32::MAX;

/// Clauses of one mask, by what they want; those that want the same by falling priority.
type Clauses = imbl::HashMap<Box<[u64]>, Arc<[Arc<Rule>]>>;

/// The clauses of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Conjunctions {
    masks: imbl::OrdMap<Arc<Mask>, Clauses>,
    len: usize,
    /// How many there are of each priority.
    priorities: imbl::OrdMap<u16, u32>,
}

/// Whether a rule is a clause.
pub(super) fn is_clause(rule: &Rule) -> bool {
    let mut actions = rule.instructions.apply.iter();
    actions.any(|a| matches!(a, Action::Conjunction { .. }))
}

/// Notes the cell of the clauses.
pub(super) fn note(pending: &mut Pending) {
    pending.note(cell(NODE, 0));
}

impl Conjunctions {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn masks(&self) -> usize {
        self.masks.len()
    }

    fn same(&self, pattern: &Pattern) -> Option<&Arc<[Arc<Rule>]>> {
        self.masks.get(pattern.mask())?.get(pattern.values())
    }

    pub(super) fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        let mut same = self.same(pattern)?.iter();
        same.find(|r| r.priority == priority)
    }

    /// Puts a clause in; the one of its match and priority that was there.
    pub(super) fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        let old = self.remove(&rule.pattern, rule.priority);
        self.len += 1;
        *self.priorities.entry(rule.priority).or_insert(0) += 1;
        let clauses = self.masks.entry(rule.pattern.mask().clone()).or_default();
        let same = clauses.entry(rule.pattern.values().into());
        let same = same.or_insert_with(|| Arc::new([]));
        let at = same.partition_point(|r| r.priority > rule.priority);
        let (above, below) = same.split_at(at);
        let all = above.iter().chain([&rule]).chain(below).cloned().collect();
        *same = all;
        old
    }

    pub(super) fn remove(&mut self, pattern: &Pattern, priority: u16) -> Option<Arc<Rule>> {
        let gone = self.find(pattern, priority)?.clone();
        self.len -= 1;
        if let Some(n) = self.priorities.get_mut(&priority) {
            *n -= 1;
            if *n == 0 {
                self.priorities.remove(&priority);
            }
        }
        let clauses = self.masks.get_mut(pattern.mask())?;
        let same = clauses.get_mut(pattern.values())?;
        let left = same.iter().filter(|r| r.priority != priority).cloned();
        *same = left.collect();
        if same.is_empty() {
            clauses.remove(pattern.values());
            if clauses.is_empty() {
                self.masks.remove(pattern.mask());
            }
        }
        Some(gone)
    }

    pub(super) fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        for clauses in self.masks.values() {
            clauses
                .values()
                .flat_map(|c| c.iter())
                .for_each(&mut *visit);
        }
    }

    /// The conjunctions that a packet meets and that go before a plain rule of priority `above`, one a priority, highest first.
    pub(super) fn met(
        &self,
        key: &FlowKey,
        above: Option<u16>,
        mask: &mut FlowMask,
        cells: &mut Cells,
    ) -> Vec<u32> {
        cells.note(cell(NODE, 0));
        let highest = self.priorities.get_max().map(|(p, _)| *p);
        if highest <= above {
            return Vec::new();
        }
        let mut matched: BTreeMap<u16, Vec<&Arc<Rule>>> = BTreeMap::new();
        for (m, clauses) in &self.masks {
            let mut values = Vec::with_capacity(m.words().len());
            for &(word, bits) in m.words() {
                let word = usize::from(word);
                values.push(key.0[word] & bits);
                mask.0[word] |= bits;
            }
            for rule in clauses.get(&values[..]).into_iter().flat_map(|c| c.iter()) {
                if Some(rule.priority) > above {
                    matched.entry(rule.priority).or_default().push(rule);
                }
            }
        }
        matched.into_values().rev().filter_map(whole).collect()
    }
}

/// The first conjunction of which all clauses are among these.
fn whole(mut rules: Vec<&Arc<Rule>>) -> Option<u32> {
    // Always the same one: the choice must not depend on more than what matched.
    rules.sort_by_key(|r| r.id);
    let mut have: BTreeMap<(u32, u8), u64> = BTreeMap::new();
    for a in rules.iter().flat_map(|r| &r.instructions.apply) {
        let Action::Conjunction {
            id,
            clause,
            clauses,
        } = *a
        else {
            continue;
        };
        let seen = have.entry((id, clauses)).or_default();
        *seen |= 1 << (clause & 63);
        if seen.count_ones() == u32::from(clauses) {
            return Some(id);
        }
    }
    None
}
