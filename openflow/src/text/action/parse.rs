//! Reading lists of actions and instructions.

use super::order::{Place, check};
use super::output::{hex_bytes, to_port};
use super::{Item, Names, Result, TextError, conntrack, encap, fail, learn, output, spread};
use crate::action::{Action, MAX_NESTING, Sample, SampleDirection, StatTrigger, loads};
use crate::field::FieldId;
use crate::message::PortNo;
use crate::text::matching::field;
use crate::text::subfield::{parse as subfield, parse_prefix};
use crate::text::{Pair, next_pair, number, parse_uint, value};
use bytes::Bytes;

/// Actions without arguments; what is given is passed over.
const PLAIN: &[(&str, Action)] = &[
    ("strip_vlan", Action::PopVlan),
    ("pop_vlan", Action::PopVlan),
    ("dec_mpls_ttl", Action::DecMplsTtl),
    ("dec_nsh_ttl", Action::DecNshTtl),
    ("copy_ttl_out", Action::CopyTtlOut),
    ("copy_ttl_in", Action::CopyTtlIn),
    ("pop_pbb", Action::PopPbb),
    ("pop_queue", Action::PopQueue),
    ("exit", Action::Exit),
    ("ct_clear", Action::CtClear),
];

/// Actions whose argument is a number that goes into a field: name, field, what messages call it.
const NUMBERS: &[(&str, FieldId, &str)] = &[
    ("mod_nw_ecn", FieldId::IpEcn, "ECN"),
    ("mod_nw_ttl", FieldId::NwTtl, "TTL"),
    ("set_nw_ttl", FieldId::NwTtl, "TTL"),
    ("mod_tp_src", FieldId::TcpSrc, "source port"),
    ("mod_tp_dst", FieldId::TcpDst, "destination port"),
    ("set_mpls_tc", FieldId::MplsTc, "MPLS TC"),
    ("set_mpls_ttl", FieldId::MplsTtl, "MPLS TTL"),
];

/// Reads a list that stands in `place`.
pub(super) fn list(s: &str, names: &Names, place: Place) -> Result<Vec<Item>> {
    nested(s, names, place, 0)
}

/// Reads actions that stand inside of `depth` others.
pub(super) fn actions(s: &str, names: &Names, place: Place, depth: usize) -> Result<Vec<Action>> {
    let items = nested(s, names, place, depth)?;
    let actions = items.into_iter().filter_map(|i| match i {
        Item::Action(a, _) => Some(a),
        Item::Meter(n) => Some(Action::Meter(n)),
        _ => None,
    });
    Ok(actions.collect())
}

fn nested(s: &str, names: &Names, place: Place, depth: usize) -> Result<Vec<Item>> {
    if depth >= MAX_NESTING {
        return fail("Action nested too deeply");
    }
    let parser = Parser { names, depth };
    let (mut items, mut dropped, mut rest) = (Vec::new(), false, s);
    while let Some(pair) = next_pair(&mut rest)? {
        let key = pair.key.to_ascii_lowercase();
        match key.as_str() {
            "drop" => dropped = true,
            "apply_actions" => return fail("apply_actions is the default instruction"),
            "load" => items.extend(
                load(pair.value)?
                    .into_iter()
                    .map(|a| Item::Action(a, false)),
            ),
            _ => items.push(parser.item(&key, pair)?),
        }
    }
    if dropped && !items.is_empty() {
        return fail("\"drop\" must not be accompanied by any other action or instruction");
    }
    check(&items, place)?;
    Ok(items)
}

/// A number as C's `atoi` reads it: what is none is zero.
pub(super) fn atoi(s: &str) -> i64 {
    let s = s.trim_start();
    let end = s
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *i == 0 && matches!(c, '-' | '+')))
        .map_or(s.len(), |(i, _)| i);
    s[..end].parse().unwrap_or(0)
}

/// A number of 16 bits, called `what` in messages.
pub(super) fn u16_arg(s: &str, what: &str) -> Result<u16> {
    number(s, what)
}

