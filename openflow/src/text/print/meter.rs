//! Meters.

use super::{bits, format_duration};
use crate::error::ErrorKind;
use crate::message::{
    METER_ALL, MeterBandKind, MeterConfig, MeterFeatures, MeterMod, MeterModCommand, MeterStats,
};
use std::fmt::{Result, Write};

/// `OFPMF_*` by name.
pub(in crate::text) const FLAGS: &[(u32, &str)] =
    &[(1, "kbps"), (2, "pktps"), (4, "burst"), (8, "stats")];

/// `OFPMF_BURST`.
pub(in crate::text) const BURST: u16 = 4;

/// Meters with names (OpenFlow 1.3.5 7.3.4.4).
pub(in crate::text) const NAMED: &[(u32, &str)] = &[
    (METER_ALL, "all"),
    (0xffff_fffe, "controller"),
    (0xffff_fffd, "slowpath"),
];

pub(super) fn number(n: u32) -> String {
    match NAMED.iter().find(|m| m.0 == n) {
        Some((_, name)) => (*name).into(),
        None => n.to_string(),
    }
}

/// What makes a meter impossible.
pub(super) fn flaw(m: &MeterMod) -> Option<ErrorKind> {
    // kbit/s and packets/s at once.
    let both = m.config.flags & 3 == 3 && m.command != MeterModCommand::Delete;
    both.then_some(ErrorKind::BadMeterFlags)
}

pub(super) fn meter_mod(w: &mut String, m: &MeterMod) -> Result {
    let command = match m.command {
        MeterModCommand::Add => "ADD",
        MeterModCommand::Modify => "MOD",
        MeterModCommand::Delete => "DEL",
    };
    write!(w, " {command} {}", config(&m.config))
}

/// A meter as it was set up, its bands in lines of their own.
pub(super) fn config(m: &MeterConfig) -> String {
    let mut s = format!("meter={} ", number(m.meter));
    if m.flags != 0 {
        let known = bits(u32::from(m.flags) & 0xf, FLAGS);
        let _ = match m.flags & !0xf {
            0 => write!(s, "{known} "),
            n if m.flags & 0xf == 0 => write!(s, "flags:{n:#x} "),
            n => write!(s, "{known} flags:{n:#x} "),
        };
    }
    s.push_str("bands=");
    for b in &m.bands {
        let kind = match b.kind {
            MeterBandKind::Drop => "drop",
            MeterBandKind::DscpRemark(_) => "dscp_remark",
        };
        let _ = write!(s, "\ntype={kind} rate={}", b.rate);
        if m.flags & BURST != 0 {
            let _ = write!(s, " burst_size={}", b.burst);
        }
        if let MeterBandKind::DscpRemark(level) = b.kind {
            let _ = write!(s, " prec_level={level}");
        }
    }
    s.push('\n');
    s
}

pub(super) fn stats(w: &mut String, m: &MeterStats) -> Result {
    let (id, duration) = (number(m.meter), format_duration(m.duration));
    write!(
        w,
        "\nmeter:{id} flow_count:{} packet_in_count:{} ",
        m.flows, m.packets
    )?;
    writeln!(w, "byte_in_count:{} duration:{duration} bands:", m.bytes)?;
    for (i, (packets, bytes)) in m.bands.iter().enumerate() {
        writeln!(w, "{i}: packet_count:{packets} byte_count:{bytes}")?;
    }
    Ok(())
}

pub(super) fn features(w: &mut String, f: &MeterFeatures) -> Result {
    let (meters, bands, color) = (f.max_meters, f.max_bands, f.max_color);
    writeln!(
        w,
        "\nmax_meter:{meters} max_bands:{bands} max_color:{color}"
    )?;
    let kinds = bits(f.band_types, &[(2, "drop"), (4, "dscp_remark")]);
    writeln!(
        w,
        "band_types: {kinds}\ncapabilities: {}",
        bits(f.capabilities, FLAGS)
    )
}
