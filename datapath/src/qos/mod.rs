//! Quality of service on the way out of a port: queues, their rates, and who goes first.
//!
//! # The idea
//!
//! Between a forwarding thread and a port's transmit queue stands, where the database asks for it, a [`shaper`]. A packet that
//! may not leave yet is copied whole into a buffer of the shaper's, and a [`Scheduler`] (one of a handful: `htb`, `hfsc`, `sfq`,
//! `codel`, `fq_codel`, `netem`) says which goes next, and when. Policers (`policer`) keep nothing: a packet passes or is dropped.
//! Schedulers are pure: packets are [`Item`]s, time is a number, so tests drive them to the nanosecond. They work the same
//! in front of a guest, a tap, a network card or a tunnel, because they know nothing of what is behind.
//!
//! # What is counted
//!
//! Ethernet frames from the destination address on, without frame check sequence, as they are on a wire: a large packet (TSO)
//! counts as its segments ([`OnWire`](crate::packet::segment::OnWire)). Only the policers' rates are told in bytes of IP
//! packets, without the 14 bytes of the Ethernet header, as ovs-vswitchd.conf.db(5) has it. A large packet that would hold the
//! line for more than [`CUT_ABOVE`] at the rate of its queue is cut into frames before it is queued; so rates hold over short
//! times too, and a packet of 64 KB waits in 44 pieces at 1 Mbit/s, but passes in one at 1 Gbit/s.
//!
//! # Threads
//!
//! A port has one shaper, whatever the number of threads that send to it, under a lock that threads only try for (see
//! `engine/tx.rs` for what is done with packets meanwhile, and why). One thread *owns* it: sees to departures. That is who last
//! brought a packet that may leave earlier than anything before, so that nobody ever has to be woken for another's packet; one
//! that finds that another took over forgets it. The owner looks once a round whether something is due, one comparison for all its
//! shapers, and sleeps no longer than until it is. Sleeps end some 50 microseconds late; what was missed by that is made up
//! for ([`bucket`]), so that rates are exact on a machine that is not.
//!
//! # Back pressure
//!
//! A packet that the port has no room for is kept, and tried again [`RETRY`] later: a queue fills when a guest is slow,
//! too, and that is what the disciplines without a rate (`sfq`, `codel`, `fq_codel`) work on.
//!
//! # Tunnels
//!
//! The shaper of a tunnel port stands before the encapsulation: what waits, and what is counted, are the frames that go into the
//! tunnel. With each it keeps the headers it is to get ([`Onward`]); the thread that sees to its departure puts them on. So
//! a packet waits once for its tunnel, and once more, with its headers, if the port of the underlay has a shaper, too.
//!
//! # Changes
//!
//! A new configuration is left beside the shaper; the next thread to hold the lock builds the new scheduler and hands it what
//! waits, in the order it came. Taken away, the shaper lets all that waits leave first, before what comes; then threads forget it.
//!
//! # Cost and bounds
//!
//! A port without quality of service pays for one branch a batch. With it, a packet is copied once more than otherwise,
//! into buffers that are used again; nothing is allocated while what waits does not grow. A queue holds [`LIMIT`] packets and
//! [`LIMIT_BYTES`], a port [`PORT_BYTES`].

pub mod bucket;
pub mod codel;
pub mod fq_codel;
pub mod frame;
pub mod hfsc;
pub mod htb;
pub mod netem;
pub mod policer;
mod rounds;
pub mod sfq;
pub mod shaper;
pub mod spec;
mod store;
#[cfg(test)]
mod tests;
mod timers;

pub use shaper::{PortShaper, QueueCounters};
pub use spec::{Discipline, QosSpec, QueueSpec, TYPES};

use crate::action::TunnelPush;
use std::collections::VecDeque;
use std::sync::Arc;

/// Packets that wait in a queue: the default length of a device's queue in Linux. A large packet counts as one.
pub const LIMIT: usize = 1000;
/// Their bytes: as many packets of 9000 bytes with some room, or 250 of the largest.
pub const LIMIT_BYTES: u64 = 16 << 20;
/// Bytes that wait for one port in all its queues.
pub const PORT_BYTES: usize = 64 << 20;
/// A large packet is cut if it takes longer than so many nanoseconds at its queue's rate: half a megabit at 500 Mbit/s.
pub const CUT_ABOVE: u64 = 1_000_000;
/// How long a port that had no room is left alone, in nanoseconds.
pub const RETRY: u64 = 50_000;

/// What is left to do with a packet that leaves by a tunnel port.
#[derive(Clone, Debug)]
pub struct Onward {
    /// The tunnel it goes into.
    pub push: Arc<TunnelPush>,
    /// The number of the queue that was asked for.
    pub queue: u32,
}

/// A packet as a scheduler sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Where the packet lies; the scheduler does not care.
    pub slot: u32,
    /// Which of the port's queues it goes by, counted from 0 in the order of the specification.
    pub queue: u32,
    /// Bytes on the wire.
    pub bytes: u32,
    /// Frames on the wire.
    pub frames: u32,
    /// A hash of its addresses and ports.
    pub flow: u32,
    /// Nanoseconds when it came.
    pub at: u64,
    /// Whether its ends understand congestion marks (RFC 3168).
    pub ecn: bool,
    /// Whether it is to be marked: congestion experienced.
    pub marked: bool,
    /// Whether it waited before its queue was changed: it stays whatever the limits.
    pub kept: bool,
}

/// What decides which packet leaves next, and when. Times are nanoseconds, and do not run backwards.
pub trait Scheduler: Send {
    /// A packet comes. Those that there is no room for, it or others, are added to `dropped`.
    fn enqueue(&mut self, item: Item, now: u64, dropped: &mut Vec<Item>);
    /// The packet that leaves now, if one may. `late` says for how long one may have been due without being asked for. What the
    /// discipline drops on the way is added to `dropped`.
    fn dequeue(&mut self, now: u64, late: u64, dropped: &mut Vec<Item>) -> Option<Item>;
    /// When the next packet may leave: `now` or later; none if nothing waits.
    fn next(&self, now: u64) -> Option<u64>;
    /// Packets that wait.
    fn len(&self) -> usize;
    /// Whether none does.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Gives all that waits away, each queue's in order.
    fn drain(&mut self, out: &mut Vec<Item>);
    /// Begins without credit: it takes the place of another.
    fn restart(&mut self) {}
}

/// A queue of packets, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    items: VecDeque<Item>,
    bytes: u64,
}

impl Waiting {
    /// Takes one in, if there is room.
    #[inline]
    pub fn push(&mut self, item: Item) -> bool {
        let full = self.items.len() >= LIMIT || self.bytes + u64::from(item.bytes) > LIMIT_BYTES;
        if full && !item.kept {
            return false;
        }
        self.bytes += u64::from(item.bytes);
        self.items.push_back(item);
        true
    }

    /// Takes one in whatever the limits: who calls has limits of its own.
    pub fn push_any(&mut self, item: Item) {
        self.bytes += u64::from(item.bytes);
        self.items.push_back(item);
    }

    /// The one that came first.
    #[inline]
    pub fn front(&self) -> Option<&Item> {
        self.items.front()
    }

    /// Takes it.
    #[inline]
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= u64::from(item.bytes);
        Some(item)
    }

    /// Takes the one that came last.
    pub fn pop_last(&mut self) -> Option<Item> {
        let item = self.items.pop_back()?;
        self.bytes -= u64::from(item.bytes);
        Some(item)
    }

    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
