//! Runs of a field's bits in text: `NXM_NX_REG0[0..15]`, `reg0[3]`, `eth_src[]`, `reg1`.

use super::matching::{field, formal_name};
use super::{Result, TextError, fail};
use crate::action::Subfield;
use crate::field::FieldId;

/// Reads a run of bits, all of `s`.
///
/// # Errors
/// No such field, or no such bits.
pub fn parse(s: &str) -> Result<Subfield> {
    match parse_prefix(s)? {
        (f, "") => Ok(f),
        _ => fail("unexpected input following field syntax"),
    }
}

/// Reads a run of bits at the front of `s`; also what follows it.
pub(super) fn parse_prefix(s: &str) -> Result<(Subfield, &str)> {
    let end = s.find(['[', '-']).unwrap_or(s.len());
    let (name, rest) = s.split_at(end);
    let id = field(name.strip_suffix("_W").unwrap_or(name))
        .ok_or_else(|| TextError(format!("{s}: unknown field `{name}'")))?;
    // Nicira's in_port has OpenFlow 1.0's 16 bits.
    let width = match (id, name) {
        (FieldId::InPort, "OXM_OF_IN_PORT" | "in_port_oxm") => 32,
        (FieldId::InPort, _) => 16,
        _ => i64::from(id.info().bits),
    };
    let (first, last, rest) = match rest.strip_prefix('[') {
        None => (0, width - 1, rest),
        Some(bits) => {
            let syntax = || {
                TextError(format!(
                    "{s}: syntax error expecting [] or [<bit>] or [<start>..<end>]"
                ))
            };
            let (bits, rest) = bits.split_once(']').ok_or_else(syntax)?;
            let number = |s: &str| s.trim_start().parse::<i64>().map_err(|_| syntax());
            let (first, last) = match bits.split_once("..") {
                Some((a, b)) => (number(a)?, number(b)?),
                None if bits.is_empty() => (0, width - 1),
                None => (number(bits)?, number(bits)?),
            };
            (first, last, rest)
        }
    };
    if first > last {
        return fail(format!(
            "{s}: starting bit {first} is after ending bit {last}"
        ));
    }
    for (bit, which) in [(first, "starting"), (last, "ending")] {
        if !(0..width).contains(&bit) {
            return fail(format!(
                "{s}: {which} bit {bit} is not valid because field is only {width} bits wide"
            ));
        }
    }
    Ok((
        Subfield {
            field: id,
            offset: first as u8,
            bits: (last - first + 1) as u8,
        },
        rest,
    ))
}

/// Writes a run of bits: `NXM_NX_REG0[0..3]`.
pub fn subfield_text(s: Subfield) -> String {
    // More of in_port than Nicira's 16 bits is the standard's field.
    let (name, width) = match s.field {
        FieldId::InPort if s.offset + s.bits > 16 => ("OXM_OF_IN_PORT".into(), 32),
        FieldId::InPort => ("NXM_OF_IN_PORT".into(), 16),
        f => (formal_name(f), f.info().bits as u8),
    };
    match (s.offset, s.bits) {
        (0, b) if b == width => format!("{name}[]"),
        (o, 1) => format!("{name}[{o}]"),
        (o, b) => format!("{name}[{o}..{}]", o + b - 1),
    }
}
