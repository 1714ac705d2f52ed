//! Split virtqueues (virtio 1.2 2.7), made for many small packets.
//!
//! # The idea
//!
//! On one machine a packet's cost is mostly the cache lines that travel between the guest's processor and ours: the available
//! ring, the descriptor, the buffer, the used ring. A line takes longer to come than a packet takes to be
//! copied, so the work is done in stages over a whole batch, and each stage asks for the lines that the next one will
//! need:
//!
//! 1. read the available index once; read the heads; prefetch their descriptors, and those of the batch behind,
//! 2. read the descriptors and translate addresses,
//! 3. copy headers and data, the virtio-net header together with the data that shares its line; while one buffer
//!    is copied, another some places on is prefetched (for writing where we will write),
//! 4. write all used elements one after the other, then the used index once; do 1 and 2 for the batch that comes next, as far as it is known, so that
//!    its first buffers arrive while others are served.
//!
//! The queue's own addresses are translated and checked when it starts, and are raw pointers from then on. The usual buffer, one
//! direct descriptor inside one region, takes a short path; chains, indirect tables and buffers that cross regions take
//! the general one (`Virtqueue::walk`).
//!
//! # Trust
//!
//! Everything here is written by a guest that may be hostile and may change it at any time. So each descriptor is read once, into a
//! copy, and judged there; addresses are translated with their lengths; a chain has at most as many steps as its table has
//! entries. A malformed chain is returned with length 0 and counted. A queue whose bookkeeping makes no sense (an index
//! that jumps, a head beyond the table) is given up: it keeps its [`RingError`] and does nothing more until the monitor
//! sets it up anew.
//!
//! # Notifications
//!
//! While we poll, the guest is told not to kick. With EVENT_IDX the event index simply stays behind. For our own interrupts
//! the used index and the index the guest names are compared once a batch, behind a full fence.
//!
//! Packets are moved by [`receive`](super::receive) and [`send`](super::send); here is the bookkeeping.
//!
//! Threads: a ring is used by whoever holds its slot, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::chain::{Ahead, DESCRIPTOR, Descriptor, Each, INDIRECT, NEXT, WRITE, read};
use super::queue::{Common, Virtqueue};
use super::{BadChain, Layout, MAX_SIZE, RingError, feature};
use crate::memory::GuestMemory;
use crate::packet::BATCH;
use crate::packet::copy::{prefetch_read, prefetch_write};

/// Available ring flag: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// Used ring flag: the device wants no kicks.
const NO_NOTIFY: u16 = 1;
/// Used elements of 8 bytes in a line.
const USED_PER_LINE: usize = 8;

/// A split virtqueue.
#[derive(Debug)]
pub(super) struct SplitRing {
    common: Common,
    size: u16,
    mask: u16,
    /// The descriptor table.
    table: *const u8,
    /// Driver area: flags, index, ring, used_event.
    avail: *const u16,
    /// Device area: flags, index, ring of (u32, u32), avail_event.
    used: *mut u16,
    /// Next available entry to look at.
    next_avail: u16,
    /// The available index when last read.
    avail_seen: u16,
    /// Next used entry; published when `give_back` or `enqueue` ends.
    next_used: u16,
    /// Used entries from `written` to `next_used`, not yet in the ring: see `write_used`.
    held: [u64; BATCH],
    /// Up to here used entries are in the ring.
    written: u16,
    /// The used index when the guest was last considered for an interrupt.
    signalled: u16,
    event_idx: bool,
    notify_on_empty: bool,
}

