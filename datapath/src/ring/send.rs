//! Sending: packets are copied into the guest's buffers, a batch at a time.

use std::ptr;

use super::chain::Ahead;
use super::queue::{PLAIN, Virtqueue};
use super::receive::MIN_FRAME;
use super::{RingError, Scratch};
use crate::packet::copy::{copy, copy_long, prefetch_read, prefetch_write};
use crate::packet::{BATCH, Batch, Offload, OwnedPacket, Segment, segment};
use crate::port::TxOutcome;

/// Copies the packets `which` out. Adds to `out`, returns how many of the guest's chains were malformed. Frames longer
/// than `max_frame` are dropped unless they are to be segmented.
#[inline]
pub(super) fn enqueue<Q: Virtqueue>(
    ring: &mut Q,
    batch: &Batch,
    which: &[u8],
    max_frame: usize,
    scratch: &mut Scratch,
    out: &mut TxOutcome,
) -> u32 {
    let mut writer = Writer::new(ring);
    writer.expect(which.len());
    for (done, &i) in which.iter().enumerate() {
        let i = usize::from(i);
        let packet = batch.packet(i);
        let offload = &packet.offload;
        if packet.len() > max_frame && !offload.is_gso() {
            out.too_long += 1;
            continue;
        }
        let header = if offload.is_plain() {
            PLAIN
        } else if writer.ring.common().accepts(offload) {
            writer.ring.common().header_for(offload)
        } else {
            scratch.frame.resize(packet.len(), 0);
            let n = batch.copy_out(i, 0, &mut scratch.frame);
            scratch.frame.truncate(n);
            writer.put_in_software(offload, scratch, out);
            continue;
        };
        let tail = if packet.is_whole() {
            &[]
        } else {
            // While this one is copied, the next one's bytes and room are on their way.
            if let Some(&next) = which.get(done + 1) {
                writer.approach(batch.segments(next.into()));
            }
            batch.segments(i)
        };
        let left = which.len() - done;
        writer.put(&header, packet.head(), tail, packet.len(), left, out);
    }
    writer.finish(out)
}

/// [`enqueue`] for one packet that owns its bytes.
pub(super) fn enqueue_owned<Q: Virtqueue>(
    ring: &mut Q,
    packet: &OwnedPacket,
    max_frame: usize,
    scratch: &mut Scratch,
    out: &mut TxOutcome,
) -> u32 {
    if packet.bytes.len() < MIN_FRAME || packet.bytes.len() > max_frame && !packet.offload.is_gso()
    {
        out.too_long += 1;
        return 0;
    }
    let mut writer = Writer::new(ring);
    if writer.ring.common().accepts(&packet.offload) {
        let header = writer.ring.common().header_for(&packet.offload);
        writer.put(&header, &packet.bytes, &[], packet.bytes.len(), 1, out);
    } else {
        scratch.frame.clear();
        scratch.frame.extend_from_slice(&packet.bytes);
        writer.put_in_software(&packet.offload, scratch, out);
    }
    writer.finish(out)
}

/// Sending in progress.
struct Writer<'a, Q> {
    ring: &'a mut Q,
    bad: u32,
    /// Packets and bytes sent.
    packets: u32,
    bytes: u64,
}

/// Lines that are asked for before a long copy, at most: a frame of 1500 bytes whole. Of what is longer the processor notices by
/// itself how it goes on.
const APPROACH: usize = 20;

/// Why a packet did not go.
enum Refused {
    /// Not enough buffers.
    Full,
    /// Longer than a buffer that may not be merged with others.
    TooLong,
    /// The ring is broken, or this buffer is.
    Down,
}

