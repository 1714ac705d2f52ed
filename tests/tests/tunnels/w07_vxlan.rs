//! W7: VXLAN.

use crate::hosts::{CARD, Way, inside, two};
use tests::capture::{self, Capture};
use tests::host::Host;
use tests::need;
use tests::tools::Tools;
use tests::wait;

fn walk(tools: Tools, ways: [Way; 2]) {
    let weirs = two(ways, tools);
    let [a, b] = [weirs[0].typed(tools), weirs[1].typed(tools)];
    let (vm1, vm2) = (
        Host::on_bridge(&a, "vswitch", "vm1", 1),
        Host::on_bridge(&b, "vswitch", "vm2", 2),
    );
    wait::until("the underlay to work", || {
        inside(&weirs[0])
            .shell("ping -n -c 1 -W 1 192.168.1.20")
            .code
            == 0
    });
    assert!(!vm1.pings("10.0.0.2"), "without a tunnel");

    let add = "ovs-vsctl add-port vswitch vxlan1 -- set interface vxlan1 type=vxlan options:key=11 options:remote_ip=";
    a.ok(&format!("{add}192.168.1.20"));
    b.ok(&format!("{add}192.168.1.10"));
    let show = a.ok("ovs-vsctl show");
    assert!(
        show.contains(
            "        Port vxlan1\n            Interface vxlan1\n                type: vxlan\n                \
             options: {key=\"11\", remote_ip=\"192.168.1.20\"}\n"
        ),
        "{show}"
    );

    // Both directions, the broadcasts of ARP with them.
    let under = Capture::start(inside(&weirs[0]), CARD, "udp", weirs[0].dir());
    let guest = Capture::start(&vm2.namespace, "eth0", "icmp", weirs[1].dir());
    wait::until("the first ping", || vm1.pings("10.0.0.2"));
    assert!(vm1.pings_all("10.0.0.2", 20), "vm1 to vm2");
    assert!(vm2.pings_all("10.0.0.1", 20), "vm2 to vm1");
    let answer = vm1.sh("ping -n -c 1 -W 2 10.0.0.2").ok();
    assert!(answer.contains("ttl=64"), "{answer}");
    let under = under.stop_after(20, "VXLAN, flags [I] (0x08), vni 11");
    capture::assert_well_formed(&under);
    let printed = capture::printed(&under);
    assert!(
        printed.contains("> 192.168.1.20.4789: VXLAN, flags [I] (0x08), vni 11"),
        "{printed}"
    );
    let guest = capture::printed(&guest.stop());
    assert!(
        !guest.contains("VXLAN") && guest.contains("10.0.0.1 > 10.0.0.2"),
        "{guest}"
    );

    // A wrong key stops everything; the right one brings it back.
    b.ok("ovs-vsctl set interface vxlan1 options:key=12");
    vm1.forget_neighbours();
    assert!(!vm1.pings("10.0.0.2"), "wrong key");
    b.ok("ovs-vsctl set interface vxlan1 options:key=11");
    wait::until("the right key", || vm1.pings("10.0.0.2"));

    // Without any key the VNI is 0.
    for t in [&a, &b] {
        t.ok("ovs-vsctl remove interface vxlan1 options key");
    }
    let under = Capture::start(inside(&weirs[0]), CARD, "udp", weirs[0].dir());
    wait::until("no key", || vm1.pings("10.0.0.2"));
    let under = under.stop_after(2, "VXLAN, flags [I] (0x08), vni 0");
    capture::assert_well_formed(&under);

    // An interface that is not there is not made by setting it.
    let ran = a.line("ovs-vsctl set interface vxlan2 type=vxlan options:remote_ip=192.168.1.20");
    assert_ne!(ran.code, 0);
    assert!(
        ran.stderr.contains("no row \"vxlan2\" in table Interface"),
        "{}",
        ran.stderr
    );
    assert_eq!(a.ok("ovs-vsctl list-ports vswitch"), "vm1\nvxlan1\n");
}

#[test]
fn by_sockets_with_stock_tools() {
    need!(Root, Ovs, Tcpdump, Tshark);
    walk(Tools::Stock, [Way::Sockets; 2]);
}

#[test]
fn by_sockets_with_weir_tools() {
    need!(Root, Tcpdump, Tshark);
    walk(Tools::Weir, [Way::Sockets; 2]);
}

#[test]
fn by_a_bridge_with_stock_tools() {
    need!(Root, Ovs, Tcpdump, Tshark);
    walk(Tools::Stock, [Way::Bridge; 2]);
}

#[test]
fn by_a_bridge_with_weir_tools() {
    need!(Root, Tcpdump, Tshark);
    walk(Tools::Weir, [Way::Bridge; 2]);
}

#[test]
fn by_a_bridge_on_one_side_only() {
    need!(Root, Tcpdump, Tshark);
    walk(Tools::Weir, [Way::Bridge, Way::Sockets]);
}

/// W7.7: what does not fit the underlay is told, or fragmented as configured; a larger underlay takes it.
fn sizes(way: Way) {
    let tools = Tools::Weir;
    let weirs = two([way; 2], tools);
    let [a, b] = [weirs[0].typed(tools), weirs[1].typed(tools)];
    let (vm1, _vm2) = (
        Host::on_bridge(&a, "vswitch", "vm1", 1),
        Host::on_bridge(&b, "vswitch", "vm2", 2),
    );
    for (t, remote) in [(&a, 20), (&b, 10)] {
        t.ok(&format!(
            "ovs-vsctl add-port vswitch vxlan1 -- set interface vxlan1 type=vxlan options:remote_ip=192.168.1.{remote}"
        ));
    }
    wait::until("the tunnel", || vm1.pings("10.0.0.2"));
    // 1500 bytes inside are 1550 outside: the sender is told by ICMP, and sends no more than fits.
    let big = "ping -n -M do -c 3 -i 0.2 -W 1 -s 1472 10.0.0.2";
    let ran = vm1.sh(big);
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        told.contains("mtu = 1450") || told.contains("mtu=1450"),
        "told of the size that fits: {told}"
    );
    let fits = vm1.sh("ping -n -M do -c 3 -i 0.2 -W 1 -s 1422 10.0.0.2");
    assert_eq!(fits.code, 0, "1450 bytes fit: {}", fits.stdout);
    // Fragmented outside.
    for t in [&a, &b] {
        t.ok("ovs-vsctl set interface vxlan1 options:df_default=false");
    }
    vm1.sh("ip route flush cache");
    wait::until("fragments", || vm1.sh(big).code == 0);
    // A larger underlay.
    for (t, weir) in [(&a, &weirs[0]), (&b, &weirs[1])] {
        t.ok("ovs-vsctl set interface vxlan1 options:df_default=true");
        inside(weir)
            .shell(&format!("ip link set {CARD} mtu 1600"))
            .ok();
        if way == Way::Bridge {
            t.ok("ovs-vsctl set interface br-under mtu_request=1600");
        }
    }
    vm1.sh("ip route flush cache");
    wait::until("a larger underlay", || vm1.sh(big).code == 0);
}

#[test]
fn sizes_by_sockets() {
    need!(Root);
    sizes(Way::Sockets);
}

#[test]
fn sizes_by_a_bridge() {
    need!(Root);
    sizes(Way::Bridge);
}
