//! What stands before a port's transmit queues: packets that wait, and the scheduler that says which of them goes when.

use super::codel::CodelQueue;
use super::fq_codel::FqCodel;
use super::hfsc::Hfsc;
use super::htb::{ClassRates, Htb};
use super::netem::Netem;
use super::policer::Policer;
use super::sfq::Sfq;
use super::spec::{Device, Discipline, QosSpec};
use super::store::Store;
use super::{CUT_ABOVE, Item, Onward, PORT_BYTES, RETRY, Scheduler, frame};
use crate::action::TunnelPush;
use crate::drop::DropReason;
use crate::packet::segment::{self, OnWire};
use crate::packet::{BATCH, Batch, OwnedPacket};
use crate::port::TxOutcome;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a queue did. Written under the shaper's lock, read by anybody.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// Frames sent.
    pub packets: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Frames dropped.
    pub errors: AtomicU64,
    /// When the queue came.
    pub created: Duration,
}

impl QueueCounters {
    fn sent(&self, item: &Item) {
        self.packets
            .fetch_add(item.frames.into(), Ordering::Relaxed);
        self.bytes.fetch_add(item.bytes.into(), Ordering::Relaxed);
    }

    fn lost(&self, frames: u32) {
        self.errors.fetch_add(frames.into(), Ordering::Relaxed);
    }
}

/// How packets leave.
enum Way {
    /// As they come.
    Open,
    /// As they come, or not at all.
    Policed(Policer),
    /// When it is their turn.
    Queued(Box<dyn Scheduler>),
}

/// A configuration on its way to the shaper.
struct Next {
    spec: Option<QosSpec>,
    device: Device,
    /// By queue number.
    queues: Vec<(u32, Arc<QueueCounters>)>,
}

/// A port's shaper, as threads and the rest of the program share it.
#[derive(Default)]
pub struct PortShaper {
    shaper: Mutex<Shaper>,
    next: Mutex<Option<Next>>,
    changed: AtomicBool,
    /// The queues and the type they are of.
    counters: Mutex<(String, BTreeMap<u32, Arc<QueueCounters>>)>,
}

impl std::fmt::Debug for PortShaper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PortShaper({:?})", self.counters.lock().0)
    }
}

impl PortShaper {
    /// Leaves a configuration for the next thread that looks; none lets all that waits leave. Queues that were there before
    /// go on counting.
    pub fn configure(&self, spec: Option<&QosSpec>, device: Device, now: Duration) {
        let mut counters = self.counters.lock();
        let name = spec.map_or("", QosSpec::name);
        let old = match counters.0 == name {
            true => std::mem::take(&mut counters.1),
            false => BTreeMap::new(),
        };
        let ids = spec.into_iter().flat_map(|s| s.queues.keys().copied());
        let queues = ids.map(|id| {
            let new = || {
                Arc::new(QueueCounters {
                    created: now,
                    ..QueueCounters::default()
                })
            };
            (id, old.get(&id).cloned().unwrap_or_else(new))
        });
        *counters = (name.to_owned(), queues.collect());
        let mut next = self.next.lock();
        *next = Some(Next {
            spec: spec.cloned(),
            device,
            queues: counters.1.iter().map(|(n, c)| (*n, c.clone())).collect(),
        });
        self.changed.store(true, Ordering::Release);
    }

    /// The queues by number, and what they did.
    pub fn counters(&self) -> BTreeMap<u32, Arc<QueueCounters>> {
        self.counters.lock().1.clone()
    }

    /// The shaper, as last configured, unless another thread is at it.
    #[inline]
    pub fn try_lock(&self, now: u64) -> Option<MutexGuard<'_, Shaper>> {
        let mut shaper = self.shaper.try_lock()?;
        if self.changed.load(Ordering::Acquire)
            && let Some(mut next) = self.next.try_lock()
        {
            self.changed.store(false, Ordering::Release);
            if let Some(next) = next.take() {
                shaper.change(next, now);
            }
        }
        Some(shaper)
    }
}

/// What became of packets.
#[derive(Debug, Default)]
pub struct Report {
    /// Of those that were sent.
    pub out: TxOutcome,
    /// Dropped, and why.
    pub drops: Vec<(DropReason, u32)>,
}

impl Report {
    fn dropped(&mut self, reason: DropReason) {
        match self.drops.iter_mut().find(|d| d.0 == reason) {
            Some(d) => d.1 += 1,
            None => self.drops.push((reason, 1)),
        }
    }
}

/// Nobody.
const NOBODY: u32 = u32::MAX;

