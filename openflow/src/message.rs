//! Messages, independent of any protocol version.

use crate::action::{Action, Instructions, PacketInReason};
use crate::error::ErrorKind;
use crate::field::FieldId;
use crate::matching::Match;
use bytes::Bytes;
use std::fmt;
use std::time::Duration;

/// An OpenFlow port number, 32 bits wide as from version 1.1 on (1.3.5 7.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortNo(pub u32);

#[allow(missing_docs, reason = "the specification's names, without OFPP_")]
impl PortNo {
    pub const MAX: PortNo = PortNo(0xffff_ff00);
    pub const UNSET: PortNo = PortNo(0xffff_fff7);
    pub const IN_PORT: PortNo = PortNo(0xffff_fff8);
    pub const TABLE: PortNo = PortNo(0xffff_fff9);
    pub const NORMAL: PortNo = PortNo(0xffff_fffa);
    pub const FLOOD: PortNo = PortNo(0xffff_fffb);
    pub const ALL: PortNo = PortNo(0xffff_fffc);
    pub const CONTROLLER: PortNo = PortNo(0xffff_fffd);
    pub const LOCAL: PortNo = PortNo(0xffff_fffe);
    pub const ANY: PortNo = PortNo(0xffff_ffff);

    /// Whether it is a number that a real port other than the local one may have.
    pub fn is_physical(self) -> bool {
        self.0 > 0 && self.0 < 0xff00
    }
}

impl Default for PortNo {
    /// No port in particular: [`PortNo::ANY`].
    fn default() -> PortNo {
        PortNo::ANY
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            PortNo::UNSET => "UNSET",
            PortNo::IN_PORT => "IN_PORT",
            PortNo::TABLE => "TABLE",
            PortNo::NORMAL => "NORMAL",
            PortNo::FLOOD => "FLOOD",
            PortNo::ALL => "ALL",
            PortNo::CONTROLLER => "CONTROLLER",
            PortNo::LOCAL => "LOCAL",
            PortNo::ANY => "ANY",
            PortNo(n) => return write!(f, "{n}"),
        };
        f.write_str(name)
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// As a number, first octet most significant, as flow keys hold it.
    pub fn to_u64(self) -> u64 {
        let m = self.0;
        u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
    }

    /// From the low 48 bits.
    pub fn from_u64(n: u64) -> MacAddr {
        let b = n.to_be_bytes();
        MacAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// Broadcast or multicast.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl std::str::FromStr for MacAddr {
    type Err = String;

    fn from_str(s: &str) -> Result<MacAddr, String> {
        let bad =
            || format!("{s}: a MAC address is six two-digit hex numbers, like 52:54:00:12:34:56");
        let mut m = [0; 6];
        let mut parts = s.split(':');
        for b in &mut m {
            let p = parts
                .next()
                .filter(|p| (1..=2).contains(&p.len()))
                .ok_or_else(bad)?;
            *b = u8::from_str_radix(p, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(MacAddr(m))
        }
    }
}

/// A buffered packet's handle.
pub type BufferId = Option<u32>;

/// What to do with the flow table (OpenFlow 1.3.5 7.3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum FlowModCommand {
    Add,
    Modify,
    ModifyStrict,
    Delete,
    DeleteStrict,
}

/// `ofp_flow_mod_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowFlags {
    /// Tell when the flow ends.
    pub send_flow_rem: bool,
    /// Refuse to overlap a rule of the same priority.
    pub check_overlap: bool,
    /// Begin counting anew.
    pub reset_counts: bool,
    /// Do not count packets.
    pub no_packet_counts: bool,
    /// Do not count bytes.
    pub no_byte_counts: bool,
}

/// Table number that stands for all tables.
pub const TABLE_ALL: u8 = 0xff;

/// A change of the flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// Opaque to the switch.
    pub cookie: u64,
    /// For modify and delete: only flows whose cookie agrees with `cookie` under this mask.
    pub cookie_mask: u64,
    /// The table, or [`TABLE_ALL`] where deletes allow it.
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// Seconds without a packet, 0 for never.
    pub idle_timeout: u16,
    /// Seconds in all, 0 for never.
    pub hard_timeout: u16,
    /// Lower goes first when a full table evicts.
    pub importance: u16,
    /// A packet to run through the change.
    pub buffer: BufferId,
    /// Deletes: only flows with an output to it; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Deletes: only flows that use the group; `None` for all.
    pub out_group: Option<u32>,
    /// Flags.
    pub flags: FlowFlags,
    /// Which packets.
    pub matching: Match,
    /// What happens to them.
    pub instructions: Instructions,
}

