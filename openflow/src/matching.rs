//! A match: which packets a rule speaks of.
//!
//! Kept by [`Slot`], sorted, without empty entries, so that equal matches are equal values however
//! they were spelled (`dl_vlan=10`, `vlan_vid=0x100a/0x1fff` and `vlan_tci=0x100a/0x1fff` are one).

use crate::field::{FieldId, Prereq, Slot};

/// What a packet must carry: for each slot the wanted bits under a mask. Empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match {
    entries: Vec<MatchEntry>,
}

/// One slot of a match. `value` has no bit outside `mask`, and `mask` is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatchEntry {
    /// Where to look.
    pub slot: Slot,
    /// The wanted bits.
    pub value: u128,
    /// The bits looked at.
    pub mask: u128,
}

impl Match {
    /// The match of every packet.
    pub fn new() -> Match {
        Match::default()
    }

    /// The match of every packet, with room for so many slots.
    pub fn with_capacity(slots: usize) -> Match {
        Match {
            entries: Vec::with_capacity(slots.min(Slot::ALL.len())),
        }
    }

    /// The slots looked at, in key order.
    pub fn entries(&self) -> &[MatchEntry] {
        &self.entries
    }

    /// Whether every packet matches.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Wants `field` to be exactly `value`, replacing what was wanted of those bits.
    pub fn set(&mut self, field: FieldId, value: u128) {
        self.set_masked(field, value, field.info().full_mask());
    }

    /// Builder form of [`Match::set`].
    #[must_use]
    pub fn with(mut self, field: FieldId, value: u128) -> Match {
        self.set(field, value);
        self
    }

    /// Wants the bits of `field` under `mask` to be those of `value`, replacing what was wanted of
    /// the field's bits. Bits outside the field's width are ignored.
    pub fn set_masked(&mut self, field: FieldId, value: u128, mask: u128) {
        let info = field.info();
        // The standard's two-byte ARP opcode lives in the key's protocol byte.
        let width = info.full_mask() & (slot_mask(info.slot) >> info.shift);
        let mask = mask & width;
        self.set_slot(
            info.slot,
            (value & mask) << info.shift,
            mask << info.shift,
            width << info.shift,
        );
    }

    /// Wants a run of bits to be `value`, beside what is wanted of the field's other bits.
    pub fn set_bits(&mut self, run: crate::Subfield, value: u128) {
        let info = run.field.info();
        let ones = match run.bits {
            128.. => u128::MAX,
            n => (1 << n) - 1,
        };
        let at = info.shift + run.offset;
        let area = (ones << at) & slot_mask(info.slot);
        self.set_slot(info.slot, (value & ones) << at & area, area, area);
    }

    /// Replaces, in `slot`, the bits of `area` by `value` under `mask`.
    pub fn set_slot(&mut self, slot: Slot, value: u128, mask: u128, area: u128) {
        match self.entries.binary_search_by_key(&slot, |e| e.slot) {
            Ok(i) => {
                let e = &mut self.entries[i];
                e.mask = (e.mask & !area) | mask;
                e.value = ((e.value & !area) | value) & e.mask;
                if e.mask == 0 {
                    self.entries.remove(i);
                }
            }
            Err(i) if mask != 0 => self.entries.insert(
                i,
                MatchEntry {
                    slot,
                    value: value & mask,
                    mask,
                },
            ),
            Err(_) => {}
        }
    }

    /// Value and mask of a whole slot, zeros if it is not looked at.
    pub fn slot(&self, slot: Slot) -> (u128, u128) {
        match self.entries.binary_search_by_key(&slot, |e| e.slot) {
            Ok(i) => (self.entries[i].value, self.entries[i].mask),
            Err(_) => (0, 0),
        }
    }

    /// Value and mask of one field's bits, in the field's own width.
    pub fn get(&self, field: FieldId) -> (u128, u128) {
        let info = field.info();
        let (value, mask) = self.slot(info.slot);
        (
            (value >> info.shift) & info.full_mask(),
            (mask >> info.shift) & info.full_mask(),
        )
    }

    /// The field's value if all its bits are looked at.
    pub fn exact(&self, field: FieldId) -> Option<u128> {
        let info = field.info();
        let width = info.full_mask() & (slot_mask(info.slot) >> info.shift);
        let (value, mask) = self.get(field);
        (mask == width).then_some(value)
    }

