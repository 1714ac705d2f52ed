//! A switch for tests: two vhost-user ports, every frame of one goes to the other. It does
//! nothing until it is kicked, so a kick that gets lost stops it, and it calls only when the
//! driver wants that, so a call that gets lost stops the guest.

#![allow(dead_code)] // each test uses its own part

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use std::io::{Read, Write};

use vhost::vhost_user::message::*;
use vhost::vhost_user::{
    BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

const VERSION_1: u64 = 1 << 32;
const EVENT_IDX: u64 = 1 << 29;
const MRG_RXBUF: u64 = 1 << 15;
const PROTOCOL: u64 = 1 << 30;
/// Most queues of a port.
const QUEUES: usize = 16;

#[derive(Default)]
struct Ring {
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    next: u16,
    kick: Option<File>,
    call: Option<File>,
    enabled: bool,
}

/// What the front end told one port.
#[derive(Default)]
pub struct Port {
    offered: u64,
    pub features: u64,
    pub messages: Vec<String>,
    /// Guest-physical to memory, and the front end's addresses.
    mem: Option<GuestMemoryMmap>,
    regions: Vec<VhostUserMemoryRegion>,
    rings: Vec<Ring>,
    pub forwarded: u64,
}

impl Port {
    fn note(&mut self, text: String) {
        self.messages.push(text);
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        self.rings
            .get_mut(index as usize)
            .ok_or(Error::InvalidParam)
    }

    /// A front end's address as guest-physical.
    fn physical(&self, addr: u64) -> Result<u64> {
        self.regions
            .iter()
            .find(|r| addr >= r.user_addr && addr - r.user_addr < r.memory_size)
            .map(|r| addr - r.user_addr + r.guest_phys_addr)
            .ok_or(Error::InvalidParam)
    }

    /// Takes the next chain of ring `index`: head, and its buffers as (address, length).
    fn pop(&mut self, index: usize) -> Option<(u16, Vec<(u64, u32)>)> {
        let mem = self.mem.as_ref()?;
        let ring = &mut self.rings[index];
        if !ring.enabled || ring.size == 0 || ring.kick.is_none() {
            return None;
        }
        let avail: u16 = mem
            .load(GuestAddress(ring.avail + 2), Ordering::SeqCst)
            .unwrap();
        if avail == ring.next {
            return None;
        }
        let slot = u64::from(ring.next % ring.size);
        let head: u16 = mem
            .read_obj(GuestAddress(ring.avail + 4 + 2 * slot))
            .unwrap();
        ring.next = ring.next.wrapping_add(1);
        let mut parts = Vec::new();
        let mut at = head;
        loop {
            let d: [u8; 16] = mem
                .read_obj(GuestAddress(ring.desc + 16 * u64::from(at)))
                .unwrap();
            parts.push((
                u64::from_le_bytes(d[..8].try_into().unwrap()),
                u32::from_le_bytes(d[8..12].try_into().unwrap()),
            ));
            if d[12] & 1 == 0 {
                return Some((head, parts));
            }
            at = u16::from_le_bytes([d[14], d[15]]);
        }
    }

    fn push(&mut self, index: usize, head: u16, len: u32) {
        let mem = self.mem.as_ref().unwrap();
        let ring = &self.rings[index];
        let at = GuestAddress(ring.used + 2);
        let used: u16 = mem.load(at, Ordering::SeqCst).unwrap();
        let slot = u64::from(used % ring.size);
        let element = [u32::from(head), len];
        mem.write_obj(element, GuestAddress(ring.used + 4 + 8 * slot))
            .unwrap();
        mem.store(used.wrapping_add(1), at, Ordering::SeqCst)
            .unwrap();
    }

    /// Asks to be kicked for the next buffer; whether there is one already.
    fn rearm(&mut self, index: usize) -> bool {
        let Some(mem) = &self.mem else { return false };
        let ring = &self.rings[index];
        if ring.size == 0 || ring.kick.is_none() {
            return false;
        }
        let event = GuestAddress(ring.used + 4 + 8 * u64::from(ring.size));
        mem.store(ring.next, event, Ordering::SeqCst).unwrap();
        std::sync::atomic::fence(Ordering::SeqCst);
        let avail: u16 = mem
            .load(GuestAddress(ring.avail + 2), Ordering::SeqCst)
            .unwrap();
        ring.enabled && avail != ring.next
    }

    /// Calls the driver if it wants to be called after the used index went on from `old`.
    fn call(&mut self, index: usize, old: u16) {
        let mem = self.mem.as_ref().unwrap();
        let ring = &self.rings[index];
        std::sync::atomic::fence(Ordering::SeqCst);
        let new: u16 = mem
            .load(GuestAddress(ring.used + 2), Ordering::SeqCst)
            .unwrap();
        let wanted = if self.features & EVENT_IDX != 0 {
            let event = GuestAddress(ring.avail + 4 + 2 * u64::from(ring.size));
            let event: u16 = mem.load(event, Ordering::SeqCst).unwrap();
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            let flags: u16 = mem
                .load(GuestAddress(ring.avail), Ordering::SeqCst)
                .unwrap();
            flags & 1 == 0
        };
        if wanted && let Some(call) = &ring.call {
            (&*call).write_all(&1u64.to_ne_bytes()).unwrap();
        }
    }

    fn used(&self, index: usize) -> u16 {
        match (&self.mem, &self.rings[index]) {
            (Some(mem), r) if r.size > 0 => mem
                .load(GuestAddress(r.used + 2), Ordering::SeqCst)
                .unwrap(),
            _ => 0,
        }
    }
}

impl VhostUserBackendReqHandlerMut for Port {
    fn set_owner(&mut self) -> Result<()> {
        self.note("SET_OWNER".into());
        Ok(())
    }
    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }
    fn reset_device(&mut self) -> Result<()> {
        Ok(())
    }
    fn get_features(&mut self) -> Result<u64> {
        Ok(self.offered)
    }
    fn set_features(&mut self, features: u64) -> Result<()> {
        self.note(format!("SET_FEATURES {features:#x}"));
        self.features = features;
        Ok(())
    }
    fn set_mem_table(&mut self, ctx: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        self.note(format!("SET_MEM_TABLE {}", ctx.len()));
        let ranges = ctx.iter().zip(files).map(|(r, file)| {
            (
                GuestAddress(r.guest_phys_addr),
                r.memory_size as usize,
                Some(FileOffset::new(file, r.mmap_offset)),
            )
        });
        let ranges: Vec<_> = ranges.collect();
        self.mem = Some(GuestMemoryMmap::from_ranges_with_files(ranges).unwrap());
        self.regions = ctx.to_vec();
        Ok(())
    }
    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.ring(index)?.size = num as u16;
        Ok(())
    }
    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        desc: u64,
        used: u64,
        avail: u64,
        _: u64,
    ) -> Result<()> {
        let (desc, avail, used) = (
            self.physical(desc)?,
            self.physical(avail)?,
            self.physical(used)?,
        );
        let ring = self.ring(index)?;
        (ring.desc, ring.avail, ring.used) = (desc, avail, used);
        Ok(())
    }
    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.note(format!("SET_VRING_BASE {index}"));
        self.ring(index)?.next = base as u16;
        Ok(())
    }
    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.note(format!("GET_VRING_BASE {index}"));
        let ring = self.ring(index)?;
        ring.kick = None;
        Ok(VhostUserVringState::new(index, u32::from(ring.next)))
    }
    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.ring(u32::from(index))?.kick = fd;
        Ok(())
    }
    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.ring(u32::from(index))?.call = fd;
        Ok(())
    }
    fn set_vring_err(&mut self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }
    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK)
    }
    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        self.note(format!("SET_PROTOCOL_FEATURES {features:#x}"));
        Ok(())
    }
    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES as u64 / 2)
    }
    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.note(format!("SET_VRING_ENABLE {index} {enable}"));
        self.ring(index)?.enabled = enable;
        Ok(())
    }
    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(Error::InvalidOperation("config"))
    }
    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidOperation("config"))
    }
    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(Error::InvalidOperation("gpu"))
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidOperation("shared object"))
    }
    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(Error::InvalidOperation("inflight"))
    }
    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(Error::InvalidOperation("inflight"))
    }
    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(Error::InvalidOperation("slots"))
    }
    fn add_mem_region(&mut self, _: &VhostUserSingleMemoryRegion, _: File) -> Result<()> {
        Err(Error::InvalidOperation("slots"))
    }
    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(Error::InvalidOperation("slots"))
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(Error::InvalidOperation("device state"))
    }
    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InvalidOperation("device state"))
    }
    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidOperation("shmem"))
    }
    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(Error::InvalidOperation("log"))
    }
}

