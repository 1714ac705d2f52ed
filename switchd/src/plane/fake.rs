//! A pretended plane: it keeps what it is told, forwards nothing, and refuses on demand.

use super::*;
use openflow::error::ErrorKind;
use openflow::{FlowMod, FlowModCommand, GroupMod, GroupModCommand, MeterModCommand, PortFlags};
use std::sync::{Mutex, MutexGuard};

#[derive(Default)]
pub(crate) struct FakeBridge {
    pub(crate) params: BridgeParams,
    pub(crate) legacy: bool,
    pub(crate) ports: BTreeMap<PortNo, PortParams>,
    pub(crate) flows: Vec<FlowMod>,
    pub(crate) groups: BTreeMap<u32, GroupMod>,
    pub(crate) meters: BTreeMap<u32, MeterConfig>,
    pub(crate) tables: Vec<TableConfig>,
    pub(crate) fragments: u16,
    pub(crate) watched: bool,
    pub(crate) version: u64,
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) bridges: Mutex<BTreeMap<String, FakeBridge>>,
    /// Interface names and types that cannot be opened, and why.
    pub(crate) broken: Mutex<BTreeMap<String, String>>,
    pub(crate) packets: Mutex<Vec<PacketOut>>,
    pub(crate) resumed: Mutex<Vec<PacketIn>>,
}

impl Fake {
    pub(crate) fn bridges(&self) -> MutexGuard<'_, BTreeMap<String, FakeBridge>> {
        self.bridges.lock().unwrap()
    }
}

impl FakeBridge {
    fn flow_mod(&mut self, change: &FlowMod) -> Result<(), OfError> {
        match change.command {
            FlowModCommand::Add => {
                if change.table >= 254 {
                    return Err(OfError::new(ErrorKind::FlowModBadTableId, "no such table"));
                }
                self.flows.push(change.clone());
            }
            FlowModCommand::Delete => self.flows.retain(|f| {
                f.cookie & change.cookie_mask != change.cookie & change.cookie_mask
                    || !f.matching.is_within(&change.matching)
            }),
            _ => {}
        }
        Ok(())
    }

    /// Modifies by match and priority, and adds if there is nothing.
    fn modify_or_add(&mut self, m: &FlowMod, cookie: bool) -> Result<(), OfError> {
        let mut any = false;
        for f in self.flows.iter_mut().filter(|f| f.matching == m.matching) {
            any = true;
            f.instructions = m.instructions.clone();
            f.cookie = if cookie { m.cookie } else { f.cookie };
        }
        if !any && m.cookie_mask == 0 {
            self.flows.push(FlowMod {
                table: if m.table == openflow::TABLE_ALL {
                    0
                } else {
                    m.table
                },
                ..m.clone()
            });
        }
        Ok(())
    }

    fn group_mod(&mut self, g: &GroupMod) -> Result<(), OfError> {
        match g.command {
            GroupModCommand::Add if self.groups.contains_key(&g.group) => {
                return Err(OfError::new(ErrorKind::GroupExists, "there is one"));
            }
            GroupModCommand::Delete => {
                self.groups.remove(&g.group);
            }
            _ => {
                self.groups.insert(g.group, g.clone());
            }
        }
        Ok(())
    }
}

impl Plane for Fake {
    fn add_bridge(&self, name: &str, params: &BridgeParams) -> Result<(), String> {
        let b = FakeBridge {
            params: params.clone(),
            ..FakeBridge::default()
        };
        assert!(self.bridges().insert(name.to_owned(), b).is_none());
        Ok(())
    }

    fn set_bridge(&self, name: &str, params: &BridgeParams) -> Result<(), String> {
        self.bridges().get_mut(name).ok_or("no bridge")?.params = params.clone();
        Ok(())
    }

    fn set_legacy(&self, name: &str, on: bool) {
        if let Some(b) = self.bridges().get_mut(name) {
            b.legacy = on;
        }
    }

    fn remove_bridge(&self, name: &str) {
        let b = self.bridges().remove(name).expect("it exists");
        assert!(b.ports.is_empty(), "ports were left");
    }

    fn add_port(&self, bridge: &str, params: &PortParams) -> Result<PortNo, PortFault> {
        let broken = self.broken.lock().unwrap();
        for key in [&params.name, &params.kind] {
            if let Some(why) = broken.get(key) {
                return Err(PortFault::Open(why.clone()));
            }
        }
        let mut bridges = self.bridges();
        let b = bridges
            .get_mut(bridge)
            .ok_or_else(|| PortFault::Add("no bridge".to_owned()))?;
        let number = params
            .number
            .filter(|n| !b.ports.contains_key(n))
            .or_else(|| (1..).map(PortNo).find(|n| !b.ports.contains_key(n)))
            .unwrap();
        b.ports.insert(number, params.clone());
        Ok(number)
    }

