//! A hostile guest for fuzzing: bytes choose the layout of its ring and what it does with it and with its memory.
//!
//! Bytes alone seldom make a chain of descriptors that leads anywhere, so most of what they choose are the
//! [driver](super::testing)'s own operations (offer a frame, a chain, an indirect table) with lengths, flags and places from the
//! input, between them raw writes anywhere into the memory.

use super::testing::{Driver, GUEST_BASE};
use super::{Layout, Ring, feature};
use crate::packet::{Batch, Checksum, Gso, GsoKind, Offload, OwnedPacket};
use crate::port::TxOutcome;
use std::sync::Arc;

/// Entries of the ring.
const SIZE: u16 = 16;
/// Bytes of memory: large packets cross its end.
const MEMORY: u64 = 24 * 4096;
/// Steps at most, so that no input takes long.
const STEPS: usize = 96;

/// Reads choices; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((b, rest)) => {
                self.0 = rest;
                *b
            }
            None => 0,
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(n.min(self.0.len()));
        self.0 = later;
        now
    }

    /// A header of virtio-net: all zeros, a valid one for TSO, or any bytes.
    fn header(&mut self) -> [u8; 12] {
        let mut h = [0; 12];
        match self.u8() % 4 {
            0 => {}
            1 => h = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 1, 0],
            2 => h = [1, 4, 74, 0, 0xb4, 5, 54, 0, 16, 0, 1, 0],
            _ => {
                let raw = self.take(12);
                h[..raw.len()].copy_from_slice(raw);
            }
        }
        h
    }

    /// A frame: headers of a kind, some bytes of the input over them, and as long as the input says.
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = match self.u8() % 4 {
            0 => Vec::new(),
            1 => tcp4(),
            2 => tcp6(),
            _ => {
                let mut tagged = tcp4();
                tagged.splice(12..12, [0x81, 0, 0, 5]);
                tagged
            }
        };
        let at = usize::from(self.u8());
        let n = usize::from(self.u8() % 32);
        let over = self.take(n);
        if frame.len() < at + over.len() {
            frame.resize(at + over.len(), 0);
        }
        frame[at..at + over.len()].copy_from_slice(over);
        let long = self.u8();
        let len = usize::from(long) * if long & 1 == 0 { 1 } else { 257 };
        frame.resize(len.max(1), 0x5a);
        frame
    }

    fn packet(&mut self) -> OwnedPacket {
        let bytes = self.frame();
        let header = self.header();
        let offload = header
            .first_chunk()
            .and_then(|h| Offload::from_vnet(h, bytes.len()).ok())
            .unwrap_or_default();
        OwnedPacket { bytes, offload }
    }

    /// A place and a length, nearly always inside.
    fn piece(&mut self, driver: &mut Driver) -> (u64, u32) {
        let len = match self.u8() {
            long @ 0xf8.. => u32::from(self.u16()) << (long & 7),
            n => u32::from(n) * 8,
        };
        let at = match self.u8() {
            0xff => u64::from(self.u16()) << 48 | MEMORY,
            0xfe => MEMORY - u64::from(self.u8()),
            n @ 0xf0.. => u64::from(n) * 97,
            _ => driver.room(len.min(1 << 15) as usize),
        };
        (at, len)
    }
}

fn tcp4() -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    f.extend([
        0x45, 0, 0x0b, 0xb0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    f.extend([
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x98, 1, 0, 0, 0, 0, 0,
    ]);
    f
}

fn tcp6() -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    f.extend([0x60, 0, 0, 0, 0x0b, 0x90, 6, 64]);
    f.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    f.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    f.extend([
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x98, 1, 0, 0, 0, 0, 0,
    ]);
    f
}

