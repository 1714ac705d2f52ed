//! The group table (OpenFlow 1.3.5 5.6): what a group is, and how the table changes.
//!
//! [`Groups`] is a value like the flow tables beside it: a change works on a clone that shares all that did not change, and
//! becomes visible when that is published. What a group does with a packet is in `pipeline/group.rs`.
//!
//! A group that is modified keeps its own counters and its age; its buckets begin to count anew (OpenFlow 1.3.5 6.5). Buckets
//! that are inserted or removed leave the counters of the others alone.
//!
//! As in Open vSwitch, a bucket may send to a group that is not there (yet): that does nothing. A change that would close a
//! loop of groups is refused.

use crate::clock::Now;
use crate::table::Counters;
use openflow::action::each_action;
use openflow::error::ErrorKind;
use openflow::{
    Action, Bucket, BucketPosition, GROUP_ALL, GroupDesc, GroupFeatures, GroupMod, GroupModCommand,
    GroupStats, GroupType, OfError, PortNo, Selection,
};
use std::collections::HashSet;
use std::sync::Arc;

/// Most groups of a bridge.
pub const GROUPS_MAX: usize = 65_536;
/// Most buckets of a group.
pub const BUCKETS_MAX: usize = 4096;
/// Most buckets of a bridge's groups together: a bound on memory.
pub const ALL_BUCKETS_MAX: usize = 1_000_000;
/// The highest number of a group (`OFPG_MAX`).
const GROUP_MAX: u32 = 0xffff_ff00;
/// The highest number of a bucket (`OFPG_BUCKET_MAX`).
const BUCKET_MAX: u32 = 0xffff_ff00;
/// `OFPGFC_*` that hold: weights, liveness, chaining.
const CAPABILITIES: u32 = 1 | 2 | 4;

/// A bucket, and what it saw.
#[derive(Clone, Debug)]
pub struct CountedBucket {
    /// As given.
    pub bucket: Bucket,
    /// Packets that it got.
    pub counters: Arc<Counters>,
}

impl CountedBucket {
    /// Whether its state depends on a port or a group.
    pub fn is_watching(&self) -> bool {
        self.bucket.watch_port != PortNo::ANY || self.bucket.watch_group.is_some()
    }
}

/// One group. A change makes a new one in its place.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// What it does with its buckets.
    pub kind: GroupType,
    /// How it chooses among them.
    pub selection: Selection,
    /// In order.
    pub buckets: Vec<CountedBucket>,
    /// Packets that it got.
    pub counters: Arc<Counters>,
    /// When it was added.
    pub created: Now,
}

impl Group {
    fn desc(&self) -> GroupDesc {
        GroupDesc {
            group: self.id,
            kind: self.kind,
            buckets: self.buckets.iter().map(|b| b.bucket.clone()).collect(),
            selection: self.selection.clone(),
        }
    }

    /// Its counters; `references` is how many flows use it.
    pub(crate) fn stats(&self, references: u32, now: Now) -> GroupStats {
        let (packets, bytes) = self.counters.get();
        GroupStats {
            group: self.id,
            references,
            packets,
            bytes,
            duration: now.saturating_sub(self.created),
            buckets: self.buckets.iter().map(|b| b.counters.get()).collect(),
        }
    }

    /// The groups that its buckets send to.
    fn sends_to(&self) -> impl Iterator<Item = u32> {
        let mut list = Vec::new();
        for b in &self.buckets {
            each_action(&b.bucket.actions, &mut |a| {
                if let Action::Group(g) = a {
                    list.push(*g);
                }
            });
        }
        list.into_iter()
    }
}

/// All groups of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    by_id: imbl::OrdMap<u32, Arc<Group>>,
    buckets: usize,
}

fn error<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

