//! Network service headers on and off (RFC 8300), and the generic encap action that asks for them.
//!
//! Inside of weir each packet begins with an Ethernet header. What is behind an `encap(nsh)`, before an `encap(ethernet)`, and what is
//! left after a `decap()` of Ethernet has one of zeros that only its type means something in; the key's packet type says so, and
//! it leaves by no port.

use super::layers::{eth_type, insert, read16, remove};
use crate::packet::Packet;
use openflow::OfError;
use openflow::action::Encap;
use openflow::error::ErrorKind;
use std::sync::Arc;

/// Ethernet type of a network service header.
pub(crate) const ETH_TYPE: u16 = 0x894f;
/// Packet type namespace of Ethernet types (OpenFlow 1.5.1 7.2.3.11).
pub(crate) const NAMESPACE: u32 = 1 << 16;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Base and service path header.
const BASE: usize = 8;
/// Most bytes of a header: its length is six bits of words.
const LEN_MAX: usize = 63 * 4;
/// TTL of a new header, and its service index.
const TTL: u16 = 63;
const SERVICE_INDEX: u8 = 255;

/// What an encap puts on.
pub(crate) enum Header {
    /// An Ethernet header.
    Ethernet,
    /// A network service header: all but its next protocol.
    Nsh(Arc<[u8]>),
}

impl Header {
    /// Reads the packet type and properties of an encap.
    pub(crate) fn of(e: &Encap) -> Result<Header, OfError> {
        match e.packet_type {
            0 if e.properties.is_empty() => Ok(Header::Ethernet),
            0 => Err(OfError::new(
                ErrorKind::UnknownEncapProperty,
                "encap(ethernet) has no properties",
            )),
            t if t == NAMESPACE | u32::from(ETH_TYPE) => Ok(Header::Nsh(nsh(e)?)),
            t => Err(OfError::new(
                ErrorKind::BadHeaderType,
                format!("encap({t:#x}): ethernet and nsh can be put on"),
            )),
        }
    }
}

fn nsh(e: &Encap) -> Result<Arc<[u8]>, OfError> {
    const CLASS: u16 = 4;
    const MD_TYPE: u8 = 1;
    const TLV: u8 = 2;
    let wrong = |kind, what: &str| Err(OfError::new(kind, format!("encap(nsh): {what}")));
    let mut md_type = 1;
    let mut tlvs = Vec::new();
    for (class, kind, value) in &e.properties {
        match (*class, *kind, &value[..]) {
            (CLASS, MD_TYPE, [t @ (1 | 2), ..]) => md_type = *t,
            (CLASS, MD_TYPE, _) => {
                return wrong(ErrorKind::BadEncapProperty, "metadata types are 1 and 2");
            }
            (CLASS, TLV, [c1, c2, t, len, data @ ..]) if data.len() >= usize::from(*len) => {
                tlvs.extend([*c1, *c2, *t, *len]);
                tlvs.extend(&data[..usize::from(*len)]);
                tlvs.resize(tlvs.len().next_multiple_of(4), 0);
            }
            (CLASS, TLV, _) => return wrong(ErrorKind::BadEncapProperty, "a TLV is cut short"),
            _ => return wrong(ErrorKind::UnknownEncapProperty, "unknown property"),
        }
    }
    let metadata = if md_type == 1 { vec![0; 16] } else { tlvs };
    let len = BASE + metadata.len();
    if len > LEN_MAX {
        return wrong(
            ErrorKind::BadEncapProperty,
            "more metadata than a header holds",
        );
    }
    let mut h = (TTL << 6 | (len / 4) as u16).to_be_bytes().to_vec();
    h.extend([md_type, 0, 0, 0, 0, SERVICE_INDEX]);
    h.extend(metadata);
    Ok(h.into())
}

/// The next protocol that says what is of a packet type (RFC 8300 6.5.5).
pub(crate) fn next_protocol(packet_type: u32) -> Option<u8> {
    match packet_type {
        t if t == NAMESPACE | 0x0800 => Some(1),
        t if t == NAMESPACE | 0x86dd => Some(2),
        0 => Some(3),
        t if t == NAMESPACE | u32::from(ETH_TYPE) => Some(4),
        _ => None,
    }
}

/// The packet type of what a next protocol says there is.
pub(crate) fn packet_type(next_protocol: u8) -> Option<u32> {
    [
        NAMESPACE | 0x0800,
        NAMESPACE | 0x86dd,
        0,
        NAMESPACE | u32::from(ETH_TYPE),
    ]
    .into_iter()
    .find(|t| self::next_protocol(*t) == Some(next_protocol))
}

/// Puts a header on: before the Ethernet header if the packet's own first one is that (next protocol 3), in place of its type
/// otherwise. `false` if there is no room.
pub(crate) fn push_nsh(p: &mut Packet, header: &[u8], next_protocol: u8) -> bool {
    let mut bytes = [0; ETHERNET + LEN_MAX];
    bytes[12..ETHERNET].copy_from_slice(&ETH_TYPE.to_be_bytes());
    let end = ETHERNET + header.len();
    bytes[ETHERNET..end].copy_from_slice(header);
    bytes[ETHERNET + 3] = next_protocol;
    if next_protocol == 3 {
        return insert(p, 0, &bytes[..end]);
    }
    // The packet's Ethernet header is none of its own.
    if !remove(p, 0, p.layers.l3.into()) {
        return false;
    }
    insert(p, 0, &bytes[..end])
}

/// Takes a network service header off; `false` if it is none, or is cut short.
pub(crate) fn pop_nsh(p: &mut Packet) -> bool {
    let at = usize::from(p.layers.l3);
    let h = p.head();
    if eth_type(p) != Some(ETH_TYPE) {
        return false;
    }
    let (Some(length), Some(np)) = (read16(h, at), h.get(at + 3).copied()) else {
        return false;
    };
    let n = usize::from(length & 63) * 4;
    let inner = match packet_type(np) {
        Some(0) => return remove(p, 0, at + n),
        Some(t) => t as u16,
        None => return false,
    };
    super::layers::set_eth_type(p, inner);
    remove(p, at, n)
}

/// An Ethernet header of zeros, but for its type.
pub(crate) fn clear_ethernet(p: &mut Packet) {
    if let Some(addresses) = p.head_mut().first_chunk_mut::<12>() {
        addresses.fill(0);
    }
}
