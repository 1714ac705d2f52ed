//! An AF_XDP socket: its memory, its rings, and those who read and write them.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::packet::{BATCH, Batch, HEAD_MAX, Offload, OwnedPacket, copy, segment};
use crate::port::TxOutcome;
use crate::sys::check;
use crate::sys::mmap::Region;

/// Bytes of a chunk.
pub const CHUNK: usize = 4096;
/// Chunks that receive: what may wait while the thread is elsewhere.
const RX_CHUNKS: u32 = 2048;
/// Chunks that send: what the driver may hold.
const TX_CHUNKS: u32 = 512;
/// How long a queue is tried for that another socket has let go of: the kernel takes a moment to notice.
const BUSY: Duration = Duration::from_secs(2);
/// How often the kernel is asked to go on sending what it said it could not send now.
const KICKS: usize = 64;
/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;

/// How a socket is bound to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The driver uses our memory; else the kernel copies.
    pub zerocopy: bool,
    /// The kernel says when it has to be called.
    pub need_wakeup: bool,
    /// Frames may lie in several chunks.
    pub long_frames: bool,
}

/// A ring shared with the kernel. One side writes entries and `producer`, the other reads them and writes `consumer`.
#[derive(Debug)]
struct Ring {
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    flags: *const AtomicU32,
    entries: *mut u8,
    mask: u32,
    _map: Region,
}

