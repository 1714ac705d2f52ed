//! Many rules of one mask: a hash table.
//!
//! A lookup masks the key and asks the table: one probe, however many rules. The table is a persistent hash trie
//! (`imbl`) under a keyed hash, so that nobody can make packets collide who does not know the key.

use super::changes::{Cells, Pending, cell};
use super::leaf::Item;
use super::pattern::{MaskWords, Part, Pattern};
use super::row::{Left, Row, rank};
use super::tree::{Best, Wanted};
use crate::flow::{FlowKey, FlowMask, Hasher, WORDS};
use crate::table::rule::Rule;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

/// Hashes words with the process's secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed(Hasher);

static SECRET: LazyLock<Hasher> = LazyLock::new(Hasher::new);

impl Default for Keyed {
    fn default() -> Keyed {
        Keyed(*SECRET)
    }
}

pub(super) struct KeyedState {
    hasher: Hasher,
    hash: u64,
}

impl BuildHasher for Keyed {
    type Hasher = KeyedState;
    fn build_hasher(&self) -> KeyedState {
        KeyedState {
            hasher: self.0,
            hash: 0,
        }
    }
}

impl std::hash::Hasher for KeyedState {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for c in chunks {
            self.hash = self.hasher.hash(&[self.hash, u64::from_ne_bytes(*c)]);
        }
        for b in rest {
            self.hash = self.hash.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of a slice: all keys of a table have one length.
    }

    fn write_u64(&mut self, word: u64) {
        self.hash = self.hasher.hash(&[self.hash, word]);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

pub(super) type Map<K, V> = imbl::GenericHashMap<K, V, Keyed, imbl::shared_ptr::DefaultSharedPtr>;

/// Cells of one group: more than enough to tell changes apart.
const CELL_BITS: u32 = 20;
/// The branch number that stands for "passed over".
const PASSED: u32 = 1 << CELL_BITS;

/// All rules of one mask.
#[derive(Clone, Debug)]
pub(super) struct Exact {
    /// Tells it from other groups of the table, and from the tree's nodes.
    id: u32,
    mask: MaskWords,
    rows: Map<Box<[u64]>, Row>,
    /// How many rows there are of each rank.
    ranks: imbl::OrdMap<u32, u32>,
}

fn hash(values: &[u64]) -> u32 {
    SECRET.hash(values) as u32 >> (32 - CELL_BITS)
}

impl Exact {
    pub(super) fn new(id: u32, mask: MaskWords) -> Exact {
        Exact {
            id,
            mask,
            rows: Map::default(),
            ranks: imbl::OrdMap::new(),
        }
    }

    pub(super) fn mask(&self) -> &MaskWords {
        &self.mask
    }

    /// Matches in it.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The highest rank.
    pub(super) fn max(&self) -> u32 {
        self.ranks.get_max().map_or(0, |(r, _)| *r)
    }

    fn count(&mut self, rank: u32, more: bool) {
        let n = self.ranks.get(&rank).copied().unwrap_or(0);
        match (more, n) {
            (true, n) => {
                self.ranks.insert(rank, n + 1);
            }
            (false, 0 | 1) => {
                self.ranks.remove(&rank);
            }
            (false, n) => {
                self.ranks.insert(rank, n - 1);
            }
        }
    }

    /// Notes what lookups note that do not come here, because all of it is of too low a priority.
    #[inline]
    pub(super) fn passed(&self, cells: &mut Cells) {
        cells.note(cell(self.id, PASSED));
    }

    #[inline]
    pub(super) fn lookup<'a>(
        &'a self,
        key: &FlowKey,
        mask: &mut FlowMask,
        cells: &mut Cells,
        best: &mut Best<'a>,
    ) {
        let mut buffer = [0u64; WORDS];
        for (slot, &(i, m)) in buffer.iter_mut().zip(&self.mask) {
            *slot = key.0[usize::from(i)] & m;
            mask.0[usize::from(i)] |= m;
        }
        let values = &buffer[..self.mask.len()];
        cells.note(cell(self.id, hash(values)));
        if let Some(row) = self.rows.get(values)
            && row.rank > best.rank
        {
            *best = Best {
                rank: row.rank,
                rule: Some(&row.rule),
            };
        }
    }

    /// Puts rows in whose cells nobody knows.
    pub(super) fn put(&mut self, item: Item) {
        self.count(item.row.rank, true);
        self.rows.insert(item.pattern.values(), item.row);
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        self.rows.iter().map(|(values, row)| Item {
            pattern: Pattern(
                self.mask
                    .iter()
                    .zip(values)
                    .map(|(&(word, mask), &value)| Part { word, value, mask })
                    .collect(),
            ),
            row: row.clone(),
        })
    }

    /// Puts a rule in; the one of its match and priority that was there, and whether there is a match more.
    pub(super) fn insert(
        &mut self,
        pattern: &Pattern,
        rule: Arc<Rule>,
        pending: &mut Pending,
    ) -> (Option<Arc<Rule>>, bool) {
        let values = pattern.values();
        pending.note(cell(self.id, hash(&values)));
        if rank(rule.priority) > self.max() {
            pending.note(cell(self.id, PASSED));
        }
        let Some(row) = self.rows.get_mut(&values) else {
            self.count(rank(rule.priority), true);
            self.rows.insert(values, Row::new(rule));
            return (None, true);
        };
        let before = row.rank;
        let old = row.insert(rule);
        let after = row.rank;
        if before != after {
            self.count(before, false);
            self.count(after, true);
        }
        (old, false)
    }

    pub(super) fn remove(
        &mut self,
        pattern: &Pattern,
        priority: u16,
        pending: &mut Pending,
    ) -> Option<Arc<Rule>> {
        self.find(pattern, priority)?;
        let values = pattern.values();
        pending.note(cell(self.id, hash(&values)));
        let row = self.rows.remove(&values)?;
        self.count(row.rank, false);
        let (left, gone) = row.remove(priority);
        if let Left::Row(row) = left {
            self.count(row.rank, true);
            self.rows.insert(values, row);
        }
        gone
    }

    pub(super) fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        self.rows.get(&pattern.values()[..])?.find(priority)
    }

    pub(super) fn visit<'a>(&'a self, wanted: Wanted<'_>, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        if let Wanted::Within(p) | Wanted::Overlapping(p) = wanted {
            let ours = |p: &Part| {
                let at = self.mask.iter().find(|(w, _)| *w == p.word);
                at.map_or(0, |(_, m)| m & p.mask)
            };
            let within = matches!(wanted, Wanted::Within(_));
            if within && p.0.iter().any(|p| ours(p) != p.mask) {
                return;
            }
            // Asked for all that this mask looks at: one row.
            if self.mask.iter().all(|&(w, m)| p.word(w).1 & m == m) {
                let values: Vec<u64> = self.mask.iter().map(|&(w, m)| p.word(w).0 & m).collect();
                return self
                    .rows
                    .get(&values[..])
                    .into_iter()
                    .flat_map(Row::rules)
                    .for_each(visit);
            }
        }
        self.rows
            .iter()
            .flat_map(|(_, row)| row.rules())
            .for_each(visit);
    }
}
