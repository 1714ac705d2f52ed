//! The processor's count of instructions, where the machine lets us read it (many virtual ones do not).

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

/// `struct perf_event_attr` up to its second version, 72 bytes: what is set here, and zeros.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    rest: [u64; 3],
}

const HARDWARE: u32 = 0;
const INSTRUCTIONS: u64 = 1;
/// `exclude_kernel` and `exclude_hv`.
const USER_ONLY: u64 = 1 << 5 | 1 << 6;

/// Instructions of the calling thread in user space.
pub struct Instructions(File);

impl Instructions {
    /// `None` where the machine has no such counter for us.
    pub fn open() -> Option<Instructions> {
        let attributes = Attributes {
            kind: HARDWARE,
            size: size_of::<Attributes>() as u32,
            config: INSTRUCTIONS,
            flags: USER_ONLY,
            ..Attributes::default()
        };
        // SAFETY: the structure is as long as it says and lives through the call; this thread, any processor.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &attributes, 0, -1, -1, 0) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the descriptor is new and nobody else's.
        let counter = Instructions(unsafe { File::from_raw_fd(fd as i32) });
        // A counter that does not count is none.
        (counter.read() > 0).then_some(counter)
    }

    /// So far.
    pub fn read(&self) -> u64 {
        let mut bytes = [0; 8];
        match (&self.0).read_exact(&mut bytes) {
            Ok(()) => u64::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }
}
