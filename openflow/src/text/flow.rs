//! Whole flows in text.

use super::action::{format_instructions, parse_lenient};
use super::group::parse_group_id;
use super::matching::{format_match, hex_text, narrow_icmp, normalize, parse_pair};
use super::print::format_duration;
use super::{Names, Pair, Result, TextError, fail, next_pair, number, parse_uint, subfield};
use crate::action::Instructions;
use crate::field::{FieldId, Slot};
use crate::matching::Match;
use crate::message::{
    FlowFilter, FlowFlags, FlowMod, FlowModCommand, FlowStats, PortNo, TABLE_ALL,
};
use std::cmp::Ordering;
use std::fmt::Write;

/// What a text flow is for: decides what it must and must not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowCommand {
    /// `add-flow`: actions needed, no cookie mask, no `out_port`.
    Add,
    /// `mod-flows`: actions needed.
    Modify {
        /// Exactly this match and priority.
        strict: bool,
    },
    /// `del-flows`: no actions.
    Delete {
        /// Exactly this match and priority.
        strict: bool,
    },
}

/// A flow that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLine {
    /// The change.
    pub flow_mod: FlowMod,
    /// The match as it was written, if normalization took something out of it.
    pub normalized_from: Option<crate::Match>,
    /// Whether a table was named: OpenFlow 1.0 has a word for any table.
    pub table_given: bool,
}

const FLAGS: &[&str] = &[
    "send_flow_rem",
    "check_overlap",
    "reset_counts",
    "no_packet_counts",
    "no_byte_counts",
];

fn flag(f: &mut FlowFlags, i: usize) -> &mut bool {
    match i {
        0 => &mut f.send_flow_rem,
        1 => &mut f.check_overlap,
        2 => &mut f.reset_counts,
        3 => &mut f.no_packet_counts,
        _ => &mut f.no_byte_counts,
    }
}

/// Reads a flow: match, properties, and after `actions=` what it does.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_flow(s: &str, command: FlowCommand, names: &Names) -> Result<FlowLine> {
    let wants_actions = !matches!(command, FlowCommand::Delete { .. });
    let mut f = FlowMod::add(Default::default(), Default::default());
    f.command = match command {
        FlowCommand::Add => FlowModCommand::Add,
        FlowCommand::Modify { strict: false } => FlowModCommand::Modify,
        FlowCommand::Modify { strict: true } => FlowModCommand::ModifyStrict,
        FlowCommand::Delete { strict: false } => FlowModCommand::Delete,
        FlowCommand::Delete { strict: true } => FlowModCommand::DeleteStrict,
    };
    if !wants_actions {
        f.table = TABLE_ALL;
    }
    let (fields, actions) = if wants_actions {
        split_actions(s)?
    } else {
        (s, None)
    };
    if wants_actions && actions.is_none() {
        return fail("must specify an action");
    }
    let mut rest = fields;
    let mut table_given = false;
    while let Some(p) = next_pair(&mut rest)? {
        if let (Some(i), true) = (FLAGS.iter().position(|n| *n == p.key), wants_actions) {
            *flag(&mut f.flags, i) = true;
        } else if p.key.contains('[') {
            parse_bits(&mut f.matching, p.key, p.value)?;
        } else if !["allow_hidden_fields", "no_readonly_table"].contains(&p.key)
            && !parse_pair(&mut f.matching, p.key, p.value, names)?
        {
            table_given |= p.key == "table";
            property(&mut f, p, command, names)?;
        }
    }
    narrow_icmp(&mut f.matching);
    if let Some(actions) = actions {
        let table = table_given.then_some(f.table);
        f.instructions = parse_lenient(actions, &f.matching, table, names)?;
    }
    // Every packet of an Ethernet bridge has this type, and it is never printed.
    if f.matching.exact(FieldId::PacketType) == Some(0) {
        f.matching.set_slot(Slot::PacketType, 0, 0, u128::MAX);
    }
    let written = f.matching.clone();
    let normalized_from = normalize(&mut f.matching).then_some(written);
    Ok(FlowLine {
        flow_mod: f,
        normalized_from,
        table_given,
    })
}

