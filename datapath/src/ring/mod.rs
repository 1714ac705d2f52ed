//! Virtqueues, seen from the device's side (virtio 1.2 2.6 to 2.8).
//!
//! `split` and `packed` keep the books of the two layouts; what packets have to do with buffers is the same for both:
//! `receive`, `send`, `chain` (descriptors and what they point to). [`Ring`] is the seam: its layout is chosen once
//! when a queue starts and dispatched once a batch. [`slot`] is where a forwarding
//! thread finds the ring of a queue, and where the control thread takes it away again. [`testing`] is the other
//! side: a driver for tests and fuzzing.
//!
//! Names follow the datapath, not the guest: *receiving* takes packets from the guest's transmit queue
//! (`dequeue`), *sending* fills the buffers of the guest's receive queue (`enqueue`).

mod chain;
pub mod fuzz;
mod packed;
mod queue;
mod receive;
mod send;
pub mod slot;
mod split;
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use self::queue::Virtqueue;
use crate::memory::GuestMemory;
use crate::packet::{BATCH, Batch, OwnedPacket};
use crate::port::TxOutcome;
use crate::sys::event::EventFd;

/// Feature bits of virtio-net and of rings (virtio 1.2 5.1.3 and 6) that weir knows.
pub mod feature {
    /// Device takes packets with partial checksums.
    pub const CSUM: u64 = 1 << 0;
    /// Driver takes packets with partial checksums.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The device tells the MTU.
    pub const MTU: u64 = 1 << 3;
    /// Driver takes TCP over IPv4 to be segmented.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// Driver takes TCP over IPv6 to be segmented.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// Driver takes TSO with ECN.
    pub const GUEST_ECN: u64 = 1 << 9;
    /// Device takes TCP over IPv4 to be segmented.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// Device takes TCP over IPv6 to be segmented.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// Device takes TSO with ECN.
    pub const HOST_ECN: u64 = 1 << 13;
    /// A packet may be spread over several receive buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// There is a control queue (served by the monitor, never by us).
    pub const CTRL_VQ: u64 = 1 << 17;
    /// The driver can be asked to announce itself (the monitor asks).
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    /// Several queue pairs.
    pub const MQ: u64 = 1 << 22;
    /// Legacy: notify when the ring runs empty even if notifications are off.
    pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
    /// Headers need no descriptor of their own.
    pub const ANY_LAYOUT: u64 = 1 << 27;
    /// Indirect descriptor tables.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications by index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// vhost-user protocol features can be negotiated.
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    /// Not legacy.
    pub const VERSION_1: u64 = 1 << 32;
    /// Packed rings.
    pub const RING_PACKED: u64 = 1 << 34;
    /// Buffers are used in the order in which they were made available.
    pub const IN_ORDER: u64 = 1 << 35;

    /// Names for people, lowest bit first.
    pub const NAMES: &[(u64, &str)] = &[
        (CSUM, "csum"),
        (GUEST_CSUM, "guest_csum"),
        (MTU, "mtu"),
        (GUEST_TSO4, "guest_tso4"),
        (GUEST_TSO6, "guest_tso6"),
        (GUEST_ECN, "guest_ecn"),
        (HOST_TSO4, "host_tso4"),
        (HOST_TSO6, "host_tso6"),
        (HOST_ECN, "host_ecn"),
        (MRG_RXBUF, "mrg_rxbuf"),
        (CTRL_VQ, "ctrl_vq"),
        (GUEST_ANNOUNCE, "guest_announce"),
        (MQ, "mq"),
        (NOTIFY_ON_EMPTY, "notify_on_empty"),
        (ANY_LAYOUT, "any_layout"),
        (INDIRECT_DESC, "indirect_desc"),
        (EVENT_IDX, "event_idx"),
        (PROTOCOL_FEATURES, "protocol_features"),
        (VERSION_1, "version_1"),
        (RING_PACKED, "ring_packed"),
        (IN_ORDER, "in_order"),
    ];
}

/// Batches given back to a guest, at most, before it is asked whether it wants to be interrupted for them; fewer where
/// they would be more than a quarter of the ring.
const UNSAID_MAX: u16 = 8;

/// Largest queue (virtio 1.2 2.7).
pub const MAX_SIZE: u16 = 32768;

