//! NXAST_CONTROLLER and NXAST_CONTROLLER2.

use super::{Action, Bytes, ErrorKind, OfError, PacketInReason, Reader, Writer, bad, err, head};
use crate::wire::nicira::{reason, reason_number};

fn read_reason(n: u8) -> Result<PacketInReason, OfError> {
    match reason(n) {
        Some(r) => Ok(r),
        None => bad(format!("{n} is no reason for a packet-in")),
    }
}

pub(super) fn read(mut b: Reader<'_>) -> Result<Action, OfError> {
    let (max_len, id) = (b.u16()?, b.u16()?);
    Ok(Action::Controller {
        max_len,
        id,
        reason: read_reason(b.u8()?)?,
        userdata: Bytes::new(),
        pause: false,
        meter: None,
    })
}

/// The form with properties: what is not said is the usual.
pub(super) fn read2(mut b: Reader<'_>) -> Result<Action, OfError> {
    let (mut max_len, mut id, mut reason) = (u16::MAX, 0, PacketInReason::Action);
    let (mut userdata, mut pause, mut meter) = (Bytes::new(), false, None);
    if b.take(6)?.iter().any(|z| *z != 0) {
        return err(
            ErrorKind::MustBeZero,
            "controller has padding that is not zero",
        );
    }
    while !b.is_empty() {
        let (kind, whole, mut p) = b.tlv(4, 1)?;
        b.skip(whole.len().next_multiple_of(8) - whole.len())?;
        match kind {
            0 => max_len = p.u16()?,
            1 => id = p.u16()?,
            2 => reason = read_reason(p.u8()?)?,
            3 => userdata = Bytes::copy_from_slice(p.all()),
            4 => pause = true,
            5 => meter = Some(p.u32()?),
            n => {
                return err(
                    ErrorKind::PropertyBadType,
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
        meter,
    })
}

pub(super) fn put(w: &mut Writer, a: &Action) -> Result<(), OfError> {
    let Action::Controller {
        max_len,
        reason,
        id,
        userdata,
        pause,
        meter,
    } = a
    else {
        return bad(format!("{a:?} is no controller action"));
    };
    if userdata.is_empty() && !pause && meter.is_none() {
        head(w, 20);
        w.u16(*max_len);
        w.u16(*id);
        w.u8(reason_number(*reason));
        w.u8(0);
        return Ok(());
    }
    head(w, 37);
    w.zeros(6);
    let prop = |w: &mut Writer, kind: u16, body: &[u8]| {
        let at = w.len();
        w.u16(kind);
        w.u16(0);
        w.put(body);
        w.set_len(at + 2, at)?;
        w.pad8(at);
        Ok::<_, OfError>(())
    };
    if *max_len != u16::MAX {
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
    if let Some(meter) = meter {
        prop(w, 5, &meter.to_be_bytes())?;
    }
    Ok(())
}
