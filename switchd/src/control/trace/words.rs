//! Traces for people: every step, and why other rules did not match.

use super::{Matched, Report, Told};
use std::fmt::Write;

/// The whole answer of `weir trace`.
pub fn write(r: &Report) -> String {
    let mut out = format!("packet {}\n", r.flow);
    steps(&r.steps, 0, &mut out);
    if r.untold > 0 {
        let _ = writeln!(out, "({} more steps are not shown)", r.untold);
    }
    if r.final_flow != r.flow {
        let _ = writeln!(out, "packet at the end {}", r.final_flow);
    }
    let _ = writeln!(out, "same for all {}", r.megaflow);
    match &r.dropped {
        Some(why) => {
            let _ = writeln!(out, "result: dropped ({why})");
        }
        None => {
            let _ = writeln!(out, "result: {}", r.datapath_actions);
        }
    }
    out
}

fn rule(r: &Matched) -> String {
    let matching = match r.matching.as_str() {
        "" => "every packet",
        m => m,
    };
    let cookie = match r.cookie.as_str() {
        "0x0" => String::new(),
        c => format!(", cookie {c}"),
    };
    format!("{matching}, priority {}{cookie}", r.priority)
}

fn steps(list: &[Told], depth: usize, out: &mut String) {
    let indent = depth * 2;
    for t in list {
        let (text, below) = match t {
            Told::Bridge { bridge, steps } => (format!("bridge {bridge}"), &steps[..]),
            Told::Table {
                table,
                rule: found,
                packet_in,
                not_matched,
                steps,
                ..
            } => {
                for n in not_matched {
                    let _ = writeln!(
                        out,
                        "{:indent$}table {table}: not {}: {} is {}, not {}",
                        "",
                        rule(&n.rule),
                        n.field,
                        n.has,
                        n.wants
                    );
                }
                let text = match found {
                    Some(r) => format!("table {table}: {}", rule(r)),
                    None if *packet_in => {
                        format!(
                            "table {table}: no rule matches; the packet goes to the controllers"
                        )
                    }
                    None => format!("table {table}: no rule matches"),
                };
                (text, &steps[..])
            }
            Told::Action { action } => (action.clone(), &[][..]),
            Told::ActionSet { steps } => ("the action set".to_owned(), &steps[..]),
            Told::Bucket { bucket, steps } => (format!("bucket {bucket}"), &steps[..]),
            Told::Remark { text } => (format!("  {text}"), &[][..]),
            Told::Warning { text } => (format!("  warning: {text}"), &[][..]),
            Told::Failure { text } => (format!("  stopped: {text}"), &[][..]),
        };
        let _ = writeln!(out, "{:indent$}{text}", "");
        steps_below(below, depth, out);
    }
}

fn steps_below(list: &[Told], depth: usize, out: &mut String) {
    if !list.is_empty() {
        steps(list, depth + 1, out);
    }
}
