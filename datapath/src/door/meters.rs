//! Meters.

use super::{Datapath, no_bridge};
use crate::config::*;
use crate::meter;
use openflow::error::ErrorKind;
use openflow::{MeterConfig, MeterFeatures, MeterMod, MeterStats, OfError};

impl Datapath {
    /// Changes meters (OpenFlow 1.3.5 7.3.4.5), as seen by every batch of packets that begins when it returns. The flows of a
    /// meter that is deleted go with it.
    ///
    /// # Errors
    /// What the specification has for it; then nothing was changed.
    pub fn meter_mod(&self, bridge: BridgeId, m: &MeterMod) -> Result<(), OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::MeterModUnknown, bridge))?;
        let now = self.now();
        self.update_telling(&b, now, |s, effects| s.tables.apply_meter(m, now, effects))
    }

    /// Counters of a meter, or of all ([`METER_ALL`](openflow::METER_ALL)). None for a meter that is not there.
    pub fn meter_stats(&self, bridge: BridgeId, meter: u32) -> Vec<MeterStats> {
        let now = self.now();
        let b = self.bridge(bridge);
        b.map_or_else(Vec::new, |b| b.state.load().tables.meter_stats(meter, now))
    }

    /// A meter, or all, as set up.
    pub fn meter_config(&self, bridge: BridgeId, meter: u32) -> Vec<MeterConfig> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        let meters = b.state.load().tables.meters.list(meter);
        meters.iter().map(|m| m.config.clone()).collect()
    }

    /// What meters there can be.
    pub fn meter_features(&self) -> MeterFeatures {
        meter::features()
    }
}
