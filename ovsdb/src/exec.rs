//! The operations of `transact` (RFC 7047 5.2).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::condition::{Column, Condition, Mutation, unknown_column};
use crate::database::{Commit, Database, DbRow};
use crate::error::OvsdbError;
use crate::schema::{Members, TableSchema};
use crate::txn::Txn;
use crate::value::{Datum, Symbols, Uuid, is_id, json_integer, parse_uuid};

/// Most operations of one transaction.
pub const MAX_OPERATIONS: usize = 100_000;

/// What the transaction may depend on beside the database.
pub(crate) struct Context<'a> {
    /// True where the client owns the lock.
    pub(crate) owns_lock: &'a dyn Fn(&str) -> bool,
    /// How long the transaction has been waiting already.
    pub(crate) waited: Duration,
    /// The server itself asks, which may also change the databases that describe it.
    pub(crate) internal: bool,
}

/// What became of a transaction.
pub(crate) enum Executed {
    /// All operations are done and the commit checked; results follow.
    Done(Vec<Value>, Commit),
    /// An operation or the commit failed; nothing is to change.
    Failed(Vec<Value>),
    /// A `wait` does not hold yet; to be tried again upon the next change, or after this long.
    Wait(Option<Duration>),
}

enum Stop {
    Error(OvsdbError),
    Wait(Option<Duration>),
}

impl From<OvsdbError> for Stop {
    fn from(e: OvsdbError) -> Self {
        Stop::Error(e)
    }
}

/// Runs the operations of a transaction over `db`, without changing it.
pub(crate) fn execute(db: &Database, ops: &[Value], context: &Context<'_>) -> Executed {
    let mut run = Run {
        txn: Txn::new(db),
        symbols: Symbols::new(),
        named: HashSet::new(),
        context,
    };
    let mut results = Vec::with_capacity(ops.len() + 1);
    for (i, op) in ops.iter().enumerate() {
        let result = if i >= MAX_OPERATIONS {
            Err(Stop::Error(OvsdbError::new(
                "resources exhausted",
                format!("a transaction may have {MAX_OPERATIONS} operations at most"),
            )))
        } else {
            run.operation(op)
        };
        match result {
            Ok(v) => results.push(v),
            Err(Stop::Wait(how_long)) => return Executed::Wait(how_long),
            Err(Stop::Error(mut e)) => {
                if let Some(rest) = e.details.strip_prefix("Parsing ovsdb operation failed: ") {
                    e.details = format!(
                        "Parsing ovsdb operation {} of {} failed: {rest}",
                        i + 1,
                        ops.len()
                    );
                }
                results.push(e.to_json());
                results.resize(ops.len(), Value::Null);
                return Executed::Failed(results);
            }
        }
    }
    match run.txn.commit() {
        Ok(commit) => Executed::Done(results, commit),
        Err(e) => {
            results.push(e.to_json());
            Executed::Failed(results)
        }
    }
}

struct Run<'a> {
    txn: Txn<'a>,
    symbols: Symbols,
    named: HashSet<String>,
    context: &'a Context<'a>,
}

/// `["uuid", ..]`.
fn uuid_json(u: Uuid) -> Value {
    json!(["uuid", u.to_string()])
}

fn row_json(columns: &[Column], row: &DbRow) -> Map<String, Value> {
    columns
        .iter()
        .map(|c| (c.name().to_owned(), c.with(row, Datum::to_json)))
        .collect()
}

