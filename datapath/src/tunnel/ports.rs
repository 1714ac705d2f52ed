//! Which tunnel port a packet came in by.
//!
//! The outer headers alone tell: what kind of tunnel, key, and the two addresses. A port may fix each of these or leave it to
//! flows, and the most specific port takes the packet. The order is Open vSwitch's (ovs-vswitchd.conf.db(5), "Tunnel Options"):
//! ports with a key of their own come before those with `in_key=flow`; of these, ports with a remote address of their own before
//! those with `remote_ip=flow`; and of these, ports with a local address before those without, and those before `local_ip=flow`. So a look-up
//! is at most twelve probes of a table, and happens once for each tunnel that a thread sees, not for each packet.

use super::{Given, TunnelKey, TunnelKind, TunnelSpec};
use crate::bridge::PortEntry;
use crate::port::tunnel::Endpoint;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// What packets are a port's: two ports cannot say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    kind: TunnelKind,
    /// UDP port, 0 for kinds without.
    port: u16,
    /// Bare IP packets are inside.
    layer3: bool,
    /// None: any.
    key: Option<u64>,
    /// None: any.
    remote: Option<IpAddr>,
    local: Local,
}

/// The local address that a port asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Local {
    This(IpAddr),
    Any,
    ByFlow,
}

impl Claim {
    /// Of a port.
    pub fn of(spec: &TunnelSpec) -> Claim {
        let fixed = |g| match g {
            Given::Fixed(v) => Some(v),
            Given::ByFlow => None,
        };
        Claim {
            kind: spec.kind,
            port: spec.port,
            layer3: spec.layer3,
            key: spec.in_key.map_or(Some(0), fixed),
            remote: match spec.remote {
                Given::Fixed(ip) => Some(ip),
                Given::ByFlow => None,
            },
            local: match spec.local {
                None => Local::Any,
                Some(Given::Fixed(ip)) => Local::This(ip),
                Some(Given::ByFlow) => Local::ByFlow,
            },
        }
    }
}

/// The tunnel ports of a datapath.
#[derive(Debug, Default)]
pub struct TunnelPorts {
    claims: HashMap<Claim, u32>,
    listening: BTreeMap<(TunnelKind, u16), usize>,
    /// Bridges' own interfaces, by name; looked for only if there are tunnels.
    interfaces: HashMap<String, u32>,
    /// Sockets of the host.
    sockets: Vec<(Endpoint, u32)>,
}

impl TunnelPorts {
    /// Those among `ports`. Of two with the same claim the one of the smaller index has it.
    pub fn new(ports: &[Option<Arc<PortEntry>>]) -> TunnelPorts {
        let mut t = TunnelPorts::default();
        for p in ports.iter().flatten() {
            if let Some(spec) = &p.tunnel {
                t.claims.entry(Claim::of(spec)).or_insert(p.index);
                *t.listening.entry((spec.kind, spec.port)).or_default() += 1;
            }
        }
        if t.is_empty() {
            return t;
        }
        for p in ports.iter().flatten() {
            if p.is_interface() {
                t.interfaces.insert(p.name().to_owned(), p.index);
            }
            if let Some(socket) = p.socket {
                t.sockets.push((socket, p.index));
            }
        }
        t
    }

    /// The port of a bridge that is an interface of the host, by its name.
    pub fn interface(&self, name: &str) -> Option<u32> {
        self.interfaces.get(name).copied()
    }

    /// The port of the host's socket by which a tunnel's packets leave.
    pub fn socket(&self, spec: &TunnelSpec, v6: bool) -> Option<u32> {
        let wanted = Endpoint::sender(spec, v6);
        let mut sockets = self.sockets.iter();
        sockets.find(|(s, _)| *s == wanted).map(|(_, index)| *index)
    }

