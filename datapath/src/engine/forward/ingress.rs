//! What comes first of all: the limits of the port that packets came in by.

use super::Forwarder;
use crate::drop::DropReason;
use crate::packet::{BATCH, Batch, segment};
use crate::policing::{Ingress, Limit};
use std::sync::Arc;

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
            let limits = limits(&ingress, batch, i);
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

    /// Whether a packet comes in by a tunnel port whose headers were taken off.
    #[inline]
    pub(super) fn comes_in(&mut self, batch: &mut Batch, i: usize, port: u32) -> bool {
        let lane = self.lane(port);
        let Some(ingress) = lane.ingress.clone() else {
            return true;
        };
        let now = self.time();
        let mut limits = limits(&ingress, batch, i).into_iter().flatten();
        limits.all(|l| self.pass(batch, i, l, now, port))
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

/// What one packet goes through: what storm control refuses is none of policing's.
#[inline]
fn limits<'a>(ingress: &'a Ingress, batch: &Batch, i: usize) -> [Option<&'a Arc<Limit>>; 2] {
    let dst = batch.packet(i).head().first_chunk();
    let storm = dst.and_then(|dst| ingress.storm(*dst));
    [storm, ingress.policing.as_ref()]
}