/// Where a queue lies, in the monitor's addresses, and how far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Entries up to [`MAX_SIZE`]; a power of two if it is split.
    pub size: u16,
    /// Descriptor table, or packed ring.
    pub descriptors: u64,
    /// Available ring, or a packed ring's driver event suppression (driver area).
    pub available: u64,
    /// Used ring, or a packed ring's device event suppression (device area).
    pub used: u64,
    /// The available index to go on from; of a packed ring the index in bits 0 to 14 and the wrap counter in bit 15.
    pub base: u16,
}

/// Why a queue cannot start, or was stopped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// Zero, too large, or (in a split ring) not a power of two.
    #[error("queue size {0} is not from 1 to {MAX_SIZE}, or not a power of two in a split ring")]
    Size(u16),
    /// Part of the queue lies outside the shared memory.
    #[error("{0} at {1:#x} with {2} bytes is not inside one shared memory region")]
    Outside(&'static str, u64, u64),
    /// Part of the queue is not aligned (virtio 1.2 2.7).
    #[error("{0} at {1:#x} is not aligned to {2} bytes")]
    Alignment(&'static str, u64, usize),
    /// The available index moved by more than the queue's size.
    #[error("available index jumped from {from} to {to} in a queue of {size} entries")]
    IndexJump {
        /// The last one we used.
        from: u16,
        /// The one found.
        to: u16,
        /// Entries.
        size: u16,
    },
    /// A head beyond the table.
    #[error("available ring names descriptor {0} of {1}")]
    Head(u16, u16),
    /// A packed ring is to go on from beyond its end.
    #[error("base {0} is not below the queue's {1} entries")]
    Base(u16, u16),
    /// A chain in a packed ring that does not end.
    #[error("the descriptor chain at entry {0} does not end within the ring's {1} entries")]
    Endless(u16, u16),
    /// A later buffer of a packet is unusable.
    #[error("a receive buffer has a malformed descriptor chain: {0}")]
    Buffer(BadChain),
    /// The peer truncated its memory.
    #[error("the peer truncated its shared memory")]
    MemoryLost,
}

/// What can be wrong with a descriptor chain.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadChain {
    /// Part of a buffer or table lies outside the guest's memory.
    #[error("address outside guest memory")]
    Address,
    /// A readable descriptor where a writable one belongs, or the reverse.
    #[error("wrong direction")]
    Direction,
    /// A descriptor of zero bytes.
    #[error("empty descriptor")]
    Empty,
    /// A `next` beyond the table.
    #[error("next descriptor beyond the table")]
    Next,
    /// More descriptors than entries: a loop.
    #[error("chain longer than its table")]
    Loop,
    /// A nested, misplaced, misshapen or not negotiated indirect table.
    #[error("bad indirect table")]
    Indirect,
    /// Not even a header and an Ethernet header, or longer than a packet can be, or in too many pieces.
    #[error("bad length")]
    Length,
    /// The virtio-net header asks for something impossible or not negotiated.
    #[error("bad virtio-net header")]
    Header,
}

/// What went wrong on one queue, counted for people.
#[derive(Debug, Default)]
pub struct RingCounters {
    bad_chains: AtomicU64,
    no_room: AtomicU64,
    notifications: AtomicU64,
}

impl RingCounters {
    /// Chains that were returned unused because they were malformed.
    pub fn bad_chains(&self) -> u64 {
        self.bad_chains.load(Ordering::Relaxed)
    }

    /// Packets that found no free buffers.
    pub fn no_room(&self) -> u64 {
        self.no_room.load(Ordering::Relaxed)
    }

    /// Interrupts asked for.
    pub fn notifications(&self) -> u64 {
        self.notifications.load(Ordering::Relaxed)
    }

    // Only the holder of a ring's slot adds, so that a load and a store do and no locked instruction is needed.
    fn bump(counter: &AtomicU64, n: u64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }
}

/// A running queue with its notification descriptors.
#[derive(Debug)]
pub struct Ring {
    kind: Kind,
    call: Option<EventFd>,
    /// Batches given back since the guest was last considered for an interrupt, and how many there may be.
    unsaid: u16,
    unsaid_max: u16,
    counters: Arc<RingCounters>,
    scratch: Scratch,
}

/// The layouts there are.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a queue; a box would be one more load a batch"
)]
enum Kind {
    Split(split::SplitRing),
    Packed(packed::PackedRing),
}

/// Does the same with either layout.
macro_rules! either {
    ($kind:expr, $ring:ident => $what:expr) => {
        match $kind {
            Kind::Split($ring) => $what,
            Kind::Packed($ring) => $what,
        }
    };
}

