//! Sending by the host's sockets.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::Endpoint;
use crate::packet::{BATCH, Batch, Checksum, Offload, OwnedPacket, checksum};
use crate::port::{TxOutcome, TxQueue};
use crate::sys::datagram::{
    DatagramSocket, DatagramWriter, MESSAGE_MAX, Message, Part, SEGMENTS_MAX, Treatment, Way,
};
use crate::tunnel::mtu;
use crate::tunnel::outer::{Ip, PROTOCOL_UDP, UDP, Udp};

/// Source ports that a queue spreads UDP flows over.
pub const PORTS: usize = 8;
/// Sockets of a queue: one for each source port, by DF and by checksum.
const SOCKETS: usize = PORTS * 4;

/// What the outer headers of a packet ask for.
struct Plan {
    way: Way,
    /// Bytes of IP and UDP headers.
    skip: usize,
    socket: usize,
}

/// A message and what it counts as.
#[derive(Default)]
struct Count {
    socket: usize,
    /// Bytes of the first datagram, and whether a shorter one has ended the row.
    size: usize,
    ended: bool,
    /// Bytes of all datagrams without IP and UDP headers, and of their packets.
    payload: usize,
    bytes: u64,
}

/// A transmit queue.
pub(super) struct Tx {
    endpoint: Endpoint,
    sockets: [Option<DatagramSocket>; SOCKETS],
    writer: DatagramWriter,
    /// One datagram each.
    parts: Vec<Part>,
    messages: Vec<Message>,
    /// Beside `messages`.
    counts: Vec<Count>,
    /// The kernel cuts large messages here.
    segments: bool,
}

impl Tx {
    pub(super) fn new(endpoint: Endpoint) -> Tx {
        Tx {
            endpoint,
            sockets: [const { None }; SOCKETS],
            writer: DatagramWriter::default(),
            parts: Vec::with_capacity(BATCH),
            messages: Vec::with_capacity(BATCH),
            counts: Vec::with_capacity(BATCH),
            segments: endpoint.port != 0,
        }
    }

    fn clear(&mut self) {
        self.writer.clear();
        self.parts.clear();
        self.messages.clear();
        self.counts.clear();
    }

    /// Reads the outer headers at the front of `head`.
    fn plan(&self, head: &[u8], total: usize) -> Option<Plan> {
        let ip = Ip::parse(head, total, true).ok()?;
        let mut skip = ip.header_len();
        let mut port = 0;
        // Over IPv6 the kernel may always fragment: what is not to be has been answered before.
        let mut socket = usize::from(ip.df && !self.endpoint.v6);
        if self.endpoint.port != 0 {
            if ip.protocol != PROTOCOL_UDP {
                return None;
            }
            let udp = Udp::parse(head.get(skip..)?, ip.payload).ok()?;
            port = udp.dst;
            skip += UDP;
            socket += usize::from(udp.checksum != 0) * 2 + usize::from(udp.src) % PORTS * 4;
        }
        Some(Plan {
            way: Way {
                src: ip.src,
                dst: ip.dst,
                port,
                tos: ip.tos,
                ttl: ip.ttl,
            },
            skip,
            socket,
        })
    }

    /// Adds a datagram of `len` bytes of a packet of `bytes`: to the message before it, if they can be one.
    fn add(&mut self, plan: &Plan, part: Part, len: usize, bytes: usize) {
        let at = self.parts.len();
        self.parts.push(part);
        if let (Some(m), Some(c)) = (self.messages.last_mut(), self.counts.last_mut())
            && self.segments
            // The checksum is no reason to part: rows have one.
            && (c.socket | 2) == (plan.socket | 2)
            && m.way == plan.way
            && !c.ended
            && (1..=c.size).contains(&len)
            && c.payload + len <= MESSAGE_MAX
            && m.parts.len() < SEGMENTS_MAX
        {
            m.parts.end = at + 1;
            m.segment = Some(c.size as u16);
            c.socket |= 2;
            c.ended = len < c.size;
            c.payload += len;
            c.bytes += bytes as u64;
            return;
        }
        self.messages.push(Message {
            way: plan.way,
            segment: None,
            parts: at..at + 1,
        });
        self.counts.push(Count {
            socket: plan.socket,
            size: len,
            ended: false,
            payload: len,
            bytes: bytes as u64,
        });
    }