// SAFETY: the pointers are into the mapping, which lives as long; the counters are atomic, and entries are touched by one
// thread only, see `XskSocket`.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Maps a ring of `len` entries of type `T`.
    fn map<T>(
        fd: RawFd,
        page: libc::off_t,
        at: &libc::xdp_ring_offset,
        len: u32,
    ) -> io::Result<Ring> {
        let bytes = at.desc as usize + len as usize * mem::size_of::<T>();
        let map = Region::of(fd, page, bytes)?;
        let start = map.as_ptr();
        Ok(Ring {
            producer: start.wrapping_add(at.producer as usize).cast(),
            consumer: start.wrapping_add(at.consumer as usize).cast(),
            flags: start.wrapping_add(at.flags as usize).cast(),
            entries: start.wrapping_add(at.desc as usize),
            mask: len - 1,
            _map: map,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping, aligned, and only ever used atomically.
        unsafe { &*self.producer }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.consumer }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        unsafe { &*self.flags }.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Entries that are to be consumed.
    fn filled(&self) -> u32 {
        let produced = self.producer().load(Ordering::Acquire);
        produced.wrapping_sub(self.consumer().load(Ordering::Acquire))
    }

    /// # Safety
    /// `T` must be the ring's kind of entry, and the entry ours to read: between consumer and producer.
    unsafe fn read<T: Copy>(&self, at: u32) -> T {
        // SAFETY: masked, so inside the ring.
        unsafe {
            self.entries
                .cast::<T>()
                .add((at & self.mask) as usize)
                .read()
        }
    }

    /// # Safety
    /// As [`Ring::read`], and the entry ours to write: from producer on, fewer than the ring has ahead of consumer.
    unsafe fn write<T: Copy>(&self, at: u32, value: T) {
        // SAFETY: masked, so inside the ring.
        unsafe {
            self.entries
                .cast::<T>()
                .add((at & self.mask) as usize)
                .write(value)
        };
    }
}

/// A socket bound to one queue of an interface. The receive and fill rings belong to its one [`XskReader`], the transmit and completion
/// rings to its one [`XskWriter`].
#[derive(Debug)]
pub struct XskSocket {
    rx: Ring,
    fill: Ring,
    tx: Ring,
    completion: Ring,
    memory: Region,
    bind: Bind,
    fd: OwnedFd,
}

impl XskSocket {
    /// Binds a socket to a queue. `EOPNOTSUPP` and `EINVAL` say that the interface cannot do it this way.
    pub fn open(index: u32, queue: u32, bind: Bind) -> io::Result<XskSocket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; a non-negative result is a fresh descriptor nobody else owns.
        let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) })?;
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let memory = Region::anonymous((RX_CHUNKS + TX_CHUNKS) as usize * CHUNK)?;
        let area = libc::xdp_umem_reg {
            addr: memory.as_ptr() as u64,
            len: memory.len() as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&fd, libc::XDP_UMEM_REG, &area)?;
        for (ring, len) in [
            (libc::XDP_UMEM_FILL_RING, RX_CHUNKS),
            (libc::XDP_UMEM_COMPLETION_RING, TX_CHUNKS),
            (libc::XDP_RX_RING, RX_CHUNKS),
            (libc::XDP_TX_RING, TX_CHUNKS),
        ] {
            set(&fd, ring, &len)?;
        }
        let at = offsets(&fd)?;
        let raw = fd.as_raw_fd();
        let fill = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let completion = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        type Desc = libc::xdp_desc;
        let socket = XskSocket {
            rx: Ring::map::<Desc>(raw, libc::XDP_PGOFF_RX_RING, &at.rx, RX_CHUNKS)?,
            tx: Ring::map::<Desc>(raw, libc::XDP_PGOFF_TX_RING, &at.tx, TX_CHUNKS)?,
            fill: Ring::map::<u64>(raw, fill, &at.fr, RX_CHUNKS)?,
            completion: Ring::map::<u64>(raw, completion, &at.cr, TX_CHUNKS)?,
            memory,
            bind,
            fd,
        };
        for n in 0..RX_CHUNKS {
            // SAFETY: nobody consumes yet, and there are as many entries.
            unsafe { socket.fill.write(n, u64::from(n) * CHUNK as u64) };
        }
        socket.fill.producer().store(RX_CHUNKS, Ordering::Release);
        socket.bind(index, queue)?;
        Ok(socket)
    }

    fn bind(&self, index: u32, queue: u32) -> io::Result<()> {
        let how = [
            (
                true,
                if self.bind.zerocopy {
                    libc::XDP_ZEROCOPY
                } else {
                    libc::XDP_COPY
                },
            ),
            (self.bind.need_wakeup, libc::XDP_USE_NEED_WAKEUP),
            (self.bind.long_frames, libc::XDP_USE_SG),
        ];
        // SAFETY: all-zero bytes are a valid sockaddr_xdp.
        let mut address: libc::sockaddr_xdp = unsafe { mem::zeroed() };
        address.sxdp_family = libc::AF_XDP as u16;
        address.sxdp_ifindex = index;
        address.sxdp_queue_id = queue;
        address.sxdp_flags = how
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, f)| f)
            .sum();
        let len = mem::size_of_val(&address) as libc::socklen_t;
        let at = (&raw const address).cast();
        let deadline = Instant::now() + BUSY;
        loop {
            // SAFETY: `address` is an initialised sockaddr_xdp of `len` bytes.
            match check(unsafe { libc::bind(self.fd.as_raw_fd(), at, len) }) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                done => return done.map(|_| ()),
            }
        }
    }

    /// How it is bound.
    pub fn how(&self) -> Bind {
        self.bind
    }

    /// What the kernel counted.
    pub fn statistics(&self) -> libc::xdp_statistics {
        // SAFETY: all-zero bytes are a valid xdp_statistics.
        let mut statistics: libc::xdp_statistics = unsafe { mem::zeroed() };
        let mut len = mem::size_of_val(&statistics) as libc::socklen_t;
        let at = (&raw mut statistics).cast();
        // SAFETY: `statistics` has room for `len` bytes. On failure it stays zero.
        unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_STATISTICS,
                at,
                &mut len,
            )
        };
        statistics
    }

    /// Where the bytes of an address of a descriptor's are, if `len` bytes from there on lie in our memory.
    fn at(&self, address: u64, len: usize) -> Option<*mut u8> {
        let end = usize::try_from(address).ok()?.checked_add(len)?;
        (end <= self.memory.len()).then(|| self.memory.as_ptr().wrapping_add(address as usize))
    }
}

impl AsRawFd for XskSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = mem::size_of::<T>() as libc::socklen_t;
    let at = (value as *const T).cast();
    // SAFETY: `value` is `len` readable bytes of the type that the option takes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, at, len) })?;
    Ok(())
}

