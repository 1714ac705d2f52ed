//! Packets that controllers give.

use super::Forwarder;
use super::account::{FIN_OR_RST, Seen, tell};
use crate::cache::shape;
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, PacketKey, extract};
use crate::packet::{Batch, OwnedPacket};
use crate::pipeline::{Frozen, Translation, Xlate};
use openflow::{Action, Match, PortNo};
use std::time::Duration;

/// A packet given by a controller.
pub struct Injected {
    /// Its bytes.
    pub packet: OwnedPacket,
    /// Whose.
    pub bridge: u32,
    /// Where it is said to have come in.
    pub in_port: PortNo,
    /// Other fields that it begins with.
    pub fields: Match,
    /// What to do.
    pub work: Work,
}

/// What is done with a controller's packet.
pub enum Work {
    /// Actions.
    Actions(Vec<Action>),
    /// The rest of a pipeline that was paused.
    Resume(Box<Frozen>),
}

/// The TCP flags of a packet, by its key; none if it is another.
pub(super) fn tcp_flags(words: &PacketKey) -> u16 {
    (words[5] >> 16) as u16
}

impl Forwarder {
    /// Does what a controller wants done with a packet.
    pub fn inject(&mut self, batch: &mut Batch, injected: &Injected) {
        self.refresh();
        self.timed = false;
        batch.clear();
        // SAFETY: `injected` outlives this function, at whose end the batch is cleared.
        if !unsafe { batch.push_borrowed(&injected.packet) } {
            return;
        }
        let port = self
            .world
            .bridge(injected.bridge)
            .and_then(|b| b.state.load().ports.get(&injected.in_port.0).copied())
            .unwrap_or(u32::MAX);
        let mut words = [0; PACKET_WORDS];
        let len = extract(batch.packet_mut(0), port, self.world.tag_limit, &mut words);
        let bytes = batch.packet(0).len() as u64;
        let mut key = FlowKey::from_packet(&words, len);
        let now = Duration::from_nanos(self.now);
        let world = self.world.clone();
        let t = match &injected.work {
            Work::Actions(actions) => {
                for e in injected.fields.entries() {
                    key.set_masked(e.slot, e.value, e.mask);
                }
                key.take_options(&injected.fields);
                let x = Xlate::new(&world, key, now, true).long(bytes);
                x.run_actions(injected.bridge, injected.in_port, actions)
            }
            Work::Resume(frozen) => {
                let x = Xlate::new(&world, frozen.key(key), now, true).long(bytes);
                x.resume(frozen)
            }
        };
        self.recirculations = 0;
        self.carry_out(batch, 0, &t, (bytes, tcp_flags(&words)), port);
        self.send_gathered(batch, port);
        batch.clear();
    }

    /// Does what a translation made for one packet says, and counts the packet.
    pub(super) fn carry_out(
        &mut self,
        batch: &mut Batch,
        i: usize,
        t: &Translation,
        (bytes, tcp_flags): (u64, u16),
        port: u32,
    ) {
        let seen = Seen {
            packets: 1,
            bytes,
            used: self.now,
            fin: tcp_flags & FIN_OR_RST != 0,
        };
        let changed = tell(&t.credits, seen, &self.world, &self.events);
        if changed {
            // Whoever comes next sees what this one taught.
            self.refresh();
        }
        if t.actions.is_empty() {
            return self.drop(port, t.drop.unwrap_or(DropReason::NoOutput), 1);
        }
        let (_, simple) = shape(&t.actions);
        self.run_actions(batch, i, &t.actions, simple, port);
    }
}
