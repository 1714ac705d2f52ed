//! Our text against the installed `ovs-ofctl`: the same flow must give the same words.
//!
//! Without an `ovs-ofctl` on the machine there is nothing to compare with and the tests pass.

use openflow::text::{FlowCommand, Names, format_message, parse_flow};
use openflow::{Message, wire};
use std::process::Command;

const FLOWS: &str = include_str!("flows.txt");

/// Standard output and error of the stock tool, without its log lines.
fn stock(args: &[&str]) -> Option<String> {
    let out = Command::new("ovs-ofctl")
        .args(args)
        .env("OVS_RUNDIR", "/nonexistent")
        .output()
        .ok()?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8(text).expect("ovs-ofctl prints ASCII");
    let lines = text.lines().filter(|l| {
        !l.contains("|ofp_")
            && !l.starts_with("usable protocols")
            && !l.starts_with("chosen protocol")
    });
    Some(lines.map(|l| format!("{l}\n")).collect())
}

fn ours(flow: &str) -> String {
    match parse_flow(flow, FlowCommand::Add, &Names::default()) {
        Err(e) => format!("ovs-ofctl: {e}\n"),
        Ok(line) => {
            let message = Message::FlowMod(line.for_version(wire::OF13));
            let bytes = wire::encode(wire::OF13, 1, &message).expect(flow);
            format_message(&wire::decode(&bytes).expect(flow), &Names::default())
        }
    }
}

#[test]
fn flows_read_and_print_as_the_stock_tool_does() {
    let mut wrong = Vec::new();
    for flow in FLOWS
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let Some(want) = stock(&["-O", "OpenFlow13", "parse-flow", flow]) else {
            return;
        };
        let got = ours(flow);
        if got != want {
            wrong.push(format!("flow:  {flow}\nstock: {want}ours:  {got}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
