//! Ways out that have quality of service (see `qos`): packets are given to the port's shaper, and the thread that owns it sees to
//! departures.

use super::Forwarder;
use crate::action::{TunnelPush, find_headers};
use crate::drop::DropReason;
use crate::engine::tx::{Held, HeldPacket, Tx};
use crate::packet::Batch;
use crate::port::TxOutcome;
use crate::qos::PortShaper;
use crate::qos::shaper::Report;
use std::sync::Arc;

/// Packets that leave by one port in one round; then it is others' turn.
const DEPARTURES: usize = 64;

/// A port's shaper as one thread has it.
pub(super) struct Egress {
    pub(super) shaper: Arc<PortShaper>,
    /// Packets that came while another thread was at the shaper.
    stash: Held,
    /// When this thread looks at it; never, if another sees to departures.
    due: u64,
    /// Whether it is among those that the thread looks at.
    listed: bool,
    /// Reused.
    report: Report,
}

/// Packets of a batch that came for a shaper.
struct Came<'a> {
    batch: &'a Batch,
    which: &'a [u8],
    /// The tunnel they go into, if it is a tunnel port's.
    into: Option<&'a Arc<TunnelPush>>,
    /// Where they came from.
    from: u32,
}

impl Egress {
    /// Whether there are packets in the stash.
    pub(super) fn is_behind(&self) -> bool {
        !self.stash.is_empty()
    }
}

impl Forwarder {
    /// The port has a shaper from now on, or another configuration of it waits to be noticed.
    pub fn set_shaper(&mut self, port: u32, shaper: Arc<PortShaper>) {
        let lane = self.lane(port);
        let same = lane
            .egress
            .as_ref()
            .is_some_and(|e| Arc::ptr_eq(&e.shaper, &shaper));
        if !same {
            lane.egress = Some(Box::new(Egress {
                shaper,
                stash: Held::default(),
                due: u64::MAX,
                listed: false,
                report: Report::default(),
            }));
        }
        if let Some(mut e) = lane.egress.take() {
            e.due = 0;
            self.list(port, &mut e.listed);
            self.lanes[port as usize].egress = Some(e);
        }
        self.tend_due();
    }

    /// Lets go of all shapers: the thread ends. Those that it saw to are seen to by whoever is told of them next.
    pub(super) fn disown_all(&mut self) {
        for port in 0..self.lanes.len() {
            // Others do not hold it for long, and what is in the stash must not be lost.
            while self.lanes[port]
                .egress
                .as_ref()
                .is_some_and(|e| !e.stash.is_empty())
            {
                self.tend(port as u32, None);
                std::thread::yield_now();
            }
            let Some(e) = self.lanes[port].egress.take() else {
                continue;
            };
            let shaper = loop {
                if let Some(shaper) = e.shaper.try_lock(self.now) {
                    break shaper;
                }
                std::thread::yield_now();
            };
            let mut shaper = shaper;
            shaper.disown(self.id);
        }
        self.shaping.clear();
    }

    /// Whether the thread has shapers to see to: then it needs to know the time well.
    #[inline]
    pub fn is_shaping(&self) -> bool {
        !self.shaping.is_empty()
    }

    /// When the next packet leaves, in nanoseconds of the datapath's clock; none if none waits.
    pub fn next_departure(&self) -> Option<u64> {
        let due = |port: &u32| self.lanes[*port as usize].egress.as_ref().map(|e| e.due);
        let next = self.shaping.iter().filter_map(due).min();
        next.filter(|due| *due != u64::MAX)
    }

    /// Sees to departures that are due, of each port no more than its share of a round.
    #[inline]
    pub fn depart(&mut self) {
        if !self.shaping.is_empty() {
            self.tend_due();
        }
    }

    #[inline(never)]
    fn tend_due(&mut self) {
        let mut at = 0;
        while let Some(&port) = self.shaping.get(at) {
            let Some(e) = &self.lanes[port as usize].egress else {
                self.shaping.swap_remove(at);
                continue;
            };
            if e.due <= self.now || !e.stash.is_empty() {
                self.tend(port, None);
            }
            let lane = &mut self.lanes[port as usize];
            match &mut lane.egress {
                Some(e) if e.due != u64::MAX || !e.stash.is_empty() => at += 1,
                other => {
                    if let Some(e) = other {
                        e.listed = false;
                    }
                    self.shaping.swap_remove(at);
                }
            }
        }
    }

    fn list(&mut self, port: u32, listed: &mut bool) {
        if !*listed {
            *listed = true;
            self.shaping.push(port);
        }
    }

