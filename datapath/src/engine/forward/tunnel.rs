//! Tunnels' headers on and off.
//!
//! A packet that is the last to need its place in the batch gets its headers there, and goes on to be gathered for the port of the
//! underlay with the others of its batch. So does a packet whose headers are to come off: it waits until the batch is through
//! the underlay bridge, and then all of a tunnel port go through the caches together, as if they had just come in by it. Copies, and
//! packets that were cut into pieces, are done one by one.

use super::Forwarder;
use crate::action::{self, TunnelPush};
use crate::cache::tunnels::Shape;
use crate::config::Event;
use crate::drop::DropReason;
use crate::flow::{FlowKey, PACKET_WORDS, extract};
use crate::packet::segment::OnWire;
use crate::packet::{BATCH, Batch, OwnedPacket, segment};
use crate::pipeline::Xlate;
use crate::port::TxOutcome;
use crate::qos::Onward;
use crate::tunnel::decap::{OptionBuffer, Popped, parse};
use crate::tunnel::encap::Stamp;
use crate::tunnel::mtu::{self, Fit, Limiter};
use crate::tunnel::{TunnelKey, TunnelKind};
use crate::underlay::Ask;
use openflow::{Action, PortNo, Slot};
use std::sync::Arc;
use std::time::Duration;

/// How many tunnels are taken off one packet.
pub const TAKEN_OFF_MAX: usize = 4;

/// Packets of the batch at hand whose headers are to come off.
#[derive(Default)]
pub(super) struct Waiting {
    /// Whether packets may wait: whether it is the batch of a receive queue that is at hand.
    pub(super) can: bool,
    list: [Option<(u8, TunnelKind)>; BATCH],
    len: usize,
}

impl Waiting {
    #[inline(always)]
    pub(super) fn any(&self) -> bool {
        self.len > 0
    }
}

/// What threads fill into headers, and the buffer for what they read.
#[derive(Default)]
pub(super) struct Headers {
    stamp: Stamp,
    answers: Limiter,
    options: OptionBuffer,
}

/// A packet inside, where it came from.
#[derive(Clone, Copy, Default)]
struct Inside {
    place: u8,
    port: u32,
    number: u32,
}

impl Forwarder {
    /// Into a tunnel: packet `i`, or a copy of it unless it is `last` that anybody needs it.
    pub(super) fn enter_tunnel(
        &mut self,
        batch: &mut Batch,
        i: usize,
        push: &Arc<TunnelPush>,
        last: bool,
        port: u32,
    ) {
        let lane = self.lanes.get(push.port as usize);
        match lane.is_some_and(|l| l.egress.is_some()) {
            true => self.wait_for_tunnel(batch, i, push, port),
            false => self.go_into_tunnel(batch, i, push, last, port),
        }
    }

    /// Into a tunnel whose port has a shaper, in the form in which it is to be counted. Who is to be told that it is too long is
    /// told now.
    #[inline(never)]
    fn wait_for_tunnel(&mut self, batch: &mut Batch, i: usize, push: &Arc<TunnelPush>, port: u32) {
        let queue = batch.packet(i).queue;
        if let Some(max_len) = push.mirror {
            if batch.packet(i).len() > max_len as usize {
                let cut = Self::first_bytes(batch, i, max_len as usize);
                return self.each_apart(batch, &[cut], port, |x, own| {
                    own.packet_mut(0).queue = queue;
                    x.send_shaped(own, push.port, &[0], Some(push), port);
                });
            }
        } else if let fit @ (Fit::Answer(_) | Fit::Drop) = mtu::fit(batch.packet(i), &push.encap) {
            return self.does_not_fit(batch, i, push, fit, port);
        }
        self.send_shaped(batch, push.port, &[i as u8], Some(push), port);
    }

    /// A packet leaves the shaper of a tunnel port.
    pub(super) fn leave_into_tunnel(&mut self, packet: &OwnedPacket, onward: &Onward) -> TxOutcome {
        let mut out = TxOutcome::default();
        let port = onward.push.port;
        // It is another packet than the one at hand.
        let recirculations = std::mem::take(&mut self.recirculations);
        self.alone(port, |x, own| {
            // SAFETY: `packet` outlives its batch, which is cleared before this returns.
            if unsafe { own.push_borrowed(packet) } {
                action::find_headers(own.packet_mut(0));
                own.packet_mut(0).queue = onward.queue;
                out = counted(own, 0);
                x.go_into_tunnel(own, 0, &onward.push, true, port);
            }
        });
        self.recirculations = recirculations;
        out
    }

