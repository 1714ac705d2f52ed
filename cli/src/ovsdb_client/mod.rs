//! `ovsdb-client`: asks and watches a database server (ovsdb-client(1)).

mod monitor;
pub mod order;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ovsdb::{AtomType, Client, DatabaseSchema, Datum, TableSchema, Target, Type};
use serde_json::{Value, json};
use switchd::log::since_epoch;

use crate::daemon::{self, Settings, Started};
use crate::exit;
use crate::getopt::{self, Spec, Takes};
use crate::paths;
use crate::table::{self, Cell, Printer, Style, Table, json_pretty, json_text};
use order::hash_order;

const PROGRAM: &str = "ovsdb-client";

/// What a command needs before its own arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Server,
    Database,
}

/// A command: its name, what it needs, fewest and most arguments.
type Command = (&'static str, Needs, usize, usize);

const COMMANDS: &[Command] = &[
    ("list-dbs", Needs::Server, 0, 0),
    ("get-schema", Needs::Database, 0, 0),
    ("get-schema-version", Needs::Database, 0, 0),
    ("get-schema-cksum", Needs::Database, 0, 0),
    ("list-tables", Needs::Database, 0, 0),
    ("list-columns", Needs::Database, 0, 1),
    ("transact", Needs::Server, 1, 1),
    ("query", Needs::Server, 1, 1),
    ("monitor", Needs::Database, 1, usize::MAX),
    ("monitor-cond", Needs::Database, 2, usize::MAX),
    ("wait", Needs::Server, 2, 2),
    ("dump", Needs::Database, 0, usize::MAX),
    ("backup", Needs::Database, 0, 0),
    ("needs-conversion", Needs::Server, 1, 1),
    ("lock", Needs::Server, 1, 1),
    ("steal", Needs::Server, 1, 1),
    ("unlock", Needs::Server, 1, 1),
    ("echo", Needs::Server, 0, 0),
];

const OPTIONS: &[Spec] = &[
    ("timestamp", None, Takes::Nothing),
    ("timeout", Some('t'), Takes::Value),
];

fn help() -> String {
    format!(
            "\
{PROGRAM}: Open vSwitch database JSON-RPC client
usage: {PROGRAM} [OPTIONS] COMMAND [ARG...]

Valid commands are:
  list-dbs [SERVER]                       names of the databases
  get-schema [SERVER] [DATABASE]          the schema, as JSON
  get-schema-version [SERVER] [DATABASE]  its version
  get-schema-cksum [SERVER] [DATABASE]    its check sum
  list-tables [SERVER] [DATABASE]         names of the tables
  list-columns [SERVER] [DATABASE] [TABLE]
                                          columns and their types
  transact [SERVER] TRANSACTION           run a transaction (params of \"transact\")
  query [SERVER] TRANSACTION              the same, without changing anything
  monitor [SERVER] [DATABASE] TABLE [COLUMN,...]...
                                          print rows and their changes; COLUMNs may include
                                          !initial, !insert, !delete, !modify
  monitor [SERVER] [DATABASE] ALL         print all changes of all tables
  monitor-cond [SERVER] [DATABASE] CONDITION TABLE [COLUMN,...]...
                                          only rows that match CONDITION
  wait [SERVER] DATABASE STATE            wait until DATABASE is \"added\", \"connected\" or \"removed\"
  dump [SERVER] [DATABASE] [TABLE [COLUMN...]]
                                          print contents
  backup [SERVER] [DATABASE] > SNAPSHOT   contents in the form of a database file
  needs-conversion [SERVER] SCHEMA        whether the database's schema differs from SCHEMA
  lock [SERVER] LOCK                      take LOCK or wait for it, and hold it
  steal [SERVER] LOCK                     take LOCK from whoever has it
  unlock [SERVER] LOCK                    give LOCK up
  echo [SERVER]                           see whether the server answers

The default SERVER is {}.
The default DATABASE is {}.
SERVERs are unix:FILE or tcp:HOST:PORT.

Output formatting options:
  -f, --format=FORMAT         \"table\", \"list\", \"html\", \"csv\" or \"json\"
  -d, --data=FORMAT           \"string\", \"bare\" or \"json\"
  --no-headings               omit headings
  --pretty                    JSON over several lines
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"
  --max-column-width=N        cut values off in tables
  --timestamp                 times above the output of \"monitor\"
Other options:
  -t, --timeout=SECS          give up after SECS seconds
With --detach, \"monitor\" goes to the background once it has printed what there is, and prints on.
{}
Exit codes: 0 done; 1 refused, impossible or not connected; 142 out of time (--timeout).

Example:
  {PROGRAM} -f json dump Port name tag trunks
",
            paths::default_db_target(),
            paths::DATABASE,
            daemon::HELP
        )
}

/// Everything a command works with.
struct Tool {
    client: Client,
    server: Target,
    db: String,
    style: Style,
    timestamp: bool,
    started: Started,
    args: Vec<String>,
}

/// Runs the tool with the arguments behind its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    exit::finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<ExitCode> {
    let (options, words) = getopt::parse(args, &[OPTIONS, table::OPTIONS, daemon::OPTIONS], false)
        .map_err(|e| anyhow!(e))?;
    let mut settings = Settings::new(PROGRAM, paths::run_dir(None));
    // What it prints is what it is for, in the background, too.
    settings.keep_stdout = true;
    let mut style = Style::default();
    let mut timestamp = false;
    let mut timeout = None;
    for (name, value) in &options {
        let value = value.as_deref();
        match *name {
            "help" => {
                print!("{}", help());
                return Ok(ExitCode::SUCCESS);
            }
            "version" => {
                println!("{PROGRAM} (weir) {}", env!("CARGO_PKG_VERSION"));
                return Ok(ExitCode::SUCCESS);
            }
            "timestamp" => timestamp = true,
            "timeout" => {
                let limit = exit::timeout('t', value.unwrap_or_default());
                timeout = Some(limit.map_err(|e| anyhow!(e))?);
            }
            "unixctl" => bail!("--unixctl is not supported: this tool has no control socket"),
            other => {
                let ours = style.set(other, value).map_err(|e| anyhow!(e))?;
                if !ours {
                    settings.accept(other, value).map_err(|e| anyhow!(e))?;
                }
            }
        }
    }
    let Some((name, words)) = words.split_first() else {
        bail!("missing command name; use --help for help");
    };
    let Some(command) = COMMANDS.iter().find(|c| c.0 == name) else {
        bail!("unknown command '{name}'; use --help for help");
    };
    if settings.detach && !matches!(command.0, "monitor" | "monitor-cond" | "lock" | "steal") {
        bail!("--detach makes sense only with monitor, monitor-cond, lock and steal");
    }
    let started = match settings.start() {
        Ok(started) => started,
        Err(code) => return Ok(code),
    };
    let _log = settings.start_log()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let work = run_command(*command, words.to_vec(), style, timestamp, started);
    let time_is_up = async {
        match timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            () = time_is_up => exit::out_of_time(),
            // The pid file goes with what was going on; the code is a shell's for SIGTERM.
            () = daemon::shutdown()? => Ok(ExitCode::from(128 + 15)),
        }
    })
}

