//! Sleeping until a packet or a message comes, and counting cycles.
//!
//! A thread has one epoll for as long as it lives. A receive queue's descriptor is put into it when the queue first asks
//! for notification, and taken out when the queue goes; so a sleep is one system call, whatever the number of
//! ports. Descriptors are edge triggered: each notification is told once, and none is ever read to silence it. The price is a rule:
//! after a queue was told of, it is asked for packets until it has none, and once more after it was armed.

use crate::sys::event::Epoll;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What other threads wake a forwarding thread by.
#[derive(Debug)]
pub struct Waker(OwnedFd);

/// The waker's place among the tokens.
const WAKER: u64 = u64::MAX;

impl Waker {
    /// A new one.
    pub fn new() -> std::io::Result<Waker> {
        Ok(Waker(eventfd(
            0,
            EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC,
        )?))
    }

    /// Wakes the thread. Only worth its system call while the thread is asleep or about to be.
    pub fn wake(&self) {
        // A full counter, after 2^64 wakes, would be the only failure.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// What a thread sleeps on.
#[derive(Debug)]
pub struct Sleeper(Epoll);

impl Sleeper {
    /// One that `waker` wakes.
    pub fn new(waker: &Waker) -> std::io::Result<Sleeper> {
        let epoll = Epoll::new()?;
        epoll.add_edge(waker.0.as_raw_fd(), WAKER)?;
        Ok(Sleeper(epoll))
    }

    /// Waits for `fd` too, told of as `token`.
    pub fn add(&self, fd: RawFd, token: u64) -> std::io::Result<()> {
        self.0.add_edge(fd, token)
    }

    /// Waits for `fd` no more. Before it is closed.
    pub fn remove(&self, fd: RawFd) {
        // It fails only for what is not in it.
        let _ = self.0.remove(fd);
    }

    /// Sleeps until woken, until a descriptor says so (then `ready` has its token), or for `timeout`; `None` is for ever.
    pub fn sleep(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) {
        let _ = self.0.wait_for(timeout, |token| {
            if token != WAKER {
                ready(token);
            }
        });
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
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_nanos() as u64
    }
}

/// How many [`cycles`] a microsecond has; measured once, for a millisecond.
pub fn cycles_per_us() -> u64 {
    static RATE: LazyLock<u64> = LazyLock::new(|| {
        let (start, at) = (Instant::now(), cycles());
        while start.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        let spent = start.elapsed().as_nanos() as u64;
        (cycles().wrapping_sub(at) * 1000 / spent).max(1)
    });
    *RATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notification_is_told_once_without_reading_it() {
        let waker = Waker::new().unwrap();
        let sleeper = Sleeper::new(&waker).unwrap();
        let guest = Waker::new().unwrap();
        // As ports do it: the guest's descriptor in an epoll of the port's, which nobody reads.
        let inner = Epoll::new().unwrap();
        inner.add(guest.0.as_raw_fd(), 0).unwrap();
        sleeper.add(inner.as_raw_fd(), 7).unwrap();
        let told = |timeout| {
            let mut told = Vec::new();
            sleeper.sleep(Some(Duration::from_millis(timeout)), |t| told.push(t));
            told
        };
        assert_eq!(told(0), [0u64; 0]);
        for _ in 0..3 {
            guest.wake();
            assert_eq!(told(5000), [7]);
            assert_eq!(told(0), [0u64; 0]);
        }
        let start = Instant::now();
        waker.wake();
        assert_eq!(told(60_000), [0u64; 0]);
        assert!(start.elapsed() < Duration::from_secs(30));
        // What is readable when it is added is told, too.
        sleeper.remove(inner.as_raw_fd());
        sleeper.add(inner.as_raw_fd(), 8).unwrap();
        assert_eq!(told(5000), [8]);
    }

    #[test]
    fn cycles_have_a_rate() {
        assert!(
            (100..=100_000).contains(&cycles_per_us()),
            "{}",
            cycles_per_us()
        );
    }
}
