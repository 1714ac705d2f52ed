//! Matches in text.

use super::value::{decimal_masked, format, hex_masked, parse};
use super::{Names, Result, fail, parse_uint, subfield};
use crate::field::{FIELDS, FieldId, FieldInfo, MaskRule, Prereq, Slot};
use crate::matching::Match;
use std::fmt::Write;

/// Protocol names: Ethernet type and IP protocol. In the order in which they are tried when a
/// match is printed.
pub(super) const PROTOCOLS: &[(&str, u16, Option<u8>)] = &[
    ("icmp", 0x0800, Some(1)),
    ("igmp", 0x0800, Some(2)),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("ip", 0x0800, None),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
    ("ipv6", 0x86dd, None),
    ("arp", 0x0806, None),
    ("rarp", 0x8035, None),
    ("mpls", 0x8847, None),
    ("mplsm", 0x8848, None),
];

/// Other spellings that are read.
const SPELLINGS: &[(&str, &str)] = &[("ipv4", "ip"), ("ip6", "ipv6")];

/// Takes one `key` or `key=value` into the match; false if the key is no field and no protocol.
pub(super) fn parse_pair(m: &mut Match, key: &str, value: &str, names: &Names) -> Result<bool> {
    let short = SPELLINGS.iter().find(|s| s.0 == key).map_or(key, |s| s.1);
    if key == "eth" {
        return Ok(true); // Every packet here has an Ethernet header.
    }
    if let Some((_, eth, proto)) = PROTOCOLS.iter().find(|p| p.0 == short) {
        m.set(FieldId::EthType, u128::from(*eth));
        if let Some(proto) = proto {
            m.set(FieldId::IpProto, u128::from(*proto));
        }
        return Ok(true);
    }
    if key == "dl_vlan" {
        let info = FieldInfo {
            name: "dl_vlan",
            mask: MaskRule::Exact,
            ..*FieldId::VlanTci.info()
        };
        let (v, _) = parse(&info, value, names)?;
        match v {
            // OpenFlow 1.0's way to say "no tag".
            0xffff => m.set_slot(Slot::VlanTci, 0, 0x1fff, 0x1fff),
            v => m.set_slot(Slot::VlanTci, v & 0xfff | 0x1000, 0x1fff, 0x1fff),
        }
        return Ok(true);
    }
    if key.contains('[') {
        return parse_bits(m, key, value).map(|()| true);
    }
    let Some(field) = FieldId::from_name(key) else {
        return Ok(false);
    };
    let info = field.info();
    // Without a value, none of its bits are looked at.
    let value = if value.is_empty() { "0/0" } else { value };
    let (v, mask) = parse(info, value, names)?;
    if info.is_option() && mask == 0 {
        return fail(format!(
            "{key}: whether an option is there cannot be matched, only its value"
        ));
    }
    match field {
        _ if mask == 0 => m.set_masked(field, 0, 0),
        FieldId::VlanPcp => m.set_slot(Slot::VlanTci, v << 13 | 0x1000, 0xf000, 0xf000),
        FieldId::NwTos => m.set_masked(field, v & 0xfc, 0xfc),
        FieldId::ArpOp if v > 255 => {
            return fail(format!("{value}: opcode over 255 for {key}"));
        }
        // As wide as a port until it is known whether this is ICMP; see `narrow_icmp`.
        FieldId::Icmpv4Type | FieldId::Icmpv4Code | FieldId::Icmpv6Type | FieldId::Icmpv6Code => {
            m.set_slot(info.slot, v, 0xffff, 0xffff)
        }
        _ => m.set_masked(field, v, mask),
    }
    Ok(true)
}

/// Wants a run of bits: `reg0[0..3]=5`.
fn parse_bits(m: &mut Match, key: &str, value: &str) -> Result<()> {
    let s = subfield::parse(key)?;
    let Some(v) = parse_uint(value) else {
        return fail(format!("{key}: cannot parse integer value"));
    };
    if s.bits < 128 && v >> s.bits != 0 {
        return fail(format!(
            "{key}: value {v:#x} does not fit into {} bits",
            s.bits
        ));
    }
    let info = s.field.info();
    let shift = u32::from(s.offset) + u32::from(info.shift);
    let bits = u128::MAX >> (128 - u32::from(s.bits)) << shift;
    m.set_slot(info.slot, v << shift, bits, bits);
    Ok(())
}

