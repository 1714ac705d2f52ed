//! Multipart messages of OpenFlow 1.3 (1.3.5 7.3.5) and putting their parts together.

use super::cursor::{Reader, Writer};
use super::v13::{self, GROUP_TYPES, named, number};
use super::{OF13, oxm};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::message::*;

/// Where a part of a long answer is closed: no single entry that a switch makes comes near the
/// rest of the length field's range.
pub(super) const PART_LEN: usize = 48 * 1024;
/// Experimenter multipart messages.
const EXPERIMENTER: u16 = 0xffff;
pub(super) const QUEUE_ALL: u32 = 0xffff_ffff;

fn err<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

/// Type, more flag, and what follows them.
fn head(r: &mut Reader<'_>) -> Result<(u16, bool), OfError> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    r.skip(4)?;
    Ok((kind, flags & 1 != 0))
}

/// Reads a request behind its OpenFlow header.
pub(super) fn read_request(mut r: Reader<'_>) -> Result<(MultipartRequest, bool), OfError> {
    let (kind, more) = head(&mut r)?;
    let q = match kind {
        0 => MultipartRequest::Desc,
        1 => MultipartRequest::Flow(read_filter(&mut r)?),
        2 => MultipartRequest::Aggregate(read_filter(&mut r)?),
        3 => MultipartRequest::Table,
        4 => {
            let port = PortNo(r.u32()?);
            r.skip(4)?;
            MultipartRequest::PortStats(port)
        }
        5 => MultipartRequest::Queue {
            port: PortNo(r.u32()?),
            queue: Some(r.u32()?).filter(|q| *q != QUEUE_ALL),
        },
        6 | 9 | 10 => {
            let n = r.u32()?;
            r.skip(4)?;
            match kind {
                6 => MultipartRequest::Group(n),
                9 => MultipartRequest::Meter(n),
                _ => MultipartRequest::MeterConfig(n),
            }
        }
        7 => MultipartRequest::GroupDesc(GROUP_ALL),
        8 => MultipartRequest::GroupFeatures,
        11 => MultipartRequest::MeterFeatures,
        12 => MultipartRequest::TableFeatures(read_all(&mut r, table_features)?),
        13 => MultipartRequest::PortDesc(PortNo::ANY),
        EXPERIMENTER => return experimenter(&mut r),
        n => {
            return err(
                ErrorKind::BadMultipart,
                format!("multipart type {n} is not of OpenFlow 1.3"),
            );
        }
    };
    r.end()?;
    Ok((q, more))
}

fn experimenter<T>(r: &mut Reader<'_>) -> Result<T, OfError> {
    let (who, kind) = (r.u32()?, r.u32()?);
    match who {
        oxm::NICIRA | oxm::ONF => err(
            ErrorKind::BadExpType,
            format!("multipart {kind} of experimenter {who:#010x} is not known"),
        ),
        _ => err(
            ErrorKind::BadExperimenter,
            format!("multipart messages of experimenter {who:#010x} are not known"),
        ),
    }
}

fn read_filter(r: &mut Reader<'_>) -> Result<FlowFilter, OfError> {
    let table = r.u8()?;
    r.skip(3)?;
    let (out_port, out_group) = (r.u32()?, r.u32()?);
    r.skip(4)?;
    let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
    if !oxm::port_ok(out_port) {
        return err(
            ErrorKind::BadOutPort,
            format!("out_port {out_port:#x} can not exist"),
        );
    }
    Ok(FlowFilter {
        table,
        out_port: PortNo(out_port),
        out_group: v13::group(out_group),
        cookie,
        cookie_mask,
        matching: oxm::read_match(r)?,
    })
}

/// Reads entries to the end of the message.
fn read_all<T>(
    r: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, OfError>,
) -> Result<Vec<T>, OfError> {
    let mut out = Vec::new();
    while !r.is_empty() {
        out.push(one(r)?);
    }
    Ok(out)
}

/// An entry that begins with its own 16-bit length: the reader behind it.
pub(super) fn sized<'a>(r: &mut Reader<'a>, min: usize) -> Result<Reader<'a>, OfError> {
    let len = usize::from(Reader::new(r.peek(), ErrorKind::BadLen).u16()?);
    if len < min {
        return err(
            ErrorKind::BadLen,
            format!("an entry has {len} bytes, at least {min} are right"),
        );
    }
    let mut e = r.sub(len, ErrorKind::BadLen)?;
    e.skip(2)?;
    Ok(e)
}

