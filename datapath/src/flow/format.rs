//! Keys under masks as text, in the form of `ovs-dpctl dump-flows`.

use super::{FlowKey, FlowMask};
use openflow::{MacAddr, Slot};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What of `key` is under `mask`, e.g.
/// `in_port(1),eth(src=..,dst=..),eth_type(0x0800),ipv4(frag=no)`. The port is the caller's to name.
pub fn format_key(key: &FlowKey, mask: &FlowMask, in_port: &str) -> String {
    let mut s = format!("recirc_id(0),in_port({in_port})");
    let f = Fields { key, mask };
    let mac = |v: u128| MacAddr::from_u64(v as u64).to_string();
    f.group(
        &mut s,
        "eth",
        &[("src", Slot::EthSrc, &mac), ("dst", Slot::EthDst, &mac)],
    );
    let (vlan, vlan_mask) = f.of(Slot::VlanTci);
    if vlan_mask != 0 && vlan & 0x1000 != 0 {
        s.push_str(",vlan(");
        f.tci(&mut s, vlan, vlan_mask);
        s.push(')');
        let (inner, inner_mask) = f.of(Slot::InnerVlanTci);
        if inner_mask != 0 && inner & 0x1000 != 0 {
            s.push_str(",encap(vlan(");
            f.tci(&mut s, inner, inner_mask);
            s.push_str("))");
        }
    }
    let (eth_type, type_mask) = f.of(Slot::EthType);
    if type_mask != 0 && eth_type != 0x05ff {
        let _ = write!(s, ",eth_type(0x{eth_type:04x})");
    }
    let ip4 = |v: u128| Ipv4Addr::from(v as u32).to_string();
    let ip6 = |v: u128| Ipv6Addr::from(v).to_string();
    let dec = |v: u128| v.to_string();
    let hex = |v: u128| format!("{v:#x}");
    let frag = |v: u128| match v {
        0 => "no".into(),
        1 => "first".into(),
        _ => String::from("later"),
    };
    match eth_type {
        0x0800 => f.group(
            &mut s,
            "ipv4",
            &[
                ("src", Slot::NwSrc, &ip4),
                ("dst", Slot::NwDst, &ip4),
                ("proto", Slot::NwProto, &dec),
                ("tos", Slot::NwTos, &hex),
                ("ttl", Slot::NwTtl, &dec),
                ("frag", Slot::NwFrag, &frag),
            ],
        ),
        0x86dd => f.group(
            &mut s,
            "ipv6",
            &[
                ("src", Slot::Ipv6Src, &ip6),
                ("dst", Slot::Ipv6Dst, &ip6),
                ("label", Slot::Ipv6Label, &hex),
                ("proto", Slot::NwProto, &dec),
                ("tclass", Slot::NwTos, &hex),
                ("hlimit", Slot::NwTtl, &dec),
                ("frag", Slot::NwFrag, &frag),
            ],
        ),
        0x0806 | 0x8035 => f.group(
            &mut s,
            "arp",
            &[
                ("sip", Slot::NwSrc, &ip4),
                ("tip", Slot::NwDst, &ip4),
                ("op", Slot::NwProto, &dec),
                ("sha", Slot::ArpSha, &mac),
                ("tha", Slot::ArpTha, &mac),
            ],
        ),
        0x8847 | 0x8848 => f.group(&mut s, "mpls", &[("lse", Slot::Mpls, &hex)]),
        _ => {}
    }
    if matches!(eth_type, 0x0800 | 0x86dd) {
        let ports: [Row; 2] = [("src", Slot::TpSrc, &dec), ("dst", Slot::TpDst, &dec)];
        let icmp: [Row; 2] = [("type", Slot::TpSrc, &dec), ("code", Slot::TpDst, &dec)];
        match f.of(Slot::NwProto).0 {
            6 => {
                f.group(&mut s, "tcp", &ports);
                let (v, m) = f.of(Slot::TcpFlags);
                if m != 0 {
                    let _ = write!(s, ",tcp_flags({v:#x}/{m:#x})");
                }
            }
            17 => f.group(&mut s, "udp", &ports),
            132 => f.group(&mut s, "sctp", &ports),
            1 => f.group(&mut s, "icmp", &icmp),
            58 => f.group(&mut s, "icmpv6", &icmp),
            _ => {}
        }
        f.group(&mut s, "nd", &[("target", Slot::NdTarget, &ip6)]);
    }
    s
}

/// TCP flags by letter, as `ovs-dpctl` prints those seen.
pub fn tcp_flags_text(flags: u16) -> String {
    const LETTERS: &str = "FSRP.UECN";
    LETTERS
        .chars()
        .enumerate()
        .filter(|(i, _)| flags & 1 << i != 0)
        .map(|(_, c)| c)
        .collect()
}

struct Fields<'a> {
    key: &'a FlowKey,
    mask: &'a FlowMask,
}

type Row<'a> = (&'a str, Slot, &'a dyn Fn(u128) -> String);

impl Fields<'_> {
    fn of(&self, slot: Slot) -> (u128, u128) {
        let mask = self.mask.get(slot);
        (self.key.get(slot) & mask, mask)
    }

    fn group(&self, s: &mut String, name: &str, rows: &[Row]) {
        let mut open = false;
        for (label, slot, show) in rows {
            let (value, mask) = self.of(*slot);
            if mask == 0 {
                continue;
            }
            if open {
                s.push(',');
            } else {
                let _ = write!(s, ",{name}(");
                open = true;
            }
            let _ = write!(s, "{label}={}", show(value));
            if mask != super::slot_bits(*slot) && *slot != Slot::NwFrag {
                let _ = write!(
                    s,
                    "/{}",
                    if *slot == Slot::NwProto || slot.bits() == 16 {
                        format!("{mask:#x}")
                    } else {
                        show(mask)
                    }
                );
            }
        }
        if open {
            s.push(')');
        }
    }

    fn tci(&self, s: &mut String, tci: u128, mask: u128) {
        let mut parts = Vec::new();
        if mask & 0xfff != 0 {
            parts.push(match mask & 0xfff {
                0xfff => format!("vid={}", tci & 0xfff),
                m => format!("vid={}/{m:#x}", tci & 0xfff),
            });
        }
        if mask & 0xe000 != 0 {
            parts.push(format!("pcp={}", tci >> 13));
        }
        s.push_str(&parts.join(","));
    }
}
