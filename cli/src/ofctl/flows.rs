//! Flows: shown, added, changed, deleted.

use super::commands::out;
use super::conn::Conn;
use super::{Options, names};
use anyhow::{Context, Result, anyhow, bail};
use openflow::text::{
    FlowCommand, FlowLine, Names, Protocols, StatsLine, for_match, format_flow_stats, format_match,
    parse_flow, parse_flow_filter, sort_flows, usable_protocols,
};
use openflow::wire;
use openflow::{
    FlowFilter, FlowMod, FlowModCommand, FlowStats, Match, Message, MultipartReply,
    MultipartRequest, TABLE_ALL,
};
use std::io::BufRead;

/// Opens a connection that speaks one of these flow formats, and one that is allowed.
///
/// # Errors
/// None of them is allowed, or spoken by the switch.
pub fn open_for(o: &Options, switch: &str, usable: Protocols) -> Result<Conn> {
    let both = usable.and(o.allowed);
    if both.is_empty() {
        bail!(
            "none of the usable flow formats ({usable}) is among the allowed flow formats ({})",
            o.allowed
        );
    }
    let mut conn = names::open(o, switch)?;
    if both.contains(conn.protocol) {
        return Ok(conn);
    }
    for p in both.iter() {
        if conn.try_protocol(p)? {
            return Ok(conn);
        }
    }
    bail!("switch does not support any of the usable flow formats ({usable})")
}

/// Opens a connection in which flows can be asked for: the richest format that is allowed.
///
/// # Errors
/// As [`open_for`].
pub fn open_to_dump(o: &Options, switch: &str, usable: Protocols) -> Result<Conn> {
    let mut conn = names::open(o, switch)?;
    let both = usable.and(o.allowed);
    let mut known: Vec<Protocols> = both.iter().filter(|p| *p != Protocols::OF10).collect();
    known.retain(|p| ![Protocols::OF10_TID, Protocols::NXM_TID].contains(p));
    known.reverse();
    if both.contains(Protocols::OF10) {
        known.push(Protocols::OF10);
    }
    for p in known {
        if conn.try_protocol(p)? {
            return Ok(conn);
        }
    }
    if both.is_empty() {
        bail!(
            "none of the usable flow formats ({usable}) is among the allowed flow formats ({})",
            o.allowed
        );
    }
    bail!("switch does not support any of the usable flow formats ({usable})")
}

/// A request about flows in the connection's format.
fn request(conn: &Conn, q: MultipartRequest) -> Message {
    let plain = Message::MultipartRequest(q);
    if conn.protocol == Protocols::NXM {
        Message::Nicira(Box::new(plain))
    } else {
        plain
    }
}

/// A flow-mod in the connection's format.
pub fn message(conn: &Conn, line: &FlowLine) -> Message {
    message_in(conn.protocol, line).1
}

/// A flow-mod in a format, and the format's version.
pub fn message_in(protocol: Protocols, line: &FlowLine) -> (u8, Message) {
    let version = protocol.versions().first().copied().unwrap_or(wire::OF10);
    let mut f = line.flow_mod.clone();
    let delete = matches!(
        f.command,
        FlowModCommand::Delete | FlowModCommand::DeleteStrict
    );
    if version == wire::OF10 {
        let named = line.table_given && f.table != TABLE_ALL;
        f.table = match Protocols::TID.contains(protocol) {
            true if named => f.table,
            true => TABLE_ALL,
            false => 0,
        };
        // OpenFlow 1.0 counts anew with every add, and knows no importance.
        f.flags.reset_counts = false;
        f.importance = 0;
    } else if f.table == TABLE_ALL && (version == 2 || !delete) {
        f.table = 0;
    }
    (version, in_format(protocol, f))
}

/// A flow-mod whose table is as it shall be, in the connection's format.
pub fn wrap(conn: &Conn, f: FlowMod) -> Message {
    in_format(conn.protocol, f)
}