impl FlowMod {
    /// An add to table 0 with the default priority 0x8000 and no timeouts.
    pub fn add(matching: Match, instructions: Instructions) -> FlowMod {
        FlowMod {
            command: FlowModCommand::Add,
            cookie: 0,
            cookie_mask: 0,
            table: 0,
            priority: 0x8000,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            buffer: None,
            out_port: PortNo::ANY,
            out_group: None,
            flags: FlowFlags::default(),
            matching,
            instructions,
        }
    }
}

/// Which flows a request speaks of (multipart flow and aggregate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// The table, or [`TABLE_ALL`].
    pub table: u8,
    /// Only flows with an output to it; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only flows that use the group.
    pub out_group: Option<u32>,
    /// With `cookie_mask`, which cookies.
    pub cookie: u64,
    /// Zero for all cookies.
    pub cookie_mask: u64,
    /// Only flows within this match.
    pub matching: Match,
}

impl Default for FlowFilter {
    fn default() -> FlowFilter {
        FlowFilter {
            table: TABLE_ALL,
            out_port: PortNo::ANY,
            out_group: None,
            cookie: 0,
            cookie_mask: 0,
            matching: Match::new(),
        }
    }
}

/// One flow with its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Table.
    pub table: u8,
    /// Time since it was added.
    pub duration: Duration,
    /// Time since it was last used, where the answer carries it (Nicira, 1.5).
    pub idle_age: Option<Duration>,
    /// Time since it was last changed, where the answer carries it.
    pub hard_age: Option<Duration>,
    /// Priority.
    pub priority: u16,
    /// Seconds, 0 for none.
    pub idle_timeout: u16,
    /// Seconds, 0 for none.
    pub hard_timeout: u16,
    /// Importance (1.4 and later).
    pub importance: u16,
    /// Flags it was added with.
    pub flags: FlowFlags,
    /// Cookie.
    pub cookie: u64,
    /// Packets that hit it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Which packets.
    pub matching: Match,
    /// What happens to them.
    pub instructions: Instructions,
}

/// Why a flow's statistics are told (OpenFlow 1.5.1 7.3.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStatsReason {
    /// Somebody asked.
    Request,
    /// A threshold of [`crate::action::StatTrigger`] was passed.
    Trigger,
}

/// Sums over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u32,
}

/// What OpenFlow 1.0 to 1.2 say of a table beside its counters (1.0.0 5.3.5, 1.1.0 A.3.6.3, 1.2 A.3.6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyTable {
    /// What flows may leave out: `OFPFW_*` bits, in 1.2 a bit per OXM field.
    pub wildcards: u64,
    /// How many flows it can hold.
    pub max_entries: u32,
    /// What flows can match, as `wildcards` (1.1 and 1.2, as what follows).
    pub matches: u64,
    /// Bit per instruction type.
    pub instructions: u32,
    /// Bit per action type that can be written to the action set.
    pub write_actions: u32,
    /// Bit per action type that can be applied.
    pub apply_actions: u32,
    /// What happens to packets that no rule matches.
    pub config: u32,
    /// Bit per OXM field that written actions can set (1.2, as what follows).
    pub write_setfields: u64,
    /// Bit per OXM field that applied actions can set.
    pub apply_setfields: u64,
    /// Bits of metadata that can be matched.
    pub metadata_match: u64,
    /// Bits of metadata that can be written.
    pub metadata_write: u64,
}

/// A table's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Which.
    pub table: u8,
    /// Its name, at most 31 bytes (1.0 to 1.2).
    pub name: String,
    /// Flows in it.
    pub active: u32,
    /// Lookups.
    pub lookups: u64,
    /// Those that found a rule.
    pub matched: u64,
    /// In OpenFlow 1.0 to 1.2 alone.
    pub legacy: Option<LegacyTable>,
}

/// Port configuration bits, `OFPPC_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortFlags {
    /// Administratively down.
    pub port_down: bool,
    /// Out of the spanning tree (OpenFlow 1.0).
    pub no_stp: bool,
    /// Drop what comes in.
    pub no_recv: bool,
    /// Drop the spanning tree's packets too (OpenFlow 1.0).
    pub no_recv_stp: bool,
    /// Send nothing out.
    pub no_fwd: bool,
    /// No packet-ins.
    pub no_packet_in: bool,
    /// Left out of floods (OpenFlow 1.0's name; weir keeps it for all versions).
    pub no_flood: bool,
}

/// A port as a controller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDesc {
    /// Number.
    pub port: PortNo,
    /// MAC address.
    pub mac: MacAddr,
    /// Name, at most 15 bytes on the wire.
    pub name: String,
    /// Configuration.
    pub config: PortFlags,
    /// No link.
    pub link_down: bool,
    /// Ready to carry traffic (fast failover).
    pub live: bool,
    /// `OFPPF_*` bits: current features.
    pub current: u32,
    /// Advertised.
    pub advertised: u32,
    /// Supported.
    pub supported: u32,
    /// Advertised by the peer.
    pub peer: u32,
    /// kbit/s, 0 if unknown.
    pub current_speed: u32,
    /// kbit/s, 0 if unknown.
    pub max_speed: u32,
    /// What else there is to say (1.4 and later).
    pub properties: Vec<PortProperty>,
}

