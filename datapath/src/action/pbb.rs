//! Provider backbone bridging: a service tag on and off (IEEE 802.1Q 9.7, OpenFlow 1.3.5 5.12).
//!
//! The tag comes with an Ethernet header of its own, before that of the customer's frame.

use super::layers::{eth_type, insert, read16, remove};
use crate::packet::Packet;

/// Ethernet type of a service tag.
const ETH_TYPE: u16 = 0x88e7;
/// Bytes of the tag's control information.
const TAG: usize = 4;

/// Puts a service tag on: addresses are copied into the new Ethernet header, priority from a VLAN tag, the service instance from
/// another service tag (OpenFlow 1.3.5 5.12.1). `false` if there is no room.
pub(crate) fn push_pbb(p: &mut Packet) -> bool {
    let h = p.head();
    let Some(addresses) = h.first_chunk::<12>().copied() else {
        return false;
    };
    let mut tag = [0; TAG];
    match read16(h, 12) {
        Some(0x8100 | 0x88a8) => tag[0] = h.get(14).map_or(0, |tci| tci & 0xe0),
        Some(ETH_TYPE) => {
            if let Some(old) = h.get(14..14 + TAG) {
                tag.copy_from_slice(old);
            }
        }
        _ => {}
    }
    let mut header = [0; 2 + TAG + 12];
    header[..2].copy_from_slice(&ETH_TYPE.to_be_bytes());
    header[2..2 + TAG].copy_from_slice(&tag);
    header[2 + TAG..].copy_from_slice(&addresses);
    insert(p, 12, &header)
}

/// Takes a service tag off, and the Ethernet header before it.
pub(crate) fn pop_pbb(p: &mut Packet) {
    if eth_type(p) == Some(ETH_TYPE) {
        let n = usize::from(p.layers.l3) + TAG;
        remove(p, 0, n);
    }
}
