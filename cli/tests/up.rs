//! `weir up` as a whole: starts, serves our tools, survives `kill -9` with its data, ends in order.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const PATIENCE: Duration = Duration::from_secs(30);

fn weir(dir: &Path, args: &[&str]) -> Output {
    Command::new(WEIR)
        .args(args)
        .env("OVS_RUNDIR", dir.join("run"))
        .env("OVS_DBDIR", dir)
        .env("OVS_LOGDIR", dir)
        .env_remove("OVS_CTL_TIMEOUT")
        .output()
        .expect("weir runs")
}

/// Runs a command that must succeed; its output.
fn good(dir: &Path, args: &[&str]) -> String {
    let out = weir(dir, args);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{args:?}: {stdout}{stderr}");
    stdout.into_owned()
}

fn up(dir: &Path) -> Child {
    let child = Command::new(WEIR)
        .args(["up", "--openflow", "127.0.0.1:0", "--rest", "127.0.0.1:0"])
        .env("OVS_RUNDIR", dir.join("run"))
        .env("OVS_DBDIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("weir runs");
    let deadline = Instant::now() + PATIENCE;
    let control = dir.join(format!("run/ovs-vswitchd.{}.ctl", child.id()));
    while !control.exists() {
        assert!(Instant::now() < deadline, "weir up does not serve");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn serves_keeps_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut child = up(dir);
    // An interface that needs no kernel device: the other side is waited for.
    let socket = format!("options:vhost-server-path={}", dir.join("vh").display());
    let add = [
        "vsctl",
        "add-br",
        "br0",
        "--",
        "add-port",
        "br0",
        "v1",
        "tag=7",
        "--",
        "set",
        "interface",
        "v1",
    ];
    good(
        dir,
        &[&add[..], &["type=dpdkvhostuserclient", &socket]].concat(),
    );
    // The switch has applied it by the time the tool ends.
    assert_eq!(
        good(dir, &["vsctl", "get", "interface", "v1", "ofport"]),
        "1\n"
    );
    assert!(good(dir, &["appctl", "version"]).contains("ovs-vswitchd"));
    assert!(good(dir, &["dpctl", "show"]).contains("v1"));
    let refused = weir(dir, &["appctl", "no/such"]);
    assert_eq!(refused.status.code(), Some(2));
    let second = weir(dir, &["up"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("already running as pid"));

    signal(&child, rustix::process::Signal::KILL);
    child.wait().unwrap();
    let mut child = up(dir);
    assert_eq!(good(dir, &["vsctl", "get", "port", "v1", "tag"]), "7\n");
    good(dir, &["vsctl", "wait-until", "interface", "v1", "ofport=1"]);

    signal(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for gone in ["run/weir.pid", "run/ovs-vswitchd.pid", "run/db.sock"] {
        assert!(!dir.join(gone).exists(), "{gone} is left behind");
    }
}

#[test]
fn detaches_and_exits_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &["up", "--detach", "--no-controller", "--log-file"]);
    // It serves by now: nothing is waited for here.
    good(dir, &["vsctl", "-t", "20", "add-br", "br0"]);
    assert_eq!(good(dir, &["vsctl", "list-br"]), "br0\n");
    assert!(dir.join("weir.log").exists());
    good(dir, &["appctl", "exit"]);
    let deadline = Instant::now() + PATIENCE;
    while dir.join("run/weir.pid").exists() {
        assert!(Instant::now() < deadline, "weir up does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_absent_database_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = weir(dir.path(), &["vsctl", "show"]);
    assert_eq!(out.status.code(), Some(1));
    let socket = dir.path().join("run/db.sock");
    assert_eq!(
        String::from_utf8_lossy(&out.stderr),
        format!(
            "ovs-vsctl: unix:{}: database connection failed (No such file or directory)\n",
            socket.display()
        )
    );
    let out = weir(dir.path(), &["appctl", "version"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("ovs-appctl: cannot read pidfile"));
}
