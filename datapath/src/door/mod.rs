//! The handle that callers hold.
//!
//! Everything here runs on the caller's thread. Changes are made under one lock for ports and bridges
//! and one a bridge for flows, published by a pointer swap, and noticed by the forwarding threads by
//! themselves; only queues are moved by message. Nothing stops traffic.

mod fdb;
mod flows;
mod groups;
mod meters;
mod mirrors;
mod packets;
mod ports;
mod qos;
mod tables;
mod threads;
mod trace;
mod tunnels;

pub use ports::PORTS_MAX;
pub use threads::LOAD_INTERVAL;
pub use trace::TraceRequest;

use self::ports::{seen, status};
use self::threads::Crew;
use crate::bridge::{Bridge, Epoch, PortEntry, World};
use crate::clock::{Clock, Now};
use crate::config::*;
use crate::engine::events::{self, EventSender, Events};
use crate::engine::thread::{Common, Handle};
use crate::flow::TAGS_PARSED;
use crate::port::PortContext;
use crate::port::tunnel::Endpoint;
use crate::tunnel::ports::TunnelPorts;
use crate::underlay::Underlay;
use arc_swap::ArcSwap;
use openflow::error::ErrorKind;
use openflow::{OfError, PortNo};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most bridges of a datapath.
pub const BRIDGES_MAX: usize = 1024;

/// Why the datapath as a whole refused.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A value of the configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A bridge of that name exists, or none does.
    #[error("{0}")]
    Bridge(String),
}

/// A running datapath. Clones are the same one; it ends with [`Datapath::shutdown`], or with the
/// last clone.
#[derive(Clone)]
pub struct Datapath {
    inner: Arc<Inner>,
}

struct Inner {
    context: PortContext,
    clock: Clock,
    world: Arc<ArcSwap<World>>,
    epoch: Arc<Epoch>,
    /// Replaced whole when threads come or go.
    threads: ArcSwap<Vec<Arc<Handle>>>,
    /// Where threads are pinned unless settings say otherwise; as many as there are threads then.
    pins: Vec<Option<usize>>,
    events: EventSender,
    /// Held while ports, bridges and threads change.
    control: Mutex<Control>,
}

struct Control {
    crew: Crew,
    /// Sockets of the host that tunnels need and that cannot be opened, and why.
    refused: BTreeMap<Endpoint, String>,
    /// What each port's device was last seen to be, to tell of changes.
    seen: HashMap<u32, (u64, bool)>,
}

