//! The forwarding thread: poll, forward, and sleep when there is nothing.
//!
//! Run to completion: a round asks every active receive queue for a batch, forwards it, and notifies receivers once at its
//! end. Rounds follow each other while packets come. When none comes for as long as [`Pace`] says, the thread
//! hands its counts on, asks the queues it polled to notify it, looks once more, and sleeps in the kernel; the first packet
//! wakes it. So an idle switch costs nothing, and a busy one no system calls.
//!
//! What a sleep and its end cost does not depend on how many ports there are: one `epoll_wait`, and arming and disarming the
//! queue that spoke up. The only timer is for sweeping out old flows, while there are any.

use super::forward::Forwarder;
use super::pace::Pace;
use super::rota::{Queue, Rota};
use super::thread::{Common, Handle, Message, Shared};
use super::wake::{cycles, cycles_per_us};
use crate::packet::Batch;
use crossbeam_channel::{Receiver, Sender};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Flows looked at by one step of the sweep.
const SWEEP: usize = 256;
/// How often a sleeping thread wakes to sweep, while there are flows.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Microseconds between two steps of upkeep: sweeping, telling figures.
const UPKEEP: u64 = 1000;
/// Microseconds after which the clock is read again. What measures rates reads it for each batch, by itself.
const CLOCK: u64 = 400;

/// What is not worth sleeping for: about what it takes to fall asleep and wake up.
const SHORT: Duration = Duration::from_micros(60);

/// A receive queue that waits to be handed on.
struct Departing {
    queue: Option<Queue>,
    to: Arc<Handle>,
    done: Sender<()>,
}

pub(super) struct Thread {
    number: usize,
    forwarder: Forwarder,
    batch: Batch,
    rota: Rota,
    pace: Pace,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    /// Cycles when the clock was last read.
    clock_at: u64,
    /// Cycles at the last upkeep.
    kept_at: u64,
    /// Flows that the next upkeep looks at.
    to_sweep: usize,
    /// Cycles at the end of the last round.
    last: u64,
    /// Cycles per microsecond.
    us: u64,
    settling: Vec<Sender<()>>,
    departing: Vec<Departing>,
    counted: Counted,
}

/// What the thread counted; published now and then.
#[derive(Default)]
struct Counted {
    packets: u64,
    batches: u64,
    busy: u64,
    idle: u64,
    sleeps: u64,
}

impl Thread {
    pub(super) fn new(
        number: usize,
        common: Common,
        inbox: Receiver<Message>,
        shared: Arc<Shared>,
        rota: Rota,
    ) -> Thread {
        let us = cycles_per_us();
        let now = cycles();
        Thread {
            number,
            forwarder: Forwarder::new(common.world, common.epoch, common.events, common.clock),
            batch: Batch::new(),
            rota,
            pace: Pace::new(us, now),
            inbox,
            shared,
            clock_at: 0,
            kept_at: now,
            to_sweep: SWEEP,
            last: now,
            us,
            settling: Vec::new(),
            departing: Vec::new(),
            counted: Counted::default(),
        }
    }

