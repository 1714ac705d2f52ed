//! Unix stream sockets that carry descriptors (unix(7), SCM_RIGHTS).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::check_len;

/// Descriptors accepted with one read. The vhost-user protocol passes at most eight; the kernel closes the others.
pub const MAX_FDS: usize = 8;

/// Longest path of a socket in bytes (`sun_path` less its terminator).
pub const MAX_PATH: usize = 107;

/// Bytes of control data for [`MAX_FDS`] descriptors, in words so that it is aligned as `cmsghdr` needs.
const CONTROL_WORDS: usize = 8;

/// Reads up to `into.len()` bytes and the descriptors that came with them. `Ok((0, _))` is the end of the stream.
/// Never blocks.
pub fn receive(fd: RawFd, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: all-zero bytes are a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: `message` points at one iovec over `into` and at `control`, both alive and writable during the call.
    let result = unsafe {
        libc::recvmsg(
            fd,
            &mut message,
            libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
        )
    };
    let len = check_len(result)?;
    let mut fds = Vec::new();
    // SAFETY: the kernel filled in `message`; its control area is `control`, which is still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header whole inside the control area.
        let (level, kind, bytes) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len,
            )
        };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: pure arithmetic.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = bytes.saturating_sub(head) / mem::size_of::<RawFd>();
            // SAFETY: the data of this message lies behind its header, inside the control area.
            let data = unsafe { libc::CMSG_DATA(header) };
            for i in 0..count {
                // SAFETY: the kernel stored `count` descriptors there, each now ours alone; alignment is not assumed.
                let fd = unsafe {
                    data.add(i * mem::size_of::<RawFd>())
                        .cast::<RawFd>()
                        .read_unaligned()
                };
                // SAFETY: as above.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: `message` and `control` are unchanged since recvmsg.
        header = unsafe { libc::CMSG_NXTHDR(&message, header) };
    }
    Ok((len, fds))
}

/// Writes `bytes` with `fds` attached to the first of them; returns how many bytes went out. At most [`MAX_FDS`].
pub fn send(fd: RawFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} descriptors, at most {MAX_FDS}", fds.len()),
        ));
    }
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let payload = mem::size_of_val(fds) as u32;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
        // SAFETY: the control area is `control`, large enough for one header and MAX_FDS descriptors (64 >= 16 + 32),
        // so CMSG_FIRSTHDR returns its start.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            let data = libc::CMSG_DATA(header);
            for (i, fd) in fds.iter().enumerate() {
                data.add(i * mem::size_of::<RawFd>())
                    .cast::<RawFd>()
                    .write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: `message` points at one iovec over `bytes` (only read by sendmsg) and at `control`, alive during the call.
    check_len(unsafe { libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL) })
}

/// Connects to the socket at `path`. Never blocks: a listener whose queue is full is `WouldBlock`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all-zero bytes are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    if bytes.is_empty() || bytes.len() > MAX_PATH || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a socket path has 1 to {MAX_PATH} bytes"),
        ));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    // SAFETY: no pointers; a non-negative result is a fresh descriptor nobody else owns.
    let fd = super::check(unsafe {
        libc::socket(
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    })?;
    // SAFETY: as above.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let len = mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `address` is an initialised sockaddr_un of `len` bytes with a terminated path.
    super::check(unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_travel_with_the_first_byte() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut keep, give) = UnixStream::pair().unwrap();
        assert_eq!(
            send(a.as_raw_fd(), b"hello", &[give.as_fd(), give.as_fd()]).unwrap(),
            5
        );
        let mut buf = [0u8; 2];
        let (n, fds) = receive(b.as_raw_fd(), &mut buf).unwrap();
        assert_eq!((n, fds.len()), (2, 2));
        keep.write_all(b"x").unwrap();
        let mut one = [0u8; 4];
        assert_eq!(receive(fds[1].as_raw_fd(), &mut one).unwrap().0, 1);
        let (n, fds) = receive(b.as_raw_fd(), &mut one).unwrap();
        assert_eq!((n, fds.len(), &one[..3]), (3, 0, &b"llo"[..]));
        assert_eq!(
            receive(b.as_raw_fd(), &mut one).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(a);
        assert_eq!(receive(b.as_raw_fd(), &mut one).unwrap().0, 0);
    }
}
