//! Bridges as the database describes them.
//!
//! * [`config`] — what the database asks for, how that differs from what is, and what is reported back
//! * [`switch`] — carries it out
//! * [`plane`] — the door to the forwarding plane
//! * [`agent`] — the OpenFlow side of a bridge: connections, roles, fail modes, answers
//! * [`host`] — the host's interfaces, routes and neighbours, by netlink
//! * [`control`] — the control socket that `ovs-appctl` speaks to
//! * [`log`] — log levels by module
//! * [`pidfile`] — the file that names the process
//! * [`service`] — the task that ties them together
//!
//! The database is reached by its protocol alone, so that a foreign `ovsdb-server` can serve it.
#![forbid(unsafe_code)]

pub mod agent;
pub mod config;
pub mod control;
pub mod host;
pub mod log;
pub mod pidfile;
pub mod plane;
pub mod service;
#[cfg(test)]
mod stock_tools;
pub mod switch;

pub use log::Vlog;
pub use pidfile::PidFile;
pub use service::{Options, run};