/// See the module's essay.
pub struct Shaper {
    way: Way,
    /// Whether there is to be none.
    off: bool,
    /// The queues' numbers, in order; their counters, and from how many bytes on a large packet is cut.
    ids: Vec<u32>,
    counters: Vec<Arc<QueueCounters>>,
    cut: Vec<u64>,
    /// Why the discipline drops packets that come, and packets that waited.
    reasons: (DropReason, DropReason),
    /// What leaves before anything else.
    front: VecDeque<Item>,
    store: Store,
    dropped: Vec<Item>,
    /// Since when, or from when on, a packet may leave.
    due: Option<u64>,
    /// The port had no room: nothing is tried before.
    blocked: u64,
    /// Which thread sees to departures, and when it looks.
    owner: u32,
    planned: u64,
    whole: Vec<u8>,
    piece: Vec<u8>,
}

impl Default for Shaper {
    fn default() -> Shaper {
        Shaper {
            way: Way::Open,
            off: true,
            ids: Vec::new(),
            counters: Vec::new(),
            cut: Vec::new(),
            reasons: (DropReason::QueueFull, DropReason::QueueDelay),
            front: VecDeque::new(),
            store: Store::default(),
            dropped: Vec::new(),
            due: None,
            blocked: 0,
            owner: NOBODY,
            planned: u64::MAX,
            whole: Vec::new(),
            piece: Vec::new(),
        }
    }
}

impl Shaper {
    /// Whether there is nothing left to do: the port is to have no shaper, and nothing waits.
    pub fn is_off(&self) -> bool {
        self.off && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty()
            && match &self.way {
                Way::Queued(s) => s.is_empty(),
                _ => true,
            }
    }

    /// A queue's place, by its number; the default queue's if there is none of that number.
    fn place(&self, id: u32) -> u32 {
        self.ids.binary_search(&id).unwrap_or(0) as u32
    }

    fn change(&mut self, next: Next, now: u64) {
        let Next {
            spec,
            device,
            queues,
        } = next;
        // What waits, by number of its queue, in the order it came.
        let mut items = Vec::new();
        if let Way::Queued(s) = &mut self.way {
            s.drain(&mut items);
        }
        items.sort_by_key(|i| i.at);
        let before = std::mem::take(&mut self.ids);
        let fresh = before.is_empty();
        (self.ids, self.counters) = queues.into_iter().unzip();
        let renumber = |shaper: &Shaper, item: &mut Item| {
            let id = before.get(item.queue as usize).copied().unwrap_or(0);
            item.queue = shaper.place(id);
        };
        let mut front = std::mem::take(&mut self.front);
        front.iter_mut().for_each(|i| renumber(self, i));
        self.front = front;
        self.off = spec.is_none();
        let built = spec.map(|s| build(&s, &device, now));
        let (way, cut) = built.unwrap_or((Way::Open, Vec::new()));
        (self.way, self.cut) = (way, cut);
        self.reasons = match &self.way {
            Way::Policed(_) => (DropReason::EgressPolicer, DropReason::EgressPolicer),
            _ => (DropReason::QueueFull, DropReason::QueueDelay),
        };
        if let Way::Queued(s) = &mut self.way
            && !fresh
        {
            s.restart();
        }
        for mut item in items {
            renumber(self, &mut item);
            match &mut self.way {
                Way::Queued(s) => {
                    item.kept = true;
                    s.enqueue(item, now, &mut self.dropped);
                }
                _ => self.front.push_back(item),
            }
        }
        self.due = None;
        self.planned = u64::MAX;
        self.owner = NOBODY;
    }