impl Groups {
    /// A group.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&Arc<Group>> {
        self.by_id.get(&id)
    }

    /// Those a request for `id` speaks of.
    fn select(&self, id: u32) -> Vec<&Arc<Group>> {
        match id {
            GROUP_ALL => self.by_id.values().collect(),
            id => self.get(id).into_iter().collect(),
        }
    }

    /// The groups as they were set up.
    pub fn desc(&self, id: u32) -> Vec<GroupDesc> {
        self.select(id).into_iter().map(|g| g.desc()).collect()
    }

    /// The groups that `id` speaks of.
    pub(crate) fn list(&self, id: u32) -> Vec<Arc<Group>> {
        self.select(id).into_iter().cloned().collect()
    }

    /// Carries out a change, of which the actions were checked. Gives the numbers of the groups that it concerned.
    ///
    /// # Errors
    /// What the specification and Open vSwitch have for it; then nothing was changed.
    pub fn apply(&mut self, m: &GroupMod, now: Now) -> Result<Vec<u32>, OfError> {
        if m.command == GroupModCommand::Delete {
            if m.group > GROUP_MAX && m.group != GROUP_ALL {
                return error(
                    ErrorKind::InvalidGroup,
                    format!("Group {:#x}: groups are 0 to {GROUP_MAX:#x}", m.group),
                );
            }
            let gone: Vec<u32> = self.select(m.group).iter().map(|g| g.id).collect();
            for id in &gone {
                if let Some(g) = self.by_id.remove(id) {
                    self.buckets -= g.buckets.len();
                }
            }
            return Ok(gone);
        }
        if m.group > GROUP_MAX {
            return error(
                ErrorKind::InvalidGroup,
                format!("Group {:#x}: groups are 0 to {GROUP_MAX:#x}", m.group),
            );
        }
        let old = self.get(m.group).cloned();
        let next = match (m.command, &old) {
            (GroupModCommand::Add, Some(_)) => {
                return error(
                    ErrorKind::GroupExists,
                    format!("Group {} is there already", m.group),
                );
            }
            (GroupModCommand::Add | GroupModCommand::AddOrModify, None) => Group {
                id: m.group,
                kind: m.kind,
                selection: m.selection.clone(),
                buckets: fresh(&m.buckets),
                counters: Arc::default(),
                created: now,
            },
            (_, None) => {
                return error(
                    ErrorKind::UnknownGroup,
                    format!("There is no group {}", m.group),
                );
            }
            (GroupModCommand::InsertBucket, Some(old)) => Group {
                buckets: inserted(old, m)?,
                ..(**old).clone()
            },
            (GroupModCommand::RemoveBucket, Some(old)) => Group {
                buckets: removed(old, m)?,
                ..(**old).clone()
            },
            (_, Some(old)) => Group {
                kind: m.kind,
                selection: m.selection.clone(),
                buckets: fresh(&m.buckets),
                ..(**old).clone()
            },
        };
        check(&next)?;
        if old.is_none() && self.by_id.len() >= GROUPS_MAX {
            return error(
                ErrorKind::OutOfGroups,
                format!("The bridge has {GROUPS_MAX} groups, as many as it takes"),
            );
        }
        let before = old.map_or(0, |g| g.buckets.len());
        let buckets = self.buckets - before + next.buckets.len();
        if buckets > ALL_BUCKETS_MAX {
            return error(
                ErrorKind::OutOfBuckets,
                format!("{buckets} buckets in all groups; at most {ALL_BUCKETS_MAX}"),
            );
        }
        if self.closes_loop(&next) {
            return error(
                ErrorKind::GroupLoop,
                format!("Packets would come back to group {}", next.id),
            );
        }
        self.buckets = buckets;
        self.by_id.insert(next.id, Arc::new(next));
        Ok(vec![m.group])
    }

    /// Whether packets that a group sends to others would come back to it.
    fn closes_loop(&self, group: &Group) -> bool {
        let mut seen = HashSet::new();
        let mut open: Vec<u32> = group.sends_to().collect();
        while let Some(id) = open.pop() {
            if id == group.id {
                return true;
            }
            if seen.insert(id)
                && let Some(g) = self.get(id)
            {
                open.extend(g.sends_to());
            }
        }
        false
    }
}

/// What groups there can be.
pub fn features() -> GroupFeatures {
    // Bits of OFPAT_*: output, the TTLs, tags and labels, queue, group, set-field, PBB.
    const ACTIONS: u32 =
        1 | 0b11 << 11 | 0b11 << 15 | 0b111 << 17 | 0b11 << 20 | 0b1111 << 22 | 0b11 << 26;
    GroupFeatures {
        types: 0b1111,
        capabilities: CAPABILITIES,
        max_groups: [GROUPS_MAX as u32; 4],
        actions: [ACTIONS; 4],
    }
}

fn fresh(buckets: &[Bucket]) -> Vec<CountedBucket> {
    let counted = |b: &Bucket| CountedBucket {
        bucket: b.clone(),
        counters: Arc::default(),
    };
    buckets.iter().map(counted).collect()
}

