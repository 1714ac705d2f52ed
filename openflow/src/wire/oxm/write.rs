//! Writing fields: whole matches, single values, and names.

use super::Code;
use crate::action::Subfield;
use crate::error::{ErrorKind, OfError};
use crate::field::{FIELDS, FieldId, MaskRule, Slot};
use crate::matching::{Match, MatchEntry};
use crate::wire::cursor::Writer;
use std::collections::BTreeMap;
use std::sync::LazyLock;

fn put_entry(
    w: &mut Writer,
    mut code: Code,
    field: FieldId,
    value: u128,
    mask: u128,
    masked: bool,
) {
    if field.info().is_option() {
        let all = if masked { value | mask } else { value };
        code.bytes = (128 - all.leading_zeros()).div_ceil(8).max(1) as usize;
    }
    code.put_header(w, masked);
    w.uint(value, code.bytes);
    if masked {
        w.uint(mask, code.bytes);
    }
}

/// The order in which a match's fields are written: prerequisites before what needs them, and else as Open vSwitch does
/// it. Tunnel options go where [`FieldId::TunMetadata0`] stands, by their numbers. Registers come by themselves.
pub(super) const ORDER: &[FieldId] = {
    use FieldId::*;
    &[
        PacketType,
        DpHash,
        RecircId,
        ConjId,
        InPort,
        InPhyPort,
        ActsetOutput,
        EthSrc,
        EthDst,
        EthType,
        VlanVid,
        VlanPcp,
        MplsTc,
        MplsBos,
        MplsTtl,
        MplsLabel,
        PbbIsid,
        PbbUca,
        Ipv4Src,
        Ipv4Dst,
        Ipv6Src,
        Ipv6Dst,
        IpFrag,
        IpDscp,
        IpEcn,
        NwTtl,
        Ipv6Label,
        Ipv6Exthdr,
        IpProto,
        TcpSrc,
        TcpDst,
        TcpFlags,
        UdpSrc,
        UdpDst,
        SctpSrc,
        SctpDst,
        Icmpv4Type,
        Icmpv4Code,
        Icmpv6Type,
        Icmpv6Code,
        NdTarget,
        NdSll,
        NdTll,
        ArpOp,
        ArpSpa,
        ArpTpa,
        ArpSha,
        ArpTha,
        TunId,
        TunFlags,
        TunSrc,
        TunDst,
        TunIpv6Src,
        TunIpv6Dst,
        TunGbpId,
        TunGbpFlags,
        TunMetadata0,
        TunErspanIdx,
        TunErspanVer,
        TunErspanDir,
        TunErspanHwid,
        TunGtpuFlags,
        TunGtpuMsgtype,
        NshFlags,
        NshTtl,
        NshMdtype,
        NshNp,
        NshSpi,
        NshSi,
        NshC1,
        NshC2,
        NshC3,
        NshC4,
    ]
};

/// What is written behind the registers.
pub(super) const ORDER_END: &[FieldId] = {
    use FieldId::*;
    &[
        PktMark, CtState, CtZone, CtMark, CtLabel, CtNwSrc, CtIpv6Src, CtNwDst, CtIpv6Dst,
        CtNwProto, CtTpSrc, CtTpDst, Metadata,
    ]
};

