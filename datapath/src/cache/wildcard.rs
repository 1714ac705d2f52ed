//! The wildcard cache of one input port: keys under masks to flows.
//!
//! One [`Subtable`] for each mask. Flows of one port never overlap with different answers, so the first match is the
//! match, and subtables are looked into in order of hits. Both the number of masks and of flows are bounded for each
//! port (see [`super`]).
//!
//! # A subtable
//!
//! Open addressing, at most half full. A cell holds a part of the hash, the flow, and the key's words under the
//! mask, only those in which the mask has bits: two to seven words fit one cache line with it, so a hit touches one line
//! here and one of the flow. The number of words is known at compile time in each copy of the inner
//! loops (`Subtable::find_n`), which hash, prefetch and compare without a branch between the words. A batch goes through one
//! subtable at a time in two passes: all cells are asked for before the first is looked at. Packets
//! that agree with the one before them (a burst of one flow, or rules that look at little) take its answer.
//!
//! # Which are asked
//!
//! A probe that seldom finds something costs more than asking the tables now and then. So only those at the front are asked
//! that find one packet in `WORTH` of those that come to them. Flows of the others are found by the mask that
//! the tables give, and their subtable moves up if there are many such packets. Traffic of flows never seen before
//! is not looked for in vain.
//!
//! Growth doubles a subtable at once: at its bound that is a pause of some hundred microseconds, every so many
//! thousand new flows.

use super::{Flow, Keys, NONE, PORT_MASKS_MAX, same};
use crate::flow::{Hasher, PACKET_WORDS, PacketKey};
use crate::packet::BATCH;

/// Cells of a new subtable.
const CELLS: usize = 16;
/// Every so many batches, a port that is asked exact-first is asked here first, to learn how it would do.
const SAMPLE: u32 = 64;
/// Look-ups between two decisions about what comes first.
const DECIDE: u64 = 2048;
/// What a translation costs, in probes.
const WORTH: u64 = 32;
/// A port asked exact-first finds less than one in this many there: it is not worth asking.
const USELESS: u64 = 4;
/// Decisions for which such a port is left alone.
const REST: u32 = 64;

/// Cells in one allocation that begins on a cache line.
struct Cells {
    words: Box<[u64]>,
    /// Words to the first cell.
    skew: usize,
    /// Cells less one; their number is a power of two.
    mask: usize,
    /// Words of a cell: its head, and the key's.
    stride: usize,
}

impl Cells {
    fn new(cells: usize, stride: usize) -> Cells {
        let words = vec![0u64; cells * stride + 7].into_boxed_slice();
        let skew = (words.as_ptr() as usize).wrapping_neg() / 8 % 8;
        Cells {
            words,
            skew,
            mask: cells - 1,
            stride,
        }
    }

    #[inline(always)]
    fn head(&self, at: usize) -> u64 {
        self.words[self.skew + (at & self.mask) * self.stride]
    }

    #[inline(always)]
    fn cell(&self, at: usize, stride: usize) -> &[u64] {
        &self.words[self.skew + (at & self.mask) * stride..][..stride]
    }

    fn cell_mut(&mut self, at: usize) -> &mut [u64] {
        &mut self.words[self.skew + (at & self.mask) * self.stride..][..self.stride]
    }

    fn put(&mut self, cell: &[u64]) {
        let mut at = (cell[0] >> 32) as usize;
        while self.head(at) != 0 {
            at += 1;
        }
        self.cell_mut(at)[..cell.len()].copy_from_slice(cell);
    }
}

/// The head of a cell; that of an empty one is 0.
#[inline(always)]
fn head(hash: u64, flow: u32) -> u64 {
    hash >> 32 << 32 | u64::from(flow + 1)
}

#[inline(always)]
fn flow_of(head: u64) -> u32 {
    (head as u32).wrapping_sub(1)
}

/// The flows of one mask.
pub struct Subtable {
    mask: PacketKey,
    /// The words in which the mask has bits, and those bits; behind `words` the bits are none.
    select: [(u8, u64); PACKET_WORDS],
    /// How many those are: 1 to 8, or all.
    words: usize,
    /// One more than the last word that is looked at.
    top: usize,
    cells: Cells,
    used: usize,
    hits: u64,
}

