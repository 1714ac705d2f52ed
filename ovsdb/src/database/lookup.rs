//! Indexes that nobody declared: rows by what a column of theirs holds.
//!
//! Clients look for rows by `name == "x"` or `external_ids includes {"iface-id": "x"}` whatever the
//! schema declares. When all rows of a table of [`SMALL`] or more have been looked through
//! [`SCANS`] times by a column, that column is indexed: every atom of its sets, every pair of its
//! maps leads to the rows that hold it. Only hashes of them are kept, some 40 bytes each, since what
//! is found is compared with the condition in any case: two that collide cost time, not truth. What
//! more than [`COMMON`] rows hold is not listed; conditions about nothing else look through all rows.
//!
//! Building an index costs about as much as the two scans before it, changing a row what its changed
//! columns hold. One that nobody used while the table changed once through and through is dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{DbRow, DbTable};
use crate::condition::{Column, Condition, Function};
use crate::value::{Datum, Uuid};

/// Tables with fewer rows are looked through.
const SMALL: usize = 256;
/// Looks through a whole table before a column is indexed.
const SCANS: u32 = 2;
/// Most rows listed for one atom or pair.
const COMMON: usize = 64;

/// What is known of each column of a table. A copy of a table begins without.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Vec<Lookup>);

impl Clone for Lookups {
    fn clone(&self) -> Self {
        Self::new(self.0.len())
    }
}

#[derive(Debug, Default)]
struct Lookup {
    scans: AtomicU32,
    index: OnceLock<Holders>,
    used: AtomicBool,
    /// Changes since it was used.
    changes: usize,
}

/// Rows by the hash of an atom or pair that they hold.
#[derive(Debug, Default)]
struct Holders {
    hash: RandomState,
    rows: HashMap<u64, Rows, BuildHasherDefault<Hashed>>,
}

#[derive(Debug)]
enum Rows {
    One(Uuid),
    Few(Vec<Uuid>),
    Common,
}

/// Passes on what is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Holders {
    fn new<'r>(rows: impl Iterator<Item = &'r DbRow>, column: usize) -> Self {
        let mut holders = Self::default();
        for row in rows {
            holders.add(&row.cells[column], row.uuid);
        }
        holders
    }

    /// Hashes of the atoms or pairs of a value.
    fn hashes<'d>(&self, datum: &'d Datum) -> impl Iterator<Item = u64> + use<'d> {
        let (atoms, pairs) = (self.hash.clone(), self.hash.clone());
        let atoms = datum.iter().map(move |a| atoms.hash_one(a));
        atoms.chain(datum.pairs().iter().map(move |p| pairs.hash_one(p)))
    }

    fn add(&mut self, datum: &Datum, row: Uuid) {
        for hash in self.hashes(datum) {
            match self.rows.entry(hash) {
                Entry::Vacant(e) => _ = e.insert(Rows::One(row)),
                Entry::Occupied(mut e) => match e.get_mut() {
                    Rows::One(first) => *e.get_mut() = Rows::Few(vec![*first, row]),
                    Rows::Few(list) if list.len() < COMMON => list.push(row),
                    Rows::Few(_) => *e.get_mut() = Rows::Common,
                    Rows::Common => {}
                },
            }
        }
    }

    fn remove(&mut self, datum: &Datum, row: Uuid) {
        for hash in self.hashes(datum) {
            let Entry::Occupied(mut e) = self.rows.entry(hash) else {
                continue;
            };
            let empty = match e.get_mut() {
                Rows::One(only) => *only == row,
                Rows::Few(list) => {
                    if let Some(i) = list.iter().position(|u| *u == row) {
                        list.swap_remove(i);
                    }
                    list.is_empty()
                }
                Rows::Common => false,
            };
            if empty {
                e.remove();
            }
        }
    }

    /// The rows among which are all that hold all of `datum`, unless too many hold each part of it.
    fn rows(&self, datum: &Datum) -> Option<&[Uuid]> {
        let lists = self.hashes(datum).map(|hash| match self.rows.get(&hash) {
            None => Some(&[][..]),
            Some(Rows::One(row)) => Some(std::slice::from_ref(row)),
            Some(Rows::Few(list)) => Some(list.as_slice()),
            Some(Rows::Common) => None,
        });
        lists.flatten().min_by_key(|list| list.len())
    }
}

impl Lookups {
    pub(super) fn new(columns: usize) -> Self {
        Self((0..columns).map(|_| Lookup::default()).collect())
    }

    /// Keeps the indexes right when a row of a table of `count` rows changes.
    pub(super) fn change(&mut self, old: Option<&DbRow>, new: Option<&DbRow>, count: usize) {
        for (column, lookup) in self.0.iter_mut().enumerate() {
            let Some(holders) = lookup.index.get_mut() else {
                continue;
            };
            let (old_value, new_value) =
                (old.map(|r| &r.cells[column]), new.map(|r| &r.cells[column]));
            if old_value == new_value {
                continue;
            }
            if std::mem::take(lookup.used.get_mut()) {
                lookup.changes = 0;
            }
            lookup.changes += 1;
            if lookup.changes > count.max(SMALL) {
                *lookup = Lookup::default();
                continue;
            }
            if let Some(row) = old {
                holders.remove(&row.cells[column], row.uuid);
            }
            if let Some(row) = new {
                holders.add(&row.cells[column], row.uuid);
            }
        }
    }
}