/// Reads an answer behind its OpenFlow header.
pub(super) fn read_reply(mut r: Reader<'_>) -> Result<(MultipartReply, bool), OfError> {
    let (kind, more) = head(&mut r)?;
    let r = &mut r;
    let a = match kind {
        0 => MultipartReply::Desc(SwitchDesc {
            manufacturer: r.text(256)?,
            hardware: r.text(256)?,
            software: r.text(256)?,
            serial: r.text(32)?,
            datapath: r.text(256)?,
        }),
        1 => MultipartReply::Flow(read_all(r, |r| {
            let mut e = sized(r, 56)?;
            v13::read_flow(&mut e)
        })?),
        2 => {
            let a = AggregateStats {
                packets: r.u64()?,
                bytes: r.u64()?,
                flows: r.u32()?,
            };
            r.skip(4)?;
            MultipartReply::Aggregate(a)
        }
        3 => MultipartReply::Table(read_all(r, |r| {
            let table = r.u8()?;
            r.skip(3)?;
            Ok(TableStats {
                table,
                active: r.u32()?,
                lookups: r.u64()?,
                matched: r.u64()?,
                ..TableStats::default()
            })
        })?),
        4 => MultipartReply::PortStats(read_all(r, |r| {
            let port = r.u32()?;
            r.skip(4)?;
            let mut s = PortStats {
                port,
                ..PortStats::default()
            };
            for counter in port_counters(&mut s) {
                *counter = r.u64()?;
            }
            s.duration = v13::read_duration(r)?;
            Ok(s)
        })?),
        5 => MultipartReply::Queue(read_all(r, |r| {
            Ok(QueueStats {
                port: r.u32()?,
                queue: r.u32()?,
                tx_bytes: r.u64()?,
                tx_packets: r.u64()?,
                tx_errors: r.u64()?,
                duration: v13::read_duration(r)?,
            })
        })?),
        6 => MultipartReply::Group(read_all(r, |r| {
            let mut e = sized(r, 40)?;
            e.skip(2)?;
            let (group, references) = (e.u32()?, e.u32()?);
            e.skip(4)?;
            Ok(GroupStats {
                group,
                references,
                packets: e.u64()?,
                bytes: e.u64()?,
                duration: v13::read_duration(&mut e)?,
                buckets: read_all(&mut e, pair)?,
            })
        })?),
        7 => MultipartReply::GroupDesc(read_all(r, |r| {
            let mut e = sized(r, 8)?;
            let kind = named(
                GROUP_TYPES,
                e.u8()?.into(),
                ErrorKind::BadGroupType,
                "group type",
            )?;
            e.skip(1)?;
            Ok(GroupDesc {
                group: e.u32()?,
                kind,
                buckets: v13::read_buckets(&mut e)?,
                selection: Selection::default(),
            })
        })?),
        8 => MultipartReply::GroupFeatures(GroupFeatures {
            types: r.u32()?,
            capabilities: r.u32()?,
            max_groups: four(r)?,
            actions: four(r)?,
        }),
        9 => MultipartReply::Meter(read_all(r, |r| {
            let mut look = Reader::new(r.peek(), ErrorKind::BadLen);
            look.skip(4)?;
            let len = usize::from(look.u16()?);
            let mut e = r.sub(len, ErrorKind::BadLen)?;
            let meter = e.u32()?;
            e.skip(8)?;
            Ok(MeterStats {
                meter,
                flows: e.u32()?,
                packets: e.u64()?,
                bytes: e.u64()?,
                duration: v13::read_duration(&mut e)?,
                bands: read_all(&mut e, pair)?,
            })
        })?),
        10 => MultipartReply::MeterConfig(read_all(r, |r| {
            let mut e = sized(r, 8)?;
            Ok(MeterConfig {
                flags: e.u16()?,
                meter: e.u32()?,
                bands: v13::read_bands(&mut e)?,
            })
        })?),
        11 => {
            let f = MeterFeatures {
                max_meters: r.u32()?,
                band_types: r.u32()?,
                capabilities: r.u32()?,
                max_bands: r.u8()?,
                max_color: r.u8()?,
                features: 0,
            };
            r.skip(2)?;
            MultipartReply::MeterFeatures(f)
        }
        12 => MultipartReply::TableFeatures(read_all(r, table_features)?),
        13 => MultipartReply::PortDesc(read_all(r, v13::read_port)?),
        EXPERIMENTER => return experimenter(r),
        n => {
            return err(
                ErrorKind::BadMultipart,
                format!("multipart type {n} is not of OpenFlow 1.3"),
            );
        }
    };
    r.end()?;
    Ok((a, more))
}

