//! Instructions of OpenFlow 1.1 and later (1.3.5 7.2.4, 1.5.1 7.2.5).

use super::OF11;
use super::action::{EXPERIMENTER, put_actions, read_actions};
use super::cursor::{Reader, Writer};
use crate::action::{Action, Instructions, StatTrigger, fit_ports};
use crate::error::{ErrorKind, OfError};
use crate::matching::Match;

/// The standard's instruction types: number, name, and the first and last version (wire numbers) that have it.
pub const INSTRUCTION_TYPES: &[(u16, &str, u8, u8)] = &[
    (1, "OFPIT_GOTO_TABLE", 2, 6),
    (2, "OFPIT_WRITE_METADATA", 2, 6),
    (3, "OFPIT_WRITE_ACTIONS", 2, 6),
    (4, "OFPIT_APPLY_ACTIONS", 2, 6),
    (5, "OFPIT_CLEAR_ACTIONS", 2, 6),
    (6, "OFPIT_METER", 4, 5),
    (7, "OFPIT_STAT_TRIGGER", 6, 6),
    (0xffff, "OFPIT_EXPERIMENTER", 2, 6),
];

fn err<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// Reads the instructions of a flow that matches `m`, to the end of `r`.
pub(super) fn read_instructions(
    r: &mut Reader<'_>,
    m: &Match,
    version: u8,
) -> Result<Instructions, OfError> {
    let mut r = Reader::new(r.all(), ErrorKind::BadInstLen);
    let mut out = Instructions::default();
    let mut seen = 0u32;
    while !r.is_empty() {
        let (kind, whole, mut b) = r.tlv(8, 8)?;
        if kind == EXPERIMENTER {
            return err(
                ErrorKind::BadInstExperimenter,
                "experimenter instructions are not known",
            );
        }
        let known = INSTRUCTION_TYPES
            .iter()
            .any(|t| t.0 == kind && (t.2..=t.3).contains(&version));
        if !known {
            return err(
                ErrorKind::UnknownInst,
                format!("instruction type {kind} is not known in this version"),
            );
        }
        let want = match kind {
            1 | 5 | 6 => 8,
            2 => 24,
            _ => whole.len(),
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
                let mut actions = read_actions(&mut b, version)?;
                if version == OF11 {
                    fit_ports(&mut actions, m);
                }
                *(if kind == 3 {
                    &mut out.write
                } else {
                    &mut out.apply
                }) = actions;
            }
            5 => out.clear_actions = true,
            6 => out.meter = Some(b.u32()?),
            _ => out.stat_trigger = Some(Box::new(read_trigger(&mut b)?)),
        }
    }
    Ok(out)
}

/// Writes instructions in the order in which they are carried out. What a version has no form for is an error, except
/// the meter before OpenFlow 1.3, which Open vSwitch leaves out, and the stat trigger before 1.5: so flows are told of in
/// every version.
pub(super) fn put_instructions(
    w: &mut Writer,
    i: &Instructions,
    m: &Match,
    version: u8,
) -> Result<(), OfError> {
    // An instruction in 1.3 and 1.4, where it comes first in any case; an action in 1.5.
    let (meter, apply) = match (i.meter, &i.apply[..]) {
        (None, [Action::Meter(n), rest @ ..]) if version < 6 => (Some(*n), rest),
        (meter, apply) => (meter, apply),
    };
    if let Some(meter) = meter.filter(|_| matches!(version, 4 | 5)) {
        w.u16(6);
        w.u16(8);
        w.u32(meter);
    }
    let actions = |w: &mut Writer, kind: u16, first: Option<Action>, actions: &[Action]| {
        let start = w.len();
        w.u16(kind);
        w.u16(0);
        w.zeros(4);
        put_actions(w, first.as_slice(), m, version)?;
        put_actions(w, actions, m, version)?;
        w.set_len(start + 2, start)
    };
    let first = meter.filter(|_| version >= 6).map(Action::Meter);
    if first.is_some() || !apply.is_empty() {
        actions(w, 4, first, apply)?;
    }
    if i.clear_actions {
        w.u16(5);
        w.u16(8);
        w.zeros(4);
    }
    if !i.write.is_empty() {
        actions(w, 3, None, &i.write)?;
    }
    if let Some((value, mask)) = i.metadata {
        w.u16(2);
        w.u16(24);
        w.zeros(4);
        w.u64(value);
        w.u64(mask);
    }
    if let Some(t) = i.stat_trigger.as_deref().filter(|_| version >= 6) {
        put_trigger(w, t)?;
    }
    if let Some(table) = i.goto_table {
        w.u16(1);
        w.u16(8);
        w.u8(table);
        w.zeros(3);
    }
    Ok(())
}

