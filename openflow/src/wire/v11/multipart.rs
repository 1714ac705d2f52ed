//! Multipart messages of OpenFlow 1.1 to 1.5 (1.3.5 7.3.5), called statistics before 1.3.

use super::{control, err, flow, group, meter, monitor, port, queue, read_all, table};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::types::{MessageType, MultipartType as T};
use crate::wire::{ALL_QUEUES, OF15, nicira, parts, put_header, sized};

/// Type, more flag, and what follows them.
fn head(r: &mut Reader<'_>, version: u8) -> Result<(T, bool), OfError> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    r.skip(4)?;
    match T::of(version, kind.into()) {
        Some(t) => Ok((t, flags & 1 != 0)),
        None => err(
            ErrorKind::BadMultipart,
            format!("multipart type {kind} is not of this version"),
        ),
    }
}

/// Reads a request behind its OpenFlow header.
pub(super) fn read_request(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<(MultipartRequest, bool), OfError> {
    let (kind, more) = head(r, version)?;
    let number = |r: &mut Reader<'_>| {
        let n = r.u32()?;
        r.skip(4)?;
        Ok::<_, OfError>(n)
    };
    let q = match kind {
        T::Desc => MultipartRequest::Desc,
        T::Flow => MultipartRequest::Flow(flow::read_filter(r, version)?),
        T::Aggregate => MultipartRequest::Aggregate(flow::read_filter(r, version)?),
        T::Table => MultipartRequest::Table,
        T::PortStats => MultipartRequest::PortStats(PortNo(number(r)?)),
        T::Queue | T::QueueDesc => {
            let port = PortNo(r.u32()?);
            let queue = Some(r.u32()?).filter(|q| *q != ALL_QUEUES);
            match kind {
                T::Queue => MultipartRequest::Queue { port, queue },
                _ => MultipartRequest::QueueDesc { port, queue },
            }
        }
        T::Group => MultipartRequest::Group(number(r)?),
        T::GroupDesc if version >= OF15 => MultipartRequest::GroupDesc(number(r)?),
        T::GroupDesc => MultipartRequest::GroupDesc(GROUP_ALL),
        T::GroupFeatures => MultipartRequest::GroupFeatures,
        T::Meter => MultipartRequest::Meter(number(r)?),
        T::MeterConfig => MultipartRequest::MeterConfig(number(r)?),
        T::MeterFeatures => MultipartRequest::MeterFeatures,
        T::TableFeatures => {
            MultipartRequest::TableFeatures(read_all(r, |r| table::read_features(r, version))?)
        }
        T::PortDesc if version >= OF15 => MultipartRequest::PortDesc(PortNo(number(r)?)),
        T::PortDesc => MultipartRequest::PortDesc(PortNo::ANY),
        T::TableDesc => MultipartRequest::TableDesc,
        T::FlowMonitor => {
            MultipartRequest::FlowMonitor(read_all(r, |r| monitor::read_request(r, version))?)
        }
        T::FlowStats => MultipartRequest::FlowStats(flow::read_filter(r, version)?),
        T::ControllerStatus => MultipartRequest::ControllerStatus,
        T::BundleFeatures => {
            control::read_bundle_request(r)?;
            MultipartRequest::BundleFeatures
        }
        T::Experimenter => nicira::read_request(r, version)?,
    };
    r.end()?;
    Ok((q, more))
}

