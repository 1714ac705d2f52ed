//! What a controller is told without having asked, and how much of it.

use super::flows::is_visible;
use super::{Kind, Peer};
use crate::agent::fair::{FairQueue, FairStats};
use crate::agent::rconn::Now;
use crate::agent::{Async, Bridge, ConnId, is_hidden};
use bytes::Bytes;
use openflow::action::PacketInReason;
use openflow::error::ErrorKind;
use openflow::wire::{OF10, OF13};
use openflow::{
    AsyncChange, AsyncConfig, FieldId, FlowStatsReason, Message, MultipartReply, OfError, PacketIn,
    PortReason, Role, SwitchConfig,
};

/// Wire version of OpenFlow 1.4.
const OF14: u8 = 5;
/// Wire version of OpenFlow 1.5.
const OF15: u8 = 6;
/// `OFPCML_NO_BUFFER`: the whole packet.
const WHOLE: u16 = 0xffff;

/// How packet-ins are written (NXT_SET_PACKET_IN_FORMAT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PacketInFormat {
    /// As the version does.
    Standard,
    /// NXT_PACKET_IN.
    Nicira,
    /// NXT_PACKET_IN2.
    Nicira2,
}

/// What one connection hears.
#[derive(Clone, Debug)]
pub struct Hearing {
    kind: Kind,
    version: u8,
    miss_send_len: u16,
    asynchronous: AsyncConfig,
    controller_id: u16,
    format: PacketInFormat,
    /// Misses and all others are limited apart, so that misses do not starve what flows ask for.
    limits: Option<[FairQueue<Message>; 2]>,
}

impl Hearing {
    pub(super) fn new(kind: Kind, version: u8) -> Hearing {
        Hearing {
            kind,
            version,
            miss_send_len: match kind {
                Kind::Primary => 128,
                Kind::Service => 0,
            },
            asynchronous: default_async(version),
            controller_id: 0,
            format: PacketInFormat::Standard,
            limits: None,
        }
    }

    /// Whether it hears anything unless it says so (`Controller.enable_async_messages`).
    pub fn enable(&mut self, on: bool) {
        self.asynchronous = match on {
            true => default_async(self.version),
            false => AsyncConfig::default(),
        };
    }

    /// Limits packet-ins: so many a second, so many at once. Those that wait when there is no limit any more are dropped,
    /// as Open vSwitch does.
    pub fn limit(&mut self, limit: Option<(u32, u32)>, now: Now) {
        match (&mut self.limits, limit) {
            (Some(queues), Some((rate, burst))) => {
                for q in queues {
                    q.set_limits(rate, burst, now);
                }
            }
            _ => {
                self.limits = limit.map(|(rate, burst)| {
                    [
                        FairQueue::new(rate, burst, now),
                        FairQueue::new(rate, burst, now),
                    ]
                });
            }
        }
    }

    /// What the limits on misses and on other packet-ins did.
    pub fn limited(&self) -> Option<[FairStats; 2]> {
        self.limits.as_ref().map(|[a, b]| [a.stats(), b.stats()])
    }

    pub(super) fn config(&self, fragments: u16) -> SwitchConfig {
        let ttl = self.version < OF13
            && self.asynchronous.packet_in[0] & (1 << PacketInReason::InvalidTtl as u32) != 0;
        SwitchConfig {
            flags: fragments | if ttl { super::packets::INVALID_TTL } else { 0 },
            miss_send_len: self.miss_send_len,
        }
    }

    pub(super) fn set_config(&mut self, c: SwitchConfig) {
        self.miss_send_len = c.miss_send_len;
        if self.version < OF13 {
            let bit = 1 << PacketInReason::InvalidTtl as u32;
            let packet_in = &mut self.asynchronous.packet_in[0];
            match c.flags & super::packets::INVALID_TTL {
                0 => *packet_in &= !bit,
                _ => *packet_in |= bit,
            }
        }
    }

    pub(super) fn asynchronous(&self) -> AsyncConfig {
        self.asynchronous
    }

    pub(super) fn set_asynchronous(&mut self, c: AsyncChange) {
        c.apply(&mut self.asynchronous);
    }

    pub(super) fn set_controller_id(&mut self, id: u16) {
        self.controller_id = id;
    }

    pub(super) fn set_packet_in_format(&mut self, n: u32) -> Result<(), OfError> {
        self.format = match n {
            0 => PacketInFormat::Standard,
            1 => PacketInFormat::Nicira,
            2 => PacketInFormat::Nicira2,
            n => {
                return Err(OfError::new(
                    ErrorKind::RequestEperm,
                    format!(
                        "packet-in format {n} is not known; 0 is the version's own, 1 and 2 are Nicira's"
                    ),
                ));
            }
        };
        Ok(())
    }

    /// A packet-in whose turn has come since it was held back.
    pub fn due(&mut self, now: Now) -> Option<Message> {
        self.limits.as_mut()?.iter_mut().find_map(|q| q.due(now))
    }

    /// When [`Hearing::due`] has the next one.
    pub fn wake(&self) -> Option<Now> {
        self.limits.as_ref()?.iter().filter_map(|q| q.wake()).min()
    }

