//! `ovsdb-tool`: makes, reads and repairs database files (ovsdb-tool(1)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ovsdb::engine::{CommitLog, Engine, Output};
use ovsdb::journal::{self, Journal, Records};
use ovsdb::text::datum_text;
use ovsdb::{Database, DatabaseSchema, Datum, Type};
use serde_json::{Value, json};
use switchd::log::since_epoch;

use crate::daemon::Settings;
use crate::exit;
use crate::getopt::{self, Spec, Takes};
use crate::ovsdb_client::order::hash_order;
use crate::paths;
use crate::table::{json_text, plain_time};

const PROGRAM: &str = "ovsdb-tool";

fn help() -> String {
    format!(
        "\
{PROGRAM}: Open vSwitch database management utility
usage: {PROGRAM} [OPTIONS] COMMAND [ARG...]
  create [DB [SCHEMA]]    create DB with the given SCHEMA
  compact [DB [DST]]      compact DB in-place (or to DST)
  db-name [DB]            report name of schema used by DB
  db-version [DB]         report version of schema used by DB
  db-cksum [DB]           report checksum of schema used by DB
  db-is-standalone DB     test whether DB is standalone
  schema-name [SCHEMA]    report SCHEMA's name
  schema-version [SCHEMA] report SCHEMA's schema version
  schema-cksum [SCHEMA]   report SCHEMA's checksum
  compare-versions A OP B  compare OVSDB schema version numbers
  needs-conversion [DB [SCHEMA]]  report whether DB's schema differs from SCHEMA
  query [DB] TRNS         execute read-only transaction on DB
  transact [DB] TRNS      execute read/write transaction on DB
  [-m]... show-log [DB]   print DB's log entries
The default DB is {}.
The default SCHEMA is the built-in one of Open_vSwitch.

Options:
  -m, --more                  increase show-log verbosity
  --log-file[=FILE], -v[SPEC] logging
  -h, --help                  display this help message
  -V, --version               display version information

Exit codes: 0 done; 1 refused or impossible; 2 the comparison of compare-versions does not hold.

Example:
  {PROGRAM} create /tmp/conf.db && {PROGRAM} -m show-log /tmp/conf.db
",
        paths::db_path(None).display()
    )
}

/// Runs the tool with the arguments behind its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    exit::finish(PROGRAM, command(args))
}

const OPTIONS: &[Spec] = &[
    ("more", Some('m'), Takes::Nothing),
    ("help", Some('h'), Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
    ("log-file", None, Takes::Maybe),
    ("verbose", Some('v'), Takes::Maybe),
];

fn command(args: Vec<OsString>) -> Result<ExitCode> {
    let (options, words) = getopt::parse(args, &[OPTIONS], false).map_err(|e| anyhow!(e))?;
    let mut settings = Settings::new(PROGRAM, paths::run_dir(None));
    let mut more = 0;
    for (name, value) in &options {
        match *name {
            "more" => more += 1,
            "help" => {
                print!("{}", help());
                return Ok(ExitCode::SUCCESS);
            }
            "version" => {
                println!("{PROGRAM} (weir) {}", env!("CARGO_PKG_VERSION"));
                return Ok(ExitCode::SUCCESS);
            }
            other => {
                settings
                    .accept(other, value.as_deref())
                    .map_err(|e| anyhow!(e))?;
            }
        }
    }
    let _log = settings.start_log()?;
    let Some((name, words)) = words.split_first() else {
        bail!("missing command name; use --help for help");
    };
    // Fewest and most arguments.
    let (min, max) = match name.as_str() {
        "create" | "compact" | "needs-conversion" => (0, 2),
        "db-name" | "db-version" | "db-cksum" | "show-log" | "showlog" | "schema-name"
        | "schema-version" | "schema-cksum" => (0, 1),
        "db-is-standalone" => (1, 1),
        "query" | "transact" => (1, 2),
        "compare-versions" => (3, 3),
        _ => bail!("unknown command '{name}'; use --help for help"),
    };
    if words.len() < min || words.len() > max {
        bail!(
            "'{name}' command requires {} arguments",
            if min == max {
                format!("{min}")
            } else if words.len() < min {
                format!("at least {min}")
            } else {
                format!("at most {max}")
            }
        );
    }
    let word = |i: usize| words.get(i).map(PathBuf::from);
    let db = paths::db_path(word(0).as_deref());
    match name.as_str() {
        "create" => journal::create(&db, &read_schema(word(1).as_deref())?).map_err(io_words)?,
        "compact" => compact(&db, word(1))?,
        "db-name" => println!("{}", first_record(&db)?.name),
        "db-version" => println!("{}", first_record(&db)?.version),
        "db-cksum" => println!("{}", first_record(&db)?.cksum),
        "db-is-standalone" => {
            first_record(&db)?;
        }
        "schema-name" => println!("{}", read_schema(word(0).as_deref())?.name),
        "schema-version" => println!("{}", read_schema(word(0).as_deref())?.version),
        "schema-cksum" => println!("{}", read_schema(word(0).as_deref())?.cksum),
        "needs-conversion" => {
            let same = first_record(&db)?.tables == read_schema(word(1).as_deref())?.tables;
            println!("{}", if same { "no" } else { "yes" });
        }
        "compare-versions" => {
            let holds = compare(&words[0], &words[1], &words[2])?;
            return Ok(if holds {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            });
        }
        "query" | "transact" => {
            let (db, text) = match words {
                [text] => (paths::db_path(None), text),
                _ => (db, &words[1]),
            };
            transact(&db, text, name == "query")?;
        }
        _ => show_log(&db, more)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the words Open vSwitch puts before what the system says.
fn io_words(e: journal::JournalError) -> anyhow::Error {
    match e {
        journal::JournalError::Io { path, what, source } => {
            let text = source.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text);
            anyhow!("I/O error: {path}: {what} failed ({text})")
        }
        journal::JournalError::Locked(path) => {
            anyhow!("I/O error: {path}: failed to lock lockfile (Resource temporarily unavailable)")
        }
        other => anyhow!("ovsdb error: {other}"),
    }
}

fn read_schema(path: Option<&Path>) -> Result<DatabaseSchema> {
    let Some(path) = path else {
        return Ok(ovsdb::vswitch_schema().clone());
    };
    let text = std::fs::read_to_string(path).map_err(|e| {
        io_words(journal::JournalError::Io {
            path: path.display().to_string(),
            what: "open",
            source: e,
        })
    })?;
    let json = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    Ok(DatabaseSchema::from_json(&json)?)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        io_words(journal::JournalError::Io {
            path: path.display().to_string(),
            what: "open",
            source: e,
        })
    })
}

