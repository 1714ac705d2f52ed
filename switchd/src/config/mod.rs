//! From the database to the forwarding plane and back.
//!
//! [`desired`] reads the replica into what is wanted, [`diff`] compares that with what is and says
//! which steps lie between, [`crate::switch::Switch`] carries them out, and [`report`] says what the
//! rows should then read. Only `Switch` has effects; the rest is pure.

pub mod desired;
pub mod diff;
pub mod identity;
pub mod mirror;
mod policing;
pub mod qos;
pub mod report;
pub mod threads;
pub mod tunnel;
pub mod value;
pub mod vlan;
