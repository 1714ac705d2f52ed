//! The messages of OpenFlow 1.3 (1.3.5 chapter 7) apart from multipart.

use super::cursor::{Reader, Writer};
use super::{OF13, action, instruction, multipart, nicira, oxm};
use crate::action::PacketInReason;
use crate::error::{ErrorKind, OfError};
use crate::matching::Match;
use crate::message::*;
use bytes::Bytes;
use std::time::Duration;

/// `OFP_NO_BUFFER`.
const NO_BUFFER: u32 = 0xffff_ffff;
/// `OFPG_ANY`.
const GROUP_ANY: u32 = 0xffff_ffff;

fn err<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// The place of a value in the list of those that 0, 1, 2... stand for.
pub(super) fn number<T: PartialEq>(list: &[T], value: &T) -> u8 {
    list.iter().position(|v| v == value).unwrap_or_default() as u8
}

pub(super) fn named<T: Copy>(
    list: &[T],
    n: u32,
    kind: ErrorKind,
    what: &str,
) -> Result<T, OfError> {
    match list.get(n as usize) {
        Some(v) => Ok(*v),
        None => err(kind, format!("{n} is no {what}")),
    }
}

const COMMANDS: &[FlowModCommand] = &[
    FlowModCommand::Add,
    FlowModCommand::Modify,
    FlowModCommand::ModifyStrict,
    FlowModCommand::Delete,
    FlowModCommand::DeleteStrict,
];
const GROUP_COMMANDS: &[GroupModCommand] = &[
    GroupModCommand::Add,
    GroupModCommand::Modify,
    GroupModCommand::Delete,
];
pub(super) const GROUP_TYPES: &[GroupType] = &[
    GroupType::All,
    GroupType::Select,
    GroupType::Indirect,
    GroupType::FastFailover,
];
const METER_COMMANDS: &[MeterModCommand] = &[
    MeterModCommand::Add,
    MeterModCommand::Modify,
    MeterModCommand::Delete,
];
const REMOVED: &[FlowRemovedReason] = &[
    FlowRemovedReason::IdleTimeout,
    FlowRemovedReason::HardTimeout,
    FlowRemovedReason::Delete,
    FlowRemovedReason::GroupDelete,
    FlowRemovedReason::MeterDelete,
    FlowRemovedReason::Eviction,
];
const PORT_REASONS: &[PortReason] = &[PortReason::Add, PortReason::Delete, PortReason::Modify];
const ROLES: &[Role] = &[Role::NoChange, Role::Equal, Role::Primary, Role::Secondary];

/// Message types without a body, both ways.
const PLAIN: &[(u8, Message)] = &[
    (5, Message::FeaturesRequest),
    (7, Message::GetConfigRequest),
    (20, Message::BarrierRequest),
    (21, Message::BarrierReply),
    (26, Message::GetAsyncRequest),
];

