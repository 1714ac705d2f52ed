//! The handle that callers hold.
//!
//! Everything here runs on the caller's thread. Changes are made under one lock for ports and bridges
//! and one a bridge for flows, published by a pointer swap, and noticed by the forwarding threads by
//! themselves; only queues are moved by message. Nothing stops traffic.

use crate::action;
use crate::bridge::{Bridge, BridgeState, Epoch, PortCounters, PortEntry, World};
use crate::clock::{Clock, Now};
use crate::config::*;
use crate::drop::DropReason;
use crate::engine::events::{self, EventSender, Events};
use crate::engine::forward::{Injected, Tx};
use crate::engine::thread::{Handle, Message};
use crate::flow::{FlowKey, format_key};
use crate::packet::OwnedPacket;
use crate::port::{self, OpenPort, PortContext, PortError, PortStatus};
use crate::table::{self, Limits};
use arc_swap::ArcSwap;
use openflow::error::ErrorKind;
use openflow::{
    AggregateStats, FlowFilter, FlowMod, FlowRemoved, FlowStats, OfError, PacketOut, PortDesc,
    PortFlags, PortMod, PortNo, PortReason, PortStats, TableStats,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most ports of a datapath.
pub const PORTS_MAX: usize = 4096;
/// Most bridges of a datapath.
pub const BRIDGES_MAX: usize = 1024;

/// Why the datapath as a whole refused.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A value of the configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A bridge of that name exists, or none does.
    #[error("{0}")]
    Bridge(String),
}

/// A running datapath. Clones are the same one; it ends with [`Datapath::shutdown`], or with the
/// last clone.
#[derive(Clone)]
pub struct Datapath {
    inner: Arc<Inner>,
}

struct Inner {
    context: PortContext,
    clock: Clock,
    world: Arc<ArcSwap<World>>,
    epoch: Arc<Epoch>,
    threads: Vec<Handle>,
    events: EventSender,
    /// Held while ports and bridges change.
    control: Mutex<Control>,
}

#[derive(Default)]
struct Control {
    next_queue: usize,
    /// What each port's device was last seen to be, to tell of changes.
    seen: HashMap<u32, (u64, bool)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for t in &self.threads {
            t.stop();
        }
    }
}

fn no_bridge(kind: ErrorKind, bridge: BridgeId) -> OfError {
    OfError::new(kind, format!("There is no bridge {}", bridge.0))
}

fn check_vlan(name: &str, v: &VlanConfig) -> Result<(), PortError> {
    let bad = v
        .tag
        .into_iter()
        .chain(v.trunks.iter().copied())
        .find(|t| *t > 4095);
    match bad {
        Some(t) => Err(PortError::Option {
            name: name.into(),
            option: "VLAN".into(),
            problem: format!("{t} is not 0 to 4095"),
        }),
        None => Ok(()),
    }
}