/// A number of 32 or 64 bits.
pub(super) fn wide<T: TryFrom<u128>>(s: &str) -> Result<T> {
    if s.is_empty() {
        return fail("missing required numeric argument");
    }
    parse_uint(s)
        .and_then(|n| T::try_from(n).ok())
        .ok_or_else(|| TextError(format!("invalid numeric format {s}")))
}

/// Value and target of a load, a set_field and the like.
pub(super) fn load_parts(s: &str) -> Option<(&str, &str)> {
    s.split_once("->")
}

fn arrow(s: &str) -> Result<(&str, &str)> {
    match load_parts(s) {
        None => fail(format!("{s}: missing `->'")),
        Some((_, "")) => fail(format!("{s}: missing field name following `->'")),
        Some(parts) => Ok(parts),
    }
}

struct Parser<'a> {
    names: &'a Names,
    depth: usize,
}

impl Parser<'_> {
    /// One item: `key` is the pair's in small letters.
    fn item(&self, key: &str, pair: Pair<'_>) -> Result<Item> {
        let v = pair.value;
        Ok(match key {
            "meter" => Item::Meter(wide(v)?),
            "clear_actions" => Item::ClearActions,
            "write_actions" => Item::WriteActions(actions(
                v,
                self.names,
                Place::Inside("write_actions"),
                self.depth + 1,
            )?),
            "write_metadata" => {
                let (value, mask) = v.split_once('/').map_or((v, None), |(v, m)| (v, Some(m)));
                let mask = mask.map_or(Ok(u64::MAX), wide)?;
                Item::WriteMetadata(wide(value)?, mask)
            }
            "goto_table" => match self.names.table(v) {
                Some(t) => Item::GotoTable(t),
                None => return fail(format!("unknown table \"{v}\"")),
            },
            "stat_trigger" => Item::StatTrigger(Box::new(stat_trigger(v)?)),
            "set_field" => Item::Action(self.set_field(v)?, true),
            _ => match self.action(key, v)? {
                Some(a) => Item::Action(a, false),
                // A port by itself is an output to it.
                None => match self.names.port(pair.key) {
                    Some(port) => Item::Action(to_port(port), false),
                    None => return fail(format!("unknown action {}", pair.key)),
                },
            },
        })
    }

    /// An action by its word; none if there is no such word.
    fn action(&self, key: &str, v: &str) -> Result<Option<Action>> {
        if let Some((_, a)) = PLAIN.iter().find(|p| p.0 == key) {
            return Ok(Some(a.clone()));
        }
        if let Some((_, field, what)) = NUMBERS.iter().find(|p| p.0 == key) {
            return number_field(key, *field, what, v).map(Some);
        }
        Ok(Some(match key {
            "output" | "output_reg" => output::output(v, self.names)?,
            "output_trunc" => return fail(format!("unknown action {v}")),
            "controller" => output::controller(v)?,
            "enqueue" => output::enqueue(v, self.names)?,
            "set_queue" => Action::SetQueue(wide(v)?),
            "group" => Action::Group(wide(v)?),
            "bundle" | "bundle_load" => spread::parse_bundle(v, key == "bundle_load", self.names)?,
            "multipath" => Action::Multipath(Box::new(spread::parse_multipath(v)?)),
            "mod_vlan_vid" | "set_vlan_vid" => match number::<u16>(v, "VLAN VID")? {
                vid @ 0..=0xfff if key == "mod_vlan_vid" => Action::SetVlanVid(vid),
                vid @ 0..=0xfff => set(FieldId::VlanVid, u128::from(vid) | 0x1000),
                _ => return fail(format!("{v}: not a valid VLAN VID")),
            },
            "mod_vlan_pcp" | "set_vlan_pcp" => match number::<u8>(v, "VLAN PCP")? {
                pcp @ 0..=7 if key == "mod_vlan_pcp" => Action::SetVlanPcp(pcp),
                pcp @ 0..=7 => set(FieldId::VlanPcp, pcp.into()),
                _ => return fail(format!("{v}: not a valid VLAN PCP")),
            },
            "mod_dl_src" | "mod_dl_dst" => {
                let field = match key {
                    "mod_dl_src" => FieldId::EthSrc,
                    _ => FieldId::EthDst,
                };
                match v.parse::<crate::message::MacAddr>() {
                    Ok(mac) => set(field, mac.to_u64().into()),
                    Err(_) => return fail(format!("invalid mac address {v}")),
                }
            }
            "mod_nw_src" | "mod_nw_dst" => {
                let field = match key {
                    "mod_nw_src" => FieldId::Ipv4Src,
                    _ => FieldId::Ipv4Dst,
                };
                match v.parse::<std::net::Ipv4Addr>() {
                    Ok(a) => set(field, u32::from(a).into()),
                    Err(_) => return fail(format!("{v}: could not convert to IP address")),
                }
            }
            "mod_nw_tos" => match number::<u8>(v, "TOS")? {
                tos if tos & 3 == 0 => set(FieldId::IpDscp, u128::from(tos >> 2)),
                _ => return fail(format!("{v}: not a valid TOS")),
            },
            "set_mpls_label" if v.is_empty() => return fail("set_mpls_label: expected label."),
            "set_mpls_label" => match wide::<u32>(v)? {
                label @ 0..=0xf_ffff => set(FieldId::MplsLabel, label.into()),
                _ => return fail(format!("{v}: not a valid MPLS label")),
            },
            "set_tunnel" | "set_tunnel64" => {
                let id: u64 = wide(v)?;
                let wide = key == "set_tunnel64" || id > u32::MAX.into();
                Action::SetTunnel { id, wide }
            }
            "push_vlan" => match number::<u16>(v, "ethertype")? {
                t @ (0x8100 | 0x88a8) => Action::PushVlan(t),
                _ => return fail(format!("{v}: not a valid VLAN ethertype")),
            },
            // Which types there are, Open vSwitch's tools leave to the switch.
            "push_mpls" => Action::PushMpls(number(v, "push_mpls")?),
            "pop_mpls" => Action::PopMpls(number(v, "pop_mpls")?),
            "push_pbb" => match number::<u16>(v, "ethertype")? {
                0x88e7 => Action::PushPbb(0x88e7),
                _ => return fail(format!("{v}: not a valid PBB ethertype")),
            },
            "dec_ttl" if v.is_empty() => Action::DecTtl(Vec::new()),
            "dec_ttl" => {
                let ids = v.split([',', ' ']).filter(|s| !s.is_empty());
                let ids: Vec<u16> = ids.map(|s| atoi(s) as u16).collect();
                if ids.is_empty() {
                    return fail("dec_ttl_cnt_ids: expected at least one controller id.");
                }
                Action::DecTtl(ids)
            }
            "resubmit" => output::resubmit(v, self.names)?,
            "note" => Action::Note(note(v)?),
            "move" => {
                let (source, rest) = parse_prefix(v)?;
                let Some(to) = rest.strip_prefix("->") else {
                    return fail(format!("{v}: missing `->' following source"));
                };
                let target = subfield(to)?;
                if source.bits != target.bits {
                    return fail(format!(
                        "{v}: source field is {} bits wide but destination is {} bits wide",
                        source.bits, target.bits
                    ));
                }
                Action::Move { source, target }
            }
            "push" | "pop" => {
                let (s, rest) = parse_prefix(v)?;
                if !rest.is_empty() {
                    return fail(format!("{rest}: trailing garbage following push or pop"));
                }
                if key == "push" {
                    Action::Push(s)
                } else {
                    Action::Pop(s)
                }
            }
            "fin_timeout" => fin_timeout(v)?,
            "learn" => Action::Learn(Box::new(learn::parse(v, self.names)?)),
            "conjunction" => conjunction(v)?,
            "sample" => self.sample(v)?,
            "ct" => Action::Ct(Box::new(conntrack::parse(v, self.names, self.depth)?)),
            "nat" => Action::Nat(Box::new(conntrack::parse_nat(v)?)),
            "clone" => Action::Clone(actions(
                v,
                self.names,
                Place::Inside("clone"),
                self.depth + 1,
            )?),
            "check_pkt_larger" => {
                let (len, to) = arrow(v)?;
                let target = subfield(to)?;
                if target.bits != 1 {
                    return fail("Only 1-bit destination field is allowed");
                }
                let len = number(len.strip_suffix(')').unwrap_or(len), "(null)")?;
                Action::CheckPktLarger { len, target }
            }
            "delete_field" => match field(v) {
                Some(f) => Action::DeleteField(f),
                None => return fail(format!("unknown field `{v}'")),
            },
            "encap" => Action::Encap(Box::new(encap::parse(v)?)),
            "decap" => Action::Decap(encap::parse_decap(v)?),
            "unroll_xlate" => {
                return fail("UNROLL is an internal action that shouldn't be used via OpenFlow");
            }
            _ => return Ok(None),
        }))
    }

    fn set_field(&self, v: &str) -> Result<Action> {
        let (text, name) = arrow(v)?;
        // Of the tag's parts, OpenFlow 1.0's names are of the packet alone.
        let Some(field) = FieldId::from_name(name) else {
            return fail(format!("{name} is not a valid OXM field name"));
        };
        let info = field.info();
        if !info.writable {
            return fail(format!("{name} is read-only"));
        }
        let unfit = || TextError(format!("{text} is not a valid value for field {name}"));
        if let Some(n) = parse_uint(text)
            && n & !info.full_mask() != 0
            && n >> (info.bytes() * 8).min(127) == 0
        {
            return Err(unfit());
        }
        let (value, mask) = value::parse(info, text, self.names)?;
        if field == FieldId::NwTos && value & 3 != 0 {
            return Err(unfit());
        }
        // Of a whole TOS byte, the DSCP.
        let mask = match field {
            FieldId::NwTos => mask & info.exact_mask(),
            _ => mask,
        };
        if mask == 0 {
            return fail(format!("{v}: a mask of zero would write nothing"));
        }
        Ok(Action::SetField { field, value, mask })
    }

    fn sample(&self, v: &str) -> Result<Action> {
        let mut s = Sample {
            probability: 0,
            collector_set: 0,
            obs_domain: 0,
            obs_point: 0,
            sampling_port: None,
            direction: SampleDirection::Default,
        };
        let mut rest = v;
        while let Some(p) = next_pair(&mut rest)? {
            let v = p.value;
            match p.key {
                "probability" => {
                    s.probability = number(v, "probability")?;
                    if s.probability == 0 {
                        return fail(format!("invalid probability value \"{v}\""));
                    }
                }
                "collector_set_id" => s.collector_set = wide(v)?,
                "obs_domain_id" => s.obs_domain = wide(v)?,
                "obs_point_id" => s.obs_point = wide(v)?,
                "sampling_port" => match self.names.port(v) {
                    Some(p) => s.sampling_port = Some(p).filter(|p| *p != PortNo::ANY),
                    None => return fail(format!("{v}: unknown port")),
                },
                "ingress" => s.direction = SampleDirection::Ingress,
                "egress" => s.direction = SampleDirection::Egress,
                k => return fail(format!("invalid key \"{k}\" in \"sample\" argument")),
            }
        }
        if s.probability == 0 {
            return fail("non-zero \"probability\" must be specified on sample");
        }
        Ok(Action::Sample(s))
    }
}

