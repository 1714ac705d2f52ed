//! Monitors: which changes a client is told, and how (RFC 7047 4.1.5 and 4.1.6, ovsdb-server(7)
//! 4.1.12 to 4.1.15).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::condition::{Column, Condition};
use crate::database::{Commit, Database, DbRow};
use crate::error::OvsdbError;
use crate::schema::Members;
use crate::value::write_json_string;

/// Kinds of changes, as bits of a mask (`<monitor-select>`).
const INITIAL: u8 = 1;
const INSERT: u8 = 2;
const DELETE: u8 = 4;
const MODIFY: u8 = 8;

/// What is told of one table.
#[derive(Debug)]
struct Watch {
    /// Each with the kinds of changes it is told in.
    columns: Vec<(Column, u8)>,
    /// All kinds in `columns`.
    kinds: u8,
    condition: Condition,
}

/// One client's monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// The name the client gave it.
    pub(crate) id: Value,
    /// Name of the database.
    pub(crate) db: String,
    /// 1 for `monitor`, 2 for `monitor_cond`, 3 for `monitor_cond_since`.
    pub(crate) version: u8,
    tables: BTreeMap<usize, Watch>,
}

fn member(text: &mut String, first: &mut bool) {
    if *first {
        *first = false;
    } else {
        text.push(',');
    }
}

impl Watch {
    fn matches(&self, row: Option<&DbRow>) -> bool {
        row.is_some_and(|r| self.condition.any(r))
    }

    /// Appends the members of a row object: columns told in changes of `kind`.
    fn cells(
        &self,
        db: &Database,
        table: usize,
        row: &DbRow,
        kind: u8,
        defaults: bool,
        out: &mut String,
    ) {
        out.push('{');
        let mut first = true;
        for (column, kinds) in &self.columns {
            if kinds & kind == 0 {
                continue;
            }
            if let Column::Named(c) = column
                && !defaults
                && row.cells[c.index] == db.tables[table].defaults[c.index]
            {
                continue;
            }
            member(out, &mut first);
            _ = write!(out, "\"{}\":", column.name());
            column.with(row, |d| d.write_json(out));
        }
        out.push('}');
    }

    /// Appends a `<row-update>`; false if there is nothing to tell.
    fn update1(
        &self,
        db: &Database,
        table: usize,
        old: Option<&DbRow>,
        new: Option<&DbRow>,
        initial: bool,
        out: &mut String,
    ) -> bool {
        match (old, new) {
            (None, None) => return false,
            (None, Some(new)) => {
                let kind = if initial { INITIAL } else { INSERT };
                if self.kinds & kind == 0 {
                    return false;
                }
                out.push_str("{\"new\":");
                self.cells(db, table, new, kind, true, out);
            }
            (Some(old), None) => {
                if self.kinds & DELETE == 0 {
                    return false;
                }
                out.push_str("{\"old\":");
                self.cells(db, table, old, DELETE, true, out);
            }
            (Some(old), Some(new)) => {
                if !self.changed(old, new) {
                    return false;
                }
                out.push_str("{\"old\":{");
                let mut first = true;
                for (column, kinds) in &self.columns {
                    if kinds & MODIFY != 0 && !same(column, old, new) {
                        member(out, &mut first);
                        _ = write!(out, "\"{}\":", column.name());
                        column.with(old, |d| d.write_json(out));
                    }
                }
                out.push_str("},\"new\":");
                self.cells(db, table, new, MODIFY, true, out);
            }
        }
        out.push('}');
        true
    }

    /// True where a column besides `_version` differs that is told in modifications.
    fn changed(&self, old: &DbRow, new: &DbRow) -> bool {
        self.columns
            .iter()
            .any(|(c, kinds)| kinds & MODIFY != 0 && *c != Column::Version && !same(c, old, new))
    }

    /// Appends a `<row-update2>`; false if there is nothing to tell.
    fn update2(
        &self,
        db: &Database,
        table: usize,
        old: Option<&DbRow>,
        new: Option<&DbRow>,
        initial: bool,
        out: &mut String,
    ) -> bool {
        match (old, new) {
            (None, None) => return false,
            (None, Some(new)) => {
                let (kind, name) = if initial {
                    (INITIAL, "initial")
                } else {
                    (INSERT, "insert")
                };
                if self.kinds & kind == 0 {
                    return false;
                }
                _ = write!(out, "{{\"{name}\":");
                self.cells(db, table, new, kind, false, out);
            }
            (Some(_), None) => {
                if self.kinds & DELETE == 0 {
                    return false;
                }
                out.push_str("{\"delete\":null");
            }
            (Some(old), Some(new)) => {
                if !self.changed(old, new) {
                    return false;
                }
                out.push_str("{\"modify\":{");
                let mut first = true;
                for (column, kinds) in &self.columns {
                    if kinds & MODIFY == 0 || same(column, old, new) {
                        continue;
                    }
                    member(out, &mut first);
                    _ = write!(out, "\"{}\":", column.name());
                    match column {
                        Column::Named(c) => new.cells[c.index]
                            .diff(&old.cells[c.index], &c.ty)
                            .write_json(out),
                        other => other.with(new, |d| d.write_json(out)),
                    }
                }
                out.push('}');
            }
        }
        out.push('}');
        true
    }
}

