//! Bits of header fields, and the checksums that cover them.

use super::layers::read16;
use crate::packet::{Checksum, Packet, checksum};
use openflow::Slot;

/// Where a slot's field lies in a packet of this kind, and its length.
struct Field {
    at: usize,
    len: usize,
    /// Covered by the IPv4 header's checksum.
    ip_sum: bool,
    /// Part of the pseudo header, or of the transport's own bytes.
    l4: Cover,
}

#[derive(Clone, Copy, PartialEq)]
enum Cover {
    No,
    Pseudo,
    Bytes,
}

fn find(p: &Packet, slot: Slot, eth_type: u16) -> Option<Field> {
    let l3 = usize::from(p.layers.l3);
    let l4 = usize::from(p.layers.l4);
    let field = |at, len, ip_sum, l4| {
        Some(Field {
            at,
            len,
            ip_sum,
            l4,
        })
    };
    match (slot, eth_type) {
        (Slot::EthDst, _) => return field(0, 6, false, Cover::No),
        (Slot::EthSrc, _) => return field(6, 6, false, Cover::No),
        _ if l3 == 0 => return None,
        _ => {}
    }
    match (slot, eth_type) {
        (Slot::NwSrc, 0x0800) => field(l3 + 12, 4, true, Cover::Pseudo),
        (Slot::NwDst, 0x0800) => field(l3 + 16, 4, true, Cover::Pseudo),
        (Slot::NwTos, 0x0800) => field(l3 + 1, 1, true, Cover::No),
        (Slot::NwTtl, 0x0800) => field(l3 + 8, 1, true, Cover::No),
        (Slot::Ipv6Src, 0x86dd) => field(l3 + 8, 16, false, Cover::Pseudo),
        (Slot::Ipv6Dst, 0x86dd) => field(l3 + 24, 16, false, Cover::Pseudo),
        (Slot::NwTtl, 0x86dd) => field(l3 + 7, 1, false, Cover::No),
        // Traffic class and label straddle bytes: handled on the first word.
        (Slot::NwTos | Slot::Ipv6Label, 0x86dd) => field(l3, 4, false, Cover::No),
        (Slot::NwSrc, 0x0806 | 0x8035) => field(l3 + 14, 4, false, Cover::No),
        (Slot::NwDst, 0x0806 | 0x8035) => field(l3 + 24, 4, false, Cover::No),
        (Slot::ArpSha, 0x0806 | 0x8035) => field(l3 + 8, 6, false, Cover::No),
        (Slot::ArpTha, 0x0806 | 0x8035) => field(l3 + 18, 6, false, Cover::No),
        (Slot::NwProto, 0x0806 | 0x8035) => field(l3 + 7, 1, false, Cover::No),
        (Slot::TpSrc | Slot::TpDst, 0x0800 | 0x86dd) if l4 != 0 => {
            let second = usize::from(slot == Slot::TpDst);
            match protocol(p, eth_type)? {
                6 | 17 | 132 => field(l4 + second * 2, 2, false, Cover::Bytes),
                1 | 58 => field(l4 + second, 1, false, Cover::Bytes),
                _ => None,
            }
        }
        (Slot::PbbUca, 0x88e7) => field(l3, 1, false, Cover::No),
        (Slot::PbbIsid, 0x88e7) => field(l3 + 1, 3, false, Cover::No),
        // Flags and TTL are bits of the first two bytes.
        (Slot::NshFlags | Slot::NshTtl, 0x894f) => field(l3, 2, false, Cover::No),
        (Slot::NshPath, 0x894f) => field(l3 + 4, 4, false, Cover::No),
        (Slot::NshContext, 0x894f) => field(l3 + 8, 16, false, Cover::No),
        (Slot::Mpls, 0x8847 | 0x8848) => field(l3, 4, false, Cover::No),
        (Slot::NdTarget, 0x86dd) if l4 != 0 => field(l4 + 8, 16, false, Cover::Bytes),
        (Slot::ArpSha, 0x86dd) if l4 != 0 => option(p, l4, 1),
        (Slot::ArpTha, 0x86dd) if l4 != 0 => option(p, l4, 2),
        _ => None,
    }
}

/// The address in a neighbour discovery option.
fn option(p: &Packet, l4: usize, kind: u8) -> Option<Field> {
    let h = p.head();
    let mut at = l4 + 24;
    loop {
        let o = h.get(at..at + 8)?;
        if o[0] == kind && o[1] == 1 {
            return Some(Field {
                at: at + 2,
                len: 6,
                ip_sum: false,
                l4: Cover::Bytes,
            });
        }
        if o[1] == 0 {
            return None;
        }
        at += usize::from(o[1]) * 8;
    }
}

/// The transport protocol of an IP packet whose transport header was found.
fn protocol(p: &Packet, eth_type: u16) -> Option<u8> {
    let h = p.head();
    let l3 = usize::from(p.layers.l3);
    if eth_type == 0x0800 {
        return h.get(l3 + 9).copied();
    }
    let mut next = *h.get(l3 + 6)?;
    let mut at = l3 + 40;
    while at < usize::from(p.layers.l4) {
        let e = h.get(at..at + 2)?;
        at += match next {
            44 => 8,
            51 => (usize::from(e[1]) + 2) * 4,
            _ => (usize::from(e[1]) + 1) * 8,
        };
        next = e[0];
    }
    Some(next)
}

