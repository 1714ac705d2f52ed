//! Few rules, scanned wide.
//!
//! A leaf holds up to about [`LEAF_MAX`] different matches by falling priority. It keeps, apart from the rules, what they compare:
//! for the words that any of them looks at, value and mask of every row, one row behind the other. A lookup
//! gathers those words of the key once and runs down the rows without looking at anything else: no
//! pointer is followed and no branch taken within a row, and the rows of a leaf are a few
//! consecutive cache lines. A table of few rules is one leaf; larger ones have leaves at the ends of
//! a [tree](super::tree).

use super::pattern::{Pattern, telling};
use super::row::Row;
use crate::flow::{FlowKey, FlowMask, WORDS};
use crate::table::rule::Rule;
use std::sync::Arc;

/// Rows beyond which a leaf inside a tree is split.
pub(super) const LEAF_MAX: usize = 8;

/// A few rows. What a lookup that finds nothing here needs is the head and `compared`: two places in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    /// The words that any row looks at.
    words: Words,
    /// Each row's rank, and value and mask of each of these words.
    compared: Vec<[u64; 2]>,
    /// By falling rank.
    rows: Vec<Row>,
}

/// Numbers of words, by number.
#[derive(Clone, Debug)]
struct Words {
    len: u8,
    list: [u8; WORDS],
}

impl Default for Words {
    fn default() -> Words {
        Words {
            len: 0,
            list: [0; WORDS],
        }
    }
}

impl std::ops::Deref for Words {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.list[..usize::from(self.len)]
    }
}

impl Words {
    fn add(&mut self, word: u8) {
        if let Err(at) = self.binary_search(&word) {
            self.list.copy_within(at..usize::from(self.len), at + 1);
            self.list[at] = word;
            self.len += 1;
        }
    }
}

/// A row's rank and what it compares.
fn line(words: &[u8], pattern: &Pattern, rank: u32) -> impl Iterator<Item = [u64; 2]> {
    std::iter::once([rank.into(), 0]).chain(words.iter().map(|&w| {
        let (value, mask) = pattern.word(w);
        [value, mask]
    }))
}

impl Leaf {
    pub(super) fn new(mut rows: Vec<Row>) -> Leaf {
        rows.sort_by_key(|r| std::cmp::Reverse(r.rank()));
        let mut words = Words::default();
        for &(w, _) in rows.iter().flat_map(|r| r.pattern().mask().words()) {
            words.add(w);
        }
        let mut compared = Vec::with_capacity(rows.len() * (words.len() + 1));
        for r in &rows {
            compared.extend(line(&words, r.pattern(), r.rank()));
        }
        Leaf {
            words,
            compared,
            rows,
        }
    }

    /// Matches in it.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The highest rank, 0 if empty.
    pub(super) fn max(&self) -> u32 {
        self.rows.first().map_or(0, Row::rank)
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What a row compares.
    #[inline]
    fn compared(&self, row: usize) -> &[[u64; 2]] {
        let n = self.words.len() + 1;
        &self.compared[row * n + 1..(row + 1) * n]
    }

    /// The first row that matches.
    #[inline]
    pub(super) fn scan(&self, key: &FlowKey) -> Option<usize> {
        match self.words.len() {
            0 => (!self.compared.is_empty()).then_some(0),
            1 => self.scan_words::<1, 2>(key),
            2 => self.scan_words::<2, 3>(key),
            3 => self.scan_words::<3, 4>(key),
            4 => self.scan_words::<4, 5>(key),
            5 => self.scan_words::<5, 6>(key),
            n => self.compared.chunks_exact(n + 1).position(|row| {
                row[1..]
                    .iter()
                    .zip(self.words.iter())
                    .all(|([value, mask], &w)| key.0[usize::from(w)] & mask == *value)
            }),
        }
    }

    #[inline]
    fn scan_words<const N: usize, const LINE: usize>(&self, key: &FlowKey) -> Option<usize> {
        let words: &[u8; N] = self.words[..].try_into().ok()?;
        let k: [u64; N] = words.map(|w| key.0[usize::from(w)]);
        let (rows, _) = self.compared.as_chunks::<LINE>();
        rows.iter().position(|row| {
            let mut differ = 0;
            for j in 0..N {
                differ |= k[j] & row[j + 1][1] ^ row[j + 1][0];
            }
            differ == 0
        })
    }

    /// Adds the bits of a row's match to `mask`.
    pub(super) fn look(&self, row: usize, mask: &mut FlowMask) {
        for (&w, [_, m]) in self.words.iter().zip(self.compared(row)) {
            mask.0[usize::from(w)] |= m;
        }
    }

    /// Makes `mask` tell that the rows of at least `rank`, up to row `end`, do not match: for each
    /// in whose match no bit looked at differs, it gets some that do.
    pub(super) fn cover(&self, key: &FlowKey, end: usize, rank: u32, mask: &mut FlowMask) {
        for line in self.compared.chunks_exact(self.words.len() + 1).take(end) {
            if line[0][0] < u64::from(rank) {
                return;
            }
            let row = &line[1..];
            let mut found = None;
            let mut told = false;
            for (&w, &[value, m]) in self.words.iter().zip(row) {
                let at = usize::from(w);
                let diff = key.0[at] & m ^ value;
                told |= diff & mask.0[at] != 0;
                if diff != 0 && found.is_none() {
                    found = Some((w, m, diff));
                }
            }
            if !told && let Some((w, m, diff)) = found {
                mask.0[usize::from(w)] |= telling(w, m, diff);
            }
        }
    }

    /// The row of a match.
    pub(super) fn row(&self, pattern: &Pattern) -> Option<usize> {
        self.rows.iter().position(|r| r.pattern() == pattern)
    }

    fn take(&mut self, row: usize) -> Row {
        let n = self.words.len() + 1;
        self.compared.drain(row * n..(row + 1) * n);
        self.rows.remove(row)
    }

    fn put(&mut self, row: Row) {
        let mut words = row.pattern().mask().words().iter();
        if words.any(|(w, _)| !self.words.contains(w)) {
            let mut rows = std::mem::take(&mut self.rows);
            rows.push(row);
            *self = Leaf::new(rows);
            return;
        }
        let n = self.words.len() + 1;
        let rank = u64::from(row.rank());
        let lines = self.compared.chunks_exact(n);
        let at = lines.take_while(|l| l[0][0] >= rank).count();
        let line = line(&self.words, row.pattern(), row.rank());
        // Of known length, so that what is behind moves once.
        self.compared.extend(line);
        self.compared[at * n..].rotate_right(n);
        self.rows.insert(at, row);
    }

    /// Puts a rule in; the one of its match and priority that was there.
    pub(super) fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        match self.row(&rule.pattern) {
            Some(at) => {
                let high = self.rows[at].rank();
                let old = self.rows[at].insert(rule);
                if self.rows[at].rank() != high {
                    let row = self.take(at);
                    self.put(row);
                }
                old
            }
            None => {
                self.put(Row::new(rule));
                None
            }
        }
    }

    /// Takes a rule out.
    pub(super) fn remove(&mut self, pattern: &Pattern, priority: u16) -> Option<Arc<Rule>> {
        let at = self.row(pattern)?;
        self.rows[at].find(priority)?;
        let (left, gone) = self.take(at).remove(priority);
        if let Some(row) = left {
            self.put(row);
        }
        gone
    }

    /// Tells of the rules whose match `wanted` may want; the caller checks.
    pub(super) fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        self.rows.iter().flat_map(Row::rules).for_each(visit);
    }

    pub(super) fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        self.rows[self.row(pattern)?].find(priority)
    }
}
