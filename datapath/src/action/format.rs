//! Actions as text.

use super::{DpAction, Reshape};
use crate::tunnel::format as tunnel;
use openflow::{MacAddr, Slot};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Actions as text, in the form of `ovs-dpctl dump-flows`. `port` names a port.
pub(crate) fn format(actions: &[DpAction], port: impl Fn(u32) -> String) -> String {
    list(actions, &port)
}

fn list(actions: &[DpAction], port: &dyn Fn(u32) -> String) -> String {
    let mut shown = actions
        .iter()
        .filter(|a| !matches!(a, DpAction::AskNeighbour(_) | DpAction::Drop(_)))
        .peekable();
    if shown.peek().is_none() {
        return "drop".into();
    }
    let mut s = String::new();
    for a in shown {
        if !s.is_empty() {
            s.push(',');
        }
        let _ = match a {
            DpAction::Drop(_) => Ok(()),
            DpAction::Output(p) => write!(s, "{}", port(*p)),
            DpAction::PushVlan { tpid: 0, tci } | DpAction::PushVlan { tpid: 0x8100, tci } => {
                write!(s, "push_vlan(vid={},pcp={})", tci & 0xfff, tci >> 13)
            }
            DpAction::PushVlan { tpid, tci } => {
                write!(
                    s,
                    "push_vlan(tpid={tpid:#x},vid={},pcp={})",
                    tci & 0xfff,
                    tci >> 13
                )
            }
            DpAction::PopVlan => write!(s, "pop_vlan"),
            DpAction::SetVlan(tci) => {
                write!(s, "set(vlan(vid={},pcp={}))", tci & 0xfff, tci >> 13)
            }
            DpAction::Set { slot, value, mask } => {
                let full = *mask == crate::flow::slot_bits(*slot);
                let (group, name) = names(*slot);
                let v = show(*slot, *value);
                if full {
                    write!(s, "set({group}({name}={v}))")
                } else {
                    write!(s, "set({group}({name}={v}/{}))", show(*slot, *mask))
                }
            }
            DpAction::PushMpls { eth_type, entry } => write!(
                s,
                "push_mpls(label={},tc={},ttl={},bos={},eth_type={eth_type:#x})",
                entry >> 12,
                entry >> 9 & 7,
                entry & 0xff,
                entry >> 8 & 1
            ),
            DpAction::PopMpls(eth_type) => write!(s, "pop_mpls(eth_type={eth_type:#x})"),
            DpAction::Truncated { port: p, max_len } => {
                write!(s, "trunc({max_len}),{}", port(*p))
            }
            DpAction::TunnelPush(push) => {
                let header = tunnel::header(&push.encap);
                let nested = list(&push.actions, port);
                if push.encap.ip_offset() == 0 {
                    write!(s, "set({header}),{nested}")
                } else {
                    let number =
                        tunnel::system_port_number(push.encap.kind(), push.encap.udp_port());
                    let out = port(push.out);
                    write!(
                        s,
                        "clone(tnl_push(tnl_port({number}),{header},out_port({out})),{nested})"
                    )
                }
            }
            DpAction::TunnelPop { kind, port } => {
                write!(s, "tnl_pop({})", tunnel::system_port_number(*kind, *port))
            }
            // A packet of its own, which Open vSwitch sends when it translates.
            DpAction::AskNeighbour(_) => Ok(()),
            DpAction::Recirculate(frozen) => match &frozen.reshape {
                Reshape::PopMpls(eth_type) => {
                    write!(s, "pop_mpls(eth_type={eth_type:#x}),recirc")
                }
                Reshape::Nothing => write!(s, "recirc"),
                Reshape::CopyTtlOut => write!(s, "copy_ttl_out,recirc"),
                Reshape::CopyTtlIn => write!(s, "copy_ttl_in,recirc"),
                Reshape::PushPbb => write!(s, "push_pbb,recirc"),
                Reshape::PopPbb => write!(s, "pop_pbb,recirc"),
                Reshape::PushNsh { next_protocol, .. } => {
                    write!(s, "push_nsh(np={next_protocol}),recirc")
                }
                Reshape::PopNsh => write!(s, "pop_nsh(),recirc"),
                Reshape::ClearEthernet => write!(s, "set(eth(src=0,dst=0)),recirc"),
            },
            DpAction::Meter { meter, .. } => write!(s, "meter({})", meter.config.meter),
            DpAction::Limit { limit, .. } => write!(s, "limit({})", limit.kind.reason().name()),
            DpAction::Queue(queue) => write!(s, "set(skb_priority({queue:#x}))"),
            DpAction::PacketIn(spec) => write!(
                s,
                "userspace(controller(reason={},max_len={},id={},rule_cookie={:#x}))",
                spec.reason as u8, spec.max_len, spec.controller_id, spec.cookie
            ),
        };
    }
    s
}

fn names(slot: Slot) -> (&'static str, &'static str) {
    match slot {
        Slot::EthSrc => ("eth", "src"),
        Slot::EthDst => ("eth", "dst"),
        Slot::NwSrc => ("ipv4", "src"),
        Slot::NwDst => ("ipv4", "dst"),
        Slot::NwTos => ("ip", "tos"),
        Slot::NwTtl => ("ip", "ttl"),
        Slot::NwProto => ("arp", "op"),
        Slot::TpSrc => ("tp", "src"),
        Slot::TpDst => ("tp", "dst"),
        Slot::Ipv6Src => ("ipv6", "src"),
        Slot::Ipv6Dst => ("ipv6", "dst"),
        Slot::Ipv6Label => ("ipv6", "label"),
        Slot::ArpSha => ("arp", "sha"),
        Slot::ArpTha => ("arp", "tha"),
        Slot::NdTarget => ("nd", "target"),
        Slot::Mpls => ("mpls", "lse"),
        _ => ("key", "bits"),
    }
}

fn show(slot: Slot, v: u128) -> String {
    match slot {
        Slot::EthSrc | Slot::EthDst | Slot::ArpSha | Slot::ArpTha => {
            MacAddr::from_u64(v as u64).to_string()
        }
        Slot::NwSrc | Slot::NwDst => Ipv4Addr::from(v as u32).to_string(),
        Slot::Ipv6Src | Slot::Ipv6Dst | Slot::NdTarget => Ipv6Addr::from(v).to_string(),
        Slot::NwTos | Slot::Ipv6Label | Slot::Mpls => format!("{v:#x}"),
        _ => v.to_string(),
    }
}
