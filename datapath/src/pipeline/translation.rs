//! What a translation comes to: actions, the mask, who is told, and what it depended on.

use super::learn::Lesson;
use crate::action::DpAction;
use crate::bridge::{Bridge, PortCounters};
use crate::drop::DropReason;
use crate::flow::FlowMask;
use crate::port::Port;
use crate::table::{Cells, Changes, Counters, Object, Rule, TableCounters};
use crate::underlay::{Underlay, Use};
use openflow::MacAddr;
use std::net::IpAddr;
use std::sync::Arc;

/// Who is told of the packets that take this way.
#[derive(Clone)]
pub enum Credit {
    /// A rule matched.
    Rule(Arc<Counters>),
    /// A rule matched that does not count packets, or not bytes.
    Uncounted {
        /// The rule's.
        counters: Arc<Counters>,
        /// Whether it counts packets.
        packets: bool,
        /// Whether it counts bytes.
        bytes: bool,
    },
    /// A mirror selected it.
    Mirror(Arc<Counters>),
    /// A group was run, or one of its buckets.
    Group(Arc<Counters>),
    /// Rules are made of it.
    Lesson(Arc<Lesson>),
    /// The end of a TCP connection shortens a rule's timeouts to these, idle and hard.
    FinTimeout(Arc<Bridge>, Arc<Rule>, u16, u16),
    /// A table was looked up; whether it had a match.
    Table(Arc<TableCounters>, bool),
    /// A patch port was crossed: out of the first, in by the second.
    Patch(Arc<PortCounters>, Arc<PortCounters>),
    /// Whoever comes after this is told of packets that are so many bytes longer.
    Longer(i32),
    /// A tunnel's next hop was used.
    NeighbourUsed(Arc<Use>),
    /// A neighbour told where it is.
    Neighbour {
        /// Who is to know.
        underlay: Arc<Underlay>,
        /// The interface it is at.
        device: Arc<str>,
        /// Its address.
        ip: IpAddr,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// An address was seen.
    Mac {
        /// Where.
        bridge: Arc<Bridge>,
        /// In which VLAN.
        vlan: u16,
        /// The address.
        mac: u64,
        /// On which port.
        port: u32,
    },
}

/// What a translation depended on.
#[derive(Clone)]
pub enum Dep {
    /// A bridge's settings, its ports, and which tables it has.
    Bridge(Arc<Bridge>, u64),
    /// Rules of a table, as far as they concern one lookup.
    Rules {
        /// The table's.
        changes: Arc<Changes>,
        /// The version that was looked at.
        since: u64,
        /// Where the lookup ended.
        cells: Cells,
    },
    /// A group or a meter.
    Object {
        /// Where.
        bridge: Arc<Bridge>,
        /// Which.
        object: Object,
        /// The version that was looked at.
        since: u64,
    },
    /// A port's link, and how often it had gone up or down.
    Link(Arc<dyn Port>, u64),
    /// Routes and neighbours of tunnels, as of a version.
    Underlay(Arc<Underlay>, u64),
    /// A bucket of learned addresses.
    Mac {
        /// Where.
        bridge: Arc<Bridge>,
        /// Which.
        bucket: u16,
        /// Its generation.
        generation: u32,
    },
}

impl Dep {
    /// Whether it is still as it was.
    pub fn holds(&self) -> bool {
        match self {
            Dep::Bridge(b, version) => b.settings() == *version,
            Dep::Rules {
                changes,
                since,
                cells,
            } => changes.unchanged(cells, *since),
            Dep::Object {
                bridge,
                object,
                since,
            } => bridge.is_unchanged(*object, *since),
            Dep::Underlay(underlay, version) => underlay.version() == *version,
            Dep::Link(port, resets) => port.link_resets_seen() == *resets,
            Dep::Mac {
                bridge,
                bucket,
                generation,
            } => bridge.generation(*bucket) == *generation,
        }
    }
}

/// What came of it.
#[derive(Clone, Default)]
pub struct Translation {
    /// What to do.
    pub actions: Vec<DpAction>,
    /// The bits of the key that were looked at.
    pub mask: FlowMask,
    /// Who is told.
    pub credits: Vec<Credit>,
    /// What it depended on.
    pub deps: Vec<Dep>,
    /// Why nothing is done, if nothing is.
    pub drop: Option<DropReason>,
    /// Whether some of the credits are lessons.
    pub teaches: bool,
}

impl Translation {
    /// Empty, but for the memory of its lists: for another translation.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.mask = FlowMask::default();
        self.credits.clear();
        self.deps.clear();
        self.drop = None;
        self.teaches = false;
    }
}

/// How a rule is told of packets.
pub(super) fn credit_of(rule: &Rule) -> Credit {
    let counters = rule.counters.clone();
    let (packets, bytes) = (!rule.flags.no_packet_counts, !rule.flags.no_byte_counts);
    if packets && bytes {
        return Credit::Rule(counters);
    }
    Credit::Uncounted {
        counters,
        packets,
        bytes,
    }
}
