//! Actions of OpenFlow 1.1 and later (1.1.0 A.2.5, 1.3.5 7.2.5, 1.5.1 7.2.6), with Nicira's beside them.
//!
//! Every version knows other types, listed in [`ACTION_TYPES`]. What a version has no word for is said in another way if
//! there is one, as Open vSwitch does it: 1.1 has an action for each field that it can write, 1.2 to 1.4 a set_field
//! without masks (Nicira's loads stand in for those), 1.5 one with masks and no need for loads.

use super::cursor::{Reader, Writer};
use super::{nicira, oxm};
use crate::action::{Action, MAX_NESTING, loads};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::matching::Match;
use crate::message::PortNo;

/// The experimenter type of actions and instructions.
pub(super) const EXPERIMENTER: u16 = 0xffff;

/// The standard's action types: number, name, and the first and last version (wire numbers) that have it under this
/// number. 1.2 replaced those that write one field by set_field; Open vSwitch takes them further on, and so does weir.
pub const ACTION_TYPES: &[(u16, &str, u8, u8)] = &[
    (0, "OFPAT_OUTPUT", 1, 6),
    (1, "OFPAT_SET_VLAN_VID", 1, 6),
    (2, "OFPAT_SET_VLAN_PCP", 1, 6),
    (3, "OFPAT_STRIP_VLAN", 1, 1),
    (4, "OFPAT_SET_DL_SRC", 1, 1),
    (5, "OFPAT_SET_DL_DST", 1, 1),
    (6, "OFPAT_SET_NW_SRC", 1, 1),
    (7, "OFPAT_SET_NW_DST", 1, 1),
    (8, "OFPAT_SET_NW_TOS", 1, 1),
    (9, "OFPAT_SET_TP_SRC", 1, 6),
    (10, "OFPAT_SET_TP_DST", 1, 6),
    (11, "OFPAT_ENQUEUE", 1, 1),
    (3, "OFPAT_SET_DL_SRC", 2, 6),
    (4, "OFPAT_SET_DL_DST", 2, 6),
    (5, "OFPAT_SET_NW_SRC", 2, 6),
    (6, "OFPAT_SET_NW_DST", 2, 6),
    (7, "OFPAT_SET_NW_TOS", 2, 6),
    (8, "OFPAT_SET_NW_ECN", 2, 6),
    (11, "OFPAT_COPY_TTL_OUT", 2, 6),
    (12, "OFPAT_COPY_TTL_IN", 2, 6),
    (13, "OFPAT_SET_MPLS_LABEL", 2, 6),
    (14, "OFPAT_SET_MPLS_TC", 2, 6),
    (15, "OFPAT_SET_MPLS_TTL", 2, 6),
    (16, "OFPAT_DEC_MPLS_TTL", 2, 6),
    (17, "OFPAT_PUSH_VLAN", 2, 6),
    (18, "OFPAT_POP_VLAN", 2, 6),
    (19, "OFPAT_PUSH_MPLS", 2, 6),
    (20, "OFPAT_POP_MPLS", 2, 6),
    (21, "OFPAT_SET_QUEUE", 2, 6),
    (22, "OFPAT_GROUP", 2, 6),
    (23, "OFPAT_SET_NW_TTL", 2, 6),
    (24, "OFPAT_DEC_NW_TTL", 2, 6),
    (25, "OFPAT_SET_FIELD", 3, 6),
    (26, "OFPAT_PUSH_PBB", 4, 6),
    (27, "OFPAT_POP_PBB", 4, 6),
    (28, "OFPAT_COPY_FIELD", 6, 6),
    (29, "OFPAT_METER", 6, 6),
    (0xffff, "OFPAT_EXPERIMENTER", 1, 6),
];

/// Whether a version has an action type.
pub(super) fn has_type(kind: u16, version: u8) -> bool {
    ACTION_TYPES
        .iter()
        .any(|t| t.0 == kind && (t.2..=t.3).contains(&version))
}

/// Action types without a body, both ways.
const PLAIN: &[(u16, Action)] = &[
    (11, Action::CopyTtlOut),
    (12, Action::CopyTtlIn),
    (16, Action::DecMplsTtl),
    (18, Action::PopVlan),
    (24, Action::DecTtl(Vec::new())),
    (27, Action::PopPbb),
];

