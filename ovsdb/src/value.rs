//! Atoms and datums: the values in columns (RFC 7047 5.1).
//!
//! A datum is a set or a map of atoms; a scalar is a set of one. Both are kept sorted, so that
//! equality, differences and membership cost one walk or one binary search, and are shared by
//! `Arc`, so that copying a row copies pointers. A scalar, by far the most frequent datum, is
//! held in place without any allocation.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::{Value, json};
pub use uuid::Uuid;

use crate::error::OvsdbError;
use crate::schema::{BaseType, Type};

/// The five types of atoms (RFC 7047 3.2, `<atomic-type>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomType {
    /// A signed 64-bit integer.
    Integer,
    /// A double.
    Real,
    /// true or false.
    Boolean,
    /// UTF-8 without NUL.
    String,
    /// A row's name.
    Uuid,
}

impl AtomType {
    /// The name in schemas.
    pub fn name(self) -> &'static str {
        match self {
            AtomType::Integer => "integer",
            AtomType::Real => "real",
            AtomType::Boolean => "boolean",
            AtomType::String => "string",
            AtomType::Uuid => "uuid",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "integer" => AtomType::Integer,
            "real" => AtomType::Real,
            "boolean" => AtomType::Boolean,
            "string" => AtomType::String,
            "uuid" => AtomType::Uuid,
            _ => return None,
        })
    }

    /// The default value (RFC 7047 5.2.1): 0, false, the empty string, the zero UUID.
    pub fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real(0.0)),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(Arc::from("")),
            AtomType::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

/// A double with a total order, as sets and maps need one.
#[derive(Debug, Clone, Copy)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Real {}
impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        // 0.0 and -0.0 are the same value; infinities and NaN never get in.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}
impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 + 0.0).to_bits().hash(state);
    }
}

/// One value of an atomic type (RFC 7047 5.1, `<atom>`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double.
    Real(Real),
    /// true or false.
    Boolean(bool),
    /// UTF-8 without NUL.
    String(Arc<str>),
    /// A row's name.
    Uuid(Uuid),
}

/// Names given to rows that a transaction inserts (`uuid-name`), with the UUIDs they stand for.
pub type Symbols = HashMap<String, Uuid>;

/// Reads a JSON number as an integer: `1`, and also `1.0` or `1e3`, as OVS does.
pub(crate) fn json_integer(json: &Value) -> Option<i64> {
    if let Some(i) = json.as_i64() {
        return Some(i);
    }
    let f = json.as_f64()?;
    (f.fract() == 0.0 && (-9.2e18..9.2e18).contains(&f)).then_some(f as i64)
}

/// The text of a double as OVS writes it: the shortest of 15 or 17 significant digits that reads
/// back the same, in the style of C's `%g`.
pub fn real_text(value: f64) -> String {
    let text = format_g(value, 15);
    if text.parse::<f64>() == Ok(value) {
        text
    } else {
        format_g(value, 17)
    }
}

