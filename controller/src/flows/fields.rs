//! Matches as JSON: an object of field names and values, both ways.
//!
//! The names are those of the field table (`eth_dst`, `tcp_dst`, ...) with all their other names
//! (`dl_dst`, `nw_src`, `tp_dst`, ...). A value is a number or a string in the field's own notation,
//! with a mask behind `/` where the field takes one (`10.0.0.0/24`, `0x10/0xf0`). `protocol` is a
//! short way to say `eth_type` and `ip_proto`: `ip`, `icmp`, `tcp`, `udp6`, `arp`, ...
//!
//! `vlan_vid` (and `dl_vlan`) follow Ryu: a number, or decimal digits, is the id of a tagged packet;
//! a hexadecimal string is the raw 13 bits with the "present" bit (`0x1000/0x1000` any tag);
//! `none` is an untagged packet.

use super::{FieldError, Result};
use openflow::field::{FIELDS, FieldInfo, Format, MaskRule, Prereq};
use openflow::text::Names;
use openflow::{FieldId, MacAddr, Match, PortNo};
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Short names for protocols: Ethernet type and IP protocol.
const PROTOCOLS: &[(&str, u16, Option<u8>)] = &[
    ("ip", 0x0800, None),
    ("ipv4", 0x0800, None),
    ("arp", 0x0806, None),
    ("rarp", 0x8035, None),
    ("ipv6", 0x86dd, None),
    ("mpls", 0x8847, None),
    ("mplsm", 0x8848, None),
    ("lldp", 0x88cc, None),
    ("icmp", 0x0800, Some(1)),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp", 0x0800, Some(6)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("sctp6", 0x86dd, Some(132)),
];

/// Present bit of `vlan_vid` (`OFPVID_PRESENT`, OpenFlow 1.3.5 7.2.3.7).
pub(super) const VID_PRESENT: u128 = 0x1000;

/// Reads a match. `at` is the JSON pointer of the object, for errors.
///
/// # Errors
/// Names the member that is unknown, ill-formed, or lacks what it depends on.
pub fn parse_match(object: &Map<String, Value>, names: &Names, at: &str) -> Result<Match> {
    let mut m = Match::new();
    let mut named: Vec<(String, Prereq, bool)> = Vec::new();
    for (name, value) in object {
        let pointer = format!("{at}/{name}");
        if name == "protocol" {
            set_protocol(&mut m, value, &pointer)?;
            continue;
        }
        let id = field_by_name(name, &pointer)?;
        let info = id.info();
        let named_port = match value {
            Value::String(s) if info.format == Format::Port => names.port(s),
            _ => None,
        };
        let (v, mask) = if let Some(port) = named_port {
            (u128::from(port.0), info.full_mask())
        } else if id == FieldId::VlanVid {
            parse_vlan(value, &pointer)?
        } else {
            parse_value(info, value, &pointer)?
        };
        if v & !mask != 0 {
            return Err(FieldError::new(
                &pointer,
                format!("{value} has bits outside its mask"),
            ));
        }
        if mask == 0 {
            continue;
        }
        if info.mask == MaskRule::Exact && mask != info.full_mask() {
            return Err(FieldError::new(&pointer, "this field takes no mask"));
        }
        if m.get(id).1 != 0 && m.get(id) != (v, mask) {
            return Err(FieldError::new(&pointer, "contradicts another member"));
        }
        m.set_masked(id, v, mask);
        // OpenFlow 1.0's names speak of several protocols at once.
        let loose = name.starts_with("nw_") || name.starts_with("tp_");
        named.push((name.clone(), info.prereq, loose));
    }
    for (name, prereq, loose) in named {
        let ok = prereq_met(&m, prereq)
            || loose
                && match prereq {
                    Prereq::Ip | Prereq::Ipv4 => prereq_met(&m, Prereq::Arp),
                    Prereq::Tcp => {
                        prereq_met(&m, Prereq::Udp)
                            || prereq_met(&m, Prereq::Sctp)
                            || prereq_met(&m, Prereq::Icmpv4)
                    }
                    _ => false,
                };
        if !ok {
            return Err(FieldError::new(
                format!("{at}/{name}"),
                format!("needs {} in the same match", prereq_text(prereq)),
            ));
        }
    }
    Ok(m)
}