/// Action types that write one field with their first bytes: type, field, bytes.
const WRITES: &[(u16, FieldId, usize)] = &[
    (3, FieldId::EthSrc, 6),
    (4, FieldId::EthDst, 6),
    (5, FieldId::Ipv4Src, 4),
    (6, FieldId::Ipv4Dst, 4),
    (7, FieldId::NwTos, 1),
    (8, FieldId::IpEcn, 1),
    (9, FieldId::TcpSrc, 2),
    (10, FieldId::TcpDst, 2),
    (13, FieldId::MplsLabel, 4),
    (14, FieldId::MplsTc, 1),
    (15, FieldId::MplsTtl, 1),
    (23, FieldId::NwTtl, 1),
];

fn err<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// A port that an action may send to.
pub(super) fn out_port(n: u32) -> Result<PortNo, OfError> {
    let port = PortNo(n);
    if !oxm::port_ok(n) || port == PortNo::ANY || port == PortNo::UNSET {
        return err(
            ErrorKind::BadOutPort,
            format!("output to {port}: there can be no such port"),
        );
    }
    Ok(port)
}

/// Reads actions to the end of `r`.
pub(super) fn read_actions(r: &mut Reader<'_>, version: u8) -> Result<Vec<Action>, OfError> {
    read_nested(r, version, 0)
}

/// Reads actions that stand inside `depth` others.
pub(super) fn read_nested(
    r: &mut Reader<'_>,
    version: u8,
    depth: usize,
) -> Result<Vec<Action>, OfError> {
    if depth > MAX_NESTING {
        return err(
            ErrorKind::BadArgument,
            format!("actions inside of more than {MAX_NESTING} others"),
        );
    }
    let mut r = Reader::new(r.all(), ErrorKind::BadActionLen);
    // Many flows have one action: room for no more than there are, mostly.
    let mut out = Vec::with_capacity(r.len().div_ceil(16));
    while !r.is_empty() {
        let (kind, whole, body) = r.tlv(8, 8)?;
        out.push(if kind == EXPERIMENTER {
            nicira::read_action(whole, body, version, depth)?
        } else if version == super::OF10 {
            super::v10::read_action(kind, whole, body, &Match::new())?
        } else {
            read_action(kind, whole, body, version)?
        });
    }
    Ok(out)
}

fn read_action(kind: u16, whole: &[u8], mut b: Reader<'_>, version: u8) -> Result<Action, OfError> {
    if !has_type(kind, version) {
        return err(
            ErrorKind::BadActionType,
            format!("action type {kind} is not known in this version"),
        );
    }
    // All but those that name fields have one length.
    let want = match kind {
        0 | 3 | 4 => 16,
        25 | 28 => whole.len(),
        _ => 8,
    };
    if whole.len() != want {
        return err(
            ErrorKind::BadActionLen,
            format!(
                "action type {kind} has {} bytes, {want} are right",
                whole.len()
            ),
        );
    }
    if let Some((_, action)) = PLAIN.iter().find(|p| p.0 == kind) {
        return Ok(action.clone());
    }
    if let Some((_, field, bytes)) = WRITES.iter().find(|w| w.0 == kind) {
        return write_field(*field, b.uint(*bytes)?);
    }
    let bad = |what: String| err(ErrorKind::BadArgument, what);
    Ok(match kind {
        0 => Action::Output {
            port: out_port(b.u32()?)?,
            max_len: b.u16()?,
        },
        1 => match b.u16()? {
            vid @ 0..=0xfff => return write_field(FieldId::VlanVid, u128::from(vid) | 0x1000),
            vid => return bad(format!("VLAN id {vid} is over 4095")),
        },
        2 => match b.u8()? {
            pcp @ 0..=7 => return write_field(FieldId::VlanPcp, pcp.into()),
            pcp => return bad(format!("VLAN priority {pcp} is over 7")),
        },
        17 => push_vlan(b.u16()?)?,
        19 => push_mpls(b.u16()?)?,
        20 => Action::PopMpls(b.u16()?),
        21 => Action::SetQueue(b.u32()?),
        22 => Action::Group(b.u32()?),
        25 => set_field(&mut b, version)?,
        26 => match b.u16()? {
            0x88e7 => Action::PushPbb(0x88e7),
            t => return bad(format!("push_pbb of {t:#06x}; only 0x88e7 is PBB")),
        },
        28 => {
            let (bits, from, to) = (b.u16()?, b.u16()?, b.u16()?);
            b.skip(2)?;
            nicira::read_move(&mut b, bits, from, to)?
        }
        _ => Action::Meter(b.u32()?),
    })
}

