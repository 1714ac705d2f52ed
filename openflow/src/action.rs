//! Actions and instructions, independent of any protocol version.

use crate::field::FieldId;
use crate::message::PortNo;
use bytes::Bytes;

/// A run of bits of a field: `NXM_OF_VLAN_TCI[0..11]`, `reg0[16..31]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subfield {
    /// The field.
    pub field: FieldId,
    /// Lowest bit.
    pub offset: u8,
    /// Number of bits, at least one.
    pub bits: u8,
}

impl Subfield {
    /// All of a field.
    pub fn whole(field: FieldId) -> Subfield {
        Subfield {
            field,
            offset: 0,
            bits: field.info().bits as u8,
        }
    }
}

/// Why a packet goes to a controller (OpenFlow 1.3.5 7.4.1; numbers as on the wire).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketInReason {
    /// No rule matched (the table-miss rule).
    NoMatch,
    /// A rule sent it.
    Action,
    /// The TTL ran out.
    InvalidTtl,
    /// An action set sent it (1.4 and later).
    ActionSet,
    /// A group bucket sent it (1.4 and later).
    Group,
    /// A packet-out sent it (1.4 and later).
    PacketOut,
}

/// One action. What a version cannot express is an error of that version's encoder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send out of a port, real or reserved. `max_len` counts for [`PortNo::CONTROLLER`] alone.
    #[allow(missing_docs, reason = "said above")]
    Output { port: PortNo, max_len: u16 },
    /// Send to the port whose number a field holds.
    #[allow(missing_docs, reason = "said above")]
    OutputReg { source: Subfield, max_len: u16 },
    /// Nicira's controller action.
    #[allow(missing_docs, reason = "said above")]
    Controller {
        max_len: u16,
        reason: PacketInReason,
        id: u16,
        userdata: Bytes,
        pause: bool,
    },
    /// Output, on a given queue (OpenFlow 1.0).
    #[allow(missing_docs, reason = "said above")]
    Enqueue { port: PortNo, queue: u32 },
    /// Choose the queue for later outputs.
    SetQueue(u32),
    /// Back to the default queue.
    PopQueue,
    /// Run a group.
    Group(u32),
    /// Write bits of a field: `value` under `mask`, in the field's own width. Covers set_field and
    /// Nicira's load, and OpenFlow 1.0's `mod_*` apart from the VLAN ones.
    #[allow(missing_docs, reason = "said above")]
    SetField {
        field: FieldId,
        value: u128,
        mask: u128,
    },
    /// Nicira's reg_load: write the low bits of `value` to a run of bits. Does what a
    /// [`Action::SetField`] with a mask does, but is written back as it came (`load:`).
    #[allow(missing_docs, reason = "said above")]
    Load { target: Subfield, value: u64 },
    /// Copy bits between fields.
    #[allow(missing_docs, reason = "said above")]
    Move { source: Subfield, target: Subfield },
    /// Set the VLAN id, adding a tag if there is none (`mod_vlan_vid`).
    SetVlanVid(u16),
    /// Set the VLAN priority, adding a tag if there is none (`mod_vlan_pcp`).
    SetVlanPcp(u8),
    /// Take the outermost VLAN tag off, if there is one.
    PopVlan,
    /// Put a VLAN tag of this Ethernet type on: 0x8100 or 0x88a8.
    PushVlan(u16),
    /// Put an MPLS label stack entry on: 0x8847 or 0x8848.
    PushMpls(u16),
    /// Take one off; the packet becomes this Ethernet type.
    PopMpls(u16),
    /// Decrement the IP TTL; at zero the packet goes to these controller ids (0: the usual ones).
    DecTtl(Vec<u16>),
    /// Decrement the MPLS TTL.
    DecMplsTtl,
    /// Copy the TTL from the next-outermost header to the outermost.
    CopyTtlOut,
    /// Copy the TTL from the outermost header to the next-outermost.
    CopyTtlIn,
    /// Look the packet up again: in `table` (or the current one), as if it came in by `in_port` (or
    /// where it did), and come back.
    #[allow(missing_docs, reason = "said above")]
    Resubmit {
        in_port: Option<PortNo>,
        table: Option<u8>,
        ct: bool,
    },
    /// Leave the pipeline now.
    Exit,
    /// Bytes for people, no effect.
    Note(Bytes),
    /// Known by name and wire form, not carried out by every switch: kept as encoded.
    Raw(RawAction),
}

impl Action {
    /// For a [`Action::Load`] the same as value and mask in the field's own width.
    pub fn load_as_masked(target: Subfield, value: u64) -> (u128, u128) {
        let ones = if target.bits >= 128 {
            u128::MAX
        } else {
            (1 << target.bits) - 1
        };
        let mask = ones << target.offset;
        ((u128::from(value) << target.offset) & mask, mask)
    }
}

/// An action kept as its wire bytes, header included: what weir passes on without a model of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawAction {
    /// Wire version the bytes are of.
    pub version: u8,
    /// The whole action.
    pub bytes: Bytes,
}

/// What a rule does (OpenFlow 1.3.5 5.9), in the order in which it is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instructions {
    /// Meter first.
    pub meter: Option<u32>,
    /// Carried out at once.
    pub apply: Vec<Action>,
    /// Empty the action set.
    pub clear_actions: bool,
    /// Merged into the action set.
    pub write: Vec<Action>,
    /// New metadata bits: value and mask.
    pub metadata: Option<(u64, u64)>,
    /// The next table; none ends the pipeline and runs the action set.
    pub goto_table: Option<u8>,
}

impl Instructions {
    /// Only apply-actions: all that OpenFlow 1.0 knows. No actions drop the packet.
    pub fn apply(actions: Vec<Action>) -> Instructions {
        Instructions {
            apply: actions,
            ..Instructions::default()
        }
    }

    /// Whether a port (or group) is the target of some output among apply and write actions, for
    /// the `out_port` and `out_group` filters.
    pub fn outputs_to(&self, port: PortNo) -> bool {
        self.apply.iter().chain(&self.write).any(|a| match a {
            Action::Output { port: p, .. } | Action::Enqueue { port: p, .. } => *p == port,
            Action::Controller { .. } => port == PortNo::CONTROLLER,
            _ => false,
        })
    }

    /// Whether some apply or write action runs this group.
    pub fn uses_group(&self, group: u32) -> bool {
        self.apply
            .iter()
            .chain(&self.write)
            .any(|a| *a == Action::Group(group))
    }
}

/// Makes of every set_field with a mask the loads that Open vSwitch sends for it before
/// OpenFlow 1.5, whose set_field takes no masks.
pub(crate) fn masks_to_loads(actions: &mut Vec<Action>) {
    let old = std::mem::take(actions);
    for a in old {
        match a {
            Action::SetField { field, value, mask } if mask != field.info().full_mask() => {
                let mut at = 0u32;
                while at < 128 && mask >> at != 0 {
                    at += (mask >> at).trailing_zeros();
                    let run = (mask >> at).trailing_ones().min(64);
                    let ones = u64::MAX >> (64 - run);
                    actions.push(Action::Load {
                        target: Subfield {
                            field,
                            offset: at as u8,
                            bits: run as u8,
                        },
                        value: (value >> at) as u64 & ones,
                    });
                    at += run;
                }
            }
            a => actions.push(a),
        }
    }
}
