//! The switch over a pretended plane, driven by Open vSwitch's own tools and database server.
//! Skipped where they are not installed.

mod sessions;

use crate::host::Host;
use crate::plane::Plane;
use crate::plane::fake::Fake;
use crate::service::{Options, serve};
use crate::switch::Switch;
use openflow::PortNo;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Stand {
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
    switch: Arc<Switch>,
    server: Child,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn have(tool: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(tool).exists()))
}

impl Stand {
    async fn new() -> Option<Stand> {
        if ![
            "ovsdb-server",
            "ovsdb-tool",
            "ovs-vsctl",
            "ovs-ofctl",
            "ovs-appctl",
        ]
        .iter()
        .all(|t| have(t))
        {
            eprintln!("skipped: Open vSwitch's tools are not installed");
            return None;
        }
        let schema = Path::new("/usr/share/openvswitch/vswitch.ovsschema");
        if !schema.exists() {
            eprintln!("skipped: {} is not there", schema.display());
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("conf.db");
        let ok = Command::new("ovsdb-tool")
            .arg("create")
            .arg(&db)
            .arg(schema)
            .status()
            .unwrap();
        assert!(ok.success());
        let sock = dir.path().join("db.sock");
        let server = Command::new("ovsdb-server")
            .env("OVS_RUNDIR", dir.path())
            .arg(format!("--remote=punix:{}", sock.display()))
            .arg("--unixctl=none.ctl")
            .arg(&db)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let fake = Arc::new(Fake::default());
        let mut stand = Stand {
            switch: Arc::new(Switch::new(fake.clone(), "3.1.0")),
            dir,
            fake,
            server,
            stop: None,
            task: None,
        };
        stand
            .until("the database socket", async || {
                stand.path("db.sock").exists()
            })
            .await;
        stand.start();
        Some(stand)
    }

    fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        self.switch = Arc::new(Switch::new(self.fake.clone(), "3.1.0"));
        let mut options = Options::new(
            format!("unix:{}/db.sock", self.dir.path().display())
                .parse()
                .unwrap(),
            self.dir.path(),
        );
        options.enable_dummy = true;
        options.version = "3.1.0".to_owned();
        let task = serve(
            options,
            self.switch.clone(),
            None,
            Host::new(|_| {}).0,
            Arc::new(Notify::new()),
            std::future::pending(),
            async {
                let _ = stopped.await;
            },
        );
        self.stop = Some(stop);
        self.task = Some(tokio::spawn(task));
    }

    async fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a tool without holding up the switch: its output, or its complaint.
    async fn try_tool(&self, tool: &str, args: &[&str]) -> Result<String, String> {
        let mut c = tokio::process::Command::new(tool);
        c.env("OVS_RUNDIR", self.dir.path())
            .args(args)
            .kill_on_drop(true);
        let out = tokio::time::timeout(PATIENCE, c.output())
            .await
            .expect("in time")
            .unwrap();
        if out.status.success() {
            Ok(String::from_utf8(out.stdout).unwrap())
        } else {
            Err(String::from_utf8(out.stderr).unwrap())
        }
    }

    async fn tool(&self, tool: &str, args: &[&str]) -> String {
        self.try_tool(tool, args)
            .await
            .unwrap_or_else(|e| panic!("{tool} {args:?}: {e}"))
    }

    async fn vsctl(&self, line: &str) -> String {
        let args: Vec<&str> = ["--timeout=15"]
            .into_iter()
            .chain(line.split(' '))
            .collect();
        self.tool("ovs-vsctl", &args).await.trim_end().to_owned()
    }

    async fn ofctl(&self, line: &str) -> String {
        let mut args = vec!["-O", "OpenFlow13", "--timeout=15"];
        let quoted: Vec<&str> = line.split(' ').collect();
        args.extend(quoted);
        self.tool("ovs-ofctl", &args).await
    }

    async fn appctl(&self, line: &str) -> String {
        let target = self.path(&format!("ovs-vswitchd.{}.ctl", std::process::id()));
        let mut args = vec!["-t", target.to_str().unwrap()];
        args.extend(line.split(' '));
        self.tool("ovs-appctl", &args).await
    }