async fn run_command(
    (name, needs, min, max): Command,
    mut words: Vec<String>,
    style: Style,
    timestamp: bool,
    started: Started,
) -> Result<ExitCode> {
    let usage = || anyhow!("invalid syntax for '{name}' (use --help for help)");
    let is_server = words.len() > min
        && words[0].starts_with(|c: char| c.is_ascii_alphabetic())
        && words[0].contains(':');
    let server: Target = if is_server {
        words.remove(0).parse()?
    } else {
        paths::default_db_target().parse()?
    };
    if words.len() < min {
        return Err(usage());
    }
    let client = if name == "wait" {
        // The server may come later.
        loop {
            match Client::connect(&server).await {
                Ok(c) => break c,
                Err(e) => {
                    tracing::debug!(%e, "trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    } else {
        Client::connect(&server).await?
    };
    let mut db = paths::DATABASE.to_owned();
    if needs == Needs::Database {
        let dbs = client.list_dbs().await?;
        if words.len() > min && dbs.contains(&words[0]) {
            db = words.remove(0);
        } else if !dbs.contains(&db) {
            let mut others = dbs.iter().filter(|d| !d.starts_with('_'));
            match (others.next(), others.next()) {
                (Some(one), None) => db = one.clone(),
                _ => bail!(
                    "no default database for '{name}' command, please specify a database name"
                ),
            }
        }
    }
    if words.len() < min || words.len() > max {
        return Err(usage());
    }
    let mut tool = Tool {
        client,
        server,
        db,
        style,
        timestamp,
        started,
        args: words,
    };
    match name {
        "list-dbs" => {
            let mut dbs = tool.client.list_dbs().await?;
            dbs.sort();
            for db in dbs {
                println!("{db}");
            }
        }
        "get-schema" => {
            let json = tool.client.get_schema_json(&tool.db).await?;
            tool.print_json(&DatabaseSchema::from_json(&json)?.to_json());
        }
        "get-schema-version" => println!("{}", tool.schema().await?.version),
        "get-schema-cksum" => println!("{}", tool.schema().await?.cksum),
        "list-tables" => tool.list_tables().await?,
        "list-columns" => tool.list_columns().await?,
        "transact" => tool.transact(false).await?,
        "query" => tool.transact(true).await?,
        "dump" => tool.dump().await?,
        "backup" => tool.backup().await?,
        "needs-conversion" => {
            let text = std::fs::read_to_string(&tool.args[0])
                .with_context(|| format!("reading {}", tool.args[0]))?;
            let new = DatabaseSchema::from_json(&serde_json::from_str(&text)?)?;
            tool.db.clone_from(&new.name);
            let same = tool.schema().await?.tables == new.tables;
            println!("{}", if same { "no" } else { "yes" });
        }
        "monitor" | "monitor-cond" => monitor::run(&mut tool, name == "monitor-cond").await?,
        "wait" => tool.wait().await?,
        "lock" | "steal" | "unlock" => tool.lock(name).await?,
        "echo" => tool.client.echo().await?,
        other => bail!("unknown command '{other}'; use --help for help"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of a table in the order Open vSwitch's tools sort them: by name.
fn sorted_columns(t: &TableSchema, with_uuid: bool) -> Vec<(String, Type)> {
    let mut out: Vec<(String, Type)> = t
        .column_list
        .iter()
        .map(|c| (c.name.clone(), c.ty.clone()))
        .collect();
    if with_uuid {
        out.insert(0, ("_uuid".into(), Type::scalar(AtomType::Uuid)));
    }
    out
}

/// The members of a JSON object in the order Open vSwitch's tools go through them.
fn member_order(json: &Value) -> Vec<&str> {
    hash_order(
        json.as_object()
            .into_iter()
            .flat_map(|m| m.keys().map(String::as_str)),
    )
}

impl Tool {
    async fn schema(&self) -> Result<DatabaseSchema> {
        Ok(self.client.get_schema(&self.db).await?)
    }

    fn print_json(&self, json: &Value) {
        if self.style.pretty {
            println!("{}", json_pretty(json));
        } else {
            println!("{}", json_text(json));
        }
    }

    async fn list_tables(&self) -> Result<()> {
        let json = self.client.get_schema_json(&self.db).await?;
        DatabaseSchema::from_json(&json)?;
        let table = Table {
            headings: vec!["Table".into()],
            rows: hash_order(member_order(&json["tables"]))
                .into_iter()
                .map(|t| vec![t.into()])
                .collect(),
            ..Table::default()
        };
        Ok(Printer::new(self.style.clone()).print(&table)?)
    }

    async fn list_columns(&self) -> Result<()> {
        let json = self.client.get_schema_json(&self.db).await?;
        let schema = DatabaseSchema::from_json(&json)?;
        let asked = self.args.first();
        let mut table = Table::default();
        if asked.is_none() {
            table.headings.push("Table".into());
        }
        table.headings.extend(["Column".into(), "Type".into()]);
        for name in hash_order(member_order(&json["tables"])) {
            if asked.is_some_and(|a| a != name) {
                continue;
            }
            let t = &schema.tables[name];
            let columns = member_order(&json["tables"][name]["columns"]);
            let names = ["_uuid", "_version"].into_iter().chain(columns);
            for column in hash_order(names) {
                let ty = t
                    .column(column)
                    .map_or_else(|| Type::scalar(AtomType::Uuid), |c| c.ty.clone());
                let mut row: Vec<Cell> = vec![column.into(), Cell::Json(ty.to_json())];
                if asked.is_none() {
                    row.insert(0, name.into());
                }
                table.rows.push(row);
            }
        }
        Ok(Printer::new(self.style.clone()).print(&table)?)
    }

    async fn transact(&self, query: bool) -> Result<()> {
        let json: Value = serde_json::from_str(&self.args[0])
            .map_err(|e| anyhow!("\"{}\": {e}", self.args[0]))?;
        let mut params = match json {
            Value::Array(list) if list.first().is_some_and(Value::is_string) => list,
            _ => bail!("not a valid OVSDB query"),
        };
        if query {
            // Whatever it does is undone by the last operation.
            params.push(json!({"op": "abort"}));
        }
        let ops = params.len() - 1;
        match self.client.request("transact", Value::Array(params)).await {
            Ok(mut result) => {
                if let Some(list) = result.as_array_mut().filter(|_| query) {
                    let aborted = list.last().is_some_and(|l| l["error"] == "aborted");
                    if list.len() == ops && (aborted || list.last() == Some(&Value::Null)) {
                        list.pop();
                    }
                }
                self.print_json(&result);
                Ok(())
            }
            Err(ovsdb::ClientError::Answer(e)) => {
                bail!("transaction returned error: {}", json_text(&e.to_json()))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Fetches tables, each with its columns, in one transaction.
    async fn fetch(
        &self,
        tables: &[(&TableSchema, Vec<(String, Type)>)],
    ) -> Result<Vec<Vec<Vec<Datum>>>> {
        let ops = tables
            .iter()
            .map(|(t, columns)| {
                let names: Vec<_> = columns.iter().map(|c| &c.0).collect();
                json!({"op": "select", "table": t.name, "where": [], "columns": names})
            })
            .collect();
        let results = self.client.transact(&self.db, ops).await?;
        let mut out = Vec::new();
        for ((t, columns), result) in tables.iter().zip(results) {
            if let Some(e) = result.error {
                return Err(e.into());
            }
            let mut rows = Vec::new();
            for row in result.rows.unwrap_or_default() {
                let cells = columns
                    .iter()
                    .map(|(name, ty)| {
                        let json = row.get(name).with_context(|| {
                            format!("row of table {} without column {name}", t.name)
                        })?;
                        Ok(Datum::from_json(ty, json)?)
                    })
                    .collect::<Result<Vec<_>>>()?;
                rows.push(cells);
            }
            // By their contents, as far as those are not the names of rows, which are random.
            let plain: Vec<usize> = (0..columns.len())
                .filter(|x| columns[*x].1.key.atom != AtomType::Uuid)
                .collect();
            let contents = |row: &Vec<Datum>| -> Vec<Datum> {
                plain.iter().map(|x| row[*x].clone()).collect()
            };
            rows.sort_by_cached_key(|row| (contents(row), row[0].clone()));
            out.push(rows);
        }
        Ok(out)
    }

    async fn dump(&self) -> Result<()> {
        let schema = self.schema().await?;
        let mut tables = Vec::new();
        if let Some((name, columns)) = self.args.split_first() {
            let t = schema
                .table(name)
                .with_context(|| format!("No table \"{name}\" found."))?;
            let mut list = sorted_columns(t, true);
            if !columns.is_empty() {
                for c in columns {
                    if !list.iter().any(|(n, _)| n == c) {
                        bail!("Table \"{name}\" has no column {c}.");
                    }
                }
                list.retain(|(n, _)| columns.contains(n));
            }
            tables.push((&**t, list));
        } else {
            for t in schema.tables.values() {
                tables.push((&**t, sorted_columns(t, true)));
            }
        }
        let contents = self.fetch(&tables).await?;
        let mut printer = Printer::new(self.style.clone());
        for ((t, columns), rows) in tables.iter().zip(contents) {
            printer.print(&Table {
                caption: Some(format!("{} table", t.name)),
                headings: columns.iter().map(|c| c.0.clone()).collect(),
                rows: rows
                    .into_iter()
                    .map(|r| {
                        r.into_iter()
                            .zip(columns)
                            .map(|(d, c)| Cell::Datum(d, c.1.clone().into()))
                            .collect()
                    })
                    .collect(),
                ..Table::default()
            })?;
        }
        Ok(())
    }

    async fn backup(&self) -> Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        let schema = self.schema().await?;
        let tables: Vec<_> = schema
            .tables
            .values()
            .map(|t| {
                let mut columns = sorted_columns(t, true);
                columns.retain(|(n, _)| t.column(n).is_none_or(|c| !c.ephemeral));
                (&**t, columns)
            })
            .collect();
        let contents = self.fetch(&tables).await?;
        let mut record = serde_json::Map::new();
        record.insert(
            "_comment".into(),
            "produced by \"ovsdb-client backup\"".into(),
        );
        record.insert("_date".into(), (since_epoch().as_millis() as u64).into());
        for ((t, columns), rows) in tables.iter().zip(contents) {
            let mut json = serde_json::Map::new();
            for row in rows {
                let uuid = row[0].as_scalar_uuid().unwrap_or_default();
                let cells: serde_json::Map<String, Value> = columns
                    .iter()
                    .zip(&row)
                    .skip(1)
                    .filter(|((_, ty), d)| **d != ty.default_datum())
                    .map(|((n, _), d)| (n.clone(), d.to_json()))
                    .collect();
                json.insert(uuid.to_string(), Value::Object(cells));
            }
            if !json.is_empty() {
                record.insert(t.name.clone(), Value::Object(json));
            }
        }
        for json in [schema.to_json(), Value::Object(record)] {
            out.write_all(ovsdb::journal::encode_record(&json.to_string()).as_bytes())?;
        }
        Ok(())
    }

    async fn wait(&self) -> Result<()> {
        let (db, state) = (&self.args[0], &self.args[1]);
        if !matches!(state.as_str(), "added" | "connected" | "removed") {
            bail!("{state}: unknown state: it must be \"added\", \"connected\" or \"removed\"");
        }
        loop {
            let there = self.client.list_dbs().await?.contains(db);
            // A standalone database that is there is connected.
            if there != (state == "removed") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn lock(&mut self, method: &str) -> Result<()> {
        let name = &self.args[0];
        let reply = self.client.request(method, json!([name])).await?;
        self.print_json(&reply);
        if method == "unlock" {
            return Ok(());
        }
        self.started.ready();
        loop {
            let (event, name) = match self.client.next_notification().await? {
                ovsdb::Notification::Locked(n) => ("locked", n),
                ovsdb::Notification::Stolen(n) => ("stolen", n),
                _ => continue,
            };
            self.print_json(&json!({"id": null, "method": event, "params": [name]}));
        }
    }
}
