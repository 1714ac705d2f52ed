//! `ovsdb-tool`: makes, reads and repairs database files (ovsdb-tool(1)).

mod file;
mod show_log;
mod transact;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use ovsdb::Uuid;

use crate::daemon::Settings;
use crate::exit;
use crate::getopt::{self, Spec, Takes};
use crate::paths;

const PROGRAM: &str = "ovsdb-tool";

/// What the options say.
#[derive(Default)]
struct Options {
    /// How often `-m` was given.
    more: u32,
    /// `--rbac-role`.
    rbac_role: Option<String>,
}

/// One command: its name, its arguments as they are shown, the fewest and the most of them, what
/// it does in a line, and how.
struct Command {
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    help: &'static str,
    run: fn(&Options, &[String]) -> Result<ExitCode>,
}

/// The commands, in the order in which `list-commands` shows them.
#[rustfmt::skip]
const COMMANDS: &[Command] = &[
    Command { name: "create", usage: "[db [schema]]", min: 0, max: 2, help: "create DB with the given SCHEMA", run: |_, a| file::create(&db(a, 0), schema(a, 1)) },
    Command { name: "create-cluster", usage: "db contents local", min: 3, max: 3, help: "", run: clustered },
    Command { name: "join-cluster", usage: "db name local remote...", min: 4, max: usize::MAX, help: "", run: clustered },
    Command { name: "compact", usage: "[db [dst]]", min: 0, max: 2, help: "compact DB in-place (or to DST)", run: |_, a| file::compact(&db(a, 0), path(a, 1)) },
    Command { name: "convert", usage: "[db [schema [dst]]]", min: 0, max: 3, help: "convert DB to SCHEMA (to DST)", run: |_, a| file::convert(&db(a, 0), schema(a, 1), path(a, 2)) },
    Command { name: "needs-conversion", usage: "", min: 0, max: 2, help: "report whether DB's schema differs from SCHEMA", run: |_, a| file::needs_conversion(&db(a, 0), schema(a, 1)) },
    Command { name: "db-name", usage: "[db]", min: 0, max: 1, help: "report name of schema used by DB", run: |_, a| file::db_name(&db(a, 0)) },
    Command { name: "db-version", usage: "[db]", min: 0, max: 1, help: "report version of schema used by DB", run: |_, a| file::of_db(&db(a, 0), |s| &s.version) },
    Command { name: "db-cksum", usage: "[db]", min: 0, max: 1, help: "report checksum of schema used by DB", run: |_, a| file::of_db(&db(a, 0), |s| &s.cksum) },
    Command { name: "db-cid", usage: "db", min: 1, max: 1, help: "report cluster ID of clustered DB", run: |_, a| file::of_cluster(&db(a, 0), "cluster_id") },
    Command { name: "db-sid", usage: "db", min: 1, max: 1, help: "report server ID of clustered DB", run: |_, a| file::of_cluster(&db(a, 0), "server_id") },
    Command { name: "db-local-address", usage: "db", min: 1, max: 1, help: "report local address of clustered DB", run: |_, a| file::of_cluster(&db(a, 0), "local_address") },
    Command { name: "db-is-clustered", usage: "db", min: 1, max: 1, help: "test whether DB is clustered", run: |_, a| file::is_kind(&db(a, 0), ovsdb::journal::Kind::Clustered) },
    Command { name: "db-is-standalone", usage: "db", min: 1, max: 1, help: "test whether DB is standalone", run: |_, a| file::is_kind(&db(a, 0), ovsdb::journal::Kind::Standalone) },
    Command { name: "schema-name", usage: "[schema]", min: 0, max: 1, help: "report SCHEMA's name", run: |_, a| file::of_schema(schema(a, 0), |s| &s.name) },
    Command { name: "schema-version", usage: "[schema]", min: 0, max: 1, help: "report SCHEMA's schema version", run: |_, a| file::of_schema(schema(a, 0), |s| &s.version) },
    Command { name: "schema-cksum", usage: "[schema]", min: 0, max: 1, help: "report SCHEMA's checksum", run: |_, a| file::of_schema(schema(a, 0), |s| &s.cksum) },
    Command { name: "query", usage: "[db] trns", min: 1, max: 2, help: "execute read-only transaction on DB", run: |o, a| transact(o, a, false) },
    Command { name: "transact", usage: "[db] trns", min: 1, max: 2, help: "execute read/write transaction on DB", run: |o, a| transact(o, a, true) },
    Command { name: "show-log", usage: "[db]", min: 0, max: 1, help: "print DB's log entries (also: showlog); -m, -mm: also rows, columns", run: |o, a| show_log::run(&db(a, 0), o.more) },
    Command { name: "check-cluster", usage: "db...", min: 1, max: usize::MAX, help: "", run: clustered },
    Command { name: "compare-versions", usage: "a op b", min: 3, max: 3, help: "compare OVSDB schema version numbers", run: |_, a| file::compare_versions(&a[0], &a[1], &a[2]) },
    Command { name: "help", usage: "", min: 0, max: usize::MAX, help: "", run: |_, _| { print!("{}", help()); Ok(ExitCode::SUCCESS) } },
    Command { name: "list-commands", usage: "", min: 0, max: usize::MAX, help: "", run: |_, _| { print!("{}", list()); Ok(ExitCode::SUCCESS) } },
    Command { name: "cluster-to-standalone", usage: "db clusterdb", min: 2, max: 2, help: "", run: clustered },
];

