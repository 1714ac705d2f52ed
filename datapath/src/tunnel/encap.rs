//! Putting a tunnel's headers before a packet.
//!
//! All that is the same for all packets of a flow is made once, when the flow is translated: an [`Encap`] is a template of bytes
//! and the few places in it that each packet fills in. To push it is one copy into the headroom and some 16-bit stores.
//!
//! # Work left to do
//!
//! A packet whose *checksum* is to be filled in keeps that: the place moves with it, and who sends the packet fills it in or passes it
//! on, as with any packet. An outer checksum does not need the payload then, either: what is summed from the inner transport
//! header on will come to the complement of the partial sum that lies there now (Linux calls it local checksum offload).
//!
//! A *large* packet (GSO) is cut before, by `segment::cut`, so that each segment gets outer headers of its
//! own, with its own identification and sequence number; its bytes stay where they are until they are sent. No virtio header
//! could say what an outer header is, so there is no later moment to cut at.
//!
//! # Threads
//!
//! An `Encap` is shared by all threads and only read, but for the sequence numbers of tunnels that have them: those are one
//! counter of the tunnel port.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use openflow::MacAddr;

use super::erspan::{self, Erspan, Version};
use super::geneve::{self, Geneve};
use super::gre::{self, Gre};
use super::gtpu::{self, Gtpu};
use super::outer::{self, Ip, PROTOCOL_GRE, PROTOCOL_UDP, Udp, put, put_long, udp, v4, v6, word};
use super::vxlan::Vxlan;
use super::{TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, TunnelKey, TunnelKind};
use crate::drop::DropReason;
use crate::packet::{Batch, Checksum, FRONT_MAX, Layers, Packet, checksum};

/// The range of UDP source ports that flows are spread over, `low << 16 | high`; `tnl/egress_port_range`.
static PORT_RANGE: AtomicU32 = AtomicU32::new(32768 << 16 | 61000);

/// UDP source ports of tunnels, from and to.
pub fn port_range() -> (u16, u16) {
    let range = PORT_RANGE.load(Ordering::Relaxed);
    ((range >> 16) as u16, range as u16)
}

/// Sets [`port_range`], in either order. Takes effect with the next packet.
pub fn set_port_range(a: u16, b: u16) {
    let range = u32::from(a.min(b)) << 16 | u32::from(a.max(b));
    PORT_RANGE.store(range, Ordering::Relaxed);
}

/// The sequence number of a tunnel port's next packet.
#[derive(Debug, Default)]
pub struct Sequence(AtomicU32);

/// What a forwarding thread fills into the headers it pushes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// Nanoseconds since some start.
    pub now: u64,
    /// IPv4 identification of the next packet that may be fragmented (those that must not have 0, RFC 6864 4.1). Let each thread
    /// begin elsewhere.
    pub id: u16,
}

/// What the headers of a flow's packets are to be.
#[derive(Clone, Debug)]
pub struct EncapSpec<'a> {
    /// The encapsulation.
    pub kind: TunnelKind,
    /// Ethernet source and destination of the underlay. None: the packet begins with the IP header, for a socket of the host.
    pub ethernet: Option<(MacAddr, MacAddr)>,
    /// Source, destination, id and all else that flows can set. A GRE key is there if [`TUN_KEY`] says so.
    pub key: &'a TunnelKey,
    /// Geneve options, as on the wire.
    pub options: &'a [u8],
    /// UDP destination port; of no meaning for GRE and ERSPAN.
    pub port: u16,
    /// With the group policy extension (VXLAN).
    pub gbp: bool,
    /// Bare packets inside: the Ethernet header is taken off.
    pub layer3: bool,
    /// Longest outer IP packet that the way out carries; 0 if that is not known.
    pub mtu: u32,
    /// The tunnel port's counter, for packets that are numbered (`seq`, always for ERSPAN).
    pub sequence: Option<Arc<Sequence>>,
}

