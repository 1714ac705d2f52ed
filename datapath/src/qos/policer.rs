//! Policers on the way out: a packet passes or is dropped, none waits. Rates are in bytes of IP packets.
//!
//! `egress-policer` is a single bucket (RFC 2697 without an excess burst: green passes). `trtcm-policer` is RFC 4115 twice: each queue
//! colours its packets by its own rates, blindly, and the port then colours all of them by its own, minding the colour they have; red
//! is dropped.

use super::bucket::Bucket;
use super::spec::PolicerSpec;

/// Bytes of a frame that the rates do not count: the Ethernet header.
pub const HEADER: u32 = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Green,
    Yellow,
    Red,
}

/// RFC 4115: a committed and an excess bucket, filled independently.
#[derive(Clone, Debug)]
struct TrTcm {
    committed: Bucket,
    excess: Bucket,
    deepest: u64,
}

impl TrTcm {
    fn new(spec: &PolicerSpec, now: u64) -> TrTcm {
        TrTcm {
            committed: Bucket::new(spec.cir.saturating_mul(8), spec.cbs, now),
            excess: Bucket::new(spec.eir.saturating_mul(8), spec.ebs, now),
            deepest: spec.cbs.max(spec.ebs),
        }
    }

    /// What a packet is that had this colour before (RFC 4115 2).
    fn colour(&mut self, bytes: u32, before: Colour, now: u64) -> Colour {
        self.committed.fill(now, 0);
        self.excess.fill(now, 0);
        // Here a packet that is longer than the bucket is deep never passes.
        if before == Colour::Green && self.committed.covers(bytes) {
            self.committed.take(bytes);
            return Colour::Green;
        }
        if before != Colour::Red && self.excess.covers(bytes) {
            self.excess.take(bytes);
            return Colour::Yellow;
        }
        Colour::Red
    }
}

/// See the module's essay.
#[derive(Clone, Debug)]
pub struct Policer {
    port: TrTcm,
    /// Of `trtcm-policer`.
    queues: Vec<TrTcm>,
    cut_above: u64,
}

impl Policer {
    /// `egress-policer`.
    pub fn single(spec: &PolicerSpec, now: u64) -> Policer {
        let spec = PolicerSpec {
            eir: 0,
            ebs: 0,
            ..*spec
        };
        Policer::new(&spec, &[], now)
    }

    /// `trtcm-policer`, its queues in the order of the specification.
    pub fn new(spec: &PolicerSpec, queues: &[PolicerSpec], now: u64) -> Policer {
        let port = TrTcm::new(spec, now);
        let queues: Vec<TrTcm> = queues.iter().map(|q| TrTcm::new(q, now)).collect();
        let least = queues
            .iter()
            .map(|q| q.deepest)
            .fold(port.deepest, u64::min);
        Policer {
            port,
            queues,
            cut_above: least / 4,
        }
    }

    /// Bytes above which a large packet is policed frame by frame.
    pub fn cut_above(&self) -> u64 {
        self.cut_above
    }

    /// Whether frames pass that have so many bytes in all, headers included.
    pub fn pass(&mut self, queue: u32, frames: u32, bytes: u32, now: u64) -> bool {
        let bytes = bytes.saturating_sub(frames.saturating_mul(HEADER));
        let mut colour = Colour::Green;
        if let Some(q) = self.queues.get_mut(queue as usize) {
            colour = q.colour(bytes, colour, now);
        }
        self.port.colour(bytes, colour, now) != Colour::Red
    }
}
