//! Ways out of the pipeline: ports, patch ports, controllers.

use super::TUNNEL;
use super::trace::What;
use super::translate::{Here, Xlate};
use super::translation::Credit;
use crate::action::{DpAction, PacketInSpec, Reshape};
use crate::bridge::PortEntry;
use crate::drop::DropReason;
use crate::flow::{OPTIONS, PUBLIC, slot_bits};
use crate::mirror::Way;
use crate::policing::Ingress;
use bytes::Bytes;
use openflow::action::PacketInReason;
use openflow::{FieldId, MacAddr, Match, PortNo, Slot};
use std::sync::Arc;

/// Slots that a packet-in tells of if they are not zero: what the packet's bytes do not tell.
const METADATA: [Slot; 6] = [
    Slot::PktMark,
    Slot::Metadata,
    Slot::Xxreg0,
    Slot::Xxreg1,
    Slot::Xxreg2,
    Slot::Xxreg3,
];

/// No queue was chosen: the default one is used, and nothing is marked. (`OFPQ_ALL`, which no queue can be.)
pub(super) const NO_QUEUE: u32 = u32::MAX;
/// The bits of the type of service that are its code point (RFC 2474).
const DSCP: u128 = 0xfc;

/// The queue that is used.
pub(super) fn queue_number(chosen: u32) -> u32 {
    match chosen {
        NO_QUEUE => 0,
        queue => queue,
    }
}

/// How a packet goes to the controllers.
pub(super) struct ToController {
    pub(super) reason: PacketInReason,
    pub(super) max_len: u16,
    /// Which controllers.
    pub(super) id: u16,
    pub(super) userdata: Bytes,
    /// The meter it goes through, if one is named.
    pub(super) meter: Option<u32>,
}

impl ToController {
    /// All of it, to the usual controllers.
    pub(super) fn whole(reason: PacketInReason) -> ToController {
        ToController {
            reason,
            max_len: 0xffff,
            id: 0,
            userdata: Bytes::new(),
            meter: None,
        }
    }
}

