//! The database by TLS, as an operator sets it up: `weir up` told by `set-ssl` and `set-manager`, and
//! a switch on its own with a database elsewhere.

#[path = "../../ovsdb/tests/common/pki.rs"]
mod pki;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pki::Pki;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const PATIENCE: Duration = Duration::from_secs(60);

/// Programs in a directory of their own, ended on drop.
struct Stand {
    dir: tempfile::TempDir,
    /// Where to say `exit`.
    running: Vec<String>,
}

impl Stand {
    fn new() -> Stand {
        Stand {
            dir: tempfile::tempdir().unwrap(),
            running: Vec::new(),
        }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program)
            .args(args)
            .env("OVS_RUNDIR", self.dir())
            .env("OVS_DBDIR", self.dir())
            .env("OVS_LOGDIR", self.dir())
            .env_remove("OVS_CTL_TIMEOUT")
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"))
    }

    /// Runs a command that must succeed; its output.
    fn good(&self, program: &str, args: &[&str]) -> String {
        let out = self.run(program, args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{program} {args:?}: {stderr}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Starts one that detaches, and ends it with the test.
    fn start(&mut self, args: &[&str]) {
        let control = self.dir().join(format!("{}.ctl", args[0]));
        let control = control.display().to_string();
        let more = ["--detach", "--unixctl", &control];
        self.good(WEIR, &[args, &more].concat());
        self.running.push(control);
    }

    /// Makes the database listen by TLS; where, as clients are told.
    fn listen(&self, also: &[&str]) -> String {
        let manager = ["set-manager", "pssl:0:127.0.0.1"];
        let words = [&["vsctl", "--no-wait"], also, &manager].concat();
        self.good(WEIR, &words);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let get = ["vsctl", "--if-exists", "get", "manager", manager[1]];
            let port = self.good(WEIR, &[&get[..], &["status:bound_port"]].concat());
            if let Ok(port) = port.trim().trim_matches('"').parse::<u16>() {
                return format!("ssl:127.0.0.1:{port}");
            }
            assert!(Instant::now() < deadline, "the manager is not served");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        for control in self.running.iter().rev() {
            _ = self.run(WEIR, &["appctl", "-t", control, "exit"]);
        }
    }
}

#[test]
fn up_serves_by_tls_what_set_ssl_says() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let mut stand = Stand::new();
    stand.start(&["up", "--no-controller"]);
    let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|f| pki.path(f));
    let database = stand.listen(&["set-ssl", &key, &cert, &ca, "--"]);
    let db = format!("--db={database}");
    let ours = pki.arguments();
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();

    let dbs = [&["ovsdb-client"], &ours[..], &["list-dbs", &database]].concat();
    assert!(stand.good(WEIR, &dbs).contains("Open_vSwitch\n"));
    // The switch is waited for, through that connection.
    let add = [&["vsctl", "-t60", &db], &ours[..], &["add-br", "br0"]].concat();
    stand.good(WEIR, &add);
    if Command::new("ovs-vsctl").arg("--version").output().is_ok() {
        let add = [&["-t60", &db], &ours[..], &["add-br", "br1"]].concat();
        stand.good("ovs-vsctl", &add);
        let list = [&["-t60", &db], &ours[..], &["list-br"]].concat();
        assert_eq!(stand.good("ovs-vsctl", &list), "br0\nbr1\n");
    } else {
        eprintln!("SKIPPED: ovs-vsctl is not installed");
    }
    assert_eq!(stand.good(WEIR, &["vsctl", "br-exists", "br0"]), "");

    // Whoever holds a certificate of another authority is not let in.
    let theirs = [
        format!("--private-key={}", foreign.path("key.pem")),
        format!("--certificate={}", foreign.path("cert.pem")),
        format!("--ca-cert={ca}"),
    ];
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    let list = [&["ovsdb-client"], &theirs[..], &["list-dbs", &database]].concat();
    let refused = stand.run(WEIR, &list);
    assert!(!refused.status.success(), "{refused:?}");
}

#[test]
fn a_switch_follows_its_database_by_tls() {
    let pki = Pki::new();
    let mut stand = Stand::new();
    let socket = format!("--remote=punix:{}", stand.dir().join("db.sock").display());
    let managers = "--remote=db:Open_vSwitch,Open_vSwitch,manager_options";
    let sent = format!("--peer-ca-cert={}", pki.path("ca.pem"));
    let keys = pki.arguments();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let server = ["ovsdb-server", "--create", &socket, managers, &sent];
    stand.start(&[&server, &keys[..]].concat());
    stand.good(WEIR, &["vsctl", "--no-wait", "init"]);
    let database = stand.listen(&[]);

    // Its authority is learned from the server.
    let learned = stand.dir().join("learned.pem");
    let bootstrap = format!("--bootstrap-ca-cert={}", learned.display());
    stand.start(
        &[
            &["switchd", keys[0], keys[1], &bootstrap],
            &[&*database][..],
        ]
        .concat(),
    );
    stand.good(WEIR, &["vsctl", "-t60", "add-br", "br0"]);
    assert!(learned.exists());
    let connected = [
        "wait-until",
        "manager",
        "pssl:0:127.0.0.1",
        "is_connected=true",
    ];
    stand.good(WEIR, &[&["vsctl", "-t60"], &connected[..]].concat());
}
