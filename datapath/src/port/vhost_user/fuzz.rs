//! A hostile monitor for fuzzing: raw bytes, or messages of the right shape with contents from the input.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::message::{self, DecodeError, Decoder, Message, Request};
use super::session::{FEATURES, MAX_QUEUES, PROTOCOL_FEATURES, Queues, Session};
use crate::memory::GuestMemory;
use crate::packet::{Batch, OwnedPacket};
use crate::port::TxOutcome;
use crate::ring::{Layout, Ring, RingError};
use crate::sys::event::EventFd;
use crate::sys::mmap;

/// Bytes of the memory file that all regions show.
const FILE: u64 = 1 << 16;
/// Where the monitor has its memory, if the input does not say otherwise.
const USER: u64 = 0x7f00_0000_0000;
/// Messages at most, so that no input takes long.
const MESSAGES: usize = 128;

/// What a monitor asks for, often enough each to come to running queues.
const REQUESTS: &[Request] = &[
    Request::SetMemTable,
    Request::SetVringNum,
    Request::SetVringAddr,
    Request::SetVringKick,
    Request::SetVringEnable,
    Request::SetFeatures,
    Request::SetVringBase,
    Request::GetVringBase,
    Request::SetVringCall,
    Request::SetVringErr,
    Request::AddMemReg,
    Request::RemMemReg,
    Request::SetProtocolFeatures,
    Request::GetFeatures,
    Request::GetProtocolFeatures,
    Request::GetQueueNum,
    Request::GetMaxMemSlots,
    Request::NetSetMtu,
    Request::SetOwner,
    Request::ResetOwner,
    Request::ResetDevice,
    Request::SetStatus,
    Request::GetStatus,
];

/// Queues as the session starts and stops them.
struct Rings(Vec<Option<Ring>>);

impl Queues for Rings {
    fn start(
        &mut self,
        index: usize,
        memory: &Arc<GuestMemory>,
        layout: &Layout,
        features: u64,
        _kick: Option<&EventFd>,
        call: Option<&EventFd>,
    ) -> Result<(), RingError> {
        assert!(self.0[index].is_none(), "started twice");
        let call = call.and_then(|c| c.try_clone().ok());
        let ring = Ring::start(memory.clone(), layout, features, call, Arc::default())?;
        self.0[index] = Some(ring);
        Ok(())
    }

    fn stop(&mut self, index: usize) -> Option<u16> {
        self.0[index].take().map(|ring| ring.base())
    }

    fn set_call(&mut self, index: usize, call: Option<&EventFd>) {
        let ring = self.0[index].as_mut().expect("not running");
        ring.replace_call(call.and_then(|c| c.try_clone().ok()));
    }
}

/// A session with its queues, and the file of the monitor's memory.
struct Monitor {
    file: File,
    session: Session,
    rings: Rings,
    batch: Batch,
}

impl Monitor {
    fn new() -> Option<Monitor> {
        Some(Monitor {
            file: mmap::memfd(c"weir-fuzz", FILE).ok()?,
            session: Session::default(),
            rings: Rings((0..MAX_QUEUES).map(|_| None).collect()),
            batch: Batch::new(),
        })
    }

    fn memory(&self, count: usize) -> Vec<OwnedFd> {
        (0..count)
            .filter_map(|_| self.file.try_clone().ok())
            .map(OwnedFd::from)
            .collect()
    }

    /// Handles what a decoder says; whether the connection goes on.
    fn take(&mut self, decoded: Result<Option<Message>, DecodeError>) -> bool {
        let message = match decoded {
            Ok(Some(message)) => message,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let answer = self.session.handle(message, &mut self.rings);
        if let Some(bytes) = &answer.bytes {
            assert!(bytes.len() >= message::HEADER, "an answer without a header");
        }
        !answer.fatal
    }

    /// Forwarding threads at work.
    fn forward(&mut self) {
        for ring in self.rings.0.iter_mut().flatten() {
            ring.dequeue(&mut self.batch);
            ring.give_back();
            self.batch.clear();
            let mut out = TxOutcome::default();
            ring.enqueue_owned(&OwnedPacket::new(vec![0; 64]), 1518, &mut out);
            ring.notify();
        }
    }

    fn close(mut self) {
        let _ = self.session.summary();
        self.session.close(&mut self.rings);
        assert!(
            self.rings.0.iter().all(Option::is_none),
            "a queue outlived its session"
        );
    }
}

/// Lets `data` be a hostile monitor. With an odd first byte the rest is a stream as a socket would deliver it, with a memory file
/// attached wherever a message can carry descriptors; with an even one each few bytes make a message of the right
/// shape. Queues that come to run are used. Panics and faults are bugs.
pub fn fuzz_vhost_message(data: &[u8]) {
    let (Some(mut monitor), Some((kind, rest))) = (Monitor::new(), data.split_first()) else {
        return;
    };
    if kind & 1 != 0 {
        stream(&mut monitor, rest);
    } else {
        script(&mut monitor, rest);
    }
    monitor.close();
}

fn stream(monitor: &mut Monitor, mut rest: &[u8]) {
    let mut decoder = Decoder::default();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(decoder.wanted().min(rest.len()));
        rest = later;
        let number = now.first().copied().unwrap_or(0);
        let count = match Request::from_number(number.into()) {
            _ if now.len() != message::HEADER => 0,
            Some(Request::SetMemTable) => (message::word32(now, 8) as usize / 32).min(8),
            Some(
                Request::AddMemReg
                | Request::SetVringKick
                | Request::SetVringCall
                | Request::SetVringErr,
            ) => 1,
            _ => 0,
        };
        let decoded = decoder.push(now, monitor.memory(count));
        if !monitor.take(decoded) {
            break;
        }
        monitor.forward();
    }
}

