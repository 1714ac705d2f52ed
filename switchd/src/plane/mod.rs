//! The door to the forwarding plane, as narrow as the switch needs it, so that tests can put a
//! pretended plane behind it. Bridges go by name, ports by number within their bridge.

pub mod door;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod features;

use datapath::qos::QosSpec;
use datapath::qos::spec::Device;
pub use datapath::{
    CacheStats, Change, FdbBefore, FdbEntry, FdbStats, MirrorSpec, Miss, PriorityTags, QueueReport,
    TableSpec, ThreadLoad, ThreadSettings, ThreadStats, VlanConfig, VlanMode,
};
pub use datapath::{Guard, RateSpec, StormSpec};
use openflow::{
    AggregateStats, FlowFilter, FlowStats, GroupDesc, GroupFeatures, GroupStats, MacAddr,
    MeterConfig, MeterFeatures, MeterMod, MeterStats, OfError, PacketIn, PacketOut, PortDesc,
    PortMod, PortNo, PortStats, QueueStats, TableConfig, TableFeatures, TableStats, TlvMap,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Flows one after the other, made as they are taken: very many need not all be in memory.
pub type Flows = Box<dyn Iterator<Item = FlowStats> + Send>;

/// A bridge's settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BridgeParams {
    /// Datapath id.
    pub datapath_id: u64,
    /// Address, also of the local port.
    pub mac: MacAddr,
    /// How long a learned address stays.
    pub mac_aging: Duration,
    /// How many may be learned.
    pub mac_table_size: usize,
    /// VLANs in which nothing is learned.
    pub flood_vlans: BTreeSet<u16>,
    /// Whether frames to 01:80:c2:00:00:0x are forwarded.
    pub forward_bpdu: bool,
    /// Unmatched packets.
    pub miss: Miss,
    /// Single tables.
    pub tables: BTreeMap<u8, TableSpec>,
    /// Mirrors.
    pub mirrors: Vec<MirrorSpec>,
}

/// A port's settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortParams {
    /// Interface name.
    pub name: String,
    /// Interface type, never empty.
    pub kind: String,
    /// `Interface.options`.
    pub options: BTreeMap<String, String>,
    /// Address to give to the device.
    pub mac: Option<MacAddr>,
    /// MTU to give to the device.
    pub mtu_request: Option<u16>,
    /// VLANs.
    pub vlan: VlanConfig,
    /// Does not talk to other protected ports.
    pub protected: bool,
    /// What it may send in.
    pub policing: RateSpec,
    /// What it may send in of broadcast, multicast and unknown unicast.
    pub storm: StormSpec,
    /// The addresses it is held to.
    pub guard: Option<Guard>,
    /// Quality of service on the way out.
    pub qos: Option<Arc<QosSpec>>,
    /// Receive queues asked for.
    pub n_rxq: Option<u16>,
    /// Processor by receive queue (`pmd-rxq-affinity`).
    pub rxq_affinity: BTreeMap<u16, usize>,
    /// Wanted number; [`PortNo::LOCAL`] for a bridge's own port.
    pub number: Option<PortNo>,
}

/// A port's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortState {
    /// Whether there is a link.
    pub link_up: bool,
    /// Whether it is administratively up.
    pub admin_up: bool,
    /// Address.
    pub mac: Option<MacAddr>,
    /// MTU.
    pub mtu: Option<u32>,
    /// kbit/s, 0 if unknown.
    pub speed_kbps: u64,
    /// Kernel interface number, 0 for none.
    pub ifindex: u32,
    /// `Interface.status`.
    pub status: BTreeMap<String, String>,
    /// What is wrong with it while it exists.
    pub error: Option<String>,
    /// Times the link changed.
    pub link_resets: u64,
}

/// One cached datapath flow, as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedFlow {
    /// Bridge it entered.
    pub bridge: String,
    /// Port it entered by.
    pub in_port: Option<PortNo>,
    /// Key and mask in `ovs-dpctl` form.
    pub key: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Time since the last packet, if there was one.
    pub used: Option<Duration>,
    /// Actions in `ovs-dpctl` form.
    pub actions: String,
}

