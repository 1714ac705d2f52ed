//! The driver's side of a ring of either layout, over a memory file, for tests and [fuzzing](super::fuzz).
//!
//! It reads and writes the shared memory with file calls, byte for byte as told: slow, safe, and able to do everything a
//! driver must not do. [`Driver::offer`] and [`Driver::collect`] are the well-behaved way.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Layout, Ring, feature};
use crate::memory::{GuestMemory, RegionSpec};
use crate::sys::mmap;

/// Guest-physical address where a driver's memory begins.
pub const GUEST_BASE: u64 = 0x10_0000;
/// The monitor's address of the same.
pub const USER_BASE: u64 = 0x7f00_0000_0000;
/// Descriptor flag: another follows.
pub const NEXT: u16 = 1;
/// Descriptor flag: the device writes.
pub const WRITE: u16 = 2;
/// Descriptor flag: a table of descriptors.
pub const INDIRECT: u16 = 4;
/// Descriptor flag in packed rings: equal to the driver's wrap counter when made available.
pub const AVAIL: u16 = 1 << 7;
/// Descriptor flag in packed rings: equal to the device's wrap counter when used.
pub const USED: u16 = 1 << 15;

/// What a packed ring's driver remembers.
#[derive(Clone, Debug)]
struct Packed {
    /// Wrap counter of the next descriptor to make available.
    wrap: bool,
    /// And of the next to become used.
    used_wrap: bool,
}

impl Packed {
    fn new() -> Packed {
        Packed {
            wrap: true,
            used_wrap: true,
        }
    }
}

/// A driver with its memory.
#[derive(Debug)]
pub struct Driver {
    file: File,
    size: u16,
    memory_len: u64,
    /// Where the memory is divided into two regions, if it is.
    split: Option<u64>,
    ring: u64,
    next_avail: u16,
    next_used: u16,
    next_descriptor: u16,
    next_data: u64,
    packed: Option<Packed>,
    in_order: bool,
    /// What was offered and not collected, number and entries, where that has to be known.
    offered: VecDeque<(u16, u16)>,
    /// By entry of a packed ring: length and flags as they were offered.
    lengths: Vec<(u32, u16)>,
}

impl Driver {
    /// A packed queue of `size` entries at the start of `memory_len` bytes.
    pub fn packed(size: u16, memory_len: u64) -> io::Result<Driver> {
        let mut driver = Driver::new(size, memory_len)?;
        driver.packed = Some(Packed::new());
        driver.next_data = driver.ring_end();
        Ok(driver)
    }

    /// A split queue of `size` entries at the start of `memory_len` bytes.
    pub fn new(size: u16, memory_len: u64) -> io::Result<Driver> {
        let file = mmap::memfd(c"weir-test-guest", memory_len)?;
        let mut driver = Driver {
            file,
            size,
            memory_len,
            split: None,
            ring: 0,
            next_avail: 0,
            next_used: 0,
            next_descriptor: 0,
            next_data: 0,
            packed: None,
            in_order: false,
            offered: VecDeque::new(),
            lengths: vec![(0, 0); size.into()],
        };
        driver.next_data = driver.ring_end();
        Ok(driver)
    }

    /// A second queue in the same memory, at offset `ring`, its data from `data` on.
    pub fn sibling(&self, ring: u64, data: u64) -> io::Result<Driver> {
        Ok(Driver {
            file: self.file.try_clone()?,
            ring,
            next_avail: 0,
            next_used: 0,
            next_descriptor: 0,
            next_data: data,
            packed: self.packed.as_ref().map(|_| Packed::new()),
            offered: VecDeque::new(),
            lengths: self.lengths.clone(),
            ..*self
        })
    }

    /// Forgets the queue's state, for another device to start with.
    pub fn next_queue(&mut self) {
        self.write(self.ring, &vec![0; (self.ring_end() - self.ring) as usize]);
        (self.next_avail, self.next_used, self.next_descriptor) = (0, 0, 0);
        self.packed = self.packed.as_ref().map(|_| Packed::new());
        self.offered.clear();
    }

    /// The driver negotiates that buffers are used in order.
    #[must_use]
    pub fn in_order(mut self) -> Driver {
        self.in_order = true;
        self
    }

