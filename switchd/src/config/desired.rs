//! What the database asks for, read out of the replica and checked.
//!
//! Nothing here fails as a whole: a value that cannot be used leaves its default in place and a line
//! in `notes` of the thing it belongs to; a thing that cannot be made carries `refused`. Both reach
//! the log and the database (`Interface.error`, `status:unsupported`).

use super::mirror::{self, MirrorConf};
use super::value::Columns;
use super::{policing, qos, threads, tunnel, vlan};
use crate::agent::buffers::MAX_BUFFERS;
use crate::agent::conversation;
use crate::agent::failmode::FailMode;
use crate::agent::io::{DEFAULT_QUEUE_SIZE, MAX_AUXILIARY};
use crate::agent::rconn::{DEFAULT_MAX_BACKOFF, DEFAULT_PROBE};
use crate::agent::{DEFAULT_BUNDLE_IDLE, TABLES};
use datapath::qos::QosSpec;
use datapath::{Guard, RateSpec, StormSpec};
use datapath::{TableSpec, ThreadSettings, VlanConfig};
use openflow::MacAddr;
use ovsdb::{Replica, TlsOptions, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Everything the switch is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The root row, if the database has one.
    pub root: Option<Root>,
    /// Bridges by name.
    pub bridges: BTreeMap<String, BridgeConf>,
}

/// The `Open_vSwitch` row.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    /// Row.
    pub uuid: Uuid,
    /// Number of the configuration that clients wait for.
    pub next_cfg: i64,
    /// How often statistics are written.
    pub stats_interval: Duration,
    /// Forwarding threads.
    pub threads: ThreadSettings,
    /// `other_config:vlan-limit`: VLAN tags that are looked at, 0 for as many as can be.
    pub vlan_limit: u8,
    /// The row of the `ssl` column: keys and certificates for controllers by TLS.
    pub tls: Option<TlsOptions>,
    /// Values that are not obeyed, and why.
    pub notes: Vec<String>,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeConf {
    /// Row.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// `netdev`, `system`, `dummy` or empty.
    pub datapath_type: String,
    /// Type of its internal interfaces: `dummy-internal` in a dummy datapath, where no device of the host's is touched.
    pub internal_kind: &'static str,
    /// Fail mode.
    pub fail_mode: FailMode,
    /// OpenFlow versions by name; empty for the default ones.
    pub protocols: Vec<String>,
    /// `other_config:hwaddr`.
    pub hwaddr: Option<MacAddr>,
    /// `other_config:datapath-id`.
    pub datapath_id: Option<u64>,
    /// `other_config:mac-aging-time`.
    pub mac_aging: Duration,
    /// `other_config:mac-table-size`.
    pub mac_table_size: usize,
    /// `flood_vlans`.
    pub flood_vlans: BTreeSet<u16>,
    /// `other_config:forward-bpdu`.
    pub forward_bpdu: bool,
    /// `other_config:dp-desc`.
    pub dp_desc: Option<String>,
    /// `other_config:dp-sn`.
    pub dp_sn: Option<String>,
    /// `other_config:in-band-queue`: the queue that in-band control's packets use.
    pub in_band_queue: Option<u32>,
    /// `other_config:packet-buffers`: packets that wait while their beginning is at a controller.
    pub packet_buffers: usize,
    /// `Open_vSwitch.other_config:bundle-idle-timeout`.
    pub bundle_idle: Duration,
    /// Controllers by target.
    pub controllers: BTreeMap<String, ControllerConf>,
    /// Ports by name.
    pub ports: BTreeMap<String, PortConf>,
    /// Flow tables that are set up (`flow_tables`), by number.
    pub tables: BTreeMap<u8, TableSpec>,
    /// Mirrors.
    pub mirrors: Vec<MirrorConf>,
    /// Values that are not obeyed, and why.
    pub notes: Vec<String>,
}