fn offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: all-zero bytes are a valid xdp_mmap_offsets.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { mem::zeroed() };
    let size = mem::size_of_val(&offsets) as libc::socklen_t;
    let mut len = size;
    let at = (&raw mut offsets).cast();
    // SAFETY: `offsets` has room for `len` bytes.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            at,
            &mut len,
        )
    })?;
    if len != size {
        return Err(io::Error::other(
            "this kernel's AF_XDP is older than Linux 5.4",
        ));
    }
    Ok(offsets)
}

/// Receives from one socket.
#[derive(Default)]
pub struct XskReader {
    /// Descriptors that the batch borrows from.
    lent: u32,
    bad: u64,
}

impl XskReader {
    /// From now on another socket is read.
    pub fn restart(&mut self) {
        self.lent = 0;
    }

    /// Frames that could not be used.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// Takes what waits, up to the room in the batch; `offload` says what is left to do of a frame, by its head and its length. Segments are valid
    /// until [`XskReader::release`] or the next call.
    pub fn read(
        &mut self,
        socket: &XskSocket,
        batch: &mut Batch,
        offload: impl Fn(&[u8], usize) -> Offload,
    ) -> usize {
        self.release(socket);
        let ring = &socket.rx;
        let first = ring.consumer().load(Ordering::Relaxed);
        let ready = ring.filled();
        let before = batch.len();
        let mut taken = 0;
        while taken < ready && batch.room() > 0 {
            let mut pieces = 1;
            // SAFETY: these entries lie between consumer and producer.
            let entry = |n: u32| unsafe { ring.read::<libc::xdp_desc>(first.wrapping_add(n)) };
            let goes_on = |n: u32| entry(n).options & libc::XDP_PKT_CONTD != 0;
            while goes_on(taken + pieces - 1) && taken + pieces < ready {
                pieces += 1;
            }
            if goes_on(taken + pieces - 1) {
                // The rest has not come yet.
                break;
            }
            let desc = entry(taken);
            let len = desc.len as usize;
            let taken_in = match socket.at(desc.addr, len) {
                Some(at) if pieces == 1 && len >= MIN_FRAME => {
                    copy::prefetch_read(at);
                    // SAFETY: the chunk is ours until `release` gives it back.
                    let head = unsafe { std::slice::from_raw_parts(at, len.min(HEAD_MAX)) };
                    // SAFETY: as above.
                    unsafe { batch.push_run(at, len, offload(head, len)) }
                }
                Some(at) if len >= HEAD_MAX => {
                    let rest = (taken + 1..taken + pieces).map(entry);
                    long(socket, batch, (at, len), rest, &offload)
                }
                _ => false,
            };
            self.bad += u64::from(!taken_in);
            taken += pieces;
        }
        self.lent = taken;
        batch.len() - before
    }

    /// The batch is done with: gives the chunks back to the kernel.
    pub fn release(&mut self, socket: &XskSocket) {
        if self.lent == 0 {
            return;
        }
        let (rx, fill) = (&socket.rx, &socket.fill);
        let from = rx.consumer().load(Ordering::Relaxed);
        let to = fill.producer().load(Ordering::Relaxed);
        for n in 0..self.lent {
            // SAFETY: not consumed yet, and what came out of the fill ring finds its place there again.
            unsafe {
                let desc: libc::xdp_desc = rx.read(from.wrapping_add(n));
                fill.write(to.wrapping_add(n), desc.addr & !(CHUNK as u64 - 1));
            }
        }
        rx.consumer()
            .store(from.wrapping_add(self.lent), Ordering::Release);
        fill.producer()
            .store(to.wrapping_add(self.lent), Ordering::Release);
        self.lent = 0;
        if socket.bind.zerocopy && fill.needs_wakeup() {
            // SAFETY: no memory is passed. Errors say that the interface is down, which its status tells.
            unsafe {
                libc::recvfrom(
                    socket.as_raw_fd(),
                    ptr::null_mut(),
                    0,
                    libc::MSG_DONTWAIT,
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            };
        }
    }
}

/// A frame in several chunks: its first bytes are copied, the others borrowed.
fn long(
    socket: &XskSocket,
    batch: &mut Batch,
    (at, len): (*mut u8, usize),
    rest: impl Iterator<Item = libc::xdp_desc> + Clone,
    offload: impl Fn(&[u8], usize) -> Offload,
) -> bool {
    let total = len + rest.clone().map(|d| d.len as usize).sum::<usize>();
    let Some(packet) = batch.begin() else {
        return false;
    };
    // SAFETY: the chunk has `len`, at least HEAD_MAX bytes, and is ours until it is given back.
    let head = unsafe { std::slice::from_raw_parts(at, HEAD_MAX) };
    packet.head_space().copy_from_slice(head);
    packet.set_head(HEAD_MAX);
    packet.offload = offload(head, total);
    if len > HEAD_MAX {
        // SAFETY: as above.
        let pushed =
            unsafe { batch.push_segment(at.wrapping_add(HEAD_MAX), (len - HEAD_MAX) as u32) };
        if !pushed {
            return false;
        }
    }
    for desc in rest {
        let Some(at) = socket.at(desc.addr, desc.len as usize) else {
            return false;
        };
        // SAFETY: as above.
        if !unsafe { batch.push_segment(at, desc.len) } {
            return false;
        }
    }
    batch.commit();
    true
}

/// Sends by one socket.
#[derive(Default)]
pub struct XskWriter {
    /// Chunks that hold nothing.
    free: Vec<u64>,
    /// A packet that cannot be copied straight into chunks.
    whole: Vec<u8>,
    scratch: Vec<u8>,
    /// The interface was down when the kernel was last called.
    down: bool,
}

impl XskWriter {
    /// From now on another socket is written.
    pub fn restart(&mut self) {
        self.free.clear();
        let first = u64::from(RX_CHUNKS);
        let chunks = (first..first + u64::from(TX_CHUNKS)).map(|n| n * CHUNK as u64);
        self.free.extend(chunks);
        self.down = false;
    }