    /// Packets that the shaper of a tunnel port lets pass.
    pub(super) fn pass_into_tunnel(
        &mut self,
        batch: &Batch,
        which: &[u8],
        push: &TunnelPush,
    ) -> TxOutcome {
        let mut out = TxOutcome::default();
        for &i in which {
            self.alone(push.port, |x, own| {
                // SAFETY: the copy is cleared before this returns, and `batch` stays as long.
                if unsafe { own.push_copy(batch, i.into()) } {
                    out.add(counted(own, 0));
                    x.go_into_tunnel(own, 0, push, true, push.port);
                }
            });
        }
        out
    }

    fn go_into_tunnel(
        &mut self,
        batch: &mut Batch,
        i: usize,
        push: &TunnelPush,
        last: bool,
        port: u32,
    ) {
        if let Some(max_len) = push.mirror {
            return self.mirrored_into_tunnel(batch, i, push, max_len as usize, port);
        }
        let fit = mtu::fit(batch.packet(i), &push.encap);
        if fit != Fit::Fits {
            return self.does_not_fit(batch, i, push, fit, port);
        }
        if batch.packet(i).offload.is_gso() {
            self.in_segments(batch, i, push, port);
        } else if last {
            self.encapsulate(batch, i, push, port);
        } else {
            self.apart(batch, port, |x, own| {
                // SAFETY: the copy is cleared before this returns, and `batch` stays as long.
                if unsafe { own.push_copy(batch, i) } {
                    x.encapsulate(own, 0, push, port);
                }
            });
        }
    }

    /// A mirror's copy into a tunnel. What is too long there travels in fragments.
    #[inline(never)]
    fn mirrored_into_tunnel(
        &mut self,
        batch: &Batch,
        i: usize,
        push: &TunnelPush,
        max_len: usize,
        port: u32,
    ) {
        if batch.packet(i).len() > max_len {
            let cut = Self::first_bytes(batch, i, max_len);
            return self.each_apart(batch, &[cut], port, |x, own| {
                x.encapsulate(own, 0, push, port);
            });
        }
        if batch.packet(i).offload.is_gso() {
            return self.in_segments(batch, i, push, port);
        }
        self.apart(batch, port, |x, own| {
            // SAFETY: the copy is cleared before this returns, and `batch` stays as long.
            if unsafe { own.push_copy(batch, i) } {
                x.encapsulate(own, 0, push, port);
            }
        });
    }

    #[inline]
    fn encapsulate(&mut self, batch: &mut Batch, i: usize, push: &TunnelPush, port: u32) {
        self.headers.stamp.now = self.now;
        if let Err(reason) = push.encap.push(batch, i, &mut self.headers.stamp) {
            return self.drop(port, reason, 1);
        }
        let (mtu, ip) = (push.encap.mtu() as usize, push.encap.ip_offset());
        if mtu != 0 && ip != 0 && batch.packet(i).len() - ip > mtu {
            return self.in_outer_fragments(batch, i, push, port);
        }
        self.run_actions(batch, i, &push.actions, push.simple, port);
    }

    /// The segments of a large packet, each with headers of its own. Their bytes stay where they are.
    #[inline(never)]
    fn in_segments(&mut self, batch: &Batch, i: usize, push: &TunnelPush, port: u32) {
        let mut next = 0;
        let mut more = true;
        while more {
            self.apart(batch, port, |x, own| {
                // SAFETY: `own` is cleared before this returns, and `batch` stays as it is for as long.
                match unsafe { segment::cut(batch, i, &mut next, own) } {
                    Ok(left) => more = left,
                    Err(_) => {
                        more = false;
                        x.drop(port, DropReason::TxError, 1);
                    }
                }
                for k in 0..own.len() {
                    x.encapsulate(own, k, push, port);
                }
            });
        }
    }