/// A controller.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerConf {
    /// Row.
    pub uuid: Uuid,
    /// As in the database.
    pub target: String,
    /// Longest time between attempts.
    pub max_backoff: Duration,
    /// Silence after which to ask; `None` never asks.
    pub probe: Option<Duration>,
    /// `Controller.type` is service.
    pub service: bool,
    /// Packet-ins a second, and how many at once.
    pub rate_limit: Option<(u32, u32)>,
    /// `enable_async_messages`.
    pub enable_async: bool,
    /// `controller_queue_size`: packet-ins that may wait to be written.
    pub queue_size: usize,
    /// `other_config:dscp` of its connection's packets.
    pub dscp: u8,
    /// `other_config:auxiliary-connections`.
    pub auxiliary: u8,
    /// Whether the switch keeps the connection up by rules of its own: `connection_mode`, and not
    /// `Bridge.other_config:disable-in-band`.
    pub in_band: bool,
    /// Values that are not obeyed, and why.
    pub notes: Vec<String>,
}

/// A port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortConf {
    /// Row.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// VLANs.
    pub vlan: VlanConfig,
    /// Does not talk to other protected ports.
    pub protected: bool,
    /// `other_config:storm-*`.
    pub storm: StormSpec,
    /// `other_config:guard-*`.
    pub guard: Option<Guard>,
    /// Quality of service on the way out.
    pub qos: Option<Arc<QosSpec>>,
    /// Interfaces; several would be a bond.
    pub interfaces: Vec<InterfaceConf>,
    /// Values that are not obeyed, and why.
    pub notes: Vec<String>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq)]
pub struct InterfaceConf {
    /// Row.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// Type, `system` if the column is empty, `internal` for a bridge's own.
    pub kind: String,
    /// `options`.
    pub options: BTreeMap<String, String>,
    /// `mac`.
    pub mac: Option<MacAddr>,
    /// `mtu_request`.
    pub mtu_request: Option<u16>,
    /// Port number to use: `ofport_request`, else the recorded `ofport`.
    pub ofport: Option<u16>,
    /// Whether `ofport` is a request, which moves an existing port.
    pub ofport_requested: bool,
    /// Whether it is a bridge's local port.
    pub local: bool,
    /// `options:n_rxq`.
    pub n_rxq: Option<u16>,
    /// `other_config:pmd-rxq-affinity`: processor by receive queue.
    pub rxq_affinity: BTreeMap<u16, usize>,
    /// `ingress_policing_*`.
    pub policing: RateSpec,
    /// Why it cannot be made.
    pub refused: Option<String>,
    /// Values that are not obeyed, and why.
    pub notes: Vec<String>,
}

/// Interface types of the outside world that weir knows of but does not make yet.
pub const LATER_KINDS: &[&str] = &["bareudp", "dpdk", "lisp", "stt"];

/// Interface types that weir makes (`Open_vSwitch.iface_types`), without the dummy ones.
pub const KINDS: &[&str] = &[
    "afxdp",
    "afxdp-nonpmd",
    "dpdkvhostuser",
    "dpdkvhostuserclient",
    "erspan",
    "geneve",
    "gre",
    "gtpu",
    "internal",
    "ip6erspan",
    "ip6gre",
    "patch",
    "pcap",
    "system",
    "tap",
    "vhostuser",
    "vxlan",
];

/// Types of `--enable-dummy`.
pub const DUMMY_KINDS: &[&str] = &["dummy", "dummy-internal", "dummy-pmd"];

/// What the reader must know besides the database.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Whether dummy interfaces exist.
    pub dummy: bool,
}

/// `other_config:bundle-idle-timeout`, in seconds.
fn bundle_idle(other: &BTreeMap<String, String>) -> Duration {
    other
        .get("bundle-idle-timeout")
        .and_then(|v| v.parse().ok())
        .map_or(DEFAULT_BUNDLE_IDLE, |s: u64| Duration::from_secs(s.max(1)))
}

