//! How long a thread polls before it sleeps, and how often it looks at quiet queues.
//!
//! Polling costs a core, sleeping costs each packet that ends it some microseconds. What pays depends on how soon the
//! next packet comes, and that is foretold from the last ones: the time between packets, averaged over about eight. When
//! they come closer than [`POLL_GAP`], a thread polls, for [`SPIN`] after the last one; when they are further apart,
//! polling would rarely meet one, and it sleeps at once. So at 10,000 packets per second (100 µs) it sleeps between any two,
//! at 100,000 it does not sleep at all, and the cost of being wrong is bounded by [`SPIN`] each way.
//!
//! Pure: time is cycles that the caller read.

/// Microseconds between packets up to which a thread polls.
pub const POLL_GAP: u64 = 30;
/// Microseconds a thread polls after the last packet of a stream.
pub const SPIN: u64 = 60;
/// What a longer gap counts as, so that a stream after a pause is known for one within a dozen packets.
const GAP_MAX: u64 = 200;
/// Packets of one round that count as a burst.
const BURST: u64 = 16;
/// Gaps are averaged with this weight of the newest.
const SHIFT: u32 = 3;
/// Microseconds between two looks at the quiet queues by a thread that polls in vain, and how many packets may have come since
/// at most: a thread that is saturated has empty rounds too.
const LOOK_IDLE: (u64, u64) = (50, 50);
/// Microseconds, and packets, between two by a thread that forwards: so many that the system call is lost among them.
const LOOK_BUSY: (u64, u64) = (100, 4096);
/// Microseconds after which it looks in any case: what a quiet port's first packet may wait for on a busy thread.
const LOOK_MAX: u64 = 500;

/// A thread's pace.
#[derive(Debug)]
pub struct Pace {
    /// Cycles per microsecond.
    us: u64,
    /// Cycles between packets, averaged.
    gap: u64,
    /// When the last packet came.
    last: u64,
    /// When quiet queues were last looked at.
    looked: u64,
    /// Packets since.
    packets: u64,
}

impl Pace {
    /// Of a thread without packets so far.
    pub fn new(cycles_per_us: u64, now: u64) -> Pace {
        Pace {
            us: cycles_per_us,
            gap: GAP_MAX * cycles_per_us,
            last: now,
            looked: now,
            packets: 0,
        }
    }

    /// Packets came, at least one.
    #[inline]
    pub fn arrived(&mut self, now: u64, packets: u64) {
        let gap = (now.wrapping_sub(self.last) / packets).min(GAP_MAX * self.us);
        self.last = now;
        self.packets += packets;
        self.gap = self.gap - (self.gap >> SHIFT) + (gap >> SHIFT);
        // Whoever fills half a batch sends in bursts: the next is polled for, whatever the pause before this one.
        if packets >= BURST {
            self.gap = self.gap.min(POLL_GAP * self.us);
        }
    }

    /// Whether packets are so far apart that there is no point in polling for the next.
    #[inline]
    pub fn is_sparse(&self) -> bool {
        self.gap > POLL_GAP * self.us
    }

    /// Whether polling in vain has gone on for long enough.
    #[inline]
    pub fn is_tired(&self, now: u64) -> bool {
        self.is_sparse() || now.saturating_sub(self.last) > SPIN * self.us
    }

    /// Whether it is time to look at the quiet queues, after a round that had packets or not.
    #[inline]
    pub fn is_look_due(&mut self, now: u64, idle: bool) -> bool {
        let since = now.wrapping_sub(self.looked);
        let due = match idle {
            true => since > LOOK_IDLE.0 * self.us && self.packets <= LOOK_IDLE.1,
            false => since > LOOK_BUSY.0 * self.us && self.packets >= LOOK_BUSY.1,
        } || since > LOOK_MAX * self.us;
        if due {
            self.looked(now);
        }
        due
    }

    /// They were looked at.
    pub fn looked(&mut self, now: u64) {
        self.looked = now;
        self.packets = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets every `gap` microseconds; the share of time spent polling, and whether it ever slept.
    fn run(gap: u64, packets: u64) -> (f64, u64) {
        let mut pace = Pace::new(1, 0);
        let (mut polled, mut sleeps) = (0, 0);
        let mut now = 0;
        for n in 1..=packets {
            let next = n * gap;
            while now < next {
                if pace.is_tired(now) {
                    sleeps += 1;
                    now = next;
                } else {
                    now += 1;
                    polled += 1;
                }
            }
            pace.arrived(now, 1);
        }
        (polled as f64 / now as f64, sleeps)
    }

    #[test]
    fn sparse_packets_are_slept_for_and_dense_ones_polled_for() {
        let (polled, sleeps) = run(100, 10_000);
        assert!(polled < 0.001, "{polled}");
        assert_eq!(sleeps, 10_000);
        let (polled, sleeps) = run(10, 10_000);
        assert!(polled > 0.99, "{polled}");
        assert!(sleeps < 32, "{sleeps}");
    }

    #[test]
    fn bursts_are_polled_for_however_far_apart() {
        let mut pace = Pace::new(1, 0);
        for n in 1..100 {
            let start = n * 100_000;
            for round in 0..8 {
                pace.arrived(start + round * 2, 32);
                assert!(!pace.is_tired(start + round * 2 + SPIN));
            }
            assert!(pace.is_tired(start + 14 + SPIN + 1));
        }
    }

    #[test]
    fn a_stream_that_ends_is_polled_for_no_longer_than_stated() {
        let mut pace = Pace::new(2600, 0);
        for n in 1..1000 {
            pace.arrived(n * 2600, 1);
        }
        let end = 999 * 2600;
        assert!(!pace.is_tired(end + SPIN * 2600));
        assert!(pace.is_tired(end + SPIN * 2600 + 1));
    }

    #[test]
    fn random_arrivals_at_ten_kilohertz_are_mostly_slept_for() {
        // An exponential distribution, by a fixed sequence.
        let mut pace = Pace::new(1, 0);
        let (mut now, mut polled, mut x) = (0u64, 0u64, 1u64);
        for _ in 0..100_000 {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let uniform = (x >> 11) as f64 / (1u64 << 53) as f64;
            let next = now + (-100.0 * (1.0 - uniform).ln()) as u64 + 1;
            while now < next && !pace.is_tired(now) {
                now += 1;
                polled += 1;
            }
            now = next;
            pace.arrived(now, 1);
        }
        let share = polled as f64 / now as f64;
        assert!(share < 0.02, "{share}");
    }

    #[test]
    fn looks_at_quiet_queues_are_rare_among_packets_and_never_late() {
        let mut pace = Pace::new(1, 0);
        let (mut looks, mut longest, mut last) = (0u64, 0, 0);
        for now in 0..1_000_000u64 {
            // 32 packets every 2 µs, and a round without in between.
            let idle = !now.is_multiple_of(2);
            if !idle {
                pace.arrived(now, 32);
            }
            if pace.is_look_due(now, idle) {
                looks += 1;
                longest = longest.max(now - last);
                last = now;
            }
        }
        assert!(16_000_000 / looks >= 4000, "{looks}");
        assert!(longest <= LOOK_MAX + 1, "{longest}");
        pace.looked(last);
        assert!(pace.is_look_due(last + LOOK_IDLE.0 + 1, true));
    }
}
