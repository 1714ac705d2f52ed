//! Tunnels of each kind between weir and Open vSwitch in userspace, both directions, over IPv4 and IPv6; and that what both send is
//! the same, byte for byte.

use crate::hosts::{CARD, UNDERLAY, Way, address, inside, join, prepare, underlay};
use std::path::Path;
use tests::capture::{self, Capture};
use tests::host::Host;
use tests::need;
use tests::ovs::OpenVswitch;
use tests::switch::Weir;
use tests::tools::Tools;
use tests::wait;

/// A kind of tunnel: interface type, further options, the display filter for its packets.
struct Kind {
    kind: &'static str,
    options: &'static str,
    filter: &'static str,
}

const VXLAN: Kind = Kind {
    kind: "vxlan",
    options: "options:key=11",
    filter: "vxlan",
};
const GRE: Kind = Kind {
    kind: "gre",
    options: "options:key=11",
    filter: "gre",
};
const GENEVE: Kind = Kind {
    kind: "geneve",
    options: "options:key=11",
    filter: "geneve",
};
const ERSPAN_1: Kind = Kind {
    kind: "erspan",
    options: "options:key=11 options:erspan_ver=1 options:erspan_idx=7",
    filter: "erspan",
};
const ERSPAN_2: Kind = Kind {
    kind: "erspan",
    options: "options:key=11 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=7",
    filter: "erspan",
};

fn meet(kind: &Kind, way: Way, ipv6: bool) {
    let weir = Weir::start(&["--no-controller"]);
    let t = weir.typed(Tools::Weir);
    let ovs = OpenVswitch::start();
    let theirs = |line: &str| ovs.line(Tools::Stock, line).ok();
    join(inside(&weir), &ovs.namespace);
    prepare(&t, way, 10);
    for bridge in ["vswitch", UNDERLAY] {
        theirs(&format!(
            "ovs-vsctl add-br {bridge} -- set bridge {bridge} datapath_type=netdev"
        ));
    }
    theirs(&format!("ovs-vsctl add-port {UNDERLAY} {CARD}"));
    address(&ovs.namespace, UNDERLAY, 20);

    let vm1 = Host::on_bridge(&t, "vswitch", "vm1", 1);
    let vm2 = Host::beside(&ovs.namespace, "vm2", 2);
    theirs("ovs-vsctl add-port vswitch vm2");
    for vm in [&vm1, &vm2] {
        // Open vSwitch neither fragments nor tells of what does not fit, and wants checksums to be there.
        vm.sh("ip link set eth0 mtu 1400; ethtool -K eth0 tx off >/dev/null 2>&1");
    }
    // Which of the two types a family has.
    let type_ = match (kind.kind, ipv6) {
        (name @ ("gre" | "erspan"), true) => format!("ip6{name}"),
        (name, _) => name.to_owned(),
    };
    let add = |remote: u8| {
        format!(
            "ovs-vsctl add-port vswitch tun1 -- set interface tun1 type={type_} {} options:remote_ip={}",
            kind.options,
            underlay(remote, ipv6)
        )
    };
    t.ok(&add(20));
    theirs(&add(10));
    let under = Capture::start(inside(&weir), CARD, "not arp", weir.dir());
    wait::until("the first ping", || vm1.pings("10.0.0.2"));
    assert!(vm1.pings_all("10.0.0.2", 20), "weir to Open vSwitch");
    assert!(vm2.pings_all("10.0.0.1", 20), "Open vSwitch to weir");
    let under = under.stop();
    capture::assert_well_formed(&under);
    let tunnelled = capture::fields(&under, kind.filter, &["frame.number"]);
    assert!(
        tunnelled.len() >= 80,
        "{} packets in the tunnel",
        tunnelled.len()
    );
    same_bytes(kind, &under, ipv6);
}

/// The headers that both put around ICMP are the same but for what must differ: addresses, checksums, numbers and times.
fn same_bytes(kind: &Kind, file: &Path, ipv6: bool) {
    let outer = |number: u8| match ipv6 {
        false => format!("ip.src=={}", underlay(number, false)),
        true => format!("ipv6.src=={}", underlay(number, true)),
    };
    let of = |number: u8| {
        let filter = format!("{} && icmp && {}", outer(number), kind.filter);
        capture::bytes(file, &filter)
    };
    let (ours, theirs) = (of(10), of(20));
    assert!(!ours.is_empty() && !theirs.is_empty());
    // Behind Ethernet: everything up to the frame inside.
    let masked = |packet: &[u8]| {
        let ip = if ipv6 { 40 } else { 20 };
        let (mut p, inner) = (packet[14..].to_vec(), inside_at(kind, packet, 14 + ip) - 14);
        p.truncate(inner);
        if ipv6 {
            // Flow label and addresses.
            p[1..4].fill(0);
            p[8..40].fill(0);
        } else {
            // Identification, checksum and addresses.
            p[4..6].fill(0);
            p[10..20].fill(0);
        }
        match kind.kind {
            "gre" => {}
            // Sequence number; time of version 2.
            "erspan" => {
                p[ip + 4..ip + 8].fill(0);
                p[ip + 12..ip + 16].fill(0);
            }
            // Source port, and IPv6's checksum.
            _ => {
                p[ip..ip + 2].fill(0);
                if ipv6 {
                    p[ip + 6..ip + 8].fill(0);
                }
            }
        }
        p
    };
    assert_eq!(
        masked(&ours[0]),
        masked(&theirs[0]),
        "headers of weir and of Open vSwitch"
    );
}

/// Where the frame inside begins.
fn inside_at(kind: &Kind, packet: &[u8], outer: usize) -> usize {
    outer
        + match kind.kind {
            "vxlan" => 16,
            "geneve" => 16 + usize::from(packet[outer + 8] & 0x3f) * 4,
            "gre" => 8,
            // GRE with a sequence number, and version 1's or 2's header.
            _ => {
                8 + if kind.options.contains("ver=1") {
                    8
                } else {
                    12
                }
            }
        }
}

macro_rules! meetings {
    ($($name:ident: $kind:ident;)+) => {
        $(mod $name {
            use super::*;

            #[test]
            fn ipv4_by_sockets() {
                need!(Root, Ovs, Tcpdump, Tshark);
                meet(&$kind, Way::Sockets, false);
            }

            #[test]
            fn ipv4_by_a_bridge() {
                need!(Root, Ovs, Tcpdump, Tshark);
                meet(&$kind, Way::Bridge, false);
            }

            #[test]
            fn ipv6_by_sockets() {
                need!(Root, Ovs, Tcpdump, Tshark);
                meet(&$kind, Way::Sockets, true);
            }

            #[test]
            fn ipv6_by_a_bridge() {
                need!(Root, Ovs, Tcpdump, Tshark);
                meet(&$kind, Way::Bridge, true);
            }
        })+
    };
}

meetings! {
    vxlan: VXLAN;
    gre: GRE;
    geneve: GENEVE;
    erspan_1: ERSPAN_1;
    erspan_2: ERSPAN_2;
}