/// Reads the replica.
pub fn read(db: &Replica, options: ReadOptions) -> Desired {
    let mut desired = Desired::default();
    let Some(root) = Columns::rows(db, "Open_vSwitch").into_iter().next() else {
        return desired;
    };
    let other = root.map("other_config");
    let mut notes = Vec::new();
    let threads = threads::read(&other, &mut notes);
    let bundle_idle = bundle_idle(&other);
    let vlan_limit = vlan::limit(&other, &mut notes);
    desired.root = Some(Root {
        uuid: root.uuid(),
        next_cfg: root.int("next_cfg").unwrap_or(0),
        stats_interval: Duration::from_millis(
            other
                .get("stats-update-interval")
                .and_then(|v| v.parse::<u64>().ok())
                .unwrap_or(5000)
                .max(1000),
        ),
        threads,
        vlan_limit,
        tls: tls(db, &root),
        notes,
    });
    // An interface, like a port, belongs to one bridge; the first (by name) keeps it.
    let mut taken = BTreeSet::new();
    let mut bridges: Vec<Columns<'_>> = root
        .uuids("bridges")
        .iter()
        .filter_map(|u| Columns::row(db, "Bridge", u))
        .collect();
    bridges.sort_by_key(|b| b.string("name"));
    let names: BTreeSet<String> = bridges.iter().map(|b| b.string("name")).collect();
    for row in bridges {
        let mut conf = bridge(db, &row, options, &names, &mut taken);
        conf.bundle_idle = bundle_idle;
        desired.bridges.entry(conf.name.clone()).or_insert(conf);
    }
    desired
}

/// The row of the `ssl` column.
fn tls(db: &Replica, root: &Columns<'_>) -> Option<TlsOptions> {
    let uuid = root.uuids("ssl").into_iter().next()?;
    let row = Columns::row(db, "SSL", &uuid)?;
    let file = |column: &str| Some(row.string(column)).filter(|s| !s.is_empty());
    Some(TlsOptions {
        private_key: file("private_key"),
        certificate: file("certificate"),
        ca_cert: file("ca_cert"),
        bootstrap: row.bool("bootstrap_ca_cert") == Some(true),
        ..TlsOptions::default()
    })
}

