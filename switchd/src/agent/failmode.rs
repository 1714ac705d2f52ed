//! What a bridge does without its controllers.
//!
//! No I/O and no clock. A *standalone* bridge that has no controllers at all holds one ordinary
//! flow, `priority=0 actions=NORMAL`, and so learns by itself. One that has controllers but lost
//! them all for three probe intervals *fails open*: its flows are flushed and one hidden flow of
//! [`FAIL_OPEN_PRIORITY`] forwards as NORMAL, until a controller is there again; that controller
//! installs its flows anew. A *secure* bridge does nothing of the kind, and keeps its flows.
//! Getting the first controller, or losing the last from the configuration, starts from empty tables.

use std::time::Duration;

/// `Bridge.fail_mode`. An empty column means standalone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailMode {
    /// Forward as an ordinary learning switch.
    #[default]
    Standalone,
    /// Forward only what flows say.
    Secure,
}

/// Priority of the fail-open rule: above what OpenFlow can name, so that no controller's flow is in
/// its way. Clamped by a table whose priorities are 16 bits wide.
pub const FAIL_OPEN_PRIORITY: u16 = u16::MAX;

/// What the state of things asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// Remove every flow, then, if `normal`, add the visible `priority=0 actions=NORMAL`.
    Flush {
        /// Whether the bridge forwards by itself afterwards.
        normal: bool,
    },
    /// Remove every flow and add the hidden fail-open rule.
    FailOpen,
    /// Remove the hidden fail-open rule.
    Recover,
}

/// The state machine of one bridge.
#[derive(Clone, Debug, Default)]
pub struct FailModes {
    mode: FailMode,
    has_controllers: bool,
    open: bool,
    started: bool,
}

impl FailModes {
    /// A bridge whose tables are empty and whose configuration is not known yet.
    pub fn new() -> FailModes {
        FailModes::default()
    }

    /// The configuration: mode, and whether any (non-service) controller is configured.
    pub fn configure(&mut self, mode: FailMode, has_controllers: bool) -> Option<FlowChange> {
        let flush = !self.started
            || self.has_controllers != has_controllers
            || (self.mode != mode && !has_controllers);
        let recover = self.open && (mode == FailMode::Secure || !has_controllers);
        self.mode = mode;
        self.has_controllers = has_controllers;
        self.started = true;
        if recover {
            self.open = false;
        }
        if flush {
            Some(FlowChange::Flush {
                normal: mode == FailMode::Standalone && !has_controllers,
            })
        } else if recover {
            Some(FlowChange::Recover)
        } else {
            None
        }
    }

    /// How long all controllers have been gone (zero if one is there), and the longest probe
    /// interval among them.
    pub fn tick(&mut self, disconnected_for: Duration, probe: Duration) -> Option<FlowChange> {
        if !self.has_controllers || self.mode == FailMode::Secure {
            return None;
        }
        if disconnected_for.is_zero() {
            if self.open {
                self.open = false;
                return Some(FlowChange::Recover);
            }
        } else if !self.open && disconnected_for >= probe * 3 {
            self.open = true;
            return Some(FlowChange::FailOpen);
        }
        None
    }

    /// Whether the bridge has failed open.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Duration = Duration::from_secs(5);

    #[test]
    fn standalone_without_controllers_forwards_and_secure_does_not() {
        let mut f = FailModes::new();
        assert_eq!(
            f.configure(FailMode::Standalone, false),
            Some(FlowChange::Flush { normal: true })
        );
        assert_eq!(f.configure(FailMode::Standalone, false), None);
        assert_eq!(
            f.configure(FailMode::Secure, false),
            Some(FlowChange::Flush { normal: false })
        );
        assert_eq!(
            f.configure(FailMode::Secure, true),
            Some(FlowChange::Flush { normal: false })
        );
        assert_eq!(f.configure(FailMode::Secure, true), None);
        assert_eq!(f.tick(Duration::from_secs(100), PROBE), None);
    }

    #[test]
    fn fails_open_after_three_probe_intervals_and_recovers_once() {
        let mut f = FailModes::new();
        f.configure(FailMode::Standalone, true);
        assert_eq!(f.tick(Duration::from_secs(14), PROBE), None);
        assert_eq!(
            f.tick(Duration::from_secs(15), PROBE),
            Some(FlowChange::FailOpen)
        );
        assert_eq!(f.tick(Duration::from_secs(16), PROBE), None);
        assert!(f.is_open());
        assert_eq!(f.tick(Duration::ZERO, PROBE), Some(FlowChange::Recover));
        assert_eq!(f.tick(Duration::ZERO, PROBE), None);
    }

    #[test]
    fn turning_secure_while_open_closes() {
        let mut f = FailModes::new();
        f.configure(FailMode::Standalone, true);
        f.tick(Duration::from_secs(60), PROBE);
        assert_eq!(
            f.configure(FailMode::Secure, true),
            Some(FlowChange::Recover)
        );
        assert!(!f.is_open());
    }
}
