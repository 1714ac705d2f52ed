//! Flow statistics, told in parts.
//!
//! A bridge may have a million flows. Their statistics are gathered, encoded and written some at a time, whenever the
//! connection has room, so that a dump takes little memory and stays in the processor's caches. No further
//! message of the connection is handled before all of them are told. Which flows are told is settled when they are asked for.

use super::{Answer, Bridge, Peer, flows};
use crate::plane::Flows;
use openflow::{FlowFilter, FlowStatsReason, Message, MultipartReply, OfError};
use std::iter::Peekable;

/// Flows that are told at once: with a few fields and actions each, about what one message holds.
const PART: usize = 256;

/// What is told of each flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of it: OFPMP_FLOW (OFPMP_FLOW_DESC of OpenFlow 1.5).
    Whole,
    /// The same as NXST_FLOW.
    Nicira,
    /// Its counters: OFPMP_FLOW_STATS of OpenFlow 1.5.
    Counters,
}

/// An answer that is being told.
pub(super) struct Dump {
    xid: u32,
    form: Form,
    flows: Peekable<Flows>,
}

impl Peer {
    /// Begins to tell the flows that a filter selects.
    pub(super) fn dump(
        &mut self,
        bridge: &Bridge,
        xid: u32,
        form: Form,
        filter: &FlowFilter,
    ) -> Result<(), OfError> {
        let flows = flows::stats(bridge, filter)?.peekable();
        self.dump = Some(Dump { xid, form, flows });
        Ok(())
    }

    /// The next part of an answer that is told in parts, and whether there are more. To be asked for until there is
    /// none, before the next message is handled.
    pub fn part(&mut self) -> Option<(Answer, bool)> {
        let dump = self.dump.as_mut()?;
        let flows = dump.flows.by_ref().take(PART);
        let reply = match dump.form {
            Form::Whole | Form::Nicira => MultipartReply::Flow(flows.collect()),
            Form::Counters => {
                MultipartReply::FlowStats(flows.map(|f| (FlowStatsReason::Request, f)).collect())
            }
        };
        let reply = Message::MultipartReply(reply);
        let reply = match dump.form {
            Form::Nicira => Message::Nicira(Box::new(reply)),
            _ => reply,
        };
        let (xid, more) = (dump.xid, dump.flows.peek().is_some());
        if !more {
            self.dump = None;
        }
        Some(((xid, reply), more))
    }

    /// Leaves out what an answer has still to tell: a part of it could not be said.
    pub fn cut_short(&mut self) {
        self.dump = None;
    }
}
