//! `internal` and `tap`: an Ethernet interface of the kernel's whose other end is the switch.
//!
//! The interface is made when the port is opened (down, with the address asked for) and vanishes with the port. It leaves
//! checksums and TCP segmentation to us and takes them from us, so that a 64 KB frame passes as one either way. It may be moved
//! to another network namespace, a container's say, and renamed there.
//!
//! Threads: the forwarding thread reads and writes the tap's descriptor; whoever asks for the status asks the
//! kernel. While the tap is quiet and the thread is busy with others, it is looked at only every so many rounds, because an
//! empty look is a system call.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use openflow::MacAddr;
use parking_lot::Mutex;

use super::device::FRAME_EXTRA;
use super::{
    InterfaceConfig, LinkResets, OpenPort, Port, PortContext, PortError, PortStatus, RxQueue,
    TxOutcome, TxQueue,
};
use crate::packet::{Batch, OwnedPacket, VNET_HEADER};
use crate::sys::frames::{FrameReader, FrameWriter};
use crate::sys::link::{Driver, LinkState, Links};
use crate::sys::tun;

/// Most rounds between two looks at a quiet descriptor.
const MAX_SKIP: u32 = 16;

/// Looks at a descriptor less often while it has nothing.
#[derive(Debug, Default)]
pub(super) struct Patience {
    wait: u32,
    next: u32,
}

impl Patience {
    /// Whether to look this time.
    pub(super) fn is_due(&mut self) -> bool {
        if self.wait == 0 {
            return true;
        }
        self.wait -= 1;
        false
    }

    /// What the look found.
    pub(super) fn found(&mut self, n: usize) {
        self.next = if n > 0 {
            0
        } else {
            (self.next * 2 + 1).min(MAX_SKIP)
        };
        self.wait = self.next;
    }

    /// Look at once next time.
    pub(super) fn reset(&mut self) {
        *self = Patience::default();
    }
}

#[derive(Debug)]
struct Shared {
    name: String,
    tap: File,
    links: Links,
    /// The descriptor is of no use any more: somebody deleted the interface.
    gone: AtomicBool,
    max_frame: AtomicUsize,
    bad: AtomicU64,
    resets: LinkResets,
    changes: AtomicU64,
    last: Mutex<Option<LinkState>>,
    driver: Option<Driver>,
}

impl Shared {
    fn error(&self, what: &str, source: std::io::Error) -> PortError {
        PortError::System {
            name: self.name.clone(),
            what: what.into(),
            source,
        }
    }

    /// Asks the kernel about the interface, wherever it is.
    fn ask<T>(&self, what: impl Fn(&Links, &str) -> std::io::Result<T>) -> std::io::Result<T> {
        let answer = what(&self.links, &self.name);
        if answer.is_ok() || self.links.state(&self.name).is_ok() {
            return answer;
        }
        // Found anew each time: to hold on to the namespace would keep it from ending.
        match tun::whereabouts(&self.tap) {
            Ok((links, name)) => what(&links, &name),
            Err(_) => answer,
        }
    }

    /// Asks the kernel and notes what changed.
    fn refresh(&self) -> Option<LinkState> {
        let now = self.ask(Links::state).ok();
        let mut last = self.last.lock();
        if *last != now {
            let running = |s: &Option<LinkState>| s.is_some_and(|s| s.running);
            if running(&last) != running(&now) {
                self.resets.add();
            }
            if let Some(state) = now {
                self.max_frame
                    .store(state.mtu as usize + FRAME_EXTRA, Ordering::Relaxed);
            }
            self.changes.fetch_add(1, Ordering::Relaxed);
            *last = now;
        }
        now
    }

    fn apply(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        let state = self
            .ask(Links::state)
            .map_err(|e| self.error("look at the interface", e))?;
        if let Some(mac) = config.mac
            && mac.0 != state.mac
        {
            self.ask(|links, name| links.set_mac(name, mac.0))
                .map_err(|e| self.error(&format!("set address {mac}"), e))?;
        }
        if let Some(mtu) = config.mtu_request.map(u32::from)
            && mtu != state.mtu
        {
            self.ask(|links, name| links.set_mtu(name, mtu))
                .map_err(|e| self.error(&format!("set MTU {mtu}"), e))?;
        }
        self.refresh();
        Ok(())
    }
}

