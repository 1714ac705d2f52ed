//! How tables, columns and rows are named on the command line: ovs-vsctl(8), "Table and Record
//! Identifiers" and "Database Commands".

use ovsdb::schema::{ColumnSchema, DatabaseSchema};
use ovsdb::{Atom, AtomType};
use uuid::Uuid;

use crate::vsctl::context::{Context, Stop, fatal};
use crate::vsctl::text;

/// Another way to name a row than by its UUID.
struct RowId {
    table: &'static str,
    /// Table and column that the name is looked for in; none for `.`, the only row.
    named_by: Option<(&'static str, &'static str)>,
    /// The column of the naming table that refers to the row, unless it is the row itself.
    via: Option<&'static str>,
}

const fn own(table: &'static str, column: &'static str) -> RowId {
    RowId {
        table,
        named_by: Some((table, column)),
        via: None,
    }
}

const fn of_bridge(table: &'static str, via: &'static str) -> RowId {
    RowId {
        table,
        named_by: Some(("Bridge", "name")),
        via: Some(via),
    }
}

const fn only(table: &'static str) -> RowId {
    RowId {
        table,
        named_by: None,
        via: None,
    }
}

/// How rows can be named, by table.
const ROW_IDS: &[RowId] = &[
    of_bridge("AutoAttach", "auto_attach"),
    own("Bridge", "name"),
    of_bridge("Controller", "controller"),
    own("Flow_Sample_Collector_Set", "id"),
    own("Flow_Table", "name"),
    of_bridge("IPFIX", "ipfix"),
    own("Interface", "name"),
    own("Manager", "target"),
    own("Mirror", "name"),
    of_bridge("NetFlow", "netflow"),
    only("Open_vSwitch"),
    own("Port", "name"),
    RowId {
        table: "QoS",
        named_by: Some(("Port", "name")),
        via: Some("qos"),
    },
    only("SSL"),
    of_bridge("sFlow", "sflow"),
];

/// How well `typed` abbreviates `name`: 0 not at all, more for more letters.
fn score(name: &str, typed: &str) -> usize {
    if name == typed {
        return usize::MAX;
    }
    let fold = |c: u8| {
        if c == b'-' {
            b'_'
        } else {
            c.to_ascii_lowercase()
        }
    };
    let (name, typed) = (name.as_bytes(), typed.as_bytes());
    if typed.len() > name.len() || typed.iter().zip(name).any(|(t, n)| fold(*t) != fold(*n)) {
        0
    } else if typed.len() == name.len() {
        usize::MAX - 1
    } else {
        typed.len()
    }
}

/// The best match for `typed`: one name, or all that match equally well.
fn best<'n>(
    names: impl Iterator<Item = &'n String>,
    typed: &str,
) -> Result<&'n String, Vec<&'n String>> {
    let mut best = 0;
    let mut found = Vec::new();
    for name in names {
        let s = score(name, typed);
        if s > best {
            best = s;
            found.clear();
        }
        if s == best && s > 0 {
            found.push(name);
        }
    }
    match found.as_slice() {
        [one] => Ok(one),
        _ => Err(found),
    }
}

fn join(names: &[&String]) -> String {
    names
        .iter()
        .map(|n| n.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The table that `typed` means.
pub fn find_table<'s>(schema: &'s DatabaseSchema, typed: &str) -> Result<&'s str, Stop> {
    match best(schema.tables.keys(), typed) {
        Ok(name) => Ok(name),
        Err(none) if none.is_empty() => fatal!("unknown table \"{typed}\""),
        Err(many) => fatal!("\"{typed}\" matches multiple table names: {}", join(&many)),
    }
}

/// The column of `table` that `typed` means.
pub fn find_column<'s>(
    schema: &'s DatabaseSchema,
    table: &str,
    typed: &str,
) -> Result<(&'s str, &'s ColumnSchema), Stop> {
    let Some(columns) = schema.tables.get(table).map(|t| &t.columns) else {
        fatal!("unknown table \"{table}\"");
    };
    match best(columns.keys(), typed) {
        Ok(name) => Ok((name, &columns[name])),
        Err(none) if none.is_empty() => {
            fatal!("{table} does not contain a column whose name matches \"{typed}\"")
        }
        Err(many) => {
            fatal!(
                "{table} contains more than one column whose name matches \"{typed}\": {}",
                join(&many)
            )
        }
    }
}

/// An argument `COLUMN[:KEY][OPERATOR VALUE]` taken apart.
pub struct Operand<'s, 'a> {
    pub name: &'s str,
    pub column: &'s ColumnSchema,
    pub key: Option<String>,
    pub operator: &'static str,
    pub value: &'a str,
}