    /// The memory as two regions, divided at this offset (a multiple of the page size).
    #[must_use]
    pub fn divided(mut self, at: u64) -> Driver {
        self.split = Some(at);
        self
    }

    fn avail_at(&self) -> u64 {
        self.ring + 16 * u64::from(self.size)
    }

    fn used_at(&self) -> u64 {
        if self.packed.is_some() {
            return self.avail_at() + 4;
        }
        (self.avail_at() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }

    /// The first offset behind the queue, where data may lie.
    pub fn ring_end(&self) -> u64 {
        if self.packed.is_some() {
            return (self.used_at() + 4).next_multiple_of(64);
        }
        (self.used_at() + 6 + 8 * u64::from(self.size)).next_multiple_of(64)
    }

    /// The memory's file.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// The file itself, to be truncated.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The regions to be announced.
    pub fn regions(&self) -> Vec<RegionSpec> {
        let region = |from: u64, to: u64| RegionSpec {
            guest_addr: GUEST_BASE + from,
            size: to - from,
            user_addr: USER_BASE + from,
            mmap_offset: from,
        };
        match self.split {
            None => vec![region(0, self.memory_len)],
            Some(at) => vec![region(0, at), region(at, self.memory_len)],
        }
    }

    /// The memory as the device maps it.
    pub fn memory(&self) -> Arc<GuestMemory> {
        let regions = self
            .regions()
            .into_iter()
            .map(|r| (r, self.fd().expect("a descriptor")));
        Arc::new(GuestMemory::map(regions.collect()).expect("the driver's own memory"))
    }

    /// Where the queue lies.
    pub fn layout(&self) -> Layout {
        Layout {
            size: self.size,
            descriptors: USER_BASE + self.ring,
            available: USER_BASE + self.avail_at(),
            used: USER_BASE + self.used_at(),
            base: if self.packed.is_some() { 0x8000 } else { 0 },
        }
    }

    /// The feature bits that belong to the layout.
    pub fn layout_features(&self) -> u64 {
        let packed = if self.packed.is_some() {
            feature::RING_PACKED
        } else {
            0
        };
        packed | if self.in_order { feature::IN_ORDER } else { 0 }
    }

    /// Starts the device's side of this queue.
    pub fn start(&self, features: u64) -> Ring {
        Ring::start(
            self.memory(),
            &self.layout(),
            features | self.layout_features(),
            None,
            Arc::default(),
        )
        .expect("a valid queue")
    }

    /// Writes at an offset of the memory (what lies beyond its end is lost).
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let room = self
            .memory_len
            .saturating_sub(offset)
            .min(bytes.len() as u64) as usize;
        self.file
            .write_all_at(&bytes[..room], offset)
            .expect("a memory file");
    }

