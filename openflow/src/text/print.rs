//! Whole messages as `ovs-ofctl` prints them.

use super::action::{format_actions, reason_name};
use super::flow::{StatsLine, format_flow_mod, format_flow_stats};
use super::matching::format_match;
use super::{Names, value};
use crate::error::ErrorKind;
use crate::message::*;
use crate::wire::{self, Decoded};
use std::fmt::Write;
use std::time::Duration;

const CAPABILITIES: &[(u32, &str)] = &[
    (1, "FLOW_STATS"),
    (2, "TABLE_STATS"),
    (4, "PORT_STATS"),
    (8, "GROUP_STATS"),
    (0x20, "IP_REASM"),
    (0x40, "QUEUE_STATS"),
    (0x80, "ARP_MATCH_IP"),
    (0x100, "PORT_BLOCKED"),
];

const LINK: &[&str] = &[
    "10MB-HD",
    "10MB-FD",
    "100MB-HD",
    "100MB-FD",
    "1GB-HD",
    "1GB-FD",
    "10GB-FD",
    "40GB-FD",
    "100GB-FD",
    "1TB-FD",
    "OTHER",
    "COPPER",
    "FIBER",
    "AUTO_NEG",
    "AUTO_PAUSE",
    "AUTO_PAUSE_ASYM",
];

/// Actions of OpenFlow 1.0's features by their bits.
const ACTIONS_10: &[(u32, &str)] = &[
    (1 << 0, "output"),
    (1 << 11, "enqueue"),
    (1 << 1, "set_vlan_vid"),
    (1 << 2, "set_vlan_pcp"),
    (1 << 3, "strip_vlan"),
    (1 << 4, "mod_dl_src"),
    (1 << 5, "mod_dl_dst"),
    (1 << 6, "mod_nw_src"),
    (1 << 7, "mod_nw_dst"),
    (1 << 8, "mod_nw_tos"),
    (1 << 9, "mod_tp_src"),
    (1 << 10, "mod_tp_dst"),
];

/// Fields that a table of OpenFlow 1.0 can leave out, by their wildcard bits, as the stock tool
/// groups them when all can be left out.
const FIELDS_10: &[(u32, &str)] = &[
    (1 << 0, "in_port"),
    (1 << 2, "eth_src"),
    (1 << 3, "eth_dst"),
    (1 << 4, "eth_type"),
    (1 << 1, "vlan_vid"),
    (1 << 20, "vlan_pcp"),
    (0x3f << 8, "ip_src"),
    (0x3f << 14, "ip_dst"),
    (1 << 5, "nw_proto"),
    (1 << 21, "nw_tos"),
    (1 << 6, "tcp_src"),
    (1 << 7, "tcp_dst"),
];

/// How a version is written in a message's heading: empty for 1.0.
pub fn version_name(version: u8) -> String {
    match version {
        1 => String::new(),
        2..=6 => format!(" (OF1.{})", version - 1),
        v => format!(" (OF {v:#04x})"),
    }
}

/// An error as it is named in text, with type and code where it has no name.
pub fn error_name(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Other(numbers) => numbers.to_string(),
        k => k.name().into(),
    }
}

/// A duration: `2.427s`, `5s`, nanoseconds in full if they are not whole milliseconds.
pub fn format_duration(d: Duration) -> String {
    match d.subsec_nanos() {
        0 => format!("{}s", d.as_secs()),
        n if n % 1_000_000 == 0 => format!("{}.{:03}s", d.as_secs(), n / 1_000_000),
        n => format!("{}.{n:09}s", d.as_secs()),
    }
}

fn bits(n: u32, names: &[(u32, &str)], none: &str) -> String {
    let mut words: Vec<String> = names
        .iter()
        .filter(|(b, _)| n & b != 0)
        .map(|(_, s)| (*s).to_string())
        .collect();
    let known = names.iter().fold(0, |k, (b, _)| k | b);
    if n & !known != 0 {
        words.push(format!("{:#x}", n & !known));
    }
    if words.is_empty() {
        none.into()
    } else {
        words.join(" ")
    }
}

fn flags(f: PortFlags) -> String {
    let words = [
        (f.port_down, "PORT_DOWN"),
        (f.no_recv, "NO_RECV"),
        (f.no_flood, "NO_FLOOD"),
        (f.no_fwd, "NO_FWD"),
        (f.no_packet_in, "NO_PACKET_IN"),
    ];
    let on: Vec<_> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
    if on.is_empty() {
        "0".into()
    } else {
        on.join(" ")
    }
}

