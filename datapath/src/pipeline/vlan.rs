//! VLANs of the NORMAL action (IEEE 802.1Q): what VLAN a frame is of by the port it came in by, which ports carry that, and
//! the tags it leaves with.
//!
//! Inside the bridge every frame is of one VLAN, 0 for none. On its way in an untagged frame is given the port's VLAN, and
//! a tag that says the VLAN is taken off ([`classify`]); what other tags it has are its own, and the bridge carries them as they
//! are. A dot1q-tunnel takes all tags for the frame's own. On its way out the VLAN's tag is put on where it is not the
//! port's own VLAN ([`leave`]).
//!
//! Decisions here look at the outer tag, at the inner tag's VLAN ([`carries`]), and at whether there is an inner tag
//! ([`leave`], of a port with priority tags).

use super::headers::Tag;
use crate::config::{PriorityTags, VlanConfig, VlanMode};
use crate::drop::DropReason;

const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;
const PRESENT: u16 = 0x1000;
const TPID_8021Q: u16 = 0x8100;

/// A frame inside the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inside<'a> {
    /// Its VLAN, 0 for none.
    pub(super) vlan: u16,
    /// The protocol of the tag that says its VLAN where it is tagged; 0 for that of the tag it came with.
    tpid: u16,
    /// The priority, in place, of that tag.
    pcp: u16,
    /// The priority, in place, of the outer tag it came with.
    priority: u16,
    /// Whether it has a tag where VLAN 0 is tagged: it came with one, or was given its VLAN by a port.
    tagged: bool,
    /// The tags that are its own, the outer one first.
    inner: &'a [Tag],
}

impl Inside<'_> {
    /// The same frame in another VLAN.
    pub(super) fn in_vlan(self, vlan: u16) -> Self {
        Inside { vlan, ..self }
    }

    /// The VLAN of the outer tag that is its own, 0 for none.
    fn inner_vlan(&self) -> u16 {
        self.inner.first().map_or(0, |t| t.tci & VID)
    }
}

fn native(c: &VlanConfig) -> u16 {
    c.tag.unwrap_or(0)
}

/// Whether a port carries a VLAN at all.
fn carries_vlan(c: &VlanConfig, vlan: u16) -> bool {
    let trunk = || c.trunks.is_empty() || c.trunks.contains(&vlan);
    match c.mode {
        VlanMode::Access | VlanMode::Dot1qTunnel => vlan == native(c),
        VlanMode::Trunk => trunk(),
        // Where untagged frames are of a VLAN there is nothing without one.
        VlanMode::NativeTagged | VlanMode::NativeUntagged => {
            vlan == native(c) || vlan != 0 && trunk()
        }
    }
}

fn carries_cvlan(c: &VlanConfig, cvlan: u16) -> bool {
    c.cvlans.is_empty() || c.cvlans.contains(&cvlan)
}

/// What a frame with these tags is inside the bridge, if the port it came in by takes it.
pub(super) fn classify<'a>(c: &VlanConfig, tags: &'a [Tag]) -> Result<Inside<'a>, DropReason> {
    let (outer, rest) = match tags {
        [] => (None, tags),
        [outer, rest @ ..] => (Some(*outer), rest),
    };
    let vid = outer.map_or(0, |t| t.tci & VID);
    let pcp = outer.map_or(0, |t| t.tci & PCP);
    let inside = Inside {
        vlan: vid,
        tpid: outer.map_or(TPID_8021Q, |t| t.tpid),
        pcp,
        priority: pcp,
        tagged: outer.is_some(),
        inner: rest,
    };
    let of_port = Inside {
        vlan: native(c),
        tagged: true,
        ..inside
    };
    match c.mode {
        VlanMode::Access if vid != 0 => Err(DropReason::VlanTagOnAccess),
        VlanMode::Access => Ok(of_port),
        VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => Ok(of_port),
        VlanMode::Dot1qTunnel if !carries_cvlan(c, vid) => Err(DropReason::CvlanNotCarried),
        VlanMode::Dot1qTunnel => Ok(Inside {
            vlan: native(c),
            tpid: c.qinq_ethtype.tpid(),
            pcp: 0,
            priority: pcp,
            tagged: true,
            inner: tags,
        }),
        _ if carries_vlan(c, vid) => Ok(inside),
        _ => Err(DropReason::VlanNotOnTrunk),
    }
}

/// Whether a port carries a frame, and why not. A frame with a VLAN of its own inside the port's is not for an access port: who
/// is there sees no VLANs.
pub(super) fn carries(c: &VlanConfig, frame: &Inside<'_>) -> Result<(), DropReason> {
    if !carries_vlan(c, frame.vlan) {
        return Err(DropReason::VlanNotOnTrunk);
    }
    match c.mode {
        VlanMode::Access if frame.inner_vlan() != 0 => Err(DropReason::VlanTagOnAccess),
        VlanMode::Dot1qTunnel if !carries_cvlan(c, frame.inner_vlan()) => {
            Err(DropReason::CvlanNotCarried)
        }
        _ => Ok(()),
    }
}

/// Whether [`carries`] or [`leave`] look at tags that are the frame's own, for frames that the port may carry.
pub(super) fn looks_inside(c: &VlanConfig) -> bool {
    match c.mode {
        VlanMode::Access => true,
        VlanMode::Dot1qTunnel => !c.cvlans.is_empty() || c.priority_tags != PriorityTags::Never,
        VlanMode::NativeUntagged => c.priority_tags != PriorityTags::Never,
        VlanMode::Trunk | VlanMode::NativeTagged => false,
    }
}

/// Writes the tags that a frame leaves by a port with, the outer one first.
pub(super) fn leave(c: &VlanConfig, frame: &Inside<'_>, tags: &mut Vec<Tag>) {
    tags.clear();
    let stripped = match c.mode {
        VlanMode::Access | VlanMode::Dot1qTunnel => true,
        VlanMode::NativeUntagged => frame.vlan == native(c),
        VlanMode::Trunk | VlanMode::NativeTagged => false,
    };
    let pcp = match c.priority_tags {
        PriorityTags::Never if stripped => 0,
        PriorityTags::Never => frame.pcp,
        PriorityTags::IfNonzero | PriorityTags::Always => frame.priority,
    };
    if stripped {
        // A tag of its own is the frame's: no other is put before it, nor is it changed.
        if frame.inner.is_empty() && pcp != 0 {
            tags.push(Tag {
                tpid: TPID_8021Q,
                tci: PRESENT | pcp,
            });
        }
    } else if frame.vlan | pcp != 0 || frame.tagged && c.priority_tags == PriorityTags::Always {
        tags.push(Tag {
            tpid: frame.tpid,
            tci: PRESENT | pcp | frame.vlan,
        });
    }
    tags.extend_from_slice(frame.inner);
}
