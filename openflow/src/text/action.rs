//! Actions and instructions in text.

use super::matching::{field, formal_name};
use super::{Names, Pair, Result, TextError, fail, next_pair, number, parse_uint, value};
use crate::action::{Action, Instructions, PacketInReason, Subfield};
use crate::field::{FieldId, Prereq};
use crate::matching::Match;
use crate::message::PortNo;
use bytes::Bytes;
use std::fmt::Write;

/// Actions that Open vSwitch has and weir knows by name only.
const NOT_YET: &[&str] = &[
    "learn",
    "ct",
    "ct_clear",
    "nat",
    "fin_timeout",
    "multipath",
    "bundle",
    "bundle_load",
    "conjunction",
    "sample",
    "clone",
    "encap",
    "decap",
    "dec_nsh_ttl",
    "check_pkt_larger",
    "delete_field",
    "push",
    "pop",
    "stack_push",
    "stack_pop",
    "unroll_xlate",
    "debug_recirc",
    "debug_slow",
];

/// Actions without arguments.
const PLAIN: &[(&str, Action)] = &[
    ("strip_vlan", Action::PopVlan),
    ("pop_vlan", Action::PopVlan),
    ("dec_mpls_ttl", Action::DecMplsTtl),
    ("copy_ttl_out", Action::CopyTtlOut),
    ("copy_ttl_in", Action::CopyTtlIn),
    ("pop_queue", Action::PopQueue),
    ("exit", Action::Exit),
];

/// `mod_*` and the like: name, field, how to speak of the value.
const MODS: &[(&str, FieldId, &str)] = &[
    ("mod_dl_src", FieldId::EthSrc, "Ethernet address"),
    ("mod_dl_dst", FieldId::EthDst, "Ethernet address"),
    ("mod_nw_src", FieldId::Ipv4Src, "IP address"),
    ("mod_nw_dst", FieldId::Ipv4Dst, "IP address"),
    ("mod_nw_ecn", FieldId::IpEcn, "ECN"),
    ("mod_nw_ttl", FieldId::NwTtl, "TTL"),
    ("mod_tp_src", FieldId::TcpSrc, "source port"),
    ("mod_tp_dst", FieldId::TcpDst, "destination port"),
    ("set_tunnel", FieldId::TunId, "tunnel id"),
    ("set_tunnel64", FieldId::TunId, "tunnel id"),
    ("set_mpls_label", FieldId::MplsLabel, "MPLS label"),
    ("set_mpls_tc", FieldId::MplsTc, "MPLS TC"),
    ("set_mpls_ttl", FieldId::MplsTtl, "MPLS TTL"),
];

const REASONS: &[(&str, PacketInReason)] = &[
    ("no_match", PacketInReason::NoMatch),
    ("action", PacketInReason::Action),
    ("invalid_ttl", PacketInReason::InvalidTtl),
    ("action_set", PacketInReason::ActionSet),
    ("group", PacketInReason::Group),
    ("packet_out", PacketInReason::PacketOut),
];

/// The name of a reason for a packet-in.
pub(super) fn reason_name(r: PacketInReason) -> &'static str {
    REASONS.iter().find(|x| x.1 == r).map_or("action", |x| x.0)
}

/// Instructions in the order in which they must be written.
const ORDER: &[&str] = &[
    "meter",
    "apply_actions",
    "clear_actions",
    "write_actions",
    "write_metadata",
    "goto_table",
];

/// Reads actions (no instructions) for packets of `m`.
///
/// # Errors
/// What is wrong with which action, as Open vSwitch says it.
pub fn parse_actions(s: &str, m: &Match, names: &Names) -> Result<Vec<Action>> {
    let i = parse_instructions(s, m, names)?;
    if i != Instructions::apply(i.apply.clone()) {
        return fail(format!(
            "{s}: only actions, no instructions, may stand here"
        ));
    }
    Ok(i.apply)
}

