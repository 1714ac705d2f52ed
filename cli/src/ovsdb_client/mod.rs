//! `ovsdb-client`: asks and watches a database server (ovsdb-client(1)).
//!
//! * [`connect`] — which server and which database are meant
//! * [`schema`] — what is known about the schema, and its conversion
//! * [`data`] — transactions and dumps;  [`backup`] — snapshots, in and out
//! * [`monitor`] — changes as they happen;  [`lock`] — locks, and waiting for a database
//! * [`control`] — the control socket of a client in the background
//! * [`order`] — the order in which Open vSwitch's tools list names

mod backup;
mod connect;
mod control;
mod data;
mod lock;
mod monitor;
pub mod order;
mod schema;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use ovsdb::tls::{Tls, TlsOptions};
use ovsdb::{
    AtomType, Client, ClientError, ClientOptions, DatabaseSchema, OvsdbError, TableSchema, Type,
};
use serde_json::{Value, json};

use crate::daemon::{self, Settings, Started};
use crate::exit;
use crate::getopt::{self, Spec, Takes};
use crate::paths;
use crate::table::{self, Style, json_pretty, json_text};
use connect::{Connection, Database};
use data::Params;

const PROGRAM: &str = "ovsdb-client";

/// What a command needs before its own arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: it connects by itself, once it knows where to.
    Nothing,
    Server,
    Database,
}

