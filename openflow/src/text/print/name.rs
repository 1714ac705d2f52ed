//! What messages are called.

use crate::error::ErrorKind;
use crate::message::{Message, MultipartReply, MultipartRequest};
use crate::wire;
use crate::wire::{OF10, OF12, OF13, OF14};

/// A message's name. `OFPT` and `OFPST` are the specification's own, `NXT`, `NXST` and `ONFT` those
/// of Nicira's and the ONF's extensions that a version needs for the same.
pub(super) fn of(m: &Message, version: u8) -> &'static str {
    match m {
        Message::Nicira(m) => match &**m {
            Message::FlowMod(_) => "NXT_FLOW_MOD",
            Message::FlowRemoved(_) => "NXT_FLOW_REMOVED",
            Message::PacketIn(_) => "NXT_PACKET_IN",
            Message::MultipartRequest(MultipartRequest::Flow(_)) => "NXST_FLOW request",
            Message::MultipartRequest(MultipartRequest::Aggregate(_)) => "NXST_AGGREGATE request",
            Message::MultipartReply(MultipartReply::Flow(_)) => "NXST_FLOW reply",
            Message::MultipartReply(MultipartReply::Aggregate(_)) => "NXST_AGGREGATE reply",
            m => of(m, version),
        },
        Message::Hello(_) => "OFPT_HELLO",
        Message::Error(_) => "OFPT_ERROR",
        Message::EchoRequest(_) => "OFPT_ECHO_REQUEST",
        Message::EchoReply(_) => "OFPT_ECHO_REPLY",
        Message::FeaturesRequest => "OFPT_FEATURES_REQUEST",
        Message::FeaturesReply(_) => "OFPT_FEATURES_REPLY",
        Message::GetConfigRequest => "OFPT_GET_CONFIG_REQUEST",
        Message::GetConfigReply(_) => "OFPT_GET_CONFIG_REPLY",
        Message::SetConfig(_) => "OFPT_SET_CONFIG",
        Message::PacketIn(_) => "OFPT_PACKET_IN",
        Message::FlowRemoved(_) => "OFPT_FLOW_REMOVED",
        Message::PortStatus(..) => "OFPT_PORT_STATUS",
        Message::PacketOut(_) => "OFPT_PACKET_OUT",
        Message::FlowMod(_) => "OFPT_FLOW_MOD",
        Message::GroupMod(_) if version == OF10 => "NXT_GROUP_MOD",
        Message::GroupMod(_) => "OFPT_GROUP_MOD",
        Message::MeterMod(_) => "OFPT_METER_MOD",
        Message::TableMod(..) => "OFPT_TABLE_MOD",
        Message::PortMod(_) => "OFPT_PORT_MOD",
        Message::BarrierRequest => "OFPT_BARRIER_REQUEST",
        Message::BarrierReply => "OFPT_BARRIER_REPLY",
        Message::QueueGetConfigRequest(_) => "OFPT_QUEUE_GET_CONFIG_REQUEST",
        Message::QueueGetConfigReply(..) => "OFPT_QUEUE_GET_CONFIG_REPLY",
        Message::RoleRequest(_) if version < OF12 => "NXT_ROLE_REQUEST",
        Message::RoleRequest(_) => "OFPT_ROLE_REQUEST",
        Message::RoleReply(_) if version < OF12 => "NXT_ROLE_REPLY",
        Message::RoleReply(_) => "OFPT_ROLE_REPLY",
        Message::GetAsyncRequest => "OFPT_GET_ASYNC_REQUEST",
        Message::GetAsyncReply(_) => "OFPT_GET_ASYNC_REPLY",
        Message::SetAsync(_) if version < OF13 => "NXT_SET_ASYNC_CONFIG",
        Message::SetAsync(_) => "OFPT_SET_ASYNC",
        Message::BundleControl(..) if version < OF14 => "ONFT_BUNDLE_CONTROL",
        Message::BundleControl(..) => "OFPT_BUNDLE_CONTROL",
        Message::BundleAdd(..) if version < OF14 => "ONFT_BUNDLE_ADD_MESSAGE",
        Message::BundleAdd(..) => "OFPT_BUNDLE_ADD_MESSAGE",
        Message::RoleStatus(..) if version < OF14 => "ONFT_ROLE_STATUS",
        Message::RoleStatus(..) => "OFPT_ROLE_STATUS",
        Message::TableStatus(..) => "OFPT_TABLE_STATUS",
        Message::RequestForward(..) if version < OF13 => "NXT_REQUESTFORWARD",
        Message::RequestForward(..) if version == OF13 => "ONFT_REQUESTFORWARD",
        Message::RequestForward(..) => "OFPT_REQUESTFORWARD",
        Message::ControllerStatus(_) => "OFPT_CONTROLLER_STATUS",
        Message::SetFlowFormat(_) => "NXT_SET_FLOW_FORMAT",
        Message::FlowModTableId(_) => "NXT_FLOW_MOD_TABLE_ID",
        Message::SetPacketInFormat(_) => "NXT_SET_PACKET_IN_FORMAT",
        Message::SetControllerId(_) => "NXT_SET_CONTROLLER_ID",
        Message::PacketIn2(_) => "NXT_PACKET_IN2",
        Message::Resume(_) => "NXT_RESUME",
        Message::TlvTableMod(..) => "NXT_TLV_TABLE_MOD",
        Message::TlvTableRequest => "NXT_TLV_TABLE_REQUEST",
        Message::TlvTableReply(..) => "NXT_TLV_TABLE_REPLY",
        Message::CtFlushZone(_) => "NXT_CT_FLUSH_ZONE",
        Message::FlowMonitorCancel(_) if version == OF13 => "ONFT_FLOW_MONITOR_CANCEL",
        Message::FlowMonitorCancel(_) => "NXT_FLOW_MONITOR_CANCEL",
        Message::FlowMonitorPaused if version == OF13 => "ONFT_FLOW_MONITOR_PAUSED",
        Message::FlowMonitorPaused => "NXT_FLOW_MONITOR_PAUSED",
        Message::FlowMonitorResumed if version == OF13 => "ONFT_FLOW_MONITOR_RESUMED",
        Message::FlowMonitorResumed => "NXT_FLOW_MONITOR_RESUMED",
        Message::FlowAge => "NXT_FLOW_AGE",
        Message::MultipartRequest(q) => request(q, version),
        Message::MultipartReply(a) => reply(a, version),
    }
}

