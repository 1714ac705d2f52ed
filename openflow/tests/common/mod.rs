//! Strategies for messages: of each version, what that version can say in full, so that what is
//! encoded and decoded again must be the same.
#![allow(dead_code, reason = "each test uses the part it needs")]

mod flows;
mod messages;
mod multipart;

pub use messages::message;
#[allow(unused_imports, reason = "each test uses the part it needs")]
pub use messages::nicira;

use openflow::{MacAddr, PortNo};
use proptest::prelude::*;
use std::time::Duration;

/// A duration as messages carry it.
pub fn duration() -> impl Strategy<Value = Duration> {
    (0..u32::MAX, 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s.into(), n))
}

/// The number of a port that can exist.
pub fn port() -> impl Strategy<Value = PortNo> {
    prop_oneof![
        (1u32..0xff00).prop_map(PortNo),
        Just(PortNo::LOCAL),
        Just(PortNo::CONTROLLER)
    ]
}

/// A port, or any.
pub fn any_port() -> impl Strategy<Value = PortNo> {
    prop_oneof![port(), Just(PortNo::ANY)]
}

pub fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

/// A name that fits a field of so many bytes.
pub fn name(bytes: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[a-z0-9_-]{{0,{}}}", bytes - 1)).unwrap()
}

pub fn bytes(most: usize) -> impl Strategy<Value = bytes::Bytes> {
    proptest::collection::vec(any::<u8>(), 0..=most).prop_map(Into::into)
}

pub fn few<S: Strategy>(one: S) -> impl Strategy<Value = Vec<S::Value>>
where
    S::Value: std::fmt::Debug,
{
    proptest::collection::vec(one, 0..4)
}
