//! The `ovs-ofctl` syntax, in and out.
//!
//! * `value` — field values: `10.0.0.0/8`, `+syn-ack`, `0x5/0xff`
//! * `matching` — `tcp,nw_src=10.0.0.1`, in and out, and normalization
//! * `action` — `set_field:5->reg0,resubmit(,3),output:2`, in and out; `subfield` — `reg0[0..3]`
//! * `flow` — whole flows: `priority=500,icmp,actions=drop`; lines of `dump-flows`
//! * `exact` — one packet's fields, for traces
//! * `group`, `meter`, `monitor`, `table`, `tlv` — changes of those tables, flow monitors, Geneve options
//! * `protocol` — which formats and versions can say a flow
//! * `print` — whole messages as `ovs-ofctl` prints them
//!
//! Field names, widths and formats come from [`crate::field`]. Messages of errors that a script
//! may see read as Open vSwitch's do.

mod action;
mod exact;
mod flow;
mod group;
mod matching;
mod meter;
mod monitor;
mod print;
mod protocol;
mod subfield;
mod table;
mod tlv;
mod value;

pub use action::{format_actions, format_instructions, parse_actions, parse_instructions};
pub use exact::{format_difference, format_exact_flow, format_megaflow, parse_exact_flow};
pub use flow::{
    FlowCommand, FlowLine, Sort, StatsLine, format_flow_mod, format_flow_stats, parse_flow,
    parse_flow_filter, sort_flows,
};
pub use group::{GROUP_COMMANDS, parse_group_id, parse_group_mod};
pub use matching::{format_match, normalize};
pub use meter::{parse_meter_id, parse_meter_mod};
pub use monitor::parse_flow_monitor;
pub use print::{
    Style, TableFeaturesText, dump, error_name, format_duration, format_message, format_ports,
    version_name,
};
pub use protocol::{Protocols, for_actions, for_match, usable_protocols};
pub use subfield::{parse as parse_subfield, subfield_text};
pub use table::{TableChange, parse_table_change};
pub use tlv::parse_tlv_maps;

use crate::message::PortNo;

/// What is wrong with a text, in words a user can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(pub String);

pub(crate) type Result<T, E = TextError> = std::result::Result<T, E>;

pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(TextError(message.into()))
}

/// Port and table names, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Ports by number.
    pub ports: Vec<(PortNo, String)>,
    /// Tables by number.
    pub tables: Vec<(u8, String)>,
    /// Print names where they are known (`--names`).
    pub show: bool,
    /// Write actions in the words of this version (wire number), over which they came: OpenFlow 1.0 and 1.1 have one for each
    /// field that they write (`mod_dl_src`). 0 for no version in particular.
    pub version: u8,
}

/// The reserved ports that have names in text.
const RESERVED: &[PortNo] = &[
    PortNo::IN_PORT,
    PortNo::TABLE,
    PortNo::NORMAL,
    PortNo::FLOOD,
    PortNo::ALL,
    PortNo::CONTROLLER,
    PortNo::LOCAL,
    PortNo::ANY,
    PortNo::UNSET,
];

impl Names {
    /// A port by number, reserved name or name. Numbers from 0xff00 to 0xffff are OpenFlow 1.0's
    /// reserved ports.
    pub fn port(&self, s: &str) -> Option<PortNo> {
        if let Some(n) = parse_uint(s) {
            let n = u32::try_from(n).ok()?;
            return match n {
                0..0xff00 => Some(PortNo(n)),
                0xff00..=0xffff => Some(PortNo(n | 0xffff_0000)),
                0xffff_ff00.. => Some(PortNo(n)),
                _ => None,
            };
        }
        if let Some(p) = RESERVED
            .iter()
            .find(|p| p.to_string().eq_ignore_ascii_case(s))
        {
            return Some(*p);
        }
        if s.eq_ignore_ascii_case("none") {
            return Some(PortNo::ANY);
        }
        let s = unquote(s);
        self.ports.iter().find(|p| p.1 == s).map(|p| p.0)
    }

    /// A table by number or name.
    pub fn table(&self, s: &str) -> Option<u8> {
        if let Some(n) = parse_uint(s) {
            return u8::try_from(n).ok();
        }
        let s = unquote(s);
        self.tables.iter().find(|t| t.1 == s).map(|t| t.0)
    }