fn request(q: &MultipartRequest, version: u8) -> &'static str {
    match q {
        MultipartRequest::Desc => "OFPST_DESC request",
        MultipartRequest::Flow(_) => "OFPST_FLOW request",
        MultipartRequest::Aggregate(_) => "OFPST_AGGREGATE request",
        MultipartRequest::Table => "OFPST_TABLE request",
        MultipartRequest::PortStats(_) => "OFPST_PORT request",
        MultipartRequest::Queue { .. } => "OFPST_QUEUE request",
        MultipartRequest::Group(_) if version == OF10 => "NXST_GROUP request",
        MultipartRequest::Group(_) => "OFPST_GROUP request",
        MultipartRequest::GroupDesc(_) if version == OF10 => "NXST_GROUP_DESC request",
        MultipartRequest::GroupDesc(_) => "OFPST_GROUP_DESC request",
        MultipartRequest::GroupFeatures if version < OF12 => "NXST_GROUP_FEATURES request",
        MultipartRequest::GroupFeatures => "OFPST_GROUP_FEATURES request",
        MultipartRequest::Meter(_) => "OFPST_METER request",
        MultipartRequest::MeterConfig(_) => "OFPST_METER_CONFIG request",
        MultipartRequest::MeterFeatures => "OFPST_METER_FEATURES request",
        MultipartRequest::TableFeatures(_) => "OFPST_TABLE_FEATURES request",
        MultipartRequest::PortDesc(_) => "OFPST_PORT_DESC request",
        MultipartRequest::TableDesc => "OFPST_TABLE_DESC request",
        MultipartRequest::QueueDesc { .. } => "OFPST_QUEUE_DESC request",
        MultipartRequest::FlowMonitor(_) if version < OF13 => "NXST_FLOW_MONITOR request",
        MultipartRequest::FlowMonitor(_) if version == OF13 => "ONFST_FLOW_MONITOR request",
        MultipartRequest::FlowMonitor(_) => "OFPST_FLOW_MONITOR request",
        MultipartRequest::FlowStats(_) => "OFPST_FLOW_STATS request",
        MultipartRequest::ControllerStatus => "OFPST_CONTROLLER_STATUS request",
        MultipartRequest::BundleFeatures => "OFPST_BUNDLE_FEATURES request",
        MultipartRequest::IpfixBridge => "NXST_IPFIX_BRIDGE request",
        MultipartRequest::IpfixFlow => "NXST_IPFIX_FLOW request",
    }
}

