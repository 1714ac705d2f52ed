//! `ovs-vsctl` waits for the switch to have applied a change. Here nobody is the switch: the tests say what it would.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tests::process::{Daemon, run};
use tests::switch::weir_binary;
use tests::tools::Tools;
use tests::wait;

/// A database server without a switch.
struct Database {
    // Ended before the directory goes.
    server: Option<Daemon>,
    directory: TempDir,
}

impl Database {
    fn start() -> Database {
        let directory = tempfile::Builder::new()
            .prefix("w")
            .tempdir()
            .expect("temporary directory");
        let mut database = Database {
            server: None,
            directory,
        };
        let file = database.dir().join("conf.db");
        let create = [Path::new("ovsdb-tool"), Path::new("create"), &file];
        run(weir_binary(), create).ok();
        database.serve();
        database
    }

    fn dir(&self) -> &Path {
        self.directory.path()
    }

    fn serve(&mut self) {
        self.server = None;
        let mut c = Command::new(weir_binary());
        c.args([
            "ovsdb-server",
            "--remote=punix:db.sock",
            "--unixctl=none",
            "conf.db",
        ])
        .current_dir(self.dir())
        .env("OVS_RUNDIR", self.dir());
        self.server = Some(Daemon::spawn(c, &self.dir().join("server.log")));
        let sock = self.dir().join("db.sock");
        wait::until("the server to listen", || {
            std::os::unix::net::UnixStream::connect(&sock).is_ok()
        });
    }

    fn vsctl(&self, words: &[&str]) -> Command {
        let mut c = Tools::Weir.command("ovs-vsctl", self.dir(), None);
        c.args(words);
        c
    }

    /// Types what does not wait; its output.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let mut c = self.vsctl(&["--no-wait"]);
        c.args(words);
        tests::process::output(c).ok()
    }

    /// Starts what waits.
    fn waiting(&self, words: &[&str]) -> Daemon {
        Daemon::spawn(self.vsctl(words), &self.dir().join("vsctl.log"))
    }
}

#[test]
fn it_ends_when_the_switch_has_applied_the_change_and_tells_what_went_wrong() {
    let database = Database::start();
    database.ok(&["add-br", "br0"]);
    let mut vsctl = database.waiting(&["add-port", "br0", "p1", "--", "add-port", "br0", "p2"]);
    wait::until("the change", || {
        database.ok(&["list-ports", "br0"]) == "p1\np2\n"
    });
    assert!(vsctl.is_running());
    database.ok(&["set", "Interface", "p1", "ofport=1"]);
    database.ok(&[
        "set",
        "Interface",
        "p2",
        "ofport=-1",
        "error=\"no such thing\"",
    ]);
    assert!(vsctl.is_running(), "next_cfg is not reached");
    let next_cfg = database.ok(&["get", "Open_vSwitch", ".", "next_cfg"]);
    let reached = format!("cur_cfg={}", next_cfg.trim());
    database.ok(&["set", "Open_vSwitch", ".", &reached]);
    wait::until("vsctl to end", || !vsctl.is_running());
    assert!(vsctl.output().starts_with(
        "ovs-vsctl: Error detected while setting up 'p2': no such thing.  See ovs-vswitchd log for details.\n\
         ovs-vsctl: The default log directory is \""
    ), "{}", vsctl.output());
}

#[test]
fn it_tells_that_nobody_answers_and_survives_a_restart_of_the_server() {
    let mut database = Database::start();
    let mut vsctl = database.waiting(&["add-br", "br0"]);
    wait::until("it to tell", || {
        vsctl.output()
            == "ovs-vsctl: the change is in the database; waiting for ovs-vswitchd (or weir up) to apply it (--no-wait does not wait)\n"
    });
    database.serve();
    assert_eq!(database.ok(&["list-br"]), "br0\n");
    assert!(vsctl.is_running());
    database.ok(&["set", "Interface", "br0", "ofport=65534"]);
    database.ok(&["set", "Open_vSwitch", ".", "cur_cfg=1"]);
    wait::until("vsctl to end", || !vsctl.is_running());
    assert_eq!(vsctl.output().lines().count(), 1, "{}", vsctl.output());
}