    /// Packets come, to go into a tunnel or by the port itself. Those that need not wait are given to `send`.
    pub fn admit(
        &mut self,
        batch: &Batch,
        which: &[u8],
        into: Option<&Arc<TunnelPush>>,
        now: u64,
        report: &mut Report,
        mut send: impl FnMut(&Batch, &[u8]) -> TxOutcome,
    ) {
        let mut passing = [0; BATCH];
        let mut n = 0;
        for &i in which {
            let p = batch.packet(i.into());
            let wire = OnWire::of(p);
            let queue = self.place(p.queue);
            let gso = p.offload.is_gso();
            let onward = || {
                into.map(|push| Onward {
                    push: push.clone(),
                    queue: p.queue,
                })
            };
            match &mut self.way {
                Way::Queued(_) => {}
                Way::Policed(police) if gso && wire.bytes > police.cut_above() => {}
                Way::Policed(police) => {
                    if !police.pass(queue, wire.frames, wire.bytes as u32, now) {
                        self.lose(queue, wire.frames);
                        report.dropped(DropReason::EgressPolicer);
                        continue;
                    }
                }
                Way::Open => {}
            }
            let cut = match &self.way {
                Way::Queued(_) => self.cut.get(queue as usize).copied().unwrap_or(u64::MAX),
                Way::Policed(police) => police.cut_above(),
                Way::Open => u64::MAX,
            };
            if gso && wire.bytes > cut {
                self.admit_cut((batch, i.into()), queue, onward(), now, report);
            } else if self.front.is_empty() && !matches!(self.way, Way::Queued(_)) {
                if let Some(c) = self.counters.get(queue as usize) {
                    let item = Item {
                        bytes: wire.bytes as u32,
                        frames: wire.frames,
                        ..Item::default()
                    };
                    c.sent(&item);
                }
                passing[n] = i;
                n += 1;
            } else if self.store.bytes() + p.len() > PORT_BYTES {
                self.lose(queue, wire.frames);
                report.dropped(DropReason::QueueFull);
            } else {
                let (slot, bytes) = self.store.take(p.len(), p.offload, onward());
                batch.copy_out(i.into(), 0, bytes);
                self.enqueue(slot, queue, wire, now, report);
            }
        }
        if n > 0 {
            report.out.add(send(batch, &passing[..n]));
        }
    }

    /// A large packet comes that has to be cut.
    fn admit_cut(
        &mut self,
        (batch, i): (&Batch, usize),
        queue: u32,
        onward: Option<Onward>,
        now: u64,
        report: &mut Report,
    ) {
        let p = batch.packet(i);
        let (mut whole, mut piece) = (
            std::mem::take(&mut self.whole),
            std::mem::take(&mut self.piece),
        );
        whole.resize(p.len(), 0);
        let n = batch.copy_out(i, 0, &mut whole);
        whole.truncate(n);
        let each = |f: &[u8]| {
            let wire = OnWire {
                frames: 1,
                bytes: f.len() as u64,
                each: f.len() as u64,
            };
            if let Way::Policed(police) = &mut self.way
                && !police.pass(queue, 1, f.len() as u32, now)
            {
                self.lose(queue, 1);
                return report.dropped(DropReason::EgressPolicer);
            }
            if self.store.bytes() + f.len() > PORT_BYTES {
                self.lose(queue, 1);
                return report.dropped(DropReason::QueueFull);
            }
            let (slot, bytes) = self.store.take(f.len(), Default::default(), onward.clone());
            bytes.copy_from_slice(f);
            self.enqueue(slot, queue, wire, now, report);
        };
        if segment::split(&mut whole, &p.offload, &mut piece, each).is_err() {
            self.lose(queue, OnWire::of(p).frames);
            report.dropped(DropReason::TxError);
        }
        (self.whole, self.piece) = (whole, piece);
    }

    fn enqueue(&mut self, slot: u32, queue: u32, wire: OnWire, now: u64, report: &mut Report) {
        let bytes = &self.store.get(slot).bytes;
        let item = Item {
            slot,
            queue,
            bytes: wire.bytes as u32,
            frames: wire.frames,
            flow: frame::flow(bytes),
            at: now,
            ecn: frame::is_ecn_capable(bytes),
            marked: false,
            kept: false,
        };
        match &mut self.way {
            Way::Queued(s) => s.enqueue(item, now, &mut self.dropped),
            _ => self.front.push_back(item),
        }
        self.forget(self.reasons.0, report);
    }

    fn lose(&self, queue: u32, frames: u32) {
        if let Some(c) = self.counters.get(queue as usize) {
            c.lost(frames);
        }
    }

    /// What the discipline dropped goes.
    fn forget(&mut self, reason: DropReason, report: &mut Report) {
        while let Some(item) = self.dropped.pop() {
            self.lose(item.queue, item.frames);
            self.store.free(item.slot);
            report.dropped(reason);
        }
    }

    /// When somebody has to look next; never, if nothing waits.
    pub fn plan(&mut self, now: u64) -> u64 {
        let next = match &self.way {
            _ if !self.front.is_empty() => Some(now),
            Way::Queued(s) => s.next(now),
            _ => None,
        };
        self.due = next.map(|t| match self.due {
            // It has been waiting for us since then.
            Some(due) if t <= now && due <= now => due,
            _ => t,
        });
        match self.due {
            Some(due) => due.max(self.blocked),
            None => u64::MAX,
        }
    }