/// A write of a whole field, as the actions before set_field say it.
fn write_field(field: FieldId, value: u128) -> Result<Action, OfError> {
    let full = field.info().full_mask();
    let (field, value, mask) = match field {
        // The DSCP in its place; the two bits of the ECN have an action of their own.
        FieldId::NwTos if value & 3 == 0 => (FieldId::IpDscp, value >> 2, 0x3f),
        FieldId::NwTos => (field, u128::MAX, full),
        f => (f, value, full),
    };
    if value & !mask != 0 {
        return err(
            ErrorKind::BadArgument,
            format!("the value does not fit {}", field.info().name),
        );
    }
    Ok(Action::SetField { field, value, mask })
}

fn set_field(b: &mut Reader<'_>, version: u8) -> Result<Action, OfError> {
    let (field, value, mask) = oxm::read_value(b)?;
    if b.len() >= 8 || b.peek().iter().any(|p| *p != 0) {
        return err(
            ErrorKind::BadSetArgument,
            "set_field has more behind its field than zero padding",
        );
    }
    let exact = field.info().exact_mask();
    if mask & exact != exact && version < 6 {
        return err(
            ErrorKind::BadSetMask,
            "set_field takes no mask before OpenFlow 1.5",
        );
    }
    // Of a tag that is there, only the rest can be set (1.5.1 7.2.6.7).
    if field == FieldId::VlanVid && value & 0x1000 == 0 {
        return err(
            ErrorKind::BadSetArgument,
            "set_field of vlan_vid has the bit 0x1000 always set",
        );
    }
    Ok(Action::SetField { field, value, mask })
}

pub(super) fn push_vlan(ethertype: u16) -> Result<Action, OfError> {
    if !matches!(ethertype, 0x8100 | 0x88a8) {
        return err(
            ErrorKind::BadArgument,
            format!("push_vlan of {ethertype:#06x}; only 0x8100 and 0x88a8 are VLAN tags"),
        );
    }
    Ok(Action::PushVlan(ethertype))
}

pub(super) fn push_mpls(ethertype: u16) -> Result<Action, OfError> {
    if !matches!(ethertype, 0x8847 | 0x8848) {
        return err(
            ErrorKind::BadArgument,
            format!("push_mpls of {ethertype:#06x}; only 0x8847 and 0x8848 are MPLS"),
        );
    }
    Ok(Action::PushMpls(ethertype))
}

/// Writes actions. `m` is what the packets are known to match: whether OpenFlow 1.0's `mod_vlan_*`
/// has to push a tag first depends on it, and later versions have no conditional push.
pub(super) fn put_actions(
    w: &mut Writer,
    actions: &[Action],
    m: &Match,
    version: u8,
) -> Result<(), OfError> {
    if version == super::OF10 {
        return super::v10::put_actions(w, actions, m);
    }
    let mut tagged = m.meets(crate::field::Prereq::Vlan);
    for a in actions {
        let vlan = match a {
            Action::SetVlanVid(vid) => Some((FieldId::VlanVid, u128::from(*vid & 0xfff) | 0x1000)),
            Action::SetVlanPcp(pcp) => Some((FieldId::VlanPcp, u128::from(*pcp & 7))),
            _ => None,
        };
        if let Some((field, value)) = vlan {
            if !tagged {
                put_action(w, &Action::PushVlan(0x8100), version)?;
            }
            let mask = field.info().full_mask();
            put_action(w, &Action::SetField { field, value, mask }, version)?;
        } else {
            put_action(w, a, version)?;
        }
        tagged = match a {
            Action::PushVlan(_) | Action::SetVlanVid(_) | Action::SetVlanPcp(_) => true,
            Action::PopVlan => false,
            _ => tagged,
        };
    }
    Ok(())
}

fn head(w: &mut Writer, kind: u16) {
    w.u16(kind);
    w.u16(0);
}

