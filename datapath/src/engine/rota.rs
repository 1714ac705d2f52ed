//! The receive queues of one thread: which are polled, which are quiet.
//!
//! A queue is *active* or *quiet*. Active queues are asked for packets each round. One that had none for `QUIET`, or when
//! the thread wants to sleep, is armed (asked to notify), asked once more in the next round, and then left alone:
//! its memory is not touched again before its descriptor speaks up. So a round costs what is active, however many ports
//! there are, and to fall asleep and wake up costs what was active meanwhile, in the usual case one queue.
//!
//! Turns are fair in time, not in packets: a queue whose batches cost more than others' (frames of 64 KB, or flows that were
//! never seen and have to be looked up in the tables) misses as many turns as it was ahead by. When nobody else has packets,
//! debts are forgotten, so no time is lost to fairness. So a guest that makes its own packets expensive does not make
//! those of its neighbours slow.
//!
//! Descriptors are edge triggered (`wake.rs`); the one more look after arming is what makes that safe.

use super::wake::{Sleeper, Waker, cycles_per_us};
use crate::packet::Batch;
use crate::port::RxQueue;
use crossbeam_utils::CachePadded;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Microseconds without packets after which a queue is left alone while others are busy.
const QUIET: u64 = 1000;

/// What a queue cost, for those who spread queues over threads. Written by the thread that polls it, now and then.
#[derive(Debug, Default)]
pub struct QueueLoad {
    /// Packets received.
    pub packets: AtomicU64,
    /// Cycles spent on them: receiving, forwarding, sending.
    pub cycles: AtomicU64,
}

/// A receive queue on its way to a thread, or between threads.
pub struct Queue {
    /// Its port.
    pub port: u32,
    /// Its number within the port.
    pub number: u16,
    /// The queue.
    pub rx: Box<dyn RxQueue>,
    /// What it cost.
    pub load: Arc<CachePadded<QueueLoad>>,
}

struct Polled {
    queue: Queue,
    /// Its descriptor, once it was armed.
    fd: Option<RawFd>,
    /// Armed, and to be looked at once more.
    armed: bool,
    active: bool,
    /// Cycles at the last round with packets, or when it became active.
    last: u64,
    /// Cycles by which it is ahead of its share.
    ahead: u64,
    packets: u64,
    cycles: u64,
    /// Whether the last two changed since they were told.
    dirty: bool,
    /// Whether it was said that it cannot be waited for.
    complained: bool,
}

/// The queues of a thread.
pub struct Rota {
    slots: Vec<Option<Polled>>,
    active: Vec<u32>,
    sleeper: Sleeper,
    quiet: u64,
    told: Vec<u32>,
    /// Cycles that are a turn's share: those of the cheapest batch of the last round.
    share: u64,
}

impl Rota {
    /// No queues, woken by `waker`.
    pub fn new(waker: &Waker) -> std::io::Result<Rota> {
        Ok(Rota {
            slots: Vec::new(),
            active: Vec::new(),
            sleeper: Sleeper::new(waker)?,
            quiet: QUIET * cycles_per_us(),
            told: Vec::new(),
            share: u64::MAX,
        })
    }

