//! What only packed rings do: wrap counters, event suppression, and what a hostile ring means.

use super::*;
use crate::ring::{Layout, RingError};
use crate::sys::event::EventFd;

fn start(driver: &Driver, layout: &Layout, features: u64) -> Ring {
    let features = features | feature::RING_PACKED;
    Ring::start(driver.memory(), layout, features, None, Default::default()).unwrap()
}

#[test]
fn a_ring_of_any_size_wraps() {
    for size in [1, 2, 3, 5, 48] {
        let mut driver = Driver::packed(size, 1 << 16).unwrap();
        let mut ring = driver.start(MODERN);
        for round in 0..200u32 {
            let n = (round as u16 % size + 1).min(32);
            for i in 0..n {
                driver.offer_frame(&PLAIN, &frame(60, i as u8));
            }
            let seen = receive(&mut ring);
            assert_eq!(seen.len(), usize::from(n), "size {size}, round {round}");
            for (i, packet) in seen.iter().enumerate() {
                assert_eq!(packet.bytes, frame(60, i as u8));
            }
            assert_eq!(driver.collect().len(), usize::from(n));
            assert!(receive(&mut ring).is_empty());
        }
    }
}

#[test]
fn used_descriptors_say_what_was_written() {
    let mut driver = Driver::packed(4, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    driver.offer_buffer(2048);
    driver.offer(&[(0x8000, 100)], 0);
    assert_eq!(
        send(&mut ring, &[OwnedPacket::new(frame(60, 6))]).packets,
        1
    );
    let flags = |i: u64| u16::from_le_bytes(driver.read(16 * i + 14, 2).try_into().unwrap());
    assert_eq!(flags(0), AVAIL | USED | WRITE);
    // A buffer of the wrong direction comes back with nothing in it.
    assert_eq!(send(&mut ring, &[OwnedPacket::new(frame(60, 6))]).down, 1);
    assert_eq!(flags(1), AVAIL | USED);
    assert_eq!(driver.collect(), [(0, 72), (1, 0)]);
}

#[test]
fn a_merged_packet_that_finds_no_room_leaves_the_ring_as_it_was() {
    let mut driver = Driver::packed(8, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    for _ in 0..5 {
        driver.offer_buffer(256);
    }
    let before = driver.read(0, 16 * 8);
    let out = send(&mut ring, &[OwnedPacket::new(vec![7; 1518])]);
    assert_eq!((out.full, out.packets), (1, 0));
    assert_eq!(driver.read(0, 16 * 8), before);
    driver.offer_buffer(256);
    let out = send(&mut ring, &[OwnedPacket::new(vec![7; 1518])]);
    assert_eq!((out.full, out.packets), (0, 1));
    assert_eq!(driver.collect().len(), 6);
}

#[test]
fn interrupts_come_when_asked_for() {
    let call = EventFd::new().unwrap();
    let start = |features, driver: &Driver| {
        Ring::start(
            driver.memory(),
            &driver.layout(),
            features | feature::RING_PACKED,
            Some(call.try_clone().unwrap()),
            Default::default(),
        )
        .unwrap()
    };
    let mut driver = Driver::packed(64, 1 << 20).unwrap();
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
}

/// Every place an interrupt can be asked for, and every number of descriptors handed back, against counting.
#[test]
fn interrupts_by_place_are_those_that_were_passed() {
    const SIZE: u16 = 5;
    let call = EventFd::new().unwrap();
    for event in 0..SIZE {
        for event_wrap in [false, true] {
            for first in 0..2 * SIZE {
                for n in 1..=SIZE {
                    let mut driver = Driver::packed(SIZE, 1 << 16).unwrap();
                    let mut ring = Ring::start(
                        driver.memory(),
                        &driver.layout(),
                        MODERN | feature::RING_PACKED | feature::EVENT_IDX,
                        Some(call.try_clone().unwrap()),
                        Default::default(),
                    )
                    .unwrap();
                    // Disabled while the ring gets to where the test begins.
                    driver.set_available_flags(1);
                    for _ in 0..first {
                        driver.offer_frame(&PLAIN, &frame(60, 0));
                        receive(&mut ring);
                        driver.collect();
                    }
                    driver.set_used_event(event | u16::from(event_wrap) << 15);
                    for _ in 0..n {
                        driver.offer_frame(&PLAIN, &frame(60, 0));
                    }
                    assert_eq!(receive(&mut ring).len(), usize::from(n));
                    let passed = (first..first + n)
                        .any(|p| p % SIZE == event && (p / SIZE).is_multiple_of(2) == event_wrap);
                    assert_eq!(
                        call.clear(),
                        passed,
                        "{event} {event_wrap} from {first}, {n} on"
                    );
                    // Kicks are asked for at the place where we stand.
                    assert!(!ring.arm());
                    let place = (first + n) % SIZE;
                    let wrap = ((first + n) / SIZE).is_multiple_of(2);
                    assert_eq!(driver.avail_event(), place | u16::from(wrap) << 15);
                    assert_eq!(driver.used_flags(), 2);
                }
            }
        }
    }
}

#[test]
fn malformed_chains_are_returned_and_the_others_go_through() {
    let mut driver = Driver::packed(32, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    let at = driver.room(256);
    driver.write(at, &PLAIN);
    // Wrong direction; empty; outside; header only; bad tables (nested, misshapen, empty, huge); then a good one.
    driver.offer(&[(at, 100)], WRITE);
    driver.offer(&[(at, 12), (at, 0)], 0);
    driver.offer(&[(1 << 40, 100)], 0);
    driver.offer(&[(at, 20)], 0);
    driver.set_descriptor(at + 64, 0, GUEST_BASE + at, 16, INDIRECT, 0);
    for len in [16, 17, 0, 0xffff_fff0] {
        driver.offer(&[(at + 64, len)], INDIRECT);
    }
    driver.offer(&[(at + 64, 16), (at, 100)], INDIRECT);
    let good = driver.room(200);
    driver.write(good, &PLAIN);
    driver.offer(&[(good, 112)], 0);
    let got = receive(&mut ring);
    assert_eq!(got.len(), 1);
    assert_eq!(ring.counters.bad_chains(), 9);
    assert!(ring.error().is_none());
    assert_eq!(driver.collect().len(), 10);
}

#[test]
fn a_chain_without_end_ends_the_ring() {
    let mut driver = Driver::packed(8, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    driver.offer_frame(&PLAIN, &frame(60, 0));
    for i in 1..8 {
        driver.set_descriptor(0, i, GUEST_BASE + 0x800, 30, NEXT | AVAIL, 1);
    }
    driver.set_descriptor(0, 0, GUEST_BASE + 0x800, 30, NEXT | USED, 1);
    assert!(receive(&mut ring).is_empty());
    assert!(ring.error().is_none(), "the first is not available");
    driver.set_descriptor(0, 0, GUEST_BASE + 0x800, 30, NEXT | AVAIL, 1);
    assert!(receive(&mut ring).is_empty());
    assert_eq!(ring.error(), Some(&RingError::Endless(0, 8)));
    assert_eq!(send(&mut ring, &[OwnedPacket::new(frame(60, 0))]).down, 1);
}

#[test]
fn queues_that_cannot_be_do_not_start() {
    let driver = Driver::packed(16, 1 << 16).unwrap();
    let start = |change: &dyn Fn(&mut Layout)| {
        let mut layout = driver.layout();
        change(&mut layout);
        let features = feature::RING_PACKED;
        Ring::start(driver.memory(), &layout, features, None, Default::default()).unwrap_err()
    };
    assert_eq!(start(&|l| l.size = 0), RingError::Size(0));
    assert_eq!(start(&|l| l.size = 32769), RingError::Size(32769));
    assert_eq!(start(&|l| l.base = 0x8010), RingError::Base(16, 16));
    assert!(matches!(
        start(&|l| l.descriptors += 8),
        RingError::Alignment("descriptor ring", _, 16)
    ));
    assert!(matches!(
        start(&|l| l.available += 2),
        RingError::Alignment("driver event suppression", _, 4)
    ));
    assert!(matches!(
        start(&|l| l.used = USER_BASE + (1 << 16) - 2),
        RingError::Outside("device event suppression", ..)
    ));
}

#[test]
fn a_stopped_ring_goes_on_where_it_was() {
    let mut driver = Driver::packed(8, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    for round in 0..30u16 {
        for i in 0..3 {
            driver.offer_frame(&PLAIN, &frame(60, i));
        }
        // One batch is taken and not given back when the ring stops: it is taken again.
        let mut batch = Batch::new();
        assert_eq!(ring.dequeue(&mut batch), 3);
        let base = ring.base();
        assert_eq!(base & 0x7fff, 3 * round % 8);
        assert_eq!(base & 0x8000 != 0, (3 * round / 8).is_multiple_of(2));
        let layout = Layout {
            base,
            ..driver.layout()
        };
        ring = start(&driver, &layout, MODERN);
        assert_eq!(receive(&mut ring).len(), 3);
        assert_eq!(driver.collect().len(), 3);
    }
}

#[test]
fn a_base_from_before_a_kill_is_put_right() {
    let mut driver = Driver::packed(8, 1 << 16).unwrap();
    let pieces = |driver: &mut Driver| {
        let at = driver.room(100);
        driver.write(at, &PLAIN);
        driver.write(at + 12, &frame(88, 1));
        [(at, 20), (at + 20, 80)]
    };
    for used in 0..6u16 {
        driver.next_queue();
        let mut ring = driver.start(MODERN);
        // The last of them is a chain of two.
        for i in 0..used {
            if i + 1 == used {
                let pieces = pieces(&mut driver);
                driver.offer(&pieces, 0);
            } else {
                driver.offer_frame(&PLAIN, &frame(60, 0));
            }
        }
        assert_eq!(receive(&mut ring).len(), usize::from(used));
        driver.offer_frame(&PLAIN, &frame(60, 9));
        // Killed; the monitor knows only where it began.
        let mut ring = start(&driver, &driver.layout(), MODERN);
        let got = receive(&mut ring);
        assert_eq!(got.len(), 1, "{used} used");
        assert_eq!(got[0].bytes, frame(60, 9));
        assert_eq!(driver.collect().len(), usize::from(used) + 1);
    }
}
