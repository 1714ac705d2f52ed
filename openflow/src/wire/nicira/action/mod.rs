//! Nicira's actions (`nx_action_*`), as Open vSwitch sends and takes them.
//!
//! * `types` — the list of them
//! * here — those that fit a few lines
//! * `controller`, `learn`, `spread` (multipath and bundle), `conntrack`, `encap` — the larger ones

mod conntrack;
mod controller;
mod encap;
mod learn;
mod spread;
mod types;

pub use types::{NICIRA_ACTIONS, ONF_COPY_FIELD};

use super::{err, port16};
use crate::action::{Action, PacketInReason, Sample, SampleDirection, Subfield};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::matching::Match;
use crate::message::PortNo;
use crate::wire::action::{self, EXPERIMENTER};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::{self, NICIRA, ONF};
use bytes::Bytes;

fn bad<T>(detail: impl Into<String>) -> Result<T, OfError> {
    err(ErrorKind::BadArgument, detail)
}

/// What must be zero up to the action's end, is.
fn zeros(b: &mut Reader<'_>) -> Result<(), OfError> {
    if b.all().iter().all(|z| *z == 0) {
        Ok(())
    } else {
        err(
            ErrorKind::MustBeZero,
            "bytes that are reserved for later are not zero",
        )
    }
}

/// Bits of a named field, checked.
fn subfield(b: &mut Reader<'_>, offset: usize, bits: usize) -> Result<Subfield, OfError> {
    let (field, width) = oxm::read_name(b)?;
    if bits == 0 || offset + bits > width {
        return bad(format!(
            "bits {offset} to {} of {}, which has {width}",
            (offset + bits).saturating_sub(1),
            field.info().name,
        ));
    }
    Ok(Subfield {
        field,
        offset: offset as u8,
        bits: bits as u8,
    })
}

/// Such bits, of a field that may be written.
fn target(b: &mut Reader<'_>, offset: usize, bits: usize) -> Result<Subfield, OfError> {
    let s = subfield(b, offset, bits)?;
    if s.field.info().writable {
        return Ok(s);
    }
    err(
        ErrorKind::BadSetArgument,
        format!("{} can not be written", s.field.info().name),
    )
}

/// Offset and number of bits as `nxm_ofs_nbits` packs them.
fn ofs_bits(n: u16) -> (usize, usize) {
    (usize::from(n >> 6), usize::from(n & 63) + 1)
}

fn put_ofs_bits(w: &mut Writer, s: Subfield) -> Result<(), OfError> {
    if !(1..=64).contains(&s.bits) {
        return bad(format!("{} bits at once; 64 is the most", s.bits));
    }
    w.u16(u16::from(s.offset) << 6 | u16::from(s.bits - 1));
    Ok(())
}

/// Names a field where there is room for a header of four bytes only.
fn put_short_name(w: &mut Writer, s: Subfield) -> Result<(), OfError> {
    if oxm::is_experimenter(s.field) {
        return bad(format!(
            "{} is an experimenter's field, which this action cannot name",
            s.field.info().name
        ));
    }
    oxm::put_name(w, s, 0);
    Ok(())
}

/// Reads the two fields of reg_move and copy_field.
pub(in crate::wire) fn read_move(
    b: &mut Reader<'_>,
    bits: u16,
    from: u16,
    to: u16,
) -> Result<Action, OfError> {
    let source = subfield(b, from.into(), bits.into())?;
    let target = target(b, to.into(), bits.into())?;
    zeros(b)?;
    Ok(Action::Move { source, target })
}

