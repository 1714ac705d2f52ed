//! What a tunnel told of a packet, in a key.
//!
//! Flows match one tunnel flag (`tun_flags=oam`); the slot has room for the others, and for which options there are: an option
//! of value 0 is not the same as none.

use super::FlowKey;
use super::key::OPTIONS;
use crate::tunnel::{TUN_OAM, TunnelKey};
use openflow::{Match, Slot, TlvMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the flags that cannot be matched begin in their slot, and the options that there are.
const HIDDEN: u32 = 1;
const PRESENT: u32 = 8;
/// The flag that can be matched, alone.
pub(crate) const PUBLIC: u128 = 1;

/// The bit that says that a field has an option.
const fn present(field: u8) -> u128 {
    1 << (PRESENT + (field % OPTIONS) as u32)
}

/// An option's value as a field has it: its bytes as a number, of a long one the first sixteen.
fn value(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .take(16)
        .fold(0, |v, b| v << 8 | u128::from(*b))
}

/// The options in a run of bytes as it is on the wire: class, type, data.
pub(crate) fn each_option(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u8, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let len = usize::from(head[3] & 0x1f) * 4;
        let data = bytes.get(4..4 + len)?;
        bytes = &bytes[4 + len..];
        Some((u16::from_be_bytes([head[0], head[1]]), head[2], data))
    })
}

impl FlowKey {
    /// Takes what a tunnel told, but for options. TOS and TTL of the outer header are not for flows to see.
    pub fn set_tunnel(&mut self, t: &TunnelKey) {
        self.set(Slot::TunId, t.id.into());
        self.set_addresses(t.src, t.dst);
        self.set(Slot::TunFlags, flags_to_slot(t.flags));
        self.set(Slot::TunGbpId, t.gbp_id.into());
        self.set(Slot::TunGbpFlags, t.gbp_flags.into());
        self.set(Slot::ErspanVer, t.erspan_version.into());
        self.set(Slot::ErspanIdx, t.erspan_index.into());
        self.set(Slot::ErspanDir, t.erspan_direction.into());
        self.set(Slot::ErspanHwid, t.erspan_hwid.into());
        self.set(Slot::GtpuFlags, t.gtpu_flags.into());
        self.set(Slot::GtpuMsgtype, t.gtpu_message.into());
    }

    /// The outer addresses.
    fn set_addresses(&mut self, src: IpAddr, dst: IpAddr) {
        for (ip, v4, v6) in [
            (src, Slot::TunSrc, Slot::TunIpv6Src),
            (dst, Slot::TunDst, Slot::TunIpv6Dst),
        ] {
            match ip {
                IpAddr::V4(ip) => self.set(v4, u32::from(ip).into()),
                IpAddr::V6(ip) => self.set(v6, ip.into()),
            }
        }
    }

    /// What is known of a tunnel; addresses are none where there is none.
    pub(crate) fn tunnel_address(&self, v4: Slot, v6: Slot) -> Option<IpAddr> {
        match (self.get(v4), self.get(v6)) {
            (0, 0) => None,
            (0, ip) => Some(Ipv6Addr::from(ip).into()),
            (ip, _) => Some(Ipv4Addr::from(ip as u32).into()),
        }
    }

    /// Takes the options of a Geneve header, as far as fields are for them.
    pub fn set_options(&mut self, options: &[u8], maps: &[TlvMap]) {
        for (class, kind, data) in each_option(options) {
            if let Some(m) = maps.iter().find(|m| (m.class, m.kind) == (class, kind))
                && usize::from(m.len) == data.len()
            {
                let field = m.index as u8;
                self.set(Slot::TunOption(field), value(data));
                self.mark_option(field, true);
            }
        }
    }

    /// Takes the options that a match tells of, as what it is: all there is to know of a packet.
    pub(crate) fn take_options(&mut self, told: &Match) {
        for e in told.entries() {
            if let Slot::TunOption(n) = e.slot {
                self.set(e.slot, e.value);
                self.mark_option(n, true);
            }
        }
    }

    /// A field has an option, or has none.
    pub(crate) fn mark_option(&mut self, field: u8, there: bool) {
        let bit = present(field);
        self.set_masked(Slot::TunFlags, if there { bit } else { 0 }, bit);
    }

    /// Whether a field has an option.
    pub(crate) fn has_option(&self, field: u8) -> bool {
        self.get(Slot::TunFlags) & present(field) != 0
    }

    /// Whether any has.
    pub(crate) fn has_options(&self) -> bool {
        self.get(Slot::TunFlags) >> PRESENT != 0
    }

    /// The options as a Geneve header has them.
    pub(crate) fn options(&self, maps: &[TlvMap]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for m in maps.iter().filter(|m| self.has_option(m.index as u8)) {
            let [c, d] = m.class.to_be_bytes();
            bytes.extend([c, d, m.kind, m.len / 4]);
            let value = self.get(Slot::TunOption(m.index as u8)).to_be_bytes();
            let len = usize::from(m.len);
            // Of a long one only the first bytes are known.
            bytes.extend(&value[16 - len.min(16)..]);
            bytes.resize(bytes.len() + len.saturating_sub(16), 0);
        }
        bytes
    }
}

/// Tunnel flags as a key has them.
fn flags_to_slot(flags: u16) -> u128 {
    let hidden = flags & (TUN_OAM - 1);
    u128::from(u16::from(flags & TUN_OAM != 0) | hidden << HIDDEN)
}

/// Tunnel flags of a key.
pub(crate) fn flags_of_slot(slot: u128) -> u16 {
    let oam = if slot & PUBLIC != 0 { TUN_OAM } else { 0 };
    oam | (slot >> HIDDEN) as u16 & (TUN_OAM - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::testing::key;

    #[test]
    fn options_come_out_as_they_went_in_and_zero_is_not_none() {
        let map = |class, kind, len, index| TlvMap {
            class,
            kind,
            len,
            index,
        };
        let maps = [map(0xffff, 0x80, 4, 0), map(1, 2, 24, 3), map(1, 3, 8, 9)];
        let mut wire = vec![0xff, 0xff, 0x80, 1, 0, 0, 0, 0];
        wire.extend([0, 1, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
        // One that nobody knows, and one of another length than its field.
        let mut all = wire.clone();
        all.extend([0, 7, 7, 1, 9, 9, 9, 9, 0, 1, 2, 1, 9, 9, 9, 9]);
        let mut k = FlowKey::default();
        k.set_tunnel(&TunnelKey {
            flags: TUN_OAM | 5,
            ..key()
        });
        k.set_options(&all, &maps);
        assert!(k.has_option(0) && !k.has_option(3) && k.has_option(9));
        assert_eq!(k.get(Slot::TunOption(9)), 0x0102_0304_0506_0708);
        assert_eq!(k.options(&maps), wire);
        assert_eq!(flags_of_slot(k.get(Slot::TunFlags)), TUN_OAM | 5);
        k.mark_option(0, false);
        assert_eq!(k.options(&maps), wire[8..]);
        k.set(Slot::TunOption(3), 0xab);
        k.mark_option(3, true);
        let long = k.options(&maps);
        assert_eq!(long.len(), 4 + 24 + 12);
        assert_eq!(long[..4], [0, 1, 2, 6]);
        assert_eq!((long[4 + 15], &long[20..28]), (0xab, &[0; 8][..]));
    }

    #[test]
    fn options_cut_short_are_left_out() {
        let all = [0, 1, 2, 1, 9, 9, 9, 9, 0, 1, 2, 2, 9, 9];
        for n in 0..all.len() {
            assert_eq!(each_option(&all[..n]).count(), usize::from(n >= 8));
        }
    }
}
