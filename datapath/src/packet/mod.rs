//! Packets, and the batches in which they cross the switch.
//!
//! # The idea
//!
//! A packet is a private *head* followed by *segments* borrowed from whoever sent it. The head
//! holds the headers: it is copied once, when the packet is received, so that a guest cannot change
//! a header between the moment it was judged and the moment it is sent on. A packet of up to
//! [`HEAD_MAX`] bytes lies in its head whole; of a longer one the rest stays where the sender
//! put it (a guest's memory, a socket buffer) until the receiver's queue copies it out: one copy
//! from guest to guest.
//!
//! The layout is chosen for the cache: one line of fields that the switch itself looks at, two lines
//! of headroom that are touched only when something is pushed, then the head, aligned, so that the
//! headers of a plain IPv4 packet are one line. Nothing is cleared between packets.
//!
//! # Lifetime and threads
//!
//! A batch belongs to one forwarding thread. Segments are valid from the moment
//! [`RxQueue::receive`](crate::port::RxQueue::receive) appended them until that queue's
//! `release()`. Whatever lives longer is copied into an [`OwnedPacket`]. The memory behind a
//! segment may be written by a guest at any time: it is only ever *copied*, through
//! [`Segment::copy_to`], never looked at in place.

pub mod checksum;
pub(crate) mod copy;
mod offload;
pub mod segment;
mod tags_off;

#[cfg(debug_assertions)]
pub use copy::copied;
pub use offload::{Checksum, Gso, GsoKind, Offload, VNET_HEADER, VnetError};
pub use tags_off::TagsOff;

/// Packets in a batch.
pub const BATCH: usize = 32;
/// Room before the head for headers that are pushed: as much as VXLAN or Geneve over IPv6 with tags in front needs. Longer
/// ones find theirs in `Batch::push_front`.
pub const HEADROOM: usize = 128;
/// Most bytes that `Batch::push_front` puts before a packet: Ethernet, IPv6, UDP, Geneve with all its options, and tags.
pub const FRONT_MAX: usize = 384;
/// Longest head: packets up to this length are private whole.
pub const HEAD_MAX: usize = 192;
/// Segments that a batch can hold, over all its packets.
pub const SEGMENTS: usize = BATCH * 20;
/// Segments of one packet: a 64 KB frame in 4 KB pieces, and a little more.
pub const SEGMENTS_PER_PACKET: usize = 19;
/// What a head must have before it is worth filling up: Ethernet with two tags, IPv6, TCP with all its options.
const HEADERS: usize = 14 + 8 + 40 + 60;
/// Longest packet taken in: a full TSO frame with headers.
pub const PACKET_MAX: usize = 65_535 + 64;

/// A borrowed run of bytes of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    ptr: *const u8,
    len: u32,
}

impl Segment {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte. It may change under the reader; copy it, do not judge it in place.
    pub fn as_ptr(&self) -> *const u8 {
        self.ptr
    }

    /// Copies the bytes from `offset` on into `dst`, as many as there are and fit; says how many.
    pub fn copy_to(&self, offset: usize, dst: &mut [u8]) -> usize {
        let n = self.len().saturating_sub(offset).min(dst.len());
        if n > 0 {
            copy::count(n);
            // SAFETY: `Batch::push_segment` was promised that `len` bytes at `ptr` are readable
            // until the batch is released, and a `Segment` cannot leave its batch. `offset + n` is
            // within `len`; `dst` is ours alone. A guest may write the source meanwhile: the bytes
            // are then any bytes, which is all that is asked of them.
            unsafe { std::ptr::copy_nonoverlapping(self.ptr.add(offset), dst.as_mut_ptr(), n) };
        }
        n
    }
}

