//! The door's types: what callers tell the datapath, and what it tells them.

use crate::clock::Clock;
pub use crate::engine::balance::Placing;
use crate::mirror::MirrorSpec;
pub use crate::policing::{Guard, Prefix, RateSpec, StormSpec};
use crate::port::InterfaceConfig;
use crate::qos::QosSpec;
use openflow::error::{ErrorKind, OfError};
use openflow::{
    FlowMod, FlowRemoved, FlowStats, FlowUpdate, GroupMod, MacAddr, PacketIn, PortDesc, PortNo,
    PortReason, Subfield,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to start a datapath.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where ports make their sockets.
    pub run_dir: PathBuf,
    /// Forwarding threads, at least 1, at most [`MAX_THREADS`].
    pub forwarding_threads: usize,
    /// Processor of each forwarding thread; `None` leaves them to the scheduler.
    pub pin: Option<Vec<usize>>,
    /// The clock: real, or a test's.
    pub clock: Clock,
}

/// Most forwarding threads.
pub const MAX_THREADS: usize = 64;

impl Default for Config {
    fn default() -> Config {
        Config {
            run_dir: std::env::temp_dir(),
            forwarding_threads: 1,
            pin: None,
            clock: Clock::real(),
        }
    }
}

/// A bridge's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BridgeId(pub u32);

/// What happens to a packet that no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Miss {
    /// Dropped (OpenFlow 1.3 and later).
    #[default]
    Drop,
    /// Sent to the controller (OpenFlow 1.0 to 1.2).
    Controller,
}

/// A bridge's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Datapath id.
    pub datapath_id: u64,
    /// The local port's address.
    pub mac: MacAddr,
    /// How long a learned address lives without being seen.
    pub mac_aging: Duration,
    /// How many addresses are learned at most.
    pub mac_table_size: usize,
    /// VLANs without learning: always flooded.
    pub flood_vlans: BTreeSet<u16>,
    /// Whether frames to 01:80:c2:00:00:0x are forwarded.
    pub forward_bpdu: bool,
    /// What happens without a matching rule.
    pub miss: Miss,
    /// Tables, 1 to 255.
    pub max_tables: u8,
    /// How single tables are set up.
    pub tables: BTreeMap<u8, TableSpec>,
    /// Mirrors. Of two with the same target the first that selects a packet counts it.
    pub mirrors: Vec<MirrorSpec>,
}

/// A flow table as the database wants it (`Flow_Table`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name, empty for none.
    pub name: String,
    /// How many flows it takes.
    pub flow_limit: Option<u32>,
    /// Whether it evicts when it is full (`overflow_policy=evict`).
    pub evict: bool,
    /// Fields by which the flows are grouped to evict from the largest group.
    pub groups: Vec<Subfield>,
}

impl Default for BridgeConfig {
    fn default() -> BridgeConfig {
        BridgeConfig {
            datapath_id: 0,
            mac: MacAddr::default(),
            mac_aging: Duration::from_secs(300),
            mac_table_size: 8192,
            flood_vlans: BTreeSet::new(),
            forward_bpdu: false,
            miss: Miss::Drop,
            max_tables: 255,
            tables: BTreeMap::new(),
            mirrors: Vec::new(),
        }
    }
}

/// What the tables see of IP fragments (`OFPC_FRAG_*`, OpenFlow 1.3.5 7.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragments {
    /// Like other packets, but without transport ports.
    #[default]
    Normal,
    /// Nothing: they are dropped.
    Drop,
    /// First fragments with their transport ports, later ones with ports 0 (Nicira's `nx-match`).
    NxMatch,
}

impl Fragments {
    /// The flags of `ofp_switch_config`.
    pub const fn flags(self) -> u16 {
        match self {
            Fragments::Normal => 0,
            Fragments::Drop => 1,
            Fragments::NxMatch => 3,
        }
    }

    /// From the flags of `ofp_switch_config`. Reassembling (2) is not offered: fragments would have to be kept for whoever sends
    /// them.
    pub fn from_flags(flags: u16) -> Result<Fragments, OfError> {
        [Fragments::Normal, Fragments::Drop, Fragments::NxMatch]
            .into_iter()
            .find(|f| f.flags() == flags)
            .ok_or_else(|| {
                OfError::new(
                    ErrorKind::SwitchConfigBadFlags,
                    format!("fragment handling {flags}: 0 (normal), 1 (drop) or 3 (nx-match)"),
                )
            })
    }
}

/// How a port takes part in VLANs (`vlan_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanMode {
    /// Untagged frames of one VLAN.
    Access,
    /// Tagged frames of the trunks.
    #[default]
    Trunk,
    /// A trunk whose own VLAN is tagged going out, and untagged or tagged coming in.
    NativeTagged,
    /// A trunk whose own VLAN is untagged going out.
    NativeUntagged,
    /// A customer's frames of all VLANs, carried inside one VLAN of the bridge's, whose tag is put on and taken off here
    /// (IEEE 802.1ad).
    Dot1qTunnel,
}

