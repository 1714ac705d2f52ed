//! Numbers that stand for values of the model: lists in which a value's place is its number.

use crate::action::PacketInReason;
use crate::error::{ErrorKind, OfError};
use crate::message::*;

/// The number of a value.
pub(super) fn number<T: PartialEq>(list: &[T], value: &T) -> u8 {
    list.iter().position(|v| v == value).unwrap_or_default() as u8
}

/// The value of a number, or an error of that kind.
pub(super) fn named<T: Copy>(
    list: &[T],
    n: u32,
    kind: ErrorKind,
    what: &str,
) -> Result<T, OfError> {
    match list.get(n as usize) {
        Some(v) => Ok(*v),
        None => Err(OfError::new(kind, format!("{n} is no {what}"))),
    }
}

/// `ofp_flow_mod_command`.
pub(super) const FLOW_COMMANDS: &[FlowModCommand] = &[
    FlowModCommand::Add,
    FlowModCommand::Modify,
    FlowModCommand::ModifyStrict,
    FlowModCommand::Delete,
    FlowModCommand::DeleteStrict,
];
/// `ofp_flow_removed_reason`.
pub(super) const REMOVED: &[FlowRemovedReason] = &[
    FlowRemovedReason::IdleTimeout,
    FlowRemovedReason::HardTimeout,
    FlowRemovedReason::Delete,
    FlowRemovedReason::GroupDelete,
    FlowRemovedReason::MeterDelete,
    FlowRemovedReason::Eviction,
];
/// `ofp_port_reason`.
pub(super) const PORT_REASONS: &[PortReason] =
    &[PortReason::Add, PortReason::Delete, PortReason::Modify];
/// `ofp_controller_role`.
pub(super) const ROLES: &[Role] = &[Role::NoChange, Role::Equal, Role::Primary, Role::Secondary];
/// `nx_role`.
pub(super) const NICIRA_ROLES: &[Role] = &[Role::Equal, Role::Primary, Role::Secondary];
/// `ofp_controller_role_reason`.
pub(super) const ROLE_REASONS: &[RoleReason] = &[
    RoleReason::MasterRequest,
    RoleReason::Config,
    RoleReason::Experimenter,
];
/// `ofp_group_type`.
pub(super) const GROUP_TYPES: &[GroupType] = &[
    GroupType::All,
    GroupType::Select,
    GroupType::Indirect,
    GroupType::FastFailover,
];
/// `ofp_meter_mod_command`.
pub(super) const METER_COMMANDS: &[MeterModCommand] = &[
    MeterModCommand::Add,
    MeterModCommand::Modify,
    MeterModCommand::Delete,
];
/// `ofp_table_config` of 1.1 and 1.2; what comes after the last is no change.
pub(super) const TABLE_MISSES: &[TableMiss] =
    &[TableMiss::Controller, TableMiss::Continue, TableMiss::Drop];
/// `ofp_table_features_command`.
pub(super) const TABLE_FEATURES_COMMANDS: &[TableFeaturesCommand] = &[
    TableFeaturesCommand::Replace,
    TableFeaturesCommand::Modify,
    TableFeaturesCommand::Enable,
    TableFeaturesCommand::Disable,
];
/// `ofp_flow_monitor_command`.
pub(super) const MONITOR_COMMANDS: &[FlowMonitorCommand] = &[
    FlowMonitorCommand::Add,
    FlowMonitorCommand::Modify,
    FlowMonitorCommand::Delete,
];
/// `ofp_flow_stats_reason`.
pub(super) const STATS_REASONS: &[FlowStatsReason] =
    &[FlowStatsReason::Request, FlowStatsReason::Trigger];
/// `ofp_bundle_ctrl_type`.
pub(super) const BUNDLE_STEPS: &[BundleStep] = &[
    BundleStep::OpenRequest,
    BundleStep::OpenReply,
    BundleStep::CloseRequest,
    BundleStep::CloseReply,
    BundleStep::CommitRequest,
    BundleStep::CommitReply,
    BundleStep::DiscardRequest,
    BundleStep::DiscardReply,
];
/// `nx_tlv_table_mod_command`.
pub(super) const TLV_COMMANDS: &[TlvTableCommand] = &[
    TlvTableCommand::Add,
    TlvTableCommand::Delete,
    TlvTableCommand::Clear,
];

/// The reasons of packet-ins and controller actions.
const REASONS: &[PacketInReason] = &[
    PacketInReason::NoMatch,
    PacketInReason::Action,
    PacketInReason::InvalidTtl,
    PacketInReason::ActionSet,
    PacketInReason::Group,
    PacketInReason::PacketOut,
];

/// A packet-in's reason.
pub(super) fn reason(n: u8) -> Option<PacketInReason> {
    REASONS.get(usize::from(n)).copied()
}

/// The number of a packet-in's reason.
pub(super) fn reason_number(r: PacketInReason) -> u8 {
    number(REASONS, &r)
}

/// A packet-in's reason as a version tells it: those that 1.4 added are all actions to earlier ones.
pub(super) fn packet_in_reason(reason: PacketInReason, version: u8) -> PacketInReason {
    match reason {
        PacketInReason::NoMatch | PacketInReason::InvalidTtl => reason,
        _ if version < super::OF14 => PacketInReason::Action,
        _ => reason,
    }
}

/// A removed flow's reason as a version tells it: those that came later are all deletions.
pub(super) fn removed_reason(reason: FlowRemovedReason, version: u8) -> FlowRemovedReason {
    let first = match reason {
        FlowRemovedReason::GroupDelete => super::OF11,
        FlowRemovedReason::MeterDelete | FlowRemovedReason::Eviction => super::OF14,
        _ => super::OF10,
    };
    if version < first {
        FlowRemovedReason::Delete
    } else {
        reason
    }
}