/// Headers that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncapError {
    /// One outer address is IPv4, the other IPv6.
    #[error("Tunnel addresses {0} and {1} are not of one family")]
    Families(IpAddr, IpAddr),
    /// The key does not fit the header.
    #[error("Tunnel key {key:#x} is larger than {max:#x}, the largest of {kind:?}")]
    Key {
        /// The key.
        key: u64,
        /// The largest.
        max: u64,
        /// The encapsulation.
        kind: TunnelKind,
    },
    /// Neither 1 nor 2.
    #[error("ERSPAN version {0} is neither 1 nor 2")]
    ErspanVersion(u8),
    /// Options that are no options.
    #[error("Geneve options of {0} bytes are malformed or too long")]
    Options(usize),
}

/// Headers, ready to be put before packets.
#[derive(Clone, Debug)]
pub struct Encap {
    kind: TunnelKind,
    /// All headers; lengths, numbers and checksums zero.
    header: Box<[u8]>,
    /// Offset of the IP header.
    ip: u8,
    /// Offset of the UDP or GRE header.
    transport: u8,
    v6: bool,
    /// The transport header's checksum is filled in.
    csum: bool,
    /// Packets get an identification.
    numbered: bool,
    layer3: bool,
    mtu: u32,
    df: bool,
    dst: IpAddr,
    /// Offset of the sequence number, and where it comes from.
    sequence: Option<(u8, Arc<Sequence>)>,
    /// Offset of the timestamp.
    timestamp: Option<u8>,
    /// The sum of the IPv4 header without length and identification.
    ip_sum: u64,
    /// The sum of the pseudo header without length.
    pseudo: u64,
}

impl PartialEq for Encap {
    fn eq(&self, other: &Encap) -> bool {
        let counter = |e: &Encap| e.sequence.as_ref().map(|s| Arc::as_ptr(&s.1));
        self.kind == other.kind
            && self.header == other.header
            && self.layer3 == other.layer3
            && self.mtu == other.mtu
            && self.df == other.df
            && self.csum == other.csum
            && counter(self) == counter(other)
    }
}

