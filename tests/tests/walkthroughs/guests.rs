//! W1, W2, W3 and W15 with guests on vhost-user ports in place of namespaces: virtual machines where KVM can be used, else the same
//! guest program as processes.

use crate::lines;
use crate::w15_mac_move::place_of;
use tests::guest::Guest;
use tests::peers::Peer;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::{need, wait};

/// What guests run as here; says so where they are no machines.
pub(crate) fn kind() -> &'static str {
    match Peer::Kvm.missing() {
        None => "kvm",
        Some(why) => {
            eprintln!("guests run as processes: {why}");
            "process"
        }
    }
}

#[test]
fn w1_a_guest_and_its_host_ping_over_the_bridge_interface() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br vswitch001");
    let inside = weir.namespace.as_ref().unwrap();
    inside
        .shell("ip addr add 10.0.0.254/24 dev vswitch001 && ip link set vswitch001 up")
        .ok();
    let mut guest = Guest::start(&weir, "vswitch001", "vm001_vp01", 1, kind());
    assert!(guest.pings("10.0.0.254"), "guest to host");
    assert_eq!(
        inside.shell("ping -n -c 3 -i 0.2 -W 1 10.0.0.1").code,
        0,
        "host to guest"
    );
}

#[test]
fn w2_guests_are_listed_and_moved_by_one_command_each() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br old -- add-br vswitch001");
    let names = ["vm001", "vm002", "vm003"];
    let start = |bridge: &str| -> Vec<Guest> {
        (1..)
            .zip(names)
            .map(|(n, name)| Guest::start(&weir, bridge, name, n, kind()))
            .collect()
    };
    drop(start("old"));
    assert_eq!(
        t.ok("ovs-vsctl list-ports old"),
        "",
        "ports go with their guests"
    );
    let mut guests = start("vswitch001");
    assert_eq!(
        t.ok("ovs-vsctl list-ports vswitch001"),
        "vm001\nvm002\nvm003\n"
    );
    assert!(
        t.ok("ovs-vsctl show")
            .contains("        Port vm001\n            Interface vm001\n")
    );

    // Which port, bridge and MAC a guest has.
    let listing = t.ok("ovs-vm list");
    for g in &guests {
        let row = lines(&listing)
            .into_iter()
            .find(|l| l.contains(&g.mac))
            .unwrap_or_else(|| panic!("no {} in {listing}", g.mac))
            .to_owned();
        assert!(row.contains(&g.name) && row.contains("vswitch001"), "{row}");
    }
    assert!(guests[0].pings("10.0.0.2"));
    let fdb = t.ok("ovs-appctl fdb/show vswitch001");
    let entry = fdb
        .lines()
        .find(|l| l.contains("52:54:00:00:00:01"))
        .unwrap_or_else(|| panic!("{fdb}"));
    assert_eq!(
        entry.split_whitespace().nth(1),
        Some("0"),
        "VLAN 0: {entry}"
    );

    // Known unicast is not for the third guest.
    let before = received(&mut guests[2]);
    assert!(
        guests[0]
            .ask("ping 10.0.0.2 count=50 interval=2", "ping-done")
            .contains("received=50")
    );
    let seen = received(&mut guests[2]) - before;
    assert!(
        seen < 25,
        "the third guest saw {seen} frames of a conversation of 100"
    );
}

/// How many frames a guest has received.
fn received(g: &mut Guest) -> u64 {
    let stats = g.ask("stats", "stats");
    let count = stats.split("rx_packets=").nth(1).expect("a count");
    count.split(' ').next().unwrap().parse().unwrap()
}

/// All pairs, one after the other.
#[track_caller]
fn assert_pairs(guests: &mut [Guest], reachable: impl Fn(usize, usize) -> bool) {
    for a in 0..guests.len() {
        for b in a + 1..guests.len() {
            let address = guests[b].address.clone();
            assert_eq!(
                guests[a].pings(&address),
                reachable(a, b),
                "fed{} to fed{}",
                a + 1,
                b + 1
            );
        }
    }
}

