//! Tracing: what would be done with a packet, and why.

use super::*;
use crate::flow::{FlowKey, slot_bits};
use crate::pipeline::trace::{Recorder, Trace};
use crate::pipeline::{self, Credit, Xlate};
use crate::table::Limits;
use openflow::{Action, Match, Slot};

/// What is traced.
#[derive(Clone, Debug, Default)]
pub struct TraceRequest {
    /// The packet's fields; what is not said is zero. With `packet`, only what its bytes do not tell counts.
    pub flow: Match,
    /// The packet itself.
    pub packet: Option<Vec<u8>>,
    /// Whether what it says is learned, as if it had come in.
    pub effects: bool,
    /// Actions to carry out on it in place of the bridge's tables, as a packet-out.
    pub actions: Option<Vec<Action>>,
    /// How many rules that did not match are told of for each lookup.
    pub why: usize,
}

/// What comes with a packet, and its bytes do not tell: registers and metadata it begins without.
const METADATA: [Slot; 2] = [Slot::InPort, Slot::PktMark];

impl TraceRequest {
    fn key(&self, tag_limit: u8) -> Result<FlowKey, OfError> {
        let Some(packet) = &self.packet else {
            let mut key = FlowKey::default();
            for e in self.flow.entries() {
                key.set_masked(e.slot, e.value, e.mask);
            }
            key.take_options(&self.flow);
            return Ok(key);
        };
        let mut key = pipeline::key_of(packet, tag_limit).ok_or_else(|| {
            let n = packet.len();
            OfError::new(
                ErrorKind::BadPacket,
                format!("{n} bytes: a frame has 14 to 65599"),
            )
        })?;
        for slot in METADATA.into_iter().chain(pipeline::TUNNEL) {
            key.set_masked(slot, self.flow.slot(slot).0, slot_bits(slot));
        }
        key.take_options(&self.flow);
        Ok(key)
    }
}

impl Datapath {
    /// What would be done with a packet of a bridge, and why. Nothing is sent, and nothing counted.
    ///
    /// # Errors
    /// If there is no such bridge, the packet is no frame, or the actions are not such as a packet-out may have.
    pub fn trace(&self, bridge: BridgeId, request: &TraceRequest) -> Result<Trace, OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::BadPort, bridge))?;
        let world = self.inner.world.load_full();
        let mut key = request.key(world.tag_limit)?;
        let in_port = match key.get64(Slot::InPort) as u32 {
            0 => PortNo::ANY,
            n => PortNo(n),
        };
        key.set(Slot::InPort, in_port.0.into());
        let mut recorder = Recorder::new(request.why);
        let x = Xlate::new(&world, key, self.now(), request.effects).told_to(&mut recorder);
        let state = b.state.load();
        let entry = state.ports.get(&in_port.0).and_then(|i| world.port(*i));
        let done = match (&request.actions, entry) {
            (Some(actions), _) => {
                let limits = Limits {
                    tables: state.config.max_tables,
                };
                let mut matching = Match::new();
                for &slot in Slot::ALL {
                    let bits = slot_bits(slot);
                    matching.set_slot(slot, key.get(slot), bits, bits);
                }
                state.tables.check_actions(actions, &matching, &limits)?;
                x.run_actions(b.id, in_port, actions)
            }
            (None, Some(entry)) => x.run(entry),
            (None, None) => x.run_without_port(b.id),
        };
        if request.effects {
            for c in &done.credits {
                if let Credit::Lesson(lesson) = c {
                    lesson.teach(self.now(), false, &self.inner.events);
                }
            }
        }
        Ok(recorder.finish(&world, key, done))
    }
}
