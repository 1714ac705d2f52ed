//! Packets that wait in the switch while their beginning is at a controller (OpenFlow 1.3.5 6.1.2).
//!
//! Open vSwitch has kept none since its version 2.7, and so does weir unless a bridge's
//! `other_config:packet-buffers` says how many. Each may be used once. The oldest makes room for the
//! next; what nobody asked for within [`MAX_AGE`] is forgotten.

use super::rconn::Now;
use bytes::Bytes;
use openflow::error::ErrorKind;
use openflow::{OfError, PortNo};
use std::collections::VecDeque;
use std::time::Duration;

/// The most that a bridge can be told to keep.
pub const MAX_BUFFERS: usize = 4096;
/// Bytes that all of a bridge's may have together.
pub const MAX_BYTES: usize = 4 << 20;
/// How long one is kept.
pub const MAX_AGE: Duration = Duration::from_secs(5);

/// A packet that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where it came in.
    pub in_port: PortNo,
    /// Its bytes.
    pub data: Bytes,
}

/// A bridge's.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    limit: usize,
    /// The id of the first slot; ids are given out in order.
    first: u32,
    /// `None` once it was used.
    slots: VecDeque<(Now, Option<Waiting>)>,
    bytes: usize,
}

impl Buffers {
    /// How many may wait; 0 keeps none.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_BUFFERS);
        while self.slots.len() > self.limit {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, waiting)) = self.slots.pop_front() {
            self.bytes -= waiting.map_or(0, |w| w.data.len());
            // The number that stands for "not buffered" is never given out.
            self.first = self.first.wrapping_add(1) % u32::MAX;
        }
    }

    /// Keeps a packet; its id, unless none are kept.
    pub fn keep(&mut self, waiting: Waiting, now: Now) -> Option<u32> {
        if self.limit == 0 || waiting.data.len() > MAX_BYTES {
            return None;
        }
        while self.slots.len() >= self.limit
            || self.bytes + waiting.data.len() > MAX_BYTES
            || self.slots.front().is_some_and(|(t, _)| *t + MAX_AGE <= now)
        {
            self.drop_first();
        }
        let id = (u64::from(self.first) + self.slots.len() as u64) % u64::from(u32::MAX);
        self.bytes += waiting.data.len();
        self.slots.push_back((now, Some(waiting)));
        Some(id as u32)
    }

    /// Takes a packet out.
    ///
    /// # Errors
    /// `OFPBRC_BUFFER_EMPTY` if it was used before, `OFPBRC_BUFFER_UNKNOWN` if there is none of that id
    /// (any more).
    pub fn take(&mut self, id: u32, now: Now) -> Result<Waiting, OfError> {
        let unknown = || {
            OfError::new(
                ErrorKind::BufferUnknown,
                format!("no packet waits under the id {id:#x}"),
            )
        };
        let place =
            (u64::from(id) + u64::from(u32::MAX) - u64::from(self.first)) % u64::from(u32::MAX);
        let (kept, slot) = self.slots.get_mut(place as usize).ok_or_else(unknown)?;
        if *kept + MAX_AGE <= now {
            return Err(unknown());
        }
        let waiting = slot.take().ok_or_else(|| {
            OfError::new(
                ErrorKind::BufferEmpty,
                format!("the packet {id:#x} was used already"),
            )
        })?;
        self.bytes -= waiting.data.len();
        Ok(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(n: u8, len: usize) -> Waiting {
        Waiting {
            in_port: PortNo(u32::from(n)),
            data: vec![n; len].into(),
        }
    }

    #[test]
    fn each_is_used_once_the_oldest_goes_and_all_grow_old() {
        let s = Duration::from_secs;
        let mut b = Buffers::default();
        assert_eq!(
            b.keep(packet(1, 60), s(0)),
            None,
            "none are kept by default"
        );
        b.set_limit(2);
        let ids: Vec<u32> = (0..3)
            .map(|n| b.keep(packet(n, 60), s(0)).unwrap())
            .collect();
        let kind = |r: Result<Waiting, OfError>| r.unwrap_err().kind;
        assert_eq!(kind(b.take(ids[0], s(0))), ErrorKind::BufferUnknown);
        assert_eq!(b.take(ids[1], s(0)), Ok(packet(1, 60)));
        assert_eq!(kind(b.take(ids[1], s(0))), ErrorKind::BufferEmpty);
        assert_eq!(
            kind(b.take(ids[2], s(5))),
            ErrorKind::BufferUnknown,
            "too old"
        );
        assert_eq!(kind(b.take(12345, s(0))), ErrorKind::BufferUnknown);
        let big = b.keep(packet(7, MAX_BYTES), s(6)).unwrap();
        let last = b.keep(packet(8, 60), s(6)).unwrap();
        assert_eq!(
            kind(b.take(big, s(6))),
            ErrorKind::BufferUnknown,
            "its bytes were needed"
        );
        assert_eq!(b.take(last, s(6)), Ok(packet(8, 60)));
        assert_eq!(b.bytes, 0);
    }

    #[test]
    fn ids_run_over() {
        let mut b = Buffers {
            limit: 4,
            first: u32::MAX - 2,
            ..Buffers::default()
        };
        let now = Duration::ZERO;
        let ids: Vec<u32> = (0..4)
            .map(|n| b.keep(packet(n, 20), now).unwrap())
            .collect();
        assert_eq!(ids, [u32::MAX - 2, u32::MAX - 1, 0, 1]);
        for (n, id) in ids.into_iter().enumerate() {
            assert_eq!(b.take(id, now), Ok(packet(n as u8, 20)));
        }
    }
}
