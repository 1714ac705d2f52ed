//! Doing what a flow says, and sending.

use super::Forwarder;
use crate::action::{self, DpAction, PacketInSpec};
use crate::config::Event;
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, extract};
use crate::meter::{self, Meter, Verdict};
use crate::packet::{BATCH, Batch, Checksum, checksum};
use crate::port::TxOutcome;
use openflow::{PacketIn, Slot};
use std::sync::atomic::Ordering;

/// Packet-ins caused by one port that may wait to be taken.
pub const PACKET_INS_PER_PORT: u32 = 256;

impl Forwarder {
    #[inline]
    pub(super) fn gather(&mut self, port: u32, i: usize) {
        let Some(p) = self.pending.get_mut(port as usize) else {
            return;
        };
        if p.len == 0 {
            self.gathered.push(port);
        }
        // At most one copy of a packet is gathered for a port (see `execute`), so there is room.
        p.which[usize::from(p.len) % BATCH] = i as u8;
        p.len += 1;
    }

    pub(super) fn is_gathered(&self, port: u32, i: usize) -> bool {
        self.pending.get(port as usize).is_some_and(|p| {
            p.len as usize == BATCH
                || p.len > 0 && usize::from(p.which[usize::from(p.len) - 1]) == i
        })
    }

    /// Anything but one plain output.
    pub(super) fn execute(&mut self, batch: &mut Batch, i: usize, flow: u32, port: u32) {
        let f = &self.flows[flow as usize];
        if f.body.actions.is_empty() {
            let reason = f.body.drop;
            return self.drop(port, reason, 1);
        }
        self.recirculations = 0;
        let f = &mut self.flows[flow as usize];
        let simple = f.simple;
        let actions = std::mem::take(&mut f.body.actions);
        self.run_actions(batch, i, &actions, simple, port);
        self.flows[flow as usize].body.actions = actions;
    }

    pub(super) fn run_actions(
        &mut self,
        batch: &mut Batch,
        i: usize,
        actions: &[DpAction],
        simple: bool,
        port: u32,
    ) {
        self.run_from(batch, i, (actions, 0), simple, port);
    }

    /// As [`Forwarder::run_actions`], from the action of number `n` on.
    pub(super) fn run_from(
        &mut self,
        batch: &mut Batch,
        i: usize,
        (actions, mut n): (&[DpAction], usize),
        simple: bool,
        port: u32,
    ) {
        while let Some(a) = actions.get(n) {
            n += 1;
            match a {
                DpAction::Output(to) if simple && !self.is_gathered(*to, i) => self.gather(*to, i),
                DpAction::Output(to) => {
                    self.send(batch, *to, port);
                    self.send_now(batch, *to, &[i as u8], port);
                }
                DpAction::PushVlan { tpid, tci } => {
                    if !action::push_vlan(batch.packet_mut(i), *tpid, *tci) {
                        return self.drop(port, DropReason::NoHeadroom, 1);
                    }
                }
                DpAction::PopVlan => action::pop_vlan(batch.packet_mut(i)),
                DpAction::SetVlan(tci) => action::set_vlan(batch.packet_mut(i), *tci),
                DpAction::Set { slot, value, mask } => {
                    action::set(batch.packet_mut(i), *slot, *value, *mask);
                }
                DpAction::PushMpls { .. } if !batch.packet(i).offload.is_done() => {
                    return self.in_pieces(batch, i, (actions, n - 1), port);
                }
                DpAction::PushMpls { eth_type, entry } => {
                    if !action::push_mpls(batch.packet_mut(i), *eth_type, *entry) {
                        return self.drop(port, DropReason::NoHeadroom, 1);
                    }
                }
                DpAction::PopMpls(eth_type) => {
                    action::pop_mpls(batch.packet_mut(i), *eth_type);
                    action::find_headers(batch.packet_mut(i));
                }
                DpAction::Truncated { port: to, max_len } => {
                    self.truncated(batch, i, *to, *max_len as usize, port);
                }
                DpAction::Meter { meter, until } => {
                    if !self.metered(batch, i, meter) {
                        n = *until as usize;
                        if n >= actions.len() {
                            return self.drop(port, DropReason::Meter, 1);
                        }
                    }
                }
                DpAction::Limit { limit, until } => {
                    let now = self.time();
                    let (pass, frames) = limit.admit(batch.packet(i), now);
                    if pass == 0 {
                        self.drop(port, limit.kind.reason(), frames);
                        n = *until as usize;
                    } else if pass < frames {
                        // Each piece for itself.
                        limit.take_back(batch.packet(i), pass);
                        return self.in_pieces(batch, i, (actions, n - 1), port);
                    }
                }
                DpAction::Queue(queue) => batch.packet_mut(i).queue = *queue,
                DpAction::Drop(reason) => return self.drop(port, *reason, 1),
                DpAction::PacketIn(spec) => self.packet_in(batch, i, spec, port),
                DpAction::TunnelPush(push) => {
                    self.enter_tunnel(batch, i, push, n == actions.len(), port);
                }
                DpAction::TunnelPop { kind, .. } => {
                    self.off_tunnel(batch, i, *kind, n == actions.len(), port);
                }
                DpAction::AskNeighbour(ask) => self.ask_neighbour(batch, ask, port),
                DpAction::Recirculate(frozen) => {
                    let last = n == actions.len();
                    self.recirculate(batch, i, frozen, last, port);
                }
            }
        }
    }