    /// The Ethernet type that every packet of this match has, be it said by itself or as a packet
    /// type of namespace 1 (OpenFlow 1.5.1 7.2.3.11).
    pub fn eth_type(&self) -> Option<u16> {
        match self.exact(FieldId::PacketType) {
            Some(t) if t >> 16 == 1 => Some(t as u16),
            Some(0) | None => self.exact(FieldId::EthType).map(|t| t as u16),
            Some(_) => None,
        }
    }

    /// Whether every packet of this match is what `prereq` asks for (OpenFlow 1.3.5 7.2.3.6).
    pub fn meets(&self, prereq: Prereq) -> bool {
        let eth = self.eth_type();
        let ip = matches!(eth, Some(0x0800 | 0x86dd));
        let proto = self.exact(FieldId::IpProto);
        // Neighbour discovery has ICMP code 0, which need not be spelled out.
        let nd = |types: std::ops::RangeInclusive<u128>| {
            eth == Some(0x86dd)
                && proto == Some(58)
                && self.slot(Slot::TpDst).0 == 0
                && self
                    .exact(FieldId::Icmpv6Type)
                    .is_some_and(|t| types.contains(&t))
        };
        match prereq {
            Prereq::None => true,
            Prereq::Vlan => self.slot(Slot::VlanTci).0 & 0x1000 != 0,
            Prereq::Mpls => matches!(eth, Some(0x8847 | 0x8848)),
            Prereq::Pbb => eth == Some(0x88e7),
            Prereq::Ip => ip,
            Prereq::Ipv4 => eth == Some(0x0800),
            Prereq::Ipv6 => eth == Some(0x86dd),
            Prereq::Arp => matches!(eth, Some(0x0806 | 0x8035)),
            Prereq::Tcp => ip && proto == Some(6),
            Prereq::Udp => ip && proto == Some(17),
            Prereq::Sctp => ip && proto == Some(132),
            Prereq::Icmpv4 => eth == Some(0x0800) && proto == Some(1),
            Prereq::Icmpv6 => eth == Some(0x86dd) && proto == Some(58),
            Prereq::Nd => nd(135..=136),
            Prereq::NdSolicit => nd(135..=135),
            Prereq::NdAdvert => nd(136..=136),
            Prereq::Nsh => eth == Some(0x894f),
            Prereq::Ct => {
                // One of new, est, rel, rpl, snat, dnat; or trk, and surely not inv.
                let (value, mask) = self.get(FieldId::CtState);
                value & 0xcf != 0 || value & 0x20 != 0 && mask & !value & 0x10 != 0
            }
        }
    }

    /// Whether every packet that matches `self` also matches `other`: `self` is at least as narrow
    /// (what a non-strict modify, delete or dump with `other` selects, OpenFlow 1.3.5 6.4).
    pub fn is_within(&self, other: &Match) -> bool {
        other.entries.iter().all(|o| {
            let (value, mask) = self.slot(o.slot);
            mask & o.mask == o.mask && value & o.mask == o.value
        })
    }

    /// Whether some packet could match both.
    pub fn overlaps(&self, other: &Match) -> bool {
        self.entries.iter().all(|e| {
            let (value, mask) = other.slot(e.slot);
            let both = mask & e.mask;
            value & both == e.value & both
        })
    }
}

fn slot_mask(slot: Slot) -> u128 {
    if slot.bits() == 128 {
        u128::MAX
    } else {
        (1 << slot.bits()) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_match_are_one_value() {
        let a = Match::new().with(FieldId::VlanVid, 0x100a);
        let mut b = Match::new();
        b.set_masked(FieldId::VlanTci, 0x100a, 0x1fff);
        assert_eq!(a, b);
        assert_eq!(a.exact(FieldId::VlanVid), Some(0x100a));
        assert_eq!(a.exact(FieldId::VlanTci), None);
    }

    #[test]
    fn narrower_is_within_wider_and_disjoint_do_not_overlap() {
        let wide = Match::new().with(FieldId::EthType, 0x800);
        let narrow = wide.clone().with(FieldId::Ipv4Src, 0x0a00_0001);
        assert!(narrow.is_within(&wide) && !wide.is_within(&narrow));
        assert!(narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&Match::new().with(FieldId::EthType, 0x806)));
    }

    #[test]
    fn clearing_a_field_removes_its_entry() {
        let mut m = Match::new().with(FieldId::VlanPcp, 3);
        m.set_masked(FieldId::VlanPcp, 0, 0);
        assert!(m.is_empty());
    }
}
