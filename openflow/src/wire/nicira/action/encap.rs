//! NXAST_ENCAP and NXAST_DECAP: generic headers and their properties (`ofp_ed_prop_header`).

use super::{Action, Bytes, ErrorKind, OfError, Reader, Writer, err, head};
use crate::action::Encap;

/// Packet types that a header can be put on for: Ethernet, the network service header, MPLS and its multicast.
const HEADERS: &[u32] = &[0, 0x0001_894f, 0x0001_8847, 0x0001_8848];
/// "What the header says comes next": the packet type of a decap that names none.
const USE_NEXT_PROTO: u32 = 0x0000_fffe;
/// `OFPPPC_NSH` and its properties: the kind of metadata, and an option of kind 2.
const CLASS_NSH: u16 = 4;
const MD_TYPE: u8 = 1;
const TLV: u8 = 2;

pub(super) fn read(mut b: Reader<'_>) -> Result<Action, OfError> {
    let (header_size, packet_type) = (b.u16()?, b.u32()?);
    if !HEADERS.contains(&packet_type) {
        return err(
            ErrorKind::BadHeaderType,
            format!("encap of packet type {packet_type:#010x}; {HEADERS:x?} are known"),
        );
    }
    let mut properties = Vec::new();
    while !b.is_empty() {
        let (class, kind, len) = (b.u16()?, b.u8()?, usize::from(b.u8()?));
        if class != CLASS_NSH || !matches!(kind, MD_TYPE | TLV) {
            return err(
                ErrorKind::UnknownEncapProperty,
                format!("encap property {kind} of class {class} is not known"),
            );
        }
        let Some(value) = len.checked_sub(4) else {
            return err(
                ErrorKind::BadEncapProperty,
                format!("encap property {kind} of {len} bytes, less than its header"),
            );
        };
        let value = Bytes::copy_from_slice(b.take(value)?);
        let right = match kind {
            MD_TYPE => (1..=4).contains(&value.len()),
            // Class, type and length of the option, and its value in full eights.
            _ => value.len() >= 4 && value.len() == 4 + usize::from(value[3]).next_multiple_of(8),
        };
        if !right {
            return err(
                ErrorKind::BadEncapProperty,
                format!("encap property {kind} of {len} bytes"),
            );
        }
        let value = match kind {
            MD_TYPE => value.slice(..1),
            _ => value,
        };
        b.skip(len.next_multiple_of(8) - len)?;
        properties.push((class, kind, value));
    }
    Ok(Action::Encap(Box::new(Encap {
        packet_type,
        header_size,
        properties,
    })))
}

pub(super) fn put(w: &mut Writer, e: &Encap) -> Result<(), OfError> {
    head(w, 46);
    w.u16(e.header_size);
    w.u32(e.packet_type);
    for (class, kind, value) in &e.properties {
        let at = w.len();
        let Ok(len) = u8::try_from(value.len() + 4) else {
            return err(
                ErrorKind::BadEncapProperty,
                format!("encap property {kind} of {} bytes", value.len()),
            );
        };
        w.u16(*class);
        w.u8(*kind);
        w.u8(len);
        w.put(value);
        w.pad8(at);
    }
    Ok(())
}

pub(super) fn read_decap(mut b: Reader<'_>) -> Result<Action, OfError> {
    b.skip(2)?;
    Ok(Action::Decap(
        Some(b.u32()?).filter(|t| *t != USE_NEXT_PROTO),
    ))
}

pub(super) fn put_decap(w: &mut Writer, packet_type: Option<u32>) {
    head(w, 47);
    w.zeros(2);
    w.u32(packet_type.unwrap_or(USE_NEXT_PROTO));
}
