//! One packet's fields in text, as `ofproto/trace` takes and shows them: every field has one value, none a mask.

use super::matching::{PROTOCOLS, field, format_match, narrow_icmp, parse_pair};
use super::value::format;
use super::{Names, Result, fail, next_pair};
use crate::field::{FIELDS, FieldId, FieldInfo, Prereq, Slot};
use crate::matching::{Match, MatchEntry};

/// Reads a packet's fields: `in_port=1,tcp,nw_src=10.0.0.1,tp_dst=80`. What is not said is zero. Prerequisites come first.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_exact_flow(s: &str, names: &Names) -> Result<Match> {
    let mut m = Match::new();
    let mut rest = s;
    while let Some(p) = next_pair(&mut rest)? {
        let key = p.key;
        if let Some((_, _, proto)) = PROTOCOLS.iter().find(|p| p.0 == key) {
            if m.slot(Slot::EthType).1 != 0 {
                return fail(format!("{s}: Ethernet type set multiple times"));
            }
            if proto.is_some() && m.slot(Slot::NwProto).1 != 0 {
                return fail(format!("{s}: network protocol set multiple times"));
            }
            parse_pair(&mut m, key, p.value, names)?;
            continue;
        }
        // OpenFlow 1.0's names of the tag's parts ask for nothing.
        let (id, free) = match key {
            "dl_vlan" => (FieldId::VlanVid, true),
            "dl_vlan_pcp" => (FieldId::VlanPcp, true),
            key => match field(key) {
                Some(id) => (id, false),
                None => return fail(format!("{s}: unknown field {key}")),
            },
        };
        let late = m.slot(Slot::NwFrag).0 & 2 != 0;
        let ported = matches!(id.info().slot, Slot::TpSrc | Slot::TpDst | Slot::TcpFlags);
        if !free && !m.meets(id.info().prereq) || ported && late {
            return fail(format!("{s}: prerequisites not met for setting {key}"));
        }
        if !free && m.get(id).0 != 0 {
            return fail(format!("{s}: field {key} set multiple times"));
        }
        let bad = |why: &str| fail(format!("{s}: bad value for {key} ({why})"));
        if p.value.contains('/') {
            return bad(&format!("{}: wildcards not allowed here", p.value));
        }
        match parse_pair(&mut m, key, p.value, names) {
            Ok(true) => {}
            Ok(false) => return fail(format!("{s}: unknown field {key}")),
            Err(e) => return bad(&e.0),
        }
    }
    narrow_icmp(&mut m);
    Ok(m)
}

/// What a packet's bytes do not tell, apart from registers and long addresses.
const METADATA: &[Slot] = &[
    Slot::PktMark,
    Slot::TunId,
    Slot::TunSrc,
    Slot::TunDst,
    Slot::TunFlags,
    Slot::TunGbpId,
    Slot::TunGbpFlags,
    Slot::Metadata,
];

