//! The table of commands, and those that only show what the switch answers.

use super::{
    Options, bundle, compare, flows, groups, meters, monitor, names, packets, parse, pcap, ports,
    probe, tables,
};
use anyhow::{Result, anyhow, bail};
use openflow::text::{FlowCommand, Names, Protocols, parse_tlv_maps};
use openflow::wire;
use openflow::{
    GroupModCommand, Message, MeterModCommand, MultipartRequest, PortNo, SwitchConfig,
    TlvTableCommand,
};
use std::io::Write;

type Run = fn(&Options, &[&str]) -> Result<()>;

/// One command.
pub struct Command {
    pub name: &'static str,
    args: &'static str,
    help: &'static str,
    pub min: usize,
    pub max: usize,
    /// Changes the switch: not with `--read-only`.
    pub writes: bool,
    pub run: Run,
}

const fn cmd(
    name: &'static str,
    args: &'static str,
    help: &'static str,
    (min, max): (usize, usize),
    writes: bool,
    run: Run,
) -> Command {
    Command {
        name,
        args,
        help,
        min,
        max,
        writes,
        run,
    }
}

/// As many arguments as one likes.
const MANY: usize = usize::MAX;
const READ: bool = false;
const WRITE: bool = true;

/// Every command. Those without a help text are for tests and scripts, as in the stock tool.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    cmd("show", "switch", "show OpenFlow information", (1, 1), READ, show),
    cmd("monitor", "switch [misslen] [invalid_ttl] [watch:[...]]", "print packets received from SWITCH", (1, 3), READ, monitor::monitor),
    cmd("snoop", "switch", "snoop on SWITCH and its controller", (1, 1), READ, monitor::snoop),
    cmd("dump-desc", "switch", "print switch description", (1, 1), READ, |o, a| dump(o, a[0], MultipartRequest::Desc)),
    cmd("dump-tables", "switch", "print table stats", (1, 1), READ, |o, a| dump(o, a[0], MultipartRequest::Table)),
    cmd("dump-table-features", "switch", "print table features", (1, 1), READ, tables::dump_table_features),
    cmd("dump-table-desc", "switch", "print table description (OF1.4+)", (1, 1), READ, tables::dump_table_desc),
    cmd("dump-flows", "switch", "print all or matching flow entries", (1, 2), READ, flows::dump_flows),
    cmd("dump-aggregate", "switch", "print aggregate flow statistics", (1, 2), READ, flows::dump_aggregate),
    cmd("queue-stats", "switch [port [queue]]", "dump queue stats", (1, 3), READ, ports::queue_stats),
    cmd("queue-get-config", "switch [port [queue]]", "print queue config for PORT", (1, 3), READ, ports::queue_get_config),
    cmd("add-flow", "switch flow", "add flow described by FLOW", (2, 2), WRITE, |o, a| flows::change_flow(o, a, FlowCommand::Add)),
    cmd("add-flows", "switch file", "add flows from FILE", (2, 2), WRITE, flows::add_flows),
    cmd("mod-flows", "switch flow", "modify actions of matching FLOWs", (2, 2), WRITE, |o, a| flows::change_flow(o, a, FlowCommand::Modify { strict: o.strict })),
    cmd("del-flows", "switch [flow]", "delete matching FLOWs", (1, 2), WRITE, |o, a| flows::change_flow(o, a, FlowCommand::Delete { strict: o.strict })),
    cmd("replace-flows", "switch file", "replace flows with those in FILE", (2, 2), WRITE, compare::replace_flows),
    cmd("diff-flows", "source1 source2", "compare flows from two sources", (2, 2), READ, compare::diff_flows),
    cmd("add-meter", "switch meter", "add meter described by METER", (2, 2), WRITE, |o, a| meters::change_meter(o, a, MeterModCommand::Add)),
    cmd("mod-meter", "switch meter", "modify specific METER", (2, 2), WRITE, |o, a| meters::change_meter(o, a, MeterModCommand::Modify)),
    cmd("del-meter", "switch meter", "delete METER", (1, 2), WRITE, |o, a| meters::change_meter(o, a, MeterModCommand::Delete)),
    cmd("del-meters", "switch", "delete meters matching METER", (1, 2), WRITE, |o, a| meters::change_meter(o, a, MeterModCommand::Delete)),
    cmd("dump-meter", "switch meter", "print METER configuration", (1, 2), READ, |o, a| meters::show(o, a, MultipartRequest::MeterConfig)),
    cmd("dump-meters", "switch", "print METER configuration", (1, 2), READ, |o, a| meters::show(o, a, MultipartRequest::MeterConfig)),
    cmd("meter-stats", "switch [meter]", "print meter statistics", (1, 2), READ, |o, a| meters::show(o, a, MultipartRequest::Meter)),
    cmd("meter-features", "switch", "print meter features", (1, 1), READ, |o, a| meters::show(o, a, |_| MultipartRequest::MeterFeatures)),
    cmd("packet-out", "switch \"in_port=<port> packet=<hex data> actions=...\"", "execute ACTIONS on PACKET", (2, MANY), WRITE, packets::packet_out),
    cmd("dump-ports", "switch [port]", "print port statistics", (1, 2), READ, ports::dump_ports),
    cmd("dump-ports-desc", "switch [port]", "print port descriptions", (1, 2), READ, ports::dump_ports_desc),
    cmd("mod-port", "switch iface act", "modify port behavior", (3, 3), WRITE, ports::mod_port),
    cmd("mod-table", "switch mod", "modify flow table behavior", (3, 3), WRITE, tables::mod_table),
    cmd("get-frags", "switch", "print fragment handling behavior", (1, 1), READ, get_frags),
    cmd("set-frags", "switch frag_mode", "set fragment handling behavior", (2, 2), WRITE, set_frags),
    cmd("probe", "target", "probe whether TARGET is up", (1, 1), READ, probe::probe),
    cmd("ping", "target [n]", "latency of N-byte echos", (1, 2), READ, probe::ping),
    cmd("benchmark", "target n count", "bandwidth of COUNT N-byte echos", (3, 3), READ, probe::benchmark),
    cmd("dump-ipfix-bridge", "switch", "print ipfix stats of bridge", (1, 1), READ, |o, a| dump(o, a[0], MultipartRequest::IpfixBridge)),
    cmd("dump-ipfix-flow", "switch", "print flow ipfix of a bridge", (1, 1), READ, |o, a| dump(o, a[0], MultipartRequest::IpfixFlow)),
    cmd("ct-flush-zone", "switch zone", "flush conntrack entries in ZONE", (2, 2), READ, ct_flush_zone),
    cmd("ct-flush", "switch [zone=N] [ct-orig-tuple [ct-reply-tuple]]", "flush conntrack entries specified", (1, 4), READ, ct_flush),
    cmd("ofp-parse", "file", "print messages read from FILE", (1, 1), READ, parse::ofp_parse),
    cmd("ofp-parse-pcap", "pcap", "print OpenFlow read from PCAP", (1, MANY), READ, pcap::ofp_parse_pcap),
    cmd("add-group", "switch group", "add group described by GROUP", (2, 2), WRITE, |o, a| groups::change_group(o, a, GroupModCommand::Add)),
    cmd("add-groups", "switch file", "add group from FILE", (2, 2), WRITE, groups::add_groups),
    cmd("mod-group", "switch group", "modify specific group", (2, 2), WRITE, groups::mod_group),
    cmd("del-groups", "switch [group]", "delete matching GROUPs", (1, 2), WRITE, |o, a| groups::change_group(o, a, GroupModCommand::Delete)),
    cmd("insert-buckets", "switch [group]", "add buckets to GROUP", (1, 2), WRITE, |o, a| groups::change_group(o, a, GroupModCommand::InsertBucket)),
    cmd("remove-buckets", "switch [group]", "remove buckets from GROUP", (1, 2), WRITE, |o, a| groups::change_group(o, a, GroupModCommand::RemoveBucket)),
    cmd("dump-groups", "switch [group]", "print group description", (1, 2), READ, groups::dump_groups),
    cmd("dump-group-stats", "switch [group]", "print group statistics", (1, 2), READ, groups::dump_group_stats),
    cmd("dump-group-features", "switch", "print group features", (1, 1), READ, |o, a| dump(o, a[0], MultipartRequest::GroupFeatures)),
    cmd("bundle", "switch file", "carry out the changes in FILE all at once", (2, 2), WRITE, bundle::bundle),
    cmd("add-tlv-map", "switch map", "add TLV option MAPpings", (2, 2), WRITE, |o, a| tlv_mod(o, a, TlvTableCommand::Add)),
    cmd("del-tlv-map", "switch [map]", "delete TLV option MAPpings", (1, 2), WRITE, |o, a| {
        let some = a.len() > 1;
        tlv_mod(o, a, if some { TlvTableCommand::Delete } else { TlvTableCommand::Clear })
    }),
    cmd("dump-tlv-map", "switch", "print TLV option mappings", (1, 1), READ, |o, a| print_answer(o, a[0], &Message::TlvTableRequest)),
    cmd("help", "", "display this help message", (0, MANY), READ, |_, _| {
        out(&help());
        Ok(())
    }),
    cmd("list-commands", "", "", (0, MANY), READ, list_commands),
    cmd("parse-flow", "", "", (1, 1), READ, parse::parse_one_flow),
    cmd("parse-flows", "", "", (1, 1), READ, parse::parse_flows),
    cmd("parse-group", "", "", (1, 1), READ, parse::parse_group),
    cmd("parse-pcap", "", "", (1, MANY), READ, pcap::parse_pcap),
    cmd("print-error", "", "", (1, 1), READ, parse::print_error),
    cmd("encode-error-reply", "", "", (2, 2), READ, parse::encode_error_reply),
    cmd("ofp-print", "", "", (1, 2), READ, parse::ofp_print),
    cmd("encode-hello", "", "", (1, 1), READ, parse::encode_hello),
    cmd("parse-key-value", "", "", (1, MANY), READ, parse::parse_key_value),
    cmd("compose-packet", "", "", (1, 2), READ, packets::compose),
    cmd("parse-packet", "", "", (0, 0), READ, packets::parse),
];

