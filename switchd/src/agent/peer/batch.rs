//! Flow-mods that arrived together.
//!
//! A controller that sends thousands of flow-mods one behind the other waits for none of them: those that are there
//! already are checked one by one and become visible together, which costs the tables a fraction. Whatever else it asks comes
//! after all of them.

use super::{Answer, Bridge, MAX_BUNDLE_MESSAGES, Peer, own_flows};
use crate::plane::Change;
use openflow::error::ErrorKind;
use openflow::wire::{self, OF10};
use openflow::{FlowMod, Message, OfError, Role};

impl Peer {
    /// Whether a flow-mod may be one of several.
    pub fn batches(&self, m: &FlowMod) -> bool {
        self.version != OF10 && m.buffer.is_none()
    }

    /// Puts a flow-mod into the open bundle it is for, which is what most messages for bundles are; gives any other
    /// message back.
    pub(super) fn bundle_flow_mod(
        &mut self,
        bridge: &Bridge,
        message: Message,
    ) -> Result<(), Message> {
        let Message::BundleAdd(id, xid, inner) = message else {
            return Err(message);
        };
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        match (self.bundles.get_mut(&id.id), *inner) {
            (Some(b), Message::FlowMod(m))
                if !b.closed && !secondary && b.mods.len() < MAX_BUNDLE_MESSAGES =>
            {
                b.mods.push((xid, own_flows(m)));
                Ok(())
            }
            (_, inner) => Err(Message::BundleAdd(id, xid, Box::new(inner))),
        }
    }

    /// Carries out flow-mods; the answers to those that failed.
    pub fn handle_flow_mods(&mut self, bridge: &Bridge, mods: Vec<(u32, FlowMod)>) -> Vec<Answer> {
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        let (xids, changes): (Vec<u32>, Vec<(u64, Change)>) = mods
            .into_iter()
            .map(|(xid, m)| (xid, (self.id, Change::Flow(own_flows(m)))))
            .unzip();
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
                let raw = match &changes[i].1 {
                    Change::Flow(m) => {
                        wire::encode(self.version, xids[i], &Message::FlowMod(m.clone()))
                    }
                    Change::Group(m) => {
                        wire::encode(self.version, xids[i], &Message::GroupMod(m.clone()))
                    }
                };
                (xids[i], self.error(&e, &raw.unwrap_or_default()))
            })
            .collect()
    }
}