/// Why a port was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortFault {
    /// There is no device to be had: the reason alone (`No such device`); the caller names the device.
    Open(String),
    /// The bridge does not take it: the reason alone.
    Add(String),
}

impl PortFault {
    /// What the `error` column says of the interface `name`.
    pub fn told(&self, name: &str) -> String {
        match self {
            PortFault::Open(why) => format!("could not open network device {name} ({why})"),
            PortFault::Add(why) => {
                format!("could not add network device {name} to ofproto ({why})")
            }
        }
    }
}

impl std::fmt::Display for PortFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (PortFault::Open(why) | PortFault::Add(why)) = self;
        f.write_str(why)
    }
}

/// The forwarding plane.
///
/// Errors of ports are the reason alone; the caller names the device.
pub trait Plane: Send + Sync {
    /// Makes a bridge.
    fn add_bridge(&self, name: &str, params: &BridgeParams) -> Result<(), String>;
    /// Changes a bridge.
    fn set_bridge(&self, name: &str, params: &BridgeParams) -> Result<(), String>;
    /// Whether unmatched packets go to controllers beyond what the settings say, since a controller
    /// speaks a version of OpenFlow in which they do.
    fn set_legacy(&self, name: &str, on: bool);
    /// Removes a bridge and its ports.
    fn remove_bridge(&self, name: &str);
    /// Makes a port; its number is the wanted one if that is free, else the lowest free one.
    fn add_port(&self, bridge: &str, params: &PortParams) -> Result<PortNo, PortFault>;
    /// Changes a port in place; an error means that it must be made anew.
    fn set_port(&self, bridge: &str, port: PortNo, params: &PortParams) -> Result<(), String>;
    /// Removes a port.
    fn remove_port(&self, bridge: &str, port: PortNo);
    /// The numbers of a bridge's ports.
    fn ports(&self, bridge: &str) -> Vec<PortNo>;
    /// A port's state.
    fn port_state(&self, bridge: &str, port: PortNo) -> Option<PortState>;
    /// A port as controllers see it.
    fn port_desc(&self, bridge: &str, port: PortNo) -> Option<PortDesc>;
    /// A port's counters: OpenFlow's, and all by their database names.
    fn port_stats(&self, bridge: &str, port: PortNo) -> Option<(PortStats, BTreeMap<String, u64>)>;
    /// A port's queues, and what they did.
    fn queue_stats(&self, bridge: &str, port: PortNo) -> Vec<QueueStats>;
    /// A port's quality of service, and what defaults depend on.
    fn qos(&self, bridge: &str, port: PortNo) -> Option<(Arc<QosSpec>, Device)>;
    /// A controller's change of a port.
    fn port_mod(&self, bridge: &str, change: &PortMod) -> Result<(), OfError>;
    /// Changes of flows and groups, all or nothing; the error names the index. `origin` is who asks, to
    /// be told with the updates of [`Plane::watch_flows`].
    fn changes_atomic(
        &self,
        bridge: &str,
        changes: &[Change],
        origin: u64,
    ) -> Result<(), (usize, OfError)>;
    /// Several in order, visible together, each with who asks for it; those that failed, by place, and why.
    fn changes(&self, bridge: &str, changes: &[(u64, Change)]) -> Vec<(usize, OfError)>;
    /// Begins or ends telling of changes of flows.
    fn watch_flows(&self, bridge: &str, on: bool);
    /// Flows, and the version of the tables in which they are so.
    fn flow_snapshot(&self, bridge: &str, filter: &FlowFilter) -> (u64, Vec<FlowStats>);
    /// Flows with their counters.
    fn flow_stats(&self, bridge: &str, filter: &FlowFilter) -> Flows;
    /// Their sums.
    fn aggregate_stats(&self, bridge: &str, filter: &FlowFilter) -> AggregateStats;
    /// Tables.
    fn table_stats(&self, bridge: &str) -> Vec<TableStats>;
    /// Changes what a table, or each, does when it is full or has no rule for a packet.
    fn table_mod(&self, bridge: &str, change: &TableConfig) -> Result<(), OfError>;
    /// How tables are set up.
    fn table_desc(&self, bridge: &str) -> Vec<TableConfig>;
    /// What tables can do.
    fn table_features(&self, bridge: &str) -> Vec<TableFeatures>;
    /// Changes that, as far as it can be changed.
    fn set_table_features(&self, bridge: &str, tables: &[TableFeatures]) -> Result<(), OfError>;
    /// One group's counters, or those of all.
    fn group_stats(&self, bridge: &str, group: u32) -> Vec<GroupStats>;
    /// One group, or all.
    fn group_desc(&self, bridge: &str, group: u32) -> Vec<GroupDesc>;
    /// What groups can do.
    fn group_features(&self) -> GroupFeatures;
    /// A change of meters.
    fn meter_mod(&self, bridge: &str, change: &MeterMod) -> Result<(), OfError>;
    /// One meter's counters, or those of all.
    fn meter_stats(&self, bridge: &str, meter: u32) -> Vec<MeterStats>;
    /// One meter, or all.
    fn meter_config(&self, bridge: &str, meter: u32) -> Vec<MeterConfig>;
    /// What meters can do.
    fn meter_features(&self) -> MeterFeatures;
    /// How IP fragments are treated, `OFPC_FRAG_*`: 0 normal, 1 drop, 2 reassemble, 3 `nx-match`.
    fn set_fragments(&self, bridge: &str, mode: u16) -> Result<(), OfError>;
    /// Which Geneve options the `tun_metadata` fields are, from now on.
    fn set_tunnel_options(&self, bridge: &str, maps: Vec<TlvMap>);
    /// Goes on with a packet where its pipeline paused.
    fn resume(&self, bridge: &str, packet: &PacketIn) -> Result<(), OfError>;
    /// Whether a packet-out would be accepted.
    fn check_packet_out(&self, bridge: &str, packet: &PacketOut) -> Result<(), OfError>;
    /// A controller's packet.
    fn packet_out(&self, bridge: &str, packet: &PacketOut) -> Result<(), OfError>;
    /// Learned addresses.
    fn fdb(&self, bridge: &str) -> Vec<FdbEntry>;
    /// Puts an address on a port by hand; where it was before.
    fn fdb_add(
        &self,
        bridge: &str,
        port: PortNo,
        vlan: u16,
        mac: MacAddr,
    ) -> Result<Option<FdbBefore>, String>;
    /// Takes one out that was put in by hand; whether there was one.
    fn fdb_remove(&self, bridge: &str, vlan: u16, mac: MacAddr) -> bool;
    /// Forgets those that were learned.
    fn fdb_flush(&self, bridge: &str);
    /// Counters of the learning table.
    fn fdb_stats(&self, bridge: &str) -> FdbStats;
    /// Has them count from zero again.
    fn fdb_clear_stats(&self, bridge: &str);
    /// How many VLAN tags of a packet are looked at, 0 for as many as can be.
    fn set_vlan_limit(&self, tags: u8);
    /// Packets that a mirror selected and their bytes; none if it is not carried out.
    fn mirror_stats(&self, bridge: &str, id: u128) -> Option<(u64, u64)>;
    /// Ends flows and addresses whose time is over.
    fn expire(&self);
    /// Tells of ports whose device changed.
    fn look_at_ports(&self);
    /// Flows in the caches.
    fn cached_flows(&self) -> Vec<CachedFlow>;
    /// Cache counters.
    fn cache_stats(&self) -> CacheStats;
    /// Forwarding threads.
    fn thread_stats(&self) -> Vec<ThreadStats>;
    /// Changes how many there are, where, and how receive queues are placed; an error says what of it cannot be.
    fn set_threads(&self, settings: &ThreadSettings) -> Result<(), String>;
    /// What threads had to do in the last so many seconds.
    fn thread_loads(&self, secs: u32) -> Vec<ThreadLoad>;
    /// Receive queues and their threads, and what they cost in the last so many seconds.
    fn queues(&self, secs: u32) -> Vec<QueueReport>;
    /// Places receive queues anew; how many moved.
    fn rebalance(&self) -> usize;
    /// Packets dropped on the bridge, by reason.
    fn drop_stats(&self, bridge: &str) -> BTreeMap<String, u64>;
}
