//! Geneve (RFC 8926).

use super::OPTIONS_MAX;
use super::outer::{long, put, put_long, word};
use crate::drop::DropReason;

/// Bytes of the header without options.
pub const LEN: usize = 8;
/// Protocol type of Ethernet frames.
const ETHERNET: u16 = 0x6558;

/// Where the fields are (RFC 8926 3.4).
mod field {
    use std::ops::Range;
    pub const VERSION: usize = 0;
    pub const FLAGS: usize = 1;
    pub const PROTOCOL: Range<usize> = 2..4;
    pub const VNI: Range<usize> = 4..8;
}

/// The packet is about the tunnel.
const OAM: u8 = 0x80;
/// There are options that must be understood.
const CRITICAL: u8 = 0x40;
/// The bit of an option's type that says that it must be understood.
const OPTION_CRITICAL: u8 = 0x80;

/// A Geneve header. Its options stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geneve {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// The packet is about the tunnel.
    pub oam: bool,
    /// Bytes of options, a multiple of 4 up to [`OPTIONS_MAX`].
    pub options: usize,
}

impl Geneve {
    /// Bytes of header and options.
    pub fn header_len(&self) -> usize {
        LEN + self.options
    }

    /// Reads the header at the front of `bytes`, and that options are there and well formed. Only Ethernet frames can be
    /// inside.
    pub fn parse(bytes: &[u8]) -> Result<Geneve, DropReason> {
        let h: &[u8; LEN] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
        if h[field::VERSION] >> 6 != 0 {
            return Err(DropReason::TunnelHeader);
        }
        if word(h, field::PROTOCOL.start) != ETHERNET {
            return Err(DropReason::TunnelProtocol);
        }
        let g = Geneve {
            vni: long(h, field::VNI.start) >> 8,
            oam: h[field::FLAGS] & OAM != 0,
            options: usize::from(h[field::VERSION] & 0x3f) * 4,
        };
        let options = bytes
            .get(LEN..g.header_len())
            .ok_or(DropReason::TunnelTruncated)?;
        if !is_well_formed(options) {
            return Err(DropReason::TunnelOption);
        }
        Ok(g)
    }

    /// Writes the header and `options` to the front of `out`, which is long enough; how long it is.
    pub fn emit(vni: u32, oam: bool, options: &[u8], out: &mut [u8]) -> usize {
        out[field::VERSION] = (options.len() / 4) as u8;
        let critical = each(options).any(|o| o.is_critical());
        out[field::FLAGS] = if oam { OAM } else { 0 } | if critical { CRITICAL } else { 0 };
        put(out, field::PROTOCOL.start, ETHERNET);
        put_long(out, field::VNI.start, vni << 8);
        out[LEN..LEN + options.len()].copy_from_slice(options);
        LEN + options.len()
    }
}

/// An option (RFC 8926 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneveOption<'a> {
    /// Who defined it.
    pub class: u16,
    /// Its type, with the bit that says that it must be understood.
    pub kind: u8,
    /// Its data, a multiple of 4 bytes.
    pub data: &'a [u8],
}

impl GeneveOption<'_> {
    /// Whether who does not know it must drop the packet.
    pub fn is_critical(&self) -> bool {
        self.kind & OPTION_CRITICAL != 0
    }
}

/// The options, up to one that is cut short.
pub fn each(mut bytes: &[u8]) -> impl Iterator<Item = GeneveOption<'_>> {
    std::iter::from_fn(move || {
        let h: &[u8; 4] = bytes.first_chunk()?;
        let end = 4 + usize::from(h[3] & 0x1f) * 4;
        let option = GeneveOption {
            class: word(h, 0),
            kind: h[2],
            data: bytes.get(4..end)?,
        };
        bytes = &bytes[end..];
        Some(option)
    })
}

/// Whether these are options one after the other, none cut short, and no more than a header can have.
pub fn is_well_formed(options: &[u8]) -> bool {
    let len: usize = each(options).map(|o| 4 + o.data.len()).sum();
    len == options.len() && len <= OPTIONS_MAX
}

/// Whether options can be taken: those that are known, by class and type, are as long as they are known to be, and no other
/// must be understood. If not, the packet must be dropped (RFC 8926 3.5).
pub fn are_understood(options: &[u8], len: impl Fn(u16, u8) -> Option<usize>) -> bool {
    each(options).all(|o| match len(o.class, o.kind) {
        Some(len) => o.data.len() == len,
        None => !o.is_critical(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> impl Strategy<Value = Vec<u8>> {
        let option = (
            any::<u16>(),
            any::<u8>(),
            proptest::collection::vec(any::<[u8; 4]>(), 0..8),
        );
        proptest::collection::vec(option, 0..7).prop_map(|list| {
            let mut bytes = Vec::new();
            for (class, kind, data) in list {
                bytes.extend(class.to_be_bytes());
                bytes.extend([kind, data.len() as u8]);
                bytes.extend(data.as_flattened());
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn round_trips(vni in 0u32..1 << 24, oam: bool, options in options()) {
            let mut h = [0xff; LEN + OPTIONS_MAX];
            let len = Geneve::emit(vni, oam, &options, &mut h);
            let g = Geneve { vni, oam, options: options.len() };
            prop_assert_eq!(len, g.header_len());
            prop_assert_eq!(Geneve::parse(&h[..len]), Ok(g));
            prop_assert_eq!(Geneve::parse(&h[..len - 1]), Err(DropReason::TunnelTruncated));
            prop_assert_eq!(&h[LEN..len], &options);
            prop_assert_eq!(h[1] & CRITICAL == 0, are_understood(&options, |_, _| None));
            let lens: Vec<_> = each(&options).map(|o| o.data.len()).collect();
            let same = lens.iter().all(|l| *l == 4);
            prop_assert_eq!(are_understood(&options, |_, _| Some(4)), same);
        }
    }

    #[test]
    fn bytes_as_rfc_8926_3_4_draws_them() {
        let mut h = [0xff; 16];
        let option = [0xff, 0xff, 0x80, 1, 1, 2, 3, 4];
        assert_eq!(Geneve::emit(0xabcdef, true, &option, &mut h), 16);
        assert_eq!(h[..8], [2, 0xc0, 0x65, 0x58, 0xab, 0xcd, 0xef, 0]);
        assert_eq!(h[8..], option);
    }

    #[test]
    fn headers_that_are_not_to_be_are_refused() {
        let parse = Geneve::parse;
        assert_eq!(
            parse(&[0x40, 0, 0x65, 0x58, 0, 0, 1, 0]),
            Err(DropReason::TunnelHeader)
        );
        assert_eq!(
            parse(&[0, 0, 8, 0, 0, 0, 1, 0]),
            Err(DropReason::TunnelProtocol)
        );
        let cut = [1, 0, 0x65, 0x58, 0, 0, 1, 0, 0, 1, 2, 1];
        assert_eq!(parse(&cut), Err(DropReason::TunnelOption));
    }
}
