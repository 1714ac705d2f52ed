//! `ovsdb-server`: serves database files (ovsdb-server(1)).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ovsdb::{Server, ServerHandle, ServerOptions, Target};
use switchd::Vlog;
use switchd::control::ControlSocket;
use switchd::control::registry::{self, Command, command};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::daemon::{self, Settings, Started};
use crate::exit;
use crate::getopt::{self, Spec, Takes};
use crate::paths;

const PROGRAM: &str = "ovsdb-server";
const VERSION: &str = concat!("ovsdb-server (weir) ", env!("CARGO_PKG_VERSION"));

fn help() -> String {
    format!(
        "\
{PROGRAM}: Open vSwitch database server
usage: {PROGRAM} [OPTIONS] [DATABASE...]
where each DATABASE is a database file in ovsdb format.
The default DATABASE, if none is given, is
{}.

JSON-RPC options (may be specified any number of times):
  --remote=REMOTE         connect or listen to REMOTE: punix:FILE, ptcp:PORT[:IP], unix:FILE,
                          tcp:HOST:PORT, or db:DATABASE,TABLE,COLUMN for what a column names
Database options:
  --create                make the first DATABASE with the built-in schema if it is missing
  --lazy-sync             answer before transactions are on disk, unless they ask to wait
{}
Exit codes: 0 ended by a signal or by exit on the control socket; 1 could not start, or failed.

Example:
  {PROGRAM} --remote=punix:/run/weir/db.sock --pidfile --detach /var/lib/weir/conf.db
",
        paths::db_path(None).display(),
        daemon::HELP
    )
}

const OPTIONS: &[Spec] = &[
    ("remote", None, Takes::Value),
    ("create", None, Takes::Nothing),
    ("lazy-sync", None, Takes::Nothing),
];

/// Options of Open vSwitch's server that this one does not have.
const UNSUPPORTED: &[Spec] = &[
    ("sync-from", None, Takes::Value),
    ("sync-exclude-tables", None, Takes::Value),
    ("active", None, Takes::Nothing),
    ("run", None, Takes::Value),
    ("disable-file-column-diff", None, Takes::Nothing),
];

/// Runs the server with the arguments behind its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    exit::finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<ExitCode> {
    let known: &[&[Spec]] = &[OPTIONS, daemon::OPTIONS, getopt::TLS, UNSUPPORTED];
    let (options, words) = getopt::parse(args, known, false).map_err(|e| anyhow!(e))?;
    let run_dir = paths::run_dir(None);
    let run_dir = std::path::absolute(&run_dir).unwrap_or(run_dir);
    let mut settings = Settings::new(PROGRAM, run_dir);
    let mut server = ServerOptions::default();
    for (name, value) in &options {
        let text = value.as_deref();
        match *name {
            "help" => {
                print!("{}", help());
                return Ok(ExitCode::SUCCESS);
            }
            "version" => {
                println!("{VERSION}");
                return Ok(ExitCode::SUCCESS);
            }
            "remote" => server.remotes.push(remote(text.unwrap_or_default())?),
            "create" => server.create = Some(ovsdb::vswitch_schema().clone()),
            "lazy-sync" => server.lazy_sync = true,
            // TLS files that service scripts always name may be given where no remote uses TLS.
            _ if getopt::TLS.iter().any(|(n, ..)| n == name) => {
                eprintln!(
                    "{PROGRAM}: --{name} has no effect: TLS is not supported, ssl: and pssl: remotes are refused"
                );
            }
            other => {
                if UNSUPPORTED.iter().any(|(n, ..)| *n == other) {
                    bail!("--{other} is not supported");
                }
                settings.accept(other, text).map_err(|e| anyhow!(e))?;
            }
        }
    }
    let mut files = words
        .iter()
        .map(|w| std::path::absolute(w).with_context(|| w.clone()));
    server.db_path = match files.next() {
        Some(f) => f?,
        None => paths::db_path(None),
    };
    server.more = files.collect::<Result<_>>()?;
    let started = match settings.start() {
        Ok(started) => started,
        Err(code) => return Ok(code),
    };
    let log = settings.start_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(server, &settings, log, started))
}

