//! The classifier: which rule of a table a key matches.
//!
//! # What it is made of
//!
//! A table picks its structure from its rules, and changes it as they come and go:
//!
//! * few rules: one [leaf], scanned wide;
//! * rules of other masks, any number: a [tree] with such leaves at its ends. Where they differ in
//!   prefixes of one field only, it is a multibit trie;
//! * a mask with many rules of its own (at least [`EXACT_MIN`], and a quarter of the table): a
//!   [hash table](exact). At most [`EXACT_GROUPS`] of them stand beside the tree.
//!
//! A lookup visits these groups by falling highest priority, and ends at the first that could not hold
//! anything better than what was found.
//!
//! # What a lookup tells
//!
//! The rule; the *mask*, that is the bits of the key that it took to find it: a packet that agrees on
//! these would have found the same, which is what makes the answer good to cache; and the
//! *cells* at which it ended, by which a cached flow learns of [changes] that concern it.
//!
//! # Versions
//!
//! All of it is persistent: a clone shares everything, and a change copies the path to what it
//! changes. Writers work on a clone and publish it; readers keep what they hold. No locks, and
//! nothing a reader sees ever changes.

mod changes;
mod chunk;
mod conjunction;
mod exact;
mod leaf;
mod pattern;
mod row;
mod rows;
mod tree;

pub use changes::{CELLS_MAX, Cells, Changes};
pub(super) use pattern::Mask;
pub use pattern::Pattern;

use super::rule::Rule;
use crate::flow::{FlowKey, FlowMask, place};
use changes::Pending;
use conjunction::{Conjunctions, is_clause};
use exact::Exact;
use openflow::Slot;
use row::Row;
use std::sync::Arc;
use tree::{Best, Tree, Wanted};

/// Rules of one mask that may get a hash table.
pub const EXACT_MIN: usize = 48;
/// Rules with which a hash table goes back to the tree.
const EXACT_FEW: usize = 6;
/// Most hash tables of a table.
pub const EXACT_GROUPS: usize = 4;

/// The rules of one table.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    tree: Tree,
    /// By falling highest rank.
    exact: Vec<Arc<Exact>>,
    /// Matches of each mask.
    masks: imbl::OrdMap<Arc<Mask>, u32>,
    len: usize,
    groups: u32,
    pending: Pending,
    changes: Arc<Changes>,
    /// Rules that are clauses of conjunctions, if there are any: they are not among the others.
    conjunctions: Option<Arc<Conjunctions>>,
}