    /// Reads at an offset of the memory (zeros beyond its end).
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let room = self.memory_len.saturating_sub(offset).min(len as u64) as usize;
        self.file
            .read_exact_at(&mut bytes[..room], offset)
            .expect("a memory file");
        bytes
    }

    fn read16(&self, offset: u64) -> u16 {
        let b = self.read(offset, 2);
        u16::from_le_bytes([b[0], b[1]])
    }

    /// Writes descriptor `i` of the table at `table`. In a packed ring `next` is the buffer's number.
    pub fn set_descriptor(&self, table: u64, i: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = addr.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        let (first, second) = match self.packed {
            None => (flags, next),
            Some(_) => (next, flags),
        };
        bytes.extend(first.to_le_bytes());
        bytes.extend(second.to_le_bytes());
        self.write(table + 16 * u64::from(i), &bytes);
    }

    /// Puts a head into the available ring and moves the index.
    pub fn make_available(&mut self, head: u16) {
        if self.in_order {
            self.offered.push_back((head, 1));
        }
        self.write(
            self.avail_at() + 4 + 2 * u64::from(self.next_avail % self.size),
            &head.to_le_bytes(),
        );
        self.set_available_index(self.next_avail.wrapping_add(1));
    }

    /// Writes the available index.
    pub fn set_available_index(&mut self, index: u16) {
        self.next_avail = index;
        self.write(self.avail_at() + 2, &index.to_le_bytes());
    }

    /// Writes the available flags (1: no interrupts).
    pub fn set_available_flags(&self, flags: u16) {
        let at = self.avail_at() + if self.packed.is_some() { 2 } else { 0 };
        self.write(at, &flags.to_le_bytes());
    }

    /// Writes `used_event`: interrupt when the used index passes it (packed: with the wrap counter in bit 15).
    pub fn set_used_event(&self, index: u16) {
        if self.packed.is_some() {
            self.write(self.avail_at(), &index.to_le_bytes());
            return self.set_available_flags(2);
        }
        self.write(
            self.avail_at() + 4 + 2 * u64::from(self.size),
            &index.to_le_bytes(),
        );
    }

    /// Reads the used flags (1: no kicks).
    pub fn used_flags(&self) -> u16 {
        if self.packed.is_some() {
            return self.read16(self.used_at() + 2);
        }
        self.read16(self.used_at())
    }

    /// Reads `avail_event`.
    pub fn avail_event(&self) -> u16 {
        if self.packed.is_some() {
            return self.read16(self.used_at());
        }
        self.read16(self.used_at() + 4 + 8 * u64::from(self.size))
    }

    /// Offset of room for `len` bytes. Room is handed out round about; nothing is ever freed.
    pub fn room(&mut self, len: usize) -> u64 {
        if self.next_data + len as u64 > self.memory_len {
            self.next_data = self.ring_end();
        }
        let at = self.next_data;
        self.next_data = (at + len as u64).next_multiple_of(16);
        at
    }

    /// Offers the pieces as one chain of direct descriptors; returns the head.
    pub fn offer(&mut self, pieces: &[(u64, u32)], flags: u16) -> u16 {
        let head = self.next_descriptor;
        let mut entries = Vec::new();
        for (k, (offset, len)) in pieces.iter().enumerate() {
            let i = self.next_descriptor;
            self.next_descriptor = (i + 1) % self.size;
            let more = if k + 1 < pieces.len() { NEXT } else { 0 };
            entries.push((i, GUEST_BASE + offset, *len, flags | more));
        }
        self.chain(head, &entries);
        head
    }

    /// Writes a chain's entries and makes it available.
    fn chain(&mut self, head: u16, entries: &[(u16, u64, u32, u16)]) {
        let Some(packed) = &self.packed else {
            for &(i, addr, len, flags) in entries {
                self.set_descriptor(self.ring, i, addr, len, flags, (i + 1) % self.size);
            }
            return self.make_available(head);
        };
        let mut wrap = packed.wrap;
        let mut written = Vec::new();
        for &(i, addr, len, flags) in entries {
            let turn = if wrap { AVAIL } else { USED };
            written.push((i, addr, len, flags | turn));
            self.lengths[usize::from(i)] = (len, flags);
            wrap ^= i + 1 == self.size;
        }
        // The first one last: it makes all of them available.
        for &(i, addr, len, flags) in written.iter().rev() {
            self.set_descriptor(self.ring, i, addr, len, flags, head);
        }
        if let Some(packed) = &mut self.packed {
            packed.wrap = wrap;
        }
        self.offered.push_back((head, entries.len() as u16));
    }

    /// Offers the pieces by an indirect table; returns the head.
    pub fn offer_indirect(&mut self, pieces: &[(u64, u32)], flags: u16) -> u16 {
        let table = self.room(16 * pieces.len());
        for (k, (offset, len)) in pieces.iter().enumerate() {
            let more = if k + 1 < pieces.len() { NEXT } else { 0 };
            self.set_descriptor(
                table,
                k as u16,
                GUEST_BASE + offset,
                *len,
                flags | more,
                k as u16 + 1,
            );
        }
        let head = self.next_descriptor;
        self.next_descriptor = (head + 1) % self.size;
        let len = 16 * pieces.len() as u32;
        self.chain(head, &[(head, GUEST_BASE + table, len, INDIRECT)]);
        head
    }

    /// Offers header and frame as one piece.
    pub fn offer_frame(&mut self, header: &[u8], frame: &[u8]) -> u16 {
        let at = self.room(header.len() + frame.len());
        self.write(at, header);
        self.write(at + header.len() as u64, frame);
        self.offer(&[(at, (header.len() + frame.len()) as u32)], 0)
    }

    /// Offers an empty buffer to be written; returns where it lies.
    pub fn offer_buffer(&mut self, len: u32) -> u64 {
        let at = self.room(len as usize);
        self.offer(&[(at, len)], WRITE);
        at
    }

    /// The used elements that are new: (head, length).
    pub fn collect(&mut self) -> Vec<(u32, u32)> {
        if self.packed.is_some() {
            return self.collect_packed();
        }
        let index = self.read16(self.used_at() + 2);
        let mut new = Vec::new();
        while self.next_used != index && new.len() < usize::from(self.size) {
            let at = self.used_at() + 4 + 8 * u64::from(self.next_used % self.size);
            let b = self.read(at, 8);
            let head = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let len = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
            if self.in_order {
                let entries = self.retire(head, len, &mut new);
                if entries == 0 {
                    break;
                }
                self.next_used = self.next_used.wrapping_add(entries);
            } else {
                new.push((head, len));
                self.next_used = self.next_used.wrapping_add(1);
            }
        }
        new
    }

    /// What was offered up to this number, in order, or it alone, is used; says how many entries that are.
    fn retire(&mut self, id: u32, len: u32, new: &mut Vec<(u32, u32)>) -> u16 {
        let Some(at) = (self.offered.iter()).position(|(head, _)| u32::from(*head) == id) else {
            return 0;
        };
        let mut entries = 0;
        let first = if self.in_order { 0 } else { at };
        for (head, n) in self.offered.drain(first..=at) {
            let len = if u32::from(head) == id { len } else { 0 };
            new.push((head.into(), len));
            entries += n;
        }
        entries
    }

    fn collect_packed(&mut self) -> Vec<(u32, u32)> {
        let mut new = Vec::new();
        while new.len() < usize::from(self.size) {
            let b = self.read(self.ring + 16 * u64::from(self.next_used) + 8, 8);
            let packed = self.packed.as_ref().expect("a packed ring");
            let flags = u16::from_le_bytes([b[6], b[7]]);
            let wanted = if packed.used_wrap { AVAIL | USED } else { 0 };
            if flags & (AVAIL | USED) != wanted {
                break;
            }
            let id = u32::from(u16::from_le_bytes([b[4], b[5]]));
            let len = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            // Without such a chain somebody else wrote the descriptor, or nobody did yet.
            let entries = self.retire(id, len, &mut new);
            if entries == 0 {
                break;
            }
            self.next_used += entries;
            if self.next_used >= self.size {
                self.next_used -= self.size;
                let packed = self.packed.as_mut().expect("a packed ring");
                packed.used_wrap = !packed.used_wrap;
            }
        }
        new
    }

    /// Makes the next `n` chains available that were offered before, a lap ago, each of one entry: what lies in the ring is
    /// used again as it is. For benches, which do not want to pay for more.
    pub fn offer_again(&mut self, n: u16) {
        let Some(packed) = &mut self.packed else {
            return self.set_available_index(self.next_avail.wrapping_add(n));
        };
        let (ring, mut wrap) = (self.ring, packed.wrap);
        let mut i = self.next_descriptor;
        let mut left = n;
        while left > 0 {
            let run = left.min(self.size - i);
            let at = ring + 16 * u64::from(i);
            let mut bytes = self.read(at, 16 * usize::from(run));
            for (k, entry) in bytes.chunks_exact_mut(16).enumerate() {
                let (len, flags) = self.lengths[usize::from(i) + k];
                entry[8..12].copy_from_slice(&len.to_le_bytes());
                let turn = if wrap { AVAIL } else { USED };
                entry[14..].copy_from_slice(&(flags | turn).to_le_bytes());
            }
            self.write(at, &bytes);
            left -= run;
            i += run;
            if i == self.size {
                (i, wrap) = (0, !wrap);
            }
        }
        self.next_descriptor = i;
        if let Some(packed) = &mut self.packed {
            packed.wrap = wrap;
        }
    }
}
