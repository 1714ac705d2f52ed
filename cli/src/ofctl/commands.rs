//! The commands, one function each.

use super::Options;
use super::conn::{Conn, Refused, Socket};
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use openflow::text::{
    FlowCommand, FlowLine, Names, StatsLine, format_flow_stats, format_match, format_message,
    parse_actions, parse_flow, parse_flow_filter, sort_flows,
};
use openflow::wire::{self, Decoded};
use openflow::{
    FlowFilter, FlowFlags, FlowMod, FlowModCommand, FlowStats, GROUP_ALL, METER_ALL, Match,
    Message, MultipartReply, MultipartRequest, PacketOut, PortDesc, PortMod, PortNo, TABLE_ALL,
};
use std::io::{BufRead, Write};
use std::time::Instant;

type Run = fn(&Options, &[&str]) -> Result<()>;

/// One command.
pub struct Command {
    pub name: &'static str,
    args: &'static str,
    help: &'static str,
    pub min: usize,
    pub max: usize,
    pub run: Run,
}

const fn cmd(
    name: &'static str,
    args: &'static str,
    help: &'static str,
    (min, max): (usize, usize),
    run: Run,
) -> Command {
    Command {
        name,
        args,
        help,
        min,
        max,
        run,
    }
}

/// Every command, in the order of `--help`.
pub const COMMANDS: &[Command] = &[
    cmd("show", "SWITCH", "show OpenFlow information", (1, 1), show),
    cmd(
        "dump-desc",
        "SWITCH",
        "print switch description",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::Desc),
    ),
    cmd(
        "dump-tables",
        "SWITCH",
        "print table stats",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::Table),
    ),
    cmd(
        "dump-table-features",
        "SWITCH",
        "print table features",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::TableFeatures(Vec::new())),
    ),
    cmd(
        "mod-port",
        "SWITCH IFACE ACT",
        "modify port behavior",
        (3, 3),
        mod_port,
    ),
    cmd(
        "get-frags",
        "SWITCH",
        "print fragment handling behavior",
        (1, 1),
        get_frags,
    ),
    cmd(
        "set-frags",
        "SWITCH FRAG_MODE",
        "set fragment handling behavior",
        (2, 2),
        set_frags,
    ),
    cmd(
        "dump-ports",
        "SWITCH [PORT]",
        "print port statistics",
        (1, 2),
        |o, a| {
            let port = port_arg(o, a[0], a.get(1))?;
            dump(o, a[0], MultipartRequest::PortStats(port))
        },
    ),
    cmd(
        "dump-ports-desc",
        "SWITCH [PORT]",
        "print port descriptions",
        (1, 2),
        |o, a| {
            let port = port_arg(o, a[0], a.get(1))?;
            dump(o, a[0], MultipartRequest::PortDesc(port))
        },
    ),
    cmd(
        "dump-flows",
        "SWITCH [FLOW]",
        "print all or matching flow entries",
        (1, 2),
        dump_flows,
    ),
    cmd(
        "dump-aggregate",
        "SWITCH [FLOW]",
        "print aggregate flow statistics",
        (1, 2),
        |o, a| {
            let filter = filter_arg(o, a)?;
            dump_selected(o, a[0], MultipartRequest::Aggregate(filter))
        },
    ),
    cmd(
        "queue-stats",
        "SWITCH [PORT [QUEUE]]",
        "dump queue stats",
        (1, 3),
        queue_stats,
    ),
    cmd(
        "queue-get-config",
        "SWITCH [PORT]",
        "print queue config for PORT",
        (1, 2),
        |o, a| {
            let port = port_arg(o, a[0], a.get(1))?;
            print_answer(o, a[0], &Message::QueueGetConfigRequest(port))
        },
    ),
    cmd(
        "add-flow",
        "SWITCH FLOW",
        "add flow described by FLOW",
        (2, 2),
        |o, a| change_flow(o, a, FlowCommand::Add),
    ),
    cmd(
        "add-flows",
        "SWITCH FILE",
        "add flows from FILE",
        (2, 2),
        add_flows,
    ),
    cmd(
        "mod-flows",
        "SWITCH FLOW",
        "modify actions of matching FLOWs",
        (2, 2),
        |o, a| change_flow(o, a, FlowCommand::Modify { strict: o.strict }),
    ),
    cmd(
        "del-flows",
        "SWITCH [FLOW]",
        "delete matching FLOWs",
        (1, 2),
        |o, a| change_flow(o, a, FlowCommand::Delete { strict: o.strict }),
    ),
    cmd(
        "replace-flows",
        "SWITCH FILE",
        "replace flows with those in FILE",
        (2, 2),
        replace_flows,
    ),
    cmd(
        "diff-flows",
        "SOURCE1 SOURCE2",
        "compare flows from two sources",
        (2, 2),
        diff_flows,
    ),
    cmd(
        "packet-out",
        "SWITCH IN_PORT ACTIONS PACKET...",
        "execute ACTIONS on PACKET",
        (2, 1000),
        packet_out,
    ),
    cmd(
        "monitor",
        "SWITCH [MISSLEN]",
        "print packets received from SWITCH",
        (1, 3),
        monitor,
    ),
    cmd(
        "snoop",
        "SWITCH",
        "snoop on SWITCH and its controller",
        (1, 1),
        |o, a| listen(o, Conn::open(a[0], Socket::Snoop, &o.versions)?),
    ),
    cmd(
        "dump-groups",
        "SWITCH",
        "print group description",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::GroupDesc(GROUP_ALL)),
    ),
    cmd(
        "dump-group-stats",
        "SWITCH",
        "print group statistics",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::Group(GROUP_ALL)),
    ),
    cmd(
        "dump-group-features",
        "SWITCH",
        "print group features",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::GroupFeatures),
    ),
    cmd(
        "dump-meters",
        "SWITCH",
        "print METER configuration",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::MeterConfig(METER_ALL)),
    ),
    cmd(
        "meter-stats",
        "SWITCH",
        "print meter statistics",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::Meter(METER_ALL)),
    ),
    cmd(
        "meter-features",
        "SWITCH",
        "print meter features",
        (1, 1),
        |o, a| dump(o, a[0], MultipartRequest::MeterFeatures),
    ),
    cmd(
        "probe",
        "TARGET",
        "probe whether TARGET is up",
        (1, 1),
        probe,
    ),
    cmd(
        "ping",
        "TARGET [N]",
        "latency of N-byte echos",
        (1, 2),
        ping,
    ),
    cmd(
        "parse-flow",
        "FLOW",
        "print FLOW as it goes over the wire",
        (1, 1),
        |o, a| parse_flows(o, vec![("".into(), a[0].to_string())]),
    ),
    cmd(
        "parse-flows",
        "FILE",
        "print the flows of FILE as they go over the wire",
        (1, 1),
        |o, a| parse_flows(o, lines(a[0])?),
    ),
    cmd(
        "ofp-print",
        "HEXDIGITS [VERBOSITY]",
        "print a message given in hex",
        (1, 2),
        ofp_print,
    ),
    cmd(
        "ofp-parse",
        "FILE",
        "print messages read from FILE",
        (1, 1),
        ofp_parse,
    ),
    cmd("help", "", "display this help message", (0, 10), |_, _| {
        print!("{}", help());
        Ok(())
    }),
];

