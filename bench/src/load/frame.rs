//! What is sent: a frame of Ethernet and IPv4 in every buffer, and for each packet the sixteen bytes that make its flow.

use crate::classbench::{GeneratedRule, Header, Random};

/// Bytes of the virtio-net header before every frame (virtio 1.2 5.1.6).
pub const VNET: usize = 12;
/// Where a flow's [`Patch`] goes: from the IP header's time to live to the ports.
pub const PATCH_AT: usize = 22;
/// Where a frame says when and by which port it was sent: UDP's payload, or TCP's acknowledgement number.
pub const STAMP_AT: usize = 42;
/// Segment size of big frames.
pub const MSS: u16 = 1448;

/// Frame bytes 22 to 38: time to live, protocol, checksum, addresses, ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Patch(pub [u8; 16]);

impl Patch {
    /// Of a flow, for frames of this size.
    pub fn new(h: &Header, frame: usize) -> Patch {
        let mut p = [0; 16];
        p[0] = 64;
        p[1] = h.proto;
        p[4..8].copy_from_slice(&h.src.to_be_bytes());
        p[8..12].copy_from_slice(&h.dst.to_be_bytes());
        p[12..14].copy_from_slice(&h.sport.to_be_bytes());
        p[14..16].copy_from_slice(&h.dport.to_be_bytes());
        let ends = [h.src >> 16, h.src & 0xffff, h.dst >> 16, h.dst & 0xffff];
        let mut sum = fixed_sum(frame) + u32::from(h.proto) + ends.iter().sum::<u32>();
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        p[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        Patch(p)
    }
}

/// The checksum's share of the header words that do not change, with a time to live of 64.
fn fixed_sum(frame: usize) -> u32 {
    0x4500 + ip_len(frame) + 0x4000 + (64 << 8)
}

fn ip_len(frame: usize) -> u32 {
    (frame - 14) as u32
}

/// The address of the machine behind port `n` (from 0).
pub fn mac(port: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, port as u8 + 1]
}

/// A frame from the machine at `port` to the one at `peer`. It reads as UDP and as TCP alike, whatever the patch says.
pub fn template(port: usize, peer: usize, frame: usize) -> Vec<u8> {
    let mut f = vec![0; frame];
    f[..6].copy_from_slice(&mac(peer));
    f[6..12].copy_from_slice(&mac(port));
    f[12..14].copy_from_slice(&[8, 0]);
    f[14] = 0x45;
    f[16..18].copy_from_slice(&(ip_len(frame) as u16).to_be_bytes());
    f[20] = 0x40;
    f[38..40].copy_from_slice(&((frame - 34) as u16).to_be_bytes());
    f[46] = 0x50;
    f[47] = 0x10;
    f[48] = 0x10;
    for (i, b) in f.iter_mut().enumerate().skip(54) {
        *b = i as u8;
    }
    f
}

/// The sequence of flows a port sends.
#[derive(Clone)]
pub enum Flows {
    /// Round and round.
    List(Vec<Patch>),
    /// Each packet a flow that was never there before: the free bits of a rule, counted up, rule after rule.
    Endless {
        /// The rules, as headers that change.
        rules: Vec<Counter>,
        /// Frame size.
        frame: usize,
    },
}

/// A rule's headers, one after the other.
#[derive(Clone, Copy)]
pub struct Counter {
    /// Addresses and ports that are next: source, destination, source port, destination port, from the highest bit.
    tuple: u128,
    /// The bits that the rule leaves open.
    free: u128,
    proto: u8,
}

/// Bits a rule must leave open so that its headers do not run out.
const FREE_MIN: u32 = 14;

