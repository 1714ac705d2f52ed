//! Moving bytes, and asking for lines before they are needed.

use std::ptr;

/// Asks for a line that will be read.
#[inline(always)]
pub(super) fn prefetch_read(at: *const u8) {
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
pub(super) fn prefetch_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as `prefetch_read`; processors without the instruction treat it as a no-operation.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Copies `n` bytes with few branches for the lengths that headers and small packets have.
///
/// # Safety
///
/// `n` bytes at `from` must be readable, `n` at `to` writable, without overlap. `from` may change meanwhile.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    /// As the outer function, for N bytes in one move.
    #[inline(always)]
    unsafe fn piece<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
        // SAFETY: the caller checked that `at + N <= n`.
        unsafe {
            to.add(at)
                .cast::<[u8; N]>()
                .write_unaligned(from.add(at).cast::<[u8; N]>().read_unaligned())
        };
    }
    // SAFETY: every piece ends at or before `n`; the contract is the caller's.
    unsafe {
        if !(16..=256).contains(&n) {
            ptr::copy_nonoverlapping(from, to, n);
        } else if n >= 32 {
            let mut at = 0;
            while at + 32 <= n {
                piece::<32>(from, to, at);
                at += 32;
            }
            // The last piece overlaps the one before it; the bytes are the same.
            piece::<32>(from, to, n - 32);
        } else {
            piece::<16>(from, to, 0);
            piece::<16>(from, to, n - 16);
        }
    }
}

/// Copies `n` bytes of a guest's memory into another's.
///
/// # Safety
///
/// As [`copy`], but the two may overlap: guests can share memory with each other. The copy is then of some bytes of theirs.
#[inline(always)]
pub(super) unsafe fn copy_long(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::copy(from, to, n) };
}
