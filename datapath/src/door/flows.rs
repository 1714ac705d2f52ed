//! Flows, packets of controllers, learned addresses, and what time does to them.

use super::{Datapath, no_bridge, seen};
use crate::action;
use crate::bridge::{Bridge, BridgeState};
use crate::clock::Now;
use crate::config::*;
use crate::engine::thread::Message;
use crate::flow::{FlowKey, format_key};
use crate::table::{Effects, Limits, Removed};
use openflow::error::ErrorKind;
use openflow::{AggregateStats, FlowFilter, FlowMod, FlowStats, OfError, PortReason};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Datapath {
    /// Changes flows. Removed flows that asked for it arrive as events. When it returns, every batch of packets that a
    /// thread begins is forwarded by the new flows: all that a barrier has to wait for (OpenFlow 1.3.5 6.2).
    ///
    /// # Errors
    /// What the specification has for the flow-mod; then nothing was changed.
    pub fn flow_mod(&self, bridge: BridgeId, flow_mod: &FlowMod) -> Result<(), OfError> {
        let change = (0, Change::Flow(flow_mod.clone()));
        match self.changes(bridge, &[change]).pop() {
            Some((_, e)) => Err(e),
            None => Ok(()),
        }
    }

    /// Makes changes, all or none, visible at one instant. `origin` is who asks, to be found again in
    /// [`Event::FlowUpdate`].
    ///
    /// # Errors
    /// Which of them failed, and why.
    pub fn changes_atomic(
        &self,
        bridge: BridgeId,
        changes: &[Change],
        origin: u64,
    ) -> Result<(), (usize, OfError)> {
        self.change(bridge, changes.iter(), |s, limits, now, effects| {
            effects.origin = origin;
            for (i, c) in changes.iter().enumerate() {
                apply(s, c, limits, now, effects).map_err(|e| (i, e))?;
            }
            Ok(())
        })
        .map_err(|e| e.unwrap_or_else(|| (0, no_bridge(ErrorKind::FlowModUnknown, bridge))))
    }

    /// Makes changes one after the other, each with who asks for it. They become visible together, which saves most of
    /// what a change costs. Gives those that failed, by place, and why; each of these changed nothing.
    pub fn changes(&self, bridge: BridgeId, changes: &[(u64, Change)]) -> Vec<(usize, OfError)> {
        let mut failed = Vec::new();
        let list = changes.iter().map(|(_, c)| c);
        let done = self.change(bridge, list, |s, limits, now, effects| {
            for (i, (origin, c)) in changes.iter().enumerate() {
                effects.origin = *origin;
                if let Err(e) = apply(s, c, limits, now, effects) {
                    failed.push((i, e));
                }
            }
            if failed.len() < changes.len() {
                Ok(())
            } else {
                Err(())
            }
        });
        if let Err(None) = done {
            let gone = |i| (i, no_bridge(ErrorKind::FlowModUnknown, bridge));
            failed.extend((0..changes.len()).map(gone));
        }
        failed
    }

    /// Makes changes under the bridge's lock, publishes what came of them, and tells of it. The error is `change`'s; none
    /// if there is no such bridge.
    fn change<'a, E>(
        &self,
        bridge: BridgeId,
        mut list: impl Iterator<Item = &'a Change>,
        change: impl FnOnce(&mut BridgeState, &Limits, Now, &mut Effects) -> Result<(), E>,
    ) -> Result<(), Option<E>> {
        use openflow::FlowModCommand::{Modify, ModifyStrict};
        let b = self.bridge(bridge).ok_or(None)?;
        // What packets so far counted must not arrive after the counters were reset. (A rule that is added anew has new
        // counters.)
        if list.any(|c| {
            matches!(c, Change::Flow(m) | Change::ModifyOrAdd { flow_mod: m, .. }
                if m.flags.reset_counts && matches!(m.command, Modify | ModifyStrict))
        }) {
            self.flush();
        }
        let now = self.now();
        self.update_telling(&b, now, |s, effects| {
            let limits = Limits {
                tables: s.config.max_tables,
            };
            change(s, &limits, now, effects)
        })
        .map_err(Some)
    }

    /// Changes a bridge's state and tells of what became of its rules.
    pub(super) fn update_telling<E>(
        &self,
        b: &Bridge,
        now: Now,
        change: impl FnOnce(&mut BridgeState, &mut Effects) -> Result<(), E>,
    ) -> Result<(), E> {
        let removed = b.update_then(
            |s| {
                let mut effects = Effects::new(b.watched.load(Ordering::Relaxed));
                change(s, &mut effects).map(|()| effects)
            },
            |effects, version| {
                self.inner.events.tell_watchers(b, effects.updates, version);
                effects.removed
            },
        )?;
        self.tell_removed(b, &removed, now);
        Ok(())
    }

    /// Begins or ends telling of every change of a bridge's flows by [`Event::FlowUpdate`]. After
    /// [`FlowUpdate::Paused`](openflow::FlowUpdate::Paused) it has to be asked for again.
    pub fn watch_flows(&self, bridge: BridgeId, on: bool) {
        if let Some(b) = self.bridge(bridge) {
            let _writer = b.writer.lock();
            b.watched.store(on, Ordering::Relaxed);
        }
    }

    /// The flows a filter selects, and the version of the tables they are from: updates of that version and older ones
    /// are in it already.
    pub fn flow_snapshot(&self, bridge: BridgeId, filter: &FlowFilter) -> (u64, Vec<FlowStats>) {
        let (version, flows) = self.selected(bridge, filter);
        (version, flows.collect())
    }

    /// The same, made flow by flow as they are taken, so that they need not all be in memory. Which flows there are is
    /// settled when this returns, what they have counted when each is taken.
    fn selected(
        &self,
        bridge: BridgeId,
        filter: &FlowFilter,
    ) -> (u64, impl Iterator<Item = FlowStats> + Send + use<>) {
        let (version, rules) = match self.bridge(bridge) {
            Some(b) => {
                self.flush();
                let state = b.state.load();
                (state.version, state.tables.select(filter))
            }
            None => (0, Vec::new()),
        };
        let now = self.now();
        (version, rules.into_iter().map(move |r| r.stats(now)))
    }

    /// Tells of rules that went. Only then have the threads to hand their counts on for a change of flows; all
    /// others are published and left to be noticed.
    fn tell_removed(&self, b: &Bridge, removed: &[Removed], now: Now) {
        if removed.is_empty() {
            return;
        }
        // What is told must be exact, and nothing is counted for a rule once all have seen that it is gone.
        self.flush();
        self.inner.events.tell_removed(b, removed, now);
    }

    /// The flows a filter selects, with exact counters.
    pub fn flow_stats(&self, bridge: BridgeId, filter: &FlowFilter) -> Vec<FlowStats> {
        self.flows(bridge, filter).collect()
    }

    /// The same one after the other, made as they are taken: very many flows need not all be in memory.
    pub fn flows(
        &self,
        bridge: BridgeId,
        filter: &FlowFilter,
    ) -> impl Iterator<Item = FlowStats> + Send + use<> {
        self.selected(bridge, filter).1
    }

    /// Sums over the flows a filter selects.
    pub fn aggregate_stats(&self, bridge: BridgeId, filter: &FlowFilter) -> AggregateStats {
        let Some(b) = self.bridge(bridge) else {
            return AggregateStats::default();
        };
        self.flush();
        let rules = b.state.load().tables.select(filter);
        let mut sum = AggregateStats::default();
        for r in rules {
            let (packets, bytes) = r.counters.get();
            sum.packets += packets;
            sum.bytes += bytes;
            sum.flows += 1;
        }
        sum
    }

    /// Lets time act on flows and addresses, and tells of ports whose device changed. To be called about
    /// once a second.
    pub fn expire(&self, now: Now) {
        let world = self.inner.world.load_full();
        self.flush();
        world.underlay.expire(now);
        for b in world.bridges.iter().flatten() {
            b.expire_fdb(now);
            let due = {
                let tables = &b.state.load().tables;
                self.inner.events.tell_triggered(b, tables, now);
                tables.next_expiry()
            };
            if due.is_none_or(|due| due > now) {
                continue;
            }
            let _ = self.update_telling(b, now, |s, effects| {
                if s.tables.expire(now, effects) {
                    Ok(())
                } else {
                    Err(())
                }
            });
        }
        let mut control = self.inner.control.lock();
        self.watch_threads(&mut control.crew);
        drop(control);
        self.look_at_ports();
    }

    /// Tells of ports whose device changed. To be called as soon as one may have: when the kernel tells of its interfaces.
    pub fn look_at_ports(&self) {
        let world = self.inner.world.load_full();
        let mut changed = Vec::new();
        let mut control = self.inner.control.lock();
        for p in world.ports.iter().flatten() {
            let seen = seen(p);
            match control.seen.insert(p.index, seen) {
                Some(old) if old != seen => changed.push((p.bridge, p.number)),
                _ => {}
            }
        }
        drop(control);
        for (bridge, port) in changed {
            self.tell(BridgeId(bridge), port, PortReason::Modify);
        }
    }

    /// The flows in the caches of all threads.
    pub fn cached_flows(&self) -> Vec<CachedFlow> {
        let world = self.inner.world.load_full();
        let name = |index: u32| {
            world
                .port(index)
                .map_or_else(|| index.to_string(), |p| p.name().to_string())
        };
        let now = self.now();
        let mut list = Vec::new();
        for t in self.inner.threads.load().iter() {
            for f in t.ask(Message::Dump).unwrap_or_default() {
                let Some(p) = world.port(f.port) else {
                    continue;
                };
                let key = FlowKey::from_packet(&f.key, f.key.len());
                let mask = FlowKey::from_packet(&f.mask, f.mask.len());
                let used = Duration::from_nanos(f.used);
                let tunnel = f.tunnel.filter(|_| f.mask[0] != 0);
                let tunnel = tunnel.map_or_else(String::new, |t| {
                    crate::tunnel::format::key(&t.key, &t.options) + ","
                });
                list.push(CachedFlow {
                    bridge: BridgeId(p.bridge),
                    in_port: p.number,
                    in_port_name: p.name().to_string(),
                    key: tunnel + &format_key(&key, &mask, p.name()),
                    actions: action::format(&f.actions, name),
                    packets: f.packets,
                    bytes: f.bytes,
                    used: (f.packets > 0).then(|| now.saturating_sub(used)),
                });
            }
        }
        list
    }

    /// What the caches did.
    pub fn cache_stats(&self) -> CacheStats {
        self.flush();
        let mut s = CacheStats::default();
        for t in self.inner.threads.load().iter() {
            t.add_cache_stats(&mut s);
        }
        s
    }
}

/// Carries out one change on a state that is not published yet.
fn apply(
    s: &mut BridgeState,
    change: &Change,
    limits: &Limits,
    now: Now,
    effects: &mut Effects,
) -> Result<(), OfError> {
    match change {
        Change::Flow(m) => s.tables.apply(m, limits, now, effects),
        Change::Group(m) => s.tables.apply_group(m, limits, now, effects),
        Change::ModifyOrAdd { flow_mod, cookie } => s
            .tables
            .modify_or_add(flow_mod, *cookie, limits, now, effects),
    }
}
