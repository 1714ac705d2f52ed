//! Error numbers of OpenFlow 1.0 (1.0.0 5.4.4) and Nicira's for what 1.0 has no number for.

use crate::error::ErrorKind;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::NICIRA;

/// `NXET_VENDOR`: an error whose type and code follow in the data, behind their owner's number.
const VENDOR: u16 = 0xb0c2;
/// `NXBRC_UNENCODABLE_ERROR`, a Nicira error of this type and code.
const UNENCODABLE: (u16, u16) = (1, 521);

/// The standard's numbers where they are not those of 1.3.
const MOVED: &[(ErrorKind, (u16, u16))] = &[
    (ErrorKind::TableFull, (3, 0)),
    (ErrorKind::Overlap, (3, 1)),
    (ErrorKind::FlowModEperm, (3, 2)),
    (ErrorKind::BadTimeout, (3, 3)),
    (ErrorKind::BadCommand, (3, 4)),
    (ErrorKind::UnsupportedOrder, (3, 5)),
    (ErrorKind::PortModBadPort, (4, 0)),
    (ErrorKind::PortModBadHwAddr, (4, 1)),
    (ErrorKind::QueueBadPort, (5, 0)),
    (ErrorKind::QueueBadQueue, (5, 1)),
    // After the permission error that these numbers are read as.
    (ErrorKind::IsSlave, (1, 5)),
];

/// Nicira's numbers.
const NICIRAS: &[(ErrorKind, (u16, u16))] = &[
    (ErrorKind::BadTableId, (1, 512)),
    (ErrorKind::BadRole, (1, 513)),
    (ErrorKind::BadPort, (1, 514)),
    (ErrorKind::MatchInconsistent, (1, 522)),
    (ErrorKind::BadSetType, (1, 523)),
    (ErrorKind::BadSetLen, (1, 524)),
    (ErrorKind::BadSetArgument, (1, 525)),
    (ErrorKind::UnsupInst, (2, 257)),
    (ErrorKind::BadWildcards, (1, 262)),
    (ErrorKind::BadField, (0, 263)),
    (ErrorKind::BadValue, (1, 258)),
    (ErrorKind::BadMask, (1, 259)),
    (ErrorKind::BadPrereq, (1, 260)),
    (ErrorKind::DupField, (1, 261)),
    (ErrorKind::BadFlowModFlags, (3, 258)),
    (ErrorKind::FlowModBadTableId, (5, 257)),
];

/// Whether 1.0 has 1.3's number for it: hello failures, and the bad requests and actions that were
/// there from the start.
fn same(kind: u16, code: u16) -> bool {
    matches!((kind, code), (0, 0..=1) | (1, 0..=8) | (2, 0..=8))
}

fn find(table: &[(ErrorKind, (u16, u16))], numbers: (u16, u16)) -> Option<ErrorKind> {
    table.iter().find(|e| e.1 == numbers).map(|e| e.0)
}

/// Reads type and code, and Nicira's out of the data behind them.
pub(crate) fn read(r: &mut Reader<'_>) -> Result<ErrorKind, crate::OfError> {
    let (kind, code) = (r.u16()?, r.u16()?);
    if (kind, code) == (VENDOR, 0) {
        let mut inner = r.clone();
        if let (Ok(NICIRA), Ok(t), Ok(c)) = (inner.u32(), inner.u16(), inner.u16())
            && let Some(found) = find(NICIRAS, (t, c))
        {
            *r = inner;
            return Ok(found);
        }
    }
    if same(kind, code) {
        return Ok(ErrorKind::from_type_and_code(kind, code));
    }
    Ok(find(MOVED, (kind, code)).unwrap_or(ErrorKind::Other { r#type: kind, code }))
}

/// Writes type and code, and what goes before the data.
pub(crate) fn put(w: &mut Writer, kind: ErrorKind) {
    let (t, c) = kind.type_and_code();
    let standard = match kind {
        ErrorKind::Other { .. } => Some((t, c)),
        _ if same(t, c) => Some((t, c)),
        _ => MOVED.iter().find(|e| e.0 == kind).map(|e| e.1),
    };
    if let Some((t, c)) = standard {
        w.u16(t);
        w.u16(c);
        return;
    }
    let nicira = NICIRAS.iter().find(|e| e.0 == kind).map(|e| e.1);
    let (t, c) = nicira.unwrap_or(UNENCODABLE);
    w.u16(VENDOR);
    w.u16(0);
    w.u32(NICIRA);
    w.u16(t);
    w.u16(c);
}
