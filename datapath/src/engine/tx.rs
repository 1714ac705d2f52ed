//! The way out of a port, as one thread has it.
//!
//! A port with as many transmit queues as there are threads gives each its own. What has fewer (a tap, a guest with one
//! receive ring) is shared, and then no thread may wait for another: one that was preempted in the middle of a batch would
//! hold up all. So a thread *tries*: one uncontended exchange a batch, no system call, and its packets are copied once,
//! straight into the destination. If somebody else is sending there it tries a few times more, and then copies the packets
//! aside, into buffers of its own that are reused, to send them first thing the next time, or at the end of the round. It does not sleep while
//! it holds any back, and hands no receive queue to another thread, so that packets of one flow keep their order. What
//! there is no room for is dropped and counted.
//!
//! Handing packets over to an owner of the queue, by a ring for each pair of threads, was the other way to do it. It copies every
//! packet twice, also when nobody is in the way, and has to wake owners that sleep; two threads that are both busy
//! sending to one ring are limited by that ring either way.

use crate::action::TunnelPush;
use crate::packet::{Batch, OwnedPacket};
use crate::port::{TxOutcome, TxQueue};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// Packets one thread holds back for one destination.
pub const HELD_MAX: usize = 128;
/// Their bytes: a few of the longest packets, or all of usual ones.
pub const HELD_BYTES: usize = 512 << 10;
/// Buffers longer than this are not kept for reuse.
const SPARE_LEN: usize = 4096;
/// How often a destination in use is tried for: about the time of a batch of small packets.
const TRIES: usize = 16;

/// A packet that waits for a destination.
pub struct HeldPacket {
    /// With what is left to do about it.
    pub packet: OwnedPacket,
    /// The queue that it goes by.
    pub queue: u32,
    /// The tunnel it goes into, if the destination is a tunnel port.
    pub into: Option<Arc<TunnelPush>>,
}

/// Packets that wait for a destination.
#[derive(Default)]
pub struct Held {
    packets: VecDeque<HeldPacket>,
    bytes: usize,
    spare: Vec<OwnedPacket>,
}

impl Held {
    /// Takes copies of packets, those that there is room for; the number of the others.
    pub(super) fn take(
        &mut self,
        batch: &Batch,
        which: &[u8],
        into: Option<&Arc<TunnelPush>>,
    ) -> u32 {
        for (n, &i) in which.iter().enumerate() {
            let len = batch.packet(i.into()).len();
            if self.packets.len() == HELD_MAX || self.bytes + len > HELD_BYTES {
                return (which.len() - n) as u32;
            }
            let mut packet = self.spare.pop().unwrap_or_default();
            packet.bytes.resize(len, 0);
            let n = batch.copy_out(i.into(), 0, &mut packet.bytes);
            packet.bytes.truncate(n);
            packet.offload = batch.packet(i.into()).offload;
            self.bytes += packet.bytes.len();
            let queue = batch.packet(i.into()).queue;
            self.packets.push_back(HeldPacket {
                packet,
                queue,
                into: into.cloned(),
            });
        }
        0
    }

    fn send(&mut self, queue: &mut dyn TxQueue, out: &mut TxOutcome) {
        while let Some(HeldPacket { packet, .. }) = self.pop() {
            out.add(queue.send_owned(&packet));
            self.reuse(packet);
        }
    }

    /// The first of them.
    pub(super) fn pop(&mut self) -> Option<HeldPacket> {
        let held = self.packets.pop_front()?;
        self.bytes -= held.packet.bytes.len();
        Some(held)
    }