    fn packet_in(
        &mut self,
        packet: &PacketIn,
        max_len: u16,
        buffer: Option<u32>,
        now: Now,
    ) -> Option<Message> {
        let miss = packet.reason == PacketInReason::NoMatch;
        // Where nothing is buffered a miss is sent whole, since there is nowhere to fetch the rest
        // from (OpenFlow 1.3.5 7.4.1); an action says itself how much it wants.
        let (len, buffer) = match (miss, buffer) {
            (true, None) => (WHOLE, None),
            (true, Some(id)) => (self.miss_send_len, Some(id)),
            (false, id) => (max_len, id),
        };
        let cut = match len {
            WHOLE => packet.data.len(),
            n => packet.data.len().min(usize::from(n)),
        };
        let sent = PacketIn {
            buffer: buffer.filter(|_| len != WHOLE),
            data: packet.data.slice(..cut),
            ..packet.clone()
        };
        let message = match self.format {
            PacketInFormat::Standard => Message::PacketIn(PacketIn {
                userdata: Bytes::new(),
                continuation: None,
                ..sent
            }),
            PacketInFormat::Nicira => Message::Nicira(Box::new(Message::PacketIn(PacketIn {
                userdata: Bytes::new(),
                continuation: None,
                ..sent
            }))),
            PacketInFormat::Nicira2 => Message::PacketIn2(sent),
        };
        match &mut self.limits {
            None => Some(message),
            Some([misses, others]) => {
                let queue = if miss { misses } else { others };
                let port = in_port(packet);
                // What a message costs beside its packet is bounded by its metadata: a few hundred bytes.
                queue.offer(port, cut + 256, message, now)
            }
        }
    }
}

/// The port a packet came in by.
pub(in crate::agent) fn in_port(packet: &PacketIn) -> u32 {
    packet.metadata.get(FieldId::InPort).0 as u32
}

impl Peer {
    /// What an event has this connection say now.
    pub fn tell(&mut self, bridge: &Bridge, event: &Async, now: Now) -> Option<Message> {
        let h = &mut self.hearing;
        if h.kind == Kind::Service && h.miss_send_len == 0 {
            return None;
        }
        let secondary = bridge.with_roles(|r| r.role(self.id)) == Role::Secondary;
        let side = usize::from(secondary);
        let wants = |masks: &[u32; 2], bit: u32| masks[side] & (1 << bit) != 0;
        let c = &h.asynchronous;
        match event {
            Async::PacketIn {
                packet,
                max_len,
                controller_id,
                buffer,
            } => {
                let heard = *controller_id == h.controller_id
                    && wants(&c.packet_in, reason_bit(packet.reason, h.version));
                if !heard {
                    return None;
                }
                h.packet_in(packet, *max_len, *buffer, now)
            }
            Async::FlowRemoved(removed) => {
                let visible = !is_hidden(removed.flow.cookie);
                let wanted = visible && wants(&c.flow_removed, removed.reason as u32);
                let m = wanted.then(|| Message::FlowRemoved(removed.clone()))?;
                Some(match (self.version, self.flows.nicira) {
                    (OF10, true) => Message::Nicira(Box::new(m)),
                    _ => m,
                })
            }
            Async::FlowStats(flows) => {
                let told = FlowStatsReason::Trigger;
                if h.version < OF15 || !wants(&c.flow_stats, told as u32) {
                    return None;
                }
                let visible = flows.iter().filter(|f| is_visible(f));
                let flows: Vec<_> = visible.map(|f| (told, f.clone())).collect();
                if flows.is_empty() {
                    return None;
                }
                Some(Message::MultipartReply(MultipartReply::FlowStats(flows)))
            }
            Async::PortStatus(reason, desc) => wants(&c.port_status, port_reason(*reason))
                .then(|| Message::PortStatus(*reason, desc.clone())),
            Async::Demoted { who, reason, role } => {
                // It was asked while it still was primary.
                let bit = 1 << *reason as u32;
                (*who == self.id && h.version >= OF14 && c.role_status[0] & bit != 0)
                    .then_some(Message::RoleStatus(*reason, *role))
            }
            Async::Forward { from, xid, message } => {
                let bit = u32::from(matches!(message, Message::MeterMod(_)));
                (*from != self.id && h.version >= OF14 && wants(&c.request_forward, bit))
                    .then(|| Message::RequestForward(*xid, Box::new(message.clone())))
            }
            Async::ControllerStatus(status) => (h.version >= OF15
                && wants(&c.controller_status, u32::from(status.reason & 31)))
            .then(|| Message::ControllerStatus(status.clone())),
        }
    }

    /// Names the connection.
    pub fn id(&self) -> ConnId {
        self.id
    }
}

fn port_reason(reason: PortReason) -> u32 {
    reason as u32
}

/// Bit of a reason in an asynchronous configuration. Before 1.4 there are fewer reasons.
fn reason_bit(reason: PacketInReason, version: u8) -> u32 {
    match reason {
        PacketInReason::NoMatch => 0,
        PacketInReason::Action => 1,
        PacketInReason::InvalidTtl => 2,
        _ if version < OF14 => 1,
        PacketInReason::ActionSet => 3,
        PacketInReason::Group => 4,
        PacketInReason::PacketOut => 5,
    }
}

/// What a controller gets before it says otherwise: everything that its version has but packets
/// whose TTL ran out; while it is secondary, only the ports.
fn default_async(version: u8) -> AsyncConfig {
    AsyncConfig {
        packet_in: [0b11_1011, 0],
        port_status: [0b111, 0b111],
        flow_removed: [
            match version {
                v if v >= OF14 => 0b11_1111,
                OF13 => 0b1111,
                _ => 0b111,
            },
            0,
        ],
        flow_stats: [
            match version {
                // Who asks for a trigger wants to be told.
                v if v >= OF15 => 1 << FlowStatsReason::Trigger as u32,
                _ => 0,
            },
            0,
        ],
        ..AsyncConfig::default()
    }
}