/// Reads what follows `actions=` of a flow whose match is `m`.
///
/// # Errors
/// What is wrong with which action, as Open vSwitch says it.
pub fn parse_instructions(s: &str, m: &Match, names: &Names) -> Result<Instructions> {
    let mut rest = s;
    let mut out = Instructions::default();
    let mut ctx = Context {
        m,
        names,
        layers_known: true,
    };
    let (mut last, mut count, mut dropped) = (0, 0, false);
    while let Some(pair) = next_pair(&mut rest)? {
        count += 1;
        if pair.key == "drop" {
            dropped = true;
            continue;
        }
        let at = ORDER.iter().position(|o| *o == pair.key).unwrap_or(1);
        if pair.key == "apply_actions" {
            return fail("apply_actions is the default instruction");
        }
        if at < last {
            return fail(format!(
                "invalid instruction ordering: {} must appear before {}, for OpenFlow 1.1+ compatibility",
                ORDER[at], ORDER[last]
            ));
        }
        if at == last && at > 1 || pair.key == "meter" && out.meter.is_some() {
            return fail(format!(
                "duplicate {} instruction not allowed, for OpenFlow 1.1+ compatibility",
                ORDER[at]
            ));
        }
        last = at;
        let v = pair.value;
        match pair.key {
            "meter" => out.meter = Some(number(v, "meter id")?),
            "clear_actions" => out.clear_actions = true,
            "write_actions" => {
                let mut inner = v;
                while let Some(p) = next_pair(&mut inner)? {
                    if p.key != "drop" {
                        ctx.action(p, &mut out.write)?;
                    }
                }
            }
            "write_metadata" => {
                let (value, mask) = value::parse(FieldId::Metadata.info(), v, names)?;
                out.metadata = Some((value as u64, mask as u64));
            }
            "goto_table" => {
                let t = names.table(v);
                out.goto_table =
                    Some(t.ok_or_else(|| TextError(format!("unknown table \"{v}\"")))?);
            }
            _ => ctx.action(pair, &mut out.apply)?,
        }
    }
    if dropped && count > 1 {
        return fail("\"drop\" must not be accompanied by any other action or instruction");
    }
    Ok(out)
}

struct Context<'a> {
    m: &'a Match,
    names: &'a Names,
    /// False once an MPLS push or pop made the match no guide to the packet's layers.
    layers_known: bool,
}

