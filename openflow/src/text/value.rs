//! Field values in text.

use super::{Names, Result, TextError, fail, parse_uint};
use crate::field::{FieldId, FieldInfo, Format, MaskRule};
use crate::message::{MacAddr, PortNo};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const TCP_FLAGS: &[&str] = &[
    "fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]",
];
pub(super) const CT_STATE: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
const TUN_FLAGS: &[&str] = &["oam"];

fn flag_names(format: Format) -> Option<(&'static [&'static str], &'static str)> {
    match format {
        Format::TcpFlags => Some((TCP_FLAGS, "TCP")),
        Format::CtState => Some((CT_STATE, "ct_state")),
        Format::TunnelFlags => Some((TUN_FLAGS, "tunnel")),
        _ => None,
    }
}

/// The bits that have names.
fn known_flags(names: &[&str]) -> u128 {
    (1 << names.len()) - 1
}

/// Reads a value with an optional mask, in the field's own width.
pub(super) fn parse(info: &FieldInfo, s: &str, names: &Names) -> Result<(u128, u128)> {
    let full = info.full_mask();
    let parsed = match info.format {
        Format::Port => {
            let port = names.port(s).ok_or_else(|| {
                TextError(format!("{s}: invalid or unknown port for {}", info.name))
            })?;
            return Ok((port.0.into(), full));
        }
        Format::Frag => return frag(s),
        Format::TcpFlags | Format::CtState | Format::TunnelFlags => return flags(info, s),
        Format::Ethernet => masked(s, |v| v.parse::<MacAddr>().ok().map(|m| m.to_u64().into()))
            .ok_or_else(|| format!("{s}: invalid Ethernet address")),
        Format::Ipv4 | Format::Ipv6 if prefix_too_long(info, s) => {
            let (kind, most) = match info.format {
                Format::Ipv4 => ("IPv4", 32),
                _ => ("IPv6", 128),
            };
            Err(format!(
                "{s}: {kind} network prefix bits not between 0 and {most}, inclusive"
            ))
        }
        Format::Ipv4 => prefixed(s, 32, |v| {
            v.parse::<Ipv4Addr>().ok().map(|a| u32::from(a).into())
        })
        .ok_or_else(|| match s.split_once('/').map(|(_, m)| m.parse::<u32>()) {
            Some(Ok(n)) if n > 32 => {
                format!("{s}: IPv4 network prefix bits not between 0 and 32, inclusive")
            }
            _ => format!("{s}: invalid IP address"),
        }),
        Format::Ipv6 => prefixed(s, 128, |v| v.parse::<Ipv6Addr>().ok().map(u128::from))
            .ok_or_else(|| format!("{s}: invalid IPv6 address")),
        _ if info.id == FieldId::PacketType && !s.starts_with('(') => {
            Err(format!("{s}: bad syntax for packet type missing '('"))
        }
        _ if info.id == FieldId::PacketType => packet_type(s)
            .map(|v| (v, full))
            .ok_or_else(|| format!("{s}: packet_type should be written (NS,TYPE)")),
        _ => masked(s, |v| if v == "-1" { Some(full) } else { parse_uint(v) }).ok_or_else(|| {
            let value = s.split('/').next().unwrap_or(s);
            let part = if parse_uint(value).is_some() {
                "mask"
            } else {
                "value"
            };
            format!("{s}: bad syntax for {} {part}", info.name)
        }),
    };
    let (value, mask) = parsed.map_err(TextError)?;
    // An alias of four bits and the like takes no more than its own width.
    let bytes = info.bits.div_ceil(8);
    if bytes < 16 && value >> (u32::from(bytes) * 8) != 0 {
        return fail(format!(
            "{s}: value too large for {bytes}-byte field {}",
            info.name
        ));
    }
    // Of the fields that do not fill their bytes this is the one whose odd bits Open vSwitch does not drop: its switch
    // refuses them.
    if info.id == FieldId::Ipv6Label && value & mask & !full != 0 {
        return fail(format!(
            "{s}: value too large for {}-bit field {}",
            info.bits, info.name
        ));
    }
    let mask = mask & full;
    if info.mask == MaskRule::Exact && mask != full && mask != 0 {
        return fail(format!("{s}: invalid mask for field {}", info.name));
    }
    Ok((value & full & mask, mask))
}

