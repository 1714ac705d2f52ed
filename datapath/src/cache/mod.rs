//! The caches in front of the tables. Both belong to one forwarding thread: no locks, no atomics.
//!
//! * [`exact`]: whole keys, one or two cache lines a look-up; holds what is hot now.
//! * [`wildcard`]: keys under masks, one subtable a mask, for each input port of its own, so
//!   that the masks and flows of one tenant cost the others nothing.
//!
//! Both lead to *flows* ([`Flow`]) in one slab. A flow carries its compiled actions, its counts
//! since they were last handed on, whom to hand them to, and what it depended on. It is checked when it
//! is hit: if the datapath's epoch moved and its dependencies with it, it is translated again. It goes when unused
//! for [`IDLE`].

pub mod exact;
pub mod wildcard;

use crate::action::DpAction;
use crate::drop::DropReason;
use crate::flow::{FlowMask, PacketKey};
use crate::pipeline::{Credit, Dep, Translation};
use std::time::Duration;

/// Flows of one thread.
pub const FLOWS_MAX: usize = 131_072;
/// Flows of one input port in one thread.
pub const PORT_FLOWS_MAX: usize = 65_536;
/// Masks of one input port in one thread.
pub const PORT_MASKS_MAX: usize = 128;
/// How long an unused flow is kept.
pub const IDLE: Duration = Duration::from_secs(10);
/// No port: in [`Flow::single`].
pub const NONE: u32 = u32::MAX;

/// A cached flow. The first line is what a hit touches.
#[repr(align(64))]
pub struct Flow {
    /// The epoch at which it was last known to be right.
    pub epoch: u64,
    /// The port, if sending there is all there is to do.
    pub single: u32,
    /// Reuses of this place in the slab.
    pub generation: u8,
    /// Whether it is in use.
    pub live: bool,
    /// Whether all changes come before all outputs.
    pub simple: bool,
    /// TCP flags seen.
    pub tcp_flags: u16,
    /// Packets since counts were handed on.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Nanoseconds of the last packet.
    pub used: u64,
    /// The rest.
    pub body: Box<Body>,
}

/// What of a flow a plain hit does not touch.
pub struct Body {
    /// Where it came in.
    pub port: u32,
    /// Its key, of the packet that made it.
    pub key: PacketKey,
    /// The bits that count.
    pub mask: PacketKey,
    /// What to do.
    pub actions: Box<[DpAction]>,
    /// Why nothing is done.
    pub drop: DropReason,
    /// Whom to hand counts to.
    pub credits: Vec<Credit>,
    /// What it depended on.
    pub deps: Vec<Dep>,
    /// The world it depended on.
    pub world: u64,
    /// Packets handed on so far.
    pub total_packets: u64,
    /// Their bytes.
    pub total_bytes: u64,
}

impl Body {
    /// Takes the answer of a translation.
    pub fn set(&mut self, t: Translation, world: u64) {
        self.actions = t.actions.into();
        self.drop = t.drop.unwrap_or(DropReason::NoOutput);
        self.credits = t.credits;
        self.deps = t.deps;
        self.world = world;
    }
}

/// The part of a mask that lies in the packet.
pub fn packet_mask(mask: &FlowMask) -> PacketKey {
    *mask.packet_words()
}

/// Whether sending to one port is all there is to do, and whether changes come first.
pub fn shape(actions: &[DpAction]) -> (u32, bool) {
    let single = match actions {
        [DpAction::Output(p)] => *p,
        _ => NONE,
    };
    let first = actions.iter().position(sends).unwrap_or(actions.len());
    (single, actions[first..].iter().all(sends))
}

fn sends(a: &DpAction) -> bool {
    matches!(a, DpAction::Output(_) | DpAction::PacketIn(_))
}

/// Asks the processor to load the line at `r`.
#[inline(always)]
pub(crate) fn prefetch<T>(r: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and faults on nothing, whatever the address; SSE is part of
    // x86_64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(std::ptr::from_ref(r).cast::<i8>(), _MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = r;
}
