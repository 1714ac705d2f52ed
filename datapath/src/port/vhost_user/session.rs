//! The negotiation with one monitor, from its first message to the end of the connection (vhost-user, "Back-end
//! implementation").
//!
//! A [`Session`] is given whole messages and returns the bytes to answer; queues are started and stopped through a
//! [`Queues`], which is the port in the switch and a list of calls in tests. It reads no socket and no clock. (It does map
//! the memory it is given: whether that works is part of the answer.)
//!
//! A queue runs when everything it needs is there: features, memory, size, addresses, a kick, and being
//! enabled. Any message that changes one of them for a running queue stops it first and starts it again from the index where
//! it stopped, so that no message depends on the order that a particular monitor uses. `Queues::stop` returns only when the
//! forwarding threads let go of the queue and its memory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use thiserror::Error;

use super::message::{self, DecodeError, Message, Request, word32, word64};
use crate::memory::{GuestMemory, MAX_REGIONS, MemoryError, RegionSpec};
use crate::ring::{Layout, RingError, feature};
use crate::sys::event::EventFd;

/// Queue pairs a guest can have.
pub const MAX_PAIRS: usize = 8;
/// Queues of a guest: for each pair its receive queue (even) and its transmit queue (odd).
pub const MAX_QUEUES: usize = 2 * MAX_PAIRS;

/// Features offered to guests.
///
/// CTRL_VQ and GUEST_ANNOUNCE are the monitor's to serve (it never passes the control queue on), but it masks its own
/// offer with ours, so they have to be in it, and MQ needs CTRL_VQ. Datagram fragmentation (UFO) is left out: it was
/// removed from the kernels that could use it.
pub const FEATURES: u64 = feature::CSUM
    | feature::GUEST_CSUM
    | feature::MTU
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::HOST_ECN
    | feature::MRG_RXBUF
    | feature::CTRL_VQ
    | feature::GUEST_ANNOUNCE
    | feature::MQ
    | feature::NOTIFY_ON_EMPTY
    | feature::ANY_LAYOUT
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::PROTOCOL_FEATURES
    | feature::VERSION_1
    | feature::RING_PACKED
    | feature::IN_ORDER;

/// vhost-user protocol features (vhost-user, "Protocol features").
pub mod protocol_feature {
    /// Several queue pairs.
    pub const MQ: u64 = 1 << 0;
    /// Acknowledgements on request.
    pub const REPLY_ACK: u64 = 1 << 3;
    /// The monitor tells the MTU.
    pub const NET_MTU: u64 = 1 << 4;
    /// RESET_DEVICE.
    pub const RESET_DEVICE: u64 = 1 << 13;
    /// Memory regions come and go one by one.
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    /// The virtio status is told.
    pub const STATUS: u64 = 1 << 16;
}

/// Protocol features offered.
pub const PROTOCOL_FEATURES: u64 = protocol_feature::MQ
    | protocol_feature::REPLY_ACK
    | protocol_feature::NET_MTU
    | protocol_feature::RESET_DEVICE
    | protocol_feature::CONFIGURE_MEM_SLOTS
    | protocol_feature::STATUS;

/// Smallest MTU a guest may be given (RFC 791).
const MIN_MTU: u64 = 68;

/// What a session does to the queues of its port.
pub trait Queues {
    /// Starts queue `index`. With no `kick` it is polled for ever.
    fn start(
        &mut self,
        index: usize,
        memory: &Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
        kick: Option<&EventFd>,
        call: Option<&EventFd>,
    ) -> Result<(), RingError>;
    /// Stops queue `index`; when this returns nobody uses it. Returns the available index it had come to.
    fn stop(&mut self, index: usize) -> Option<u16>;
    /// Replaces the interrupt of a running queue.
    fn set_call(&mut self, index: usize, call: Option<&EventFd>);
}

