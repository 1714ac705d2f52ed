//! W4: trunks, native VLANs, and watching the database.

use crate::typed_twice;
use crate::w03_access_ports::{assert_pairs, four_guests};
use tests::host::Host;
use tests::process::Daemon;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

typed_twice!(walk);

fn walk(tools: Tools) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(tools);
    let guests = four_guests(&t);
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
            && l.ends_with("name       trunks")),
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

    for g in &guests {
        let number = g.address.rsplit('.').next().unwrap();
        for vlan in [20, 30, 40, 50] {
            g.sh(&format!(
                "ip link add link eth0 name eth0.{vlan} type vlan id {vlan} && ip addr add 192.168.{vlan}.{number}/24 dev eth0.{vlan} && ip link set eth0.{vlan} up"
            ))
            .ok();
        }
        let config = g.sh("cat /proc/net/vlan/config").ok();
        assert!(
            config.contains("eth0.20") && config.contains("eth0.50"),
            "{config}"
        );
    }
    let reachable = |a: &Host, b: &Host, vlan: u32| {
        let number = b.address.rsplit('.').next().unwrap();
        a.pings(&format!("192.168.{vlan}.{number}"))
    };
    std::thread::scope(|s| {
        for a in 0..4 {
            for b in a + 1..4 {
                let (a, b) = (&guests[a], &guests[b]);
                s.spawn(move || {
                    for vlan in [20, 30, 40] {
                        assert!(
                            reachable(a, b, vlan),
                            "{} to {} on VLAN {vlan}",
                            a.port,
                            b.port
                        );
                    }
                    assert!(!reachable(a, b, 50), "VLAN 50 is on no trunk");
                });
            }
        }
    });
    assert_pairs(&guests, |_, _| false);

    t.ok("ovs-vsctl set port fed1 vlan_mode=native-untagged");
    t.ok("ovs-vsctl set port fed2 vlan_mode=native-untagged");
    assert_pairs(&guests, |a, b| (a, b) == (0, 1));
    assert!(
        reachable(&guests[0], &guests[2], 20),
        "tagged traffic still passes"
    );

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

    // native-tagged: the native VLAN leaves tagged.
    t.ok("ovs-vsctl set port fed1 vlan_mode=native-tagged tag=20");
    t.ok("ovs-vsctl set port fed2 vlan_mode=access tag=20 -- clear port fed2 trunks");
    guests.iter().for_each(Host::forget_neighbours);
    let tagged = |g: &Host| -> u64 {
        g.sh("cat /sys/class/net/eth0.20/statistics/rx_packets")
            .ok()
            .trim()
            .parse()
            .unwrap()
    };
    let before = tagged(&guests[0]);
    guests[1]
        .sh("ping -n -c 5 -i 0.05 -W 1 10.0.0.1; true")
        .ok();
    assert!(
        tagged(&guests[0]) > before,
        "untagged frames of the access port arrive tagged at the native-tagged port"
    );
}