/// Decodes what follows the header; the flag says that more parts follow.
pub(super) fn decode(kind: u8, mut r: Reader<'_>) -> Result<(Message, bool), OfError> {
    if let Some((_, m)) = PLAIN.iter().find(|p| p.0 == kind) {
        r.end()?;
        return Ok((m.clone(), false));
    }
    let mut more = false;
    let m = match kind {
        4 => return Ok((nicira::read_message(r, OF13)?, false)),
        6 => {
            let (datapath_id, buffers, tables, auxiliary_id) =
                (r.u64()?, r.u32()?, r.u8()?, r.u8()?);
            r.skip(2)?;
            let capabilities = r.u32()?;
            r.skip(4)?;
            Message::FeaturesReply(Features {
                datapath_id,
                buffers,
                tables,
                auxiliary_id,
                capabilities,
                actions: 0,
                ports: Vec::new(),
            })
        }
        8 | 9 => {
            let c = SwitchConfig {
                flags: r.u16()?,
                miss_send_len: r.u16()?,
            };
            if kind == 8 {
                Message::GetConfigReply(c)
            } else {
                Message::SetConfig(c)
            }
        }
        10 => Message::PacketIn(packet_in(&mut r)?),
        11 => Message::FlowRemoved(flow_removed(&mut r)?),
        12 => {
            let reason = named(
                PORT_REASONS,
                r.u8()?.into(),
                ErrorKind::BadLen,
                "port reason",
            )?;
            r.skip(7)?;
            Message::PortStatus(reason, read_port(&mut r)?)
        }
        13 => Message::PacketOut(packet_out(&mut r)?),
        14 => Message::FlowMod(flow_mod(&mut r)?),
        15 => {
            let command = r.u16()?.into();
            let command = named(
                GROUP_COMMANDS,
                command,
                ErrorKind::BadGroupCommand,
                "group command",
            )?;
            let kind = named(
                GROUP_TYPES,
                r.u8()?.into(),
                ErrorKind::BadGroupType,
                "group type",
            )?;
            r.skip(1)?;
            Message::GroupMod(GroupMod {
                command,
                kind,
                group: r.u32()?,
                buckets: read_buckets(&mut r)?,
                position: BucketPosition::default(),
                selection: Selection::default(),
            })
        }
        16 => {
            let port = PortNo(r.u32()?);
            r.skip(4)?;
            let mac = MacAddr(r.array()?);
            r.skip(2)?;
            let (config, mask) = (read_flags(&mut r)?, read_flags(&mut r)?);
            let advertise = r.u32()?;
            r.skip(4)?;
            Message::PortMod(PortMod {
                port,
                mac,
                config,
                mask,
                advertise,
                optical: None,
            })
        }
        17 => {
            let table = r.u8()?;
            r.skip(3)?;
            // Of the versions this module serves, 1.3 has no configuration: the bits are reserved.
            r.skip(4)?;
            Message::TableMod(TableConfig {
                table,
                ..TableConfig::default()
            })
        }
        18 => {
            let (m, flag) = multipart::read_request(r.clone())?;
            r.all();
            more = flag;
            Message::MultipartRequest(m)
        }
        19 => {
            let (m, flag) = multipart::read_reply(r.clone())?;
            r.all();
            more = flag;
            Message::MultipartReply(m)
        }
        22 => {
            let port = PortNo(r.u32()?);
            r.skip(4)?;
            Message::QueueGetConfigRequest(port)
        }
        23 => {
            let port = PortNo(r.u32()?);
            r.skip(4)?;
            Message::QueueGetConfigReply(port, read_queues(&mut r)?)
        }
        24 | 25 => {
            let role = named(ROLES, r.u32()?, ErrorKind::BadRole, "role")?;
            r.skip(4)?;
            let m = RoleMsg {
                role,
                generation: r.u64()?,
                short_id: 0,
            };
            if kind == 24 {
                Message::RoleRequest(m)
            } else {
                Message::RoleReply(m)
            }
        }
        27 => Message::GetAsyncReply(nicira::read_async(&mut r)?),
        28 => Message::SetAsync(nicira::read_async(&mut r)?),
        29 => {
            let command = r.u16()?.into();
            let command = named(
                METER_COMMANDS,
                command,
                ErrorKind::BadMeterCommand,
                "meter command",
            )?;
            let flags = r.u16()?;
            Message::MeterMod(MeterMod {
                command,
                config: MeterConfig {
                    flags,
                    meter: r.u32()?,
                    bands: read_bands(&mut r)?,
                },
            })
        }
        n => {
            return err(
                ErrorKind::BadType,
                format!("message type {n} is not of OpenFlow 1.3"),
            );
        }
    };
    r.end()?;
    Ok((m, more))
}

/// The reasons that 1.4 added are all actions to earlier versions.
pub(super) fn old_reason(reason: PacketInReason) -> PacketInReason {
    match reason {
        PacketInReason::NoMatch | PacketInReason::InvalidTtl => reason,
        _ => PacketInReason::Action,
    }
}

fn packet_in(r: &mut Reader<'_>) -> Result<PacketIn, OfError> {
    let (buffer, total_len, reason, table) = (r.u32()?, r.u16()?, r.u8()?, r.u8()?);
    let Some(reason) = nicira::reason(reason) else {
        return err(
            ErrorKind::BadLen,
            format!("{reason} is no reason for a packet-in"),
        );
    };
    let reason = old_reason(reason);
    let (cookie, metadata) = (r.u64()?, oxm::read_match(r)?);
    r.skip(2)?;
    Ok(PacketIn {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        total_len,
        reason,
        table,
        cookie,
        metadata,
        data: Bytes::copy_from_slice(r.all()),
        ..PacketIn::default()
    })
}