fn bridge(
    db: &Replica,
    row: &Columns<'_>,
    options: ReadOptions,
    bridges: &BTreeSet<String>,
    taken: &mut BTreeSet<String>,
) -> BridgeConf {
    let name = row.string("name");
    let other = row.map("other_config");
    let mut notes = Vec::new();
    for column in ["netflow", "sflow", "ipfix", "auto_attach"] {
        if !row.uuids(column).is_empty() {
            notes.push(format!("{column} is not supported yet"));
        }
    }
    for column in ["stp_enable", "rstp_enable", "mcast_snooping_enable"] {
        if row.bool(column) == Some(true) {
            notes.push(format!("{column} is not supported yet"));
        }
    }
    if other.contains_key("mcast-snooping-aging-time") {
        notes.push("other_config:mcast-snooping-aging-time is not supported yet".to_owned());
    }
    let in_band = other.get("disable-in-band").is_none_or(|v| v != "true");
    // Below zero is the default queue, as in Open vSwitch.
    let in_band_queue = other.get("in-band-queue").and_then(|v| v.parse().ok());
    let hwaddr = other
        .get("hwaddr")
        .and_then(|v| match v.parse::<MacAddr>() {
            Ok(m) if !m.is_multicast() && m != MacAddr::default() => Some(m),
            _ => {
                notes.push(format!(
                    "other_config:hwaddr \"{v}\" is not a unicast MAC address"
                ));
                None
            }
        });
    let datapath_id = other.get("datapath-id").and_then(|v| match parse_dpid(v) {
        Some(id) => Some(id),
        None => {
            notes.push(format!(
                "other_config:datapath-id \"{v}\" is not 16 hex digits (and not zero)"
            ));
            None
        }
    });
    let number = |key: &str, default: u64, min: u64, max: u64, notes: &mut Vec<String>| match other
        .get(key)
        .map(|v| v.parse::<u64>())
    {
        None => default,
        Some(Ok(n)) if n <= max => n.max(min),
        Some(_) => {
            notes.push(format!(
                "other_config:{key} \"{}\" is not a number up to {max}",
                other[key]
            ));
            default
        }
    };
    let most = i32::MAX as u64;
    let mac_aging = match number("mac-aging-time", 0, 0, most, &mut notes) {
        0 => 300,
        n => n.clamp(15, 3600),
    };
    let mac_table_size = match number("mac-table-size", 0, 0, most, &mut notes) {
        0 => 8192,
        n => n.clamp(10, 1_000_000) as usize,
    };
    let packet_buffers = number("packet-buffers", 0, 0, MAX_BUFFERS as u64, &mut notes) as usize;
    let protocols = row.strings("protocols");
    for p in &protocols {
        if !conversation::is_supported(p) {
            notes.push(format!("protocol {p} is not supported yet"));
        }
    }
    let mut controllers = BTreeMap::new();
    for u in row.uuids("controller") {
        if let Some(c) = Columns::row(db, "Controller", &u) {
            let mut conf = controller(&c);
            conf.in_band &= in_band;
            controllers.insert(conf.target.clone(), conf);
        }
    }
    let datapath_type = row.string("datapath_type");
    let internal_kind = match datapath_type.as_str() {
        "dummy" if options.dummy => "dummy-internal",
        _ => "internal",
    };
    let mut ports = BTreeMap::new();
    for u in row.uuids("ports") {
        if let Some(p) = Columns::row(db, "Port", &u) {
            let mut conf = port(db, &p, &name, options, bridges, taken);
            for i in conf.interfaces.iter_mut().filter(|i| i.kind == "internal") {
                i.kind = internal_kind.to_owned();
            }
            ports.entry(conf.name.clone()).or_insert(conf);
        }
    }
    let tables = tables(db, row, &mut notes);
    let mirrors = mirror::read(db, row, &ports);
    BridgeConf {
        uuid: row.uuid(),
        datapath_type,
        internal_kind,
        fail_mode: match row.string("fail_mode").as_str() {
            "secure" => FailMode::Secure,
            _ => FailMode::Standalone,
        },
        protocols,
        hwaddr,
        datapath_id,
        mac_aging: Duration::from_secs(mac_aging),
        mac_table_size,
        flood_vlans: row.vlans("flood_vlans"),
        forward_bpdu: other.get("forward-bpdu").is_some_and(|v| v == "true"),
        dp_desc: other.get("dp-desc").cloned(),
        dp_sn: other.get("dp-sn").cloned(),
        in_band_queue,
        packet_buffers,
        bundle_idle: DEFAULT_BUNDLE_IDLE,
        controllers,
        ports,
        tables,
        mirrors,
        notes,
        name,
    }
}

/// Sixteen hex digits, with or without `0x`, not all zero.
pub fn parse_dpid(s: &str) -> Option<u64> {
    let digits = s.strip_prefix("0x").unwrap_or(s);
    if digits.is_empty() || digits.len() > 16 || (digits.len() == s.len() && s.len() != 16) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|n| *n != 0)
}

/// DSCP of controllers' connections where it is not set: class selector 6, internetwork control.
const DEFAULT_DSCP: u8 = 48;

/// A bridge's flow tables. Prefixes are taken and reported: the classifier finds prefixes of every field by itself.
fn tables(db: &Replica, row: &Columns<'_>, notes: &mut Vec<String>) -> BTreeMap<u8, TableSpec> {
    let number = |n: i64| u8::try_from(n).ok().filter(|n| *n < TABLES);
    let mut tables = BTreeMap::new();
    for (n, uuid) in row.int_uuids("flow_tables") {
        let (Some(n), Some(row)) = (number(n), Columns::row(db, "Flow_Table", &uuid)) else {
            notes.push(format!(
                "flow_tables: there is no table {n}, only 0 to {}",
                TABLES - 1
            ));
            continue;
        };
        let mut groups = Vec::new();
        for text in row.strings("groups") {
            match openflow::text::parse_subfield(&text) {
                Ok(s) => groups.push(s),
                Err(e) => notes.push(format!("flow table {n}: groups: {e}")),
            }
        }
        let spec = TableSpec {
            name: row.string("name"),
            flow_limit: row
                .int("flow_limit")
                .map(|n| n.clamp(0, i64::from(u32::MAX)) as u32),
            evict: row.string("overflow_policy") == "evict",
            groups,
        };
        tables.insert(n, spec);
    }
    tables
}

