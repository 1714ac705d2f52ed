//! Driver of a virtio-net device behind virtio-mmio, with split rings.
//!
//! One receive and one transmit queue. Buffer `i` of a queue belongs to descriptor `i` for good,
//! so nothing is ever allocated: receiving puts the same descriptor back, transmitting keeps a
//! stack of free ones. A batch is published by one write of the available index and at most one
//! notification; both directions honour the other side's wish for silence (event index where
//! offered, else the flags).
//!
//! The ring layout is virtio 1.2 2.7; the start of the device is 3.1 and 4.2.3.1.

use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{Ordering, fence};

use super::Platform;

/// Largest queue the driver uses; the device may allow less.
pub const MAX_RING: usize = 512;
/// Bytes of one buffer: the virtio header, and a frame with room to spare.
pub const BUFFER: usize = 2048;
/// Bytes of the header before each frame (virtio 1.2 5.1.6).
pub const HEADER: usize = 12;
/// Longest frame that can be sent.
pub const MAX_FRAME: usize = BUFFER - HEADER;

const RX: u16 = 0;
const TX: u16 = 1;

const F_MAC: u64 = 1 << 5;
const F_MRG_RXBUF: u64 = 1 << 15;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;

/// Registers (virtio 1.2 4.2.2).
mod reg {
    pub const MAGIC: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE: u64 = 0x08;
    pub const FEATURES: u64 = 0x10;
    pub const FEATURES_SEL: u64 = 0x14;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_MAX: u64 = 0x34;
    pub const QUEUE_SIZE: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_ACK: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_DESC: u64 = 0x80;
    pub const QUEUE_AVAIL: u64 = 0x90;
    pub const QUEUE_USED: u64 = 0xa0;
}

/// The driver's side of one split ring, with its buffers.
struct Ring {
    size: u16,
    event_idx: bool,
    desc: *mut u8,
    avail: *mut u8,
    used: *mut u8,
    buffers: *mut u8,
    /// Guest-physical address of the buffers.
    buffers_at: u64,
    /// Next available index to publish, and the one published.
    next: u16,
    published: u16,
    /// Next used element to look at.
    last_used: u16,
}

