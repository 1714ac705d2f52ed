//! Database schemas (RFC 7047 3.2), and the two that are built in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use crate::error::OvsdbError;
use crate::value::{Atom, AtomType, Datum, is_id, json_integer};

/// How a UUID in a column binds the row it names (RFC 7047 3.2, `refType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefType {
    /// The row must exist, and lives at least as long as it is referenced.
    #[default]
    Strong,
    /// The reference disappears with the row.
    Weak,
}

/// The type of a column's keys or values with its constraints (RFC 7047 3.2, `<base-type>`).
#[derive(Debug, Clone, PartialEq)]
pub struct BaseType {
    /// The type of each atom.
    pub atom: AtomType,
    /// The only values allowed, if limited (`enum`).
    pub choices: Option<Datum>,
    /// `minInteger`.
    pub min_integer: Option<i64>,
    /// `maxInteger`.
    pub max_integer: Option<i64>,
    /// `minReal`.
    pub min_real: Option<f64>,
    /// `maxReal`.
    pub max_real: Option<f64>,
    /// `minLength`, in characters.
    pub min_length: Option<u64>,
    /// `maxLength`, in characters.
    pub max_length: Option<u64>,
    /// The table whose rows the UUIDs name.
    pub ref_table: Option<String>,
    /// What the reference means for the row it names.
    pub ref_type: RefType,
    /// Position of `ref_table` among the schema's tables in order of names.
    pub(crate) ref_index: usize,
}

impl BaseType {
    /// A type without constraints.
    pub fn new(atom: AtomType) -> Self {
        Self {
            atom,
            choices: None,
            min_integer: None,
            max_integer: None,
            min_real: None,
            max_real: None,
            min_length: None,
            max_length: None,
            ref_table: None,
            ref_type: RefType::Strong,
            ref_index: 0,
        }
    }

    /// True for UUIDs that bind the rows they name.
    pub fn is_strong(&self) -> bool {
        self.ref_table.is_some() && self.ref_type == RefType::Strong
    }

    /// True for UUIDs that disappear with the rows they name.
    pub fn is_weak(&self) -> bool {
        self.ref_table.is_some() && self.ref_type == RefType::Weak
    }