fn reply(a: &MultipartReply, version: u8) -> &'static str {
    match a {
        MultipartReply::Desc(_) => "OFPST_DESC reply",
        MultipartReply::Flow(_) => "OFPST_FLOW reply",
        MultipartReply::Aggregate(_) => "OFPST_AGGREGATE reply",
        MultipartReply::Table(_) => "OFPST_TABLE reply",
        MultipartReply::PortStats(_) => "OFPST_PORT reply",
        MultipartReply::Queue(_) => "OFPST_QUEUE reply",
        MultipartReply::Group(_) if version == OF10 => "NXST_GROUP reply",
        MultipartReply::Group(_) => "OFPST_GROUP reply",
        MultipartReply::GroupDesc(_) if version == OF10 => "NXST_GROUP_DESC reply",
        MultipartReply::GroupDesc(_) => "OFPST_GROUP_DESC reply",
        MultipartReply::GroupFeatures(_) if version < OF12 => "NXST_GROUP_FEATURES reply",
        MultipartReply::GroupFeatures(_) => "OFPST_GROUP_FEATURES reply",
        MultipartReply::Meter(_) => "OFPST_METER reply",
        MultipartReply::MeterConfig(_) => "OFPST_METER_CONFIG reply",
        MultipartReply::MeterFeatures(_) => "OFPST_METER_FEATURES reply",
        MultipartReply::TableFeatures(_) => "OFPST_TABLE_FEATURES reply",
        MultipartReply::PortDesc(_) => "OFPST_PORT_DESC reply",
        MultipartReply::TableDesc(_) => "OFPST_TABLE_DESC reply",
        MultipartReply::QueueDesc(_) => "OFPST_QUEUE_DESC reply",
        MultipartReply::FlowMonitor(_) if version < OF13 => "NXST_FLOW_MONITOR reply",
        MultipartReply::FlowMonitor(_) if version == OF13 => "ONFST_FLOW_MONITOR reply",
        MultipartReply::FlowMonitor(_) => "OFPST_FLOW_MONITOR reply",
        MultipartReply::FlowStats(_) => "OFPST_FLOW_STATS reply",
        MultipartReply::ControllerStatus(_) => "OFPST_CONTROLLER_STATUS reply",
        MultipartReply::BundleFeatures(_) => "OFPST_BUNDLE_FEATURES reply",
        MultipartReply::IpfixBridge(_) => "NXST_IPFIX_BRIDGE reply",
        MultipartReply::IpfixFlow(_) => "NXST_IPFIX_FLOW reply",
    }
}

/// Message types from 0 on that all versions share.
const COMMON: &[&str] = &[
    "OFPT_HELLO",
    "OFPT_ERROR",
    "OFPT_ECHO_REQUEST",
    "OFPT_ECHO_REPLY",
    "",
    "OFPT_FEATURES_REQUEST",
    "OFPT_FEATURES_REPLY",
    "OFPT_GET_CONFIG_REQUEST",
    "OFPT_GET_CONFIG_REPLY",
    "OFPT_SET_CONFIG",
    "OFPT_PACKET_IN",
    "OFPT_FLOW_REMOVED",
    "OFPT_PORT_STATUS",
    "OFPT_PACKET_OUT",
    "OFPT_FLOW_MOD",
];

/// Message types from 15 on in OpenFlow 1.0.
const LATER_10: &[&str] = &[
    "OFPT_PORT_MOD",
    "",
    "",
    "OFPT_BARRIER_REQUEST",
    "OFPT_BARRIER_REPLY",
    "OFPT_QUEUE_GET_CONFIG_REQUEST",
    "OFPT_QUEUE_GET_CONFIG_REPLY",
];

/// Message types from 15 on in later versions.
const LATER: &[&str] = &[
    "OFPT_GROUP_MOD",
    "OFPT_PORT_MOD",
    "OFPT_TABLE_MOD",
    "",
    "",
    "OFPT_BARRIER_REQUEST",
    "OFPT_BARRIER_REPLY",
    "OFPT_QUEUE_GET_CONFIG_REQUEST",
    "OFPT_QUEUE_GET_CONFIG_REPLY",
    "OFPT_ROLE_REQUEST",
    "OFPT_ROLE_REPLY",
    "OFPT_GET_ASYNC_REQUEST",
    "OFPT_GET_ASYNC_REPLY",
    "OFPT_SET_ASYNC",
    "OFPT_METER_MOD",
    "OFPT_ROLE_STATUS",
    "OFPT_TABLE_STATUS",
    "OFPT_REQUESTFORWARD",
    "OFPT_BUNDLE_CONTROL",
    "OFPT_BUNDLE_ADD_MESSAGE",
    "OFPT_CONTROLLER_STATUS",
];

