//! The host's sockets as a way in and out of tunnels.
//!
//! A tunnel port has no device. Where the underlay is not a bridge of ours, its packets go by an *endpoint*: a UDP socket, or a raw
//! one for GRE, of the host, shared by all tunnel ports that need the same. An endpoint is opened like a port and comes
//! apart like one. Its packets, both ways, begin with the *outer IP header*, so they are the same as on a bridge but for the Ethernet
//! header: what [`Encap`](crate::tunnel::encap::Encap) made without one goes out, and
//! [`decap::parse`](crate::tunnel::decap::parse) reads at 0 what comes in. Of the IP and UDP headers the kernel makes its own; what they
//! say (addresses, TOS, TTL, DF, source port, whether there is a UDP checksum) is told to it by control messages and by which socket
//! sends.
//!
//! # Sending
//!
//! The source port spreads flows over receive queues and paths. A UDP socket has one port, so each queue has a few sockets, opened when
//! first needed: for each of [`PORTS`] source ports, by DF and by checksum. They receive nothing. Datagrams of one length in a row to one
//! place go to the kernel as one (UDP GSO): a guest's 64 KB of TCP cost two passes through its network stack. Such datagrams have a UDP
//! checksum even over IPv4 and without `csum`, since the kernel cuts no others (RFC 7348 5 allows either).
//!
//! # Receiving
//!
//! Up to 32 system-size datagrams at a time, each of which can be many of one flow (UDP GRO); what does not fit a batch waits for the next. The
//! kernel's own tunnel devices and other programs keep what is theirs: a UDP port that is taken is an error of the endpoint. (Raw
//! sockets get copies; those for none of our tunnels are dropped.)
//!
//! # Threads
//!
//! Each queue belongs to one forwarding thread at a time. Nothing is shared but the receiving socket's counters.

mod send;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tap::Patience;
use super::{
    InterfaceConfig, OpenPort, Port, PortContext, PortError, PortStatus, RxQueue, TxQueue,
};
use crate::packet::Batch;
use crate::sys::datagram::{DatagramReader, DatagramSocket, Protocol, Seen, Treatment};
use crate::tunnel::outer::{self, Ip, PROTOCOL_GRE, PROTOCOL_UDP, Udp};
use crate::tunnel::{Given, TunnelKind, TunnelSpec};

pub use send::PORTS;

/// What an endpoint is for. Tunnel ports with the same share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The encapsulation. ERSPAN's packets come and go by GRE's endpoint.
    pub kind: TunnelKind,
    /// The UDP port listened to; 0 for GRE.
    pub port: u16,
    /// IPv6 outside.
    pub v6: bool,
    /// The mark of packets sent (`egress_pkt_mark`). Endpoints with a mark only send.
    pub mark: u32,
}

impl Endpoint {
    /// The one by which a tunnel port receives packets of a family.
    pub fn receiver(spec: &TunnelSpec, v6: bool) -> Endpoint {
        Endpoint {
            kind: match spec.kind {
                TunnelKind::Erspan => TunnelKind::Gre,
                kind => kind,
            },
            port: spec.port,
            v6,
            mark: 0,
        }
    }

    /// The one by which a tunnel port sends packets of a family: the same unless they are marked.
    pub fn sender(spec: &TunnelSpec, v6: bool) -> Endpoint {
        Endpoint {
            mark: spec.egress_mark,
            ..Endpoint::receiver(spec, v6)
        }
    }

    /// All that a tunnel port needs.
    pub fn needed_by(spec: &TunnelSpec) -> impl Iterator<Item = Endpoint> + '_ {
        let fixed = |g: Given<IpAddr>| match g {
            Given::Fixed(ip) => Some(ip.is_ipv6()),
            Given::ByFlow => None,
        };
        let family = fixed(spec.remote).or(spec.local.and_then(fixed));
        let families = [false, true]
            .into_iter()
            .filter(move |v6| family.is_none_or(|f| f == *v6));
        families.flat_map(|v6| {
            let sender = Endpoint::sender(spec, v6);
            let marked = (sender.mark != 0).then_some(sender);
            std::iter::once(Endpoint::receiver(spec, v6)).chain(marked)
        })
    }

    /// Its name, as Open vSwitch calls what it shares: `vxlan_sys_4789`.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            TunnelKind::Vxlan => "vxlan",
            TunnelKind::Geneve => "genev",
            TunnelKind::Gtpu => "gtpu",
            TunnelKind::Gre | TunnelKind::Erspan => "gre",
        };
        let family = if self.v6 { "ip6" } else { "" };
        let port = if self.port == 0 {
            String::new()
        } else {
            format!("_{}", self.port)
        };
        let mark = if self.mark == 0 {
            String::new()
        } else {
            format!("_mark{}", self.mark)
        };
        format!("{family}{kind}_sys{port}{mark}")
    }

    fn protocol(&self) -> Protocol {
        match self.kind.udp_port() {
            Some(_) => Protocol::Udp(self.port),
            None => Protocol::Raw(PROTOCOL_GRE),
        }
    }
}

/// What to do about the errors that opening usually meets.
fn explain(endpoint: &Endpoint, error: &io::Error) -> String {
    let Endpoint { port, .. } = endpoint;
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            format!("UDP port {port} is taken by another program or a tunnel device of the kernel")
        }
        Some(libc::EACCES) if endpoint.port != 0 && endpoint.port < 1024 => {
            format!("listen to UDP port {port} (ports below 1024 need CAP_NET_BIND_SERVICE)")
        }
        Some(libc::EPERM | libc::EACCES) if endpoint.mark != 0 => {
            "mark packets (egress_pkt_mark needs CAP_NET_ADMIN)".into()
        }
        Some(libc::EPERM | libc::EACCES) => {
            "open a raw socket for GRE (needs CAP_NET_RAW; vxlan and geneve do not)".into()
        }
        Some(libc::EAFNOSUPPORT) if endpoint.v6 => "open a socket (the host has no IPv6)".into(),
        _ => "open a socket for tunnels".into(),
    }
}

