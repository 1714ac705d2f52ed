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
//! the general one (`Chains::walk`).
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

mod chain;
mod send;

use self::chain::{Ahead, Chains, DESCRIPTOR, NOTHING, copy, prefetch_read};
use self::send::Writer;
use super::{BadChain, Layout, MAX_SIZE, RingError, Scratch, feature};
use crate::memory::{GuestMemory, RegionCache};
use crate::packet::{BATCH, Batch, Checksum, GsoKind, HEAD_MAX, Offload, OwnedPacket, PACKET_MAX};
use crate::port::TxOutcome;

/// Available ring flag: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// Used ring flag: the device wants no kicks.
const NO_NOTIFY: u16 = 1;
/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;

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
        // The used index lives in the guest's memory only; it goes on from what the last device left there. The base that the
        // monitor told may be another one: one before buffers that a device held when it was killed, or plain zero (DPDK's
        // virtio-user tells that when its device comes back). We use buffers in order and hold none between batches,
        // so the used index is where to go on; packets that were held are sent again or lost, never mixed up.
        let used_index = ring.used_index().load(Ordering::Acquire);
        ring.next_used = u16::from_le(used_index);
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
