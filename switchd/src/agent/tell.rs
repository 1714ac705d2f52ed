//! What a bridge's connections are told of one another, of packets, flows and ports.

use super::buffers::Waiting;
use super::{Async, Bridge, ConnId, Inner, peer};
use openflow::{FlowUpdate, OfError, PortNo, Role, RoleMsg, RoleReason};
use std::sync::{Arc, PoisonError};

/// Why a controller's status is told, `OFPCSR_*` (OpenFlow 1.5.1 7.3.5.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusReason {
    /// Somebody asked.
    Request = 0,
    /// The connection came up or went down.
    Channel = 1,
    /// Its role changed.
    Role = 2,
}

impl Bridge {
    /// Tells every connection.
    pub fn publish(&self, event: Async) {
        let mut inner = self.lock();
        let event = match event {
            Async::PacketIn {
                packet,
                max_len,
                controller_id,
                ..
            } => {
                let waiting = Waiting {
                    in_port: PortNo(peer::in_port(&packet)),
                    data: packet.data.clone(),
                };
                let buffer = inner.buffers.keep(waiting, self.now());
                Async::PacketIn {
                    packet,
                    max_len,
                    controller_id,
                    buffer,
                }
            }
            other => other,
        };
        let event = Arc::new(event);
        let mut dropped = 0;
        for s in inner.subscribers.values() {
            if s.queue.try_send(event.clone()).is_err() {
                match *event {
                    Async::PacketIn { .. } => dropped += 1,
                    _ => {
                        s.overflow.send_replace(true);
                    }
                }
            }
        }
        inner.dropped_packet_ins += dropped;
    }

    /// Tells those who watch that a flow changed.
    pub fn publish_update(&self, update: &FlowUpdate, origin: u64, version: u64) {
        let inner = self.lock();
        for (id, s) in &inner.subscribers {
            let mut monitors = s.monitors.lock().unwrap_or_else(PoisonError::into_inner);
            if monitors.is_empty() {
                continue;
            }
            // What was left out cannot be told any more: whoever watched has to begin anew.
            if *update == FlowUpdate::Paused {
                s.overflow.send_replace(true);
            } else if monitors.update(*id, update, origin, version) {
                s.wake.notify_one();
            }
            if monitors.overrun() {
                s.overflow.send_replace(true);
            }
        }
        if *update == FlowUpdate::Paused && inner.watchers > 0 {
            self.plane.watch_flows(&self.name, true);
        }
    }

    /// Says that a connection with flow monitors came or went.
    pub fn watch(&self, on: bool) {
        let mut inner = self.lock();
        let before = inner.watchers > 0;
        inner.watchers = match on {
            true => inner.watchers + 1,
            false => inner.watchers.saturating_sub(1),
        };
        let after = inner.watchers > 0;
        if before != after {
            self.plane.watch_flows(&self.name, after);
        }
    }

    /// Gives a connection the role it asks for. Before OpenFlow 1.2 there are no generations.
    ///
    /// # Errors
    /// Its generation is stale.
    pub fn request_role(
        &self,
        id: ConnId,
        asked: RoleMsg,
        generations: bool,
    ) -> Result<RoleMsg, OfError> {
        let (given, demoted) = self.with_roles(|r| match generations {
            true => r.request(id, asked),
            false => r.request_nicira(id, asked.role),
        })?;
        for who in demoted {
            let role = RoleMsg {
                role: Role::Secondary,
                short_id: 0,
                ..given
            };
            self.publish(Async::Demoted {
                who,
                reason: RoleReason::MasterRequest,
                role,
            });
            self.tell_status(who, StatusReason::Role, true);
        }
        if asked.role != Role::NoChange {
            self.tell_status(id, StatusReason::Role, true);
        }
        Ok(given)
    }

    fn status(
        inner: &Inner,
        id: ConnId,
        reason: StatusReason,
        up: bool,
    ) -> Option<openflow::ControllerStatus> {
        let s = inner.subscribers.get(&id)?;
        (s.kind == peer::Kind::Primary).then(|| openflow::ControllerStatus {
            id: inner.roles.short_id(id),
            role: inner.roles.role(id),
            reason: reason as u8,
            up,
            uri: s.uri.clone(),
        })
    }

    pub(super) fn tell_status(&self, id: ConnId, reason: StatusReason, up: bool) {
        let status = Bridge::status(&self.lock(), id, reason, up);
        if let Some(status) = status {
            self.publish(Async::ControllerStatus(status));
        }
    }

    /// The controllers' connections (OpenFlow 1.5.1 7.3.5.19).
    pub fn controller_statuses(&self) -> Vec<openflow::ControllerStatus> {
        let inner = self.lock();
        inner
            .subscribers
            .keys()
            .filter_map(|id| Bridge::status(&inner, *id, StatusReason::Request, true))
            .collect()
    }
}