fn pair(r: &mut Reader<'_>) -> Result<(u64, u64), OfError> {
    Ok((r.u64()?, r.u64()?))
}

fn four(r: &mut Reader<'_>) -> Result<[u32; 4], OfError> {
    Ok([r.u32()?, r.u32()?, r.u32()?, r.u32()?])
}

/// A port's counters in the order of the wire.
pub(super) fn port_counters(s: &mut PortStats) -> [&mut u64; 12] {
    [
        &mut s.rx_packets,
        &mut s.tx_packets,
        &mut s.rx_bytes,
        &mut s.tx_bytes,
        &mut s.rx_dropped,
        &mut s.tx_dropped,
        &mut s.rx_errors,
        &mut s.tx_errors,
        &mut s.rx_frame_err,
        &mut s.rx_over_err,
        &mut s.rx_crc_err,
        &mut s.collisions,
    ]
}

/// One table's features (1.3.5 7.3.5.5).
fn table_features(r: &mut Reader<'_>) -> Result<TableFeatures, OfError> {
    let mut e = sized(r, 64)?;
    let table = e.u8()?;
    e.skip(5)?;
    let mut out = TableFeatures {
        table,
        name: e.text(32)?,
        metadata_match: e.u64()?,
        metadata_write: e.u64()?,
        config: e.u32()?,
        max_entries: e.u32()?,
        ..TableFeatures::default()
    };
    while !e.is_empty() {
        let (kind, whole, mut p) = e.tlv(4, 1)?;
        e.skip(whole.len().next_multiple_of(8) - whole.len())?;
        let miss = kind & 1 != 0;
        let fields = |p: &mut Reader<'_>| oxm::read_ids(p);
        let ids = |p: &mut Reader<'_>| -> Result<Vec<FieldId>, OfError> {
            Ok(oxm::read_ids(p)?.into_iter().map(|f| f.0).collect())
        };
        out.properties.push(match kind {
            0 | 1 => TableProperty::Instructions {
                miss,
                types: types(&mut p)?,
            },
            2 | 3 => TableProperty::NextTables {
                miss,
                tables: p.all().to_vec(),
            },
            4 | 5 => TableProperty::WriteActions {
                miss,
                types: types(&mut p)?,
            },
            6 | 7 => TableProperty::ApplyActions {
                miss,
                types: types(&mut p)?,
            },
            8 => TableProperty::Match(fields(&mut p)?),
            10 => TableProperty::Wildcards(ids(&mut p)?),
            12 | 13 => TableProperty::WriteSetField {
                miss,
                fields: ids(&mut p)?,
            },
            14 | 15 => TableProperty::ApplySetField {
                miss,
                fields: ids(&mut p)?,
            },
            0xfffe | 0xffff => {
                return err(
                    ErrorKind::PropertyBadType,
                    "experimenter table features are not known",
                );
            }
            n => {
                return err(
                    ErrorKind::PropertyBadType,
                    format!("table feature property {n} is not known"),
                );
            }
        });
    }
    Ok(out)
}

/// Instruction or action types: type and length each; what an experimenter adds is passed over.
fn types(p: &mut Reader<'_>) -> Result<Vec<u16>, OfError> {
    read_all(p, |p| Ok(p.tlv(4, 1)?.0))
}

