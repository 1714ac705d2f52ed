//! Few rules, scanned wide.
//!
//! A leaf holds up to about [`LEAF_MAX`] different matches by falling priority. It keeps, apart from the rules, what they compare:
//! for the words that any of them looks at, value and mask of every row, one row behind the other. A lookup
//! gathers those words of the key once and runs down the rows without looking at anything else: no
//! pointer is followed and no branch taken within a row, and the rows of a leaf are a few
//! consecutive cache lines. A table of few rules is one leaf; larger ones have leaves at the ends of
//! a [tree](super::tree).

use super::pattern::{Part, Pattern, telling};
use super::row::{Left, Row};
use crate::flow::{FlowKey, FlowMask, WORDS};
use crate::table::rule::Rule;
use std::sync::Arc;

/// Rows beyond which a leaf inside a tree is split.
pub(super) const LEAF_MAX: usize = 8;

/// A match with its rules, on the way from one place to another.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) pattern: Pattern,
    pub(super) row: Row,
}

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
    pub(super) fn new(mut items: Vec<Item>) -> Leaf {
        items.sort_by_key(|i| std::cmp::Reverse(i.row.rank));
        let mut words = Words::default();
        for p in items.iter().flat_map(|i| &i.pattern.0) {
            words.add(p.word);
        }
        let mut compared = Vec::with_capacity(items.len() * (words.len() + 1));
        let mut rows = Vec::with_capacity(items.len());
        for i in items {
            compared.extend(line(&words, &i.pattern, i.row.rank));
            rows.push(i.row);
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
        self.rows.first().map_or(0, |r| r.rank)
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

    pub(super) fn pattern(&self, row: usize) -> Pattern {
        Pattern(
            self.words
                .iter()
                .zip(self.compared(row))
                .filter(|(_, [_, mask])| *mask != 0)
                .map(|(&word, &[value, mask])| Part { word, value, mask })
                .collect(),
        )
    }

    /// All rows, to be put elsewhere.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        self.rows.iter().enumerate().map(|(i, row)| Item {
            pattern: self.pattern(i),
            row: row.clone(),
        })
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
        if pattern.0.iter().any(|p| !self.words.contains(&p.word)) {
            return None;
        }
        (0..self.rows.len()).find(|&i| {
            self.words
                .iter()
                .zip(self.compared(i))
                .all(|(&w, &[value, mask])| pattern.word(w) == (value, mask))
        })
    }

    fn take(&mut self, row: usize) -> Row {
        let n = self.words.len() + 1;
        self.compared.drain(row * n..(row + 1) * n);
        self.rows.remove(row)
    }

    fn put(&mut self, pattern: &Pattern, row: Row) {
        if pattern.0.iter().any(|p| !self.words.contains(&p.word)) {
            let mut items: Vec<Item> = self.items().collect();
            items.push(Item {
                pattern: pattern.clone(),
                row,
            });
            *self = Leaf::new(items);
            return;
        }
        let at = self.rows.partition_point(|r| r.rank >= row.rank);
        let n = self.words.len() + 1;
        let compared: Vec<[u64; 2]> = line(&self.words, pattern, row.rank).collect();
        self.compared.splice(at * n..at * n, compared);
        self.rows.insert(at, row);
    }

    /// Puts a rule in; the one of its match and priority that was there.
    pub(super) fn insert(&mut self, pattern: &Pattern, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        match self.row(pattern) {
            Some(at) => {
                let high = self.rows[at].rank;
                let old = self.rows[at].insert(rule);
                if self.rows[at].rank != high {
                    let row = self.take(at);
                    self.put(pattern, row);
                }
                old
            }
            None => {
                self.put(pattern, Row::new(rule));
                None
            }
        }
    }

    /// Takes a rule out.
    pub(super) fn remove(&mut self, pattern: &Pattern, priority: u16) -> Option<Arc<Rule>> {
        let at = self.row(pattern)?;
        self.rows[at].find(priority)?;
        let (left, gone) = self.take(at).remove(priority);
        match left {
            Left::Row(row) => self.put(pattern, row),
            Left::Nothing => {}
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
