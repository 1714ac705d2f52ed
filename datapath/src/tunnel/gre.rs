//! GRE (RFC 2784) with key and sequence number (RFC 2890).

use super::outer::{long, put, put_long, word};
use crate::drop::DropReason;

/// Longest header: checksum, key and sequence number.
pub const MAX: usize = 16;
/// Protocol type of Ethernet frames ("transparent Ethernet bridging").
pub const ETHERNET: u16 = 0x6558;
/// Smallest number that is an Ethernet type.
const ETH_TYPE_MIN: u16 = 0x600;

const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;

/// A GRE header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gre {
    /// Ethernet type of what is inside, [`ETHERNET`] for frames.
    pub protocol: u16,
    /// The checksum of header and payload, if there is one.
    pub checksum: Option<u16>,
    /// Key.
    pub key: Option<u32>,
    /// Sequence number.
    pub sequence: Option<u32>,
}

impl Gre {
    /// Bytes of the header.
    pub fn header_len(&self) -> usize {
        let options = [
            self.checksum.is_some(),
            self.key.is_some(),
            self.sequence.is_some(),
        ];
        4 + 4 * options.iter().filter(|o| **o).count()
    }

    /// Offset of the sequence number in the header, if it has one.
    pub fn sequence_at(&self) -> Option<usize> {
        self.sequence.map(|_| self.header_len() - 4)
    }

    /// Reads the header at the front of `bytes`. Other versions and other flags are refused (RFC 2784 2.2, 2.3).
    pub fn parse(bytes: &[u8]) -> Result<Gre, DropReason> {
        let h: &[u8; 4] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
        let flags = word(h, 0);
        if flags & !(CHECKSUM | KEY | SEQUENCE) != 0 {
            return Err(DropReason::TunnelHeader);
        }
        let mut at = 4;
        let mut option = |flag| {
            if flags & flag == 0 {
                return Ok(None);
            }
            let bytes = bytes.get(at..at + 4).ok_or(DropReason::TunnelTruncated)?;
            at += 4;
            Ok(Some(long(bytes, 0)))
        };
        let gre = Gre {
            protocol: word(h, 2),
            checksum: option(CHECKSUM)?.map(|c| (c >> 16) as u16),
            key: option(KEY)?,
            sequence: option(SEQUENCE)?,
        };
        if gre.protocol < ETH_TYPE_MIN {
            return Err(DropReason::TunnelProtocol);
        }
        Ok(gre)
    }

    /// Writes the header to the front of `out`, which is long enough; how long it is.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let flags = flag(self.checksum.is_some(), CHECKSUM)
            | flag(self.key.is_some(), KEY)
            | flag(self.sequence.is_some(), SEQUENCE);
        put(out, 0, flags);
        put(out, 2, self.protocol);
        let mut at = 4;
        let checksum = self.checksum.map(|c| u32::from(c) << 16);
        for option in [checksum, self.key, self.sequence].into_iter().flatten() {
            put_long(out, at, option);
            at += 4;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(protocol in ETH_TYPE_MIN.., checksum: Option<u16>, key: Option<u32>, sequence: Option<u32>) {
            let g = Gre { protocol, checksum, key, sequence };
            let mut h = [0xff; MAX];
            let len = g.emit(&mut h);
            prop_assert_eq!(len, g.header_len());
            prop_assert_eq!(Gre::parse(&h[..len]), Ok(g));
            prop_assert_eq!(Gre::parse(&h[..len - 1]), Err(DropReason::TunnelTruncated));
        }
    }

    #[test]
    fn bytes_as_rfc_2890_2_draws_them() {
        let mut h = [0xff; MAX];
        let g = Gre {
            protocol: ETHERNET,
            checksum: Some(0xabcd),
            key: Some(7),
            sequence: Some(0x0102_0304),
        };
        assert_eq!(g.emit(&mut h), 16);
        assert_eq!(
            h,
            [
                0xb0, 0, 0x65, 0x58, 0xab, 0xcd, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4
            ]
        );
    }

    #[test]
    fn versions_and_routing_are_refused() {
        for flags in [0x4000u16, 0x0800, 0x0100, 1, 7] {
            let [a, b] = flags.to_be_bytes();
            assert_eq!(
                Gre::parse(&[a, b, 8, 0, 0, 0, 0, 0]),
                Err(DropReason::TunnelHeader)
            );
        }
        assert_eq!(
            Gre::parse(&[0, 0, 0, 4, 0, 0]),
            Err(DropReason::TunnelProtocol)
        );
    }
}