impl Counter {
    /// `None` if the rule leaves too few headers.
    pub fn new(rule: &GeneratedRule, random: &mut Random) -> Option<Counter> {
        let prefix = |(value, len): (u32, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            (u128::from(value & mask), u128::from(!mask))
        };
        let (src, src_free) = prefix(rule.src);
        let (dst, dst_free) = prefix(rule.dst);
        let proto = rule.proto.unwrap_or(17);
        let ports = matches!(proto, 6 | 17);
        let port = |(value, mask): (u16, u16)| {
            (
                u128::from(value & mask),
                if ports { u128::from(!mask) } else { 0 },
            )
        };
        let (sport, sport_free) = port(rule.sport);
        let (dport, dport_free) = port(rule.dport);
        let join = |a, b, c, d| a << 64 | b << 32 | c << 16 | d;
        let free: u128 = join(src_free, dst_free, sport_free, dport_free);
        if free.count_ones() < FREE_MIN {
            return None;
        }
        let start = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        Some(Counter {
            tuple: join(src, dst, sport, dport) | start & free,
            free,
            proto,
        })
    }

    /// The next header.
    #[inline]
    pub fn header(&mut self) -> Header {
        let t = self.tuple;
        let next = (t | !self.free).wrapping_add(1) & self.free;
        self.tuple = t & !self.free | next;
        Header {
            src: (t >> 64) as u32,
            dst: (t >> 32) as u32,
            proto: self.proto,
            sport: (t >> 16) as u16,
            dport: t as u16,
        }
    }
}

impl Flows {
    /// These flows, round and round.
    pub fn list(headers: impl IntoIterator<Item = Header>, frame: usize) -> Flows {
        Flows::List(headers.into_iter().map(|h| Patch::new(&h, frame)).collect())
    }

    /// Never the same flow twice (until a rule's headers are through).
    pub fn endless(rules: &[GeneratedRule], frame: usize, seed: u64) -> Flows {
        let mut random = Random(seed);
        let mut rules: Vec<Counter> = rules
            .iter()
            .filter_map(|r| Counter::new(r, &mut random))
            .collect();
        // Neighbouring rules are alike; traffic knows no order of rules.
        for i in (1..rules.len()).rev() {
            rules.swap(i, random.below(i as u64 + 1) as usize);
        }
        Flows::Endless { rules, frame }
    }

    /// `n` UDP flows between changing addresses and ports.
    pub fn many(n: usize, frame: usize) -> Flows {
        Flows::list((0..n).map(udp), frame)
    }
}

/// The `n`th of a million or more different UDP flows.
pub fn udp(n: usize) -> Header {
    let n = n as u32;
    // An odd factor keeps them different and spreads them.
    let spread = n.wrapping_mul(0x9e37_79b1);
    Header {
        src: 0x0a00_0000 | spread >> 12,
        dst: 0x0a80_0000 | n >> 4,
        proto: 17,
        sport: 1024 + (spread as u16 & 0x0fff),
        dport: 2000 + (n as u16 & 0xf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_patched_template_has_a_right_checksum() {
        for (n, size) in [(0, 64), (7, 512), (123_456, 1500)] {
            let mut f = template(0, 1, size);
            f[PATCH_AT..PATCH_AT + 16].copy_from_slice(&Patch::new(&udp(n), size).0);
            let mut sum: u32 = f[14..34]
                .chunks(2)
                .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
                .sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(sum, 0xffff);
        }
    }

    #[test]
    fn a_million_flows_are_different() {
        let all: HashSet<_> = (0..1_000_000).map(|n| Patch::new(&udp(n), 64).0).collect();
        assert_eq!(all.len(), 1_000_000);
    }

    #[test]
    fn endless_headers_are_new_and_inside_their_rules() {
        let rules = crate::classbench::rules(crate::classbench::Kind::Acl, 500, 1);
        let mut random = Random(1);
        let mut seen = HashSet::new();
        let mut open = 0;
        for r in &rules {
            let Some(mut c) = Counter::new(r, &mut random) else {
                continue;
            };
            open += 1;
            let mut own = HashSet::new();
            for _ in 0..2000 {
                let h = c.header();
                assert!(r.contains(&h), "{h:?} is not in {r:?}");
                assert!(own.insert(Patch::new(&h, 64).0));
            }
            seen.extend(own);
        }
        assert!(open > 100, "{open} of 500 rules leave room");
    }
}
