//! The OpenFlow controller.
#![forbid(unsafe_code)]
pub mod apps;
pub mod cookie;
pub mod inventory;
pub mod packet;
pub mod topology;
