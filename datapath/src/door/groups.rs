//! Groups.

use super::{Datapath, no_bridge};
use crate::config::*;
use crate::group;
use openflow::error::ErrorKind;
use openflow::{GroupDesc, GroupFeatures, GroupMod, GroupStats, OfError};

impl Datapath {
    /// Changes groups (OpenFlow 1.3.5 7.3.4.4), as seen by every batch of packets that begins when it returns. The flows of a
    /// group that is deleted go with it.
    ///
    /// # Errors
    /// What the specification has for it; then nothing was changed.
    pub fn group_mod(&self, bridge: BridgeId, m: &GroupMod) -> Result<(), OfError> {
        if self.bridge(bridge).is_none() {
            return Err(no_bridge(ErrorKind::UnknownGroup, bridge));
        }
        let change = (0, Change::Group(m.clone()));
        match self.changes(bridge, &[change]).pop() {
            Some((_, e)) => Err(e),
            None => Ok(()),
        }
    }

    /// Counters of a group, or of all ([`GROUP_ALL`](openflow::GROUP_ALL)), exact. None for a group that is not there.
    pub fn group_stats(&self, bridge: BridgeId, group: u32) -> Vec<GroupStats> {
        self.flush();
        let now = self.now();
        let b = self.bridge(bridge);
        b.map_or_else(Vec::new, |b| b.state.load().tables.group_stats(group, now))
    }

    /// A group, or all, as set up.
    pub fn group_desc(&self, bridge: BridgeId, group: u32) -> Vec<GroupDesc> {
        let b = self.bridge(bridge);
        b.map_or_else(Vec::new, |b| b.state.load().tables.groups.desc(group))
    }

    /// What groups there can be.
    pub fn group_features(&self) -> GroupFeatures {
        group::features()
    }
}
