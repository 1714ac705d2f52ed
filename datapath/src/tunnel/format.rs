//! A tunnel's headers as text, in the form of `ovs-dpctl dump-flows`.

use super::encap::Encap;
use super::outer::{IPV4, IPV6, UDP};
use super::{TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, TunnelKey, TunnelKind};
use crate::flow::each_option;
use openflow::MacAddr;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the port that all tunnels of a kind share in Open vSwitch.
pub fn system_port(kind: TunnelKind, port: u16) -> String {
    match kind {
        TunnelKind::Vxlan => format!("vxlan_sys_{port}"),
        TunnelKind::Geneve => format!("genev_sys_{port}"),
        TunnelKind::Gtpu => format!("gtpu_sys_{port}"),
        TunnelKind::Gre => "gre_sys".into(),
        TunnelKind::Erspan => "erspan_sys".into(),
    }
}

/// Its number there: the UDP port, or its name where there is none.
pub fn system_port_number(kind: TunnelKind, port: u16) -> String {
    match port {
        0 => system_port(kind, 0),
        port => port.to_string(),
    }
}

/// Geneve options, each in braces.
pub fn options(bytes: &[u8]) -> String {
    let mut s = String::new();
    for (class, kind, data) in each_option(bytes) {
        let _ = write!(s, "{{class={class:#x},type={kind:#x},len={}", data.len());
        let hex: String = data.iter().map(|b| format!("{b:02x}")).collect();
        let hex = hex.trim_start_matches('0');
        if !data.is_empty() {
            let _ = write!(s, ",0x{}", if hex.is_empty() { "0" } else { hex });
        }
        s.push('}');
    }
    s
}

/// Flags of what comes by a tunnel: those that flows can be told by, each with a sign.
pub fn flags(flags: u16) -> String {
    let sign = |flag| if flags & flag != 0 { '+' } else { '-' };
    let (df, csum, key) = (sign(TUN_DF), sign(TUN_CSUM), sign(TUN_KEY));
    let oam = if flags & TUN_OAM != 0 { "+oam" } else { "" };
    format!("flags({df}df{csum}csum{key}key{oam})")
}

/// What a packet's tunnel told, as flows are told by it: `tunnel(tun_id=0x7b,src=..,dst=..,flags(-df-csum+key))`.
pub fn key(t: &TunnelKey, list: &[u8]) -> String {
    let (src, dst) = match t.src {
        IpAddr::V4(_) => ("src", "dst"),
        IpAddr::V6(_) => ("ipv6_src", "ipv6_dst"),
    };
    let mut s = format!("tunnel(tun_id={:#x},{src}={},{dst}={},", t.id, t.src, t.dst);
    if t.gbp_id != 0 || t.gbp_flags != 0 {
        let _ = write!(s, "vxlan(gbp(id={},flags={:#x})),", t.gbp_id, t.gbp_flags);
    }
    if !list.is_empty() {
        let _ = write!(s, "geneve({}),", options(list));
    }
    let _ = match t.erspan_version {
        0 => Ok(()),
        1 => write!(s, "erspan(ver=1,idx={:#x}),", t.erspan_index),
        v => write!(
            s,
            "erspan(ver={v},dir={},hwid={:#x}),",
            t.erspan_direction, t.erspan_hwid
        ),
    };
    if t.gtpu_message != 0 {
        let _ = write!(
            s,
            "gtpu(flags={:#x},msgtype={}),",
            t.gtpu_flags, t.gtpu_message
        );
    }
    s + &flags(t.flags) + ")"
}

/// A number in hexadecimal, 0 as it is (`%#x`).
fn alternate(n: u8) -> String {
    match n {
        0 => "0".into(),
        n => format!("{n:#x}"),
    }
}

fn u16_at(h: &[u8], at: usize) -> u16 {
    h.get(at..at + 2)
        .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

fn u32_at(h: &[u8], at: usize) -> u32 {
    u32::from(u16_at(h, at)) << 16 | u32::from(u16_at(h, at + 2))
}

fn addresses(h: &[u8]) -> Option<(String, String)> {
    if h.first()? >> 4 == 4 {
        let ip = |at| Ipv4Addr::from(u32_at(h, at)).to_string();
        return Some((ip(12), ip(16)));
    }
    let ip = |at: usize| {
        let bytes: [u8; 16] = h.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes).to_string())
    };
    Some((ip(8)?, ip(24)?))
}