fn packet_out(r: &mut Reader<'_>) -> Result<PacketOut, OfError> {
    let (buffer, in_port, len) = (r.u32()?, r.u32()?, r.u16()?);
    r.skip(6)?;
    if !oxm::port_ok(in_port) {
        return err(
            ErrorKind::BadPort,
            format!("in_port {in_port:#x} can not exist"),
        );
    }
    let mut actions = r.sub(len.into(), ErrorKind::BadActionLen)?;
    Ok(PacketOut {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        in_port: PortNo(in_port),
        actions: action::read_actions(&mut actions, OF13)?,
        data: Bytes::copy_from_slice(r.all()),
        ..PacketOut::default()
    })
}

fn flow_mod(r: &mut Reader<'_>) -> Result<FlowMod, OfError> {
    let (cookie, cookie_mask, table) = (r.u64()?, r.u64()?, r.u8()?);
    let command = named(
        COMMANDS,
        r.u8()?.into(),
        ErrorKind::BadCommand,
        "flow-mod command",
    )?;
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    let (buffer, out_port, out_group, flags) = (r.u32()?, r.u32()?, r.u32()?, r.u16()?);
    r.skip(2)?;
    if !oxm::port_ok(out_port) {
        return err(
            ErrorKind::BadOutPort,
            format!("out_port {out_port:#x} can not exist"),
        );
    }
    let flags = match flow_flags(flags) {
        Some(f) => f,
        None => {
            return err(
                ErrorKind::BadFlowModFlags,
                format!("flags {flags:#06x} has unknown bits"),
            );
        }
    };
    let matching = oxm::read_match(r)?;
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
        out_port: PortNo(out_port),
        out_group: group(out_group),
        flags,
        instructions: instruction::read_instructions(r, OF13)?,
        matching,
    })
}

pub(super) fn group(n: u32) -> Option<u32> {
    (n != GROUP_ANY).then_some(n)
}

pub(super) fn flow_flags(bits: u16) -> Option<FlowFlags> {
    (bits & !0x1f == 0).then_some(FlowFlags {
        send_flow_rem: bits & 1 != 0,
        check_overlap: bits & 2 != 0,
        reset_counts: bits & 4 != 0,
        no_packet_counts: bits & 8 != 0,
        no_byte_counts: bits & 16 != 0,
    })
}

