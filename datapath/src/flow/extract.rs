//! From a packet's head to its flow key.
//!
//! Extraction writes only the words a packet of its kind has, and returns how many: the key's
//! prefix. The common case, untagged IPv4 without options, not a fragment, is one function of fixed offsets behind
//! one length check. Everything else goes through the general walk, which checks lengths as
//! `miniflow_extract` of Open vSwitch does: a header whose lengths do not fit the packet leaves its
//! fields zero, and the packet is still forwarded by what is known of it.
//!
//! Nothing is read beyond the head. A header that begins in the borrowed part of a packet
//! (behind 192 bytes of other headers) counts as absent.

use super::key::PACKET_WORDS;
use crate::packet::{Layers, Packet};

/// Tag present, in a tag control information of a key.
pub(crate) const TCI_PRESENT: u64 = 0x1000;
/// `eth_type` of a frame with a length instead, or with an unknown LLC (Open vSwitch's number).
pub(crate) const ETH_TYPE_NONE: u64 = 0x05ff;

const FRAG_ANY: u64 = 1;
const FRAG_LATER: u64 = 2;
const IPV6_FRAGMENT: u8 = 44;

/// Most VLAN tags that a key tells of.
pub const TAGS_PARSED: u8 = 2;

/// Fills in the key of `packet` that came in by `port`, and the packet's header offsets. Returns
/// how many words it has; words beyond are not written. No more than `tag_limit` VLAN tags are looked at (at most
/// [`TAGS_PARSED`]); what is behind them is payload.
#[inline]
pub fn extract(
    packet: &mut Packet,
    port: u32,
    tag_limit: u8,
    out: &mut [u64; PACKET_WORDS],
) -> usize {
    out[0] = u64::from(port) << 32;
    let total = packet.len();
    let head = packet.head();
    // Untagged IPv4, header of 20 bytes, not a fragment, TCP or UDP.
    if let Some(h) = head.first_chunk::<42>()
        && h[12] == 8
        && h[13] == 0
        && h[14] == 0x45
        && be16(h, 20) & 0x3fff == 0
    {
        let ip_total = usize::from(be16(h, 16));
        let proto = h[23];
        if ip_total >= 28 && ip_total <= total - 14 && total - 14 - ip_total <= 255 {
            let is_tcp = proto == 6 && ip_total >= 40 && head.len() >= 54;
            if is_tcp || proto == 17 {
                out[1] = be64(h, 0) & !0xffff | 0x0800;
                out[2] = be64(h, 6) & !0xffff;
                out[3] = be64(h, 26);
                out[4] = u64::from(proto) << 56
                    | u64::from(h[15]) << 48
                    | u64::from(h[22]) << 40
                    | u64::from(be32(h, 34));
                packet.layers = Layers {
                    eth_type: 12,
                    l3: 14,
                    l4: 34,
                    tag_limit,
                };
                if !is_tcp {
                    return 5;
                }
                out[5] = u64::from(be16(packet.head(), 46) & 0x0fff) << 16;
                return 6;
            }
        }
    }
    general(packet, tag_limit, out)
}

struct Walk<'a> {
    head: &'a [u8],
    /// End of what the headers say there is, never beyond the packet.
    end: usize,
    at: usize,
}

impl<'a> Walk<'a> {
    /// The next `n` bytes, if the packet and its head have them; moves behind them.
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let b = self.peek(n)?;
        self.at += n;
        Some(b)
    }

    fn peek(&self, n: usize) -> Option<&'a [u8]> {
        if self.at + n > self.end {
            return None;
        }
        self.head.get(self.at..self.at + n)
    }

    fn left(&self) -> usize {
        self.end - self.at
    }
}

#[inline(never)]
fn general(packet: &mut Packet, tag_limit: u8, out: &mut [u64; PACKET_WORDS]) -> usize {
    out[1..].fill(0);
    let mut layers = Layers {
        tag_limit,
        ..Layers::default()
    };
    let mut walk = Walk {
        head: packet.head(),
        end: packet.len(),
        at: 0,
    };
    let len = walk_ethernet(&mut walk, out, &mut layers).unwrap_or(PACKET_WORDS);
    packet.layers = layers;
    len
}

