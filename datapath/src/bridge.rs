//! What the forwarding threads see of the configuration: ports and bridges, as values that are replaced
//! whole.
//!
//! # Versions
//!
//! There are five kinds of change: of the *world* (ports, their settings; one version number), of
//! a bridge's *settings* (and which ports and tables it has; a version number a bridge), of its rules (versions for the
//! places of a table that lookups end at, see [`Changes`](crate::table::Changes)), of its groups and meters (a version for
//! each of [`PLACES`]), and of its learned addresses (a
//! generation for each of [`FDB_BUCKETS`] buckets). Each first publishes, then counts up the one global *epoch*.
//! A cached flow remembers what it depended on. While the epoch stands, a cache hit costs one
//! comparison; when it moved, a flow compares what it depended on and is translated again only if
//! that changed. So a host that appears does not disturb flows between other hosts, nor does a rule
//! those that it could not match. What tells of a change of settings or rules is stored before
//! the change is published: a flow made from the state before, at any time, has an older version than it.

use crate::config::{BridgeConfig, Fragments, PortSpec};
use crate::drop::ByReason;
use crate::flow::TAGS_PARSED;
use crate::mac::{Fixed, Learned, MacTable, key};
use crate::mirror::Mirrors;
use crate::policing::{Ingress, Kind};
use crate::port::Port;
use crate::port::tunnel::Endpoint;
use crate::qos::PortShaper;
use crate::table::{Object, PLACES, Tables};
use crate::tunnel::TunnelSpec;
use crate::tunnel::encap::Sequence;
use crate::tunnel::ports::TunnelPorts;
use crate::underlay::Underlay;
use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use openflow::{PortFlags, PortNo, TlvMap};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Buckets of address generations.
pub const FDB_BUCKETS: usize = 1024;

/// The count of all changes. See the module's essay.
#[derive(Debug, Default)]
pub struct Epoch(CachePadded<AtomicU64>);

impl Epoch {
    /// Now. Whatever was published before this value was counted is seen by loads after.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Something was published.
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Ports and bridges. Replaced whole when any of them changes.
#[derive(Clone)]
pub struct World {
    /// Counts replacements.
    pub version: u64,
    /// How many VLAN tags of a packet are looked at (`vlan-limit`), 1 to [`TAGS_PARSED`].
    pub tag_limit: u8,
    /// By index: a port's number everywhere inside the datapath.
    pub ports: Vec<Option<Arc<PortEntry>>>,
    /// By [`BridgeId`](crate::BridgeId).
    pub bridges: Vec<Option<Arc<Bridge>>>,
    /// Which of the ports are tunnels, and whose packets are whose.
    pub tunnels: Arc<TunnelPorts>,
    /// Routes and neighbours: always the same one, since they change by themselves.
    pub underlay: Arc<Underlay>,
}

impl Default for World {
    fn default() -> World {
        World {
            version: 0,
            tag_limit: TAGS_PARSED,
            ports: Vec::new(),
            bridges: Vec::new(),
            tunnels: Arc::default(),
            underlay: Arc::default(),
        }
    }
}

impl World {
    /// A port.
    #[inline]
    pub fn port(&self, index: u32) -> Option<&Arc<PortEntry>> {
        self.ports.get(index as usize)?.as_ref()
    }

    /// A bridge.
    #[inline]
    pub fn bridge(&self, id: u32) -> Option<&Arc<Bridge>> {
        self.bridges.get(id as usize)?.as_ref()
    }
}

/// A port of a bridge. Replaced when its settings change.
#[derive(Clone)]
pub struct PortEntry {
    /// Its number inside the datapath.
    pub index: u32,
    /// Its bridge.
    pub bridge: u32,
    /// Its OpenFlow number.
    pub number: PortNo,
    /// As asked for.
    pub spec: PortSpec,
    /// OpenFlow's settings.
    pub flags: PortFlags,
    /// Whether it is a patch port, and the index of the port it is patched to.
    pub patch: Option<Option<u32>>,
    /// Whether it is a tunnel port, and what it asks of tunnels.
    pub tunnel: Option<Arc<TunnelSpec>>,
    /// A tunnel port's counter, should it number its packets.
    pub sequence: Option<Arc<Sequence>>,
    /// The socket of the host that it is, if it is one: a port of no bridge then.
    pub socket: Option<Endpoint>,
    /// What is behind it; patch ports and tunnel ports have nothing.
    pub device: Option<Arc<dyn Port>>,
    /// What stands before its way out; it stays when its quality of service goes.
    pub shaper: Option<Arc<PortShaper>>,
    /// What it saw.
    pub counters: Arc<PortCounters>,
    /// What it may send in, if that is limited.
    pub ingress: Option<Arc<Ingress>>,
    /// When it was added.
    pub created: crate::clock::Now,
}

impl PortEntry {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.interface.name
    }

