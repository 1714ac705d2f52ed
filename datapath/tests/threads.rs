//! Forwarding threads: receive queues that move between them, and threads that come and go, while packets flow.

mod common;

use common::*;
use datapath::packet::Offload;
use datapath::port::dummy::DummyHandle;
use datapath::*;
use openflow::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames sent by each source that may be on their way: fewer than a thread holds back while another, which may have lost its
/// processor just then, sends to the same port.
const WINDOW: u64 = 100;
const _: () = assert!((WINDOW as usize) < datapath::engine::tx::HELD_MAX);

/// A frame of source `port` with its number.
fn numbered(port: usize, n: u64) -> Vec<u8> {
    let mut f = udp(port as u8, 9);
    f[42..50].copy_from_slice(&n.to_be_bytes());
    f
}

/// Sends `total` numbered frames from each of `sources` to `sink` while `meanwhile` is called again and again; fails unless all
/// arrive, those of each source in order.
fn all_arrive_in_order(
    t: &Switch,
    sources: &[usize],
    sink: usize,
    total: u64,
    mut meanwhile: impl FnMut(u64),
) {
    let handle = |n: usize| -> DummyHandle { t.port(n).unwrap() };
    let to = handle(sink);
    let arrived: Vec<AtomicU64> = sources.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|s| {
        for (i, source) in sources.iter().enumerate() {
            let (from, arrived, source) = (handle(*source), &arrived[i], *source);
            s.spawn(move || {
                for n in 0..total {
                    wait_until(|| n - arrived.load(Ordering::Relaxed) < WINDOW);
                    assert!(from.inject(&numbered(source, n), Offload::default()));
                }
            });
        }
        let mut calls = 0;
        wait_until_long(|| {
            for f in to.take_sent() {
                let i = sources.iter().position(|s| *s == usize::from(f.bytes[11]));
                let n = u64::from_be_bytes(f.bytes[42..50].try_into().unwrap());
                let arrived = &arrived[i.unwrap()];
                assert_eq!(n, arrived.load(Ordering::Relaxed), "lost or out of order");
                arrived.store(n + 1, Ordering::Relaxed);
            }
            meanwhile(calls);
            calls += 1;
            arrived.iter().all(|a| a.load(Ordering::Relaxed) == total)
        });
        assert!(calls > 10, "the test was over before anything happened");
    });
}

fn wait_until_long(mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < end, "waited too long");
        std::thread::yield_now();
    }
}

fn forward_to(t: &Switch, sink: u32) {
    t.flow(FlowMod::add(Match::new(), out(PortNo(sink))));
}

#[test]
fn queues_move_between_threads_without_loss_or_reordering() {
    let t = Switch::threads(2, vec![VlanConfig::default(); 3]);
    forward_to(&t, 3);
    all_arrive_in_order(&t, &[1, 2], 3, 20_000, |calls| {
        for port in [1usize, 2] {
            let mut spec = t.spec(&port.to_string(), VlanConfig::default());
            spec.rxq_affinity = BTreeMap::from([(0, (calls as usize + port) % 2)]);
            t.dp.set_port(t.br, PortNo(port as u32), spec).unwrap();
        }
    });
    let stats = t.dp.thread_stats();
    assert!(stats.iter().all(|s| s.packets > 0), "{stats:?}");
    assert_eq!(stats.iter().map(|s| s.packets).sum::<u64>(), 40_000);
    // Each thread has the port that is tied to it, for itself.
    let queues = t.dp.queues(60);
    let of = |n: usize| {
        let name = t.name(&n.to_string());
        queues.iter().find(|q| q.port == name).unwrap()
    };
    assert_ne!(of(1).thread, of(2).thread);
    assert_eq!(of(1).affinity, Some(of(1).thread));
    assert_eq!(of(1).packets, 20_000);
}

#[test]
fn threads_come_and_go_while_packets_flow() {
    let t = Switch::threads(1, vec![VlanConfig::default(); 3]);
    let cpus = Datapath::processors();
    let most = t.dp.threads_max().min(cpus.len());
    forward_to(&t, 3);
    all_arrive_in_order(&t, &[1, 2], 3, 10_000, |calls| {
        let n = 1 + calls as usize % most;
        let cores = (calls % 3 != 2).then(|| cpus[..n].to_vec());
        let settings = ThreadSettings {
            cores,
            ..ThreadSettings::default()
        };
        t.dp.set_threads(settings).unwrap();
    });
    let settings = ThreadSettings {
        cores: Some(vec![*cpus.last().unwrap()]),
        ..ThreadSettings::default()
    };
    t.dp.set_threads(settings).unwrap();
    let loads = t.dp.thread_loads(60);
    assert_eq!(loads.len(), 1);
    assert!(loads[0].pinned && loads[0].core == *cpus.last().unwrap());
    assert!(t.dp.queues(60).iter().all(|q| q.thread == 0));
    // Ports that come later, and that go, work as before.
    let spec = t.spec("4", VlanConfig::default());
    assert_eq!(t.dp.add_port(t.br, spec).unwrap(), PortNo(4));
    t.send(2, &numbered(2, 7));
    assert_eq!(t.sent(), [(3, numbered(2, 7))]);
    t.dp.remove_port(t.br, PortNo(4));
    assert_eq!(t.dp.queues(60).len(), 3);
}

#[test]
fn impossible_numbers_of_threads_are_refused() {
    let t = Switch::new(1);
    for cores in [vec![], vec![0; t.dp.threads_max() + 1]] {
        let settings = ThreadSettings {
            cores: Some(cores),
            ..ThreadSettings::default()
        };
        let error = t.dp.set_threads(settings).unwrap_err().to_string();
        assert!(error.contains("forwarding threads: 1 to"), "{error}");
    }
    assert_eq!(t.dp.thread_loads(5).len(), 1);
}

#[test]
fn new_queues_are_spread_and_rebalancing_moves_nothing_that_is_even() {
    let t = Switch::threads(2, vec![VlanConfig::default(); 8]);
    let queues = t.dp.queues(60);
    assert_eq!(queues.iter().filter(|q| q.thread == 0).count(), 4);
    t.dp.rebalance();
    let queues = t.dp.queues(60);
    assert_eq!(queues.iter().filter(|q| q.thread == 0).count(), 4);
}
