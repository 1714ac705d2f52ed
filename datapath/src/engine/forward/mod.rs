//! What one forwarding thread does with packets, apart from the thread.
//!
//! A batch goes through in four steps, so that the memory one packet waits for is fetched while others are worked on:
//! extract all keys; find their flows in the caches; for each packet check its flow (or ask the tables) and
//! do its actions, gathering outputs by destination; send, one call a destination.
//!
//! A flow that is taken out keeps its place in the slab until the batch is done: packets behind may have found it
//! already. A packet whose flow is not to be kept (see `cache`) has a place of its own in the slab for as long as the batch.
//!
//! A flow that changes a packet after it was sent somewhere (a copy untagged here, tagged there) cannot
//! wait for the others of its batch: what was gathered for that destination is sent first, then
//! the copy at once. So packets of one flow never overtake each other.
//!
//! All state is the thread's own: nothing here is locked or atomic but handing on counts, learning, and
//! once a batch a destination that more threads share than it has queues (`engine/tx.rs`).

mod account;
mod egress;
mod execute;
mod ingress;
mod inject;
mod lookup;
mod recirculate;
#[cfg(test)]
mod tests;
mod tunnel;

pub use execute::PACKET_INS_PER_PORT;
pub use inject::{Injected, Work};
pub use lookup::Dumped;

use self::egress::Egress;
use super::events::EventSender;
use super::tx::Tx;
use crate::bridge::{Epoch, PortCounters, World};
use crate::cache::exact::ExactCache;
use crate::cache::tunnels::Tunnels;
use crate::cache::wildcard::{First, PortCache, Wanted};
use crate::cache::{Dice, Flow, INSTALLS_AT_ONCE, INSTALLS_PER_SECOND, Keys, NONE};
use crate::clock::Clock;
use crate::drop::{ByReason, DropReason};
use crate::flow::{Hasher, extract};
use crate::packet::{BATCH, Batch};
use crate::pipeline::Translation;
use crate::policing::Ingress;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names for threads that have not been used.
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

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
    drops: ByReason<u32>,
}

/// Packets of a batch gathered for one destination.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Pending {
    len: u8,
    which: [u8; BATCH],
}

/// A port as one thread has it.
#[derive(Default)]
struct Lane {
    tx: Tx,
    /// What stands before it, if the port has quality of service.
    egress: Option<Box<Egress>>,
    local: Local,
    sent: bool,
    cache: PortCache,
    allowance: Allowance,
    /// What its packets go through first.
    ingress: Option<Arc<Ingress>>,
    counters: Option<Arc<PortCounters>>,
}

/// New flows that a port may still bring into the caches.
struct Allowance {
    left: u64,
    /// Nanoseconds up to which it was given.
    given: u64,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance {
            left: INSTALLS_AT_ONCE,
            given: 0,
        }
    }
}

