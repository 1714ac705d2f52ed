//! `ovsdb-client monitor`, `monitor-cond` and `monitor-cond-since`: print rows and their changes as
//! the server tells them.

use std::io::{self, Write};

use anyhow::{Result, bail};
use ovsdb::{AtomType, DatabaseSchema, Datum, Notification, TableSchema, Type};
use serde_json::{Map, Value, json};
use switchd::log::since_epoch;

use super::control::{self, Asked, Ear};
use super::{Tool, order::hash_order, sorted_columns, told};
use crate::table::{Cell, Printer, Table, plain_time};

/// The last transaction of somebody who knows none.
const NONE_SEEN: &str = "00000000-0000-0000-0000-000000000000";

/// Which protocol, and what it needs besides tables and columns.
#[derive(Debug, Clone)]
enum Kind {
    /// `monitor` (RFC 7047 4.1.5).
    All,
    /// `monitor_cond` (ovsdb-server(7) 4.1.12) with a condition.
    Cond(Value),
    /// `monitor_cond_since` (ovsdb-server(7) 4.1.15) with a condition, after a transaction.
    CondSince(Value, String),
}

/// One watched table.
struct Watched {
    name: String,
    columns: Vec<(String, Type)>,
}

/// Runs the command `name` until the connection ends.
pub(super) async fn run(tool: &mut Tool, name: &str) -> Result<()> {
    let mut ear = Ear::new(control::MONITOR, tool.detached)?;
    let schema = tool.schema().await?;
    let mut words = tool.args.clone();
    let kind = match name {
        "monitor" => Kind::All,
        _ => {
            let since = match ovsdb::value::parse_uuid(&words[0]) {
                Some(last) if name == "monitor-cond-since" && words.len() > 2 => {
                    words.remove(0);
                    last.to_string()
                }
                _ => NONE_SEEN.to_owned(),
            };
            let text = words.remove(0);
            if !schema.tables.contains_key(&words[0]) {
                bail!("{} does not have a table named \"{}\"", tool.db, words[0]);
            }
            let condition =
                crate::json::parse(&text).map_err(|e| anyhow::anyhow!("\"{text}\": {e}"))?;
            if name == "monitor-cond" {
                Kind::Cond(condition)
            } else {
                Kind::CondSince(condition, since)
            }
        }
    };
    let (watched, requests) = choose(tool, &schema, &words, &kind)?;
    tool.say_aware_of_changes().await?;
    let (method, mut params) = (
        match kind {
            Kind::All => "monitor",
            Kind::Cond(_) => "monitor_cond",
            Kind::CondSince(..) => "monitor_cond_since",
        },
        vec![tool.db.as_str().into(), Value::Null, requests],
    );
    if let Kind::CondSince(_, last) = &kind {
        params.push(last.as_str().into());
    }
    // Conditions are checked by the server; what it says of them is told as if it were ours.
    let reply = tool.client.request(method, Value::Array(params)).await;
    let reply = reply.map_err(|e| told(&e))?;
    let mut screen = Screen {
        printer: Printer::new(tool.style.clone()),
        watched,
        timestamp: tool.timestamp,
    };
    let first = match kind {
        Kind::All => screen.rows(&reply, true),
        Kind::Cond(_) => screen.rows2(&reply),
        Kind::CondSince(..) => {
            let last = reply[1].as_str().unwrap_or_default();
            screen
                .text(&format!("found: {}, last_id: {last}\n", reply[0]))
                .and_then(|()| screen.rows2(&reply[2]))
        }
    };
    if ended(first)? {
        return Ok(());
    }
    tool.started.ready();
    let mut blocked = false;
    loop {
        tokio::select! {
            event = tool.client.next_notification(), if !blocked => {
                let printed = match event.map_err(|e| tool.receive_failed(&e))? {
                    Notification::Update { version: 1, updates, .. } => screen.rows(&updates, false),
                    Notification::Update { version: 2, updates, .. } => screen.rows2(&updates),
                    // What separates tables ends the line.
                    Notification::Update { txn, updates, .. } => screen
                        .text(&format!("\nlast_id: {}", txn.unwrap_or_default()))
                        .and_then(|()| screen.rows2(&updates)),
                    Notification::MonitorCanceled(_) => {
                        bail!("{}: {} database was removed", tool.server, tool.db)
                    }
                    _ => Ok(()),
                };
                if ended(printed)? {
                    return Ok(());
                }
            }
            asked = ear.next() => match asked {
                Asked::Exit => {
                    ear.close().await;
                    return Ok(());
                }
                Asked::Block(block) => blocked = block,
                Asked::Request(method, params) => {
                    // What comes of it comes as an update.
                    let client = tool.client.clone();
                    tokio::spawn(async move { client.request(&method, params).await });
                }
            },
        }
    }
}

/// Whether whoever read what is printed has gone.
fn ended(printed: io::Result<()>) -> Result<bool> {
    match printed {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        other => Ok(other.map(|()| false)?),
    }
}

