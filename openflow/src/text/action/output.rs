//! Reading the actions that send packets somewhere: out of ports, to controllers, back into tables.

use super::parse::wide;
use super::{Names, Result, TextError, fail};
use crate::action::{Action, PacketInReason};
use crate::message::PortNo;
use crate::text::subfield::parse as subfield;
use crate::text::{next_pair, number};

/// The reasons for packet-ins by their names.
pub(super) const REASONS: &[(&str, PacketInReason)] = &[
    ("no_match", PacketInReason::NoMatch),
    ("action", PacketInReason::Action),
    ("invalid_ttl", PacketInReason::InvalidTtl),
    ("action_set", PacketInReason::ActionSet),
    ("group", PacketInReason::Group),
    ("packet_out", PacketInReason::PacketOut),
];

/// Bytes of an Ethernet header: the least that an output may be cut to.
const ETH_HEADER_LEN: u32 = 14;

/// An output to a port.
pub(super) fn to_port(port: PortNo) -> Action {
    let max_len = if port == PortNo::CONTROLLER {
        u16::MAX
    } else {
        0
    };
    Action::Output { port, max_len }
}

pub(super) fn enqueue(v: &str, names: &Names) -> Result<Action> {
    let parts = v
        .split_once([':', 'q', ','])
        .filter(|p| !p.0.is_empty() && !p.1.is_empty());
    let Some((port, queue)) = parts else {
        return fail("\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"");
    };
    let Some(port) = names.port(port.trim()) else {
        return fail(format!("{port}: enqueue to unknown port"));
    };
    let queue = wide(queue.trim())?;
    Ok(Action::Enqueue { port, queue })
}

pub(super) fn output(v: &str, names: &Names) -> Result<Action> {
    if v.contains("port") && v.contains("max_len") {
        return truncated(v, names);
    }
    if let Some(port) = names.port(v) {
        return Ok(to_port(port));
    }
    match subfield(v) {
        Ok(source) => Ok(Action::OutputReg {
            source,
            max_len: u16::MAX,
        }),
        Err(_) => fail(format!("{v}: output to unknown port")),
    }
}

fn truncated(v: &str, names: &Names) -> Result<Action> {
    let (mut port, mut max_len, mut rest) = (PortNo(0), 0, v);
    while let Some(p) = next_pair(&mut rest)? {
        match p.key {
            "port" => {
                port = names.port(p.value).ok_or_else(|| {
                    TextError(format!("output to unknown truncate port: {}", p.value))
                })?;
                let usable = matches!(port, PortNo::LOCAL | PortNo::IN_PORT);
                if port.0 > 0xff00 && !usable {
                    return fail(format!("output to unsupported truncate port: {}", p.value));
                }
            }
            "max_len" => {
                max_len = wide(p.value)?;
                if max_len < ETH_HEADER_LEN {
                    return fail(format!(
                        "max_len {max_len} is less than the minimum value {ETH_HEADER_LEN}"
                    ));
                }
            }
            k => return fail(format!("invalid key '{k}' in output_trunc argument")),
        }
    }
    Ok(Action::OutputTrunc { port, max_len })
}

pub(super) fn controller(v: &str) -> Result<Action> {
    let (mut max_len, mut id, mut reason) = (u16::MAX, 0, PacketInReason::Action);
    let (mut userdata, mut pause, mut meter) = (None, false, None);
    if v.bytes().all(|b| b.is_ascii_digit()) {
        if !v.is_empty() {
            max_len = number(v, "max_len")?;
        }
    } else {
        let mut rest = v;
        while let Some(p) = next_pair(&mut rest)? {
            match p.key {
                "max_len" => max_len = number(p.value, "max_len")?,
                "id" => id = number(p.value, "id")?,
                "reason" => {
                    let r = REASONS.iter().find(|r| r.0 == p.value);
                    reason = r
                        .ok_or_else(|| TextError(format!("unknown reason \"{}\"", p.value)))?
                        .1;
                }
                "userdata" => {
                    userdata = Some(hex_bytes(p.value).ok_or_else(|| {
                        TextError("bad hex digit in `controller' action `userdata'".into())
                    })?);
                }
                "pause" => pause = true,
                "meter_id" => meter = Some(wide(p.value)?),
                k => return fail(format!("unknown key \"{k}\" parsing controller action")),
            }
        }
    }
    let plain = reason == PacketInReason::Action && id == 0 && meter.is_none();
    if plain && userdata.is_none() && !pause {
        let port = PortNo::CONTROLLER;
        return Ok(Action::Output { port, max_len });
    }
    Ok(Action::Controller {
        max_len,
        reason,
        id,
        userdata: userdata.unwrap_or_default().into(),
        pause,
        meter,
    })
}

pub(super) fn resubmit(v: &str, names: &Names) -> Result<Action> {
    let mut parts = v.split(',').map(str::trim);
    let mut part = || parts.next().unwrap_or("");
    let (port, table, ct) = (part(), part(), part());
    let in_port = match port {
        "" => None,
        p => match names.port(p) {
            Some(port) => Some(port).filter(|p| *p != PortNo::IN_PORT),
            None => return fail(format!("{p}: resubmit to unknown port")),
        },
    };
    let table = match table {
        "" => None,
        t => match names.table(t) {
            Some(table) => Some(table).filter(|t| *t != 255),
            None => return fail(format!("{t}: resubmit to unknown table")),
        },
    };
    let ct = match ct {
        "" => false,
        "ct" => true,
        other => return fail(format!("{other}: unknown parameter")),
    };
    if in_port.is_none() && table.is_none() {
        return fail("at least one \"in_port\" or \"table\" must be specified on resubmit");
    }
    Ok(Action::Resubmit { in_port, table, ct })
}

/// Pairs of hex digits, which may have dots or blanks between them.
pub(super) fn hex_bytes(s: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = s
        .chars()
        .filter(|c| !matches!(c, '.' | ' ' | '\t'))
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}
