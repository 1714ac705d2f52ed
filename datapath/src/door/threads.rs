//! Forwarding threads: how many, where, and which receive queues each polls.
//!
//! What is here is done under the control lock, by messages to the threads; queues move while traffic flows (see `Move` in
//! `engine/thread.rs`). Every port is opened with a transmit queue for each thread that there could ever be; those of
//! threads that do not run are parked here, so that the number of threads can change at any time.

use super::{Datapath, DatapathError, Inner, status};
use crate::bridge::PortCounters;
use crate::config::*;
use crate::engine::balance::{self, Placing, Plan, QueueId, QueueInfo};
use crate::engine::rota::{Queue, QueueLoad};
use crate::engine::thread::{ANSWER, Handle, Message};
use crate::engine::tx::Tx;
use crate::engine::wake::{cycles, cycles_per_us};
use crate::port::OpenPort;
use crossbeam_channel::bounded;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the load of queues is remembered, in intervals of [`LOAD_INTERVAL`].
const INTERVALS: usize = 12;
/// How often it is noted.
pub const LOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How long a queue's move is waited for; it takes a round or two of the thread it leaves.
const MOVE: Duration = Duration::from_secs(5);

/// What something cost in each of the last intervals, newest last.
#[derive(Clone, Copy, Default)]
struct History {
    total: u64,
    intervals: [u64; INTERVALS],
}

impl History {
    fn note(&mut self, total: u64) {
        self.intervals.rotate_left(1);
        self.intervals[INTERVALS - 1] = total.saturating_sub(self.total);
        self.total = total;
    }

    fn last(&self, n: usize) -> u64 {
        self.intervals[INTERVALS - n.min(INTERVALS)..].iter().sum()
    }
}

/// A queue, wherever it is.
struct Known {
    thread: usize,
    core: Option<usize>,
    load: Arc<CachePadded<QueueLoad>>,
    cycles: History,
}

/// What is known of threads and queues.
#[derive(Default)]
pub(super) struct Crew {
    settings: ThreadSettings,
    /// Processor of each thread that is pinned.
    pins: Vec<Option<usize>>,
    isolated: Vec<bool>,
    queues: BTreeMap<QueueId, Known>,
    /// Ways out for threads that do not run.
    parked: BTreeMap<(usize, u32), Tx>,
    /// Busy cycles of each thread.
    busy: Vec<History>,
    elapsed: History,
    noted: usize,
    noted_at: u64,
    balanced_at: u64,
}

impl Crew {
    pub(super) fn new(pins: Vec<Option<usize>>) -> Crew {
        let now = cycles();
        Crew {
            isolated: vec![false; pins.len()],
            busy: vec![History::default(); pins.len()],
            pins,
            elapsed: History {
                total: now,
                ..History::default()
            },
            noted_at: now,
            balanced_at: now,
            ..Crew::default()
        }
    }

    /// The processors of threads; one that is not pinned goes by its number.
    fn cores(&self) -> Vec<usize> {
        let core = |(i, pin): (usize, &Option<usize>)| pin.unwrap_or(i);
        self.pins.iter().enumerate().map(core).collect()
    }

    fn infos(&self, intervals: usize) -> Vec<QueueInfo> {
        let info = |(id, q): (&QueueId, &Known)| QueueInfo {
            id: *id,
            load: q.cycles.last(intervals),
            thread: q.thread,
            core: q.core,
        };
        self.queues.iter().map(info).collect()
    }

    fn plan(&self, infos: &[QueueInfo]) -> Plan {
        let s = &self.settings;
        balance::plan(infos, &self.cores(), s.placing, s.isolate)
    }
}

impl Inner {
    /// All threads asked to hand their counts on, and waited for, for a bounded time. One that sleeps has done so.
    pub(super) fn flush(&self) {
        let threads = self.threads.load();
        let answers: Vec<_> = threads.iter().filter_map(|t| t.flush()).collect();
        for a in answers {
            let _ = a.recv_timeout(ANSWER);
        }
    }

    /// The same, and every thread has looked at the newest configuration, so that what was replaced is let go of.
    pub(super) fn synchronize(&self) {
        let threads = self.threads.load();
        let answers: Vec<_> = threads
            .iter()
            .map(|t| {
                let (tx, rx) = bounded(1);
                t.send(Message::Flush(tx));
                rx
            })
            .collect();
        for a in answers {
            let _ = a.recv_timeout(ANSWER);
        }
    }
}