fn set(field: FieldId, value: u128) -> Action {
    let mask = field.info().full_mask();
    Action::SetField { field, value, mask }
}

fn number_field(key: &str, field: FieldId, what: &str, v: &str) -> Result<Action> {
    if v.is_empty() && key.starts_with("set_mpls") {
        let last = if field == FieldId::MplsTc {
            "tc"
        } else {
            "ttl"
        };
        return fail(format!("{key}: expected {last}."));
    }
    let n: u128 = if field.info().bits <= 8 {
        number::<u8>(v, what)?.into()
    } else {
        number::<u16>(v, what)?.into()
    };
    if n > field.info().full_mask() {
        return fail(format!("{v}: not a valid {what}"));
    }
    Ok(set(field, n))
}

fn fin_timeout(v: &str) -> Result<Action> {
    let (mut idle, mut hard, mut rest) = (0, 0, v);
    while let Some(p) = next_pair(&mut rest)? {
        match p.key {
            "idle_timeout" => idle = number(p.value, p.key)?,
            "hard_timeout" => hard = number(p.value, p.key)?,
            k => return fail(format!("invalid key '{k}' in 'fin_timeout' argument")),
        }
    }
    Ok(Action::FinTimeout { idle, hard })
}

fn conjunction(v: &str) -> Result<Action> {
    let parts = || {
        let (id, of) = v.split_once(',')?;
        let (clause, clauses) = of.split_once('/')?;
        let small = |s: &str| s.trim().parse::<u8>().ok();
        let id = u32::try_from(parse_uint(id.trim())?).ok()?;
        Some((id, small(clause)?, small(clauses)?))
    };
    match parts() {
        None => fail("\"conjunction\" syntax is \"conjunction(id,i/n)\""),
        Some((_, _, 0..2)) => fail("conjunction must have at least 2 clauses"),
        Some((_, _, 65..)) => fail("conjunction must have at most 64 clauses"),
        Some((_, 0, _)) => fail("clause index must be positive"),
        Some((_, i, n)) if i > n => {
            fail("clause index must be less than or equal to number of clauses")
        }
        Some((id, i, clauses)) => Ok(Action::Conjunction {
            id,
            clause: i - 1,
            clauses,
        }),
    }
}

