//! A guest's memory: one memfd, in huge pages where the machine has some left, shared with the switch.

use anyhow::{Context, Result, ensure};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use vhost::VhostUserMemoryRegionInfo;

/// Where the memory begins for the guest: not where it lies in this process, so that mistaking one address for the
/// other shows.
const GUEST_BASE: u64 = 0x4000_0000;
const HUGE: usize = 2 << 20;

/// The memory and how much of it is given out.
pub struct Memory {
    fd: OwnedFd,
    base: *mut u8,
    len: usize,
    used: usize,
    /// Whether it is in huge pages.
    pub huge: bool,
}

// SAFETY: the mapping belongs to this value alone; what else writes to it is the switch, and all access is by raw
// pointers.
unsafe impl Send for Memory {}

impl Memory {
    /// `len` bytes at least, zeroed and present.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn new(len: usize) -> Result<Memory> {
        let len = len.next_multiple_of(HUGE);
        // Touching a huge page that is not there is a signal, so the mapping is made with all its pages.
        if let Ok(m) = Memory::map(len, libc::MFD_HUGETLB, libc::MAP_POPULATE, true) {
            return Ok(m);
        }
        Memory::map(len, 0, libc::MAP_POPULATE, false)
    }

    fn map(len: usize, fd_flags: u32, map_flags: i32, huge: bool) -> Result<Memory> {
        // SAFETY: a name and flags.
        let fd =
            unsafe { libc::memfd_create(c"weir-bench".as_ptr(), libc::MFD_CLOEXEC | fd_flags) };
        ensure!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a plain call on our own descriptor.
        let sized = unsafe { libc::ftruncate(fd.as_raw_fd(), len as i64) };
        ensure!(
            sized == 0,
            "ftruncate to {len}: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: a new shared mapping at an address the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | map_flags,
                fd.as_raw_fd(),
                0,
            )
        };
        ensure!(
            base != libc::MAP_FAILED,
            "mmap of {len} bytes: {}",
            std::io::Error::last_os_error()
        );
        Ok(Memory {
            fd,
            base: base.cast(),
            len,
            used: 0,
            huge,
        })
    }

    /// `len` bytes at a multiple of `align`.
    ///
    /// # Errors
    /// When the memory is full.
    pub fn take(&mut self, len: usize, align: usize) -> Result<*mut u8> {
        let at = self.used.next_multiple_of(align);
        ensure!(
            at + len <= self.len,
            "guest memory of {} bytes is too small",
            self.len
        );
        self.used = at + len;
        // SAFETY: inside the mapping, checked above.
        Ok(unsafe { self.base.add(at) })
    }

    /// Where the guest has this address.
    pub fn guest(&self, p: *const u8) -> u64 {
        GUEST_BASE + (p as u64 - self.base as u64)
    }

    /// As the switch is told.
    pub fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_BASE,
            memory_size: self.len as u64,
            userspace_addr: self.base as u64,
            mmap_offset: 0,
            mmap_handle: self.fd.as_raw_fd(),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, of that length, and nobody uses it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Plain anonymous memory for the comparison with memcpy: as [`Memory`].
pub fn private(len: usize) -> Result<Memory> {
    Memory::new(len).context("memory to copy in")
}