impl Classifier {
    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len + self.conjunctions.as_ref().map_or(0, |c| c.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of different masks.
    pub fn masks(&self) -> usize {
        self.masks.len() + self.exact.len() + self.conjunctions.as_ref().map_or(0, |c| c.masks())
    }

    /// What it is made of, for people.
    pub fn describe(&self) -> String {
        let (depth, longest) = self.tree.shape();
        let exact: usize = self.exact.iter().map(|e| e.len()).sum();
        format!(
            "{} masks; {exact} matches in {} hash tables, the others in a tree {depth} high with leaves up to {longest}",
            self.masks(),
            self.exact.len(),
        )
    }

    /// The best rule for `key`; `mask` gets the bits looked at added.
    pub fn lookup(&self, key: &FlowKey, mask: &mut FlowMask) -> Option<&Arc<Rule>> {
        self.lookup_noting(key, mask, &mut Cells::default())
    }

    /// As [`Classifier::lookup`]; `cells` gets added where it ended.
    #[inline]
    pub fn lookup_noting(
        &self,
        key: &FlowKey,
        mask: &mut FlowMask,
        cells: &mut Cells,
    ) -> Option<&Arc<Rule>> {
        let rule = self.lookup_plain(key, mask, cells);
        match &self.conjunctions {
            None => rule,
            Some(c) => self.lookup_joined(c, rule, key, mask, cells),
        }
    }

    /// The rule of a conjunction that goes before the best plain rule, or that.
    #[inline(never)]
    fn lookup_joined<'a>(
        &'a self,
        conjunctions: &Conjunctions,
        plain: Option<&'a Arc<Rule>>,
        key: &FlowKey,
        mask: &mut FlowMask,
        cells: &mut Cells,
    ) -> Option<&'a Arc<Rule>> {
        let met = conjunctions.met(key, plain.map(|r| r.priority), mask, cells);
        let mut joined = *key;
        for id in met {
            joined.set(Slot::ConjId, id.into());
            let rule = self.lookup_plain(&joined, mask, cells);
            if rule.is_some() {
                return rule;
            }
        }
        plain
    }

    #[inline]
    fn lookup_plain(
        &self,
        key: &FlowKey,
        mask: &mut FlowMask,
        cells: &mut Cells,
    ) -> Option<&Arc<Rule>> {
        let mut best = Best::default();
        let mut tree = false;
        let top = self.tree.max();
        for e in &self.exact {
            let max = e.max();
            if !tree && top >= max {
                self.look_in_tree(key, mask, cells, &mut best);
                tree = true;
            }
            if max <= best.rank {
                e.passed(cells);
            } else {
                e.lookup(key, mask, cells, &mut best);
            }
        }
        if !tree {
            self.look_in_tree(key, mask, cells, &mut best);
        }
        best.rule
    }

    #[inline]
    fn look_in_tree<'a>(
        &'a self,
        key: &FlowKey,
        mask: &mut FlowMask,
        cells: &mut Cells,
        best: &mut Best<'a>,
    ) {
        if self.tree.max() <= best.rank {
            self.tree.passed(cells);
        } else {
            self.tree.lookup(key, mask, cells, best);
        }
    }

    /// What is compared with the cells of a lookup.
    #[inline]
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Tells those who compare cells of what changed: before this value is published as `version`.
    pub(crate) fn publish(&mut self, version: u64) {
        self.pending.publish(&mut self.changes, self.len, version);
    }

    fn group(&self, mask: &Arc<Mask>) -> Option<usize> {
        let same = |e: &Arc<Exact>| Arc::ptr_eq(e.mask(), mask) || e.mask() == mask;
        self.exact.iter().position(same)
    }

    /// The rule of exactly this match and priority.
    pub fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        let clause = self.conjunctions.as_ref();
        let clause = clause.and_then(|c| c.find(pattern, priority));
        clause.or_else(|| self.find_plain(pattern, priority))
    }

    fn find_plain(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        match self.group(pattern.mask()) {
            Some(g) => self.exact[g].find(pattern, priority),
            None => self.tree.find(pattern, priority),
        }
    }

    /// Puts a rule in, in place of one of the same match and priority, which is returned.
    pub fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        if !is_clause(&rule) {
            let clause = self.remove_clause(&rule.pattern, rule.priority);
            return self.insert_plain(rule).or(clause);
        }
        let plain = self.remove_plain(&rule.pattern, rule.priority);
        match &self.conjunctions {
            Some(_) => conjunction::note(&mut self.pending),
            // Lookups so far know nothing of clauses.
            None => self.pending.note_all(),
        }
        let conjunctions = Arc::make_mut(self.conjunctions.get_or_insert_default());
        conjunctions.insert(rule).or(plain)
    }

    fn remove_clause(&mut self, pattern: &Pattern, priority: u16) -> Option<Arc<Rule>> {
        let conjunctions = self.conjunctions.as_mut()?;
        conjunctions.find(pattern, priority)?;
        let conjunctions = Arc::make_mut(conjunctions);
        let gone = conjunctions.remove(pattern, priority);
        conjunction::note(&mut self.pending);
        if conjunctions.is_empty() {
            self.conjunctions = None;
        }
        gone
    }

    fn insert_plain(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        let mask = rule.pattern.mask().clone();
        let group = self.group(&mask);
        let (old, more) = match group {
            Some(g) => {
                let done = Arc::make_mut(&mut self.exact[g]).insert(rule, &mut self.pending);
                self.settle(g);
                done
            }
            None => self.tree.insert(rule, &mut self.pending),
        };
        self.len += usize::from(old.is_none());
        if more && group.is_none() {
            let n = match self.masks.get_mut(&mask) {
                Some(n) => {
                    *n += 1;
                    *n as usize
                }
                None => {
                    self.masks.insert(mask.clone(), 1);
                    1
                }
            };
            if n >= EXACT_MIN && n * 4 >= self.len && self.exact.len() < EXACT_GROUPS {
                self.promote(mask);
            }
        }
        old
    }

    /// Takes out the rule of this match and priority.
    pub fn remove(&mut self, pattern: &Pattern, priority: u16) -> Option<Arc<Rule>> {
        let clause = self.remove_clause(pattern, priority);
        clause.or_else(|| self.remove_plain(pattern, priority))
    }

    fn remove_plain(&mut self, pattern: &Pattern, priority: u16) -> Option<Arc<Rule>> {
        self.find_plain(pattern, priority)?;
        let group = self.group(pattern.mask());
        let gone = match group {
            Some(g) => {
                let e = Arc::make_mut(&mut self.exact[g]);
                let gone = e.remove(pattern, priority, &mut self.pending)?;
                let left = e.len();
                self.settle(g);
                if left <= EXACT_FEW {
                    self.demote(pattern.mask());
                }
                gone
            }
            None => {
                let gone = self.tree.remove(pattern, priority, &mut self.pending)?;
                // Another rule of the match may be left.
                if !self.tree.has(pattern) {
                    self.forget(pattern.mask(), 1);
                }
                gone
            }
        };
        self.len -= 1;
        Some(gone)
    }

    /// So many matches of a mask are in the tree no more.
    fn forget(&mut self, mask: &Arc<Mask>, matches: u32) {
        match self.masks.get_mut(mask) {
            Some(n) if *n > matches => *n -= matches,
            _ => {
                self.masks.remove(mask);
            }
        }
    }

    /// Gives a mask a hash table.
    fn promote(&mut self, mask: Arc<Mask>) {
        self.groups += 1;
        self.masks.remove(&mask);
        // Nodes of the tree count up from one, hash tables down from the top.
        let mut e = Exact::new(u32::MAX - self.groups, mask);
        let rows = self.tree.items();
        let (ours, others): (Vec<Row>, Vec<Row>) = rows
            .into_iter()
            .partition(|r| r.pattern().mask() == e.mask());
        ours.into_iter().for_each(|r| e.put(r));
        self.tree = Tree::build(others);
        self.exact.push(Arc::new(e));
        self.settle(self.exact.len() - 1);
        self.pending.note_all();
    }

    /// Puts the rules of a hash table back into the tree.
    fn demote(&mut self, mask: &Arc<Mask>) {
        let Some(g) = self.group(mask) else { return };
        let e = self.exact.remove(g);
        if e.len() > 0 {
            self.masks.insert(mask.clone(), e.len() as u32);
        }
        let mut rows = self.tree.items();
        rows.extend(e.items());
        self.tree = Tree::build(rows);
        self.pending.note_all();
    }

    /// Takes all rules out.
    pub fn clear(&mut self) {
        self.tree = Tree::default();
        self.exact.clear();
        self.masks.clear();
        self.conjunctions = None;
        self.len = 0;
        self.pending.note_all();
    }

    /// Moves hash table `at` to its place in the order.
    fn settle(&mut self, mut at: usize) {
        let p = self.exact[at].max();
        while at > 0 && self.exact[at - 1].max() < p {
            self.exact.swap(at, at - 1);
            at -= 1;
        }
        while at + 1 < self.exact.len() && self.exact[at + 1].max() > p {
            self.exact.swap(at, at + 1);
            at += 1;
        }
    }

    fn visit<'a>(&'a self, wanted: Wanted<'_>, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        self.tree.visit(wanted, visit);
        for e in &self.exact {
            e.visit(wanted, visit);
        }
        if let Some(c) = &self.conjunctions {
            c.visit(visit);
        }
    }

    /// All rules, in no order.
    pub fn rules(&self) -> Vec<&Arc<Rule>> {
        let mut list = Vec::with_capacity(self.len);
        self.visit(Wanted::All, &mut |r| list.push(r));
        list
    }

    /// The rules that match no packet that `pattern` does not (OpenFlow 1.3.5 6.4), in no order.
    pub fn within(&self, pattern: &Pattern) -> Vec<&Arc<Rule>> {
        let mut list = Vec::new();
        self.visit(Wanted::Within(pattern), &mut |r| {
            if r.pattern.is_within(pattern) {
                list.push(r);
            }
        });
        list
    }

    /// A rule of this priority that some packet matches together with `pattern`.
    pub fn overlapping(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        let mut found = None;
        self.visit(Wanted::Overlapping(pattern), &mut |r| {
            if found.is_none() && r.priority == priority && r.pattern.overlaps(pattern) {
                found = Some(r);
            }
        });
        found
    }
}

/// Whether a match can be carried out: its fields exist in keys.
pub(crate) fn matchable(slot: Slot) -> bool {
    let _ = place(slot);
    !matches!(
        slot,
        Slot::DpHash
            | Slot::CtState
            | Slot::CtMark
            | Slot::CtLabel
            | Slot::CtZone
            | Slot::CtNwProto
            | Slot::CtTpSrc
            | Slot::CtTpDst
            | Slot::CtNwSrc
            | Slot::CtNwDst
            | Slot::CtIpv6Src
            | Slot::CtIpv6Dst
    )
}

#[cfg(test)]
mod conjunction_tests;
#[cfg(test)]
mod tests;
