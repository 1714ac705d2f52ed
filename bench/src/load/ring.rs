//! The driver's side of a virtqueue, made for measuring: slot `i` of the ring always stands for buffer `i`, so that
//! descriptors are written once and a packet costs the index and what the format demands.
//!
//! This needs a device that returns buffers in the order it was given them, as every switch does for network queues. One
//! that does not is noticed ([`Ring::disordered`]), and nothing that was measured with it counts.

use super::memory::Memory;
use anyhow::Result;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};
use vhost::VringConfigData;

/// What a slot of the ring describes.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Guest address.
    pub address: u64,
    /// Bytes; of the indirect table, if it is one.
    pub len: u32,
    /// [`WRITE`], [`INDIRECT`].
    pub flags: u16,
}

/// Descriptor flag: the device writes here (virtio 1.2 2.7.5).
pub const WRITE: u16 = 2;
/// Descriptor flag: an indirect table.
pub const INDIRECT: u16 = 4;

/// A descriptor: split rings and indirect tables (virtio 1.2 2.7.5); in a packed one `flags` and `next` are `id` and
/// `flags` (2.8.13).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Guest address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// Flags; the buffer's id in a packed ring.
    pub third: u16,
    /// The next of a chain; flags in a packed ring.
    pub fourth: u16,
}

/// One virtqueue.
pub trait Ring: Send + Sized {
    /// A ring of `buffers.len()` entries, a power of two. `posted`: all buffers are available at once.
    ///
    /// # Errors
    /// When the memory is full.
    fn new(memory: &mut Memory, buffers: &[Buffer], posted: bool) -> Result<Self>;
    /// As the switch is told.
    fn config(&self) -> VringConfigData;
    /// How many buffers the device has returned and were not [`Ring::take`]n yet, `max` at most.
    fn used(&mut self, max: u32) -> u32;
    /// The slot of the `i`th of them.
    fn used_slot(&self, i: u32) -> u32;
    /// What the device wrote into the `i`th of them.
    fn used_len(&self, i: u32) -> u32;
    /// The first `n` of them are done with.
    fn take(&mut self, n: u32);
    /// The slot of the `i`th buffer that is neither posted nor returned.
    fn free_slot(&self, i: u32) -> u32;
    /// Gives the next `n` buffers to the device; says whether it wants a kick.
    fn post(&mut self, n: u32) -> bool;
    /// Buffers that the device has, or has returned and that were not taken.
    fn outstanding(&self) -> u32;
    /// Whether the device ever returned another buffer than the next.
    fn disordered(&self) -> bool;
    /// Features this kind of ring needs.
    const FEATURES: u64;
    /// As in names of scenarios.
    const NAME: &'static str;
}

/// A split ring.
pub struct Split {
    size: u32,
    descriptors: *mut Descriptor,
    available: *mut u16,
    used: *mut u16,
    posted: u16,
    taken: u16,
    disorder: bool,
}

// SAFETY: the pointers are into the guest's memory, which outlives the ring beside it, and are used by the thread that has
// the ring.
unsafe impl Send for Split {}

impl Split {
    fn used_index(&self) -> u16 {
        // SAFETY: the used ring's second word, aligned; the device writes it too, so it is read as an atomic.
        unsafe { AtomicU16::from_ptr(self.used.add(1)) }.load(Ordering::Acquire)
    }

    fn element(&self, at: u16) -> *const u32 {
        let at = u32::from(at) & (self.size - 1);
        // SAFETY: the used ring has `size` elements of eight bytes behind its first four.
        unsafe { self.used.add(2).cast::<u32>().add(2 * at as usize) }
    }
}

impl Ring for Split {
    const FEATURES: u64 = 0;
    const NAME: &'static str = "split";

