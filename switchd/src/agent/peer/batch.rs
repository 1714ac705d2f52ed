//! Flow-mods that arrived together.
//!
//! A controller that sends thousands of flow-mods one behind the other waits for none of them: those that are there
//! already are checked one by one and become visible together, which costs the tables a fraction. Whatever else it asks comes
//! after all of them.

use super::{Answer, Bridge, Peer, error, flows};
use crate::agent::{origin, tlv};
use crate::plane::Change;
use bytes::Bytes;
use openflow::error::ErrorKind;
use openflow::{FlowMod, OfError, Role};

impl Peer {
    /// Whether a flow-mod may be one of several: in OpenFlow 1.0 and 1.1 what it means depends on the flows that are there.
    pub fn batches(&self, m: &FlowMod) -> bool {
        self.version > 2 && m.buffer.is_none() && !tlv::uses_options(m)
    }

    /// Carries out flow-mods, each with its transaction id and its bytes; the answers to those that failed.
    pub fn handle_flow_mods(
        &mut self,
        bridge: &Bridge,
        mods: Vec<(u32, Bytes, FlowMod)>,
    ) -> Vec<Answer> {
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        let mut sources = Vec::with_capacity(mods.len());
        let mut changes = Vec::with_capacity(mods.len());
        for (xid, raw, m) in mods {
            sources.push((xid, raw));
            changes.push((origin(self.id, xid), Change::Flow(flows::own(m))));
        }
        let failed = if secondary {
            let error = || OfError::new(ErrorKind::IsSlave, "a secondary controller may only read");
            (0..changes.len()).map(|i| (i, error())).collect()
        } else {
            bridge.plane().changes(bridge.name(), &changes)
        };
        failed
            .into_iter()
            .map(|(i, e)| {
                tracing::debug!("{}: refused: {e}", bridge.name());
                let (xid, raw) = &sources[i];
                (*xid, error(&e, raw))
            })
            .collect()
    }
}
