//! What tests beside Open vSwitch's programs share.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ovsdb::vswitch_schema;

/// True where the program is installed; says so loudly where not.
pub fn have(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|d| d.join(program).is_file());
    if !found {
        eprintln!("SKIPPED: {program} is not installed, nothing was compared with it");
    }
    found
}

/// A real server, ended with the test.
pub struct Real {
    dir: tempfile::TempDir,
    child: std::process::Child,
}

impl Real {
    /// Starts one on an empty database, with more arguments; see [`Real::path`].
    pub fn start(arguments: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("conf.db");
        ovsdb::journal::create(&db, vswitch_schema()).unwrap();
        let child = Command::new("ovsdb-server")
            .arg(&db)
            .arg(format!(
                "--remote=punix:{}",
                dir.path().join("db.sock").display()
            ))
            .arg(format!("--unixctl={}", dir.path().join("ctl").display()))
            .arg(format!("--log-file={}", dir.path().join("log").display()))
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while !dir.path().join("db.sock").exists() {
            assert!(Instant::now() < end, "ovsdb-server did not start");
            std::thread::yield_now();
        }
        Self { dir, child }
    }

    /// A file of its: `db.sock`, its socket, or `log`, what it has said so far.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