/// What a port's description has beside the Ethernet properties (OpenFlow 1.5.1 7.2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortProperty {
    /// An optical port.
    Optical(OpticalPort),
    /// Pipeline fields that packets from it come with (1.5, as what follows).
    PipelineInput(Vec<FieldId>),
    /// Pipeline fields that it sends with packets.
    PipelineOutput(Vec<FieldId>),
    /// Ports by which packets sent here come back.
    Recirculate(Vec<PortNo>),
}

/// `ofp_port_desc_prop_optical`; frequencies in MHz or wavelengths in hundredths of a nanometre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpticalPort {
    /// `OFPOPF_*`.
    pub supported: u32,
    /// Least frequency or wavelength it can send.
    pub tx_min: u32,
    /// Greatest.
    pub tx_max: u32,
    /// Spacing.
    pub tx_grid: u32,
    /// Least it can receive.
    pub rx_min: u32,
    /// Greatest.
    pub rx_max: u32,
    /// Spacing.
    pub rx_grid: u32,
    /// Least power, in hundredths of a dBm.
    pub power_min: u16,
    /// Greatest.
    pub power_max: u16,
}

/// `ofp_port_stats_prop_optical`; units as in [`OpticalPort`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpticalStats {
    /// `OFPOSF_*`: which of the rest are valid.
    pub flags: u32,
    /// Frequency or wavelength sent.
    pub tx: u32,
    /// Its offset.
    pub tx_offset: u32,
    /// Its grid.
    pub tx_grid: u32,
    /// Frequency or wavelength received.
    pub rx: u32,
    /// Its offset.
    pub rx_offset: u32,
    /// Its grid.
    pub rx_grid: u32,
    /// Power sent.
    pub tx_power: u16,
    /// Power received.
    pub rx_power: u16,
    /// Bias current, in tenths of a milliampere.
    pub bias: u16,
    /// Temperature, in tenths of a degree.
    pub temperature: u16,
}

/// `ofp_port_mod_prop_optical`; units as in [`OpticalPort`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpticalMod {
    /// `OFPOPF_*`: which to change.
    pub configure: u32,
    /// Frequency or wavelength to send.
    pub frequency: u32,
    /// Offset, signed.
    pub offset: i32,
    /// Grid.
    pub grid: u32,
    /// Power to send with.
    pub power: u32,
}

/// A port's counters. `u64::MAX` for one that is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct PortStats {
    pub port: u32,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_frame_err: u64,
    pub rx_over_err: u64,
    pub rx_crc_err: u64,
    pub collisions: u64,
    pub duration: Duration,
    /// Of an optical port (1.4 and later).
    pub optical: Option<OpticalStats>,
}

/// A queue's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct QueueStats {
    pub port: u32,
    pub queue: u32,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub duration: Duration,
}

/// Why a port-status is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum PortReason {
    Add,
    Delete,
    Modify,
}

/// A packet for a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketIn {
    /// Where the whole packet waits, if it does.
    pub buffer: BufferId,
    /// Length of the whole packet.
    pub total_len: u16,
    /// Why.
    pub reason: PacketInReason,
    /// Table of the rule.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// in_port, metadata, registers, tunnel fields: what the packet's bytes do not tell.
    pub metadata: Match,
    /// What the controller action that sent it said (Nicira's second form alone).
    pub userdata: Bytes,
    /// The state of a paused pipeline, opaque to the controller, which sends it back to go on
    /// (Nicira's second form alone).
    pub continuation: Option<Bytes>,
    /// The packet, or its first bytes.
    pub data: Bytes,
}

/// A packet from a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketOut {
    /// A waiting packet, or `data`.
    pub buffer: BufferId,
    /// Where it is said to have come in; [`PortNo::CONTROLLER`] or ANY for nowhere.
    pub in_port: PortNo,
    /// Other pipeline fields it begins with (OpenFlow 1.5 and later).
    pub fields: Match,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet if not buffered.
    pub data: Bytes,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum FlowRemovedReason {
    IdleTimeout,
    HardTimeout,
    Delete,
    GroupDelete,
    MeterDelete,
    Eviction,
}

/// A flow that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRemoved {
    /// Why.
    pub reason: FlowRemovedReason,
    /// The flow as it was.
    pub flow: FlowStats,
}