// SAFETY: the pointers lie in the memory of `common`, which the ring keeps alive; nothing in it belongs to a thread.
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// Checks where the queue lies and starts it.
    pub(super) fn new(
        memory: Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
    ) -> Result<SplitRing, RingError> {
        let size = layout.size;
        if !size.is_power_of_two() || size > MAX_SIZE {
            return Err(RingError::Size(size));
        }
        let entries = u64::from(size);
        let common = Common::new(memory, features);
        let table = common.place("descriptor table", layout.descriptors, 16 * entries, 16)?;
        let avail = common.place("available ring", layout.available, 6 + 2 * entries, 2)?;
        let used = common.place("used ring", layout.used, 6 + 8 * entries, 4)?;
        let mut ring = SplitRing {
            common,
            size,
            mask: size - 1,
            table,
            avail: avail.cast::<u16>(),
            used: used.cast::<u16>(),
            next_avail: layout.base,
            avail_seen: layout.base,
            next_used: 0,
            held: [0; BATCH],
            written: 0,
            signalled: 0,
            event_idx: features & feature::EVENT_IDX != 0,
            notify_on_empty: features & feature::NOTIFY_ON_EMPTY != 0,
        };
        // The used index lives in the guest's memory only; it goes on from what the last device left there. The base that the
        // monitor told may be another one: one before buffers that a device held when it was killed, or plain zero (DPDK's
        // virtio-user tells that when its device comes back). We use buffers in order and hold none between batches,
        // so the used index is where to go on; packets that were held are sent again or lost, never mixed up.
        let used_index = ring.used_index().load(Ordering::Acquire);
        ring.next_used = u16::from_le(used_index);
        ring.written = ring.next_used;
        ring.signalled = ring.next_used;
        if ring.next_used != ring.next_avail {
            tracing::debug!(
                base = ring.next_avail,
                used = ring.next_used,
                "ring goes on from its used index"
            );
            ring.next_avail = ring.next_used;
            ring.avail_seen = ring.next_used;
        }
        ring.disarm();
        Ok(ring)
    }

    fn avail_flags(&self) -> &AtomicU16 {
        // SAFETY: inside the available ring, aligned; an atomic may change under us.
        unsafe { AtomicU16::from_ptr(self.avail.cast_mut()) }
    }

    #[inline(always)]
    fn avail_index(&self) -> &AtomicU16 {
        // SAFETY: as `avail_flags`.
        unsafe { AtomicU16::from_ptr(self.avail.add(1).cast_mut()) }
    }

    /// Entry `i` of the available ring; `size` is `used_event`.
    #[inline(always)]
    fn avail_entry(&self, i: u16) -> u16 {
        debug_assert!(i <= self.size);
        // SAFETY: entries 0..=size were checked to lie inside memory.
        u16::from_le(unsafe { self.avail.add(2 + usize::from(i)).read_volatile() })
    }

    fn used_flags(&self) -> &AtomicU16 {
        // SAFETY: inside the used ring, aligned; only we write it.
        unsafe { AtomicU16::from_ptr(self.used) }
    }

    #[inline(always)]
    fn used_index(&self) -> &AtomicU16 {
        // SAFETY: as `used_flags`.
        unsafe { AtomicU16::from_ptr(self.used.add(1)) }
    }

    fn avail_event(&self) -> &AtomicU16 {
        // SAFETY: behind the last used element, counted in the length that was checked.
        unsafe { AtomicU16::from_ptr(self.used.add(2 + 4 * usize::from(self.size))) }
    }

    /// Makes a used element, in the place of `next_used`.
    #[inline(always)]
    fn put(&mut self, head: u16, len: u32) {
        let n = usize::from(self.next_used.wrapping_sub(self.written));
        self.held[n] = (u64::from(len) << 32 | u64::from(head)).to_le();
        self.next_used = self.next_used.wrapping_add(1);
        if n + 1 == BATCH {
            self.write_used();
        }
    }

    /// Writes the used elements that are held into the ring, without publishing them.
    ///
    /// They are written at once, the first of each line before the others, for the reason told at
    /// [`fetches_by_stores`](crate::packet::copy::fetches_by_stores).
    #[inline(always)]
    fn write_used(&mut self) {
        let n = usize::from(self.next_used.wrapping_sub(self.written));
        let (at, first, mask) = (self.used.wrapping_add(2), self.written, self.mask);
        let write = |k: usize| {
            let i = usize::from(first.wrapping_add(k as u16) & mask);
            // SAFETY: element `i < size` of the used ring.
            unsafe { at.add(4 * i).cast::<u64>().write_unaligned(self.held[k]) };
        };
        (0..n).step_by(USED_PER_LINE).for_each(write);
        (0..n).for_each(write);
        self.written = self.next_used;
    }

    /// How many chains are available, reading the index only if fewer than `want` are known.
    #[inline(always)]
    fn available(&mut self, want: u16) -> u16 {
        let known = self.avail_seen.wrapping_sub(self.next_avail);
        if known >= want {
            return known;
        }
        let index = u16::from_le(self.avail_index().load(Ordering::Acquire));
        let n = index.wrapping_sub(self.next_avail);
        if n > self.size {
            self.common.give_up(RingError::IndexJump {
                from: self.next_avail,
                to: index,
                size: self.size,
            });
            return 0;
        }
        self.avail_seen = index;
        n
    }

    /// Whether the guest is to be interrupted for what was used since the last call.
    #[inline]
    pub(super) fn notification_wanted(&mut self) -> bool {
        let (old, new) = (self.signalled, self.next_used);
        if old == new {
            return false;
        }
        self.signalled = new;
        // The used index must be visible before the guest's wish is read (virtio 1.2 2.7.7).
        fence(Ordering::SeqCst);
        if self.notify_on_empty
            && u16::from_le(self.avail_index().load(Ordering::Relaxed)) == self.next_avail
        {
            return true;
        }
        if self.event_idx {
            let event = self.avail_entry(self.size);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            u16::from_le(self.avail_flags().load(Ordering::Relaxed)) & NO_INTERRUPT == 0
        }
    }

    /// Asks for kicks from here on; true if something is available already, or never will be because the ring is broken and
    /// somebody should notice.
    pub(super) fn arm(&mut self) -> bool {
        if self.common.error.is_some() {
            return false;
        }
        if self.event_idx {
            self.avail_event()
                .store(self.next_avail.to_le(), Ordering::Relaxed);
        } else {
            self.used_flags().store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        u16::from_le(self.avail_index().load(Ordering::Acquire)) != self.next_avail
    }

    /// No kicks wanted. With EVENT_IDX nothing is to be done: the index asked for falls behind.
    pub(super) fn disarm(&mut self) {
        let flags = if self.event_idx { 0 } else { NO_NOTIFY };
        self.used_flags().store(flags.to_le(), Ordering::Relaxed);
    }

    /// The next available index.
    pub(super) fn base(&self) -> u16 {
        self.next_avail.wrapping_sub(self.common.taken_len as u16)
    }

    #[inline(always)]
    fn prefetch_descriptor(&self, head: u16) {
        let offset = usize::from(head & self.mask) * DESCRIPTOR as usize;
        prefetch_read(self.table.wrapping_add(offset));
    }

    /// If `head` is one direct descriptor in one region with the wanted direction: where its buffer lies.
    #[inline(always)]
    fn single(&mut self, head: u16, flags: u16) -> Ahead {
        debug_assert!(head < self.size);
        // SAFETY: the table has `size` entries, checked at the start, and `head` is below that.
        let d = Descriptor::split(unsafe { read(self.table, usize::from(head)) });
        let at = if d.flags == flags {
            self.common.reach.buffer(d.addr, d.len)
        } else {
            std::ptr::null_mut()
        };
        Ahead {
            at,
            len: if at.is_null() { head.into() } else { d.len },
            id: head,
            slots: 1,
        }
    }
}

