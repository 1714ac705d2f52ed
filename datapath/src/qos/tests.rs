//! Schedulers under a time that the tests make: to the nanosecond, and as properties over many arrivals.

use super::codel::CodelQueue;
use super::fq_codel::FqCodel;
use super::hfsc::Hfsc;
use super::htb::{ClassRates, Htb, depth};
use super::sfq::Sfq;
use super::spec::CodelSpec;
use super::{Item, LIMIT, Scheduler};
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;
const MTU: u32 = 1500;
const BURST: u64 = 1564;

fn class(min: u64, max: u64, priority: u32) -> ClassRates {
    ClassRates {
        min,
        max,
        burst: BURST,
        priority,
    }
}

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A scheduler with packets numbered as they come.
struct Run {
    scheduler: Box<dyn Scheduler>,
    now: u64,
    number: u32,
    dropped: Vec<Item>,
    /// Departures: when, and what.
    sent: Vec<(u64, Item)>,
}

impl Run {
    fn new(scheduler: impl Scheduler + 'static) -> Run {
        Run {
            scheduler: Box::new(scheduler),
            now: 0,
            number: 0,
            dropped: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn arrive(&mut self, queue: u32, bytes: u32) -> u32 {
        self.number += 1;
        let item = Item {
            slot: self.number,
            queue,
            bytes,
            frames: 1,
            flow: queue,
            at: self.now,
            ..Item::default()
        };
        self.scheduler.enqueue(item, self.now, &mut self.dropped);
        self.number
    }

    /// Lets time pass, each departure at the moment it is due.
    fn until(&mut self, end: u64) {
        while let Some(t) = self.scheduler.next(self.now) {
            if t > end {
                break;
            }
            self.now = self.now.max(t);
            match self.scheduler.dequeue(self.now, 0, &mut self.dropped) {
                Some(item) => self.sent.push((self.now, item)),
                // What was due was not a departure; then the next is later.
                None => assert!(self.scheduler.next(self.now).is_none_or(|n| n > self.now)),
            }
        }
        self.now = end;
    }

    /// Keeps queues from running empty, until `end`.
    fn load(&mut self, queues: &[u32], bytes: u32, end: u64) {
        while self.now < end {
            for &q in queues {
                for _ in 0..20 {
                    self.arrive(q, bytes);
                }
            }
            self.until((self.now + SECOND / 1000).min(end));
        }
    }

    fn bytes(&self, queue: u32, from: u64, to: u64) -> u64 {
        let of = |(t, i): &&(u64, Item)| i.queue == queue && (from..to).contains(t);
        self.sent
            .iter()
            .filter(of)
            .map(|(_, i)| u64::from(i.bytes))
            .sum()
    }

    /// Bits a second that a queue sent in a span.
    fn rate(&self, queue: u32, from: u64, to: u64) -> u64 {
        (u128::from(self.bytes(queue, from, to)) * 8 * u128::from(SECOND) / u128::from(to - from))
            as u64
    }
}

#[track_caller]
fn near(is: u64, wanted: u64) {
    assert!(is.abs_diff(wanted) * 200 <= wanted, "{is}, not {wanted}");
}

fn both(rate: u64, classes: &[ClassRates]) -> [Run; 2] {
    [
        Run::new(Htb::new(rate, BURST, classes, 0)),
        Run::new(Hfsc::new(rate, BURST, classes, 0)),
    ]
}

#[test]
fn minimum_rates_hold_under_overload_and_the_rest_is_shared_in_proportion() {
    // 10 Mbit/s; one and two are guaranteed, and share what is left 1:2.
    let classes = [
        class(2_000_000, 10_000_000, 0),
        class(4_000_000, 10_000_000, 0),
    ];
    for mut run in both(10_000_000, &classes) {
        run.load(&[0, 1], 1000, 4 * SECOND);
        let (a, b) = (
            run.rate(0, SECOND, 4 * SECOND),
            run.rate(1, SECOND, 4 * SECOND),
        );
        near(a + b, 10_000_000);
        assert!(
            a >= 2_000_000 * 99 / 100 && b >= 4_000_000 * 99 / 100,
            "{a} {b}"
        );
        assert!((30..37).contains(&(a * 100 / (a + b))), "{a} {b}");
    }
}

#[test]
fn who_borrows_gives_back_when_the_owner_comes() {
    let classes = [
        class(8_000_000, 10_000_000, 0),
        class(2_000_000, 10_000_000, 0),
    ];
    for mut run in both(10_000_000, &classes) {
        run.load(&[1], 1514, 2 * SECOND);
        near(run.rate(1, SECOND, 2 * SECOND), 10_000_000);
        run.load(&[0, 1], 1514, 6 * SECOND);
        near(run.rate(0, 3 * SECOND, 6 * SECOND), 8_000_000);
        near(run.rate(1, 3 * SECOND, 6 * SECOND), 2_000_000);
    }
}

#[test]
fn the_maximum_rate_is_never_exceeded_over_any_span() {
    let classes = [
        class(500_000, 3_000_000, 0),
        class(1_000_000, 5_000_000, 1),
        class(100_000, 10_000_000, 2),
    ];
    let most = [3_000_000u64, 5_000_000, 10_000_000];
    for seed in 1..6 {
        for (mut run, kind) in both(8_000_000, &classes).into_iter().zip(["htb", "hfsc"]) {
            let mut chance = Chance(seed);
            for _ in 0..3000 {
                let queue = chance.below(3) as u32;
                for _ in 0..chance.below(12) {
                    run.arrive(queue, 60 + chance.below(1455) as u32);
                }
                let pause = chance.below(4_000_000);
                run.until(run.now + pause);
            }
            let holds = |what: &str, sent: &[(u64, u32)], rate: u64, depth: u64| {
                // A bucket that starts full never goes below zero.
                let (mut credit, mut at) = (depth as i128 * 8 * i128::from(SECOND), 0);
                for (t, bytes) in sent {
                    credit += i128::from(t - at) * i128::from(rate);
                    credit = credit.min(depth as i128 * 8 * i128::from(SECOND));
                    credit -= i128::from(*bytes) * 8 * i128::from(SECOND);
                    at = *t;
                    assert!(credit >= 0, "{what} {rate} at {t}: {credit}");
                }
            };
            let all: Vec<_> = run.sent.iter().map(|(t, i)| (*t, i.bytes)).collect();
            holds(kind, &all, 8_000_000, BURST);
            assert!(all.len() > 1000);
            // HFSC measures a queue's upper limit by the spacing of packets, one ahead.
            for (q, rate) in most.iter().enumerate() {
                let of = run.sent.iter().filter(|(_, i)| i.queue as usize == q);
                let of: Vec<_> = of.map(|(t, i)| (*t, i.bytes)).collect();
                holds(kind, &of, *rate, depth(*rate, BURST));
            }
        }
    }
}

#[test]
fn nothing_idles_while_a_packet_may_leave_and_order_is_kept() {
    let classes = [class(1_000_000, 8_000_000, 0); 4];
    for mut run in both(8_000_000, &classes) {
        let mut chance = Chance(7);
        let mut came: Vec<VecDeque<u32>> = vec![VecDeque::new(); 4];
        // As much as 900 packets of 1000 bytes in a burst: nine tenths of a second.
        for _ in 0..900 {
            let q = chance.below(4) as u32;
            let n = run.arrive(q, 1000);
            came[q as usize].push_back(n);
        }
        assert!(run.dropped.is_empty());
        run.until(2 * SECOND);
        assert_eq!(run.sent.len(), 900);
        // 1564 bytes are there at once, the rest comes at a byte a microsecond.
        let last = run.sent.last().unwrap().0;
        assert!(last.abs_diff((900_000 - BURST) * 1000) <= 1000, "{last}");
        for (_, i) in &run.sent {
            assert_eq!(came[i.queue as usize].pop_front(), Some(i.slot));
        }
    }
}

#[test]
fn who_has_a_smaller_priority_number_gets_all_there_is_to_borrow() {
    let classes = [
        class(1_000_000, 10_000_000, 7),
        class(1_000_000, 10_000_000, 3),
        class(1_000_000, 10_000_000, 3),
    ];
    let mut run = Run::new(Htb::new(10_000_000, BURST, &classes, 0));
    run.load(&[0, 1, 2], 1000, 3 * SECOND);
    near(run.rate(0, SECOND, 3 * SECOND), 1_000_000);
    near(run.rate(1, SECOND, 3 * SECOND), 4_500_000);
    near(run.rate(2, SECOND, 3 * SECOND), 4_500_000);
}

#[test]
fn minimum_rates_that_add_up_to_too_much_share_what_there_is() {
    let classes = [
        class(10_000_000, 10_000_000, 0),
        class(30_000_000, 30_000_000, 0),
    ];
    let mut run = Run::new(Htb::new(10_000_000, BURST, &classes, 0));
    run.load(&[0, 1], 1000, 3 * SECOND);
    let (a, b) = (
        run.rate(0, SECOND, 3 * SECOND),
        run.rate(1, SECOND, 3 * SECOND),
    );
    near(a + b, 10_000_000);
    assert!((22..29).contains(&(a * 100 / (a + b))), "{a} {b}");
}

#[test]
fn rates_are_exact_from_slow_to_fast_and_lateness_is_made_up_for() {
    for rate in [1_000_000u64, 100_000_000, 10_000_000_000] {
        for bytes in [60, 512, 1514] {
            for late in [0, 55_000, 3_000_000] {
                let classes = [class(rate, rate, 0)];
                let mut htb = Htb::new(rate, BURST, &classes, 0);
                let mut dropped = Vec::new();
                let (mut now, mut sent) = (0u64, 0u64);
                let end = SECOND / 10;
                while now < end {
                    while htb.len() < LIMIT {
                        let item = Item {
                            bytes,
                            frames: 1,
                            ..Item::default()
                        };
                        htb.enqueue(item, now, &mut dropped);
                    }
                    let due = htb.next(now).unwrap();
                    now = due.max(now) + late;
                    let behind = now - due;
                    while let Some(i) = htb.dequeue(now, behind, &mut dropped) {
                        sent += u64::from(i.bytes);
                        // Who sends refills, as traffic does.
                        htb.enqueue(i, now, &mut dropped);
                    }
                }
                let whole = u128::from(rate) * u128::from(now) / 8 / u128::from(SECOND);
                let most = whole as u64 + BURST + 1514;
                assert!(sent <= most, "{rate} {bytes} {late}: {sent} of {whole}");
                let least = whole as u64 * 99 / 100;
                assert!(
                    sent + 1514 >= least,
                    "{rate} {bytes} {late}: {sent} of {whole}"
                );
            }
        }
    }
}

#[test]
fn a_full_queue_refuses_and_what_was_kept_is_never_refused() {
    let classes = [class(8000, 8000, 0)];
    for mut run in both(8000, &classes) {
        for _ in 0..LIMIT + 5 {
            run.arrive(0, 1000);
        }
        assert_eq!(run.dropped.len(), 5);
        let kept = Item {
            kept: true,
            ..run.dropped[0]
        };
        run.scheduler.enqueue(kept, run.now, &mut run.dropped);
        assert_eq!((run.dropped.len(), run.scheduler.len()), (5, LIMIT + 1));
        let mut out = Vec::new();
        run.scheduler.drain(&mut out);
        assert_eq!(out.len(), LIMIT + 1);
        assert!(run.scheduler.is_empty() && run.scheduler.next(0).is_none());
    }
}

#[test]
fn flows_take_turns() {
    let codel = CodelSpec {
        target: 5000,
        interval: 100_000,
        limit: 10_240,
        ecn: true,
    };
    for mut run in [
        Run::new(Sfq::new(10, 1500, 0)),
        Run::new(FqCodel::new(codel, 1024, 1514, MTU)),
    ] {
        // One flow with many packets, another with few that come later.
        for _ in 0..100 {
            run.arrive(1, 1000);
        }
        for _ in 0..10 {
            run.arrive(2, 1000);
        }
        let mut order = Vec::new();
        for _ in 0..40 {
            let item = run.scheduler.dequeue(0, 0, &mut run.dropped).unwrap();
            order.push(item.queue);
        }
        assert_eq!(order.iter().filter(|q| **q == 2).count(), 10, "{order:?}");
        assert_eq!(run.scheduler.len(), 70);
    }
}

#[test]
fn a_queue_that_stands_is_thinned_out_and_one_that_moves_is_not() {
    let spec = CodelSpec {
        target: 5000,
        interval: 100_000,
        limit: 1000,
        ecn: false,
    };
    // A packet leaves each millisecond; with 50 that wait each waits for 50 ms.
    let drain = |standing: usize, spec: CodelSpec, ecn: bool| {
        let mut q = CodelQueue::new(spec, MTU);
        let (mut dropped, mut marked, mut now) = (Vec::new(), 0, 0u64);
        for _ in 0..2000 {
            while q.len() < standing {
                let item = Item {
                    bytes: 1000,
                    at: now,
                    ecn,
                    ..Item::default()
                };
                q.enqueue(item, now, &mut dropped);
            }
            now += 1_000_000;
            let item = q.dequeue(now, 0, &mut dropped);
            marked += usize::from(item.is_some_and(|i| i.marked));
        }
        (dropped.len(), marked)
    };
    assert_eq!(drain(3, spec, false), (0, 0));
    let (dropped, marked) = drain(50, spec, false);
    // The first after an interval, and then ever sooner: n intervals over root n.
    assert!((60..200).contains(&dropped) && marked == 0, "{dropped}");
    let ecn = CodelSpec { ecn: true, ..spec };
    let (dropped, marked) = drain(50, ecn, true);
    assert!(
        dropped == 0 && (60..200).contains(&marked),
        "{dropped} {marked}"
    );
    assert_eq!(drain(50, ecn, false).1, 0);
}
