//! OpenFlow 1.1's match of fixed size (1.1.0 A.2.3), which 1.2 replaced by OXM.

use crate::error::{ErrorKind, OfError};
use crate::field::{FieldId, Prereq, Slot};
use crate::matching::Match;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{OF11, oxm, transport};

/// `OFPMT_STANDARD`.
const STANDARD: u16 = 0;
/// Bytes of the whole match, padding included.
const LEN: u16 = 88;

const WILD_IN_PORT: u32 = 1 << 0;
const WILD_VLAN: u32 = 1 << 1;
const WILD_PCP: u32 = 1 << 2;
const WILD_TYPE: u32 = 1 << 3;
const WILD_TOS: u32 = 1 << 4;
const WILD_PROTO: u32 = 1 << 5;
const WILD_TP_SRC: u32 = 1 << 6;
const WILD_TP_DST: u32 = 1 << 7;
const WILD_MPLS_LABEL: u32 = 1 << 8;
const WILD_MPLS_TC: u32 = 1 << 9;
/// `OFPFW_ALL`.
const WILD_ALL: u32 = (1 << 10) - 1;
/// `OFPVID_ANY`: some tag.
const VLAN_ANY: u16 = 0xfffe;
/// `OFPVID_NONE`: no tag.
const VLAN_NONE: u16 = 0xffff;
/// Bit of a tag control word that tells a tag from none.
const TAGGED: u16 = 0x1000;

/// Reads a match: 1.1's own, or an extensible one, which every version takes from 1.1 on.
pub(super) fn read(r: &mut Reader<'_>, version: u8) -> Result<Match, OfError> {
    let kind = Reader::new(r.peek(), ErrorKind::BadMatchLen).u16()?;
    if version == OF11 && kind == STANDARD {
        read_standard(r)
    } else {
        oxm::read_match(r)
    }
}

/// Writes a match, or refuses what 1.1's own cannot say.
pub(super) fn put(w: &mut Writer, m: &Match, version: u8) -> Result<(), OfError> {
    if version > OF11 {
        return oxm::put_match(w, m, version);
    }
    let start = w.len();
    put_standard(w, m);
    let mut wanted = m.clone();
    let (tci, mask) = m.slot(Slot::VlanTci);
    if mask & 0x1fff == 0x1fff && tci & u128::from(TAGGED) == 0 {
        // No tag is no tag, whatever the other bits.
        wanted.set(FieldId::VlanTci, 0);
    }
    let back = read_standard(&mut Reader::new(&w.buf[start..], ErrorKind::BadMatchLen));
    if back != Ok(wanted) {
        return Err(OfError::new(
            ErrorKind::BadField,
            "OpenFlow 1.1's match cannot say this; that of 1.2 and later can",
        ));
    }
    Ok(())
}

/// Writes a match for telling of flows: what 1.1's own has no field for is left out.
pub(super) fn put_lossy(w: &mut Writer, m: &Match, version: u8) -> Result<(), OfError> {
    if version > OF11 {
        return oxm::put_match(w, m, version);
    }
    put_standard(w, m);
    Ok(())
}