    /// Checks one atom against the constraints.
    ///
    /// # Errors
    /// `constraint violation` naming the value and what would be right.
    pub fn check(&self, atom: &Atom) -> Result<(), OvsdbError> {
        if let Some(choices) = &self.choices
            && !choices.contains(atom)
        {
            return Err(OvsdbError::constraint(format!(
                "{} is not one of the allowed values ({})",
                crate::text::atom_text(atom),
                crate::text::datum_text_bracketed(choices)
            )));
        }
        fn range<T: PartialOrd + Copy>(
            v: T,
            min: Option<T>,
            max: Option<T>,
            show: impl Fn(T) -> String,
        ) -> Result<(), OvsdbError> {
            if min.is_none_or(|m| v >= m) && max.is_none_or(|m| v <= m) {
                return Ok(());
            }
            Err(OvsdbError::constraint(match (min, max) {
                (Some(min), Some(max)) => format!(
                    "{} is not in the valid range {} to {} (inclusive)",
                    show(v),
                    show(min),
                    show(max)
                ),
                (Some(min), None) => format!(
                    "{} is less than minimum allowed value {}",
                    show(v),
                    show(min)
                ),
                (None, Some(max)) => format!(
                    "{} is greater than maximum allowed value {}",
                    show(v),
                    show(max)
                ),
                (None, None) => String::new(),
            }))
        }
        match atom {
            Atom::Integer(v) => range(*v, self.min_integer, self.max_integer, |v| v.to_string()),
            Atom::Real(v) => range(v.0, self.min_real, self.max_real, crate::value::real_text),
            Atom::String(s) if self.min_length.is_some() || self.max_length.is_some() => {
                let n = s.chars().count() as u64;
                if let Some(min) = self.min_length
                    && n < min
                {
                    return Err(OvsdbError::constraint(format!(
                        "\"{s}\" length {n} is less than minimum allowed length {min}"
                    )));
                }
                if let Some(max) = self.max_length
                    && n > max
                {
                    return Err(OvsdbError::constraint(format!(
                        "\"{s}\" length {n} is greater than maximum allowed length {max}"
                    )));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn from_json(json: &Value) -> Result<Self, OvsdbError> {
        let atom_type = |v: &Value| {
            v.as_str()
                .and_then(AtomType::from_name)
                .ok_or_else(|| OvsdbError::syntax(v, "not an atomic-type"))
        };
        if json.is_string() {
            return Ok(Self::new(atom_type(json)?));
        }
        let mut m = Members::new(json, "ovsdb type")?;
        let mut base = Self::new(atom_type(m.need("type")?)?);
        if let Some(e) = m.take("enum") {
            base.choices = Some(Datum::from_json(
                &Type {
                    key: BaseType::new(base.atom),
                    value: None,
                    min: 1,
                    max: u32::MAX,
                },
                e,
            )?);
        }
        match base.atom {
            AtomType::Integer => {
                base.min_integer = m.integer("minInteger")?;
                base.max_integer = m.integer("maxInteger")?;
                if base
                    .min_integer
                    .zip(base.max_integer)
                    .is_some_and(|(a, b)| a > b)
                {
                    return Err(OvsdbError::syntax(json, "minInteger exceeds maxInteger"));
                }
            }
            AtomType::Real => {
                base.min_real = m.take("minReal").and_then(Value::as_f64);
                base.max_real = m.take("maxReal").and_then(Value::as_f64);
                if base.min_real.zip(base.max_real).is_some_and(|(a, b)| a > b) {
                    return Err(OvsdbError::syntax(json, "minReal exceeds maxReal"));
                }
            }
            AtomType::String => {
                let mut length = |name| -> Result<Option<u64>, OvsdbError> {
                    match m.integer(name)? {
                        None => Ok(None),
                        Some(n) => u64::try_from(n).map(Some).map_err(|_| {
                            OvsdbError::syntax(json, format!("{name} must not be negative"))
                        }),
                    }
                };
                base.min_length = length("minLength")?;
                base.max_length = length("maxLength")?;
                if base
                    .min_length
                    .zip(base.max_length)
                    .is_some_and(|(a, b)| a > b)
                {
                    return Err(OvsdbError::syntax(json, "minLength exceeds maxLength"));
                }
            }
            AtomType::Uuid => {
                base.ref_table = m.string("refTable")?;
                if let Some(kind) = m.take("refType") {
                    base.ref_type = match kind.as_str() {
                        Some("strong") => RefType::Strong,
                        Some("weak") => RefType::Weak,
                        _ => {
                            return Err(OvsdbError::syntax(
                                json,
                                "refType must be \"strong\" or \"weak\"",
                            ));
                        }
                    };
                    if base.ref_table.is_none() {
                        return Err(OvsdbError::syntax(json, "refType without refTable"));
                    }
                }
            }
            AtomType::Boolean => {}
        }
        m.finish()?;
        Ok(base)
    }

    fn to_json(&self) -> Value {
        let mut m = Map::new();
        if let Some(e) = &self.choices {
            // A single choice is written as a set too, which every reader accepts.
            let list: Vec<_> = e.iter().map(Atom::to_json).collect();
            m.insert("enum".into(), json!(["set", list]));
        }
        let mut put = |name: &str, v: Option<Value>| {
            if let Some(v) = v {
                m.insert(name.into(), v);
            }
        };
        put("maxInteger", self.max_integer.map(Value::from));
        put("minInteger", self.min_integer.map(Value::from));
        put("maxReal", self.max_real.map(Value::from));
        put("minReal", self.min_real.map(Value::from));
        put("maxLength", self.max_length.map(Value::from));
        put("minLength", self.min_length.map(Value::from));
        put("refTable", self.ref_table.clone().map(Value::from));
        put("refType", self.is_weak().then(|| Value::from("weak")));
        if m.is_empty() {
            return self.atom.name().into();
        }
        m.insert("type".into(), self.atom.name().into());
        Value::Object(m)
    }
}

/// The type of a column (RFC 7047 3.2, `<type>`).
#[derive(Debug, Clone, PartialEq)]
pub struct Type {
    /// Members of a set, keys of a map.
    pub key: BaseType,
    /// Values of a map; `None` for sets and scalars.
    pub value: Option<BaseType>,
    /// Fewest members: 0 or 1.
    pub min: u32,
    /// Most members; `u32::MAX` for `unlimited`.
    pub max: u32,
}

impl Type {
    /// Exactly one atom.
    pub fn scalar(atom: AtomType) -> Self {
        Self {
            key: BaseType::new(atom),
            value: None,
            min: 1,
            max: 1,
        }
    }

    /// Any number of atoms.
    pub fn set_of(atom: AtomType) -> Self {
        Self {
            min: 0,
            max: u32::MAX,
            ..Self::scalar(atom)
        }
    }

    /// Any number of pairs.
    pub fn map_of(key: AtomType, value: AtomType) -> Self {
        Self {
            value: Some(BaseType::new(value)),
            ..Self::set_of(key)
        }
    }

    /// True for maps.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// True where exactly one atom is there.
    pub fn is_scalar(&self) -> bool {
        self.min == 1 && self.max == 1 && self.value.is_none()
    }

    /// True where there is one value or none.
    pub fn is_optional(&self) -> bool {
        self.min == 0 && self.max == 1
    }

    /// The value of a column nobody has set (RFC 7047 5.2.1).
    pub fn default_datum(&self) -> Datum {
        if self.is_map() {
            Datum::empty_map()
        } else if self.min == 0 {
            Datum::empty_set()
        } else {
            Datum::scalar(self.key.atom.default_atom())
        }
    }

    /// What is wrong with `n` members, if anything.
    pub(crate) fn size_problem(&self, n: usize) -> Option<String> {
        if n >= self.min as usize && n <= self.max as usize {
            return None;
        }
        let what = if self.is_map() { "map" } else { "set" };
        Some(if (self.min, self.max) == (1, 1) {
            format!("{what} must have exactly one member but {n} are present")
        } else {
            format!(
                "{what} must have {} to {} members but {n} are present",
                self.min, self.max
            )
        })
    }

    /// Checks only how many members there are.
    ///
    /// # Errors
    /// `constraint violation`.
    pub fn check_size(&self, datum: &Datum) -> Result<(), OvsdbError> {
        match self.size_problem(datum.len()) {
            Some(problem) => Err(OvsdbError::constraint(problem)),
            None => Ok(()),
        }
    }

    /// The type in words, for errors: `set of up to 4 integers`.
    pub fn describe(&self) -> String {
        let key = self.key.atom.name();
        let (class, members) = match &self.value {
            None if self.is_scalar() => return key.into(),
            None => ("set", format!("{key}s")),
            Some(v) => ("map", format!("({key}, {}) pairs", v.atom.name())),
        };
        match (self.min, self.max) {
            (0, u32::MAX) => format!("{class} of {members}"),
            (0, n) => format!("{class} of up to {n} {members}"),
            (n, u32::MAX) => format!("{class} of {n} or more {members}"),
            (a, b) => format!("{class} of {a} to {b} {members}"),
        }
    }

    /// Checks type, size and every atom.
    ///
    /// # Errors
    /// `constraint violation`, or `syntax error` for a wrong type.
    pub fn check(&self, datum: &Datum) -> Result<(), OvsdbError> {
        let mismatch = |want: &BaseType, got: &Atom| {
            (want.atom != got.atom_type())
                .then(|| OvsdbError::new("syntax error", format!("expected {}", want.atom.name())))
        };
        for a in datum.iter() {
            if let Some(e) = mismatch(&self.key, a) {
                return Err(e);
            }
            self.key.check(a)?;
        }
        for (k, v) in datum.pairs() {
            let Some(value) = &self.value else {
                return Err(OvsdbError::new("syntax error", "expected a set, not a map"));
            };
            if let Some(e) = mismatch(&self.key, k).or_else(|| mismatch(value, v)) {
                return Err(e);
            }
            self.key.check(k)?;
            value.check(v)?;
        }
        if self.is_map() && !datum.is_map() && !datum.is_empty() {
            return Err(OvsdbError::new("syntax error", "expected a map, not a set"));
        }
        self.check_size(datum)
    }

    /// Reads a `<type>`.
    ///
    /// # Errors
    /// `syntax error`.
    pub fn from_json(json: &Value) -> Result<Self, OvsdbError> {
        if json.is_string() {
            return Ok(Self {
                key: BaseType::from_json(json)?,
                value: None,
                min: 1,
                max: 1,
            });
        }
        let mut m = Members::new(json, "ovsdb type")?;
        let key = BaseType::from_json(m.need("key")?)?;
        let value = m.take("value").map(BaseType::from_json).transpose()?;
        let min = m.integer("min")?.unwrap_or(1);
        let max = match m.take("max") {
            None => 1,
            Some(v) if v.as_str() == Some("unlimited") => i64::from(u32::MAX),
            Some(v) => json_integer(v).ok_or_else(|| {
                OvsdbError::syntax(json, "max must be an integer or \"unlimited\"")
            })?,
        };
        m.finish()?;
        if !(0..=1).contains(&min) || max < 1 || max > i64::from(u32::MAX) || min > max {
            return Err(OvsdbError::syntax(
                json,
                "ovsdb type fails constraint checks: min must be 0 or 1, max at least 1",
            ));
        }
        Ok(Self {
            key,
            value,
            min: min as u32,
            max: max as u32,
        })
    }

    /// The `<type>` in JSON, in its shortest form.
    pub fn to_json(&self) -> Value {
        if self.is_scalar() && self.key.to_json().is_string() {
            return self.key.to_json();
        }
        let mut m = Map::new();
        m.insert("key".into(), self.key.to_json());
        if let Some(v) = &self.value {
            m.insert("value".into(), v.to_json());
        }
        if self.min != 1 {
            m.insert("min".into(), self.min.into());
        }
        if self.max == u32::MAX {
            m.insert("max".into(), "unlimited".into());
        } else if self.max != 1 {
            m.insert("max".into(), self.max.into());
        }
        Value::Object(m)
    }
}

/// A column (RFC 7047 3.2, `<column-schema>`).
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// False where only insertion may set it.
    pub mutable: bool,
    /// True where it need not survive a restart, and is not journaled.
    pub ephemeral: bool,
    /// Its position in rows: that of its name in order.
    pub index: usize,
}

/// A table (RFC 7047 3.2, `<table-schema>`).
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    /// Its columns by name, without the implicit `_uuid` and `_version`.
    pub columns: BTreeMap<String, Arc<ColumnSchema>>,
    /// Its columns by their index.
    pub column_list: Vec<Arc<ColumnSchema>>,
    /// Most rows.
    pub max_rows: Option<u32>,
    /// True where rows stay although nothing references them.
    pub is_root: bool,
    /// Sets of columns whose values together are unique.
    pub indexes: Vec<Vec<String>>,
    /// The same by column index.
    pub(crate) index_columns: Vec<Vec<usize>>,
}

impl TableSchema {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Arc<ColumnSchema>> {
        self.columns.get(name)
    }

    /// Reads a `<table-schema>`; also the RFC's rule for `isRoot` absent everywhere is not
    /// applied here, as it needs the other tables.
    fn from_json(name: &str, json: &Value) -> Result<Self, OvsdbError> {
        let mut m = Members::new(json, "table schema")?;
        let columns_json = m.need("columns")?;
        let Some(columns_json) = columns_json.as_object() else {
            return Err(OvsdbError::syntax(json, "columns must be an object"));
        };
        if columns_json.is_empty() {
            return Err(OvsdbError::syntax(
                json,
                "table must have at least one column",
            ));
        }
        let max_rows = match m.integer("maxRows")? {
            None => None,
            Some(n) => Some(
                u32::try_from(n)
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or_else(|| OvsdbError::syntax(json, "maxRows must be at least 1"))?,
            ),
        };
        let is_root = m.boolean("isRoot")?.unwrap_or(false);
        let indexes_json = m.take("indexes").cloned();
        m.finish()?;
        let mut columns = BTreeMap::new();
        for (column, json) in columns_json {
            check_name(column, "column", json)?;
            let mut m = Members::new(json, "schema for column")?;
            let mut ty = Type::from_json(m.need("type")?)?;
            let mutable = m.boolean("mutable")?.unwrap_or(true);
            let mut ephemeral = m.boolean("ephemeral")?.unwrap_or(false);
            m.finish()?;
            // A strong reference that a restart forgets would lose the row it holds.
            let strong = |b: &BaseType| b.is_strong();
            if strong(&ty.key) || ty.value.as_ref().is_some_and(strong) {
                ephemeral = false;
            }
            // Weak references may vanish at any time (OVS: such columns have min 0 or are
            // checked at commit); nothing to adapt in the type.
            if let Some(v) = &mut ty.value {
                v.ref_index = 0;
            }
            columns.insert(column.clone(), (ty, mutable, ephemeral));
        }
        let column_list: Vec<_> = columns
            .into_iter()
            .enumerate()
            .map(|(index, (name, (ty, mutable, ephemeral)))| {
                Arc::new(ColumnSchema {
                    name,
                    ty,
                    mutable,
                    ephemeral,
                    index,
                })
            })
            .collect();
        let columns: BTreeMap<_, _> = column_list
            .iter()
            .map(|c| (c.name.clone(), c.clone()))
            .collect();
        let mut indexes = Vec::new();
        let mut index_columns = Vec::new();
        if let Some(json) = indexes_json {
            let list = json
                .as_array()
                .ok_or_else(|| OvsdbError::syntax(&json, "indexes must be an array"))?;
            for set in list {
                let names = set
                    .as_array()
                    .filter(|l| !l.is_empty())
                    .ok_or_else(|| OvsdbError::syntax(set, "array of column names expected"))?;
                let mut list = Vec::new();
                let mut positions = Vec::new();
                for n in names {
                    let c = n.as_str().and_then(|n| columns.get(n)).ok_or_else(|| {
                        OvsdbError::syntax(n, "index over a column that is not in the table")
                    })?;
                    if c.ephemeral {
                        return Err(OvsdbError::syntax(
                            n,
                            "ephemeral columns may not be indexed",
                        ));
                    }
                    if positions.contains(&c.index) {
                        return Err(OvsdbError::syntax(set, "index names a column twice"));
                    }
                    list.push(c.name.clone());
                    positions.push(c.index);
                }
                indexes.push(list);
                index_columns.push(positions);
            }
        }
        Ok(Self {
            name: name.into(),
            columns,
            column_list,
            max_rows,
            is_root,
            indexes,
            index_columns,
        })
    }

    fn to_json(&self, say_root: bool) -> Value {
        let mut m = Map::new();
        let mut columns = Map::new();
        for c in &self.column_list {
            let mut col = Map::new();
            if c.ephemeral {
                col.insert("ephemeral".into(), true.into());
            }
            if !c.mutable {
                col.insert("mutable".into(), false.into());
            }
            col.insert("type".into(), c.ty.to_json());
            columns.insert(c.name.clone(), Value::Object(col));
        }
        m.insert("columns".into(), Value::Object(columns));
        if !self.indexes.is_empty() {
            m.insert("indexes".into(), json!(self.indexes));
        }
        if say_root && self.is_root {
            m.insert("isRoot".into(), true.into());
        }
        if let Some(n) = self.max_rows {
            m.insert("maxRows".into(), n.into());
        }
        Value::Object(m)
    }
}

/// A database's schema (RFC 7047 3.2, `<database-schema>`).
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: String,
    /// Its version, `x.y.z`.
    pub version: String,
    /// A check sum of the schema file, if it has one.
    pub cksum: String,
    /// The tables by name.
    pub tables: BTreeMap<String, Arc<TableSchema>>,
}

impl DatabaseSchema {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }

