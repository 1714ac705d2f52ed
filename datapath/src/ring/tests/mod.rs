//! Rings of both layouts against a driver, well-behaved and hostile, and against a naive model.

mod models;
mod packed;
mod split;

use proptest::prelude::*;

use super::fuzz::fuzz_ring;
use super::testing::*;
use super::{Ring, feature};
use crate::packet::{BATCH, Batch, Checksum, Gso, GsoKind, Offload, OwnedPacket};
use crate::port::TxOutcome;

const MODERN: u64 = feature::VERSION_1 | feature::MRG_RXBUF | feature::INDIRECT_DESC;
const OFFLOADS: u64 = feature::CSUM
    | feature::GUEST_CSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4
    | feature::HOST_ECN
    | feature::GUEST_ECN;
/// Makes a driver: size of the queue, bytes of memory.
type New = fn(u16, u64) -> std::io::Result<Driver>;

fn split_in_order(size: u16, memory: u64) -> std::io::Result<Driver> {
    Driver::new(size, memory).map(Driver::in_order)
}

fn packed_in_order(size: u16, memory: u64) -> std::io::Result<Driver> {
    Driver::packed(size, memory).map(Driver::in_order)
}

/// Runs tests on both layouts, in order and not.
macro_rules! both {
    ($($name:ident,)*) => {
        mod of_split {
            $(#[test] fn $name() { super::$name(super::Driver::new) })*
        }
        mod of_packed {
            $(#[test] fn $name() { super::$name(super::Driver::packed) })*
        }
        mod of_split_in_order {
            $(#[test] fn $name() { super::$name(super::split_in_order) })*
        }
        mod of_packed_in_order {
            $(#[test] fn $name() { super::$name(super::packed_in_order) })*
        }
    };
}

both! {
    one_element_may_speak_for_a_batch,
    frames_of_every_length_come_in_whole,
    a_full_queue_comes_in_batches_and_the_index_wraps,
    chains_and_indirect_tables_and_divided_memory_are_put_together,
    legacy_headers_have_ten_bytes,
    packets_go_out_with_their_headers,
    a_long_packet_is_spread_over_merged_buffers,
    without_merging_a_packet_needs_one_chain,
    what_the_guest_cannot_do_is_done_for_it,
    too_long_frames_are_counted,
    headers_that_were_not_negotiated_are_refused,
}

const PLAIN: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

fn receive(ring: &mut Ring) -> Vec<OwnedPacket> {
    let mut batch = Batch::new();
    ring.dequeue(&mut batch);
    let got = (0..batch.len()).map(|i| batch.to_owned(i)).collect();
    ring.give_back();
    got
}

fn send(ring: &mut Ring, packets: &[OwnedPacket]) -> TxOutcome {
    let mut batch = Batch::new();
    for packet in packets {
        // SAFETY: `packets` outlives the batch.
        assert!(unsafe { batch.push_borrowed(packet) });
    }
    let which: Vec<u8> = (0..packets.len() as u8).collect();
    let mut out = TxOutcome::default();
    ring.enqueue(&batch, &which, 1522, &mut out);
    out
}

/// What was taken together is given back together; used buffers are all told, whoever is told.
fn one_element_may_speak_for_a_batch(new: New) {
    let mut driver = new(8, 1 << 16).unwrap();
    let mut ring = driver.start(MODERN);
    for round in 0..50usize {
        let n = round % 5 + 1;
        let mut heads = Vec::new();
        for k in 0..n {
            let at = driver.room(72);
            driver.write(at, &[0; 72]);
            heads.push(if k == 3 {
                driver.offer(&[(at, 20), (at + 20, 52)], 0)
            } else {
                driver.offer(&[(at, 72)], 0)
            });
        }
        assert_eq!(receive(&mut ring).len(), n);
        let used: Vec<u16> = driver
            .collect()
            .iter()
            .map(|(head, _)| *head as u16)
            .collect();
        assert_eq!(used, heads, "round {round}");
    }
}

fn frames_of_every_length_come_in_whole(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(MODERN);
    for len in (14..400).chain([1514, 9000, 65535]) {
        let want = frame(len, len as u8);
        let head = driver.offer_frame(&PLAIN, &want);
        let got = receive(&mut ring);
        assert_eq!(got.len(), 1, "length {len}");
        assert_eq!(got[0].bytes, want);
        assert_eq!(driver.collect(), [(head.into(), 0)]);
    }
}

fn a_full_queue_comes_in_batches_and_the_index_wraps(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(MODERN);
    for round in 0..1100u32 {
        for i in 0..60 {
            driver.offer_frame(&PLAIN, &frame(60, i));
        }
        let mut seen = receive(&mut ring);
        assert_eq!(seen.len(), BATCH);
        seen.extend(receive(&mut ring));
        assert_eq!(seen.len(), 60);
        for (i, packet) in seen.iter().enumerate() {
            assert_eq!(packet.bytes, frame(60, i as u8), "round {round}");
        }
        assert_eq!(driver.collect().len(), 60);
        assert!(receive(&mut ring).is_empty());
    }
}

fn chains_and_indirect_tables_and_divided_memory_are_put_together(new: New) {
    let mut driver = new(64, 16 * 4096).unwrap().divided(2 * 4096);
    let mut ring = driver.start(MODERN);
    let want = frame(3000, 1);
    // Across the boundary of the two regions, header cut in two, frame in four.
    let at = 2 * 4096 - 1000;
    driver.write(at, &PLAIN);
    driver.write(at + 12, &want);
    let pieces = [
        (at, 5),
        (at + 5, 30),
        (at + 35, 1000),
        (at + 1035, 1900),
        (at + 2935, 77),
    ];
    driver.offer(&pieces, 0);
    driver.offer_indirect(&pieces, 0);
    driver.offer(&[(at, 3012)], 0);
    let got = receive(&mut ring);
    assert_eq!(got.len(), 3);
    for packet in got {
        assert_eq!(packet.bytes, want);
    }
    assert_eq!(driver.collect().len(), 3);
}

fn legacy_headers_have_ten_bytes(new: New) {
    let mut driver = new(16, 1 << 16).unwrap();
    let mut ring = driver.start(0);
    driver.offer_frame(&PLAIN[..10], &frame(64, 3));
    assert_eq!(receive(&mut ring)[0].bytes, frame(64, 3));
    let mut rx = driver.sibling(0x8000, 0xa000).unwrap();
    let mut out_ring = rx.start(0);
    let at = rx.offer_buffer(200);
    assert_eq!(
        send(&mut out_ring, &[OwnedPacket::new(frame(64, 4))]).packets,
        1
    );
    assert_eq!(rx.collect(), [(0, 74)]);
    assert_eq!(rx.read(at + 10, 64), frame(64, 4));
}

fn packets_go_out_with_their_headers(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(MODERN | OFFLOADS);
    let mut tso = OwnedPacket::new(frame(1000, 5));
    tso.offload = Offload {
        checksum: Checksum::Needed {
            start: 34,
            offset: 16,
        },
        gso: Gso {
            kind: GsoKind::Tcp4,
            ecn: false,
            size: 500,
            header_len: 54,
        },
    };
    let (a, b) = (driver.offer_buffer(2048), driver.offer_buffer(2048));
    let out = send(
        &mut ring,
        &[
            OwnedPacket::new(frame(60, 6)),
            tso,
            OwnedPacket::new(frame(60, 7)),
        ],
    );
    assert_eq!((out.packets, out.bytes, out.full), (2, 1060, 1));
    assert_eq!(driver.collect(), [(0, 72), (1, 1012)]);
    assert_eq!(driver.read(a, 12), PLAIN);
    assert_eq!(driver.read(a + 12, 60), frame(60, 6));
    assert_eq!(
        driver.read(b, 12),
        [1, 1, 54, 0, 0xf4, 1, 34, 0, 16, 0, 1, 0]
    );
    assert_eq!(driver.read(b + 12, 1000), frame(1000, 5));
}

fn a_long_packet_is_spread_over_merged_buffers(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(MODERN);
    let big = OwnedPacket::new(frame(1400, 1));
    let places: Vec<u64> = (0..4).map(|_| driver.offer_buffer(512)).collect();
    assert_eq!(send(&mut ring, std::slice::from_ref(&big)).packets, 1);
    let used = driver.collect();
    assert_eq!(used, [(0, 512), (1, 512), (2, 388)]);
    let mut got = Vec::new();
    for (place, (_, len)) in places.iter().zip(used) {
        got.extend(driver.read(*place, len as usize));
    }
    assert_eq!(got[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    assert_eq!(got[12..], big.bytes);
    // One buffer is left: not enough, so nothing is used; a small packet still fits.
    let out = send(&mut ring, &[big, OwnedPacket::new(frame(60, 2))]);
    assert_eq!((out.full, out.packets), (1, 1));
    assert_eq!(driver.collect(), [(3, 72)]);
    assert_eq!(driver.read(places[3], 12), PLAIN);
}

fn without_merging_a_packet_needs_one_chain(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(feature::VERSION_1);
    driver.offer_buffer(512);
    let out = send(&mut ring, &[OwnedPacket::new(frame(1400, 1))]);
    assert_eq!((out.too_long, out.packets), (1, 0));
    assert_eq!(driver.collect(), []);
    let pieces = [
        (driver.room(5), 5),
        (driver.room(700), 700),
        (driver.room(800), 800),
    ];
    assert_eq!(
        send(&mut ring, &[OwnedPacket::new(frame(60, 1))]).packets,
        1
    );
    driver.offer(&pieces, WRITE);
    assert_eq!(
        send(&mut ring, &[OwnedPacket::new(frame(1400, 9))]).packets,
        1
    );
    assert_eq!(driver.collect(), [(0, 72), (1, 1412)]);
    let mut got = driver.read(pieces[0].0, 5);
    got.extend(driver.read(pieces[1].0, 700));
    got.extend(driver.read(pieces[2].0, 707));
    assert_eq!(got[..12], PLAIN);
    assert_eq!(got[12..], frame(1400, 9));
}

fn what_the_guest_cannot_do_is_done_for_it(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(MODERN);
    let mut bytes = frame(54 + 2500, 0);
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14] = 0x45;
    bytes[23] = 6;
    bytes[46] = 0x50;
    let mut tso = OwnedPacket::new(bytes);
    tso.offload = Offload {
        checksum: Checksum::Needed {
            start: 34,
            offset: 16,
        },
        gso: Gso {
            kind: GsoKind::Tcp4,
            ecn: false,
            size: 1000,
            header_len: 54,
        },
    };
    let places: Vec<u64> = (0..3).map(|_| driver.offer_buffer(2048)).collect();
    let out = send(&mut ring, std::slice::from_ref(&tso));
    assert_eq!((out.packets, out.error), (3, 0));
    assert_eq!(driver.collect(), [(0, 1066), (1, 1066), (2, 566)]);
    assert_eq!(driver.read(places[1], 12), PLAIN);
    assert_eq!(driver.read(places[1] + 66, 1000), tso.bytes[1054..2054]);
}

fn too_long_frames_are_counted(new: New) {
    let mut driver = new(64, 1 << 20).unwrap();
    let mut ring = driver.start(MODERN);
    driver.offer_buffer(4096);
    let out = send(
        &mut ring,
        &[
            OwnedPacket::new(frame(1523, 1)),
            OwnedPacket::new(frame(1522, 1)),
        ],
    );
    assert_eq!((out.too_long, out.packets), (1, 1));
}

fn headers_that_were_not_negotiated_are_refused(new: New) {
    let mut driver = new(16, 1 << 16).unwrap();
    let tso = [1, 1, 54, 0, 0, 2, 34, 0, 16, 0, 0, 0];
    for (features, good) in [
        (0, 0),
        (feature::CSUM, 0),
        (feature::CSUM | feature::HOST_TSO4, 1),
    ] {
        driver.next_queue();
        let mut ring = driver.start(MODERN | features);
        driver.offer_frame(&tso, &frame(1000, 0));
        assert_eq!(receive(&mut ring).len(), good, "features {features:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Packets of any sizes into buffers of any shapes arrive as they were sent, in order.
    #[test]
    fn packets_arrive_whole_in_any_buffers(
        lengths in proptest::collection::vec(14usize..1500, 1..20),
        buffers in proptest::collection::vec(proptest::collection::vec(1u32..900, 1..4), 1..40),
        indirect: bool,
        packed: bool,
    ) {
        let new: New = if packed { Driver::packed } else { Driver::new };
        let mut driver = new(128, 1 << 20).unwrap();
        let mut ring = driver.start(MODERN);
        let mut places = Vec::new();
        for buffer in &buffers {
            let pieces: Vec<(u64, u32)> = buffer.iter().map(|n| (driver.room(*n as usize), *n)).collect();
            let head = if indirect { driver.offer_indirect(&pieces, WRITE) } else { driver.offer(&pieces, WRITE) };
            places.push((u32::from(head), pieces));
        }
        let packets: Vec<OwnedPacket> =
            lengths.iter().enumerate().map(|(i, n)| OwnedPacket::new(frame(*n, i as u8))).collect();
        let out = send(&mut ring, &packets);
        prop_assert_eq!(out.packets + out.full, packets.len() as u32);
        let mut used = driver.collect().into_iter();
        let mut arrived = Vec::new();
        let mut next = 0;
        while let Some(first) = used.next() {
            let mut bytes = Vec::new();
            let mut element = first;
            let mut count = 0u16;
            loop {
                let (head, pieces) = &places[next];
                next += 1;
                prop_assert_eq!(*head, element.0);
                let mut left = element.1 as usize;
                for (at, n) in pieces {
                    let n = left.min(*n as usize);
                    bytes.extend(driver.read(*at, n));
                    left -= n;
                }
                prop_assert_eq!(left, 0);
                count += 1;
                let wanted = if bytes.len() >= 12 { u16::from_le_bytes([bytes[10], bytes[11]]) } else { u16::MAX };
                if count >= wanted {
                    break;
                }
                element = used.next().unwrap();
            }
            arrived.push(bytes.split_off(12));
        }
        let mut sent = packets.iter();
        for bytes in &arrived {
            prop_assert!(sent.any(|p| p.bytes == *bytes));
        }
        prop_assert_eq!(arrived.len() as u32, out.packets);
    }

    #[test]
    fn hostile_memory_harms_nobody(data in proptest::collection::vec(any::<u8>(), 16..700)) {
        fuzz_ring(&data);
    }
}

#[test]
fn interrupts_for_buffers_given_back_are_put_off_until_nothing_more_comes() {
    for features in [MODERN, MODERN | feature::RING_PACKED] {
        let mut driver = match features & feature::RING_PACKED {
            0 => Driver::new(512, 1 << 22).unwrap(),
            _ => Driver::packed(512, 1 << 22).unwrap(),
        };
        let call = crate::sys::event::EventFd::new().unwrap();
        let mut ring = Ring::start(
            driver.memory(),
            &driver.layout(),
            features,
            Some(call.try_clone().unwrap()),
            Default::default(),
        )
        .unwrap();
        for _ in 0..4 {
            driver.offer_frame(&PLAIN, &frame(60, 0));
            receive(&mut ring);
        }
        assert!(call.clear(), "a quarter of the ring");
        driver.offer_frame(&PLAIN, &frame(60, 0));
        receive(&mut ring);
        assert!(!call.clear());
        ring.settle();
        assert!(call.clear());
        ring.settle();
        assert!(!call.clear());
    }
}