impl Inner {
    fn common(&self) -> Common {
        Common {
            world: self.world.clone(),
            epoch: self.epoch.clone(),
            events: self.events.clone(),
            clock: self.clock.clone(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for t in self.threads.load().iter() {
            t.stop();
        }
    }
}

fn no_bridge(kind: ErrorKind, bridge: BridgeId) -> OfError {
    OfError::new(kind, format!("There is no bridge {}", bridge.0))
}

impl Datapath {
    /// Starts forwarding threads, with no bridges.
    pub fn start(config: Config) -> Result<(Datapath, Events), DatapathError> {
        let n = config.forwarding_threads;
        if !(1..=MAX_THREADS).contains(&n) {
            return Err(DatapathError::Config(format!(
                "{n} forwarding threads: 1 to {MAX_THREADS} are possible"
            )));
        }
        if let Some(pin) = &config.pin
            && pin.len() < n
        {
            return Err(DatapathError::Config(format!(
                "{} processors given for {n} forwarding threads",
                pin.len()
            )));
        }
        let system = |what| move |source| DatapathError::System { what, source };
        let (sender, events) = events::channel().map_err(system("event queue"))?;
        let epoch = Arc::new(Epoch::default());
        let world = Arc::new(ArcSwap::from_pointee(World {
            underlay: Arc::new(Underlay::new(epoch.clone())),
            ..World::default()
        }));
        epoch.bump();
        let pins: Vec<Option<usize>> = match &config.pin {
            Some(pin) => pin[..n].iter().copied().map(Some).collect(),
            None => vec![None; n],
        };
        // Room for threads that settings may ask for later.
        let max = Datapath::processors().len().clamp(n, MAX_THREADS);
        let inner = Inner {
            context: PortContext {
                run_dir: config.run_dir,
                threads: max,
                epoch: epoch.clone(),
            },
            clock: config.clock,
            world,
            epoch,
            threads: ArcSwap::default(),
            pins: pins.clone(),
            events: sender,
            control: Mutex::new(Control {
                crew: Crew::new(pins.clone()),
                refused: BTreeMap::new(),
                seen: HashMap::new(),
            }),
        };
        let threads = pins
            .iter()
            .enumerate()
            .map(|(i, pin)| Handle::start(i, *pin, inner.common()).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .map_err(system("forwarding thread"))?;
        inner.threads.store(Arc::new(threads));
        let inner = Arc::new(inner);
        Ok((Datapath { inner }, events))
    }

    /// The datapath's clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn now(&self) -> Now {
        self.inner.clock.now()
    }

    fn bridge(&self, id: BridgeId) -> Option<Arc<Bridge>> {
        self.inner.world.load().bridge(id.0).cloned()
    }

    fn entry(&self, bridge: BridgeId, port: PortNo) -> Option<Arc<PortEntry>> {
        let world = self.inner.world.load();
        let state = world.bridge(bridge.0)?.state.load();
        world.port(*state.ports.get(&port.0)?).cloned()
    }

    /// Publishes a changed world. The control lock must be held.
    fn publish(&self, change: impl FnOnce(&mut World)) {
        let mut next = (**self.inner.world.load()).clone();
        change(&mut next);
        next.version += 1;
        // Patch ports find each other by name, whatever came first.
        let names: HashMap<String, u32> = next
            .ports
            .iter()
            .flatten()
            .filter(|p| p.patch.is_some())
            .map(|p| (p.name().to_string(), p.index))
            .collect();
        let peers: HashMap<u32, Option<u32>> = next
            .ports
            .iter()
            .flatten()
            .filter(|p| p.patch.is_some())
            .map(|p| {
                let peer = p.spec.interface.options.get("peer");
                let peer = peer.and_then(|n| names.get(n)).copied();
                // Both must name each other.
                let mutual = peer.filter(|i| {
                    next.port(*i).is_some_and(|q| {
                        q.spec.interface.options.get("peer").map(String::as_str) == Some(p.name())
                    })
                });
                (p.index, mutual)
            })
            .collect();
        for p in next.ports.iter_mut().flatten() {
            if let Some(peer) = peers.get(&p.index)
                && p.patch != Some(*peer)
            {
                Arc::make_mut(p).patch = Some(*peer);
            }
        }
        next.tunnels = Arc::new(TunnelPorts::new(&next.ports));
        self.inner.world.store(Arc::new(next));
        self.inner.epoch.bump();
    }

    /// Adds a bridge. Its local port is added like any other, with `local` set.
    pub fn add_bridge(&self, name: &str, config: BridgeConfig) -> Result<BridgeId, DatapathError> {
        check_bridge(&config)?;
        let _control = self.inner.control.lock();
        let world = self.inner.world.load();
        if world.bridges.iter().flatten().any(|b| b.name == name) {
            return Err(DatapathError::Bridge(format!("Bridge {name} exists")));
        }
        let free = world.bridges.iter().position(Option::is_none);
        let id = free.unwrap_or(world.bridges.len());
        if id >= BRIDGES_MAX {
            return Err(DatapathError::Bridge(format!(
                "There are {BRIDGES_MAX} bridges, as many as can be"
            )));
        }
        let bridge = Bridge::new(id as u32, name, config, self.inner.epoch.clone());
        let bridge = Arc::new(bridge);
        self.publish(|w| {
            if w.bridges.len() <= id {
                w.bridges.resize(id + 1, None);
            }
            w.bridges[id] = Some(bridge);
        });
        Ok(BridgeId(id as u32))
    }

    /// Changes a bridge's settings.
    pub fn set_bridge(&self, bridge: BridgeId, config: BridgeConfig) -> Result<(), DatapathError> {
        check_bridge(&config)?;
        let b = self
            .bridge(bridge)
            .ok_or_else(|| DatapathError::Bridge(format!("There is no bridge {}", bridge.0)))?;
        let now = self.now();
        self.update_telling(&b, now, |s, effects| {
            s.tables.configure(&config.tables, now, effects);
            s.config = Arc::new(config);
            self.resolve_mirrors(s);
            Ok(())
        })
    }

    /// How many VLAN tags of a packet are looked at (`Open_vSwitch.other_config:vlan-limit`): what is behind them counts as
    /// payload. 1 to [`TAGS_PARSED`], as it is at first; more counts as that, and so does 0.
    pub fn set_vlan_limit(&self, tags: u8) {
        let _control = self.inner.control.lock();
        let tag_limit = match tags {
            0 => TAGS_PARSED,
            n => n.min(TAGS_PARSED),
        };
        if self.inner.world.load().tag_limit != tag_limit {
            self.publish(|w| w.tag_limit = tag_limit);
        }
    }

    /// A bridge's settings.
    pub fn bridge_config(&self, bridge: BridgeId) -> Option<BridgeConfig> {
        Some((*self.bridge(bridge)?.state.load().config).clone())
    }

    /// What becomes of IP fragments.
    pub fn set_fragments(&self, bridge: BridgeId, mode: Fragments) -> Result<(), DatapathError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| DatapathError::Bridge(format!("There is no bridge {}", bridge.0)))?;
        b.update(|s| {
            s.fragments = mode;
            Ok(())
        })
    }

    /// What becomes of IP fragments.
    pub fn fragments(&self, bridge: BridgeId) -> Option<Fragments> {
        Some(self.bridge(bridge)?.state.load().fragments)
    }

    /// Removes a bridge and its ports.
    pub fn remove_bridge(&self, bridge: BridgeId) {
        for p in self.ports(bridge) {
            self.remove_port(bridge, p);
        }
        let _control = self.inner.control.lock();
        self.publish(|w| {
            if let Some(b) = w.bridges.get_mut(bridge.0 as usize) {
                *b = None;
            }
        });
    }
}

fn check_bridge(c: &BridgeConfig) -> Result<(), DatapathError> {
    if c.max_tables == 0 {
        return Err(DatapathError::Config("max_tables: 1 to 255".into()));
    }
    if let Some(v) = c.flood_vlans.iter().find(|v| **v > 4095) {
        return Err(DatapathError::Config(format!("flood VLAN {v}: 0 to 4095")));
    }
    Ok(())
}
