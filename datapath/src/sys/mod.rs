//! System calls the packet path needs, each behind a safe function that owns its descriptors.
//!
//! `std` has no eventfd, epoll, descriptor passing, tun or packet socket, so these few modules call `libc`
//! directly. Nothing here knows packets or ports: bytes, descriptors and `io::Error` only.

pub mod datagram;
pub mod event;
pub mod fault;
pub mod frames;
pub mod link;
pub mod mmap;
pub mod packet_ring;
pub mod packet_socket;
pub mod tun;
pub mod unix;
pub mod xdp;

use std::io;
use std::os::fd::RawFd;

/// Turns the C convention "negative means look at errno" into a `Result`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// [`check`] for calls that return a byte count.
pub(crate) fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Switches a descriptor to non-blocking mode.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: fcntl reads and writes no memory of ours for these two commands.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// What [`poll`] found for one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Reading will not block (data, end of file, or an error to be read).
    pub read: bool,
    /// Writing will not block.
    pub write: bool,
    /// The other end is gone or the descriptor is in error.
    pub hang_up: bool,
}

/// Waits until one of `fds` is ready to be read (and written, where the flag is set) or `timeout_ms` has passed
/// (-1: forever). An interrupted wait reports nothing ready.
pub fn poll<const N: usize>(fds: [(RawFd, bool); N], timeout_ms: i32) -> io::Result<[Ready; N]> {
    let mut list = fds.map(|(fd, write)| libc::pollfd {
        fd,
        events: libc::POLLIN | if write { libc::POLLOUT } else { 0 },
        revents: 0,
    });
    // SAFETY: `list` is an array of N initialised pollfd structures that outlives the call.
    let n = unsafe { libc::poll(list.as_mut_ptr(), N as libc::nfds_t, timeout_ms) };
    if n < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok([Ready::default(); N]);
    }
    Ok(list.map(|entry| Ready {
        read: entry.revents & libc::POLLIN != 0,
        write: entry.revents & libc::POLLOUT != 0,
        hang_up: entry.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0,
    }))
}
