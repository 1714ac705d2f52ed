//! The texts of the control socket, as `ovs-appctl` shows them for a userspace datapath.

use crate::agent::{TABLES, in_band};
use crate::config::tunnel::Tunnel;
use crate::switch::{Switch, number};
use openflow::{FlowFilter, FlowStats, PortNo, PortStats};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The name all bridges' datapath goes by.
pub const DATAPATH: &str = "netdev@ovs-netdev";

/// `bridge/dump-flows`: every flow, the switch's own included.
pub fn bridge_flows(switch: &Switch, bridge: &str) -> Result<String, String> {
    switch.bridge(bridge).ok_or("Unknown bridge")?;
    let names = openflow::text::Names::default();
    let flows = switch.plane().flow_stats(bridge, &FlowFilter::default());
    let mut flows: Vec<FlowStats> = flows.collect();
    flows.sort_by_key(|f| (f.table, std::cmp::Reverse(f.priority)));
    let mut out = String::new();
    for f in flows {
        if f.table != 0 || f.table >= TABLES {
            let _ = write!(out, "table_id={}, ", f.table);
        }
        let _ = write!(
            out,
            "duration={}s, n_packets={}, n_bytes={}, ",
            f.duration.as_secs(),
            f.packets,
            f.bytes
        );
        if f.idle_timeout != 0 {
            let _ = write!(out, "idle_timeout={}, ", f.idle_timeout);
        }
        if f.hard_timeout != 0 {
            let _ = write!(out, "hard_timeout={}, ", f.hard_timeout);
        }
        // Those of in-band control are above what OpenFlow can name.
        let shown = in_band::shown_priority(f.cookie);
        if let Some(priority) = shown {
            let _ = write!(out, "priority={priority},");
        }
        let priority = Some(f.priority).filter(|_| shown.is_none());
        let matching = openflow::text::format_match(&f.matching, priority, &names);
        if !matching.is_empty() {
            let _ = write!(out, "{matching},");
        }
        let _ = writeln!(
            out,
            "actions={}",
            openflow::text::format_instructions(&f.instructions, &names)
        );
    }
    Ok(out)
}

/// A port of a bridge.
pub struct Shown {
    /// The bridge.
    pub bridge: String,
    /// Interface name.
    pub name: String,
    /// Type as shown.
    pub kind: String,
    /// OpenFlow number.
    pub port: PortNo,
    /// Number in the datapath; tunnels of one kind and UDP port share theirs.
    pub datapath_port: u32,
    /// What it is as a tunnel.
    pub tunnel: Option<Tunnel>,
}

/// Datapath-wide numbers are given in order of bridges and ports; 0 is the datapath's own.
fn shown(switch: &Switch) -> Vec<Shown> {
    let state = switch.state();
    let mut out = Vec::new();
    let mut shared = BTreeMap::new();
    let mut next = 0;
    for (bridge, b) in &state.actual.bridges {
        let mut ports: Vec<_> = b.ports.iter().collect();
        ports.sort_by_key(|(_, p)| p.number);
        for (name, p) in ports {
            let kind = match (p.params.kind.as_str(), &p.shortfall) {
                ("internal", Some(_)) => "dummy",
                ("internal", None) => "tap",
                (kind, _) => kind,
            };
            let tunnel = Tunnel::of(kind, &p.params.options);
            let mut fresh = || {
                next += 1;
                next
            };
            let datapath_port = match &tunnel {
                Some(t) => *shared.entry(t.system_name()).or_insert_with(fresh),
                None => fresh(),
            };
            let kind = tunnel
                .as_ref()
                .map_or_else(|| kind.to_owned(), |t| t.described(&p.params.options));
            out.push(Shown {
                bridge: bridge.clone(),
                name: name.clone(),
                kind,
                port: p.number,
                datapath_port,
                tunnel,
            });
        }
    }
    out
}

/// The ports of all bridges by interface name.
pub fn datapath_ports(switch: &Switch) -> BTreeMap<String, Shown> {
    let named = shown(switch).into_iter().map(|p| (p.name.clone(), p));
    named.collect()
}

/// `dpif/show`.
pub fn dpif(switch: &Switch) -> String {
    let s = switch.plane().cache_stats();
    let mut out = format!(
        "{DATAPATH}: hit:{} missed:{}\n",
        s.exact_hits + s.wildcard_hits,
        s.misses
    );
    let mut ports = shown(switch);
    ports.sort_by(|a, b| (&a.bridge, &a.name).cmp(&(&b.bridge, &b.name)));
    let mut last = None;
    for p in ports {
        if last.as_ref() != Some(&p.bridge) {
            let _ = writeln!(out, "  {}:", p.bridge);
            last = Some(p.bridge.clone());
        }
        let _ = writeln!(
            out,
            "    {} {}/{}: ({})",
            p.name,
            number(p.port),
            p.datapath_port,
            p.kind
        );
    }
    out
}

/// `dpif/dump-dps`.
pub fn dpif_dps(switch: &Switch) -> String {
    switch
        .bridges()
        .iter()
        .map(|b| format!("netdev@{}\n", b.name()))
        .collect()
}

/// `dpctl/dump-dps`: there is a datapath once there is a bridge.
pub fn dpctl_dps(switch: &Switch) -> String {
    if switch.bridges().is_empty() {
        String::new()
    } else {
        format!("{DATAPATH}\n")
    }
}

/// Whether a datapath's name is ours.
pub fn check_dp(name: &str) -> Result<(), String> {
    if matches!(
        name,
        "netdev@ovs-netdev" | "ovs-netdev" | "ovs-system" | "system@ovs-system"
    ) {
        Ok(())
    } else {
        Err(format!("datapath not found ({name}: No such device)"))
    }
}

