//! Which bits a node of the tree branches on.
//!
//! Candidates are the bytes of the key first, then half bytes, pairs and single bits, because a wide branch
//! makes a low tree. Of two different matches there is always a bit that one looks at and the other does
//! not, or in which both look and differ: a single bit that parts any set of them exists.

use super::leaf::Item;
use super::pattern::Pattern;
use crate::flow::FlowKey;

/// Rules looked at to choose: enough for an estimate.
const SAMPLE: usize = 128;

/// A few bits of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) word: u8,
    pub(super) shift: u8,
    /// 1, 2, 4 or 8.
    pub(super) bits: u8,
}

impl Chunk {
    #[inline]
    pub(super) fn ones(self) -> u64 {
        (1 << self.bits) - 1
    }

    #[inline]
    pub(super) fn of(self, key: &FlowKey) -> u8 {
        (key.0[usize::from(self.word)] >> self.shift & self.ones()) as u8
    }

    /// What a match wants these bits to be, if it looks at all of them.
    #[inline]
    pub(super) fn wanted(self, pattern: &Pattern) -> Option<u8> {
        let (value, mask) = pattern.word(self.word);
        let ones = self.ones();
        (mask >> self.shift & ones == ones).then_some((value >> self.shift & ones) as u8)
    }
}

/// The chunk that parts `items` best: the one that leaves the fewest rules on the way of a
/// packet. None if there are not two of them.
pub(super) fn choose(items: &[Item]) -> Option<Chunk> {
    if items.len() < 2 {
        return None;
    }
    let sample: Vec<&Pattern> = items
        .iter()
        .step_by(step(items.len()))
        .map(|i| &i.pattern)
        .collect();
    if let Some(c) = best_of(&sample) {
        return Some(c);
    }
    // The sample looks alike: all of them then, and some single bit tells.
    let all: Vec<&Pattern> = items.iter().map(|i| &i.pattern).collect();
    best_of(&all)
}

/// Of so many rules, each how manieth is looked at.
pub(super) fn step(rules: usize) -> usize {
    rules.div_ceil(SAMPLE).max(1)
}

/// The chunk that parts these best, if one parts them.
pub(super) fn best_of(patterns: &[&Pattern]) -> Option<Chunk> {
    let mut words: Vec<(u8, u64)> = Vec::new();
    for p in patterns.iter().flat_map(|p| &p.0) {
        match words.iter_mut().find(|(w, _)| *w == p.word) {
            Some((_, mask)) => *mask |= p.mask,
            None => words.push((p.word, p.mask)),
        }
    }
    words.sort_unstable();
    let n = patterns.len() as u64;
    let mut best: Option<(u64, Chunk)> = None;
    for bits in [8u8, 4, 2, 1] {
        for &(word, union) in &words {
            for i in 0..64 / bits {
                // From the top of the word down: of equals, the one with the shorter prefix.
                let chunk = Chunk {
                    word,
                    shift: 64 - bits * (i + 1),
                    bits,
                };
                if union >> chunk.shift & chunk.ones() != chunk.ones() {
                    continue;
                }
                let cost = cost(patterns, chunk);
                if cost < n * n && best.is_none_or(|(b, _)| cost < b) {
                    best = Some((cost, chunk));
                }
            }
        }
        // Narrower ones are worth it only where wide ones part little.
        if best.is_some_and(|(cost, _)| cost < n * n * 3 / 4) {
            break;
        }
    }
    best.map(|(_, c)| c)
}

/// The square of the number of rules left on a packet's way, about: those that go to the same branch, and
/// those that do not look at the chunk, which every packet has to pass.
fn cost(patterns: &[&Pattern], chunk: Chunk) -> u64 {
    let mut counts = [0u16; 256];
    let mut rest = 0u64;
    for p in patterns {
        match chunk.wanted(p) {
            Some(v) => counts[usize::from(v)] = counts[usize::from(v)].saturating_add(1),
            None => rest += 1,
        }
    }
    let n = patterns.len() as u64;
    let squares: u64 = counts[..1 << chunk.bits]
        .iter()
        .map(|&c| u64::from(c) * u64::from(c))
        .sum();
    rest * n + squares
}
