//! Messages of Nicira (`NXT_*`) and of the ONF (`ONFT_*`).

use super::err;
use super::packet_in;
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::codes::{NICIRA_ROLES, TLV_COMMANDS, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::{NICIRA, ONF};
use crate::wire::types::{NiciraType as N, OnfType as O};
use crate::wire::{OF12, read_all, v10, v11};

/// Which properties the first form of an asynchronous configuration has.
const OLD_ASYNC: u16 = 0x3f;

/// Reads an experimenter message behind its header.
pub(in crate::wire) fn read_message(r: &mut Reader<'_>, version: u8) -> Result<Message, OfError> {
    let (experimenter, kind) = (r.u32()?, r.u32()?);
    let message = match experimenter {
        NICIRA => match N::of(version, kind) {
            Some(t) => nicira(r, t, version)?,
            None => return Err(unknown(experimenter, kind)),
        },
        ONF => match O::of(version, kind) {
            Some(t) => onf(r, t, version)?,
            None => return Err(unknown(experimenter, kind)),
        },
        e => {
            return err(
                ErrorKind::BadExperimenter,
                format!("messages of experimenter {e:#010x} are not known"),
            );
        }
    };
    r.end()?;
    Ok(message)
}

fn unknown(experimenter: u32, kind: u32) -> OfError {
    OfError::new(
        ErrorKind::BadExpType,
        format!("message {kind} of experimenter {experimenter:#010x} is not known in this version"),
    )
}

fn nicira(r: &mut Reader<'_>, t: N, version: u8) -> Result<Message, OfError> {
    Ok(match t {
        N::RoleRequest | N::RoleReply => {
            let m = RoleMsg {
                role: named(NICIRA_ROLES, r.u32()?, ErrorKind::BadRole, "role")?,
                generation: u64::MAX,
                short_id: 0,
            };
            let m = match t {
                N::RoleRequest => Message::RoleRequest(m),
                _ => Message::RoleReply(m),
            };
            // Where there are roles of the standard, who asks for Nicira's is answered so.
            if version < OF12 { m } else { form(m) }
        }
        N::SetFlowFormat => Message::SetFlowFormat(r.u32()?),
        N::FlowMod => form(Message::FlowMod(v10::read_flow_mod(r, true)?)),
        N::FlowRemoved => form(Message::FlowRemoved(v10::read_nx_flow_removed(r)?)),
        N::FlowModTableId => {
            let on = r.u8()? != 0;
            r.skip(7)?;
            Message::FlowModTableId(on)
        }
        N::SetPacketInFormat => Message::SetPacketInFormat(r.u32()?),
        N::PacketIn => form(Message::PacketIn(packet_in::read(r, version)?)),
        N::FlowAge => Message::FlowAge,
        N::SetAsync => Message::SetAsync(read_async(r)?),
        N::SetControllerId => {
            r.skip(6)?;
            Message::SetControllerId(r.u16()?)
        }
        N::FlowMonitorCancel => Message::FlowMonitorCancel(r.u32()?),
        N::FlowMonitorPaused => Message::FlowMonitorPaused,
        N::FlowMonitorResumed => Message::FlowMonitorResumed,
        N::TlvTableMod => {
            let what = "command of an option table";
            let command = named(
                TLV_COMMANDS,
                r.u16()?.into(),
                ErrorKind::TlvBadCommand,
                what,
            )?;
            r.skip(6)?;
            Message::TlvTableMod(command, read_all(r, read_tlv)?)
        }
        N::TlvTableRequest => Message::TlvTableRequest,
        N::TlvTableReply => {
            let (space, fields) = (r.u32()?, r.u16()?);
            r.skip(10)?;
            Message::TlvTableReply(space, fields, read_all(r, read_tlv)?)
        }
        N::SetAsync2 => Message::SetAsync(v11::read_async(r, version)?),
        N::Resume => Message::Resume(packet_in::read2(r, version)?),
        N::CtFlushZone => {
            r.skip(6)?;
            Message::CtFlushZone(r.u16()?)
        }
        N::PacketIn2 => Message::PacketIn2(packet_in::read2(r, version)?),
        N::GroupMod => Message::GroupMod(v11::read_group_mod(r, version)?),
        N::RequestForward => v11::read_forward(r, version)?,
    })
}

fn form(m: Message) -> Message {
    Message::Nicira(Box::new(m))
}

fn onf(r: &mut Reader<'_>, t: O, version: u8) -> Result<Message, OfError> {
    Ok(match t {
        O::FlowMonitorCancel => Message::FlowMonitorCancel(r.u32()?),
        O::FlowMonitorPaused => Message::FlowMonitorPaused,
        O::FlowMonitorResumed => Message::FlowMonitorResumed,
        O::RoleStatus => {
            let (reason, role) = v11::read_role_status(r)?;
            Message::RoleStatus(reason, role)
        }
        O::BundleControl => v11::read_bundle_control(r, version)?,
        O::BundleAdd => v11::read_bundle_add(r, version)?,
        O::RequestForward => v11::read_forward(r, version)?,
    })
}

fn read_tlv(r: &mut Reader<'_>) -> Result<TlvMap, OfError> {
    let t = TlvMap {
        class: r.u16()?,
        kind: r.u8()?,
        len: r.u8()?,
        index: r.u16()?,
    };
    r.skip(2)?;
    Ok(t)
}

fn put_tlvs(w: &mut Writer, maps: &[TlvMap]) {
    for t in maps {
        w.u16(t.class);
        w.u8(t.kind);
        w.u8(t.len);
        w.u16(t.index);
        w.zeros(2);
    }
}

/// Reads the three pairs of masks of 1.3 and of Nicira's first form.
pub(in crate::wire) fn read_async(r: &mut Reader<'_>) -> Result<AsyncChange, OfError> {
    let mut pair = || Ok::<_, OfError>([r.u32()?, r.u32()?]);
    Ok(AsyncChange {
        masks: AsyncConfig {
            packet_in: pair()?,
            port_status: pair()?,
            flow_removed: pair()?,
            ..AsyncConfig::default()
        },
        given: OLD_ASYNC,
    })
}

/// Writes three pairs of masks.
pub(in crate::wire) fn put_async(w: &mut Writer, a: &AsyncConfig) {
    for n in [a.packet_in, a.port_status, a.flow_removed].concat() {
        w.u32(n);
    }
}

/// Whether three pairs of masks can say it.
pub(in crate::wire) fn is_old_async(a: &AsyncChange) -> bool {
    let mut masks = a.masks;
    let [_, _, _, rest @ ..] = masks.all_mut();
    a.given & OLD_ASYNC == OLD_ASYNC && rest.iter().all(|m| **m == [0, 0])
}

/// The experimenter and the number that a version has for a message.
fn number_of(m: &Message, version: u8) -> Option<(u32, u32)> {
    let n = |t: N| t.number(version).map(|n| (NICIRA, n));
    let o = |t: O| t.number(version).map(|n| (ONF, n));
    match m {
        Message::Nicira(m) => match &**m {
            Message::FlowMod(_) => n(N::FlowMod),
            Message::FlowRemoved(_) => n(N::FlowRemoved),
            Message::PacketIn(_) => n(N::PacketIn),
            Message::RoleRequest(_) => n(N::RoleRequest),
            Message::RoleReply(_) => n(N::RoleReply),
            _ => None,
        },
        Message::RoleRequest(_) => n(N::RoleRequest),
        Message::RoleReply(_) => n(N::RoleReply),
        Message::SetFlowFormat(_) => n(N::SetFlowFormat),
        Message::FlowModTableId(_) => n(N::FlowModTableId),
        Message::SetPacketInFormat(_) => n(N::SetPacketInFormat),
        Message::FlowAge => n(N::FlowAge),
        Message::SetAsync(a) if is_old_async(a) => n(N::SetAsync),
        Message::SetAsync(_) => n(N::SetAsync2),
        Message::SetControllerId(_) => n(N::SetControllerId),
        Message::FlowMonitorCancel(_) => n(N::FlowMonitorCancel).or(o(O::FlowMonitorCancel)),
        Message::FlowMonitorPaused => n(N::FlowMonitorPaused).or(o(O::FlowMonitorPaused)),
        Message::FlowMonitorResumed => n(N::FlowMonitorResumed).or(o(O::FlowMonitorResumed)),
        Message::TlvTableMod(..) => n(N::TlvTableMod),
        Message::TlvTableRequest => n(N::TlvTableRequest),
        Message::TlvTableReply(..) => n(N::TlvTableReply),
        Message::Resume(_) => n(N::Resume),
        Message::CtFlushZone(_) => n(N::CtFlushZone),
        Message::PacketIn2(_) => n(N::PacketIn2),
        Message::GroupMod(_) => n(N::GroupMod),
        Message::RequestForward(..) => n(N::RequestForward).or(o(O::RequestForward)),
        Message::RoleStatus(..) => o(O::RoleStatus),
        Message::BundleControl(..) => o(O::BundleControl),
        Message::BundleAdd(..) => o(O::BundleAdd),
        _ => None,
    }
}

/// Writes the body of an experimenter message, or refuses what the version has no form of at all.
pub(in crate::wire) fn put_message(
    w: &mut Writer,
    version: u8,
    m: &Message,
) -> Result<(), OfError> {
    let Some((experimenter, kind)) = number_of(m, version) else {
        return err(ErrorKind::BadType, "this version has no such message");
    };
    w.u32(experimenter);
    w.u32(kind);
    match m {
        Message::Nicira(inner) => match &**inner {
            Message::FlowMod(f) => v10::put_flow_mod(w, f, true)?,
            Message::FlowRemoved(f) => v10::put_flow_removed(w, f, true)?,
            Message::PacketIn(p) => packet_in::put(w, p, version)?,
            Message::RoleRequest(r) | Message::RoleReply(r) => put_role(w, r)?,
            _ => {}
        },
        Message::RoleRequest(r) | Message::RoleReply(r) => put_role(w, r)?,
        Message::SetFlowFormat(n) | Message::SetPacketInFormat(n) => w.u32(*n),
        Message::FlowModTableId(on) => {
            w.u8((*on).into());
            w.zeros(7);
        }
        Message::SetAsync(a) if is_old_async(a) => put_async(w, &a.masks),
        Message::SetAsync(a) => v11::put_async(w, a, version)?,
        Message::SetControllerId(n) | Message::CtFlushZone(n) => {
            w.zeros(6);
            w.u16(*n);
        }
        Message::FlowMonitorCancel(id) => w.u32(*id),
        Message::TlvTableMod(command, maps) => {
            w.u16(number(TLV_COMMANDS, command).into());
            w.zeros(6);
            put_tlvs(w, maps);
        }
        Message::TlvTableReply(space, fields, maps) => {
            w.u32(*space);
            w.u16(*fields);
            w.zeros(10);
            put_tlvs(w, maps);
        }
        Message::Resume(p) | Message::PacketIn2(p) => packet_in::put2(w, p, version)?,
        Message::GroupMod(g) => v11::put_group_mod(w, g, version)?,
        Message::RequestForward(xid, m) => v11::put_forward(w, *xid, m, version)?,
        Message::RoleStatus(reason, role) => v11::put_role_status(w, *reason, role),
        Message::BundleControl(step, id) => v11::put_bundle_control(w, *step, id),
        Message::BundleAdd(id, xid, m) => v11::put_bundle_add(w, id, *xid, m, version)?,
        // The rest has no body.
        _ => {}
    }
    Ok(())
}

fn put_role(w: &mut Writer, r: &RoleMsg) -> Result<(), OfError> {
    if r.role == Role::NoChange {
        return err(ErrorKind::BadRole, "Nicira's roles have no \"no change\"");
    }
    w.u32(number(NICIRA_ROLES, &r.role).into());
    Ok(())
}