fn in_format(protocol: Protocols, f: FlowMod) -> Message {
    let plain = Message::FlowMod(f);
    if Protocols::NXM_ANY.contains(protocol) {
        Message::Nicira(Box::new(plain))
    } else {
        plain
    }
}

/// Which formats can say what is asked for.
fn for_filter(f: &FlowFilter) -> Protocols {
    let later = Protocols::from_version_up(2);
    let mut usable = for_match(&f.matching);
    if f.cookie_mask != 0 {
        usable = usable.and(Protocols::NXM_ANY.or(later));
    }
    if f.out_group.is_some() {
        usable = usable.and(later);
    }
    usable
}

fn filter(o: &Options, a: &[&str]) -> Result<FlowFilter> {
    match a.get(1).filter(|f| !f.is_empty()) {
        Some(flow) => Ok(parse_flow_filter(flow, &names::accepted(o, a[0])?)?),
        None => Ok(FlowFilter::default()),
    }
}

/// `dump-aggregate SWITCH [FLOW]`
pub fn dump_aggregate(o: &Options, a: &[&str]) -> Result<()> {
    let filter = filter(o, a)?;
    let mut conn = open_to_dump(o, a[0], for_filter(&filter))?;
    let q = request(&conn, MultipartRequest::Aggregate(filter));
    show(o, &mut conn, a[0], &q)
}

fn show(o: &Options, conn: &mut Conn, switch: &str, q: &Message) -> Result<()> {
    let names = names::shown(o, switch)?;
    conn.show(q, &o.style(&names, 1))
}

/// `dump-flows SWITCH [FLOW]`
pub fn dump_flows(o: &Options, a: &[&str]) -> Result<()> {
    let filter = filter(o, a)?;
    let mut conn = open_to_dump(o, a[0], for_filter(&filter))?;
    if o.sort.is_empty() && !o.show_names() && o.stats {
        let q = request(&conn, MultipartRequest::Flow(filter));
        return show(o, &mut conn, a[0], &q);
    }
    let mut names = names::shown(o, a[0])?;
    names.version = conn.version;
    let mut flows = fetch(&mut conn, filter)?;
    sort_flows(&mut flows, &o.sort);
    let line = if o.stats {
        StatsLine::Full
    } else {
        StatsLine::Rule
    };
    for f in &flows {
        out(&format!(" {}\n", format_flow_stats(f, line, &names)));
    }
    Ok(())
}

/// The flows that `filter` lets pass.
///
/// # Errors
/// As [`Conn::receive`], or the switch refuses.
pub fn fetch(conn: &mut Conn, filter: FlowFilter) -> Result<Vec<FlowStats>> {
    let q = request(conn, MultipartRequest::Flow(filter));
    let (mut flows, mut refused) = (Vec::new(), None);
    conn.ask(&q, |d| match bare(d.message.clone()) {
        Message::MultipartReply(MultipartReply::Flow(f)) => flows.extend(f),
        _ => refused = Some(d),
    })?;
    match refused {
        None => Ok(flows),
        Some(d) => {
            let text = openflow::text::format_message(&d, &Names::default());
            bail!("dump flows: {}", text.trim_end())
        }
    }
}

/// A message without the form it had on the wire.
fn bare(m: Message) -> Message {
    match m {
        Message::Nicira(inner) => *inner,
        m => m,
    }
}

/// Tells on standard error what normalization took out of a match, as the stock tool's log does.
pub fn tell_normalized(line: &FlowLine) {
    if let Some(before) = &line.normalized_from {
        let text = |m: &Match| format_match(m, None, &Names::default());
        eprintln!("ovs-ofctl: normalization changed ofp_match, details:");
        eprintln!("ovs-ofctl:  pre: {}", text(before));
        eprintln!("ovs-ofctl: post: {}", text(&line.flow_mod.matching));
    }
}

