//! Paused pipelines (`controller(pause)`): what is left to do, as bytes that a controller keeps and brings back (NXT_RESUME).
//!
//! The switch remembers nothing: what a translation that was set aside ([`Frozen`]) has left to do is all in the bytes, lists
//! of actions as flow-mods of OpenFlow 1.5. To the controller they are opaque; a number in front says which layout they have.
//! Registers and the like are not in them but in the packet-in beside them, where the controller may change them.
//!
//! What comes back may be anything. It is read with bounds, and its actions are checked as those of a flow are, but for what
//! they need of the packet, which the controller may have changed.

use super::action_set::ActionSet;
use super::frozen::{Frame, Frozen};
use super::{DEPTH_MAX, RESUBMITS_MAX, STACK_MAX};
use crate::action::Reshape;
use crate::bridge::BridgeState;
use crate::flow::{FlowKey, PACKET_WORDS};
use crate::table::Limits;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use openflow::error::ErrorKind;
use openflow::{Action, FlowMod, Instructions, Match, Message, OfError, PortNo, Slot, wire};
use std::sync::Arc;

/// The layout that is written and read.
const LAYOUT: u32 = 0x7765_6902;
/// The version of OpenFlow whose flow-mods are inside.
const VERSION: u8 = 6;
/// Most targets of mirrors that had their copy.
const MIRRORED_MAX: usize = 4096;
/// Most levels that are left to do: each resubmit has two, and the pipeline three.
const FRAMES_MAX: usize = 4 * DEPTH_MAX;

const ACTIONS: u8 = 0;
const RULE: u8 = 1;
const RETURN: u8 = 2;
const ACTION_SET: u8 = 3;

/// As bytes; none if some action has no form in OpenFlow 1.5, or they are too many for a message.
pub(super) fn encode(f: &Frozen) -> Option<Bytes> {
    let mut b = BytesMut::new();
    b.put_u32(LAYOUT);
    place(&mut b, f.rule);
    b.put_u8(u8::from(f.packet_out) | u8::from(f.in_group) << 1 | u8::from(f.in_set) << 2);
    b.put_u32(f.queue);
    b.put_u16(f.depth as u16);
    b.put_u16(f.resubmits as u16);
    b.put_u16(f.stack.len() as u16);
    f.stack.iter().for_each(|v| b.put_u128(*v));
    let mirrored = &f.mirrored[..f.mirrored.len().min(MIRRORED_MAX)];
    b.put_u16(mirrored.len() as u16);
    mirrored.iter().for_each(|n| b.put_u16(*n));
    list(&mut b, f.set.list())?;
    b.put_u16(f.frames.len() as u16);
    for frame in &f.frames {
        match frame {
            Frame::Actions(a) => {
                b.put_u8(ACTIONS);
                list(&mut b, a)?;
            }
            Frame::Rule(i, miss) => {
                b.put_u8(RULE);
                b.put_u8((*miss).into());
                // What came before the pause is done, the meter and the actions.
                let rest = Instructions {
                    meter: None,
                    apply: Vec::new(),
                    ..(**i).clone()
                };
                instructions(&mut b, rest)?;
            }
            Frame::Return(rule) => {
                b.put_u8(RETURN);
                place(&mut b, *rule);
            }
            Frame::ActionSet => b.put_u8(ACTION_SET),
        }
    }
    Some(b.freeze())
}

fn place(b: &mut BytesMut, (table, cookie, miss): super::frozen::Place) {
    b.put_u8(table);
    b.put_u64(cookie);
    b.put_u8(miss.into());
}

fn list(b: &mut BytesMut, actions: &[Action]) -> Option<()> {
    instructions(b, Instructions::apply(actions.to_vec()))
}

fn instructions(b: &mut BytesMut, i: Instructions) -> Option<()> {
    let m = Message::FlowMod(FlowMod::add(Match::new(), i));
    let bytes = wire::encode(VERSION, 0, &m).ok()?;
    b.put_u32(bytes.len() as u32);
    b.put_slice(&bytes);
    Some(())
}

/// Bytes of a controller.
struct Reader<'a> {
    bytes: Bytes,
    state: &'a BridgeState,
}

fn bad(what: &str) -> OfError {
    OfError::new(
        ErrorKind::ResumeStale,
        format!("The continuation is not one that this switch gave: {what}"),
    )
}

