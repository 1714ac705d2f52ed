//! An interface that exists without us, whichever way its frames are had: what `system` and `afxdp` have in common.
//!
//! Address and MTU, where we changed them, are put back when the port closes. If the interface vanishes the port stays, with
//! the reason in its status, and takes up the next interface of that name.
//!
//! Threads: forwarding threads use the sockets; whoever asks for the status asks the kernel, and replaces the sockets
//! when the interface behind the name is another one. Forwarding threads notice by a generation number ([`Hold`]).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use openflow::MacAddr;
use parking_lot::Mutex;

use super::{InterfaceConfig, LinkResets, Port, PortContext, PortError, PortStatus};
use crate::sys::event::Epoll;
use crate::sys::link::{Driver, LinkState, Links};

/// What a frame may have beyond the MTU: Ethernet header and two VLAN tags.
pub(super) const FRAME_EXTRA: usize = 14 + 8;
/// Most receive queues of a port.
pub(super) const QUEUES_MAX: usize = 64;

/// What was tried in vain, and the reason.
pub(super) type Refusal = (String, io::Error);

/// How an interface's frames are had: all of its sockets.
pub(super) trait Attachment: Send + Sync + Sized + 'static {
    /// What the configuration says of it.
    type Wanted: Send + Sync;
    /// Attaches to an interface, with as many receive queues.
    fn open(state: &LinkState, queues: usize, wanted: &Self::Wanted) -> Result<Self, Refusal>;
    /// The descriptor that is readable as long as a frame waits in a queue.
    fn wake_fd(&self, queue: usize) -> RawFd;
    /// Frames dropped by the kernel because we were too slow, since the last call.
    fn dropped(&self) -> u64;
    /// The link went up or down.
    fn link_changed(&self) {}
    /// For the `status` column.
    fn describe(&self, _status: &mut BTreeMap<String, String>) {}
    /// Counters of its own.
    fn count(&self, _counters: &mut BTreeMap<String, u64>) {}
}

struct Inner<A> {
    /// None while there is no interface of the name.
    attachment: Option<Arc<A>>,
    state: Option<LinkState>,
    /// Why there is none.
    problem: Option<String>,
    driver: Option<Driver>,
    /// Dropped by the kernel, over all attachments.
    dropped: u64,
}

/// What a receive queue counts, written by it alone.
#[derive(Default)]
pub(super) struct Counts {
    /// Frames that could not be used.
    pub bad: AtomicU64,
    /// Frames that there was no room for.
    pub missed: AtomicU64,
}

/// An interface and how it is held.
pub(super) struct Device<A: Attachment> {
    name: String,
    links: Links,
    wanted: A::Wanted,
    inner: Mutex<Inner<A>>,
    /// Each queue's holds the descriptor in use, so that a sleeping thread need not know when it is replaced.
    epolls: Vec<Epoll>,
    /// Changes with `inner.attachment`.
    generation: AtomicU64,
    max_frame: AtomicUsize,
    counts: Vec<Counts>,
    resets: LinkResets,
    changes: AtomicU64,
    /// Address and MTU to put back when closing.
    original: Mutex<(Option<[u8; 6]>, Option<u32>)>,
}

impl<A: Attachment> Device<A> {
    /// Takes hold of the interface that `config` names, which must be there.
    pub(super) fn open(
        config: &InterfaceConfig,
        context: &PortContext,
        wanted: A::Wanted,
    ) -> Result<Arc<Device<A>>, PortError> {
        let error = |what: &str, source| PortError::System {
            name: config.name.clone(),
            what: what.into(),
            source,
        };
        let links = Links::new().map_err(|e| error("socket", e))?;
        let state = links
            .state(&config.name)
            .map_err(|e| error("open network device", e))?;
        let queues = usize::from(config.n_rxq.unwrap_or(1)).clamp(1, QUEUES_MAX);
        let attachment = A::open(&state, queues, &wanted).map_err(|(what, e)| error(&what, e))?;
        let epolls: io::Result<_> = (0..queues).map(|_| Epoll::new()).collect();
        let device = Arc::new(Device {
            name: config.name.clone(),
            wanted,
            inner: Mutex::new(Inner {
                attachment: None,
                state: Some(state),
                problem: None,
                driver: links.driver(&config.name),
                dropped: 0,
            }),
            links,
            epolls: epolls.map_err(|e| error("epoll", e))?,
            generation: AtomicU64::new(0),
            max_frame: AtomicUsize::new(state.mtu as usize + FRAME_EXTRA),
            counts: (0..queues).map(|_| Counts::default()).collect(),
            resets: LinkResets::new(context),
            changes: AtomicU64::new(0),
            original: Mutex::new((None, None)),
        });
        device.replace(&mut device.inner.lock(), Some(attachment));
        device.apply(config)?;
        Ok(device)
    }

    /// How many receive queues it has.
    pub(super) fn queues(&self) -> usize {
        self.epolls.len()
    }

    /// What is to be waited for while a queue sleeps.
    pub(super) fn wake_fd(&self, queue: usize) -> RawFd {
        self.epolls[queue].as_raw_fd()
    }

    /// Longest frame that the interface carries, in bytes from the Ethernet header on.
    pub(super) fn max_frame(&self) -> usize {
        self.max_frame.load(Ordering::Relaxed)
    }

