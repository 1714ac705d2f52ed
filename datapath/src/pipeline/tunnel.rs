//! Tunnels in the pipeline: out by a tunnel port, and off at a bridge's own interface.
//!
//! What goes out by a tunnel port gets its outer headers from the port's options and from what the flow set. The host's routes
//! tell by which interface it leaves. If that is a bridge's own, the translation goes on there with the outer headers as its key, as if the
//! host had sent the packet by that interface: flows, mirrors and learning of the underlay bridge apply. What that comes to is
//! a list of actions of its own ([`TunnelPush`]), done to a packet with the headers on. Otherwise the host's socket for that kind
//! of tunnel is where the packet goes.
//!
//! What a bridge sends to its own interface, and so to the host, is looked at if there are tunnel ports: an answer about
//! a neighbour teaches the [`Underlay`](crate::underlay::Underlay); and a packet of a tunnel, sent to an address of that interface, has its headers
//! taken off instead. The key inside cannot be known here: the packet is looked up anew when they are off.

use super::output::queue_number;
use super::translate::Xlate;
use super::translation::{Credit, Dep};
use crate::action::{DpAction, TunnelPush};
use crate::bridge::{PortCounters, PortEntry};
use crate::cache::shape;
use crate::drop::DropReason;
use crate::flow::{FlowKey, FlowMask, WORDS, flags_of_slot};
use crate::route::Hop;
use crate::tunnel::encap::{Encap, EncapSpec};
use crate::tunnel::{
    Given, Outer, TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM, TunnelKey, TunnelKind, TunnelSpec, ask,
};
use openflow::{MacAddr, Slot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// How many tunnels are one inside the other.
pub const NESTED_MAX: usize = 4;

/// DSCP, and the two bits behind it (RFC 3168 5).
const DSCP: u8 = 0xfc;
const ECN: u8 = 3;
const ECT_0: u8 = 2;

/// IP protocols and ICMPv6's type.
const UDP: u64 = 17;
const GRE: u64 = 47;
const ICMPV6: u64 = 58;
const ADVERTISEMENT: u64 = 136;
const ARP_REPLY: u64 = 2;

impl Xlate<'_> {
    /// A copy leaves by a tunnel port as the packet is now.
    pub(super) fn output_tunnel(&mut self, port: &Arc<PortEntry>, spec: &Arc<TunnelSpec>) {
        if let Err(reason) = self.enter_tunnel(port, spec) {
            self.dropped(reason);
        }
    }

    fn enter_tunnel(
        &mut self,
        port: &Arc<PortEntry>,
        spec: &Arc<TunnelSpec>,
    ) -> Result<(), DropReason> {
        if self.in_tunnels >= NESTED_MAX {
            self.warn("the tunnel leads through itself, dropping");
            return Err(DropReason::TunnelLoop);
        }
        let bridge = self.world.bridge(port.bridge);
        let state = bridge
            .map(|b| self.state_of(b))
            .ok_or(DropReason::PortNoForward)?;
        let mark = match spec.egress_mark {
            0 => {
                self.look_all(Slot::PktMark);
                self.key.get64(Slot::PktMark) as u32
            }
            mark => mark,
        };
        let (mut key, source) = self.outer(spec)?;
        if self.key.has_options() {
            self.look(Slot::TunFlags, u128::MAX);
            for m in state.options.iter() {
                self.look_all(Slot::TunOption(m.index as u8));
            }
        }
        let options = match spec.kind {
            TunnelKind::Geneve => self.key.options(&state.options),
            _ => Vec::new(),
        };
        let underlay = self.world.underlay.clone();
        self.depend_on_underlay();
        let routes = underlay.routes();
        let Some(hop) = routes.lookup(key.dst, mark) else {
            self.warn("native tunnel routing failed");
            return Err(DropReason::TunnelRoute);
        };
        let Some(src) = source.or(hop.source) else {
            self.warn("no address to tunnel from");
            return Err(DropReason::TunnelRoute);
        };
        key.src = src;
        let device = routes.devices.get(&hop.device);
        let mtu = device.map_or(0, |d| d.mtu);
        let world = self.world;
        let interface = world
            .tunnels
            .interface(&hop.device)
            .filter(|_| !hop.local)
            .and_then(|i| world.port(i));
        let numbered = spec.sequence || spec.kind == TunnelKind::Erspan;
        let mut wanted = EncapSpec {
            kind: spec.kind,
            ethernet: None,
            key: &key,
            options: &options,
            port: spec.port,
            gbp: spec.gbp,
            layer3: spec.layer3,
            mtu,
            sequence: port.sequence.clone().filter(|_| numbered),
        };
        let Some(interface) = interface else {
            let v6 = key.dst.is_ipv6();
            let Some(socket) = world.tunnels.socket(spec, v6) else {
                self.warn("no socket of the host for this tunnel");
                return Err(DropReason::TunnelSocket);
            };
            self.remark(|| "output to kernel tunnel".into());
            let encap = self.template(&wanted)?;
            self.commit_to(port);
            let actions = vec![DpAction::Output(socket)];
            let counters = world.port(socket).map(|p| p.counters.clone());
            self.credit_tunnel(port, counters.unwrap_or_default());
            self.push_tunnel(port, encap, socket, actions);
            return Ok(());
        };
        self.remark(|| "output to native tunnel".into());
        self.remark(|| format!("tunneling to {} via {}", key.dst, hop.device));
        let own = device
            .map(|d| d.mac)
            .filter(|m| *m != MacAddr::default())
            .or_else(|| interface.device.as_ref()?.status().mac)
            .unwrap_or_default();
        let Some(mac) = self.neighbour(&hop) else {
            let protocol = if hop.next.is_ipv4() { "ARP" } else { "ND" };
            let bridge = world.bridge(interface.bridge).map_or("", |b| &b.name);
            self.remark(|| {
                format!(
                    "neighbor cache miss for {} on bridge {bridge}, sending {protocol} request",
                    hop.next
                )
            });
            let from = hop.source.unwrap_or(key.src);
            let request = || ask::request(own, from, hop.next);
            let ask = underlay.ask(&hop.device, hop.next, interface.index, request);
            self.emit(DpAction::AskNeighbour(ask));
            return Err(DropReason::TunnelNeighbour);
        };
        self.remark(|| format!("tunneling from {own} {} to {mac} {}", key.src, key.dst));
        wanted.ethernet = Some((own, mac));
        let encap = self.template(&wanted)?;
        self.commit_to(port);
        let outer = outer_flow((own, mac), &key, spec);
        self.through_underlay(port, interface, encap, outer);
        Ok(())
    }

    /// The packet becomes what it is in the tunnel; its queue matters where the port has queues.
    fn commit_to(&mut self, port: &PortEntry) {
        self.commit();
        if port.spec.qos.is_some() {
            self.emit_queue(queue_number(self.queue));
        }
    }

    fn warn(&mut self, text: &str) {
        self.tell(|| super::trace::What::Warning(text.into()));
    }

    fn depend_on_underlay(&mut self) {
        let underlay = &self.world.underlay;
        let version = underlay.version();
        self.out.deps.push(Dep::Underlay(underlay.clone(), version));
    }

    fn template(&mut self, wanted: &EncapSpec) -> Result<Encap, DropReason> {
        Encap::new(wanted).map_err(|e| {
            self.warn(&e.to_string());
            DropReason::TunnelHeader
        })
    }

    /// The outer headers, as the port and the flow want them; the source apart, if they say.
    fn outer(&mut self, spec: &TunnelSpec) -> Result<(TunnelKey, Option<IpAddr>), DropReason> {
        let dst = match spec.remote {
            Given::Fixed(ip) => Some(ip),
            Given::ByFlow => self.flow_address(Slot::TunDst, Slot::TunIpv6Dst),
        };
        let Some(dst) = dst else {
            self.warn("no address to tunnel to");
            return Err(DropReason::TunnelRoute);
        };
        if let Some(came_to) = self.tunnelled_to {
            self.look_all(Slot::TunDst);
            self.look_all(Slot::TunIpv6Dst);
            if came_to == dst {
                self.warn("not tunneling to our own address");
                return Err(DropReason::TunnelLoop);
            }
        }
        let src = match spec.local {
            None => None,
            Some(Given::Fixed(ip)) => Some(ip),
            Some(Given::ByFlow) => self.flow_address(Slot::TunSrc, Slot::TunIpv6Src),
        };
        let id = self.given(spec.out_key, Slot::TunId);
        let (tos, ttl) = self.inherited(spec);
        let flag = |on, flag| if on { flag } else { 0 };
        self.look(Slot::TunFlags, crate::flow::PUBLIC);
        let oam = flags_of_slot(self.key.get(Slot::TunFlags)) & TUN_OAM;
        let (mut gbp_id, mut gbp_flags) = (0, 0);
        if spec.gbp {
            gbp_id = self.given(Some(Given::<u64>::ByFlow), Slot::TunGbpId) as u16;
            gbp_flags = self.given(Some(Given::<u64>::ByFlow), Slot::TunGbpFlags) as u8;
        }
        let (mut gtpu_flags, mut gtpu_message) = (0, 0);
        if spec.kind == TunnelKind::Gtpu {
            gtpu_flags = self.given(Some(Given::<u64>::ByFlow), Slot::GtpuFlags) as u8;
            gtpu_message = self.given(Some(Given::<u64>::ByFlow), Slot::GtpuMsgtype) as u8;
        }
        let key = TunnelKey {
            id,
            src: src.unwrap_or(dst),
            dst,
            tos,
            ttl,
            flags: flag(spec.df, TUN_DF)
                | flag(spec.csum, TUN_CSUM)
                | flag(spec.out_key.is_some(), TUN_KEY)
                | oam,
            gbp_id,
            gbp_flags,
            erspan_version: self.given(spec.erspan_version, Slot::ErspanVer) as u8,
            erspan_index: self.given(spec.erspan_index, Slot::ErspanIdx) as u32,
            erspan_direction: self.given(spec.erspan_direction, Slot::ErspanDir) as u8,
            erspan_hwid: self.given(spec.erspan_hwid, Slot::ErspanHwid) as u8,
            gtpu_flags,
            gtpu_message,
        };
        Ok((key, src))
    }

    /// A value of the port's options, or the flow's.
    fn given<T: Into<u64>>(&mut self, given: Option<Given<T>>, slot: Slot) -> u64 {
        match given {
            None => 0,
            Some(Given::Fixed(v)) => v.into(),
            Some(Given::ByFlow) => {
                self.look_all(slot);
                self.key.get64(slot)
            }
        }
    }

    fn flow_address(&mut self, v4: Slot, v6: Slot) -> Option<IpAddr> {
        self.look_all(v4);
        self.look_all(v6);
        self.key.tunnel_address(v4, v6)
    }

    /// TOS and TTL of the outer header. Congestion bits are always those inside (RFC 6040 4.1, as Open vSwitch does it: a mark of
    /// congestion stays inside).
    fn inherited(&mut self, spec: &TunnelSpec) -> (u8, u8) {
        let is_ip = matches!(self.key.get64(Slot::EthType), 0x0800 | 0x86dd);
        let mut tos = match spec.tos {
            Outer::Fixed(tos) => tos,
            Outer::Inherit if is_ip => {
                self.look(Slot::NwTos, DSCP.into());
                self.key.get64(Slot::NwTos) as u8 & DSCP
            }
            Outer::Inherit => 0,
        };
        if is_ip {
            self.look(Slot::NwTos, ECN.into());
            let inner = self.key.get64(Slot::NwTos) as u8 & ECN;
            tos |= if inner == ECN { ECT_0 } else { inner };
        }
        let ttl = match spec.ttl {
            Outer::Fixed(ttl) => ttl,
            Outer::Inherit if is_ip => {
                self.look_all(Slot::NwTtl);
                self.key.get64(Slot::NwTtl) as u8
            }
            Outer::Inherit => 0,
        };
        // What has none to inherit goes as far as others.
        (tos, if ttl == 0 { 64 } else { ttl })
    }

    /// The Ethernet address of the next hop.
    fn neighbour(&mut self, hop: &Hop) -> Option<MacAddr> {
        match hop.next {
            IpAddr::V4(ip) if ip.is_multicast() => {
                let [_, b, c, d] = ip.octets();
                Some(MacAddr([1, 0, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(ip) if ip.is_multicast() => {
                let o = ip.octets();
                Some(MacAddr([0x33, 0x33, o[12], o[13], o[14], o[15]]))
            }
            ip => {
                let (mac, used) = self.world.underlay.neighbour(&hop.device, ip)?;
                self.out.credits.push(Credit::NeighbourUsed(used));
                Some(mac)
            }
        }
    }

    /// The packet with its outer headers comes in by a bridge's own interface.
    fn through_underlay(
        &mut self,
        port: &Arc<PortEntry>,
        interface: &Arc<PortEntry>,
        encap: Encap,
        outer: FlowKey,
    ) {
        let all = FlowMask::from_all();
        let before = std::mem::take(&mut self.out.actions);
        let copies = self.mirrored.aside();
        let wire = (self.wire, self.wire_touched, self.wire_queue, self.clean);
        let wire_tags = std::mem::take(&mut self.wire_tags);
        let pushed = std::mem::take(&mut self.pushed);
        let length = self.length.take();
        let dropped = self.out.drop.take();
        let longer = encap.header().len() as i32 - if encap.is_layer3() { 14 } else { 0 };
        self.credit_tunnel(port, interface.counters.clone());
        self.out.credits.push(Credit::Longer(longer));
        self.in_tunnels += 1;
        self.elsewhere(|x| {
            (x.key, x.touched, x.clean) = (outer, all, false);
            (x.wire, x.wire_touched) = (outer, all);
            x.tags.clear();
            x.pushes = 0;
            x.cross(interface);
        });
        self.in_tunnels -= 1;
        self.out.credits.push(Credit::Longer(-longer));
        let actions = std::mem::replace(&mut self.out.actions, before);
        self.mirrored.back(copies);
        (self.wire, self.wire_touched, self.clean) = (wire.0, wire.1, wire.3);
        self.wire_tags = wire_tags;
        self.pushed = pushed;
        self.length = length;
        // What is done to it in there is done to another packet.
        self.wire_queue = wire.2;
        if actions.is_empty() {
            if self.out.drop.is_none() {
                self.dropped(DropReason::NoOutput);
            }
            return;
        }
        self.out.drop = dropped;
        self.push_tunnel(port, encap, interface.index, actions);
    }

    /// Frames leave by the tunnel port and come in by where the tunnel goes, both counted as they are inside. With quality of
    /// service, those that leave are counted when they do.
    fn credit_tunnel(&mut self, port: &PortEntry, out: Arc<PortCounters>) {
        let by = match port.spec.qos {
            Some(_) => Arc::default(),
            None => port.counters.clone(),
        };
        self.out.credits.push(Credit::Patch(by, out));
    }

    fn push_tunnel(&mut self, port: &PortEntry, encap: Encap, out: u32, actions: Vec<DpAction>) {
        let (_, simple) = shape(&actions);
        self.emit(DpAction::TunnelPush(Arc::new(TunnelPush {
            encap,
            port: port.index,
            out,
            actions,
            simple,
            mirror: self.mirrored.copy,
        })));
    }

    /// A packet goes to a bridge's own interface. `true` if it is not for the host, but for a tunnel.
    pub(super) fn reaches_interface(&mut self, port: &Arc<PortEntry>) -> bool {
        if !self.tags.is_empty() {
            return false;
        }
        let eth_type = self.key.get64(Slot::EthType);
        match eth_type {
            0x0806 => {
                self.look_all(Slot::NwProto);
                if self.key.get64(Slot::NwProto) == ARP_REPLY {
                    self.hear(port, Slot::NwSrc, Slot::NwDst, Slot::ArpSha);
                }
                false
            }
            0x0800 | 0x86dd => {
                self.look_all(Slot::NwProto);
                let protocol = self.key.get64(Slot::NwProto);
                if protocol == ICMPV6 {
                    self.look_all(Slot::TpSrc);
                    if self.key.get64(Slot::TpSrc) == ADVERTISEMENT {
                        self.hear(port, Slot::NdTarget, Slot::Ipv6Dst, Slot::ArpTha);
                    }
                }
                self.take_off(port, eth_type == 0x86dd, protocol)
            }
            _ => false,
        }
    }

    fn take_off(&mut self, port: &Arc<PortEntry>, v6: bool, protocol: u64) -> bool {
        // Fragments are the host's to put together; its socket gets the whole.
        if self.key.get64(Slot::NwFrag) != 0 {
            return false;
        }
        let tunnels = &self.world.tunnels;
        let kind = match protocol {
            UDP => {
                self.look_all(Slot::TpDst);
                tunnels.by_udp_port(self.key.get64(Slot::TpDst) as u16)
            }
            GRE if tunnels.has_gre() => Some(TunnelKind::Gre),
            _ => None,
        };
        let Some(kind) = kind else { return false };
        let slot = if v6 { Slot::Ipv6Dst } else { Slot::NwDst };
        if !self.is_own_address(port, slot) {
            return false;
        }
        self.commit();
        let udp = kind
            .udp_port()
            .map_or(0, |_| self.key.get64(Slot::TpDst) as u16);
        self.emit(DpAction::TunnelPop { kind, port: udp });
        true
    }

    /// Whether an address in the packet is the interface's.
    fn is_own_address(&mut self, port: &PortEntry, slot: Slot) -> bool {
        self.depend_on_underlay();
        self.look_all(slot);
        let ip = address(self.key.get(slot), slot);
        let routes = self.world.underlay.routes();
        let device = routes.devices.get(port.name());
        device.is_some_and(|d| d.addresses.contains(&ip))
    }

    /// An answer: where a neighbour is.
    fn hear(&mut self, port: &Arc<PortEntry>, ip: Slot, to: Slot, mac: Slot) {
        // Of advertisements to all, nobody is the one who asked.
        let to_all = to == Slot::Ipv6Dst && {
            self.look_all(to);
            self.key.get(to) >> 120 == 0xff
        };
        if !to_all && !self.is_own_address(port, to) {
            return;
        }
        self.look_all(ip);
        self.look_all(mac);
        let mut address_in = self.key.get64(mac);
        if address_in == 0 {
            self.look_all(Slot::EthSrc);
            address_in = self.key.get64(Slot::EthSrc);
        }
        let neighbour = address(self.key.get(ip), ip);
        if neighbour.is_unspecified() || address_in == 0 || address_in >> 40 & 1 != 0 {
            return;
        }
        let mac = MacAddr::from_u64(address_in);
        if self.effects && !self.again {
            let underlay = &self.world.underlay;
            underlay.heard(port.name(), neighbour, mac, self.now);
        }
        self.out.credits.push(Credit::Neighbour {
            underlay: self.world.underlay.clone(),
            device: port.name().into(),
            ip: neighbour,
            mac,
        });
    }
}

fn address(value: u128, slot: Slot) -> IpAddr {
    if slot.bits() == 128 {
        Ipv6Addr::from(value).into()
    } else {
        Ipv4Addr::from(value as u32).into()
    }
}

/// The key of a packet with its outer headers on. Its UDP source port is another for each connection inside; here it is 0, as
/// Open vSwitch has it.
fn outer_flow((src, dst): (MacAddr, MacAddr), t: &TunnelKey, spec: &TunnelSpec) -> FlowKey {
    let mut key = FlowKey::default();
    key.set(Slot::EthSrc, src.to_u64().into());
    key.set(Slot::EthDst, dst.to_u64().into());
    match (t.src, t.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            key.set(Slot::EthType, 0x86dd);
            key.set(Slot::Ipv6Src, src.into());
            key.set(Slot::Ipv6Dst, dst.into());
        }
        (src, dst) => {
            let v4 = |ip| match ip {
                IpAddr::V4(ip) => u32::from(ip).into(),
                IpAddr::V6(_) => 0,
            };
            key.set(Slot::EthType, 0x0800);
            key.set(Slot::NwSrc, v4(src));
            key.set(Slot::NwDst, v4(dst));
        }
    }
    key.set(Slot::NwTos, t.tos.into());
    key.set(Slot::NwTtl, t.ttl.into());
    key.set(Slot::PktMark, spec.egress_mark.into());
    match spec.kind.udp_port() {
        Some(_) => {
            key.set(Slot::NwProto, UDP.into());
            key.set(Slot::TpDst, spec.port.into());
        }
        None => key.set(Slot::NwProto, GRE.into()),
    }
    key
}

impl FlowMask {
    /// All bits.
    fn from_all() -> FlowMask {
        FlowKey([u64::MAX; WORDS])
    }
}
