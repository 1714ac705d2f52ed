//! Reading columns of the replica, and writing reports in its terms.

use super::report::Out;
use ovsdb::{Datum, Replica, Row, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// A row, whose columns are read by name. A column that the server's schema lacks reads as empty.
pub struct Columns<'a>(&'a Row);

impl<'a> Columns<'a> {
    /// All rows of a table.
    pub fn rows(db: &'a Replica, table: &str) -> Vec<Columns<'a>> {
        db.table(table).values().map(Columns).collect()
    }

    /// One row.
    pub fn row(db: &'a Replica, table: &str, uuid: &Uuid) -> Option<Columns<'a>> {
        db.row(table, uuid).map(Columns)
    }

    /// Whether the server's schema has the column.
    pub fn has(&self, column: &str) -> bool {
        self.0.columns.contains_key(column)
    }

    /// Its name.
    pub fn uuid(&self) -> Uuid {
        self.0.uuid
    }

    /// A string, empty if the column is.
    pub fn string(&self, column: &str) -> String {
        self.0
            .get(column)
            .as_scalar_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// An integer.
    pub fn int(&self, column: &str) -> Option<i64> {
        self.0.get(column).as_scalar_int()
    }

    /// A boolean.
    pub fn bool(&self, column: &str) -> Option<bool> {
        self.0.get(column).as_scalar_bool()
    }

    /// References.
    pub fn uuids(&self, column: &str) -> Vec<Uuid> {
        self.0.get(column).uuids().collect()
    }

    /// A set of strings.
    pub fn strings(&self, column: &str) -> Vec<String> {
        self.0.get(column).strs().map(str::to_owned).collect()
    }

    /// A set of VLANs.
    pub fn vlans(&self, column: &str) -> BTreeSet<u16> {
        self.0
            .get(column)
            .ints()
            .filter_map(|n| u16::try_from(n).ok())
            .filter(|n| *n < 4096)
            .collect()
    }

    /// A map of strings.
    pub fn map(&self, column: &str) -> BTreeMap<String, String> {
        self.0
            .get(column)
            .str_pairs()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    /// A map of integers to references.
    pub fn int_uuids(&self, column: &str) -> Vec<(i64, Uuid)> {
        self.0.get(column).int_uuid_pairs().collect()
    }

    /// Whether a set or map has nothing in it.
    pub fn is_empty(&self, column: &str) -> bool {
        self.0.get(column).is_empty()
    }

    /// The column as it is.
    pub fn datum(&self, column: &str) -> &'a Datum {
        self.0.get(column)
    }
}

impl Out {
    /// In the database's terms.
    pub fn to_datum(&self) -> Datum {
        match self {
            Out::Empty => Datum::empty_set(),
            Out::Int(n) => Datum::scalar(*n),
            Out::Str(s) => Datum::scalar(s.as_str()),
            Out::Bool(b) => Datum::scalar(*b),
            Out::Strs(v) => Datum::set(v.iter().map(String::as_str)),
            Out::Map(m) => Datum::map(m.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
            Out::Counters(m) => Datum::map(m.iter().map(|(k, v)| (k.as_str(), *v))),
        }
    }

    /// Whether a column reads so already.
    pub fn is(&self, now: &Datum) -> bool {
        match self {
            // An empty map may be kept as an empty set where the type is not known.
            Out::Map(m) if m.is_empty() => now.is_empty(),
            Out::Counters(m) if m.is_empty() => now.is_empty(),
            _ => self.to_datum() == *now,
        }
    }

    /// Whether a map reads so already, its `sec_...` entries apart.
    pub fn is_but_for_seconds(&self, now: &Datum) -> bool {
        let Out::Map(m) = self else { return false };
        let timeless = |k: &str| !k.starts_with("sec_");
        let mine = m
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .filter(|(k, _)| timeless(k));
        let now: BTreeMap<&str, &str> = now.str_pairs().filter(|(k, _)| timeless(k)).collect();
        mine.collect::<BTreeMap<_, _>>() == now
    }
}
