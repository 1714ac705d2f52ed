//! A bridge's own flows: what its fail mode asks for.

use super::failmode::{FAIL_OPEN_PRIORITY, FlowChange};
use super::rconn::DEFAULT_PROBE;
use super::{Bridge, HIDDEN_COOKIE};
use crate::plane::Change;
use openflow::{Action, FlowMod, FlowModCommand, Instructions, Match, PortNo, TABLE_ALL};
use std::sync::PoisonError;
use std::time::Duration;

impl Bridge {
    /// Fails open or recovers, as the controllers' state asks; to be called about once a second.
    pub fn tick(&self) {
        let now = self.now();
        let mut inner = self.lock();
        let mut gone: Option<Duration> = None;
        let mut probe = Duration::ZERO;
        for c in inner.controllers.values().filter(|c| !c.conf.service) {
            let status = c.status.lock().unwrap_or_else(PoisonError::into_inner);
            let d = match (&status.reconnect, status.accepted) {
                (Some(r), _) => r.disconnected_for(now),
                (None, Some(n)) if n > 0 => Duration::ZERO,
                _ => now,
            };
            gone = Some(gone.map_or(d, |g| g.min(d)));
            probe = probe.max(c.conf.probe.unwrap_or(DEFAULT_PROBE));
        }
        let change = gone.and_then(|gone| {
            let change = inner.fail.tick(gone, probe);
            if change == Some(FlowChange::FailOpen) {
                tracing::warn!(
                    target: "switchd::agent::failmode",
                    "{}: could not connect to controller for {} seconds, failing open",
                    self.name,
                    gone.as_secs()
                );
            }
            change
        });
        drop(inner);
        self.change_flows(change);
    }

    pub(super) fn change_flows(&self, change: Option<FlowChange>) {
        let Some(change) = change else { return };
        let delete = |cookie: Option<u64>| FlowMod {
            command: FlowModCommand::Delete,
            table: TABLE_ALL,
            cookie: cookie.unwrap_or(0),
            cookie_mask: cookie.map_or(0, |_| u64::MAX),
            ..FlowMod::add(Match::new(), Instructions::default())
        };
        let normal = |priority: u16, cookie: u64| FlowMod {
            priority,
            cookie,
            ..FlowMod::add(
                Match::new(),
                Instructions::apply(vec![Action::Output {
                    port: PortNo::NORMAL,
                    max_len: 0,
                }]),
            )
        };
        let mods = match change {
            FlowChange::Flush { normal: false } => vec![delete(None)],
            FlowChange::Flush { normal: true } => vec![delete(None), normal(0, 0)],
            FlowChange::FailOpen => {
                vec![delete(None), normal(FAIL_OPEN_PRIORITY, HIDDEN_COOKIE)]
            }
            FlowChange::Recover => {
                tracing::info!(
                    target: "switchd::agent::failmode",
                    "{}: no longer in fail-open mode", self.name
                );
                vec![delete(Some(HIDDEN_COOKIE))]
            }
        };
        self.lock().hidden = change == FlowChange::FailOpen;
        let changes: Vec<Change> = mods.into_iter().map(Change::Flow).collect();
        if let Err((i, e)) = self.change(&changes, 0) {
            tracing::error!("{}: {change:?}: step {i} failed: {e}", self.name);
        }
    }
}
