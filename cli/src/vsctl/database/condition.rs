//! The conditions of `find` and `wait-until`: `COLUMN[:KEY] OPERATOR VALUE`.

use ovsdb::schema::Type;
use uuid::Uuid;

use super::names::operand;
use crate::vsctl::context::{Context, Stop, fatal};
use crate::vsctl::model::Datum;
use crate::vsctl::text;

/// The comparisons of `find` and `wait-until`.
pub const OPERATORS: &[&str] = &[
    "=", "!=", "<", ">", "<=", ">=", "{=}", "{!=}", "{<}", "{>}", "{<=}", "{>=}", "{in}",
    "{not-in}",
];

/// Whether `have OPERATOR want`.
fn evaluate(have: &Datum, want: &Datum, operator: &str) -> bool {
    // Bigger sets are greater; equally big ones differ at the first element that does.
    let order = || match (have, want) {
        _ if have.len() != want.len() => have.len().cmp(&want.len()),
        (Datum::Map(a), Datum::Map(b)) => a
            .keys()
            .cmp(b.keys())
            .then_with(|| a.values().cmp(b.values())),
        _ => have.keys().cmp(want.keys()),
    };
    let includes = |a: &Datum, b: &Datum| match (a, b) {
        (Datum::Set(a), Datum::Set(b)) => a.is_superset(b),
        (Datum::Map(a), Datum::Map(b)) => b.iter().all(|(k, v)| a.get(k) == Some(v)),
        _ => false,
    };
    let excludes = |a: &Datum, b: &Datum| match (a, b) {
        (Datum::Set(a), Datum::Set(b)) => a.is_disjoint(b),
        (Datum::Map(a), Datum::Map(b)) => b.iter().all(|(k, v)| a.get(k) != Some(v)),
        _ => true,
    };
    match operator {
        "=" | "{=}" => have == want,
        "!=" | "{!=}" => have != want,
        "<" => order().is_lt(),
        ">" => order().is_gt(),
        "<=" => order().is_le(),
        ">=" => order().is_ge(),
        "{<}" => have.len() < want.len() && includes(want, have),
        "{>}" => have.len() > want.len() && includes(have, want),
        "{<=}" | "{in}" => includes(want, have),
        "{>=}" => includes(have, want),
        "{not-in}" => excludes(have, want),
        _ => false,
    }
}

/// Whether a row meets the condition `arg`.
pub fn is_satisfied(ctx: &mut Context, table: &str, row: Uuid, arg: &str) -> Result<bool, Stop> {
    let op = operand(ctx.view.schema, table, arg, OPERATORS)?;
    let is_set_operator = op.operator.starts_with('{');
    let have = ctx.view.get(table, row, op.name);
    let Some(key) = op.key else {
        let want = text::datum(&op.column.ty, op.value, ctx.symbols)?;
        return Ok(evaluate(&have, &want, op.operator));
    };
    let Some(value_type) = &op.column.ty.value else {
        fatal!("cannot specify key to check for non-map column {}", op.name);
    };
    let key = text::atom(&op.column.ty.key, &key, ctx.symbols)?;
    let ty = Type {
        key: value_type.clone(),
        value: None,
        min: 0,
        max: u32::MAX,
    };
    let want = text::datum(&ty, op.value, ctx.symbols)?;
    let found = match &have {
        Datum::Map(m) => m.get(&key),
        Datum::Set(_) => None,
    };
    Ok(match found {
        None if !is_set_operator => false,
        found => evaluate(
            &Datum::Set(found.into_iter().cloned().collect()),
            &want,
            op.operator,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::Atom;

    #[test]
    fn comparisons() {
        let set = |v: &[i64]| Datum::Set(v.iter().map(|n| Atom::Integer(*n)).collect());
        assert!(evaluate(&set(&[9]), &set(&[1, 2]), "<"));
        assert!(evaluate(&set(&[1, 3]), &set(&[1, 2]), ">"));
        assert!(evaluate(&set(&[]), &set(&[1, 2]), "{<=}"));
        assert!(evaluate(&set(&[1]), &set(&[1, 2]), "{<}"));
        assert!(!evaluate(&set(&[1, 2]), &set(&[1, 2]), "{<}"));
        assert!(evaluate(&set(&[3]), &set(&[1, 2]), "{not-in}"));
        assert!(!evaluate(&set(&[3]), &set(&[1, 2]), "{in}"));
    }
}
