//! The pipeline: from a packet's key to what is done with it, and to which other packets the same
//! would be done.
//!
//! [`translate`](Xlate::run) walks the OpenFlow tables with one packet's key, following gotos, resubmits and
//! patch ports, and writes down datapath actions. Beside them it keeps the *mask*: every bit of the
//! key that any decision looked at. Another packet that came in by the same port and agrees on
//! those bits would have taken the same way, so the actions are good for it too; that is what makes
//! the caches right, and what the tests of this module check against translations of other packets.
//!
//! Three keys are kept. `key` is the packet as the pipeline sees it, after all set-fields. `wire`
//! is the packet as the actions written so far have left it. They are brought together ("committed") only when a
//! copy leaves, so sets that nothing follows cost nothing, and a detour through another
//! bridge is undone by itself. `touched` and `wire_touched` say which bits are no longer
//! those of the packet that came in: a bit that goes back to what it was has to be looked at, a bit
//! that was overwritten has not.

mod action_set;
mod continuation;
mod encap;
mod frozen;
mod group;
mod guard;
mod hash;
mod headers;
mod learn;
mod meter;
mod mirror;
mod normal;
mod output;
mod pushed;
pub mod trace;
mod translate;
mod translation;
mod tunnel;
mod vlan;

use crate::flow::{FlowKey, PACKET_WORDS, extract, slot_bits};
pub(crate) use action_set::is_for_sets;
pub use frozen::{Frozen, RECIRCULATIONS_MAX};
pub use learn::Lesson;
use openflow::{Match, Slot};
pub use translate::Xlate;
pub use translation::{Credit, Dep, Translation};

/// How deep resubmits and patch ports nest.
pub const DEPTH_MAX: usize = 64;
/// How many resubmits and patch crossings one packet makes in all.
pub const RESUBMITS_MAX: usize = 4096;
/// How many datapath actions a packet gets.
pub const ACTIONS_MAX: usize = 2048;
/// How many values the stack of push and pop holds.
pub const STACK_MAX: usize = 1024;
/// What is known of the tunnel a packet came by, or is to leave by.
pub(crate) const TUNNEL: [Slot; 14] = [
    Slot::TunId,
    Slot::TunSrc,
    Slot::TunDst,
    Slot::TunIpv6Src,
    Slot::TunIpv6Dst,
    Slot::TunFlags,
    Slot::TunGbpId,
    Slot::TunGbpFlags,
    Slot::ErspanDir,
    Slot::ErspanIdx,
    Slot::ErspanVer,
    Slot::ErspanHwid,
    Slot::GtpuFlags,
    Slot::GtpuMsgtype,
];
/// How many VLAN tags the pipeline keeps track of.
pub const TAGS_MAX: usize = 4;

/// The key of a frame, of whose tags the first `tag_limit` are looked at; none if it is shorter or longer than frames are.
pub fn key_of(frame: &[u8], tag_limit: u8) -> Option<FlowKey> {
    let mut batch = crate::packet::Batch::new();
    let owned = crate::packet::OwnedPacket::new(frame);
    // SAFETY: `owned` outlives the batch.
    if !unsafe { batch.push_borrowed(&owned) } {
        return None;
    }
    let mut words = [0; PACKET_WORDS];
    let n = extract(batch.packet_mut(0), 0, tag_limit, &mut words);
    Some(FlowKey::from_packet(&words, n))
}

/// What a frame is, as far as prerequisites of fields ask: Ethernet type, tag, protocol, ICMP type.
pub(crate) fn match_of(frame: &[u8], tag_limit: u8) -> Match {
    let mut m = Match::new();
    let Some(key) = key_of(frame, tag_limit) else {
        return m;
    };
    for slot in [Slot::EthType, Slot::VlanTci, Slot::NwProto, Slot::TpSrc] {
        m.set_slot(slot, key.get(slot), slot_bits(slot), slot_bits(slot));
    }
    m
}

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tests;
