//! W10: a controller programs the bridge.

use crate::typed_twice;
use serde_json::{Value, json};
use tests::host::Host;
use tests::process::Daemon;
use tests::switch::{Weir, weir_binary};
use tests::tools::{Tools, Typed};
use tests::{rest, wait};

typed_twice!(walk);

/// `weir controller`, apart from the switch so that it can be killed.
pub fn start_controller(weir: &Weir) -> Daemon {
    let mut c = weir.namespace.as_ref().unwrap().command(weir_binary());
    c.arg("controller")
        .arg("--run-dir")
        .arg(&weir.run_dir)
        .arg("--store")
        .arg(weir.dir().join("controller.redb"));
    c.args([
        "--openflow",
        "127.0.0.1:6653",
        "--openflow",
        "127.0.0.1:6633",
    ]);
    let daemon = Daemon::spawn(c, &weir.dir().join("controller.log"));
    wait::until("the controller to listen", || {
        weir.namespace
            .as_ref()
            .unwrap()
            .enter(|| std::net::TcpStream::connect("127.0.0.1:8080").is_ok())
            && weir.run_dir.join("rest.token").exists()
    });
    daemon
}

fn connected(t: &Typed) -> bool {
    t.ok("ovs-vsctl show").contains("is_connected: true")
}

/// The items of a list answer.
pub fn items(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        Value::Object(mut o) => o
            .values_mut()
            .find_map(|v| v.as_array().cloned())
            .unwrap_or_default(),
        _ => vec![],
    }
}