impl<'a> Run<'a> {
    fn operation(&mut self, json: &Value) -> Result<Value, Stop> {
        let mut m = Members::new(json, "ovsdb operation")?;
        let op = m.need_id("op")?;
        let done = match op {
            "insert" => self.insert(m)?,
            "select" => self.select(m)?,
            "update" => self.update(m, json)?,
            "mutate" => self.mutate(m)?,
            "delete" => self.delete(m)?,
            "wait" => self.wait(m)?,
            "commit" => {
                let durable = m.need_typed("durable", Value::is_boolean)?;
                m.finish()?;
                self.txn.durable |= *durable == Value::Bool(true);
                json!({})
            }
            "abort" => {
                m.finish()?;
                return Err(OvsdbError::new("aborted", "aborted by request").into());
            }
            "comment" => {
                let text = m.need_string("comment")?;
                m.finish()?;
                if !self.txn.comment.is_empty() {
                    self.txn.comment.push('\n');
                }
                self.txn.comment.push_str(text);
                json!({})
            }
            "assert" => {
                let lock = m.need_id("lock")?;
                m.finish()?;
                if !(self.context.owns_lock)(lock) {
                    let text = format!("Asserted lock {lock} not held.");
                    return Err(OvsdbError::new("not owner", text).into());
                }
                json!({})
            }
            other => m.fail(format!("No operation \"{other}\""))?,
        };
        let changes = matches!(op, "insert" | "update" | "mutate" | "delete" | "commit");
        let name = &self.txn.db.schema.name;
        if changes && name.starts_with('_') && !self.context.internal {
            return Err(OvsdbError::new(
                "not allowed",
                format!("{op} operation not allowed on table in reserved database {name}"),
            )
            .into());
        }
        Ok(done)
    }

    fn table(&self, m: &mut Members<'_>) -> Result<(usize, Arc<TableSchema>), OvsdbError> {
        let name = m.need_id("table")?;
        match self.txn.db.positions.get(name) {
            Some(&i) => Ok((i, self.txn.db.tables[i].schema.clone())),
            None => m.fail(format!("No table named {name}.")),
        }
    }

    fn condition(&mut self, t: &TableSchema, json: &Value) -> Result<Condition, OvsdbError> {
        let c = Condition::parse(t, json, Some(&mut self.symbols))?;
        if c.always {
            // `true` among clauses that must all hold changes nothing.
            return Ok(Condition { always: false, ..c });
        }
        Ok(c)
    }

    /// Reads a `<row>`: named columns and their values.
    fn row(&mut self, t: &TableSchema, json: &Value) -> Result<Vec<(Column, Datum)>, OvsdbError> {
        let map = json
            .as_object()
            .ok_or_else(|| OvsdbError::syntax(json, "row must be JSON object"))?;
        let mut out = Vec::with_capacity(map.len());
        for (name, value) in map {
            let column = Column::find(t, name).ok_or_else(|| unknown_column(t, name).at(json))?;
            let datum = match &column {
                Column::Named(c) => Datum::from_json_named(&c.ty, value, &mut self.symbols)?,
                other => Datum::from_json_named(&other.ty(), value, &mut self.symbols)?,
            };
            out.push((column, datum));
        }
        Ok(out)
    }

    fn insert(&mut self, mut m: Members<'_>) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m)?;
        let uuid_given = m.typed("uuid", Value::is_string)?;
        let uuid_name = m.typed("uuid-name", |v| v.as_str().is_some_and(is_id))?;
        let row_json = m.need_typed("row", Value::is_object)?;
        m.finish()?;
        let mut uuid = None;
        if let Some(json) = uuid_given {
            let u = json
                .as_str()
                .and_then(parse_uuid)
                .ok_or_else(|| OvsdbError::syntax(json, "bad uuid"))?;
            if self.txn.known(table, &u) {
                return Err(OvsdbError::new("duplicate uuid", "This UUID would duplicate a UUID already present within the table or deleted within the same transaction.").at(json).into());
            }
            uuid = Some(u);
        }
        if let Some(json) = uuid_name {
            let name = json.as_str().unwrap_or_default().to_owned();
            if !self.named.insert(name.clone()) {
                return Err(OvsdbError::new(
                    "duplicate uuid-name",
                    "This \"uuid-name\" appeared on an earlier \"insert\" operation.",
                )
                .at(json)
                .into());
            }
            match uuid {
                Some(u) => _ = self.symbols.insert(name, u),
                // An earlier operation may have spoken of the row.
                None => uuid = Some(*self.symbols.entry(name).or_insert_with(Uuid::new_v4)),
            }
        }
        let uuid = uuid.unwrap_or_else(Uuid::new_v4);
        let row = self.row(&t, row_json)?;
        let db_table = &self.txn.db.tables[table];
        let mut cells = db_table.defaults.clone();
        for i in &db_table.bad_defaults {
            let c = &t.column_list[*i];
            if row_json.get(&c.name).is_none() {
                c.ty.check(&cells[*i])?;
            }
        }
        for (column, datum) in row {
            if let Column::Named(c) = column {
                cells[c.index] = datum;
            }
        }
        self.txn.insert(table, uuid, cells);
        Ok(json!({"uuid": uuid_json(uuid)}))
    }

