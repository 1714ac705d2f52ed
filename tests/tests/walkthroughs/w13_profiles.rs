//! W13: ports get their settings by the name of a profile.

use crate::typed_twice;
use crate::w03_access_ports::{assert_pairs, four_guests};
use tests::guest::Guest;
use tests::need;
use tests::switch::Weir;
use tests::tools::{Tools, Typed};

typed_twice!(walk);

/// The profiles of the walkthrough.
fn define(weir: &Weir) {
    let w = weir.typed(Tools::Weir);
    w.ok("ovs-profile add novlan");
    w.ok("ovs-profile add vlan-finance tag=10");
    w.ok("ovs-profile add vlan-marketing trunks=20,30");
}

fn shows(t: &Typed, port: &str, setting: &str) {
    let show = t.ok("ovs-vsctl show");
    let block =
        format!("        Port {port}\n            {setting}\n            Interface {port}\n");
    assert!(show.contains(&block), "{show}");
}

fn walk(tools: Tools) {
    let mut weir = Weir::start(&["--no-controller"]);
    define(&weir);
    {
        let t = weir.typed(tools);
        let w = weir.typed(Tools::Weir);
        let guests = four_guests(&t);
        w.ok("ovs-profile apply vlan-finance fed1 fed2");
        w.ok("ovs-profile apply vlan-marketing fed3 fed4");
        shows(&t, "fed1", "tag: 10");
        shows(&t, "fed3", "trunks: [20, 30]");
        assert_pairs(&guests, |a, b| (a, b) == (0, 1));

        // The trunks carry their VLANs, and no others: here only where the kernel has VLAN devices, below with guests.
        let probe = "ip link add link eth0 name eth0.2 type vlan id 2 && ip link del eth0.2";
        let vlans: &[u16] = match guests[2].sh(probe).code {
            0 => &[20, 30, 40],
            _ => {
                eprintln!("SKIPPED the trunks of namespaces: the kernel has no VLAN devices");
                &[]
            }
        };
        for &vlan in vlans {
            for (n, guest) in guests.iter().enumerate().skip(2) {
                let device = format!("eth0.{vlan}");
                let address = format!("192.168.{vlan}.{}/24", n + 1);
                guest
                    .sh(&format!(
                        "ip link add link eth0 name {device} type vlan id {vlan} && ip addr add {address} dev {device} && ip link set {device} up"
                    ))
                    .ok();
            }
            assert_eq!(guests[2].pings(&format!("192.168.{vlan}.4")), vlan != 40);
        }

        // What a profile does not say is as if never set.
        t.ok("ovs-vsctl set port fed3 tag=5 vlan_mode=native-untagged -- set interface fed3 ingress_policing_rate=100");
        w.ok("ovs-profile apply novlan fed1 fed2 fed3 fed4");
        for (column, value) in [("tag", "[]"), ("trunks", "[]"), ("vlan_mode", "[]")] {
            assert_eq!(
                t.ok(&format!("ovs-vsctl get port fed3 {column}")).trim(),
                value
            );
        }
        assert_eq!(
            t.ok("ovs-vsctl get interface fed3 ingress_policing_rate")
                .trim(),
            "0"
        );
        assert_pairs(&guests, |_, _| true);

        let list = w.ok("ovs-profile list");
        assert!(
            list.lines()
                .any(|l| l.split_whitespace().eq(["vlan-finance", "tag=10"])),
            "{list}"
        );
        let json = w.ok("ovs-profile list --json");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json[0]["name"], "novlan");
        assert_eq!(
            json[0]["ports"],
            serde_json::json!(["fed1", "fed2", "fed3", "fed4"])
        );
        assert_eq!(json[2]["settings"]["trunks"], "20,30");

        for (line, why) in [
            (
                "ovs-profile add novlan",
                "there is a profile novlan already",
            ),
            ("ovs-profile add x tag=5000", "is not a VLAN"),
            (
                "ovs-profile apply nothing fed1",
                "there is no profile nothing, only novlan",
            ),
            ("ovs-profile apply novlan fed9", "there is no port fed9"),
            ("ovs-profile del nothing", "there is no profile nothing"),
        ] {
            let ran = w.line(line);
            assert!(
                ran.code == 1 && ran.stderr.contains(why),
                "{line}: {}",
                ran.stderr
            );
        }
    }
    // They outlive the switch.
    weir.stop();
    weir.spawn();
    let w = weir.typed(Tools::Weir);
    assert_eq!(w.ok("ovs-profile list").lines().count(), 4);
    w.ok("ovs-profile del vlan-finance");
    assert_eq!(w.ok("ovs-profile list").lines().count(), 3);
}

#[test]
fn guests_are_attached_by_profile() {
    need!(Root);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    define(&weir);
    t.ok("ovs-vsctl add-br vswitch001");
    let start = |port: &str, number, profile| {
        Guest::start_with(
            &weir,
            "vswitch001",
            port,
            number,
            crate::guests::kind(),
            &format!("--profile {profile}"),
        )
    };
    let mut fed1 = start("fed1", 1, "vlan-finance");
    let fed2 = start("fed2", 2, "vlan-finance");
    let mut fed3 = start("fed3", 3, "vlan-marketing");
    let mut fed4 = start("fed4", 4, "vlan-marketing");
    shows(&t, "fed1", "tag: 10");
    shows(&t, "fed3", "trunks: [20, 30]");
    assert!(fed1.pings(&fed2.address));
    assert!(!fed1.pings(&fed3.address));
    for vlan in [20, 30, 40] {
        fed3.set_vlan(Some(vlan));
        fed4.set_vlan(Some(vlan));
        assert_eq!(fed3.pings("10.0.0.4"), vlan != 40, "VLAN {vlan}");
    }
    let refused =
        t.line("ovs-vm run fed5 --bridge vswitch001 --port fed5 --profile nothing --detach");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("there is no profile nothing"),
        "{}",
        refused.stderr
    );
    assert!(!t.ok("ovs-vsctl show").contains("fed5"));
}