impl Datapath {
    /// Starts forwarding threads, with no bridges.
    pub fn start(config: Config) -> Result<(Datapath, Events), DatapathError> {
        let n = config.forwarding_threads;
        if !(1..=MAX_THREADS).contains(&n) {
            return Err(DatapathError::Config(format!(
                "{n} forwarding threads: 1 to {MAX_THREADS} are possible"
            )));
        }
        if let Some(pin) = &config.pin
            && pin.len() < n
        {
            return Err(DatapathError::Config(format!(
                "{} processors given for {n} forwarding threads",
                pin.len()
            )));
        }
        let system = |what| move |source| DatapathError::System { what, source };
        let (sender, events) = events::channel().map_err(system("event queue"))?;
        let world = Arc::new(ArcSwap::from_pointee(World::default()));
        let epoch = Arc::new(Epoch::default());
        epoch.bump();
        let threads = (0..n)
            .map(|i| {
                Handle::start(
                    i,
                    config.pin.as_ref().map(|p| p[i]),
                    world.clone(),
                    epoch.clone(),
                    sender.clone(),
                    config.clock.clone(),
                )
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(system("forwarding thread"))?;
        let inner = Inner {
            context: PortContext {
                run_dir: config.run_dir,
                threads: n,
            },
            clock: config.clock,
            world,
            epoch,
            threads,
            events: sender,
            control: Mutex::default(),
        };
        let inner = Arc::new(inner);
        Ok((Datapath { inner }, events))
    }

    /// The datapath's clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn now(&self) -> Now {
        self.inner.clock.now()
    }

    fn bridge(&self, id: BridgeId) -> Option<Arc<Bridge>> {
        self.inner.world.load().bridge(id.0).cloned()
    }

    fn entry(&self, bridge: BridgeId, port: PortNo) -> Option<Arc<PortEntry>> {
        let world = self.inner.world.load();
        let state = world.bridge(bridge.0)?.state.load();
        world.port(*state.ports.get(&port.0)?).cloned()
    }

    /// Publishes a changed world. The control lock must be held.
    fn publish(&self, change: impl FnOnce(&mut World)) {
        let mut next = (**self.inner.world.load()).clone();
        change(&mut next);
        next.version += 1;
        // Patch ports find each other by name, whatever came first.
        let names: HashMap<String, u32> = next
            .ports
            .iter()
            .flatten()
            .filter(|p| p.patch.is_some())
            .map(|p| (p.name().to_string(), p.index))
            .collect();
        let peers: HashMap<u32, Option<u32>> = next
            .ports
            .iter()
            .flatten()
            .filter(|p| p.patch.is_some())
            .map(|p| {
                let peer = p.spec.interface.options.get("peer");
                let peer = peer.and_then(|n| names.get(n)).copied();
                // Both must name each other.
                let mutual = peer.filter(|i| {
                    next.port(*i).is_some_and(|q| {
                        q.spec.interface.options.get("peer").map(String::as_str) == Some(p.name())
                    })
                });
                (p.index, mutual)
            })
            .collect();
        for p in next.ports.iter_mut().flatten() {
            if let Some(peer) = peers.get(&p.index)
                && p.patch != Some(*peer)
            {
                Arc::make_mut(p).patch = Some(*peer);
            }
        }
        self.inner.world.store(Arc::new(next));
        self.inner.epoch.bump();
    }

    /// Adds a bridge. Its local port is added like any other, with `local` set.
    pub fn add_bridge(&self, name: &str, config: BridgeConfig) -> Result<BridgeId, DatapathError> {
        check_bridge(&config)?;
        let _control = self.inner.control.lock();
        let world = self.inner.world.load();
        if world.bridges.iter().flatten().any(|b| b.name == name) {
            return Err(DatapathError::Bridge(format!("Bridge {name} exists")));
        }
        let free = world.bridges.iter().position(Option::is_none);
        let id = free.unwrap_or(world.bridges.len());
        if id >= BRIDGES_MAX {
            return Err(DatapathError::Bridge(format!(
                "There are {BRIDGES_MAX} bridges, as many as can be"
            )));
        }
        let bridge = Bridge::new(id as u32, name, config, self.inner.epoch.clone());
        let bridge = Arc::new(bridge);
        self.publish(|w| {
            if w.bridges.len() <= id {
                w.bridges.resize(id + 1, None);
            }
            w.bridges[id] = Some(bridge);
        });
        Ok(BridgeId(id as u32))
    }

    /// Changes a bridge's settings.
    pub fn set_bridge(&self, bridge: BridgeId, config: BridgeConfig) -> Result<(), DatapathError> {
        check_bridge(&config)?;
        let b = self
            .bridge(bridge)
            .ok_or_else(|| DatapathError::Bridge(format!("There is no bridge {}", bridge.0)))?;
        b.update(|s| {
            s.config = config;
            Ok(())
        })
    }

    /// A bridge's settings.
    pub fn bridge_config(&self, bridge: BridgeId) -> Option<BridgeConfig> {
        Some(self.bridge(bridge)?.state.load().config.clone())
    }

    /// Removes a bridge and its ports.
    pub fn remove_bridge(&self, bridge: BridgeId) {
        for p in self.ports(bridge) {
            self.remove_port(bridge, p);
        }
        let _control = self.inner.control.lock();
        self.publish(|w| {
            if let Some(b) = w.bridges.get_mut(bridge.0 as usize) {
                *b = None;
            }
        });
    }

    /// Opens a port and adds it to a bridge; its OpenFlow number.
    pub fn add_port(&self, bridge: BridgeId, spec: PortSpec) -> Result<PortNo, PortError> {
        let name = spec.interface.name.clone();
        check_vlan(&name, &spec.vlan)?;
        let mut control = self.inner.control.lock();
        let world = self.inner.world.load_full();
        let b = world
            .bridge(bridge.0)
            .ok_or_else(|| PortError::Missing(format!("bridge {}", bridge.0)))?;
        if world.ports.iter().flatten().any(|p| p.name() == name) {
            return Err(PortError::Exists(name));
        }
        let number = pick_number(&b.state.load(), &spec)?;
        let free = world.ports.iter().position(Option::is_none);
        let index = free.unwrap_or(world.ports.len());
        if index >= PORTS_MAX {
            return Err(PortError::Limit(format!(
                "There are {PORTS_MAX} ports, as many as can be"
            )));
        }
        let is_patch = spec.interface.kind == "patch";
        if is_patch {
            check_patch(&spec.interface)?;
        }
        let open = match is_patch {
            true => None,
            false => Some(port::open(&spec.interface, &self.inner.context)?),
        };
        let counters: Arc<PortCounters> = Arc::default();
        let entry = PortEntry {
            index: index as u32,
            bridge: bridge.0,
            number,
            spec,
            flags: PortFlags::default(),
            patch: is_patch.then_some(None),
            device: open.as_ref().map(|o| o.port.clone()),
            counters: counters.clone(),
            created: self.now(),
        };
        // First what a packet needs to be forwarded, then the queues it comes by.
        self.publish(|w| {
            if w.ports.len() <= index {
                w.ports.resize(index + 1, None);
            }
            w.ports[index] = Some(Arc::new(entry));
        });
        let _: Result<(), ()> = b.update(|s| {
            s.ports.insert(number.0, index as u32);
            Ok(())
        });
        self.spread(&mut control, index as u32, open, &counters);
        // What `Add` tells is what later changes are compared with.
        if let Some(entry) = self.entry(bridge, number) {
            control.seen.insert(entry.index, seen(&entry));
        }
        drop(control);
        self.tell(bridge, number, PortReason::Add);
        Ok(number)
    }

    /// Gives a port's queues to the forwarding threads.
    fn spread(
        &self,
        control: &mut Control,
        port: u32,
        open: Option<OpenPort>,
        counters: &Arc<PortCounters>,
    ) {
        let n = self.inner.threads.len();
        let mut rx: Vec<Vec<_>> = (0..n).map(|_| Vec::new()).collect();
        let mut tx: Vec<Tx> = (0..n).map(|_| Tx::None).collect();
        if let Some(open) = open {
            for q in open.rx {
                rx[control.next_queue % n].push(q);
                control.next_queue += 1;
            }
            let k = open.tx.len();
            if k >= n {
                for (t, q) in tx.iter_mut().zip(open.tx) {
                    *t = Tx::Own(q);
                }
            } else if k > 0 {
                let shared: Vec<_> = open
                    .tx
                    .into_iter()
                    .map(|q| Arc::new(Mutex::new(q)))
                    .collect();
                for (i, t) in tx.iter_mut().enumerate() {
                    *t = Tx::Shared(shared[i % k].clone());
                }
            }
        }
        for ((t, rx), tx) in self.inner.threads.iter().zip(rx).zip(tx) {
            t.send(Message::AddPort {
                port,
                rx,
                tx,
                counters: counters.clone(),
            });
        }
    }

    /// Changes a port's settings live. Its kind and name stay.
    pub fn set_port(
        &self,
        bridge: BridgeId,
        port: PortNo,
        spec: PortSpec,
    ) -> Result<(), PortError> {
        check_vlan(&spec.interface.name, &spec.vlan)?;
        let control = self.inner.control.lock();
        let old = self
            .entry(bridge, port)
            .ok_or_else(|| PortError::Missing(format!("port {port}")))?;
        if old.spec.interface.kind != spec.interface.kind
            || old.spec.interface.name != spec.interface.name
        {
            return Err(PortError::Other(format!(
                "{}: name and type of a port cannot change: remove it and add it anew",
                old.name()
            )));
        }
        if old.patch.is_some() {
            check_patch(&spec.interface)?;
        }
        if let Some(d) = &old.device
            && old.spec.interface != spec.interface
        {
            d.set_config(&spec.interface)?;
        }
        if old.spec != spec {
            let next = PortEntry {
                spec,
                ..(*old).clone()
            };
            // Where hosts were learned in other VLANs says nothing any more.
            let moved = old.spec.vlan != next.spec.vlan;
            self.publish(|w| w.ports[old.index as usize] = Some(Arc::new(next)));
            if moved && let Some(b) = self.bridge(bridge) {
                self.flush();
                b.flush_fdb(Some(old.index));
            }
        }
        drop(control);
        Ok(())
    }

    /// Removes a port. When it returns no thread uses the port any more.
    pub fn remove_port(&self, bridge: BridgeId, port: PortNo) {
        let mut control = self.inner.control.lock();
        let Some(entry) = self.entry(bridge, port) else {
            return;
        };
        let Some(b) = self.bridge(bridge) else { return };
        let desc = describe(&entry);
        let _: Result<(), ()> = b.update(|s| {
            s.ports.remove(&port.0);
            Ok(())
        });
        let gone: Vec<_> = self
            .inner
            .threads
            .iter()
            .map(|t| {
                let (tx, rx) = crossbeam_channel::bounded(1);
                t.send(Message::RemovePort(entry.index, tx));
                rx
            })
            .collect();
        // The index may be given to another port only when all have let go of it.
        for g in gone {
            let _ = g.recv();
        }
        self.publish(|w| w.ports[entry.index as usize] = None);
        b.flush_fdb(Some(entry.index));
        // Threads look at the new world, so that the device closes when this returns.
        self.flush();
        control.seen.remove(&entry.index);
        drop(control);
        let event = Event::PortStatus {
            bridge,
            reason: PortReason::Delete,
            desc,
        };
        self.inner.events.send(event, None);
    }

    fn tell(&self, bridge: BridgeId, port: PortNo, reason: PortReason) {
        if let Some(desc) = self.port_desc(bridge, port) {
            let event = Event::PortStatus {
                bridge,
                reason,
                desc,
            };
            self.inner.events.send(event, None);
        }
    }

    /// The ports of a bridge, by OpenFlow number.
    pub fn ports(&self, bridge: BridgeId) -> Vec<PortNo> {
        self.bridge(bridge).map_or_else(Vec::new, |b| {
            b.state.load().ports.keys().map(|n| PortNo(*n)).collect()
        })
    }

    /// A port's name.
    pub fn port_name(&self, bridge: BridgeId, port: PortNo) -> Option<String> {
        Some(self.entry(bridge, port)?.name().to_string())
    }

    /// A port as a controller sees it.
    pub fn port_desc(&self, bridge: BridgeId, port: PortNo) -> Option<PortDesc> {
        Some(describe(&*self.entry(bridge, port)?))
    }

    /// A port's device as it is.
    pub fn port_status(&self, bridge: BridgeId, port: PortNo) -> Option<PortStatus> {
        Some(status(&*self.entry(bridge, port)?))
    }

    /// How often a port's link went up or down.
    pub fn link_resets(&self, bridge: BridgeId, port: PortNo) -> u64 {
        self.entry(bridge, port)
            .and_then(|e| e.device.as_ref().map(|d| d.link_resets()))
            .unwrap_or(0)
    }

    /// A port's counters, exact.
    pub fn port_stats(&self, bridge: BridgeId, port: PortNo) -> Option<PortStats> {
        self.flush();
        let e = self.entry(bridge, port)?;
        let c = &e.counters;
        let get = |a: &std::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
        Some(PortStats {
            port: port.0,
            rx_packets: get(&c.rx_packets),
            tx_packets: get(&c.tx_packets),
            rx_bytes: get(&c.rx_bytes),
            tx_bytes: get(&c.tx_bytes),
            rx_dropped: 0,
            tx_dropped: get(&c.tx_dropped),
            rx_errors: 0,
            tx_errors: get(&c.tx_errors),
            rx_frame_err: 0,
            rx_over_err: 0,
            rx_crc_err: 0,
            collisions: 0,
            duration: self.now().saturating_sub(e.created),
        })
    }

    /// Counters beside the standard ones, by OVS's names.
    pub fn port_extra_stats(&self, bridge: BridgeId, port: PortNo) -> BTreeMap<String, u64> {
        self.entry(bridge, port)
            .and_then(|e| e.device.as_ref().map(|d| d.extra_stats()))
            .unwrap_or_default()
    }

    /// Changes a port's flags (OpenFlow 1.3.5 7.3.4.3).
    pub fn port_mod(&self, bridge: BridgeId, m: &PortMod) -> Result<(), OfError> {
        let control = self.inner.control.lock();
        let entry = self.entry(bridge, m.port).ok_or_else(|| {
            OfError::new(
                ErrorKind::PortModBadPort,
                format!("There is no port {}", m.port),
            )
        })?;
        let mac = describe(&entry).mac;
        if m.mac != mac {
            return Err(OfError::new(
                ErrorKind::PortModBadHwAddr,
                format!("{} is not the port's address, {mac}", m.mac),
            ));
        }
        let old = entry.flags;
        let pick = |mask, new, old| if mask { new } else { old };
        let flags = PortFlags {
            port_down: pick(m.mask.port_down, m.config.port_down, old.port_down),
            no_recv: pick(m.mask.no_recv, m.config.no_recv, old.no_recv),
            no_fwd: pick(m.mask.no_fwd, m.config.no_fwd, old.no_fwd),
            no_packet_in: pick(m.mask.no_packet_in, m.config.no_packet_in, old.no_packet_in),
            no_flood: pick(m.mask.no_flood, m.config.no_flood, old.no_flood),
        };
        if flags == old {
            return Ok(());
        }
        if flags.port_down != old.port_down
            && let Some(d) = &entry.device
        {
            d.set_admin_up(!flags.port_down)
                .map_err(|e| OfError::new(ErrorKind::PortModEperm, e.to_string()))?;
        }
        let next = PortEntry {
            flags,
            ..(*entry).clone()
        };
        self.publish(|w| w.ports[entry.index as usize] = Some(Arc::new(next)));
        drop(control);
        self.tell(bridge, m.port, PortReason::Modify);
        Ok(())
    }

    /// Changes flows. Removed flows that asked for it arrive as events.
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
        use openflow::FlowModCommand::{Delete, DeleteStrict};
        // What a removed flow tells must be exact.
        if mods
            .iter()
            .any(|m| matches!(m.command, Delete | DeleteStrict) || m.flags.reset_counts)
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
        self.tell_removed(bridge, removed);
        Ok(())
    }

