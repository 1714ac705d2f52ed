//! Moving bytes, and asking for lines before they are needed.
//!
//! All bytes of packets are copied by these functions or counted by [`count`], which does nothing in a release build; a test
//! (`tests/copies.rs`) compares what is copied with what has to be.

use std::ptr;

#[cfg(debug_assertions)]
thread_local! {
    static COPIED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Bytes of packets that this thread copied so far. Only in debug builds.
#[cfg(debug_assertions)]
pub fn copied() -> u64 {
    COPIED.get()
}

/// Counts a copy.
#[inline(always)]
pub(crate) fn count(_n: usize) {
    #[cfg(debug_assertions)]
    COPIED.set(COPIED.get() + _n as u64);
}

/// Asks for a line that will be read.
#[inline(always)]
pub(crate) fn prefetch_read(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes nothing but the cache.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for a line that will be written.
#[inline(always)]
pub(crate) fn prefetch_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as `prefetch_read`; processors without the instruction treat it as a no-operation.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Whether lines that another processor has read are best asked for by storing into them.
///
/// On AMD's processors (seen on Zen 4) `prefetchw` does nothing for a line that is in the own cache and shared with
/// another's, and that is what a buffer is that goes back and forth between switch and guest. Stores fetch
/// such lines, but several at a time only if they follow each other: one in between that hits the cache holds up all behind it,
/// and copying has many of them. With a store into each line first, before the copying, a packet took 56 cycles where it had taken 171.
pub(crate) fn fetches_by_stores() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let id = core::arch::x86_64::__cpuid(0);
        let vendor = [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes);
        vendor.as_flattened() == b"AuthenticAMD" || vendor.as_flattened() == b"HygonGenuine"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Copies N bytes in as few moves as the processor has.
///
/// # Safety
///
/// N bytes at `from + at` must be readable, N at `to + at` writable.
#[inline(always)]
unsafe fn piece<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        to.add(at)
            .cast::<[u8; N]>()
            .write_unaligned(from.add(at).cast::<[u8; N]>().read_unaligned())
    };
}

/// Copies `n` bytes with few branches for the lengths that headers and small packets have: pieces from the front and pieces
/// that end at the end, which overlap in the middle.
///
/// # Safety
///
/// `n` bytes at `from` must be readable, `n` at `to` writable, without overlap. `from` may change meanwhile.
#[inline(always)]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    count(n);
    // SAFETY: every piece begins and ends inside the `n` bytes; the contract is the caller's.
    unsafe {
        match n {
            33..=64 => {
                piece::<32>(from, to, 0);
                piece::<32>(from, to, n - 32);
            }
            65..=128 => {
                piece::<32>(from, to, 0);
                piece::<32>(from, to, 32);
                piece::<32>(from, to, n - 64);
                piece::<32>(from, to, n - 32);
            }
            129..=256 => {
                for at in [0, 32, 64, 96] {
                    piece::<32>(from, to, at);
                }
                for at in [128, 96, 64, 32] {
                    piece::<32>(from, to, n - at);
                }
            }
            16..=32 => {
                piece::<16>(from, to, 0);
                piece::<16>(from, to, n - 16);
            }
            _ => ptr::copy_nonoverlapping(from, to, n),
        }
    }
}

/// Copies `n` bytes of a guest's memory into another's. The C library's function picks its moves by processor when the
/// program starts.
///
/// # Safety
///
/// As [`copy`], but the two may overlap: guests can share memory with each other. The copy is then of some bytes of theirs.
#[inline(always)]
pub(crate) unsafe fn copy_long(from: *const u8, to: *mut u8, n: usize) {
    count(n);
    // SAFETY: the caller's promise.
    unsafe { ptr::copy(from, to, n) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        let from: Vec<u8> = (0..600u32).map(|i| (i % 251) as u8 | 1).collect();
        for n in 0..500 {
            for at in [0, 1, 37] {
                let mut to = vec![0u8; 600];
                // SAFETY: `at + n` is below 600 in both.
                unsafe { copy(from.as_ptr().add(at), to.as_mut_ptr().add(40), n) };
                assert_eq!(to[40..40 + n], from[at..at + n], "{n} bytes");
                assert!(to[..40].iter().chain(&to[40 + n..]).all(|b| *b == 0));
            }
        }
    }
}