/// The formats that can say all these flows.
pub fn usable(lines: &[FlowLine]) -> Protocols {
    lines.iter().fold(Protocols::ANY, |all, l| {
        all.and(usable_protocols(&l.flow_mod, l.table_given))
    })
}

/// Carries out changes of flows, one after the other or, with `--bundle`, all at once.
fn change(o: &Options, switch: &str, lines: &[FlowLine]) -> Result<()> {
    let usable = usable(lines);
    let names = names::shown(o, switch)?;
    let style = o.style(&names, 2);
    if o.bundle {
        let o = super::bundle::with_bundles(o);
        let mut conn = open_for(&o, switch, usable.and(super::bundle::able()))?;
        let messages: Vec<Message> = lines.iter().map(|l| message(&conn, l)).collect();
        return conn.bundle(&messages, &style);
    }
    let mut conn = open_for(o, switch, usable)?;
    let messages: Vec<Message> = lines.iter().map(|l| message(&conn, l)).collect();
    conn.change(&messages, &style)
}

/// `add-flow`, `mod-flows` and `del-flows`.
pub fn change_flow(o: &Options, a: &[&str], command: FlowCommand) -> Result<()> {
    // `add-flow SWITCH -` reads flows from standard input.
    if a.get(1) == Some(&"-") {
        return change_file(o, a[0], "-", command);
    }
    let names = names::accepted(o, a[0])?;
    let line = parse_flow(a.get(1).unwrap_or(&""), command, &names)?;
    tell_normalized(&line);
    change(o, a[0], &[line])
}

/// The lines of a file with their places, comments and empty lines left out. `verb` is what failed
/// if it cannot be opened.
///
/// # Errors
/// It cannot be read.
pub fn lines(file: &str, verb: &str) -> Result<Vec<(String, String)>> {
    let reader: Box<dyn BufRead> = if file == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file);
        let failed = |e| anyhow!("{file}: {verb} ({})", crate::exit::words(&e));
        Box::new(std::io::BufReader::new(opened.map_err(failed)?))
    };
    let mut out = Vec::new();
    for (i, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("{file}: read"))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            out.push((format!("{file}:{}: ", i + 1), text.to_string()));
        }
    }
    Ok(out)
}

/// A line which may begin with its own command.
///
/// # Errors
/// What is wrong with it.
pub fn file_line(text: &str, default: FlowCommand, names: &Names) -> Result<FlowLine> {
    let words = [
        ("add", FlowCommand::Add),
        ("modify", FlowCommand::Modify { strict: false }),
        ("modify_strict", FlowCommand::Modify { strict: true }),
        ("delete", FlowCommand::Delete { strict: false }),
        ("delete_strict", FlowCommand::Delete { strict: true }),
    ];
    let text = text.trim_start();
    let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
    let first = &text[..end];
    let (command, flow) = match words.iter().find(|w| w.0 == first) {
        Some((_, c)) if default == FlowCommand::Add => (*c, &text[end..]),
        _ => (default, text),
    };
    Ok(parse_flow(flow, command, names)?)
}

/// The flows of a file.
///
/// # Errors
/// The file cannot be read, or a line is wrong: its place is told.
pub fn read_file(file: &str, command: FlowCommand, names: &Names) -> Result<Vec<FlowLine>> {
    let mut parsed = Vec::new();
    for (place, text) in lines(file, "open failed")? {
        let line = file_line(&text, command, names).map_err(|e| anyhow!("{place}{e}"))?;
        tell_normalized(&line);
        parsed.push(line);
    }
    Ok(parsed)
}

fn change_file(o: &Options, switch: &str, file: &str, command: FlowCommand) -> Result<()> {
    let names = names::accepted(o, switch)?;
    change(o, switch, &read_file(file, command, &names)?)
}

/// `add-flows SWITCH FILE`
pub fn add_flows(o: &Options, a: &[&str]) -> Result<()> {
    change_file(o, a[0], a[1], FlowCommand::Add)
}
