//! Two hosts with a link between them, the underlay.

use tests::netns::Namespace;
use tests::switch::Weir;
use tests::tools::Typed;

/// Where the underlay's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On the network card: tunnels go by the host's sockets.
    Sockets,
    /// On a bridge that has the network card as a port: the switch puts outer headers on by itself.
    Bridge,
}

/// The network card of each host.
pub const CARD: &str = "eth1";
/// The bridge it is on, if it is on one.
pub const UNDERLAY: &str = "br-under";

/// Addresses of a host on the underlay: 192.168.1.`number` and fd00:1::`number`.
pub fn underlay(number: u8, ipv6: bool) -> String {
    match ipv6 {
        false => format!("192.168.1.{number}"),
        true => format!("fd00:1::{number}"),
    }
}

/// Joins two hosts' network cards.
pub fn join(a: &Namespace, b: &Namespace) {
    a.veth(CARD, b, CARD);
    for host in [a, b] {
        // Captures are to show whole packets with their checksums.
        host.shell(&format!(
            "ethtool -K {CARD} tx off tso off gso off gro off >/dev/null 2>&1"
        ));
    }
}

/// Gives a device the underlay's addresses.
pub fn address(host: &Namespace, device: &str, number: u8) {
    host.shell(&format!(
        "ip addr add {}/24 dev {device} && ip addr add {}/64 dev {device} nodad && ip link set {device} up",
        underlay(number, false),
        underlay(number, true)
    ))
    .ok();
}

/// The namespace that a weir runs in.
pub fn inside(weir: &Weir) -> &Namespace {
    weir.namespace.as_ref().expect("in a namespace")
}

/// Makes weir's bridge `vswitch`, and puts the underlay's address where `way` says.
pub fn prepare(t: &Typed, way: Way, number: u8) {
    t.ok("ovs-vsctl add-br vswitch");
    let host = inside(t.weir);
    match way {
        Way::Sockets => address(host, CARD, number),
        Way::Bridge => {
            t.ok(&format!(
                "ovs-vsctl add-br {UNDERLAY} -- add-port {UNDERLAY} {CARD}"
            ));
            address(host, UNDERLAY, number);
        }
    }
}

/// Two weirs, 192.168.1.10 and 192.168.1.20, each with a bridge `vswitch`.
pub fn two(ways: [Way; 2], tools: tests::tools::Tools) -> [Weir; 2] {
    let weirs = [(); 2].map(|()| Weir::start(&["--no-controller"]));
    join(inside(&weirs[0]), inside(&weirs[1]));
    for ((weir, way), number) in weirs.iter().zip(ways).zip([10, 20]) {
        prepare(&weir.typed(tools), way, number);
    }
    weirs
}