/// `OFPT_FEATURES_REPLY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Datapath id.
    pub datapath_id: u64,
    /// Packets it can hold for controllers.
    pub buffers: u32,
    /// Number of tables.
    pub tables: u8,
    /// 0 for a main connection.
    pub auxiliary_id: u8,
    /// `OFPC_*` bits.
    pub capabilities: u32,
    /// Bit per action type, in OpenFlow 1.0 alone.
    pub actions: u32,
    /// Ports, in the versions that carry them here (1.0 to 1.2).
    pub ports: Vec<PortDesc>,
}

/// `OFPT_SET_CONFIG` and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    /// `OFPC_FRAG_*`: 0 normal, 1 drop, 2 reassemble.
    pub flags: u16,
    /// Bytes of a packet sent with a table miss.
    pub miss_send_len: u16,
}

/// Controller roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum Role {
    NoChange,
    Equal,
    Primary,
    Secondary,
}

/// `OFPMP_DESC`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct SwitchDesc {
    pub manufacturer: String,
    pub hardware: String,
    pub software: String,
    pub serial: String,
    pub datapath: String,
}

/// A change of a port by a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMod {
    /// Which.
    pub port: PortNo,
    /// Must be the port's address.
    pub mac: MacAddr,
    /// New bits.
    pub config: PortFlags,
    /// Which bits to change.
    pub mask: PortFlags,
    /// `OFPPF_*` to advertise, 0 for no change.
    pub advertise: u32,
    /// Of an optical port (1.4 and later).
    pub optical: Option<OpticalMod>,
}

/// An error message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMsg {
    /// Which.
    pub kind: ErrorKind,
    /// The first bytes of the refused message, at least 64 where it had them.
    pub data: Bytes,
}

/// The versions a peer offers (OpenFlow 1.3.5 7.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the message's own header: the highest its sender knows, for peers that send
    /// no bitmap.
    pub version: u8,
    /// One bit per wire version (bit 4 is OpenFlow 1.3), if the peer sent the element.
    pub versions: Option<u32>,
}

/// What a group does with its buckets (OpenFlow 1.3.5 7.3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum GroupType {
    All,
    Select,
    Indirect,
    FastFailover,
}

/// One action bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Relative weight in a select group.
    pub weight: u16,
    /// Port whose state makes the bucket live; [`PortNo::ANY`] for none.
    pub watch_port: PortNo,
    /// Group whose state makes the bucket live.
    pub watch_group: Option<u32>,
    /// Its name within the group (1.5); older versions number buckets as they come.
    pub id: u32,
    /// What the bucket does.
    pub actions: Vec<Action>,
}

/// What to do with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum GroupModCommand {
    Add,
    Modify,
    /// Modify, or add if it is not there (Open vSwitch).
    AddOrModify,
    Delete,
    /// Put the buckets where [`GroupMod::position`] says (1.5).
    InsertBucket,
    /// Take away the buckets that [`GroupMod::position`] names (1.5).
    RemoveBucket,
}

/// Which buckets of a group an insert or remove speaks of (OpenFlow 1.5.1 7.3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketPosition {
    /// Before the first, or the first.
    First,
    /// Behind the last, or the last.
    #[default]
    Last,
    /// All.
    All,
    /// Behind the one with this id, or that one.
    Id(u32),
}

/// How a select group chooses (the `ntr_selection_method` experimenter property).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `hash`, `dp_hash`, or empty for the switch's choice.
    pub method: String,
    /// Basis of the hash.
    pub param: u64,
    /// For `hash`: the fields that count, with masks.
    pub fields: Vec<(FieldId, u128)>,
}

/// Group number that stands for all groups.
pub const GROUP_ALL: u32 = 0xffff_fffc;

/// A change of the group table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// How the buckets are used.
    pub kind: GroupType,
    /// Which group, or [`GROUP_ALL`] for deletes.
    pub group: u32,
    /// Its buckets, or those to insert.
    pub buckets: Vec<Bucket>,
    /// For inserts and removes.
    pub position: BucketPosition,
    /// How it chooses.
    pub selection: Selection,
}

/// A group as it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDesc {
    /// Which.
    pub group: u32,
    /// How the buckets are used.
    pub kind: GroupType,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
    /// How it chooses.
    pub selection: Selection,
}

/// A group's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Which.
    pub group: u32,
    /// Flows and groups that refer to it.
    pub references: u32,
    /// Packets it handled.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time since it was added.
    pub duration: Duration,
    /// Packets and bytes of each bucket.
    pub buckets: Vec<(u64, u64)>,
}

/// What groups a switch can have; arrays in the order all, select, indirect, fast failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFeatures {
    /// Bit per [`GroupType`].
    pub types: u32,
    /// `OFPGFC_*` bits.
    pub capabilities: u32,
    /// How many of each type.
    pub max_groups: [u32; 4],
    /// Bit per action type in each type.
    pub actions: [u32; 4],
}

