//! `ovsdb-server`: serves database files (ovsdb-server(1)).

mod commands;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ovsdb::{Server, ServerOptions, Target};
use switchd::Vlog;
use switchd::control::ControlSocket;
use switchd::control::registry;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::commands::Control;
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
  --remote=REMOTE         connect or listen to REMOTE: punix:FILE, ptcp:PORT[:IP], pssl:PORT[:IP],
                          unix:FILE, tcp:HOST:PORT, ssl:HOST:PORT, or db:DATABASE,TABLE,COLUMN for
                          what a column names
{}Database options:
  --create                make the first DATABASE with the built-in schema if it is missing
  --lazy-sync             answer before transactions are on disk, unless they ask to wait
  --run=COMMAND           run COMMAND in a shell once serving, and end when it ends
{}
Exit codes: 0 ended by a signal or by exit on the control socket; 1 could not start, or failed.

Example:
  {PROGRAM} --remote=punix:/run/weir/db.sock --pidfile --detach /var/lib/weir/conf.db
",
        paths::db_path(None).display(),
        getopt::TLS_HELP,
        daemon::HELP
    )
}

const OPTIONS: &[Spec] = &[
    ("remote", None, Takes::Value),
    ("create", None, Takes::Nothing),
    ("lazy-sync", None, Takes::Nothing),
    ("run", None, Takes::Value),
];

/// Options of Open vSwitch's server that this one does not have.
const UNSUPPORTED: &[Spec] = &[
    ("sync-from", None, Takes::Value),
    ("sync-exclude-tables", None, Takes::Value),
    ("active", None, Takes::Nothing),
    ("record", None, Takes::Maybe),
    ("replay", None, Takes::Maybe),
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
    let mut server = ServerOptions {
        run_dir: run_dir.clone(),
        ..ServerOptions::default()
    };
    let mut settings = Settings::new(PROGRAM, run_dir);
    let mut run = None;
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
            "remote" => {
                let remote = target(text.unwrap_or_default()).map_err(|e| anyhow!(e))?;
                server.remotes.push(remote);
            }
            "create" => server.create = Some(ovsdb::vswitch_schema().clone()),
            "lazy-sync" => server.lazy_sync = true,
            "run" => run = value.clone(),
            name if server.tls.accept(name, text.unwrap_or_default()) => {}
            other => {
                if UNSUPPORTED.iter().any(|(n, ..)| *n == other) {
                    bail!("--{other} is not supported");
                }
                settings.accept(other, text).map_err(|e| anyhow!(e))?;
            }
        }
    }
    let detach = settings.detach;
    let mut files = words.iter().map(|w| match detach {
        // The working directory will be another one.
        true => std::path::absolute(w).with_context(|| w.clone()),
        false => Ok(w.into()),
    });
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
    raise_descriptors();
    runtime.block_on(serve(server, &settings, run, log, started))
}

/// Reads a remote.
///
/// # Errors
/// It is none; where it was to name a column, in the words of Open vSwitch.
fn target(text: &str) -> Result<Target, String> {
    text.parse::<Target>().map_err(|e| {
        if text.starts_with("db:") {
            format!("\"{text}\": invalid syntax")
        } else {
            e.to_string()
        }
    })
}

/// Every client needs a descriptor: takes as many as the system allows.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(e) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(
            "the number of open files stays limited to {:?}: {e}",
            limit.current
        );
    }
}

/// Runs `command` in a shell, as `--run` says.
///
/// # Errors
/// It did not end with success, in the words of Open vSwitch.
async fn run_command(command: &str) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    let status = tokio::process::Command::new("/bin/sh")
        .args(["-c", command])
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("{command}: could not start"))?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => bail!("{command}: child exited, exit status {code}"),
        (None, signal) => bail!(
            "{command}: child exited, killed (signal {})",
            signal.unwrap_or(0)
        ),
    }
}

async fn serve(
    options: ServerOptions,
    settings: &Settings,
    run: Option<String>,
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
            let answer = move |name: &str, args: &[String]| {
                registry::run(commands::COMMANDS, &control, name, args)
            };
            socket.serve(Arc::new(answer)).await;
        });
        // Dropped with the set, the task takes the socket along.
        Some(serving)
    };
    started.ready();
    tracing::info!("{VERSION}");
    let child = async {
        match &run {
            Some(command) => run_command(command).await,
            None => std::future::pending().await,
        }
    };
    let mut ended = Ok(());
    let until = async {
        tokio::select! {
            () = shutdown => {}
            result = child => ended = result,
            Ok(_) = exited.wait_for(|e| *e) => {
                // Lets the answer leave.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    server.run(until).await?;
    ended.map(|()| ExitCode::SUCCESS)
}
