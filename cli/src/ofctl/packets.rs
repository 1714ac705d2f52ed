//! Packets: sent out, told of, made up.

use super::{Options, flows, names};
use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use datapath::flow::slot_bits;
use datapath::packet::checksum;
use openflow::text::{
    Names, Protocols, dump, for_actions, for_match, format_exact_flow, parse_actions,
    parse_exact_flow, parse_flow_filter,
};
use openflow::{FieldId, Match, Message, PacketOut, PortNo, Slot};
use std::fmt::Write;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Bytes written in pairs of hex digits, blanks between them allowed.
///
/// # Errors
/// There is something else; how many digits came before it is not told.
pub fn hex(s: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = s
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect())
}

/// A whole OpenFlow message in hex.
///
/// # Errors
/// It is none.
pub fn message_from_hex(s: &str) -> Result<Vec<u8>> {
    let Some(bytes) = hex(s) else {
        bail!("Trailing garbage in hex data");
    };
    match openflow::wire::decode_header(&bytes) {
        None => bail!("Message too short for OpenFlow"),
        Some(h) if usize::from(h.len) != bytes.len() => {
            bail!("Message size does not match length in OpenFlow header")
        }
        Some(_) => Ok(bytes),
    }
}

fn frame(s: &str) -> Result<Bytes, &'static str> {
    match hex(s) {
        None => Err("Trailing garbage in packet data"),
        Some(f) if f.len() < ETHERNET => Err("Packet data too short for Ethernet"),
        Some(f) => Ok(f.into()),
    }
}

/// A packet-out that was read, and the formats that can say it.
pub struct PacketLine {
    /// The message.
    pub packet_out: PacketOut,
    /// The formats.
    pub usable: Protocols,
}

/// Fields that a packet does not have but comes with: those a packet-out may set.
fn of_pipeline(name: &str) -> bool {
    [
        "metadata",
        "tun_",
        "tunnel_id",
        "reg",
        "xreg",
        "xxreg",
        "pkt_mark",
        "ct_",
    ]
    .iter()
    .any(|p| name.starts_with(p))
}

/// Reads `in_port=PORT,packet=HEX,actions=ACTIONS`.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_line(s: &str, names: &Names) -> Result<PacketLine> {
    let (head, actions) = match s.find("action") {
        Some(at) => {
            let rest = s[at..]
                .trim_start_matches("actions")
                .trim_start_matches("action");
            match rest.strip_prefix(['=', ':']) {
                Some(actions) => (&s[..at], actions),
                None => (s, ""),
            }
        }
        None => (s, ""),
    };
    let mut out = PacketOut {
        in_port: PortNo::CONTROLLER,
        ..PacketOut::default()
    };
    let mut fields = String::new();
    for part in head.split([',', ' ', '\t']).filter(|p| !p.is_empty()) {
        let (key, v) = part.split_once('=').unwrap_or((part, ""));
        if v.is_empty() {
            bail!("field {key} missing value");
        }
        match key {
            "in_port" => {
                let port = names
                    .port(v)
                    .ok_or_else(|| anyhow!("{v} is not a valid OpenFlow port"))?;
                let known = [PortNo::LOCAL, PortNo::ANY, PortNo::CONTROLLER];
                if port.0 > 0xff00 && !known.contains(&port) {
                    bail!("{v} is not a valid OpenFlow port for PACKET_OUT");
                }
                out.in_port = port;
            }
            "packet" => out.data = frame(v).map_err(|e| anyhow!("packet: {e}"))?,
            key if of_pipeline(key) => {
                let _ = write!(fields, "{key}={v},");
            }
            key if FieldId::from_name(key).is_some() => {
                bail!("{key} is not a valid pipeline field for PACKET_OUT");
            }
            key => bail!("unknown keyword {key}"),
        }
    }
    if out.data.is_empty() {
        bail!("must specify packet");
    }
    let mut usable = Protocols::ANY;
    if !fields.is_empty() {
        out.fields = parse_flow_filter(&fields, names)?.matching;
        usable = for_match(&out.fields);
    }
    if !matches!(actions, "" | "drop") {
        out.actions = parse_actions(actions, &Match::new(), names)?;
    }
    usable = usable.and(for_actions(&out.actions));
    Ok(PacketLine {
        packet_out: out,
        usable,
    })
}

