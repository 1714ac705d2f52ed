//! W4: trunks, native VLANs, and watching the database. The guests are guest programs on vhost-user ports, which put
//! VLAN tags on by themselves: not every kernel that runs the tests has 802.1Q devices.

use crate::typed_twice;
use tests::guest::Guest;
use tests::process::Daemon;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

typed_twice!(walk);

/// Which of the six pairs ping, all guests on `vlan`.
#[track_caller]
fn assert_pairs(
    guests: &mut [Guest],
    vlan: Option<u16>,
    reachable: impl Fn(usize, usize) -> bool + Sync,
) {
    for g in guests.iter_mut() {
        g.set_vlan(vlan);
    }
    let addresses: Vec<String> = guests.iter().map(|g| g.address.clone()).collect();
    std::thread::scope(|s| {
        for (a, guest) in guests.iter_mut().enumerate() {
            let (addresses, reachable) = (&addresses, &reachable);
            s.spawn(move || {
                for (b, address) in addresses.iter().enumerate().skip(a + 1) {
                    let (from, to) = (a + 1, b + 1);
                    assert_eq!(
                        guest.pings(address),
                        reachable(a, b),
                        "fed{from} to fed{to} on VLAN {vlan:?}"
                    );
                }
            });
        }
    });
}

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    t.ok("ovs-vsctl add-br vswitch001");
    let mut guests: Vec<Guest> = (1..=4)
        .map(|n| Guest::start(&weir, "vswitch001", &format!("fed{n}"), n, "process"))
        .collect();
    assert_pairs(&mut guests, None, |_, _| true);
    for n in 1..=4 {
        t.ok(&format!("ovs-vsctl set port fed{n} trunks=20,30,40"));
    }
    let show = t.ok("ovs-vsctl show");
    for n in 1..=4 {
        assert!(show.contains(&format!("        Port fed{n}\n            trunks: [20, 30, 40]\n            Interface fed{n}\n")), "{show}");
    }

    let mut monitor = tools.command("ovsdb-client", &weir.run_dir, weir.namespace.as_ref());
    monitor.args(["monitor", "Port", "name,trunks"]);
    let monitor = Daemon::spawn(monitor, &weir.dir().join("monitor.log"));
    wait::until("the initial rows", || {
        monitor.output().matches("initial").count() == 5
    });
    let initial = monitor.output();
    assert!(
        initial.lines().any(|l| l.starts_with("row ")
            && l.contains(" action ")
            && l.contains(" name ")
            && l.trim_end().ends_with("trunks")),
        "{initial}"
    );
    assert!(
        initial.lines().any(|l| l.contains(" initial ")
            && l.contains("fed1")
            && l.trim_end().ends_with("[20, 30, 40]")),
        "{initial}"
    );
    assert!(
        initial.lines().any(|l| l.contains(" initial ")
            && l.contains("vswitch001")
            && l.trim_end().ends_with("[]")),
        "{initial}"
    );
    t.ok("ovs-vsctl set port fed4 trunks=20,30,40,60");
    wait::until("the change to be shown", || {
        let out = monitor.output();
        out.contains(" old ")
            && out
                .lines()
                .any(|l| l.contains(" new ") && l.contains("[20, 30, 40, 60]"))
    });
    t.ok("ovs-vsctl set port fed4 trunks=20,30,40");

    for vlan in [20, 30, 40] {
        assert_pairs(&mut guests, Some(vlan), |_, _| true);
    }
    assert_pairs(&mut guests, Some(50), |_, _| false);
    assert_pairs(&mut guests, None, |_, _| false);

    t.ok("ovs-vsctl set port fed1 vlan_mode=native-untagged");
    t.ok("ovs-vsctl set port fed2 vlan_mode=native-untagged");
    assert_pairs(&mut guests, None, |a, b| (a, b) == (0, 1));
    assert_pairs(&mut guests, Some(20), |_, _| true);

    t.ok("ovs-vsctl set port fed3 vlan_mode=trunk");
    let modes = t.ok("ovs-vsctl --format table --column=name,vlan_mode list port");
    let mode = |port: &str| {
        let line = modes
            .lines()
            .find(|l| l.split_whitespace().next() == Some(port));
        line.unwrap_or_else(|| panic!("no {port} in {modes}"))
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(mode("fed1"), "native-untagged");
    assert_eq!(mode("fed3"), "trunk");
    assert_eq!(mode("vswitch001"), "[]");

    // native-tagged: the native VLAN leaves tagged, so a guest that tags understands an access port of that VLAN.
    t.ok("ovs-vsctl set port fed1 vlan_mode=native-tagged tag=20");
    t.ok("ovs-vsctl clear port fed2 trunks -- set port fed2 vlan_mode=access tag=20");
    guests[0].set_vlan(Some(20));
    guests[1].set_vlan(None);
    assert!(
        guests[0].pings("10.0.0.2"),
        "tagged at fed1, untagged at fed2"
    );
    guests[0].set_vlan(None);
    assert!(
        !guests[0].pings("10.0.0.2"),
        "what comes back to fed1 is tagged"
    );

    // An access port drops what is tagged for another VLAN, and says so.
    guests[1].set_vlan(Some(30));
    assert!(!guests[1].pings("10.0.0.1"));
    wait::until("the drop to be counted", || {
        t.ok("ovs-vsctl get interface fed2 statistics")
            .contains("vlan_tag_on_access_port")
    });
}
