//! A match as words of the key, which is what all structures work with.

use crate::flow::{FlowKey, FlowMask, OPTIONS, WORDS, place, slot_bits};
use openflow::{Match, Slot};
use std::sync::{Arc, LazyLock};

/// The Ethernet type of packets with a network service header.
const ETH_TYPE_NSH: u128 = 0x894f;

/// The slots that each word of a key has bits of.
static SLOTS: LazyLock<[Vec<Slot>; WORDS]> = LazyLock::new(|| {
    let mut slots = [const { Vec::new() }; WORDS];
    for &slot in Slot::ALL {
        let first = usize::from(place(slot).word);
        let last = if slot.bits() == 128 { first + 1 } else { first };
        slots[first..=last].iter_mut().for_each(|s| s.push(slot));
    }
    slots
});

/// The bits of a key that a match looks at: its words that are not zero, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::table) struct Mask {
    /// Which words, a bit each.
    present: u64,
    /// For each place of a tunnel option, the number of the field that is there.
    options: [u8; OPTIONS as usize],
    words: Box<[(u8, u64)]>,
}

impl Mask {
    /// Number and bits of every word looked at.
    #[inline]
    pub(super) fn words(&self) -> &[(u8, u64)] {
        &self.words
    }

    /// The place of a word among those looked at.
    #[inline]
    fn at(&self, word: u8) -> Option<usize> {
        let bit = 1u64 << word;
        (self.present & bit != 0).then(|| (self.present & (bit - 1)).count_ones() as usize)
    }

    /// The bits of a word.
    #[inline]
    pub(super) fn word(&self, word: u8) -> u64 {
        self.at(word).map_or(0, |i| self.words[i].1)
    }

    /// Whether this looks at all that `other` looks at.
    fn covers(&self, other: &Mask) -> bool {
        other.present & !self.present == 0
            && other.words.iter().all(|&(w, m)| self.word(w) & m == m)
    }
}

/// A match. Rules with the same mask share it (`table::shared`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    mask: Arc<Mask>,
    /// What is wanted of each word of the mask.
    values: Values,
}

/// So many words are kept in place: a connection's addresses, ports and types take four.
const FEW: usize = 4;

/// The words of a match.
#[derive(Clone, Debug)]
enum Values {
    /// A few, and how many.
    Few(u8, [u64; FEW]),
    /// More.
    Many(Box<[u64]>),
}

impl Values {
    fn new(words: &[u64]) -> Values {
        let mut few = [0; FEW];
        match few.get_mut(..words.len()) {
            Some(place) => {
                place.copy_from_slice(words);
                Values::Few(words.len() as u8, few)
            }
            None => Values::Many(words.into()),
        }
    }
}

impl Default for Values {
    fn default() -> Values {
        Values::new(&[])
    }
}

impl std::ops::Deref for Values {
    type Target = [u64];
    #[inline]
    fn deref(&self) -> &[u64] {
        match self {
            Values::Few(n, words) => &words[..usize::from(*n)],
            Values::Many(words) => words,
        }
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Values) -> bool {
        **self == **other
    }
}

impl Eq for Values {}

impl Pattern {
    /// Of a match.
    pub fn new(matching: &Match) -> Pattern {
        Pattern::sharing(matching, Arc::new)
    }

