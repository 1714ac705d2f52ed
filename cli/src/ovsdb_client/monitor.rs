//! `ovsdb-client monitor`: prints rows and their changes.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Result, bail};
use ovsdb::{DatabaseSchema, Datum, Notification, TableSchema, Type};
use serde_json::{Map, Value, json};

use super::{Tool, hash_order, sorted_columns};
use switchd::log::since_epoch;

use crate::table::{Cell, Printer, Table, plain_time};

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
    let mut screen = Screen {
        schema,
        watched,
        printer: Printer::new(tool.style.clone()),
        captions: all,
        timestamp: tool.timestamp,
    };
    let version = if with_condition { 2 } else { 1 };
    match screen.print(&initial, version, true) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other?,
    }
    tool.started.ready();
    loop {
        if let Notification::Update {
            version, updates, ..
        } = tool.client.next_notification().await?
        {
            match screen.print(&updates, version, false) {
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

/// What the watched tables held when last told, and how to show what changes.
struct Screen {
    schema: DatabaseSchema,
    watched: BTreeMap<String, Watched>,
    printer: Printer,
    /// Whether to say which table it is.
    captions: bool,
    timestamp: bool,
}

impl Screen {
    /// Prints the rows of one message of that version of the protocol (RFC 7047 4.1.6; 2 for that of
    /// monitor_cond).
    fn print(&mut self, updates: &Value, version: u8, initial: bool) -> io::Result<()> {
        for (name, w) in &mut self.watched {
            let Some(rows) = updates.get(name).and_then(Value::as_object) else {
                continue;
            };
            let mut table = Table {
                headings: ["row", "action"]
                    .into_iter()
                    .map(String::from)
                    .chain(w.columns.iter().map(|c| c.0.clone()))
                    .collect(),
                caption: self.captions.then(|| name.clone()),
                ..Table::default()
            };
            if self.timestamp {
                table.time = Some(plain_time(since_epoch()));
            }
            let line = |first: &str, action: &str, cells: &BTreeMap<String, Datum>| {
                let mut row: Vec<Cell> = vec![first.into(), action.into()];
                row.extend(w.columns.iter().map(|(n, ty)| match cells.get(n) {
                    Some(d) => Cell::Datum(d.clone(), ty.clone().into()),
                    None => Cell::Empty,
                }));
                row
            };
            for uuid in hash_order(rows.keys().map(String::as_str)) {
                let json = &rows[uuid];
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
                    w.rows.insert(uuid.to_owned(), all);
                } else if json.get("delete").is_some() {
                    let old = w.rows.remove(uuid).unwrap_or_default();
                    table.rows.push(line(uuid, "delete", &old));
                } else if let Some(v) = json.get("modify") {
                    let t = self.schema.table(name);
                    let row = w.rows.entry(uuid.to_owned()).or_default();
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
                        let after =
                            Datum::from_json(&any, v).and_then(|d| before.apply_diff(&d, ty));
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
                self.printer.print(&table)?;
            }
        }
        Ok(())
    }
}
