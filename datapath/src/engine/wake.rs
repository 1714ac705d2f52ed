//! Sleeping until a packet or a message comes, and counting cycles.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// What other threads wake a forwarding thread by.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A new one.
    pub fn new() -> std::io::Result<Waker> {
        Ok(Waker(eventfd(
            0,
            EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC,
        )?))
    }

    /// Wakes the thread, now or when it next wants to sleep.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Sleeps until woken, until one of `fds` is readable, or for `timeout`. One system call for all, and
    /// no state in the kernel: descriptors come and go with guests.
    ///
    /// The caller's queues own `fds` and are not touched during the call.
    pub fn sleep(&self, fds: &[RawFd], timeout: Option<Duration>) {
        let mut set: Vec<PollFd> = Vec::with_capacity(fds.len() + 1);
        set.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN));
        for &fd in fds.iter().filter(|fd| **fd >= 0) {
            // SAFETY: the descriptor belongs to a receive queue of the calling thread, which is
            // neither dropped nor used before this returns.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            set.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: t.subsec_nanos().into(),
        });
        let _ = poll(&mut set, timeout.as_ref());
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

/// The processor's time stamp, or nanoseconds where there is none.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has the instruction, and Linux does not forbid it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_nanos() as u64
    }
}
