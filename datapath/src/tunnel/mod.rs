//! Tunnels: what the outer headers of a packet carry, and what a tunnel port asks of them.
//!
//! A tunnel port has no device of its own. A packet for it gets outer headers and leaves by the *underlay*: through a
//! bridge of ours whose own interface the route leads out of, in the forwarding thread, or else through a socket of the host
//! (one for each kind and port, shared by all tunnel ports). A packet comes the same ways: taken off a frame that was to reach the
//! host by a bridge's own interface, or received by a socket. Which tunnel port it came in by is told by its
//! [`TunnelKey`] alone.

pub mod ask;
pub mod decap;
pub mod encap;
pub mod erspan;
pub mod format;
pub(crate) mod fuzz;
pub mod geneve;
pub mod gre;
pub mod gtpu;
pub mod mtu;
pub mod options;
pub mod outer;
pub mod ports;
pub mod vxlan;

use std::net::IpAddr;

/// A kind of encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelKind {
    /// VXLAN (RFC 7348), with the group policy extension if asked for.
    Vxlan,
    /// GRE (RFC 2784, 2890): Ethernet frames, or bare IP packets.
    Gre,
    /// Geneve (RFC 8926).
    Geneve,
    /// ERSPAN (draft-foschiano-erspan), version 1 or 2, in GRE.
    Erspan,
    /// GTP-U (3GPP TS 29.281): bare IP packets.
    Gtpu,
}

impl TunnelKind {
    /// The port that UDP kinds use unless told otherwise; none for those that are protocols of IP themselves.
    pub const fn udp_port(self) -> Option<u16> {
        match self {
            TunnelKind::Vxlan => Some(4789),
            TunnelKind::Geneve => Some(6081),
            TunnelKind::Gtpu => Some(2152),
            TunnelKind::Gre | TunnelKind::Erspan => None,
        }
    }
}

/// What the outer headers of one packet say, as far as flows can match and set it: the tunnel part of a flow key
/// (`tun_id`, `tun_src`, ... of ovs-fields(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelKey {
    /// VNI, GRE key, TEID or session: 0 if there is none.
    pub id: u64,
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// Outer type of service (traffic class), with ECN.
    pub tos: u8,
    /// Outer time to live (hop limit).
    pub ttl: u8,
    /// `TUN_DF`, `TUN_CSUM`, `TUN_KEY`, `TUN_OAM`.
    pub flags: u16,
    /// VXLAN group policy: id.
    pub gbp_id: u16,
    /// VXLAN group policy: flags.
    pub gbp_flags: u8,
    /// ERSPAN: version, 0 if it is none.
    pub erspan_version: u8,
    /// ERSPAN version 1: index.
    pub erspan_index: u32,
    /// ERSPAN version 2: direction.
    pub erspan_direction: u8,
    /// ERSPAN version 2: hardware id.
    pub erspan_hwid: u8,
    /// GTP-U flags.
    pub gtpu_flags: u8,
    /// GTP-U message type, 255 for user data.
    pub gtpu_message: u8,
}

/// The outer IPv4 header forbids fragments.
pub const TUN_DF: u16 = 1 << 0;
/// The outer transport checksum is (to be) filled in.
pub const TUN_CSUM: u16 = 1 << 1;
/// There is a key, be it 0.
pub const TUN_KEY: u16 = 1 << 2;
/// Geneve's or VXLAN's bit for packets that are about the tunnel. The only one that flows can match (`tun_flags=oam`).
pub const TUN_OAM: u16 = 1 << 3;

/// Most bytes of Geneve options, 63 words of 4 (RFC 8926 3.4).
pub const OPTIONS_MAX: usize = 252;

/// Geneve options as they are on the wire: class, type, length, data, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options(pub Vec<u8>);

/// A value that a tunnel port fixes, or that flows give (`flow` in the database).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Given<T> {
    /// Always this.
    Fixed(T),
    /// What the flow says.
    ByFlow,
}

