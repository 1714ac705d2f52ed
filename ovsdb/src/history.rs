//! The last transactions of a database, so that a client that was away is told only what it missed
//! (`monitor_cond_since`, ovsdb-server(7) 4.1.15).
//!
//! Rows are shared with the database by `Arc`; what history costs is rows that have been replaced
//! meanwhile. It is kept in memory only: after a restart the ids of earlier transactions are unknown
//! and clients are told everything.

use std::collections::{HashMap, VecDeque};

use crate::database::{DbRow, RowChange};
use crate::value::{Datum, Uuid};

/// Most transactions remembered, as many as ovsdb-server remembers.
pub const HISTORY_TRANSACTIONS: usize = 100;
/// Most atoms in the rows of all remembered changes: some megabytes.
pub const HISTORY_ATOMS: usize = 1 << 16;

#[derive(Debug)]
struct Entry {
    txn: Uuid,
    changes: Vec<RowChange>,
    atoms: usize,
}

/// The transactions after `base`, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    base: Uuid,
    entries: VecDeque<Entry>,
    atoms: usize,
}

fn atoms(row: Option<&DbRow>) -> usize {
    row.map_or(0, |r| 1 + r.cells.iter().map(Datum::len).sum::<usize>())
}

impl History {
    /// No transactions, after the one named `base`.
    pub(crate) fn new(base: Uuid) -> Self {
        Self {
            base,
            entries: VecDeque::new(),
            atoms: 0,
        }
    }

    /// Remembers a transaction, and forgets the oldest where a bound is passed.
    pub(crate) fn push(&mut self, txn: Uuid, changes: Vec<RowChange>) {
        let n = changes
            .iter()
            .map(|c| atoms(c.old.as_deref()) + atoms(c.new.as_deref()))
            .sum();
        self.atoms += n;
        self.entries.push_back(Entry {
            txn,
            changes,
            atoms: n,
        });
        while self.entries.len() > HISTORY_TRANSACTIONS || self.atoms > HISTORY_ATOMS {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.atoms -= oldest.atoms;
            self.base = oldest.txn;
        }
    }

    /// What the transactions after `txn` changed, each row once and sorted by table; `None` where
    /// that is not remembered.
    pub(crate) fn since(&self, txn: Uuid) -> Option<Vec<RowChange>> {
        let first = if txn == self.base {
            0
        } else {
            1 + self.entries.iter().position(|e| e.txn == txn)?
        };
        let mut merged: HashMap<(usize, Uuid), RowChange> = HashMap::new();
        for ch in self.entries.iter().skip(first).flat_map(|e| &e.changes) {
            merged
                .entry((ch.table, ch.uuid))
                .and_modify(|m| m.new.clone_from(&ch.new))
                .or_insert_with(|| ch.clone());
        }
        let mut out: Vec<_> = merged.into_values().collect();
        out.sort_by_key(|c| c.table);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn row(n: i64) -> Option<Arc<DbRow>> {
        Some(Arc::new(DbRow {
            uuid: Uuid::from_u128(7),
            version: Uuid::nil(),
            cells: vec![n.into()],
        }))
    }

    fn change(old: Option<Arc<DbRow>>, new: Option<Arc<DbRow>>) -> Vec<RowChange> {
        vec![RowChange {
            table: 0,
            uuid: Uuid::from_u128(7),
            old,
            new,
        }]
    }

    #[test]
    fn changes_of_a_row_are_merged() {
        let ids: Vec<Uuid> = (0..5).map(Uuid::from_u128).collect();
        let mut h = History::new(ids[0]);
        assert!(h.since(ids[0]).unwrap().is_empty());
        h.push(ids[1], change(None, row(1)));
        h.push(ids[2], change(row(1), row(2)));
        h.push(ids[3], change(row(2), None));
        let one = |from: usize| {
            let list = h.since(ids[from]).unwrap();
            assert_eq!(list.len(), 1);
            (list[0].old.clone(), list[0].new.clone())
        };
        assert_eq!(one(0), (None, None));
        assert_eq!(one(1), (row(1), None));
        assert_eq!(one(2), (row(2), None));
        assert!(h.since(ids[3]).unwrap().is_empty());
        assert!(h.since(ids[4]).is_none());
    }

    #[test]
    fn bounds_hold() {
        let mut h = History::new(Uuid::nil());
        for i in 1..=HISTORY_TRANSACTIONS as u128 + 1 {
            h.push(Uuid::from_u128(i), change(None, row(1)));
        }
        assert!(h.since(Uuid::nil()).is_none());
        assert!(h.since(Uuid::from_u128(1)).is_some());
        // One that is too large by itself leaves nothing behind but its name.
        let big = (0..=HISTORY_ATOMS as u128).flat_map(|_| change(None, row(1)));
        h.push(Uuid::from_u128(1000), big.collect());
        assert!(h.since(Uuid::from_u128(1)).is_none());
        assert!(h.since(Uuid::from_u128(1000)).unwrap().is_empty());
        assert_eq!(h.atoms, 0);
    }
}
