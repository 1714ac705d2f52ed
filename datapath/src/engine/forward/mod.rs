//! What one forwarding thread does with packets, apart from the thread.
//!
//! A batch goes through in four steps, each over all its packets, so that the memory one packet waits for
//! is fetched while others are worked on: extract keys and hash; find each one's flow (exact, wildcard, tables);
//! do its actions, gathering outputs by destination; send, one call a destination.
//!
//! A flow that changes a packet after it was sent somewhere (a copy untagged here, tagged there) cannot
//! wait for the others of its batch: what was gathered for that destination is sent first, then
//! the copy at once. So packets of one flow never overtake each other.
//!
//! All state is the thread's own: nothing here is locked or atomic but handing on counts, learning, and a
//! destination that more threads share than it has queues.

mod account;
mod execute;
mod inject;
mod lookup;

pub use execute::PACKET_INS_PER_PORT;
pub use inject::Injected;
pub use lookup::Dumped;

use super::events::EventSender;
use crate::bridge::{Epoch, PortCounters, World};
use crate::cache::exact::ExactCache;
use crate::cache::wildcard::WildcardCache;
use crate::cache::{Flow, NONE};
use crate::drop::{DROP_REASONS, DropReason};
use crate::flow::{Hasher, PACKET_WORDS, PacketKey, extract};
use crate::packet::{BATCH, Batch};
use crate::port::{TxOutcome, TxQueue};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;

/// A transmit queue as one thread has it.
#[derive(Default)]
pub enum Tx {
    /// No way out.
    #[default]
    None,
    /// The thread's own.
    Own(Box<dyn TxQueue>),
    /// Shared with others: the port has fewer queues than there are threads.
    Shared(Arc<Mutex<Box<dyn TxQueue>>>),
}

impl Tx {
    fn with(&mut self, f: impl FnOnce(&mut dyn TxQueue) -> TxOutcome) -> Option<TxOutcome> {
        match self {
            Tx::None => None,
            Tx::Own(q) => Some(f(&mut **q)),
            Tx::Shared(q) => Some(f(&mut **q.lock())),
        }
    }
}

/// What a thread counted for one port since it last handed counts on.
#[derive(Clone, Copy, Default)]
struct Local {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    tx_dropped: u64,
    tx_errors: u64,
    dirty: bool,
    drops: [u32; DROP_REASONS],
}

#[derive(Clone, Copy, Default)]
struct Pending {
    len: u8,
    which: [u8; BATCH],
}

#[derive(Default)]
struct Lane {
    tx: Tx,
    local: Local,
    pending: Pending,
    sent: bool,
    wildcard: WildcardCache,
    counters: Option<Arc<PortCounters>>,
}

/// Counts of one thread's caches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Exact hits.
    pub exact: u64,
    /// Wildcard hits.
    pub wildcard: u64,
    /// Translations of packets.
    pub misses: u64,
    /// Subtables looked into.
    pub probed: u64,
    /// Flows translated again.
    pub revalidated: u64,
}

/// The packet path of one thread.
pub struct Forwarder {
    hasher: Hasher,
    exact: ExactCache,
    flows: Vec<Flow>,
    free: Vec<u32>,
    /// Flows with counts to hand on.
    dirty: Vec<u32>,
    dirty_ports: Vec<u32>,
    lanes: Vec<Lane>,
    gathered: Vec<u32>,
    sent: Vec<u32>,
    keys: Box<[PacketKey; BATCH]>,
    lens: [usize; BATCH],
    hashes: [u64; BATCH],
    found: [u32; BATCH],
    shared: Arc<ArcSwap<World>>,
    shared_epoch: Arc<Epoch>,
    world: Arc<World>,
    epoch: u64,
    events: EventSender,
    sweep: usize,
    /// Nanoseconds of the datapath's clock.
    pub now: u64,
    /// What the caches did.
    pub counts: Counts,
}
impl Forwarder {
    /// With empty caches and no ports.
    pub fn new(shared: Arc<ArcSwap<World>>, epoch: Arc<Epoch>, events: EventSender) -> Forwarder {
        Forwarder {
            hasher: Hasher::new(),
            exact: ExactCache::default(),
            flows: Vec::new(),
            free: Vec::new(),
            dirty: Vec::with_capacity(4096),
            dirty_ports: Vec::with_capacity(256),
            lanes: Vec::new(),
            gathered: Vec::with_capacity(256),
            sent: Vec::with_capacity(256),
            keys: Box::new([[0; PACKET_WORDS]; BATCH]),
            lens: [0; BATCH],
            hashes: [0; BATCH],
            found: [0; BATCH],
            world: shared.load_full(),
            shared,
            shared_epoch: epoch,
            epoch: 0,
            events,
            sweep: 0,
            now: 0,
            counts: Counts::default(),
        }
    }

