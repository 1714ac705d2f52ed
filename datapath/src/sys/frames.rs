//! Frames between batches and descriptors of the kernel: tap files (one readv or writev per frame) and packet sockets
//! (one recvmmsg or sendmmsg per batch). Each frame has a virtio-net header before it, so that a 64 KB TSO frame is one frame.
//!
//! All memory is taken when a reader or writer is made. A reader's arena is large (32 frames of 64 KB) but only
//! touched as far as frames fill it.

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;

use super::check_len;
use crate::packet::{
    BATCH, Batch, HEAD_MAX, Offload, OwnedPacket, PACKET_MAX, SEGMENTS_PER_PACKET, VNET_HEADER,
};
use crate::port::TxOutcome;

/// Bytes of the header on packet sockets.
const SOCKET_HEADER: usize = 10;
/// Room for one frame.
const SLOT: usize = PACKET_MAX.next_multiple_of(64);
/// Pieces of a frame that goes out: header, head, segments.
const PIECES: usize = 2 + SEGMENTS_PER_PACKET;
/// Control bytes of a received frame, in words: one cmsghdr and a tpacket_auxdata.
const CONTROL_WORDS: usize = 6;
const MIN_FRAME: usize = 14;

const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const VLAN: u16 = 0x8100;

const NO_IOV: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// Receives frames.
pub struct FrameReader {
    arena: Box<[u8]>,
    headers: Box<[[u8; VNET_HEADER]]>,
    control: Box<[[u64; CONTROL_WORDS]]>,
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
            control: vec![[0; CONTROL_WORDS]; BATCH].into(),
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

    /// Takes frames from a packet socket, with the VLAN tags put back that the interface took off. The batch's segments are
    /// valid until the next call.
    pub fn read_socket(&mut self, fd: RawFd, batch: &mut Batch) -> io::Result<usize> {
        let (before, room) = (batch.len(), batch.room());
        for i in 0..room {
            self.prepare(i, SOCKET_HEADER);
            let mut message = no_message();
            message.msg_hdr.msg_iov = self.iovs[i].as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
            message.msg_hdr.msg_control = self.control[i].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = mem::size_of::<[u64; CONTROL_WORDS]>();
            self.messages[i] = message;
        }
        if room == 0 {
            return Ok(0);
        }
        // SAFETY: `room` messages are prepared, whose pieces and control areas are members of ours.
        let result = unsafe {
            libc::recvmmsg(
                fd,
                self.messages.as_mut_ptr(),
                room as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let n = match check_len(result as libc::ssize_t) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        for i in 0..n {
            if self.messages[i].msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                self.bad += 1;
                continue;
            }
            let len = (self.messages[i].msg_len as usize).saturating_sub(SOCKET_HEADER);
            let tag = self.tag(i);
            self.take(i, len, tag, batch);
        }
        Ok(batch.len() - before)
    }

    /// The VLAN tag (TPID, TCI) that was taken off received frame `i`.
    fn tag(&self, i: usize) -> Option<(u16, u16)> {
        let header = &self.messages[i].msg_hdr;
        // SAFETY: recvmmsg filled in `header`, whose control area is `control[i]`.
        let control = unsafe { libc::CMSG_FIRSTHDR(header) };
        if control.is_null() {
            return None;
        }
        // SAFETY: CMSG_FIRSTHDR returns null or a header whole inside the control area.
        let (level, kind, len) = unsafe {
            (
                (*control).cmsg_level,
                (*control).cmsg_type,
                (*control).cmsg_len,
            )
        };
        // SAFETY: pure arithmetic. struct tpacket_auxdata: status, len, snaplen (u32), mac, net, tci, tpid (u16).
        let whole = unsafe { libc::CMSG_LEN(20) } as usize;
        if level != libc::SOL_PACKET || kind != libc::PACKET_AUXDATA || len < whole {
            return None;
        }
        // SAFETY: twenty bytes of data follow the header, inside the control area, by the length just checked.
        let data = unsafe { libc::CMSG_DATA(control).cast::<[u8; 20]>().read_unaligned() };
        let status = u32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
        if status & TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let word = |at: usize| u16::from_ne_bytes([data[at], data[at + 1]]);
        let tpid = if status & TP_STATUS_VLAN_TPID_VALID != 0 {
            word(18)
        } else {
            VLAN
        };
        Some((tpid, word(16)))
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
        if let Some((tpid, tci)) = tag
            && let Some(head) = packet.push_head(4)
        {
            head.copy_within(4..16, 0);
            head[12..14].copy_from_slice(&tpid.to_be_bytes());
            head[14..16].copy_from_slice(&tci.to_be_bytes());
            packet.offload.shift(4);
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
    headers: Box<[[u8; VNET_HEADER]]>,
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
            headers: vec![[0; VNET_HEADER]; BATCH].into(),
            iovs: vec![NO_IOV; BATCH * PIECES].into(),
            messages: (0..BATCH).map(|_| no_message()).collect(),
            lengths: vec![0; BATCH].into(),
            filled: 0,
        }
    }

    fn add<'a>(
        &mut self,
        offload: &Offload,
        header: usize,
        len: usize,
        pieces: impl Iterator<Item = (*const u8, usize)> + 'a,
    ) {
        let i = self.filled;
        self.headers[i] = offload.to_vnet();
        let first = i * PIECES;
        self.iovs[first] = libc::iovec {
            iov_base: self.headers[i].as_mut_ptr().cast(),
            iov_len: header,
        };
        let mut count = 1;
        for (at, len) in pieces.take(PIECES - 1) {
            self.iovs[first + count] = libc::iovec {
                iov_base: at.cast_mut().cast(),
                iov_len: len,
            };
            count += 1;
        }
        let mut message = no_message();
        message.msg_hdr.msg_iov = self.iovs[first..].as_mut_ptr();
        message.msg_hdr.msg_iovlen = count;
        self.messages[i] = message;
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
            let head = packet.head();
            let tail = batch.segments(i).iter().map(|s| (s.as_ptr(), s.len()));
            self.add(
                &packet.offload,
                header,
                packet.len(),
                std::iter::once((head.as_ptr(), head.len())).chain(tail),
            );
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
        let bytes = &packet.bytes;
        self.add(
            &packet.offload,
            header,
            bytes.len(),
            std::iter::once((bytes.as_ptr(), bytes.len())),
        );
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
