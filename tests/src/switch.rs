//! A running weir.

use crate::netns::Namespace;
use crate::process::Daemon;
use crate::tools::{Tools, Typed};
use crate::wait;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Cargo's target directory: two levels above the running test.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("own path");
    exe.ancestors()
        .nth(3)
        .expect("target/PROFILE/deps/test")
        .to_owned()
}

/// The `weir` binary of the profile that the tests run in; built if it is not there yet.
pub fn weir_binary() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let exe = std::env::current_exe().expect("own path");
        let path = exe
            .ancestors()
            .nth(2)
            .expect("target/PROFILE/deps/test")
            .join("weir");
        if !path.exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "-p", "weir"])
                .status()
                .expect("cargo");
            assert!(built.success(), "cargo build -p weir failed");
        }
        path
    })
    .clone()
}

/// One `weir up`, ended with the test.
pub struct Weir {
    /// Run directory.
    pub run_dir: PathBuf,
    /// The namespace it runs in.
    pub namespace: Option<Namespace>,
    /// Further words for `weir up`.
    pub options: Vec<String>,
    daemon: Option<Daemon>,
    directory: TempDir,
}

impl Weir {
    /// In a namespace of its own (needs root), with further options.
    pub fn start(options: &[&str]) -> Weir {
        Weir::start_in(Some(Namespace::new()), options)
    }

    /// In the test's own namespace, as whoever runs the test.
    pub fn start_here(options: &[&str]) -> Weir {
        Weir::start_in(None, options)
    }

    fn start_in(namespace: Option<Namespace>, options: &[&str]) -> Weir {
        let directory = tempfile::Builder::new()
            .prefix("weir")
            .tempdir()
            .expect("temporary directory");
        let run_dir = directory.path().join("run");
        let options = options.iter().map(|&s| s.to_owned()).collect();
        let mut weir = Weir {
            run_dir,
            namespace,
            options,
            daemon: None,
            directory,
        };
        weir.spawn();
        weir
    }

    /// Starts it (again).
    pub fn spawn(&mut self) {
        let mut c = match &self.namespace {
            Some(ns) => ns.command(weir_binary()),
            None => Command::new(weir_binary()),
        };
        c.arg("up")
            .arg("--run-dir")
            .arg(&self.run_dir)
            .arg("--db")
            .arg(self.directory.path().join("conf.db"));
        c.args(&self.options);
        c.env("RUST_BACKTRACE", "1");
        self.daemon = Some(Daemon::spawn(c, &self.directory.path().join("weir.log")));
        let ready = self.run_dir.join("ovs-vswitchd.pid");
        wait::until("weir up to be ready", || {
            assert!(self.daemon().is_running(), "weir up ended");
            self.run_dir.join("db.sock").exists()
                && std::fs::read_to_string(&ready)
                    .is_ok_and(|p| p.trim().parse() == Ok(self.weir_pid()))
        });
    }

    /// The process that runs in the namespace: `ip netns exec` becomes it.
    fn weir_pid(&mut self) -> u32 {
        self.daemon().pid()
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("started")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.daemon().kill();
    }

    /// SIGTERM; the exit status.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.daemon().terminate()
    }

    /// A place for the test's own files.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Commands typed with `tools`.
    pub fn typed(&self, tools: Tools) -> Typed<'_> {
        Typed { weir: self, tools }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // The process first: its namespace and files go after it.
        self.daemon = None;
    }
}
