//! The client's side of a transaction: builds the operations of RFC 7047 4.1.3 and 5.2.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::OvsdbError;
use crate::value::{Atom, Datum, Uuid, parse_uuid};

/// A row that a transaction inserts, before the server has given it a UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewRow {
    name: String,
    op: usize,
}

impl NewRow {
    /// Its name within the transaction (`uuid-name`).
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A row that a transaction speaks of: an old one or one it inserts itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowRef {
    /// A row in the database.
    Old(Uuid),
    /// A row of this transaction.
    New(NewRow),
}

impl RowRef {
    /// The atom in JSON: `["uuid", ..]` or `["named-uuid", ..]`.
    pub fn to_json(&self) -> Value {
        match self {
            RowRef::Old(u) => json!(["uuid", u.to_string()]),
            RowRef::New(n) => json!(["named-uuid", n.name]),
        }
    }
}

impl From<Uuid> for RowRef {
    fn from(u: Uuid) -> Self {
        RowRef::Old(u)
    }
}
impl From<&NewRow> for RowRef {
    fn from(n: &NewRow) -> Self {
        RowRef::New(n.clone())
    }
}
impl From<NewRow> for RowRef {
    fn from(n: NewRow) -> Self {
        RowRef::New(n)
    }
}

/// The value of a column in a transaction: a plain datum, or one that speaks of rows, some of
/// which may be new.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A value without references to new rows.
    Plain(Datum),
    /// A set of rows.
    Rows(Vec<RowRef>),
    /// A map to rows.
    RowMap(Vec<(Atom, RowRef)>),
    /// Anything, in JSON.
    Json(Value),
}

impl Cell {
    /// A set of rows.
    pub fn rows<R: Into<RowRef>>(rows: impl IntoIterator<Item = R>) -> Self {
        Cell::Rows(rows.into_iter().map(Into::into).collect())
    }

    /// The `<value>` in JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Cell::Plain(d) => d.to_json(),
            Cell::Rows(rows) => {
                json!(["set", rows.iter().map(RowRef::to_json).collect::<Vec<_>>()])
            }
            Cell::RowMap(pairs) => json!([
                "map",
                pairs
                    .iter()
                    .map(|(k, r)| json!([k.to_json(), r.to_json()]))
                    .collect::<Vec<_>>()
            ]),
            Cell::Json(v) => v.clone(),
        }
    }
}

impl From<Datum> for Cell {
    fn from(d: Datum) -> Self {
        Cell::Plain(d)
    }
}
impl From<&Datum> for Cell {
    fn from(d: &Datum) -> Self {
        Cell::Plain(d.clone())
    }
}
impl<A: Into<Atom>> From<A> for Cell {
    fn from(a: A) -> Self {
        Cell::Plain(Datum::scalar(a))
    }
}
impl From<&NewRow> for Cell {
    fn from(n: &NewRow) -> Self {
        Cell::Rows(vec![n.into()])
    }
}
impl From<RowRef> for Cell {
    fn from(r: RowRef) -> Self {
        Cell::Rows(vec![r])
    }
}

/// How [`Transaction::mutate`] changes a column (RFC 7047 5.1, `<mutator>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`
    Remainder,
    /// `insert` into a set or map.
    Insert,
    /// `delete` from a set or map.
    Delete,
}

impl Mutator {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Subtract => "-=",
            Mutator::Multiply => "*=",
            Mutator::Divide => "/=",
            Mutator::Remainder => "%=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        }
    }

    /// The mutator of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "+=" => Mutator::Add,
            "-=" => Mutator::Subtract,
            "*=" => Mutator::Multiply,
            "/=" => Mutator::Divide,
            "%=" => Mutator::Remainder,
            "insert" => Mutator::Insert,
            "delete" => Mutator::Delete,
            _ => return None,
        })
    }
}

/// A list of operations to be run as one.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    ops: Vec<Value>,
    news: usize,
}

