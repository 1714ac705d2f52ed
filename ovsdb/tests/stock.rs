//! Our server with Open vSwitch's tools, and our client with its server.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ovsdb::{
    Atom, Cell, ChangeKind, Datum, Mutator, Server, ServerOptions, Session, Target, Transaction,
    Wanted, vswitch_schema,
};
use serde_json::json;
use tokio::sync::oneshot;

use common::{Real, have};

struct Running {
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    async fn start_in(dir: tempfile::TempDir) -> Self {
        let sock = dir.path().join("db.sock");
        let server = Server::open(ServerOptions {
            db_path: dir.path().join("conf.db"),
            create: Some(vswitch_schema().clone()),
            remotes: vec![
                Target::PassiveUnix(sock),
                "db:Open_vSwitch,Open_vSwitch,manager_options"
                    .parse()
                    .unwrap(),
            ],
            ..ServerOptions::default()
        })
        .await
        .unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            server
                .run(async {
                    _ = stopped.await;
                })
                .await
                .unwrap();
        });
        Self {
            dir,
            stop: Some(stop),
            task: Some(task),
        }
    }

    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    fn target(&self) -> Target {
        Target::Unix(self.dir.path().join("db.sock"))
    }

    async fn stop(mut self) -> tempfile::TempDir {
        _ = self.stop.take().unwrap().send(());
        self.task.take().unwrap().await.unwrap();
        self.dir
    }

    /// Runs a tool against the server, off the runtime's threads.
    async fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut c = Command::new(program);
        c.args(args).env("OVS_RUNDIR", self.dir.path());
        tokio::task::spawn_blocking(move || c.output().unwrap())
            .await
            .unwrap()
    }

    async fn ok(&self, program: &str, args: &[&str]) -> String {
        let out = self.run(program, args).await;
        assert!(
            out.status.success(),
            "{program} {args:?}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ovs_vsctl_configures_and_the_file_keeps_it() {
    if !have("ovs-vsctl") {
        return;
    }
    let s = Running::start().await;
    s.ok("ovs-vsctl", &["--no-wait", "init"]).await;
    s.ok(
        "ovs-vsctl",
        &[
            "--no-wait",
            "--timeout=10",
            "add-br",
            "br0",
            "--",
            "add-port",
            "br0",
            "p1",
            "tag=10",
            "trunks=1,2",
            "--",
            "set",
            "interface",
            "p1",
            "type=vxlan",
            "options:remote_ip=1.2.3.4",
        ],
    )
    .await;
    s.ok(
        "ovs-vsctl",
        &[
            "--no-wait",
            "--",
            "--id=@p",
            "get",
            "port",
            "p1",
            "--",
            "--id=@m",
            "create",
            "mirror",
            "name=m1",
            "output_port=@p",
            "--",
            "add",
            "bridge",
            "br0",
            "mirrors",
            "@m",
        ],
    )
    .await;
    assert_eq!(s.ok("ovs-vsctl", &["list-ports", "br0"]).await, "p1\n");
    assert_eq!(
        s.ok("ovs-vsctl", &["get", "port", "p1", "trunks"]).await,
        "[1, 2]\n"
    );
    let show = s.ok("ovs-vsctl", &["show"]).await;
    assert!(show.contains("options: {remote_ip=\"1.2.3.4\"}"), "{show}");
    // Errors are those of OVS's server.
    let bad = s
        .run("ovs-vsctl", &["--no-wait", "set", "port", "p1", "tag=5000"])
        .await;
    assert!(
        String::from_utf8_lossy(&bad.stderr)
            .contains("5000 is not in the valid range 0 to 4095 (inclusive)")
    );

    // A deleted port takes its interface along and leaves the mirror.
    s.ok("ovs-vsctl", &["--no-wait", "del-port", "p1"]).await;
    assert_eq!(
        s.ok("ovs-vsctl", &["--columns=name", "list", "interface"])
            .await,
        "name                : br0\n"
    );
    assert_eq!(
        s.ok("ovs-vsctl", &["get", "mirror", "m1", "output_port"])
            .await,
        "[]\n"
    );

    // A restart finds everything again; so does OVS's own reader of files.
    let dir = s.stop().await;
    let db = dir.path().join("conf.db");
    if have("ovsdb-tool") {
        let out = Command::new("ovsdb-tool")
            .arg("show-log")
            .arg("-m")
            .arg(&db)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(text.contains("ovs-vsctl --no-wait del-port p1"), "{text}");
        let out = Command::new("ovsdb-tool").arg("query").arg(&db)
            .arg(r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]"#)
            .output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            "[{\"rows\":[{\"name\":\"br0\"}]}]\n"
        );
    }
    let s = Running::start_in(dir).await;
    assert_eq!(s.ok("ovs-vsctl", &["list-br"]).await, "br0\n");
    s.stop().await;
}

