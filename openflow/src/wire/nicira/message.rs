//! Messages of Nicira (`NXT_*`) and of the ONF (`ONFT_*`).

use super::err;
use crate::error::{ErrorKind, OfError};
use crate::message::{AsyncConfig, BundleId, BundleStep, Message};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::{NICIRA, ONF};
use crate::wire::v10;

/// Bundle steps in the order of their numbers.
const STEPS: &[BundleStep] = &[
    BundleStep::OpenRequest,
    BundleStep::OpenReply,
    BundleStep::CloseRequest,
    BundleStep::CloseReply,
    BundleStep::CommitRequest,
    BundleStep::CommitReply,
    BundleStep::DiscardRequest,
    BundleStep::DiscardReply,
];

/// Reads an experimenter message behind its header.
pub(in crate::wire) fn read_message(mut r: Reader<'_>, version: u8) -> Result<Message, OfError> {
    let (experimenter, kind) = (r.u32()?, r.u32()?);
    let message = match (experimenter, kind) {
        (NICIRA, 12) => Message::SetFlowFormat(r.u32()?),
        (NICIRA, 15) => {
            let on = r.u8()? != 0;
            r.skip(7)?;
            Message::FlowModTableId(on)
        }
        (NICIRA, 16) => Message::SetPacketInFormat(r.u32()?),
        (NICIRA, 17) => Message::Nicira(Box::new(Message::PacketIn(v10::nx_packet_in(&mut r)?))),
        (NICIRA, 19) => Message::SetAsync(read_async(&mut r)?),
        (NICIRA, 20) => {
            r.skip(6)?;
            Message::SetControllerId(r.u16()?)
        }
        (ONF, 2300) => {
            let id = r.u32()?;
            let step = r.u16()?;
            let Some(step) = STEPS.get(usize::from(step)) else {
                return err(
                    ErrorKind::BundleBadType,
                    format!("{step} is no step of a bundle"),
                );
            };
            Message::BundleControl(*step, bundle_id(id, r.u16()?))
        }
        (ONF, 2301) => {
            let id = r.u32()?;
            r.skip(2)?;
            let id = bundle_id(id, r.u16()?);
            let inner = match crate::wire::frame(r.peek()) {
                crate::wire::Frame::Message(n) => r.take(n)?,
                _ => return err(ErrorKind::BadLen, "a bundle's message is not whole"),
            };
            // Kinds up to 4 are hellos, errors, echoes and experimenters' messages in every version.
            if inner[0] != version || inner[1] <= 4 {
                return err(
                    ErrorKind::BundleMsgUnsup,
                    format!(
                        "a bundle holds changes in its own version {version:#x}, not messages of version {:#x} and kind {}",
                        inner[0], inner[1]
                    ),
                );
            }
            let d = crate::wire::decode(inner)?;
            // Properties may follow; none is known, and experimenters' may be passed over.
            r.all();
            Message::BundleAdd(id, d.xid, Box::new(d.message))
        }
        (NICIRA | ONF, n) => {
            return err(
                ErrorKind::BadExpType,
                format!("message {n} of experimenter {experimenter:#010x} is not known"),
            );
        }
        (e, _) => {
            return err(
                ErrorKind::BadExperimenter,
                format!("messages of experimenter {e:#010x} are not known"),
            );
        }
    };
    r.end()?;
    Ok(message)
}

fn bundle_id(id: u32, flags: u16) -> BundleId {
    BundleId {
        id,
        atomic: flags & 1 != 0,
        ordered: flags & 2 != 0,
    }
}

/// The six masks of an asynchronous configuration.
pub(in crate::wire) fn read_async(r: &mut Reader<'_>) -> Result<AsyncConfig, OfError> {
    let mut pair = || Ok::<_, OfError>([r.u32()?, r.u32()?]);
    Ok(AsyncConfig {
        packet_in: pair()?,
        port_status: pair()?,
        flow_removed: pair()?,
        ..AsyncConfig::default()
    })
}

/// Writes the body of an experimenter message; false if it is none.
pub(in crate::wire) fn put_message(
    w: &mut Writer,
    version: u8,
    m: &Message,
) -> Result<bool, OfError> {
    let head = |w: &mut Writer, experimenter: u32, kind: u32| {
        w.u32(experimenter);
        w.u32(kind);
    };
    let bundle = |w: &mut Writer, id: &BundleId, middle: u16| {
        w.u32(id.id);
        w.u16(middle);
        w.u16(u16::from(id.atomic) | u16::from(id.ordered) << 1);
    };
    match m {
        Message::SetFlowFormat(n) => {
            head(w, NICIRA, 12);
            w.u32(*n);
        }
        Message::FlowModTableId(on) => {
            head(w, NICIRA, 15);
            w.u8((*on).into());
            w.zeros(7);
        }
        Message::SetPacketInFormat(n) => {
            head(w, NICIRA, 16);
            w.u32(*n);
        }
        Message::SetControllerId(n) => {
            head(w, NICIRA, 20);
            w.zeros(6);
            w.u16(*n);
        }
        Message::Nicira(inner) => match &**inner {
            Message::PacketIn(p) => {
                head(w, NICIRA, 17);
                v10::put_nx_packet_in(w, p)?;
            }
            _ => return Ok(false),
        },
        Message::BundleControl(step, id) => {
            head(w, ONF, 2300);
            let n = STEPS.iter().position(|s| s == step).unwrap_or_default();
            bundle(w, id, n as u16);
        }
        Message::BundleAdd(id, xid, inner) => {
            head(w, ONF, 2301);
            bundle(w, id, 0);
            w.put(&crate::wire::encode(version, *xid, inner)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}
