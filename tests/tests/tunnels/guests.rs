//! W7 and W8 with guests on vhost-user ports in place of namespaces: virtual machines where KVM can be used, else the same guest
//! program as processes.

use crate::hosts::{Way, two};
use tests::guest::Guest;
use tests::need;
use tests::peers::Peer;
use tests::tools::Tools;
use tests::wait;

/// What guests run as here; says so where they are no machines.
fn kind() -> &'static str {
    match Peer::Kvm.missing() {
        None => "kvm",
        Some(why) => {
            eprintln!("guests run as processes: {why}");
            "process"
        }
    }
}

fn walk(tunnel: &str, ways: [Way; 2]) {
    let weirs = two(ways, Tools::Weir);
    let [a, b] = [weirs[0].typed(Tools::Weir), weirs[1].typed(Tools::Weir)];
    let mut vm1 = Guest::start(&weirs[0], "vswitch", "vm1", 1, kind());
    let mut vm2 = Guest::start(&weirs[1], "vswitch", "vm2", 2, kind());
    assert!(!vm1.pings("10.0.0.2"), "without a tunnel");
    for (t, remote) in [(&a, 20), (&b, 10)] {
        t.ok(&format!(
            "ovs-vsctl add-port vswitch tun1 -- set interface tun1 type={tunnel} options:key=11 options:remote_ip=192.168.1.{remote}"
        ));
    }
    wait::until("the tunnel", || vm1.pings("10.0.0.2"));
    let all = vm2.ask("ping 10.0.0.1 count=50 interval=2", "ping-done");
    assert!(all.contains("received=50"), "{all}");
    b.ok("ovs-vsctl set interface tun1 options:key=12");
    assert!(!vm1.pings("10.0.0.2"), "wrong key");
    b.ok("ovs-vsctl set interface tun1 options:key=11");
    wait::until("the right key", || vm1.pings("10.0.0.2"));
}

#[test]
fn w7_vxlan_by_sockets() {
    need!(Root);
    walk("vxlan", [Way::Sockets; 2]);
}

#[test]
fn w7_vxlan_by_a_bridge() {
    need!(Root);
    walk("vxlan", [Way::Bridge; 2]);
}

#[test]
fn w8_gre_by_sockets() {
    need!(Root);
    walk("gre", [Way::Sockets; 2]);
}

#[test]
fn w8_gre_by_a_bridge() {
    need!(Root);
    walk("gre", [Way::Bridge; 2]);
}