/// The tag that a dot1q-tunnel port puts on (`other_config:qinq-ethtype`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QinqEthertype {
    /// A service tag, 0x88a8 (IEEE 802.1ad).
    #[default]
    Dot1ad,
    /// A tag like the customer's, 0x8100 (IEEE 802.1Q).
    Dot1q,
}

impl QinqEthertype {
    /// The tag protocol identifier.
    pub const fn tpid(self) -> u16 {
        match self {
            QinqEthertype::Dot1ad => 0x88a8,
            QinqEthertype::Dot1q => 0x8100,
        }
    }
}

/// Tags of value 0: whether priority-tagged frames are sent (`other_config:priority-tags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorityTags {
    /// A frame whose VLAN is not told by a tag goes untagged.
    #[default]
    Never,
    /// Tagged with VLAN 0 if it has a priority.
    IfNonzero,
    /// A tag of VLAN 0 that a frame came with stays on even if the priority is 0.
    Always,
}

/// A port's VLAN configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanConfig {
    /// The mode.
    pub mode: VlanMode,
    /// The access or native VLAN, 0 to 4095; none is 0.
    pub tag: Option<u16>,
    /// VLANs carried by a trunk; empty for all.
    pub trunks: BTreeSet<u16>,
    /// VLANs of the customer's that a dot1q-tunnel carries; empty for all. Untagged frames are of VLAN 0.
    pub cvlans: BTreeSet<u16>,
    /// The tag that a dot1q-tunnel puts on.
    pub qinq_ethtype: QinqEthertype,
    /// Priority tags.
    pub priority_tags: PriorityTags,
}

/// A port as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// OpenFlow port number asked for; taken by another port, the next free one is given.
    pub ofport: Option<u16>,
    /// Whether this is the bridge's own port (`LOCAL`).
    pub local: bool,
    /// VLANs.
    pub vlan: VlanConfig,
    /// What is behind it.
    pub interface: InterfaceConfig,
    /// Protected ports do not talk to one another.
    pub protected: bool,
    /// Processor by receive queue number: the thread there polls the queue.
    pub rxq_affinity: BTreeMap<u16, usize>,
    /// What it may send in.
    pub policing: RateSpec,
    /// What it may send in of broadcast, multicast and unknown unicast.
    pub storm: StormSpec,
    /// The addresses of who is behind it.
    pub guard: Option<Guard>,
    /// Quality of service on the way out.
    pub qos: Option<Arc<QosSpec>>,
}

/// A change of what a bridge's pipeline does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of its flows.
    Flow(FlowMod),
    /// A modify of OpenFlow 1.0 or 1.1, which adds where there is nothing to modify, unless it selects by cookie.
    ModifyOrAdd {
        /// The modify.
        flow_mod: FlowMod,
        /// Whether flows get its cookie, as in 1.0.
        cookie: bool,
    },
    /// Of its groups.
    Group(GroupMod),
}

/// What the datapath tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet for the controllers.
    PacketIn {
        /// Whose.
        bridge: BridgeId,
        /// The packet.
        packet_in: PacketIn,
        /// `max_len` of the action: how many bytes the controller wants (0xffff: all).
        max_len: u16,
        /// Controller id the action names, 0 for the usual ones.
        controller_id: u16,
        /// Nicira's userdata.
        userdata: bytes::Bytes,
    },
    /// A flow that asked for it ended.
    FlowRemoved {
        /// Whose.
        bridge: BridgeId,
        /// The flow.
        removed: FlowRemoved,
    },
    /// Flows passed thresholds of their stat-trigger instructions (OpenFlow 1.5.1 5.9).
    FlowStats {
        /// Whose.
        bridge: BridgeId,
        /// The flows.
        flows: Vec<FlowStats>,
    },
    /// A flow came, went or changed while somebody watches ([`watch_flows`](crate::Datapath::watch_flows)): in the order
    /// of the changes, none left out until [`FlowUpdate::Paused`] says that from here on they are, since too many waited.
    FlowUpdate {
        /// Whose.
        bridge: BridgeId,
        /// What happened.
        update: FlowUpdate,
        /// Who changed it: as given with the change, 0 for time and the switch itself.
        origin: u64,
        /// The version of the flows that it made, to compare with that of
        /// [`flow_snapshot`](crate::Datapath::flow_snapshot).
        version: u64,
    },
    /// A tunnel goes to a neighbour whose Ethernet address is not known: whoever can is to find it out. A bridge has asked
    /// by ARP or neighbour discovery already.
    NeighbourWanted {
        /// The interface it is at.
        device: String,
        /// The neighbour.
        ip: std::net::IpAddr,
    },
    /// A port came, went, or changed.
    PortStatus {
        /// Whose.
        bridge: BridgeId,
        /// How.
        reason: PortReason,
        /// As it is now (or was).
        desc: PortDesc,
    },
}