    /// Of a match; `share` finds the mask that others have already.
    pub(in crate::table) fn sharing(
        matching: &Match,
        share: impl FnOnce(Mask) -> Arc<Mask>,
    ) -> Pattern {
        let mut key = FlowKey::default();
        let mut mask = FlowMask::default();
        let mut present = 0u64;
        let mut options = [0; OPTIONS as usize];
        for e in matching.entries() {
            if let Slot::TunOption(n) = e.slot {
                options[usize::from(n % OPTIONS)] = n;
            }
            let word = place(e.slot).word;
            key.set(e.slot, e.value);
            mask.set(e.slot, e.mask);
            let both = if e.slot.bits() == 128 { 3 } else { 1 };
            present |= both << word;
        }
        // A half of a 128-bit slot may not be looked at.
        let (mut words, mut values) = ([(0, 0); WORDS], [0; WORDS]);
        let (mut n, mut left) = (0, present);
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            left &= left - 1;
            if mask.0[i] == 0 {
                present &= !(1 << i);
                continue;
            }
            words[n] = (i as u8, mask.0[i]);
            values[n] = key.0[i] & mask.0[i];
            n += 1;
        }
        let mask = Mask {
            present,
            options,
            words: words[..n].into(),
        };
        Pattern {
            mask: share(mask),
            values: Values::new(&values[..n]),
        }
    }

    /// The match it was made from.
    pub fn matching(&self) -> Match {
        let mut key = FlowKey::default();
        let mut mask = FlowMask::default();
        for (&(w, m), &v) in self.mask.words.iter().zip(&*self.values) {
            key.0[usize::from(w)] = v;
            mask.0[usize::from(w)] = m;
        }
        // NSH's fields lie where IPv6's addresses do; the Ethernet type, which both need, tells them apart.
        let nsh = mask.get(Slot::EthType) == 0xffff && key.get(Slot::EthType) == ETH_TYPE_NSH;
        let other = |slot| match slot {
            Slot::Ipv6Src | Slot::Ipv6Dst => nsh,
            _ => !nsh && (Slot::NshFlags..=Slot::NshContext).contains(&slot),
        };
        let mut m = Match::new();
        for &(word, _) in self.mask.words() {
            for &slot in &SLOTS[usize::from(word)] {
                let bits = mask.get(slot);
                if !other(slot) && bits != 0 {
                    m.set_slot(slot, key.get(slot), bits, bits);
                }
            }
        }
        for n in self.mask.options {
            let slot = Slot::TunOption(n);
            m.set_slot(slot, key.get(slot), mask.get(slot), u128::MAX);
        }
        m
    }

    /// Whether every packet matches.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether a key matches.
    pub fn matches(&self, key: &FlowKey) -> bool {
        let mut words = self.mask.words.iter().zip(&*self.values);
        words.all(|(&(w, m), &v)| key.0[usize::from(w)] & m == v)
    }

    #[inline]
    pub(in crate::table) fn mask(&self) -> &Arc<Mask> {
        &self.mask
    }

    #[inline]
    pub(super) fn values(&self) -> &[u64] {
        &self.values
    }

    /// What is wanted of a word: value and mask, zeros if nothing.
    #[inline]
    pub(super) fn word(&self, word: u8) -> (u64, u64) {
        self.mask
            .at(word)
            .map_or((0, 0), |i| (self.values[i], self.mask.words[i].1))
    }

    /// Number, value and mask of every word looked at.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u8, u64, u64)> {
        let words = self.mask.words.iter().zip(&*self.values);
        words.map(|(&(w, m), &v)| (w, v, m))
    }

    /// Whether every packet that matches this matches `other` (OpenFlow 1.3.5 6.4).
    pub fn is_within(&self, other: &Pattern) -> bool {
        self.mask.covers(&other.mask) && other.parts().all(|(w, v, m)| self.word(w).0 & m == v)
    }

    /// Whether some packet matches both.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        self.parts().all(|(w, v, m)| {
            let (value, mask) = other.word(w);
            (value ^ v) & m & mask == 0
        })
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
    let mut n = 0;
    while n < OPTIONS {
        let word = place(Slot::TunOption(n)).word as usize;
        fill(&mut table, word, 0, u64::MAX);
        fill(&mut table, word + 1, 0, u64::MAX);
        n += 1;
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
    fn a_pattern_gives_its_match_back() {
        let nsh = Slot::NshFlags..=Slot::NshContext;
        let (ours, others): (Vec<Slot>, Vec<Slot>) =
            Slot::ALL.iter().partition(|s| nsh.contains(s));
        let mut m = Match::new();
        for (i, slot) in others.into_iter().enumerate() {
            m.set_slot(slot, 0xa5 + i as u128, 0xff, 0xff);
            assert_eq!(Pattern::new(&m).matching(), m, "{slot:?}");
        }
        let mut m = Match::new().with(openflow::FieldId::EthType, ETH_TYPE_NSH);
        for slot in ours {
            m.set_slot(slot, 0xa5, 0xff, 0xff);
            assert_eq!(Pattern::new(&m).matching(), m, "{slot:?}");
        }
        // Tunnel options, which share places.
        let mut m = Match::new();
        for (n, field) in [0, 9, 34, 63].into_iter().enumerate() {
            m.set_slot(Slot::TunOption(field), n as u128 + 1, 0xff, 0xff);
            assert_eq!(Pattern::new(&m).matching(), m, "{field}");
        }
        // The upper half of a slot alone, and the lower.
        for shift in [0, 64] {
            let mut m = Match::new();
            m.set_slot(Slot::Ipv6Dst, 5 << shift, 7 << shift, 7 << shift);
            let p = Pattern::new(&m);
            assert_eq!(p.matching(), m);
            assert_eq!(p.parts().count(), 1);
        }
    }

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