/// The field of a name people type.
pub(super) fn field_by_name(name: &str, pointer: &str) -> Result<FieldId> {
    match name {
        "dl_vlan" => Some(FieldId::VlanVid),
        _ => FieldId::from_name(name),
    }
    .ok_or_else(|| {
        FieldError::new(
            pointer,
            format!("no match field is called {name}; known are in_port, eth_dst, eth_type, vlan_vid, ip_proto, ip_src, tcp_dst, ... and protocol"),
        )
    })
}

fn set_protocol(m: &mut Match, value: &Value, pointer: &str) -> Result<()> {
    let row = value
        .as_str()
        .and_then(|s| PROTOCOLS.iter().find(|p| p.0.eq_ignore_ascii_case(s)));
    let Some((_, eth_type, ip_proto)) = row else {
        let known: Vec<_> = PROTOCOLS.iter().map(|p| p.0).collect();
        return Err(FieldError::new(
            pointer,
            format!("{value} is none of {}", known.join(", ")),
        ));
    };
    m.set(FieldId::EthType, u128::from(*eth_type));
    if let Some(p) = ip_proto {
        m.set(FieldId::IpProto, u128::from(*p));
    }
    Ok(())
}

fn parse_vlan(value: &Value, pointer: &str) -> Result<(u128, u128)> {
    let full = FieldId::VlanVid.info().full_mask();
    let bad = || {
        FieldError::new(
            pointer,
            format!(
                "{value}: a VLAN id is 0 to 4095, \"none\", or raw bits like \"0x1000/0x1000\""
            ),
        )
    };
    let vid = match value {
        Value::Number(n) => n.as_u64().ok_or_else(bad)?,
        Value::String(s) if s == "none" => return Ok((0, full)),
        Value::String(s) if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) => {
            s.parse().map_err(|_| bad())?
        }
        Value::String(_) => return parse_value(FieldId::VlanVid.info(), value, pointer),
        _ => return Err(bad()),
    };
    // 4096 and more: the present bit is in the number already.
    match u128::from(vid) {
        v @ 0..=0xfff => Ok((v | VID_PRESENT, full)),
        v @ 0x1000..=0x1fff => Ok((v, full)),
        _ => Err(bad()),
    }
}

/// A field's value and mask from JSON, in the field's own width.
pub(super) fn parse_value(info: &FieldInfo, value: &Value, pointer: &str) -> Result<(u128, u128)> {
    let full = info.full_mask();
    let fits = |v: u128| {
        if v > full {
            Err(FieldError::new(
                pointer,
                format!("{v} does not fit {} bits", info.bits),
            ))
        } else {
            Ok(v)
        }
    };
    match value {
        Value::Number(n) => {
            let v = n.as_u64().ok_or_else(|| {
                FieldError::new(pointer, format!("{n} is not a number from 0 up"))
            })?;
            if matches!(info.format, Format::Ethernet | Format::Ipv4 | Format::Ipv6) {
                return Err(FieldError::new(
                    pointer,
                    format!("{n}: write the address as a string"),
                ));
            }
            Ok((fits(v.into())?, full))
        }
        Value::String(s) => {
            let (v, mask) = match s.split_once('/') {
                Some((v, m)) => (v, Some(m)),
                None => (s.as_str(), None),
            };
            let v = fits(parse_text(info, v).map_err(|e| FieldError::new(pointer, e))?)?;
            let Some(mask) = mask else {
                return Ok((v, full));
            };
            let prefix = match info.format {
                Format::Ipv4 | Format::Ipv6 => mask.parse::<u16>().ok(),
                _ => None,
            };
            let mask = match prefix {
                Some(0) => 0,
                Some(n) if n <= info.bits => full & (full << (info.bits - n)),
                Some(n) => {
                    return Err(FieldError::new(
                        pointer,
                        format!("/{n}: a prefix has at most {} bits", info.bits),
                    ));
                }
                None => parse_text(info, mask).map_err(|e| FieldError::new(pointer, e))?,
            };
            // A host address with a prefix means its network, as everywhere.
            let v = if prefix.is_some() { v & mask } else { v };
            Ok((v, fits(mask)?))
        }
        _ => Err(FieldError::new(
            pointer,
            format!("{value}: a number or a string is wanted"),
        )),
    }
}

