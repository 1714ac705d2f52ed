//! The link between a card and its switch: vhost-user, the monitor being the front end.
//!
//! One thread per card talks to the switch (negotiation, starting and stopping rings), one more
//! relays calls. The rings themselves are worked on by guest and switch alone.
//!
//! The life of a link: wait for a connection; negotiate; once the guest's driver is ready, hand
//! over memory, rings and eventfds; wait for the end of the connection, and begin again. The
//! guest lives on meanwhile and sees its carrier go. When the switch is back, each ring goes on
//! at the used index that lies in guest memory: what the old switch had taken and not returned
//! is done again, which for frames means that a few may be sent twice, and none of the guest's
//! buffers is lost.
//!
//! Why calls are relayed: a driver of virtio-mmio ignores interrupts while InterruptStatus is
//! zero, and only the monitor can set that.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures as Proto,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VringConfigData};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::config::{NicConfig, VhostUserSocket};
use crate::console::spawn;
use crate::error::{Context, Error, Result};
use crate::memory::GuestRam;
use crate::poll::{self, Wake, eventfd};
use crate::virtio::net::{COMMON, PASSED, QUEUE_SIZE, feature};
use crate::virtio::{Interrupt, QueueConfig};

/// Virtio feature bit that says that there are protocol features.
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// Pause between attempts to connect, and after a session that failed.
const RETRY: Duration = Duration::from_millis(200);
/// How long a driver's reset waits for the switch to let go of the rings; then the connection is
/// cut.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// A ready driver.
pub struct Activation {
    /// The features of [`PASSED`] it accepted.
    pub features: u64,
    /// Its data queues.
    pub queues: Vec<QueueConfig>,
    /// Queue pairs in use.
    pub pairs: u16,
    /// Whether it wants to know about changes of the carrier.
    pub config_changes: bool,
    /// How to reach it.
    pub interrupt: Arc<dyn Interrupt>,
}

/// What a card offers its guest, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Features of [`PASSED`].
    pub features: u64,
    /// Queue pairs.
    pub pairs: u16,
    /// MTU the switch named.
    pub mtu: Option<u16>,
}

/// What is known about a link.
#[derive(Clone, Debug, Default)]
pub struct LinkStatus {
    /// Whether there is a connection, negotiated.
    pub connected: bool,
    /// Whether the switch works on the rings.
    pub running: bool,
    /// Connections so far.
    pub connections: u64,
    /// Why the last session ended, if in error.
    pub error: Option<String>,
}

enum Command {
    Start(Activation),
    Pairs(u16),
    Stop(SyncSender<()>),
    Quit,
}

#[derive(Default)]
struct State {
    status: LinkStatus,
    offer: Option<Offer>,
    commands: VecDeque<Command>,
    /// The connection, to be cut from outside.
    stream: Option<UnixStream>,
}

/// A card's link to its switch.
pub struct Link {
    name: String,
    socket: VhostUserSocket,
    pairs: u16,
    ram: GuestRam,
    kicks: Vec<EventFd>,
    calls: Vec<EventFd>,
    state: Mutex<State>,
    changed: Condvar,
    changes: AtomicU32,
    wake: Wake,
    relay_target: Mutex<Option<Arc<dyn Interrupt>>>,
    relay_stop: Wake,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Link {
    /// Makes the socket (when listening) and starts the link's threads.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start_link(name: &str, config: &NicConfig, ram: GuestRam) -> Result<Arc<Self>> {
        let listener = match &config.socket {
            VhostUserSocket::Listen(path) => {
                let listener = poll::listen(path)?;
                listener
                    .set_nonblocking(true)
                    .context(|| format!("socket {}", path.display()))?;
                Some(listener)
            }
            VhostUserSocket::Connect(_) => None,
        };
        let count = usize::from(2 * config.queue_pairs);
        let fds = || (0..count).map(|_| eventfd()).collect::<Result<Vec<_>>>();
        let link = Arc::new(Link {
            name: name.to_owned(),
            socket: config.socket.clone(),
            pairs: config.queue_pairs,
            ram,
            kicks: fds()?,
            calls: fds()?,
            state: Mutex::default(),
            changed: Condvar::new(),
            changes: AtomicU32::new(0),
            wake: Wake::new()?,
            relay_target: Mutex::new(None),
            relay_stop: Wake::new()?,
            threads: Mutex::default(),
        });
        let worker = Worker {
            link: link.clone(),
            listener,
            active: None,
        };
        let link_thread = spawn("vhost-user", move || worker.run())?;
        let relayed = link.clone();
        let relay_thread = spawn("vhost-call", move || {
            if let Err(e) = relayed.relay() {
                warn!("{}: interrupts stopped: {e}", relayed.name);
            }
        })?;
        lock(&link.threads).extend([link_thread, relay_thread]);
        Ok(link)
    }

