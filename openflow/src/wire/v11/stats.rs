//! Statistics fields of OpenFlow 1.5: OXS (1.5.1 7.2.6).

use crate::error::{ErrorKind, OfError};
use crate::wire::cursor::{Reader, Writer};
use std::time::Duration;

/// `OFPXSC_OPENFLOW_BASIC`.
const BASIC: u16 = 0x8002;
const DURATION: u8 = 0;
const IDLE_TIME: u8 = 1;
const FLOW_COUNT: u8 = 3;
const PACKET_COUNT: u8 = 4;
const BYTE_COUNT: u8 = 5;

/// A duration that a message has no room for, or does not tell.
pub(in crate::wire) const UNKNOWN: Duration = Duration::from_secs(u32::MAX as u64);

/// What is told of a flow or of several; `None` for what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub duration: Option<Duration>,
    pub idle: Option<Duration>,
    pub flows: Option<u32>,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
}

impl Stats {
    /// Of one flow; counters of `u64::MAX` are not kept.
    pub(super) fn of_flow(f: &crate::FlowStats) -> Stats {
        let kept = |n: u64| Some(n).filter(|n| *n != u64::MAX);
        Stats {
            duration: Some(f.duration).filter(|d| *d != UNKNOWN),
            idle: f.idle_age,
            flows: None,
            packets: kept(f.packets),
            bytes: kept(f.bytes),
        }
    }

    /// Reads `ofp_stats` with its padding. Fields that are not known are passed over.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Stats, OfError> {
        r.skip(2)?;
        let len = usize::from(r.u16()?);
        let Some(body) = len.checked_sub(4) else {
            let why = format!("statistics have length {len}, at least 4 is right");
            return Err(OfError::new(ErrorKind::BadLen, why));
        };
        let mut fields = r.sub(body, ErrorKind::BadLen)?;
        r.skip(len.next_multiple_of(8) - len)?;
        let mut out = Stats::default();
        while !fields.is_empty() {
            let (class, number, len) = (fields.u16()?, fields.u8()? >> 1, fields.u8()?);
            let mut value = fields.sub(len.into(), ErrorKind::BadLen)?;
            if class != BASIC {
                continue;
            }
            match number {
                DURATION => out.duration = Some(value.duration()?),
                IDLE_TIME => out.idle = Some(value.duration()?),
                FLOW_COUNT => out.flows = Some(value.u32()?),
                PACKET_COUNT => out.packets = Some(value.u64()?),
                BYTE_COUNT => out.bytes = Some(value.u64()?),
                _ => continue,
            }
            value.end()?;
        }
        Ok(out)
    }

    /// Writes `ofp_stats` with its padding.
    pub(super) fn put(&self, w: &mut Writer) -> Result<(), OfError> {
        let start = w.len();
        w.zeros(4);
        let head = |w: &mut Writer, number: u8, len: u8| {
            w.u16(BASIC);
            w.u8(number << 1);
            w.u8(len);
        };
        for (number, d) in [(DURATION, self.duration), (IDLE_TIME, self.idle)] {
            if let Some(d) = d {
                head(w, number, 8);
                w.duration(d);
            }
        }
        if let Some(n) = self.flows {
            head(w, FLOW_COUNT, 4);
            w.u32(n);
        }
        for (number, n) in [(PACKET_COUNT, self.packets), (BYTE_COUNT, self.bytes)] {
            if let Some(n) = n {
                head(w, number, 8);
                w.u64(n);
            }
        }
        w.set_len(start + 2, start)?;
        w.pad8(start);
        Ok(())
    }
}
