//! Controlled delay (RFC 8289): a queue that drops, or marks, when packets have waited too long for too long.
//!
//! What counts is the time each packet spent in the queue. Once that was above `target` for a whole `interval`, one packet is
//! dropped, and then one more at ever shorter intervals (by the square root of how many) until the time is below `target` again.

use super::spec::CodelSpec;
use super::{Item, Scheduler, Waiting};

/// The state of one queue's control (RFC 8289 5).
#[derive(Clone, Copy, Debug, Default)]
pub struct Codel {
    /// When delay will have been too long for an interval; 0 while it is not.
    first_above: u64,
    /// When to drop next.
    drop_next: u64,
    /// Drops since it began.
    count: u64,
    last_count: u64,
    dropping: bool,
}

impl Codel {
    /// Takes the next packet, and tells whether it has waited too long.
    fn take(
        &mut self,
        spec: &CodelSpec,
        from: &mut Waiting,
        mtu: u64,
        now: u64,
    ) -> Option<(Item, bool)> {
        let Some(item) = from.pop() else {
            self.first_above = 0;
            return None;
        };
        let sojourn = now.saturating_sub(item.at);
        if sojourn < spec.target * 1000 || from.bytes() <= mtu {
            self.first_above = 0;
            return Some((item, false));
        }
        if self.first_above == 0 {
            self.first_above = now + spec.interval * 1000;
            return Some((item, false));
        }
        Some((item, now >= self.first_above))
    }

    fn law(&self, spec: &CodelSpec, t: u64) -> u64 {
        t + (spec.interval as f64 * 1000.0 / (self.count as f64).sqrt()) as u64
    }

    /// The next packet to leave. Those that are dropped are added to `dropped`.
    pub fn dequeue(
        &mut self,
        spec: &CodelSpec,
        from: &mut Waiting,
        mtu: u64,
        now: u64,
        dropped: &mut Vec<Item>,
    ) -> Option<Item> {
        let Some((mut item, mut bad)) = self.take(spec, from, mtu, now) else {
            self.dropping = false;
            return None;
        };
        // A mark does what a drop does, and the packet goes on.
        let mark = |item: &mut Item| {
            let can = spec.ecn && item.ecn;
            item.marked |= can;
            can
        };
        if self.dropping {
            if !bad {
                self.dropping = false;
            }
            while self.dropping && now >= self.drop_next {
                self.count += 1;
                if mark(&mut item) {
                    self.drop_next = self.law(spec, self.drop_next);
                    return Some(item);
                }
                dropped.push(item);
                let Some(next) = self.take(spec, from, mtu, now) else {
                    self.dropping = false;
                    return None;
                };
                (item, bad) = next;
                if bad {
                    self.drop_next = self.law(spec, self.drop_next);
                } else {
                    self.dropping = false;
                }
            }
        } else if bad {
            let mut left = Some(item);
            if !mark(&mut item) {
                dropped.push(item);
                left = self.take(spec, from, mtu, now).map(|(i, _)| i);
            } else {
                left = left.map(|_| item);
            }
            self.dropping = true;
            // If it was dropping lately, it goes on about where it was.
            let delta = self.count.saturating_sub(self.last_count);
            let lately = now.saturating_sub(self.drop_next) < 16 * spec.interval * 1000;
            self.count = if delta > 1 && lately { delta } else { 1 };
            self.last_count = self.count;
            self.drop_next = self.law(spec, now);
            return left;
        }
        Some(item)
    }
}

/// `linux-codel`: one queue.
pub struct CodelQueue {
    spec: CodelSpec,
    mtu: u64,
    waiting: Waiting,
    state: Codel,
}

impl CodelQueue {
    /// An empty queue in front of a device of this MTU.
    pub fn new(spec: CodelSpec, mtu: u32) -> CodelQueue {
        CodelQueue {
            spec,
            mtu: mtu.into(),
            waiting: Waiting::default(),
            state: Codel::default(),
        }
    }
}

impl Scheduler for CodelQueue {
    fn enqueue(&mut self, item: Item, _: u64, dropped: &mut Vec<Item>) {
        if self.waiting.len() >= self.spec.limit as usize && !item.kept {
            return dropped.push(item);
        }
        self.waiting.push_any(item);
    }

    fn dequeue(&mut self, now: u64, _: u64, dropped: &mut Vec<Item>) -> Option<Item> {
        self.state
            .dequeue(&self.spec, &mut self.waiting, self.mtu, now, dropped)
    }

    fn next(&self, now: u64) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(now)
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn drain(&mut self, out: &mut Vec<Item>) {
        while let Some(item) = self.waiting.pop() {
            out.push(item);
        }
    }
}
