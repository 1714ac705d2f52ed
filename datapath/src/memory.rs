//! A guest's memory as its monitor shares it: regions of files, found by guest-physical or by the monitor's own addresses.
//!
//! Descriptors in a virtqueue carry guest-physical addresses; the addresses of the queue itself come as
//! addresses in the monitor's own space (vhost-user, "Memory regions description"). Both are translated here, always
//! with a length, so that what comes out is usable as a whole. A small [`RegionCache`] remembers the region of
//! the last answer: nearly all guests have one or two regions, so a translation is a subtraction and two comparisons.
//!
//! Threads: a [`GuestMemory`] is immutable and shared by `Arc`; a changed table is a new `GuestMemory` over the same
//! regions. Memory is unmapped when the last ring that uses it lets go of it, which the vhost-user control thread
//! arranges before it answers the monitor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use crate::sys::mmap::{self, Mapping};

/// Regions in one SET_MEM_TABLE (vhost-user: at most eight descriptors travel with a message).
pub const MAX_TABLE_REGIONS: usize = 8;
/// Regions that ADD_MEM_REG may pile up (vhost-user CONFIGURE_MEM_SLOTS; QEMU uses up to 509).
pub const MAX_REGIONS: usize = 509;
/// Guests may address at most this much; keeps every sum of address and length far from overflow.
pub const MAX_ADDRESS: u64 = 1 << 56;

/// Where a region lies in the three address spaces concerned (vhost-user "Memory region description").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSpec {
    /// Guest-physical address of the first byte.
    pub guest_addr: u64,
    /// Length in bytes.
    pub size: u64,
    /// Address of the first byte in the monitor.
    pub user_addr: u64,
    /// Where the first byte lies in the file.
    pub mmap_offset: u64,
}

/// Why a region cannot be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// More regions than [`MAX_TABLE_REGIONS`] or [`MAX_REGIONS`].
    #[error("{0} memory regions, at most {1} are possible")]
    TooMany(usize, usize),
    /// Zero length, or an address plus length beyond [`MAX_ADDRESS`].
    #[error("memory region at guest address {:#x} with {:#x} bytes: length must be above zero and the end at most {MAX_ADDRESS:#x}", .0.guest_addr, .0.size)]
    BadRange(RegionSpec),
    /// Two regions share guest-physical or monitor addresses.
    #[error("memory regions at guest addresses {0:#x} and {1:#x} overlap")]
    Overlap(u64, u64),
    /// The file is smaller than the region claims.
    #[error(
        "memory region at guest address {guest:#x} ends at {end:#x} in its file, which has only {size:#x} bytes"
    )]
    BeyondFile {
        /// Guest-physical address of the region.
        guest: u64,
        /// End of the region in the file.
        end: u64,
        /// Size of the file.
        size: u64,
    },
    /// The region to remove is not there.
    #[error("no memory region at guest address {0:#x} with this length")]
    NotFound(u64),
    /// fstat(2) or mmap(2) refused.
    #[error("memory region at guest address {0:#x} cannot be mapped: {1}")]
    Map(u64, #[source] io::Error),
}

#[derive(Debug)]
struct Region {
    spec: RegionSpec,
    host: *mut u8,
    /// Keeps `host` valid.
    _mapping: Mapping,
}

// SAFETY: `host` points into `_mapping`, which is Send and Sync; see there.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The memory of one guest.
#[derive(Debug, Default)]
pub struct GuestMemory {
    /// Sorted by guest address.
    regions: Vec<Arc<Region>>,
    /// Set when a peer took memory away by truncating its file.
    broken: Arc<AtomicBool>,
}

/// The region of the last translation; private to one ring.
#[derive(Clone, Copy, Debug)]
pub struct RegionCache {
    start: u64,
    len: u64,
    host: *mut u8,
}

impl Default for RegionCache {
    fn default() -> Self {
        RegionCache {
            start: 0,
            len: 0,
            host: std::ptr::null_mut(),
        }
    }
}

// SAFETY: only used together with the GuestMemory that filled it in, by the ring that holds both.
unsafe impl Send for RegionCache {}

fn overlap(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    a < b + b_len && b < a + a_len
}

impl GuestMemory {
    /// Maps a whole table (SET_MEM_TABLE). Each region comes with the file it lies in; files may repeat.
    pub fn map(regions: Vec<(RegionSpec, OwnedFd)>) -> Result<GuestMemory, MemoryError> {
        if regions.len() > MAX_TABLE_REGIONS {
            return Err(MemoryError::TooMany(regions.len(), MAX_TABLE_REGIONS));
        }
        let mut memory = GuestMemory::default();
        for (spec, fd) in regions {
            memory = memory.with(spec, &fd)?;
        }
        Ok(memory)
    }