/// Reads an answer behind its OpenFlow header.
pub(super) fn read_reply(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<(MultipartReply, bool), OfError> {
    let (kind, more) = head(r, version)?;
    let a = match kind {
        T::Desc => MultipartReply::Desc(read_desc(r)?),
        T::Flow => MultipartReply::Flow(read_all(r, |r| {
            let mut e = sized(r, if version >= OF15 { 32 } else { 56 })?;
            flow::read(&mut e, version)
        })?),
        T::Aggregate => MultipartReply::Aggregate(flow::read_aggregate(r, version)?),
        T::Table => MultipartReply::Table(read_all(r, |r| table::read_stats(r, version))?),
        T::PortStats => MultipartReply::PortStats(read_all(r, |r| port::read_stats(r, version))?),
        T::Queue => MultipartReply::Queue(read_all(r, |r| queue::read_stats(r, version))?),
        T::Group => MultipartReply::Group(read_all(r, |r| group::read_stats(r, version))?),
        T::GroupDesc => MultipartReply::GroupDesc(read_all(r, |r| group::read_desc(r, version))?),
        T::GroupFeatures => MultipartReply::GroupFeatures(group::read_features(r)?),
        T::Meter => MultipartReply::Meter(read_all(r, meter::read_stats)?),
        T::MeterConfig => MultipartReply::MeterConfig(read_all(r, meter::read_config)?),
        T::MeterFeatures => MultipartReply::MeterFeatures(meter::read_features(r, version)?),
        T::TableFeatures => {
            MultipartReply::TableFeatures(read_all(r, |r| table::read_features(r, version))?)
        }
        T::PortDesc => MultipartReply::PortDesc(read_all(r, |r| port::read(r, version))?),
        T::TableDesc => MultipartReply::TableDesc(read_all(r, |r| table::read_desc(r, version))?),
        T::QueueDesc => MultipartReply::QueueDesc(read_all(r, queue::read_desc)?),
        T::FlowMonitor => {
            MultipartReply::FlowMonitor(read_all(r, |r| monitor::read_update(r, version))?)
        }
        T::FlowStats => MultipartReply::FlowStats(read_all(r, |r| {
            flow::read_counted(&mut sized(r, 24)?, version)
        })?),
        T::ControllerStatus => {
            MultipartReply::ControllerStatus(read_all(r, control::read_controller)?)
        }
        T::BundleFeatures => {
            let capabilities = r.u16()?;
            r.skip(6)?;
            // What follows tells how commits can be scheduled.
            r.all();
            MultipartReply::BundleFeatures(BundleFeatures { capabilities })
        }
        T::Experimenter => nicira::read_reply(r, version)?,
    };
    r.end()?;
    Ok((a, more))
}

/// Reads an `ofp_desc`, which is the same in all versions.
pub(in crate::wire) fn read_desc(r: &mut Reader<'_>) -> Result<SwitchDesc, OfError> {
    Ok(SwitchDesc {
        manufacturer: r.text(256)?,
        hardware: r.text(256)?,
        software: r.text(256)?,
        serial: r.text(32)?,
        datapath: r.text(256)?,
    })
}

/// Writes an `ofp_desc`.
pub(in crate::wire) fn put_desc(w: &mut Writer, d: &SwitchDesc) {
    w.text(&d.manufacturer, 256);
    w.text(&d.hardware, 256);
    w.text(&d.software, 256);
    w.text(&d.serial, 32);
    w.text(&d.datapath, 256);
}

/// The type number of what a version has.
fn number(t: T, version: u8) -> Result<u16, OfError> {
    match t.number(version) {
        Some(n) => Ok(n as u16),
        None => err(
            ErrorKind::BadMultipart,
            format!("this version has no {}", t.name()),
        ),
    }
}

fn begin(w: &mut Writer, message: MessageType, version: u8, xid: u32, kind: u16) -> usize {
    let start = w.len();
    put_header(w, version, message, xid);
    w.u16(kind);
    w.zeros(6);
    start
}

/// Writes a request with its header.
pub(super) fn put_request(
    w: &mut Writer,
    xid: u32,
    q: &MultipartRequest,
    version: u8,
) -> Result<(), OfError> {
    let kind = match q {
        MultipartRequest::Desc => T::Desc,
        MultipartRequest::Flow(_) => T::Flow,
        MultipartRequest::Aggregate(_) => T::Aggregate,
        MultipartRequest::Table => T::Table,
        MultipartRequest::PortStats(_) => T::PortStats,
        MultipartRequest::Queue { .. } => T::Queue,
        MultipartRequest::Group(_) => T::Group,
        MultipartRequest::GroupDesc(_) => T::GroupDesc,
        MultipartRequest::GroupFeatures if version < T::GroupFeatures.rows()[0].0 => {
            T::Experimenter
        }
        MultipartRequest::GroupFeatures => T::GroupFeatures,
        MultipartRequest::Meter(_) => T::Meter,
        MultipartRequest::MeterConfig(_) => T::MeterConfig,
        MultipartRequest::MeterFeatures => T::MeterFeatures,
        MultipartRequest::TableFeatures(_) => T::TableFeatures,
        MultipartRequest::PortDesc(_) => T::PortDesc,
        MultipartRequest::TableDesc => T::TableDesc,
        MultipartRequest::QueueDesc { .. } => T::QueueDesc,
        MultipartRequest::FlowMonitor(_) if T::FlowMonitor.number(version).is_none() => {
            T::Experimenter
        }
        MultipartRequest::FlowMonitor(_) => T::FlowMonitor,
        MultipartRequest::FlowStats(_) => T::FlowStats,
        MultipartRequest::ControllerStatus => T::ControllerStatus,
        MultipartRequest::BundleFeatures => T::BundleFeatures,
        MultipartRequest::IpfixBridge | MultipartRequest::IpfixFlow => T::Experimenter,
    };
    let kind = number(kind, version)?;
    let begin = |w: &mut Writer| begin(w, MessageType::MultipartRequest, version, xid, kind);
    if let MultipartRequest::TableFeatures(tables) = q {
        return parts::put(w, begin, tables, |w, t| table::put_features(w, t, version));
    }
    let start = begin(w);
    match q {
        MultipartRequest::Flow(f)
        | MultipartRequest::Aggregate(f)
        | MultipartRequest::FlowStats(f) => flow::put_filter(w, f, version)?,
        MultipartRequest::PortStats(port) => {
            w.u32(port.0);
            w.zeros(4);
        }
        MultipartRequest::PortDesc(port) if version >= OF15 => {
            w.u32(port.0);
            w.zeros(4);
        }
        MultipartRequest::Queue { port, queue } | MultipartRequest::QueueDesc { port, queue } => {
            w.u32(port.0);
            w.u32(queue.unwrap_or(ALL_QUEUES));
        }
        MultipartRequest::Group(n)
        | MultipartRequest::Meter(n)
        | MultipartRequest::MeterConfig(n) => {
            w.u32(*n);
            w.zeros(4);
        }
        MultipartRequest::GroupDesc(n) if version >= OF15 => {
            w.u32(*n);
            w.zeros(4);
        }
        MultipartRequest::FlowMonitor(all) if kind != 0xffff => {
            for m in all {
                monitor::put_request(w, m, version)?;
            }
        }
        MultipartRequest::BundleFeatures => w.zeros(8),
        other if kind == 0xffff => nicira::put_request(w, other, version)?,
        _ => {}
    }
    w.set_len(start + 2, start)
}

/// Writes an answer with its header, as several messages if it is long.
pub(super) fn put_reply(
    w: &mut Writer,
    xid: u32,
    a: &MultipartReply,
    version: u8,
) -> Result<(), OfError> {
    use MultipartReply as A;
    let start_of = |kind: T| {
        let kind = number(kind, version)?;
        Ok::<_, OfError>(move |w: &mut Writer| {
            begin(w, MessageType::MultipartReply, version, xid, kind)
        })
    };
    // Answers that are one thing.
    let single = match a {
        A::Desc(_) => Some(T::Desc),
        A::Aggregate(_) => Some(T::Aggregate),
        A::GroupFeatures(_) if T::GroupFeatures.number(version).is_some() => Some(T::GroupFeatures),
        A::MeterFeatures(_) => Some(T::MeterFeatures),
        A::BundleFeatures(_) => Some(T::BundleFeatures),
        A::GroupFeatures(_) | A::IpfixBridge(_) => Some(T::Experimenter),
        _ => None,
    };
    if let Some(kind) = single {
        let start = start_of(kind)?(w);
        match a {
            A::Desc(d) => put_desc(w, d),
            A::Aggregate(s) => flow::put_aggregate(w, s, version)?,
            A::GroupFeatures(f) if kind == T::GroupFeatures => group::put_features(w, f),
            A::MeterFeatures(f) => meter::put_features(w, f, version),
            A::BundleFeatures(f) => {
                w.u16(f.capabilities);
                w.zeros(6);
            }
            other => nicira::put_reply(w, other, version)?,
        }
        return w.set_len(start + 2, start);
    }
    macro_rules! list {
        ($kind:ident, $entries:expr, $one:expr) => {
            parts::put(w, start_of(T::$kind)?, $entries, $one)
        };
    }
    match a {
        A::Flow(x) => list!(Flow, x, |w, f| flow::put(w, f, version)),
        A::Table(x) => list!(Table, x, |w, t| {
            table::put_stats(w, t, version);
            Ok(())
        }),
        A::PortStats(x) => list!(PortStats, x, |w, s| port::put_stats(w, s, version)),
        A::Queue(x) => list!(Queue, x, |w, q| queue::put_stats(w, q, version)),
        A::Group(x) => list!(Group, x, |w, g| group::put_stats(w, g, version)),
        A::GroupDesc(x) => list!(GroupDesc, x, |w, g| group::put_desc(w, g, version)),
        A::Meter(x) => list!(Meter, x, meter::put_stats),
        A::MeterConfig(x) => list!(MeterConfig, x, meter::put_config),
        A::TableFeatures(x) => list!(TableFeatures, x, |w, t| table::put_features(w, t, version)),
        A::PortDesc(x) => list!(PortDesc, x, |w, p| port::put(w, p, version)),
        A::TableDesc(x) => list!(TableDesc, x, |w, t| table::put_desc(w, t, version)),
        A::QueueDesc(x) => list!(QueueDesc, x, queue::put_desc),
        A::FlowMonitor(x) if T::FlowMonitor.number(version).is_some() => {
            list!(FlowMonitor, x, |w, u| monitor::put_update(w, u, version))
        }
        A::FlowStats(x) => list!(FlowStats, x, |w, f| flow::put_counted(w, f, version)),
        A::ControllerStatus(x) => list!(ControllerStatus, x, control::put_controller),
        other => {
            // Experimenters' lists: their numbers come before the entries of each part.
            let begin = start_of(T::Experimenter)?;
            nicira::put_parts(w, begin, other, version)
        }
    }
}