/// The text of `--help`.
pub fn help() -> String {
    let mut s = String::from(
        "ovs-ofctl: OpenFlow switch management utility\n\
         usage: ovs-ofctl [OPTIONS] COMMAND [ARG...]\n\nCommands:\n",
    );
    for c in COMMANDS {
        s.push_str(&format!(
            "  {:<27} {}\n",
            format!("{} {}", c.name, c.args),
            c.help
        ));
    }
    s.push_str(
        "\nSWITCH is a bridge of this machine, unix:FILE or tcp:HOST[:PORT] (PORT is 6653 if not given).\n\n\
         Options:\n  \
         -O, --protocols=VERSIONS    allowed OpenFlow versions (OpenFlow10, OpenFlow13)\n  \
         -t, --timeout=SECS          give up after SECS seconds\n  \
         --strict                    use strict match for flow commands\n  \
         --readd                     replace flows that haven't changed\n  \
         --sort[=field]              sort in ascending order\n  \
         --rsort[=field]             sort in descending order\n  \
         --names, --no-names         show port names, or numbers\n  \
         --stats, --no-stats         print flow counters, or not\n  \
         --timestamp                 (monitor, snoop) print timestamps\n  \
         -m, --more                  be more verbose printing OpenFlow\n  \
         -h, --help                  display this help message\n  \
         -V, --version               display version information\n\n\
         Exit codes: 0 done; 1 refused or impossible; 142 out of time (--timeout).\n\n\
         Example:\n  ovs-ofctl add-flow br0 priority=500,icmp,actions=drop\n",
    );
    s
}

