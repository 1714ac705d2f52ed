//! Which bits a node of the tree branches on.
//!
//! Candidates are the bytes of the key first, then half bytes, pairs and single bits, because a wide branch
//! makes a low tree. Of two different matches there is always a bit that one looks at and the other does
//! not, or in which both look and differ: a single bit that parts any set of them exists.

use super::pattern::Pattern;
use super::row::Row;
use crate::flow::{FlowKey, WORDS};

/// Rules looked at to choose: enough for an estimate.
const SAMPLE: usize = 128;

/// So few rules are compared in pairs.
const PAIRS_MAX: usize = 16;

/// A word that is looked at: its number, which bits of it, and value and mask of each pattern.
type Word = (u8, u64, Vec<(u64, u64)>);

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
pub(super) fn choose(items: &[Row]) -> Option<Chunk> {
    if items.len() < 2 {
        return None;
    }
    let sample: Vec<&Pattern> = items
        .iter()
        .step_by(step(items.len()))
        .map(Row::pattern)
        .collect();
    if let Some(c) = best_of(&sample) {
        return Some(c);
    }
    // The sample looks alike: all of them then, and some single bit tells.
    let all: Vec<&Pattern> = items.iter().map(Row::pattern).collect();
    best_of(&all)
}

/// Of so many rules, each how manieth is looked at.
pub(super) fn step(rules: usize) -> usize {
    rules.div_ceil(SAMPLE).max(1)
}

/// The chunk that parts these best, if one parts them.
pub(super) fn best_of(patterns: &[&Pattern]) -> Option<Chunk> {
    let mut unions = [0u64; WORDS];
    for (w, m) in patterns.iter().flat_map(|p| p.mask().words()) {
        unions[usize::from(*w)] |= m;
    }
    // Value and mask of each pattern in every word that is looked at.
    let words: Vec<Word> = (0..WORDS as u8)
        .zip(unions)
        .filter(|(_, union)| *union != 0)
        .map(|(w, union)| (w, union, patterns.iter().map(|p| p.word(w)).collect()))
        .collect();
    let n = patterns.len() as u64;
    let mut best: Option<(u64, Chunk)> = None;
    for bits in [8u8, 4, 2, 1] {
        for (word, union, wanted) in &words {
            for i in 0..64 / bits {
                // From the top of the word down: of equals, the one with the shorter prefix.
                let chunk = Chunk {
                    word: *word,
                    shift: 64 - bits * (i + 1),
                    bits,
                };
                if union >> chunk.shift & chunk.ones() != chunk.ones() {
                    continue;
                }
                let cost = cost(wanted, chunk);
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
fn cost(wanted: &[(u64, u64)], chunk: Chunk) -> u64 {
    let n = wanted.len() as u64;
    let ones = chunk.ones();
    let values = wanted
        .iter()
        .filter(|(_, mask)| mask >> chunk.shift & ones == ones)
        .map(|(value, _)| (value >> chunk.shift & ones) as u8);
    let (mut with, mut squares) = (0, 0);
    if wanted.len() <= PAIRS_MAX {
        let mut seen = [0u8; PAIRS_MAX];
        for v in values {
            // A square is the sum of the odd numbers up to it.
            let same = seen[..with].iter().filter(|s| **s == v).count() as u64;
            squares += 2 * same + 1;
            seen[with] = v;
            with += 1;
        }
    } else {
        let mut counts = [0u32; 256];
        for v in values {
            let c = &mut counts[usize::from(v)];
            squares += 2 * u64::from(*c) + 1;
            *c += 1;
            with += 1;
        }
    }
    (n - with as u64) * n + squares
}
