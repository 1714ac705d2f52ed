//! Shared mappings of files that a peer passed to us, memory shared with the kernel, and the memory files our tests share.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::check;
use super::fault::Guarded;

/// Part of a file, mapped shared and writable; unmapped on drop. Guarded against truncation, see [`super::fault`].
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Where the asked-for bytes start behind `start` (which is aligned to a page).
    lead: usize,
    /// Dropped by hand before unmapping.
    guard: Option<Guarded>,
}

// SAFETY: a mapping is memory without thread affinity; all access goes through raw pointers whose users answer for it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Size and page size of a file of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// Length in bytes.
    pub size: u64,
    /// Page size in bytes: that of huge pages on hugetlbfs, else the system's.
    pub page: u64,
}

/// Looks at a file that is to be mapped. Only regular files (memfd, hugetlbfs, tmpfs) have a size to check against, so
/// anything else is refused.
pub fn memory_file(fd: BorrowedFd<'_>) -> io::Result<MemoryFile> {
    // SAFETY: all-zero bytes are a valid stat and statfs.
    let (mut stat, mut fs): (libc::stat, libc::statfs) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: `stat` is writable and outlives the call.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) })?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file, memfd or hugetlbfs file",
        ));
    }
    // SAFETY: `fs` is writable and outlives the call.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &mut fs) })?;
    let page = if fs.f_type == libc::HUGETLBFS_MAGIC {
        fs.f_bsize as u64
    } else {
        page_size()
    };
    Ok(MemoryFile {
        size: stat.st_size as u64,
        page,
    })
}

/// The system's page size in bytes.
pub fn page_size() -> u64 {
    // SAFETY: sysconf takes no pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if size > 0 { size as u64 } else { 4096 }
}

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset` on. The caller has compared them with [`memory_file`]; `page` is the page
    /// size found there. `broken` is set if the file loses these bytes later.
    pub fn shared(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        page: u64,
        broken: Arc<AtomicBool>,
    ) -> io::Result<Mapping> {
        let too_large = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "offset and length exceed the address space",
            )
        };
        if len == 0 || !page.is_power_of_two() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "nothing to map",
            ));
        }
        let aligned = offset & !(page - 1);
        let lead = offset - aligned;
        let whole = len
            .checked_add(lead)
            .and_then(|n| n.checked_next_multiple_of(page))
            .ok_or_else(too_large)?;
        let whole = usize::try_from(whole).map_err(|_| too_large())?;
        let file_offset = libc::off_t::try_from(aligned).map_err(|_| too_large())?;
        // SAFETY: a fresh mapping at an address the kernel chooses touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                file_offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(io::Error::other("mapped at address zero"));
        };
        let mut mapping = Mapping {
            start,
            len: whole,
            lead: lead as usize,
            guard: None,
        };
        mapping.guard = Some(Guarded::new(start.as_ptr() as usize, whole, broken)?);
        // A guest's memory does not belong into our core dumps. Failing is harmless.
        // SAFETY: the range is the mapping just made.
        unsafe { libc::madvise(start.as_ptr().cast(), whole, libc::MADV_DONTDUMP) };
        Ok(mapping)
    }

    /// The first byte asked for; valid for the `len` asked for, as long as the mapping lives.
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: lead is smaller than the mapping.
        unsafe { self.start.as_ptr().add(self.lead) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guard = None;
        // SAFETY: the range is the mapping we made; nobody holds a pointer into it by the type's contract.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Memory that the kernel shares with us: rings of sockets, or pages of our own that it reads and writes. Unmapped on drop.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: as for `Mapping`: all access goes through raw pointers whose users answer for it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes that `fd` offers at `offset`.
    pub fn of(fd: std::os::fd::RawFd, offset: libc::off_t, len: usize) -> io::Result<Region> {
        Region::map(fd, offset, len, libc::MAP_SHARED)
    }

    /// Maps `len` zero bytes of our own.
    pub fn anonymous(len: usize) -> io::Result<Region> {
        Region::map(-1, 0, len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
    }

    fn map(
        fd: std::os::fd::RawFd,
        offset: libc::off_t,
        len: usize,
        how: libc::c_int,
    ) -> io::Result<Region> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address the kernel chooses touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                access,
                how | libc::MAP_POPULATE,
                fd,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Region { start, len })
    }

    /// The first byte; valid for [`Region::len`] bytes as long as the region lives.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its length in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping we made; nobody holds a pointer into it by the type's contract.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Makes an anonymous memory file of `size` zero bytes, as monitors do for guest memory.
pub fn memfd(name: &std::ffi::CStr, size: u64) -> io::Result<File> {
    // SAFETY: `name` is a C string; a non-negative result is a fresh descriptor nobody else owns.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: as above.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(size)?;
    debug_assert_eq!(memory_file(file.as_fd())?.size, size);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering;

    #[test]
    fn an_unaligned_offset_maps_the_right_bytes() {
        let file = memfd(c"t", 3 * 4096).unwrap();
        file.write_at(b"weir", 5000).unwrap();
        let map = Mapping::shared(file.as_fd(), 5000, 4, 4096, Arc::default()).unwrap();
        // SAFETY: four bytes were mapped there.
        let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr(), 4) };
        assert_eq!(bytes, b"weir");
    }

    #[test]
    fn truncation_breaks_the_mapping_and_nothing_else() {
        let file = memfd(c"t", 4 * 4096).unwrap();
        file.write_at(&[7], 3 * 4096).unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let map = Mapping::shared(file.as_fd(), 0, 4 * 4096, 4096, broken.clone()).unwrap();
        // SAFETY: inside the mapping.
        let read = |at: usize| unsafe { map.as_ptr().add(at).read_volatile() };
        assert_eq!(read(3 * 4096), 7);
        file.set_len(4096).unwrap();
        assert_eq!(read(3 * 4096), 0);
        assert!(broken.load(Ordering::Acquire));
        // SAFETY: inside the mapping.
        unsafe { map.as_ptr().add(2 * 4096).write_volatile(9) };
        assert_eq!(read(2 * 4096), 9);
    }

    #[test]
    fn pipes_and_sockets_are_refused() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(memory_file(a.as_fd()).is_err());
    }
}
