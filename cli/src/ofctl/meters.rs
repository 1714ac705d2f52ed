//! Meters: shown, added, changed, deleted.

use super::{Options, flows, names};
use anyhow::Result;
use openflow::text::{Protocols, parse_meter_id, parse_meter_mod};
use openflow::{METER_ALL, Message, MeterConfig, MeterMod, MeterModCommand, MultipartRequest};

fn usable() -> Protocols {
    Protocols::from_version_up(openflow::wire::OF13)
}

/// `add-meter`, `mod-meter`, `del-meters`.
pub fn change_meter(o: &Options, a: &[&str], command: MeterModCommand) -> Result<()> {
    let m = match a.get(1) {
        Some(text) => parse_meter_mod(text, command)?,
        None => MeterMod {
            command,
            config: MeterConfig {
                meter: METER_ALL,
                flags: 0,
                bands: Vec::new(),
            },
        },
    };
    let mut conn = flows::open_for(o, a[0], usable())?;
    let names = names::shown(o, a[0])?;
    conn.change(&[Message::MeterMod(m)], &o.style(&names, 2))
}

/// `dump-meters`, `meter-stats` and `meter-features`: `q` makes the request about a meter.
pub fn show(o: &Options, a: &[&str], q: fn(u32) -> MultipartRequest) -> Result<()> {
    let meter = match a.get(1) {
        Some(text) => parse_meter_id(text)?,
        None => METER_ALL,
    };
    let mut conn = flows::open_for(o, a[0], usable())?;
    let names = names::shown(o, a[0])?;
    conn.show(&Message::MultipartRequest(q(meter)), &o.style(&names, 1))
}
