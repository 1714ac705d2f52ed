//! Packed virtqueues (virtio 1.2 2.8): one ring of descriptors that both sides write.
//!
//! # The idea
//!
//! A descriptor carries two flags, AVAIL and USED. The driver makes one available by setting AVAIL to its wrap counter, a
//! bit that turns over with every lap of the ring, and USED to the opposite; the device hands it back by making both equal to
//! *its* wrap counter. There is no index to read and no second ring to write: four descriptors share a line, and the same line
//! comes back as used. So a batch is found by reading along the ring until a descriptor is not ours, and is
//! given back by writing along it, eight bytes (length, number, flags) a buffer.
//!
//! The guest polls the first descriptor of what we will give back. It is written last, so that a batch appears at once: the
//! guest then reads lines that are finished, and never sees part of a packet that was merged from several buffers.
//!
//! A chain lies in consecutive descriptors and is given back by one, in the place of its first, with the number that its last
//! one carries; the rest are skipped.
//!
//! # Trust
//!
//! As in [`split`](super::split). A chain's entries are counted once when it is found, and exactly so many are walked and skipped, whatever
//! they say by then. All chains that are held at a time have together at most as many entries as the ring: a chain that
//! goes on beyond that has no end, so that nobody knows where the next one begins, and the ring is given up.
//!
//! # Coming back
//!
//! A packed ring keeps no index in memory that another device could go on from. The monitor tells where to go on (SET_VRING_BASE);
//! DPDK's virtio-user starts its rings anew when its device comes back, and tells zero. A monitor may know only an older place, if the
//! device was killed. Then what lies there is used already, and we go on behind it. Nothing is held between batches,
//! so what the killed device had taken is taken again: packets may be sent twice, never mixed up.
//!
//! Threads: a ring is used by whoever holds its slot, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::chain::{Ahead, DESCRIPTOR, Descriptor, Each, INDIRECT, NEXT, WRITE, read};
use super::queue::{Common, Virtqueue};
use super::{BadChain, Layout, MAX_SIZE, RingError, feature};
use crate::memory::GuestMemory;
use crate::packet::BATCH;
use crate::packet::copy::prefetch_write;

/// Descriptor flag: equal to the driver's wrap counter when made available.
const AVAIL: u16 = 1 << 7;
/// Descriptor flag: equal to the device's wrap counter when used.
const USED: u16 = 1 << 15;

/// Event suppression: notify always (virtio 1.2 2.8.14).
const EVENTS_ENABLE: u16 = 0;
/// Event suppression: never notify.
const EVENTS_DISABLE: u16 = 1;
/// Event suppression: notify when a certain descriptor is reached.
const EVENTS_AT: u16 = 2;

/// A place in the ring: bits 0 to 14 are the index, bit 15 is the wrap counter; as in GET_VRING_BASE and in the event
/// suppression structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    index: u16,
    wrap: bool,
}

impl Position {
    fn decode(word: u16) -> Position {
        Position {
            index: word & 0x7fff,
            wrap: word & 0x8000 != 0,
        }
    }

    fn encode(self) -> u16 {
        self.index | if self.wrap { 0x8000 } else { 0 }
    }

    /// The place so many entries on; `n` is at most `size`.
    #[inline(always)]
    fn advance(&mut self, n: u16, size: u16) {
        let index = u32::from(self.index) + u32::from(n);
        let over = index >= u32::from(size);
        self.index = (index - if over { u32::from(size) } else { 0 }) as u16;
        self.wrap ^= over;
    }

    /// AVAIL and USED of what is available here.
    #[inline(always)]
    fn available(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }

    /// AVAIL and USED of what is used here.
    #[inline(always)]
    fn used(self) -> u16 {
        if self.wrap { AVAIL | USED } else { 0 }
    }
}

/// A chain that is used, to be published.
#[derive(Clone, Copy, Debug)]
struct Done {
    len: u32,
    id: u16,
    slots: u16,
}

