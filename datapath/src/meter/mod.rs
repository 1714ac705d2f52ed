//! The meter table (OpenFlow 1.3.5 5.7): what a meter is, and how the table changes.
//!
//! Like the flow tables it is a value that is published whole; only what meters measure is shared by all versions of it and by
//! all forwarding threads (`rate`). A meter that is modified keeps its counters and its age; its bands begin anew
//! (OpenFlow 1.3.5 6.6).
//!
//! # What a meter measures
//!
//! Bytes are those of the frame without preamble and checksum, as in Open vSwitch's userspace datapath; a TSO frame counts
//! as the one packet it is. Time is that of the batch: the clock is not asked for packets. A packet that exceeds bands is
//! treated as the one of them with the highest rate says; it takes nothing from the bands that it exceeds. A band without
//! burst (`OFPMF_BURST`) takes a second's worth of its rate at once.
//!
//! What a remark band does to a packet is not seen by lookups in later tables: as in hardware, the meter does it where the
//! packet is, and the tables decided by the packet as it came.

pub mod rate;

pub use rate::Rate;

use crate::clock::Now;
use crate::table::Counters;
use openflow::error::ErrorKind;
use openflow::{
    METER_ALL, MeterBand, MeterBandKind, MeterConfig, MeterFeatures, MeterMod, MeterModCommand,
    MeterStats, OfError,
};
use std::sync::Arc;

/// Most meters of a bridge.
pub const METERS_MAX: usize = 65_536;
/// Most bands of a meter.
pub const BANDS_MAX: usize = 8;
/// The highest number of a real meter (`OFPM_MAX`).
const METER_MAX: u32 = 0xffff_0000;
/// The meter that packets to the slow path go through (`OFPM_SLOWPATH`).
const SLOWPATH: u32 = 0xffff_fffd;
/// The meter that packets to the controllers go through (`OFPM_CONTROLLER`).
pub const CONTROLLER: u32 = 0xffff_fffe;

const KBPS: u16 = 1;
const PKTPS: u16 = 2;
const BURST: u16 = 4;
const STATS: u16 = 8;

/// One meter.
#[derive(Debug)]
pub struct Meter {
    /// As set up.
    pub config: MeterConfig,
    /// Packets that came to it.
    pub counters: Arc<Counters>,
    /// When it was added.
    pub created: Now,
    bands: Vec<Band>,
}

#[derive(Debug)]
struct Band {
    kind: MeterBandKind,
    rate: u32,
    measure: Rate,
    /// Packets that exceeded it.
    counters: Counters,
}

impl PartialEq for Meter {
    fn eq(&self, other: &Meter) -> bool {
        std::ptr::eq(self, other)
    }
}

/// What a meter has done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
    /// It goes on, with its drop precedence raised by so many levels.
    Remark(u8),
}

impl Meter {
    fn new(config: &MeterConfig, counters: Arc<Counters>, created: Now, now: Now) -> Meter {
        let band = |b: &MeterBand| Band {
            kind: b.kind,
            rate: b.rate,
            measure: Rate::new(
                b.rate,
                match config.flags & BURST != 0 && b.burst != 0 {
                    true => b.burst,
                    false => b.rate,
                },
                now,
            ),
            counters: Counters::default(),
        };
        Meter {
            bands: config.bands.iter().map(band).collect(),
            config: config.clone(),
            counters,
            created,
        }
    }

    /// A packet of so many bytes comes to it. `now` is in nanoseconds of the datapath's clock.
    #[inline]
    pub fn pass(&self, bytes: u64, now: u64) -> Verdict {
        self.counters.add(1, bytes, now);
        let cost = match self.config.flags & PKTPS != 0 {
            true => rate::PACKET,
            false => bytes * 8 * rate::BIT,
        };
        let mut hit: Option<&Band> = None;
        for b in &self.bands {
            if !b.measure.take(cost, now) && hit.is_none_or(|h| b.rate > h.rate) {
                hit = Some(b);
            }
        }
        let Some(band) = hit else {
            return Verdict::Pass;
        };
        band.counters.add(1, bytes, now);
        match band.kind {
            MeterBandKind::Drop => Verdict::Drop,
            MeterBandKind::DscpRemark(levels) => Verdict::Remark(levels),
        }
    }

    /// Its counters; `flows` is how many flows use it.
    pub(crate) fn stats(&self, flows: u32, now: Now) -> MeterStats {
        let (packets, bytes) = self.counters.get();
        MeterStats {
            meter: self.config.meter,
            flows,
            packets,
            bytes,
            duration: now.saturating_sub(self.created),
            bands: self.bands.iter().map(|b| b.counters.get()).collect(),
        }
    }
}

