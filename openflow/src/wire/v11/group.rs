//! Groups: changes, descriptions, counters and features. 1.5 gave buckets names and properties; its
//! form is also Nicira's for 1.0, which has no groups of its own.

use super::{err, flow, pair, put_pairs, read_all};
use crate::error::{ErrorKind, OfError};
use crate::matching::Match;
use crate::message::*;
use crate::wire::codes::{GROUP_TYPES, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{NO_GROUP, OF10, OF13, OF15, action, oxm, property, sized};

/// `ofp_group_mod_command`; the last is Open vSwitch's.
const COMMANDS: &[(u16, GroupModCommand)] = &[
    (0, GroupModCommand::Add),
    (1, GroupModCommand::Modify),
    (2, GroupModCommand::Delete),
    (3, GroupModCommand::InsertBucket),
    (5, GroupModCommand::RemoveBucket),
    (0x8000, GroupModCommand::AddOrModify),
];

/// `ofp_group_bucket`: the ids that are no bucket's own.
const POSITIONS: &[(u32, BucketPosition)] = &[
    (0xffff_fffd, BucketPosition::First),
    (0xffff_fffe, BucketPosition::Last),
    (0xffff_ffff, BucketPosition::All),
];

/// `OFPG_BUCKET_MAX`: the greatest id a bucket can have.
const MAX_BUCKET: u32 = 0xffff_ff00;

const WEIGHT: u16 = 0;
const WATCH_PORT: u16 = 1;
const WATCH_GROUP: u16 = 2;

/// The experimenter of the selection method, and its number of that (`NTRT_SELECTION_METHOD`).
const NETRONOME: u32 = 0x0000_154d;
const SELECTION_METHOD: u32 = 1;
/// Bytes of the method's name, the zero that ends it included.
const METHOD_LEN: usize = 16;

/// Whether groups have 1.5's form in a version.
fn named_buckets(version: u8) -> bool {
    version >= OF15 || version == OF10
}

pub(in crate::wire) fn read_mod(r: &mut Reader<'_>, version: u8) -> Result<GroupMod, OfError> {
    let command = r.u16()?;
    let since_15 = |c| {
        matches!(
            c,
            GroupModCommand::InsertBucket | GroupModCommand::RemoveBucket
        )
    };
    let known = COMMANDS
        .iter()
        .find(|c| c.0 == command && (named_buckets(version) || !since_15(c.1)));
    let Some((_, command)) = known else {
        return err(
            ErrorKind::BadGroupCommand,
            format!("{command} is no group command"),
        );
    };
    let kind = r.u8()?.into();
    let kind = named(GROUP_TYPES, kind, ErrorKind::BadGroupType, "group type")?;
    r.skip(1)?;
    let mut m = GroupMod {
        command: *command,
        kind,
        group: r.u32()?,
        buckets: Vec::new(),
        position: BucketPosition::default(),
        selection: Selection::default(),
    };
    if !named_buckets(version) {
        m.buckets = read_all_buckets(r, kind, version)?;
        return Ok(m);
    }
    let len = usize::from(r.u16()?);
    r.skip(2)?;
    let id = r.u32()?;
    if since_15(m.command) {
        m.position = match POSITIONS.iter().find(|p| p.0 == id) {
            Some((_, BucketPosition::All)) if m.command == GroupModCommand::InsertBucket => {
                return err(
                    ErrorKind::UnknownBucket,
                    "buckets can not be inserted behind all buckets",
                );
            }
            Some((_, position)) => *position,
            None if id <= MAX_BUCKET => BucketPosition::Id(id),
            None => {
                return err(
                    ErrorKind::UnknownBucket,
                    format!("{id:#x} can be no bucket's id"),
                );
            }
        };
    }
    let mut buckets = r.sub(len, ErrorKind::BadLen)?;
    m.buckets = read_all_buckets(&mut buckets, kind, version)?;
    read_properties(r, &mut m.selection)?;
    Ok(m)
}

pub(in crate::wire) fn put_mod(w: &mut Writer, m: &GroupMod, version: u8) -> Result<(), OfError> {
    let command = COMMANDS.iter().find(|c| c.1 == m.command);
    let command = command.expect("the table has all commands").0;
    if !named_buckets(version) && (command == 3 || command == 5) {
        return err(
            ErrorKind::BadGroupCommand,
            "buckets can be inserted and removed from OpenFlow 1.5 on",
        );
    }
    w.u16(command);
    w.u8(number(GROUP_TYPES, &m.kind));
    w.u8(0);
    w.u32(m.group);
    if !named_buckets(version) {
        // The form of older versions has no room for a selection method; like Open vSwitch, they
        // go without.
        return put_buckets(w, &m.buckets, m.kind, version);
    }
    let at = w.len();
    w.zeros(4);
    w.u32(match m.position {
        // What other commands carry has no meaning; Open vSwitch sends this.
        _ if command != 3 && command != 5 => 0xffff_ffff,
        BucketPosition::Id(id) => id,
        position => {
            let found = POSITIONS.iter().find(|p| p.1 == position);
            found.expect("the table has all positions").0
        }
    });
    let start = w.len();
    put_buckets(w, &m.buckets, m.kind, version)?;
    w.set_len(at, start)?;
    put_properties(w, &m.selection, version)
}

fn read_all_buckets(
    r: &mut Reader<'_>,
    kind: GroupType,
    version: u8,
) -> Result<Vec<Bucket>, OfError> {
    let mut next = 0;
    read_all(r, |r| {
        let len = usize::from(Reader::new(r.peek(), ErrorKind::BadLen).u16()?);
        let min = if named_buckets(version) { 8 } else { 16 };
        if len < min || len % 8 != 0 {
            return err(ErrorKind::BadLen, format!("a bucket has length {len}"));
        }
        let mut b = r.sub(len, ErrorKind::BadLen)?;
        b.skip(2)?;
        if named_buckets(version) {
            return read_bucket(&mut b, kind, version);
        }
        let (weight, watch_port, watch_group) = (b.u16()?, PortNo(b.u32()?), flow::group(b.u32()?));
        b.skip(4)?;
        next += 1;
        Ok(Bucket {
            weight,
            watch_port,
            watch_group,
            id: next - 1,
            actions: action::read_actions(&mut b, version)?,
        })
    })
}

/// One bucket of 1.5, behind its length.
fn read_bucket(b: &mut Reader<'_>, kind: GroupType, version: u8) -> Result<Bucket, OfError> {
    let (len, id) = (usize::from(b.u16()?), b.u32()?);
    if id > MAX_BUCKET {
        return err(
            ErrorKind::BadBucket,
            format!("{id:#x} can be no bucket's id"),
        );
    }
    let mut actions = b.sub(len, ErrorKind::BadLen)?;
    let mut bucket = Bucket {
        weight: u16::from(kind == GroupType::Select),
        watch_port: PortNo::ANY,
        watch_group: None,
        id,
        actions: action::read_actions(&mut actions, version)?,
    };
    property::read(b, |kind, v| {
        match kind {
            WEIGHT => {
                bucket.weight = v.u16()?;
                return property::pass(v);
            }
            WATCH_PORT => bucket.watch_port = PortNo(v.u32()?),
            WATCH_GROUP => bucket.watch_group = flow::group(v.u32()?),
            _ => return property::unknown(kind, v, "a bucket"),
        }
        v.end()
    })?;
    Ok(bucket)
}

fn put_buckets(
    w: &mut Writer,
    buckets: &[Bucket],
    kind: GroupType,
    version: u8,
) -> Result<(), OfError> {
    for b in buckets {
        let start = w.len();
        w.u16(0);
        if named_buckets(version) {
            w.u16(0);
            w.u32(b.id);
            action::put_actions(w, &b.actions, &Match::new(), version)?;
            w.set_len(start + 2, start + 8)?;
            if kind == GroupType::Select || b.weight != 0 {
                property::put(w, WEIGHT, |w| {
                    w.u16(b.weight);
                    w.zeros(2);
                })?;
            }
            if b.watch_port != PortNo::ANY {
                property::put(w, WATCH_PORT, |w| w.u32(b.watch_port.0))?;
            }
            if let Some(group) = b.watch_group {
                property::put(w, WATCH_GROUP, |w| w.u32(group))?;
            }
        } else {
            w.u16(b.weight);
            w.u32(b.watch_port.0);
            w.u32(b.watch_group.unwrap_or(NO_GROUP));
            w.zeros(4);
            action::put_actions(w, &b.actions, &Match::new(), version)?;
        }
        w.set_len(start, start)?;
    }
    Ok(())
}

fn read_properties(r: &mut Reader<'_>, selection: &mut Selection) -> Result<(), OfError> {
    property::read(r, |kind, v| {
        let mut look = v.clone();
        let ours = look.u32() == Ok(NETRONOME) && look.u32() == Ok(SELECTION_METHOD);
        if kind != property::EXPERIMENTER || !ours {
            return property::unknown(kind, v, "a group");
        }
        v.skip(12)?;
        *selection = Selection {
            method: v.text(METHOD_LEN)?,
            param: v.u64()?,
            fields: oxm::read_values(v)?,
        };
        Ok(())
    })
}

fn put_properties(w: &mut Writer, s: &Selection, version: u8) -> Result<(), OfError> {
    if *s == Selection::default() {
        return Ok(());
    }
    property::put(w, property::EXPERIMENTER, |w| {
        w.u32(NETRONOME);
        w.u32(SELECTION_METHOD);
        w.zeros(4);
        w.text(&s.method, METHOD_LEN);
        w.u64(s.param);
        for (field, mask) in &s.fields {
            oxm::put_exact(w, *field, *mask, version);
        }
    })
}

/// Reads one `ofp_group_desc`.
pub(in crate::wire) fn read_desc(r: &mut Reader<'_>, version: u8) -> Result<GroupDesc, OfError> {
    let mut e = sized(r, 8)?;
    let kind = e.u8()?.into();
    let kind = named(GROUP_TYPES, kind, ErrorKind::BadGroupType, "group type")?;
    e.skip(1)?;
    let mut d = GroupDesc {
        group: e.u32()?,
        kind,
        buckets: Vec::new(),
        selection: Selection::default(),
    };
    if named_buckets(version) {
        let len = usize::from(e.u16()?);
        e.skip(6)?;
        let mut buckets = e.sub(len, ErrorKind::BadLen)?;
        d.buckets = read_all_buckets(&mut buckets, kind, version)?;
        read_properties(&mut e, &mut d.selection)?;
    } else {
        d.buckets = read_all_buckets(&mut e, kind, version)?;
    }
    Ok(d)
}

/// Writes one `ofp_group_desc`.
pub(in crate::wire) fn put_desc(w: &mut Writer, d: &GroupDesc, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u8(number(GROUP_TYPES, &d.kind));
    w.u8(0);
    w.u32(d.group);
    if named_buckets(version) {
        w.zeros(8);
        put_buckets(w, &d.buckets, d.kind, version)?;
        w.set_len(start + 8, start + 16)?;
        put_properties(w, &d.selection, version)?;
    } else {
        put_buckets(w, &d.buckets, d.kind, version)?;
    }
    w.set_len(start, start)
}

/// Reads one group's counters.
pub(in crate::wire) fn read_stats(r: &mut Reader<'_>, version: u8) -> Result<GroupStats, OfError> {
    let min = if timed(version) { 40 } else { 32 };
    let mut e = sized(r, min)?;
    e.skip(2)?;
    let (group, references) = (e.u32()?, e.u32()?);
    e.skip(4)?;
    Ok(GroupStats {
        group,
        references,
        packets: e.u64()?,
        bytes: e.u64()?,
        duration: if timed(version) {
            e.duration()?
        } else {
            super::stats::UNKNOWN
        },
        buckets: read_all(&mut e, pair)?,
    })
}

/// Whether counters of groups come with their age; Nicira's for 1.0 do.
fn timed(version: u8) -> bool {
    version >= OF13 || version == OF10
}

/// Writes one group's counters.
pub(in crate::wire) fn put_stats(
    w: &mut Writer,
    g: &GroupStats,
    version: u8,
) -> Result<(), OfError> {
    let start = w.len();
    w.zeros(4);
    w.u32(g.group);
    w.u32(g.references);
    w.zeros(4);
    w.u64(g.packets);
    w.u64(g.bytes);
    if timed(version) {
        w.duration(g.duration);
    }
    put_pairs(w, &g.buckets);
    w.set_len(start, start)
}

pub(in crate::wire) fn read_features(r: &mut Reader<'_>) -> Result<GroupFeatures, OfError> {
    let mut f = GroupFeatures {
        types: r.u32()?,
        capabilities: r.u32()?,
        ..GroupFeatures::default()
    };
    for n in f.max_groups.iter_mut().chain(&mut f.actions) {
        *n = r.u32()?;
    }
    Ok(f)
}

pub(in crate::wire) fn put_features(w: &mut Writer, f: &GroupFeatures) {
    w.u32(f.types);
    w.u32(f.capabilities);
    for n in [f.max_groups, f.actions].concat() {
        w.u32(n);
    }
}