/// Why a request was refused.
#[derive(Debug, Error)]
pub enum Refused {
    /// Not a message at all.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A number that is not one of ours.
    #[error("vhost-user request {0} is not supported")]
    Unknown(u32),
    /// A body of the wrong length, or descriptors missing or too many.
    #[error("vhost-user request {request:?}: {problem}")]
    Shape {
        /// The request.
        request: Request,
        /// What is wrong.
        problem: &'static str,
    },
    /// A queue number out of range.
    #[error("vhost-user request {0:?} for queue {1}; there are {MAX_QUEUES}")]
    Queue(Request, u64),
    /// Features that were not offered.
    #[error("features {0:#x} were not offered")]
    Features(u64),
    /// An impossible value.
    #[error("vhost-user request {0:?} with value {1:#x}")]
    Value(Request, u64),
    /// Memory that cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A queue that cannot be started.
    #[error("queue {0}: {1}")]
    Ring(usize, RingError),
    /// The system failed us.
    #[error("vhost-user request {0:?}: {1}")]
    System(Request, #[source] std::io::Error),
}

#[derive(Debug, Default)]
enum Kick {
    /// Not started.
    #[default]
    None,
    /// Started, never kicked: to be polled.
    Polling,
    Event(EventFd),
}

/// One queue as negotiated so far.
#[derive(Debug, Default)]
struct Queue {
    layout: Layout,
    has_addresses: bool,
    kick: Kick,
    call: Option<EventFd>,
    error: Option<EventFd>,
    enabled: bool,
    running: bool,
    problem: Option<RingError>,
}

/// What is known of the guest, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Features negotiated, if they were.
    pub features: Option<u64>,
    /// Protocol features negotiated.
    pub protocol_features: u64,
    /// MTU the monitor told.
    pub mtu: Option<u16>,
    /// Size of each queue that was given one, by number.
    pub sizes: Vec<(usize, u16)>,
    /// Why a queue does not run.
    pub problem: Option<String>,
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Session {
    features: Option<u64>,
    protocol_features: u64,
    memory: Arc<GuestMemory>,
    queues: Vec<Queue>,
    mtu: Option<u16>,
    status: u8,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            features: None,
            protocol_features: 0,
            memory: Arc::default(),
            queues: (0..MAX_QUEUES).map(|_| Queue::default()).collect(),
            mtu: None,
            status: 0,
        }
    }
}

/// What a handled message asks of the socket.
#[derive(Debug, Default)]
pub struct Answer {
    /// Bytes to send, if any.
    pub bytes: Option<Vec<u8>>,
    /// Why it was refused, if it was. The connection goes on if `fatal` is not set.
    pub refused: Option<Refused>,
    /// The monitor waits for an answer that we cannot give.
    pub fatal: bool,
}

impl Session {
    /// Handles one message. Calls on `queues` happen before it returns.
    pub fn handle(&mut self, message: Message, queues: &mut dyn Queues) -> Answer {
        let (number, need_reply) = (message.request, message.need_reply);
        let Some(request) = Request::from_number(number) else {
            return self.acknowledge(number, need_reply, Err(Refused::Unknown(number)));
        };
        let result = self.dispatch(request, message, queues);
        match result {
            Ok(Some(body)) => Answer {
                bytes: Some(message::reply(number, &body)),
                ..Answer::default()
            },
            Ok(None) => self.acknowledge(number, need_reply, Ok(())),
            Err(refused) if has_reply(request) => Answer {
                bytes: None,
                refused: Some(refused),
                fatal: true,
            },
            Err(refused) => self.acknowledge(number, need_reply, Err(refused)),
        }
    }

    fn acknowledge(&self, number: u32, need_reply: bool, result: Result<(), Refused>) -> Answer {
        let wanted = need_reply && self.protocol_features & protocol_feature::REPLY_ACK != 0;
        let bytes =
            wanted.then(|| message::reply(number, &u64::from(result.is_err()).to_le_bytes()));
        Answer {
            bytes,
            refused: result.err(),
            fatal: false,
        }
    }

