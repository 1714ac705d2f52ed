//! Nicira's actions (`nx_action_*`).
//!
//! Actions that are known to exist but have no model are kept as [`Action::Raw`]; who carries
//! actions out refuses those.

use super::{err, port16, reason, reason_number};
use crate::action::{Action, PacketInReason, RawAction, Subfield};
use crate::error::{ErrorKind, OfError};
use crate::message::PortNo;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::{self, NICIRA};
use bytes::Bytes;

/// Subtypes of Nicira actions that exist but have no model here.
const RAW_SUBTYPES: &[u16] = &[
    10, 12, 13, 16, 19, 27, 28, 29, 32, 34, 35, 36, 38, 39, 41, 42, 43, 45, 46, 47, 48, 49, 50,
];

fn subfield(
    field: (crate::FieldId, usize),
    offset: usize,
    bits: usize,
) -> Result<Subfield, OfError> {
    if bits == 0 || offset + bits > field.1 {
        return err(
            ErrorKind::BadArgument,
            format!(
                "bits {offset} to {} of {}, which has {}",
                (offset + bits).saturating_sub(1),
                field.0.info().name,
                field.1
            ),
        );
    }
    Ok(Subfield {
        field: field.0,
        offset: offset as u8,
        bits: bits as u8,
    })
}

fn writable(s: Subfield) -> Result<Subfield, OfError> {
    if s.field.info().writable {
        Ok(s)
    } else {
        err(
            ErrorKind::BadArgument,
            format!("{} can not be written", s.field.info().name),
        )
    }
}