/// A packed virtqueue.
#[derive(Debug)]
pub(super) struct PackedRing {
    common: Common,
    size: u16,
    table: *mut u8,
    /// Driver area: which interrupts it wants.
    driver: *mut u16,
    /// Device area: which kicks we want.
    device: *mut u16,
    /// The next entry to take.
    next: Position,
    /// The next entry to look at: behind those that are ahead, which have so many entries.
    look: Position,
    looked: u16,
    /// The next entry to hand back.
    used: Position,
    /// Entries taken and not handed back.
    held: u16,
    /// Used and not yet published. Has room for as many as the ring has entries, and never needs more.
    done: Vec<Done>,
    /// Entries handed back since the guest was last considered for an interrupt; no more than there are.
    unsignalled: u16,
    event_idx: bool,
}

// SAFETY: the pointers lie in the memory of `common`, which the ring keeps alive; nothing in it belongs to a thread.
unsafe impl Send for PackedRing {}

impl PackedRing {
    /// Checks where the queue lies and starts it.
    pub(super) fn new(
        memory: Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
    ) -> Result<PackedRing, RingError> {
        let size = layout.size;
        // Any number will do (virtio 1.2 2.8.10.1).
        if size == 0 || size > MAX_SIZE {
            return Err(RingError::Size(size));
        }
        let common = Common::new(memory, features);
        let table = common.place(
            "descriptor ring",
            layout.descriptors,
            16 * u64::from(size),
            16,
        )?;
        let driver = common.place("driver event suppression", layout.available, 4, 4)?;
        let device = common.place("device event suppression", layout.used, 4, 4)?;
        let next = Position::decode(layout.base);
        if next.index >= size {
            return Err(RingError::Base(next.index, size));
        }
        let mut ring = PackedRing {
            common,
            size,
            table,
            driver: driver.cast(),
            device: device.cast(),
            next,
            look: next,
            looked: 0,
            used: next,
            held: 0,
            done: Vec::with_capacity(size.into()),
            unsignalled: 0,
            event_idx: features & feature::EVENT_IDX != 0,
        };
        ring.skip_used();
        ring.disarm();
        Ok(ring)
    }

    /// Goes on behind what another device has used already, if the base is from before that.
    fn skip_used(&mut self) {
        let base = self.next;
        let mut last = None;
        for _ in 0..self.size {
            let rest = self.rest(self.next.index).load(Ordering::Acquire);
            let d = Descriptor::packed((0, u64::from_le(rest)));
            let used = d.flags & (AVAIL | USED) == self.next.used();
            // Behind the one used descriptor of a chain its other descriptors are as they were. Drivers give all of them
            // one number, so that they can be told from what follows.
            let skipped =
                d.flags & (AVAIL | USED) == self.next.available() && last == Some(d.other);
            if !used && !skipped {
                break;
            }
            if used {
                // A ring that was never used looks used where the wrap counter is zero.
                if !self.next.wrap && rest == 0 {
                    break;
                }
                last = Some(d.other);
            }
            self.next.advance(1, self.size);
        }
        if self.next != base {
            tracing::debug!(
                base = base.encode(),
                next = self.next.encode(),
                "ring goes on behind what is used"
            );
        }
        self.used = self.next;
        self.look = self.next;
    }

    /// Length, number and flags of entry `i`.
    #[inline(always)]
    fn rest(&self, i: u16) -> &AtomicU64 {
        debug_assert!(i < self.size);
        // SAFETY: entry `i` is inside the ring, which was checked to lie in memory, aligned to 16; an atomic may change under us.
        unsafe {
            AtomicU64::from_ptr(
                self.table
                    .add(usize::from(i) * DESCRIPTOR as usize + 8)
                    .cast(),
            )
        }
    }

    /// Offset and flags of an event suppression structure, at once.
    fn events(at: &*mut u16) -> &AtomicU32 {
        // SAFETY: four bytes inside memory, aligned to 4, checked at the start.
        unsafe { AtomicU32::from_ptr((*at).cast()) }
    }

    fn want_events(&self, flags: u16, at: u16) {
        let both = u32::from(flags) << 16 | u32::from(at);
        Self::events(&self.device).store(both.to_le(), Ordering::Relaxed);
    }

