//! The port of exact tests: frames are put in and taken out by the program itself.
//!
//! [`handle`] finds an open dummy port by its name; [`DummyHandle::inject`] queues a frame as if it had
//! come in, [`DummyHandle::take_sent`] returns what was sent. Both queues are bounded. Locks are fine
//! here: nobody measures a dummy.
//!
//! With `options:tx_pcap`, `rxq_pcap` or `pcap` frames are written to a capture file as they are sent, come in, or both; what
//! goes into a file of what is sent is not kept for [`DummyHandle::take_sent`].

use super::capture::{self, Captures};
use super::*;
use crate::packet::{Offload, segment};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Frames that wait to be received, or to be taken by the test; more are dropped.
pub const QUEUE: usize = 4096;

static OPEN: LazyLock<Mutex<HashMap<String, Arc<Shared>>>> = LazyLock::new(Mutex::default);

struct Shared {
    name: String,
    incoming: Mutex<VecDeque<OwnedPacket>>,
    waiting: AtomicU64,
    sent: Mutex<VecDeque<OwnedPacket>>,
    /// Offloads the test wants to see undone: software checksum and segmentation on the way out.
    plain: AtomicBool,
    up: AtomicBool,
    resets: LinkResets,
    config: Mutex<InterfaceConfig>,
    captures: Mutex<Captures>,
    wake: OwnedFd,
}

/// A test's hold on a dummy port.
#[derive(Clone)]
pub struct DummyHandle(Arc<Shared>);

/// The open dummy port of this name.
pub fn handle(name: &str) -> Option<DummyHandle> {
    OPEN.lock().get(name).cloned().map(DummyHandle)
}

impl DummyHandle {
    /// A frame comes in; `false` if the queue is full, or the frame shorter than an Ethernet header
    /// or longer than a packet can be.
    pub fn inject(&self, frame: &[u8], offload: Offload) -> bool {
        if !(14..=crate::packet::PACKET_MAX).contains(&frame.len()) {
            return false;
        }
        let mut q = self.0.incoming.lock();
        if q.len() >= QUEUE || !self.0.up.load(Ordering::Relaxed) {
            return false;
        }
        if let Some(file) = &self.0.captures.lock().rx {
            // A full disk loses frames, as a capture may.
            let _ = capture::append(file, frame);
        }
        q.push_back(OwnedPacket {
            bytes: frame.to_vec(),
            offload,
        });
        self.0.waiting.store(q.len() as u64, Ordering::Release);
        drop(q);
        let _ = rustix::io::write(&self.0.wake, &1u64.to_ne_bytes());
        true
    }

    /// Takes what was sent so far.
    pub fn take_sent(&self) -> Vec<OwnedPacket> {
        self.0.sent.lock().drain(..).collect()
    }

    /// Whether frames are segmented and their checksums filled in before they are kept (as on a wire),
    /// rather than kept with their offloads.
    pub fn set_plain(&self, plain: bool) {
        self.0.plain.store(plain, Ordering::Relaxed);
    }

    /// Sets the link up or down, as `netdev-dummy/set-admin-state` does.
    pub fn set_up(&self, up: bool) {
        if self.0.up.swap(up, Ordering::Relaxed) != up {
            self.0.resets.add();
        }
    }
}

pub(crate) fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    let known = |option: &&String| !capture::OPTIONS.contains(&option.as_str());
    if let Some(option) = config.options.keys().find(known) {
        return Err(PortError::Option {
            name: config.name.clone(),
            option: option.clone(),
            problem: "a dummy port takes pcap, rxq_pcap and tx_pcap".into(),
        });
    }
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|e| {
        PortError::System {
            name: config.name.clone(),
            what: "eventfd".into(),
            source: e.into(),
        }
    })?;
    let shared = Arc::new(Shared {
        name: config.name.clone(),
        incoming: Mutex::default(),
        waiting: AtomicU64::new(0),
        sent: Mutex::default(),
        plain: AtomicBool::new(false),
        up: AtomicBool::new(true),
        resets: LinkResets::new(context),
        config: Mutex::new(config.clone()),
        captures: Mutex::new(Captures::open(config)?),
        wake,
    });
    let mut open = OPEN.lock();
    if open.contains_key(&config.name) {
        return Err(PortError::Exists(config.name.clone()));
    }
    open.insert(config.name.clone(), shared.clone());
    Ok(OpenPort {
        port: Arc::new(Control(shared.clone())),
        rx: vec![Box::new(Rx {
            shared: shared.clone(),
            held: Vec::new(),
        })],
        tx: vec![Box::new(Tx {
            shared,
            scratch: Vec::new(),
        })],
    })
}

