//! From guest to guest a packet is copied once, its headers twice: into the private head and out of it.
#![cfg(debug_assertions)]

use datapath::Bench;
use datapath::engine::tx::Tx;
use datapath::packet::{Batch, HEAD_MAX, OwnedPacket, copied};
use datapath::port::{TxOutcome, TxQueue};
use datapath::ring::testing::{Driver, WRITE};
use datapath::ring::{Ring, feature};
use openflow::{Action, FieldId, FlowMod, Instructions, Match, PortNo};
use std::sync::Arc;

const FEATURES: u64 = feature::VERSION_1
    | feature::MRG_RXBUF
    | feature::INDIRECT_DESC
    | feature::CSUM
    | feature::GUEST_CSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4;
/// Longest frame without segmentation.
const MAX_FRAME: usize = 1522;
const MEMORY: u64 = 4 << 20;

type New = fn(u16, u64) -> std::io::Result<Driver>;

/// A guest's receive queue as a port's way out.
struct Guest(Ring);

impl TxQueue for Guest {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        self.0.enqueue(batch, which, MAX_FRAME, &mut out);
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        self.0.enqueue_owned(packet, MAX_FRAME, &mut out);
        out
    }

    fn flush(&mut self) {
        self.0.notify();
    }
}

/// Guests on ports 1 to 4; what comes in on port 1 goes to so many of the others.
struct Guests {
    bench: Bench,
    sender: Driver,
    from: Ring,
    receivers: Vec<Driver>,
    batch: Batch,
}

impl Guests {
    fn new(new: New, copies: u32) -> Guests {
        let outputs = (2..2 + copies).map(|n| Action::Output {
            port: PortNo(n),
            max_len: 0,
        });
        let all = Match::new().with(FieldId::InPort, 1);
        let flow = FlowMod::add(all, Instructions::apply(outputs.collect()));
        let mut bench = Bench::new(&[flow], true);
        let mut receivers = Vec::new();
        for port in 1..4 {
            let driver = new(256, MEMORY).unwrap();
            bench.forwarder.remove_port(port);
            let guest = Box::new(Guest(driver.start(FEATURES)));
            bench
                .forwarder
                .add_port(port, Tx::own(guest), Arc::default());
            receivers.push(driver);
        }
        let sender = new(256, MEMORY).unwrap();
        let from = sender.start(FEATURES);
        let batch = Batch::new();
        Guests {
            bench,
            sender,
            from,
            receivers,
            batch,
        }
    }

    /// Forwards what was offered; says how many bytes were copied.
    fn forward(&mut self) -> u64 {
        let before = copied();
        self.batch.clear();
        self.from.dequeue(&mut self.batch);
        self.bench.forwarder.process(&mut self.batch, 0);
        self.from.give_back();
        self.bench.forwarder.notify();
        copied() - before
    }
}

fn frame(len: usize) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([0x45, 0, ((len - 14) >> 8) as u8, (len - 14) as u8]);
    f.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.extend([
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    f.extend((f.len()..len).map(|i| (i * 7) as u8));
    f
}

#[test]
fn a_packet_is_copied_once_to_each_guest_that_gets_it() {
    for new in [Driver::new as New, Driver::packed] {
        for copies in 1..4 {
            let mut guests = Guests::new(new, copies);
            for len in [60, 64, 192, 193, 512, 1500] {
                // The first finds no flow in the caches.
                for _ in 0..2 {
                    let frame = frame(len);
                    let at: Vec<u64> = (guests.receivers.iter_mut())
                        .map(|g| g.offer_buffer(2048))
                        .collect();
                    guests.sender.offer_frame(&[0; 12], &frame);
                    let copied = guests.forward();
                    let head = len.min(HEAD_MAX);
                    assert_eq!(
                        copied,
                        head as u64 + u64::from(copies) * len as u64,
                        "{len} bytes to {copies} guests"
                    );
                    for (guest, at) in guests.receivers.iter_mut().zip(at).take(copies as usize) {
                        assert_eq!(guest.collect().len(), 1);
                        assert_eq!(guest.read(at + 12, len), frame);
                    }
                }
            }
        }
    }
}

/// 64 KB in pages, to be segmented: one packet, copied once, into merged buffers and into long chains.
#[test]
fn a_large_packet_passes_unsplit_with_one_copy() {
    let frame = frame(65_226);
    let header = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    for new in [Driver::new as New, Driver::packed] {
        for merged in [true, false] {
            let mut guests = Guests::new(new, 1);
            let mut pieces = Vec::new();
            for (i, chunk) in frame.chunks(4096).enumerate() {
                let header: &[u8] = if i == 0 { &header } else { &[] };
                let at = guests.sender.room(header.len() + chunk.len());
                guests.sender.write(at, header);
                guests.sender.write(at + header.len() as u64, chunk);
                pieces.push((at, (header.len() + chunk.len()) as u32));
            }
            guests.sender.offer_indirect(&pieces, 0);
            let receiver = &mut guests.receivers[0];
            let mut room = Vec::new();
            if merged {
                room.extend((0..32).map(|_| (receiver.offer_buffer(2048), 2048)));
            } else {
                room.extend((0..17).map(|_| (receiver.room(4096), 4096)));
                receiver.offer_indirect(&room, WRITE);
            }
            // Of many pieces, the virtio-net header is copied like the rest, in and out.
            let copied = guests.forward();
            assert_eq!(copied, (HEAD_MAX + frame.len() + 2 * 12) as u64);
            let receiver = &mut guests.receivers[0];
            let used = receiver.collect();
            assert_eq!(used.len(), if merged { 32 } else { 1 });
            let written: u32 = used.iter().map(|(_, len)| len).sum();
            assert_eq!(written as usize, 12 + frame.len());
            let mut got = Vec::new();
            for (at, len) in room {
                got.extend(receiver.read(at, len as usize));
            }
            assert_eq!(got[..10], header[..10]);
            assert_eq!(got[10], if merged { 32 } else { 1 });
            assert_eq!(got[12..12 + frame.len()], frame);
        }
    }
}