/// Reads an experimenter action: `whole` with its header, `b` behind type and length.
pub(in crate::wire) fn read_action(
    whole: &[u8],
    mut b: Reader<'_>,
    version: u8,
) -> Result<Action, OfError> {
    let experimenter = b.u32()?;
    if experimenter != NICIRA {
        return err(
            ErrorKind::BadActionExperimenter,
            format!("actions of experimenter {experimenter:#010x} are not known"),
        );
    }
    let sub = b.u16()?;
    let want = match sub {
        1 | 2 | 4 | 5 | 14 | 17 | 18 | 20 | 23 | 24 | 25 | 26 | 30 | 31 | 40 | 44 => 16,
        6 | 7 | 9 | 15 => 24,
        _ => whole.len(),
    };
    // REG_MOVE, REG_LOAD and OUTPUT_REG are longer only for experimenter fields, none of which has
    // a use in them.
    if whole.len() != want {
        return err(
            ErrorKind::BadActionLen,
            format!(
                "Nicira action {sub} has {} bytes, {want} are right",
                whole.len()
            ),
        );
    }
    Ok(match sub {
        1 | 14 | 44 => {
            let (port, table) = (b.u16()?, b.u8()?);
            let in_port = Some(port16(port)).filter(|p| *p != PortNo::IN_PORT);
            let table = Some(table).filter(|t| sub != 1 && *t != 0xff);
            Action::Resubmit {
                in_port,
                table,
                ct: sub == 44,
            }
        }
        2 | 9 => {
            b.skip(if sub == 2 { 2 } else { 6 })?;
            let value = if sub == 2 { b.u32()?.into() } else { b.u64()? };
            Action::SetField {
                field: crate::FieldId::TunId,
                value: value.into(),
                mask: u64::MAX.into(),
            }
        }
        4 => {
            b.skip(2)?;
            Action::SetQueue(b.u32()?)
        }
        5 => Action::PopQueue,
        6 => {
            let (bits, from, to) = (b.u16()?, b.u16()?, b.u16()?);
            let source = subfield(oxm::read_name(&mut b)?, from.into(), bits.into())?;
            let target = subfield(oxm::read_name(&mut b)?, to.into(), bits.into())?;
            Action::Move {
                source,
                target: writable(target)?,
            }
        }
        7 => {
            let (offset, bits) = ofs_bits(b.u16()?);
            let target = writable(subfield(oxm::read_name(&mut b)?, offset, bits)?)?;
            let value = b.u64()?;
            if target.bits < 64 && value >> target.bits != 0 {
                return err(
                    ErrorKind::BadArgument,
                    format!("{value:#x} does not fit the {} bits loaded", target.bits),
                );
            }
            Action::Load { target, value }
        }
        8 => Action::Note(Bytes::copy_from_slice(b.all())),
        15 => {
            let (offset, bits) = ofs_bits(b.u16()?);
            let source = subfield(oxm::read_name(&mut b)?, offset, bits)?;
            let max_len = b.u16()?;
            if b.all().iter().any(|z| *z != 0) {
                return err(
                    ErrorKind::BadArgument,
                    "output_reg has padding that is not zero",
                );
            }
            Action::OutputReg { source, max_len }
        }
        17 => Action::Exit,
        18 => Action::DecTtl(Vec::new()),
        20 => {
            let (max_len, id) = (b.u16()?, b.u16()?);
            Action::Controller {
                max_len,
                id,
                reason: controller_reason(b.u8()?)?,
                userdata: Bytes::new(),
                pause: false,
                meter: None,
            }
        }
        21 => {
            let n = usize::from(b.u16()?);
            b.skip(4)?;
            let mut ids = b.sub(n * 2, ErrorKind::BadActionLen)?;
            let ids: Vec<u16> = (0..n).map(|_| ids.u16()).collect::<Result<_, _>>()?;
            if ids.is_empty() || b.len() >= 8 {
                return err(
                    ErrorKind::BadActionLen,
                    "dec_ttl with ids has none, or bytes behind them",
                );
            }
            Action::DecTtl(ids)
        }
        23 => crate::wire::action::push_mpls(b.u16()?)?,
        24 => Action::PopMpls(b.u16()?),
        25 => Action::SetField {
            field: crate::FieldId::MplsTtl,
            value: b.u8()?.into(),
            mask: 0xff,
        },
        26 => Action::DecMplsTtl,
        30 | 31 => {
            b.skip(if sub == 30 { 2 } else { 0 })?;
            let (field, value) = match sub {
                30 => (crate::FieldId::MplsLabel, b.u32()?),
                _ => (crate::FieldId::MplsTc, b.u8()?.into()),
            };
            let mask = field.info().full_mask();
            if u128::from(value) > mask {
                return err(
                    ErrorKind::BadArgument,
                    format!("{value} does not fit {}", field.info().name),
                );
            }
            Action::SetField {
                field,
                value: value.into(),
                mask,
            }
        }
        40 => {
            b.skip(2)?;
            Action::Group(b.u32()?)
        }
        33 => {
            b.skip(6)?;
            let (field, value, mask) = oxm::read_value(&mut b)?;
            if b.len() >= 8 || mask == 0 {
                return err(
                    ErrorKind::BadSetArgument,
                    "reg_load2 has bytes behind its field, or a mask of zero",
                );
            }
            Action::SetField { field, value, mask }
        }
        37 => controller2(b)?,
        n if RAW_SUBTYPES.contains(&n) => Action::Raw(RawAction {
            version,
            bytes: Bytes::copy_from_slice(whole),
        }),
        n => {
            return err(
                ErrorKind::BadActionExpType,
                format!("Nicira action {n} is not known"),
            );
        }
    })
}

fn ofs_bits(n: u16) -> (usize, usize) {
    (usize::from(n >> 6), usize::from(n & 63) + 1)
}

fn controller_reason(n: u8) -> Result<PacketInReason, OfError> {
    match reason(n) {
        Some(r) => Ok(r),
        None => err(
            ErrorKind::BadArgument,
            format!("{n} is no reason for a packet-in"),
        ),
    }
}

/// NXAST_CONTROLLER2's properties.
fn controller2(mut b: Reader<'_>) -> Result<Action, OfError> {
    let (mut max_len, mut id, mut reason) = (0xffff, 0, PacketInReason::Action);
    let (mut userdata, mut pause) = (Bytes::new(), false);
    b.skip(6)?;
    while !b.is_empty() {
        let (kind, whole, mut p) = b.tlv(4, 1)?;
        b.skip(whole.len().next_multiple_of(8) - whole.len())?;
        match kind {
            0 => max_len = p.u16()?,
            1 => id = p.u16()?,
            2 => reason = controller_reason(p.u8()?)?,
            3 => userdata = Bytes::copy_from_slice(p.all()),
            4 => pause = true,
            n => {
                return err(
                    ErrorKind::BadArgument,
                    format!("controller action property {n} is not known"),
                );
            }
        }
    }
    Ok(Action::Controller {
        max_len,
        id,
        reason,
        userdata,
        pause,
        meter: None,
    })
}

