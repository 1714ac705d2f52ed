//! What split and packed rings share: a [`Virtqueue`] does the bookkeeping of its layout, [`receive`](super::receive) and
//! [`send`](super::send) move packets through any of them, and [`Common`] is what they need of each.

use std::sync::Arc;

use super::chain::{Ahead, Each, NOTHING, Reach};
use super::{BadChain, RingError, feature};
use crate::memory::{GuestMemory, RegionCache};
use crate::packet::copy::{fetches_by_stores, prefetch_read, prefetch_write};
use crate::packet::{BATCH, Checksum, GsoKind, Offload};

/// How many buffers are asked for ahead of their use. A processor waits for about sixteen lines at a time, and a buffer has
/// two at its beginning: to ask for more at once is to stand still, to ask for fewer is to wait for each. So they are asked for
/// one by one while others are copied, and the first ones of the next batch before this one is let go.
const DISTANCE: usize = 8;

/// Bytes of a buffer that [`Virtqueue::touch`] may write to.
const TOUCHED: u32 = 72;

/// The bookkeeping of one layout. Chains are looked ahead at, taken in order, and put back as used; what was put is seen by the
/// guest when it is published.
pub(super) trait Virtqueue {
    /// A place to come back to.
    type Mark: Copy;

    fn common(&self) -> &Common;
    fn common_mut(&mut self) -> &mut Common;

    /// Finds up to `want` chains that are available behind those that are ahead already, and writes them to [`Common::ahead`]
    /// from [`Common::filled`] on, where there must be room; says how many. An impossible ring is given up. Unless `fresh`,
    /// the guest's index is not read anew.
    fn look_ahead(&mut self, want: usize, fresh: bool, writable: bool) -> usize;

    /// Forgets the chains that are ahead; they stay available.
    fn forget(&mut self);

    /// Looks ahead until `want` (at most [`BATCH`]) chains are ahead, or no more are available.
    #[inline(always)]
    fn top_up(&mut self, want: usize, fresh: bool, writable: bool) {
        if self.common().writable != writable {
            self.forget();
            self.common_mut().writable = writable;
        }
        let common = self.common_mut();
        let left = common.filled - common.next;
        if left >= want || common.error.is_some() {
            return;
        }
        if common.next > 0 {
            common.ahead.copy_within(common.next..common.filled, 0);
            common.asked = common.asked.saturating_sub(common.next);
            (common.next, common.filled) = (0, left);
        }
        let n = self.look_ahead(want - left, fresh, writable);
        self.common_mut().filled += n;
    }

    /// Asks for the lines of the buffers of the next [`DISTANCE`] chains that are ahead, as far as they were not asked for before.
    #[inline(always)]
    fn ask(&mut self, writable: bool) {
        let common = self.common_mut();
        let end = common.filled.min(common.next + DISTANCE);
        while common.asked < end {
            let Some(&Ahead { at, len, .. }) = common.ahead.get(common.asked) else {
                return;
            };
            common.asked += 1;
            if at.is_null() {
                continue;
            }
            // Header and first bytes of a frame seldom share one line.
            if writable {
                prefetch_write(at);
                prefetch_write(at.wrapping_add(64));
            } else {
                prefetch_read(at);
                prefetch_read(at.wrapping_add(64));
                if len > 128 {
                    // The rest of what is copied at once.
                    prefetch_read(at.wrapping_add(128));
                    prefetch_read(at.wrapping_add(192));
                }
            }
        }
    }

    /// Fetches the first two lines of up to `n` buffers that are ahead and are to be written, where stores do it better than
    /// [`ask`](Virtqueue::ask) does.
    #[inline(always)]
    fn touch(&mut self, n: usize) {
        let common = self.common();
        if !common.fetches_by_stores {
            return;
        }
        for ahead in &common.ahead[common.next..common.filled.min(common.next + n)] {
            if !ahead.at.is_null() && ahead.len >= TOUCHED {
                // SAFETY: the buffer was translated with its length, which is enough, and is ours to write until it is used.
                unsafe {
                    ahead.at.cast::<u64>().write_unaligned(0);
                    ahead.at.add(64).cast::<u64>().write_unaligned(0);
                }
            }
        }
    }

    /// Walks a chain that was looked ahead at and hands on every run of bytes, in order, until `each` has enough.
    fn walk(&mut self, ahead: Ahead, writable: bool, each: &mut impl Each) -> Result<(), BadChain>;

    /// Takes the next chain that is ahead, of so many entries.
    fn take(&mut self, slots: u16);

    /// Says that a chain is used and that `len` bytes were written into it.
    fn put_used(&mut self, ahead: Ahead, len: u32);

    /// Says that the chains of [`Common::taken`] are used, and publishes.
    fn give_back(&mut self);

    /// Shows the guest what was put.
    fn publish(&mut self);

    /// Where taking and putting stand.
    fn mark(&self) -> Self::Mark;

    /// Forgets what was taken and put since `mark`, none of which may be published, and what is ahead.
    fn rewind(&mut self, mark: Self::Mark);
}

/// A chain that was taken and is still to be given back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) id: u16,
    pub(super) slots: u16,
}

