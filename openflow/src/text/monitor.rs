//! Flow monitors in text: what `ovs-ofctl monitor SWITCH watch:...` asks for.

use super::matching::parse_pair;
use super::{Names, Result, TextError, fail, next_pair, number};
use crate::matching::Match;
use crate::message::{FlowMonitorCommand, FlowMonitorRequest, PortNo, TABLE_ALL};

/// `OFPFMF_*` by what `watch:` calls them, with how they are printed.
const FLAGS: &[(u16, &str, &str)] = &[
    (1, "!initial", "initial"),
    (2, "!add", "add"),
    (4, "!delete", "delete"),
    (8, "!modify", "modify"),
    (16, "!actions", "actions"),
    (64, "!own", "own"),
];

/// The flags as a request says them; `own` is on unless the own changes are to be abbreviated.
pub(super) fn format_flags(flags: u16) -> String {
    let on: Vec<&str> = FLAGS
        .iter()
        .filter(|f| flags & f.0 != 0)
        .map(|f| f.2)
        .collect();
    if on.is_empty() {
        "0".into()
    } else {
        on.join(",")
    }
}

/// Reads what follows `watch:`.
///
/// # Errors
/// What is wrong with which part, as Open vSwitch says it.
pub fn parse_flow_monitor(s: &str, id: u32, names: &Names) -> Result<FlowMonitorRequest> {
    let mut r = FlowMonitorRequest {
        id,
        command: FlowMonitorCommand::Add,
        flags: FLAGS.iter().fold(0, |all, f| all | f.0),
        table: TABLE_ALL,
        out_port: PortNo::ANY,
        out_group: None,
        matching: Match::new(),
    };
    let mut rest = s;
    while let Some(p) = next_pair(&mut rest)? {
        if let Some(flag) = FLAGS.iter().find(|f| f.1 == p.key) {
            r.flags &= !flag.0;
            continue;
        }
        if parse_pair(&mut r.matching, p.key, p.value, names)? {
            continue;
        }
        let v = p.value;
        if v.is_empty() {
            return fail(format!("{s}: field {} missing value", p.key));
        }
        match p.key {
            "table" => {
                let table = names.table(v);
                r.table = table.ok_or_else(|| TextError(format!("unknown table \"{v}\"")))?;
            }
            "out_port" => {
                let port = names.port(v);
                r.out_port = port.ok_or_else(|| TextError(format!("{v}: unknown port")))?;
            }
            "out_group" => r.out_group = Some(number(v, "out_group")?),
            key => return fail(format!("{s}: unknown keyword {key}")),
        }
    }
    Ok(r)
}