/// Where a packet's headers begin, as found by key extraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Offset of the Ethernet type of the payload's header (behind VLAN tags): 12, 16 or 20.
    pub eth_type: u16,
    /// Offset of the network header, 0 if there is none.
    pub l3: u16,
    /// Offset of the transport header, 0 if there is none (or it was cut off).
    pub l4: u16,
    /// How many VLAN tags were looked for.
    pub tag_limit: u8,
}

/// One packet of a batch.
#[repr(C, align(64))]
pub struct Packet {
    start: u16,
    head_len: u16,
    total: u32,
    segment_first: u16,
    segment_count: u16,
    /// What is left to do about checksum and segmentation.
    pub offload: Offload,
    /// Header offsets.
    pub layers: Layers,
    /// VLAN tags that were taken off.
    pub tags_off: TagsOff,
    /// The queue of the port it leaves by (`set_queue`), 0 for the default one.
    pub queue: u32,
    buffer: Buffer,
}

#[repr(C, align(64))]
struct Buffer([u8; HEADROOM + HEAD_MAX]);

impl Packet {
    fn new() -> Packet {
        Packet {
            start: HEADROOM as u16,
            head_len: 0,
            total: 0,
            segment_first: 0,
            segment_count: 0,
            offload: Offload::default(),
            layers: Layers::default(),
            tags_off: TagsOff::default(),
            queue: 0,
            buffer: Buffer([0; HEADROOM + HEAD_MAX]),
        }
    }

    /// Length of the whole packet in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.total as usize
    }

    /// The private first bytes: the whole packet if it is no longer than [`HEAD_MAX`].
    #[inline]
    pub fn head(&self) -> &[u8] {
        let start = usize::from(self.start);
        &self.buffer.0[start..start + usize::from(self.head_len)]
    }

    /// The private first bytes, to change them.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.start);
        &mut self.buffer.0[start..start + usize::from(self.head_len)]
    }

    /// Whether all bytes are in the head.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.segment_count == 0
    }

    /// For receive queues: the space for the head. Write up to [`HEAD_MAX`] bytes, then
    /// [`Packet::set_head`].
    #[inline]
    pub fn head_space(&mut self) -> &mut [u8; HEAD_MAX] {
        (&mut self.buffer.0[HEADROOM..])
            .try_into()
            .expect("the buffer is headroom and head")
    }

    /// For receive queues: the head has `len` bytes (at most [`HEAD_MAX`]).
    #[inline]
    pub fn set_head(&mut self, len: usize) {
        debug_assert!(len <= HEAD_MAX);
        let len = len.min(HEAD_MAX);
        self.total = self.total - u32::from(self.head_len) + len as u32;
        self.start = HEADROOM as u16;
        self.head_len = len as u16;
    }

    /// Grows the head by `n` bytes at the front; `None` if there is no room. The new bytes hold
    /// anything.
    #[inline]
    pub fn push_head(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = usize::from(self.start).checked_sub(n)?;
        self.start = start as u16;
        self.head_len += n as u16;
        self.total += n as u32;
        Some(self.head_mut())
    }

    /// Takes `n` bytes off the front; `false` (and nothing done) if the head is shorter.
    #[inline]
    pub fn pull_head(&mut self, n: usize) -> bool {
        if usize::from(self.head_len) < n {
            return false;
        }
        self.start += n as u16;
        self.head_len -= n as u16;
        self.total -= n as u32;
        true
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet")
            .field("len", &self.total)
            .field("segments", &self.segment_count)
            .field("offload", &self.offload)
            .field("head", &self.head())
            .finish()
    }
}

/// What a packet was before it was cut.
pub(crate) struct Cut {
    head_len: u16,
    total: u32,
    segment_count: u16,
    /// Length of what is its last segment now.
    last: u32,
}

/// The packets that one receive queue gave at once. Reused: allocates when made, never after.
#[derive(Debug)]
pub struct Batch {
    packets: Box<[Packet; BATCH]>,
    len: usize,
    segments: Box<[Segment; SEGMENTS]>,
    segments_len: usize,
    /// Where fronts lie that are longer than the headroom; made when the first one is needed.
    fronts: Option<Box<[Front; BATCH]>>,
    fronts_len: usize,
}

