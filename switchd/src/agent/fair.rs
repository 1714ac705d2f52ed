//! Rate limiting with fair queueing: so many packets a second, ports taking turns.
//!
//! No clock: every call is told what time it is. Tokens come in at `rate` a second and `burst` of them
//! may be saved. A packet that finds a token while nobody waits goes at once. Others wait, each port in
//! a queue of its own; as tokens come in, the ports send one each in turn, so a port that floods cannot
//! keep the packets of others back. When more than `burst` (or [`MAX_WAITING_BYTES`]) wait, the longest
//! queue loses its oldest packet. (`controller_rate_limit`, `controller_burst_limit`.)

use super::rconn::Now;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

/// Bytes that may wait for tokens in front of one connection, whatever the burst allows.
pub const MAX_WAITING_BYTES: usize = 8 << 20;

/// What one queue did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FairStats {
    /// Went at once.
    pub bypassed: u64,
    /// Had to wait.
    pub queued: u64,
    /// Were pushed out while they waited.
    pub dropped: u64,
    /// Wait now.
    pub backlog: usize,
}

/// The queue. Costs are in billionths of a packet, so that time needs no rounding.
#[derive(Clone, Debug)]
pub struct FairQueue<T> {
    rate: u32,
    burst: u32,
    tokens: u128,
    last: Now,
    ports: BTreeMap<u32, VecDeque<(usize, T)>>,
    /// The port that sent last.
    turn: u32,
    bytes: usize,
    stats: FairStats,
}

const TOKEN: u128 = 1_000_000_000;

impl<T> FairQueue<T> {
    /// A queue with all its tokens; `rate` a second (at least 1), `burst` at once (at least 1).
    pub fn new(rate: u32, burst: u32, now: Now) -> FairQueue<T> {
        let burst = burst.max(1);
        FairQueue {
            rate: rate.max(1),
            burst,
            tokens: u128::from(burst) * TOKEN,
            last: now,
            ports: BTreeMap::new(),
            turn: 0,
            bytes: 0,
            stats: FairStats::default(),
        }
    }

    /// Goes on with another rate and burst; what waits stays as far as the burst allows.
    pub fn set_limits(&mut self, rate: u32, burst: u32, now: Now) {
        self.refill(now);
        (self.rate, self.burst) = (rate.max(1), burst.max(1));
        self.refill(now);
        while self.stats.backlog > self.burst as usize {
            self.drop_longest();
        }
    }

    fn refill(&mut self, now: Now) {
        let passed = now.saturating_sub(self.last).as_nanos();
        self.last = self.last.max(now);
        let full = u128::from(self.burst) * TOKEN;
        self.tokens = (self.tokens + passed * u128::from(self.rate)).min(full);
    }

    fn take_token(&mut self) -> bool {
        let there = self.tokens >= TOKEN;
        if there {
            self.tokens -= TOKEN;
        }
        there
    }

    /// A packet of `bytes` bytes that came in by `port`: given back if it may go now.
    pub fn offer(&mut self, port: u32, bytes: usize, item: T, now: Now) -> Option<T> {
        self.refill(now);
        if self.stats.backlog == 0 && self.take_token() {
            self.stats.bypassed += 1;
            return Some(item);
        }
        while self.stats.backlog >= self.burst as usize
            || self.stats.backlog > 0 && self.bytes + bytes > MAX_WAITING_BYTES
        {
            self.drop_longest();
        }
        self.ports.entry(port).or_default().push_back((bytes, item));
        self.bytes += bytes;
        self.stats.backlog += 1;
        self.stats.queued += 1;
        None
    }

    fn drop_longest(&mut self) {
        let longest = self
            .ports
            .iter()
            .max_by_key(|(_, q)| q.len())
            .map(|(port, _)| *port);
        if let Some(port) = longest
            && self.pop(port).is_some()
        {
            self.stats.dropped += 1;
        }
    }

