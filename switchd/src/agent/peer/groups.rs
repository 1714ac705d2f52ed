//! Groups and meters. What others change is forwarded to controllers that want it (OpenFlow 1.4.1
//! 7.4.6).

use super::Peer;
use crate::agent::{Async, Bridge, origin};
use crate::plane::Change;
use openflow::error::ErrorKind;
use openflow::{GroupMod, METER_ALL, Message, MeterMod, OfError};

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
