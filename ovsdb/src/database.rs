//! The rows of one database in memory.
//!
//! Rows are shared by `Arc`: a transaction works on an overlay of changed rows (see
//! `txn`), monitors and the journal look at old and new rows side by side, and nothing is
//! copied but the rows that change. Beside the rows each table keeps what makes commits cost only
//! what they change: a hash index per unique index of the schema, the number of strong references
//! to each row, and the rows that refer to each row weakly.

mod lookup;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::OvsdbError;
use crate::schema::{BaseType, DatabaseSchema, TableSchema};
use crate::value::{Atom, Datum, Uuid, parse_uuid};
use lookup::Lookups;

/// A row: its cells are in the order of the table's columns by name.
#[derive(Debug, Clone, PartialEq)]
pub struct DbRow {
    /// Its name.
    pub uuid: Uuid,
    /// Changes whenever the row does (RFC 7047 3.2, `_version`).
    pub version: Uuid,
    /// Its values by column index.
    pub cells: Vec<Datum>,
}

/// One row's change in a commit. Not both are `None`.
#[derive(Debug, Clone)]
pub struct RowChange {
    /// The table's position.
    pub table: usize,
    /// The row.
    pub uuid: Uuid,
    /// Before; `None` for a new row.
    pub old: Option<Arc<DbRow>>,
    /// After; `None` for a deleted row.
    pub new: Option<Arc<DbRow>>,
}

/// What a committed transaction did.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The changed rows.
    pub changes: Vec<RowChange>,
    /// Its comments, joined by line ends.
    pub comment: String,
    /// It asked for durability by itself (RFC 7047 5.2.7).
    pub durable: bool,
}

/// The members of a record of the journal, by name, as texts.
pub(crate) type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Takes an object of rows by UUID into a table, one after the other.
struct RowsInto<'a> {
    db: &'a mut Database,
    table: usize,
    is_diff: bool,
    /// What does not fit the schema.
    failed: &'a mut Option<OvsdbError>,
}

impl<'de> DeserializeSeed<'de> for RowsInto<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowsInto<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of rows by UUID")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some((uuid, row)) = rows.next_entry::<Cow<'de, str>, Value>()? {
            if let Err(e) = self.db.load_row(self.table, &uuid, &row, self.is_diff) {
                let text = e.to_string();
                *self.failed = Some(e);
                return Err(A::Error::custom(text));
            }
        }
        Ok(())
    }
}

/// The values of an index's columns.
pub(crate) type IndexKey = Box<[Datum]>;

#[derive(Debug, Clone)]
pub(crate) struct DbTable {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) rows: HashMap<Uuid, Arc<DbRow>>,
    /// One per index of the schema.
    pub(crate) indexes: Vec<HashMap<IndexKey, Uuid>>,
    /// How many strong references each row has.
    pub(crate) strong: HashMap<Uuid, usize>,
    /// Which rows (table, row) refer to each row weakly.
    pub(crate) weak: HashMap<Uuid, Vec<(usize, Uuid)>>,
    /// Values of a row nobody has set anything in.
    pub(crate) defaults: Vec<Datum>,
    /// Columns whose default value their own constraints refuse: an insert must give them.
    pub(crate) bad_defaults: Vec<usize>,
    /// Rows by what columns hold that were asked for.
    pub(crate) lookups: Lookups,
    /// Columns with strong references, with weak references.
    pub(crate) strong_columns: Vec<usize>,
    pub(crate) weak_columns: Vec<usize>,
}

impl DbTable {
    pub(crate) fn key(&self, index: usize, row: &DbRow) -> IndexKey {
        self.schema.index_columns[index]
            .iter()
            .map(|c| row.cells[*c].clone())
            .collect()
    }
}

/// How much there is in a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Columns of all rows, `_uuid` and `_version` included.
    pub cells: usize,
    /// What is in them: a set counts for each element, a map for each key and value.
    pub atoms: usize,
}

/// A database.
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) schema: Arc<DatabaseSchema>,
    pub(crate) tables: Vec<DbTable>,
    /// Names of tables to positions.
    pub(crate) positions: HashMap<String, usize>,
    /// Name of the last commit, for `monitor_cond_since`.
    pub(crate) last_txn: Uuid,
    versions: u128,
}

