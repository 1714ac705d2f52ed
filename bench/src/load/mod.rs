//! A guest made for measuring: the driver's side of a switch's vhost-user ports, light enough that the switch is what one
//! measures.
//!
//! Each port listens on a socket, as a monitor would, and when the switch has connected gives it a memory of its own and
//! two rings. All ports are worked by one thread with a processor to itself, which polls and kicks only a switch that asks for it. Buffers,
//! descriptors and (split rings) the available ring are written once: slot `i` is buffer `i` for ever, see [`ring`]. What is
//! left per packet sent is sixteen bytes of addresses and ports from a table and a stamp; per packet received the
//! virtio-net header and the beginning of the frame, as a guest reads them. Where those lie is a [`Layout`]: it makes a third of
//! the difference for some switches, so it is said and can be chosen.
//!
//! What is measured is what arrived: a stamp says which port sent a frame, and a frame that is not of its length, came by a wrong port or
//! was split counts as bad. Before anything is measured [`Traffic::verify`] compares whole frames with what the switch should
//! have made of them. As many frames as a ring has may be under way at once ("open loop, bounded"): more cannot be, so the receiver's ring
//! does not overflow, and what gets lost was dropped by the switch.

pub mod frame;
mod frontend;
pub mod histogram;
mod memory;
mod ring;

use crate::machine::{self, TRAFFIC_CPU};
use anyhow::{Context, Result, bail, ensure};
use frame::{Flows, Patch, STAMP_AT, VNET};
use frontend::{Session, feature};
use histogram::Histogram;
use memory::Memory;
pub use memory::private;
use ring::{Buffer, Descriptor, INDIRECT, Packed, Ring, Split, WRITE};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Entries of a ring.
pub const RING: usize = 1024;
/// Frames of 64 KB that a port sends or, in whole buffers, receives at once: 4 MiB, more than a processor's own cache.
pub const BIG_RING: usize = 64;
/// Most frames sent or received in one go, and fewest sent in one go at full speed: far apart processors make every visit
/// of a ring dear, so whoever is behind catches up in long bursts.
const BURST: u32 = 256;
const BURST_MIN: u32 = 32;
/// Cache lines on their way from the other processor at a time: what the processor can wait for.
const AHEAD: u32 = 16;
/// From one buffer to the next: an odd number of cache lines, so that they spread over all sets of the caches.
const STRIDE: usize = 37 * 64;
/// Bytes of a mergeable receive buffer.
pub const BUFFER: usize = 2048;
/// From one big buffer to the next.
pub const BIG_STRIDE: usize = 65_536 + 4096 + 64;
/// Bytes of one piece of a big frame that is sent: a page, as a guest's.
pub const PIECE: usize = 4096;
/// Most ports a stamp can tell apart.
const PORTS_MAX: usize = 8;
/// How long a switch may take to connect, and then to forward rightly.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a frame lies in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// The frame at the beginning of a cache line, the virtio-net header before it: a DPDK guest's, and what DPDK's switches are
    /// best at.
    Dpdk,
    /// The header at the beginning of a cache line and the frame right behind it: a Linux guest's.
    Linux,
}

impl Layout {
    fn offset(self) -> usize {
        match self {
            Layout::Dpdk => 64 - VNET,
            Layout::Linux => 0,
        }
    }
}

static LAYOUT: OnceLock<Layout> = OnceLock::new();

/// Decides the layout of all traffic of this run.
pub fn set_layout(layout: Layout) {
    let _ = LAYOUT.set(layout);
}

fn layout() -> Layout {
    *LAYOUT.get_or_init(|| Layout::Dpdk)
}

/// How frames are laid out in rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A frame of so many bytes in one buffer.
    Plain(usize),
    /// An unsegmented TCP frame of so many bytes, sent in pages by an indirect table.
    Big {
        /// Bytes.
        frame: usize,
        /// Received in buffers of 2 KB that are merged, or in one.
        mergeable: bool,
    },
}

impl Size {
    /// Bytes of the frame.
    pub fn frame(self) -> usize {
        match self {
            Size::Plain(n) | Size::Big { frame: n, .. } => n,
        }
    }
}

/// What the switch is to do to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Push a VLAN tag with this identifier.
    Vlan(u16),
    /// Put these headers of a tunnel before it. Their UDP source port may be any.
    Encap([u8; LEAD]),
    /// Take the headers of a tunnel off.
    Decap,
}