    fn set_port(&self, bridge: &str, port: PortNo, params: &PortParams) -> Result<(), String> {
        let mut bridges = self.bridges();
        let p = bridges
            .get_mut(bridge)
            .and_then(|b| b.ports.get_mut(&port))
            .ok_or("no port")?;
        if p.options != params.options {
            return Err("options need a new port".to_owned());
        }
        *p = params.clone();
        Ok(())
    }

    fn remove_port(&self, bridge: &str, port: PortNo) {
        let mut bridges = self.bridges();
        bridges
            .get_mut(bridge)
            .and_then(|b| b.ports.remove(&port))
            .expect("it exists");
    }

    fn ports(&self, bridge: &str) -> Vec<PortNo> {
        match self.bridges().get(bridge) {
            Some(b) => b.ports.keys().copied().collect(),
            None => Vec::new(),
        }
    }

    fn port_state(&self, bridge: &str, port: PortNo) -> Option<PortState> {
        let bridges = self.bridges();
        let p = bridges.get(bridge)?.ports.get(&port)?;
        Some(PortState {
            link_up: true,
            admin_up: true,
            mac: Some(
                p.mac
                    .unwrap_or(MacAddr([0xaa, 0x55, 0xaa, 0x55, 0, port.0 as u8])),
            ),
            mtu: Some(u32::from(p.mtu_request.unwrap_or(1500))),
            ..PortState::default()
        })
    }

    fn port_desc(&self, bridge: &str, port: PortNo) -> Option<PortDesc> {
        let state = self.port_state(bridge, port)?;
        let bridges = self.bridges();
        Some(PortDesc {
            port,
            mac: state.mac?,
            name: bridges.get(bridge)?.ports.get(&port)?.name.clone(),
            config: PortFlags::default(),
            link_down: false,
            live: true,
            current: 0,
            advertised: 0,
            supported: 0,
            peer: 0,
            current_speed: 0,
            max_speed: 0,
            properties: Vec::new(),
        })
    }

    fn queue_stats(&self, bridge: &str, port: PortNo) -> Vec<QueueStats> {
        let queues = self.qos(bridge, port).map(|q| q.0.queues.clone());
        let stats = |(queue, _)| QueueStats {
            port: port.0,
            queue,
            tx_packets: 5,
            ..QueueStats::default()
        };
        queues.unwrap_or_default().into_iter().map(stats).collect()
    }

    fn qos(&self, bridge: &str, port: PortNo) -> Option<(Arc<QosSpec>, Device)> {
        let bridges = self.bridges();
        let params = bridges.get(bridge)?.ports.get(&port)?;
        let device = Device { rate: 0, mtu: 1500 };
        Some((params.qos.clone()?, device))
    }

    fn port_stats(&self, bridge: &str, port: PortNo) -> Option<(PortStats, BTreeMap<String, u64>)> {
        self.port_state(bridge, port)?;
        let s = PortStats {
            port: port.0,
            rx_packets: 7,
            ..PortStats::default()
        };
        Some((s, BTreeMap::from([("rx_packets".to_owned(), 7)])))
    }

    fn port_mod(&self, bridge: &str, change: &PortMod) -> Result<(), OfError> {
        match self.port_state(bridge, change.port) {
            Some(_) => Ok(()),
            None => Err(OfError::new(ErrorKind::PortModBadPort, "no such port")),
        }
    }

    fn changes(&self, bridge: &str, changes: &[(u64, Change)]) -> Vec<(usize, OfError)> {
        let each = changes.iter().enumerate();
        each.filter_map(|(i, (origin, c))| {
            let one = std::slice::from_ref(c);
            let (_, e) = self.changes_atomic(bridge, one, *origin).err()?;
            Some((i, e))
        })
        .collect()
    }

    fn changes_atomic(
        &self,
        bridge: &str,
        changes: &[Change],
        _: u64,
    ) -> Result<(), (usize, OfError)> {
        let mut bridges = self.bridges();
        let b = bridges.get_mut(bridge).expect("a bridge");
        let before = (b.flows.clone(), b.groups.clone());
        for (i, c) in changes.iter().enumerate() {
            let done = match c {
                Change::Flow(m) => b.flow_mod(m),
                Change::ModifyOrAdd { flow_mod, cookie } => b.modify_or_add(flow_mod, *cookie),
                Change::Group(g) => b.group_mod(g),
            };
            if let Err(e) = done {
                (b.flows, b.groups) = before;
                return Err((i, e));
            }
        }
        b.version += 1;
        Ok(())
    }

