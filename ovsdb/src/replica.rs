//! What a client knows of a database: the rows it monitors, kept up by updates. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::error::OvsdbError;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::value::{Datum, Uuid, parse_uuid};

/// One row as far as it is monitored.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub uuid: Uuid,
    /// The monitored columns.
    pub columns: BTreeMap<String, Datum>,
}

impl Row {
    /// The value of a column; the empty set where the column is not monitored.
    pub fn get(&self, column: &str) -> &Datum {
        static EMPTY: LazyLock<Datum> = LazyLock::new(Datum::empty_set);
        self.columns.get(column).unwrap_or(&EMPTY)
    }

    /// The string of a string column; empty where there is none.
    pub fn str(&self, column: &str) -> &str {
        self.get(column).as_scalar_str().unwrap_or_default()
    }
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// It is new.
    Insert,
    /// These columns have new values.
    Modify(BTreeSet<String>),
    /// It is gone; this is what it was.
    Delete(Row),
}

/// One changed row.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its table.
    pub table: String,
    /// Its name.
    pub uuid: Uuid,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What one update changed, in the order applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeSet {
    /// The changed rows.
    pub changes: Vec<Change>,
}

impl ChangeSet {
    /// True where nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// True where a row of `table` changed.
    pub fn touches(&self, table: &str) -> bool {
        self.changes.iter().any(|c| c.table == table)
    }

    /// Appends what came later.
    pub fn extend(&mut self, later: ChangeSet) {
        self.changes.extend(later.changes);
    }
}

/// Which tables and columns a client wants: column names by table, an empty list for all columns.
pub type Wanted = BTreeMap<String, Vec<String>>;

/// The rows a client monitors.
#[derive(Debug, Clone)]
pub struct Replica {
    schema: DatabaseSchema,
    wanted: Wanted,
    tables: BTreeMap<String, BTreeMap<Uuid, Row>>,
}

/// An update that does not fit the schema or what was known before.
fn bad(text: String) -> OvsdbError {
    OvsdbError::new("protocol error", text)
}

impl Replica {
    /// An empty replica. Tables and columns that the schema lacks are left out (a server may be
    /// older or newer than its client), see [`Replica::missing`]. An empty `wanted` means
    /// everything.
    pub fn new(schema: &DatabaseSchema, wanted: &Wanted) -> Self {
        let mut have = Wanted::new();
        for t in schema.tables.values() {
            let names: Vec<String> = match wanted.get(&t.name) {
                None if wanted.is_empty() => t.columns.keys().cloned().collect(),
                None => continue,
                Some(list) if list.is_empty() => t.columns.keys().cloned().collect(),
                Some(list) => list
                    .iter()
                    .filter(|c| t.columns.contains_key(*c))
                    .cloned()
                    .collect(),
            };
            have.insert(t.name.clone(), names);
        }
        Self {
            schema: schema.clone(),
            tables: have.keys().map(|t| (t.clone(), BTreeMap::new())).collect(),
            wanted: have,
        }
    }

    /// The database's schema.
    pub fn schema(&self) -> &DatabaseSchema {
        &self.schema
    }

    /// The wanted `table` or `table.column` names that the server's schema does not have.
    pub fn missing(&self, wanted: &Wanted) -> Vec<String> {
        let mut out = Vec::new();
        for (t, columns) in wanted {
            match self.schema.table(t) {
                None => out.push(t.clone()),
                Some(table) => out.extend(
                    columns
                        .iter()
                        .filter(|c| !table.columns.contains_key(*c))
                        .map(|c| format!("{t}.{c}")),
                ),
            }
        }
        out
    }

    /// The `<monitor-requests>` that keep this replica up to date (RFC 7047 4.1.5).
    pub fn monitor_requests(&self) -> Value {
        let map: Map<String, Value> = self
            .wanted
            .iter()
            .map(|(t, columns)| (t.clone(), json!([{ "columns": columns }])))
            .collect();
        Value::Object(map)
    }