/// `None` where a header ended early: the words written so far are the key.
fn walk_ethernet(
    w: &mut Walk,
    out: &mut [u64; PACKET_WORDS],
    layers: &mut Layers,
) -> Option<usize> {
    let addresses = w.take(12)?;
    out[1] = be64(addresses, 0) & !0xffff;
    out[2] = u64::from(be32(addresses, 6)) << 32 | u64::from(be16(addresses, 10)) << 16;
    let mut tags = 0;
    while tags < layers.tag_limit.min(TAGS_PARSED) {
        let Some(tag) = w.peek(6) else { break };
        if !matches!(be16(tag, 0), 0x8100 | 0x88a8) {
            break;
        }
        let tci = u64::from(be16(tag, 2)) | TCI_PRESENT;
        if tags == 0 {
            out[2] |= tci;
        } else {
            out[12] |= tci;
        }
        w.at += 4;
        tags += 1;
    }
    layers.eth_type = w.at as u16;
    let eth_type = ethernet_type(w)?;
    out[1] |= eth_type;
    let least = if tags == TAGS_PARSED { PACKET_WORDS } else { 3 };
    layers.l3 = w.at as u16;
    match eth_type {
        0x0800 => ipv4(w, out, layers).map(|n| n.max(least)),
        0x86dd => ipv6(w, out, layers).map(|n| n.max(least)),
        0x0806 | 0x8035 => {
            arp(w, out);
            Some(PACKET_WORDS)
        }
        0x8847 | 0x8848 => {
            if let Some(label) = w.peek(4) {
                out[14] |= u64::from(be32(label, 0)) << 32;
            }
            Some(PACKET_WORDS)
        }
        0x88e7 => {
            if let Some(tag) = w.peek(18) {
                out[14] |= u64::from(be32(tag, 0) & 0x00ff_ffff);
                out[13] |= u64::from(tag[0] >> 3 & 1) << 8;
            }
            Some(PACKET_WORDS)
        }
        0x894f => {
            service_header(w, out);
            Some(least.max(10))
        }
        _ => Some(least),
    }
}

/// A network service header (RFC 8300 2): fields of one whose version and lengths are right.
fn service_header(w: &mut Walk, out: &mut [u64; PACKET_WORDS]) {
    let Some(base) = w.peek(8) else { return };
    let first = be16(base, 0);
    let len = usize::from(first & 0x3f) * 4;
    let Some(h) = w.peek(len).filter(|h| h.len() >= 8) else {
        return;
    };
    let kind = h[2] & 0x0f;
    if first >> 14 != 0 || !(kind == 2 || kind == 1 && len == 24) {
        return;
    }
    let (flags, ttl) = (u64::from(first >> 12 & 3), u64::from(first >> 6 & 0x3f));
    out[6] = flags << 56 | ttl << 48 | u64::from(kind) << 40 | u64::from(h[3]) << 32;
    out[6] |= u64::from(be32(h, 4));
    if kind == 1 {
        out[8] = be64(h, 8);
        out[9] = be64(h, 16);
    }
}

fn ethernet_type(w: &mut Walk) -> Option<u64> {
    let t = u64::from(be16(w.take(2)?, 0));
    if t >= 0x600 {
        return Some(t);
    }
    if let Some(snap) = w.peek(8)
        && snap[..6] == [0xaa, 0xaa, 3, 0, 0, 0]
    {
        let t = u64::from(be16(snap, 6));
        if t >= 0x600 {
            w.at += 8;
            return Some(t);
        }
    }
    Some(ETH_TYPE_NONE)
}

fn ipv4(w: &mut Walk, out: &mut [u64; PACKET_WORDS], layers: &mut Layers) -> Option<usize> {
    let size = w.left();
    let h = w.peek(20)?;
    let ihl = usize::from(h[0] & 15) * 4;
    let total = usize::from(be16(h, 2));
    if h[0] >> 4 != 4 || ihl < 20 || total < ihl || total > size || size - total > 255 {
        return None;
    }
    w.end = w.at + total;
    w.take(ihl)?;
    let fragment = be16(h, 6);
    let mut frag = 0;
    if fragment & 0x3fff != 0 {
        frag = FRAG_ANY;
        if fragment & 0x1fff != 0 {
            frag |= FRAG_LATER;
        }
    }
    out[3] = be64(h, 12);
    out[4] = network(h[9], h[1], h[8], frag);
    if frag & FRAG_LATER != 0 {
        return Some(5);
    }
    transport(w, h[9], true, out, layers)
}

