//! Monitors: which changes clients are told, and how (RFC 7047 4.1.5 and 4.1.6, ovsdb-server(7)
//! 4.1.12 to 4.1.15).
//!
//! What a monitor shows is a [`View`]: tables, columns, kinds of changes, conditions. Many clients
//! ask for the same, so views are shared: [`Watchers`] keeps each one once, with those who follow it,
//! and an update is encoded once per view. A commit costs the changed rows for each different view of
//! the changed tables, and for each follower a few pointers.

mod update;
mod watchers;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::condition::{Column, Condition};
use crate::database::{Database, RowChange};
use crate::error::OvsdbError;
use crate::schema::{Members, TableSchema};
use update::Updates;
pub(crate) use watchers::{Follower, ViewId, Watchers, with_txn};

/// Kinds of changes, as bits of a mask (`<monitor-select>`).
const INITIAL: u8 = 1;
const INSERT: u8 = 2;
const DELETE: u8 = 4;
const MODIFY: u8 = 8;

/// How rows are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Old and new values, as `monitor` wants them.
    Full,
    /// What is to be changed in the old values, as `monitor_cond` and its successors want it.
    Delta,
}

/// What is told of one table.
#[derive(Debug, Clone)]
struct Watch {
    /// Each with the kinds of changes it is told in.
    columns: Vec<(Column, u8)>,
    /// All kinds in `columns`, or in a request without columns.
    kinds: u8,
    condition: Condition,
}

/// What a monitor shows of a database.
#[derive(Debug, Clone)]
pub(crate) struct View {
    form: Form,
    /// By the position of the table.
    tables: BTreeMap<usize, Watch>,
}

/// Reads `<monitor-select>`.
fn kinds(table: &str, json: Option<&Value>) -> Result<u8, OvsdbError> {
    let Some(json) = json else {
        return Ok(INITIAL | INSERT | DELETE | MODIFY);
    };
    let mut m = Members::new(json, format!("table {table} select"))?;
    let mut out = 0;
    for (name, bit) in [
        ("initial", INITIAL),
        ("insert", INSERT),
        ("delete", DELETE),
        ("modify", MODIFY),
    ] {
        if m.boolean(name)?.unwrap_or(true) {
            out |= bit;
        }
    }
    m.finish()?;
    Ok(out)
}

/// The columns of a request, all with `_version` where it names none.
fn columns(t: &TableSchema, json: Option<&Value>) -> Result<Vec<Column>, OvsdbError> {
    let Some(json) = json else {
        let named = t.column_list.iter().cloned().map(Column::Named);
        return Ok(std::iter::once(Column::Version).chain(named).collect());
    };
    json.as_array()
        .into_iter()
        .flatten()
        .map(|n| {
            let name = n
                .as_str()
                .ok_or_else(|| OvsdbError::syntax(json, "array of column names expected"))?;
            Column::find(t, name).ok_or_else(|| {
                OvsdbError::syntax(json, format!("{name} is not a valid column name"))
            })
        })
        .collect()
}