/// Reads what a flow has beside match and flags, as far as the command takes it.
fn property(f: &mut FlowMod, p: Pair<'_>, command: FlowCommand, names: &Names) -> Result<()> {
    let Pair { key, value: v } = p;
    if v.is_empty() {
        return fail(format!("field {key} missing value"));
    }
    let add = command == FlowCommand::Add;
    let delete = matches!(command, FlowCommand::Delete { .. });
    let prioritized = command != FlowCommand::Delete { strict: false };
    match key {
        "table" => {
            let table = names.table(v);
            f.table = table.ok_or_else(|| TextError(format!("unknown table \"{v}\"")))?;
        }
        "priority" if prioritized => f.priority = number(v, "priority")?,
        "idle_timeout" if !delete => f.idle_timeout = number(v, "idle_timeout")?,
        "hard_timeout" if !delete => f.hard_timeout = number(v, "hard_timeout")?,
        "importance" if add => f.importance = number(v, "importance")?,
        "cookie" => match (cookie(v)?, command) {
            ((_, Some(_)), FlowCommand::Add) => {
                return fail("flow additions cannot use a cookie mask");
            }
            ((cookie, Some(mask)), _) => (f.cookie, f.cookie_mask) = (cookie, mask),
            ((_, None), FlowCommand::Delete { .. }) => {
                return fail(format!(
                    "cannot set cookie (to match on a cookie, specify a mask, e.g. cookie={v}/-1)"
                ));
            }
            // Without a mask it is the flow's new cookie.
            ((cookie, None), _) => f.cookie = cookie,
        },
        "out_port" if delete => {
            let port = names.port(v);
            f.out_port =
                port.ok_or_else(|| TextError(format!("{v} is not a valid OpenFlow port")))?;
        }
        "out_group" if delete => {
            let group = parse_group_id(v);
            let unknown = || TextError(format!("{v} is not a valid OpenFlow group"));
            f.out_group = Some(group.ok_or_else(unknown)?).filter(|g| *g != u32::MAX);
        }
        // What dump-flows prints and a user pastes back in.
        "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {}
        key => return fail(format!("unknown keyword {key}")),
    }
    Ok(())
}

/// Reads `reg0[0..3]=5` into a match.
fn parse_bits(m: &mut Match, name: &str, v: &str) -> Result<()> {
    let f = subfield::parse(name)?;
    let Some(n) = parse_uint(v) else {
        return fail(format!("{name}: cannot parse integer value: {v}"));
    };
    if f.bits < 128 && n >> f.bits != 0 {
        return fail(format!(
            "{name}: value {v} does not fit into {} bits",
            f.bits
        ));
    }
    let ones = u128::MAX >> (128 - u32::from(f.bits));
    let (value, mask) = m.get(f.field);
    let area = ones << f.offset;
    m.set_masked(f.field, value & !area | n << f.offset, mask | area);
    Ok(())
}

/// Reads what `dump-flows` and `dump-aggregate` select by.
///
/// # Errors
/// As [`parse_flow`].
pub fn parse_flow_filter(s: &str, names: &Names) -> Result<FlowFilter> {
    let f = parse_flow(s, FlowCommand::Delete { strict: false }, names)?.flow_mod;
    Ok(FlowFilter {
        table: f.table,
        out_port: f.out_port,
        out_group: f.out_group,
        cookie: f.cookie,
        cookie_mask: f.cookie_mask,
        matching: f.matching,
    })
}

/// The flow and what follows `actions=` (or `action=`).
fn split_actions(s: &str) -> Result<(&str, Option<&str>)> {
    let Some(at) = s.find("action") else {
        return Ok((s, None));
    };
    let rest = s[at + 6..].trim_start_matches('s');
    match rest.strip_prefix(['=', ':']) {
        Some(actions) => Ok((&s[..at], Some(actions))),
        None => fail("must specify an action"),
    }
}

fn cookie(v: &str) -> Result<(u64, Option<u64>)> {
    let one = |s: &str| match s {
        "-1" => Ok(u64::MAX),
        s => parse_uint(s)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| TextError(format!("invalid numeric format {s}"))),
    };
    match v.split_once('/') {
        Some((c, m)) => Ok((one(c)?, Some(one(m)?))),
        None => Ok((one(v)?, None)),
    }
}

fn flags_text(f: FlowFlags) -> String {
    let mut f = f;
    let mut s = String::new();
    for (i, name) in FLAGS.iter().enumerate() {
        if *flag(&mut f, i) {
            let _ = write!(s, "{name} ");
        }
    }
    s
}

/// How much of a flow's line is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsLine {
    /// With duration and counters.
    Full,
    /// Only what made it (`--no-stats`).
    Rule,
}