    /// Sends what was gathered for one destination.
    pub(super) fn send(&mut self, batch: &Batch, to: u32, from: u32) {
        let Some(pending) = self.pending.get_mut(to as usize) else {
            return;
        };
        let p = *pending;
        pending.len = 0;
        if p.len > 0 {
            self.send_now(batch, to, &p.which[..usize::from(p.len)], from);
        }
    }

    #[inline]
    pub(super) fn send_gathered(&mut self, batch: &Batch, from: u32) {
        while let Some(to) = self.gathered.pop() {
            self.send(batch, to, from);
        }
    }

    pub(super) fn send_now(&mut self, batch: &Batch, to: u32, which: &[u8], from: u32) {
        let Some(lane) = self.lanes.get_mut(to as usize) else {
            return self.drop(from, DropReason::PortNoForward, which.len() as u32);
        };
        if lane.egress.is_some() {
            return self.send_shaped(batch, to, which, None, from);
        }
        let Some(out) = lane.tx.send(batch, which) else {
            return self.drop(from, DropReason::PortNoForward, which.len() as u32);
        };
        if !lane.sent {
            lane.sent = true;
            self.sent.push(to);
        }
        self.sent_off(out, to, from);
    }

    /// Counts what became of packets from port `from` sent to `to`.
    #[inline]
    pub(super) fn sent_off(&mut self, out: TxOutcome, to: u32, from: u32) {
        let l = &mut self.lanes[to as usize].local;
        l.tx_packets += u64::from(out.packets);
        l.tx_bytes += out.bytes;
        self.touch(to);
        if out.full | out.too_long | out.down | out.error | out.busy != 0 {
            let l = &mut self.lanes[to as usize].local;
            l.tx_dropped += u64::from(out.full + out.too_long + out.down + out.error + out.busy);
            l.tx_errors += u64::from(out.error);
            // A copy is no packet of whom it was taken from.
            let from = if self.is_for_mirrors(to) { to } else { from };
            for (n, reason) in [
                (out.full, DropReason::TxFull),
                (out.too_long, DropReason::TxTooLong),
                (out.down, DropReason::TxDown),
                (out.error, DropReason::TxError),
                (out.busy, DropReason::TxBusy),
            ] {
                if n > 0 {
                    self.drop(from, reason, n);
                }
            }
        }
    }

    /// Whether a port is reserved for mirrors.
    #[cold]
    fn is_for_mirrors(&self, port: u32) -> bool {
        let bridge = self.world.port(port).map(|p| p.bridge);
        let bridge = bridge.and_then(|b| self.world.bridge(b));
        bridge.is_some_and(|b| b.state.load().mirrors.reserve(port))
    }

    /// Notifies the receivers of what was sent. Once per round. `false` if packets are held back because somebody else
    /// was sending: then there has to be another round.
    #[inline]
    pub fn notify(&mut self) -> bool {
        let mut left = 0;
        for n in 0..self.sent.len() {
            let to = self.sent[n];
            let lane = &mut self.lanes[to as usize];
            let (out, done) = lane.tx.flush();
            if done {
                lane.sent = false;
            } else {
                self.sent[left] = to;
                left += 1;
            }
            // Where they came from is not remembered: what is dropped now is told of the destination.
            if out != TxOutcome::default() {
                self.sent_off(out, to, to);
            }
        }
        self.sent.truncate(left);
        left == 0 && self.stashed == 0
    }

    /// Whether a packet comes through a meter, which may mark it.
    fn metered(&mut self, batch: &mut Batch, i: usize, meter: &Meter) -> bool {
        let now = self.time();
        let p = batch.packet_mut(i);
        match meter.pass(p.len() as u64, now) {
            Verdict::Pass => true,
            Verdict::Drop => false,
            Verdict::Remark(levels) => {
                let mut words = [0; PACKET_WORDS];
                let n = extract(p, 0, p.layers.tag_limit, &mut words);
                let tos = FlowKey::from_packet(&words, n).get64(Slot::NwTos) as u8;
                let tos = meter::remarked(tos, levels);
                action::set(p, Slot::NwTos, tos.into(), 0xfc);
                true
            }
        }
    }

    pub(super) fn packet_in(&mut self, batch: &Batch, i: usize, spec: &PacketInSpec, port: u32) {
        if let Some(m) = &spec.meter
            && m.pass(batch.packet(i).len() as u64, self.time()) == Verdict::Drop
        {
            return self.drop(port, DropReason::Meter, 1);
        }
        let budget = self
            .lanes
            .get(spec.budget as usize)
            .and_then(|l| l.counters.clone());
        if budget
            .as_ref()
            .is_some_and(|c| c.packet_ins.load(Ordering::Relaxed) >= PACKET_INS_PER_PORT)
        {
            return self.drop(port, DropReason::PacketInLimit, 1);
        }
        let mut packet = batch.to_owned(i);
        if let Checksum::Needed { start, offset } = packet.offload.checksum
            && !packet.offload.is_gso()
        {
            checksum::finish(&mut packet.bytes, start.into(), offset.into());
        }
        let event = Event::PacketIn {
            bridge: crate::config::BridgeId(spec.bridge),
            packet_in: PacketIn {
                buffer: None,
                total_len: packet.bytes.len().min(0xffff) as u16,
                reason: spec.reason,
                table: spec.table,
                cookie: spec.cookie,
                metadata: spec.metadata.clone(),
                userdata: spec.userdata.clone(),
                continuation: spec.continuation.clone(),
                data: packet.bytes.into(),
            },
            max_len: spec.max_len,
            controller_id: spec.controller_id,
            userdata: spec.userdata.clone(),
        };
        if !self.events.send(event, budget) {
            self.drop(port, DropReason::PacketInLimit, 1);
        }
    }
}
