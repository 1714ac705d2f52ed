//! Receiving: a guest's chains become packets whose first bytes are private and whose rest stays in the guest's memory.

use super::BadChain;
use super::chain::Ahead;
use super::queue::{Common, Taken, Virtqueue};
use crate::packet::copy::copy;
use crate::packet::{BATCH, Batch, HEAD_MAX, Offload, PACKET_MAX};

/// Shortest frame: an Ethernet header.
pub(super) const MIN_FRAME: usize = 14;

/// Takes up to a batch of packets; says how many, and how many chains were malformed. The batch's segments point into guest
/// memory until `give_back`.
#[inline]
pub(super) fn dequeue<Q: Virtqueue>(ring: &mut Q, batch: &mut Batch) -> (usize, u32) {
    let common = ring.common();
    if common.error.is_some() {
        return (0, 0);
    }
    let want = batch.room().min(BATCH - common.taken_len);
    ring.top_up(want, true, false);
    let common = ring.common();
    let n = (common.filled - common.next).min(want);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..n {
        ring.ask(false);
        let common = ring.common();
        let ahead = common.ahead[common.next];
        let taken = if ahead.at.is_null() {
            take_chain(ring, ahead, batch)
        } else {
            // SAFETY: `at` was translated with `len` and lies in memory that the ring keeps.
            unsafe { take_single(ring.common(), ahead.at, ahead.len as usize, batch) }
        };
        match taken {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
        ring.take(ahead.slots);
        let common = ring.common_mut();
        common.taken[common.taken_len] = Taken {
            id: ahead.id,
            slots: ahead.slots,
        };
        common.taken_len += 1;
    }
    (good, bad)
}

/// Returns what was taken. What comes next, as far as it is known, is on its way while others are served.
#[inline]
pub(super) fn give_back<Q: Virtqueue>(ring: &mut Q) {
    if ring.common().taken_len > 0 {
        ring.give_back();
        ring.top_up(BATCH, false, false);
        ring.ask(false);
    }
}

/// A packet in one piece.
///
/// # Safety
///
/// `len` bytes at `at` must be inside memory that outlives the batch's use of them.
#[inline(always)]
unsafe fn take_single(
    common: &Common,
    at: *const u8,
    len: usize,
    batch: &mut Batch,
) -> Result<(), BadChain> {
    let frame = len.wrapping_sub(common.header);
    if len < common.header + MIN_FRAME || frame > PACKET_MAX {
        return Err(BadChain::Length);
    }
    // SAFETY: the header has 10 or 12 bytes, and `len` is more.
    let header = unsafe { at.cast::<[u8; 10]>().read_unaligned() };
    let offload = if header[0] | header[1] == 0 {
        Offload::default()
    } else {
        common.offload(&header, frame)?
    };
    // SAFETY: `frame` bytes follow the header; they stay mapped until give_back, by the caller's promise.
    if unsafe { batch.push_run(at.add(common.header), frame, offload) } {
        Ok(())
    } else {
        Err(BadChain::Length)
    }
}

/// A packet in any legal shape.
fn take_chain<Q: Virtqueue>(ring: &mut Q, ahead: Ahead, batch: &mut Batch) -> Result<(), BadChain> {
    if batch.begin().is_none() {
        return Err(BadChain::Length);
    }
    let mut header = [0u8; 12];
    let (mut header_len, mut head_len) = (0, 0);
    let want = ring.common().header;
    ring.walk(ahead, false, &mut |at: *mut u8, len| {
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
    packet.offload = ring.common().offload(&ten, packet.len())?;
    batch.commit();
    Ok(())
}