impl Allowance {
    fn take(&mut self, now: u64) -> bool {
        const EACH: u64 = 1_000_000_000 / INSTALLS_PER_SECOND;
        if self.left == 0 {
            let n = (now.saturating_sub(self.given) / EACH).min(INSTALLS_AT_ONCE);
            self.given = now;
            self.left = n;
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
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
    /// Of the misses, those whose flow was not kept.
    pub unkept: u64,
}

/// The packet path of one thread.
pub struct Forwarder {
    hasher: Hasher,
    exact: ExactCache,
    /// The first [`BATCH`] are for packets whose flow is not kept, by place in the batch.
    flows: Vec<Flow>,
    free: Vec<u32>,
    /// Taken out during this batch, of which a packet may still want one.
    retired: Vec<u32>,
    /// Flows with counts to hand on.
    dirty: Vec<u32>,
    dirty_ports: Vec<u32>,
    lanes: Vec<Lane>,
    /// By destination.
    pending: Vec<Pending>,
    gathered: Vec<u32>,
    sent: Vec<u32>,
    /// Ports whose shapers the thread looks at.
    shaping: Vec<u32>,
    /// Shapers with packets that came while another thread was at them.
    stashed: u32,
    /// The thread's name to shapers.
    id: u32,
    keys: Box<Keys>,
    shared: Arc<ArcSwap<World>>,
    shared_epoch: Arc<Epoch>,
    world: Arc<World>,
    epoch: u64,
    events: EventSender,
    sweep: usize,
    dice: Dice,
    /// How often the packet at hand was recirculated.
    recirculations: u32,
    tunnels: Tunnels,
    waiting: tunnel::Waiting,
    /// The number of the tunnel that the packet at hand came by, if it came in by a tunnel port.
    came_by: u32,
    headers: tunnel::Headers,
    /// Batches for copies, and lists for their translations.
    spares: Vec<(Batch, Translation)>,
    /// A flow was put in during this batch.
    installed: bool,
    /// Of [`Counts::unkept`], those that are dealt with.
    unkept: u64,
    /// Nanoseconds of the datapath's clock, as of when it was last read.
    pub now: u64,
    clock: Clock,
    /// Whether it was read for this batch.
    timed: bool,
    /// What the caches did.
    pub counts: Counts,
}

impl Forwarder {
    /// With empty caches and no ports.
    pub fn new(
        shared: Arc<ArcSwap<World>>,
        epoch: Arc<Epoch>,
        events: EventSender,
        clock: Clock,
    ) -> Forwarder {
        Forwarder {
            hasher: Hasher::new(),
            exact: ExactCache::default(),
            flows: (0..BATCH).map(|_| Flow::vacant()).collect(),
            free: Vec::new(),
            retired: Vec::new(),
            dirty: Vec::with_capacity(4096),
            dirty_ports: Vec::with_capacity(256),
            lanes: Vec::new(),
            pending: Vec::new(),
            gathered: Vec::with_capacity(256),
            sent: Vec::with_capacity(256),
            shaping: Vec::with_capacity(256),
            stashed: 0,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            keys: Box::default(),
            world: shared.load_full(),
            shared,
            shared_epoch: epoch,
            epoch: 0,
            events,
            sweep: 0,
            dice: Dice::default(),
            recirculations: 0,
            tunnels: Tunnels::default(),
            waiting: tunnel::Waiting::default(),
            came_by: 0,
            headers: tunnel::Headers::default(),
            spares: Vec::new(),
            installed: false,
            unkept: 0,
            now: 0,
            clock,
            timed: false,
            counts: Counts::default(),
        }
    }

    fn lane(&mut self, port: u32) -> &mut Lane {
        let i = port as usize;
        if self.lanes.len() <= i {
            self.lanes.resize_with(i + 1, Lane::default);
            let n = self.lanes.len();
            self.pending.resize_with(n, Pending::default);
            self.gathered.reserve(n);
            self.sent.reserve(n);
            self.dirty_ports.reserve(n);
            self.note_limits();
            self.shaping.reserve(n);
        }
        &mut self.lanes[i]
    }

    /// Reads the clock.
    #[inline]
    pub fn read_clock(&mut self) {
        self.now = self.clock.now().as_nanos() as u64;
    }

    /// The time as of this batch. For what is measured by rates; everything else can do with a time that is
    /// [a little old](crate::engine).
    #[inline]
    fn time(&mut self) -> u64 {
        if !self.timed {
            self.timed = true;
            self.read_clock();
        }
        self.now
    }

    /// A port came.
    pub fn add_port(&mut self, port: u32, tx: Tx, counters: Arc<PortCounters>) {
        let lane = self.lane(port);
        lane.tx = tx;
        lane.counters = Some(counters);
    }

    /// A port went: its flows go, its counts are handed on.
    pub fn remove_port(&mut self, port: u32) {
        self.remove_flows_of(port);
        self.flush();
        let lane = self.lane(port);
        lane.tx = Tx::None;
        let egress = lane.egress.take();
        self.stashed -= egress.map_or(0, |e| u32::from(e.is_behind()));
        self.shaping.retain(|p| *p != port);
        let lane = self.lane(port);
        lane.counters = None;
    }

    /// Before the thread ends: gives the ways out back, for another to use.
    pub fn retire(&mut self) -> Vec<(u32, Tx)> {
        self.disown_all();
        self.flush();
        let ways = self.lanes.iter_mut().enumerate();
        ways.map(|(port, lane)| (port as u32, std::mem::take(&mut lane.tx)))
            .filter(|(_, tx)| !matches!(tx, Tx::None))
            .collect()
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
                drop(world);
                self.note_limits();
                self.tunnels.find_ports(&self.world);
            }
        }
    }