fn open(o: &Options, name: &str) -> Result<Conn> {
    Conn::open(name, Socket::Mgmt, &o.versions)
}

fn out(text: &str) {
    // A reader that went away (head) is no error worth a message.
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(1);
    }
}

/// The switch's ports, over a connection of their own as the stock tool does.
fn ports(o: &Options, switch: &str) -> Result<Vec<PortDesc>> {
    let mut all = Vec::new();
    open(o, switch)?.ask(
        &Message::MultipartRequest(MultipartRequest::PortDesc(PortNo::ANY)),
        |d| {
            if let Message::MultipartReply(MultipartReply::PortDesc(p)) = d.message {
                all.extend(p);
            }
        },
    )?;
    Ok(all)
}

/// Names of tables and ports, to read with, and to show if names are wanted.
fn names(o: &Options, switch: &str) -> Result<Names> {
    let mut n = Names {
        show: o.show_names(),
        ..Names::default()
    };
    if o.names == Some(false) {
        return Ok(n);
    }
    let mut conn = open(o, switch)?;
    n.legacy = conn.version == wire::OF10;
    // OpenFlow 1.0 has no table features.
    if !n.legacy {
        conn.ask(
            &Message::MultipartRequest(MultipartRequest::TableFeatures(Vec::new())),
            |d| {
                if let Message::MultipartReply(MultipartReply::TableFeatures(t)) = d.message {
                    n.tables.extend(t.into_iter().map(|t| (t.table, t.name)));
                }
            },
        )?;
    }
    // Stock tables have a name like "table_7" that says nothing but the number.
    n.tables.retain(|t| !t.1.is_empty());
    n.ports = ports(o, switch)?
        .into_iter()
        .map(|p| (p.port, p.name))
        .collect();
    Ok(n)
}

fn print_answer(o: &Options, switch: &str, request: &Message) -> Result<()> {
    let names = Names::default();
    open(o, switch)?.ask(request, |d| out(&format_message(&d, &names)))
}

/// Flow statistics in the form that can say everything: on OpenFlow 1.0 that is Nicira's.
fn dump_selected(o: &Options, switch: &str, request: MultipartRequest) -> Result<()> {
    let (mut conn, request) = selecting(o, switch, request)?;
    let names = Names::default();
    conn.ask(&request, |d| out(&format_message(&d, &names)))
}

/// A connection ready for a request that selects flows, and the request in its form.
fn selecting(o: &Options, switch: &str, request: MultipartRequest) -> Result<(Conn, Message)> {
    let mut conn = open(o, switch)?;
    let mut request = Message::MultipartRequest(request);
    if conn.version == wire::OF10 {
        conn.change(&[Message::SetFlowFormat(NXM)])?;
        request = Message::Nicira(Box::new(request));
    }
    Ok((conn, request))
}

/// A message without the form it had on the wire.
fn bare(m: Message) -> Message {
    match m {
        Message::Nicira(inner) => *inner,
        m => m,
    }
}

/// Number of Nicira's flow format.
const NXM: u32 = 2;

/// Sends flow changes in a form that the connection's version has for them. `None` for a table says
/// that none was named.
fn change_flows(conn: &mut Conn, mut changes: Vec<(FlowMod, bool)>) -> Result<()> {
    let mut messages = Vec::with_capacity(changes.len());
    if conn.version != wire::OF10 {
        messages.extend(changes.into_iter().map(|c| Message::FlowMod(c.0)));
        return conn.change(&messages);
    }
    let tables = changes.iter().any(|c| c.1);
    for (f, given) in &mut changes {
        if !*given {
            f.table = if tables { TABLE_ALL } else { 0 };
        }
        // 1.0 counts anew with every add.
        f.flags.reset_counts = false;
    }
    let mut nicira = false;
    for (f, _) in changes {
        let own = Message::FlowMod(f);
        messages.push(match wire::encode(wire::OF10, 0, &own) {
            Ok(_) => own,
            Err(_) => {
                nicira = true;
                Message::Nicira(Box::new(own))
            }
        });
    }
    for m in &messages {
        wire::encode(wire::OF10, 0, m)?;
    }
    if nicira {
        conn.change(&[Message::SetFlowFormat(NXM)])?;
    }
    if tables {
        conn.change(&[Message::FlowModTableId(true)])?;
    }
    conn.change(&messages)
}

