//! The virtio-net device (virtio 1.2 5.1) whose queues belong to a switch.
//!
//! What is left for the monitor: features, configuration space, and the control queue (only the
//! number of queue pairs in use is controlled). Rings, kicks and calls are the business of the
//! [`Link`] to the switch.

use std::sync::Arc;

use tracing::{debug, warn};
use vmm_sys_util::eventfd::EventFd;

use super::queue::{Request, SplitQueue};
use super::{Interrupt, QueueConfig, VirtioDevice};
use crate::config::{MacAddr, NicConfig};
use crate::error::{Error, Result};
use crate::memory::GuestRam;
use crate::vhost_user::{Activation, Link};

/// Entries a queue may have.
pub const QUEUE_SIZE: u16 = 1024;
const CONTROL_QUEUE_SIZE: u16 = 64;

/// Feature bits (virtio 1.2 5.1.3 and 6).
pub mod feature {
    #![allow(missing_docs)]
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const GUEST_ECN: u64 = 1 << 9;
    pub const GUEST_UFO: u64 = 1 << 10;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const HOST_ECN: u64 = 1 << 13;
    pub const HOST_UFO: u64 = 1 << 14;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const MQ: u64 = 1 << 22;
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
}

/// Features that concern the switch: offered to the guest when the switch has them. Packed rings
/// are not among them: their place after a crash of the switch cannot be told from memory.
pub const PASSED: u64 = feature::CSUM
    | feature::GUEST_CSUM
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::GUEST_UFO
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::HOST_ECN
    | feature::HOST_UFO
    | feature::MRG_RXBUF
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1;

/// What a guest is offered that starts before its switch: every backend has these.
pub const COMMON: u64 = feature::MRG_RXBUF | feature::VERSION_1;

/// Control queue: class and command (virtio 1.2 5.1.6.5.5).
const CTRL_MQ: u8 = 4;
const CTRL_MQ_PAIRS_SET: u8 = 0;
const CTRL_OK: u8 = 0;
const CTRL_ERR: u8 = 1;

/// A network card.
pub struct VhostUserNet {
    mac: MacAddr,
    mtu: Option<u16>,
    ram: GuestRam,
    link: Arc<Link>,
    control: Option<(u16, SplitQueue, Arc<dyn Interrupt>)>,
}

impl VhostUserNet {
    /// The card that `config` describes. Its link must be frozen ([`Link::freeze`]) before a
    /// driver looks at it.
    pub fn new(config: &NicConfig, ram: GuestRam, link: Arc<Link>) -> Self {
        VhostUserNet {
            mac: config.mac,
            mtu: config.mtu,
            ram,
            link,
            control: None,
        }
    }

    /// The eventfds of the data queues, for whoever catches notifications.
    pub fn kicks(link: &Link) -> &[EventFd] {
        link.kicks()
    }

    /// One control request.
    fn control(&self, request: &Request, max_pairs: u16) -> u8 {
        match *request.out {
            [CTRL_MQ, CTRL_MQ_PAIRS_SET, low, high] => {
                let pairs = u16::from_le_bytes([low, high]);
                if (1..=max_pairs).contains(&pairs) {
                    self.link.set_pairs(pairs);
                    return CTRL_OK;
                }
                warn!("the driver wants {pairs} queue pairs of {max_pairs}");
            }
            ref other => debug!("unknown control request of {} bytes", other.len()),
        }
        CTRL_ERR
    }
}

impl VirtioDevice for VhostUserNet {
    fn device_type(&self) -> u32 {
        1
    }

    fn queue_max_sizes(&self) -> Vec<u16> {
        // As many as the configuration allows; a switch with fewer says so in the configuration
        // space.
        let data = self.link.kicks().len();
        let mut sizes = vec![QUEUE_SIZE; data];
        if data > 2 {
            sizes.push(CONTROL_QUEUE_SIZE);
        }
        sizes
    }

    fn features(&self) -> u64 {
        let offer = self.link.offer();
        let mut features = offer.features | feature::MAC | feature::STATUS;
        if self.mtu.or(offer.mtu).is_some() {
            features |= feature::MTU;
        }
        if offer.pairs > 1 {
            features |= feature::MQ | feature::CTRL_VQ;
        }
        features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let offer = self.link.offer();
        let mut space = [0; 12];
        space[..6].copy_from_slice(&self.mac.0);
        space[6..8].copy_from_slice(&u16::from(self.link.is_up()).to_le_bytes());
        space[8..10].copy_from_slice(&offer.pairs.to_le_bytes());
        let mtu = self.mtu.or(offer.mtu).unwrap_or(0);
        space[10..].copy_from_slice(&mtu.to_le_bytes());
        for (byte, at) in data.iter_mut().zip(offset..) {
            *byte = usize::try_from(at)
                .ok()
                .and_then(|at| space.get(at))
                .map_or(0, |&b| b);
        }
    }

    fn config_generation(&self) -> u32 {
        self.link.changes()
    }

    fn activate(
        &mut self,
        features: u64,
        queues: &[QueueConfig],
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<()> {
        let pairs = match features & feature::MQ {
            0 => 1,
            _ => self.link.offer().pairs,
        };
        let data = usize::from(2 * pairs);
        self.control = None;
        if features & feature::CTRL_VQ != 0 {
            if features & feature::MQ == 0 {
                return Err(Error::VhostUser(
                    "the driver wants a control queue without multiple queues".into(),
                ));
            }
            match queues.get(data) {
                Some(queue) if queue.ready => {
                    let queue = SplitQueue::new(self.ram.clone(), *queue);
                    self.control = Some((2 * pairs, queue, interrupt.clone()));
                }
                _ => return Err(Error::VhostUser("the control queue is not ready".into())),
            }
        }
        if !queues[..2].iter().all(|q| q.ready) {
            return Err(Error::VhostUser("queues 0 and 1 must be ready".into()));
        }
        self.link.start(Activation {
            features: features & PASSED,
            queues: queues[..data].to_vec(),
            pairs: 1,
            config_changes: features & feature::STATUS != 0,
            interrupt,
        });
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        if let Some((control, queue, interrupt)) = &mut self.control
            && index == *control
        {
            let (index, interrupt) = (*control, interrupt.clone());
            let mut answers = Vec::new();
            while let Some(request) = queue.pop() {
                answers.push(request);
            }
            let max_pairs = index / 2;
            let done: Vec<_> = answers
                .into_iter()
                .map(|request| (self.control(&request, max_pairs), request))
                .collect();
            if let Some((_, queue, _)) = &mut self.control {
                for (byte, request) in &done {
                    queue.answer(request, *byte);
                }
            }
            if !done.is_empty() {
                interrupt.queue(index);
            }
        } else if let Some(kick) = self.link.kicks().get(usize::from(index)) {
            let _ = kick.write(1);
        }
    }

    fn reset(&mut self) {
        self.control = None;
        self.link.stop();
    }
}
