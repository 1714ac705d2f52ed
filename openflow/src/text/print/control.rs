//! What concerns controllers: roles, asynchronous messages, bundles, formats, Geneve options.

use super::{bits, hex};
use crate::message::{
    AsyncConfig, BundleId, BundleStep, ControllerStatus, Role, RoleMsg, RoleReason, TlvMap,
    TlvTableCommand,
};
use crate::wire::OF12;
use std::fmt::{Result, Write};

pub(super) fn role_name(r: Role) -> &'static str {
    match r {
        Role::NoChange => "nochange",
        Role::Equal => "equal",
        Role::Primary => "primary",
        Role::Secondary => "secondary",
    }
}

pub(super) fn role(w: &mut String, r: &RoleMsg, version: u8) -> Result {
    write!(w, " role={}", role_name(r.role))?;
    // Nicira's message, which OpenFlow 1.0 and 1.1 have, knows no generation.
    if version >= OF12 && r.generation != u64::MAX && r.role != Role::NoChange {
        write!(w, " generation_id={}", r.generation)?;
    }
    Ok(())
}

pub(super) fn role_status(w: &mut String, reason: RoleReason, r: &RoleMsg) -> Result {
    let reason = match reason {
        RoleReason::MasterRequest => "primary_request",
        RoleReason::Config => "configuration_changed",
        RoleReason::Experimenter => "experimenter_data_changed",
    };
    write!(w, " role={}", role_name(r.role))?;
    if r.generation != u64::MAX {
        write!(w, " generation_id={}", r.generation)?;
    }
    write!(w, " reason={reason}")
}

const PACKET_IN: &[&str] = &[
    "no_match",
    "action",
    "invalid_ttl",
    "action_set",
    "group",
    "packet_out",
];

const FLOW_REMOVED: &[&str] = &[
    "idle",
    "hard",
    "delete",
    "group_delete",
    "meter_delete",
    "eviction",
];

pub(super) fn asynchronous(w: &mut String, a: &AsyncConfig) -> Result {
    let reasons = |n: u32, names: &[&str]| {
        let on: Vec<String> = (0..32)
            .filter(|i| n & 1 << i != 0)
            .map(|i| names.get(i).map_or_else(|| i.to_string(), |s| (*s).into()))
            .collect();
        if on.is_empty() {
            "(off)".into()
        } else {
            on.join(" ")
        }
    };
    for (i, who) in ["primary", "secondary"].iter().enumerate() {
        let kinds: [(&str, u32, &[&str]); 6] = [
            ("PACKET_IN", a.packet_in[i], PACKET_IN),
            (
                "PORT_STATUS",
                a.port_status[i],
                &["add", "delete", "modify"],
            ),
            ("FLOW_REMOVED", a.flow_removed[i], FLOW_REMOVED),
            (
                "ROLE_STATUS",
                a.role_status[i],
                &[
                    "primary_request",
                    "configuration_changed",
                    "experimenter_data_changed",
                ],
            ),
            (
                "TABLE_STATUS",
                a.table_status[i],
                &["", "", "", "vacancy_down", "vacancy_up"],
            ),
            (
                "REQUESTFORWARD",
                a.request_forward[i],
                &["group_mod_request", "meter_mod_request"],
            ),
        ];
        writeln!(w, "\n {who}:")?;
        for (name, on, names) in kinds {
            writeln!(w, "{name:>16}: {}", reasons(on, names))?;
        }
    }
    Ok(())
}

pub(super) fn bundle_flags(id: &BundleId) -> String {
    let flags = u32::from(id.atomic) | u32::from(id.ordered) << 1;
    bits(flags, &[(1, "atomic"), (2, "ordered")])
}

pub(super) fn bundle(w: &mut String, step: BundleStep, id: &BundleId) -> Result {
    let step = match step {
        BundleStep::OpenRequest => "OPEN_REQUEST",
        BundleStep::OpenReply => "OPEN_REPLY",
        BundleStep::CloseRequest => "CLOSE_REQUEST",
        BundleStep::CloseReply => "CLOSE_REPLY",
        BundleStep::CommitRequest => "COMMIT_REQUEST",
        BundleStep::CommitReply => "COMMIT_REPLY",
        BundleStep::DiscardRequest => "DISCARD_REQUEST",
        BundleStep::DiscardReply => "DISCARD_REPLY",
    };
    let (number, flags) = (hex(id.id), bundle_flags(id));
    write!(w, "\n bundle_id={number} type={step} flags={flags}")
}

pub(super) fn controller_status(w: &mut String, c: &ControllerStatus) -> Result {
    let (id, role, uri) = (c.id, role_name(c.role), &c.uri);
    let up = if c.up { "up" } else { "down" };
    writeln!(
        w,
        " id={id} role={role} reason={} channel={up} uri={uri}",
        c.reason
    )
}

pub(super) fn flow_format(w: &mut String, n: u32) -> Result {
    w.write_str(match n {
        0 => " format=openflow10",
        2 => " format=nxm",
        _ => " format=(unknown)",
    })
}

pub(super) fn packet_in_format(w: &mut String, n: u32) -> Result {
    match ["standard", "nxt_packet_in", "nxt_packet_in2"].get(n as usize) {
        Some(name) => write!(w, " format={name}"),
        None => write!(w, " format={n}"),
    }
}

pub(super) fn tlv_mod(w: &mut String, command: TlvTableCommand, maps: &[TlvMap]) -> Result {
    match command {
        TlvTableCommand::Add => w.push_str("\n ADD"),
        TlvTableCommand::Delete => w.push_str("\n DEL"),
        TlvTableCommand::Clear => return w.write_str("\n CLEAR"),
    }
    tlv_table(w, maps)
}

pub(super) fn tlv_reply(w: &mut String, space: u32, fields: u16, maps: &[TlvMap]) -> Result {
    let allocated: u32 = maps.iter().map(|m| u32::from(m.len)).sum();
    writeln!(w, "\n max option space={space} max fields={fields}")?;
    writeln!(w, " allocated option space={allocated}\n")?;
    tlv_table(w, maps)
}

fn tlv_table(w: &mut String, maps: &[TlvMap]) -> Result {
    w.push_str(" mapping table:\n  class  type  length  match field\n");
    w.push_str(" ------  ----  ------  --------------");
    for m in maps {
        let hex = |n: u16| {
            if n == 0 {
                "0".into()
            } else {
                format!("{n:#x}")
            }
        };
        let (class, kind) = (hex(m.class), hex(m.kind.into()));
        write!(
            w,
            "\n {class:>6}  {kind:>4}  {:>6}  tun_metadata{}",
            m.len, m.index
        )?;
    }
    Ok(())
}
