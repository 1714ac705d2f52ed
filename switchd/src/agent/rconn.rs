//! When to connect to a controller, when to ask whether it is still there, when to give it up.
//!
//! No I/O and no clock: the driver tells what happened and what time it is, and is told what to do
//! next and when to ask again. All times are durations since an origin the driver chose.
//!
//! A failed or lost connection is tried again after 1 s, 2 s, 4 s ... up to `max_backoff`; one that
//! lasted longer than its backoff starts at 1 s again. A connection on which nothing came in for the
//! probe interval is sent an echo request; if nothing came in for as long again, it is dropped.

use std::time::Duration;

/// Time since the driver's origin.
pub type Now = Duration;

/// How long a connection attempt may take, at least; the backoff if that is longer.
pub const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The smallest backoff after a failure.
pub const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// Backoff limit where the database gives none.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(8);
/// Probe interval where the database gives none.
pub const DEFAULT_PROBE: Duration = Duration::from_secs(5);

/// Where a connection stands; the names are those of `Controller.status:state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting before the next attempt.
    Backoff,
    /// An attempt is under way.
    Connecting,
    /// Connected.
    Active,
    /// Connected, an echo request is out.
    Idle,
}

impl State {
    /// As in `Controller.status:state`.
    pub fn name(self) -> &'static str {
        match self {
            State::Backoff => "BACKOFF",
            State::Connecting => "CONNECTING",
            State::Active => "ACTIVE",
            State::Idle => "IDLE",
        }
    }
}

/// What the driver is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start an attempt and report [`Reconnect::connected`] or [`Reconnect::failed`].
    Connect,
    /// Send an echo request.
    Probe,
    /// Give the attempt or connection up; the state is already the next one.
    Disconnect,
    /// Nothing before this time.
    WaitUntil(Now),
    /// Nothing until something happens.
    Wait,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Reconnect {
    state: State,
    since: Now,
    backoff: Duration,
    max_backoff: Duration,
    probe: Option<Duration>,
    last_activity: Now,
    last_connected: Option<Now>,
    last_disconnected: Option<Now>,
    created: Now,
    last_error: Option<String>,
}

impl Reconnect {
    /// A connection that will be attempted at once. `probe` of `None` never probes.
    pub fn new(now: Now, max_backoff: Duration, probe: Option<Duration>) -> Reconnect {
        Reconnect {
            state: State::Backoff,
            since: now,
            backoff: Duration::ZERO,
            max_backoff: max_backoff.max(MIN_BACKOFF),
            probe,
            last_activity: now,
            last_connected: None,
            last_disconnected: None,
            created: now,
            last_error: None,
        }
    }

    /// A connection that a passive listener accepted: connected from the start.
    pub fn accepted(now: Now, probe: Option<Duration>) -> Reconnect {
        let mut r = Reconnect::new(now, DEFAULT_MAX_BACKOFF, probe);
        r.connected(now);
        r
    }

    /// New limits from the database; they count from now on.
    pub fn set_limits(&mut self, max_backoff: Duration, probe: Option<Duration>) {
        self.max_backoff = max_backoff.max(MIN_BACKOFF);
        self.backoff = self.backoff.min(self.max_backoff);
        self.probe = probe;
    }

    /// What to do.
    pub fn poll(&mut self, now: Now) -> Step {
        match self.state {
            State::Backoff => {
                let due = self.since + self.backoff;
                if now >= due {
                    self.enter(State::Connecting, now);
                    Step::Connect
                } else {
                    Step::WaitUntil(due)
                }
            }
            State::Connecting => {
                let due = self.since + self.backoff.max(CONNECT_TIMEOUT_MIN);
                if now >= due {
                    self.failed(now, "Connection timed out");
                    Step::Disconnect
                } else {
                    Step::WaitUntil(due)
                }
            }
            State::Active => match self.probe {
                None => Step::Wait,
                Some(interval) => {
                    let due = self.since.max(self.last_activity) + interval;
                    if now >= due {
                        self.enter(State::Idle, now);
                        Step::Probe
                    } else {
                        Step::WaitUntil(due)
                    }
                }
            },
            State::Idle => match self.probe {
                None => {
                    self.enter(State::Active, now);
                    Step::Wait
                }
                Some(interval) => {
                    let due = self.since + interval;
                    if now >= due {
                        self.failed(now, "Connection timed out");
                        Step::Disconnect
                    } else {
                        Step::WaitUntil(due)
                    }
                }
            },
        }
    }