fn dump(o: &Options, switch: &str, request: MultipartRequest) -> Result<()> {
    print_answer(o, switch, &Message::MultipartRequest(request))
}

fn port_arg(o: &Options, switch: &str, arg: Option<&&str>) -> Result<PortNo> {
    let Some(arg) = arg else {
        return Ok(PortNo::ANY);
    };
    if let Some(p) = Names::default().port(arg) {
        return Ok(p);
    }
    find_port(o, switch, arg).map(|p| p.port)
}

fn find_port(o: &Options, switch: &str, name: &str) -> Result<PortDesc> {
    let number = Names::default().port(name);
    ports(o, switch)?
        .into_iter()
        .find(|p| p.name == name || Some(p.port) == number)
        .ok_or_else(|| anyhow!("{switch}: couldn't find port `{name}'"))
}

fn filter_arg(o: &Options, a: &[&str]) -> Result<FlowFilter> {
    match a.get(1) {
        Some(flow) => Ok(parse_flow_filter(flow, &names(o, a[0])?)?),
        None => Ok(FlowFilter::default()),
    }
}

fn show(o: &Options, a: &[&str]) -> Result<()> {
    let none = Names::default();
    let mut conn = open(o, a[0])?;
    conn.ask(&Message::FeaturesRequest, |d| {
        out(&format_message(&d, &none))
    })?;
    // OpenFlow 1.0 has the ports in its features.
    if conn.version != wire::OF10 {
        let ports = Message::MultipartRequest(MultipartRequest::PortDesc(PortNo::ANY));
        conn.ask(&ports, |d| out(&format_message(&d, &none)))?;
    }
    print_answer(o, a[0], &Message::GetConfigRequest)
}

fn queue_stats(o: &Options, a: &[&str]) -> Result<()> {
    let all = |s: &str| s.eq_ignore_ascii_case("all");
    let port = port_arg(o, a[0], a.get(1).filter(|p| !all(p)))?;
    let queue = match a.get(2).filter(|q| !all(q)) {
        Some(q) => Some(
            q.parse()
                .map_err(|_| anyhow!("{q}: the queue is a number or ALL"))?,
        ),
        None => None,
    };
    dump(o, a[0], MultipartRequest::Queue { port, queue })
}

fn frags(o: &Options, switch: &str) -> Result<(Conn, openflow::SwitchConfig)> {
    let mut conn = open(o, switch)?;
    match conn.ask_one(&Message::GetConfigRequest)? {
        Message::GetConfigReply(c) => Ok((conn, c)),
        _ => bail!("{switch}: bad reply to config request"),
    }
}

const FRAGS: &[&str] = &["normal", "drop", "reassemble", "nx-match"];

fn get_frags(o: &Options, a: &[&str]) -> Result<()> {
    let (_, c) = frags(o, a[0])?;
    out(&format!("{}\n", FRAGS[usize::from(c.flags & 3)]));
    Ok(())
}

fn set_frags(o: &Options, a: &[&str]) -> Result<()> {
    let Some(mode) = FRAGS.iter().position(|f| *f == a[1]) else {
        bail!("{}: unknown fragment handling mode", a[1]);
    };
    let (mut conn, mut c) = frags(o, a[0])?;
    let wanted = c.flags & !3 | mode as u16;
    if c.flags == wanted {
        return Ok(());
    }
    c.flags = wanted;
    conn.change(&[Message::SetConfig(c)])?;
    // The switch may keep what it can do; asking again tells.
    match conn.ask_one(&Message::GetConfigRequest)? {
        Message::GetConfigReply(now) if now.flags == wanted => Ok(()),
        _ => bail!(
            "{}: setting fragment handling mode failed (this switch probably doesn't support mode \"{}\")",
            a[0],
            a[1]
        ),
    }
}

