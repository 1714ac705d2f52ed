//! `ovs/route/...` and `tnl/...`: the same steps with weir and with Open vSwitch, and the same answers.

use tests::netns::Namespace;
use tests::ovs::OpenVswitch;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, wait};

/// Addresses and routes of the host (but none of what Open vSwitch 3.1 gets wrong: routes of several hops, which it leaves out, and
/// several to one network, of which it takes the last), with fixed Ethernet addresses so that outputs can be compared.
fn configure(host: &Namespace) {
    host.shell(
        "ip link add u0 type veth peer name u1 && ip link set u1 addrgenmode none && ip link set u0 addrgenmode none \
         && ip link set u0 address 52:54:00:00:00:01 && ip addr add 192.168.1.10/24 dev u0 \
         && ip addr add 2001:db8::10/64 dev u0 nodad && ip link set u0 up && ip link set u1 up \
         && ip route add default via 192.168.1.1 && ip route add 10.0.0.0/8 via 192.168.1.2 \
         && ip -6 route add 2001:db9::/32 via 2001:db8::1 && ip route add blackhole 10.66.0.0/16",
    )
    .ok();
}

/// An answer with its lines in order: tables are shown in the order of hashes by Open vSwitch.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

const ROUTES: &[&str] = &[
    "ovs/route/show",
    "ovs/route/lookup 10.1.1.1",
    "ovs/route/lookup 192.168.1.7",
    "ovs/route/lookup 192.168.1.10",
    "ovs/route/lookup 8.8.8.8",
    "ovs/route/lookup 2001:db8::77",
    "ovs/route/lookup 2001:db9::77",
    "ovs/route/lookup 2001:dba::1",
    "ovs/route/lookup 10.1.1.1/24",
    "ovs/route/lookup x",
    "ovs/route/lookup 10.1.1.1 mark=1",
    "ovs/route/add 1.1.1.0/24 u0",
    "ovs/route/add 1.1.1.0/24 nothing 192.168.1.5",
    "ovs/route/add 1.1.1.0/24 u0 192.168.1.5",
    "ovs/route/add 0.0.0.0/0 u0 192.168.1.6 pkt_mark=12",
    "ovs/route/add 3.3.3.0/255.255.255.0 u0 192.168.1.6",
    "ovs/route/add 4.4.4.4 u0 192.168.1.6",
    "ovs/route/add 2001:dbb::/64 u0 2001:db8::2",
    "ovs/route/add 5.5.5.5/33 u0",
    "ovs/route/add 5.5.5.5/24 u0 bad",
    "ovs/route/show",
    "ovs/route/lookup 1.1.1.1",
    "ovs/route/lookup 9.9.9.9",
    "ovs/route/lookup 9.9.9.9 pkt_mark=12",
    "ovs/route/del 1.1.1.0/24",
    "ovs/route/del 1.1.1.0/24",
    "ovs/route/del 0.0.0.0/0",
    "ovs/route/del 0.0.0.0/0 pkt_mark=12",
    "ovs/route/del 3.3.3.0/24 mark=1",
    "ovs/route/del x",
    "ovs/route/show",
    "tnl/neigh/show",
    "tnl/neigh/set br0 172.16.0.2 00:11:22:33:44:55",
    "tnl/arp/set br0 2001:db9::2 00:11:22:33:44:56",
    "tnl/neigh/set br0 x 00:11:22:33:44:56",
    "tnl/neigh/set br0 1.1.1.1 00:11:22:33:44",
    "tnl/neigh/show",
    "tnl/arp/show",
    "tnl/neigh/flush",
    "tnl/arp/show",
    "tnl/neigh/aging",
    "tnl/neigh/aging 3",
    "tnl/arp/aging",
    "tnl/neigh/aging 0",
    "tnl/neigh/aging 3601",
    "tnl/egress_port_range",
    "tnl/egress_port_range 40000 30000",
    "tnl/egress_port_range",
    "tnl/egress_port_range 0 70000",
    "tnl/egress_port_range 1000 70000",
    "tnl/egress_port_range 1000",
    "tnl/ports/show",
    "tnl/ports/show -v",
];