async fn session_works_with(sock: &Path) {
    let target = Target::Unix(sock.into());
    let wanted = Wanted::from([
        ("Open_vSwitch".into(), vec!["bridges".into()]),
        (
            "Bridge".into(),
            vec!["name".into(), "ports".into(), "external_ids".into()],
        ),
        ("Port".into(), vec!["name".into(), "trunks".into()]),
        ("Queue".into(), vec![]),
    ]);
    let mut s = Session::open(&target, "Open_vSwitch", wanted.clone())
        .await
        .unwrap();
    let mut other = Session::open(&target, "Open_vSwitch", wanted)
        .await
        .unwrap();
    assert!(s.replica().table("Bridge").is_empty());

    let mut t = Transaction::new();
    let iface = t.insert("Interface", [("name", "br0"), ("type", "internal")]);
    let port = t.insert(
        "Port",
        [
            ("name", Cell::from("br0")),
            ("interfaces", (&iface).into()),
            ("trunks", Datum::set([1i64, 2]).into()),
        ],
    );
    let bridge = t.insert(
        "Bridge",
        [("name", Cell::from("br0")), ("ports", (&port).into())],
    );
    t.insert("Open_vSwitch", [("bridges", &bridge)]);
    t.comment("made by a test");
    let out = s.transact(t).await.unwrap();
    let uuid = out.uuid(&bridge).unwrap();
    // The replica shows it already.
    let row = s.replica().row("Bridge", &uuid).unwrap();
    assert_eq!(row.str("name"), "br0");
    assert_eq!(row.get("ports").uuids().next(), out.uuid(&port));
    assert!(s.changed().await.unwrap().touches("Bridge"));

    // Another client sees it, and what changes later.
    let deadline = Duration::from_secs(10);
    while other.replica().table("Bridge").is_empty() {
        tokio::time::timeout(deadline, other.changed())
            .await
            .unwrap()
            .unwrap();
    }
    let mut t = Transaction::new();
    t.verify("Bridge", uuid, [("name", "br0")]);
    t.mutate(
        "Bridge",
        uuid,
        "external_ids",
        Mutator::Insert,
        Datum::map([("a", "b")]),
    );
    s.transact(t).await.unwrap();
    let set = tokio::time::timeout(deadline, other.changed())
        .await
        .unwrap()
        .unwrap();
    assert!(set.changes.iter().any(|c| c.uuid == uuid
        && matches!(&c.kind, ChangeKind::Modify(cols) if cols.contains("external_ids"))));
    assert_eq!(
        other
            .replica()
            .row("Bridge", &uuid)
            .unwrap()
            .get("external_ids")
            .map_get_str("a"),
        Some("b")
    );

    // A failed verification changes nothing.
    let mut t = Transaction::new();
    t.verify("Bridge", uuid, [("name", "other")]);
    t.delete("Bridge", uuid);
    let e = s.transact(t).await.unwrap_err();
    assert!(e.to_string().starts_with("timed out"), "{e}");

    // Locks.
    let (a, b) = (s.client().clone(), other.client().clone());
    assert!(a.lock("l").await.unwrap());
    assert!(!b.lock("l").await.unwrap());
    let mut t = Transaction::new();
    t.assert_lock("l");
    s.transact(t.clone()).await.unwrap();
    assert!(other.transact(t.clone()).await.is_err());
    a.unlock("l").await.unwrap();
    let n = tokio::time::timeout(deadline, b.next_notification())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(n, ovsdb::Notification::Locked("l".into()));
    other.transact(t).await.unwrap();
    assert!(b.steal("m").await.unwrap());
    b.echo().await.unwrap();

    // A condition, changed on the way.
    let mut t = Transaction::new();
    for dscp in 0..4i64 {
        t.insert("Queue", [("dscp", dscp)]);
    }
    s.transact(t).await.unwrap();
    let some = json!([["dscp", "==", 1], ["dscp", ">", 2]]);
    s.set_condition("Queue", Some(some)).await.unwrap();
    assert_eq!(s.replica().table("Queue").len(), 2);
    let wrong = json!([["nope", "==", 1]]);
    assert!(s.set_condition("Queue", Some(wrong)).await.is_err());
    s.set_condition("Queue", None).await.unwrap();
    assert_eq!(s.replica().table("Queue").len(), 4);

    // Everything unreferenced goes with the bridge.
    let root = *s.replica().table("Open_vSwitch").keys().next().unwrap();
    let mut t = Transaction::new();
    t.mutate(
        "Open_vSwitch",
        root,
        "bridges",
        Mutator::Delete,
        Atom::from(uuid),
    );
    s.transact(t).await.unwrap();
    assert!(s.replica().table("Bridge").is_empty() && s.replica().table("Port").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_with_our_server() {
    let s = Running::start().await;
    let Target::Unix(sock) = s.target() else {
        unreachable!()
    };
    session_works_with(&sock).await;
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_with_ovsdb_server() {
    if !have("ovsdb-server") {
        return;
    }
    let real = tokio::task::spawn_blocking(|| Real::start(&[]))
        .await
        .unwrap();
    session_works_with(&real.path("db.sock")).await;
}