/// `packet-out SWITCH IN_PORT ACTIONS PACKET...`, or all in one word.
pub fn packet_out(o: &Options, a: &[&str]) -> Result<()> {
    let names = names::accepted(o, a[0])?;
    let lines = match a[1..] {
        [all] => vec![parse_line(all, &names)?],
        [_, _] => bail!("Too many arguments ({})", a.len() + 1),
        [in_port, actions, ..] => {
            let actions = match actions {
                "drop" => Vec::new(),
                s => parse_actions(s, &Match::new(), &names)?,
            };
            let in_port = names
                .port(in_port)
                .ok_or_else(|| anyhow!("{}: unknown port `{in_port}'", a[0]))?;
            let mut lines = Vec::new();
            for packet in &a[3..] {
                let data = frame(packet).map_err(|e| anyhow!("{e}"))?;
                let (usable, actions) = (for_actions(&actions), actions.clone());
                let packet_out = PacketOut {
                    in_port,
                    actions,
                    data,
                    ..PacketOut::default()
                };
                lines.push(PacketLine { packet_out, usable });
            }
            lines
        }
        [] => bail!("'packet-out' command requires at least 2 arguments"),
    };
    let usable = lines
        .iter()
        .fold(Protocols::ANY, |all, l| all.and(l.usable));
    let mut conn = flows::open_for(o, a[0], usable)?;
    let messages: Vec<Message> = lines
        .into_iter()
        .map(|l| Message::PacketOut(l.packet_out))
        .collect();
    let shown = names::shown(o, a[0])?;
    conn.change(&messages, &o.style(&shown, 2))
}

/// What is in a frame: its fields, and its checksum where it has one.
pub fn describe(frame: &[u8]) -> String {
    let Some(key) = datapath::pipeline::key_of(frame, datapath::TAGS_PARSED) else {
        return format!("{} bytes that are no frame", frame.len());
    };
    let mut m = Match::new();
    for &slot in Slot::ALL {
        m.set_slot(slot, key.get(slot), slot_bits(slot), u128::MAX);
    }
    let text = format_exact_flow(&m, &Names::default());
    // It came in nowhere.
    let mut text = text.replacen("in_port=0,", "", 1);
    if let Some((name, sum)) = layer_4_checksum(frame, &m) {
        let _ = write!(text, " {name}_csum:{sum:x}");
    }
    text
}

/// The checksum that a packet's transport header carries, and that header's name.
fn layer_4_checksum(frame: &[u8], m: &Match) -> Option<(&'static str, u32)> {
    let value = |slot| m.slot(slot).0;
    let (proto, eth) = (value(Slot::NwProto), value(Slot::EthType));
    if value(Slot::NwFrag) & 2 != 0 {
        return None;
    }
    let mut l3 = ETHERNET;
    while matches!(frame.get(l3 - 2..l3)?, [0x81, 0] | [0x88, 0xa8]) {
        l3 += 4;
    }
    let l4 = match eth {
        0x0800 => l3 + usize::from(frame.get(l3)? & 15) * 4,
        0x86dd => l3 + 40,
        _ => return None,
    };
    let (name, at, size, least) = match proto {
        6 => ("tcp", 16, 2, 20),
        17 => ("udp", 6, 2, 8),
        132 => ("sctp", 8, 4, 12),
        1 => ("icmp", 2, 2, 8),
        58 => ("icmp6", 2, 2, 4),
        _ => return None,
    };
    frame.get(l4..l4 + least)?;
    let bytes = frame.get(l4 + at..l4 + at + size)?;
    Some((name, bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b))))
}

/// `compose-packet FLOW [L7]`: a packet with these fields, in hex.
pub fn compose(_: &Options, a: &[&str]) -> Result<()> {
    let m = parse_exact_flow(a[0], &Names::default()).map_err(|e| anyhow!("{e}"))?;
    let payload = match a.get(1) {
        Some(text) => hex(text).ok_or_else(|| anyhow!("Trailing garbage in packet data"))?,
        None => (0..64).collect(),
    };
    super::commands::out(&dump(&build(&m, &payload), false));
    Ok(())
}

/// `parse-packet`: the packet whose bytes come in by standard input.
pub fn parse(_: &Options, _: &[&str]) -> Result<()> {
    let mut data = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut data)?;
    super::commands::out(&format!("{}\n", describe(&data)));
    Ok(())
}

