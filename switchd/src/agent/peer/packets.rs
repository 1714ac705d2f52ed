//! Packets from controllers, and how the switch treats fragments.

use super::Peer;
use crate::agent::Bridge;
use crate::agent::rconn::Now;
use openflow::error::ErrorKind;
use openflow::wire::OF13;
use openflow::{OfError, PacketOut, PortNo, Role, SwitchConfig};

/// `OFPC_FRAG_MASK`.
pub(super) const FRAGMENTS: u16 = 3;
/// `OFPC_INVALID_TTL_TO_CONTROLLER`, up to OpenFlow 1.2.
pub(super) const INVALID_TTL: u16 = 4;

impl Peer {
    /// Sends a controller's packet, or one that waits in the switch.
    pub(super) fn packet_out(
        &mut self,
        bridge: &Bridge,
        packet: PacketOut,
        now: Now,
    ) -> Result<(), OfError> {
        let packet = taken(bridge, packet, now)?;
        bridge.plane().packet_out(bridge.name(), &packet)
    }

    /// Sets how fragments are treated and what a controller gets of packets.
    pub(super) fn set_config(&mut self, bridge: &Bridge, c: SwitchConfig) -> Result<(), OfError> {
        let known = match self.version {
            v if v < OF13 => FRAGMENTS | INVALID_TTL,
            _ => FRAGMENTS,
        };
        if c.flags & !known != 0 {
            return Err(OfError::new(
                ErrorKind::SwitchConfigBadFlags,
                format!("flags {:#x}: only {known:#x} are known", c.flags),
            ));
        }
        // Fragments are everybody's concern, the rest is the controller's own.
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        if !secondary {
            bridge.set_fragments(c.flags & FRAGMENTS);
        }
        self.hearing.set_config(c);
        Ok(())
    }
}

/// A packet-out whose packet is there and whose port packets can come in by.
pub(super) fn taken(
    bridge: &Bridge,
    mut packet: PacketOut,
    now: Now,
) -> Result<PacketOut, OfError> {
    let source = packet.in_port;
    if source > PortNo::MAX && !matches!(source, PortNo::LOCAL | PortNo::CONTROLLER | PortNo::ANY) {
        return Err(OfError::new(
            ErrorKind::BadPort,
            format!("a packet cannot come in on {source}"),
        ));
    }
    if let Some(id) = packet.buffer.take() {
        packet.data = bridge.take_buffer(id, now)?.data;
    }
    Ok(packet)
}