fn ipv6(w: &mut Walk, out: &mut [u64; PACKET_WORDS], layers: &mut Layers) -> Option<usize> {
    let h = w.take(40)?;
    let payload = usize::from(be16(h, 4));
    if h[0] >> 4 != 6 || payload > w.left() || w.left() - payload > 255 {
        return None;
    }
    w.end = w.at + payload;
    out[6] = be64(h, 8);
    out[7] = be64(h, 16);
    out[8] = be64(h, 24);
    out[9] = be64(h, 32);
    out[5] = u64::from(be32(h, 0) & 0x000f_ffff) << 32;
    let tos = (be16(h, 0) >> 4) as u8;
    let mut frag = 0;
    let mut next = h[6];
    let mut seen = Extensions::default();
    loop {
        seen.note(next);
        match next {
            0 | 43 | 60 | 135 => {
                let e = w.peek(8)?;
                next = e[0];
                w.take((usize::from(e[1]) + 1) * 8)?;
            }
            51 => {
                let e = w.peek(8)?;
                next = e[0];
                w.take((usize::from(e[1]) + 2) * 4)?;
            }
            IPV6_FRAGMENT => {
                let e = w.take(8)?;
                let offset = be16(e, 2);
                next = e[0];
                if offset & 0xfff9 != 0 {
                    frag = FRAG_ANY;
                }
                if offset & 0xfff8 != 0 {
                    frag |= FRAG_LATER;
                    next = IPV6_FRAGMENT;
                    break;
                }
            }
            _ => break,
        }
    }
    out[5] |= u64::from(seen.flags);
    out[4] = network(next, tos, h[7], frag);
    if frag & FRAG_LATER != 0 {
        return Some(10);
    }
    Some(transport(w, next, false, out, layers)?.max(10))
}

/// The extension headers of an IPv6 packet (`ofp_ipv6exthdr_flags`, OpenFlow 1.3.5 7.2.3.7). What is behind an encrypted payload
/// cannot be seen.
#[derive(Default)]
struct Extensions {
    flags: u16,
    /// The place of the last one in the order of RFC 8200 4.1.
    place: u8,
    destinations: u8,
}

impl Extensions {
    const NO_NEXT: u16 = 1;
    const ESP: u16 = 1 << 1;
    const AUTH: u16 = 1 << 2;
    const DESTINATION: u16 = 1 << 3;
    const FRAGMENT: u16 = 1 << 4;
    const ROUTER: u16 = 1 << 5;
    const HOP: u16 = 1 << 6;
    const REPEATED: u16 = 1 << 7;
    const UNORDERED: u16 = 1 << 8;

    #[inline]
    fn note(&mut self, header: u8) {
        // Destination options come before a routing header, or last.
        let (flag, place) = match header {
            0 => (Self::HOP, 1),
            60 if self.place <= 2 => (Self::DESTINATION, 2),
            43 => (Self::ROUTER, 3),
            IPV6_FRAGMENT => (Self::FRAGMENT, 4),
            51 => (Self::AUTH, 5),
            50 => (Self::ESP, 6),
            60 => (Self::DESTINATION, 7),
            59 => (Self::NO_NEXT, 8),
            _ => return,
        };
        let repeated = if header == 60 {
            self.destinations += 1;
            self.destinations > 2
        } else {
            self.flags & flag != 0
        };
        if repeated {
            self.flags |= Self::REPEATED;
        } else if place < self.place {
            self.flags |= Self::UNORDERED;
        }
        self.flags |= flag;
        self.place = self.place.max(place);
    }
}

fn network(proto: u8, tos: u8, ttl: u8, frag: u64) -> u64 {
    u64::from(proto) << 56 | u64::from(tos) << 48 | u64::from(ttl) << 40 | frag << 32
}