fn put_action(w: &mut Writer, a: &Action, version: u8) -> Result<(), OfError> {
    let start = w.len();
    if let Some((kind, _)) = PLAIN.iter().find(|p| p.1 == *a) {
        known(*kind, a, version)?;
        head(w, *kind);
        w.zeros(4);
        return w.set_len(start + 2, start);
    }
    match a {
        Action::Output { port, max_len } => {
            head(w, 0);
            w.u32(port.0);
            w.u16(*max_len);
            w.zeros(6);
        }
        Action::PushVlan(t) | Action::PushMpls(t) | Action::PopMpls(t) | Action::PushPbb(t) => {
            let kind = match a {
                Action::PushVlan(_) => 17,
                Action::PushMpls(_) => 19,
                Action::PopMpls(_) => 20,
                _ => 26,
            };
            known(kind, a, version)?;
            head(w, kind);
            w.u16(*t);
            w.zeros(2);
        }
        Action::SetQueue(n) | Action::Group(n) | Action::Meter(n) => {
            let kind = match a {
                Action::SetQueue(_) => 21,
                Action::Group(_) => 22,
                _ => 29,
            };
            known(kind, a, version)?;
            head(w, kind);
            w.u32(*n);
        }
        Action::SetField { field, value, mask } => {
            return put_set_field(w, *field, *value, *mask, version);
        }
        Action::Load { target, value } if version >= 6 => {
            let (value, mask) = Action::load_as_masked(*target, *value);
            return put_set_field(w, target.field, value, mask, version);
        }
        Action::SetTunnel { id, .. } if version >= 3 => {
            return put_set_field(w, FieldId::TunId, (*id).into(), u64::MAX.into(), version);
        }
        Action::Move { source, target } if version >= 6 => {
            head(w, 28);
            w.u16(source.bits.into());
            w.u16(source.offset.into());
            w.u16(target.offset.into());
            w.zeros(2);
            oxm::put_name(w, *source, version);
            oxm::put_name(w, *target, version);
            w.pad8(start);
        }
        Action::Enqueue { port, queue } => {
            // Later versions say it in two steps, and a third to come back.
            put_action(w, &Action::SetQueue(*queue), version)?;
            let (port, max_len) = (*port, u16::MAX);
            put_action(w, &Action::Output { port, max_len }, version)?;
            return put_action(w, &Action::PopQueue, version);
        }
        other => return nicira::put_action(w, other, version),
    }
    w.set_len(start + 2, start)
}

/// That a version has the type that an action needs.
fn known(kind: u16, a: &Action, version: u8) -> Result<(), OfError> {
    if has_type(kind, version) {
        return Ok(());
    }
    err(
        ErrorKind::BadActionType,
        format!("this version has no form for {a:?}"),
    )
}

fn put_set_field(
    w: &mut Writer,
    field: FieldId,
    value: u128,
    mask: u128,
    version: u8,
) -> Result<(), OfError> {
    let info = field.info();
    if !info.writable {
        return err(
            ErrorKind::BadSetArgument,
            format!("{} can not be written", info.name),
        );
    }
    if field == FieldId::NwTos && version == 2 {
        return put_set_field(w, FieldId::IpDscp, value >> 2, mask >> 2, version);
    }
    let start = w.len();
    let full = mask & info.exact_mask() == info.exact_mask();
    let own = |f: FieldId| WRITES.iter().find(|w| w.1 == f);
    let lone = match field {
        // These have an action of their own in all versions.
        FieldId::NwTtl | FieldId::MplsTtl => own(field),
        _ if version > 2 => None,
        FieldId::UdpSrc | FieldId::SctpSrc => own(FieldId::TcpSrc),
        FieldId::UdpDst | FieldId::SctpDst => own(FieldId::TcpDst),
        FieldId::IpDscp => own(FieldId::NwTos),
        f => own(f),
    };
    match (lone, field) {
        (Some((kind, _, bytes)), _) if full => {
            let shift = if field == FieldId::IpDscp { 2 } else { 0 };
            head(w, *kind);
            w.uint(value << shift, *bytes);
            w.pad8(start);
        }
        (None, FieldId::VlanVid) if full && version == 2 => {
            head(w, 1);
            w.u16(value as u16 & 0xfff);
            w.zeros(2);
        }
        (None, FieldId::VlanPcp) if full && version == 2 => {
            head(w, 2);
            w.u8(value as u8);
            w.zeros(3);
        }
        _ if full && version >= 3 || version >= 6 => {
            head(w, 25);
            oxm::put_value(w, field, value, mask, version);
            w.pad8(start);
        }
        _ => {
            return loads(field, value, mask)
                .iter()
                .try_for_each(|a| nicira::put_action(w, a, version));
        }
    }
    w.set_len(start + 2, start)
}
