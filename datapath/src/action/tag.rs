//! VLAN tags on and off.

use crate::packet::Packet;

/// Puts a tag on; `false` if there is no room.
pub(crate) fn push_vlan(p: &mut Packet, tpid: u16, tci: u16) -> bool {
    if p.head().len() < 12 {
        return false;
    }
    let Some(h) = p.push_head(4) else {
        return false;
    };
    h.copy_within(4..16, 0);
    let (tpid, eligible) = p.tags_off.push(tpid);
    let h = p.head_mut();
    h[12..14].copy_from_slice(&tpid.to_be_bytes());
    h[14..16].copy_from_slice(&(tci & !0x1000 | eligible).to_be_bytes());
    shift(p, 4);
    true
}

/// Takes the outer tag off, if there is one.
pub(crate) fn pop_vlan(p: &mut Packet) {
    let h = p.head_mut();
    if h.len() < 18 || !matches!(u16::from_be_bytes([h[12], h[13]]), 0x8100 | 0x88a8) {
        return;
    }
    let (tpid, tci) = (
        u16::from_be_bytes([h[12], h[13]]),
        u16::from_be_bytes([h[14], h[15]]),
    );
    h.copy_within(0..12, 4);
    p.pull_head(4);
    p.tags_off.pop(tpid, tci);
    shift(p, -4);
}

/// Everything behind the Ethernet addresses moved by `n` bytes.
pub(super) fn shift(p: &mut Packet, n: i16) {
    let l = &mut p.layers;
    for at in [&mut l.eth_type, &mut l.l3, &mut l.l4] {
        if *at != 0 {
            *at = at.wrapping_add_signed(n);
        }
    }
    p.offload.shift(n);
}

/// Sets the outer tag's priority and VLAN.
pub(crate) fn set_vlan(p: &mut Packet, tci: u16) {
    let h = p.head_mut();
    if h.len() >= 18 && matches!(u16::from_be_bytes([h[12], h[13]]), 0x8100 | 0x88a8) {
        let eligible = u16::from(h[14]) << 8 & 0x1000;
        h[14..16].copy_from_slice(&(tci & !0x1000 | eligible).to_be_bytes());
    }
}
