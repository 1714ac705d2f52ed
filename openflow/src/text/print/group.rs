//! Groups.

use super::switch::ACTIONS_10;
use super::{bits, lifetime};
use crate::error::ErrorKind;
use crate::field::FieldId;
use crate::message::{
    Bucket, BucketPosition, GROUP_ALL, GroupDesc, GroupFeatures, GroupMod, GroupModCommand,
    GroupStats, GroupType, PortNo, Selection,
};
use crate::text::action::format_actions;
use crate::text::{Names, value};
use crate::wire::{OF10, OF15};
use std::fmt::{Result, Write};
use std::time::Duration;

/// Group number that stands for none in particular.
const ANY: u32 = 0xffff_ffff;

pub(super) fn number(n: u32) -> String {
    match n {
        GROUP_ALL => "ALL".into(),
        ANY => "ANY".into(),
        n => n.to_string(),
    }
}

/// OpenFlow 1.0 (Nicira) and 1.5 give buckets names.
fn names_buckets(version: u8) -> bool {
    version == OF10 || version >= OF15
}

/// Methods of choosing that there are.
const METHODS: &[&str] = &["", "hash", "dp_hash"];

/// What makes a group impossible.
pub(super) fn flaw(g: &GroupMod) -> Option<ErrorKind> {
    let delete = g.command == GroupModCommand::Delete;
    if g.kind == GroupType::Indirect && !delete && g.buckets.len() != 1 {
        return Some(ErrorKind::InvalidGroup);
    }
    if !METHODS.contains(&g.selection.method.as_str()) {
        return Some(ErrorKind::PropertyBadValue);
    }
    g.buckets.iter().find_map(|b| {
        let watched = b.watch_port != PortNo::ANY || b.watch_group.is_some();
        match g.kind {
            GroupType::Select => None,
            _ if b.weight != 0 => Some(ErrorKind::InvalidGroup),
            GroupType::FastFailover => (!watched).then_some(ErrorKind::InvalidGroup),
            GroupType::All | GroupType::Indirect => watched.then_some(ErrorKind::WatchUnsupported),
        }
    })
}

pub(super) fn group_mod(w: &mut String, g: &GroupMod, version: u8, names: &Names) -> Result {
    let (command, of_buckets) = match g.command {
        GroupModCommand::Add => ("ADD", false),
        GroupModCommand::Modify => ("MOD", false),
        GroupModCommand::AddOrModify => ("ADD_OR_MOD", false),
        GroupModCommand::Delete => ("DEL", false),
        GroupModCommand::InsertBucket => ("INSERT_BUCKET", true),
        GroupModCommand::RemoveBucket => ("REMOVE_BUCKET", true),
    };
    write!(w, "\n {command} ")?;
    if of_buckets && names_buckets(version) {
        let position = match g.position {
            BucketPosition::First => "first".into(),
            BucketPosition::Last => "last".into(),
            BucketPosition::All => "all".into(),
            BucketPosition::Id(n) => n.to_string(),
        };
        write!(w, "command_bucket_id:{position},")?;
    }
    let kind = (!of_buckets).then_some(g.kind);
    group(w, g.group, kind, &g.buckets, &g.selection, version, names)
}

pub(super) fn description(w: &mut String, g: &GroupDesc, version: u8, names: &Names) -> Result {
    w.push_str("\n ");
    group(
        w,
        g.group,
        Some(g.kind),
        &g.buckets,
        &g.selection,
        version,
        names,
    )
}

fn group(
    w: &mut String,
    id: u32,
    kind: Option<GroupType>,
    buckets: &[Bucket],
    selection: &Selection,
    version: u8,
    names: &Names,
) -> Result {
    write!(w, "group_id={id}")?;
    if let Some(kind) = kind {
        let kind = match kind {
            GroupType::All => "all",
            GroupType::Select => "select",
            GroupType::Indirect => "indirect",
            GroupType::FastFailover => "ff",
        };
        write!(w, ",type={kind}")?;
    }
    if !selection.method.is_empty() {
        write!(w, ",selection_method={}", selection.method)?;
        if selection.param != 0 {
            write!(w, ",selection_method_param={}", selection.param)?;
        }
        let fields: Vec<String> = selection.fields.iter().map(|f| hashed(*f, names)).collect();
        match fields.as_slice() {
            [] => {}
            [one] => write!(w, ",fields={one}")?,
            many => write!(w, ",fields({})", many.join(","))?,
        }
    }
    // What a bucket weighs unless it says so.
    let usual = u16::from(kind == Some(GroupType::Select));
    for b in buckets {
        w.push_str(",bucket=");
        if names_buckets(version) {
            write!(w, "bucket_id:{},", b.id)?;
        }
        if b.weight != usual {
            write!(w, "weight:{},", b.weight)?;
        }
        if b.watch_port != PortNo::ANY {
            write!(w, "watch_port:{},", names.port_text(b.watch_port))?;
        }
        if let Some(g) = b.watch_group {
            write!(w, "watch_group:{g},")?;
        }
        let actions = format_actions(&b.actions, names);
        write!(w, "actions={actions}")?;
    }
    Ok(())
}

