//! Frames: by name, and drawn.

use super::generate::Rng;

/// What a frame is made of. Names in [`named`] set the kind and leave the rest.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: Kind,
    pub dst: u8,
    pub src: u8,
    /// Tag protocol and control information, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Label stack entries without the bottom bit.
    pub labels: Vec<u32>,
    pub nw_src: u8,
    pub nw_dst: u8,
    pub tos: u8,
    pub ttl: u8,
    pub tp_src: u16,
    pub tp_dst: u16,
    pub payload: usize,
}

/// What is behind the tags and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub enum Kind {
    Tcp4, Udp4, Icmp4, Sctp4, Other4, First4, Later4,
    Tcp6, Udp6, Icmp6, Sctp6, Solicit, Advert, First6, Later6, Options6,
    Arp, Rarp, Unknown, Snap,
}

impl Kind {
    /// Every kind.
    #[rustfmt::skip]
    pub const ALL: [Kind; 20] = [
        Kind::Tcp4, Kind::Udp4, Kind::Icmp4, Kind::Sctp4, Kind::Other4, Kind::First4, Kind::Later4,
        Kind::Tcp6, Kind::Udp6, Kind::Icmp6, Kind::Sctp6, Kind::Solicit, Kind::Advert, Kind::First6, Kind::Later6, Kind::Options6,
        Kind::Arp, Kind::Rarp, Kind::Unknown, Kind::Snap,
    ];

    pub fn is_v4(self) -> bool {
        (self as u8) < Kind::Tcp6 as u8
    }

    pub fn is_v6(self) -> bool {
        !self.is_v4() && (self as u8) < Kind::Arp as u8
    }

    pub fn eth_type(self) -> u16 {
        match self {
            k if k.is_v4() => 0x0800,
            k if k.is_v6() => 0x86dd,
            Kind::Arp => 0x0806,
            Kind::Rarp => 0x8035,
            _ => 0x9999,
        }
    }
}

impl Frame {
    pub fn new(kind: Kind) -> Frame {
        Frame {
            kind,
            dst: 0x21,
            src: 0x11,
            tags: vec![],
            labels: vec![],
            nw_src: 1,
            nw_dst: 2,
            tos: 0x28,
            ttl: 64,
            tp_src: 1000,
            tp_dst: 80,
            payload: 30,
        }
    }

    /// One that comes in by a port. Sources are the port's own, so that who sends where is known from the start.
    pub fn draw(rng: &mut Rng, kind: Kind, port: usize) -> Frame {
        let mut f = Frame::new(kind);
        f.src = (port as u8) << 4 | rng.below(2) as u8;
        f.dst = rng.one(&[0x10, 0x11, 0x20, 0x21, 0x30, 0x41, 0xfe, 0xff]);
        if f.dst >> 4 == port as u8 {
            f.dst = 0xfe;
        }
        f.nw_src = rng.one(&[1, 2, 3, 129]);
        f.nw_dst = rng.one(&[1, 2, 3, 129]);
        f.tos = rng.one(&[0, 1, 0x28, 0xb8, 0xff]);
        f.ttl = rng.one(&[0, 1, 2, 64, 255]);
        f.tp_src = rng.one(&[1, 80, 443, 1000, 0xffff]);
        f.tp_dst = rng.one(&[1, 80, 443, 1000, 0xffff]);
        f.payload = rng.one(&[0, 1, 30, 31, 200, 1200]);
        f
    }

