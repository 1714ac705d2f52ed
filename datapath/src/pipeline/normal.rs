//! The NORMAL action: a learning switch with VLANs, as 802.1Q and Open vSwitch have it.

use super::translate::Xlate;
use super::translation::{Credit, Dep};
use super::vlan::{self, Inside};
use crate::bridge::{Bridge, BridgeState, PortEntry};
use crate::config::VlanConfig;
use crate::drop::DropReason;
use openflow::{PortNo, Slot};
use std::sync::Arc;

/// Whether frames to this address are for the neighbour alone, and are not forwarded unless `forward-bpdu` is set
/// (IEEE 802.1Q 8.6.3; and what ovs-vswitchd.conf.db(5) lists of other vendors').
pub(super) fn is_reserved(mac: u64) -> bool {
    matches!(
        mac,
        0x0180_c200_0000..=0x0180_c200_000f
            | 0x00e0_2b00_0000
            | 0x00e0_2b00_0004
            | 0x00e0_2b00_0006
            | 0x0100_0c00_0000
            | 0x0100_0ccc_ccc0..=0x0100_0ccc_ccc7
            | 0x0100_0ccc_cccc
            | 0x0100_0ccc_cccd
            | 0x0100_0ccd_cdcd
    )
}

impl Xlate<'_> {
    pub(super) fn normal(
        &mut self,
        bridge: &Arc<Bridge>,
        state: &Arc<BridgeState>,
        in_port: Option<&Arc<PortEntry>>,
    ) {
        self.look_all(Slot::VlanTci);
        self.look_all(Slot::EthSrc);
        self.look_all(Slot::EthDst);
        let src = self.key.get64(Slot::EthSrc);
        let dst = self.key.get64(Slot::EthDst);
        // A packet-out without a port belongs to no VLAN configuration: it goes as it is tagged.
        let open = VlanConfig::default();
        let config = in_port.map_or(&open, |p| &p.spec.vlan);
        if self.has_part_of_a_tag() {
            self.remark(|| "partial VLAN tag, dropping".into());
            return self.dropped(DropReason::PartialVlanTag);
        }
        let tags = self.tags.clone();
        let frame = match vlan::classify(config, &tags) {
            Ok(frame) => frame,
            Err(reason) => {
                self.remark(|| "disallowed VLAN VID for this input port, dropping".into());
                return self.dropped(reason);
            }
        };
        let vlan = frame.vlan;
        if is_reserved(dst) && !state.config.forward_bpdu && in_port.is_some() {
            self.remark(|| "packet has reserved destination MAC, dropping".into());
            return self.dropped(DropReason::ReservedMulticast);
        }
        let flooded = state.config.flood_vlans.contains(&vlan) || state.mirrors.use_vlan(vlan);
        if let Some(p) = in_port
            && src >> 40 & 1 == 0
            && !flooded
        {
            if self.effects && !self.again {
                let max = state.config.mac_table_size;
                if bridge.learn(vlan, src, p.index, self.now, max) {
                    let mac = openflow::MacAddr::from_u64(src);
                    self.remark(|| {
                        format!("learned that {mac} is on port {} in VLAN {vlan}", p.name())
                    });
                }
            }
            self.depend(bridge, vlan, src);
            self.out.credits.push(Credit::Mac {
                bridge: bridge.clone(),
                vlan,
                mac: src,
                port: p.index,
            });
        }
        let known = if dst >> 40 & 1 != 0 || flooded {
            None
        } else {
            self.depend(bridge, vlan, dst);
            let place = bridge.fdb.lock().place(crate::mac::key(vlan, dst));
            match in_port {
                // One for its sender, whose place is only learned later on.
                Some(p) if src == dst && self.again && !place.is_some_and(|p| p.fixed) => {
                    Some(p.index)
                }
                _ => place.map(|p| p.port),
            }
        };
        if let Some(index) = known
            && let Some(p) = self.world.port(index)
            && p.bridge == bridge.id
            && !state.mirrors.reserve(index)
        {
            if in_port.is_some_and(|i| i.index == index) {
                self.remark(|| "learned port is input port, dropping".into());
                return self.dropped(DropReason::ToInputPort);
            }
            self.remark(|| "forwarding to learned port".into());
            if let Err(reason) = self.normal_output(p, &frame) {
                self.dropped(reason);
            }
            return;
        }
        self.remark(|| {
            if dst >> 40 & 1 != 0 {
                "multicast traffic, flooding".into()
            } else {
                "no learned MAC for destination, flooding".into()
            }
        });
        let storm = in_port
            .and_then(|p| p.ingress.as_ref()?.unknown_unicast.as_ref())
            .filter(|_| dst >> 40 & 1 == 0);
        match storm {
            None => self.flood_vlan(state, in_port, &frame),
            // What is over the limit is not flooded; what else there is to do with the packet goes on.
            Some(limit) => self.aside(|x| {
                x.limit(limit);
                x.flood_vlan(state, in_port, &frame);
            }),
        }
    }

    /// NORMAL's flooding: every port of the VLAN but the one it came in by.
    fn flood_vlan(
        &mut self,
        state: &Arc<BridgeState>,
        in_port: Option<&Arc<PortEntry>>,
        frame: &Inside<'_>,
    ) {
        for &index in state.ports.values() {
            if in_port.is_some_and(|i| i.index == index) || state.mirrors.reserve(index) {
                continue;
            }
            let Some(p) = self.world.port(index) else {
                continue;
            };
            if !p.flags.no_flood {
                // Ports of other VLANs are none that it is kept from.
                let _ = self.normal_output(p, frame);
            }
        }
    }

    /// Whether a tag is announced where the frame ends, or where tags are not looked at any more.
    fn has_part_of_a_tag(&mut self) -> bool {
        // One bit tells that of IPv4 and ARP.
        self.look(Slot::EthType, 0x8000);
        let eth_type = self.key.get64(Slot::EthType);
        if !self.tags.is_empty() || eth_type & 0x8000 == 0 {
            return false;
        }
        self.look_all(Slot::EthType);
        matches!(eth_type, 0x8100 | 0x88a8)
    }

    /// A copy leaves by a port, tagged as that wants it, if the port carries the frame.
    fn normal_output(
        &mut self,
        port: &Arc<PortEntry>,
        frame: &Inside<'_>,
    ) -> Result<(), DropReason> {
        let config = &port.spec.vlan;
        if vlan::looks_inside(config) && !self.tags.is_empty() && self.world.tag_limit > 1 {
            self.look_all(Slot::InnerVlanTci);
        }
        vlan::carries(config, frame)?;
        self.output_inside(port, frame);
        Ok(())
    }

    /// A copy leaves by a port, tagged as that wants it, whether or not it carries the frame.
    pub(super) fn output_inside(&mut self, port: &Arc<PortEntry>, frame: &Inside<'_>) {
        if port.patch.is_some() {
            // The other bridge sees the tag that comes to the front.
            self.look_tags();
        }
        let mut tags = Vec::with_capacity(self.tags.len() + 1);
        vlan::leave(&port.spec.vlan, frame, &mut tags);
        let saved = std::mem::replace(&mut self.tags, tags);
        self.output_port(port);
        self.tags = saved;
        // Mirrors may have looked at the tags it left with.
        self.sync_tags();
    }

    fn depend(&mut self, bridge: &Arc<Bridge>, vlan: u16, mac: u64) {
        let bucket = Bridge::bucket(vlan, mac);
        let generation = bridge.generation(bucket);
        self.out.deps.push(Dep::Mac {
            bridge: bridge.clone(),
            bucket,
            generation,
        });
    }

    /// FLOOD and ALL: every port but the one it came in by, whatever the VLAN.
    pub(super) fn flood(&mut self, state: &Arc<BridgeState>, all: bool) {
        let from = self.key.get64(Slot::InPort) as u32;
        for (&number, &index) in state.ports.iter() {
            if PortNo(number) == PortNo(from) {
                continue;
            }
            if let Some(p) = self.world.port(index)
                && (all || !p.flags.no_flood)
            {
                self.output_port(p);
            }
        }
    }
}
