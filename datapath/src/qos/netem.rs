//! A network that is not there (`linux-netem`, tc-netem(8)): packets are delayed, and some are lost.
//!
//! With jitter each packet is delayed by itself, evenly spread about the latency; packets may overtake each other by that, as in the
//! kernel's. Without it they keep their order.

use super::{Item, Scheduler};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A packet on its way.
#[derive(PartialEq, Eq)]
struct Flight {
    due: u64,
    number: u64,
    item: Item,
}

impl Ord for Flight {
    fn cmp(&self, other: &Flight) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Flight) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// See the module's essay.
pub struct Netem {
    /// Nanoseconds.
    latency: u64,
    jitter: u64,
    limit: usize,
    /// Percent.
    loss: u64,
    flights: BinaryHeap<Reverse<Flight>>,
    number: u64,
    random: u64,
}

impl Netem {
    /// Times in microseconds, loss in percent; `seed` for its chances.
    pub fn new(latency: u64, jitter: u64, limit: u32, loss: u32, seed: u64) -> Netem {
        Netem {
            latency: latency.saturating_mul(1000),
            jitter: jitter.saturating_mul(1000),
            limit: limit as usize,
            loss: loss.into(),
            flights: BinaryHeap::new(),
            number: 0,
            random: seed | 1,
        }
    }

    /// Evenly spread below `n` (xorshift64*).
    fn below(&mut self, n: u64) -> u64 {
        let mut x = self.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        let r = x.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(r) * u128::from(n)) >> 64) as u64
    }
}

impl Scheduler for Netem {
    fn enqueue(&mut self, item: Item, _: u64, dropped: &mut Vec<Item>) {
        let lost = self.loss > 0 && self.below(100) < self.loss;
        if !item.kept && (lost || self.flights.len() >= self.limit) {
            return dropped.push(item);
        }
        let spread = match self.jitter {
            0 => 0,
            jitter => self.below(jitter.saturating_mul(2).saturating_add(1)),
        };
        let delay = self
            .latency
            .saturating_add(spread)
            .saturating_sub(self.jitter);
        self.number += 1;
        self.flights.push(Reverse(Flight {
            due: item.at.saturating_add(delay),
            number: self.number,
            item,
        }));
    }

    fn dequeue(&mut self, now: u64, _: u64, _: &mut Vec<Item>) -> Option<Item> {
        if self.flights.peek()?.0.due > now {
            return None;
        }
        self.flights.pop().map(|f| f.0.item)
    }

    fn next(&self, now: u64) -> Option<u64> {
        Some(self.flights.peek()?.0.due.max(now))
    }

    fn len(&self) -> usize {
        self.flights.len()
    }

    fn drain(&mut self, out: &mut Vec<Item>) {
        while let Some(f) = self.flights.pop() {
            out.push(f.0.item);
        }
    }
}
