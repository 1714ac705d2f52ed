//! What a switch would do with a packet and what is wrong with its tables, as people are told.

use tests::ovs::OpenVswitch;
use tests::peers::{Peer, lacks};
use tests::process::Ran;
use tests::switch::Weir;
use tests::tools::Tools;

const PORTS: &str = "-- add-port br0 p1 -- set interface p1 type=dummy ofport_request=1 \
     -- add-port br0 p2 -- set interface p2 type=dummy ofport_request=2 \
     -- add-port br0 p3 -- set interface p3 type=dummy ofport_request=3";

const FLOWS: &[&str] = &[
    "table=0,priority=20,in_port=1,tcp,actions=set_field:00:00:00:00:00:05->eth_src,resubmit(,1),output:2",
    "table=0,in_port=2,actions=NORMAL",
    "table=0,priority=7,cookie=0x123,in_port=3,ip,actions=write_actions(output:1,set_field:1.2.3.4->ip_src),write_metadata:5/7,goto_table:1",
    "table=0,in_port=LOCAL,actions=FLOOD",
    "table=0,in_port=1,udp,actions=group:1,group:2,output:1",
    "table=0,in_port=1,arp,actions=resubmit(2,10),push:NXM_NX_REG0[],pop:NXM_NX_REG1[],pop:NXM_NX_REG1[],output:NXM_NX_REG0[],output:77,exit,output:2",
    "table=0,in_port=1,icmp,actions=learn(table=5,in_port=1,output:NXM_OF_IN_PORT[]),resubmit(,20),output:3",
    "table=1,tcp,actions=load:5->NXM_NX_REG0[0..3],move:NXM_NX_REG0[0..3]->NXM_NX_REG1[4..7],goto_table:2",
    "table=1,udp,actions=resubmit(,7),note:01.02",
    "table=2,tcp,actions=push_vlan:0x8100,set_field:4097->vlan_vid,output:3,in_port,output:1",
    "table=2,udp,actions=drop",
    "table=20,actions=clear_actions,write_actions(output:1),goto_table:21",
    "table=21,actions=set_field:1->reg0,clear_actions",
];

const GROUPS: &[&str] = &[
    "group_id=1,type=all,bucket=bucket_id:0,actions=output:2,bucket=bucket_id:1,actions=output:3",
    "group_id=2,type=ff,bucket=bucket_id:0,watch_port:9,actions=output:2,bucket=bucket_id:1,watch_port:2,actions=output:3",
];

/// Traces with what both switches say.
const TRACES: &[&str] = &[
    "ofproto/trace br0 in_port=1,tcp,nw_ttl=64",
    "ofproto/trace br0 in_port=2,dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02",
    "ofproto/trace br0 in_port=2,dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02 -generate",
    "ofproto/trace br0 in_port=2,dl_dst=00:00:00:00:00:01",
    "ofproto/trace br0 in_port=2 50540000000a50540000000908060001080006040001505400000009c0a80001000000000000c0a80002",
    "ofproto/trace br0 in_port=3,tcp,nw_ttl=64",
    "ofproto/trace br0 in_port=3,udp,nw_ttl=64,nw_src=10.0.0.1",
    "ofproto/trace br0 in_port=LOCAL,ipv6,dl_vlan=5",
    "ofproto/trace br0 in_port=1,udp",
    "ofproto/trace br0 in_port=1,arp",
    "ofproto/trace br0 in_port=1,icmp",
    "ofproto/trace br0 in_port=1,icmp -generate",
    "ofproto/trace br0 in_port=9,arp",
    "ofproto/trace br0 in_port=p1,dl_type=0x1234",
    "ofproto/trace-packet-out br0 in_port=1,udp output:2,output:1",
    "ofproto/trace-packet-out br0 in_port=1,tcp,nw_ttl=9 table",
    // What is refused.
    "ofproto/trace br0 in_port=1,foo=3",
    "ofproto/trace br0 in_port=xx",
    "ofproto/trace br9 in_port=1",
    "ofproto/trace br0",
    "ofproto/trace in_port=1",
    "ofproto/trace br0 in_port=1 zz",
    "ofproto/trace br0 in_port=1 -foo",
    "ofproto/trace br0 in_port=1 --ct-next",
    "ofproto/trace br0 in_port=1 1 2",
    "ofproto/trace br0 tcp_src=5",
    "ofproto/trace br0 tcp,udp",
    "ofproto/trace in_port(1),foo(1)",
    "ofproto/trace-packet-out br0 in_port=1 foo",
];