/// Writes an action of the model that the standard has no form for.
pub(in crate::wire) fn put_action(w: &mut Writer, a: &Action) -> Result<(), OfError> {
    let start = w.len();
    let head = |w: &mut Writer, sub: u16| {
        w.u16(0xffff);
        w.u16(0);
        w.u32(NICIRA);
        w.u16(sub);
    };
    let name = |w: &mut Writer, s: Subfield| {
        oxm::put_name(w, s.field, usize::from(s.offset) + usize::from(s.bits));
    };
    let run = |s: &Subfield| {
        if (1..=64).contains(&s.bits) {
            Ok(u16::from(s.offset) << 6 | u16::from(s.bits - 1))
        } else {
            err(
                ErrorKind::BadArgument,
                format!("{} bits at once; 64 is the most", s.bits),
            )
        }
    };
    match a {
        Action::Resubmit { in_port, table, ct } => {
            let port = in_port.unwrap_or(PortNo::IN_PORT).0;
            head(
                w,
                match (table, ct) {
                    (_, true) => 44,
                    (None, false) => 1,
                    (Some(_), false) => 14,
                },
            );
            w.u16(port as u16);
            // The plain form leaves the table's byte zero.
            w.u8(table.unwrap_or(if *ct { 0xff } else { 0 }));
            w.zeros(3);
        }
        Action::PopQueue => {
            head(w, 5);
            w.zeros(6);
        }
        Action::Exit => {
            head(w, 17);
            w.zeros(6);
        }
        Action::Move { source, target } => {
            head(w, 6);
            w.u16(source.bits.into());
            w.u16(source.offset.into());
            w.u16(target.offset.into());
            name(w, *source);
            name(w, *target);
        }
        Action::Load { target, value } => {
            head(w, 7);
            w.u16(run(target)?);
            name(w, *target);
            w.u64(*value);
        }
        Action::OutputReg { source, max_len } => {
            head(w, 15);
            w.u16(run(source)?);
            name(w, *source);
            w.u16(*max_len);
            w.zeros(6);
        }
        Action::SetField { field, value, mask } => {
            head(w, 33);
            w.zeros(6);
            oxm::put_value(w, *field, *value, *mask, 0);
            w.pad8(start);
        }
        Action::Note(data) => {
            head(w, 8);
            w.put(data);
            w.pad8(start);
        }
        Action::DecTtl(ids) => {
            head(w, 21);
            w.u16(ids.len() as u16);
            w.zeros(4);
            for id in ids {
                w.u16(*id);
            }
            w.pad8(start);
        }
        Action::Controller {
            max_len,
            reason,
            id,
            userdata,
            pause: false,
            meter: None,
        } if userdata.is_empty() => {
            head(w, 20);
            w.u16(*max_len);
            w.u16(*id);
            w.u8(reason_number(*reason));
            w.u8(0);
        }
        Action::Controller {
            max_len,
            reason,
            id,
            userdata,
            pause,
            meter: None,
        } => {
            head(w, 37);
            w.zeros(6);
            let prop = |w: &mut Writer, kind: u16, body: &[u8]| {
                let at = w.len();
                w.u16(kind);
                w.u16(0);
                w.put(body);
                w.set_len(at + 2, at)?;
                w.pad8(start);
                Ok::<_, OfError>(())
            };
            if *max_len != 0xffff {
                prop(w, 0, &max_len.to_be_bytes())?;
            }
            if *id != 0 {
                prop(w, 1, &id.to_be_bytes())?;
            }
            if *reason != PacketInReason::Action {
                prop(w, 2, &[reason_number(*reason)])?;
            }
            if !userdata.is_empty() {
                prop(w, 3, userdata)?;
            }
            if *pause {
                prop(w, 4, &[])?;
            }
        }
        other => {
            return err(
                ErrorKind::BadActionType,
                format!("{other:?} has no form on the wire here"),
            );
        }
    }
    w.set_len(start + 2, start)
}