/// What was pushed before a packet, and its head.
type Front = [u8; FRONT_MAX + HEADROOM + HEAD_MAX];

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        let none = Segment {
            ptr: std::ptr::NonNull::<u8>::dangling().as_ptr(),
            len: 0,
        };
        Batch {
            packets: Box::new(std::array::from_fn(|_| Packet::new())),
            len: 0,
            segments: Box::new([none; SEGMENTS]),
            segments_len: 0,
            fronts: None,
            fronts_len: 0,
        }
    }

    /// Packets in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more packets it takes. A packet always finds [`SEGMENTS_PER_PACKET`] segments.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH - self.len
    }

    /// Forgets all packets. Only after the receive queue's `release()`, or before it is asked again.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.segments_len = 0;
        self.fronts_len = 0;
    }

    /// Starts the next packet, empty and with no offloads; `None` if the batch is full. It counts
    /// only once [`Batch::commit`]ted, so that a bad one can be given up by starting over.
    #[inline]
    pub fn begin(&mut self) -> Option<&mut Packet> {
        if self.len == BATCH {
            return None;
        }
        let p = &mut self.packets[self.len];
        p.start = HEADROOM as u16;
        p.head_len = 0;
        p.total = 0;
        p.segment_first = self.segments_len as u16;
        p.segment_count = 0;
        p.offload = Offload::default();
        p.tags_off = TagsOff::default();
        p.queue = 0;
        Some(p)
    }

    /// Appends a packet that lies at `at` in one piece: its first bytes are copied, what is behind them is borrowed.
    /// `false` if the batch is full.
    ///
    /// # Safety
    ///
    /// `len` bytes at `at` must stay readable until the queue's `release()`. They may be written by others meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn push_run(&mut self, at: *const u8, len: usize, offload: Offload) -> bool {
        let Some(p) = self.packets.get_mut(self.len) else {
            return false;
        };
        debug_assert!(len <= PACKET_MAX);
        let head = len.min(HEAD_MAX);
        // SAFETY: `head <= len` bytes are readable, by the caller's promise; there is room for HEAD_MAX.
        unsafe { copy::copy(at, p.head_space().as_mut_ptr(), head) };
        p.start = HEADROOM as u16;
        p.head_len = head as u16;
        p.total = len as u32;
        p.segment_first = self.segments_len as u16;
        p.segment_count = 0;
        p.offload = offload;
        p.tags_off = TagsOff::default();
        p.queue = 0;
        if len > head {
            let Some(segment) = self.segments.get_mut(self.segments_len) else {
                return false;
            };
            *segment = Segment {
                ptr: at.wrapping_add(head),
                len: (len - head) as u32,
            };
            p.segment_count = 1;
            self.segments_len += 1;
        }
        self.len += 1;
        true
    }

    /// The packet that was begun and not yet committed.
    #[inline]
    pub fn current(&mut self) -> &mut Packet {
        &mut self.packets[self.len.min(BATCH - 1)]
    }

    /// Appends borrowed bytes to the packet that was begun; `false` if it has too many pieces or
    /// would be longer than [`PACKET_MAX`].
    ///
    /// # Safety
    ///
    /// `len` bytes at `ptr` must stay readable until the queue's `release()`. They may be written
    /// by others meanwhile.
    #[inline]
    pub unsafe fn push_segment(&mut self, ptr: *const u8, len: u32) -> bool {
        if self.len == BATCH {
            return false;
        }
        let p = &mut self.packets[self.len];
        if usize::from(p.segment_count) == SEGMENTS_PER_PACKET
            || p.total as usize + len as usize > PACKET_MAX
        {
            return false;
        }
        let at = usize::from(p.segment_first) + usize::from(p.segment_count);
        if at >= SEGMENTS {
            return false;
        }
        self.segments[at] = Segment { ptr, len };
        p.segment_count += 1;
        p.total += len;
        true
    }

    /// Appends bytes of packet `i` of another batch to the packet that was begun, borrowed; `false` if it has too many pieces.
    ///
    /// # Safety
    ///
    /// Packet `i` of `from` must not be changed, nor its segments become unreadable, until this batch is cleared.
    pub(crate) unsafe fn push_part(
        &mut self,
        from: &Batch,
        i: usize,
        range: std::ops::Range<usize>,
    ) -> bool {
        let head = from.packet(i).head();
        let runs = std::iter::once((head.as_ptr(), head.len()));
        let runs = runs.chain(from.segments(i).iter().map(|s| (s.ptr, s.len())));
        let mut at = 0;
        for (ptr, len) in runs {
            let (first, last) = (range.start.max(at), range.end.min(at + len));
            if first < last {
                let (ptr, n) = (ptr.wrapping_add(first - at), (last - first) as u32);
                // SAFETY: the bytes are within the run; the caller answers for the run.
                if !unsafe { self.push_segment(ptr, n) } {
                    return false;
                }
            }
            at += len;
        }
        true
    }

    /// The packet that was begun is complete.
    #[inline]
    pub fn commit(&mut self) {
        debug_assert!(self.len < BATCH);
        if self.len < BATCH {
            let p = &self.packets[self.len];
            self.segments_len = usize::from(p.segment_first) + usize::from(p.segment_count);
            self.len += 1;
        }
    }

    /// Appends a packet that owns its bytes. Of a long one the tail is borrowed from `packet`.
    ///
    /// # Safety
    ///
    /// `packet` must live, unmoved in its heap bytes, until the batch is cleared.
    pub unsafe fn push_borrowed(&mut self, packet: &OwnedPacket) -> bool {
        let bytes = &packet.bytes;
        let Some(p) = self.begin() else { return false };
        let head = bytes.len().min(HEAD_MAX);
        copy::count(head);
        p.head_space()[..head].copy_from_slice(&bytes[..head]);
        p.set_head(head);
        p.offload = packet.offload;
        let tail = &bytes[head..];
        // SAFETY: the caller keeps `packet` alive until the batch is cleared.
        if !tail.is_empty() && !unsafe { self.push_segment(tail.as_ptr(), tail.len() as u32) } {
            return false;
        }
        self.commit();
        true
    }

    /// Appends a copy of packet `i` of another batch: its own head, the same borrowed segments. `false` if the batch is full.
    ///
    /// # Safety
    ///
    /// The segments of `from` must stay readable until this batch is cleared.
    pub(crate) unsafe fn push_copy(&mut self, from: &Batch, i: usize) -> bool {
        let of = &from.packets[i];
        let Some(p) = self.begin() else { return false };
        let head = of.head();
        copy::count(head.len());
        // All of the headroom a push may want stays before it.
        p.start = of.start;
        p.head_len = of.head_len;
        p.total = u32::from(of.head_len);
        p.head_mut().copy_from_slice(head);
        p.offload = of.offload;
        p.layers = of.layers;
        p.tags_off = of.tags_off;
        p.queue = of.queue;
        for s in from.segments(i) {
            // SAFETY: the caller's promise.
            if !unsafe { self.push_segment(s.ptr, s.len) } {
                return false;
            }
        }
        self.commit();
        true
    }

    /// After bytes were taken off the front of packet `i`: its head is again all that a head can be.
    pub(crate) fn refill_head(&mut self, i: usize) {
        let p = &mut self.packets[i];
        if p.segment_count == 0 || usize::from(p.head_len) >= HEAD_MAX {
            return;
        }
        let (start, mut len) = (usize::from(p.start), usize::from(p.head_len));
        if start > HEADROOM {
            p.buffer.0.copy_within(start..start + len, HEADROOM);
            p.start = HEADROOM as u16;
        }
        let end = usize::from(p.start) + HEAD_MAX.min(HEADROOM + HEAD_MAX - usize::from(p.start));
        while p.segment_count > 0 {
            let s = &mut self.segments[usize::from(p.segment_first)];
            let at = usize::from(p.start) + len;
            let n = s.copy_to(0, &mut p.buffer.0[at..end]);
            len += n;
            s.ptr = s.ptr.wrapping_add(n);
            s.len -= n as u32;
            if s.len > 0 {
                break;
            }
            p.segment_first += 1;
            p.segment_count -= 1;
        }
        p.head_len = len as u16;
    }

    /// Puts `front` before packet `i`. Where the headroom does, nothing else moves; a longer one (up to [`FRONT_MAX`]) makes a
    /// segment of what does not fit the head, once or twice for each packet of a batch. `false` if there is no room.
    #[inline]
    pub(crate) fn push_front(&mut self, i: usize, front: &[u8]) -> bool {
        if let Some(head) = self.packets[i].push_head(front.len()) {
            head[..front.len()].copy_from_slice(front);
            return true;
        }
        self.push_long_front(i, front)
    }

    #[cold]
    fn push_long_front(&mut self, i: usize, front: &[u8]) -> bool {
        let p = &mut self.packets[i];
        let (first, count) = (usize::from(p.segment_first), usize::from(p.segment_count));
        let len = front.len() + p.head().len();
        // The packet's segments are appended anew, behind the one that is made here.
        let at = self.segments_len;
        if front.len() > FRONT_MAX
            || count == SEGMENTS_PER_PACKET
            || at + count + 1 > SEGMENTS
            || self.fronts_len == BATCH
        {
            return false;
        }
        let fronts = self.fronts.get_or_insert_with(|| {
            let fronts: Box<[Front]> = vec![[0; FRONT_MAX + HEADROOM + HEAD_MAX]; BATCH].into();
            fronts.try_into().expect("so many were made")
        });
        let whole = &mut fronts[self.fronts_len][..len];
        self.fronts_len += 1;
        whole[..front.len()].copy_from_slice(front);
        whole[front.len()..].copy_from_slice(p.head());
        copy::count(len);
        let in_head = len.min(HEAD_MAX);
        p.buffer.0[HEADROOM..HEADROOM + in_head].copy_from_slice(&whole[..in_head]);
        p.start = HEADROOM as u16;
        p.head_len = in_head as u16;
        p.total += front.len() as u32;
        self.segments[at] = Segment {
            ptr: whole[in_head..].as_ptr(),
            len: (len - in_head) as u32,
        };
        self.segments.copy_within(first..first + count, at + 1);
        p.segment_first = at as u16;
        p.segment_count = count as u16 + 1;
        self.segments_len = at + count + 1;
        true
    }

    /// Takes `n` bytes off the front of packet `i`, be they in its head or not; `false` if it has no more than that. Its head
    /// has room for all headers that are looked at then.
    pub(crate) fn pull_front(&mut self, i: usize, n: usize) -> bool {
        let p = &mut self.packets[i];
        if n >= p.len() {
            return false;
        }
        let in_head = n.min(usize::from(p.head_len));
        p.pull_head(in_head);
        let mut left = (n - in_head) as u32;
        p.total -= left;
        while left > 0 {
            let s = &mut self.segments[usize::from(p.segment_first)];
            let taken = left.min(s.len);
            s.ptr = s.ptr.wrapping_add(taken as usize);
            s.len -= taken;
            left -= taken;
            if s.len == 0 {
                p.segment_first += 1;
                p.segment_count -= 1;
            }
        }
        if usize::from(p.head_len) < HEADERS {
            self.refill_head(i);
        }
        true
    }

    /// Packet `i` has no more than its first `len` bytes: the rest was padding.
    pub(crate) fn shorten(&mut self, i: usize, len: usize) {
        let _ = self.cut(i, len);
    }

    /// The one's complement sum of `len` bytes of packet `i` from byte `offset` on, on top of `sum`.
    pub(crate) fn sum(&self, i: usize, offset: usize, len: usize, mut sum: u64) -> u64 {
        let mut piece = [0; 512];
        let mut done = 0;
        while done < len {
            let room = piece.len().min(len - done);
            let n = self.copy_out(i, offset + done, &mut piece[..room]);
            sum = checksum::add(sum, &piece[..n]);
            if n < room {
                break;
            }
            done += n;
        }
        sum
    }

    /// Cuts packet `i` to its first `len` bytes; what to give to [`Batch::uncut`], if it was longer.
    pub(crate) fn cut(&mut self, i: usize, len: usize) -> Option<Cut> {
        let p = &mut self.packets[i];
        if len >= p.len() {
            return None;
        }
        let cut = Cut {
            head_len: p.head_len,
            total: p.total,
            segment_count: p.segment_count,
            last: 0,
        };
        p.total = len as u32;
        p.head_len = p.head_len.min(len as u16);
        let mut left = len - usize::from(p.head_len);
        let mut count = 0;
        let mut last = 0;
        while left > 0 {
            let s = &mut self.segments[usize::from(p.segment_first) + count];
            last = s.len;
            s.len = s.len.min(left as u32);
            left -= s.len as usize;
            count += 1;
        }
        p.segment_count = count as u16;
        Some(Cut { last, ..cut })
    }

    /// Exchanges packets of two places.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.packets.swap(a, b);
        }
    }

    /// Leaves the first `len` packets.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Undoes a [`Batch::cut`].
    pub(crate) fn uncut(&mut self, i: usize, cut: Cut) {
        let p = &mut self.packets[i];
        if p.segment_count > 0 {
            let last = usize::from(p.segment_first + p.segment_count) - 1;
            self.segments[last].len = cut.last;
        }
        p.head_len = cut.head_len;
        p.total = cut.total;
        p.segment_count = cut.segment_count;
    }

    /// A packet.
    #[inline]
    pub fn packet(&self, i: usize) -> &Packet {
        &self.packets[i]
    }

    /// A packet, to change it.
    #[inline]
    pub fn packet_mut(&mut self, i: usize) -> &mut Packet {
        &mut self.packets[i]
    }

    /// All packets.
    #[inline]
    pub fn packets(&self) -> &[Packet] {
        &self.packets[..self.len]
    }

    /// The bytes of packet `i` behind its head.
    #[inline]
    pub fn segments(&self, i: usize) -> &[Segment] {
        let p = &self.packets[i];
        let first = usize::from(p.segment_first);
        &self.segments[first..first + usize::from(p.segment_count)]
    }

    /// Copies packet `i` from byte `offset` on into `dst`, as much as there is and fits; says how
    /// much.
    pub fn copy_out(&self, i: usize, mut offset: usize, dst: &mut [u8]) -> usize {
        let mut done = 0;
        let head = self.packets[i].head();
        if offset < head.len() {
            let n = (head.len() - offset).min(dst.len());
            copy::count(n);
            dst[..n].copy_from_slice(&head[offset..offset + n]);
            done = n;
            offset = 0;
        } else {
            offset -= head.len();
        }
        for s in self.segments(i) {
            if done == dst.len() {
                break;
            }
            if offset >= s.len() {
                offset -= s.len();
                continue;
            }
            done += s.copy_to(offset, &mut dst[done..]);
            offset = 0;
        }
        done
    }

    /// A copy of packet `i` that outlives the batch. Allocates.
    pub fn to_owned(&self, i: usize) -> OwnedPacket {
        let p = &self.packets[i];
        let mut bytes = vec![0; p.len()];
        let n = self.copy_out(i, 0, &mut bytes);
        bytes.truncate(n);
        OwnedPacket {
            bytes,
            offload: p.offload,
        }
    }
}