impl Ring {
    fn buffer(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.size);
        // SAFETY: `buffers` covers `size` buffers, and `id` is below `size` (all callers check).
        unsafe { self.buffers.add(usize::from(id) * BUFFER) }
    }

    /// Fills a descriptor (virtio 1.2 2.7.5); `flags` 2 means that the device writes.
    fn describe(&mut self, id: u16, len: u32, flags: u16) {
        let addr = self.buffers_at + u64::from(id) * BUFFER as u64;
        // SAFETY: the table covers `size` entries of 16 bytes, and `id` is below `size`.
        unsafe {
            let entry = self.desc.add(usize::from(id) * 16);
            write_volatile(entry.cast::<u64>(), addr);
            write_volatile(entry.add(8).cast::<u32>(), len);
            write_volatile(entry.add(12).cast::<u32>(), u32::from(flags));
        }
    }

    /// Puts a descriptor into the available ring, not yet visible.
    fn offer(&mut self, id: u16) {
        let slot = usize::from(self.next & (self.size - 1));
        // SAFETY: the available ring has `size` entries of 2 bytes from offset 4.
        unsafe { write_volatile(self.avail.add(4 + 2 * slot).cast::<u16>(), id) };
        self.next = self.next.wrapping_add(1);
    }

    /// Makes what was offered visible; says whether the device wants to be told.
    fn publish(&mut self) -> bool {
        if self.next == self.published {
            return false;
        }
        fence(Ordering::Release);
        // SAFETY: the index at offset 2 of the available ring; the event index of the device
        // behind the used ring's entries, or its flags at offset 0.
        unsafe {
            write_volatile(self.avail.add(2).cast::<u16>(), self.next);
            fence(Ordering::SeqCst);
            let old = core::mem::replace(&mut self.published, self.next);
            if self.event_idx {
                let at = self.used.add(4 + 8 * usize::from(self.size)).cast::<u16>();
                let event = read_volatile(at);
                // virtio 1.2 2.7.10.1
                self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(old)
            } else {
                read_volatile(self.used.cast::<u16>()) & 1 == 0
            }
        }
    }

    /// How many used elements wait.
    fn waiting(&self) -> u16 {
        // SAFETY: the index at offset 2 of the used ring.
        let idx = unsafe { read_volatile(self.used.add(2).cast::<u16>()) };
        fence(Ordering::Acquire);
        idx.wrapping_sub(self.last_used)
    }

    /// Takes the next used element, which must be waiting: descriptor and length. `None` when the
    /// device named a descriptor that does not exist.
    fn take(&mut self) -> Option<(u16, u32)> {
        let slot = usize::from(self.last_used & (self.size - 1));
        self.last_used = self.last_used.wrapping_add(1);
        // SAFETY: the used ring has `size` elements of 8 bytes from offset 4.
        let (id, len) = unsafe {
            let element = self.used.add(4 + 8 * slot);
            (
                read_volatile(element.cast::<u32>()),
                read_volatile(element.add(4).cast::<u32>()),
            )
        };
        (id < u32::from(self.size)).then_some((id as u16, len))
    }

    /// Asks for an interrupt once `after` more elements (0: the next one) are used.
    fn want_interrupt(&mut self, after: u16) {
        // SAFETY: the driver's event index behind the available ring's entries, or its flags.
        unsafe {
            if self.event_idx {
                let at = self.avail.add(4 + 2 * usize::from(self.size)).cast::<u16>();
                write_volatile(at, self.last_used.wrapping_add(after));
            } else {
                write_volatile(self.avail.cast::<u16>(), 0);
            }
        }
        fence(Ordering::SeqCst);
    }

    /// Asks for no interrupts.
    fn want_silence(&mut self) {
        // SAFETY: as in `want_interrupt`.
        unsafe {
            if self.event_idx {
                // An index that was just passed is the farthest one away.
                let at = self.avail.add(4 + 2 * usize::from(self.size)).cast::<u16>();
                write_volatile(at, self.last_used.wrapping_sub(1));
            } else {
                write_volatile(self.avail.cast::<u16>(), 1);
            }
        }
    }
}

/// What one direction counted.
#[derive(Clone, Copy, Default)]
pub struct Counters {
    /// Frames.
    pub packets: u64,
    /// Bytes of them, without the virtio header.
    pub bytes: u64,
    /// Notifications sent to the device.
    pub kicks: u64,
    /// Used elements that made no sense.
    pub bad: u64,
}

/// The receiving half of a card.
pub struct Receiver<'p, P: Platform> {
    platform: &'p P,
    ring: Ring,
    /// Whether a frame may lie in several buffers, and how many more of them the present one has.
    merge: bool,
    more: u16,
    /// What it counted.
    pub counters: Counters,
}

/// The sending half of a card.
pub struct Sender<'p, P: Platform> {
    platform: &'p P,
    ring: Ring,
    free: [u16; MAX_RING],
    free_len: usize,
    /// What each buffer was last stamped with.
    stamps: [u32; MAX_RING],
    /// What it counted.
    pub counters: Counters,
}

/// A running network card.
pub struct Nic<'p, P: Platform> {
    platform: &'p P,
    /// The receiving half.
    pub rx: Receiver<'p, P>,
    /// The sending half.
    pub tx: Sender<'p, P>,
    /// The card's address.
    pub mac: [u8; 6],
    /// The features in use.
    pub features: u64,
}