    /// Sends packets of a batch.
    pub fn send(
        &mut self,
        socket: &XskSocket,
        batch: &Batch,
        which: &[u8],
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        if self.is_down(socket) {
            out.down += which.len() as u32;
            return;
        }
        for &i in which.iter().take(BATCH) {
            let i = usize::from(i);
            let packet = batch.packet(i);
            let len = packet.len();
            if len > max_frame && !packet.offload.is_gso() {
                out.too_long += 1;
            } else if packet.offload.is_done() && len <= CHUNK {
                self.make_room(socket, 1);
                let Some(chunk) = self.free.pop() else {
                    out.full += 1;
                    continue;
                };
                let Some(at) = socket.at(chunk, len) else {
                    out.error += 1;
                    continue;
                };
                // SAFETY: a free chunk is ours alone, and there is room for `len` bytes.
                let to = unsafe { std::slice::from_raw_parts_mut(at, len) };
                batch.copy_out(i, 0, to);
                self.give(socket, &[(chunk, len)]);
                out.packets += 1;
                out.bytes += len as u64;
            } else {
                let mut whole = mem::take(&mut self.whole);
                whole.resize(len, 0);
                batch.copy_out(i, 0, &mut whole);
                self.send_whole(socket, &mut whole, &packet.offload, out);
                self.whole = whole;
            }
        }
        self.kick(socket);
    }

    /// Sends one packet that owns its bytes.
    pub fn send_owned(
        &mut self,
        socket: &XskSocket,
        packet: &OwnedPacket,
        max_frame: usize,
        out: &mut TxOutcome,
    ) {
        if self.is_down(socket) {
            out.down += 1;
        } else if packet.bytes.len() > max_frame && !packet.offload.is_gso() {
            out.too_long += 1;
        } else {
            let mut whole = mem::take(&mut self.whole);
            whole.clear();
            whole.extend_from_slice(&packet.bytes);
            self.send_whole(socket, &mut whole, &packet.offload, out);
            self.whole = whole;
            self.kick(socket);
        }
    }

    /// Sends a packet, cut and with its checksums filled in. What becomes of it is told of the packet, not of its segments.
    fn send_whole(
        &mut self,
        socket: &XskSocket,
        bytes: &mut [u8],
        offload: &Offload,
        out: &mut TxOutcome,
    ) {
        let len = bytes.len() as u64;
        let mut scratch = mem::take(&mut self.scratch);
        let mut lost = false;
        let done = segment::split(bytes, offload, &mut scratch, |frame| {
            lost |= !self.put(socket, frame);
        });
        self.scratch = scratch;
        match (done, lost) {
            (Ok(()), false) => {
                out.packets += 1;
                out.bytes += len;
            }
            (Ok(()), true) => out.full += 1,
            (Err(_), _) => out.error += 1,
        }
    }

