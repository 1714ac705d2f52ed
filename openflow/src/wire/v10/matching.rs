//! OpenFlow 1.0's match of twelve fields (1.0.0 5.2.3) and Nicira's extended match.

use super::{err, port16, put_port16};
use crate::error::{ErrorKind, OfError};
use crate::field::{FieldId, Prereq, Slot};
use crate::matching::Match;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{OF10, oxm};

/// Bytes of an `ofp_match`.
const LEN: usize = 40;

const WILD_IN_PORT: u32 = 1 << 0;
const WILD_VLAN: u32 = 1 << 1;
const WILD_SRC: u32 = 1 << 2;
const WILD_DST: u32 = 1 << 3;
const WILD_TYPE: u32 = 1 << 4;
const WILD_PROTO: u32 = 1 << 5;
const WILD_TP_SRC: u32 = 1 << 6;
const WILD_TP_DST: u32 = 1 << 7;
/// Six bits each: how many low bits of the address are not looked at.
const SHIFT_NW_SRC: u32 = 8;
const SHIFT_NW_DST: u32 = 14;
const WILD_PCP: u32 = 1 << 20;
const WILD_TOS: u32 = 1 << 21;
/// `OFPFW_ALL`.
pub(crate) const WILD_ALL: u32 = (1 << 22) - 1;
/// `OFP_VLAN_NONE`: no tag.
const VLAN_NONE: u16 = 0xffff;
/// Bit of a tag control word that tells a tag from none.
const TAGGED: u16 = 0x1000;

/// The transport fields of what a match is known to be: ports, or type and code.
pub(in crate::wire) fn transport(m: &Match) -> Option<(FieldId, FieldId)> {
    use FieldId::*;
    [
        (Prereq::Tcp, TcpSrc, TcpDst),
        (Prereq::Udp, UdpSrc, UdpDst),
        (Prereq::Sctp, SctpSrc, SctpDst),
        (Prereq::Icmpv4, Icmpv4Type, Icmpv4Code),
        (Prereq::Icmpv6, Icmpv6Type, Icmpv6Code),
    ]
    .iter()
    .find(|t| m.meets(t.0))
    .map(|t| (t.1, t.2))
}

/// The field that `mod_tp_src` or `mod_tp_dst` writes in packets of this match.
pub(super) fn tp_field(m: &Match, destination: bool) -> FieldId {
    let (src, dst) = match transport(m) {
        Some(f) if !matches!(f.0, FieldId::Icmpv4Type | FieldId::Icmpv6Type) => f,
        _ => (FieldId::TcpSrc, FieldId::TcpDst),
    };
    if destination { dst } else { src }
}

