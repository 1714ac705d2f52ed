//! Stochastic fairness (`linux-sfq`, tc-sfq(8)): flows, told apart by a hash, take turns. The hash changes now and then, so that
//! two flows that share a place by accident do not share it for ever.

use super::rounds::Rounds;
use super::{Item, Scheduler, Waiting};

/// Places that flows are hashed to.
const PLACES: u32 = 1024;
/// Packets that wait, of all flows together.
const DEPTH: usize = 127;

/// See the module's essay.
pub struct Sfq {
    quantum: i64,
    /// Nanoseconds between changes of the hash; 0 for never.
    perturb: u64,
    perturbed: u64,
    seed: u32,
    flows: Vec<(Waiting, i64)>,
    turns: Rounds,
    len: usize,
}

impl Sfq {
    /// Empty queues; `perturb` in seconds, `quantum` in bytes.
    pub fn new(perturb: u64, quantum: u32, now: u64) -> Sfq {
        Sfq {
            quantum: quantum.max(1).into(),
            perturb: perturb.saturating_mul(1_000_000_000),
            perturbed: now,
            seed: 0,
            flows: vec![Default::default(); PLACES as usize],
            turns: Rounds::new(1, PLACES as usize),
            len: 0,
        }
    }

    fn place(&self, item: &Item) -> u32 {
        (item.flow ^ self.seed).wrapping_mul(0x9e37_79b1) >> (32 - PLACES.trailing_zeros())
    }

    fn put(&mut self, item: Item) {
        let i = self.place(&item);
        let (waiting, deficit) = &mut self.flows[i as usize];
        waiting.push_any(item);
        self.len += 1;
        if self.turns.list_of(i).is_none() {
            *deficit = self.quantum;
            self.turns.push(0, i);
        }
    }

    /// Flows get other places; what waits moves there, in the order it came.
    fn change(&mut self) {
        self.seed = self
            .seed
            .wrapping_mul(0x0019_660d)
            .wrapping_add(0x3c6e_f35f);
        let mut all = Vec::with_capacity(self.len);
        self.drain(&mut all);
        all.sort_by_key(|i| i.at);
        for item in all {
            self.put(item);
        }
    }
}

impl Scheduler for Sfq {
    fn enqueue(&mut self, item: Item, now: u64, dropped: &mut Vec<Item>) {
        if self.perturb > 0 && now.saturating_sub(self.perturbed) >= self.perturb {
            self.perturbed = now;
            self.change();
        }
        self.put(item);
        if self.len > DEPTH && !item.kept {
            // The longest flow loses what came last.
            let largest = self.flows.iter_mut().max_by_key(|f| f.0.len());
            if let Some(last) = largest.and_then(|f| f.0.pop_last()) {
                self.len -= 1;
                dropped.push(last);
            }
        }
    }

    fn dequeue(&mut self, _: u64, _: u64, _: &mut Vec<Item>) -> Option<Item> {
        loop {
            let (_, i) = self.turns.first()?;
            let (waiting, deficit) = &mut self.flows[i as usize];
            if waiting.is_empty() {
                self.turns.remove(i);
                continue;
            }
            if *deficit <= 0 {
                *deficit += self.quantum;
                self.turns.push(0, i);
                continue;
            }
            let item = waiting.pop()?;
            *deficit -= i64::from(item.bytes);
            self.len -= 1;
            return Some(item);
        }
    }

    fn next(&self, now: u64) -> Option<u64> {
        (self.len > 0).then_some(now)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn drain(&mut self, out: &mut Vec<Item>) {
        for (i, (waiting, _)) in self.flows.iter_mut().enumerate() {
            while let Some(item) = waiting.pop() {
                out.push(item);
            }
            self.turns.remove(i as u32);
        }
        self.len = 0;
    }
}
