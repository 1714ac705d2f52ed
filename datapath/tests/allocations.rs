//! In steady state a packet costs no allocation.

use datapath::packet::{BATCH, Batch, OwnedPacket};
use datapath::{Bench, Stage};
use openflow::{Action, FieldId, FlowMod, Instructions, Match, PortNo};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting touches a thread-local of constant
// initialisation, which does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn forwarding_allocates_nothing_once_flows_are_cached() {
    let set = Action::SetField {
        field: FieldId::Ipv4Dst,
        value: 0x0a00_0003,
        mask: u32::MAX.into(),
    };
    let output = |port| Action::Output { port, max_len: 0 };
    let rewrite = FlowMod::add(
        Match::new()
            .with(FieldId::EthType, 0x800)
            .with(FieldId::IpProto, 17)
            .with(FieldId::UdpDst, 80),
        Instructions::apply(vec![
            set,
            output(PortNo(2)),
            Action::PushVlan(0x8100),
            output(PortNo(4)),
        ]),
    );
    let mut normal = FlowMod::add(
        Match::new(),
        Instructions::apply(vec![output(PortNo::NORMAL)]),
    );
    normal.priority = 1;
    let mut bench = Bench::new(&[rewrite, normal], true);
    let frames: Vec<OwnedPacket> = (0..2000u16).map(frame).collect();
    let mut batch = Batch::new();
    let mut round = |bench: &mut Bench| {
        for chunk in frames.chunks(BATCH) {
            batch.clear();
            for f in chunk {
                // SAFETY: `frames` outlives the batch.
                assert!(unsafe { batch.push_borrowed(f) });
            }
            bench.forwarder.process(&mut batch, 0);
            bench.forwarder.notify();
        }
        bench.forwarder.flush();
        bench.forwarder.sweep(256);
    };
    for _ in 0..3 {
        round(&mut bench);
    }
    let misses = bench.forwarder.counts.misses;
    let before = COUNT.get();
    for _ in 0..10 {
        round(&mut bench);
    }
    assert_eq!(COUNT.get() - before, 0);
    assert_eq!(bench.forwarder.counts.misses, misses);
    assert!(misses > 3);
}

#[test]
fn floods_of_several_threads_to_a_destination_in_use_allocate_nothing() {
    // Every frame to all ports, one of which the threads share; now and then somebody else is sending there.
    let flood = FlowMod::add(
        Match::new(),
        Instructions::apply(vec![Action::Output {
            port: PortNo::FLOOD,
            max_len: 0,
        }]),
    );
    let stage = Stage::new(6, &[flood]);
    let mut forwarders: Vec<_> = (0..3).map(|_| stage.forwarder(Some(5))).collect();
    let frames: Vec<OwnedPacket> = (0..64u16).map(frame).collect();
    let mut batch = Batch::new();
    let mut round = || {
        for (n, forwarder) in forwarders.iter_mut().enumerate() {
            for (i, chunk) in frames.chunks(BATCH).enumerate() {
                batch.clear();
                for f in chunk {
                    // SAFETY: `frames` outlives the batch.
                    assert!(unsafe { batch.push_borrowed(f) });
                }
                if i == n % 2 {
                    stage.while_busy(|| {
                        forwarder.process(&mut batch, n as u32);
                        assert!(!forwarder.notify());
                    });
                } else {
                    forwarder.process(&mut batch, n as u32);
                }
                assert!(forwarder.notify());
            }
            forwarder.flush();
        }
    };
    for _ in 0..3 {
        round();
    }
    let before = COUNT.get();
    for _ in 0..10 {
        round();
    }
    assert_eq!(COUNT.get() - before, 0);
}

fn frame(n: u16) -> OwnedPacket {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, (n % 5) as u8, 8, 0];
    f.extend([
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    f.extend(n.to_be_bytes());
    f.extend([0, if n.is_multiple_of(3) { 80 } else { 81 }, 0, 26, 0, 0]);
    f.resize(if n.is_multiple_of(7) { 900 } else { 60 }, 0);
    if n.is_multiple_of(7) {
        f[16..18].copy_from_slice(&886u16.to_be_bytes());
    }
    OwnedPacket::new(f)
}
