//! The commands that work on any table: list, find, get, set, add, remove, clear, create, destroy,
//! wait-until (ovs-vsctl(8), "Database Commands").

use std::collections::BTreeSet;

use ovsdb::schema::{ColumnSchema, DatabaseSchema, Type};
use ovsdb::text::atom_text;
use ovsdb::{Atom, AtomType};
use uuid::Uuid;

use super::context::fatal;
use super::context::{Context, Outcome, Stop};
use super::model::Datum;
use super::text;
use crate::table::{Cell, Table};

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

/// The comparisons of `find` and `wait-until`.
const OPERATORS: &[&str] = &[
    "=", "!=", "<", ">", "<=", ">=", "{=}", "{!=}", "{<}", "{>}", "{<=}", "{>=}", "{in}",
    "{not-in}",
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
fn find_column<'s>(
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
struct Operand<'s, 'a> {
    name: &'s str,
    column: &'s ColumnSchema,
    key: Option<&'a str>,
    operator: &'static str,
    value: &'a str,
}

/// Takes apart `arg`. With `operators`, one of them and a value must follow; without, nothing may.
fn operand<'s, 'a>(
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
    let (name, column) = find_column(schema, table, typed)?;
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
fn find_row(
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
        let typed = id.to_ascii_lowercase();
        let rows = ctx.view.rows(table);
        let mut matching = rows.iter().filter(|u| u.to_string().starts_with(&typed));
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

fn check_mutable(
    ctx: &Context,
    table: &str,
    row: Uuid,
    name: &str,
    column: &ColumnSchema,
) -> Outcome {
    if !column.mutable && !ctx.view.is_new(table, row) {
        fatal!("cannot modify read-only column {name} in table {table}");
    }
    Ok(())
}

/// Sets a column of a row as `arg` (`COLUMN[:KEY]=VALUE`) says.
pub fn set_column(ctx: &mut Context, table: &str, row: Uuid, arg: &str) -> Outcome {
    let op = operand(ctx.view.schema, table, arg, &["="])?;
    check_mutable(ctx, table, row, op.name, op.column)?;
    let Some(key) = op.key else {
        let value = text::datum(&op.column.ty, op.value, ctx.symbols)?;
        ctx.view.set(table, row, op.name, value);
        return Ok(());
    };
    let Some(value_type) = &op.column.ty.value else {
        fatal!("cannot specify key to set for non-map column {}", op.name);
    };
    let key = text::atom(&op.column.ty.key, key, ctx.symbols)?;
    let value = text::atom(value_type, op.value, ctx.symbols)?;
    if let Datum::Map(mut map) = ctx.view.get_verified(table, row, op.name) {
        map.insert(key, value);
        ctx.view.set(table, row, op.name, Datum::Map(map));
    }
    Ok(())
}

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

fn is_satisfied(ctx: &mut Context, table: &str, row: Uuid, arg: &str) -> Result<bool, Stop> {
    let op = operand(ctx.view.schema, table, arg, OPERATORS)?;
    let is_set_operator = op.operator.starts_with('{');
    let mut ty = op.column.ty.clone();
    if is_set_operator {
        ty.max = u32::MAX;
        ty.min = 0;
    }
    let have = ctx.view.get(table, row, op.name);
    let Some(key) = op.key else {
        let want = text::datum(&ty, op.value, ctx.symbols)?;
        return Ok(evaluate(&have, &want, op.operator));
    };
    let Some(value_type) = ty.value.take() else {
        fatal!("cannot specify key to check for non-map column {}", op.name);
    };
    let key = text::atom(&ty.key, key, ctx.symbols)?;
    let ty = Type {
        key: value_type,
        ..ty
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

/// The columns that `--columns` asks for, `_uuid` and all others without it.
fn columns(ctx: &Context, table: &str) -> Result<Vec<String>, Stop> {
    let schema = ctx.view.schema;
    let Some(list) = ctx.call.value("--columns") else {
        let all = schema
            .tables
            .get(table)
            .into_iter()
            .flat_map(|t| t.columns.keys().cloned());
        return Ok(std::iter::once("_uuid".to_string()).chain(all).collect());
    };
    let mut names = Vec::new();
    for typed in list.split([',', ' ']).filter(|s| !s.is_empty()) {
        if typed.eq_ignore_ascii_case("_uuid") {
            names.push("_uuid".to_string());
        } else {
            names.push(find_column(schema, table, typed)?.0.to_string());
        }
    }
    if names.is_empty() {
        fatal!("must specify at least one column name");
    }
    Ok(names)
}

fn print_rows(ctx: &mut Context, table: &str, rows: &[Uuid]) -> Outcome {
    let headings = columns(ctx, table)?;
    let mut out = Table {
        headings,
        ..Table::default()
    };
    for row in rows {
        let cells = out.headings.iter().map(|column| {
            if column == "_uuid" {
                return Cell::Datum((*row).into(), Type::scalar(AtomType::Uuid).into());
            }
            let ty = ctx.view.schema.tables[table].columns[column].ty.clone();
            Cell::Datum(ctx.view.get(table, *row, column).packed(), ty.into())
        });
        let cells = cells.collect();
        out.rows.push(cells);
    }
    ctx.table = Some(out);
    Ok(())
}

/// Checks table and column names of all commands before any of them runs.
pub fn prepare(ctx: &mut Context) -> Outcome {
    let schema = ctx.view.schema;
    let table = find_table(schema, ctx.arg(1))?;
    match ctx.arg(0) {
        "list" | "find" => {
            columns(ctx, table)?;
            if ctx.arg(0) == "find" {
                for arg in ctx.args_from(2) {
                    operand(schema, table, arg, OPERATORS)?;
                }
            }
        }
        "get" => {
            for arg in ctx.args_from(3).iter().filter(|a| !is_uuid_column(a)) {
                operand(schema, table, arg, &[])?;
            }
        }
        "set" => {
            for arg in ctx.args_from(3) {
                operand(schema, table, arg, &["="])?;
            }
        }
        "create" => {
            if !ctx.call.has("--id") && !schema.tables[table].is_root {
                ctx.log.warn(
                    "db_ctl_base",
                    &format!("applying \"create\" command to table {table} without --id option will have no effect"),
                );
            }
            for arg in ctx.args_from(2) {
                operand(schema, table, arg, &["="])?;
            }
        }
        "wait-until" => {
            for arg in ctx.args_from(3) {
                operand(schema, table, arg, OPERATORS)?;
            }
        }
        "add" | "remove" => {
            find_column(schema, table, ctx.arg(3))?;
        }
        "clear" => {
            for arg in ctx.args_from(3) {
                find_column(schema, table, arg)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_uuid_column(arg: &str) -> bool {
    arg.eq_ignore_ascii_case("_uuid") || arg.eq_ignore_ascii_case("-uuid")
}

fn table_of(ctx: &Context) -> Result<String, Stop> {
    Ok(find_table(ctx.view.schema, ctx.arg(1))?.to_string())
}

/// The table and row that the first two arguments name; no row where `--if-exists` allows it.
fn table_and_row(ctx: &mut Context) -> Result<(String, Option<Uuid>), Stop> {
    let must_exist = !ctx.call.has("--if-exists");
    let table = table_of(ctx)?;
    let row = find_row(ctx, &table, ctx.arg(2), must_exist)?;
    Ok((table, row))
}

/// `list TABLE [RECORD]...`
pub fn list(ctx: &mut Context) -> Outcome {
    let table = table_of(ctx)?;
    let must_exist = !ctx.call.has("--if-exists");
    let rows = if ctx.call.argv.len() > 2 {
        let mut rows = Vec::new();
        for id in ctx.args_from(2) {
            rows.extend(find_row(ctx, &table, id, must_exist)?);
        }
        rows
    } else {
        ctx.view.rows(&table)
    };
    print_rows(ctx, &table, &rows)
}

/// `find TABLE [COLUMN[:KEY]=VALUE]...`
pub fn find(ctx: &mut Context) -> Outcome {
    let table = table_of(ctx)?;
    let mut rows = Vec::new();
    'rows: for row in ctx.view.rows(&table) {
        for arg in ctx.args_from(2) {
            if !is_satisfied(ctx, &table, row, arg)? {
                continue 'rows;
            }
        }
        rows.push(row);
    }
    print_rows(ctx, &table, &rows)
}

/// `get TABLE RECORD [COLUMN[:KEY]]...`
pub fn get(ctx: &mut Context) -> Outcome {
    let must_exist = !ctx.call.has("--if-exists");
    let id = ctx.call.value("--id");
    if id.is_some() && !must_exist {
        fatal!("--if-exists and --id may not be specified together");
    }
    let (table, Some(row)) = table_and_row(ctx)? else {
        return Ok(());
    };
    if let Some(id) = id {
        let known = ctx.symbols.0.contains_key(id);
        name_symbol(ctx, id)?;
        if known {
            fatal!("row id \"{id}\" specified on \"get\" command was used before it was defined");
        }
        let symbol = ctx.symbols.entry(id);
        symbol.uuid = row;
        symbol.strong_ref = true; // it is there already
    }
    for arg in ctx.args_from(3) {
        if is_uuid_column(arg) {
            ctx.line(row);
            continue;
        }
        let op = operand(ctx.view.schema, &table, arg, &[])?;
        let ty = &op.column.ty;
        let value = ctx.view.get_verified(&table, row, op.name);
        let Some(typed) = op.key else {
            ctx.line(text::print(&value, ty));
            continue;
        };
        let Datum::Map(map) = &value else {
            fatal!("cannot specify key to get for non-map column {}", op.name);
        };
        let key = text::atom(&ty.key, typed, ctx.symbols)?;
        match map.get(&key) {
            Some(v) => ctx.line(atom_text(v)),
            None if must_exist => {
                fatal!(
                    "no key \"{typed}\" in {table} record \"{}\" column {}",
                    ctx.arg(2),
                    op.name
                )
            }
            None => ctx.line(""),
        }
    }
    Ok(())
}

/// `set TABLE RECORD COLUMN[:KEY]=VALUE...`
pub fn set(ctx: &mut Context) -> Outcome {
    let (table, Some(row)) = table_and_row(ctx)? else {
        return Ok(());
    };
    for arg in ctx.args_from(3) {
        set_column(ctx, &table, row, arg)?;
    }
    Ok(())
}

fn elements(ty: &Type) -> &'static str {
    if ty.is_map() { "pairs" } else { "values" }
}

/// A column that `add` or `remove` changes, and its value so far.
struct Change<'a> {
    table: String,
    row: Uuid,
    column: &'a str,
    ty: &'a Type,
    value: Datum,
}

/// The column that `add TABLE RECORD COLUMN...` or `remove` names, if the row is there.
fn change<'v>(ctx: &mut Context<'_, 'v>) -> Result<Option<Change<'v>>, Stop> {
    let (table, Some(row)) = table_and_row(ctx)? else {
        return Ok(None);
    };
    let (column, spec) = find_column(ctx.view.schema, &table, ctx.arg(3))?;
    check_mutable(ctx, &table, row, column, spec)?;
    let value = ctx.view.get_verified(&table, row, column);
    Ok(Some(Change {
        table,
        row,
        column,
        ty: &spec.ty,
        value,
    }))
}

impl Change<'_> {
    /// Writes the value if it has as many elements as its type allows.
    fn apply(self, ctx: &mut Context) -> Outcome {
        let (n, most, fewest) = (self.value.len() as u64, self.ty.max, self.ty.min);
        let (bound, limit) = if n > u64::from(most) {
            ("maximum", most)
        } else if n < u64::from(fewest) {
            ("minimum", fewest)
        } else {
            ctx.view.set(&self.table, self.row, self.column, self.value);
            return Ok(());
        };
        fatal!(
            "\"{}\" operation would put {n} {} in column {} of table {} but the {bound} number is {limit}",
            ctx.arg(0),
            elements(self.ty),
            self.column,
            self.table
        )
    }
}

/// `add TABLE RECORD COLUMN [KEY=]VALUE...`
pub fn add(ctx: &mut Context) -> Outcome {
    let Some(mut change) = change(ctx)? else {
        return Ok(());
    };
    let any = Type {
        min: 1,
        max: u32::MAX,
        ..change.ty.clone()
    };
    for arg in ctx.args_from(4) {
        match (&mut change.value, text::datum(&any, arg, ctx.symbols)?) {
            (Datum::Set(old), Datum::Set(new)) => old.extend(new),
            (Datum::Map(old), Datum::Map(new)) => {
                for (k, v) in new {
                    old.entry(k).or_insert(v); // a key that is there keeps its value
                }
            }
            _ => {}
        }
    }
    change.apply(ctx)
}

/// `remove TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...`
pub fn remove(ctx: &mut Context) -> Outcome {
    let Some(mut change) = change(ctx)? else {
        return Ok(());
    };
    let any = Type {
        min: 1,
        max: u32::MAX,
        ..change.ty.clone()
    };
    for arg in ctx.args_from(4) {
        let gone = match text::datum(&any, arg, ctx.symbols) {
            Err(_) if change.ty.is_map() => text::datum(
                &Type {
                    value: None,
                    ..any.clone()
                },
                arg,
                ctx.symbols,
            )?,
            other => other?,
        };
        match (&mut change.value, gone) {
            (Datum::Set(old), Datum::Set(gone)) => old.retain(|a| !gone.contains(a)),
            (Datum::Map(old), Datum::Set(gone)) => old.retain(|k, _| !gone.contains(k)),
            (Datum::Map(old), Datum::Map(gone)) => old.retain(|k, v| gone.get(k) != Some(v)),
            (Datum::Set(_), Datum::Map(_)) => {}
        }
    }
    change.apply(ctx)
}

/// `clear TABLE RECORD COLUMN...`
pub fn clear(ctx: &mut Context) -> Outcome {
    let (table, Some(row)) = table_and_row(ctx)? else {
        return Ok(());
    };
    for arg in ctx.args_from(3) {
        let (name, column) = find_column(ctx.view.schema, &table, arg)?;
        check_mutable(ctx, &table, row, name, column)?;
        if column.ty.min > 0 {
            fatal!(
                "\"clear\" operation cannot be applied to column {name} of table {table}, which is not allowed to be empty"
            );
        }
        ctx.view
            .set(&table, row, name, Datum::default_of(&column.ty));
    }
    Ok(())
}

/// Marks `id` (`@name`) as made by this command.
fn name_symbol(ctx: &mut Context, id: &str) -> Outcome {
    if !id.starts_with('@') {
        fatal!("row id \"{id}\" does not begin with \"@\"");
    }
    let symbol = ctx.symbols.entry(id);
    if symbol.created {
        fatal!("row id \"{id}\" may only be specified on one --id option");
    }
    symbol.created = true;
    Ok(())
}

/// `create TABLE COLUMN[:KEY]=VALUE...`
pub fn create(ctx: &mut Context) -> Outcome {
    let table = table_of(ctx)?;
    let is_root = ctx.view.schema.tables[&table].is_root;
    let row = match ctx.call.value("--id") {
        None => ctx.view.insert(&table, &[]),
        Some(id) => match text::full_uuid(id) {
            Some(uuid) => ctx.view.insert_as(&table, uuid, true),
            None => {
                name_symbol(ctx, id)?;
                let symbol = ctx.symbols.entry(id);
                symbol.strong_ref |= is_root;
                let uuid = symbol.uuid;
                ctx.view.insert_as(&table, uuid, false)
            }
        },
    };
    for arg in ctx.args_from(2) {
        set_column(ctx, &table, row, arg)?;
    }
    ctx.created = Some(row);
    Ok(())
}

/// `destroy TABLE RECORD...`
pub fn destroy(ctx: &mut Context) -> Outcome {
    let must_exist = !ctx.call.has("--if-exists");
    let all = ctx.call.has("--all");
    let table = table_of(ctx)?;
    let ids = ctx.args_from(2);
    if all && !ids.is_empty() {
        fatal!("--all and records argument should not be specified together");
    }
    if all && !must_exist {
        fatal!("--all and --if-exists should not be specified together");
    }
    let mut rows = BTreeSet::new();
    if all {
        rows.extend(ctx.view.rows(&table));
    } else if ids.is_empty() {
        ctx.log.warn(
            "db_ctl_base",
            "either --all or records argument should be specified",
        );
    }
    for id in ids {
        rows.extend(find_row(ctx, &table, id, must_exist)?);
    }
    for row in rows {
        ctx.view.delete(&table, row);
    }
    Ok(())
}

/// `wait-until TABLE RECORD [COLUMN[:KEY]=VALUE]...`
pub fn wait_until(ctx: &mut Context) -> Outcome {
    let table = table_of(ctx)?;
    let Some(row) = find_row(ctx, &table, ctx.arg(2), false)? else {
        return Err(Stop::NotYet);
    };
    for arg in ctx.args_from(3) {
        if !is_satisfied(ctx, &table, row, arg)? {
            return Err(Stop::NotYet);
        }
    }
    Ok(())
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