/// Writes a packet's fields: all that a packet of its kind has, and of registers and the like those that are not zero. Of
/// `flow` only the values count.
pub fn format_exact_flow(flow: &Match, names: &Names) -> String {
    let value = |slot| flow.slot(slot).0;
    let mut m = Match::new();
    let mut show = |slot: Slot| {
        m.set_slot(
            slot,
            value(slot),
            u128::MAX >> (128 - slot.bits()),
            u128::MAX,
        )
    };
    for &slot in METADATA {
        if value(slot) != 0 {
            show(slot);
        }
    }
    [
        Slot::InPort,
        Slot::EthSrc,
        Slot::EthDst,
        Slot::EthType,
        Slot::VlanTci,
    ]
    .into_iter()
    .for_each(&mut show);
    let eth = value(Slot::EthType);
    let proto = value(Slot::NwProto);
    let (v4, v6) = (eth == 0x0800, eth == 0x86dd);
    let whole = value(Slot::NwFrag) & 2 == 0;
    if v4 || matches!(eth, 0x0806 | 0x8035) {
        [Slot::NwSrc, Slot::NwDst, Slot::NwProto]
            .into_iter()
            .for_each(&mut show);
    }
    if v6 {
        [Slot::Ipv6Src, Slot::Ipv6Dst, Slot::Ipv6Label, Slot::NwProto]
            .into_iter()
            .for_each(&mut show);
    }
    if v4 || v6 {
        show(Slot::NwTos);
        show(Slot::NwTtl);
        if whole && matches!((v6, proto), (_, 6 | 17 | 132) | (false, 1) | (true, 58)) {
            show(Slot::TpSrc);
            show(Slot::TpDst);
        }
    } else if matches!(eth, 0x0806 | 0x8035) {
        show(Slot::ArpSha);
        show(Slot::ArpTha);
    } else if matches!(eth, 0x8847 | 0x8848) {
        show(Slot::Mpls);
    }
    if v6 && whole && proto == 58 && matches!(value(Slot::TpSrc), 135 | 136) {
        show(Slot::NdTarget);
        show(Slot::ArpSha);
        show(Slot::ArpTha);
    }
    for info in FIELDS {
        let shown = match info.id {
            // Registers share a slot, and each is shown by itself.
            id if (FieldId::Reg0..=FieldId::Reg15).contains(&id) => flow.get(id).0 != 0,
            FieldId::TunIpv6Src | FieldId::TunIpv6Dst => flow.get(info.id).0 != 0,
            FieldId::IpFrag => v4 || v6,
            FieldId::TcpFlags => (v4 || v6) && proto == 6 && whole,
            _ => false,
        };
        if shown {
            m.set(info.id, flow.get(info.id).0);
        }
    }
    narrow_icmp(&mut m);
    let mut text = format_match(&m, None, names);
    if value(Slot::VlanTci) & 0x1000 != 0
        && let Some(at) = text.find(",dl_src=")
    {
        let inner = value(Slot::InnerVlanTci);
        let inner = match inner & 0x1000 {
            0 => format!(",vlan_tci1={inner:#06x}"),
            _ => format!(",dl_vlan1={},dl_vlan_pcp1={}", inner & 0xfff, inner >> 13),
        };
        text.insert_str(at, &inner);
    }
    text
}

