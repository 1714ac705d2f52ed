//! Finding a packet's flow: caches, tables, and the flows kept.

use super::Forwarder;
use crate::action::DpAction;
use crate::cache::{self, Body, Flow, packet_mask, shape};
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, PacketKey};
use crate::pipeline::{Translation, Xlate};
use std::time::Duration;

impl Forwarder {
    /// The exact cache had nothing, or something that may be out of date.
    #[inline(never)]
    pub(super) fn slow(&mut self, i: usize, port: u32, found: Option<u32>) -> u32 {
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

    pub(super) fn translate(&self, words: &PacketKey, port: u32, effects: bool) -> Translation {
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
    pub(super) fn revalidate(&mut self, flow: u32) -> bool {
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
    pub(super) fn install(&mut self, words: &PacketKey, port: u32) -> u32 {
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

    pub(super) fn remove_flow(&mut self, flow: u32) {
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