/// Room for frames that need software work before a guest can have them; allocated when first needed.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) frame: Vec<u8>,
    pub(crate) segment: Vec<u8>,
}

impl Ring {
    /// Checks and starts a queue in `memory` with what was negotiated.
    pub fn start(
        memory: Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
        call: Option<EventFd>,
        counters: Arc<RingCounters>,
    ) -> Result<Ring, RingError> {
        let kind = if features & feature::RING_PACKED != 0 {
            Kind::Packed(packed::PackedRing::new(memory, layout, features)?)
        } else {
            Kind::Split(split::SplitRing::new(memory, layout, features)?)
        };
        Ok(Ring {
            kind,
            call,
            unsaid: 0,
            unsaid_max: (layout.size / (4 * BATCH as u16)).clamp(1, UNSAID_MAX),
            counters,
            scratch: Scratch::default(),
        })
    }

    /// Replaces the descriptor that interrupts the guest; the old one is returned.
    pub fn replace_call(&mut self, call: Option<EventFd>) -> Option<EventFd> {
        std::mem::replace(&mut self.call, call)
    }

    /// Appends packets of the guest's to `batch`; their memory is the guest's until [`Ring::give_back`].
    #[inline]
    pub fn dequeue(&mut self, batch: &mut Batch) -> usize {
        let (n, bad) = either!(&mut self.kind, ring => receive::dequeue(ring, batch));
        if bad > 0 {
            RingCounters::bump(&self.counters.bad_chains, bad.into());
        }
        n
    }

    /// Returns what [`Ring::dequeue`] took. The guest is interrupted, if it wants that, for several batches at once: to know
    /// whether it wants costs a full fence and a line of the guest's. When the ring turns out to be empty,
    /// [`Ring::settle`] is due.
    #[inline]
    pub fn give_back(&mut self) {
        either!(&mut self.kind, ring => receive::give_back(ring));
        self.unsaid += 1;
        if self.unsaid >= self.unsaid_max {
            self.notify();
        }
    }

    /// Nothing more is there to dequeue: returns what was malformed, and says what was given back.
    #[inline]
    pub fn settle(&mut self) {
        either!(&mut self.kind, ring => receive::give_back(ring));
        self.notify();
    }

    /// Copies packets of `batch` into the guest's buffers.
    #[inline]
    pub fn enqueue(&mut self, batch: &Batch, which: &[u8], max_frame: usize, out: &mut TxOutcome) {
        let full = out.full;
        let bad = either!(&mut self.kind, ring => {
            send::enqueue(ring, batch, which, max_frame, &mut self.scratch, out)
        });
        self.count(bad, out.full - full);
    }

    /// Copies one packet that owns its bytes into the guest's buffers.
    pub fn enqueue_owned(&mut self, packet: &OwnedPacket, max_frame: usize, out: &mut TxOutcome) {
        let full = out.full;
        let bad = either!(&mut self.kind, ring => {
            send::enqueue_owned(ring, packet, max_frame, &mut self.scratch, out)
        });
        self.count(bad, out.full - full);
    }

    fn count(&mut self, bad: u32, full: u32) {
        if bad > 0 {
            RingCounters::bump(&self.counters.bad_chains, bad.into());
        }
        if full > 0 {
            RingCounters::bump(&self.counters.no_room, full.into());
        }
    }

    /// Interrupts the guest if buffers were used since the last time and it wants to know.
    #[inline]
    pub fn notify(&mut self) {
        self.unsaid = 0;
        if either!(&mut self.kind, ring => ring.notification_wanted())
            && let Some(call) = &self.call
        {
            RingCounters::bump(&self.counters.notifications, 1);
            // The peer's descriptor failing is the peer's problem; it polls or it hangs.
            let _ = call.signal();
        }
    }

    /// Asks the guest for kicks; true if something is available already.
    pub fn arm(&mut self) -> bool {
        either!(&mut self.kind, ring => ring.arm())
    }

    /// Tells the guest that kicks are not needed.
    pub fn disarm(&mut self) {
        either!(&mut self.kind, ring => ring.disarm());
    }

    /// What to go on from after a stop, as [`Layout::base`] has it (GET_VRING_BASE).
    pub fn base(&self) -> u16 {
        either!(&self.kind, ring => ring.base())
    }

    /// Why the queue stopped working, if it did.
    pub fn error(&self) -> Option<&RingError> {
        either!(&self.kind, ring => ring.common().error())
    }
}
