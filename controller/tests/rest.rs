//! The controller in this process, with switches that speak our codec.

mod common;

use common::*;
use controller::cookie;
use openflow::{FieldId, FlowModCommand, Message, PortNo, PortReason};
use serde_json::{Value, json};
use std::io::{Read, Write};

fn connected(c: &Running, n: usize) -> Value {
    until("the switches", || {
        let v = c.get("/api/v1/switches");
        (v["switches"].as_array().unwrap().len() == n).then_some(v)
    })
}

fn named(s: &FakeSwitch) -> Vec<openflow::FlowMod> {
    s.with(|t| {
        t.flows
            .iter()
            .filter(|f| cookie::owned_by(f.cookie, cookie::NAMED))
            .cloned()
            .collect()
    })
}

fn block() -> Value {
    json!({"name": "block-icmp", "node": "br0", "priority": 500, "match": {"protocol": "icmp"}, "actions": "drop"})
}

#[test]
fn switches_ports_tables_and_flows_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let s = FakeSwitch::connect(c.openflow, 0x2a, "br0", vec![]);
    let v = connected(&c, 1);
    let sw = &v["switches"][0];
    assert_eq!(
        (&sw["id"], &sw["name"]),
        (&json!("000000000000002a"), &json!("br0"))
    );
    assert_eq!(sw["description"]["manufacturer"], "fake");
    assert_eq!(sw["version"], "1.3");
    for which in ["br0", "000000000000002a", "0x2a"] {
        assert_eq!(c.get(&format!("/api/v1/switches/{which}"))["dpid"], 42);
    }
    let ports = c.get("/api/v1/switches/br0/ports");
    assert_eq!(ports["ports"][0]["name"], "eth1");
    assert_eq!(ports["ports"][0]["counters"]["rx_packets"], 7);
    assert_eq!(
        c.get("/api/v1/switches/br0/tables")["tables"][0]["lookups"],
        10
    );
    // Table miss and LLDP are there, and told apart.
    let owners: Vec<_> = c.get("/api/v1/switches/br0/flows")["flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["owner"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(owners, ["lldp", "table-miss"]);
    assert_eq!(c.call("GET", "/api/v1/switches/br9", None).0, 404);
    // Port changes are followed.
    s.inject(Message::PortStatus(PortReason::Add, port(4, "eth4")));
    until("the new port", || {
        c.get("/api/v1/switches/br0")
            .to_string()
            .contains("eth4")
            .then_some(())
    });
    s.stop();
    connected(&c, 0);
}

