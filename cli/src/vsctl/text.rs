//! How values are typed and printed on the command line: ovs-vsctl(8), "Database Values".

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::schema::{BaseType, Type};
use ovsdb::text::datum_text;
use ovsdb::{Atom, AtomType, Real};
use uuid::Uuid;

use super::model::Datum;

/// Most integers that one range (`0-4095`) may stand for.
const MAX_RANGE: i64 = 4096;

/// A row named with `--id=@name`.
#[derive(Clone, Debug)]
pub struct Symbol {
    pub uuid: Uuid,
    pub created: bool,
    pub strong_ref: bool,
    pub weak_ref: bool,
}

/// The named rows of one command line, by name with its `@`.
#[derive(Clone, Debug, Default)]
pub struct Symbols(pub BTreeMap<String, Symbol>);

impl Symbols {
    /// The symbol `name`, made now if it was not spoken of before.
    pub fn entry(&mut self, name: &str) -> &mut Symbol {
        self.0.entry(name.to_string()).or_insert_with(|| Symbol {
            uuid: Uuid::new_v4(),
            created: false,
            strong_ref: false,
            weak_ref: false,
        })
    }
}

fn is_delimiter(c: char) -> bool {
    ":=, []{}!<>".contains(c)
}

/// Takes a word off `s`: up to a delimiter, where quotes and backslashes protect delimiters. Quotes,
/// and backslashes within them, stay.
pub fn token(s: &mut &str) -> Result<String, String> {
    let whole = *s;
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = whole.char_indices();
    let mut end = whole.len();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, protected) = chars
                    .next()
                    .ok_or_else(|| format!("{whole}: backslash at end of argument"))?;
                if quoted {
                    word.push('\\');
                }
                word.push(protected);
            }
            c if !quoted && is_delimiter(c) => {
                end = i;
                break;
            }
            c => {
                quoted ^= c == '"';
                word.push(c);
            }
        }
    }
    if quoted {
        return Err(format!(
            "{whole}: quoted string extends past end of argument"
        ));
    }
    *s = &whole[end..];
    Ok(word)
}

/// What is inside the quotes of a JSON string; control characters may stand as they are.
fn unescape(inner: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Err("quoted string may not include unescaped \"".into()),
            '\\' => {}
            c => {
                out.push(c);
                continue;
            }
        }
        out.push(match rest.next() {
            None => return Err("quoted string may not end with backslash".into()),
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => escaped_character(&mut rest)?,
            Some(c) => return Err(format!("bad escape \\{c}")),
        });
    }
    Ok(out)
}

/// The four hexadecimal digits after `\u`.
fn code_unit(rest: &mut std::str::Chars) -> Result<u16, &'static str> {
    let mut unit = 0;
    for _ in 0..4 {
        let c = rest.next().ok_or("quoted string ends within \\u escape")?;
        let digit = c.to_digit(16).ok_or("malformed \\u escape")?;
        unit = unit << 4 | digit as u16;
    }
    match unit {
        0 => Err("null bytes not supported in quoted strings"),
        unit => Ok(unit),
    }
}

/// The character after `\u`, which may take a second `\u` (RFC 8259 7).
fn escaped_character(rest: &mut std::str::Chars) -> Result<char, &'static str> {
    let first = code_unit(rest)?;
    if let Some(c) = char::from_u32(first.into()) {
        return Ok(c);
    }
    if first >= 0xdc00 || rest.next() != Some('\\') || rest.next() != Some('u') {
        return Err("malformed escaped surrogate pair");
    }
    match char::decode_utf16([first, code_unit(rest)?]).next() {
        Some(Ok(c)) => Ok(c),
        _ => Err("second half of escaped surrogate pair is not trailing surrogate"),
    }
}

fn integer(s: &str) -> Option<i64> {
    s.parse().ok()
}

/// A range `FIRST-LAST` of integers.
fn range(s: &str) -> Option<(i64, i64)> {
    let dash = s.char_indices().skip(1).find(|(_, c)| *c == '-')?.0;
    Some((integer(&s[..dash])?, integer(&s[dash + 1..])?))
}

