//! Flows of two places: `replace-flows` and `diff-flows`.

use super::commands::out;
use super::conn::Conn;
use super::{Ended, Options, flows, names};
use anyhow::{Result, anyhow};
use openflow::text::{FlowCommand, FlowLine, Names, Protocols, format_instructions, format_match};
use openflow::wire;
use openflow::{
    FlowFilter, FlowFlags, FlowMod, FlowModCommand, Instructions, Match, Message, TABLE_ALL,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What makes two flows the same entry: table, priority downwards, and match, told by its text.
type Place = (u8, std::cmp::Reverse<u16>, String);

/// A flow as comparison sees it: without counters, ages and flags.
#[derive(Clone)]
struct Version {
    matching: Match,
    cookie: u64,
    idle_timeout: u16,
    hard_timeout: u16,
    importance: u16,
    instructions: Instructions,
    /// The instructions in words, which are what is compared.
    text: String,
    send_flow_rem: bool,
}

impl Version {
    fn same(&self, other: &Version) -> bool {
        (
            self.cookie,
            self.idle_timeout,
            self.hard_timeout,
            self.importance,
        ) == (
            other.cookie,
            other.idle_timeout,
            other.hard_timeout,
            other.importance,
        ) && self.text == other.text
    }
}

/// Entries with their version in the one place, the other, or both.
#[derive(Default)]
struct Entries(BTreeMap<Place, [Option<Version>; 2]>);

impl Entries {
    fn add(&mut self, side: usize, table: u8, priority: u16, v: Version) {
        let text = format_match(&v.matching, None, &Names::default());
        let place = (table, std::cmp::Reverse(priority), text);
        self.0.entry(place).or_default()[side] = Some(v);
    }

    /// Adds the flows of a switch.
    fn add_switch(&mut self, side: usize, conn: &mut Conn) -> Result<()> {
        for f in flows::fetch(conn, FlowFilter::default())? {
            let v = Version {
                text: words(&f.instructions),
                matching: f.matching,
                cookie: f.cookie,
                idle_timeout: f.idle_timeout,
                hard_timeout: f.hard_timeout,
                importance: f.importance,
                instructions: f.instructions,
                send_flow_rem: false,
            };
            self.add(side, f.table, f.priority, v);
        }
        Ok(())
    }

    /// Adds the flows of a file; which formats can say them.
    fn add_file(
        &mut self,
        side: usize,
        file: &str,
        version: u8,
        names: &Names,
    ) -> Result<Protocols> {
        let mut lines = Vec::new();
        for (place, text) in flows::lines(file, "open")? {
            let line = openflow::text::parse_flow(&text, FlowCommand::Add, names);
            let line = line.map_err(|e| anyhow!("{place}{e}"))?;
            flows::tell_normalized(&line);
            let f = as_answered(&line, version);
            let table = if f.table == TABLE_ALL { 0 } else { f.table };
            let v = Version {
                text: words(&f.instructions),
                matching: f.matching,
                cookie: f.cookie,
                idle_timeout: f.idle_timeout,
                hard_timeout: f.hard_timeout,
                importance: f.importance,
                send_flow_rem: f.flags.send_flow_rem,
                instructions: f.instructions,
            };
            self.add(side, table, f.priority, v);
            lines.push(line);
        }
        Ok(flows::usable(&lines))
    }
}

fn words(i: &Instructions) -> String {
    format_instructions(i, &Names::default())
}

/// A flow as the switch would tell of it: in its own spelling, which going over the wire once gives.
fn as_answered(line: &FlowLine, version: u8) -> FlowMod {
    let f = line.flow_mod.clone();
    let mut message = Message::FlowMod(f.clone());
    if version == wire::OF10 {
        message = Message::Nicira(Box::new(message));
    }
    let Ok(bytes) = wire::encode(version, 0, &message) else {
        return f;
    };
    let back = match wire::decode(&bytes).map(|d| d.message) {
        Ok(Message::Nicira(m)) => *m,
        Ok(m) => m,
        Err(_) => return f,
    };
    match back {
        Message::FlowMod(b) => FlowMod {
            matching: b.matching,
            instructions: b.instructions,
            ..f
        },
        _ => f,
    }
}

/// `replace-flows SWITCH FILE`
pub fn replace_flows(o: &Options, a: &[&str]) -> Result<()> {
    const FILE: usize = 0;
    const SWITCH: usize = 1;
    let names = names::accepted(o, a[0])?;
    let version = o.versions().last().copied().unwrap_or(wire::OF10);
    let mut entries = Entries::default();
    let usable = entries.add_file(FILE, a[1], version, &names)?;
    let mut conn = flows::open_to_dump(o, a[0], usable)?;
    entries.add_switch(SWITCH, &mut conn)?;
    let (mut deletes, mut adds) = (Vec::new(), Vec::new());
    for ((table, priority, _), versions) in entries.0 {
        let make = |v: &Version, command| {
            let mut m = FlowMod::add(v.matching.clone(), Instructions::default());
            (m.command, m.table, m.priority) = (command, table, priority.0);
            m
        };
        match versions {
            [None, Some(there)] => {
                deletes.push(flows::wrap(
                    &conn,
                    make(&there, FlowModCommand::DeleteStrict),
                ));
            }
            [Some(wanted), there] => {
                if !o.readd && there.is_some_and(|t| t.same(&wanted)) {
                    continue;
                }
                let mut m = make(&wanted, FlowModCommand::Add);
                m.cookie = wanted.cookie;
                (m.idle_timeout, m.hard_timeout) = (wanted.idle_timeout, wanted.hard_timeout);
                m.importance = wanted.importance;
                m.flags = FlowFlags {
                    send_flow_rem: wanted.send_flow_rem,
                    ..FlowFlags::default()
                };
                m.instructions = wanted.instructions;
                adds.push(flows::wrap(&conn, m));
            }
            [None, None] => {}
        }
    }
    deletes.append(&mut adds);
    let names = names::shown(o, a[0])?;
    let style = o.style(&names, 2);
    if o.bundle {
        conn.bundle(&deletes, &style)
    } else {
        conn.change(&deletes, &style)
    }
}

/// `diff-flows SOURCE1 SOURCE2`
pub fn diff_flows(o: &Options, a: &[&str]) -> Result<()> {
    let mut entries = Entries::default();
    let mut names = Names::default();
    let version = o.versions().last().copied().unwrap_or(wire::OF10);
    for (side, source) in a.iter().enumerate() {
        let file = source.starts_with(['/', '.'])
            || !source.contains(':') && std::path::Path::new(source).exists();
        if file {
            entries.add_file(side, source, version, &Names::default())?;
        } else {
            let mut conn = flows::open_to_dump(o, source, Protocols::ANY)?;
            entries.add_switch(side, &mut conn)?;
            if names.ports.is_empty() {
                names = names::shown(o, source)?;
            }
        }
    }
    names.version = version;
    let mut differ = false;
    for ((table, priority, _), versions) in &entries.0 {
        if let [Some(left), Some(right)] = versions
            && left.same(right)
        {
            continue;
        }
        differ = true;
        for (sign, v) in ['-', '+'].iter().zip(versions) {
            if let Some(v) = v {
                out(&format!("{sign}{}\n", text(*table, priority.0, v, &names)));
            }
        }
    }
    // As diff does: 2 says that there are differences.
    if differ { Err(Ended(2).into()) } else { Ok(()) }
}

fn text(table: u8, priority: u16, v: &Version, names: &Names) -> String {
    let mut s = String::new();
    if table != 0 {
        let _ = write!(s, "table={} ", names.table_text(table));
    }
    s.push_str(&format_match(&v.matching, Some(priority), names));
    if v.cookie != 0 {
        let _ = write!(s, " cookie={:#x}", v.cookie);
    }
    for (name, n) in [
        ("idle_timeout", v.idle_timeout),
        ("hard_timeout", v.hard_timeout),
        ("importance", v.importance),
    ] {
        if n != 0 {
            let _ = write!(s, " {name}={n}");
        }
    }
    let _ = write!(
        s,
        " actions={}",
        format_instructions(&v.instructions, names)
    );
    s
}