/// One request, or an array of them (RFC 7047 4.1.5; old clients send one).
fn requests(json: &Value) -> &[Value] {
    match json {
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

impl Watch {
    /// Reads the requests for one table. Of several conditions the first counts, as in OVS.
    fn parse(t: &TableSchema, form: Form, json: &Value) -> Result<Self, OvsdbError> {
        let mut watch = Watch {
            columns: Vec::new(),
            kinds: 0,
            condition: Condition::default(),
        };
        for (i, request) in requests(json).iter().enumerate() {
            let mut m = Members::new(request, format!("table {}", t.name))?;
            let columns_json = m.typed("columns", Value::is_array)?;
            let select = m.typed("select", Value::is_object)?;
            let condition = match form {
                Form::Full => None,
                Form::Delta => m.typed("where", Value::is_array)?,
            };
            m.finish()?;
            let kinds = kinds(&t.name, select)?;
            watch.kinds |= kinds;
            for c in columns(t, columns_json)? {
                if watch.columns.iter().any(|(have, _)| *have == c) {
                    let text = format!("column {} mentioned more than once", c.name());
                    return Err(match columns_json {
                        Some(json) => OvsdbError::syntax(json, text),
                        None => OvsdbError::new("syntax error", text),
                    });
                }
                watch.columns.push((c, kinds));
            }
            if let Some(json) = condition {
                let condition = Condition::parse(t, json, None)?;
                if i == 0 {
                    watch.condition = condition;
                }
            }
        }
        Ok(watch)
    }
}

impl View {
    /// Reads `<monitor-requests>` or `<monitor-cond-requests>`.
    pub(crate) fn parse(db: &Database, form: Form, json: &Value) -> Result<Self, OvsdbError> {
        let map = json
            .as_object()
            .ok_or_else(|| OvsdbError::syntax(json, "monitor-requests must be object"))?;
        let mut tables = BTreeMap::new();
        for (name, json) in map {
            let Some(&index) = db.positions.get(name) else {
                return Err(no_table(name, ""));
            };
            let watch = Watch::parse(&db.tables[index].schema, form, json)?;
            tables.insert(index, watch);
        }
        Ok(Self { form, tables })
    }

    /// This view with the new conditions of `<monitor-cond-update-requests>`; without conditions
    /// (made by `monitor`) it stays as it is.
    pub(crate) fn with_conditions(&self, db: &Database, json: &Value) -> Result<Self, OvsdbError> {
        let map = json.as_object().ok_or_else(|| {
            OvsdbError::new(
                "syntax error",
                "monitor-cond-change-requests must be object",
            )
        })?;
        let mut view = self.clone();
        for (name, json) in map {
            let Some(index) = db.positions.get(name) else {
                return Err(no_table(name, ""));
            };
            let Some(watch) = view.tables.get_mut(index) else {
                return Err(no_table(name, " in monitor session"));
            };
            let Some(list) = json.as_array() else {
                return Err(OvsdbError::new(
                    "syntax error",
                    format!("table {name} no monitor-cond-change JSON array"),
                ));
            };
            for request in list {
                let mut m = Members::new(request, format!("table {name}"))?;
                let columns = m.typed("columns", Value::is_array)?;
                let condition = m.need_typed("where", Value::is_array)?;
                m.finish()?;
                if columns.is_some() {
                    return Err(OvsdbError::syntax(
                        request,
                        "changing columns is unsupported",
                    ));
                }
                let condition = Condition::parse(&db.tables[*index].schema, condition, None)?;
                if self.form == Form::Delta {
                    watch.condition = condition;
                }
            }
        }
        Ok(view)
    }

    /// A text that is the same for views that show the same.
    fn key(&self) -> String {
        let mut out = format!("{:?}", self.form);
        for (table, watch) in &self.tables {
            _ = write!(out, ";{table}/{}:", watch.kinds);
            for (column, kinds) in &watch.columns {
                _ = write!(out, "{}/{kinds},", column.name());
            }
            watch.condition.write_key(&mut out);
        }
        out
    }

    /// The positions of its tables.
    fn tables(&self) -> impl Iterator<Item = usize> + '_ {
        self.tables.keys().copied()
    }

    /// The rows there are now, as `<table-updates>`.
    fn initial(&self, db: &Database) -> String {
        let mut updates = Updates::new();
        for (&table, watch) in &self.tables {
            if watch.kinds & INITIAL == 0 {
                continue;
            }
            for row in db.tables[table].rows.values() {
                updates.row(db, table, row.uuid, |out| {
                    watch.row_update(self.form, db, table, None, Some(row), true, out)
                });
            }
        }
        updates.finish().unwrap_or_else(|| "{}".into())
    }

    /// The `<table-updates>` about changes that are sorted by table, `None` where they do not
    /// concern this view.
    pub(crate) fn update(&self, db: &Database, changes: &[RowChange]) -> Option<String> {
        let mut updates = Updates::new();
        for ch in changes {
            let Some(watch) = self.tables.get(&ch.table) else {
                continue;
            };
            let (old, new) = (ch.old.as_deref(), ch.new.as_deref());
            updates.row(db, ch.table, ch.uuid, |out| {
                watch.row_update(self.form, db, ch.table, old, new, false, out)
            });
        }
        updates.finish()
    }

    /// What comes and goes when this view's conditions become those of `new`.
    pub(crate) fn transition(&self, new: &View, db: &Database) -> Option<String> {
        let mut updates = Updates::new();
        for (&table, watch) in &self.tables {
            let Some(next) = new.tables.get(&table) else {
                continue;
            };
            if watch.condition == next.condition {
                continue;
            }
            for row in db.tables[table].rows.values() {
                let (before, after) = (watch.condition.any(row), next.condition.any(row));
                if before != after {
                    updates.row(db, table, row.uuid, |out| {
                        let row = Some(&**row);
                        let (old, new) = if after { (None, row) } else { (row, None) };
                        watch.delta(db, table, old, new, false, out)
                    });
                }
            }
        }
        updates.finish()
    }
}

fn no_table(name: &str, place: &str) -> OvsdbError {
    OvsdbError::new("syntax error", format!("no table named {name}{place}"))
}