/// A learned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// Where it is.
    pub port: PortNo,
    /// Its VLAN, 0 for none.
    pub vlan: u16,
    /// The address.
    pub mac: MacAddr,
    /// Time since it was last seen; none if it was put there by hand, and stays.
    pub age: Option<Duration>,
}

/// Where an address was when it was put on a port by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbBefore {
    /// The port; none if it is gone.
    pub port: Option<PortNo>,
    /// Whether it had been put there by hand too.
    pub fixed: bool,
}

/// What the learning table did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdbStats {
    /// Addresses in it.
    pub current: usize,
    /// Of them, those put in by hand.
    pub fixed: usize,
    /// Its bound.
    pub max: usize,
    /// Learned.
    pub learned: u64,
    /// Aged out.
    pub expired: u64,
    /// Pushed out by others.
    pub evicted: u64,
    /// Seen on another port.
    pub moved: u64,
}

/// A cached flow, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedFlow {
    /// Bridge it entered.
    pub bridge: BridgeId,
    /// Port it entered by.
    pub in_port: PortNo,
    /// That port's name.
    pub in_port_name: String,
    /// What it matches, in `ovs-dpctl`'s form.
    pub key: String,
    /// What is done, in `ovs-dpctl`'s form.
    pub actions: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Time since its last packet; none if it never had one.
    pub used: Option<Duration>,
}

/// What the caches did, summed over threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Packets whose exact key was cached.
    pub exact_hits: u64,
    /// Packets found in the wildcard cache.
    pub wildcard_hits: u64,
    /// Packets that went through the tables.
    pub misses: u64,
    /// Subtables looked into by wildcard lookups.
    pub subtables: u64,
    /// Cached flows now.
    pub flows: u64,
    /// Flows translated again because something changed.
    pub revalidated: u64,
}

/// What one forwarding thread did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadStats {
    /// Its number.
    pub thread: usize,
    /// The processor it is pinned to; its number if it is not pinned.
    pub core: usize,
    /// Packets received.
    pub packets: u64,
    /// Batches.
    pub batches: u64,
    /// Cycles of rounds with packets.
    pub busy_cycles: u64,
    /// Cycles of rounds without.
    pub idle_cycles: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Receive queues it has.
    pub queues: u64,
    /// Packets whose exact key was cached.
    pub exact_hits: u64,
    /// Packets found in the wildcard cache.
    pub wildcard_hits: u64,
    /// Subtables looked into by wildcard lookups.
    pub subtables: u64,
    /// Packets that went through the tables.
    pub misses: u64,
}

/// How many forwarding threads there are, where, and how receive queues are placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadSettings {
    /// A thread pinned to each of these processors; `None` for as many as the datapath was started with.
    pub cores: Option<Vec<usize>>,
    /// How queues are placed.
    pub placing: Placing,
    /// Whether a thread with queues tied to its processor takes no others.
    pub isolate: bool,
    /// Whether queues are placed anew by themselves.
    pub auto: Option<AutoBalance>,
}

impl Default for ThreadSettings {
    fn default() -> ThreadSettings {
        ThreadSettings {
            cores: None,
            placing: Placing::default(),
            isolate: true,
            auto: None,
        }
    }
}

/// When receive queues are placed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoBalance {
    /// How often it is thought about.
    pub interval: Duration,
    /// Only if a thread is busy for this many percent of the time.
    pub load: u8,
    /// Only if the variance of the threads' loads becomes smaller by as many percent.
    pub improvement: u8,
}

/// A receive queue and who polls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// Name of its port.
    pub port: String,
    /// Its number within the port.
    pub number: u16,
    /// The thread that polls it.
    pub thread: usize,
    /// The processor it is tied to.
    pub affinity: Option<usize>,
    /// Whether there is somebody behind it.
    pub enabled: bool,
    /// Cycles spent on it in the time asked about.
    pub cycles: u64,
    /// Packets received by it, ever.
    pub packets: u64,
}

/// What a thread had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadLoad {
    /// Its number.
    pub thread: usize,
    /// Its processor; its number if it is not pinned.
    pub core: usize,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether it only takes queues tied to its processor.
    pub isolated: bool,
    /// Cycles of rounds with packets in the time asked about.
    pub busy: u64,
    /// Cycles that passed in that time; none if that is not known yet.
    pub elapsed: Option<u64>,
}