    pub(super) fn run(mut self, cpu: Option<usize>) {
        let everywhere = sched_getaffinity(None).ok();
        if cpu.is_some() {
            self.pin(cpu, everywhere.as_ref());
        }
        self.last = cycles();
        loop {
            if self.shared.mail.load(Ordering::Acquire) {
                self.shared.mail.store(false, Ordering::SeqCst);
                self.read_clock(true);
                if !self.messages(everywhere.as_ref()) {
                    return;
                }
            }
            self.read_clock(self.forwarder.is_shaping());
            let packets = self.round();
            if packets == 0
                && !self.settling.is_empty()
                && self.forwarder.notify()
                && !self.is_departure_due()
            {
                for s in self.settling.drain(..) {
                    let _ = s.send(());
                }
            }
            if !self.departing.is_empty() {
                self.depart();
            }
            let now = self.last;
            if now.saturating_sub(self.kept_at) > UPKEEP * self.us {
                self.kept_at = now;
                self.forwarder
                    .sweep(std::mem::replace(&mut self.to_sweep, SWEEP));
                self.publish();
            }
            if self.pace.is_look_due(now, packets == 0) {
                self.rota.sleep(Some(Duration::ZERO), cycles);
            }
            if packets == 0 || self.pace.is_sparse() {
                if self.pace.is_tired(now) {
                    self.sleep();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }

    #[inline]
    fn read_clock(&mut self, force: bool) {
        if force || self.last.saturating_sub(self.clock_at) > CLOCK * self.us {
            self.clock_at = self.last;
            self.forwarder.read_clock();
        }
    }

    /// Polls every active queue once; how many packets there were.
    #[inline]
    fn round(&mut self) -> u64 {
        let forwarder = &mut self.forwarder;
        let (packets, batches) = self.rota.round(
            &mut self.batch,
            self.last,
            cycles,
            #[inline]
            |batch, port| forwarder.process(batch, port),
        );
        self.forwarder.depart();
        self.forwarder.notify();
        let now = cycles();
        let spent = now.saturating_sub(self.last);
        if packets > 0 {
            self.pace.arrived(now, packets);
            self.counted.busy += spent;
            self.counted.packets += packets;
            self.counted.batches += batches;
        } else {
            self.counted.idle += spent;
        }
        self.last = now;
        packets
    }

    /// Reads the mail; `false` to end.
    fn messages(&mut self, everywhere: Option<&CpuSet>) -> bool {
        while let Ok(m) = self.inbox.try_recv() {
            match m {
                Message::AddPort { port, tx, counters } => {
                    self.forwarder.add_port(port, tx, counters);
                }
                Message::Shape(port, shaper) => self.forwarder.set_shaper(port, shaper),
                Message::AddQueue(queue) => self.rota.add(queue, cycles()),
                Message::Move {
                    port,
                    number,
                    to,
                    done,
                } => {
                    let queue = self.rota.remove(|p, n| (p, n) == (port, number)).pop();
                    self.departing.push(Departing { queue, to, done });
                }
                Message::RemovePort(port, done) => {
                    self.rota.remove(|p, _| p == port);
                    self.departing
                        .retain(|d| d.queue.as_ref().is_none_or(|q| q.port != port));
                    self.forwarder.remove_port(port);
                    let _ = done.send(());
                }
                Message::Flush(done) => {
                    self.forwarder.flush();
                    self.forwarder.refresh();
                    self.publish();
                    let _ = done.send(());
                }
                Message::Settle(done) => {
                    self.rota.wake_all(cycles());
                    self.settling.push(done);
                }
                Message::Dump(to) => {
                    let _ = to.send(self.forwarder.dump());
                }
                Message::Inject(i) => {
                    self.batch.clear();
                    self.forwarder.inject(&mut self.batch, &i);
                }
                Message::Pin(cpu) => self.pin(cpu, everywhere),
                Message::Retire(to) => {
                    self.end();
                    let _ = to.send(self.forwarder.retire());
                    return false;
                }
                Message::Quit => {
                    self.end();
                    return false;
                }
            }
        }
        self.forwarder.notify();
        true
    }

    fn end(&mut self) {
        self.forwarder.notify();
        self.forwarder.flush();
        self.publish();
    }

    fn pin(&self, cpu: Option<usize>, everywhere: Option<&CpuSet>) {
        let set = match cpu {
            Some(cpu) if cpu < CpuSet::MAX_CPU => {
                let mut set = CpuSet::new();
                set.set(cpu);
                Some(set)
            }
            Some(_) => None,
            None => everywhere.copied(),
        };
        let done = set.map_or(Err(rustix::io::Errno::INVAL), |set| {
            sched_setaffinity(None, &set)
        });
        if let Err(e) = done {
            let cpu = cpu.map_or_else(|| "all CPUs".to_owned(), |c| format!("CPU {c}"));
            tracing::warn!(
                "Forwarding thread {} stays where it is, not on {cpu}: {e}",
                self.number
            );
        }
    }

    /// Hands on the queues that are to go, once nothing is held back that came in by them: from then on the other thread's
    /// packets cannot overtake ours.
    fn depart(&mut self) {
        if !self.forwarder.notify() {
            return;
        }
        self.forwarder.flush();
        self.departing.retain_mut(|d| {
            if let Some(queue) = d.queue.take()
                && let Err(Message::AddQueue(back)) = d.to.try_send(Message::AddQueue(queue))
            {
                d.queue = Some(back);
                return true;
            }
            let _ = d.done.send(());
            false
        });
    }

    fn publish(&mut self) {
        self.rota.tell();
        let p = &self.shared.published;
        let c = &self.forwarder.counts;
        for (to, n) in [
            (&p.packets, self.counted.packets),
            (&p.batches, self.counted.batches),
            (&p.busy, self.counted.busy),
            (&p.idle, self.counted.idle),
            (&p.sleeps, self.counted.sleeps),
            (&p.exact, c.exact),
            (&p.wildcard, c.wildcard),
            (&p.misses, c.misses),
            (&p.probed, c.probed),
            (&p.revalidated, c.revalidated),
            (&p.flows, self.forwarder.flow_count() as u64),
            (&p.queues, self.rota.queues() as u64),
        ] {
            let to: &AtomicU64 = to;
            to.store(n, Ordering::Relaxed);
        }
    }

    /// The time until the next packet leaves a shaper.
    fn until_departure(&self) -> Option<Duration> {
        let due = self.forwarder.next_departure()?;
        Some(Duration::from_nanos(due.saturating_sub(self.forwarder.now)))
    }

    fn is_departure_due(&self) -> bool {
        self.until_departure() == Some(Duration::ZERO)
    }

    fn sleep(&mut self) {
        // Packets that wait for somebody else, and queues that wait to go, are tried for again.
        if !self.settling.is_empty() || !self.departing.is_empty() || !self.forwarder.notify() {
            return;
        }
        // A packet that leaves so soon is waited for.
        if self.until_departure().is_some_and(|t| t < SHORT) {
            return;
        }
        self.rota.arm_all();
        if self.round() > 0 || self.rota.active() > 0 {
            return;
        }
        self.forwarder.flush();
        self.counted.sleeps += 1;
        self.publish();
        self.shared.asleep.store(true, Ordering::SeqCst);
        if !self.shared.mail.load(Ordering::SeqCst) {
            // Flows have to be swept out; without any there is nothing to wake for.
            let sweep = (self.forwarder.flow_count() > 0).then_some(SWEEP_EVERY);
            let depart = self.until_departure();
            let timeout = sweep.into_iter().chain(depart).min();
            self.rota.sleep(timeout, cycles);
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
        let slept = cycles();
        if slept.saturating_sub(self.last) > UPKEEP * self.us {
            // Due at once, but whoever woke it goes first.
            self.kept_at = 0;
            self.to_sweep = self.forwarder.flow_count().clamp(SWEEP, SWEEP * 16);
        }
        self.last = slept;
        self.pace.looked(self.last);
        self.read_clock(true);
    }
}
