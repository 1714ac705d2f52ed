//! Statistics messages of OpenFlow 1.0 (1.0.0 5.3.5), Nicira's flow statistics, and the port
//! descriptions that Open vSwitch took over from 1.3.

use super::action::{self, Rest};
use super::{err, matching, port16, put_port, put_port16, read_port};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::OF10;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::multipart::{PART_LEN, QUEUE_ALL, port_counters, sized};
use crate::wire::oxm::NICIRA;
use crate::wire::v13;
use std::time::Duration;

const REQUEST: u8 = 16;
const REPLY: u8 = 17;
const VENDOR: u16 = 0xffff;
/// `OFPP_ALL` where it stands for the queues of all ports.
const ALL_PORTS: u16 = 0xfffc;
/// `OFPST_PORT_DESC`, of 1.3.
const PORT_DESC: u16 = 13;

/// Reads entries to the end of the message.
pub(super) fn read_all<T>(
    r: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, OfError>,
) -> Result<Vec<T>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        out.push(one(r)?);
    }
    Ok(out)
}

/// Nicira's subtype behind a vendor type.
fn nicira(r: &mut Reader<'_>) -> Result<u32, OfError> {
    let who = r.u32()?;
    if who != NICIRA {
        return err(
            ErrorKind::BadExperimenter,
            format!("statistics of vendor {who:#010x} are not known"),
        );
    }
    let kind = r.u32()?;
    r.skip(4)?;
    if kind > 1 {
        return err(
            ErrorKind::BadExpType,
            format!("Nicira statistics {kind} are not known"),
        );
    }
    Ok(kind)
}

/// Reads a request behind its OpenFlow header.
pub(super) fn read_request(r: &mut Reader<'_>) -> Result<(Message, bool), OfError> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    let mut form = false;
    let q = match kind {
        0 => MultipartRequest::Desc,
        1 => MultipartRequest::Flow(read_filter(r)?),
        2 => MultipartRequest::Aggregate(read_filter(r)?),
        3 => MultipartRequest::Table,
        4 => {
            let port = port16(r.u16()?);
            r.skip(6)?;
            MultipartRequest::PortStats(port)
        }
        5 => {
            let port = match r.u16()? {
                ALL_PORTS => PortNo::ANY,
                n => port16(n),
            };
            r.skip(2)?;
            MultipartRequest::Queue {
                port,
                queue: Some(r.u32()?).filter(|q| *q != QUEUE_ALL),
            }
        }
        PORT_DESC => MultipartRequest::PortDesc(PortNo::ANY),
        VENDOR => {
            form = true;
            match nicira(r)? {
                0 => MultipartRequest::Flow(read_nx_filter(r)?),
                _ => MultipartRequest::Aggregate(read_nx_filter(r)?),
            }
        }
        n => return unknown(n),
    };
    Ok((wrap(Message::MultipartRequest(q), form), flags & 1 != 0))
}

fn unknown<T>(n: u16) -> Result<T, OfError> {
    err(
        ErrorKind::BadMultipart,
        format!("statistics type {n} is not of OpenFlow 1.0"),
    )
}

fn wrap(m: Message, form: bool) -> Message {
    if form {
        Message::Nicira(Box::new(m))
    } else {
        m
    }
}

fn read_filter(r: &mut Reader<'_>) -> Result<FlowFilter, OfError> {
    let (matching, _) = matching::read(r)?;
    let table = r.u8()?;
    r.skip(1)?;
    filter(table, port16(r.u16()?), (0, 0), matching)
}

fn read_nx_filter(r: &mut Reader<'_>) -> Result<FlowFilter, OfError> {
    let (out_port, len, table) = (port16(r.u16()?), r.u16()?, r.u8()?);
    r.skip(3)?;
    let (m, cookie) = matching::read_nxm(r, len)?;
    filter(table, out_port, cookie, m)
}

