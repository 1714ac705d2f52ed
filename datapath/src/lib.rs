//! The userspace packet path: ports, flow tables, caches and forwarding threads.
//!
//! [`Datapath`] is the door: bridges, ports and flows go in by it, events come out by [`Events`].
//! It knows no database, no JSON and no tokio. Inside, [`port`] and [`packet`] are the seam to what
//! carries packets.
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod action;
pub mod bridge;
pub mod cache;
pub mod clock;
pub mod config;
mod door;
pub mod drop;
pub mod engine;
pub mod flow;
mod fuzz;
pub mod group;
pub mod mac;
pub mod memory;
pub mod meter;
pub mod mirror;
pub mod packet;
pub mod pipeline;
pub mod policing;
pub mod port;
pub mod qos;
pub mod ring;
pub mod route;
mod stage;
pub mod sys;
pub mod table;
pub mod tunnel;
pub mod underlay;

pub use clock::{Clock, Now};
pub use config::*;
pub use door::{BRIDGES_MAX, Datapath, DatapathError, LOAD_INTERVAL, PORTS_MAX, TraceRequest};
pub use engine::events::Events;
pub use flow::TAGS_PARSED;
pub use fuzz::{Bench, fuzz_packet};
pub use mirror::{MirrorOutput, MirrorSpec};
pub use port::vhost_user::fuzz::fuzz_vhost_message;
pub use port::{InterfaceConfig, PortError, PortStatus};
pub use ring::fuzz::fuzz_ring;
pub use stage::Stage;
pub use tunnel::fuzz::{fuzz_erspan, fuzz_geneve, fuzz_gre, fuzz_gtpu, fuzz_vxlan};