fn put_table_features(w: &mut Writer, t: &TableFeatures) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u8(t.table);
    w.zeros(5);
    w.text(&t.name, 32);
    w.u64(t.metadata_match);
    w.u64(t.metadata_write);
    w.u32(t.config);
    w.u32(t.max_entries);
    for p in &t.properties {
        let at = w.len();
        let kind = |base: u16, miss: &bool| base + u16::from(*miss);
        w.u16(match p {
            TableProperty::Instructions { miss, .. } => kind(0, miss),
            TableProperty::NextTables { miss, .. } => kind(2, miss),
            TableProperty::WriteActions { miss, .. } => kind(4, miss),
            TableProperty::ApplyActions { miss, .. } => kind(6, miss),
            TableProperty::Match(_) => 8,
            TableProperty::Wildcards(_) => 10,
            TableProperty::WriteSetField { miss, .. } => kind(12, miss),
            TableProperty::ApplySetField { miss, .. } => kind(14, miss),
            other => return Err(no_form(format!("{other:?}"))),
        });
        w.u16(0);
        match p {
            TableProperty::Instructions { types, .. }
            | TableProperty::WriteActions { types, .. }
            | TableProperty::ApplyActions { types, .. } => {
                for t in types {
                    w.u16(*t);
                    w.u16(4);
                }
            }
            TableProperty::NextTables { tables, .. } => w.put(tables),
            TableProperty::Match(fields) => {
                for (f, masked) in fields {
                    oxm::put_id(w, *f, *masked, OF13);
                }
            }
            TableProperty::Wildcards(fields)
            | TableProperty::WriteSetField { fields, .. }
            | TableProperty::ApplySetField { fields, .. } => {
                for f in fields {
                    oxm::put_id(w, *f, false, OF13);
                }
            }
            _ => {}
        }
        w.set_len(at + 2, at)?;
        w.pad8(at);
    }
    w.set_len(start, start)
}

fn no_form(what: String) -> OfError {
    OfError::new(
        ErrorKind::BadMultipart,
        format!("this version has no form of {what}"),
    )
}

fn begin(w: &mut Writer, message: u8, xid: u32, kind: u16) -> usize {
    let start = w.len();
    super::put_header(w, OF13, message, xid);
    w.u16(kind);
    w.zeros(6);
    start
}

/// Writes a request with its header.
pub(super) fn put_request(w: &mut Writer, xid: u32, q: &MultipartRequest) -> Result<(), OfError> {
    let kind = match q {
        MultipartRequest::Desc => 0,
        MultipartRequest::Flow(_) => 1,
        MultipartRequest::Aggregate(_) => 2,
        MultipartRequest::Table => 3,
        MultipartRequest::PortStats(_) => 4,
        MultipartRequest::Queue { .. } => 5,
        MultipartRequest::Group(_) => 6,
        MultipartRequest::GroupDesc(_) => 7,
        MultipartRequest::GroupFeatures => 8,
        MultipartRequest::Meter(_) => 9,
        MultipartRequest::MeterConfig(_) => 10,
        MultipartRequest::MeterFeatures => 11,
        MultipartRequest::TableFeatures(tables) => {
            return put_parts(w, 18, xid, 12, tables, put_table_features);
        }
        MultipartRequest::PortDesc(_) => 13,
        other => return Err(no_form(format!("{other:?}"))),
    };
    let start = begin(w, 18, xid, kind);
    match q {
        MultipartRequest::Flow(f) | MultipartRequest::Aggregate(f) => {
            w.u8(f.table);
            w.zeros(3);
            w.u32(f.out_port.0);
            w.u32(f.out_group.unwrap_or(0xffff_ffff));
            w.zeros(4);
            w.u64(f.cookie);
            w.u64(f.cookie_mask);
            oxm::put_match(w, &f.matching, OF13)?;
        }
        MultipartRequest::PortStats(port) => {
            w.u32(port.0);
            w.zeros(4);
        }
        MultipartRequest::Queue { port, queue } => {
            w.u32(port.0);
            w.u32(queue.unwrap_or(QUEUE_ALL));
        }
        MultipartRequest::Group(n)
        | MultipartRequest::Meter(n)
        | MultipartRequest::MeterConfig(n) => {
            w.u32(*n);
            w.zeros(4);
        }
        _ => {}
    }
    w.set_len(start + 2, start)
}

