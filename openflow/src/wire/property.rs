//! Properties: lists of type, length and value, which 1.4 put everywhere (1.4.1 7.2.1.1 and others).
//!
//! A length counts type and length but not the padding to 8 bytes.

use super::cursor::{Reader, Writer};
use crate::error::{ErrorKind, OfError};

/// The type of experimenters' properties; of those with a twin for table misses, the twin.
pub(super) const EXPERIMENTER: u16 = 0xffff;

/// Reads properties to the end of `r`: type and value each.
pub(super) fn read<'a>(
    r: &mut Reader<'a>,
    mut one: impl FnMut(u16, &mut Reader<'a>) -> Result<(), OfError>,
) -> Result<(), OfError> {
    let mut r = Reader::new(r.all(), ErrorKind::PropertyBadLen);
    while !r.is_empty() {
        let (kind, whole, mut value) = r.tlv(4, 1)?;
        r.skip(whole.len().next_multiple_of(8) - whole.len())?;
        one(kind, &mut value)?;
    }
    Ok(())
}

/// The answer to a property of a type that is not known.
pub(super) fn unknown(kind: u16, value: &mut Reader<'_>, of: &str) -> Result<(), OfError> {
    if kind < EXPERIMENTER - 1 {
        return Err(OfError::new(
            ErrorKind::PropertyBadType,
            format!("property {kind} of {of} is not known"),
        ));
    }
    let (experimenter, number) = (value.u32()?, value.u32()?);
    Err(OfError::new(
        ErrorKind::PropertyBadExperimenter,
        format!("property {number} of experimenter {experimenter:#010x} is not known for {of}"),
    ))
}

/// Passes over a property of a type that is not known, where a peer merely tells more than we know.
pub(super) fn pass(value: &mut Reader<'_>) -> Result<(), OfError> {
    value.all();
    Ok(())
}

/// Writes a property.
pub(super) fn put(
    w: &mut Writer,
    kind: u16,
    value: impl FnOnce(&mut Writer),
) -> Result<(), OfError> {
    let at = w.len();
    w.u16(kind);
    w.u16(0);
    value(w);
    w.set_len(at + 2, at)?;
    w.pad8(at);
    Ok(())
}
