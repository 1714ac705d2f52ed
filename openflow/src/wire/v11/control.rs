//! What concerns connections: features, roles, asynchronous configuration, controllers' status and
//! bundles.

use super::{err, port, read_all};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::codes::{BUNDLE_STEPS, ROLE_REASONS, ROLES, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::types::MessageType;
use crate::wire::{self, Frame, OF13, OF14, OF15, property, sized};

pub(super) fn read_features(r: &mut Reader<'_>, version: u8) -> Result<Features, OfError> {
    let (datapath_id, buffers, tables) = (r.u64()?, r.u32()?, r.u8()?);
    let auxiliary_id = r.u8()?;
    r.skip(2)?;
    let capabilities = r.u32()?;
    r.skip(4)?;
    let old = version < OF13;
    Ok(Features {
        datapath_id,
        buffers,
        tables,
        auxiliary_id: if old { 0 } else { auxiliary_id },
        capabilities,
        actions: 0,
        ports: if old {
            read_all(r, |r| port::read(r, version))?
        } else {
            Vec::new()
        },
    })
}

pub(super) fn put_features(w: &mut Writer, f: &Features, version: u8) -> Result<(), OfError> {
    let old = version < OF13;
    w.u64(f.datapath_id);
    w.u32(f.buffers);
    w.u8(f.tables);
    w.u8(if old { 0 } else { f.auxiliary_id });
    w.zeros(2);
    w.u32(f.capabilities);
    w.zeros(4);
    if old {
        for p in &f.ports {
            port::put(w, p, version)?;
        }
    }
    Ok(())
}

pub(super) fn read_role(r: &mut Reader<'_>, version: u8) -> Result<RoleMsg, OfError> {
    let role = named(ROLES, r.u32()?, ErrorKind::BadRole, "role")?;
    let short_id = r.u16()?;
    r.skip(2)?;
    Ok(RoleMsg {
        role,
        generation: r.u64()?,
        short_id: if version >= OF15 { short_id } else { 0 },
    })
}

pub(super) fn put_role(w: &mut Writer, m: &RoleMsg, version: u8) {
    w.u32(number(ROLES, &m.role).into());
    w.u16(if version >= OF15 { m.short_id } else { 0 });
    w.zeros(2);
    w.u64(m.generation);
}

/// Reads `OFPT_ROLE_STATUS`; the ONF's for 1.3 is the same.
pub(in crate::wire) fn read_role_status(
    r: &mut Reader<'_>,
) -> Result<(RoleReason, RoleMsg), OfError> {
    let role = named(ROLES, r.u32()?, ErrorKind::BadRole, "role")?;
    let reason = r.u8()?.into();
    let what = "reason for a role status";
    let reason = named(ROLE_REASONS, reason, ErrorKind::BadReason, what)?;
    r.skip(3)?;
    let m = RoleMsg {
        role,
        generation: r.u64()?,
        short_id: 0,
    };
    property::read(r, |_, v| property::pass(v))?;
    Ok((reason, m))
}

pub(in crate::wire) fn put_role_status(w: &mut Writer, reason: RoleReason, m: &RoleMsg) {
    w.u32(number(ROLES, &m.role).into());
    w.u8(number(ROLE_REASONS, &reason));
    w.zeros(3);
    w.u64(m.generation);
}

/// Reads masks as 1.4 and Nicira's second form have them: a property for each, even numbers while a
/// controller is secondary, odd ones otherwise. What is not there stays as it is.
pub(in crate::wire) fn read_async(r: &mut Reader<'_>, version: u8) -> Result<AsyncChange, OfError> {
    let mut change = AsyncChange::default();
    // Nicira's second form, in older versions, has those of 1.4.
    let count = if version >= OF15 { 16 } else { 12 };
    property::read(r, |kind, v| {
        if kind >= count {
            return match property::unknown(kind, v, "an asynchronous configuration") {
                Err(e) if e.kind == ErrorKind::PropertyBadType => {
                    err(ErrorKind::AsyncUnsupported, e.detail)
                }
                other => other,
            };
        }
        let place = usize::from(kind / 2);
        change.masks.all_mut()[place][usize::from(kind & 1 == 0)] = v.u32()?;
        change.given |= 1 << kind;
        v.end()
    })?;
    Ok(change)
}

pub(in crate::wire) fn put_async(
    w: &mut Writer,
    change: &AsyncChange,
    version: u8,
) -> Result<(), OfError> {
    let count = if version >= OF15 { 16 } else { 12 };
    let mut masks = change.masks;
    let masks = masks.all_mut();
    for kind in (0..count).filter(|k| change.given & 1 << k != 0) {
        let mask = masks[usize::from(kind / 2)][usize::from(kind & 1 == 0)];
        property::put(w, kind, |w| w.u32(mask))?;
    }
    Ok(())
}

/// `OFPCSPT_URI`.
const URI: u16 = 0;

/// Reads one `ofp_controller_status` (1.5.1 7.3.5.21, 7.4.7).
pub(super) fn read_controller(r: &mut Reader<'_>) -> Result<ControllerStatus, OfError> {
    let mut e = sized(r, 16)?;
    let mut c = ControllerStatus {
        id: e.u16()?,
        role: named(ROLES, e.u32()?, ErrorKind::BadRole, "role")?,
        reason: e.u8()?,
        up: e.u8()? == 0,
        uri: String::new(),
    };
    e.skip(6)?;
    property::read(&mut e, |kind, v| {
        if kind == URI {
            c.uri = String::from_utf8_lossy(v.peek()).into_owned();
        }
        property::pass(v)
    })?;
    Ok(c)
}

pub(super) fn put_controller(w: &mut Writer, c: &ControllerStatus) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u16(c.id);
    w.u32(number(ROLES, &c.role).into());
    w.u8(c.reason);
    w.u8((!c.up).into());
    w.zeros(6);
    property::put(w, URI, |w| w.put(c.uri.as_bytes()))?;
    w.set_len(start, start)
}

