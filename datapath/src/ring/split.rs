//! Split virtqueues (virtio 1.2 2.7), made for many small packets.
//!
//! # The idea
//!
//! On one machine a packet's cost is mostly the cache lines that travel between the guest's processor and ours: the available
//! ring, the descriptor, the buffer, the used ring. A line takes longer to come than a packet takes to be
//! copied, so the work is done in stages over a whole batch, and each stage asks for the lines that the next one will
//! need:
//!
//! 1. read the available index once; read the heads; prefetch their descriptors,
//! 2. read the descriptors, translate addresses, prefetch the buffers (for writing where we will write),
//! 3. copy headers and data, the virtio-net header together with the data that shares its line,
//! 4. write all used elements, then the used index once.
//!
//! The queue's own addresses are translated and checked when it starts, and are raw pointers from then on. The usual buffer, one
//! direct descriptor inside one region, takes a short path; chains, indirect tables and buffers that cross regions take
//! the general one ([`Chains::walk`]).
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
//! Threads: a ring is used by whoever holds its slot, one at a time.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::{BadChain, Layout, MAX_SIZE, RingError, Scratch, feature};
use crate::memory::{GuestMemory, RegionCache};
use crate::packet::{
    BATCH, Batch, Checksum, GsoKind, HEAD_MAX, Offload, OwnedPacket, PACKET_MAX, Segment, segment,
};
use crate::port::TxOutcome;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Available ring flag: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// Used ring flag: the device wants no kicks.
const NO_NOTIFY: u16 = 1;
/// Bytes of a descriptor.
const DESCRIPTOR: u32 = 16;
/// Entries of an indirect table; no driver comes near, and it bounds the work one chain can cause.
const MAX_INDIRECT: u32 = 1024;
/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;

/// A copy of a descriptor.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A buffer found ahead of its use.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    /// Null: not a single direct descriptor; take the general way.
    at: *mut u8,
    len: u32,
    head: u16,
}

const NOTHING: Ahead = Ahead {
    at: ptr::null_mut(),
    len: 0,
    head: 0,
};

/// Asks for a line that will be read.
#[inline(always)]
fn prefetch_read(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes nothing but the cache.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for a line that will be written.
#[inline(always)]
fn prefetch_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as `prefetch_read`; processors without the instruction treat it as a no-operation.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Copies `n` bytes with few branches for the lengths that headers and small packets have.
///
/// # Safety
///
/// `n` bytes at `from` must be readable, `n` at `to` writable, without overlap. `from` may change meanwhile.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    /// As the outer function, for N bytes in one move.
    #[inline(always)]
    unsafe fn piece<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
        // SAFETY: the caller checked that `at + N <= n`.
        unsafe {
            to.add(at)
                .cast::<[u8; N]>()
                .write_unaligned(from.add(at).cast::<[u8; N]>().read_unaligned())
        };
    }
    // SAFETY: every piece ends at or before `n`; the contract is the caller's.
    unsafe {
        if n > 256 || n < 16 {
            ptr::copy_nonoverlapping(from, to, n);
        } else if n >= 32 {
            let mut at = 0;
            while at + 32 <= n {
                piece::<32>(from, to, at);
                at += 32;
            }
            // The last piece overlaps the one before it; the bytes are the same.
            piece::<32>(from, to, n - 32);
        } else {
            piece::<16>(from, to, 0);
            piece::<16>(from, to, n - 16);
        }
    }
}

/// The descriptor table and the memory its addresses mean.
#[derive(Debug)]
struct Chains {
    table: *const u8,
    size: u16,
    indirect: bool,
    memory: Arc<GuestMemory>,
    cache: RegionCache,
}

impl Chains {
    /// Reads entry `i` of a table, once.
    ///
    /// # Safety
    ///
    /// Sixteen bytes at `table + 16 * i` must be inside a mapping, and `table` aligned to 8.
    #[inline(always)]
    unsafe fn read(table: *const u8, i: usize) -> Descriptor {
        let at = table.wrapping_add(i * DESCRIPTOR as usize).cast::<u64>();
        // SAFETY: the caller's promise. The guest may write meanwhile: any bits are valid. Volatile, so that they are read
        // once and judged in this copy only.
        let (addr, rest) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
        let (addr, rest) = (u64::from_le(addr), u64::from_le(rest));
        Descriptor {
            addr,
            len: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        }
    }