fn controller(row: &Columns<'_>) -> ControllerConf {
    let millis = |n: i64| Duration::from_millis(n.max(0) as u64);
    let mut notes = Vec::new();
    for column in ["local_ip", "local_netmask", "local_gateway"] {
        if !row.is_empty(column) {
            notes.push(format!(
                "{column} is not supported yet: give the local port its address with ip(8)"
            ));
        }
    }
    let other = row.map("other_config");
    let number = |key: &str, default: u8, max: u8, notes: &mut Vec<String>| {
        let Some(v) = other.get(key) else {
            return default;
        };
        match v.parse::<u8>() {
            Ok(n) if n <= max => n,
            _ => {
                notes.push(format!(
                    "other_config:{key} \"{v}\" is not a number up to {max}"
                ));
                default
            }
        }
    };
    let rate = row.int("controller_rate_limit").filter(|n| *n > 0);
    let burst = row.int("controller_burst_limit").filter(|n| *n > 0);
    ControllerConf {
        uuid: row.uuid(),
        target: row.string("target"),
        max_backoff: row.int("max_backoff").map_or(DEFAULT_MAX_BACKOFF, millis),
        probe: match row.int("inactivity_probe") {
            None => Some(DEFAULT_PROBE),
            Some(0) => None,
            Some(n) => Some(millis(n).max(Duration::from_secs(5))),
        },
        service: row.string("type") == "service",
        rate_limit: rate.map(|r| {
            let r = r.min(i64::from(u32::MAX)) as u32;
            (
                r,
                burst
                    .map_or(r / 4, |b| b.min(i64::from(u32::MAX)) as u32)
                    .max(1),
            )
        }),
        enable_async: row.bool("enable_async_messages").unwrap_or(true),
        queue_size: match row.int("controller_queue_size") {
            Some(n @ 1..512) => n as usize,
            _ => DEFAULT_QUEUE_SIZE,
        },
        dscp: number("dscp", DEFAULT_DSCP, 63, &mut notes),
        in_band: row.string("connection_mode") != "out-of-band" && row.string("type") != "service",
        auxiliary: number("auxiliary-connections", 0, MAX_AUXILIARY, &mut notes),
        notes,
    }
}

fn port(
    db: &Replica,
    row: &Columns<'_>,
    bridge: &str,
    options: ReadOptions,
    bridges: &BTreeSet<String>,
    taken: &mut BTreeSet<String>,
) -> PortConf {
    let name = row.string("name");
    let mut notes = Vec::new();
    let qos = qos::read(db, row, &mut notes);
    if matches!(row.string("lacp").as_str(), "active" | "passive") {
        notes.push("lacp is not supported yet".to_owned());
    }
    if !row.is_empty("mac") {
        notes.push("mac is not supported yet".to_owned());
    }
    let other = row.map("other_config");
    if other.contains_key("transmit-default-untagged") {
        notes.push("other_config:transmit-default-untagged is not supported yet".to_owned());
    }
    let vlan = vlan::port(row, &mut notes);
    let mut refused = None;
    let rows: Vec<Columns<'_>> = row
        .uuids("interfaces")
        .iter()
        .filter_map(|u| Columns::row(db, "Interface", u))
        .collect();
    if rows.len() > 1 {
        refused = Some("bonds are not supported yet".to_owned());
    }
    let mut interfaces = Vec::new();
    for i in &rows {
        let mut conf = interface(i, bridge, options, bridges);
        if conf.refused.is_none() {
            conf.refused = refused
                .as_ref()
                .map(|why| format!("could not add network device {} ({why})", conf.name));
        }
        if conf.refused.is_none() && !taken.insert(conf.name.clone()) {
            conf.refused = Some(format!(
                "could not add network device {} (a port of this name exists already)",
                conf.name
            ));
        }
        interfaces.push(conf);
    }
    if let Some(why) = interfaces.iter().find_map(|i| qos::unshaped(&i.kind))
        && qos.is_some()
    {
        notes.push(why);
    }
    PortConf {
        uuid: row.uuid(),
        name,
        vlan,
        protected: row.bool("protected") == Some(true),
        storm: policing::storm(&other, &mut notes),
        guard: policing::guard(&other, &mut notes),
        qos,
        interfaces,
        notes,
    }
}