/// Ports, as `show` lists them.
pub fn format_ports(ports: &[PortDesc]) -> String {
    let mut s = String::new();
    let link: Vec<(u32, &str)> = LINK.iter().enumerate().map(|(i, n)| (1 << i, *n)).collect();
    // By number, the local port last.
    let mut ports: Vec<&PortDesc> = ports.iter().collect();
    ports.sort_by_key(|p| p.port);
    for p in ports {
        let _ = writeln!(s, " {}({}): addr:{}", p.port, p.name, p.mac);
        let _ = writeln!(s, "     config:     {}", flags(p.config));
        let state = u32::from(p.link_down) | u32::from(p.live) << 2;
        let state = bits(state, &[(1, "LINK_DOWN"), (4, "LIVE")], "0");
        let _ = writeln!(s, "     state:      {state}");
        for (name, n) in [
            ("current:   ", p.current),
            ("advertised:", p.advertised),
            ("supported: ", p.supported),
            ("peer:      ", p.peer),
        ] {
            if n != 0 {
                let _ = writeln!(s, "     {name} {}", bits(n, &link, "0"));
            }
        }
        let (now, max) = (p.current_speed / 1000, p.max_speed / 1000);
        let _ = writeln!(s, "     speed: {now} Mbps now, {max} Mbps max");
    }
    s
}

fn counter(n: u64) -> String {
    if n == u64::MAX {
        "?".into()
    } else {
        n.to_string()
    }
}

fn hex_dump(data: &[u8]) -> String {
    let mut s = String::new();
    for (i, chunk) in data.chunks(16).enumerate() {
        let _ = write!(s, "{:08x} ", i * 16);
        for j in 0..16 {
            let sep = if j == 8 { '-' } else { ' ' };
            match chunk.get(j) {
                Some(b) => {
                    let _ = write!(s, "{sep}{b:02x}");
                }
                None => s.push_str(if j == 8 { "-  " } else { "   " }),
            }
        }
        // The dash stands only between two bytes.
        if chunk.len() <= 8 {
            s = s.replace("-  ", "   ");
        }
        s.push_str(" |");
        for j in 0..16 {
            s.push(match chunk.get(j) {
                Some(b @ 0x20..=0x7e) => char::from(*b),
                Some(_) => '.',
                None => ' ',
            });
        }
        s.push_str("|\n");
    }
    s
}