    /// The socket behind a port.
    #[inline]
    pub fn socket_of(&self, port: u32) -> Option<Endpoint> {
        let mut sockets = self.sockets.iter();
        sockets.find(|(_, index)| *index == port).map(|(s, _)| *s)
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The port that has a claim.
    pub fn claimed(&self, claim: &Claim) -> Option<u32> {
        self.claims.get(claim).copied()
    }

    /// What is listened for: kinds and UDP ports (0 for kinds without), and how many tunnel ports each has.
    pub fn listening(&self) -> impl Iterator<Item = (TunnelKind, u16, usize)> + '_ {
        self.listening
            .iter()
            .map(|(&(kind, port), &n)| (kind, port, n))
    }

    /// The kind of tunnel that packets to a UDP port are of.
    pub fn by_udp_port(&self, port: u16) -> Option<TunnelKind> {
        let mut kinds = self.listening.keys();
        kinds
            .find(|(_, p)| *p == port && port != 0)
            .map(|(kind, _)| *kind)
    }

    /// Whether there are ports of kinds that are carried by GRE (IP protocol 47).
    pub fn has_gre(&self) -> bool {
        let kinds = [TunnelKind::Gre, TunnelKind::Erspan];
        kinds.iter().any(|k| self.listening.contains_key(&(*k, 0)))
    }

    /// The port that a packet received with these outer headers came in by.
    pub fn find(&self, kind: TunnelKind, port: u16, layer3: bool, key: &TunnelKey) -> Option<u32> {
        // The packet's destination is the port's local address.
        let local = [Local::This(key.dst), Local::Any, Local::ByFlow];
        for in_key in [Some(key.id), None] {
            for remote in [Some(key.src), None] {
                for local in local {
                    let claim = Claim {
                        kind,
                        port,
                        layer3,
                        key: in_key,
                        remote,
                        local,
                    };
                    if let Some(&index) = self.claims.get(&claim) {
                        return Some(index);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::testing::{key, spec};

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn the_most_specific_port_takes_a_packet() {
        let remote = |s| Given::Fixed(ip(s));
        let list = [
            (Some(Given::Fixed(5)), remote("10.0.0.2"), None),
            (
                Some(Given::Fixed(5)),
                Given::ByFlow,
                Some(remote("10.0.0.1")),
            ),
            (
                Some(Given::ByFlow),
                remote("10.0.0.2"),
                Some(remote("10.0.0.1")),
            ),
            (Some(Given::ByFlow), Given::ByFlow, None),
            (None, Given::ByFlow, None),
            (Some(Given::ByFlow), Given::ByFlow, Some(Given::ByFlow)),
        ];
        let mut t = TunnelPorts::default();
        for (n, (in_key, remote, local)) in list.into_iter().enumerate() {
            let spec = TunnelSpec {
                in_key,
                remote,
                local,
                ..spec(TunnelKind::Vxlan)
            };
            assert_eq!(t.claims.insert(Claim::of(&spec), n as u32), None);
        }
        let find = |t: &TunnelPorts, id, src, dst| {
            let k = TunnelKey {
                id,
                src: ip(src),
                dst: ip(dst),
                ..key()
            };
            t.find(TunnelKind::Vxlan, 4789, false, &k)
        };
        assert_eq!(
            find(&t, 5, "10.0.0.2", "10.0.0.1"),
            Some(0),
            "key, then remote"
        );
        assert_eq!(
            find(&t, 5, "10.0.0.3", "10.0.0.1"),
            Some(1),
            "key before remote"
        );
        assert_eq!(find(&t, 6, "10.0.0.2", "10.0.0.1"), Some(2));
        assert_eq!(
            find(&t, 6, "10.0.0.3", "10.0.0.9"),
            Some(3),
            "any before local_ip=flow"
        );
        assert_eq!(
            find(&t, 0, "10.0.0.3", "10.0.0.9"),
            Some(4),
            "no key is key 0"
        );
        t.claims.retain(|_, n| *n != 3);
        assert_eq!(find(&t, 6, "10.0.0.3", "10.0.0.9"), Some(5));
        assert_eq!(t.find(TunnelKind::Geneve, 6081, false, &key()), None);
        assert_eq!(t.find(TunnelKind::Vxlan, 4789, true, &key()), None);
    }
}
