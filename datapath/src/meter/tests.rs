use super::*;
use std::time::Duration;

fn meter(flags: u16, bands: &[(MeterBandKind, u32, u32)]) -> MeterMod {
    MeterMod {
        command: MeterModCommand::Add,
        config: MeterConfig {
            meter: 1,
            flags,
            bands: bands
                .iter()
                .map(|&(kind, rate, burst)| MeterBand { kind, rate, burst })
                .collect(),
        },
    }
}

fn made(m: &MeterMod) -> (Meters, Arc<Meter>) {
    let mut meters = Meters::default();
    assert_eq!(meters.apply(m, Duration::ZERO).unwrap(), [1]);
    let meter = meters.get(1).unwrap().clone();
    (meters, meter)
}

const MS: u64 = 1_000_000;

#[test]
fn kilobits_are_counted_to_the_bit() {
    // 1000 kbit/s is 125 bytes a millisecond; the burst is 1000 bytes.
    let (_, m) = made(&meter(KBPS | BURST, &[(MeterBandKind::Drop, 1000, 8)]));
    let mut passed = 0;
    for at in 0..10_000u64 {
        // 250 bytes each millisecond: half of it is too much.
        if m.pass(250, at * MS) == Verdict::Pass {
            passed += 250;
        }
    }
    // What was there, and what came in 9999 ms; the last packet may just not have had enough.
    let most = 1000 + 9999 * 125;
    assert!((most - 250..=most).contains(&passed), "{passed} of {most}");
    let s = m.stats(3, Duration::from_secs(10));
    assert_eq!((s.packets, s.bytes, s.flows), (10_000, 2_500_000, 3));
    assert_eq!(s.bands[0].1, 2_500_000 - passed);
    assert_eq!(s.duration, Duration::from_secs(10));
}

#[test]
fn packets_are_counted_whatever_their_length() {
    let (_, m) = made(&meter(PKTPS | BURST, &[(MeterBandKind::Drop, 10, 3)]));
    let pass = |at| {
        (0..20)
            .filter(|_| m.pass(9000, at) == Verdict::Pass)
            .count()
    };
    assert_eq!(pass(0), 3);
    assert_eq!(pass(99 * MS), 0);
    assert_eq!(pass(100 * MS), 1);
    assert_eq!(pass(10_000 * MS), 3);
    // Time that a thread has behind another fills nothing.
    assert_eq!(pass(9_000 * MS), 0);
}

#[test]
fn without_a_burst_a_seconds_worth_passes_at_once() {
    let (_, m) = made(&meter(PKTPS, &[(MeterBandKind::Drop, 5, 0)]));
    assert_eq!(
        (0..20).filter(|_| m.pass(64, 0) == Verdict::Pass).count(),
        5
    );
}

#[test]
fn of_the_bands_exceeded_the_highest_counts() {
    let (_, m) = made(&meter(
        PKTPS | BURST,
        &[
            (MeterBandKind::DscpRemark(1), 1, 2),
            (MeterBandKind::Drop, 2, 4),
        ],
    ));
    let got: Vec<Verdict> = (0..6).map(|_| m.pass(64, 0)).collect();
    assert_eq!(
        got,
        [
            Verdict::Pass,
            Verdict::Pass,
            Verdict::Remark(1),
            Verdict::Remark(1),
            Verdict::Drop,
            Verdict::Drop
        ]
    );
    assert_eq!(m.stats(0, Duration::ZERO).bands, [(2, 128), (2, 128)]);
}

#[test]
fn threads_share_a_rate_exactly() {
    let (_, m) = made(&meter(PKTPS | BURST, &[(MeterBandKind::Drop, 1000, 10)]));
    let passed: usize = std::thread::scope(|s| {
        let run = || {
            (0..1000u64)
                .filter(|at| m.pass(64, at * MS) == Verdict::Pass)
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| s.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    // One a millisecond for 999 of them, and the burst: more can never pass, and a full bucket may have run over.
    assert!((500..=1009).contains(&passed), "{passed}");
    assert_eq!(m.stats(0, Duration::ZERO).packets, 4000);
}

#[test]
fn a_modified_meter_keeps_its_counters() {
    let add = meter(PKTPS, &[(MeterBandKind::Drop, 1, 0)]);
    let (mut meters, m) = made(&add);
    m.pass(64, 0);
    m.pass(64, 0);
    let modify = MeterMod {
        command: MeterModCommand::Modify,
        ..meter(PKTPS, &[(MeterBandKind::Drop, 7, 0)])
    };
    meters.apply(&modify, Duration::from_secs(5)).unwrap();
    let s = meters.get(1).unwrap().stats(0, Duration::from_secs(6));
    assert_eq!((s.packets, s.bands[0]), (2, (0, 0)));
    assert_eq!(s.duration, Duration::from_secs(6));
    let gone = MeterMod {
        command: MeterModCommand::Delete,
        config: MeterConfig {
            meter: METER_ALL,
            flags: 0,
            bands: vec![],
        },
    };
    assert_eq!(meters.apply(&gone, Duration::ZERO).unwrap(), [1]);
    assert_eq!(meters.apply(&gone, Duration::ZERO).unwrap(), [0; 0]);
}

#[test]
fn what_cannot_be_is_refused() {
    let one = |kind, rate| meter(KBPS, &[(kind, rate, 0)]);
    let named = |id| {
        let mut m = one(MeterBandKind::Drop, 1);
        m.config.meter = id;
        m
    };
    let kind = |m: MeterMod| {
        let mut meters = Meters::default();
        let done = meters.apply(&m, Duration::ZERO);
        done.map_err(|e| e.kind).err()
    };
    let drop = MeterBandKind::Drop;
    assert_eq!(kind(named(0)), Some(ErrorKind::InvalidMeter));
    assert_eq!(kind(named(0xffff_0001)), Some(ErrorKind::InvalidMeter));
    assert_eq!(kind(named(CONTROLLER)), None);
    assert_eq!(kind(one(drop, 0)), Some(ErrorKind::BadRate));
    assert_eq!(
        kind(one(MeterBandKind::DscpRemark(0), 1)),
        Some(ErrorKind::BadBandValue)
    );
    assert_eq!(
        kind(meter(KBPS | PKTPS, &[])),
        Some(ErrorKind::BadMeterFlags)
    );
    assert_eq!(kind(meter(0x10, &[])), Some(ErrorKind::BadMeterFlags));
    assert_eq!(
        kind(meter(KBPS, &[(drop, 1, 0); 9])),
        Some(ErrorKind::OutOfBands)
    );
    let modify = MeterMod {
        command: MeterModCommand::Modify,
        ..meter(KBPS, &[])
    };
    assert_eq!(kind(modify), Some(ErrorKind::UnknownMeter));
    let (mut meters, _) = made(&meter(KBPS, &[]));
    let again = meters.apply(&meter(KBPS, &[]), Duration::ZERO);
    assert_eq!(again.unwrap_err().kind, ErrorKind::MeterExists);
}

#[test]
fn remarks_raise_the_drop_precedence() {
    // AF11 (10) to AF12 (12) and AF13 (14), and no further; ECN stays.
    assert_eq!(remarked(10 << 2 | 1, 1), 12 << 2 | 1);
    assert_eq!(remarked(10 << 2, 2), 14 << 2);
    assert_eq!(remarked(14 << 2, 1), 14 << 2);
    assert_eq!(remarked(34 << 2, 255), 38 << 2);
    // Default, class selectors and expedited forwarding have none.
    for dscp in [0u8, 8, 16, 46, 48, 11] {
        assert_eq!(remarked(dscp << 2, 1), dscp << 2);
    }
}
