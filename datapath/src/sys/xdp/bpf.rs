//! The XDP program: loading it, attaching it, and the map that tells it where frames go (bpf(2)).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use super::btf;
use super::program::redirect;
use crate::sys::check;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
/// The program takes frames that lie in several pieces.
const F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// The program is for one interface only, and may ask its driver for what it knows of a frame.
const F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// How long an interface is tried for that another program is attached to: one that was let go of takes a moment to go.
const BUSY: Duration = Duration::from_millis(500);
/// Room for the verifier's words.
const LOG: usize = 4096;

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// In the driver.
    Native,
    /// Behind it, on frames that the kernel has made buffers of.
    Generic,
}

/// The program on an interface, as long as this lives.
#[derive(Debug)]
pub struct Redirect {
    _link: OwnedFd,
    map: OwnedFd,
    long_frames: bool,
}

impl Redirect {
    /// Loads the program and attaches it. Nothing is redirected before sockets are given; what comes by a queue without one goes its
    /// usual way in the kernel.
    pub fn attach(index: u32, attach: Attach, queues: u32) -> io::Result<Redirect> {
        let map = create_map(queues)?;
        let plain = redirect(map.as_raw_fd(), None);
        let mut tries = Vec::new();
        if attach == Attach::Native
            && let Some(vlan_tag) = btf::vlan_tag()
        {
            let tagged = redirect(map.as_raw_fd(), Some(vlan_tag));
            tries.push((tagged, F_XDP_HAS_FRAGS | F_XDP_DEV_BOUND_ONLY));
        }
        tries.push((plain.clone(), F_XDP_HAS_FRAGS));
        tries.push((plain, 0));
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for (instructions, flags) in tries {
            let done =
                load(&instructions, flags, index).and_then(|program| link(&program, index, attach));
            match done {
                Ok(link) => {
                    return Ok(Redirect {
                        _link: link,
                        map,
                        long_frames: flags & F_XDP_HAS_FRAGS != 0,
                    });
                }
                // Neither another program nor more rights would make these go away.
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EPERM | libc::EBUSY | libc::EEXIST)
                    ) =>
                {
                    return Err(e);
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Whether frames that lie in several pieces come too.
    pub fn long_frames(&self) -> bool {
        self.long_frames
    }

    /// From now on what comes by `queue` goes to `socket`.
    pub fn set(&self, queue: u32, socket: RawFd) -> io::Result<()> {
        let (key, value) = (queue, socket as u32);
        let attributes = MapUpdate {
            map: self.map.as_raw_fd() as u32,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            ..MapUpdate::default()
        };
        // SAFETY: key and value are four bytes each, as the map was made for, and outlive the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }?;
        Ok(())
    }
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    index: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    index: u32,
    attach_type: u32,
    flags: u32,
}

/// # Safety
/// `attributes` must be the structure of `command`, and its pointers must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let at: *const T = attributes;
    // SAFETY: the caller's promise; the kernel reads as many bytes as the structure has.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, at, mem::size_of::<T>()) };
    check(result as libc::c_int)
}

/// # Safety
/// As [`bpf`], and the command must return a descriptor.
unsafe fn bpf_fd<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; a non-negative result is a fresh descriptor nobody else owns.
    unsafe { bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

fn create_map(queues: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        kind: MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
        ..MapCreate::default()
    };
    // SAFETY: no pointers.
    unsafe { bpf_fd(MAP_CREATE, &attributes) }
}

fn load(instructions: &[u64], flags: u32, index: u32) -> io::Result<OwnedFd> {
    let bound = flags & F_XDP_DEV_BOUND_ONLY != 0;
    let mut log = vec![0u8; LOG];
    let mut attributes = ProgLoad {
        kind: PROG_TYPE_XDP,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        // What the kernel asks of whoever calls functions of its own, and no less free.
        license: c"Dual MIT/GPL".as_ptr() as u64,
        flags,
        index: if bound { index } else { 0 },
        attach_type: ATTACH_TYPE_XDP,
        ..ProgLoad::default()
    };
    attributes.name[..4].copy_from_slice(b"weir");
    // SAFETY: instructions and license outlive the call, the count is right, and there is no log.
    let first = unsafe { bpf_fd(PROG_LOAD, &attributes) };
    if first.is_err() && tracing::enabled!(tracing::Level::DEBUG) {
        attributes.log_level = 1;
        attributes.log_size = LOG as u32;
        attributes.log = log.as_mut_ptr() as u64;
        // SAFETY: as above, and the log has room for as many bytes as are told.
        let _ = unsafe { bpf_fd(PROG_LOAD, &attributes) };
        tracing::debug!(
            "The verifier says: {}",
            String::from_utf8_lossy(&log).trim_end_matches('\0')
        );
    }
    first
}

fn link(program: &OwnedFd, index: u32, attach: Attach) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        index,
        attach_type: ATTACH_TYPE_XDP,
        flags: match attach {
            Attach::Native => XDP_FLAGS_DRV_MODE,
            Attach::Generic => XDP_FLAGS_SKB_MODE,
        },
    };
    let deadline = Instant::now() + BUSY;
    loop {
        // SAFETY: no pointers.
        match unsafe { bpf_fd(LINK_CREATE, &attributes) } {
            // One in the driver and one behind it cannot be at the same time, either.
            Err(e)
                if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}