impl Subtable {
    fn new(mask: PacketKey) -> Subtable {
        let mut select = [(0, 0); PACKET_WORDS];
        let mut n = 0;
        let mut top = 0;
        for (i, &bits) in mask.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            select[n] = (i as u8, bits);
            n += 1;
            top = i + 1;
        }
        let words = match n {
            0 => 1,
            1..=8 => n,
            _ => PACKET_WORDS,
        };
        let stride = match words {
            1 => 2,
            2..=3 => 4,
            4..=7 => 8,
            _ => 16,
        };
        Subtable {
            mask,
            select,
            words,
            top,
            cells: Cells::new(CELLS, stride),
            used: 0,
            hits: 0,
        }
    }

    #[inline(always)]
    fn masked<const N: usize>(&self, words: &PacketKey) -> [u64; N] {
        // A word's number is below PACKET_WORDS; the remainder only tells the compiler.
        std::array::from_fn(|k| {
            let (i, bits) = self.select[k];
            words[usize::from(i) % PACKET_WORDS] & bits
        })
    }

    /// Finds the flows of the keys in `wanted`; those found leave it.
    #[inline(always)]
    fn find_n<const N: usize, const STRIDE: usize>(
        &self,
        k: &mut Keys,
        wanted: &mut Wanted,
        hasher: &Hasher,
        flows: &[Flow],
    ) {
        let mut hashes = [0u64; BATCH];
        let mut last = ([0u64; N], 0u64);
        // A zero hash is never that of the first: it is made odd below.
        for (&i, hash) in wanted.list().iter().zip(&mut hashes) {
            let key = &mut k.keys[usize::from(i) % BATCH];
            key.need(self.top);
            let m = self.masked::<N>(&key.words);
            if !same(&m, &last.0) || last.1 == 0 {
                let h = hasher.hash(&m) | 1;
                last = (m, h);
                let at = self.cells.skew + ((h >> 32) as usize & self.cells.mask) * STRIDE;
                super::prefetch(&self.cells.words[at]);
                *hash = h;
            }
            // Else 0: as the one before.
        }
        let mut left = 0;
        let mut answer = NONE;
        for x in 0..wanted.len {
            let i = wanted.which[x % BATCH];
            let hash = hashes[x % BATCH];
            if hash != 0 {
                let m = self.masked::<N>(&k.keys[usize::from(i) % BATCH].words);
                answer = NONE;
                let mut at = (hash >> 32) as usize;
                loop {
                    let cell = self.cells.cell(at, STRIDE);
                    if cell[0] == 0 {
                        break;
                    }
                    if cell[0] >> 32 == hash >> 32
                        && same(
                            cell[1..].first_chunk().expect("the stride is more than N"),
                            &m,
                        )
                    {
                        answer = flow_of(cell[0]);
                        break;
                    }
                    at += 1;
                }
                if let Some(f) = flows.get(answer as usize) {
                    super::prefetch(f);
                }
            }
            if answer == NONE {
                wanted.which[left % BATCH] = i;
                left += 1;
            }
            k.found[usize::from(i) % BATCH] = answer;
        }
        wanted.len = left;
    }

    #[inline(always)]
    fn find(&self, k: &mut Keys, wanted: &mut Wanted, hasher: &Hasher, flows: &[Flow]) {
        match self.words {
            1 => self.find_n::<1, 2>(k, wanted, hasher, flows),
            2 => self.find_n::<2, 4>(k, wanted, hasher, flows),
            3 => self.find_n::<3, 4>(k, wanted, hasher, flows),
            4 => self.find_n::<4, 8>(k, wanted, hasher, flows),
            5 => self.find_n::<5, 8>(k, wanted, hasher, flows),
            6 => self.find_n::<6, 8>(k, wanted, hasher, flows),
            7 => self.find_n::<7, 8>(k, wanted, hasher, flows),
            8 => self.find_n::<8, 16>(k, wanted, hasher, flows),
            _ => self.find_n::<PACKET_WORDS, 16>(k, wanted, hasher, flows),
        }
    }

    /// A cell for this key and flow.
    fn cell(&self, key: &PacketKey, flow: u32, hasher: &Hasher) -> ([u64; 16], usize) {
        let m = self.masked::<PACKET_WORDS>(key);
        let hash = hasher.hash(&m[..self.words]) | 1;
        let mut cell = [0; 16];
        cell[0] = head(hash, flow);
        cell[1..].copy_from_slice(&m);
        (cell, self.words + 1)
    }

    fn insert(&mut self, key: &PacketKey, flow: u32, hasher: &Hasher) {
        if self.used * 2 > self.cells.mask {
            let n = (self.cells.mask + 1) * 2;
            let larger = Cells::new(n, self.cells.stride);
            let old = std::mem::replace(&mut self.cells, larger);
            for at in 0..=old.mask {
                if old.head(at) != 0 {
                    self.cells.put(old.cell(at, old.stride));
                }
            }
        }
        let (cell, n) = self.cell(key, flow, hasher);
        self.cells.put(&cell[..n]);
        self.used += 1;
    }

    /// The flow of a key.
    fn get(&self, key: &PacketKey, hasher: &Hasher) -> Option<u32> {
        let (cell, n) = self.cell(key, 0, hasher);
        let mut at = (cell[0] >> 32) as usize;
        loop {
            let head = self.cells.head(at);
            if head == 0 {
                return None;
            }
            if head >> 32 == cell[0] >> 32
                && self.cells.cell(at, self.cells.stride)[1..n] == cell[1..n]
            {
                return Some(flow_of(head));
            }
            at += 1;
        }
    }

    fn remove(&mut self, key: &PacketKey, flow: u32, hasher: &Hasher) -> bool {
        let (cell, _) = self.cell(key, flow, hasher);
        let mut at = (cell[0] >> 32) as usize;
        while self.cells.head(at) != cell[0] {
            if self.cells.head(at) == 0 {
                return false;
            }
            at += 1;
        }
        // Close the gap: move back whatever would no longer be found behind it.
        self.used -= 1;
        let mask = self.cells.mask;
        let mut gap = at;
        loop {
            at += 1;
            let head = self.cells.head(at);
            if head == 0 {
                break;
            }
            let home = (head >> 32) as usize;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                let mut cell = [0; 16];
                let stride = self.cells.stride;
                cell[..stride].copy_from_slice(self.cells.cell(at, stride));
                self.cells.cell_mut(gap).copy_from_slice(&cell[..stride]);
                gap = at;
            }
        }
        self.cells.cell_mut(gap).fill(0);
        true
    }

    /// Some flow of it, beginning to look at a place.
    fn any(&self, from: usize) -> Option<u32> {
        (0..=self.cells.mask)
            .map(|k| self.cells.head(from.wrapping_add(k)))
            .find(|h| *h != 0)
            .map(flow_of)
    }
}

