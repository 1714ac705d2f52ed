//! Guest memory: one memfd, shared, so that a switch can map it from the other end of a
//! vhost-user socket. The file is sealed against shrinking, or else whoever got it could make
//! this process fault.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::sync::Arc;

use vhost::VhostUserMemoryRegionInfo;
use vm_memory::mmap::MmapRegion;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap,
};

use crate::error::{Context, Error, Result};

/// Where memory below 4 GiB ends and the hole for devices begins; what does not fit follows at
/// 4 GiB.
pub const LOW_END: u64 = 0xc000_0000;
/// Where memory goes on above the hole.
pub const HIGH_START: u64 = 1 << 32;

/// The memory of one guest.
#[derive(Clone)]
pub struct GuestRam {
    mem: GuestMemoryMmap,
}

impl GuestRam {
    /// Makes `size` bytes, all zero.
    ///
    /// # Errors
    /// When the system has not so much of it (huge pages, above all).
    pub fn new(size: u64, hugetlb: bool) -> Result<Self> {
        let mut flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        if hugetlb {
            flags |= libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
        }
        // SAFETY: the name is a C string; the result is checked.
        let fd = unsafe { libc::memfd_create(c"weir-guest".as_ptr(), flags) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context(|| "memfd_create".into());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(size)
            .context(|| format!("{size} bytes of guest memory"))?;
        // SAFETY: a descriptor that is open.
        let sealed = unsafe {
            libc::fcntl(
                file.as_raw_fd(),
                libc::F_ADD_SEALS,
                libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL,
            )
        };
        if sealed < 0 {
            return Err(std::io::Error::last_os_error()).context(|| "sealing guest memory".into());
        }
        let file = Arc::new(file);
        let mut regions = Vec::new();
        let low = size.min(LOW_END);
        for (start, offset, len) in [(0, 0, low), (HIGH_START, low, size - low)] {
            if len == 0 {
                continue;
            }
            // Huge pages must be set aside now: there is no way to refuse them later.
            let reserve = if hugetlb { 0 } else { libc::MAP_NORESERVE };
            let region = MmapRegion::build(
                Some(FileOffset::from_arc(file.clone(), offset)),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | reserve,
            )
            .map_err(|e| {
                let hint = if hugetlb {
                    " (see vm.nr_hugepages)"
                } else {
                    ""
                };
                Error::Memory(format!("cannot map {len} bytes: {e}{hint}"))
            })?;
            let region = GuestRegionMmap::new(region, GuestAddress(start))
                .ok_or_else(|| Error::Memory(format!("no {len} bytes fit at {start:#x}")))?;
            regions.push(region);
        }
        let mem = GuestMemoryMmap::from_regions(regions)
            .map_err(|e| Error::Memory(format!("cannot arrange it: {e}")))?;
        Ok(GuestRam { mem })
    }

    /// The memory as vm-memory knows it.
    pub fn mem(&self) -> &GuestMemoryMmap {
        &self.mem
    }

    /// Its pieces: guest-physical start, length.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.mem
            .iter()
            .map(|r| (r.start_addr().raw_value(), r.len()))
            .collect()
    }

    /// The end of the memory below 4 GiB.
    pub fn low_end(&self) -> u64 {
        self.ranges().first().map_or(0, |r| r.1)
    }

    /// Where `len` bytes at guest-physical `addr` are in this process, if all of them are memory
    /// in one piece.
    pub fn host_address(&self, addr: u64, len: u64) -> Option<u64> {
        let region = self.mem.find_region(GuestAddress(addr))?;
        let offset = addr - region.start_addr().raw_value();
        (len <= region.len() - offset).then(|| region.as_ptr() as u64 + offset)
    }

    /// What goes into SET_MEM_TABLE.
    pub fn vhost_regions(&self) -> Result<Vec<VhostUserMemoryRegionInfo>> {
        self.mem
            .iter()
            .map(|r| {
                VhostUserMemoryRegionInfo::from_guest_region(r)
                    .map_err(|e| Error::VhostUser(e.to_string()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn maps_and_translates() {
        let ram = GuestRam::new(64 << 20, false).unwrap();
        assert_eq!(ram.ranges(), [(0, 64 << 20)]);
        let base = ram.host_address(0, 1).unwrap();
        assert_eq!(ram.host_address(4096, 4096), Some(base + 4096));
        assert_eq!(ram.host_address((64 << 20) - 1, 2), None);
        assert_eq!(ram.host_address(64 << 20, 1), None);
        assert_eq!(ram.host_address(u64::MAX, 2), None);
        ram.mem().write_obj(7u32, GuestAddress(16)).unwrap();
        let regions = ram.vhost_regions().unwrap();
        assert_eq!(regions[0].userspace_addr, base);
        assert_eq!(regions[0].memory_size, 64 << 20);
    }

    #[test]
    fn leaves_the_hole_free() {
        let ram = GuestRam::new(5 << 30, false).unwrap();
        assert_eq!(ram.ranges(), [(0, 3 << 30), (4 << 30, 2 << 30)]);
        assert_eq!(ram.host_address(LOW_END, 1), None);
        assert_eq!(ram.vhost_regions().unwrap()[1].mmap_offset, 3 << 30);
    }

    #[test]
    fn cannot_be_shrunk_from_outside() {
        let ram = GuestRam::new(64 << 20, false).unwrap();
        let region = ram.mem().iter().next().unwrap();
        let file = region.file_offset().unwrap().file();
        assert!(file.set_len(4096).is_err());
    }
}
