//! `weir switchd`, also called `ovs-vswitchd`: the switch alone, on any database server.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ovsdb::{Target, Tls, TlsOptions};

use crate::daemon::{self, Settings, Started};
use crate::getopt::{self, Spec, Takes};
use crate::paths;

const OPTIONS: &[Spec] = &[
    ("mlockall", None, Takes::Nothing),
    ("enable-dummy", None, Takes::Maybe),
    ("disable-system", None, Takes::Nothing),
    ("disable-system-route", None, Takes::Nothing),
    ("forwarding-threads", None, Takes::Value),
    ("hw-rawio-access", None, Takes::Nothing),
    ("dpdk", None, Takes::Nothing),
];

/// How often to look whether the switch serves, while somebody waits for that.
const POLL: Duration = Duration::from_millis(10);

fn help() -> String {
    format!(
        "\
ovs-vswitchd: the switch
usage: ovs-vswitchd [OPTIONS] [DATABASE]

DATABASE is the server that configures it (default: {}).

  --forwarding-threads=N    threads that forward packets (default: 1)
  --enable-dummy            interfaces of type dummy, and a clock that tests can move
  --disable-system          accepted: there is no kernel datapath
  --mlockall                keep all memory from being swapped out

For a DATABASE that is ssl:HOST:PORT:
{}
{}
Exit codes: 0 ended by a signal or by exit on the control socket; 1 could not start, or failed.

Example:
  ovs-vswitchd --pidfile --detach --log-file unix:/run/weir/db.sock
",
        paths::default_db_target(),
        getopt::TLS_HELP,
        daemon::HELP
    )
}

/// Runs `ovs-vswitchd` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    match prepare(args) {
        Ok(Some(Plan {
            settings,
            options,
            lock_memory,
        })) => {
            let started = match settings.start() {
                Ok(started) => started,
                Err(code) => return code,
            };
            match serve(&settings, options, lock_memory, started) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("ovs-vswitchd: {e:#}");
                    ExitCode::FAILURE
                }
            }
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ovs-vswitchd: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Plan {
    settings: Settings,
    options: switchd::Options,
    lock_memory: bool,
}

/// Reads the command line; nothing to run after `--help` and `--version`.
fn prepare(args: Vec<OsString>) -> Result<Option<Plan>, String> {
    let (options, words) = getopt::parse(args, &[OPTIONS, getopt::TLS, daemon::OPTIONS], false)?;
    let run_dir = paths::run_dir(None);
    let mut settings = Settings::new("ovs-vswitchd", run_dir.clone());
    let mut threads = 1;
    let mut dummy = false;
    let mut lock_memory = false;
    let mut tls = TlsOptions::default();
    for (name, value) in options {
        match name {
            "help" => {
                print!("{}", help());
                return Ok(None);
            }
            "version" => {
                println!("ovs-vswitchd (weir) {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            "enable-dummy" => match value.as_deref() {
                None | Some("") | Some("override" | "system") => dummy = true,
                Some(v) => {
                    return Err(format!(
                        "--enable-dummy={v}: only override and system are known"
                    ));
                }
            },
            "forwarding-threads" => threads = forwarding_threads(value.as_deref().unwrap_or(""))?,
            // Nothing to switch off, or on.
            "mlockall" => lock_memory = true,
            "disable-system" | "disable-system-route" => {}
            _ if tls.accept(name, value.as_deref().unwrap_or_default()) => {}
            "dpdk" | "hw-rawio-access" => {
                return Err(format!("--{name} is not supported: there is no DPDK in it"));
            }
            _ => {
                settings.accept(name, value.as_deref())?;
            }
        }
    }
    let database = match words.as_slice() {
        [] => paths::default_db_target(),
        [one] => one.clone(),
        _ => return Err("at most one non-option argument accepted; use --help for usage".into()),
    };
    let database = database.parse::<Target>().map_err(|e| e.to_string())?;
    let mut options = switchd::Options::new(database, run_dir);
    options.controller_tls = tls.clone();
    options.tls = Tls::new(tls).map_err(|e| e.to_string())?;
    options.forwarding_threads = threads;
    options.enable_dummy = dummy;
    options.unixctl = settings.unixctl.clone().filter(|p| p != Path::new("none"));
    // switchd writes the usual pid file itself.
    settings.pidfile = settings
        .pidfile
        .filter(|p| *p != options.run_dir.join("ovs-vswitchd.pid"));
    Ok(Some(Plan {
        settings,
        options,
        lock_memory,
    }))
}

/// Most forwarding threads.
const MAX_THREADS: usize = 256;

/// Reads the value of `--forwarding-threads`.
pub fn forwarding_threads(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(n @ 1..=MAX_THREADS) => Ok(n),
        _ => Err(format!(
            "--forwarding-threads must be a number from 1 to {MAX_THREADS}, not \"{value}\""
        )),
    }
}

/// Runs the switch until a signal.
fn serve(
    settings: &Settings,
    mut options: switchd::Options,
    lock_memory: bool,
    mut started: Started,
) -> anyhow::Result<()> {
    daemon::make_run_dir(&options.run_dir)?;
    options.log = Some(settings.start_log()?);
    if lock_memory {
        use rustix::mm::{MlockAllFlags, mlockall};
        // What is never touched need not be there: stacks and guests' memory would be large.
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        if let Err(e) = mlockall(flags) {
            tracing::warn!("mlockall failed: {e}; memory may be swapped out");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let control = match &options.unixctl {
            Some(path) => path.clone(),
            None => options
                .run_dir
                .join(format!("ovs-vswitchd.{}.ctl", std::process::id())),
        };
        let serving = async {
            while !control.exists() {
                tokio::time::sleep(POLL).await;
            }
            started.ready();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = switchd::run(options, daemon::shutdown()?) => result,
            () = serving => Ok(()),
        }
    })
}
