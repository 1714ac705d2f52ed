//! The messages of OpenFlow 1.0 (1.0.0 chapter 5) and Nicira's extensions of it.
//!
//! Several messages have two forms in 1.0: the standard's, with a match of twelve fields, and
//! Nicira's, with an extended match (NXM), tables and more. In the model a message in Nicira's form
//! is a [`Message::Nicira`] around the same message as ever; who answers a request in one form
//! answers in that form.
//!
//! A flow-mod's command has the table in its high byte if the connection has that switched on
//! (`NXT_FLOW_MOD_TABLE_ID`). The codec knows no connections: it always reads and writes the table
//! there, and whoever has it off sends table 0 and takes 0 for any table.
//!
//! * `matching`, `action`, `flow` — 1.0's own forms of these
//! * `stats` — statistics messages

mod action;
mod flow;
mod matching;
mod stats;

use super::codes::{self, PORT_REASONS, named, number, packet_in_reason, reason_number};
use super::cursor::{Reader, Writer};
use super::types::MessageType as T;
use super::{NO_BUFFER, NO_COOKIE, OF10, err, nicira, read_all, v11};
use crate::action::{Instructions, PacketInReason};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::matching::Match;
use crate::message::*;
use crate::wire::oxm;
use action::Rest;
pub(super) use action::{put as put_actions, read_one as read_action};
use bytes::Bytes;

pub(super) use flow::{put_flow_mod, put_flow_removed, read_flow_mod, read_nx_flow_removed};
pub(crate) use matching::WILD_ALL;
pub(super) use matching::{put_nxm, read_nxm, transport};

/// A port of 16 bits: the reserved ones are at the top of whatever range there is.
pub(super) fn port16(n: u16) -> PortNo {
    PortNo(match n {
        0xff00.. => 0xffff_0000 | u32::from(n),
        _ => n.into(),
    })
}

pub(super) fn put_port16(w: &mut Writer, port: PortNo) -> Result<(), OfError> {
    match port.0 {
        n @ (0..0xff00 | 0xffff_ff00..) => {
            w.u16(n as u16);
            Ok(())
        }
        n => err(
            ErrorKind::BadPort,
            format!("port {n} does not fit OpenFlow 1.0's 16 bits"),
        ),
    }
}

/// Messages without a body.
const PLAIN: &[(T, Message)] = &[
    (T::FeaturesRequest, Message::FeaturesRequest),
    (T::GetConfigRequest, Message::GetConfigRequest),
    (T::BarrierRequest, Message::BarrierRequest),
    (T::BarrierReply, Message::BarrierReply),
];