#[test]
fn a_named_flow_lives_its_four_verbs() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let s = FakeSwitch::connect(c.openflow, 1, "br0", vec![]);
    connected(&c, 1);
    let (status, v) = c.call("POST", "/api/v1/flows", Some(&block()));
    assert_eq!((status, &v["state"]), (201, &json!("installed")), "{v}");
    let [f] = &named(&s)[..] else { panic!() };
    assert_eq!(
        (f.priority, f.matching.exact(FieldId::IpProto)),
        (500, Some(1))
    );
    assert!(f.instructions.apply.is_empty());
    // The page shows it, in ofctl's words on the switch's side too.
    let (status, page) = c.call("GET", "/", None);
    let page = page.as_str().unwrap_or_default().to_owned();
    assert_eq!(status, 200);
    for part in ["<h2>br0</h2>", "block-icmp", "installed", "eth2", "drop"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(
        page.matches("<section").count(),
        page.matches("</section>").count()
    );
    assert_eq!(v["text"], "priority=500,icmp actions=drop");
    // Again: refused, and nothing changed.
    assert_eq!(c.call("POST", "/api/v1/flows", Some(&block())).0, 409);
    let mut other = block();
    other["name"] = json!("other");
    let (status, v) = c.call("POST", "/api/v1/flows", Some(&other));
    assert_eq!(status, 409);
    assert!(v["detail"].as_str().unwrap().contains("block-icmp"), "{v}");
    // What was read can be written back, and changes nothing on the switch.
    let read = c.get("/api/v1/flows/block-icmp");
    let before = s.with(|t| t.mods.len());
    assert_eq!(
        c.call("PUT", "/api/v1/flows/block-icmp", Some(&read)).0,
        200
    );
    assert_eq!(s.with(|t| t.mods.len()), before);
    // Another match: the new flow first, then the old one's end.
    let mut changed = block();
    changed["match"] = json!({"protocol": "tcp", "tcp_dst": 80, "in_port": "eth2"});
    changed["actions"] = json!("mod_tp_dst:8080,output:eth3");
    let (status, v) = c.call("PUT", "/api/v1/flows/block-icmp", Some(&changed));
    assert_eq!(status, 200, "{v}");
    assert_eq!(
        (&v["match"]["in_port"], &v["actions"][1]["port"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(named(&s).len(), 1);
    let last: Vec<_> = s.with(|t| t.mods[before..].iter().map(|m| m.command).collect());
    assert_eq!(last, [FlowModCommand::Add, FlowModCommand::DeleteStrict]);
    assert_eq!(c.call("DELETE", "/api/v1/flows/block-icmp", None).0, 204);
    assert!(named(&s).is_empty());
    assert_eq!(c.call("DELETE", "/api/v1/flows/block-icmp", None).0, 404);
    assert_eq!(c.get("/api/v1/flows"), json!({"flows": []}));
}

#[test]
fn wrong_requests_are_refused_by_member_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let s = FakeSwitch::connect(c.openflow, 1, "br0", vec![]);
    connected(&c, 1);
    let post = |body: &str| {
        c.raw(
            "POST",
            "/api/v1/flows",
            Some(&c.token),
            Some(body.to_owned()),
        )
    };
    assert_eq!(post("{").0, 400);
    let (status, v) =
        post(r#"{"name": "a", "switch": "br0", "match": {"tcp_dst": 80}, "actions": []}"#);
    assert_eq!(
        (status, &v["field"]),
        (422, &json!("/match/tcp_dst")),
        "{v}"
    );
    let (status, v) = post(
        r#"[{"name": "a", "switch": "br0", "actions": []}, {"name": "b", "switch": "br0", "actions": "fly"}]"#,
    );
    assert_eq!((status, &v["field"]), (422, &json!("/1/actions")), "{v}");
    assert_eq!(post(&"x".repeat(5 << 20)).0, 413);
    // What the switch refuses is taken back.
    let refused = json!({"name": "full", "switch": "br0", "priority": REFUSED, "actions": "drop"});
    let (status, v) = c.call("POST", "/api/v1/flows", Some(&refused));
    assert_eq!(status, 422);
    assert!(
        v["detail"].as_str().unwrap().contains("OFPFMFC_TABLE_FULL"),
        "{v}"
    );
    // Also in place of a flow that was good.
    c.call("POST", "/api/v1/flows", Some(&block()));
    let mut worse = block();
    worse["priority"] = json!(REFUSED);
    assert_eq!(
        c.call("PUT", "/api/v1/flows/block-icmp", Some(&worse)).0,
        422
    );
    assert_eq!(c.get("/api/v1/flows")["flows"].as_array().unwrap().len(), 1);
    assert_eq!(c.get("/api/v1/flows/block-icmp")["priority"], 500);
    assert_eq!(named(&s)[0].priority, 500);
    assert_eq!(c.call("GET", "/nowhere", None).0, 404);
    assert_eq!(c.call("DELETE", "/api/v1/hosts", None).0, 405);
}

#[test]
fn nothing_is_told_without_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    for path in [
        "/",
        "/api/v1/switches",
        "/stats/switches",
        "/metrics",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(c.raw("GET", path, None, None).0, 401, "{path}");
        assert_eq!(c.raw("GET", path, Some("wrong"), None).0, 401, "{path}");
        assert_eq!(c.raw("GET", path, Some(&c.token), None).0, 200, "{path}");
    }
    // A browser gets its cookie by one address, and the cookie alone changes nothing.
    let ask = |request: String| {
        let mut s = std::net::TcpStream::connect(c.rest).unwrap();
        s.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        s.read_to_string(&mut text).unwrap();
        text
    };
    let answer = ask(format!(
        "GET /?token={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        c.token
    ));
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let cookie = format!("Cookie: weir_token={}\r\n", c.token);
    let answer = ask(format!(
        "GET / HTTP/1.1\r\nHost: x\r\n{cookie}Connection: close\r\n\r\n"
    ));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Named flows"));
    let answer = ask(format!(
        "DELETE /api/v1/flows/a HTTP/1.1\r\nHost: x\r\n{cookie}Connection: close\r\n\r\n"
    ));
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn packets_teach_hosts_and_install_flows() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let s = FakeSwitch::connect(c.openflow, 1, "br0", vec![]);
    connected(&c, 1);
    s.packet(1, frame(0xffff_ffff_ffff, 0x5254_0000_0001));
    until("the flood", || {
        s.with(|t| t.packets.iter().any(|p| p.in_port == PortNo(1)))
            .then_some(())
    });
    s.packet(2, frame(0x5254_0000_0001, 0x5254_0000_0002));
    until("the learned flow", || {
        s.with(|t| t.flows.iter().any(|f| f.cookie == cookie::LEARNED))
            .then_some(())
    });
    let hosts = until("two hosts", || {
        let v = c.get("/api/v1/hosts");
        (v["hosts"].as_array().unwrap().len() == 2).then_some(v)
    });
    assert_eq!(hosts["hosts"][1]["mac"], "52:54:00:00:00:02");
    assert_eq!(hosts["hosts"][1]["place"]["port_name"], "eth2");
    let v = c.get("/api/v1/switches");
    assert_eq!(v["switches"][0]["packet_ins"], 2);
    let (_, text) = c.call("GET", "/metrics", None);
    let line =
        "weir_controller_switch_packet_ins_total{switch=\"0000000000000001\",name=\"br0\"} 2";
    assert!(text.as_str().unwrap().lines().any(|l| l == line), "{text}");
}

#[test]
fn links_are_found_and_forgeries_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let a = FakeSwitch::connect(c.openflow, 1, "br0", vec![]);
    let b = FakeSwitch::connect(c.openflow, 2, "br1", vec![]);
    connected(&c, 2);
    // What goes out of a's port 3 comes in at b's port 1.
    let lldp = until("LLDP", || {
        a.with(|t| {
            t.packets
                .iter()
                .find(|p| {
                    matches!(
                        p.actions[..],
                        [openflow::Action::Output {
                            port: PortNo(3),
                            ..
                        }]
                    )
                })
                .map(|p| p.data.to_vec())
        })
    });
    let mut forged = lldp.clone();
    forged[40] ^= 1;
    b.packet(2, forged);
    b.packet(1, lldp);
    let v = until("the link", || {
        let v = c.get("/api/v1/links");
        (!v["links"].as_array().unwrap().is_empty()).then_some(v)
    });
    let [link] = &v["links"].as_array().unwrap()[..] else {
        panic!("{v}")
    };
    assert_eq!(
        (&link["from"]["switch_name"], &link["from"]["port"]),
        (&json!("br0"), &json!(3))
    );
    assert_eq!(
        (&link["to"]["switch_name"], &link["to"]["port"]),
        (&json!("br1"), &json!(1))
    );
    let mut down = port(1, "eth1");
    down.link_down = true;
    b.inject(Message::PortStatus(PortReason::Modify, down));
    until("the link's end", || {
        (c.get("/api/v1/links") == json!({"links": []})).then_some(())
    });
}

#[test]
fn flows_survive_a_restart_and_only_differences_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let flows = {
        let c = start(dir.path());
        // Before the switch ever comes: stored, and said to be pending.
        let (status, v) = c.call("POST", "/api/v1/flows", Some(&block()));
        assert_eq!((status, &v["state"]), (202, &json!("pending")));
        let s = FakeSwitch::connect(c.openflow, 1, "br0", vec![]);
        until("the flow", || (named(&s).len() == 1).then_some(()));
        until("its confirmation", || {
            (c.get("/api/v1/flows/block-icmp")["state"] == "installed").then_some(())
        });
        c.call(
            "POST",
            "/api/v1/flows",
            Some(
                &json!({"name": "gone", "switch": "br0", "match": {"in_port": 1}, "actions": "2"}),
            ),
        );
        s.stop()
    };
    let c = start(dir.path());
    assert_eq!(c.get("/api/v1/flows")["flows"].as_array().unwrap().len(), 2);
    // While the switch is away one flow is deleted and one added.
    assert_eq!(c.call("DELETE", "/api/v1/flows/gone", None).0, 204);
    let (status, _) = c.call(
        "PUT",
        "/api/v1/flows/new",
        Some(&json!({"switch": "0000000000000001", "match": {"in_port": 3}, "actions": "1"})),
    );
    assert_eq!(status, 202);
    let s = FakeSwitch::connect(c.openflow, 1, "br0", flows);
    until("both flows installed", || {
        c.get("/api/v1/flows")["flows"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["state"] == "installed")
            .then_some(())
    });
    let sent: Vec<_> = s.with(|t| {
        t.mods
            .iter()
            .map(|m| (m.command, m.matching.exact(FieldId::InPort)))
            .collect()
    });
    assert_eq!(
        sent,
        [
            (FlowModCommand::Add, Some(3)),
            (FlowModCommand::DeleteStrict, Some(1))
        ]
    );
}