    /// The eventfds that tell the switch of new buffers, one per data queue.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// How the link is doing.
    pub fn status(&self) -> LinkStatus {
        lock(&self.state).status.clone()
    }

    /// Whether the guest is to see a carrier.
    pub fn is_up(&self) -> bool {
        lock(&self.state).status.connected
    }

    /// A number that changes with the configuration space.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Waits until `deadline` for the first connection, then decides what the guest is offered:
    /// what the switch has, or the common denominator when there is none yet.
    pub fn freeze(&self, deadline: Instant, cancelled: impl Fn() -> bool) {
        let mut state = lock(&self.state);
        while state.offer.is_none() && !cancelled() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let tick = left.min(Duration::from_millis(100));
            state = self
                .changed
                .wait_timeout(state, tick)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        if state.offer.is_none() {
            warn!(
                "{}: no switch on {} yet; the guest starts with the common features only",
                self.name,
                self.socket.path().display()
            );
        }
        state.offer.get_or_insert(Offer {
            features: COMMON,
            pairs: 1,
            mtu: None,
        });
    }

    /// What the guest is offered.
    pub fn offer(&self) -> Offer {
        lock(&self.state).offer.unwrap_or(Offer {
            features: COMMON,
            pairs: 1,
            mtu: None,
        })
    }

    /// The driver is ready.
    pub(crate) fn start(&self, activation: Activation) {
        *lock(&self.relay_target) = Some(activation.interrupt.clone());
        self.command(Command::Start(activation));
    }

    /// The driver uses another number of queue pairs.
    pub(crate) fn set_pairs(&self, pairs: u16) {
        self.command(Command::Pairs(pairs));
    }

    /// The driver takes its queues back. When this returns the switch no longer touches them, or
    /// has lost its connection.
    pub(crate) fn stop(&self) {
        let (done, wait) = sync_channel(1);
        self.command(Command::Stop(done));
        if wait.recv_timeout(STOP_PATIENCE).is_err() {
            warn!(
                "{}: the switch does not stop its rings: disconnecting it",
                self.name
            );
            self.cut();
            let _ = wait.recv_timeout(STOP_PATIENCE);
        }
        *lock(&self.relay_target) = None;
    }

