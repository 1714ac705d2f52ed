//! Actions of OpenFlow 1.0 (1.0.0 5.2.4) with Nicira's beside them.
//!
//! 1.0 has no instructions: a flow's actions are what later versions apply. Nicira added a way to
//! write metadata; a goto is told as the resubmit that does the same.

use super::{err, matching, port16, put_port16};
use crate::action::{Action, Instructions, fit_ports, loads};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::matching::Match;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::NICIRA;
use crate::wire::{OF10, action, nicira};

const EXPERIMENTER: u16 = 0xffff;
/// `NXAST_WRITE_METADATA`.
const WRITE_METADATA: u16 = 22;

/// Field writes that have an action of their own: type, field, bytes of the value, of the action.
const WRITES: &[(u16, FieldId, usize, usize)] = &[
    (4, FieldId::EthSrc, 6, 16),
    (5, FieldId::EthDst, 6, 16),
    (6, FieldId::Ipv4Src, 4, 8),
    (7, FieldId::Ipv4Dst, 4, 8),
    (9, FieldId::TcpSrc, 2, 8),
    (10, FieldId::TcpDst, 2, 8),
];

/// Puts a write of a field into the form that 1.0 has for it, so that equal writes are equal: an action of its own, or
/// loads.
fn settle(field: FieldId, value: u128, mask: u128, m: &Match) -> Vec<Action> {
    use FieldId::*;
    let same = |field| vec![Action::SetField { field, value, mask }];
    let exact = field.info().exact_mask();
    if mask & exact == exact {
        match field {
            NwTos => return settle(IpDscp, value >> 2, 0x3f, m),
            EthSrc | EthDst | Ipv4Src | Ipv4Dst | IpDscp => return same(field),
            MplsLabel | MplsTc | MplsTtl => return same(field),
            TcpSrc | UdpSrc | SctpSrc => return same(matching::tp_field(m, false)),
            TcpDst | UdpDst | SctpDst => return same(matching::tp_field(m, true)),
            VlanVid => return vec![Action::SetVlanVid(value as u16 & 0xfff)],
            VlanPcp => return vec![Action::SetVlanPcp(value as u8)],
            _ => {}
        }
    }
    loads(field, value, mask)
}

/// Reads actions to the end of `r`. `m` is what the packets match.
pub(super) fn read(r: &mut Reader<'_>, m: &Match) -> Result<Instructions, OfError> {
    let mut r = Reader::new(r.all(), ErrorKind::BadActionLen);
    let mut out = Instructions::default();
    while !r.is_empty() {
        let (kind, whole, body) = r.tlv(8, 8)?;
        if out.metadata.is_some() {
            return err(
                ErrorKind::UnsupportedOrder,
                "actions behind the one that writes metadata",
            );
        }
        if let Some(metadata) = read_metadata(kind, whole)? {
            out.metadata = Some(metadata);
            continue;
        }
        match read_one(kind, whole, body, m)? {
            Action::SetField { field, value, mask } => {
                out.apply.extend(settle(field, value, mask, m));
            }
            mut a => {
                // Actions inside of another were read without the match.
                fit_ports(std::slice::from_mut(&mut a), m);
                out.apply.push(a);
            }
        }
    }
    Ok(out)
}

fn read_metadata(kind: u16, whole: &[u8]) -> Result<Option<(u64, u64)>, OfError> {
    let mut b = Reader::new(whole, ErrorKind::BadActionLen);
    b.skip(4)?;
    if kind != EXPERIMENTER || b.u32()? != NICIRA || b.u16()? != WRITE_METADATA {
        return Ok(None);
    }
    b.skip(6)?;
    let metadata = (b.u64()?, b.u64()?);
    b.end()?;
    Ok(Some(metadata))
}

/// Reads one action of packets that match `m`: `whole` with its header, `b` behind type and length.
pub(in crate::wire) fn read_one(
    kind: u16,
    whole: &[u8],
    mut b: Reader<'_>,
    m: &Match,
) -> Result<Action, OfError> {
    let want = match kind {
        4 | 5 | 11 => 16,
        0..=10 => 8,
        EXPERIMENTER => return nicira::read_action(whole, b, OF10, 0),
        n => {
            return err(
                ErrorKind::BadActionType,
                format!("action type {n} is not of OpenFlow 1.0"),
            );
        }
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
    if let Some((_, field, bytes, _)) = WRITES.iter().find(|w| w.0 == kind) {
        return Ok(Action::SetField {
            field: match kind {
                9 | 10 => matching::tp_field(m, kind == 10),
                _ => *field,
            },
            value: b.uint(*bytes)?,
            mask: field.info().full_mask(),
        });
    }
    let bad = |what: String| err(ErrorKind::BadArgument, what);
    Ok(match kind {
        0 => Action::Output {
            port: action::out_port(port16(b.u16()?).0)?,
            max_len: b.u16()?,
        },
        1 => match b.u16()? {
            vid @ 0..=0xfff => Action::SetVlanVid(vid),
            vid => return bad(format!("VLAN id {vid} is over 4095")),
        },
        2 => match b.u8()? {
            pcp @ 0..=7 => Action::SetVlanPcp(pcp),
            pcp => return bad(format!("VLAN priority {pcp} is over 7")),
        },
        3 => Action::PopVlan,
        8 => match b.u8()? {
            tos if tos & 3 == 0 => Action::SetField {
                field: FieldId::IpDscp,
                value: u128::from(tos >> 2),
                mask: 0x3f,
            },
            tos => return bad(format!("type of service {tos:#x} has bits of the ECN set")),
        },
        _ => {
            let port = action::out_port(port16(b.u16()?).0)?;
            b.skip(6)?;
            let usable = matches!(port, crate::PortNo::IN_PORT | crate::PortNo::LOCAL);
            if !port.is_physical() && !usable {
                return err(
                    ErrorKind::BadOutPort,
                    format!("enqueue to {port}: only real ports have queues"),
                );
            }
            Action::Enqueue {
                port,
                queue: b.u32()?,
            }
        }
    })
}

/// What becomes of instructions that 1.0 has no form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Left out, as Open vSwitch does when it tells of a flow: better half a flow than no answer.
    LeaveOut,
    /// An error: nobody should get another flow than he asked for.
    Refuse,
}

