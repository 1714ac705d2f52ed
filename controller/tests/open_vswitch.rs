//! The controller over a real Open vSwitch in userspace (dummy ports). Without its programs the
//! test says so and passes nothing off as checked.

mod common;

use common::*;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const VSWITCHD: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

struct Ovs {
    dir: PathBuf,
    daemons: Vec<Child>,
}

impl Ovs {
    fn start(dir: &Path) -> Option<Ovs> {
        let vswitchd = [VSWITCHD, "/usr/sbin/ovs-vswitchd"]
            .into_iter()
            .find(|p| Path::new(p).exists())?;
        if !Path::new(SCHEMA).exists() {
            return None;
        }
        let mut o = Ovs {
            dir: dir.to_owned(),
            daemons: Vec::new(),
        };
        o.tool("ovsdb-tool", &["create", &o.path("conf.db"), SCHEMA]);
        let remote = format!("--remote=punix:{}", o.path("db.sock"));
        let db = o
            .command(
                "ovsdb-server",
                &[&o.path("conf.db"), &remote, "--log-file=ovsdb.log"],
            )
            .spawn()
            .unwrap();
        o.daemons.push(db);
        until("ovsdb-server", || {
            Path::new(&o.path("db.sock")).exists().then_some(())
        });
        o.tool("ovs-vsctl", &["--no-wait", "init"]);
        let log = format!("--log-file={}", o.path("vswitchd.log"));
        let d = o
            .command(
                vswitchd,
                &[
                    "--enable-dummy=override",
                    "--disable-system",
                    "--pidfile",
                    &log,
                    &format!("unix:{}", o.path("db.sock")),
                ],
            )
            .spawn()
            .unwrap();
        o.daemons.push(d);
        Some(o)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut c = Command::new(program);
        c.args(args)
            .current_dir(&self.dir)
            .env("OVS_RUNDIR", &self.dir)
            .env("OVS_LOGDIR", &self.dir)
            .env("OVS_DBDIR", &self.dir)
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        c
    }