    /// The rows of a table; none where it is not monitored.
    pub fn table(&self, table: &str) -> &BTreeMap<Uuid, Row> {
        static EMPTY: BTreeMap<Uuid, Row> = BTreeMap::new();
        self.tables.get(table).unwrap_or(&EMPTY)
    }

    /// The names of the monitored tables.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<&Row> {
        self.tables.get(table)?.get(uuid)
    }

    /// The first row whose scalar string column has this value.
    pub fn find(&self, table: &str, column: &str, value: &str) -> Option<&Row> {
        self.table(table)
            .values()
            .find(|r| r.get(column).as_scalar_str() == Some(value))
    }

    /// Forgets all rows, as after a reconnection, and tells which they were.
    pub fn clear(&mut self) -> ChangeSet {
        let mut changes = Vec::new();
        for (table, rows) in &mut self.tables {
            for (uuid, row) in std::mem::take(rows) {
                changes.push(Change {
                    table: table.clone(),
                    uuid,
                    kind: ChangeKind::Delete(row),
                });
            }
        }
        ChangeSet { changes }
    }

    fn cells(
        table: &TableSchema,
        json: &Value,
        diff: bool,
    ) -> Result<Vec<(String, Datum)>, OvsdbError> {
        let map = json
            .as_object()
            .ok_or_else(|| bad(format!("row of table {} is no object", table.name)))?;
        let mut out = Vec::with_capacity(map.len());
        for (name, value) in map {
            let Some(column) = table.column(name) else {
                continue; // _uuid, _version
            };
            let datum = if diff {
                Datum::from_json_any_size(&column.ty, value, None)?
            } else {
                Datum::from_json(&column.ty, value)?
            };
            out.push((name.clone(), datum));
        }
        Ok(out)
    }

    /// Applies a `<table-updates>` (RFC 7047 4.1.6), of a `monitor` reply or an `update`.
    ///
    /// # Errors
    /// `protocol error` where it does not fit what is known; the replica is then to be thrown
    /// away.
    pub fn apply(&mut self, updates: &Value) -> Result<ChangeSet, OvsdbError> {
        self.apply_with(updates, |table, old, json| {
            match json.get("new").filter(|v| !v.is_null()) {
                None => Ok(None),
                Some(new) => {
                    let mut columns = old.cloned().unwrap_or_default();
                    columns.extend(Self::cells(table, new, false)?);
                    Ok(Some(columns))
                }
            }
        })
    }

    /// Applies a `<table-updates2>` (ovsdb-server(7) 4.1.14), of a `monitor_cond` reply, an
    /// `update2` or an `update3`.
    ///
    /// # Errors
    /// As [`Replica::apply`].
    pub fn apply2(&mut self, updates: &Value) -> Result<ChangeSet, OvsdbError> {
        self.apply_with(updates, |table, old, json| {
            if json.get("delete").is_some() {
                return Ok(None);
            }
            if let Some(row) = json.get("initial").or_else(|| json.get("insert")) {
                return Ok(Some(Self::cells(table, row, false)?.into_iter().collect()));
            }
            if let Some(row) = json.get("modify") {
                let mut columns = old
                    .cloned()
                    .ok_or_else(|| bad(format!("change of an unknown row of {}", table.name)))?;
                for (name, diff) in Self::cells(table, row, true)? {
                    let column = table.column(&name).expect("cells are of known columns");
                    let new = columns
                        .get(&name)
                        .unwrap_or(&column.ty.default_datum())
                        .apply_diff(&diff, &column.ty)?;
                    columns.insert(name, new);
                }
                return Ok(Some(columns));
            }
            Err(bad(format!("row update of {} is empty", table.name)))
        })
    }

    fn apply_with(
        &mut self,
        updates: &Value,
        make: impl Fn(
            &TableSchema,
            Option<&BTreeMap<String, Datum>>,
            &Value,
        ) -> Result<Option<BTreeMap<String, Datum>>, OvsdbError>,
    ) -> Result<ChangeSet, OvsdbError> {
        let mut set = ChangeSet::default();
        let tables = updates
            .as_object()
            .ok_or_else(|| bad("table updates are no object".into()))?;
        for (name, rows) in tables {
            let (Some(schema), Some(wanted)) = (self.schema.table(name), self.wanted.get(name))
            else {
                continue;
            };
            let rows = rows
                .as_object()
                .ok_or_else(|| bad(format!("updates of table {name} are no object")))?;
            let table = self.tables.entry(name.clone()).or_default();
            for (uuid_text, json) in rows {
                let uuid = parse_uuid(uuid_text)
                    .ok_or_else(|| bad(format!("\"{uuid_text}\" is no row UUID")))?;
                let old = table.get(&uuid);
                let kind = match make(schema, old.map(|r| &r.columns), json)? {
                    None => match table.remove(&uuid) {
                        Some(row) => ChangeKind::Delete(row),
                        None => continue,
                    },
                    Some(mut columns) => {
                        columns.retain(|c, _| wanted.contains(c));
                        for c in wanted {
                            if !columns.contains_key(c) {
                                columns.insert(c.clone(), schema.columns[c].ty.default_datum());
                            }
                        }
                        let kind = match old {
                            None => ChangeKind::Insert,
                            Some(old) => ChangeKind::Modify(
                                columns
                                    .iter()
                                    .filter(|(c, v)| old.columns.get(*c) != Some(v))
                                    .map(|(c, _)| c.clone())
                                    .collect(),
                            ),
                        };
                        table.insert(uuid, Row { uuid, columns });
                        kind
                    }
                };
                set.changes.push(Change {
                    table: name.clone(),
                    uuid,
                    kind,
                });
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::vswitch_schema;

    const U: &str = "7f910305-583b-4c60-8927-7b9bd29d08f6";

    fn wanted() -> Wanted {
        Wanted::from([("Port".into(), vec!["name".into(), "trunks".into()])])
    }

    #[test]
    fn updates_of_both_kinds_make_the_same_rows() {
        let mut a = Replica::new(vswitch_schema(), &wanted());
        let mut b = a.clone();
        a.apply(&json!({"Port": {U: {"new": {"name": "p", "trunks": ["set", [1, 2]]}}}}))
            .unwrap();
        b.apply2(&json!({"Port": {U: {"initial": {"name": "p", "trunks": ["set", [1, 2]]}}}}))
            .unwrap();
        assert_eq!(a.table("Port"), b.table("Port"));
        let ca = a
            .apply(&json!({"Port": {U: {"old": {"trunks": ["set", [1, 2]]}, "new": {"name": "p", "trunks": 2}}}}))
            .unwrap();
        let cb = b
            .apply2(&json!({"Port": {U: {"modify": {"trunks": 1}}}}))
            .unwrap();
        assert_eq!(ca, cb);
        assert_eq!(
            ca.changes[0].kind,
            ChangeKind::Modify(BTreeSet::from(["trunks".into()]))
        );
        assert_eq!(a.table("Port"), b.table("Port"));
        let gone = b.apply2(&json!({"Port": {U: {"delete": null}}})).unwrap();
        assert!(matches!(&gone.changes[0].kind, ChangeKind::Delete(r) if r.str("name") == "p"));
        assert!(b.table("Port").is_empty());
    }

    #[test]
    fn unfitting_updates_are_errors() {
        let mut r = Replica::new(vswitch_schema(), &wanted());
        assert!(
            r.apply2(&json!({"Port": {U: {"modify": {"trunks": 1}}}}))
                .is_err()
        );
        assert!(r.apply(&json!({"Port": {"x": {"new": {}}}})).is_err());
        assert!(
            r.apply(&json!({"Port": {U: {"new": {"name": 1}}}}))
                .is_err()
        );
        assert!(r.apply(&json!(1)).is_err());
    }
}