/// What to do with a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum MeterModCommand {
    Add,
    Modify,
    Delete,
}

/// What a meter band does with what exceeds its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterBandKind {
    /// Drops it.
    Drop,
    /// Raises its drop precedence by this many levels.
    DscpRemark(u8),
}

/// One band of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterBand {
    /// What it does.
    pub kind: MeterBandKind,
    /// kbit/s, or packets per second with `OFPMF_PKTPS`.
    pub rate: u32,
    /// kbit or packets.
    pub burst: u32,
}

/// Meter number that stands for all meters.
pub const METER_ALL: u32 = 0xffff_ffff;

/// A change of the meter table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterModCommand,
    /// Which meter and how.
    pub config: MeterConfig,
}

/// A meter as it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterConfig {
    /// Which, or [`METER_ALL`] for deletes.
    pub meter: u32,
    /// `OFPMF_*` bits: 1 kbit/s, 2 packets/s, 4 burst, 8 statistics.
    pub flags: u16,
    /// Its bands.
    pub bands: Vec<MeterBand>,
}

/// A meter's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Which.
    pub meter: u32,
    /// Flows that use it.
    pub flows: u32,
    /// Packets that went through.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time since it was added.
    pub duration: Duration,
    /// Packets and bytes that exceeded each band.
    pub bands: Vec<(u64, u64)>,
}

/// What meters a switch can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterFeatures {
    /// How many.
    pub max_meters: u32,
    /// Bit per band type (1 drop, 2 remark).
    pub band_types: u32,
    /// `OFPMF_*` bits.
    pub capabilities: u32,
    /// Bands in one meter.
    pub max_bands: u8,
    /// Colour value.
    pub max_color: u8,
    /// `OFPMFF_*`: where a meter action may stand (1.5).
    pub features: u32,
}

/// A table's features (OpenFlow 1.3.5 7.3.5.5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFeatures {
    /// Which table.
    pub table: u8,
    /// What to do with the tables (1.5; older requests replace).
    pub command: TableFeaturesCommand,
    /// `OFPTFF_*`: 1 ingress, 2 egress, 16 first egress (1.5).
    pub features: u32,
    /// Its name.
    pub name: String,
    /// Metadata bits it can match.
    pub metadata_match: u64,
    /// Metadata bits it can write.
    pub metadata_write: u64,
    /// `OFPTC_*` bits; from 1.4 on, those that can be configured.
    pub config: u32,
    /// How many flows.
    pub max_entries: u32,
    /// What it can do.
    pub properties: Vec<TableProperty>,
}

/// `OFPTFC_*` (OpenFlow 1.5.1 7.3.5.18.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableFeaturesCommand {
    #[default]
    Replace,
    Modify,
    Enable,
    Disable,
}

/// What a table does with packets that no rule matches, before OpenFlow 1.3 had table-miss rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableMiss {
    Controller,
    Continue,
    Drop,
}

/// A table's configuration, in a change or (complete) in a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableConfig {
    /// Which, or [`TABLE_ALL`].
    pub table: u8,
    /// What happens to packets that no rule matches (1.1 and 1.2); `None` for no change.
    pub miss: Option<TableMiss>,
    /// Whether a full table evicts (1.4 and later).
    pub eviction: Option<bool>,
    /// `OFPTMPEF_*`: 1 other, 2 importance, 4 lifetime.
    pub eviction_flags: Option<u32>,
    /// Whether and at what free percentages it tells (down, up) (1.4 and later).
    pub vacancy: Option<Option<(u8, u8)>>,
    /// The free percentage now, in descriptions.
    pub vacancy_now: u8,
}

/// Why a table's status is told (OpenFlow 1.4.1 7.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableReason {
    VacancyDown,
    VacancyUp,
}

/// Why a controller's role changed without its asking (OpenFlow 1.4.1 7.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum RoleReason {
    MasterRequest,
    Config,
    Experimenter,
}

/// The state of one controller's connection (OpenFlow 1.5.1 7.4.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerStatus {
    /// Its short id.
    pub id: u16,
    /// Its role.
    pub role: Role,
    /// `OFPCSR_*`: why it is told.
    pub reason: u8,
    /// Whether the connection is up.
    pub up: bool,
    /// `PROTOCOL:ADDRESS:PORT` of its connections.
    pub uri: String,
}

/// What a flow monitor asks for (Nicira's, OpenFlow 1.4.1 7.3.5.18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMonitorRequest {
    /// Chosen by the controller.
    pub id: u32,
    /// Add, modify or delete the monitor (1.4 and later; Nicira's always add).
    pub command: FlowMonitorCommand,
    /// `OFPFMF_*`: 1 initial, 2 add, 4 removed, 8 modify, 16 with instructions, 32 never abbreviated, 64 only own.
    pub flags: u16,
    /// Only flows of this table, or [`TABLE_ALL`].
    pub table: u8,
    /// Only flows with an output to it; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Only flows that use the group.
    pub out_group: Option<u32>,
    /// Only flows within this match.
    pub matching: Match,
}