    fn tool(&self, program: &str, args: &[&str]) -> String {
        let out = self
            .command(program, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    fn flows(&self, bridge: &str) -> String {
        self.tool("ovs-ofctl", &["-O", "OpenFlow13", "dump-flows", bridge])
    }

    fn receive(&self, port: &str, src: &str, dst: &str, rest: &str) {
        let packet = format!("in_port(1),eth(src={src},dst={dst}),{rest}");
        self.tool("ovs-appctl", &["netdev-dummy/receive", port, &packet]);
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for d in self.daemons.iter_mut().rev() {
            let _ = d.kill();
            let _ = d.wait();
        }
    }
}

const PING: &str = "eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)";
const TCP: &str = "eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=1000,dst=8080),tcp_flags(0x2)";
const A: &str = "52:54:00:00:00:01";
const B: &str = "52:54:00:00:00:02";

fn n_packets(flows: &str, what: &str) -> u64 {
    let line = flows
        .lines()
        .find(|l| l.contains(what))
        .unwrap_or_else(|| panic!("no {what} in {flows}"));
    let n = line
        .split("n_packets=")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    n.parse().unwrap()
}

#[test]
fn open_vswitch_is_programmed() {
    let dir = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let Some(ovs) = Ovs::start(dir.path()) else {
        eprintln!("skipped: Open vSwitch is not installed");
        return;
    };
    let mut c = start(files.path());
    let target = format!("tcp:{}", c.openflow);
    for bridge in ["br0", "br1"] {
        ovs.tool(
            "ovs-vsctl",
            &[
                "add-br",
                bridge,
                "--",
                "set",
                "bridge",
                bridge,
                "datapath_type=dummy",
                "protocols=OpenFlow13",
                "fail_mode=secure",
                "--",
                "set-controller",
                bridge,
                &target,
            ],
        );
    }
    for port in ["p1", "p2"] {
        ovs.tool(
            "ovs-vsctl",
            &[
                "add-port",
                "br0",
                port,
                "--",
                "set",
                "interface",
                port,
                "type=dummy",
            ],
        );
    }
    ovs.tool(
        "ovs-vsctl",
        &[
            "add-port",
            "br0",
            "to1",
            "--",
            "set",
            "interface",
            "to1",
            "type=patch",
            "options:peer=to0",
            "--",
            "add-port",
            "br1",
            "to0",
            "--",
            "set",
            "interface",
            "to0",
            "type=patch",
            "options:peer=to1",
        ],
    );
    until("both switches with their ports", || {
        let v = c.get("/api/v1/switches").to_string();
        [
            "\"br0\"", "\"br1\"", "\"p1\"", "\"p2\"", "\"to1\"", "\"to0\"",
        ]
        .iter()
        .all(|n| v.contains(n))
        .then_some(())
    });
    // Open vSwitch writes connection states down every few seconds.
    until("is_connected", || {
        ovs.tool("ovs-vsctl", &["show"])
            .contains("is_connected: true")
            .then_some(())
    });
    until("the link both ways", || {
        (c.get("/api/v1/links")["links"].as_array().unwrap().len() == 2).then_some(())
    });

    // A conversation: both sides heard, flows with both timeouts, later packets without us.
    let sees = |port: &str, src: &str, dst: &str| {
        let before = c.get("/api/v1/switches/br0")["packet_ins"]
            .as_u64()
            .unwrap();
        ovs.receive(port, src, dst, PING);
        until("the packet-in", || {
            (c.get("/api/v1/switches/br0")["packet_ins"]
                .as_u64()
                .unwrap()
                > before)
                .then_some(())
        });
    };
    sees("p1", A, B);
    sees("p2", B, A);
    sees("p1", A, B);
    let learned = until("the learned flows", || {
        let f = ovs.flows("br0");
        (f.matches("idle_timeout=10, hard_timeout=30").count() == 2).then_some(f)
    });
    assert!(learned.contains("actions=output:"), "{learned}");
    let before = c.get("/api/v1/switches/br0")["packet_ins"].clone();
    for _ in 0..5 {
        ovs.receive("p1", A, B, PING);
    }
    let to_b = "dl_dst=52:54:00:00:00:02 actions";
    until("the flow's count", || {
        (n_packets(&ovs.flows("br0"), to_b) >= 5).then_some(())
    });
    assert_eq!(c.get("/api/v1/switches/br0")["packet_ins"], before);
    // The same flows seen through REST.
    let seen = c.get("/api/v1/switches/br0/flows");
    let mine: Vec<_> = seen["flows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["owner"] == "learning-switch")
        .collect();
    assert_eq!(mine.len(), 2, "{seen}");

    // Blocked at once, counted, and unblocked.
    let block = json!({"name": "block-icmp", "node": "br0", "priority": 500, "match": {"protocol": "icmp"}, "actions": "drop"});
    let (status, v) = c.call("POST", "/api/v1/flows", Some(&block));
    assert_eq!(status, 201, "{v}");
    let before = n_packets(&ovs.flows("br0"), to_b);
    for _ in 0..3 {
        ovs.receive("p1", A, B, PING);
    }
    until("the drops", || {
        (n_packets(&ovs.flows("br0"), "priority=500,icmp actions=drop") == 3).then_some(())
    });
    assert_eq!(n_packets(&ovs.flows("br0"), to_b), before);
    ovs.receive("p1", A, B, TCP);
    until("TCP passing", || {
        (n_packets(&ovs.flows("br0"), to_b) > before).then_some(())
    });

    // The book's port rewrite, by port name.
    let rewrite = json!({"name": "web", "switch": "br0", "match": "tcp,tp_dst=8080", "actions": "mod_tp_dst:80,output:p2"});
    let (status, v) = c.call("PUT", "/api/v1/flows/web", Some(&rewrite));
    assert_eq!(status, 201, "{v}");
    let shown = ovs.flows("br0");
    assert!(
        shown.contains("priority=500,tcp,tp_dst=8080 actions=set_field:80->tcp_dst,output:"),
        "{shown}"
    );
    // What Open vSwitch refuses is told in its words, and nothing is kept.
    let bad = json!({"name": "bad", "switch": "br0", "match": {}, "actions": [{"type": "group", "group_id": 7}]});
    let (status, v) = c.call("POST", "/api/v1/flows", Some(&bad));
    assert_eq!(status, 422, "{v}");
    assert!(
        v["detail"]
            .as_str()
            .unwrap()
            .contains("OFPBAC_BAD_OUT_GROUP"),
        "{v}"
    );

    // A restart of the controller: nothing is sent again for what is as it should be.
    let dropped = n_packets(&ovs.flows("br0"), "priority=500,icmp");
    drop(c);
    c = start(files.path());
    ovs.tool(
        "ovs-vsctl",
        &["set-controller", "br0", &format!("tcp:{}", c.openflow)],
    );
    until("the flows confirmed", || {
        c.get("/api/v1/flows")["flows"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["state"] == "installed")
            .then_some(())
    });
    assert_eq!(n_packets(&ovs.flows("br0"), "priority=500,icmp"), dropped);
    // Somebody clears the bridge: what the controller lives by comes back, the rest is reported.
    ovs.tool("ovs-ofctl", &["-O", "OpenFlow13", "del-flows", "br0"]);
    until("table miss and LLDP again", || {
        let f = ovs.flows("br0");
        (f.contains("priority=0 actions=CONTROLLER:65535") && f.contains("dl_type=0x88cc"))
            .then_some(())
    });
    until("the loss to be seen", || {
        (c.get("/api/v1/flows/web")["state"] == "removed").then_some(())
    });
    let (status, v) = c.call("PUT", "/api/v1/flows/web", Some(&rewrite));
    assert_eq!((status, &v["state"]), (200, &json!("installed")));
    assert_eq!(c.call("DELETE", "/api/v1/flows/web", None).0, 204);
    assert!(!ovs.flows("br0").contains("tp_dst=8080"));
}