impl<'p, P: Platform> Nic<'p, P> {
    /// Starts the device.
    ///
    /// # Errors
    /// What the device lacks.
    pub fn start(platform: &'p P) -> Result<Self, &'static str> {
        let p = platform;
        if p.reg_read(reg::MAGIC) != 0x7472_6976
            || p.reg_read(reg::VERSION) != 2
            || p.reg_read(reg::DEVICE) != 1
        {
            return Err("there is no virtio-net device");
        }
        p.reg_write(reg::STATUS, 0);
        p.reg_write(reg::STATUS, 1);
        p.reg_write(reg::STATUS, 3);
        let mut offered = 0;
        for word in 0..2 {
            p.reg_write(reg::FEATURES_SEL, word);
            offered |= u64::from(p.reg_read(reg::FEATURES)) << (32 * word);
        }
        let features = offered & (F_MAC | F_MRG_RXBUF | F_EVENT_IDX | F_VERSION_1);
        for word in 0..2 {
            p.reg_write(reg::DRIVER_FEATURES_SEL, word);
            p.reg_write(reg::DRIVER_FEATURES, (features >> (32 * word)) as u32);
        }
        p.reg_write(reg::STATUS, 0xb);
        if p.reg_read(reg::STATUS) & 8 == 0 {
            return Err("the device refuses the features it offered");
        }
        let mut mac = [0; 6];
        for (i, byte) in mac.iter_mut().enumerate() {
            *byte = p.config_read(i as u64);
        }
        let (mut heap, heap_end) = p.heap();
        let mut rx = ring(p, RX, features, &mut heap, heap_end)?;
        let mut tx = ring(p, TX, features, &mut heap, heap_end)?;
        let mut free = [0; MAX_RING];
        for id in 0..rx.size {
            rx.describe(id, BUFFER as u32, 2);
            rx.offer(id);
        }
        for id in 0..tx.size {
            free[usize::from(id)] = id;
        }
        tx.want_silence();
        p.reg_write(reg::STATUS, 0xf);
        if p.reg_read(reg::STATUS) & 0x40 != 0 {
            return Err("the device failed to start");
        }
        rx.publish();
        p.notify(RX);
        Ok(Nic {
            platform,
            rx: Receiver {
                platform,
                ring: rx,
                merge: features & F_MRG_RXBUF != 0,
                more: 0,
                counters: Counters::default(),
            },
            tx: Sender {
                platform,
                free_len: usize::from(tx.size),
                ring: tx,
                free,
                stamps: [0; MAX_RING],
                counters: Counters::default(),
            },
            mac,
            features,
        })
    }

    /// Prepares to sleep: interrupts on for received frames and, when `tx_after` is given, once
    /// so many more buffers were sent. Returns `false` when there is work already.
    pub fn before_sleep(&mut self, tx_after: Option<usize>) -> bool {
        // Acknowledge the interrupts so far: an exit, so not on the way of any packet.
        let status = self.platform.reg_read(reg::INTERRUPT_STATUS);
        if status != 0 {
            self.platform.reg_write(reg::INTERRUPT_ACK, status);
        }
        self.rx.ring.want_interrupt(0);
        if let Some(after) = tx_after {
            self.tx.ring.want_interrupt(after.saturating_sub(1) as u16);
            if usize::from(self.tx.ring.waiting()) >= after.max(1) {
                return false;
            }
        }
        self.rx.ring.waiting() == 0
    }

    /// After a sleep: interrupts off again.
    pub fn after_sleep(&mut self) {
        self.rx.ring.want_silence();
        self.tx.ring.want_silence();
    }
}

/// Lays out queue `queue` from `at` on and tells the device.
fn ring<P: Platform>(
    p: &P,
    queue: u16,
    features: u64,
    at: &mut u64,
    end: u64,
) -> Result<Ring, &'static str> {
    p.reg_write(reg::QUEUE_SEL, u32::from(queue));
    let max = (p.reg_read(reg::QUEUE_MAX) as usize).min(MAX_RING);
    if max < 2 {
        return Err("a queue is missing");
    }
    let size = 1usize << max.ilog2();
    let mut area = |len: usize| {
        let start = at.next_multiple_of(4096);
        *at = start + len as u64;
        match p.ram(start, len) {
            Some(ptr) if *at <= end => Ok((start, ptr)),
            _ => Err("not enough memory for rings and buffers"),
        }
    };
    let (desc_at, desc) = area(16 * size)?;
    let (avail_at, avail) = area(6 + 2 * size)?;
    let (used_at, used) = area(6 + 8 * size)?;
    let (buffers_at, buffers) = area(BUFFER * size)?;
    p.reg_write(reg::QUEUE_SIZE, size as u32);
    for (register, addr) in [
        (reg::QUEUE_DESC, desc_at),
        (reg::QUEUE_AVAIL, avail_at),
        (reg::QUEUE_USED, used_at),
    ] {
        p.reg_write(register, addr as u32);
        p.reg_write(register + 4, (addr >> 32) as u32);
    }
    p.reg_write(reg::QUEUE_READY, 1);
    Ok(Ring {
        size: size as u16,
        event_idx: features & F_EVENT_IDX != 0,
        desc,
        avail,
        used,
        buffers,
        buffers_at,
        next: 0,
        published: 0,
        last_used: 0,
    })
}