/// `OFPFMC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum FlowMonitorCommand {
    Add,
    Modify,
    Delete,
}

/// What a flow monitor tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowUpdate {
    /// A flow that was there when the monitor came.
    Initial(MonitoredFlow),
    /// A new flow.
    Added(MonitoredFlow),
    /// A flow that ended, and why.
    Removed(FlowRemovedReason, MonitoredFlow),
    /// New instructions.
    Modified(MonitoredFlow),
    /// A change that this controller asked for itself, by transaction id.
    Abbreviated(u32),
    /// The controller was too slow: nothing is told until...
    Paused,
    /// ...it has caught up; what changed meanwhile came before this.
    Resumed,
}

/// A flow as a monitor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in FlowStats")]
pub struct MonitoredFlow {
    pub table: u8,
    pub priority: u16,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub cookie: u64,
    pub matching: Match,
    /// If asked for.
    pub instructions: Option<Instructions>,
}

/// A Geneve option's place among the `tun_metadata` fields (NXT_TLV_TABLE_MOD).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlvMap {
    /// Option class.
    pub class: u16,
    /// Option type.
    pub kind: u8,
    /// Bytes: 4 to 124, a multiple of 4.
    pub len: u8,
    /// The field's number, 0 to 63.
    pub index: u16,
}

/// `NXTTMC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Nicira's names")]
pub enum TlvTableCommand {
    Add,
    Delete,
    Clear,
}

/// What bundles a switch takes (OpenFlow 1.5.1 7.3.5.20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BundleFeatures {
    /// `OFPBF_*`: 1 atomic, 2 ordered, 4 scheduled.
    pub capabilities: u16,
}

/// One property of a table's features. `miss` is about the table-miss rule alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableProperty {
    /// Instruction types (numbers of OpenFlow 1.3).
    Instructions {
        miss: bool,
        types: Vec<u16>,
    },
    NextTables {
        miss: bool,
        tables: Vec<u8>,
    },
    /// Action types (numbers of OpenFlow 1.3).
    WriteActions {
        miss: bool,
        types: Vec<u16>,
    },
    /// Action types (numbers of OpenFlow 1.3).
    ApplyActions {
        miss: bool,
        types: Vec<u16>,
    },
    /// Fields that can be matched; with whether any mask is allowed.
    Match(Vec<(FieldId, bool)>),
    /// Fields that may be left out of a match.
    Wildcards(Vec<FieldId>),
    WriteSetField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    ApplySetField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    /// Tables whose flows this one takes over (1.4).
    SyncFrom(Vec<u8>),
    /// Fields that copy_field can write to (1.5, as what follows).
    WriteCopyField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    ApplyCopyField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    /// Packet types: namespace in the high half.
    PacketTypes(Vec<u32>),
}

/// A role with its generation (OpenFlow 1.3.5 7.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleMsg {
    /// Asked for or given.
    pub role: Role,
    /// Election number, compared as a signed distance; counts for primary and secondary.
    pub generation: u64,
    /// The controller's short id, 0 for none (1.5).
    pub short_id: u16,
}

/// Which asynchronous messages a controller gets (OpenFlow 1.3.5 7.3.10): bit per reason; index 0
/// while it is primary or equal, 1 while it is secondary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncConfig {
    /// Bit per [`PacketInReason`] wire number.
    pub packet_in: [u32; 2],
    /// Bit per [`PortReason`].
    pub port_status: [u32; 2],
    /// Bit per [`FlowRemovedReason`].
    pub flow_removed: [u32; 2],
    /// Bit per [`RoleReason`] (1.4 and later, as what follows).
    pub role_status: [u32; 2],
    /// Bit per [`TableReason`].
    pub table_status: [u32; 2],
    /// Bit 0 group, 1 meter changes of others.
    pub request_forward: [u32; 2],
    /// Bit per `OFPFSR_*` (1.5).
    pub flow_stats: [u32; 2],
    /// Bit per `OFPCSR_*` (1.5).
    pub controller_status: [u32; 2],
}

impl AsyncConfig {
    /// The masks in the order of their properties' numbers (`OFPACPT_*` divided by two).
    pub fn all_mut(&mut self) -> [&mut [u32; 2]; 8] {
        [
            &mut self.packet_in,
            &mut self.port_status,
            &mut self.flow_removed,
            &mut self.role_status,
            &mut self.table_status,
            &mut self.request_forward,
            &mut self.flow_stats,
            &mut self.controller_status,
        ]
    }
}