impl Virtqueue for SplitRing {
    /// Next available entry and next used one.
    type Mark = (u16, u16);

    #[inline(always)]
    fn common(&self) -> &Common {
        &self.common
    }

    #[inline(always)]
    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    /// Stages 1 and 2.
    #[inline(always)]
    fn look_ahead(&mut self, want: usize, fresh: bool, writable: bool) -> usize {
        let filled = self.common.filled;
        let first = self.next_avail.wrapping_add(filled as u16);
        let mut known = self.avail_seen.wrapping_sub(first);
        if fresh && usize::from(known) < want {
            known = self
                .available((filled + want) as u16)
                .saturating_sub(filled as u16);
        }
        let n = usize::from(known).min(want).min(BATCH - filled);
        if n == 0 {
            return 0;
        }
        let used = (self.used).wrapping_add(2 + 4 * usize::from(self.next_used & self.mask));
        prefetch_write(used.cast());
        for k in 0..n {
            let head = self.avail_entry(first.wrapping_add(k as u16) & self.mask);
            self.common.ahead[filled + k].id = head;
            self.prefetch_descriptor(head);
        }
        // Those of the batch after this one will be there when they are looked for.
        for k in n..usize::from(known).min(n + BATCH) {
            self.prefetch_descriptor(self.avail_entry(first.wrapping_add(k as u16) & self.mask));
        }
        let flags = if writable { WRITE } else { 0 };
        for k in 0..n {
            let head = self.common.ahead[filled + k].id;
            if head >= self.size {
                // It has no number that could be given back.
                self.common.give_up(RingError::Head(head, self.size));
                return k;
            }
            self.common.ahead[filled + k] = self.single(head, flags);
        }
        n
    }