/// Writes which packets are done the same to, as `ofproto/trace` does: all in it are Ethernet, and were not here before.
pub fn format_megaflow(m: &Match, names: &Names) -> String {
    let mut m = m.clone();
    narrow_icmp(&mut m);
    let text = format_match(&m, None, names);
    let (mark, rest) = match text.split_once(',') {
        Some((mark, rest)) if mark.starts_with("pkt_mark=") => (mark, rest),
        _ => ("", &*text),
    };
    [mark, "recirc_id=0,eth", rest]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

/// The field that an entry of a match speaks of, the value that it wants, and the one that a packet has, as `has`.
pub fn format_difference(
    matching: &Match,
    wanted: &MatchEntry,
    has: u128,
    names: &Names,
) -> (&'static str, String, String) {
    let differs = (wanted.value ^ has) & wanted.mask;
    let bits = |f: &FieldInfo| f.full_mask() << f.shift;
    let of_slot = || {
        FIELDS
            .iter()
            .filter(|f| f.slot == wanted.slot && bits(f) & differs != 0)
    };
    let meant = |f: &&FieldInfo| f.prereq == Prereq::None || matching.meets(f.prereq);
    // The narrowest that its match knows: `vlan_pcp` rather than `vlan_tci` if only the priority differs.
    let info = of_slot()
        .filter(meant)
        .filter(|f| bits(f) & differs == differs)
        .min_by_key(|f| f.bits)
        .or_else(|| of_slot().next());
    let Some(info) = info else {
        return ("", format!("{:#x}", wanted.value), format!("{has:#x}"));
    };
    let own = |v: u128| (v >> info.shift) & info.full_mask();
    (
        info.name,
        format(info, own(wanted.value), own(wanted.mask), names),
        format(info, own(has), info.full_mask(), names),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(s: &str) -> String {
        let names = Names::default();
        match parse_exact_flow(s, &names) {
            Ok(m) => format_exact_flow(&m, &names),
            Err(e) => e.0,
        }
    }

    /// What Open vSwitch 3.1 shows as `Flow:`, or says is wrong.
    #[test]
    fn packets_are_shown_as_open_vswitch_shows_them() {
        const MACS: &str = "dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00";
        for (given, shown) in [
            (
                "in_port=1,tcp,tcp_flags=syn",
                &*format!(
                    "tcp,in_port=1,vlan_tci=0x0000,{MACS},nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,tp_src=0,tp_dst=0,tcp_flags=syn"
                ),
            ),
            (
                "in_port=1,ip,nw_proto=50,nw_frag=first",
                &format!(
                    "ip,in_port=1,vlan_tci=0x0000,{MACS},nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_proto=50,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=first"
                ),
            ),
            (
                "in_port=1,icmp6,icmpv6_type=135,nd_target=::1",
                &format!(
                    "icmp6,in_port=1,vlan_tci=0x0000,{MACS},ipv6_src=::,ipv6_dst=::,ipv6_label=0x00000,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,icmp_type=135,icmp_code=0,nd_target=::1,nd_sll=00:00:00:00:00:00,nd_tll=00:00:00:00:00:00"
                ),
            ),
            (
                "in_port=1,dl_vlan=5,reg0=3,metadata=2,pkt_mark=5,tun_id=9",
                &format!(
                    "pkt_mark=0x5,reg0=0x3,tun_id=0x9,metadata=0x2,in_port=1,dl_vlan=5,dl_vlan_pcp=0,vlan_tci1=0x0000,{MACS},dl_type=0x0000"
                ),
            ),
            (
                "in_port=1,xreg0=7",
                &format!("reg1=0x7,in_port=1,vlan_tci=0x0000,{MACS},dl_type=0x0000"),
            ),
            (
                "in_port=1,rarp",
                &format!(
                    "rarp,in_port=1,vlan_tci=0x0000,{MACS},arp_spa=0.0.0.0,arp_tpa=0.0.0.0,arp_op=0,arp_sha=00:00:00:00:00:00,arp_tha=00:00:00:00:00:00"
                ),
            ),
            ("in_port=1,foo=3", "in_port=1,foo=3: unknown field foo"),
            ("tcp,udp", "tcp,udp: Ethernet type set multiple times"),
            (
                "tcp_src=5",
                "tcp_src=5: prerequisites not met for setting tcp_src",
            ),
            (
                "in_port=1,tcp,nw_frag=later,tp_src=5",
                "in_port=1,tcp,nw_frag=later,tp_src=5: prerequisites not met for setting tp_src",
            ),
            (
                "in_port=1,in_port=2",
                "in_port=1,in_port=2: field in_port set multiple times",
            ),
            (
                "in_port=xx",
                "in_port=xx: bad value for in_port (xx: invalid or unknown port for in_port)",
            ),
            (
                "tcp,tcp_src=5/7",
                "tcp,tcp_src=5/7: bad value for tcp_src (5/7: wildcards not allowed here)",
            ),
            (
                "in_port=p1,eth",
                "in_port=p1,eth: bad value for in_port (p1: invalid or unknown port for in_port)",
            ),
        ] {
            assert_eq!(again(given), shown);
        }
    }

    #[test]
    fn a_megaflow_says_what_all_its_packets_are() {
        let names = Names::default();
        let m = Match::new().with(FieldId::InPort, 1);
        assert_eq!(format_megaflow(&m, &names), "recirc_id=0,eth,in_port=1");
        let m = m.with(FieldId::PktMark, 3);
        assert_eq!(
            format_megaflow(&m, &names),
            "pkt_mark=0x3,recirc_id=0,eth,in_port=1"
        );
        assert_eq!(format_megaflow(&Match::new(), &names), "recirc_id=0,eth");
    }

    #[test]
    fn a_difference_names_the_field_that_differs() {
        let names = Names::default();
        let m = Match::new()
            .with(FieldId::EthType, 0x800)
            .with(FieldId::IpProto, 17)
            .with(FieldId::UdpDst, 80);
        let e = |slot| *m.entries().iter().find(|e| e.slot == slot).unwrap();
        assert_eq!(
            format_difference(&m, &e(Slot::TpDst), 81, &names),
            ("udp_dst", "80".into(), "81".into())
        );
        assert_eq!(
            format_difference(&m, &e(Slot::EthType), 0x806, &names).0,
            "eth_type"
        );
        let mut m = Match::new();
        m.set_masked(FieldId::VlanTci, 0x300a, 0xffff);
        let e = m.entries()[0];
        assert_eq!(format_difference(&m, &e, 0x100a, &names).0, "vlan_pcp");
    }
}
