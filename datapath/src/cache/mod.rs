//! The caches in front of the tables. All belong to one forwarding thread: no locks, no atomics.
//!
//! * [`exact`]: whole keys, one cache line a look-up for most; holds what is hot now, of all ports.
//! * [`wildcard`]: keys under masks, one subtable a mask, for each input port of its own, so
//!   that the masks and flows of one tenant cost the others nothing.
//!
//! Both lead to *flows* ([`Flow`]) in one slab. A flow carries its compiled actions, its counts
//! since they were last handed on, whom to hand them to, and what it depended on. It is checked when it
//! is hit: if the datapath's epoch moved and its dependencies with it, it is translated again. It goes when unused
//! for [`IDLE`].
//!
//! # Which first
//!
//! A port whose rules look at little has one mask or two, and its subtable is an exact-match cache of just
//! those bits: smaller than the other, and never short of entries however many flows there are. Such a
//! port is asked there first and the exact-match cache is left to ports with many masks. The port decides that by
//! what look-ups cost lately ([`wildcard::PortCache`]).
//!
//! # Bounds
//!
//! What a port may keep is bounded in flows ([`PORT_FLOWS_MAX`]), in masks ([`PORT_MASKS_MAX`]) and in new flows a
//! second ([`INSTALLS_PER_SECOND`]). A packet beyond a bound is forwarded by what the tables say, and that is not
//! kept. So whoever sends headers made to fill the caches pays for slow look-ups of their own packets, and the
//! flows that were there stay.

pub mod exact;
pub mod tunnels;
pub mod wildcard;

use crate::action::DpAction;
use crate::drop::DropReason;
use crate::flow::{FlowMask, PACKET_WORDS, PacketKey};
use crate::packet::BATCH;
use crate::pipeline::{Credit, Dep, Translation};
use std::time::Duration;

/// Flows of one thread.
pub const FLOWS_MAX: usize = 262_144;
/// Flows of one input port in one thread. Unit tests have few, so that they meet the bound often.
pub const PORT_FLOWS_MAX: usize = if cfg!(test) { 256 } else { 131_072 };
/// Masks of one input port in one thread: about as many as cost what the tables cost.
pub const PORT_MASKS_MAX: usize = 64;
/// New flows of one input port in one thread that are kept, in the long run.
pub const INSTALLS_PER_SECOND: u64 = 100_000;
/// New flows of one input port in one thread that are kept at once.
pub const INSTALLS_AT_ONCE: u64 = 16_384;
/// How long an unused flow is kept.
pub const IDLE: Duration = Duration::from_secs(10);
/// No port in [`Flow::single`], no flow in what was found.
pub const NONE: u32 = u32::MAX;

/// A packet's key, in two cache lines of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct Key {
    /// Its words; behind `len` there may be those of an older packet.
    pub words: PacketKey,
    /// How many words the packet has.
    pub len: u32,
}

impl Key {
    /// Makes the first `n` words right: those the packet does not have are zero.
    #[inline(always)]
    pub fn need(&mut self, n: usize) {
        let len = self.len as usize;
        if len < n {
            self.words[len..].fill(0);
        }
    }
}

/// The keys of a batch, with what was found for each so far.
pub struct Keys {
    /// By place in the batch.
    pub keys: [Key; BATCH],
    /// Keyed hash of each whole key; only where the exact-match cache is asked.
    pub hashes: [u64; BATCH],
    /// The flow of each, or [`NONE`].
    pub found: [u32; BATCH],
}

impl Default for Keys {
    fn default() -> Keys {
        let none = Key {
            words: [0; PACKET_WORDS],
            len: 0,
        };
        Keys {
            keys: [none; BATCH],
            hashes: [0; BATCH],
            found: [NONE; BATCH],
        }
    }
}

/// A cached flow. This line is all that a hit touches.
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
    pub actions: Vec<DpAction>,
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