impl Context<'_> {
    fn action(&mut self, pair: Pair<'_>, out: &mut Vec<Action>) -> Result<()> {
        let (key, v) = (pair.key, pair.value);
        if let Some((_, a)) = PLAIN.iter().find(|p| p.0 == key) {
            out.push(a.clone());
            return Ok(());
        }
        if let Some((_, f, what)) = MODS.iter().find(|p| p.0 == key) {
            let f = match (f, key) {
                (FieldId::TcpSrc, _) if self.m.meets(Prereq::Udp) => FieldId::UdpSrc,
                (FieldId::TcpDst, _) if self.m.meets(Prereq::Udp) => FieldId::UdpDst,
                (FieldId::TcpSrc, _) if self.m.meets(Prereq::Sctp) => FieldId::SctpSrc,
                (FieldId::TcpDst, _) if self.m.meets(Prereq::Sctp) => FieldId::SctpDst,
                (f, _) => *f,
            };
            let full = f.info().full_mask();
            let (value, mask) = match value::parse(f.info(), v, self.names) {
                Err(e) if what.ends_with("address") => return Err(e),
                Ok((value, mask)) if mask == full && parse_uint(v).is_none_or(|n| n <= full) => {
                    (value, mask)
                }
                _ => return fail(format!("invalid {what} \"{v}\"")),
            };
            return self.push_set(f, value, mask, out);
        }
        match key {
            "output" => out.push(self.output(v)?),
            "controller" | "CONTROLLER" => out.push(self.controller(v)?),
            "enqueue" => {
                let (port, queue) = v.split_once([':', ',']).ok_or_else(|| {
                    TextError(
                        "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\""
                            .into(),
                    )
                })?;
                let port = self
                    .names
                    .port(port.trim())
                    .ok_or_else(|| TextError(format!("{port}: enqueue to unknown port")))?;
                out.push(Action::Enqueue {
                    port,
                    queue: number(queue.trim(), "queue")?,
                });
            }
            "set_queue" => out.push(Action::SetQueue(number(v, "queue")?)),
            "group" => out.push(Action::Group(number(v, "group id")?)),
            "mod_vlan_vid" | "set_vlan_vid" => {
                let vid: u16 = number(v, "VLAN VID")?;
                if vid > 0xfff {
                    return fail(format!("{v}: not a valid VLAN VID"));
                }
                out.push(Action::SetVlanVid(vid));
            }
            "mod_vlan_pcp" | "set_vlan_pcp" => {
                let pcp: u8 = number(v, "VLAN PCP")?;
                if pcp > 7 {
                    return fail(format!("{v}: not a valid VLAN PCP"));
                }
                out.push(Action::SetVlanPcp(pcp));
            }
            "mod_nw_tos" => {
                let tos: u8 = number(v, "TOS")?;
                if tos & 3 != 0 {
                    return fail(format!("{v}: not a valid TOS"));
                }
                return self.push_set(FieldId::IpDscp, u128::from(tos >> 2), 0x3f, out);
            }
            "push_vlan" => out.push(match number::<u16>(v, "ethertype")? {
                t @ (0x8100 | 0x88a8) => Action::PushVlan(t),
                _ => return fail(format!("{v}: not a valid VLAN ethertype")),
            }),
            "push_mpls" | "pop_mpls" => {
                self.layers_known = false;
                let t: u16 = number(v, "ethertype")?;
                out.push(match key {
                    "pop_mpls" => Action::PopMpls(t),
                    _ if matches!(t, 0x8847 | 0x8848) => Action::PushMpls(t),
                    _ => return fail(format!("{v}: not a valid MPLS ethertype")),
                });
            }
            "dec_ttl" => {
                let ids: Result<Vec<u16>> = v
                    .split(',')
                    .filter(|s| !s.trim().is_empty())
                    .map(|s| number(s.trim(), "controller id"))
                    .collect();
                self.check(Prereq::Ip)?;
                out.push(Action::DecTtl(ids?));
            }
            "resubmit" => out.push(self.resubmit(v)?),
            "note" => out.push(Action::Note(note(v)?)),
            "set_field" => {
                let (value, target) = v
                    .rsplit_once("->")
                    .ok_or_else(|| TextError(format!("{v}: missing `->' in set_field action")))?;
                let Some(f) = field(target) else {
                    return fail(format!("{target} is not a valid OXM field name"));
                };
                let info = f.info();
                if !info.writable {
                    return fail(format!("{target} is read-only"));
                }
                if let Some(n) = parse_uint(value)
                    && n & !info.full_mask() != 0
                    && n >> (info.bytes() * 8).min(127) == 0
                {
                    return fail(format!("{value} is not a valid value for field {target}"));
                }
                let (value, mask) = value::parse(info, value, self.names)?;
                let (f, value, mask) = match f {
                    FieldId::NwTos => (FieldId::IpDscp, value >> 2, mask >> 2),
                    f => (f, value, mask),
                };
                if mask == 0 {
                    return fail(format!("{v}: a mask of zero would write nothing"));
                }
                return self.push_set(f, value, mask, out);
            }
            "load" => {
                let (n, target) = v
                    .split_once("->")
                    .ok_or_else(|| TextError(format!("{v}: missing `->' in load action")))?;
                let target = self.writable(target)?;
                let n = parse_uint(n)
                    .and_then(|n| u64::try_from(n).ok())
                    .ok_or_else(|| TextError(format!("{v}: cannot parse integer value")))?;
                if target.bits > 64 {
                    return fail(format!("{v}: loads at most 64 bits at once"));
                }
                if target.bits < 64 && n >> target.bits != 0 {
                    return fail(format!(
                        "{v}: value {n:#x} does not fit into {} bits",
                        target.bits
                    ));
                }
                out.push(Action::Load { target, value: n });
            }
            "move" => {
                let (from, to) = v
                    .split_once("->")
                    .ok_or_else(|| TextError(format!("{v}: missing `->' in move action")))?;
                let (source, target) = (subfield(from)?, self.writable(to)?);
                if source.bits != target.bits {
                    return fail(format!(
                        "{v}: source field is {} bits wide but destination is {} bits wide",
                        source.bits, target.bits
                    ));
                }
                self.check(source.field.info().prereq)?;
                out.push(Action::Move { source, target });
            }
            _ if NOT_YET.contains(&key) => {
                return fail(format!("{key}: this action is not supported yet"));
            }
            _ if ORDER.contains(&key) => {
                return fail(format!(
                    "{key} is an instruction and can not stand in an action list"
                ));
            }
            // A port by itself is an output to it.
            _ => match self.names.port(key).filter(|_| v.is_empty()) {
                Some(port) => out.push(output(port)?),
                None => return fail(format!("unknown action {key}")),
            },
        }
        Ok(())
    }

    fn check(&self, prereq: Prereq) -> Result<()> {
        let layered = !matches!(prereq, Prereq::None | Prereq::Vlan | Prereq::Mpls);
        if layered && self.layers_known && !self.m.meets(prereq) {
            return fail("actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)");
        }
        Ok(())
    }

    fn push_set(
        &self,
        field: FieldId,
        value: u128,
        mask: u128,
        out: &mut Vec<Action>,
    ) -> Result<()> {
        self.check(field.info().prereq)?;
        out.push(Action::SetField { field, value, mask });
        Ok(())
    }

    fn writable(&self, s: &str) -> Result<Subfield> {
        let f = subfield(s)?;
        if !f.field.info().writable {
            return fail(format!("{s} is read-only"));
        }
        self.check(f.field.info().prereq)?;
        Ok(f)
    }

    fn output(&self, v: &str) -> Result<Action> {
        if v.contains('=') {
            let (mut port, mut max_len, mut rest) = (None, None, v);
            while let Some(p) = next_pair(&mut rest)? {
                match p.key {
                    "port" => port = self.names.port(p.value),
                    "max_len" => max_len = Some(number::<u16>(p.value, "max_len")?),
                    k => return fail(format!("invalid key '{k}' in output_trunc argument")),
                }
            }
            let (Some(_), Some(_)) = (port, max_len) else {
                return fail(format!("{v}: output(port=PORT,max_len=BYTES) needs both"));
            };
            return fail("output with max_len: this action is not supported yet");
        }
        if let Some(port) = self.names.port(v) {
            return output(port);
        }
        match subfield(v) {
            Ok(source) => Ok(Action::OutputReg {
                source,
                max_len: u16::MAX,
            }),
            Err(_) => fail(format!("{v}: output to unknown port")),
        }
    }

    fn controller(&self, v: &str) -> Result<Action> {
        let (mut max_len, mut id, mut reason) = (u16::MAX, 0, PacketInReason::Action);
        let (mut userdata, mut pause) = (Bytes::new(), false);
        if parse_uint(v).is_some() {
            max_len = number(v, "max_len")?;
        } else {
            let mut rest = v;
            while let Some(p) = next_pair(&mut rest)? {
                match p.key {
                    "max_len" => max_len = number(p.value, "max_len")?,
                    "id" => id = number(p.value, "id")?,
                    "reason" => {
                        let r = REASONS.iter().find(|r| r.0 == p.value);
                        reason = r
                            .ok_or_else(|| TextError(format!("unknown reason \"{}\"", p.value)))?
                            .1;
                    }
                    "userdata" => userdata = Bytes::from(hex_bytes(p.value)?),
                    "pause" => pause = true,
                    k => return fail(format!("unknown key \"{k}\" parsing controller action")),
                }
            }
        }
        if reason == PacketInReason::Action && id == 0 && userdata.is_empty() && !pause {
            return Ok(Action::Output {
                port: PortNo::CONTROLLER,
                max_len,
            });
        }
        Ok(Action::Controller {
            max_len,
            reason,
            id,
            userdata,
            pause,
            meter: None,
        })
    }

    fn resubmit(&self, v: &str) -> Result<Action> {
        let mut parts = v.split(',').map(str::trim);
        let (port, table, ct) = (
            parts.next().unwrap_or(""),
            parts.next().unwrap_or(""),
            parts.next(),
        );
        let in_port = match port {
            "" => None,
            p => Some(
                self.names
                    .port(p)
                    .ok_or_else(|| TextError(format!("{p}: resubmit to unknown port")))?,
            )
            .filter(|p| *p != PortNo::IN_PORT),
        };
        let table = match table {
            "" => None,
            t => Some(
                self.names
                    .table(t)
                    .ok_or_else(|| TextError(format!("{t}: resubmit to unknown table")))?,
            )
            .filter(|t| *t != 255),
        };
        let ct = match ct {
            None | Some("") => false,
            Some("ct") => true,
            Some(other) => return fail(format!("{other}: unknown parameter")),
        };
        if in_port.is_none() && table.is_none() && port.is_empty() {
            return fail("at least one \"in_port\" or \"table\" must be specified  on resubmit");
        }
        Ok(Action::Resubmit { in_port, table, ct })
    }
}

