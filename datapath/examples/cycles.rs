//! Cycles per packet of the packet path without rings: taking a frame in (a copy of its head), key
//! extraction, cache look-up, gathering by destination.
//!
//! `cargo run --release -p datapath --example cycles [flows]`

use datapath::Bench;
use datapath::engine::wake::cycles;
use datapath::packet::{BATCH, Batch, OwnedPacket};
use openflow::{Action, FlowMod, Instructions, Match, PortNo};

fn main() {
    let flows: u32 = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(1);
    let out = Action::Output {
        port: PortNo(4),
        max_len: 0,
    };
    let mut bench = Bench::new(
        &[FlowMod::add(Match::new(), Instructions::apply(vec![out]))],
        false,
    );
    let frames: Vec<OwnedPacket> = (0..flows).map(|n| OwnedPacket::new(frame(n))).collect();
    let mut batch = Batch::new();
    let mut next = 0;
    let mut fill = |batch: &mut Batch| {
        batch.clear();
        for _ in 0..BATCH {
            // SAFETY: `frames` outlives the batch.
            unsafe { batch.push_borrowed(&frames[next]) };
            next = (next + 1) % frames.len();
        }
    };
    const ROUNDS: u64 = 200_000;
    let mut best = (u64::MAX, u64::MAX);
    for _ in 0..5 {
        let start = cycles();
        for _ in 0..ROUNDS {
            fill(&mut batch);
            std::hint::black_box(&batch);
        }
        let filled = cycles() - start;
        let start = cycles();
        for _ in 0..ROUNDS {
            fill(&mut batch);
            bench.forwarder.process(&mut batch, 0);
            bench.forwarder.notify();
        }
        let all = cycles() - start;
        best = (best.0.min(filled), best.1.min(all));
    }
    let per = |n: u64| n as f64 / (ROUNDS * BATCH as u64) as f64;
    println!(
        "fill {:.1} cycles, forward {:.1} cycles a packet",
        per(best.0),
        per(best.1 - best.0)
    );
    println!("{:?}", bench.forwarder.counts);
}

fn frame(n: u32) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    f.extend((n as u16).to_be_bytes());
    f.extend([0, 80, 0, 26, 0, 0]);
    f.resize(60, 0);
    f
}