/// How a port gets its connection.
pub enum Side {
    /// The guest listens.
    Connect(PathBuf),
    /// The port listens.
    Listen(PathBuf),
}

/// The switch; dropping it is its crash: rings stay as they are.
pub struct Switch {
    pub ports: [Arc<Mutex<Port>>; 2],
    stop: Arc<AtomicBool>,
    streams: Vec<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

fn connect(side: &Side) -> UnixStream {
    let end = Instant::now() + Duration::from_secs(20);
    match side {
        Side::Connect(path) => loop {
            match UnixStream::connect(path) {
                Ok(stream) => return stream,
                Err(e) => assert!(Instant::now() < end, "{}: {e}", path.display()),
            }
            std::thread::yield_now();
        },
        Side::Listen(path) => {
            let _ = std::fs::remove_file(path);
            UnixListener::bind(path).unwrap().accept().unwrap().0
        }
    }
}

impl Switch {
    /// A switch between two guests that listen.
    pub fn between(a: &Path, b: &Path) -> Switch {
        Self::new(
            [Side::Connect(a.into()), Side::Connect(b.into())],
            EVENT_IDX,
        )
    }

    /// A switch with these ports that offers `features` besides the usual ones.
    pub fn new(sides: [Side; 2], features: u64) -> Switch {
        let stop = Arc::new(AtomicBool::new(false));
        let mut streams = Vec::new();
        let mut threads = Vec::new();
        let changes = Arc::new(AtomicU64::new(0));
        let ports = sides.map(|side| {
            let port = Arc::new(Mutex::new(Port {
                offered: VERSION_1 | MRG_RXBUF | PROTOCOL | features,
                rings: (0..QUEUES).map(|_| Ring::default()).collect(),
                ..Default::default()
            }));
            let stream = connect(&side);
            streams.push(stream.try_clone().unwrap());
            let (handled, changes) = (port.clone(), changes.clone());
            threads.push(std::thread::spawn(move || {
                let mut handler = BackendReqHandler::from_stream(stream, handled.clone());
                loop {
                    let done = handler.handle_request();
                    changes.fetch_add(1, Ordering::SeqCst);
                    match done {
                        Ok(()) => {}
                        Err(Error::Disconnected | Error::PartialMessage) => break,
                        Err(e) => {
                            handled.lock().unwrap().note(format!("error: {e}"));
                            break;
                        }
                    }
                }
                // The front end has gone: the rings are not ours any more.
                handled.lock().unwrap().mem = None;
            }));
            port
        });
        let (stopped, forwarding) = (stop.clone(), ports.clone());
        threads.push(std::thread::spawn(move || {
            forward(&forwarding, &stopped, &changes);
        }));
        Switch {
            ports,
            stop,
            streams,
            threads,
        }
    }