/// A change of an [`AsyncConfig`]: which masks are given; the others stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncChange {
    /// The new masks.
    pub masks: AsyncConfig,
    /// Bit per mask, numbered as the properties of 1.4 (`OFPACPT_*`): for each kind of message
    /// first the mask while secondary, then that while primary or equal.
    pub given: u16,
}

impl AsyncChange {
    /// Makes the change.
    pub fn apply(&self, to: &mut AsyncConfig) {
        let mut masks = self.masks;
        for (i, (to, mask)) in to.all_mut().into_iter().zip(masks.all_mut()).enumerate() {
            for role in [0, 1] {
                if self.given & 1 << (2 * i + 1 - role) != 0 {
                    to[role] = mask[role];
                }
            }
        }
    }
}

impl From<AsyncConfig> for AsyncChange {
    /// All masks.
    fn from(masks: AsyncConfig) -> AsyncChange {
        AsyncChange {
            masks,
            given: u16::MAX,
        }
    }
}

/// A queue and its rates, in tenths of a percent of the port's speed (0..=1000) where set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Which.
    pub queue: u32,
    /// Its port.
    pub port: PortNo,
    /// Guaranteed.
    pub min_rate: Option<u16>,
    /// Limit.
    pub max_rate: Option<u16>,
}

/// A question that may need a long answer (OpenFlow 1.3.5 7.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultipartRequest {
    /// What the switch is.
    Desc,
    /// The flows.
    Flow(FlowFilter),
    /// Sums over flows.
    Aggregate(FlowFilter),
    /// Table counters.
    Table,
    /// Port counters; [`PortNo::ANY`] for all.
    PortStats(PortNo),
    /// Queue counters; [`PortNo::ANY`] and `None` for all.
    Queue {
        /// Which port's.
        port: PortNo,
        /// Which queue.
        queue: Option<u32>,
    },
    /// Group counters; `GROUP_ALL` for all.
    Group(u32),
    /// The groups (1.5 narrows it to one).
    GroupDesc(u32),
    /// What groups there can be.
    GroupFeatures,
    /// Meter counters.
    Meter(u32),
    /// The meters.
    MeterConfig(u32),
    /// What meters there can be.
    MeterFeatures,
    /// Table features: empty asks, others set.
    TableFeatures(Vec<TableFeatures>),
    /// The ports (1.5 narrows it to one).
    PortDesc(PortNo),
    /// The tables' configuration (1.4).
    TableDesc,
    /// The queues (1.4).
    QueueDesc {
        /// Which port's.
        port: PortNo,
        /// Which queue.
        queue: Option<u32>,
    },
    /// Watch flows (Nicira's before 1.4).
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// Counters of flows without instructions (1.5; its `Flow` is FLOW_DESC).
    FlowStats(FlowFilter),
    /// The controllers' connections (1.5).
    ControllerStatus,
    /// What bundles there can be (1.5).
    BundleFeatures,
    /// Counters of the bridge's IPFIX exporter (Nicira).
    IpfixBridge,
    /// Counters of the exporters that flows sample to (Nicira).
    IpfixFlow,
}

/// An IPFIX exporter's counters (`nx_ipfix_stats_reply`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "Nicira's names")]
pub struct IpfixStats {
    pub total_flows: u64,
    pub current_flows: u64,
    pub packets: u64,
    pub ipv4_packets: u64,
    pub ipv6_packets: u64,
    pub error_packets: u64,
    pub ipv4_error_packets: u64,
    pub ipv6_error_packets: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    /// Of a flow's exporter.
    pub collector_set: u32,
}

/// The answer to a [`MultipartRequest`], whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each answers the request of the same name")]
pub enum MultipartReply {
    Desc(SwitchDesc),
    Flow(Vec<FlowStats>),
    Aggregate(AggregateStats),
    Table(Vec<TableStats>),
    PortStats(Vec<PortStats>),
    Queue(Vec<QueueStats>),
    Group(Vec<GroupStats>),
    GroupDesc(Vec<GroupDesc>),
    GroupFeatures(GroupFeatures),
    Meter(Vec<MeterStats>),
    MeterConfig(Vec<MeterConfig>),
    MeterFeatures(MeterFeatures),
    TableFeatures(Vec<TableFeatures>),
    PortDesc(Vec<PortDesc>),
    TableDesc(Vec<TableConfig>),
    QueueDesc(Vec<QueueConfig>),
    FlowMonitor(Vec<FlowUpdate>),
    FlowStats(Vec<(FlowStatsReason, FlowStats)>),
    ControllerStatus(Vec<ControllerStatus>),
    BundleFeatures(BundleFeatures),
    IpfixBridge(IpfixStats),
    IpfixFlow(Vec<IpfixStats>),
}