fn check_options(config: &InterfaceConfig) -> Result<(), PortError> {
    match config.options.keys().next() {
        None => Ok(()),
        Some(option) => Err(PortError::Option {
            name: config.name.clone(),
            option: option.clone(),
            problem: format!("type {} takes no options", config.kind),
        }),
    }
}

/// Opens a port of type `internal` or `tap`.
pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    check_options(config)?;
    let error = |what: &'static str| {
        |source| PortError::System {
            name: config.name.clone(),
            what: what.into(),
            source,
        }
    };
    let tap = tun::open_tap(&config.name, VNET_HEADER as i32).map_err(|e| {
        error(match e.raw_os_error() {
            Some(libc::EINVAL) => {
                "make the tap (is there an interface of this name that is no tap?)"
            }
            Some(libc::EBUSY) => "make the tap (another program uses the tap of this name)",
            Some(libc::EPERM) => "make the tap (needs CAP_NET_ADMIN)",
            _ => "make the tap",
        })(e)
    })?;
    let links = Links::new().map_err(error("socket"))?;
    let driver = links.driver(&config.name);
    let shared = Arc::new(Shared {
        name: config.name.clone(),
        tap,
        links,
        gone: AtomicBool::new(false),
        max_frame: AtomicUsize::new(1500 + FRAME_EXTRA),
        bad: AtomicU64::new(0),
        resets: LinkResets::new(context),
        changes: AtomicU64::new(0),
        last: Mutex::new(None),
        driver,
    });
    shared.apply(config)?;
    Ok(OpenPort {
        port: Arc::new(Control(shared.clone())),
        rx: vec![Box::new(Rx {
            shared: shared.clone(),
            reader: FrameReader::new(),
            patience: Patience::default(),
        })],
        tx: vec![Box::new(Tx {
            shared,
            writer: FrameWriter::new(),
        })],
    })
}

struct Control(Arc<Shared>);

impl Port for Control {
    fn status(&self) -> PortStatus {
        let shared = &self.0;
        let mut status = BTreeMap::new();
        if let Some(driver) = &shared.driver {
            status.insert("driver_name".to_owned(), driver.name.clone());
            status.insert("driver_version".to_owned(), driver.version.clone());
            status.insert("firmware_version".to_owned(), driver.firmware.clone());
        }
        let Some(state) = shared.refresh() else {
            let error = Some(format!(
                "{}: the interface was deleted or renamed",
                shared.name
            ));
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
            speed_kbps: shared.links.speed_kbps(&shared.name).unwrap_or(0),
            ifindex: Some(state.index),
            status,
            error: None,
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
        let shared = &self.0;
        shared
            .ask(|links, name| links.set_up(name, up))
            .map_err(|e| shared.error(if up { "set up" } else { "set down" }, e))?;
        shared.refresh();
        Ok(())
    }

    fn extra_stats(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([(
            "rx_malformed".to_owned(),
            self.0.bad.load(Ordering::Relaxed),
        )])
    }
}

struct Rx {
    shared: Arc<Shared>,
    reader: FrameReader,
    patience: Patience,
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if !self.patience.is_due() {
            return 0;
        }
        let n = match self.reader.read_tap(self.shared.tap.as_raw_fd(), batch) {
            Ok(n) => n,
            Err(e) => {
                if e.raw_os_error() == Some(libc::EBADFD) {
                    self.shared.gone.store(true, Ordering::Relaxed);
                }
                0
            }
        };
        self.shared.bad.store(self.reader.bad(), Ordering::Relaxed);
        self.patience.found(n);
        n
    }

    fn release(&mut self) {}

    fn arm(&mut self) -> bool {
        // The descriptor is readable as long as a frame waits: epoll returns at once.
        self.patience.reset();
        false
    }

    fn disarm(&mut self) {
        self.patience.reset();
    }

    fn wake_fd(&self) -> Option<RawFd> {
        // A deleted interface's descriptor is in error for ever and would never let the thread sleep.
        (!self.shared.gone.load(Ordering::Relaxed)).then(|| self.shared.tap.as_raw_fd())
    }
}

struct Tx {
    shared: Arc<Shared>,
    writer: FrameWriter,
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        let max_frame = self.shared.max_frame.load(Ordering::Relaxed);
        self.writer.write_tap(
            self.shared.tap.as_raw_fd(),
            batch,
            which,
            max_frame,
            &mut out,
        );
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        let max_frame = self.shared.max_frame.load(Ordering::Relaxed);
        self.writer
            .write_tap_owned(self.shared.tap.as_raw_fd(), packet, max_frame, &mut out);
        out
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests;
