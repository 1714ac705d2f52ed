//! What only split rings do: their bookkeeping, and what a hostile table means.

use proptest::prelude::*;

use super::*;
use crate::ring::{Layout, RingError};

#[test]
fn interrupts_come_when_asked_for() {
    let mut driver = Driver::new(64, 1 << 20).unwrap();
    let call = crate::sys::event::EventFd::new().unwrap();
    let start = |features, driver: &Driver| {
        Ring::start(
            driver.memory(),
            &driver.layout(),
            features,
            Some(call.try_clone().unwrap()),
            Default::default(),
        )
        .unwrap()
    };
    let mut ring = start(MODERN, &driver);
    assert_eq!(driver.used_flags(), 1);
    driver.offer_frame(&PLAIN, &frame(60, 0));
    receive(&mut ring);
    assert!(call.clear());
    driver.set_available_flags(1);
    driver.offer_frame(&PLAIN, &frame(60, 0));
    receive(&mut ring);
    assert!(!call.clear());
    assert!(!ring.arm());
    assert_eq!(driver.used_flags(), 0);
    driver.offer_frame(&PLAIN, &frame(60, 0));
    assert!(ring.arm());
    ring.disarm();
    assert_eq!(driver.used_flags(), 1);

    let mut driver = Driver::new(64, 1 << 20).unwrap();
    let mut ring = start(MODERN | feature::EVENT_IDX, &driver);
    driver.set_used_event(1);
    driver.offer_frame(&PLAIN, &frame(60, 0));
    receive(&mut ring);
    assert!(!call.clear());
    for _ in 0..3 {
        driver.offer_frame(&PLAIN, &frame(60, 0));
    }
    receive(&mut ring);
    assert!(call.clear());
    assert!(!ring.arm());
    assert_eq!(driver.avail_event(), 4);
    ring.notify();
    assert!(!call.clear());
}