    /// What a receive queue counted so far.
    pub(super) fn tell(&self, queue: usize, bad: u64, missed: u64) {
        let counts = &self.counts[queue];
        counts.bad.store(bad, Ordering::Relaxed);
        counts.missed.store(missed, Ordering::Relaxed);
    }

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
        let mut inner = self.inner.lock();
        if let Ok(state) = &now
            && (inner.attachment.is_none()
                || inner.state.is_some_and(|old| old.index != state.index))
        {
            // The old one first: its hold on the name's queues must have ended.
            self.replace(&mut inner, None);
            let opened = A::open(state, self.queues(), &self.wanted);
            inner.problem = opened
                .as_ref()
                .err()
                .map(|(what, e)| format!("{}: {what}: {e}", self.name));
            self.replace(&mut inner, opened.ok());
            inner.driver = self.links.driver(&self.name);
        }
        if let Err(e) = &now
            && inner.attachment.is_some()
        {
            inner.problem = Some(format!(
                "{}: the interface was deleted or renamed: {e}",
                self.name
            ));
            self.replace(&mut inner, None);
        }
        let now = now.ok();
        if inner.state != now {
            let running = |s: &Option<LinkState>| s.is_some_and(|s| s.running);
            if running(&inner.state) != running(&now) {
                self.resets.add();
                if let Some(attachment) = &inner.attachment {
                    attachment.link_changed();
                }
            }
            if let Some(state) = now {
                self.max_frame
                    .store(state.mtu as usize + FRAME_EXTRA, Ordering::Relaxed);
            }
            self.changes.fetch_add(1, Ordering::Relaxed);
            inner.state = now;
        }
        now
    }

    fn replace(&self, inner: &mut Inner<A>, next: Option<A>) {
        if inner.attachment.is_none() && next.is_none() {
            return;
        }
        if let Some(old) = inner.attachment.take() {
            inner.dropped += old.dropped();
            for (queue, epoll) in self.epolls.iter().enumerate() {
                // A queue may still hold it; what it says is of no interest any more.
                let _ = epoll.remove(old.wake_fd(queue));
            }
        }
        if let Some(new) = &next {
            for (queue, epoll) in self.epolls.iter().enumerate() {
                if let Err(e) = epoll.add(new.wake_fd(queue), 0) {
                    inner.problem = Some(format!("{}: epoll: {e}", self.name));
                }
            }
        }
        inner.attachment = next.map(Arc::new);
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

impl<A: Attachment> Drop for Device<A> {
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

/// The control side.
pub(super) struct Control<A: Attachment> {
    /// The interface.
    pub device: Arc<Device<A>>,
    /// Whether another configuration can be had without opening anew.
    pub check: fn(&A::Wanted, &InterfaceConfig) -> Result<(), PortError>,
}

impl<A: Attachment> Port for Control<A> {
    fn status(&self) -> PortStatus {
        let state = self.device.refresh();
        let inner = self.device.inner.lock();
        let mut status = BTreeMap::new();
        if let Some(driver) = &inner.driver {
            status.insert("driver_name".to_owned(), driver.name.clone());
            status.insert("driver_version".to_owned(), driver.version.clone());
            status.insert("firmware_version".to_owned(), driver.firmware.clone());
        }
        if let Some(attachment) = &inner.attachment {
            attachment.describe(&mut status);
        }
        let error = inner.problem.clone();
        drop(inner);
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
            speed_kbps: self.device.links.speed_kbps(&self.device.name).unwrap_or(0),
            ifindex: Some(state.index),
            status,
            error,
        }
    }

    fn set_config(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        (self.check)(&self.device.wanted, config)?;
        self.device.apply(config)
    }

    fn link_resets(&self) -> u64 {
        self.device.refresh();
        self.device.resets.get()
    }

    fn link_resets_seen(&self) -> u64 {
        self.device.resets.get()
    }

    fn change_count(&self) -> u64 {
        self.device.refresh();
        self.device.changes.load(Ordering::Relaxed)
    }

    fn set_admin_up(&self, up: bool) -> Result<(), PortError> {
        let what = if up { "set up" } else { "set down" };
        self.device
            .links
            .set_up(&self.device.name, up)
            .map_err(|e| self.device.error(what, e))?;
        self.device.refresh();
        Ok(())
    }

    fn extra_stats(&self) -> BTreeMap<String, u64> {
        let mut inner = self.device.inner.lock();
        let mut counters = BTreeMap::new();
        if let Some(attachment) = inner.attachment.clone() {
            inner.dropped += attachment.dropped();
            attachment.count(&mut counters);
        }
        let sum = |of: fn(&Counts) -> &AtomicU64| -> u64 {
            let counts = self.device.counts.iter();
            counts.map(|c| of(c).load(Ordering::Relaxed)).sum()
        };
        let missed = inner.dropped + sum(|c| &c.missed);
        counters.insert("rx_missed_errors".to_owned(), missed);
        counters.insert("rx_malformed".to_owned(), sum(|c| &c.bad));
        counters
    }
}

/// A queue's view of the sockets that are in use now.
pub(super) struct Hold<A: Attachment> {
    /// The interface.
    pub device: Arc<Device<A>>,
    /// Its sockets, if it is there.
    pub current: Option<Arc<A>>,
    generation: u64,
}

impl<A: Attachment> Hold<A> {
    /// Of an interface as it is now.
    pub(super) fn new(device: &Arc<Device<A>>) -> Hold<A> {
        let inner = device.inner.lock();
        Hold {
            device: device.clone(),
            current: inner.attachment.clone(),
            generation: device.generation.load(Ordering::Acquire),
        }
    }

    /// Notices that there are other sockets now, and says so. Never waits.
    #[inline]
    pub(super) fn is_new(&mut self) -> bool {
        self.device.generation.load(Ordering::Acquire) != self.generation && self.renew()
    }

    #[cold]
    fn renew(&mut self) -> bool {
        // Somebody may hold the lock while asking the kernel; then the old sockets do for a moment.
        let Some(inner) = self.device.inner.try_lock() else {
            return false;
        };
        self.generation = self.device.generation.load(Ordering::Acquire);
        self.current.clone_from(&inner.attachment);
        true
    }
}
