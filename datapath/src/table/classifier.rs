//! The classifier: which rule of a table a key matches.
//!
//! # Tuple space
//!
//! Rules are kept in *subtables*, one for each combination of bits that some rule looks at. Within
//! a subtable a lookup masks the key and looks it up in a hash table: one probe, however many rules.
//! Subtables stand in order of their highest priority, and a lookup ends at the first one that
//! could not hold anything better than what was found. Every subtable looked into adds its mask to
//! the lookup's: a packet that agrees on all those bits would have gone the same way, which is what
//! makes the answer good to cache. The cost is a probe per subtable above the winner; a table with many
//! different masks is slow to miss the caches in, and [`Classifier`] is the one type to replace for
//! tables whose rules would suit another structure.
//!
//! # Versions
//!
//! All of it is persistent: a clone shares everything, and a change copies the path to what it
//! changes (`imbl`'s hash tries). Writers work on a clone and publish it; readers keep
//! what they hold. No locks, and nothing a reader sees ever changes.

use super::rule::Rule;
use crate::flow::{FlowKey, FlowMask, Hasher, WORDS, place};
use openflow::{Match, Slot};
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

/// Hashes words with the process's secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(Hasher);

static SECRET: LazyLock<Hasher> = LazyLock::new(Hasher::new);

impl Default for Keyed {
    fn default() -> Keyed {
        Keyed(*SECRET)
    }
}

pub(crate) struct KeyedState {
    hasher: Hasher,
    hash: u64,
}

impl BuildHasher for Keyed {
    type Hasher = KeyedState;
    fn build_hasher(&self) -> KeyedState {
        KeyedState {
            hasher: self.0,
            hash: 0,
        }
    }
}

impl std::hash::Hasher for KeyedState {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for c in chunks {
            self.hash = self.hasher.hash(&[self.hash, u64::from_ne_bytes(*c)]);
        }
        for b in rest {
            self.hash = self.hash.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of a slice: all keys of a subtable have one length.
    }

    fn finish(&self) -> u64 {
        self.hasher.hash(&[self.hash])
    }
}

type Map<K, V> = imbl::GenericHashMap<K, V, Keyed, imbl::shared_ptr::DefaultSharedPtr>;

/// Words of a mask that are not zero.
type MaskWords = Box<[(u8, u64)]>;

#[derive(Clone, Debug)]
struct Subtable {
    mask: MaskWords,
    /// Rules by masked key; those of one key by falling priority.
    rules: Map<Box<[u64]>, Vec<Arc<Rule>>>,
    /// How many rules of each priority there are.
    priorities: imbl::OrdMap<u16, u32>,
    len: usize,
}

impl Subtable {
    fn max_priority(&self) -> u16 {
        self.priorities.get_max().map_or(0, |(p, _)| *p)
    }

    fn count(&mut self, priority: u16, add: bool) {
        let n = self.priorities.get(&priority).copied().unwrap_or(0);
        match (add, n) {
            (true, n) => {
                self.priorities.insert(priority, n + 1);
                self.len += 1;
            }
            (false, 0 | 1) => {
                self.priorities.remove(&priority);
                self.len -= 1;
            }
            (false, n) => {
                self.priorities.insert(priority, n - 1);
                self.len -= 1;
            }
        }
    }
}

/// The rules of one table.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    /// By falling highest priority.
    subtables: Vec<Arc<Subtable>>,
    len: usize,
}

/// A match as words: values and masks where masks are not zero.
fn words(matching: &Match) -> (MaskWords, Box<[u64]>) {
    let mut key = FlowKey::default();
    let mut mask = FlowMask::default();
    for e in matching.entries() {
        key.set(e.slot, e.value);
        mask.set(e.slot, e.mask);
    }
    let mask: MaskWords = (0..WORDS)
        .filter(|&i| mask.0[i] != 0)
        .map(|i| (i as u8, mask.0[i]))
        .collect();
    let values = mask
        .iter()
        .map(|&(i, m)| key.0[usize::from(i)] & m)
        .collect();
    (mask, values)
}