/// Reads a match. Fields whose prerequisites it lacks are taken as not there, as 1.0 wants.
/// Also says whether no field at all is left out, which makes a flow's priority the highest.
pub(super) fn read(r: &mut Reader<'_>) -> Result<(Match, bool), OfError> {
    let mut r = r.sub(LEN, ErrorKind::BadLen)?;
    let wild = r.u32()? & WILD_ALL;
    let on = |bit: u32| wild & bit == 0;
    let mut m = Match::new();
    let port = r.u16()?;
    if on(WILD_IN_PORT) {
        let port = port16(port);
        if !oxm::port_ok(port.0) {
            return err(ErrorKind::BadPort, format!("in_port {port} can not exist"));
        }
        m.set(FieldId::InPort, port.0.into());
    }
    for (bit, field) in [(WILD_SRC, FieldId::EthSrc), (WILD_DST, FieldId::EthDst)] {
        let mac = r.uint(6)?;
        if on(bit) {
            m.set(field, mac);
        }
    }
    let (vid, pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    if on(WILD_VLAN) && vid == VLAN_NONE {
        m.set(FieldId::VlanTci, 0);
    } else {
        let (mut tci, mut mask) = (0, 0);
        if on(WILD_VLAN) {
            (tci, mask) = (vid & 0xfff | TAGGED, 0xfff | TAGGED);
        }
        if on(WILD_PCP) {
            tci |= u16::from(pcp & 7) << 13 | TAGGED;
            mask |= 0xe000 | TAGGED;
        }
        m.set_masked(FieldId::VlanTci, tci.into(), mask.into());
    }
    let eth_type = r.u16()?;
    if on(WILD_TYPE) {
        m.set(FieldId::EthType, eth_type.into());
    }
    let (tos, proto) = (r.u8()?, r.u8()?);
    r.skip(2)?;
    if on(WILD_TOS) && m.meets(Prereq::Ip) {
        m.set(FieldId::IpDscp, u128::from(tos >> 2));
    }
    if on(WILD_PROTO) && m.meets(Prereq::Ip) {
        m.set(FieldId::IpProto, proto.into());
    } else if on(WILD_PROTO) && m.meets(Prereq::Arp) {
        m.set(FieldId::ArpOp, proto.into());
    }
    for (shift, slot) in [(SHIFT_NW_SRC, Slot::NwSrc), (SHIFT_NW_DST, Slot::NwDst)] {
        let address = r.u32()?;
        let mask = u32::MAX.checked_shl(wild >> shift & 63).unwrap_or(0);
        if m.meets(Prereq::Ipv4) || m.meets(Prereq::Arp) {
            let (address, mask) = (u128::from(address & mask), u128::from(mask));
            m.set_slot(slot, address, mask, u32::MAX.into());
        }
    }
    let (src, dst) = (r.u16()?, r.u16()?);
    if let Some(fields) = transport(&m) {
        for (bit, field, n) in [(WILD_TP_SRC, fields.0, src), (WILD_TP_DST, fields.1, dst)] {
            let n = u128::from(n);
            if on(bit) {
                if n > field.info().full_mask() {
                    let name = field.info().name;
                    return err(ErrorKind::BadValue, format!("{name} {n} is over 255"));
                }
                m.set(field, n);
            }
        }
    }
    Ok((m, wild == 0))
}

/// Writes a match as far as the twelve fields go: the rest is left out, as Open vSwitch does when
/// it tells of flows.
pub(super) fn put_lossy(w: &mut Writer, m: &Match) -> Result<(), OfError> {
    let mut wild = 0;
    let start = w.len();
    let field = |wild: &mut u32, bit: u32, field: FieldId| match m.exact(field) {
        Some(v) => v,
        None => {
            *wild |= bit;
            0
        }
    };
    w.u32(0);
    match m.exact(FieldId::InPort) {
        Some(port) => put_port16(w, crate::PortNo(port as u32))?,
        None => {
            wild |= WILD_IN_PORT;
            w.u16(0);
        }
    }
    w.uint(field(&mut wild, WILD_SRC, FieldId::EthSrc), 6);
    w.uint(field(&mut wild, WILD_DST, FieldId::EthDst), 6);
    let (tci, mask) = m.slot(Slot::VlanTci);
    let (tci, mask) = (tci as u16, mask as u16);
    let (mut vid, mut pcp) = (0, 0);
    if mask & TAGGED != 0 && tci & TAGGED == 0 {
        // Of no tag, no priority is left out either.
        vid = VLAN_NONE;
    } else {
        if mask & 0xfff == 0xfff {
            vid = tci & 0xfff;
        } else {
            wild |= WILD_VLAN;
        }
        if mask & 0xe000 == 0xe000 {
            pcp = (tci >> 13) as u8;
        } else {
            wild |= WILD_PCP;
        }
    }
    w.u16(vid);
    w.u8(pcp);
    w.u8(0);
    w.u16(field(&mut wild, WILD_TYPE, FieldId::EthType) as u16);
    w.u8((field(&mut wild, WILD_TOS, FieldId::IpDscp) as u8) << 2);
    w.u8(field(&mut wild, WILD_PROTO, FieldId::IpProto) as u8);
    w.zeros(2);
    for (shift, slot) in [(SHIFT_NW_SRC, Slot::NwSrc), (SHIFT_NW_DST, Slot::NwDst)] {
        let (address, mask) = m.slot(slot);
        let bits = (mask as u32).leading_ones();
        wild |= (32 - bits) << shift;
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        w.u32(address as u32 & mask);
    }
    let fields = transport(m).map(|f| [f.0, f.1]);
    for (i, bit) in [WILD_TP_SRC, WILD_TP_DST].into_iter().enumerate() {
        let n = fields.map(|f| field(&mut wild, bit, f[i]));
        if n.is_none() {
            wild |= bit;
        }
        w.u16(n.unwrap_or(0) as u16);
    }
    w.buf[start..start + 4].copy_from_slice(&wild.to_be_bytes());
    Ok(())
}

/// Writes a match, or refuses one that has more than the twelve fields can say.
pub(super) fn put(w: &mut Writer, m: &Match) -> Result<(), OfError> {
    let start = w.len();
    put_lossy(w, m)?;
    let mut wanted = m.clone();
    let (tci, mask) = m.slot(Slot::VlanTci);
    if mask & 0x1fff == 0x1fff && tci & u128::from(TAGGED) == 0 {
        // No tag is no tag, whatever the other bits.
        wanted.set(FieldId::VlanTci, 0);
    }
    let back = read(&mut Reader::new(&w.buf[start..], ErrorKind::BadLen))?.0;
    if back != wanted {
        return err(
            ErrorKind::BadField,
            "OpenFlow 1.0's own match cannot say this; Nicira's extended match (NXM) can",
        );
    }
    Ok(())
}

/// A cookie and which of its bits count; no bits for any cookie.
pub(in crate::wire) type Cookie = (u64, u64);

/// Reads Nicira's extended match of `len` bytes and its padding. The cookie that flow-mods and
/// requests select by stands among the fields.
pub(in crate::wire) fn read_nxm(r: &mut Reader<'_>, len: u16) -> Result<(Match, Cookie), OfError> {
    /// NXM_NX_COOKIE's class and number.
    const COOKIE: [u8; 3] = [0, 1, 30 << 1];
    let len = usize::from(len);
    let mut body = r.sub(len, ErrorKind::BadMatchLen)?;
    r.skip(len.next_multiple_of(8) - len)?;
    let mut fields = Vec::with_capacity(len);
    let mut cookie = (0, 0);
    while !body.is_empty() {
        let (class, number, payload) = (body.u16()?, body.u8()?, body.u8()?);
        let value = body.take(payload.into())?;
        let head = [(class >> 8) as u8, class as u8, number & !1];
        // MPLS TTL has the same number and one byte.
        if head == COOKIE && matches!(payload, 8 | 16) {
            let mut v = Reader::new(value, ErrorKind::BadMatchLen);
            let wanted = v.u64()?;
            let mask = if v.is_empty() { u64::MAX } else { v.u64()? };
            if (payload == 16) != (number & 1 == 1) {
                return err(
                    ErrorKind::BadMatchLen,
                    "a cookie has 8 bytes, or 16 with a mask",
                );
            }
            if wanted & !mask != 0 || cookie.1 != 0 {
                return err(
                    ErrorKind::BadWildcards,
                    "the cookie is there twice, or has bits outside its mask",
                );
            }
            cookie = (wanted, mask);
            continue;
        }
        fields.extend_from_slice(&class.to_be_bytes());
        fields.extend_from_slice(&[number, payload]);
        fields.extend_from_slice(value);
    }
    let m = oxm::read_fields(&mut Reader::new(&fields, ErrorKind::BadMatchLen))?;
    Ok((m, cookie))
}

/// Writes Nicira's extended match with its padding, its length into the 16 bits at `at`.
pub(in crate::wire) fn put_nxm(
    w: &mut Writer,
    at: usize,
    m: &Match,
    cookie: Cookie,
) -> Result<(), OfError> {
    let start = w.len();
    oxm::put_fields(w, m, OF10)?;
    match cookie {
        (_, 0) => {}
        (value, u64::MAX) => {
            w.put(&[0, 1, 30 << 1, 8]);
            w.u64(value);
        }
        (value, mask) => {
            w.put(&[0, 1, 30 << 1 | 1, 16]);
            w.u64(value & mask);
            w.u64(mask);
        }
    }
    w.set_len(at, start)?;
    w.pad8(start);
    Ok(())
}