/// Places in a batch.
#[derive(Clone, Copy)]
pub struct Wanted {
    which: [u8; BATCH],
    len: usize,
}

impl Wanted {
    /// The first `n`.
    #[inline(always)]
    pub fn all(n: usize) -> Wanted {
        const ALL: [u8; BATCH] = {
            let mut a = [0; BATCH];
            let mut i = 0;
            while i < BATCH {
                a[i] = i as u8;
                i += 1;
            }
            a
        };
        Wanted {
            which: ALL,
            len: n.min(BATCH),
        }
    }

    /// One.
    pub fn one(i: usize) -> Wanted {
        let mut which = [0; BATCH];
        which[0] = i as u8;
        Wanted { which, len: 1 }
    }

    /// Those of the first `n` for which nothing was found.
    pub fn missing(k: &Keys, n: usize) -> Wanted {
        let mut w = Wanted {
            which: [0; BATCH],
            len: 0,
        };
        for (i, found) in k.found.iter().enumerate().take(n) {
            if *found == NONE {
                w.which[w.len % BATCH] = i as u8;
                w.len += 1;
            }
        }
        w
    }

    /// They.
    #[inline(always)]
    pub fn list(&self) -> &[u8] {
        &self.which[..self.len.min(BATCH)]
    }
}

/// Where a port's packets are looked up first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// In its wildcard cache.
    #[default]
    Wildcard,
    /// In the exact-match cache.
    Exact,
}