/// Paths are meant relative to where the program was started, not to `/`.
fn remote(text: &str) -> Result<Target> {
    let absolute = |p: PathBuf| std::path::absolute(&p).with_context(|| format!("{}", p.display()));
    Ok(match text.parse()? {
        Target::Unix(p) => Target::Unix(absolute(p)?),
        Target::PassiveUnix(p) => Target::PassiveUnix(absolute(p)?),
        other => other,
    })
}

async fn serve(
    options: ServerOptions,
    settings: &Settings,
    log: Arc<Vlog>,
    mut started: Started,
) -> Result<ExitCode> {
    let shutdown = daemon::shutdown()?;
    let server = Server::open(options).await?;
    let (exit, mut exited) = watch::channel(false);
    let control = Control {
        server: server.handle(),
        runtime: Handle::current(),
        log,
        exit,
    };
    let _control = if settings.unixctl.as_deref() == Some(Path::new("none")) {
        None
    } else {
        let socket =
            ControlSocket::bind(&settings.run_dir, PROGRAM, settings.unixctl.as_deref())
                .with_context(|| format!("control socket in {}", settings.run_dir.display()))?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let answer =
                move |name: &str, args: &[String]| registry::run(COMMANDS, &control, name, args);
            socket.serve(Arc::new(answer)).await;
        });
        // Dropped with the set, the task takes the socket along.
        Some(serving)
    };
    started.ready();
    tracing::info!("{VERSION}");
    server
        .run(async move {
            tokio::select! {
                () = shutdown => {}
                Ok(_) = exited.wait_for(|e| *e) => {
                    // Lets the answer leave.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

/// What the commands of the control socket work on.
struct Control {
    server: ServerHandle,
    /// Where what they wait for runs; they themselves run on blocking threads.
    runtime: Handle,
    log: Arc<Vlog>,
    exit: watch::Sender<bool>,
}

/// An error as the control socket tells it.
fn told(e: impl Into<anyhow::Error>) -> String {
    format!("{:#}", e.into())
}

/// In the order in which `list-commands` shows them.
const COMMANDS: &[Command<Control>] = &[
    command("exit", "", 0, 0, |c, _| {
        c.exit.send_replace(true);
        Ok(String::new())
    }),
    command("list-commands", "", 0, 0, |_, _| {
        Ok(registry::list(COMMANDS))
    }),
    command("memory/show", "", 0, 0, |c, _| {
        let counts = c.server.with_engine(|e| {
            let rows: usize = e
                .database_names()
                .iter()
                .filter_map(|n| e.database(n))
                .map(ovsdb::Database::total_rows)
                .sum();
            (rows, e.client_count())
        });
        let (rows, clients) = c.runtime.block_on(counts).map_err(told)?;
        Ok(format!("rows:{rows} sessions:{clients}"))
    }),
    command("ovsdb-server/add-remote", "REMOTE", 1, 1, |c, a| {
        let remote = remote(&a[0]).map_err(told)?;
        c.runtime
            .block_on(c.server.add_remote(&remote))
            .map_err(told)?;
        Ok(String::new())
    }),
    command("ovsdb-server/compact", "", 0, 0, |c, _| {
        c.runtime.block_on(c.server.compact()).map_err(told)?;
        Ok(String::new())
    }),
    command("ovsdb-server/list-dbs", "", 0, 0, |c, _| {
        let names = c.server.with_engine(|e| e.database_names());
        Ok(c.runtime.block_on(names).map_err(told)?.join("\n"))
    }),
    command("ovsdb-server/list-remotes", "", 0, 0, |c, _| {
        Ok(c.server.remotes().join("\n"))
    }),
    command("ovsdb-server/remove-remote", "REMOTE", 1, 1, |c, a| {
        let remote = remote(&a[0]).map_err(told)?;
        if !c.runtime.block_on(c.server.remove_remote(&remote)) {
            return Err("no such remote".into());
        }
        Ok(String::new())
    }),
    command("version", "", 0, 0, |_, _| Ok(VERSION.into())),
    command("vlog/close", "", 0, 0, |c, _| {
        c.log.close();
        Ok(String::new())
    }),
    command("vlog/list", "", 0, 0, |c, _| Ok(c.log.list())),
    command("vlog/reopen", "", 0, 0, |c, _| {
        c.log.reopen()?;
        Ok(String::new())
    }),
    command("vlog/set", "{spec}...", 1, usize::MAX, |c, a| {
        a.iter().try_for_each(|spec| c.log.set(spec))?;
        Ok(String::new())
    }),
];