    /// The socket of a number, opened when it is first asked for.
    fn socket(&mut self, number: usize) -> io::Result<RawFd> {
        if self.sockets[number].is_none() {
            let how = Treatment {
                df: number & 1 != 0,
                checksum: number & 2 != 0,
                mark: self.endpoint.mark,
            };
            let protocol = self.endpoint.protocol();
            self.sockets[number] = Some(DatagramSocket::sender(self.endpoint.v6, protocol, how)?);
        }
        match &self.sockets[number] {
            Some(socket) => Ok(socket.as_raw_fd()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush_all(&mut self, batch: Option<&Batch>, out: &mut TxOutcome) {
        let mut at = 0;
        while at < self.messages.len() {
            let number = self.counts[at].socket;
            let same = self.counts[at..].iter().take_while(|c| c.socket == number);
            let end = at + same.count();
            let fd = match self.socket(number) {
                Ok(fd) => fd,
                Err(_) => {
                    out.error += self.datagrams(at..end);
                    at = end;
                    continue;
                }
            };
            at = self.flush(fd, batch, at, end, out);
        }
    }

    fn datagrams(&self, messages: std::ops::Range<usize>) -> u32 {
        let parts = self.messages[messages].iter().map(|m| m.parts.len() as u32);
        parts.sum()
    }

    /// Sends messages `at..end` by one socket; says where to go on.
    fn flush(
        &mut self,
        fd: RawFd,
        batch: Option<&Batch>,
        mut at: usize,
        end: usize,
        out: &mut TxOutcome,
    ) -> usize {
        // An error may be of something sent before: each message is tried twice.
        let mut tried = usize::MAX;
        while at < end {
            let sent = self
                .writer
                .send(fd, batch, &self.messages[at..end], &self.parts);
            match sent {
                Ok(n) => {
                    out.packets += self.datagrams(at..at + n);
                    out.bytes += self.counts[at..at + n].iter().map(|c| c.bytes).sum::<u64>();
                    at += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_full(&e) => {
                    out.full += self.datagrams(at..end);
                    return end;
                }
                Err(_) if self.messages[at].segment.is_some() => {
                    self.singly(fd, batch, at, out);
                    at += 1;
                }
                Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) && tried != at => tried = at,
                Err(e) => {
                    self.count(&e, at, out);
                    at += 1;
                }
            }
        }
        at
    }

    /// Sends the datagrams of a message that the kernel does not cut: too long for the way, or it cannot there at all.
    fn singly(&mut self, fd: RawFd, batch: Option<&Batch>, at: usize, out: &mut TxOutcome) {
        let Message { way, parts, .. } = self.messages[at].clone();
        let each = self.counts[at].bytes / parts.len().max(1) as u64;
        let mut any = false;
        for part in parts {
            let one = [Message {
                way,
                segment: None,
                parts: part..part + 1,
            }];
            match self.writer.send(fd, batch, &one, &self.parts) {
                Ok(_) => {
                    any = true;
                    out.packets += 1;
                    out.bytes += each;
                }
                Err(e) => self.count(&e, at, out),
            }
        }
        // One by one they went: the device cannot do it.
        if any {
            self.segments = false;
        }
    }

    /// Counts a datagram that was refused.
    fn count(&self, error: &io::Error, at: usize, out: &mut TxOutcome) {
        match error.raw_os_error() {
            _ if is_full(error) => out.full += 1,
            Some(libc::EMSGSIZE) => {
                out.too_long += 1;
                mtu::refused(self.messages[at].way.dst, self.endpoint.mark);
            }
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::ENODEV,
            ) => out.down += 1,
            _ => out.error += 1,
        }
    }

    fn add_bytes(&mut self, frame: &[u8], offload: &Offload, out: &mut TxOutcome) {
        let Some(plan) = self.plan(frame, frame.len()) else {
            out.error += 1;
            return;
        };
        let (part, copy) = self.writer.copy(frame.len() - plan.skip);
        copy.copy_from_slice(&frame[plan.skip..]);
        let len = copy.len();
        if !finish(copy, offload, plan.skip) {
            out.error += 1;
            return;
        }
        self.add(&plan, part, len, frame.len());
    }
}

/// Fills in the checksum that is left to do in a packet without its first `skip` bytes.
fn finish(bytes: &mut [u8], offload: &Offload, skip: usize) -> bool {
    match offload.checksum {
        Checksum::Needed { start, offset } => {
            let start = usize::from(start);
            start >= skip && checksum::finish(bytes, start - skip, offset.into())
        }
        _ => true,
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

impl TxQueue for Tx {
    fn send(&mut self, batch: &Batch, which: &[u8]) -> TxOutcome {
        let mut out = TxOutcome::default();
        self.clear();
        for &i in which {
            let i = usize::from(i);
            let p = batch.packet(i);
            let plan = self.plan(p.head(), p.len());
            let (Some(plan), false) = (plan, p.offload.is_gso()) else {
                out.error += 1;
                continue;
            };
            let len = p.len() - plan.skip;
            let mut part = Part::Packet { i, skip: plan.skip };
            if let Checksum::Needed { .. } = p.offload.checksum {
                let (copied, copy) = self.writer.copy(len);
                batch.copy_out(i, plan.skip, copy);
                if !finish(copy, &p.offload, plan.skip) {
                    out.error += 1;
                    continue;
                }
                part = copied;
            }
            self.add(&plan, part, len, p.len());
        }
        self.flush_all(Some(batch), &mut out);
        out
    }

    fn send_owned(&mut self, packet: &OwnedPacket) -> TxOutcome {
        let mut out = TxOutcome::default();
        self.clear();
        if packet.offload.is_gso() {
            out.error = 1;
            return out;
        }
        self.add_bytes(&packet.bytes, &packet.offload, &mut out);
        self.flush_all(None, &mut out);
        out
    }

    fn flush(&mut self) {}
}