/// C's `%.*g`.
pub(crate) fn format_g(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let e = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = e.split_once('e') else {
        return e;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| -> String {
        if s.contains('.') {
            s.trim_end_matches('0').trim_end_matches('.').into()
        } else {
            s.into()
        }
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    } else {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        trim(&format!("{value:.decimals$}"))
    }
}

impl Atom {
    /// Its type.
    pub fn atom_type(&self) -> AtomType {
        match self {
            Atom::Integer(_) => AtomType::Integer,
            Atom::Real(_) => AtomType::Real,
            Atom::Boolean(_) => AtomType::Boolean,
            Atom::String(_) => AtomType::String,
            Atom::Uuid(_) => AtomType::Uuid,
        }
    }

    /// The string of a string atom.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(s) => Some(s),
            _ => None,
        }
    }

    /// The integer of an integer atom.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Atom::Integer(i) => Some(*i),
            _ => None,
        }
    }

    /// The number of a real atom.
    pub fn as_real(&self) -> Option<f64> {
        match self {
            Atom::Real(r) => Some(r.0),
            _ => None,
        }
    }

    /// The truth of a boolean atom.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    /// The UUID of a UUID atom.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        }
    }

    /// Reads an `<atom>` of the given type, without looking at constraints. A `named-uuid` not
    /// yet in `symbols` is given a fresh UUID there; without `symbols` it is an error.
    ///
    /// # Errors
    /// `syntax error` where the JSON is no atom of that type.
    pub fn from_json(
        ty: AtomType,
        json: &Value,
        symbols: Option<&mut Symbols>,
    ) -> Result<Atom, OvsdbError> {
        let atom = match ty {
            AtomType::Integer => json_integer(json).map(Atom::Integer),
            AtomType::Real => json
                .as_f64()
                .filter(|f| f.is_finite())
                .map(|f| Atom::Real(Real(f))),
            AtomType::Boolean => json.as_bool().map(Atom::Boolean),
            AtomType::String => match json.as_str() {
                Some(s) if s.contains('\0') => {
                    return Err(OvsdbError::syntax(json, "string contains a NUL character"));
                }
                s => s.map(|s| Atom::String(Arc::from(s))),
            },
            AtomType::Uuid => return uuid_from_json(json, symbols).map(Atom::Uuid),
        };
        atom.ok_or_else(|| OvsdbError::syntax(json, format!("expected {}", ty.name())))
    }

    /// The `<atom>` in JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Atom::Integer(i) => (*i).into(),
            Atom::Real(r) => real_to_json(r.0),
            Atom::Boolean(b) => (*b).into(),
            Atom::String(s) => Value::String(s.to_string()),
            Atom::Uuid(u) => json!(["uuid", u.to_string()]),
        }
    }

    /// Appends the `<atom>` in JSON text.
    pub fn write_json(&self, out: &mut String) {
        use fmt::Write;
        match self {
            Atom::Integer(i) => _ = write!(out, "{i}"),
            Atom::Real(r) => out.push_str(&real_text(r.0)),
            Atom::Boolean(b) => out.push_str(if *b { "true" } else { "false" }),
            Atom::String(s) => write_json_string(s, out),
            Atom::Uuid(u) => {
                let mut buf = [0; 36];
                out.push_str("[\"uuid\",\"");
                out.push_str(u.hyphenated().encode_lower(&mut buf));
                out.push_str("\"]");
            }
        }
    }
}

/// A real in JSON: whole numbers without a fraction, as OVS writes them.
fn real_to_json(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9.0e15 {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

/// Appends a JSON string.
pub fn write_json_string(s: &str, out: &mut String) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    out.push('"');
    // Nearly all strings are plain; without a way out of it this loop is done many bytes at a time.
    if s.bytes().fold(true, |all, b| all & plain(b)) {
        out.push_str(s);
        out.push('"');
        return;
    }
    let mut start = 0;
    for (i, b) in s.bytes().enumerate() {
        if plain(b) {
            continue;
        }
        out.push_str(&s[start..i]);
        start = i + 1;
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => out.push_str(&format!("\\u{b:04x}")),
        }
    }
    out.push_str(&s[start..]);
    out.push('"');
}

/// True where `text` is a UUID in the form RFC 7047 knows (36 characters with hyphens).
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

