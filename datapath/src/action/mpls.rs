//! MPLS label stack entries on and off (RFC 3032), and TTLs copied between headers (OpenFlow 1.3.5 5.12).
//!
//! A label stack lies behind the VLAN tags, as Open vSwitch has it and RFC 3032 asks for.

use super::layers::{eth_type, insert, remove, set_eth_type};
use super::patch;
use crate::packet::{Packet, checksum};

/// Bytes of a label stack entry.
const ENTRY: usize = 4;
/// The bottom of the stack.
const BOTTOM: u32 = 0x100;

/// Puts an entry on; `false` if there is no room.
pub(crate) fn push_mpls(p: &mut Packet, eth_type: u16, entry: u32) -> bool {
    let at = usize::from(p.layers.l3);
    if at == 0 || !insert(p, at, &entry.to_be_bytes()) {
        return false;
    }
    p.layers.l4 = 0;
    set_eth_type(p, eth_type);
    true
}

/// Takes the outermost entry off; the packet becomes one of this type.
pub(crate) fn pop_mpls(p: &mut Packet, eth_type: u16) {
    let at = usize::from(p.layers.l3);
    if at != 0 && remove(p, at, ENTRY) {
        set_eth_type(p, eth_type);
    }
}

/// Where a TTL is.
enum Ttl {
    Mpls(usize),
    Ipv4(usize),
    Ipv6(usize),
}

impl Ttl {
    fn at(&self) -> usize {
        match *self {
            Ttl::Mpls(header) => header + 3,
            Ttl::Ipv4(header) => header + 8,
            Ttl::Ipv6(header) => header + 7,
        }
    }
}

/// The TTLs of the outermost and the next header, if the packet has MPLS and both.
fn ttls(p: &Packet) -> Option<(Ttl, Ttl)> {
    let h = p.head();
    let outer = usize::from(p.layers.l3);
    if !matches!(eth_type(p)?, 0x8847 | 0x8848) {
        return None;
    }
    let entry = u32::from_be_bytes(h.get(outer..outer + ENTRY)?.try_into().ok()?);
    let next = outer + ENTRY;
    let inner = match h.get(next)? >> 4 {
        _ if entry & BOTTOM == 0 => Ttl::Mpls(next),
        4 => Ttl::Ipv4(next),
        6 => Ttl::Ipv6(next),
        _ => return None,
    };
    h.get(inner.at())?;
    Some((Ttl::Mpls(outer), inner))
}

/// Copies the TTL of the next-outermost header to the outermost.
pub(crate) fn copy_ttl_out(p: &mut Packet) {
    if let Some((outer, inner)) = ttls(p) {
        let h = p.head_mut();
        h[outer.at()] = h[inner.at()];
    }
}

/// Copies the TTL of the outermost header to the next-outermost.
pub(crate) fn copy_ttl_in(p: &mut Packet) {
    let Some((outer, inner)) = ttls(p) else {
        return;
    };
    let h = p.head_mut();
    let (old, new) = (h[inner.at()], h[outer.at()]);
    h[inner.at()] = new;
    if let Ttl::Ipv4(header) = inner {
        patch(p, header + 10, |c| checksum::update(c, &[old], &[new]));
    }
}