    /// The way out carries no packets as long as this one.
    #[inline(never)]
    fn does_not_fit(
        &mut self,
        batch: &mut Batch,
        i: usize,
        push: &TunnelPush,
        fit: Fit,
        port: u32,
    ) {
        match fit {
            Fit::Fits => {}
            Fit::Cut(size) => {
                let asked = std::mem::replace(&mut batch.packet_mut(i).offload.gso.size, size);
                self.in_segments(batch, i, push, port);
                batch.packet_mut(i).offload.gso.size = asked;
            }
            Fit::Fragment(mtu) => {
                let l3 = usize::from(batch.packet(i).layers.l3);
                for whole in &self.pieces(batch, i, port) {
                    let fragments = mtu::fragments(&whole.bytes, l3, mtu.into());
                    self.each_apart(batch, &fragments, port, |x, own| {
                        x.encapsulate(own, 0, push, port);
                    });
                }
            }
            // It waited for this tunnel, and nobody remembers whose it is; or it came by it.
            Fit::Answer(_) if push.port == port => self.drop(port, DropReason::TunnelMtu, 1),
            Fit::Answer(mtu) => {
                self.drop(port, DropReason::TunnelMtu, 1);
                if self.headers.answers.allow(self.now)
                    && let Some(answer) = mtu::answer(batch, i, mtu)
                {
                    self.each_apart(batch, &[answer], port, |x, own| {
                        x.send_back(own, port);
                    });
                }
            }
            Fit::Drop => self.drop(port, DropReason::TunnelMtu, 1),
        }
    }

    /// The packet of a batch of its own goes out by the port that the packet at hand came in by; through the same tunnel, if it is
    /// a tunnel port.
    fn send_back(&mut self, batch: &mut Batch, port: u32) {
        let world = self.world.clone();
        let Some(entry) = world.port(port).filter(|p| p.tunnel.is_some()) else {
            return self.send_now(batch, port, &[0], port);
        };
        let mut words = [0; PACKET_WORDS];
        let n = extract(batch.packet_mut(0), port, world.tag_limit, &mut words);
        let mut key = FlowKey::from_packet(&words, n);
        if let Some(t) = self.tunnels.get(self.came_by) {
            key.set_tunnel(&TunnelKey {
                src: t.key.dst,
                dst: t.key.src,
                flags: 0,
                ..t.key
            });
        }
        let bytes = batch.packet(0).len() as u64;
        let output = Action::Output {
            port: entry.number,
            max_len: 0,
        };
        let now = Duration::from_nanos(self.now);
        let t = Xlate::new(&world, key, now, true).long(bytes).run_actions(
            entry.bridge,
            PortNo::CONTROLLER,
            &[output],
        );
        self.carry_out(batch, 0, &t, (bytes, 0), port);
    }

    /// A packet with its headers on is longer than the way out carries, and may be fragmented.
    #[inline(never)]
    fn in_outer_fragments(&mut self, batch: &Batch, i: usize, push: &TunnelPush, port: u32) {
        let (mtu, ip) = (push.encap.mtu() as usize, push.encap.ip_offset());
        for whole in &self.pieces(batch, i, port) {
            let fragments = mtu::fragments(&whole.bytes, ip, mtu);
            if fragments.is_empty() {
                self.drop(port, DropReason::TunnelMtu, 1);
            }
            self.each_apart(batch, &fragments, port, |x, own| {
                x.run_actions(own, 0, &push.actions, false, port);
            });
        }
    }

    /// Does `work` to each of these packets, in a batch of its own.
    fn each_apart(
        &mut self,
        batch: &Batch,
        packets: &[OwnedPacket],
        port: u32,
        mut work: impl FnMut(&mut Self, &mut Batch),
    ) {
        for packet in packets {
            self.apart(batch, port, |x, own| {
                // SAFETY: `packet` outlives its batch, which is cleared before this returns.
                if unsafe { own.push_borrowed(packet) } {
                    let mut words = [0; PACKET_WORDS];
                    extract(own.packet_mut(0), port, x.world.tag_limit, &mut words);
                    work(x, own);
                }
            });
        }
    }