impl Encap {
    /// Makes the template.
    pub fn new(spec: &EncapSpec) -> Result<Encap, EncapError> {
        let key = spec.key;
        if key.src.is_ipv4() != key.dst.is_ipv4() {
            return Err(EncapError::Families(key.src, key.dst));
        }
        let max = spec.kind.max_key();
        if key.id > max {
            return Err(EncapError::Key {
                key: key.id,
                max,
                kind: spec.kind,
            });
        }
        let mut h = [0; FRONT_MAX];
        let mut at = 0;
        let v6 = key.dst.is_ipv6();
        if let Some((src, dst)) = spec.ethernet {
            h[..6].copy_from_slice(&dst.0);
            h[6..12].copy_from_slice(&src.0);
            let eth_type = if v6 {
                outer::TYPE_IPV6
            } else {
                outer::TYPE_IPV4
            };
            put(&mut h, 12, eth_type);
            at = outer::ETHERNET;
        }
        let ip_at = at;
        let is_udp = spec.kind.udp_port().is_some();
        let ip = Ip {
            src: key.src,
            dst: key.dst,
            tos: key.tos,
            ttl: key.ttl,
            df: key.flags & TUN_DF != 0,
            protocol: if is_udp { PROTOCOL_UDP } else { PROTOCOL_GRE },
            payload: 0,
        };
        at += ip.emit(0, &mut h[at..]);
        // What each packet has of its own is not in the sums.
        let ip_sum = if v6 {
            0
        } else {
            put(&mut h, ip_at + v4::TOTAL.start, 0);
            put(&mut h, ip_at + v4::CHECKSUM.start, 0);
            checksum::add(0, &h[ip_at..at])
        };
        let transport = at;
        // As Open vSwitch: over IPv6 always (RFC 8200 8.1), GTP-U always, else if asked for.
        let asked = key.flags & TUN_CSUM != 0;
        let mut csum = asked || is_udp && v6 || spec.kind == TunnelKind::Gtpu;
        let mut sequence_at = None;
        let mut timestamp = None;
        if is_udp {
            let udp = Udp {
                src: 0,
                dst: spec.port,
                payload: 0,
                checksum: 0,
            };
            at += udp.emit(&mut h[at..]);
        }
        match spec.kind {
            TunnelKind::Vxlan => {
                let vxlan = Vxlan {
                    vni: key.id as u32,
                    gbp: spec.gbp.then_some((key.gbp_flags, key.gbp_id)),
                };
                at += vxlan.emit(&mut h[at..]);
            }
            TunnelKind::Geneve => {
                if !geneve::is_well_formed(spec.options) {
                    return Err(EncapError::Options(spec.options.len()));
                }
                let oam = key.flags & TUN_OAM != 0;
                at += Geneve::emit(key.id as u32, oam, spec.options, &mut h[at..]);
            }
            TunnelKind::Gtpu => {
                let numbered = spec.sequence.is_some();
                let flags = match key.gtpu_flags {
                    0 => gtpu::FLAGS,
                    // Extension headers are not written.
                    f => f & !4,
                } | if numbered { gtpu::SEQUENCE } else { 0 };
                let message = match key.gtpu_message {
                    0 => gtpu::USER_DATA,
                    m => m,
                };
                sequence_at = numbered.then_some(at + gtpu::LEN);
                at += Gtpu::emit(flags, message, key.id as u32, &mut h[at..]);
            }
            TunnelKind::Gre => {
                let gre = Gre {
                    protocol: gre::ETHERNET,
                    checksum: csum.then_some(0),
                    key: (key.flags & TUN_KEY != 0).then_some(key.id as u32),
                    sequence: spec.sequence.as_ref().map(|_| 0),
                };
                sequence_at = gre.sequence_at().map(|s| at + s);
                at += gre.emit(&mut h[at..]);
            }
            TunnelKind::Erspan => {
                csum = false;
                let version = match key.erspan_version {
                    1 => Version::One {
                        index: key.erspan_index,
                    },
                    2 => Version::Two {
                        direction: key.erspan_direction,
                        hardware: key.erspan_hwid,
                        subheader: false,
                    },
                    v => return Err(EncapError::ErspanVersion(v)),
                };
                let erspan = Erspan {
                    session: key.id as u16,
                    version,
                };
                let gre = Gre {
                    protocol: erspan.protocol(),
                    checksum: None,
                    key: None,
                    sequence: Some(0),
                };
                sequence_at = gre.sequence_at().map(|s| at + s);
                at += gre.emit(&mut h[at..]);
                if matches!(version, Version::Two { .. }) {
                    timestamp = Some((at + erspan::TIMESTAMP_AT) as u8);
                }
                at += erspan.emit(&mut h[at..]);
            }
        }
        let counter = || spec.sequence.clone().unwrap_or_default();
        Ok(Encap {
            kind: spec.kind,
            header: h[..at].into(),
            ip: ip_at as u8,
            transport: transport as u8,
            v6,
            csum,
            numbered: !v6 && !ip.df,
            layer3: spec.layer3,
            mtu: spec.mtu,
            df: ip.df,
            dst: key.dst,
            sequence: sequence_at.map(|at| (at as u8, counter())),
            timestamp,
            ip_sum,
            pseudo: ip.pseudo(0),
        })
    }

    /// The encapsulation.
    pub fn kind(&self) -> TunnelKind {
        self.kind
    }

    /// All headers as they are put before a packet; what each packet has of its own is zero.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Offset of the IP header: 14, or 0 without an Ethernet header.
    pub fn ip_offset(&self) -> usize {
        self.ip.into()
    }

