//! Meters, and limits of ports, in the pipeline: where a packet goes through one, and what is left out if it does not come through.
//!
//! Whether a packet comes through is seen only with the packet, so the meter is an action of the datapath's, which drops what
//! is done behind it: everything, or, in a clone, a bucket or another bridge, the rest of what is done to that copy. Either
//! way the actions behind have to find the packet as they expect it. So when such a copy ends, it is brought back to what
//! it was at the meter, and what the meter drops goes on there.

use super::pushed::Seen;
use super::translate::{Here, Xlate};
use crate::action::DpAction;
use crate::meter::{self, Meter};
use crate::policing::Limit;
use crate::table::Object;
use std::sync::Arc;

/// A meter in what is done to a copy.
pub(super) struct Metered {
    /// The number of the action.
    at: usize,
    /// The packet there, and its queue.
    seen: Seen,
    queue: u32,
}

impl Xlate<'_> {
    pub(super) fn meter(&mut self, here: Here, id: u32) {
        self.depend_on(here, Object::Meter(id));
        // A rule goes with its meter.
        let Some(meter) = here.1.tables.meters.get(id).cloned() else {
            return;
        };
        let until = u32::MAX;
        self.gate(DpAction::Meter { meter, until });
    }

    /// A limit of a port is for the packet as it is.
    pub(super) fn limit(&mut self, limit: &Arc<Limit>) {
        self.remark(|| format!("limited: {}", limit.kind.reason().name()));
        let (limit, until) = (limit.clone(), u32::MAX);
        self.gate(DpAction::Limit { limit, until });
    }

    /// What only some packets come through.
    fn gate(&mut self, gate: DpAction) {
        self.commit();
        if self.copies > 0 {
            self.metered.push(Metered {
                at: self.out.actions.len(),
                seen: self.seen(),
                queue: self.wire_queue,
            });
        }
        self.emit(gate);
    }

    /// What is done to a copy ends here.
    pub(super) fn end_meters(&mut self) {
        while let Some(m) = self.metered.pop() {
            self.back_to(m.seen);
            self.commit();
            self.emit_queue(m.queue);
            let end = self.out.actions.len() as u32;
            if let Some(DpAction::Meter { until, .. } | DpAction::Limit { until, .. }) =
                self.out.actions.get_mut(m.at)
            {
                *until = end;
            }
        }
    }

    /// The meter of a packet to the controllers: the one that was said, or the one for all of them.
    pub(super) fn controller_meter(&mut self, here: Here, id: Option<u32>) -> Option<Arc<Meter>> {
        let id = id.unwrap_or(meter::CONTROLLER);
        self.depend_on(here, Object::Meter(id));
        here.1.tables.meters.get(id).cloned()
    }
}
