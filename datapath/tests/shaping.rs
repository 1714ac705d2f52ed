//! Quality of service on the way out of ports, to the byte and the nanosecond of a clock that tests move.

mod common;

use common::*;
use datapath::qos::spec::QueueRow;
use datapath::qos::{QosSpec, TYPES};
use datapath::*;
use openflow::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn options(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

type Options<'a> = &'a [(&'a str, &'a str)];

fn qos(kind: &str, of: Options<'_>, queues: &[(i64, Options<'_>)]) -> Option<Arc<QosSpec>> {
    let row = |(n, of): &(i64, Options<'_>)| {
        let row = QueueRow {
            options: options(of),
            dscp: None,
        };
        (*n, row)
    };
    let mut notes = Vec::new();
    let rows = queues.iter().map(row).collect();
    let spec = QosSpec::read(kind, &options(of), &rows, &mut notes).unwrap();
    assert_eq!(notes, [""; 0]);
    Some(Arc::new(spec))
}

fn htb(max_rate: &str, queues: &[(i64, Options<'_>)]) -> Option<Arc<QosSpec>> {
    qos("linux-htb", &[("max-rate", max_rate)], queues)
}

fn shape(s: &Switch, port: usize, qos: Option<Arc<QosSpec>>) {
    let spec = PortSpec {
        qos,
        ..s.spec(&port.to_string(), VlanConfig::default())
    };
    s.dp.set_port(s.br, PortNo(port as u32), spec).unwrap();
    s.dp.settle();
}

/// Two ports; what comes in by 1 goes out by 2, by the queue that its TOS says.
fn two(threads: usize) -> Switch {
    let s = Switch::threads(threads, vec![VlanConfig::default(); 2]);
    s.flow(FlowMod::add(
        Match::new().with(FieldId::InPort, 1),
        out(PortNo(2)),
    ));
    for queue in 1..4u32 {
        let m = Match::new()
            .with(FieldId::InPort, 1)
            .with(FieldId::EthType, 0x800)
            .with(FieldId::IpDscp, queue.into());
        let actions = vec![
            Action::SetQueue(queue),
            Action::Output {
                port: PortNo(2),
                max_len: 0,
            },
        ];
        let mut f = FlowMod::add(m, Instructions::apply(actions));
        f.priority = 40_000;
        s.flow(f);
    }
    s
}

/// A frame of so many bytes for a queue, with a number to know it by.
fn frame(queue: u8, number: u16, len: usize) -> Vec<u8> {
    let mut f = udp(1, 2);
    f[15] = queue << 2;
    f[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
    f[38..40].copy_from_slice(&(len as u16 - 34).to_be_bytes());
    f[24..26].fill(0);
    let c = datapath::packet::checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&c.to_be_bytes());
    f.resize(len, 0);
    f[42..44].copy_from_slice(&number.to_be_bytes());
    f
}

fn numbers(sent: &[(usize, Vec<u8>)]) -> Vec<u16> {
    let number = |f: &Vec<u8>| u16::from_be_bytes([f[42], f[43]]);
    sent.iter().map(|(_, f)| number(f)).collect()
}

fn warp(s: &Switch, micros: u64) {
    s.dp.clock().warp(Duration::from_micros(micros));
    s.dp.settle();
}

fn queue_stats(s: &Switch) -> Vec<(u32, u64, u64, u64)> {
    s.dp.queue_stats(s.br, PortNo(2))
        .iter()
        .map(|q| (q.queue, q.tx_packets, q.tx_bytes, q.tx_errors))
        .collect()
}

#[test]
fn frames_leave_at_the_rate_of_the_port_and_keep_their_order() {
    for threads in [1, 2] {
        let s = two(threads);
        // A thousand bytes take a millisecond.
        shape(&s, 2, htb("8000000", &[]));
        for n in 0..10 {
            assert!(
                s.port(1)
                    .unwrap()
                    .inject(&frame(0, n, 1000), Default::default())
            );
        }
        s.dp.settle();
        // The burst is a full frame and 64 bytes.
        assert_eq!(numbers(&s.sent()), [0]);
        warp(&s, 435);
        assert_eq!(numbers(&s.sent()), [0u16; 0]);
        warp(&s, 1);
        assert_eq!(numbers(&s.sent()), [1]);
        for n in 2..10 {
            warp(&s, 999);
            assert_eq!(numbers(&s.sent()), [0u16; 0]);
            warp(&s, 1);
            assert_eq!(numbers(&s.sent()), [n]);
        }
        assert_eq!(queue_stats(&s), [(0, 10, 10_000, 0)]);
        let p = s.dp.port_stats(s.br, PortNo(2)).unwrap();
        assert_eq!((p.tx_packets, p.tx_bytes, p.tx_dropped), (10, 10_000, 0));
    }
}

#[test]
fn each_queue_has_its_rate_and_a_queue_that_is_not_there_is_the_default_one() {
    let s = two(1);
    let rate = |r| [("min-rate", r), ("max-rate", r)];
    let (a, b) = (rate("800000"), rate("1600000"));
    shape(&s, 2, htb("80000000", &[(0, &a), (1, &b)]));
    for n in 0..300u16 {
        for queue in [0, 1, 2] {
            s.port(1)
                .unwrap()
                .inject(&frame(queue, n, 1000), Default::default());
        }
        if n % 50 == 0 {
            s.dp.settle();
        }
    }
    s.dp.settle();
    s.sent();
    warp(&s, 1_000_000);
    let count = |sent: &[(usize, Vec<u8>)], queue: u8| {
        sent.iter().filter(|(_, f)| f[15] >> 2 == queue).count()
    };
    // Asked for all at once, a second late: only some of that is made up for. Then every millisecond.
    s.sent();
    let mut sent = Vec::new();
    for _ in 0..1000 {
        warp(&s, 1000);
        sent.extend(s.sent());
    }
    let (zero, one, two) = (count(&sent, 0), count(&sent, 1), count(&sent, 2));
    assert!((99..=101).contains(&(zero + two)), "{zero} {two}");
    assert!((199..=201).contains(&one), "{one}");
    assert!(zero.abs_diff(two) <= 1);
}

#[test]
fn a_full_queue_drops_what_comes_and_counts_it() {
    let s = two(1);
    shape(&s, 2, htb("8000", &[]));
    for n in 0..1200 {
        s.send(1, &frame(0, n, 100));
    }
    // The first ones are the burst.
    let sent = s.sent().len() as u64;
    assert_eq!(sent, 15);
    let dropped = 1200 - 1000 - sent;
    assert_eq!(queue_stats(&s), [(0, sent, sent * 100, dropped)]);
    let drops = s.dp.drop_stats(s.br, Some(PortNo(1)));
    assert_eq!(drops.get("queue_full"), Some(&dropped));
    let p = s.dp.port_stats(s.br, PortNo(2)).unwrap();
    assert_eq!(p.tx_dropped, dropped);
}

#[test]
fn taken_away_it_lets_all_out_at_once_in_order_and_changed_it_loses_nothing() {
    for threads in [1, 2] {
        let s = two(threads);
        shape(&s, 2, htb("8000", &[(0, &[]), (1, &[])]));
        for n in 0..200 {
            s.send(1, &frame((n % 2) as u8, n, 1000));
        }
        let mut got = s.sent();
        assert_eq!(got.len(), 1, "the port's burst");
        // Another rate, another type, fewer queues: nothing leaves by the change, nothing is lost.
        shape(&s, 2, htb("8000000", &[(0, &[])]));
        assert_eq!(s.sent().len(), 0);
        warp(&s, 10_000);
        let n = s.sent();
        assert!((9..=11).contains(&n.len()), "{}", n.len());
        got.extend(n);
        shape(&s, 2, qos("linux-hfsc", &[("max-rate", "8000000")], &[]));
        warp(&s, 10_000);
        let n = s.sent();
        assert!((9..=11).contains(&n.len()), "{}", n.len());
        got.extend(n);
        shape(&s, 2, None);
        got.extend(s.sent());
        assert_eq!(got.len(), 200);
        for parity in [0, 1] {
            let own: Vec<u16> = numbers(&got)
                .into_iter()
                .filter(|n| n % 2 == parity)
                .collect();
            assert!(own.is_sorted(), "{own:?}");
        }
        s.send(1, &frame(0, 1, 60));
        assert_eq!(s.sent().len(), 1);
        assert_eq!(queue_stats(&s), []);
    }
}

#[test]
fn a_large_packet_is_cut_where_it_would_hold_the_line() {
    let (f, offload) = tso(30_000, 1460);
    for (rate, packets) in [("8000000", 1), ("8000000000", 1)] {
        let s = two(1);
        shape(&s, 2, htb(rate, &[]));
        s.send_with(1, &f, offload);
        let first = s.sent();
        if rate.len() == 7 {
            assert_eq!((first.len(), first[0].1.len()), (packets, 1514));
            let mut bytes = first[0].1.len();
            let mut frames = 1;
            for _ in 0..40 {
                warp(&s, 1000);
                let sent = s.sent();
                assert!(sent.len() <= 1);
                frames += sent.len();
                bytes += sent.iter().map(|f| f.1.len()).sum::<usize>();
            }
            assert_eq!((frames, bytes), (21, 30_000 + 21 * 54));
            let stats = queue_stats(&s);
            assert_eq!(stats, [(0, 21, 30_000 + 21 * 54, 0)]);
        } else {
            assert_eq!(first.len(), packets);
            assert_eq!(first[0].1.len(), f.len());
            // It is paid for as the frames it stands for.
            s.send(1, &frame(0, 7, 1000));
            assert_eq!(s.sent().len(), 0);
            warp(&s, 32);
            assert_eq!(s.sent().len(), 1);
        }
    }
}

#[test]
fn other_ports_do_not_wait() {
    let s = Switch::new(3);
    s.flow(FlowMod::add(
        Match::new(),
        Instructions::apply(vec![
            Action::Enqueue {
                port: PortNo(2),
                queue: 1,
            },
            Action::Output {
                port: PortNo(3),
                max_len: 0,
            },
        ]),
    ));
    shape(&s, 2, htb("8000000", &[(1, &[("max-rate", "800000")])]));
    for n in 0..20 {
        s.send(1, &frame(0, n, 1000));
    }
    let ports: Vec<usize> = s.sent().iter().map(|(p, _)| *p).collect();
    assert_eq!(ports.iter().filter(|p| **p == 3).count(), 20);
    assert_eq!(ports.iter().filter(|p| **p == 2).count(), 1);
    assert_eq!(queue_stats(&s), [(0, 0, 0, 0), (1, 1, 1000, 0)]);
}

#[test]
fn packets_of_a_queue_are_marked_if_it_was_chosen() {
    let s = two(1);
    let marked = |dscp| QueueRow {
        dscp: Some(dscp),
        ..QueueRow::default()
    };
    let rows = [(0, marked(10)), (1, marked(46))].into();
    let spec = QosSpec::read("linux-htb", &options(&[]), &rows, &mut Vec::new()).unwrap();
    shape(&s, 2, Some(Arc::new(spec)));
    for queue in [0, 1, 2] {
        s.send(1, &frame(queue, 0, 60));
    }
    let sent = s.sent();
    let tos: Vec<u8> = sent.iter().map(|f| f.1[15] >> 2).collect();
    assert_eq!(tos, [0, 46, 2]);
    for (_, f) in sent {
        assert_eq!(datapath::packet::checksum::of(&f[14..34]), 0);
    }
}

#[test]
fn policers_drop_and_keep_nothing() {
    let s = two(1);
    // A million bytes of IP packets a second, 10000 at once.
    let of = [("cir", "1000000"), ("cbs", "10000")];
    shape(&s, 2, qos("egress-policer", &of, &[]));
    for n in 0..30 {
        s.send(1, &frame(0, n, 1014));
    }
    assert_eq!(numbers(&s.sent()), (0..10).collect::<Vec<u16>>());
    warp(&s, 5000);
    for n in 0..30 {
        s.send(1, &frame(0, n, 1014));
    }
    assert_eq!(s.sent().len(), 5);
    assert_eq!(queue_stats(&s), [(0, 15, 15 * 1014, 45)]);
    assert_eq!(s.dp.drop_stats(s.br, None).get("egress_policer"), Some(&45));
    // Two rates: a queue's own, and the port's for all.
    let port = [
        ("cir", "0"),
        ("cbs", "0"),
        ("eir", "1000"),
        ("ebs", "12000"),
    ];
    let queue = [("cir", "0"), ("cbs", "0"), ("eir", "1000"), ("ebs", "8000")];
    shape(
        &s,
        2,
        qos("trtcm-policer", &port, &[(0, &queue), (1, &queue)]),
    );
    for n in 0..20 {
        s.send(1, &frame((n % 2) as u8, n, 1014));
    }
    // The port has enough for twelve, all yellow.
    assert_eq!(s.sent().len(), 12);
}

#[test]
fn a_delayed_packet_comes_later_and_a_lost_one_never() {
    let s = two(1);
    shape(&s, 2, qos("linux-netem", &[("latency", "5000")], &[]));
    s.send(1, &frame(0, 1, 60));
    warp(&s, 3000);
    s.send(1, &frame(0, 2, 60));
    warp(&s, 1999);
    assert_eq!(s.sent().len(), 0);
    warp(&s, 1);
    assert_eq!(numbers(&s.sent()), [1]);
    warp(&s, 2999);
    assert_eq!(s.sent().len(), 0);
    warp(&s, 1);
    assert_eq!(numbers(&s.sent()), [2]);
    shape(&s, 2, qos("linux-netem", &[("loss", "30")], &[]));
    for n in 0..1000 {
        s.send(1, &frame(0, n, 60));
    }
    let sent = s.sent().len();
    assert!((640..=760).contains(&sent), "{sent}");
}

#[test]
fn every_type_passes_packets_and_counts_them() {
    let s = two(1);
    for kind in TYPES {
        let of: Options<'_> = match kind.ends_with("policer") {
            true => &[("cir", "1000000"), ("cbs", "100000")],
            false => &[],
        };
        shape(&s, 2, qos(kind, of, &[]));
        for n in 0..50 {
            s.send(1, &frame(0, n, 60));
        }
        warp(&s, 1000);
        assert_eq!(numbers(&s.sent()), (0..50).collect::<Vec<u16>>(), "{kind}");
        assert_eq!(queue_stats(&s), [(0, 50, 3000, 0)], "{kind}");
    }
    assert!(
        QosSpec::read(
            "linux-tbf",
            &options(&[]),
            &BTreeMap::new(),
            &mut Vec::new()
        )
        .is_err()
    );
}

#[test]
fn threads_may_come_and_go_while_packets_wait() {
    let s = two(2);
    shape(&s, 2, htb("8000000", &[]));
    for n in 0..20 {
        s.send(1, &frame(0, n, 1000));
    }
    let mut got = s.sent();
    let max = s.dp.threads_max();
    for n in [1, max, 1] {
        let cores: Vec<usize> = Datapath::processors().into_iter().cycle().take(n).collect();
        let settings = ThreadSettings {
            cores: Some(cores),
            ..ThreadSettings::default()
        };
        s.dp.set_threads(settings).unwrap();
        warp(&s, 3000);
        got.extend(s.sent());
    }
    warp(&s, 100_000);
    for _ in 0..20 {
        warp(&s, 1000);
    }
    got.extend(s.sent());
    assert_eq!(numbers(&got), (0..20).collect::<Vec<u16>>());
}
