//! ERSPAN (draft-foschiano-erspan), types II and III, which Open vSwitch calls version 1 and 2. A GRE header with a sequence
//! number stands before it.

use super::outer::{long, put, put_long, word};
use crate::drop::DropReason;

/// GRE protocol type of version 1.
pub const PROTOCOL_1: u16 = 0x88be;
/// GRE protocol type of version 2.
pub const PROTOCOL_2: u16 = 0x22eb;
/// Longest header that is written.
pub const MAX: usize = 12;
/// Largest session: 10 bits.
pub const SESSION_MAX: u64 = 0x3ff;
/// Largest index: 20 bits.
pub const INDEX_MAX: u32 = 0xf_ffff;
/// Largest hardware id: 6 bits.
pub const HARDWARE_MAX: u8 = 0x3f;
/// Bytes of the platform's subheader that version 2 may have behind the header.
const SUBHEADER: usize = 8;

/// Where the fields are (draft-foschiano-erspan-03 4.2, 4.3).
mod field {
    use std::ops::Range;
    pub const VERSION: Range<usize> = 0..2;
    pub const SESSION: Range<usize> = 2..4;
    pub const INDEX: Range<usize> = 4..8;
    pub const TIMESTAMP: Range<usize> = 4..8;
    pub const GROUP: Range<usize> = 8..10;
    pub const HARDWARE: Range<usize> = 10..12;
}

/// Offset of version 2's timestamp in its header, in units of 100 microseconds.
pub const TIMESTAMP_AT: usize = field::TIMESTAMP.start;

/// What the versions have beside the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Type II.
    One {
        /// Port and direction, 20 bits, by the platform.
        index: u32,
    },
    /// Type III.
    Two {
        /// 1 for what left the port, 0 for what came in.
        direction: u8,
        /// The engine in its system, 6 bits.
        hardware: u8,
        /// Whether a subheader of the platform follows, which is read over.
        subheader: bool,
    },
}

/// An ERSPAN header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erspan {
    /// Session, 10 bits.
    pub session: u16,
    /// The rest.
    pub version: Version,
}

impl Erspan {
    /// GRE's protocol type for it.
    pub fn protocol(&self) -> u16 {
        match self.version {
            Version::One { .. } => PROTOCOL_1,
            Version::Two { .. } => PROTOCOL_2,
        }
    }

    /// Bytes of the header.
    pub fn header_len(&self) -> usize {
        match self.version {
            Version::One { .. } => 8,
            Version::Two { subheader, .. } => 12 + if subheader { SUBHEADER } else { 0 },
        }
    }

    /// Reads the header at the front of `bytes`, behind a GRE header of protocol type `protocol`.
    pub fn parse(protocol: u16, bytes: &[u8]) -> Result<Erspan, DropReason> {
        let h: &[u8; 8] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
        let version = match (word(h, field::VERSION.start) >> 12, protocol) {
            (1, PROTOCOL_1) => Version::One {
                index: long(h, field::INDEX.start) & INDEX_MAX,
            },
            (2, PROTOCOL_2) => {
                let h: &[u8; 12] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
                let word = word(h, field::HARDWARE.start);
                Version::Two {
                    direction: (word >> 3 & 1) as u8,
                    hardware: (word >> 4 & 0x3f) as u8,
                    subheader: word & 1 != 0,
                }
            }
            _ => return Err(DropReason::TunnelHeader),
        };
        let erspan = Erspan {
            session: word(h, field::SESSION.start) & 0x3ff,
            version,
        };
        if bytes.len() < erspan.header_len() {
            return Err(DropReason::TunnelTruncated);
        }
        Ok(erspan)
    }

    /// Writes the header to the front of `out`, which is long enough; how long it is. A subheader is not written; the timestamp
    /// is zero.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        put(out, field::SESSION.start, self.session & 0x3ff);
        match self.version {
            Version::One { index } => {
                put(out, field::VERSION.start, 1 << 12);
                put_long(out, field::INDEX.start, index & INDEX_MAX);
                8
            }
            Version::Two {
                direction,
                hardware,
                ..
            } => {
                put(out, field::VERSION.start, 2 << 12);
                put_long(out, field::TIMESTAMP.start, 0);
                put(out, field::GROUP.start, 0);
                let word = u16::from(hardware & HARDWARE_MAX) << 4 | u16::from(direction & 1) << 3;
                put(out, field::HARDWARE.start, word);
                12
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(session in 0u16..1 << 10, index in 0..=INDEX_MAX, direction in 0u8..2, hardware in 0..=HARDWARE_MAX, two: bool) {
            let version = if two {
                Version::Two { direction, hardware, subheader: false }
            } else {
                Version::One { index }
            };
            let e = Erspan { session, version };
            let mut h = [0xff; MAX];
            let len = e.emit(&mut h);
            prop_assert_eq!(len, e.header_len());
            prop_assert_eq!(Erspan::parse(e.protocol(), &h[..len]), Ok(e));
            prop_assert_eq!(Erspan::parse(e.protocol(), &h[..len - 1]), Err(DropReason::TunnelTruncated));
            prop_assert_eq!(Erspan::parse(e.protocol() ^ 1, &h), Err(DropReason::TunnelHeader));
        }
    }

    #[test]
    fn bytes_as_the_draft_draws_them() {
        let mut h = [0xff; MAX];
        let one = Erspan {
            session: 0x155,
            version: Version::One { index: 0x54321 },
        };
        assert_eq!(one.emit(&mut h), 8);
        assert_eq!(h[..8], [0x10, 0, 0x01, 0x55, 0, 5, 0x43, 0x21]);
        let two = Erspan {
            session: 1,
            version: Version::Two {
                direction: 1,
                hardware: 0x2a,
                subheader: false,
            },
        };
        assert_eq!(two.emit(&mut h), 12);
        assert_eq!(h, [0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x02, 0xa8]);
        // A platform's subheader is read over.
        let mut long = [0; 20];
        long[..12].copy_from_slice(&h);
        long[11] |= 1;
        assert_eq!(
            Erspan::parse(PROTOCOL_2, &long).map(|e| e.header_len()),
            Ok(20)
        );
        assert_eq!(
            Erspan::parse(PROTOCOL_2, &long[..19]),
            Err(DropReason::TunnelTruncated)
        );
    }
}
