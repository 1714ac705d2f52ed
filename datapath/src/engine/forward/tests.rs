//! What the caches may and may not do: whatever is kept or not, every packet goes where the tables say and is counted.

use super::{Forwarder, Tx};
use crate::Bench;
use crate::cache::{INSTALLS_AT_ONCE, PORT_FLOWS_MAX, PORT_MASKS_MAX};
use crate::packet::{BATCH, Batch, OwnedPacket};
use crate::port::{TxOutcome, TxQueue};
use openflow::{Action, FieldId, FlowFilter, FlowMod, Instructions, Match, PortNo, Subfield};
use parking_lot::Mutex;
use std::sync::Arc;

/// A destination that remembers addresses and ports of what it got: (source address, source port).
struct Recorder(Arc<Mutex<Vec<(u32, u16)>>>);

impl TxQueue for Recorder {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut got = self.0.lock();
        for &i in which {
            let h = batch.packet(i.into()).head();
            let src = u32::from_be_bytes(h[26..30].try_into().unwrap());
            got.push((src, u16::from_be_bytes([h[34], h[35]])));
        }
        TxOutcome {
            packets: which.len() as u32,
            ..TxOutcome::default()
        }
    }

    fn send_owned(&mut self, _: &OwnedPacket) -> TxOutcome {
        TxOutcome::default()
    }

    fn flush(&mut self) {}
}

type Got = Arc<Mutex<Vec<(u32, u16)>>>;

fn record(bench: &mut Bench, port: u32) -> Got {
    let got = Got::default();
    let tx = Tx::own(Box::new(Recorder(got.clone())));
    bench.forwarder.add_port(port, tx, Arc::default());
    got
}

fn frame(src: u32, sport: u16) -> OwnedPacket {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    f.extend(src.to_be_bytes());
    f.extend([10, 0, 0, 2]);
    f.extend(sport.to_be_bytes());
    f.extend([0, 80, 0, 26, 0, 0]);
    f.resize(60, 0);
    OwnedPacket::new(f)
}

fn send(f: &mut Forwarder, batch: &mut Batch, packets: &[OwnedPacket]) {
    batch.clear();
    for p in packets {
        // SAFETY: `packets` outlives the batch's use, which ends here.
        assert!(unsafe { batch.push_borrowed(p) });
    }
    f.process(batch, 0);
    batch.clear();
}

fn rule(priority: u16, m: Match, port: u32) -> FlowMod {
    let out = Action::Output {
        port: PortNo(port),
        max_len: 0,
    };
    let mut f = FlowMod::add(m, Instructions::apply(vec![out]));
    f.priority = priority;
    f
}

fn udp() -> Match {
    Match::new()
        .with(FieldId::EthType, 0x800)
        .with(FieldId::IpProto, 17)
}

fn counted(bench: &Bench) -> Vec<(u16, u64)> {
    let state = bench.bridge.state.load();
    let rules = state.tables.select(&FlowFilter::default());
    let mut n: Vec<_> = rules
        .iter()
        .map(|r| (r.priority, r.counters.get().0))
        .collect();
    n.sort_unstable();
    n
}

/// Odd source ports to 2 (index 1), even ones to 3 (index 2), each with all its bits and the address looked at.
fn odd_and_even() -> Bench {
    let masked = |bits: u128| {
        let mut m = udp().with(FieldId::Ipv4Src, 0xffff_ffff);
        m.set_slot(openflow::Slot::TpSrc, bits, 1, 0xffff);
        m
    };
    let mut whole = udp().with(FieldId::Ipv4Src, 0xffff_ffff);
    whole.set_slot(openflow::Slot::TpSrc, 0xffff, 0xffff, 0xffff);
    let any = |bits: u128| {
        let mut m = udp();
        m.set_slot(openflow::Slot::TpSrc, bits, 1, 0xffff);
        m
    };
    // Copying a field looks at all of it, whatever it took to find the rule.
    let reading = |mut f: FlowMod| {
        let whole = |field, bits| Subfield {
            field,
            offset: 0,
            bits,
        };
        let copy = |from, to, bits| Action::Move {
            source: whole(from, bits),
            target: whole(to, bits),
        };
        f.instructions.apply.splice(
            0..0,
            [
                copy(FieldId::Ipv4Src, FieldId::Reg0, 32),
                copy(FieldId::UdpSrc, FieldId::Reg1, 16),
            ],
        );
        f
    };
    Bench::new(
        &[
            rule(9, whole, 4),
            rule(8, masked(0), 4),
            reading(rule(2, any(1), 2)),
            reading(rule(1, any(0), 3)),
        ],
        false,
    )
}