/// Multipart types from 0 on.
const MULTIPART: &[[&str; 2]] = &[
    ["OFPST_DESC request", "OFPST_DESC reply"],
    ["OFPST_FLOW request", "OFPST_FLOW reply"],
    ["OFPST_AGGREGATE request", "OFPST_AGGREGATE reply"],
    ["OFPST_TABLE request", "OFPST_TABLE reply"],
    ["OFPST_PORT request", "OFPST_PORT reply"],
    ["OFPST_QUEUE request", "OFPST_QUEUE reply"],
    ["OFPST_GROUP request", "OFPST_GROUP reply"],
    ["OFPST_GROUP_DESC request", "OFPST_GROUP_DESC reply"],
    ["OFPST_GROUP_FEATURES request", "OFPST_GROUP_FEATURES reply"],
    ["OFPST_METER request", "OFPST_METER reply"],
    ["OFPST_METER_CONFIG request", "OFPST_METER_CONFIG reply"],
    ["OFPST_METER_FEATURES request", "OFPST_METER_FEATURES reply"],
    ["OFPST_TABLE_FEATURES request", "OFPST_TABLE_FEATURES reply"],
    ["OFPST_PORT_DESC request", "OFPST_PORT_DESC reply"],
    ["OFPST_TABLE_DESC request", "OFPST_TABLE_DESC reply"],
    ["OFPST_QUEUE_DESC request", "OFPST_QUEUE_DESC reply"],
    ["OFPST_FLOW_MONITOR request", "OFPST_FLOW_MONITOR reply"],
];

/// Nicira's messages by subtype.
const NICIRA: &[(u32, &str)] = &[
    (10, "NXT_ROLE_REQUEST"),
    (11, "NXT_ROLE_REPLY"),
    (12, "NXT_SET_FLOW_FORMAT"),
    (13, "NXT_FLOW_MOD"),
    (14, "NXT_FLOW_REMOVED"),
    (15, "NXT_FLOW_MOD_TABLE_ID"),
    (16, "NXT_SET_PACKET_IN_FORMAT"),
    (17, "NXT_PACKET_IN"),
    (18, "NXT_FLOW_AGE"),
    (19, "NXT_SET_ASYNC_CONFIG"),
    (20, "NXT_SET_CONTROLLER_ID"),
    (21, "NXT_FLOW_MONITOR_CANCEL"),
    (22, "NXT_FLOW_MONITOR_PAUSED"),
    (23, "NXT_FLOW_MONITOR_RESUMED"),
    (24, "NXT_TLV_TABLE_MOD"),
    (25, "NXT_TLV_TABLE_REQUEST"),
    (26, "NXT_TLV_TABLE_REPLY"),
    (28, "NXT_RESUME"),
    (29, "NXT_CT_FLUSH_ZONE"),
    (30, "NXT_PACKET_IN2"),
    (31, "NXT_GROUP_MOD"),
    (32, "NXT_CT_FLUSH"),
];

/// Nicira's statistics by subtype.
const NICIRA_STATS: &[(u32, [&str; 2])] = &[
    (0, ["NXST_FLOW request", "NXST_FLOW reply"]),
    (1, ["NXST_AGGREGATE request", "NXST_AGGREGATE reply"]),
    (2, ["NXST_FLOW_MONITOR request", "NXST_FLOW_MONITOR reply"]),
    (3, ["NXST_IPFIX_BRIDGE request", "NXST_IPFIX_BRIDGE reply"]),
    (4, ["NXST_IPFIX_FLOW request", "NXST_IPFIX_FLOW reply"]),
    (6, ["NXST_GROUP request", "NXST_GROUP reply"]),
    (7, ["NXST_GROUP_DESC request", "NXST_GROUP_DESC reply"]),
    (
        9,
        ["NXST_GROUP_FEATURES request", "NXST_GROUP_FEATURES reply"],
    ),
];

/// Nicira's experimenter number.
const NX: u32 = 0x2320;

/// A message's name by its first bytes, for those that cannot be read to their end.
pub(super) fn of_header(bytes: &[u8]) -> Option<&'static str> {
    let h = wire::decode_header(bytes)?;
    if !(1..=6).contains(&h.version) {
        return None;
    }
    let word = |at: usize| {
        let b: &[u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(*b))
    };
    let kind = usize::from(h.kind);
    let (later, stats) = if h.version == OF10 {
        (LATER_10, 16)
    } else {
        (LATER, 18)
    };
    let name = if kind == 4 {
        (word(8)? == NX).then_some(())?;
        NICIRA.iter().find(|n| Some(n.0) == word(12))?.1
    } else if kind == stats || kind == stats + 1 {
        let multipart = usize::try_from(word(8)? >> 16).ok()?;
        let body = if h.version == OF10 { 12 } else { 16 };
        if multipart == 0xffff {
            (word(body)? == NX).then_some(())?;
            NICIRA_STATS.iter().find(|n| Some(n.0) == word(body + 4))?.1[kind - stats]
        } else {
            MULTIPART.get(multipart)?[kind - stats]
        }
    } else if kind >= 30 && h.version < OF14 {
        return None;
    } else {
        COMMON.iter().chain(later).nth(kind)?
    };
    (!name.is_empty()).then_some(name)
}

/// Whether an error is about what a message is, not about what is in it: then it has no name.
pub(super) fn unnamed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BadVersion
            | ErrorKind::BadType
            | ErrorKind::BadMultipart
            | ErrorKind::BadExperimenter
            | ErrorKind::BadExpType
            | ErrorKind::BadLen
    )
}