/// Takes apart `arg`. With `operators`, one of them and a value must follow; without, nothing may.
pub fn operand<'s, 'a>(
    schema: &'s DatabaseSchema,
    table: &str,
    arg: &'a str,
    operators: &[&'static str],
) -> Result<Operand<'s, 'a>, Stop> {
    let mut p = arg;
    let typed = text::token(&mut p)?;
    if typed.is_empty() {
        fatal!("{arg}: missing column name");
    }
    let (name, column) = find_column(schema, table, &typed)?;
    let mut key = None;
    if let Some(rest) = p.strip_prefix(':') {
        p = rest;
        key = Some(text::token(&mut p)?);
    }
    if operators.is_empty() {
        if !p.is_empty() {
            fatal!("{arg}: trailing garbage \"{p}\" in argument");
        }
        return Ok(Operand {
            name,
            column,
            key,
            operator: "",
            value: "",
        });
    }
    let operator = operators
        .iter()
        .filter(|op| p.starts_with(**op) && p.len() > op.len())
        .max_by_key(|op| op.len());
    let Some(operator) = operator else {
        let list = match operators {
            [one] => format!("\"{one}\""),
            [first, middle @ .., last] => {
                let middle: String = middle.iter().map(|o| format!(", \"{o}\"")).collect();
                format!("\"{first}\"{middle}, or \"{last}\"")
            }
            [] => String::new(),
        };
        fatal!("{arg}: argument does not end in {list} followed by a value.");
    };
    Ok(Operand {
        name,
        column,
        key,
        operator,
        value: &p[operator.len()..],
    })
}

/// The row of `table` that `id` names.
pub fn find_row(
    ctx: &mut Context,
    table: &str,
    id: &str,
    must_exist: bool,
) -> Result<Option<Uuid>, Stop> {
    if let Some(uuid) = text::full_uuid(id)
        && ctx.view.exists(table, uuid)
    {
        return Ok(Some(uuid));
    }
    for row_id in ROW_IDS.iter().filter(|r| r.table == table) {
        if let Some(row) = find_row_by(ctx, row_id, id)? {
            return Ok(Some(row));
        }
    }
    if text::is_uuid_prefix(id) {
        let rows = ctx.view.rows(table);
        let mut matching = rows.iter().filter(|u| u.to_string().starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(a), Some(b)) => {
                fatal!(
                    "{table} contains 2 or more rows whose UUIDs begin with {id}: at least {a} and {b}"
                )
            }
            (Some(one), None) => return Ok(Some(*one)),
            _ => {}
        }
    }
    if must_exist {
        fatal!("no row \"{id}\" in table {table}");
    }
    Ok(None)
}

fn find_row_by(ctx: &mut Context, row_id: &RowId, id: &str) -> Result<Option<Uuid>, Stop> {
    let Some((table, column)) = row_id.named_by else {
        return Ok(match ctx.view.rows(row_id.table).as_slice() {
            [one] if id == "." => Some(*one),
            _ => None,
        });
    };
    let Some(spec) = ctx
        .view
        .schema
        .tables
        .get(table)
        .and_then(|t| t.columns.get(column))
    else {
        return Ok(None);
    };
    let wanted = match spec.ty.key.atom {
        AtomType::Integer => match id.parse() {
            Ok(n) => Atom::Integer(n),
            Err(_) => return Ok(None),
        },
        _ => Atom::String(id.into()),
    };
    let mut found = None;
    for row in ctx.view.rows(table) {
        ctx.view.verify(table, row, column);
        if ctx
            .view
            .get(table, row, column)
            .keys()
            .any(|a| *a == wanted)
        {
            if found.is_some() {
                fatal!("multiple rows in {table} match \"{id}\"");
            }
            found = Some(row);
        }
    }
    let (Some(row), Some(via)) = (found, row_id.via) else {
        return Ok(found);
    };
    match ctx.view.get_verified(table, row, via).to_uuids().as_slice() {
        [one] => Ok(Some(*one)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations() {
        let names: Vec<String> = ["CT_Zone", "Controller", "NetFlow", "Port", "other_config"]
            .map(Into::into)
            .into();
        assert_eq!(best(names.iter(), "n").unwrap(), "NetFlow");
        assert_eq!(best(names.iter(), "port").unwrap(), "Port");
        assert_eq!(best(names.iter(), "other-config").unwrap(), "other_config");
        assert_eq!(best(names.iter(), "c").unwrap_err().len(), 2);
        assert!(best(names.iter(), "x").unwrap_err().is_empty());
        assert!(best(names.iter(), "").unwrap_err().is_empty());
    }
}