    /// Off a tunnel: packet `i`, or a copy of it unless it is `last` that anybody needs it.
    pub(super) fn off_tunnel(
        &mut self,
        batch: &mut Batch,
        i: usize,
        kind: TunnelKind,
        last: bool,
        port: u32,
    ) {
        if batch.packet(i).offload.is_gso() {
            let pieces = self.pieces(batch, i, port);
            self.each_apart(batch, &pieces, port, |x, own| {
                x.decapsulate_now(own, kind, port)
            });
        } else if last && self.waiting.can && self.waiting.len < BATCH {
            self.waiting.list[self.waiting.len] = Some((i as u8, kind));
            self.waiting.len += 1;
        } else {
            self.apart(batch, port, |x, own| {
                // SAFETY: the copy is cleared before this returns, and `batch` stays as long.
                if unsafe { own.push_copy(batch, i) } {
                    x.decapsulate_now(own, kind, port);
                }
            });
        }
    }

    /// The packets of the batch that wait go on, inside.
    #[inline(never)]
    pub(super) fn go_on_inside(&mut self, batch: &mut Batch, from: u32) {
        for _ in 0..TAKEN_OFF_MAX {
            let mut inside = [Inside::default(); BATCH];
            let mut n = 0;
            let (list, len) = (self.waiting.list, std::mem::take(&mut self.waiting.len));
            for &(place, kind) in list[..len].iter().flatten() {
                if let Some((port, number)) = self.decapsulate(batch, place.into(), kind, n, from) {
                    inside[n] = Inside {
                        place,
                        port,
                        number,
                    };
                    n += 1;
                }
            }
            self.groups(batch, &mut inside[..n]);
            if self.waiting.len == 0 {
                return;
            }
        }
        let left = std::mem::take(&mut self.waiting.len);
        self.drop(from, DropReason::TunnelLoop, left as u32);
    }

    /// Packets that a socket of the host received, each from its outer IP header on.
    #[inline(never)]
    pub(super) fn take_from_socket(&mut self, batch: &mut Batch, kind: TunnelKind, from: u32) {
        for place in 0..batch.len().min(BATCH) {
            self.waiting.list[place] = Some((place as u8, kind));
        }
        self.waiting.len = batch.len().min(BATCH);
        for place in 0..self.waiting.len {
            // Nothing is known of where headers are.
            batch.packet_mut(place).layers = Default::default();
        }
        self.go_on_inside(batch, from);
    }

    /// Packets of one tunnel port after the other.
    fn groups(&mut self, batch: &mut Batch, mut inside: &mut [Inside]) {
        while let Some(first) = inside.first() {
            let port = first.port;
            // Mostly all are of one port; the others keep their order, too.
            let mut some = [Inside::default(); BATCH];
            let (mut n, mut left) = (0, 0);
            for k in 0..inside.len() {
                let x = inside[k];
                if x.port == port {
                    some[n] = x;
                    n += 1;
                } else {
                    inside[left] = x;
                    left += 1;
                }
            }
            inside = &mut inside[..left];
            self.forward(
                batch,
                n,
                port,
                |k| usize::from(some[k % BATCH].place),
                |k| some[k % BATCH].number,
            );
        }
    }

    /// Takes the headers off packet `i`: which tunnel port it came in by, and the number of its tunnel. `k` is its place among those
    /// looked up together.
    #[inline]
    fn decapsulate(
        &mut self,
        batch: &mut Batch,
        i: usize,
        kind: TunnelKind,
        k: usize,
        from: u32,
    ) -> Option<(u32, u32)> {
        let at = usize::from(batch.packet(i).layers.l3);
        let options = &mut self.headers.options;
        let popped = match parse(batch, i, kind, at, options) {
            Ok(popped) => popped,
            Err(reason) => {
                self.drop(from, reason, 1);
                return None;
            }
        };
        let shape = Shape {
            kind: popped.kind,
            port: popped.port,
            layer3: popped.layer3.is_some(),
            gbp: popped.gbp,
        };
        let known = &mut self.tunnels;
        let found = known.number(shape, &popped.key, options.get(), k, &self.world);
        let (number, port) = match found {
            Ok(found) => found,
            Err(reason) => {
                self.drop(from, reason, 1);
                return None;
            }
        };
        if let Err(reason) = popped.take_off(batch, i) {
            self.drop(from, reason, 1);
            return None;
        }
        if !congestion(batch, i, &popped) {
            self.drop(port, DropReason::TunnelCongestion, 1);
            return None;
        }
        if !self.comes_in(batch, i, port) {
            return None;
        }
        Some((port, number))
    }

