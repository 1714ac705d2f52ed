//! The built-in guest on /dev/kvm: the monitor's registers, interrupts and shared memory, with weir's switch as the backend.

use tests::guest::Guest;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::{need, wait};

fn two_guests(kind: &str) {
    let mut weir = Weir::start_here(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    t.ok("ovs-vsctl add-br br0");
    let mut a = Guest::start(&weir, "br0", "g1", 1, kind);
    let b = Guest::start(&weir, "br0", "g2", 2, kind);
    let listed = t.ok("ovs-vm list");
    assert!(
        listed.contains("g1") && listed.contains(&b.mac) && listed.contains("br0"),
        "{listed}"
    );
    let report = a.ask("ping 10.0.0.2 count=10 interval=20", "ping-done");
    assert!(report.contains("sent=10 received=10 lost=0"), "{report}");
    let fdb = t.ok("ovs-appctl fdb/show br0");
    assert!(fdb.contains(&a.mac) && fdb.contains(&b.mac), "{fdb}");

    // VLANs of the ports hold for guests too.
    t.ok("ovs-vsctl set port g1 tag=10 -- set port g2 tag=20");
    assert!(!a.pings("10.0.0.2"));
    t.ok("ovs-vsctl clear port g1 tag -- clear port g2 tag");
    assert!(a.pings("10.0.0.2"));

    // The switch dies and comes back; the guests do not notice but for the frames lost meanwhile.
    weir.kill();
    weir.spawn();
    wait::until("traffic to come back without a reboot", || {
        a.pings("10.0.0.2")
    });
    let report = a.ask("ping 10.0.0.2 count=10 interval=20", "ping-done");
    assert!(report.contains("received=10"), "{report}");
    drop((a, b));
    let t = weir.typed(Tools::Weir);
    wait::until("the ports to be gone with their guests", || {
        t.ok("ovs-vsctl list-ports br0").is_empty()
    });
}

#[test]
fn two_virtual_machines_ping_and_survive_the_switch() {
    need!(Kvm);
    two_guests("kvm");
}

#[test]
fn two_guest_processes_ping_and_survive_the_switch() {
    two_guests("process");
}