/// True where `name` may be a `<named-uuid>`'s name: an `<id>` (RFC 7047 3.1).
pub fn is_id(name: &str) -> bool {
    let mut bytes = name.bytes();
    matches!(bytes.next(), Some(b) if b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn uuid_from_json(json: &Value, symbols: Option<&mut Symbols>) -> Result<Uuid, OvsdbError> {
    let expected = || OvsdbError::syntax(json, "expected [\"uuid\", <string>]");
    match (json.as_array().map(Vec::as_slice), symbols) {
        (Some([Value::String(kind), Value::String(text)]), _) if kind == "uuid" => parse_uuid(text)
            .ok_or_else(|| OvsdbError::syntax(json, format!("\"{text}\" is not a valid UUID"))),
        // Names of rows are known within transactions only.
        (Some([Value::String(kind), Value::String(name)]), Some(symbols))
            if kind == "named-uuid" =>
        {
            if is_id(name) {
                Ok(*symbols.entry(name.clone()).or_insert_with(Uuid::new_v4))
            } else {
                Err(OvsdbError::syntax(
                    json,
                    "named-uuid string is not a valid <id>",
                ))
            }
        }
        _ => Err(expected()),
    }
}

impl From<i64> for Atom {
    fn from(v: i64) -> Self {
        Atom::Integer(v)
    }
}
impl From<f64> for Atom {
    fn from(v: f64) -> Self {
        Atom::Real(Real(v))
    }
}
impl From<bool> for Atom {
    fn from(v: bool) -> Self {
        Atom::Boolean(v)
    }
}
impl From<&str> for Atom {
    fn from(v: &str) -> Self {
        Atom::String(Arc::from(v))
    }
}
impl From<String> for Atom {
    fn from(v: String) -> Self {
        Atom::String(Arc::from(v))
    }
}
impl From<Uuid> for Atom {
    fn from(v: Uuid) -> Self {
        Atom::Uuid(v)
    }
}

/// The value of a column: a set or a map of atoms, always sorted and without duplicates
/// (RFC 7047 5.1, `<value>`). A scalar is a set of one; an empty optional a set of none.
#[derive(Clone)]
pub struct Datum(Repr);

#[derive(Clone)]
enum Repr {
    One(Atom),
    Set(Arc<[Atom]>),
    Map(Arc<[(Atom, Atom)]>),
}

impl Datum {
    /// The empty set.
    pub fn empty_set() -> Self {
        static EMPTY: std::sync::LazyLock<Arc<[Atom]>> =
            std::sync::LazyLock::new(|| Arc::from(Vec::new()));
        Datum(Repr::Set(EMPTY.clone()))
    }

    /// The empty map.
    pub fn empty_map() -> Self {
        static EMPTY: std::sync::LazyLock<Arc<[(Atom, Atom)]>> =
            std::sync::LazyLock::new(|| Arc::from(Vec::new()));
        Datum(Repr::Map(EMPTY.clone()))
    }

    /// A set of one.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Datum(Repr::One(atom.into()))
    }

    /// A set of these atoms; duplicates count once.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self::from_sorted(atoms)
    }

    /// A map of these pairs; of several with the same key the last counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.reverse();
        pairs.dedup_by(|a, b| a.0 == b.0);
        pairs.reverse();
        Self::from_sorted_pairs(pairs)
    }

    /// A set of atoms that are already sorted and unique.
    pub(crate) fn from_sorted(mut atoms: Vec<Atom>) -> Self {
        debug_assert!(atoms.windows(2).all(|w| w[0] < w[1]));
        match atoms.len() {
            0 => Self::empty_set(),
            1 => Datum(Repr::One(atoms.remove(0))),
            _ => Datum(Repr::Set(atoms.into())),
        }
    }

    /// A map of pairs that are already sorted and unique.
    pub(crate) fn from_sorted_pairs(pairs: Vec<(Atom, Atom)>) -> Self {
        debug_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0));
        if pairs.is_empty() {
            Self::empty_map()
        } else {
            Datum(Repr::Map(pairs.into()))
        }
    }

    /// True for maps.
    pub fn is_map(&self) -> bool {
        matches!(self.0, Repr::Map(_))
    }

    /// The number of atoms, or of pairs.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(_) => 1,
            Repr::Set(s) => s.len(),
            Repr::Map(m) => m.len(),
        }
    }

    /// The number of atoms, those of keys and of values.
    pub fn atom_count(&self) -> usize {
        match &self.0 {
            Repr::Map(m) => m.len() * 2,
            _ => self.len(),
        }
    }

    /// True for the empty set and the empty map.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The atoms of a set, sorted (none for a map).
    pub fn atoms(&self) -> &[Atom] {
        match &self.0 {
            Repr::One(a) => std::slice::from_ref(a),
            Repr::Set(s) => s,
            Repr::Map(_) => &[],
        }
    }

    /// The atoms of a set, sorted (none for a map).
    pub fn iter(&self) -> std::slice::Iter<'_, Atom> {
        self.atoms().iter()
    }

    /// The pairs of a map, sorted by key (none for a set).
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match &self.0 {
            Repr::Map(m) => m,
            _ => &[],
        }
    }

    /// The only atom of a set of one.
    pub fn as_scalar(&self) -> Option<&Atom> {
        match self.atoms() {
            [a] => Some(a),
            _ => None,
        }
    }

    /// The string of a set of one string.
    pub fn as_scalar_str(&self) -> Option<&str> {
        self.as_scalar()?.as_str()
    }

    /// The integer of a set of one integer.
    pub fn as_scalar_int(&self) -> Option<i64> {
        self.as_scalar()?.as_int()
    }

    /// The truth of a set of one boolean.
    pub fn as_scalar_bool(&self) -> Option<bool> {
        self.as_scalar()?.as_bool()
    }

    /// The UUID of a set of one UUID.
    pub fn as_scalar_uuid(&self) -> Option<Uuid> {
        self.as_scalar()?.as_uuid()
    }

    /// The UUIDs in a set.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.iter().filter_map(Atom::as_uuid)
    }

    /// The strings in a set.
    pub fn strs(&self) -> impl Iterator<Item = &str> + '_ {
        self.iter().filter_map(Atom::as_str)
    }

    /// The integers in a set.
    pub fn ints(&self) -> impl Iterator<Item = i64> + '_ {
        self.iter().filter_map(Atom::as_int)
    }

    /// The string pairs of a map from strings to strings.
    pub fn str_pairs(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.pairs()
            .iter()
            .filter_map(|(k, v)| Some((k.as_str()?, v.as_str()?)))
    }

    /// The pairs of a map from integers to references.
    pub fn int_uuid_pairs(&self) -> impl Iterator<Item = (i64, Uuid)> + '_ {
        self.pairs()
            .iter()
            .filter_map(|(k, v)| Some((k.as_int()?, v.as_uuid()?)))
    }

    /// True where a set holds `atom`.
    pub fn contains(&self, atom: &Atom) -> bool {
        self.atoms().binary_search(atom).is_ok()
    }

    /// A map's value for `key`.
    pub fn map_get(&self, key: &Atom) -> Option<&Atom> {
        let pairs = self.pairs();
        let i = pairs.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Some(&pairs[i].1)
    }

    /// The string a map from strings to strings has for `key`.
    pub fn map_get_str(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        let i = pairs
            .binary_search_by(|(k, _)| match k {
                Atom::String(s) => (**s).cmp(key),
                other => other.atom_type().cmp(&AtomType::String),
            })
            .ok()?;
        pairs[i].1.as_str()
    }

    /// True where both share their memory, and so are equal without comparing.
    fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Set(a), Repr::Set(b)) => Arc::ptr_eq(a, b),
            (Repr::Map(a), Repr::Map(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Reads a `<value>` of type `ty`, with all constraints of the type.
    ///
    /// # Errors
    /// `syntax error` where the JSON is no value of that type, `constraint violation` where the
    /// type does not allow the value.
    pub fn from_json(ty: &Type, json: &Value) -> Result<Datum, OvsdbError> {
        Self::parse(ty, json, None, true)
    }

    /// As [`Datum::from_json`], within a transaction whose row names are `symbols`.
    pub fn from_json_named(
        ty: &Type,
        json: &Value,
        symbols: &mut Symbols,
    ) -> Result<Datum, OvsdbError> {
        Self::parse(ty, json, Some(symbols), true)
    }

    /// As [`Datum::from_json`] but with any number of members: for conditions, differences and
    /// mutations.
    pub(crate) fn from_json_any_size(
        ty: &Type,
        json: &Value,
        symbols: Option<&mut Symbols>,
    ) -> Result<Datum, OvsdbError> {
        Self::parse(ty, json, symbols, false)
    }

    fn parse(
        ty: &Type,
        json: &Value,
        mut symbols: Option<&mut Symbols>,
        check_size: bool,
    ) -> Result<Datum, OvsdbError> {
        let class = match json.as_array().map(Vec::as_slice) {
            Some([Value::String(c), Value::Array(list)]) if c == "set" || c == "map" => {
                Some((c.as_str(), list))
            }
            Some([Value::String(c), ..]) if c == "set" && ty.value.is_none() => {
                return Err(OvsdbError::syntax(json, "expected [\"set\", <array>]"));
            }
            _ => None,
        };
        let check = |n: usize| match ty.size_problem(n) {
            Some(problem) if check_size => Err(OvsdbError::syntax(json, problem)),
            _ => Ok(()),
        };
        let mut atom = |base: &BaseType, json: &Value| {
            let atom = Atom::from_json(base.atom, json, symbols.as_deref_mut())?;
            base.check(&atom)?;
            Ok::<_, OvsdbError>(atom)
        };
        if let Some(value_type) = &ty.value {
            let list = match class {
                Some(("map", list)) => list,
                // The empty set stands for the empty map too (RFC 7047 5.1).
                Some((_, list)) if list.is_empty() => list,
                _ => return Err(OvsdbError::syntax(json, "expected [\"map\", <array>]")),
            };
            check(list.len())?;
            let mut pairs = Vec::with_capacity(list.len());
            for element in list {
                let Some([k, v]) = element.as_array().map(Vec::as_slice) else {
                    return Err(OvsdbError::syntax(element, "expected 2-element array"));
                };
                pairs.push((atom(&ty.key, k)?, atom(value_type, v)?));
            }
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            if pairs.windows(2).any(|w| w[0].0 == w[1].0) {
                return Err(OvsdbError::new("ovsdb error", "map contains duplicate key"));
            }
            return Ok(Datum::from_sorted_pairs(pairs));
        }
        match class {
            Some(("set", list)) => {
                check(list.len())?;
                let mut atoms = list
                    .iter()
                    .map(|element| atom(&ty.key, element))
                    .collect::<Result<Vec<_>, _>>()?;
                atoms.sort_unstable();
                if atoms.windows(2).any(|w| w[0] == w[1]) {
                    return Err(OvsdbError::new("ovsdb error", "set contains duplicate"));
                }
                Ok(Datum::from_sorted(atoms))
            }
            _ => {
                let a = atom(&ty.key, json)?;
                check(1)?;
                Ok(Datum::scalar(a))
            }
        }
    }

    /// The `<value>` in JSON.
    pub fn to_json(&self) -> Value {
        match &self.0 {
            Repr::One(a) => a.to_json(),
            Repr::Set(s) => {
                json!(["set", s.iter().map(Atom::to_json).collect::<Vec<_>>()])
            }
            Repr::Map(m) => json!([
                "map",
                m.iter()
                    .map(|(k, v)| json!([k.to_json(), v.to_json()]))
                    .collect::<Vec<_>>()
            ]),
        }
    }

    /// Appends the `<value>` in JSON text.
    pub fn write_json(&self, out: &mut String) {
        match &self.0 {
            Repr::One(a) => a.write_json(out),
            Repr::Set(s) => {
                out.push_str("[\"set\",[");
                for (i, a) in s.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    a.write_json(out);
                }
                out.push_str("]]");
            }
            Repr::Map(m) => {
                out.push_str("[\"map\",[");
                for (i, (k, v)) in m.iter().enumerate() {
                    out.push_str(if i > 0 { ",[" } else { "[" });
                    k.write_json(out);
                    out.push(',');
                    v.write_json(out);
                    out.push(']');
                }
                out.push_str("]]");
            }
        }
    }

    /// Reads what [`Datum::to_json`] wrote where the type is not known; tells sets from maps
    /// by themselves. Integers and reals are told apart by their fraction.
    ///
    /// # Errors
    /// `syntax error` where the JSON is no value of any type.
    pub fn from_json_untyped(json: &Value) -> Result<Datum, OvsdbError> {
        let atom = |json: &Value| -> Result<Atom, OvsdbError> {
            let ty = match json {
                Value::Bool(_) => AtomType::Boolean,
                Value::String(_) => AtomType::String,
                Value::Number(_) if json_integer(json).is_some() => AtomType::Integer,
                Value::Number(_) => AtomType::Real,
                _ => AtomType::Uuid,
            };
            Atom::from_json(ty, json, None)
        };
        match json.as_array().map(Vec::as_slice) {
            Some([Value::String(c), Value::Array(list)]) if c == "set" => Ok(Datum::set(
                list.iter().map(atom).collect::<Result<Vec<_>, _>>()?,
            )),
            Some([Value::String(c), Value::Array(list)]) if c == "map" => {
                let mut pairs = Vec::with_capacity(list.len());
                for element in list {
                    let Some([k, v]) = element.as_array().map(Vec::as_slice) else {
                        return Err(OvsdbError::syntax(element, "expected 2-element array"));
                    };
                    pairs.push((atom(k)?, atom(v)?));
                }
                Ok(Datum::map(pairs))
            }
            _ => Ok(Datum::scalar(atom(json)?)),
        }
    }

    /// What must be toggled in `old` to get `self`: for columns with at most one member the new
    /// value itself; else for sets the atoms in just one of them, for maps the pairs that are new
    /// or changed (with the new value) or gone (with the old one). The form of the journal and of
    /// `update2` (ovsdb-server(7) 4.1.14).
    pub fn diff(&self, old: &Datum, ty: &Type) -> Datum {
        if ty.max == 1 {
            return self.clone();
        }
        if ty.value.is_some() {
            let (mut a, mut b) = (
                old.pairs().iter().peekable(),
                self.pairs().iter().peekable(),
            );
            let mut out = Vec::new();
            loop {
                match (a.peek(), b.peek()) {
                    (None, None) => break,
                    (Some(_), None) => out.extend(a.next().cloned()),
                    (None, Some(_)) => out.extend(b.next().cloned()),
                    (Some(x), Some(y)) => match x.0.cmp(&y.0) {
                        Ordering::Less => out.extend(a.next().cloned()),
                        Ordering::Greater => out.extend(b.next().cloned()),
                        Ordering::Equal => {
                            if x.1 != y.1 {
                                out.push((*y).clone());
                            }
                            a.next();
                            b.next();
                        }
                    },
                }
            }
            return Datum::from_sorted_pairs(out);
        }
        let mut out = Vec::new();
        self.toggle(old, |a| out.push(a.clone()));
        Datum::from_sorted(out)
    }

    /// Calls `f` for every atom that is in just one of the two sets, in order.
    fn toggle<'a>(&'a self, other: &'a Datum, mut f: impl FnMut(&'a Atom)) {
        let (mut a, mut b) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let take_a = match (a.peek(), b.peek()) {
                (None, None) => return,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(x), Some(y)) => match x.cmp(y) {
                    Ordering::Less => true,
                    Ordering::Greater => false,
                    Ordering::Equal => {
                        a.next();
                        b.next();
                        continue;
                    }
                },
            };
            if let Some(x) = if take_a { a.next() } else { b.next() } {
                f(x);
            }
        }
    }

    /// The value that `diff` (see [`Datum::diff`]) makes of `self`.
    ///
    /// # Errors
    /// Where the result has more or fewer members than the type allows.
    pub fn apply_diff(&self, diff: &Datum, ty: &Type) -> Result<Datum, OvsdbError> {
        let new = if ty.max == 1 {
            diff.clone()
        } else if ty.value.is_some() {
            let mut out = Vec::with_capacity(self.len() + diff.len());
            let (mut a, mut b) = (
                self.pairs().iter().peekable(),
                diff.pairs().iter().peekable(),
            );
            loop {
                match (a.peek(), b.peek()) {
                    (None, None) => break,
                    (Some(_), None) => out.extend(a.next().cloned()),
                    (None, Some(_)) => out.extend(b.next().cloned()),
                    (Some(x), Some(y)) => match x.0.cmp(&y.0) {
                        Ordering::Less => out.extend(a.next().cloned()),
                        Ordering::Greater => out.extend(b.next().cloned()),
                        Ordering::Equal => {
                            if x.1 != y.1 {
                                out.push((*y).clone());
                            }
                            a.next();
                            b.next();
                        }
                    },
                }
            }
            Datum::from_sorted_pairs(out)
        } else {
            let mut out = Vec::with_capacity(self.len() + diff.len());
            self.toggle(diff, |a| out.push(a.clone()));
            Datum::from_sorted(out)
        };
        ty.check_size(&new)?;
        Ok(new)
    }

    /// The union of two sets, or of two maps where `self` keeps its values.
    pub(crate) fn union(&self, other: &Datum) -> Datum {
        if self.is_map() {
            let mut out = self.pairs().to_vec();
            for pair in other.pairs() {
                if let Err(at) = out.binary_search_by(|(k, _)| k.cmp(&pair.0)) {
                    out.insert(at, pair.clone());
                }
            }
            Datum::from_sorted_pairs(out)
        } else {
            let mut out = Vec::with_capacity(self.len() + other.len());
            out.extend_from_slice(self.atoms());
            for atom in other.iter() {
                if let Err(at) = out.binary_search(atom) {
                    out.insert(at, atom.clone());
                }
            }
            Datum::from_sorted(out)
        }
    }

    /// The set without `other`'s atoms; the map without the pairs `other` holds, or, where
    /// `other` is a set, without the keys it holds.
    pub(crate) fn subtract(&self, other: &Datum) -> Datum {
        if self.is_map() {
            Datum::from_sorted_pairs(
                self.pairs()
                    .iter()
                    .filter(|(k, v)| {
                        if other.is_map() {
                            other.map_get(k) != Some(v)
                        } else {
                            !other.contains(k)
                        }
                    })
                    .cloned()
                    .collect(),
            )
        } else {
            Datum::from_sorted(
                self.iter()
                    .filter(|a| !other.contains(a))
                    .cloned()
                    .collect(),
            )
        }
    }

    /// True where all of `other`'s atoms or pairs are in `self`.
    pub(crate) fn includes(&self, other: &Datum) -> bool {
        if other.is_map() {
            other
                .pairs()
                .iter()
                .all(|(k, v)| self.map_get(k) == Some(v))
        } else {
            other.iter().all(|a| self.contains(a))
        }
    }

    /// True where none of `other`'s atoms or pairs is in `self`.
    pub(crate) fn excludes(&self, other: &Datum) -> bool {
        if other.is_map() {
            !other
                .pairs()
                .iter()
                .any(|(k, v)| self.map_get(k) == Some(v))
        } else {
            !other.iter().any(|a| self.contains(a))
        }
    }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
            || (self.is_map() == other.is_map()
                && self.atoms() == other.atoms()
                && self.pairs() == other.pairs())
    }
}
impl Eq for Datum {}
impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Datum {
    fn cmp(&self, other: &Self) -> Ordering {
        self.len()
            .cmp(&other.len())
            .then_with(|| self.is_map().cmp(&other.is_map()))
            .then_with(|| self.atoms().cmp(other.atoms()))
            .then_with(|| self.pairs().cmp(other.pairs()))
    }
}
impl Hash for Datum {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.atoms().hash(state);
        self.pairs().hash(state);
    }
}
impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write_json(&mut text);
        f.write_str(&text)
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(value: A) -> Self {
        Datum::scalar(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reals_print_as_c_does() {
        assert_eq!(real_text(0.1), "0.1");
        assert_eq!(real_text(1e100), "1e+100");
        assert_eq!(real_text(1.0 / 3.0), "0.33333333333333331");
        assert_eq!(real_text(1e-7), "1e-07");
        assert_eq!(real_text(12345.5), "12345.5");
    }

    #[test]
    fn map_keeps_the_last_of_equal_keys() {
        let m = Datum::map([("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(m.map_get_str("a"), Some("3"));
        assert_eq!(m.len(), 2);
        assert_eq!(m.map_get_str("c"), None);
    }

    #[test]
    fn json_of_values_is_that_of_the_rfc() {
        let mut s = String::new();
        Datum::map([("a\n\"", 1i64)]).write_json(&mut s);
        assert_eq!(s, r#"["map",[["a\n\"",1]]]"#);
        assert_eq!(Datum::empty_set().to_json(), json!(["set", []]));
        assert_eq!(Datum::scalar(true).to_json(), json!(true));
    }

    #[test]
    fn whole_reals_are_integers_too() {
        let t = Type::scalar(AtomType::Integer);
        assert_eq!(
            Datum::from_json(&t, &json!(2.0)).unwrap(),
            Datum::scalar(2i64)
        );
        let e = Datum::from_json(&t, &json!(1.5)).unwrap_err();
        assert_eq!(
            (e.name.as_str(), e.details.as_str()),
            ("syntax error", "expected integer")
        );
    }

    proptest! {
        #[test]
        fn diff_then_apply_gives_back_sets(
            a in proptest::collection::btree_set(0i64..20, 0..12),
            b in proptest::collection::btree_set(0i64..20, 0..12),
        ) {
            let t = Type::set_of(AtomType::Integer);
            let (a, b) = (Datum::set(a), Datum::set(b));
            prop_assert_eq!(a.apply_diff(&b.diff(&a, &t), &t).unwrap(), b);
        }

        #[test]
        fn diff_then_apply_gives_back_maps(
            a in proptest::collection::btree_map(0i64..9, 0i64..3, 0..9),
            b in proptest::collection::btree_map(0i64..9, 0i64..3, 0..9),
        ) {
            let t = Type::map_of(AtomType::Integer, AtomType::Integer);
            let (a, b) = (Datum::map(a), Datum::map(b));
            prop_assert_eq!(a.apply_diff(&b.diff(&a, &t), &t).unwrap(), b);
        }

        #[test]
        fn reals_read_back(v in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            prop_assert_eq!(real_text(v).parse::<f64>().unwrap(), v);
        }
    }
}