fn first_record(path: &Path) -> Result<DatabaseSchema> {
    let bytes = read_file(path)?;
    let record = Records::new(&bytes)
        .next_record()
        .map_err(|e| anyhow!("ovsdb error: {}: {e}", path.display()))?
        .with_context(|| format!("{}: file is empty", path.display()))?;
    Ok(DatabaseSchema::from_json(&record.json)?)
}

fn compact(db: &Path, to: Option<PathBuf>) -> Result<()> {
    let comment = "compacted by \"ovsdb-tool compact\"";
    match to {
        None => {
            let (mut j, rows) = Journal::open(db, None).map_err(io_words)?;
            j.compact(&rows, Some(since_epoch().as_millis() as u64), comment)
                .map_err(io_words)
        }
        Some(to) => {
            let loaded = journal::read(db).map_err(io_words)?;
            journal::create(&to, loaded.db.schema()).map_err(io_words)?;
            let (mut j, _) = Journal::open(&to, None).map_err(io_words)?;
            j.compact(&loaded.db, Some(since_epoch().as_millis() as u64), comment)
                .map_err(io_words)
        }
    }
}

fn compare(a: &str, op: &str, b: &str) -> Result<bool> {
    let version = |s: &str| -> Result<Vec<u64>> {
        let v: Vec<u64> = s
            .split('.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{s}: not a valid version number x.y.z"))?;
        if v.len() != 3 {
            bail!("{s}: not a valid version number x.y.z");
        }
        Ok(v)
    };
    let (a, b) = (version(a)?, version(b)?);
    Ok(match op {
        "<" => a < b,
        "<=" => a <= b,
        "==" => a == b,
        ">=" => a >= b,
        ">" => a > b,
        "!=" => a != b,
        _ => bail!("{op}: not a valid operator: <, <=, ==, >=, > and != are"),
    })
}

/// The journal of a single transaction.
struct Log(Journal);

impl CommitLog for Log {
    fn append(&mut self, record: &str) -> std::io::Result<()> {
        self.0.append(record)?;
        self.0.sync()
    }

    fn replace(&mut self, db: &Database, date: u64) -> std::io::Result<()> {
        let comment = "converted by ovsdb-tool";
        self.0
            .compact(db, Some(date), comment)
            .map_err(std::io::Error::other)
    }
}

fn transact(path: &Path, text: &str, query: bool) -> Result<()> {
    let params: Value = serde_json::from_str(text).map_err(|e| anyhow!("\"{text}\": {e}"))?;
    if !params
        .as_array()
        .is_some_and(|l| l.first().is_some_and(Value::is_string))
    {
        bail!("transaction must be a JSON array that begins with the database's name");
    }
    let mut engine = Engine::new();
    engine.set_date(since_epoch().as_millis() as u64);
    if query {
        // Changes stay in memory, as no journal is there.
        engine.add_database(journal::read(path).map_err(io_words)?.db, None);
    } else {
        let (j, db) = Journal::open(path, None).map_err(io_words)?;
        engine.add_database(db, Some(Box::new(Log(j))));
    }
    engine.connect(1);
    let request = json!({"id": 0, "method": "transact", "params": params});
    engine.handle(1, request, Instant::now());
    let mut output = engine.take_output();
    if output.is_empty() {
        bail!("transaction waits for something that can never happen here");
    }
    match output.remove(0) {
        Output::Send(_, message) => {
            let mut reply: Value = serde_json::from_str(&message.to_string())?;
            if !reply["error"].is_null() {
                bail!("transaction returned error: {}", json_text(&reply["error"]));
            }
            println!("{}", json_text(&reply["result"].take()));
            Ok(())
        }
        Output::Disconnect(_, why) => bail!(why),
    }
}

/// What show-log knows of the rows so far.
struct Rows<'a> {
    schema: &'a DatabaseSchema,
    names: BTreeMap<(String, String), String>,
}

