//! Statistics messages of OpenFlow 1.0 (1.0.0 5.3.5), Nicira's flow statistics, and the port
//! descriptions that Open vSwitch took over from 1.3.

use super::action::{self, Rest};
use super::{matching, port16, put_port, put_port16, read_port};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::oxm::NICIRA;
use crate::wire::types::{MessageType, MultipartType as T, NiciraMultipart as N};
use crate::wire::v11::{self, UNKNOWN};
use crate::wire::{ALL_QUEUES, OF10, err, nicira, parts, put_header, read_all, sized};
use std::time::Duration;

/// `OFPP_ALL` where it stands for the queues of all ports.
const ALL_PORTS: u16 = 0xfffc;
/// Type and more flag.
fn head(r: &mut Reader<'_>) -> Result<(T, bool), OfError> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    match T::of(OF10, kind.into()) {
        Some(t) => Ok((t, flags & 1 != 0)),
        None => err(
            ErrorKind::BadMultipart,
            format!("statistics type {kind} is not of OpenFlow 1.0"),
        ),
    }
}

/// Reads a request behind its OpenFlow header.
pub(super) fn read_request(r: &mut Reader<'_>) -> Result<(Message, bool), OfError> {
    let (kind, more) = head(r)?;
    let mut form = false;
    let q = match kind {
        T::Desc => MultipartRequest::Desc,
        T::Flow => MultipartRequest::Flow(read_filter(r)?),
        T::Aggregate => MultipartRequest::Aggregate(read_filter(r)?),
        T::Table => MultipartRequest::Table,
        T::PortStats => {
            let port = port16(r.u16()?);
            r.skip(6)?;
            MultipartRequest::PortStats(port)
        }
        T::Queue => {
            let port = match r.u16()? {
                ALL_PORTS => PortNo::ANY,
                n => port16(n),
            };
            r.skip(2)?;
            MultipartRequest::Queue {
                port,
                queue: Some(r.u32()?).filter(|q| *q != ALL_QUEUES),
            }
        }
        T::PortDesc => MultipartRequest::PortDesc(PortNo::ANY),
        T::Experimenter => {
            let t = nicira::head(r, OF10)?;
            form = matches!(t, N::Flow | N::Aggregate);
            match t {
                N::Flow => MultipartRequest::Flow(read_nx_filter(r)?),
                N::Aggregate => MultipartRequest::Aggregate(read_nx_filter(r)?),
                t => nicira::read_request_body(r, t, OF10)?,
            }
        }
        t => return unknown(t),
    };
    Ok((wrap(Message::MultipartRequest(q), form), more))
}