fn path(args: &[String], i: usize) -> Option<PathBuf> {
    args.get(i).map(PathBuf::from)
}

fn db(args: &[String], i: usize) -> PathBuf {
    paths::db_path(path(args, i).as_deref())
}

/// The file of a schema; `None` for the built-in one.
fn schema(args: &[String], i: usize) -> Option<PathBuf> {
    path(args, i)
}

fn transact(options: &Options, args: &[String], write: bool) -> Result<ExitCode> {
    let (db, text) = match args {
        [text] => (paths::db_path(None), text),
        _ => (db(args, 0), &args[1]),
    };
    transact::run(&db, text, write, options.rbac_role.as_deref())
}

fn clustered(_: &Options, _: &[String]) -> Result<ExitCode> {
    bail!("clustered databases are not supported, only standalone ones")
}

fn list() -> String {
    let mut text = String::from("The available commands are:\n");
    for c in COMMANDS {
        text.push_str(&format!("  {:<23} {}\n", c.name, c.usage));
    }
    text
}

fn help() -> String {
    let mut commands = String::new();
    for c in COMMANDS.iter().filter(|c| !c.help.is_empty()) {
        let usage = format!("{} {}", c.name, c.usage.to_uppercase());
        commands.push_str(&format!("  {usage:<29} {}\n", c.help));
    }
    format!(
        "\
{PROGRAM}: Open vSwitch database management utility
usage: {PROGRAM} [OPTIONS] COMMAND [ARG...]
{commands}The default DB is {}.
The default SCHEMA is the built-in one of Open_vSwitch.

Logging options:
  -vSPEC, --verbose=SPEC   set logging levels
  -v, --verbose            set maximum verbosity level
  --log-file[=FILE]        enable logging to specified FILE

Other options:
  -m, --more                  increase show-log verbosity
  --rbac-role=ROLE            RBAC role for transact and query commands
  -h, --help                  display this help message
  -V, --version               display version information

Exit codes: 0 done; 1 refused or impossible; 2 the comparison of compare-versions or the test of
db-is-... does not hold.

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
    ("rbac-role", None, Takes::Value),
    ("cid", None, Takes::Value),
    ("election-timer", None, Takes::Value),
    ("verbose", Some('v'), Takes::Maybe),
    ("help", Some('h'), Takes::Nothing),
    ("option", Some('o'), Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
];

/// An option that Open vSwitch's tool documents, though it does not list it.
const LOG: &[Spec] = &[("log-file", None, Takes::Maybe)];

/// The options, as `--option` shows them.
fn print_options() {
    for (name, letter, takes) in OPTIONS {
        let (long, short) = match takes {
            Takes::Nothing => ("", ""),
            Takes::Value => ("=ARG", "ARG"),
            Takes::Maybe => ("=[ARG]", "[ARG]"),
        };
        println!("--{name}{long}");
        if let Some(letter) = letter {
            println!("-{letter} {short}");
        }
    }
}

fn command(args: Vec<OsString>) -> Result<ExitCode> {
    let (given, words) = getopt::parse(args, &[OPTIONS, LOG], false).map_err(|e| anyhow!(e))?;
    let mut settings = Settings::new(PROGRAM, paths::run_dir(None));
    let mut options = Options::default();
    for (name, value) in given {
        match name {
            "more" => options.more += 1,
            "rbac-role" => options.rbac_role = value,
            "cid" => {
                let text = value.unwrap_or_default();
                if text.parse::<Uuid>().map_or(true, |u| u.is_nil()) {
                    bail!("{text}: not a valid UUID");
                }
            }
            // Of the commands that are refused.
            "election-timer" => {}
            "help" => {
                print!("{}", help());
                return Ok(ExitCode::SUCCESS);
            }
            "option" => {
                print_options();
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
    // Books write it as one word.
    let name = if name == "showlog" { "show-log" } else { name };
    let Some(c) = COMMANDS.iter().find(|c| c.name == name) else {
        bail!("unknown command '{name}'; use --help for help");
    };
    if words.len() < c.min {
        bail!("'{name}' command requires at least {} arguments", c.min);
    }
    if words.len() > c.max {
        bail!("'{name}' command takes at most {} arguments", c.max);
    }
    (c.run)(&options, words)
}