#[test]
fn flows_beyond_a_ports_share_are_forwarded_and_counted_and_not_kept() {
    let mut bench = odd_and_even();
    let (two, three) = (record(&mut bench, 1), record(&mut bench, 2));
    let mut batch = Batch::new();
    let frames: Vec<_> = (0..40_000u32)
        .map(|n| frame(n / 7, (n * 2657) as u16))
        .collect();
    for chunk in frames.chunks(BATCH) {
        send(&mut bench.forwarder, &mut batch, chunk);
    }
    assert_eq!(bench.forwarder.flow_count(), PORT_FLOWS_MAX);
    assert!(bench.forwarder.counts.unkept >= 40_000 - INSTALLS_AT_ONCE);
    bench.forwarder.flush();
    let odd = (0..40_000u32)
        .filter(|n| (n * 2657) as u16 % 2 == 1)
        .count();
    assert_eq!((two.lock().len(), three.lock().len()), (odd, 40_000 - odd));
    assert!(two.lock().iter().all(|g| g.1 % 2 == 1));
    assert_eq!(
        counted(&bench),
        [(1, (40_000 - odd) as u64), (2, odd as u64), (8, 0), (9, 0)]
    );
}

#[test]
fn a_flow_thrown_out_within_a_batch_misleads_no_packet_of_it() {
    let mut bench = odd_and_even();
    let (two, three) = (record(&mut bench, 1), record(&mut bench, 2));
    let mut batch = Batch::new();
    let mut sent = 0;
    // Full to the bound, and then old and new flows in every batch.
    for round in 0..6_000u32 {
        bench.forwarder.now += 1_000_000;
        let packets: Vec<_> = (0..BATCH as u32)
            .map(|i| {
                let n = if i % 2 == 0 {
                    round * 16 + i / 2
                } else {
                    (round * 7919 + i) % (round * 16 + 1)
                };
                frame(n, (n ^ n >> 3) as u16)
            })
            .collect();
        send(&mut bench.forwarder, &mut batch, &packets);
        sent += packets.len();
        let all = [(&two, 1), (&three, 0)];
        for (got, parity) in all {
            let wrong = got.lock().iter().find(|g| g.1 % 2 != parity).copied();
            assert_eq!(wrong, None, "round {round}");
        }
        if round % 100 == 99 {
            let n: usize = all.iter().map(|(g, _)| g.lock().drain(..).count()).sum();
            sent -= n;
            assert_eq!(sent, 0);
        }
    }
    assert_eq!(bench.forwarder.flow_count(), PORT_FLOWS_MAX);
    bench.forwarder.flush();
    let total: u64 = counted(&bench).iter().map(|c| c.1).sum();
    assert_eq!(total, 6_000 * BATCH as u64);
}

#[test]
fn masks_beyond_a_ports_share_are_not_kept() {
    // Each rule looks at other bits of address and port, and the highest that fits wins.
    let rules: Vec<FlowMod> = (0..200u16)
        .map(|n| {
            let mut m = udp();
            let (a, b) = (u32::from(n % 20), u32::from(n / 20));
            let (address, port) = (u32::MAX << (31 - a), 0xffffu16 << (15 - b));
            m.set_slot(
                openflow::Slot::NwSrc,
                u128::from(0x0b0b_0b0b & address),
                address.into(),
                u32::MAX.into(),
            );
            m.set_slot(
                openflow::Slot::TpSrc,
                u128::from(0x3355 & port),
                port.into(),
                0xffff,
            );
            rule(1000 + n, m, 2 + u32::from(n % 2))
        })
        .chain([rule(0, Match::new(), 4)])
        .collect();
    let mut bench = Bench::new(&rules, false);
    let got = [1, 2, 3].map(|p| record(&mut bench, p));
    let mut batch = Batch::new();
    let want = |src: u32, sport: u16| -> usize {
        let best = (0..200u32).rev().find(|n| {
            let (a, b) = (n % 20, n / 20);
            (src ^ 0x0b0b_0b0b) & u32::MAX << (31 - a) == 0
                && (sport ^ 0x3355) & 0xffff << (15 - b) == 0
        });
        best.map_or(2, |n| n as usize % 2)
    };
    let mut dice = crate::cache::Dice::default();
    for _ in 0..800 {
        bench.forwarder.now += 1_000_000;
        let packets: Vec<_> = (0..BATCH)
            .map(|_| {
                // Agrees with the rules up to some bit: as many masks as there can be.
                let (a, b, r) = (dice.roll() % 21, dice.roll() % 11, dice.roll());
                let src = 0x0b0b_0b0b
                    ^ (r & (u32::MAX >> a) | 0x8000_0000u32.checked_shr(a).unwrap_or(0));
                frame(
                    src,
                    0x3355 ^ ((r >> 8) as u16 & (0xffff >> b) | (0x8000 >> b)),
                )
            })
            .collect();
        send(&mut bench.forwarder, &mut batch, &packets);
        assert!(bench.forwarder.lanes[0].cache.masks() <= PORT_MASKS_MAX);
        for (at, got) in got.iter().enumerate() {
            for (src, sport) in got.lock().drain(..) {
                assert_eq!(want(src, sport), at, "{src:#x} {sport:#x}");
            }
        }
    }
    bench.forwarder.flush();
    let total: u64 = counted(&bench).iter().map(|c| c.1).sum();
    assert_eq!(total, 800 * BATCH as u64);
}
