//! The receive ring of a packet socket (packet(7), PACKET_RX_RING): frames that the kernel puts into memory shared with us.
//!
//! To look whether a frame came is a read of memory, and to take one in is no system call. A slot holds any frame
//! of a usual MTU; of a longer one (a TSO frame of 64 KB) the kernel tells in the slot and queues it whole (PACKET_COPY_THRESH), to be
//! read by recvmmsg(2): so the order is that of the slots, and memory need not be had for 64 KB in each.
//!
//! A slot belongs to the kernel until it has the status "user", and again after we write "kernel": those two
//! are the only words that both sides write.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use super::frames::{FrameReader, SOCKET_HEADER, put_tag};
use super::packet_socket::PacketSocket;
use crate::packet::{Batch, Offload, copy};

/// Bytes of a slot: header, address, and a frame of an MTU of 1500 with several tags.
pub const SLOT: usize = 2048;
/// Slots of a ring: what may wait while the thread is elsewhere.
pub const SLOTS: usize = 2048;
/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Slots that the next frame to be read is asked for ahead.
const AHEAD: usize = 3;

/// Where a receive queue is in a socket's ring.
pub struct RingReader {
    /// The slot to look at next.
    position: usize,
    /// Slots before it that are not given back yet: the batch borrows from them.
    lent: usize,
    long: FrameReader,
    bad: u64,
    /// Frames that did not fit into a slot and found no room in the socket's queue.
    missed: u64,
}

impl Default for RingReader {
    fn default() -> RingReader {
        RingReader::new()
    }
}

impl RingReader {
    /// At the start of a ring.
    pub fn new() -> RingReader {
        RingReader {
            position: 0,
            lent: 0,
            long: FrameReader::new(),
            bad: 0,
            missed: 0,
        }
    }

    /// From now on another socket's ring is read.
    pub fn restart(&mut self) {
        self.position = 0;
        self.lent = 0;
    }

    /// Frames that could not be used.
    pub fn bad(&self) -> u64 {
        self.bad + self.long.bad()
    }

    /// Long frames that the kernel had no room for.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Takes what waits, up to the room in the batch. Its segments are valid until [`RingReader::release`] or the next call.
    pub fn read(&mut self, socket: &PacketSocket, batch: &mut Batch) -> usize {
        self.release(socket);
        let slots = socket.slots();
        let before = batch.len();
        let room = batch.room().min(slots);
        let (mut ready, mut queued) = (0, 0);
        while ready < room {
            let status = status(socket, (self.position + ready) % slots).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                break;
            }
            queued += usize::from(status & libc::TP_STATUS_COPY != 0);
            ready += 1;
        }
        let fetched = match queued {
            0 => 0,
            n => self.long.fetch_socket(socket.as_raw_fd(), n),
        };
        let mut long = 0;
        for i in 0..ready {
            if i + AHEAD < ready {
                let next = socket.slot((self.position + i + AHEAD) % slots);
                copy::prefetch_read(next);
                copy::prefetch_read(next.wrapping_add(64));
            }
            let at = socket.slot((self.position + i) % slots);
            // SAFETY: a slot of status "user" is ours to read, and begins with this header.
            let header = unsafe { at.cast::<libc::tpacket2_hdr>().read() };
            let tag = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0)
                .then_some((header.tp_vlan_tpid, header.tp_vlan_tci));
            let (len, start) = (header.tp_len as usize, usize::from(header.tp_mac));
            if header.tp_status & libc::TP_STATUS_COPY != 0 {
                if long < fetched {
                    self.long.take_socket(long, len, tag, batch);
                } else {
                    self.missed += 1;
                }
                long += 1;
                continue;
            }
            if (header.tp_snaplen as usize) < len {
                self.missed += 1;
                continue;
            }
            if len < MIN_FRAME || start < SOCKET_HEADER || start + len > SLOT {
                self.bad += 1;
                continue;
            }
            // SAFETY: the virtio-net header lies before the frame, inside the slot by the check above.
            let vnet = unsafe { &*at.add(start - SOCKET_HEADER).cast::<[u8; SOCKET_HEADER]>() };
            let Ok(offload) = Offload::from_vnet(vnet, len) else {
                self.bad += 1;
                continue;
            };
            // SAFETY: the frame lies inside the slot, which is given back only by `release`.
            if !unsafe { batch.push_run(at.add(start), len, offload) } {
                self.bad += 1;
            } else if let Some(tag) = tag {
                put_tag(batch.packet_mut(batch.len() - 1), tag);
            }
        }
        self.position = (self.position + ready) % slots;
        self.lent = ready;
        batch.len() - before
    }

    /// The batch is done with: gives the slots back to the kernel.
    pub fn release(&mut self, socket: &PacketSocket) {
        let slots = socket.slots();
        let first = self.position + slots - self.lent;
        for i in 0..self.lent {
            status(socket, (first + i) % slots).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.lent = 0;
    }
}

fn status(socket: &PacketSocket, slot: usize) -> &AtomicU32 {
    // SAFETY: every slot begins with its status, which both sides only read and write whole; slots are aligned and live as long
    // as the socket.
    unsafe { AtomicU32::from_ptr(socket.slot(slot).cast()) }
}