    fn new(memory: &mut Memory, buffers: &[Buffer], posted: bool) -> Result<Split> {
        let size = buffers.len();
        assert!(size.is_power_of_two() && size <= 32768);
        let descriptors = memory.take(16 * size, 4096)?.cast::<Descriptor>();
        let available = memory.take(6 + 2 * size, 4096)?.cast::<u16>();
        let used = memory.take(6 + 8 * size, 4096)?.cast::<u16>();
        for (i, b) in buffers.iter().enumerate() {
            // SAFETY: all of this memory was just taken, in these sizes, and no device knows of it yet.
            unsafe {
                descriptors.add(i).write(Descriptor {
                    address: b.address,
                    len: b.len,
                    third: b.flags,
                    fourth: 0,
                });
                available.add(2 + i).write(i as u16);
            }
        }
        // SAFETY: as above. Interrupts are not wanted, ever.
        unsafe { available.write(1) };
        let mut ring = Split {
            size: size as u32,
            descriptors,
            available,
            used,
            posted: 0,
            taken: 0,
            disorder: false,
        };
        if posted {
            ring.post(size as u32);
        }
        Ok(ring)
    }

    fn config(&self) -> VringConfigData {
        VringConfigData {
            queue_max_size: self.size as u16,
            queue_size: self.size as u16,
            flags: 0,
            desc_table_addr: self.descriptors as u64,
            used_ring_addr: self.used as u64,
            avail_ring_addr: self.available as u64,
            log_addr: None,
        }
    }

    #[inline(always)]
    fn used(&mut self, max: u32) -> u32 {
        let n = u32::from(self.used_index().wrapping_sub(self.taken)).min(max);
        let mut wrong = 0;
        for i in 0..n {
            let at = self.taken.wrapping_add(i as u16);
            // SAFETY: an element of the used ring, below the index that the device published.
            wrong |=
                unsafe { self.element(at).read_volatile() } ^ (u32::from(at) & (self.size - 1));
        }
        self.disorder |= wrong != 0;
        n
    }

    #[inline(always)]
    fn used_slot(&self, i: u32) -> u32 {
        (u32::from(self.taken) + i) & (self.size - 1)
    }

    #[inline(always)]
    fn used_len(&self, i: u32) -> u32 {
        // SAFETY: an element of the used ring.
        unsafe {
            self.element(self.taken.wrapping_add(i as u16))
                .add(1)
                .read_volatile()
        }
    }

    #[inline(always)]
    fn take(&mut self, n: u32) {
        self.taken = self.taken.wrapping_add(n as u16);
    }

    #[inline(always)]
    fn free_slot(&self, i: u32) -> u32 {
        (u32::from(self.posted) + i) & (self.size - 1)
    }

    #[inline(always)]
    fn post(&mut self, n: u32) -> bool {
        self.posted = self.posted.wrapping_add(n as u16);
        // SAFETY: the available ring's second word, aligned; the device reads it.
        unsafe { AtomicU16::from_ptr(self.available.add(1)) }.store(self.posted, Ordering::Release);
        fence(Ordering::SeqCst);
        // SAFETY: the used ring's flags; the device writes them.
        unsafe { AtomicU16::from_ptr(self.used) }.load(Ordering::Relaxed) & 1 == 0
    }

    #[inline(always)]
    fn outstanding(&self) -> u32 {
        u32::from(self.posted.wrapping_sub(self.taken))
    }

    fn disordered(&self) -> bool {
        self.disorder
    }
}

const PACKED_AVAILABLE: u16 = 1 << 7;
const PACKED_USED: u16 = 1 << 15;

/// A packed ring (virtio 1.2 2.8). A buffer is one descriptor, whose id is its slot.
pub struct Packed {
    size: u32,
    descriptors: *mut Descriptor,
    driver_event: *mut u16,
    device_event: *mut u16,
    buffers: Vec<Buffer>,
    /// Counted on and on: the slot is the low bits, the wrap counter the bit above them.
    posted: u32,
    taken: u32,
    disorder: bool,
}

// SAFETY: as for the split ring.
unsafe impl Send for Packed {}

