//! Whole messages as `ovs-ofctl` prints them.
//!
//! * `name` — what messages are called, version by version
//! * `switch` — hello, features, configuration, descriptions, echoes
//! * `port` — ports and queues
//! * `flow` — flow-mods, flows and their ends, flow monitors
//! * `packet` — packet-ins and packet-outs
//! * `group`, `meter`, `table` — those tables, their features and changes
//! * `control` — roles, asynchronous messages, bundles, Geneve options
//! * `fold` — lists of field names, with what they have in common written once

mod control;
mod flow;
mod fold;
mod group;
pub(super) mod meter;
mod name;
mod packet;
mod port;
mod switch;
mod table;

use super::Names;
use crate::error::ErrorKind;
use crate::message::{Message, MultipartReply, MultipartRequest};
use crate::wire::{self, Decoded};
use std::fmt::Write;
use std::time::Duration;

pub use port::format_ports;
pub use table::TableFeaturesText;

/// How messages are written.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// Names of ports and tables.
    pub names: &'a Names,
    /// 0 is terse, 1 shows answers as commands do, 2 shows payloads, above 2 packets' bytes too, from 5
    /// on all bytes.
    pub verbosity: u8,
    /// Tells what is in an Ethernet frame, in one line.
    pub packet: Option<&'a Describe>,
}

/// Tells in one line what is in a frame.
pub type Describe = dyn Fn(&[u8]) -> String;