/// The text of `--help`.
pub fn help() -> String {
    let mut s = String::from(
        "ovs-ofctl: OpenFlow switch management utility\n\
         usage: ovs-ofctl [OPTIONS] COMMAND [ARG...]\n\nCommands:\n",
    );
    for c in COMMANDS.iter().filter(|c| !c.help.is_empty()) {
        let name = format!("{} {}", c.name, c.args.to_uppercase());
        s.push_str(&format!("  {name:<27} {}\n", c.help));
    }
    s.push_str(
        "\nSWITCH is a bridge of this machine, unix:FILE, tcp:HOST[:PORT] or ssl:HOST[:PORT] (PORT is 6653 if not given).\n\n\
         Options:\n  \
         -O, --protocols=VERSIONS    allowed OpenFlow versions (OpenFlow10, ..., OpenFlow15)\n  \
         -F, --flow-format=FORMAT    force particular flow format\n  \
         -P, --packet-in-format=FRMT force particular packet in format\n  \
         -t, --timeout=SECS          give up after SECS seconds\n  \
         --strict                    use strict match for flow commands\n  \
         --read-only                 do not execute read/write commands\n  \
         --readd                     replace flows that haven't changed\n  \
         --bundle                    change flows and groups all at once or not at all\n  \
         --may-create                (mod-group) add the group if it is not there\n  \
         --sort[=field]              sort in ascending order\n  \
         --rsort[=field]             sort in descending order\n  \
         --names, --no-names         show port names, or numbers\n  \
         --stats, --no-stats         print flow counters, or not\n  \
         --timestamp                 (monitor, snoop) print timestamps\n  \
         -m, --more                  be more verbose printing OpenFlow\n\n",
    );
    s.push_str(crate::getopt::TLS_HELP);
    s.push('\n');
    s.push_str(crate::daemon::HELP);
    s.push_str(
        "\nExit codes: 0 done; 1 refused or impossible; 2 flows differ (diff-flows); 142 out of time (--timeout).\n\n\
         Example:\n  ovs-ofctl add-flow br0 priority=500,icmp,actions=drop\n",
    );
    s
}

