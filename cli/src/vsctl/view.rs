//! The database as the commands of one line see it: what the server has, plus what the commands
//! before have changed; and the transaction (RFC 7047 4.1.3) that makes the changes real.
//!
//! Whatever a change was derived from is noted as verified, and goes into the transaction as a
//! `wait` operation: should somebody else have changed it meanwhile, the server refuses, and the
//! commands run again on what is there then.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::schema::DatabaseSchema;
use ovsdb::{Atom, Replica};
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::Datum;

/// What has become of a row.
#[derive(Clone, Debug, Default)]
struct Change {
    inserted: bool,
    deleted: bool,
    /// Whether the inserted row must get the very UUID it has here.
    keep_uuid: bool,
    written: BTreeMap<String, Datum>,
    mutated: BTreeMap<String, Mutation>,
    verified: BTreeSet<String>,
}

/// Elements put into and taken out of a column whose other elements do not matter.
#[derive(Clone, Debug, Default)]
struct Mutation {
    /// Elements of a set; keys of a map, with their values.
    put: BTreeMap<Atom, Option<Atom>>,
    /// Elements of a set; keys of a map.
    taken: BTreeSet<Atom>,
}

impl Mutation {
    fn apply(&self, datum: &mut Datum) {
        match datum {
            Datum::Set(set) => {
                set.extend(self.put.keys().cloned());
                set.retain(|a| !self.taken.contains(a));
            }
            Datum::Map(map) => {
                map.retain(|k, _| !self.taken.contains(k));
                let pairs = self.put.iter().filter_map(|(k, v)| Some((k, v.as_ref()?)));
                map.extend(pairs.map(|(k, v)| (k.clone(), v.clone())));
            }
        }
    }

    /// RFC 7047 5.1 `<mutation>`s.
    fn to_json(&self, column: &str, named: &dyn Fn(&Uuid) -> Option<String>) -> Vec<Value> {
        let pairs: BTreeMap<Atom, Atom> = self
            .put
            .iter()
            .filter_map(|(k, v)| Some((k.clone(), v.clone()?)))
            .collect();
        let mut taken = self.taken.clone();
        let put = if pairs.is_empty() {
            Datum::Set(self.put.keys().cloned().collect())
        } else {
            // A key that is there already keeps its value, unless it is taken out first.
            taken.extend(pairs.keys().cloned());
            Datum::Map(pairs)
        };
        [("delete", Datum::Set(taken)), ("insert", put)]
            .into_iter()
            .filter(|(_, elements)| elements.len() > 0)
            .map(|(mutator, elements)| json!([column, mutator, elements.to_json_bracketed(named)]))
            .collect()
    }
}

/// The database within one run of the commands.
pub struct View<'a> {
    pub schema: &'a DatabaseSchema,
    replica: &'a Replica,
    changes: BTreeMap<(String, Uuid), Change>,
    /// Rows whose counter is added one to: table, row, column.
    increment: Option<(String, Uuid, String)>,
}

