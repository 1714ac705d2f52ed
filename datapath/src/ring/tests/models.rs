//! Small rings, exhaustively: every index, every combination of flags, around every wrap, against naive models.

use std::sync::Arc;

use super::split::{MODEL_MEMORY, model};
use super::*;
use crate::memory::GuestMemory;
use crate::ring::{Layout, RingError};

/// Where the buffers lie.
const DATA: u64 = 8192;
/// Bytes of a buffer: a header and a frame's beginning, so that one alone is a packet.
const BUFFER: u32 = 40;
/// An indirect table with one good entry.
const TABLE: u64 = 4096;

fn start(memory: &Arc<GuestMemory>, layout: &Layout, features: u64) -> Ring {
    Ring::start(memory.clone(), layout, features, None, Default::default()).unwrap()
}

fn bytes(ring: &mut Ring, batch: &mut Batch) -> Vec<Vec<u8>> {
    batch.clear();
    ring.dequeue(batch);
    let got = (0..batch.len()).map(|i| batch.to_owned(i).bytes).collect();
    ring.give_back();
    got
}

/// Buffer `i` says which it is.
fn fill(driver: &Driver, size: u16) {
    for i in 0..=size {
        let at = DATA + u64::from(i) * 64;
        driver.write(at, &PLAIN);
        driver.write(at + 12, &frame(BUFFER as usize - 12, i as u8));
    }
    let address = GUEST_BASE + DATA + 64 * u64::from(size);
    driver.set_descriptor(TABLE, 0, address, BUFFER, 0, 0);
}

/// Address and length of entry `i` with these flags.
fn place(i: u16, flags: u16) -> (u64, u32) {
    if flags & INDIRECT != 0 {
        (GUEST_BASE + TABLE, 16)
    } else {
        (GUEST_BASE + DATA + 64 * u64::from(i), BUFFER)
    }
}

#[test]
fn every_available_index_is_a_number_of_chains_or_an_end() {
    let mut batch = Batch::new();
    for size in [1u16, 2, 4] {
        let mut driver = Driver::new(size, MODEL_MEMORY).unwrap();
        fill(&driver, size);
        for i in 0..size {
            let (addr, len) = place(i, 0);
            driver.set_descriptor(0, i, addr, len, 0, 0);
            driver.make_available(i);
        }
        let memory = driver.memory();
        let used_index = driver.layout().used - USER_BASE + 2;
        let near = |v: u16| v.wrapping_add(8) < 16;
        for base in [0, 1, 2, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff] {
            // All values from one base, those around it from the others.
            for index in (0..=u16::MAX).filter(|i| base == 0xfffe || near(i.wrapping_sub(base))) {
                driver.write(used_index, &base.to_le_bytes());
                let layout = Layout {
                    base,
                    ..driver.layout()
                };
                let mut ring = start(&memory, &layout, MODERN);
                driver.set_available_index(index);
                let n = index.wrapping_sub(base);
                let got = bytes(&mut ring, &mut batch);
                let used = driver.read(used_index, 2);
                let used = u16::from_le_bytes([used[0], used[1]]);
                if n > size {
                    let jump = RingError::IndexJump {
                        from: base,
                        to: index,
                        size,
                    };
                    assert_eq!(ring.error(), Some(&jump));
                    assert_eq!((got.len(), used), (0, base));
                } else {
                    let want: Vec<_> = (0..n)
                        .map(|k| frame(28, (base.wrapping_add(k) % size) as u8))
                        .collect();
                    assert_eq!(got, want, "size {size}, from {base} to {index}");
                    assert_eq!((ring.error(), used, ring.base()), (None, index, index));
                }
            }
        }
    }
}

#[test]
fn every_combination_of_flags_in_a_split_table_means_what_the_model_says() {
    let mut batch = Batch::new();
    for size in [1u16, 2, 4] {
        let mut driver = Driver::new(size, MODEL_MEMORY).unwrap();
        fill(&driver, size);
        let memory = driver.memory();
        // Where an entry leads: on, to itself, or beyond the table.
        let leads: u32 = if size == 4 { 2 } else { 3 };
        let choices = 8 * leads;
        for mut n in 0..choices.pow(size.into()) {
            driver.next_queue();
            for i in 0..size {
                let (flags, lead) = ((n % 8) as u16, n / 8 % leads);
                n /= choices;
                let (addr, len) = place(i, flags);
                let next = [(i + 1) % size, i, size][lead as usize];
                driver.set_descriptor(0, i, addr, len, flags, next);
            }
            driver.make_available(0);
            let mut ring = start(&memory, &driver.layout(), MODERN);
            let want: Vec<_> = model(&driver, 0, size).into_iter().collect();
            assert_eq!(bytes(&mut ring, &mut batch), want);
            assert_eq!(driver.collect(), [(0, 0)]);
            assert_eq!(ring.error(), None);
        }
    }
}