impl Datapath {
    pub(super) fn flush(&self) {
        self.inner.flush();
    }

    /// Gives a port's queues to the forwarding threads.
    pub(super) fn spread(
        &self,
        crew: &mut Crew,
        port: u32,
        open: Option<OpenPort>,
        affinity: &BTreeMap<u16, usize>,
        counters: &Arc<PortCounters>,
    ) {
        let threads = self.inner.threads.load();
        let n = self.inner.context.threads;
        let mut ways: Vec<Tx> = (0..n).map(|_| Tx::None).collect();
        let mut receive = Vec::new();
        if let Some(open) = open {
            receive = open.rx;
            let k = open.tx.len();
            if k >= n {
                for (way, q) in ways.iter_mut().zip(open.tx) {
                    *way = Tx::own(q);
                }
            } else if k > 0 {
                let shared = |q| Arc::new(Mutex::new(q));
                let shared: Vec<_> = open.tx.into_iter().map(shared).collect();
                for (i, way) in ways.iter_mut().enumerate() {
                    *way = Tx::shared(shared[i % k].clone());
                }
            }
        }
        for (i, tx) in ways.into_iter().enumerate() {
            match threads.get(i) {
                Some(t) => {
                    _ = t.send(Message::AddPort {
                        port,
                        tx,
                        counters: counters.clone(),
                    })
                }
                None => _ = crew.parked.insert((i, port), tx),
            }
        }
        for (number, rx) in receive.into_iter().enumerate() {
            let number = number as u16;
            let new = QueueInfo {
                id: (port, number),
                core: affinity.get(&number).copied(),
                ..QueueInfo::default()
            };
            let infos = crew.infos(INTERVALS);
            let thread = balance::place_new(&new, &infos, &crew.cores(), crew.settings.isolate);
            let load: Arc<CachePadded<QueueLoad>> = Arc::default();
            crew.queues.insert(
                new.id,
                Known {
                    thread,
                    core: new.core,
                    load: load.clone(),
                    cycles: History::default(),
                },
            );
            threads[thread].send(Message::AddQueue(Queue {
                port,
                number,
                rx,
                load,
            }));
        }
        crew.isolated = crew.plan(&crew.infos(INTERVALS)).isolated;
    }

    /// Takes a port's queues and ways out from all threads. When it returns no thread uses the port.
    pub(super) fn withdraw(&self, crew: &mut Crew, port: u32) {
        let threads = self.inner.threads.load();
        let gone: Vec<_> = threads
            .iter()
            .map(|t| {
                let (tx, rx) = bounded(1);
                t.send(Message::RemovePort(port, tx));
                rx
            })
            .collect();
        // The index may be given to another port only when all have let go of it.
        for g in gone {
            let _ = g.recv();
        }
        crew.parked.retain(|(_, p), _| *p != port);
        crew.queues.retain(|(p, _), _| *p != port);
        crew.isolated = crew.plan(&crew.infos(INTERVALS)).isolated;
    }

    /// Ties queues of a port to processors. They move at once.
    pub(super) fn tie(&self, crew: &mut Crew, port: u32, affinity: &BTreeMap<u16, usize>) {
        let mut changed = false;
        for ((_, number), q) in crew.queues.range_mut((port, 0)..=(port, u16::MAX)) {
            let core = affinity.get(number).copied();
            changed |= std::mem::replace(&mut q.core, core) != core;
        }
        if changed {
            let plan = crew.plan(&crew.infos(INTERVALS));
            self.follow(crew, plan);
        }
    }

    /// Moves queues to where a plan has them; how many.
    fn follow(&self, crew: &mut Crew, plan: Plan) -> usize {
        let threads = self.inner.threads.load();
        let mut moves = Vec::new();
        for (id, to) in plan.threads {
            let Some(q) = crew.queues.get_mut(&id) else {
                continue;
            };
            let (Some(from), Some(handle)) = (threads.get(q.thread), threads.get(to)) else {
                continue;
            };
            if q.thread == to {
                continue;
            }
            let (done, answer) = bounded(1);
            from.send(Message::Move {
                port: id.0,
                number: id.1,
                to: handle.clone(),
                done,
            });
            q.thread = to;
            moves.push((id, answer));
        }
        crew.isolated = plan.isolated;
        for (id, answer) in &moves {
            if answer.recv_timeout(MOVE).is_err() {
                tracing::error!("Receive queue {} of port {} is slow to move", id.1, id.0);
            }
        }
        moves.len()
    }