fn packet_type(s: &str) -> Option<u128> {
    let s = s.trim_matches(['(', ')']);
    let (ns, kind) = s.split_once(',')?;
    let (ns, kind) = (parse_uint(ns.trim())?, parse_uint(kind.trim())?);
    (ns <= 0xffff && kind <= 0xffff).then_some(ns << 16 | kind)
}

fn masked(s: &str, one: impl Fn(&str) -> Option<u128>) -> Option<(u128, u128)> {
    match s.split_once('/') {
        Some((v, m)) => {
            let mask = one(m)?;
            Some((one(v)? & mask, mask))
        }
        None => Some((one(s)?, u128::MAX)),
    }
}

fn prefixed(s: &str, bits: u32, one: impl Fn(&str) -> Option<u128>) -> Option<(u128, u128)> {
    let Some((v, m)) = s.split_once('/') else {
        return Some((one(s)?, u128::MAX));
    };
    let mask = match m.parse::<u32>() {
        Ok(n) if n <= bits => u128::MAX
            .checked_shl(bits - n)
            .filter(|_| n > 0)
            .unwrap_or(0),
        Ok(_) => return None,
        Err(_) => one(m)?,
    };
    Some((one(v)? & mask, mask))
}

/// Whether what follows the slash is a number too large for a prefix.
fn prefix_too_long(info: &FieldInfo, s: &str) -> bool {
    let bits = s.split_once('/').and_then(|(_, m)| m.parse::<u32>().ok());
    bits.is_some_and(|n| n > u32::from(info.bits))
}

fn frag(s: &str) -> Result<(u128, u128)> {
    Ok(match s {
        "no" => (0, 3),
        "yes" => (1, 1),
        "first" => (1, 3),
        "later" => (3, 3),
        "not_later" => (0, 2),
        _ => {
            return fail(format!(
                "{s}: unknown fragment type (valid types are \"no\", \"yes\", \"first\", \"later\", \"not_later\""
            ));
        }
    })
}

/// `+syn-ack`, `syn|ack` for exactly those, or numbers. Flags that have no name are refused.
fn flags(info: &FieldInfo, s: &str) -> Result<(u128, u128)> {
    let Some((names, what)) = flag_names(info.format) else {
        return fail(format!("{s}: no flags"));
    };
    let known = known_flags(names);
    if s.starts_with(|c: char| c.is_ascii_digit()) {
        let (value, mask) = masked(s, parse_uint)
            .ok_or_else(|| TextError(format!("{s}: bad syntax for {}", info.name)))?;
        let given = if mask == u128::MAX { value } else { mask };
        if given & !known != 0 {
            return fail(format!("{s}: unknown {what} flag(s)"));
        }
        return Ok((value & known, mask & known));
    }
    let bit = |name: &str| {
        names
            .iter()
            .position(|n| *n == name)
            .map(|i| 1u128 << i)
            .ok_or_else(|| TextError(format!("{name}: unknown {what} flag(s)")))
    };
    if !s.starts_with(['+', '-']) {
        let mut value = 0;
        for name in s.split('|') {
            value |= bit(name)?;
        }
        return Ok((value, known));
    }
    let (mut value, mut mask, mut rest) = (0, 0, s);
    while let Some(sign) = rest.chars().next() {
        if !matches!(sign, '+' | '-') {
            return fail(format!(
                "{s}: {what} flag must be preceded by '+' (for SET) or '-' (NOT SET)"
            ));
        }
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |i| i + 1);
        let b = bit(&rest[1..end])?;
        if mask & b != 0 {
            return fail(format!(
                "{}: Each {what} flag can be specified only once",
                &rest[1..end]
            ));
        }
        mask |= b;
        value |= if sign == '+' { b } else { 0 };
        rest = &rest[end..];
    }
    Ok((value, mask))
}