/// Packets to send: short, long, and large ones of which segments are to be made.
fn packets() -> Vec<OwnedPacket> {
    let large = |mut bytes: Vec<u8>, kind, start| {
        bytes.resize(3000, 7);
        OwnedPacket {
            bytes,
            offload: Offload {
                checksum: Checksum::Needed { start, offset: 16 },
                gso: Gso {
                    kind,
                    ecn: true,
                    size: 1400,
                    header_len: start + 20,
                },
            },
        }
    };
    vec![
        OwnedPacket::new(vec![1; 60]),
        OwnedPacket::new(vec![2; 3000]),
        large(tcp4(), GsoKind::Tcp4, 34),
        large(tcp6(), GsoKind::Tcp6, 54),
    ]
}

fn features(choice: u8) -> u64 {
    let known = [
        feature::VERSION_1,
        feature::MRG_RXBUF,
        feature::EVENT_IDX,
        feature::INDIRECT_DESC,
        feature::CSUM | feature::HOST_TSO4 | feature::HOST_TSO6 | feature::HOST_ECN,
        feature::GUEST_CSUM,
        feature::GUEST_TSO4 | feature::GUEST_TSO6 | feature::GUEST_ECN,
        feature::NOTIFY_ON_EMPTY,
    ];
    (known.into_iter().enumerate())
        .filter(|(bit, _)| choice & 1 << bit != 0)
        .fold(0, |all, (_, f)| all | f)
}

