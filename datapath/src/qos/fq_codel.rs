//! Flow queues with controlled delay (`linux-fq_codel`, RFC 8290): flows take turns, and CoDel watches each of them.
//!
//! Flows that begin go first, for one turn; so whoever sends little is not delayed by those who send much. When the whole is full,
//! the flow with most bytes loses from its head.

use super::codel::Codel;
use super::rounds::Rounds;
use super::spec::CodelSpec;
use super::{Item, Scheduler, Waiting};

/// New flows, and old ones.
const NEW: u32 = 0;
const OLD: u32 = 1;
/// How many packets an overfull whole loses at once, at most half of the largest flow (RFC 8290 5.1; as in the kernel).
const DROP_BATCH: usize = 64;

struct Flow {
    waiting: Waiting,
    codel: Codel,
    deficit: i64,
}

/// See the module's essay.
pub struct FqCodel {
    spec: CodelSpec,
    quantum: i64,
    mtu: u64,
    flows: Vec<Flow>,
    turns: Rounds,
    len: usize,
}

impl FqCodel {
    /// Empty queues for so many flows.
    pub fn new(spec: CodelSpec, flows: u32, quantum: u32, mtu: u32) -> FqCodel {
        let flow = |_| Flow {
            waiting: Waiting::default(),
            codel: Codel::default(),
            deficit: 0,
        };
        FqCodel {
            spec,
            quantum: quantum.max(1).into(),
            mtu: mtu.into(),
            turns: Rounds::new(2, flows as usize),
            flows: (0..flows).map(flow).collect(),
            len: 0,
        }
    }

    fn shrink(&mut self, dropped: &mut Vec<Item>) {
        let largest = self.flows.iter_mut().max_by_key(|f| f.waiting.bytes());
        let Some(f) = largest else { return };
        let n = (f.waiting.len() / 2).clamp(1, DROP_BATCH);
        for _ in 0..n {
            if let Some(item) = f.waiting.pop() {
                dropped.push(item);
                self.len -= 1;
            }
        }
    }
}

impl Scheduler for FqCodel {
    fn enqueue(&mut self, item: Item, _: u64, dropped: &mut Vec<Item>) {
        let i = item.flow % self.flows.len() as u32;
        let f = &mut self.flows[i as usize];
        f.waiting.push_any(item);
        self.len += 1;
        if self.turns.list_of(i).is_none() {
            f.deficit = self.quantum;
            self.turns.push(NEW, i);
        }
        if self.len > self.spec.limit as usize && !item.kept {
            self.shrink(dropped);
        }
    }

    fn dequeue(&mut self, now: u64, _: u64, dropped: &mut Vec<Item>) -> Option<Item> {
        loop {
            let (list, i) = self.turns.first()?;
            let f = &mut self.flows[i as usize];
            if f.deficit <= 0 {
                f.deficit += self.quantum;
                self.turns.push(OLD, i);
                continue;
            }
            let before = dropped.len();
            let item = f
                .codel
                .dequeue(&self.spec, &mut f.waiting, self.mtu, now, dropped);
            self.len -= dropped.len() - before;
            let Some(item) = item else {
                // A flow that ran out waits behind the old ones once, lest it be new again at once.
                if list == NEW {
                    self.turns.push(OLD, i);
                } else {
                    self.turns.remove(i);
                }
                continue;
            };
            self.len -= 1;
            f.deficit -= i64::from(item.bytes);
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
        for (i, f) in self.flows.iter_mut().enumerate() {
            while let Some(item) = f.waiting.pop() {
                out.push(item);
            }
            self.turns.remove(i as u32);
        }
        self.len = 0;
    }
}