/// A load of a number into a run of bits, by pieces that one load can write.
fn load(v: &str) -> Result<Vec<Action>> {
    let (text, to) = arrow(v)?;
    let target = subfield(to)?;
    let Some(n) = parse_uint(text) else {
        return fail(format!("{v}: cannot parse integer value"));
    };
    if target.bits < 128 && n >> target.bits != 0 {
        return fail(format!(
            "{v}: value {n:#x} does not fit into {} bits",
            target.bits
        ));
    }
    if !target.field.info().writable {
        return fail(format!("{} is read-only", target.field.info().name));
    }
    if let (0..=64, Ok(value)) = (target.bits, u64::try_from(n)) {
        return Ok(vec![Action::Load { target, value }]);
    }
    let mask = u128::MAX >> (128 - u32::from(target.bits)) << target.offset;
    Ok(loads(target.field, n << target.offset, mask))
}

/// `stat_trigger(periodic,only_first,duration=N,idle=N,packets=N,bytes=N)`.
fn stat_trigger(v: &str) -> Result<StatTrigger> {
    let (mut t, mut rest) = (StatTrigger::default(), v);
    while let Some(p) = next_pair(&mut rest)? {
        match p.key {
            "periodic" => t.periodic = true,
            "only_first" => t.only_first = true,
            "duration" => t.duration = wide(p.value)?,
            "idle" => t.idle = wide(p.value)?,
            "packets" => t.packets = wide(p.value)?,
            "bytes" => t.bytes = wide(p.value)?,
            k => return fail(format!("invalid key \"{k}\" in \"stat_trigger\" argument")),
        }
    }
    Ok(t)
}

/// A note's bytes, filled up as they will be on the wire.
fn note(s: &str) -> Result<Bytes> {
    let mut bytes =
        hex_bytes(s).ok_or_else(|| TextError("bad hex digit in `note' argument".into()))?;
    bytes.resize((bytes.len().max(6) + 10).next_multiple_of(8) - 10, 0);
    Ok(Bytes::from(bytes))
}