    /// If `head` is one direct descriptor in one region with the wanted direction: where its buffer lies.
    #[inline(always)]
    fn single(&mut self, head: u16, flags: u16) -> Ahead {
        debug_assert!(head < self.size);
        // SAFETY: the table has `size` entries, checked at the start, and `head` is below that.
        let d = unsafe { Chains::read(self.table, usize::from(head)) };
        let at = if d.flags == flags && d.len > 0 {
            self.memory
                .translate(&mut self.cache, d.addr, d.len)
                .unwrap_or(ptr::null_mut())
        } else {
            ptr::null_mut()
        };
        Ahead {
            at,
            len: d.len,
            head,
        }
    }

    /// Walks the chain from `head` on and calls `each` with every run of bytes, in order, until it says that it has enough
    /// (`false`).
    fn walk(
        &mut self,
        head: u16,
        writable: bool,
        mut each: impl FnMut(*mut u8, u32) -> Result<bool, BadChain>,
    ) -> Result<(), BadChain> {
        let mut table = self.table;
        let mut entries = u32::from(self.size);
        let mut i = u32::from(head);
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
            // with its whole length below; `i` is below that.
            let d = unsafe { Chains::read(table, i as usize) };
            if d.flags & INDIRECT != 0 {
                let count = d.len / DESCRIPTOR;
                if nested
                    || !self.indirect
                    || d.flags & NEXT != 0
                    || !d.len.is_multiple_of(DESCRIPTOR)
                {
                    return Err(BadChain::Indirect);
                }
                if count == 0 || count > MAX_INDIRECT {
                    return Err(BadChain::Indirect);
                }
                table = self
                    .memory
                    .translate(&mut self.cache, d.addr, d.len)
                    .ok_or(BadChain::Address)?;
                if !table.cast::<u64>().is_aligned() {
                    return Err(BadChain::Indirect);
                }
                (entries, steps, i, nested) = (count, count, 0, true);
                continue;
            }
            if (d.flags & WRITE != 0) != writable {
                return Err(BadChain::Direction);
            }
            if d.len == 0 {
                return Err(BadChain::Empty);
            }
            let (mut addr, mut left) = (d.addr, d.len);
            while left > 0 {
                let (at, room) = self
                    .memory
                    .translate_some(&mut self.cache, addr)
                    .ok_or(BadChain::Address)?;
                let n = room.min(u64::from(left)) as u32;
                if !each(at, n)? {
                    return Ok(());
                }
                left -= n;
                addr += u64::from(n);
            }
            if d.flags & NEXT == 0 {
                return Ok(());
            }
            i = u32::from(d.next);
        }
    }
}

/// A split virtqueue.
#[derive(Debug)]
pub struct SplitRing {
    chains: Chains,
    size: u16,
    mask: u16,
    /// Driver area: flags, index, ring, used_event.
    avail: *const u16,
    /// Device area: flags, index, ring of (u32, u32), avail_event.
    used: *mut u16,
    /// Next available entry to look at.
    next_avail: u16,
    /// The available index when last read.
    avail_seen: u16,
    /// Next used entry to write; published when `give_back` or `enqueue` ends.
    next_used: u16,
    /// The used index when the guest was last considered for an interrupt.
    signalled: u16,
    header: usize,
    mergeable: bool,
    event_idx: bool,
    notify_on_empty: bool,
    /// What was negotiated.
    features: u64,
    /// Heads taken by `dequeue` and not given back.
    taken: [u16; BATCH],
    taken_len: usize,
    ahead: [Ahead; BATCH],
    error: Option<RingError>,
}

