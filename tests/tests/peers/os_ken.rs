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