fn show_log(path: &Path, more: u32) -> Result<()> {
    let bytes = read_file(path)?;
    let mut records = Records::new(&bytes);
    let mut schema = None;
    let mut names = BTreeMap::new();
    for i in 0.. {
        let record = match records.next_record() {
            Ok(Some(r)) => r.json,
            Ok(None) => break,
            Err(e) => bail!("ovsdb error: {}: {e}", path.display()),
        };
        print!("record {i}:");
        let Some(known) = &schema else {
            let s = DatabaseSchema::from_json(&record)?;
            print!(" \"{}\" schema, version=\"{}\"", s.name, s.version);
            println!(", cksum=\"{}\"\n", s.cksum);
            schema = Some(s);
            continue;
        };
        if let Some(date) = record.get("_date").and_then(Value::as_u64) {
            // Old files have seconds.
            let ms = if date < i32::MAX as u64 {
                date * 1000
            } else {
                date
            };
            print!(" {}", plain_time(Duration::from_millis(ms)));
        }
        if let Some(c) = record.get("_comment").and_then(Value::as_str) {
            print!(" \"{c}\"");
        }
        println!();
        let mut rows = Rows {
            schema: known,
            names: std::mem::take(&mut names),
        };
        rows.show(&record, more);
        names = rows.names;
        if more > 0 {
            println!();
        }
    }
    Ok(())
}

impl Rows<'_> {
    fn show(&mut self, record: &Value, more: u32) {
        let Some(map) = record.as_object() else {
            return;
        };
        let is_diff = map.get("_is_diff").and_then(Value::as_bool) == Some(true);
        for name in hash_order(map.keys().map(String::as_str)) {
            let Some(rows) = map[name].as_object().filter(|_| !name.starts_with('_')) else {
                continue;
            };
            for uuid in hash_order(rows.keys().map(String::as_str)) {
                self.row(name, uuid, &rows[uuid], is_diff, more);
            }
        }
    }

    fn row(&mut self, table: &str, uuid: &str, row: &Value, is_diff: bool, more: u32) {
        let key = (table.to_owned(), uuid.to_owned());
        let short = uuid.get(..8).unwrap_or(uuid);
        let new_name = row.get("name").and_then(Value::as_str);
        let known = self.names.get(&key).cloned();
        let name = new_name
            .map(|n| format!("\"{n}\""))
            .or_else(|| known.clone().filter(|k| !k.is_empty()));
        if more > 0 {
            match (&known, &name) {
                (None, Some(n)) => println!("  table {table} insert row {n} ({short}):"),
                (None, None) => println!("  table {table} insert row {short}:"),
                (Some(_), n) => {
                    let n = n.clone().unwrap_or_else(|| short.to_owned());
                    let what = if is_diff { " diff" } else { "" };
                    println!("  table {table} row {n} ({short}){what}:");
                }
            }
        }
        if row.is_null() {
            if more > 0 {
                println!("    delete row");
            }
            self.names.remove(&key);
            return;
        }
        self.names.insert(key, name.unwrap_or_default());
        let Some(cells) = row.as_object().filter(|_| more > 1) else {
            return;
        };
        for column in hash_order(cells.keys().map(String::as_str)) {
            let ty = self
                .schema
                .table(table)
                .and_then(|t| t.column(column))
                .map(|c| c.ty.clone());
            let json = &cells[column];
            let text = ty
                .and_then(|ty| {
                    let any = Type { min: 0, ..ty };
                    let d = Datum::from_json(&any, json).ok()?;
                    Some(datum_text(&d, &any))
                })
                .unwrap_or_else(|| json_text(json));
            println!("    {column}={text}");
        }
    }
}