/// Writes what a flow does.
pub(super) fn put_instructions(
    w: &mut Writer,
    i: &Instructions,
    m: &Match,
    rest: Rest,
) -> Result<(), OfError> {
    let beyond =
        i.meter.is_some() || i.clear_actions || !i.write.is_empty() || i.stat_trigger.is_some();
    let push = i.apply.iter().any(|a| matches!(a, Action::PushVlan(_)));
    if rest == Rest::Refuse && (beyond || push) {
        return err(
            ErrorKind::UnsupInst,
            "OpenFlow 1.0 has no meter, clear_actions, write_actions, stat_trigger and push_vlan",
        );
    }
    put(w, &i.apply, m)?;
    match (i.metadata, i.goto_table) {
        (None, _) => {}
        (Some((value, mask)), None) => {
            w.u16(EXPERIMENTER);
            w.u16(32);
            w.u32(NICIRA);
            w.u16(WRITE_METADATA);
            w.zeros(6);
            w.u64(value);
            w.u64(mask);
        }
        // Nothing may follow the action that writes metadata, so that loads stand in for it.
        (Some((value, mask)), Some(_)) => {
            let (value, mask) = (value.into(), mask.into());
            put(w, &loads(FieldId::Metadata, value, mask), m)?;
        }
    }
    if let Some(table) = i.goto_table {
        let (in_port, table, ct) = (None, Some(table), false);
        nicira::put_action(w, &Action::Resubmit { in_port, table, ct }, OF10)?;
    }
    Ok(())
}

/// Writes actions.
pub(in crate::wire) fn put(w: &mut Writer, actions: &[Action], m: &Match) -> Result<(), OfError> {
    for a in actions {
        match a {
            Action::SetField { field, value, mask } => {
                for a in settle(*field, *value, *mask, m) {
                    put_one(w, &a)?;
                }
            }
            a => put_one(w, a)?,
        }
    }
    Ok(())
}

/// A Nicira action of 16 bytes with 6 behind its subtype.
fn short(w: &mut Writer, sub: u16, body: impl FnOnce(&mut Writer)) {
    let start = w.len();
    w.u16(EXPERIMENTER);
    w.u16(16);
    w.u32(NICIRA);
    w.u16(sub);
    body(w);
    w.zeros(16 - (w.len() - start));
}

fn put_one(w: &mut Writer, a: &Action) -> Result<(), OfError> {
    let start = w.len();
    let head = |w: &mut Writer, kind: u16, len: u16| {
        w.u16(kind);
        w.u16(len);
    };
    match a {
        Action::Output { port, max_len } => {
            head(w, 0, 8);
            put_port16(w, *port)?;
            w.u16(*max_len);
        }
        Action::Enqueue { port, queue } => {
            head(w, 11, 16);
            put_port16(w, *port)?;
            w.zeros(6);
            w.u32(*queue);
        }
        Action::SetVlanVid(vid) => {
            head(w, 1, 8);
            w.u16(vid & 0xfff);
            w.zeros(2);
        }
        Action::SetVlanPcp(pcp) => {
            head(w, 2, 8);
            w.u8(pcp & 7);
            w.zeros(3);
        }
        Action::PopVlan => {
            head(w, 3, 8);
            w.zeros(4);
        }
        // The tag comes with the write of its id or priority that follows.
        Action::PushVlan(_) => {}
        Action::SetField { field, value, mask } if *mask == field.info().full_mask() => {
            let tp = match field {
                FieldId::UdpSrc | FieldId::SctpSrc => FieldId::TcpSrc,
                FieldId::UdpDst | FieldId::SctpDst => FieldId::TcpDst,
                f => *f,
            };
            match (WRITES.iter().find(|w| w.1 == tp), field) {
                (Some((kind, _, bytes, len)), _) => {
                    head(w, *kind, *len as u16);
                    w.uint(*value, *bytes);
                    w.zeros(start + len - w.len());
                }
                (_, FieldId::IpDscp) => {
                    head(w, 8, 8);
                    w.u8((*value as u8) << 2);
                    w.zeros(3);
                }
                (_, FieldId::MplsLabel) => short(w, 30, |w| {
                    w.zeros(2);
                    w.u32(*value as u32);
                }),
                (_, FieldId::MplsTc) => short(w, 31, |w| w.u8(*value as u8)),
                (_, FieldId::MplsTtl) => short(w, 25, |w| w.u8(*value as u8)),
                _ => nicira::put_action(w, a, OF10)?,
            }
        }
        Action::SetQueue(n) | Action::Group(n) => {
            let sub = if matches!(a, Action::Group(_)) { 40 } else { 4 };
            short(w, sub, |w| {
                w.zeros(2);
                w.u32(*n);
            })
        }
        Action::DecTtl(ids) if ids.is_empty() => short(w, 18, |_| {}),
        Action::PushMpls(t) => short(w, 23, |w| w.u16(*t)),
        Action::PopMpls(t) => short(w, 24, |w| w.u16(*t)),
        Action::DecMplsTtl => short(w, 26, |_| {}),
        other => nicira::put_action(w, other, OF10)?,
    }
    Ok(())
}
