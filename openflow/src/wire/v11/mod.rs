//! The messages of OpenFlow 1.1 to 1.5.
//!
//! They all grew from 1.1's, so each is written once, with what a version has more or otherwise where
//! it differs. Which message types a version has is in `types`.
//!
//! * `flow`, `group`, `meter`, `table`, `port`, `queue`, `packet`, `monitor` — what these are, and
//!   all messages about them
//! * `control` — what concerns connections: features, roles, asynchronous messages, bundles
//! * `matching` — 1.1's match;  `stats` — 1.5's statistics fields
//! * `multipart` — multipart messages

mod control;
mod flow;
mod group;
mod matching;
mod meter;
mod monitor;
mod multipart;
mod packet;
mod port;
mod queue;
mod stats;
mod table;

pub(super) use control::{
    put_async, put_bundle_add, put_bundle_control, put_forward, put_role_status, read_async,
    read_bundle_add, read_bundle_control, read_forward, read_role_status,
};
pub(super) use group::{
    put_desc as put_group_desc, put_features as put_group_features, put_mod as put_group_mod,
    put_stats as put_group_stats, read_desc as read_group_desc,
    read_features as read_group_features, read_mod as read_group_mod,
    read_stats as read_group_stats,
};
pub(super) use monitor::{put_old_request, put_update, read_old_request, read_update};
pub(super) use multipart::{put_desc, read_desc};
pub(super) use port::{counters, ethernet_counters, flag_bits, read_flags};
pub(super) use queue::{put_rates, read_rates};
pub(super) use stats::UNKNOWN;

use super::codes::{PORT_REASONS, named, number};
use super::cursor::{Reader, Writer};
use super::types::MessageType as T;
use super::{OF14, err, nicira, put_header, read_all};
use crate::error::{ErrorKind, OfError};
use crate::message::*;

/// Messages without a body.
const PLAIN: &[(T, Message)] = &[
    (T::FeaturesRequest, Message::FeaturesRequest),
    (T::GetConfigRequest, Message::GetConfigRequest),
    (T::BarrierRequest, Message::BarrierRequest),
    (T::BarrierReply, Message::BarrierReply),
    (T::GetAsyncRequest, Message::GetAsyncRequest),
];

fn pair(r: &mut Reader<'_>) -> Result<(u64, u64), OfError> {
    Ok((r.u64()?, r.u64()?))
}

fn put_pairs(w: &mut Writer, pairs: &[(u64, u64)]) {
    for (a, b) in pairs {
        w.u64(*a);
        w.u64(*b);
    }
}

