//! Column values in a form that commands can change: the `ovsdb` crate's are packed for reading.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::Atom;
use ovsdb::schema::Type;
use serde_json::{Value, json};
use uuid::Uuid;

/// A column's value: a set (a scalar is a set of one) or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    Set(BTreeSet<Atom>),
    Map(BTreeMap<Atom, Atom>),
}

impl From<&ovsdb::Datum> for Datum {
    fn from(d: &ovsdb::Datum) -> Datum {
        if d.is_map() {
            Datum::Map(d.pairs().iter().cloned().collect())
        } else {
            Datum::Set(d.iter().cloned().collect())
        }
    }
}

impl Datum {
    /// The same value in the `ovsdb` crate's form.
    pub fn packed(&self) -> ovsdb::Datum {
        match self {
            Datum::Set(s) => ovsdb::Datum::set(s.iter().cloned()),
            Datum::Map(m) => ovsdb::Datum::map(m.iter().map(|(k, v)| (k.clone(), v.clone()))),
        }
    }

    /// The value a column has when nothing was said.
    pub fn default_of(ty: &Type) -> Datum {
        match (&ty.value, ty.min) {
            (None, 0) => Datum::Set(BTreeSet::new()),
            (Some(_), 0) => Datum::Map(BTreeMap::new()),
            (None, _) => Datum::Set([ty.key.atom.default_atom()].into()),
            (Some(v), _) => {
                Datum::Map([(ty.key.atom.default_atom(), v.atom.default_atom())].into())
            }
        }
    }

    pub fn string(s: &str) -> Datum {
        Datum::Set([Atom::from(s)].into())
    }

    pub fn integer(n: i64) -> Datum {
        Datum::Set([Atom::Integer(n)].into())
    }

    pub fn boolean(b: bool) -> Datum {
        Datum::Set([Atom::Boolean(b)].into())
    }

    pub fn uuids(ids: impl IntoIterator<Item = Uuid>) -> Datum {
        Datum::Set(ids.into_iter().map(Atom::Uuid).collect())
    }

    pub fn empty_set() -> Datum {
        Datum::Set(BTreeSet::new())
    }

    pub fn empty_map() -> Datum {
        Datum::Map(BTreeMap::new())
    }

    pub fn len(&self) -> usize {
        match self {
            Datum::Set(s) => s.len(),
            Datum::Map(m) => m.len(),
        }
    }

    /// The elements of a set, the keys of a map.
    pub fn keys(&self) -> Box<dyn Iterator<Item = &Atom> + '_> {
        match self {
            Datum::Set(s) => Box::new(s.iter()),
            Datum::Map(m) => Box::new(m.keys()),
        }
    }

    /// The one string of a string column ("" when empty).
    pub fn as_str(&self) -> &str {
        self.keys().next().and_then(Atom::as_str).unwrap_or("")
    }

    /// The one integer of an integer column.
    pub fn as_int(&self) -> Option<i64> {
        self.keys().next().and_then(Atom::as_int)
    }

    /// Whether a boolean column is true.
    pub fn as_bool(&self) -> bool {
        self.keys().next().and_then(Atom::as_bool).unwrap_or(false)
    }

    /// The UUIDs of a set.
    pub fn to_uuids(&self) -> Vec<Uuid> {
        self.keys().filter_map(Atom::as_uuid).collect()
    }

    /// The pairs of a map of strings.
    pub fn string_pairs(&self) -> Vec<(&str, &str)> {
        match self {
            Datum::Map(m) => m
                .iter()
                .filter_map(|(k, v)| Some((k.as_str()?, v.as_str()?)))
                .collect(),
            Datum::Set(_) => Vec::new(),
        }
    }

    /// RFC 7047 5.1 `<value>`; UUIDs for which `named` has a name become `["named-uuid", name]`.
    pub fn to_json(&self, named: &dyn Fn(&Uuid) -> Option<String>) -> Value {
        match self {
            Datum::Set(s) if s.len() == 1 => s
                .first()
                .map(|one| atom_to_json(one, named))
                .unwrap_or_default(),
            other => other.to_json_bracketed(named),
        }
    }

    /// As [`Datum::to_json`], with a set in brackets even if it has just one element.
    pub fn to_json_bracketed(&self, named: &dyn Fn(&Uuid) -> Option<String>) -> Value {
        match self {
            Datum::Set(s) => json!([
                "set",
                s.iter().map(|a| atom_to_json(a, named)).collect::<Vec<_>>()
            ]),
            Datum::Map(m) => json!([
                "map",
                m.iter()
                    .map(|(k, v)| json!([atom_to_json(k, named), atom_to_json(v, named)]))
                    .collect::<Vec<_>>()
            ]),
        }
    }
}

/// RFC 7047 5.1 `<atom>`, with `named` as in [`Datum::to_json`].
fn atom_to_json(atom: &Atom, named: &dyn Fn(&Uuid) -> Option<String>) -> Value {
    match atom.as_uuid().and_then(|u| named(&u)) {
        Some(name) => json!(["named-uuid", name]),
        None => atom.to_json(),
    }
}
