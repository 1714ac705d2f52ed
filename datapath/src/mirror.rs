//! Port mirrors: which packets of a bridge are copied, and where to (`Mirror` of ovs-vswitchd.conf.db(5)).
//!
//! [`MirrorSpec`] is a mirror as it is asked for, by names. A name may have no port yet, or no more. [`Mirrors`] is what a
//! bridge makes of them while its ports are what they are: made anew when mirrors or ports change, and part of the bridge's
//! state, so that cached flows notice. The pipeline asks it when a packet comes in by a port and when one leaves
//! (`pipeline/mirror.rs`); copies are actions of the flow like any other, so a packet that nobody mirrors costs nothing, and
//! a bridge without mirrors one comparison a translation.
//!
//! A port or VLAN that copies go to is a *target*. A packet goes to each target once, however many mirrors select it, so
//! targets are numbered and the pipeline remembers their numbers.

use crate::bridge::World;
use crate::table::Counters;
use openflow::Match;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A mirror as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSpec {
    /// Whose it is (the row's UUID): a mirror that changes keeps its counters by it.
    pub id: u128,
    /// Every packet that comes in or leaves is selected, by whatever port.
    pub all: bool,
    /// Ports by name: what comes in by them is selected.
    pub sources: BTreeSet<String>,
    /// Ports by name: what leaves by them is selected.
    pub destinations: BTreeSet<String>,
    /// Of the selected, only packets in these VLANs; empty for all.
    pub vlans: BTreeSet<u16>,
    /// Of the selected, only packets that match.
    pub filter: Option<Match>,
    /// Where copies go.
    pub output: MirrorOutput,
    /// Copies have no more bytes than this.
    pub snaplen: Option<u16>,
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorOutput {
    /// A port, by name. It is reserved for mirrors: NORMAL neither sends to it nor takes anything from it.
    Port(String),
    /// Every port that carries the VLAN (RSPAN). Nothing is learned in it.
    Vlan(u16),
}

/// A target, with ports by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A port.
    Port(u32),
    /// The ports that carry a VLAN, but for those reserved for mirrors.
    Vlan(u16),
}

/// Which way a packet goes through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the bridge.
    In,
    /// Out of it.
    Out,
}

/// A mirror whose target is there.
pub(crate) struct Mirror {
    id: u128,
    all: bool,
    sources: BTreeSet<u32>,
    destinations: BTreeSet<u32>,
    vlans: BTreeSet<u16>,
    pub(crate) filter: Option<Match>,
    pub(crate) target: Target,
    /// The target's number.
    pub(crate) number: u16,
    pub(crate) snaplen: Option<u32>,
    pub(crate) counters: Arc<Counters>,
}

impl Mirror {
    /// Whether it selects packets that go through a port that way, as far as the port decides it.
    pub(crate) fn watches(&self, port: u32, way: Way) -> bool {
        let ports = match way {
            Way::In => &self.sources,
            Way::Out => &self.destinations,
        };
        self.all || ports.contains(&port)
    }

    /// Whether it selects packets of a VLAN.
    pub(crate) fn takes_vlan(&self, vlan: u16) -> bool {
        self.vlans.is_empty() || self.vlans.contains(&vlan)
    }
}

/// A bridge's mirrors.
#[derive(Default)]
pub struct Mirrors {
    pub(crate) list: Vec<Mirror>,
    reserved: BTreeSet<u32>,
    vlans: BTreeSet<u16>,
}

impl Mirrors {
    /// What mirrors come to on a bridge with these ports (index by number). `old` are those until now.
    pub(crate) fn resolve(
        specs: &[MirrorSpec],
        ports: &BTreeMap<u32, u32>,
        world: &World,
        old: &Arc<Mirrors>,
    ) -> Arc<Mirrors> {
        if specs.is_empty() && old.list.is_empty() {
            return old.clone();
        }
        let named: BTreeMap<&str, u32> = ports
            .values()
            .filter_map(|&i| Some((world.port(i)?.name(), i)))
            .collect();
        let indexes = |names: &BTreeSet<String>| -> BTreeSet<u32> {
            let known = names.iter().filter_map(|n| named.get(n.as_str()));
            known.copied().collect()
        };
        let mut targets: Vec<Target> = Vec::new();
        let mut new = Mirrors::default();
        for spec in specs {
            let target = match &spec.output {
                MirrorOutput::Port(name) => match named.get(name.as_str()) {
                    Some(&index) => Target::Port(index),
                    None => continue,
                },
                MirrorOutput::Vlan(vlan) => Target::Vlan(*vlan),
            };
            let number = targets.iter().position(|t| *t == target);
            let number = number.unwrap_or_else(|| {
                targets.push(target);
                targets.len() - 1
            });
            match target {
                Target::Port(index) => new.reserved.insert(index),
                Target::Vlan(vlan) => new.vlans.insert(vlan),
            };
            new.list.push(Mirror {
                id: spec.id,
                all: spec.all,
                sources: indexes(&spec.sources),
                destinations: indexes(&spec.destinations),
                vlans: spec.vlans.clone(),
                filter: spec.filter.clone(),
                target,
                number: number as u16,
                snaplen: spec.snaplen.map(u32::from),
                counters: old.counters(spec.id).unwrap_or_default(),
            });
        }
        Arc::new(new)
    }

    /// Whether a port (by index) is reserved for mirrors.
    #[inline]
    pub(crate) fn reserve(&self, port: u32) -> bool {
        !self.reserved.is_empty() && self.reserved.contains(&port)
    }

    /// Whether a VLAN is for copies.
    #[inline]
    pub(crate) fn use_vlan(&self, vlan: u16) -> bool {
        !self.vlans.is_empty() && self.vlans.contains(&vlan)
    }

    /// The counters of a mirror: packets it selected, and their bytes as they came in.
    pub(crate) fn counters(&self, id: u128) -> Option<Arc<Counters>> {
        let mirror = self.list.iter().find(|m| m.id == id)?;
        Some(mirror.counters.clone())
    }
}