    fn tell_removed(&self, bridge: BridgeId, removed: Vec<FlowRemoved>) {
        for removed in removed {
            let event = Event::FlowRemoved { bridge, removed };
            self.inner.events.send(event, None);
        }
    }

    /// Asks every thread to hand its counts on, and waits for them, for a bounded time.
    fn flush(&self) {
        let answers: Vec<_> = self
            .inner
            .threads
            .iter()
            .map(|t| {
                let (tx, rx) = crossbeam_channel::bounded(1);
                t.send(Message::Flush(tx));
                rx
            })
            .collect();
        for a in answers {
            let _ = a.recv_timeout(crate::engine::thread::ANSWER);
        }
    }

    /// Waits, for a bounded time, until everything that waits in receive queues has been forwarded; for
    /// exact tests.
    pub fn settle(&self) {
        // Twice: a packet may go from one thread's port to another's.
        for _ in 0..2 {
            for t in &self.inner.threads {
                let _ = t.ask(Message::Settle);
            }
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
        if !self.inner.threads[0].inject(injected)
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
            self.tell_removed(BridgeId(b.id), removed);
        }
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
        for t in &self.inner.threads {
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
        for t in &self.inner.threads {
            t.add_cache_stats(&mut s);
        }
        s
    }

    /// What the forwarding threads did.
    pub fn thread_stats(&self) -> Vec<ThreadStats> {
        self.inner.threads.iter().map(Handle::stats).collect()
    }

    /// Dropped packets by reason, by the port they came in by: of one port, or of the whole bridge.
    pub fn drop_stats(
        &self,
        bridge: BridgeId,
        port: Option<PortNo>,
    ) -> BTreeMap<&'static str, u64> {
        self.flush();
        let mut map = BTreeMap::new();
        let ports = port.map_or_else(|| self.ports(bridge), |p| vec![p]);
        for e in ports.into_iter().filter_map(|p| self.entry(bridge, p)) {
            for (reason, n) in DropReason::ALL.iter().zip(&e.counters.drops) {
                let n = n.load(Ordering::Relaxed);
                if n > 0 {
                    *map.entry(reason.name()).or_insert(0) += n;
                }
            }
        }
        map
    }