    fn dispatch(
        &mut self,
        request: Request,
        message: Message,
        queues: &mut dyn Queues,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let shape = |problem| Refused::Shape { request, problem };
        let number = || {
            message
                .u64()
                .ok_or(shape("the body must be one 64-bit number"))
        };
        let state = || -> Result<(usize, u32), Refused> {
            let (index, value) = message
                .state()
                .ok_or(shape("the body must be index and number"))?;
            Ok((self.index(request, index.into())?, value))
        };
        let answer = |value: u64| Ok(Some(value.to_le_bytes().to_vec()));
        match request {
            Request::GetFeatures => answer(FEATURES),
            Request::GetProtocolFeatures => answer(PROTOCOL_FEATURES),
            Request::GetQueueNum => answer(MAX_PAIRS as u64),
            Request::GetMaxMemSlots => answer(MAX_REGIONS as u64),
            Request::GetStatus => answer(self.status.into()),
            Request::SetOwner => Ok(None),
            Request::SetFeatures => {
                let features = number()?;
                if features & !FEATURES != 0 {
                    return Err(Refused::Features(features & !FEATURES));
                }
                self.set_features(features, queues)
            }
            Request::SetProtocolFeatures => {
                let features = number()?;
                if features & !PROTOCOL_FEATURES != 0 {
                    return Err(Refused::Features(features & !PROTOCOL_FEATURES));
                }
                self.protocol_features = features;
                Ok(None)
            }
            Request::ResetOwner | Request::ResetDevice => {
                self.reset(queues);
                Ok(None)
            }
            Request::SetStatus => {
                let status = number()?;
                self.status = u8::try_from(status).map_err(|_| Refused::Value(request, status))?;
                if status == 0 {
                    for index in 0..MAX_QUEUES {
                        self.stop(index, queues);
                        self.queues[index].kick = Kick::None;
                    }
                }
                Ok(None)
            }
            Request::SetMemTable | Request::AddMemReg | Request::RemMemReg => {
                self.set_memory(request, message, queues)
            }
            Request::NetSetMtu => {
                let mtu = number()?;
                if mtu < MIN_MTU || mtu > u64::from(u16::MAX) {
                    return Err(Refused::Value(request, mtu));
                }
                self.mtu = Some(mtu as u16);
                Ok(None)
            }
            Request::SetVringNum => {
                let (index, size) = state()?;
                // A packed ring can have any size; a split one that is none of two's powers is refused when it starts.
                let size = u16::try_from(size)
                    .ok()
                    .filter(|n| {
                        (1..=crate::ring::MAX_SIZE).contains(n)
                            && (n.is_power_of_two() || self.is_packed())
                    })
                    .ok_or(Refused::Value(request, size.into()))?;
                self.change(index, queues, |q| q.layout.size = size)
            }
            Request::SetVringBase => {
                let (index, base) = state()?;
                let base = match u16::try_from(base) {
                    Ok(base) => base,
                    // Two places of a packed ring: what the device took last, and above it what it used last. We hold nothing
                    // between batches, so that used is where to go on.
                    Err(_) if self.is_packed() => (base >> 16) as u16,
                    Err(_) => return Err(Refused::Value(request, base.into())),
                };
                self.change(index, queues, |q| q.layout.base = base)
            }
            Request::SetVringEnable => {
                let (index, enable) = state()?;
                if enable > 1 {
                    return Err(Refused::Value(request, enable.into()));
                }
                self.change(index, queues, |q| q.enabled = enable == 1)
            }
            Request::GetVringBase => {
                let (index, _) = state()?;
                self.stop(index, queues);
                self.queues[index].kick = Kick::None;
                let queue = &self.queues[index];
                let mut body = (index as u32).to_le_bytes().to_vec();
                let base = u32::from(queue.layout.base);
                // Of a packed ring both places are told: taken and used, which are the same when it has stopped.
                let both = if self.is_packed() {
                    base << 16 | base
                } else {
                    base
                };
                body.extend(both.to_le_bytes());
                Ok(Some(body))
            }
            Request::SetVringAddr => {
                if message.body.len() != 40 {
                    return Err(shape("the body must have 40 bytes"));
                }
                let body = &message.body;
                let index = self.index(request, word32(body, 0).into())?;
                // Bit 0 asks for logging of our writes, which needs a feature we do not offer.
                let flags = word32(body, 4);
                if flags != 0 {
                    return Err(Refused::Value(request, flags.into()));
                }
                let (descriptors, used, available) =
                    (word64(body, 8), word64(body, 16), word64(body, 24));
                self.change(index, queues, |q| {
                    q.layout = Layout {
                        descriptors,
                        used,
                        available,
                        ..q.layout
                    };
                    q.has_addresses = true;
                })
            }
            Request::SetVringKick | Request::SetVringCall | Request::SetVringErr => {
                let value = number()?;
                let index = self.index(request, value & 0xff)?;
                let event = self.event(request, value, message.fds)?;
                match request {
                    Request::SetVringKick => self.change(index, queues, |q| {
                        q.kick = event.map_or(Kick::Polling, Kick::Event)
                    }),
                    Request::SetVringCall => {
                        let queue = &mut self.queues[index];
                        queue.call = event;
                        if queue.running {
                            queues.set_call(index, queue.call.as_ref());
                        }
                        Ok(None)
                    }
                    _ => {
                        self.queues[index].error = event;
                        Ok(None)
                    }
                }
            }
        }
    }