/// The wildcard cache of one port in one thread.
#[derive(Default)]
pub struct PortCache {
    /// By falling hits.
    subtables: Vec<Subtable>,
    /// Subtables that are not asked: the last ones.
    unasked: usize,
    flows: usize,
    first: First,
    batches: u32,
    /// Look-ups since the last decision, and what they cost in probes.
    lookups: u64,
    cost: u64,
    /// Look-ups in the time that hits are counted for: older ones count half with each decision.
    seen: u64,
    /// Exact look-ups and hits since the last decision.
    exact: (u64, u64),
    /// Decisions for which exact-first is not tried again.
    rest: u32,
}

impl PortCache {
    /// Where to look first for the next batch.
    #[inline(always)]
    pub fn first(&mut self) -> First {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(SAMPLE) {
            return First::Wildcard;
        }
        self.first
    }

    /// Finds flows for the keys in `wanted`, which are all of a batch if `whole`; what stays in it has none. Says how many
    /// subtables were looked into.
    #[inline(always)]
    pub fn find(
        &mut self,
        k: &mut Keys,
        wanted: &mut Wanted,
        whole: bool,
        hasher: &Hasher,
        flows: &[Flow],
    ) -> u64 {
        let asked = wanted.len as u64;
        let mut probes = 0;
        let ask = self.subtables.len() - self.unasked;
        for s in &mut self.subtables[..ask] {
            if wanted.len == 0 {
                break;
            }
            let before = wanted.len;
            probes += before as u64;
            s.find(k, wanted, hasher, flows);
            if whole {
                s.hits += (before - wanted.len) as u64;
            }
        }
        if whole {
            self.lookups += asked;
            self.cost += probes;
            if self.lookups >= DECIDE {
                self.decide();
            }
        }
        probes
    }

    /// The exact-match cache was asked so often, and knew so often.
    #[inline(always)]
    pub fn exact_tried(&mut self, asked: usize, hits: usize) {
        self.exact.0 += asked as u64;
        self.exact.1 += hits as u64;
    }

    #[cold]
    fn decide(&mut self) {
        self.seen += self.lookups;
        self.subtables.sort_by_key(|s| std::cmp::Reverse(s.hits));
        let mut left = self.seen;
        let asked = self.subtables.iter().take_while(|s| {
            let worth = s.hits * WORTH >= left;
            left = left.saturating_sub(s.hits);
            worth
        });
        self.unasked = self.subtables.len() - asked.count().clamp(1, self.subtables.len().max(1));
        self.subtables.iter_mut().for_each(|s| s.hits /= 2);
        self.seen /= 2;
        let (asked, hits) = std::mem::take(&mut self.exact);
        if asked > DECIDE && hits * USELESS < asked {
            self.rest = REST;
        }
        // One probe is what the exact-match cache costs too.
        let many = self.cost * 2 > self.lookups * 3;
        self.first = if many && self.rest == 0 {
            First::Exact
        } else {
            First::Wildcard
        };
        self.rest = self.rest.saturating_sub(1);
        (self.lookups, self.cost) = (0, 0);
    }

    /// The flow that a key has under a mask. `whole` as in [`PortCache::find`].
    pub fn known(
        &mut self,
        key: &PacketKey,
        mask: &PacketKey,
        whole: bool,
        hasher: &Hasher,
    ) -> Option<u32> {
        let s = self.subtables.iter_mut().find(|s| s.mask == *mask)?;
        let flow = s.get(key, hasher)?;
        if whole {
            s.hits += 1;
            self.cost += WORTH;
        }
        Some(flow)
    }