/// `dpctl/show`.
pub fn dpctl(switch: &Switch, statistics: bool) -> String {
    if switch.bridges().is_empty() {
        return String::new();
    }
    let s = switch.plane().cache_stats();
    let mut out = format!(
        "{DATAPATH}:\n  lookups: hit:{} missed:{} lost:0\n  flows: {}\n  port 0: ovs-netdev (tap)\n",
        s.exact_hits + s.wildcard_hits,
        s.misses,
        s.flows
    );
    let mut ports = shown(switch);
    ports.sort_by_key(|p| p.datapath_port);
    ports.dedup_by_key(|p| p.datapath_port);
    for p in ports {
        let (name, kind) = match (&p.tunnel, p.kind.as_str()) {
            (Some(t), _) => (t.system_name(), format!(" ({})", t.system_described())),
            (None, "system") => (p.name, String::new()),
            (None, kind) => (p.name, format!(" ({kind})")),
        };
        let _ = writeln!(out, "  port {}: {name}{kind}", p.datapath_port);
        if statistics && let Some((s, _)) = switch.plane().port_stats(&p.bridge, p.port) {
            port_counters(&mut out, &s);
        }
    }
    out
}

fn port_counters(out: &mut String, s: &PortStats) {
    let n = |v: u64| {
        if v == u64::MAX {
            "?".to_owned()
        } else {
            v.to_string()
        }
    };
    let _ = write!(
        out,
        "    RX packets:{} errors:{} dropped:{} overruns:{} frame:{}\n    \
         TX packets:{} errors:{} dropped:{} aborted:? carrier:?\n    \
         collisions:{}\n    RX bytes:{}{}  TX bytes:{}{}\n",
        n(s.rx_packets),
        n(s.rx_errors),
        n(s.rx_dropped),
        n(s.rx_over_err),
        n(s.rx_frame_err),
        n(s.tx_packets),
        n(s.tx_errors),
        n(s.tx_dropped),
        n(s.collisions),
        n(s.rx_bytes),
        scaled(s.rx_bytes),
        n(s.tx_bytes),
        scaled(s.tx_bytes),
    );
}

/// ` (1.5 KiB)` for what is a kibibyte or more.
fn scaled(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 || bytes == u64::MAX {
        return String::new();
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!(" ({value:.1} {})", UNITS[unit])
}

/// Options of the flow dumps.
#[derive(Debug, Default)]
pub struct FlowOptions {
    /// Name ports instead of numbering them.
    pub names: bool,
    /// What is left: a datapath or bridge.
    pub rest: Vec<String>,
}

impl FlowOptions {
    /// From a command's arguments.
    pub fn parse(args: &[String]) -> Result<FlowOptions, String> {
        let mut o = FlowOptions::default();
        for a in args {
            match a.as_str() {
                "-m" | "--more" | "--no-names" => {}
                "--names" => o.names = true,
                a if a.starts_with('-')
                    || a.starts_with("filter=")
                    || a.starts_with("type=")
                    || a.starts_with("pmd=") =>
                {
                    return Err(format!("{a} is not supported yet"));
                }
                a => o.rest.push(a.to_owned()),
            }
        }
        Ok(o)
    }
}

/// `dpif/dump-flows` and `dpctl/dump-flows`.
pub fn cached_flows(
    switch: &Switch,
    bridge: Option<&str>,
    _options: &FlowOptions,
    header: bool,
) -> String {
    let mut out = String::new();
    let flows = switch.plane().cached_flows();
    if header && !flows.is_empty() {
        out.push_str("flow-dump from the main thread:\n");
    }
    for f in flows
        .iter()
        .filter(|f| bridge.is_none_or(|b| f.bridge == b))
    {
        let used = match f.used {
            None => "never".to_owned(),
            Some(t) => format!("{:.3}s", t.as_secs_f64()),
        };
        let _ = writeln!(
            out,
            "{}, packets:{}, bytes:{}, used:{used}, actions:{}",
            f.key, f.packets, f.bytes, f.actions
        );
    }
    out
}

/// `upcall/show`: there are no upcalls; the caches' figures in their place.
pub fn upcalls(switch: &Switch) -> String {
    let s = switch.plane().cache_stats();
    format!(
        "{DATAPATH}:\n  flows         : (current {})\n  revalidated   : {}\n  \
         cache hits    : (exact {}) (wildcard {})\n  table lookups : {}\n",
        s.flows, s.revalidated, s.exact_hits, s.wildcard_hits, s.misses
    )
}

/// `memory/show`.
pub fn memory(switch: &Switch) -> String {
    let (mut ports, mut rules) = (0, 0u64);
    for b in switch.bridges() {
        ports += switch.plane().ports(b.name()).len();
        rules += u64::from(
            switch
                .plane()
                .aggregate_stats(b.name(), &FlowFilter::default())
                .flows,
        );
    }
    format!(
        "cached flows:{} ports:{ports} rules:{rules}",
        switch.plane().cache_stats().flows
    )
}

/// `coverage/show`: drops by reason, and packet-ins that found no room.
pub fn coverage(switch: &Switch) -> String {
    let mut totals = BTreeMap::<String, u64>::new();
    for b in switch.bridges() {
        for (reason, n) in switch.plane().drop_stats(b.name()) {
            *totals.entry(format!("drop_{reason}")).or_default() += n;
        }
        *totals
            .entry("packet_in_queue_overflow".to_owned())
            .or_default() += b.dropped_packet_ins();
    }
    let never = totals.values().filter(|n| **n == 0).count();
    let mut out = String::from("Event coverage, totals since start:\n");
    for (name, n) in totals.iter().filter(|(_, n)| **n != 0) {
        let _ = writeln!(out, "{name:<34} total: {n}");
    }
    let _ = writeln!(out, "{never} events never hit");
    out
}