    /// Reads a `<database-schema>`.
    ///
    /// # Errors
    /// `syntax error` naming the table and column.
    pub fn from_json(json: &Value) -> Result<Self, OvsdbError> {
        let mut m = Members::new(json, "database schema")?;
        let name = m.need_string("name")?.to_owned();
        check_name(&name, "database", json)?;
        let version = m.string("version")?.unwrap_or_default();
        if !version.is_empty() && !is_version(&version) {
            return Err(OvsdbError::syntax(
                json,
                format!("schema version \"{version}\" not in format x.y.z"),
            ));
        }
        let cksum = m.string("cksum")?.unwrap_or_default();
        let Some(list) = m.need("tables")?.as_object() else {
            return Err(OvsdbError::syntax(json, "tables must be an object"));
        };
        // Only convention, written by clients of clustered databases; nothing here depends on it.
        m.take("_public");
        m.finish()?;
        let mut tables = BTreeMap::new();
        for (table, json) in list {
            check_name(table, "table", json)?;
            let t = TableSchema::from_json(table, json)
                .map_err(|e| within(e, &format!("table {table}")))?;
            tables.insert(table.clone(), t);
        }
        // Without any root table, all are (RFC 7047 3.2, isRoot).
        if !tables.values().any(|t| t.is_root) {
            tables.values_mut().for_each(|t| t.is_root = true);
        }
        let positions: BTreeMap<String, usize> = tables
            .keys()
            .enumerate()
            .map(|(i, n)| (n.clone(), i))
            .collect();
        for t in tables.values_mut() {
            let mut list = Vec::with_capacity(t.column_list.len());
            for c in &t.column_list {
                let mut c = (**c).clone();
                for base in [Some(&mut c.ty.key), c.ty.value.as_mut()]
                    .into_iter()
                    .flatten()
                {
                    if let Some(to) = &base.ref_table {
                        base.ref_index = *positions.get(to).ok_or_else(|| {
                            OvsdbError::new(
                                "syntax error",
                                format!(
                                    "Column {} of table {} refers to undefined table {to}.",
                                    c.name, t.name
                                ),
                            )
                        })?;
                    }
                }
                list.push(Arc::new(c));
            }
            t.columns = list.iter().map(|c| (c.name.clone(), c.clone())).collect();
            t.column_list = list;
        }
        Ok(Self {
            name,
            version,
            cksum,
            tables: tables.into_iter().map(|(n, t)| (n, Arc::new(t))).collect(),
        })
    }

