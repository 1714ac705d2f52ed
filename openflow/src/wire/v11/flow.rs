//! Flow-mods, removed flows, and statistics of flows.

use super::err;
use super::matching;
use super::stats::{Stats, UNKNOWN};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::codes::{self, FLOW_COMMANDS, REMOVED, STATS_REASONS, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{NO_BUFFER, NO_GROUP, OF12, OF13, OF14, OF15, instruction, oxm};

/// The flags a version has, as the lowest so many bits.
fn known_flags(version: u8) -> u16 {
    match version {
        0..OF12 => 0x03,
        OF12 => 0x07,
        _ => 0x1f,
    }
}

pub(super) fn read_flags(bits: u16, version: u8, kind: ErrorKind) -> Result<FlowFlags, OfError> {
    if bits & !known_flags(version) != 0 {
        return err(
            kind,
            format!("flags {bits:#06x} have bits that are not known"),
        );
    }
    Ok(FlowFlags {
        send_flow_rem: bits & 1 != 0,
        check_overlap: bits & 2 != 0,
        reset_counts: bits & 4 != 0,
        no_packet_counts: bits & 8 != 0,
        no_byte_counts: bits & 16 != 0,
    })
}

fn flag_bits(f: FlowFlags) -> u16 {
    [
        f.send_flow_rem,
        f.check_overlap,
        f.reset_counts,
        f.no_packet_counts,
        f.no_byte_counts,
    ]
    .iter()
    .enumerate()
    .fold(0, |bits, (i, on)| bits | u16::from(*on) << i)
}

pub(super) fn group(n: u32) -> Option<u32> {
    (n != NO_GROUP).then_some(n)
}

/// A port to filter by.
pub(super) fn out_port(n: u32) -> Result<PortNo, OfError> {
    if oxm::port_ok(n) {
        Ok(PortNo(n))
    } else {
        err(
            ErrorKind::BadOutPort,
            format!("out_port {n:#x} can not exist"),
        )
    }
}

pub(super) fn read_mod(r: &mut Reader<'_>, version: u8) -> Result<FlowMod, OfError> {
    let (cookie, cookie_mask, table) = (r.u64()?, r.u64()?, r.u8()?);
    let command = r.u8()?.into();
    let command = named(
        FLOW_COMMANDS,
        command,
        ErrorKind::BadCommand,
        "flow-mod command",
    )?;
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    let (buffer, port, out_group) = (r.u32()?, r.u32()?, r.u32()?);
    let (flags, importance) = (r.u16()?, r.u16()?);
    let flags = read_flags(flags, version, ErrorKind::BadFlowModFlags)?;
    let out_port = out_port(port)?;
    let matching = matching::read(r, version)?;
    Ok(FlowMod {
        command,
        cookie,
        cookie_mask,
        table,
        priority,
        idle_timeout,
        hard_timeout,
        importance: if version >= OF14 { importance } else { 0 },
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        out_port,
        out_group: group(out_group),
        flags,
        instructions: instruction::read_instructions(r, &matching, version)?,
        matching,
    })
}

pub(super) fn put_mod(w: &mut Writer, f: &FlowMod, version: u8) -> Result<(), OfError> {
    let flags = flag_bits(f.flags);
    if flags & !known_flags(version) != 0 {
        return err(
            ErrorKind::BadFlowModFlags,
            format!("this version has no such flags: {flags:#06x}"),
        );
    }
    // Nobody should get another flow than he asked for; who is told of flows is told without.
    if f.instructions.stat_trigger.is_some() && version < OF15 {
        return err(
            ErrorKind::UnsupInst,
            "only OpenFlow 1.5 has stat_trigger instructions",
        );
    }
    w.u64(f.cookie);
    w.u64(f.cookie_mask);
    w.u8(f.table);
    w.u8(number(FLOW_COMMANDS, &f.command));
    w.u16(f.idle_timeout);
    w.u16(f.hard_timeout);
    w.u16(f.priority);
    w.u32(f.buffer.unwrap_or(NO_BUFFER));
    w.u32(f.out_port.0);
    w.u32(f.out_group.unwrap_or(NO_GROUP));
    w.u16(flags);
    // Importance only orders evictions: like Open vSwitch, older versions go without it.
    w.u16(if version >= OF14 { f.importance } else { 0 });
    matching::put(w, &f.matching, version)?;
    instruction::put_instructions(w, &f.instructions, &f.matching, version)
}

pub(super) fn read_removed(r: &mut Reader<'_>, version: u8) -> Result<FlowRemoved, OfError> {
    let what = "reason for a removed flow";
    let reason_of = |n: u8| {
        let reason = named(REMOVED, n.into(), ErrorKind::BadReason, what)?;
        Ok::<_, OfError>(codes::removed_reason(reason, version))
    };
    let mut flow = FlowStats::default();
    let reason;
    if version >= OF15 {
        (flow.table, reason) = (r.u8()?, reason_of(r.u8()?)?);
        (flow.priority, flow.idle_timeout, flow.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
        flow.cookie = r.u64()?;
        flow.matching = matching::read(r, version)?;
        read_stats(r, &mut flow)?;
    } else {
        (flow.cookie, flow.priority) = (r.u64()?, r.u16()?);
        (reason, flow.table) = (reason_of(r.u8()?)?, r.u8()?);
        flow.duration = r.duration()?;
        (flow.idle_timeout, flow.hard_timeout) = (r.u16()?, r.u16()?);
        if version < OF12 {
            flow.hard_timeout = 0;
        }
        (flow.packets, flow.bytes) = (r.u64()?, r.u64()?);
        flow.matching = matching::read(r, version)?;
    }
    Ok(FlowRemoved { reason, flow })
}

pub(super) fn put_removed(w: &mut Writer, m: &FlowRemoved, version: u8) -> Result<(), OfError> {
    let flow = &m.flow;
    let reason = number(REMOVED, &codes::removed_reason(m.reason, version));
    if version >= OF15 {
        w.u8(flow.table);
        w.u8(reason);
        w.u16(flow.priority);
        w.u16(flow.idle_timeout);
        w.u16(flow.hard_timeout);
        w.u64(flow.cookie);
        matching::put(w, &flow.matching, version)?;
        return Stats::of_flow(flow).put(w);
    }
    w.u64(flow.cookie);
    w.u16(flow.priority);
    w.u8(reason);
    w.u8(flow.table);
    w.duration(flow.duration);
    w.u16(flow.idle_timeout);
    w.u16(if version < OF12 { 0 } else { flow.hard_timeout });
    w.u64(flow.packets);
    w.u64(flow.bytes);
    matching::put_lossy(w, &flow.matching, version)
}

fn read_stats(r: &mut Reader<'_>, f: &mut FlowStats) -> Result<(), OfError> {
    let s = Stats::read(r)?;
    f.duration = s.duration.unwrap_or(UNKNOWN);
    f.idle_age = s.idle;
    f.packets = s.packets.unwrap_or(u64::MAX);
    f.bytes = s.bytes.unwrap_or(u64::MAX);
    Ok(())
}

/// Reads one flow of the flow statistics (flow descriptions, in 1.5), behind its length.
pub(super) fn read(r: &mut Reader<'_>, version: u8) -> Result<FlowStats, OfError> {
    let mut f = FlowStats::default();
    if version >= OF15 {
        r.skip(2)?;
        f.table = r.u8()?;
        r.skip(1)?;
        (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
        f.flags = read_flags(r.u16()?, version, ErrorKind::BadLen)?;
        (f.importance, f.cookie) = (r.u16()?, r.u64()?);
        f.matching = matching::read(r, version)?;
        read_stats(r, &mut f)?;
    } else {
        f.table = r.u8()?;
        r.skip(1)?;
        f.duration = r.duration()?;
        (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
        let (flags, importance) = (r.u16()?, r.u16()?);
        r.skip(2)?;
        if version >= OF13 {
            f.flags = read_flags(flags, version, ErrorKind::BadLen)?;
        }
        if version >= OF14 {
            f.importance = importance;
        }
        (f.cookie, f.packets, f.bytes) = (r.u64()?, r.u64()?, r.u64()?);
        f.matching = matching::read(r, version)?;
    }
    f.instructions = instruction::read_instructions(r, &f.matching, version)?;
    Ok(f)
}

/// Writes one flow of the flow statistics.
pub(super) fn put(w: &mut Writer, f: &FlowStats, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    if version >= OF15 {
        w.zeros(2);
        w.u8(f.table);
        w.u8(0);
        w.u16(f.priority);
        w.u16(f.idle_timeout);
        w.u16(f.hard_timeout);
        w.u16(flag_bits(f.flags));
        w.u16(f.importance);
        w.u64(f.cookie);
        matching::put(w, &f.matching, version)?;
        Stats::of_flow(f).put(w)?;
    } else {
        w.u8(f.table);
        w.u8(0);
        w.duration(f.duration);
        w.u16(f.priority);
        w.u16(f.idle_timeout);
        w.u16(f.hard_timeout);
        w.u16(if version >= OF13 {
            flag_bits(f.flags)
        } else {
            0
        });
        w.u16(if version >= OF14 { f.importance } else { 0 });
        w.zeros(2);
        w.u64(f.cookie);
        w.u64(f.packets);
        w.u64(f.bytes);
        matching::put_lossy(w, &f.matching, version)?;
    }
    instruction::put_instructions(w, &f.instructions, &f.matching, version)?;
    w.set_len(start, start)
}

/// Reads one flow of 1.5's flow statistics, behind its length.
pub(super) fn read_counted(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<(FlowStatsReason, FlowStats), OfError> {
    let mut f = FlowStats::default();
    r.skip(2)?;
    f.table = r.u8()?;
    let what = "reason for telling a flow's statistics";
    let reason = named(STATS_REASONS, r.u8()?.into(), ErrorKind::BadReason, what)?;
    f.priority = r.u16()?;
    f.matching = matching::read(r, version)?;
    read_stats(r, &mut f)?;
    Ok((reason, f))
}

/// Writes one flow of 1.5's flow statistics.
pub(super) fn put_counted(
    w: &mut Writer,
    (reason, f): &(FlowStatsReason, FlowStats),
    version: u8,
) -> Result<(), OfError> {
    let start = w.len();
    w.zeros(4);
    w.u8(f.table);
    w.u8(number(STATS_REASONS, reason));
    w.u16(f.priority);
    matching::put(w, &f.matching, version)?;
    Stats::of_flow(f).put(w)?;
    w.set_len(start, start)
}

pub(super) fn read_filter(r: &mut Reader<'_>, version: u8) -> Result<FlowFilter, OfError> {
    let table = r.u8()?;
    r.skip(3)?;
    let (port, out_group) = (r.u32()?, r.u32()?);
    r.skip(4)?;
    let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
    Ok(FlowFilter {
        table,
        out_port: out_port(port)?,
        out_group: group(out_group),
        cookie,
        cookie_mask,
        matching: matching::read(r, version)?,
    })
}

pub(super) fn put_filter(w: &mut Writer, f: &FlowFilter, version: u8) -> Result<(), OfError> {
    w.u8(f.table);
    w.zeros(3);
    w.u32(f.out_port.0);
    w.u32(f.out_group.unwrap_or(NO_GROUP));
    w.zeros(4);
    w.u64(f.cookie);
    w.u64(f.cookie_mask);
    matching::put(w, &f.matching, version)
}

pub(super) fn read_aggregate(r: &mut Reader<'_>, version: u8) -> Result<AggregateStats, OfError> {
    if version >= OF15 {
        let s = Stats::read(r)?;
        return Ok(AggregateStats {
            packets: s.packets.unwrap_or(u64::MAX),
            bytes: s.bytes.unwrap_or(u64::MAX),
            flows: s.flows.unwrap_or(u32::MAX),
        });
    }
    let a = AggregateStats {
        packets: r.u64()?,
        bytes: r.u64()?,
        flows: r.u32()?,
    };
    r.skip(4)?;
    Ok(a)
}

pub(super) fn put_aggregate(
    w: &mut Writer,
    a: &AggregateStats,
    version: u8,
) -> Result<(), OfError> {
    if version >= OF15 {
        return Stats {
            packets: Some(a.packets),
            bytes: Some(a.bytes),
            flows: Some(a.flows),
            ..Stats::default()
        }
        .put(w);
    }
    w.u64(a.packets);
    w.u64(a.bytes);
    w.u32(a.flows);
    w.zeros(4);
    Ok(())
}
