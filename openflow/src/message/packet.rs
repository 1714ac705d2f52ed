//! Packets to and from controllers.

use super::PortNo;
use crate::action::Action;
use crate::action::PacketInReason;
use crate::matching::Match;
use bytes::Bytes;

/// A buffered packet's handle.
pub type BufferId = Option<u32>;

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
