//! Headers as the pipeline sees them: reading and writing fields of the key, tags, and bringing the packet up to what the key
//! says before a copy of it leaves.

use super::translate::Xlate;
use crate::action::DpAction;
use crate::flow::slot_bits;
use openflow::{FieldId, Slot, Subfield};

/// A VLAN tag the pipeline knows of; tag protocol 0 is "as it came".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) tpid: u16,
    pub(super) tci: u16,
}

/// Slots that lie in the packet, and are committed to it.
const HEADER: [Slot; 22] = [
    Slot::EthDst,
    Slot::EthSrc,
    Slot::NwSrc,
    Slot::NwDst,
    Slot::NwProto,
    Slot::NwTos,
    Slot::NwTtl,
    Slot::TpSrc,
    Slot::TpDst,
    Slot::Ipv6Src,
    Slot::Ipv6Dst,
    Slot::Ipv6Label,
    Slot::NdTarget,
    Slot::ArpSha,
    Slot::ArpTha,
    Slot::Mpls,
    Slot::PbbUca,
    Slot::PbbIsid,
    Slot::NshFlags,
    Slot::NshTtl,
    Slot::NshPath,
    Slot::NshContext,
];

impl Xlate<'_> {
    pub(super) fn write(&mut self, slot: Slot, value: u128, mask: u128) {
        self.clean = false;
        self.key.set_masked(slot, value, mask);
        self.touched.look(slot, mask);
        if let Slot::TunOption(n) = slot {
            self.key.mark_option(n, true);
        }
    }

    /// Takes a tunnel option away.
    pub(super) fn delete_field(&mut self, field: FieldId) {
        if let Slot::TunOption(n) = field.info().slot {
            self.write(Slot::TunOption(n), 0, u128::MAX);
            self.key.mark_option(n, false);
        }
    }

    /// The key's VLAN slots follow the tags.
    pub(super) fn sync_tags(&mut self) {
        for (i, slot) in [Slot::VlanTci, Slot::InnerVlanTci].into_iter().enumerate() {
            let tci = self.tags.get(i).map_or(0, |t| t.tci);
            self.key.set(slot, tci.into());
        }
    }

    /// From here on the tags are not those of the packet: all of them have been looked at.
    pub(super) fn look_tags(&mut self) {
        self.look_all(Slot::VlanTci);
        self.look_all(Slot::InnerVlanTci);
    }

    pub(super) fn read(&mut self, s: Subfield) -> u128 {
        let info = s.field.info();
        let ones = match s.bits {
            128.. => u128::MAX,
            n => (1 << n) - 1,
        };
        let at = info.shift + s.offset;
        self.sync_tags();
        self.look(info.slot, ones << at);
        if info.slot == Slot::VlanTci {
            self.look_tags();
        }
        (self.key.get(info.slot) >> at) & ones
    }

    pub(super) fn set_field(&mut self, field: FieldId, value: u128, mask: u128) {
        let info = field.info();
        let mask = (mask & info.full_mask()) << info.shift;
        let value = (value << info.shift) & mask;
        if info.slot == Slot::VlanTci {
            self.set_tci(value as u16, mask as u16);
        } else {
            self.write(info.slot, value, mask & slot_bits(info.slot));
        }
    }

    /// Sets bits of the tag, putting one on if there is none.
    pub(super) fn set_tag(&mut self, value: u16, mask: u16) {
        self.set_tci(value | 0x1000, mask | 0x1000);
    }

    /// Sets bits of the tag control information; clearing the present bit takes the tag off.
    pub(super) fn set_tci(&mut self, value: u16, mask: u16) {
        self.look_tags();
        let old = self.tags.first().map_or(0, |t| t.tci);
        let tci = old & !mask | value & mask;
        match (tci & 0x1000 != 0, self.tags.first_mut()) {
            (true, Some(tag)) => tag.tci = tci,
            (true, None) => self.tags.insert(0, Tag { tpid: 0x8100, tci }),
            (false, Some(_)) => {
                self.tags.remove(0);
            }
            (false, None) => {}
        }
        self.sync_tags();
    }

    /// Makes the packet on the wire what the key says.
    pub(super) fn commit(&mut self) {
        self.undo_pushes();
        self.commit_tags();
        if self.clean {
            return;
        }
        let nsh = self.key.get64(Slot::EthType) == 0x894f;
        for slot in HEADER {
            // Service headers and IPv6 share words of the key.
            let shared = match slot {
                Slot::NshFlags | Slot::NshTtl | Slot::NshPath | Slot::NshContext => !nsh,
                Slot::Ipv6Src | Slot::Ipv6Dst => nsh,
                _ => false,
            };
            if shared {
                continue;
            }
            let ours = self.touched.get(slot);
            let wires = self.wire_touched.get(slot);
            if ours | wires == 0 {
                continue;
            }
            let key = self.key.get(slot);
            // Bits that go back to the packet's own: their value is now looked at.
            self.out.mask.look(slot, wires & !ours);
            let change = ours & !wires | wires & (self.wire.get(slot) ^ key);
            if change != 0 {
                self.emit(DpAction::Set {
                    slot,
                    value: key & change,
                    mask: change,
                });
            }
            self.wire.set_masked(slot, key, ours | wires);
            self.wire_touched.look(slot, ours);
        }
    }

    pub(super) fn commit_tags(&mut self) {
        if self.tags == self.wire_tags {
            return;
        }
        let same = self
            .tags
            .iter()
            .rev()
            .zip(self.wire_tags.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        let take = self.wire_tags.len() - same;
        let put = self.tags.len() - same;
        let mut list = Vec::new();
        let replace = take == 1 && put == 1 && {
            let (old, new) = (self.wire_tags[0], self.tags[0]);
            old.tpid == new.tpid
        };
        if replace {
            list.push(DpAction::SetVlan(self.tags[0].tci));
        } else {
            list.extend((0..take).map(|_| DpAction::PopVlan));
            for t in self.tags[..put].iter().rev() {
                list.push(DpAction::PushVlan {
                    tpid: t.tpid,
                    tci: t.tci,
                });
            }
        }
        for a in list {
            self.emit(a);
        }
        self.wire_tags = self.tags.clone();
    }
}
