//! Ports: opening, changing and closing them, and what they tell.

use super::{Datapath, tunnels};
use crate::bridge::{BridgeState, PortCounters, PortEntry};
use crate::config::*;
use crate::drop::DropReason;
use crate::policing::{Ingress, Kind};
use crate::port::{self, PortError, PortStatus};
use openflow::error::ErrorKind;
use openflow::{OfError, PortDesc, PortFlags, PortMod, PortNo, PortReason, PortStats};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most ports of a datapath.
pub const PORTS_MAX: usize = 4096;

fn check_vlan(name: &str, v: &VlanConfig) -> Result<(), PortError> {
    let bad = v
        .tag
        .into_iter()
        .chain(v.trunks.iter().copied())
        .chain(v.cvlans.iter().copied())
        .find(|t| *t > 4095);
    match bad {
        Some(t) => Err(PortError::Option {
            name: name.into(),
            option: "VLAN".into(),
            problem: format!("{t} is not 0 to 4095"),
        }),
        None => Ok(()),
    }
}

impl Datapath {
    /// Opens a port and adds it to a bridge; its OpenFlow number.
    pub fn add_port(&self, bridge: BridgeId, spec: PortSpec) -> Result<PortNo, PortError> {
        let name = spec.interface.name.clone();
        check_vlan(&name, &spec.vlan)?;
        let mut control = self.inner.control.lock();
        let world = self.inner.world.load_full();
        let b = world
            .bridge(bridge.0)
            .ok_or_else(|| PortError::Missing(format!("bridge {}", bridge.0)))?;
        if world.ports.iter().flatten().any(|p| p.name() == name) {
            return Err(PortError::Exists(name));
        }
        let number = pick_number(&b.state.load(), &spec)?;
        let free = world.ports.iter().position(Option::is_none);
        let index = free.unwrap_or(world.ports.len());
        if index >= PORTS_MAX {
            return Err(PortError::Limit(format!(
                "There are {PORTS_MAX} ports, as many as can be"
            )));
        }
        let is_patch = spec.interface.kind == "patch";
        if is_patch {
            check_patch(&spec.interface)?;
        }
        let tunnel = tunnels::spec(&spec.interface)?;
        if let Some(t) = &tunnel {
            tunnels::check_claim(&world, t, None)?;
        }
        let open = match is_patch || tunnel.is_some() {
            true => None,
            false => Some(port::open(&spec.interface, &self.inner.context)?),
        };
        let is_tunnel = tunnel.is_some();
        let counters: Arc<PortCounters> = Arc::default();
        let ingress = Ingress::new(&spec, &counters, self.now(), None);
        let device = open.as_ref().map(|o| o.port.clone());
        let shaper = self.shaper(None, &spec, device.as_ref());
        let affinity = spec.rxq_affinity.clone();
        let entry = PortEntry {
            index: index as u32,
            bridge: bridge.0,
            number,
            spec,
            flags: PortFlags::default(),
            patch: is_patch.then_some(None),
            sequence: tunnel.as_ref().map(|_| Arc::default()),
            socket: None,
            tunnel,
            device,
            shaper: shaper.clone(),
            counters: counters.clone(),
            ingress,
            created: self.now(),
        };
        // First what a packet needs to be forwarded, then the queues it comes by.
        self.publish(|w| {
            if w.ports.len() <= index {
                w.ports.resize(index + 1, None);
            }
            w.ports[index] = Some(Arc::new(entry));
        });
        let _: Result<(), ()> = b.update(|s| {
            Arc::make_mut(&mut s.ports).insert(number.0, index as u32);
            self.resolve_mirrors(s);
            Ok(())
        });
        self.spread(&mut control.crew, index as u32, open, &affinity, &counters);
        if let Some(shaper) = &shaper {
            self.shape(index as u32, shaper);
        }
        if is_tunnel {
            self.tend_sockets(&mut control);
        }
        // What `Add` tells is what later changes are compared with.
        if let Some(entry) = self.entry(bridge, number) {
            control.seen.insert(entry.index, seen(&entry));
        }
        drop(control);
        self.tell(bridge, number, PortReason::Add);
        Ok(number)
    }