/// The parts of a ring that do not depend on its layout.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) reach: Reach,
    /// Bytes of a virtio-net header.
    pub(super) header: usize,
    /// A packet may be spread over several receive buffers.
    pub(super) mergeable: bool,
    /// Buffers are used in order, so that the last of a batch speaks for all.
    pub(super) in_order: bool,
    /// What was negotiated.
    pub(super) features: u64,
    /// Chains that are ahead, available and not taken: from `next` to `filled`.
    pub(super) ahead: [Ahead; BATCH],
    pub(super) next: usize,
    pub(super) filled: usize,
    /// Up to here their buffers were asked for.
    pub(super) asked: usize,
    /// See the function of this name.
    fetches_by_stores: bool,
    /// They are to be written.
    pub(super) writable: bool,
    /// Chains taken by `dequeue` and not given back: the first `taken_len`.
    pub(super) taken: [Taken; BATCH],
    pub(super) taken_len: usize,
    /// Why nothing is done any more.
    pub(super) error: Option<RingError>,
}

impl Common {
    pub(super) fn new(memory: Arc<GuestMemory>, features: u64) -> Common {
        let mergeable = features & feature::MRG_RXBUF != 0;
        Common {
            reach: Reach {
                memory,
                cache: RegionCache::default(),
                indirect: features & feature::INDIRECT_DESC != 0,
            },
            // virtio 1.2 5.1.6.1: `num_buffers` is there with VERSION_1 or MRG_RXBUF.
            header: if mergeable || features & feature::VERSION_1 != 0 {
                12
            } else {
                10
            },
            mergeable,
            in_order: features & feature::IN_ORDER != 0,
            features,
            ahead: [NOTHING; BATCH],
            next: 0,
            filled: 0,
            asked: 0,
            fetches_by_stores: fetches_by_stores(),
            writable: false,
            taken: [Taken::default(); BATCH],
            taken_len: 0,
            error: None,
        }
    }

    /// Forgets the chains that are ahead.
    pub(super) fn forget_ahead(&mut self) {
        (self.next, self.filled, self.asked) = (0, 0, 0);
    }

    /// The host address of `len` bytes at the monitor's address `addr`, aligned.
    pub(super) fn place(
        &self,
        what: &'static str,
        addr: u64,
        len: u64,
        align: usize,
    ) -> Result<*mut u8, RingError> {
        let at = self
            .reach
            .memory
            .translate_user(addr, len)
            .ok_or(RingError::Outside(what, addr, len))?;
        if (at as usize).is_multiple_of(align) {
            Ok(at)
        } else {
            Err(RingError::Alignment(what, addr, align))
        }
    }

    /// The ring makes no sense: nothing more is done with it.
    #[cold]
    pub(super) fn give_up(&mut self, error: RingError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }

    /// Why it does nothing any more.
    pub(super) fn error(&self) -> Option<&RingError> {
        if self.reach.memory.is_broken() {
            Some(&RingError::MemoryLost)
        } else {
            self.error.as_ref()
        }
    }

    /// Reads a header; what was not negotiated is an error.
    pub(super) fn offload(&self, header: &[u8; 10], frame: usize) -> Result<Offload, BadChain> {
        let mut header = *header;
        // DATA_VALID and later flags are the device's to set, never the driver's (virtio 1.2 5.1.6.2).
        header[0] &= 1;
        let offload = Offload::from_vnet(&header, frame).map_err(|_| BadChain::Header)?;
        let needs = match offload.gso.kind {
            GsoKind::None => 0,
            GsoKind::Tcp4 => feature::HOST_TSO4,
            GsoKind::Tcp6 => feature::HOST_TSO6,
            // Datagram segmentation has no feature bit among ours.
            GsoKind::Udp => return Err(BadChain::Header),
        } | if offload.gso.ecn {
            feature::HOST_ECN
        } else {
            0
        } | if matches!(offload.checksum, Checksum::Needed { .. }) {
            feature::CSUM
        } else {
            0
        };
        if self.features & needs == needs {
            Ok(offload)
        } else {
            Err(BadChain::Header)
        }
    }

    /// Whether the guest can be given a packet with this left to do.
    #[inline(always)]
    pub(super) fn accepts(&self, offload: &Offload) -> bool {
        if offload.is_done() {
            return true;
        }
        let needs = match offload.gso.kind {
            GsoKind::None => 0,
            GsoKind::Tcp4 => feature::GUEST_TSO4,
            GsoKind::Tcp6 => feature::GUEST_TSO6,
            GsoKind::Udp => return false,
        } | if offload.gso.ecn {
            feature::GUEST_ECN
        } else {
            0
        } | feature::GUEST_CSUM;
        self.features & needs == needs
    }

    /// The header that the guest is given.
    #[inline(always)]
    pub(super) fn header_for(&self, offload: &Offload) -> [u8; 12] {
        match offload.checksum {
            Checksum::None => PLAIN,
            Checksum::Valid if self.features & feature::GUEST_CSUM == 0 => PLAIN,
            _ => offload.to_vnet(),
        }
    }
}

/// A header that says nothing but that there is one buffer.
pub(super) const PLAIN: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
