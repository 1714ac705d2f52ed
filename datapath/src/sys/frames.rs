//! Frames between batches and descriptors of the kernel: tap files (one readv or writev per frame) and packet sockets
//! (one recvmmsg or sendmmsg per batch, and what comes by ring: `packet_ring.rs`). Each frame has a virtio-net header before it, so that a 64 KB TSO frame is one frame.
//!
//! All memory is taken when a reader or writer is made. A reader's arena is large (32 frames of 64 KB) but only
//! touched as far as frames fill it.

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;

use super::check_len;
use crate::packet::{
    BATCH, Batch, HEAD_MAX, HEADROOM, Offload, OwnedPacket, PACKET_MAX, Packet,
    SEGMENTS_PER_PACKET, VNET_HEADER, copy,
};
use crate::port::TxOutcome;

/// Bytes of the header on packet sockets.
pub(super) const SOCKET_HEADER: usize = 10;
/// Room for one frame.
const SLOT: usize = PACKET_MAX.next_multiple_of(64);
/// Bytes of a frame that are sent in one piece with its header: any head.
const START: usize = HEADROOM + HEAD_MAX;
/// Pieces of a frame that goes out: header and head, the rest of one that owns its bytes, segments.
const PIECES: usize = 2 + SEGMENTS_PER_PACKET;
const MIN_FRAME: usize = 14;

const NO_IOV: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// Puts a VLAN tag (TPID, TCI) back that the kernel took off and keeps beside the frame.
pub(super) fn put_tag(packet: &mut Packet, (tpid, tci): (u16, u16)) {
    if let Some(head) = packet.push_head(4) {
        head.copy_within(4..16, 0);
        head[12..14].copy_from_slice(&tpid.to_be_bytes());
        head[14..16].copy_from_slice(&tci.to_be_bytes());
        packet.offload.shift(4);
    }
}

/// Receives frames.
pub struct FrameReader {
    arena: Box<[u8]>,
    headers: Box<[[u8; VNET_HEADER]]>,
    iovs: Box<[[libc::iovec; 2]]>,
    messages: Box<[libc::mmsghdr]>,
    /// Frames that were too long, too short, or had an impossible header.
    bad: u64,
}

// SAFETY: the pointers in `iovs` and `messages` point into the other members, which are on the heap and move with them.
unsafe impl Send for FrameReader {}

impl Default for FrameReader {
    fn default() -> FrameReader {
        FrameReader::new()
    }
}

fn no_message() -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid mmsghdr.
    unsafe { mem::zeroed() }
}

impl FrameReader {
    /// A reader with room for a batch.
    pub fn new() -> FrameReader {
        FrameReader {
            arena: vec![0; BATCH * SLOT].into(),
            headers: vec![[0; VNET_HEADER]; BATCH].into(),
            iovs: vec![[NO_IOV; 2]; BATCH].into(),
            messages: (0..BATCH).map(|_| no_message()).collect(),
            bad: 0,
        }
    }

