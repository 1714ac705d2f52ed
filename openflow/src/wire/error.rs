//! Errors on the wire: the specification's type and code, or an experimenter's numbers.

use super::cursor::{Reader, Writer};
use crate::error::{ErrorKind, ErrorNumbers, OfError};

/// `NXET_VENDOR`: in 1.0 and 1.1, whose errors know no owners, an error whose owner, type and code
/// follow in the data.
const VENDOR: u16 = 0xb0c2;
/// `OFPET_EXPERIMENTER` of 1.2 and later: its code is the experimenter's number of the error.
const EXPERIMENTER: u16 = 0xffff;

/// Reads type and code, and an experimenter's behind them.
pub(super) fn read(r: &mut Reader<'_>, version: u8) -> Result<ErrorKind, OfError> {
    let (kind, code) = (r.u16()?, r.u16()?);
    let numbers = match (kind, code) {
        (VENDOR, 0) if version < 3 => ErrorNumbers {
            experimenter: Some(r.u32()?),
            r#type: r.u16()?,
            code: r.u16()?,
        },
        (EXPERIMENTER, _) if version >= 3 => ErrorNumbers {
            experimenter: Some(r.u32()?),
            r#type: code,
            code: 0,
        },
        _ => ErrorNumbers {
            experimenter: None,
            r#type: kind,
            code,
        },
    };
    Ok(ErrorKind::from_numbers(version, numbers))
}

/// Writes type and code, and what goes before the data. What the version has no numbers for is
/// said to be just that.
pub(super) fn put(w: &mut Writer, version: u8, kind: ErrorKind) {
    let unencodable = || ErrorKind::UnencodableError.numbers(version);
    let n = kind.numbers(version).or_else(unencodable);
    let n = n.expect("every version has Nicira's error for what it cannot encode");
    match n.experimenter {
        None => {
            w.u16(n.r#type);
            w.u16(n.code);
        }
        Some(experimenter) if version < 3 => {
            w.u16(VENDOR);
            w.u16(0);
            w.u32(experimenter);
            w.u16(n.r#type);
            w.u16(n.code);
        }
        Some(experimenter) => {
            w.u16(EXPERIMENTER);
            w.u16(n.r#type);
            w.u32(experimenter);
        }
    }
}
