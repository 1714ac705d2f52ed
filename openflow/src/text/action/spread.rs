//! `multipath(...)`, `bundle(...)` and `bundle_load(...)`.

use super::parse::atoi;
use super::{Names, Result, TextError, fail};
use crate::action::{
    Action, BUNDLE_PORTS_MAX, HashFields, Multipath, MultipathAlgorithm, Spread, Subfield,
};
use crate::text::subfield::{parse as parse_subfield, subfield_text};

const HASHES: &[(&str, HashFields)] = &[
    ("eth_src", HashFields::EthSrc),
    ("symmetric_l4", HashFields::SymmetricL4),
    ("symmetric_l3l4", HashFields::SymmetricL3L4),
    ("symmetric_l3l4+udp", HashFields::SymmetricL3L4Udp),
    ("nw_src", HashFields::NwSrc),
    ("nw_dst", HashFields::NwDst),
    ("symmetric_l3", HashFields::SymmetricL3),
];

const ALGORITHMS: &[(&str, MultipathAlgorithm)] = &[
    ("modulo_n", MultipathAlgorithm::ModuloN),
    ("hash_threshold", MultipathAlgorithm::HashThreshold),
    ("hrw", MultipathAlgorithm::Hrw),
    ("iter_hash", MultipathAlgorithm::IterHash),
];

fn by_name<T: Copy>(list: &[(&str, T)], all: &str, what: &str, name: &str) -> Result<T> {
    list.iter()
        .find(|x| x.0.eq_ignore_ascii_case(name))
        .map(|x| x.1)
        .ok_or_else(|| TextError(format!("{all}: unknown {what} `{name}'")))
}

fn name<T: PartialEq>(list: &[(&'static str, T)], v: &T) -> &'static str {
    list.iter().find(|x| x.1 == *v).map_or("<unknown>", |x| x.0)
}

fn target(all: &str, name: &str) -> Result<Subfield> {
    let s = parse_subfield(name)?;
    if crate::wire::oxm::is_experimenter(s.field) {
        return fail(format!(
            "{all}: experimenter OXM field '{name}' not supported"
        ));
    }
    Ok(s)
}

/// Takes the next word up to one of `ends`.
fn word<'a>(rest: &mut &'a str, ends: &[char]) -> Option<&'a str> {
    let s = rest.trim_start_matches(ends);
    if s.is_empty() {
        return None;
    }
    let end = s.find(ends).unwrap_or(s.len());
    *rest = s[end..].strip_prefix(ends).unwrap_or("");
    Some(&s[..end])
}

const COMMA: &[char] = &[',', ' '];

pub(super) fn parse_multipath(s: &str) -> Result<Multipath> {
    let mut rest = s;
    let words: Vec<&str> = (0..6).map_while(|_| word(&mut rest, COMMA)).collect();
    let [fields, basis, algorithm, links, arg, to] = words[..] else {
        return fail(format!("{s}: not enough arguments to multipath action"));
    };
    let fields = by_name(HASHES, s, "fields", fields)?;
    let algorithm = by_name(ALGORITHMS, s, "algorithm", algorithm)?;
    let n = atoi(links);
    if !(1..=65536).contains(&n) {
        return fail(format!("{s}: n_links {n} is not in valid range 1 to 65536"));
    }
    let target = target(s, to)?;
    if target.bits < 16 && n > 1 << target.bits {
        return fail(format!(
            "{s}: {}-bit destination field has {} possible values, less than specified n_links {n}",
            target.bits,
            1u32 << target.bits
        ));
    }
    Ok(Multipath {
        fields,
        basis: atoi(basis) as u16,
        algorithm,
        max_link: (n - 1) as u16,
        arg: atoi(arg) as u32,
        target,
    })
}

pub(super) fn multipath_text(m: &Multipath) -> String {
    format!(
        "multipath({},{},{},{},{},{})",
        name(HASHES, &m.fields),
        m.basis,
        name(ALGORITHMS, &m.algorithm),
        u32::from(m.max_link) + 1,
        m.arg,
        subfield_text(m.target)
    )
}

/// Reads a bundle's arguments, or a bundle_load's if `load`.
pub(super) fn parse_bundle(s: &str, load: bool, names: &Names) -> Result<Action> {
    let mut rest = s;
    let n = if load { 5 } else { 4 };
    let words: Vec<&str> = (0..n).map_while(|_| word(&mut rest, COMMA)).collect();
    let delimiter = word(&mut rest, &[':', ' ']);
    let (Some(delimiter), true) = (delimiter, words.len() == n) else {
        return fail(format!("{s}: not enough arguments to bundle action"));
    };
    if !["members", "slaves"].contains(&delimiter.to_ascii_lowercase().as_str()) {
        return fail(format!(
            "{s}: missing member delimiter, expected `members', got `{delimiter}'"
        ));
    }
    let mut ports = Vec::new();
    while let Some(p) = word(&mut rest, &[',', ' ', '[', ']']) {
        if ports.len() == BUNDLE_PORTS_MAX {
            break;
        }
        let port = names.port(p);
        ports.push(port.ok_or_else(|| TextError(format!("{p}: bad port number")))?);
    }
    let fields = by_name(HASHES, s, "fields", words[0])?;
    let backup = [("active_backup", true), ("hrw", false)];
    let active_backup = by_name(&backup, s, "algorithm", words[2])?;
    by_name(&[("ofport", ())], s, "member_type", words[3])?;
    let target = words.get(4).map(|to| target(s, to)).transpose()?;
    Ok(Action::Bundle(Box::new(Spread {
        fields,
        basis: atoi(words[1]) as u16,
        active_backup,
        ports,
        target,
    })))
}

pub(super) fn bundle_text(s: &Spread, names: &Names) -> String {
    let ports: Vec<String> = s.ports.iter().map(|p| names.port_text(*p)).collect();
    let (word, target) = match s.target {
        Some(t) => ("bundle_load", format!("{},", subfield_text(t))),
        None => ("bundle", String::new()),
    };
    format!(
        "{word}({},{},{},ofport,{target}members:{})",
        name(HASHES, &s.fields),
        s.basis,
        if s.active_backup {
            "active_backup"
        } else {
            "hrw"
        },
        ports.join(",")
    )
}