fn same(column: &Column, old: &DbRow, new: &DbRow) -> bool {
    match column {
        Column::Uuid => true,
        Column::Version => old.version == new.version,
        Column::Named(c) => old.cells[c.index] == new.cells[c.index],
    }
}

/// Builds `{"Table":{"uuid":...}}` from rows that come table by table.
struct Updates {
    text: String,
    table: Option<usize>,
    row_first: bool,
}

impl Updates {
    fn new() -> Self {
        Self {
            text: String::from("{"),
            table: None,
            row_first: true,
        }
    }

    fn row(
        &mut self,
        db: &Database,
        table: usize,
        uuid: crate::value::Uuid,
        write: impl FnOnce(&mut String) -> bool,
    ) {
        let back = self.text.len();
        let new_table = self.table != Some(table);
        if new_table {
            if self.table.is_some() {
                self.text.push_str("},");
            }
            _ = write!(self.text, "\"{}\":{{", db.tables[table].schema.name);
        } else if !self.row_first {
            self.text.push(',');
        }
        _ = write!(self.text, "\"{uuid}\":");
        if write(&mut self.text) {
            self.table = Some(table);
            self.row_first = false;
        } else {
            self.text.truncate(back);
        }
    }

    fn finish(mut self) -> Option<String> {
        self.table?;
        self.text.push_str("}}");
        Some(self.text)
    }
}