/// Fields whose prerequisites are lacking are taken as not there.
fn read_standard(r: &mut Reader<'_>) -> Result<Match, OfError> {
    let bad = |kind, why: String| Err(OfError::new(kind, why));
    let mut r = r.sub(LEN.into(), ErrorKind::BadMatchLen)?;
    r.skip(2)?;
    let len = r.u16()?;
    if len != LEN {
        let why = format!("a standard match has {len} bytes, {LEN} are right");
        return bad(ErrorKind::BadMatchLen, why);
    }
    let (port, wild) = (r.u32()?, r.u32()?);
    if wild & !WILD_ALL != 0 {
        let why = format!("wildcards {wild:#x} have bits beyond {WILD_ALL:#x}");
        return bad(ErrorKind::BadWildcards, why);
    }
    let on = |bit: u32| wild & bit == 0;
    let mut m = Match::new();
    if on(WILD_IN_PORT) {
        if !oxm::port_ok(port) {
            let why = format!("in_port {port:#x} can not exist");
            return bad(ErrorKind::BadValue, why);
        }
        m.set(FieldId::InPort, port.into());
    }
    for field in [FieldId::EthSrc, FieldId::EthDst] {
        let (mac, wild) = (r.uint(6)?, r.uint(6)?);
        m.set_masked(field, mac, !wild);
    }
    let (vid, pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    if on(WILD_VLAN) && vid == VLAN_NONE {
        m.set(FieldId::VlanTci, 0);
    } else {
        let (mut tci, mut mask) = (0, 0);
        if on(WILD_VLAN) {
            (tci, mask) = match vid {
                VLAN_ANY => (TAGGED, TAGGED),
                0..=0xfff => (vid | TAGGED, 0xfff | TAGGED),
                _ => return bad(ErrorKind::BadValue, format!("dl_vlan {vid:#x} is no VLAN")),
            };
        }
        // Only a tag has a priority.
        if on(WILD_PCP) && on(WILD_VLAN) {
            if pcp > 7 {
                return bad(ErrorKind::BadValue, format!("dl_vlan_pcp {pcp} is over 7"));
            }
            tci |= u16::from(pcp) << 13;
            mask |= 0xe000;
        }
        m.set_masked(FieldId::VlanTci, tci.into(), mask.into());
    }
    let eth_type = r.u16()?;
    if on(WILD_TYPE) {
        m.set(FieldId::EthType, eth_type.into());
    }
    let (tos, proto) = (r.u8()?, r.u8()?);
    if on(WILD_TOS) && m.meets(Prereq::Ip) {
        if tos & 3 != 0 {
            let why = format!("nw_tos {tos:#x} has bits of the ECN set");
            return bad(ErrorKind::BadValue, why);
        }
        m.set(FieldId::IpDscp, u128::from(tos >> 2));
    }
    if on(WILD_PROTO) && m.meets(Prereq::Ip) {
        m.set(FieldId::IpProto, proto.into());
    } else if on(WILD_PROTO) && m.meets(Prereq::Arp) {
        m.set(FieldId::ArpOp, proto.into());
    }
    for slot in [Slot::NwSrc, Slot::NwDst] {
        let (address, wild) = (r.u32()?, r.u32()?);
        let mask = !wild;
        if m.meets(Prereq::Ipv4) || m.meets(Prereq::Arp) {
            let value = u128::from(address & mask);
            m.set_slot(slot, value, mask.into(), u32::MAX.into());
        }
    }
    let (src, dst) = (r.u16()?, r.u16()?);
    if let Some(fields) = transport(&m) {
        for (bit, field, n) in [(WILD_TP_SRC, fields.0, src), (WILD_TP_DST, fields.1, dst)] {
            let n = u128::from(n);
            if on(bit) {
                if n > field.info().full_mask() {
                    let why = format!("{} {n} is over 255", field.info().name);
                    return bad(ErrorKind::BadValue, why);
                }
                m.set(field, n);
            }
        }
    }
    let (label, tc) = (r.u32()?, r.u8()?);
    r.skip(3)?;
    if m.meets(Prereq::Mpls) {
        for (bit, field, n) in [
            (WILD_MPLS_LABEL, FieldId::MplsLabel, label),
            (WILD_MPLS_TC, FieldId::MplsTc, tc.into()),
        ] {
            if on(bit) {
                if u128::from(n) > field.info().full_mask() {
                    let why = format!("{} {n} has too many bits", field.info().name);
                    return bad(ErrorKind::BadValue, why);
                }
                m.set(field, n.into());
            }
        }
    }
    let (metadata, wild) = (r.u64()?, r.u64()?);
    m.set_masked(FieldId::Metadata, metadata.into(), (!wild).into());
    Ok(m)
}

fn put_standard(w: &mut Writer, m: &Match) {
    let start = w.len();
    let mut wild = 0;
    let mut exact = |bit: u32, field: FieldId| match m.exact(field) {
        Some(v) => v,
        None => {
            wild |= bit;
            0
        }
    };
    let port = exact(WILD_IN_PORT, FieldId::InPort);
    let eth_type = exact(WILD_TYPE, FieldId::EthType);
    let dscp = exact(WILD_TOS, FieldId::IpDscp);
    let proto = exact(WILD_PROTO, FieldId::IpProto);
    let label = exact(WILD_MPLS_LABEL, FieldId::MplsLabel);
    let tc = exact(WILD_MPLS_TC, FieldId::MplsTc);
    let ports = match transport(m) {
        Some((src, dst)) => [exact(WILD_TP_SRC, src), exact(WILD_TP_DST, dst)],
        None => {
            wild |= WILD_TP_SRC | WILD_TP_DST;
            [0, 0]
        }
    };
    let (tci, mask) = m.slot(Slot::VlanTci);
    let (tci, mask) = (tci as u16, mask as u16);
    let vid = match (mask & TAGGED != 0, tci & TAGGED != 0, mask & 0xfff == 0xfff) {
        (true, false, _) => VLAN_NONE,
        (true, true, true) => tci & 0xfff,
        (true, true, false) => VLAN_ANY,
        (false, ..) => {
            wild |= WILD_VLAN;
            0
        }
    };
    let pcp = if mask & 0xe000 == 0xe000 && vid != VLAN_NONE {
        (tci >> 13) as u8
    } else {
        wild |= WILD_PCP;
        0
    };
    w.u16(STANDARD);
    w.u16(LEN);
    w.u32(port as u32);
    w.u32(wild);
    for field in [FieldId::EthSrc, FieldId::EthDst] {
        let (value, mask) = m.get(field);
        w.uint(value, 6);
        w.uint(!mask & ((1 << 48) - 1), 6);
    }
    w.u16(vid);
    w.u8(pcp);
    w.u8(0);
    w.u16(eth_type as u16);
    w.u8((dscp as u8) << 2);
    w.u8(proto as u8);
    for slot in [Slot::NwSrc, Slot::NwDst] {
        let (address, mask) = m.slot(slot);
        w.u32(address as u32);
        w.u32(!(mask as u32));
    }
    for port in ports {
        w.u16(port as u16);
    }
    w.u32(label as u32);
    w.u8(tc as u8);
    w.zeros(3);
    let (metadata, mask) = m.get(FieldId::Metadata);
    w.u64(metadata as u64);
    w.u64(!(mask as u64));
    debug_assert_eq!(w.len() - start, usize::from(LEN));
}