    /// The `<database-schema>` in JSON.
    pub fn to_json(&self) -> Value {
        let mut m = Map::new();
        if !self.cksum.is_empty() {
            m.insert("cksum".into(), self.cksum.clone().into());
        }
        m.insert("name".into(), self.name.clone().into());
        let say_root = !self.tables.values().all(|t| t.is_root);
        let tables = self
            .tables
            .iter()
            .map(|(n, t)| (n.clone(), t.to_json(say_root)))
            .collect();
        m.insert("tables".into(), Value::Object(tables));
        if !self.version.is_empty() {
            m.insert("version".into(), self.version.clone().into());
        }
        Value::Object(m)
    }
}

fn within(mut e: OvsdbError, place: &str) -> OvsdbError {
    e.details = format!("{place}: {}", e.details);
    e
}

fn is_version(v: &str) -> bool {
    let parts: Vec<_> = v.split('.').collect();
    parts.len() == 3
        && parts
            .iter()
            .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Names begin with a letter; those with `_` are reserved, but OVS's own `_Server` uses one.
fn check_name(name: &str, what: &str, json: &Value) -> Result<(), OvsdbError> {
    if !is_id(name) || (what != "database" && name.starts_with('_')) {
        return Err(OvsdbError::syntax(
            json,
            format!(
                "\"{name}\" is not a valid {what} name: letters, digits and _ are, a leading _ is reserved"
            ),
        ));
    }
    Ok(())
}

/// The members of a JSON object, each to be taken once; leftovers are errors.
pub(crate) struct Members<'a> {
    json: &'a Value,
    map: &'a Map<String, Value>,
    what: Cow<'static, str>,
    taken: Vec<&'a str>,
}