/// Types and codes of ICMP have eight bits, whichever name they were given by.
pub(super) fn narrow_icmp(m: &mut Match) {
    if m.meets(Prereq::Icmpv4) || m.meets(Prereq::Icmpv6) {
        for slot in [Slot::TpSrc, Slot::TpDst] {
            let (value, mask) = m.slot(slot);
            if value <= 0xff {
                m.set_slot(slot, value, mask & 0xff, u128::MAX);
            }
        }
    }
}

/// A field by any of its names, also Nicira's and the standard's (`NXM_OF_ETH_SRC`).
pub(super) fn field(name: &str) -> Option<FieldId> {
    FieldId::from_name(name).or_else(|| FieldId::from_formal_name(name))
}

/// A field's formal name: Nicira's if it has one.
pub(super) fn formal_name(field: FieldId) -> String {
    let info = field.info();
    info.nxm_name()
        .or_else(|| info.oxm_name())
        .unwrap_or_else(|| info.name.to_string())
}

/// Takes out of a match what no packet of its kind has, as Open vSwitch does before it uses one:
/// `nw_src` without `ip`, ports without `tcp` and so on. Whether anything was taken out.
pub fn normalize(m: &mut Match) -> bool {
    let eth = m.exact(FieldId::EthType);
    let arp = m.meets(Prereq::Arp);
    let (v4, v6) = (m.meets(Prereq::Ipv4), m.meets(Prereq::Ipv6));
    let ip = v4 || v6;
    let tcp = m.meets(Prereq::Tcp);
    let icmp = m.meets(Prereq::Icmpv4) || m.meets(Prereq::Icmpv6);
    let ports = tcp || m.meets(Prereq::Udp) || m.meets(Prereq::Sctp) || icmp;
    let mpls = matches!(eth, Some(0x8847 | 0x8848));
    let (nd, solicit, advert) = (
        m.meets(Prereq::Nd),
        m.meets(Prereq::NdSolicit),
        m.meets(Prereq::NdAdvert),
    );
    let rules = [
        (Slot::NwSrc, v4 || arp),
        (Slot::NwDst, v4 || arp),
        (Slot::NwProto, ip || arp),
        (Slot::NwTos, ip),
        (Slot::NwTtl, ip),
        (Slot::NwFrag, ip),
        (Slot::TpSrc, ports),
        (Slot::TpDst, ports),
        (Slot::TcpFlags, tcp),
        (Slot::Ipv6Src, v6),
        (Slot::Ipv6Dst, v6),
        (Slot::Ipv6Label, v6),
        (Slot::Ipv6Exthdr, v6),
        (Slot::ArpSha, arp || solicit),
        (Slot::ArpTha, arp || advert),
        (Slot::NdTarget, nd),
        (Slot::Mpls, mpls),
    ];
    let mut changed = false;
    for (slot, there) in rules {
        if !there && m.slot(slot).1 != 0 {
            m.set_slot(slot, 0, 0, u128::MAX);
            changed = true;
        }
    }
    changed
}

/// What is printed with its own name and format, before `in_port`, in this order.
const FIRST: &[(&str, FieldId)] = &[
    ("dp_hash", FieldId::DpHash),
    ("conj_id", FieldId::ConjId),
    ("actset_output", FieldId::ActsetOutput),
    ("ct_state", FieldId::CtState),
    ("ct_zone", FieldId::CtZone),
    ("ct_mark", FieldId::CtMark),
    ("ct_label", FieldId::CtLabel),
    ("ct_nw_src", FieldId::CtNwSrc),
    ("ct_nw_dst", FieldId::CtNwDst),
    ("ct_ipv6_src", FieldId::CtIpv6Src),
    ("ct_ipv6_dst", FieldId::CtIpv6Dst),
    ("ct_nw_proto", FieldId::CtNwProto),
    ("ct_tp_src", FieldId::CtTpSrc),
    ("ct_tp_dst", FieldId::CtTpDst),
    ("packet_type", FieldId::PacketType),
];