    fn watch_flows(&self, bridge: &str, on: bool) {
        self.bridges().get_mut(bridge).unwrap().watched = on;
    }

    fn flow_snapshot(&self, bridge: &str, filter: &FlowFilter) -> (u64, Vec<FlowStats>) {
        let flows = self.flow_stats(bridge, filter).collect();
        (self.bridges()[bridge].version, flows)
    }

    fn flow_stats(&self, bridge: &str, filter: &FlowFilter) -> Flows {
        let bridges = self.bridges();
        let flows: Vec<FlowStats> = bridges[bridge]
            .flows
            .iter()
            .filter(|f| f.matching.is_within(&filter.matching))
            .map(|f| FlowStats {
                table: f.table,
                duration: Duration::from_secs(1),
                idle_age: None,
                hard_age: None,
                priority: f.priority,
                idle_timeout: f.idle_timeout,
                hard_timeout: f.hard_timeout,
                importance: 0,
                flags: f.flags,
                cookie: f.cookie,
                packets: 0,
                bytes: 0,
                matching: f.matching.clone(),
                instructions: f.instructions.clone(),
            })
            .collect();
        Box::new(flows.into_iter())
    }

    fn aggregate_stats(&self, bridge: &str, filter: &FlowFilter) -> AggregateStats {
        AggregateStats {
            flows: self.flow_stats(bridge, filter).count() as u32,
            ..AggregateStats::default()
        }
    }

    fn table_stats(&self, _: &str) -> Vec<TableStats> {
        Vec::new()
    }

    fn table_mod(&self, bridge: &str, change: &TableConfig) -> Result<(), OfError> {
        self.bridges().get_mut(bridge).unwrap().tables.push(*change);
        Ok(())
    }

    fn table_desc(&self, bridge: &str) -> Vec<TableConfig> {
        self.bridges()[bridge].tables.clone()
    }

    fn table_features(&self, _: &str) -> Vec<TableFeatures> {
        (0..crate::agent::TABLES)
            .map(features::table_features)
            .collect()
    }

    fn set_table_features(&self, _: &str, tables: &[TableFeatures]) -> Result<(), OfError> {
        match tables {
            [t] if t.table == 0 => Ok(()),
            _ => Err(OfError::new(
                ErrorKind::TableFeaturesBadTable,
                "there is one table",
            )),
        }
    }

    fn group_stats(&self, bridge: &str, group: u32) -> Vec<GroupStats> {
        self.bridges()[bridge]
            .groups
            .values()
            .filter(|g| group == openflow::GROUP_ALL || g.group == group)
            .map(|g| GroupStats {
                group: g.group,
                ..GroupStats::default()
            })
            .collect()
    }

    fn group_desc(&self, bridge: &str, group: u32) -> Vec<GroupDesc> {
        self.bridges()[bridge]
            .groups
            .values()
            .filter(|g| group == openflow::GROUP_ALL || g.group == group)
            .map(|g| GroupDesc {
                group: g.group,
                kind: g.kind,
                buckets: g.buckets.clone(),
                selection: g.selection.clone(),
            })
            .collect()
    }

    fn group_features(&self) -> GroupFeatures {
        GroupFeatures {
            types: 15,
            ..GroupFeatures::default()
        }
    }

    fn meter_mod(&self, bridge: &str, change: &MeterMod) -> Result<(), OfError> {
        let mut bridges = self.bridges();
        let meters = &mut bridges.get_mut(bridge).unwrap().meters;
        let c = &change.config;
        match change.command {
            MeterModCommand::Add if meters.contains_key(&c.meter) => {
                return Err(OfError::new(ErrorKind::MeterExists, "there is one"));
            }
            MeterModCommand::Modify if !meters.contains_key(&c.meter) => {
                return Err(OfError::new(ErrorKind::UnknownMeter, "there is none"));
            }
            MeterModCommand::Delete => {
                meters.remove(&c.meter);
            }
            _ => {
                meters.insert(c.meter, c.clone());
            }
        }
        Ok(())
    }

    fn meter_stats(&self, bridge: &str, meter: u32) -> Vec<MeterStats> {
        self.meter_config(bridge, meter)
            .into_iter()
            .map(|m| MeterStats {
                meter: m.meter,
                ..MeterStats::default()
            })
            .collect()
    }