    async fn until(&self, what: &str, mut f: impl AsyncFnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !f().await {
            assert!(Instant::now() < end, "{what} did not come about");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vsctl_waits_for_what_it_asked_and_reads_it_back() {
    let Some(mut s) = Stand::new().await else {
        return;
    };
    s.vsctl("add-br br0 -- add-port br0 p1 -- set interface p1 type=dummy -- add-port br0 p2 tag=10 -- set interface p2 type=dummy").await;
    assert_eq!(s.vsctl("get interface br0 ofport").await, "65534");
    assert_eq!(s.vsctl("get interface p1 ofport").await, "1");
    assert_eq!(s.vsctl("get interface p2 ofport").await, "2");
    assert_eq!(s.vsctl("get interface p1 link_state").await, "up");
    assert_eq!(s.vsctl("get interface p1 error").await, "[]");
    assert_eq!(s.vsctl("get open . ovs_version").await, "\"3.1.0\"");
    assert_eq!(s.vsctl("get bridge br0 datapath_id").await.len(), 18);
    assert_eq!(s.fake.bridges()["br0"].ports[&PortNo(2)].vlan.tag, Some(10));
    // Live changes, and numbers that were asked for.
    s.vsctl("set port p2 tag=20").await;
    assert_eq!(s.fake.bridges()["br0"].ports[&PortNo(2)].vlan.tag, Some(20));
    s.vsctl("set interface p2 ofport_request=9").await;
    assert_eq!(s.vsctl("get interface p2 ofport").await, "9");
    // Numbers outlive the switch.
    s.vsctl("del-port p1 -- add-port br0 p0 -- set interface p0 type=dummy ofport_request=5")
        .await;
    s.stop().await;
    assert!(s.fake.bridges().is_empty());
    assert!(!s.path("br0.mgmt").exists() && !s.path("ovs-vswitchd.pid").exists());
    s.vsctl("--no-wait set interface p0 ofport_request=[]")
        .await;
    s.start();
    s.until("the bridge's return", async || {
        s.fake
            .bridges()
            .get("br0")
            .is_some_and(|b| b.ports.len() == 3)
    })
    .await;
    assert_eq!(s.fake.bridges()["br0"].ports[&PortNo(5)].name, "p0");
    assert_eq!(s.fake.bridges()["br0"].ports[&PortNo(9)].name, "p2");
    s.vsctl("del-br br0").await;
    assert!(s.fake.bridges().is_empty());
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_said_in_the_database() {
    let Some(s) = Stand::new().await else { return };
    s.fake
        .broken
        .lock()
        .unwrap()
        .insert("p1".into(), "No such device".into());
    s.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 vx -- set interface vx type=stt options:remote_ip=10.0.0.1 -- add-port br0 odd -- set interface odd type=odd").await;
    assert_eq!(
        s.vsctl("get interface p1 error").await,
        "\"could not open network device p1 (No such device)\""
    );
    assert_eq!(s.vsctl("get interface p1 ofport").await, "-1");
    assert!(
        s.vsctl("get interface vx error")
            .await
            .contains("type stt is not supported yet")
    );
    assert!(
        s.vsctl("get interface odd error")
            .await
            .contains("Address family not supported by protocol")
    );
    // Settings that are not obeyed are named.
    s.vsctl("add-port br0 d -- set interface d type=dummy lldp:enable=true")
        .await;
    assert!(
        s.vsctl("get interface d status")
            .await
            .contains("lldp is not supported yet")
    );
    s.vsctl("clear interface d lldp").await;
    s.until("the note's end", async || {
        s.vsctl("get interface d status").await == "{}"
    })
    .await;
    // A device that appears is found without a change of the database.
    s.fake.broken.lock().unwrap().clear();
    s.until("p1", async || {
        s.vsctl("get interface p1 ofport").await != "-1"
    })
    .await;
    assert_eq!(s.vsctl("get interface p1 error").await, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ofctl_talks_to_a_bridge() {
    let Some(s) = Stand::new().await else { return };
    s.vsctl("add-br br0 -- set bridge br0 other_config:hwaddr=aa:55:aa:55:00:00 -- add-port br0 p1 -- set interface p1 type=dummy").await;
    s.until("the socket", async || s.path("br0.mgmt").exists())
        .await;
    let show = s.ofctl("show br0").await;
    assert!(show.contains("dpid:0000aa55aa550000"), "{show}");
    assert!(show.contains("n_tables:254, n_buffers:0"), "{show}");
    assert!(show.contains(" 1(p1): addr:aa:55:aa:55:00:01"), "{show}");
    assert!(
        show.contains(" LOCAL(br0): addr:aa:55:aa:55:00:00"),
        "{show}"
    );
    let flows = s.ofctl("dump-flows br0").await;
    assert!(flows.contains("priority=0 actions=NORMAL"), "{flows}");
    s.ofctl("add-flow br0 priority=7,ip,actions=output:1").await;
    let flows = s.ofctl("dump-flows br0").await;
    assert!(flows.contains("priority=7,ip actions=output:1"), "{flows}");
    let e = s
        .try_tool(
            "ovs-ofctl",
            &[
                "-O",
                "OpenFlow13",
                "add-flow",
                "br0",
                "table=254,actions=drop",
            ],
        )
        .await
        .unwrap_err();
    assert!(e.contains("OFPBRC_EPERM"), "{e}");
    s.ofctl("del-flows br0").await;
    assert_eq!(s.ofctl("dump-flows br0").await.lines().count(), 1);
    let desc = s.ofctl("dump-desc br0").await;
    assert!(
        desc.contains("Manufacturer: weir") && desc.contains("Serial Num: None"),
        "{desc}"
    );
    for (request, reply) in [
        ("dump-aggregate br0", "flow_count=0"),
        ("dump-tables br0", "table 0"),
        ("dump-ports br0", "3 ports"),
        ("dump-ports br0 1", "1 ports"),
        ("dump-table-features br0", "table 253"),
        ("queue-stats br0", "0 queues"),
        ("dump-groups br0", "OFPST_GROUP_DESC reply"),
        ("dump-group-features br0", "OFPST_GROUP_FEATURES reply"),
        ("dump-meters br0", "OFPST_METER_CONFIG reply"),
        ("meter-features br0", "OFPST_METER_FEATURES reply"),
        ("get-frags br0", "normal"),
    ] {
        let reply = if request == "dump-ports br0" {
            "2 ports"
        } else {
            reply
        };
        let out = s.ofctl(request).await;
        assert!(out.contains(reply), "{request}: {out}");
    }
    let group = "group_id=1,type=all,bucket=output:1";
    let add = ["-O", "OpenFlow13", "add-group", "br0", group];
    s.tool("ovs-ofctl", &add).await;
    let e = s.try_tool("ovs-ofctl", &add).await.unwrap_err();
    assert!(e.contains("OFPGMFC_GROUP_EXISTS"), "{e}");
    let groups = s.ofctl("dump-groups br0").await;
    assert!(groups.contains("group_id=1,type=all,bucket="), "{groups}");
    s.ofctl("packet-out br0 in_port=LOCAL,packet=ffffffffffff0000000000010800,actions=output:1")
        .await;
    assert_eq!(s.fake.packets.lock().unwrap().len(), 1);
    // All or nothing.
    std::fs::write(
        s.path("flows"),
        "add priority=1,actions=drop\nadd table=254,actions=drop\n",
    )
    .unwrap();
    let file = s.path("flows");
    let bundle = [
        "-O",
        "OpenFlow13",
        "--bundle",
        "add-flows",
        "br0",
        file.to_str().unwrap(),
    ];
    assert!(s.try_tool("ovs-ofctl", &bundle).await.is_err());
    assert_eq!(s.ofctl("dump-flows br0").await.lines().count(), 1);
    std::fs::write(
        &file,
        "add priority=1,actions=drop\nadd priority=2,actions=drop\n",
    )
    .unwrap();
    s.tool("ovs-ofctl", &bundle).await;
    assert_eq!(s.ofctl("dump-flows br0").await.lines().count(), 3);
    s.vsctl("set-fail-mode br0 secure").await;
    assert_eq!(s.ofctl("dump-flows br0").await.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appctl_reads_the_control_socket() {
    let Some(s) = Stand::new().await else { return };
    s.vsctl("add-br br0 -- add-port br0 p1 -- set interface p1 type=dummy")
        .await;
    assert_eq!(s.appctl("ofproto/list").await, "br0\n");
    assert_eq!(
        s.appctl("fdb/show br0").await,
        " port  VLAN  MAC                Age\n    2     0  50:54:00:00:00:09    0\n"
    );
    assert_eq!(
        s.appctl("fdb/flush br0").await,
        "table successfully flushed\n"
    );
    assert!(
        s.appctl("version")
            .await
            .starts_with("ovs-vswitchd (Open vSwitch) 3.1.0")
    );
    assert!(
        s.appctl("list-commands")
            .await
            .contains("\n  fdb/show                bridge\n")
    );
    assert!(
        s.appctl("vlog/list")
            .await
            .contains("\nbond              INFO       INFO       INFO\n")
    );
    s.appctl("vlog/set bond:console:off").await;
    assert!(
        s.appctl("vlog/list")
            .await
            .contains("\nbond               OFF       INFO       INFO\n")
    );
    assert_eq!(
        s.appctl("dpif/show").await,
        "netdev@ovs-netdev: hit:0 missed:0\n  br0:\n    br0 65534/2: (tap)\n    p1 1/1: (dummy)\n"
    );
    assert_eq!(s.appctl("dpif/dump-dps").await, "netdev@br0\n");
    assert!(
        s.appctl("bridge/dump-flows br0")
            .await
            .contains("priority=0")
    );
    let stats = s.appctl("dpif-netdev/pmd-stats-show").await;
    assert!(
        stats.contains("avg processing cycles per packet: 50.00 (500/10)"),
        "{stats}"
    );
    s.appctl("dpif-netdev/pmd-stats-clear").await;
    assert!(
        s.appctl("dpif-netdev/pmd-stats-show")
            .await
            .contains("packets received: 0")
    );
    for all in [
        "coverage/show",
        "memory/show",
        "upcall/show",
        "dpctl/show",
        "dpctl/show -s",
        "dpctl/dump-flows",
        "dpif/dump-flows br0",
        "fdb/stats-show br0",
        "bridge/reconnect",
        "dpctl/dump-dps",
    ] {
        s.appctl(all).await;
    }
    let target = s.path(&format!("ovs-vswitchd.{}.ctl", std::process::id()));
    let t = target.to_str().unwrap();
    let refused = |args: Vec<&'static str>| {
        let mut all = vec!["-t".to_owned(), t.to_owned()];
        all.extend(args.into_iter().map(str::to_owned));
        all
    };
    for (args, why) in [
        (vec!["fdb/show", "nobr"], "no such bridge"),
        (
            vec!["fdb/show"],
            "\"fdb/show\" command requires at least 1 arguments",
        ),
        (
            vec!["fdb/show", "a", "b"],
            "\"fdb/show\" command takes at most 1 arguments",
        ),
        (
            vec!["nosuch"],
            "\"nosuch\" is not a valid command (use \"list-commands\" to see a list of valid commands)",
        ),
        (
            vec!["vlog/set", "nosuch"],
            "no destination, level, or module \"nosuch\"",
        ),
    ] {
        let args = refused(args);
        let e = s
            .try_tool(
                "ovs-appctl",
                &args.iter().map(String::as_str).collect::<Vec<_>>(),
            )
            .await
            .unwrap_err();
        assert!(e.starts_with(why), "{e}");
    }
    s.appctl("exit").await;
    s.until("the socket's end", async || !target.exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_is_connected_to_and_a_lost_one_is_missed() {
    let Some(s) = Stand::new().await else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    s.vsctl(&format!(
        "add-br br0 -- set-fail-mode br0 secure -- set-controller br0 tcp:127.0.0.1:{port}"
    ))
    .await;
    let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept())
        .await
        .unwrap()
        .unwrap();
    use openflow::session::{End, Event, Session};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut c = Session::new(End::Controller, &[4], None, Instant::now());
    let mut events = std::collections::VecDeque::new();
    let mut buf = [0; 4096];
    macro_rules! next {
        () => {
            loop {
                stream.write_all(&c.take_output()).await.unwrap();
                if let Some(e) = events.pop_front() {
                    break e;
                }
                let n = tokio::time::timeout(PATIENCE, stream.read(&mut buf))
                    .await
                    .unwrap()
                    .unwrap();
                assert!(n > 0, "the switch hung up");
                events.extend(c.receive(&buf[..n], Instant::now()));
            }
        };
    }
    assert_eq!(next!(), Event::Negotiated(4));
    let features = c.send(&openflow::Message::FeaturesRequest).unwrap();
    let barrier = c.send(&openflow::Message::BarrierRequest).unwrap();
    let Event::Message {
        xid,
        message: openflow::Message::FeaturesReply(f),
    } = next!()
    else {
        panic!("no features")
    };
    assert_eq!((xid, f.tables, f.buffers), (features, 254, 0));
    assert_eq!(
        next!(),
        Event::Message {
            xid: barrier,
            message: openflow::Message::BarrierReply
        }
    );
    s.until("is_connected", async || {
        s.vsctl("get controller br0 is_connected").await == "true"
    })
    .await;
    assert!(
        s.vsctl("get controller br0 status")
            .await
            .contains("state=ACTIVE")
    );
    assert_eq!(s.vsctl("get controller br0 role").await, "other");
    let role = openflow::RoleMsg {
        role: openflow::Role::Primary,
        generation: 3,
        short_id: 0,
    };
    let xid = c.send(&openflow::Message::RoleRequest(role)).unwrap();
    assert_eq!(
        next!(),
        Event::Message {
            xid,
            message: openflow::Message::RoleReply(role)
        }
    );
    s.until("role", async || {
        s.vsctl("get controller br0 role").await == "master"
    })
    .await;
    // What the plane tells reaches the controller.
    let bridge = s.switch.bridge("br0").unwrap();
    let desc = s.fake.port_desc("br0", PortNo::LOCAL).unwrap();
    bridge.publish(crate::agent::Async::PortStatus(
        openflow::PortReason::Add,
        desc.clone(),
    ));
    assert_eq!(
        next!(),
        Event::Message {
            xid: 0,
            message: openflow::Message::PortStatus(openflow::PortReason::Add, desc)
        }
    );
    // The connection is lost and made again.
    drop(stream);
    s.until("disconnected", async || {
        s.vsctl("get controller br0 is_connected").await == "false"
    })
    .await;
    tokio::time::timeout(PATIENCE, listener.accept())
        .await
        .unwrap()
        .unwrap();
    s.vsctl("del-controller br0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passive_controllers_are_listened_for() {
    let Some(s) = Stand::new().await else { return };
    let path = s.path("of.sock");
    s.vsctl(&format!(
        "add-br br0 -- set-controller br0 punix:{} ssl:127.0.0.1:1",
        path.display()
    ))
    .await;
    s.until("the listener", async || path.exists()).await;
    let out = s
        .ofctl(&format!("dump-flows unix:{}", path.display()))
        .await;
    assert!(out.starts_with("OFPST_FLOW reply"), "{out}");
    let find = "--columns=status find controller target=\"ssl:127.0.0.1:1\"";
    s.until("nobody to answer", async || {
        s.vsctl(find).await.contains("Connection refused")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bytes_end_only_their_connection() {
    let Some(s) = Stand::new().await else { return };
    s.vsctl("add-br br0").await;
    s.until("the socket", async || s.path("br0.mgmt").exists())
        .await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[4, 0, 0, 8, 0, 0, 0, 1, 4, 14, 0, 4, 0, 0, 0, 2],
        &[4, 0, 0, 8, 0, 0, 0, 1, 9, 14, 0, 8, 0, 0, 0, 2],
        &[0xff; 70_000],
    ] {
        let mut stream = tokio::net::UnixStream::connect(s.path("br0.mgmt"))
            .await
            .unwrap();
        let _ = stream.write_all(bytes).await;
        let mut all = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all))
            .await
            .expect("hung up");
    }
    assert!(s.ofctl("show br0").await.contains("LOCAL(br0)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut_off_and_holds_nobody_up() {
    let Some(s) = Stand::new().await else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    s.vsctl(&format!(
        "add-br br0 -- set-controller br0 tcp:127.0.0.1:{port}"
    ))
    .await;
    let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept())
        .await
        .unwrap()
        .unwrap();
    use tokio::io::AsyncWriteExt;
    // A hello, and then silence: nothing is ever read.
    stream.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).await.unwrap();
    s.until("connection", async || {
        s.vsctl("get controller br0 is_connected").await == "true"
    })
    .await;
    let bridge = s.switch.bridge("br0").unwrap();
    let mut desc = s.fake.port_desc("br0", PortNo::LOCAL).unwrap();
    desc.name = "x".repeat(15);
    s.until("the cut", async || {
        for _ in 0..5000 {
            bridge.publish(crate::agent::Async::PortStatus(
                openflow::PortReason::Modify,
                desc.clone(),
            ));
        }
        s.vsctl("get controller br0 is_connected").await == "false"
    })
    .await;
    assert!(s.ofctl("show br0").await.contains("LOCAL(br0)"));
}