    /// Whether it is an interface of the host, by which the host is reached from its bridge.
    pub fn is_interface(&self) -> bool {
        let kind = self.spec.interface.kind.as_str();
        self.spec.local || matches!(kind, "internal" | "dummy-internal")
    }
}

/// A port's counters. Forwarding threads keep their own and add them here when they flush.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Packets in.
    pub rx_packets: AtomicU64,
    /// Bytes in.
    pub rx_bytes: AtomicU64,
    /// Packets out.
    pub tx_packets: AtomicU64,
    /// Bytes out.
    pub tx_bytes: AtomicU64,
    /// Packets that were to go out of it and could not.
    pub tx_dropped: AtomicU64,
    /// Of those, failures.
    pub tx_errors: AtomicU64,
    /// Dropped packets that came in by it, by reason.
    pub drops: ByReason<AtomicU64>,
    /// Frames that its limits dropped, by [`Kind`].
    pub limited: [AtomicU64; Kind::ALL.len()],
    /// Packet-ins caused by it that wait to be taken.
    pub packet_ins: AtomicU32,
}

/// A bridge.
pub struct Bridge {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Flows and settings: replaced whole.
    pub state: ArcSwap<BridgeState>,
    /// Held while the next state is made.
    pub writer: Mutex<()>,
    /// Learned addresses.
    pub fdb: Mutex<MacTable>,
    /// Whether somebody is told of every change of its flows.
    pub watched: AtomicBool,
    generations: Box<[AtomicU32]>,
    settings: AtomicU64,
    objects: [AtomicU64; PLACES],
    /// Shared by the whole datapath.
    pub epoch: Arc<Epoch>,
}

/// What a bridge does, at one instant.
#[derive(Clone, Default)]
pub struct BridgeState {
    /// Counts replacements.
    pub version: u64,
    /// The version in which settings, ports, or which tables there are last changed.
    pub settings: u64,
    /// Settings.
    pub config: Arc<BridgeConfig>,
    /// What becomes of IP fragments.
    pub fragments: Fragments,
    /// Which Geneve options the `tun_metadata` fields are.
    pub options: Arc<Vec<TlvMap>>,
    /// Flows.
    pub tables: Tables,
    /// Index of each port by OpenFlow number.
    pub ports: Arc<BTreeMap<u32, u32>>,
    /// Who gets copies of packets.
    pub mirrors: Arc<Mirrors>,
}

