//! Traces of packets through a bridge's tables: `ofproto/trace`, `ofproto/trace-packet-out`, and `weir trace`.
//!
//! [`request`] reads what is asked (in [`dpctl`]'s syntax or `ovs-ofctl`'s), the datapath follows the packet and tells the way, [`Report`] is that in words, and
//! [`ofproto`] and [`words`] write it: the one as Open vSwitch does, the other with the reasons too.

pub mod dpctl;
pub mod ofproto;
pub mod request;
pub mod words;

use crate::switch::Switch;
use datapath::pipeline::trace::{Found, Passed, Step, Trace, What};
use openflow::text::{
    self, Names, format_actions, format_difference, format_exact_flow, format_match,
    format_megaflow, subfield_text,
};
use openflow::{Action, FlowMod, Instructions, Match, PortNo, Slot};
use serde::Serialize;

/// How many rules that did not match `weir trace` tells of for each lookup.
pub const WHY: usize = 3;

/// A trace in words: what `weir trace --json` prints. Flows and actions are in `ovs-ofctl`'s syntax.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The bridge the packet came to.
    pub bridge: String,
    /// The packet as it came.
    pub flow: String,
    /// What happened, in order.
    pub steps: Vec<Told>,
    /// How many steps are left out, since there are too many.
    pub untold: usize,
    /// The packet at the end.
    pub final_flow: String,
    /// Which packets the same is done to: those that agree on what was looked at.
    pub megaflow: String,
    /// What is done, in `ovs-dpctl`'s syntax; ports are numbered as `dpif/show` numbers them.
    pub datapath_actions: String,
    /// Why nothing is done, if nothing is.
    pub dropped: Option<String>,
}

/// One step. In JSON, `step` names its kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Told {
    /// The packet comes to a bridge.
    Bridge {
        /// Its name.
        bridge: String,
        /// What happened there.
        steps: Vec<Told>,
    },
    /// A table is looked up.
    Table {
        /// Its number.
        table: u8,
        /// Whether the table before sent the packet here (`goto_table`).
        onward: bool,
        /// The rule that matched.
        rule: Option<Matched>,
        /// No rule matched, and the packet goes to the controllers.
        packet_in: bool,
        /// Rules that would have come before and did not match, of highest priority first.
        not_matched: Vec<NotMatched>,
        /// What the rule does.
        steps: Vec<Told>,
    },
    /// An action or instruction.
    Action {
        /// As written.
        action: String,
    },
    /// The action set is carried out.
    ActionSet {
        /// Its actions.
        steps: Vec<Told>,
    },
    /// A bucket of a group is.
    Bucket {
        /// Its number.
        bucket: u32,
        /// Its actions.
        steps: Vec<Told>,
    },
    /// What the action before did.
    Remark {
        /// In words.
        text: String,
    },
    /// Something is not as it should be, and the packet goes on.
    Warning {
        /// In words.
        text: String,
    },
    /// The packet does not go on.
    Failure {
        /// In words.
        text: String,
    },
}

/// A rule that matched.
#[derive(Clone, Debug, Serialize)]
pub struct Matched {
    /// Its priority.
    pub priority: u16,
    /// Its match; empty for every packet.
    #[serde(rename = "match")]
    pub matching: String,
    /// Its cookie, in hex.
    pub cookie: String,
    /// What it does.
    pub actions: String,
}

/// A rule that did not match, and the first thing that kept the packet out.
#[derive(Clone, Debug, Serialize)]
pub struct NotMatched {
    /// The rule.
    #[serde(flatten)]
    pub rule: Matched,
    /// The field that differs.
    pub field: &'static str,
    /// What the rule wants of it.
    pub wants: String,
    /// What the packet has.
    pub has: String,
}

fn matched(r: &datapath::table::Rule, names: &Names) -> Matched {
    Matched {
        priority: r.priority,
        matching: format_match(&r.matching(), None, names),
        cookie: format!("{:#x}", r.cookie),
        actions: text::format_instructions(&r.instructions, names),
    }
}

fn not_matched(p: Passed, names: &Names) -> NotMatched {
    let (field, wants, has) = format_difference(&p.rule.matching(), &p.wanted, p.has, names);
    NotMatched {
        rule: matched(&p.rule, names),
        field,
        wants,
        has,
    }
}

fn unless_zero(n: u64, text: String) -> String {
    if n == 0 { String::new() } else { text }
}