    /// The UDP port it is sent to; 0 for kinds without.
    pub fn udp_port(&self) -> u16 {
        match self.kind.udp_port() {
            Some(_) => word(&self.header, usize::from(self.transport) + udp::DST.start),
            None => 0,
        }
    }

    /// Whether packets inside are bare.
    pub fn is_layer3(&self) -> bool {
        self.layer3
    }

    /// Whether the checksum of the UDP or GRE header is filled in.
    pub fn has_checksum(&self) -> bool {
        self.csum
    }

    /// Offset of the UDP or GRE header.
    pub fn transport_offset(&self) -> usize {
        self.transport.into()
    }

    /// Bytes that an inner frame (from its Ethernet header on) grows by to the outer IP packet.
    pub fn overhead(&self) -> usize {
        let ethernet = if self.layer3 { outer::ETHERNET } else { 0 };
        (self.header.len() - usize::from(self.ip)).saturating_sub(ethernet)
    }

    /// Longest outer IP packet that the way out carries; 0 if that is not known.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether the outer packet must not be fragmented (`df_default`), over IPv6 too.
    pub fn forbids_fragments(&self) -> bool {
        self.df
    }

    /// Outer destination.
    pub fn destination(&self) -> IpAddr {
        self.dst
    }

    /// Puts the headers before packet `i`, whose header offsets are known and which is no large one any more. What is left to do
    /// about its checksum stays to do. On an error the packet may be changed, and is to be dropped.
    pub fn push(&self, batch: &mut Batch, i: usize, stamp: &mut Stamp) -> Result<(), DropReason> {
        let p = batch.packet_mut(i);
        if p.offload.is_gso() {
            return Err(DropReason::TxError);
        }
        let is_udp = self.kind.udp_port().is_some();
        let entropy = if is_udp { entropy(p) } else { 0 };
        let mut protocol = gre::ETHERNET;
        if self.layer3 {
            protocol = ethernet_type(p).ok_or(DropReason::PacketType)?;
            p.pull_head(outer::ETHERNET);
            p.offload.shift(-(outer::ETHERNET as i16));
        }
        if !batch.push_front(i, &self.header) {
            return Err(DropReason::NoHeadroom);
        }
        let p = batch.packet_mut(i);
        p.offload.shift(self.header.len() as i16);
        let (ip, transport) = (usize::from(self.ip), usize::from(self.transport));
        let total = p.len() - ip;
        let length = p.len() - transport;
        if length > usize::from(u16::MAX) || total > usize::from(u16::MAX) && !self.v6 {
            return Err(DropReason::TxTooLong);
        }
        p.layers = Layers {
            eth_type: 12,
            l3: self.ip.into(),
            l4: self.transport.into(),
            ..p.layers
        };
        let h = p.head_mut();
        if self.v6 {
            put(h, ip + v6::PAYLOAD.start, length as u16);
        } else {
            let mut id = 0;
            if self.numbered {
                id = stamp.id;
                stamp.id = stamp.id.wrapping_add(1);
            }
            put(h, ip + v4::TOTAL.start, total as u16);
            put(h, ip + v4::ID.start, id);
            let sum = self.ip_sum + total as u64 + u64::from(id);
            put(h, ip + v4::CHECKSUM.start, !checksum::fold(sum));
        }
        if is_udp {
            let (low, high) = port_range();
            let spread = (u64::from(entropy) * u64::from(high - low)) >> 32;
            put(h, transport + udp::SRC.start, low + spread as u16);
            put(h, transport + udp::LENGTH.start, length as u16);
            if self.kind == TunnelKind::Gtpu {
                let length = length - outer::UDP - gtpu::LEN;
                put(h, transport + outer::UDP + gtpu::LENGTH_AT, length as u16);
            }
        } else if self.layer3 {
            put(h, transport + 2, protocol);
        }
        if let Some((at, counter)) = &self.sequence {
            let n = counter.0.fetch_add(1, Ordering::Relaxed);
            match self.kind {
                TunnelKind::Gtpu => put(h, usize::from(*at), n as u16),
                _ => put_long(h, usize::from(*at), n),
            }
        }
        if let Some(at) = self.timestamp {
            put_long(h, at.into(), (stamp.now / 100_000) as u32);
        }
        if self.csum {
            self.fill_checksum(batch, i, length);
        }
        Ok(())
    }

