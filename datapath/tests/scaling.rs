//! More threads, more packets: what this machine has too few processors to show is shown by what threads share.
//!
//! All that threads have in common (ports, bridges, tables, counters, the count of changes) is allocated from memory of its
//! own, which is made read-only by the processor while threads forward: a single write to it by any packet ends the test with
//! a fault. So no cache line is written by one thread that another needs, and with more threads the work for a packet stays the
//! same, which is measured too.

use datapath::Stage;
use datapath::engine::forward::Forwarder;
use datapath::engine::wake::cycles;
use datapath::packet::{BATCH, Batch, OwnedPacket};
use openflow::{Action, FieldId, FlowMod, Instructions, Match, PortNo};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

/// The memory for what is shared. More than all stages of a test together need.
const ARENA: usize = 64 << 20;

struct Split;

static START: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: memory comes from the system's allocator or, each address once, from a mapping that is never given back and
// zeroed; what belongs to the mapping is not freed at all.
unsafe impl GlobalAlloc for Split {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !SHARED.try_with(Cell::get).unwrap_or(false) {
            // SAFETY: as the caller promised.
            return unsafe { System.alloc(layout) };
        }
        let size = layout.size() + layout.align();
        let at = USED.fetch_add(size, Ordering::Relaxed);
        assert!(at + size <= ARENA, "the arena is too small");
        (START.load(Ordering::Relaxed) + at).next_multiple_of(layout.align()) as *mut u8
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let start = START.load(Ordering::Relaxed);
        if start == 0 || !(start..start + ARENA).contains(&(ptr as usize)) {
            // SAFETY: as the caller promised; it is the system's.
            unsafe { System.dealloc(ptr, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Split = Split;

/// One test at a time has the arena.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `make`; what it allocates is shared memory.
fn shared<R>(make: impl FnOnce() -> R) -> R {
    if START.load(Ordering::Relaxed) == 0 {
        // SAFETY: a new private mapping, wherever the system likes.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                ARENA,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        START.store(start as usize, Ordering::Relaxed);
    }
    SHARED.set(true);
    let made = make();
    SHARED.set(false);
    made
}

/// Lets shared memory be written, or not.
fn protect(protection: i32) {
    let start = START.load(Ordering::Relaxed) as *mut libc::c_void;
    // SAFETY: the mapping is ours, and stays.
    assert_eq!(unsafe { libc::mprotect(start, ARENA, protection) }, 0);
}

fn output(port: u32) -> Action {
    Action::Output {
        port: PortNo(port),
        max_len: 0,
    }
}

/// Thread `n` forwards from port 2n+1 to 2n+2: by rules that look at ports and addresses, one that rewrites, and NORMAL.
fn flows(threads: u32) -> Vec<FlowMod> {
    let mut flows = Vec::new();
    for n in 0..threads {
        let udp = Match::new()
            .with(FieldId::InPort, u128::from(2 * n + 1))
            .with(FieldId::EthType, 0x800)
            .with(FieldId::IpProto, 17);
        flows.push(FlowMod::add(
            udp.clone(),
            Instructions::apply(vec![output(2 * n + 2)]),
        ));
        let mut rewrite = FlowMod::add(
            udp.with(FieldId::UdpDst, 80),
            Instructions::apply(vec![
                Action::SetField {
                    field: FieldId::Ipv4Dst,
                    value: 0x0a00_0009,
                    mask: u32::MAX.into(),
                },
                output(2 * n + 2),
                Action::PushVlan(0x8100),
                output(2 * n + 2),
            ]),
        );
        rewrite.priority = 40_000;
        flows.push(rewrite);
    }
    flows
}

fn frames() -> Vec<OwnedPacket> {
    (0..256u16)
        .map(|n| {
            let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
            f.extend([
                0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            ]);
            f.extend(n.to_be_bytes());
            f.extend([0, if n.is_multiple_of(3) { 80 } else { 81 }, 0, 26, 0, 0]);
            f.resize(60, 0);
            OwnedPacket::new(f)
        })
        .collect()
}

/// Forwards all frames from `port`; how many there were.
fn run(forwarder: &mut Forwarder, batch: &mut Batch, frames: &[OwnedPacket], port: u32) -> u64 {
    for chunk in frames.chunks(BATCH) {
        batch.clear();
        for f in chunk {
            // SAFETY: `frames` outlives the use of the batch, which is cleared below.
            assert!(unsafe { batch.push_borrowed(f) });
        }
        forwarder.process(batch, port);
        assert!(forwarder.notify());
    }
    batch.clear();
    frames.len() as u64
}

#[test]
fn no_packet_writes_what_threads_share() {
    let _turn = TURN.lock().unwrap();
    let frames = frames();
    for threads in [1, 2, 4, 8u32] {
        let stage = shared(|| Stage::new(2 * threads, &flows(threads)));
        let (warm, cold) = (
            Barrier::new(threads as usize + 1),
            Barrier::new(threads as usize + 1),
        );
        let rounds = 50;
        std::thread::scope(|s| {
            for n in 0..threads {
                let (stage, frames, warm, cold) = (&stage, &frames, &warm, &cold);
                s.spawn(move || {
                    let mut forwarder = stage.forwarder(None);
                    let mut batch = Batch::new();
                    for _ in 0..4 {
                        run(&mut forwarder, &mut batch, frames, 2 * n);
                    }
                    let misses = forwarder.counts.misses;
                    warm.wait();
                    // Now what is shared is read-only.
                    cold.wait();
                    for _ in 0..rounds {
                        run(&mut forwarder, &mut batch, frames, 2 * n);
                    }
                    assert_eq!(forwarder.counts.misses, misses);
                    warm.wait();
                    cold.wait();
                    forwarder.flush();
                });
            }
            warm.wait();
            protect(libc::PROT_READ);
            cold.wait();
            warm.wait();
            protect(libc::PROT_READ | libc::PROT_WRITE);
            cold.wait();
        });
        // They did forward, and their counts arrive.
        let each = (rounds + 4) * frames.len() as u64;
        assert_eq!(stage.counted(0), (each * u64::from(threads), each));
        assert_eq!(stage.counted(2 * threads - 2).1, each);
    }
}

#[test]
fn work_per_packet_does_not_grow_with_threads() {
    let _turn = TURN.lock().unwrap();
    let frames = frames();
    let best = |threads: u32| -> u64 {
        let stage = Stage::new(2 * threads, &flows(threads));
        let mut batch = Batch::new();
        let mut worst = 0;
        for n in 0..threads {
            let mut forwarder = stage.forwarder(None);
            // The least of many short runs: what else runs on the machine disturbs most of them.
            let best = (0..400)
                .map(|_| {
                    let start = cycles();
                    run(&mut forwarder, &mut batch, &frames, 2 * n);
                    cycles() - start
                })
                .min();
            worst = worst.max(best.unwrap_or(0));
        }
        worst
    };
    // Whoever is slow once is asked again: only what is always so counts.
    let holds = (0..5).any(|_| {
        let one = best(1);
        [2, 4, 8].into_iter().all(|n| best(n) * 10 <= one * 13)
    });
    assert!(holds, "a packet costs more when there are more threads");
}

#[test]
fn a_busy_destination_makes_no_thread_wait() {
    let _turn = TURN.lock().unwrap();
    let frames = frames();
    let stage = Stage::new(2, &flows(1));
    let mut forwarder = stage.forwarder(Some(1));
    let mut batch = Batch::new();
    run(&mut forwarder, &mut batch, &frames, 0);
    // Somebody else sends there, for ever as it seems: one batch is held back, not waited for.
    stage.while_busy(|| {
        batch.clear();
        for f in &frames[..BATCH] {
            // SAFETY: `frames` outlives the use of the batch.
            assert!(unsafe { batch.push_borrowed(f) });
        }
        forwarder.process(&mut batch, 0);
        assert!(!forwarder.notify());
        batch.clear();
    });
    assert!(forwarder.notify());
}