    /// Its bytes, with right lengths and checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let mac = |n: u8| {
            if n == 0xff {
                [0xff; 6]
            } else {
                [2, 0, 0, 0, 0, n]
            }
        };
        let mut f = [mac(self.dst), mac(self.src)].concat();
        for (tpid, tci) in &self.tags {
            f.extend(tpid.to_be_bytes());
            f.extend(tci.to_be_bytes());
        }
        let network = self.network();
        if self.kind == Kind::Snap {
            f.extend((network.len() as u16 + 8).to_be_bytes());
            f.extend([0xaa, 0xaa, 3, 0, 0, 0, 0x99, 0x99]);
        } else if self.labels.is_empty() {
            f.extend(self.kind.eth_type().to_be_bytes());
        } else {
            f.extend([0x88, 0x47]);
        }
        for (i, label) in self.labels.iter().enumerate() {
            let bottom = u32::from(i + 1 == self.labels.len()) << 8;
            f.extend((label & !0x100 | bottom).to_be_bytes());
        }
        f.extend(network);
        if f.len() < 60 {
            f.resize(60, 0);
        }
        f
    }

    fn network(&self) -> Vec<u8> {
        match self.kind {
            Kind::Arp | Kind::Rarp => {
                let op = if self.kind == Kind::Rarp {
                    3
                } else {
                    self.tp_dst % 2 + 1
                };
                let mut a = vec![0, 1, 8, 0, 6, 4, 0, op as u8];
                a.extend([2, 0, 0, 0, 0, self.src, 10, 0, 0, self.nw_src]);
                a.extend([2, 0, 0, 0, 0, self.dst, 10, 0, 0, self.nw_dst]);
                a
            }
            Kind::Unknown | Kind::Snap => (0..self.payload as u32 + 20).map(|i| i as u8).collect(),
            k if k.is_v4() => self.ipv4(),
            _ => self.ipv6(),
        }
    }

    fn ipv4(&self) -> Vec<u8> {
        let (proto, fragment) = match self.kind {
            Kind::Tcp4 => (6, 0),
            Kind::Udp4 => (17, 0),
            Kind::Icmp4 => (1, 0),
            Kind::Sctp4 => (132, 0),
            Kind::First4 => (17, 0x2000),
            // Of no protocol with ports: Open vSwitch takes a later fragment's payload for a checksum.
            Kind::Later4 => (99, 0x0010),
            _ => (99, 0x4000u16),
        };
        let addresses = [[10, 0, 0, self.nw_src], [10, 0, 0, self.nw_dst]].concat();
        let transport = self.transport(proto, &addresses);
        let mut h = vec![0x45, self.tos];
        h.extend((20 + transport.len() as u16).to_be_bytes());
        h.extend([0, 7]);
        h.extend(fragment.to_be_bytes());
        h.extend([self.ttl, proto, 0, 0]);
        h.extend(addresses);
        let c = !sum(&[], &h);
        put(&mut h, 10, c);
        [h, transport].concat()
    }

    fn ipv6(&self) -> Vec<u8> {
        let address = |n: u8| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n];
        let addresses = [address(self.nw_src), address(self.nw_dst)].concat();
        let (proto, before): (u8, Vec<u8>) = match self.kind {
            Kind::Tcp6 => (6, vec![]),
            Kind::Udp6 => (17, vec![]),
            Kind::Sctp6 => (132, vec![]),
            Kind::First6 => (17, vec![17, 0, 0, 1, 0, 0, 0, 9]),
            Kind::Later6 => (17, vec![17, 0, 0, 0x10, 0, 0, 0, 9]),
            Kind::Options6 => (17, vec![17, 0, 1, 4, 0, 0, 0, 0]),
            _ => (58, vec![]),
        };
        let next = match self.kind {
            Kind::First6 | Kind::Later6 => 44,
            Kind::Options6 => 0,
            _ => proto,
        };
        let transport = self.transport(proto, &addresses);
        let first = 6 << 28 | u32::from(self.tos) << 20 | 0x12345;
        let mut h = first.to_be_bytes().to_vec();
        h.extend(((before.len() + transport.len()) as u16).to_be_bytes());
        h.extend([next, self.ttl]);
        h.extend(addresses);
        [h, before, transport].concat()
    }

    fn transport(&self, proto: u8, addresses: &[u8]) -> Vec<u8> {
        let mut t = [self.tp_src.to_be_bytes(), self.tp_dst.to_be_bytes()].concat();
        let at = match proto {
            6 => {
                t.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 1, 0, 0, 0, 0, 0]);
                Some(16)
            }
            17 => {
                t.extend((8 + self.payload as u16).to_be_bytes());
                t.extend([0, 0]);
                Some(6)
            }
            132 => {
                t.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4]);
                None
            }
            1 | 58 => {
                let (kind, code) = match self.kind {
                    Kind::Solicit => (135, 0),
                    Kind::Advert => (136, 0),
                    _ => (8 - (self.tp_src % 2) as u8 * 8, (self.tp_dst % 3) as u8),
                };
                t = vec![kind, code, 0, 0, 0, 1, 0, 2];
                Some(2)
            }
            _ => None,
        };
        if matches!(self.kind, Kind::Solicit | Kind::Advert) {
            t.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.nw_dst]);
            let option = if self.kind == Kind::Solicit { 1 } else { 2 };
            t.extend([option, 1, 2, 0, 0, 0, 0, self.src]);
        } else {
            t.extend((0..self.payload).map(|i| i as u8));
        }
        match at {
            Some(at) => {
                let pseudo = match (proto, addresses.len()) {
                    (1, _) => vec![],
                    _ => {
                        let len = (t.len() as u32).to_be_bytes();
                        [addresses, &len, &[0, 0, 0, proto]].concat()
                    }
                };
                let c = match !sum(&pseudo, &t) {
                    0 if proto == 17 => 0xffff,
                    c => c,
                };
                put(&mut t, at, c);
            }
            None if proto == 132 => {
                let c = crc32c(&t);
                t[8..12].copy_from_slice(&c.to_le_bytes());
            }
            None => {}
        }
        t
    }
}

