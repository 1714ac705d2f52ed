//! Atoms and datums as people read and type them in the tools (ovs-vsctl(8), "Database Values").

use crate::schema::Type;
use crate::value::{Atom, Datum, parse_uuid, real_text, write_json_string};

/// True where a string must be written in quotes: it does not begin with a letter or `_`, holds
/// anything but letters, digits, `_`, `-` and `.`, or could be taken for a boolean or a UUID.
pub fn needs_quotes(s: &str) -> bool {
    let mut bytes = s.bytes();
    let first_ok = matches!(bytes.next(), Some(b) if b.is_ascii_alphabetic() || b == b'_');
    !first_ok
        || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        || s == "true"
        || s == "false"
        || parse_uuid(s).is_some()
}

/// An atom as `--data=string` writes it.
pub fn atom_text(atom: &Atom) -> String {
    match atom {
        Atom::Integer(i) => i.to_string(),
        Atom::Real(r) => real_text(r.0),
        Atom::Boolean(b) => b.to_string(),
        Atom::Uuid(u) => u.to_string(),
        Atom::String(s) if needs_quotes(s) => {
            let mut out = String::with_capacity(s.len() + 2);
            write_json_string(s, &mut out);
            out
        }
        Atom::String(s) => s.to_string(),
    }
}

/// An atom as `--data=bare` writes it: no quotes.
pub fn atom_bare(atom: &Atom) -> String {
    match atom {
        Atom::String(s) => s.to_string(),
        other => atom_text(other),
    }
}

fn joined(datum: &Datum, sep: &str, atom: fn(&Atom) -> String) -> String {
    let items: Vec<String> = if datum.is_map() {
        datum
            .pairs()
            .iter()
            .map(|(k, v)| format!("{}={}", atom(k), atom(v)))
            .collect()
    } else {
        datum.iter().map(atom).collect()
    };
    items.join(sep)
}

/// A datum of type `ty` as `--data=string` writes it: a set in brackets unless the type allows one
/// value at most and there is one, a map always in braces.
pub fn datum_text(datum: &Datum, ty: &Type) -> String {
    match datum.as_scalar() {
        Some(a) if ty.max == 1 => atom_text(a),
        _ => datum_text_bracketed(datum),
    }
}

/// A set always in brackets (or a map in braces), whatever its size.
pub fn datum_text_bracketed(datum: &Datum) -> String {
    if datum.is_map() {
        format!("{{{}}}", joined(datum, ", ", atom_text))
    } else {
        format!("[{}]", joined(datum, ", ", atom_text))
    }
}

/// A datum as `--data=bare` writes it: members separated by spaces, without brackets or quotes.
pub fn datum_bare(datum: &Datum) -> String {
    joined(datum, " ", atom_bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::AtomType;

    #[test]
    fn quotes_where_ovs_puts_them() {
        for (s, want) in [
            ("abcd", "abcd"),
            ("1x", "\"1x\""),
            ("true", "\"true\""),
            ("b1", "b1"),
            ("-x", "\"-x\""),
            ("_x", "_x"),
            ("é", "\"é\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("", "\"\""),
            ("a-b.c", "a-b.c"),
            (
                "af910305-583b-4c60-8927-7b9bd29d08f6",
                "\"af910305-583b-4c60-8927-7b9bd29d08f6\"",
            ),
        ] {
            assert_eq!(atom_text(&s.into()), want);
        }
    }

    #[test]
    fn sets_and_maps() {
        let set = Type::set_of(AtomType::Integer);
        let one = Type {
            max: 1,
            ..set.clone()
        };
        assert_eq!(datum_text(&Datum::set([3i64, 1]), &set), "[1, 3]");
        assert_eq!(datum_text(&Datum::empty_set(), &one), "[]");
        assert_eq!(datum_text(&Datum::set([3i64]), &set), "[3]");
        assert_eq!(datum_text(&Datum::set([3i64]), &one), "3");
        let map = Type::map_of(AtomType::String, AtomType::String);
        assert_eq!(datum_text(&Datum::map([("a", "1 2")]), &map), "{a=\"1 2\"}");
        let bare = datum_bare(&Datum::map([("a", "1 2"), ("b", "c")]));
        assert_eq!(bare, "a=1 2 b=c");
    }
}