    fn forget(&mut self) {
        self.common.forget_ahead();
    }

    fn walk(&mut self, ahead: Ahead, writable: bool, each: &mut impl Each) -> Result<(), BadChain> {
        let mut table = self.table;
        let mut entries = u32::from(self.size);
        let mut i = u32::from(ahead.id);
        let mut steps = entries;
        let mut nested = false;
        loop {
            if i >= entries {
                return Err(BadChain::Next);
            }
            if steps == 0 {
                return Err(BadChain::Loop);
            }
            steps -= 1;
            // SAFETY: `table` has `entries` entries: the queue's own, checked at the start, or an indirect one, translated
            // with its whole length; `i` is below that.
            let d = Descriptor::split(unsafe { read(table, i as usize) });
            if d.flags & INDIRECT != 0 {
                if nested {
                    return Err(BadChain::Indirect);
                }
                (table, entries) = self.common.reach.table(d)?;
                (steps, i, nested) = (entries, 0, true);
                continue;
            }
            if !self.common.reach.runs(d, writable, each)? || d.flags & NEXT == 0 {
                return Ok(());
            }
            i = u32::from(d.other);
        }
    }

    #[inline(always)]
    fn take(&mut self, slots: u16) {
        self.common.next += 1;
        self.next_avail = self.next_avail.wrapping_add(slots);
    }

    #[inline(always)]
    fn put_used(&mut self, ahead: Ahead, len: u32) {
        self.put(ahead.id, len);
    }

    #[inline(always)]
    fn give_back(&mut self) {
        let n = self.common.taken_len;
        if n == 0 {
            return;
        }
        if self.common.in_order {
            // One element for all, in the place of the first (virtio 1.2 2.7.9).
            self.put(self.common.taken[n - 1].id, 0);
            self.write_used();
            self.next_used = self.next_used.wrapping_add(n as u16 - 1);
            self.written = self.next_used;
        } else {
            // Nothing else is held: this ring is received from.
            debug_assert_eq!(self.next_used, self.written);
            for (held, taken) in self.held.iter_mut().zip(&self.common.taken[..n]) {
                *held = u64::from(taken.id).to_le();
            }
            self.next_used = self.next_used.wrapping_add(n as u16);
        }
        self.common.taken_len = 0;
        self.publish();
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.write_used();
        self.used_index()
            .store(self.next_used.to_le(), Ordering::Release);
    }

    fn mark(&self) -> (u16, u16) {
        (self.next_avail, self.next_used)
    }

    fn rewind(&mut self, (next_avail, next_used): (u16, u16)) {
        self.next_avail = next_avail;
        if next_used.wrapping_sub(self.written) > BATCH as u16 {
            self.written = next_used;
        }
        self.next_used = next_used;
        self.forget();
    }
}
