//! Flow monitors: 1.4's own, and the forms that Nicira gave 1.0 to 1.2 and the ONF 1.3, which differ
//! only in how they write matches.

use super::{err, flow, matching};
use crate::action::Instructions;
use crate::error::{ErrorKind, OfError};
use crate::matching::Match;
use crate::message::*;
use crate::wire::codes::{MONITOR_COMMANDS, REMOVED, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{NO_GROUP, OF10, OF11, OF13, OF14, action, instruction, oxm, sized, v10};

/// `OFPFMF_*` that there are.
const FLAGS: u16 = 0x7f;
/// `NXFMF_*` and `ONFFMF_*` that there are: all but "only own".
const OLD_FLAGS: u16 = 0x3f;

/// `ofp_flow_update_event` of 1.4.
mod event {
    pub const INITIAL: u16 = 0;
    pub const ADDED: u16 = 1;
    pub const REMOVED: u16 = 2;
    pub const MODIFIED: u16 = 3;
    pub const ABBREVIATED: u16 = 4;
    pub const PAUSED: u16 = 5;
    pub const RESUMED: u16 = 6;
    /// `nx_flow_update_event`: there is no word for what was there from the start.
    pub const OLD: [u16; 4] = [ADDED, REMOVED, MODIFIED, ABBREVIATED];
}

fn check_flags(flags: u16, known: u16) -> Result<u16, OfError> {
    if flags & !known == 0 {
        Ok(flags)
    } else {
        err(
            ErrorKind::MonitorBadFlags,
            format!("monitor flags {flags:#06x} have bits that are not known"),
        )
    }
}

/// Reads one request of 1.4 and later.
pub(super) fn read_request(r: &mut Reader<'_>, version: u8) -> Result<FlowMonitorRequest, OfError> {
    let (id, port, group) = (r.u32()?, r.u32()?, r.u32()?);
    let (flags, table, command) = (r.u16()?, r.u8()?, r.u8()?.into());
    let what = "command of a flow monitor";
    Ok(FlowMonitorRequest {
        id,
        command: named(
            MONITOR_COMMANDS,
            command,
            ErrorKind::MonitorBadCommand,
            what,
        )?,
        flags: check_flags(flags, FLAGS)?,
        table,
        out_port: flow::out_port(port)?,
        out_group: flow::group(group),
        matching: matching::read(r, version)?,
    })
}

/// Writes one request of 1.4 and later.
pub(super) fn put_request(
    w: &mut Writer,
    m: &FlowMonitorRequest,
    version: u8,
) -> Result<(), OfError> {
    w.u32(m.id);
    w.u32(m.out_port.0);
    w.u32(m.out_group.unwrap_or(NO_GROUP));
    w.u16(m.flags);
    w.u8(m.table);
    w.u8(number(MONITOR_COMMANDS, &m.command));
    matching::put(w, &m.matching, version)
}

/// Reads a match of so many bytes: NXM fields alone, or from 1.3 on with a header.
fn read_old_match(r: &mut Reader<'_>, len: u16, version: u8) -> Result<Match, OfError> {
    if version < OF13 {
        Ok(v10::read_nxm(r, len)?.0)
    } else {
        oxm::read_match(r)
    }
}

/// Writes such a match, its length into the 16 bits at `at`.
fn put_old_match(w: &mut Writer, at: usize, m: &Match, version: u8) -> Result<(), OfError> {
    if version < OF13 {
        return v10::put_nxm(w, at, m, (0, 0));
    }
    let start = w.len();
    oxm::put_match(w, m, version)?;
    // The length without padding, which the match itself begins with.
    let len = [w.buf[start + 2], w.buf[start + 3]];
    w.buf[at..at + 2].copy_from_slice(&len);
    Ok(())
}

/// Reads one request of Nicira's or the ONF's.
pub(in crate::wire) fn read_old_request(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<FlowMonitorRequest, OfError> {
    let (id, flags) = (r.u32()?, r.u16()?);
    let (port, len, table);
    if version < OF13 {
        port = v10::port16(r.u16()?);
        (len, table) = (r.u16()?, r.u8()?);
        r.skip(5)?;
    } else {
        len = r.u16()?;
        (port, table) = (PortNo(r.u32()?), r.u8()?);
        r.skip(3)?;
    }
    Ok(FlowMonitorRequest {
        id,
        command: FlowMonitorCommand::Add,
        flags: check_flags(flags, OLD_FLAGS)?,
        table,
        out_port: flow::out_port(port.0)?,
        out_group: None,
        matching: read_old_match(r, len, version)?,
    })
}

/// Writes one request of Nicira's or the ONF's.
pub(in crate::wire) fn put_old_request(
    w: &mut Writer,
    m: &FlowMonitorRequest,
    version: u8,
) -> Result<(), OfError> {
    check_flags(m.flags, OLD_FLAGS)?;
    if m.command != FlowMonitorCommand::Add || m.out_group.is_some() {
        return err(
            ErrorKind::MonitorBadCommand,
            "before OpenFlow 1.4 monitors can be added, by port but not by group",
        );
    }
    w.u32(m.id);
    w.u16(m.flags);
    let at = if version < OF13 {
        v10::put_port16(w, m.out_port)?;
        let at = w.len();
        w.u16(0);
        w.u8(m.table);
        w.zeros(5);
        at
    } else {
        let at = w.len();
        w.u16(0);
        w.u32(m.out_port.0);
        w.u8(m.table);
        w.zeros(3);
        at
    };
    put_old_match(w, at, &m.matching, version)
}

/// Actions, as Nicira's updates carry them, or instructions.
fn read_instructions(
    r: &mut Reader<'_>,
    m: &Match,
    version: u8,
) -> Result<Option<Instructions>, OfError> {
    if r.is_empty() {
        return Ok(None);
    }
    Ok(Some(match version {
        OF10 => v10::read_instructions(r, m)?,
        OF11..OF13 => Instructions::apply(action::read_actions(r, version)?),
        _ => instruction::read_instructions(r, m, version)?,
    }))
}

fn put_instructions(
    w: &mut Writer,
    i: Option<&Instructions>,
    m: &Match,
    version: u8,
) -> Result<(), OfError> {
    let Some(i) = i else { return Ok(()) };
    match version {
        OF10 => v10::put_flow_instructions(w, i, m),
        OF11..OF13 => action::put_actions(w, &i.apply, m, version),
        _ => instruction::put_instructions(w, i, m, version),
    }
}

/// Reads one update, of any version.
pub(in crate::wire) fn read_update(r: &mut Reader<'_>, version: u8) -> Result<FlowUpdate, OfError> {
    let mut e = sized(r, 8)?;
    let number = e.u16()?;
    let event = match event::OLD.get(usize::from(number)) {
        Some(event) if version < OF14 => *event,
        None if version < OF14 => u16::MAX,
        _ => number,
    };
    let update: fn(MonitoredFlow) -> FlowUpdate = match event {
        event::ABBREVIATED => return Ok(FlowUpdate::Abbreviated(e.u32()?)),
        event::PAUSED => return Ok(FlowUpdate::Paused),
        event::RESUMED => return Ok(FlowUpdate::Resumed),
        event::INITIAL => FlowUpdate::Initial,
        event::ADDED => FlowUpdate::Added,
        event::MODIFIED => FlowUpdate::Modified,
        // Whose reason is read below.
        event::REMOVED => FlowUpdate::Added,
        _ => {
            return err(
                ErrorKind::FmBadEvent,
                format!("{number} is no event of a flow monitor"),
            );
        }
    };
    let mut f = MonitoredFlow {
        table: 0,
        priority: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        cookie: 0,
        matching: Match::new(),
        instructions: None,
    };
    let reason;
    if version < OF14 {
        (reason, f.priority) = (e.u16()?, e.u16()?);
        (f.idle_timeout, f.hard_timeout) = (e.u16()?, e.u16()?);
        let len = e.u16()?;
        f.table = e.u8()?;
        e.skip(1)?;
        f.cookie = e.u64()?;
        f.matching = read_old_match(&mut e, len, version)?;
    } else {
        (f.table, reason) = (e.u8()?, e.u8()?.into());
        (f.idle_timeout, f.hard_timeout, f.priority) = (e.u16()?, e.u16()?, e.u16()?);
        e.skip(4)?;
        f.cookie = e.u64()?;
        f.matching = matching::read(&mut e, version)?;
    }
    f.instructions = read_instructions(&mut e, &f.matching, version)?;
    if event != event::REMOVED {
        return Ok(update(f));
    }
    let what = "reason for a removed flow";
    let reason = named(REMOVED, reason.into(), ErrorKind::BadReason, what)?;
    Ok(FlowUpdate::Removed(reason, f))
}

/// Writes one update, of any version.
pub(in crate::wire) fn put_update(
    w: &mut Writer,
    u: &FlowUpdate,
    version: u8,
) -> Result<(), OfError> {
    let (event, reason, flow) = match u {
        // What was there from the start is added, in the old forms.
        FlowUpdate::Initial(f) if version < OF14 => (event::ADDED, None, Some(f)),
        FlowUpdate::Initial(f) => (event::INITIAL, None, Some(f)),
        FlowUpdate::Added(f) => (event::ADDED, None, Some(f)),
        FlowUpdate::Removed(reason, f) => (event::REMOVED, Some(reason), Some(f)),
        FlowUpdate::Modified(f) => (event::MODIFIED, None, Some(f)),
        FlowUpdate::Abbreviated(_) => (event::ABBREVIATED, None, None),
        FlowUpdate::Paused | FlowUpdate::Resumed if version < OF14 => {
            return err(
                ErrorKind::FmBadEvent,
                "before OpenFlow 1.4 there are messages of their own for pausing and resuming",
            );
        }
        FlowUpdate::Paused => (event::PAUSED, None, None),
        FlowUpdate::Resumed => (event::RESUMED, None, None),
    };
    let start = w.len();
    w.u16(0);
    w.u16(if version < OF14 {
        number(&event::OLD, &event).into()
    } else {
        event
    });
    let Some(f) = flow else {
        w.u32(match u {
            FlowUpdate::Abbreviated(xid) => *xid,
            _ => 0,
        });
        return w.set_len(start, start);
    };
    let reason = reason.map_or(0, |r| number(REMOVED, r));
    if version < OF14 {
        w.u16(reason.into());
        w.u16(f.priority);
        w.u16(f.idle_timeout);
        w.u16(f.hard_timeout);
        let at = w.len();
        w.u16(0);
        w.u8(f.table);
        w.u8(0);
        w.u64(f.cookie);
        put_old_match(w, at, &f.matching, version)?;
    } else {
        w.u8(f.table);
        w.u8(reason);
        w.u16(f.idle_timeout);
        w.u16(f.hard_timeout);
        w.u16(f.priority);
        w.zeros(4);
        w.u64(f.cookie);
        matching::put(w, &f.matching, version)?;
    }
    put_instructions(w, f.instructions.as_ref(), &f.matching, version)?;
    w.set_len(start, start)
}