    #[inline(always)]
    fn is_available(&self, at: Position) -> bool {
        let flags = (u64::from_le(self.rest(at.index).load(Ordering::Acquire)) >> 48) as u16;
        flags & (AVAIL | USED) == at.available()
    }

    /// Writes a used descriptor.
    #[inline(always)]
    fn write_used(&self, at: Position, done: Done) {
        let flags = at.used() | if done.len > 0 { WRITE } else { 0 };
        let rest = u64::from(flags) << 48 | u64::from(done.id) << 32 | u64::from(done.len);
        self.rest(at.index).store(rest.to_le(), Ordering::Release);
    }

    /// The entries of the chain that begins at `first` and the number in its last one; `None` if it is longer than `most`.
    #[cold]
    fn measure(&self, first: u16, most: u16) -> Option<(u16, u16)> {
        let mut i = first;
        for slots in 1..=most {
            let rest = u64::from_le(self.rest(i).load(Ordering::Relaxed));
            let d = Descriptor::packed((0, rest));
            if d.flags & NEXT == 0 {
                return Some((slots, d.other));
            }
            i = if i + 1 == self.size { 0 } else { i + 1 };
        }
        None
    }

    /// Whether the guest is to be interrupted for what was used since the last call.
    #[inline]
    pub(super) fn notification_wanted(&mut self) -> bool {
        if self.unsignalled == 0 {
            return false;
        }
        let n = std::mem::take(&mut self.unsignalled);
        // What was used must be visible before the guest's wish is read (virtio 1.2 2.8.15).
        fence(Ordering::SeqCst);
        let both = u32::from_le(Self::events(&self.driver).load(Ordering::Relaxed));
        let (flags, at) = ((both >> 16) as u16 & 3, Position::decode(both as u16));
        if !self.event_idx || flags != EVENTS_AT {
            return flags != EVENTS_DISABLE;
        }
        // How many entries ago the wanted one was handed back; it is in this lap or in the one before.
        let ago = if at.wrap == self.used.wrap {
            i32::from(self.used.index) - i32::from(at.index)
        } else {
            i32::from(self.used.index) + i32::from(self.size) - i32::from(at.index)
        };
        (1..=i32::from(n)).contains(&ago)
    }

    /// Asks for kicks from here on; true if something is available already.
    pub(super) fn arm(&mut self) -> bool {
        if self.common.error.is_some() {
            return false;
        }
        if self.event_idx {
            self.want_events(EVENTS_AT, self.next.encode());
        } else {
            self.want_events(EVENTS_ENABLE, 0);
        }
        fence(Ordering::SeqCst);
        self.is_available(self.next)
    }

    /// No kicks wanted.
    pub(super) fn disarm(&mut self) {
        self.want_events(EVENTS_DISABLE, 0);
    }

    /// The place to go on from: what is taken and not given back is taken again.
    pub(super) fn base(&self) -> u16 {
        self.used.encode()
    }
}

impl Virtqueue for PackedRing {
    /// Next entry to take, entries held, and chains put.
    type Mark = (Position, u16, usize);

    #[inline(always)]
    fn common(&self) -> &Common {
        &self.common
    }