fn message_name(m: &Message) -> &'static str {
    match m {
        Message::Nicira(m) => match &**m {
            Message::FlowMod(_) => "NXT_FLOW_MOD",
            Message::FlowRemoved(_) => "NXT_FLOW_REMOVED",
            Message::PacketIn(_) => "NXT_PACKET_IN",
            Message::MultipartRequest(MultipartRequest::Flow(_)) => "NXST_FLOW request",
            Message::MultipartRequest(MultipartRequest::Aggregate(_)) => "NXST_AGGREGATE request",
            Message::MultipartReply(MultipartReply::Flow(_)) => "NXST_FLOW reply",
            Message::MultipartReply(MultipartReply::Aggregate(_)) => "NXST_AGGREGATE reply",
            m => message_name(m),
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
        Message::GroupMod(_) => "OFPT_GROUP_MOD",
        Message::MeterMod(_) => "OFPT_METER_MOD",
        Message::TableMod(..) => "OFPT_TABLE_MOD",
        Message::PortMod(_) => "OFPT_PORT_MOD",
        Message::MultipartRequest(q) => match q {
            MultipartRequest::Desc => "OFPST_DESC request",
            MultipartRequest::Flow(_) => "OFPST_FLOW request",
            MultipartRequest::Aggregate(_) => "OFPST_AGGREGATE request",
            MultipartRequest::Table => "OFPST_TABLE request",
            MultipartRequest::PortStats(_) => "OFPST_PORT request",
            MultipartRequest::Queue { .. } => "OFPST_QUEUE request",
            MultipartRequest::Group(_) => "OFPST_GROUP request",
            MultipartRequest::GroupDesc(_) => "OFPST_GROUP_DESC request",
            MultipartRequest::GroupFeatures => "OFPST_GROUP_FEATURES request",
            MultipartRequest::Meter(_) => "OFPST_METER request",
            MultipartRequest::MeterConfig(_) => "OFPST_METER_CONFIG request",
            MultipartRequest::MeterFeatures => "OFPST_METER_FEATURES request",
            MultipartRequest::TableFeatures(_) => "OFPST_TABLE_FEATURES request",
            MultipartRequest::PortDesc(_) => "OFPST_PORT_DESC request",
            MultipartRequest::TableDesc => "OFPST_TABLE_DESC request",
            MultipartRequest::QueueDesc { .. } => "OFPST_QUEUE_DESC request",
            MultipartRequest::FlowMonitor(_) => "OFPST_FLOW_MONITOR request",
            MultipartRequest::FlowStats(_) => "OFPST_FLOW_STATS request",
            MultipartRequest::ControllerStatus => "OFPST_CONTROLLER_STATUS request",
            MultipartRequest::BundleFeatures => "OFPST_BUNDLE_FEATURES request",
            MultipartRequest::IpfixBridge => "NXST_IPFIX_BRIDGE request",
            MultipartRequest::IpfixFlow => "NXST_IPFIX_FLOW request",
        },
        Message::MultipartReply(a) => match a {
            MultipartReply::Desc(_) => "OFPST_DESC reply",
            MultipartReply::Flow(_) => "OFPST_FLOW reply",
            MultipartReply::Aggregate(_) => "OFPST_AGGREGATE reply",
            MultipartReply::Table(_) => "OFPST_TABLE reply",
            MultipartReply::PortStats(_) => "OFPST_PORT reply",
            MultipartReply::Queue(_) => "OFPST_QUEUE reply",
            MultipartReply::Group(_) => "OFPST_GROUP reply",
            MultipartReply::GroupDesc(_) => "OFPST_GROUP_DESC reply",
            MultipartReply::GroupFeatures(_) => "OFPST_GROUP_FEATURES reply",
            MultipartReply::Meter(_) => "OFPST_METER reply",
            MultipartReply::MeterConfig(_) => "OFPST_METER_CONFIG reply",
            MultipartReply::MeterFeatures(_) => "OFPST_METER_FEATURES reply",
            MultipartReply::TableFeatures(_) => "OFPST_TABLE_FEATURES reply",
            MultipartReply::PortDesc(_) => "OFPST_PORT_DESC reply",
            MultipartReply::TableDesc(_) => "OFPST_TABLE_DESC reply",
            MultipartReply::QueueDesc(_) => "OFPST_QUEUE_DESC reply",
            MultipartReply::FlowMonitor(_) => "OFPST_FLOW_MONITOR reply",
            MultipartReply::FlowStats(_) => "OFPST_FLOW_STATS reply",
            MultipartReply::ControllerStatus(_) => "OFPST_CONTROLLER_STATUS reply",
            MultipartReply::BundleFeatures(_) => "OFPST_BUNDLE_FEATURES reply",
            MultipartReply::IpfixBridge(_) => "NXST_IPFIX_BRIDGE reply",
            MultipartReply::IpfixFlow(_) => "NXST_IPFIX_FLOW reply",
        },
        Message::BarrierRequest => "OFPT_BARRIER_REQUEST",
        Message::BarrierReply => "OFPT_BARRIER_REPLY",
        Message::QueueGetConfigRequest(_) => "OFPT_QUEUE_GET_CONFIG_REQUEST",
        Message::QueueGetConfigReply(..) => "OFPT_QUEUE_GET_CONFIG_REPLY",
        Message::RoleRequest(_) => "OFPT_ROLE_REQUEST",
        Message::RoleReply(_) => "OFPT_ROLE_REPLY",
        Message::GetAsyncRequest => "OFPT_GET_ASYNC_REQUEST",
        Message::GetAsyncReply(_) => "OFPT_GET_ASYNC_REPLY",
        Message::SetAsync(_) => "OFPT_SET_ASYNC",
        Message::BundleControl(..) => "ONFT_BUNDLE_CONTROL",
        Message::BundleAdd(..) => "ONFT_BUNDLE_ADD_MESSAGE",
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
        Message::FlowMonitorCancel(_) => "NXT_FLOW_MONITOR_CANCEL",
        Message::FlowMonitorPaused => "NXT_FLOW_MONITOR_PAUSED",
        Message::FlowMonitorResumed => "NXT_FLOW_MONITOR_RESUMED",
        Message::RoleStatus(..) => "OFPT_ROLE_STATUS",
        Message::TableStatus(..) => "OFPT_TABLE_STATUS",
        Message::RequestForward(..) => "OFPT_REQUESTFORWARD",
        Message::ControllerStatus(_) => "OFPT_CONTROLLER_STATUS",
        Message::FlowAge => "NXT_FLOW_AGE",
    }
}

/// Writes a message with its heading, as many lines as it needs, the last one ended.
pub fn format_message(d: &Decoded, names: &Names) -> String {
    let legacy = Names {
        legacy: true,
        ..names.clone()
    };
    let names = if d.version == wire::OF10 {
        &legacy
    } else {
        names
    };
    let body = body(&d.message, d.version, names);
    let version = version_name(d.version);
    let name = match (d.version, &d.message) {
        (wire::OF10, Message::RoleRequest(_)) => "NXT_ROLE_REQUEST",
        (wire::OF10, Message::RoleReply(_)) => "NXT_ROLE_REPLY",
        (wire::OF10, Message::SetAsync(_)) => "NXT_SET_ASYNC_CONFIG",
        (_, m) => message_name(m),
    };
    let more = if d.more { " [more]" } else { "" };
    let mut s = format!("{name}{version} (xid={:#x}):{more}{body}", d.xid);
    while s.ends_with(' ') {
        s.pop();
    }
    if !s.ends_with('\n') {
        s.push('\n');
    }
    s
}