impl Xlate<'_> {
    pub(super) fn output(&mut self, here: Here, port: PortNo, max_len: u16) {
        let in_port = PortNo(self.key.get64(Slot::InPort) as u32);
        match port {
            PortNo::IN_PORT => match self.port_at(here.1, in_port) {
                Some(p) => self.output_port(p),
                None => self.dropped(DropReason::PortNoForward),
            },
            PortNo::NORMAL => {
                let p = self.port_at(here.1, in_port);
                self.normal(here.0, here.1, p);
            }
            PortNo::FLOOD => self.flood(here.1, false),
            PortNo::ALL => self.flood(here.1, true),
            PortNo::CONTROLLER => {
                let reason = if self.packet_out {
                    PacketInReason::PacketOut
                } else if self.in_group {
                    PacketInReason::Group
                } else if self.in_set {
                    PacketInReason::ActionSet
                } else if self.miss_rule {
                    PacketInReason::NoMatch
                } else {
                    PacketInReason::Action
                };
                let whole = ToController::whole(reason);
                self.packet_in(here, ToController { max_len, ..whole });
            }
            PortNo::TABLE => self.deeper(|x| {
                let outer = std::mem::replace(&mut x.packet_out, false);
                x.pipeline(here);
                x.packet_out = outer;
            }),
            p if p == in_port => {
                self.tell(|| What::Warning("skipping output to input port".into()));
                self.dropped(DropReason::ToInputPort);
            }
            p => match self.port_at(here.1, p) {
                Some(p) => self.output_port(p),
                None => {
                    self.tell(|| What::Warning("Nonexistent output port".into()));
                    self.dropped(DropReason::PortNoForward);
                }
            },
        }
    }

    /// No more than the first bytes of a copy leave by a port. What crosses a patch port is whole again: the other bridge
    /// may change it.
    pub(super) fn output_truncated(&mut self, here: Here, port: PortNo, max_len: u32) {
        let number = match port {
            PortNo::IN_PORT => PortNo(self.key.get64(Slot::InPort) as u32),
            port => port,
        };
        if self.port_at(here.1, number).is_some() {
            self.cut = Some(max_len);
        }
        self.output(here, port, 0);
        self.cut = None;
    }

    /// A copy leaves by a port as the packet is now.
    pub(super) fn output_port(&mut self, port: &Arc<PortEntry>) {
        let cut = self.cut.take();
        if port.flags.port_down || port.flags.no_fwd {
            self.remark(|| "OFPPC_NO_FWD set, skipping output".into());
            return self.dropped(DropReason::PortNoForward);
        }
        // Frames leave by ports, and nothing else, but by tunnels of bare packets.
        let bare = port.tunnel.as_ref().is_some_and(|t| t.layer3);
        if self.key.get64(Slot::PacketType) != 0 && !bare {
            self.remark(|| "the packet has no Ethernet header".into());
            return self.dropped(DropReason::PacketType);
        }
        if port.spec.protected && self.came_in_protected(port.bridge) {
            self.remark(|| "Flow is between protected ports, skipping output.".into());
            return self.dropped(DropReason::Protected);
        }
        if let Some(guard) = &port.spec.guard
            && guard.egress
            && !self.may_leave(guard)
        {
            return;
        }
        if let Some(spec) = &port.tunnel {
            let before = self.mark_dscp(port);
            self.output_tunnel(port, spec);
            self.mirror_out(port);
            if let Some(tos) = before {
                self.write(Slot::NwTos, tos, DSCP);
            }
            return;
        }
        let Some(peer) = port.patch else {
            if !self.world.tunnels.is_empty() && port.is_interface() && self.reaches_interface(port)
            {
                return self.mirror_out(port);
            }
            let before = self.mark_dscp(port);
            self.commit();
            self.emit_queue(queue_number(self.queue));
            let most = [cut, self.mirrored.snaplen].into_iter().flatten().min();
            self.emit(match most {
                None => DpAction::Output(port.index),
                Some(max_len) => DpAction::Truncated {
                    port: port.index,
                    max_len,
                },
            });
            self.mirror_out(port);
            if let Some(tos) = before {
                self.write(Slot::NwTos, tos, DSCP);
            }
            return;
        };
        let Some(peer) = peer.and_then(|i| self.world.port(i)) else {
            return self.dropped(DropReason::PortNoForward);
        };
        self.out
            .credits
            .push(Credit::Patch(port.counters.clone(), peer.counters.clone()));
        self.elsewhere(|x| x.cross(peer));
        self.mirror_out(port);
    }

    /// What `run` does is done by another bridge, which sees the packet with registers and metadata empty, and what it does to
    /// it stays there.
    pub(super) fn elsewhere(&mut self, run: impl FnOnce(&mut Self)) {
        let set = std::mem::take(&mut self.set);
        let stack = std::mem::take(&mut self.stack);
        let outer = (self.packet_out, self.in_group, self.in_set, self.queue);
        (self.packet_out, self.in_group, self.in_set, self.queue) = (false, false, false, NO_QUEUE);
        let place = self.place();
        let rule = self.rule.take();
        let mirrored = std::mem::take(&mut self.mirrored.targets);
        self.aside(run);
        self.mirrored.targets = mirrored;
        self.set = set;
        self.stack = stack;
        (self.packet_out, self.in_group, self.in_set, self.queue) = outer;
        (self.table, self.cookie, self.miss_rule) = place;
        self.rule = rule;
    }

    /// A copy left by a port.
    fn mirror_out(&mut self, port: &Arc<PortEntry>) {
        if let Some(bridge) = self.world.bridge(port.bridge) {
            let state = self.state_of(bridge);
            self.mirror(&state, port, Way::Out);
        }
    }

    /// Whether the port it came in by is protected from others that are (`Port.protected`).
    fn came_in_protected(&self, bridge: u32) -> bool {
        let number = self.key.get64(Slot::InPort) as u32;
        self.world
            .bridge(bridge)
            .and_then(|b| b.state.load().ports.get(&number).copied())
            .and_then(|index| self.world.port(index))
            .is_some_and(|p| p.spec.protected)
    }

    /// What comes in by a patch port goes through its limits here: no thread receives from it.
    pub(super) fn limit_patched(&mut self, ingress: &Ingress) {
        if ingress.broadcast.is_some() || ingress.multicast.is_some() {
            self.look(Slot::EthDst, 1 << 40);
            if self.key.get64(Slot::EthDst) >> 40 & 1 != 0 {
                self.look_all(Slot::EthDst);
            }
            let dst = MacAddr::from_u64(self.key.get64(Slot::EthDst));
            if let Some(limit) = ingress.storm(dst.0) {
                self.limit(limit);
            }
        }
        if let Some(limit) = &ingress.policing {
            self.limit(limit);
        }
    }

    /// From here on the packet goes by this queue of its way out.
    pub(super) fn emit_queue(&mut self, queue: u32) {
        if queue != self.wire_queue {
            self.wire_queue = queue;
            self.emit(DpAction::Queue(queue));
        }
    }

    /// A packet for which a queue was chosen is marked as that queue's are (`Queue.dscp`). What it had before, if that is
    /// another value.
    fn mark_dscp(&mut self, port: &PortEntry) -> Option<u128> {
        let qos = port.spec.qos.as_ref()?;
        let dscp = qos.queues.get(&self.queue)?.dscp?;
        if !matches!(self.key.get64(Slot::EthType), 0x0800 | 0x86dd) {
            return None;
        }
        self.look(Slot::NwTos, DSCP);
        let before = self.key.get(Slot::NwTos) & DSCP;
        let tos = u128::from(dscp) << 2;
        (tos != before).then(|| {
            self.write(Slot::NwTos, tos, DSCP);
            before
        })
    }

    /// The packet comes in by the other end of a patch, or as the host's by its interface.
    pub(super) fn cross(&mut self, peer: &Arc<PortEntry>) {
        self.key.set(Slot::ActsetOutput, PortNo::UNSET.0.into());
        // The mark alone is the packet's own.
        let ours = METADATA.into_iter().filter(|s| *s != Slot::PktMark);
        if self.key.has_options() {
            for n in 0..OPTIONS {
                self.write(Slot::TunOption(n), 0, u128::MAX);
            }
        }
        for slot in ours.chain(TUNNEL) {
            self.write(slot, 0, u128::MAX);
        }
        self.write(Slot::InPort, peer.number.0.into(), u128::MAX);
        self.deeper(|x| x.enter(peer));
    }

    /// Sends the packet to the controllers as it is now.
    pub(super) fn packet_in(&mut self, here: Here, how: ToController) {
        if let Some(spec) = self.packet_in_spec(here, how) {
            self.emit(DpAction::PacketIn(Arc::new(spec)));
        }
    }

    /// What is told to the controllers of the packet, which is brought up to what the key says; none if the port it came in
    /// by sends them nothing.
    pub(super) fn packet_in_spec(&mut self, here: Here, how: ToController) -> Option<PacketInSpec> {
        let in_port = PortNo(self.key.get64(Slot::InPort) as u32);
        if self
            .port_at(here.1, in_port)
            .is_some_and(|p| p.flags.no_packet_in)
        {
            self.dropped(DropReason::NoOutput);
            return None;
        }
        self.commit();
        let mut metadata = Match::new();
        metadata.set(FieldId::InPort, in_port.0.into());
        for slot in METADATA.into_iter().chain(TUNNEL) {
            let bits = match slot {
                Slot::TunFlags => PUBLIC,
                slot => slot_bits(slot),
            };
            let value = self.key.get(slot) & bits;
            if value != 0 {
                metadata.set_slot(slot, value, bits, bits);
            }
        }
        for m in here.1.options.iter() {
            if self.key.has_option(m.index as u8) {
                let slot = Slot::TunOption(m.index as u8);
                let bits = slot_bits(slot) >> (128 - 8 * u32::from(m.len.min(16)));
                metadata.set_slot(slot, self.key.get(slot), bits, bits);
            }
        }
        Some(PacketInSpec {
            bridge: here.0.id,
            reason: how.reason,
            table: self.table,
            cookie: self.cookie,
            metadata,
            max_len: how.max_len,
            controller_id: how.id,
            userdata: how.userdata,
            budget: self.budget,
            meter: self.controller_meter(here, how.meter),
            continuation: None,
        })
    }

    /// The packet goes to the controllers, with all that is left to do; one of them may have it go on.
    pub(super) fn pause(&mut self, here: Here, how: ToController) {
        match self.packet_in_spec(here, how) {
            Some(spec) => {
                self.freeze(here, Reshape::Nothing);
                if let Some(f) = &mut self.freezing {
                    f.paused = Some(spec);
                }
            }
            // Nobody hears of it, so nobody has it go on.
            None => self.exit = true,
        }
    }
}