fn list_commands(_: &Options, _: &[&str]) -> Result<()> {
    out("The available commands are:\n");
    for c in COMMANDS {
        out(&format!("  {:<23} {}\n", c.name, c.args));
    }
    Ok(())
}

/// Writes to standard output. A reader that went away (head) is no error worth a message.
pub fn out(text: &str) {
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(1);
    }
}

/// Asks, and shows whatever the switch answers.
///
/// # Errors
/// There is no answer.
pub fn print_answer(o: &Options, switch: &str, request: &Message) -> Result<()> {
    let mut conn = names::open(o, switch)?;
    let names = names::shown(o, switch)?;
    conn.show(request, &o.style(&names, 1))
}

/// The same with a question in several parts.
///
/// # Errors
/// There is no answer.
pub fn dump(o: &Options, switch: &str, request: MultipartRequest) -> Result<()> {
    print_answer(o, switch, &Message::MultipartRequest(request))
}

fn show(o: &Options, a: &[&str]) -> Result<()> {
    let none = Names::default();
    let style = o.style(&none, 1);
    let mut conn = names::open(o, a[0])?;
    let features = conn.ask_any(&Message::FeaturesRequest)?;
    out(&style.message(&features));
    let has_ports = match &features.message {
        // Only so many ports fit into the features of OpenFlow 1.0 to 1.2.
        Message::FeaturesReply(_) => conn.version < wire::OF13,
        _ => true,
    };
    if !has_ports {
        let ports = Message::MultipartRequest(MultipartRequest::PortDesc(PortNo::ANY));
        conn.show(&ports, &style)?;
    }
    print_answer(o, a[0], &Message::GetConfigRequest)
}

