//! OpenFlow 1.0's flow-mods and removed flows, its own and Nicira's.

use super::action::{self, Rest};
use super::{matching, port16, put_port16};
use crate::error::{ErrorKind, OfError};
use crate::matching::Match;
use crate::message::*;
use crate::wire::codes::{self, FLOW_COMMANDS, REMOVED, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{NO_BUFFER, NO_COOKIE, OF10, err, oxm};
use std::time::Duration;

/// `OFPT_FLOW_MOD`, or `NXT_FLOW_MOD` behind its subtype.
pub(in crate::wire) fn read_flow_mod(r: &mut Reader<'_>, nicira: bool) -> Result<FlowMod, OfError> {
    let (mut matching, mut exact) = (Match::new(), false);
    if !nicira {
        (matching, exact) = matching::read(r)?;
    }
    let (mut cookie, command) = (r.u64()?, r.u16()?);
    let table = (command >> 8) as u8;
    let command = named(
        FLOW_COMMANDS,
        u32::from(command & 0xff),
        ErrorKind::BadCommand,
        "flow-mod command",
    )?;
    let (idle_timeout, hard_timeout, mut priority) = (r.u16()?, r.u16()?, r.u16()?);
    let (buffer, out_port, flags) = (r.u32()?, port16(r.u16()?), r.u16()?);
    let mut cookie_mask = 0;
    if nicira {
        let len = r.u16()?;
        r.skip(6)?;
        let (m, selected) = matching::read_nxm(r, len)?;
        matching = m;
        let new = std::mem::replace(&mut cookie, selected.0);
        cookie_mask = selected.1;
        match command {
            _ if cookie_mask == 0 => cookie = new,
            FlowModCommand::Add => {
                return err(ErrorKind::BadMask, "an added flow has no cookie to compare");
            }
            FlowModCommand::Modify | FlowModCommand::ModifyStrict
                if new != NO_COOKIE && new != cookie =>
            {
                return err(
                    ErrorKind::FlowModEperm,
                    "selecting flows by cookie and giving them another is not supported",
                );
            }
            _ => {}
        }
    } else if exact {
        // A rule without wildcards beats all others (1.0.0 3.4).
        priority = u16::MAX;
    }
    if !oxm::port_ok(out_port.0) {
        return err(
            ErrorKind::BadOutPort,
            format!("out_port {out_port} can not exist"),
        );
    }
    if flags & 4 != 0 {
        return err(ErrorKind::TableFull, "there is no table of emergency flows");
    }
    if flags & !3 != 0 {
        return err(
            ErrorKind::BadFlowModFlags,
            format!("flags {flags:#06x} has unknown bits"),
        );
    }
    Ok(FlowMod {
        command,
        cookie,
        cookie_mask,
        table,
        priority,
        idle_timeout,
        hard_timeout,
        importance: 0,
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        out_port,
        out_group: None,
        flags: FlowFlags {
            send_flow_rem: flags & 1 != 0,
            check_overlap: flags & 2 != 0,
            ..FlowFlags::default()
        },
        instructions: action::read(r, &matching)?,
        matching,
    })
}

/// Writes `OFPT_FLOW_MOD`, or `NXT_FLOW_MOD` behind its subtype.
pub(in crate::wire) fn put_flow_mod(
    w: &mut Writer,
    f: &FlowMod,
    nicira: bool,
) -> Result<(), OfError> {
    let selects = f.cookie_mask != 0 && f.command != FlowModCommand::Add;
    if !nicira {
        matching::put(w, &f.matching)?;
        if selects {
            return err(
                ErrorKind::BadField,
                "OpenFlow 1.0's own flow-mod can not select by cookie; Nicira's can",
            );
        }
    }
    // The importance is a hint for full tables, which no version before 1.4 has.
    if f.out_group.is_some() {
        return err(ErrorKind::BadField, "OpenFlow 1.0 has no groups");
    }
    // How it counts is a matter of later versions; 1.0 always counts, and resets on adding.
    if f.flags.no_packet_counts || f.flags.no_byte_counts {
        return err(
            ErrorKind::BadFlowModFlags,
            "OpenFlow 1.0 can not switch counters off",
        );
    }
    let modifies = matches!(
        f.command,
        FlowModCommand::Modify | FlowModCommand::ModifyStrict
    );
    w.u64(match (selects, modifies) {
        (true, true) => NO_COOKIE,
        (true, false) => 0,
        _ => f.cookie,
    });
    w.u16(u16::from(f.table) << 8 | u16::from(number(FLOW_COMMANDS, &f.command)));
    w.u16(f.idle_timeout);
    w.u16(f.hard_timeout);
    w.u16(f.priority);
    w.u32(f.buffer.unwrap_or(NO_BUFFER));
    put_port16(w, f.out_port)?;
    w.u16(u16::from(f.flags.send_flow_rem) | u16::from(f.flags.check_overlap) << 1);
    if nicira {
        let at = w.len();
        w.zeros(8);
        let cookie = if selects {
            (f.cookie, f.cookie_mask)
        } else {
            (0, 0)
        };
        matching::put_nxm(w, at, &f.matching, cookie)?;
    }
    action::put_instructions(w, &f.instructions, &f.matching, Rest::Refuse)
}

fn removed(
    reason: FlowRemovedReason,
    matching: Match,
    cookie: u64,
    priority: u16,
    table: u8,
    (duration, idle_timeout): (Duration, u16),
    (packets, bytes): (u64, u64),
) -> FlowRemoved {
    FlowRemoved {
        reason,
        flow: FlowStats {
            table,
            duration,
            idle_age: None,
            hard_age: None,
            priority,
            idle_timeout,
            hard_timeout: 0,
            importance: 0,
            flags: FlowFlags::default(),
            cookie,
            packets,
            bytes,
            matching,
            instructions: Default::default(),
        },
    }
}

fn removed_reason(n: u8) -> Result<FlowRemovedReason, OfError> {
    let what = "reason for a removed flow";
    let reason = named(REMOVED, n.into(), ErrorKind::BadReason, what)?;
    Ok(codes::removed_reason(reason, OF10))
}

/// `OFPT_FLOW_REMOVED`.
pub(super) fn read_flow_removed(r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    let (matching, _) = matching::read(r)?;
    let (cookie, priority, reason) = (r.u64()?, r.u16()?, removed_reason(r.u8()?)?);
    r.skip(1)?;
    let (duration, idle) = (r.duration()?, r.u16()?);
    r.skip(2)?;
    let counts = (r.u64()?, r.u64()?);
    Ok(removed(
        reason,
        matching,
        cookie,
        priority,
        TABLE_ALL,
        (duration, idle),
        counts,
    ))
}

/// `NXT_FLOW_REMOVED`.
pub(in crate::wire) fn read_nx_flow_removed(r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    let (cookie, priority, reason) = (r.u64()?, r.u16()?, removed_reason(r.u8()?)?);
    // The table's number plus one, 0 from switches that do not say.
    let table = r.u8()?.wrapping_sub(1);
    let (duration, idle, len) = (r.duration()?, r.u16()?, r.u16()?);
    let counts = (r.u64()?, r.u64()?);
    let (matching, _) = matching::read_nxm(r, len)?;
    Ok(removed(
        reason,
        matching,
        cookie,
        priority,
        table,
        (duration, idle),
        counts,
    ))
}

/// Writes `OFPT_FLOW_REMOVED`, or `NXT_FLOW_REMOVED` behind its subtype.
pub(in crate::wire) fn put_flow_removed(
    w: &mut Writer,
    f: &FlowRemoved,
    nicira: bool,
) -> Result<(), OfError> {
    let flow = &f.flow;
    let reason = number(REMOVED, &codes::removed_reason(f.reason, OF10));
    if !nicira {
        matching::put_lossy(w, &flow.matching)?;
    }
    w.u64(flow.cookie);
    w.u16(flow.priority);
    w.u8(reason);
    w.u8(if nicira {
        flow.table.wrapping_add(1)
    } else {
        0
    });
    w.duration(flow.duration);
    w.u16(flow.idle_timeout);
    let at = w.len();
    w.u16(0);
    w.u64(flow.packets);
    w.u64(flow.bytes);
    if nicira {
        matching::put_nxm(w, at, &flow.matching, (0, 0))?;
    }
    Ok(())
}