    /// The attempt succeeded.
    pub fn connected(&mut self, now: Now) {
        self.last_activity = now;
        self.last_connected = Some(now);
        self.last_error = None;
        self.enter(State::Active, now);
    }

    /// The attempt failed or the connection ended, for this reason.
    pub fn failed(&mut self, now: Now, why: impl Into<String>) {
        let was_up = self.is_connected();
        if was_up {
            self.last_disconnected = Some(now);
            let lasted = now.saturating_sub(self.last_connected.unwrap_or(now));
            if lasted > self.backoff {
                self.backoff = Duration::ZERO;
            }
        }
        self.last_error = Some(why.into());
        self.backoff = (self.backoff * 2).clamp(MIN_BACKOFF, self.max_backoff);
        self.enter(State::Backoff, now);
    }

    /// Something came in.
    pub fn activity(&mut self, now: Now) {
        self.last_activity = now;
        if self.state == State::Idle {
            self.enter(State::Active, now);
        }
    }

    /// Drops the connection and tries again at once (`bridge/reconnect`).
    pub fn reconnect(&mut self, now: Now) {
        if self.is_connected() {
            self.last_disconnected = Some(now);
        }
        self.backoff = Duration::ZERO;
        self.enter(State::Backoff, now);
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Active | State::Idle)
    }

    /// How long it has been without a connection; zero while there is one.
    pub fn disconnected_for(&self, now: Now) -> Duration {
        if self.is_connected() {
            Duration::ZERO
        } else {
            now.saturating_sub(self.last_disconnected.unwrap_or(self.created))
        }
    }

    /// Time since the last connection began, if there ever was one.
    pub fn since_connect(&self, now: Now) -> Option<Duration> {
        self.last_connected.map(|t| now.saturating_sub(t))
    }

    /// Time since the last connection ended, if one did.
    pub fn since_disconnect(&self, now: Now) -> Option<Duration> {
        self.last_disconnected.map(|t| now.saturating_sub(t))
    }

    /// Why the last attempt or connection ended.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The probe interval.
    pub fn probe(&self) -> Option<Duration> {
        self.probe
    }

    fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn backs_off_one_two_four_eight_and_starts_again_after_a_good_connection() {
        let mut r = Reconnect::new(s(0), s(8), Some(s(5)));
        let mut now = s(0);
        for wait in [1, 2, 4, 8, 8] {
            assert_eq!(r.poll(now), Step::Connect);
            r.failed(now, "Connection refused");
            assert_eq!(r.poll(now), Step::WaitUntil(now + s(wait)));
            now += s(wait);
        }
        assert_eq!(r.disconnected_for(now), now);
        assert_eq!(r.poll(now), Step::Connect);
        r.connected(now);
        assert_eq!(r.last_error(), None);
        now += s(60);
        r.failed(now, "Connection reset by peer");
        assert_eq!(r.poll(now), Step::WaitUntil(now + s(1)));
        assert_eq!(r.since_disconnect(now + s(1)), Some(s(1)));
    }

    #[test]
    fn probes_a_silent_peer_and_drops_it_after_as_long_again() {
        let mut r = Reconnect::new(s(0), s(8), Some(s(5)));
        assert_eq!(r.poll(s(0)), Step::Connect);
        r.connected(s(0));
        assert_eq!(r.poll(s(3)), Step::WaitUntil(s(5)));
        r.activity(s(3));
        assert_eq!(r.poll(s(5)), Step::WaitUntil(s(8)));
        assert_eq!(r.poll(s(8)), Step::Probe);
        assert_eq!(r.state(), State::Idle);
        r.activity(s(9));
        assert_eq!(r.state(), State::Active);
        assert_eq!(r.poll(s(14)), Step::Probe);
        assert_eq!(r.poll(s(18)), Step::WaitUntil(s(19)));
        assert_eq!(r.poll(s(19)), Step::Disconnect);
        assert!(!r.is_connected());
        assert_eq!(r.last_error(), Some("Connection timed out"));
    }

    #[test]
    fn without_a_probe_interval_it_never_gives_up() {
        let mut r = Reconnect::accepted(s(0), None);
        assert_eq!(r.poll(s(1_000_000)), Step::Wait);
    }

    #[test]
    fn an_attempt_that_hangs_is_given_up() {
        let mut r = Reconnect::new(s(0), s(8), None);
        assert_eq!(r.poll(s(0)), Step::Connect);
        assert_eq!(r.poll(s(0)), Step::WaitUntil(s(1)));
        assert_eq!(r.poll(s(1)), Step::Disconnect);
        assert_eq!(r.state(), State::Backoff);
    }
}