/// What must be alike: all but how exactly a cached flow is told apart, and the words of the datapath.
fn alike(ran: &Ran) -> (i32, String, String) {
    let kept = |l: &&str| !l.starts_with("Megaflow: ") && !l.starts_with("Datapath actions: ");
    let text = ran
        .stdout
        .lines()
        .filter(kept)
        .collect::<Vec<_>>()
        .join("\n");
    // Where the daemon's socket is does not matter.
    let error = ran.stderr.lines().next().unwrap_or("").to_owned();
    (ran.code, text, error)
}

#[test]
fn traces_are_open_vswitchs_word_by_word() {
    if lacks(
        "traces_are_open_vswitchs_word_by_word",
        &[Peer::Ovs, Peer::Root],
    ) {
        return;
    }
    let ovs = OpenVswitch::start_with(&["--enable-dummy=override"]);
    let weir = Weir::start(&["--no-controller", "--enable-dummy"]);
    let stock = weir.typed(Tools::Stock);
    let both = |line: &str| {
        for ran in [ovs.line(Tools::Stock, line), stock.line(line)] {
            assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
        }
    };
    both(&format!(
        "ovs-vsctl --timeout=20 add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure {PORTS}"
    ));
    for group in GROUPS {
        both(&format!("ovs-ofctl -OOpenFlow15 add-group br0 {group}"));
    }
    for flow in FLOWS {
        both(&format!("ovs-ofctl -OOpenFlow13 add-flow br0 {flow}"));
    }
    let mut wrong = Vec::new();
    for trace in TRACES {
        let line = format!("ovs-appctl {trace}");
        let (theirs, ours) = (ovs.line(Tools::Stock, &line), stock.line(&line));
        if alike(&theirs) != alike(&ours) {
            wrong.push(format!(
                "{trace}\n--- Open vSwitch\n{}{}--- weir\n{}{}",
                theirs.stdout, theirs.stderr, ours.stdout, ours.stderr
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn weir_trace_says_why_and_weir_check_what_is_wrong() {
    if lacks(
        "weir_trace_says_why_and_weir_check_what_is_wrong",
        &[Peer::Root],
    ) {
        return;
    }
    let weir = Weir::start(&["--no-controller", "--enable-dummy"]);
    let typed = weir.typed(Tools::Weir);
    typed.ok(&format!(
        "ovs-vsctl --timeout=20 add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure {PORTS}"
    ));
    typed.ok("ovs-ofctl add-flow br0 priority=9,ip,nw_dst=10.1.0.0/16,actions=output:1");
    typed.ok("ovs-ofctl add-flow br0 priority=5,ip,nw_dst=10.0.0.0/8,actions=output:2");
    let clean = typed.line("check br0");
    assert_eq!((clean.code, &*clean.stdout), (0, ""), "{}", clean.stderr);
    let told = typed.ok("trace br0 in_port=3,ip,nw_dst=10.2.0.1");
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    assert!(
        lines.contains(
            &"table 0: not ip,nw_dst=10.1.0.0/16, priority 9: ip_dst is 10.2.0.1, not 10.1.0.0/16"
        ),
        "{told}"
    );
    assert!(
        lines.contains(&"table 0: ip,nw_dst=10.0.0.0/8, priority 5"),
        "{told}"
    );
    let json = typed.ok("trace --json br0 in_port=3,ip,nw_dst=10.2.0.1");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let table = &json["steps"][0]["steps"][0];
    assert_eq!(table["step"], "table");
    assert_eq!(table["rule"]["priority"], 5);
    assert_eq!(table["not_matched"][0]["has"], "10.2.0.1");
    assert_eq!(table["steps"][0]["action"], "output:2");
    assert_eq!(json["dropped"], serde_json::Value::Null);
    // Nothing was counted by it.
    assert!(
        typed
            .ok("ovs-ofctl dump-aggregate br0")
            .contains("packet_count=0")
    );
    assert_eq!(typed.line("trace br0 in_port=zz").code, 2);
    assert_eq!(typed.line("trace").code, 1);

    typed.ok("ovs-ofctl add-flow br0 priority=20,ip,nw_dst=10.0.0.0/8,actions=output:7");
    let bad = typed.line("check --json br0");
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    let json: serde_json::Value = serde_json::from_str(&bad.stdout).expect("JSON");
    let kinds: Vec<&str> = json["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|f| f["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["shadowed", "shadowed", "no_port"], "{json}");
    assert_eq!(typed.line("check br9").code, 2);
}
