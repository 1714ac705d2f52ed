//! Sockets that send and receive datagrams with their IP header's fields: UDP and raw IP (udp(7), raw(7), ip(7), ipv6(7)).
//!
//! A reader takes many datagrams per call (recvmmsg), and of one that is many of the same length (UDP GRO) each. A writer sends
//! many per call (sendmmsg), those of the same length to the same place as one that the kernel cuts (UDP GSO).

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::check;
use crate::packet::{Batch, Checksum, HEAD_MAX, SEGMENTS_PER_PACKET, copy};

const SOL_UDP: libc::c_int = 17;
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;
const UDP_NO_CHECK6_TX: libc::c_int = 101;
const UDP_NO_CHECK6_RX: libc::c_int = 102;
/// Room for datagrams that wait for us or for the interface. The kernel may give less.
const BUFFER: libc::c_int = 4 << 20;
/// Room for one datagram: the longest there is.
pub const SLOT: usize = 1 << 16;
/// Datagrams of one call.
pub const CALL: usize = 32;
/// Control bytes of a datagram, in words: addresses, TOS, TTL, segment size.
const CONTROL_WORDS: usize = 24;
/// Most datagrams that one call's message is cut into (UDP_MAX_SEGMENTS of older kernels).
pub const SEGMENTS_MAX: usize = 64;
/// Most bytes of one message.
pub const MESSAGE_MAX: usize = 65_000;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP; a receiver listens to this port, a sender takes any.
    Udp(u16),
    /// IP with this protocol number. Needs CAP_NET_RAW.
    Raw(u8),
}

/// How what a socket sends is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// Packets too long are refused, and routers may not make fragments; else they are fragmented.
    pub df: bool,
    /// UDP has a checksum.
    pub checksum: bool,
    /// The packets' mark; 0 for none. Needs CAP_NET_ADMIN.
    pub mark: u32,
}

/// A socket, never blocking.
#[derive(Debug)]
pub struct DatagramSocket {
    fd: OwnedFd,
}