    /// Places receive queues anew by what they cost lately; how many moved. (`dpif-netdev/pmd-rxq-rebalance`)
    pub fn rebalance(&self) -> usize {
        let mut control = self.inner.control.lock();
        let crew = &mut control.crew;
        let plan = crew.plan(&crew.infos(INTERVALS));
        self.follow(crew, plan)
    }

    /// The processors threads may run on.
    pub fn processors() -> Vec<usize> {
        let set = rustix::thread::sched_getaffinity(None);
        set.map_or_else(
            |_| vec![0],
            |set| {
                let max = rustix::thread::CpuSet::MAX_CPU;
                (0..max).filter(|c| set.is_set(*c)).collect()
            },
        )
    }

    /// The most threads that [`Datapath::set_threads`] can make.
    pub fn threads_max(&self) -> usize {
        self.inner.context.threads
    }

    /// Changes how many threads there are, where they run and how queues are placed, while traffic flows.
    pub fn set_threads(&self, settings: ThreadSettings) -> Result<(), DatapathError> {
        let mut control = self.inner.control.lock();
        let crew = &mut control.crew;
        if crew.settings == settings {
            return Ok(());
        }
        let pins = match &settings.cores {
            None => self.inner.pins.clone(),
            Some(cores) => cores.iter().copied().map(Some).collect(),
        };
        let (n, max) = (pins.len(), self.inner.context.threads);
        if !(1..=max).contains(&n) {
            return Err(DatapathError::Config(format!(
                "{n} forwarding threads: 1 to {max} are possible here"
            )));
        }
        let have = self.inner.threads.load_full();
        let mut threads: Vec<Arc<Handle>> = have.to_vec();
        for (i, pin) in pins.iter().enumerate().skip(have.len()) {
            let handle = Handle::start(i, *pin, self.inner.common()).map_err(|source| {
                DatapathError::System {
                    what: "forwarding thread",
                    source,
                }
            })?;
            let world = self.inner.world.load();
            for p in world.ports.iter().flatten() {
                handle.send(Message::AddPort {
                    port: p.index,
                    tx: crew.parked.remove(&(i, p.index)).unwrap_or_default(),
                    counters: p.counters.clone(),
                });
            }
            threads.push(Arc::new(handle));
        }
        for (i, t) in have.iter().enumerate().take(n) {
            if crew.pins.get(i) != Some(&pins[i]) {
                t.send(Message::Pin(pins[i]));
            }
        }
        self.inner.threads.store(Arc::new(threads.clone()));
        let replaced = crew.pins != pins || crew.settings.placing != settings.placing;
        let replaced = replaced || crew.settings.isolate != settings.isolate;
        crew.pins = pins;
        crew.settings = settings;
        crew.busy.resize(n, History::default());
        if replaced {
            let plan = crew.plan(&crew.infos(INTERVALS));
            self.follow(crew, plan);
        }
        if n < threads.len() {
            let gone = threads.split_off(n);
            self.inner.threads.store(Arc::new(threads));
            for (i, t) in gone.iter().enumerate() {
                let (tx, rx) = bounded(1);
                t.send(Message::Retire(tx));
                let ways = rx.recv().unwrap_or_default();
                let parked = ways.into_iter().map(|(port, tx)| ((n + i, port), tx));
                crew.parked.extend(parked);
                t.join();
            }
        }
        self.shape_all();
        Ok(())
    }