    /// Whether a mask is there already, or there is room for one more.
    pub fn has_room_for(&self, mask: &PacketKey) -> bool {
        self.subtables.len() < PORT_MASKS_MAX || self.subtables.iter().any(|s| s.mask == *mask)
    }

    /// Some flow of the mask with the fewest, if those are few enough to be thrown out.
    pub fn rarest(&self) -> Option<u32> {
        let s = self.subtables.iter().rev().min_by_key(|s| s.used)?;
        (s.used <= 2).then(|| s.any(0)).flatten()
    }

    /// Some flow, of a mask that has many.
    pub fn any(&self, random: usize) -> Option<u32> {
        self.subtables.iter().max_by_key(|s| s.used)?.any(random)
    }

    /// Puts a flow in.
    pub fn insert(&mut self, flow: u32, hasher: &Hasher, flows: &[Flow]) {
        let body = &flows[flow as usize].body;
        let at = match self.subtables.iter().position(|s| s.mask == body.mask) {
            Some(at) => at,
            None => {
                self.subtables.push(Subtable::new(body.mask));
                // Whether it is worth asking is not known before it was missed.
                self.unasked += usize::from(self.unasked > 0);
                self.subtables.len() - 1
            }
        };
        self.subtables[at].insert(&body.key, flow, hasher);
        self.flows += 1;
    }