    /// Copies one frame into as many chunks as it takes; `false` if there are too few.
    fn put(&mut self, socket: &XskSocket, frame: &[u8]) -> bool {
        const MOST: usize = crate::packet::PACKET_MAX.div_ceil(CHUNK);
        let pieces = frame.len().div_ceil(CHUNK);
        if pieces > MOST || pieces > 1 && !socket.bind.long_frames {
            return false;
        }
        self.make_room(socket, pieces);
        if self.free.len() < pieces {
            return false;
        }
        let mut descs = [(0, 0); MOST];
        for (desc, piece) in descs.iter_mut().zip(frame.chunks(CHUNK)) {
            let Some(chunk) = self.free.pop() else {
                return false;
            };
            let Some(at) = socket.at(chunk, piece.len()) else {
                return false;
            };
            copy::count(piece.len());
            // SAFETY: a free chunk is ours alone, and there is room for these bytes.
            unsafe { ptr::copy_nonoverlapping(piece.as_ptr(), at, piece.len()) };
            *desc = (chunk, piece.len());
        }
        self.give(socket, &descs[..pieces]);
        true
    }

    /// Gives filled chunks, which are one frame, to the kernel.
    fn give(&self, socket: &XskSocket, chunks: &[(u64, usize)]) {
        let ring = &socket.tx;
        let first = ring.producer().load(Ordering::Relaxed);
        for (n, &(addr, len)) in chunks.iter().enumerate() {
            let last = n + 1 == chunks.len();
            let desc = libc::xdp_desc {
                addr,
                len: len as u32,
                options: if last { 0 } else { libc::XDP_PKT_CONTD },
            };
            // SAFETY: there are as many entries as chunks, so a chunk that was free has a free entry.
            unsafe { ring.write(first.wrapping_add(n as u32), desc) };
        }
        let next = first.wrapping_add(chunks.len() as u32);
        ring.producer().store(next, Ordering::Release);
    }

    /// Takes back what was sent if there are not as many free chunks, and has the kernel send what waits if that does not do.
    fn make_room(&mut self, socket: &XskSocket, chunks: usize) {
        if self.free.len() < chunks {
            self.reclaim(socket);
            if self.free.len() < chunks {
                self.kick(socket);
                self.reclaim(socket);
            }
        }
    }

    fn reclaim(&mut self, socket: &XskSocket) {
        let ring = &socket.completion;
        let first = ring.consumer().load(Ordering::Relaxed);
        let done = ring.filled().min(TX_CHUNKS);
        for n in 0..done {
            // SAFETY: between consumer and producer.
            let chunk = unsafe { ring.read::<u64>(first.wrapping_add(n)) };
            if self.free.len() < TX_CHUNKS as usize {
                self.free.push(chunk & !(CHUNK as u64 - 1));
            }
        }
        ring.consumer()
            .store(first.wrapping_add(done), Ordering::Release);
    }

    /// Has the kernel send what waits.
    fn kick(&mut self, socket: &XskSocket) {
        if socket.bind.zerocopy && socket.bind.need_wakeup && !socket.tx.needs_wakeup() {
            return;
        }
        for _ in 0..KICKS {
            if socket.tx.filled() == 0 {
                break;
            }
            match self.call(socket) {
                Ok(()) if socket.bind.zerocopy => break,
                Ok(()) => {}
                Err(e) => match e.raw_os_error() {
                    // A part was sent, or the receiver's queue is full for the moment.
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                    _ => break,
                },
            }
        }
    }

    fn call(&mut self, socket: &XskSocket) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        // SAFETY: no memory is passed.
        let result =
            unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
        let done = if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
        let errno = done.as_ref().err().and_then(io::Error::raw_os_error);
        self.down = matches!(errno, Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV));
        done
    }

    /// Whether the interface is down. While it is, nothing is put into the ring: it would be sent when it goes up again, however late.
    fn is_down(&mut self, socket: &XskSocket) -> bool {
        if self.down {
            let _ = self.call(socket);
        }
        self.down
    }
}