#[test]
fn malformed_chains_are_returned_and_the_others_go_through() {
    let mut driver = Driver::new(16, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    let at = driver.room(256);
    driver.write(at, &PLAIN);
    // Wrong direction; empty; outside; header only; loop; next beyond the table; bad tables; then a good one.
    driver.offer(&[(at, 100)], WRITE);
    driver.offer(&[(at, 12), (at, 0)], 0);
    driver.offer(&[(1 << 40, 100)], 0);
    driver.offer(&[(at, 20)], 0);
    let base = GUEST_BASE + at;
    driver.set_descriptor(0, 5, base, 30, NEXT, 5);
    driver.make_available(5);
    driver.set_descriptor(0, 6, base, 30, NEXT, 16);
    driver.make_available(6);
    driver.set_descriptor(0, 7, base, 17, INDIRECT, 0);
    driver.make_available(7);
    driver.set_descriptor(0, 8, base, 16, INDIRECT, 0);
    driver.set_descriptor(at, 0, base, 16, INDIRECT, 0);
    driver.make_available(8);
    driver.set_descriptor(0, 9, base, 0xffff_fff0, INDIRECT, 0);
    driver.make_available(9);
    driver.set_descriptor(0, 10, u64::MAX - 8, 100, 0, 0);
    driver.make_available(10);
    let good = driver.room(200);
    driver.write(good, &PLAIN);
    driver.set_descriptor(0, 11, GUEST_BASE + good, 112, 0, 0);
    driver.make_available(11);
    let got = receive(&mut ring);
    assert_eq!(got.len(), 1);
    assert_eq!(ring.counters.bad_chains(), 10);
    assert!(ring.error().is_none());
    assert_eq!(driver.collect().len(), 11);
}

#[test]
fn impossible_bookkeeping_ends_the_ring() {
    let mut driver = Driver::new(16, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    driver.set_available_index(17);
    assert!(receive(&mut ring).is_empty());
    assert_eq!(
        ring.error(),
        Some(&RingError::IndexJump {
            from: 0,
            to: 17,
            size: 16
        })
    );
    let mut driver = Driver::new(16, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    driver.offer_frame(&PLAIN, &frame(60, 0));
    driver.make_available(16);
    assert_eq!(receive(&mut ring).len(), 1);
    assert_eq!(ring.error(), Some(&RingError::Head(16, 16)));
    assert_eq!(driver.collect().len(), 1);
    assert_eq!(send(&mut ring, &[OwnedPacket::new(frame(60, 0))]).down, 1);
}

#[test]
fn queues_outside_memory_do_not_start() {
    let driver = Driver::new(16, 1 << 16).unwrap();
    let start = |change: &dyn Fn(&mut Layout)| {
        let mut layout = driver.layout();
        change(&mut layout);
        Ring::start(driver.memory(), &layout, 0, None, Default::default()).unwrap_err()
    };
    assert_eq!(start(&|l| l.size = 12), RingError::Size(12));
    assert_eq!(start(&|l| l.size = 0), RingError::Size(0));
    assert!(matches!(
        start(&|l| l.descriptors += 8),
        RingError::Alignment("descriptor table", _, 16)
    ));
    assert!(matches!(
        start(&|l| l.available += 1),
        RingError::Alignment("available ring", _, 2)
    ));
    assert!(matches!(
        start(&|l| l.used += 2),
        RingError::Alignment("used ring", _, 4)
    ));
    assert!(matches!(
        start(&|l| l.used = USER_BASE + (1 << 16) - 16),
        RingError::Outside("used ring", ..)
    ));
    assert!(matches!(
        start(&|l| l.descriptors = u64::MAX - 15),
        RingError::Outside(..)
    ));
}

#[test]
fn a_stopped_ring_goes_on_where_it_was() {
    let mut driver = Driver::new(16, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    for _ in 0..5 {
        driver.offer_frame(&PLAIN, &frame(60, 0));
    }
    receive(&mut ring);
    driver.offer_frame(&PLAIN, &frame(60, 9));
    assert_eq!(ring.base(), 5);
    drop(ring);
    // Some monitors forget the base; the used ring knows better.
    let layout = driver.layout();
    assert_eq!(layout.base, 0);
    let mut ring = Ring::start(driver.memory(), &layout, MODERN, None, Default::default()).unwrap();
    assert_eq!(receive(&mut ring)[0].bytes, frame(60, 9));
    assert_eq!(driver.collect().len(), 6);
}

/// What a chain means, by the simplest reading of the specification.
pub(super) fn model(driver: &Driver, head: u16, size: u16) -> Option<Vec<u8>> {
    let read = |table: u64, i: u16| {
        let b = driver.read(table + 16 * u64::from(i), 16);
        let word = |at: usize, n: usize| {
            b[at..at + n]
                .iter()
                .rev()
                .fold(0u64, |v, x| v << 8 | u64::from(*x))
        };
        (
            word(0, 8),
            word(8, 4) as u32,
            word(12, 2) as u16,
            word(14, 2) as u16,
        )
    };
    let inside = |addr: u64, len: u32| {
        addr >= GUEST_BASE && addr - GUEST_BASE + u64::from(len) <= MODEL_MEMORY
    };
    let (mut table, mut entries, mut i, mut steps, mut nested) = (0, size, head, 0, false);
    let mut bytes = Vec::new();
    loop {
        if i >= entries || steps == entries {
            return None;
        }
        steps += 1;
        let (addr, len, flags, next) = read(table, i);
        if flags & INDIRECT != 0 {
            if nested
                || flags & NEXT != 0
                || len == 0
                || !len.is_multiple_of(16)
                || !inside(addr, len)
            {
                return None;
            }
            if !addr.is_multiple_of(8) || len / 16 > 1024 {
                return None;
            }
            (table, entries, i, steps, nested) = (addr - GUEST_BASE, (len / 16) as u16, 0, 0, true);
            continue;
        }
        if flags & WRITE != 0 || len == 0 || !inside(addr, len) {
            return None;
        }
        bytes.extend(driver.read(addr - GUEST_BASE, len as usize));
        if flags & NEXT == 0 {
            break;
        }
        i = next;
    }
    if bytes.len() < 26 || bytes[0] & 1 != 0 || bytes[1] != 0 {
        return None;
    }
    Some(bytes.split_off(12))
}

pub(super) const MODEL_MEMORY: u64 = 4 * 4096;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Random tables with plausible entries: our reading and the model's agree chain by chain.
    #[test]
    fn random_tables_are_read_as_the_model_reads_them(
        table in proptest::collection::vec((0u64..MODEL_MEMORY + 64, 0u32..400, 0u16..8, 0u16..18), 16),
        tables in proptest::collection::vec((0u64..MODEL_MEMORY + 64, 0u32..400, 0u16..8, 0u16..18), 32),
        heads in proptest::collection::vec(0u16..16, 1..16),
        divided: bool,
    ) {
        let mut driver = Driver::new(16, MODEL_MEMORY).unwrap();
        if divided {
            driver = driver.divided(2 * 4096);
        }
        driver.write(4096, &vec![0; 3 * 4096]);
        for (i, (at, len, flags, next)) in tables.iter().enumerate() {
            driver.set_descriptor(4096, i as u16, GUEST_BASE + at, *len, flags & !INDIRECT, next % 4);
        }
        for (i, (at, len, flags, next)) in table.iter().enumerate() {
            if flags & INDIRECT != 0 {
                let at = 4096 + (at % 32) * 16;
                driver.set_descriptor(0, i as u16, GUEST_BASE + at, (len % 8) * 16, flags & !WRITE, *next);
            } else {
                driver.set_descriptor(0, i as u16, GUEST_BASE + at, *len, flags & (NEXT | (WRITE * u16::from(at.is_multiple_of(8)))), *next);
            }
        }
        let mut ring = driver.start(MODERN);
        let mut want = Vec::new();
        for head in &heads {
            driver.make_available(*head);
        }
        for head in &heads {
            // A packet that takes more pieces than a batch has room for is refused too; such chains are too rare here to matter.
            if let Some(bytes) = model(&driver, *head, 16) {
                want.push(bytes);
            }
        }
        let mut batch = Batch::new();
        ring.dequeue(&mut batch);
        let got: Vec<Vec<u8>> = (0..batch.len()).map(|i| batch.to_owned(i).bytes).collect();
        ring.give_back();
        prop_assert_eq!(got, want);
        let used: Vec<u32> = driver.collect().into_iter().map(|(head, _)| head).collect();
        prop_assert_eq!(used, heads.iter().map(|h| u32::from(*h)).collect::<Vec<_>>());
    }
}
