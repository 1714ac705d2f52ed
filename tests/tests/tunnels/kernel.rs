//! VXLAN between weir and the kernel's vxlan device, both directions, over IPv4 and IPv6.

use crate::hosts::{CARD, Way, address, inside, join, prepare, underlay};
use tests::capture::{self, Capture};
use tests::host::Host;
use tests::need;
use tests::netns::Namespace;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

fn meet(way: Way, ipv6: bool) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    let kernel = Namespace::new();
    join(inside(&weir), &kernel);
    prepare(&t, way, 10);
    address(&kernel, CARD, 20);
    let (ours, theirs) = (underlay(10, ipv6), underlay(20, ipv6));
    kernel
        .shell(&format!(
            "ip link add vx0 type vxlan id 11 remote {ours} local {theirs} dstport 4789 dev {CARD} \
             && ip addr add 10.0.0.2/24 dev vx0 && ip link set vx0 mtu 1400 up"
        ))
        .ok();
    let vm1 = Host::on_bridge(&t, "vswitch", "vm1", 1);
    vm1.sh("ip link set eth0 mtu 1400").ok();
    t.ok(&format!(
        "ovs-vsctl add-port vswitch vxlan1 -- set interface vxlan1 type=vxlan options:key=11 options:remote_ip={theirs}"
    ));
    let under = Capture::start(&kernel, CARD, "udp port 4789", weir.dir());
    wait::until("the first ping", || vm1.pings("10.0.0.2"));
    assert!(vm1.pings_all("10.0.0.2", 20), "weir to the kernel");
    let back = kernel.shell("ping -n -c 20 -i 0.05 -W 2 10.0.0.1");
    assert!(
        back.stdout.contains(" 0% packet loss"),
        "the kernel to weir: {}",
        back.stdout
    );
    // As large as fits.
    let large = vm1.sh("ping -n -M do -s 1372 -c 3 -i 0.1 -W 2 10.0.0.2");
    assert!(large.stdout.contains(" 0% packet loss"), "{}", large.stdout);
    let under = under.stop_after(40, "vni 11");
    capture::assert_well_formed(&under);
}

#[test]
fn ipv4_by_sockets() {
    need!(Root, Tcpdump, Tshark, KernelVxlan);
    meet(Way::Sockets, false);
}

#[test]
fn ipv4_by_a_bridge() {
    need!(Root, Tcpdump, Tshark, KernelVxlan);
    meet(Way::Bridge, false);
}

#[test]
fn ipv6_by_sockets() {
    need!(Root, Tcpdump, Tshark, KernelVxlan);
    meet(Way::Sockets, true);
}

#[test]
fn ipv6_by_a_bridge() {
    need!(Root, Tcpdump, Tshark, KernelVxlan);
    meet(Way::Bridge, true);
}
