//! What comes first of all: the limits of the port that packets came in by.

use super::Forwarder;
use crate::drop::DropReason;
use crate::packet::{BATCH, Batch, segment};
use crate::policing::Limit;

impl Forwarder {
    /// Drops what the port may not send in; how many packets are left, in order. One test, if nothing is limited.
    #[inline(always)]
    pub(super) fn admit(&mut self, batch: &mut Batch, port: u32) -> usize {
        let n = batch.len().min(BATCH);
        if self.lanes[port as usize].ingress.is_none() {
            return n;
        }
        self.admit_limited(batch, port)
    }

    #[inline(never)]
    fn admit_limited(&mut self, batch: &mut Batch, port: u32) -> usize {
        let Some(ingress) = self.lanes[port as usize].ingress.take() else {
            return batch.len();
        };
        let now = self.time();
        let mut kept = 0;
        for i in 0..batch.len() {
            let head = batch.packet(i).head();
            let storm = match head.first_chunk() {
                Some(dst) => ingress.storm(*dst),
                None => None,
            };
            let limits = [storm, ingress.policing.as_ref()];
            if limits
                .into_iter()
                .flatten()
                .all(|l| self.pass(batch, i, l, now, port))
            {
                batch.swap(kept, i);
                kept += 1;
            }
        }
        batch.truncate(kept);
        self.lanes[port as usize].ingress = Some(ingress);
        kept
    }

    /// Whether any of a packet comes through a limit; only that is left of it.
    fn pass(&mut self, batch: &mut Batch, i: usize, limit: &Limit, now: u64, port: u32) -> bool {
        let (pass, frames) = limit.admit(batch.packet(i), now);
        if pass == frames {
            return true;
        }
        let refused = frames - pass;
        self.drop(port, limit.kind.reason(), refused);
        if pass == 0 {
            return false;
        }
        // What is said to be large and is not made so would be refused by whoever sends it.
        let kept = segment::keep(batch, i, pass);
        if kept.is_err() {
            self.drop(port, DropReason::TxError, pass);
        }
        kept.is_ok()
    }

    /// Takes the limits over from what ports are now.
    pub(super) fn note_limits(&mut self) {
        for (port, lane) in self.lanes.iter_mut().enumerate() {
            let entry = self.world.port(port as u32);
            let ingress = entry.and_then(|p| p.ingress.as_ref());
            lane.ingress = ingress.filter(|i| i.is_on_receipt()).cloned();
        }
    }
}
