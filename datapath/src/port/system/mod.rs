//! `system`: an interface that exists without us (a network card, a veth), by a packet socket.
//!
//! The interface is promiscuous as long as the port is open; address and MTU, where we changed them, are put back when it
//! closes. If the interface vanishes the port stays, with the reason in its status, and takes up the next
//! interface of that name.
//!
//! Threads: the forwarding thread reads and writes the socket; whoever asks for the status asks the kernel, and replaces the
//! socket when the interface behind the name is another one. The forwarding thread notices by a generation number.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use openflow::MacAddr;
use parking_lot::Mutex;

use super::tap::{FRAME_EXTRA, Patience};
use super::{
    InterfaceConfig, LinkResets, OpenPort, Port, PortContext, PortError, PortStatus, RxQueue,
    TxOutcome, TxQueue,
};
use crate::packet::{Batch, OwnedPacket};
use crate::sys::event::Epoll;
use crate::sys::frames::{FrameReader, FrameWriter};
use crate::sys::link::{Driver, LinkState, Links};
use crate::sys::packet_socket::PacketSocket;

#[derive(Debug)]
struct Device {
    /// None while there is no interface of the name.
    socket: Option<Arc<PacketSocket>>,
    state: Option<LinkState>,
    /// Why there is no socket.
    problem: Option<String>,
    driver: Option<Driver>,
    /// Dropped by the kernel, over all sockets.
    dropped: u64,
}

#[derive(Debug)]
struct Shared {
    name: String,
    links: Links,
    device: Mutex<Device>,
    /// Holds the socket in use, so that a sleeping thread need not know when it is replaced.
    epoll: Epoll,
    /// Changes with `device.socket`.
    generation: AtomicU64,
    max_frame: AtomicUsize,
    bad: AtomicU64,
    resets: LinkResets,
    changes: AtomicU64,
    /// Address and MTU to put back when closing.
    original: Mutex<(Option<[u8; 6]>, Option<u32>)>,
}

/// What to do about the errors that opening usually meets.
fn explain(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "open a packet socket (needs CAP_NET_RAW)",
        _ => "open network device",
    }
}

impl Shared {
    fn error(&self, what: &str, source: io::Error) -> PortError {
        PortError::System {
            name: self.name.clone(),
            what: what.into(),
            source,
        }
    }

    /// Asks the kernel, notes what changed, and takes up a new interface of the name.
    fn refresh(&self) -> Option<LinkState> {
        let now = self.links.state(&self.name);
        let mut device = self.device.lock();
        if let Ok(state) = &now
            && device
                .socket
                .as_ref()
                .is_none_or(|s| s.index() != state.index)
        {
            let opened = PacketSocket::open(state.index);
            device.problem = opened
                .as_ref()
                .err()
                .map(|e| format!("{}: {}: {e}", self.name, explain(e)));
            self.replace(&mut device, opened.ok());
            device.driver = self.links.driver(&self.name);
        }
        if let Err(e) = &now
            && device.socket.is_some()
        {
            device.problem = Some(format!(
                "{}: the interface was deleted or renamed: {e}",
                self.name
            ));
            self.replace(&mut device, None);
        }
        let now = now.ok();
        if device.state != now {
            let running = |s: &Option<LinkState>| s.is_some_and(|s| s.running);
            if running(&device.state) != running(&now) {
                self.resets.add();
            }
            if let Some(state) = now {
                self.max_frame
                    .store(state.mtu as usize + FRAME_EXTRA, Ordering::Relaxed);
            }
            self.changes.fetch_add(1, Ordering::Relaxed);
            device.state = now;
        }
        now
    }

