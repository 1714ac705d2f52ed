//! Who must look again after a change.
//!
//! A cached flow came out of lookups. When rules change, it is right as long as none of its lookups
//! would go another way; what it keeps of each lookup to tell is a few *cells*.
//!
//! Everything a lookup can end at has a cell: a leaf of the tree, a branch that is not there, a branch passed over
//! because its rules are of too low a priority, a place of an exact table. Cells are numbers of 16 bits
//! by hash; a table has an array of versions with one place for each (or for several, in small
//! tables). A lookup notes the cells it ended at. A change notes the cells where its rule is (or would
//! be) found, and those whose highest priority rose; when the table is published, the
//! new version is first stored to these. So a flow made at version v is right if none of its
//! cells has a version above v: a few loads of an array that is only written by changes. Two cells
//! that share a place cost a translation now and then, never a wrong answer.
//!
//! A change of structure notes all cells of what it replaces. Where these are many, and when there
//! are more changes than cells, one version for the whole table is stored in their place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells that a lookup notes: beyond it, any change of the table counts.
pub const CELLS_MAX: usize = 23;
/// Changed cells that are kept until publication: beyond it, all count as changed.
const PENDING_MAX: usize = 1024;

/// Number of the cell of branch `at` of node `id`.
pub(super) fn cell(id: u32, at: u32) -> u16 {
    ((id.wrapping_mul(0x9e37_79b1) ^ at.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35) >> 16)
        as u16
}

/// The cells a lookup ended at.
#[derive(Clone, Copy, Debug)]
pub struct Cells {
    len: u8,
    list: [u16; CELLS_MAX],
}

impl Default for Cells {
    fn default() -> Cells {
        Cells {
            len: 0,
            list: [0; CELLS_MAX],
        }
    }
}

impl Cells {
    #[inline]
    pub(super) fn note(&mut self, cell: u16) {
        match self.list.get_mut(usize::from(self.len)) {
            Some(at) => {
                *at = cell;
                self.len += 1;
            }
            None => self.len = CELLS_MAX as u8 + 1,
        }
    }

    /// Those of a lookup that any change of the table concerns.
    pub fn any() -> Cells {
        Cells {
            len: CELLS_MAX as u8 + 1,
            ..Cells::default()
        }
    }

    /// How many; none if there were too many to note.
    pub fn count(&self) -> Option<usize> {
        let n = usize::from(self.len);
        (n <= CELLS_MAX).then_some(n)
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

/// When the cells of a table last changed: shared by all versions of the table.
#[derive(Debug)]
pub struct Changes {
    /// When all cells changed.
    all: AtomicU64,
    /// When anything changed.
    any: AtomicU64,
    /// A power of two of them.
    cells: Box<[AtomicU64]>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes::with_places(64)
    }
}

impl Changes {
    fn with_places(n: usize) -> Changes {
        Changes {
            all: AtomicU64::new(0),
            any: AtomicU64::new(0),
            cells: (0..n).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Places for a table of so many rules.
    fn places(rules: usize) -> usize {
        match rules {
            0..=16 => 64,
            17..=1024 => 2048,
            _ => 16_384,
        }
    }

    /// Whether what ended at `cells` in version `since` would end there still.
    #[inline]
    pub fn unchanged(&self, cells: &Cells, since: u64) -> bool {
        if self.any.load(Ordering::Acquire) <= since {
            return true;
        }
        let top = self.cells.len() - 1;
        self.all.load(Ordering::Acquire) <= since
            && usize::from(cells.len) <= CELLS_MAX
            && cells.list[..usize::from(cells.len)]
                .iter()
                .all(|c| self.cells[usize::from(*c) & top].load(Ordering::Acquire) <= since)
    }
}

/// What changed since the last publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    cells: Vec<u16>,
    all: bool,
}

impl Pending {
    pub(super) fn note(&mut self, cell: u16) {
        if self.cells.len() < PENDING_MAX {
            self.cells.push(cell);
        } else {
            self.all = true;
        }
    }

    pub(super) fn note_all(&mut self) {
        self.all = true;
    }

    /// Stores `version` where something changed, in an array that suits the number of rules.
    pub(super) fn publish(&mut self, changes: &mut Arc<Changes>, rules: usize, version: u64) {
        if self.cells.is_empty() && !self.all {
            return;
        }
        let top = changes.cells.len() - 1;
        for c in self.cells.drain(..) {
            changes.cells[usize::from(c) & top].store(version, Ordering::Release);
        }
        let places = Changes::places(rules);
        // Arrays grow only: a table that was large may be so again.
        let grow = places > changes.cells.len();
        if self.all || grow {
            changes.all.store(version, Ordering::Release);
        }
        changes.any.store(version, Ordering::Release);
        if grow {
            *changes = Arc::new(Changes::with_places(places));
        }
        self.all = false;
    }
}
