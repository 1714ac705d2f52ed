//! Applications: what the controller makes its switches do.
//!
//! An application does no I/O and reads no clock. It is told what happened on one switch and when,
//! and returns what to send to that switch, in order.

pub mod learning_switch;

pub use learning_switch::{Forwarding, LearningSwitch, LearningSwitchConfig};

use openflow::{FlowMod, PacketOut};

/// Something for the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A change of its flow tables.
    FlowMod(Box<FlowMod>),
    /// A packet.
    PacketOut(PacketOut),
}

impl From<FlowMod> for Output {
    fn from(m: FlowMod) -> Output {
        Output::FlowMod(Box::new(m))
    }
}

impl From<PacketOut> for Output {
    fn from(m: PacketOut) -> Output {
        Output::PacketOut(m)
    }
}