fn interface(
    row: &Columns<'_>,
    bridge: &str,
    options: ReadOptions,
    bridges: &BTreeSet<String>,
) -> InterfaceConf {
    let name = row.string("name");
    let local = name == bridge;
    let mut notes = Vec::new();
    for column in ["cfm_mpid", "bfd", "lldp"] {
        let asked = match column {
            "cfm_mpid" => !row.is_empty(column),
            _ => row.map(column).get("enable").is_some_and(|v| v == "true"),
        };
        if asked {
            notes.push(format!("{column} is not supported yet"));
        }
    }
    let mut kind = row.string("type");
    if local {
        kind = "internal".to_owned();
    } else if kind.is_empty() {
        kind = "system".to_owned();
    }
    let cannot_open = |why: &str| Some(format!("could not open network device {name} ({why})"));
    let mut refused = None;
    if !local && bridges.contains(&name) {
        refused = Some(format!(
            "could not add network device {name} (a bridge of this name exists)"
        ));
    } else if LATER_KINDS.contains(&kind.as_str()) {
        refused = cannot_open(&format!("type {kind} is not supported yet"));
    } else if !(KINDS.contains(&kind.as_str())
        || options.dummy && DUMMY_KINDS.contains(&kind.as_str()))
    {
        refused = cannot_open("Address family not supported by protocol");
    }
    if refused.is_none() {
        refused = tunnel::check(&name, &kind, &row.map("options"), &mut notes);
    }
    let number = |column: &str| {
        row.int(column)
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| (1..0xff00).contains(n))
    };
    let request = number("ofport_request");
    let mac = match row.string("mac") {
        m if m.is_empty() => None,
        _ if local => {
            notes.push(
                "mac is ignored on a bridge's own interface: set Bridge other_config:hwaddr"
                    .to_owned(),
            );
            None
        }
        m => match m.parse::<MacAddr>() {
            Ok(a) if !a.is_multicast() && a != MacAddr::default() => Some(a),
            _ => {
                notes.push(format!("mac \"{m}\" is not a unicast MAC address"));
                None
            }
        },
    };
    let affinity = row.map("other_config").get("pmd-rxq-affinity").cloned();
    let rxq_affinity = affinity.map_or(Ok(BTreeMap::new()), |text| threads::affinity(&text));
    let rxq_affinity = rxq_affinity.unwrap_or_else(|why| {
        notes.push(why);
        BTreeMap::new()
    });
    InterfaceConf {
        uuid: row.uuid(),
        kind,
        options: row.map("options"),
        mac,
        mtu_request: row.int("mtu_request").and_then(|n| u16::try_from(n).ok()),
        ofport: if local {
            None
        } else {
            request.or_else(|| number("ofport"))
        },
        ofport_requested: !local && request.is_some(),
        local,
        n_rxq: row
            .map("options")
            .get("n_rxq")
            .and_then(|v| v.parse().ok())
            .filter(|n| *n > 0),
        rxq_affinity,
        policing: policing::policing(row),
        refused,
        notes,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::{PriorityTags, QinqEthertype, VlanMode};
    use serde_json::{Value, json};

    fn id(n: u32) -> String {
        format!("00000000-0000-0000-0000-{n:012}")
    }

    fn refer(n: u32) -> Value {
        json!(["uuid", id(n)])
    }

    /// A bridge br0 with its own port, and a port p1 with these columns.
    fn read_with(bridge: Value, port: Value, interface: Value) -> Desired {
        let mut db = Replica::new(ovsdb::vswitch_schema(), &Default::default());
        let merged = |base: Value, more: Value| {
            let mut base = base.as_object().unwrap().clone();
            base.extend(more.as_object().unwrap().clone());
            json!({ "new": base })
        };
        db.apply(&json!({
            "Open_vSwitch": {id(1): {"new": {"bridges": refer(2), "next_cfg": 4}}},
            "Bridge": {id(2): merged(json!({
                "name": "br0", "ports": ["set", [refer(3), refer(4)]]}), bridge)},
            "Port": {
                id(3): {"new": {"name": "br0", "interfaces": refer(5)}},
                id(4): merged(json!({"name": "p1", "interfaces": refer(6)}), port),
            },
            "Interface": {
                id(5): {"new": {"name": "br0", "type": ""}},
                id(6): merged(json!({"name": "p1", "type": ""}), interface),
                id(7): {"new": {"name": "p2", "type": ""}},
            },
            "Flow_Table": {id(9): {"new": {"name": "acl", "flow_limit": 10, "overflow_policy": "evict",
                "groups": ["set", ["NXM_OF_IN_PORT[]", "nothing[]"]], "prefixes": "ip_src"}}},
            "Controller": {id(8): {"new": {"target": "tcp:127.0.0.1:6653", "max_backoff": 1000,
                "inactivity_probe": 0, "controller_rate_limit": 200}}},
        }))
        .unwrap();
        read(&db, ReadOptions { dummy: false })
    }

    fn bridge_of(d: &Desired) -> &BridgeConf {
        &d.bridges["br0"]
    }

    fn p1(d: &Desired) -> (&PortConf, &InterfaceConf) {
        let p = &bridge_of(d).ports["p1"];
        (p, &p.interfaces[0])
    }

    #[test]
    fn flow_tables_read_with_room_and_groups() {
        let rows = json!(["map", [[3, refer(9)], [254, refer(9)]]]);
        let d = read_with(json!({ "flow_tables": rows }), json!({}), json!({}));
        let b = bridge_of(&d);
        let spec = &b.tables[&3];
        assert_eq!((b.tables.len(), spec.name.as_str()), (1, "acl"));
        assert_eq!((spec.flow_limit, spec.evict), (Some(10), true));
        assert_eq!(spec.groups[0].field, openflow::FieldId::InPort);
        assert_eq!(b.notes.len(), 2, "{:?}", b.notes);
    }

    #[test]
    fn plain_rows_read_as_their_defaults() {
        let d = read_with(json!({}), json!({}), json!({}));
        assert_eq!(d.root.as_ref().unwrap().next_cfg, 4);
        let b = bridge_of(&d);
        assert_eq!(b.fail_mode, FailMode::Standalone);
        assert_eq!((b.mac_aging.as_secs(), b.mac_table_size), (300, 8192));
        let local = &b.ports["br0"].interfaces[0];
        assert!(local.local && local.kind == "internal");
        let (p, i) = p1(&d);
        assert_eq!(i.kind, "system");
        assert_eq!(i.refused, None);
        assert_eq!(p.vlan, VlanConfig::default());
        assert!(b.notes.is_empty() && p.notes.is_empty() && i.notes.is_empty());
    }

    #[test]
    fn a_tag_means_access_unless_a_mode_is_given() {
        let vlan = |port: Value| {
            let d = read_with(json!({}), port, json!({}));
            (
                p1(&d).0.vlan.clone(),
                p1(&d).0.notes.len(),
                p1(&d).1.refused.clone(),
            )
        };
        let (v, notes, _) = vlan(json!({"tag": 10, "trunks": ["set", [1, 2]]}));
        assert_eq!(
            (v.mode, v.tag, v.trunks.len(), notes),
            (VlanMode::Access, Some(10), 0, 1)
        );
        let (v, notes, _) =
            vlan(json!({"tag": 10, "trunks": ["set", [1, 2]], "vlan_mode": "native-untagged"}));
        assert_eq!(
            (v.mode, v.tag, v.trunks.len(), notes),
            (VlanMode::NativeUntagged, Some(10), 2, 0)
        );
        let (v, notes, _) = vlan(
            json!({"tag": 10, "vlan_mode": "dot1q-tunnel", "cvlans": ["set", [0, 5]],
            "trunks": 7, "other_config": ["map", [["qinq-ethtype", "802.1q"], ["priority-tags", "always"]]]}),
        );
        let wanted = VlanConfig {
            mode: VlanMode::Dot1qTunnel,
            tag: Some(10),
            cvlans: [0, 5].into(),
            qinq_ethtype: QinqEthertype::Dot1q,
            priority_tags: PriorityTags::Always,
            ..VlanConfig::default()
        };
        assert_eq!((v, notes), (wanted, 0));
        let (v, notes, _) =
            vlan(json!({"cvlans": 5, "other_config": ["map", [["qinq-ethtype", "8100"]]]}));
        assert_eq!((v, notes), (VlanConfig::default(), 1));
    }

    #[test]
    fn values_out_of_reach_are_named_and_left_out() {
        let d = read_with(
            json!({"other_config": ["map", [["hwaddr", "nonsense"], ["datapath-id", "12"],
                ["mac-table-size", "x"], ["mac-aging-time", "5"]]], "stp_enable": true,
                "protocols": ["set", ["OpenFlow13", "OpenFlow15"]]}),
            json!({"other_config": ["map", [["priority-tags", "sometimes"]]]}),
            json!({"mac": "01:00:5e:00:00:01", "ofport": 3}),
        );
        let b = bridge_of(&d);
        assert_eq!((b.hwaddr, b.datapath_id), (None, None));
        assert_eq!((b.mac_aging.as_secs(), b.mac_table_size), (15, 8192));
        assert_eq!(b.notes.len(), 4, "{:?}", b.notes);
        let (p, i) = p1(&d);
        assert_eq!((p.notes.len(), i.notes.len(), i.mac), (1, 1, None));
        assert_eq!((i.ofport, i.ofport_requested), (Some(3), false));
    }

    #[test]
    fn requested_numbers_go_before_recorded_ones() {
        let d = read_with(
            json!({}),
            json!({}),
            json!({"ofport": 3, "ofport_request": 9}),
        );
        assert_eq!(
            (p1(&d).1.ofport, p1(&d).1.ofport_requested),
            (Some(9), true)
        );
    }

    #[test]
    fn what_is_not_made_yet_is_refused_by_name() {
        let refused = |interface: Value| {
            let d = read_with(json!({}), json!({}), interface);
            p1(&d).1.refused.clone().unwrap_or_default()
        };
        assert_eq!(
            refused(json!({"type": "stt"})),
            "could not open network device p1 (type stt is not supported yet)"
        );
        assert_eq!(
            refused(json!({"type": "vxlan"})),
            "p1: vxlan type requires valid 'remote_ip' argument"
        );
        assert_eq!(
            refused(json!({"type": "dummy"})),
            "could not open network device p1 (Address family not supported by protocol)"
        );
        assert_eq!(refused(json!({"type": "dpdkvhostuserclient"})), "");
        let bond = read_with(
            json!({}),
            json!({"interfaces": ["set", [refer(6), refer(7)]]}),
            json!({}),
        );
        let interfaces = &bridge_of(&bond).ports["p1"].interfaces;
        assert!(
            interfaces
                .iter()
                .all(|i| i.refused.as_ref().is_some_and(|r| r.contains("bonds")))
        );
    }

    #[test]
    fn controllers_read_with_their_limits() {
        let d = read_with(
            json!({"controller": refer(8), "fail_mode": "secure"}),
            json!({}),
            json!({}),
        );
        let c = &bridge_of(&d).controllers["tcp:127.0.0.1:6653"];
        assert_eq!((c.max_backoff.as_secs(), c.probe), (1, None));
        assert_eq!(c.rate_limit, Some((200, 50)));
        assert!(c.enable_async && !c.service);
        assert_eq!(bridge_of(&d).fail_mode, FailMode::Secure);
    }

    #[test]
    fn datapath_ids() {
        assert_eq!(parse_dpid("0000aa55aa550000"), Some(0xaa55_aa55_0000));
        assert_eq!(parse_dpid("0x1"), Some(1));
        for bad in [
            "",
            "1",
            "0x",
            "0000000000000000",
            "00000000000000001",
            "000000000000000g",
        ] {
            assert_eq!(parse_dpid(bad), None, "{bad}");
        }
    }
}
