//! Meters: changes, descriptions, counters and features (1.3.5 7.3.4.4, 7.3.5.12 to 7.3.5.14).

use super::{err, pair, put_pairs, read_all};
use crate::error::{ErrorKind, OfError};
use crate::message::*;
use crate::wire::codes::{METER_COMMANDS, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{OF15, sized};

pub(super) fn read_mod(r: &mut Reader<'_>) -> Result<MeterMod, OfError> {
    let command = r.u16()?.into();
    let command = named(
        METER_COMMANDS,
        command,
        ErrorKind::BadMeterCommand,
        "meter command",
    )?;
    Ok(MeterMod {
        command,
        config: read_config_body(r)?,
    })
}

pub(super) fn put_mod(w: &mut Writer, m: &MeterMod) {
    w.u16(number(METER_COMMANDS, &m.command).into());
    put_config_body(w, &m.config);
}

fn read_config_body(r: &mut Reader<'_>) -> Result<MeterConfig, OfError> {
    Ok(MeterConfig {
        flags: r.u16()?,
        meter: r.u32()?,
        bands: read_all(r, read_band)?,
    })
}

fn put_config_body(w: &mut Writer, m: &MeterConfig) {
    w.u16(m.flags);
    w.u32(m.meter);
    for b in &m.bands {
        put_band(w, b);
    }
}

pub(super) fn read_config(r: &mut Reader<'_>) -> Result<MeterConfig, OfError> {
    read_config_body(&mut sized(r, 8)?)
}

pub(super) fn put_config(w: &mut Writer, m: &MeterConfig) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    put_config_body(w, m);
    w.set_len(start, start)
}

fn read_band(r: &mut Reader<'_>) -> Result<MeterBand, OfError> {
    let (kind, whole, mut b) = r.tlv(16, 1)?;
    let (rate, burst) = (b.u32()?, b.u32()?);
    let kind = match kind {
        1 => MeterBandKind::Drop,
        2 => MeterBandKind::DscpRemark(b.u8()?),
        n => {
            return err(
                ErrorKind::BadBand,
                format!("meter band type {n} is not known"),
            );
        }
    };
    if whole.len() != 16 {
        return err(
            ErrorKind::BadLen,
            format!("a meter band has {} bytes, 16 are right", whole.len()),
        );
    }
    Ok(MeterBand { kind, rate, burst })
}

fn put_band(w: &mut Writer, b: &MeterBand) {
    let (kind, level) = match b.kind {
        MeterBandKind::Drop => (1, 0),
        MeterBandKind::DscpRemark(level) => (2, level),
    };
    w.u16(kind);
    w.u16(16);
    w.u32(b.rate);
    w.u32(b.burst);
    w.u8(level);
    w.zeros(3);
}

pub(super) fn read_stats(r: &mut Reader<'_>) -> Result<MeterStats, OfError> {
    let mut look = r.clone();
    look.skip(4)?;
    let len = usize::from(look.u16()?);
    let mut e = r.sub(len, ErrorKind::BadLen)?;
    let meter = e.u32()?;
    e.skip(8)?;
    Ok(MeterStats {
        meter,
        flows: e.u32()?,
        packets: e.u64()?,
        bytes: e.u64()?,
        duration: e.duration()?,
        bands: read_all(&mut e, pair)?,
    })
}

pub(super) fn put_stats(w: &mut Writer, m: &MeterStats) -> Result<(), OfError> {
    let start = w.len();
    w.u32(m.meter);
    w.zeros(8);
    w.u32(m.flows);
    w.u64(m.packets);
    w.u64(m.bytes);
    w.duration(m.duration);
    put_pairs(w, &m.bands);
    w.set_len(start + 4, start)
}

pub(super) fn read_features(r: &mut Reader<'_>, version: u8) -> Result<MeterFeatures, OfError> {
    let mut f = MeterFeatures {
        max_meters: r.u32()?,
        band_types: r.u32()?,
        capabilities: r.u32()?,
        max_bands: r.u8()?,
        max_color: r.u8()?,
        features: 0,
    };
    r.skip(2)?;
    // Open vSwitch has the older form in 1.5 too.
    if version >= OF15 && !r.is_empty() {
        f.features = r.u32()?;
        r.skip(4)?;
    }
    Ok(f)
}

pub(super) fn put_features(w: &mut Writer, f: &MeterFeatures, version: u8) {
    w.u32(f.max_meters);
    w.u32(f.band_types);
    w.u32(f.capabilities);
    w.u8(f.max_bands);
    w.u8(f.max_color);
    w.zeros(2);
    if version >= OF15 {
        w.u32(f.features);
        w.zeros(4);
    }
}