    fn replace(&self, device: &mut Device, socket: Option<PacketSocket>) {
        if let Some(old) = &device.socket {
            device.dropped += old.dropped();
            // A queue may still hold it; what it says is of no interest any more.
            let _ = self.epoll.remove(old.as_raw_fd());
        }
        if let Some(new) = &socket
            && let Err(e) = self.epoll.add(new.as_raw_fd(), 0)
        {
            device.problem = Some(format!("{}: epoll: {e}", self.name));
        }
        device.socket = socket.map(Arc::new);
        self.generation.fetch_add(1, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn apply(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        let state = self
            .links
            .state(&self.name)
            .map_err(|e| self.error("look at the interface", e))?;
        let mut original = self.original.lock();
        if let Some(mac) = config.mac
            && mac.0 != state.mac
        {
            self.links
                .set_mac(&self.name, mac.0)
                .map_err(|e| self.error(&format!("set address {mac}"), e))?;
            original.0.get_or_insert(state.mac);
        }
        if let Some(mtu) = config.mtu_request.map(u32::from)
            && mtu != state.mtu
        {
            self.links
                .set_mtu(&self.name, mtu)
                .map_err(|e| self.error(&format!("set MTU {mtu}"), e))?;
            original.1.get_or_insert(state.mtu);
        }
        drop(original);
        self.refresh();
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The interface may be gone, and then nothing is to be put back.
        let (mac, mtu) = *self.original.lock();
        if let Some(mac) = mac {
            let _ = self.links.set_mac(&self.name, mac);
        }
        if let Some(mtu) = mtu {
            let _ = self.links.set_mtu(&self.name, mtu);
        }
    }
}

fn check_options(config: &InterfaceConfig) -> Result<(), PortError> {
    match config.options.keys().next() {
        None => Ok(()),
        Some(option) => Err(PortError::Option {
            name: config.name.clone(),
            option: option.clone(),
            problem: "type system takes no options".into(),
        }),
    }
}

/// Opens a port of type `system` or of no type.
pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    check_options(config)?;
    let error = |what: &'static str| {
        |source| PortError::System {
            name: config.name.clone(),
            what: what.into(),
            source,
        }
    };
    let links = Links::new().map_err(error("socket"))?;
    let state = links
        .state(&config.name)
        .map_err(error("open network device"))?;
    let socket = PacketSocket::open(state.index).map_err(|e| error(explain(&e))(e))?;
    let driver = links.driver(&config.name);
    let epoll = Epoll::new().map_err(error("epoll"))?;
    epoll.add(socket.as_raw_fd(), 0).map_err(error("epoll"))?;
    let shared = Arc::new(Shared {
        name: config.name.clone(),
        links,
        epoll,
        device: Mutex::new(Device {
            socket: Some(Arc::new(socket)),
            state: Some(state),
            problem: None,
            driver,
            dropped: 0,
        }),
        generation: AtomicU64::new(0),
        max_frame: AtomicUsize::new(state.mtu as usize + FRAME_EXTRA),
        bad: AtomicU64::new(0),
        resets: LinkResets::new(context),
        changes: AtomicU64::new(0),
        original: Mutex::new((None, None)),
    });
    shared.apply(config)?;
    let rx = Rx {
        socket: Socket::new(&shared),
        reader: FrameReader::new(),
        patience: Patience::default(),
    };
    let tx = Tx {
        socket: Socket::new(&shared),
        writer: FrameWriter::new(),
    };
    Ok(OpenPort {
        port: Arc::new(Control(shared)),
        rx: vec![Box::new(rx)],
        tx: vec![Box::new(tx)],
    })
}

struct Control(Arc<Shared>);

impl Port for Control {
    fn status(&self) -> PortStatus {
        let state = self.0.refresh();
        let device = self.0.device.lock();
        let mut status = BTreeMap::new();
        if let Some(driver) = &device.driver {
            status.insert("driver_name".to_owned(), driver.name.clone());
            status.insert("driver_version".to_owned(), driver.version.clone());
            status.insert("firmware_version".to_owned(), driver.firmware.clone());
        }
        let error = device.problem.clone();
        drop(device);
        let Some(state) = state else {
            return PortStatus {
                status,
                error,
                ..PortStatus::default()
            };
        };
        PortStatus {
            link_up: state.running,
            admin_up: state.up,
            mac: Some(MacAddr(state.mac)),
            mtu: state.mtu,
            speed_kbps: self.0.links.speed_kbps(&self.0.name).unwrap_or(0),
            ifindex: Some(state.index),
            status,
            error,
        }
    }