fn filter(
    table: u8,
    out_port: PortNo,
    (cookie, cookie_mask): matching::Cookie,
    matching: crate::Match,
) -> Result<FlowFilter, OfError> {
    if !crate::wire::oxm::port_ok(out_port.0) {
        return err(
            ErrorKind::BadOutPort,
            format!("out_port {out_port} can not exist"),
        );
    }
    Ok(FlowFilter {
        table,
        out_port,
        out_group: None,
        cookie,
        cookie_mask,
        matching,
    })
}

/// Reads an answer behind its OpenFlow header.
pub(super) fn read_reply(r: &mut Reader<'_>) -> Result<(Message, bool), OfError> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    let mut form = false;
    let a = match kind {
        0 => MultipartReply::Desc(SwitchDesc {
            manufacturer: r.text(256)?,
            hardware: r.text(256)?,
            software: r.text(256)?,
            serial: r.text(32)?,
            datapath: r.text(256)?,
        }),
        1 => MultipartReply::Flow(read_all(r, |r| read_flow(&mut sized(r, 88)?))?),
        2 => MultipartReply::Aggregate(read_aggregate(r)?),
        3 => MultipartReply::Table(read_all(r, |r| {
            let table = r.u8()?;
            r.skip(3)?;
            let name = r.text(32)?;
            let legacy = Some(LegacyTable {
                wildcards: r.u32()?.into(),
                max_entries: r.u32()?,
                ..LegacyTable::default()
            });
            Ok(TableStats {
                table,
                name,
                active: r.u32()?,
                lookups: r.u64()?,
                matched: r.u64()?,
                legacy,
            })
        })?),
        4 => MultipartReply::PortStats(read_all(r, |r| {
            let port = port16(r.u16()?).0;
            r.skip(6)?;
            let mut s = PortStats {
                port,
                duration: UNKNOWN,
                ..PortStats::default()
            };
            for counter in port_counters(&mut s) {
                *counter = r.u64()?;
            }
            Ok(s)
        })?),
        5 => MultipartReply::Queue(read_all(r, |r| {
            let port = port16(r.u16()?).0;
            r.skip(2)?;
            Ok(QueueStats {
                port,
                queue: r.u32()?,
                tx_bytes: r.u64()?,
                tx_packets: r.u64()?,
                tx_errors: r.u64()?,
                duration: UNKNOWN,
            })
        })?),
        PORT_DESC => MultipartReply::PortDesc(read_all(r, read_port)?),
        VENDOR => {
            form = true;
            match nicira(r)? {
                0 => MultipartReply::Flow(read_all(r, |r| read_nx_flow(&mut sized(r, 48)?))?),
                _ => MultipartReply::Aggregate(read_aggregate(r)?),
            }
        }
        n => return unknown(n),
    };
    Ok((wrap(Message::MultipartReply(a), form), flags & 1 != 0))
}

/// A duration that the form of a message has no room for.
const UNKNOWN: Duration = Duration::from_secs(u32::MAX as u64);

fn read_aggregate(r: &mut Reader<'_>) -> Result<AggregateStats, OfError> {
    let a = AggregateStats {
        packets: r.u64()?,
        bytes: r.u64()?,
        flows: r.u32()?,
    };
    r.skip(4)?;
    Ok(a)
}