/// Decodes what follows the header; the flag says that more parts follow.
pub(super) fn decode(version: u8, kind: u8, mut r: Reader<'_>) -> Result<(Message, bool), OfError> {
    let Some(kind) = T::of(version, kind.into()) else {
        return err(
            ErrorKind::BadType,
            format!("message type {kind} is not of this version"),
        );
    };
    if let Some((_, m)) = PLAIN.iter().find(|p| p.0 == kind) {
        r.end()?;
        return Ok((m.clone(), false));
    }
    let mut more = false;
    let r = &mut r;
    let m = match kind {
        T::Experimenter => nicira::read_message(r, version)?,
        T::FeaturesReply => Message::FeaturesReply(control::read_features(r, version)?),
        T::GetConfigReply | T::SetConfig => {
            let c = SwitchConfig {
                flags: r.u16()?,
                miss_send_len: r.u16()?,
            };
            match kind {
                T::SetConfig => Message::SetConfig(c),
                _ => Message::GetConfigReply(c),
            }
        }
        T::PacketIn => Message::PacketIn(packet::read_in(r, version)?),
        T::FlowRemoved => Message::FlowRemoved(flow::read_removed(r, version)?),
        T::PortStatus => {
            let reason = r.u8()?.into();
            let reason = named(PORT_REASONS, reason, ErrorKind::BadReason, "port reason")?;
            r.skip(7)?;
            Message::PortStatus(reason, port::read(r, version)?)
        }
        T::PacketOut => Message::PacketOut(packet::read_out(r, version)?),
        T::FlowMod => Message::FlowMod(flow::read_mod(r, version)?),
        T::GroupMod => Message::GroupMod(group::read_mod(r, version)?),
        T::PortMod => Message::PortMod(port::read_mod(r, version)?),
        T::TableMod => Message::TableMod(table::read_mod(r, version)?),
        T::MultipartRequest => {
            let q;
            (q, more) = multipart::read_request(r, version)?;
            Message::MultipartRequest(q)
        }
        T::MultipartReply => {
            let a;
            (a, more) = multipart::read_reply(r, version)?;
            Message::MultipartReply(a)
        }
        T::QueueGetConfigRequest => {
            let port = PortNo(r.u32()?);
            r.skip(4)?;
            Message::QueueGetConfigRequest(port)
        }
        T::QueueGetConfigReply => {
            let port = PortNo(r.u32()?);
            r.skip(4)?;
            Message::QueueGetConfigReply(port, queue::read_configs(r, port, version)?)
        }
        T::RoleRequest => Message::RoleRequest(control::read_role(r, version)?),
        T::RoleReply => Message::RoleReply(control::read_role(r, version)?),
        T::GetAsyncReply => Message::GetAsyncReply(read_masks(r, version)?.masks),
        T::SetAsync => Message::SetAsync(read_masks(r, version)?),
        T::MeterMod => Message::MeterMod(meter::read_mod(r)?),
        T::RoleStatus => {
            let (reason, role) = control::read_role_status(r)?;
            Message::RoleStatus(reason, role)
        }
        T::TableStatus => {
            let (reason, table) = table::read_status(r, version)?;
            Message::TableStatus(reason, table)
        }
        T::RequestForward => control::read_forward(r, version)?,
        T::BundleControl => control::read_bundle_control(r, version)?,
        T::BundleAdd => control::read_bundle_add(r, version)?,
        T::ControllerStatus => Message::ControllerStatus(control::read_controller(r)?),
        T::Hello
        | T::Error
        | T::EchoRequest
        | T::EchoReply
        | T::FeaturesRequest
        | T::GetConfigRequest
        | T::BarrierRequest
        | T::BarrierReply
        | T::GetAsyncRequest => return err(ErrorKind::BadType, "decoded before"),
    };
    r.end()?;
    Ok((m, more))
}

/// The masks of an asynchronous configuration: three pairs in 1.3, properties later.
fn read_masks(r: &mut Reader<'_>, version: u8) -> Result<AsyncChange, OfError> {
    if version < OF14 {
        nicira::read_async(r)
    } else {
        control::read_async(r, version)
    }
}

/// The standard's type of a message, where the version has one for it.
fn type_of(m: &Message, version: u8) -> Option<T> {
    let t = match m {
        Message::FeaturesReply(_) => T::FeaturesReply,
        Message::GetConfigReply(_) => T::GetConfigReply,
        Message::SetConfig(_) => T::SetConfig,
        Message::PacketIn(_) => T::PacketIn,
        Message::FlowRemoved(_) => T::FlowRemoved,
        Message::PortStatus(..) => T::PortStatus,
        Message::PacketOut(_) => T::PacketOut,
        Message::FlowMod(_) => T::FlowMod,
        Message::GroupMod(_) => T::GroupMod,
        Message::PortMod(_) => T::PortMod,
        Message::TableMod(_) => T::TableMod,
        Message::QueueGetConfigRequest(_) => T::QueueGetConfigRequest,
        Message::QueueGetConfigReply(..) => T::QueueGetConfigReply,
        Message::RoleRequest(_) => T::RoleRequest,
        Message::RoleReply(_) => T::RoleReply,
        Message::GetAsyncReply(_) => T::GetAsyncReply,
        // 1.3's form has three pairs of masks, all of them; Nicira's second has what it likes.
        Message::SetAsync(a) if version < OF14 && !nicira::is_old_async(a) => return None,
        Message::SetAsync(_) => T::SetAsync,
        Message::MeterMod(_) => T::MeterMod,
        Message::RoleStatus(..) => T::RoleStatus,
        Message::TableStatus(..) => T::TableStatus,
        Message::RequestForward(..) => T::RequestForward,
        Message::BundleControl(..) => T::BundleControl,
        Message::BundleAdd(..) => T::BundleAdd,
        Message::ControllerStatus(_) => T::ControllerStatus,
        plain => PLAIN.iter().find(|p| p.1 == *plain)?.0,
    };
    t.number(version).map(|_| t)
}