fn mod_port(o: &Options, a: &[&str]) -> Result<()> {
    let port = find_port(o, a[0], a[1])?;
    let (mut config, mut mask) = (port.config, openflow::PortFlags::default());
    let on = !matches!(a[2], "up" | "receive" | "flood" | "forward" | "packet-in");
    let (value, bit) = match a[2] {
        "up" | "down" => (&mut config.port_down, &mut mask.port_down),
        "receive" | "no-receive" => (&mut config.no_recv, &mut mask.no_recv),
        "flood" | "no-flood" | "noflood" => (&mut config.no_flood, &mut mask.no_flood),
        "forward" | "no-forward" => (&mut config.no_fwd, &mut mask.no_fwd),
        "packet-in" | "no-packet-in" => (&mut config.no_packet_in, &mut mask.no_packet_in),
        other => bail!("unknown mod-port command '{other}'"),
    };
    (*value, *bit) = (on, true);
    open(o, a[0])?.change(&[Message::PortMod(PortMod {
        port: port.port,
        mac: port.mac,
        config,
        mask,
        advertise: 0,
        optical: None,
    })])
}

fn fetch_flows(o: &Options, switch: &str, filter: FlowFilter) -> Result<Vec<FlowStats>> {
    let mut flows = Vec::new();
    let mut error = None;
    let (mut conn, request) = selecting(o, switch, MultipartRequest::Flow(filter))?;
    conn.ask(&request, |d| match &d.message {
        Message::Error(_) => error = Some(format_message(&d, &Names::default())),
        _ => {
            if let Message::MultipartReply(MultipartReply::Flow(f)) = bare(d.message) {
                flows.extend(f);
            }
        }
    })?;
    match error {
        Some(text) => Err(Refused(text).into()),
        None => Ok(flows),
    }
}

fn dump_flows(o: &Options, a: &[&str]) -> Result<()> {
    let filter = filter_arg(o, a)?;
    let show = o.show_names();
    if o.sort.is_empty() && !show && o.stats {
        return dump_selected(o, a[0], MultipartRequest::Flow(filter));
    }
    let names = if show {
        names(o, a[0])?
    } else {
        Names {
            legacy: o.versions == [wire::OF10],
            ..Names::default()
        }
    };
    let mut flows = fetch_flows(o, a[0], filter)?;
    // Ages are only in dumps as they come, as the stock tool has it.
    for f in &mut flows {
        (f.idle_age, f.hard_age) = (None, None);
    }
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

/// Tells on standard error what normalization took out of a match, as the stock tool's log does.
fn tell_normalized(line: &FlowLine) {
    if let Some(before) = &line.normalized_from {
        let text = |m: &Match| format_match(m, None, &Names::default());
        eprintln!("ovs-ofctl: normalization changed ofp_match, details:");
        eprintln!("ovs-ofctl:  pre: {}", text(before));
        eprintln!("ovs-ofctl: post: {}", text(&line.flow_mod.matching));
    }
}

fn change_flow(o: &Options, a: &[&str], command: FlowCommand) -> Result<()> {
    // `add-flow SWITCH -` reads flows from standard input.
    if a.get(1) == Some(&"-") {
        return change_file(o, a[0], "-", command);
    }
    let line = parse_flow(a.get(1).unwrap_or(&""), command, &names(o, a[0])?)?;
    tell_normalized(&line);
    let mut conn = open(o, a[0])?;
    let change = line.for_version(conn.version);
    change_flows(&mut conn, vec![(change, line.table_given)])
}

/// The lines of a file with their places, comments and empty lines left out.
fn lines(file: &str) -> Result<Vec<(String, String)>> {
    let reader: Box<dyn BufRead> = if file == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let f = std::fs::File::open(file);
        Box::new(std::io::BufReader::new(f.map_err(|e| {
            let e = e.to_string();
            anyhow!(
                "{file}: open failed ({})",
                e.split(" (os").next().unwrap_or(&e)
            )
        })?))
    };
    let name = if file == "-" { "<stdin>" } else { file };
    let mut out = Vec::new();
    for (i, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("{file}: read"))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            out.push((format!("{name}:{}: ", i + 1), text.to_string()));
        }
    }
    Ok(out)
}

