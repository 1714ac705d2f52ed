//! What is said of a switch as a whole.

use super::{Style, bits, counter, dump, error_name, port::format_ports};
use crate::error::ErrorKind;
use crate::message::{ErrorMsg, Features, Hello, IpfixStats, SwitchConfig, SwitchDesc};
use crate::wire;
use std::fmt::{Result, Write};

const CAPABILITIES: &[(u32, &str)] = &[
    (1, "FLOW_STATS"),
    (2, "TABLE_STATS"),
    (4, "PORT_STATS"),
    (8, "GROUP_STATS"),
    (0x20, "IP_REASM"),
    (0x40, "QUEUE_STATS"),
    (0x80, "ARP_MATCH_IP"),
    (0x100, "PORT_BLOCKED"),
    (0x200, "BUNDLES"),
    (0x400, "FLOW_MONITORING"),
];

/// Actions of OpenFlow 1.0's features by their bits.
pub(super) const ACTIONS_10: &[(u32, &str)] = &[
    (1 << 0, "output"),
    (1 << 11, "enqueue"),
    (1 << 1, "set_vlan_vid"),
    (1 << 2, "set_vlan_pcp"),
    (1 << 3, "strip_vlan"),
    (1 << 4, "mod_dl_src"),
    (1 << 5, "mod_dl_dst"),
    (1 << 6, "mod_nw_src"),
    (1 << 7, "mod_nw_dst"),
    (1 << 8, "mod_nw_tos"),
    (1 << 9, "mod_tp_src"),
    (1 << 10, "mod_tp_dst"),
];

pub(super) fn hello(w: &mut String, h: &Hello) -> Result {
    let versions = h.versions.unwrap_or((2 << h.version.min(30)) - 2);
    let list: Vec<_> = (0..32)
        .filter(|b| versions & 1 << b != 0)
        .map(|b| format!("{b:#04x}"))
        .collect();
    write!(w, "\n version bitmap: {}", list.join(", "))
}

pub(super) fn error(w: &mut String, e: &ErrorMsg, style: &Style<'_>) -> Result {
    writeln!(w, " {}", error_name(e.kind))?;
    if matches!(e.kind, ErrorKind::HelloIncompatible | ErrorKind::HelloEperm) {
        return writeln!(w, "{}", String::from_utf8_lossy(&e.data).escape_debug());
    }
    // Often only the first 64 bytes of what was refused come back.
    let inner = Style {
        verbosity: 1,
        ..*style
    };
    w.write_str(&inner.bytes(&e.data))
}

pub(super) fn echo(w: &mut String, data: &[u8], style: &Style<'_>) -> Result {
    writeln!(w, " {} bytes of payload", data.len())?;
    if style.verbosity > 1 {
        w.write_str(&dump(data, true))?;
    }
    Ok(())
}

pub(super) fn features(w: &mut String, f: &Features, version: u8) -> Result {
    writeln!(w, " dpid:{:016x}", f.datapath_id)?;
    write!(w, "n_tables:{}, n_buffers:{}", f.tables, f.buffers)?;
    if f.auxiliary_id != 0 {
        write!(w, ", auxiliary_id:{}", f.auxiliary_id)?;
    }
    // OpenFlow 1.0 has spanning tree where later versions have group statistics.
    let stp = [(8, "STP")];
    let capabilities: Vec<_> = match version {
        wire::OF10 => CAPABILITIES
            .iter()
            .filter(|c| c.0 != 8)
            .chain(&stp)
            .copied()
            .collect(),
        _ => CAPABILITIES.to_vec(),
    };
    writeln!(w, "\ncapabilities: {}", bits(f.capabilities, &capabilities))?;
    if version == wire::OF10 {
        writeln!(w, "actions: {}", bits(f.actions, ACTIONS_10))?;
    }
    w.write_str(&format_ports(&f.ports))
}

/// `OFPC_INVALID_TTL_TO_CONTROLLER`.
const INVALID_TTL: u16 = 4;

pub(super) fn config(w: &mut String, c: &SwitchConfig) -> Result {
    let frags = ["normal", "drop", "reassemble", "nx-match"][usize::from(c.flags & 3)];
    write!(w, " frags={frags}")?;
    if c.flags & INVALID_TTL != 0 {
        w.push_str(" invalid_ttl_to_controller");
    }
    if c.flags & !(3 | INVALID_TTL) != 0 {
        write!(
            w,
            " ***unknown flags 0x{:04x}***",
            c.flags & !(3 | INVALID_TTL)
        )?;
    }
    writeln!(w, " miss_send_len={}", c.miss_send_len)
}

pub(super) fn description(w: &mut String, d: &SwitchDesc) -> Result {
    writeln!(w, "\nManufacturer: {}", d.manufacturer)?;
    writeln!(w, "Hardware: {}\nSoftware: {}", d.hardware, d.software)?;
    writeln!(
        w,
        "Serial Num: {}\nDP Description: {}",
        d.serial, d.datapath
    )
}

/// An exporter's counters in two lines, the second indented by so many blanks.
pub(super) fn ipfix(w: &mut String, s: &IpfixStats, indent: usize) -> Result {
    let first = [
        ("flows", s.total_flows),
        ("current flows", s.current_flows),
        ("sampled pkts", s.packets),
        ("ipv4 ok", s.ipv4_packets),
        ("ipv6 ok", s.ipv6_packets),
        ("tx pkts", s.tx_packets),
    ];
    let second = [
        ("pkts errs", s.error_packets),
        ("ipv4 errs", s.ipv4_error_packets),
        ("ipv6 errs", s.ipv6_error_packets),
        ("tx errs", s.tx_errors),
    ];
    let line = |all: &[(&str, u64)]| {
        let parts: Vec<String> = all
            .iter()
            .map(|(n, c)| format!("{n}={}", counter(*c)))
            .collect();
        parts.join(", ")
    };
    writeln!(w, "{}", line(&first))?;
    writeln!(w, "{:indent$}{}", "", line(&second))
}