/// One flow in the standard's form, behind its length.
fn read_flow(r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    let table = r.u8()?;
    r.skip(1)?;
    let (matching, _) = matching::read(r)?;
    let duration = v13::read_duration(r)?;
    let (priority, idle_timeout, hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(6)?;
    let (cookie, packets, bytes) = (r.u64()?, r.u64()?, r.u64()?);
    Ok(FlowStats {
        table,
        duration,
        idle_age: None,
        hard_age: None,
        priority,
        idle_timeout,
        hard_timeout,
        importance: 0,
        flags: FlowFlags::default(),
        cookie,
        packets,
        bytes,
        instructions: action::read(r, &matching)?,
        matching,
    })
}

/// One flow in Nicira's form, behind its length.
fn read_nx_flow(r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    let table = r.u8()?;
    r.skip(1)?;
    let duration = v13::read_duration(r)?;
    let (priority, idle_timeout, hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let len = r.u16()?;
    // Seconds plus one; 0 from switches that do not say.
    let mut age = || {
        Ok::<_, OfError>(
            r.u16()?
                .checked_sub(1)
                .map(|n| Duration::from_secs(n.into())),
        )
    };
    let (idle_age, hard_age) = (age()?, age()?);
    let (cookie, packets, bytes) = (r.u64()?, r.u64()?, r.u64()?);
    let (matching, _) = matching::read_nxm(r, len)?;
    Ok(FlowStats {
        table,
        duration,
        idle_age,
        hard_age,
        priority,
        idle_timeout,
        hard_timeout,
        importance: 0,
        flags: FlowFlags::default(),
        cookie,
        packets,
        bytes,
        instructions: action::read(r, &matching)?,
        matching,
    })
}

fn put_flow(w: &mut Writer, f: &FlowStats, form: bool) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u8(f.table);
    w.u8(0);
    if !form {
        matching::put_lossy(w, &f.matching)?;
    }
    v13::put_duration(w, f.duration);
    w.u16(f.priority);
    w.u16(f.idle_timeout);
    w.u16(f.hard_timeout);
    let at = w.len();
    w.u16(0);
    for age in [f.idle_age, f.hard_age] {
        let seconds = |d: Duration| u16::try_from(d.as_secs() + 1).unwrap_or(u16::MAX);
        w.u16(age.filter(|_| form).map_or(0, seconds));
    }
    w.u64(f.cookie);
    w.u64(f.packets);
    w.u64(f.bytes);
    if form {
        matching::put_nxm(w, at, &f.matching, (0, 0))?;
    }
    action::put_instructions(w, &f.instructions, &f.matching, Rest::LeaveOut)?;
    w.set_len(start, start)
}

fn begin(w: &mut Writer, message: u8, xid: u32, kind: u16) -> usize {
    let start = w.len();
    crate::wire::put_header(w, OF10, message, xid);
    w.u16(kind);
    w.u16(0);
    start
}

fn begin_nicira(w: &mut Writer, message: u8, xid: u32, kind: u32) -> usize {
    let start = begin(w, message, xid, VENDOR);
    w.u32(NICIRA);
    w.u32(kind);
    w.zeros(4);
    start
}

/// Writes a request with its header.
pub(super) fn put_request(
    w: &mut Writer,
    xid: u32,
    q: &MultipartRequest,
    form: bool,
) -> Result<(), OfError> {
    let start = match (q, form) {
        (MultipartRequest::Flow(_), true) => begin_nicira(w, REQUEST, xid, 0),
        (MultipartRequest::Aggregate(_), true) => begin_nicira(w, REQUEST, xid, 1),
        (_, true) => return err(ErrorKind::BadType, "Nicira has no form of this request"),
        (MultipartRequest::Desc, _) => begin(w, REQUEST, xid, 0),
        (MultipartRequest::Flow(_), _) => begin(w, REQUEST, xid, 1),
        (MultipartRequest::Aggregate(_), _) => begin(w, REQUEST, xid, 2),
        (MultipartRequest::Table, _) => begin(w, REQUEST, xid, 3),
        (MultipartRequest::PortStats(_), _) => begin(w, REQUEST, xid, 4),
        (MultipartRequest::Queue { .. }, _) => begin(w, REQUEST, xid, 5),
        (MultipartRequest::PortDesc(_), _) => begin(w, REQUEST, xid, PORT_DESC),
        _ => {
            return err(
                ErrorKind::BadMultipart,
                "OpenFlow 1.0 has no groups, meters and table features",
            );
        }
    };
    match q {
        MultipartRequest::Flow(f) | MultipartRequest::Aggregate(f) => {
            if f.out_group.is_some() {
                return err(ErrorKind::BadField, "OpenFlow 1.0 has no groups");
            }
            if form {
                put_port16(w, f.out_port)?;
                let at = w.len();
                w.u16(0);
                w.u8(f.table);
                w.zeros(3);
                matching::put_nxm(w, at, &f.matching, (f.cookie, f.cookie_mask))?;
            } else {
                if f.cookie_mask != 0 {
                    return err(
                        ErrorKind::BadField,
                        "OpenFlow 1.0's own statistics can not select by cookie; Nicira's can",
                    );
                }
                matching::put(w, &f.matching)?;
                w.u8(f.table);
                w.u8(0);
                put_port16(w, f.out_port)?;
            }
        }
        MultipartRequest::PortStats(port) => {
            put_port16(w, *port)?;
            w.zeros(6);
        }
        MultipartRequest::Queue { port, queue } => {
            match *port {
                PortNo::ANY => w.u16(ALL_PORTS),
                p => put_port16(w, p)?,
            }
            w.zeros(2);
            w.u32(queue.unwrap_or(QUEUE_ALL));
        }
        _ => {}
    }
    w.set_len(start + 2, start)
}

/// Writes entries into as many messages as they need.
fn put_parts<T>(
    w: &mut Writer,
    mut begin: impl FnMut(&mut Writer) -> usize,
    entries: &[T],
    mut one: impl FnMut(&mut Writer, &T) -> Result<(), OfError>,
) -> Result<(), OfError> {
    let mut start = begin(w);
    for e in entries {
        if w.len() - start > PART_LEN {
            w.buf[start + 11] = 1; // OFPSF_REPLY_MORE
            w.set_len(start + 2, start)?;
            start = begin(w);
        }
        one(w, e)?;
    }
    w.set_len(start + 2, start)
}

/// Writes an answer with its header, as several messages if it is long.
pub(super) fn put_reply(
    w: &mut Writer,
    xid: u32,
    a: &MultipartReply,
    form: bool,
) -> Result<(), OfError> {
    let parts = |kind| move |w: &mut Writer| begin(w, REPLY, xid, kind);
    match a {
        MultipartReply::Flow(flows) if form => put_parts(
            w,
            |w| begin_nicira(w, REPLY, xid, 0),
            flows,
            |w, f| put_flow(w, f, true),
        ),
        MultipartReply::Flow(flows) => put_parts(w, parts(1), flows, |w, f| put_flow(w, f, false)),
        MultipartReply::Aggregate(s) => {
            let start = match form {
                true => begin_nicira(w, REPLY, xid, 1),
                false => begin(w, REPLY, xid, 2),
            };
            w.u64(s.packets);
            w.u64(s.bytes);
            w.u32(s.flows);
            w.zeros(4);
            w.set_len(start + 2, start)
        }
        _ if form => err(ErrorKind::BadType, "Nicira has no form of this answer"),
        MultipartReply::Desc(d) => {
            let start = begin(w, REPLY, xid, 0);
            w.text(&d.manufacturer, 256);
            w.text(&d.hardware, 256);
            w.text(&d.software, 256);
            w.text(&d.serial, 32);
            w.text(&d.datapath, 256);
            w.set_len(start + 2, start)
        }
        MultipartReply::Table(tables) => put_parts(w, parts(3), tables, |w, t| {
            let legacy = t.legacy.unwrap_or_default();
            w.u8(t.table);
            w.zeros(3);
            w.text(&t.name, 32);
            w.u32(legacy.wildcards as u32);
            w.u32(legacy.max_entries);
            w.u32(t.active);
            w.u64(t.lookups);
            w.u64(t.matched);
            Ok(())
        }),
        MultipartReply::PortStats(ports) => put_parts(w, parts(4), ports, |w, s| {
            let mut s = *s;
            put_port16(w, PortNo(s.port))?;
            w.zeros(6);
            for n in port_counters(&mut s) {
                w.u64(*n);
            }
            Ok(())
        }),
        MultipartReply::Queue(queues) => put_parts(w, parts(5), queues, |w, q| {
            put_port16(w, PortNo(q.port))?;
            w.zeros(2);
            w.u32(q.queue);
            w.u64(q.tx_bytes);
            w.u64(q.tx_packets);
            w.u64(q.tx_errors);
            Ok(())
        }),
        MultipartReply::PortDesc(ports) => put_parts(w, parts(PORT_DESC), ports, put_port),
        _ => err(
            ErrorKind::BadMultipart,
            "OpenFlow 1.0 has no groups, meters and table features",
        ),
    }
}