impl DbTable {
    /// The rows among which are all that fit the condition, where an index can tell.
    pub(crate) fn candidates(&self, condition: &Condition) -> Option<&[Uuid]> {
        if self.rows.len() < SMALL {
            return None;
        }
        condition
            .clauses
            .iter()
            .filter_map(|clause| {
                let Column::Named(column) = &clause.column else {
                    return None;
                };
                let holds = matches!(clause.function, Function::Eq | Function::Includes);
                if !holds || clause.arg.is_empty() {
                    return None;
                }
                let lookup = &self.lookups.0[column.index];
                if lookup.index.get().is_none()
                    && lookup.scans.fetch_add(1, Ordering::Relaxed) < SCANS
                {
                    return None;
                }
                lookup.used.store(true, Ordering::Relaxed);
                let rows = self.rows.values().map(|r| &**r);
                let holders = lookup
                    .index
                    .get_or_init(|| Holders::new(rows, column.index));
                holders.rows(&clause.arg)
            })
            .min_by_key(|list| list.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::database::{Commit, Database, RowChange};
    use crate::schema::vswitch_schema;
    use crate::txn::Txn;

    fn uuid(n: usize) -> Uuid {
        Uuid::from_u128(n as u128 + 1)
    }

    /// A row of table Queue.
    fn row(db: &Database, n: usize, dscp: Option<i64>, ids: &[(String, String)]) -> Arc<DbRow> {
        let t = &db.tables[db.positions["Queue"]];
        let mut cells = t.defaults.clone();
        cells[t.schema.column("dscp").unwrap().index] = Datum::set(dscp);
        cells[t.schema.column("external_ids").unwrap().index] = Datum::map(ids.iter().cloned());
        Arc::new(DbRow {
            uuid: uuid(n),
            version: Uuid::nil(),
            cells,
        })
    }

    fn put(db: &mut Database, n: usize, new: Option<Arc<DbRow>>) {
        let table = db.positions["Queue"];
        let old = db.tables[table].rows.get(&uuid(n)).cloned();
        db.apply(&mut Commit {
            changes: vec![RowChange {
                table,
                uuid: uuid(n),
                old,
                new,
            }],
            ..Commit::default()
        });
    }

    /// Rows found, and those that fit, each sorted.
    fn both(db: &Database, json: &serde_json::Value) -> [Vec<Uuid>; 2] {
        let table = db.positions["Queue"];
        let t = &db.tables[table];
        let condition = Condition::parse(&t.schema, json, None).unwrap();
        let mut found = Txn::new(db).find(table, &condition);
        let rows = t.rows.values().filter(|r| condition.all(r));
        let mut fit: Vec<Uuid> = rows.map(|r| r.uuid).collect();
        found.sort_unstable();
        fit.sort_unstable();
        [found, fit]
    }

    fn ids(n: usize) -> Vec<(String, String)> {
        vec![
            ("id".into(), n.to_string()),
            ("kind".into(), (n % 3).to_string()),
        ]
    }

    fn full() -> Database {
        let mut db = Database::new(vswitch_schema().clone());
        for n in 0..2 * SMALL {
            let new = row(&db, n, (n % 2 == 0).then_some((n % 64) as i64), &ids(n));
            put(&mut db, n, Some(new));
        }
        db
    }

    fn indexed(db: &Database, column: &str) -> bool {
        let t = &db.tables[db.positions["Queue"]];
        let i = t.schema.column(column).unwrap().index;
        t.lookups.0[i].index.get().is_some()
    }

    #[test]
    fn a_column_is_indexed_when_asked_for_often_and_forgotten_when_not() {
        let mut db = full();
        let by_id = json!([["external_ids", "includes", ["map", [["id", "77"]]]]]);
        for _ in 0..=SCANS {
            assert!(!indexed(&db, "external_ids"));
            let [found, fit] = both(&db, &by_id);
            assert_eq!((&found, found.len()), (&fit, 1));
        }
        assert!(indexed(&db, "external_ids") && !indexed(&db, "dscp"));
        let t = &db.tables[db.positions["Queue"]];
        let condition = Condition::parse(&t.schema, &by_id, None).unwrap();
        assert_eq!(t.candidates(&condition), Some(&[uuid(77)][..]));
        // A third of all rows hold this.
        let common = json!([["external_ids", "includes", ["map", [["kind", "1"]]]]]);
        let condition = Condition::parse(&t.schema, &common, None).unwrap();
        assert_eq!(t.candidates(&condition), None);
        for n in 0..=4 * SMALL {
            let new = row(&db, 5, None, &ids(n));
            put(&mut db, 5, Some(new));
        }
        assert!(!indexed(&db, "external_ids"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_found_is_what_fits(
            changes in proptest::collection::vec((0..3 * SMALL, 0..5usize, 0..40usize), 0..60),
        ) {
            let mut db = full();
            for (n, what, value) in changes {
                let new = match what {
                    0 => None,
                    1 => Some(row(&db, n, Some(value as i64), &[])),
                    _ => Some(row(&db, n, None, &ids(value))),
                };
                if new.is_some() || db.tables[db.positions["Queue"]].rows.contains_key(&uuid(n)) {
                    put(&mut db, n, new);
                }
                let id = ["id", &value.to_string()];
                let kind = ["kind", &(value % 3).to_string()];
                for condition in [
                    json!([["dscp", "==", value]]),
                    json!([["external_ids", "includes", ["map", [id]]]]),
                    json!([["external_ids", "==", ["map", [kind, id]]]]),
                    json!([["external_ids", "includes", ["map", [kind, id]]], ["dscp", "!=", 3]]),
                ] {
                    let [found, fit] = both(&db, &condition);
                    prop_assert_eq!(found, fit);
                }
            }
        }
    }
}
