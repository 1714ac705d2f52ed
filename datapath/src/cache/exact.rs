//! The exact-match cache: whole packet keys to flows.
//!
//! 8192 entries of two cache lines, in sets of two. The first line holds the tag and seven words, so
//! that IPv4 with TCP or UDP ports is decided in one line. A new key takes a free place; over a live one it
//! is put only now and then (one time in [`INSERT_ONE_IN`]), so that a scan of many flows does not wash
//! out the few that carry the traffic. The hash is keyed (see `flow::Hasher`).
//!
//! Entries name flows by slab index and generation: when a flow goes, its entries are simply found
//! dead. When a generation wraps, [`ExactCache::forget`] clears what could be mistaken.

use super::Flow;
use crate::flow::{PACKET_WORDS, PacketKey};

/// Entries.
pub const ENTRIES: usize = 8192;
const WAYS: usize = 2;
const SETS: usize = ENTRIES / WAYS;
/// How seldom a live entry is replaced.
pub const INSERT_ONE_IN: u32 = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Entry {
    /// High half of the hash.
    tag: u32,
    /// Flow index (20 bits), length (4 bits), generation (8 bits).
    flow: u32,
    words: PacketKey,
}

const EMPTY: u32 = u32::MAX;

/// The cache of one thread.
pub struct ExactCache {
    entries: Box<[Entry]>,
    random: u32,
}

impl Default for ExactCache {
    fn default() -> ExactCache {
        let empty = Entry {
            tag: 0,
            flow: EMPTY,
            words: [0; PACKET_WORDS],
        };
        ExactCache {
            entries: vec![empty; ENTRIES].into(),
            random: 0x2545_f491,
        }
    }
}

#[inline(always)]
fn name(flow: u32, len: usize, generation: u8) -> u32 {
    flow << 12 | (len as u32) << 8 | u32::from(generation)
}

#[inline(always)]
fn same(a: &PacketKey, b: &PacketKey, len: usize) -> bool {
    // Unrolled for the lengths that matter: differences are gathered, not branched on.
    match len {
        5 => eq::<5>(a, b),
        6 => eq::<6>(a, b),
        3 => eq::<3>(a, b),
        10 => eq::<10>(a, b),
        _ => a[..len] == b[..len],
    }
}

#[inline(always)]
fn eq<const N: usize>(a: &PacketKey, b: &PacketKey) -> bool {
    let mut d = 0;
    for i in 0..N {
        d |= a[i] ^ b[i];
    }
    d == 0
}

impl ExactCache {
    #[inline(always)]
    fn set(hash: u64) -> usize {
        (hash as usize & (SETS - 1)) * WAYS
    }

    /// Loads the set of a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        super::prefetch(&self.entries[Self::set(hash)]);
        super::prefetch(&self.entries[Self::set(hash) + 1]);
    }

    /// The flow of a key.
    #[inline(always)]
    pub fn lookup(&self, hash: u64, words: &PacketKey, len: usize, flows: &[Flow]) -> Option<u32> {
        let at = Self::set(hash);
        let tag = (hash >> 32) as u32;
        for e in &self.entries[at..at + WAYS] {
            if e.tag == tag && (e.flow >> 8 & 15) as usize == len && same(&e.words, words, len) {
                let flow = e.flow >> 12;
                if let Some(f) = flows.get(flow as usize)
                    && f.live
                    && f.generation == e.flow as u8
                {
                    return Some(flow);
                }
            }
        }
        None
    }

    /// Remembers a key's flow, perhaps.
    pub fn insert(&mut self, hash: u64, words: &PacketKey, len: usize, flow: u32, flows: &[Flow]) {
        let at = Self::set(hash);
        let tag = (hash >> 32) as u32;
        let dead = |e: &Entry| {
            e.flow == EMPTY
                || flows
                    .get((e.flow >> 12) as usize)
                    .is_none_or(|f| !f.live || f.generation != e.flow as u8)
        };
        // The key itself first (its flow may have changed), then a dead entry.
        let own = |e: &Entry| {
            e.flow != EMPTY
                && e.tag == tag
                && (e.flow >> 8 & 15) as usize == len
                && e.words[..len] == words[..len]
        };
        let set = &self.entries[at..at + WAYS];
        let way = match set
            .iter()
            .position(own)
            .or_else(|| set.iter().position(dead))
        {
            Some(way) => way,
            None => {
                // xorshift: good enough to pick victims.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 17;
                self.random ^= self.random << 5;
                if !self.random.is_multiple_of(INSERT_ONE_IN) {
                    return;
                }
                (self.random >> 16) as usize % WAYS
            }
        };
        let e = &mut self.entries[at + way];
        e.tag = tag;
        e.flow = name(flow, len, flows[flow as usize].generation);
        e.words[..len].copy_from_slice(&words[..len]);
    }

    /// A slab place's generation wrapped: forgets all entries that name the place.
    pub fn forget(&mut self, flow: u32) {
        for e in &mut *self.entries {
            if e.flow >> 12 == flow {
                e.flow = EMPTY;
            }
        }
    }
}
