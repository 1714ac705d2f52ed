//! The learning switch: a switch that knows nothing learns where hosts are, packet by packet.
//!
//! Each switch has one `LearningSwitch`. On connecting it installs the table-miss flow (priority 0,
//! to the controller). A packet that reaches the controller teaches the port of its source, per
//! VLAN. If its destination is known too, a flow is installed that carries the rest of the
//! conversation without the controller; else the packet alone is flooded.
//!
//! Learned flows match `in_port`, VLAN, `eth_src` and `eth_dst`. The source is matched so that a
//! host that has moved, or a new one, is always seen: its first packet from a new port finds no
//! flow. They have priority [`LearningSwitchConfig::priority`] (10), below what users install (500
//! unless they say otherwise), and end after 10 seconds without a packet or 30 seconds in all,
//! whichever is first, so what is wrong heals by itself.
//!
//! When a host moves, the flows to and from its old place are deleted before the new ones are
//! installed. When a port goes away or down, so do its flows.
//!
//! Everything is bounded: [`MAX_MACS`] addresses a switch and [`MAX_MACS_PER_PORT`] a port, so
//! that one guest that invents addresses cannot push the others out. Beyond the bound, packets
//! are flooded rather than lost.

use crate::cookie;
use crate::packet::{ETH_TYPE_LLDP, Frame, Vlan};
use openflow::action::PacketInReason;
use openflow::{
    Action, FieldId, FlowFlags, FlowMod, FlowModCommand, FlowRemoved, FlowRemovedReason, FlowStats,
    Instructions, MacAddr, Match, Message, PacketIn, PacketOut, PortNo,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Addresses remembered for one switch.
pub const MAX_MACS: usize = 65_536;
/// Addresses remembered for one port.
pub const MAX_MACS_PER_PORT: usize = 8_192;
/// `max_len` that asks for the whole packet, unbuffered (`OFPCML_NO_BUFFER`, OpenFlow 1.3.5 7.2.5).
pub const NO_BUFFER: u16 = 0xffff;

/// How learned flows send packets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// To the port where the controller saw the destination. The packet leaves as it came in: VLAN
    /// settings of the switch's ports play no part.
    #[default]
    Output,
    /// By the switch's own `NORMAL` action, which respects access and trunk VLANs of the ports.
    /// Only for switches that have it (weir and Open vSwitch do).
    Normal,
}

/// The settings; `default` gives the documented values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearningSwitchConfig {
    /// Priority of learned flows.
    pub priority: u16,
    /// Seconds without a packet after which a learned flow ends.
    pub idle_timeout: u16,
    /// Seconds after which a learned flow ends in any case.
    pub hard_timeout: u16,
    /// How long an address that is not heard of is remembered.
    pub mac_age: Duration,
    /// How packets go on.
    pub forwarding: Forwarding,
}