/// The traffic class or TOS byte with its drop precedence raised by so many levels, as far as there are any: of the classes of
/// assured forwarding (RFC 2597), each with three; of others none is known.
pub fn remarked(tos: u8, levels: u8) -> u8 {
    let dscp = tos >> 2;
    let (class, precedence) = (dscp >> 3, dscp >> 1 & 3);
    if !(1..=4).contains(&class) || precedence == 0 || dscp & 1 != 0 {
        return tos;
    }
    let precedence = precedence.saturating_add(levels).min(3);
    (class << 3 | precedence << 1) << 2 | tos & 3
}

/// All meters of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    by_id: imbl::OrdMap<u32, Arc<Meter>>,
}

fn error<T>(kind: ErrorKind, detail: impl Into<String>) -> Result<T, OfError> {
    Err(OfError::new(kind, detail))
}

impl Meters {
    /// A meter.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&Arc<Meter>> {
        self.by_id.get(&id)
    }

    /// Those a request for `id` speaks of.
    pub(crate) fn list(&self, id: u32) -> Vec<Arc<Meter>> {
        match id {
            METER_ALL => self.by_id.values().cloned().collect(),
            id => self.get(id).into_iter().cloned().collect(),
        }
    }

    /// Carries out a change. Gives the numbers of the meters that it concerned.
    ///
    /// # Errors
    /// What the specification has for it; then nothing was changed.
    pub fn apply(&mut self, m: &MeterMod, now: Now) -> Result<Vec<u32>, OfError> {
        let id = m.config.meter;
        if m.command == MeterModCommand::Delete {
            // A meter that is not there is deleted already (OpenFlow 1.3.5 6.6).
            let gone: Vec<u32> = self.list(id).iter().map(|m| m.config.meter).collect();
            for id in &gone {
                self.by_id.remove(id);
            }
            return Ok(gone);
        }
        if (id == 0 || id > METER_MAX) && !matches!(id, CONTROLLER | SLOWPATH) {
            return error(
                ErrorKind::InvalidMeter,
                format!("Meter {id:#x}: meters are 1 to {METER_MAX:#x}, controller and slowpath"),
            );
        }
        check(&m.config)?;
        let (counters, created) = match (m.command, self.get(id)) {
            (MeterModCommand::Add, Some(_)) => {
                return error(
                    ErrorKind::MeterExists,
                    format!("Meter {id} is there already"),
                );
            }
            (MeterModCommand::Add, None) if self.by_id.len() >= METERS_MAX => {
                return error(
                    ErrorKind::OutOfMeters,
                    format!("The bridge has {METERS_MAX} meters, as many as it takes"),
                );
            }
            (MeterModCommand::Add, None) => (Arc::default(), now),
            (_, None) => {
                return error(ErrorKind::UnknownMeter, format!("There is no meter {id}"));
            }
            (_, Some(old)) => (old.counters.clone(), old.created),
        };
        let meter = Meter::new(&m.config, counters, created, now);
        self.by_id.insert(id, Arc::new(meter));
        Ok(vec![id])
    }
}

fn check(c: &MeterConfig) -> Result<(), OfError> {
    if c.flags & !(KBPS | PKTPS | BURST | STATS) != 0 {
        return error(
            ErrorKind::BadMeterFlags,
            format!("Meter flags {:#x} are not known", c.flags),
        );
    }
    if c.flags & KBPS != 0 && c.flags & PKTPS != 0 {
        return error(
            ErrorKind::BadMeterFlags,
            "A meter counts kbit/s or packets/s, not both",
        );
    }
    if c.bands.len() > BANDS_MAX {
        return error(
            ErrorKind::OutOfBands,
            format!("{} bands; at most {BANDS_MAX}", c.bands.len()),
        );
    }
    for b in &c.bands {
        if b.rate == 0 {
            return error(ErrorKind::BadRate, "A band's rate is at least 1");
        }
        if matches!(b.kind, MeterBandKind::DscpRemark(0)) {
            return error(
                ErrorKind::BadBandValue,
                "A remark band raises the drop precedence by at least 1",
            );
        }
    }
    Ok(())
}

/// What meters there can be.
pub fn features() -> MeterFeatures {
    MeterFeatures {
        max_meters: METERS_MAX as u32,
        // Bit by type: drop, and remark.
        band_types: 1 << 1 | 1 << 2,
        capabilities: (KBPS | PKTPS | BURST | STATS).into(),
        max_bands: BANDS_MAX as u8,
        max_color: 0,
        // OFPMFF_ANY_POSITION and MULTI_LIST.
        features: 2 | 4,
    }
}

#[cfg(test)]
mod tests;