fn transport(
    w: &mut Walk,
    proto: u8,
    v4: bool,
    out: &mut [u64; PACKET_WORDS],
    layers: &mut Layers,
) -> Option<usize> {
    let at = w.at;
    match proto {
        6 => {
            let Some(h) = w.peek(20) else { return Some(5) };
            out[4] |= u64::from(be32(h, 0));
            out[5] |= u64::from(be16(h, 12) & 0x0fff) << 16;
            layers.l4 = at as u16;
            Some(6)
        }
        17 | 132 => {
            let Some(h) = w.peek(if proto == 17 { 8 } else { 12 }) else {
                return Some(5);
            };
            out[4] |= u64::from(be32(h, 0));
            layers.l4 = at as u16;
            Some(5)
        }
        1 | 2 if v4 => {
            let Some(h) = w.peek(8) else { return Some(5) };
            out[4] |= u64::from(h[0]) << 16 | u64::from(h[1]);
            layers.l4 = at as u16;
            Some(5)
        }
        58 if !v4 => {
            let Some(h) = w.peek(8) else { return Some(10) };
            out[4] |= u64::from(h[0]) << 16 | u64::from(h[1]);
            layers.l4 = at as u16;
            if matches!(h[0], 135 | 136) && h[1] == 0 {
                neighbour(w, h[0], out);
                return Some(PACKET_WORDS);
            }
            Some(10)
        }
        _ => Some(5),
    }
}

/// Neighbour solicitation and advertisement (RFC 4861 4.3, 4.4). One bad option makes all of it
/// unknown.
fn neighbour(w: &mut Walk, kind: u8, out: &mut [u64; PACKET_WORDS]) {
    let Some(h) = w.take(24) else { return };
    out[10] = be64(h, 8);
    out[11] = be64(h, 16);
    while w.left() >= 8 {
        let Some(o) = w.peek(8) else { break };
        let len = usize::from(o[1]) * 8;
        if len == 0 || len > w.left() {
            break;
        }
        let address = (be64(o, 0) & 0xffff_ffff_ffff) << 16;
        let word = match (o[0], kind) {
            (1, 135) if len == 8 => 12,
            (2, 136) if len == 8 => 13,
            _ => 0,
        };
        if word != 0 {
            if out[word] >> 16 != 0 {
                break;
            }
            out[word] |= address;
        }
        w.at += len;
    }
    if w.left() > 0 {
        // A bad option, a second address, or bytes left over.
        out[10] = 0;
        out[11] = 0;
        out[12] &= 0xffff;
        out[13] &= 0xffff;
    }
}

/// ARP for IPv4 over Ethernet (RFC 826).
fn arp(w: &mut Walk, out: &mut [u64; PACKET_WORDS]) {
    let Some(h) = w.peek(28) else { return };
    if h[..6] != [0, 1, 8, 0, 6, 4] {
        return;
    }
    out[3] = u64::from(be32(h, 14)) << 32 | u64::from(be32(h, 24));
    if h[6] == 0 {
        out[4] = u64::from(h[7]) << 56;
    }
    out[12] |= be64(h, 8) & !0xffff;
    out[13] |= be64(h, 18) & !0xffff;
}

#[inline(always)]
fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

#[inline(always)]
fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