/// Encodes a message with its header; multipart answers may become several.
pub(super) fn encode(w: &mut Writer, version: u8, xid: u32, m: &Message) -> Result<(), OfError> {
    match m {
        Message::MultipartRequest(q) => return multipart::put_request(w, xid, q, version),
        Message::MultipartReply(a) => return multipart::put_reply(w, xid, a, version),
        _ => {}
    }
    let start = w.len();
    match type_of(m, version) {
        Some(kind) => {
            put_header(w, version, kind, xid);
            put_body(w, m, version)?;
        }
        None => {
            put_header(w, version, T::Experimenter, xid);
            nicira::put_message(w, version, m)?;
        }
    }
    w.set_len(start + 2, start)
}

fn put_body(w: &mut Writer, m: &Message, version: u8) -> Result<(), OfError> {
    match m {
        Message::FeaturesReply(f) => control::put_features(w, f, version)?,
        Message::GetConfigReply(c) | Message::SetConfig(c) => {
            w.u16(c.flags);
            w.u16(c.miss_send_len);
        }
        Message::PacketIn(p) => packet::put_in(w, p, version)?,
        Message::FlowRemoved(f) => flow::put_removed(w, f, version)?,
        Message::PortStatus(reason, p) => {
            w.u8(number(PORT_REASONS, reason));
            w.zeros(7);
            port::put(w, p, version)?;
        }
        Message::PacketOut(p) => packet::put_out(w, p, version)?,
        Message::FlowMod(f) => flow::put_mod(w, f, version)?,
        Message::GroupMod(g) => group::put_mod(w, g, version)?,
        Message::PortMod(p) => port::put_mod(w, p, version)?,
        Message::TableMod(c) => table::put_mod(w, c, version)?,
        Message::QueueGetConfigRequest(port) => {
            w.u32(port.0);
            w.zeros(4);
        }
        Message::QueueGetConfigReply(port, queues) => {
            w.u32(port.0);
            w.zeros(4);
            for q in queues {
                queue::put_config(w, q, version)?;
            }
        }
        Message::RoleRequest(r) | Message::RoleReply(r) => control::put_role(w, r, version),
        Message::GetAsyncReply(a) if version < OF14 => nicira::put_async(w, a),
        Message::GetAsyncReply(a) => control::put_async(w, &(*a).into(), version)?,
        Message::SetAsync(a) if version < OF14 => nicira::put_async(w, &a.masks),
        Message::SetAsync(a) => control::put_async(w, a, version)?,
        Message::MeterMod(m) => meter::put_mod(w, m),
        Message::RoleStatus(reason, role) => control::put_role_status(w, *reason, role),
        Message::TableStatus(reason, c) => table::put_status(w, *reason, c, version)?,
        Message::RequestForward(xid, m) => control::put_forward(w, *xid, m, version)?,
        Message::BundleControl(step, id) => control::put_bundle_control(w, *step, id),
        Message::BundleAdd(id, xid, m) => control::put_bundle_add(w, id, *xid, m, version)?,
        Message::ControllerStatus(c) => control::put_controller(w, c)?,
        // The rest has no body.
        _ => {}
    }
    Ok(())
}