fn packet_ins(weir: &Weir) -> u64 {
    items(rest::call(weir, "GET", "/api/v1/switches", None).1)
        .iter()
        .filter_map(|s| s["packet_ins"].as_u64())
        .sum()
}

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    let mut controller = start_controller(&weir);

    t.ok("ovs-vsctl add-br vswitch001 -- set-controller vswitch001 tcp:127.0.0.1:6633");
    t.ok("ovs-vsctl set-fail-mode vswitch001 secure");
    wait::until("is_connected: true", || connected(&t));
    assert!(
        t.ok("ovs-vsctl show").contains(
            "        Controller \"tcp:127.0.0.1:6633\"\n            is_connected: true\n"
        )
    );
    controller.kill();
    wait::until("the loss to be seen", || !connected(&t));
    controller = start_controller(&weir);
    wait::until("is_connected: true again", || connected(&t));

    // The node and its ports, the same on both sides.
    let guests = [
        Host::on_bridge(&t, "vswitch001", "fed1", 1),
        Host::on_bridge(&t, "vswitch001", "fed2", 2),
    ];
    let id = t.ok("ovs-vsctl get bridge vswitch001 datapath_id");
    let id = id.trim().trim_matches('"').to_owned();
    wait::until("the controller to list the ports", || {
        let switches = items(rest::call(&weir, "GET", "/api/v1/switches", None).1);
        switches.len() == 1 && switches[0].to_string().contains(&id) && {
            let (_, ports) =
                rest::call(&weir, "GET", &format!("/api/v1/switches/{id}/ports"), None);
            let ports = ports.to_string();
            ports.contains("fed1") && ports.contains("fed2") && ports.contains("vswitch001")
        }
    });
    let shown = t.ok("ovs-ofctl show vswitch001");
    for port in ["fed1", "fed2"] {
        let number = t.ok(&format!("ovs-vsctl get interface {port} ofport"));
        assert!(
            shown.contains(&format!(" {}({port}): addr:", number.trim())),
            "{shown}"
        );
    }

    // Links between two switches.
    t.ok("ovs-vsctl add-br vswitch002 -- set-fail-mode vswitch002 secure -- set-controller vswitch002 tcp:127.0.0.1:6633");
    t.ok("ovs-vsctl add-port vswitch001 to2 -- set interface to2 type=patch options:peer=to1 -- add-port vswitch002 to1 -- set interface to1 type=patch options:peer=to2");
    wait::until("the link in both directions", || {
        items(rest::call(&weir, "GET", "/api/v1/links", None).1).len() == 2
    });

    // First packet up, later ones not.
    assert!(guests[0].pings("10.0.0.2"));
    let flows = t.ok("ovs-ofctl dump-flows vswitch001");
    assert!(
        flows.lines().any(|l| l.contains("idle_timeout=")
            && l.contains("hard_timeout=")
            && l.contains("actions=output:")),
        "{flows}"
    );
    let before = packet_ins(&weir);
    assert!(guests[0].pings_all("10.0.0.2", 20));
    // LLDP between the switches goes up by itself every few seconds.
    assert!(
        packet_ins(&weir) - before < 20,
        "pings still reach the controller"
    );

    // The stock ovs-dpctl asks the kernel; of a userspace datapath the same is asked by ovs-appctl.
    let cached = match tools {
        Tools::Stock => t.ok("ovs-appctl dpctl/dump-flows"),
        Tools::Weir => t.ok("ovs-dpctl dump-flows"),
    };
    assert!(cached.contains("in_port("), "the cached flow: {cached}");

    // Unused flows end.
    wait::until_within(
        std::time::Duration::from_secs(60),
        "learned flows to time out",
        || {
            !t.ok("ovs-ofctl dump-flows vswitch001")
                .contains("idle_timeout=")
        },
    );

    // REST: four verbs, and nothing changed by wrong JSON.
    let flow = json!({"name": "web", "node": "vswitch001", "priority": 300, "match": {"protocol": "tcp", "tcp_dst": 80}, "actions": "drop"});
    let (status, answer) = rest::call(&weir, "POST", "/api/v1/flows", Some(&flow));
    assert!(status == 200 || status == 201, "{status} {answer}");
    assert!(
        t.ok("ovs-ofctl dump-flows vswitch001")
            .contains("priority=300,tcp,tp_dst=80 actions=drop")
    );
    let changed = json!({"name": "web", "node": "vswitch001", "priority": 301, "match": {"protocol": "tcp", "tcp_dst": 81}, "actions": "drop"});
    let (status, answer) = rest::call(&weir, "PUT", "/api/v1/flows/web", Some(&changed));
    assert_eq!(status, 200, "{answer}");
    let flows = t.ok("ovs-ofctl dump-flows vswitch001");
    assert!(
        flows.contains("priority=301,tcp,tp_dst=81 actions=drop") && !flows.contains("tp_dst=80 "),
        "{flows}"
    );
    for wrong in [
        "{",
        r#"{"name": "bad", "node": "vswitch001", "match": {"protocol": "carrier-pigeon"}, "actions": "drop"}"#,
        r#"{"name": "bad", "node": "vswitch001", "match": {}, "actions": "fly"}"#,
    ] {
        let token = std::fs::read_to_string(weir.run_dir.join("rest.token")).unwrap();
        let (status, answer) = rest::raw(
            &weir,
            "POST",
            "/api/v1/flows",
            Some(token.trim()),
            Some(wrong),
        );
        assert!((400..500).contains(&status), "{status} {answer}");
    }
    assert_eq!(rest::raw(&weir, "GET", "/api/v1/flows", None, None).0, 401);
    assert_eq!(
        items(rest::call(&weir, "GET", "/api/v1/flows", None).1).len(),
        1
    );
    let (status, _) = rest::call(&weir, "DELETE", "/api/v1/flows/web", None);
    assert!(status == 200 || status == 204, "{status}");
    assert!(
        !t.ok("ovs-ofctl dump-flows vswitch001")
            .contains("tp_dst=81")
    );

    // Without its controller: secure keeps to what is installed, standalone learns by itself.
    assert!(guests[0].pings("10.0.0.2"));
    controller.kill();
    assert!(
        guests[0].pings_all("10.0.0.2", 3),
        "installed flows keep working"
    );
    t.ok("ovs-vsctl set-fail-mode vswitch001 standalone -- set controller vswitch001 inactivity_probe=1000");
    wait::until_within(
        std::time::Duration::from_secs(60),
        "the bridge to learn by itself",
        || {
            guests.iter().for_each(Host::forget_neighbours);
            guests[0].pings("10.0.0.2")
                && !t
                    .ok("ovs-appctl fdb/show vswitch001")
                    .lines()
                    .skip(1)
                    .collect::<String>()
                    .is_empty()
        },
    );
}