    /// Frames that could not be used.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    fn prepare(&mut self, i: usize, header: usize) {
        self.iovs[i] = [
            libc::iovec {
                iov_base: self.headers[i].as_mut_ptr().cast(),
                iov_len: header,
            },
            libc::iovec {
                iov_base: self.arena[i * SLOT..].as_mut_ptr().cast(),
                iov_len: SLOT,
            },
        ];
    }

    /// Takes frames from a tap until it is empty or the batch is full. The batch's segments are valid until the next call.
    pub fn read_tap(&mut self, fd: RawFd, batch: &mut Batch) -> io::Result<usize> {
        let before = batch.len();
        for i in 0..batch.room() {
            self.prepare(i, VNET_HEADER);
            // SAFETY: both pieces point at writable memory of the lengths given, in members of ours.
            let result = unsafe { libc::readv(fd, self.iovs[i].as_ptr(), 2) };
            match check_len(result) {
                Ok(n) => self.take(i, n.saturating_sub(VNET_HEADER), None, batch),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || batch.len() > before => break,
                Err(e) => return Err(e),
            }
        }
        Ok(batch.len() - before)
    }

    /// Reads up to `count` frames that a packet socket queued, at most a batch, to be used by [`FrameReader::take_socket`]. How many
    /// there were.
    pub(super) fn fetch_socket(&mut self, fd: RawFd, count: usize) -> usize {
        let count = count.min(BATCH);
        for i in 0..count {
            self.prepare(i, SOCKET_HEADER);
            let mut message = no_message();
            message.msg_hdr.msg_iov = self.iovs[i].as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
            self.messages[i] = message;
        }
        // SAFETY: `count` messages are prepared, whose pieces are members of ours.
        let result = unsafe {
            libc::recvmmsg(
                fd,
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        // An error would say that the interface went down, which its status tells.
        usize::try_from(result).unwrap_or(0)
    }

    /// Makes a packet of fetched frame `i`, which the ring said to be `len` bytes long, with the VLAN tag put back that the interface
    /// took off. The batch's segments are valid until the next fetch.
    pub(super) fn take_socket(
        &mut self,
        i: usize,
        len: usize,
        tag: Option<(u16, u16)>,
        batch: &mut Batch,
    ) {
        let message = &self.messages[i];
        let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        if whole && message.msg_len as usize == SOCKET_HEADER + len {
            self.take(i, len, tag, batch);
        } else {
            self.bad += 1;
        }
    }

    /// Makes a packet of frame `i`, `len` bytes long.
    fn take(&mut self, i: usize, len: usize, tag: Option<(u16, u16)>, batch: &mut Batch) {
        let header = *self.headers[i].first_chunk().expect("10 of 12 bytes");
        let (true, Ok(offload)) = (
            (MIN_FRAME..=PACKET_MAX).contains(&len),
            Offload::from_vnet(&header, len),
        ) else {
            self.bad += 1;
            return;
        };
        let frame = &self.arena[i * SLOT..i * SLOT + len];
        let Some(packet) = batch.begin() else { return };
        let in_head = len.min(HEAD_MAX);
        packet.head_space()[..in_head].copy_from_slice(&frame[..in_head]);
        packet.set_head(in_head);
        packet.offload = offload;
        if let Some(tag) = tag {
            put_tag(packet, tag);
        }
        let tail = &frame[in_head..];
        // SAFETY: the arena is not written before the next read, which comes after the batch was released.
        if !tail.is_empty() && !unsafe { batch.push_segment(tail.as_ptr(), tail.len() as u32) } {
            self.bad += 1;
            return;
        }
        batch.commit();
    }
}

/// Sends frames.
pub struct FrameWriter {
    /// The virtio-net header and, behind it, the packet's head: one piece is cheaper for the kernel than two.
    starts: Box<[[u8; VNET_HEADER + START]]>,
    iovs: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
    lengths: Box<[usize]>,
    filled: usize,
}

// SAFETY: the pointers in `iovs` and `messages` are only used during the call that wrote them.
unsafe impl Send for FrameWriter {}

impl Default for FrameWriter {
    fn default() -> FrameWriter {
        FrameWriter::new()
    }
}

impl FrameWriter {
    /// A writer with room for a batch.
    pub fn new() -> FrameWriter {
        FrameWriter {
            starts: vec![[0; VNET_HEADER + START]; BATCH].into(),
            iovs: vec![NO_IOV; BATCH * PIECES].into(),
            messages: (0..BATCH).map(|_| no_message()).collect(),
            lengths: vec![0; BATCH].into(),
            filled: 0,
        }
    }

    /// Prepares a frame: a virtio-net header of `header` bytes, `head`, and what follows it.
    fn add(
        &mut self,
        offload: &Offload,
        header: usize,
        head: &[u8],
        tail: impl Iterator<Item = (*const u8, usize)>,
    ) {
        let i = self.filled;
        let start = &mut self.starts[i];
        start[..VNET_HEADER].copy_from_slice(&offload.to_vnet());
        let (near, far) = head.split_at(head.len().min(START));
        // SAFETY: `near` is at most START bytes long, and there are so many behind the header.
        unsafe { copy::copy(near.as_ptr(), start.as_mut_ptr().add(header), near.len()) };
        let first = i * PIECES;
        self.iovs[first] = libc::iovec {
            iov_base: start.as_mut_ptr().cast(),
            iov_len: header + near.len(),
        };
        let far = Some((far.as_ptr(), far.len())).filter(|(_, len)| *len > 0);
        let mut count = 1;
        let mut len = near.len();
        for (at, piece) in far.into_iter().chain(tail).take(PIECES - 1) {
            self.iovs[first + count] = libc::iovec {
                iov_base: at.cast_mut().cast(),
                iov_len: piece,
            };
            len += piece;
            count += 1;
        }
        let message = &mut self.messages[i].msg_hdr;
        message.msg_iov = self.iovs[first..].as_mut_ptr();
        message.msg_iovlen = count;
        self.lengths[i] = len;
        self.filled += 1;
    }

    fn add_all(
        &mut self,
        batch: &Batch,
        which: &[u8],
        header: usize,
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        self.filled = 0;
        for &i in which.iter().take(BATCH) {
            let i = usize::from(i);
            let packet = batch.packet(i);
            if packet.len() > max_frame && !packet.offload.is_gso() {
                out.too_long += 1;
                continue;
            }
            let tail = batch.segments(i).iter().map(|s| (s.as_ptr(), s.len()));
            self.add(&packet.offload, header, packet.head(), tail);
        }
    }

    fn add_owned(
        &mut self,
        packet: &OwnedPacket,
        header: usize,
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        self.filled = 0;
        if packet.bytes.len() > max_frame && !packet.offload.is_gso() {
            out.too_long += 1;
            return;
        }
        self.add(&packet.offload, header, &packet.bytes, std::iter::empty());
    }

    /// Sends packets of a batch to a tap.
    pub fn write_tap(
        &mut self,
        fd: RawFd,
        batch: &Batch,
        which: &[u8],
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        self.add_all(batch, which, VNET_HEADER, max_frame, out);
        self.flush_tap(fd, out);
    }

    /// Sends one packet that owns its bytes to a tap.
    pub fn write_tap_owned(
        &mut self,
        fd: RawFd,
        packet: &OwnedPacket,
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        self.add_owned(packet, VNET_HEADER, max_frame, out);
        self.flush_tap(fd, out);
    }

    /// Sends packets of a batch by a packet socket.
    pub fn write_socket(
        &mut self,
        fd: RawFd,
        batch: &Batch,
        which: &[u8],
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        self.add_all(batch, which, SOCKET_HEADER, max_frame, out);
        self.flush_socket(fd, out);
    }

    /// Sends one packet that owns its bytes by a packet socket.
    pub fn write_socket_owned(
        &mut self,
        fd: RawFd,
        packet: &OwnedPacket,
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        self.add_owned(packet, SOCKET_HEADER, max_frame, out);
        self.flush_socket(fd, out);
    }

    fn flush_tap(&mut self, fd: RawFd, out: &mut TxOutcome) {
        for i in 0..self.filled {
            let message = &self.messages[i].msg_hdr;
            // SAFETY: `add` filled in these pieces in this same call; heads and segments are readable while the batch lives.
            let result =
                unsafe { libc::writev(fd, message.msg_iov, message.msg_iovlen as libc::c_int) };
            match check_len(result) {
                Ok(_) => {
                    out.packets += 1;
                    out.bytes += self.lengths[i] as u64;
                }
                Err(e) => count_error(&e, 1, out),
            }
        }
        self.filled = 0;
    }

    fn flush_socket(&mut self, fd: RawFd, out: &mut TxOutcome) {
        let mut done = 0;
        while done < self.filled {
            let left = &mut self.messages[done..self.filled];
            // SAFETY: `add` filled in these messages in this same call; heads and segments are readable while the batch lives.
            let result = unsafe {
                libc::sendmmsg(
                    fd,
                    left.as_mut_ptr(),
                    left.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match check_len(result as libc::ssize_t) {
                Ok(n) => {
                    out.packets += n as u32;
                    out.bytes += self.lengths[done..done + n].iter().sum::<usize>() as u64;
                    done += n.max(1);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_full(&e) => {
                    out.full += (self.filled - done) as u32;
                    break;
                }
                Err(e) => {
                    // The first of them; the others may go.
                    count_error(&e, 1, out);
                    done += 1;
                }
            }
        }
        self.filled = 0;
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

fn count_error(error: &io::Error, n: u32, out: &mut TxOutcome) {
    match error.raw_os_error() {
        _ if is_full(error) => out.full += n,
        Some(libc::EMSGSIZE) => out.too_long += n,
        // A tap that is down says EIO, one that was deleted EBADFD.
        Some(libc::EIO | libc::EBADFD | libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
            out.down += n
        }
        _ => out.error += n,
    }
}