    fn lane(&mut self, port: u32) -> &mut Lane {
        let i = port as usize;
        if self.lanes.len() <= i {
            self.lanes.resize_with(i + 1, Lane::default);
            let n = self.lanes.len();
            self.gathered.reserve(n);
            self.sent.reserve(n);
            self.dirty_ports.reserve(n);
        }
        &mut self.lanes[i]
    }

    /// A port came.
    pub fn add_port(&mut self, port: u32, tx: Tx, counters: Arc<PortCounters>) {
        let lane = self.lane(port);
        lane.tx = tx;
        lane.counters = Some(counters);
    }

    /// A port went: its flows go, its counts are handed on.
    pub fn remove_port(&mut self, port: u32) {
        let flows: Vec<u32> = (0..self.flows.len() as u32)
            .filter(|&i| self.flows[i as usize].live && self.flows[i as usize].body.port == port)
            .collect();
        for f in flows {
            self.remove_flow(f);
        }
        self.flush();
        let lane = self.lane(port);
        lane.tx = Tx::None;
        lane.counters = None;
    }

    /// Notices changes, and lets go of what is no more. Before each batch.
    #[inline]
    pub fn refresh(&mut self) {
        let epoch = self.shared_epoch.get();
        if epoch != self.epoch {
            self.epoch = epoch;
            let world = self.shared.load();
            if world.version != self.world.version {
                self.world = world.clone();
            }
        }
    }

    /// Forwards a batch that came in by `port`.
    pub fn process(&mut self, batch: &mut Batch, port: u32) {
        self.refresh();
        self.lane(port);
        let n = batch.len().min(BATCH);
        let mut bytes = 0;
        for i in 0..n {
            let p = batch.packet_mut(i);
            bytes += p.len() as u64;
            let len = extract(p, port, &mut self.keys[i]);
            let hash = self.hasher.hash(&self.keys[i][..len]);
            self.lens[i] = len;
            self.hashes[i] = hash;
            self.exact.prefetch(hash);
        }
        let local = &mut self.lanes[port as usize].local;
        local.rx_packets += n as u64;
        local.rx_bytes += bytes;
        self.touch(port);
        for i in 0..n {
            let len = self.lens[i];
            let found = self
                .exact
                .lookup(self.hashes[i], &self.keys[i], len, &self.flows);
            self.found[i] = match found {
                Some(f) if self.flows[f as usize].epoch == self.epoch => {
                    self.counts.exact += 1;
                    f
                }
                _ => self.slow(i, port, found),
            };
            let flow = self.found[i];
            self.credit(flow, batch.packet(i).len() as u64, i);
        }
        for i in 0..n {
            let flow = &self.flows[self.found[i] as usize];
            if flow.single != NONE {
                let single = flow.single;
                self.gather(single, i);
            } else {
                self.execute(batch, i, self.found[i], port);
            }
        }
        self.send_gathered(batch, port);
    }

    #[inline]
    fn touch(&mut self, port: u32) {
        let local = &mut self.lanes[port as usize].local;
        if !local.dirty {
            local.dirty = true;
            self.dirty_ports.push(port);
        }
    }

    fn drop(&mut self, port: u32, reason: DropReason, n: u32) {
        if let Some(lane) = self.lanes.get_mut(port as usize) {
            lane.local.drops[reason as usize] += n;
            self.touch(port);
        }
    }
}