/// Bytes of a VXLAN or Geneve header, with those of Ethernet, IPv4 and UDP before it.
pub const LEAD: usize = 50;
/// Where the UDP source port is in them.
const ENTROPY: std::ops::Range<usize> = 34..36;

impl Change {
    fn shift(self) -> usize {
        match self {
            // Headers that are taken off were none of the frame.
            Change::Nothing | Change::Decap => 0,
            Change::Vlan(_) => 4,
            Change::Encap(_) => LEAD,
        }
    }

    fn apply(self, mut frame: Vec<u8>) -> Vec<u8> {
        match self {
            Change::Nothing => {}
            Change::Vlan(id) => {
                let [high, low] = id.to_be_bytes();
                frame.splice(12..12, [0x81, 0, high, low]);
            }
            Change::Encap(headers) => _ = frame.splice(..0, headers),
            Change::Decap => _ = frame.drain(..LEAD),
        }
        frame
    }

    /// Clears what of a received frame may be anything.
    fn clear(self, frame: &mut [u8]) {
        if let Change::Encap(_) = self
            && let Some(entropy) = frame.get_mut(ENTROPY)
        {
            entropy.fill(0);
        }
    }
}

/// What a port sends.
#[derive(Clone)]
pub struct Source {
    /// Its flows.
    pub flows: Flows,
    /// One packet in so many is one of these instead.
    pub attack: Option<(u32, Vec<Patch>)>,
    /// The port (from 0) where the switch is to put it.
    pub to: usize,
    /// And what it should look like there.
    pub change: Change,
    /// Headers before each frame, which are no part of its size.
    pub lead: Vec<u8>,
}

impl Source {
    /// These flows to that port, unchanged.
    pub fn new(flows: Flows, to: usize) -> Source {
        Source {
            flows,
            attack: None,
            to,
            change: Change::Nothing,
            lead: Vec::new(),
        }
    }
}

/// All the traffic of a scenario.
#[derive(Clone)]
pub struct Plan {
    /// Frames.
    pub size: Size,
    /// Packed rings instead of split ones.
    pub packed: bool,
    /// One a port; a port without a source only receives.
    pub sources: Vec<Option<Source>>,
}

/// How fast frames are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the switch takes them.
    Open,
    /// So many per second, all ports together.
    PerSecond(f64),
    /// The first port that sends: so many per second; the others as fast as the switch takes them.
    First(f64),
}

/// What a window of time brought.
#[derive(Default)]
pub struct Window {
    /// Its length.
    pub time: Duration,
    /// Of that, seconds for which the traffic's thread was on the processor.
    pub on_cpu: f64,
    /// Frames sent, by the port that sent them.
    pub sent: Vec<u64>,
    /// Good frames received, by the port that received them.
    pub received: Vec<u64>,
    /// Frames that were not what they should be.
    pub bad: u64,
    /// Frames sent in the window that never came.
    pub lost: u64,
    /// Cycles from sending to receiving, if that was asked for.
    pub latency: Histogram,
}

impl Window {
    /// Frames received per second.
    pub fn rate(&self) -> f64 {
        self.received.iter().sum::<u64>() as f64 / self.time.as_secs_f64()
    }
}

/// A ring and its buffers, in this process's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Wires {
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
    /// Entries.
    pub size: u16,
    /// First buffer.
    pub buffers: usize,
    /// From one to the next.
    pub stride: usize,
}

/// The traffic, whatever its rings.
pub trait Traffic: Send {
    /// Waits for the switch to connect, and hands over.
    fn connect(&mut self) -> Result<()>;
    /// Sends some of each flow and compares what comes with what should.
    fn verify(&mut self) -> Result<()>;
    /// Sends and receives for a time. `edge` is called when it begins and when it ends.
    fn run(
        &mut self,
        time: Duration,
        pace: Pace,
        latency: bool,
        edge: &mut (dyn FnMut() + Send),
    ) -> Result<Window>;
    /// Sleeps, sends a frame by the first port that sends, waits for it: cycles until it came. `times` times.
    fn wake(&mut self, sleep: Duration, times: usize) -> Result<Vec<f64>>;
    /// Whether its memory is in huge pages.
    fn huge(&self) -> bool;
    /// Where each port's rings and buffers lie in this process: receiving, sending. For a device in this process.
    fn wires(&self) -> Vec<(Wires, Wires)>;
    /// Frames after which every flow of every port that sends was there.
    fn round(&self) -> u64;
    /// Attack packets begin or end, where the plan has them.
    fn attack(&mut self, on: bool);
    /// Only these ports send from now on.
    fn only(&mut self, ports: &[usize]);
}