/// Calls `f(table, uuid)` for every reference in `datum` of a column with base types `key` and
/// `value` that `kind` accepts.
pub(crate) fn each_ref(
    column: &crate::schema::ColumnSchema,
    datum: &Datum,
    kind: fn(&BaseType) -> bool,
    mut f: impl FnMut(usize, Uuid),
) {
    let ty = &column.ty;
    let mut one = |base: &BaseType, atom: &Atom| {
        if let Atom::Uuid(u) = atom {
            f(base.ref_index, *u);
        }
    };
    if kind(&ty.key) {
        for a in datum.iter() {
            one(&ty.key, a);
        }
        for (k, _) in datum.pairs() {
            one(&ty.key, k);
        }
    }
    if let Some(value) = ty.value.as_ref().filter(|v| kind(v)) {
        for (_, v) in datum.pairs() {
            one(value, v);
        }
    }
}

impl Database {
    /// An empty database.
    pub fn new(schema: DatabaseSchema) -> Self {
        let tables: Vec<DbTable> = schema
            .tables
            .values()
            .map(|t| {
                let with = |kind: fn(&BaseType) -> bool| {
                    t.column_list
                        .iter()
                        .filter(|c| kind(&c.ty.key) || c.ty.value.as_ref().is_some_and(kind))
                        .map(|c| c.index)
                        .collect()
                };
                DbTable {
                    bad_defaults: t
                        .column_list
                        .iter()
                        .filter(|c| c.ty.check(&c.ty.default_datum()).is_err())
                        .map(|c| c.index)
                        .collect(),
                    schema: t.clone(),
                    rows: HashMap::new(),
                    indexes: vec![HashMap::new(); t.indexes.len()],
                    strong: HashMap::new(),
                    weak: HashMap::new(),
                    defaults: t.column_list.iter().map(|c| c.ty.default_datum()).collect(),
                    lookups: Lookups::new(t.column_list.len()),
                    strong_columns: with(BaseType::is_strong),
                    weak_columns: with(BaseType::is_weak),
                }
            })
            .collect();
        let positions = tables
            .iter()
            .enumerate()
            .map(|(i, t)| (t.schema.name.clone(), i))
            .collect();
        Self {
            schema: Arc::new(schema),
            tables,
            positions,
            last_txn: Uuid::new_v4(),
            versions: Uuid::new_v4().as_u128(),
        }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// A fresh `_version`. They must differ, not be secret: random at start, then counted, which
    /// spares a system call per changed row.
    pub(crate) fn next_version(&mut self) -> Uuid {
        self.versions = self.versions.wrapping_add(1);
        uuid::Builder::from_random_bytes(self.versions.to_be_bytes()).into_uuid()
    }

    /// How many rows a table has.
    pub fn row_count(&self, table: &str) -> usize {
        self.positions
            .get(table)
            .map_or(0, |t| self.tables[*t].rows.len())
    }

    /// How many rows all tables have.
    pub fn total_rows(&self) -> usize {
        self.tables.iter().map(|t| t.rows.len()).sum()
    }

    /// What its tables hold. Looks at every row.
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        for row in self.tables.iter().flat_map(|t| t.rows.values()) {
            // Every row has the columns _uuid and _version, too.
            size.cells += row.cells.len() + 2;
            size.atoms += row.cells.iter().map(Datum::atom_count).sum::<usize>() + 2;
        }
        size
    }

