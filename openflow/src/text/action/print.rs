//! Writing actions and instructions.

use super::output::REASONS;
use super::{Names, conntrack, encap, learn, spread};
use crate::action::{Action, Instructions, PacketInReason, Sample, SampleDirection, StatTrigger};
use crate::field::FieldId;
use crate::message::PortNo;
use crate::text::matching::hex_text;
use crate::text::subfield::subfield_text;
use crate::text::value;
use std::fmt::Write;

/// The name of a reason for a packet-in.
pub(in crate::text) fn reason_name(r: PacketInReason) -> &'static str {
    REASONS.iter().find(|x| x.1 == r).map_or("action", |x| x.0)
}

/// The action of OpenFlow 1.0 and 1.1 that writes a field, with its value.
fn old_word(field: FieldId, value: u128, version: u8) -> Option<String> {
    let info = field.info();
    let own = |word: &str| {
        let text = value::format(info, value, info.full_mask(), &Names::default());
        Some(format!("{word}:{text}"))
    };
    match field {
        FieldId::EthSrc => own("mod_dl_src"),
        FieldId::EthDst => own("mod_dl_dst"),
        FieldId::Ipv4Src => own("mod_nw_src"),
        FieldId::Ipv4Dst => own("mod_nw_dst"),
        FieldId::IpDscp => Some(format!("mod_nw_tos:{}", value << 2)),
        FieldId::IpEcn if version == 2 => own("mod_nw_ecn"),
        FieldId::TcpSrc | FieldId::UdpSrc | FieldId::SctpSrc => own("mod_tp_src"),
        FieldId::TcpDst | FieldId::UdpDst | FieldId::SctpDst => own("mod_tp_dst"),
        FieldId::MplsLabel => Some(format!("set_mpls_label({value})")),
        FieldId::MplsTc => Some(format!("set_mpls_tc({value})")),
        FieldId::VlanVid if version == 2 => Some(format!("set_vlan_vid:{}", value & 0xfff)),
        FieldId::VlanPcp if version == 2 => Some(format!("set_vlan_pcp:{value}")),
        _ => None,
    }
}

/// Writes actions, comma between; `drop` for none.
pub fn format_actions(actions: &[Action], names: &Names) -> String {
    if actions.is_empty() {
        return "drop".into();
    }
    let texts: Vec<String> = actions.iter().map(|a| one(a, names)).collect();
    texts.join(",")
}

fn bytes_text(b: &[u8]) -> String {
    let parts: Vec<String> = b.iter().map(|b| format!("{b:02x}")).collect();
    parts.join(".")
}