#[test]
fn ryu_s_paths_answer_as_ryu_does() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let s = FakeSwitch::connect(c.openflow, 1, "br0", vec![]);
    connected(&c, 1);
    assert_eq!(c.get("/stats/switches"), json!([1]));
    assert_eq!(c.get("/stats/desc/1")["1"]["mfr_desc"], "fake");
    assert_eq!(c.get("/stats/port/1")["1"][0]["rx_packets"], 7);
    assert_eq!(c.get("/stats/portdesc/1")["1"][3]["port_no"], "LOCAL");
    let entry = json!({"dpid": 1, "cookie": 1, "table_id": 0, "idle_timeout": 30, "hard_timeout": 60, "priority": 11111, "flags": 1,
        "match": {"in_port": 1, "dl_vlan": 10}, "actions": [{"type": "OUTPUT", "port": 2}]});
    assert_eq!(c.call("POST", "/stats/flowentry/add", Some(&entry)).0, 200);
    let (status, v) = c.call(
        "POST",
        "/stats/flow/1",
        Some(&json!({"cookie": 1, "cookie_mask": u64::MAX})),
    );
    assert_eq!(status, 200);
    assert_eq!(
        v,
        json!({"1": [{"priority": 11111, "cookie": 1, "idle_timeout": 30, "hard_timeout": 60, "actions": ["OUTPUT:2"],
            "match": {"in_port": 1, "dl_vlan": "10"}, "byte_count": 180, "duration_sec": 1, "duration_nsec": 0,
            "packet_count": 3, "table_id": 0, "flags": 1, "length": 96}]})
    );
    assert_eq!(
        c.call("POST", "/stats/flowentry/delete_strict", Some(&entry))
            .0,
        200
    );
    assert!(s.with(|t| t.flows.iter().all(|f| f.cookie != 1)));
    assert_eq!(c.call("GET", "/stats/flow/7", None).0, 404);
}

#[test]
fn a_peer_that_speaks_no_openflow_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let c = start(dir.path());
    let mut s = std::net::TcpStream::connect(c.openflow).unwrap();
    // A message that says it is shorter than its own header.
    s.write_all(&[4, 0, 0, 4, 0, 0, 0, 1]).unwrap();
    let mut rest = Vec::new();
    s.read_to_end(&mut rest).unwrap();
    until("the count", || {
        (c.get("/api/v1/stats")["connections_rejected"] == 1).then_some(())
    });
}
