//! Applications: what the controller makes its switches do.
//!
//! An application does no I/O and reads no clock. It is told what happened on one switch and when,
//! and returns what to send to that switch, in order.

pub mod learning_switch;

pub use learning_switch::{Forwarding, LearningSwitch, LearningSwitchConfig};