    /// Whether a thread is to see to departures from now on: it does already, or it brought what leaves before anything that
    /// was known of. It looks at `plan`.
    pub fn own(&mut self, thread: u32, plan: u64) -> bool {
        if plan == u64::MAX {
            self.owner = NOBODY;
            self.planned = u64::MAX;
            return false;
        }
        if self.owner != thread && self.owner != NOBODY && plan >= self.planned {
            return false;
        }
        self.owner = thread;
        self.planned = plan;
        true
    }

    /// Whether a thread sees to departures.
    pub fn is_owner(&self, thread: u32) -> bool {
        self.owner == thread
    }

    /// A thread that ends sees to them no more.
    pub fn disown(&mut self, thread: u32) {
        if self.owner == thread {
            self.owner = NOBODY;
            self.planned = u64::MAX;
        }
    }

    /// Sends what is due by `send`, no more than `most` packets.
    pub fn depart(
        &mut self,
        now: u64,
        most: usize,
        report: &mut Report,
        mut send: impl FnMut(&OwnedPacket, Option<&Onward>) -> TxOutcome,
    ) {
        if now < self.blocked {
            return;
        }
        let late = self.due.map_or(0, |due| now.saturating_sub(due));
        for _ in 0..most {
            let item = self.front.pop_front();
            let item = item.or_else(|| match &mut self.way {
                Way::Queued(s) => s.dequeue(now, late, &mut self.dropped),
                _ => None,
            });
            self.forget(self.reasons.1, report);
            let Some(item) = item else { return };
            if item.marked {
                frame::mark(self.store.bytes_mut(item.slot));
            }
            let sent = send(self.store.get(item.slot), self.store.onward(item.slot));
            if sent.full > 0 && sent.packets == 0 {
                self.front.push_front(item);
                self.blocked = now + RETRY;
                return;
            }
            report.out.add(sent);
            if let Some(c) = self.counters.get(item.queue as usize) {
                match sent.packets {
                    0 => c.lost(item.frames),
                    _ => c.sent(&item),
                }
            }
            self.store.free(item.slot);
        }
    }
}

/// Bytes that take [`CUT_ABOVE`] at a rate in bit/s.
fn cut_above(rate: u64) -> u64 {
    rate / 8 * (CUT_ABOVE / 1000) / 1_000_000
}

/// The way that a specification describes, and from how many bytes on large packets are cut in each queue.
fn build(spec: &QosSpec, device: &Device, now: u64) -> (Way, Vec<u64>) {
    let mtu = device.mtu();
    let uncut = vec![u64::MAX; spec.queues.len()];
    let by_rate = |c: &[ClassRates]| c.iter().map(|c| cut_above(c.max)).collect();
    let scheduler: (Box<dyn Scheduler>, Vec<u64>) = match spec.discipline {
        Discipline::Noop => return (Way::Open, uncut),
        Discipline::Policer(p) => return (Way::Policed(Policer::single(&p, now)), uncut),
        Discipline::TrTcm(p) => {
            let queues = spec.queues.values();
            let queues: Vec<_> = queues.map(|q| q.policer.unwrap_or_default()).collect();
            return (Way::Policed(Policer::new(&p, &queues, now)), uncut);
        }
        Discipline::Htb { max_rate } => {
            let rate = device.max_rate(max_rate);
            let queues = spec.queues.values();
            let classes: Vec<_> = queues.map(|q| device.htb_class(q, rate)).collect();
            let burst = device.frame().into();
            let htb = Htb::new(rate, burst, &classes, now);
            (Box::new(htb), by_rate(&classes))
        }
        Discipline::Hfsc { max_rate } => {
            let rate = device.max_rate(max_rate);
            let queues = spec.queues.values();
            let classes: Vec<_> = queues.map(|q| device.hfsc_class(q, rate)).collect();
            let hfsc = Hfsc::new(rate, device.frame().into(), &classes, now);
            (Box::new(hfsc), by_rate(&classes))
        }
        Discipline::Sfq { perturb, quantum } => {
            let sfq = Sfq::new(perturb, quantum.unwrap_or(mtu), now);
            (Box::new(sfq), uncut)
        }
        Discipline::Codel(c) => (Box::new(CodelQueue::new(c, mtu)), uncut),
        Discipline::FqCodel {
            codel,
            flows,
            quantum,
        } => (Box::new(FqCodel::new(codel, flows, quantum, mtu)), uncut),
        Discipline::Netem {
            latency,
            jitter,
            limit,
            loss,
        } => {
            // Losses are of frames.
            let cut = if loss > 0 { 0 } else { u64::MAX };
            let netem = Netem::new(latency, jitter, limit, loss, now);
            (Box::new(netem), vec![cut; spec.queues.len()])
        }
    };
    (Way::Queued(scheduler.0), scheduler.1)
}
