//! The commands that work on any table: list, find, get, set, add, remove, clear, create, destroy,
//! wait-until (ovs-vsctl(8), "Database Commands").

mod condition;
mod names;

use std::collections::BTreeSet;

use ovsdb::AtomType;
use ovsdb::schema::{ColumnSchema, DatabaseSchema, Type};
use ovsdb::text::atom_text;
use switchd::log::Level;
use uuid::Uuid;

use super::context::{Call, Context, Outcome, Stop, fatal};
use super::model::Datum;
use super::syntax::Request;
use super::text;
use crate::table::{Cell, Table};
use condition::{OPERATORS, is_satisfied};
use names::{find_column, find_row, find_table, operand};

/// Checks table and column names of all commands, before any of them runs.
pub fn prepare(request: &Request, schema: &DatabaseSchema) -> Outcome {
    for call in &request.calls {
        if let Some(warning) = check_names(call, schema)? {
            request.log.write("db_ctl_base", Level::Warn, &warning);
        }
    }
    Ok(())
}

/// Checks the table and column names of a command; a warning if it makes no sense all the same.
fn check_names(call: &Call, schema: &DatabaseSchema) -> Result<Option<String>, Stop> {
    let operators: &[&str] = match call.argv[0].as_str() {
        "find" | "wait-until" => OPERATORS,
        "set" | "create" => &["="],
        "list" | "get" | "add" | "remove" | "clear" | "destroy" => &[],
        _ => return Ok(None),
    };
    let table = find_table(schema, &call.argv[1])?;
    let from = |i: usize| call.argv.get(i..).unwrap_or_default();
    let operands = match call.argv[0].as_str() {
        "list" | "find" => {
            columns(call, schema, table)?;
            if operators.is_empty() { &[] } else { from(2) }
        }
        "create" => from(2),
        "get" | "set" | "wait-until" => from(3),
        "add" | "remove" => {
            find_column(schema, table, &call.argv[3])?;
            &[]
        }
        "clear" => {
            for typed in from(3) {
                find_column(schema, table, typed)?;
            }
            &[]
        }
        _ => &[],
    };
    for arg in operands.iter().filter(|a| !is_uuid_column(a)) {
        operand(schema, table, arg, operators)?;
    }
    let lost = call.argv[0] == "create" && !call.has("--id") && !schema.tables[table].is_root;
    Ok(lost.then(|| {
        format!(
            "applying \"create\" command to table {table} without --id option will have no effect"
        )
    }))
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
    let key = text::atom(&op.column.ty.key, &key, ctx.symbols)?;
    let value = text::atom(value_type, op.value, ctx.symbols)?;
    if ctx.last {
        let pair = Datum::Map([(key, value)].into());
        ctx.view.put(table, row, op.name, pair);
    } else if let Datum::Map(mut map) = ctx.view.get_verified(table, row, op.name) {
        map.insert(key, value);
        ctx.view.set(table, row, op.name, Datum::Map(map));
    }
    Ok(())
}

/// The columns that `--columns` asks for, `_uuid` and all others without it.
fn columns(call: &Call, schema: &DatabaseSchema, table: &str) -> Result<Vec<String>, Stop> {
    let Some(list) = call.value("--columns") else {
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
    let headings = columns(ctx.call, ctx.view.schema, table)?;
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
        let key = text::atom(&ty.key, &typed, ctx.symbols)?;
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

/// A column that `add` or `remove` changes.
struct Change<'a> {
    table: String,
    row: Uuid,
    column: &'a str,
    ty: &'a Type,
}

/// The column that `add TABLE RECORD COLUMN...` or `remove` names, if the row is there.
fn change<'v>(ctx: &mut Context<'_, 'v>) -> Result<Option<Change<'v>>, Stop> {
    let (table, Some(row)) = table_and_row(ctx)? else {
        return Ok(None);
    };
    let (column, spec) = find_column(ctx.view.schema, &table, ctx.arg(3))?;
    check_mutable(ctx, &table, row, column, spec)?;
    Ok(Some(Change {
        table,
        row,
        column,
        ty: &spec.ty,
    }))
}

impl Change<'_> {
    /// The type of the arguments: one element or any number.
    fn any(&self) -> Type {
        Type {
            min: 1,
            max: u32::MAX,
            ..self.ty.clone()
        }
    }

    /// Writes `value` if it has as many elements as the column's type allows.
    fn write(self, ctx: &mut Context, value: Datum) -> Outcome {
        let (n, most, fewest) = (value.len() as u64, self.ty.max, self.ty.min);
        let (bound, limit) = if n > u64::from(most) {
            ("maximum", most)
        } else if n < u64::from(fewest) {
            ("minimum", fewest)
        } else {
            ctx.view.set(&self.table, self.row, self.column, value);
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
///
/// As the last command, which none after it can ask for the outcome, it leaves to the server what
/// else is in the column, and replaces the values of keys; see [`Context::last`].
pub fn add(ctx: &mut Context) -> Outcome {
    let Some(change) = change(ctx)? else {
        return Ok(());
    };
    let any = change.any();
    if ctx.last {
        for arg in ctx.args_from(4) {
            let new = text::datum(&any, arg, ctx.symbols)?;
            ctx.view.put(&change.table, change.row, change.column, new);
        }
        return Ok(());
    }
    let mut value = ctx
        .view
        .get_verified(&change.table, change.row, change.column);
    for arg in ctx.args_from(4) {
        match (&mut value, text::datum(&any, arg, ctx.symbols)?) {
            (Datum::Set(old), Datum::Set(new)) => old.extend(new),
            (Datum::Map(old), Datum::Map(new)) => {
                for (k, v) in new {
                    old.entry(k).or_insert(v); // a key that is there keeps its value
                }
            }
            _ => {}
        }
    }
    change.write(ctx, value)
}

/// `remove TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...`
pub fn remove(ctx: &mut Context) -> Outcome {
    let Some(change) = change(ctx)? else {
        return Ok(());
    };
    let any = change.any();
    let mut value = ctx
        .view
        .get_verified(&change.table, change.row, change.column);
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
        match (&mut value, gone) {
            (Datum::Set(old), Datum::Set(gone)) => old.retain(|a| !gone.contains(a)),
            (Datum::Map(old), Datum::Set(gone)) => old.retain(|k, _| !gone.contains(k)),
            (Datum::Map(old), Datum::Map(gone)) => old.retain(|k, v| gone.get(k) != Some(v)),
            (Datum::Set(_), Datum::Map(_)) => {}
        }
    }
    change.write(ctx, value)
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
        ctx.warn(
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