    fn pop(&mut self, port: u32) -> Option<T> {
        let queue = self.ports.get_mut(&port)?;
        let (bytes, item) = queue.pop_front()?;
        if queue.is_empty() {
            self.ports.remove(&port);
        }
        self.bytes -= bytes;
        self.stats.backlog -= 1;
        Some(item)
    }

    /// The next waiting packet, if its token is there.
    pub fn due(&mut self, now: Now) -> Option<T> {
        self.refill(now);
        if self.stats.backlog == 0 || !self.take_token() {
            return None;
        }
        let behind = (Bound::Excluded(self.turn), Bound::Unbounded);
        let next = self.ports.range(behind).next();
        let (&port, _) = next.or_else(|| self.ports.first_key_value())?;
        self.turn = port;
        self.pop(port)
    }

    /// When the next waiting packet's token comes in.
    pub fn wake(&self) -> Option<Now> {
        if self.stats.backlog == 0 {
            return None;
        }
        let missing = TOKEN.saturating_sub(self.tokens);
        let nanos = missing.div_ceil(u128::from(self.rate));
        Some(self.last + Duration::from_nanos(nanos as u64))
    }

    /// What it did.
    pub fn stats(&self) -> FairStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn other_limits_hold_at_once() {
        let mut q = FairQueue::new(10, 10, ms(0));
        for n in 0..20 {
            q.offer(1, 60, n, ms(0));
        }
        assert_eq!(q.stats().backlog, 10);
        q.set_limits(100, 3, ms(0));
        assert_eq!((q.stats().backlog, q.stats().dropped), (3, 7));
        assert_eq!(q.due(ms(9)), None);
        assert_eq!(q.due(ms(10)), Some(17));
        // No more tokens than the new burst were saved.
        assert_eq!((0..9).filter_map(|_| q.due(ms(9000))).count(), 2);
        assert_eq!(q.offer(1, 60, 20, ms(9000)), Some(20));
        assert_eq!(q.offer(1, 60, 21, ms(9000)), None);
    }

    #[test]
    fn the_rate_is_exact_and_ports_take_turns() {
        let mut q = FairQueue::new(100, 10, ms(0));
        // Port 1 floods: ten go at once, ten wait, the rest pushes its own out.
        let passed = (0..50)
            .filter(|n| q.offer(1, 60, *n, ms(0)).is_some())
            .count();
        assert_eq!(passed, 10);
        assert_eq!(q.stats().dropped, 30);
        assert_eq!(q.stats().backlog, 10);
        // Ports 2 and 3 send one each: they push out of the longest queue, and are served in turn.
        assert_eq!(q.offer(2, 60, 200, ms(0)), None);
        assert_eq!(q.offer(3, 60, 300, ms(0)), None);
        assert_eq!(q.stats().dropped, 32);
        assert_eq!(q.wake(), Some(ms(10)));
        assert_eq!(q.due(ms(9)), None);
        let mut order = Vec::new();
        for t in 1..=5 {
            order.extend(q.due(ms(10 * t)));
            assert_eq!(q.due(ms(10 * t)), None, "one token in 10 ms");
        }
        assert_eq!(order, [42, 200, 300, 43, 44]);
        assert_eq!(q.stats().backlog, 5);
    }

    #[test]
    fn tokens_are_saved_up_to_the_burst_and_bytes_are_bounded() {
        let mut q = FairQueue::new(1, 1000, ms(0));
        for n in 0..1000 {
            assert!(q.offer(1, 60, n, ms(0)).is_some());
        }
        for n in 0..1000 {
            assert!(q.offer(1, 1 << 20, n, ms(0)).is_none());
        }
        assert_eq!(q.stats().backlog, MAX_WAITING_BYTES >> 20);
        assert_eq!(q.due(ms(1_000_000)), Some(992), "the oldest went first");
        assert_eq!(q.stats().bypassed, 1000);
    }
}