fn output(port: PortNo) -> Result<Action> {
    if port == PortNo::ANY || port == PortNo::UNSET {
        return fail("actions are invalid with specified match (OFPBAC_BAD_OUT_PORT)");
    }
    Ok(Action::Output {
        port,
        max_len: if port == PortNo::CONTROLLER {
            u16::MAX
        } else {
            0
        },
    })
}

fn hex_bytes(s: &str) -> Result<Vec<u8>> {
    let bad = || TextError(format!("{s}: bad hex digits"));
    let digits: Vec<u8> = s
        .chars()
        .filter(|c| *c != '.')
        .map(|c| c.to_digit(16).map(|d| d as u8).ok_or_else(bad))
        .collect::<Result<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(bad());
    }
    Ok(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}

/// A note's bytes, filled up as they will be on the wire.
fn note(s: &str) -> Result<Bytes> {
    let mut bytes =
        hex_bytes(s).map_err(|_| TextError("bad hex digit in `note' argument".into()))?;
    bytes.resize((bytes.len() + 10).next_multiple_of(8) - 10, 0);
    Ok(Bytes::from(bytes))
}

/// `NXM_NX_REG0[0..15]`, `reg0[3]`, `eth_src[]`, `reg1`.
fn subfield(s: &str) -> Result<Subfield> {
    let (name, bits) = match s.split_once('[') {
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(bits) => (name, bits),
            None => return fail(format!("{s}: missing ] in field name")),
        },
        None => (s, ""),
    };
    let Some(f) = field(name) else {
        return fail(format!("{s}: unknown field `{name}'"));
    };
    // Nicira's in_port has OpenFlow 1.0's 16 bits.
    let width = match name {
        "NXM_OF_IN_PORT" => 16,
        _ => f.info().bits as u8,
    };
    let (first, last) = match bits.split_once("..") {
        Some((a, b)) => (number::<u8>(a, "bit")?, number::<u8>(b, "bit")?),
        None if bits.is_empty() => (0, width - 1),
        None => {
            let bit: u8 = number(bits, "bit")?;
            (bit, bit)
        }
    };
    if first > last {
        return fail(format!(
            "{s}: starting bit {first} is after ending bit {last}"
        ));
    }
    if last >= width {
        return fail(format!(
            "{s}: bits {first} to {last} are not in the {width} bits of the field"
        ));
    }
    Ok(Subfield {
        field: f,
        offset: first,
        bits: last - first + 1,
    })
}

