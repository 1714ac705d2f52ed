//! Packets of controllers.

use super::{Datapath, no_bridge};
use crate::config::*;
use crate::drop::DropReason;
use crate::engine::forward::{Injected, Work};
use crate::flow::{PACKET_WORDS, place};
use crate::packet::{OwnedPacket, PACKET_MAX};
use crate::pipeline::Frozen;
use crate::table::Limits;
use openflow::error::ErrorKind;
use openflow::{Match, OfError, PacketIn, PacketOut, PortNo, Slot};
use std::sync::atomic::Ordering;

impl Datapath {
    /// Does what a controller wants done with a packet.
    ///
    /// # Errors
    /// What the specification has for it; then nothing is done.
    pub fn packet_out(&self, bridge: BridgeId, m: &PacketOut) -> Result<(), OfError> {
        self.check_packet_out(bridge, m)?;
        self.inject(Injected {
            packet: OwnedPacket::new(m.data.to_vec()),
            bridge: bridge.0,
            in_port: m.in_port,
            fields: m.fields.clone(),
            work: Work::Actions(m.actions.clone()),
        });
        Ok(())
    }

    /// Whether a packet-out would be accepted.
    ///
    /// # Errors
    /// As [`Datapath::packet_out`].
    pub fn check_packet_out(&self, bridge: BridgeId, m: &PacketOut) -> Result<(), OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::BadPort, bridge))?;
        if m.buffer.is_some() {
            return Err(OfError::new(
                ErrorKind::BufferUnknown,
                "Packets are not buffered: send the packet with the message",
            ));
        }
        check_frame(m.data.len())?;
        let real = m.in_port.is_physical() || m.in_port == PortNo::LOCAL;
        if !real && !matches!(m.in_port, PortNo::CONTROLLER | PortNo::ANY) {
            return Err(OfError::new(
                ErrorKind::BadPort,
                format!("in_port {} is not a port packets come in by", m.in_port),
            ));
        }
        for e in m.fields.entries() {
            let of_packet = usize::from(place(e.slot).word) < PACKET_WORDS;
            if of_packet && !matches!(e.slot, Slot::InPort | Slot::PktMark) {
                return Err(OfError::new(
                    ErrorKind::PipelineFieldsOnly,
                    format!("{:?} is told by the packet itself", e.slot),
                ));
            }
        }
        let state = b.state.load();
        let limits = Limits {
            tables: state.config.max_tables,
        };
        // Which fields the packet has is seen from the packet.
        let matching = crate::pipeline::match_of(&m.data, self.inner.world.load().tag_limit);
        state.tables.check_actions(&m.actions, &matching, &limits)
    }

    /// Has a paused packet go on (NXT_RESUME), as the controller made it: its bytes and metadata are those of `m`, what is
    /// left to do is in its continuation.
    ///
    /// # Errors
    /// `NXR_STALE` if the continuation is not one that this switch gave, and those of actions that are not carried out any
    /// more; then nothing is done.
    pub fn resume(&self, bridge: BridgeId, m: &PacketIn) -> Result<(), OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::ResumeStale, bridge))?;
        let Some(continuation) = &m.continuation else {
            return Err(OfError::new(
                ErrorKind::ResumeStale,
                "The message has no continuation",
            ));
        };
        check_frame(m.data.len())?;
        let state = b.state.load();
        let in_port = PortNo(m.metadata.slot(Slot::InPort).0 as u32);
        let budget = state.ports.get(&in_port.0).copied().unwrap_or(u32::MAX);
        let frozen =
            Frozen::from_continuation(continuation, &m.metadata, bridge.0, &state, budget)?;
        self.inject(Injected {
            packet: OwnedPacket::new(m.data.to_vec()),
            bridge: bridge.0,
            in_port,
            fields: Match::new(),
            work: Work::Resume(Box::new(frozen)),
        });
        Ok(())
    }

    /// One thread for all, so that packet-outs stay in order.
    fn inject(&self, injected: Injected) {
        let (bridge, in_port) = (BridgeId(injected.bridge), injected.in_port);
        if !self.inner.threads.load()[0].inject(injected)
            && let Some(e) = self.entry(bridge, in_port)
        {
            e.counters.drops[DropReason::PacketOutLimit].fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn check_frame(bytes: usize) -> Result<(), OfError> {
    if (14..=PACKET_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(OfError::new(
        ErrorKind::BadPacket,
        format!("{bytes} bytes: a frame has 14 to {PACKET_MAX}"),
    ))
}
