//! What end to end tests are made of: a running weir, namespaces, guests and foreign tools.
//!
//! * [`switch::Weir`] — one `weir up` in a run directory of its own, ended with the test
//! * [`tools::Tools`] — the commands a user types, by stock Open vSwitch programs or by weir's own
//! * [`netns::Namespace`] — a network namespace, removed with the test
//! * [`capture`] — captures, and what Wireshark says of them
//! * [`guest::Guest`] — the built-in guest on a vhost-user port
//! * [`host::Host`] — something that can be pinged: a namespace behind a port, or a guest
//! * [`ovs`] — a real Open vSwitch
//! * [`initramfs`] — a root file system for a guest kernel
//! * [`pairs`] — the same command lines by stock and own programs, compared
//! * [`peers`] — which foreign programs are here; a test that lacks one says so
//! * [`rest`] — the controller's REST interface
//! * [`wait`] — waiting for a condition, never for a time
//!
//! Tests run in parallel: every name carries the process id and a counter, every daemon runs in its
//! own network namespace, and nothing but these namespaces and loopback carries traffic.

pub mod capture;
pub mod guest;
pub mod host;
pub mod initramfs;
pub mod netns;
pub mod ovs;
pub mod pairs;
pub mod peers;
pub mod process;
pub mod rest;
pub mod switch;
pub mod tools;
pub mod traffic;
pub mod wait;