    /// The rows of a table, in no particular order.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = &Arc<DbRow>> {
        self.positions
            .get(table)
            .into_iter()
            .flat_map(|t| self.tables[*t].rows.values())
    }

    /// A cell by the name of its column.
    pub fn cell<'a>(&self, table: &str, row: &'a DbRow, column: &str) -> Option<&'a Datum> {
        let t = &self.tables[*self.positions.get(table)?];
        row.cells.get(t.schema.columns.get(column)?.index)
    }

    fn count_strong(&mut self, table: usize, row: &DbRow, up: bool) {
        let schema = self.tables[table].schema.clone();
        for i in 0..self.tables[table].strong_columns.len() {
            let c = self.tables[table].strong_columns[i];
            each_ref(
                &schema.column_list[c],
                &row.cells[c],
                BaseType::is_strong,
                |t, u| Self::count(&mut self.tables[t].strong, u, up),
            );
        }
    }

    fn count(counts: &mut HashMap<Uuid, usize>, uuid: Uuid, up: bool) {
        if up {
            *counts.entry(uuid).or_default() += 1;
        } else if let Some(n) = counts.get_mut(&uuid) {
            *n -= 1;
            if *n == 0 {
                counts.remove(&uuid);
            }
        }
    }

    fn weak_targets(&self, table: usize, row: &DbRow) -> Vec<(usize, Uuid)> {
        let t = &self.tables[table];
        let mut out = Vec::new();
        for c in &t.weak_columns {
            each_ref(
                &t.schema.column_list[*c],
                &row.cells[*c],
                BaseType::is_weak,
                |t, u| out.push((t, u)),
            );
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Puts a checked commit into effect: rows, indexes, references.
    pub(crate) fn apply(&mut self, commit: &mut Commit) {
        for ch in &mut commit.changes {
            if let Some(row) = &mut ch.new {
                Arc::make_mut(row).version = self.next_version();
            }
        }
        // Index entries of old rows first: a value may move from one row to another.
        for ch in &commit.changes {
            if let Some(old) = &ch.old {
                let t = &mut self.tables[ch.table];
                for i in 0..t.indexes.len() {
                    let key = t.key(i, old);
                    if t.indexes[i].get(&key) == Some(&ch.uuid) {
                        t.indexes[i].remove(&key);
                    }
                }
            }
        }
        for ch in &commit.changes {
            let (old, new) = (ch.old.as_deref(), ch.new.as_deref());
            let t = &self.tables[ch.table];
            let schema = t.schema.clone();
            // Only columns that changed count, and of those only the members that did.
            for i in 0..t.strong_columns.len() {
                let c = self.tables[ch.table].strong_columns[i];
                let column = &schema.column_list[c];
                let (o, n) = (old.map(|r| &r.cells[c]), new.map(|r| &r.cells[c]));
                if o == n {
                    continue;
                }
                for (d, up) in [(n, true), (o, false)] {
                    if let Some(d) = d {
                        each_ref(column, d, BaseType::is_strong, |t, u| {
                            Self::count(&mut self.tables[t].strong, u, up);
                        });
                    }
                }
            }
            if !self.tables[ch.table].weak_columns.is_empty() {
                let me = (ch.table, ch.uuid);
                let before = old.map_or(Vec::new(), |r| self.weak_targets(ch.table, r));
                let after = new.map_or(Vec::new(), |r| self.weak_targets(ch.table, r));
                for target in before.iter().filter(|x| !after.contains(x)) {
                    if let Some(list) = self.tables[target.0].weak.get_mut(&target.1) {
                        list.retain(|x| *x != me);
                        if list.is_empty() {
                            self.tables[target.0].weak.remove(&target.1);
                        }
                    }
                }
                for target in after.iter().filter(|x| !before.contains(x)) {
                    self.tables[target.0]
                        .weak
                        .entry(target.1)
                        .or_default()
                        .push(me);
                }
            }
            let t = &mut self.tables[ch.table];
            t.lookups.change(old, new, t.rows.len());
            match &ch.new {
                Some(row) => {
                    for i in 0..t.indexes.len() {
                        let key = t.key(i, row);
                        t.indexes[i].insert(key, ch.uuid);
                    }
                    t.rows.insert(ch.uuid, row.clone());
                }
                None => {
                    t.rows.remove(&ch.uuid);
                    t.strong.remove(&ch.uuid);
                    t.weak.remove(&ch.uuid);
                }
            }
        }
        self.last_txn = self.next_version();
    }

    /// Computes indexes and references anew, after rows were put in by [`Database::load`].
    pub(crate) fn rebuild(&mut self) {
        for t in &mut self.tables {
            t.indexes.iter_mut().for_each(HashMap::clear);
            t.strong.clear();
            t.weak.clear();
            t.lookups = Lookups::new(t.schema.column_list.len());
        }
        for i in 0..self.tables.len() {
            let rows: Vec<_> = self.tables[i].rows.values().cloned().collect();
            for row in rows {
                for x in 0..self.tables[i].indexes.len() {
                    let key = self.tables[i].key(x, &row);
                    self.tables[i].indexes[x].insert(key, row.uuid);
                }
                self.count_strong(i, &row, true);
                for target in self.weak_targets(i, &row) {
                    self.tables[target.0]
                        .weak
                        .entry(target.1)
                        .or_default()
                        .push((i, row.uuid));
                }
            }
        }
    }

    /// Puts one record of the journal into the rows, one row after the other, so that no more than
    /// one of them is there as JSON; [`Database::rebuild`] must follow the last record.
    ///
    /// # Errors
    /// What does not fit the schema, by table, row and column.
    pub(crate) fn load(&mut self, record: &Members<'_>) -> Result<(), OvsdbError> {
        let is_diff = record.get("_is_diff").is_some_and(|v| v.get() == "true");
        for (name, rows) in record {
            let Some(table) = self.table_of_record(name)? else {
                continue;
            };
            let mut failed = None;
            let rows_into = RowsInto {
                db: self,
                table,
                is_diff,
                failed: &mut failed,
            };
            let mut text = serde_json::Deserializer::from_str(rows.get());
            let done = rows_into.deserialize(&mut text);
            if let Some(e) = failed {
                return Err(e);
            }
            done.map_err(|e| OvsdbError::new("syntax error", format!("rows of {name}: {e}")))?;
        }
        Ok(())
    }

    /// As [`Database::load`], from JSON.
    #[cfg(test)]
    pub(crate) fn load_json(&mut self, record: &Value) -> Result<(), OvsdbError> {
        self.load(&serde_json::from_str(&record.to_string()).unwrap())
    }

    /// The table that a member of a record is about; `None` for what tells of the record.
    fn table_of_record(&self, name: &str) -> Result<Option<usize>, OvsdbError> {
        match self.positions.get(name) {
            Some(&table) => Ok(Some(table)),
            None if name.starts_with('_') => Ok(None),
            None => Err(OvsdbError::new(
                "unknown table",
                format!("No table named {name}."),
            )),
        }
    }

    fn load_row(
        &mut self,
        table: usize,
        uuid: &str,
        json: &Value,
        is_diff: bool,
    ) -> Result<(), OvsdbError> {
        let name = uuid;
        let uuid = parse_uuid(name).ok_or_else(|| {
            OvsdbError::new("syntax error", format!("\"{name}\" is not a valid UUID"))
        })?;
        if json.is_null() {
            self.tables[table].rows.remove(&uuid);
            return Ok(());
        }
        let version = self.next_version();
        let t = &mut self.tables[table];
        let cells = json.as_object().ok_or_else(|| {
            OvsdbError::syntax(
                json,
                format!("row {name} of {} must be an object", t.schema.name),
            )
        })?;
        let old = t.rows.remove(&uuid);
        let apply_diff = is_diff && old.is_some();
        let mut row = match old {
            Some(old) => Arc::unwrap_or_clone(old),
            None => DbRow {
                uuid,
                version,
                cells: t.defaults.clone(),
            },
        };
        row.version = version;
        for (column, json) in cells {
            let Some(c) = t.schema.column(column) else {
                return Err(OvsdbError::new(
                    "unknown column",
                    format!("No column {column} in table {}.", t.schema.name),
                ));
            };
            row.cells[c.index] = if apply_diff {
                let diff = Datum::from_json_any_size(&c.ty, json, None)?;
                row.cells[c.index].apply_diff(&diff, &c.ty)?
            } else {
                Datum::from_json(&c.ty, json)?
            };
        }
        t.rows.insert(uuid, Arc::new(row));
        Ok(())
    }

    /// The journal record of a commit, `None` where nothing in it is to survive a restart.
    /// `date` in milliseconds since 1970.
    pub(crate) fn record(&self, commit: &Commit, date: u64) -> Option<String> {
        use std::fmt::Write;
        let mut by_table: Vec<&RowChange> = commit.changes.iter().collect();
        by_table.sort_by_key(|c| c.table);
        let mut out = format!("{{\"_date\":{date},\"_is_diff\":true");
        let mut current = None;
        let mut any = false;
        let mut row_text = String::new();
        for ch in by_table {
            let t = &self.tables[ch.table];
            row_text.clear();
            match &ch.new {
                None => row_text.push_str("null"),
                Some(new) => {
                    row_text.push('{');
                    let mut changed = false;
                    for c in &t.schema.column_list {
                        if c.ephemeral {
                            continue;
                        }
                        let old = ch.old.as_ref().map(|r| &r.cells[c.index]);
                        let value = &new.cells[c.index];
                        if value == old.unwrap_or(&t.defaults[c.index]) {
                            continue;
                        }
                        if changed {
                            row_text.push(',');
                        }
                        changed = true;
                        row_text.push('"');
                        row_text.push_str(&c.name);
                        row_text.push_str("\":");
                        match old {
                            None => value.write_json(&mut row_text),
                            Some(old) => value.diff(old, &c.ty).write_json(&mut row_text),
                        }
                    }
                    if !changed && ch.old.is_some() {
                        continue;
                    }
                    row_text.push('}');
                }
            }
            if current == Some(ch.table) {
                out.push(',');
            } else {
                if current.is_some() {
                    out.push('}');
                }
                _ = write!(out, ",\"{}\":{{", t.schema.name);
                current = Some(ch.table);
            }
            let mut name = [0; 36];
            out.push('"');
            out.push_str(ch.uuid.hyphenated().encode_lower(&mut name));
            out.push_str("\":");
            out.push_str(&row_text);
            any = true;
        }
        if !any {
            return None;
        }
        out.push('}');
        if !commit.comment.is_empty() {
            out.push_str(",\"_comment\":");
            crate::value::write_json_string(&commit.comment, &mut out);
        }
        out.push('}');
        Some(out)
    }
}