/// Listens on the sockets, one a port.
///
/// # Errors
/// When there is no memory, or a socket cannot be made.
pub fn listen(plan: &Plan, sockets: &[PathBuf]) -> Result<Box<dyn Traffic>> {
    ensure!(
        plan.sources.len() == sockets.len() && sockets.len() <= PORTS_MAX,
        "a source for each of the {} ports, of at most {PORTS_MAX}",
        sockets.len()
    );
    Ok(if plan.packed {
        Box::new(Load::<Packed>::new(plan, sockets)?)
    } else {
        Box::new(Load::<Split>::new(plan, sockets)?)
    })
}

/// One port's guest.
struct Port<R> {
    listener: UnixListener,
    session: Option<Session>,
    features: u64,
    memory: Memory,
    receive: R,
    send: R,
    receive_at: *mut u8,
    receive_stride: usize,
    send_at: *mut u8,
    send_stride: usize,
    source: Option<Source>,
    template: Vec<u8>,
    /// Bytes of it before the frame.
    lead: usize,
    on: bool,
    /// Where in the flows, and how many to the next attack packet; where in the attack.
    next: usize,
    until_attack: u32,
    next_attack: usize,
    /// What the switch does to the frames received here.
    change: Change,
    /// What is expected here: the sender's number, how far its frames are shifted, their length with the virtio-net header.
    from: u32,
    shift: usize,
    expected: u32,
    sent: u64,
    received: u64,
}

// SAFETY: the pointers are into the port's own memory.
unsafe impl<R: Send> Send for Port<R> {}

struct Load<R> {
    ports: Vec<Port<R>>,
    size: Size,
    bad: u64,
    attack: bool,
}