fn parse_text(info: &FieldInfo, s: &str) -> std::result::Result<u128, String> {
    let number = |s: &str| {
        match s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
            Some(h) if !h.is_empty() && h.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u128::from_str_radix(h, 16).ok()
            }
            None if s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| format!("{s:?} is not a number"))
    };
    match info.format {
        Format::Ethernet => s.parse::<MacAddr>().map(|m| m.to_u64().into()),
        Format::Ipv4 => s
            .parse::<Ipv4Addr>()
            .map(|a| u32::from(a).into())
            .map_err(|_| format!("{s:?} is not an IPv4 address")),
        Format::Ipv6 => s
            .parse::<Ipv6Addr>()
            .map(u128::from)
            .map_err(|_| format!("{s:?} is not an IPv6 address")),
        Format::Port => match parse_port(s) {
            Some(p) => Ok(p.0.into()),
            None => Err(format!(
                "{s:?} is no port number, no reserved port, and no port of the switch (as far as it is connected)"
            )),
        },
        Format::Frag => match s {
            "no" => Ok(0),
            "first" => Ok(1),
            "later" => Ok(3),
            _ => number(s),
        },
        _ => match (
            info.id,
            PROTOCOLS.iter().find(|p| p.0.eq_ignore_ascii_case(s)),
        ) {
            (FieldId::EthType, Some((_, t, None))) => Ok((*t).into()),
            (FieldId::IpProto, Some((_, _, Some(p)))) => Ok((*p).into()),
            _ => number(s),
        },
    }
}

/// A port by number or reserved name (`LOCAL`, `NORMAL`, ..., in any case).
pub(super) fn parse_port(s: &str) -> Option<PortNo> {
    const RESERVED: [PortNo; 9] = [
        PortNo::UNSET,
        PortNo::IN_PORT,
        PortNo::TABLE,
        PortNo::NORMAL,
        PortNo::FLOOD,
        PortNo::ALL,
        PortNo::CONTROLLER,
        PortNo::LOCAL,
        PortNo::ANY,
    ];
    RESERVED
        .into_iter()
        .find(|p| p.to_string().eq_ignore_ascii_case(s))
        .or_else(|| {
            let digits = s.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| s.parse().ok().map(PortNo)).flatten()
        })
}

/// Whether a match makes sure of what a field depends on (OpenFlow 1.3.5 7.2.3.8).
pub fn prereq_met(m: &Match, prereq: Prereq) -> bool {
    let eth = |t: &[u128]| m.exact(FieldId::EthType).is_some_and(|v| t.contains(&v));
    let ip = |p: u128| eth(&[0x0800, 0x86dd]) && m.exact(FieldId::IpProto) == Some(p);
    let nd = |t: &[u128]| {
        prereq_met(m, Prereq::Icmpv6)
            && m.exact(FieldId::Icmpv6Type).is_some_and(|v| t.contains(&v))
    };
    match prereq {
        Prereq::None => true,
        Prereq::Vlan => {
            let (v, mask) = m.get(FieldId::VlanVid);
            v & mask & VID_PRESENT != 0
        }
        Prereq::Mpls => eth(&[0x8847, 0x8848]),
        Prereq::Pbb => eth(&[0x88e7]),
        Prereq::Ip => eth(&[0x0800, 0x86dd]),
        Prereq::Ipv4 => eth(&[0x0800]),
        Prereq::Ipv6 => eth(&[0x86dd]),
        Prereq::Arp => eth(&[0x0806, 0x8035]),
        Prereq::Tcp => ip(6),
        Prereq::Udp => ip(17),
        Prereq::Sctp => ip(132),
        Prereq::Icmpv4 => eth(&[0x0800]) && ip(1),
        Prereq::Icmpv6 => eth(&[0x86dd]) && ip(58),
        Prereq::Nd => nd(&[135, 136]),
        Prereq::NdSolicit => nd(&[135]),
        Prereq::NdAdvert => nd(&[136]),
        Prereq::Nsh => eth(&[0x894f]),
        Prereq::Ct => m.meets(prereq),
    }
}