/// A rule that was learned, in Open vSwitch's words.
fn learned(m: &FlowMod, names: &Names) -> String {
    let mut s = format!("table={}", m.table);
    let matching = format_match(&m.matching, None, names);
    for (word, value) in [
        ("", matching),
        ("priority=", m.priority.to_string()),
        ("cookie=", unless_zero(m.cookie, format!("{:#x}", m.cookie))),
        (
            "idle=",
            unless_zero(m.idle_timeout.into(), m.idle_timeout.to_string()),
        ),
        (
            "hard=",
            unless_zero(m.hard_timeout.into(), m.hard_timeout.to_string()),
        ),
    ] {
        if !value.is_empty() {
            s.push_str(&format!(" {word}{value}"));
        }
    }
    if m.flags.send_flow_rem {
        s.push_str(" send_flow_rem");
    }
    let actions = text::format_instructions(&m.instructions, names);
    format!("{s} actions={actions}")
}

/// An instruction as it is written; apply-actions are told one by one.
fn instruction(i: Instructions, names: &Names) -> Told {
    Told::Action {
        action: text::format_instructions(&i, names),
    }
}

fn list(actions: &[Action], names: &Names) -> String {
    match actions {
        [] => " empty".to_owned(),
        some => format!(": {}", format_actions(some, names)),
    }
}

fn told(s: Step, names: &Names) -> Told {
    let steps: Vec<Told> = s.steps.into_iter().map(|s| told(s, names)).collect();
    match s.what {
        What::Bridge(bridge) => Told::Bridge { bridge, steps },
        What::Table {
            table,
            onward,
            found,
            passed,
        } => Told::Table {
            table,
            onward,
            packet_in: matches!(found, Found::PacketIn),
            rule: match found {
                Found::Rule(r) => Some(matched(&r, names)),
                Found::Nothing | Found::PacketIn => None,
            },
            not_matched: passed.into_iter().map(|p| not_matched(p, names)).collect(),
            steps,
        },
        What::Action(a) => Told::Action {
            action: format_actions(&[a], names),
        },
        What::Nothing => Told::Action {
            action: "drop".to_owned(),
        },
        What::Meter(n) => instruction(
            Instructions {
                meter: Some(n),
                ..Instructions::default()
            },
            names,
        ),
        What::ClearActions => instruction(
            Instructions {
                clear_actions: true,
                ..Instructions::default()
            },
            names,
        ),
        What::WriteActions(write) => instruction(
            Instructions {
                write,
                ..Instructions::default()
            },
            names,
        ),
        What::WriteMetadata(value, mask) => instruction(
            Instructions {
                metadata: Some((value, mask)),
                ..Instructions::default()
            },
            names,
        ),
        What::Goto(table) => instruction(
            Instructions {
                goto_table: Some(table),
                ..Instructions::default()
            },
            names,
        ),
        What::ActionSet => Told::ActionSet { steps },
        What::Bucket(bucket) => Told::Bucket { bucket, steps },
        What::Gathered(set) => Told::Remark {
            text: format!("action set is{}", list(&set, names)),
        },
        What::Emptied(set) => Told::Remark {
            text: format!("action set was{}", list(&set, names)),
        },
        What::Learned(rule) => Told::Remark {
            text: learned(&rule, names),
        },
        What::Now(target, value) => Told::Remark {
            text: match value {
                0 => format!("{} is now 0", subfield_text(target)),
                v => format!("{} is now {v:#x}", subfield_text(target)),
            },
        },
        What::Remark(text) => Told::Remark { text },
        What::Warning(text) => Told::Warning { text },
        What::Failure(text) => Told::Failure { text },
    }
}

impl Report {
    fn new(switch: &Switch, bridge: &str, trace: Trace, names: &Names) -> Report {
        let mut packet = Match::new();
        let mut last = Match::new();
        let mut mega = Match::new();
        for &slot in Slot::ALL {
            let bits = datapath::flow::slot_bits(slot);
            packet.set_slot(slot, trace.initial.get(slot), bits, bits);
            last.set_slot(slot, trace.last.get(slot), bits, bits);
            mega.set_slot(slot, trace.initial.get(slot), trace.mask.get(slot), bits);
        }
        let numbers = super::show::datapath_ports(switch);
        Report {
            bridge: bridge.to_owned(),
            flow: format_exact_flow(&packet, names),
            untold: trace.untold,
            final_flow: format_exact_flow(&last, names),
            megaflow: format_megaflow(&mega, names),
            datapath_actions: trace.format_actions(|name| {
                let number = numbers.get(name);
                number.map_or_else(|| name.to_owned(), |p| p.datapath_port.to_string())
            }),
            dropped: trace.drop.map(|d| d.name().to_owned()),
            steps: trace.steps.into_iter().map(|s| told(s, names)).collect(),
        }
    }
}

/// The names of a bridge's ports, for reading flows; they are not shown.
fn names(switch: &Switch, bridge: &str) -> Names {
    let ports = switch.plane().ports(bridge);
    let named = |p: PortNo| Some((p, switch.plane().port_desc(bridge, p)?.name));
    Names {
        ports: ports.into_iter().filter_map(named).collect(),
        ..Names::default()
    }
}
