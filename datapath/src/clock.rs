//! The datapath's clock: real, or stopped and moved by a test (`time/stop`, `time/warp`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time since the datapath started, as far as it is concerned.
pub type Now = Duration;

/// A clock that all of a datapath shares.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    base: Instant,
    /// Nanoseconds by which the clock was moved on.
    warped: AtomicU64,
    /// Where it stands while stopped; `RUNNING` while it runs.
    stopped: AtomicU64,
}

const RUNNING: u64 = u64::MAX;

impl Clock {
    /// A clock that runs.
    pub fn real() -> Clock {
        Clock(Arc::new(Shared {
            base: Instant::now(),
            warped: AtomicU64::new(0),
            stopped: AtomicU64::new(RUNNING),
        }))
    }

    /// A clock that stands at zero until it is warped.
    pub fn manual() -> Clock {
        let clock = Clock::real();
        clock.0.stopped.store(0, Ordering::Relaxed);
        clock
    }

    /// The time.
    pub fn now(&self) -> Now {
        Duration::from_nanos(match self.0.stopped.load(Ordering::Acquire) {
            RUNNING => {
                self.0.base.elapsed().as_nanos() as u64 + self.0.warped.load(Ordering::Relaxed)
            }
            stopped => stopped,
        })
    }

    /// Stops it.
    pub fn stop(&self) {
        self.0
            .stopped
            .store(self.now().as_nanos() as u64, Ordering::Release);
    }

    /// Moves it on.
    pub fn warp(&self, by: Duration) {
        let by = by.as_nanos() as u64;
        if self.0.stopped.load(Ordering::Acquire) == RUNNING {
            self.0.warped.fetch_add(by, Ordering::Relaxed);
        } else {
            self.0.stopped.fetch_add(by, Ordering::AcqRel);
        }
    }
}
