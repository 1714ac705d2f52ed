//! Descriptors: reading, judging and translating what both layouts of a ring have in common.

use std::ptr;
use std::sync::Arc;

use super::BadChain;
use crate::memory::{GuestMemory, RegionCache};

/// Flag: another descriptor follows.
pub(super) const NEXT: u16 = 1;
/// Flag: the device writes.
pub(super) const WRITE: u16 = 2;
/// Flag: the buffer is a table of descriptors.
pub(super) const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: u32 = 16;
/// Entries of an indirect table; no driver comes near, and it bounds the work one chain can cause.
pub(super) const MAX_INDIRECT: u32 = 1024;

/// A copy of a descriptor. The last two fields change places between the layouts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    /// Split: the next descriptor. Packed: the buffer's number.
    pub(super) other: u16,
}

/// Reads entry `i` of a table, once: address, and the other half.
///
/// # Safety
///
/// Sixteen bytes at `table + 16 * i` must be inside a mapping, and `table` aligned to 8.
#[inline(always)]
pub(super) unsafe fn read(table: *const u8, i: usize) -> (u64, u64) {
    let at = table.wrapping_add(i * DESCRIPTOR as usize).cast::<u64>();
    // SAFETY: the caller's promise. The guest may write meanwhile: any bits are valid. Volatile, so that they are read
    // once and judged in this copy only.
    let (addr, rest) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
    (u64::from_le(addr), u64::from_le(rest))
}

impl Descriptor {
    /// As split rings have it (virtio 1.2 2.7.5).
    #[inline(always)]
    pub(super) fn split((addr, rest): (u64, u64)) -> Descriptor {
        Descriptor {
            addr,
            len: rest as u32,
            flags: (rest >> 32) as u16,
            other: (rest >> 48) as u16,
        }
    }

    /// As packed rings have it (virtio 1.2 2.8.13).
    #[inline(always)]
    pub(super) fn packed((addr, rest): (u64, u64)) -> Descriptor {
        Descriptor {
            addr,
            len: rest as u32,
            flags: (rest >> 48) as u16,
            other: (rest >> 32) as u16,
        }
    }
}

/// A chain found ahead of its use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// Where the buffer lies. Null: not a single direct descriptor; take the general way.
    pub(super) at: *mut u8,
    /// Of the buffer, in bytes; of a chain that takes the general way, the entry where it begins.
    pub(super) len: u32,
    /// By what number it is given back.
    pub(super) id: u16,
    /// Entries of the ring that it takes: always one in a split ring, whose chains lie in the table beside.
    pub(super) slots: u16,
}

pub(super) const NOTHING: Ahead = Ahead {
    at: ptr::null_mut(),
    len: 0,
    id: 0,
    slots: 0,
};

/// What a walk hands on: runs of bytes in order, until it is told `false` (enough).
pub(super) trait Each: FnMut(*mut u8, u32) -> Result<bool, BadChain> {}
impl<F: FnMut(*mut u8, u32) -> Result<bool, BadChain>> Each for F {}

/// The memory that addresses in descriptors mean.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) memory: Arc<GuestMemory>,
    pub(super) cache: RegionCache,
    /// Indirect tables were negotiated.
    pub(super) indirect: bool,
}

impl Reach {
    /// Where a buffer lies that is inside one region; null if it is not, or empty.
    #[inline(always)]
    pub(super) fn buffer(&mut self, addr: u64, len: u32) -> *mut u8 {
        if len == 0 {
            return ptr::null_mut();
        }
        self.memory
            .translate(&mut self.cache, addr, len)
            .unwrap_or(ptr::null_mut())
    }

    /// Hands on the bytes of a direct descriptor; says whether more are wanted.
    pub(super) fn runs(
        &mut self,
        d: Descriptor,
        writable: bool,
        each: &mut impl Each,
    ) -> Result<bool, BadChain> {
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
                return Ok(false);
            }
            left -= n;
            addr += u64::from(n);
        }
        Ok(true)
    }

    /// The table that an indirect descriptor names, and its entries.
    pub(super) fn table(&mut self, d: Descriptor) -> Result<(*const u8, u32), BadChain> {
        let count = d.len / DESCRIPTOR;
        if !self.indirect
            || d.flags & NEXT != 0
            || !d.len.is_multiple_of(DESCRIPTOR)
            || count == 0
            || count > MAX_INDIRECT
        {
            return Err(BadChain::Indirect);
        }
        let table = self
            .memory
            .translate(&mut self.cache, d.addr, d.len)
            .ok_or(BadChain::Address)?;
        if table.cast::<u64>().is_aligned() {
            Ok((table, count))
        } else {
            Err(BadChain::Indirect)
        }
    }
}
