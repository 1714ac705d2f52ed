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

use super::events::EventSender;
use crate::action::{self, DpAction, PacketInSpec};
use crate::bridge::{Epoch, PortCounters, World};
use crate::cache::exact::ExactCache;
use crate::cache::wildcard::WildcardCache;
use crate::cache::{self, Body, Flow, NONE, packet_mask, shape};
use crate::config::Event;
use crate::drop::{DROP_REASONS, DropReason};
use crate::flow::{FlowKey, Hasher, PACKET_WORDS, PacketKey, extract};
use crate::packet::{BATCH, Batch, Checksum, OwnedPacket, checksum};
use crate::pipeline::{Credit, Translation, Xlate};
use crate::port::{TxOutcome, TxQueue};
use arc_swap::ArcSwap;
use openflow::{Action, PacketIn, PortNo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Packet-ins caused by one port that may wait to be taken.
pub const PACKET_INS_PER_PORT: u32 = 256;

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

/// A packet given by a controller.
pub struct Injected {
    /// Its bytes.
    pub packet: OwnedPacket,
    /// Whose.
    pub bridge: u32,
    /// Where it is said to have come in.
    pub in_port: PortNo,
    /// What to do.
    pub actions: Vec<Action>,
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

    #[inline]
    fn credit(&mut self, flow: u32, bytes: u64, i: usize) {
        let f = &mut self.flows[flow as usize];
        if f.packets == 0 {
            self.dirty.push(flow);
        }
        f.packets += 1;
        f.bytes += bytes;
        f.used = self.now;
        if self.lens[i] == 6 {
            f.tcp_flags |= (self.keys[i][5] >> 16) as u16;
        }
    }

    /// The exact cache had nothing, or something that may be out of date.
    #[inline(never)]
    fn slow(&mut self, i: usize, port: u32, found: Option<u32>) -> u32 {
        if let Some(f) = found
            && self.revalidate(f)
        {
            self.counts.exact += 1;
            return f;
        }
        let len = self.lens[i];
        self.keys[i][len..].fill(0);
        let words = self.keys[i];
        let mut probed = 0;
        let hit = self.lanes[port as usize].wildcard.lookup(
            &words,
            &self.hasher,
            &self.flows,
            &mut probed,
        );
        self.counts.probed += probed;
        let flow = match hit {
            Some(f) if self.revalidate(f) => {
                self.counts.wildcard += 1;
                f
            }
            _ => {
                self.counts.misses += 1;
                self.install(&words, port)
            }
        };
        self.exact
            .insert(self.hashes[i], &words, len, flow, &self.flows);
        flow
    }

    fn translate(&self, words: &PacketKey, port: u32, effects: bool) -> Translation {
        let mut key = FlowKey::from_packet(words, PACKET_WORDS);
        let Some(entry) = self.world.port(port) else {
            return Translation {
                drop: Some(DropReason::PortNoRecv),
                ..Translation::default()
            };
        };
        // Inside, the key's port is the datapath's own number; the tables see OpenFlow's.
        key.set(openflow::Slot::InPort, entry.number.0.into());
        let now = Duration::from_nanos(self.now);
        Xlate::new(&self.world, key, now, effects).run(entry)
    }

    /// Whether a flow is right as of now; if it is not, it is taken out.
    fn revalidate(&mut self, flow: u32) -> bool {
        let f = &self.flows[flow as usize];
        if f.epoch == self.epoch {
            return true;
        }
        if f.body.world == self.world.version && f.body.deps.iter().all(|d| d.holds()) {
            self.flows[flow as usize].epoch = self.epoch;
            return true;
        }
        self.counts.revalidated += 1;
        let t = self.translate(&f.body.key, f.body.port, true);
        let same = packet_mask(&t.mask) == f.body.mask;
        if !same {
            self.remove_flow(flow);
            return false;
        }
        // Counts so far belong to what was right until now.
        self.hand_on(flow);
        let world = self.world.version;
        let epoch = self.epoch;
        let f = &mut self.flows[flow as usize];
        (f.single, f.simple) = shape(&t.actions);
        f.body.set(t, world);
        f.epoch = epoch;
        true
    }

    /// Translates a packet and makes a flow of the answer.
    fn install(&mut self, words: &PacketKey, port: u32) -> u32 {
        let t = self.translate(words, port, true);
        let mask = packet_mask(&t.mask);
        let random = self.hasher.hash(&[self.counts.misses, self.now]) as usize;
        while let Some(v) = self.lanes[port as usize].wildcard.victim(&mask, random) {
            self.remove_flow(v);
        }
        if self.free.is_empty() && self.flows.len() >= cache::FLOWS_MAX {
            // The thread's own bound: any flow goes, of whichever port has it.
            let start = random % self.flows.len();
            self.remove_flow(start as u32);
        }
        let (single, simple) = shape(&t.actions);
        let mut body = Box::new(Body {
            port,
            key: *words,
            mask,
            actions: Box::default(),
            drop: DropReason::NoOutput,
            credits: Vec::new(),
            deps: Vec::new(),
            world: 0,
            total_packets: 0,
            total_bytes: 0,
        });
        body.set(t, self.world.version);
        let mut flow = Flow {
            epoch: self.epoch,
            single,
            generation: 0,
            live: true,
            simple,
            tcp_flags: 0,
            packets: 0,
            bytes: 0,
            used: self.now,
            body,
        };
        let at = match self.free.pop() {
            Some(at) => {
                let old = &mut self.flows[at as usize];
                flow.generation = old.generation.wrapping_add(1);
                let wrapped = flow.generation == 0;
                *old = flow;
                if wrapped {
                    self.exact.forget(at);
                }
                at
            }
            None => {
                self.flows.push(flow);
                self.dirty.reserve(self.flows.len());
                (self.flows.len() - 1) as u32
            }
        };
        self.lanes[port as usize]
            .wildcard
            .insert(at, &self.hasher, &self.flows);
        at
    }

    fn remove_flow(&mut self, flow: u32) {
        let f = &self.flows[flow as usize];
        if !f.live {
            return;
        }
        let port = f.body.port;
        self.hand_on(flow);
        self.lanes[port as usize]
            .wildcard
            .remove(flow, &self.hasher, &self.flows);
        self.flows[flow as usize].live = false;
        self.free.push(flow);
    }

    /// Hands a flow's counts on to whom they belong.
    fn hand_on(&mut self, flow: u32) {
        let now = Duration::from_nanos(self.now);
        let f = &mut self.flows[flow as usize];
        if f.packets == 0 {
            return;
        }
        for c in &f.body.credits {
            match c {
                Credit::Rule(r) => r.add(f.packets, f.bytes, f.used),
                Credit::Table(t, true) => t.matched.add(f.packets, f.bytes, f.used),
                Credit::Table(t, false) => t.missed.add(f.packets, f.bytes, f.used),
                Credit::Patch(out, into) => {
                    out.tx_packets.fetch_add(f.packets, Ordering::Relaxed);
                    out.tx_bytes.fetch_add(f.bytes, Ordering::Relaxed);
                    into.rx_packets.fetch_add(f.packets, Ordering::Relaxed);
                    into.rx_bytes.fetch_add(f.bytes, Ordering::Relaxed);
                }
                Credit::Mac {
                    bridge,
                    vlan,
                    mac,
                    port,
                } => {
                    let max = bridge.state.load().config.mac_table_size;
                    let used = Duration::from_nanos(f.used).min(now);
                    // Its port may be gone, and the number another's.
                    let there = self
                        .world
                        .port(*port)
                        .is_some_and(|p| p.bridge == bridge.id);
                    if !there {
                        continue;
                    }
                    // A host that moved meanwhile stays where it was seen last.
                    let elsewhere = bridge
                        .fdb
                        .lock()
                        .lookup(crate::mac::key(*vlan, *mac))
                        .is_some_and(|p| p != *port);
                    if !elsewhere {
                        bridge.learn(*vlan, *mac, *port, used, max);
                    }
                }
            }
        }
        f.body.total_packets += f.packets;
        f.body.total_bytes += f.bytes;
        f.packets = 0;
        f.bytes = 0;
    }

    /// Hands all counts on.
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for f in dirty.drain(..) {
            self.hand_on(f);
        }
        self.dirty = dirty;
        while let Some(port) = self.dirty_ports.pop() {
            let lane = &mut self.lanes[port as usize];
            let l = std::mem::take(&mut lane.local);
            let Some(c) = &lane.counters else { continue };
            for (to, n) in [
                (&c.rx_packets, l.rx_packets),
                (&c.rx_bytes, l.rx_bytes),
                (&c.tx_packets, l.tx_packets),
                (&c.tx_bytes, l.tx_bytes),
                (&c.tx_dropped, l.tx_dropped),
                (&c.tx_errors, l.tx_errors),
            ] {
                if n != 0 {
                    to.fetch_add(n, Ordering::Relaxed);
                }
            }
            for (to, n) in c.drops.iter().zip(l.drops) {
                if n != 0 {
                    to.fetch_add(n.into(), Ordering::Relaxed);
                }
            }
        }
    }

    /// Takes unused flows out, looking at no more than `budget` of them; whether any flow is left.
    pub fn sweep(&mut self, budget: usize) -> bool {
        let idle = cache::IDLE.as_nanos() as u64;
        for _ in 0..budget.min(self.flows.len()) {
            self.sweep = (self.sweep + 1) % self.flows.len();
            let f = &self.flows[self.sweep];
            if f.live && self.now.saturating_sub(f.used) >= idle {
                self.remove_flow(self.sweep as u32);
            }
        }
        self.free.len() < self.flows.len()
    }

    #[inline]
    fn gather(&mut self, port: u32, i: usize) {
        let Some(lane) = self.lanes.get_mut(port as usize) else {
            return;
        };
        let p = &mut lane.pending;
        if p.len == 0 {
            self.gathered.push(port);
        }
        // At most one copy of a packet is gathered for a port: see `execute`.
        p.which[usize::from(p.len)] = i as u8;
        p.len += 1;
    }

    fn is_gathered(&self, port: u32, i: usize) -> bool {
        self.lanes.get(port as usize).is_some_and(|l| {
            let p = &l.pending;
            p.len as usize == BATCH
                || p.len > 0 && usize::from(p.which[usize::from(p.len) - 1]) == i
        })
    }

    fn drop(&mut self, port: u32, reason: DropReason, n: u32) {
        if let Some(lane) = self.lanes.get_mut(port as usize) {
            lane.local.drops[reason as usize] += n;
            self.touch(port);
        }
    }

    /// Anything but one plain output.
    fn execute(&mut self, batch: &mut Batch, i: usize, flow: u32, port: u32) {
        let f = &mut self.flows[flow as usize];
        if f.body.actions.is_empty() {
            let reason = f.body.drop;
            return self.drop(port, reason, 1);
        }
        let simple = f.simple;
        let actions = std::mem::take(&mut f.body.actions);
        self.run_actions(batch, i, &actions, simple, port);
        self.flows[flow as usize].body.actions = actions;
    }

    fn run_actions(
        &mut self,
        batch: &mut Batch,
        i: usize,
        actions: &[DpAction],
        simple: bool,
        port: u32,
    ) {
        for a in actions {
            match a {
                DpAction::Output(to) if simple && !self.is_gathered(*to, i) => self.gather(*to, i),
                DpAction::Output(to) => {
                    self.send(batch, *to, port);
                    self.send_now(batch, *to, &[i as u8], port);
                }
                DpAction::PushVlan { tpid, tci } => {
                    if !action::push_vlan(batch.packet_mut(i), *tpid, *tci) {
                        return self.drop(port, DropReason::NoHeadroom, 1);
                    }
                }
                DpAction::PopVlan => action::pop_vlan(batch.packet_mut(i)),
                DpAction::SetVlan(tci) => action::set_vlan(batch.packet_mut(i), *tci),
                DpAction::Set { slot, value, mask } => {
                    action::set(batch.packet_mut(i), *slot, *value, *mask);
                }
                DpAction::PacketIn(spec) => self.packet_in(batch, i, spec, port),
            }
        }
    }

    /// Sends what was gathered for one destination.
    fn send(&mut self, batch: &Batch, to: u32, from: u32) {
        let Some(lane) = self.lanes.get_mut(to as usize) else {
            return;
        };
        let p = lane.pending;
        lane.pending.len = 0;
        if p.len > 0 {
            self.send_now(batch, to, &p.which[..usize::from(p.len)], from);
        }
    }

    #[inline]
    fn send_gathered(&mut self, batch: &Batch, from: u32) {
        while let Some(to) = self.gathered.pop() {
            self.send(batch, to, from);
        }
    }

    fn send_now(&mut self, batch: &Batch, to: u32, which: &[u8], from: u32) {
        let Some(lane) = self.lanes.get_mut(to as usize) else {
            return self.drop(from, DropReason::PortNoForward, which.len() as u32);
        };
        let Some(out) = lane.tx.with(|q| q.send(batch, which)) else {
            return self.drop(from, DropReason::PortNoForward, which.len() as u32);
        };
        if !lane.sent {
            lane.sent = true;
            self.sent.push(to);
        }
        let l = &mut lane.local;
        l.tx_packets += u64::from(out.packets);
        l.tx_bytes += out.bytes;
        self.touch(to);
        if out.full | out.too_long | out.down | out.error != 0 {
            let l = &mut self.lanes[to as usize].local;
            l.tx_dropped += u64::from(out.full + out.too_long + out.down + out.error);
            l.tx_errors += u64::from(out.error);
            for (n, reason) in [
                (out.full, DropReason::TxFull),
                (out.too_long, DropReason::TxTooLong),
                (out.down, DropReason::TxDown),
                (out.error, DropReason::TxError),
            ] {
                if n > 0 {
                    self.drop(from, reason, n);
                }
            }
        }
    }

    /// Notifies the receivers of what was sent. Once per round.
    #[inline]
    pub fn notify(&mut self) {
        while let Some(to) = self.sent.pop() {
            let lane = &mut self.lanes[to as usize];
            lane.sent = false;
            lane.tx.with(|q| {
                q.flush();
                TxOutcome::default()
            });
        }
    }

    fn packet_in(&mut self, batch: &Batch, i: usize, spec: &PacketInSpec, port: u32) {
        let budget = self
            .lanes
            .get(spec.budget as usize)
            .and_then(|l| l.counters.clone());
        if budget
            .as_ref()
            .is_some_and(|c| c.packet_ins.load(Ordering::Relaxed) >= PACKET_INS_PER_PORT)
        {
            return self.drop(port, DropReason::PacketInLimit, 1);
        }
        let mut packet = batch.to_owned(i);
        if let Checksum::Needed { start, offset } = packet.offload.checksum
            && !packet.offload.is_gso()
        {
            checksum::finish(&mut packet.bytes, start.into(), offset.into());
        }
        let event = Event::PacketIn {
            bridge: crate::config::BridgeId(spec.bridge),
            packet_in: PacketIn {
                buffer: None,
                total_len: packet.bytes.len().min(0xffff) as u16,
                reason: spec.reason,
                table: spec.table,
                cookie: spec.cookie,
                metadata: spec.metadata.clone(),
                data: packet.bytes.into(),
            },
            max_len: spec.max_len,
            controller_id: spec.controller_id,
            userdata: spec.userdata.clone(),
        };
        if !self.events.send(event, budget) {
            self.drop(port, DropReason::PacketInLimit, 1);
        }
    }

    /// Does what a controller wants done with a packet.
    pub fn inject(&mut self, batch: &mut Batch, injected: &Injected) {
        self.refresh();
        batch.clear();
        // SAFETY: `injected` outlives this function, at whose end the batch is cleared.
        if !unsafe { batch.push_borrowed(&injected.packet) } {
            return;
        }
        let port = self
            .world
            .bridge(injected.bridge)
            .and_then(|b| b.state.load().ports.get(&injected.in_port.0).copied())
            .unwrap_or(u32::MAX);
        let mut words = [0; PACKET_WORDS];
        let len = extract(batch.packet_mut(0), port, &mut words);
        let bytes = batch.packet(0).len() as u64;
        let key = FlowKey::from_packet(&words, len);
        let now = Duration::from_nanos(self.now);
        let world = self.world.clone();
        let t = Xlate::new(&world, key, now, true).run_actions(
            injected.bridge,
            injected.in_port,
            &injected.actions,
        );
        for c in &t.credits {
            match c {
                Credit::Rule(r) => r.add(1, bytes, self.now),
                Credit::Table(t, true) => t.matched.add(1, bytes, self.now),
                Credit::Table(t, false) => t.missed.add(1, bytes, self.now),
                Credit::Patch(out, into) => {
                    out.tx_packets.fetch_add(1, Ordering::Relaxed);
                    out.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
                    into.rx_packets.fetch_add(1, Ordering::Relaxed);
                    into.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Credit::Mac { .. } => {}
            }
        }
        if t.actions.is_empty() {
            self.drop(port, t.drop.unwrap_or(DropReason::NoOutput), 1);
        } else {
            let (_, simple) = shape(&t.actions);
            self.run_actions(batch, 0, &t.actions, simple, port);
        }
        self.send_gathered(batch, port);
        batch.clear();
    }

    /// The cached flows, for people.
    pub fn dump(&self) -> Vec<Dumped> {
        self.flows
            .iter()
            .filter(|f| f.live)
            .map(|f| Dumped {
                port: f.body.port,
                key: f.body.key,
                mask: f.body.mask,
                actions: f.body.actions.to_vec(),
                packets: f.body.total_packets + f.packets,
                bytes: f.body.total_bytes + f.bytes,
                used: f.used,
            })
            .collect()
    }

    /// Flows in the caches.
    pub fn flow_count(&self) -> usize {
        self.flows.len() - self.free.len()
    }
}

/// A cached flow as it is.
pub struct Dumped {
    /// Where it came in.
    pub port: u32,
    /// Its key.
    pub key: PacketKey,
    /// The bits that count.
    pub mask: PacketKey,
    /// What is done.
    pub actions: Vec<DpAction>,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds of the last packet.
    pub used: u64,
}
