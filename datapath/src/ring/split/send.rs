//! Sending: batches into the guest's buffers.

use std::ptr;

use super::super::{RingError, Scratch};
use super::SplitRing;
use super::chain::{Ahead, WRITE, copy, prefetch_write};
use crate::packet::{BATCH, Offload, Segment, segment};
use crate::port::TxOutcome;

/// Sending in progress: the buffers looked at ahead of their use.
pub(super) struct Writer<'a> {
    pub(super) ring: &'a mut SplitRing,
    /// Of `ring.ahead`: how many are filled in, and how many of those are used up.
    pub(super) filled: usize,
    pub(super) used: usize,
    pub(super) bad: u32,
}

/// Why a packet did not go.
pub(super) enum Refused {
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
    pub(super) fn expect(&mut self, packets: usize) {
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
    pub(super) fn next(&mut self, packets_left: usize) -> Option<Ahead> {
        if self.used == self.filled {
            self.expect(packets_left);
            if self.filled == 0 {
                return None;
            }
        }
        Some(self.ring.ahead[self.used])
    }

    #[inline(always)]
    pub(super) fn taken(&mut self, head: u16, written: usize) {
        self.used += 1;
        self.ring.next_avail = self.ring.next_avail.wrapping_add(1);
        self.ring.put_used(head, written as u32);
    }

    /// Sends one packet as it is.
    #[inline(always)]
    pub(super) fn put(
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
    pub(super) fn put_in_software(
        &mut self,
        offload: &Offload,
        scratch: &mut Scratch,
        out: &mut TxOutcome,
    ) {
        let mut each = |frame: &[u8]| {
            let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
            self.put(&header, frame, &[], frame.len(), 1, out);
        };
        if segment::split(&mut scratch.frame, offload, &mut scratch.segment, &mut each).is_err() {
            out.error += 1;
        }
    }

    pub(super) fn finish(self) -> u32 {
        self.ring.publish_used();
        self.bad
    }
}

/// A packet being read from front to back.
pub(super) struct Source<'a> {
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
