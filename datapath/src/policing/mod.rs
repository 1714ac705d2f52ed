//! What a port may send into the switch: ingress policing and storm control.
//!
//! A [`Limit`] is a pair of token buckets, in kbit/s and in packets/s, either of which may be missing. A port has up to four: one
//! for all that comes in by it (`Interface.ingress_policing_*`), and one each for broadcast, multicast and unknown unicast
//! (`Port.other_config:storm-*`). Threads share them without a lock ([`Rate`]).
//!
//! # What is counted
//!
//! Ethernet frames from the destination address to the end of the payload, without frame check sequence, preamble and gap, as
//! they would be on a wire: a TSO packet counts as all its segments, each with headers of its own ([`OnWire`]).
//!
//! # What passes
//!
//! A frame passes while its bucket has anything left, and what it costs beyond that is owed: of a limit that is always
//! exceeded exactly the rate passes, whatever the lengths of frames, and however small the burst is. At most one frame more
//! than the burst passes at once. Of a TSO packet that fits in part the first segments pass, as one packet, and the others are
//! dropped; it would be the same if they had come one by one. What one bucket refuses costs the other nothing.
//!
//! # Where
//!
//! In the forwarding thread, before anything else is done with a packet (`engine/forward/ingress.rs`). Two things can only be
//! said by the pipeline, and are actions of the flow then ([`DpAction::Limit`](crate::action::DpAction::Limit)): that a
//! destination is unknown, which is what NORMAL finds, and what comes in by a patch port, which no thread receives from. Time
//! is read for each batch that comes by a limited port, or goes through such an action; others pay one test a batch.

mod guard;

pub use guard::{Guard, Prefix};

use crate::bridge::PortCounters;
use crate::clock::Now;
use crate::config::PortSpec;
use crate::drop::DropReason;
use crate::meter::Rate;
use crate::meter::rate::{BIT, Frames, PACKET};
use crate::packet::Packet;
use crate::packet::segment::OnWire;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A limit as asked for; a rate of 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSpec {
    /// kbit/s.
    pub kbps: u32,
    /// kbit that may pass at once.
    pub kbits: u32,
    /// Packets/s.
    pub pps: u32,
    /// Packets that may pass at once.
    pub packets: u32,
}

impl RateSpec {
    fn is_none(&self) -> bool {
        self.kbps == 0 && self.pps == 0
    }
}

/// Storm control of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StormSpec {
    /// Of frames to ff:ff:ff:ff:ff:ff.
    pub broadcast: RateSpec,
    /// Of frames to other group addresses.
    pub multicast: RateSpec,
    /// Of frames that NORMAL floods since it has not learned their destination.
    pub unknown_unicast: RateSpec,
}

/// What a limit is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything.
    Policing,
    /// Broadcast.
    Broadcast,
    /// Multicast.
    Multicast,
    /// Unicast to nobody known.
    UnknownUnicast,
}

impl Kind {
    /// Every kind, in the order of [`PortCounters::limited`].
    pub const ALL: [Kind; 4] = [
        Kind::Policing,
        Kind::Broadcast,
        Kind::Multicast,
        Kind::UnknownUnicast,
    ];

    /// Why a packet is dropped that exceeds it.
    pub const fn reason(self) -> DropReason {
        match self {
            Kind::Policing => DropReason::IngressPolicing,
            Kind::Broadcast => DropReason::StormBroadcast,
            Kind::Multicast => DropReason::StormMulticast,
            Kind::UnknownUnicast => DropReason::StormUnknownUnicast,
        }
    }

    /// The name of the frames that it dropped in a port's statistics.
    pub const fn statistic(self) -> &'static str {
        match self {
            // As Open vSwitch's userspace datapath has it.
            Kind::Policing => "ovs_rx_qos_drops",
            Kind::Broadcast => "storm_broadcast_drops",
            Kind::Multicast => "storm_multicast_drops",
            Kind::UnknownUnicast => "storm_unknown_unicast_drops",
        }
    }
}

/// A limit at work. See the module's essay.
#[derive(Debug)]
pub struct Limit {
    /// Of what.
    pub kind: Kind,
    bits: Option<Rate>,
    packets: Option<Rate>,
    counters: Arc<PortCounters>,
}

