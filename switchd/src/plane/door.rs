//! The real forwarding plane behind [`Plane`].

use super::*;
use datapath::{
    BridgeConfig, BridgeId, Clock, Config, Datapath, Event, Events, InterfaceConfig, PortError,
    PortSpec,
};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Bridges' settings by name, and whether a controller speaks OpenFlow 1.0.
type Settings = BTreeMap<String, (BridgeParams, bool)>;

/// A started datapath, its bridges by name.
pub struct Door {
    datapath: Datapath,
    clock: Clock,
    bridges: RwLock<BTreeMap<String, BridgeId>>,
    settings: Mutex<Settings>,
}

impl Door {
    /// Starts the forwarding threads.
    pub fn start(config: Config) -> Result<(Door, Events), datapath::DatapathError> {
        let clock = config.clock.clone();
        let (datapath, events) = Datapath::start(config)?;
        let door = Door {
            datapath,
            clock,
            bridges: RwLock::default(),
            settings: Mutex::default(),
        };
        Ok((door, events))
    }

    /// Stops them.
    pub fn shutdown(&self) {
        self.datapath.shutdown();
    }

    /// The datapath's clock, for `time/stop` and `time/warp`.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The datapath itself, for what tunnels go by.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// What would be done with a packet of a bridge, and why.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn trace(
        &self,
        bridge: &str,
        request: &datapath::TraceRequest,
    ) -> Result<datapath::pipeline::trace::Trace, String> {
        let id = self.id(bridge).ok_or_else(|| no_bridge(bridge))?;
        self.datapath.trace(id, request).map_err(|e| {
            // Only actions are refused, and Open vSwitch gives the error's name alone.
            match request.actions {
                Some(_) => format!("Bad actions: {}", e.kind.name()),
                None => e.to_string(),
            }
        })
    }

    fn map(&self) -> RwLockReadGuard<'_, BTreeMap<String, BridgeId>> {
        self.bridges.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, bridge: &str) -> Option<BridgeId> {
        self.map().get(bridge).copied()
    }

    /// The bridge an event is about; `None` once it is gone, or if it is about none.
    pub fn bridge_of(&self, event: &Event) -> Option<String> {
        let (Event::PacketIn { bridge, .. }
        | Event::FlowRemoved { bridge, .. }
        | Event::FlowStats { bridge, .. }
        | Event::FlowUpdate { bridge, .. }
        | Event::PortStatus { bridge, .. }) = event
        else {
            return None;
        };
        self.name(*bridge)
    }

    fn name(&self, id: BridgeId) -> Option<String> {
        self.map()
            .iter()
            .find(|(_, i)| **i == id)
            .map(|(name, _)| name.clone())
    }
}

fn no_bridge(name: &str) -> String {
    format!("no bridge {name}")
}

fn gone(name: &str) -> OfError {
    OfError::new(openflow::error::ErrorKind::FlowModUnknown, no_bridge(name))
}

fn bridge_config(p: &BridgeParams, legacy: bool) -> BridgeConfig {
    BridgeConfig {
        datapath_id: p.datapath_id,
        mac: p.mac,
        mac_aging: p.mac_aging,
        mac_table_size: p.mac_table_size,
        flood_vlans: p.flood_vlans.clone(),
        forward_bpdu: p.forward_bpdu,
        miss: if legacy { Miss::Controller } else { p.miss },
        max_tables: crate::agent::TABLES,
        tables: p.tables.clone(),
        mirrors: p.mirrors.clone(),
    }
}

fn port_spec(p: &PortParams) -> PortSpec {
    let local = p.number == Some(PortNo::LOCAL);
    PortSpec {
        ofport: p
            .number
            .filter(|_| !local)
            .and_then(|n| u16::try_from(n.0).ok()),
        local,
        vlan: p.vlan.clone(),
        protected: p.protected,
        policing: p.policing,
        storm: p.storm,
        guard: p.guard.clone(),
        qos: p.qos.clone(),
        rxq_affinity: p.rxq_affinity.clone(),
        interface: InterfaceConfig {
            name: p.name.clone(),
            kind: p.kind.clone(),
            options: p.options.clone(),
            mac: p.mac,
            mtu_request: p.mtu_request,
            n_rxq: p.n_rxq,
        },
    }
}

/// The reason alone: an error of the system as the C library words it.
fn reason(e: PortError) -> String {
    match e {
        PortError::System { source, .. } => {
            let text = source.to_string();
            match text.rfind(" (os error ") {
                Some(end) => text[..end].to_owned(),
                None => text,
            }
        }
        PortError::UnknownKind { .. } => "Address family not supported by protocol".to_owned(),
        PortError::Option {
            option, problem, ..
        } => format!("option {option}: {problem}"),
        e => e.to_string(),
    }
}