    /// Ends the link: its threads, its connection and its socket.
    pub(crate) fn quit(&self) {
        self.command(Command::Quit);
        // A switch that answers nothing must not keep us.
        let patience = Instant::now() + STOP_PATIENCE;
        let mut state = lock(&self.state);
        while state.status.running && Instant::now() < patience {
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(50))
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        drop(state);
        self.cut();
        self.relay_stop.wake();
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
        if let VhostUserSocket::Listen(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }

    fn cut(&self) {
        if let Some(stream) = &lock(&self.state).stream {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn command(&self, command: Command) {
        lock(&self.state).commands.push_back(command);
        self.wake.wake();
    }

    /// Changes the status and tells whoever waits for it.
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Relays calls of the switch as interrupts.
    fn relay(&self) -> Result<()> {
        let epoll = Epoll::new().context(|| "epoll".into())?;
        let all = self.calls.iter().map(AsRawFd::as_raw_fd);
        for (i, fd) in all.chain([self.relay_stop.as_raw_fd()]).enumerate() {
            epoll
                .ctl(
                    ControlOperation::Add,
                    fd,
                    EpollEvent::new(EventSet::IN, i as u64),
                )
                .context(|| "epoll".into())?;
        }
        let mut events = vec![EpollEvent::default(); self.calls.len() + 1];
        loop {
            let n = match epoll.wait(-1, &mut events) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).context(|| "epoll".into()),
            };
            for event in &events[..n] {
                let index = event.data() as usize;
                let Some(call) = self.calls.get(index) else {
                    return Ok(());
                };
                if call.read().is_ok()
                    && let Some(target) = &*lock(&self.relay_target)
                {
                    target.queue(index as u16);
                }
            }
        }
    }
}

/// How a session ended.
enum End {
    Lost,
    Quit,
}

/// The thread that talks to the switch.
struct Worker {
    link: Arc<Link>,
    listener: Option<UnixListener>,
    active: Option<Activation>,
}

/// A negotiated connection.
struct Session {
    frontend: Frontend,
    protocol: bool,
    features: u64,
}

impl Worker {
    fn run(mut self) {
        let link = self.link.clone();
        while let Some(stream) = self.connection() {
            let session = self.session(stream);
            let was_up = link.status().connected;
            link.update(|s| {
                s.stream = None;
                s.status.connected = false;
                s.status.running = false;
                s.status.error = session.as_ref().err().map(ToString::to_string);
            });
            if was_up {
                self.carrier_changed();
            }
            match session {
                Ok(End::Quit) => break,
                Ok(End::Lost) => info!("{}: the switch has gone", link.name),
                Err(e) => {
                    warn!("{}: {e}", link.name);
                    if !self.pause(RETRY) {
                        break;
                    }
                }
            }
        }
        // Whoever waits for an answer must not wait longer.
        link.update(|s| {
            s.status.running = false;
            s.commands.clear();
        });
    }