impl Packed {
    /// The second half of a descriptor, written and read at once: length, id, flags.
    fn second(&self, slot: u32) -> &AtomicU64 {
        // SAFETY: the slot is inside the ring, its second half is aligned, and both sides access it by this word or parts.
        unsafe { AtomicU64::from_ptr(self.descriptors.add(slot as usize).cast::<u64>().add(1)) }
    }

    fn wrap(&self, at: u32) -> bool {
        at & self.size == 0
    }
}

impl Ring for Packed {
    const FEATURES: u64 = 1 << 34;
    const NAME: &'static str = "packed";

    fn new(memory: &mut Memory, buffers: &[Buffer], posted: bool) -> Result<Packed> {
        let size = buffers.len();
        assert!(size.is_power_of_two() && size <= 32768);
        let descriptors = memory.take(16 * size, 4096)?.cast::<Descriptor>();
        let driver_event = memory.take(4, 4096)?.cast::<u16>();
        let device_event = memory.take(4, 4096)?.cast::<u16>();
        for (i, b) in buffers.iter().enumerate() {
            // SAFETY: all of this memory was just taken, in these sizes, and no device knows of it yet.
            unsafe {
                descriptors.add(i).write(Descriptor {
                    address: b.address,
                    len: b.len,
                    third: i as u16,
                    fourth: 0,
                });
            }
        }
        // SAFETY: as above. Interrupts are not wanted (2.8.14: flags behind the offset).
        unsafe { driver_event.add(1).write(1) };
        let mut ring = Packed {
            size: size as u32,
            descriptors,
            driver_event,
            device_event,
            buffers: buffers.to_vec(),
            posted: 0,
            taken: 0,
            disorder: false,
        };
        if posted {
            ring.post(size as u32);
        }
        Ok(ring)
    }

    fn config(&self) -> VringConfigData {
        VringConfigData {
            queue_max_size: self.size as u16,
            queue_size: self.size as u16,
            flags: 0,
            desc_table_addr: self.descriptors as u64,
            used_ring_addr: self.device_event as u64,
            avail_ring_addr: self.driver_event as u64,
            log_addr: None,
        }
    }

    #[inline(always)]
    fn used(&mut self, max: u32) -> u32 {
        let mut n = 0;
        let most = self.outstanding().min(max);
        while n < most {
            let at = self.taken + n;
            let slot = at & (self.size - 1);
            let word = self.second(slot).load(Ordering::Acquire);
            let flags = (word >> 48) as u16;
            let wanted = if self.wrap(at) {
                PACKED_AVAILABLE | PACKED_USED
            } else {
                0
            };
            if flags & (PACKED_AVAILABLE | PACKED_USED) != wanted {
                break;
            }
            self.disorder |= (word >> 32) as u16 != slot as u16;
            n += 1;
        }
        n
    }

    #[inline(always)]
    fn used_slot(&self, i: u32) -> u32 {
        (self.taken + i) & (self.size - 1)
    }

    #[inline(always)]
    fn used_len(&self, i: u32) -> u32 {
        self.second(self.used_slot(i)).load(Ordering::Relaxed) as u32
    }

    #[inline(always)]
    fn take(&mut self, n: u32) {
        self.taken += n;
        // Both stay close: neither wraps around before the other is behind it.
        if self.taken >= 1 << 30 {
            let turn = (1 << 30) & !(2 * self.size - 1);
            self.taken -= turn;
            self.posted -= turn;
        }
    }

    #[inline(always)]
    fn free_slot(&self, i: u32) -> u32 {
        (self.posted + i) & (self.size - 1)
    }

