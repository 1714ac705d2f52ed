//! Translations set aside, and gone on with.
//!
//! A header that is taken off uncovers another, of which the key knows nothing. So the translation ends there: what has been
//! done so far is committed, and [`DpAction::Recirculate`] follows, with the change of shape and all that is left to do. The
//! thread that carries it out changes the packet, reads its key anew, and goes on with [`Xlate::resume`].
//!
//! What is left to do is a list of [`Frame`]s, innermost first: the walk through tables is a recursion, and while it returns,
//! each level adds what it would have done next. It ends where what is done to the packet does not reach beyond: at the
//! other side of a patch port, in a clone, in a bucket ([`Xlate::seal`]). So a recirculated packet is always a copy, and
//! whoever comes after it sees the packet as it was. (If nobody does, there is no copying.)
//!
//! Packets that are recirculated are translated one by one: nothing of that is cached.

use super::action_set::ActionSet;
use super::continuation;
use super::translate::{Here, Xlate};
use super::translation::Translation;
use crate::action::{DpAction, PacketInSpec, Reshape};
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, WORDS};
use openflow::{Action, Instructions, Slot};
use std::sync::Arc;

/// How often one packet is recirculated, all its copies counted.
pub const RECIRCULATIONS_MAX: u32 = 64;

/// What one level of the walk has left to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// Actions of a list.
    Actions(Vec<Action>),
    /// Of a rule, all but its apply-actions; whether a miss in the next table counts as one.
    Rule(Arc<Instructions>, bool),
    /// Back from a resubmit, to the rule before it.
    Return(Place),
    /// The action set: the end of the pipeline.
    ActionSet,
}

/// The rule that a translation is at: its table, its cookie, whether it is a table-miss rule.
pub(crate) type Place = (u8, u64, bool);

/// A translation set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    /// What becomes of the packet first.
    pub reshape: Reshape,
    /// Whether a controller is to say that it goes on, and how it is asked.
    pub(super) paused: Option<PacketInSpec>,
    pub(super) bridge: u32,
    /// The words of the key that do not come from the packet, and the one of the port.
    pub(super) beyond: [u64; WORDS - PACKET_WORDS],
    pub(super) in_port: u128,
    pub(super) mark: u128,
    pub(super) set: ActionSet,
    pub(super) frames: Vec<Frame>,
    pub(super) rule: Place,
    pub(super) packet_out: bool,
    pub(super) in_group: bool,
    pub(super) in_set: bool,
    pub(super) stack: Vec<u128>,
    pub(super) queue: u32,
    pub(super) budget: u32,
    pub(super) depth: usize,
    pub(super) resubmits: usize,
    /// Mirrors' targets that have had their copy.
    pub(super) mirrored: Vec<u16>,
}

impl Frozen {
    /// The key of the reshaped packet, as the pipeline goes on with it.
    pub fn key(&self, packet: FlowKey) -> FlowKey {
        let mut key = packet;
        key.0[PACKET_WORDS..].copy_from_slice(&self.beyond);
        key.set(Slot::InPort, self.in_port);
        key.set(Slot::PktMark, self.mark);
        key
    }
}

impl Xlate<'_> {
    /// Everything done so far is done to the packet, which is then reshaped; the rest has to wait until its key is read.
    pub(super) fn freeze(&mut self, here: Here, reshape: Reshape) {
        self.commit();
        let beyond = self.key.0[PACKET_WORDS..].try_into();
        self.freezing = Some(Box::new(Frozen {
            reshape,
            paused: None,
            bridge: here.0.id,
            beyond: beyond.expect("the rest of a key"),
            in_port: self.key.get(Slot::InPort),
            mark: self.key.get(Slot::PktMark),
            set: std::mem::take(&mut self.set),
            frames: Vec::new(),
            rule: self.place(),
            packet_out: self.packet_out,
            in_group: self.in_group,
            in_set: self.in_set,
            stack: std::mem::take(&mut self.stack),
            queue: self.queue,
            budget: self.budget,
            depth: self.depth,
            resubmits: self.resubmits,
            mirrored: self.mirrored.targets.clone(),
        }));
    }

    /// Adds what a level has left to do.
    pub(super) fn unroll(&mut self, frame: impl FnOnce() -> Frame) {
        if let Some(f) = &mut self.freezing {
            f.frames.push(frame());
        }
    }

    /// What is done to the packet reaches no further: a translation set aside goes on from here, on a copy.
    pub(super) fn seal(&mut self) {
        let Some(mut f) = self.freezing.take() else {
            return;
        };
        let Some(mut spec) = f.paused.take() else {
            return self.emit(DpAction::Recirculate(Arc::from(f)));
        };
        match continuation::encode(&f) {
            Some(bytes) => {
                spec.continuation = Some(bytes);
                self.emit(DpAction::PacketIn(Arc::new(spec)));
            }
            None => self.dropped(DropReason::TooManyActions),
        }
    }

    /// Goes on with a translation that was set aside; begun with [`Frozen::key`] of the reshaped packet.
    pub fn resume(mut self, frozen: &Frozen) -> Translation {
        (self.table, self.cookie, self.miss_rule) = frozen.rule;
        self.set = frozen.set.clone();
        self.packet_out = frozen.packet_out;
        self.in_group = frozen.in_group;
        self.in_set = frozen.in_set;
        self.stack = frozen.stack.clone();
        self.queue = frozen.queue;
        self.budget = frozen.budget;
        self.depth = frozen.depth;
        self.resubmits = frozen.resubmits;
        self.mirrored.targets = frozen.mirrored.clone();
        let Some(bridge) = self.world.bridge(frozen.bridge) else {
            self.dropped(DropReason::PortNoRecv);
            return self.finish();
        };
        let state = self.state_of(bridge);
        let here = (bridge, &state);
        let mut frames = frozen.frames.iter();
        let mut concluded = false;
        while let Some(frame) = frames.next()
            && !self.exit
        {
            match frame {
                Frame::Actions(list) => concluded = !self.actions(here, list),
                // The list before it ended the rule.
                Frame::Rule(..) if concluded => concluded = false,
                Frame::Rule(i, miss) => {
                    if let Some(next) = self.conclude(i) {
                        self.look_up(here, next, *miss);
                    }
                }
                Frame::Return(rule) => {
                    concluded = false;
                    (self.table, self.cookie, self.miss_rule) = *rule;
                    self.depth = self.depth.saturating_sub(1);
                }
                Frame::ActionSet => self.run_set(here),
            }
            if let Some(f) = &mut self.freezing {
                f.frames.extend(frames.by_ref().cloned());
            }
        }
        self.finish()
    }
}
