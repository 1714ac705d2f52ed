//! A database server with a directory of its own.

use crate::cleanup::{self, Process};
use crate::peers::{self, Peer};
use anyhow::{Context, Result, bail};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// When a transaction that does not ask for durability is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// At once, as ovsdb-server does; weir when started with `--lazy-sync`.
    Lazy,
    /// weir's default: when it is on disk. (ovsdb-server has no such mode; its clients ask for it.)
    Always,
}

/// A server that runs.
pub struct Server {
    directory: TempDir,
    process: Process,
    /// From its start until somebody could connect.
    pub started: Duration,
}

/// An empty database file of Open vSwitch's schema.
pub fn create(path: &Path) -> Result<()> {
    let db = path.to_str().context("path is UTF-8")?;
    peers::run("ovsdb-tool", &["create", db, SCHEMA], &[]).map(drop)
}

impl Server {
    /// Starts one with an empty database, or with a copy of the file given.
    pub fn start(kind: Peer, sync: Sync, file: Option<&Path>) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("wb").tempdir()?;
        cleanup::directory(directory.path());
        let db = directory.path().join("conf.db");
        match file {
            Some(f) => drop(std::fs::copy(f, &db)?),
            None => create(&db)?,
        }
        let mut command = match kind {
            Peer::Weir => {
                let mut c = Command::new(peers::weir_binary()?);
                c.arg("ovsdb-server");
                if sync == Sync::Lazy {
                    c.arg("--lazy-sync");
                }
                c
            }
            Peer::OvsdbServer => Command::new("ovsdb-server"),
            _ => bail!("{} is no database server", kind.name()),
        };
        let log = std::fs::File::create(directory.path().join("log"))?;
        command
            .arg(format!(
                "--remote=punix:{}",
                directory.path().join("db.sock").display()
            ))
            .arg(format!(
                "--unixctl={}",
                directory.path().join("ctl").display()
            ))
            .arg(&db)
            .envs(
                ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"]
                    .map(|v| (v, directory.path())),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let start = Instant::now();
        let process = Process::start(&mut command)?;
        let mut server = Server {
            directory,
            process,
            started: Duration::ZERO,
        };
        let socket = server.socket();
        while UnixStream::connect(&socket).is_err() {
            if let Some(status) = server.process.ended() {
                bail!("{} has ended ({status}): {}", kind.name(), server.log());
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("{} does not listen: {}", kind.name(), server.log());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        server.started = start.elapsed();
        Ok(server)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("db.sock")
    }

    /// Its database file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("conf.db")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Bytes of memory in use, and the most there ever were.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let line = |name| peers::memory_line(self.process.id(), name);
        Ok((line("VmRSS:")?, line("VmHWM:")?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        cleanup::forget(self.directory.path());
    }
}
