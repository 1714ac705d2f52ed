//! `weir controller`: the OpenFlow controller alone; and its options, which `weir up` has too.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::daemon::{self, Settings, Started};
use crate::getopt::{self, Spec, Takes};
use crate::paths;

/// The options of the controller.
pub const OPTIONS: &[Spec] = &[
    ("openflow", None, Takes::Value),
    ("rest", None, Takes::Value),
    ("run-dir", None, Takes::Value),
];

/// The lines of `--help` about [`OPTIONS`].
pub const HELP: &str = "\
  --openflow=ADDR           where switches connect; may repeat
                            (default: 127.0.0.1:6653 and 127.0.0.1:6633)
  --rest=ADDR               where REST and the dashboard are (default: 127.0.0.1:8080)
  --run-dir=DIR             run directory: sockets, pid files and rest.token
";

/// What the options say.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// Addresses for switches; none for the usual ones.
    pub openflow: Vec<SocketAddr>,
    /// Address of REST, if not the usual one.
    pub rest: Option<SocketAddr>,
    /// Run directory, if given.
    pub run_dir: Option<PathBuf>,
}

impl Listen {
    /// Takes one of [`OPTIONS`]; false if it is none of those.
    ///
    /// # Errors
    /// The value is no address.
    pub fn accept(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let address = || {
            value
                .parse::<SocketAddr>()
                .map_err(|_| format!("--{name}: \"{value}\" is not ADDRESS:PORT, such as 127.0.0.1:6653 or [::1]:6653"))
        };
        match name {
            "openflow" => self.openflow.push(address()?),
            "rest" => self.rest = Some(address()?),
            "run-dir" => {
                self.run_dir = Some(std::path::absolute(value).unwrap_or_else(|_| value.into()))
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The controller's options, with its store in `store` and the token in the run directory.
    pub fn options(&self, store: PathBuf, run_dir: &Path) -> controller::Options {
        let mut options = controller::Options::new(store, run_dir.join("rest.token"));
        if !self.openflow.is_empty() {
            options.openflow = self.openflow.clone();
        }
        if let Some(rest) = self.rest {
            options.rest = rest;
        }
        options
    }
}

fn help() -> String {
    format!(
        "\
weir controller: the OpenFlow controller alone
usage: weir controller [OPTIONS]

{HELP}  --store=FILE              where named flows are kept (default: {})

{}
It runs until SIGTERM or SIGINT. Exit codes: 0 ended by a signal; 1 could not start, or failed.

Example:
  weir controller --openflow 0.0.0.0:6653
",
        default_store().display(),
        daemon::HELP
    )
}

fn default_store() -> PathBuf {
    paths::db_dir().join("controller.redb")
}

/// Runs `weir controller`.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let fail = |e: &dyn std::fmt::Display| {
        eprintln!("weir controller: {e}");
        ExitCode::FAILURE
    };
    let specs: &[&[Spec]] = &[&[("store", None, Takes::Value)], OPTIONS, daemon::OPTIONS];
    let (options, words) = match getopt::parse(args, specs, false) {
        Ok(parsed) => parsed,
        Err(e) => return fail(&e),
    };
    if let Some(word) = words.first() {
        return fail(&format!(
            "\"{word}\" is too much; see weir controller --help"
        ));
    }
    let mut listen = Listen::default();
    let mut store = default_store();
    let mut rest = Vec::new();
    for (name, value) in options {
        let given = value.as_deref().unwrap_or("");
        match (name, listen.accept(name, given)) {
            (_, Err(e)) => return fail(&e),
            (_, Ok(true)) => {}
            ("help", _) => {
                print!("{}", help());
                return ExitCode::SUCCESS;
            }
            ("version", _) => {
                println!("weir {}", env!("CARGO_PKG_VERSION"));
                return ExitCode::SUCCESS;
            }
            ("store", _) => store = std::path::absolute(given).unwrap_or_else(|_| given.into()),
            ("unixctl", _) => {
                return fail(&"--unixctl is not supported: the controller is asked by REST");
            }
            _ => rest.push((name, value)),
        }
    }
    let run_dir = paths::run_dir(listen.run_dir.as_deref());
    let mut settings = Settings::new("weir-controller", run_dir.clone());
    for (name, value) in rest {
        if let Err(e) = settings.accept(name, value.as_deref()) {
            return fail(&e);
        }
    }
    if let Err(e) = daemon::make_run_dir(&run_dir) {
        return fail(&format!("{e:#}"));
    }
    let started = match settings.start() {
        Ok(started) => started,
        Err(code) => return code,
    };
    match serve(&settings, listen.options(store, &run_dir), started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("{e:#}")),
    }
}

fn serve(
    settings: &Settings,
    options: controller::Options,
    mut started: Started,
) -> anyhow::Result<()> {
    if let Some(dir) = options.store.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    settings.start_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let shutdown = daemon::shutdown()?;
        let controller = controller::Controller::bind(options).await?;
        started.ready();
        controller.run(shutdown).await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let mut l = Listen::default();
        assert_eq!(l.accept("openflow", "127.0.0.1:1"), Ok(true));
        assert_eq!(l.accept("openflow", "[::1]:2"), Ok(true));
        assert!(
            l.accept("rest", "8080")
                .unwrap_err()
                .contains("127.0.0.1:6653")
        );
        assert_eq!(l.accept("db", "x"), Ok(false));
        let options = l.options("s".into(), Path::new("/r"));
        assert_eq!(options.openflow.len(), 2);
        assert_eq!(options.rest.port(), 8080);
        assert_eq!(options.token_file, Path::new("/r/rest.token"));
    }
}
