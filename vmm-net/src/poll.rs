//! Waiting: an eventfd that wakes a thread, and `poll` over it and one other thing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::error::{Context, Error, Result};

/// Wakes a thread that waits in this module. Once woken it stays so until [`Wake::clear`].
pub(crate) struct Wake(EventFd);

/// A new non-blocking eventfd.
pub(crate) fn eventfd() -> Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).context(|| "eventfd".into())
}

impl Wake {
    pub(crate) fn new() -> Result<Self> {
        Ok(Wake(eventfd()?))
    }

    pub(crate) fn wake(&self) {
        // Fails only when the counter is full: then it wakes anyway.
        let _ = self.0.write(1);
    }

    pub(crate) fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Polls `fds` (descriptor, events) until one is ready or the timeout passes; returns the events of each.
pub(crate) fn poll<const N: usize>(
    fds: [(i32, i16); N],
    timeout: Option<Duration>,
) -> io::Result<[i16; N]> {
    let mut set = fds.map(|(fd, events)| libc::pollfd {
        fd,
        events,
        revents: 0,
    });
    let ms = timeout.map_or(-1, |t| {
        i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });
    // SAFETY: `set` has N entries and lives through the call.
    let n = unsafe { libc::poll(set.as_mut_ptr(), N as libc::nfds_t, ms) };
    if n < 0 {
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
        return Ok([0; N]);
    }
    Ok(set.map(|p| p.revents))
}

/// Waits until `fd` can be read (or accepted from); `false` when `stop` is woken.
pub(crate) fn readable(fd: &impl AsFd, stop: &Wake) -> bool {
    let fd = fd.as_fd().as_raw_fd();
    loop {
        match poll([(stop.as_raw_fd(), libc::POLLIN), (fd, libc::POLLIN)], None) {
            Ok([0, 0]) => {}
            Ok([0, _]) => return true,
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Makes a listening socket at `path`. A socket that nobody listens on any more is replaced.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(Error::Config(format!(
                "{} is there already and is not a socket",
                path.display()
            )));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(Error::Config(format!(
                "someone listens on {} already",
                path.display()
            )));
        }
        std::fs::remove_file(path).context(|| format!("replacing {}", path.display()))?;
    }
    UnixListener::bind(path).context(|| format!("socket {}", path.display()))
}
