//! A bridge's own flows: what its fail mode and in-band control ask for. They outlive whatever controllers
//! delete.

use super::failmode::{FAIL_OPEN_PRIORITY, FlowChange};
use super::in_band::{self, Remote};
use super::rconn::DEFAULT_PROBE;
use super::{Bridge, HIDDEN_COOKIE, target};
use crate::plane::Change;
use openflow::{Action, FlowMod, FlowModCommand, Instructions, Match, PortNo, TABLE_ALL};
use ovsdb::Target;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
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
        self.refresh_in_band();
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
        let own = mods
            .last()
            .filter(|_| change == FlowChange::FailOpen)
            .cloned();
        self.lock().fail_open = None;
        let changes: Vec<Change> = mods.into_iter().map(Change::Flow).collect();
        if let Err((i, e)) = self.change(&changes, 0) {
            tracing::error!("{}: {change:?}: step {i} failed: {e}", self.name);
        }
        self.lock().fail_open = own;
    }

    /// Puts the switch's own rules in again where changes deleted flows.
    pub(super) fn restore_hidden<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) {
        let deletes = changes.into_iter().any(|c| {
            matches!(c, Change::Flow(m) if matches!(
                m.command,
                FlowModCommand::Delete | FlowModCommand::DeleteStrict
            ))
        });
        let own: Vec<Change> = {
            let inner = self.lock();
            if !deletes || inner.in_band.is_empty() && inner.fail_open.is_none() {
                return;
            }
            let own = inner.in_band.iter().chain(&inner.fail_open);
            own.cloned().map(Change::Flow).collect()
        };
        self.put_own(&own);
    }

    fn put_own(&self, own: &[Change]) {
        if let Err((i, e)) = self.plane.changes_atomic(&self.name, own, 0) {
            tracing::error!("{}: the switch's own rule {i}: {e}", self.name);
        }
    }

    /// Makes the rules of in-band control be what the way to the controllers asks for; to be called about
    /// once a second.
    pub(super) fn refresh_in_band(&self) {
        let (mut remotes, queue) = {
            let inner = self.lock();
            let wanted = inner.controllers.values().filter(|c| c.conf.in_band);
            let remotes = wanted.filter_map(|c| remote(&c.conf.target));
            (remotes.collect::<BTreeSet<Remote>>(), inner.in_band_queue)
        };
        let mut local = None;
        if !remotes.is_empty() {
            let table = |name| std::fs::read_to_string(name).unwrap_or_default();
            let routes = table("/proc/net/route");
            let neighbours = table("/proc/net/arp");
            remotes = remotes
                .into_iter()
                .map(|r| Remote {
                    next_hop: in_band::next_hop(r.ip, &routes, &neighbours),
                    ..r
                })
                .collect();
            let state = self.plane.port_state(&self.name, PortNo::LOCAL);
            local = state.and_then(|s| s.mac);
        }
        let rules = in_band::rules(local, &remotes, queue);
        let mut inner = self.lock();
        if inner.in_band == rules {
            return;
        }
        let gone = |old: &&FlowMod| !rules.contains(old);
        let delete = |old: &FlowMod| FlowMod {
            command: FlowModCommand::DeleteStrict,
            instructions: Instructions::default(),
            ..old.clone()
        };
        let changes: Vec<Change> = inner
            .in_band
            .iter()
            .filter(gone)
            .map(delete)
            .chain(rules.iter().cloned())
            .map(Change::Flow)
            .collect();
        inner.in_band = rules;
        drop(inner);
        self.put_own(&changes);
    }
}

/// A controller that is called by an IPv4 address beyond this host.
fn remote(target: &str) -> Option<Remote> {
    let (Target::Tcp { host, port } | Target::Ssl { host, port }) =
        target::parse(target, Path::new("")).ok()?
    else {
        return None;
    };
    let ip: Ipv4Addr = host.parse().ok()?;
    (!ip.is_loopback()).then_some(Remote {
        ip,
        port,
        next_hop: None,
    })
}