    fn columns(t: &TableSchema, json: Option<&Value>) -> Result<Vec<Column>, OvsdbError> {
        let Some(json) = json else {
            let mut all = vec![Column::Uuid, Column::Version];
            all.extend(t.column_list.iter().cloned().map(Column::Named));
            return Ok(all);
        };
        let list = json
            .as_array()
            .ok_or_else(|| OvsdbError::syntax(json, "array of distinct column names expected"))?;
        let mut out: Vec<Column> = Vec::with_capacity(list.len());
        for name in list {
            let c = name
                .as_str()
                .ok_or_else(|| OvsdbError::syntax(json, "array of distinct column names expected"))
                .and_then(|n| {
                    Column::find(t, n).ok_or_else(|| {
                        OvsdbError::syntax(json, format!("{n} is not a valid column name"))
                    })
                })?;
            if out.contains(&c) {
                return Err(OvsdbError::syntax(
                    json,
                    "array of distinct column names expected",
                ));
            }
            out.push(c);
        }
        Ok(out)
    }

    fn select(&mut self, mut m: Members<'_>) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m)?;
        let condition = m.need_typed("where", Value::is_array)?;
        let columns = m.typed("columns", Value::is_array)?;
        let sort = m.typed("sort", Value::is_array)?;
        m.finish()?;
        let condition = self.condition(&t, condition)?;
        let distinct = columns.is_some();
        let columns = Self::columns(&t, columns)?;
        let mut found = self.txn.find(table, &condition);
        if let Some(sort) = sort {
            let by = Self::columns(&t, Some(sort))?;
            let key = |u: &Uuid| -> Option<Vec<Datum>> {
                let row = self.txn.get(table, u)?;
                Some(by.iter().map(|c| c.with(row, Datum::clone)).collect())
            };
            found.sort_by_cached_key(key);
        }
        let mut rows: Vec<&DbRow> = found
            .iter()
            .filter_map(|u| self.txn.get(table, u))
            .map(|r| &**r)
            .collect();
        // Rows that look the same are told once (RFC 7047 5.2.2).
        if distinct && !columns.contains(&Column::Uuid) {
            let mut seen = HashSet::new();
            rows.retain(|r| {
                let cells: Vec<Datum> = columns.iter().map(|c| c.with(r, Datum::clone)).collect();
                seen.insert(cells)
            });
        }
        let rows: Vec<Value> = rows
            .into_iter()
            .map(|r| Value::Object(row_json(&columns, r)))
            .collect();
        Ok(json!({"rows": rows}))
    }