/// Fetches a line that will be written.
#[inline(always)]
pub fn prefetch_own(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Fetches a line that will be read.
#[inline(always)]
pub fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// The frame in a buffer.
#[inline(always)]
fn frame_of(buffer: *const u8) -> *const u8 {
    buffer.wrapping_add(VNET)
}

/// Fetches the lines of a frame's beginning and of its virtio-net header, which may be the same.
#[inline(always)]
fn prefetch_both(buffer: *const u8) {
    prefetch(buffer);
    prefetch(frame_of(buffer));
}

use datapath::engine::wake::cycles;

impl<R: Ring> Port<R> {
    fn new(plan: &Plan, index: usize, socket: &Path) -> Result<Port<R>> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let source = plan.sources[index].clone();
        let frame = plan.size.frame();
        let to = source.as_ref().map_or(index ^ 1, |s| s.to);
        let mut template = source.as_ref().map_or_else(Vec::new, |s| s.lead.clone());
        let lead = template.len();
        template.extend(frame::template(index, to, frame));
        let (big, mergeable) = match plan.size {
            Size::Plain(n) => {
                ensure!((64..=BUFFER - VNET - 4).contains(&n), "{n}-byte frames");
                (false, true)
            }
            Size::Big { mergeable, .. } => (true, mergeable),
        };
        let sends = if big { BIG_RING } else { RING };
        let send_stride = if big { BIG_STRIDE } else { STRIDE };
        let (receives, receive_stride, receive_len) = if mergeable {
            (RING, STRIDE, BUFFER)
        } else {
            (BIG_RING, BIG_STRIDE, 65_536 + 2048)
        };
        let total = sends * (send_stride + 16 * 32) + receives * receive_stride + (1 << 20);
        let mut memory = Memory::new(total)?;
        let offset = layout().offset();
        // SAFETY: the last buffer's stride has room for the offset, which is less than a cache line.
        let (send_at, receive_at) = unsafe {
            (
                memory.take(sends * send_stride, 4096)?.add(offset),
                memory.take(receives * receive_stride, 4096)?.add(offset),
            )
        };
        if big {
            set_pseudo_checksum(&mut template, source.as_ref());
        }
        let mut out = Vec::new();
        for i in 0..sends {
            // SAFETY: buffer `i` of the memory just taken, longer than header and frame.
            let at = unsafe { send_at.add(i * send_stride) };
            let mut bytes = vec![0; VNET];
            if big {
                // Checksum to be filled in; TCP over IPv4 in segments (virtio 1.2 5.1.6).
                bytes[0] = 1;
                bytes[1] = 1;
                bytes[2..4].copy_from_slice(&54u16.to_le_bytes());
                bytes[4..6].copy_from_slice(&frame::MSS.to_le_bytes());
                bytes[6..8].copy_from_slice(&34u16.to_le_bytes());
                bytes[8..10].copy_from_slice(&16u16.to_le_bytes());
            }
            bytes.extend(&template);
            // SAFETY: as above; nobody else knows of it yet.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
            out.push(if big {
                indirect(&mut memory, at, bytes.len())?
            } else {
                Buffer {
                    address: memory.guest(at),
                    len: bytes.len() as u32,
                    flags: 0,
                }
            });
        }
        let into: Vec<Buffer> = (0..receives)
            .map(|i| Buffer {
                // SAFETY: buffer `i` of the memory just taken.
                address: memory.guest(unsafe { receive_at.add(i * receive_stride) }),
                len: receive_len as u32,
                flags: WRITE,
            })
            .collect();
        let send = R::new(&mut memory, &out, false)?;
        let receive = R::new(&mut memory, &into, true)?;
        let mut features = feature::MRG_RXBUF;
        if big {
            features |= feature::CSUM
                | feature::GUEST_CSUM
                | feature::HOST_TSO4
                | feature::GUEST_TSO4
                | feature::INDIRECT;
        }
        let (from, change) = plan
            .sources
            .iter()
            .enumerate()
            .find_map(|(i, s)| s.as_ref().filter(|s| s.to == index).map(|s| (i, s.change)))
            .unwrap_or((PORTS_MAX - 1, Change::Nothing));
        Ok(Port {
            listener,
            session: None,
            features,
            memory,
            receive,
            send,
            receive_at,
            receive_stride,
            send_at,
            send_stride,
            on: source.is_some(),
            source,
            template,
            lead,
            next: 0,
            until_attack: 0,
            next_attack: 0,
            from: from as u32,
            shift: change.shift(),
            change,
            expected: (VNET + frame + change.shift()) as u32,
            sent: 0,
            received: 0,
        })
    }

    fn send_buffer(&self, slot: u32) -> *mut u8 {
        // SAFETY: slots are below the ring's size, which has a buffer for each.
        unsafe { self.send_at.add(slot as usize * self.send_stride) }
    }

    fn receive_buffer(&self, slot: u32) -> *const u8 {
        // SAFETY: as above.
        unsafe { self.receive_at.add(slot as usize * self.receive_stride) }
    }

    /// The flow of the next packet.
    #[inline(always)]
    fn patch(&mut self, attack: bool) -> Patch {
        let source = self.source.as_mut().expect("ports that are on send");
        if attack && let Some((every, list)) = &source.attack {
            if self.until_attack == 0 {
                self.until_attack = *every;
                self.next_attack += 1;
                if self.next_attack >= list.len() {
                    self.next_attack = 0;
                }
                return list[self.next_attack];
            }
            self.until_attack -= 1;
        }
        match &mut source.flows {
            Flows::List(list) => {
                let p = list[self.next];
                self.next += 1;
                if self.next == list.len() {
                    self.next = 0;
                }
                p
            }
            Flows::Endless { rules, frame } => {
                let p = Patch::new(&rules[self.next].header(), *frame);
                self.next += 1;
                if self.next == rules.len() {
                    self.next = 0;
                }
                p
            }
        }
    }

    /// Writes one packet into a slot.
    #[inline(always)]
    fn write(&mut self, slot: u32, patch: Patch, stamp: u32) {
        // SAFETY: a frame's header and stamp lie inside every buffer; the device has not got this one.
        unsafe {
            let at = self.send_buffer(slot).add(VNET + self.lead);
            at.add(frame::PATCH_AT)
                .cast::<[u8; 16]>()
                .write_unaligned(patch.0);
            at.add(STAMP_AT).cast::<u32>().write_unaligned(stamp);
        }
    }

    /// Sends `least` to `most` packets, or none; returns how many.
    #[inline(always)]
    fn transmit(&mut self, index: usize, least: u32, most: u32, attack: bool) -> u32 {
        let size = if self.send_stride == STRIDE {
            RING
        } else {
            BIG_RING
        } as u32;
        let mut free = size - self.send.outstanding();
        if free < most {
            let n = self.send.used(size);
            self.send.take(n);
            free += n;
        }
        let n = free.min(most);
        if n < least.min(size / 2) {
            return 0;
        }
        let stamp = (cycles() as u32) & !(PORTS_MAX as u32 - 1) | index as u32;
        for i in 0..n.min(AHEAD) {
            prefetch_own(frame_of(self.send_buffer(self.send.free_slot(i))));
        }
        for i in 0..n {
            if i + AHEAD < n {
                prefetch_own(frame_of(self.send_buffer(self.send.free_slot(i + AHEAD))));
            }
            let patch = self.patch(attack);
            let slot = self.send.free_slot(i);
            self.write(slot, patch, stamp);
        }
        if self.send.post(n)
            && let Some(s) = &self.session
        {
            let _ = s.kick.write(1);
        }
        self.sent += u64::from(n);
        n
    }

    /// Receives what there is, up to a burst; how much.
    #[inline(always)]
    fn fetch<const LATENCY: bool>(&mut self, bad: &mut u64, latency: &mut Histogram) -> u32 {
        let n = self.receive.used(BURST);
        if n == 0 {
            return 0;
        }
        for i in 0..n.min(AHEAD) {
            prefetch_both(self.receive_buffer(self.receive.used_slot(i)));
        }
        let now = if LATENCY { cycles() as u32 } else { 0 };
        let mut wrong = 0;
        for i in 0..n {
            if i + AHEAD < n {
                prefetch_both(self.receive_buffer(self.receive.used_slot(i + AHEAD)));
            }
            // SAFETY: the stamp lies in every buffer's first line, the number of buffers in the virtio-net header.
            let (stamp, buffers) = unsafe {
                let at = self.receive_buffer(self.receive.used_slot(i));
                (
                    at.add(VNET + STAMP_AT + self.shift)
                        .cast::<u32>()
                        .read_unaligned(),
                    at.add(10).cast::<u16>().read_unaligned(),
                )
            };
            wrong += u64::from(
                (stamp & (PORTS_MAX as u32 - 1) != self.from)
                    | (buffers != 1)
                    | (self.receive.used_len(i) != self.expected),
            );
            if LATENCY {
                latency.add(now.wrapping_sub(stamp & !(PORTS_MAX as u32 - 1)));
            }
        }
        *bad += wrong;
        self.received += u64::from(n) - wrong;
        self.receive.take(n);
        self.receive.post(n);
        n
    }

    /// Receives big frames: what there is, whole frames only.
    fn fetch_big(&mut self, bad: &mut u64) {
        let n = self.receive.used(RING as u32);
        let mut i = 0;
        while i < n {
            // SAFETY: as for small frames.
            let (stamp, buffers) = unsafe {
                let at = self.receive_buffer(self.receive.used_slot(i));
                (
                    at.add(VNET + STAMP_AT + self.shift)
                        .cast::<u32>()
                        .read_unaligned(),
                    u32::from(at.add(10).cast::<u16>().read_unaligned()).max(1),
                )
            };
            if i + buffers > n {
                break;
            }
            let len: u32 = (i..i + buffers).map(|b| self.receive.used_len(b)).sum();
            if stamp & (PORTS_MAX as u32 - 1) == self.from && len == self.expected {
                self.received += 1;
            } else {
                *bad += 1;
            }
            i += buffers;
        }
        if i > 0 {
            self.receive.take(i);
            self.receive.post(i);
        }
    }

    /// The frames that are there, whole and without virtio-net header, for a comparison.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let n = self.receive.used(RING as u32);
        let (mut frames, mut i) = (vec![], 0);
        while i < n {
            // SAFETY: the virtio-net header of a returned buffer.
            let buffers = unsafe {
                u32::from(
                    self.receive_buffer(self.receive.used_slot(i))
                        .add(10)
                        .cast::<u16>()
                        .read_unaligned(),
                )
            }
            .max(1);
            if i + buffers > n {
                break;
            }
            let mut bytes = vec![];
            for b in i..i + buffers {
                let len = (self.receive.used_len(b) as usize).min(self.receive_stride);
                // SAFETY: a buffer that the device has returned, no more than its length.
                bytes.extend(unsafe {
                    std::slice::from_raw_parts(self.receive_buffer(self.receive.used_slot(b)), len)
                });
            }
            frames.push(bytes.split_off(VNET.min(bytes.len())));
            i += buffers;
        }
        self.receive.take(i);
        self.receive.post(i);
        frames
    }
}

