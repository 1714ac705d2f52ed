//! The inner seam: what a kind of port must be able to do, whatever is behind it.
//!
//! A port is opened once ([`OpenPort`]) and comes apart in three: a control side ([`Port`], shared,
//! called from control threads), receive queues and transmit queues (each owned by one forwarding
//! thread at a time, so they need no locks of their own). Calls on queues are per batch, never per
//! packet.

pub mod afxdp;
mod capture;
mod device;
pub mod dummy;
mod pcap;
pub mod system;
pub mod tap;
#[cfg(test)]
mod testing;
pub mod tunnel;
pub mod vhost_user;

use crate::bridge::Epoch;
use crate::packet::{Batch, OwnedPacket};
use openflow::MacAddr;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where packets come in.
pub trait RxQueue: Send {
    /// Appends up to the room left in `batch`, says how many; never blocks. Borrowed segments stay
    /// valid until `release()`. What is malformed is dropped and counted by the queue.
    fn receive(&mut self, batch: &mut Batch) -> usize;
    /// The batch is finished with: gives descriptors or frames back to the sender, in bulk.
    fn release(&mut self);
    /// About to sleep: asks for notification, and says whether something came in meanwhile (then
    /// the thread must not sleep).
    fn arm(&mut self) -> bool;
    /// Awake again: no notifications wanted.
    fn disarm(&mut self);
    /// What to wait for in epoll while armed; `None` for nothing. It is waited for edge triggered and never read: each
    /// notification must signal it anew. Asked for whenever the queue was armed; may change, but not be closed before the
    /// queue is dropped.
    fn wake_fd(&self) -> Option<RawFd>;
}

/// What became of the packets given to a transmit queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOutcome {
    /// Packets sent.
    pub packets: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Dropped: the receiver had no room.
    pub full: u32,
    /// Dropped: longer than the port can carry.
    pub too_long: u32,
    /// Dropped: no receiver (link down, guest gone), or it misbehaved.
    pub down: u32,
    /// Dropped: the system call failed, or the frame could not be segmented.
    pub error: u32,
    /// Dropped: another thread was sending there, for too long for this one to hold more packets back.
    pub busy: u32,
}

impl TxOutcome {
    /// Adds what became of other packets.
    pub fn add(&mut self, other: TxOutcome) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.full += other.full;
        self.too_long += other.too_long;
        self.down += other.down;
        self.error += other.error;
        self.busy += other.busy;
    }
}

/// Where packets go out.
pub trait TxQueue: Send {
    /// Copies the packets `which` (indices into the batch) out; all bytes are read before it
    /// returns. What does not fit is dropped and counted. Fills in checksums and segments in
    /// software what the way out cannot.
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome;
    /// Sends one packet that owns its bytes.
    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome;
    /// Once per round: notifies the receiver unless it does not want to be.
    fn flush(&mut self);
    /// Whether `send` and `flush` would not have to wait for another thread that sends to the same place; holds on to it
    /// until the next of them.
    fn is_ready(&mut self) -> bool {
        true
    }
}

/// The control side of a port.
pub trait Port: Send + Sync {
    /// How it is now.
    fn status(&self) -> PortStatus;
    /// Applies a changed configuration without re-opening, or says why not.
    fn set_config(&self, config: &InterfaceConfig) -> Result<(), PortError>;
    /// How often the link went up or down.
    fn link_resets(&self) -> u64;
    /// The same as far as it was noticed: asks nobody. For every lookup of a flow that depends on the link.
    fn link_resets_seen(&self) -> u64 {
        self.link_resets()
    }
    /// Counters the kind keeps beside the common ones, by OVS's names (`rx_...`, `ovs_tx_...`).
    fn extra_stats(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
    /// Sets the device up or down (OpenFlow port-mod), where it is for us to do so.
    fn set_admin_up(&self, _up: bool) -> Result<(), PortError> {
        Ok(())
    }
    /// Changes whenever `status()` may have changed: the datapath compares it to tell the world.
    fn change_count(&self) -> u64 {
        self.link_resets()
    }
}

/// A port as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortStatus {
    /// Carrier.
    pub link_up: bool,
    /// Administratively up.
    pub admin_up: bool,
    /// Address in use.
    pub mac: Option<MacAddr>,
    /// Largest packet without the Ethernet header.
    pub mtu: u32,
    /// kbit/s, 0 if unknown.
    pub speed_kbps: u64,
    /// The kernel's number for the device.
    pub ifindex: Option<u32>,
    /// For the `status` column of `Interface`.
    pub status: BTreeMap<String, String>,
    /// For the `error` column.
    pub error: Option<String>,
}