pub(super) fn flow_flag_bits(f: FlowFlags) -> u16 {
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

pub(super) fn read_duration(r: &mut Reader<'_>) -> Result<Duration, OfError> {
    let (secs, nanos) = (r.u32()?, r.u32()?);
    // Nanoseconds beyond a second would not fit when the largest number of seconds is sent on.
    Ok(Duration::new(secs.into(), nanos.min(999_999_999)))
}

pub(super) fn put_duration(w: &mut Writer, d: Duration) {
    w.u32(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
    w.u32(d.subsec_nanos());
}

fn flow_removed(r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    let (cookie, priority, reason, table) = (r.u64()?, r.u16()?, r.u8()?, r.u8()?);
    let reason = named(
        REMOVED,
        reason.into(),
        ErrorKind::BadLen,
        "reason for a removed flow",
    )?;
    let duration = read_duration(r)?;
    let (idle_timeout, hard_timeout) = (r.u16()?, r.u16()?);
    let (packets, bytes) = (r.u64()?, r.u64()?);
    Ok(FlowRemoved {
        reason,
        flow: FlowStats {
            table,
            duration,
            idle_age: None,
            hard_age: None,
            priority,
            idle_timeout,
            hard_timeout,
            importance: 0,
            flags: FlowFlags::default(),
            cookie,
            packets,
            bytes,
            matching: oxm::read_match(r)?,
            instructions: Default::default(),
        },
    })
}

pub(super) fn read_flags(r: &mut Reader<'_>) -> Result<PortFlags, OfError> {
    let bits = r.u32()?;
    Ok(PortFlags {
        port_down: bits & 1 != 0,
        no_stp: bits & 2 != 0,
        no_recv: bits & 4 != 0,
        no_recv_stp: bits & 8 != 0,
        no_flood: bits & 0x10 != 0,
        no_fwd: bits & 0x20 != 0,
        no_packet_in: bits & 0x40 != 0,
    })
}

pub(super) fn flag_bits(f: PortFlags) -> u32 {
    // Bits 1, 3 and 4 are OpenFlow 1.0's, which Open vSwitch sends in all versions.
    u32::from(f.port_down)
        | u32::from(f.no_stp) << 1
        | u32::from(f.no_recv) << 2
        | u32::from(f.no_recv_stp) << 3
        | u32::from(f.no_flood) << 4
        | u32::from(f.no_fwd) << 5
        | u32::from(f.no_packet_in) << 6
}

pub(super) fn read_port(r: &mut Reader<'_>) -> Result<PortDesc, OfError> {
    let port = PortNo(r.u32()?);
    r.skip(4)?;
    let mac = MacAddr(r.array()?);
    r.skip(2)?;
    let name = r.text(16)?;
    let config = read_flags(r)?;
    let state = r.u32()?;
    Ok(PortDesc {
        port,
        mac,
        name,
        config,
        link_down: state & 1 != 0,
        live: state & 4 != 0,
        current: r.u32()?,
        advertised: r.u32()?,
        supported: r.u32()?,
        peer: r.u32()?,
        current_speed: r.u32()?,
        max_speed: r.u32()?,
        properties: Vec::new(),
    })
}

pub(super) fn put_port(w: &mut Writer, p: &PortDesc) {
    w.u32(p.port.0);
    w.zeros(4);
    w.put(&p.mac.0);
    w.zeros(2);
    w.text(&p.name, 16);
    w.u32(flag_bits(p.config));
    w.u32(u32::from(p.link_down) | u32::from(p.live) << 2);
    for n in [
        p.current,
        p.advertised,
        p.supported,
        p.peer,
        p.current_speed,
        p.max_speed,
    ] {
        w.u32(n);
    }
}

pub(super) fn read_buckets(r: &mut Reader<'_>) -> Result<Vec<Bucket>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let len = usize::from(Reader::new(r.peek(), ErrorKind::BadLen).u16()?);
        if len < 16 || len % 8 != 0 {
            return err(ErrorKind::BadLen, format!("a bucket has length {len}"));
        }
        let mut b = r.sub(len, ErrorKind::BadLen)?;
        b.skip(2)?;
        let (weight, watch_port, watch_group) = (b.u16()?, PortNo(b.u32()?), group(b.u32()?));
        b.skip(4)?;
        out.push(Bucket {
            weight,
            watch_port,
            watch_group,
            id: out.len() as u32,
            actions: action::read_actions(&mut b, OF13)?,
        });
    }
    Ok(out)
}

pub(super) fn put_buckets(w: &mut Writer, buckets: &[Bucket]) -> Result<(), OfError> {
    for b in buckets {
        let start = w.len();
        w.u16(0);
        w.u16(b.weight);
        w.u32(b.watch_port.0);
        w.u32(b.watch_group.unwrap_or(GROUP_ANY));
        w.zeros(4);
        action::put_actions(w, &b.actions, &Match::new(), OF13)?;
        w.set_len(start, start)?;
    }
    Ok(())
}

pub(super) fn read_bands(r: &mut Reader<'_>) -> Result<Vec<MeterBand>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let (kind, whole, mut b) = r.tlv(16, 1)?;
        let (rate, burst) = (b.u32()?, b.u32()?);
        let kind = match kind {
            1 => MeterBandKind::Drop,
            2 => MeterBandKind::DscpRemark(b.u8()?),
            n => {
                return err(
                    ErrorKind::BadBand,
                    format!("meter band type {n} is not known"),
                );
            }
        };
        if whole.len() != 16 {
            return err(
                ErrorKind::BadLen,
                format!("a meter band has {} bytes, 16 are right", whole.len()),
            );
        }
        out.push(MeterBand { kind, rate, burst });
    }
    Ok(out)
}

pub(super) fn put_bands(w: &mut Writer, bands: &[MeterBand]) {
    for b in bands {
        let (kind, level) = match b.kind {
            MeterBandKind::Drop => (1, 0),
            MeterBandKind::DscpRemark(level) => (2, level),
        };
        w.u16(kind);
        w.u16(16);
        w.u32(b.rate);
        w.u32(b.burst);
        w.u8(level);
        w.zeros(3);
    }
}

fn read_queues(r: &mut Reader<'_>) -> Result<Vec<QueueConfig>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let (queue, port, len) = (r.u32()?, PortNo(r.u32()?), usize::from(r.u16()?));
        r.skip(6)?;
        let Some(len) = len.checked_sub(16) else {
            return err(ErrorKind::BadLen, "a queue is shorter than its header");
        };
        let mut props = r.sub(len, ErrorKind::BadLen)?;
        let (min_rate, max_rate) = read_rates(&mut props)?;
        out.push(QueueConfig {
            queue,
            port,
            min_rate,
            max_rate,
        });
    }
    Ok(out)
}