fn unknown<X>(t: T) -> Result<X, OfError> {
    err(
        ErrorKind::BadMultipart,
        format!("{} is not of OpenFlow 1.0", t.name()),
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
    let (kind, more) = head(r)?;
    let mut form = false;
    let a = match kind {
        T::Desc => MultipartReply::Desc(v11::read_desc(r)?),
        T::Flow => MultipartReply::Flow(read_all(r, |r| read_flow(&mut sized(r, 88)?))?),
        T::Aggregate => MultipartReply::Aggregate(read_aggregate(r)?),
        T::Table => MultipartReply::Table(read_all(r, |r| {
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
        T::PortStats => MultipartReply::PortStats(read_all(r, |r| {
            let port = port16(r.u16()?).0;
            r.skip(6)?;
            let mut s = PortStats {
                port,
                duration: UNKNOWN,
                ..PortStats::default()
            };
            for counter in v11::counters(&mut s) {
                *counter = r.u64()?;
            }
            for counter in v11::ethernet_counters(&mut s) {
                *counter = r.u64()?;
            }
            Ok(s)
        })?),
        T::Queue => MultipartReply::Queue(read_all(r, |r| {
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
        T::PortDesc => MultipartReply::PortDesc(read_all(r, read_port)?),
        T::Experimenter => {
            let t = nicira::head(r, OF10)?;
            form = matches!(t, N::Flow | N::Aggregate);
            match t {
                N::Flow => MultipartReply::Flow(read_all(r, |r| read_nx_flow(&mut sized(r, 48)?))?),
                N::Aggregate => MultipartReply::Aggregate(read_aggregate(r)?),
                t => nicira::read_reply_body(r, t, OF10)?,
            }
        }
        t => return unknown(t),
    };
    Ok((wrap(Message::MultipartReply(a), form), more))
}

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
    let duration = r.duration()?;
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
    let duration = r.duration()?;
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
    w.duration(f.duration);
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

fn begin(w: &mut Writer, message: MessageType, xid: u32, t: T) -> usize {
    let start = w.len();
    put_header(w, OF10, message, xid);
    w.u16(t.number(OF10).unwrap_or_default() as u16);
    w.u16(0);
    start
}

fn begin_nicira(w: &mut Writer, message: MessageType, xid: u32, t: N) -> usize {
    let start = begin(w, message, xid, T::Experimenter);
    w.u32(NICIRA);
    w.u32(t.number(OF10).unwrap_or_default());
    w.zeros(4);
    start
}

const REQUEST: MessageType = MessageType::MultipartRequest;
const REPLY: MessageType = MessageType::MultipartReply;

/// Writes a request with its header.
pub(super) fn put_request(
    w: &mut Writer,
    xid: u32,
    q: &MultipartRequest,
    form: bool,
) -> Result<(), OfError> {
    let start = match (q, form) {
        (MultipartRequest::Flow(_), true) => begin_nicira(w, REQUEST, xid, N::Flow),
        (MultipartRequest::Aggregate(_), true) => begin_nicira(w, REQUEST, xid, N::Aggregate),
        (_, true) => return err(ErrorKind::BadType, "Nicira has no form of this request"),
        (MultipartRequest::Desc, _) => begin(w, REQUEST, xid, T::Desc),
        (MultipartRequest::Flow(_), _) => begin(w, REQUEST, xid, T::Flow),
        (MultipartRequest::Aggregate(_), _) => begin(w, REQUEST, xid, T::Aggregate),
        (MultipartRequest::Table, _) => begin(w, REQUEST, xid, T::Table),
        (MultipartRequest::PortStats(_), _) => begin(w, REQUEST, xid, T::PortStats),
        (MultipartRequest::Queue { .. }, _) => begin(w, REQUEST, xid, T::Queue),
        (MultipartRequest::PortDesc(_), _) => begin(w, REQUEST, xid, T::PortDesc),
        // What else there is, is Nicira's.
        _ => {
            let start = begin(w, REQUEST, xid, T::Experimenter);
            nicira::put_request(w, q, OF10)?;
            start
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
            w.u32(queue.unwrap_or(ALL_QUEUES));
        }
        _ => {}
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
    let of = |kind| move |w: &mut Writer| begin(w, REPLY, xid, kind);
    match a {
        MultipartReply::Flow(flows) if form => parts::put(
            w,
            |w| begin_nicira(w, REPLY, xid, N::Flow),
            flows,
            |w, f| put_flow(w, f, true),
        ),
        MultipartReply::Flow(flows) => {
            parts::put(w, of(T::Flow), flows, |w, f| put_flow(w, f, false))
        }
        MultipartReply::Aggregate(s) => {
            let start = match form {
                true => begin_nicira(w, REPLY, xid, N::Aggregate),
                false => begin(w, REPLY, xid, T::Aggregate),
            };
            w.u64(s.packets);
            w.u64(s.bytes);
            w.u32(s.flows);
            w.zeros(4);
            w.set_len(start + 2, start)
        }
        _ if form => err(ErrorKind::BadType, "Nicira has no form of this answer"),
        MultipartReply::Desc(d) => {
            let start = begin(w, REPLY, xid, T::Desc);
            v11::put_desc(w, d);
            w.set_len(start + 2, start)
        }
        MultipartReply::Table(tables) => parts::put(w, of(T::Table), tables, |w, t| {
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
        MultipartReply::PortStats(ports) => parts::put(w, of(T::PortStats), ports, |w, s| {
            let mut s = *s;
            put_port16(w, PortNo(s.port))?;
            w.zeros(6);
            for n in v11::counters(&mut s) {
                w.u64(*n);
            }
            for n in v11::ethernet_counters(&mut s) {
                w.u64(*n);
            }
            Ok(())
        }),
        MultipartReply::Queue(queues) => parts::put(w, of(T::Queue), queues, |w, q| {
            put_port16(w, PortNo(q.port))?;
            w.zeros(2);
            w.u32(q.queue);
            w.u64(q.tx_bytes);
            w.u64(q.tx_packets);
            w.u64(q.tx_errors);
            Ok(())
        }),
        MultipartReply::PortDesc(ports) => parts::put(w, of(T::PortDesc), ports, put_port),
        // What else there is, is Nicira's.
        MultipartReply::GroupFeatures(_) | MultipartReply::IpfixBridge(_) => {
            let start = begin(w, REPLY, xid, T::Experimenter);
            nicira::put_reply(w, a, OF10)?;
            w.set_len(start + 2, start)
        }
        other => nicira::put_parts(w, of(T::Experimenter), other, OF10),
    }
}
