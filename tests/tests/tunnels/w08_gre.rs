//! W8: GRE.

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
    for (t, remote) in [(&a, 20), (&b, 10)] {
        t.ok(&format!(
            "ovs-vsctl add-port vswitch gre1 -- set interface gre1 type=gre options:remote_ip=192.168.1.{remote}"
        ));
    }
    let show = a.ok("ovs-vsctl show");
    assert!(
        show.contains(
            "                type: gre\n                options: {remote_ip=\"192.168.1.20\"}\n"
        ),
        "{show}"
    );
    let under = Capture::start(inside(&weirs[0]), CARD, "ip proto 47", weirs[0].dir());
    wait::until("the first ping", || vm1.pings("10.0.0.2"));
    assert!(vm1.pings_all("10.0.0.2", 20), "vm1 to vm2");
    assert!(vm2.pings_all("10.0.0.1", 20), "vm2 to vm1");
    let under = under.stop_after(20, "GREv0");
    capture::assert_well_formed(&under);
    let protocols = capture::fields(&under, "gre", &["gre.proto", "gre.key"]);
    assert!(
        !protocols.is_empty() && protocols.iter().all(|p| p == "0x6558,"),
        "{protocols:?}"
    );

    // With a key, which both must have.
    a.ok("ovs-vsctl set interface gre1 options:key=11");
    vm1.forget_neighbours();
    assert!(!vm1.pings("10.0.0.2"), "a key on one side only");
    b.ok("ovs-vsctl set interface gre1 options:key=11");
    let under = Capture::start(inside(&weirs[0]), CARD, "ip proto 47", weirs[0].dir());
    wait::until("the same key", || vm1.pings("10.0.0.2"));
    let under = under.stop_after(4, "key=0xb");
    capture::assert_well_formed(&under);
    let keys = capture::fields(&under, "icmp", &["gre.proto", "gre.key"]);
    assert!(keys.iter().all(|p| p == "0x6558,0x0000000b"), "{keys:?}");
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
