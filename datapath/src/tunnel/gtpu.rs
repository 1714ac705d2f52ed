//! GTP-U (3GPP TS 29.281): bare IP packets in UDP.

use super::outer::{long, put, put_long, word};
use crate::drop::DropReason;

/// Bytes of the header without the optional part.
pub const LEN: usize = 8;
/// Bytes of the optional part: sequence number, N-PDU number, type of the next extension header.
pub const OPTIONAL: usize = 4;
/// Flags of version 1 with nothing optional.
pub const FLAGS: u8 = 0x30;
/// Message type of user data (T-PDU).
pub const USER_DATA: u8 = 255;
/// Offset of the length in the header.
pub const LENGTH_AT: usize = 2;
/// Extension headers that a packet may have: a bound on the walk.
const EXTENSIONS_MAX: usize = 8;

const EXTENSION: u8 = 4;
/// The flag of a sequence number.
pub const SEQUENCE: u8 = 2;
const N_PDU: u8 = 1;

/// A GTP-U header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gtpu {
    /// Version, protocol type, what is optional.
    pub flags: u8,
    /// Message type.
    pub message: u8,
    /// Tunnel endpoint identifier.
    pub teid: u32,
    /// Bytes of the header with all that is optional.
    pub len: usize,
}

impl Gtpu {
    /// Reads the header at the front of `bytes`, of a datagram with `left` bytes (TS 29.281 5.1, 5.2).
    pub fn parse(bytes: &[u8], left: usize) -> Result<Gtpu, DropReason> {
        let h: &[u8; LEN] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
        // Version 1 of GTP, not GTP'.
        if h[0] & 0xf0 != 0x30 {
            return Err(DropReason::TunnelHeader);
        }
        let end = LEN + usize::from(word(h, LENGTH_AT));
        if end > left {
            return Err(DropReason::TunnelTruncated);
        }
        let mut len = LEN;
        if h[0] & (EXTENSION | SEQUENCE | N_PDU) != 0 {
            let optional = bytes
                .get(len..len + OPTIONAL)
                .ok_or(DropReason::TunnelTruncated)?;
            len += OPTIONAL;
            let mut next = if h[0] & EXTENSION != 0 {
                optional[3]
            } else {
                0
            };
            for _ in 0..EXTENSIONS_MAX {
                if next == 0 {
                    break;
                }
                // Bits 8 and 7 say that every receiver must understand it (TS 29.281 5.2.1). What only the last one must
                // is about radio bearers, and read over.
                if next >> 6 == 3 {
                    return Err(DropReason::TunnelOption);
                }
                let words = usize::from(*bytes.get(len).ok_or(DropReason::TunnelTruncated)?);
                if words == 0 {
                    return Err(DropReason::TunnelOption);
                }
                len += words * 4;
                next = *bytes.get(len - 1).ok_or(DropReason::TunnelTruncated)?;
            }
            if next != 0 {
                return Err(DropReason::TunnelOption);
            }
        }
        if len > end {
            return Err(DropReason::TunnelTruncated);
        }
        Ok(Gtpu {
            flags: h[0],
            message: h[1],
            teid: long(h, 4),
            len,
        })
    }

    /// Writes a header to the front of `out`, which is long enough; how long it is. The length is left zero.
    pub fn emit(flags: u8, message: u8, teid: u32, out: &mut [u8]) -> usize {
        out[0] = flags;
        out[1] = message;
        put(out, LENGTH_AT, 0);
        put_long(out, 4, teid);
        if flags & (EXTENSION | SEQUENCE | N_PDU) == 0 {
            return LEN;
        }
        put_long(out, LEN, 0);
        LEN + OPTIONAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(teid: u32, message: u8, optional in 0u8..8, payload in 0usize..60_000) {
            let flags = FLAGS | optional & !EXTENSION;
            let mut h = [0xff; LEN + OPTIONAL];
            let len = Gtpu::emit(flags, message, teid, &mut h);
            put(&mut h, LENGTH_AT, (len - LEN + payload) as u16);
            let g = Gtpu { flags, message, teid, len };
            prop_assert_eq!(Gtpu::parse(&h[..len], len + payload), Ok(g));
            prop_assert_eq!(Gtpu::parse(&h[..len - 1], len + payload), Err(DropReason::TunnelTruncated));
        }
    }

    #[test]
    fn extension_headers_are_read_over() {
        // A PDU session container (0x85), as a 5G core sends it.
        let h = [
            0x34, 255, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 0x10, 9, 0, 0x45,
        ];
        assert_eq!(Gtpu::parse(&h, 17).map(|g| g.len), Ok(16));
        let mut endless = h;
        endless[12] = 0;
        assert_eq!(Gtpu::parse(&endless, 17), Err(DropReason::TunnelOption));
        let mut critical = h;
        critical[11] = 0xc0;
        assert_eq!(Gtpu::parse(&critical, 17), Err(DropReason::TunnelOption));
    }

    #[test]
    fn versions_are_refused() {
        assert_eq!(Gtpu::parse(&[0x48; 8], 9000), Err(DropReason::TunnelHeader));
        assert_eq!(Gtpu::parse(&[0x20; 8], 9000), Err(DropReason::TunnelHeader));
    }
}