#[inline(always)]
fn be64(b: &[u8], at: usize) -> u64 {
    u64::from(be32(b, at)) << 32 | u64::from(be32(b, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowKey;
    use crate::packet::{Batch, OwnedPacket};
    use openflow::Slot;
    use proptest::prelude::*;

    fn key(bytes: &[u8]) -> (FlowKey, usize, Layers) {
        let owned = OwnedPacket::new(bytes);
        let mut batch = Batch::new();
        // SAFETY: `owned` outlives the batch's use.
        assert!(unsafe { batch.push_borrowed(&owned) });
        let mut words = [0xdead; PACKET_WORDS];
        let n = extract(batch.packet_mut(0), 7, TAGS_PARSED, &mut words);
        (FlowKey::from_packet(&words, n), n, batch.packet(0).layers)
    }

    fn udp() -> Vec<u8> {
        let mut f = vec![0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 8, 0];
        f.extend([
            0x45, 0x10, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        f.extend([0x12, 0x34, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        f.resize(60, 0);
        f
    }

    #[test]
    fn udp_by_the_fast_and_the_general_walk() {
        let (k, n, layers) = key(&udp());
        assert_eq!((n, layers.l3, layers.l4), (5, 14, 34));
        assert_eq!(k.get64(Slot::InPort), 7);
        assert_eq!(k.get64(Slot::EthDst), 0x5254_0000_0002);
        assert_eq!(k.get64(Slot::EthSrc), 0x5254_0000_0001);
        assert_eq!(k.get64(Slot::NwSrc), 0x0a00_0001);
        assert_eq!(k.get64(Slot::NwDst), 0x0a00_0002);
        assert_eq!(k.get64(Slot::NwProto), 17);
        assert_eq!((k.get64(Slot::NwTos), k.get64(Slot::NwTtl)), (0x10, 64));
        assert_eq!((k.get64(Slot::TpSrc), k.get64(Slot::TpDst)), (0x1234, 53));
        // With a tag the general walk must say the same, and the tag.
        let mut f = udp();
        f.splice(12..12, [0x81, 0, 0x60, 10]);
        let (mut t, n, layers) = key(&f);
        assert_eq!((n, layers.eth_type, layers.l4), (5, 16, 38));
        assert_eq!(t.get64(Slot::VlanTci), 0x700a);
        t.set(Slot::VlanTci, 0);
        assert_eq!(t, k);
    }

    #[test]
    fn fragments_and_bad_lengths() {
        let mut f = udp();
        f[20] = 0x20;
        let (k, ..) = key(&f);
        assert_eq!((k.get64(Slot::NwFrag), k.get64(Slot::TpDst)), (1, 53));
        f[21] = 1;
        let (k, _, layers) = key(&f);
        assert_eq!(
            (k.get64(Slot::NwFrag), k.get64(Slot::TpDst), layers.l4),
            (3, 0, 0)
        );
        let mut f = udp();
        f[17] = 200;
        let (k, ..) = key(&f);
        assert_eq!((k.get64(Slot::EthType), k.get64(Slot::NwSrc)), (0x800, 0));
    }

    #[test]
    fn arp_and_double_tags_and_snap() {
        let mut f = vec![0xff; 6];
        f.extend([2, 0, 0, 0, 0, 1, 0x88, 0xa8, 0, 5, 0x81, 0, 0x20, 6, 8, 6]);
        f.extend([
            0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 2,
        ]);
        let (k, ..) = key(&f);
        assert_eq!(k.get64(Slot::VlanTci), 0x1005);
        assert_eq!(k.get64(Slot::InnerVlanTci), 0x3006);
        assert_eq!(k.get64(Slot::NwProto), 2);
        assert_eq!(k.get64(Slot::ArpSha), 0x0200_0000_0001);
        assert_eq!(k.get64(Slot::ArpTha), 0x0200_0000_0009);
        assert_eq!(k.get64(Slot::NwDst), 0x0a00_0002);
        let mut f = vec![
            1, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 38, 0x42, 0x42, 3,
        ];
        f.resize(60, 0);
        assert_eq!(key(&f).0.get64(Slot::EthType), ETH_TYPE_NONE);
        f[14..22].copy_from_slice(&[0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x99]);
        assert_eq!(key(&f).0.get64(Slot::EthType), 0x0899);
    }

    #[test]
    fn ipv6_with_extension_and_solicitation() {
        let mut f = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
        f.extend([0x6a, 0xb1, 0x23, 0x45, 0, 40, 0, 255]);
        f.extend([0xfe; 16]);
        f.extend([0xfd; 16]);
        f.extend([58, 0, 1, 4, 0, 0, 0, 0]);
        f.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        f.extend([0xab; 16]);
        f.extend([1, 1, 2, 0, 0, 0, 0, 7]);
        let (k, n, _) = key(&f);
        assert_eq!(n, PACKET_WORDS);
        assert_eq!(k.get64(Slot::NwTos), 0xab);
        assert_eq!(k.get64(Slot::Ipv6Label), 0x12345);
        assert_eq!((k.get64(Slot::NwProto), k.get64(Slot::TpSrc)), (58, 135));
        assert_eq!(k.get(Slot::NdTarget), u128::from_be_bytes([0xab; 16]));
        assert_eq!(k.get64(Slot::ArpSha), 0x0200_0000_0007);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 14..300), t in 0usize..6) {
            let mut bytes = bytes;
            let types = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0x88, 0x47], [0, 0]];
            bytes[12..14].copy_from_slice(&types[t]);
            let (_, n, layers) = key(&bytes);
            prop_assert!(n <= PACKET_WORDS);
            prop_assert!(usize::from(layers.l4) < 192 && usize::from(layers.l3) <= bytes.len());
        }
    }
}