    /// Notes what queues and threads cost, and places queues anew if that is wanted and pays. About once a second.
    pub(super) fn watch_threads(&self, crew: &mut Crew) {
        let now = cycles();
        let us = cycles_per_us();
        if now.saturating_sub(crew.noted_at) < LOAD_INTERVAL.as_micros() as u64 * us {
            return;
        }
        crew.noted_at = now;
        crew.noted = (crew.noted + 1).min(INTERVALS);
        crew.elapsed.note(now);
        for q in crew.queues.values_mut() {
            q.cycles.note(q.load.cycles.load(Ordering::Relaxed));
        }
        for (t, h) in self.inner.threads.load().iter().zip(&mut crew.busy) {
            h.note(t.stats().busy_cycles);
        }
        let Some(auto) = crew.settings.auto else {
            return;
        };
        let interval = auto.interval.as_micros() as u64 * us;
        if now.saturating_sub(crew.balanced_at) < interval || crew.pins.len() < 2 {
            return;
        }
        crew.balanced_at = now;
        let intervals = (auto.interval.as_secs() / LOAD_INTERVAL.as_secs()).max(1) as usize;
        let elapsed = crew.elapsed.last(intervals.min(crew.noted)).max(1);
        let loads = crew.busy.iter().zip(&crew.isolated);
        let overloaded = loads
            .filter(|(_, isolated)| !**isolated)
            .any(|(h, _)| h.last(intervals) * 100 / elapsed >= u64::from(auto.load));
        if !overloaded || crew.settings.placing == Placing::RoundRobin {
            return;
        }
        let infos = crew.infos(intervals);
        let plan = crew.plan(&infos);
        let improvement = balance::improvement(&infos, &crew.cores(), &plan);
        if improvement >= u64::from(auto.improvement) {
            let moved = self.follow(crew, plan);
            tracing::info!(
                "Moved {moved} receive queues between forwarding threads: their loads differ {improvement} % less"
            );
        }
    }

    /// The receive queues, by thread, with what they cost in the last `secs` seconds (5 to 60).
    pub fn queues(&self, secs: u32) -> Vec<QueueReport> {
        let control = self.inner.control.lock();
        let crew = &control.crew;
        let intervals = intervals(secs);
        let world = self.inner.world.load();
        let mut list: Vec<QueueReport> = crew
            .queues
            .iter()
            .filter_map(|((port, number), q)| {
                let entry = world.port(*port)?;
                Some(QueueReport {
                    port: entry.name().to_owned(),
                    number: *number,
                    thread: q.thread,
                    affinity: q.core,
                    enabled: status(entry).link_up,
                    cycles: q.cycles.last(intervals),
                    packets: q.load.packets.load(Ordering::Relaxed),
                })
            })
            .collect();
        list.sort_by(|a, b| (a.thread, &a.port, a.number).cmp(&(b.thread, &b.port, b.number)));
        list
    }

    /// The threads' processors, and what there was to do in the last `secs` seconds (5 to 60).
    pub fn thread_loads(&self, secs: u32) -> Vec<ThreadLoad> {
        let control = self.inner.control.lock();
        let crew = &control.crew;
        let n = intervals(secs);
        let elapsed = (crew.noted > 0).then(|| crew.elapsed.last(n.min(crew.noted)));
        let load = |(i, core): (usize, usize)| ThreadLoad {
            thread: i,
            core,
            pinned: crew.pins[i].is_some(),
            isolated: crew.isolated.get(i).copied().unwrap_or(false),
            busy: crew.busy[i].last(n),
            elapsed,
        };
        crew.cores().into_iter().enumerate().map(load).collect()
    }

    /// What the forwarding threads did.
    pub fn thread_stats(&self) -> Vec<ThreadStats> {
        self.flush();
        let cores = self.inner.control.lock().crew.cores();
        let threads = self.inner.threads.load();
        let stats = threads.iter().map(|t| t.stats());
        stats
            .map(|s| ThreadStats {
                core: cores.get(s.thread).copied().unwrap_or(s.thread),
                ..s
            })
            .collect()
    }

    /// Waits, for a bounded time, until everything that waits in receive queues has been forwarded; for
    /// exact tests.
    pub fn settle(&self) {
        // Twice: a packet may go from one thread's port to another's.
        for _ in 0..2 {
            for t in self.inner.threads.load().iter() {
                let _ = t.ask(Message::Settle);
            }
        }
    }

    /// Ends the forwarding threads. Ports are closed, packets no longer forwarded.
    pub fn shutdown(&self) {
        for t in self.inner.threads.load().iter() {
            t.stop();
        }
    }
}

fn intervals(secs: u32) -> usize {
    (u64::from(secs) / LOAD_INTERVAL.as_secs()).clamp(1, INTERVALS as u64) as usize
}