/// Writes bits of a header field.
pub(crate) fn set(p: &mut Packet, slot: Slot, value: u128, mask: u128) {
    let eth_type = super::layers::eth_type(p).unwrap_or(0);
    let Some(f) = find(p, slot, eth_type) else {
        return;
    };
    let (value, mask) = match (slot, eth_type) {
        (Slot::NwTos, 0x86dd) => (value << 20, mask << 20),
        (Slot::PbbUca, _) => (value << 3, mask << 3),
        (Slot::NshFlags, _) => (value << 12 & 0x3000, mask << 12 & 0x3000),
        (Slot::NshTtl, _) => (value << 6 & 0x0fc0, mask << 6 & 0x0fc0),
        _ => (value, mask),
    };
    let Some(bytes) = p.head_mut().get_mut(f.at..f.at + f.len) else {
        return;
    };
    // Checksums are sums of aligned words: widen a single byte to its word.
    let shift = (16 - f.len) * 8;
    let mut old = [0; 16];
    old[16 - f.len..].copy_from_slice(bytes);
    let before = u128::from_be_bytes(old);
    let after = before & !mask | value & mask & (u128::MAX >> shift);
    if before == after {
        return;
    }
    let new = after.to_be_bytes();
    bytes.copy_from_slice(&new[16 - f.len..]);
    if !f.ip_sum && f.l4 == Cover::No {
        return;
    }
    let l3 = usize::from(p.layers.l3);
    let l4 = usize::from(p.layers.l4);
    // The changed bytes at an even offset of the summed header. The IP and transport headers begin
    // at even distance from each other.
    let base = if f.l4 == Cover::Bytes { l4 } else { l3 };
    let odd = (f.at - base) % 2;
    let (from, to) = (16 - f.len, 16);
    let (o, n): (Vec6, Vec6) = (
        Vec6::new(&old[from..to], odd),
        Vec6::new(&new[from..to], odd),
    );
    if f.ip_sum {
        patch(p, l3 + 10, |c| checksum::update(c, o.bytes(), n.bytes()));
    }
    if f.l4 == Cover::No || l4 == 0 {
        return;
    }
    if f.l4 == Cover::Bytes && protocol(p, eth_type) == Some(132) {
        return sctp_changed(p, f.at, before ^ after);
    }
    let udp_v4;
    let at = match protocol(p, eth_type) {
        Some(6) => {
            udp_v4 = false;
            l4 + 16
        }
        Some(17) => {
            udp_v4 = eth_type == 0x0800;
            l4 + 6
        }
        Some(58) => {
            udp_v4 = false;
            l4 + 2
        }
        // ICMP has no pseudo header.
        Some(1) if f.l4 == Cover::Bytes => {
            udp_v4 = false;
            l4 + 2
        }
        _ => return,
    };
    if let Checksum::Needed { .. } = p.offload.checksum {
        if f.l4 == Cover::Pseudo {
            patch(p, at, |c| checksum::update_partial(c, o.bytes(), n.bytes()));
        }
        return;
    }
    patch(p, at, |c| {
        if udp_v4 && c == 0 {
            return 0;
        }
        match checksum::update(c, o.bytes(), n.bytes()) {
            0 if udp_v4 || at == l4 + 6 => 0xffff,
            c => c,
        }
    });
}

/// Brings SCTP's checksum up to date (CRC32c, RFC 9260 appendix A) after the two bytes at `at` changed by `difference`. A CRC is
/// linear: it changes by the CRC, begun with zero, of the difference and as many zeros as bytes follow; so it stays as right or
/// wrong as it was, and the payload is not read.
fn sctp_changed(p: &mut Packet, at: usize, difference: u128) {
    let (l3, l4) = (usize::from(p.layers.l3), usize::from(p.layers.l4));
    let h = p.head();
    let end = match h.get(l3).map(|b| b >> 4) {
        Some(4) => read16(h, l3 + 2).map(|total| l3 + usize::from(total)),
        _ => read16(h, l3 + 4).map(|payload| l3 + 40 + usize::from(payload)),
    };
    let Some(end) = end else { return };
    let delta = crc32c_raw(
        &(difference as u16).to_be_bytes(),
        end.saturating_sub(at + 2),
    );
    if let Some(b) = p.head_mut().get_mut(l4 + 8..l4 + 12) {
        for (b, d) in b.iter_mut().zip(delta.to_le_bytes()) {
            *b ^= d;
        }
    }
}

/// The CRC32c of bytes and so many zeros, begun with zero and not inverted.
fn crc32c_raw(bytes: &[u8], zeros: usize) -> u32 {
    let zeros = std::iter::repeat_n(&0, zeros);
    bytes
        .iter()
        .chain(zeros)
        .fold(0, |crc, b| crc >> 8 ^ CRC32C[usize::from(crc as u8 ^ b)])
}

/// CRC32c of each byte, its bits reflected (polynomial 0x1edc6f41).
static CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// Up to 16 bytes, with a zero before them if they begin at an odd offset and one behind them if
/// they end at one.
struct Vec6 {
    bytes: [u8; 18],
    len: usize,
}

impl Vec6 {
    fn new(b: &[u8], odd: usize) -> Vec6 {
        let mut bytes = [0; 18];
        bytes[odd..odd + b.len()].copy_from_slice(b);
        Vec6 {
            bytes,
            len: (odd + b.len()).next_multiple_of(2),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Changes a checksum.
pub(super) fn patch(p: &mut Packet, at: usize, f: impl FnOnce(u16) -> u16) {
    if let Some(b) = p.head_mut().get_mut(at..at + 2) {
        let c = f(u16::from_be_bytes([b[0], b[1]]));
        b.copy_from_slice(&c.to_be_bytes());
    }
}
