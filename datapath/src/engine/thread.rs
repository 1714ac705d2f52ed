//! The rest of the program's hold on a forwarding thread: starting and ending it, telling it things, and what it tells.
//!
//! A thread is talked to by messages; a flag says that there are some, so that a round without messages costs one load. It is
//! woken only if it sleeps. What the thread itself does is in `run.rs`.

use super::events::EventSender;
use super::forward::{Dumped, Injected};
use super::rota::{Queue, Rota};
use super::run::Thread;
use super::tx::Tx;
use super::wake::Waker;
use crate::bridge::{Epoch, PortCounters, World};
use crate::clock::Clock;
use crate::config::{CacheStats, ThreadStats};
use crate::qos::PortShaper;
use arc_swap::ArcSwap;
use crossbeam_channel::{Sender, TrySendError, bounded};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Messages that may wait for a thread; packet-outs beyond half of it are dropped.
pub const MESSAGES_MAX: usize = 2048;
/// How long an answer of a thread is waited for.
pub const ANSWER: Duration = Duration::from_millis(200);

/// What a thread is told.
pub enum Message {
    /// A port came, or came to this thread.
    AddPort {
        /// Its index.
        port: u32,
        /// Way out.
        tx: Tx,
        /// Counters.
        counters: Arc<PortCounters>,
    },
    /// A port has a shaper, or its configuration changed.
    Shape(u32, Arc<PortShaper>),
    /// A receive queue to poll.
    AddQueue(Queue),
    /// Hand a receive queue to another thread, when nothing that came in by it waits any more. Answered when it is on its
    /// way.
    Move {
        /// Its port.
        port: u32,
        /// Its number.
        number: u16,
        /// The other thread.
        to: Arc<Handle>,
        /// The answer.
        done: Sender<()>,
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
    /// Run on this processor, or on any.
    Pin(Option<usize>),
    /// End, and give the ways out back.
    Retire(Sender<Vec<(u32, Tx)>>),
    /// End.
    Quit,
}

/// What a thread tells of itself, written by it alone, about once a millisecond and before it sleeps.
#[derive(Default)]
pub(super) struct Published {
    pub packets: AtomicU64,
    pub batches: AtomicU64,
    pub busy: AtomicU64,
    pub idle: AtomicU64,
    pub sleeps: AtomicU64,
    pub queues: AtomicU64,
    pub exact: AtomicU64,
    pub wildcard: AtomicU64,
    pub misses: AtomicU64,
    pub probed: AtomicU64,
    pub revalidated: AtomicU64,
    pub flows: AtomicU64,
}

pub(super) struct Shared {
    /// There are messages.
    pub mail: CachePadded<AtomicBool>,
    /// The thread sleeps, or is about to: it has handed its counts on, and has to be woken for messages.
    pub asleep: CachePadded<AtomicBool>,
    pub waker: Waker,
    pub published: CachePadded<Published>,
}

/// What all threads of a datapath work with.
#[derive(Clone)]
pub struct Common {
    /// Ports and bridges.
    pub world: Arc<ArcSwap<World>>,
    /// The count of changes.
    pub epoch: Arc<Epoch>,
    /// The way out for events.
    pub events: EventSender,
    /// The clock.
    pub clock: Clock,
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
    pub fn start(number: usize, cpu: Option<usize>, common: Common) -> std::io::Result<Handle> {
        let (messages, inbox) = bounded(MESSAGES_MAX);
        let shared = Arc::new(Shared {
            mail: CachePadded::default(),
            asleep: CachePadded::default(),
            waker: Waker::new()?,
            published: CachePadded::default(),
        });
        let rota = Rota::new(&shared.waker)?;
        let ours = shared.clone();
        let join = std::thread::Builder::new()
            .name(format!("forward-{number}"))
            .spawn(move || Thread::new(number, common, inbox, ours, rota).run(cpu))?;
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

    /// Tells the thread something unless it has ended or too much waits; then the message comes back.
    pub fn try_send(&self, message: Message) -> Result<(), Message> {
        let sent = self.messages.try_send(message);
        self.ring();
        sent.map_err(TrySendError::into_inner)
    }

    /// Gives it a packet; `false` if too many wait.
    pub fn inject(&self, injected: Injected) -> bool {
        if self.messages.len() >= MESSAGES_MAX / 2 {
            return false;
        }
        self.try_send(Message::Inject(injected)).is_ok()
    }

    fn ring(&self) {
        // The thread says that it sleeps and then looks for mail; this is the same the other way round, so that one of the two
        // sees the other.
        self.shared.mail.store(true, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.waker.wake();
        }
    }

    /// Asks it to hand its counts on; nothing to wait for if it sleeps, for then it has.
    pub fn flush(&self) -> Option<crossbeam_channel::Receiver<()>> {
        if self.shared.asleep.load(Ordering::SeqCst) {
            return None;
        }
        let (tx, rx) = bounded(1);
        self.send(Message::Flush(tx));
        Some(rx)
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
        self.join();
    }

    /// Waits for the end of a thread that was told to end.
    pub fn join(&self) {
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
            core: self.number,
            packets: get(&p.packets),
            batches: get(&p.batches),
            busy_cycles: get(&p.busy),
            idle_cycles: get(&p.idle),
            sleeps: get(&p.sleeps),
            queues: get(&p.queues),
            exact_hits: get(&p.exact),
            wildcard_hits: get(&p.wildcard),
            subtables: get(&p.probed),
            misses: get(&p.misses),
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