/// Decodes what follows the header; the flag says that more parts follow.
pub(super) fn decode(kind: u8, mut r: Reader<'_>) -> Result<(Message, bool), OfError> {
    let number = kind;
    let unknown = || {
        let why = format!("message type {number} is not of OpenFlow 1.0");
        OfError::new(ErrorKind::BadType, why)
    };
    let kind = T::of(OF10, kind.into()).ok_or_else(unknown)?;
    if let Some((_, m)) = PLAIN.iter().find(|p| p.0 == kind) {
        r.end()?;
        return Ok((m.clone(), false));
    }
    let mut more = false;
    let r = &mut r;
    let m = match kind {
        T::Experimenter => nicira::read_message(r, OF10)?,
        T::FeaturesReply => {
            let (datapath_id, buffers, tables) = (r.u64()?, r.u32()?, r.u8()?);
            r.skip(3)?;
            let (capabilities, actions) = (r.u32()?, r.u32()?);
            Message::FeaturesReply(Features {
                datapath_id,
                buffers,
                tables,
                auxiliary_id: 0,
                capabilities,
                actions,
                ports: read_all(r, read_port)?,
            })
        }
        T::GetConfigReply | T::SetConfig => {
            let c = SwitchConfig {
                flags: r.u16()?,
                miss_send_len: r.u16()?,
            };
            if kind == T::GetConfigReply {
                Message::GetConfigReply(c)
            } else {
                Message::SetConfig(c)
            }
        }
        T::PacketIn => Message::PacketIn(packet_in(r)?),
        T::FlowRemoved => Message::FlowRemoved(flow::read_flow_removed(r)?),
        T::PortStatus => {
            let reason = named(
                PORT_REASONS,
                r.u8()?.into(),
                ErrorKind::BadLen,
                "port reason",
            )?;
            r.skip(7)?;
            Message::PortStatus(reason, read_port(r)?)
        }
        T::PacketOut => Message::PacketOut(packet_out(r)?),
        T::FlowMod => Message::FlowMod(read_flow_mod(r, false)?),
        T::PortMod => {
            let port = port16(r.u16()?);
            let mac = MacAddr(r.array()?);
            let (config, mask) = (v11::read_flags(r)?, v11::read_flags(r)?);
            let advertise = link_from_10(r.u32()?);
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
        T::MultipartRequest => {
            let (m, flag) = stats::read_request(r)?;
            more = flag;
            m
        }
        T::MultipartReply => {
            let (m, flag) = stats::read_reply(r)?;
            more = flag;
            m
        }
        T::QueueGetConfigRequest => {
            let port = port16(r.u16()?);
            r.skip(2)?;
            Message::QueueGetConfigRequest(port)
        }
        T::QueueGetConfigReply => {
            let port = port16(r.u16()?);
            r.skip(6)?;
            Message::QueueGetConfigReply(port, read_queues(r, port)?)
        }
        _ => return Err(unknown()),
    };
    r.end()?;
    Ok((m, more))
}

fn packet_in(r: &mut Reader<'_>) -> Result<PacketIn, OfError> {
    let (buffer, total_len, port, reason) = (r.u32()?, r.u16()?, port16(r.u16()?), r.u8()?);
    r.skip(1)?;
    Ok(PacketIn {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        total_len,
        reason: reason_of(reason)?,
        table: 0,
        cookie: NO_COOKIE,
        metadata: Match::new().with(FieldId::InPort, port.0.into()),
        data: Bytes::copy_from_slice(r.all()),
        ..PacketIn::default()
    })
}

/// A reason; those that 1.4 added are all actions to 1.0.
fn reason_of(n: u8) -> Result<PacketInReason, OfError> {
    match codes::reason(n) {
        Some(reason) => Ok(packet_in_reason(reason, OF10)),
        None => err(
            ErrorKind::BadLen,
            format!("{n} is no reason for a packet-in"),
        ),
    }
}

fn packet_out(r: &mut Reader<'_>) -> Result<PacketOut, OfError> {
    let (buffer, in_port, len) = (r.u32()?, port16(r.u16()?), r.u16()?);
    if !oxm::port_ok(in_port.0) {
        return err(
            ErrorKind::BadPort,
            format!("in_port {in_port} can not exist"),
        );
    }
    let mut actions = r.sub(len.into(), ErrorKind::BadActionLen)?;
    let instructions = action::read(&mut actions, &Match::new())?;
    if instructions.metadata.is_some() {
        return err(ErrorKind::UnsupInst, "a packet-out can not write metadata");
    }
    Ok(PacketOut {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        in_port,
        actions: instructions.apply,
        data: Bytes::copy_from_slice(r.all()),
        ..PacketOut::default()
    })
}

/// Link feature bits from 1.0 to those of later versions, which put three speeds and "other" in the
/// middle.
fn link_from_10(bits: u32) -> u32 {
    bits & 0x7f | (bits & 0xf80) << 4
}

fn link_to_10(bits: u32) -> u32 {
    bits & 0x7f | bits >> 4 & 0xf80
}

/// The highest speed among link features, in kbit/s, 0 if there is none.
fn speed(bits: u32) -> u32 {
    const SPEEDS: [u32; 7] = [
        10_000, 10_000, 100_000, 100_000, 1_000_000, 1_000_000, 10_000_000,
    ];
    let on = |i: &usize| bits & 1 << i != 0;
    (0..SPEEDS.len()).rev().find(on).map_or(0, |i| SPEEDS[i])
}

fn read_port(r: &mut Reader<'_>) -> Result<PortDesc, OfError> {
    let port = port16(r.u16()?);
    let mac = MacAddr(r.array()?);
    let name = r.text(16)?;
    let config = v11::read_flags(r)?;
    let state = r.u32()?;
    let mut link = || r.u32().map(link_from_10);
    let (current, advertised, supported, peer) = (link()?, link()?, link()?, link()?);
    Ok(PortDesc {
        port,
        mac,
        name,
        config,
        link_down: state & 1 != 0,
        live: false,
        current,
        advertised,
        supported,
        peer,
        current_speed: speed(current),
        max_speed: speed(supported),
        properties: Vec::new(),
    })
}

fn put_port(w: &mut Writer, p: &PortDesc) -> Result<(), OfError> {
    put_port16(w, p.port)?;
    w.put(&p.mac.0);
    w.text(&p.name, 16);
    w.u32(v11::flag_bits(p.config));
    w.u32(p.link_down.into());
    for n in [p.current, p.advertised, p.supported, p.peer] {
        w.u32(link_to_10(n));
    }
    Ok(())
}

fn read_queues(r: &mut Reader<'_>, port: PortNo) -> Result<Vec<QueueConfig>, OfError> {
    read_all(r, |r| {
        let (queue, len) = (r.u32()?, usize::from(r.u16()?));
        r.skip(2)?;
        let Some(len) = len.checked_sub(8) else {
            return err(ErrorKind::BadLen, "a queue is shorter than its header");
        };
        let mut props = r.sub(len, ErrorKind::BadLen)?;
        let (min_rate, max_rate) = v11::read_rates(&mut props)?;
        Ok(QueueConfig {
            queue,
            port,
            min_rate,
            max_rate,
        })
    })
}

/// 1.0's own type of a message, if it has one.
fn type_of(m: &Message) -> Option<T> {
    Some(match m {
        Message::FeaturesReply(_) => T::FeaturesReply,
        Message::GetConfigReply(_) => T::GetConfigReply,
        Message::SetConfig(_) => T::SetConfig,
        Message::PacketIn(_) => T::PacketIn,
        Message::FlowRemoved(_) => T::FlowRemoved,
        Message::PortStatus(..) => T::PortStatus,
        Message::PacketOut(_) => T::PacketOut,
        Message::FlowMod(_) => T::FlowMod,
        Message::PortMod(_) => T::PortMod,
        Message::QueueGetConfigRequest(_) => T::QueueGetConfigRequest,
        Message::QueueGetConfigReply(..) => T::QueueGetConfigReply,
        plain => PLAIN.iter().find(|p| p.1 == *plain)?.0,
    })
}

/// Encodes a message with its header; statistics may become several.
pub(super) fn encode(w: &mut Writer, xid: u32, m: &Message) -> Result<(), OfError> {
    let (inner, form) = match m {
        Message::Nicira(m) => (&**m, true),
        m => (m, false),
    };
    match inner {
        Message::MultipartRequest(q) => return stats::put_request(w, xid, q, form),
        Message::MultipartReply(a) => return stats::put_reply(w, xid, a, form),
        _ => {}
    }
    let start = w.len();
    match type_of(m) {
        Some(kind) => {
            super::put_header(w, OF10, kind, xid);
            put_body(w, m)?;
        }
        None => {
            super::put_header(w, OF10, T::Experimenter, xid);
            nicira::put_message(w, OF10, m)?;
        }
    }
    w.set_len(start + 2, start)
}

fn put_body(w: &mut Writer, m: &Message) -> Result<(), OfError> {
    match m {
        Message::FeaturesReply(f) => {
            w.u64(f.datapath_id);
            w.u32(f.buffers);
            w.u8(f.tables);
            w.zeros(3);
            w.u32(f.capabilities);
            w.u32(f.actions);
            for p in &f.ports {
                put_port(w, p)?;
            }
        }
        Message::GetConfigReply(c) | Message::SetConfig(c) => {
            w.u16(c.flags);
            w.u16(c.miss_send_len);
        }
        Message::PacketIn(p) => {
            w.u32(p.buffer.unwrap_or(NO_BUFFER));
            w.u16(p.total_len);
            let port = p.metadata.exact(FieldId::InPort);
            put_port16(w, PortNo(port.map_or(PortNo::ANY.0, |p| p as u32)))?;
            w.u8(reason_number(packet_in_reason(p.reason, OF10)));
            w.u8(0);
            w.put(&p.data);
        }
        Message::FlowRemoved(f) => put_flow_removed(w, f, false)?,
        Message::PortStatus(reason, port) => {
            w.u8(number(PORT_REASONS, reason));
            w.zeros(7);
            put_port(w, port)?;
        }
        Message::PacketOut(p) => {
            w.u32(p.buffer.unwrap_or(NO_BUFFER));
            put_port16(w, p.in_port)?;
            let at = w.len();
            w.u16(0);
            let start = w.len();
            action::put(w, &p.actions, &Match::new())?;
            w.set_len(at, start)?;
            w.put(&p.data);
        }
        Message::FlowMod(f) => put_flow_mod(w, f, false)?,
        Message::PortMod(p) => {
            put_port16(w, p.port)?;
            w.put(&p.mac.0);
            w.u32(v11::flag_bits(p.config));
            w.u32(v11::flag_bits(p.mask));
            w.u32(link_to_10(p.advertise));
            w.zeros(4);
        }
        Message::QueueGetConfigRequest(port) => {
            put_port16(w, *port)?;
            w.zeros(2);
        }
        Message::QueueGetConfigReply(port, queues) => {
            put_port16(w, *port)?;
            w.zeros(6);
            for q in queues {
                let start = w.len();
                w.u32(q.queue);
                w.u32(0);
                v11::put_rates(w, q);
                w.set_len(start + 4, start)?;
            }
        }
        // The rest has no body.
        _ => {}
    }
    Ok(())
}

/// Reads what a flow does.
pub(super) fn read_instructions(r: &mut Reader<'_>, m: &Match) -> Result<Instructions, OfError> {
    action::read(r, m)
}

/// Writes what a flow does, as far as 1.0 can say it.
pub(super) fn put_flow_instructions(
    w: &mut Writer,
    i: &Instructions,
    m: &Match,
) -> Result<(), OfError> {
    action::put_instructions(w, i, m, Rest::LeaveOut)
}
