//! Actions and instructions of OpenFlow 1.1 and later (1.3.5 7.2.4, 7.2.5).

use super::cursor::{Reader, Writer};
use super::{nicira, oxm};
use crate::action::{Action, Instructions};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::matching::Match;
use crate::message::PortNo;

/// The experimenter type of actions and instructions.
const EXPERIMENTER: u16 = 0xffff;

/// Action types without a body, both ways.
const PLAIN: &[(u16, Action)] = &[
    (11, Action::CopyTtlOut),
    (12, Action::CopyTtlIn),
    (16, Action::DecMplsTtl),
    (18, Action::PopVlan),
    (24, Action::DecTtl(Vec::new())),
];

/// Action types that write one byte of a field, both ways.
const BYTE: &[(u16, FieldId)] = &[(15, FieldId::MplsTtl), (23, FieldId::NwTtl)];

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
    let mut r = Reader::new(r.all(), ErrorKind::BadActionLen);
    // Many flows have one action: room for no more than there are, mostly.
    let mut out = Vec::with_capacity(r.len().div_ceil(16));
    while !r.is_empty() {
        let (kind, whole, body) = r.tlv(8, 8)?;
        out.push(read_action(kind, whole, body, version)?);
    }
    Ok(out)
}

fn read_action(kind: u16, whole: &[u8], mut b: Reader<'_>, version: u8) -> Result<Action, OfError> {
    // All but set_field and experimenters have one length.
    let want = match kind {
        0 => 16,
        25 | EXPERIMENTER => whole.len(),
        _ => 8,
    };
    if let Some((_, action)) = PLAIN.iter().find(|p| p.0 == kind) {
        check_len(kind, whole, want)?;
        return Ok(action.clone());
    }
    if let Some((_, field)) = BYTE.iter().find(|p| p.0 == kind) {
        check_len(kind, whole, want)?;
        return Ok(Action::SetField {
            field: *field,
            value: b.u8()?.into(),
            mask: 0xff,
        });
    }
    if !matches!(kind, 0 | 17 | 19 | 20 | 21 | 22 | 25 | EXPERIMENTER) {
        return err(
            ErrorKind::BadActionType,
            format!("action type {kind} is not known"),
        );
    }
    check_len(kind, whole, want)?;
    Ok(match kind {
        0 => Action::Output {
            port: out_port(b.u32()?)?,
            max_len: b.u16()?,
        },
        17 => match b.u16()? {
            t @ (0x8100 | 0x88a8) => Action::PushVlan(t),
            t => {
                return err(
                    ErrorKind::BadArgument,
                    format!("push_vlan of {t:#06x}; only 0x8100 and 0x88a8 are VLAN tags"),
                );
            }
        },
        19 => push_mpls(b.u16()?)?,
        20 => Action::PopMpls(b.u16()?),
        21 => Action::SetQueue(b.u32()?),
        22 => Action::Group(b.u32()?),
        25 => {
            let (field, value, mask) = oxm::read_value(&mut b)?;
            if b.len() >= 8 || b.peek().iter().any(|p| *p != 0) {
                return err(
                    ErrorKind::BadSetLen,
                    "set_field has more behind its field than zero padding",
                );
            }
            if mask != field.info().full_mask() && version < 6 {
                return err(
                    ErrorKind::BadSetArgument,
                    "set_field takes no mask before OpenFlow 1.5",
                );
            }
            Action::SetField { field, value, mask }
        }
        _ => nicira::read_action(whole, b, version)?,
    })
}