    /// Changes a port's settings live. Its kind and name stay.
    pub fn set_port(
        &self,
        bridge: BridgeId,
        port: PortNo,
        spec: PortSpec,
    ) -> Result<(), PortError> {
        check_vlan(&spec.interface.name, &spec.vlan)?;
        let mut control = self.inner.control.lock();
        let old = self
            .entry(bridge, port)
            .ok_or_else(|| PortError::Missing(format!("port {port}")))?;
        if old.spec.interface.kind != spec.interface.kind
            || old.spec.interface.name != spec.interface.name
        {
            return Err(PortError::Other(format!(
                "{}: name and type of a port cannot change: remove it and add it anew",
                old.name()
            )));
        }
        if old.patch.is_some() {
            check_patch(&spec.interface)?;
        }
        let tunnel = tunnels::spec(&spec.interface)?;
        if let Some(t) = &tunnel {
            tunnels::check_claim(&self.inner.world.load(), t, Some(old.index))?;
        }
        if let Some(d) = &old.device
            && old.spec.interface != spec.interface
        {
            d.set_config(&spec.interface)?;
        }
        if old.spec != spec {
            let limits = |s: &PortSpec| (s.policing, s.storm);
            let ingress = match limits(&old.spec) == limits(&spec) {
                true => old.ingress.clone(),
                false => {
                    let before = old.ingress.as_deref();
                    Ingress::new(&spec, &old.counters, self.now(), before)
                }
            };
            let reshape = old.spec.qos != spec.qos;
            let shaper = match reshape {
                true => self.shaper(old.shaper.as_ref(), &spec, old.device.as_ref()),
                false => old.shaper.clone(),
            };
            let next = PortEntry {
                spec,
                ingress,
                tunnel,
                shaper: shaper.clone(),
                ..(*old).clone()
            };
            self.tie(&mut control.crew, old.index, &next.spec.rxq_affinity);
            // Where hosts were learned in other VLANs says nothing any more.
            let moved =
                old.spec.vlan != next.spec.vlan || old.spec.protected != next.spec.protected;
            let other_tunnel = next.tunnel != old.tunnel;
            self.publish(|w| w.ports[old.index as usize] = Some(Arc::new(next)));
            if reshape && let Some(shaper) = &shaper {
                self.shape(old.index, shaper);
            }
            if other_tunnel {
                self.tend_sockets(&mut control);
            }
            if moved && let Some(b) = self.bridge(bridge) {
                self.flush();
                b.flush_fdb(Some(old.index));
            }
        }
        drop(control);
        Ok(())
    }

    /// Removes a port. When it returns no thread uses the port any more.
    pub fn remove_port(&self, bridge: BridgeId, port: PortNo) {
        let mut control = self.inner.control.lock();
        let Some(entry) = self.entry(bridge, port) else {
            return;
        };
        let Some(b) = self.bridge(bridge) else { return };
        let desc = describe(&entry);
        let _: Result<(), ()> = b.update(|s| {
            Arc::make_mut(&mut s.ports).remove(&port.0);
            self.resolve_mirrors(s);
            Ok(())
        });
        self.withdraw(&mut control.crew, entry.index);
        self.publish(|w| w.ports[entry.index as usize] = None);
        b.flush_fdb(Some(entry.index));
        // Threads look at the new world, so that the device closes when this returns.
        self.inner.synchronize();
        control.seen.remove(&entry.index);
        if entry.tunnel.is_some() {
            self.tend_sockets(&mut control);
        }
        drop(control);
        let event = Event::PortStatus {
            bridge,
            reason: PortReason::Delete,
            desc,
        };
        self.inner.events.send(event, None);
    }

    pub(super) fn tell(&self, bridge: BridgeId, port: PortNo, reason: PortReason) {
        if let Some(desc) = self.port_desc(bridge, port) {
            let event = Event::PortStatus {
                bridge,
                reason,
                desc,
            };
            self.inner.events.send(event, None);
        }
    }

    /// The ports of a bridge, by OpenFlow number.
    pub fn ports(&self, bridge: BridgeId) -> Vec<PortNo> {
        self.bridge(bridge).map_or_else(Vec::new, |b| {
            b.state.load().ports.keys().map(|n| PortNo(*n)).collect()
        })
    }

    /// A port's name.
    pub fn port_name(&self, bridge: BridgeId, port: PortNo) -> Option<String> {
        Some(self.entry(bridge, port)?.name().to_string())
    }

