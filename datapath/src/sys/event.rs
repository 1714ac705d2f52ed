//! Eventfd and epoll.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::{check, check_len};

/// A counter in the kernel that wakes whoever waits for it (eventfd(2)), never blocking.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// Makes a new one with a count of zero.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: eventfd takes no pointers; a non-negative result is a fresh descriptor nobody else owns.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: as above.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes a descriptor somebody passed to us. It is made non-blocking, so that whatever it really is, signalling
    /// it cannot hang the caller.
    pub fn from_fd(fd: OwnedFd) -> io::Result<EventFd> {
        super::set_nonblocking(fd.as_raw_fd())?;
        Ok(EventFd(fd))
    }

    /// Adds one to the count. A full counter (the other side does not read it) is no error: it is signalled already.
    pub fn signal(&self) -> io::Result<()> {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes at `one`.
        let result = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        match check_len(result) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Resets the count and says whether it was above zero.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes at `count`.
        let result =
            unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        result > 0
    }

    /// A second handle to the same counter.
    pub fn try_clone(&self) -> io::Result<EventFd> {
        Ok(EventFd(self.0.try_clone()?))
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(event: EventFd) -> OwnedFd {
        event.0
    }
}

/// A set of descriptors to wait for (epoll(7)).
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// How many ready descriptors one [`Epoll::wait`] reports at most; the others are reported by the next.
pub const EPOLL_EVENTS: usize = 64;

impl Epoll {
    /// Makes an empty set.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: epoll_create1 takes no pointers; a non-negative result is a fresh descriptor nobody else owns.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: as above.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds `fd`, to be reported as `token` when it can be read or is in error.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control_add(fd, token, libc::EPOLLIN)
    }

    /// Adds `fd`, to be reported as `token` once each time something comes to be read there, and at once if it can be read
    /// already.
    pub fn add_edge(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control_add(fd, token, libc::EPOLLIN | libc::EPOLLET)
    }

    fn control_add(&self, fd: RawFd, token: u64, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: token,
        };
        // SAFETY: `event` is initialised and outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Removes `fd`. (A closed descriptor leaves by itself.)
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` is initialised and outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, &mut event) })?;
        Ok(())
    }

    /// Waits up to `timeout_ms` (-1: forever) and calls `ready` with each token. Returns how many; an interrupted wait
    /// is zero.
    pub fn wait(&self, timeout_ms: i32, ready: impl FnMut(u64)) -> io::Result<usize> {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        self.wait_for(timeout, ready)
    }

    /// The same, to the nanosecond where the kernel can (Linux 5.11), else to the millisecond, rounded down; none is for ever.
    pub fn wait_for(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(u64),
    ) -> io::Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EPOLL_EVENTS];
        let mut n = self.wait_precisely(timeout, &mut events);
        if matches!(&n, Err(e) if e.raw_os_error() == Some(libc::ENOSYS)) {
            let ms = timeout.map_or(-1, |t| t.as_millis().min(i32::MAX as u128) as i32);
            // SAFETY: `events` has room for EPOLL_EVENTS structures and outlives the call.
            n = check(unsafe {
                libc::epoll_wait(
                    self.0.as_raw_fd(),
                    events.as_mut_ptr(),
                    EPOLL_EVENTS as libc::c_int,
                    ms,
                )
            })
            .map(|n| n as usize);
        }
        match n {
            Ok(n) => {
                for event in &events[..n] {
                    ready(event.u64);
                }
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// epoll_pwait2(2).
    fn wait_precisely(
        &self,
        timeout: Option<Duration>,
        events: &mut [libc::epoll_event; EPOLL_EVENTS],
    ) -> io::Result<usize> {
        let time = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: t.subsec_nanos().into(),
        });
        let at = time
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref::<libc::timespec>);
        // SAFETY: `events` has room for EPOLL_EVENTS structures; `at` is null or points to `time`; both outlive the call, and no
        // signal mask is given.
        check_len(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                EPOLL_EVENTS as libc::c_int,
                at,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            ) as isize
        })
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_wakes_an_epoll_once_until_cleared() {
        let event = EventFd::new().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(event.as_raw_fd(), 7).unwrap();
        assert_eq!(
            epoll.wait(0, |_| panic!("nothing was signalled")).unwrap(),
            0
        );
        event.signal().unwrap();
        event.try_clone().unwrap().signal().unwrap();
        let mut seen = Vec::new();
        assert_eq!(epoll.wait(1000, |token| seen.push(token)).unwrap(), 1);
        assert_eq!(seen, [7]);
        assert!(event.clear());
        assert!(!event.clear());
        assert_eq!(epoll.wait(0, |_| ()).unwrap(), 0);
        epoll.remove(event.as_raw_fd()).unwrap();
        event.signal().unwrap();
        assert_eq!(epoll.wait(0, |_| ()).unwrap(), 0);
    }

    #[test]
    fn a_full_counter_is_no_error() {
        let event = EventFd::new().unwrap();
        let full = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: eight readable bytes at `full`.
        let n = unsafe { libc::write(event.as_raw_fd(), full.as_ptr().cast(), 8) };
        assert_eq!(n, 8);
        event.signal().unwrap();
    }
}