impl Plane for Door {
    fn add_bridge(&self, name: &str, params: &BridgeParams) -> Result<(), String> {
        let id = self
            .datapath
            .add_bridge(name, bridge_config(params, false))
            .map_err(|e| e.to_string())?;
        self.settings()
            .insert(name.to_owned(), (params.clone(), false));
        self.bridges
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), id);
        Ok(())
    }

    fn set_bridge(&self, name: &str, params: &BridgeParams) -> Result<(), String> {
        let id = self.id(name).ok_or_else(|| no_bridge(name))?;
        let mut settings = self.settings();
        let legacy = settings.get(name).is_some_and(|s| s.1);
        settings.insert(name.to_owned(), (params.clone(), legacy));
        self.datapath
            .set_bridge(id, bridge_config(params, legacy))
            .map_err(|e| e.to_string())
    }

    fn set_legacy(&self, name: &str, on: bool) {
        let mut settings = self.settings();
        let (Some(id), Some((params, legacy))) = (self.id(name), settings.get_mut(name)) else {
            return;
        };
        if std::mem::replace(legacy, on) != on
            && let Err(e) = self.datapath.set_bridge(id, bridge_config(params, on))
        {
            tracing::error!("{name}: unmatched packets stay where they went: {e}");
        }
    }

    fn remove_bridge(&self, name: &str) {
        self.settings().remove(name);
        let id = self
            .bridges
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        if let Some(id) = id {
            self.datapath.remove_bridge(id);
        }
    }

    fn add_port(&self, bridge: &str, params: &PortParams) -> Result<PortNo, PortFault> {
        let id = self
            .id(bridge)
            .ok_or_else(|| PortFault::Add(no_bridge(bridge)))?;
        self.datapath
            .add_port(id, port_spec(params))
            .map_err(|e| match e {
                // EEXIST, as the C library words it.
                PortError::Claimed(_) => PortFault::Add("File exists".to_owned()),
                e => PortFault::Open(reason(e)),
            })
    }

    fn set_port(&self, bridge: &str, port: PortNo, params: &PortParams) -> Result<(), String> {
        let id = self.id(bridge).ok_or_else(|| no_bridge(bridge))?;
        self.datapath
            .set_port(id, port, port_spec(params))
            .map_err(reason)
    }

    fn remove_port(&self, bridge: &str, port: PortNo) {
        if let Some(id) = self.id(bridge) {
            self.datapath.remove_port(id, port);
        }
    }

    fn ports(&self, bridge: &str) -> Vec<PortNo> {
        match self.id(bridge) {
            Some(id) => self.datapath.ports(id),
            None => Vec::new(),
        }
    }

    fn port_state(&self, bridge: &str, port: PortNo) -> Option<PortState> {
        let id = self.id(bridge)?;
        let s = self.datapath.port_status(id, port)?;
        Some(PortState {
            link_up: s.link_up,
            admin_up: s.admin_up,
            mac: s.mac,
            mtu: Some(s.mtu).filter(|m| *m != 0),
            speed_kbps: s.speed_kbps,
            ifindex: s.ifindex.unwrap_or(0),
            status: s.status,
            error: s.error,
            link_resets: self.datapath.link_resets(id, port),
        })
    }

    fn port_desc(&self, bridge: &str, port: PortNo) -> Option<PortDesc> {
        self.datapath.port_desc(self.id(bridge)?, port)
    }

    fn queue_stats(&self, bridge: &str, port: PortNo) -> Vec<QueueStats> {
        self.id(bridge)
            .map_or_else(Vec::new, |id| self.datapath.queue_stats(id, port))
    }

    fn qos(&self, bridge: &str, port: PortNo) -> Option<(Arc<QosSpec>, Device)> {
        self.datapath.port_qos(self.id(bridge)?, port)
    }

    fn port_stats(&self, bridge: &str, port: PortNo) -> Option<(PortStats, BTreeMap<String, u64>)> {
        let id = self.id(bridge)?;
        let s = self.datapath.port_stats(id, port)?;
        let mut all = self.datapath.port_extra_stats(id, port);
        for (name, value) in [
            ("rx_packets", s.rx_packets),
            ("tx_packets", s.tx_packets),
            ("rx_bytes", s.rx_bytes),
            ("tx_bytes", s.tx_bytes),
            ("rx_dropped", s.rx_dropped),
            ("tx_dropped", s.tx_dropped),
            ("rx_errors", s.rx_errors),
            ("tx_errors", s.tx_errors),
            ("rx_frame_err", s.rx_frame_err),
            ("rx_over_err", s.rx_over_err),
            ("rx_crc_err", s.rx_crc_err),
            ("collisions", s.collisions),
        ] {
            all.insert(name.to_owned(), value);
        }
        // Why packets that came in by this port were dropped; only the reasons there were.
        for (reason, packets) in self.datapath.drop_stats(id, Some(port)) {
            all.insert(format!("drop_{reason}"), packets);
        }
        Some((s, all))
    }

    fn port_mod(&self, bridge: &str, change: &PortMod) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.port_mod(id, change)
    }

    fn changes_atomic(
        &self,
        bridge: &str,
        changes: &[Change],
        origin: u64,
    ) -> Result<(), (usize, OfError)> {
        let id = self.id(bridge).ok_or_else(|| (0, gone(bridge)))?;
        self.datapath.changes_atomic(id, changes, origin)
    }

    fn watch_flows(&self, bridge: &str, on: bool) {
        if let Some(id) = self.id(bridge) {
            self.datapath.watch_flows(id, on);
        }
    }

    fn flow_snapshot(&self, bridge: &str, filter: &FlowFilter) -> (u64, Vec<FlowStats>) {
        match self.id(bridge) {
            Some(id) => self.datapath.flow_snapshot(id, filter),
            None => (0, Vec::new()),
        }
    }

    fn changes(&self, bridge: &str, changes: &[(u64, Change)]) -> Vec<(usize, OfError)> {
        match self.id(bridge) {
            Some(id) => self.datapath.changes(id, changes),
            None => (0..changes.len()).map(|i| (i, gone(bridge))).collect(),
        }
    }

    fn flow_stats(&self, bridge: &str, filter: &FlowFilter) -> Flows {
        match self.id(bridge) {
            Some(id) => Box::new(self.datapath.flows(id, filter)),
            None => Box::new(std::iter::empty()),
        }
    }

    fn aggregate_stats(&self, bridge: &str, filter: &FlowFilter) -> AggregateStats {
        match self.id(bridge) {
            Some(id) => self.datapath.aggregate_stats(id, filter),
            None => AggregateStats::default(),
        }
    }

    fn table_stats(&self, bridge: &str) -> Vec<TableStats> {
        match self.id(bridge) {
            Some(id) => self.datapath.table_stats(id),
            None => Vec::new(),
        }
    }

    fn table_mod(&self, bridge: &str, change: &TableConfig) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.table_mod(id, change)
    }

    fn table_desc(&self, bridge: &str) -> Vec<TableConfig> {
        match self.id(bridge) {
            Some(id) => self.datapath.table_desc(id),
            None => Vec::new(),
        }
    }

    fn table_features(&self, bridge: &str) -> Vec<TableFeatures> {
        match self.id(bridge) {
            Some(id) => self.datapath.table_features(id),
            None => Vec::new(),
        }
    }

    fn set_table_features(&self, bridge: &str, tables: &[TableFeatures]) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.set_table_features(id, tables)
    }

    fn group_stats(&self, bridge: &str, group: u32) -> Vec<GroupStats> {
        self.id(bridge)
            .map_or_else(Vec::new, |id| self.datapath.group_stats(id, group))
    }

    fn group_desc(&self, bridge: &str, group: u32) -> Vec<GroupDesc> {
        self.id(bridge)
            .map_or_else(Vec::new, |id| self.datapath.group_desc(id, group))
    }

    fn group_features(&self) -> GroupFeatures {
        self.datapath.group_features()
    }

    fn meter_mod(&self, bridge: &str, change: &MeterMod) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.meter_mod(id, change)
    }

    fn meter_stats(&self, bridge: &str, meter: u32) -> Vec<MeterStats> {
        self.id(bridge)
            .map_or_else(Vec::new, |id| self.datapath.meter_stats(id, meter))
    }

    fn meter_config(&self, bridge: &str, meter: u32) -> Vec<MeterConfig> {
        self.id(bridge)
            .map_or_else(Vec::new, |id| self.datapath.meter_config(id, meter))
    }

    fn meter_features(&self) -> MeterFeatures {
        self.datapath.meter_features()
    }

    fn set_tunnel_options(&self, bridge: &str, maps: Vec<TlvMap>) {
        if let Some(id) = self.id(bridge) {
            // Gone meanwhile: then nobody asks.
            let _ = self.datapath.set_tunnel_options(id, maps);
        }
    }

    fn set_fragments(&self, bridge: &str, mode: u16) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        let mode = datapath::Fragments::from_flags(mode)?;
        self.datapath
            .set_fragments(id, mode)
            .map_err(|_| gone(bridge))
    }

    fn resume(&self, bridge: &str, packet: &PacketIn) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.resume(id, packet)
    }

    fn check_packet_out(&self, bridge: &str, packet: &PacketOut) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.check_packet_out(id, packet)
    }

    fn packet_out(&self, bridge: &str, packet: &PacketOut) -> Result<(), OfError> {
        let id = self.id(bridge).ok_or_else(|| gone(bridge))?;
        self.datapath.packet_out(id, packet)
    }

    fn fdb(&self, bridge: &str) -> Vec<FdbEntry> {
        match self.id(bridge) {
            Some(id) => self.datapath.fdb(id),
            None => Vec::new(),
        }
    }

    fn fdb_add(
        &self,
        bridge: &str,
        port: PortNo,
        vlan: u16,
        mac: MacAddr,
    ) -> Result<Option<FdbBefore>, String> {
        let id = self.id(bridge).ok_or_else(|| no_bridge(bridge))?;
        self.datapath.fdb_add(id, port, vlan, mac)
    }

    fn fdb_remove(&self, bridge: &str, vlan: u16, mac: MacAddr) -> bool {
        self.id(bridge)
            .is_some_and(|id| self.datapath.fdb_remove(id, vlan, mac))
    }

    fn fdb_clear_stats(&self, bridge: &str) {
        if let Some(id) = self.id(bridge) {
            self.datapath.fdb_clear_stats(id);
        }
    }

    fn set_vlan_limit(&self, tags: u8) {
        self.datapath.set_vlan_limit(tags);
    }

    fn fdb_flush(&self, bridge: &str) {
        if let Some(id) = self.id(bridge) {
            self.datapath.fdb_flush(id);
        }
    }

    fn mirror_stats(&self, bridge: &str, id: u128) -> Option<(u64, u64)> {
        self.datapath.mirror_stats(self.id(bridge)?, id)
    }

    fn fdb_stats(&self, bridge: &str) -> FdbStats {
        match self.id(bridge) {
            Some(id) => self.datapath.fdb_stats(id),
            None => FdbStats::default(),
        }
    }

    fn expire(&self) {
        self.datapath.expire(self.clock.now());
    }

    fn look_at_ports(&self) {
        self.datapath.look_at_ports();
    }

    fn cached_flows(&self) -> Vec<CachedFlow> {
        let names: BTreeMap<BridgeId, String> =
            self.map().iter().map(|(n, i)| (*i, n.clone())).collect();
        self.datapath
            .cached_flows()
            .into_iter()
            .map(|f| CachedFlow {
                bridge: names.get(&f.bridge).cloned().unwrap_or_default(),
                in_port: Some(f.in_port),
                key: f.key,
                packets: f.packets,
                bytes: f.bytes,
                used: f.used,
                actions: f.actions,
            })
            .collect()
    }

    fn cache_stats(&self) -> CacheStats {
        self.datapath.cache_stats()
    }

    fn thread_stats(&self) -> Vec<ThreadStats> {
        self.datapath.thread_stats()
    }

    fn set_threads(&self, settings: &ThreadSettings) -> Result<(), String> {
        let mut settings = settings.clone();
        let mut problem = None;
        if let Some(cores) = &mut settings.cores {
            let there = Datapath::processors();
            let (have, missing): (Vec<usize>, Vec<usize>) =
                cores.iter().partition(|c| there.contains(c));
            if !missing.is_empty() {
                problem = Some(format!(
                    "other_config:pmd-cpu-mask names CPUs that are not there ({missing:?}; there are {there:?})"
                ));
            }
            settings.cores = (!have.is_empty()).then_some(have);
        }
        self.datapath
            .set_threads(settings)
            .map_err(|e| e.to_string())?;
        problem.map_or(Ok(()), Err)
    }

    fn thread_loads(&self, secs: u32) -> Vec<ThreadLoad> {
        self.datapath.thread_loads(secs)
    }

    fn queues(&self, secs: u32) -> Vec<QueueReport> {
        self.datapath.queues(secs)
    }

    fn rebalance(&self) -> usize {
        self.datapath.rebalance()
    }

    fn drop_stats(&self, bridge: &str) -> BTreeMap<String, u64> {
        match self.id(bridge) {
            Some(id) => self
                .datapath
                .drop_stats(id, None)
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect(),
            None => BTreeMap::new(),
        }
    }
}
