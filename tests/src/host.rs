//! Something that can ping and be pinged.

use crate::netns::Namespace;
use crate::process::Ran;
use crate::switch::Weir;
use crate::tools::Typed;

/// A namespace whose `eth0` is a veth: its other end, in weir's namespace, is a port of a bridge.
pub struct Host {
    /// The namespace.
    pub namespace: Namespace,
    /// The port's name.
    pub port: String,
    /// Its IPv4 address, without prefix length.
    pub address: String,
    /// The MAC address of `eth0`.
    pub mac: String,
}

impl Host {
    /// A host on `port` (a veth in weir's namespace, not yet on a bridge) with 10.0.0.`number`/24 and
    /// the MAC 52:54:00:00:00:`number`.
    pub fn new(weir: &Weir, port: &str, number: u8) -> Host {
        Host::beside(
            weir.namespace.as_ref().expect("weir in a namespace"),
            port,
            number,
        )
    }

    /// The same, with `port` in any namespace.
    pub fn beside(inside: &Namespace, port: &str, number: u8) -> Host {
        let namespace = Namespace::new();
        inside.veth(port, &namespace, "eth0");
        let host = Host {
            namespace,
            port: port.to_owned(),
            address: format!("10.0.0.{number}"),
            mac: format!("52:54:00:00:00:{number:02x}"),
        };
        host.sh(&format!(
            "ip link set eth0 address {} && ip addr add {}/24 dev eth0",
            host.mac, host.address
        ))
        .ok();
        host
    }

    /// The same, put on `bridge` by `typed`.
    pub fn on_bridge(typed: &Typed, bridge: &str, port: &str, number: u8) -> Host {
        let host = Host::new(typed.weir, port, number);
        typed.ok(&format!("ovs-vsctl add-port {bridge} {port}"));
        host
    }

    /// Runs a shell line in it.
    pub fn sh(&self, line: &str) -> Ran {
        self.namespace.shell(line)
    }

    /// Whether `address` answers at least one of three pings.
    pub fn pings(&self, address: &str) -> bool {
        self.sh(&format!(
            "ping -n -c 3 -i 0.2 -W 1 {address} | grep -q 'bytes from'"
        ))
        .code
            == 0
    }

    /// Whether `address` answers all of `count` pings.
    pub fn pings_all(&self, address: &str, count: u32) -> bool {
        self.sh(&format!(
            "ping -n -c {count} -i 0.05 -W 2 {address} | grep -q ' 0% packet loss'"
        ))
        .code
            == 0
    }

    /// Frames of 60 bytes by which it tells where it is, and what they are: gratuitous ARP as a request and as a reply
    /// (RFC 5227 3), and RARP, as hypervisors send it (RFC 903).
    pub fn announcements(&self) -> [(&'static str, Vec<u8>); 3] {
        let mac = self
            .mac
            .split(':')
            .map(|b| u8::from_str_radix(b, 16).expect("a MAC address"));
        let mac: Vec<u8> = mac.collect();
        let ip: std::net::Ipv4Addr = self.address.parse().expect("an IPv4 address");
        let frame = |kind: u16, op: u8, own: [u8; 4], target: (&[u8], [u8; 4])| {
            let mut f = [&[0xff; 6][..], &mac, &kind.to_be_bytes()].concat();
            f.extend([0, 1, 8, 0, 6, 4, 0, op]);
            f.extend([&mac[..], &own, target.0, &target.1].concat());
            f.resize(60, 0);
            f
        };
        let ip = ip.octets();
        [
            ("a request", frame(0x0806, 1, ip, (&[0; 6], ip))),
            ("a reply", frame(0x0806, 2, ip, (&mac, ip))),
            ("RARP", frame(0x8035, 3, [0; 4], (&mac, [0; 4]))),
        ]
    }

    /// Sends a frame, whole as it is.
    pub fn send(&self, frame: &[u8]) {
        use pnet::datalink::{self, Channel};
        self.namespace.enter(|| {
            let interfaces = datalink::interfaces();
            let eth0 = interfaces.iter().find(|i| i.name == "eth0").expect("eth0");
            let channel = datalink::channel(eth0, datalink::Config::default());
            let Ok(Channel::Ethernet(mut tx, _)) = channel else {
                panic!("a packet socket on eth0");
            };
            tx.send_to(frame, None).expect("room").expect("sent");
        });
    }

    /// Forgets whom it knows, so that the next ping asks by ARP.
    pub fn forget_neighbours(&self) {
        self.sh("ip neigh flush all").ok();
    }
}
