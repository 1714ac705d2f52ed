//! The forwarding thread: poll, forward, and sleep when there is nothing.
//!
//! Run to completion: a round asks every receive queue of the thread for a batch, forwards it, and
//! notifies receivers once at its end. Rounds follow each other while packets come. When none came for
//! [`SPIN`], the thread hands its counts on, asks all queues to notify it, looks once more, and
//! sleeps in the kernel; the first packet wakes it. So an idle switch costs nothing, and a busy one no
//! system calls.
//!
//! The rest of the program talks to it by messages; a flag says that there are some, so that a
//! round without messages costs one load.

use super::events::EventSender;
use super::forward::{Dumped, Forwarder, Injected, Tx};
use super::wake::{Waker, cycles};
use crate::bridge::{Epoch, PortCounters, World};
use crate::clock::Clock;
use crate::config::{CacheStats, ThreadStats};
use crate::packet::Batch;
use crate::port::RxQueue;
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam_utils::CachePadded;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a thread polls without packets before it sleeps.
pub const SPIN: Duration = Duration::from_micros(40);
/// Messages that may wait for a thread; packet-outs beyond half of it are dropped.
pub const MESSAGES_MAX: usize = 2048;
/// How long an answer of a thread is waited for.
pub const ANSWER: Duration = Duration::from_millis(200);
/// Flows looked at by one step of the sweep.
const SWEEP: usize = 256;

/// What a thread is told.
pub enum Message {
    /// A port came, with the receive queues that this thread polls.
    AddPort {
        /// Its index.
        port: u32,
        /// Queues to poll.
        rx: Vec<Box<dyn RxQueue>>,
        /// Way out.
        tx: Tx,
        /// Counters.
        counters: Arc<PortCounters>,
    },
    /// A port goes; answered when nothing of it is in use any more.
    RemovePort(u32, Sender<()>),
    /// Hand counts on.
    Flush(Sender<()>),
    /// Answer once everything that waits in the receive queues has been forwarded.
    Settle(Sender<()>),
    /// The cached flows.
    Dump(Sender<Vec<Dumped>>),
    /// A packet of a controller.
    Inject(Injected),
    /// End.
    Quit,
}

/// What a thread tells of itself, written by it alone.
#[derive(Default)]
struct Published {
    packets: AtomicU64,
    batches: AtomicU64,
    busy: AtomicU64,
    idle: AtomicU64,
    sleeps: AtomicU64,
    queues: AtomicU64,
    exact: AtomicU64,
    wildcard: AtomicU64,
    misses: AtomicU64,
    probed: AtomicU64,
    revalidated: AtomicU64,
    flows: AtomicU64,
}

struct Shared {
    mail: AtomicBool,
    waker: Waker,
    published: CachePadded<Published>,
}

/// The rest of the program's hold on a forwarding thread.
pub struct Handle {
    number: usize,
    messages: Sender<Message>,
    shared: Arc<Shared>,
    join: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Handle {
    /// Starts thread `number`, on processor `cpu` if given.
    pub fn start(
        number: usize,
        cpu: Option<usize>,
        world: Arc<ArcSwap<World>>,
        epoch: Arc<Epoch>,
        events: EventSender,
        clock: Clock,
    ) -> std::io::Result<Handle> {
        let (messages, inbox) = bounded(MESSAGES_MAX);
        let shared = Arc::new(Shared {
            mail: AtomicBool::new(false),
            waker: Waker::new()?,
            published: CachePadded::default(),
        });
        let ours = shared.clone();
        let join = std::thread::Builder::new()
            .name(format!("forward-{number}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    let mut set = rustix::thread::CpuSet::new();
                    set.set(cpu);
                    if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
                        tracing::warn!("Forwarding thread {number} stays unpinned: CPU {cpu}: {e}");
                    }
                }
                Thread {
                    forwarder: Forwarder::new(world, epoch, events),
                    batch: Batch::new(),
                    queues: Vec::new(),
                    inbox,
                    shared: ours,
                    clock,
                    clock_at: 0,
                    settling: Vec::new(),
                    fds: Vec::new(),
                }
                .run();
            })?;
        Ok(Handle {
            number,
            messages,
            shared,
            join: parking_lot::Mutex::new(Some(join)),
        })
    }

    /// Tells the thread something; `false` if it has ended.
    pub fn send(&self, message: Message) -> bool {
        let sent = self.messages.send(message).is_ok();
        self.ring();
        sent
    }

    /// Gives it a packet; `false` if too many wait.
    pub fn inject(&self, injected: Injected) -> bool {
        if self.messages.len() >= MESSAGES_MAX / 2 {
            return false;
        }
        let sent = match self.messages.try_send(Message::Inject(injected)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        self.ring();
        sent
    }

    fn ring(&self) {
        self.shared.mail.store(true, Ordering::Release);
        self.shared.waker.wake();
    }

    /// Asks, and waits for the answer no longer than [`ANSWER`].
    pub fn ask<T>(&self, message: impl FnOnce(Sender<T>) -> Message) -> Option<T> {
        let (tx, rx) = bounded(1);
        self.send(message(tx))
            .then(|| rx.recv_timeout(ANSWER).ok())
            .flatten()
    }

    /// Ends the thread and waits for it.
    pub fn stop(&self) {
        self.send(Message::Quit);
        if let Some(join) = self.join.lock().take() {
            let _ = join.join();
        }
    }

    /// What it did.
    pub fn stats(&self) -> ThreadStats {
        let p = &self.shared.published;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        ThreadStats {
            thread: self.number,
            packets: get(&p.packets),
            batches: get(&p.batches),
            busy_cycles: get(&p.busy),
            idle_cycles: get(&p.idle),
            sleeps: get(&p.sleeps),
            queues: get(&p.queues),
        }
    }

    /// Adds what its caches did.
    pub fn add_cache_stats(&self, s: &mut CacheStats) {
        let p = &self.shared.published;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        s.exact_hits += get(&p.exact);
        s.wildcard_hits += get(&p.wildcard);
        s.misses += get(&p.misses);
        s.subtables += get(&p.probed);
        s.flows += get(&p.flows);
        s.revalidated += get(&p.revalidated);
    }
}

