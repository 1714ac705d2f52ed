//! Where packets lie that wait: buffers that are used again.

use super::Onward;
use crate::packet::{Offload, OwnedPacket, PACKET_MAX};

/// Buffers for packets up to this length are made this long, the others as long as a packet can be.
const SMALL: usize = 2048;
/// Buffers that are kept while nobody needs them.
const SPARE_SMALL: usize = 1024;
const SPARE_LARGE: usize = 64;

/// Packets by number.
#[derive(Default)]
pub(super) struct Store {
    slots: Vec<OwnedPacket>,
    /// What is left to do with each, as long as `slots`.
    onward: Vec<Option<Onward>>,
    /// Numbers without a packet: with a small buffer, with a large one, with none.
    small: Vec<u32>,
    large: Vec<u32>,
    bare: Vec<u32>,
    bytes: usize,
}

impl Store {
    /// Bytes of all packets.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A number, with room for so many bytes to be written.
    pub fn take(
        &mut self,
        len: usize,
        offload: Offload,
        onward: Option<Onward>,
    ) -> (u32, &mut [u8]) {
        let (spare, capacity) = match len {
            0..=SMALL => (&mut self.small, SMALL),
            _ => (&mut self.large, PACKET_MAX.max(len)),
        };
        let slot = spare.pop().or_else(|| self.bare.pop());
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(OwnedPacket::default());
            self.onward.push(None);
            self.slots.len() as u32 - 1
        });
        let p = &mut self.slots[slot as usize];
        p.bytes
            .reserve_exact(capacity.saturating_sub(p.bytes.len()));
        p.bytes.resize(len, 0);
        p.offload = offload;
        self.onward[slot as usize] = onward;
        self.bytes += len;
        (slot, &mut p.bytes)
    }

    /// A packet.
    pub fn get(&self, slot: u32) -> &OwnedPacket {
        &self.slots[slot as usize]
    }

    /// What is left to do with a packet; nothing if it simply leaves by the port.
    pub fn onward(&self, slot: u32) -> Option<&Onward> {
        self.onward[slot as usize].as_ref()
    }

    /// A packet's bytes, to change them.
    pub fn bytes_mut(&mut self, slot: u32) -> &mut [u8] {
        &mut self.slots[slot as usize].bytes
    }

    /// A packet is done with.
    pub fn free(&mut self, slot: u32) {
        let p = &mut self.slots[slot as usize];
        self.onward[slot as usize] = None;
        self.bytes -= p.bytes.len();
        p.bytes.clear();
        let (spare, most) = match p.bytes.capacity() {
            0..=SMALL => (&mut self.small, SPARE_SMALL),
            _ => (&mut self.large, SPARE_LARGE),
        };
        if spare.len() < most {
            spare.push(slot);
        } else {
            p.bytes = Vec::new();
            self.bare.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_spare_ones_are_bounded() {
        let mut store = Store::default();
        for round in 0..3 {
            let mut slots = Vec::new();
            for n in 0..3000usize {
                let len = if n % 10 == 0 { 60_000 } else { 1514 };
                let (slot, bytes) = store.take(len, Offload::default(), None);
                bytes.fill(n as u8);
                slots.push((slot, len, n as u8));
            }
            assert_eq!(store.slots.len(), 3000, "round {round}");
            for (slot, len, n) in slots {
                let p = store.get(slot);
                assert_eq!(p.bytes.len(), len);
                assert!(p.bytes.iter().all(|b| *b == n));
                store.free(slot);
            }
            assert_eq!(store.bytes(), 0);
            let kept: usize = store.slots.iter().map(|p| p.bytes.capacity()).sum();
            assert!(kept <= SPARE_SMALL * SMALL + SPARE_LARGE * PACKET_MAX);
        }
    }
}