/// Reads one atom, or a range of integers, of type `base`.
fn atoms(base: &BaseType, s: &str, symbols: &mut Symbols) -> Result<Vec<Atom>, String> {
    let atom = match base.atom {
        AtomType::Integer => match (integer(s), range(s)) {
            (Some(n), _) => Atom::Integer(n),
            (None, Some((first, last))) => {
                if last < first {
                    return Err(format!(
                        "\"{s}\" is not a valid range. Range end cannot be before start."
                    ));
                }
                check(base, &Atom::Integer(first))?;
                check(base, &Atom::Integer(last))?;
                if last.checked_sub(first).is_none_or(|n| n >= MAX_RANGE) {
                    return Err(format!("\"{s}\" is not a valid range"));
                }
                return Ok((first..=last).map(Atom::Integer).collect());
            }
            _ => return Err(format!("\"{s}\" is not a valid integer or range")),
        },
        AtomType::Real => match s.parse::<f64>() {
            Ok(r) if r.is_finite() => Atom::Real(Real(r)),
            _ => return Err(format!("\"{s}\" is not a valid real number")),
        },
        AtomType::Boolean => match s {
            "true" | "yes" | "on" | "1" => Atom::Boolean(true),
            "false" | "no" | "off" | "0" => Atom::Boolean(false),
            _ => {
                return Err(format!(
                    "\"{s}\" is not a valid boolean (use \"true\" or \"false\")"
                ));
            }
        },
        AtomType::String => {
            if s.is_empty() {
                return Err(
                    "An empty string is not valid as input; use \"\" to represent the empty string"
                        .into(),
                );
            } else if let Some(rest) = s.strip_prefix('"') {
                let inner = rest
                    .strip_suffix('"')
                    .ok_or_else(|| format!("{s}: missing quote at end of quoted string"))?;
                Atom::from(unescape(inner).map_err(|e| format!("{s}: {e}"))?)
            } else {
                Atom::String(s.into())
            }
        }
        AtomType::Uuid if s.starts_with('@') => {
            let symbol = symbols.entry(s);
            symbol.strong_ref |= base.is_strong();
            symbol.weak_ref |= base.is_weak();
            Atom::Uuid(symbol.uuid)
        }
        AtomType::Uuid => match full_uuid(s) {
            Some(u) => Atom::Uuid(u),
            None => return Err(format!("\"{s}\" is not a valid UUID")),
        },
    };
    check(base, &atom)?;
    Ok(vec![atom])
}

/// A UUID written in full, with its hyphens.
pub fn full_uuid(s: &str) -> Option<Uuid> {
    if s.len() == 36 {
        Uuid::parse_str(s).ok()
    } else {
        None
    }
}