/// What follows the colon: blank and text, or a newline and lines.
fn body(m: &Message, version: u8, names: &Names) -> String {
    let mut s = String::new();
    let w = &mut s;
    let _ = match m {
        Message::Hello(h) => match h.versions {
            Some(v) => {
                let list: Vec<_> = (1..32)
                    .filter(|b| v & 1 << b != 0)
                    .map(|b| format!("{b:#04x}"))
                    .collect();
                writeln!(w, "\n version bitmap: {}", list.join(", "))
            }
            None => writeln!(w, "\n version bitmap: {:#04x}", h.version),
        },
        Message::Error(e) => {
            let _ = writeln!(w, " {}", error_name(e.kind));
            let hello = matches!(e.kind, ErrorKind::HelloIncompatible | ErrorKind::HelloEperm);
            match wire::decode(&e.data) {
                _ if hello => writeln!(w, "{}", String::from_utf8_lossy(&e.data).escape_debug()),
                Ok(inner) => write!(w, "{}", format_message(&inner, names)),
                // Often only the first 64 bytes come back.
                Err(_) => write!(w, "{}", hex_dump(&e.data)),
            }
        }
        Message::EchoRequest(b) | Message::EchoReply(b) => {
            write!(w, " {} bytes of payload\n{}", b.len(), hex_dump(b))
        }
        Message::FeaturesReply(f) => {
            let _ = writeln!(w, " dpid:{:016x}", f.datapath_id);
            let _ = write!(w, "n_tables:{}, n_buffers:{}", f.tables, f.buffers);
            if f.auxiliary_id != 0 {
                let _ = write!(w, ", auxiliary_id:{}", f.auxiliary_id);
            }
            let caps = bits(f.capabilities, CAPABILITIES, "0");
            let _ = writeln!(w, "\ncapabilities: {caps}");
            if version == wire::OF10 {
                let _ = writeln!(w, "actions: {}", bits(f.actions, ACTIONS_10, "0"));
            }
            write!(w, "{}", format_ports(&f.ports))
        }
        Message::GetConfigReply(c) | Message::SetConfig(c) => {
            let frags = ["normal", "drop", "reassemble", "nx-match"][usize::from(c.flags & 3)];
            let _ = write!(w, " frags={frags}");
            if c.flags & !3 != 0 {
                let _ = write!(w, " ***unknown flags 0x{:04x}***", c.flags & !3);
            }
            writeln!(w, " miss_send_len={}", c.miss_send_len)
        }
        Message::PacketIn(p) => {
            if p.table != 0 {
                let _ = write!(w, " table_id={}", names.table_text(p.table));
            }
            if p.cookie != u64::MAX {
                let _ = write!(w, " cookie={:#x}", p.cookie);
            }
            let meta = format_match(&p.metadata, None, names);
            let (total, reason, len) = (p.total_len, reason_name(p.reason), p.data.len());
            let _ = write!(w, " total_len={total} {meta} (via {reason}) data_len={len}");
            match p.buffer {
                None => writeln!(w, " (unbuffered)"),
                Some(b) => writeln!(w, " buffer={b:#010x}"),
            }
        }
        Message::FlowRemoved(f) => {
            let m = format_match(&f.flow.matching, Some(f.flow.priority), names);
            let reason = match f.reason {
                FlowRemovedReason::IdleTimeout => "idle",
                FlowRemovedReason::HardTimeout => "hard",
                FlowRemovedReason::Delete => "delete",
                FlowRemovedReason::GroupDelete => "group_delete",
                FlowRemovedReason::MeterDelete => "meter_delete",
                FlowRemovedReason::Eviction => "eviction",
            };
            let _ = write!(w, " {m} reason={reason}");
            if f.flow.table != 255 {
                let _ = write!(w, " table_id={}", names.table_text(f.flow.table));
            }
            if f.flow.cookie != 0 {
                let _ = write!(w, " cookie:{:#x}", f.flow.cookie);
            }
            let duration = format_duration(f.flow.duration);
            let f = &f.flow;
            let _ = write!(w, " duration{duration} idle{}", f.idle_timeout);
            if f.hard_timeout != 0 {
                let _ = write!(w, " hard{}", f.hard_timeout);
            }
            writeln!(w, " pkts{} bytes{}", f.packets, f.bytes)
        }
        Message::PortStatus(reason, p) => {
            let reason = match reason {
                PortReason::Add => "ADD",
                PortReason::Delete => "DEL",
                PortReason::Modify => "MOD",
            };
            let text = format_ports(std::slice::from_ref(p));
            write!(w, " {reason}:{text}")
        }
        Message::PacketOut(p) => {
            let port = names.port_text(p.in_port);
            let actions = match format_actions(&p.actions, names) {
                a if a.is_empty() => "drop".into(),
                a => a,
            };
            let _ = write!(w, " in_port={port} actions={actions}");
            match p.buffer {
                None => writeln!(w, " data_len={}", p.data.len()),
                Some(b) => writeln!(w, " buffer={b:#010x}"),
            }
        }
        Message::FlowMod(f) => writeln!(w, " {}", format_flow_mod(f, names)),
        Message::PortMod(p) => {
            let _ = writeln!(w, " port: {}: addr:{}", names.port_text(p.port), p.mac);
            let _ = writeln!(w, "     config: {}", flags(p.config));
            let _ = writeln!(w, "     mask:   {}", flags(p.mask));
            let link: Vec<_> = LINK.iter().enumerate().map(|(i, n)| (1 << i, *n)).collect();
            writeln!(
                w,
                "     advertise: {}",
                bits(p.advertise, &link, "UNCHANGED")
            )
        }
        Message::TableMod(c) => {
            let table = &c.table;
            let table = if *table == TABLE_ALL {
                "ALL_TABLES".into()
            } else {
                table.to_string()
            };
            let _ = write!(w, " table_id={table}");
            match c.miss {
                None => writeln!(w),
                Some(miss) => writeln!(w, ", flow_miss_config={miss:?}"),
            }
        }
        Message::RoleRequest(r) | Message::RoleReply(r) => {
            let role = match r.role {
                Role::NoChange => "nochange",
                Role::Equal => "equal",
                Role::Primary => "primary",
                Role::Secondary => "secondary",
            };
            let _ = write!(w, " role={role}");
            let primacy = matches!(r.role, Role::Primary | Role::Secondary);
            if primacy && version != wire::OF10 || r.generation != u64::MAX && r.generation != 0 {
                let _ = write!(w, " generation_id={}", r.generation);
            }
            writeln!(w)
        }
        Message::Nicira(m) => write!(w, "{}", self::body(m, version, names)),
        Message::SetFlowFormat(n) => writeln!(
            w,
            " format={}",
            if *n == 2 { "nxm".into() } else { n.to_string() }
        ),
        Message::SetPacketInFormat(n) => {
            let name = ["standard", "nxt_packet_in", "nxt_packet_in2"].get(*n as usize);
            writeln!(
                w,
                " format={}",
                name.map_or_else(|| n.to_string(), |s| (*s).into())
            )
        }
        Message::SetControllerId(n) => writeln!(w, " id={n}"),
        Message::FlowModTableId(on) => writeln!(w, " {}", if *on { "enable" } else { "disable" }),
        Message::QueueGetConfigRequest(p) => writeln!(w, " port={}", names.port_text(*p)),
        Message::QueueGetConfigReply(p, queues) => {
            let _ = writeln!(w, " port={}", names.port_text(*p));
            for q in queues {
                let _ = write!(w, "queue {}:", q.queue);
                for (name, rate) in [("min_rate", q.min_rate), ("max_rate", q.max_rate)] {
                    if let Some(r) = rate {
                        let _ = write!(w, " {name}:{}.{}%", r / 10, r % 10);
                    }
                }
                let _ = writeln!(w);
            }
            Ok(())
        }
        Message::GroupMod(g) => {
            let command = match g.command {
                GroupModCommand::Add => "ADD",
                GroupModCommand::Modify => "MOD",
                GroupModCommand::AddOrModify => "ADD_OR_MOD",
                GroupModCommand::InsertBucket => "INSERT_BUCKET",
                GroupModCommand::RemoveBucket => "REMOVE_BUCKET",
                GroupModCommand::Delete => "DEL",
            };
            writeln!(
                w,
                "\n {command} {}",
                group(g.group, g.kind, &g.buckets, names)
            )
        }
        Message::MeterMod(m) => {
            let command = match m.command {
                MeterModCommand::Add => "ADD",
                MeterModCommand::Modify => "MOD",
                MeterModCommand::Delete => "DEL",
            };
            writeln!(w, " {command} {}", meter(&m.config))
        }
        Message::BundleControl(step, id) => writeln!(
            w,
            "\n bundle_id={:#x} type={} flags={}",
            id.id,
            match step {
                BundleStep::OpenRequest => "OPEN_REQUEST",
                BundleStep::OpenReply => "OPEN_REPLY",
                BundleStep::CloseRequest => "CLOSE_REQUEST",
                BundleStep::CloseReply => "CLOSE_REPLY",
                BundleStep::CommitRequest => "COMMIT_REQUEST",
                BundleStep::CommitReply => "COMMIT_REPLY",
                BundleStep::DiscardRequest => "DISCARD_REQUEST",
                BundleStep::DiscardReply => "DISCARD_REPLY",
            },
            bundle_flags(id)
        ),
        Message::BundleAdd(id, xid, inner) => {
            let _ = writeln!(w, "\n bundle_id={:#x} flags={}", id.id, bundle_flags(id));
            let inner = Decoded {
                version,
                xid: *xid,
                more: false,
                message: (**inner).clone(),
            };
            write!(w, "{}", format_message(&inner, names))
        }
        Message::GetAsyncReply(a) | Message::SetAsync(a) => asynchronous(w, a),
        Message::PacketIn2(_)
        | Message::Resume(_)
        | Message::TlvTableMod(..)
        | Message::TlvTableRequest
        | Message::TlvTableReply(..)
        | Message::CtFlushZone(_)
        | Message::FlowMonitorCancel(_)
        | Message::FlowMonitorPaused
        | Message::FlowMonitorResumed
        | Message::RoleStatus(..)
        | Message::TableStatus(..)
        | Message::RequestForward(..)
        | Message::ControllerStatus(_)
        | Message::FlowAge => writeln!(w, " {m:?}"),
        Message::MultipartRequest(q) => request(w, q, names),
        Message::MultipartReply(a) => reply(w, a, names),
        Message::FeaturesRequest
        | Message::GetConfigRequest
        | Message::BarrierRequest
        | Message::BarrierReply
        | Message::GetAsyncRequest => Ok(()),
    };
    s
}