    /// The same memory with one region more (ADD_MEM_REG).
    pub fn with(&self, spec: RegionSpec, fd: &OwnedFd) -> Result<GuestMemory, MemoryError> {
        if self.regions.len() >= MAX_REGIONS {
            return Err(MemoryError::TooMany(self.regions.len() + 1, MAX_REGIONS));
        }
        let ends = |start: u64| {
            start
                .checked_add(spec.size)
                .filter(|end| *end <= MAX_ADDRESS)
        };
        let (Some(_), Some(_), Some(file_end)) = (
            ends(spec.guest_addr),
            ends(spec.user_addr),
            ends(spec.mmap_offset),
        ) else {
            return Err(MemoryError::BadRange(spec));
        };
        if spec.size == 0 {
            return Err(MemoryError::BadRange(spec));
        }
        for other in self.regions.iter().map(|r| r.spec) {
            if overlap(spec.guest_addr, spec.size, other.guest_addr, other.size)
                || overlap(spec.user_addr, spec.size, other.user_addr, other.size)
            {
                return Err(MemoryError::Overlap(other.guest_addr, spec.guest_addr));
            }
        }
        let refused = |e| MemoryError::Map(spec.guest_addr, e);
        let file = mmap::memory_file(fd.as_fd()).map_err(refused)?;
        if file_end > file.size {
            return Err(MemoryError::BeyondFile {
                guest: spec.guest_addr,
                end: file_end,
                size: file.size,
            });
        }
        let mapping = Mapping::shared(
            fd.as_fd(),
            spec.mmap_offset,
            spec.size,
            file.page,
            self.broken.clone(),
        )
        .map_err(refused)?;
        let region = Arc::new(Region {
            spec,
            host: mapping.as_ptr(),
            _mapping: mapping,
        });
        let mut regions = self.regions.clone();
        let at = regions.partition_point(|r| r.spec.guest_addr < spec.guest_addr);
        regions.insert(at, region);
        Ok(GuestMemory {
            regions,
            broken: self.broken.clone(),
        })
    }

    /// The same memory without one region (REM_MEM_REG; the file offset is not compared, as the specification asks).
    pub fn without(&self, spec: RegionSpec) -> Result<GuestMemory, MemoryError> {
        let same = |r: &RegionSpec| {
            r.guest_addr == spec.guest_addr && r.user_addr == spec.user_addr && r.size == spec.size
        };
        let at = self
            .regions
            .iter()
            .position(|r| same(&r.spec))
            .ok_or(MemoryError::NotFound(spec.guest_addr))?;
        let mut regions = self.regions.clone();
        regions.remove(at);
        Ok(GuestMemory {
            regions,
            broken: self.broken.clone(),
        })
    }