/// Reads choices; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((b, rest)) => {
                self.0 = rest;
                *b
            }
            None => 0,
        }
    }

    fn u64(&mut self) -> u64 {
        (0..8).fold(0, |n, _| n << 8 | u64::from(self.u8()))
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(n.min(self.0.len()));
        self.0 = later;
        now
    }

    /// A number that is nearly always `n` of one byte, and any at all else.
    fn number(&mut self, n: impl FnOnce(u64) -> u64) -> u64 {
        match self.u8() {
            0xff => self.u64(),
            b => n(b.into()),
        }
    }

    /// A memory region: the whole file if the byte is zero.
    fn region(&mut self, body: &mut Vec<u8>) {
        let start = self.number(|n| 0x10_0000 + (n & 15) * 4096);
        let size = self.number(|n| FILE - (n & 15) * 4096);
        let user = self.number(|n| USER + (n & 15) * 4096);
        let offset = self.number(|n| (n & 15) * 4096);
        for n in [start, size, user, offset] {
            body.extend(n.to_le_bytes());
        }
    }
}

fn script(monitor: &mut Monitor, input: &[u8]) {
    let mut choices = Choices(input);
    for _ in 0..MESSAGES {
        if choices.0.is_empty() {
            break;
        }
        let what = choices.u8();
        let Some(request) = REQUESTS.get(usize::from(what & 31)).copied() else {
            // Guests write into their memory: rings of which all is chosen, mostly.
            let at = u64::from(choices.u8()) * 16;
            let n = usize::from(choices.u8() % 64);
            let _ = monitor.file.write_all_at(choices.take(n), at);
            monitor.forward();
            continue;
        };
        // Bit 6 changes the shape, bit 7 asks for an answer.
        let odd = if what & 0x40 != 0 { choices.u8() } else { 0 };
        let mut body = Vec::new();
        let mut fds = Vec::new();
        let index = |c: &mut Choices<'_>| (c.u8() % 20).to_le_bytes();
        match request {
            Request::SetMemTable => {
                let count = 1 + usize::from(choices.u8() % 4);
                body.extend((count as u64).to_le_bytes());
                (0..count).for_each(|_| choices.region(&mut body));
                fds = monitor.memory(count);
            }
            Request::AddMemReg | Request::RemMemReg => {
                body.extend(0u64.to_le_bytes());
                choices.region(&mut body);
                if request == Request::AddMemReg {
                    fds = monitor.memory(1);
                }
            }
            Request::SetFeatures => {
                // 15 bits of the input choose among the 19 there are.
                let n =
                    choices.number(|n| FEATURES & (n << 27 | n << 7 | n << 1 | n >> 7 | 1 << 32));
                body.extend(n.to_le_bytes());
            }
            Request::SetProtocolFeatures => {
                let n = choices.number(|n| PROTOCOL_FEATURES & (n | n << 12));
                body.extend(n.to_le_bytes());
            }
            Request::SetVringNum
            | Request::SetVringBase
            | Request::GetVringBase
            | Request::SetVringEnable => {
                body.extend(index(&mut choices));
                body.resize(4, 0);
                let value = match request {
                    Request::SetVringNum => choices.number(|n| 1 << (n % 18)),
                    Request::SetVringEnable => choices.number(|n| 1 - n % 2),
                    _ => choices.number(|n| n),
                };
                body.extend((value as u32).to_le_bytes());
            }
            Request::SetVringAddr => {
                body.extend(index(&mut choices));
                body.resize(4, 0);
                body.extend(choices.number(|n| n >> 7).to_le_bytes()[..4].iter());
                for _ in 0..3 {
                    let at = choices.number(|n| USER + (n & 0x7f) * 16 + (n >> 7));
                    body.extend(at.to_le_bytes());
                }
                body.extend(0u64.to_le_bytes());
            }
            Request::SetVringKick | Request::SetVringCall | Request::SetVringErr => {
                let n = choices.u8();
                let none = u64::from(n >> 5 & 1) << 8;
                body.extend((u64::from(n & 31) | none).to_le_bytes());
                if none == 0 {
                    fds = match (n >> 6, EventFd::new()) {
                        (0 | 1, Ok(event)) => vec![event.into()],
                        _ => monitor.memory(1),
                    };
                }
            }
            Request::NetSetMtu | Request::SetStatus => {
                body.extend(choices.number(|n| n * 16).to_le_bytes());
            }
            _ => {}
        }
        match odd & 3 {
            1 => body.truncate(usize::from(odd >> 2)),
            2 => body.extend(choices.take(usize::from(odd >> 2))),
            3 => fds.extend(monitor.memory(usize::from(odd >> 2 & 7))),
            _ => {}
        }
        let bytes = message::request(request, what & 0x80 != 0, &body);
        let mut decoder = Decoder::default();
        let (header, body) = bytes.split_at(message::HEADER);
        let mut decoded = decoder.push(header, fds);
        if let (Ok(None), false) = (&decoded, body.is_empty()) {
            decoded = decoder.push(body, Vec::new());
        }
        if !monitor.take(decoded) {
            break;
        }
        monitor.forward();
    }
}
