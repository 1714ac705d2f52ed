//! `weir demo`: a switch, its controller and two guests, watched from the first packet to the last.
//!
//! Everything is done by the commands that a user would type, and printed before it is run. Nothing
//! outside a fresh temporary directory is touched, no root and no huge pages are needed, and what the
//! summary claims was seen: a step that did not show it makes the exit code 1.

mod guest;
mod lab;
mod report;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use guest::Guest;
use lab::Lab;
use report::Report;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Watch two guests talk through a switch that an OpenFlow controller programs.
#[derive(Parser)]
#[command(
    name = "weir demo",
    after_help = "Example: weir demo --keep\n\nExit code: 0 if everything shown was seen to happen, 1 otherwise."
)]
struct Options {
    /// Leave everything running at the end, and say how to go on by hand.
    #[arg(long)]
    keep: bool,
    /// Run the guests as processes that speak vhost-user even where /dev/kvm can be used.
    #[arg(long)]
    without_kvm: bool,
    /// Seconds that each measurement takes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

const BRIDGE: &str = "br0";
const ALICE: &str = "10.0.0.1";
const BOB: &str = "10.0.0.2";

/// The subcommand.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let options = match Options::try_parse_from(std::iter::once("weir demo".into()).chain(args)) {
        Ok(o) => o,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::from(e.use_stderr()));
        }
    };
    let mut report = Report::new();
    let result = demonstrate(&options, &mut report);
    if let Err(e) = &result {
        report.failed(&format!("{e:#}"));
    }
    if report.summary() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn demonstrate(options: &Options, report: &mut Report) -> Result<()> {
    report.step("Start database, switch and controller");
    let mut lab = Lab::start(report)?;
    report.seen("weir up answers on its database socket, as an ordinary process");

    report.step("Make a bridge that only its controller programs");
    lab.weir(report, &format!("vsctl add-br {BRIDGE} -- set-fail-mode {BRIDGE} secure -- set-controller {BRIDGE} tcp:{}", lab.openflow))?;
    lab.until("the controller to be connected", || {
        Ok(lab.quiet("vsctl get controller br0 is_connected")?.trim() == "true")
    })?;
    report.seen("the bridge is connected to the controller");

    report.step("Start two guests on vhost-user ports");
    let kind = guest::kind(options.without_kvm, report);
    let mut alice = Guest::start(&lab, report, "alice", ALICE, kind)?;
    let mut bob = Guest::start(&lab, report, "bob", BOB, kind)?;
    lab.until("both ports to have a link", || {
        Ok(["alice0", "bob0"].iter().all(|p| {
            lab.quiet(&format!("vsctl get interface {p} link_state"))
                .is_ok_and(|s| s.trim() == "up")
        }))
    })?;
    lab.weir(report, "vsctl show")?;
    report.seen(&format!("alice and bob run as {}", kind.describe()));

    report.step("alice pings bob: the controller learns and installs flows");
    let before = lab.packet_ins()?;
    let ping = alice.ping(report, BOB, 5)?;
    ensure!(
        ping.received >= 4,
        "only {} of {} pings were answered",
        ping.received,
        ping.sent
    );
    let after = lab.packet_ins()?;
    ensure!(after > before, "the controller saw no packet-in");
    report.seen(&format!(
        "{} of {} pings answered, best round trip {}; {} packet-ins",
        ping.received,
        ping.sent,
        ping.best(),
        after - before
    ));
    let flows = lab.weir(report, &format!("ofctl dump-flows {BRIDGE}"))?;
    ensure!(
        flows.contains("idle_timeout="),
        "no learned flow with an idle timeout is in the table"
    );
    report.seen("learned flows with idle and hard timeouts are in the table");

    report.step("Later pings no longer reach the controller");
    let before = lab.packet_ins()?;
    let ping = alice.ping(report, BOB, 5)?;
    let after = lab.packet_ins()?;
    ensure!(
        ping.received == ping.sent,
        "{} of {} pings were answered",
        ping.received,
        ping.sent
    );
    ensure!(
        after == before,
        "{} packet-ins, though the flows are installed",
        after - before
    );
    report.seen(&format!(
        "{} of {} pings answered, best round trip {}; no packet-in",
        ping.received,
        ping.sent,
        ping.best()
    ));

    report.step("Block ICMP by REST, and unblock it");
    let block = serde_json::json!({"name": "block-icmp", "node": BRIDGE, "priority": 500, "match": {"protocol": "icmp"}, "actions": "drop"});
    lab.rest(report, "POST", "/api/v1/flows", Some(&block))?;
    let ping = alice.ping(report, BOB, 3)?;
    ensure!(
        ping.received == 0,
        "{} pings were answered in spite of the flow",
        ping.received
    );
    let flows = lab.weir(report, &format!("ofctl dump-flows {BRIDGE} icmp"))?;
    ensure!(
        flows.contains("priority=500,icmp actions=drop") && !flows.contains("n_packets=0,"),
        "the drop flow counted nothing"
    );
    lab.rest(report, "DELETE", "/api/v1/flows/block-icmp", None)?;
    let ping = alice.ping(report, BOB, 3)?;
    ensure!(
        ping.received == ping.sent,
        "after unblocking only {} of {} pings were answered",
        ping.received,
        ping.sent
    );
    report
        .seen("pings stopped with the flow, the flow counted them, and they came back without it");

    report.step("Put the guests on different VLANs, and back");
    let normal = serde_json::json!({"name": "normal", "node": BRIDGE, "priority": 600, "match": {}, "actions": "NORMAL"});
    lab.rest(report, "POST", "/api/v1/flows", Some(&normal))?;
    lab.weir(
        report,
        "vsctl set port alice0 tag=10 -- set port bob0 tag=20",
    )?;
    let ping = alice.ping(report, BOB, 3)?;
    ensure!(
        ping.received == 0,
        "{} pings crossed from VLAN 10 to VLAN 20",
        ping.received
    );
    lab.weir(report, "vsctl set port bob0 tag=10")?;
    let ping = alice.ping(report, BOB, 3)?;
    ensure!(
        ping.received >= 2,
        "on one VLAN only {} of {} pings were answered",
        ping.received,
        ping.sent
    );
    lab.weir(report, &format!("appctl fdb/show {BRIDGE}"))?;
    lab.weir(report, "vsctl clear port alice0 tag -- clear port bob0 tag")?;
    lab.rest(report, "DELETE", "/api/v1/flows/normal", None)?;
    let ping = alice.ping(report, BOB, 3)?;
    ensure!(
        ping.received >= 2,
        "back on no VLAN only {} of {} pings were answered",
        ping.received,
        ping.sent
    );
    report.seen("VLAN 10 and 20 do not hear each other, one VLAN does, and back again");

    report.step("Measure guest to guest");
    let window = Duration::from_secs(options.seconds);
    for size in [64, 1500] {
        let measured = lab.measure(&mut alice, &mut bob, report, BOB, size, window)?;
        ensure!(measured.packets > 0, "no frame of {size} bytes arrived");
        report.seen(&measured.to_string());
    }
    let idle = lab.idle_cpu(window)?;
    report.seen(&format!("idle, weir takes {idle:.2}% of a core"));

    if options.keep {
        lab.keep(report, &alice, &bob);
    } else {
        report.step("Stop");
        alice.stop(&lab, report)?;
        bob.stop(&lab, report)?;
        let status = lab.stop().context("weir up did not end")?;
        ensure!(status.success(), "weir up ended with {status}");
        report.seen("guests and switch ended cleanly");
    }
    Ok(())
}
