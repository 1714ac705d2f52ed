//! Mirrors in the pipeline: copies of what comes in by a port and of what leaves by one.
//!
//! As in Open vSwitch: a packet is copied where it first becomes eligible, as it is at that moment, to each target once. So
//! what comes in is copied before any table sees it, even if they drop it, and what leaves is copied behind the output. Its
//! VLAN is the one that its tag has on that port; a frame that the port does not carry is in none, and is not copied. A copy
//! is tagged as the port it goes to wants it. Another bridge, behind a patch port, has mirrors of its own.
//!
//! Copies are no part of what happens to the packet: they do not count against its bound of actions, and one that cannot be
//! made is left out. Why the packet is dropped, if it is, is known all the same.

use super::ACTIONS_MAX;
use super::normal::is_reserved;
use super::output::NO_QUEUE;
use super::translate::Xlate;
use super::translation::Credit;
use super::vlan::{self, Inside};
use crate::bridge::{BridgeState, PortEntry};
use crate::mirror::{Mirror, Target, Way};
use openflow::{Match, Slot};
use std::sync::Arc;

/// What the translation knows of mirrors.
#[derive(Default)]
pub(super) struct Mirrored {
    /// Numbers of the targets that have had their copy.
    pub(super) targets: Vec<u16>,
    /// Copies have no more bytes than this: while one is made.
    pub(super) snaplen: Option<u32>,
    /// How many of the actions are for copies.
    pub(super) actions: usize,
    /// What is being made is a copy, with no more bytes than this where it goes into a tunnel.
    pub(super) copy: Option<u32>,
}

impl Mirrored {
    /// Another list of actions is begun, for what a tunnel makes of the packet: its copies are counted by themselves, and none of it
    /// is cut.
    pub(super) fn aside(&mut self) -> Mirrored {
        std::mem::take(self)
    }

    /// Back to the list before.
    pub(super) fn back(&mut self, outer: Mirrored) {
        *self = outer;
    }
}

impl Xlate<'_> {
    /// The packet goes through a port: copies for those who watch that.
    pub(super) fn mirror(&mut self, state: &Arc<BridgeState>, port: &Arc<PortEntry>, way: Way) {
        let mirrors = &state.mirrors;
        if self.failed || !mirrors.list.iter().any(|m| m.watches(port.index, way)) {
            return;
        }
        self.sync_tags();
        // What leaves may have lost a tag, and shows the next.
        self.look_tags();
        let tags = self.tags.clone();
        let Ok(frame) = vlan::classify(&port.spec.vlan, &tags) else {
            return;
        };
        for m in mirrors.list.iter().filter(|m| m.watches(port.index, way)) {
            // A copy may itself have been copied.
            if self.mirrored.targets.contains(&m.number)
                || !m.takes_vlan(frame.vlan)
                || !m.filter.as_ref().is_none_or(|f| self.passes(f))
            {
                continue;
            }
            self.mirrored.targets.push(m.number);
            self.out.credits.push(Credit::Mirror(m.counters.clone()));
            self.copy(state, m, &frame);
        }
    }

    /// Whether the packet as it is now matches.
    fn passes(&mut self, filter: &Match) -> bool {
        filter.entries().iter().all(|e| {
            self.look(e.slot, e.mask);
            self.key.get(e.slot) & e.mask == e.value
        })
    }

    fn copy(&mut self, state: &Arc<BridgeState>, m: &Mirror, frame: &Inside<'_>) {
        let before = self.out.actions.len();
        let others = before - self.mirrored.actions;
        if self.mirrored.actions >= ACTIONS_MAX {
            return self.remark(|| "too many copies for mirrors".into());
        }
        // Whatever becomes of the copy is nothing to the packet.
        let drop = self.out.drop;
        let resubmits = self.resubmits;
        let queue = std::mem::replace(&mut self.queue, NO_QUEUE);
        let outer = (self.mirrored.snaplen, self.mirrored.copy);
        self.mirrored.snaplen = m.snaplen;
        self.mirrored.copy = Some(m.snaplen.unwrap_or(u32::MAX));
        let wire = (self.wire, self.wire_touched, self.wire_tags.clone());
        let wire = (wire, self.pushed.clone(), self.wire_queue, self.exit);
        match m.target {
            Target::Port(index) => {
                if let Some(p) = self.world.port(index) {
                    self.output_inside(p, frame);
                }
            }
            Target::Vlan(to) if to != frame.vlan && !self.is_for_neighbour() => {
                let frame = frame.in_vlan(to);
                for &index in state.ports.values() {
                    if let Some(p) = self.world.port(index)
                        && !state.mirrors.reserve(index)
                        && vlan::carries(&p.spec.vlan, &frame).is_ok()
                    {
                        self.output_inside(p, &frame);
                    }
                }
            }
            Target::Vlan(_) => {}
        }
        if std::mem::take(&mut self.failed) {
            self.out.actions.truncate(before);
            (
                (self.wire, self.wire_touched, self.wire_tags),
                self.pushed,
                self.wire_queue,
                self.exit,
            ) = wire;
        }
        (self.mirrored.snaplen, self.mirrored.copy) = outer;
        self.mirrored.actions = self.out.actions.len() - others;
        self.queue = queue;
        self.resubmits = resubmits;
        self.out.drop = drop;
    }

    /// Whether the packet is for an address that bridges do not forward.
    fn is_for_neighbour(&mut self) -> bool {
        self.look_all(Slot::EthDst);
        is_reserved(self.key.get64(Slot::EthDst))
    }
}
