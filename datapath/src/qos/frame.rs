//! What disciplines want to know of a frame: whose it is, and whether congestion can be told by it.

use crate::packet::checksum;

const ECN: u8 = 3;

/// The Ethernet type behind VLAN tags, and where its header begins.
fn network(frame: &[u8]) -> Option<(u16, usize)> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let mut at = 12;
    while matches!(word(at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    Some((word(at)?, at + 2))
}

/// A number that packets of one flow share: of addresses, protocol and ports; of the Ethernet header for what is not IP.
pub fn flow(frame: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut add = |bytes: Option<&[u8]>| {
        for b in bytes.unwrap_or_default() {
            hash = (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193);
        }
    };
    let (protocol, ports) = match network(frame) {
        Some((0x0800, at)) => {
            add(frame.get(at + 12..at + 20));
            let head = frame.get(at).map_or(20, |b| usize::from(b & 15) * 4);
            // Later fragments have no ports: then no fragment's are looked at, so that they stay together.
            let whole = frame
                .get(at + 6..at + 8)
                .is_some_and(|f| f[0] & 0x3f == 0 && f[1] == 0);
            (frame.get(at + 9).copied(), whole.then_some(at + head))
        }
        Some((0x86dd, at)) => {
            add(frame.get(at + 8..at + 40));
            (frame.get(at + 6).copied(), Some(at + 40))
        }
        _ => {
            add(frame.get(..14));
            (None, None)
        }
    };
    if let Some(protocol) = protocol {
        add(Some(&[protocol]));
        if let (6 | 17 | 132 | 136, Some(at)) = (protocol, ports) {
            add(frame.get(at..at + 4));
        }
    }
    hash ^ hash >> 16
}

/// Whether the ends of a packet's transport understand congestion marks (RFC 3168 5).
pub fn is_ecn_capable(frame: &[u8]) -> bool {
    let bits = match network(frame) {
        Some((0x0800, at)) => frame.get(at + 1).map(|b| b & ECN),
        Some((0x86dd, at)) => frame.get(at + 1).map(|b| b >> 4 & ECN),
        _ => None,
    };
    bits.is_some_and(|b| b != 0)
}

/// Marks a packet: congestion experienced.
pub fn mark(frame: &mut [u8]) {
    match network(frame) {
        Some((0x0800, at)) if frame.len() >= at + 20 => {
            frame[at + 1] |= ECN;
            let end = at + usize::from(frame[at] & 15).max(5) * 4;
            if let Some(header) = frame.get_mut(at..end) {
                header[10..12].fill(0);
                let sum = checksum::of(header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        Some((0x86dd, at)) if frame.len() > at + 1 => frame[at + 1] |= ECN << 4,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(tos: u8, source_port: u8, tagged: bool) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if tagged {
            f.extend([0x81, 0, 0, 5]);
        }
        f.extend([8, 0, 0x45, tos, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
        f.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, source_port, 0, 80, 0, 8, 0, 0]);
        f
    }

    #[test]
    fn flows_are_told_apart_by_ports_and_not_by_anything_else() {
        assert_eq!(flow(&udp(0, 1, false)), flow(&udp(3, 1, true)));
        assert_ne!(flow(&udp(0, 1, false)), flow(&udp(0, 2, false)));
        // Fragments stay together.
        let fragment = |port| {
            let mut f = udp(0, port, false);
            f[20] = 0x20;
            flow(&f)
        };
        assert_eq!(fragment(1), fragment(2));
        for len in 0..40 {
            flow(&udp(0, 1, true)[..len]);
            mark(&mut udp(1, 1, true)[..len]);
        }
    }

    #[test]
    fn a_marked_packet_says_so_and_its_header_still_adds_up() {
        for tagged in [false, true] {
            let at = if tagged { 18 } else { 14 };
            assert!(!is_ecn_capable(&udp(0xb8, 1, tagged)));
            for tos in [1, 2, 3] {
                let mut f = udp(0xb8 | tos, 1, tagged);
                assert!(is_ecn_capable(&f));
                mark(&mut f);
                assert_eq!(f[at + 1], 0xbb);
                assert_eq!(checksum::of(&f[at..at + 20]), 0);
            }
        }
        let mut six = vec![0; 54];
        (six[12], six[13], six[14], six[15]) = (0x86, 0xdd, 0x60, 0x20);
        assert!(is_ecn_capable(&six));
        mark(&mut six);
        assert_eq!((six[14], six[15]), (0x60, 0x30));
    }
}