/// Reads an experimenter action: `whole` with its header, `b` behind type and length. It stands inside `depth` others.
pub(in crate::wire) fn read_action(
    whole: &[u8],
    mut b: Reader<'_>,
    version: u8,
    depth: usize,
) -> Result<Action, OfError> {
    let experimenter = b.u32()?;
    let sub = b.u16()?;
    match (experimenter, sub) {
        (NICIRA, _) => {}
        (ONF, ONF_COPY_FIELD) if (4..6).contains(&version) => {
            b.skip(2)?;
            let (bits, from, to) = (b.u16()?, b.u16()?, b.u16()?);
            b.skip(2)?;
            return read_move(&mut b, bits, from, to);
        }
        (ONF, n) => {
            return err(
                ErrorKind::BadActionExpType,
                format!("the ONF's action {n} is not known in this version"),
            );
        }
        (e, _) => {
            return err(
                ErrorKind::BadActionExperimenter,
                format!("actions of experimenter {e:#010x} are not known"),
            );
        }
    }
    let row = NICIRA_ACTIONS
        .iter()
        .find(|r| r.0 == sub && r.4 <= version && r.0 != 22);
    let Some((_, name, len, more, _)) = row else {
        return err(
            ErrorKind::BadActionExpType,
            format!("Nicira action {sub} is not known in this version"),
        );
    };
    if whole.len() < *len || !more && whole.len() != *len {
        return err(
            ErrorKind::BadActionLen,
            format!("{name} has {} bytes, {len} are right", whole.len()),
        );
    }
    Ok(match sub {
        1 | 14 | 44 => read_resubmit(&mut b, sub)?,
        2 => {
            b.skip(2)?;
            let (id, wide) = (b.u32()?.into(), false);
            Action::SetTunnel { id, wide }
        }
        9 => {
            b.skip(6)?;
            let (id, wide) = (b.u64()?, true);
            Action::SetTunnel { id, wide }
        }
        4 => {
            b.skip(2)?;
            Action::SetQueue(b.u32()?)
        }
        5 => Action::PopQueue,
        6 => {
            let (bits, from, to) = (b.u16()?, b.u16()?, b.u16()?);
            read_move(&mut b, bits, from, to)?
        }
        7 => {
            let (offset, bits) = ofs_bits(b.u16()?);
            let target = target(&mut b, offset, bits)?;
            let value = b.u64()?;
            if target.bits < 64 && value >> target.bits != 0 {
                return bad(format!(
                    "{value:#x} does not fit the {} bits loaded",
                    target.bits
                ));
            }
            if target.field.info().is_option() {
                // Options are written as set_fields.
                let (value, mask) = Action::load_as_masked(target, value);
                let field = target.field;
                return Ok(Action::SetField { field, value, mask });
            }
            Action::Load { target, value }
        }
        8 => Action::Note(Bytes::copy_from_slice(b.all())),
        10 => spread::read_multipath(b)?,
        12 | 13 => spread::read_bundle(b, sub == 13)?,
        15 => {
            let (offset, bits) = ofs_bits(b.u16()?);
            let source = subfield(&mut b, offset, bits)?;
            let max_len = b.u16()?;
            if b.all().iter().any(|z| *z != 0) {
                return bad("output_reg has padding that is not zero");
            }
            Action::OutputReg { source, max_len }
        }
        32 => {
            let (offset, bits) = ofs_bits(b.u16()?);
            let max_len = b.u16()?;
            let source = subfield(&mut b, offset, bits)?;
            zeros(&mut b)?;
            Action::OutputReg { source, max_len }
        }
        16 | 45 => learn::read(b, sub == 45)?,
        17 => Action::Exit,
        18 => Action::DecTtl(Vec::new()),
        19 => {
            let (idle, hard) = (b.u16()?, b.u16()?);
            Action::FinTimeout { idle, hard }
        }
        20 => controller::read(b)?,
        37 => controller::read2(b)?,
        21 => {
            let n = usize::from(b.u16()?);
            if b.take(4)?.iter().any(|z| *z != 0) {
                return err(
                    ErrorKind::MustBeZero,
                    "dec_ttl has padding that is not zero",
                );
            }
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
        23 => action::push_mpls(b.u16()?)?,
        24 => Action::PopMpls(b.u16()?),
        25 => write_field(FieldId::MplsTtl, b.u8()?.into())?,
        26 => Action::DecMplsTtl,
        27 | 28 => {
            let offset = usize::from(b.u16()?);
            // The number of bits comes behind the name.
            let mut behind = b.clone();
            oxm::read_name(&mut behind)?;
            let bits = usize::from(behind.u16()?);
            zeros(&mut behind)?;
            if sub == 27 {
                Action::Push(subfield(&mut b, offset, bits)?)
            } else {
                Action::Pop(target(&mut b, offset, bits)?)
            }
        }
        29 | 38 | 41 => read_sample(b, sub)?,
        30 => {
            b.skip(2)?;
            write_field(FieldId::MplsLabel, b.u32()?.into())?
        }
        31 => write_field(FieldId::MplsTc, b.u8()?.into())?,
        33 => {
            let (field, value, mask) = oxm::read_value(&mut b)?;
            if b.len() >= 8 || b.all().iter().any(|z| *z != 0) || mask == 0 {
                return err(
                    ErrorKind::BadSetArgument,
                    "reg_load2 has bytes behind its field, or a mask of zero",
                );
            }
            Action::SetField { field, value, mask }
        }
        34 => {
            let (clause, clauses, id) = (b.u8()?, b.u8()?, b.u32()?);
            if !(2..=64).contains(&clauses) || clause >= clauses {
                return err(
                    ErrorKind::BadConjunction,
                    format!("clause {clause} of {clauses}; 2 to 64 clauses are right"),
                );
            }
            Action::Conjunction {
                id,
                clause,
                clauses,
            }
        }
        35 => conntrack::read(b, version, depth)?,
        36 => conntrack::read_nat(b)?,
        39 => {
            let (port, max_len) = (port16(b.u16()?), b.u32()?);
            if max_len < ETH_HEADER_LEN {
                return bad(format!(
                    "output of {max_len} bytes; a header has {ETH_HEADER_LEN}"
                ));
            }
            Action::OutputTrunc { port, max_len }
        }
        40 => {
            b.skip(2)?;
            Action::Group(b.u32()?)
        }
        42 => {
            b.skip(6)?;
            Action::Clone(action::read_nested(&mut b, version, depth + 1)?)
        }
        43 => Action::CtClear,
        46 => encap::read(b)?,
        47 => encap::read_decap(b)?,
        48 => Action::DecNshTtl,
        49 => {
            let (len, offset) = (b.u16()?, usize::from(b.u16()?));
            let target = target(&mut b, offset, 1)?;
            zeros(&mut b)?;
            Action::CheckPktLarger { len, target }
        }
        _ => {
            let (field, _) = oxm::read_name(&mut b)?;
            if !field.info().is_option() {
                return bad(format!(
                    "only tunnel options can be deleted, not {}",
                    field.info().name
                ));
            }
            Action::DeleteField(field)
        }
    })
}

/// Bytes of an Ethernet header: the least that an output may be cut to.
const ETH_HEADER_LEN: u32 = 14;

fn write_field(field: FieldId, value: u128) -> Result<Action, OfError> {
    let mask = field.info().full_mask();
    if value > mask {
        return bad(format!("{value} does not fit {}", field.info().name));
    }
    Ok(Action::SetField { field, value, mask })
}

fn read_resubmit(b: &mut Reader<'_>, sub: u16) -> Result<Action, OfError> {
    let (port, table) = (b.u16()?, b.u8()?);
    if sub != 1 && b.all().iter().any(|z| *z != 0) {
        return bad("resubmit has padding that is not zero");
    }
    Ok(Action::Resubmit {
        in_port: Some(port16(port)).filter(|p| *p != PortNo::IN_PORT),
        table: Some(table).filter(|t| sub != 1 && *t != 0xff),
        ct: sub == 44,
    })
}

fn read_sample(mut b: Reader<'_>, sub: u16) -> Result<Action, OfError> {
    let probability = b.u16()?;
    let (collector_set, obs_domain, obs_point) = (b.u32()?, b.u32()?, b.u32()?);
    let mut sample = Sample {
        probability,
        collector_set,
        obs_domain,
        obs_point,
        sampling_port: None,
        direction: SampleDirection::Default,
    };
    if probability == 0 {
        return bad("sample of no packet at all");
    }
    if sub != 29 {
        sample.sampling_port = Some(port16(b.u16()?)).filter(|p| *p != PortNo::ANY);
    }
    if sub == 41 {
        sample.direction = match b.u8()? {
            0 => SampleDirection::Default,
            1 => SampleDirection::Ingress,
            2 => SampleDirection::Egress,
            n => return bad(format!("sample direction {n}; 0 to 2 are known")),
        };
        zeros(&mut b)?;
    }
    Ok(Action::Sample(sample))
}

fn head(w: &mut Writer, sub: u16) {
    w.u16(EXPERIMENTER);
    w.u16(0);
    w.u32(NICIRA);
    w.u16(sub);
}

/// Writes an action of the model that the standard has no form for.
pub(in crate::wire) fn put_action(w: &mut Writer, a: &Action, version: u8) -> Result<(), OfError> {
    let start = w.len();
    let no_form = || {
        err(
            ErrorKind::BadActionType,
            format!("this version has no form for {a:?}"),
        )
    };
    match a {
        Action::Resubmit { in_port, table, ct } => {
            head(w, if *ct { 44 } else { 14 });
            w.u16(in_port.unwrap_or(PortNo::IN_PORT).0 as u16);
            w.u8(table.unwrap_or(0xff));
            w.zeros(3);
        }
        Action::PopQueue => plain(w, 5),
        Action::Exit => plain(w, 17),
        Action::CtClear => plain(w, 43),
        Action::DecNshTtl if version >= 4 => plain(w, 48),
        Action::Move { source, target } => {
            head(w, 6);
            w.u16(source.bits.into());
            w.u16(source.offset.into());
            w.u16(target.offset.into());
            oxm::put_name(w, *source, 0);
            oxm::put_name(w, *target, 0);
            w.pad8(start);
        }
        Action::Load { target, value }
            if oxm::is_experimenter(target.field) || target.field.info().is_option() =>
        {
            let (value, mask) = Action::load_as_masked(*target, *value);
            let field = target.field;
            return put_action(w, &Action::SetField { field, value, mask }, version);
        }
        Action::Load { target, value } => {
            head(w, 7);
            put_ofs_bits(w, *target)?;
            oxm::put_name(w, *target, 0);
            w.u64(*value);
        }
        Action::OutputReg { source, max_len } => {
            let wide = oxm::is_experimenter(source.field);
            head(w, if wide { 32 } else { 15 });
            put_ofs_bits(w, *source)?;
            if wide {
                w.u16(*max_len);
            }
            oxm::put_name(w, *source, 0);
            if !wide {
                w.u16(*max_len);
            }
            w.zeros(start + 24 - w.len());
        }
        Action::SetField { field, value, mask } => {
            head(w, 33);
            oxm::put_value(w, *field, *value, *mask, 0);
            w.pad8(start);
        }
        Action::SetTunnel { id, wide } => match u32::try_from(*id) {
            Ok(id) if !wide => {
                head(w, 2);
                w.zeros(2);
                w.u32(id);
            }
            _ => {
                head(w, 9);
                w.zeros(6);
                w.u64(*id);
            }
        },
        Action::Note(data) => {
            head(w, 8);
            w.put(data);
            w.zeros(16usize.saturating_sub(w.len() - start));
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
        Action::FinTimeout { idle, hard } => {
            head(w, 19);
            w.u16(*idle);
            w.u16(*hard);
            w.zeros(2);
        }
        Action::Controller { .. } => controller::put(w, a)?,
        Action::Learn(l) => learn::put(w, l)?,
        Action::Multipath(m) => spread::put_multipath(w, m)?,
        Action::Bundle(s) => spread::put_bundle(w, s)?,
        Action::Push(s) | Action::Pop(s) => {
            head(w, if matches!(a, Action::Push(_)) { 27 } else { 28 });
            w.u16(s.offset.into());
            oxm::put_name(w, *s, 0);
            w.u16(s.bits.into());
            w.zeros(start + 24 - w.len());
        }
        Action::Sample(s) => put_sample(w, s),
        Action::Conjunction {
            id,
            clause,
            clauses,
        } => {
            head(w, 34);
            w.u8(*clause);
            w.u8(*clauses);
            w.u32(*id);
        }
        Action::Ct(c) => conntrack::put(w, c, version)?,
        Action::Nat(n) => conntrack::put_nat(w, n),
        Action::OutputTrunc { port, max_len } => {
            head(w, 39);
            w.u16(port.0 as u16);
            w.u32(*max_len);
        }
        Action::Clone(actions) => {
            head(w, 42);
            w.zeros(6);
            action::put_actions(w, actions, &Match::new(), version)?;
        }
        Action::Encap(e) if version >= 4 => encap::put(w, e)?,
        Action::Decap(t) if version >= 4 => encap::put_decap(w, *t),
        Action::CheckPktLarger { len, target } => {
            head(w, 49);
            w.u16(*len);
            w.u16(target.offset.into());
            oxm::put_name(w, *target, 0);
            w.zeros(start + 24 - w.len());
        }
        Action::DeleteField(field) => {
            head(w, 50);
            oxm::put_name(w, Subfield::whole(*field), 0);
            w.zeros(start + 24 - w.len());
        }
        _ => return no_form(),
    }
    w.set_len(start + 2, start)
}

fn plain(w: &mut Writer, sub: u16) {
    head(w, sub);
    w.zeros(6);
}

fn put_sample(w: &mut Writer, s: &Sample) {
    let plain = s.sampling_port.is_none() && s.direction == SampleDirection::Default;
    head(
        w,
        match s.direction {
            SampleDirection::Default if plain => 29,
            SampleDirection::Default => 38,
            _ => 41,
        },
    );
    w.u16(s.probability);
    w.u32(s.collector_set);
    w.u32(s.obs_domain);
    w.u32(s.obs_point);
    if !plain {
        w.u16(s.sampling_port.unwrap_or(PortNo::ANY).0 as u16);
        w.u8(match s.direction {
            SampleDirection::Default => 0,
            SampleDirection::Ingress => 1,
            SampleDirection::Egress => 2,
        });
        w.zeros(5);
    }
}