/// The TCP checksum that the device is to complete covers the pseudo header (virtio 1.2 5.1.6.2).
fn set_pseudo_checksum(template: &mut [u8], source: Option<&Source>) {
    let Some(Source {
        flows: Flows::List(list),
        ..
    }) = source
    else {
        return;
    };
    let ends = &list[0].0[4..12];
    let words = ends
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let mut sum = words.sum::<u32>() + 6 + (template.len() - 34) as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    template[50..52].copy_from_slice(&(sum as u16).to_be_bytes());
}

/// An indirect table of pages over `len` bytes at `at`.
fn indirect(memory: &mut Memory, at: *mut u8, len: usize) -> Result<Buffer> {
    // The first piece ends where a page of the buffer ends, and has all headers.
    let pieces: Vec<(usize, usize)> = (0..len.div_ceil(PIECE))
        .map(|i| (i * PIECE, PIECE.min(len - i * PIECE)))
        .collect();
    let table = memory.take(16 * pieces.len(), 64)?.cast::<Descriptor>();
    for (i, &(from, n)) in pieces.iter().enumerate() {
        let last = i + 1 == pieces.len();
        // SAFETY: inside the table just taken.
        unsafe {
            table.add(i).write(Descriptor {
                address: memory.guest(at.add(from)),
                len: n as u32,
                // NEXT, and which (virtio 1.2 2.7.5).
                third: u16::from(!last),
                fourth: if last { 0 } else { i as u16 + 1 },
            });
        }
    }
    Ok(Buffer {
        address: memory.guest(table.cast()),
        len: 16 * pieces.len() as u32,
        flags: INDIRECT,
    })
}