fn hex(n: u128) -> String {
    // As printf's %#x has it.
    if n == 0 {
        "0".into()
    } else {
        format!("{n:#x}")
    }
}

/// Writes a number as a match shows it: `exact` or `value/mask` in hex.
pub(super) fn decimal_masked(value: u128, mask: u128, full: u128) -> String {
    if mask == full {
        value.to_string()
    } else {
        format!("{value:#x}/{mask:#x}")
    }
}

pub(super) fn hex_masked(value: u128, mask: u128, full: u128) -> String {
    if mask == full {
        hex(value)
    } else {
        format!("{}/{}", hex(value), hex(mask))
    }
}

/// Writes a value under a mask, in the field's own width.
pub(super) fn format(info: &FieldInfo, value: u128, mask: u128, names: &Names) -> String {
    let full = info.full_mask();
    match info.format {
        Format::Port => names.port_text(PortNo(value as u32)),
        Format::Ethernet => {
            let mac = |n: u128| MacAddr::from_u64(n as u64);
            if mask == full {
                mac(value).to_string()
            } else {
                format!("{}/{}", mac(value), mac(mask))
            }
        }
        Format::Ipv4 => prefix(32, value, mask, |n| Ipv4Addr::from(n as u32).to_string()),
        Format::Ipv6 => prefix(128, value, mask, |n| Ipv6Addr::from(n).to_string()),
        Format::Frag => match (value & 3, mask & 3) {
            (0, 3) => "no",
            (1, 3) => "first",
            (3, 3) => "later",
            (0, 1) => "no",
            (_, 1) => "yes",
            (0, 2) => "not_later",
            (_, 2) => "later",
            _ => "<error>",
        }
        .into(),
        Format::TcpFlags | Format::CtState | Format::TunnelFlags => flag_text(info, value, mask),
        _ if info.id == FieldId::PacketType => {
            format!("({},{})", value >> 16, hex(value & 0xffff))
        }
        // A masked number is hard to read in decimal; Open vSwitch leaves the value decimal.
        Format::Decimal if mask == full => value.to_string(),
        Format::Decimal => format!("{value}/{}", hex(mask)),
        Format::Hex => hex_masked(value, mask, full),
    }
}

fn prefix(bits: u32, value: u128, mask: u128, one: impl Fn(u128) -> String) -> String {
    let full = if bits == 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    };
    if mask == full {
        return one(value);
    }
    let ones = mask.count_ones();
    let contiguous = mask
        == if ones == 0 {
            0
        } else {
            full & (full << (bits - ones))
        };
    if contiguous {
        format!("{}/{ones}", one(value))
    } else {
        format!("{}/{}", one(value), one(mask))
    }
}

fn flag_text(info: &FieldInfo, value: u128, mask: u128) -> String {
    let Some((names, _)) = flag_names(info.format) else {
        return hex(value);
    };
    let name = |i: u32| match names.get(i as usize) {
        Some(n) => (*n).to_string(),
        None => format!("{:#x}", 1u128 << i),
    };
    let bits = |n: u128| (0..128).filter(move |i| n & 1 << i != 0);
    let all = mask == info.full_mask() || mask == known_flags(names);
    if all && info.format != Format::TunnelFlags {
        let set: Vec<_> = bits(value).map(name).collect();
        return if set.is_empty() {
            "0".into()
        } else {
            set.join("|")
        };
    }
    bits(mask).fold(String::new(), |mut s, i| {
        let sign = if value & 1 << i != 0 { '+' } else { '-' };
        let _ = write!(s, "{sign}{}", name(i));
        s
    })
}