impl PartialEq for Limit {
    fn eq(&self, other: &Limit) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Limit {
    /// None if it limits nothing. It takes the place of `before`, and goes on with what that has left: who changes a rate gives
    /// away no burst.
    fn new(
        kind: Kind,
        spec: RateSpec,
        counters: &Arc<PortCounters>,
        now: Now,
        before: Option<&Limit>,
    ) -> Option<Arc<Limit>> {
        if spec.is_none() {
            return None;
        }
        let rate = |rate, burst, before: Option<&Rate>| {
            let rate = (rate > 0).then(|| Rate::new(rate, burst, now))?;
            if let Some(before) = before {
                rate.carry_on(before, now.as_nanos() as u64);
            }
            Some(rate)
        };
        Some(Arc::new(Limit {
            kind,
            bits: rate(spec.kbps, spec.kbits, before.and_then(|b| b.bits.as_ref())),
            packets: rate(
                spec.pps,
                spec.packets,
                before.and_then(|b| b.packets.as_ref()),
            ),
            counters: counters.clone(),
        }))
    }

    /// How many frames of a packet pass, and how many it has. Those that do not are counted.
    #[inline]
    pub fn admit(&self, p: &Packet, now: u64) -> (u32, u32) {
        let wire = OnWire::of(p);
        let bits = Frames {
            count: wire.frames,
            each: wire.each * 8 * BIT,
            all: wire.bytes * 8 * BIT,
        };
        let mut pass = wire.frames;
        if let Some(rate) = &self.bits {
            pass = rate.take_frames(bits, now);
        }
        if let Some(rate) = &self.packets
            && pass > 0
        {
            let frames = Frames {
                count: pass,
                each: PACKET,
                all: PACKET * u64::from(pass),
            };
            let fewer = rate.take_frames(frames, now);
            if let Some(rate) = &self.bits
                && fewer < pass
            {
                rate.give_back(bits.cost(pass) - bits.cost(fewer));
            }
            pass = fewer;
        }
        if pass < wire.frames {
            self.count(wire.frames - pass);
        }
        (pass, wire.frames)
    }

    /// Takes back what [`Limit::admit`] said of a packet of which some frames passed.
    pub(crate) fn take_back(&self, p: &Packet, pass: u32) {
        let wire = OnWire::of(p);
        if let Some(rate) = &self.bits {
            rate.give_back((wire.each * u64::from(pass) * 8 * BIT) as i64);
        }
        if let Some(rate) = &self.packets {
            rate.give_back((PACKET * u64::from(pass)) as i64);
        }
        let refused = u64::from(wire.frames - pass);
        self.counters.limited[self.kind as usize].fetch_sub(refused, Ordering::Relaxed);
    }

    /// So many frames were dropped.
    #[cold]
    fn count(&self, frames: u32) {
        self.counters.limited[self.kind as usize].fetch_add(frames.into(), Ordering::Relaxed);
    }
}

/// The limits of a port.
#[derive(Clone, Debug, Default)]
pub struct Ingress {
    /// Of everything.
    pub policing: Option<Arc<Limit>>,
    /// Of broadcast.
    pub broadcast: Option<Arc<Limit>>,
    /// Of multicast.
    pub multicast: Option<Arc<Limit>>,
    /// Of unicast to nobody known.
    pub unknown_unicast: Option<Arc<Limit>>,
}

impl Ingress {
    /// As a port's specification has it, in place of what there was; none if nothing is limited.
    pub(crate) fn new(
        spec: &PortSpec,
        counters: &Arc<PortCounters>,
        now: Now,
        before: Option<&Ingress>,
    ) -> Option<Arc<Ingress>> {
        let make = |kind, spec, get: fn(&Ingress) -> &Option<Arc<Limit>>| {
            let before = before.and_then(|b| get(b).as_deref());
            Limit::new(kind, spec, counters, now, before)
        };
        let storm = &spec.storm;
        let made = Ingress {
            policing: make(Kind::Policing, spec.policing, |i| &i.policing),
            broadcast: make(Kind::Broadcast, storm.broadcast, |i| &i.broadcast),
            multicast: make(Kind::Multicast, storm.multicast, |i| &i.multicast),
            unknown_unicast: make(Kind::UnknownUnicast, storm.unknown_unicast, |i| {
                &i.unknown_unicast
            }),
        };
        let limits = spec.policing.is_none()
            && [storm.broadcast, storm.multicast, storm.unknown_unicast]
                .iter()
                .all(RateSpec::is_none);
        (!limits).then(|| Arc::new(made))
    }

    /// Whether there is a limit of a kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Policing => self.policing.is_some(),
            Kind::Broadcast => self.broadcast.is_some(),
            Kind::Multicast => self.multicast.is_some(),
            Kind::UnknownUnicast => self.unknown_unicast.is_some(),
        }
    }

    /// The limit of storm control for frames to a destination whose address says what it is.
    #[inline]
    pub(crate) fn storm(&self, dst: [u8; 6]) -> Option<&Arc<Limit>> {
        match dst {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => self.broadcast.as_ref(),
            [first, ..] if first & 1 != 0 => self.multicast.as_ref(),
            _ => None,
        }
    }

    /// Whether anything is limited that a packet's own bytes tell of.
    pub(crate) fn is_on_receipt(&self) -> bool {
        self.policing.is_some() || self.broadcast.is_some() || self.multicast.is_some()
    }
}