    fn set_config(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        check_options(config)?;
        self.0.apply(config)
    }

    fn link_resets(&self) -> u64 {
        self.0.refresh();
        self.0.resets.get()
    }

    fn link_resets_seen(&self) -> u64 {
        self.0.resets.get()
    }

    fn change_count(&self) -> u64 {
        self.0.refresh();
        self.0.changes.load(Ordering::Relaxed)
    }

    fn set_admin_up(&self, up: bool) -> Result<(), PortError> {
        let what = if up { "set up" } else { "set down" };
        self.0
            .links
            .set_up(&self.0.name, up)
            .map_err(|e| self.0.error(what, e))?;
        self.0.refresh();
        Ok(())
    }

    fn extra_stats(&self) -> BTreeMap<String, u64> {
        let mut device = self.0.device.lock();
        if let Some(socket) = device.socket.clone() {
            device.dropped += socket.dropped();
        }
        BTreeMap::from([
            ("rx_missed_errors".to_owned(), device.dropped),
            (
                "rx_malformed".to_owned(),
                self.0.bad.load(Ordering::Relaxed),
            ),
        ])
    }
}

/// A queue's view of the socket that is in use now.
struct Socket {
    shared: Arc<Shared>,
    generation: u64,
    current: Option<Arc<PacketSocket>>,
}

impl Socket {
    fn new(shared: &Arc<Shared>) -> Socket {
        let device = shared.device.lock();
        let generation = shared.generation.load(Ordering::Acquire);
        Socket {
            shared: shared.clone(),
            generation,
            current: device.socket.clone(),
        }
    }

    fn fd(&mut self) -> Option<RawFd> {
        if self.shared.generation.load(Ordering::Acquire) != self.generation {
            // Somebody may hold the lock while asking the kernel; then the old socket does for a moment.
            if let Some(device) = self.shared.device.try_lock() {
                self.generation = self.shared.generation.load(Ordering::Acquire);
                self.current = device.socket.clone();
            }
        }
        self.current.as_ref().map(|s| s.as_raw_fd())
    }
}

struct Rx {
    socket: Socket,
    reader: FrameReader,
    patience: Patience,
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if !self.patience.is_due() {
            return 0;
        }
        // Errors say that the interface went down or away: the status tells, and reading the error clears it.
        let n = match self.socket.fd() {
            Some(fd) => self.reader.read_socket(fd, batch).unwrap_or(0),
            None => 0,
        };
        self.socket
            .shared
            .bad
            .store(self.reader.bad(), Ordering::Relaxed);
        self.patience.found(n);
        n
    }

    fn release(&mut self) {}

    fn arm(&mut self) -> bool {
        self.patience.reset();
        // The socket is readable as long as a frame waits; only a new socket has to be noticed first.
        self.socket.fd();
        false
    }

    fn disarm(&mut self) {
        self.patience.reset();
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.socket.shared.epoll.as_raw_fd())
    }
}

struct Tx {
    socket: Socket,
    writer: FrameWriter,
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        let max_frame = self.socket.shared.max_frame.load(Ordering::Relaxed);
        match self.socket.fd() {
            Some(fd) => self
                .writer
                .write_socket(fd, batch, which, max_frame, &mut out),
            None => out.down = which.len() as u32,
        }
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        let max_frame = self.socket.shared.max_frame.load(Ordering::Relaxed);
        match self.socket.fd() {
            Some(fd) => self
                .writer
                .write_socket_owned(fd, packet, max_frame, &mut out),
            None => out.down = 1,
        }
        out
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests;
