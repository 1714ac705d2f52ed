//! Packets that controllers give.

use super::Forwarder;
use crate::cache::shape;
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, extract};
use crate::packet::{Batch, OwnedPacket};
use crate::pipeline::{Credit, Translation, Xlate};
use openflow::{Action, PortNo};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A packet given by a controller.
pub struct Injected {
    /// Its bytes.
    pub packet: OwnedPacket,
    /// Whose.
    pub bridge: u32,
    /// Where it is said to have come in.
    pub in_port: PortNo,
    /// What to do.
    pub actions: Vec<Action>,
}

impl Forwarder {
    /// Does what a controller wants done with a packet.
    pub fn inject(&mut self, batch: &mut Batch, injected: &Injected) {
        self.refresh();
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
        let len = extract(batch.packet_mut(0), port, &mut words);
        let bytes = batch.packet(0).len() as u64;
        let key = FlowKey::from_packet(&words, len);
        let now = Duration::from_nanos(self.now);
        let world = self.world.clone();
        let t = Xlate::new(&world, key, now, true).run_actions(
            injected.bridge,
            injected.in_port,
            &injected.actions,
        );
        self.recirculations = 0;
        self.carry_out(batch, 0, &t, bytes, port);
        self.send_gathered(batch, port);
        batch.clear();
    }

    /// Does what a translation made for one packet says, and counts the packet.
    pub(super) fn carry_out(
        &mut self,
        batch: &mut Batch,
        i: usize,
        t: &Translation,
        bytes: u64,
        port: u32,
    ) {
        for c in &t.credits {
            match c {
                Credit::Rule(r) => r.add(1, bytes, self.now),
                Credit::Table(t, true) => t.matched.add(1, bytes, self.now),
                Credit::Table(t, false) => t.missed.add(1, bytes, self.now),
                Credit::Patch(out, into) => {
                    out.tx_packets.fetch_add(1, Ordering::Relaxed);
                    out.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
                    into.rx_packets.fetch_add(1, Ordering::Relaxed);
                    into.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Credit::Mac { .. } => {}
            }
        }
        if t.actions.is_empty() {
            return self.drop(port, t.drop.unwrap_or(DropReason::NoOutput), 1);
        }
        let (_, simple) = shape(&t.actions);
        self.run_actions(batch, i, &t.actions, simple, port);
    }
}