    /// A port as a controller sees it.
    pub fn port_desc(&self, bridge: BridgeId, port: PortNo) -> Option<PortDesc> {
        Some(describe(&*self.entry(bridge, port)?))
    }

    /// A port's device as it is.
    pub fn port_status(&self, bridge: BridgeId, port: PortNo) -> Option<PortStatus> {
        let entry = self.entry(bridge, port)?;
        let mut status = status(&entry);
        if let Some(t) = &entry.tunnel {
            status.status = tunnels::egress(t, &self.routes());
            status.error = self.socket_error(t);
        }
        Some(status)
    }

    /// How often a port's link went up or down.
    pub fn link_resets(&self, bridge: BridgeId, port: PortNo) -> u64 {
        self.entry(bridge, port)
            .and_then(|e| e.device.as_ref().map(|d| d.link_resets()))
            .unwrap_or(0)
    }

    /// A port's counters, exact.
    pub fn port_stats(&self, bridge: BridgeId, port: PortNo) -> Option<PortStats> {
        self.flush();
        let e = self.entry(bridge, port)?;
        let c = &e.counters;
        let get = |a: &std::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
        Some(PortStats {
            port: port.0,
            rx_packets: get(&c.rx_packets),
            tx_packets: get(&c.tx_packets),
            rx_bytes: get(&c.rx_bytes),
            tx_bytes: get(&c.tx_bytes),
            // Those to unknown destinations are received before that is known.
            rx_dropped: [Kind::Policing, Kind::Broadcast, Kind::Multicast]
                .iter()
                .map(|k| get(&c.limited[*k as usize]))
                .sum(),
            tx_dropped: get(&c.tx_dropped),
            rx_errors: 0,
            tx_errors: get(&c.tx_errors),
            rx_frame_err: 0,
            rx_over_err: 0,
            rx_crc_err: 0,
            collisions: 0,
            duration: self.now().saturating_sub(e.created),
            optical: None,
        })
    }

    /// Counters beside the standard ones, by OVS's names.
    pub fn port_extra_stats(&self, bridge: BridgeId, port: PortNo) -> BTreeMap<String, u64> {
        let Some(e) = self.entry(bridge, port) else {
            return BTreeMap::new();
        };
        let device = e.device.as_ref().map(|d| d.extra_stats());
        let mut all = device.unwrap_or_default();
        for kind in Kind::ALL {
            let dropped = e.counters.limited[kind as usize].load(Ordering::Relaxed);
            if dropped > 0 || e.ingress.as_ref().is_some_and(|i| i.has(kind)) {
                all.insert(kind.statistic().to_owned(), dropped);
            }
        }
        all
    }

    /// Changes a port's flags (OpenFlow 1.3.5 7.3.4.3).
    pub fn port_mod(&self, bridge: BridgeId, m: &PortMod) -> Result<(), OfError> {
        let control = self.inner.control.lock();
        let entry = self.entry(bridge, m.port).ok_or_else(|| {
            OfError::new(
                ErrorKind::PortModBadPort,
                format!("There is no port {}", m.port),
            )
        })?;
        let mac = describe(&entry).mac;
        if m.mac != mac {
            return Err(OfError::new(
                ErrorKind::PortModBadHwAddr,
                format!("{} is not the port's address, {mac}", m.mac),
            ));
        }
        let old = entry.flags;
        let pick = |mask, new, old| if mask { new } else { old };
        let flags = PortFlags {
            port_down: pick(m.mask.port_down, m.config.port_down, old.port_down),
            no_stp: pick(m.mask.no_stp, m.config.no_stp, old.no_stp),
            no_recv_stp: pick(m.mask.no_recv_stp, m.config.no_recv_stp, old.no_recv_stp),
            no_recv: pick(m.mask.no_recv, m.config.no_recv, old.no_recv),
            no_fwd: pick(m.mask.no_fwd, m.config.no_fwd, old.no_fwd),
            no_packet_in: pick(m.mask.no_packet_in, m.config.no_packet_in, old.no_packet_in),
            no_flood: pick(m.mask.no_flood, m.config.no_flood, old.no_flood),
        };
        if flags == old {
            return Ok(());
        }
        if flags.port_down != old.port_down
            && let Some(d) = &entry.device
        {
            d.set_admin_up(!flags.port_down)
                .map_err(|e| OfError::new(ErrorKind::PortModEperm, e.to_string()))?;
        }
        let next = PortEntry {
            flags,
            ..(*entry).clone()
        };
        self.publish(|w| w.ports[entry.index as usize] = Some(Arc::new(next)));
        drop(control);
        self.tell(bridge, m.port, PortReason::Modify);
        Ok(())
    }

