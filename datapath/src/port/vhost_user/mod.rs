//! Guests' network cards: the device's side of virtio-net over vhost-user.
//!
//! - [`message`]: the protocol's messages as bytes. - [`session`]: the negotiation, without I/O.
//! - `connection`: the control thread of a port, its socket and its patience. - this file: the port and its queues.
//!
//! `dpdkvhostuserclient` and its alias `vhostuser` connect to the monitor's socket (`options:vhost-server-path`) and try
//! for ever, so that either side may restart; `dpdkvhostuser` listens in the run directory under the port's
//! name, as in Open vSwitch.
//!
//! Threads: one control thread per port, nearly always asleep, starts and stops queues in
//! [slots](crate::ring::slot); forwarding threads find them there. A receive queue of the datapath serves the
//! transmit queues of the guest in turn, so that a port costs a forwarding thread one call however many queue pairs its guest
//! could have. A forwarding thread sends to one of the enabled receive queues of the guest, chosen by the thread's number, so
//! that threads share a queue only when the guest has fewer.

mod connection;
pub mod fuzz;
mod lookout;
pub mod message;
pub mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use self::connection::Endpoint;
use self::session::{MAX_PAIRS, MAX_QUEUES, Queues, Summary};
use super::{
    InterfaceConfig, LinkResets, OpenPort, Port, PortContext, PortError, PortStatus, RxQueue,
    TxOutcome, TxQueue,
};
use crate::memory::GuestMemory;
use crate::packet::{Batch, OwnedPacket};
use crate::ring::slot::{RingSlot, RingUser};
use crate::ring::{Layout, Ring, RingError, feature};
use crate::sys::event::{Epoll, EventFd};
use crate::sys::unix::MAX_PATH;

/// MTU when none is asked for.
const DEFAULT_MTU: u16 = 1500;
/// What a frame may have beyond its MTU: Ethernet header and two VLAN tags.
const FRAME_EXTRA: usize = 14 + 8;
/// What guests are told by their drivers, and Open vSwitch by its vhost ports.
const SPEED_KBPS: u64 = 10_000_000;
/// The token of the control thread's wake-ups in a receive queue's epoll; lower ones are queue pairs.
const CONTROL: u64 = MAX_PAIRS as u64;

/// How a sleeping forwarding thread notices a guest: an epoll of the kicks of all its queues, which stays the same while
/// queues come and go.
#[derive(Debug)]
struct Waker {
    epoll: Epoll,
    control: EventFd,
    /// By queue pair.
    kicks: Mutex<[Option<EventFd>; MAX_PAIRS]>,
    /// Bit per queue pair: runs without kicks, must be polled.
    polled: AtomicU32,
}

impl Waker {
    fn new() -> std::io::Result<Waker> {
        let waker = Waker {
            epoll: Epoll::new()?,
            control: EventFd::new()?,
            kicks: Mutex::default(),
            polled: AtomicU32::new(0),
        };
        waker.epoll.add(waker.control.as_raw_fd(), CONTROL)?;
        Ok(waker)
    }

    fn add(&self, pair: usize, kick: Option<&EventFd>) {
        // Whatever cannot be waited for (a file, say) is polled.
        let kick = kick.and_then(|kick| kick.try_clone().ok());
        let waited = kick.filter(|kick| self.epoll.add(kick.as_raw_fd(), pair as u64).is_ok());
        let bit = 1 << pair;
        if waited.is_some() {
            self.polled.fetch_and(!bit, Ordering::Relaxed);
        } else {
            self.polled.fetch_or(bit, Ordering::Relaxed);
        }
        self.kicks.lock()[pair] = waited;
        // Counters of eventfds that are not ours to reset cannot fail otherwise.
        let _ = self.control.signal();
    }

    fn remove(&self, pair: usize) {
        self.polled.fetch_and(!(1 << pair), Ordering::Relaxed);
        if let Some(kick) = self.kicks.lock()[pair].take() {
            // The monitor holds the same file open, so that closing ours would not be enough.
            let _ = self.epoll.remove(kick.as_raw_fd());
        }
    }
}

/// What the control thread knows, for people.
#[derive(Debug, Default)]
struct Known {
    connected: bool,
    /// Why not connected, or what was refused last.
    reason: Option<String>,
    summary: Summary,
    config: InterfaceConfig,
}

impl Known {
    /// What was asked for, else what the monitor told, else the usual.
    fn mtu(&self) -> u16 {
        self.config
            .mtu_request
            .or(self.summary.mtu)
            .unwrap_or(DEFAULT_MTU)
    }
}