impl DatagramSocket {
    fn open(v6: bool, protocol: Protocol) -> io::Result<DatagramSocket> {
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let (kind, number) = match protocol {
            Protocol::Udp(_) => (libc::SOCK_DGRAM, 0),
            Protocol::Raw(number) => (libc::SOCK_RAW, number.into()),
        };
        let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; a non-negative result is a fresh descriptor nobody else owns.
        let fd = check(unsafe { libc::socket(family, kind, number) })?;
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = DatagramSocket { fd };
        // Raw sockets are of one family anyway.
        if v6 && matches!(protocol, Protocol::Udp(_)) {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        Ok(socket)
    }

    /// A socket that receives all datagrams of a protocol (to a port) that the host gets and nobody else has taken.
    pub fn receiver(v6: bool, protocol: Protocol) -> io::Result<DatagramSocket> {
        let socket = DatagramSocket::open(v6, protocol)?;
        let options: &[(libc::c_int, libc::c_int)] = if v6 {
            &[
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
            ]
        } else {
            &[
                (libc::IPPROTO_IP, libc::IP_PKTINFO),
                (libc::IPPROTO_IP, libc::IP_RECVTOS),
                (libc::IPPROTO_IP, libc::IP_RECVTTL),
            ]
        };
        for &(level, option) in options {
            socket.set(level, option, 1)?;
        }
        socket.buffers(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)?;
        if let Protocol::Udp(port) = protocol {
            // Without it each datagram comes for itself.
            let _ = socket.set(SOL_UDP, UDP_GRO, 1);
            if v6 {
                // Tunnels may come without (RFC 6935).
                socket.set(SOL_UDP, UDP_NO_CHECK6_RX, 1)?;
            }
            socket.bind(v6, port)?;
        }
        Ok(socket)
    }

    /// A socket that only sends, from a port that the system picks.
    pub fn sender(v6: bool, protocol: Protocol, how: Treatment) -> io::Result<DatagramSocket> {
        let socket = DatagramSocket::open(v6, protocol)?;
        socket.refuse_all()?;
        socket.buffers(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)?;
        if v6 {
            let discover = if how.df {
                libc::IPV6_PMTUDISC_DO
            } else {
                libc::IPV6_PMTUDISC_DONT
            };
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discover)?;
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, how.df.into())?;
        } else {
            let discover = if how.df {
                libc::IP_PMTUDISC_DO
            } else {
                libc::IP_PMTUDISC_DONT
            };
            socket.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover)?;
        }
        if how.mark != 0 {
            socket.set(libc::SOL_SOCKET, libc::SO_MARK, how.mark as libc::c_int)?;
        }
        if let Protocol::Udp(_) = protocol {
            if !how.checksum {
                let (level, option) = if v6 {
                    (SOL_UDP, UDP_NO_CHECK6_TX)
                } else {
                    (libc::SOL_SOCKET, libc::SO_NO_CHECK)
                };
                socket.set(level, option, 1)?;
            }
            socket.bind(v6, 0)?;
        }
        Ok(socket)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let len = mem::size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` is `len` readable bytes.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                len,
            )
        })?;
        Ok(())
    }

    fn buffers(&self, force: libc::c_int, plain: libc::c_int) -> io::Result<()> {
        match self.set(libc::SOL_SOCKET, force, BUFFER) {
            Ok(()) => Ok(()),
            Err(_) => self.set(libc::SOL_SOCKET, plain, BUFFER),
        }
    }

    /// Nothing is queued on this socket.
    fn refuse_all(&self) -> io::Result<()> {
        // "ret 0": keep no byte.
        let mut code = [libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: 0,
        }];
        let program = libc::sock_fprog {
            len: 1,
            filter: code.as_mut_ptr(),
        };
        let len = mem::size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: `program` points at one instruction, which outlives the call; the kernel copies it.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                len,
            )
        })?;
        Ok(())
    }

    fn bind(&self, v6: bool, port: u16) -> io::Result<()> {
        let any = if v6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let (address, len) = address(any, port);
        // SAFETY: `address` is an initialised socket address of `len` bytes.
        check(unsafe { libc::bind(self.as_raw_fd(), (&raw const address).cast(), len) })?;
        Ok(())
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A socket address of either family, in the larger one's room.
fn address(ip: IpAddr, port: u16) -> (libc::sockaddr_in6, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid sockaddr_in6.
    let mut room: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    match ip {
        IpAddr::V6(ip) => {
            room.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            room.sin6_port = port.to_be();
            room.sin6_addr.s6_addr = ip.octets();
            (
                room,
                mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t,
            )
        }
        IpAddr::V4(ip) => {
            // SAFETY: a sockaddr_in is shorter than the room and needs no stricter alignment.
            let small = unsafe { &mut *(&raw mut room).cast::<libc::sockaddr_in>() };
            small.sin_family = libc::AF_INET as libc::sa_family_t;
            small.sin_port = port.to_be();
            small.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
            (room, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
    }
}

/// What came with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who sent it.
    pub src: IpAddr,
    /// From which UDP port.
    pub port: u16,
    /// The address of ours that it was sent to.
    pub dst: IpAddr,
    /// Type of service, traffic class.
    pub tos: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Bytes of each datagram, if it is many.
    pub segment: usize,
}

fn no_message() -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid mmsghdr.
    unsafe { mem::zeroed() }
}

const NO_IOV: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// Receives datagrams.
pub struct DatagramReader {
    arena: Box<[u8]>,
    names: Box<[libc::sockaddr_in6]>,
    control: Box<[[u64; CONTROL_WORDS]]>,
    iovs: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers in `iovs` and `messages` point into the other members, which are on the heap and move with them.
unsafe impl Send for DatagramReader {}

impl Default for DatagramReader {
    fn default() -> DatagramReader {
        // SAFETY: all-zero bytes are a valid sockaddr_in6.
        let name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        DatagramReader {
            arena: vec![0; CALL * SLOT].into(),
            names: vec![name; CALL].into(),
            control: vec![[0; CONTROL_WORDS]; CALL].into(),
            iovs: vec![NO_IOV; CALL].into(),
            messages: (0..CALL).map(|_| no_message()).collect(),
        }
    }
}

impl DatagramReader {
    /// Receives up to `n` datagrams; says how many. Those of the last call are overwritten.
    pub fn receive(&mut self, fd: RawFd, n: usize) -> io::Result<usize> {
        let n = n.min(CALL);
        for i in 0..n {
            self.iovs[i] = libc::iovec {
                iov_base: self.arena[i * SLOT..].as_mut_ptr().cast(),
                iov_len: SLOT,
            };
            let mut message = no_message();
            message.msg_hdr.msg_name = (&raw mut self.names[i]).cast();
            message.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            message.msg_hdr.msg_iov = &raw mut self.iovs[i];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = self.control[i].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = mem::size_of::<[u64; CONTROL_WORDS]>();
            self.messages[i] = message;
        }
        if n == 0 {
            return Ok(0);
        }
        // SAFETY: `n` messages are prepared, whose names, pieces and control areas are members of ours.
        let result = unsafe {
            libc::recvmmsg(
                fd,
                self.messages.as_mut_ptr(),
                n as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        match check(result) {
            Ok(n) => Ok(n as usize),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The bytes of datagram `i` of the last call.
    pub fn bytes(&self, i: usize) -> &[u8] {
        let len = (self.messages[i].msg_len as usize).min(SLOT);
        &self.arena[i * SLOT..i * SLOT + len]
    }

    /// What came with datagram `i` of the last call; none if it is cut or the system did not say all that it should.
    pub fn seen(&self, i: usize) -> Option<Seen> {
        let header = &self.messages[i].msg_hdr;
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let name = &self.names[i];
        let (src, port) = match libc::c_int::from(name.sin6_family) {
            libc::AF_INET6 => (
                IpAddr::from(name.sin6_addr.s6_addr),
                u16::from_be(name.sin6_port),
            ),
            libc::AF_INET => {
                // SAFETY: the system wrote a sockaddr_in, by its family; it is shorter than the room.
                let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
                (
                    IpAddr::from(name.sin_addr.s_addr.to_ne_bytes()),
                    u16::from_be(name.sin_port),
                )
            }
            _ => return None,
        };
        let mut seen = Seen {
            src,
            port,
            dst: src,
            tos: 0,
            ttl: 0,
            segment: self.bytes(i).len(),
        };
        let mut told = false;
        // SAFETY: recvmmsg filled in `header`, whose control area is `control[i]`.
        let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !at.is_null() {
            // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header whole inside the control area.
            let (level, kind, len) = unsafe { ((*at).cmsg_level, (*at).cmsg_type, (*at).cmsg_len) };
            // SAFETY: pure arithmetic.
            let len = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            let mut data = [0; 20];
            let n = len.min(data.len());
            // SAFETY: `len` bytes of data follow the header inside the control area.
            unsafe { ptr::copy_nonoverlapping(libc::CMSG_DATA(at), data.as_mut_ptr(), n) };
            let int = i32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if len >= 12 => {
                    // struct in_pktinfo: index, local address, destination in the header.
                    seen.dst = IpAddr::from([data[8], data[9], data[10], data[11]]);
                    told = true;
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if len >= 16 => {
                    let octets: [u8; 16] = std::array::from_fn(|i| data[i]);
                    seen.dst = IpAddr::from(octets);
                    told = true;
                }
                (libc::IPPROTO_IP, libc::IP_TOS) if len >= 1 => seen.tos = data[0],
                (libc::IPPROTO_IP, libc::IP_TTL) if len >= 4 => seen.ttl = int as u8,
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if len >= 4 => seen.tos = int as u8,
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) if len >= 4 => seen.ttl = int as u8,
                (SOL_UDP, UDP_GRO) if len >= 4 && int > 0 => seen.segment = int as usize,
                _ => {}
            }
            // SAFETY: `at` is a header inside `header`'s control area.
            at = unsafe { libc::CMSG_NXTHDR(header, at) };
        }
        told.then_some(seen)
    }
}

impl DatagramReader {
    /// Appends bytes `range` of datagram `i` of the last call to a batch as a packet, with `front` before them. `false` if it has no
    /// room. The packet's segments are valid until the next call of [`DatagramReader::receive`].
    pub fn push(&self, batch: &mut Batch, i: usize, range: Range<usize>, front: &[u8]) -> bool {
        let Some(bytes) = self.bytes(i).get(range) else {
            return false;
        };
        let Some(packet) = batch.begin() else {
            return false;
        };
        let in_head = bytes.len().min(HEAD_MAX);
        copy::count(in_head + front.len());
        packet.head_space()[..in_head].copy_from_slice(&bytes[..in_head]);
        packet.set_head(in_head);
        let Some(head) = packet.push_head(front.len()) else {
            return false;
        };
        head[..front.len()].copy_from_slice(front);
        // The kernel has checked what there was to check.
        packet.offload.checksum = Checksum::Valid;
        let tail = &bytes[in_head..];
        // SAFETY: the arena is not written before the next call, which comes after the batch was released.
        if !tail.is_empty() && !unsafe { batch.push_segment(tail.as_ptr(), tail.len() as u32) } {
            return false;
        }
        batch.commit();
        true
    }
}

/// Where a message goes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// From this address; unspecified leaves it to the route.
    pub src: IpAddr,
    /// To this address.
    pub dst: IpAddr,
    /// To this UDP port; 0 for raw IP.
    pub port: u16,
    /// Type of service, traffic class.
    pub tos: u8,
    /// Time to live, hop limit; 0 leaves it to the system.
    pub ttl: u8,
}

/// The bytes of one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A packet of the batch without its first bytes.
    Packet {
        /// Which.
        i: usize,
        /// How many are left out.
        skip: usize,
    },
    /// A copy that the writer holds.
    Copy(Range<usize>),
}

/// One message: one datagram, or several that the kernel is to cut it into.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it goes.
    pub way: Way,
    /// Bytes of each datagram but the last, if there are several.
    pub segment: Option<u16>,
    /// Its datagrams, places in the list that goes with it.
    pub parts: Range<usize>,
}

/// Sends messages.
pub struct DatagramWriter {
    names: Box<[libc::sockaddr_in6]>,
    control: Box<[[u64; CONTROL_WORDS]]>,
    iovs: Vec<libc::iovec>,
    messages: Box<[libc::mmsghdr]>,
    /// Bytes that had to be changed. Grows to what a batch comes to, and no more.
    copies: Vec<u8>,
}

// SAFETY: the pointers are only used during the call that wrote them.
unsafe impl Send for DatagramWriter {}

impl Default for DatagramWriter {
    fn default() -> DatagramWriter {
        // SAFETY: all-zero bytes are a valid sockaddr_in6.
        let name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        DatagramWriter {
            names: vec![name; CALL].into(),
            control: vec![[0; CONTROL_WORDS]; CALL].into(),
            iovs: Vec::with_capacity(CALL * (1 + SEGMENTS_PER_PACKET)),
            messages: (0..CALL).map(|_| no_message()).collect(),
            copies: Vec::new(),
        }
    }
}

impl DatagramWriter {
    /// Forgets all copies.
    pub fn clear(&mut self) {
        self.copies.clear();
    }

    /// Room for a copy of so many bytes, to be filled in.
    pub fn copy(&mut self, len: usize) -> (Part, &mut [u8]) {
        let from = self.copies.len();
        self.copies.resize(from + len, 0);
        (Part::Copy(from..from + len), &mut self.copies[from..])
    }

    /// Sends messages with their datagrams `parts`, of packets of `batch` and of copies; says how many messages went, at most
    /// [`CALL`]. An error is of the first of them.
    pub fn send(
        &mut self,
        fd: RawFd,
        batch: Option<&Batch>,
        messages: &[Message],
        parts: &[Part],
    ) -> io::Result<usize> {
        let messages = &messages[..messages.len().min(CALL)];
        // Messages hold pointers into this list, which therefore must not move while it is filled.
        self.iovs.clear();
        let runs = |part: &Part| match part {
            Part::Packet { i, .. } => batch.map_or(0, |b| b.segments(*i).len() + 1),
            Part::Copy(_) => 1,
        };
        let all = messages.iter().flat_map(|m| &parts[m.parts.clone()]);
        self.iovs.reserve(all.map(runs).sum());
        for (n, m) in messages.iter().enumerate() {
            let first = self.iovs.len();
            for part in &parts[m.parts.clone()] {
                match part {
                    Part::Copy(range) => self.iovs.push(iov(&self.copies[range.clone()])),
                    Part::Packet { i, skip } => {
                        let Some(batch) = batch else { continue };
                        let head = batch.packet(*i).head();
                        self.iovs.push(iov(&head[(*skip).min(head.len())..]));
                        for s in batch.segments(*i) {
                            self.iovs.push(libc::iovec {
                                iov_base: s.as_ptr().cast_mut().cast(),
                                iov_len: s.len(),
                            });
                        }
                    }
                }
            }
            let count = self.iovs.len() - first;
            let (name, name_len) = address(m.way.dst, m.way.port);
            self.names[n] = name;
            let mut message = no_message();
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut self.names[n]).cast();
            header.msg_namelen = name_len;
            header.msg_iov = self.iovs[first..].as_mut_ptr();
            header.msg_iovlen = count;
            header.msg_controllen = fill_control(&mut self.control[n], &m.way, m.segment);
            header.msg_control = self.control[n].as_mut_ptr().cast();
            self.messages[n] = message;
        }
        // SAFETY: names, control areas and pieces were filled in above and are members of ours; heads and segments are readable
        // while the batch is borrowed, copies while we are.
        let result = unsafe {
            libc::sendmmsg(
                fd,
                self.messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        check(result).map(|n| n as usize)
    }
}

fn iov(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// Writes control messages; says how many bytes they are.
fn fill_control(room: &mut [u64; CONTROL_WORDS], way: &Way, segment: Option<u16>) -> usize {
    let mut at = 0;
    let mut add = |level: libc::c_int, kind: libc::c_int, data: &[u8]| {
        // SAFETY: pure arithmetic.
        let (len, space) = unsafe {
            (
                libc::CMSG_LEN(data.len() as u32) as usize,
                libc::CMSG_SPACE(data.len() as u32) as usize,
            )
        };
        let bytes = mem::size_of_val(&room[..]);
        if at + space > bytes {
            return;
        }
        let header = libc::cmsghdr {
            cmsg_len: len,
            cmsg_level: level,
            cmsg_type: kind,
        };
        // SAFETY: `space` bytes from `at` on lie inside the room, which is aligned for headers, and `at` is a multiple of that
        // alignment; the data's length is within `space`.
        unsafe {
            let to = room.as_mut_ptr().cast::<u8>().add(at);
            to.cast::<libc::cmsghdr>().write(header);
            let data_at = libc::CMSG_DATA(to.cast::<libc::cmsghdr>());
            ptr::copy_nonoverlapping(data.as_ptr(), data_at, data.len());
        }
        at += space;
    };
    let int = |value: u8| libc::c_int::from(value).to_ne_bytes();
    match way.src {
        IpAddr::V4(src) => {
            if !src.is_unspecified() {
                // struct in_pktinfo: index, source, destination.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&src.octets());
                add(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            add(libc::IPPROTO_IP, libc::IP_TOS, &int(way.tos));
            if way.ttl != 0 {
                add(libc::IPPROTO_IP, libc::IP_TTL, &int(way.ttl));
            }
        }
        IpAddr::V6(src) => {
            if !src.is_unspecified() {
                // struct in6_pktinfo: source, index.
                let mut info = [0; 20];
                info[..16].copy_from_slice(&src.octets());
                add(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            add(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &int(way.tos));
            if way.ttl != 0 {
                add(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &int(way.ttl));
            }
        }
    }
    if let Some(size) = segment {
        add(SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes());
    }
    at
}

/// What the route to an address carries now, as far as the system knows (path MTU discovery included).
pub fn path_mtu(dst: IpAddr, mark: u32) -> io::Result<u32> {
    let v6 = dst.is_ipv6();
    let socket = DatagramSocket::open(v6, Protocol::Udp(0))?;
    if mark != 0 {
        socket.set(libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)?;
    }
    // Port 9, discard: nothing is sent.
    let (to, len) = address(dst, 9);
    // SAFETY: `to` is an initialised socket address of `len` bytes.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), len) })?;
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let mut mtu: libc::c_int = 0;
    let mut size = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `mtu` is `size` writable bytes.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut mtu).cast(),
            &raw mut size,
        )
    })?;
    Ok(mtu as u32)
}