impl<'a, Q: Virtqueue> Writer<'a, Q> {
    fn new(ring: &'a mut Q) -> Writer<'a, Q> {
        Writer {
            ring,
            bad: 0,
            packets: 0,
            bytes: 0,
        }
    }

    /// Asks for what the next packet borrows, and for where it will go.
    #[inline(always)]
    fn approach(&self, tail: &[Segment]) {
        let Some(segment) = tail.first() else { return };
        let common = self.ring.common();
        let ahead = common.ahead[..common.filled].get(common.next + 1);
        let to = ahead.map_or(ptr::null_mut(), |ahead| ahead.at);
        for line in 0..segment.len().div_ceil(64).min(APPROACH) {
            prefetch_read(segment.as_ptr().wrapping_add(64 * line));
            // The first two were asked for already.
            prefetch_write(to.wrapping_add(64 * (line + 2)));
        }
    }

    /// Looks ahead at so many buffers.
    #[inline(always)]
    fn expect(&mut self, buffers: usize) {
        let want = buffers.clamp(1, BATCH);
        self.ring.top_up(want, true, true);
        self.ring.touch(want);
    }

    /// The next buffer; taking it is up to the caller.
    #[inline(always)]
    fn next(&mut self, expected: usize) -> Option<Ahead> {
        if self.ring.common().next == self.ring.common().filled {
            self.expect(expected);
        }
        self.ring.ask(true);
        let common = self.ring.common();
        if common.next == common.filled || common.error.is_some() {
            return None;
        }
        Some(common.ahead[common.next])
    }

    #[inline(always)]
    fn taken(&mut self, ahead: Ahead, written: usize) {
        self.ring.take(ahead.slots);
        self.ring.put_used(ahead, written as u32);
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
        let header_len = self.ring.common().header;
        let result = match self.next(packets_left) {
            None if self.ring.common().error.is_some() => Err(Refused::Down),
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
                        copy_long(segment.as_ptr(), to, segment.len());
                        to = to.add(segment.len());
                    }
                }
                self.taken(buffer, header_len + len);
                Ok(())
            }
            Some(_) => self.scatter(header, head, tail, len),
        };
        match result {
            Ok(()) => {
                self.packets += 1;
                self.bytes += len as u64;
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
    ) -> Result<(), Refused> {
        let header_len = self.ring.common().header;
        let mergeable = self.ring.common().mergeable;
        let mut source = Source {
            pieces: [&header[..header_len], head],
            at: 0,
            piece: 0,
            tail,
        };
        let start = self.ring.mark();
        let total = header_len + len;
        let mut done = 0;
        let mut buffers = 0u16;
        // Where the two bytes of `num_buffers` went.
        let mut count_at = [ptr::null_mut::<u8>(); 2];
        // As many more as the last one makes it seem.
        let mut expected = 1;
        while done < total {
            if buffers > 0 && !mergeable {
                return self.roll_back(start, Refused::TooLong);
            }
            let Some(buffer) = self.next(expected) else {
                let why = if self.ring.common().error.is_some() {
                    Refused::Down
                } else {
                    Refused::Full
                };
                return self.roll_back(start, why);
            };
            let before = done;
            let mut put = |at: *mut u8, room: u32| {
                let n = (total - done).min(room as usize);
                // SAFETY: `n <= room` writable bytes at `at`.
                unsafe { source.copy_to(at, n) };
                if done < 12 {
                    for (place, position) in count_at.iter_mut().zip([10, 11]) {
                        if (done..done + n).contains(&position) {
                            *place = at.wrapping_add(position - done);
                        }
                    }
                }
                done += n;
                Ok(done < total)
            };
            let walked = if buffer.at.is_null() {
                self.ring.walk(buffer, true, &mut put)
            } else {
                put(buffer.at, buffer.len).map(|_| ())
            };
            match walked {
                Ok(()) => {
                    self.taken(buffer, done - before);
                    buffers += 1;
                    expected = (total - done).div_ceil((done - before).max(1));
                }
                Err(_) if buffers == 0 => {
                    // Its own chain, given back unused; the packet has nowhere to go.
                    self.bad += 1;
                    self.taken(buffer, 0);
                    return Err(Refused::Down);
                }
                Err(bad) => {
                    self.bad += 1;
                    self.ring.common_mut().give_up(RingError::Buffer(bad));
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
    fn roll_back(&mut self, start: Q::Mark, why: Refused) -> Result<(), Refused> {
        self.ring.rewind(start);
        Err(why)
    }

    /// Does in software what the guest cannot, then sends. The frame is in `scratch.frame`.
    #[cold]
    fn put_in_software(&mut self, offload: &Offload, scratch: &mut Scratch, out: &mut TxOutcome) {
        let mut each = |frame: &[u8]| self.put(&PLAIN, frame, &[], frame.len(), 1, out);
        if segment::split(&mut scratch.frame, offload, &mut scratch.segment, &mut each).is_err() {
            out.error += 1;
        }
    }

    fn finish(self, out: &mut TxOutcome) -> u32 {
        out.packets += self.packets;
        out.bytes += self.bytes;
        self.ring.publish();
        // As many as this time will go there the next time: their buffers are on their way meanwhile.
        let again = (self.packets as usize).min(BATCH);
        self.ring.top_up(again, false, true);
        self.ring.ask(true);
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
            // SAFETY: `k` bytes from `at` on are inside the piece; `to` has room for `n >= k`.
            unsafe { copy_long(from.wrapping_add(self.at), to, k) };
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
