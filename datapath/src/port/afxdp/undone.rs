//! What is left to do of frames that come by XDP, which has no place to say so.

use crate::packet::{Checksum, Gso, GsoKind, Offload, checksum};

/// What a sender's kernel left to do of a frame that came without a word about it. Virtual interfaces pass on frames whose checksum
/// is still to be filled in, with the pseudo header's sum in its place (where a checksum of that value is filled in again,
/// to the same value). `frame` is the first bytes of a frame of `len` bytes; one longer than `max_frame` is TCP that is still
/// to be cut.
pub(super) fn left_undone(frame: &[u8], len: usize, max_frame: usize) -> Offload {
    undone(frame, len, max_frame).unwrap_or_default()
}

fn undone(frame: &[u8], len: usize, max_frame: usize) -> Option<Offload> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let mut l3 = 14;
    let mut eth_type = word(12)?;
    for _ in 0..2 {
        if matches!(eth_type, 0x8100 | 0x88a8) {
            eth_type = word(l3 + 2)?;
            l3 += 4;
        }
    }
    let (protocol, l4, end, addresses, kind) = match eth_type {
        0x0800 if word(l3 + 6)? & 0x3fff == 0 => {
            let header = usize::from(frame.get(l3)? & 15) * 4;
            let total = usize::from(word(l3 + 2)?);
            let addresses = frame.get(l3 + 12..l3 + 20)?;
            let protocol = *frame.get(l3 + 9)?;
            (protocol, l3 + header, l3 + total, addresses, GsoKind::Tcp4)
        }
        0x86dd => {
            let total = 40 + usize::from(word(l3 + 4)?);
            let addresses = frame.get(l3 + 8..l3 + 40)?;
            let protocol = *frame.get(l3 + 6)?;
            (protocol, l3 + 40, l3 + total, addresses, GsoKind::Tcp6)
        }
        _ => return None,
    };
    let offset = match protocol {
        6 => 16,
        17 => 6,
        _ => return None,
    };
    if end > len || l4 + offset + 2 > end {
        return None;
    }
    let sum = checksum::fold(checksum::pseudo(addresses, protocol, end - l4));
    if word(l4 + offset)? != sum {
        return None;
    }
    let checksum = Checksum::Needed {
        start: l4 as u16,
        offset: offset as u16,
    };
    let mut gso = Gso::default();
    if len > max_frame && protocol == 6 {
        let header = l4 + usize::from(frame.get(l4 + 12)? >> 4) * 4;
        gso = Gso {
            kind,
            ecn: false,
            // As the sender would have, of the same MTU: `max_frame` has room for an Ethernet header and two tags beside it.
            size: u16::try_from((max_frame + l3).checked_sub(8 + 14 + header)?).ok()?,
            header_len: header as u16,
        };
    }
    Some(Offload { checksum, gso })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of TCP over IPv4 with these bytes of payload, and the pseudo header's sum for a checksum.
    fn frame(payload: usize, tag: bool) -> Vec<u8> {
        let mut f = vec![2; 12];
        if tag {
            f.extend([0x81, 0, 0, 5]);
        }
        f.extend([8, 0]);
        let l3 = f.len();
        let total = (40 + payload) as u16;
        f.extend([0x45, 0]);
        f.extend(total.to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum::pseudo(&f[l3 + 12..l3 + 20], 6, 20 + payload);
        f.extend([0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x50, 0x10, 1, 0]);
        f.extend(checksum::fold(sum).to_be_bytes());
        f.extend([0, 0]);
        f.resize(f.len() + payload, 7);
        f
    }

    #[test]
    fn a_checksum_left_undone_is_known_by_its_value() {
        for tag in [false, true] {
            let mut f = frame(100, tag);
            let offload = left_undone(&f, f.len(), 1522);
            let start = if tag { 38 } else { 34 };
            assert_eq!(offload.checksum, Checksum::Needed { start, offset: 16 });
            assert!(!offload.is_gso());
            assert!(checksum::finish(&mut f, start.into(), 16));
            assert!(left_undone(&f, f.len(), 1522).is_plain());
            // Padding does not count.
            let mut padded = frame(1, tag);
            padded.resize(80, 0);
            assert!(!left_undone(&padded, 80, 1522).is_done());
        }
    }

    #[test]
    fn a_long_frame_of_tcp_is_cut_for_the_mtu() {
        let f = frame(5000, false);
        let offload = left_undone(&f[..192], f.len(), 1522);
        assert_eq!((offload.gso.kind, offload.gso.size), (GsoKind::Tcp4, 1460));
    }

    #[test]
    fn what_is_cut_short_says_nothing() {
        let f = frame(100, true);
        for n in 0..58 {
            assert!(left_undone(&f[..n], n, 1522).is_plain(), "{n}");
        }
    }
}