/// A line of a file, which may begin with its own command.
fn file_line(text: &str, default: FlowCommand, names: &Names) -> Result<FlowLine> {
    let words = [
        ("add", FlowCommand::Add),
        ("modify", FlowCommand::Modify { strict: false }),
        ("modify_strict", FlowCommand::Modify { strict: true }),
        ("delete", FlowCommand::Delete { strict: false }),
        ("delete_strict", FlowCommand::Delete { strict: true }),
    ];
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let (command, flow) = match words.iter().find(|w| w.0 == first) {
        Some((_, c)) => (*c, rest),
        None => (default, text),
    };
    Ok(parse_flow(flow, command, names)?)
}

fn change_file(o: &Options, switch: &str, file: &str, command: FlowCommand) -> Result<()> {
    let names = names(o, switch)?;
    let mut parsed = Vec::new();
    for (place, text) in lines(file)? {
        let line = file_line(&text, command, &names).map_err(|e| anyhow!("{place}{e}"))?;
        tell_normalized(&line);
        parsed.push(line);
    }
    let mut conn = open(o, switch)?;
    let changes = parsed
        .iter()
        .map(|l| (l.for_version(conn.version), l.table_given))
        .collect();
    change_flows(&mut conn, changes)
}

fn add_flows(o: &Options, a: &[&str]) -> Result<()> {
    change_file(o, a[0], a[1], FlowCommand::Add)
}

/// A flow as comparison sees it: without counters and ages.
fn rule(mut f: FlowStats) -> FlowStats {
    f.duration = Default::default();
    (f.idle_age, f.hard_age) = (None, None);
    (f.packets, f.bytes) = (0, 0);
    // How a flow was added does not make it another flow.
    f.flags.check_overlap = false;
    f.flags.reset_counts = false;
    f
}

fn file_flows(version: u8, file: &str, names: &Names) -> Result<Vec<FlowStats>> {
    let mut flows: Vec<FlowStats> = Vec::new();
    for (place, text) in lines(file)? {
        let line = file_line(&text, FlowCommand::Add, names).map_err(|e| anyhow!("{place}{e}"))?;
        let m = line.for_version(version);
        // The switch answers in its own spelling; go over the wire once to have the same.
        let mut message = Message::FlowMod(m);
        if version == wire::OF10 {
            message = Message::Nicira(Box::new(message));
        }
        let bytes = wire::encode(version, 0, &message)?;
        let Message::FlowMod(mut m) = bare(wire::decode(&bytes)?.message) else {
            bail!("{place}not a flow");
        };
        // 1.0 does not tell with which flags a flow was added.
        if version == wire::OF10 {
            m.flags = FlowFlags::default();
        }
        let f = rule(FlowStats {
            table: m.table,
            duration: Default::default(),
            idle_age: None,
            hard_age: None,
            priority: m.priority,
            idle_timeout: m.idle_timeout,
            hard_timeout: m.hard_timeout,
            importance: m.importance,
            flags: m.flags,
            cookie: m.cookie,
            packets: 0,
            bytes: 0,
            matching: m.matching,
            instructions: m.instructions,
        });
        // A later line replaces an earlier one, as it would in the switch.
        flows.retain(|g| !same_place(g, &f));
        flows.push(f);
    }
    Ok(flows)
}

fn same_place(a: &FlowStats, b: &FlowStats) -> bool {
    (a.table, a.priority) == (b.table, b.priority) && a.matching == b.matching
}

fn replace_flows(o: &Options, a: &[&str]) -> Result<()> {
    let version = open(o, a[0])?.version;
    let wanted = file_flows(version, a[1], &names(o, a[0])?)?;
    let there: Vec<_> = fetch_flows(o, a[0], FlowFilter::default())?
        .into_iter()
        .map(rule)
        .collect();
    let change = |f: &FlowStats, command: FlowModCommand| {
        let mut m = FlowMod::add(f.matching.clone(), Default::default());
        m.command = command;
        m.table = f.table;
        m.priority = f.priority;
        if command == FlowModCommand::Add {
            (m.cookie, m.idle_timeout, m.hard_timeout) = (f.cookie, f.idle_timeout, f.hard_timeout);
            m.flags = FlowFlags { ..f.flags };
            m.instructions = f.instructions.clone();
        }
        (m, true)
    };
    let gone = there
        .iter()
        .filter(|f| !wanted.iter().any(|w| same_place(f, w)));
    let mut changes: Vec<(FlowMod, bool)> = gone
        .map(|f| change(f, FlowModCommand::DeleteStrict))
        .collect();
    let new = wanted.iter().filter(|w| o.readd || !there.contains(w));
    changes.extend(new.map(|w| change(w, FlowModCommand::Add)));
    change_flows(&mut open(o, a[0])?, changes)
}

