//! `encap(...)` and `decap(...)`.

use super::parse::u16_arg;
use super::{Result, TextError, fail};
use crate::action::Encap;
use crate::text::{next_pair, number};
use bytes::Bytes;

/// Headers that can be put on, by their packet types.
const HEADERS: &[(&str, u32)] = &[
    ("ethernet", 0),
    ("nsh", 0x0001_894f),
    ("mpls", 0x0001_8847),
    ("mpls_mc", 0x0001_8848),
];

/// The class of NSH's properties, and those: kind of metadata, option.
const NSH: u16 = 4;
const MD_TYPE: u8 = 1;
const TLV: u8 = 2;

pub(super) fn parse(arg: &str) -> Result<Encap> {
    let mut rest = arg;
    let Some(p) = next_pair(&mut rest)? else {
        return fail(format!("Missing encap hdr: {arg}"));
    };
    let Some((name, packet_type)) = HEADERS.iter().find(|h| h.0 == p.key) else {
        return fail(format!("Encap hdr not supported: {}", p.value));
    };
    let mut properties = Vec::new();
    let mut rest = p.value;
    while let Some(p) = next_pair(&mut rest)? {
        match (*name, p.key) {
            ("nsh", "md_type" | "tlv") if p.value.is_empty() => {
                return fail("Value missing for encap property");
            }
            ("nsh", "md_type") => {
                let n: u8 = number(p.value, "md_type")?;
                if !(1..=2).contains(&n) {
                    return fail("invalid md_type");
                }
                properties.push((NSH, MD_TYPE, Bytes::copy_from_slice(&[n])));
            }
            ("nsh", "tlv") => {
                let value = tlv(p.value)
                    .ok_or_else(|| TextError(format!("Invalid NSH TLV header: {}", p.value)))?;
                properties.push((NSH, TLV, value.into()));
            }
            _ => return fail(format!("Invalid property: {}", p.key)),
        }
    }
    Ok(Encap {
        packet_type: *packet_type,
        header_size: 0,
        properties,
    })
}

/// An option's bytes from `0xCLASS,TYPE,0xVALUE`: filled up to full eights.
fn tlv(s: &str) -> Option<Vec<u8>> {
    let mut parts = s.splitn(3, ',');
    let class = u16::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok()?;
    let kind: u8 = parts.next()?.parse().ok()?;
    let hex = parts.next()?.strip_prefix("0x")?;
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) || digits.len() > 250 * 2 {
        return None;
    }
    let mut value: Vec<u8> = digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect();
    let len = value.len();
    // The whole property's length has eight bits, and is eight more than this.
    if len.next_multiple_of(8) > 240 {
        return None;
    }
    value.resize(len.next_multiple_of(8), 0);
    let mut out = class.to_be_bytes().to_vec();
    out.extend([kind, len as u8]);
    out.extend(value);
    Some(out)
}

pub(super) fn text(e: &Encap) -> String {
    let name = HEADERS
        .iter()
        .find(|h| h.1 == e.packet_type)
        .map_or("UNKNOWN", |h| h.0);
    let properties: Vec<String> = e
        .properties
        .iter()
        .map(|(class, kind, v)| match (*class, *kind, &v[..]) {
            (NSH, MD_TYPE, [n, ..]) => format!("md_type={n}"),
            (NSH, TLV, [c1, c2, kind, len, value @ ..]) => {
                let value = &value[..value.len().min((*len).into())];
                let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
                format!("tlv(0x{c1:02x}{c2:02x},{kind},0x{hex})")
            }
            (class, kind, _) => format!("property({class},{kind})"),
        })
        .collect();
    if properties.is_empty() {
        format!("encap({name})")
    } else {
        format!("encap({name}({}))", properties.join(","))
    }
}

pub(super) fn parse_decap(arg: &str) -> Result<Option<u32>> {
    let mut rest = arg;
    let Some(p) = next_pair(&mut rest)? else {
        return Ok(None);
    };
    if p.key != "packet_type" {
        return fail(format!("Invalid decap argument: {}", p.key));
    }
    let mut rest = p.value;
    let mut attribute = |name: &str| match next_pair(&mut rest)? {
        Some(p) if p.key == name => u16_arg(p.value, name),
        _ => fail(format!("Missing packet_type attribute {name}")),
    };
    let (ns, kind) = (attribute("ns")?, attribute("type")?);
    Ok(Some(u32::from(ns) << 16 | u32::from(kind)).filter(|t| *t != 0xfffe))
}

pub(super) fn decap_text(packet_type: Option<u32>) -> String {
    match packet_type {
        None => "decap()".into(),
        Some(t) => {
            let kind = crate::text::matching::hex_text((t & 0xffff).into(), u64::MAX);
            format!("decap(packet_type(ns={},type={kind}))", t >> 16)
        }
    }
}