impl<'a> Members<'a> {
    pub(crate) fn new(
        json: &'a Value,
        what: impl Into<Cow<'static, str>>,
    ) -> Result<Self, OvsdbError> {
        let what = what.into();
        let Some(map) = json.as_object() else {
            return Err(OvsdbError::new(
                "syntax error",
                format!("Parsing {what} failed: Object expected."),
            ));
        };
        Ok(Self {
            json,
            map,
            what,
            taken: Vec::new(),
        })
    }

    /// The parser's error about the object.
    pub(crate) fn fail<T>(&self, text: String) -> Result<T, OvsdbError> {
        Err(OvsdbError::syntax(
            self.json,
            format!("Parsing {} failed: {text}", self.what),
        ))
    }

    pub(crate) fn take(&mut self, name: &'a str) -> Option<&'a Value> {
        self.taken.push(name);
        self.map.get(name)
    }

    pub(crate) fn need(&mut self, name: &'a str) -> Result<&'a Value, OvsdbError> {
        match self.take(name) {
            Some(v) => Ok(v),
            None => self.fail(format!("Required '{name}' member is missing.")),
        }
    }

    /// The member, `None` where it is absent; `kind` tells whether its value will do.
    pub(crate) fn typed(
        &mut self,
        name: &'a str,
        kind: fn(&Value) -> bool,
    ) -> Result<Option<&'a Value>, OvsdbError> {
        match self.take(name) {
            Some(v) if !kind(v) => self.mismatch(name),
            v => Ok(v),
        }
    }

    /// A member that must be there.
    pub(crate) fn need_typed(
        &mut self,
        name: &'a str,
        kind: fn(&Value) -> bool,
    ) -> Result<&'a Value, OvsdbError> {
        self.need(name)?;
        match self.typed(name, kind)? {
            Some(v) => Ok(v),
            None => self.mismatch(name),
        }
    }