    /// How a port is written.
    pub fn port_text(&self, port: PortNo) -> String {
        match self.ports.iter().find(|p| p.0 == port) {
            Some((_, name)) if self.show && !RESERVED.contains(&port) => quote(name),
            _ => port.to_string(),
        }
    }

    /// How a table is written.
    pub fn table_text(&self, table: u8) -> String {
        match self.tables.iter().find(|t| t.0 == table) {
            Some((_, name)) if self.show && !name.is_empty() => quote(name),
            _ => table.to_string(),
        }
    }
}

/// A name as it is if it cannot be mistaken for anything else, else as a JSON string.
fn quote(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED
            .iter()
            .any(|p| p.to_string().eq_ignore_ascii_case(name));
    if plain {
        name.to_string()
    } else {
        format!("{name:?}")
    }
}

fn unquote(s: &str) -> String {
    match s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => s.to_string(),
    }
}

/// A number as C's `strtoull` with base 0 reads it: `10`, `0x0a`, `012`.
pub(crate) fn parse_uint(s: &str) -> Option<u128> {
    let (digits, radix) = match s.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&s[2..], 16),
        [b'0', _, ..] => (&s[1..], 8),
        _ => (s, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u128::from_str_radix(digits, radix).ok()
}

/// A number of the width of `T`, with Open vSwitch's complaint about any other.
pub(crate) fn number<T: TryFrom<u128>>(s: &str, what: &str) -> Result<T> {
    parse_uint(s)
        .and_then(|n| T::try_from(n).ok())
        .ok_or_else(|| TextError(format!("invalid {what} \"{s}\"")))
}

/// One `key`, `key=value`, `key:value` or `key(value)` of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a str,
    /// Empty if there is none.
    pub(crate) value: &'a str,
}

/// A number of 16 bits, with Open vSwitch's complaint about any other.
///
/// # Errors
/// It is none.
pub fn parse_u16(s: &str, what: &str) -> Result<u16> {
    number(s, what)
}

/// The pairs of a list: keys with their values, which may be empty.
///
/// # Errors
/// Parentheses that do not match.
pub fn key_values(s: &str) -> Result<Vec<(&str, &str)>> {
    let (mut rest, mut out) = (s, Vec::new());
    while let Some(p) = next_pair(&mut rest)? {
        out.push((p.key, p.value));
    }
    Ok(out)
}

/// Cuts the next pair off a list separated by commas and blanks; parentheses nest.
pub(crate) fn next_pair<'a>(s: &mut &'a str) -> Result<Option<Pair<'a>>> {
    let separator = |c: char| c == ',' || c.is_ascii_whitespace();
    let text = s.trim_start_matches(separator);
    *s = text;
    if text.is_empty() {
        return Ok(None);
    }
    let end = text
        .find(|c: char| separator(c) || matches!(c, ':' | '=' | '('))
        .unwrap_or(text.len());
    let key = &text[..end];
    let delimiter = text[end..].chars().next();
    if delimiter.is_none_or(separator) {
        *s = &text[end..];
        return Ok(Some(Pair { key, value: "" }));
    }
    let rest = &text[end + 1..];
    let mut depth = usize::from(delimiter == Some('('));
    let paren = depth == 1;
    for (i, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => {
                depth -= 1;
                if paren && depth == 0 {
                    *s = &rest[i + 1..];
                    // `check_pkt_larger(1400)->reg0[0]` is one value, parenthesis and all.
                    if s.starts_with("->") {
                        let end = s.find(separator).unwrap_or(s.len());
                        *s = &s[end..];
                        let value = &rest[..i + 1 + end];
                        return Ok(Some(Pair { key, value }));
                    }
                    if s.chars().next().is_some_and(|c| !separator(c)) {
                        return fail(format!("{key}: unexpected text after \")\""));
                    }
                    return Ok(Some(Pair {
                        key,
                        value: &rest[..i],
                    }));
                }
            }
            c if depth == 0 && separator(c) => {
                *s = &rest[i..];
                return Ok(Some(Pair {
                    key,
                    value: &rest[..i],
                }));
            }
            _ => {}
        }
    }
    if depth > 0 {
        return fail(format!("{key}: unbalanced parentheses"));
    }
    *s = "";
    Ok(Some(Pair { key, value: rest }))
}
