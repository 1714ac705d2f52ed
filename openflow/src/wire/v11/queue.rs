//! Queues: their configuration, a message of its own before 1.4, and their counters.

use super::{err, read_all};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{OF12, OF13, OF14, property, sized};

/// `OFPQT_MIN_RATE` and `OFPQT_MAX_RATE`.
const RATES: [u16; 2] = [1, 2];
/// Rates over this, in tenths of a percent, mean that there is none.
const MAX_RATE: u16 = 1000;

/// Reads a queue's properties of before 1.4: its least and its greatest rate.
pub(in crate::wire) fn read_rates(
    props: &mut Reader<'_>,
) -> Result<(Option<u16>, Option<u16>), OfError> {
    let mut rates = [None; 2];
    while !props.is_empty() {
        let (kind, _, mut p) = props.tlv(8, 8)?;
        p.skip(4)?;
        // Experimenters' are passed over.
        if let Some(i) = RATES.iter().position(|r| *r == kind) {
            rates[i] = Some(p.u16()?).filter(|r| *r <= MAX_RATE);
        }
    }
    Ok((rates[0], rates[1]))
}

/// Writes a queue's properties of before 1.4.
pub(in crate::wire) fn put_rates(w: &mut Writer, q: &QueueConfig) {
    for (kind, rate) in RATES.into_iter().zip([q.min_rate, q.max_rate]) {
        if let Some(rate) = rate {
            w.u16(kind);
            w.u16(16);
            w.zeros(4);
            w.u16(rate);
            w.zeros(6);
        }
    }
}

/// Reads the queues of a `OFPT_QUEUE_GET_CONFIG_REPLY`. Those of 1.1 are still 1.0's and do not say
/// whose they are.
pub(super) fn read_configs(
    r: &mut Reader<'_>,
    port: PortNo,
    version: u8,
) -> Result<Vec<QueueConfig>, OfError> {
    read_all(r, |r| {
        let queue = r.u32()?;
        let (port, head) = if version < OF12 {
            (port, 8)
        } else {
            (PortNo(r.u32()?), 16)
        };
        let len = usize::from(r.u16()?);
        r.skip(if version < OF12 { 2 } else { 6 })?;
        let Some(len) = len.checked_sub(head) else {
            return err(ErrorKind::BadLen, "a queue is shorter than its header");
        };
        let mut props = r.sub(len, ErrorKind::BadLen)?;
        let (min_rate, max_rate) = read_rates(&mut props)?;
        Ok(QueueConfig {
            queue,
            port,
            min_rate,
            max_rate,
        })
    })
}

pub(super) fn put_config(w: &mut Writer, q: &QueueConfig, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u32(q.queue);
    if version >= OF12 {
        w.u32(q.port.0);
    }
    let at = w.len();
    w.u16(0);
    w.zeros(if version < OF12 { 2 } else { 6 });
    put_rates(w, q);
    w.set_len(at, start)
}

/// Reads an `ofp_queue_desc` (1.4.1 7.3.5.17).
pub(super) fn read_desc(r: &mut Reader<'_>) -> Result<QueueConfig, OfError> {
    let len = {
        let mut look = r.clone();
        look.skip(8)?;
        usize::from(look.u16()?)
    };
    if len < 16 {
        return err(
            ErrorKind::BadLen,
            format!("a queue has {len} bytes, at least 16 are right"),
        );
    }
    let mut e = r.sub(len, ErrorKind::BadLen)?;
    let (port, queue) = (PortNo(e.u32()?), e.u32()?);
    e.skip(8)?;
    let mut rates = [None; 2];
    property::read(&mut e, |kind, v| {
        if let Some(i) = RATES.iter().position(|r| *r == kind) {
            rates[i] = Some(v.u16()?).filter(|r| *r <= MAX_RATE);
        }
        property::pass(v)
    })?;
    Ok(QueueConfig {
        queue,
        port,
        min_rate: rates[0],
        max_rate: rates[1],
    })
}

/// Writes an `ofp_queue_desc`.
pub(super) fn put_desc(w: &mut Writer, q: &QueueConfig) -> Result<(), OfError> {
    let start = w.len();
    w.u32(q.port.0);
    w.u32(q.queue);
    w.zeros(8);
    for (kind, rate) in RATES.into_iter().zip([q.min_rate, q.max_rate]) {
        if let Some(rate) = rate {
            property::put(w, kind, |w| {
                w.u16(rate);
                w.zeros(2);
            })?;
        }
    }
    w.set_len(start + 8, start)
}

pub(super) fn read_stats(r: &mut Reader<'_>, version: u8) -> Result<QueueStats, OfError> {
    let mut entry;
    let r = if version >= OF14 {
        entry = sized(r, 48)?;
        entry.skip(6)?;
        &mut entry
    } else {
        r
    };
    let mut s = QueueStats {
        port: r.u32()?,
        queue: r.u32()?,
        tx_bytes: r.u64()?,
        tx_packets: r.u64()?,
        tx_errors: r.u64()?,
        duration: super::stats::UNKNOWN,
    };
    if version >= OF13 {
        s.duration = r.duration()?;
    }
    if version >= OF14 {
        property::read(r, |_, v| property::pass(v))?;
    }
    Ok(s)
}

pub(super) fn put_stats(w: &mut Writer, q: &QueueStats, version: u8) -> Result<(), OfError> {
    let start = w.len();
    if version >= OF14 {
        w.zeros(8);
    }
    w.u32(q.port);
    w.u32(q.queue);
    w.u64(q.tx_bytes);
    w.u64(q.tx_packets);
    w.u64(q.tx_errors);
    if version >= OF13 {
        w.duration(q.duration);
    }
    if version >= OF14 {
        w.set_len(start, start)?;
    }
    Ok(())
}