    /// Takes a flow out.
    pub fn remove(&mut self, flow: u32, hasher: &Hasher, flows: &[Flow]) {
        let body = &flows[flow as usize].body;
        if let Some(at) = self.subtables.iter().position(|s| s.mask == body.mask)
            && self.subtables[at].remove(&body.key, flow, hasher)
        {
            self.flows -= 1;
            if self.subtables[at].used == 0 {
                if at >= self.subtables.len() - self.unasked {
                    self.unasked -= 1;
                }
                self.subtables.remove(at);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Key;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn flow(key: PacketKey, mask: PacketKey) -> Flow {
        let mut f = Flow::vacant();
        f.live = true;
        f.body.key = key;
        f.body.mask = mask;
        f
    }

    fn key(words: PacketKey, len: u32) -> Key {
        Key { words, len }
    }

    /// A key of `len` words out of few values, with garbage behind.
    fn keys() -> impl Strategy<Value = Key> {
        (proptest::array::uniform15(0u64..3), 3u32..16).prop_map(|(w, len)| {
            let len = len.min(PACKET_WORDS as u32);
            let mut words = [0xdead; PACKET_WORDS];
            words[..len as usize].copy_from_slice(&w[..len as usize]);
            key(words, len)
        })
    }

    fn whole(k: &Key) -> PacketKey {
        let mut w = k.words;
        w[k.len as usize..].fill(0);
        w
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_for_every_number_of_words(
            masks in proptest::collection::vec(proptest::array::uniform15(prop_oneof![Just(0u64), Just(0), Just(u64::MAX), Just(1)]), 1..5),
            made in proptest::collection::vec((keys(), 0usize..5), 1..80),
            removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
            asked in proptest::collection::vec(keys(), 1..=BATCH),
        ) {
            // One mask at a time, so that answers are unique.
            for mask in masks {
                let hasher = Hasher::new();
                let mut cache = PortCache::default();
                let mut flows: Vec<Flow> = Vec::new();
                let mut model: HashMap<PacketKey, u32> = HashMap::new();
                let under = |w: &PacketKey| -> PacketKey { std::array::from_fn(|i| w[i] & mask[i]) };
                for (k, _) in &made {
                    let m = under(&whole(k));
                    if model.contains_key(&m) {
                        continue;
                    }
                    flows.push(flow(whole(k), mask));
                    let at = flows.len() as u32 - 1;
                    cache.insert(at, &hasher, &flows);
                    model.insert(m, at);
                }
                for r in &removed {
                    let f = r.index(flows.len()) as u32;
                    let m = under(&flows[f as usize].body.key);
                    if model.get(&m) == Some(&f) {
                        model.remove(&m);
                        cache.remove(f, &hasher, &flows);
                    }
                }
                prop_assert_eq!(cache.len(), model.len());
                for a in &asked {
                    let a = whole(a);
                    let known = cache.known(&a, &mask, false, &hasher);
                    prop_assert_eq!(known, model.get(&under(&a)).copied());
                }
                let mut k = Keys::default();
                for (to, from) in k.keys.iter_mut().zip(&asked) {
                    *to = *from;
                }
                let mut wanted = Wanted::all(asked.len());
                cache.find(&mut k, &mut wanted, true, &hasher, &flows);
                for (i, a) in asked.iter().enumerate() {
                    let want = model.get(&under(&whole(a))).copied();
                    prop_assert_eq!(k.found[i], want.unwrap_or(NONE));
                    prop_assert_eq!(wanted.list().contains(&(i as u8)), want.is_none());
                }
            }
        }
    }

    #[test]
    fn subtables_that_seldom_know_are_not_asked_until_they_do() {
        let hasher = Hasher::new();
        let mut cache = PortCache::default();
        let mut flows = Vec::new();
        let masks: Vec<PacketKey> = (0..4)
            .map(|m| std::array::from_fn(|i| if i == 1 || i == m + 2 { u64::MAX } else { 0 }))
            .collect();
        for (m, mask) in masks.iter().enumerate() {
            let mut words = [0; PACKET_WORDS];
            words[1] = m as u64 + 1;
            flows.push(flow(words, *mask));
            cache.insert(m as u32, &hasher, &flows);
        }
        let mut k = Keys::default();
        // One packet in 128 is of flow 2, one in four of flow 1, the others of none.
        let mut n = 0u64;
        let mut ask = |cache: &mut PortCache, batches: usize, often: u64| -> u64 {
            let mut probes = 0;
            for _ in 0..batches {
                for key in &mut k.keys {
                    n += 1;
                    key.len = 10;
                    key.words = [0; PACKET_WORDS];
                    key.words[1] = match n {
                        n if n % often == 1 => 3,
                        n if n % 4 == 0 => 2,
                        _ => 100 + n,
                    };
                }
                let mut wanted = Wanted::all(BATCH);
                probes += cache.find(&mut k, &mut wanted, true, &hasher, &flows);
                for &i in wanted.list() {
                    let key = k.keys[usize::from(i)].words;
                    cache.known(&key, &masks[2], true, &hasher);
                }
            }
            probes / (batches * BATCH) as u64
        };
        ask(&mut cache, 1000, 129);
        assert_eq!(cache.unasked, 3);
        assert_eq!(ask(&mut cache, 100, 129), 1);
        ask(&mut cache, 1000, 5);
        assert_eq!(cache.unasked, 2);
    }

    #[test]
    fn ports_with_many_masks_are_asked_exact_first() {
        let hasher = Hasher::new();
        let mut flows = Vec::new();
        let mut cache = PortCache::default();
        for m in 0..10 {
            let mut words = [0; PACKET_WORDS];
            words[1] = m + 1;
            let mut mask = [0; PACKET_WORDS];
            mask[1] = u64::MAX;
            mask[2] = 1 << m;
            flows.push(flow(words, mask));
            cache.insert(m as u32, &hasher, &flows);
        }
        let mut k = Keys::default();
        let mut ask = |cache: &mut PortCache, which: u64| {
            for _ in 0..DECIDE as usize / BATCH {
                k.keys.iter_mut().for_each(|key| {
                    key.words[1] = which;
                    key.len = 3;
                });
                let mut wanted = Wanted::all(BATCH);
                cache.find(&mut k, &mut wanted, true, &hasher, &flows);
                assert_eq!(wanted.list().len(), 0);
            }
        };
        // The last of ten, until the order follows the hits.
        ask(&mut cache, 10);
        assert_eq!(cache.first, First::Exact);
        ask(&mut cache, 10);
        assert_eq!(cache.first, First::Wildcard);
        // An exact-match cache that never knows is not asked.
        ask(&mut cache, 5);
        assert_eq!(cache.first, First::Exact);
        cache.exact_tried(100_000, 10);
        ask(&mut cache, 7);
        assert_eq!(cache.first, First::Wildcard);
    }
}