/// A command: its name, what it needs, fewest and most arguments.
type Command = (&'static str, Needs, usize, usize);

/// The most arguments count the server where the command connects by itself.
const COMMANDS: &[Command] = &[
    ("list-dbs", Needs::Server, 0, 0),
    ("get-schema", Needs::Database, 0, 0),
    ("get-schema-version", Needs::Database, 0, 0),
    ("get-schema-cksum", Needs::Database, 0, 0),
    ("list-tables", Needs::Database, 0, 0),
    ("list-columns", Needs::Database, 0, 1),
    ("transact", Needs::Nothing, 1, 2),
    ("query", Needs::Nothing, 1, 2),
    ("monitor", Needs::Database, 1, usize::MAX),
    ("monitor-cond", Needs::Database, 2, 3),
    ("monitor-cond-since", Needs::Database, 2, 4),
    ("wait", Needs::Nothing, 2, 3),
    ("convert", Needs::Nothing, 1, 2),
    ("needs-conversion", Needs::Nothing, 1, 2),
    ("dump", Needs::Database, 0, usize::MAX),
    ("backup", Needs::Database, 0, 0),
    ("restore", Needs::Database, 0, 0),
    ("lock", Needs::Server, 1, 1),
    ("steal", Needs::Server, 1, 1),
    ("unlock", Needs::Server, 1, 1),
    ("echo", Needs::Server, 0, 0),
    ("help", Needs::Nothing, 0, usize::MAX),
];

const OPTIONS: &[Spec] = &[
    ("timestamp", None, Takes::Nothing),
    ("force", None, Takes::Nothing),
    ("timeout", Some('t'), Takes::Value),
    ("db-change-aware", None, Takes::Nothing),
    ("no-db-change-aware", None, Takes::Nothing),
    ("leader-only", None, Takes::Nothing),
    ("no-leader-only", None, Takes::Nothing),
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
  monitor-cond-since [SERVER] [DATABASE] [LASTID] CONDITION TABLE [COLUMN,...]...
                                          the same, and only what came after transaction LASTID,
                                          if the server remembers
  wait [SERVER] DATABASE STATE            wait until DATABASE is \"added\", \"connected\" or \"removed\"
  dump [SERVER] [DATABASE] [TABLE [COLUMN...]]
                                          print contents
  backup [SERVER] [DATABASE] > SNAPSHOT   contents in the form of a database file
  [--force] restore [SERVER] [DATABASE] < SNAPSHOT
                                          replace the contents by a snapshot, even (--force) of a
                                          database with another schema
  convert [SERVER] SCHEMA                 change the schema of the database that SCHEMA names
  needs-conversion [SERVER] SCHEMA        whether the database's schema differs from SCHEMA
  lock [SERVER] LOCK                      take LOCK or wait for it, and hold it
  steal [SERVER] LOCK                     take LOCK from whoever has it
  unlock [SERVER] LOCK                    give LOCK up
  echo [SERVER]                           see whether the server answers

The default SERVER is {}.
The default DATABASE is {}.
SERVERs are unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT; of several, separated by commas, the first that has the
database is asked.

Output formatting options:
  -f, --format=FORMAT         \"table\", \"list\", \"html\", \"csv\" or \"json\"
  -d, --data=FORMAT           \"string\", \"bare\" or \"json\"
  --no-headings               omit headings
  --pretty                    JSON over several lines
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"
  --max-column-width=N        cut values off in tables
  --timestamp                 times above the output of \"monitor\"
Options for ssl: servers:
  -p, --private-key=FILE      our private key
  -c, --certificate=FILE      our certificate
  -C, --ca-cert=FILE          certificate of the authority that servers must have theirs from
  --bootstrap-ca-cert=FILE    the same, written by the first connection
  --ssl-protocols=PROTOS      versions of TLS
  --ssl-ciphers=CIPHERS       cipher suites
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

/// What the options say, for all commands.
struct Given {
    style: Style,
    timestamp: bool,
    force: bool,
    detached: bool,
    /// Whether to ask the server to tell of changes of databases: if it can, in any case, not at all.
    change_aware: Option<bool>,
    connecting: ClientOptions,
    started: Started,
}

/// Everything a command works with.
struct Tool {
    client: Client,
    server: String,
    db: String,
    style: Style,
    timestamp: bool,
    force: bool,
    detached: bool,
    change_aware: Option<bool>,
    started: Started,
    args: Vec<String>,
}

/// Runs the tool with the arguments behind its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    exit::finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<ExitCode> {
    let (options, words) = getopt::parse(
        args,
        &[OPTIONS, table::OPTIONS, getopt::TLS, daemon::OPTIONS],
        false,
    )
    .map_err(|e| anyhow!(e))?;
    let mut settings = Settings::new(PROGRAM, paths::run_dir(None));
    // What it prints is what it is for, in the background, too.
    settings.keep_output = true;
    let mut style = Style::default();
    let (mut timestamp, mut force, mut change_aware) = (false, false, None);
    let mut timeout = None;
    let mut tls = TlsOptions::default();
    for (name, value) in &options {
        let value = value.as_deref();
        match *name {
            "help" => return Ok(print_help()),
            "version" => {
                println!("{PROGRAM} (weir) {}", env!("CARGO_PKG_VERSION"));
                return Ok(ExitCode::SUCCESS);
            }
            _ if tls.accept(name, value.unwrap_or_default()) => {}
            "timestamp" => timestamp = true,
            "force" => force = true,
            "db-change-aware" => change_aware = Some(true),
            "no-db-change-aware" => change_aware = Some(false),
            // Of servers that are in no cluster each is its own leader.
            "leader-only" | "no-leader-only" => {}
            "timeout" => {
                let limit = exit::timeout('t', value.unwrap_or_default());
                timeout = Some(limit.map_err(|e| anyhow!(e))?);
            }
            "unixctl" => bail!("--unixctl is not supported: the socket is {PROGRAM}.PID.ctl"),
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
    // With other commands these options have no effect.
    let stays =
        command.0.starts_with("monitor") || matches!(command.0, "lock" | "steal" | "unlock");
    if !stays {
        settings.detach = false;
        settings.pidfile = None;
        settings.monitor = false;
    }
    let started = match settings.start() {
        Ok(started) => started,
        Err(code) => return Ok(code),
    };
    let _log = settings.start_log()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let given = Given {
        style,
        timestamp,
        force,
        detached: settings.detach,
        change_aware,
        connecting: ClientOptions {
            tls: Tls::new(tls)?,
            probe: None,
        },
        started,
    };
    let work = run_command(*command, words.to_vec(), given);
    let time_is_up = async {
        match timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    runtime.block_on(async {
        tokio::select! {
            result = work => result.map(|()| ExitCode::SUCCESS),
            () = time_is_up => {
                tracing::warn!(target: "fatal_signal", "terminating with signal 14 (Alarm clock)");
                exit::out_of_time()
            }
            // The pid file goes with what was going on; the code is a shell's for SIGTERM.
            () = daemon::shutdown()? => Ok(ExitCode::from(128 + 15)),
        }
    })
}

fn print_help() -> ExitCode {
    print!("{}", help());
    ExitCode::SUCCESS
}

async fn run_command(
    (name, needs, min, max): Command,
    mut words: Vec<String>,
    given: Given,
) -> Result<()> {
    let usage = || anyhow!("invalid syntax for '{name}' (use --help for help)");
    let options = &given.connecting;
    let at = match needs {
        Needs::Nothing => {
            if !(min..=max).contains(&words.len()) {
                return Err(usage());
            }
            return run_unconnected(name, words, given).await;
        }
        Needs::Server => connect::open(name, min, Database::None, &mut words, options).await?,
        Needs::Database => connect::open(name, min, Database::Any, &mut words, options).await?,
    };
    if !(min..=max).contains(&words.len()) {
        return Err(usage());
    }
    let mut tool = Tool::new(at, words, given);
    match name {
        "list-dbs" => {
            let mut dbs = tool.client.list_dbs().await?;
            dbs.sort();
            for db in dbs {
                println!("{db}");
            }
            Ok(())
        }
        "get-schema" => tool.get_schema().await,
        "get-schema-version" => {
            println!("{}", tool.schema().await?.version);
            Ok(())
        }
        "get-schema-cksum" => {
            println!("{}", tool.schema().await?.cksum);
            Ok(())
        }
        "list-tables" => tool.list_tables().await,
        "list-columns" => tool.list_columns().await,
        "dump" => tool.dump().await,
        "backup" => tool.backup().await,
        "restore" => tool.restore().await,
        "monitor" | "monitor-cond" | "monitor-cond-since" => monitor::run(&mut tool, name).await,
        "lock" | "steal" | "unlock" => tool.lock(name).await,
        _ => Ok(tool.client.echo().await?),
    }
}

/// Runs a command whose last argument tells which database is meant.
async fn run_unconnected(name: &str, mut words: Vec<String>, given: Given) -> Result<()> {
    if name == "help" {
        print_help();
        return Ok(());
    }
    if name == "wait" {
        return lock::wait(words, &given.connecting).await;
    }
    let last = words.last().cloned().unwrap_or_default();
    let connect = async |db: &str| -> Result<Tool> {
        let database = Database::Named(db.to_owned());
        let at = connect::open(name, 1, database, &mut words, &given.connecting).await?;
        Ok(Tool::new(at, words, given))
    };
    if name == "transact" || name == "query" {
        let params =
            Params::new(crate::json::parse(&last).map_err(|e| anyhow!("\"{last}\": {e}"))?)?;
        let tool = connect(params.database()).await?;
        return match name {
            "query" => tool.query(params).await,
            _ => tool.transact(params).await,
        };
    }
    let new = schema::read(&last)?;
    let tool = connect(&new.name).await?;
    match name {
        "convert" => tool.convert(&new).await,
        _ => tool.needs_conversion(&new).await,
    }
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

/// An error as Open vSwitch's tools tell it.
fn told(e: &ClientError) -> anyhow::Error {
    match e {
        ClientError::Answer(OvsdbError {
            name,
            details,
            syntax,
        }) => {
            let syntax = syntax.iter().map(|s| format!("syntax \"{s}\": "));
            let details = (!details.is_empty()).then(|| format!(": {details}"));
            anyhow!(
                "{}{name}{}",
                syntax.collect::<String>(),
                details.unwrap_or_default()
            )
        }
        other => anyhow!("{other}"),
    }
}

impl Tool {
    fn new(at: Connection, args: Vec<String>, given: Given) -> Tool {
        Tool {
            client: at.client,
            server: at.server,
            db: at.db,
            style: given.style,
            timestamp: given.timestamp,
            force: given.force,
            detached: given.detached,
            change_aware: given.change_aware,
            started: given.started,
            args,
        }
    }

    /// Sends a request; an error in the answer is told as Open vSwitch does.
    async fn request(&self, method: &str, params: Value) -> Result<Value> {
        self.client
            .request(method, params)
            .await
            .map_err(|e| match e {
                ClientError::Answer(e) => {
                    anyhow!("transaction returned error: {}", json_text(&e.to_json()))
                }
                other => other.into(),
            })
    }

    async fn schema(&self) -> Result<DatabaseSchema> {
        let json = self.request("get_schema", json!([self.db])).await?;
        Ok(DatabaseSchema::from_json(&json)?)
    }

    /// Asks to be told when a database goes or changes its schema, rather than be cut off.
    async fn say_aware_of_changes(&self) -> Result<()> {
        if self.change_aware == Some(false) {
            return Ok(());
        }
        match self
            .client
            .request("set_db_change_aware", json!([true]))
            .await
        {
            Err(ClientError::Answer(e)) if self.change_aware == Some(true) => {
                bail!("{}: set_db_change_aware failed ({e})", self.server)
            }
            // Servers older than OVS 2.9 do not know it.
            Ok(_) | Err(ClientError::Answer(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// The end of the connection while something was waited for.
    fn receive_failed(&self, e: &ClientError) -> anyhow::Error {
        match e {
            ClientError::Closed(why) => anyhow!("{}: receive failed ({why})", self.server),
            other => anyhow!("{other}"),
        }
    }

    fn print_json(&self, json: &Value) {
        if self.style.pretty {
            println!("{}", json_pretty(json));
        } else {
            println!("{}", json_text(json));
        }
    }
}
