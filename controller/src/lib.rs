//! The OpenFlow controller.
#![forbid(unsafe_code)]
pub mod apps;
pub mod cookie;
pub mod flows;
pub mod hub;
pub mod inventory;
pub mod packet;
pub mod store;
pub mod switch;
pub mod topology;
