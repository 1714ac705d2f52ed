//! Mirrors.

use super::Datapath;
use crate::bridge::BridgeState;
use crate::config::BridgeId;
use crate::mirror::Mirrors;

impl Datapath {
    /// Packets that a mirror selected, and their bytes as they came in, exact; none if its target is not there.
    pub fn mirror_stats(&self, bridge: BridgeId, id: u128) -> Option<(u64, u64)> {
        self.flush();
        let state = self.bridge(bridge)?.state.load_full();
        Some(state.mirrors.counters(id)?.get())
    }

    /// The mirrors of a bridge with other mirrors or ports.
    pub(super) fn resolve_mirrors(&self, s: &mut BridgeState) {
        let world = self.inner.world.load();
        s.mirrors = Mirrors::resolve(&s.config.mirrors, &s.ports, &world, &s.mirrors);
    }
}