/// How fragments are handled, by `OFPC_FRAG_*`.
const FRAGS: &[&str] = &["normal", "drop", "reassemble", "nx-match"];

fn config(o: &Options, switch: &str) -> Result<(super::conn::Conn, SwitchConfig)> {
    let mut conn = names::open(o, switch)?;
    let c = config_of(&mut conn)?;
    Ok((conn, c))
}

fn config_of(conn: &mut super::conn::Conn) -> Result<SwitchConfig> {
    match conn.ask_any(&Message::GetConfigRequest)?.message {
        Message::GetConfigReply(c) => Ok(c),
        _ => bail!("{}: bad reply to config request", conn.name),
    }
}

fn get_frags(o: &Options, a: &[&str]) -> Result<()> {
    let (_, c) = config(o, a[0])?;
    out(&format!("{}\n", FRAGS[usize::from(c.flags & 3)]));
    Ok(())
}

fn set_frags(o: &Options, a: &[&str]) -> Result<()> {
    let Some(mode) = FRAGS.iter().position(|f| f.eq_ignore_ascii_case(a[1])) else {
        bail!("{}: unknown fragment handling mode", a[1]);
    };
    let mode = mode as u16;
    let (mut conn, mut c) = config(o, a[0])?;
    if c.flags & 3 == mode {
        return Ok(());
    }
    c.flags = c.flags & !3 | mode;
    let names = Names::default();
    conn.change(&[Message::SetConfig(c)], &o.style(&names, 2))?;
    // What a switch does with flags that it does not know is not well defined.
    if config_of(&mut conn)?.flags & 3 != mode {
        let name = FRAGS[usize::from(mode)];
        bail!(
            "{}: setting fragment handling mode failed (this switch probably doesn't support mode \"{name}\")",
            a[0]
        );
    }
    Ok(())
}

fn ct_flush_zone(o: &Options, a: &[&str]) -> Result<()> {
    let zone = openflow::text::parse_u16(a[1], "zone_id")?;
    let names = Names::default();
    names::open(o, a[0])?.change(&[Message::CtFlushZone(zone)], &o.style(&names, 2))
}

fn ct_flush(o: &Options, a: &[&str]) -> Result<()> {
    match a[1..] {
        [zone] if zone.starts_with("zone=") => ct_flush_zone(o, &[a[0], &zone["zone=".len()..]]),
        _ => bail!("ct-flush: only a zone's connections can be flushed (zone=N)"),
    }
}

fn tlv_mod(o: &Options, a: &[&str], command: TlvTableCommand) -> Result<()> {
    let maps = parse_tlv_maps(a.get(1).unwrap_or(&"")).map_err(|e| anyhow!("{e}"))?;
    let mut conn = flows::open_for(o, a[0], Protocols::ANY)?;
    let names = names::shown(o, a[0])?;
    conn.change(&[Message::TlvTableMod(command, maps)], &o.style(&names, 2))
}