impl<'a> Style<'a> {
    /// As commands show answers.
    pub fn new(names: &'a Names) -> Style<'a> {
        Style {
            names,
            verbosity: 1,
            packet: None,
        }
    }

    /// Writes a message with its heading, as many lines as it needs, the last one ended.
    pub fn message(&self, d: &Decoded) -> String {
        let mut s = heading(d.version, d.xid, name::of(&d.message, d.version));
        if d.more {
            s.push_str(" flags=[more]");
        }
        s.push_str(&self.body(&d.message, d.version));
        s.truncate(s.trim_end_matches(' ').len());
        end_line(&mut s);
        s
    }

    /// Writes bytes as the message that they should be, or says what is wrong with them and shows
    /// them.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let Some(h) = wire::decode_header(bytes) else {
            if bytes.is_empty() {
                return "OpenFlow message is empty\n".into();
            }
            let n = bytes.len();
            return format!(
                "OpenFlow packet too short (only {n} bytes):\n{}",
                dump(bytes, true)
            );
        };
        let (have, says) = (bytes.len(), usize::from(h.len));
        if says > have {
            let mut s = match name::of_header(bytes) {
                Some(name) => heading(h.version, h.xid, name) + "\n",
                None => String::new(),
            };
            let _ = writeln!(s, "(***truncated to {have} bytes from {says}***)");
            return s + &dump(bytes, true);
        }
        if says < have {
            let s = format!("(***only uses {says} bytes out of {have}***)\n");
            return s + &dump(bytes, true);
        }
        let decoded = wire::decode(bytes).map_err(|e| e.kind);
        let sound = decoded.and_then(|d| match flaw(&d.message) {
            Some(kind) => Err(kind),
            None => Ok(d),
        });
        match sound {
            Ok(d) if self.verbosity >= 5 => self.message(&d) + &dump(bytes, true),
            Ok(d) => self.message(&d),
            Err(kind) => {
                let name = name::of_header(bytes).filter(|_| !name::unnamed(kind));
                let mut s = name.map_or_else(String::new, |n| heading(h.version, h.xid, n) + " ");
                let _ = writeln!(s, "***decode error: {}***", kind.name());
                s + &dump(bytes, true)
            }
        }
    }

    /// What follows the colon: blank and text, or a newline and lines.
    fn body(&self, m: &Message, version: u8) -> String {
        if version != self.names.version {
            let names = Names {
                version,
                ..self.names.clone()
            };
            return Style {
                names: &names,
                ..*self
            }
            .body(m, version);
        }
        let mut s = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut s, m, version);
        s
    }

    fn write(&self, w: &mut String, m: &Message, version: u8) -> std::fmt::Result {
        match m {
            Message::Hello(h) => switch::hello(w, h),
            Message::Error(e) => switch::error(w, e, self),
            Message::EchoRequest(b) | Message::EchoReply(b) => switch::echo(w, b, self),
            Message::FeaturesReply(f) => switch::features(w, f, version),
            Message::GetConfigReply(c) | Message::SetConfig(c) => switch::config(w, c),
            Message::PacketIn(p) | Message::PacketIn2(p) | Message::Resume(p) => {
                packet::packet_in(w, p, version, self)
            }
            Message::PacketOut(p) => packet::packet_out(w, p, self),
            Message::FlowRemoved(f) => flow::removed(w, f, self.names),
            Message::FlowMod(f) => flow::flow_mod(w, f, self.names),
            Message::PortStatus(reason, p) => port::status(w, *reason, p),
            Message::PortMod(p) => port::port_mod(w, p, self.names),
            Message::TableMod(c) => table::table_mod(w, c, self.names),
            Message::TableStatus(reason, c) => table::status(w, *reason, c, self.names),
            Message::GroupMod(g) => group::group_mod(w, g, version, self.names),
            Message::MeterMod(m) => meter::meter_mod(w, m),
            Message::RoleRequest(r) | Message::RoleReply(r) => control::role(w, r, version),
            Message::RoleStatus(reason, r) => control::role_status(w, *reason, r),
            Message::GetAsyncReply(a) => control::asynchronous(w, a),
            Message::SetAsync(a) => control::asynchronous(w, &a.masks),
            Message::BundleControl(step, id) => control::bundle(w, *step, id),
            Message::BundleAdd(id, xid, inner) => {
                let flags = control::bundle_flags(id);
                writeln!(w, "\n bundle_id={} flags={flags}", hex(id.id))?;
                w.write_str(&self.message(&part(version, *xid, inner)))
            }
            Message::RequestForward(_, inner) => {
                let reason = match &**inner {
                    Message::MeterMod(_) => "meter_mod",
                    _ => "group_mod",
                };
                write!(w, " reason={reason}{}", self.body(inner, version))
            }
            Message::ControllerStatus(c) => {
                w.push('\n');
                control::controller_status(w, c)
            }
            Message::Nicira(m) => w.write_str(&self.body(m, version)),
            Message::SetFlowFormat(n) => control::flow_format(w, *n),
            Message::SetPacketInFormat(n) => control::packet_in_format(w, *n),
            Message::SetControllerId(n) => write!(w, " id={n}"),
            Message::FlowModTableId(on) => w.write_str(if *on { " enable" } else { " disable" }),
            Message::QueueGetConfigRequest(p) => {
                write!(w, " port={}", self.names.port_text(*p))
            }
            Message::QueueGetConfigReply(p, queues) => {
                port::queue_config(w, *p, queues, self.names)
            }
            Message::TlvTableMod(command, maps) => control::tlv_mod(w, *command, maps),
            Message::TlvTableReply(space, fields, maps) => {
                control::tlv_reply(w, *space, *fields, maps)
            }
            Message::CtFlushZone(zone) => write!(w, " zone_id={zone}"),
            Message::FlowMonitorCancel(id) => write!(w, " id={id}"),
            Message::MultipartRequest(q) => self.request(w, q, version),
            Message::MultipartReply(a) => self.reply(w, a, version),
            Message::FeaturesRequest
            | Message::GetConfigRequest
            | Message::BarrierRequest
            | Message::BarrierReply
            | Message::GetAsyncRequest
            | Message::TlvTableRequest
            | Message::FlowMonitorPaused
            | Message::FlowMonitorResumed
            | Message::FlowAge => Ok(()),
        }
    }

    fn request(&self, w: &mut String, q: &MultipartRequest, version: u8) -> std::fmt::Result {
        let names = self.names;
        match q {
            MultipartRequest::Flow(f)
            | MultipartRequest::FlowStats(f)
            | MultipartRequest::Aggregate(f) => flow::filter(w, f, names),
            MultipartRequest::PortStats(p) => write!(w, " port_no={}", names.port_text(*p)),
            MultipartRequest::PortDesc(p) => write!(w, " port={}", names.port_text(*p)),
            MultipartRequest::Queue { port, queue }
            | MultipartRequest::QueueDesc { port, queue } => {
                port::queue_request(w, *port, *queue, names)
            }
            MultipartRequest::Group(n) | MultipartRequest::GroupDesc(n) => {
                write!(w, " group_id={}", group::number(*n))
            }
            MultipartRequest::Meter(n) | MultipartRequest::MeterConfig(n) => {
                write!(w, " meter={}", meter::number(*n))
            }
            MultipartRequest::TableFeatures(tables) if !tables.is_empty() => {
                table::features(w, tables, version, names)
            }
            MultipartRequest::FlowMonitor(monitors) => monitors
                .iter()
                .try_for_each(|m| flow::monitor_request(w, m, names)),
            MultipartRequest::Desc
            | MultipartRequest::Table
            | MultipartRequest::GroupFeatures
            | MultipartRequest::MeterFeatures
            | MultipartRequest::TableFeatures(_)
            | MultipartRequest::TableDesc
            | MultipartRequest::ControllerStatus
            | MultipartRequest::BundleFeatures
            | MultipartRequest::IpfixBridge
            | MultipartRequest::IpfixFlow => Ok(()),
        }
    }

    fn reply(&self, w: &mut String, a: &MultipartReply, version: u8) -> std::fmt::Result {
        let names = self.names;
        match a {
            MultipartReply::Desc(d) => switch::description(w, d),
            MultipartReply::Flow(flows) => flow::flows(w, flows, names),
            MultipartReply::FlowStats(flows) => flow::statistics(w, flows, names),
            MultipartReply::Aggregate(s) => flow::aggregate(w, s),
            MultipartReply::Table(tables) => table::stats(w, tables, version, names),
            MultipartReply::PortStats(ports) => port::stats(w, ports, self),
            MultipartReply::Queue(queues) => port::queue_stats(w, queues, self),
            MultipartReply::QueueDesc(queues) => port::queue_descriptions(w, queues, names),
            MultipartReply::Group(groups) => group::stats(w, groups),
            MultipartReply::GroupDesc(groups) => groups
                .iter()
                .try_for_each(|g| group::description(w, g, version, names)),
            MultipartReply::GroupFeatures(f) => group::features(w, f, version),
            MultipartReply::Meter(meters) => meters.iter().try_for_each(|m| meter::stats(w, m)),
            MultipartReply::MeterConfig(meters) => meters
                .iter()
                .try_for_each(|m| write!(w, "\n{}", meter::config(m))),
            MultipartReply::MeterFeatures(f) => meter::features(w, f),
            MultipartReply::TableFeatures(tables) => table::features(w, tables, version, names),
            MultipartReply::TableDesc(tables) => tables
                .iter()
                .try_for_each(|t| table::description(w, t, names)),
            MultipartReply::PortDesc(ports) => write!(w, "\n{}", format_ports(ports)),
            MultipartReply::FlowMonitor(updates) => {
                updates.iter().try_for_each(|u| flow::update(w, u, names))
            }
            MultipartReply::ControllerStatus(all) => {
                w.push('\n');
                all.iter()
                    .try_for_each(|c| control::controller_status(w, c))
            }
            MultipartReply::BundleFeatures(f) => {
                let names = [(1, "atomic"), (2, "ordered"), (4, "scheduled")];
                write!(w, " capabilities={}", bits(f.capabilities.into(), &names))
            }
            MultipartReply::IpfixBridge(s) => {
                w.push_str("\n  bridge ipfix: ");
                switch::ipfix(w, s, 16)
            }
            MultipartReply::IpfixFlow(all) => {
                writeln!(w, " {} ids", all.len())?;
                all.iter().try_for_each(|s| {
                    write!(w, "  id {:3}: ", s.collector_set)?;
                    switch::ipfix(w, s, 10)
                })
            }
        }
    }
}