/// Step in a bundle's life (ONF extension 230 for OpenFlow 1.3, 1.4.1 7.3.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum BundleStep {
    OpenRequest,
    OpenReply,
    CloseRequest,
    CloseReply,
    CommitRequest,
    CommitReply,
    DiscardRequest,
    DiscardReply,
}

/// A bundle's identity, as in control and add messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleId {
    /// Chosen by the controller.
    pub id: u32,
    /// All or nothing.
    pub atomic: bool,
    /// In order.
    pub ordered: bool,
}

/// One OpenFlow message, of any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First message in both directions.
    Hello(Hello),
    /// A refusal.
    Error(ErrorMsg),
    /// Are you there?
    EchoRequest(Bytes),
    /// Yes; the request's bytes.
    EchoReply(Bytes),
    /// Who are you?
    FeaturesRequest,
    /// Answer to it.
    FeaturesReply(Features),
    /// Fragment handling and miss length?
    GetConfigRequest,
    /// Answer to it.
    GetConfigReply(SwitchConfig),
    /// Change them.
    SetConfig(SwitchConfig),
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// A flow ended.
    FlowRemoved(FlowRemoved),
    /// A port came, went or changed.
    PortStatus(PortReason, PortDesc),
    /// A packet from the controller.
    PacketOut(PacketOut),
    /// Change of flows.
    FlowMod(FlowMod),
    /// Change of groups.
    GroupMod(GroupMod),
    /// Change of meters.
    MeterMod(MeterMod),
    /// Change of a table's configuration.
    TableMod(TableConfig),
    /// Change of a port.
    PortMod(PortMod),
    /// A question in several parts; the session puts the parts together.
    MultipartRequest(MultipartRequest),
    /// Its answer.
    MultipartReply(MultipartReply),
    /// Finish what came before.
    BarrierRequest,
    /// Finished.
    BarrierReply,
    /// Which queues has a port ([`PortNo::ANY`] for all)?
    QueueGetConfigRequest(PortNo),
    /// Answer to it.
    QueueGetConfigReply(PortNo, Vec<QueueConfig>),
    /// May I be primary?
    RoleRequest(RoleMsg),
    /// What you are.
    RoleReply(RoleMsg),
    /// What asynchronous messages do I get?
    GetAsyncRequest,
    /// Answer to it.
    GetAsyncReply(AsyncConfig),
    /// Change them (also Nicira's NXT_SET_ASYNC_CONFIG).
    SetAsync(AsyncChange),
    /// A bundle's life.
    BundleControl(BundleStep, BundleId),
    /// A message for a bundle, with its transaction id.
    BundleAdd(BundleId, u32, Box<Message>),
    /// A message in the form that Nicira gave it beside OpenFlow 1.0's own: flow-mods, removed flows,
    /// flow and aggregate statistics with an extended match, and packet-ins (those in any version).
    Nicira(Box<Message>),
    /// NXT_SET_FLOW_FORMAT: 0 OpenFlow 1.0, 2 NXM.
    SetFlowFormat(u32),
    /// NXT_FLOW_MOD_TABLE_ID.
    FlowModTableId(bool),
    /// NXT_SET_PACKET_IN_FORMAT: 0 the version's own, 1 Nicira's, 2 Nicira's second.
    SetPacketInFormat(u32),
    /// NXT_SET_CONTROLLER_ID: which controller actions this connection listens to.
    SetControllerId(u16),
    /// NXT_PACKET_IN2: a packet for the controller, with userdata and continuation.
    PacketIn2(PacketIn),
    /// NXT_RESUME: a paused pipeline goes on, with the packet as the controller made it.
    Resume(PacketIn),
    /// NXT_TLV_TABLE_MOD.
    TlvTableMod(TlvTableCommand, Vec<TlvMap>),
    /// NXT_TLV_TABLE_REQUEST.
    TlvTableRequest,
    /// Answer to it: bytes of options and number of fields there can be, and the table.
    TlvTableReply(u32, u16, Vec<TlvMap>),
    /// NXT_CT_FLUSH_ZONE: connections of a zone are forgotten.
    CtFlushZone(u16),
    /// NXT_FLOW_MONITOR_CANCEL, by the monitor's id.
    FlowMonitorCancel(u32),
    /// NXT_FLOW_MONITOR_PAUSED.
    FlowMonitorPaused,
    /// NXT_FLOW_MONITOR_RESUMED.
    FlowMonitorResumed,
    /// Another controller took the primary role, or the like (1.4).
    RoleStatus(RoleReason, RoleMsg),
    /// A table fills or empties (1.4).
    TableStatus(TableReason, TableConfig),
    /// Another controller's change of a group or meter (1.4).
    RequestForward(u32, Box<Message>),
    /// A controller's connection changed (1.5).
    ControllerStatus(ControllerStatus),
    /// NXT_FLOW_AGE: flow statistics with ages, as they always are.
    FlowAge,
}