/// What follows the protocol's name, apart from the registers before it.
const TUNNEL: &[(&str, FieldId)] = &[
    ("tun_id", FieldId::TunId),
    ("tun_src", FieldId::TunSrc),
    ("tun_dst", FieldId::TunDst),
    ("tun_ipv6_src", FieldId::TunIpv6Src),
    ("tun_ipv6_dst", FieldId::TunIpv6Dst),
    ("tun_gbp_id", FieldId::TunGbpId),
    ("tun_gbp_flags", FieldId::TunGbpFlags),
    ("tun_erspan_ver", FieldId::TunErspanVer),
    ("tun_erspan_idx", FieldId::TunErspanIdx),
    ("tun_erspan_dir", FieldId::TunErspanDir),
    ("tun_erspan_hwid", FieldId::TunErspanHwid),
    ("gtpu_flags", FieldId::TunGtpuFlags),
    ("gtpu_msgtype", FieldId::TunGtpuMsgtype),
    ("tun_flags", FieldId::TunFlags),
    ("metadata", FieldId::Metadata),
    ("in_port", FieldId::InPort),
];

/// The upper layers, from the addresses of layer 3 on; the protocol numbers are in between.
const NETWORK: &[(&str, FieldId)] = &[
    ("ipv6_src", FieldId::Ipv6Src),
    ("ipv6_dst", FieldId::Ipv6Dst),
];

/// The network service header, behind everything else.
const NSH: &[(&str, FieldId)] = &[
    ("nsh_flags", FieldId::NshFlags),
    ("nsh_ttl", FieldId::NshTtl),
];

/// Writes a match as `dump-flows` does; `priority` unless it is the default 32768.
pub fn format_match(m: &Match, priority: Option<u16>, names: &Names) -> String {
    let mut out = Out {
        text: String::new(),
        rest: m.clone(),
        names,
    };
    if let Some(p) = priority.filter(|p| *p != 0x8000) {
        let _ = write!(out.text, "priority={p},");
    }
    out.field("pkt_mark", FieldId::PktMark);
    out.hex("recirc_id", FieldId::RecircId, 0);
    // Ethernet is what every packet is unless told otherwise.
    if m.exact(FieldId::PacketType) == Some(0) {
        out.done(FieldId::PacketType);
    }
    FIRST.iter().for_each(|(n, f)| out.field(n, *f));
    let eth = m.exact(FieldId::EthType);
    let proto = m.exact(FieldId::IpProto);
    let protocol = PROTOCOLS
        .iter()
        .find(|p| Some(u128::from(p.1)) == eth && (p.2.is_none() || p.2.map(u128::from) == proto));
    if let Some((name, _, ip)) = protocol {
        let _ = write!(out.text, "{name},");
        out.done(FieldId::EthType);
        if ip.is_some() {
            out.done(FieldId::IpProto);
        }
    }
    for info in &FIELDS[FieldId::Reg0 as usize..=FieldId::Reg15 as usize] {
        out.field(info.name, info.id);
    }
    for (name, field) in TUNNEL {
        match field {
            FieldId::TunGbpId => out.port(name, *field),
            f => out.field(name, *f),
        }
        if *field == FieldId::TunFlags {
            let options = FieldId::TunMetadata0 as usize..=FieldId::TunMetadata63 as usize;
            if m.entries()
                .iter()
                .any(|e| matches!(e.slot, Slot::TunOption(_)))
            {
                FIELDS[options].iter().for_each(|f| out.field(f.name, f.id));
            }
        }
    }
    out.vlan();
    out.field("dl_src", FieldId::EthSrc);
    out.field("dl_dst", FieldId::EthDst);
    out.hex("dl_type", FieldId::EthType, 4);
    NETWORK.iter().for_each(|(n, f)| out.field(n, *f));
    out.hex("ipv6_label", FieldId::Ipv6Label, 5);
    let arp = m.meets(Prereq::Arp);
    let (src, dst) = if arp {
        ("arp_spa", "arp_tpa")
    } else {
        ("nw_src", "nw_dst")
    };
    out.field(src, FieldId::Ipv4Src);
    out.field(dst, FieldId::Ipv4Dst);
    out.field(if arp { "arp_op" } else { "nw_proto" }, FieldId::IpProto);
    if arp {
        out.field("arp_sha", FieldId::ArpSha);
        out.field("arp_tha", FieldId::ArpTha);
    }
    let (tos, mask) = out.rest.get(FieldId::IpDscp);
    if mask != 0 {
        let _ = write!(out.text, "nw_tos={},", tos << 2);
        out.done(FieldId::IpDscp);
    }
    out.field("nw_ecn", FieldId::IpEcn);
    out.field("nw_ttl", FieldId::NwTtl);
    out.field("mpls_label", FieldId::MplsLabel);
    out.field("mpls_tc", FieldId::MplsTc);
    out.field("mpls_ttl", FieldId::MplsTtl);
    out.field("mpls_bos", FieldId::MplsBos);
    out.field("nw_frag", FieldId::IpFrag);
    let icmp6 = m.meets(Prereq::Icmpv6);
    if m.meets(Prereq::Icmpv4) || icmp6 {
        out.field("icmp_type", FieldId::Icmpv4Type);
        out.field("icmp_code", FieldId::Icmpv4Code);
    }
    if icmp6 {
        out.field("nd_target", FieldId::NdTarget);
        out.field("nd_sll", FieldId::NdSll);
        out.field("nd_tll", FieldId::NdTll);
    }
    out.port("tp_src", FieldId::TcpSrc);
    out.port("tp_dst", FieldId::TcpDst);
    out.field("tcp_flags", FieldId::TcpFlags);
    if !matches!(m.get(FieldId::NshFlags).1, 0 | 0xff) {
        out.hex("nsh_flags", FieldId::NshFlags, 2);
    }
    NSH.iter().for_each(|(n, f)| out.field(n, *f));
    // What has no place of its own, in the table's order.
    for info in FIELDS {
        if info.id != FieldId::VlanTci {
            out.field(info.name, info.id);
        }
    }
    let mut text = out.text;
    text.pop();
    text
}