fn kinds(json: Option<&Value>) -> Result<u8, OvsdbError> {
    let Some(json) = json else {
        return Ok(INITIAL | INSERT | DELETE | MODIFY);
    };
    let mut m = Members::new(json, "monitor select")?;
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

impl Monitor {
    /// Reads `<monitor-requests>` or `<monitor-cond-requests>`.
    pub(crate) fn parse(
        database: &Database,
        db: &str,
        id: Value,
        version: u8,
        requests: &Value,
    ) -> Result<Self, OvsdbError> {
        let map = requests
            .as_object()
            .ok_or_else(|| OvsdbError::syntax(requests, "<monitor-requests> must be an object"))?;
        let mut tables = BTreeMap::new();
        for (name, json) in map {
            let Some(&index) = database.positions.get(name) else {
                return Err(OvsdbError::new(
                    "syntax error",
                    format!("no table named {name}"),
                ));
            };
            let t = &database.tables[index].schema;
            let mut watch = Watch {
                columns: Vec::new(),
                kinds: 0,
                condition: Condition::default(),
            };
            // One request, or an array of them (RFC 7047 4.1.5; old clients send one).
            let list = match json {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            let mut conditions = Vec::new();
            for request in list {
                let mut m = Members::new(request, "monitor request")?;
                let columns = m.take("columns");
                let select = m.take("select");
                let condition = if version > 1 { m.take("where") } else { None };
                m.finish()?;
                let kinds = kinds(select)?;
                watch.kinds |= kinds;
                let named: Vec<Column> = match columns {
                    None => std::iter::once(Column::Version)
                        .chain(t.column_list.iter().cloned().map(Column::Named))
                        .collect(),
                    Some(json) => {
                        let names = json.as_array().ok_or_else(|| {
                            OvsdbError::syntax(json, "array of column names expected")
                        })?;
                        let mut out = Vec::with_capacity(names.len());
                        for n in names {
                            let name = n.as_str().unwrap_or_default();
                            out.push(Column::find(t, name).ok_or_else(|| {
                                OvsdbError::syntax(
                                    json,
                                    format!("{name} is not a valid column name"),
                                )
                            })?);
                        }
                        out
                    }
                };
                for c in named {
                    if watch.columns.iter().any(|(have, _)| *have == c) {
                        return Err(OvsdbError::new(
                            "syntax error",
                            format!("column {} mentioned more than once", c.name()),
                        ));
                    }
                    watch.columns.push((c, kinds));
                }
                if let Some(json) = condition {
                    conditions.push(Condition::parse(t, json, None)?);
                } else {
                    conditions.push(Condition::default());
                }
            }
            watch.condition = merge(conditions);
            tables.insert(index, watch);
        }
        Ok(Self {
            id,
            db: db.into(),
            version,
            tables,
        })
    }

    #[allow(clippy::too_many_arguments)] // a change and where to write it; a struct would say no more
    fn row_update(
        &self,
        watch: &Watch,
        db: &Database,
        table: usize,
        old: Option<&DbRow>,
        new: Option<&DbRow>,
        initial: bool,
        out: &mut String,
    ) -> bool {
        let old = old.filter(|r| watch.matches(Some(r)));
        let new = new.filter(|r| watch.matches(Some(r)));
        if self.version == 1 {
            watch.update1(db, table, old, new, initial, out)
        } else {
            watch.update2(db, table, old, new, initial, out)
        }
    }

    /// The rows there are now, as `<table-updates>`.
    pub(crate) fn initial(&self, db: &Database) -> String {
        let mut updates = Updates::new();
        for (table, watch) in &self.tables {
            if watch.kinds & INITIAL == 0 {
                continue;
            }
            for row in db.tables[*table].rows.values() {
                updates.row(db, *table, row.uuid, |out| {
                    self.row_update(watch, db, *table, None, Some(row), true, out)
                });
            }
        }
        updates.finish().unwrap_or_else(|| "{}".into())
    }

    /// The notification about a commit, if it concerns this monitor. `commit`'s changes are
    /// sorted by table.
    pub(crate) fn update(&self, db: &Database, commit: &Commit) -> Option<String> {
        let mut updates = Updates::new();
        for ch in &commit.changes {
            if let Some(watch) = self.tables.get(&ch.table) {
                updates.row(db, ch.table, ch.uuid, |out| {
                    self.row_update(
                        watch,
                        db,
                        ch.table,
                        ch.old.as_deref(),
                        ch.new.as_deref(),
                        false,
                        out,
                    )
                });
            }
        }
        Some(self.notification(db, &updates.finish()?))
    }

    fn notification(&self, db: &Database, updates: &str) -> String {
        let method = ["update", "update2", "update3"][usize::from(self.version.clamp(1, 3)) - 1];
        let mut out = format!(
            "{{\"id\":null,\"method\":\"{method}\",\"params\":[{}",
            self.id
        );
        if self.version == 3 {
            out.push(',');
            write_json_string(&db.last_txn.to_string(), &mut out);
        }
        _ = write!(out, ",{updates}]}}");
        out
    }

    /// Takes new conditions (`monitor_cond_change`) and tells what comes and goes by them.
    pub(crate) fn change(
        &mut self,
        db: &Database,
        requests: &Value,
    ) -> Result<Option<String>, OvsdbError> {
        let map = requests.as_object().ok_or_else(|| {
            OvsdbError::syntax(requests, "<monitor-cond-update-requests> must be an object")
        })?;
        let mut changed = BTreeMap::new();
        for (name, json) in map {
            let index = db.positions.get(name).copied();
            let Some((index, _)) = index.and_then(|i| Some((i, self.tables.get(&i)?))) else {
                return Err(OvsdbError::new(
                    "syntax error",
                    format!("no table named {name} in this monitor"),
                ));
            };
            let list = match json {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            let mut conditions = Vec::new();
            for request in list {
                let mut m = Members::new(request, "monitor condition")?;
                let condition = m.take("where");
                // Columns cannot change; clients may repeat them.
                m.take("columns");
                m.finish()?;
                conditions.push(match condition {
                    Some(json) => Condition::parse(&db.tables[index].schema, json, None)?,
                    None => Condition::default(),
                });
            }
            changed.insert(index, merge(conditions));
        }
        let mut updates = Updates::new();
        for (table, condition) in changed {
            let Some(watch) = self.tables.get_mut(&table) else {
                continue;
            };
            let old = std::mem::replace(&mut watch.condition, condition);
            for row in db.tables[table].rows.values() {
                let (before, after) = (old.any(row), watch.condition.any(row));
                if before != after {
                    updates.row(db, table, row.uuid, |out| {
                        let row: Option<&DbRow> = Some(row);
                        let (old, new) = if after { (None, row) } else { (row, None) };
                        watch.update2(db, table, old, new, false, out)
                    });
                }
            }
        }
        Ok(updates.finish().map(|u| self.notification(db, &u)))
    }
}

/// Several requests for one table: a row is told if one of their conditions wants it.
fn merge(mut conditions: Vec<Condition>) -> Condition {
    if conditions.len() == 1 {
        return conditions.remove(0);
    }
    let mut out = Condition {
        never: true,
        ..Condition::default()
    };
    for c in conditions {
        out.always |= c.always || (c.clauses.is_empty() && !c.never);
        out.clauses.extend(c.clauses);
    }
    out
}