/// A packet with the fields of a match and this behind its transport header.
fn build(m: &Match, payload: &[u8]) -> Vec<u8> {
    let value = |slot| m.slot(slot).0;
    let mac = |slot| value(slot).to_be_bytes()[10..].to_vec();
    let mut p = [mac(Slot::EthDst), mac(Slot::EthSrc)].concat();
    for tci in [Slot::VlanTci, Slot::InnerVlanTci] {
        if value(tci) & 0x1000 != 0 {
            p.extend([0x81, 0]);
            p.extend((value(tci) as u16 & 0xefff).to_be_bytes());
        }
    }
    let eth = value(Slot::EthType) as u16;
    p.extend(eth.to_be_bytes());
    let proto = value(Slot::NwProto) as u8;
    let ip4 = |slot| (value(slot) as u32).to_be_bytes();
    match eth {
        0x0800 => {
            let l4 = transport(m, payload);
            let len = 20 + l4.len() as u16;
            let mut h = vec![0x45, value(Slot::NwTos) as u8];
            h.extend(len.to_be_bytes());
            h.extend([0, 0]);
            let fragment: u16 = match value(Slot::NwFrag) {
                0 => 0,
                1 => 0x2000,
                _ => 0x2064,
            };
            h.extend(fragment.to_be_bytes());
            h.extend([value(Slot::NwTtl) as u8, proto, 0, 0]);
            h.extend(ip4(Slot::NwSrc));
            h.extend(ip4(Slot::NwDst));
            let sum = checksum::of(&h);
            h[10..12].copy_from_slice(&sum.to_be_bytes());
            let pseudo = [&h[12..20], &[0, proto], &(l4.len() as u16).to_be_bytes()].concat();
            p.extend(h);
            p.extend(summed(l4, proto, &pseudo));
        }
        0x86dd => {
            let l4 = transport(m, payload);
            let addresses = [
                value(Slot::Ipv6Src).to_be_bytes(),
                value(Slot::Ipv6Dst).to_be_bytes(),
            ]
            .concat();
            let first = 6 << 28 | (value(Slot::NwTos) as u32) << 20 | value(Slot::Ipv6Label) as u32;
            p.extend(first.to_be_bytes());
            p.extend((l4.len() as u16).to_be_bytes());
            p.extend([proto, value(Slot::NwTtl) as u8]);
            p.extend(&addresses);
            let len = (l4.len() as u32).to_be_bytes();
            let pseudo = [&addresses[..], &len, &[0, 0, 0, proto]].concat();
            p.extend(summed(l4, proto, &pseudo));
        }
        0x0806 | 0x8035 => {
            p.extend([0, 1, 8, 0, 6, 4, 0, proto]);
            p.extend(mac(Slot::ArpSha));
            p.extend(ip4(Slot::NwSrc));
            p.extend(mac(Slot::ArpTha));
            p.extend(ip4(Slot::NwDst));
        }
        _ => {}
    }
    p
}

/// Transport header and payload, its checksum zero.
fn transport(m: &Match, payload: &[u8]) -> Vec<u8> {
    let value = |slot| m.slot(slot).0;
    let (src, dst) = (value(Slot::TpSrc) as u16, value(Slot::TpDst) as u16);
    let ports = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    if value(Slot::NwFrag) & 2 != 0 {
        return payload.to_vec();
    }
    let mut h = match (value(Slot::EthType), value(Slot::NwProto)) {
        (_, 6) => {
            let flags = 0x5000 | value(Slot::TcpFlags) as u16;
            [&ports[..], &[0; 8], &flags.to_be_bytes(), &[0; 6]].concat()
        }
        (_, 17) => {
            let len = 8 + payload.len() as u16;
            [&ports[..], &len.to_be_bytes(), &[0; 2]].concat()
        }
        (_, 132) => [&ports[..], &[0; 8]].concat(),
        (0x0800, 1) => vec![src as u8, dst as u8, 0, 0, 0, 0, 0, 0],
        (0x86dd, 58) => {
            let mut h = vec![src as u8, dst as u8, 0, 0, 0, 0, 0, 0];
            if matches!(src, 135 | 136) && dst == 0 {
                h.extend(value(Slot::NdTarget).to_be_bytes());
                for (option, slot) in [(1, Slot::ArpSha), (2, Slot::ArpTha)] {
                    if value(slot) != 0 {
                        h.extend([option, 1]);
                        h.extend(&value(slot).to_be_bytes()[10..]);
                    }
                }
                return h;
            }
            h
        }
        _ => Vec::new(),
    };
    // Only these carry a payload, and no segment that opens or closes a connection does.
    let carries = match value(Slot::NwProto) {
        6 => value(Slot::TcpFlags) & 7 == 0,
        17 => true,
        1 => value(Slot::EthType) == 0x0800,
        58 => value(Slot::EthType) == 0x86dd,
        _ => false,
    };
    if carries {
        h.extend(payload);
    }
    h
}

/// Fills in the checksum over a pseudo-header and what follows it.
fn summed(mut l4: Vec<u8>, proto: u8, pseudo: &[u8]) -> Vec<u8> {
    let at = match proto {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return l4,
    };
    if l4.len() < at + 2 {
        return l4;
    }
    let covered = if proto == 1 {
        l4.clone()
    } else {
        [pseudo, &l4].concat()
    };
    let mut sum = checksum::of(&covered);
    if proto == 17 && sum == 0 {
        sum = 0xffff;
    }
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    l4
}