    /// Takes the headers off the packet of a batch of its own, and translates what is inside for it alone.
    fn decapsulate_now(&mut self, batch: &mut Batch, kind: TunnelKind, from: u32) {
        self.recirculations += 1;
        if self.recirculations > crate::pipeline::RECIRCULATIONS_MAX {
            return self.drop(from, DropReason::TunnelLoop, 1);
        }
        let Some((port, number)) = self.decapsulate(batch, 0, kind, 0, from) else {
            return;
        };
        batch.refill_head(0);
        let mut words = [0; PACKET_WORDS];
        let n = extract(batch.packet_mut(0), port, self.world.tag_limit, &mut words);
        words[n..].fill(0);
        words[0] |= u64::from(number);
        let bytes = batch.packet(0).len() as u64;
        let local = &mut self.lane(port).local;
        local.rx_packets += 1;
        local.rx_bytes += bytes;
        self.touch(port);
        let t = self.translate(&words, port, false, Default::default());
        let outside = std::mem::replace(&mut self.came_by, number);
        let flags = super::inject::tcp_flags(&words);
        self.carry_out(batch, 0, &t, (bytes, flags), port);
        self.came_by = outside;
    }

    /// A neighbour is not known: asks for it, if it is time to.
    #[inline(never)]
    pub(super) fn ask_neighbour(&mut self, batch: &Batch, ask: &Ask, port: u32) {
        self.drop(port, DropReason::TunnelNeighbour, 1);
        if !ask.is_due(self.now) {
            return;
        }
        let wanted = Event::NeighbourWanted {
            device: ask.device.clone(),
            ip: ask.ip,
        };
        self.events.send(wanted, None);
        let world = self.world.clone();
        let Some(entry) = world.port(ask.port) else {
            return;
        };
        self.apart(batch, port, |x, own| {
            // SAFETY: the request outlives its batch, which is cleared before this returns.
            if !unsafe { own.push_borrowed(&ask.request) } {
                return;
            }
            let mut words = [0; PACKET_WORDS];
            let n = extract(own.packet_mut(0), ask.port, world.tag_limit, &mut words);
            let mut key = FlowKey::from_packet(&words, n);
            key.set(Slot::InPort, entry.number.0.into());
            let bytes = own.packet(0).len() as u64;
            let t = Xlate::new(&world, key, Duration::from_nanos(x.now), true).run(entry);
            x.carry_out(own, 0, &t, (bytes, 0), ask.port);
        });
    }

    /// Takes numbers of tunnels back that no flow holds, if they ran out.
    pub(super) fn reclaim_tunnels(&mut self) {
        if self.tunnels.is_full() {
            let flows = self.flows.iter().filter(|f| f.live && f.body.mask[0] != 0);
            self.tunnels.reclaim(flows.map(|f| f.body.key[0] as u32));
        }
    }
}

/// A packet that went into a tunnel.
fn counted(batch: &Batch, i: usize) -> TxOutcome {
    let wire = OnWire::of(batch.packet(i));
    TxOutcome {
        packets: wire.frames,
        bytes: wire.bytes,
        ..TxOutcome::default()
    }
}

/// Marks a packet that met congestion on its way through the tunnel; `false` if it is one that must not be marked, and so is dropped
/// (RFC 6040 4.2).
#[inline]
fn congestion(batch: &mut Batch, i: usize, popped: &Popped) -> bool {
    const CE: u8 = 3;
    if popped.key.tos & CE != CE {
        return true;
    }
    let p = batch.packet_mut(i);
    let mut words = [0; PACKET_WORDS];
    let n = extract(p, 0, 2, &mut words);
    let key = FlowKey::from_packet(&words, n);
    if !matches!(key.get64(Slot::EthType), 0x0800 | 0x86dd) {
        return true;
    }
    match key.get64(Slot::NwTos) as u8 & CE {
        0 => false,
        _ => {
            crate::action::set(p, Slot::NwTos, CE.into(), CE.into());
            true
        }
    }
}