    /// How many queues there are.
    pub fn queues(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// How many are polled each round.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Takes a queue in; it is polled at first.
    pub fn add(&mut self, queue: Queue, now: u64) {
        let polled = Polled {
            packets: queue.load.packets.load(Ordering::Relaxed),
            cycles: queue.load.cycles.load(Ordering::Relaxed),
            queue,
            ahead: 0,
            fd: None,
            armed: false,
            active: false,
            last: now,
            dirty: false,
            complained: false,
        };
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(polled);
        // As many as there are queues, so that rounds need not allocate.
        self.active.reserve(self.slots.len());
        self.told.reserve(self.slots.len());
        self.wake(slot as u32, now);
    }

    /// Gives the queues up that `which` selects (port, number).
    pub fn remove(&mut self, which: impl Fn(u32, u16) -> bool) -> Vec<Queue> {
        let mut gone = Vec::new();
        for slot in 0..self.slots.len() {
            let Some(p) = self.slots[slot].as_mut() else {
                continue;
            };
            if !which(p.queue.port, p.queue.number) {
                continue;
            }
            tell(p);
            if let Some(fd) = p.fd {
                self.sleeper.remove(fd);
            }
            if p.armed || !p.active {
                p.queue.rx.disarm();
            }
            self.active.retain(|s| *s as usize != slot);
            gone.extend(self.slots[slot].take().map(|p| p.queue));
        }
        gone
    }

    /// A quiet queue spoke up.
    fn wake(&mut self, slot: u32, now: u64) {
        let Some(p) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        if p.active {
            return;
        }
        p.active = true;
        p.last = now;
        if p.fd.is_some() {
            p.queue.rx.disarm();
        }
        self.active.push(slot);
    }

    /// Makes every queue be polled.
    pub fn wake_all(&mut self, now: u64) {
        for slot in 0..self.slots.len() as u32 {
            self.wake(slot, now);
        }
    }

    /// One round: asks each active queue for a batch and gives it to `forward` with its port. Packets and batches.
    #[inline]
    pub fn round(
        &mut self,
        batch: &mut Batch,
        start: u64,
        cycles: impl Fn() -> u64,
        mut forward: impl FnMut(&mut Batch, u32),
    ) -> (u64, u64) {
        let (mut packets, mut batches) = (0, 0);
        let mut now = start;
        let mut at = 0;
        let share = self.share;
        let mut cheapest = u64::MAX;
        let mut passed_over = false;
        while let Some(&slot) = self.active.get(at) {
            let Some(p) = self.slots[slot as usize].as_mut() else {
                self.active.swap_remove(at);
                continue;
            };
            if p.ahead > share {
                p.ahead -= share;
                passed_over = true;
                at += 1;
                continue;
            }
            batch.clear();
            if p.queue.rx.receive(batch) == 0 {
                p.ahead = 0;
                if p.armed {
                    // That was the one more look.
                    p.armed = false;
                    p.active = false;
                    self.active.swap_remove(at);
                    continue;
                }
                at += 1;
                if now.saturating_sub(p.last) > self.quiet {
                    // If it has something after all, it is not asked again for as long.
                    p.last = now;
                    arm(&self.sleeper, p, slot);
                }
                continue;
            }
            at += 1;
            if p.armed {
                p.armed = false;
                p.queue.rx.disarm();
            }
            packets += batch.len() as u64;
            batches += 1;
            p.packets += batch.len() as u64;
            forward(batch, p.queue.port);
            p.queue.rx.release();
            let end = cycles();
            let cost = end.wrapping_sub(now);
            p.cycles += cost;
            p.ahead = (p.ahead + cost).saturating_sub(share);
            cheapest = cheapest.min(cost);
            p.last = end;
            if !p.dirty {
                p.dirty = true;
                self.told.push(slot);
            }
            now = end;
        }
        if cheapest != u64::MAX {
            self.share = cheapest;
        } else if passed_over {
            // Nobody else has anything.
            self.share = u64::MAX;
        }
        (packets, batches)
    }

    /// Before sleeping: asks all active queues for notification; another [`Rota::round`] is to follow, and if no
    /// queue is active after it, [`Rota::sleep`].
    pub fn arm_all(&mut self) {
        for &slot in &self.active {
            if let Some(p) = self.slots[slot as usize].as_mut()
                && !p.armed
            {
                arm(&self.sleeper, p, slot);
            }
        }
    }

    /// Sleeps until a queue speaks up, somebody wakes the thread, or for `timeout` (none: for ever). With a timeout
    /// of zero this is a look at the quiet queues.
    pub fn sleep(&mut self, timeout: Option<Duration>, now: impl Fn() -> u64) {
        let mut ready = [0u32; crate::sys::event::EPOLL_EVENTS];
        let mut n = 0;
        self.sleeper.sleep(timeout, |token| {
            ready[n] = token as u32;
            n += 1;
        });
        for slot in &ready[..n] {
            self.wake(*slot, now());
        }
    }

    /// Tells what the queues cost so far.
    pub fn tell(&mut self) {
        while let Some(slot) = self.told.pop() {
            if let Some(p) = self.slots[slot as usize].as_mut() {
                tell(p);
            }
        }
    }
}

fn tell(p: &mut Polled) {
    p.dirty = false;
    p.queue.load.packets.store(p.packets, Ordering::Relaxed);
    p.queue.load.cycles.store(p.cycles, Ordering::Relaxed);
}

fn arm(sleeper: &Sleeper, p: &mut Polled, slot: u32) {
    if p.queue.rx.arm() {
        // Something came meanwhile, or it cannot notify: it stays polled.
        p.queue.rx.disarm();
        return;
    }
    let fd = p.queue.rx.wake_fd();
    if p.fd != fd {
        if let Some(old) = p.fd.take() {
            sleeper.remove(old);
        }
        if let Some(fd) = fd
            && let Err(e) = sleeper.add(fd, slot.into())
        {
            if !std::mem::replace(&mut p.complained, true) {
                tracing::error!(
                    "A receive queue of port {} cannot be waited for and stays polled: {e}",
                    p.queue.port
                );
            }
            p.queue.rx.disarm();
            return;
        }
        p.fd = fd;
    }
    p.armed = true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::OwnedPacket;
    use std::cell::Cell;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::atomic::AtomicU32;

    /// A queue of so many packets, that counts how it is treated.
    struct Counted {
        shared: Arc<Shared>,
        packet: OwnedPacket,
    }

    struct Shared {
        waiting: AtomicU32,
        asked: AtomicU32,
        arms: AtomicU32,
        armed: AtomicU32,
        fd: OwnedFd,
    }

    impl Shared {
        fn new() -> Arc<Shared> {
            let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
            Arc::new(Shared {
                waiting: AtomicU32::new(0),
                asked: AtomicU32::new(0),
                arms: AtomicU32::new(0),
                armed: AtomicU32::new(0),
                fd,
            })
        }
        fn put(&self, n: u32) {
            self.waiting.fetch_add(n, Ordering::Relaxed);
            if self.armed.load(Ordering::Relaxed) == 1 {
                rustix::io::write(&self.fd, &1u64.to_ne_bytes()).unwrap();
            }
        }
    }

    impl RxQueue for Counted {
        fn receive(&mut self, batch: &mut Batch) -> usize {
            self.shared.asked.fetch_add(1, Ordering::Relaxed);
            let n = self.shared.waiting.load(Ordering::Relaxed).min(32);
            for _ in 0..n {
                // SAFETY: the packet lives as long as the queue, and its batch is cleared before.
                assert!(unsafe { batch.push_borrowed(&self.packet) });
            }
            self.shared.waiting.fetch_sub(n, Ordering::Relaxed);
            n as usize
        }
        fn release(&mut self) {}
        fn arm(&mut self) -> bool {
            self.shared.arms.fetch_add(1, Ordering::Relaxed);
            self.shared.armed.store(1, Ordering::Relaxed);
            self.shared.waiting.load(Ordering::Relaxed) > 0
        }
        fn disarm(&mut self) {
            self.shared.armed.store(0, Ordering::Relaxed);
        }
        fn wake_fd(&self) -> Option<RawFd> {
            Some(self.shared.fd.as_raw_fd())
        }
    }

    fn rota(n: usize) -> (Rota, Vec<Arc<Shared>>, Waker) {
        let waker = Waker::new().unwrap();
        let mut rota = Rota::new(&waker).unwrap();
        let shared: Vec<_> = (0..n).map(|_| Shared::new()).collect();
        for (port, shared) in shared.iter().enumerate() {
            let rx = Box::new(Counted {
                shared: shared.clone(),
                packet: OwnedPacket::new(vec![0; 60]),
            });
            let queue = Queue {
                port: port as u32,
                number: 0,
                rx,
                load: Arc::default(),
            };
            rota.add(queue, 0);
        }
        (rota, shared, waker)
    }

    fn ports(rota: &mut Rota, batch: &mut Batch, now: u64) -> Vec<u32> {
        let mut seen = Vec::new();
        let time = Cell::new(now);
        rota.round(
            batch,
            now,
            || {
                time.set(time.get() + 10);
                time.get()
            },
            |b, port| seen.extend(std::iter::repeat_n(port, b.len())),
        );
        seen.sort();
        seen
    }

    fn total(shared: &[Arc<Shared>], of: impl Fn(&Shared) -> &AtomicU32) -> u32 {
        shared.iter().map(|s| of(s).load(Ordering::Relaxed)).sum()
    }

    #[test]
    fn sleeping_and_waking_cost_what_was_active() {
        let (mut rota, shared, _waker) = rota(100);
        let mut batch = Batch::new();
        rota.arm_all();
        assert_eq!(ports(&mut rota, &mut batch, 1), [0u32; 0]);
        assert_eq!(rota.active(), 0);
        let (asked, arms) = (total(&shared, |s| &s.asked), total(&shared, |s| &s.arms));
        for n in 0..10 {
            shared[7].put(1);
            rota.sleep(Some(Duration::from_secs(10)), || 2);
            assert_eq!(rota.active(), 1);
            assert_eq!(ports(&mut rota, &mut batch, 3), [7]);
            rota.arm_all();
            assert_eq!(ports(&mut rota, &mut batch, 3), [0u32; 0]);
            assert_eq!(rota.active(), 0, "{n}");
        }
        assert_eq!(total(&shared, |s| &s.asked) - asked, 20);
        assert_eq!(total(&shared, |s| &s.arms) - arms, 10);
        assert_eq!(shared[7].armed.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_comes_while_arming_is_not_slept_over() {
        let (mut rota, shared, _waker) = rota(2);
        let mut batch = Batch::new();
        // Before arming, and between arming and the last look.
        shared[0].put(1);
        rota.arm_all();
        shared[1].put(40);
        assert_eq!(ports(&mut rota, &mut batch, 1).len(), 33);
        assert_eq!(rota.active(), 2);
        assert_eq!(ports(&mut rota, &mut batch, 1), [1; 8]);
        rota.arm_all();
        assert_eq!(ports(&mut rota, &mut batch, 1), [0u32; 0]);
        assert_eq!(rota.active(), 0);
    }

    #[test]
    fn a_busy_thread_leaves_quiet_queues_alone_and_hears_of_them() {
        let (mut rota, shared, _waker) = rota(50);
        let mut batch = Batch::new();
        let quiet = rota.quiet;
        for n in 0..200 {
            shared[3].put(32);
            ports(&mut rota, &mut batch, n * quiet / 10);
        }
        assert_eq!(rota.active(), 1);
        assert!(total(&shared, |s| &s.asked) < 50 * 14 + 200);
        shared[9].put(1);
        rota.sleep(Some(Duration::ZERO), || 21 * quiet);
        assert_eq!(rota.active(), 2);
        assert_eq!(ports(&mut rota, &mut batch, 21 * quiet), [9]);
        rota.tell();
    }

    #[test]
    fn turns_are_fair_in_time_and_none_is_lost() {
        let (mut rota, shared, _waker) = rota(3);
        let mut batch = Batch::new();
        let time = Cell::new(0);
        let spent = [const { Cell::new(0) }; 3];
        let cost = |port: u32| [10_000, 400_000, 8_000][port as usize];
        let mut run = |rounds: usize| {
            for _ in 0..rounds {
                shared[0].put(32);
                shared[1].put(32);
                let forward = |_: &mut Batch, port: u32| {
                    time.set(time.get() + cost(port));
                    let s = &spent[port as usize];
                    s.set(s.get() + cost(port));
                };
                rota.round(&mut batch, time.get(), || time.get(), forward);
            }
        };
        run(4_000);
        let (cheap, dear) = (spent[0].get(), spent[1].get());
        assert_eq!(cheap, 4_000 * 10_000, "never passed over");
        assert!(
            (cheap * 9 / 10..cheap * 11 / 10).contains(&dear),
            "{dear} against {cheap}"
        );
        // Alone, it has every turn but those it takes to see that it is alone.
        shared[0].waiting.store(0, Ordering::Relaxed);
        shared[1].waiting.store(100 * 32, Ordering::Relaxed);
        let before = spent[1].get();
        let forward = |_: &mut Batch, port: u32| {
            time.set(time.get() + cost(port));
            spent[port as usize].set(spent[port as usize].get() + cost(port));
        };
        for _ in 0..102 {
            rota.round(&mut batch, time.get(), || time.get(), forward);
        }
        assert!(spent[1].get() - before >= 99 * 400_000);
    }

    #[test]
    fn queues_leave_with_their_counts() {
        let (mut rota, shared, waker) = rota(3);
        let mut batch = Batch::new();
        rota.arm_all();
        ports(&mut rota, &mut batch, 0);
        shared[1].put(5);
        rota.sleep(Some(Duration::from_secs(10)), || 0);
        ports(&mut rota, &mut batch, 0);
        let gone = rota.remove(|port, number| (port, number) == (1, 0));
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].load.packets.load(Ordering::Relaxed), 5);
        assert_eq!(gone[0].load.cycles.load(Ordering::Relaxed), 10);
        assert_eq!((rota.queues(), rota.active()), (2, 0));
        // It is not waited for any more.
        rustix::io::write(&shared[1].fd, &1u64.to_ne_bytes()).unwrap();
        rota.sleep(Some(Duration::ZERO), || 0);
        assert_eq!(rota.active(), 0);
        rota.wake_all(0);
        assert_eq!(rota.active(), 2);
        waker.wake();
        rota.sleep(None, || 0);
        assert!(shared.iter().all(|s| s.armed.load(Ordering::Relaxed) == 0));
    }
}