/// A packet that owns its bytes: a packet-in, a packet-out, one that waits in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedPacket {
    /// The frame, from the destination MAC address on.
    pub bytes: Vec<u8>,
    /// What is left to do about checksum and segmentation.
    pub offload: Offload,
}

impl OwnedPacket {
    /// A frame with nothing left to do.
    pub fn new(bytes: impl Into<Vec<u8>>) -> OwnedPacket {
        OwnedPacket {
            bytes: bytes.into(),
            offload: Offload::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_packet_is_head_and_borrowed_tail_and_copies_out_whole() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        let owned = OwnedPacket::new(bytes.clone());
        let mut batch = Batch::new();
        // SAFETY: `owned` outlives the batch's use of it.
        assert!(unsafe { batch.push_borrowed(&owned) });
        assert_eq!(batch.packet(0).head().len(), HEAD_MAX);
        assert_eq!(batch.packet(0).len(), 1000);
        assert_eq!(batch.to_owned(0).bytes, bytes);
        let mut part = [0; 300];
        assert_eq!(batch.copy_out(0, 150, &mut part), 300);
        assert_eq!(part[..], bytes[150..450]);
        assert_eq!(batch.copy_out(0, 990, &mut part), 10);
    }

    #[test]
    fn pushed_and_pulled_bytes_change_the_length() {
        let mut batch = Batch::new();
        let p = batch.begin().unwrap();
        p.head_space()[..4].copy_from_slice(&[1, 2, 3, 4]);
        p.set_head(4);
        p.push_head(2).unwrap()[..2].copy_from_slice(&[8, 9]);
        assert_eq!((p.head(), p.len()), (&[8, 9, 1, 2, 3, 4][..], 6));
        assert!(p.push_head(HEADROOM).is_none());
        assert!(!p.pull_head(7) && p.pull_head(5));
        assert_eq!((p.head(), p.len()), (&[4][..], 1));
    }

    #[test]
    fn a_packet_is_cut_and_whole_again_and_its_head_refilled() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        let owned = OwnedPacket::new(bytes.clone());
        let (mut batch, mut copies) = (Batch::new(), Batch::new());
        // SAFETY: `owned` outlives both batches.
        assert!(unsafe { batch.push_borrowed(&owned) && copies.push_copy(&batch, 0) });
        for len in [14, HEAD_MAX, HEAD_MAX + 1, 999] {
            let cut = batch.cut(0, len).unwrap();
            assert_eq!(batch.to_owned(0).bytes, bytes[..len]);
            batch.uncut(0, cut);
            assert_eq!(batch.to_owned(0).bytes, bytes);
        }
        assert!(batch.cut(0, 1000).is_none());
        for taken in [20, 100, 50] {
            assert!(copies.packet_mut(0).pull_head(taken));
            copies.refill_head(0);
            assert_eq!(copies.packet(0).head().len(), HEAD_MAX);
        }
        assert_eq!(copies.to_owned(0).bytes, bytes[170..]);
        assert_eq!(batch.to_owned(0).bytes, bytes);
        assert!(copies.packet_mut(0).push_head(HEADROOM).is_some());
    }

    #[test]
    fn a_batch_refuses_what_does_not_fit() {
        let mut batch = Batch::new();
        let bytes = [0u8; 8];
        for _ in 0..BATCH {
            batch.begin().unwrap().set_head(1);
            for _ in 0..SEGMENTS_PER_PACKET {
                // SAFETY: `bytes` outlives the batch.
                assert!(unsafe { batch.push_segment(bytes.as_ptr(), 8) });
            }
            // SAFETY: as above.
            assert!(!unsafe { batch.push_segment(bytes.as_ptr(), 8) });
            batch.commit();
        }
        assert!(batch.begin().is_none());
        assert_eq!(batch.room(), 0);
    }
}
