//! Flows, their changes and their ends.

use super::{counter, format_duration};
use crate::message::{
    AggregateStats, FlowFilter, FlowMod, FlowMonitorRequest, FlowRemoved, FlowRemovedReason,
    FlowStats, FlowStatsReason, FlowUpdate, MonitoredFlow, PortNo, TABLE_ALL,
};
use crate::text::action::format_instructions;
use crate::text::flow::{StatsLine, format_flow_mod, format_flow_stats};
use crate::text::matching::format_match;
use crate::text::{Names, monitor};
use std::fmt::{Result, Write};

pub(super) fn flow_mod(w: &mut String, f: &FlowMod, names: &Names) -> Result {
    write!(w, " {}", format_flow_mod(f, names))
}

fn reason_name(r: FlowRemovedReason) -> &'static str {
    match r {
        FlowRemovedReason::IdleTimeout => "idle",
        FlowRemovedReason::HardTimeout => "hard",
        FlowRemovedReason::Delete => "delete",
        FlowRemovedReason::GroupDelete => "group_delete",
        FlowRemovedReason::MeterDelete => "meter_delete",
        FlowRemovedReason::Eviction => "eviction",
    }
}

pub(super) fn removed(w: &mut String, r: &FlowRemoved, names: &Names) -> Result {
    let f = &r.flow;
    let m = format_match(&f.matching, Some(f.priority), names);
    write!(w, " {m} reason={}", reason_name(r.reason))?;
    if f.table != TABLE_ALL {
        write!(w, " table_id={}", names.table_text(f.table))?;
    }
    if f.cookie != 0 {
        write!(w, " cookie:{:#x}", f.cookie)?;
    }
    write!(
        w,
        " duration{} idle{}",
        format_duration(f.duration),
        f.idle_timeout
    )?;
    if f.hard_timeout != 0 {
        write!(w, " hard{}", f.hard_timeout)?;
    }
    write!(w, " pkts{} bytes{}", f.packets, f.bytes)
}

pub(super) fn filter(w: &mut String, f: &FlowFilter, names: &Names) -> Result {
    if f.table != TABLE_ALL {
        write!(w, " table={}", names.table_text(f.table))?;
    }
    if f.out_port != PortNo::ANY {
        write!(w, " out_port={}", names.port_text(f.out_port))?;
    }
    write!(w, " {}", format_match(&f.matching, None, names))
}

pub(super) fn flows(w: &mut String, flows: &[FlowStats], names: &Names) -> Result {
    flows
        .iter()
        .try_for_each(|f| write!(w, "\n {}", format_flow_stats(f, StatsLine::Full, names)))
}

/// Counters of flows alone (OpenFlow 1.5).
pub(super) fn statistics(
    w: &mut String,
    flows: &[(FlowStatsReason, FlowStats)],
    names: &Names,
) -> Result {
    for (reason, f) in flows {
        let reason = match reason {
            FlowStatsReason::Request => "request",
            FlowStatsReason::Trigger => "trigger",
        };
        let (duration, table) = (format_duration(f.duration), names.table_text(f.table));
        write!(
            w,
            "\n reason={reason}, duration={duration}, table={table}, "
        )?;
        write!(w, "n_packets={}, n_bytes={}, ", f.packets, f.bytes)?;
        if let Some(age) = f.idle_age {
            write!(w, "idle_age={}, ", age.as_secs())?;
        }
        w.push_str(&format_match(&f.matching, Some(f.priority), names));
    }
    Ok(())
}

pub(super) fn aggregate(w: &mut String, s: &AggregateStats) -> Result {
    let (packets, bytes) = (counter(s.packets), counter(s.bytes));
    write!(
        w,
        " packet_count={packets} byte_count={bytes} flow_count={}",
        s.flows
    )
}

pub(super) fn monitor_request(w: &mut String, m: &FlowMonitorRequest, names: &Names) -> Result {
    write!(w, "\n id={} flags={}", m.id, monitor::format_flags(m.flags))?;
    if m.out_port != PortNo::ANY {
        write!(w, " out_port={}", names.port_text(m.out_port))?;
    }
    if let Some(group) = m.out_group {
        write!(w, " out_group={group}")?;
    }
    if m.table != TABLE_ALL {
        write!(w, " table={}", names.table_text(m.table))?;
    }
    // Its match stands behind a blank, or the line ends there.
    write!(w, " {}", format_match(&m.matching, None, names))?;
    w.truncate(w.trim_end_matches(' ').len());
    Ok(())
}

pub(super) fn update(w: &mut String, u: &FlowUpdate, names: &Names) -> Result {
    w.push_str("\n event=");
    let f = match u {
        FlowUpdate::Initial(f) => {
            w.push_str("INITIAL");
            f
        }
        FlowUpdate::Added(f) => {
            w.push_str("ADDED");
            f
        }
        FlowUpdate::Removed(reason, f) => {
            write!(w, "DELETED reason={}", reason_name(*reason))?;
            f
        }
        FlowUpdate::Modified(f) => {
            w.push_str("MODIFIED");
            f
        }
        FlowUpdate::Abbreviated(xid) => return write!(w, "ABBREV xid={xid:#x}"),
        FlowUpdate::Paused => return w.write_str("PAUSED"),
        FlowUpdate::Resumed => return w.write_str("RESUMED"),
    };
    monitored(w, f, names)
}

fn monitored(w: &mut String, f: &MonitoredFlow, names: &Names) -> Result {
    write!(w, " table={}", names.table_text(f.table))?;
    if f.idle_timeout != 0 {
        write!(w, " idle_timeout={}", f.idle_timeout)?;
    }
    if f.hard_timeout != 0 {
        write!(w, " hard_timeout={}", f.hard_timeout)?;
    }
    let cookie = if f.cookie == 0 {
        "0".into()
    } else {
        format!("{:#x}", f.cookie)
    };
    let m = format_match(&f.matching, None, names);
    write!(w, " cookie={cookie} {m}")?;
    // Nicira's form cannot tell a flow without actions from one whose actions were not asked for.
    if let Some(i) = &f.instructions
        && *i != Default::default()
    {
        let gap = if m.is_empty() { "" } else { " " };
        write!(w, "{gap}actions={}", format_instructions(i, names))?;
    }
    Ok(())
}
