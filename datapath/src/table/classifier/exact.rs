//! Many rules of one mask: a hash table.
//!
//! A lookup masks the key and asks the table: one probe, however many rules. The table is [persistent](super::rows) under a
//! keyed hash, so that nobody can make packets collide who does not know the key.

use super::changes::{Cells, Pending, cell};
use super::pattern::{Mask, Pattern};
use super::row::{Row, rank};
use super::rows::Rows;
use super::tree::{Best, Wanted};
use crate::flow::{FlowKey, FlowMask, Hasher, WORDS};
use crate::table::rule::Rule;
use std::sync::{Arc, LazyLock};

/// The process's secret.
static SECRET: LazyLock<Hasher> = LazyLock::new(Hasher::new);

/// Cells of one group: more than enough to tell changes apart.
const CELL_BITS: u32 = 20;
/// The branch number that stands for "passed over".
const PASSED: u32 = 1 << CELL_BITS;

/// All rules of one mask.
#[derive(Clone, Debug)]
pub(super) struct Exact {
    /// Tells it from other groups of the table, and from the tree's nodes.
    id: u32,
    mask: Arc<Mask>,
    rows: Rows,
}

/// The hash of values: one half finds the row, the other the cell.
#[derive(Clone, Copy)]
struct Hash {
    row: u32,
    cell: u32,
}

#[inline]
fn hash(values: &[u64]) -> Hash {
    let h = SECRET.hash(values);
    Hash {
        row: (h >> 32) as u32,
        cell: h as u32 >> (32 - CELL_BITS),
    }
}

impl Exact {
    pub(super) fn new(id: u32, mask: Arc<Mask>) -> Exact {
        Exact {
            id,
            mask,
            rows: Rows::default(),
        }
    }

    pub(super) fn mask(&self) -> &Arc<Mask> {
        &self.mask
    }

    /// Matches in it.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The highest rank.
    #[inline]
    pub(super) fn max(&self) -> u32 {
        self.rows.max()
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
        let words = self.mask.words();
        for (slot, &(i, m)) in buffer.iter_mut().zip(words) {
            *slot = key.0[usize::from(i)] & m;
            mask.0[usize::from(i)] |= m;
        }
        let values = &buffer[..words.len()];
        let hash = hash(values);
        cells.note(cell(self.id, hash.cell));
        if let Some(row) = self.rows.get(hash.row, values)
            && row.rank() > best.rank
        {
            *best = Best {
                rank: row.rank(),
                rule: Some(&row.rule),
            };
        }
    }

    /// Puts a row in whose cell nobody knows.
    pub(super) fn put(&mut self, row: Row) {
        self.rows.push(hash(row.pattern().values()).row, row);
    }

    pub(super) fn items(&self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.len());
        self.rows.visit(&mut |r| rows.push(r.clone()));
        rows
    }

    /// Puts a rule in; the one of its match and priority that was there, and whether there is a match more.
    pub(super) fn insert(
        &mut self,
        rule: Arc<Rule>,
        pending: &mut Pending,
    ) -> (Option<Arc<Rule>>, bool) {
        let hash = hash(rule.pattern.values());
        pending.note(cell(self.id, hash.cell));
        if rank(rule.priority) > self.max() {
            pending.note(cell(self.id, PASSED));
        }
        self.rows.insert(hash.row, rule)
    }

    /// Takes out a rule that is there.
    pub(super) fn remove(
        &mut self,
        pattern: &Pattern,
        priority: u16,
        pending: &mut Pending,
    ) -> Option<Arc<Rule>> {
        let hash = hash(pattern.values());
        pending.note(cell(self.id, hash.cell));
        self.rows.remove(hash.row, pattern.values(), priority)
    }

    pub(super) fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        let values = pattern.values();
        self.rows.get(hash(values).row, values)?.find(priority)
    }

    pub(super) fn visit<'a>(&'a self, wanted: Wanted<'_>, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        if let Wanted::Within(p) | Wanted::Overlapping(p) = wanted {
            let within = matches!(wanted, Wanted::Within(_));
            if within && p.parts().any(|(w, _, m)| self.mask.word(w) & m != m) {
                return;
            }
            // Asked for all that this mask looks at: one row.
            let words = self.mask.words();
            if words.iter().all(|&(w, m)| p.word(w).1 & m == m) {
                let values: Vec<u64> = words.iter().map(|&(w, m)| p.word(w).0 & m).collect();
                let row = self.rows.get(hash(&values).row, &values);
                return row.into_iter().flat_map(Row::rules).for_each(visit);
            }
        }
        self.rows
            .visit(&mut |row| row.rules().for_each(&mut *visit));
    }
}