fn diff_flows(o: &Options, a: &[&str]) -> Result<()> {
    let source = |name: &str| -> Result<Vec<FlowStats>> {
        if std::path::Path::new(name).is_file() || name == "-" {
            let version = o.versions.iter().max().copied().unwrap_or(wire::OF10);
            return file_flows(version, name, &Names::default());
        }
        let flows = fetch_flows(o, name, FlowFilter::default())?;
        Ok(flows.into_iter().map(rule).collect())
    };
    let (left, right) = (source(a[0])?, source(a[1])?);
    let names = Names::default();
    let mut differ = false;
    let mut tell = |sign: char, f: &FlowStats| {
        differ = true;
        out(&format!(
            "{sign}{}\n",
            format_flow_stats(f, StatsLine::Rule, &names)
        ));
    };
    for f in &left {
        match right.iter().find(|g| same_place(f, g)) {
            Some(g) if f == g => {}
            Some(g) => {
                tell('-', f);
                tell('+', g);
            }
            None => tell('-', f),
        }
    }
    for g in right
        .iter()
        .filter(|g| !left.iter().any(|f| same_place(f, g)))
    {
        tell('+', g);
    }
    if differ {
        // As diff does: 2 says that there are differences.
        let _ = std::io::stdout().flush();
        std::process::exit(2);
    }
    Ok(())
}

fn hex(s: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = s.chars().filter(|c| !c.is_whitespace()).collect();
    let bad = || anyhow!("{s}: packets are written in pairs of hex digits");
    if !digits.len().is_multiple_of(2) {
        return Err(bad());
    }
    digits
        .chunks(2)
        .map(|d| {
            let n = d[0].to_digit(16).zip(d[1].to_digit(16)).ok_or_else(bad)?;
            Ok((n.0 << 4 | n.1) as u8)
        })
        .collect()
}

fn packet_out(o: &Options, a: &[&str]) -> Result<()> {
    let names = names(o, a[0])?;
    let (in_port, actions, packets) = match a[1..] {
        [all] => {
            // in_port=PORT,packet=HEX,actions=ACTIONS
            let (head, actions) = all
                .split_once("actions=")
                .context("must specify actions as the last part: actions=...")?;
            let (mut port, mut packet) = ("CONTROLLER", "");
            for part in head.split([',', ' ']).filter(|p| !p.is_empty()) {
                match part.split_once('=') {
                    Some(("in_port", p)) => port = p,
                    Some(("packet", p)) => packet = p,
                    _ => bail!("unknown keyword {part}"),
                }
            }
            if packet.is_empty() {
                bail!("must specify packet");
            }
            (port, actions, vec![packet])
        }
        [_, _] => bail!("'packet-out' command requires at least 4 arguments"),
        _ => (a[1], a[2], a[3..].to_vec()),
    };
    let port = names
        .port(in_port)
        .ok_or_else(|| anyhow!("{in_port}: unknown port"))?;
    let actions = match actions {
        "drop" => Vec::new(),
        s => parse_actions(s, &Match::new(), &names)?,
    };
    let mut messages = Vec::new();
    for p in packets {
        messages.push(Message::PacketOut(PacketOut {
            buffer: None,
            in_port: port,
            actions: actions.clone(),
            data: Bytes::from(hex(p)?),
            ..PacketOut::default()
        }));
    }
    open(o, a[0])?.change(&messages)
}

fn monitor(o: &Options, a: &[&str]) -> Result<()> {
    let mut conn = open(o, a[0])?;
    for arg in &a[1..] {
        let Ok(len) = arg.parse::<u16>() else {
            bail!("{arg}: only MISSLEN, a number of bytes, is supported yet");
        };
        let Message::GetConfigReply(mut c) = conn.ask_one(&Message::GetConfigRequest)? else {
            bail!("{}: bad reply to config request", a[0]);
        };
        c.miss_send_len = len;
        conn.change(&[Message::SetConfig(c)])?;
    }
    if o.nicira_packets.unwrap_or(conn.version == wire::OF10) {
        conn.change(&[Message::SetPacketInFormat(1)])?;
    }
    listen(o, conn)
}

