//! Hierarchical fair service curve (`linux-hfsc`, tc-hfsc(7)) with straight curves: a queue's min-rate is both what it is
//! guaranteed in time (real-time curve) and its share of the rest (link-sharing curve), its max-rate the upper limit.
//!
//! Of the queues whose guarantee is due, the one with the earliest deadline goes. If there is none, the one goes that had least in
//! proportion to its min-rate, of those below their max-rate. So guarantees are kept to the packet, and what is left over is shared
//! in proportion. The whole never exceeds the port's max-rate. (In HTB the order among those in their own right is by turns
//! and priority; here it is by deadline.)
//!
//! Each departure looks at all queues with packets: dozens are no matter, thousands are better served by `linux-htb`.

use super::bucket::{Bucket, LATE_MAX};
use super::htb::{ClassRates, depth};
use super::{Item, Scheduler, Waiting};

/// Picoseconds that so many bytes take at a rate.
fn time(bytes: u32, rate: u64) -> u128 {
    u128::from(bytes) * 8_000_000_000_000 / u128::from(rate.max(1))
}

struct Class {
    waiting: Waiting,
    rates: ClassRates,
    /// Picoseconds from which on its head is guaranteed to go.
    eligible: u128,
    /// Picoseconds of service it had, in its own proportion.
    virtual_time: u128,
    /// Picoseconds from which on its head is below the upper limit.
    fit: u128,
}

/// See the module's essay.
pub struct Hfsc {
    root: Bucket,
    classes: Vec<Class>,
    /// Those with packets.
    active: Vec<u32>,
    /// The virtual time that the last packet left at.
    virtual_now: u128,
    len: usize,
}

impl Hfsc {
    /// A root of `rate` bit/s and these classes.
    pub fn new(rate: u64, burst: u64, classes: &[ClassRates], now: u64) -> Hfsc {
        let class = |c: &ClassRates| Class {
            waiting: Waiting::default(),
            rates: *c,
            eligible: 0,
            virtual_time: 0,
            fit: 0,
        };
        Hfsc {
            root: Bucket::new(rate, burst, now),
            active: Vec::with_capacity(classes.len()),
            classes: classes.iter().map(class).collect(),
            virtual_now: 0,
            len: 0,
        }
    }

    /// The place in `active` of who goes now, and whether by its guarantee.
    fn pick(&self, now: u64) -> Option<(usize, bool)> {
        let now = u128::from(now) * 1000;
        let classes = || {
            let class = |(at, i): (usize, &u32)| {
                let c = &self.classes[*i as usize];
                Some((at, c, c.waiting.front()?))
            };
            self.active.iter().enumerate().filter_map(class)
        };
        let guaranteed = classes()
            .filter(|(_, c, _)| c.eligible.max(c.fit) <= now)
            .min_by_key(|(_, c, head)| c.eligible + time(head.bytes, c.rates.min));
        if let Some((at, ..)) = guaranteed {
            return Some((at, true));
        }
        let (at, ..) = classes()
            .filter(|(_, c, _)| c.fit <= now)
            .min_by_key(|(_, c, _)| c.virtual_time)?;
        Some((at, false))
    }
}

impl Scheduler for Hfsc {
    fn enqueue(&mut self, item: Item, now: u64, dropped: &mut Vec<Item>) {
        let c = &mut self.classes[item.queue as usize];
        if !c.waiting.push(item) {
            return dropped.push(item);
        }
        self.len += 1;
        if c.waiting.len() == 1 {
            let now = u128::from(now) * 1000;
            c.eligible = c.eligible.max(now);
            c.fit = c.fit.max(now);
            c.virtual_time = c.virtual_time.max(self.virtual_now);
            self.active.push(item.queue);
        }
    }

    fn dequeue(&mut self, now: u64, late: u64, _: &mut Vec<Item>) -> Option<Item> {
        self.root.fill(now, late);
        let (at, guaranteed) = self.pick(now)?;
        let c = &mut self.classes[self.active[at] as usize];
        let bytes = c.waiting.front()?.bytes;
        if !self.root.has(bytes) {
            return None;
        }
        let item = c.waiting.pop()?;
        self.len -= 1;
        self.root.take(bytes);
        // Standing in line, or lateness of whoever takes packets out, is made up for; more is lost.
        let rate = c.rates.max;
        let line = time(depth(rate, 0).min(u32::MAX.into()) as u32, rate);
        let floor = u128::from(now.saturating_sub(late.min(LATE_MAX))) * 1000;
        let floor = floor.saturating_sub(line);
        if guaranteed {
            c.eligible += time(bytes, c.rates.min);
        }
        c.fit = c.fit.max(floor) + time(bytes, c.rates.max);
        self.virtual_now = self.virtual_now.max(c.virtual_time);
        c.virtual_time += time(bytes, c.rates.min);
        if c.waiting.is_empty() {
            self.active.swap_remove(at);
        }
        Some(item)
    }

    fn next(&self, now: u64) -> Option<u64> {
        let fit = |i: &u32| self.classes[*i as usize].fit;
        let first = self.active.iter().map(fit).min()?;
        let first = u64::try_from(first.div_ceil(1000)).unwrap_or(u64::MAX);
        let first = first.max(now);
        let Some((at, _)) = self.pick(first) else {
            return Some(first);
        };
        let c = &self.classes[self.active[at] as usize];
        let bytes = c.waiting.front()?.bytes;
        match self.root.has(bytes) {
            true => Some(first),
            false => Some(first.max(self.root.when(bytes))),
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn drain(&mut self, out: &mut Vec<Item>) {
        for c in &mut self.classes {
            while let Some(item) = c.waiting.pop() {
                out.push(item);
            }
        }
        self.active.clear();
        self.len = 0;
    }

    fn restart(&mut self) {
        self.root.empty();
    }
}
