//! W3: access ports keep VLANs apart.

use crate::typed_twice;
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};
use tests::wait;

typed_twice!(walk);

/// Four guests on `fed1` to `fed4` of `vswitch001`.
pub fn four_guests(t: &Typed) -> Vec<Host> {
    t.ok("ovs-vsctl add-br vswitch001");
    (1..=4)
        .map(|n| Host::on_bridge(t, "vswitch001", &format!("fed{n}"), n))
        .collect()
}

/// Checks which of the six pairs ping, both neighbours forgotten first.
#[track_caller]
pub fn assert_pairs(guests: &[Host], reachable: impl Fn(usize, usize) -> bool + Sync) {
    guests.iter().for_each(Host::forget_neighbours);
    std::thread::scope(|s| {
        for a in 0..guests.len() {
            for b in a + 1..guests.len() {
                let reachable = &reachable;
                s.spawn(move || {
                    assert_eq!(
                        guests[a].pings(&guests[b].address),
                        reachable(a, b),
                        "fed{} to fed{}",
                        a + 1,
                        b + 1
                    );
                });
            }
        }
    });
}

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    let guests = four_guests(&t);
    assert_pairs(&guests, |_, _| true);

    for (port, tag) in [("fed1", 10), ("fed2", 10), ("fed3", 20), ("fed4", 20)] {
        t.ok(&format!("ovs-vsctl set port {port} tag={tag}"));
    }
    let show = t.ok("ovs-vsctl show");
    for (port, tag) in [("fed1", 10), ("fed2", 10), ("fed3", 20), ("fed4", 20)] {
        assert!(
            show.contains(&format!(
                "        Port {port}\n            tag: {tag}\n            Interface {port}\n"
            )),
            "{show}"
        );
    }
    assert_pairs(&guests, |a, b| a / 2 == b / 2);

    // Broadcasts from fed1 reach fed2 alone.
    let received = |g: &Host| -> u64 {
        g.sh("cat /sys/class/net/eth0/statistics/rx_packets")
            .ok()
            .trim()
            .parse()
            .unwrap()
    };
    let before: Vec<u64> = guests.iter().map(received).collect();
    // Twenty addresses nobody has: each is asked for by ARP.
    guests[0].sh("for i in $(seq 100 119); do ping -n -c 1 -W 0.1 10.0.0.$i >/dev/null 2>&1 & done; wait").ok();
    wait::until("the broadcasts to arrive at fed2", || {
        received(&guests[1]) >= before[1] + 20
    });
    for other in [2, 3] {
        let seen = received(&guests[other]) - before[other];
        assert!(
            seen < 10,
            "fed{} in the other VLAN saw {seen} of 20 broadcasts",
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
    assert_pairs(&guests, |_, _| true);
}
