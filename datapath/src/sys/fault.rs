//! Surviving a peer that shrinks the memory it shares with us.
//!
//! A guest's memory is a file of the monitor's, mapped by us. When that file is truncated after it was mapped, touching
//! the lost pages raises SIGBUS, which would end the whole switch: one tenant's monitor could take down everybody's
//! network. Checking the size at mapping time does not help (it can shrink a moment later), and seals
//! (`F_SEAL_SHRINK`) are the peer's choice; QEMU and DPDK do not set them.
//!
//! So a handler looks the address up in a table of guarded ranges. If it lies in one, the whole range is replaced by private
//! anonymous memory (reading as zeros) in place, its `broken` flag is set, and the faulting instruction runs again and
//! succeeds; the port sees the flag at its next batch and drops the connection. Any other SIGBUS gets what it would
//! have got without us: the handler that was installed before, or death.
//!
//! Cost: none per packet. Threads: registering takes a lock; the handler takes none (it only reads atomics and
//! calls mmap(2), which is a bare system call), so it may run on any thread at any instruction. A range is taken out
//! of the table before it is unmapped, and whoever can fault on it keeps it mapped, so that the handler never
//! replaces a range that has become somebody else's.

use std::io;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Ranges that can be guarded at a time, in the whole process. A guest has 1 to 8 of them, so this is some hundred
/// guests at least; beyond it, mapping is refused with an error.
pub const MAX_RANGES: usize = 4096;

struct Slot {
    /// First byte, or 0 for a free slot. Written last when a slot is taken and first when it is given back.
    start: AtomicUsize,
    end: AtomicUsize,
    broken: AtomicPtr<AtomicBool>,
}

static SLOTS: [Slot; MAX_RANGES] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        broken: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_RANGES];

/// Slots at and above this index were never used: the handler need not look there.
static HIGH: AtomicUsize = AtomicUsize::new(0);
static CHANGE: Mutex<()> = Mutex::new(());
/// What was installed before us, to be restored when a fault is not ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A guarded range; the guard ends with it.
#[derive(Debug)]
pub struct Guarded {
    slot: usize,
    broken: Arc<AtomicBool>,
}

impl Guarded {
    /// Guards `len` bytes of mapped memory from `start` on; `broken` is set when the range was lost.
    pub fn new(start: usize, len: usize, broken: Arc<AtomicBool>) -> io::Result<Guarded> {
        let _lock = CHANGE.lock();
        install()?;
        let slot = SLOTS
            .iter()
            .position(|s| s.start.load(Ordering::Relaxed) == 0)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::OutOfMemory,
                    format!("more than {MAX_RANGES} shared memory regions in use"),
                )
            })?;
        SLOTS[slot].end.store(start + len, Ordering::Relaxed);
        SLOTS[slot]
            .broken
            .store(Arc::as_ptr(&broken).cast_mut(), Ordering::Relaxed);
        SLOTS[slot].start.store(start, Ordering::SeqCst);
        HIGH.fetch_max(slot + 1, Ordering::SeqCst);
        Ok(Guarded { slot, broken })
    }

    /// True once the range was replaced by zeros.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _lock = CHANGE.lock();
        SLOTS[self.slot].start.store(0, Ordering::SeqCst);
    }
}

fn install() -> io::Result<()> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    // SAFETY: all-zero bytes are a valid sigaction (default action, empty mask).
    let (mut action, mut previous): (libc::sigaction, libc::sigaction) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    action.sa_sigaction =
        handle as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both structures are initialised and outlive the call; `handle` only does what a signal handler may.
    super::check(unsafe { libc::sigaction(libc::SIGBUS, &action, &mut previous) })?;
    let _ = PREVIOUS.set(previous);
    Ok(())
}

extern "C" fn handle(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; for SIGBUS it carries the address.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &SLOTS[..HIGH.load(Ordering::SeqCst).min(MAX_RANGES)] {
        let start = slot.start.load(Ordering::SeqCst);
        let end = slot.end.load(Ordering::Relaxed);
        if start == 0 || address < start || address >= end {
            continue;
        }
        // SAFETY: start..end is one mapping of ours whose owner still holds it (it is in the table), so replacing it
        // takes nothing from anybody else.
        let mapped = unsafe {
            libc::mmap(
                start as *mut libc::c_void,
                end - start,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            break;
        }
        let broken = slot.broken.load(Ordering::Relaxed);
        // SAFETY: the Guarded of this slot keeps the Arc alive as long as the slot is in the table.
        unsafe { (*broken).store(true, Ordering::Release) };
        return;
    }
    // Not ours: put back what was there. The instruction runs again and faults into that.
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: `previous` is what sigaction(2) gave us.
        unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) };
    } else {
        // SAFETY: sets the default action; no pointers.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}