/// Writes entries into as many messages as they need.
fn put_parts<T>(
    w: &mut Writer,
    message: u8,
    xid: u32,
    kind: u16,
    entries: &[T],
    mut one: impl FnMut(&mut Writer, &T) -> Result<(), OfError>,
) -> Result<(), OfError> {
    let mut start = begin(w, message, xid, kind);
    for e in entries {
        if w.len() - start > PART_LEN {
            w.buf[start + 11] = 1; // OFPMPF_REPLY_MORE
            w.set_len(start + 2, start)?;
            start = begin(w, message, xid, kind);
        }
        one(w, e)?;
    }
    w.set_len(start + 2, start)
}

/// Writes an answer with its header, as several messages if it is long.
pub(super) fn put_reply(w: &mut Writer, xid: u32, a: &MultipartReply) -> Result<(), OfError> {
    const REPLY: u8 = 19;
    let mut start = 0;
    let mut single = |w: &mut Writer, kind| start = begin(w, REPLY, xid, kind);
    match a {
        MultipartReply::Desc(d) => {
            single(w, 0);
            w.text(&d.manufacturer, 256);
            w.text(&d.hardware, 256);
            w.text(&d.software, 256);
            w.text(&d.serial, 32);
            w.text(&d.datapath, 256);
        }
        MultipartReply::Flow(flows) => return put_parts(w, REPLY, xid, 1, flows, v13::put_flow),
        MultipartReply::Aggregate(s) => {
            single(w, 2);
            w.u64(s.packets);
            w.u64(s.bytes);
            w.u32(s.flows);
            w.zeros(4);
        }
        MultipartReply::Table(tables) => {
            return put_parts(w, REPLY, xid, 3, tables, |w, t| {
                w.u8(t.table);
                w.zeros(3);
                w.u32(t.active);
                w.u64(t.lookups);
                w.u64(t.matched);
                Ok(())
            });
        }
        MultipartReply::PortStats(ports) => {
            return put_parts(w, REPLY, xid, 4, ports, |w, s| {
                let mut s = *s;
                w.u32(s.port);
                w.zeros(4);
                for n in port_counters(&mut s) {
                    w.u64(*n);
                }
                v13::put_duration(w, s.duration);
                Ok(())
            });
        }
        MultipartReply::Queue(queues) => {
            return put_parts(w, REPLY, xid, 5, queues, |w, q| {
                w.u32(q.port);
                w.u32(q.queue);
                w.u64(q.tx_bytes);
                w.u64(q.tx_packets);
                w.u64(q.tx_errors);
                v13::put_duration(w, q.duration);
                Ok(())
            });
        }
        MultipartReply::Group(groups) => {
            return put_parts(w, REPLY, xid, 6, groups, |w, g| {
                let start = w.len();
                w.zeros(4);
                w.u32(g.group);
                w.u32(g.references);
                w.zeros(4);
                w.u64(g.packets);
                w.u64(g.bytes);
                v13::put_duration(w, g.duration);
                put_pairs(w, &g.buckets);
                w.set_len(start, start)
            });
        }
        MultipartReply::GroupDesc(groups) => {
            return put_parts(w, REPLY, xid, 7, groups, |w, g| {
                let start = w.len();
                w.u16(0);
                w.u8(number(GROUP_TYPES, &g.kind));
                w.u8(0);
                w.u32(g.group);
                v13::put_buckets(w, &g.buckets)?;
                w.set_len(start, start)
            });
        }
        MultipartReply::GroupFeatures(f) => {
            single(w, 8);
            w.u32(f.types);
            w.u32(f.capabilities);
            for n in [f.max_groups, f.actions].concat() {
                w.u32(n);
            }
        }
        MultipartReply::Meter(meters) => {
            return put_parts(w, REPLY, xid, 9, meters, |w, m| {
                let start = w.len();
                w.u32(m.meter);
                w.zeros(8);
                w.u32(m.flows);
                w.u64(m.packets);
                w.u64(m.bytes);
                v13::put_duration(w, m.duration);
                put_pairs(w, &m.bands);
                w.set_len(start + 4, start)
            });
        }
        MultipartReply::MeterConfig(meters) => {
            return put_parts(w, REPLY, xid, 10, meters, |w, m| {
                let start = w.len();
                w.u16(0);
                w.u16(m.flags);
                w.u32(m.meter);
                v13::put_bands(w, &m.bands);
                w.set_len(start, start)
            });
        }
        MultipartReply::MeterFeatures(f) => {
            single(w, 11);
            w.u32(f.max_meters);
            w.u32(f.band_types);
            w.u32(f.capabilities);
            w.u8(f.max_bands);
            w.u8(f.max_color);
            w.zeros(2);
        }
        MultipartReply::TableFeatures(t) => {
            return put_parts(w, REPLY, xid, 12, t, put_table_features);
        }
        MultipartReply::PortDesc(ports) => {
            return put_parts(w, REPLY, xid, 13, ports, |w, p| {
                v13::put_port(w, p);
                Ok(())
            });
        }
        other => return Err(no_form(format!("{other:?}"))),
    }
    w.set_len(start + 2, start)
}

