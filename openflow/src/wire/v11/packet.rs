//! Packets to and from controllers.

use super::{err, matching};
use crate::error::{ErrorKind, OfError};
use crate::field::{FieldId, Slot};
use crate::matching::Match;
use crate::message::*;
use crate::wire::codes::{self, packet_in_reason, reason_number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{NO_BUFFER, NO_COOKIE, OF12, OF13, OF15, action, oxm};
use bytes::Bytes;

fn reason(n: u8, version: u8) -> Result<crate::action::PacketInReason, OfError> {
    match codes::reason(n) {
        Some(reason) => Ok(packet_in_reason(reason, version)),
        None => err(
            ErrorKind::BadReason,
            format!("{n} is no reason for a packet-in"),
        ),
    }
}

pub(super) fn read_in(r: &mut Reader<'_>, version: u8) -> Result<PacketIn, OfError> {
    let buffer = r.u32()?;
    let mut p = PacketIn {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        cookie: NO_COOKIE,
        ..PacketIn::default()
    };
    if version < OF12 {
        let (port, physical) = (r.u32()?, r.u32()?);
        p.metadata.set(FieldId::InPort, port.into());
        if physical != port {
            p.metadata.set(FieldId::InPhyPort, physical.into());
        }
    }
    (p.total_len, p.reason, p.table) = (r.u16()?, reason(r.u8()?, version)?, r.u8()?);
    if version >= OF13 {
        p.cookie = r.u64()?;
    }
    if version >= OF12 {
        p.metadata = oxm::read_match(r)?;
        r.skip(2)?;
    }
    p.data = Bytes::copy_from_slice(r.all());
    Ok(p)
}

pub(super) fn put_in(w: &mut Writer, p: &PacketIn, version: u8) -> Result<(), OfError> {
    w.u32(p.buffer.unwrap_or(NO_BUFFER));
    if version < OF12 {
        let port = p.metadata.exact(FieldId::InPort);
        let port = port.map_or(PortNo::ANY.0, |n| n as u32);
        let physical = p.metadata.exact(FieldId::InPhyPort);
        w.u32(port);
        w.u32(physical.map_or(port, |n| n as u32));
    }
    w.u16(p.total_len);
    w.u8(reason_number(packet_in_reason(p.reason, version)));
    w.u8(p.table);
    if version >= OF13 {
        w.u64(p.cookie);
    }
    if version >= OF12 {
        oxm::put_match(w, &p.metadata, version)?;
        w.zeros(2);
    }
    w.put(&p.data);
    Ok(())
}

/// What a packet-out of 1.5 can say beside its packet's bytes: fields that the pipeline keeps.
fn is_pipeline(slot: Slot) -> bool {
    use Slot::*;
    matches!(
        slot,
        InPort
            | InPhyPort
            | Metadata
            | ActsetOutput
            | PacketType
            | PktMark
            | TunId
            | TunSrc
            | TunDst
            | TunIpv6Src
            | TunIpv6Dst
            | TunFlags
            | TunGbpId
            | TunGbpFlags
            | Xxreg0
            | Xxreg1
            | Xxreg2
            | Xxreg3
    )
}

pub(super) fn read_out(r: &mut Reader<'_>, version: u8) -> Result<PacketOut, OfError> {
    let buffer = r.u32()?;
    let mut p = PacketOut {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        ..PacketOut::default()
    };
    let port;
    let len = if version >= OF15 {
        let len = r.u16()?;
        r.skip(2)?;
        let mut fields = matching::read(r, version)?;
        let Some(n) = fields.exact(FieldId::InPort) else {
            return err(ErrorKind::BadPort, "a packet-out does not say its in_port");
        };
        port = n as u32;
        fields.set_masked(FieldId::InPort, 0, 0);
        if let Some(e) = fields.entries().iter().find(|e| !is_pipeline(e.slot)) {
            return err(
                ErrorKind::PipelineFieldsOnly,
                format!("{:?} is of the packet, not of the pipeline", e.slot),
            );
        }
        p.fields = fields;
        len
    } else {
        port = r.u32()?;
        let len = r.u16()?;
        r.skip(6)?;
        len
    };
    if !oxm::port_ok(port) {
        return err(
            ErrorKind::BadPort,
            format!("in_port {port:#x} can not exist"),
        );
    }
    p.in_port = PortNo(port);
    let mut actions = r.sub(len.into(), ErrorKind::BadActionLen)?;
    p.actions = action::read_actions(&mut actions, version)?;
    p.data = Bytes::copy_from_slice(r.all());
    Ok(p)
}

pub(super) fn put_out(w: &mut Writer, p: &PacketOut, version: u8) -> Result<(), OfError> {
    w.u32(p.buffer.unwrap_or(NO_BUFFER));
    let at;
    if version >= OF15 {
        at = w.len();
        w.zeros(4);
        let fields = p.fields.clone().with(FieldId::InPort, p.in_port.0.into());
        matching::put(w, &fields, version)?;
    } else {
        if !p.fields.is_empty() {
            return err(
                ErrorKind::BadField,
                "packets can come with fields from OpenFlow 1.5 on",
            );
        }
        w.u32(p.in_port.0);
        at = w.len();
        w.zeros(8);
    }
    let start = w.len();
    action::put_actions(w, &p.actions, &Match::new(), version)?;
    w.set_len(at, start)?;
    w.put(&p.data);
    Ok(())
}
