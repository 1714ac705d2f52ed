//! Virtio devices and how a guest reaches them.
//!
//! A device ([`VirtioDevice`]) knows features, configuration space and queues; a transport
//! ([`mmio`] now, PCI may follow) knows registers and interrupts. They meet in three small
//! types here, so that neither knows the other.

pub mod mmio;
pub mod net;
pub mod queue;

use std::sync::Arc;

use crate::error::Result;

/// What a driver told the transport about a queue (virtio 1.2 2.6). Addresses are
/// guest-physical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// Whether the driver finished setting it up.
    pub ready: bool,
    /// Entries.
    pub size: u16,
    /// Descriptor table.
    pub desc: u64,
    /// Available ring.
    pub avail: u64,
    /// Used ring.
    pub used: u64,
}

/// How a device reaches the driver.
pub trait Interrupt: Send + Sync {
    /// Used buffers wait in queue `index`.
    fn queue(&self, index: u16);
    /// The configuration space changed.
    fn config(&self);
}

/// A virtio device, apart from its transport.
pub trait VirtioDevice: Send {
    /// The device's number (virtio 1.2 5).
    fn device_type(&self) -> u32;
    /// How large each queue may be; one entry per queue.
    fn queue_max_sizes(&self) -> Vec<u16>;
    /// The features offered.
    fn features(&self) -> u64;
    /// Reads configuration space; what lies beyond it reads as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Changes with every change of the configuration space.
    fn config_generation(&self) -> u32;
    /// The driver is ready (DRIVER_OK): `features` are those it accepted.
    ///
    /// # Errors
    /// Why the device cannot work with that; the driver is told DEVICE_NEEDS_RESET.
    fn activate(
        &mut self,
        features: u64,
        queues: &[QueueConfig],
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<()>;
    /// The driver notified queue `index` and nobody caught that by eventfd.
    fn notify(&mut self, index: u16);
    /// The driver resets the device: when this returns, guest memory is no longer touched.
    fn reset(&mut self);
}