fn put_pairs(w: &mut Writer, pairs: &[(u64, u64)]) {
    for (a, b) in pairs {
        w.u64(*a);
        w.u64(*b);
    }
}

/// Bytes of one multipart message, over all its parts, that are put together; a peer that sends
/// more is refused with `OFPBRC_MULTIPART_BUFFER_OVERFLOW`.
pub const MAX_MULTIPART_LEN: usize = 64 << 20;

/// Unfinished multipart messages a peer may have at once.
pub const MAX_MULTIPART_OPEN: usize = 16;

/// Puts the parts of multipart messages together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: Vec<(u32, Message, usize)>,
}

impl Assembler {
    /// Takes a decoded part of `len` wire bytes; gives the whole once its last part is there.
    pub(crate) fn add(
        &mut self,
        xid: u32,
        more: bool,
        len: usize,
        message: Message,
    ) -> Result<Option<Message>, OfError> {
        let Some(at) = self.open.iter().position(|o| o.0 == xid) else {
            if !more {
                return Ok(Some(message));
            }
            if self.open.len() == MAX_MULTIPART_OPEN {
                return err(
                    ErrorKind::MultipartBufferOverflow,
                    format!("{MAX_MULTIPART_OPEN} multipart messages are unfinished already"),
                );
            }
            self.open.push((xid, message, len));
            return Ok(None);
        };
        let total: usize = self.open.iter().map(|o| o.2).sum();
        if total + len > MAX_MULTIPART_LEN {
            self.open.swap_remove(at);
            return err(
                ErrorKind::MultipartBufferOverflow,
                format!("multipart messages of more than {MAX_MULTIPART_LEN} bytes in all"),
            );
        }
        let (_, whole, size) = &mut self.open[at];
        *size += len;
        if let Err(e) = extend(whole, message) {
            self.open.swap_remove(at);
            return Err(e);
        }
        Ok((!more).then(|| self.open.swap_remove(at).1))
    }
}

/// Adds the entries of a later part to an earlier one.
fn extend(whole: &mut Message, part: Message) -> Result<(), OfError> {
    use MultipartReply as A;
    use MultipartRequest as Q;
    match (whole, part) {
        // Nicira's forms of OpenFlow 1.0's statistics.
        (Message::Nicira(a), Message::Nicira(b)) => return extend(a, *b),
        (
            Message::MultipartRequest(Q::TableFeatures(a)),
            Message::MultipartRequest(Q::TableFeatures(b)),
        ) => a.extend(b),
        (Message::MultipartReply(a), Message::MultipartReply(b)) => match (a, b) {
            (A::Flow(a), A::Flow(b)) => a.extend(b),
            (A::Table(a), A::Table(b)) => a.extend(b),
            (A::PortStats(a), A::PortStats(b)) => a.extend(b),
            (A::Queue(a), A::Queue(b)) => a.extend(b),
            (A::Group(a), A::Group(b)) => a.extend(b),
            (A::GroupDesc(a), A::GroupDesc(b)) => a.extend(b),
            (A::Meter(a), A::Meter(b)) => a.extend(b),
            (A::MeterConfig(a), A::MeterConfig(b)) => a.extend(b),
            (A::TableFeatures(a), A::TableFeatures(b)) => a.extend(b),
            (A::PortDesc(a), A::PortDesc(b)) => a.extend(b),
            _ => {
                return err(
                    ErrorKind::BadMultipart,
                    "parts of different or of single-part types under one transaction id",
                );
            }
        },
        _ => {
            return err(
                ErrorKind::BadMultipart,
                "parts of different or of single-part types under one transaction id",
            );
        }
    }
    Ok(())
}