/// Prints what comes until the connection ends.
fn listen(o: &Options, mut conn: Conn) -> Result<()> {
    let names = Names::default();
    loop {
        let d = match conn.receive() {
            Ok(d) => d,
            Err(e) => bail!("{e}"),
        };
        if o.timestamp {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            out(&format!("{}.{:03}: ", now.as_secs(), now.subsec_millis()));
        }
        out(&format_message(&d, &names));
        if let (Message::PacketIn(p), true) = (bare(d.message), o.more > 0) {
            let hex: Vec<String> = p.data.iter().map(|b| format!("{b:02x}")).collect();
            out(&format!("{}\n", hex.join(" ")));
        }
        let _ = std::io::stdout().flush();
    }
}

fn probe(o: &Options, a: &[&str]) -> Result<()> {
    let answer = open(o, a[0])?.ask_one(&Message::EchoRequest(Bytes::new()))?;
    if answer != Message::EchoReply(Bytes::new()) {
        bail!("reply does not match request");
    }
    Ok(())
}

fn ping(o: &Options, a: &[&str]) -> Result<()> {
    const HEADER: usize = wire::HEADER_LEN;
    let size: usize = match a.get(1) {
        Some(n) => n.parse().unwrap_or(usize::MAX),
        None => 64,
    };
    if size > wire::MAX_MESSAGE_LEN - HEADER {
        bail!(
            "payload must be between 0 and {} bytes",
            wire::MAX_MESSAGE_LEN - HEADER
        );
    }
    let mut conn = open(o, a[0])?;
    for round in 0..10u8 {
        let data: Bytes = (0..size).map(|i| (i as u8).wrapping_add(round)).collect();
        let (start, mut answer) = (Instant::now(), None);
        conn.ask(&Message::EchoRequest(data.clone()), |d| answer = Some(d))?;
        let d = answer.context("no answer")?;
        if d.message != Message::EchoReply(data) {
            out("Reply does not match request!\n");
        }
        let ms = start.elapsed().as_secs_f64() * 1000.0;
        out(&format!(
            "{size} bytes from {}: xid={:08x} time={ms:.1} ms\n",
            a[0], d.xid
        ));
    }
    Ok(())
}

fn parse_flows(o: &Options, lines: Vec<(String, String)>) -> Result<()> {
    let names = Names::default();
    let mut parsed = Vec::new();
    for (place, text) in lines {
        let line = file_line(&text, FlowCommand::Add, &names).map_err(|e| anyhow!("{place}{e}"))?;
        tell_normalized(&line);
        parsed.push(line);
    }
    let version = *o.versions.last().context("no version")?;
    if version == wire::OF13 {
        out("usable protocols: OXM-OpenFlow13\nchosen protocol: OXM-OpenFlow13\n");
    }
    for (i, line) in parsed.iter().enumerate() {
        let mut m = Message::FlowMod(line.for_version(version));
        if version == wire::OF10 && wire::encode(version, 0, &m).is_err() {
            m = Message::Nicira(Box::new(m));
        }
        let bytes = wire::encode(version, i as u32 + 1, &m)?;
        out(&format_message(&wire::decode(&bytes)?, &names));
    }
    Ok(())
}

/// A message or what is wrong with it, as one text.
fn printed(bytes: &[u8]) -> String {
    match wire::decode(bytes) {
        Ok(d) => format_message(
            &Decoded {
                // Parts are printed one by one; the mark is for those who put them together.
                more: d.more,
                ..d
            },
            &Names::default(),
        ),
        Err(e) => format!("***decode error: {}***\n", e.kind.name()),
    }
}

fn ofp_print(_: &Options, a: &[&str]) -> Result<()> {
    out(&printed(&hex(a[0])?));
    Ok(())
}

fn ofp_parse(_: &Options, a: &[&str]) -> Result<()> {
    let bytes = std::fs::read(a[0]).map_err(|e| anyhow!("{}: {e}", a[0]))?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match wire::frame(rest) {
            wire::Frame::Message(n) => {
                out(&printed(&rest[..n]));
                rest = &rest[n..];
            }
            _ => bail!(
                "{}: {} bytes at the end are no whole message",
                a[0],
                rest.len()
            ),
        }
    }
    Ok(())
}
