//! What concerns connections and the switch as a whole: features, roles, asynchronous messages, bundles.

use super::PortDesc;
use crate::error::ErrorKind;
use bytes::Bytes;

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

/// What bundles a switch takes (OpenFlow 1.5.1 7.3.5.20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BundleFeatures {
    /// `OFPBF_*`: 1 atomic, 2 ordered, 4 scheduled.
    pub capabilities: u16,
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
    /// Bit per [`crate::action::PacketInReason`] wire number.
    pub packet_in: [u32; 2],
    /// Bit per [`super::PortReason`].
    pub port_status: [u32; 2],
    /// Bit per [`super::FlowRemovedReason`].
    pub flow_removed: [u32; 2],
    /// Bit per [`RoleReason`] (1.4 and later, as what follows).
    pub role_status: [u32; 2],
    /// Bit per [`super::TableReason`].
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