    /// The checksum of the transport header, which is zero now, and of the `length` bytes from it on.
    fn fill_checksum(&self, batch: &mut Batch, i: usize, length: usize) {
        let transport = usize::from(self.transport);
        let (sum, at) = match self.kind {
            TunnelKind::Gre => (0, transport + 4),
            _ => (self.pseudo + length as u64, transport + udp::CHECKSUM.start),
        };
        let sum = match batch.packet(i).offload.checksum {
            Checksum::Needed { start, offset } if usize::from(start) > transport => {
                let (start, offset) = (usize::from(start), usize::from(offset));
                // Behind long options it may not be in the head.
                let mut partial = [0; 2];
                batch.copy_out(i, start + offset, &mut partial);
                let rest = !u16::from_be_bytes(partial);
                let is_odd = (start - transport) % 2 != 0;
                let rest = if is_odd { rest.swap_bytes() } else { rest };
                batch.sum(i, transport, start - transport, sum) + u64::from(rest)
            }
            _ => batch.sum(i, transport, length, sum),
        };
        let sum = !checksum::fold(sum);
        let sum = if sum == 0 && self.kind != TunnelKind::Gre {
            0xffff
        } else {
            sum
        };
        put(batch.packet_mut(i).head_mut(), at, sum);
    }
}

/// The Ethernet type of an untagged frame.
fn ethernet_type(p: &Packet) -> Option<u16> {
    let h = p.head().get(..outer::ETHERNET)?;
    let eth_type = word(h, 12);
    (eth_type >= 0x600 && !matches!(eth_type, 0x8100 | 0x88a8)).then_some(eth_type)
}

/// A number that is the same for all packets of a connection: from addresses, protocol and ports, or from the Ethernet addresses. All
/// fragments of a datagram have the same, so it knows no ports if they are fragments.
#[inline]
fn entropy(p: &Packet) -> u32 {
    let h = p.head();
    let (l3, l4) = (usize::from(p.layers.l3), usize::from(p.layers.l4));
    let eight = |at: usize| h.get(at..at + 8).and_then(|b| b.first_chunk().copied());
    let number = |at: usize| u64::from_le_bytes(eight(at).unwrap_or_default());
    let ports = |protocol: u8| {
        let has = l4 != 0 && matches!(protocol, 6 | 17 | 132) && h.len() >= l4 + 4;
        if has {
            u64::from(outer::long(h, l4))
        } else {
            0
        }
    };
    let hash = match h.get(l3).map(|b| b >> 4) {
        Some(4) if l3 != 0 && h.len() >= l3 + outer::IPV4 => {
            let protocol = h[l3 + v4::PROTOCOL];
            let whole = word(h, l3 + v4::FRAGMENT.start) & !v4::DF == 0;
            let ports = if whole { ports(protocol) } else { 0 };
            fold(number(l3 + v4::SRC.start), ports << 8 | u64::from(protocol))
        }
        Some(6) if l3 != 0 && h.len() >= l3 + outer::IPV6 => {
            // Ports only right behind the header: extension headers may be those of fragments.
            let next = h[l3 + v6::NEXT];
            let sum = |at: usize| fold(number(at), number(at + 8));
            let addresses = sum(l3 + v6::SRC.start) ^ sum(l3 + v6::DST.start).rotate_left(17);
            fold(addresses, ports(next) << 8 | u64::from(next))
        }
        _ => fold(number(0), number(4)),
    };
    (hash >> 32) as u32
}

/// Two words to one (the multiplication that wyhash is built of).
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (product >> 64) as u64 ^ product as u64
}