/// A queue's properties: its least and its greatest rate.
pub(super) fn read_rates(props: &mut Reader<'_>) -> Result<(Option<u16>, Option<u16>), OfError> {
    let mut rates = (None, None);
    while !props.is_empty() {
        let (kind, _, mut p) = props.tlv(8, 8)?;
        p.skip(4)?;
        // Rates over 1000 mean that the property is off. Experimenters' are passed over.
        match kind {
            1 => rates.0 = Some(p.u16()?).filter(|r| *r <= 1000),
            2 => rates.1 = Some(p.u16()?).filter(|r| *r <= 1000),
            _ => {}
        }
    }
    Ok(rates)
}

/// Writes a queue's properties.
pub(super) fn put_rates(w: &mut Writer, q: &QueueConfig) {
    for (kind, rate) in [(1, q.min_rate), (2, q.max_rate)] {
        if let Some(rate) = rate {
            w.u16(kind);
            w.u16(16);
            w.zeros(4);
            w.u16(rate);
            w.zeros(6);
        }
    }
}

/// Encodes a message with its header; multipart answers may become several.
pub(super) fn encode(w: &mut Writer, xid: u32, m: &Message) -> Result<(), OfError> {
    match m {
        Message::MultipartRequest(q) => return multipart::put_request(w, xid, q),
        Message::MultipartReply(a) => return multipart::put_reply(w, xid, a),
        _ => {}
    }
    let kind = match m {
        Message::FeaturesReply(_) => 6,
        Message::GetConfigReply(_) => 8,
        Message::SetConfig(_) => 9,
        Message::PacketIn(_) => 10,
        Message::FlowRemoved(_) => 11,
        Message::PortStatus(..) => 12,
        Message::PacketOut(_) => 13,
        Message::FlowMod(_) => 14,
        Message::GroupMod(_) => 15,
        Message::PortMod(_) => 16,
        Message::TableMod(..) => 17,
        Message::QueueGetConfigRequest(_) => 22,
        Message::QueueGetConfigReply(..) => 23,
        Message::RoleRequest(_) => 24,
        Message::RoleReply(_) => 25,
        Message::GetAsyncReply(_) => 27,
        Message::SetAsync(_) => 28,
        Message::MeterMod(_) => 29,
        plain => PLAIN.iter().find(|p| p.1 == *plain).map_or(4, |p| p.0),
    };
    let start = w.len();
    super::put_header(w, OF13, kind, xid);
    put_body(w, m)?;
    w.set_len(start + 2, start)
}