    #[inline(always)]
    fn post(&mut self, n: u32) -> bool {
        // Front to back: the device stops at the first that is not available.
        for i in 0..n {
            let at = self.posted + i;
            let slot = at & (self.size - 1);
            let b = &self.buffers[slot as usize];
            let wrap = if self.wrap(at) {
                PACKED_AVAILABLE
            } else {
                PACKED_USED
            };
            let word = u64::from(b.len) | u64::from(slot) << 32 | u64::from(b.flags | wrap) << 48;
            self.second(slot).store(word, Ordering::Release);
        }
        self.posted += n;
        fence(Ordering::SeqCst);
        // SAFETY: the device's event suppression: flags behind the offset; the device writes them.
        unsafe { AtomicU16::from_ptr(self.device_event.add(1)) }.load(Ordering::Relaxed) & 3 != 1
    }

    #[inline(always)]
    fn outstanding(&self) -> u32 {
        self.posted - self.taken
    }

    fn disordered(&self) -> bool {
        self.disorder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(n: usize) -> Vec<Buffer> {
        (0..n)
            .map(|i| Buffer {
                address: 0x1000 * i as u64,
                len: 64,
                flags: 0,
            })
            .collect()
    }

    /// Plays the device: returns each buffer once, several times around the ring.
    #[test]
    fn split_slots_come_back_in_order_and_disorder_is_noticed() {
        let mut m = Memory::new(1 << 20).expect("memory");
        let mut r = Split::new(&mut m, &buffers(8), false).expect("ring");
        for round in 0..100u16 {
            assert_eq!(r.free_slot(0), u32::from(round * 3) % 8);
            assert!(r.post(3), "no device has asked for silence");
            // SAFETY: the ring's own memory, by the test's one thread.
            unsafe {
                assert_eq!(r.available.add(1).read(), (round + 1) * 3);
                for i in 0..3 {
                    let e = r.element(round * 3 + i).cast_mut();
                    e.write(u32::from(round * 3 + i) % 8);
                    e.add(1).write(u32::from(i) + 12);
                }
                r.used.add(1).write((round + 1) * 3);
            }
            assert_eq!((r.used(2), r.used(9)), (2, 3));
            assert_eq!(
                (r.used_len(2), r.used_slot(1)),
                (14, u32::from(round * 3 + 1) % 8)
            );
            r.take(3);
            assert_eq!(r.outstanding(), 0);
        }
        assert!(!r.disordered());
        r.post(1);
        // SAFETY: as above.
        unsafe {
            r.element(300).cast_mut().write(7);
            r.used.add(1).write(301);
        }
        assert_eq!(r.used(1), 1);
        assert!(r.disordered());
    }

    #[test]
    fn packed_wrap_counters_turn() {
        let mut m = Memory::new(1 << 20).expect("memory");
        let mut r = Packed::new(&mut m, &buffers(4), false).expect("ring");
        for round in 0..50u32 {
            r.post(3);
            assert_eq!(r.used(9), 0, "available is not used");
            for i in 0..2 {
                let at = round * 3 + i;
                let wrap = r.wrap(at);
                let word = r.second(at % 4).load(Ordering::Relaxed);
                let flags = (word >> 48) as u16;
                assert_eq!(flags & PACKED_AVAILABLE != 0, wrap);
                assert_eq!(flags & PACKED_USED != 0, !wrap);
                let flags = if wrap {
                    PACKED_AVAILABLE | PACKED_USED
                } else {
                    0
                };
                let word = 99 | u64::from(at % 4) << 32 | u64::from(flags) << 48;
                r.second(at % 4).store(word, Ordering::Relaxed);
            }
            assert_eq!(r.used(9), 2);
            assert_eq!(r.used_len(1), 99);
            r.take(2);
            // The third comes later.
            let at = round * 3 + 2;
            let flags = if r.wrap(at) {
                PACKED_AVAILABLE | PACKED_USED
            } else {
                0
            };
            let word = 99 | u64::from(at % 4) << 32 | u64::from(flags) << 48;
            r.second(at % 4).store(word, Ordering::Relaxed);
            assert_eq!(r.used(9), 1);
            r.take(1);
        }
        assert!(!r.disordered());
    }
}
