//! The packet paths of several threads over one switch, without the threads: for the tests that show what they share.

use crate::bridge::{Bridge, BridgeState, Epoch, PortEntry, World};
use crate::clock::Clock;
use crate::config::{BridgeConfig, PortSpec};
use crate::engine::events::{self, EventSender, Events};
use crate::engine::forward::Forwarder;
use crate::engine::tx::Tx;
use crate::fuzz::Sink;
use crate::port::{InterfaceConfig, TxQueue};
use crate::table::Limits;
use arc_swap::ArcSwap;
use openflow::{FlowMod, OfError, PortFlags, PortNo};
use parking_lot::Mutex;
use std::sync::Arc;

/// A bridge with flows and any number of ports, numbered from 1 (by index from 0): all that threads have in common.
pub struct Stage {
    world: Arc<ArcSwap<World>>,
    epoch: Arc<Epoch>,
    bridge: Arc<Bridge>,
    sender: EventSender,
    events: Events,
    shared: Arc<Mutex<Box<dyn TxQueue>>>,
}

impl Stage {
    /// With so many ports, and these flows.
    ///
    /// # Panics
    /// If the bridge refuses one of the flows.
    pub fn new(ports: u32, flows: &[FlowMod]) -> Stage {
        let epoch: Arc<Epoch> = Arc::default();
        let bridge = Arc::new(Bridge::new(
            0,
            "stage",
            BridgeConfig::default(),
            epoch.clone(),
        ));
        let entries = (0..ports).map(|n| {
            Some(Arc::new(PortEntry {
                index: n,
                bridge: 0,
                number: PortNo(n + 1),
                spec: PortSpec {
                    interface: InterfaceConfig {
                        name: format!("p{}", n + 1),
                        kind: "dummy".into(),
                        ..InterfaceConfig::default()
                    },
                    ..PortSpec::default()
                },
                flags: PortFlags::default(),
                patch: None,
                tunnel: None,
                sequence: None,
                socket: None,
                device: None,
                shaper: None,
                counters: Arc::default(),
                ingress: None,
                created: Default::default(),
            }))
        });
        let entries = entries.collect();
        let made: Result<(), OfError> = bridge.update(|s: &mut BridgeState| {
            s.ports = Arc::new((0..ports).map(|n| (n + 1, n)).collect());
            let limits = Limits { tables: 255 };
            flows.iter().try_for_each(|m| {
                s.tables
                    .apply(m, &limits, Default::default(), &mut Default::default())
            })
        });
        made.expect("the flows are right");
        let world = World {
            version: 1,
            bridges: vec![Some(bridge.clone())],
            ports: entries,
            ..World::default()
        };
        let (sender, events) = events::channel().expect("an event queue");
        Stage {
            world: Arc::new(ArcSwap::from_pointee(world)),
            epoch,
            bridge,
            sender,
            events,
            shared: Arc::new(Mutex::new(Box::new(Sink::default()))),
        }
    }

    /// A thread's packet path. Every port has a transmit queue of the thread's own, but for port `shared` (an index),
    /// which has one for all threads.
    pub fn forwarder(&self, shared: Option<u32>) -> Forwarder {
        let mut forwarder = Forwarder::new(
            self.world.clone(),
            self.epoch.clone(),
            self.sender.clone(),
            Clock::manual(),
        );
        let world = self.world.load();
        for p in world.ports.iter().flatten() {
            let tx = match shared {
                Some(s) if s == p.index => Tx::shared(self.shared.clone()),
                _ => Tx::own(Box::new(Sink::default())),
            };
            forwarder.add_port(p.index, tx, p.counters.clone());
        }
        forwarder
    }

    /// Runs `f` while another thread, so to say, sends by the shared queue.
    pub fn while_busy<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.shared.lock();
        f()
    }

    /// Packets and bytes that rules and tables were told of by all threads, and packets received by a port.
    pub fn counted(&self, port: u32) -> (u64, u64) {
        let state = self.bridge.state.load();
        let matched = state
            .tables
            .get(0)
            .map_or(0, |t| t.counters.matched.get().0);
        let world = self.world.load();
        let received = world.port(port).map_or(0, |p| {
            p.counters
                .rx_packets
                .load(std::sync::atomic::Ordering::Relaxed)
        });
        (matched, received)
    }

    /// Drains and counts events.
    pub fn events(&mut self) -> usize {
        std::iter::from_fn(|| self.events.try_recv()).count()
    }
}
