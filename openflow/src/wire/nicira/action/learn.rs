//! NXAST_LEARN and NXAST_LEARN2.

use super::{
    Action, ErrorKind, OfError, Reader, Subfield, Writer, bad, err, head, put_short_name, subfield,
    target,
};
use crate::action::{Learn, LearnSource, LearnSpec, LearnTarget};
use crate::wire::oxm;

/// `NX_LEARN_F_*`.
const SEND_FLOW_REM: u16 = 1;
const DELETE_LEARNED: u16 = 2;
const WRITE_RESULT: u16 = 4;

/// The parts of a spec's header: number of bits, what to do with them, and where they come from.
const BITS: u16 = 0x7ff;
const TO_MATCH: u16 = 0 << 11;
const TO_LOAD: u16 = 1 << 11;
const TO_OUTPUT: u16 = 2 << 11;
const TARGET: u16 = 3 << 11;
const CONSTANT: u16 = 1 << 13;

/// Reads the action behind its subtype, in the second form if `wide`.
pub(super) fn read(mut b: Reader<'_>, wide: bool) -> Result<Action, OfError> {
    let mut l = Learn {
        idle_timeout: b.u16()?,
        hard_timeout: b.u16()?,
        priority: b.u16()?,
        cookie: b.u64()?,
        send_flow_rem: false,
        delete_learned: false,
        table: 0,
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        limit: 0,
        result: None,
        specs: Vec::new(),
    };
    let flags = b.u16()?;
    l.send_flow_rem = flags & SEND_FLOW_REM != 0;
    l.delete_learned = flags & DELETE_LEARNED != 0;
    l.table = b.u8()?;
    if b.u8()? != 0 || l.table == 0xff {
        return bad("learn into table 255, or with padding that is not zero");
    }
    (l.fin_idle_timeout, l.fin_hard_timeout) = (b.u16()?, b.u16()?);
    let known = SEND_FLOW_REM | DELETE_LEARNED | if wide { WRITE_RESULT } else { 0 };
    if flags & !known != 0 {
        return bad(format!("learn flags {flags:#x}; {known:#x} are known"));
    }
    if wide {
        l.limit = b.u32()?;
        let offset = b.u16()?;
        if b.u16()? != 0 {
            return err(
                ErrorKind::ActionMustBeZero,
                "learn has padding that is not zero",
            );
        }
        if flags & WRITE_RESULT != 0 {
            l.result = Some(target(&mut b, offset.into(), 1)?);
        } else if offset != 0 {
            return bad("learn has a place for its result, but no flag for it");
        }
    }
    while b.len() >= 2 {
        let header = b.u16()?;
        if header == 0 {
            break;
        }
        l.specs.push(read_spec(&mut b, header)?);
    }
    if b.all().iter().any(|z| *z != 0) {
        return bad("learn has bytes behind its last part");
    }
    Ok(Action::Learn(Box::new(l)))
}

fn read_spec(b: &mut Reader<'_>, header: u16) -> Result<LearnSpec, OfError> {
    let bits = header & BITS;
    let field = |b: &mut Reader<'_>, writes: bool| {
        // The offset stands behind the name.
        let mut behind = b.clone();
        oxm::read_name(&mut behind)?;
        let offset = behind.u16()?.into();
        let s = if writes {
            target(b, offset, bits.into())?
        } else {
            subfield(b, offset, bits.into())?
        };
        b.skip(2)?;
        Ok::<_, OfError>(s)
    };
    let source = if header & CONSTANT == 0 {
        LearnSource::Field(field(b, false)?)
    } else {
        let bytes = usize::from(bits.div_ceil(16)) * 2;
        if bits > 128 {
            return bad(format!("a constant of {bits} bits; 128 are the most"));
        }
        let value = b.uint(bytes)?;
        if bits < 128 && value >> bits != 0 {
            return bad(format!("{value:#x} does not fit {bits} bits"));
        }
        let bits = bits as u8;
        LearnSource::Value { value, bits }
    };
    let target = match header & !(BITS | CONSTANT) {
        TO_MATCH => LearnTarget::Match(field(b, false)?),
        TO_LOAD => LearnTarget::Load(field(b, true)?),
        TO_OUTPUT if header & CONSTANT == 0 => LearnTarget::Output,
        _ => return bad(format!("learn has no such part as {:#x}", header & TARGET)),
    };
    Ok(LearnSpec { source, target })
}

/// Writes the action, in the shortest form that says it.
pub(super) fn put(w: &mut Writer, l: &Learn) -> Result<(), OfError> {
    let start = w.len();
    let wide = l.limit != 0 || l.result.is_some();
    head(w, if wide { 45 } else { 16 });
    w.u16(l.idle_timeout);
    w.u16(l.hard_timeout);
    w.u16(l.priority);
    w.u64(l.cookie);
    let flag = |on: bool, flag: u16| if on { flag } else { 0 };
    w.u16(
        flag(l.send_flow_rem, SEND_FLOW_REM)
            | flag(l.delete_learned, DELETE_LEARNED)
            | flag(l.result.is_some(), WRITE_RESULT),
    );
    w.u8(l.table);
    w.u8(0);
    w.u16(l.fin_idle_timeout);
    w.u16(l.fin_hard_timeout);
    if wide {
        w.u32(l.limit);
        w.u16(l.result.map_or(0, |r| r.offset.into()));
        w.u16(0);
        if let Some(r) = l.result {
            oxm::put_name(w, r, 0);
        }
    }
    for spec in &l.specs {
        put_spec(w, spec)?;
    }
    w.pad8(start);
    Ok(())
}

fn put_spec(w: &mut Writer, spec: &LearnSpec) -> Result<(), OfError> {
    let (constant, bits) = match spec.source {
        LearnSource::Field(s) => (0, s.bits),
        LearnSource::Value { bits, .. } => (CONSTANT, bits),
    };
    let (to, target) = match spec.target {
        LearnTarget::Match(s) => (TO_MATCH, Some(s)),
        LearnTarget::Load(s) => (TO_LOAD, Some(s)),
        LearnTarget::Output => (TO_OUTPUT, None),
    };
    w.u16(u16::from(bits) | to | constant);
    let field = |w: &mut Writer, s: Subfield| {
        put_short_name(w, s)?;
        w.u16(s.offset.into());
        Ok::<_, OfError>(())
    };
    match spec.source {
        LearnSource::Field(s) => field(w, s)?,
        LearnSource::Value { value, bits } => w.uint(value, usize::from(bits).div_ceil(16) * 2),
    }
    target.map_or(Ok(()), |s| field(w, s))
}