    fn update(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m)?;
        let condition = m.need_typed("where", Value::is_array)?;
        let row = m.need_typed("row", Value::is_object)?;
        m.finish()?;
        let cells = self.row(&t, row)?;
        for (column, _) in &cells {
            if !matches!(column, Column::Named(c) if c.mutable) {
                return Err(OvsdbError::constraint(format!(
                    "Cannot update immutable column {} in table {}.",
                    column.name(),
                    t.name
                ))
                .at(json)
                .into());
            }
        }
        let condition = self.condition(&t, condition)?;
        let found = self.txn.find(table, &condition);
        for uuid in &found {
            if let Some(row) = self.txn.change(table, uuid) {
                for (column, datum) in &cells {
                    if let Column::Named(c) = column {
                        row.cells[c.index] = datum.clone();
                    }
                }
            }
        }
        Ok(json!({"count": found.len()}))
    }

    fn mutate(&mut self, mut m: Members<'_>) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m)?;
        let condition = m.need_typed("where", Value::is_array)?;
        let list = m.need_typed("mutations", Value::is_array)?;
        m.finish()?;
        let mutations = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|j| Mutation::parse(&t, j, &mut self.symbols))
            .collect::<Result<Vec<_>, _>>()?;
        let condition = self.condition(&t, condition)?;
        let found = self.txn.find(table, &condition);
        for uuid in &found {
            if let Some(row) = self.txn.change(table, uuid) {
                for mutation in &mutations {
                    let i = mutation.column.index;
                    row.cells[i] = mutation.apply(&row.cells[i])?;
                }
            }
        }
        Ok(json!({"count": found.len()}))
    }

    fn delete(&mut self, mut m: Members<'_>) -> Result<Value, Stop> {
        let condition = m.need_typed("where", Value::is_array)?;
        let (table, t) = self.table(&mut m)?;
        m.finish()?;
        let condition = self.condition(&t, condition)?;
        let found = self.txn.find(table, &condition);
        for uuid in &found {
            self.txn.delete(table, *uuid);
        }
        Ok(json!({"count": found.len()}))
    }

    fn wait(&mut self, mut m: Members<'_>) -> Result<Value, Stop> {
        let timeout = m.typed("timeout", |v| json_integer(v).is_some())?;
        let condition = m.need_typed("where", Value::is_array)?;
        let columns = m.typed("columns", Value::is_array)?;
        let until = m.need_typed("until", Value::is_string)?;
        let rows = m.need_typed("rows", Value::is_array)?;
        let (table, t) = self.table(&mut m)?;
        m.finish()?;
        let timeout = timeout
            .map(|v| {
                json_integer(v)
                    .and_then(|ms| u64::try_from(ms).ok())
                    .map(Duration::from_millis)
                    .ok_or_else(|| OvsdbError::syntax(v, "timeout must be nonnegative"))
            })
            .transpose()?;
        let equal = match until.as_str() {
            Some("==") => true,
            Some("!=") => false,
            _ => {
                return Err(OvsdbError::syntax(until, "\"until\" must be \"==\" or \"!=\"").into());
            }
        };
        let condition = self.condition(&t, condition)?;
        let columns = Self::columns(&t, columns)?;
        let mut expected = HashSet::new();
        for r in rows.as_array().into_iter().flatten() {
            let given: BTreeMap<String, Datum> = self
                .row(&t, r)?
                .into_iter()
                .map(|(c, d)| (c.name().to_owned(), d))
                .collect();
            // A column not given has its default value, as in an inserted row.
            let cells: Vec<Datum> = columns
                .iter()
                .map(|c| {
                    given
                        .get(c.name())
                        .cloned()
                        .unwrap_or_else(|| c.ty().default_datum())
                })
                .collect();
            expected.insert(cells);
        }
        let actual: HashSet<Vec<Datum>> = self
            .txn
            .find(table, &condition)
            .iter()
            .filter_map(|u| self.txn.get(table, u))
            .map(|r| columns.iter().map(|c| c.with(r, Datum::clone)).collect())
            .collect();
        if (expected == actual) == equal {
            return Ok(json!({}));
        }
        match timeout {
            Some(t) if self.context.waited >= t => Err(OvsdbError::new(
                "timed out",
                if t.is_zero() {
                    "\"where\" clause test failed".to_owned()
                } else {
                    format!(
                        "\"wait\" timed out after {} ms",
                        self.context.waited.as_millis()
                    )
                },
            )
            .into()),
            Some(t) => Err(Stop::Wait(Some(t - self.context.waited))),
            None => Err(Stop::Wait(None)),
        }
    }
}
