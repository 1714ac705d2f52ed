//! Flows, packets of controllers, learned addresses, and what time does to them.

use super::{Datapath, no_bridge, seen};
use crate::action;
use crate::clock::Now;
use crate::config::*;
use crate::drop::DropReason;
use crate::engine::forward::Injected;
use crate::engine::thread::Message;
use crate::flow::{FlowKey, format_key};
use crate::packet::OwnedPacket;
use crate::table::{self, Limits, Removed};
use openflow::error::ErrorKind;
use openflow::{
    AggregateStats, FlowFilter, FlowMod, FlowStats, OfError, PacketOut, PortNo, PortReason,
    TableStats,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Datapath {
    /// Changes flows. Removed flows that asked for it arrive as events. When it returns, every batch of packets that a
    /// thread begins is forwarded by the new flows: all that a barrier has to wait for (OpenFlow 1.3.5 6.2).
    pub fn flow_mod(&self, bridge: BridgeId, flow_mod: &FlowMod) -> Result<(), OfError> {
        self.flow_mods_atomic(bridge, std::slice::from_ref(flow_mod))
            .map_err(|(_, e)| e)
    }

    /// Changes flows, all or none, visible at one instant; else which one failed and why.
    pub fn flow_mods_atomic(
        &self,
        bridge: BridgeId,
        mods: &[FlowMod],
    ) -> Result<(), (usize, OfError)> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| (0, no_bridge(ErrorKind::FlowModUnknown, bridge)))?;
        use openflow::FlowModCommand::{Modify, ModifyStrict};
        // What packets so far counted must not arrive after the counters were reset. (A rule that is added anew has new
        // counters.)
        if mods
            .iter()
            .any(|m| m.flags.reset_counts && matches!(m.command, Modify | ModifyStrict))
        {
            self.flush();
        }
        let now = self.now();
        let mut removed = Vec::new();
        b.update(|s| {
            let limits = Limits {
                tables: s.config.max_tables,
            };
            for (i, m) in mods.iter().enumerate() {
                s.tables
                    .apply(m, &limits, now, &mut removed)
                    .map_err(|e| (i, e))?;
            }
            Ok(())
        })?;
        self.tell_removed(bridge, &removed, now);
        Ok(())
    }

    /// Tells of rules that went. Only then have the threads to hand their counts on for a change of flows; all
    /// others are published and left to be noticed.
    fn tell_removed(&self, bridge: BridgeId, removed: &[Removed], now: Now) {
        if removed.is_empty() {
            return;
        }
        // What is told must be exact, and nothing is counted for a rule once all have seen that it is gone.
        self.flush();
        for removed in removed {
            let removed = removed.tell(now);
            let event = Event::FlowRemoved { bridge, removed };
            self.inner.events.send(event, None);
        }
    }

    /// The flows a filter selects, with exact counters.
    pub fn flow_stats(&self, bridge: BridgeId, filter: &FlowFilter) -> Vec<FlowStats> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        self.flush();
        let now = self.now();
        let rules = b.state.load().tables.select(filter);
        rules.iter().map(|r| r.stats(now)).collect()
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

    /// Every table's counters.
    pub fn table_stats(&self, bridge: BridgeId) -> Vec<TableStats> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        self.flush();
        let state = b.state.load();
        (0..state.config.max_tables)
            .map(|n| {
                let t = state.tables.get(n);
                let (matched, missed) = t.map_or((0, 0), |t| {
                    (t.counters.matched.get().0, t.counters.missed.get().0)
                });
                TableStats {
                    legacy: None,
                    table: n,
                    active: t.map_or(0, |t| t.classifier.len() as u32),
                    lookups: matched + missed,
                    matched,
                }
            })
            .collect()
    }

    /// Does what a controller wants done with a packet.
    pub fn packet_out(&self, bridge: BridgeId, m: &PacketOut) -> Result<(), OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::BadPort, bridge))?;
        if m.buffer.is_some() {
            return Err(OfError::new(
                ErrorKind::BufferUnknown,
                "Packets are not buffered: send the packet with the message",
            ));
        }
        if !(14..=crate::packet::PACKET_MAX).contains(&m.data.len()) {
            return Err(OfError::new(
                ErrorKind::BadPacket,
                format!("{} bytes: a frame has 14 to 65599", m.data.len()),
            ));
        }
        let real = m.in_port.is_physical() || m.in_port == PortNo::LOCAL;
        if !real && !matches!(m.in_port, PortNo::CONTROLLER | PortNo::ANY) {
            return Err(OfError::new(
                ErrorKind::BadPort,
                format!("in_port {} is not a port packets come in by", m.in_port),
            ));
        }
        let limits = Limits {
            tables: b.state.load().config.max_tables,
        };
        // Which fields the packet has is seen from the packet.
        let matching = crate::pipeline::match_of(&m.data);
        table::check_actions(&m.actions, &matching, &limits)?;
        let injected = Injected {
            packet: OwnedPacket::new(m.data.to_vec()),
            bridge: bridge.0,
            in_port: m.in_port,
            actions: m.actions.clone(),
        };
        // One thread for all, so that packet-outs stay in order.
        if !self.inner.threads.load()[0].inject(injected)
            && let Some(e) = self.entry(bridge, m.in_port)
        {
            e.counters.drops[DropReason::PacketOutLimit as usize].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Learned addresses, by port, VLAN and address.
    pub fn fdb(&self, bridge: BridgeId) -> Vec<FdbEntry> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        self.flush();
        let world = self.inner.world.load();
        let now = self.now();
        let mut list: Vec<FdbEntry> = b
            .fdb
            .lock()
            .iter()
            .filter_map(|(vlan, mac, port, used)| {
                Some(FdbEntry {
                    port: world.port(port)?.number,
                    vlan,
                    mac,
                    age: now.saturating_sub(used),
                })
            })
            .collect();
        list.sort_by_key(|e| (e.vlan, e.mac));
        list
    }

    /// Forgets all learned addresses.
    pub fn fdb_flush(&self, bridge: BridgeId) {
        if let Some(b) = self.bridge(bridge) {
            self.flush();
            b.flush_fdb(None);
        }
    }

    /// What learning did.
    pub fn fdb_stats(&self, bridge: BridgeId) -> FdbStats {
        self.bridge(bridge)
            .map_or_else(FdbStats::default, |b| FdbStats {
                max: b.state.load().config.mac_table_size,
                ..b.fdb.lock().stats()
            })
    }

    /// Lets time act on flows and addresses, and tells of ports whose device changed. To be called about
    /// once a second.
    pub fn expire(&self, now: Now) {
        let world = self.inner.world.load_full();
        self.flush();
        for b in world.bridges.iter().flatten() {
            b.expire_fdb(now);
            if !b.state.load().tables.has_timed() {
                continue;
            }
            let mut removed = Vec::new();
            let _ = b.update(|s| {
                if s.tables.expire(now, &mut removed) {
                    Ok(())
                } else {
                    Err(())
                }
            });
            self.tell_removed(BridgeId(b.id), &removed, now);
        }
        let mut changed = Vec::new();
        let mut control = self.inner.control.lock();
        self.watch_threads(&mut control.crew);
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
                list.push(CachedFlow {
                    bridge: BridgeId(p.bridge),
                    in_port: p.number,
                    in_port_name: p.name().to_string(),
                    key: format_key(&key, &mask, p.name()),
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