/// Writes a run of bits: `NXM_NX_REG0[0..3]`.
pub fn subfield_text(s: Subfield) -> String {
    let name = formal_name(s.field);
    let width = if s.field == FieldId::InPort && s.bits + s.offset <= 16 {
        16
    } else {
        s.field.info().bits as u8
    };
    match (s.offset, s.bits) {
        (0, b) if b == width => format!("{name}[]"),
        (o, 1) => format!("{name}[{o}]"),
        (o, b) => format!("{name}[{o}..{}]", o + b - 1),
    }
}

/// The action of OpenFlow 1.0 (or of Nicira beside it) that writes a field.
fn legacy_word(field: FieldId) -> Option<&'static str> {
    Some(match field {
        FieldId::EthSrc => "mod_dl_src",
        FieldId::EthDst => "mod_dl_dst",
        FieldId::Ipv4Src => "mod_nw_src",
        FieldId::Ipv4Dst => "mod_nw_dst",
        FieldId::IpDscp => "mod_nw_tos",
        FieldId::TcpSrc | FieldId::UdpSrc | FieldId::SctpSrc => "mod_tp_src",
        FieldId::TcpDst | FieldId::UdpDst | FieldId::SctpDst => "mod_tp_dst",
        FieldId::TunId => "set_tunnel",
        _ => return None,
    })
}

/// Writes actions, comma between; nothing for none.
pub fn format_actions(actions: &[Action], names: &Names) -> String {
    let texts: Vec<String> = actions.iter().map(|a| one(a, names)).collect();
    texts.join(",")
}

fn bytes_text(b: &[u8]) -> String {
    let parts: Vec<String> = b.iter().map(|b| format!("{b:02x}")).collect();
    parts.join(".")
}