impl<P: Platform> Receiver<'_, P> {
    /// Receives up to `budget` frames, gives each to `each`, and returns their number. The
    /// buffers go back to the device afterwards.
    pub fn receive(&mut self, budget: usize, mut each: impl FnMut(&mut [u8])) -> usize {
        let waiting = usize::from(self.ring.waiting()).min(usize::from(self.ring.size));
        let mut frames = 0;
        for _ in 0..waiting.min(budget) {
            let Some((id, len)) = self.ring.take() else {
                self.counters.bad += 1;
                continue;
            };
            let len = len as usize;
            let buffer = self.ring.buffer(id);
            if self.more > 0 {
                // The rest of a frame over several buffers: only counted.
                self.more -= 1;
                self.counters.bytes += len.min(BUFFER) as u64;
            } else if (HEADER + 14..=BUFFER).contains(&len) {
                // SAFETY: the buffer has BUFFER bytes and is ours until it is offered again; the
                // device is done with it. `num_buffers` is at offset 10 of the header.
                let frame = unsafe {
                    if self.merge {
                        let buffers = read_volatile(buffer.add(10).cast::<u16>());
                        self.more = buffers.saturating_sub(1).min(self.ring.size);
                    }
                    core::slice::from_raw_parts_mut(buffer.add(HEADER), len - HEADER)
                };
                self.counters.packets += 1;
                self.counters.bytes += frame.len() as u64;
                each(frame);
                frames += 1;
            } else {
                self.counters.bad += 1;
            }
            self.ring.offer(id);
        }
        if self.ring.publish() {
            self.counters.kicks += 1;
            self.platform.notify(RX);
        }
        frames
    }
}

impl<P: Platform> Sender<'_, P> {
    /// Entries of the queue.
    pub fn size(&self) -> usize {
        usize::from(self.ring.size)
    }

    /// Takes sent buffers back; returns how many can be filled now.
    pub fn reclaim(&mut self) -> usize {
        for _ in 0..self.ring.waiting().min(self.ring.size) {
            match self.ring.take() {
                Some((id, _)) if self.free_len < usize::from(self.ring.size) => {
                    self.free[self.free_len] = id;
                    self.free_len += 1;
                }
                _ => self.counters.bad += 1,
            }
        }
        self.free_len
    }

    /// A free buffer to send from: its number, and room for a frame.
    pub fn buffer(&mut self) -> Option<(u16, &mut [u8])> {
        let (id, frame, _) = self.stamped(0)?;
        Some((id, frame))
    }

    /// As [`Sender::buffer`], and stamps it; says whether it had the same stamp before, which
    /// means that it still holds what was written then.
    pub fn stamped(&mut self, stamp: u32) -> Option<(u16, &mut [u8], bool)> {
        let len = self.free_len.checked_sub(1)?;
        self.free_len = len;
        let id = self.free[len];
        let old = core::mem::replace(&mut self.stamps[usize::from(id)], stamp);
        // SAFETY: the buffer has BUFFER bytes and is ours: it was on the free stack.
        let frame = unsafe {
            let buffer = self.ring.buffer(id);
            buffer.write_bytes(0, HEADER);
            core::slice::from_raw_parts_mut(buffer.add(HEADER), MAX_FRAME)
        };
        Some((id, frame, old == stamp))
    }

    /// Queues buffer `id` with a frame of `len` bytes; [`Sender::flush`] sends.
    pub fn send(&mut self, id: u16, len: usize) {
        let len = len.min(MAX_FRAME);
        self.counters.packets += 1;
        self.counters.bytes += len as u64;
        self.ring.describe(id, (HEADER + len) as u32, 0);
        self.ring.offer(id);
    }

    /// Hands everything queued to the device.
    pub fn flush(&mut self) {
        if self.ring.publish() {
            self.counters.kicks += 1;
            self.platform.notify(TX);
        }
    }
}
