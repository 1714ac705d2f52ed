//! The exact-match cache: whole packet keys to flows.
//!
//! [`ENTRIES`] entries in sets of two. An entry is one cache line with a tag and seven words, so
//! that IPv4 with TCP or UDP ports is decided by it alone; further words lie in a line of their own elsewhere. A
//! new key takes a free place; over a live one it is put only now and then (one time in [`INSERT_ONE_IN`]), so that a
//! scan of many flows does not wash out the few that carry the traffic. The hash is keyed (see
//! `flow::Hasher`).
//!
//! Entries name flows by slab index and generation: when a flow goes, its entries are simply found
//! dead. When a generation wraps, [`ExactCache::forget`] clears what could be mistaken.
//!
//! A batch is looked up in stages, so that no packet waits for memory alone: entries are asked for
//! ([`ExactCache::prefetch`]), then compared and their flows asked for, then the flows looked at.

use super::{Dice, Flow, Key, Keys, NONE};
use crate::packet::BATCH;

/// Entries: a megabyte of first lines, which a processor's second-level cache holds.
pub const ENTRIES: usize = 16_384;
const WAYS: usize = 2;
const SETS: usize = ENTRIES / WAYS;
/// How seldom a live entry is replaced.
pub const INSERT_ONE_IN: u32 = 64;
/// Words in an entry's first line.
const FIRST: usize = 7;
/// Words that [`Key`] has beyond those.
const REST: usize = 8;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Entry {
    /// High half of the hash.
    tag: u32,
    /// Flow index (20 bits), length (4 bits), generation (8 bits).
    name: u32,
    words: [u64; FIRST],
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Rest([u64; REST]);

const EMPTY: u32 = u32::MAX;

/// The cache of one thread.
pub struct ExactCache {
    entries: Box<[Entry; ENTRIES]>,
    rest: Box<[Rest]>,
    dice: Dice,
}

impl Default for ExactCache {
    fn default() -> ExactCache {
        let empty = Entry {
            tag: 0,
            name: EMPTY,
            words: [0; FIRST],
        };
        ExactCache {
            entries: vec![empty; ENTRIES]
                .try_into()
                .unwrap_or_else(|_| unreachable!("so many were made")),
            rest: vec![Rest([0; REST]); ENTRIES].into(),
            dice: Dice::default(),
        }
    }
}

/// Whether the first `N` words are the same.
#[inline(always)]
fn first<const N: usize>(a: &[u64], b: &[u64]) -> bool {
    match (a.first_chunk::<N>(), b.first_chunk::<N>()) {
        (Some(a), Some(b)) => super::same(a, b),
        _ => false,
    }
}

impl ExactCache {
    #[inline(always)]
    fn set(hash: u64) -> usize {
        (hash as usize & (SETS - 1)) * WAYS
    }

    /// Asks for the set of a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        let at = Self::set(hash);
        super::prefetch(&self.entries[at]);
        super::prefetch(&self.entries[at + 1]);
    }

    #[inline(always)]
    fn holds(&self, at: usize, key: &Key) -> bool {
        let e = &self.entries[at];
        let len = key.len as usize;
        match len {
            5 => first::<5>(&e.words, &key.words),
            6 => first::<6>(&e.words, &key.words),
            0..=FIRST => e.words[..len] == key.words[..len],
            _ => {
                first::<FIRST>(&e.words, &key.words)
                    && self.rest[at].0[..len - FIRST] == key.words[FIRST..len]
            }
        }
    }

    /// Finds the flows of the first `n` keys: [`Keys::found`] is the flow or [`NONE`]. Says how many were found.
    #[inline(always)]
    pub fn find(&self, k: &mut Keys, n: usize, flows: &[Flow]) -> usize {
        let mut names = [EMPTY; BATCH];
        for (i, name) in names.iter_mut().enumerate().take(n) {
            let hash = k.hashes[i];
            let at = Self::set(hash);
            let tag = (hash >> 32) as u32;
            for at in at..at + WAYS {
                let e = &self.entries[at];
                if e.tag == tag && e.name >> 8 & 15 == k.keys[i].len && self.holds(at, &k.keys[i]) {
                    *name = e.name;
                    break;
                }
            }
            if let Some(f) = flows.get((*name >> 12) as usize) {
                super::prefetch(f);
            }
        }
        let mut hits = 0;
        for (i, name) in names.into_iter().enumerate().take(n) {
            k.found[i] = match flows.get((name >> 12) as usize) {
                Some(f) if f.live && f.generation == name as u8 => {
                    hits += 1;
                    name >> 12
                }
                _ => NONE,
            };
        }
        hits
    }

    /// Remembers a key's flow, perhaps.
    pub fn insert(&mut self, hash: u64, key: &Key, flow: u32, flows: &[Flow]) {
        let at = Self::set(hash);
        let tag = (hash >> 32) as u32;
        let own = |at: &usize| {
            let e = &self.entries[*at];
            e.name != EMPTY && e.tag == tag && e.name >> 8 & 15 == key.len && self.holds(*at, key)
        };
        let dead = |at: &usize| {
            let name = self.entries[*at].name;
            name == EMPTY
                || flows
                    .get((name >> 12) as usize)
                    .is_none_or(|f| !f.live || f.generation != name as u8)
        };
        // The key itself first (its flow may have changed), then a dead entry.
        let place = (at..at + WAYS)
            .find(own)
            .or_else(|| (at..at + WAYS).find(dead));
        let at = match place {
            Some(at) => at,
            None if self.dice.one_in(INSERT_ONE_IN) => {
                at + (self.dice.roll() >> 16) as usize % WAYS
            }
            None => return,
        };
        let e = &mut self.entries[at];
        let len = key.len as usize;
        e.tag = tag;
        e.name = flow << 12 | key.len << 8 | u32::from(flows[flow as usize].generation);
        e.words.copy_from_slice(&key.words[..FIRST]);
        if len > FIRST {
            self.rest[at].0[..len - FIRST].copy_from_slice(&key.words[FIRST..len]);
        }
    }

    /// A slab place's generation wrapped: forgets all entries that name the place.
    pub fn forget(&mut self, flow: u32) {
        for e in &mut *self.entries {
            if e.name >> 12 == flow {
                e.name = EMPTY;
            }
        }
    }
}