impl Classifier {
    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of different masks.
    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    /// The best rule for `key`; `mask` gets the bits looked at added.
    pub fn lookup(&self, key: &FlowKey, mask: &mut FlowMask) -> Option<&Arc<Rule>> {
        let mut best: Option<&Arc<Rule>> = None;
        let mut buffer = [0u64; WORDS];
        for s in &self.subtables {
            if best.is_some_and(|b| b.priority >= s.max_priority()) {
                break;
            }
            for (slot, &(i, m)) in buffer.iter_mut().zip(&s.mask) {
                *slot = key.0[usize::from(i)] & m;
                mask.0[usize::from(i)] |= m;
            }
            if let Some(rule) = s.rules.get(&buffer[..s.mask.len()]).and_then(|r| r.first())
                && best.is_none_or(|b| rule.priority > b.priority)
            {
                best = Some(rule);
            }
        }
        best
    }

    /// The rule of exactly this match and priority.
    pub fn find(&self, matching: &Match, priority: u16) -> Option<&Arc<Rule>> {
        let (mask, values) = words(matching);
        let s = self.subtables.iter().find(|s| s.mask == mask)?;
        s.rules
            .get(&values)?
            .iter()
            .find(|r| r.priority == priority)
    }

    /// Puts a rule in, in place of one of the same match and priority, which is returned.
    pub fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        let (mask, values) = words(&rule.matching);
        let at = match self.subtables.iter().position(|s| s.mask == mask) {
            Some(at) => at,
            None => {
                self.subtables.push(Arc::new(Subtable {
                    mask,
                    rules: Map::default(),
                    priorities: imbl::OrdMap::new(),
                    len: 0,
                }));
                self.subtables.len() - 1
            }
        };
        let s = Arc::make_mut(&mut self.subtables[at]);
        let priority = rule.priority;
        let mut old = None;
        match s.rules.get_mut(&values) {
            Some(list) => match list.iter().position(|r| r.priority <= priority) {
                Some(i) if list[i].priority == priority => {
                    old = Some(std::mem::replace(&mut list[i], rule));
                }
                Some(i) => list.insert(i, rule),
                None => list.push(rule),
            },
            None => {
                s.rules.insert(values, vec![rule]);
            }
        }
        if old.is_none() {
            s.count(priority, true);
            self.len += 1;
        }
        self.settle(at);
        old
    }

    /// Takes out the rule of this match and priority.
    pub fn remove(&mut self, matching: &Match, priority: u16) -> Option<Arc<Rule>> {
        let (mask, values) = words(matching);
        let at = self.subtables.iter().position(|s| s.mask == mask)?;
        let s = Arc::make_mut(&mut self.subtables[at]);
        let list = s.rules.get_mut(&values)?;
        let i = list.iter().position(|r| r.priority == priority)?;
        let old = list.remove(i);
        if list.is_empty() {
            s.rules.remove(&values);
        }
        s.count(priority, false);
        self.len -= 1;
        if s.len == 0 {
            self.subtables.remove(at);
        } else {
            self.settle(at);
        }
        Some(old)
    }

    /// Moves subtable `at` to its place in the order.
    fn settle(&mut self, mut at: usize) {
        let p = self.subtables[at].max_priority();
        while at > 0 && self.subtables[at - 1].max_priority() < p {
            self.subtables.swap(at, at - 1);
            at -= 1;
        }
        while at + 1 < self.subtables.len() && self.subtables[at + 1].max_priority() > p {
            self.subtables.swap(at, at + 1);
            at += 1;
        }
    }

    /// All rules, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.subtables
            .iter()
            .flat_map(|s| s.rules.iter().flat_map(|(_, list)| list))
    }
}