/// What the database says of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// Its type as in the database; empty is `system`.
    pub kind: String,
    /// Its `options`.
    pub options: BTreeMap<String, String>,
    /// Address asked for.
    pub mac: Option<MacAddr>,
    /// MTU asked for.
    pub mtu_request: Option<u16>,
    /// Receive queues asked for.
    pub n_rxq: Option<u16>,
}

/// How often a port's link went up or down. Cached flows that depend on the link look again at every change.
#[derive(Debug)]
pub struct LinkResets {
    count: AtomicU64,
    epoch: Arc<Epoch>,
}

impl LinkResets {
    /// None so far.
    pub fn new(context: &PortContext) -> LinkResets {
        LinkResets {
            count: AtomicU64::new(0),
            epoch: context.epoch.clone(),
        }
    }

    /// So many.
    pub fn get(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One more.
    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.epoch.bump();
    }
}

/// What a port's constructor needs to know of the datapath.
#[derive(Clone, Debug)]
pub struct PortContext {
    /// Where sockets are made.
    pub run_dir: PathBuf,
    /// How many forwarding threads there are: the number of transmit queues that saves sharing.
    pub threads: usize,
    /// Counted up when links change.
    pub epoch: Arc<Epoch>,
}

/// A port that was opened.
pub struct OpenPort {
    /// The control side.
    pub port: Arc<dyn Port>,
    /// Receive queues, at least one unless nothing ever comes in.
    pub rx: Vec<Box<dyn RxQueue>>,
    /// Transmit queues, at least one. A thread uses the one of its own number modulo their count.
    pub tx: Vec<Box<dyn TxQueue>>,
}

impl std::fmt::Debug for OpenPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenPort(rx {}, tx {})", self.rx.len(), self.tx.len())
    }
}

/// Why a port cannot be.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// No such type.
    #[error("{name}: unknown interface type \"{kind}\"; known are {known}")]
    UnknownKind {
        /// The interface.
        name: String,
        /// The type given.
        kind: String,
        /// Those there are.
        known: &'static str,
    },
    /// An option is wrong, missing or unknown.
    #[error("{name}: option {option}: {problem}")]
    Option {
        /// The interface.
        name: String,
        /// Its option.
        option: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The system refused.
    #[error("{name}: {what}: {source}")]
    System {
        /// The interface.
        name: String,
        /// What was tried.
        what: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The name or number is taken.
    #[error("{0} is already in use")]
    Exists(String),
    /// A tunnel port takes the same packets.
    #[error("the packets of this tunnel are those of {0} already")]
    Claimed(String),
    /// No such bridge or port.
    #[error("There is no {0}")]
    Missing(String),
    /// A bound was reached.
    #[error("{0}")]
    Limit(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Interface types.
pub const KINDS: &str = "system, afxdp, afxdp-nonpmd, internal, tap, patch, pcap, dummy, dpdkvhostuser, dpdkvhostuserclient, vhostuser, vxlan, geneve, gre, ip6gre, erspan, ip6erspan, gtpu";

/// Opens a port of any kind but `patch` and tunnels, which have no queues and live in the pipeline.
pub fn open(config: &InterfaceConfig, context: &PortContext) -> Result<OpenPort, PortError> {
    match config.kind.as_str() {
        "dummy" | "dummy-internal" | "dummy-pmd" => dummy::open(config, context),
        "internal" | "tap" => tap::open(config, context),
        "pcap" => pcap::open(config, context),
        "afxdp" | "afxdp-nonpmd" => afxdp::open(config, context),
        "system" | "" => system::open(config, context),
        "dpdkvhostuser" | "dpdkvhostuserclient" | "vhostuser" => vhost_user::open(config, context),
        _ => Err(PortError::UnknownKind {
            name: config.name.clone(),
            kind: config.kind.clone(),
            known: KINDS,
        }),
    }
}
