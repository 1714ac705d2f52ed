//! The NORMAL action: a learning switch with VLANs, as 802.1Q and Open vSwitch have it.

use super::headers::Tag;
use super::translate::Xlate;
use super::translation::{Credit, Dep};
use crate::bridge::{Bridge, BridgeState, PortEntry};
use crate::config::{PriorityTags, VlanConfig, VlanMode};
use crate::drop::DropReason;
use openflow::{PortNo, Slot};
use std::sync::Arc;

/// Whether a port carries a VLAN.
pub(super) fn carries(c: &VlanConfig, vlan: u16) -> bool {
    let trunk = c.trunks.is_empty() || c.trunks.contains(&vlan);
    match c.mode {
        VlanMode::Access => vlan == c.tag.unwrap_or(0),
        VlanMode::Trunk => trunk,
        VlanMode::NativeTagged | VlanMode::NativeUntagged => trunk || vlan == c.tag.unwrap_or(0),
    }
}

/// The VLAN of a frame that came in by a port with this VLAN id on it (0 for none, or a priority
/// tag).
fn vlan_of(c: &VlanConfig, vid: u16) -> Result<u16, DropReason> {
    let native = c.tag.unwrap_or(0);
    match c.mode {
        VlanMode::Access if vid != 0 => Err(DropReason::VlanTagOnAccess),
        VlanMode::Access => Ok(native),
        VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => Ok(native),
        _ if carries(c, vid) => Ok(vid),
        _ => Err(DropReason::VlanNotOnTrunk),
    }
}

/// The tag a frame of `vlan` has going out, none for untagged.
fn tag_out(c: &VlanConfig, vlan: u16, pcp: u16) -> Option<u16> {
    let native = c.tag.unwrap_or(0);
    let vid = match c.mode {
        VlanMode::Access => 0,
        VlanMode::NativeUntagged if vlan == native => 0,
        _ => vlan,
    };
    // A port that takes VLANs as they are leaves a priority tag on.
    let as_it_is = matches!(c.mode, VlanMode::Trunk | VlanMode::NativeTagged) && pcp != 0;
    let tagged = vid != 0
        || as_it_is
        || match c.priority_tags {
            PriorityTags::Never => false,
            PriorityTags::IfNonzero => pcp != 0,
            PriorityTags::Always => true,
        };
    tagged.then_some(0x1000 | pcp | vid)
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
        let tci = self.tags.first().map_or(0, |t| t.tci);
        let vlan = match vlan_of(config, tci & 0xfff) {
            Ok(vlan) => vlan,
            Err(reason) => {
                self.remark(|| "disallowed VLAN VID for this input port, dropping".into());
                return self.dropped(reason);
            }
        };
        if dst & !0xf == 0x0180_c200_0000 && !state.config.forward_bpdu {
            self.remark(|| "packet has reserved destination MAC, dropping".into());
            return self.dropped(DropReason::ReservedMulticast);
        }
        let flooded = state.config.flood_vlans.contains(&vlan);
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
            bridge.fdb.lock().lookup(crate::mac::key(vlan, dst))
        };
        let pcp = tci & 0xe000;
        if let Some(index) = known
            && let Some(p) = self.world.port(index)
            && p.bridge == bridge.id
        {
            if in_port.is_some_and(|i| i.index == index) {
                self.remark(|| "learned port is input port, dropping".into());
                return self.dropped(DropReason::ToInputPort);
            }
            self.remark(|| "forwarding to learned port".into());
            return self.normal_output(p, in_port, vlan, pcp);
        }
        self.remark(|| {
            if dst >> 40 & 1 != 0 {
                "multicast traffic, flooding".into()
            } else {
                "no learned MAC for destination, flooding".into()
            }
        });
        for &index in state.ports.values() {
            if in_port.is_some_and(|i| i.index == index) {
                continue;
            }
            let Some(p) = self.world.port(index) else {
                continue;
            };
            if !p.flags.no_flood && carries(&p.spec.vlan, vlan) {
                self.normal_output(p, in_port, vlan, pcp);
            }
        }
    }

    fn normal_output(
        &mut self,
        port: &Arc<PortEntry>,
        in_port: Option<&Arc<PortEntry>>,
        vlan: u16,
        pcp: u16,
    ) {
        if !carries(&port.spec.vlan, vlan) {
            return self.dropped(DropReason::VlanNotOnTrunk);
        }
        if port.spec.protected && in_port.is_some_and(|p| p.spec.protected) {
            return self.dropped(DropReason::NoOutput);
        }
        let saved = self.tags.clone();
        let wanted = tag_out(&port.spec.vlan, vlan, pcp);
        match (wanted, self.tags.first_mut()) {
            (Some(tci), Some(tag)) => tag.tci = tci,
            (Some(tci), None) => self.tags.insert(0, Tag { tpid: 0x8100, tci }),
            (None, Some(_)) => {
                self.tags.remove(0);
            }
            (None, None) => {}
        }
        self.output_port(port);
        self.tags = saved;
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