/// Whether a match can be carried out: its fields exist in keys.
pub(crate) fn matchable(slot: Slot) -> bool {
    let _ = place(slot);
    !matches!(
        slot,
        Slot::ConjId
            | Slot::DpHash
            | Slot::CtState
            | Slot::CtMark
            | Slot::CtLabel
            | Slot::CtZone
            | Slot::CtNwProto
            | Slot::CtTpSrc
            | Slot::CtTpDst
            | Slot::CtNwSrc
            | Slot::CtNwDst
            | Slot::CtIpv6Src
            | Slot::CtIpv6Dst
            | Slot::PbbIsid
            | Slot::PbbUca
            | Slot::Ipv6Exthdr
            | Slot::ActsetOutput
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::Instructions;
    use proptest::prelude::*;

    fn rule(id: u64, priority: u16, entries: &[(Slot, u128, u128)]) -> Arc<Rule> {
        let mut matching = Match::new();
        for &(slot, value, mask) in entries {
            matching.set_slot(slot, value & mask, mask, mask);
        }
        Arc::new(Rule {
            id,
            table: 0,
            priority,
            matching,
            instructions: Arc::new(Instructions::default()),
            cookie: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: Default::default(),
            created: Default::default(),
            modified: Default::default(),
            counters: Arc::default(),
        })
    }

    fn matches(rule: &Rule, key: &FlowKey) -> bool {
        rule.matching
            .entries()
            .iter()
            .all(|e| key.get(e.slot) & e.mask == e.value)
    }

    const SLOTS: [Slot; 4] = [Slot::EthType, Slot::NwSrc, Slot::TpDst, Slot::Ipv6Dst];

    fn keys() -> impl Strategy<Value = FlowKey> {
        proptest::array::uniform4(0u128..8).prop_map(|v| {
            let mut k = FlowKey::default();
            for (s, v) in SLOTS.iter().zip(v) {
                k.set(*s, v);
            }
            k
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_table_and_its_mask_is_sound(
            specs in proptest::collection::vec((proptest::array::uniform4((0u128..8, 0u128..8)), any::<bool>()), 1..40),
            key in keys(),
            others in proptest::collection::vec(keys(), 20),
        ) {
            let mut c = Classifier::default();
            let mut linear: Vec<Arc<Rule>> = Vec::new();
            for (i, (spec, remove)) in specs.iter().enumerate() {
                let entries: Vec<_> = SLOTS.iter().zip(spec).map(|(s, (v, m))| (*s, *v, *m)).collect();
                let r = rule(i as u64, i as u16, &entries);
                let snapshot = c.clone();
                c.insert(r.clone());
                prop_assert_eq!(snapshot.len() + 1, c.len());
                linear.push(r);
                if *remove {
                    let gone = linear.swap_remove(i * 7 % linear.len());
                    prop_assert_eq!(c.remove(&gone.matching, gone.priority).map(|r| r.id), Some(gone.id));
                }
            }
            let best = |k: &FlowKey| linear.iter().filter(|r| matches(r, k)).max_by_key(|r| r.priority).map(|r| r.id);
            let mut mask = FlowMask::default();
            let got = c.lookup(&key, &mut mask).map(|r| r.id);
            prop_assert_eq!(got, best(&key));
            for mut other in others {
                for i in 0..WORDS {
                    other.0[i] = other.0[i] & !mask.0[i] | key.0[i] & mask.0[i];
                }
                prop_assert_eq!(best(&other), got);
            }
            prop_assert_eq!(c.rules().count(), linear.len());
        }
    }

    #[test]
    fn one_match_at_two_priorities() {
        let mut c = Classifier::default();
        c.insert(rule(1, 5, &[]));
        c.insert(rule(2, 9, &[]));
        let best = |c: &Classifier| {
            c.lookup(&FlowKey::default(), &mut FlowMask::default())
                .map(|r| r.id)
        };
        assert_eq!(best(&c), Some(2));
        assert_eq!(c.insert(rule(3, 9, &[])).map(|r| r.id), Some(2));
        assert_eq!((best(&c), c.len()), (Some(3), 2));
        c.remove(&Match::new(), 9);
        assert_eq!(best(&c), Some(1));
    }
}