fn bundle_id(id: u32, flags: u16, version: u8) -> Result<BundleId, OfError> {
    // 1.5's bundles may ask to be committed at some time.
    if version >= OF15 && flags & 4 != 0 {
        return err(
            ErrorKind::SchedNotSupported,
            "scheduled bundles are not supported",
        );
    }
    if flags & !3 != 0 {
        return err(
            ErrorKind::BundleBadFlags,
            format!("bundle flags {flags:#x} have bits that are not known"),
        );
    }
    Ok(BundleId {
        id,
        atomic: flags & 1 != 0,
        ordered: flags & 2 != 0,
    })
}

fn put_bundle_id(w: &mut Writer, id: &BundleId, middle: u16) {
    w.u32(id.id);
    w.u16(middle);
    w.u16(u16::from(id.atomic) | u16::from(id.ordered) << 1);
}

/// `OFPBPT_TIME`.
const TIME: u16 = 1;

fn read_bundle_properties(r: &mut Reader<'_>, version: u8) -> Result<(), OfError> {
    property::read(r, |kind, v| {
        if kind == TIME && version >= OF15 {
            return err(
                ErrorKind::SchedNotSupported,
                "scheduled bundles are not supported",
            );
        }
        property::unknown(kind, v, "a bundle")
    })
}