    /// Packets go out of a port that has a shaper; into a tunnel, if it is a tunnel port.
    #[inline(never)]
    pub(super) fn send_shaped(
        &mut self,
        batch: &Batch,
        to: u32,
        which: &[u8],
        into: Option<&Arc<TunnelPush>>,
        from: u32,
    ) {
        if into.is_some() {
            // What leaves meanwhile is gathered by its place in other batches.
            self.send_gathered(batch, from);
        } else if matches!(self.lanes[to as usize].tx, Tx::None) {
            return self.drop(from, DropReason::PortNoForward, which.len() as u32);
        }
        self.time();
        let came = Came {
            batch,
            which,
            into,
            from,
        };
        self.tend(to, Some(came));
    }

    /// Gives a shaper what came for it, sends what is due, and notes when to look again.
    fn tend(&mut self, port: u32, came: Option<Came<'_>>) {
        let lane = &mut self.lanes[port as usize];
        let Some(mut e) = lane.egress.take() else {
            return;
        };
        let mut tx = std::mem::take(&mut lane.tx);
        let keep = self.tend_to(port, &mut e, &mut tx, came);
        let lane = &mut self.lanes[port as usize];
        lane.tx = tx;
        lane.egress = keep.then_some(e);
    }

    /// `false` if the shaper is to be forgotten.
    fn tend_to(&mut self, port: u32, e: &mut Egress, tx: &mut Tx, came: Option<Came<'_>>) -> bool {
        let (now, id) = (self.now, self.id);
        let stashed = !e.stash.is_empty();
        let Some(mut shaper) = e.shaper.try_lock(now) else {
            // Somebody is at it.
            if let Some(came) = came {
                let lost = e.stash.take(came.batch, came.which, came.into);
                self.stashed += u32::from(!e.stash.is_empty() && !stashed);
                self.list(port, &mut e.listed);
                if lost > 0 {
                    let out = TxOutcome {
                        busy: lost,
                        ..TxOutcome::default()
                    };
                    self.sent_off(out, port, came.from);
                }
            }
            return true;
        };
        let report = &mut e.report;
        let mut from = port;
        if stashed {
            let (mut batch, lists) = self.spares.pop().unwrap_or_default();
            while let Some(HeldPacket {
                packet,
                queue,
                into,
            }) = e.stash.pop()
            {
                batch.clear();
                // SAFETY: `packet` lives until the batch is cleared, or dropped.
                if unsafe { batch.push_borrowed(&packet) } {
                    batch.packet_mut(0).queue = queue;
                    if into.is_some() {
                        find_headers(batch.packet_mut(0));
                    }
                    let into = into.as_ref();
                    let send = |b: &Batch, w: &[u8]| self.let_pass(b, w, into, tx);
                    shaper.admit(&batch, &[0], into, now, report, send);
                }
                batch.clear();
                e.stash.reuse(packet);
            }
            self.spares.push((batch, lists));
        }
        if let Some(came) = came {
            from = came.from;
            let send = |b: &Batch, w: &[u8]| self.let_pass(b, w, came.into, tx);
            shaper.admit(came.batch, came.which, came.into, now, report, send);
        }
        let mut plan = shaper.plan(now);
        if shaper.own(id, plan) && plan <= now {
            if let Tx::None = tx {
                shaper.depart(now, DEPARTURES, report, |packet, onward| match onward {
                    Some(onward) => self.leave_into_tunnel(packet, onward),
                    None => TxOutcome {
                        full: 1,
                        ..TxOutcome::default()
                    },
                });
            } else {
                let mut out = TxOutcome::default();
                tx.with(&mut out, |queue, _| {
                    shaper.depart(now, DEPARTURES, report, |packet, _| {
                        queue.send_owned(packet)
                    });
                });
                report.out.add(out);
            }
            plan = shaper.plan(now);
            shaper.own(id, plan);
        }
        e.due = match shaper.is_owner(id) {
            true => plan,
            false => u64::MAX,
        };
        let keep = !shaper.is_off();
        drop(shaper);
        self.stashed -= u32::from(stashed);
        let lane = &mut self.lanes[port as usize];
        if report.out.packets > 0 && !lane.sent {
            lane.sent = true;
            self.sent.push(port);
        }
        if keep && e.due != u64::MAX {
            self.list(port, &mut e.listed);
        }
        self.settle_up(&mut e.report, port, from);
        keep
    }

    /// Packets that need not wait leave.
    fn let_pass(
        &mut self,
        batch: &Batch,
        which: &[u8],
        into: Option<&Arc<TunnelPush>>,
        tx: &mut Tx,
    ) -> TxOutcome {
        match into {
            Some(push) => self.pass_into_tunnel(batch, which, push),
            None => tx.send(batch, which).unwrap_or_default(),
        }
    }

    /// Counts what a shaper reports.
    fn settle_up(&mut self, report: &mut Report, port: u32, from: u32) {
        let out = std::mem::take(&mut report.out);
        if out != TxOutcome::default() {
            self.sent_off(out, port, from);
        }
        while let Some((reason, n)) = report.drops.pop() {
            self.lanes[port as usize].local.tx_dropped += u64::from(n);
            self.touch(port);
            self.drop(from, reason, n);
        }
    }
}