    /// What the front end said on port `index`.
    pub fn messages(&self, index: usize) -> Vec<String> {
        self.ports[index].lock().unwrap().messages.clone()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wherever a guest is, it sees the connection go at once.
        for stream in &self.streams {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn forward(ports: &[Arc<Mutex<Port>>; 2], stop: &AtomicBool, changes: &AtomicU64) {
    let mut kicked: HashSet<(usize, usize)> = HashSet::new();
    let mut seen = 0;
    while !stop.load(Ordering::SeqCst) {
        // Wait for a kick; the timeout is for new connections and the end only.
        let mut fds = Vec::new();
        let mut which = Vec::new();
        for (p, port) in ports.iter().enumerate() {
            for (i, ring) in port.lock().unwrap().rings.iter().enumerate() {
                if let Some(kick) = &ring.kick {
                    fds.push(libc::pollfd {
                        fd: kick.as_raw_fd(),
                        events: libc::POLLIN,
                        revents: 0,
                    });
                    which.push((p, i));
                }
            }
        }
        // SAFETY: `fds` lives through the call and its length is given.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 20) };
        for (fd, &(p, i)) in fds.iter().zip(&which) {
            if fd.revents & libc::POLLIN != 0 {
                let port = ports[p].lock().unwrap();
                if let Some(kick) = &port.rings[i].kick {
                    let _ = (&*kick).read(&mut [0; 8]);
                    kicked.insert((p, i));
                }
            }
        }
        let now = changes.load(Ordering::SeqCst);
        if kicked.is_empty() && now == seen {
            continue;
        }
        seen = now;
        for p in 0..2 {
            let mut from = ports[p].lock().unwrap();
            let mut to = ports[1 - p].lock().unwrap();
            for queue in (1..QUEUES).step_by(2) {
                loop {
                    move_frames(&mut from, &mut to, queue);
                    if !from.rearm(queue) {
                        break;
                    }
                }
            }
            to.rearm(0);
        }
        kicked.clear();
    }
}

fn move_frames(from: &mut Port, to: &mut Port, queue: usize) {
    let (tx_old, rx_old) = (from.used(queue), to.used(0));
    let (mut sent, mut delivered) = (false, false);
    while let Some((head, parts)) = from.pop(queue) {
        let mem = from.mem.as_ref().unwrap();
        let mut frame = Vec::new();
        for (addr, len) in parts {
            let start = frame.len();
            frame.resize(start + len as usize, 0);
            mem.read_slice(&mut frame[start..], GuestAddress(addr))
                .unwrap();
        }
        // Header without anything to do; one buffer.
        frame[..12].fill(0);
        frame[10] = 1;
        if let Some((rx_head, rx_parts)) = to.pop(0) {
            let mut rest = &frame[..];
            for (addr, len) in rx_parts {
                let (part, later) = rest.split_at(rest.len().min(len as usize));
                let mem = to.mem.as_ref().unwrap();
                mem.write_slice(part, GuestAddress(addr)).unwrap();
                rest = later;
            }
            to.push(0, rx_head, (frame.len() - rest.len()) as u32);
            delivered = true;
        }
        from.push(queue, head, 0);
        from.forwarded += 1;
        sent = true;
    }
    if sent {
        from.call(queue, tx_old);
    }
    if delivered {
        to.call(0, rx_old);
    }
}