impl<R: Ring> Load<R> {
    fn new(plan: &Plan, sockets: &[PathBuf]) -> Result<Load<R>> {
        ensure!(
            !plan.packed || matches!(plan.size, Size::Plain(_)),
            "big frames in packed rings are not measured"
        );
        let ports = sockets
            .iter()
            .enumerate()
            .map(|(i, s)| Port::new(plan, i, s))
            .collect::<Result<_>>()?;
        Ok(Load {
            ports,
            size: plan.size,
            bad: 0,
            attack: true,
        })
    }

    #[inline(always)]
    fn fetch_all<const LATENCY: bool>(&mut self, latency: &mut Histogram) {
        for p in &mut self.ports {
            match self.size {
                // All of it before anything new is sent: otherwise a ring's worth more could be under way than the
                // receiver has buffers for.
                Size::Plain(_) => while p.fetch::<LATENCY>(&mut self.bad, latency) == BURST {},
                Size::Big { .. } => p.fetch_big(&mut self.bad),
            }
        }
    }

    /// Sends and receives until the time stamp counter says `end`.
    fn turn<const LATENCY: bool>(
        &mut self,
        pace: Pace,
        start: u64,
        end: u64,
        hz: f64,
        latency: &mut Histogram,
    ) {
        let attack = self.attack;
        let senders: Vec<usize> = (0..self.ports.len())
            .filter(|&i| self.ports[i].on)
            .collect();
        let mut paced = 0u64;
        loop {
            let now = cycles();
            if now >= end {
                return;
            }
            self.fetch_all::<LATENCY>(latency);
            // What the ring does not take is late, not lost: the rate is an average.
            let mut steady = |load: &mut Load<R>, senders: &[usize], rate: f64| {
                let due = ((now - start) as f64 * rate / hz) as u64;
                while paced < due {
                    let i = senders[(paced % senders.len() as u64) as usize];
                    let n = (due - paced).min(u64::from(BURST_MIN)) as u32;
                    let n = load.ports[i].transmit(i, 1, n, attack);
                    if n == 0 {
                        break;
                    }
                    paced += u64::from(n);
                }
            };
            match pace {
                Pace::Open => {
                    for &i in &senders {
                        self.ports[i].transmit(i, BURST_MIN, BURST, attack);
                    }
                }
                Pace::PerSecond(rate) => steady(self, &senders, rate),
                Pace::First(rate) => {
                    steady(self, &senders[..1], rate);
                    for &i in &senders[1..] {
                        self.ports[i].transmit(i, BURST_MIN, BURST, attack);
                    }
                }
            }
        }
    }

    /// Receives until nothing has come for a while.
    fn drain(&mut self) {
        let quiet = Duration::from_millis(20);
        let mut last = Instant::now();
        let limit = last + Duration::from_secs(2);
        let mut seen = 0;
        while last.elapsed() < quiet && Instant::now() < limit {
            self.fetch_all::<false>(&mut Histogram::default());
            let now = self.ports.iter().map(|p| p.received).sum::<u64>() + self.bad;
            if now != seen {
                seen = now;
                last = Instant::now();
            }
        }
    }

