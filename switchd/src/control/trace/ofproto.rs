//! Traces as Open vSwitch writes them.
//!
//! Steps are indented by four blanks for each level. What makes the text short is that a table (or bridge, or action set)
//! that is the last thing on its level is not indented against what led to it: a chain of `goto_table` or of resubmits at
//! the end of rules reads as one column.

use super::{Report, Told};
use std::fmt::Write;

/// The whole answer of `ofproto/trace`.
pub fn write(r: &Report) -> String {
    let mut out = format!("Flow: {}\n", r.flow);
    steps(&r.steps, 0, &mut out);
    if r.untold > 0 {
        let _ = writeln!(out, "\n{} more steps are not shown", r.untold);
    }
    let unchanged = r.final_flow == r.flow;
    let last = if unchanged {
        "unchanged"
    } else {
        &r.final_flow
    };
    let _ = write!(
        out,
        "\nFinal flow: {last}\nMegaflow: {}\nDatapath actions: {}",
        r.megaflow, r.datapath_actions
    );
    let failed = match r.dropped.as_deref() {
        Some("too_deep") => Some("Recursion too deep"),
        Some("too_many_resubmits") => Some("Too many resubmits"),
        _ => None,
    };
    if let Some(why) = failed {
        let _ = write!(out, "\nTranslation failed ({why}), packet is dropped.");
    }
    out.push('\n');
    out
}

/// Writes steps that lie `level` deep.
fn steps(list: &[Told], level: usize, out: &mut String) {
    let mut rest = list;
    while let Some((first, mut after)) = rest.split_first() {
        if let Told::Table { .. } = first {
            // Tables that it goes on to, and the action set, lie below it in Open vSwitch's eyes.
            let below = after
                .iter()
                .take_while(|t| matches!(t, Told::Table { onward: true, .. }))
                .count();
            let set = matches!(after.get(below), Some(Told::ActionSet { .. }));
            let (chain, next) = after.split_at(below + usize::from(set));
            after = next;
            table(first, chain, level, !after.is_empty(), out);
        } else {
            one(first, level, !after.is_empty(), out);
        }
        rest = after;
    }
}

/// A table, those it goes on to one by one, and the action set at the end.
fn table(first: &Told, chain: &[Told], level: usize, more: bool, out: &mut String) {
    let (tables, set) = match chain.split_last() {
        Some((set @ Told::ActionSet { .. }, tables)) => (tables, Some(set)),
        _ => (chain, None),
    };
    one(first, level, more, out);
    let below = level + 2 * usize::from(more);
    let mut level = below;
    let mut more = set.is_some();
    for t in tables {
        one(t, level, more, out);
        level += 2 * usize::from(more);
        // Only the first has the action set behind it.
        more = false;
    }
    if let Some(set) = set {
        one(set, below, false, out);
    }
}

/// A step and what it consists of; whether more follows on its level.
fn one(t: &Told, level: usize, more: bool, out: &mut String) {
    let (text, below, ends) = match t {
        Told::Bridge { bridge, steps } => (format!("bridge(\"{bridge}\")"), &steps[..], false),
        Told::Table { steps, .. } => (found(t), &steps[..], false),
        Told::ActionSet { steps } => ("--. Executing action set:".to_owned(), &steps[..], false),
        Told::Action { action } => (action.clone(), &[][..], true),
        Told::Bucket { bucket, steps } => (format!("bucket {bucket}"), &steps[..], true),
        Told::Remark { text } => (format!(" -> {text}"), &[][..], true),
        Told::Warning { text } => (format!(" >> {text}"), &[][..], true),
        Told::Failure { text } => (format!(" >>>> {text} <<<<"), &[][..], true),
    };
    let more = usize::from(more || ends);
    let indent = (level + more) * 4;
    if let Told::Bridge { .. } = t {
        out.push('\n');
    }
    let _ = writeln!(out, "{:indent$}{text}", "");
    if let Told::Bridge { .. } = t {
        let _ = writeln!(out, "{:indent$}{}", "", "-".repeat(text.len()));
    }
    steps(below, level + 2 * more, out);
}

/// The line of a table.
fn found(t: &Told) -> String {
    let Told::Table {
        table,
        rule,
        packet_in,
        ..
    } = t
    else {
        return String::new();
    };
    let text = match rule {
        None if *packet_in => "No match, and a \"packet-in\" is called for.".to_owned(),
        None => "No match.".to_owned(),
        Some(r) => {
            let comma = if r.matching.is_empty() { "" } else { ", " };
            let mut s = format!("{}{comma}priority {}", r.matching, r.priority);
            if r.cookie != "0x0" {
                let _ = write!(s, ", cookie {}", r.cookie);
            }
            s
        }
    };
    format!("{table:>2}. {text}")
}