fn bundle_flags(id: &BundleId) -> String {
    let words = [(id.atomic, "atomic"), (id.ordered, "ordered")];
    let on: Vec<_> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
    if on.is_empty() {
        "0".into()
    } else {
        on.join(" ")
    }
}

fn asynchronous(w: &mut String, a: &AsyncConfig) -> std::fmt::Result {
    let list = |n: u32, names: &[&str]| {
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
    let packet_in = [
        "no_match",
        "action",
        "invalid_ttl",
        "action_set",
        "group",
        "packet_out",
    ];
    let removed = [
        "idle",
        "hard",
        "delete",
        "group_delete",
        "meter_delete",
        "eviction",
    ];
    for (i, who) in ["primary", "secondary"].iter().enumerate() {
        writeln!(w, "\n {who}:")?;
        writeln!(w, "       PACKET_IN: {}", list(a.packet_in[i], &packet_in))?;
        writeln!(
            w,
            "     PORT_STATUS: {}",
            list(a.port_status[i], &["add", "delete", "modify"])
        )?;
        writeln!(w, "    FLOW_REMOVED: {}", list(a.flow_removed[i], &removed))?;
        writeln!(
            w,
            "     ROLE_STATUS: (off)\n    TABLE_STATUS: (off)\n  REQUESTFORWARD: (off)"
        )?;
    }
    Ok(())
}

fn group(id: u32, kind: GroupType, buckets: &[Bucket], names: &Names) -> String {
    let kind = match kind {
        GroupType::All => "all",
        GroupType::Select => "select",
        GroupType::Indirect => "indirect",
        GroupType::FastFailover => "ff",
    };
    let mut s = format!("group_id={id},type={kind}");
    for (i, b) in buckets.iter().enumerate() {
        let _ = write!(s, ",bucket=bucket_id:{i},");
        if b.weight != 0 && kind == "select" && b.weight != 1 {
            let _ = write!(s, "weight:{},", b.weight);
        }
        if b.watch_port != PortNo::ANY {
            let _ = write!(s, "watch_port:{},", names.port_text(b.watch_port));
        }
        if let Some(g) = b.watch_group {
            let _ = write!(s, "watch_group:{g},");
        }
        let actions = match format_actions(&b.actions, names) {
            a if a.is_empty() => "drop".into(),
            a => a,
        };
        let _ = write!(s, "actions={actions}");
    }
    s
}

fn meter(m: &MeterConfig) -> String {
    let id = if m.meter == METER_ALL {
        "all".into()
    } else {
        m.meter.to_string()
    };
    let flags = bits(m.flags.into(), METER_FLAGS, "");
    let mut s = format!("meter={id} {flags} bands=\n");
    for b in &m.bands {
        let kind = match b.kind {
            MeterBandKind::Drop => "drop",
            MeterBandKind::DscpRemark(_) => "dscp_remark",
        };
        let _ = write!(s, "type={kind} rate={}", b.rate);
        if m.flags & 4 != 0 {
            let _ = write!(s, " burst_size={}", b.burst);
        }
        if let MeterBandKind::DscpRemark(level) = b.kind {
            let _ = write!(s, " prec_level={level}");
        }
        s.push('\n');
    }
    s
}

const METER_FLAGS: &[(u32, &str)] = &[(1, "kbps"), (2, "pktps"), (4, "burst"), (8, "stats")];

fn request(w: &mut String, q: &MultipartRequest, names: &Names) -> std::fmt::Result {
    match q {
        MultipartRequest::Flow(f) | MultipartRequest::Aggregate(f) => {
            if f.table != TABLE_ALL {
                write!(w, " table={}", names.table_text(f.table))?;
            }
            if f.out_port != PortNo::ANY {
                write!(w, " out_port={}", names.port_text(f.out_port))?;
            }
            let m = format_match(&f.matching, None, names);
            writeln!(w, "{}{m}", if m.is_empty() { "" } else { " " })
        }
        MultipartRequest::PortStats(p) => writeln!(w, " port_no={}", names.port_text(*p)),
        MultipartRequest::PortDesc(p) => writeln!(w, " port={}", names.port_text(*p)),
        MultipartRequest::Queue { port, queue } => {
            let port = if *port == PortNo::ANY {
                "ALL".into()
            } else {
                names.port_text(*port)
            };
            let queue = queue.map_or_else(|| "ALL".into(), |q| q.to_string());
            writeln!(w, " port={port} queue={queue}")
        }
        MultipartRequest::Group(n) => writeln!(w, " group_id={}", all(*n, GROUP_ALL)),
        MultipartRequest::Meter(n) | MultipartRequest::MeterConfig(n) => {
            writeln!(w, " meter={}", all(*n, METER_ALL))
        }
        _ => writeln!(w),
    }
}

fn all(n: u32, all: u32) -> String {
    if n == all {
        "ALL".into()
    } else {
        n.to_string()
    }
}

fn reply(w: &mut String, a: &MultipartReply, names: &Names) -> std::fmt::Result {
    match a {
        MultipartReply::Desc(d) => {
            writeln!(w, "\nManufacturer: {}", d.manufacturer)?;
            writeln!(w, "Hardware: {}\nSoftware: {}", d.hardware, d.software)?;
            writeln!(
                w,
                "Serial Num: {}\nDP Description: {}",
                d.serial, d.datapath
            )
        }
        MultipartReply::Flow(flows) => {
            writeln!(w)?;
            flows
                .iter()
                .try_for_each(|f| writeln!(w, " {}", format_flow_stats(f, StatsLine::Full, names)))
        }
        MultipartReply::Aggregate(s) => writeln!(
            w,
            " packet_count={} byte_count={} flow_count={}",
            counter(s.packets),
            counter(s.bytes),
            s.flows
        ),
        MultipartReply::Table(tables) => {
            writeln!(w)?;
            let same = |a: &TableStats, b: &TableStats| {
                (a.active, a.lookups, a.matched, a.legacy)
                    == (b.active, b.lookups, b.matched, b.legacy)
            };
            let mut i = 0;
            while i < tables.len() {
                if i > 0 {
                    writeln!(w)?;
                }
                let t = &tables[i];
                let run = tables[i..]
                    .iter()
                    .skip(1)
                    .take_while(|o| same(t, o))
                    .count();
                if i > 0 && same(&tables[i - 1], t) {
                    let last = tables[i + run].table;
                    match run {
                        0 => writeln!(w, "  table {}: ditto", t.table)?,
                        _ => writeln!(w, "  tables {}...{last}: ditto", t.table)?,
                    }
                    i += run + 1;
                    continue;
                }
                let name = names
                    .tables
                    .iter()
                    .find(|n| n.0 == t.table && !n.1.is_empty());
                let name = name.map(|n| format!(" (\"{}\")", n.1)).unwrap_or_default();
                writeln!(w, "  table {}{name}:", t.table)?;
                let (active, lookups, matched) = (t.active, t.lookups, t.matched);
                writeln!(
                    w,
                    "    active={active}, lookup={lookups}, matched={matched}"
                )?;
                match t.legacy {
                    Some(l) if i > 0 && tables[i - 1].legacy == Some(l) => {
                        writeln!(w, "    (same features)")?;
                    }
                    Some(l) => write!(w, "{}", legacy_table(l))?,
                    None => {}
                }
                i += 1;
            }
            Ok(())
        }
        MultipartReply::PortStats(ports) => {
            writeln!(w, " {} ports", ports.len())?;
            for p in ports {
                let c = counter;
                let port = names.port_text(PortNo(p.port));
                writeln!(
                    w,
                    "  port {port:>2}: rx pkts={}, bytes={}, drop={}, errs={}, frame={}, over={}, crc={}",
                    c(p.rx_packets),
                    c(p.rx_bytes),
                    c(p.rx_dropped),
                    c(p.rx_errors),
                    c(p.rx_frame_err),
                    c(p.rx_over_err),
                    c(p.rx_crc_err)
                )?;
                writeln!(
                    w,
                    "           tx pkts={}, bytes={}, drop={}, errs={}, coll={}",
                    c(p.tx_packets),
                    c(p.tx_bytes),
                    c(p.tx_dropped),
                    c(p.tx_errors),
                    c(p.collisions)
                )?;
                if lifetime(p.duration) != "?" {
                    writeln!(w, "           duration={}", lifetime(p.duration))?;
                }
            }
            Ok(())
        }
        MultipartReply::Queue(queues) => {
            writeln!(w, " {} queues", queues.len())?;
            queues.iter().try_for_each(|q| {
                writeln!(
                    w,
                    "  port {} queue {}: bytes={}, pkts={}, errors={}, duration={}",
                    names.port_text(PortNo(q.port)),
                    q.queue,
                    counter(q.tx_bytes),
                    counter(q.tx_packets),
                    counter(q.tx_errors),
                    lifetime(q.duration)
                )
            })
        }
        MultipartReply::Group(groups) => {
            writeln!(w)?;
            for g in groups {
                write!(
                    w,
                    " group_id={},duration={},",
                    g.group,
                    format_duration(g.duration)
                )?;
                write!(w, "ref_count={},", g.references)?;
                write!(
                    w,
                    "packet_count={},byte_count={}",
                    counter(g.packets),
                    counter(g.bytes)
                )?;
                for (i, b) in g.buckets.iter().enumerate() {
                    let (p, b) = (counter(b.0), counter(b.1));
                    write!(w, ",bucket{i}:packet_count={p},byte_count={b}")?;
                }
                writeln!(w)?;
            }
            Ok(())
        }
        MultipartReply::GroupDesc(groups) => {
            writeln!(w)?;
            groups
                .iter()
                .try_for_each(|g| writeln!(w, " {}", group(g.group, g.kind, &g.buckets, names)))
        }
        MultipartReply::GroupFeatures(f) => {
            writeln!(
                w,
                "\n Group table:\n    Types:  {:#x}\n    Capabilities:  {:#x}",
                f.types, f.capabilities
            )?;
            for (i, name) in ["all", "select", "indirect", "fast failover"]
                .iter()
                .enumerate()
            {
                if f.types & 1 << i != 0 {
                    let max = value::hex_masked(f.max_groups[i].into(), u128::MAX, u128::MAX);
                    writeln!(w, "    {name} group:\n       max_groups={max}")?;
                    writeln!(
                        w,
                        "       actions: {}",
                        bits(f.actions[i], ACTION_BITS, "(none)")
                    )?;
                }
            }
            Ok(())
        }
        MultipartReply::Meter(meters) => {
            writeln!(w)?;
            for m in meters {
                write!(w, "meter:{} flow_count:{} ", m.meter, m.flows)?;
                write!(
                    w,
                    "packet_in_count:{} byte_in_count:{} ",
                    m.packets, m.bytes
                )?;
                writeln!(w, "duration:{} bands:", format_duration(m.duration))?;
                for (i, b) in m.bands.iter().enumerate() {
                    writeln!(w, "{i}: packet_count:{} byte_count:{}", b.0, b.1)?;
                }
            }
            Ok(())
        }
        MultipartReply::MeterConfig(meters) => {
            writeln!(w)?;
            meters.iter().try_for_each(|m| writeln!(w, "{}", meter(m)))
        }
        MultipartReply::MeterFeatures(f) => {
            writeln!(
                w,
                "\nmax_meter:{} max_bands:{} max_color:{}",
                f.max_meters, f.max_bands, f.max_color
            )?;
            let bands = bits(f.band_types, &[(2, "drop"), (4, "dscp_remark")], "0");
            writeln!(
                w,
                "band_types: {bands}\ncapabilities: {}",
                bits(f.capabilities, METER_FLAGS, "0")
            )
        }
        MultipartReply::TableFeatures(tables) => {
            writeln!(w)?;
            for t in tables {
                let name = if t.name.is_empty() {
                    String::new()
                } else {
                    format!(" (\"{}\")", t.name)
                };
                writeln!(w, "  table {}{name}:", t.table)?;
                writeln!(
                    w,
                    "    metadata: match={:#x} write={:#x}",
                    t.metadata_match, t.metadata_write
                )?;
                writeln!(w, "    max_entries={}", t.max_entries)?;
            }
            Ok(())
        }
        MultipartReply::PortDesc(ports) => write!(w, "\n{}", format_ports(ports)),
        other => writeln!(w, " {other:?}"),
    }
}

/// What OpenFlow 1.0 says of a table beside its counters.
fn legacy_table(l: LegacyTable) -> String {
    let mut s = format!("    max_entries={}\n    matching:\n", l.max_entries);
    let all = if l.wildcards == u64::from(wire::WILD_ALL) {
        "in_port eth_{src,dst,type} vlan_{vid,pcp} ip_{src,dst} nw_{proto,tos} tcp_{src,dst}".into()
    } else {
        let fields = FIELDS_10
            .iter()
            .filter(|f| l.wildcards & u64::from(f.0) == u64::from(f.0));
        fields.map(|f| f.1).collect::<Vec<_>>().join(" ")
    };
    if !all.is_empty() {
        let _ = writeln!(s, "      exact match or wildcard: {all}");
    }
    s
}

/// Action types of group features by their bits.
const ACTION_BITS: &[(u32, &str)] = &[
    (1 << 0, "output"),
    (1 << 22, "group"),
    (1 << 25, "set_field"),
    (1 << 18, "strip_vlan"),
    (1 << 17, "push_vlan"),
    (1 << 23, "mod_nw_ttl"),
    (1 << 24, "dec_ttl"),
    (1 << 15, "set_mpls_ttl"),
    (1 << 16, "dec_mpls_ttl"),
    (1 << 19, "push_mpls"),
    (1 << 20, "pop_mpls"),
    (1 << 21, "set_queue"),
];

/// How long a port or queue has been there; all ones are unknown.
fn lifetime(d: Duration) -> String {
    if d.as_secs() >= u64::from(u32::MAX) {
        "?".into()
    } else {
        format_duration(d)
    }
}