    fn window(
        &mut self,
        time: Duration,
        pace: Pace,
        latency: bool,
        edge: &mut (dyn FnMut() + Send),
    ) -> Window {
        machine::pin(TRAFFIC_CPU);
        let hz = machine::tsc_hz();
        let before: Vec<(u64, u64)> = self.ports.iter().map(|p| (p.sent, p.received)).collect();
        let bad = self.bad;
        edge();
        let on_cpu = machine::own_time();
        let mut w = Window::default();
        let (from, start) = (Instant::now(), cycles());
        let end = start + (time.as_secs_f64() * hz) as u64;
        if latency {
            self.turn::<true>(pace, start, end, hz, &mut w.latency);
        } else {
            self.turn::<false>(pace, start, end, hz, &mut w.latency);
        }
        w.time = from.elapsed();
        w.on_cpu = (machine::own_time() - on_cpu) as f64 / 1e9;
        w.sent = self
            .ports
            .iter()
            .zip(&before)
            .map(|(p, b)| p.sent - b.0)
            .collect();
        w.received = self
            .ports
            .iter()
            .zip(&before)
            .map(|(p, b)| p.received - b.1)
            .collect();
        edge();
        self.drain();
        w.bad = self.bad - bad;
        let arrived: u64 = self
            .ports
            .iter()
            .zip(&before)
            .map(|(p, b)| p.received - b.1)
            .sum();
        w.lost = w.sent.iter().sum::<u64>().saturating_sub(arrived + w.bad);
        w
    }

    /// Sends the beginning of every flow table, and looks at what comes: how much was right, or what was wrong.
    fn trial(&mut self) -> Result<(usize, usize)> {
        const SAMPLE: usize = 64;
        let senders: Vec<usize> = (0..self.ports.len())
            .filter(|&i| self.ports[i].source.is_some())
            .collect();
        let count = match self.size {
            Size::Plain(_) => SAMPLE,
            // No more than the receiver has buffers for.
            Size::Big { .. } => 8,
        };
        let big = matches!(self.size, Size::Big { .. });
        let mut expected = vec![vec![]; self.ports.len()];
        for &i in &senders {
            let p = &mut self.ports[i];
            let n = p.send.used(RING as u32);
            p.send.take(n);
            if p.send.outstanding() > 0 {
                // The switch has not even fetched the last ones.
                continue;
            }
            let source = p.source.clone().expect("senders have a source");
            let next = p.next;
            for k in 0..count {
                let patch = p.patch(true);
                let slot = p.send.free_slot(k as u32);
                let stamp = (k as u32) << 3 | i as u32;
                p.write(slot, patch, stamp);
                let mut f = p.template.clone();
                f[p.lead + frame::PATCH_AT..][..16].copy_from_slice(&patch.0);
                f[p.lead + STAMP_AT..][..4].copy_from_slice(&stamp.to_le_bytes());
                if big {
                    f[50..52].fill(0);
                }
                expected[source.to].push(source.change.apply(f));
            }
            if matches!(source.flows, Flows::List(_)) {
                p.next = next;
            }
            if p.send.post(count as u32)
                && let Some(s) = &p.session
            {
                let _ = s.kick.write(1);
            }
            p.sent += count as u64;
        }
        let total = expected.iter().map(Vec::len).sum();
        let end = Instant::now() + Duration::from_millis(300);
        let mut right = 0;
        let mut wrong = None;
        while Instant::now() < end && (right < total || total == 0) {
            for (i, p) in self.ports.iter_mut().enumerate() {
                for mut f in p.frames() {
                    p.received += 1;
                    p.change.clear(&mut f);
                    if big && f.len() > 52 {
                        // The checksum is still to be completed: what is there until then is between switch and guest.
                        f[50..52].fill(0);
                    }
                    if expected[i].contains(&f) {
                        right += 1;
                    } else if wrong.is_none() {
                        wrong = Some((i, f));
                    }
                }
            }
        }
        if let Some((i, f)) = wrong
            && right < total
        {
            let head = |f: &[u8]| {
                f.iter()
                    .take(64)
                    .map(|b| format!("{b:02x}"))
                    .collect::<String>()
            };
            bail!(
                "port {i} got {} bytes {}, where {} were expected",
                f.len(),
                head(&f),
                expected[i].first().map_or("none".into(), |e| format!(
                    "{} bytes like {}",
                    e.len(),
                    head(e)
                ))
            );
        }
        Ok((right, total))
    }

    fn ordered(&self) -> Result<()> {
        let disorder = |p: &Port<R>| p.send.disordered() || p.receive.disordered();
        ensure!(
            !self.ports.iter().any(disorder),
            "the switch returned buffers of a {} ring in another order than it got them",
            R::NAME
        );
        Ok(())
    }
}

