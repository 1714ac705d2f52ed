//! An os-ken controller in place of ours.

use std::path::Path;
use std::process::Command;
use tests::host::Host;
use tests::peers::python;
use tests::process::Daemon;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, wait};

#[test]
fn os_ken_programs_our_switch() {
    need!(Root, Ovs, OsKen);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Stock);
    let inside = weir.namespace.as_ref().unwrap();
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/learning_switch.py");
    let mut c: Command = inside.command(python("os-ken").unwrap());
    c.arg(app).arg("6653").env("PYTHONDONTWRITEBYTECODE", "1");
    let _manager = Daemon::spawn(c, &weir.dir().join("os-ken.log"));

    t.ok(
        "ovs-vsctl add-br br0 -- set-fail-mode br0 secure -- set-controller br0 tcp:127.0.0.1:6653",
    );
    let guests = [
        Host::on_bridge(&t, "br0", "p1", 1),
        Host::on_bridge(&t, "br0", "p2", 2),
    ];
    wait::until("os-ken to be connected", || {
        t.ok("ovs-vsctl show").contains("is_connected: true")
    });
    wait::until("the table-miss flow", || {
        t.ok("ovs-ofctl -O OpenFlow13 dump-flows br0")
            .contains("actions=CONTROLLER:65535")
    });
    wait::until("guests to ping", || guests[0].pings("10.0.0.2"));
    let flows = t.ok("ovs-ofctl -O OpenFlow13 dump-flows br0");
    assert!(
        flows.contains(&format!("dl_dst={} actions=output:", guests[1].mac)),
        "{flows}"
    );
    assert!(guests[0].pings_all("10.0.0.2", 10));
}

/// What os-ken is told in answer to all sorts of questions, in every version that it speaks.
#[test]
fn os_ken_is_answered_in_every_version() {
    need!(Root, Ovs, OsKen);
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Stock);
    let inside = weir.namespace.as_ref().unwrap();
    t.ok("ovs-vsctl add-br br0 -- set-fail-mode br0 secure");
    let all = ["features", "barrier"];
    let of_13 = ["desc", "ports", "port_desc", "groups 1", "meters 1"];
    let of_14 = [&of_13[..], &["tables 254", "monitor"]].concat();
    for (version, more) in [
        ("1.0", &["desc", "ports", "flows"][..]),
        ("1.2", &["stats"]),
        ("1.3", &of_13),
        ("1.4", &of_14),
        ("1.5", &of_14),
    ] {
        t.ok("ovs-ofctl -O OpenFlow13 del-groups br0");
        t.ok("ovs-ofctl -O OpenFlow13 del-meters br0");
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/every_version.py");
        let log = weir.dir().join(format!("os-ken-{version}.log"));
        let mut c: Command = inside.command(python("os-ken").unwrap());
        c.arg(app)
            .args(["6653", version])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let _manager = Daemon::spawn(c, &log);
        t.ok("ovs-vsctl set-controller br0 tcp:127.0.0.1:6653");
        let said = |what: &str| {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .lines()
                .any(|l| l.starts_with(what))
        };
        for what in all.iter().chain(more) {
            wait::until(&format!("{what} in {version}"), || said(what));
        }
        t.ok("ovs-ofctl packet-out br0 in_port=LOCAL,packet=ffffffffffff000000000001080045000014,actions=table");
        wait::until("the packet", || said("packet-in of 18 bytes"));
        t.ok("ovs-ofctl del-flows br0");
        if version != "1.0" {
            wait::until("the flow's end", || said("flow 0x77 removed"));
        }
        assert!(!said("error"), "{version}: a request was refused");
        t.ok("ovs-vsctl del-controller br0");
    }
}