/// Writes a message as commands show answers.
pub fn format_message(d: &Decoded, names: &Names) -> String {
    Style::new(names).message(d)
}

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

/// A duration: `2.427s`, `5s`, as many digits as it needs if they are not whole milliseconds.
pub fn format_duration(d: Duration) -> String {
    match d.subsec_nanos() {
        0 => format!("{}s", d.as_secs()),
        n if n % 1_000_000 == 0 => format!("{}.{:03}s", d.as_secs(), n / 1_000_000),
        n => {
            let digits = format!("{}.{n:09}", d.as_secs());
            format!("{}s", digits.trim_end_matches('0'))
        }
    }
}

/// Bytes in lines of 16: place, hex and, if wanted, characters.
pub fn dump(data: &[u8], characters: bool) -> String {
    let mut s = String::new();
    for (i, chunk) in data.chunks(16).enumerate() {
        let _ = write!(s, "{:08x} ", i * 16);
        let mut hex = String::new();
        for (j, b) in chunk.iter().enumerate() {
            let _ = write!(hex, "{b:02x}{}", if j == 7 { '-' } else { ' ' });
        }
        if characters {
            let text: String = (chunk.iter())
                .map(|b| {
                    if (0x20..=0x7e).contains(b) {
                        char::from(*b)
                    } else {
                        '.'
                    }
                })
                .collect();
            let _ = write!(s, " {hex:48}|{text:16}|");
        } else {
            let _ = write!(s, " {}", hex.trim_end_matches([' ', '-']));
        }
        s.push('\n');
    }
    s
}

fn heading(version: u8, xid: u32, name: &str) -> String {
    format!("{name}{} (xid={xid:#x}):", version_name(version))
}

/// What is wrong with a message that can be read, if it can never be carried out: Open vSwitch does
/// not show such.
fn flaw(m: &Message) -> Option<ErrorKind> {
    match m {
        Message::GroupMod(g) => group::flaw(g),
        Message::MeterMod(m) => meter::flaw(m),
        _ => None,
    }
}

fn part(version: u8, xid: u32, message: &Message) -> Decoded {
    Decoded {
        version,
        xid,
        more: false,
        message: message.clone(),
    }
}

fn end_line(s: &mut String) {
    if !s.is_empty() && !s.ends_with('\n') {
        s.push('\n');
    }
}

/// The names of the bits that are on, the rest as a number; `0` if none is.
fn bits(n: u32, names: &[(u32, &str)]) -> String {
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
        "0".into()
    } else {
        words.join(" ")
    }
}

/// A number as printf's `%#x` has it.
fn hex(n: u32) -> String {
    if n == 0 {
        "0".into()
    } else {
        format!("{n:#x}")
    }
}

fn counter(n: u64) -> String {
    if n == u64::MAX {
        "?".into()
    } else {
        n.to_string()
    }
}

/// How long something has been there; all ones are unknown.
fn lifetime(d: Duration) -> String {
    if d.as_secs() >= u64::from(u32::MAX) {
        "?".into()
    } else {
        format_duration(d)
    }
}