    /// Waits for a connection; `None` when the link is to end.
    fn connection(&mut self) -> Option<UnixStream> {
        loop {
            if !self.commands_offline() {
                return None;
            }
            match (&self.listener, &self.link.socket) {
                (Some(listener), _) => {
                    let fds = [
                        (self.link.wake.as_raw_fd(), libc::POLLIN),
                        (listener.as_raw_fd(), libc::POLLIN),
                    ];
                    if let Err(e) = poll::poll(fds, None) {
                        warn!("{}: {e}", self.link.name);
                        return None;
                    }
                    if let Ok((stream, _)) = listener.accept()
                        && stream.set_nonblocking(false).is_ok()
                    {
                        return Some(stream);
                    }
                }
                (None, socket) => {
                    if let Ok(stream) = UnixStream::connect::<&Path>(socket.path()) {
                        return Some(stream);
                    }
                    if !self.pause(RETRY) {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits a while, obeying commands; `false` when the link is to end.
    fn pause(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let fds = [(self.link.wake.as_raw_fd(), libc::POLLIN)];
            if poll::poll(fds, Some(left)).is_err() || !self.commands_offline() {
                return false;
            }
        }
        true
    }

    /// Obeys commands while there is no connection.
    fn commands_offline(&mut self) -> bool {
        self.link.wake.clear();
        loop {
            let command = lock(&self.link.state).commands.pop_front();
            match command {
                None => return true,
                Some(Command::Start(activation)) => self.active = Some(activation),
                Some(Command::Pairs(pairs)) => {
                    if let Some(active) = &mut self.active {
                        active.pairs = pairs;
                    }
                }
                Some(Command::Stop(done)) => {
                    self.active = None;
                    let _ = done.send(());
                }
                Some(Command::Quit) => return false,
            }
        }
    }

    fn carrier_changed(&self) {
        self.link.changes.fetch_add(1, Ordering::AcqRel);
        if let Some(active) = &self.active
            && active.config_changes
        {
            active.interrupt.config();
        }
    }

    /// A connection from its first message to its end.
    fn session(&mut self, stream: UnixStream) -> Result<End> {
        let link = self.link.clone();
        let for_cutting = stream.try_clone().context(|| "vhost-user socket".into())?;
        link.update(|s| s.stream = Some(for_cutting));
        let own = stream.try_clone().context(|| "vhost-user socket".into())?;
        let mut session = self.negotiate(own)?;
        link.update(|s| {
            s.status.connected = true;
            s.status.connections += 1;
            s.status.error = None;
        });
        info!(
            "{}: connected to the switch, features {:#x}",
            link.name, session.features
        );
        if self.active.is_some() {
            self.start_rings(&mut session)?;
        }
        self.carrier_changed();
        loop {
            link.wake.clear();
            loop {
                let command = lock(&link.state).commands.pop_front();
                match command {
                    None => break,
                    Some(Command::Start(activation)) => {
                        self.active = Some(activation);
                        self.start_rings(&mut session)?;
                    }
                    Some(Command::Pairs(pairs)) => {
                        if let Some(active) = &mut self.active {
                            active.pairs = pairs;
                            enable(active, &mut session)?;
                        }
                    }
                    Some(Command::Stop(done)) => {
                        let stopped = self.stop_rings(&mut session);
                        self.active = None;
                        if stopped.is_err() {
                            link.cut();
                        }
                        let _ = done.send(());
                        stopped?;
                    }
                    Some(Command::Quit) => {
                        let _ = self.stop_rings(&mut session);
                        return Ok(End::Quit);
                    }
                }
            }
            let fds = [
                (link.wake.as_raw_fd(), libc::POLLIN),
                (stream.as_raw_fd(), libc::POLLIN | libc::POLLRDHUP),
            ];
            let [_, ready] = poll::poll(fds, None).context(|| "vhost-user socket".into())?;
            if ready & (libc::POLLHUP | libc::POLLRDHUP | libc::POLLERR) != 0 {
                return Ok(End::Lost);
            }
            if ready != 0 {
                return Err(Error::VhostUser(
                    "the switch sent a message nobody asked for".into(),
                ));
            }
        }
    }

    fn negotiate(&self, stream: UnixStream) -> Result<Session> {
        let link = &self.link;
        let mut frontend = Frontend::from_stream(stream, u64::from(2 * link.pairs));
        let features = frontend.get_features().map_err(failed("GET_FEATURES"))?;
        if features & feature::VERSION_1 == 0 {
            return Err(Error::VhostUser(format!(
                "the switch offers features {features:#x} without VIRTIO_F_VERSION_1"
            )));
        }
        let protocol = features & PROTOCOL_FEATURES != 0;
        let mut pairs = 1;
        let mut mtu = None;
        if protocol {
            let offered = frontend
                .get_protocol_features()
                .map_err(failed("GET_PROTOCOL_FEATURES"))?;
            let wanted = Proto::MQ | Proto::REPLY_ACK | Proto::CONFIG;
            let common = offered & wanted;
            frontend
                .set_protocol_features(common)
                .map_err(failed("SET_PROTOCOL_FEATURES"))?;
            if common.contains(Proto::REPLY_ACK) {
                frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
            if common.contains(Proto::MQ) {
                // For network devices this number counts pairs, as QEMU and DPDK have it.
                let max = frontend.get_queue_num().map_err(failed("GET_QUEUE_NUM"))?;
                pairs = u64::from(link.pairs).min(max).max(1) as u16;
            }
            if common.contains(Proto::CONFIG) && features & feature::MTU != 0 {
                let (_, space) = frontend
                    .get_config(0, 12, VhostUserConfigFlags::empty(), &[0; 12])
                    .map_err(failed("GET_CONFIG"))?;
                mtu = match space[..] {
                    [.., low, high] => Some(u16::from_le_bytes([low, high])).filter(|&m| m >= 68),
                    _ => None,
                };
            }
        }
        frontend.set_owner().map_err(failed("SET_OWNER"))?;
        let have = Offer {
            features: features & PASSED,
            pairs,
            mtu,
        };
        let mut needed = None;
        link.update(|s| needed = Some(*s.offer.get_or_insert(have)));
        if let Some(offer) = needed {
            // What the guest uses, or may choose to use, must be there after a restart too.
            let used = self.active.as_ref().map_or(offer.features, |a| a.features);
            let missing = used & !features;
            if missing != 0 || offer.pairs > pairs {
                return Err(Error::VhostUser(format!(
                    "the switch came back without features {missing:#x} or with {pairs} queue \
                     pairs instead of {}, which the guest uses; it must be restarted to go on",
                    offer.pairs
                )));
            }
        }
        Ok(Session {
            frontend,
            protocol,
            features,
        })
    }

    /// Hands the rings over.
    fn start_rings(&mut self, session: &mut Session) -> Result<()> {
        let link = self.link.clone();
        let Some(active) = &self.active else {
            return Ok(());
        };
        let f = &mut session.frontend;
        let mut features = active.features & session.features;
        if session.protocol {
            features |= PROTOCOL_FEATURES;
        }
        f.set_features(features).map_err(failed("SET_FEATURES"))?;
        f.set_mem_table(&link.ram.vhost_regions()?)
            .map_err(failed("SET_MEM_TABLE"))?;
        for (i, queue) in active.queues.iter().enumerate().filter(|(_, q)| q.ready) {
            let host = |addr, len| {
                link.ram
                    .host_address(addr, len)
                    .ok_or_else(|| Error::VhostUser(format!("ring {i} is not in memory")))
            };
            let size = u64::from(queue.size);
            let rings = VringConfigData {
                queue_max_size: QUEUE_SIZE,
                queue_size: queue.size,
                flags: 0,
                desc_table_addr: host(queue.desc, 16 * size)?,
                used_ring_addr: host(queue.used, 6 + 8 * size)?,
                avail_ring_addr: host(queue.avail, 6 + 2 * size)?,
                log_addr: None,
            };
            // Where to go on: zero for a fresh ring, and where it was for one in use.
            let base: u16 = link
                .ram
                .mem()
                .load(GuestAddress(queue.used + 2), Ordering::Acquire)
                .map_err(|e| Error::VhostUser(format!("ring {i}: {e}")))?;
            f.set_vring_num(i, queue.size)
                .map_err(failed("SET_VRING_NUM"))?;
            f.set_vring_base(i, base)
                .map_err(failed("SET_VRING_BASE"))?;
            f.set_vring_addr(i, &rings)
                .map_err(failed("SET_VRING_ADDR"))?;
            f.set_vring_call(i, &link.calls[i])
                .map_err(failed("SET_VRING_CALL"))?;
            f.set_vring_kick(i, &link.kicks[i])
                .map_err(failed("SET_VRING_KICK"))?;
        }
        enable(active, session)?;
        // Either side may have waited for the other while there was nobody.
        for (i, _) in active.queues.iter().enumerate().filter(|(_, q)| q.ready) {
            let _ = link.kicks[i].write(1);
            active.interrupt.queue(i as u16);
        }
        link.update(|s| s.status.running = true);
        info!("{}: rings started", link.name);
        Ok(())
    }

    /// Takes the rings back: when GET_VRING_BASE is answered the switch has stopped.
    fn stop_rings(&mut self, session: &mut Session) -> Result<()> {
        let running = self.link.status().running;
        if let Some(active) = self.active.as_ref().filter(|_| running) {
            for (i, _) in active.queues.iter().enumerate().filter(|(_, q)| q.ready) {
                session
                    .frontend
                    .get_vring_base(i)
                    .map_err(failed("GET_VRING_BASE"))?;
            }
        }
        self.link.update(|s| s.status.running = false);
        Ok(())
    }
}

/// Enables the rings of the pairs in use and disables the others.
fn enable(active: &Activation, session: &mut Session) -> Result<()> {
    if !session.protocol {
        // Without protocol features rings are born enabled.
        return Ok(());
    }
    for (i, _) in active.queues.iter().enumerate().filter(|(_, q)| q.ready) {
        session
            .frontend
            .set_vring_enable(i, i < usize::from(2 * active.pairs))
            .map_err(failed("SET_VRING_ENABLE"))?;
    }
    Ok(())
}

fn failed(what: &'static str) -> impl Fn(vhost::Error) -> Error {
    move |e| Error::VhostUser(format!("{what}: {e}"))
}