#[test]
fn answers_are_open_vswitch_s() {
    need!(Root, Ovs);
    let weir = Weir::start(&["--no-controller"]);
    let ovs = OpenVswitch::start();
    let t = weir.typed(Tools::Stock);
    for host in [weir.namespace.as_ref().unwrap(), &ovs.namespace] {
        configure(host);
    }
    let both = |line: &str| {
        let words = format!("ovs-appctl {line}");
        [t.line(&words), ovs.line(Tools::Stock, &words)]
    };
    // Each hears of the routes in its own time.
    wait::until("both to know the routes", || {
        both("ovs/route/show")
            .iter()
            .all(|r| r.stdout.contains("2001:db9::/32") && r.stdout.contains("10.0.0.0/8"))
    });
    let differ: Vec<String> = ROUTES
        .iter()
        .filter_map(|line| {
            let [ours, theirs] = both(line).map(|r| {
                let text = format!("{}\n{}\n{}", r.code, sorted(&r.stdout), r.stderr);
                text
            });
            (ours != theirs).then(|| format!("{line}\nweir: {ours}\nOpen vSwitch: {theirs}\n"))
        })
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn tunnels_are_shown_as_open_vswitch_shows_them() {
    need!(Root, Ovs);
    let weir = Weir::start(&["--no-controller"]);
    let ovs = OpenVswitch::start();
    let t = weir.typed(Tools::Stock);
    for host in [weir.namespace.as_ref().unwrap(), &ovs.namespace] {
        configure(host);
    }
    let both = |line: &str| [t.line(line), ovs.line(Tools::Stock, line)];
    both("ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev");
    let tunnels = [
        "vx type=vxlan options:remote_ip=172.16.0.2 options:key=1",
        "vy type=vxlan options:remote_ip=172.16.0.2 options:key=2 options:tos=inherit",
        "gn type=geneve options:remote_ip=flow options:key=flow",
        "gr type=gre options:remote_ip=172.16.0.2",
        "vz type=vxlan options:remote_ip=2001:db8::2 options:dst_port=8472",
        // Those that are refused, in the same words.
        "same type=vxlan options:remote_ip=172.16.0.2 options:key=1",
        "bare type=vxlan",
        "odd type=vxlan options:remote_ip=foo",
        "many type=vxlan options:remote_ip=224.0.0.1",
        "es type=erspan options:remote_ip=172.16.0.9 options:erspan_ver=7",
        "pp type=patch",
        "none type=nosuch",
        "missing type=system",
    ];
    for tunnel in tunnels {
        let name = tunnel.split(' ').next().unwrap();
        let line = format!("ovs-vsctl add-port br0 {name} -- set interface {tunnel}");
        let [ours, theirs] = both(&line).map(|r| r.stderr.lines().next().unwrap_or("").to_owned());
        assert_eq!(ours, theirs, "{line}");
        let error = format!("ovs-vsctl get interface {name} error");
        let [ours, theirs] = both(&error).map(|r| r.stdout);
        assert_eq!(ours, theirs, "{line}");
    }
    for line in ["ovs-appctl tnl/ports/show", "ovs-appctl tnl/ports/show -v"] {
        let numberless = |text: &str| -> Vec<String> {
            let mut lines: Vec<String> = text
                .lines()
                // Numbers of the datapath's ports are each switch's own.
                .map(|l| match (l.find(" ("), l.find(')')) {
                    (Some(a), Some(b)) => format!("{}{}", &l[..a], &l[b + 1..]),
                    _ => l.to_owned(),
                })
                .filter(|l| !l.contains("fe80"))
                .collect();
            lines.sort();
            lines
        };
        wait::until(line, || {
            let [ours, theirs] = both(line).map(|r| numberless(&r.stdout));
            if ours != theirs {
                eprintln!("weir: {ours:#?}\nOpen vSwitch: {theirs:#?}");
            }
            ours == theirs
        });
    }
    let status =
        |name: &str| format!("ovs-vsctl get interface {name} status link_state admin_state mtu");
    for name in ["vx", "gn", "gr", "vz", "same"] {
        wait::until(&format!("the status of {name}"), || {
            let [ours, theirs] = both(&status(name)).map(|r| r.stdout);
            ours == theirs
        });
    }
}