/// `OFPXMC_OPENFLOW_BASIC` of statistics (1.5.1 7.2.4.2).
const OXS_BASIC: u16 = 0x8002;
/// The statistics that can be waited for: number, bytes. The first two are seconds and nanoseconds.
const DURATION: u8 = 0;
const IDLE_TIME: u8 = 1;
const PACKETS: u8 = 4;
const BYTES: u8 = 5;

/// Reads flags and thresholds (1.5.1 7.2.5, `ofp_instruction_stat_trigger`).
fn read_trigger(b: &mut Reader<'_>) -> Result<StatTrigger, OfError> {
    let flags = b.u32()?;
    if flags & !3 != 0 {
        return err(
            ErrorKind::BadInstLen,
            format!("stat_trigger flags {flags:#x}; only 1 and 2 are known"),
        );
    }
    let mut t = StatTrigger {
        periodic: flags & 1 != 0,
        only_first: flags & 2 != 0,
        ..StatTrigger::default()
    };
    b.skip(2)?;
    let len = usize::from(b.u16()?);
    let Some(len) = len.checked_sub(4) else {
        return err(ErrorKind::BadInstLen, "thresholds of less than 4 bytes");
    };
    let mut s = b.sub(len, ErrorKind::BadInstLen)?;
    while !s.is_empty() {
        let (class, number, len) = (s.u16()?, s.u8()? >> 1, s.u8()?);
        let mut v = s.sub(len.into(), ErrorKind::BadInstLen)?;
        match (class, number, len) {
            (OXS_BASIC, DURATION, 8) => t.duration = seconds(&mut v)?,
            (OXS_BASIC, IDLE_TIME, 8) => t.idle = seconds(&mut v)?,
            (OXS_BASIC, PACKETS, 8) => t.packets = v.u64()?,
            (OXS_BASIC, BYTES, 8) => t.bytes = v.u64()?,
            _ => {
                return err(
                    ErrorKind::UnsupInst,
                    format!(
                        "stat_trigger cannot wait for statistic {number} of class {class:#06x}"
                    ),
                );
            }
        }
    }
    Ok(t)
}

/// Reads seconds and nanoseconds. Statistics are looked at about once a second: a part of one is taken for a whole one.
fn seconds(r: &mut Reader<'_>) -> Result<u32, OfError> {
    let (seconds, nanoseconds) = (r.u32()?, r.u32()?);
    Ok(seconds.saturating_add((nanoseconds != 0).into()))
}

fn put_trigger(w: &mut Writer, t: &StatTrigger) -> Result<(), OfError> {
    let start = w.len();
    w.u16(7);
    w.u16(0);
    w.u32(u32::from(t.periodic) | u32::from(t.only_first) << 1);
    let stats = w.len();
    w.u16(0);
    w.u16(0);
    for (number, value) in [
        (DURATION, u64::from(t.duration) << 32),
        (IDLE_TIME, u64::from(t.idle) << 32),
        (PACKETS, t.packets),
        (BYTES, t.bytes),
    ] {
        if value != 0 {
            w.u16(OXS_BASIC);
            w.u8(number << 1);
            w.u8(8);
            w.u64(value);
        }
    }
    w.set_len(stats + 2, stats)?;
    w.pad8(start);
    w.set_len(start + 2, start)
}
