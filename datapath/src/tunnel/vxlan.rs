//! VXLAN (RFC 7348), with the group policy extension (draft-smith-vxlan-group-policy).

use super::outer::{long, put_long, word};
use crate::drop::DropReason;

/// Bytes of the header.
pub const LEN: usize = 8;
/// Largest network identifier: 24 bits.
pub const VNI_MAX: u64 = 0xff_ffff;
/// Flags of the group policy that are told and set: "don't learn" and "policy applied".
pub const GBP_FLAGS: u8 = 0x48;

/// Where the fields are.
mod field {
    use std::ops::Range;
    pub const FLAGS: usize = 0;
    pub const GBP_FLAGS: usize = 1;
    pub const GBP_ID: Range<usize> = 2..4;
    pub const VNI: Range<usize> = 4..8;
}

/// The flag that says there is a VNI, which must be set.
const I: u8 = 0x08;
/// The flag of the group policy extension.
const G: u8 = 0x80;

/// A VXLAN header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// Group policy, flags and id, if the header has it.
    pub gbp: Option<(u8, u16)>,
}

impl Vxlan {
    /// Reads the header at the front of `bytes`. As with Open vSwitch and Linux, what is reserved must be zero.
    pub fn parse(bytes: &[u8]) -> Result<Vxlan, DropReason> {
        let h: &[u8; LEN] = bytes.first_chunk().ok_or(DropReason::TunnelTruncated)?;
        let vni = long(h, field::VNI.start);
        let gbp = match h[field::FLAGS] {
            I if h[1..4] == [0; 3] => None,
            f if f == I | G => Some((
                h[field::GBP_FLAGS] & GBP_FLAGS,
                word(h, field::GBP_ID.start),
            )),
            _ => return Err(DropReason::TunnelHeader),
        };
        if vni & 0xff != 0 {
            return Err(DropReason::TunnelHeader);
        }
        Ok(Vxlan { vni: vni >> 8, gbp })
    }

    /// Writes the header to the front of `out`, which is long enough; how long it is.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        out[..4].copy_from_slice(&match self.gbp {
            None => [I, 0, 0, 0],
            Some((flags, id)) => {
                let [high, low] = id.to_be_bytes();
                [I | G, flags & GBP_FLAGS, high, low]
            }
        });
        put_long(out, field::VNI.start, self.vni << 8);
        LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(vni in 0u32..1 << 24, gbp in proptest::option::of(any::<(u8, u16)>())) {
            let v = Vxlan { vni, gbp: gbp.map(|(f, id)| (f & GBP_FLAGS, id)) };
            let mut h = [0xff; LEN];
            prop_assert_eq!(v.emit(&mut h), LEN);
            prop_assert_eq!(Vxlan::parse(&h), Ok(v));
        }
    }

    #[test]
    fn bytes_as_rfc_7348_5_draws_them() {
        let mut h = [0; LEN];
        let plain = Vxlan {
            vni: 0x12_3456,
            gbp: None,
        };
        plain.emit(&mut h);
        assert_eq!(h, [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        let gbp = Vxlan {
            vni: 5,
            gbp: Some((0x48, 0x1234)),
        };
        gbp.emit(&mut h);
        assert_eq!(h, [0x88, 0x48, 0x12, 0x34, 0, 0, 5, 0]);
    }

    #[test]
    fn headers_that_are_not_to_be_are_refused() {
        let bad = |h: [u8; 8]| assert_eq!(Vxlan::parse(&h), Err(DropReason::TunnelHeader), "{h:?}");
        bad([0, 0, 0, 0, 0, 0, 1, 0]);
        bad([0x0c, 0, 0, 0, 0, 0, 1, 0]);
        bad([8, 0, 0, 1, 0, 0, 1, 0]);
        bad([8, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(Vxlan::parse(&[8; 7]), Err(DropReason::TunnelTruncated));
    }
}