/// What a prerequisite asks for, in words.
pub(super) fn prereq_text(p: Prereq) -> &'static str {
    match p {
        Prereq::None => "nothing",
        Prereq::Vlan => "vlan_vid",
        Prereq::Mpls => "eth_type 0x8847 or 0x8848",
        Prereq::Pbb => "eth_type 0x88e7",
        Prereq::Ip => "eth_type 0x0800 or 0x86dd (or protocol \"ip\", \"ipv6\")",
        Prereq::Ipv4 => "eth_type 0x0800 (or protocol \"ip\")",
        Prereq::Ipv6 => "eth_type 0x86dd (or protocol \"ipv6\")",
        Prereq::Arp => "eth_type 0x0806 (or protocol \"arp\")",
        Prereq::Tcp => "ip_proto 6 (or protocol \"tcp\", \"tcp6\")",
        Prereq::Udp => "ip_proto 17 (or protocol \"udp\", \"udp6\")",
        Prereq::Sctp => "ip_proto 132 (or protocol \"sctp\", \"sctp6\")",
        Prereq::Icmpv4 => "ip_proto 1 (or protocol \"icmp\")",
        Prereq::Icmpv6 => "ip_proto 58 (or protocol \"icmp6\")",
        Prereq::Nd => "icmpv6_type 135 or 136",
        Prereq::NdSolicit => "icmpv6_type 135",
        Prereq::NdAdvert => "icmpv6_type 136",
        Prereq::Nsh => "eth_type 0x894f",
        Prereq::Ct => "ct_state of a connection (such as +trk-inv)",
    }
}

/// A match taken apart into fields: each with value and mask in its own width. Fields with a
/// standard code are preferred, and among fields that share bits the one whose prerequisites hold.
pub fn fields_of(m: &Match) -> Vec<(&'static FieldInfo, u128, u128)> {
    let mut out = Vec::new();
    for e in m.entries() {
        let mut left = e.mask;
        // First the standard fields whose prerequisites hold, then Nicira's, then whatever fits.
        for pass in 0..3 {
            for f in FIELDS.iter().filter(|f| f.slot == e.slot) {
                let area = f.full_mask() << f.shift;
                let mask = (left & area) >> f.shift;
                let right_kind = match pass {
                    0 => f.oxm.is_some_and(|c| c.class == 0x8000) && prereq_met(m, f.prereq),
                    1 => prereq_met(m, f.prereq),
                    _ => true,
                };
                let width = f.full_mask() & (slot_ones(f) >> f.shift);
                let mask_ok = f.mask == MaskRule::Any || mask == width;
                if mask != 0 && right_kind && mask_ok {
                    let mask = if mask == width { f.full_mask() } else { mask };
                    out.push((f, (e.value >> f.shift) & mask, mask));
                    left &= !area;
                }
            }
        }
    }
    out
}

fn slot_ones(f: &FieldInfo) -> u128 {
    match f.slot.bits() {
        128 => u128::MAX,
        n => (1 << n) - 1,
    }
}

/// A match as JSON; [`parse_match`] reads it back to the same match.
pub fn match_json(m: &Match) -> Value {
    let mut object = Map::new();
    for (f, value, mask) in fields_of(m) {
        object.insert(f.name.to_owned(), value_json(f, value, mask));
    }
    Value::Object(object)
}

/// A field's value under a mask as JSON.
pub(crate) fn value_json(f: &FieldInfo, value: u128, mask: u128) -> Value {
    let full = mask == f.full_mask();
    if f.id == FieldId::VlanVid {
        return match (value, full) {
            (0, true) => json!("none"),
            (v, true) if v & VID_PRESENT != 0 => json!((v & 0xfff) as u64),
            (v, true) => json!(format!("{v:#06x}")),
            (v, false) => json!(format!("{v:#06x}/{mask:#06x}")),
        };
    }
    let text = value_text(f, value);
    if full {
        match f.format {
            Format::Ethernet | Format::Ipv4 | Format::Ipv6 => json!(text),
            Format::Port if PortNo(value as u32) >= PortNo::UNSET => json!(text),
            _ => u64::try_from(value).map_or_else(|_| json!(text), |v| json!(v)),
        }
    } else {
        let prefix = (mask.count_ones(), mask << (128 - f.bits));
        let is_prefix = prefix.1.leading_ones() == prefix.0;
        match f.format {
            Format::Ipv4 | Format::Ipv6 if is_prefix => json!(format!("{text}/{}", prefix.0)),
            _ => json!(format!("{text}/{}", value_text(f, mask))),
        }
    }
}