/// Writes one line of `dump-flows`, without the blank before it.
pub fn format_flow_stats(f: &FlowStats, line: StatsLine, names: &Names) -> String {
    let mut s = String::new();
    let full = line == StatsLine::Full;
    if full || f.cookie != 0 {
        let _ = write!(s, "cookie={:#x}, ", f.cookie);
    }
    if full {
        let _ = write!(s, "duration={}, ", format_duration(f.duration));
    }
    if full || f.table != 0 {
        let _ = write!(s, "table={}, ", names.table_text(f.table));
    }
    if full {
        let _ = write!(s, "n_packets={}, n_bytes={}, ", f.packets, f.bytes);
    }
    if f.idle_timeout != 0 {
        let _ = write!(s, "idle_timeout={}, ", f.idle_timeout);
    }
    if f.hard_timeout != 0 {
        let _ = write!(s, "hard_timeout={}, ", f.hard_timeout);
    }
    s.push_str(&flags_text(f.flags));
    if f.importance != 0 {
        let _ = write!(s, "importance={}, ", f.importance);
    }
    if let (true, Some(age)) = (full, f.idle_age) {
        let _ = write!(s, "idle_age={}, ", age.as_secs());
    }
    if let (true, Some(age)) = (full, f.hard_age)
        && age.as_secs() != f.duration.as_secs()
    {
        let _ = write!(s, "hard_age={}, ", age.as_secs());
    }
    let m = format_match(&f.matching, Some(f.priority), names);
    s.push_str(&m);
    if !m.is_empty() {
        s.push(' ');
    }
    let _ = write!(s, "actions={}", format_instructions(&f.instructions, names));
    s
}

/// Writes a flow-mod as the message printer does, command first.
pub fn format_flow_mod(f: &FlowMod, names: &Names) -> String {
    let mut s = String::from(match f.command {
        FlowModCommand::Add => "ADD",
        FlowModCommand::Modify => "MOD",
        FlowModCommand::ModifyStrict => "MOD_STRICT",
        FlowModCommand::Delete => "DEL",
        FlowModCommand::DeleteStrict => "DEL_STRICT",
    });
    s.push(' ');
    let delete = matches!(
        f.command,
        FlowModCommand::Delete | FlowModCommand::DeleteStrict
    );
    if f.table != 0 && !(delete && f.table == TABLE_ALL) {
        let _ = write!(s, "table:{} ", names.table_text(f.table));
    }
    let m = format_match(&f.matching, Some(f.priority), names);
    s.push_str(&m);
    if !m.is_empty() {
        s.push(' ');
    }
    let strict_cookie = f.command != FlowModCommand::Add && f.cookie_mask != 0;
    if strict_cookie {
        let _ = write!(
            s,
            "cookie:{} ",
            hex_text(f.cookie, f.cookie_mask).replacen("0/", "0x0/", usize::from(f.cookie == 0))
        );
    } else if f.cookie != 0 && f.cookie != u64::MAX {
        let _ = write!(s, "cookie:{:#x} ", f.cookie);
    }
    if f.idle_timeout != 0 {
        let _ = write!(s, "idle:{} ", f.idle_timeout);
    }
    if f.hard_timeout != 0 {
        let _ = write!(s, "hard:{} ", f.hard_timeout);
    }
    if f.importance != 0 {
        let _ = write!(s, "importance:{} ", f.importance);
    }
    if let Some(b) = f.buffer {
        let _ = write!(s, "buf:{b:#x} ");
    }
    if f.out_port != PortNo::ANY {
        let _ = write!(s, "out_port:{} ", names.port_text(f.out_port));
    }
    if let Some(g) = f.out_group {
        let _ = write!(s, "out_group:{g} ");
    }
    s.push_str(&flags_text(f.flags));
    let empty = f.instructions == Instructions::default();
    if !(delete && empty) {
        let _ = write!(s, "actions={}", format_instructions(&f.instructions, names));
    } else {
        s.push_str("actions=drop");
    }
    s
}

/// What `--sort` and `--rsort` sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// `priority`, also the default.
    Priority,
    /// A match field: flows without it come last.
    Field(FieldId),
}

impl Sort {
    /// Reads a `--sort` argument.
    ///
    /// # Errors
    /// If it is neither `priority` nor a field.
    pub fn parse(s: &str) -> Result<Sort> {
        if s.is_empty() || s.eq_ignore_ascii_case("priority") {
            return Ok(Sort::Priority);
        }
        super::matching::field(s)
            .map(Sort::Field)
            .ok_or_else(|| TextError(format!("{s}: unknown field name")))
    }
}

/// Sorts flows by several criteria, each with whether it goes downwards. The sort is stable.
pub fn sort_flows(flows: &mut [FlowStats], by: &[(Sort, bool)]) {
    flows.sort_by(|a, b| {
        for (sort, down) in by {
            let o = match sort {
                Sort::Priority => a.priority.cmp(&b.priority),
                Sort::Field(f) => {
                    let (x, y) = (a.matching.get(*f), b.matching.get(*f));
                    match (x.1 != 0, y.1 != 0) {
                        (false, true) => return Ordering::Greater,
                        (true, false) => return Ordering::Less,
                        _ => x.cmp(&y),
                    }
                }
            };
            let o = if *down { o.reverse() } else { o };
            if o != Ordering::Equal {
                return o;
            }
        }
        Ordering::Equal
    });
}