// SAFETY: the pointers lie in `chains.memory`, which the ring keeps alive; nothing in it belongs to a thread.
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// Checks where the queue lies and starts it.
    pub fn new(
        memory: Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
    ) -> Result<SplitRing, RingError> {
        let size = layout.size;
        if !size.is_power_of_two() || size > MAX_SIZE {
            return Err(RingError::Size(size));
        }
        let entries = u64::from(size);
        let place = |what: &'static str, addr: u64, len: u64, align: usize| {
            let at = memory
                .translate_user(addr, len)
                .ok_or(RingError::Outside(what, addr, len))?;
            if (at as usize).is_multiple_of(align) {
                Ok(at)
            } else {
                Err(RingError::Alignment(what, addr, align))
            }
        };
        let table = place("descriptor table", layout.descriptors, 16 * entries, 16)?;
        let avail = place("available ring", layout.available, 6 + 2 * entries, 2)?;
        let used = place("used ring", layout.used, 6 + 8 * entries, 4)?;
        let mergeable = features & feature::MRG_RXBUF != 0;
        let mut ring = SplitRing {
            size,
            mask: size - 1,
            avail: avail.cast::<u16>(),
            used: used.cast::<u16>(),
            next_avail: layout.base,
            avail_seen: layout.base,
            next_used: 0,
            signalled: 0,
            // virtio 1.2 5.1.6.1: `num_buffers` is there with VERSION_1 or MRG_RXBUF.
            header: if mergeable || features & feature::VERSION_1 != 0 {
                12
            } else {
                10
            },
            mergeable,
            event_idx: features & feature::EVENT_IDX != 0,
            notify_on_empty: features & feature::NOTIFY_ON_EMPTY != 0,
            features,
            taken: [0; BATCH],
            taken_len: 0,
            ahead: [NOTHING; BATCH],
            error: None,
            chains: Chains {
                table,
                size,
                indirect: features & feature::INDIRECT_DESC != 0,
                memory,
                cache: RegionCache::default(),
            },
        };
        // The used index lives in the guest's memory only; it goes on from what the last device left there.
        let used_index = ring.used_index().load(Ordering::Acquire);
        ring.next_used = u16::from_le(used_index);
        ring.signalled = ring.next_used;
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

    /// Writes a used element at `next_used` without publishing it.
    #[inline(always)]
    fn put_used(&mut self, head: u16, len: u32) {
        let i = usize::from(self.next_used & self.mask);
        let element = (u64::from(len) << 32 | u64::from(head)).to_le();
        // SAFETY: element `i < size` of the used ring.
        unsafe {
            self.used
                .add(2 + 4 * i)
                .cast::<u64>()
                .write_unaligned(element)
        };
        self.next_used = self.next_used.wrapping_add(1);
    }

    #[inline(always)]
    fn publish_used(&self) {
        self.used_index()
            .store(self.next_used.to_le(), Ordering::Release);
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
            self.give_up(RingError::IndexJump {
                from: self.next_avail,
                to: index,
                size: self.size,
            });
            return 0;
        }
        self.avail_seen = index;
        n
    }

    #[cold]
    fn give_up(&mut self, error: RingError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }

    /// Stages 1 and 2 for the next `n` available chains.
    #[inline(always)]
    fn look_ahead(&mut self, n: usize, flags: u16, prefetch: impl Fn(*const u8)) -> usize {
        for k in 0..n {
            let head = self.avail_entry(self.next_avail.wrapping_add(k as u16) & self.mask);
            self.ahead[k].head = head;
            prefetch_read(
                self.chains
                    .table
                    .wrapping_add(usize::from(head & self.mask) * DESCRIPTOR as usize),
            );
        }
        for k in 0..n {
            let head = self.ahead[k].head;
            if head >= self.size {
                // It has no number that could be given back.
                self.give_up(RingError::Head(head, self.size));
                return k;
            }
            let ahead = self.chains.single(head, flags);
            if !ahead.at.is_null() {
                prefetch(ahead.at);
                // Header and first bytes of a frame seldom share one line.
                prefetch(ahead.at.wrapping_add(64));
            }
            self.ahead[k] = ahead;
        }
        n
    }

    /// Takes up to a batch of packets; says how many, and how many chains were malformed. The batch's segments point into guest
    /// memory until [`SplitRing::give_back`].
    #[inline]
    pub fn dequeue(&mut self, batch: &mut Batch) -> (usize, u32) {
        if self.error.is_some() {
            return (0, 0);
        }
        let want = batch.room().min(BATCH - self.taken_len);
        let n = usize::from(self.available(want as u16)).min(want);
        if n == 0 {
            return (0, 0);
        }
        let n = self.look_ahead(n, 0, prefetch_read);
        let (mut good, mut bad) = (0, 0);
        for k in 0..n {
            let Ahead { at, len, head } = self.ahead[k];
            let taken = if at.is_null() {
                self.take_chain(head, batch)
            } else {
                // SAFETY: `at` was translated with `len` and lies in memory that the ring keeps.
                unsafe { self.take_single(at, len as usize, batch) }
            };
            match taken {
                Ok(()) => {
                    batch.commit();
                    good += 1;
                }
                Err(_) => bad += 1,
            }
            self.taken[self.taken_len] = head;
            self.taken_len += 1;
        }
        self.next_avail = self.next_avail.wrapping_add(n as u16);
        (good, bad)
    }

    /// A packet in one piece.
    ///
    /// # Safety
    ///
    /// `len` bytes at `at` must be inside memory that outlives the batch's use of them.
    #[inline(always)]
    unsafe fn take_single(
        &mut self,
        at: *const u8,
        len: usize,
        batch: &mut Batch,
    ) -> Result<(), BadChain> {
        let frame = len.wrapping_sub(self.header);
        if len < self.header + MIN_FRAME || frame > PACKET_MAX {
            return Err(BadChain::Length);
        }
        let Some(packet) = batch.begin() else {
            return Err(BadChain::Length);
        };
        // SAFETY: the header has 10 or 12 bytes, and `len` is more.
        let header = unsafe { at.cast::<[u8; 10]>().read_unaligned() };
        if header[0] | header[1] != 0 {
            packet.offload = self.offload(&header, frame)?;
        }
        let in_head = frame.min(HEAD_MAX);
        // SAFETY: `in_head <= frame` bytes follow the header; the head has room for HEAD_MAX.
        unsafe {
            copy(
                at.add(self.header),
                packet.head_space().as_mut_ptr(),
                in_head,
            )
        };
        packet.set_head(in_head);
        if frame > in_head {
            // SAFETY: the rest of the same buffer; it stays mapped until give_back, by the caller's promise.
            let pushed = unsafe {
                batch.push_segment(at.add(self.header + in_head), (frame - in_head) as u32)
            };
            if !pushed {
                return Err(BadChain::Length);
            }
        }
        Ok(())
    }

    /// A packet in any legal shape.
    fn take_chain(&mut self, head: u16, batch: &mut Batch) -> Result<(), BadChain> {
        if batch.begin().is_none() {
            return Err(BadChain::Length);
        }
        let mut header = [0u8; 12];
        let (mut header_len, mut head_len) = (0, 0);
        let want = self.header;
        self.chains.walk(head, false, |at, len| {
            let (mut at, mut left) = (at.cast_const(), len as usize);
            if header_len < want {
                let n = left.min(want - header_len);
                // SAFETY: `n <= left` readable bytes at `at`; room for 12 in `header`.
                unsafe { copy(at, header.as_mut_ptr().add(header_len), n) };
                header_len += n;
                at = at.wrapping_add(n);
                left -= n;
            }
            if head_len < HEAD_MAX && left > 0 {
                let n = left.min(HEAD_MAX - head_len);
                // SAFETY: `n <= left` readable bytes at `at`; `head_len + n <= HEAD_MAX`.
                unsafe {
                    copy(
                        at,
                        batch.current().head_space().as_mut_ptr().add(head_len),
                        n,
                    )
                };
                head_len += n;
                at = at.wrapping_add(n);
                left -= n;
                batch.current().set_head(head_len);
            }
            // SAFETY: guest memory that the ring keeps until give_back.
            if left > 0 && !unsafe { batch.push_segment(at, left as u32) } {
                return Err(BadChain::Length);
            }
            Ok(true)
        })?;
        if head_len < MIN_FRAME {
            return Err(BadChain::Length);
        }
        let ten = *header.first_chunk().expect("12 is more than 10");
        let packet = batch.current();
        packet.offload = self.offload(&ten, packet.len())?;
        Ok(())
    }

    /// Reads a header; what was not negotiated is an error.
    fn offload(&self, header: &[u8; 10], frame: usize) -> Result<Offload, BadChain> {
        let mut header = *header;
        // DATA_VALID and later flags are the device's to set, never the driver's (virtio 1.2 5.1.6.2).
        header[0] &= 1;
        let offload = Offload::from_vnet(&header, frame).map_err(|_| BadChain::Header)?;
        let needs = match offload.gso.kind {
            GsoKind::None => 0,
            GsoKind::Tcp4 => feature::HOST_TSO4,
            GsoKind::Tcp6 => feature::HOST_TSO6,
            // Datagram segmentation has no feature bit among ours.
            GsoKind::Udp => return Err(BadChain::Header),
        } | if offload.gso.ecn {
            feature::HOST_ECN
        } else {
            0
        } | if matches!(offload.checksum, Checksum::Needed { .. }) {
            feature::CSUM
        } else {
            0
        };
        if self.features & needs == needs {
            Ok(offload)
        } else {
            Err(BadChain::Header)
        }
    }

    /// Returns all that was taken, in one go.
    #[inline]
    pub fn give_back(&mut self) {
        if self.taken_len == 0 {
            return;
        }
        for k in 0..self.taken_len {
            self.put_used(self.taken[k], 0);
        }
        self.taken_len = 0;
        self.publish_used();
    }

    /// Whether the guest can be given a packet with this left to do.
    #[inline(always)]
    fn accepts(&self, offload: &Offload) -> bool {
        if offload.is_done() {
            return true;
        }
        let needs = match offload.gso.kind {
            GsoKind::None => 0,
            GsoKind::Tcp4 => feature::GUEST_TSO4,
            GsoKind::Tcp6 => feature::GUEST_TSO6,
            GsoKind::Udp => return false,
        } | if offload.gso.ecn {
            feature::GUEST_ECN
        } else {
            0
        } | feature::GUEST_CSUM;
        self.features & needs == needs
    }

    #[inline(always)]
    fn header_for(&self, offload: &Offload) -> [u8; 12] {
        match offload.checksum {
            Checksum::None => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
            Checksum::Valid if self.features & feature::GUEST_CSUM == 0 => {
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
            }
            _ => offload.to_vnet(),
        }
    }

    /// Copies the packets `which` out. Adds to `out`, returns how many of the guest's chains were malformed. Frames longer
    /// than `max_frame` are dropped unless they are to be segmented.
    #[inline]
    pub(crate) fn enqueue(
        &mut self,
        batch: &Batch,
        which: &[u8],
        max_frame: usize,
        scratch: &mut Scratch,
        out: &mut TxOutcome,
    ) -> u32 {
        let mut writer = Writer {
            ring: self,
            filled: 0,
            used: 0,
            bad: 0,
        };
        writer.expect(which.len());
        for (done, &i) in which.iter().enumerate() {
            let i = usize::from(i);
            let packet = batch.packet(i);
            let offload = &packet.offload;
            if packet.len() > max_frame && !offload.is_gso() {
                out.too_long += 1;
                continue;
            }
            if writer.ring.accepts(offload) {
                let header = writer.ring.header_for(offload);
                let left = which.len() - done;
                writer.put(
                    &header,
                    packet.head(),
                    batch.segments(i),
                    packet.len(),
                    left,
                    out,
                );
            } else {
                scratch.frame.resize(packet.len(), 0);
                let n = batch.copy_out(i, 0, &mut scratch.frame);
                scratch.frame.truncate(n);
                writer.put_in_software(offload, scratch, out);
            }
        }
        writer.finish()
    }

    /// [`SplitRing::enqueue`] for one packet that owns its bytes.
    pub(crate) fn enqueue_owned(
        &mut self,
        packet: &OwnedPacket,
        max_frame: usize,
        scratch: &mut Scratch,
        out: &mut TxOutcome,
    ) -> u32 {
        if packet.bytes.len() < MIN_FRAME
            || packet.bytes.len() > max_frame && !packet.offload.is_gso()
        {
            out.too_long += 1;
            return 0;
        }
        let mut writer = Writer {
            ring: self,
            filled: 0,
            used: 0,
            bad: 0,
        };
        if writer.ring.accepts(&packet.offload) {
            let header = writer.ring.header_for(&packet.offload);
            writer.put(&header, &packet.bytes, &[], packet.bytes.len(), 1, out);
        } else {
            scratch.frame.clear();
            scratch.frame.extend_from_slice(&packet.bytes);
            writer.put_in_software(&packet.offload, scratch, out);
        }
        writer.finish()
    }

    /// Whether the guest is to be interrupted for what was used since the last call.
    #[inline]
    pub fn notification_wanted(&mut self) -> bool {
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
    pub fn arm(&mut self) -> bool {
        if self.error.is_some() {
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
    pub fn disarm(&mut self) {
        let flags = if self.event_idx { 0 } else { NO_NOTIFY };
        self.used_flags().store(flags.to_le(), Ordering::Relaxed);
    }

    /// The next available index.
    pub fn base(&self) -> u16 {
        self.next_avail.wrapping_sub(self.taken_len as u16)
    }

    /// Why it does nothing any more.
    pub fn error(&self) -> Option<&RingError> {
        if self.chains.memory.is_broken() {
            Some(&RingError::MemoryLost)
        } else {
            self.error.as_ref()
        }
    }
}

/// Sending in progress: the buffers looked at ahead of their use.
struct Writer<'a> {
    ring: &'a mut SplitRing,
    /// Of `ring.ahead`: how many are filled in, and how many of those are used up.
    filled: usize,
    used: usize,
    bad: u32,
}

/// Why a packet did not go.
enum Refused {
    /// Not enough buffers.
    Full,
    /// Longer than a buffer that may not be merged with others.
    TooLong,
    /// The ring is broken, or this buffer is.
    Down,
}

impl Writer<'_> {
    /// Looks ahead at as many buffers as so many packets need at least.
    #[inline(always)]
    fn expect(&mut self, packets: usize) {
        self.filled = 0;
        self.used = 0;
        if self.ring.error.is_some() {
            return;
        }
        let want = packets.clamp(1, BATCH);
        let n = usize::from(self.ring.available(want as u16)).min(want);
        if n > 0 {
            let used = self
                .ring
                .used
                .wrapping_add(2 + 4 * usize::from(self.ring.next_used & self.ring.mask));
            prefetch_write(used.cast());
            self.filled = self.ring.look_ahead(n, WRITE, prefetch_write);
        }
    }

    /// The next buffer; taking it is up to the caller.
    #[inline(always)]
    fn next(&mut self, packets_left: usize) -> Option<Ahead> {
        if self.used == self.filled {
            self.expect(packets_left);
            if self.filled == 0 {
                return None;
            }
        }
        Some(self.ring.ahead[self.used])
    }

    #[inline(always)]
    fn taken(&mut self, head: u16, written: usize) {
        self.used += 1;
        self.ring.next_avail = self.ring.next_avail.wrapping_add(1);
        self.ring.put_used(head, written as u32);
    }

    /// Sends one packet as it is.
    #[inline(always)]
    fn put(
        &mut self,
        header: &[u8; 12],
        head: &[u8],
        tail: &[Segment],
        len: usize,
        packets_left: usize,
        out: &mut TxOutcome,
    ) {
        let header_len = self.ring.header;
        let result = match self.next(packets_left) {
            None if self.ring.error.is_some() => Err(Refused::Down),
            None => Err(Refused::Full),
            Some(buffer) if !buffer.at.is_null() && buffer.len as usize >= header_len + len => {
                // SAFETY: the buffer was translated with its length, which holds header, head and tail; the head and the
                // segments' bytes are readable (see Batch::push_segment). Guests could make source and destination the same
                // memory only by sharing it with each other; the copy then yields some bytes of theirs.
                unsafe {
                    if header_len == 12 {
                        buffer.at.cast::<[u8; 12]>().write_unaligned(*header);
                    } else {
                        buffer
                            .at
                            .cast::<[u8; 10]>()
                            .write_unaligned(*header.first_chunk().expect("12 is more than 10"));
                    }
                    let mut to = buffer.at.add(header_len);
                    copy(head.as_ptr(), to, head.len());
                    to = to.add(head.len());
                    for segment in tail {
                        ptr::copy(segment.as_ptr(), to, segment.len());
                        to = to.add(segment.len());
                    }
                }
                self.taken(buffer.head, header_len + len);
                Ok(())
            }
            Some(_) => self.scatter(header, head, tail, len, packets_left),
        };
        match result {
            Ok(()) => {
                out.packets += 1;
                out.bytes += len as u64;
            }
            Err(Refused::Full) => out.full += 1,
            Err(Refused::TooLong) => out.too_long += 1,
            Err(Refused::Down) => out.down += 1,
        }
    }

    /// Sends one packet over any shape of buffers.
    fn scatter(
        &mut self,
        header: &[u8; 12],
        head: &[u8],
        tail: &[Segment],
        len: usize,
        packets_left: usize,
    ) -> Result<(), Refused> {
        let header_len = self.ring.header;
        let mut source = Source {
            pieces: [&header[..header_len], head],
            at: 0,
            piece: 0,
            tail,
        };
        let start = (self.ring.next_avail, self.ring.next_used);
        let mut left = header_len + len;
        let mut buffers = 0u16;
        // Where the two bytes of `num_buffers` went.
        let mut count_at = [ptr::null_mut::<u8>(); 2];
        let mut written_before = 0;
        while left > 0 {
            if buffers > 0 && !self.ring.mergeable {
                return self.roll_back(start, Refused::TooLong);
            }
            let Some(buffer) = self.next(packets_left) else {
                let why = if self.ring.error.is_some() {
                    Refused::Down
                } else {
                    Refused::Full
                };
                return self.roll_back(start, why);
            };
            let mut written = 0usize;
            let walked = self.ring.chains.walk(buffer.head, true, |at, room| {
                let n = left.min(room as usize);
                // SAFETY: `n <= room` writable bytes at `at`.
                unsafe { source.copy_to(at, n) };
                for (k, place) in count_at.iter_mut().enumerate() {
                    let position = 10 + k;
                    if (written_before..written_before + n).contains(&position) {
                        *place = at.wrapping_add(position - written_before);
                    }
                }
                written += n;
                written_before += n;
                left -= n;
                Ok(left > 0)
            });
            match walked {
                Ok(()) => {
                    self.taken(buffer.head, written);
                    buffers += 1;
                }
                Err(bad) if buffers == 0 => {
                    // Its own chain, given back unused; the packet has nowhere to go.
                    let _ = bad;
                    self.bad += 1;
                    self.taken(buffer.head, 0);
                    return Err(Refused::Down);
                }
                Err(bad) => {
                    self.bad += 1;
                    self.ring.give_up(RingError::Buffer(bad));
                    return self.roll_back(start, Refused::Down);
                }
            }
        }
        if header_len == 12 && buffers > 1 {
            for (place, byte) in count_at.into_iter().zip(buffers.to_le_bytes()) {
                debug_assert!(!place.is_null());
                // SAFETY: both bytes of the header were written above, into checked memory, and remembered.
                unsafe { place.write(byte) };
            }
        }
        Ok(())
    }

    /// Forgets a packet that was begun: its buffers were not published and stay available.
    fn roll_back(
        &mut self,
        (next_avail, next_used): (u16, u16),
        why: Refused,
    ) -> Result<(), Refused> {
        self.ring.next_avail = next_avail;
        self.ring.next_used = next_used;
        self.filled = 0;
        self.used = 0;
        Err(why)
    }

    /// Does in software what the guest cannot, then sends. The frame is in `scratch.frame`.
    #[cold]
    fn put_in_software(&mut self, offload: &Offload, scratch: &mut Scratch, out: &mut TxOutcome) {
        let mut each = |frame: &[u8]| {
            let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
            self.put(&header, frame, &[], frame.len(), 1, out);
        };
        if segment::split(&mut scratch.frame, offload, &mut scratch.segment, &mut each).is_err() {
            out.error += 1;
        }
    }

    fn finish(self) -> u32 {
        self.ring.publish_used();
        self.bad
    }
}

/// A packet being read from front to back.
struct Source<'a> {
    pieces: [&'a [u8]; 2],
    tail: &'a [Segment],
    /// Piece (0 header, 1 head, then segments) and position in it.
    piece: usize,
    at: usize,
}

impl Source<'_> {
    /// Copies the next `n` bytes, which must be there.
    ///
    /// # Safety
    ///
    /// `n` writable bytes at `to`.
    unsafe fn copy_to(&mut self, mut to: *mut u8, mut n: usize) {
        while n > 0 {
            let (from, len) = match self.piece {
                p @ 0..2 => (self.pieces[p].as_ptr(), self.pieces[p].len()),
                p => match self.tail.get(p - 2) {
                    Some(s) => (s.as_ptr(), s.len()),
                    None => return,
                },
            };
            let k = n.min(len - self.at);
            // SAFETY: `k` bytes from `at` on are inside the piece; `to` has room for `n >= k`. `ptr::copy` because two guests
            // might share memory.
            unsafe { ptr::copy(from.wrapping_add(self.at), to, k) };
            to = to.wrapping_add(k);
            n -= k;
            self.at += k;
            if self.at == len {
                self.at = 0;
                self.piece += 1;
            }
        }
    }
}
