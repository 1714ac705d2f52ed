//! Where a forwarding thread finds the ring of a queue, and where a control thread puts it and takes it away.
//!
//! A guest's queues come and go while its port stays: the monitor connects, starts, stops, remaps memory, dies. The
//! queue objects of a forwarding thread exist from the start and look into a slot each time. The slot is a lock
//! made for that: the forwarding side tries it once a batch (one uncontended exchange, and not even that while there is no
//! ring), keeps it while packets point into the guest's memory, and never sleeps on it; the control side waits,
//! yielding, for at most as long as one batch takes. Once [`RingSlot::take`] has returned the ring, no forwarding
//! thread touches it or its memory, which is what has to be true before GET_VRING_BASE is answered.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Ring, RingCounters};

/// The place of one queue's ring.
#[derive(Debug, Default)]
pub struct RingSlot {
    locked: AtomicBool,
    /// A ring is there. Only a hint for the forwarding side; the truth is behind the lock.
    ready: AtomicBool,
    ring: UnsafeCell<Option<Ring>>,
    counters: Arc<RingCounters>,
}

// SAFETY: `ring` is reached only by whoever set `locked` from false to true, and Ring is Send.
unsafe impl Sync for RingSlot {}

impl RingSlot {
    fn try_lock(&self) -> bool {
        !self.locked.load(Ordering::Relaxed)
            && self
                .locked
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    fn lock(&self) {
        let mut tries = 0u32;
        while !self.try_lock() {
            tries += 1;
            if tries.is_multiple_of(64) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    /// Runs `f` on what is in the slot, alone.
    fn with<R>(&self, f: impl FnOnce(&mut Option<Ring>) -> R) -> R {
        struct Unlock<'a>(&'a RingSlot);
        impl Drop for Unlock<'_> {
            fn drop(&mut self) {
                self.0.unlock();
            }
        }
        self.lock();
        let _unlock = Unlock(self);
        // SAFETY: we hold the lock until `_unlock` is dropped.
        f(unsafe { &mut *self.ring.get() })
    }

    /// Puts a ring in; whatever was there is returned.
    pub fn put(&self, ring: Ring) -> Option<Ring> {
        let old = self.with(|slot| slot.replace(ring));
        self.ready.store(true, Ordering::Release);
        old
    }

    /// Takes the ring out. When this returns, no forwarding thread uses it.
    pub fn take(&self) -> Option<Ring> {
        self.ready.store(false, Ordering::Release);
        self.with(Option::take)
    }

    /// Looks at or changes the ring in place, for the control side.
    pub fn control<R>(&self, f: impl FnOnce(&mut Ring) -> R) -> Option<R> {
        self.with(|slot| slot.as_mut().map(f))
    }

    /// Whether a ring is there.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What went wrong in this queue, over all its rings.
    pub fn counters(&self) -> &Arc<RingCounters> {
        &self.counters
    }
}

/// A forwarding thread's way to a slot.
#[derive(Debug)]
pub struct RingUser {
    slot: Arc<RingSlot>,
    held: bool,
}

impl RingUser {
    /// A user of `slot`.
    pub fn new(slot: Arc<RingSlot>) -> RingUser {
        RingUser { slot, held: false }
    }

    /// The slot.
    pub fn slot(&self) -> &RingSlot {
        &self.slot
    }

    /// Gets hold of the ring without waiting; `None` if there is none, or somebody else has it. It stays held until
    /// [`RingUser::let_go`].
    #[inline]
    pub fn try_hold(&mut self) -> Option<&mut Ring> {
        if !self.held {
            if !self.slot.ready.load(Ordering::Relaxed) || !self.slot.try_lock() {
                return None;
            }
            self.held = true;
        }
        self.held()
    }

    /// Gets hold of the ring, waiting for another forwarding thread that sends there (for at most a batch's time).
    #[inline]
    pub fn hold(&mut self) -> Option<&mut Ring> {
        if !self.held {
            if !self.slot.ready.load(Ordering::Relaxed) {
                return None;
            }
            self.slot.lock();
            self.held = true;
        }
        self.held()
    }

    /// The ring, if it is held.
    #[inline]
    pub fn held(&mut self) -> Option<&mut Ring> {
        if !self.held {
            return None;
        }
        // SAFETY: `held` says that we locked the slot and did not unlock it; `&mut self` lends the ring to one caller at
        // a time.
        let ring = unsafe { &mut *self.slot.ring.get() };
        if ring.is_none() {
            self.held = false;
            self.slot.unlock();
            return None;
        }
        ring.as_mut()
    }

