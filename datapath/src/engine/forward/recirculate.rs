//! Packets whose headers change so that their key has to be read again, and other work on copies.

use super::Forwarder;
use super::inject::tcp_flags;
use crate::action::{self, DpAction, Reshape};
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, extract};
use crate::packet::{Batch, Checksum, Offload, OwnedPacket, checksum, segment};
use crate::pipeline::{Frozen, RECIRCULATIONS_MAX, Xlate};
use std::time::Duration;

impl Forwarder {
    /// Works with a batch of its own. What was gathered of `batch` is sent first: it is by place in that.
    pub(super) fn apart(
        &mut self,
        batch: &Batch,
        port: u32,
        work: impl FnOnce(&mut Self, &mut Batch),
    ) {
        self.send_gathered(batch, port);
        self.alone(port, work);
    }

    /// As [`Forwarder::apart`], when nothing is gathered.
    pub(super) fn alone(&mut self, port: u32, work: impl FnOnce(&mut Self, &mut Batch)) {
        let (mut own, lists) = self.spares.pop().unwrap_or_default();
        let can_wait = std::mem::replace(&mut self.waiting.can, false);
        work(self, &mut own);
        self.waiting.can = can_wait;
        self.send_gathered(&own, port);
        own.clear();
        self.spares.push((own, lists));
    }

    /// Goes on with a packet, or a copy of it unless it is `last` that anybody needs it.
    pub(super) fn recirculate(
        &mut self,
        batch: &mut Batch,
        i: usize,
        frozen: &Frozen,
        last: bool,
        port: u32,
    ) {
        self.recirculations += 1;
        if self.recirculations > RECIRCULATIONS_MAX {
            return self.drop(port, DropReason::TooManyResubmits, 1);
        }
        if !batch.packet(i).offload.is_done() && frozen.reshape != Reshape::Nothing {
            let pieces = self.pieces(batch, i, port);
            for piece in &pieces {
                self.apart(batch, port, |x, own| {
                    // SAFETY: `piece` outlives its batch, which is cleared before this returns.
                    if unsafe { own.push_borrowed(piece) } {
                        action::find_headers(own.packet_mut(0));
                        x.resume(own, 0, frozen, port);
                    }
                });
            }
        } else if last {
            self.resume(batch, i, frozen, port);
        } else {
            self.apart(batch, port, |x, own| {
                // SAFETY: the copy is cleared before this returns, and `batch` stays as long.
                if unsafe { own.push_copy(batch, i) } {
                    x.resume(own, 0, frozen, port);
                }
            });
        }
    }

    fn resume(&mut self, batch: &mut Batch, i: usize, frozen: &Frozen, port: u32) {
        if !action::reshape(batch.packet_mut(i), &frozen.reshape) {
            return self.drop(port, DropReason::NoHeadroom, 1);
        }
        batch.refill_head(i);
        let p = batch.packet_mut(i);
        // Queues are told of anew.
        p.queue = 0;
        // The tags it has now are its own.
        p.tags_off = Default::default();
        let mut words = [0; PACKET_WORDS];
        let n = extract(p, port, self.world.tag_limit, &mut words);
        let bytes = p.len() as u64;
        let key = frozen.key(FlowKey::from_packet(&words, n));
        let (spare, lists) = self.spares.pop().unwrap_or_default();
        let world = self.world.clone();
        let t = Xlate::new(&world, key, Duration::from_nanos(self.now), true)
            .reusing(lists)
            .long(bytes)
            .resume(frozen);
        self.carry_out(batch, i, &t, (bytes, tcp_flags(&words)), port);
        self.spares.push((spare, t));
    }

    /// What a packet with work left to do would be on a wire: checksums filled in, cut into segments.
    pub(super) fn pieces(&mut self, batch: &Batch, i: usize, port: u32) -> Vec<OwnedPacket> {
        let mut whole = batch.to_owned(i);
        let mut pieces = Vec::new();
        let each = |f: &[u8]| pieces.push(OwnedPacket::new(f));
        if segment::split(&mut whole.bytes, &whole.offload, &mut Vec::new(), each).is_err() {
            self.drop(port, DropReason::TxError, 1);
        }
        pieces
    }

    /// Does `actions` from number `from` on to each of what a packet with work left to do comes down to: nobody could do that work later.
    pub(super) fn in_pieces(
        &mut self,
        batch: &Batch,
        i: usize,
        (actions, from): (&[DpAction], usize),
        port: u32,
    ) {
        let queue = batch.packet(i).queue;
        for piece in &self.pieces(batch, i, port) {
            self.apart(batch, port, |x, own| {
                // SAFETY: `piece` outlives its batch, which is cleared before this returns.
                if unsafe { own.push_borrowed(piece) } {
                    own.packet_mut(0).queue = queue;
                    action::find_headers(own.packet_mut(0));
                    x.run_from(own, 0, (actions, from), false, port);
                }
            });
        }
    }

    /// The first bytes of a packet. Its checksum is that of the whole.
    pub(super) fn first_bytes(batch: &Batch, i: usize, max_len: usize) -> OwnedPacket {
        let mut packet = batch.to_owned(i);
        if let Checksum::Needed { start, offset } = packet.offload.checksum {
            checksum::finish(&mut packet.bytes, start.into(), offset.into());
        }
        packet.offload = Offload::default();
        packet.bytes.truncate(max_len);
        packet
    }

    /// Sends the first bytes of a packet. Its checksum is that of the whole.
    pub(super) fn truncated(
        &mut self,
        batch: &mut Batch,
        i: usize,
        to: u32,
        max_len: usize,
        port: u32,
    ) {
        self.send(batch, to, port);
        if max_len < batch.packet(i).len() && !batch.packet(i).offload.is_done() {
            let packet = Self::first_bytes(batch, i, max_len);
            let queue = batch.packet(i).queue;
            return self.apart(batch, port, |x, own| {
                // SAFETY: `packet` outlives its batch, which is cleared before this returns.
                if unsafe { own.push_borrowed(&packet) } {
                    own.packet_mut(0).queue = queue;
                    x.send_now(own, to, &[0], port);
                }
            });
        }
        let cut = batch.cut(i, max_len);
        self.send_now(batch, to, &[i as u8], port);
        if let Some(cut) = cut {
            batch.uncut(i, cut);
        }
    }
}