/// Where the bucket of this number is.
fn place(group: &Group, id: u32) -> Result<usize, OfError> {
    let found = group.buckets.iter().position(|b| b.bucket.id == id);
    found.ok_or_else(|| {
        OfError::new(
            ErrorKind::UnknownBucket,
            format!("Group {} has no bucket {id}", group.id),
        )
    })
}

/// Its buckets with those of an insert among them (OpenFlow 1.5.1 7.3.4.3).
fn inserted(group: &Group, m: &GroupMod) -> Result<Vec<CountedBucket>, OfError> {
    let at = match m.position {
        BucketPosition::First => 0,
        BucketPosition::Last => group.buckets.len(),
        BucketPosition::Id(id) => place(group, id)? + 1,
        BucketPosition::All => {
            return error(
                ErrorKind::BadBucket,
                "Buckets are inserted first, last, or behind another",
            );
        }
    };
    let there = |id| group.buckets.iter().any(|b| b.bucket.id == id);
    if let Some(b) = m.buckets.iter().find(|b| there(b.id)) {
        return error(
            ErrorKind::BucketExists,
            format!("Group {} has a bucket {} already", group.id, b.id),
        );
    }
    let mut buckets = group.buckets.clone();
    buckets.splice(at..at, fresh(&m.buckets));
    Ok(buckets)
}

/// Its buckets without those of a remove (OpenFlow 1.5.1 7.3.4.3).
fn removed(group: &Group, m: &GroupMod) -> Result<Vec<CountedBucket>, OfError> {
    if !m.buckets.is_empty() {
        return error(ErrorKind::BadBucket, "Buckets are removed by their number");
    }
    let mut buckets = group.buckets.clone();
    match m.position {
        BucketPosition::First if !buckets.is_empty() => {
            buckets.remove(0);
        }
        BucketPosition::First => {}
        BucketPosition::Last => {
            buckets.pop();
        }
        BucketPosition::All => buckets.clear(),
        BucketPosition::Id(id) => {
            buckets.remove(place(group, id)?);
        }
    }
    Ok(buckets)
}

/// Whether a group may be as it is.
fn check(group: &Group) -> Result<(), OfError> {
    if group.kind == GroupType::Indirect && group.buckets.len() != 1 {
        return error(
            ErrorKind::InvalidGroup,
            format!(
                "An indirect group has one bucket, not {}",
                group.buckets.len()
            ),
        );
    }
    if group.buckets.len() > BUCKETS_MAX {
        return error(
            ErrorKind::OutOfBuckets,
            format!("{} buckets; at most {BUCKETS_MAX}", group.buckets.len()),
        );
    }
    let mut ids = HashSet::new();
    for b in &group.buckets {
        let id = b.bucket.id;
        if id > BUCKET_MAX {
            return error(
                ErrorKind::BadBucket,
                format!("Bucket {id:#x}: buckets are 0 to {BUCKET_MAX:#x}"),
            );
        }
        if !ids.insert(id) {
            return error(ErrorKind::BadBucket, format!("Bucket {id} twice"));
        }
        if b.bucket.weight != 0 && group.kind != GroupType::Select {
            return error(
                ErrorKind::InvalidGroup,
                "Only buckets of a select group have weights",
            );
        }
        match group.kind {
            GroupType::All | GroupType::Indirect if b.is_watching() => {
                return error(
                    ErrorKind::WatchUnsupported,
                    "Buckets of all and indirect groups watch nothing",
                );
            }
            GroupType::FastFailover if !b.is_watching() => {
                return error(
                    ErrorKind::InvalidGroup,
                    "Each bucket of a fast failover group watches a port or a group",
                );
            }
            _ => {}
        }
    }
    selection(group)
}

fn selection(group: &Group) -> Result<(), OfError> {
    let s = &group.selection;
    if s.method.is_empty() {
        return if s.param == 0 && s.fields.is_empty() {
            Ok(())
        } else {
            error(
                ErrorKind::PropertyBadValue,
                "Parameters of a selection need its method",
            )
        };
    }
    if group.kind != GroupType::Select {
        return error(
            ErrorKind::PropertyBadValue,
            "Only select groups have a selection method",
        );
    }
    match s.method.as_str() {
        "hash" => Ok(()),
        "dp_hash" if s.fields.is_empty() => Ok(()),
        "dp_hash" => error(
            ErrorKind::PropertyBadValue,
            "dp_hash chooses its fields by itself",
        ),
        other => error(
            ErrorKind::PropertyBadValue,
            format!("Selection method {other}: hash or dp_hash"),
        ),
    }
}

#[cfg(test)]
mod tests;
