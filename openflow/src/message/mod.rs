//! Messages, independent of any protocol version.

mod control;
mod flow;
mod group;
mod meter;
mod packet;
mod port;
mod table;

pub use control::*;
pub use flow::*;
pub use group::*;
pub use meter::*;
pub use packet::*;
pub use port::*;
pub use table::*;

use bytes::Bytes;

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