struct Out<'a> {
    text: String,
    /// What is still to be written.
    rest: Match,
    names: &'a Names,
}

impl Out<'_> {
    fn done(&mut self, field: FieldId) {
        self.rest.set_masked(field, 0, 0);
    }

    fn field(&mut self, name: &str, field: FieldId) {
        let (value, mask) = self.rest.get(field);
        if mask == 0 {
            return;
        }
        let info = field.info();
        // ArpOp and such have fewer bits in the key than on the wire.
        let text = format(info, value, mask, self.names);
        let _ = write!(self.text, "{name}={text},");
        self.done(field);
    }

    fn hex(&mut self, name: &str, field: FieldId, digits: usize) {
        let (value, mask) = self.rest.get(field);
        if mask == 0 {
            return;
        }
        let width = digits + 2;
        let _ = write!(self.text, "{name}={value:#0width$x}");
        if mask != field.info().full_mask() {
            let _ = write!(self.text, "/{mask:#0width$x}");
        }
        self.text.push(',');
        self.done(field);
    }

    fn port(&mut self, name: &str, field: FieldId) {
        let (value, mask) = self.rest.get(field);
        if mask != 0 {
            let _ = write!(self.text, "{name}={},", decimal_masked(value, mask, 0xffff));
            self.done(field);
        }
    }

    fn vlan(&mut self) {
        let (tci, mask) = self.rest.slot(Slot::VlanTci);
        if mask == 0 {
            return;
        }
        let (vid, pcp) = (mask & 0xfff, mask & 0xe000);
        let whole = |part: u128, full: u128| part == 0 || part == full;
        if mask & tci & 0x1000 != 0 && whole(vid, 0xfff) && whole(pcp, 0xe000) && mask != 0x1000 {
            if vid != 0 {
                let _ = write!(self.text, "dl_vlan={},", tci & 0xfff);
            }
            if pcp != 0 {
                let _ = write!(self.text, "dl_vlan_pcp={},", tci >> 13);
            }
        } else if mask == 0xffff {
            let _ = write!(self.text, "vlan_tci={tci:#06x},");
        } else {
            let _ = write!(self.text, "vlan_tci={tci:#06x}/{mask:#06x},");
        }
        self.rest.set_slot(Slot::VlanTci, 0, 0, 0xffff);
    }
}

/// A number as hex under a mask, for cookies.
pub(super) fn hex_text(value: u64, mask: u64) -> String {
    hex_masked(value.into(), mask.into(), u64::MAX.into())
}