/// Writes a match's fields.
pub(crate) fn put_fields(w: &mut Writer, m: &Match, version: u8) -> Result<(), OfError> {
    use FieldId::*;
    let mut rest = m.clone();
    let mut put = |rest: &mut Match, id: FieldId| {
        let info = id.info();
        let (value, mask) = rest.get(id);
        let exact = mask == info.exact_mask();
        if mask == 0 || !m.meets(info.prereq) || (info.mask == MaskRule::Exact && !exact) {
            return;
        }
        // A match on the known flags is none on those that come later.
        let masked = !exact || id == TunFlags;
        put_entry(w, Code::of(id, version), id, value, mask, masked);
        rest.set_masked(id, 0, 0);
    };
    // Priority bits that vlan_pcp cannot say, be it for its prerequisite or for half a mask, go
    // with the rest of the tag as one vlan_tci.
    let (tci, tci_mask) = m.slot(Slot::VlanTci);
    let pcp = tci_mask & 0xe000;
    // Before OpenFlow 1.2 there is only Nicira's field of the whole tag, and of the whole DSCP byte.
    let legacy = version < 3;
    let whole_tag = legacy || pcp != 0 && (pcp != 0xe000 || tci & 0x1000 == 0);
    let mut places = places(m);
    while places != 0 {
        let id = ORDER[places.trailing_zeros() as usize];
        places &= places - 1;
        match id {
            VlanVid if whole_tag => put(&mut rest, VlanTci),
            VlanPcp if whole_tag => {}
            IpDscp if legacy && rest.get(IpDscp).1 == 0x3f => {
                let value = rest.get(IpDscp).0 << 2;
                rest.set_masked(NwTos, value, NwTos.info().exact_mask());
                put(&mut rest, NwTos);
                rest.set_masked(IpEcn, m.get(IpEcn).0, m.get(IpEcn).1);
            }
            TunMetadata0 => {
                for n in options(m) {
                    put(&mut rest, FIELDS[TunMetadata0 as usize + usize::from(n)].id);
                }
            }
            id => put(&mut rest, id),
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
    // OpenFlow 1.5 has its own, of twice the width.
    let registers = if version < 6 {
        Reg0 as usize..=Reg15 as usize
    } else {
        Xreg0 as usize..=Xreg7 as usize
    };
    registers.for_each(|i| put(&mut rest, FIELDS[i].id));
    // Wider views of what is left of a DSCP byte, and such.
    ORDER_END
        .iter()
        .chain(&[VlanTci, NwTos])
        .for_each(|id| put(&mut rest, *id));
    match rest.entries().first() {
        None => Ok(()),
        Some(e) => Err(OfError::new(
            ErrorKind::BadField,
            format!(
                "no field can say {:?}={:#x}/{:#x} of this match; its prerequisites may be missing",
                e.slot, e.value, e.mask
            ),
        )),
    }
}

/// Where in [`ORDER`] the fields are that may say something of a match, a bit for each.
fn places(m: &Match) -> u128 {
    const { assert!(ORDER.len() <= 128) };
    static OF_SLOT: LazyLock<Vec<(Slot, u128)>> = LazyLock::new(|| {
        let mut slots = BTreeMap::new();
        for (i, id) in ORDER.iter().enumerate() {
            *slots.entry(id.info().slot).or_default() |= 1 << i;
        }
        slots.into_iter().collect()
    });
    let of_slot = |e: &MatchEntry| {
        let slot = match e.slot {
            Slot::TunOption(_) => FieldId::TunMetadata0.info().slot,
            s => s,
        };
        let at = OF_SLOT.binary_search_by_key(&slot, |s| s.0);
        at.map_or(0, |i| OF_SLOT[i].1)
    };
    m.entries().iter().map(of_slot).fold(0, |all, p| all | p)
}

/// The tunnel options that a match looks at.
fn options(m: &Match) -> impl Iterator<Item = u8> {
    m.entries().iter().filter_map(|e| match e.slot {
        Slot::TunOption(n) => Some(n),
        _ => None,
    })
}

/// Writes an `ofp_match` of 1.2 and later, with its padding.
pub(crate) fn put_match(w: &mut Writer, m: &Match, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u16(1);
    w.u16(0);
    put_fields(w, m, version)?;
    w.set_len(start + 2, start)?;
    w.pad8(start);
    Ok(())
}

/// Writes one field with its value, as set_field and reg_load2 carry it.
pub(crate) fn put_value(w: &mut Writer, field: FieldId, value: u128, mask: u128, version: u8) {
    let exact = field.info().exact_mask();
    // The standard's in_port cannot be set; Nicira's, of 16 bits, can.
    let (exact, version) = match field {
        FieldId::InPort => (0xffff, 0),
        _ => (exact, version),
    };
    let (value, masked) = (value & mask, mask & exact != exact);
    let value = if field == FieldId::InPort {
        value & exact
    } else {
        value
    };
    put_entry(w, Code::of(field, version), field, value, mask, masked);
}

/// Writes one field with a value that need not be one it may have: a mask, or a packet type.
pub(crate) fn put_exact(w: &mut Writer, field: FieldId, value: u128, version: u8) {
    let code = Code::of(field, version);
    code.put_header(w, false);
    w.uint(value, code.bytes);
}

/// Writes the header with which `version` names a field, of which `s` is a part, in reg_move and the like. Nicira's own
/// actions want version 0.
pub(crate) fn put_name(w: &mut Writer, s: Subfield, version: u8) {
    let version = match (s.field, s.offset + s.bits) {
        // More of in_port than NXM's 16 bits needs the standard's 32-bit field.
        (FieldId::InPort, 0..=16) => 0,
        (FieldId::InPort, _) => version.max(4),
        _ => version,
    };
    Code::of(s.field, version).put_header(w, false);
}

/// The header with which `version` names a field in table features.
pub(crate) fn put_id(w: &mut Writer, field: FieldId, masked: bool, version: u8) {
    Code::of(field, version).put_header(w, masked);
}
