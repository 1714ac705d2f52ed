//! Quality of service: shapers for ports, and what their queues did.

use super::Datapath;
use crate::config::*;
use crate::engine::thread::Message;
use crate::port::Port;
use crate::qos::spec::Device;
use crate::qos::{PortShaper, QosSpec, QueueCounters};
use openflow::{PortNo, QueueStats};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What defaults of quality of service depend on. Only a network card has a rate: a tap says one that means nothing.
fn device(spec: &PortSpec, port: Option<&Arc<dyn Port>>) -> Device {
    let status = port.map(|p| p.status()).unwrap_or_default();
    let physical = matches!(spec.interface.kind.as_str(), "system" | "" | "afxdp");
    Device {
        rate: if physical {
            status.speed_kbps * 1000
        } else {
            0
        },
        mtu: status.mtu,
    }
}

impl Datapath {
    /// A port's shaper, configured as asked for; none if it needs none and never had one. A patch port has none: what it takes is
    /// at its peer at once.
    pub(super) fn shaper(
        &self,
        old: Option<&Arc<PortShaper>>,
        spec: &PortSpec,
        port: Option<&Arc<dyn Port>>,
    ) -> Option<Arc<PortShaper>> {
        if spec.interface.kind == "patch" || old.is_none() && spec.qos.is_none() {
            return None;
        }
        let shaper = old.cloned().unwrap_or_default();
        shaper.configure(spec.qos.as_deref(), device(spec, port), self.now());
        Some(shaper)
    }

    /// Tells the threads of a port's shaper, or that it has changed.
    pub(super) fn shape(&self, port: u32, shaper: &Arc<PortShaper>) {
        for t in self.inner.threads.load().iter() {
            t.send(Message::Shape(port, shaper.clone()));
        }
    }

    /// After threads came or went: each shaper is known to all of them, and has one that sees to it.
    pub(super) fn shape_all(&self) {
        for p in self.inner.world.load().ports.iter().flatten() {
            if let Some(shaper) = &p.shaper {
                self.shape(p.index, shaper);
            }
        }
    }

    /// What a port's quality of service comes to, with what its device yields for defaults.
    pub fn port_qos(&self, bridge: BridgeId, port: PortNo) -> Option<(Arc<QosSpec>, Device)> {
        let e = self.entry(bridge, port)?;
        let qos = e.spec.qos.clone()?;
        e.shaper.as_ref()?;
        Some((qos, device(&e.spec, e.device.as_ref())))
    }

    /// What a port's queues did, exact.
    pub fn queue_stats(&self, bridge: BridgeId, port: PortNo) -> Vec<QueueStats> {
        let Some(e) = self.entry(bridge, port) else {
            return Vec::new();
        };
        let (Some(shaper), Some(_)) = (&e.shaper, &e.spec.qos) else {
            return Vec::new();
        };
        let now = self.now();
        let counters = shaper.counters();
        let queue = |(queue, c): (u32, Arc<QueueCounters>)| QueueStats {
            port: e.number.0,
            queue,
            tx_bytes: c.bytes.load(Ordering::Relaxed),
            tx_packets: c.packets.load(Ordering::Relaxed),
            tx_errors: c.errors.load(Ordering::Relaxed),
            duration: now.saturating_sub(c.created),
        };
        counters.into_iter().map(queue).collect()
    }
}