    /// Lets the ring go.
    #[inline]
    pub fn let_go(&mut self) {
        if self.held {
            self.held = false;
            self.slot.unlock();
        }
    }
}

impl Drop for RingUser {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    /// The slot as its threads see it.
    #[derive(Clone, PartialEq, Eq, Hash, Default)]
    struct Shared {
        locked: bool,
        ready: bool,
        ring: Option<u8>,
        /// Which threads use the ring.
        using: u8,
    }

    /// One thread: what it does, one atomic step at a time, and how often.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Walker {
        role: Role,
        step: u8,
        left: u8,
        /// What the control thread took and holds: nobody else may use it.
        took: Option<u8>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    enum Role {
        /// `try_hold`, use, `let_go`.
        Try,
        /// `hold`, use, `let_go`.
        Wait,
        /// `take`, then `put` of another ring.
        Control,
    }

    impl Walker {
        /// Takes a step; `false` if it is done. What waits takes steps that change nothing.
        fn step(&mut self, me: usize, s: &mut Shared) -> bool {
            if self.left == 0 {
                return false;
            }
            let bit = 1 << me;
            let done = |w: &mut Walker| (w.step, w.left) = (0, w.left - 1);
            match (self.role, self.step) {
                // is_ready
                (Role::Try | Role::Wait, 0) if !s.ready => done(self),
                (Role::Try | Role::Wait, 0) => self.step = 1,
                // try_lock: the look, then the exchange.
                (Role::Try, 1) if s.locked => done(self),
                (Role::Wait, 1) | (Role::Control, 1 | 5) if s.locked => {}
                (_, 1 | 5) => self.step += 1,
                (Role::Try, 2) if s.locked => done(self),
                (Role::Wait, 2) | (Role::Control, 2 | 6) if s.locked => self.step -= 1,
                (_, 2 | 6) => {
                    s.locked = true;
                    self.step += 1;
                }
                // held: nothing there, or the ring, which is used.
                (Role::Try | Role::Wait, 3) if s.ring.is_none() => self.step = 5 + 3,
                (Role::Try | Role::Wait, 3) => {
                    s.using |= bit;
                    self.step = 4;
                }
                (Role::Try | Role::Wait, 4) => {
                    s.using &= !bit;
                    self.step = 8;
                }
                (Role::Try | Role::Wait, _) => {
                    s.locked = false;
                    done(self);
                }
                // take
                (Role::Control, 0) => {
                    s.ready = false;
                    self.step = 1;
                }
                (Role::Control, 3) => {
                    self.took = s.ring.take();
                    self.step = 4;
                }
                (Role::Control, 4) => {
                    s.locked = false;
                    self.step = 5;
                }
                // put: here the old memory may be gone.
                (Role::Control, 7) => {
                    s.ring = Some(self.left);
                    self.took = None;
                    self.step = 8;
                }
                (Role::Control, 8) => {
                    s.locked = false;
                    self.step = 9;
                }
                (Role::Control, _) => {
                    s.ready = true;
                    done(self);
                }
            }
            true
        }
    }

    /// Every interleaving of a forwarding thread that receives, one that sends, another that waits to send, and the control thread.
    #[test]
    fn nobody_shares_a_ring_and_nobody_uses_one_that_was_taken() {
        let walker = |role| Walker {
            role,
            step: 0,
            left: 2,
            took: None,
        };
        let roles = [Role::Try, Role::Wait, Role::Wait, Role::Control];
        let mut open = vec![(
            Shared {
                ring: Some(9),
                ready: true,
                ..Shared::default()
            },
            roles.map(walker),
        )];
        let mut seen = HashSet::new();
        let mut ended = 0;
        while let Some((shared, walkers)) = open.pop() {
            assert!(shared.using.count_ones() <= 1, "two use the ring");
            if walkers[3].took.is_some() || shared.ring.is_none() {
                assert_eq!(shared.using, 0, "used after it was taken");
            }
            let mut moved = false;
            for me in 0..walkers.len() {
                let (mut s, mut w) = (shared.clone(), walkers.clone());
                if w[me].step(me, &mut s) {
                    moved |= s != shared || w != walkers;
                    if seen.insert((s.clone(), w.clone())) {
                        open.push((s, w));
                    }
                }
            }
            if !moved {
                assert!(
                    walkers.iter().all(|w| w.left == 0),
                    "somebody waits for ever"
                );
                assert!(!shared.locked);
                ended += 1;
            }
        }
        assert!(ended > 0 && seen.len() > 1000, "{} states", seen.len());
    }
}
