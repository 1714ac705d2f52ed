//! Packets in the syntax of `ovs-dpctl dump-flows`: `in_port(1),eth(src=..,dst=..),eth_type(0x0800),ipv4(..),tcp(..)`.

use super::super::show::datapath_ports;
use crate::switch::Switch;
use openflow::text::{Names, parse_exact_flow};
use openflow::{FieldId, Match, PortNo};

/// Whether a text is in this syntax.
pub fn is_flow(s: &str) -> bool {
    s.split_once('(').is_some_and(|(word, _)| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

/// What each group's keys are called in the syntax of `ovs-ofctl`; groups of a protocol say what the packet is.
const GROUPS: &[(&str, &[(&str, &str)])] = &[
    ("eth", &[("src", "dl_src"), ("dst", "dl_dst")]),
    ("vlan", &[("vid", "dl_vlan"), ("pcp", "dl_vlan_pcp")]),
    (
        "ipv4",
        &[
            ("src", "ip_src"),
            ("dst", "ip_dst"),
            ("proto", "nw_proto"),
            ("tos", "nw_tos_all"),
            ("ttl", "nw_ttl"),
            ("frag", "ip_frag"),
        ],
    ),
    (
        "ipv6",
        &[
            ("src", "ipv6_src"),
            ("dst", "ipv6_dst"),
            ("label", "ipv6_label"),
            ("proto", "nw_proto"),
            ("tclass", "nw_tos_all"),
            ("hlimit", "nw_ttl"),
            ("frag", "ip_frag"),
        ],
    ),
    (
        "arp",
        &[
            ("sip", "arp_spa"),
            ("tip", "arp_tpa"),
            ("op", "arp_op"),
            ("sha", "arp_sha"),
            ("tha", "arp_tha"),
        ],
    ),
    ("tcp", &[("src", "tcp_src"), ("dst", "tcp_dst")]),
    ("udp", &[("src", "udp_src"), ("dst", "udp_dst")]),
    ("sctp", &[("src", "sctp_src"), ("dst", "sctp_dst")]),
    ("icmp", &[("type", "icmp_type"), ("code", "icmp_code")]),
    (
        "icmpv6",
        &[("type", "icmpv6_type"), ("code", "icmpv6_code")],
    ),
    (
        "nd",
        &[
            ("target", "nd_target"),
            ("sll", "nd_sll"),
            ("tll", "nd_tll"),
        ],
    ),
    (
        "mpls",
        &[
            ("label", "mpls_label"),
            ("tc", "mpls_tc"),
            ("ttl", "mpls_ttl"),
            ("bos", "mpls_bos"),
        ],
    ),
];

/// The bridge at whose port a packet comes in, and its fields.
///
/// # Errors
/// What is wrong with it, or that no bridge has its port.
pub fn parse(switch: &Switch, text: &str) -> Result<(String, Match), String> {
    // Open vSwitch takes it for a bridge's flow then, whose bridge was not named.
    let syntax = |at: &str| format!("syntax error at {at} (or the bridge name was omitted)");
    let mut bridge = None;
    let mut m = Match::new();
    let mut rest = text;
    // Fields whose prerequisites come with a later group wait.
    let mut waiting: Vec<String> = Vec::new();
    while !rest.is_empty() {
        let (word, tail) = rest.split_once('(').ok_or_else(|| syntax(rest))?;
        let (inner, tail) = tail.split_once(')').ok_or_else(|| syntax(rest))?;
        match word {
            "in_port" => {
                let (name, port) = in_port(switch, inner)?;
                bridge = Some(name);
                m.set(FieldId::InPort, port.0.into());
            }
            "recirc_id" | "dp_hash" | "ct_state" | "ct_zone" | "ct_mark" | "ct_label"
            | "packet_type" => {}
            "skb_priority" => {}
            "skb_mark" => waiting.push(format!("pkt_mark={inner}")),
            "eth_type" => waiting.push(format!("eth_type={inner}")),
            "tcp_flags" => waiting.push(format!("tcp_flags={inner}")),
            _ => {
                let (_, keys) = GROUPS
                    .iter()
                    .find(|g| g.0 == word)
                    .ok_or_else(|| syntax(rest))?;
                for pair in inner.split(',').filter(|p| !p.is_empty()) {
                    let (key, value) = pair.split_once('=').ok_or_else(|| syntax(pair))?;
                    let (_, field) = keys
                        .iter()
                        .find(|k| k.0 == key)
                        .ok_or_else(|| syntax(pair))?;
                    // A mask says which packets a flow is for; the packet traced has the value.
                    let value = value.split('/').next().unwrap_or(value);
                    match *field {
                        "nw_tos_all" => {
                            let tos = openflow_number(value).ok_or_else(|| syntax(pair))?;
                            waiting.push(format!("ip_dscp={},nw_ecn={}", tos >> 2, tos & 3));
                        }
                        field => waiting.push(format!("{field}={value}")),
                    }
                }
            }
        }
        rest = tail.strip_prefix(',').unwrap_or(tail);
    }
    let bridge = bridge.ok_or("no OpenFlow port for the packet: in_port() is missing")?;
    let fields =
        parse_exact_flow(&waiting.join(","), &Names::default()).map_err(|e| e.to_string())?;
    for e in fields.entries() {
        m.set_slot(e.slot, e.value, e.mask, e.mask);
    }
    Ok((bridge, m))
}

fn openflow_number(s: &str) -> Option<u8> {
    match s.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).ok(),
        None => s.parse().ok(),
    }
}

/// The bridge and OpenFlow number of a port by its datapath number or name.
fn in_port(switch: &Switch, text: &str) -> Result<(String, PortNo), String> {
    let ports = datapath_ports(switch);
    let found = ports
        .iter()
        .find(|(name, p)| *name == text || p.datapath_port.to_string() == text);
    found
        .map(|(_, p)| (p.bridge.clone(), p.port))
        .ok_or_else(|| format!("no OpenFlow port for datapath port {text}"))
}
