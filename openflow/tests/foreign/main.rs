//! Our bytes before foreign eyes: Open vSwitch's decoder, os-ken's, and Wireshark's dissector; and
//! what os-ken makes of our messages, read by us again.
//!
//! A test whose program is missing says so and passes, unless `WEIR_REQUIRE_PEERS` is set (by
//! `tests/run`, which installs them).

#[path = "../common/mod.rs"]
mod common;
mod os_ken;
mod stock;
mod tshark;

use bytes::Bytes;
use openflow::{Message, wire};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::process::Command;

/// Messages of a version with their bytes, the same in every run; each one's transaction id is its
/// place.
fn messages(version: u8, count: u32) -> Vec<(Message, Bytes)> {
    let mut runner = TestRunner::deterministic();
    let strategy = common::message(version);
    (0..count)
        .map(|xid| {
            let tree = strategy.new_tree(&mut runner).expect("a message");
            let m = tree.current();
            let bytes = wire::encode(version, xid, &m).expect("the version can say it");
            (m, bytes)
        })
        .collect()
}

/// Says that a test could not be done; fails if it had to be.
fn skip(test: &str, what: &str) {
    assert!(
        std::env::var_os("WEIR_REQUIRE_PEERS").is_none(),
        "{test} needs {what}"
    );
    eprintln!("SKIPPED {test}: {what} is missing");
}

/// Whether a program can be run.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