fn put(b: &mut [u8], at: usize, v: u16) {
    b[at..at + 2].copy_from_slice(&v.to_be_bytes());
}

/// The one's complement sum of both, each of an even number of bytes but the last.
fn sum(a: &[u8], b: &[u8]) -> u16 {
    let words = a.chunks(2).chain(b.chunks(2));
    let total: u32 = words
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
        .sum();
    let folded = (total >> 16) + (total & 0xffff);
    ((folded >> 16) + (folded & 0xffff)) as u16
}

/// SCTP's checksum (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| {
            if c & 1 != 0 {
                c >> 1 ^ 0x82f6_3b78
            } else {
                c >> 1
            }
        })
    })
}

/// Whether a frame has a tag behind its first.
pub fn has_two_tags(frame: &[u8]) -> bool {
    [12, 16]
        .iter()
        .all(|&at| matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8])))
}

/// A frame by name: a kind in small letters (`udp4`), then any of `@VID` (a tag; `@sVID` one of a service provider),
/// `+LABEL` (an MPLS label), `.ttl=N`, `.tos=N`, `.len=N` (of the payload), `.dst=N` and `.src=N` (the last byte of a MAC address).
pub fn named(name: &str) -> Vec<u8> {
    let end = name.find(['@', '+', '.']).unwrap_or(name.len());
    let (kind, mut rest) = name.split_at(end);
    let kind = Kind::ALL
        .into_iter()
        .find(|k| format!("{k:?}").to_lowercase() == kind)
        .unwrap_or_else(|| panic!("{kind} is no kind of frame"));
    let mut f = Frame::new(kind);
    while let Some(first) = rest.chars().next() {
        let end = rest[1..]
            .find(['@', '+', '.'])
            .map_or(rest.len(), |n| n + 1);
        let (word, after) = rest[1..].split_at(end - 1);
        rest = after;
        let number = |s: &str| -> u32 {
            let hex = s.strip_prefix("0x").map(|h| u32::from_str_radix(h, 16));
            hex.unwrap_or_else(|| s.parse())
                .unwrap_or_else(|_| panic!("{name}: {s}"))
        };
        match first {
            '@' => f.tags.push(match word.strip_prefix('s') {
                Some(vid) => (0x88a8, number(vid) as u16),
                None => (0x8100, number(word) as u16),
            }),
            '+' => f.labels.push(number(word) << 12 | 64),
            _ => match word
                .split_once('=')
                .unwrap_or_else(|| panic!("{name}: {word}"))
            {
                ("ttl", n) => f.ttl = number(n) as u8,
                ("tos", n) => f.tos = number(n) as u8,
                ("len", n) => f.payload = number(n) as usize,
                ("dst", n) => f.dst = number(n) as u8,
                ("src", n) => f.src = number(n) as u8,
                _ => panic!("{name}: {word}"),
            },
        }
    }
    f.bytes()
}