fn value_text(f: &FieldInfo, value: u128) -> String {
    match f.format {
        Format::Ethernet => MacAddr::from_u64(value as u64).to_string(),
        Format::Ipv4 => Ipv4Addr::from(value as u32).to_string(),
        Format::Ipv6 => Ipv6Addr::from(value).to_string(),
        Format::Port => PortNo(value as u32).to_string(),
        _ => format!("{value:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(v: Value) -> Result<Match> {
        parse_match(v.as_object().unwrap(), &Names::default(), "/match")
    }

    #[test]
    fn protocol_and_names_mean_the_same() {
        let a = parse(json!({"protocol": "icmp"})).unwrap();
        let b = parse(json!({"eth_type": 2048, "ip_proto": 1})).unwrap();
        let c = parse(json!({"dl_type": "0x800", "nw_proto": "icmp"})).unwrap();
        assert_eq!(a, b);
        assert_eq!(a, c);
        assert_eq!(match_json(&a), json!({"eth_type": 2048, "nw_proto": 1}));
    }

    #[test]
    fn masks_prefixes_and_vlans() {
        let m = parse(
            json!({"protocol": "tcp", "ip_dst": "10.0.0.7/24", "vlan_vid": 10, "tp_dst": 8080,
            "eth_dst": "01:00:00:00:00:00/01:00:00:00:00:00"}),
        )
        .unwrap();
        assert_eq!(m.get(FieldId::Ipv4Dst), (0x0a00_0000, 0xffff_ff00));
        assert_eq!(m.exact(FieldId::VlanVid), Some(0x100a));
        assert_eq!(m.exact(FieldId::TcpDst), Some(8080));
        assert_eq!(
            match_json(&m),
            json!({"eth_dst": "01:00:00:00:00:00/01:00:00:00:00:00", "eth_type": 2048, "vlan_vid": 10,
                "ip_dst": "10.0.0.0/24", "nw_proto": 6, "tcp_dst": 8080})
        );
        assert_eq!(
            parse(json!({"dl_vlan": "none"}))
                .unwrap()
                .exact(FieldId::VlanVid),
            Some(0)
        );
        assert_eq!(
            parse(json!({"vlan_vid": "0x1000/0x1000"}))
                .unwrap()
                .get(FieldId::VlanVid),
            (0x1000, 0x1000)
        );
        let udp = parse(json!({"protocol": "udp", "tp_src": 53})).unwrap();
        assert_eq!(match_json(&udp)["udp_src"], 53);
    }

    #[test]
    fn errors_name_the_member() {
        for (v, at) in [
            (json!({"tcp_dst": 80}), "/match/tcp_dst"),
            (json!({"colour": 80}), "/match/colour"),
            (json!({"eth_type": 70000}), "/match/eth_type"),
            (
                json!({"protocol": "ip", "ip_src": "10.0.0"}),
                "/match/ip_src",
            ),
            (
                json!({"protocol": "ip", "ip_src": "10.0.0.0/33"}),
                "/match/ip_src",
            ),
            (json!({"eth_type": "0x800/0xff"}), "/match/eth_type"),
            (json!({"in_port": -1}), "/match/in_port"),
            (json!({"vlan_vid": 9000}), "/match/vlan_vid"),
            (json!({"protocol": "tpc"}), "/match/protocol"),
            (
                json!({"eth_src": "52:54:00:00:00:01", "dl_src": "52:54:00:00:00:02"}),
                "/match/dl_src",
            ),
            (json!({"reg0": "0x10/0x01"}), "/match/reg0"),
        ] {
            assert_eq!(parse(v.clone()).unwrap_err().pointer, at, "{v}");
        }
    }

    proptest! {
        /// Whatever is matched, printed and read again is the same match.
        #[test]
        fn json_round_trips(port in 1..0xff00u32, mac: u64, vlan in proptest::option::of(0..4096u64),
            src: u32, bits in 1..33u32, tp in proptest::option::of(any::<u16>()), reg: u32, mask: u32, ip6: bool) {
            let mut m = Match::new().with(FieldId::InPort, port.into()).with(FieldId::EthSrc, u128::from(mac & 0xffff_ffff_ffff));
            if let Some(v) = vlan {
                m.set(FieldId::VlanVid, u128::from(v) | VID_PRESENT);
            }
            m.set(FieldId::EthType, if ip6 { 0x86dd } else { 0x0800 });
            m.set(FieldId::IpProto, 17);
            if !ip6 {
                let mask = u128::from(u32::MAX << (32 - bits));
                m.set_masked(FieldId::Ipv4Src, u128::from(src) & mask, mask);
            } else {
                m.set(FieldId::Ipv6Dst, u128::from(src) << 77);
            }
            if let Some(t) = tp {
                m.set(FieldId::UdpDst, t.into());
            }
            m.set_masked(FieldId::Reg3, u128::from(reg & mask), mask.into());
            let v = match_json(&m);
            prop_assert_eq!(parse(v.clone()).unwrap(), m, "{}", v);
        }
    }
}