/// Lets `data` be a hostile guest: its first bytes choose features and the shape of the memory, the rest what is done. Panics
/// or faults are bugs; so is a queue that returns more than it was given, or tells less than everything of what it sends.
pub fn fuzz_ring(data: &[u8]) {
    let mut choices = Choices(data);
    let features = features(choices.u8());
    let shape = choices.u8();
    let packed = shape & 2 != 0;
    // A packed ring can have any size.
    let size = if packed && shape & 4 != 0 { 13 } else { SIZE };
    let made = if packed {
        Driver::packed(size, MEMORY)
    } else {
        Driver::new(size, MEMORY)
    };
    let Ok(mut driver) = made else {
        return;
    };
    if shape & 8 != 0 {
        driver = driver.in_order();
    }
    let features = features | driver.layout_features();
    if shape & 1 != 0 {
        driver = driver.divided(4096);
    }
    let memory = driver.memory();
    let start = |layout: &Layout| {
        let memory = memory.clone();
        Ring::start(memory, layout, features, None, Arc::default()).expect("a valid queue")
    };
    let mut ring = start(&driver.layout());
    let mut batch = Batch::new();
    let packets = packets();
    let mut source = Batch::new();
    for packet in &packets {
        // SAFETY: `packets` outlives `source`.
        assert!(unsafe { source.push_borrowed(packet) });
    }
    let header = if features & (feature::VERSION_1 | feature::MRG_RXBUF) != 0 {
        12
    } else {
        10
    };
    // What a well-behaved guest was given back is no more than it offered.
    let (mut honest, mut offered, mut returned) = (true, 0, 0);
    // The guest can read its memory as long as nobody cut it short.
    let mut whole = true;
    for _ in 0..STEPS {
        if choices.0.is_empty() {
            break;
        }
        match choices.u8() % 18 {
            0 | 1 => {
                let n = ring.dequeue(&mut batch);
                assert_eq!(n, batch.len());
                for i in 0..batch.len() {
                    assert_eq!(batch.to_owned(i).bytes.len(), batch.packet(i).len());
                }
                ring.give_back();
                batch.clear();
            }
            2 => {
                let mut out = TxOutcome::default();
                let which = [choices.u8() % 4, choices.u8() % 4, choices.u8() % 4];
                let max = [60, 1518, 9018, 70_000][usize::from(choices.u8() % 4)];
                ring.enqueue(&source, &which, max, &mut out);
                // A packet that is cut counts once a segment.
                assert!(out.packets + out.full + out.too_long + out.down + out.error >= 3);
                ring.notify();
            }
            3 => {
                let packet = choices.packet();
                let mut out = TxOutcome::default();
                ring.enqueue_owned(&packet, 1518, &mut out);
                assert!(out.packets + out.full + out.too_long + out.down + out.error >= 1);
            }
            4 => {
                // What one guest sends another receives as it is: the same packet, borrowed.
                let packet = choices.packet();
                let mut one = Batch::new();
                // SAFETY: `packet` outlives `one`.
                if unsafe { one.push_borrowed(&packet) } {
                    let mut out = TxOutcome::default();
                    ring.enqueue(&one, &[0], 70_000, &mut out);
                }
            }
            5 => {
                ring.arm();
                ring.notify();
                ring.disarm();
            }
            6 => {
                // The guest changes memory while the ring runs.
                honest = false;
                let (at, n) = (choices.u16(), choices.u8() % 32);
                // Nearly always the ring itself.
                let at = u64::from(at) % if at & 0x8000 == 0 { 512 } else { MEMORY };
                driver.write(at, choices.take(n.into()));
            }
            7 => {
                honest = false;
                let jump = u16::from(choices.u8());
                if packed {
                    // Whatever lies there is available, or used, or in another lap.
                    let flags = u16::from(choices.u8()).rotate_right(1);
                    let at = 16 * u64::from(jump % size) + 14;
                    driver.write(at, &flags.to_le_bytes());
                } else {
                    driver.set_available_index(jump);
                }
            }
            8 | 9 => {
                let (h, frame) = (choices.header(), choices.frame());
                driver.offer_frame(&h[..header], &frame);
                offered += 1;
            }
            10 => {
                for _ in 0..=choices.u8() % 8 {
                    let (at, len) = choices.piece(&mut driver);
                    driver.offer(&[(at, len)], super::testing::WRITE);
                    offered += 1;
                }
            }
            11 => {
                let n = choices.u8();
                let pieces: Vec<_> = (0..=n % 7).map(|_| choices.piece(&mut driver)).collect();
                driver.offer(&pieces, u16::from(n >> 4 & 3) << 1);
                offered += 1;
            }
            12 => {
                let n = choices.u8();
                let pieces: Vec<_> = (0..=n % 20).map(|_| choices.piece(&mut driver)).collect();
                driver.offer_indirect(&pieces, u16::from(n >> 6) << 1);
                offered += 1;
            }
            13 if whole => {
                let new = driver.collect();
                // One used element may speak for all that was offered.
                assert!(new.len() <= usize::from(size).max(offered));
                if honest {
                    returned += new.len();
                    assert!(
                        new.iter().all(|(head, _)| *head < u32::from(size)),
                        "returned what was not given: {new:?}"
                    );
                    assert!(returned <= offered, "{returned} of {offered} returned");
                }
            }
            14 => {
                driver.set_available_flags(choices.u8().into());
                driver.set_used_event(choices.u8().into());
            }
            15 => {
                honest = false;
                let (i, to) = (choices.u8(), choices.u8());
                let addr = GUEST_BASE + u64::from(choices.u16());
                let len = u32::from(choices.u16());
                let flags = choices.u8();
                driver.set_descriptor(
                    0,
                    u16::from(i) % size,
                    addr,
                    len,
                    u16::from(flags & 7)
                        | u16::from(flags >> 3 & 1) << 7
                        | u16::from(flags) >> 4 << 15,
                    u16::from(to) % 18,
                );
            }
            16 => {
                // The switch comes back, told where it was or only where it began.
                let mut layout = driver.layout();
                if choices.u8() == 0xee {
                    honest = false;
                } else {
                    layout.base = ring.base();
                }
                ring = start(&layout);
            }
            _ => {
                // Once in a while a monitor cuts its memory short.
                if choices.u8() == 0xee {
                    (honest, whole) = (false, false);
                    let _ = driver.file().set_len(u64::from(choices.u8() % 24) * 4096);
                }
            }
        }
    }
}
