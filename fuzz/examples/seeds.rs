//! Writes inputs for the fuzzers to begin with into `seeds/`, made with the crates themselves.

#[path = "../../openflow/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use openflow::text::{FlowCommand, Names, parse_flow};
use openflow::{Message, wire};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Messages a version: enough that each kind is among them.
const MESSAGES: usize = 250;

fn put(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new("seeds").join(target);
    fs::create_dir_all(&dir).expect("a directory for seeds");
    fs::write(dir.join(name), bytes).expect("a seed is written");
}

fn main() {
    let lines: Vec<&str> = include_str!("../../openflow/tests/flows.txt")
        .lines()
        .collect();
    for (i, line) in lines.iter().enumerate() {
        put("flow_text", &format!("line{i}"), line.as_bytes());
    }
    let requests = include_str!("../inputs/ovsdb.txt");
    for (i, request) in requests.lines().enumerate() {
        put("ovsdb_json", &format!("request{i}"), request.as_bytes());
    }
    put("ovsdb_json", "all", requests.as_bytes());
    packets(&lines);
    for version in wire::SUPPORTED {
        for (i, message) in messages(*version, &lines).iter().enumerate() {
            if let Ok(bytes) = wire::encode(*version, i as u32, message) {
                put("openflow_decode", &format!("v{version}-{i}"), &bytes);
            }
        }
    }
}

/// Frames of many kinds, each alone, tagged and behind flows of its own; and large packets that guests leave to be cut.
fn packets(lines: &[&str]) {
    let frames: Vec<Vec<u8>> = include_str!("../inputs/frames.txt")
        .lines()
        .map(|l| {
            let byte = |i| u8::from_str_radix(&l[i..i + 2], 16).expect("hex");
            (0..l.len()).step_by(2).map(byte).collect()
        })
        .collect();
    for (i, frame) in frames.iter().enumerate() {
        for how in [0u8, 1] {
            put(
                "packet",
                &format!("frame{i}-{how}"),
                &[&[how][..], frame].concat(),
            );
        }
    }
    let own = include_str!("../inputs/pipelines.txt")
        .lines()
        .map(|l| l.replace(';', "\n"));
    let plain = lines.iter().map(|l| (*l).to_string());
    for (i, flows) in own.chain(plain).enumerate() {
        let frame = &frames[i * 7 % frames.len()];
        let bytes = [&[0x80][..], flows.as_bytes(), &[0], frame].concat();
        put("packet", &format!("flows{i}"), &bytes);
    }
    for (kind, first, header) in [(1u8, 0x0800u16, 34u8), (4, 0x86dd, 54)] {
        let ether = first.to_be_bytes();
        if let Some(frame) = frames.iter().find(|f| f[12..14] == ether) {
            let vnet = [1, kind, header + 20, 0, 100, 0, header, 0, 16, 0];
            let bytes = [&[0x40][..], &vnet, frame, &[7; 1000]].concat();
            put("packet", &format!("large{kind}"), &bytes);
        }
    }
}

/// Messages of a version of every kind, and every flow of the text tests.
fn messages(version: u8, lines: &[&str]) -> Vec<Message> {
    let mut runner = TestRunner::deterministic();
    let strategy = common::message(version);
    let mut made = || {
        let tree = strategy.new_tree(&mut runner).expect("a message");
        tree.current()
    };
    let mut all: Vec<Message> = (0..MESSAGES).map(|_| made()).collect();
    let names = Names::default();
    all.extend(
        lines
            .iter()
            .filter_map(|l| parse_flow(l, FlowCommand::Add, &names).ok())
            .map(|l| Message::FlowMod(l.for_version(version))),
    );
    all
}
