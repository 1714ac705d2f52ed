//! The wildcard cache of one input port: keys under masks to flows.
//!
//! One subtable for each mask, looked into in order of hits (sorted now and then), each an open-addressed hash
//! table of flow indices. Flows of one port never overlap with different answers, so the first
//! match is the match. Both the number of masks and of flows are bounded for each port; what is
//! over the bound pushes out flows of the same port only.

use super::{Flow, PORT_FLOWS_MAX, PORT_MASKS_MAX};
use crate::flow::{Hasher, PACKET_WORDS, PacketKey};

const EMPTY: u32 = u32::MAX;

struct Subtable {
    mask: PacketKey,
    /// Words of the mask up to the last that is not zero.
    len: usize,
    /// Hash and flow; capacity is a power of two, at most half full.
    slots: Vec<(u32, u32)>,
    used: usize,
    hits: u64,
}

impl Subtable {
    fn new(mask: PacketKey) -> Subtable {
        Subtable {
            mask,
            len: PACKET_WORDS - mask.iter().rev().take_while(|w| **w == 0).count(),
            slots: vec![(0, EMPTY); 16],
            used: 0,
            hits: 0,
        }
    }

    #[inline(always)]
    fn masked(&self, words: &PacketKey) -> PacketKey {
        let mut m = [0; PACKET_WORDS];
        for i in 0..PACKET_WORDS {
            m[i] = words[i] & self.mask[i];
        }
        m
    }

    fn find(&self, hash: u32, masked: &PacketKey, flows: &[Flow]) -> Option<u32> {
        let cap = self.slots.len() - 1;
        let mut at = hash as usize & cap;
        loop {
            let (h, flow) = self.slots[at];
            if flow == EMPTY {
                return None;
            }
            if h == hash {
                let key = &flows[flow as usize].body.key;
                if (0..self.len).all(|i| key[i] & self.mask[i] == masked[i]) {
                    return Some(flow);
                }
            }
            at = (at + 1) & cap;
        }
    }

    fn insert(&mut self, hash: u32, flow: u32) {
        if self.used * 2 >= self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![(0, EMPTY); old.len() * 2];
            for (h, f) in old {
                if f != EMPTY {
                    self.place(h, f);
                }
            }
        }
        self.place(hash, flow);
        self.used += 1;
    }

    fn place(&mut self, hash: u32, flow: u32) {
        let cap = self.slots.len() - 1;
        let mut at = hash as usize & cap;
        while self.slots[at].1 != EMPTY {
            at = (at + 1) & cap;
        }
        self.slots[at] = (hash, flow);
    }

    fn remove(&mut self, hash: u32, flow: u32) -> bool {
        let cap = self.slots.len() - 1;
        let mut at = hash as usize & cap;
        while self.slots[at].1 != flow {
            if self.slots[at].1 == EMPTY {
                return false;
            }
            at = (at + 1) & cap;
        }
        // Close the gap: move back whatever would no longer be found behind it.
        self.used -= 1;
        let mut gap = at;
        loop {
            at = (at + 1) & cap;
            let (h, f) = self.slots[at];
            if f == EMPTY {
                break;
            }
            let home = h as usize & cap;
            if (at.wrapping_sub(home) & cap) >= (at.wrapping_sub(gap) & cap) {
                self.slots[gap] = (h, f);
                gap = at;
            }
        }
        self.slots[gap] = (0, EMPTY);
        true
    }
}

/// The wildcard cache of one port in one thread.
#[derive(Default)]
pub struct WildcardCache {
    subtables: Vec<Subtable>,
    flows: usize,
    lookups: u32,
}

impl WildcardCache {
    /// The flow of a key (zeros behind its length). `probed` counts subtables.
    pub fn lookup(
        &mut self,
        words: &PacketKey,
        hasher: &Hasher,
        flows: &[Flow],
        probed: &mut u64,
    ) -> Option<u32> {
        self.lookups = self.lookups.wrapping_add(1);
        if self.lookups.is_multiple_of(16_384) {
            self.subtables.sort_by_key(|s| std::cmp::Reverse(s.hits));
            self.subtables.iter_mut().for_each(|s| s.hits /= 2);
        }
        for s in &mut self.subtables {
            *probed += 1;
            let masked = s.masked(words);
            let hash = hasher.hash(&masked[..s.len]) as u32;
            if let Some(flow) = s.find(hash, &masked, flows) {
                s.hits += 1;
                return Some(flow);
            }
        }
        None
    }

    /// A flow that must go before another can come, if a bound is reached.
    pub fn victim(&self, mask: &PacketKey, random: usize) -> Option<u32> {
        let new_mask = !self.subtables.iter().any(|s| s.mask == *mask);
        let from = if new_mask && self.subtables.len() >= PORT_MASKS_MAX {
            self.subtables.iter().min_by_key(|s| s.used)?
        } else if self.flows >= PORT_FLOWS_MAX {
            self.subtables.iter().max_by_key(|s| s.used)?
        } else {
            return None;
        };
        let n = from.slots.len();
        (0..n)
            .map(|i| from.slots[(random + i) % n].1)
            .find(|f| *f != EMPTY)
    }

    /// Puts a flow in.
    pub fn insert(&mut self, flow: u32, hasher: &Hasher, flows: &[Flow]) {
        let body = &flows[flow as usize].body;
        let at = match self.subtables.iter().position(|s| s.mask == body.mask) {
            Some(at) => at,
            None => {
                self.subtables.push(Subtable::new(body.mask));
                self.subtables.len() - 1
            }
        };
        let s = &mut self.subtables[at];
        let masked = s.masked(&body.key);
        let hash = hasher.hash(&masked[..s.len]) as u32;
        s.insert(hash, flow);
        self.flows += 1;
    }

    /// Takes a flow out.
    pub fn remove(&mut self, flow: u32, hasher: &Hasher, flows: &[Flow]) {
        let body = &flows[flow as usize].body;
        if let Some(at) = self.subtables.iter().position(|s| s.mask == body.mask) {
            let s = &mut self.subtables[at];
            let masked = s.masked(&body.key);
            let hash = hasher.hash(&masked[..s.len]) as u32;
            if s.remove(hash, flow) {
                self.flows -= 1;
                if s.used == 0 {
                    self.subtables.remove(at);
                }
            }
        }
    }

    /// Masks in it.
    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    /// Flows in it.
    pub fn len(&self) -> usize {
        self.flows
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.flows == 0
    }
}
