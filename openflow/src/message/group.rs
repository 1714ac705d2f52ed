//! Groups and their buckets.

use super::PortNo;
use crate::action::Action;
use crate::field::FieldId;
use std::time::Duration;

/// What a group does with its buckets (OpenFlow 1.3.5 7.3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum GroupType {
    All,
    Select,
    Indirect,
    FastFailover,
}

/// One action bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Relative weight in a select group.
    pub weight: u16,
    /// Port whose state makes the bucket live; [`PortNo::ANY`] for none.
    pub watch_port: PortNo,
    /// Group whose state makes the bucket live.
    pub watch_group: Option<u32>,
    /// Its name within the group (1.5); older versions number buckets as they come.
    pub id: u32,
    /// What the bucket does.
    pub actions: Vec<Action>,
}

/// What to do with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum GroupModCommand {
    Add,
    Modify,
    /// Modify, or add if it is not there (Open vSwitch).
    AddOrModify,
    Delete,
    /// Put the buckets where [`GroupMod::position`] says (1.5).
    InsertBucket,
    /// Take away the buckets that [`GroupMod::position`] names (1.5).
    RemoveBucket,
}

/// Which buckets of a group an insert or remove speaks of (OpenFlow 1.5.1 7.3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketPosition {
    /// Before the first, or the first.
    First,
    /// Behind the last, or the last.
    #[default]
    Last,
    /// All.
    All,
    /// Behind the one with this id, or that one.
    Id(u32),
}

/// How a select group chooses (the `ntr_selection_method` experimenter property).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `hash`, `dp_hash`, or empty for the switch's choice.
    pub method: String,
    /// Basis of the hash.
    pub param: u64,
    /// For `hash`: the fields that count, with masks.
    pub fields: Vec<(FieldId, u128)>,
}

/// Group number that stands for all groups.
pub const GROUP_ALL: u32 = 0xffff_fffc;

/// A change of the group table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// How the buckets are used.
    pub kind: GroupType,
    /// Which group, or [`GROUP_ALL`] for deletes.
    pub group: u32,
    /// Its buckets, or those to insert.
    pub buckets: Vec<Bucket>,
    /// For inserts and removes.
    pub position: BucketPosition,
    /// How it chooses.
    pub selection: Selection,
}

/// A group as it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDesc {
    /// Which.
    pub group: u32,
    /// How the buckets are used.
    pub kind: GroupType,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
    /// How it chooses.
    pub selection: Selection,
}

/// A group's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Which.
    pub group: u32,
    /// Flows and groups that refer to it.
    pub references: u32,
    /// Packets it handled.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time since it was added.
    pub duration: Duration,
    /// Packets and bytes of each bucket.
    pub buckets: Vec<(u64, u64)>,
}

/// What groups a switch can have; arrays in the order all, select, indirect, fast failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFeatures {
    /// Bit per [`GroupType`].
    pub types: u32,
    /// `OFPGFC_*` bits.
    pub capabilities: u32,
    /// How many of each type.
    pub max_groups: [u32; 4],
    /// Bit per action type in each type.
    pub actions: [u32; 4],
}