/// A field that counts for the choice, with the mask that counts unless all of it does.
fn hashed((field, mask): (FieldId, u128), names: &Names) -> String {
    let info = field.info();
    let full = info.full_mask();
    if mask == full {
        info.name.to_owned()
    } else {
        format!("{}={}", info.name, value::format(info, mask, full, names))
    }
}

pub(super) fn stats(w: &mut String, groups: &[GroupStats]) -> Result {
    for g in groups {
        write!(w, "\n group_id={},", g.group)?;
        // OpenFlow 1.1 and 1.2 do not tell.
        if g.duration < Duration::from_secs(u32::MAX.into()) {
            write!(w, "duration={},", lifetime(g.duration))?;
        }
        write!(w, "ref_count={},packet_count={},", g.references, g.packets)?;
        write!(w, "byte_count={}", g.bytes)?;
        for (i, (packets, bytes)) in g.buckets.iter().enumerate() {
            if *packets != u64::MAX {
                write!(w, ",bucket{i}:packet_count={packets},byte_count={bytes}")?;
            }
        }
    }
    Ok(())
}

pub(super) fn features(w: &mut String, f: &GroupFeatures, version: u8) -> Result {
    let (types, capabilities) = (f.types, f.capabilities);
    writeln!(
        w,
        "\n Group table:\n    Types:  {types:#x}\n    Capabilities:  {capabilities:#x}"
    )?;
    let known = if version == OF10 { ACTIONS_10 } else { ACTIONS };
    let kinds = ["all", "select", "indirect", "fast failover"];
    for (i, name) in kinds
        .iter()
        .enumerate()
        .filter(|(i, _)| f.types & 1 << i != 0)
    {
        let max = value::hex_masked(f.max_groups[i].into(), u128::MAX, u128::MAX);
        writeln!(w, "    {name} group:\n       max_groups={max}")?;
        let known_bits = known.iter().fold(0, |all, a| all | a.0);
        let actions = match f.actions[i] & known_bits {
            0 => "(none)".into(),
            n => bits(n, known),
        };
        writeln!(w, "       actions: {actions}")?;
    }
    Ok(())
}

/// Action types from OpenFlow 1.1 on, by their bits.
pub(super) const ACTIONS: &[(u32, &str)] = &[
    (1 << 0, "output"),
    (1 << 22, "group"),
    (1 << 25, "set_field"),
    (1 << 1, "set_vlan_vid"),
    (1 << 2, "set_vlan_pcp"),
    (1 << 18, "strip_vlan"),
    (1 << 17, "push_vlan"),
    (1 << 3, "mod_dl_src"),
    (1 << 4, "mod_dl_dst"),
    (1 << 5, "mod_nw_src"),
    (1 << 6, "mod_nw_dst"),
    (1 << 7, "mod_nw_tos"),
    (1 << 8, "mod_nw_ecn"),
    (1 << 23, "mod_nw_ttl"),
    (1 << 9, "mod_tp_src"),
    (1 << 10, "mod_tp_dst"),
    (1 << 24, "dec_ttl"),
    (1 << 13, "set_mpls_label"),
    (1 << 14, "set_mpls_tc"),
    (1 << 15, "set_mpls_ttl"),
    (1 << 16, "dec_mpls_ttl"),
    (1 << 19, "push_mpls"),
    (1 << 20, "pop_mpls"),
    (1 << 21, "set_queue"),
    (1 << 11, "copy_ttl_out"),
    (1 << 12, "copy_ttl_in"),
    (1 << 26, "push_pbb"),
    (1 << 27, "pop_pbb"),
    (1 << 28, "copy_field"),
    (1 << 29, "meter"),
];
