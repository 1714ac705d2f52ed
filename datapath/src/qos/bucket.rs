//! A rate and what may be saved up of it, for one owner at a time.
//!
//! Everything is whole numbers: credit is in billionths of a bit, of which a rate of one bit/s yields one in a nanosecond. So
//! nothing is rounded, at any rate and any length of a packet.

/// Billionths of a bit in a byte.
const BYTE: i64 = 8_000_000_000;
/// Lateness of whoever takes packets out is made up for up to this many nanoseconds. A thread that the kernel did not let run
/// for longer loses what it could have sent.
pub const LATE_MAX: u64 = 20_000_000;

/// See the module's essay.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Bits a second.
    rate: u64,
    /// Most credit there may be.
    depth: i64,
    credit: i64,
    /// Nanoseconds up to which it was filled.
    at: u64,
}

impl Bucket {
    /// A full bucket of `rate` bit/s and `depth` bytes.
    pub fn new(rate: u64, depth: u64, now: u64) -> Bucket {
        let depth = i64::try_from(depth)
            .unwrap_or(i64::MAX)
            .saturating_mul(BYTE);
        Bucket {
            rate,
            depth,
            credit: depth,
            at: now,
        }
    }

    /// Takes all credit away: whoever changes rates gets no burst for it.
    pub fn empty(&mut self) {
        self.credit = 0;
    }

    /// Fills in what came up to `now`, no more than fits, and as much more as came in the last `late` nanoseconds, in which
    /// packets waited for nobody but whoever takes them out.
    #[inline]
    pub fn fill(&mut self, now: u64, late: u64) {
        let most = match late {
            0 => self.depth,
            late => self.depth.saturating_add(self.of(late.min(LATE_MAX))),
        };
        let more = self.of(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        self.credit = self.credit.saturating_add(more).min(most);
    }

    fn of(&self, nanoseconds: u64) -> i64 {
        let n = u128::from(nanoseconds) * u128::from(self.rate);
        i64::try_from(n).unwrap_or(i64::MAX)
    }

    /// What has to be there for so many bytes: all of it, or a full bucket for what is longer.
    #[inline]
    fn needed(&self, bytes: u32) -> i64 {
        (i64::from(bytes) * BYTE).min(self.depth)
    }

    /// Whether so many bytes may go.
    #[inline]
    pub fn has(&self, bytes: u32) -> bool {
        self.credit >= self.needed(bytes)
    }

    /// Whether so many bytes are there, however deep the bucket is.
    #[inline]
    pub fn covers(&self, bytes: u32) -> bool {
        self.credit >= i64::from(bytes) * BYTE
    }

    /// Pays for them. What is longer than the bucket is deep leaves a debt.
    #[inline]
    pub fn take(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_sub(i64::from(bytes) * BYTE);
    }

    /// When so many bytes may go, if nothing else does.
    pub fn when(&self, bytes: u32) -> u64 {
        let missing = self.needed(bytes).saturating_sub(self.credit).max(0) as u64;
        self.at.saturating_add(missing.div_ceil(self.rate.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_yields_the_rate_to_the_byte() {
        for rate in [1_000_000, 9_999_999, 10_000_000_000] {
            for bytes in [60, 1514, 65_000] {
                let mut b = Bucket::new(rate, 1600, 0);
                b.empty();
                let (mut now, mut sent) = (0, 0u64);
                loop {
                    now = b.when(bytes).max(now);
                    if now > 1_000_000_000 {
                        break;
                    }
                    b.fill(now, 0);
                    assert!(b.has(bytes));
                    b.take(bytes);
                    sent += u64::from(bytes);
                }
                let whole = rate / 8;
                // What is longer than the bucket goes when the bucket is full, and is paid for afterwards.
                assert!(sent <= whole + u64::from(bytes) && sent + u64::from(bytes) >= whole);
            }
        }
    }

    #[test]
    fn lateness_is_made_up_for_and_idleness_is_not() {
        let mut b = Bucket::new(8_000_000, 1000, 0);
        b.take(1000);
        b.fill(5_000_000, 0);
        assert!(b.has(1000));
        b.take(1000);
        assert!(!b.has(1));
        // Five milliseconds late, at a megabyte a second.
        b.fill(10_000_000, 5_000_000);
        b.take(4000);
        assert!(b.has(1000));
        b.fill(10_000_000, 0);
        b.take(1000);
        assert!(!b.has(1));
    }
}