    /// Dropped packets by reason, by the port they came in by: of one port, or of the whole bridge.
    pub fn drop_stats(
        &self,
        bridge: BridgeId,
        port: Option<PortNo>,
    ) -> BTreeMap<&'static str, u64> {
        self.flush();
        let mut map = BTreeMap::new();
        let ports = port.map_or_else(|| self.ports(bridge), |p| vec![p]);
        for e in ports.into_iter().filter_map(|p| self.entry(bridge, p)) {
            for (reason, n) in DropReason::ALL.iter().zip(e.counters.drops.iter()) {
                let n = n.load(Ordering::Relaxed);
                if n > 0 {
                    *map.entry(reason.name()).or_insert(0) += n;
                }
            }
        }
        map
    }
}

fn check_patch(c: &port::InterfaceConfig) -> Result<(), PortError> {
    let problem = |problem: &str| PortError::Option {
        name: c.name.clone(),
        option: "peer".into(),
        problem: problem.into(),
    };
    match c.options.get("peer") {
        None => Err(problem("a patch port needs the name of another")),
        Some(p) if *p == c.name => Err(problem("a patch port cannot be its own peer")),
        Some(_) => Ok(()),
    }
}

fn pick_number(state: &BridgeState, spec: &PortSpec) -> Result<PortNo, PortError> {
    if spec.local {
        return match state.ports.contains_key(&PortNo::LOCAL.0) {
            true => Err(PortError::Exists("LOCAL".into())),
            false => Ok(PortNo::LOCAL),
        };
    }
    if let Some(n) = spec.ofport
        && PortNo(n.into()).is_physical()
        && !state.ports.contains_key(&n.into())
    {
        return Ok(PortNo(n.into()));
    }
    (1..0xff00)
        .find(|n| !state.ports.contains_key(n))
        .map(PortNo)
        .ok_or_else(|| PortError::Limit("The bridge has no free port number".into()))
}

/// What changes when there is something to tell of a port: its device's count of changes, and its link.
pub(super) fn seen(e: &PortEntry) -> (u64, bool) {
    let count = e.device.as_ref().map_or(0, |d| d.change_count());
    (count, status(e).link_up)
}

pub(super) fn status(e: &PortEntry) -> PortStatus {
    match (&e.device, e.patch) {
        (Some(d), _) => d.status(),
        (None, _) if e.tunnel.is_some() => PortStatus {
            link_up: true,
            admin_up: true,
            mac: Some(tunnels::mac(e.name())),
            ..PortStatus::default()
        },
        (None, peer) => PortStatus {
            link_up: peer.flatten().is_some(),
            admin_up: true,
            ..PortStatus::default()
        },
    }
}

pub(super) fn describe(e: &PortEntry) -> PortDesc {
    let s = status(e);
    // OFPPF_* of the speeds that have a bit; copper, as the stock switch says of virtual devices.
    let bit = match s.speed_kbps {
        10_000 => 1 << 1,
        100_000 => 1 << 3,
        1_000_000 => 1 << 5,
        10_000_000 => 1 << 6,
        40_000_000 => 1 << 7,
        100_000_000 => 1 << 8,
        _ => 0,
    };
    PortDesc {
        port: e.number,
        mac: s.mac.or(e.spec.interface.mac).unwrap_or_default(),
        name: e.name().to_string(),
        config: PortFlags {
            port_down: e.flags.port_down || !s.admin_up,
            ..e.flags
        },
        link_down: !s.link_up,
        live: s.link_up && !e.flags.port_down,
        current: if bit != 0 { bit | 1 << 11 } else { 0 },
        advertised: 0,
        supported: 0,
        peer: 0,
        current_speed: s.speed_kbps.min(u32::MAX.into()) as u32,
        max_speed: 0,
        properties: Vec::new(),
    }
}