/// Opens an endpoint. Its [`OpenPort`] has one receive queue (none if it has a mark) and a transmit queue for each thread.
pub fn open(endpoint: &Endpoint, context: &PortContext) -> Result<OpenPort, PortError> {
    let failed = |source: io::Error| PortError::System {
        name: endpoint.name(),
        what: explain(endpoint, &source),
        source,
    };
    let (v6, protocol) = (endpoint.v6, endpoint.protocol());
    let shared = Arc::new(Shared::default());
    let mut rx: Vec<Box<dyn RxQueue>> = Vec::new();
    if endpoint.mark == 0 {
        let socket = DatagramSocket::receiver(v6, protocol).map_err(failed)?;
        rx.push(Box::new(Rx {
            endpoint: *endpoint,
            socket,
            reader: DatagramReader::default(),
            patience: Patience::default(),
            shared: shared.clone(),
            got: 0,
            next: 0,
            offset: 0,
        }));
    }
    // What sending lacks is told now and not with the first packet.
    let how = Treatment {
        df: true,
        checksum: true,
        mark: endpoint.mark,
    };
    DatagramSocket::sender(v6, protocol, how).map_err(failed)?;
    let tx = (0..context.threads.max(1))
        .map(|_| Box::new(send::Tx::new(*endpoint)) as Box<dyn TxQueue>)
        .collect();
    Ok(OpenPort {
        port: Arc::new(Control(shared)),
        rx,
        tx,
    })
}

#[derive(Debug, Default)]
struct Shared {
    /// Datagrams that could not be used.
    bad: AtomicU64,
}

struct Control(Arc<Shared>);

impl Port for Control {
    fn status(&self) -> PortStatus {
        PortStatus {
            link_up: true,
            admin_up: true,
            mtu: u16::MAX.into(),
            ..PortStatus::default()
        }
    }

    fn set_config(&self, _: &InterfaceConfig) -> Result<(), PortError> {
        Ok(())
    }

    fn link_resets(&self) -> u64 {
        0
    }

    fn extra_stats(&self) -> std::collections::BTreeMap<String, u64> {
        let bad = self.0.bad.load(Ordering::Relaxed);
        [("rx_malformed".to_owned(), bad)].into()
    }
}

struct Rx {
    endpoint: Endpoint,
    socket: DatagramSocket,
    reader: DatagramReader,
    patience: Patience,
    shared: Arc<Shared>,
    /// Of the last call: how many datagrams, which one is next, and from which of its bytes.
    got: usize,
    next: usize,
    offset: usize,
}

impl Rx {
    /// Hands over what was received, as much as there is room for.
    fn hand_over(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        while self.next < self.got && batch.room() > 0 {
            let bytes = self.reader.bytes(self.next);
            let (len, seen) = (bytes.len(), self.reader.seen(self.next));
            let taken = match seen {
                Some(seen) if self.offset < len => {
                    let to = (self.offset + seen.segment.max(1)).min(len);
                    let mut front = [0; outer::IPV6 + outer::UDP];
                    let front_len = self.front(&seen, to - self.offset, &mut front);
                    let range = self.offset..to;
                    self.offset = to;
                    self.reader
                        .push(batch, self.next, range, &front[..front_len])
                }
                _ => false,
            };
            if !taken {
                self.shared.bad.fetch_add(1, Ordering::Relaxed);
                self.offset = len;
            }
            if self.offset >= len {
                self.next += 1;
                self.offset = 0;
            }
        }
        batch.len() - before
    }

    /// The headers that the kernel took off a datagram of `len` bytes; how long they are. A raw IPv4 socket leaves its own.
    fn front(&self, seen: &Seen, len: usize, out: &mut [u8]) -> usize {
        let is_udp = self.endpoint.port != 0;
        if !is_udp && !self.endpoint.v6 {
            return 0;
        }
        let ip = Ip {
            src: seen.src,
            dst: seen.dst,
            tos: seen.tos,
            ttl: seen.ttl,
            df: false,
            protocol: if is_udp { PROTOCOL_UDP } else { PROTOCOL_GRE },
            payload: len + if is_udp { outer::UDP } else { 0 },
        };
        let at = ip.emit(0, out);
        if !is_udp {
            return at;
        }
        let udp = Udp {
            src: seen.port,
            dst: self.endpoint.port,
            payload: len,
            checksum: 0,
        };
        at + udp.emit(&mut out[at..])
    }
}

impl RxQueue for Rx {
    fn receive(&mut self, batch: &mut Batch) -> usize {
        if self.next >= self.got {
            if !self.patience.is_due() {
                return 0;
            }
            (self.next, self.offset) = (0, 0);
            // An error is of something sent before, and reading it clears it.
            let fd = self.socket.as_raw_fd();
            self.got = self.reader.receive(fd, batch.room()).unwrap_or(0);
        }
        let n = self.hand_over(batch);
        self.patience.found(n);
        n
    }

    fn release(&mut self) {}

    fn arm(&mut self) -> bool {
        // The socket is readable as long as a datagram waits; only what was received and not handed over has to be told of.
        self.patience.reset();
        self.next < self.got
    }

    fn disarm(&mut self) {
        self.patience.reset();
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}