    fn meter_config(&self, bridge: &str, meter: u32) -> Vec<MeterConfig> {
        self.bridges()[bridge]
            .meters
            .values()
            .filter(|m| meter == openflow::METER_ALL || m.meter == meter)
            .cloned()
            .collect()
    }

    fn meter_features(&self) -> MeterFeatures {
        MeterFeatures {
            max_meters: 8,
            ..MeterFeatures::default()
        }
    }

    fn set_tunnel_options(&self, _bridge: &str, _maps: Vec<TlvMap>) {}

    fn set_fragments(&self, bridge: &str, mode: u16) -> Result<(), OfError> {
        if mode == 2 {
            return Err(OfError::new(
                ErrorKind::SwitchConfigBadFlags,
                "fragments are not put together",
            ));
        }
        self.bridges().get_mut(bridge).unwrap().fragments = mode;
        Ok(())
    }

    fn resume(&self, _: &str, packet: &PacketIn) -> Result<(), OfError> {
        self.resumed.lock().unwrap().push(packet.clone());
        Ok(())
    }

    fn check_packet_out(&self, _: &str, packet: &PacketOut) -> Result<(), OfError> {
        match packet.data.len() {
            0 => Err(OfError::new(ErrorKind::BadPacket, "it is empty")),
            _ => Ok(()),
        }
    }

    fn packet_out(&self, _: &str, packet: &PacketOut) -> Result<(), OfError> {
        self.packets.lock().unwrap().push(packet.clone());
        Ok(())
    }

    fn fdb(&self, _: &str) -> Vec<FdbEntry> {
        vec![FdbEntry {
            port: PortNo(2),
            vlan: 0,
            mac: "50:54:00:00:00:09".parse().unwrap(),
            age: Some(Duration::ZERO),
        }]
    }

    fn fdb_add(
        &self,
        _: &str,
        port: PortNo,
        _: u16,
        _: MacAddr,
    ) -> Result<Option<FdbBefore>, String> {
        Ok((port != PortNo(2)).then_some(FdbBefore {
            port: Some(PortNo(2)),
            fixed: false,
        }))
    }

    fn fdb_remove(&self, _: &str, vlan: u16, _: MacAddr) -> bool {
        vlan == 0
    }

    fn fdb_clear_stats(&self, _: &str) {}

    fn set_vlan_limit(&self, _: u8) {}

    fn fdb_flush(&self, _: &str) {}

    fn mirror_stats(&self, bridge: &str, id: u128) -> Option<(u64, u64)> {
        let bridges = self.bridges();
        let mut mirrors = bridges[bridge].params.mirrors.iter();
        mirrors.any(|m| m.id == id).then_some((2, 120))
    }

    fn fdb_stats(&self, _: &str) -> FdbStats {
        FdbStats {
            current: 1,
            max: 8192,
            learned: 1,
            ..FdbStats::default()
        }
    }

    fn expire(&self) {}

    fn look_at_ports(&self) {}

    fn cached_flows(&self) -> Vec<CachedFlow> {
        Vec::new()
    }

    fn cache_stats(&self) -> CacheStats {
        CacheStats::default()
    }

    fn thread_stats(&self) -> Vec<ThreadStats> {
        vec![ThreadStats {
            packets: 10,
            busy_cycles: 500,
            idle_cycles: 500,
            ..ThreadStats::default()
        }]
    }

    fn set_threads(&self, settings: &ThreadSettings) -> Result<(), String> {
        match &settings.cores {
            Some(c) if c.contains(&99) => Err("there is no CPU 99".to_owned()),
            _ => Ok(()),
        }
    }

    fn thread_loads(&self, _: u32) -> Vec<ThreadLoad> {
        vec![
            ThreadLoad {
                thread: 0,
                core: 4,
                pinned: true,
                isolated: false,
                busy: 600,
                elapsed: Some(1000),
            },
            ThreadLoad {
                thread: 1,
                core: 5,
                pinned: true,
                isolated: true,
                busy: 0,
                elapsed: None,
            },
        ]
    }

    fn queues(&self, _: u32) -> Vec<QueueReport> {
        let queue = |port: &str, thread, cycles| QueueReport {
            port: port.to_owned(),
            number: 0,
            thread,
            affinity: None,
            enabled: thread == 0,
            cycles,
            packets: 1,
        };
        vec![queue("p1", 0, 550), queue("p2", 1, 0)]
    }

    fn rebalance(&self) -> usize {
        1
    }

    fn drop_stats(&self, _: &str) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
}
