//! A split queue that the monitor serves itself: the card's control queue (virtio 1.2 2.7).
//!
//! Not on any packet's way, so written for plainness: one request at a time, copied out.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress};

use super::QueueConfig;
use crate::memory::GuestRam;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Most bytes taken from one request.
const MAX_REQUEST: usize = 4096;

/// The device's side of a split queue.
pub struct SplitQueue {
    ram: GuestRam,
    config: QueueConfig,
    next: u16,
    used: u16,
}

/// One request of the driver: what it says, and where the answer goes.
#[derive(Debug)]
pub struct Request {
    /// The bytes of all descriptors the device may read.
    pub out: Vec<u8>,
    /// First byte the device may write, if any.
    pub answer: Option<u64>,
    head: u16,
}

impl SplitQueue {
    /// A queue at its start; `config` was checked by the transport.
    pub fn new(ram: GuestRam, config: QueueConfig) -> Self {
        SplitQueue {
            ram,
            config,
            next: 0,
            used: 0,
        }
    }

    /// The next request. What is malformed (a chain that never ends, addresses outside memory)
    /// comes out as a request without an answer.
    pub fn pop(&mut self) -> Option<Request> {
        let (mem, q) = (self.ram.mem(), &self.config);
        let published: u16 = mem
            .load(GuestAddress(q.avail + 2), Ordering::Acquire)
            .ok()?;
        if published == self.next {
            return None;
        }
        let slot = u64::from(self.next & (q.size - 1));
        let head: u16 = mem.read_obj(GuestAddress(q.avail + 4 + 2 * slot)).ok()?;
        self.next = self.next.wrapping_add(1);
        let mut request = Request {
            out: Vec::new(),
            answer: None,
            head,
        };
        let mut at = head;
        // A chain has at most as many links as the table has entries (2.7.5.2).
        for _ in 0..q.size {
            if at >= q.size {
                break;
            }
            let entry = GuestAddress(q.desc + 16 * u64::from(at));
            let Ok(desc) = mem.read_obj::<[u8; 16]>(entry) else {
                break;
            };
            let word = |i: usize| u16::from_le_bytes([desc[i], desc[i + 1]]);
            let addr = u64::from_le_bytes(desc[..8].try_into().unwrap_or_default());
            let len = u32::from_le_bytes(desc[8..12].try_into().unwrap_or_default()) as usize;
            let flags = word(12);
            if flags & WRITE != 0 {
                if len > 0 {
                    request.answer.get_or_insert(addr);
                }
            } else {
                let room = MAX_REQUEST - request.out.len();
                let mut part = vec![0; len.min(room)];
                if mem.read_slice(&mut part, GuestAddress(addr)).is_err() {
                    break;
                }
                request.out.extend(part);
            }
            if flags & NEXT == 0 {
                return Some(request);
            }
            at = word(14);
        }
        request.answer = None;
        Some(request)
    }

    /// Gives a request back with one byte as the answer.
    pub fn answer(&mut self, request: &Request, byte: u8) {
        let (mem, q) = (self.ram.mem(), &self.config);
        let written = match request.answer {
            Some(addr) => u32::from(mem.write_obj(byte, GuestAddress(addr)).is_ok()),
            None => 0,
        };
        let slot = u64::from(self.used & (q.size - 1));
        let element = GuestAddress(q.used + 4 + 8 * slot);
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&u32::from(request.head).to_le_bytes());
        bytes[4..].copy_from_slice(&written.to_le_bytes());
        // The transport checked that the rings are in memory.
        let _ = mem.write_obj(bytes, element);
        let next = self.used.wrapping_add(1);
        let _ = mem.store(next, GuestAddress(q.used + 2), Ordering::Release);
        self.used = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (SplitQueue, GuestRam) {
        let ram = GuestRam::new(crate::config::MIN_MEMORY, false).unwrap();
        let config = QueueConfig {
            ready: true,
            size: 4,
            desc: 0x1000,
            avail: 0x2000,
            used: 0x3000,
        };
        (SplitQueue::new(ram.clone(), config), ram)
    }

    fn desc(ram: &GuestRam, i: u64, addr: u64, len: u32, flags: u16, next: u16) {
        let mut b = addr.to_le_bytes().to_vec();
        b.extend(len.to_le_bytes());
        b.extend(flags.to_le_bytes());
        b.extend(next.to_le_bytes());
        ram.mem()
            .write_slice(&b, GuestAddress(0x1000 + 16 * i))
            .unwrap();
    }

    fn offer(ram: &GuestRam, head: u16) {
        ram.mem().write_obj(head, GuestAddress(0x2004)).unwrap();
        ram.mem().write_obj(1u16, GuestAddress(0x2002)).unwrap();
    }

    #[test]
    fn request_and_answer() {
        let (mut q, ram) = queue();
        assert!(q.pop().is_none());
        ram.mem()
            .write_slice(b"hello", GuestAddress(0x5000))
            .unwrap();
        desc(&ram, 2, 0x5000, 2, NEXT, 0);
        desc(&ram, 0, 0x5002, 3, NEXT, 1);
        desc(&ram, 1, 0x6000, 1, WRITE, 0);
        offer(&ram, 2);
        let request = q.pop().unwrap();
        assert_eq!(
            (&request.out[..], request.answer),
            (&b"hello"[..], Some(0x6000))
        );
        q.answer(&request, 7);
        assert_eq!(ram.mem().read_obj::<u8>(GuestAddress(0x6000)).unwrap(), 7);
        assert_eq!(
            ram.mem()
                .read_obj::<[u16; 6]>(GuestAddress(0x3000))
                .unwrap(),
            [0, 1, 2, 0, 1, 0]
        );
        assert!(q.pop().is_none());
    }

    #[test]
    fn malformed_chains_end() {
        for (len, flags, next, addr) in [
            (8, NEXT, 2, 0x5000),
            (8, NEXT, 77, 0x5000),
            (8, 0, 0, u64::MAX - 4),
            (u32::MAX, NEXT, 2, 0x5000),
        ] {
            let (mut q, ram) = queue();
            desc(&ram, 2, addr, len, flags, next);
            offer(&ram, 2);
            let request = q.pop().unwrap();
            assert_eq!(request.answer, None);
            assert!(request.out.len() <= MAX_REQUEST);
        }
    }
}