impl Bridge {
    pub(crate) fn new(id: u32, name: &str, config: BridgeConfig, epoch: Arc<Epoch>) -> Bridge {
        let mut tables = Tables::default();
        // Table 0 counts its lookups from the start.
        tables.table_mut(0);
        tables.configure(&config.tables, Default::default(), &mut Default::default());
        Bridge {
            id,
            name: name.to_string(),
            state: ArcSwap::from_pointee(BridgeState {
                version: 1,
                settings: 1,
                config: Arc::new(config),
                tables,
                ..BridgeState::default()
            }),
            writer: Mutex::new(()),
            fdb: Mutex::default(),
            watched: AtomicBool::new(false),
            generations: (0..FDB_BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            settings: AtomicU64::new(1),
            objects: [const { AtomicU64::new(0) }; PLACES],
            epoch,
        }
    }

    /// Makes and publishes the next state, unless `change` fails.
    pub(crate) fn update<R, E>(
        &self,
        change: impl FnOnce(&mut BridgeState) -> Result<R, E>,
    ) -> Result<R, E> {
        self.update_then(change, |r, _| r)
    }

    /// As [`Bridge::update`]; `then` sees what came of the change, and the version in which it is published, before
    /// any other change is made.
    pub(crate) fn update_then<R, S, E>(
        &self,
        change: impl FnOnce(&mut BridgeState) -> Result<R, E>,
        then: impl FnOnce(R, u64) -> S,
    ) -> Result<S, E> {
        let _writer = self.writer.lock();
        let old = self.state.load_full();
        let mut next = (*old).clone();
        let result = change(&mut next)?;
        next.version += 1;
        let came = next.tables.publish(next.version);
        if came
            || next.fragments != old.fragments
            || !Arc::ptr_eq(&next.config, &old.config)
            || !Arc::ptr_eq(&next.options, &old.options)
            || !Arc::ptr_eq(&next.ports, &old.ports)
            || !Arc::ptr_eq(&next.mirrors, &old.mirrors)
        {
            next.settings = next.version;
            self.settings.store(next.settings, Ordering::Release);
        }
        let version = next.version;
        let mut objects = next.tables.take_changed_objects();
        while objects != 0 {
            let place = objects.trailing_zeros() as usize;
            self.objects[place].store(version, Ordering::Release);
            objects &= objects - 1;
        }
        self.state.store(Arc::new(next));
        self.epoch.bump();
        Ok(then(result, version))
    }

    /// The version in which its settings last changed.
    #[inline]
    pub(crate) fn settings(&self) -> u64 {
        self.settings.load(Ordering::Acquire)
    }

    /// Whether a group or meter is as it was in a version.
    #[inline]
    pub(crate) fn is_unchanged(&self, object: Object, since: u64) -> bool {
        self.objects[usize::from(object.place())].load(Ordering::Acquire) <= since
    }

    /// The bucket of an address.
    pub(crate) fn bucket(vlan: u16, mac: u64) -> u16 {
        bucket_of(key(vlan, mac))
    }

    /// The generation of a bucket.
    #[inline]
    pub(crate) fn generation(&self, bucket: u16) -> u32 {
        self.generations[usize::from(bucket)].load(Ordering::Acquire)
    }

    fn changed(&self, key: u64) {
        self.generations[usize::from(bucket_of(key))].fetch_add(1, Ordering::AcqRel);
    }

    /// An address was seen by a port; whether it was not known to be there.
    pub(crate) fn learn(
        &self,
        vlan: u16,
        mac: u64,
        port: u32,
        now: crate::clock::Now,
        max: usize,
    ) -> bool {
        let k = key(vlan, mac);
        match self.fdb.lock().learn(k, port, now, max) {
            Learned::Refreshed | Learned::Full => return false,
            Learned::Moved | Learned::New(None) => {}
            Learned::New(Some(evicted)) => self.changed(evicted),
        }
        self.changed(k);
        self.epoch.bump();
        true
    }

    /// Puts an address on a port by hand.
    pub(crate) fn fix(&self, vlan: u16, mac: u64, port: u32, now: crate::clock::Now) -> Fixed {
        let max = self.state.load().config.mac_table_size;
        let k = key(vlan, mac);
        let came = self.fdb.lock().fix(k, port, now, max);
        match came {
            Fixed::Full => return came,
            Fixed::New(Some(evicted)) => self.changed(evicted),
            Fixed::New(None) | Fixed::Was(_) => {}
        }
        self.changed(k);
        self.epoch.bump();
        came
    }

    /// Takes an address out that was put there by hand; whether there was one.
    pub(crate) fn unfix(&self, vlan: u16, mac: u64) -> bool {
        let k = key(vlan, mac);
        let there = self.fdb.lock().unfix(k);
        if there {
            self.changed(k);
            self.epoch.bump();
        }
        there
    }

    /// Ages addresses.
    pub(crate) fn expire_fdb(&self, now: crate::clock::Now) {
        let aging = self.state.load().config.mac_aging;
        let old = self.fdb.lock().expire(now, aging);
        for k in &old {
            self.changed(*k);
        }
        if !old.is_empty() {
            self.epoch.bump();
        }
    }

    /// Forgets addresses.
    pub(crate) fn flush_fdb(&self, port: Option<u32>) {
        if self.fdb.lock().flush(port) {
            for g in &self.generations {
                g.fetch_add(1, Ordering::AcqRel);
            }
            self.epoch.bump();
        }
    }
}

fn bucket_of(key: u64) -> u16 {
    // Buckets need no secret: a collision costs one more translation.
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as u16
}