    /// Ends the forwarding threads. Ports are closed, packets no longer forwarded.
    pub fn shutdown(&self) {
        for t in &self.inner.threads {
            t.stop();
        }
    }
}

fn check_bridge(c: &BridgeConfig) -> Result<(), DatapathError> {
    if c.max_tables == 0 {
        return Err(DatapathError::Config("max_tables: 1 to 255".into()));
    }
    if let Some(v) = c.flood_vlans.iter().find(|v| **v > 4095) {
        return Err(DatapathError::Config(format!("flood VLAN {v}: 0 to 4095")));
    }
    Ok(())
}

fn check_patch(c: &port::InterfaceConfig) -> Result<(), PortError> {
    let problem = |problem: &str| PortError::Option {
        name: c.name.clone(),
        option: "peer".into(),
        problem: problem.into(),
    };
    match c.options.get("peer") {
        None => Err(problem("a patch port needs the name of another")),
        Some(p) if *p == c.name => Err(problem("a patch port cannot be its own peer")),
        Some(_) => Ok(()),
    }
}

fn pick_number(state: &BridgeState, spec: &PortSpec) -> Result<PortNo, PortError> {
    if spec.local {
        return match state.ports.contains_key(&PortNo::LOCAL.0) {
            true => Err(PortError::Exists("LOCAL".into())),
            false => Ok(PortNo::LOCAL),
        };
    }
    if let Some(n) = spec.ofport
        && PortNo(n.into()).is_physical()
        && !state.ports.contains_key(&n.into())
    {
        return Ok(PortNo(n.into()));
    }
    (1..0xff00)
        .find(|n| !state.ports.contains_key(n))
        .map(PortNo)
        .ok_or_else(|| PortError::Limit("The bridge has no free port number".into()))
}