struct Queue {
    port: u32,
    rx: Box<dyn RxQueue>,
}

struct Thread {
    forwarder: Forwarder,
    batch: Batch,
    queues: Vec<Queue>,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    clock: Clock,
    /// Cycles when the clock was last read.
    clock_at: u64,
    settling: Vec<Sender<()>>,
    fds: Vec<RawFd>,
}

/// Cycles after which the clock is read again: well under a millisecond.
const CLOCK_EVERY: u64 = 1 << 20;

impl Thread {
    fn run(mut self) {
        let mut last = cycles();
        let mut idle_since: Option<Instant> = None;
        let mut idle_rounds = 0u32;
        let add = |a: &AtomicU64, n: u64| a.store(a.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        let mut maintained = 0;
        loop {
            if self.shared.mail.load(Ordering::Acquire) {
                self.shared.mail.store(false, Ordering::SeqCst);
                self.read_clock(true);
                if !self.messages() {
                    self.publish();
                    return;
                }
                idle_since = None;
                idle_rounds = 0;
            }
            self.read_clock(false);
            let (packets, batches) = self.round();
            let now = cycles();
            if packets > 0 {
                add(&self.shared.published.busy, now - last);
                add(&self.shared.published.packets, packets);
                add(&self.shared.published.batches, batches);
                idle_since = None;
                idle_rounds = 0;
            } else {
                add(&self.shared.published.idle, now - last);
                for s in self.settling.drain(..) {
                    let _ = s.send(());
                }
            }
            last = now;
            if self.forwarder.now.wrapping_sub(maintained) > 1_000_000 {
                maintained = self.forwarder.now;
                self.forwarder.sweep(SWEEP);
                self.publish();
            }
            if packets == 0 {
                idle_rounds += 1;
                if idle_rounds.is_multiple_of(16) {
                    let since = *idle_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= SPIN {
                        self.sleep();
                        idle_since = None;
                        idle_rounds = 0;
                        last = cycles();
                    }
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }

    #[inline]
    fn read_clock(&mut self, force: bool) {
        let at = cycles();
        if force || at.wrapping_sub(self.clock_at) > CLOCK_EVERY {
            self.clock_at = at;
            self.forwarder.now = self.clock.now().as_nanos() as u64;
        }
    }

    #[inline]
    fn round(&mut self) -> (u64, u64) {
        let (mut packets, mut batches) = (0, 0);
        for q in &mut self.queues {
            self.batch.clear();
            if q.rx.receive(&mut self.batch) == 0 {
                continue;
            }
            packets += self.batch.len() as u64;
            batches += 1;
            self.forwarder.process(&mut self.batch, q.port);
            q.rx.release();
        }
        self.forwarder.notify();
        (packets, batches)
    }

    /// Reads the mail; `false` to end.
    fn messages(&mut self) -> bool {
        while let Ok(m) = self.inbox.try_recv() {
            match m {
                Message::AddPort {
                    port,
                    rx,
                    tx,
                    counters,
                } => {
                    self.forwarder.add_port(port, tx, counters);
                    self.queues
                        .extend(rx.into_iter().map(|rx| Queue { port, rx }));
                }
                Message::RemovePort(port, done) => {
                    self.queues.retain(|q| q.port != port);
                    self.forwarder.remove_port(port);
                    let _ = done.send(());
                }
                Message::Flush(done) => {
                    self.forwarder.flush();
                    self.forwarder.refresh();
                    self.publish();
                    let _ = done.send(());
                }
                Message::Settle(done) => self.settling.push(done),
                Message::Dump(to) => {
                    let _ = to.send(self.forwarder.dump());
                }
                Message::Inject(i) => {
                    self.batch.clear();
                    self.forwarder.inject(&mut self.batch, &i);
                }
                Message::Quit => {
                    self.forwarder.notify();
                    self.forwarder.flush();
                    return false;
                }
            }
        }
        self.forwarder.notify();
        true
    }

    fn publish(&self) {
        let p = &self.shared.published;
        let c = &self.forwarder.counts;
        for (to, n) in [
            (&p.exact, c.exact),
            (&p.wildcard, c.wildcard),
            (&p.misses, c.misses),
            (&p.probed, c.probed),
            (&p.revalidated, c.revalidated),
            (&p.flows, self.forwarder.flow_count() as u64),
            (&p.queues, self.queues.len() as u64),
        ] {
            to.store(n, Ordering::Relaxed);
        }
    }

    fn sleep(&mut self) {
        self.forwarder.flush();
        self.publish();
        let mut busy = false;
        for q in &mut self.queues {
            busy |= q.rx.arm();
        }
        if !busy && !self.shared.mail.load(Ordering::SeqCst) {
            self.fds.clear();
            self.fds
                .extend(self.queues.iter().filter_map(|q| q.rx.wake_fd()));
            // Flows have to be swept out; without any there is nothing to wake for.
            let flows = self.forwarder.flow_count() > 0;
            let timeout = flows.then_some(Duration::from_millis(500));
            self.shared.waker.sleep(&self.fds, timeout);
            let p = &self.shared.published;
            p.sleeps
                .store(p.sleeps.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        for q in &mut self.queues {
            q.rx.disarm();
        }
        self.read_clock(true);
        let n = self.forwarder.flow_count();
        self.forwarder.sweep(n.clamp(SWEEP, SWEEP * 16));
    }
}