/// Reads `OFPT_BUNDLE_CONTROL`; the ONF's for 1.3 is the same.
pub(in crate::wire) fn read_bundle_control(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<Message, OfError> {
    let (id, step, flags) = (r.u32()?, r.u16()?.into(), r.u16()?);
    let what = "step of a bundle";
    let step = named(BUNDLE_STEPS, step, ErrorKind::BundleBadType, what)?;
    read_bundle_properties(r, version)?;
    Ok(Message::BundleControl(step, bundle_id(id, flags, version)?))
}

pub(in crate::wire) fn put_bundle_control(w: &mut Writer, step: BundleStep, id: &BundleId) {
    put_bundle_id(w, id, number(BUNDLE_STEPS, &step).into());
}

/// Reads `OFPT_BUNDLE_ADD_MESSAGE`; the ONF's for 1.3 is the same.
pub(in crate::wire) fn read_bundle_add(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<Message, OfError> {
    let id = r.u32()?;
    r.skip(2)?;
    let id = bundle_id(id, r.u16()?, version)?;
    let inner = match wire::frame(r.peek()) {
        Frame::Message(n) => r.take(n)?,
        _ => {
            return err(
                ErrorKind::BundleMsgBadLen,
                "a bundle's message is not whole",
            );
        }
    };
    let (inner_version, kind) = (inner[0], inner[1]);
    if inner_version != version {
        return err(
            if version >= OF14 {
                ErrorKind::BundleBadVersion
            } else {
                ErrorKind::BundleMsgUnsup
            },
            format!("a message of version {inner_version:#x} in a bundle of version {version:#x}"),
        );
    }
    // Only what changes something can be bundled; and no bundle, for one in another would have no end.
    let changes = matches!(
        MessageType::of(version, kind.into()),
        Some(
            MessageType::FlowMod
                | MessageType::GroupMod
                | MessageType::MeterMod
                | MessageType::PortMod
                | MessageType::TableMod
                | MessageType::PacketOut
        )
    );
    if !changes {
        return err(
            ErrorKind::BundleMsgUnsup,
            format!("messages of type {kind} can not be in a bundle"),
        );
    }
    let d = wire::decode(inner)?;
    // A message that is not the last thing is padded, before properties.
    let padding = inner.len().next_multiple_of(8) - inner.len();
    r.skip(padding.min(r.len()))?;
    read_bundle_properties(r, version)?;
    Ok(Message::BundleAdd(id, d.xid, Box::new(d.message)))
}

pub(in crate::wire) fn put_bundle_add(
    w: &mut Writer,
    id: &BundleId,
    xid: u32,
    inner: &Message,
    version: u8,
) -> Result<(), OfError> {
    put_bundle_id(w, id, 0);
    w.put(&wire::encode(version, xid, inner)?);
    Ok(())
}

/// Reads `OFPT_REQUESTFORWARD`; those of the ONF and Nicira for older versions are the same.
pub(in crate::wire) fn read_forward(r: &mut Reader<'_>, version: u8) -> Result<Message, OfError> {
    let inner = match wire::frame(r.peek()) {
        Frame::Message(n) => r.take(n)?,
        _ => return err(ErrorKind::BadLen, "a forwarded request is not whole"),
    };
    let kind = MessageType::of(version, inner[1].into());
    let nicira = kind == Some(MessageType::Experimenter) && version < wire::OF11;
    let expected = matches!(kind, Some(MessageType::GroupMod | MessageType::MeterMod));
    if inner[0] != version || !(expected || nicira) {
        return err(
            ErrorKind::BadType,
            "only changes of groups and meters are forwarded",
        );
    }
    let d = wire::decode(inner)?;
    if !matches!(d.message, Message::GroupMod(_) | Message::MeterMod(_)) {
        return err(
            ErrorKind::BadType,
            "only changes of groups and meters are forwarded",
        );
    }
    Ok(Message::RequestForward(d.xid, Box::new(d.message)))
}

pub(in crate::wire) fn put_forward(
    w: &mut Writer,
    xid: u32,
    inner: &Message,
    version: u8,
) -> Result<(), OfError> {
    w.put(&wire::encode(version, xid, inner)?);
    Ok(())
}

/// Reads what a controller asks of bundle features: with a time, how it would be scheduled.
pub(super) fn read_bundle_request(r: &mut Reader<'_>) -> Result<(), OfError> {
    let flags = r.u32()?;
    r.skip(4)?;
    if flags != 0 {
        return err(
            ErrorKind::SchedNotSupported,
            "scheduled bundles are not supported",
        );
    }
    read_bundle_properties(r, OF15)
}
