//! How long a thread takes to wake, by itself: what a switch that sleeps cannot be faster than. One sleeps in `epoll_wait` on the
//! switch's processor; the other, on the traffic's, writes to its eventfd and looks at memory until the first has answered there.

use crate::load::histogram::Histogram;
use crate::machine::{self, SWITCH_CPU, TRAFFIC_CPU};
use anyhow::{Result, anyhow};
use datapath::engine::wake::cycles;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A question that ends the sleeper.
const END: u64 = u64::MAX;

/// Runs `ask` on the traffic's processor; it is given what asks the sleeper once, and tells how many cycles that took. Also tells
/// how many nanoseconds the sleeper was on its processor.
fn with_sleeper<T: Send>(
    ask: impl FnOnce(&mut dyn FnMut() -> u64) -> T + Send,
) -> Result<(T, u64)> {
    let (question, answer) = (AtomicU64::new(0), AtomicU64::new(0));
    let kick = EventFd::new(EFD_NONBLOCK)?;
    let epoll = Epoll::new()?;
    let events = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
    epoll.ctl(
        ControlOperation::Add,
        std::os::fd::AsRawFd::as_raw_fd(&kick),
        events,
    )?;
    std::thread::scope(|s| {
        let sleeper = s.spawn(|| {
            machine::pin(SWITCH_CPU);
            let mut ready = [EpollEvent::default()];
            loop {
                // Interrupted by a signal: there is nothing new then.
                let _ = epoll.wait(-1, &mut ready);
                let asked = question.load(Ordering::Acquire);
                answer.store(asked, Ordering::Release);
                if asked == END {
                    return machine::own_time();
                }
            }
        });
        let asker = s.spawn(|| {
            machine::pin(TRAFFIC_CPU);
            let mut n = 0;
            let result = ask(&mut || {
                let start = cycles();
                n += 1;
                question.store(n, Ordering::Release);
                // A full counter would be the only failure.
                let _ = kick.write(1);
                while answer.load(Ordering::Acquire) != n {
                    std::hint::spin_loop();
                }
                cycles() - start
            });
            question.store(END, Ordering::Release);
            let _ = kick.write(1);
            result
        });
        let ended = |_| anyhow!("a thread ended");
        let result = asker.join().map_err(ended)?;
        Ok((result, sleeper.join().map_err(ended)?))
    })
}

/// Cycles until it answers after a silence, so many times.
pub fn after(silence: Duration, times: usize) -> Result<Vec<f64>> {
    let (took, _) = with_sleeper(|ask| {
        (0..times)
            .map(|_| {
                std::thread::sleep(silence);
                ask() as f64
            })
            .collect()
    })?;
    Ok(took)
}

/// Cycles until it answers when asked so many times a second, and the share of its processor that it uses.
pub fn at_rate(rate: f64, time: Duration) -> Result<(Histogram, f64)> {
    let (histogram, busy) = with_sleeper(|ask| {
        let mut histogram = Histogram::default();
        let step = machine::tsc_hz() / rate;
        let start = cycles();
        for n in 0..(time.as_secs_f64() * rate) as u64 {
            while ((cycles() - start) as f64) < n as f64 * step {
                std::hint::spin_loop();
            }
            histogram.add(ask() as u32);
        }
        histogram
    })?;
    Ok((histogram, busy as f64 / 1e9 / time.as_secs_f64()))
}
