//! Changes of flows, what is told of them, and who watches them.

use super::BufferId;
use super::PortNo;
use crate::action::Instructions;
use crate::matching::Match;
use std::time::Duration;

/// What to do with the flow table (OpenFlow 1.3.5 7.3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum FlowModCommand {
    Add,
    Modify,
    ModifyStrict,
    Delete,
    DeleteStrict,
}

/// `ofp_flow_mod_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowFlags {
    /// Tell when the flow ends.
    pub send_flow_rem: bool,
    /// Refuse to overlap a rule of the same priority.
    pub check_overlap: bool,
    /// Begin counting anew.
    pub reset_counts: bool,
    /// Do not count packets.
    pub no_packet_counts: bool,
    /// Do not count bytes.
    pub no_byte_counts: bool,
}

/// Table number that stands for all tables.
pub const TABLE_ALL: u8 = 0xff;

/// A change of the flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// Opaque to the switch.
    pub cookie: u64,
    /// For modify and delete: only flows whose cookie agrees with `cookie` under this mask.
    pub cookie_mask: u64,
    /// The table, or [`TABLE_ALL`] where deletes allow it.
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// Seconds without a packet, 0 for never.
    pub idle_timeout: u16,
    /// Seconds in all, 0 for never.
    pub hard_timeout: u16,
    /// Lower goes first when a full table evicts.
    pub importance: u16,
    /// A packet to run through the change.
    pub buffer: BufferId,
    /// Deletes: only flows with an output to it; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Deletes: only flows that use the group; `None` for all.
    pub out_group: Option<u32>,
    /// Flags.
    pub flags: FlowFlags,
    /// Which packets.
    pub matching: Match,
    /// What happens to them.
    pub instructions: Instructions,
}

impl FlowMod {
    /// An add to table 0 with the default priority 0x8000 and no timeouts.
    pub fn add(matching: Match, instructions: Instructions) -> FlowMod {
        FlowMod {
            command: FlowModCommand::Add,
            cookie: 0,
            cookie_mask: 0,
            table: 0,
            priority: 0x8000,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            buffer: None,
            out_port: PortNo::ANY,
            out_group: None,
            flags: FlowFlags::default(),
            matching,
            instructions,
        }
    }
}

/// Which flows a request speaks of (multipart flow and aggregate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// The table, or [`TABLE_ALL`].
    pub table: u8,
    /// Only flows with an output to it; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only flows that use the group.
    pub out_group: Option<u32>,
    /// With `cookie_mask`, which cookies.
    pub cookie: u64,
    /// Zero for all cookies.
    pub cookie_mask: u64,
    /// Only flows within this match.
    pub matching: Match,
}

impl Default for FlowFilter {
    fn default() -> FlowFilter {
        FlowFilter {
            table: TABLE_ALL,
            out_port: PortNo::ANY,
            out_group: None,
            cookie: 0,
            cookie_mask: 0,
            matching: Match::new(),
        }
    }
}

/// One flow with its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Table.
    pub table: u8,
    /// Time since it was added.
    pub duration: Duration,
    /// Time since it was last used, where the answer carries it (Nicira, 1.5).
    pub idle_age: Option<Duration>,
    /// Time since it was last changed, where the answer carries it.
    pub hard_age: Option<Duration>,
    /// Priority.
    pub priority: u16,
    /// Seconds, 0 for none.
    pub idle_timeout: u16,
    /// Seconds, 0 for none.
    pub hard_timeout: u16,
    /// Importance (1.4 and later).
    pub importance: u16,
    /// Flags it was added with.
    pub flags: FlowFlags,
    /// Cookie.
    pub cookie: u64,
    /// Packets that hit it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Which packets.
    pub matching: Match,
    /// What happens to them.
    pub instructions: Instructions,
}

/// Why a flow's statistics are told (OpenFlow 1.5.1 7.3.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStatsReason {
    /// Somebody asked.
    Request,
    /// A threshold of [`crate::action::StatTrigger`] was passed.
    Trigger,
}

/// Sums over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u32,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum FlowRemovedReason {
    IdleTimeout,
    HardTimeout,
    Delete,
    GroupDelete,
    MeterDelete,
    Eviction,
}

/// A flow that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRemoved {
    /// Why.
    pub reason: FlowRemovedReason,
    /// The flow as it was.
    pub flow: FlowStats,
}

/// What a flow monitor asks for (Nicira's, OpenFlow 1.4.1 7.3.5.18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMonitorRequest {
    /// Chosen by the controller.
    pub id: u32,
    /// Add, modify or delete the monitor (1.4 and later; Nicira's always add).
    pub command: FlowMonitorCommand,
    /// `OFPFMF_*`: 1 initial, 2 add, 4 removed, 8 modify, 16 with instructions, 32 never abbreviated, 64 only own.
    pub flags: u16,
    /// Only flows of this table, or [`TABLE_ALL`].
    pub table: u8,
    /// Only flows with an output to it; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only flows that use the group.
    pub out_group: Option<u32>,
    /// Only flows within this match.
    pub matching: Match,
}

/// `OFPFMC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum FlowMonitorCommand {
    Add,
    Modify,
    Delete,
}

/// What a flow monitor tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowUpdate {
    /// A flow that was there when the monitor came.
    Initial(MonitoredFlow),
    /// A new flow.
    Added(MonitoredFlow),
    /// A flow that ended, and why.
    Removed(FlowRemovedReason, MonitoredFlow),
    /// New instructions.
    Modified(MonitoredFlow),
    /// A change that this controller asked for itself, by transaction id.
    Abbreviated(u32),
    /// The controller was too slow: nothing is told until...
    Paused,
    /// ...it has caught up; what changed meanwhile came before this.
    Resumed,
}

/// A flow as a monitor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in FlowStats")]
pub struct MonitoredFlow {
    pub table: u8,
    pub priority: u16,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub cookie: u64,
    pub matching: Match,
    /// If asked for.
    pub instructions: Option<Instructions>,
}