/// Where the outer TOS or TTL of packets sent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outer {
    /// This value.
    Fixed(u8),
    /// From the packet inside (`inherit`), if it is IP.
    Inherit,
}

/// A tunnel port as its interface's options describe it (ovs-vswitchd.conf.db(5), "Tunnel Options").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelSpec {
    /// The encapsulation.
    pub kind: TunnelKind,
    /// `remote_ip`.
    pub remote: Given<IpAddr>,
    /// `local_ip`; none leaves it to the route, and takes packets to any address of the host.
    pub local: Option<Given<IpAddr>>,
    /// `in_key` or `key`: which packets are this port's. None of it given: packets without a key or with key 0.
    pub in_key: Option<Given<u64>>,
    /// `out_key` or `key`.
    pub out_key: Option<Given<u64>>,
    /// `dst_port`: UDP port sent to and received on; 0 for kinds without.
    pub port: u16,
    /// `tos`.
    pub tos: Outer,
    /// `ttl`; 64 unless given.
    pub ttl: Outer,
    /// `df_default`; true unless given.
    pub df: bool,
    /// `csum`.
    pub csum: bool,
    /// `exts=gbp`.
    pub gbp: bool,
    /// `packet_type`, and what GRE's `legacy_l3` and GTP-U imply: whether packets inside are bare IP packets.
    pub layer3: bool,
    /// `seq`: GRE packets are numbered.
    pub sequence: bool,
    /// `egress_pkt_mark`.
    pub egress_mark: u32,
    /// `erspan_ver`: 1 or 2, or by flow.
    pub erspan_version: Option<Given<u8>>,
    /// `erspan_idx`.
    pub erspan_index: Option<Given<u32>>,
    /// `erspan_dir`.
    pub erspan_direction: Option<Given<u8>>,
    /// `erspan_hwid`.
    pub erspan_hwid: Option<Given<u8>>,
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    //! Specs and keys for tests.

    use super::*;
    use crate::bridge::PortEntry;
    use std::sync::Arc;

    /// A port of a kind that fixes nothing but its remote address, 10.0.0.2.
    pub(crate) fn spec(kind: TunnelKind) -> TunnelSpec {
        TunnelSpec {
            kind,
            remote: Given::Fixed(IpAddr::from([10, 0, 0, 2])),
            local: None,
            in_key: None,
            out_key: None,
            port: kind.udp_port().unwrap_or(0),
            tos: Outer::Fixed(0),
            ttl: Outer::Fixed(64),
            df: true,
            csum: false,
            gbp: false,
            layer3: false,
            sequence: false,
            egress_mark: 0,
            erspan_version: None,
            erspan_index: None,
            erspan_direction: None,
            erspan_hwid: None,
        }
    }

    /// A tunnel port of bridge 0.
    pub(crate) fn entry(index: u32, spec: TunnelSpec) -> Arc<PortEntry> {
        Arc::new(PortEntry {
            index,
            bridge: 0,
            number: openflow::PortNo(index + 1),
            spec: crate::config::PortSpec::default(),
            flags: openflow::PortFlags::default(),
            patch: None,
            tunnel: Some(Arc::new(spec)),
            sequence: None,
            socket: None,
            device: None,
            counters: Arc::default(),
            ingress: None,
            shaper: None,
            created: Default::default(),
        })
    }

    /// A packet from 10.0.0.2 to 10.0.0.1 without a key.
    pub(crate) fn key() -> TunnelKey {
        TunnelKey {
            id: 0,
            src: IpAddr::from([10, 0, 0, 2]),
            dst: IpAddr::from([10, 0, 0, 1]),
            tos: 0,
            ttl: 64,
            flags: 0,
            gbp_id: 0,
            gbp_flags: 0,
            erspan_version: 0,
            erspan_index: 0,
            erspan_direction: 0,
            erspan_hwid: 0,
            gtpu_flags: 0,
            gtpu_message: 0,
        }
    }
}