impl<'a> View<'a> {
    /// The database as `replica` has it, with nothing changed yet.
    pub fn new(replica: &'a Replica) -> View<'a> {
        View {
            schema: replica.schema(),
            replica,
            changes: BTreeMap::new(),
            increment: None,
        }
    }

    fn change(&mut self, table: &str, row: Uuid) -> &mut Change {
        self.changes.entry((table.to_string(), row)).or_default()
    }

    fn changed(&self, table: &str, row: Uuid) -> Option<&Change> {
        self.changes.get(&(table.to_string(), row))
    }

    /// The rows of `table`, in order of their UUIDs.
    pub fn rows(&self, table: &str) -> Vec<Uuid> {
        let old = self.replica.table(table).keys().copied();
        let new = self
            .changes
            .iter()
            .filter(|((t, _), c)| t == table && c.inserted)
            .map(|((_, u), _)| *u);
        let mut rows: Vec<Uuid> = old.chain(new).filter(|u| self.exists(table, *u)).collect();
        rows.sort();
        rows
    }

    /// Whether `table` has this row.
    pub fn exists(&self, table: &str, row: Uuid) -> bool {
        match self.changed(table, row) {
            Some(c) if c.deleted => false,
            Some(c) if c.inserted => true,
            _ => self.replica.row(table, &row).is_some(),
        }
    }

    /// Whether the row is made by this very command line.
    pub fn is_new(&self, table: &str, row: Uuid) -> bool {
        self.changed(table, row).is_some_and(|c| c.inserted)
    }

    /// What the server has in a column.
    fn stored(&self, table: &str, row: Uuid, column: &str) -> Option<Datum> {
        self.replica
            .row(table, &row)?
            .columns
            .get(column)
            .map(Datum::from)
    }

    fn has_column(&self, table: &str, column: &str) -> bool {
        self.schema
            .tables
            .get(table)
            .is_some_and(|t| t.columns.contains_key(column))
    }

    /// The value of a column; the default of its type where the row does not say; the empty set
    /// where the schema has no such column.
    pub fn get(&self, table: &str, row: Uuid, column: &str) -> Datum {
        let change = self.changed(table, row);
        let written = change.and_then(|c| c.written.get(column)).cloned();
        let stored = || self.stored(table, row, column);
        let mut datum = written.or_else(stored).unwrap_or_else(|| {
            let column = self
                .schema
                .tables
                .get(table)
                .and_then(|t| t.columns.get(column));
            column.map_or_else(Datum::empty_set, |c| Datum::default_of(&c.ty))
        });
        if let Some(mutation) = change.and_then(|c| c.mutated.get(column)) {
            mutation.apply(&mut datum);
        }
        datum
    }

    /// Reads a column that a change depends on: see the top of this file.
    pub fn get_verified(&mut self, table: &str, row: Uuid, column: &str) -> Datum {
        self.verify(table, row, column);
        self.get(table, row, column)
    }

    /// Makes the transaction depend on this column being as it is.
    pub fn verify(&mut self, table: &str, row: Uuid, column: &str) {
        if self.replica.row(table, &row).is_some() && self.has_column(table, column) {
            self.change(table, row).verified.insert(column.to_string());
        }
    }

    /// Writes a column. Columns that this server's schema does not have are left out.
    pub fn set(&mut self, table: &str, row: Uuid, column: &str, value: Datum) {
        if self.has_column(table, column) {
            let change = self.change(table, row);
            change.written.insert(column.to_string(), value);
        }
    }

    /// Puts elements into a set, or pairs into a map, whatever else is in it.
    pub fn put(&mut self, table: &str, row: Uuid, column: &str, elements: Datum) {
        self.mutate(table, row, column, |mutation| {
            let put: BTreeMap<Atom, Option<Atom>> = match elements {
                Datum::Set(set) => set.into_iter().map(|k| (k, None)).collect(),
                Datum::Map(map) => map.into_iter().map(|(k, v)| (k, Some(v))).collect(),
            };
            mutation.taken.retain(|k| !put.contains_key(k));
            mutation.put.extend(put);
        });
    }

    /// Takes a row out of a set of references, whatever else is in it.
    pub fn take(&mut self, table: &str, row: Uuid, column: &str, element: Uuid) {
        self.mutate(table, row, column, |mutation| {
            mutation.put.remove(&Atom::Uuid(element));
            mutation.taken.insert(Atom::Uuid(element));
        });
    }

    fn mutate(&mut self, table: &str, row: Uuid, column: &str, f: impl FnOnce(&mut Mutation)) {
        let now = self.get(table, row, column);
        let change = self.change(table, row);
        if change.inserted || change.written.contains_key(column) {
            let mut mutation = Mutation::default();
            f(&mut mutation);
            let mut value = now;
            mutation.apply(&mut value);
            change.written.insert(column.to_string(), value);
        } else {
            f(change.mutated.entry(column.to_string()).or_default());
        }
    }

    /// Makes a row, with the UUID given, which the server keeps only if `keep_uuid`.
    pub fn insert_as(&mut self, table: &str, uuid: Uuid, keep_uuid: bool) -> Uuid {
        let change = self.change(table, uuid);
        *change = Change {
            inserted: true,
            keep_uuid,
            ..Change::default()
        };
        uuid
    }

    /// Makes a row with these values.
    pub fn insert(&mut self, table: &str, columns: &[(&str, Datum)]) -> Uuid {
        let uuid = self.insert_as(table, Uuid::new_v4(), false);
        for (column, value) in columns {
            self.set(table, uuid, column, value.clone());
        }
        uuid
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, row: Uuid) {
        if self.is_new(table, row) {
            self.changes.remove(&(table.to_string(), row));
        } else {
            let change = self.change(table, row);
            change.deleted = true;
        }
    }

    /// Has the transaction, if it changes anything, add one to an integer column and report it.
    pub fn increment(&mut self, table: &str, row: Uuid, column: &str) {
        self.increment = Some((table.to_string(), row, column.to_string()));
    }

    /// The operations to send, with where to find what came of them; `None` when nothing changes.
    pub fn transaction(&self, comment: &str) -> Option<Transaction> {
        let name = |u: &Uuid| format!("row{}", u.simple());
        let named = |u: &Uuid| {
            self.changes
                .iter()
                .any(|((_, id), c)| id == u && c.inserted && !c.keep_uuid)
                .then(|| name(u))
        };
        let target = |u: &Uuid| match named(u) {
            Some(n) => json!([["_uuid", "==", ["named-uuid", n]]]),
            None => json!([["_uuid", "==", ["uuid", u.to_string()]]]),
        };
        let mut ops = Vec::new();
        let mut any = false;
        for ((table, row), change) in &self.changes {
            // Its only row is made by whoever comes first: the switch does it, too.
            if change.inserted && table == "Open_vSwitch" && self.replica.table(table).is_empty() {
                ops.push(
                    json!({"op": "wait", "timeout": 0, "table": table, "where": [],
                "columns": ["_uuid"], "until": "==", "rows": []}),
                );
            }
            if change.verified.is_empty() {
                continue;
            }
            let columns: Vec<&String> = change.verified.iter().collect();
            let values: serde_json::Map<String, Value> = columns
                .iter()
                .filter_map(|c| {
                    Some((
                        (*c).clone(),
                        self.stored(table, *row, c)?.to_json(&|_| None),
                    ))
                })
                .collect();
            ops.push(
                json!({"op": "wait", "timeout": 0, "table": table, "where": target(row),
                "columns": columns, "until": "==", "rows": [values]}),
            );
        }
        let mut inserted = BTreeMap::new();
        for ((table, row), change) in &self.changes {
            if change.deleted {
                if !self.schema.tables.get(table)?.is_root {
                    continue; // the server deletes it, once nothing refers to it
                }
                any = true;
                ops.push(json!({"op": "delete", "table": table, "where": target(row)}));
                continue;
            }
            let types = &self.schema.tables.get(table)?.columns;
            let mut values = serde_json::Map::new();
            for (column, value) in &change.written {
                let default = || types.get(column).map(|c| Datum::default_of(&c.ty));
                if change.inserted && default().as_ref() == Some(value) {
                    continue;
                }
                any |= self.stored(table, *row, column).as_ref() != Some(value);
                values.insert(column.clone(), value.to_json(&named));
            }
            if change.inserted {
                any = true;
                inserted.insert(*row, ops.len());
                ops.push(if change.keep_uuid {
                    json!({"op": "insert", "table": table, "uuid": row.to_string(), "row": values})
                } else {
                    json!({"op": "insert", "table": table, "uuid-name": name(row), "row": values})
                });
            } else if !values.is_empty() {
                ops.push(
                    json!({"op": "update", "table": table, "where": target(row), "row": values}),
                );
            }
            let mut mutations = Vec::new();
            for (column, mutation) in &change.mutated {
                mutations.extend(mutation.to_json(column, &named));
            }
            if !mutations.is_empty() {
                any = true;
                ops.push(json!({"op": "mutate", "table": table, "where": target(row), "mutations": mutations}));
            }
        }
        if !any {
            return None;
        }
        let mut counter = None;
        if let Some((table, row, column)) = &self.increment
            && self.has_column(table, column)
        {
            ops.push(json!({"op": "mutate", "table": table, "where": target(row), "mutations": [[column, "+=", 1]]}));
            counter = Some((ops.len(), column.clone()));
            ops.push(
                json!({"op": "select", "table": table, "where": target(row), "columns": [column]}),
            );
        }
        ops.push(json!({"op": "comment", "comment": comment}));
        Some(Transaction {
            ops,
            inserted,
            counter,
        })
    }
}

/// A transaction ready to be sent.
#[derive(Debug)]
pub struct Transaction {
    /// RFC 7047 5.2 operations.
    pub ops: Vec<Value>,
    /// Which operation inserts which row of the view.
    pub inserted: BTreeMap<Uuid, usize>,
    /// The `select` that answers the counter's new value, and its column.
    pub counter: Option<(usize, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> DatabaseSchema {
        DatabaseSchema::from_json(&json!({"name": "D", "version": "1.0.0", "tables": {
            "A": {"columns": {
                "name": {"type": "string"},
                "refs": {"type": {"key": {"type": "uuid", "refTable": "A"}, "min": 0, "max": "unlimited"}},
                "n": {"type": "integer"}}}}}))
        .unwrap()
    }

    #[test]
    fn changes_are_seen_and_sent() {
        let one = Uuid::from_u128(1);
        let mut replica = Replica::new(&schema(), &Default::default());
        let row =
            json!({"A": {one.to_string(): {"new": {"name": "x", "n": 1, "refs": ["set", []]}}}});
        replica.apply(&row).unwrap();
        let mut view = View::new(&replica);
        view.get_verified("A", one, "name");
        assert!(view.transaction("c").is_none(), "reading is no change");
        view.set("A", one, "n", Datum::integer(1));
        assert!(
            view.transaction("c").is_none(),
            "writing the same is no change"
        );
        let new = view.insert(
            "A",
            &[("name", Datum::string("y")), ("n", Datum::integer(0))],
        );
        view.put("A", one, "refs", Datum::uuids([new]));
        view.increment("A", one, "n");
        assert_eq!(view.get("A", one, "refs").to_uuids(), [new]);
        assert_eq!(view.rows("A").len(), 2);
        let t = view.transaction("c").unwrap();
        let name = format!("row{}", new.simple());
        let here = json!([["_uuid", "==", ["uuid", one.to_string()]]]);
        assert!(t.ops.contains(
            &json!({"op": "wait", "timeout": 0, "table": "A", "where": here,
            "columns": ["name"], "until": "==", "rows": [{"name": "x"}]})
        ));
        assert!(t.ops.contains(
            &json!({"op": "insert", "table": "A", "uuid-name": name, "row": {"name": "y"}})
        ));
        assert!(
            t.ops
                .contains(&json!({"op": "mutate", "table": "A", "where": here,
            "mutations": [["refs", "insert", ["set", [["named-uuid", name]]]]]}))
        );
        assert_eq!(t.ops[t.inserted[&new]]["op"], "insert");
        assert_eq!(t.ops[t.counter.unwrap().0]["op"], "select");
        view.delete("A", new);
        view.delete("A", one);
        assert!(view.rows("A").is_empty());
    }
}
