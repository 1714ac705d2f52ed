//! W1: an isolated bridge, and one with an uplink.

use crate::{lines, typed_twice};
use tests::host::Host;
use tests::netns::Namespace;
use tests::switch::Weir;
use tests::tools::Tools;

typed_twice!(walk);

fn walk(tools: Tools) {
    let mut weir = Weir::start(&["--no-controller"]);
    let outside = Namespace::new();
    weir.namespace
        .as_ref()
        .unwrap()
        .veth("phys0", &outside, "eth0");
    let t = weir.typed(tools);

    let show = t.ok("ovs-vsctl show");
    let fresh = lines(&show);
    assert_eq!(fresh.len(), 2, "{show}");
    assert_eq!(fresh[0].len(), 36, "a uuid: {show}");
    assert!(fresh[1].starts_with("ovs_version: \""), "{show}");
    let switch = fresh[0].to_owned();

    assert_eq!(t.ok("ovs-vsctl add-br vswitch001"), "");
    let show = t.ok("ovs-vsctl show");
    let expected = format!(
        "{switch}\n    Bridge vswitch001\n        Port vswitch001\n            Interface vswitch001\n                type: internal\n    {}\n",
        fresh[1]
    );
    assert_eq!(show, expected);
    assert_eq!(t.ok("ovs-vsctl list-br"), "vswitch001\n");
    assert_eq!(t.ok("ovs-vsctl list-ports vswitch001"), "");

    let inside = weir.namespace.as_ref().unwrap();
    let link = inside.shell("ip link show vswitch001").ok();
    assert!(
        link.contains("BROADCAST,MULTICAST") && link.contains("mtu 1500"),
        "{link}"
    );
    assert!(link.contains("state DOWN"), "created down: {link}");

    inside
        .shell("ip addr add 10.0.0.254/24 dev vswitch001 && ip link set vswitch001 up")
        .ok();
    let guest = Host::on_bridge(&t, "vswitch001", "vm001_vp01", 1);
    assert!(guest.pings("10.0.0.254"), "guest to host");
    assert_eq!(
        inside.shell("ping -n -c 3 -i 0.2 -W 1 10.0.0.1").code,
        0,
        "host to guest"
    );
    let leaked = inside
        .shell("cat /sys/class/net/phys0/statistics/tx_packets")
        .ok();
    let before: u64 = leaked.trim().parse().unwrap();
    assert!(guest.pings_all("10.0.0.254", 5));
    let after: u64 = inside
        .shell("cat /sys/class/net/phys0/statistics/tx_packets")
        .ok()
        .trim()
        .parse()
        .unwrap();
    // The kernel announces itself by IPv6 now and then; five pings would be five frames at least.
    assert!(
        after - before < 5,
        "{} frames left by an interface that is on no bridge",
        after - before
    );

    let error = t.line("ovs-vsctl add-br vswitch001").fails();
    assert!(error.contains("cannot create a bridge named vswitch001 because a bridge named vswitch001 already exists"), "{error}");
    assert_eq!(t.ok("ovs-vsctl list-br"), "vswitch001\n");

    let uuids = "ovs-vsctl --columns=_uuid,name list bridge -- --columns=_uuid,name list port -- --columns=_uuid,name list interface";
    let before = t.ok(uuids);
    assert!(weir.stop().success());
    weir.spawn();
    let t = weir.typed(tools);
    assert_eq!(t.ok(uuids), before, "the database after a restart");

    // The uplink form: the address moves from the interface to the bridge.
    let inside = weir.namespace.as_ref().unwrap();
    outside.shell("ip addr add 192.168.1.1/24 dev eth0").ok();
    inside.shell("ip addr add 192.168.1.10/24 dev phys0").ok();
    let gateway = "ping -n -c 3 -i 0.2 -W 1 192.168.1.1";
    assert_eq!(inside.shell(gateway).code, 0, "by the interface itself");
    t.ok("ovs-vsctl add-br vswitch002");
    t.ok("ovs-vsctl add-port vswitch002 phys0");
    inside
        .shell(
            "ip addr del 192.168.1.10/24 dev phys0 && ip addr add 192.168.1.10/24 dev vswitch002 \
             && ip link set vswitch002 up",
        )
        .ok();
    assert_eq!(inside.shell(gateway).code, 0, "by the bridge");
    assert!(!guest.pings("192.168.1.1"), "the other bridge is isolated");
    assert!(
        t.ok("ovs-vsctl show")
            .contains("        Port phys0\n            Interface phys0\n")
    );
}