/// The tables that `words` names, and the requests for them.
fn choose(
    tool: &Tool,
    schema: &DatabaseSchema,
    words: &[String],
    kind: &Kind,
) -> Result<(Vec<Watched>, Value)> {
    let tables: Vec<&TableSchema> = if words[0] == "ALL" {
        schema.tables.values().map(|t| &**t).collect()
    } else {
        let Some(t) = schema.table(&words[0]) else {
            bail!(
                "{}: {} does not have a table named \"{}\"",
                tool.server,
                tool.db,
                words[0]
            );
        };
        vec![t]
    };
    let mut watched = Vec::new();
    let mut requests = Map::new();
    for t in tables {
        let mut columns = Vec::new();
        let groups = match &words[1..] {
            [] => vec![""],
            groups => groups.iter().map(String::as_str).collect(),
        };
        let mut list = Vec::new();
        for group in groups {
            list.push(request(tool, t, group, &mut columns)?);
        }
        if let Kind::Cond(condition) | Kind::CondSince(condition, _) = kind {
            list[0]["where"] = condition.clone();
        }
        requests.insert(t.name.clone(), list.into());
        let name = t.name.clone();
        watched.push(Watched { name, columns });
    }
    Ok((watched, Value::Object(requests)))
}

/// The `<monitor-request>` of one group of columns, which are added to `columns`.
fn request(
    tool: &Tool,
    t: &TableSchema,
    group: &str,
    columns: &mut Vec<(String, Type)>,
) -> Result<Value> {
    const KINDS: [&str; 4] = ["initial", "insert", "delete", "modify"];
    let mut wanted = [true; 4];
    let mut chosen = Vec::new();
    for word in group.split(',').filter(|w| !w.is_empty()) {
        let kind = word.strip_prefix('!');
        if let Some(n) = KINDS.iter().position(|k| Some(*k) == kind) {
            wanted[n] = false;
            continue;
        }
        chosen.push(match t.column(word) {
            Some(c) => (c.name.clone(), c.ty.clone()),
            None if matches!(word, "_uuid" | "_version") => uuid_column(word),
            None => bail!(
                "{}: table \"{}\" in {} does not have a column named \"{word}\"",
                tool.server,
                t.name,
                tool.db
            ),
        });
    }
    if chosen.is_empty() {
        chosen = sorted_columns(t, false);
        chosen.push(uuid_column("_version"));
    }
    let names: Vec<String> = chosen.iter().map(|c| c.0.clone()).collect();
    for c in chosen {
        if columns.iter().any(|(n, _)| *n == c.0) {
            bail!(
                "{}: column \"{}\" mentioned multiple times",
                tool.server,
                c.0
            );
        }
        columns.push(c);
    }
    let mut request = json!({"columns": names});
    if wanted.contains(&false) {
        request["select"] = KINDS
            .into_iter()
            .zip(wanted)
            .map(|(k, w)| (k.to_owned(), Value::from(w)))
            .collect();
    }
    Ok(request)
}

fn uuid_column(name: &str) -> (String, Type) {
    (name.to_owned(), Type::scalar(AtomType::Uuid))
}

/// Shows what is told.
struct Screen {
    printer: Printer,
    watched: Vec<Watched>,
    timestamp: bool,
}

impl Screen {
    fn text(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Prints `<table-updates>` (RFC 7047 4.1.6).
    fn rows(&mut self, updates: &Value, initial: bool) -> io::Result<()> {
        self.tables(updates, |columns, uuid, update| {
            let part = |name: &str| update.get(name).filter(|v| !v.is_null());
            let new = if initial { "initial" } else { "insert" };
            match (part("old"), part("new")) {
                (None, Some(row)) => vec![line(columns, uuid, new, row)],
                (Some(row), None) => vec![line(columns, uuid, "delete", row)],
                (Some(old), Some(row)) => {
                    vec![
                        line(columns, uuid, "old", old),
                        line(columns, "", "new", row),
                    ]
                }
                (None, None) => vec![],
            }
        })
    }

    /// Prints `<table-updates2>` (ovsdb-server(7) 4.1.14): of a changed row what is different, of a
    /// deleted one nothing.
    fn rows2(&mut self, updates: &Value) -> io::Result<()> {
        self.tables(updates, |columns, uuid, update| {
            let action = ["delete", "initial", "modify", "insert"];
            let told = action.into_iter().find(|a| update.get(a).is_some());
            told.map(|a| line(columns, uuid, a, &update[a]))
                .into_iter()
                .collect()
        })
    }

    /// Prints a table for each watched one that `updates` tells of, with the lines that `lines`
    /// makes of each row's update.
    fn tables(
        &mut self,
        updates: &Value,
        lines: impl Fn(&[(String, Type)], &str, &Value) -> Vec<Vec<Cell>>,
    ) -> io::Result<()> {
        let captions = self.watched.len() > 1;
        for w in &self.watched {
            let Some(rows) = updates.get(&w.name).and_then(Value::as_object) else {
                continue;
            };
            let names = hash_order(rows.keys().map(String::as_str));
            let fixed = ["row", "action"].map(String::from);
            let columns = w.columns.iter().map(|c| c.0.clone());
            self.printer.print(&Table {
                headings: fixed.into_iter().chain(columns).collect(),
                caption: captions.then(|| w.name.clone()),
                time: self.timestamp.then(|| plain_time(since_epoch())),
                rows: names
                    .into_iter()
                    .flat_map(|uuid| lines(&w.columns, uuid, &rows[uuid]))
                    .collect(),
            })?;
        }
        Ok(())
    }
}

/// A line of a table; cells that were not told are empty.
fn line(columns: &[(String, Type)], first: &str, action: &str, row: &Value) -> Vec<Cell> {
    let mut cells: Vec<Cell> = vec![first.into(), action.into()];
    cells.extend(columns.iter().map(|(name, ty)| match row.get(name) {
        Some(json) => match Datum::from_json(ty, json) {
            Ok(datum) => Cell::Datum(datum, ty.clone().into()),
            // The difference of two values need not be one.
            Err(_) => Cell::Json(json.clone()),
        },
        None => Cell::Empty,
    }));
    cells
}
