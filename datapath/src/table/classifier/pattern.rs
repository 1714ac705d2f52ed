//! A match as words of the key, which is what all structures work with.

use crate::flow::{FlowKey, FlowMask, WORDS, place, slot_bits};
use openflow::{Match, Slot};

/// One word that a match looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) word: u8,
    pub(super) value: u64,
    /// Never zero.
    pub(super) mask: u64,
}

/// A match: its words that are looked at, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) Vec<Part>);

/// Words of a mask that are not zero.
pub(super) type MaskWords = Box<[(u8, u64)]>;

impl Pattern {
    pub(super) fn new(matching: &Match) -> Pattern {
        let mut key = FlowKey::default();
        let mut mask = FlowMask::default();
        for e in matching.entries() {
            key.set(e.slot, e.value);
            mask.set(e.slot, e.mask);
        }
        Pattern(
            (0..WORDS)
                .filter(|&i| mask.0[i] != 0)
                .map(|i| Part {
                    word: i as u8,
                    value: key.0[i] & mask.0[i],
                    mask: mask.0[i],
                })
                .collect(),
        )
    }

    /// What is wanted of a word: value and mask, zeros if nothing.
    #[inline]
    pub(super) fn word(&self, word: u8) -> (u64, u64) {
        self.0
            .iter()
            .find(|p| p.word == word)
            .map_or((0, 0), |p| (p.value, p.mask))
    }

    pub(super) fn mask_words(&self) -> MaskWords {
        self.0.iter().map(|p| (p.word, p.mask)).collect()
    }

    pub(super) fn values(&self) -> Box<[u64]> {
        self.0.iter().map(|p| p.value).collect()
    }
}

/// For each byte of each word: the bits of that byte and of those above it in the same field. What
/// tells a prefix from another is looked at in whole bytes from the field's top, so that different
/// packets give few different masks.
pub(super) static UP_TO: [[u64; 8]; WORDS] = up_to();

const fn up_to() -> [[u64; 8]; WORDS] {
    let mut table = [[0; 8]; WORDS];
    let mut i = 0;
    while i < Slot::ALL.len() {
        let slot = Slot::ALL[i];
        let p = place(slot);
        let (word, shift) = (p.word as usize, p.shift as usize);
        if slot.bits() == 128 {
            fill(&mut table, word, 0, u64::MAX);
            fill(&mut table, word + 1, 0, u64::MAX);
        } else {
            fill(&mut table, word, shift, (slot_bits(slot) as u64) << shift);
        }
        i += 1;
    }
    table
}

/// `area` is one field, whose lowest bit is `shift`.
const fn fill(table: &mut [[u64; 8]; WORDS], word: usize, shift: usize, area: u64) {
    let mut byte = shift / 8;
    while byte < 8 && area >> (byte * 8) != 0 {
        table[word][byte] = area & (u64::MAX << (byte * 8));
        byte += 1;
    }
}

/// Which bits of `mask` to look at to see that a word differs, as it does in the bits of `diff`
/// (not zero, all of them in `mask`).
#[inline]
pub(super) fn telling(word: u8, mask: u64, diff: u64) -> u64 {
    let byte = (63 - diff.leading_zeros() as usize) / 8;
    mask & UP_TO[usize::from(word)][byte]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_belongs_to_a_field() {
        for (w, bytes) in UP_TO.iter().enumerate() {
            for (b, area) in bytes.iter().enumerate() {
                assert_eq!(area >> (b * 8) & 0xff, 0xff, "word {w} byte {b}");
            }
        }
        // Destination address: its own bytes only.
        assert_eq!(UP_TO[3][1], 0xffff_ff00);
        assert_eq!(UP_TO[3][6], 0xffff_0000_0000_0000);
        assert_eq!(telling(3, 0xffff_0000, 0x0001_0000), 0xffff_0000);
        assert_eq!(telling(3, 0xfff0_0000, 0x4000_0000), 0xff00_0000);
    }
}
