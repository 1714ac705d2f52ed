//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Long enough for anything that happens at all on a loaded two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it is true; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(PATIENCE, what, condition);
}

/// Polls `condition` until it is true; panics with `what` after `limit`.
#[track_caller]
pub fn until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls `attempt` until it gives a value; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn for_value<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, || {
        found = attempt();
        found.is_some()
    });
    found.expect("just seen")
}