impl Reader<'_> {
    /// The next `n` bytes.
    fn take(&mut self, n: usize) -> Result<Bytes, OfError> {
        if self.bytes.len() < n {
            return Err(bad("it is cut short"));
        }
        Ok(self.bytes.split_to(n))
    }

    fn number(&mut self, bytes: usize) -> Result<u64, OfError> {
        Ok(self.take(bytes)?.get_uint(bytes))
    }

    /// A number that is no greater than `most`.
    fn up_to(&mut self, most: usize, what: &str) -> Result<usize, OfError> {
        let n = self.number(2)? as usize;
        (n <= most).then_some(n).ok_or_else(|| bad(what))
    }

    fn place(&mut self) -> Result<super::frozen::Place, OfError> {
        let (table, cookie) = (self.number(1)? as u8, self.number(8)?);
        Ok((table, cookie, self.number(1)? != 0))
    }

    fn instructions(&mut self) -> Result<Instructions, OfError> {
        let len = self.number(4)? as usize;
        let bytes = self.take(len)?;
        let message = wire::decode(&bytes).map_err(|_| bad("its actions cannot be read"))?;
        let Message::FlowMod(m) = message.message else {
            return Err(bad("it has no actions where they should be"));
        };
        let limits = Limits {
            tables: self.state.config.max_tables,
        };
        self.state
            .tables
            .check_continuation(&m.instructions, &limits)?;
        Ok(m.instructions)
    }

    fn frame(&mut self) -> Result<Frame, OfError> {
        Ok(match self.number(1)? as u8 {
            ACTIONS => Frame::Actions(self.instructions()?.apply),
            RULE => {
                let miss = self.number(1)? != 0;
                Frame::Rule(Arc::new(self.instructions()?), miss)
            }
            RETURN => Frame::Return(self.place()?),
            ACTION_SET => Frame::ActionSet,
            _ => return Err(bad("it has a level of an unknown kind")),
        })
    }
}

impl Frozen {
    /// What a controller brought back for a bridge. `metadata` is what it says of the packet beside the bytes, `budget` the
    /// port that pays for packet-ins.
    ///
    /// # Errors
    /// `NXR_STALE` for what this switch did not give, and those of actions that it does not carry out (any more).
    pub(crate) fn from_continuation(
        bytes: &Bytes,
        metadata: &Match,
        bridge: u32,
        state: &BridgeState,
        budget: u32,
    ) -> Result<Frozen, OfError> {
        let mut r = Reader {
            bytes: bytes.clone(),
            state,
        };
        if r.number(4)? != u64::from(LAYOUT) {
            return Err(bad("it has another layout"));
        }
        let rule = r.place()?;
        let flags = r.number(1)?;
        let queue = r.number(4)? as u32;
        let depth = r.up_to(DEPTH_MAX, "it is too deep")?;
        let resubmits = r.up_to(RESUBMITS_MAX, "it has too many resubmits")?;
        let values = r.up_to(STACK_MAX, "its stack is too high")?;
        let mut stack = Vec::with_capacity(values);
        for _ in 0..values {
            stack.push(r.take(16)?.get_u128());
        }
        let copies = r.up_to(MIRRORED_MAX, "it has too many copies")?;
        let mut mirrored = Vec::new();
        for _ in 0..copies {
            mirrored.push(r.number(2)? as u16);
        }
        let mut set = ActionSet::default();
        for a in &r.instructions()?.apply {
            if !super::is_for_sets(a) || !set.write(a) {
                return Err(bad("its action set is none"));
            }
        }
        let n = r.up_to(FRAMES_MAX, "it has too many levels")?;
        let mut frames = Vec::with_capacity(n);
        for _ in 0..n {
            frames.push(r.frame()?);
        }
        if !r.bytes.is_empty() {
            return Err(bad("something is behind its end"));
        }
        let mut key = FlowKey::default();
        for e in metadata.entries() {
            key.set_masked(e.slot, e.value, e.mask);
        }
        key.take_options(metadata);
        key.set(Slot::ActsetOutput, set.output().0.into());
        let in_port = match key.get(Slot::InPort) {
            0 => PortNo::ANY.0.into(),
            n => n,
        };
        let beyond = key.0[PACKET_WORDS..].try_into();
        Ok(Frozen {
            reshape: Reshape::Nothing,
            paused: None,
            bridge,
            beyond: beyond.expect("the rest of a key"),
            in_port,
            mark: key.get(Slot::PktMark),
            set,
            frames,
            rule,
            packet_out: flags & 1 != 0,
            in_group: flags & 2 != 0,
            in_set: flags & 4 != 0,
            stack,
            queue,
            budget,
            depth,
            resubmits,
            mirrored,
        })
    }
}