fn set_tags(t: &Typed) {
    for (port, tag) in [("fed1", 10), ("fed2", 10), ("fed3", 20), ("fed4", 20)] {
        t.ok(&format!("ovs-vsctl set port {port} tag={tag}"));
    }
}

#[test]
fn w3_access_ports_keep_guests_apart() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br vswitch001");
    let mut guests: Vec<Guest> = (1..=4)
        .map(|n| Guest::start(&weir, "vswitch001", &format!("fed{n}"), n, kind()))
        .collect();
    assert_pairs(&mut guests, |_, _| true);
    set_tags(&t);
    let show = t.ok("ovs-vsctl show");
    assert_eq!(
        (
            show.matches("tag: 10").count(),
            show.matches("tag: 20").count()
        ),
        (2, 2),
        "{show}"
    );
    assert_pairs(&mut guests, |a, b| a / 2 == b / 2);
    // Who is asked for by ARP is asked for in the VLAN alone.
    let before: Vec<u64> = guests.iter_mut().map(received).collect();
    for n in 100..110 {
        guests[0].ask(
            &format!("ping 10.0.0.{n} count=1 interval=1 timeout=10"),
            "ping-done",
        );
    }
    wait::until("the broadcasts to arrive at fed2", || {
        received(&mut guests[1]) >= before[1] + 10
    });
    for other in [2, 3] {
        assert_eq!(
            received(&mut guests[other]),
            before[other],
            "fed{} is in the other VLAN",
            other + 1
        );
    }
    let fdb = t.ok("ovs-appctl fdb/show vswitch001");
    for (guest, vlan) in guests.iter().zip(["10", "10", "20", "20"]) {
        let entry = fdb
            .lines()
            .find(|l| l.contains(&guest.mac))
            .unwrap_or_else(|| panic!("no {} in {fdb}", guest.mac));
        assert_eq!(entry.split_whitespace().nth(1), Some(vlan), "{fdb}");
    }
    for port in ["fed1", "fed2", "fed3", "fed4"] {
        t.ok(&format!("ovs-vsctl clear port {port} tag"));
    }
    wait::until("the last pair to hear each other again", || {
        guests[0].pings("10.0.0.4")
    });
    assert_pairs(&mut guests, |_, _| true);
}

#[test]
fn w15_a_guest_moves_to_another_bridge_by_one_frame() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br vswitch001 -- add-br vswitch002");
    t.ok(
        "ovs-vsctl add-port vswitch001 to2 -- set interface to2 type=patch options:peer=to1 \
          -- add-port vswitch002 to1 -- set interface to1 type=patch options:peer=to2",
    );
    let mut other = Guest::start(&weir, "vswitch001", "p0", 1, kind());
    // The same guest in two places, as only other bridges have room for it: where it has no address it is silent.
    let mut places = [("vswitch001", "p1"), ("vswitch002", "p2")]
        .map(|(bridge, port)| Guest::start(&weir, bridge, port, 2, kind()));
    places[1].ask("ip 10.9.9.9", "ip");
    let numbers = ["p1", "to2"].map(|p| {
        let n = t.ok(&format!("ovs-vsctl get interface {p} ofport"));
        Some(n.trim().to_owned())
    });
    let mac = places[0].mac.clone();
    assert!(other.pings("10.0.0.2"), "before it moves");
    assert_eq!(place_of(&t, &mac), numbers[0]);
    for (turn, how) in ["rarp", "arp", "reply", "rarp"].into_iter().enumerate() {
        let (old, new) = (turn % 2, (turn + 1) % 2);
        places[old].ask("ip 10.9.9.9", "ip");
        places[new].ask("ip 10.0.0.2", "ip");
        assert_eq!(place_of(&t, &mac), numbers[old], "nothing was said yet");
        places[new].ask(&format!("announce {how}"), "announced");
        wait::until("the address to be where it was announced", || {
            place_of(&t, &mac) == numbers[new]
        });
        let before = received(&mut places[old]);
        let report = other.ask("ping 10.0.0.2 count=17 interval=5", "ping-done");
        assert!(report.contains("received=17"), "after {how}: {report}");
        let late = received(&mut places[old]) - before;
        assert!(late < 10, "{late} frames for where it was, after {how}");
    }
}
