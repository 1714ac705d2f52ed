//! `ovsdb-client monitor`: prints rows and their changes.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Result, bail};
use ovsdb::{DatabaseSchema, Datum, Notification, TableSchema, Type};
use serde_json::{Map, Value, json};

use super::daemon::{now_ms, utc};
use super::{Tool, sorted_columns};
use crate::table::{Cell, Printer, Table};

/// One watched table.
struct Watched {
    columns: Vec<(String, Type)>,
    /// The rows, for differences.
    rows: BTreeMap<String, BTreeMap<String, Datum>>,
}

fn request(tool: &Tool, t: &TableSchema, words: &[String]) -> Result<(Vec<(String, Type)>, Value)> {
    let mut select = Map::new();
    let mut columns: Vec<(String, Type)> = Vec::new();
    for word in words
        .iter()
        .flat_map(|w| w.split(','))
        .filter(|w| !w.is_empty())
    {
        if let Some(kind) = word.strip_prefix('!') {
            if !matches!(kind, "initial" | "insert" | "delete" | "modify") {
                bail!(
                    "unknown kind of change \"{word}\": it must be !initial, !insert, !delete or !modify"
                );
            }
            select.insert(kind.into(), false.into());
            continue;
        }
        let Some(c) = t.column(word) else {
            bail!(
                "{}: table \"{}\" in {} does not have a column named \"{word}\"",
                tool.server,
                t.name,
                tool.db
            );
        };
        if columns.iter().any(|(n, _)| n == word) {
            bail!("column \"{word}\" is named twice");
        }
        columns.push((c.name.clone(), c.ty.clone()));
    }
    if columns.is_empty() {
        columns = sorted_columns(t, false);
    }
    let names: Vec<_> = columns.iter().map(|c| &c.0).collect();
    let mut request = json!({"columns": names});
    if !select.is_empty() {
        request["select"] = Value::Object(select);
    }
    Ok((columns, request))
}

/// Runs until the connection ends.
pub(super) async fn run(tool: &mut Tool, with_condition: bool) -> Result<()> {
    let schema = tool.client.get_schema(&tool.db).await?;
    let mut words = tool.args.clone();
    let condition = if with_condition {
        let text = words.remove(0);
        Some(serde_json::from_str::<Value>(&text).map_err(|e| anyhow::anyhow!("\"{text}\": {e}"))?)
    } else {
        None
    };
    let all = words[0] == "ALL" && words.len() == 1 && !schema.tables.contains_key("ALL");
    let mut watched = BTreeMap::new();
    let mut requests = Map::new();
    let names: Vec<&String> = if all {
        schema.tables.keys().collect()
    } else {
        vec![&words[0]]
    };
    for name in names {
        let Some(t) = schema.table(name) else {
            bail!(
                "{}: {} does not have a table named \"{name}\"",
                tool.server,
                tool.db
            );
        };
        let (columns, mut request) = request(tool, t, if all { &[] } else { &words[1..] })?;
        if let Some(c) = &condition {
            request["where"] = c.clone();
        }
        requests.insert(name.clone(), json!([request]));
        watched.insert(
            name.clone(),
            Watched {
                columns,
                rows: BTreeMap::new(),
            },
        );
    }
    let requests = Value::Object(requests);
    let initial = if with_condition {
        tool.client
            .monitor_cond(&tool.db, Value::Null, requests)
            .await?
    } else {
        tool.client.monitor(&tool.db, Value::Null, requests).await?
    };
    let mut printer = Printer::new(tool.style.clone());
    let version = if with_condition { 2 } else { 1 };
    let show = |updates: &Value,
                version: u8,
                watched: &mut BTreeMap<String, Watched>,
                printer: &mut Printer,
                initial: bool| {
        print(
            tool, &schema, updates, version, watched, printer, initial, all,
        )
    };
    match show(&initial, version, &mut watched, &mut printer, true) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other?,
    }
    tool.daemon.ready();
    loop {
        if let Notification::Update {
            version, updates, ..
        } = tool.client.next_notification().await?
        {
            match show(&updates, version, &mut watched, &mut printer, false) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
    }
}

