//! What many rules have in common, kept once.
//!
//! Most tables have few masks, and many rules that do the same. Who makes a rule looks here for a mask or
//! instructions equal to its own that were used lately. It is a cache: what it forgets exists twice, which costs memory and
//! nothing else. It is bounded, needs no cleaning up, and the packet path does not know it.

use super::classifier::Mask;
use crate::flow::Keyed;
use openflow::Instructions;
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Places for each kind.
const PLACES: usize = 1024;

/// Masks and instructions in use. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Kinds>>);

#[derive(Debug, Default)]
struct Kinds {
    hasher: Keyed,
    masks: Recent<Mask>,
    instructions: Recent<Instructions>,
}

#[derive(Debug)]
struct Recent<T>(Vec<Option<Arc<T>>>);

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent(Vec::new())
    }
}

impl<T: Hash + Eq> Recent<T> {
    /// One equal to `value`; `own` makes it if none is known.
    fn get(&mut self, hasher: Keyed, value: &T, own: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, || None);
        }
        let at = hasher.hash_one(value) as usize % PLACES;
        match &self.0[at] {
            Some(known) if **known == *value => known.clone(),
            _ => {
                let own = own();
                self.0[at] = Some(own.clone());
                own
            }
        }
    }
}

impl Shared {
    /// A mask.
    pub(super) fn mask(&self, mask: Mask) -> Arc<Mask> {
        let k = &mut *self.0.lock();
        // Cloned only when it is new.
        k.masks.get(k.hasher, &mask, || Arc::new(mask.clone()))
    }

    /// Instructions.
    pub(super) fn instructions(&self, i: &Instructions) -> Arc<Instructions> {
        let k = &mut *self.0.lock();
        k.instructions.get(k.hasher, i, || Arc::new(i.clone()))
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        let k = &mut *self.0.lock();
        k.masks = Recent::default();
        k.instructions = Recent::default();
    }
}