fn one(a: &Action, names: &Names) -> String {
    let port_word = |p: PortNo| {
        if p.0 < PortNo::UNSET.0 {
            format!("output:{}", names.port_text(p))
        } else {
            p.to_string()
        }
    };
    match a {
        Action::Output { port, max_len } if *port == PortNo::CONTROLLER => {
            format!("CONTROLLER:{max_len}")
        }
        Action::Output { port, .. } => port_word(*port),
        Action::OutputReg { source, .. } => format!("output:{}", subfield_text(*source)),
        Action::Controller {
            max_len,
            reason,
            id,
            userdata,
            pause,
            meter,
        } => {
            let mut parts = Vec::new();
            if *reason != PacketInReason::Action {
                parts.push(format!("reason={}", reason_name(*reason)));
            }
            if *max_len != u16::MAX {
                parts.push(format!("max_len={max_len}"));
            }
            if *id != 0 {
                parts.push(format!("id={id}"));
            }
            if !userdata.is_empty() {
                parts.push(format!("userdata={}", bytes_text(userdata)));
            }
            if *pause {
                parts.push("pause".into());
            }
            parts.extend(meter.map(|m| format!("meter_id={m}")));
            if *reason == PacketInReason::Action
                && *id == 0
                && userdata.is_empty()
                && !pause
                && meter.is_none()
            {
                return format!("CONTROLLER:{max_len}");
            }
            format!("controller({})", parts.join(","))
        }
        Action::Enqueue { port, queue } => format!("enqueue:{}:{queue}", names.port_text(*port)),
        Action::SetQueue(n) => format!("set_queue:{n}"),
        Action::Group(n) => format!("group:{n}"),
        Action::SetField { field, value, mask } => {
            let info = field.info();
            match field {
                FieldId::NwTtl if *mask == 0xff => format!("mod_nw_ttl:{value}"),
                FieldId::MplsTtl if *mask == 0xff => format!("set_mpls_ttl({value})"),
                _ if names.legacy && *mask == info.full_mask() && legacy_word(*field).is_some() => {
                    let word = legacy_word(*field).unwrap_or_default();
                    match field {
                        FieldId::IpDscp => format!("{word}:{}", value << 2),
                        FieldId::TunId if *value > u128::from(u32::MAX) => {
                            format!("set_tunnel64:{value:#x}")
                        }
                        FieldId::TunId => format!("{word}:{value:#x}"),
                        _ => format!("{word}:{}", value::format(info, *value, *mask, names)),
                    }
                }
                _ => format!(
                    "set_field:{}->{}",
                    value::format(info, *value, *mask, names),
                    info.name
                ),
            }
        }
        Action::Load { target, value } => {
            let value = super::matching::hex_text(*value, u64::MAX);
            format!("load:{value}->{}", subfield_text(*target))
        }
        Action::Move { source, target } => {
            format!(
                "move:{}->{}",
                subfield_text(*source),
                subfield_text(*target)
            )
        }
        Action::SetVlanVid(n) => format!("mod_vlan_vid:{n}"),
        Action::SetVlanPcp(n) => format!("mod_vlan_pcp:{n}"),
        Action::PushVlan(t) => format!("push_vlan:{t:#06x}"),
        Action::PushMpls(t) => format!("push_mpls:{t:#06x}"),
        Action::PopMpls(t) => format!("pop_mpls:{t:#06x}"),
        Action::DecTtl(ids) if ids.is_empty() || ids[..] == [0] => "dec_ttl".into(),
        Action::DecTtl(ids) => {
            let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
            format!("dec_ttl({})", ids.join(","))
        }
        Action::Resubmit {
            in_port: Some(p),
            table: None,
            ct: false,
        } => format!("resubmit:{}", names.port_text(*p)),
        Action::Resubmit { in_port, table, ct } => format!(
            "resubmit({},{}{})",
            in_port.map(|p| names.port_text(p)).unwrap_or_default(),
            table.map(|t| names.table_text(t)).unwrap_or_default(),
            if *ct { ",ct" } else { "" }
        ),
        Action::Note(b) => format!("note:{}", bytes_text(b)),
        // strip_vlan is what reads best, but pop_vlan is how it is printed.
        Action::PopVlan if names.legacy => "strip_vlan".into(),
        Action::PopVlan => "pop_vlan".into(),
        plain => PLAIN
            .iter()
            .find(|p| p.1 == *plain)
            .map_or_else(|| format!("{plain:?}"), |p| p.0.to_string()),
    }
}

/// Writes instructions as `dump-flows` does after `actions=`.
pub fn format_instructions(i: &Instructions, names: &Names) -> String {
    let mut parts = Vec::new();
    parts.extend(i.meter.map(|m| format!("meter:{m}")));
    if !i.apply.is_empty() {
        parts.push(format_actions(&i.apply, names));
    }
    if i.clear_actions {
        parts.push("clear_actions".into());
    }
    if !i.write.is_empty() {
        parts.push(format!(
            "write_actions({})",
            format_actions(&i.write, names)
        ));
    }
    if let Some((value, mask)) = i.metadata {
        let mut s = format!(
            "write_metadata:{}",
            super::matching::hex_text(value, u64::MAX)
        );
        if mask != u64::MAX {
            let _ = write!(s, "/{mask:#x}");
        }
        parts.push(s);
    }
    if let Some(t) = i.goto_table {
        parts.push(format!("goto_table:{}", names.table_text(t)));
    }
    if parts.is_empty() {
        parts.push("drop".into());
    }
    parts.join(",")
}
