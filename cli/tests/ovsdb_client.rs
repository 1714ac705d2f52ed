//! `ovsdb-client` against `weir up`: monitors in the background, and managers as `set-manager` makes
//! them.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const PATIENCE: Duration = Duration::from_secs(30);

/// A `weir up` in a directory of its own, ended on drop.
struct Up(tempfile::TempDir);

impl Up {
    fn start() -> Up {
        let up = Up(tempfile::tempdir().unwrap());
        up.good(&["up", "--detach", "--no-controller"]);
        up
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(WEIR);
        command
            .args(args)
            .env("OVS_RUNDIR", self.dir())
            .env("OVS_DBDIR", self.dir())
            .env("OVS_LOGDIR", self.dir())
            .env_remove("OVS_CTL_TIMEOUT");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("weir runs")
    }

    /// Runs a command that must succeed; its output.
    fn good(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {stderr}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Waits until `look` sees what it wants.
    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "never seen: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn manager(&self) -> String {
        let columns = "--columns=is_connected,status";
        self.good(&["vsctl", "--bare", columns, "list", "manager"])
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.run(&["appctl", "exit"]);
    }
}

fn kill(pid: &str) {
    let pid = pid.trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn a_detached_monitor_prints_on_and_takes_its_pid_file_along() {
    let up = Up::start();
    up.good(&["vsctl", "-t", "20", "add-br", "br0"]);
    let path = up.dir().join("printed");
    let printed = || std::fs::read_to_string(&path).unwrap();
    let monitor = [
        "ovsdb-client",
        "monitor",
        "--detach",
        "--pidfile",
        "Bridge",
        "name",
    ];
    let status = up
        .command(&monitor)
        .stdout(std::fs::File::create(&path).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    // What there was is printed by the time the command returns.
    assert!(printed().contains("initial br0\n"), "{}", printed());
    let pidfile = up.dir().join("ovsdb-client.pid");
    let pid = std::fs::read_to_string(&pidfile).unwrap();
    let second = up.run(&monitor);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    let want = format!("already running as pid {}, aborting", pid.trim());
    assert!(said.contains(&want), "{said}");

    up.good(&["vsctl", "-t", "20", "add-br", "br1"]);
    up.until("br1", || printed().contains("insert br1\n").then_some(()));
    up.good(&["vsctl", "-t", "20", "del-br", "br0"]);
    up.until("no br0", || {
        printed().contains("delete br0\n").then_some(())
    });
    kill(&pid);
    up.until("the end", || (!pidfile.exists()).then_some(()));
}

#[test]
fn managers_are_served_and_told_of() {
    let up = Up::start();
    up.good(&["vsctl", "set-manager", "ptcp:0:127.0.0.1"]);
    let port = up.until("the port", || {
        let text = up.manager();
        let (_, behind) = text.split_once("bound_port=")?;
        behind.split_whitespace().next().map(str::to_owned)
    });
    assert!(up.manager().starts_with("false\n"));
    let target = format!("tcp:127.0.0.1:{port}");
    assert_eq!(
        up.good(&["ovsdb-client", "list-dbs", &target]),
        "Open_vSwitch\n_Server\n"
    );

    let mut monitor = up
        .command(&[
            "ovsdb-client",
            "monitor",
            &target,
            "Open_vSwitch",
            "Bridge",
            "name",
        ])
        .spawn()
        .unwrap();
    up.until("a connection", || {
        up.manager().starts_with("true\n").then_some(())
    });
    kill(&monitor.id().to_string());
    assert_eq!(monitor.wait().unwrap().code(), Some(143));
    up.until("its end", || {
        up.manager().starts_with("false\n").then_some(())
    });

    up.good(&["vsctl", "del-manager"]);
    up.until("the port closed", || {
        (!up.run(&["ovsdb-client", "list-dbs", &target])
            .status
            .success())
        .then_some(())
    });
    // What cannot be served says why.
    up.good(&["vsctl", "set-manager", "ssl:127.0.0.1:6640"]);
    up.until("an error", || {
        let text = up.manager();
        (text.contains("last_error=") && text.contains("state=BACKOFF")).then_some(())
    });
}
