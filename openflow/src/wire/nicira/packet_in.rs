//! Nicira's forms of packet-ins: `NXT_PACKET_IN`, with an extended match, and `NXT_PACKET_IN2` of
//! properties, which `NXT_RESUME` sends back.

use super::err;
use crate::action::PacketInReason;
use crate::error::{ErrorKind, OfError};
use crate::message::PacketIn;
use crate::wire::codes::{self, packet_in_reason, reason_number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{NO_BUFFER, NO_COOKIE, oxm, property, v10};
use bytes::Bytes;

fn reason(n: u8, version: u8) -> Result<PacketInReason, OfError> {
    match codes::reason(n) {
        Some(reason) => Ok(packet_in_reason(reason, version)),
        None => err(
            ErrorKind::BadReason,
            format!("{n} is no reason for a packet-in"),
        ),
    }
}

pub(super) fn read(r: &mut Reader<'_>, version: u8) -> Result<PacketIn, OfError> {
    let (buffer, total_len, n, table) = (r.u32()?, r.u16()?, r.u8()?, r.u8()?);
    let (cookie, len) = (r.u64()?, r.u16()?);
    r.skip(6)?;
    let (metadata, _) = v10::read_nxm(r, len)?;
    r.skip(2)?;
    Ok(PacketIn {
        buffer: (buffer != NO_BUFFER).then_some(buffer),
        total_len,
        reason: reason(n, version)?,
        table,
        cookie,
        metadata,
        data: Bytes::copy_from_slice(r.all()),
        ..PacketIn::default()
    })
}

pub(super) fn put(w: &mut Writer, p: &PacketIn, version: u8) -> Result<(), OfError> {
    w.u32(p.buffer.unwrap_or(NO_BUFFER));
    w.u16(p.total_len);
    w.u8(reason_number(packet_in_reason(p.reason, version)));
    w.u8(p.table);
    w.u64(p.cookie);
    let at = w.len();
    w.zeros(8);
    v10::put_nxm(w, at, &p.metadata, (0, 0))?;
    w.zeros(2);
    w.put(&p.data);
    Ok(())
}

/// `nx_packet_in2_prop_type`.
mod prop {
    pub const PACKET: u16 = 0;
    pub const FULL_LEN: u16 = 1;
    pub const BUFFER_ID: u16 = 2;
    pub const TABLE_ID: u16 = 3;
    pub const COOKIE: u16 = 4;
    pub const REASON: u16 = 5;
    pub const METADATA: u16 = 6;
    pub const USERDATA: u16 = 7;
    pub const CONTINUATION: u16 = 8;
}

pub(super) fn read2(r: &mut Reader<'_>, version: u8) -> Result<PacketIn, OfError> {
    let mut p = PacketIn {
        cookie: NO_COOKIE,
        ..PacketIn::default()
    };
    let (mut packet, mut full_len) = (None, None);
    property::read(r, |kind, v| {
        let bytes = |v: &mut Reader<'_>| Bytes::copy_from_slice(v.all());
        match kind {
            prop::PACKET => packet = Some(bytes(v)),
            prop::FULL_LEN => full_len = Some(v.u32()?),
            prop::BUFFER_ID => p.buffer = Some(v.u32()?).filter(|n| *n != NO_BUFFER),
            prop::TABLE_ID => p.table = v.u8()?,
            prop::COOKIE => {
                // A number of 64 bits is aligned to them.
                v.skip(4)?;
                p.cookie = v.u64()?;
            }
            prop::REASON => p.reason = reason(v.u8()?, version)?,
            prop::METADATA => p.metadata = oxm::read_fields(v)?,
            prop::USERDATA => p.userdata = bytes(v),
            prop::CONTINUATION => p.continuation = Some(bytes(v)),
            _ => return property::unknown(kind, v, "a packet-in"),
        }
        property::pass(v)
    })?;
    let Some(packet) = packet else {
        return err(ErrorKind::BadLen, "a packet-in lacks its packet");
    };
    let full = full_len.map_or(packet.len(), |n| n as usize);
    if full < packet.len() {
        return err(
            ErrorKind::BadLen,
            format!("a packet of {full} bytes has {} of them", packet.len()),
        );
    }
    p.total_len = u16::try_from(full).unwrap_or(u16::MAX);
    p.data = packet;
    Ok(p)
}

pub(super) fn put2(w: &mut Writer, p: &PacketIn, version: u8) -> Result<(), OfError> {
    property::put(w, prop::PACKET, |w| w.put(&p.data))?;
    if usize::from(p.total_len) > p.data.len() {
        property::put(w, prop::FULL_LEN, |w| w.u32(p.total_len.into()))?;
    }
    if let Some(buffer) = p.buffer {
        property::put(w, prop::BUFFER_ID, |w| w.u32(buffer))?;
    }
    property::put(w, prop::TABLE_ID, |w| w.u8(p.table))?;
    if p.cookie != NO_COOKIE {
        property::put(w, prop::COOKIE, |w| {
            w.zeros(4);
            w.u64(p.cookie);
        })?;
    }
    let reason = reason_number(packet_in_reason(p.reason, version));
    property::put(w, prop::REASON, |w| w.u8(reason))?;
    if !p.metadata.is_empty() {
        let mut fields = Writer::default();
        oxm::put_fields(&mut fields, &p.metadata, version)?;
        property::put(w, prop::METADATA, |w| w.put(&fields.finish()))?;
    }
    if !p.userdata.is_empty() {
        property::put(w, prop::USERDATA, |w| w.put(&p.userdata))?;
    }
    if let Some(c) = &p.continuation {
        property::put(w, prop::CONTINUATION, |w| w.put(c))?;
    }
    Ok(())
}