/// What all parts of a port share.
#[derive(Debug)]
struct Shared {
    name: String,
    client: bool,
    path: PathBuf,
    /// By virtio's queue number: even is what we send to, odd what we receive from.
    slots: Vec<Arc<RingSlot>>,
    wakers: Vec<Waker>,
    /// Bit per queue pair: the guest's transmit queue runs.
    rx_active: AtomicU32,
    /// Bit per queue pair: the guest's receive queue runs.
    tx_active: AtomicU32,
    admin_up: AtomicBool,
    max_frame: AtomicUsize,
    link_up: AtomicBool,
    resets: LinkResets,
    changes: AtomicU64,
    known: Mutex<Known>,
    stop: EventFd,
}

impl Shared {
    fn waker(&self, pair: usize) -> &Waker {
        &self.wakers[pair % self.wakers.len()]
    }

    fn waiting(&self, reason: String) {
        let mut known = self.known.lock();
        if known.reason.as_ref() != Some(&reason) {
            known.reason = Some(reason);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn connected(&self) {
        let mut known = self.known.lock();
        known.connected = true;
        known.reason = None;
        self.changes.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            port = self.name,
            "vhost-user: connected at {}",
            self.path.display()
        );
    }

    fn disconnected(&self, reason: String) {
        let mut known = self.known.lock();
        if known.connected {
            tracing::info!(port = self.name, "vhost-user: {reason}");
        } else if known.reason.as_ref() == Some(&reason) {
            return;
        }
        known.connected = false;
        known.reason = Some(reason);
        known.summary = Summary::default();
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn negotiated(&self, summary: Summary, refused: Option<String>) {
        let mut known = self.known.lock();
        if refused.is_some() {
            known.reason = refused;
        } else if known.summary == summary {
            return;
        }
        known.summary = summary;
        self.set_max_frame(&known);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn set_max_frame(&self, known: &Known) {
        self.max_frame
            .store(usize::from(known.mtu()) + FRAME_EXTRA, Ordering::Relaxed);
    }

    fn queue_error(&self, index: usize) -> Option<RingError> {
        let slot = &self.slots[index];
        if !slot.is_ready() {
            return None;
        }
        slot.control(|ring| ring.error().cloned()).flatten()
    }

    fn set_active(&self, index: usize, active: bool) {
        let bits = if index.is_multiple_of(2) {
            &self.tx_active
        } else {
            &self.rx_active
        };
        let bit = 1 << (index / 2);
        if active {
            bits.fetch_or(bit, Ordering::Release);
        } else {
            bits.fetch_and(!bit, Ordering::Release);
        }
        let up = self.rx_active.load(Ordering::Relaxed) != 0
            && self.tx_active.load(Ordering::Relaxed) != 0;
        if self.link_up.swap(up, Ordering::Relaxed) != up {
            self.resets.add();
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The port's queues as its session sees them.
struct PortQueues<'a>(&'a Shared);

impl Queues for PortQueues<'_> {
    fn start(
        &mut self,
        index: usize,
        memory: &Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
        kick: Option<&EventFd>,
        call: Option<&EventFd>,
    ) -> Result<(), RingError> {
        let slot = &self.0.slots[index];
        let call = call.and_then(|call| call.try_clone().ok());
        let ring = Ring::start(
            memory.clone(),
            layout,
            features,
            call,
            slot.counters().clone(),
        )?;
        slot.put(ring);
        self.0.set_active(index, true);
        if !index.is_multiple_of(2) {
            self.0.waker(index / 2).add(index / 2, kick);
        }
        Ok(())
    }

    fn stop(&mut self, index: usize) -> Option<u16> {
        self.0.set_active(index, false);
        if !index.is_multiple_of(2) {
            self.0.waker(index / 2).remove(index / 2);
        }
        self.0.slots[index].take().map(|ring| ring.base())
    }

    fn set_call(&mut self, index: usize, call: Option<&EventFd>) {
        let call = call.and_then(|call| call.try_clone().ok());
        let old = self.0.slots[index].control(|ring| ring.replace_call(call));
        // Closed here, not while a forwarding thread waits for the slot.
        drop(old);
    }
}

/// Opens a port of type `dpdkvhostuserclient`, `vhostuser` or `dpdkvhostuser`.
pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    let client = config.kind != "dpdkvhostuser";
    let endpoint = if client {
        Endpoint::Client(server_path(config)?)
    } else {
        check_options(config, &[])?;
        if config.name.is_empty() || config.name.contains('/') {
            return Err(PortError::Other(format!(
                "{}: this name cannot name a socket",
                config.name
            )));
        }
        let path = context.run_dir.join(&config.name);
        Endpoint::listen(&path).map_err(|source| PortError::System {
            name: config.name.clone(),
            what: format!("listen on {}", path.display()),
            source,
        })?
    };
    let threads = context.threads.clamp(1, MAX_PAIRS);
    let system = |what: &'static str| {
        |source| PortError::System {
            name: config.name.clone(),
            what: what.into(),
            source,
        }
    };
    let wakers = (0..threads)
        .map(|_| Waker::new())
        .collect::<Result<_, _>>()
        .map_err(system("epoll"))?;
    let shared = Arc::new(Shared {
        name: config.name.clone(),
        client,
        path: endpoint.path().to_owned(),
        slots: (0..MAX_QUEUES).map(|_| Arc::default()).collect(),
        wakers,
        rx_active: AtomicU32::new(0),
        tx_active: AtomicU32::new(0),
        admin_up: AtomicBool::new(true),
        max_frame: AtomicUsize::new(0),
        link_up: AtomicBool::new(false),
        resets: LinkResets::new(context),
        changes: AtomicU64::new(0),
        known: Mutex::default(),
        stop: EventFd::new().map_err(system("eventfd"))?,
    });
    shared.take_config(config);
    let rx = (0..threads)
        .map(|n| -> Box<dyn RxQueue> { Box::new(Rx::new(&shared, n)) })
        .collect();
    let tx = (0..context.threads.max(1))
        .map(|n| -> Box<dyn TxQueue> { Box::new(Tx::new(&shared, n)) })
        .collect();
    let thread = std::thread::Builder::new()
        .name(format!("vhost-{}", config.name))
        .spawn({
            let shared = shared.clone();
            move || connection::run(&shared, &endpoint)
        })
        .map_err(system("thread"))?;
    Ok(OpenPort {
        port: Arc::new(Control {
            shared,
            thread: Some(thread),
        }),
        rx,
        tx,
    })
}

fn check_options(config: &InterfaceConfig, known: &[&str]) -> Result<(), PortError> {
    match config
        .options
        .keys()
        .find(|option| !known.contains(&option.as_str()))
    {
        None => Ok(()),
        Some(option) => Err(PortError::Option {
            name: config.name.clone(),
            option: option.clone(),
            problem: match known {
                [] => format!("type {} takes no options", config.kind),
                known => format!(
                    "not known to type {}, which takes {}",
                    config.kind,
                    known.join(", ")
                ),
            },
        }),
    }
}

fn server_path(config: &InterfaceConfig) -> Result<PathBuf, PortError> {
    const OPTION: &str = "vhost-server-path";
    check_options(config, &[OPTION])?;
    let problem = match config.options.get(OPTION) {
        None => "is missing; it names the socket of the virtual machine monitor".to_owned(),
        Some(path) if path.is_empty() || path.len() > MAX_PATH => {
            format!(
                "has {} bytes; a socket path has 1 to {MAX_PATH}",
                path.len()
            )
        }
        Some(path) => return Ok(Path::new(path).to_owned()),
    };
    Err(PortError::Option {
        name: config.name.clone(),
        option: OPTION.into(),
        problem,
    })
}

impl Shared {
    fn take_config(&self, config: &InterfaceConfig) {
        let mut known = self.known.lock();
        known.config = config.clone();
        self.set_max_frame(&known);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The control side.
#[derive(Debug)]
struct Control {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        // An eventfd of our own cannot fail to be signalled.
        let _ = self.shared.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Port for Control {
    fn status(&self) -> PortStatus {
        let shared = &self.shared;
        let known = shared.known.lock();
        let mut status = BTreeMap::new();
        let mut set = |key: &str, value: String| _ = status.insert(key.to_owned(), value);
        set(
            "mode",
            if shared.client { "client" } else { "server" }.into(),
        );
        set("socket", shared.path.display().to_string());
        set(
            "status",
            if known.connected {
                "connected"
            } else {
                "disconnected"
            }
            .into(),
        );
        if let Some(reason) = &known.reason {
            set("reason", reason.clone());
        }
        if let Some(features) = known.summary.features {
            set("features", format!("0x{features:016x}"));
            let names = feature::NAMES
                .iter()
                .filter(|(bit, _)| features & bit != 0)
                .map(|(_, name)| *name);
            set("feature_names", names.collect::<Vec<_>>().join(","));
            set(
                "protocol_features",
                format!("0x{:x}", known.summary.protocol_features),
            );
        }
        for (index, size) in &known.summary.sizes {
            set(&format!("vring_{index}_size"), size.to_string());
        }
        if known.connected {
            set("num_of_vrings", known.summary.sizes.len().to_string());
            set(
                "n_rxq",
                shared
                    .rx_active
                    .load(Ordering::Relaxed)
                    .count_ones()
                    .to_string(),
            );
            set(
                "n_txq",
                shared
                    .tx_active
                    .load(Ordering::Relaxed)
                    .count_ones()
                    .to_string(),
            );
        }
        let mtu = known.mtu();
        set("mtu", mtu.to_string());
        let admin_up = shared.admin_up.load(Ordering::Relaxed);
        PortStatus {
            link_up: admin_up && shared.link_up.load(Ordering::Relaxed),
            admin_up,
            mac: known.config.mac,
            mtu: mtu.into(),
            speed_kbps: SPEED_KBPS,
            ifindex: None,
            status,
            error: known.summary.problem.clone(),
        }
    }

    fn set_config(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        let path = if self.shared.client {
            server_path(config)?
        } else {
            self.shared.path.clone()
        };
        if path != self.shared.path || (config.kind != "dpdkvhostuser") != self.shared.client {
            return Err(PortError::Other(format!(
                "{}: another type or vhost-server-path needs the port to be opened anew",
                config.name
            )));
        }
        if !self.shared.client {
            check_options(config, &[])?;
        }
        self.shared.take_config(config);
        Ok(())
    }

    fn link_resets(&self) -> u64 {
        self.shared.resets.get()
    }

    fn change_count(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }

    fn set_admin_up(&self, up: bool) -> Result<(), PortError> {
        if self.shared.admin_up.swap(up, Ordering::Relaxed) != up {
            self.shared.changes.fetch_add(1, Ordering::Relaxed);
            // What the guest sent meanwhile waits, and nobody was asked to tell.
            for waker in &self.shared.wakers {
                let _ = waker.control.signal();
            }
        }
        Ok(())
    }

    fn extra_stats(&self) -> BTreeMap<String, u64> {
        let sum = |parity: usize, count: fn(&RingSlot) -> u64| {
            self.shared
                .slots
                .iter()
                .skip(parity)
                .step_by(2)
                .map(|slot| count(slot))
                .sum::<u64>()
        };
        BTreeMap::from([
            (
                "rx_malformed_chains".to_owned(),
                sum(1, |s| s.counters().bad_chains()),
            ),
            (
                "tx_malformed_chains".to_owned(),
                sum(0, |s| s.counters().bad_chains()),
            ),
            (
                "tx_no_buffers".to_owned(),
                sum(0, |s| s.counters().no_room()),
            ),
            (
                "rx_interrupts".to_owned(),
                sum(1, |s| s.counters().notifications()),
            ),
            (
                "tx_interrupts".to_owned(),
                sum(0, |s| s.counters().notifications()),
            ),
        ])
    }
}

/// Receives from the guest's transmit queues in turn: those whose number is `n` modulo the number of receive queues.
struct Rx {
    shared: Arc<Shared>,
    /// This queue's number.
    n: usize,
    /// Bit per queue pair that is ours.
    mine: u32,
    users: Vec<RingUser>,
    /// The pair to look at next.
    turn: usize,
    /// The pair whose packets are out, if any are.
    out: Option<usize>,
}

impl Rx {
    fn new(shared: &Arc<Shared>, n: usize) -> Rx {
        let mine = (0..MAX_PAIRS)
            .filter(|pair| pair % shared.wakers.len() == n)
            .fold(0, |bits, pair| bits | 1 << pair);
        let users = (0..MAX_PAIRS)
            .map(|pair| RingUser::new(shared.slots[2 * pair + 1].clone()))
            .collect();
        Rx {
            shared: shared.clone(),
            n,
            mine,
            users,
            turn: 0,
            out: None,
        }
    }

    fn active(&self) -> u32 {
        self.shared.rx_active.load(Ordering::Acquire) & self.mine
    }

    /// The active pairs, the one whose turn it is first.
    fn turns(&self) -> impl Iterator<Item = usize> + use<> {
        let (active, turn) = (self.active(), self.turn);
        let mut later = active & (u32::MAX << turn);
        let mut earlier = active & !(u32::MAX << turn);
        std::iter::from_fn(move || {
            let bits = if later != 0 { &mut later } else { &mut earlier };
            let pair = bits.trailing_zeros() as usize;
            if *bits == 0 {
                return None;
            }
            *bits &= *bits - 1;
            Some(pair)
        })
    }
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if self.out.is_some() || !self.shared.admin_up.load(Ordering::Relaxed) {
            return 0;
        }
        for pair in self.turns() {
            let user = &mut self.users[pair];
            let Some(ring) = user.try_hold() else {
                continue;
            };
            let n = ring.dequeue(batch);
            if n > 0 {
                self.out = Some(pair);
                self.turn = (pair + 1) % MAX_PAIRS;
                return n;
            }
            // Malformed chains are given back even when there was nothing else.
            ring.settle();
            user.let_go();
        }
        0
    }

    fn release(&mut self) {
        if let Some(pair) = self.out.take() {
            let user = &mut self.users[pair];
            if let Some(ring) = user.held() {
                ring.give_back();
            }
            user.let_go();
        }
    }

    fn arm(&mut self) -> bool {
        if !self.shared.admin_up.load(Ordering::Relaxed) {
            return false;
        }
        let mut work = false;
        for pair in self.turns() {
            match self.users[pair].try_hold() {
                Some(ring) => work |= ring.arm(),
                // The control thread has it for a moment; look again.
                None => work = true,
            }
            self.users[pair].let_go();
        }
        work || self.shared.wakers[self.n].polled.load(Ordering::Relaxed) != 0
    }

    fn disarm(&mut self) {
        for pair in self.turns() {
            if let Some(ring) = self.users[pair].try_hold() {
                ring.disarm();
            }
            self.users[pair].let_go();
        }
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.shared.wakers[self.n].epoll.as_raw_fd())
    }
}

/// Sends to the guest's receive queue that belongs to this thread's number.
struct Tx {
    shared: Arc<Shared>,
    n: u32,
    users: Vec<RingUser>,
    /// Bit per queue pair to which something was sent since the last flush.
    dirty: u32,
    /// The pair whose ring `is_ready` got hold of.
    ready: Option<usize>,
}

impl Tx {
    fn new(shared: &Arc<Shared>, n: usize) -> Tx {
        let users = (0..MAX_PAIRS)
            .map(|pair| RingUser::new(shared.slots[2 * pair].clone()))
            .collect();
        Tx {
            shared: shared.clone(),
            n: n as u32,
            users,
            dirty: 0,
            ready: None,
        }
    }

    fn pick(&self) -> Option<usize> {
        let mut active = self.shared.tx_active.load(Ordering::Acquire);
        if active == 0 || !self.shared.admin_up.load(Ordering::Relaxed) {
            return None;
        }
        for _ in 0..self.n % active.count_ones() {
            active &= active - 1;
        }
        Some(active.trailing_zeros() as usize)
    }

    /// The queues in use may have changed since.
    fn let_go_of_ready(&mut self, but: Option<usize>) {
        if let Some(pair) = self.ready.take()
            && but != Some(pair)
        {
            self.users[pair].let_go();
        }
    }

    fn with_ring(
        &mut self,
        count: u32,
        send: impl FnOnce(&mut Ring, usize, &mut TxOutcome),
    ) -> TxOutcome {
        let mut out = TxOutcome::default();
        let picked = self.pick();
        self.let_go_of_ready(picked);
        match picked.and_then(|pair| self.users[pair].hold().map(|ring| (pair, ring))) {
            Some((pair, ring)) => {
                send(
                    ring,
                    self.shared.max_frame.load(Ordering::Relaxed),
                    &mut out,
                );
                self.users[pair].let_go();
                self.dirty |= 1 << pair;
            }
            None => out.down = count,
        }
        out
    }
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        self.with_ring(which.len() as u32, |ring, max_frame, out| {
            ring.enqueue(batch, which, max_frame, out)
        })
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        self.with_ring(1, |ring, max_frame, out| {
            ring.enqueue_owned(packet, max_frame, out)
        })
    }

    fn is_ready(&mut self) -> bool {
        match self.pick() {
            Some(pair) if self.users[pair].slot().is_ready() => {
                self.let_go_of_ready(Some(pair));
                let ready = self.users[pair].try_hold().is_some();
                self.ready = ready.then_some(pair);
                ready
            }
            // Nothing to wait for: there is nobody there.
            _ => true,
        }
    }

    fn flush(&mut self) {
        while self.dirty != 0 {
            let pair = self.dirty.trailing_zeros() as usize;
            self.dirty &= self.dirty - 1;
            let user = &mut self.users[pair];
            if let Some(ring) = user.hold() {
                ring.notify();
            }
            user.let_go();
        }
        self.let_go_of_ready(None);
    }
}
