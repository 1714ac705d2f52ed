//! Flow-mods that arrived together.
//!
//! A controller that sends thousands of flow-mods one behind the other waits for none of them: those that are there
//! already are checked one by one and become visible together, which costs the tables a fraction. Whatever else it asks comes
//! after all of them.

use super::{Answer, Bridge, Peer, error};
use crate::agent::origin;
use bytes::Bytes;
use openflow::error::ErrorKind;
use openflow::{FlowMod, OfError, Role};

impl Peer {
    /// Whether a flow-mod may be one of several: a packet that waits for it has to see it by itself.
    pub fn batches(&self, m: &FlowMod) -> bool {
        m.buffer.is_none()
    }

    /// Carries out flow-mods, each with its transaction id and its bytes; the answers to those that failed.
    pub fn handle_flow_mods(
        &mut self,
        bridge: &Bridge,
        mods: Vec<(u32, Bytes, FlowMod)>,
    ) -> Vec<Answer> {
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        let mut refused = Vec::new();
        let mut sources = Vec::with_capacity(mods.len());
        let mut changes = Vec::with_capacity(mods.len());
        for (xid, raw, m) in mods {
            let change = if secondary {
                Err(OfError::new(
                    ErrorKind::IsSlave,
                    "a secondary controller may only read",
                ))
            } else {
                self.own_change(bridge, m).map_err(|(_, e)| e)
            };
            match change {
                Ok(change) => {
                    sources.push((xid, raw));
                    changes.push((origin(self.id, xid), change));
                }
                Err(e) => refused.push((xid, raw, e)),
            }
        }
        if !changes.is_empty() {
            let failed = bridge.change_each(&changes);
            refused.extend(failed.into_iter().map(|(i, e)| {
                let (xid, raw) = &sources[i];
                (*xid, raw.clone(), e)
            }));
        }
        refused
            .into_iter()
            .map(|(xid, raw, e)| {
                tracing::debug!("{}: refused: {e}", bridge.name());
                (xid, error(&e, &raw))
            })
            .collect()
    }
}
