//! Headers put on.
//!
//! A header that is put on hides what is behind it. The packet gets it at once, with everything that was changed before; what
//! the key says of it is known. When the pipeline comes back to the packet as it was before (after a patch port, say),
//! the header is taken off again before the next copy leaves.

use super::headers::Tag;
use super::translate::Xlate;
use crate::action::DpAction;
use crate::drop::DropReason;
use crate::flow::{FlowKey, FlowMask};
use openflow::Slot;

/// A header put on in this translation.
#[derive(Clone)]
pub(super) struct Pushed {
    /// Takes it off.
    undo: DpAction,
    /// The packet before it.
    wire: FlowKey,
    wire_touched: FlowMask,
}

/// The packet as the pipeline sees it at some point, to come back to.
pub(super) struct Seen {
    key: FlowKey,
    touched: FlowMask,
    tags: Vec<Tag>,
    pushes: usize,
}

/// What lies in the Ethernet header and before it: an MPLS entry goes behind.
const BEFORE_MPLS: [Slot; 6] = [
    Slot::InPort,
    Slot::PktMark,
    Slot::EthDst,
    Slot::EthSrc,
    Slot::VlanTci,
    Slot::InnerVlanTci,
];

/// Explicit null labels (RFC 3032 2.1).
const NULL_IPV4: u32 = 0;
const NULL_IPV6: u32 = 2;
/// TTL of an entry on what has none.
const TTL: u32 = 64;
/// TTLs below which a packet goes no further.
const TTL_EXPIRED: u64 = 1;

impl Xlate<'_> {
    /// The packet as it is.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            key: self.key,
            touched: self.touched,
            tags: self.tags.clone(),
            pushes: self.pushes,
        }
    }

    /// Back to the packet as it was; a translation set aside meanwhile ends here.
    pub(super) fn back_to(&mut self, seen: Seen) {
        self.seal();
        self.key = seen.key;
        self.touched = seen.touched;
        self.tags = seen.tags;
        self.pushes = seen.pushes;
    }

    /// Takes off what was put on, but not by the packet as it is now.
    pub(super) fn undo_pushes(&mut self) {
        while self.pushed.len() > self.pushes {
            let Some(p) = self.pushed.pop() else { return };
            let (wire, wire_touched) = (self.wire, self.wire_touched);
            self.wire = p.wire;
            self.wire_touched = p.wire_touched;
            // What was changed before the header stays so.
            for slot in BEFORE_MPLS {
                self.wire.set(slot, wire.get(slot));
                self.wire_touched.set(slot, wire_touched.get(slot));
            }
            self.emit(p.undo);
        }
    }

    /// Nothing more is known of what was behind the tags: the packet has a header there that is the pipeline's own.
    fn hide(&mut self, undo: DpAction) {
        self.pushed.push(Pushed {
            undo,
            wire: self.wire,
            wire_touched: self.wire_touched,
        });
        self.pushes += 1;
        self.clean = false;
        for &slot in Slot::ALL {
            let word = usize::from(crate::flow::place(slot).word);
            if word < crate::flow::PACKET_WORDS && !BEFORE_MPLS.contains(&slot) {
                self.write(slot, 0, u128::MAX);
            }
        }
    }

    /// The packet on the wire is as the key says.
    fn shown(&mut self) {
        self.wire = self.key;
        self.wire_touched = self.touched;
    }

    /// A label stack entry on: a copy of the one it is put on, or made of the IP header (as Open vSwitch does; OpenFlow 1.3.5
    /// 5.12.1 leaves the label open).
    pub(super) fn push_mpls(&mut self, eth_type: u16) {
        let old = self.key.get64(Slot::EthType) as u16;
        let entry = match old {
            0x8847 | 0x8848 => {
                self.look_all(Slot::Mpls);
                self.key.get64(Slot::Mpls) as u32 & !0x100
            }
            0x0800 | 0x86dd => {
                self.look_all(Slot::NwTos);
                self.look_all(Slot::NwTtl);
                let tc = (self.key.get64(Slot::NwTos) >> 2) as u32 & 7;
                let ttl = match self.key.get64(Slot::NwTtl) as u32 {
                    0 => TTL,
                    ttl => ttl,
                };
                let label = if old == 0x0800 { NULL_IPV4 } else { NULL_IPV6 };
                label << 12 | tc << 9 | 0x100 | ttl
            }
            _ => 0x100 | TTL,
        };
        self.commit();
        self.emit(DpAction::PushMpls { eth_type, entry });
        self.hide(DpAction::PopMpls(old));
        self.write(Slot::EthType, eth_type.into(), u128::MAX);
        self.write(Slot::Mpls, entry.into(), u128::MAX);
        self.shown();
    }

    /// Whether there is a label stack.
    pub(super) fn has_mpls(&self) -> bool {
        matches!(self.key.get64(Slot::EthType), 0x8847 | 0x8848)
    }

    /// One off the MPLS TTL; `false` if it ran out.
    pub(super) fn dec_mpls_ttl(&mut self) -> bool {
        if !self.has_mpls() {
            return true;
        }
        self.look(Slot::Mpls, 0xff);
        let ttl = self.key.get64(Slot::Mpls) & 0xff;
        if ttl <= TTL_EXPIRED {
            self.dropped(DropReason::TtlExpired);
            return false;
        }
        self.write(Slot::Mpls, (ttl - 1).into(), 0xff);
        true
    }
}
