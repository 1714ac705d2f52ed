//! W2: guests move from a Linux bridge to a bridge of ours.

use crate::typed_twice;
use tests::host::Host;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

typed_twice!(walk);

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    let inside = weir.namespace.as_ref().unwrap();

    // Two guests on a Linux bridge, as they were.
    inside
        .shell("ip link add br0 type bridge && ip link set br0 up")
        .ok();
    let guests = [
        Host::new(&weir, "vm001_vp01", 1),
        Host::new(&weir, "vm002_vp01", 2),
    ];
    for g in &guests {
        inside
            .shell(&format!("ip link set {} master br0", g.port))
            .ok();
    }
    wait::until("the Linux bridge to forward", || {
        guests[0].pings("10.0.0.2")
    });

    t.ok("ovs-vsctl add-br vswitch001");
    for g in &guests {
        inside
            .shell(&format!("ip link set {} nomaster", g.port))
            .ok();
        t.ok(&format!("ovs-vsctl add-port vswitch001 {}", g.port));
    }
    assert!(
        t.ok("ovs-vsctl show")
            .contains("        Port vm001_vp01\n            Interface vm001_vp01\n")
    );
    assert_eq!(
        t.ok("ovs-vsctl list-ports vswitch001"),
        "vm001_vp01\nvm002_vp01\n"
    );
    assert_eq!(t.ok("ovs-vsctl port-to-br vm001_vp01"), "vswitch001\n");
    // No port waits in a listening state: the first ping already passes.
    assert!(guests[0].pings_all("10.0.0.2", 3));

    let fdb = t.ok("ovs-appctl fdb/show vswitch001");
    let ofport = t.ok("ovs-vsctl get interface vm001_vp01 ofport");
    let entry = fdb
        .lines()
        .find(|l| l.contains(&guests[0].mac))
        .unwrap_or_else(|| panic!("no {} in {fdb}", guests[0].mac));
    let words: Vec<&str> = entry.split_whitespace().collect();
    assert_eq!(
        words[..3],
        [ofport.trim(), "0", &guests[0].mac],
        "port, VLAN, MAC: {entry}"
    );
    assert!(
        words[3].parse::<u32>().is_ok_and(|age| age < 60),
        "an age: {entry}"
    );

    // Known unicast is not for a third guest.
    let third = Host::on_bridge(&t, "vswitch001", "vm003_vp01", 3);
    assert!(third.pings("10.0.0.1"), "the third guest is attached");
    let received = || -> u64 {
        third
            .sh("cat /sys/class/net/eth0/statistics/rx_packets")
            .ok()
            .trim()
            .parse()
            .unwrap()
    };
    assert!(guests[0].pings("10.0.0.2"), "both are known by now");
    let before = received();
    assert!(guests[0].pings_all("10.0.0.2", 50));
    let seen = received() - before;
    assert!(
        seen < 25,
        "the third guest saw {seen} frames of a conversation of 100"
    );
}
