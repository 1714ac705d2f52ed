//! weir's own tools, and weir's controller, on a real Open vSwitch.

use tests::need;
use tests::ovs::OpenVswitch;
use tests::process::{Daemon, Ran};
use tests::tools::Tools;
use tests::wait;

/// Rows come in the order of a hash table: sorted, records of `list` as wholes, lines of a table singly.
fn ordered(line: &str, text: &str) -> String {
    let (separator, rows) = match () {
        () if line.contains("--format") => ("\n", true),
        () => ("\n\n", line.contains(" list ") || line.contains(" find ")),
    };
    if !rows {
        return text.to_owned();
    }
    let mut parts: Vec<&str> = text.split(separator).map(str::trim_end).collect();
    parts.sort_unstable();
    parts.join(separator)
}

/// Numbers that differ from one call to the next.
fn still(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive([' ', ',', '\n']) {
        match word.split_once('=') {
            Some((key @ ("duration" | "idle_age" | "hard_age"), rest)) => {
                out.push_str(key);
                out.push_str("=...");
                out.extend(rest.chars().filter(|c| [' ', ',', '\n'].contains(c)));
            }
            _ => out.push_str(word),
        }
    }
    out
}

#[track_caller]
fn same(ovs: &OpenVswitch, line: &str) -> Ran {
    let stock = ovs.line(Tools::Stock, line);
    let ours = ovs.line(Tools::Weir, line);
    assert_eq!(
        ordered(line, &still(&ours.stdout)),
        ordered(line, &still(&stock.stdout)),
        "output of {line}\n{}",
        ours.stderr
    );
    assert_eq!(
        ours.code, stock.code,
        "exit code of {line}\nours: {}\nstock: {}",
        ours.stderr, stock.stderr
    );
    ours
}

#[test]
fn our_tools_drive_open_vswitch() {
    need!(Root, Ovs);
    let ovs = OpenVswitch::start();
    let ours = |line: &str| ovs.line(Tools::Weir, line).ok();
    assert_eq!(
        ours("ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev"),
        ""
    );
    ovs.namespace
        .shell("ip link add a0 type veth peer name a1 && ip link add b0 type veth peer name b1")
        .ok();
    ours("ovs-vsctl add-port br0 a0 tag=10 -- add-port br0 b0 -- set port b0 trunks=20,30");
    ours(
        "ovs-vsctl --id=@q0 create queue other-config:min-rate=10000000 other-config:max-rate=10000000",
    );
    for line in [
        "ovs-vsctl show",
        "ovs-vsctl list-br",
        "ovs-vsctl list-ports br0",
        "ovs-vsctl list-ifaces br0",
        "ovs-vsctl list port",
        "ovs-vsctl list queue",
        "ovs-vsctl --columns=name,tag,trunks list port a0",
        "ovs-vsctl --format=table --columns=name,vlan_mode list port",
        "ovs-vsctl --format=json --columns=name,tag list port a0",
        "ovs-vsctl --format=csv --columns=name,type find interface type=internal",
        "ovs-vsctl get port a0 tag",
        "ovs-vsctl get bridge br0 nonesuch",
        "ovs-vsctl br-exists nonesuch",
        "ovs-vsctl port-to-br b0",
        "ovs-vsctl get-fail-mode br0",
        "ovs-vsctl add-br br0",
        "ovs-vsctl --may-exist add-br br0",
        "ovs-vsctl del-port nonesuch",
        "ovs-ofctl -O OpenFlow13 dump-flows br0",
        "ovs-ofctl -O OpenFlow13 dump-ports-desc br0",
        "ovs-ofctl -O OpenFlow13 show br0",
        "ovsdb-client list-dbs",
        "ovsdb-client list-tables",
        "ovsdb-client list-columns Open_vSwitch Port",
    ] {
        same(&ovs, line);
    }
    for flow in [
        "priority=500,icmp,actions=drop",
        "in_port=1,dl_vlan=10,actions=strip_vlan,output:2",
        "tcp,nw_dst=10.0.0.0/24,tp_dst=8080,actions=set_field:80->tcp_dst,NORMAL",
        "table=1,ipv6,ipv6_src=2001:db8::/32,idle_timeout=10,hard_timeout=30,actions=push_vlan:0x8100,set_field:4116->vlan_vid,resubmit(,2)",
        "arp,arp_op=1,actions=CONTROLLER:128,goto_table:3",
        "cookie=0x1234,priority=7,reg0=5,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],IN_PORT",
    ] {
        assert_eq!(
            ours(&format!("ovs-ofctl -O OpenFlow13 add-flow br0 {flow}")),
            "",
            "{flow}"
        );
    }
    let dumped = same(&ovs, "ovs-ofctl -O OpenFlow13 dump-flows br0").ok();
    assert_eq!(
        dumped.lines().filter(|l| l.contains("cookie=")).count(),
        7,
        "six and the one of the standalone bridge: {dumped}"
    );
    same(&ovs, "ovs-ofctl -O OpenFlow13 dump-flows br0 table=1");
    same(&ovs, "ovs-ofctl -O OpenFlow13 dump-aggregate br0 tcp");
    ours("ovs-ofctl -O OpenFlow13 del-flows br0 icmp");
    ours("ovs-ofctl -O OpenFlow13 --strict del-flows br0 priority=7,reg0=5");
    let dumped = same(&ovs, "ovs-ofctl -O OpenFlow13 dump-flows br0").ok();
    assert!(
        !dumped.contains("icmp") && !dumped.contains("reg0"),
        "{dumped}"
    );
    ours("ovs-vsctl del-br br0");
    assert_eq!(ovs.line(Tools::Stock, "ovs-vsctl list-br").ok(), "");
}

#[test]
fn our_controller_drives_open_vswitch() {
    need!(Root, Ovs);
    let ovs = OpenVswitch::start();
    let mut c = ovs.weir();
    c.args(["controller", "--run-dir"])
        .arg(&ovs.run_dir)
        .arg("--store")
        .arg(ovs.run_dir.join("controller.redb"));
    let _controller = Daemon::spawn(c, &ovs.run_dir.join("controller.log"));
    let stock = |line: &str| ovs.line(Tools::Stock, line).ok();
    stock(
        "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev -- set-fail-mode br0 secure -- set-controller br0 tcp:127.0.0.1:6653",
    );
    let guests: Vec<tests::netns::Namespace> = (1..=2)
        .map(|n| {
            let guest = tests::netns::Namespace::new();
            ovs.namespace.veth(&format!("p{n}"), &guest, "eth0");
            // The peer's userspace datapath does not fill in checksums that its ports leave open.
            guest
                .shell(&format!("ip addr add 10.0.0.{n}/24 dev eth0"))
                .ok();
            stock(&format!("ovs-vsctl add-port br0 p{n}"));
            guest
        })
        .collect();
    wait::until("the controller to be connected", || {
        stock("ovs-vsctl show").contains("is_connected: true")
    });
    wait::until("guests to ping", || {
        guests[0].shell("ping -n -c 1 -W 1 10.0.0.2").code == 0
    });
    let flows = stock("ovs-ofctl -O OpenFlow13 dump-flows br0");
    assert!(flows.contains("idle_timeout="), "{flows}");
}