/// What changes when there is something to tell of a port: its device's count of changes, and its link.
fn seen(e: &PortEntry) -> (u64, bool) {
    let count = e.device.as_ref().map_or(0, |d| d.change_count());
    (count, status(e).link_up)
}

fn status(e: &PortEntry) -> PortStatus {
    match (&e.device, e.patch) {
        (Some(d), _) => d.status(),
        (None, peer) => PortStatus {
            link_up: peer.flatten().is_some(),
            admin_up: true,
            ..PortStatus::default()
        },
    }
}

fn describe(e: &PortEntry) -> PortDesc {
    let s = status(e);
    // OFPPF_* of the speeds that have a bit; copper, as the stock switch says of virtual devices.
    let bit = match s.speed_kbps {
        10_000 => 1 << 1,
        100_000 => 1 << 3,
        1_000_000 => 1 << 5,
        10_000_000 => 1 << 6,
        40_000_000 => 1 << 7,
        100_000_000 => 1 << 8,
        _ => 0,
    };
    PortDesc {
        port: e.number,
        mac: s.mac.or(e.spec.interface.mac).unwrap_or_default(),
        name: e.name().to_string(),
        config: PortFlags {
            port_down: e.flags.port_down || !s.admin_up,
            ..e.flags
        },
        link_down: !s.link_up,
        live: s.link_up && !e.flags.port_down,
        current: if bit != 0 { bit | 1 << 11 } else { 0 },
        advertised: 0,
        supported: 0,
        peer: 0,
        current_speed: s.speed_kbps.min(u32::MAX.into()) as u32,
        max_speed: 0,
    }
}
