//! Signs of life (RFC 7047 4.1.11): when a peer has been silent for as long as the interval it is
//! asked by an `echo`, and when it stays silent for as long again it is given up. Time comes from
//! outside.

use std::time::{Duration, Instant};

/// Silence after which a peer is asked, where nothing else is said, in connections over networks.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest interval that may be configured; less would drop peers that are merely busy.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The request that asks for a sign of life.
pub const ECHO: &str = r#"{"id":"echo","method":"echo","params":[]}"#;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// To send [`ECHO`].
    Ask,
    /// To give the peer up.
    GiveUp,
}

/// The watch over one peer.
#[derive(Debug)]
pub struct Probe {
    interval: Option<Duration>,
    /// When the peer was heard, or asked, last.
    since: Instant,
    asked: bool,
}

impl Probe {
    /// A watch that begins `now`; without an interval it never asks.
    pub fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self {
            interval,
            since: now,
            asked: false,
        }
    }

    /// Uses another interval from now on.
    pub fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval;
    }

    /// Something came from the peer.
    pub fn heard(&mut self, now: Instant) {
        self.since = now;
        self.asked = false;
    }

    /// When to call [`Probe::poll`] if the peer stays silent.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.since + self.interval?)
    }

    /// What is due.
    pub fn poll(&mut self, now: Instant) -> Due {
        match self.deadline() {
            Some(at) if at <= now => {}
            _ => return Due::Nothing,
        }
        if self.asked {
            return Due::GiveUp;
        }
        self.asked = true;
        self.since = now;
        Due::Ask
    }

    /// Why the peer was given up.
    pub fn reason(&self) -> String {
        let seconds = self.interval.unwrap_or_default().as_secs_f64();
        format!("no response to inactivity probe after {seconds} seconds")
    }
}

/// Waits until what is due is not [`Due::Nothing`]; may be dropped and called again without loss.
pub async fn due(probe: &mut Probe) -> Due {
    loop {
        match probe.deadline() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
        match probe.poll(tokio::time::Instant::now().into_std()) {
            Due::Nothing => {}
            due => return due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_once_and_gives_up_after_as_long_again() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut p = Probe::new(Some(Duration::from_secs(5)), start);
        assert_eq!(p.poll(at(4)), Due::Nothing);
        assert_eq!(p.poll(at(5)), Due::Ask);
        assert_eq!(p.poll(at(6)), Due::Nothing);
        p.heard(at(9));
        assert_eq!(p.poll(at(13)), Due::Nothing);
        assert_eq!(p.poll(at(14)), Due::Ask);
        assert_eq!(p.deadline(), Some(at(19)));
        assert_eq!(p.poll(at(19)), Due::GiveUp);
        assert_eq!(
            p.reason(),
            "no response to inactivity probe after 5 seconds"
        );
        assert_eq!(Probe::new(None, start).poll(at(1000)), Due::Nothing);
    }
}
