//! Groups and meters. What others change is forwarded to controllers that want it (OpenFlow 1.4.1
//! 7.4.6).

use super::{ACTIONS_10, Peer};
use crate::agent::{Async, Bridge, origin};
use crate::plane::Change;
use openflow::error::ErrorKind;
use openflow::wire::{OF10, OF11, OF12};
use openflow::{GroupFeatures, GroupMod, METER_ALL, Message, MeterMod, OfError};

/// Action types of OpenFlow 1.1, `OFPAT_OUTPUT` to `OFPAT_DEC_NW_TTL`.
const ACTIONS_11: u32 = (1 << 25) - 1;
/// Those that set a field, which became set-field: tags, addresses, ports, and labels.
const SETTERS_11: u32 = 0b11_1111_1111 << 1 | 0b11 << 13;
/// Action types of OpenFlow 1.2, which brought set-field.
const ACTIONS_12: u32 = (1 << 26) - 1;

/// The reserved meters `OFPM_SLOWPATH` and `OFPM_CONTROLLER`, below [`METER_ALL`].
const METER_SLOWPATH: u32 = 0xffff_fffd;

impl Peer {
    /// Changes groups.
    pub(super) fn group_mod(
        &mut self,
        bridge: &Bridge,
        xid: u32,
        g: GroupMod,
    ) -> Result<(), OfError> {
        bridge
            .change(&[Change::Group(g.clone())], origin(self.id, xid))
            .map_err(|(_, e)| e)?;
        self.forward(bridge, xid, Message::GroupMod(g));
        Ok(())
    }

    /// Changes meters.
    pub(super) fn meter_mod(
        &mut self,
        bridge: &Bridge,
        xid: u32,
        m: MeterMod,
    ) -> Result<(), OfError> {
        bridge.plane().meter_mod(bridge.name(), &m)?;
        self.forward(bridge, xid, Message::MeterMod(m));
        Ok(())
    }

    /// Shows other controllers a change that was made.
    pub(super) fn forward(&self, bridge: &Bridge, xid: u32, message: Message) {
        bridge.publish(Async::Forward {
            from: self.id,
            xid,
            message,
        });
    }
}

/// What groups there can be, with the numbers that `version` has for actions.
pub(super) fn features(features: GroupFeatures, version: u8) -> GroupFeatures {
    let actions = features.actions.map(|actions| match version {
        OF10 => ACTIONS_10,
        // Fields have actions each; set-field and PBB come later.
        OF11 => actions & ACTIONS_11 | SETTERS_11,
        OF12 => actions & ACTIONS_12,
        _ => actions,
    });
    GroupFeatures {
        actions,
        ..features
    }
}

/// What was found of the meters asked for: one that is named has to be there.
pub(super) fn meter<T>(asked: u32, found: Vec<T>) -> Result<Vec<T>, OfError> {
    if found.is_empty() && asked != METER_ALL {
        let kind = match asked {
            0 => ErrorKind::InvalidMeter,
            // Reserved ones may be there or not.
            m if m >= METER_SLOWPATH => return Ok(found),
            _ => ErrorKind::UnknownMeter,
        };
        return Err(OfError::new(kind, format!("there is no meter {asked}")));
    }
    Ok(found)
}