    /// Forwards a batch that came in by `port`.
    pub fn process(&mut self, batch: &mut Batch, port: u32) {
        self.refresh();
        self.lane(port);
        self.timed = false;
        self.waiting.can = true;
        match self.world.tunnels.socket_of(port) {
            None => {
                let n = self.admit(batch, port);
                self.forward(batch, n, port, |k| k, |_| 0);
            }
            Some(socket) => self.take_from_socket(batch, socket.kind, port),
        }
        if self.waiting.any() {
            self.go_on_inside(batch, port);
        }
        self.waiting.can = false;
    }

    /// Forwards packets of a batch that came in by `port`: so many, the one of number `k` at `place(k)`, which came by the tunnel
    /// `tunnel(k)`.
    #[inline(always)]
    fn forward(
        &mut self,
        batch: &mut Batch,
        n: usize,
        port: u32,
        place: impl Fn(usize) -> usize,
        tunnel: impl Fn(usize) -> u32,
    ) {
        self.lane(port);
        let first = self.lanes[port as usize].cache.first();
        let bytes = self.extract(batch, n, port, first, &place, &tunnel);
        let local = &mut self.lanes[port as usize].local;
        local.rx_packets += n as u64;
        local.rx_bytes += bytes;
        self.touch(port);
        self.find(n, port, first);
        for k in 0..n {
            let i = place(k);
            let mut found = self.keys.found[k];
            if !self.is_good(found) {
                found = self.slow(k, port, found, first);
            }
            let single = self.credit(found, batch.packet(i).len() as u64, k);
            if single != NONE {
                self.gather(single, i);
            } else {
                self.came_by = tunnel(k);
                self.execute(batch, i, found, port);
            }
        }
        self.send_gathered(batch, port);
        self.tidy(n);
    }

    /// Step one: the keys of a batch. Says how many bytes it has.
    #[inline(always)]
    fn extract(
        &mut self,
        batch: &mut Batch,
        n: usize,
        port: u32,
        first: First,
        place: impl Fn(usize) -> usize,
        tunnel: impl Fn(usize) -> u32,
    ) -> u64 {
        let mut bytes = 0;
        let tag_limit = self.world.tag_limit;
        for k in 0..n {
            let p = batch.packet_mut(place(k));
            bytes += p.len() as u64;
            let key = &mut self.keys.keys[k];
            let len = extract(p, port, tag_limit, &mut key.words);
            key.words[0] |= u64::from(tunnel(k));
            key.len = len as u32;
            if first == First::Exact {
                let hash = self.hasher.hash(&key.words[..len]);
                self.keys.hashes[k] = hash;
                self.exact.prefetch(hash);
            }
        }
        bytes
    }

    /// Step two: the flows of a batch, as far as the caches know them.
    #[inline(always)]
    fn find(&mut self, n: usize, port: u32, first: First) {
        let cache = &mut self.lanes[port as usize].cache;
        if first == First::Wildcard {
            let mut wanted = Wanted::all(n);
            self.keys.found = [NONE; BATCH];
            let probed = cache.find(&mut self.keys, &mut wanted, true, &self.hasher, &self.flows);
            self.counts.probed += probed;
            self.counts.wildcard += (n - wanted.list().len()) as u64;
            return;
        }
        let hits = self.exact.find(&mut self.keys, n, &self.flows);
        cache.exact_tried(n, hits);
        self.counts.exact += hits as u64;
        if hits == n {
            return;
        }
        let asked = Wanted::missing(&self.keys, n);
        let mut wanted = asked;
        let probed = cache.find(
            &mut self.keys,
            &mut wanted,
            false,
            &self.hasher,
            &self.flows,
        );
        self.counts.probed += probed;
        self.counts.wildcard += (asked.list().len() - wanted.list().len()) as u64;
        for &i in asked.list() {
            let i = usize::from(i);
            let flow = self.keys.found[i];
            if flow != NONE {
                let (hash, key) = (self.keys.hashes[i], &self.keys.keys[i]);
                self.exact.insert(hash, key, flow, &self.flows);
            }
        }
    }

    #[inline(always)]
    fn touch(&mut self, port: u32) {
        let local = &mut self.lanes[port as usize].local;
        if !local.dirty {
            local.dirty = true;
            self.dirty_ports.push(port);
        }
    }

    fn drop(&mut self, port: u32, reason: DropReason, n: u32) {
        if let Some(lane) = self.lanes.get_mut(port as usize) {
            lane.local.drops[reason] += n;
            self.touch(port);
        }
    }
}
