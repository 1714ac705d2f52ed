//! Where headers begin, when bytes come and go among them.

use crate::flow::{PACKET_WORDS, extract};
use crate::packet::Packet;

/// The two bytes at an offset.
pub(super) fn read16(h: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(h.get(at..at + 2)?.try_into().ok()?))
}

/// Puts bytes in at `at`; `false` if there is no room.
pub(super) fn insert(p: &mut Packet, at: usize, bytes: &[u8]) -> bool {
    if at > p.head().len() {
        return false;
    }
    let n = bytes.len();
    let Some(h) = p.push_head(n) else {
        return false;
    };
    h.copy_within(n..n + at, 0);
    h[at..at + n].copy_from_slice(bytes);
    true
}

/// Takes `n` bytes out at `at`; `false` if there are not so many.
pub(super) fn remove(p: &mut Packet, at: usize, n: usize) -> bool {
    if at + n > p.head().len() {
        return false;
    }
    p.head_mut().copy_within(0..at, n);
    p.pull_head(n)
}

/// Where the Ethernet type of what is behind the tags stands: an LLC/SNAP frame has its length there, and its type 8 bytes on.
fn type_at(p: &Packet) -> usize {
    let at = usize::from(p.layers.eth_type);
    match p.head().get(at..at + 8) {
        Some([length, _, 0xaa, 0xaa, 3, 0, 0, 0]) if *length < 6 => at + 8,
        _ => at,
    }
}

/// The Ethernet type of what is behind the tags.
pub(super) fn eth_type(p: &Packet) -> Option<u16> {
    read16(p.head(), type_at(p))
}

/// Writes the Ethernet type of what is behind the tags.
pub(super) fn set_eth_type(p: &mut Packet, eth_type: u16) {
    let at = type_at(p);
    if let Some(b) = p.head_mut().get_mut(at..at + 2) {
        b.copy_from_slice(&eth_type.to_be_bytes());
    }
}

/// Finds the headers again, after some were uncovered.
pub(crate) fn find_headers(p: &mut Packet) {
    extract(p, 0, p.layers.tag_limit, &mut [0; PACKET_WORDS]);
}
