//! A queue's two directions, by layout and by length of the frames: what a batch costs on our side when its memory is at hand.
//!
//! The driver is played by this thread between the samples, so that nothing here shows what it costs to fetch lines from
//! another processor's cache: the guest-to-guest scenarios do.

use super::Harness;
use datapath::packet::{BATCH, Batch};
use datapath::port::TxOutcome;
use datapath::ring::testing::{Driver, WRITE};
use datapath::ring::{Ring, feature};
use std::hint::black_box;

const FEATURES: u64 = feature::VERSION_1
    | feature::MRG_RXBUF
    | feature::INDIRECT_DESC
    | feature::CSUM
    | feature::GUEST_CSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4;
/// Entries of a queue, and of one whose entries are tables of a large frame's pages.
const SIZE: u16 = 1024;
const LARGE_SIZE: u16 = 64;
/// Bytes of memory behind it: room for all its buffers.
const MEMORY: u64 = 8 << 20;
const SAMPLES: usize = 2000;
/// A frame as long as can be segmented, in bytes, and the pieces it comes in.
const LARGE: usize = 65_226;
const PAGE: usize = 4096;
/// Receive buffers to be merged.
const MERGED: u32 = 2048;
/// Large frames in a batch.
const LARGE_BATCH: u16 = 8;

type New = fn(u16, u64) -> std::io::Result<Driver>;

/// The entries.
pub fn run(h: &mut Harness) {
    let layouts: [(&str, New); 2] = [("split", Driver::new), ("packed", Driver::packed)];
    for (layout, new) in layouts {
        for (size, frame, batch) in [
            ("64", 64, BATCH as u16),
            ("1500", 1500, BATCH as u16),
            ("64k", LARGE, LARGE_BATCH),
        ] {
            dequeue(
                h,
                &format!("rings/dequeue/{layout}/{size}"),
                new,
                frame,
                batch,
            );
            let name = format!("rings/enqueue/{layout}/{size}");
            if frame == LARGE {
                enqueue(h, &format!("{name}-merged"), new, frame, batch, false);
                enqueue(h, &format!("{name}-indirect"), new, frame, batch, true);
            } else {
                enqueue(h, &name, new, frame, batch, false);
            }
        }
    }
    memcpy(h);
}

/// A transmit queue full of frames of this length.
fn transmit(new: New, frame: usize) -> (Driver, Ring) {
    let size = if frame == LARGE { LARGE_SIZE } else { SIZE };
    let mut driver = new(size, MEMORY).expect("memory");
    for _ in 0..size {
        if frame == LARGE {
            // Header and headers in one piece, then pages.
            let first = 12 + 66;
            let mut pieces = vec![(driver.room(first), first as u32)];
            driver.write(pieces[0].0, &[1, 1, 66, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]);
            let mut left = frame - 66;
            while left > 0 {
                let n = left.min(PAGE);
                pieces.push((driver.room(PAGE), n as u32));
                left -= n;
            }
            driver.offer_indirect(&pieces, 0);
        } else {
            driver.offer_frame(&[0; 12], &vec![7; frame]);
        }
    }
    let ring = driver.start(FEATURES);
    (driver, ring)
}

fn dequeue(h: &mut Harness, name: &str, new: New, frame: usize, batch: u16) {
    if !h.wants(name) {
        return;
    }
    let (mut driver, mut ring) = transmit(new, frame);
    let mut packets = Batch::new();
    let mut used = 0;
    let most = usize::from(batch);
    h.bench_prepared(
        name,
        batch.into(),
        SAMPLES,
        || driver.offer_again(std::mem::replace(&mut used, batch)),
        |()| {
            packets.clear();
            while packets.len() < most && ring.dequeue(&mut packets) > 0 {}
            ring.give_back();
        },
    );
    assert_eq!(packets.len(), most, "{:?}", ring.error());
}

fn enqueue(h: &mut Harness, name: &str, new: New, frame: usize, batch: u16, indirect: bool) {
    if !h.wants(name) {
        return;
    }
    let (_sender, mut from) = transmit(new, frame);
    let mut packets = Batch::new();
    from.dequeue(&mut packets);
    assert!(packets.len() >= usize::from(batch), "{:?}", from.error());
    let which: Vec<u8> = (0..batch as u8).collect();

    let size = if indirect { LARGE_SIZE } else { SIZE };
    let mut driver = new(size, MEMORY).expect("memory");
    for _ in 0..size {
        if indirect {
            let pieces: Vec<_> = (0..17).map(|_| (driver.room(PAGE), PAGE as u32)).collect();
            driver.offer_indirect(&pieces, WRITE);
        } else {
            driver.offer_buffer(MERGED);
        }
    }
    let mut ring = driver.start(FEATURES);
    let each = if indirect {
        1
    } else {
        (frame + 12).div_ceil(MERGED as usize) as u16
    };
    let mut used = 0;
    h.bench_prepared(
        name,
        batch.into(),
        SAMPLES,
        || driver.offer_again(std::mem::replace(&mut used, batch * each)),
        |()| {
            let mut out = TxOutcome::default();
            ring.enqueue(&packets, &which, 1522, &mut out);
            assert_eq!(out.packets, u32::from(batch), "{out:?}");
        },
    );
}

/// The limit: one core's plain copying of as much as a large frame, from and to as many places.
fn memcpy(h: &mut Harness) {
    if !h.wants("rings/memcpy/64k") {
        return;
    }
    let pages = LARGE.div_ceil(PAGE);
    let from = vec![7u8; usize::from(LARGE_BATCH) * pages * PAGE];
    let mut to = vec![0u8; usize::from(SIZE) * MERGED as usize];
    let mut at = 0;
    h.bench_prepared(
        "rings/memcpy/64k",
        LARGE_BATCH.into(),
        SAMPLES,
        || (),
        |()| {
            for frame in 0..usize::from(LARGE_BATCH) {
                let mut left = LARGE;
                let mut source = frame * pages * PAGE;
                while left > 0 {
                    let n = left.min(MERGED as usize);
                    black_box(&mut to[at..at + n])
                        .copy_from_slice(black_box(&from[source..source + n]));
                    source += n;
                    left -= n;
                    at = (at + MERGED as usize) % to.len();
                }
            }
        },
    );
}
