//! Times, counted in buckets of a sixteenth of their power of two.

/// Buckets per power of two.
const PARTS: u32 = 16;

/// Counts of cycles.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u32,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; (33 * PARTS) as usize],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one.
    #[inline]
    pub fn add(&mut self, value: u32) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The value that `share` of all are below or at, to a sixteenth; NaN of nothing.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return upper(i as u32).min(f64::from(self.max));
            }
        }
        f64::NAN
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        f64::from(self.max)
    }
}

fn bucket(value: u32) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let power = value.ilog2();
    let part = (value >> (power - 4)) & (PARTS - 1);
    ((power - 3) * PARTS + part) as usize
}

fn upper(bucket: u32) -> f64 {
    if bucket < PARTS {
        return f64::from(bucket);
    }
    let power = bucket / PARTS + 3;
    let part = bucket % PARTS;
    (f64::from(PARTS + part) + 1.0) * 2f64.powi(power as i32 - 4) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let mut h = Histogram::default();
        for v in 1..=100_000 {
            h.add(v);
        }
        for (share, value) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let q = h.quantile(share);
            assert!(q >= value && q <= value * 1.07, "{share}: {q}");
        }
        assert_eq!(h.max(), 100_000.0);
        h.add(u32::MAX);
        assert_eq!(h.quantile(1.0), f64::from(u32::MAX));
        assert!(Histogram::default().quantile(0.5).is_nan());
    }
}