fn one(a: &Action, names: &Names) -> String {
    match a {
        Action::Output { port, max_len } if *port == PortNo::CONTROLLER => {
            format!("CONTROLLER:{max_len}")
        }
        Action::Output { port, .. } if port.0 < PortNo::UNSET.0 => {
            format!("output:{}", names.port_text(*port))
        }
        Action::Output { port, .. } => port.to_string(),
        Action::OutputReg { source, .. } => format!("output:{}", subfield_text(*source)),
        Action::OutputTrunc { port, max_len } => {
            format!("output(port={},max_len={max_len})", names.port_text(*port))
        }
        Action::Controller { .. } => controller(a),
        Action::Enqueue { port, queue } => format!("enqueue:{}:{queue}", names.port_text(*port)),
        Action::SetQueue(n) => format!("set_queue:{n}"),
        Action::PopQueue => "pop_queue".into(),
        Action::Group(n) => format!("group:{n}"),
        Action::Meter(n) => format!("meter:{n}"),
        Action::SetField { field, value, mask } => {
            let info = field.info();
            let full = *mask & info.exact_mask() == info.exact_mask();
            let mask = if full { info.full_mask() } else { *mask };
            let old = old_word(*field, *value, names.version)
                .filter(|_| full && matches!(names.version, 1 | 2));
            match field {
                _ if old.is_some() => old.unwrap_or_default(),
                FieldId::TunFlags => format!(
                    "set_field:{}->{}",
                    if value & 1 == 1 { "oam" } else { "0" },
                    info.name
                ),
                FieldId::NwTtl if full => format!("mod_nw_ttl:{value}"),
                FieldId::MplsTtl if full => format!("set_mpls_ttl({value})"),
                _ => format!(
                    "set_field:{}->{}",
                    value::format(info, *value, mask, names),
                    info.name
                ),
            }
        }
        Action::Load { target, value } => {
            let value = hex_text(*value, u64::MAX);
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
        Action::PopVlan if names.version == 1 => "strip_vlan".into(),
        Action::PopVlan => "pop_vlan".into(),
        Action::PushVlan(t) => format!("push_vlan:{t:#06x}"),
        Action::PushMpls(t) => format!("push_mpls:{t:#06x}"),
        Action::PopMpls(t) => format!("pop_mpls:{t:#06x}"),
        Action::PushPbb(t) => format!("push_pbb:{t:#06x}"),
        Action::PopPbb => "pop_pbb".into(),
        Action::SetTunnel { id, wide } => {
            let word = if *wide { "set_tunnel64" } else { "set_tunnel" };
            format!("{word}:{}", hex_text(*id, u64::MAX))
        }
        Action::DecTtl(ids) if ids.is_empty() => "dec_ttl".into(),
        Action::DecTtl(ids) => {
            let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
            format!("dec_ttl({})", ids.join(","))
        }
        Action::DecMplsTtl => "dec_mpls_ttl".into(),
        Action::DecNshTtl => "dec_nsh_ttl".into(),
        Action::CopyTtlOut => "copy_ttl_out".into(),
        Action::CopyTtlIn => "copy_ttl_in".into(),
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
        Action::Exit => "exit".into(),
        Action::Note(b) => format!("note:{}", bytes_text(b)),
        Action::Learn(l) => learn::text(l, names),
        Action::Multipath(m) => spread::multipath_text(m),
        Action::Bundle(s) => spread::bundle_text(s, names),
        Action::Push(s) => format!("push:{}", subfield_text(*s)),
        Action::Pop(s) => format!("pop:{}", subfield_text(*s)),
        Action::FinTimeout { idle, hard } => {
            let parts: Vec<String> = [("idle_timeout", idle), ("hard_timeout", hard)]
                .iter()
                .filter(|p| *p.1 != 0)
                .map(|(name, n)| format!("{name}={n}"))
                .collect();
            format!("fin_timeout({})", parts.join(","))
        }
        Action::Sample(s) => sample(s, names),
        Action::Conjunction {
            id,
            clause,
            clauses,
        } => format!("conjunction({id},{}/{clauses})", clause + 1),
        Action::Ct(c) => conntrack::text(c, names),
        Action::CtClear => "ct_clear".into(),
        Action::Nat(n) => conntrack::nat_text(n),
        Action::Clone(actions) => format!("clone({})", format_actions(actions, names)),
        Action::CheckPktLarger { len, target } => {
            format!("check_pkt_larger({len})->{}", subfield_text(*target))
        }
        Action::DeleteField(f) => format!("delete_field:{}", f.info().name),
        Action::Encap(e) => encap::text(e),
        Action::Decap(t) => encap::decap_text(*t),
    }
}

fn controller(a: &Action) -> String {
    let Action::Controller {
        max_len,
        reason,
        id,
        userdata,
        pause,
        meter,
    } = a
    else {
        return String::new();
    };
    let mut parts = Vec::new();
    if *reason != PacketInReason::Action {
        parts.push(format!("reason={}", reason_name(*reason)));
    }
    let plain = parts.is_empty() && *id == 0 && userdata.is_empty() && !pause && meter.is_none();
    if plain {
        return format!("CONTROLLER:{max_len}");
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
    format!("controller({})", parts.join(","))
}

fn sample(s: &Sample, names: &Names) -> String {
    let mut out = format!(
        "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
        s.probability, s.collector_set, s.obs_domain, s.obs_point
    );
    if let Some(p) = s.sampling_port {
        let _ = write!(out, ",sampling_port={}", names.port_text(p));
    }
    out.push_str(match s.direction {
        SampleDirection::Default => "",
        SampleDirection::Ingress => ",ingress",
        SampleDirection::Egress => ",egress",
    });
    out.push(')');
    out
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
    parts.extend(i.stat_trigger.as_deref().map(stat_trigger));
    if let Some((value, mask)) = i.metadata {
        let mut s = format!("write_metadata:{}", hex_text(value, u64::MAX));
        if mask != u64::MAX {
            let _ = write!(s, "/{}", hex_text(mask, u64::MAX));
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

fn stat_trigger(t: &StatTrigger) -> String {
    let mut parts = Vec::new();
    if t.periodic {
        parts.push("periodic".to_string());
    }
    if t.only_first {
        parts.push("only_first".into());
    }
    for (name, n) in [
        ("duration", u64::from(t.duration)),
        ("idle", t.idle.into()),
        ("packets", t.packets),
        ("bytes", t.bytes),
    ] {
        if n != 0 {
            parts.push(format!("{name}={n}"));
        }
    }
    format!("stat_trigger({})", parts.join(","))
}