/// The headers that packets get, as `header(...)`; those of a packet for a socket of the host as `tunnel(...)`.
pub fn header(encap: &Encap) -> String {
    let all = encap.header();
    let ip = &all[encap.ip_offset()..];
    let v6 = ip.first().is_some_and(|b| b >> 4 == 6);
    let (src, dst) = addresses(ip).unwrap_or_default();
    let behind = &all[encap.transport_offset()..];
    if encap.ip_offset() == 0 {
        return socket(encap, ip, &dst, behind);
    }
    let mac = |at: usize| {
        let bytes: [u8; 6] = all[at..at + 6].try_into().unwrap_or_default();
        MacAddr(bytes)
    };
    let kind = match (encap.kind(), v6) {
        (TunnelKind::Gre, false) => 3,
        (TunnelKind::Vxlan, _) => 4,
        (TunnelKind::Geneve, _) => 5,
        (TunnelKind::Erspan, false) => 107,
        (TunnelKind::Erspan, true) => 108,
        (TunnelKind::Gre, true) => 109,
        (TunnelKind::Gtpu, _) => 110,
    };
    let mut s = format!(
        "header(size={},type={kind},eth(dst={},src={},dl_type={:#06x}),",
        all.len(),
        mac(0),
        mac(6),
        u16_at(all, 12)
    );
    let _ = if v6 {
        let first = u32_at(ip, 0);
        write!(
            s,
            "ipv6(src={src},dst={dst},label={},proto={},tclass={:#x},hlimit={}),",
            first & 0xf_ffff,
            ip[6],
            first >> 20 & 0xff,
            ip[7]
        )
    } else {
        write!(
            s,
            "ipv4(src={src},dst={dst},proto={},tos={},ttl={},frag={:#x}),",
            ip[9],
            alternate(ip[1]),
            ip[8],
            u16_at(ip, 6)
        )
    };
    if encap.kind().udp_port().is_some() {
        let csum = if encap.has_checksum() { 0xffff } else { 0 };
        let _ = write!(s, "udp(src=0,dst={},csum={csum:#x}),", u16_at(behind, 2));
    }
    s.push_str(&tunnel(encap.kind(), behind));
    s.push(')');
    s
}

/// The tunnel's own header; `behind` is what is behind the IP header.
fn tunnel(kind: TunnelKind, behind: &[u8]) -> String {
    let h = behind.get(UDP..).unwrap_or(&[]);
    match kind {
        TunnelKind::Vxlan => {
            format!(
                "vxlan(flags={:#x},vni={:#x})",
                u32_at(h, 0),
                u32_at(h, 4) >> 8
            )
        }
        TunnelKind::Geneve => {
            let bits = h.get(1).copied().unwrap_or(0);
            let oam = if bits & 0x80 != 0 { "oam," } else { "" };
            let critical = if bits & 0x40 != 0 { "crit," } else { "" };
            let list = match options(h.get(8..).unwrap_or(&[])) {
                list if list.is_empty() => list,
                list => format!(",options({list})"),
            };
            format!("geneve({oam}{critical}vni={:#x}{list})", u32_at(h, 4) >> 8)
        }
        TunnelKind::Gtpu => {
            let (flags, message) = (h.first().unwrap_or(&0), h.get(1).unwrap_or(&0));
            format!(
                "gtpu(flags={flags:#x},msgtype={message},teid={:#x})",
                u32_at(h, 4)
            )
        }
        TunnelKind::Gre => {
            let flags = u16_at(behind, 0);
            let mut s = format!("gre((flags={flags:#x},proto={:#x})", u16_at(behind, 2));
            let mut at = 4;
            for (bit, name) in [(0x8000, "csum"), (0x2000, "key"), (0x1000, "seq")] {
                if flags & bit != 0 {
                    let _ = write!(s, ",{name}={:#x}", u32_at(behind, at));
                    at += 4;
                }
            }
            s + ")"
        }
        TunnelKind::Erspan => {
            let h = behind.get(8..).unwrap_or(&[]);
            let session = u16_at(h, 2) & 0x3ff;
            if u16_at(h, 0) >> 12 == 1 {
                return format!("erspan(ver=1,sid={session:#x},idx={:#x})", u32_at(h, 4));
            }
            let last = u16_at(h, 10);
            format!(
                "erspan(ver=2,sid={session:#x},dir={},hwid={:#x})",
                last >> 3 & 1,
                last >> 4 & 0x3f
            )
        }
    }
}

/// What a socket of the host is told.
fn socket(encap: &Encap, ip: &[u8], dst: &str, behind: &[u8]) -> String {
    let v6 = ip.len() >= IPV6 && ip[0] >> 4 == 6;
    let (tos, ttl) = match v6 {
        true => ((u32_at(ip, 0) >> 20) as u8, ip[7]),
        false if ip.len() >= IPV4 => (ip[1], ip[8]),
        false => (0, 0),
    };
    let h = behind.get(UDP..).unwrap_or(&[]);
    let (id, keyed) = match encap.kind() {
        TunnelKind::Vxlan | TunnelKind::Geneve => (u32_at(h, 4) >> 8, true),
        TunnelKind::Gtpu => (u32_at(h, 4), true),
        TunnelKind::Erspan => (u32::from(u16_at(behind, 10) & 0x3ff), true),
        TunnelKind::Gre => {
            let at = if u16_at(behind, 0) & 0x8000 != 0 {
                8
            } else {
                4
            };
            let keyed = u16_at(behind, 0) & 0x2000 != 0;
            (if keyed { u32_at(behind, at) } else { 0 }, keyed)
        }
    };
    let mut s = String::from("tunnel(");
    if keyed {
        let _ = write!(s, "tun_id={id:#x},");
    }
    let name = if v6 { "ipv6_dst" } else { "dst" };
    let _ = write!(s, "{name}={dst},");
    if tos != 0 {
        let _ = write!(s, "tos={tos:#x},");
    }
    let _ = write!(s, "ttl={ttl},");
    if encap.kind().udp_port().is_some() {
        let _ = write!(s, "tp_dst={},", u16_at(behind, 2));
    }
    if encap.kind() == TunnelKind::Geneve {
        let list = options(h.get(8..).unwrap_or(&[]));
        if !list.is_empty() {
            let _ = write!(s, "geneve({list}),");
        }
    }
    let flags = [
        (!v6 && u16_at(ip, 6) & 0x4000 != 0, "df"),
        (encap.has_checksum(), "csum"),
        (keyed, "key"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
    let _ = write!(s, "flags({}))", flags.join("|"));
    s
}