/// What a packed ring holds from a place on, by the simplest reading of the specification: packets, and the
/// ring as it is when all are given back; `None` behind a chain without end.
fn packed_model(ring: &[[u8; 16]], base: u16) -> (Vec<Vec<u8>>, Option<Vec<[u8; 16]>>) {
    let size = ring.len();
    let word = |e: &[u8; 16], at: usize| u16::from_le_bytes([e[at], e[at + 1]]);
    let (mut i, mut wrap) = (usize::from(base & 0x7fff), base & 0x8000 != 0);
    let (mut packets, mut after, mut seen) = (Vec::new(), ring.to_vec(), 0);
    while seen < size {
        let flags = word(&ring[i], 14);
        if (flags & AVAIL != 0) != wrap || (flags & USED != 0) == wrap {
            break;
        }
        let mut bytes = Some(Vec::new());
        let mut slots = 0;
        let id = loop {
            let entry = &ring[(i + slots) % size];
            let flags = word(entry, 14);
            slots += 1;
            if seen + slots > size {
                return (packets, None);
            }
            if flags & INDIRECT != 0 && flags & NEXT != 0 || flags & (INDIRECT | WRITE) == WRITE {
                bytes = None;
            }
            // Buffers say which they are: by their place, and the table's by the number behind all.
            let which = if flags & INDIRECT != 0 {
                size
            } else {
                (i + slots - 1) % size
            };
            if let Some(bytes) = &mut bytes {
                bytes.extend(PLAIN);
                bytes.extend(frame(BUFFER as usize - 12, which as u8));
            }
            if flags & NEXT == 0 {
                break word(entry, 12);
            }
        };
        packets.extend(bytes.map(|mut b| b.split_off(12)));
        let used = if wrap { AVAIL | USED } else { 0 };
        after[i][8..12].fill(0);
        after[i][12..14].copy_from_slice(&id.to_le_bytes());
        after[i][14..].copy_from_slice(&used.to_le_bytes());
        seen += slots;
        i += slots;
        if i >= size {
            (i, wrap) = (i - size, !wrap);
        }
    }
    (packets, Some(after))
}

#[test]
fn every_combination_of_flags_in_a_packed_ring_means_what_the_model_says() {
    let mut batch = Batch::new();
    let few = [0, NEXT, WRITE, INDIRECT];
    let all = [
        0,
        NEXT,
        WRITE,
        NEXT | WRITE,
        INDIRECT,
        NEXT | INDIRECT,
        INDIRECT | WRITE,
        7,
    ];
    let turns = [AVAIL, USED, AVAIL | USED, 0];
    for size in [1u16, 2, 3, 4] {
        let driver = Driver::packed(size, MODEL_MEMORY).unwrap();
        fill(&driver, size);
        let memory = driver.memory();
        let (kinds, turns): (&[u16], &[u16]) = match size {
            4 => (&few[..3], &turns),
            3 => (&few, &turns),
            _ => (&all, &turns),
        };
        let choices = (kinds.len() * turns.len()) as u32;
        for n in 0..choices.pow(size.into()) {
            let mut ring = Vec::new();
            let mut left = n as usize;
            for i in 0..size {
                let flags = kinds[left % kinds.len()];
                let turn = turns[left / kinds.len() % turns.len()];
                left /= choices as usize;
                let (addr, len) = place(i, flags);
                let mut entry = [0; 16];
                entry[..8].copy_from_slice(&addr.to_le_bytes());
                entry[8..12].copy_from_slice(&len.to_le_bytes());
                // Not the entry's place, so that the two are not mixed up.
                entry[12..14].copy_from_slice(&(100 + i).to_le_bytes());
                entry[14..].copy_from_slice(&(flags | turn).to_le_bytes());
                ring.push(entry);
            }
            // Every place in rings of up to two; in larger ones the places take turns.
            let places: Vec<u32> = if size < 3 {
                (0..2 * u32::from(size)).collect()
            } else {
                vec![n % (2 * u32::from(size))]
            };
            for place in places {
                let base = (place / 2) as u16 | if place % 2 == 0 { 0x8000 } else { 0 };
                let flags = u16::from_le_bytes([
                    ring[place as usize / 2][14],
                    ring[place as usize / 2][15],
                ]);
                if (flags & AVAIL != 0) == (flags & USED != 0)
                    && (flags & AVAIL != 0) == (base & 0x8000 != 0)
                {
                    // Used already: a stale base, which is put right; see the test of that.
                    continue;
                }
                driver.write(0, ring.as_flattened());
                let layout = Layout {
                    base,
                    ..driver.layout()
                };
                let mut device = start(&memory, &layout, MODERN | feature::RING_PACKED);
                let (packets, after) = packed_model(&ring, base);
                let mut got = bytes(&mut device, &mut batch);
                if after.is_some() {
                    assert_eq!(device.error(), None, "{ring:x?} from {base:x}");
                } else {
                    assert!(matches!(device.error(), Some(RingError::Endless(..))));
                }
                if let Some(after) = after {
                    let written = driver.read(0, 16 * usize::from(size));
                    assert_eq!(written, after.as_flattened(), "{ring:x?} from {base:x}");
                }
                got.truncate(packets.len());
                assert_eq!(got, packets, "{ring:x?} from {base:x}");
            }
        }
    }
}