impl Flow {
    /// A place in the slab that is not in use.
    pub fn vacant() -> Flow {
        Flow {
            epoch: 0,
            single: NONE,
            generation: 0,
            live: false,
            simple: true,
            tcp_flags: 0,
            packets: 0,
            bytes: 0,
            used: 0,
            body: Box::new(Body {
                port: NONE,
                key: [0; PACKET_WORDS],
                mask: [0; PACKET_WORDS],
                actions: Vec::new(),
                drop: DropReason::NoOutput,
                credits: Vec::new(),
                deps: Vec::new(),
                world: 0,
                total_packets: 0,
                total_bytes: 0,
            }),
        }
    }

    /// Its lists, for another translation: it must not be in use.
    pub fn take(&mut self) -> Translation {
        Translation {
            actions: std::mem::take(&mut self.body.actions),
            credits: std::mem::take(&mut self.body.credits),
            deps: std::mem::take(&mut self.body.deps),
            ..Translation::default()
        }
    }

    /// Lists to take later.
    pub fn give(&mut self, mut lists: Translation) {
        lists.clear();
        self.body.actions = lists.actions;
        self.body.credits = lists.credits;
        self.body.deps = lists.deps;
    }

    /// Takes the answer of a translation, as of this epoch and world.
    pub fn set(&mut self, t: Translation, epoch: u64, world: u64) {
        (self.single, self.simple) = shape(&t.actions);
        self.epoch = epoch;
        self.body.actions = t.actions;
        self.body.drop = t.drop.unwrap_or(DropReason::NoOutput);
        self.body.credits = t.credits;
        self.body.deps = t.deps;
        self.body.world = world;
    }
}

/// The mask under which a flow is kept: that of its translation as far as it lies in the packet, by whole bytes. Finer ones
/// would let more packets share a flow, but rules of many prefix lengths would make hundreds of masks of them, and each
/// costs a probe; whole bytes leave a few dozen at worst. Flows are kept by input port, so it is not part of their masks.
/// `tunnel` is the number of the packet's tunnel, 0 for none: what a mask looks at of a tunnel is all of its number.
pub fn packet_mask(mask: &FlowMask, tunnel: u32) -> PacketKey {
    let mut words = mask.packet_words().map(whole_bytes);
    words[0] = match tunnel != 0 && mask.looks_at_tunnel() {
        true => u32::MAX.into(),
        false => 0,
    };
    words
}

/// All bits of each byte in which there is one.
fn whole_bytes(w: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // The top bit of each byte says whether any bit is set in it: the sum does not carry from byte to byte.
    let some = (((w & LOW) + LOW) | w) & !LOW;
    (some >> 7) * 0xff
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
    use DpAction::{Drop, Output, PacketIn, Truncated};
    matches!(a, Output(_) | PacketIn(_) | Truncated { .. } | Drop(_))
}

/// Whether two runs of words are the same: differences are gathered, not branched on.
#[inline(always)]
fn same<const N: usize>(a: &[u64; N], b: &[u64; N]) -> bool {
    let mut d = 0;
    for k in 0..N {
        d |= a[k] ^ b[k];
    }
    d == 0
}

/// Numbers that need not be good ones: which of several to throw out.
pub struct Dice(u32);

impl Default for Dice {
    fn default() -> Dice {
        Dice(0x2545_f491)
    }
}

impl Dice {
    /// The next one (xorshift).
    pub fn roll(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// True one time in `n`.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.roll().is_multiple_of(n)
    }
}

/// Asks the processor to load the line at `r`.
#[inline(always)]
pub(crate) fn prefetch<T>(r: &T) {
    crate::packet::copy::prefetch_read(std::ptr::from_ref(r).cast());
}

#[cfg(test)]
mod tests {
    use super::whole_bytes;

    #[test]
    fn bytes_are_taken_whole() {
        assert_eq!(whole_bytes(0), 0);
        assert_eq!(whole_bytes(u64::MAX), u64::MAX);
        assert_eq!(whole_bytes(0xfff8_0000_0001_8000), 0xffff_0000_00ff_ff00);
        for bit in 0..64 {
            assert_eq!(whole_bytes(1 << bit), 0xff << (bit / 8 * 8));
            assert_eq!(
                whole_bytes(!(0xff << (bit / 8 * 8))),
                !(0xff << (bit / 8 * 8))
            );
        }
    }
}