/// Whether `s` is the beginning of a UUID, of at least four digits.
pub fn is_uuid_prefix(s: &str) -> bool {
    (4..=36).contains(&s.len())
        && s.chars().enumerate().all(|(i, c)| match i {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// Reads one atom of type `base`.
pub fn atom(base: &BaseType, s: &str, symbols: &mut Symbols) -> Result<Atom, String> {
    match atoms(base, s, symbols)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(format!("\"{s}\" is not a valid integer or range")),
    }
}

/// Checks the constraints of `base`.
fn check(base: &BaseType, atom: &Atom) -> Result<(), String> {
    base.check(atom).map_err(|e| e.to_string())
}

/// Reads a set or map as typed on the command line.
pub fn datum(ty: &Type, s: &str, symbols: &mut Symbols) -> Result<Datum, String> {
    let mut p = s.trim_start_matches(' ');
    let (open, close) = if ty.is_map() { ('{', '}') } else { ('[', ']') };
    let mut end = None;
    if let Some(rest) = p.strip_prefix(open) {
        end = Some(close);
        p = rest.trim_start_matches(' ');
    }
    let mut set = BTreeSet::new();
    let mut map = BTreeMap::new();
    let mut n = 0usize;
    while let Some(c) = p.chars().next() {
        if Some(c) == end {
            break;
        }
        if is_delimiter(c) {
            return Err(format!("{s}: unexpected \"{c}\" parsing {}", ty.describe()));
        }
        let element = p;
        let word = token(&mut p)?;
        if let Some(value) = &ty.value {
            let key = atom(&ty.key, &word, symbols)?;
            p = p.trim_start_matches(' ');
            let Some(rest) = p.strip_prefix('=') else {
                return Err(match p.chars().next() {
                    Some(c) => format!("{element}: syntax error at \"{c}\" expecting \"=\""),
                    // What Open vSwitch prints, too: its message ends at the end of the argument.
                    None => format!("{element}: syntax error at \""),
                });
            };
            p = rest.trim_start_matches(' ');
            map.insert(key, atom(value, &token(&mut p)?, symbols)?);
            n += 1;
        } else {
            let elements = atoms(&ty.key, &word, symbols)?;
            n += elements.len();
            set.extend(elements);
        }
        p = p.trim_start_matches(' ');
        if let Some(rest) = p.strip_prefix(',') {
            p = rest.trim_start_matches(' ');
        }
    }
    if let Some(end) = end {
        let Some(rest) = p.strip_prefix(end) else {
            return Err(format!("{s}: missing \"{end}\" at end of data"));
        };
        if !rest.trim_start_matches(' ').is_empty() {
            return Err(format!("{s}: trailing garbage after \"{end}\""));
        }
    }
    let what = if ty.is_map() { "pair(s)" } else { "value(s)" };
    if n < ty.min as usize {
        return Err(format!(
            "{s}: {n} {what} specified but the minimum number is {}",
            ty.min
        ));
    }
    if n as u64 > u64::from(ty.max) {
        return Err(format!(
            "{s}: {n} {what} specified but the maximum number is {}",
            ty.max
        ));
    }
    if ty.is_map() {
        if map.len() < n {
            return Err(format!("{s}: map contains duplicate key"));
        }
        Ok(Datum::Map(map))
    } else {
        if set.len() < n {
            return Err(format!("{s}: set contains duplicate value"));
        }
        Ok(Datum::Set(set))
    }
}

/// A value of type `ty` in the form that [`datum`] reads.
pub fn print(datum: &Datum, ty: &Type) -> String {
    datum_text(&datum.packed(), ty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ty(spec: serde_json::Value) -> Type {
        Type::from_json(&spec).unwrap()
    }

    fn read(spec: serde_json::Value, s: &str) -> Result<String, String> {
        let ty = ty(spec);
        datum(&ty, s, &mut Symbols::default()).map(|d| print(&d, &ty))
    }

    #[test]
    fn sets() {
        let vlans = json!({"key": {"type": "integer", "minInteger": 0, "maxInteger": 4095}, "min": 0, "max": 4096});
        assert_eq!(read(vlans.clone(), "30, 20,40"), Ok("[20, 30, 40]".into()));
        assert_eq!(read(vlans.clone(), "[ 5-7 9 ]"), Ok("[5, 6, 7, 9]".into()));
        assert_eq!(read(vlans.clone(), "[]"), Ok("[]".into()));
        for (input, error) in [
            ("1,1", "1,1: set contains duplicate value"),
            (
                "5-3",
                "\"5-3\" is not a valid range. Range end cannot be before start.",
            ),
            ("5-", "\"5-\" is not a valid integer or range"),
            (
                "0-4096",
                "constraint violation: 4096 is not in the valid range 0 to 4095 (inclusive)",
            ),
            ("[1", "[1: missing \"]\" at end of data"),
            ("[1]x", "[1]x: trailing garbage after \"]\""),
            (
                "{1}",
                "{1}: unexpected \"{\" parsing set of up to 4096 integers",
            ),
        ] {
            assert_eq!(read(vlans.clone(), input), Err(error.into()));
        }
        let optional = json!({"key": "integer", "min": 0, "max": 1});
        assert_eq!(read(optional.clone(), "7"), Ok("7".into()));
        assert_eq!(
            read(optional, "1,2"),
            Err("1,2: 2 value(s) specified but the maximum number is 1".into())
        );
    }

    #[test]
    fn maps_and_quotes() {
        let map = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
        assert_eq!(
            read(map.clone(), "{a=b, \"x y\"=\"1\\n\"}"),
            Ok("{a=b, \"x y\"=\"1\\n\"}".into())
        );
        assert_eq!(
            read(map.clone(), "max-rate=10000000"),
            Ok("{max-rate=\"10000000\"}".into())
        );
        assert_eq!(read(map.clone(), "a"), Err("a: syntax error at \"".into()));
        assert_eq!(
            read(map.clone(), "a=1,a=2"),
            Err("a=1,a=2: map contains duplicate key".into())
        );
        assert_eq!(
            read(map, "{a=b,,c}"),
            Err("{a=b,,c}: unexpected \",\" parsing map of (string, string) pairs".into())
        );
    }

    #[test]
    fn names_refer_forward() {
        let strong =
            ty(json!({"key": {"type": "uuid", "refTable": "X"}, "min": 0, "max": "unlimited"}));
        let mut symbols = Symbols::default();
        let d = datum(&strong, "@a,@b", &mut symbols).unwrap();
        assert_eq!(d.len(), 2);
        assert!(symbols.0["@a"].strong_ref && !symbols.0["@a"].created);
    }

    #[test]
    fn uuid_prefixes() {
        assert!(is_uuid_prefix("0123") && is_uuid_prefix("01234567-89ab"));
        assert!(!is_uuid_prefix("012") && !is_uuid_prefix("0123456789") && !is_uuid_prefix("wxyz"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(s in "\\PC*") {
            let map = ty(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"}));
            let set = ty(json!({"key": "integer", "min": 0, "max": "unlimited"}));
            for t in [map, set] {
                if let Ok(d) = datum(&t, &s, &mut Symbols::default()) {
                    // What is printed reads back the same.
                    let again = datum(&t, &print(&d, &t), &mut Symbols::default());
                    proptest::prop_assert_eq!(again, Ok(d));
                }
            }
        }
    }
}
