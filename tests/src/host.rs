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