    /// A string member that must be there.
    pub(crate) fn need_string(&mut self, name: &'a str) -> Result<&'a str, OvsdbError> {
        let value = self.need_typed(name, Value::is_string)?;
        Ok(value.as_str().unwrap_or_default())
    }

    /// An `<id>` that must be there (RFC 7047 3.1).
    pub(crate) fn need_id(&mut self, name: &'a str) -> Result<&'a str, OvsdbError> {
        let value = self.need_typed(name, |v| v.as_str().is_some_and(is_id))?;
        Ok(value.as_str().unwrap_or_default())
    }

    fn mismatch<T>(&self, name: &str) -> Result<T, OvsdbError> {
        self.fail(format!("Type mismatch for member '{name}'."))
    }

    pub(crate) fn integer(&mut self, name: &'a str) -> Result<Option<i64>, OvsdbError> {
        match self.take(name) {
            None => Ok(None),
            Some(v) => match json_integer(v) {
                Some(i) => Ok(Some(i)),
                None => self.mismatch(name),
            },
        }
    }

    pub(crate) fn boolean(&mut self, name: &'a str) -> Result<Option<bool>, OvsdbError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(_) => self.mismatch(name),
        }
    }

    pub(crate) fn string(&mut self, name: &'a str) -> Result<Option<String>, OvsdbError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(_) => self.mismatch(name),
        }
    }