fn put_body(w: &mut Writer, m: &Message) -> Result<(), OfError> {
    match m {
        Message::FeaturesReply(f) => {
            w.u64(f.datapath_id);
            w.u32(f.buffers);
            w.u8(f.tables);
            w.u8(f.auxiliary_id);
            w.zeros(2);
            w.u32(f.capabilities);
            w.zeros(4);
        }
        Message::GetConfigReply(c) | Message::SetConfig(c) => {
            w.u16(c.flags);
            w.u16(c.miss_send_len);
        }
        Message::PacketIn(p) => {
            w.u32(p.buffer.unwrap_or(NO_BUFFER));
            w.u16(p.total_len);
            w.u8(nicira::reason_number(old_reason(p.reason)));
            w.u8(p.table);
            w.u64(p.cookie);
            oxm::put_match(w, &p.metadata, OF13)?;
            w.zeros(2);
            w.put(&p.data);
        }
        Message::FlowRemoved(f) => {
            w.u64(f.flow.cookie);
            w.u16(f.flow.priority);
            w.u8(number(REMOVED, &f.reason));
            w.u8(f.flow.table);
            put_duration(w, f.flow.duration);
            w.u16(f.flow.idle_timeout);
            w.u16(f.flow.hard_timeout);
            w.u64(f.flow.packets);
            w.u64(f.flow.bytes);
            oxm::put_match(w, &f.flow.matching, OF13)?;
        }
        Message::PortStatus(reason, port) => {
            w.u8(number(PORT_REASONS, reason));
            w.zeros(7);
            put_port(w, port);
        }
        Message::PacketOut(p) => {
            w.u32(p.buffer.unwrap_or(NO_BUFFER));
            w.u32(p.in_port.0);
            let at = w.len();
            w.u16(0);
            w.zeros(6);
            let start = w.len();
            action::put_actions(w, &p.actions, &Match::new(), OF13)?;
            w.set_len(at, start)?;
            w.put(&p.data);
        }
        Message::FlowMod(f) => {
            w.u64(f.cookie);
            w.u64(f.cookie_mask);
            w.u8(f.table);
            w.u8(number(COMMANDS, &f.command));
            w.u16(f.idle_timeout);
            w.u16(f.hard_timeout);
            w.u16(f.priority);
            w.u32(f.buffer.unwrap_or(NO_BUFFER));
            w.u32(f.out_port.0);
            w.u32(f.out_group.unwrap_or(GROUP_ANY));
            w.u16(flow_flag_bits(f.flags));
            w.zeros(2);
            oxm::put_match(w, &f.matching, OF13)?;
            instruction::put_instructions(w, &f.instructions, &f.matching, OF13)?;
        }
        Message::GroupMod(g) => {
            w.u16(number(GROUP_COMMANDS, &g.command).into());
            w.u8(number(GROUP_TYPES, &g.kind));
            w.u8(0);
            w.u32(g.group);
            put_buckets(w, &g.buckets)?;
        }
        Message::PortMod(p) => {
            w.u32(p.port.0);
            w.zeros(4);
            w.put(&p.mac.0);
            w.zeros(2);
            w.u32(flag_bits(p.config));
            w.u32(flag_bits(p.mask));
            w.u32(p.advertise);
            w.zeros(4);
        }
        Message::TableMod(c) => {
            w.u8(c.table);
            w.zeros(7);
        }
        Message::QueueGetConfigRequest(port) => {
            w.u32(port.0);
            w.zeros(4);
        }
        Message::QueueGetConfigReply(port, queues) => {
            w.u32(port.0);
            w.zeros(4);
            for q in queues {
                let start = w.len();
                w.u32(q.queue);
                w.u32(q.port.0);
                w.u16(0);
                w.zeros(6);
                put_rates(w, q);
                w.set_len(start + 8, start)?;
            }
        }
        Message::RoleRequest(r) | Message::RoleReply(r) => {
            w.u32(number(ROLES, &r.role).into());
            w.zeros(4);
            w.u64(r.generation);
        }
        Message::GetAsyncReply(a) | Message::SetAsync(a) => {
            for n in [a.packet_in, a.port_status, a.flow_removed].concat() {
                w.u32(n);
            }
        }
        Message::MeterMod(m) => {
            w.u16(number(METER_COMMANDS, &m.command).into());
            w.u16(m.config.flags);
            w.u32(m.config.meter);
            put_bands(w, &m.config.bands);
        }
        other => {
            let plain = PLAIN.iter().any(|p| p.1 == *other);
            if !plain && !nicira::put_message(w, OF13, other)? {
                return err(ErrorKind::BadType, "OpenFlow 1.3 has no such message");
            }
        }
    }
    Ok(())
}

/// What a flow does, for the flow statistics.
pub(super) fn put_flow(w: &mut Writer, f: &FlowStats) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u8(f.table);
    w.u8(0);
    put_duration(w, f.duration);
    w.u16(f.priority);
    w.u16(f.idle_timeout);
    w.u16(f.hard_timeout);
    w.u16(flow_flag_bits(f.flags));
    w.zeros(4);
    w.u64(f.cookie);
    w.u64(f.packets);
    w.u64(f.bytes);
    oxm::put_match(w, &f.matching, OF13)?;
    instruction::put_instructions(w, &f.instructions, &f.matching, OF13)?;
    w.set_len(start, start)
}

/// One entry of the flow statistics, behind its length.
pub(super) fn read_flow(r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    let table = r.u8()?;
    r.skip(1)?;
    let duration = read_duration(r)?;
    let (priority, idle_timeout, hard_timeout, flags) = (r.u16()?, r.u16()?, r.u16()?, r.u16()?);
    r.skip(4)?;
    let (cookie, packets, bytes) = (r.u64()?, r.u64()?, r.u64()?);
    let Some(flags) = flow_flags(flags) else {
        return err(
            ErrorKind::BadLen,
            format!("flow flags {flags:#06x} has unknown bits"),
        );
    };
    Ok(FlowStats {
        table,
        duration,
        idle_age: None,
        hard_age: None,
        priority,
        idle_timeout,
        hard_timeout,
        importance: 0,
        flags,
        cookie,
        packets,
        bytes,
        matching: oxm::read_match(r)?,
        instructions: instruction::read_instructions(r, OF13)?,
    })
}
