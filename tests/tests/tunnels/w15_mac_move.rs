//! W15: a host moves to another host's switch, across VXLAN, and back.

use crate::hosts::{Way, two};
use tests::host::Host;
use tests::need;
use tests::tools::{Tools, Typed};
use tests::wait;

/// The number of the port that an address is on.
fn place_of(t: &Typed, mac: &str) -> Option<String> {
    let fdb = t.ok("ovs-appctl fdb/show vswitch");
    let line = fdb.lines().find(|l| l.contains(mac))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn walk(tools: Tools, ways: [Way; 2]) {
    let weirs = two(ways, tools);
    let [a, b] = [weirs[0].typed(tools), weirs[1].typed(tools)];
    let add = "ovs-vsctl add-port vswitch vxlan1 -- set interface vxlan1 type=vxlan options:key=11 options:remote_ip=";
    a.ok(&format!("{add}192.168.1.20"));
    b.ok(&format!("{add}192.168.1.10"));
    let other = Host::on_bridge(&a, "vswitch", "p0", 1);
    let quiet = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1";
    other.sh(quiet).ok();
    // The same host on both; neither says anything by itself.
    let places = [(&a, "p1"), (&b, "p2")].map(|(t, port)| {
        let host = Host::on_bridge(t, "vswitch", port, 2);
        host.sh(&format!("{quiet} && ip addr flush dev eth0")).ok();
        host
    });
    let number = |port: &str| {
        let n = a.ok(&format!("ovs-vsctl get interface {port} ofport"));
        Some(n.trim().to_owned())
    };
    let numbers = [number("p1"), number("vxlan1")];
    let mac = places[0].mac.clone();
    // Across the tunnel first, so that it works by now; then at home.
    places[1].sh("ip addr add 10.0.0.2/24 dev eth0").ok();
    wait::until("the tunnel", || other.pings("10.0.0.2"));
    places[1].sh("ip addr flush dev eth0").ok();
    places[0].sh("ip addr add 10.0.0.2/24 dev eth0").ok();
    places[0].send(&places[0].announcements()[0].1);
    wait::until("the host at home", || place_of(&a, &mac) == numbers[0]);
    assert!(other.pings("10.0.0.2"), "before it moves");

    for (turn, (how, frame)) in places[0].announcements().iter().enumerate() {
        let (old, new) = (turn % 2, (turn + 1) % 2);
        places[old].sh("ip addr flush dev eth0").ok();
        places[new].sh("ip addr add 10.0.0.2/24 dev eth0").ok();
        assert_eq!(place_of(&a, &mac), numbers[old], "nothing was said yet");
        places[new].send(frame);
        wait::until("the address to be where it was announced", || {
            place_of(&a, &mac) == numbers[new]
        });
        assert!(
            other.pings_all("10.0.0.2", 17),
            "17 of 17 after {how} (turn {turn})"
        );
    }
}

#[test]
fn by_sockets() {
    need!(Root);
    walk(Tools::Weir, [Way::Sockets; 2]);
}

#[test]
fn by_bridges() {
    need!(Root);
    walk(Tools::Weir, [Way::Bridge; 2]);
}