fn check_len(kind: u16, whole: &[u8], want: usize) -> Result<(), OfError> {
    if whole.len() == want {
        return Ok(());
    }
    err(
        ErrorKind::BadActionLen,
        format!(
            "action type {kind} has {} bytes, {want} are right",
            whole.len()
        ),
    )
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

fn put_action(w: &mut Writer, a: &Action, version: u8) -> Result<(), OfError> {
    let start = w.len();
    let head = |w: &mut Writer, kind: u16| {
        w.u16(kind);
        w.u16(0);
    };
    if let Some((kind, _)) = PLAIN.iter().find(|p| p.1 == *a) {
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
        Action::PushVlan(t) | Action::PushMpls(t) | Action::PopMpls(t) => {
            head(
                w,
                match a {
                    Action::PushVlan(_) => 17,
                    Action::PushMpls(_) => 19,
                    _ => 20,
                },
            );
            w.u16(*t);
            w.zeros(2);
        }
        Action::SetQueue(n) | Action::Group(n) => {
            head(
                w,
                if matches!(a, Action::Group(_)) {
                    22
                } else {
                    21
                },
            );
            w.u32(*n);
        }
        Action::SetField { field, value, mask } => {
            if !field.info().writable {
                return err(
                    ErrorKind::BadSetArgument,
                    format!("{} can not be written", field.info().name),
                );
            }
            let full = *mask == field.info().full_mask();
            match BYTE.iter().find(|b| b.1 == *field) {
                Some((kind, _)) if full => {
                    head(w, *kind);
                    w.u8(*value as u8);
                    w.zeros(3);
                }
                _ if full || version >= 6 => {
                    head(w, 25);
                    oxm::put_value(w, *field, *value, *mask, version);
                    w.pad8(start);
                }
                _ => return nicira::put_action(w, a),
            }
        }
        Action::Enqueue { port, queue } => {
            // Later versions say it in two steps, and a third to come back.
            put_action(w, &Action::SetQueue(*queue), version)?;
            let (port, max_len) = (*port, 0);
            put_action(w, &Action::Output { port, max_len }, version)?;
            return put_action(w, &Action::PopQueue, version);
        }
        Action::SetVlanVid(_) | Action::SetVlanPcp(_) => {
            return err(
                ErrorKind::BadActionType,
                "mod_vlan is spelled out by the caller",
            );
        }
        Action::Raw(raw) => {
            if raw.version != version {
                return err(
                    ErrorKind::BadActionType,
                    format!(
                        "an action kept as bytes of version {:#x} cannot be sent in version {version:#x}",
                        raw.version
                    ),
                );
            }
            w.put(&raw.bytes);
            return Ok(());
        }
        other => return nicira::put_action(w, other),
    }
    w.set_len(start + 2, start)
}

/// Reads instructions to the end of `r`.
pub(super) fn read_instructions(r: &mut Reader<'_>, version: u8) -> Result<Instructions, OfError> {
    let mut r = Reader::new(r.all(), ErrorKind::BadInstLen);
    let mut out = Instructions::default();
    let mut seen = 0u32;
    while !r.is_empty() {
        let (kind, whole, mut b) = r.tlv(8, 8)?;
        let want = match kind {
            1 | 5 | 6 => 8,
            2 => 24,
            3 | 4 => whole.len(),
            EXPERIMENTER => {
                return err(
                    ErrorKind::BadInstExperimenter,
                    "experimenter instructions are not known",
                );
            }
            _ => {
                return err(
                    ErrorKind::UnknownInst,
                    format!("instruction type {kind} is not known"),
                );
            }
        };
        if whole.len() != want {
            return err(
                ErrorKind::BadInstLen,
                format!(
                    "instruction type {kind} has {} bytes, {want} are right",
                    whole.len()
                ),
            );
        }
        if seen & 1 << kind != 0 {
            return err(
                ErrorKind::DupInst,
                format!("instruction type {kind} is there twice"),
            );
        }
        seen |= 1 << kind;
        match kind {
            1 => out.goto_table = Some(b.u8()?),
            2 => {
                b.skip(4)?;
                out.metadata = Some((b.u64()?, b.u64()?));
            }
            3 | 4 => {
                b.skip(4)?;
                let actions = read_actions(&mut b, version)?;
                *(if kind == 3 {
                    &mut out.write
                } else {
                    &mut out.apply
                }) = actions;
            }
            5 => out.clear_actions = true,
            _ => out.meter = Some(b.u32()?),
        }
    }
    Ok(out)
}

/// Writes instructions in the order in which they are carried out.
pub(super) fn put_instructions(
    w: &mut Writer,
    i: &Instructions,
    m: &Match,
    version: u8,
) -> Result<(), OfError> {
    if let Some(meter) = i.meter {
        w.u16(6);
        w.u16(8);
        w.u32(meter);
    }
    let actions = |w: &mut Writer, kind: u16, actions: &[Action]| {
        let start = w.len();
        w.u16(kind);
        w.u16(0);
        w.zeros(4);
        put_actions(w, actions, m, version)?;
        w.set_len(start + 2, start)
    };
    if !i.apply.is_empty() {
        actions(w, 4, &i.apply)?;
    }
    if i.clear_actions {
        w.u16(5);
        w.u16(8);
        w.zeros(4);
    }
    if !i.write.is_empty() {
        actions(w, 3, &i.write)?;
    }
    if let Some((value, mask)) = i.metadata {
        w.u16(2);
        w.u16(24);
        w.zeros(4);
        w.u64(value);
        w.u64(mask);
    }
    if let Some(table) = i.goto_table {
        w.u16(1);
        w.u16(8);
        w.u8(table);
        w.zeros(3);
    }
    Ok(())
}
