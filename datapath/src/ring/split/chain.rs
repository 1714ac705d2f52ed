//! Descriptor chains: reading, judging and translating them; and moving bytes.

use std::ptr;
use std::sync::Arc;

use super::super::BadChain;
use crate::memory::{GuestMemory, RegionCache};

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: u32 = 16;
/// Entries of an indirect table; no driver comes near, and it bounds the work one chain can cause.
pub(super) const MAX_INDIRECT: u32 = 1024;

/// A copy of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

/// A buffer found ahead of its use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// Null: not a single direct descriptor; take the general way.
    pub(super) at: *mut u8,
    pub(super) len: u32,
    pub(super) head: u16,
}

pub(super) const NOTHING: Ahead = Ahead {
    at: ptr::null_mut(),
    len: 0,
    head: 0,
};

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

/// The descriptor table and the memory its addresses mean.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) table: *const u8,
    pub(super) size: u16,
    pub(super) indirect: bool,
    pub(super) memory: Arc<GuestMemory>,
    pub(super) cache: RegionCache,
}

impl Chains {
    /// Reads entry `i` of a table, once.
    ///
    /// # Safety
    ///
    /// Sixteen bytes at `table + 16 * i` must be inside a mapping, and `table` aligned to 8.
    #[inline(always)]
    pub(super) unsafe fn read(table: *const u8, i: usize) -> Descriptor {
        let at = table.wrapping_add(i * DESCRIPTOR as usize).cast::<u64>();
        // SAFETY: the caller's promise. The guest may write meanwhile: any bits are valid. Volatile, so that they are read
        // once and judged in this copy only.
        let (addr, rest) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
        let (addr, rest) = (u64::from_le(addr), u64::from_le(rest));
        Descriptor {
            addr,
            len: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        }
    }

    /// If `head` is one direct descriptor in one region with the wanted direction: where its buffer lies.
    #[inline(always)]
    pub(super) fn single(&mut self, head: u16, flags: u16) -> Ahead {
        debug_assert!(head < self.size);
        // SAFETY: the table has `size` entries, checked at the start, and `head` is below that.
        let d = unsafe { Chains::read(self.table, usize::from(head)) };
        let at = if d.flags == flags && d.len > 0 {
            self.memory
                .translate(&mut self.cache, d.addr, d.len)
                .unwrap_or(ptr::null_mut())
        } else {
            ptr::null_mut()
        };
        Ahead {
            at,
            len: d.len,
            head,
        }
    }

    /// Walks the chain from `head` on and calls `each` with every run of bytes, in order, until it says that it has enough
    /// (`false`).
    pub(super) fn walk(
        &mut self,
        head: u16,
        writable: bool,
        mut each: impl FnMut(*mut u8, u32) -> Result<bool, BadChain>,
    ) -> Result<(), BadChain> {
        let mut table = self.table;
        let mut entries = u32::from(self.size);
        let mut i = u32::from(head);
        let mut steps = entries;
        let mut nested = false;
        loop {
            if i >= entries {
                return Err(BadChain::Next);
            }
            if steps == 0 {
                return Err(BadChain::Loop);
            }
            steps -= 1;
            // SAFETY: `table` has `entries` entries: the queue's own, checked at the start, or an indirect one, translated
            // with its whole length below; `i` is below that.
            let d = unsafe { Chains::read(table, i as usize) };
            if d.flags & INDIRECT != 0 {
                let count = d.len / DESCRIPTOR;
                if nested
                    || !self.indirect
                    || d.flags & NEXT != 0
                    || !d.len.is_multiple_of(DESCRIPTOR)
                {
                    return Err(BadChain::Indirect);
                }
                if count == 0 || count > MAX_INDIRECT {
                    return Err(BadChain::Indirect);
                }
                table = self
                    .memory
                    .translate(&mut self.cache, d.addr, d.len)
                    .ok_or(BadChain::Address)?;
                if !table.cast::<u64>().is_aligned() {
                    return Err(BadChain::Indirect);
                }
                (entries, steps, i, nested) = (count, count, 0, true);
                continue;
            }
            if (d.flags & WRITE != 0) != writable {
                return Err(BadChain::Direction);
            }
            if d.len == 0 {
                return Err(BadChain::Empty);
            }
            let (mut addr, mut left) = (d.addr, d.len);
            while left > 0 {
                let (at, room) = self
                    .memory
                    .translate_some(&mut self.cache, addr)
                    .ok_or(BadChain::Address)?;
                let n = room.min(u64::from(left)) as u32;
                if !each(at, n)? {
                    return Ok(());
                }
                left -= n;
                addr += u64::from(n);
            }
            if d.flags & NEXT == 0 {
                return Ok(());
            }
            i = u32::from(d.next);
        }
    }
}
