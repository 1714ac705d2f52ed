//! Finding a packet's flow: caches, tables, and the flows kept.

use super::Forwarder;
use crate::action::DpAction;
use crate::cache::tunnels::{Tunnel, Tunnels};
use crate::cache::wildcard::{First, Wanted};
use crate::cache::{self, Flow, NONE, packet_mask};
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, PacketKey};
use crate::packet::BATCH;
use crate::pipeline::{Credit, Translation, Xlate};
use std::time::Duration;

/// Over a bound, how seldom a new flow or mask takes the place of an old one.
const REPLACE_ONE_IN: u32 = 32;

impl Forwarder {
    /// Whether a flow that a cache named may be used as it is.
    #[inline(always)]
    pub(super) fn is_good(&self, flow: u32) -> bool {
        self.flows
            .get(flow as usize)
            .is_some_and(|f| f.epoch == self.epoch && f.live)
    }

    /// The caches had nothing for packet `i`, or something that may be out of date.
    #[inline(never)]
    pub(super) fn slow(&mut self, i: usize, port: u32, found: u32, first: First) -> u32 {
        if found != NONE && self.revalidate(found) {
            return found;
        }
        let key = &mut self.keys.keys[i];
        key.need(PACKET_WORDS);
        let words = key.words;
        if self.installed {
            // An earlier packet of the batch may have brought the flow.
            let mut wanted = Wanted::one(i);
            let cache = &mut self.lanes[port as usize].cache;
            let k = &mut self.keys;
            self.counts.probed += cache.find(k, &mut wanted, false, &self.hasher, &self.flows);
            let found = self.keys.found[i];
            if found != NONE && self.revalidate(found) {
                self.counts.wildcard += 1;
                return found;
            }
        }
        self.counts.misses += 1;
        let flow = self.install(i, &words, port, first);
        if first == First::Exact && flow as usize >= BATCH {
            let (hash, key) = (self.keys.hashes[i], &self.keys.keys[i]);
            self.exact.insert(hash, key, flow, &self.flows);
        }
        flow
    }

    /// What is done with a packet; `again` if it is one that came before. `old` is an answer nobody needs any more, whose
    /// memory is used.
    pub(super) fn translate(
        &self,
        words: &PacketKey,
        port: u32,
        again: bool,
        mut old: Translation,
    ) -> Translation {
        let mut key = FlowKey::from_packet(words, PACKET_WORDS);
        let tunnel = self.tunnels.get(words[0] as u32);
        if let Some(t) = tunnel {
            key.set_tunnel(&t.key);
        }
        // There the key had the tunnel's number.
        key.set(openflow::Slot::PktMark, 0);
        let Some(entry) = self.world.port(port) else {
            old.clear();
            old.drop = Some(DropReason::PortNoRecv);
            return old;
        };
        // Inside, the key's port is the datapath's own number; the tables see OpenFlow's.
        key.set(openflow::Slot::InPort, entry.number.0.into());
        let now = Duration::from_nanos(self.now);
        Xlate::new(&self.world, key, now, true)
            .again(again)
            .by(tunnel)
            .reusing(old)
            .run(entry)
    }

    /// Makes the rules that a translation learned, before any other packet is looked up. The translation itself is of the time
    /// before.
    fn teach(&mut self, t: &Translation) {
        if !t.teaches {
            return;
        }
        let now = Duration::from_nanos(self.now);
        let mut changed = false;
        for c in &t.credits {
            if let Credit::Lesson(lesson) = c {
                changed |= lesson.teach(now, false, &self.events);
            }
        }
        if changed {
            self.refresh();
        }
    }

    /// Whether a flow is right as of now; if it is not, it is taken out.
    pub(super) fn revalidate(&mut self, flow: u32) -> bool {
        let f = &self.flows[flow as usize];
        if !f.live {
            return false;
        }
        if f.epoch == self.epoch {
            return true;
        }
        if f.body.world == self.world.version && f.body.deps.iter().all(|d| d.holds()) {
            self.flows[flow as usize].epoch = self.epoch;
            return true;
        }
        self.counts.revalidated += 1;
        let t = self.translate(&f.body.key, f.body.port, true, Translation::default());
        let (epoch, world) = (self.epoch, self.world.version);
        let same = packet_mask(&t.mask, f.body.key[0] as u32) == f.body.mask;
        if !same {
            self.remove_flow(flow);
            return false;
        }
        // Only now: who taught it may be long gone, but packets of this flow agree with that one in all it teaches.
        self.teach(&t);
        let now = Duration::from_nanos(self.now);
        for c in &t.credits {
            if let Credit::Mac {
                bridge,
                vlan,
                mac,
                port,
            } = c
            {
                let max = bridge.state.load().config.mac_table_size;
                bridge.learn(*vlan, *mac, *port, now, max);
            }
        }
        // Counts so far belong to what was right until now.
        self.hand_on(flow);
        self.flows[flow as usize].set(t, epoch, world);
        true
    }