fn uuid_is(row: &RowRef) -> Value {
    json!([["_uuid", "==", row.to_json()]])
}

fn row_json<K: Into<String>, C: Into<Cell>>(columns: impl IntoIterator<Item = (K, C)>) -> Value {
    let map: Map<String, Value> = columns
        .into_iter()
        .map(|(k, v)| (k.into(), v.into().to_json()))
        .collect();
    Value::Object(map)
}

impl Transaction {
    /// One without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// True where there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Inserts a row; the returned handle names it in the rest of the transaction and finds its
    /// UUID in the outcome.
    pub fn insert<K: Into<String>, C: Into<Cell>>(
        &mut self,
        table: &str,
        columns: impl IntoIterator<Item = (K, C)>,
    ) -> NewRow {
        self.news += 1;
        let name = format!("row{}", self.news);
        let new = NewRow {
            name: name.clone(),
            op: self.ops.len(),
        };
        self.ops.push(json!({
            "op": "insert", "table": table, "row": row_json(columns), "uuid-name": name,
        }));
        new
    }

    /// Sets columns of a row.
    pub fn update<K: Into<String>, C: Into<Cell>>(
        &mut self,
        table: &str,
        row: impl Into<RowRef>,
        columns: impl IntoIterator<Item = (K, C)>,
    ) {
        self.ops.push(json!({
            "op": "update", "table": table, "where": uuid_is(&row.into()), "row": row_json(columns),
        }));
    }

    /// Changes a column of a row.
    pub fn mutate(
        &mut self,
        table: &str,
        row: impl Into<RowRef>,
        column: &str,
        mutator: Mutator,
        value: impl Into<Cell>,
    ) {
        self.ops.push(json!({
            "op": "mutate", "table": table, "where": uuid_is(&row.into()),
            "mutations": [[column, mutator.name(), value.into().to_json()]],
        }));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, row: impl Into<RowRef>) {
        self.ops
            .push(json!({"op": "delete", "table": table, "where": uuid_is(&row.into())}));
    }

    /// Lets the transaction fail (`timed out`) unless the row's columns have these values: what
    /// the rest builds upon must not have changed meanwhile.
    pub fn verify<K: Into<String>, C: Into<Cell>>(
        &mut self,
        table: &str,
        row: impl Into<RowRef>,
        columns: impl IntoIterator<Item = (K, C)>,
    ) {
        let row_values = row_json(columns);
        let names: Vec<_> = row_values
            .as_object()
            .map(|m| m.keys().cloned().collect())
            .unwrap_or_default();
        self.wait(
            table,
            uuid_is(&row.into()),
            &names,
            true,
            vec![row_values],
            Some(0),
        );
    }

    /// Waits until the rows that fit `condition` do (`equal`) or do not look like `rows`
    /// (RFC 7047 5.2.6). `timeout` in milliseconds; `None` waits for ever.
    pub fn wait(
        &mut self,
        table: &str,
        condition: Value,
        columns: &[String],
        equal: bool,
        rows: Vec<Value>,
        timeout: Option<u64>,
    ) {
        let mut op = json!({
            "op": "wait", "table": table, "where": condition, "columns": columns,
            "until": if equal { "==" } else { "!=" }, "rows": rows,
        });
        if let Some(t) = timeout {
            op["timeout"] = t.into();
        }
        self.ops.push(op);
    }

    /// Adds words for the journal (`ovsdb-tool show-log`).
    pub fn comment(&mut self, text: &str) {
        self.ops.push(json!({"op": "comment", "comment": text}));
    }

    /// Lets the transaction fail (`not owner`) unless this client holds the lock.
    pub fn assert_lock(&mut self, lock: &str) {
        self.ops.push(json!({"op": "assert", "lock": lock}));
    }

    /// Fails the transaction on purpose, for a trial run.
    pub fn abort(&mut self) {
        self.ops.push(json!({"op": "abort"}));
    }

    /// Adds any operation in JSON.
    pub fn raw(&mut self, op: Value) {
        self.ops.push(op);
    }