impl Default for LearningSwitchConfig {
    fn default() -> LearningSwitchConfig {
        LearningSwitchConfig {
            priority: 10,
            idle_timeout: 10,
            hard_timeout: 30,
            mac_age: Duration::from_secs(300),
            forwarding: Forwarding::Output,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    port: u32,
    seen: Instant,
}

/// What one switch has been learned about, and what to do with its packets.
#[derive(Debug, Default)]
pub struct LearningSwitch {
    config: LearningSwitchConfig,
    macs: HashMap<(Vlan, MacAddr), Place>,
    per_port: HashMap<u32, usize>,
}

impl LearningSwitch {
    /// One that knows nothing.
    pub fn new(config: LearningSwitchConfig) -> LearningSwitch {
        LearningSwitch {
            config,
            ..LearningSwitch::default()
        }
    }

    /// The table-miss flow (OpenFlow 1.3.5 5.4): everything unknown to the controller, whole.
    pub fn table_miss() -> FlowMod {
        FlowMod {
            cookie: cookie::TABLE_MISS,
            priority: 0,
            flags: FlowFlags {
                send_flow_rem: true,
                ..FlowFlags::default()
            },
            ..FlowMod::add(
                Match::new(),
                Instructions::apply(vec![Action::Output {
                    port: PortNo::CONTROLLER,
                    max_len: NO_BUFFER,
                }]),
            )
        }
    }

    /// What to send to a switch that has just connected.
    pub fn connected(&self) -> Vec<Message> {
        vec![Message::FlowMod(LearningSwitch::table_miss())]
    }

    /// Learns from the flows that an earlier connection left on the switch, so that the controller
    /// takes over without a gap in forwarding.
    pub fn recall(&mut self, now: Instant, flows: &[FlowStats]) {
        for f in flows {
            if !cookie::owned_by(f.cookie, cookie::LEARNED) {
                continue;
            }
            let m = &f.matching;
            let (Some(vlan), Some(src), Some(in_port)) = (
                vlan_of(m),
                m.exact(FieldId::EthSrc),
                m.exact(FieldId::InPort),
            ) else {
                continue;
            };
            self.learn(now, vlan, MacAddr::from_u64(src as u64), in_port as u32);
            if let ([Action::Output { port, .. }], Some(dst)) =
                (f.instructions.apply.as_slice(), m.exact(FieldId::EthDst))
                && (port.is_physical() || *port == PortNo::LOCAL)
            {
                self.learn(now, vlan, MacAddr::from_u64(dst as u64), port.0);
            }
        }
    }

    /// Where an address was last seen.
    pub fn port_of(&self, vlan: Vlan, mac: MacAddr) -> Option<PortNo> {
        self.macs.get(&(vlan, mac)).map(|p| PortNo(p.port))
    }

    /// Number of addresses known.
    pub fn known(&self) -> usize {
        self.macs.len()
    }

    /// A packet came up.
    pub fn packet_in(&mut self, now: Instant, packet: &PacketIn) -> Vec<Message> {
        // Packets that a user's own flow sends up are not ours to forward.
        let missed =
            packet.cookie == cookie::TABLE_MISS || packet.reason == PacketInReason::NoMatch;
        let (Some(in_port), Some(frame)) = (
            packet.metadata.exact(FieldId::InPort),
            Frame::parse(&packet.data),
        ) else {
            return Vec::new();
        };
        let in_port = in_port as u32;
        if !missed || frame.eth_type == ETH_TYPE_LLDP || is_link_local(frame.dst) {
            return Vec::new();
        }
        let mut out = Vec::new();
        if !frame.src.is_multicast() && frame.src != MacAddr::default() {
            if let Some(old) = self.learn(now, frame.vlan, frame.src, in_port) {
                out.extend(self.forget_flows(frame.vlan, frame.src, old));
            }
        } else {
            // No host has such an address.
            return out;
        }
        let target = if frame.dst.is_multicast() {
            None
        } else {
            self.port_of(frame.vlan, frame.dst)
        };
        let action = match (target, self.config.forwarding) {
            // Both on one port: a segment behind it has delivered the frame already.
            (Some(p), _) if p.0 == in_port => return out,
            (Some(_), Forwarding::Normal) | (None, Forwarding::Normal) => PortNo::NORMAL,
            (Some(p), Forwarding::Output) => p,
            (None, Forwarding::Output) => PortNo::FLOOD,
        };
        let actions = vec![Action::Output {
            port: action,
            max_len: 0,
        }];
        if target.is_some() {
            out.push(Message::FlowMod(self.learned_flow(
                in_port,
                &frame,
                actions.clone(),
            )));
        }
        // A packet cut short and not kept by the switch is lost; its successors are not.
        if packet.buffer.is_some() || packet.data.len() >= usize::from(packet.total_len) {
            out.push(Message::PacketOut(PacketOut {
                buffer: packet.buffer,
                in_port: PortNo(in_port),
                actions,
                data: if packet.buffer.is_some() {
                    bytes::Bytes::new()
                } else {
                    packet.data.clone()
                },
                ..PacketOut::default()
            }));
        }
        out
    }

    /// A flow ended. An idle or hard timeout says that its source was alive until then; the loss of
    /// the table-miss flow (somebody deleted all flows) is made good.
    pub fn flow_removed(&mut self, now: Instant, removed: &FlowRemoved) -> Vec<Message> {
        let f = &removed.flow;
        if f.cookie == cookie::TABLE_MISS && removed.reason == FlowRemovedReason::Delete {
            return self.connected();
        }
        if cookie::owned_by(f.cookie, cookie::LEARNED)
            && f.packets > 0
            && let (Some(vlan), Some(src)) =
                (vlan_of(&f.matching), f.matching.exact(FieldId::EthSrc))
            && let Some(place) = self.macs.get_mut(&(vlan, MacAddr::from_u64(src as u64)))
            && f.matching.exact(FieldId::InPort) == Some(u128::from(place.port))
        {
            let idle = match removed.reason {
                FlowRemovedReason::IdleTimeout => Duration::from_secs(f.idle_timeout.into()),
                _ => Duration::ZERO,
            };
            if let Some(seen) = now.checked_sub(idle) {
                place.seen = place.seen.max(seen);
            }
        }
        Vec::new()
    }

    /// A port went away, or lost its link: what was behind it is forgotten.
    pub fn port_gone(&mut self, port: PortNo) -> Vec<Message> {
        self.macs.retain(|_, p| p.port != port.0);
        if self.per_port.remove(&port.0).is_none() {
            return Vec::new();
        }
        let mut to_it = self.delete(Match::new());
        to_it.out_port = port;
        vec![
            Message::FlowMod(to_it),
            Message::FlowMod(self.delete(Match::new().with(FieldId::InPort, port.0.into()))),
        ]
    }

    /// Time passes: addresses not heard of for [`LearningSwitchConfig::mac_age`] are forgotten. To
    /// be called about once a second; costs a pass over the addresses.
    pub fn tick(&mut self, now: Instant) {
        let age = self.config.mac_age;
        let per_port = &mut self.per_port;
        self.macs.retain(|_, p| {
            let keep = now.saturating_duration_since(p.seen) < age;
            if !keep && let Some(n) = per_port.get_mut(&p.port) {
                *n -= 1;
                if *n == 0 {
                    per_port.remove(&p.port);
                }
            }
            keep
        });
    }

    /// Notes where an address is; returns the port where it was, if that was another.
    fn learn(&mut self, now: Instant, vlan: Vlan, mac: MacAddr, port: u32) -> Option<u32> {
        let key = (vlan, mac);
        if let Some(place) = self.macs.get_mut(&key)
            && place.port == port
        {
            place.seen = now;
            return None;
        }
        let old = self.macs.remove(&key).map(|p| p.port);
        if let Some(old) = old
            && let Some(n) = self.per_port.get_mut(&old)
        {
            *n -= 1;
            if *n == 0 {
                self.per_port.remove(&old);
            }
        }
        let on_port = self.per_port.get(&port).copied().unwrap_or(0);
        if self.macs.len() < MAX_MACS && on_port < MAX_MACS_PER_PORT {
            self.macs.insert(key, Place { port, seen: now });
            self.per_port.insert(port, on_port + 1);
        }
        old
    }

    fn learned_flow(&self, in_port: u32, frame: &Frame, actions: Vec<Action>) -> FlowMod {
        let matching = vlan_match(frame.vlan)
            .with(FieldId::InPort, in_port.into())
            .with(FieldId::EthSrc, frame.src.to_u64().into())
            .with(FieldId::EthDst, frame.dst.to_u64().into());
        FlowMod {
            cookie: cookie::LEARNED,
            priority: self.config.priority,
            idle_timeout: self.config.idle_timeout,
            hard_timeout: self.config.hard_timeout,
            flags: FlowFlags {
                send_flow_rem: true,
                ..FlowFlags::default()
            },
            ..FlowMod::add(matching, Instructions::apply(actions))
        }
    }

    fn forget_flows(&self, vlan: Vlan, mac: MacAddr, old_port: u32) -> Vec<Message> {
        let mac = u128::from(mac.to_u64());
        vec![
            Message::FlowMod(self.delete(vlan_match(vlan).with(FieldId::EthDst, mac))),
            Message::FlowMod(
                self.delete(
                    vlan_match(vlan)
                        .with(FieldId::EthSrc, mac)
                        .with(FieldId::InPort, old_port.into()),
                ),
            ),
        ]
    }

    fn delete(&self, matching: Match) -> FlowMod {
        FlowMod {
            command: FlowModCommand::Delete,
            cookie: cookie::LEARNED,
            cookie_mask: cookie::OWNER_MASK,
            table: 0,
            ..FlowMod::add(matching, Instructions::default())
        }
    }
}

/// 01:80:c2:00:00:00 to 0f: for the nearest bridge, never forwarded (IEEE 802.1Q 8.6.3).
fn is_link_local(mac: MacAddr) -> bool {
    mac.to_u64() & !0xf == 0x0180_c200_0000
}

fn vlan_match(vlan: Vlan) -> Match {
    // OFPVID_PRESENT marks a tag; zero in all 13 bits is "no tag" (OpenFlow 1.3.5 7.2.3.7).
    let value = vlan.map_or(0, |vid| 0x1000 | u128::from(vid));
    Match::new().with(FieldId::VlanVid, value)
}

fn vlan_of(m: &Match) -> Option<Vlan> {
    let v = m.exact(FieldId::VlanVid)?;
    Some((v & 0x1000 != 0).then_some((v & 0xfff) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::frame;
    use proptest::prelude::*;

    const A: u64 = 0x5254_0000_000a;
    const B: u64 = 0x5254_0000_000b;
    const BROADCAST: u64 = 0xffff_ffff_ffff;

    fn packet(port: u32, dst: u64, src: u64, vlan: Vlan) -> PacketIn {
        let data = frame(dst, src, vlan, 0x0800, &[0; 46]);
        PacketIn {
            buffer: None,
            total_len: data.len() as u16,
            reason: PacketInReason::NoMatch,
            table: 0,
            cookie: cookie::TABLE_MISS,
            metadata: Match::new().with(FieldId::InPort, port.into()),
            data: data.into(),
            ..PacketIn::default()
        }
    }

    fn flow_mods(out: &[Message]) -> Vec<&FlowMod> {
        out.iter()
            .filter_map(|o| match o {
                Message::FlowMod(m) => Some(m),
                _ => None,
            })
            .collect()
    }

    fn sent_to(out: &[Message]) -> Vec<PortNo> {
        out.iter()
            .filter_map(|o| match o {
                Message::PacketOut(p) => match p.actions[..] {
                    [Action::Output { port, .. }] => Some(port),
                    _ => None,
                },
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_conversation_is_learned_and_installed() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        let out = s.packet_in(now, &packet(1, BROADCAST, A, None));
        assert_eq!(sent_to(&out), [PortNo::FLOOD]);
        assert!(flow_mods(&out).is_empty());

        let out = s.packet_in(now, &packet(2, A, B, None));
        assert_eq!(sent_to(&out), [PortNo(1)]);
        let [m] = flow_mods(&out)[..] else {
            panic!("{out:?}")
        };
        assert_eq!((m.priority, m.idle_timeout, m.hard_timeout), (10, 10, 30));
        assert!(m.flags.send_flow_rem);
        assert_eq!(m.matching.exact(FieldId::InPort), Some(2));
        assert_eq!(m.matching.exact(FieldId::EthSrc), Some(B.into()));
        assert_eq!(m.matching.exact(FieldId::EthDst), Some(A.into()));
        assert_eq!(m.matching.exact(FieldId::VlanVid), Some(0));
        // The flow is there before the packet that would need it comes back.
        assert!(matches!(out[0], Message::FlowMod(_)));
    }

    #[test]
    fn vlans_are_kept_apart() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        s.packet_in(now, &packet(1, BROADCAST, A, Some(10)));
        let out = s.packet_in(now, &packet(2, A, B, Some(20)));
        assert_eq!(sent_to(&out), [PortNo::FLOOD]);
        let out = s.packet_in(now, &packet(2, A, B, Some(10)));
        assert_eq!(sent_to(&out), [PortNo(1)]);
        assert_eq!(
            flow_mods(&out)
                .last()
                .unwrap()
                .matching
                .exact(FieldId::VlanVid),
            Some(0x100a)
        );
    }

    #[test]
    fn a_host_that_moves_loses_its_old_flows_first() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        s.packet_in(now, &packet(1, BROADCAST, A, None));
        s.packet_in(now, &packet(2, A, B, None));
        let out = s.packet_in(now, &packet(3, B, A, None));
        let mods = flow_mods(&out);
        assert_eq!(mods.len(), 3);
        assert_eq!(mods[0].command, FlowModCommand::Delete);
        assert_eq!(mods[0].matching.exact(FieldId::EthDst), Some(A.into()));
        assert_eq!(mods[0].cookie_mask, cookie::OWNER_MASK);
        assert_eq!(mods[1].matching.exact(FieldId::InPort), Some(1));
        assert_eq!(mods[2].command, FlowModCommand::Add);
        assert_eq!(s.port_of(None, MacAddr::from_u64(A)), Some(PortNo(3)));
    }

    #[test]
    fn one_port_cannot_push_the_others_out() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        s.packet_in(now, &packet(1, BROADCAST, A, None));
        for i in 0..2 * MAX_MACS_PER_PORT as u64 {
            s.packet_in(now, &packet(2, BROADCAST, 0x0200_0000_0000 + i, None));
        }
        assert_eq!(s.known(), MAX_MACS_PER_PORT + 1);
        assert_eq!(s.port_of(None, MacAddr::from_u64(A)), Some(PortNo(1)));
        s.port_gone(PortNo(2));
        assert_eq!(s.known(), 1);
    }

    #[test]
    fn users_packets_foreign_frames_and_impossible_sources_are_left_alone() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        let mut p = packet(1, BROADCAST, A, None);
        p.cookie = 7;
        p.reason = PacketInReason::Action;
        assert!(s.packet_in(now, &p).is_empty());
        assert!(
            s.packet_in(now, &packet(1, 0x0180_c200_0003, A, None))
                .is_empty()
        );
        assert!(s.packet_in(now, &packet(1, A, BROADCAST, None)).is_empty());
        assert_eq!(s.known(), 0);
    }

    #[test]
    fn a_buffered_packet_is_sent_from_the_buffer_and_a_cut_one_not_at_all() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        let mut p = packet(1, BROADCAST, A, None);
        p.total_len = 1500;
        assert!(s.packet_in(now, &p).is_empty());
        p.buffer = Some(9);
        let out = s.packet_in(now, &p);
        assert!(
            matches!(&out[..], [Message::PacketOut(o)] if o.buffer == Some(9) && o.data.is_empty())
        );
    }

    #[test]
    fn silence_is_forgotten_but_a_flow_in_use_keeps_its_source() {
        let t0 = Instant::now();
        let age = LearningSwitchConfig::default().mac_age;
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        s.packet_in(t0, &packet(1, BROADCAST, A, None));
        let out = s.packet_in(t0, &packet(2, A, B, None));
        let m = flow_mods(&out)[0].clone();
        let removed = FlowRemoved {
            reason: FlowRemovedReason::HardTimeout,
            flow: FlowStats {
                table: 0,
                duration: Duration::from_secs(30),
                idle_age: None,
                hard_age: None,
                priority: m.priority,
                idle_timeout: 10,
                hard_timeout: 30,
                importance: 0,
                flags: m.flags,
                cookie: m.cookie,
                packets: 3,
                bytes: 300,
                matching: m.matching,
                instructions: Instructions::default(),
            },
        };
        s.flow_removed(t0 + age / 2, &removed);
        s.tick(t0 + age);
        assert_eq!(s.port_of(None, MacAddr::from_u64(A)), None);
        assert_eq!(s.port_of(None, MacAddr::from_u64(B)), Some(PortNo(2)));
    }

    #[test]
    fn flows_left_by_an_earlier_connection_teach() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig::default());
        s.packet_in(now, &packet(1, BROADCAST, A, Some(7)));
        let out = s.packet_in(now, &packet(2, A, B, Some(7)));
        let m = flow_mods(&out)[0];
        let stats = FlowStats {
            table: 0,
            duration: Duration::ZERO,
            idle_age: None,
            hard_age: None,
            priority: m.priority,
            idle_timeout: 10,
            hard_timeout: 30,
            importance: 0,
            flags: m.flags,
            cookie: m.cookie,
            packets: 0,
            bytes: 0,
            matching: m.matching.clone(),
            instructions: m.instructions.clone(),
        };
        let mut t = LearningSwitch::new(LearningSwitchConfig::default());
        t.recall(now, &[stats]);
        assert_eq!(t.port_of(Some(7), MacAddr::from_u64(A)), Some(PortNo(1)));
        assert_eq!(t.port_of(Some(7), MacAddr::from_u64(B)), Some(PortNo(2)));
    }

    #[test]
    fn normal_forwarding_leaves_vlans_to_the_switch() {
        let now = Instant::now();
        let mut s = LearningSwitch::new(LearningSwitchConfig {
            forwarding: Forwarding::Normal,
            ..LearningSwitchConfig::default()
        });
        s.packet_in(now, &packet(1, BROADCAST, A, None));
        let out = s.packet_in(now, &packet(2, A, B, None));
        assert_eq!(sent_to(&out), [PortNo::NORMAL]);
        assert_eq!(flow_mods(&out).len(), 1);
    }

    proptest! {
        /// Against a naive table: after any packets, the place of a host is where it was seen last,
        /// and the per-port counts are the table's.
        #[test]
        fn places_agree_with_a_naive_table(steps in prop::collection::vec((0..6u64, 1..5u32, 0..3u16), 0..60)) {
            let now = Instant::now();
            let mut s = LearningSwitch::new(LearningSwitchConfig::default());
            let mut naive = HashMap::new();
            for (host, port, vlan) in steps {
                let vlan = (vlan > 0).then_some(vlan);
                if port == 4 {
                    s.port_gone(PortNo(3));
                    naive.retain(|_, p| *p != 3);
                    continue;
                }
                s.packet_in(now, &packet(port, BROADCAST, A + host, vlan));
                naive.insert((vlan, MacAddr::from_u64(A + host)), port);
            }
            for (key, port) in &naive {
                prop_assert_eq!(s.port_of(key.0, key.1), Some(PortNo(*port)));
            }
            prop_assert_eq!(s.known(), naive.len());
            for (port, n) in &s.per_port {
                prop_assert_eq!(*n, naive.values().filter(|p| *p == port).count());
            }
        }
    }
}
