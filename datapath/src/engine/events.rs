//! The way out for events: a bounded queue and a file descriptor to wait for.

use crate::bridge::{Bridge, PortCounters};
use crate::clock::Now;
use crate::config::{BridgeId, Event};
use crate::table::{Removed, Tables};
use crossbeam_channel::{Receiver, Sender, bounded};
use openflow::FlowUpdate;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Events that may wait. Packet-ins take at most half of it.
pub const EVENTS_MAX: usize = 8192;
/// Flows of one [`Event::FlowStats`]: few enough for one message, however long their matches are.
const TRIGGERED_AT_ONCE: usize = 32;
/// Such events of a bridge at one look at its flows: no more than wait in front of a controller that is slow.
const TRIGGERED_MAX: usize = 256;
/// Waiting events from which on updates of flows are left out: the first of these becomes [`FlowUpdate::Paused`].
const UPDATES_MAX: usize = EVENTS_MAX / 4 * 3;

type Item = (Event, Option<Arc<PortCounters>>);

struct Shared {
    fd: OwnedFd,
    signalled: AtomicBool,
    lost: AtomicU64,
}

/// Where events are put.
#[derive(Clone)]
pub struct EventSender {
    queue: Sender<Item>,
    shared: Arc<Shared>,
}

/// The stream of events.
pub struct Events {
    queue: Receiver<Item>,
    shared: Arc<Shared>,
}

/// A pair.
pub fn channel() -> std::io::Result<(EventSender, Events)> {
    let (tx, rx) = bounded(EVENTS_MAX);
    let shared = Arc::new(Shared {
        fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        signalled: AtomicBool::new(false),
        lost: AtomicU64::new(0),
    });
    Ok((
        EventSender {
            queue: tx,
            shared: shared.clone(),
        },
        Events { queue: rx, shared },
    ))
}

impl EventSender {
    /// Puts an event; `false` if there is no room, so that no more of its kind should come. A packet-in is charged to
    /// `budget`.
    pub fn send(&self, mut event: Event, budget: Option<Arc<PortCounters>>) -> bool {
        if let Event::FlowUpdate { update, .. } = &mut event
            && self.queue.len() >= UPDATES_MAX
        {
            *update = FlowUpdate::Paused;
            self.put(event, budget);
            return false;
        }
        if matches!(event, Event::PacketIn { .. }) && self.queue.len() >= EVENTS_MAX / 2 {
            return false;
        }
        self.put(event, budget)
    }

    /// Tells whoever watches a bridge's flows. The bridge's writer lock is held: updates are in the order of changes.
    pub(crate) fn tell_watchers(&self, b: &Bridge, updates: Vec<(u64, FlowUpdate)>, version: u64) {
        let bridge = BridgeId(b.id);
        for (origin, update) in updates {
            if !b.watched.load(Ordering::Relaxed) {
                return;
            }
            let event = Event::FlowUpdate {
                bridge,
                update,
                origin,
                version,
            };
            if !self.send(event, None) {
                b.watched.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Tells of rules that went.
    pub(crate) fn tell_removed(&self, b: &Bridge, removed: &[Removed], now: Now) {
        for removed in removed {
            let event = Event::FlowRemoved {
                bridge: BridgeId(b.id),
                removed: removed.tell(now),
            };
            self.send(event, None);
        }
    }

    /// Tells of rules that passed thresholds. Those there is no room for are not looked at, and so told of later.
    pub(crate) fn tell_triggered(&self, b: &Bridge, tables: &Tables, now: Now) {
        let mut rules = tables.triggered(now);
        for _ in 0..TRIGGERED_MAX {
            if self.queue.len() >= EVENTS_MAX / 2 {
                return;
            }
            let some = rules.by_ref().take(TRIGGERED_AT_ONCE);
            let flows: Vec<_> = some.map(|r| r.stats(now)).collect();
            if flows.is_empty() {
                return;
            }
            let bridge = BridgeId(b.id);
            self.put(Event::FlowStats { bridge, flows }, None);
        }
    }

    fn put(&self, event: Event, budget: Option<Arc<PortCounters>>) -> bool {
        if let Some(b) = &budget {
            b.packet_ins.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(e) = self.queue.try_send((event, budget)) {
            if let (_, Some(b)) = e.into_inner() {
                b.packet_ins.fetch_sub(1, Ordering::Relaxed);
            }
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if !self.shared.signalled.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.shared.fd, &1u64.to_ne_bytes());
        }
        true
    }
}

impl Events {
    /// Readable while there are events, until [`Events::try_recv`] has returned `None`.
    pub fn fd(&self) -> RawFd {
        self.shared.fd.as_raw_fd()
    }

    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        if let Some(e) = self.take() {
            return Some(e);
        }
        // Quiet, and then look again: who put one before that saw the signal still up.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.fd, &mut count);
        self.shared.signalled.store(false, Ordering::Release);
        let e = self.take();
        if e.is_some() && !self.shared.signalled.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.shared.fd, &1u64.to_ne_bytes());
        }
        e
    }

    fn take(&self) -> Option<Event> {
        let (event, budget) = self.queue.try_recv().ok()?;
        if let Some(b) = budget {
            b.packet_ins.fetch_sub(1, Ordering::Relaxed);
        }
        Some(event)
    }

    /// Events lost because nobody took them.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}