    /// The operations.
    pub fn operations(&self) -> &[Value] {
        &self.ops
    }

    /// The operations, for [`crate::Client::transact`].
    pub fn into_operations(self) -> Vec<Value> {
        self.ops
    }
}

/// The result of one operation (RFC 7047 4.1.3 and 5.2).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperationResult {
    /// `insert`: the row's UUID.
    pub uuid: Option<Uuid>,
    /// `update`, `mutate`, `delete`: how many rows.
    pub count: Option<u64>,
    /// `select`: the rows, column values in JSON by name.
    pub rows: Option<Vec<BTreeMap<String, Value>>>,
    /// It failed, and with it the transaction.
    pub error: Option<OvsdbError>,
    /// It was not tried, as an earlier one failed.
    pub skipped: bool,
}

impl OperationResult {
    /// Reads the answer to one operation.
    pub fn from_json(json: &Value) -> Self {
        if json.is_null() {
            return Self {
                skipped: true,
                ..Self::default()
            };
        }
        Self {
            uuid: json
                .get("uuid")
                .and_then(|u| u.get(1))
                .and_then(Value::as_str)
                .and_then(parse_uuid),
            count: json.get("count").and_then(Value::as_u64),
            rows: json.get("rows").and_then(Value::as_array).map(|rows| {
                rows.iter()
                    .filter_map(Value::as_object)
                    .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
                    .collect()
            }),
            error: OvsdbError::from_json(json),
            skipped: false,
        }
    }
}

/// What a committed transaction brought.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// One per operation.
    pub results: Vec<OperationResult>,
}

impl Outcome {
    /// The answer, or the first error in it; a commit error follows the operations' results.
    ///
    /// # Errors
    /// The first operation's or the commit's error.
    pub fn check(results: Vec<OperationResult>) -> Result<Self, OvsdbError> {
        match results.iter().find_map(|r| r.error.clone()) {
            Some(e) => Err(e),
            None => Ok(Self { results }),
        }
    }

    /// The UUID the server gave a new row.
    pub fn uuid(&self, row: &NewRow) -> Option<Uuid> {
        self.results.get(row.op)?.uuid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_rfc() {
        let mut t = Transaction::new();
        let port = t.insert("Port", [("name", Cell::from("p1"))]);
        let u = Uuid::nil();
        t.mutate("Bridge", u, "ports", Mutator::Insert, &port);
        t.verify("Bridge", u, [("ports", Datum::empty_set())]);
        assert_eq!(
            json!(t.operations()),
            json!([
                {"op": "insert", "table": "Port", "row": {"name": "p1"}, "uuid-name": "row1"},
                {"op": "mutate", "table": "Bridge",
                 "where": [["_uuid", "==", ["uuid", "00000000-0000-0000-0000-000000000000"]]],
                 "mutations": [["ports", "insert", ["set", [["named-uuid", "row1"]]]]]},
                {"op": "wait", "table": "Bridge",
                 "where": [["_uuid", "==", ["uuid", "00000000-0000-0000-0000-000000000000"]]],
                 "columns": ["ports"], "until": "==", "rows": [{"ports": ["set", []]}], "timeout": 0},
            ])
        );
    }

    #[test]
    fn outcome_finds_rows_and_errors() {
        let mut t = Transaction::new();
        t.comment("x");
        let row = t.insert("Port", [("name", "p1")]);
        let u = "7f910305-583b-4c60-8927-7b9bd29d08f6";
        let ok = Outcome::check(vec![
            OperationResult::from_json(&json!({})),
            OperationResult::from_json(&json!({"uuid": ["uuid", u]})),
        ])
        .unwrap();
        assert_eq!(ok.uuid(&row), parse_uuid(u));
        let e = Outcome::check(vec![OperationResult::from_json(
            &json!({"error": "timed out", "details": "d"}),
        )])
        .unwrap_err();
        assert_eq!(e.to_string(), "timed out: d");
    }
}