    pub(crate) fn finish(self) -> Result<(), OvsdbError> {
        let mut left = self
            .map
            .keys()
            .filter(|k| !self.taken.contains(&k.as_str()));
        let Some(first) = left.next() else {
            return Ok(());
        };
        let more = match left.count() {
            0 => "is".to_owned(),
            1 => "and 1 other member are".to_owned(),
            n => format!("and {n} other members are"),
        };
        self.fail(format!(
            "Member '{first}' {more} present but not allowed here."
        ))
    }
}

/// The text of the `Open_vSwitch` schema, as a file for `ovsdb-tool create`.
pub const VSWITCH_SCHEMA: &str = include_str!("../schema/vswitch.ovsschema");

/// The text of the `_Server` schema, which tells clients about the server's databases.
const SERVER_SCHEMA: &str = include_str!("../schema/server.ovsschema");

fn built_in(text: &str) -> DatabaseSchema {
    let json: Value = serde_json::from_str(text).expect("built-in schema is JSON");
    DatabaseSchema::from_json(&json).expect("built-in schema is valid")
}

/// The schema of the `Open_vSwitch` database, version 8.3.1, and the column `Mirror.filter` of later ones.
pub fn vswitch_schema() -> &'static DatabaseSchema {
    static S: LazyLock<DatabaseSchema> = LazyLock::new(|| built_in(VSWITCH_SCHEMA));
    &S
}

/// The schema of the `_Server` database (ovsdb-server(5)).
pub fn server_schema() -> &'static DatabaseSchema {
    static S: LazyLock<DatabaseSchema> = LazyLock::new(|| built_in(SERVER_SCHEMA));
    &S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_schemas_are_valid() {
        let s = vswitch_schema();
        assert_eq!(s.name, "Open_vSwitch");
        assert!(s.tables.contains_key("AutoAttach"));
        assert!(s.tables["Open_vSwitch"].is_root && !s.tables["Bridge"].is_root);
        let weak = &s.tables["Mirror"].columns["output_port"].ty.key;
        assert_eq!(
            (weak.ref_table.as_deref(), weak.ref_type),
            (Some("Port"), RefType::Weak)
        );
        assert_eq!(server_schema().tables.len(), 1);
    }

    #[test]
    fn schema_reads_back() {
        let s = vswitch_schema();
        assert_eq!(&DatabaseSchema::from_json(&s.to_json()).unwrap(), s);
    }

    #[test]
    fn bad_schemas_are_told() {
        for (json, want) in [
            (json!({"name": "x"}), "'tables' member is missing"),
            (
                json!({"name": "x", "tables": {"_t": {}}}),
                "not a valid table name",
            ),
            (
                json!({"name": "x", "tables": {"t": {"columns": {"c": {"type": {"key": {"type": "uuid", "refTable": "u"}}}}}}}),
                "undefined table u",
            ),
            (
                json!({"name": "x", "tables": {"t": {"columns": {"c": {"type": "strin"}}}}}),
                "not an atomic-type",
            ),
            (json!({"name": "x", "version": "1", "tables": {}}), "x.y.z"),
        ] {
            let e = DatabaseSchema::from_json(&json).unwrap_err();
            assert!(e.details.contains(want), "{e}");
        }
    }
}