    fn is_packed(&self) -> bool {
        (self.features).is_some_and(|features| features & feature::RING_PACKED != 0)
    }

    fn index(&self, request: Request, index: u64) -> Result<usize, Refused> {
        usize::try_from(index)
            .ok()
            .filter(|i| *i < MAX_QUEUES)
            .ok_or(Refused::Queue(request, index))
    }

    /// The descriptor of a kick, call or error message; bit 8 says that there is none.
    fn event(
        &self,
        request: Request,
        value: u64,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<EventFd>, Refused> {
        let mut fds = fds.into_iter();
        match (value & 0x100 != 0, fds.next(), fds.next()) {
            (true, None, _) => Ok(None),
            (false, Some(fd), None) => EventFd::from_fd(fd)
                .map(Some)
                .map_err(|e| Refused::System(request, e)),
            _ => Err(Refused::Shape {
                request,
                problem: "needs one descriptor, or bit 8 set and none",
            }),
        }
    }

    fn set_features(
        &mut self,
        features: u64,
        queues: &mut dyn Queues,
    ) -> Result<Option<Vec<u8>>, Refused> {
        for index in 0..MAX_QUEUES {
            self.stop(index, queues);
        }
        self.features = Some(features);
        if features & feature::PROTOCOL_FEATURES == 0 {
            // Without them there is no SET_VRING_ENABLE: queues start enabled.
            for queue in &mut self.queues {
                queue.enabled = true;
            }
        }
        self.start_all(queues)
    }

    fn set_memory(
        &mut self,
        request: Request,
        message: Message,
        queues: &mut dyn Queues,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let shape = |problem| Refused::Shape { request, problem };
        let Message { body, fds, .. } = message;
        let region = |at: usize| RegionSpec {
            guest_addr: word64(&body, at),
            size: word64(&body, at + 8),
            user_addr: word64(&body, at + 16),
            mmap_offset: word64(&body, at + 24),
        };
        let memory = if request == Request::SetMemTable {
            let count = if body.len() >= 8 {
                word32(&body, 0) as usize
            } else {
                usize::MAX
            };
            if count != fds.len() || body.len() != 8 + 32 * count {
                return Err(shape("count, regions and descriptors do not agree"));
            }
            let table = fds
                .into_iter()
                .enumerate()
                .map(|(i, fd)| (region(8 + 32 * i), fd))
                .collect();
            GuestMemory::map(table)?
        } else {
            if body.len() != 40 {
                return Err(shape("the body must have 40 bytes"));
            }
            match (request, fds.as_slice()) {
                (Request::AddMemReg, [fd]) => self.memory.with(region(8), fd)?,
                (Request::AddMemReg, _) => return Err(shape("needs one descriptor")),
                _ => self.memory.without(region(8))?,
            }
        };
        for index in 0..MAX_QUEUES {
            self.stop(index, queues);
        }
        self.memory = Arc::new(memory);
        self.start_all(queues)
    }

    fn reset(&mut self, queues: &mut dyn Queues) {
        for index in 0..MAX_QUEUES {
            self.stop(index, queues);
            self.queues[index] = Queue::default();
        }
        self.features = None;
        self.status = 0;
    }

    /// Stops all queues; the connection is over.
    pub fn close(&mut self, queues: &mut dyn Queues) {
        self.reset(queues);
        self.memory = Arc::default();
    }

    /// Applies a change to one queue, which is stopped meanwhile.
    fn change(
        &mut self,
        index: usize,
        queues: &mut dyn Queues,
        change: impl FnOnce(&mut Queue),
    ) -> Result<Option<Vec<u8>>, Refused> {
        self.stop(index, queues);
        change(&mut self.queues[index]);
        self.start(index, queues)?;
        Ok(None)
    }

    fn stop(&mut self, index: usize, queues: &mut dyn Queues) {
        let queue = &mut self.queues[index];
        if queue.running {
            queue.running = false;
            if let Some(base) = queues.stop(index) {
                queue.layout.base = base;
            }
        }
    }

    fn start_all(&mut self, queues: &mut dyn Queues) -> Result<Option<Vec<u8>>, Refused> {
        let mut result = Ok(None);
        for index in 0..MAX_QUEUES {
            if let Err(refused) = self.start(index, queues) {
                result = Err(refused);
            }
        }
        result
    }

    /// Starts a queue if everything it needs is there.
    fn start(&mut self, index: usize, queues: &mut dyn Queues) -> Result<(), Refused> {
        let queue = &mut self.queues[index];
        queue.problem = None;
        let (Some(features), true) = (self.features, queue.enabled && queue.has_addresses) else {
            return Ok(());
        };
        let kick = match &queue.kick {
            Kick::None => return Ok(()),
            Kick::Polling => None,
            Kick::Event(event) => Some(event),
        };
        if queue.layout.size == 0 || self.memory.regions().next().is_none() {
            return Ok(());
        }
        match queues.start(
            index,
            &self.memory,
            &queue.layout,
            features,
            kick,
            queue.call.as_ref(),
        ) {
            Ok(()) => {
                queue.running = true;
                Ok(())
            }
            Err(error) => {
                queue.problem = Some(error.clone());
                Err(Refused::Ring(index, error))
            }
        }
    }

    /// Tells the monitor that a running queue is broken.
    pub fn report(&mut self, index: usize, error: &RingError) {
        let queue = &mut self.queues[index];
        if queue.problem.as_ref() != Some(error) {
            queue.problem = Some(error.clone());
            if let Some(event) = &queue.error {
                // The monitor's descriptor failing is the monitor's problem.
                let _ = event.signal();
            }
        }
    }

    /// True when the peer took memory away that it had shared.
    pub fn memory_lost(&self) -> bool {
        self.memory.is_broken()
    }

    /// What was negotiated so far.
    pub fn summary(&self) -> Summary {
        let named =
            |(index, q): (usize, &Queue)| Some(format!("queue {index}: {}", q.problem.as_ref()?));
        Summary {
            features: self.features,
            protocol_features: self.protocol_features,
            mtu: self.mtu,
            sizes: self
                .queues
                .iter()
                .enumerate()
                .filter(|(_, q)| q.layout.size > 0)
                .map(|(i, q)| (i, q.layout.size))
                .collect(),
            problem: self.queues.iter().enumerate().find_map(named),
        }
    }
}

/// Whether a request has an answer of its own, which the monitor waits for.
fn has_reply(request: Request) -> bool {
    matches!(
        request,
        Request::GetFeatures
            | Request::GetProtocolFeatures
            | Request::GetQueueNum
            | Request::GetMaxMemSlots
            | Request::GetStatus
            | Request::GetVringBase
    )
}
