//! A transaction: an overlay of changed rows over the database, and the checks of its commit
//! (RFC 7047 4.1.3).
//!
//! The database itself is not touched before the commit is known to be good; giving a
//! transaction up means dropping the overlay. Every step of the commit walks changed rows only:
//! reference counts are kept by the database and corrected by the difference between old and new
//! rows, and garbage collection starts from the rows whose count fell to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::condition::Condition;
use crate::database::{Commit, Database, DbRow, IndexKey, RowChange, each_ref};
use crate::error::OvsdbError;
use crate::schema::BaseType;
use crate::value::{Datum, Uuid};

pub(crate) struct Txn<'a> {
    pub(crate) db: &'a Database,
    /// Per table: rows that differ from the database; `None` for deleted ones.
    overlay: Vec<HashMap<Uuid, Option<Arc<DbRow>>>>,
    pub(crate) comment: String,
    pub(crate) durable: bool,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(db: &'a Database) -> Self {
        Self {
            db,
            overlay: vec![HashMap::new(); db.tables.len()],
            comment: String::new(),
            durable: false,
        }
    }

    pub(crate) fn get(&self, table: usize, uuid: &Uuid) -> Option<&Arc<DbRow>> {
        match self.overlay[table].get(uuid) {
            Some(row) => row.as_ref(),
            None => self.db.tables[table].rows.get(uuid),
        }
    }

    /// True where the row is there, or was before this transaction deleted it.
    pub(crate) fn known(&self, table: usize, uuid: &Uuid) -> bool {
        self.overlay[table].contains_key(uuid) || self.db.tables[table].rows.contains_key(uuid)
    }

    /// True where the row is there now, or was before the transaction.
    fn exists(&self, table: usize, uuid: &Uuid) -> bool {
        self.db.tables[table].rows.contains_key(uuid) || self.get(table, uuid).is_some()
    }

    /// The rows that fit, by their names.
    pub(crate) fn find(&self, table: usize, condition: &Condition) -> Vec<Uuid> {
        if let Some(uuid) = condition.only_uuid() {
            return self
                .get(table, &uuid)
                .filter(|r| condition.all(r))
                .map(|r| r.uuid)
                .into_iter()
                .collect();
        }
        let t = &self.db.tables[table];
        let overlay = &self.overlay[table];
        let mut out: Vec<Uuid> = overlay
            .values()
            .flatten()
            .filter(|r| condition.all(r))
            .map(|r| r.uuid)
            .collect();
        let from_db = |out: &mut Vec<Uuid>, row: &Arc<DbRow>| {
            if (overlay.is_empty() || !overlay.contains_key(&row.uuid)) && condition.all(row) {
                out.push(row.uuid);
            }
        };
        // An index whose columns are all given leads to one row.
        for (i, columns) in t.schema.index_columns.iter().enumerate() {
            let key: Option<IndexKey> = columns
                .iter()
                .map(|c| condition.equal_to(*c).cloned())
                .collect();
            if let Some(key) = key {
                if let Some(row) = t.indexes[i].get(&key).and_then(|u| t.rows.get(u)) {
                    from_db(&mut out, row);
                }
                return out;
            }
        }
        match t.candidates(condition) {
            Some(few) => {
                for row in few.iter().filter_map(|u| t.rows.get(u)) {
                    from_db(&mut out, row);
                }
            }
            None => {
                for row in t.rows.values() {
                    from_db(&mut out, row);
                }
            }
        }
        out
    }

    pub(crate) fn insert(&mut self, table: usize, uuid: Uuid, cells: Vec<Datum>) {
        self.overlay[table].insert(
            uuid,
            Some(Arc::new(DbRow {
                uuid,
                version: Uuid::nil(),
                cells,
            })),
        );
    }

    /// The row to be changed in place.
    pub(crate) fn change(&mut self, table: usize, uuid: &Uuid) -> Option<&mut DbRow> {
        if !self.overlay[table].contains_key(uuid) {
            let row = self.db.tables[table].rows.get(uuid)?.clone();
            self.overlay[table].insert(*uuid, Some(row));
        }
        self.overlay[table]
            .get_mut(uuid)?
            .as_mut()
            .map(Arc::make_mut)
    }

    pub(crate) fn delete(&mut self, table: usize, uuid: Uuid) {
        // Also for rows inserted by this transaction: their names may not be used again.
        self.overlay[table].insert(uuid, None);
    }

    /// Checks everything RFC 7047 wants checked at commit, cleans up references and rows, and
    /// tells what is to change.
    ///
    /// # Errors
    /// `referential integrity violation` or `constraint violation`.
    pub(crate) fn commit(mut self) -> Result<Commit, OvsdbError> {
        self.forget_unchanged();
        if self.overlay.iter().all(HashMap::is_empty) {
            return Ok(Commit {
                durable: self.durable,
                ..Commit::default()
            });
        }
        let mut refs = Refs::default();
        self.count_references(&mut refs)?;
        self.collect_garbage(&mut refs);
        self.check_max_rows()?;
        self.drop_weak_references()?;
        self.check_indexes()?;
        let mut changes = Vec::new();
        for (table, rows) in self.overlay.into_iter().enumerate() {
            for (uuid, new) in rows {
                let old = self.db.tables[table].rows.get(&uuid).cloned();
                if old.is_some() || new.is_some() {
                    changes.push(RowChange {
                        table,
                        uuid,
                        old,
                        new,
                    });
                }
            }
        }
        Ok(Commit {
            changes,
            comment: self.comment,
            durable: self.durable,
        })
    }

    fn forget_unchanged(&mut self) {
        for (table, rows) in self.overlay.iter_mut().enumerate() {
            let base = &self.db.tables[table].rows;
            rows.retain(|uuid, new| match (base.get(uuid), new) {
                (None, None) => false,
                (Some(old), Some(new)) => old.cells != new.cells,
                _ => true,
            });
        }
    }

    fn count(&self, refs: &Refs, table: usize, uuid: &Uuid) -> i64 {
        let base = self.db.tables[table].strong.get(uuid).copied().unwrap_or(0) as i64;
        base + refs.delta.get(&(table, *uuid)).copied().unwrap_or(0)
    }

    /// Notes how the changed rows change reference counts, and refuses references to rows that
    /// never were and deletions of rows that are still referred to.
    fn count_references(&self, refs: &mut Refs) -> Result<(), OvsdbError> {
        for (table, rows) in self.overlay.iter().enumerate() {
            let t = &self.db.tables[table];
            if t.strong_columns.is_empty() {
                continue;
            }
            for (uuid, new) in rows {
                let old = t.rows.get(uuid);
                for c in &t.strong_columns {
                    let column = &t.schema.column_list[*c];
                    let (o, n) = (
                        old.map(|r| &r.cells[*c]),
                        new.as_ref().map(|r| &r.cells[*c]),
                    );
                    if o == n {
                        continue;
                    }
                    if let Some(o) = o {
                        each_ref(column, o, BaseType::is_strong, |t, u| refs.add(t, u, -1));
                    }
                    let mut bad = None;
                    if let Some(n) = n {
                        each_ref(column, n, BaseType::is_strong, |to, u| {
                            refs.add(to, u, 1);
                            if bad.is_none() && !self.exists(to, &u) {
                                bad = Some((to, u));
                            }
                        });
                    }
                    if let Some((to, u)) = bad {
                        return Err(OvsdbError::new(
                            "referential integrity violation",
                            format!(
                                "Table {} column {} row {uuid} references nonexistent row {u} in table {}.",
                                t.schema.name, column.name, self.db.tables[to].schema.name
                            ),
                        ));
                    }
                }
            }
        }
        for (table, rows) in self.overlay.iter().enumerate() {
            for (uuid, _) in rows.iter().filter(|(_, new)| new.is_none()) {
                let n = self.count(refs, table, uuid);
                if n > 0 {
                    return Err(OvsdbError::new(
                        "referential integrity violation",
                        format!(
                            "cannot delete {} row {uuid} because of {n} remaining reference(s)",
                            self.db.tables[table].schema.name
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Deletes rows of non-root tables that nothing refers to, and what only they referred to.
    fn collect_garbage(&mut self, refs: &mut Refs) {
        let mut work: Vec<(usize, Uuid)> = refs
            .delta
            .iter()
            .filter(|(_, d)| **d < 0)
            .map(|(k, _)| *k)
            .collect();
        for (table, rows) in self.overlay.iter().enumerate() {
            work.extend(
                rows.iter()
                    .filter(|(_, r)| r.is_some())
                    .map(|(u, _)| (table, *u)),
            );
        }
        while let Some((table, uuid)) = work.pop() {
            let t = &self.db.tables[table];
            if t.schema.is_root || self.count(refs, table, &uuid) > 0 {
                continue;
            }
            let Some(row) = self.get(table, &uuid).cloned() else {
                continue;
            };
            if t.rows.contains_key(&uuid) {
                self.overlay[table].insert(uuid, None);
            } else {
                self.overlay[table].remove(&uuid);
            }
            for c in &t.strong_columns {
                each_ref(
                    &t.schema.column_list[*c],
                    &row.cells[*c],
                    BaseType::is_strong,
                    |t, u| {
                        refs.add(t, u, -1);
                        work.push((t, u));
                    },
                );
            }
        }
    }

    fn check_max_rows(&self) -> Result<(), OvsdbError> {
        for (table, rows) in self.overlay.iter().enumerate() {
            let t = &self.db.tables[table];
            let Some(max) = t.schema.max_rows else {
                continue;
            };
            let mut n = t.rows.len();
            for (uuid, new) in rows {
                match (t.rows.contains_key(uuid), new.is_some()) {
                    (false, true) => n += 1,
                    (true, false) => n -= 1,
                    _ => {}
                }
            }
            if n > max as usize && n > t.rows.len() {
                return Err(OvsdbError::constraint(format!(
                    "transaction causes \"{}\" table to contain {n} rows, greater than the schema-defined limit of {max} row(s)",
                    t.schema.name
                )));
            }
        }
        Ok(())
    }

    /// Takes weak references to rows that do not exist out of new and changed rows, and those to
    /// deleted rows out of all rows.
    fn drop_weak_references(&mut self) -> Result<(), OvsdbError> {
        let mut look: Vec<(usize, Uuid)> = Vec::new();
        for (table, rows) in self.overlay.iter().enumerate() {
            let t = &self.db.tables[table];
            for (uuid, new) in rows {
                if new.is_some() && !t.weak_columns.is_empty() {
                    look.push((table, *uuid));
                }
                if new.is_none()
                    && let Some(list) = t.weak.get(uuid)
                {
                    look.extend(list);
                }
            }
        }
        look.sort_unstable();
        look.dedup();
        for (table, uuid) in look {
            let Some(row) = self.get(table, &uuid) else {
                continue;
            };
            let t = &self.db.tables[table];
            let mut fixes = Vec::new();
            for c in &t.weak_columns {
                let column = &t.schema.column_list[*c];
                let value = &row.cells[*c];
                let gone = |base: &BaseType, atom: &crate::value::Atom| {
                    base.is_weak()
                        && atom
                            .as_uuid()
                            .is_some_and(|u| self.get(base.ref_index, &u).is_none())
                };
                let dead = value.iter().filter(|a| gone(&column.ty.key, a)).count()
                    + value
                        .pairs()
                        .iter()
                        .filter(|(k, v)| {
                            gone(&column.ty.key, k)
                                || column.ty.value.as_ref().is_some_and(|b| gone(b, v))
                        })
                        .count();
                if dead == 0 {
                    continue;
                }
                let left = if value.is_map() {
                    Datum::from_sorted_pairs(
                        value
                            .pairs()
                            .iter()
                            .filter(|(k, v)| {
                                !gone(&column.ty.key, k)
                                    && !column.ty.value.as_ref().is_some_and(|b| gone(b, v))
                            })
                            .cloned()
                            .collect(),
                    )
                } else {
                    Datum::from_sorted(
                        value
                            .iter()
                            .filter(|a| !gone(&column.ty.key, a))
                            .cloned()
                            .collect(),
                    )
                };
                if left.len() < column.ty.min as usize {
                    let inserted = if t.rows.contains_key(&uuid) {
                        ""
                    } else {
                        " (inserted within this transaction)"
                    };
                    let (column, table) = (&column.name, &t.schema.name);
                    return Err(OvsdbError::constraint(
                        if value.as_scalar_uuid() == Some(Uuid::nil()) {
                            // The misspelling is OVS's.
                            format!(
                                "Weak reference column \"{column}\" in \"{table}\" row {uuid}{inserted} contained all-zeros UUID (probably as the default value for this column) but deleting this value caused a constraint volation because this column is not allowed to be empty."
                            )
                        } else {
                            format!(
                                "Deletion of {dead} weak reference(s) to deleted (or never-existing) rows from column \"{column}\" in \"{table}\" row {uuid}{inserted} caused this column to become empty, but constraints on this column disallow an empty column."
                            )
                        },
                    ));
                }
                fixes.push((*c, left));
            }
            if fixes.is_empty() {
                continue;
            }
            if let Some(row) = self.change(table, &uuid) {
                for (c, value) in fixes {
                    row.cells[c] = value;
                }
            }
            // Dropping dead references may have undone the only change.
            let same = matches!(
                (self.db.tables[table].rows.get(&uuid), self.get(table, &uuid)),
                (Some(a), Some(b)) if a.cells == b.cells
            );
            if same {
                self.overlay[table].remove(&uuid);
            }
        }
        Ok(())
    }

    fn check_indexes(&self) -> Result<(), OvsdbError> {
        for (table, rows) in self.overlay.iter().enumerate() {
            let t = &self.db.tables[table];
            for i in 0..t.indexes.len() {
                let mut seen: HashMap<IndexKey, Uuid> = HashMap::new();
                for new in rows.values().flatten() {
                    let key = t.key(i, new);
                    let other = t.indexes[i]
                        .get(&key)
                        .filter(|u| **u != new.uuid && !rows.contains_key(*u))
                        .copied()
                        .or_else(|| seen.get(&key).copied());
                    if let Some(other) = other {
                        return Err(self.duplicate(table, i, &key, new.uuid, other));
                    }
                    seen.insert(key, new.uuid);
                }
            }
        }
        Ok(())
    }

    fn duplicate(&self, table: usize, i: usize, key: &IndexKey, a: Uuid, b: Uuid) -> OvsdbError {
        let t = &self.db.tables[table];
        let story = |u: &Uuid| {
            match (t.rows.get(u), self.overlay[table].get(u)) {
                (Some(_), None) => "existed in the database before this transaction and was not modified by the transaction".to_owned(),
                (None, _) => "was inserted by this transaction".to_owned(),
                (Some(old), Some(_)) if t.key(i, old) == *key => "existed in the database before this transaction, which modified some of the row's columns but not any columns in this index".to_owned(),
                (Some(old), Some(_)) => format!(
                    "had the following index values before the transaction: {}",
                    values(t, i, &t.key(i, old))
                ),
            }
        };
        let names: Vec<String> = t.schema.indexes[i]
            .iter()
            .map(|n| format!("\"{n}\""))
            .collect();
        let columns = match names.as_slice() {
            [one] => format!("column {one}"),
            [a, b] => format!("columns {a} and {b}"),
            [rest @ .., last] => format!("columns {}, and {last}", rest.join(", ")),
            [] => String::new(),
        };
        OvsdbError::constraint(format!(
            "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on {columns}.  First row, with UUID {a}, {}.  Second row, with UUID {b}, {}.",
            t.schema.name,
            values(t, i, key),
            story(&a),
            story(&b)
        ))
    }
}

fn values(t: &crate::database::DbTable, index: usize, key: &IndexKey) -> String {
    let texts: Vec<String> = t.schema.index_columns[index]
        .iter()
        .zip(key)
        .map(|(c, d)| crate::text::datum_text(d, &t.schema.column_list[*c].ty))
        .collect();
    match texts.as_slice() {
        [a, b] => format!("{a} and {b}"),
        [rest @ .., last] if !rest.is_empty() => format!("{}, and {last}", rest.join(", ")),
        other => other.concat(),
    }
}

/// By how much this transaction changes the number of strong references to rows.
#[derive(Default)]
struct Refs {
    delta: HashMap<(usize, Uuid), i64>,
}

impl Refs {
    fn add(&mut self, table: usize, uuid: Uuid, n: i64) {
        *self.delta.entry((table, uuid)).or_default() += n;
    }
}