    #[inline(always)]
    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    #[inline(always)]
    fn look_ahead(&mut self, want: usize, _fresh: bool, writable: bool) -> usize {
        let filled = self.common.filled;
        let mut at = self.look;
        let before = self.size - self.held - self.looked;
        let mut room = before;
        let wanted = if writable { WRITE } else { 0 };
        let mut n = 0;
        while n < want && filled + n < BATCH && room > 0 {
            let rest = u64::from_le(self.rest(at.index).load(Ordering::Acquire));
            let flags = (rest >> 48) as u16;
            if flags & (AVAIL | USED) != at.available() {
                break;
            }
            // Two lines on; we will write them too.
            let line = (usize::from(at.index) + 8) * DESCRIPTOR as usize;
            prefetch_write(self.table.wrapping_add(line));
            // SAFETY: the entry is inside the ring; see `rest`.
            let (addr, _) = unsafe { read(self.table, at.index.into()) };
            let d = Descriptor::packed((addr, rest));
            let mut ahead = Ahead {
                at: std::ptr::null_mut(),
                len: at.index.into(),
                id: d.other,
                slots: 1,
            };
            if flags & (NEXT | WRITE | INDIRECT) == wanted {
                let buffer = self.common.reach.buffer(d.addr, d.len);
                if !buffer.is_null() {
                    (ahead.at, ahead.len) = (buffer, d.len);
                }
            } else if flags & NEXT != 0 {
                let Some((slots, id)) = self.measure(at.index, room) else {
                    self.common.give_up(RingError::Endless(at.index, self.size));
                    break;
                };
                (ahead.slots, ahead.id) = (slots, id);
            }
            room -= ahead.slots;
            at.advance(ahead.slots, self.size);
            self.common.ahead[filled + n] = ahead;
            n += 1;
        }
        self.look = at;
        self.looked += before - room;
        n
    }

    fn forget(&mut self) {
        self.common.forget_ahead();
        (self.look, self.looked) = (self.next, 0);
    }

    fn walk(&mut self, ahead: Ahead, writable: bool, each: &mut impl Each) -> Result<(), BadChain> {
        let mut i = ahead.len as usize;
        for _ in 0..ahead.slots {
            // SAFETY: `i` is below the ring's size: `look_ahead` began below it, and it wraps.
            let d = Descriptor::packed(unsafe { read(self.table, i) });
            if d.flags & INDIRECT != 0 {
                let (table, entries) = self.common.reach.table(d)?;
                // All of them, one behind the other: NEXT means nothing here (virtio 1.2 2.8.7).
                for k in 0..entries as usize {
                    // SAFETY: the table was translated with its whole length, aligned.
                    let d = Descriptor::packed(unsafe { read(table, k) });
                    if d.flags & INDIRECT != 0 {
                        return Err(BadChain::Indirect);
                    }
                    if !self.common.reach.runs(d, writable, each)? {
                        return Ok(());
                    }
                }
            } else if !self.common.reach.runs(d, writable, each)? {
                return Ok(());
            }
            i = if i + 1 == usize::from(self.size) {
                0
            } else {
                i + 1
            };
        }
        Ok(())
    }

    #[inline(always)]
    fn take(&mut self, slots: u16) {
        self.common.next += 1;
        self.next.advance(slots, self.size);
        self.held += slots;
        self.looked -= slots;
    }

    #[inline(always)]
    fn put_used(&mut self, ahead: Ahead, len: u32) {
        // As many as were taken at most, each of them an entry: it never grows.
        self.done.push(Done {
            len,
            id: ahead.id,
            slots: ahead.slots,
        });
    }

    #[inline(always)]
    fn give_back(&mut self) {
        let taken = &self.common.taken[..self.common.taken_len];
        let Some(last) = taken.last() else { return };
        if self.common.in_order {
            // One descriptor for all, in the place of the first (virtio 1.2 2.8.9).
            self.done.push(Done {
                len: 0,
                id: last.id,
                slots: self.held,
            });
        } else {
            self.done.extend(taken.iter().map(|taken| Done {
                len: 0,
                id: taken.id,
                slots: taken.slots,
            }));
        }
        self.common.taken_len = 0;
        self.publish();
    }

    #[inline(always)]
    fn publish(&mut self) {
        let Some((&first, rest)) = self.done.split_first() else {
            return;
        };
        let begin = self.used;
        let mut at = begin;
        at.advance(first.slots, self.size);
        for &done in rest {
            self.write_used(at, done);
            at.advance(done.slots, self.size);
        }
        self.write_used(begin, first);
        self.used = at;
        self.done.clear();
        self.unsignalled = self.unsignalled.saturating_add(self.held).min(self.size);
        self.held = 0;
    }

    fn mark(&self) -> Self::Mark {
        (self.next, self.held, self.done.len())
    }

    fn rewind(&mut self, (next, held, done): Self::Mark) {
        (self.next, self.held) = (next, held);
        self.done.truncate(done);
        self.forget();
    }
}
