//! One rule of a flow table.

use super::classifier::Pattern;
use crate::clock::Now;
use openflow::{FlowFlags, FlowRemovedReason, FlowStats, Instructions, Match, MonitoredFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a rule (or a table) has seen. Shared by all versions of a rule; forwarding threads add what
/// they counted on their own when they flush.
#[derive(Debug, Default)]
pub struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds of [`Now`] at the last packet.
    used: AtomicU64,
}

impl Counters {
    pub(crate) fn starting(now: Now) -> Counters {
        Counters {
            used: AtomicU64::new(now.as_nanos() as u64),
            ..Counters::default()
        }
    }

    /// Adds what a thread saw up to `used`.
    pub fn add(&self, packets: u64, bytes: u64, used: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.used.fetch_max(used, Ordering::Relaxed);
    }

    /// Packets and bytes.
    pub fn get(&self) -> (u64, u64) {
        (
            self.packets.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    /// When it last saw a packet (or was made).
    pub fn used(&self) -> Now {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn reset(&self) {
        self.packets.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

/// One rule. A change makes a new one in its place, sharing the counters.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Number by order of addition, over the whole bridge.
    pub id: u64,
    /// Its table.
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// Which packets.
    pub pattern: Pattern,
    /// What happens to them.
    pub instructions: Arc<Instructions>,
    /// Cookie.
    pub cookie: u64,
    /// Seconds, 0 for never.
    pub idle_timeout: u16,
    /// Seconds, 0 for never.
    pub hard_timeout: u16,
    /// Importance.
    pub importance: u16,
    /// Flags.
    pub flags: FlowFlags,
    /// When it was added.
    pub created: Now,
    /// When it was last added or modified: what the hard timeout counts from.
    pub modified: Now,
    /// What it saw.
    pub counters: Arc<Counters>,
}

impl Rule {
    /// Which packets, as it was asked for.
    pub fn matching(&self) -> Match {
        self.pattern.matching()
    }

    /// The rule as statistics.
    pub fn stats(&self, now: Now) -> FlowStats {
        let (packets, bytes) = self.counters.get();
        FlowStats {
            table: self.table,
            duration: now.saturating_sub(self.created),
            idle_age: Some(now.saturating_sub(self.counters.used())),
            hard_age: Some(now.saturating_sub(self.modified)),
            priority: self.priority,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            importance: self.importance,
            flags: self.flags,
            cookie: self.cookie,
            packets,
            bytes,
            matching: self.matching(),
            instructions: (*self.instructions).clone(),
        }
    }

    /// The rule as who watches flows sees it.
    pub(crate) fn monitored(&self) -> MonitoredFlow {
        MonitoredFlow {
            table: self.table,
            priority: self.priority,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            cookie: self.cookie,
            matching: self.matching(),
            instructions: Some((*self.instructions).clone()),
        }
    }

    pub(crate) fn reset_counts(&self) {
        self.counters.reset();
    }

    /// Its timeouts, no longer than these (0 for no bound).
    pub(crate) fn shortened(&self, idle: u16, hard: u16) -> (u16, u16) {
        (
            shorter(self.idle_timeout, idle),
            shorter(self.hard_timeout, hard),
        )
    }

    pub(super) fn is_timed(&self) -> bool {
        self.idle_timeout != 0 || self.hard_timeout != 0
    }

    /// When its time is over unless it is used before, and why; none if never.
    pub(super) fn end(&self) -> Option<(Now, FlowRemovedReason)> {
        let after = |since: Now, seconds: u16, reason| {
            (seconds != 0).then(|| (since + Duration::from_secs(seconds.into()), reason))
        };
        let used = self.counters.used().max(self.modified);
        let hard = after(
            self.modified,
            self.hard_timeout,
            FlowRemovedReason::HardTimeout,
        );
        let idle = after(used, self.idle_timeout, FlowRemovedReason::IdleTimeout);
        // Both at once: the hard one.
        match (hard, idle) {
            (Some(h), Some(i)) => Some(if i.0 < h.0 { i } else { h }),
            (h, i) => h.or(i),
        }
    }
}

/// The shorter of two timeouts, of which 0 is none.
pub(crate) fn shorter(a: u16, b: u16) -> u16 {
    match (a, b) {
        (0, n) | (n, 0) => n,
        (a, b) => a.min(b),
    }
}
