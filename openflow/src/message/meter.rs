//! Meters and their bands.

use std::time::Duration;

/// What to do with a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum MeterModCommand {
    Add,
    Modify,
    Delete,
}

/// What a meter band does with what exceeds its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterBandKind {
    /// Drops it.
    Drop,
    /// Raises its drop precedence by this many levels.
    DscpRemark(u8),
}

/// One band of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterBand {
    /// What it does.
    pub kind: MeterBandKind,
    /// kbit/s, or packets per second with `OFPMF_PKTPS`.
    pub rate: u32,
    /// kbit or packets.
    pub burst: u32,
}

/// Meter number that stands for all meters.
pub const METER_ALL: u32 = 0xffff_ffff;

/// A change of the meter table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterModCommand,
    /// Which meter and how.
    pub config: MeterConfig,
}

/// A meter as it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterConfig {
    /// Which, or [`METER_ALL`] for deletes.
    pub meter: u32,
    /// `OFPMF_*` bits: 1 kbit/s, 2 packets/s, 4 burst, 8 statistics.
    pub flags: u16,
    /// Its bands.
    pub bands: Vec<MeterBand>,
}

/// A meter's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Which.
    pub meter: u32,
    /// Flows that use it.
    pub flows: u32,
    /// Packets that went through.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time since it was added.
    pub duration: Duration,
    /// Packets and bytes that exceeded each band.
    pub bands: Vec<(u64, u64)>,
}

/// What meters a switch can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterFeatures {
    /// How many.
    pub max_meters: u32,
    /// Bit per band type (1 drop, 2 remark).
    pub band_types: u32,
    /// `OFPMF_*` bits.
    pub capabilities: u32,
    /// Bands in one meter.
    pub max_bands: u8,
    /// Colour value.
    pub max_color: u8,
    /// `OFPMFF_*`: where a meter action may stand (1.5).
    pub features: u32,
}