/// The cells of a row as far as the server told them.
fn cells(columns: &[(String, Type)], json: &Value) -> BTreeMap<String, Datum> {
    columns
        .iter()
        .filter_map(|(name, ty)| {
            let v = json.get(name)?;
            match Datum::from_json(ty, v) {
                Ok(d) => Some((name.clone(), d)),
                Err(e) => {
                    tracing::warn!(column = name, %e, "value ignored");
                    None
                }
            }
        })
        .collect()
}

#[allow(clippy::too_many_arguments)] // what is printed, and how
fn print(
    tool: &Tool,
    schema: &DatabaseSchema,
    updates: &Value,
    version: u8,
    watched: &mut BTreeMap<String, Watched>,
    printer: &mut Printer,
    initial: bool,
    all: bool,
) -> io::Result<()> {
    for (name, w) in watched {
        let Some(rows) = updates.get(name).and_then(Value::as_object) else {
            continue;
        };
        let mut table = Table {
            headings: ["row", "action"]
                .into_iter()
                .map(String::from)
                .chain(w.columns.iter().map(|c| c.0.clone()))
                .collect(),
            caption: all.then(|| name.clone()),
            ..Table::default()
        };
        if tool.timestamp {
            let (day, time, ms) = utc(now_ms());
            table.time = Some(format!("{day} {time}.{ms:03}"));
        }
        let line = |first: &str, action: &str, cells: &BTreeMap<String, Datum>| {
            let mut row: Vec<Cell> = vec![first.into(), action.into()];
            row.extend(w.columns.iter().map(|(n, ty)| match cells.get(n) {
                Some(d) => Cell::Datum(d.clone(), ty.clone()),
                None => Cell::Empty,
            }));
            row
        };
        for (uuid, json) in rows {
            if version == 1 {
                let part = |n: &str| {
                    json.get(n)
                        .filter(|v| !v.is_null())
                        .map(|v| cells(&w.columns, v))
                };
                match (part("old"), part("new")) {
                    (None, Some(new)) => {
                        let action = if initial { "initial" } else { "insert" };
                        table.rows.push(line(uuid, action, &new));
                    }
                    (Some(old), None) => table.rows.push(line(uuid, "delete", &old)),
                    (Some(old), Some(new)) => {
                        table.rows.push(line(uuid, "old", &old));
                        table.rows.push(line("", "new", &new));
                    }
                    (None, None) => {}
                }
                continue;
            }
            if let Some(v) = json.get("initial").or_else(|| json.get("insert")) {
                // Columns with their default values are not sent.
                let mut all: BTreeMap<String, Datum> = w
                    .columns
                    .iter()
                    .map(|(n, ty)| (n.clone(), ty.default_datum()))
                    .collect();
                all.extend(cells(&w.columns, v));
                let action = if json.get("initial").is_some() {
                    "initial"
                } else {
                    "insert"
                };
                table.rows.push(line(uuid, action, &all));
                w.rows.insert(uuid.clone(), all);
            } else if json.get("delete").is_some() {
                let old = w.rows.remove(uuid).unwrap_or_default();
                table.rows.push(line(uuid, "delete", &old));
            } else if let Some(v) = json.get("modify") {
                let t = schema.table(name);
                let row = w.rows.entry(uuid.clone()).or_default();
                let mut old = BTreeMap::new();
                for (n, ty) in &w.columns {
                    let (Some(v), Some(_)) = (v.get(n), t) else {
                        continue;
                    };
                    let before = row.get(n).cloned().unwrap_or_else(|| ty.default_datum());
                    let any = Type {
                        min: 0,
                        max: u32::MAX,
                        ..ty.clone()
                    };
                    let after = Datum::from_json(&any, v).and_then(|d| before.apply_diff(&d, ty));
                    match after {
                        Ok(after) => {
                            row.insert(n.clone(), after);
                            old.insert(n.clone(), before);
                        }
                        Err(e) => tracing::warn!(column = n, %e, "value ignored"),
                    }
                }
                let new = row.clone();
                table.rows.push(line(uuid, "old", &old));
                table.rows.push(line("", "new", &new));
            }
        }
        if !table.rows.is_empty() {
            printer.print(&table)?;
        }
    }
    Ok(())
}
