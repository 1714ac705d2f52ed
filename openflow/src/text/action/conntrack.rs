//! `ct(...)` and `nat(...)`.

use super::order::Place;
use super::parse::{actions, u16_arg};
use super::{Names, Result, TextError, fail};
use crate::action::{Action, Conntrack, ConntrackZone, Nat};
use crate::text::next_pair;
use crate::text::subfield::{parse as parse_subfield, subfield_text};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Application layer gateways by their ports.
const HELPERS: &[(&str, u16)] = &[("ftp", 21), ("tftp", 69)];

/// Reads a ct's arguments; it stands inside `depth` others.
pub(super) fn parse(arg: &str, names: &Names, depth: usize) -> Result<Conntrack> {
    let mut c = Conntrack {
        commit: false,
        force: false,
        zone: ConntrackZone::Number(0),
        table: None,
        alg: 0,
        actions: Vec::new(),
    };
    let mut rest = arg;
    while let Some(p) = next_pair(&mut rest)? {
        let v = p.value;
        match p.key {
            "commit" => c.commit = true,
            "force" => c.force = true,
            "table" => match names.table(v) {
                None => return fail(format!("unknown table {v}")),
                Some(255) => return fail("invalid table 0xff"),
                t => c.table = t,
            },
            "zone" => {
                c.zone = match u16_arg(v, "zone") {
                    Ok(n) => ConntrackZone::Number(n),
                    Err(_) => ConntrackZone::Field(parse_subfield(v)?),
                };
            }
            "alg" => {
                c.alg = HELPERS
                    .iter()
                    .find(|h| h.0 == v)
                    .ok_or_else(|| TextError(format!("invalid conntrack helper \"{v}\"")))?
                    .1;
            }
            "nat" => c.actions.push(Action::Nat(Box::new(parse_nat(v)?))),
            "exec" => c
                .actions
                .extend(actions(v, names, Place::Inside("ct"), depth + 1)?),
            k => return fail(format!("invalid argument to \"ct\" action: `{k}'")),
        }
    }
    if c.force && !c.commit {
        return fail("\"force\" flag requires \"commit\" flag.");
    }
    Ok(c)
}

pub(super) fn text(c: &Conntrack, names: &Names) -> String {
    let mut parts = Vec::new();
    if c.commit {
        parts.push("commit".to_string());
    }
    if c.force {
        parts.push("force".into());
    }
    parts.extend(c.table.map(|t| format!("table={}", names.table_text(t))));
    match c.zone {
        ConntrackZone::Number(0) => {}
        ConntrackZone::Number(n) => parts.push(format!("zone={n}")),
        ConntrackZone::Field(s) => parts.push(format!("zone={}", subfield_text(s))),
    }
    // A nat that comes first stands by itself.
    let mut inside = &c.actions[..];
    if let [Action::Nat(n), rest @ ..] = inside {
        parts.push(nat_text(n));
        inside = rest;
    }
    if !inside.is_empty() {
        parts.push(format!("exec({})", super::format_actions(inside, names)));
    }
    match HELPERS.iter().find(|h| h.1 == c.alg) {
        Some((name, _)) => parts.push(format!("alg={name}")),
        None if c.alg != 0 => parts.push(format!("alg={}", c.alg)),
        None => {}
    }
    format!("ct({})", parts.join(","))
}

pub(super) fn parse_nat(arg: &str) -> Result<Nat> {
    let mut n = Nat::default();
    let mut rest = arg;
    while let Some(p) = next_pair(&mut rest)? {
        match p.key {
            "src" | "dst" => {
                *(if p.key == "src" {
                    &mut n.src
                } else {
                    &mut n.dst
                }) = true;
                range(p.value, &mut n)?;
            }
            "persistent" => n.persistent = true,
            "hash" => n.hash = true,
            "random" => n.random = true,
            k => return fail(format!("invalid key \"{k}\" in \"nat\" argument")),
        }
    }
    if n.src && n.dst {
        return fail("May only specify one of \"src\" or \"dst\".");
    }
    if !n.src && !n.dst && (n.persistent || n.hash || n.random) {
        return fail("Flags allowed only with \"src\" or \"dst\".");
    }
    if n.hash && n.random {
        return fail("Both \"hash\" and \"random\" are not allowed.");
    }
    Ok(n)
}

/// Reads addresses and ports: `10.0.0.1-10.0.0.9:80-90`, `[fe80::1]-[fe80::9]:80`.
fn range(s: &str, n: &mut Nat) -> Result<()> {
    let invalid = || TextError(format!("invalid nat range \"{s}\""));
    n.addresses = None;
    n.ports = None;
    let mut rest = s;
    if let Some(first) = address(&mut rest) {
        let mut last = None;
        if let Some(r) = rest.strip_prefix('-') {
            rest = r;
            let a = address(&mut rest).filter(|a| a.is_ipv4() == first.is_ipv4() && *a >= first);
            last = Some(a.ok_or_else(invalid)?);
        }
        n.addresses = Some((first, last));
        if let Some(r) = rest.strip_prefix(':') {
            rest = r;
            let first = port(&mut rest).ok_or_else(invalid)?;
            let mut last = None;
            if let Some(r) = rest.strip_prefix('-') {
                rest = r;
                let p = port(&mut rest).filter(|p| *p >= first);
                last = Some(p.ok_or_else(invalid)?);
            }
            n.ports = Some((first, last)).filter(|p| p.0 != 0);
        }
    } else {
        // What an address could begin with counts as read.
        rest = s.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == ':');
    }
    if rest.is_empty() {
        return Ok(());
    }
    fail(format!(
        "garbage ({rest}) after nat range \"{s}\" (pos: {})",
        s.len() - rest.len()
    ))
}

/// Takes an address off the front.
fn address(s: &mut &str) -> Option<IpAddr> {
    let end = s
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(s.len());
    if let Ok(a) = s[..end].parse::<Ipv4Addr>() {
        *s = &s[end..];
        return Some(a.into());
    }
    let (text, end) = match s.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']')?;
            (&inner[..end], end + 2)
        }
        None => {
            let end = s
                .find(|c: char| !c.is_ascii_hexdigit() && !matches!(c, ':' | '.'))
                .unwrap_or(s.len());
            (&s[..end], end)
        }
    };
    let a = text.parse::<Ipv6Addr>().ok()?;
    *s = &s[end..];
    Some(a.into())
}

fn port(s: &mut &str) -> Option<u16> {
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let n = s[..end].parse().ok()?;
    *s = &s[end..];
    Some(n)
}

pub(super) fn nat_text(n: &Nat) -> String {
    if !n.src && !n.dst {
        return "nat".into();
    }
    let mut s = String::from(if n.src { "nat(src" } else { "nat(dst" });
    if let Some((first, last)) = n.addresses {
        let text = |a: IpAddr| match a {
            // With a port behind it, an address needs brackets.
            IpAddr::V6(a) if n.ports.is_some() => format!("[{a}]"),
            a => a.to_string(),
        };
        s.push('=');
        s.push_str(&text(first));
        if let Some(last) = last.filter(|l| *l != first) {
            s.push('-');
            s.push_str(&text(last));
        }
        if let Some((first, last)) = n.ports {
            s.push_str(&format!(":{first}"));
            if let Some(last) = last.filter(|l| *l != first) {
                s.push_str(&format!("-{last}"));
            }
        }
        for (on, flag) in [
            (n.persistent, ",persistent"),
            (n.hash, ",hash"),
            (n.random, ",random"),
        ] {
            if on {
                s.push_str(flag);
            }
        }
    }
    s.push(')');
    s
}