struct Control(Arc<Shared>);

impl Port for Control {
    fn status(&self) -> PortStatus {
        let config = self.0.config.lock();
        let up = self.0.up.load(Ordering::Relaxed);
        PortStatus {
            link_up: up,
            admin_up: up,
            mac: config.mac,
            mtu: config.mtu_request.unwrap_or(1500).into(),
            ..PortStatus::default()
        }
    }

    fn set_config(&self, config: &InterfaceConfig) -> Result<(), PortError> {
        let mut current = self.0.config.lock();
        if current.options != config.options {
            *self.0.captures.lock() = Captures::open(config)?;
        }
        *current = config.clone();
        Ok(())
    }

    fn link_resets(&self) -> u64 {
        self.0.resets.get()
    }

    fn set_admin_up(&self, up: bool) -> Result<(), PortError> {
        DummyHandle(self.0.clone()).set_up(up);
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let mut open = OPEN.lock();
        if open
            .get(&self.0.name)
            .is_some_and(|s| Arc::ptr_eq(s, &self.0))
        {
            open.remove(&self.0.name);
        }
    }
}

struct Rx {
    shared: Arc<Shared>,
    held: Vec<OwnedPacket>,
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if self.shared.waiting.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut q = self.shared.incoming.lock();
        let mut n = 0;
        while batch.room() > 0 {
            let Some(p) = q.pop_front() else { break };
            // SAFETY: the packet is held, its heap bytes unmoved, until `release()`; the batch is
            // cleared before it is used again.
            if unsafe { batch.push_borrowed(&p) } {
                n += 1;
            }
            self.held.push(p);
        }
        self.shared.waiting.store(q.len() as u64, Ordering::Release);
        n
    }

    fn release(&mut self) {
        self.held.clear();
    }

    fn arm(&mut self) -> bool {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        self.shared.waiting.load(Ordering::Acquire) > 0
    }

    fn disarm(&mut self) {}

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.shared.wake.as_raw_fd())
    }
}

struct Tx {
    shared: Arc<Shared>,
    scratch: Vec<u8>,
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        for &i in which {
            let one = self.send_owned(&batch.to_owned(i.into()));
            out.packets += one.packets;
            out.bytes += one.bytes;
            out.full += one.full;
            out.down += one.down;
            out.error += one.error;
        }
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        if !self.shared.up.load(Ordering::Relaxed) {
            out.down = 1;
            return out;
        }
        if let Some(file) = self.shared.captures.lock().tx.clone() {
            let mut bytes = packet.bytes.clone();
            let each = |f: &[u8]| {
                let _ = capture::append(&file, f);
                out.packets += 1;
                out.bytes += f.len() as u64;
            };
            if segment::split(&mut bytes, &packet.offload, &mut self.scratch, each).is_err() {
                out.error = 1;
            }
            return out;
        }
        let mut sent = self.shared.sent.lock();
        if sent.len() >= QUEUE {
            out.full = 1;
            return out;
        }
        out.packets = 1;
        out.bytes = packet.bytes.len() as u64;
        if self.shared.plain.load(Ordering::Relaxed) {
            let mut bytes = packet.bytes.clone();
            let each = |f: &[u8]| sent.push_back(OwnedPacket::new(f));
            if segment::split(&mut bytes, &packet.offload, &mut self.scratch, each).is_err() {
                return TxOutcome {
                    error: 1,
                    ..TxOutcome::default()
                };
            }
        } else {
            sent.push_back(packet.clone());
        }
        out
    }

    fn flush(&mut self) {}
}