/// Waits for a connection on a listener that does not block.
fn accept(listener: &UnixListener) -> Result<UnixStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                // A switch that does not answer is an error, not a hang.
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        ensure!(
            Instant::now() < end,
            "the switch did not connect within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl<R: Ring> Traffic for Load<R> {
    fn connect(&mut self) -> Result<()> {
        for (i, p) in self.ports.iter_mut().enumerate() {
            let stream = accept(&p.listener).with_context(|| format!("port {i}"))?;
            let session = frontend::connect(stream, &p.memory, &p.receive, &p.send, p.features)
                .with_context(|| format!("port {i}"))?;
            p.session = Some(session);
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Twice: what a switch learns from the first packets changes what it does with the next.
            let trial = self.trial().and_then(|first| Ok((first, self.trial()?)));
            self.ordered()?;
            match trial {
                Ok(((a, b), (c, d))) if b > 0 && d > 0 && a == b && c == d => return Ok(()),
                Ok((_, (right, total))) if Instant::now() > end => {
                    bail!("only {right} of {total} frames came through the switch")
                }
                Err(e) if Instant::now() > end => return Err(e),
                _ => {}
            }
        }
    }

    fn run(
        &mut self,
        time: Duration,
        pace: Pace,
        latency: bool,
        edge: &mut (dyn FnMut() + Send),
    ) -> Result<Window> {
        let w = std::thread::scope(|s| {
            std::thread::Builder::new()
                .name("traffic".into())
                .spawn_scoped(s, || self.window(time, pace, latency, edge))
                .map(|t| t.join().expect("the traffic's thread does not panic"))
        })?;
        self.ordered()?;
        Ok(w)
    }

    fn wake(&mut self, sleep: Duration, times: usize) -> Result<Vec<f64>> {
        let i = self
            .ports
            .iter()
            .position(|p| p.on)
            .context("no port sends")?;
        let took = std::thread::scope(|s| {
            s.spawn(|| {
                machine::pin(TRAFFIC_CPU);
                let mut took = vec![];
                for _ in 0..times {
                    std::thread::sleep(sleep);
                    let seen: u64 = self.ports.iter().map(|p| p.received).sum();
                    let start = cycles();
                    self.ports[i].transmit(i, 1, 1, false);
                    let limit = Instant::now() + Duration::from_secs(1);
                    while self.ports.iter().map(|p| p.received).sum::<u64>() == seen {
                        self.fetch_all::<false>(&mut Histogram::default());
                        if Instant::now() > limit {
                            bail!("a frame sent after {sleep:?} of silence did not come within a second");
                        }
                    }
                    took.push((cycles() - start) as f64);
                }
                Ok(took)
            })
            .join()
            .expect("does not panic")
        })?;
        self.ordered()?;
        Ok(took)
    }

    fn huge(&self) -> bool {
        self.ports.iter().all(|p| p.memory.huge)
    }

    fn wires(&self) -> Vec<(Wires, Wires)> {
        let wires = |ring: &R, buffers: *mut u8, stride: usize| {
            let c = ring.config();
            Wires {
                available: c.avail_ring_addr,
                used: c.used_ring_addr,
                size: c.queue_size,
                buffers: buffers as usize,
                stride,
            }
        };
        self.ports
            .iter()
            .map(|p| {
                (
                    wires(&p.receive, p.receive_at, p.receive_stride),
                    wires(&p.send, p.send_at, p.send_stride),
                )
            })
            .collect()
    }

    fn round(&self) -> u64 {
        let of = |p: &Port<R>| {
            let s = p.source.as_ref()?;
            let flows = match &s.flows {
                Flows::List(l) => l.len() as u64,
                Flows::Endless { .. } => 1,
            };
            let attack = match &s.attack {
                Some((every, list)) if self.attack => (u64::from(*every) + 1) * list.len() as u64,
                _ => 0,
            };
            Some(flows.max(attack))
        };
        let ports: Vec<u64> = self.ports.iter().filter(|p| p.on).filter_map(of).collect();
        // All send alike: as long as the longest takes.
        ports.iter().max().copied().unwrap_or(0) * ports.len() as u64
    }

    fn attack(&mut self, on: bool) {
        self.attack = on;
    }

    fn only(&mut self, ports: &[usize]) {
        for (i, p) in self.ports.iter_mut().enumerate() {
            p.on = p.source.is_some() && ports.contains(&i);
        }
    }
}
