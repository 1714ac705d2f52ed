//! The operations of `transact` (RFC 7047 5.2).

use std::collections::{BTreeMap, HashSet};
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
    /// No operation may change anything.
    pub(crate) read_only: bool,
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
        let mut m = Members::new(json, "ovsdb operation").map_err(|mut e| {
            e.syntax = None;
            e
        })?;
        let op = m
            .string("op")?
            .ok_or_else(|| parse_error(json, "Required 'op' member is missing."))?;
        if self.context.read_only
            && matches!(op.as_str(), "insert" | "update" | "mutate" | "delete")
        {
            return Err(OvsdbError::new(
                "not allowed",
                format!("{op} operation not allowed: this database is read-only"),
            )
            .into());
        }
        match op.as_str() {
            "insert" => self.insert(m, json),
            "select" => self.select(m, json),
            "update" => self.update(m, json),
            "mutate" => self.mutate(m, json),
            "delete" => self.delete(m, json),
            "wait" => self.wait(m, json),
            "commit" => {
                let durable = m
                    .boolean("durable")?
                    .ok_or_else(|| parse_error(json, "Required 'durable' member is missing."))?;
                m.finish()?;
                self.txn.durable |= durable;
                Ok(json!({}))
            }
            "abort" => {
                m.finish()?;
                Err(OvsdbError::new("aborted", "aborted by request").into())
            }
            "comment" => {
                let text = m
                    .string("comment")?
                    .ok_or_else(|| parse_error(json, "Required 'comment' member is missing."))?;
                m.finish()?;
                if !self.txn.comment.is_empty() {
                    self.txn.comment.push('\n');
                }
                self.txn.comment.push_str(&text);
                Ok(json!({}))
            }
            "assert" => {
                let lock = m
                    .string("lock")?
                    .ok_or_else(|| parse_error(json, "Required 'lock' member is missing."))?;
                m.finish()?;
                if (self.context.owns_lock)(&lock) {
                    Ok(json!({}))
                } else {
                    Err(
                        OvsdbError::new("not owner", format!("Asserted lock {lock} not held."))
                            .into(),
                    )
                }
            }
            other => Err(parse_error(json, &format!("No operation \"{other}\"")).into()),
        }
    }

    fn table<'m>(
        &self,
        m: &mut Members<'m>,
        json: &Value,
    ) -> Result<(usize, std::sync::Arc<TableSchema>), OvsdbError> {
        let name = m
            .string("table")?
            .ok_or_else(|| parse_error(json, "Required 'table' member is missing."))?;
        match self.txn.db.positions.get(&name) {
            Some(&i) => Ok((i, self.txn.db.tables[i].schema.clone())),
            None => Err(parse_error(json, &format!("No table named {name}."))),
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

    fn insert(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m, json)?;
        let uuid_json_given = m.take("uuid").cloned();
        let name_json = m.take("uuid-name").cloned();
        let row_value = m.need("row")?;
        m.finish()?;
        let mut uuid = None;
        if let Some(given) = &uuid_json_given {
            let u = given
                .as_str()
                .and_then(parse_uuid)
                .ok_or_else(|| parse_error(json, "Type mismatch for member 'uuid'."))?;
            if self.txn.known(table, &u) {
                return Err(OvsdbError::new("duplicate uuid", "This UUID would duplicate a UUID already present within the table or deleted within the same transaction.").at(given).into());
            }
            uuid = Some(u);
        }
        if let Some(name_json) = &name_json {
            let name = name_json
                .as_str()
                .filter(|n| is_id(n))
                .ok_or_else(|| parse_error(json, "Type mismatch for member 'uuid-name'."))?;
            if !self.named.insert(name.to_owned()) {
                return Err(OvsdbError::new(
                    "duplicate uuid-name",
                    "This \"uuid-name\" appeared on an earlier \"insert\" operation.",
                )
                .at(name_json)
                .into());
            }
            match uuid {
                // A row named before it is inserted has got its UUID already.
                Some(u) => {
                    if self
                        .symbols
                        .insert(name.to_owned(), u)
                        .is_some_and(|old| old != u)
                    {
                        return Err(OvsdbError::syntax(
                            json,
                            format!("row \"{name}\" was referred to before its \"uuid\" was given"),
                        )
                        .into());
                    }
                }
                None => {
                    uuid = Some(
                        *self
                            .symbols
                            .entry(name.to_owned())
                            .or_insert_with(Uuid::new_v4),
                    );
                }
            }
        }
        let uuid = uuid.unwrap_or_else(Uuid::new_v4);
        let db_table = &self.txn.db.tables[table];
        let mut cells = db_table.defaults.clone();
        for i in &db_table.bad_defaults {
            let c = &t.column_list[*i];
            if row_value.get(&c.name).is_none() {
                c.ty.check(&cells[*i])?;
            }
        }
        for (column, datum) in self.row(&t, row_value)? {
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

    fn select(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m, json)?;
        let condition = m.need("where")?;
        let columns = m.take("columns");
        m.finish()?;
        let condition = self.condition(&t, condition)?;
        let columns = Self::columns(&t, columns)?;
        let rows: Vec<Value> = self
            .txn
            .find(table, &condition)
            .iter()
            .filter_map(|u| self.txn.get(table, u))
            .map(|r| Value::Object(row_json(&columns, r)))
            .collect();
        Ok(json!({"rows": rows}))
    }

    fn update(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m, json)?;
        let condition = m.need("where")?;
        let row = m.need("row")?;
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

    fn mutate(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m, json)?;
        let condition = m.need("where")?;
        let list = m.need("mutations")?;
        m.finish()?;
        let list = list
            .as_array()
            .ok_or_else(|| parse_error(json, "Type mismatch for member 'mutations'."))?;
        let mutations = list
            .iter()
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

    fn delete(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m, json)?;
        let condition = m.need("where")?;
        m.finish()?;
        let condition = self.condition(&t, condition)?;
        let found = self.txn.find(table, &condition);
        for uuid in &found {
            self.txn.delete(table, *uuid);
        }
        Ok(json!({"count": found.len()}))
    }

    fn wait(&mut self, mut m: Members<'_>, json: &Value) -> Result<Value, Stop> {
        let (table, t) = self.table(&mut m, json)?;
        let timeout = match m.take("timeout") {
            None => None,
            Some(v) => {
                let ms = json_integer(v)
                    .ok_or_else(|| parse_error(json, "Type mismatch for member 'timeout'."))?;
                Some(
                    u64::try_from(ms)
                        .map(Duration::from_millis)
                        .map_err(|_| OvsdbError::syntax(json, "timeout must be nonnegative"))?,
                )
            }
        };
        let condition = m.need("where")?;
        let columns = m.take("columns");
        let until = m.need("until")?;
        let rows = m.need("rows")?;
        m.finish()?;
        let equal = match until.as_str() {
            Some("==") => true,
            Some("!=") => false,
            _ => {
                return Err(OvsdbError::syntax(json, "\"until\" must be \"==\" or \"!=\"").into());
            }
        };
        let condition = self.condition(&t, condition)?;
        let columns = Self::columns(&t, columns)?;
        let list = rows
            .as_array()
            .ok_or_else(|| parse_error(json, "Type mismatch for member 'rows'."))?;
        let mut expected = HashSet::new();
        for r in list {
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
                    format!("\"wait\" timed out after {} ms", t.as_millis())
                },
            )
            .into()),
            Some(t) => Err(Stop::Wait(Some(t - self.context.waited))),
            None => Err(Stop::Wait(None)),
        }
    }
}

fn parse_error(json: &Value, text: &str) -> OvsdbError {
    OvsdbError::syntax(json, format!("Parsing ovsdb operation failed: {text}"))
}
