//! A rate that threads share without a lock: a bucket of tokens, filled by time.
//!
//! Two numbers are kept. `filled` is the instant up to which the bucket was filled; who moves it on is who fills in what came
//! since, so that each nanosecond is credited once, by one thread. `tokens` is what is there. Between the two steps of one
//! thread another may see the bucket a little emptier than it is, never fuller. A thread whose `now` lies behind fills
//! nothing.
//!
//! Everything is in whole numbers that do not overflow: a kbit/s is a millionth of a bit in a nanosecond, a packet/s a
//! billionth of a packet, and these are the units; the largest bucket has 2^32 * 10^9 of them.

use crate::clock::Now;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What a bit costs a rate in kbit/s.
pub const BIT: u64 = 1_000_000;
/// What a packet costs a rate in packets/s.
pub const PACKET: u64 = 1_000_000_000;
/// What a kbit or a packet of burst is.
const BURST: i64 = 1_000_000_000;

/// What the frames of one packet cost.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// How many there are.
    pub count: u32,
    /// The cost of each but the last.
    pub each: u64,
    /// The cost of all.
    pub all: u64,
}

impl Frames {
    /// What the first `n` of them cost.
    #[inline]
    pub fn cost(self, n: u32) -> i64 {
        let cost = match n {
            n if n == self.count => self.all,
            n => self.each * u64::from(n),
        };
        // The longest packet costs 2^43 as bits, and 2^46 as packets.
        cost as i64
    }

    /// How many of them find something left of so many tokens.
    #[inline]
    fn begun_with(self, tokens: u64) -> u32 {
        if tokens >= self.all {
            return self.count;
        }
        let begun = tokens.div_ceil(self.each.max(1));
        begun.min(self.count.into()) as u32
    }
}

/// See the module's essay.
#[derive(Debug)]
pub struct Rate {
    rate: u64,
    most: i64,
    filled: AtomicU64,
    tokens: AtomicI64,
}

impl Rate {
    /// `rate` kbit (or packets) a second, and `burst` kbit (or packets) at once, all of which is there.
    pub fn new(rate: u32, burst: u32, now: Now) -> Rate {
        let most = i64::from(burst) * BURST;
        Rate {
            rate: rate.into(),
            most,
            filled: AtomicU64::new(now.as_nanos() as u64),
            tokens: AtomicI64::new(most),
        }
    }

    /// Takes `cost` if it is there; `now` is in nanoseconds.
    #[inline]
    pub fn take(&self, cost: u64, now: u64) -> bool {
        self.fill(now);
        let Ok(cost) = i64::try_from(cost) else {
            return false;
        };
        let enough = |t: i64| (t >= cost).then(|| t - cost);
        self.tokens
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enough)
            .is_ok()
    }

    /// Takes for as many of the frames as there is something left before each of them, and says for how many: the last one may
    /// leave the bucket owing, by less than it costs. So frames of all lengths have the same chance, none is too long for a
    /// small bucket, and in the long run exactly the rate is taken.
    #[inline]
    pub fn take_frames(&self, frames: Frames, now: u64) -> u32 {
        self.fill(now);
        let mut taken = 0;
        let _ = self
            .tokens
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |t| {
                taken = match u64::try_from(t) {
                    Ok(t) => frames.begun_with(t),
                    Err(_) => 0,
                };
                (taken > 0).then(|| t - frames.cost(taken))
            });
        taken
    }

    /// Gives back what was taken for frames that went nowhere.
    pub fn give_back(&self, cost: i64) {
        self.tokens.fetch_add(cost, Ordering::AcqRel);
    }

    /// Begins with what is left in another bucket, whose place it takes.
    pub fn carry_on(&self, from: &Rate, now: u64) {
        from.fill(now);
        let left = from.tokens.load(Ordering::Acquire).min(self.most);
        self.tokens.store(left, Ordering::Release);
    }

    #[inline]
    fn fill(&self, now: u64) {
        let filled = self.filled.load(Ordering::Acquire);
        if now <= filled {
            return;
        }
        if self
            .filled
            .compare_exchange(filled, now, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        let new = u128::from(now - filled) * u128::from(self.rate);
        let new = i64::try_from(new).unwrap_or(i64::MAX);
        let fill = |t: i64| Some(t.saturating_add(new).min(self.most));
        let _ = self
            .tokens
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fill);
    }
}