    /// The regions, lowest guest address first.
    pub fn regions(&self) -> impl Iterator<Item = RegionSpec> + '_ {
        self.regions.iter().map(|r| r.spec)
    }

    /// True when the peer truncated a file of this memory while it was mapped: it must not be used any longer.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// The host address of `len` bytes at guest-physical `addr`, if they lie in one region.
    #[inline]
    pub fn translate(&self, cache: &mut RegionCache, addr: u64, len: u32) -> Option<*mut u8> {
        let offset = addr.wrapping_sub(cache.start);
        if offset < cache.len && u64::from(len) <= cache.len - offset {
            return Some(cache.host.wrapping_add(offset as usize));
        }
        self.translate_slow(cache, addr, len)
    }

    #[cold]
    fn translate_slow(&self, cache: &mut RegionCache, addr: u64, len: u32) -> Option<*mut u8> {
        let (host, room) = self.translate_some(cache, addr)?;
        (room >= u64::from(len)).then_some(host)
    }

    /// The host address of guest-physical `addr` and how many bytes follow in its region. What continues in the next
    /// region is asked for by another call.
    pub fn translate_some(&self, cache: &mut RegionCache, addr: u64) -> Option<(*mut u8, u64)> {
        let at = self
            .regions
            .partition_point(|r| r.spec.guest_addr <= addr)
            .checked_sub(1)?;
        let region = &self.regions[at];
        let offset = addr - region.spec.guest_addr;
        if offset >= region.spec.size {
            return None;
        }
        *cache = RegionCache {
            start: region.spec.guest_addr,
            len: region.spec.size,
            host: region.host,
        };
        Some((
            region.host.wrapping_add(offset as usize),
            region.spec.size - offset,
        ))
    }

    /// The host address of `len` bytes at the monitor's address `addr`, if they lie in one region.
    pub fn translate_user(&self, addr: u64, len: u64) -> Option<*mut u8> {
        self.regions.iter().find_map(|r| {
            let offset = addr.checked_sub(r.spec.user_addr)?;
            (offset < r.spec.size && len <= r.spec.size - offset)
                .then(|| r.host.wrapping_add(offset as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(size: u64) -> OwnedFd {
        mmap::memfd(c"guest", size).unwrap().into()
    }

    fn spec(guest_addr: u64, size: u64, user_addr: u64, mmap_offset: u64) -> RegionSpec {
        RegionSpec {
            guest_addr,
            size,
            user_addr,
            mmap_offset,
        }
    }

    #[test]
    fn addresses_are_found_in_both_spaces() {
        let fd = file(0x8000);
        std::fs::File::from(fd.try_clone().unwrap())
            .write_at(b"low", 0x10)
            .unwrap();
        std::fs::File::from(fd.try_clone().unwrap())
            .write_at(b"high", 0x4020)
            .unwrap();
        let memory = GuestMemory::map(vec![
            (
                spec(0x1_0000_0000, 0x4000, 0x7000_4000, 0x4000),
                fd.try_clone().unwrap(),
            ),
            (spec(0, 0x4000, 0x7000_0000, 0), fd),
        ])
        .unwrap();
        let mut cache = RegionCache::default();
        // SAFETY: translated with that length, both times.
        let read = |p: *mut u8, n: usize| unsafe { std::slice::from_raw_parts(p, n).to_vec() };
        assert_eq!(
            read(memory.translate(&mut cache, 0x10, 3).unwrap(), 3),
            b"low"
        );
        assert_eq!(
            read(memory.translate(&mut cache, 0x1_0000_0020, 4).unwrap(), 4),
            b"high"
        );
        assert_eq!(
            read(memory.translate_user(0x7000_4020, 4).unwrap(), 4),
            b"high"
        );
        assert!(memory.translate(&mut cache, 0x3fff, 1).is_some());
        assert!(memory.translate(&mut cache, 0x3fff, 2).is_none());
        assert!(memory.translate(&mut cache, 0x4000, 1).is_none());
        assert!(memory.translate(&mut cache, u64::MAX, 1).is_none());
        assert!(
            memory
                .translate(&mut cache, u64::MAX - 3, u32::MAX)
                .is_none()
        );
        assert!(memory.translate_user(0x7000_3fff, 2).is_none());
        assert!(memory.translate_user(u64::MAX, u64::MAX).is_none());
        assert_eq!(memory.translate_some(&mut cache, 0x3ffe).unwrap().1, 2);
    }

    #[test]
    fn bad_regions_are_refused_with_a_reason() {
        let refuse = |list: Vec<RegionSpec>| {
            GuestMemory::map(list.into_iter().map(|s| (s, file(0x4000))).collect())
                .unwrap_err()
                .to_string()
        };
        assert!(refuse(vec![spec(0, 0x5000, 0, 0)]).contains("only 0x4000 bytes"));
        assert!(refuse(vec![spec(0, 0x4000, 0, 1)]).contains("ends at 0x4001"));
        assert!(refuse(vec![spec(0, 0, 0, 0)]).contains("above zero"));
        assert!(refuse(vec![spec(u64::MAX, 2, 0, 0)]).contains("above zero"));
        assert!(refuse(vec![spec(0, 2, u64::MAX, 0)]).contains("above zero"));
        assert!(refuse(vec![spec(0, 2, 0, u64::MAX)]).contains("above zero"));
        assert!(
            refuse(vec![spec(0, 0x2000, 0, 0), spec(0x1fff, 1, 0x9000, 0)]).contains("overlap")
        );
        assert!(
            refuse(vec![spec(0, 0x2000, 0, 0), spec(0x2000, 1, 0x1fff, 0)]).contains("overlap")
        );
        assert!(
            refuse((0..9).map(|i| spec(i << 16, 1, i << 16, 0)).collect()).contains("at most 8")
        );
    }

    #[test]
    fn regions_come_and_go_one_by_one() {
        let fd = file(0x4000);
        let one = GuestMemory::default()
            .with(spec(0, 0x1000, 0x1000, 0), &fd)
            .unwrap();
        let two = one.with(spec(0x1000, 0x1000, 0x9000, 0x1000), &fd).unwrap();
        assert!(two.translate_user(0x9000, 0x1000).is_some());
        let back = two.without(spec(0, 0x1000, 0x1000, 7)).unwrap();
        assert!(back.translate_user(0x1000, 1).is_none());
        assert!(one.translate_user(0x1000, 1).is_some());
        assert!(matches!(
            back.without(spec(0, 0x1000, 0x1000, 0)),
            Err(MemoryError::NotFound(0))
        ));
    }

    #[test]
    fn a_truncated_file_marks_the_memory_broken() {
        let fd = file(0x4000);
        let memory = GuestMemory::default()
            .with(spec(0, 0x4000, 0, 0), &fd)
            .unwrap();
        let at = memory
            .translate(&mut RegionCache::default(), 0x3000, 8)
            .unwrap();
        std::fs::File::from(fd).set_len(0x1000).unwrap();
        // SAFETY: translated; the loss is what is tested.
        assert_eq!(unsafe { at.read_volatile() }, 0);
        assert!(memory.is_broken());
    }
}
