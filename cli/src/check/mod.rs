//! `weir check`: what is wrong with a bridge's tables, found by reading them whole.
//!
//! [`read`] asks the switch over OpenFlow, so any switch can be checked. What follows is a function of what it said:
//! [`shadow`] finds rules that no packet can match, [`graph`] tables that are never reached and those that send packets in a
//! circle, `reference` what rules and groups speak of that is not there.

mod graph;
mod read;
mod reference;
mod shadow;
#[cfg(test)]
mod tests;

use openflow::text::{Names, format_match};
use openflow::{Action, FlowStats, GroupDesc, PortDesc};
use serde::Serialize;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::getopt::{self, Spec, Takes};
use crate::paths;

/// All of a bridge's OpenFlow state that matters here.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    /// The rules.
    pub flows: Vec<FlowStats>,
    /// The groups.
    pub groups: Vec<GroupDesc>,
    /// The meters.
    pub meters: Vec<u32>,
    /// The ports.
    pub ports: Vec<PortDesc>,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Packets that match the rule are all taken by rules of higher priority.
    Shadowed,
    /// The rule's match contradicts itself, or asks for what no packet has there.
    NeverMatches,
    /// Nothing sends packets to the table.
    Unreached,
    /// Rules send packets in a circle.
    Loop,
    /// A port that is not there.
    NoPort,
    /// A group that is not there.
    NoGroup,
    /// A meter that is not there.
    NoMeter,
    /// A group without buckets.
    NoBuckets,
    /// A group none of whose buckets is live.
    NoLiveBucket,
    /// A conjunction of which clauses are missing, or that nobody matches.
    Conjunction,
    /// A comparison that was given up, since there was too much to compare.
    Unfinished,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The table, if it is about one.
    pub table: Option<u8>,
    /// The rule, if it is about one: as `dump-flows` writes it, without counters.
    pub rule: Option<String>,
    /// What is wrong, in words.
    pub text: String,
}

/// How a rule is named.
pub(crate) fn rule(f: &FlowStats) -> String {
    let m = format_match(&f.matching, Some(f.priority), &Names::default());
    let cookie = match f.cookie {
        0 => String::new(),
        c => format!("cookie={c:#x},"),
    };
    match m.as_str() {
        "" => format!("{cookie}table={}", f.table),
        m => format!("{cookie}table={},{m}", f.table),
    }
}

fn finding(kind: Kind, flow: &FlowStats, text: impl Into<String>) -> Finding {
    Finding {
        kind,
        table: Some(flow.table),
        rule: Some(rule(flow)),
        text: text.into(),
    }
}

/// All actions of a list, those inside others too.
fn each_action<'a>(list: &'a [Action], visit: &mut dyn FnMut(&'a Action)) {
    for a in list {
        visit(a);
        match a {
            Action::Clone(inner) => each_action(inner, visit),
            Action::Ct(c) => each_action(&c.actions, visit),
            _ => {}
        }
    }
}

/// All actions of a rule.
fn actions_of<'a>(f: &'a FlowStats, visit: &mut dyn FnMut(&'a Action)) {
    each_action(&f.instructions.apply, visit);
    each_action(&f.instructions.write, visit);
}

/// Everything that is wrong with a bridge's tables, by table and rule.
pub fn check(b: &Bridge) -> Vec<Finding> {
    let mut all = shadow::check(b);
    all.extend(graph::check(b));
    all.extend(reference::check(b));
    all.sort_by_key(|f| (f.table, f.kind));
    all
}

const OPTIONS: &[Spec] = &[
    ("json", Some('j'), Takes::Nothing),
    ("run-dir", None, Takes::Value),
    ("help", Some('h'), Takes::Nothing),
];

const HELP: &str = "\
weir check: what is wrong with a bridge's flow tables
usage: weir check [OPTIONS] BRIDGE

Reads all rules, groups, meters and ports over OpenFlow (1.3 or 1.4) and reports:
  shadowed         rules that can never match, since others of higher priority take all their packets
  never_matches    rules whose match contradicts itself, or wants a port or register value that is never there
  unreached        tables that nothing sends packets to
  loop             resubmits in a circle
  no_port          outputs to ports that do not exist
  no_group, no_meter          uses of groups and meters that do not exist
  no_buckets, no_live_bucket  groups that send packets nowhere
  conjunction      conjunctions of which clauses are missing, or that no rule matches by conj_id

  -j, --json             as JSON: bridge, flows (how many there are), findings (kind, table, rule, text)
      --run-dir=DIR      the run directory of the switch (default: $OVS_RUNDIR, else /run/weir)
  -h, --help             this text

BRIDGE may also be an address: unix:PATH, tcp:HOST:PORT.
Exit codes: 0 nothing is wrong; 1 something is; 2 the bridge could not be read.

Example:
  weir check br0
";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    bridge: &'a str,
    flows: usize,
    findings: &'a [Finding],
}

/// Runs `weir check` with the arguments after its name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    match checked(args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("weir check: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn checked(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let (options, words) = getopt::parse(args, &[OPTIONS], false).map_err(anyhow::Error::msg)?;
    let (mut json, mut run_dir) = (false, None);
    for (name, value) in options {
        match name {
            "json" => json = true,
            "run-dir" => run_dir = value,
            _ => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    let [bridge] = &words[..] else {
        anyhow::bail!("one bridge is wanted (see weir check --help)");
    };
    let address = match bridge.contains([':', '/']) {
        true => bridge.clone(),
        false => {
            let dir = paths::run_dir(run_dir.as_deref().map(Path::new));
            format!("unix:{}", dir.join(format!("{bridge}.mgmt")).display())
        }
    };
    let state = read::bridge(&address)?;
    let findings = check(&state);
    if json {
        let report = Report {
            bridge,
            flows: state.flows.len(),
            findings: &findings,
        };
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for f in &findings {
            match &f.rule {
                Some(rule) => println!("{rule}: {}", f.text),
                None => println!("{}", f.text),
            }
        }
    }
    Ok(match findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}