    /// Translates packet `i` and makes a flow of the answer, for good if there is room. Or it is one that is there already, but
    /// was not looked for.
    fn install(&mut self, i: usize, words: &PacketKey, port: u32, first: First) -> u32 {
        // Packet `i`'s own place is only used for what is not kept: its lists are free until then.
        let spare = self.flows[i].take();
        let t = self.translate(words, port, false, spare);
        let (epoch, world) = (self.epoch, self.world.version);
        self.teach(&t);
        let number = words[0] as u32;
        let mask = packet_mask(&t.mask, number);
        if mask[0] != 0 && Tunnels::is_temporary(number) {
            return self.keep_for_now(i, port, t);
        }
        let cache = &mut self.lanes[port as usize].cache;
        if let Some(f) = cache.known(words, &mask, first == First::Wildcard, &self.hasher) {
            self.hand_on(f);
            self.flows[f as usize].set(t, epoch, world);
            return f;
        }
        let Some(at) = self.place(&mask, port) else {
            return self.keep_for_now(i, port, t);
        };
        let f = &mut self.flows[at as usize];
        f.generation = f.generation.wrapping_add(1);
        if f.generation == 0 {
            self.exact.forget(at);
        }
        f.live = true;
        f.tcp_flags = 0;
        f.used = self.now;
        f.body.port = port;
        f.body.key = *words;
        f.body.mask = mask;
        (f.body.total_packets, f.body.total_bytes) = (0, 0);
        let old = f.take();
        f.set(t, epoch, world);
        self.flows[i].give(old);
        let cache = &mut self.lanes[port as usize].cache;
        cache.insert(at, &self.hasher, &self.flows);
        self.installed = true;
        at
    }

    /// What is done with packet `i` alone.
    fn keep_for_now(&mut self, i: usize, port: u32, t: Translation) -> u32 {
        self.counts.unkept += 1;
        let (epoch, world) = (self.epoch, self.world.version);
        let f = &mut self.flows[i];
        f.body.port = port;
        f.set(t, epoch, world);
        i as u32
    }

    /// A vacant place in the slab for a new flow of a port, unless the port has its share.
    fn place(&mut self, mask: &PacketKey, port: u32) -> Option<u32> {
        let lane = &mut self.lanes[port as usize];
        if !lane.allowance.take(self.now) {
            return None;
        }
        if !lane.cache.has_room_for(mask) {
            // A mask that is really used comes again, and gets in at some time.
            if !self.dice.one_in(REPLACE_ONE_IN) {
                return None;
            }
            while let Some(v) = self.lanes[port as usize].cache.rarest()
                && !self.lanes[port as usize].cache.has_room_for(mask)
            {
                self.remove_flow(v);
            }
            if !self.lanes[port as usize].cache.has_room_for(mask) {
                return None;
            }
        }
        let full = self.free.is_empty() && self.flows.len() >= cache::FLOWS_MAX;
        let lane = &self.lanes[port as usize];
        if lane.cache.len() >= cache::PORT_FLOWS_MAX {
            if !self.dice.one_in(REPLACE_ONE_IN) {
                return None;
            }
            let victim = lane.cache.any(self.dice.roll() as usize)?;
            self.remove_flow(victim);
        } else if full {
            if !self.dice.one_in(REPLACE_ONE_IN) {
                return None;
            }
            // Of a few, one of the port that has most: in the long run all ports have their share.
            let n = self.flows.len() - BATCH;
            let victim = (0..8)
                .map(|_| BATCH + self.dice.roll() as usize % n)
                .filter(|&f| self.flows[f].live)
                .max_by_key(|&f| self.lanes[self.flows[f].body.port as usize].cache.len())?;
            self.remove_flow(victim as u32);
        }
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        if self.flows.len() >= cache::FLOWS_MAX {
            // The victim's place is free with the next batch.
            return None;
        }
        self.flows.push(Flow::vacant());
        self.dirty.reserve(self.flows.len());
        self.free.reserve(self.flows.len());
        self.retired.reserve(self.flows.len());
        Some((self.flows.len() - 1) as u32)
    }

    /// After a batch of `n`: what was not to be kept goes, and what was taken out becomes vacant.
    #[inline(always)]
    pub(super) fn tidy(&mut self, n: usize) {
        if self.counts.unkept != self.unkept {
            self.unkept = self.counts.unkept;
            for i in 0..n as u32 {
                self.hand_on(i);
            }
        }
        self.installed = false;
        if !self.retired.is_empty() {
            self.free.append(&mut self.retired);
        }
    }

    /// Takes out all flows that came in by a port.
    pub(super) fn remove_flows_of(&mut self, port: u32) {
        for f in 0..self.flows.len() as u32 {
            if self.flows[f as usize].body.port == port {
                self.remove_flow(f);
            }
        }
        self.tidy(0);
    }

    pub(super) fn remove_flow(&mut self, flow: u32) {
        let f = &self.flows[flow as usize];
        if !f.live {
            return;
        }
        let port = f.body.port;
        self.hand_on(flow);
        self.lanes[port as usize]
            .cache
            .remove(flow, &self.hasher, &self.flows);
        self.flows[flow as usize].live = false;
        self.retired.push(flow);
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
        self.tidy(0);
        self.reclaim_tunnels();
        self.flow_count() > 0
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
                tunnel: self.tunnels.get(f.body.key[0] as u32).cloned(),
                actions: f.body.actions.to_vec(),
                packets: f.body.total_packets + f.packets,
                bytes: f.body.total_bytes + f.bytes,
                used: f.used,
            })
            .collect()
    }

    /// Flows in the caches.
    pub fn flow_count(&self) -> usize {
        self.flows.len() - BATCH - self.free.len() - self.retired.len()
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
    /// The tunnel it came by.
    pub tunnel: Option<Tunnel>,
    /// What is done.
    pub actions: Vec<DpAction>,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds of the last packet.
    pub used: u64,
}