    /// Its buffer is used again.
    pub(super) fn reuse(&mut self, packet: OwnedPacket) {
        if packet.bytes.capacity() <= SPARE_LEN && self.spare.len() < HELD_MAX {
            self.spare.push(packet);
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// A transmit queue as one thread has it.
#[derive(Default)]
pub enum Tx {
    /// No way out.
    #[default]
    None,
    /// The thread's own, though what is behind it may be in use by another for a moment.
    Own(Box<dyn TxQueue>, Box<Held>),
    /// Shared with others: the port has fewer queues than there are threads.
    Shared(Arc<Mutex<Box<dyn TxQueue>>>, Box<Held>),
}

/// A queue to send to, until it is dropped.
enum Ready<'a> {
    Own(&'a mut dyn TxQueue),
    Shared(MutexGuard<'a, Box<dyn TxQueue>>),
}

impl Ready<'_> {
    fn queue(&mut self) -> &mut dyn TxQueue {
        match self {
            Ready::Own(q) => *q,
            Ready::Shared(q) => &mut ***q,
        }
    }
}

impl Tx {
    /// A queue of the thread's own.
    pub fn own(queue: Box<dyn TxQueue>) -> Tx {
        Tx::Own(queue, Box::default())
    }

    /// A queue that others have, too.
    pub fn shared(queue: Arc<Mutex<Box<dyn TxQueue>>>) -> Tx {
        Tx::Shared(queue, Box::default())
    }

    fn ready(&mut self, tries: usize) -> Option<(Ready<'_>, &mut Held)> {
        let tries = (0..tries).inspect(|n| {
            if *n > 0 {
                std::hint::spin_loop();
            }
        });
        match self {
            Tx::None => None,
            Tx::Own(queue, held) => {
                let mut tries = tries;
                let ready = tries.any(|_| queue.is_ready());
                ready.then_some((Ready::Own(&mut **queue), &mut **held))
            }
            Tx::Shared(queue, held) => {
                let mut tries = tries;
                let ready = tries.find_map(|_| queue.try_lock())?;
                Some((Ready::Shared(ready), &mut **held))
            }
        }
    }

    /// Sends packets, or holds them back; `None` if there is no way out.
    #[inline]
    pub fn send(&mut self, batch: &Batch, which: &[u8]) -> Option<TxOutcome> {
        match self {
            Tx::None => None,
            Tx::Own(queue, held) => {
                if held.is_empty() && queue.is_ready() {
                    return Some(queue.send(batch, which));
                }
                Some(self.send_contended(batch, which))
            }
            Tx::Shared(..) => Some(self.send_contended(batch, which)),
        }
    }

    fn send_contended(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        if let Some((mut ready, held)) = self.ready(TRIES) {
            held.send(ready.queue(), &mut out);
            out.add(ready.queue().send(batch, which));
        } else if let Some(held) = self.held_mut() {
            out.busy = held.take(batch, which, None);
        }
        out
    }

    fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Tx::None => None,
            Tx::Own(_, held) | Tx::Shared(_, held) => Some(held),
        }
    }

    /// Lets `work` have the queue, once it has what is held back; `false` if somebody else is sending there.
    pub fn with(
        &mut self,
        out: &mut TxOutcome,
        work: impl FnOnce(&mut dyn TxQueue, &mut TxOutcome),
    ) -> bool {
        let Some((mut ready, held)) = self.ready(TRIES) else {
            return false;
        };
        held.send(ready.queue(), out);
        work(ready.queue(), out);
        true
    }

    /// Sends what is held back and notifies the receiver. What came of what was held back, and whether all is done; if
    /// not, it is to be called again.
    pub fn flush(&mut self) -> (TxOutcome, bool) {
        let mut out = TxOutcome::default();
        if let Some((mut ready, held)) = self.ready(1) {
            held.send(ready.queue(), &mut out);
            ready.queue().flush();
            return (out, true);
        }
        (out, matches!(self, Tx::None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Notes the first byte of what is sent.
    #[derive(Default)]
    struct Log {
        sent: Arc<Mutex<Vec<u8>>>,
        in_use: Arc<AtomicBool>,
        flushed: usize,
    }

    impl TxQueue for Log {
        fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
            let mut out = TxOutcome::default();
            for &i in which {
                out.add(self.send_owned(&batch.to_owned(i.into())));
            }
            out
        }
        fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
            self.sent.lock().push(packet.bytes[0]);
            TxOutcome {
                packets: 1,
                bytes: packet.bytes.len() as u64,
                ..TxOutcome::default()
            }
        }
        fn flush(&mut self) {
            self.flushed += 1;
        }
        fn is_ready(&mut self) -> bool {
            !self.in_use.load(Ordering::Relaxed)
        }
    }

    fn batch(packets: &[OwnedPacket]) -> Batch {
        let mut batch = Batch::new();
        for p in packets {
            // SAFETY: the callers keep the packets for longer than the batch.
            assert!(unsafe { batch.push_borrowed(p) });
        }
        batch
    }

    fn packets(first: u8, n: u8, len: usize) -> Vec<OwnedPacket> {
        (first..first + n)
            .map(|i| OwnedPacket::new(vec![i; len]))
            .collect()
    }

    #[test]
    fn what_meets_somebody_else_is_sent_later_in_order() {
        let log = Log::default();
        let (sent, in_use) = (log.sent.clone(), log.in_use.clone());
        let shared: Arc<Mutex<Box<dyn TxQueue>>> = Arc::new(Mutex::new(Box::new(Log {
            sent: sent.clone(),
            ..Log::default()
        })));
        for (mut tx, shared) in [
            (Tx::own(Box::new(log)), None),
            (Tx::shared(shared.clone()), Some(shared.clone())),
        ] {
            sent.lock().clear();
            let all = packets(0, 12, 60);
            let send = |tx: &mut Tx, n: std::ops::Range<usize>| {
                let batch = batch(&all[n]);
                let which: Vec<u8> = (0..batch.len() as u8).collect();
                tx.send(&batch, &which).unwrap()
            };
            assert_eq!(send(&mut tx, 0..3).packets, 3);
            let guard = shared.as_ref().map(|s| s.lock());
            in_use.store(true, Ordering::Relaxed);
            assert_eq!(send(&mut tx, 3..6), TxOutcome::default());
            assert_eq!(send(&mut tx, 6..8), TxOutcome::default());
            assert_eq!(tx.flush(), (TxOutcome::default(), false));
            in_use.store(false, Ordering::Relaxed);
            drop(guard);
            // The next to come goes behind them.
            let out = send(&mut tx, 8..12);
            assert_eq!((out.packets, out.bytes), (9, 9 * 60));
            assert_eq!(*sent.lock(), (0..12).collect::<Vec<u8>>());
            assert!(tx.flush().1);
        }
    }

    #[test]
    fn what_is_held_back_is_bounded_and_its_buffers_are_reused() {
        let log = Log::default();
        let in_use = log.in_use.clone();
        let mut tx = Tx::own(Box::new(log));
        for (len, fits) in [(60, HELD_MAX), (HELD_BYTES / 10, 10)] {
            in_use.store(true, Ordering::Relaxed);
            let mut busy = 0;
            for _ in 0..5 {
                let all = packets(0, 32, len);
                let which: Vec<u8> = (0..32).collect();
                busy += tx.send(&batch(&all), &which).unwrap().busy as usize;
            }
            assert_eq!(busy, 160 - fits);
            in_use.store(false, Ordering::Relaxed);
            let (out, done) = tx.flush();
            assert_eq!((out.packets as usize, done), (fits, true));
        }
        let Tx::Own(_, held) = &tx else {
            unreachable!()
        };
        assert_eq!(held.spare.len(), HELD_MAX - 10);
        assert!(held.spare.iter().all(|p| p.bytes.capacity() <= SPARE_LEN));
    }

    #[test]
    fn without_a_way_out_there_is_nothing_to_do() {
        let all = packets(0, 1, 60);
        assert_eq!(Tx::None.send(&batch(&all), &[0]), None);
        assert_eq!(Tx::None.flush(), (TxOutcome::default(), true));
    }
}
