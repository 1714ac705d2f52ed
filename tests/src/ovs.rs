//! A real Open vSwitch, userspace datapath, in a directory and namespace of its own.

use crate::netns::Namespace;
use crate::process::{Daemon, Ran, output};
use crate::switch::weir_binary;
use crate::tools::Tools;
use crate::wait;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A running `ovsdb-server` and `ovs-vswitchd` of Debian.
pub struct OpenVswitch {
    /// Where its sockets are.
    pub run_dir: PathBuf,
    /// The namespace it runs in.
    pub namespace: Namespace,
    // Ended in this order.
    _switch: Daemon,
    _database: Daemon,
    _directory: TempDir,
}

impl OpenVswitch {
    /// Starts one with an empty database.
    pub fn start() -> OpenVswitch {
        OpenVswitch::start_with(&[])
    }

    /// The same, with further options of `ovs-vswitchd`.
    pub fn start_with(options: &[&str]) -> OpenVswitch {
        let namespace = Namespace::new();
        let directory = tempfile::Builder::new()
            .prefix("ovs")
            .tempdir()
            .expect("temporary directory");
        let run_dir = directory.path().to_owned();
        let db = run_dir.join("conf.db");
        let created = crate::process::run(
            "ovsdb-tool",
            [
                Path::new("create"),
                &db,
                Path::new("/usr/share/openvswitch/vswitch.ovsschema"),
            ],
        );
        created.ok();
        let sock = run_dir.join("db.sock");
        let mut c = Self::prepared(&namespace, "ovsdb-server", &run_dir);
        c.arg(format!("--remote=punix:{}", sock.display())).arg(&db);
        let database = Daemon::spawn(c, &run_dir.join("ovsdb.log"));
        wait::until("ovsdb-server", || sock.exists());
        let mut c = Self::prepared(
            &namespace,
            "/usr/lib/openvswitch-switch/ovs-vswitchd",
            &run_dir,
        );
        let pid = run_dir.join("ovs-vswitchd.pid");
        c.arg(format!("unix:{}", sock.display()))
            .arg(format!("--pidfile={}", pid.display()))
            .args(options);
        let switch = Daemon::spawn(c, &run_dir.join("vswitchd.log"));
        wait::until("ovs-vswitchd", || pid.exists());
        let ovs = OpenVswitch {
            run_dir,
            namespace,
            _switch: switch,
            _database: database,
            _directory: directory,
        };
        assert_eq!(ovs.line(Tools::Stock, "ovs-vsctl --no-wait init").code, 0);
        ovs
    }

    fn prepared(namespace: &Namespace, program: &str, run_dir: &Path) -> Command {
        let mut c = namespace.command(program);
        for v in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            c.env(v, run_dir);
        }
        c
    }

    /// Types a line, split at blanks, with whose programs.
    pub fn line(&self, tools: Tools, line: &str) -> Ran {
        let mut words = line.split_whitespace();
        let mut c = tools.command(
            words.next().expect("a program"),
            &self.run_dir,
            Some(&self.namespace),
        );
        c.args(words);
        output(c)
    }

    /// A `weir` command in its namespace.
    pub fn weir(&self) -> Command {
        let mut c = self.namespace.command(weir_binary());
        c.env("OVS_RUNDIR", &self.run_dir);
        c
    }
}
