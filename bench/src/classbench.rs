//! Rule sets in the manner of ClassBench, and headers that hit them.
//!
//! ClassBench (Taylor and Turner, 2007) makes filter sets from the statistics of real ones. This is a small
//! stand-in: three kinds with their typical shares of prefix lengths, port ranges and protocols, plus
//! exact 5-tuples. Addresses are drawn from a tree with few busy branches, so that prefixes nest as
//! real ones do. Ranges of ports are given as one value under a mask, as OpenFlow has them. Everything is
//! a function of kind, number and seed.
//!
//! [`explosion`] is the rule set and the headers of a tuple-space explosion: an access list whose few allowing
//! rules are exact in several fields, and headers that each differ from one of them in
//! other places, so that every header has a reason of its own for not matching.

use openflow::{Action, FieldId, FlowMod, Instructions, Match, PortNo};
use std::collections::HashSet;
use std::fmt::Write as _;

/// What a rule set is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Access lists: narrow destinations, exact destination ports.
    Acl,
    /// Firewalls: many wildcards in addresses, ranges in both ports.
    Firewall,
    /// IP chains: a mix of both.
    Chain,
    /// Exact 5-tuples of UDP: one mask.
    Exact,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Acl, Kind::Firewall, Kind::Chain, Kind::Exact];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Acl => "acl",
            Kind::Firewall => "fw",
            Kind::Chain => "ipc",
            Kind::Exact => "exact",
        }
    }
}

/// A rule: prefixes, ports under masks, and perhaps a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GeneratedRule {
    /// OpenFlow priority.
    pub priority: u16,
    /// Source and length of its prefix.
    pub src: (u32, u8),
    /// Destination and length of its prefix.
    pub dst: (u32, u8),
    /// Protocol; none for any.
    pub proto: Option<u8>,
    /// Source port and mask (0 for any).
    pub sport: (u16, u16),
    /// Destination port and mask (0 for any).
    pub dport: (u16, u16),
}

/// The header fields of an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Protocol.
    pub proto: u8,
    /// Source port (0 where the protocol has none).
    pub sport: u16,
    /// Destination port (0 where the protocol has none).
    pub dport: u16,
}

/// A small generator of random numbers (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n.max(1)
    }

    /// One of a list of values with weights.
    fn weighted<T: Copy>(&mut self, list: &[(u32, T)]) -> T {
        let total: u32 = list.iter().map(|(w, _)| w).sum();
        let mut at = self.below(total.into()) as u32;
        for &(w, v) in list {
            if at < w {
                return v;
            }
            at -= w;
        }
        list[list.len() - 1].1
    }
}

fn prefix_mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

/// An address from a tree with few busy branches: each byte is mostly one of a few that depend on
/// those before it.
fn address(r: &mut Random, seed: u64, spread: u64) -> u32 {
    let mut a = 0u32;
    for (level, fan) in [3, 12, spread, 256].into_iter().enumerate() {
        let pick = r.below(fan);
        let branch =
            Random(seed ^ u64::from(a) << 8 ^ (level as u64) << 40 ^ pick << 44).next_u64();
        a = a << 8 | (branch & 0xff) as u32;
    }
    // Never multicast, broadcast or loopback.
    a & 0x3fff_ffff | 0x0a00_0000
}

const SRC_ACL: &[(u32, u8)] = &[
    (25, 0),
    (3, 8),
    (5, 16),
    (4, 20),
    (3, 22),
    (6, 23),
    (20, 24),
    (4, 27),
    (4, 28),
    (3, 30),
    (23, 32),
];
const DST_ACL: &[(u32, u8)] = &[
    (2, 0),
    (3, 16),
    (3, 20),
    (3, 21),
    (5, 23),
    (22, 24),
    (3, 26),
    (3, 27),
    (4, 28),
    (4, 29),
    (3, 30),
    (45, 32),
];
const SRC_FW: &[(u32, u8)] = &[
    (38, 0),
    (4, 8),
    (8, 16),
    (3, 18),
    (3, 20),
    (14, 24),
    (3, 28),
    (27, 32),
];
const DST_FW: &[(u32, u8)] = &[
    (30, 0),
    (4, 8),
    (9, 16),
    (3, 19),
    (12, 24),
    (3, 27),
    (39, 32),
];
const SRC_IPC: &[(u32, u8)] = &[
    (20, 0),
    (4, 8),
    (10, 16),
    (3, 17),
    (4, 21),
    (18, 24),
    (3, 26),
    (4, 28),
    (34, 32),
];
const DST_IPC: &[(u32, u8)] = &[
    (12, 0),
    (4, 8),
    (8, 16),
    (4, 20),
    (20, 24),
    (3, 25),
    (3, 28),
    (4, 30),
    (42, 32),
];
const PROTO: &[(u32, Option<u8>)] = &[
    (70, Some(6)),
    (18, Some(17)),
    (3, Some(1)),
    (1, Some(47)),
    (8, None),
];

#[derive(Clone, Copy)]
enum Ports {
    Any,
    High,
    Range,
    Exact,
}

fn ports(r: &mut Random, shape: Ports) -> (u16, u16) {
    const KNOWN: [u16; 16] = [
        80, 443, 22, 25, 53, 110, 143, 161, 389, 636, 1433, 1521, 3306, 3389, 5432, 8080,
    ];
    match shape {
        Ports::Any => (0, 0),
        // 1024 and up takes six masks; the widest of them half the time.
        Ports::High => {
            let shift = r.weighted(&[(6, 15), (2, 14), (1, 13), (1, 12), (1, 11), (1, 10)]);
            (1 << shift, 0xffffu16 << shift)
        }
        Ports::Range => {
            let shift = 1 + r.below(8) as u16;
            let mask = 0xffffu16 << shift;
            ((1024 + r.below(8192) as u16) & mask, mask)
        }
        Ports::Exact => match r.below(3) {
            0 => (1024 + r.below(4096) as u16, 0xffff),
            _ => (KNOWN[r.below(16) as usize], 0xffff),
        },
    }
}

fn rule(kind: Kind, r: &mut Random, seed: u64, n: usize) -> GeneratedRule {
    use Ports::{Any, Exact, High, Range};
    // As many third bytes as it takes to tell the rules apart.
    let spread = (n as u64 / 400).clamp(16, 256);
    let (src_len, dst_len, sport, dport) = match kind {
        Kind::Acl => (
            r.weighted(SRC_ACL),
            r.weighted(DST_ACL),
            Any,
            r.weighted(&[(30, Any), (3, High), (12, Range), (55, Exact)]),
        ),
        Kind::Firewall => (
            r.weighted(SRC_FW),
            r.weighted(DST_FW),
            r.weighted(&[(70, Any), (18, High), (4, Range), (8, Exact)]),
            r.weighted(&[(40, Any), (10, High), (15, Range), (35, Exact)]),
        ),
        Kind::Chain => (
            r.weighted(SRC_IPC),
            r.weighted(DST_IPC),
            r.weighted(&[(80, Any), (8, High), (4, Range), (8, Exact)]),
            r.weighted(&[(45, Any), (8, High), (7, Range), (40, Exact)]),
        ),
        Kind::Exact => (32, 32, Exact, Exact),
    };
    let proto = match kind {
        Kind::Exact => Some(17),
        _ => r.weighted(PROTO),
    };
    let has_ports = matches!(proto, Some(6 | 17));
    let sport = ports(r, if has_ports { sport } else { Any });
    let dport = ports(r, if has_ports { dport } else { Any });
    GeneratedRule {
        priority: 0,
        src: (address(r, seed, spread) & prefix_mask(src_len), src_len),
        dst: (address(r, !seed, spread) & prefix_mask(dst_len), dst_len),
        proto,
        sport,
        dport,
    }
}

/// `n` rules with different matches, by falling priority: 60,000 for the first, 1 or more for the
/// last. Exact rules have one priority.
pub fn rules(kind: Kind, n: usize, seed: u64) -> Vec<GeneratedRule> {
    let mut r = Random(seed);
    let mut seen = HashSet::with_capacity(n);
    let mut list = Vec::with_capacity(n);
    while list.len() < n {
        let mut g = rule(kind, &mut r, seed, n);
        if g.src.1 == 0 && g.dst.1 == 0 && g.dport.1 == 0 || !seen.insert(g) {
            continue;
        }
        g.priority = match kind {
            Kind::Exact => 1000,
            _ => (60_000 - list.len() as u64 * 59_999 / n as u64) as u16,
        };
        list.push(g);
    }
    list
}

/// The `n`th header inside a rule. Rules of higher priority may match it too.
pub fn packet_for(rule: &GeneratedRule, n: u64) -> Header {
    let mut r = Random(n ^ u64::from(rule.src.0) << 32 ^ u64::from(rule.dst.0));
    let mut free =
        |(value, len): (u32, u8)| value | r.next_u64() as u32 & !prefix_mask(len) & 0x3fff_ffff;
    let (src, dst) = (free(rule.src), free(rule.dst));
    let proto = rule.proto.unwrap_or(6);
    let mut port = |(value, mask): (u16, u16)| match proto {
        6 | 17 => value | r.next_u64() as u16 & !mask,
        _ => 0,
    };
    let (sport, dport) = (port(rule.sport), port(rule.dport));
    Header {
        src,
        dst,
        proto,
        sport,
        dport,
    }
}

fn dotted(a: u32) -> String {
    std::net::Ipv4Addr::from(a).to_string()
}

impl GeneratedRule {
    /// The rule as `ofctl add-flow` takes it.
    pub fn line(&self, output: u32) -> String {
        let mut s = format!("priority={}", self.priority);
        let _ = match self.proto {
            Some(6) => write!(s, ",tcp"),
            Some(17) => write!(s, ",udp"),
            Some(1) => write!(s, ",icmp"),
            Some(p) => write!(s, ",ip,nw_proto={p}"),
            None => write!(s, ",ip"),
        };
        for (name, (value, len)) in [("nw_src", self.src), ("nw_dst", self.dst)] {
            if len > 0 {
                let _ = write!(s, ",{name}={}/{len}", dotted(value));
            }
        }
        for (name, (value, mask)) in [("tp_src", self.sport), ("tp_dst", self.dport)] {
            let _ = match mask {
                0 => Ok(()),
                0xffff => write!(s, ",{name}={value}"),
                _ => write!(s, ",{name}={value:#x}/{mask:#x}"),
            };
        }
        let _ = write!(s, ",actions=output:{output}");
        s
    }

    /// What it matches.
    pub fn matching(&self) -> Match {
        let mut m = Match::new().with(FieldId::EthType, 0x0800);
        if let Some(p) = self.proto {
            m.set(FieldId::IpProto, p.into());
        }
        for (field, (value, len)) in [(FieldId::Ipv4Src, self.src), (FieldId::Ipv4Dst, self.dst)] {
            m.set_masked(field, value.into(), prefix_mask(len).into());
        }
        // TCP and UDP ports share their place in a match.
        for (field, (value, mask)) in [(FieldId::TcpSrc, self.sport), (FieldId::TcpDst, self.dport)]
        {
            m.set_masked(field, value.into(), mask.into());
        }
        m
    }

    /// The rule as a flow-mod that adds it to table 0.
    pub fn flow_mod(&self, output: u32) -> FlowMod {
        let out = Action::Output {
            port: PortNo(output),
            max_len: 0,
        };
        FlowMod {
            priority: self.priority,
            ..FlowMod::add(self.matching(), Instructions::apply(vec![out]))
        }
    }

    /// Whether a header is inside.
    #[cfg(test)]
    pub fn contains(&self, h: &Header) -> bool {
        let prefix = |(value, len): (u32, u8), a: u32| a & prefix_mask(len) == value;
        let port = |(value, mask): (u16, u16), p: u16| p & mask == value;
        prefix(self.src, h.src)
            && prefix(self.dst, h.dst)
            && self.proto.is_none_or(|p| p == h.proto)
            && port(self.sport, h.sport)
            && port(self.dport, h.dport)
    }
}

/// An attack on wildcard caches.
pub struct Explosion {
    /// The access list, with as many masks as asked for, and a last rule for everything else.
    pub rules: Vec<GeneratedRule>,
    /// Headers that match only the last rule, each for another set of reasons.
    pub headers: Vec<Header>,
}

/// Most headers of an [`explosion`].
pub const EXPLOSION_HEADERS: usize = 32 * 32 * 16;

/// An access list of `n_masks` different masks (up to 32 * 32 * 16) around one allowed 5-tuple, and
/// headers chosen against it: the one with index (i, j, k) agrees with the allowed tuple in exactly
/// the first i bits of the source, j of the destination and k of the destination port, so a
/// cache that keeps only the bits needed to tell them apart gets another mask for each.
pub fn explosion(n_masks: usize) -> Explosion {
    const SRC: u32 = 0x0a0b_0c0d;
    const DST: u32 = 0x0a15_161f;
    const DPORT: u16 = 0x1f90;
    let mut rules = Vec::with_capacity(n_masks + 1);
    let mut shapes: Vec<(u8, u8, u8)> = (0..EXPLOSION_HEADERS)
        .map(|n| {
            (
                1 + (n % 32) as u8,
                1 + (n / 32 % 32) as u8,
                1 + (n / 1024) as u8,
            )
        })
        .collect();
    // The order in which they are taken is scattered, the exact one first.
    let mut r = Random(1);
    for i in (1..shapes.len()).rev() {
        shapes.swap(i, r.below(i as u64 + 1) as usize);
    }
    let port_mask = |len: u8| 0xffffu16.checked_shl(16 - u32::from(len)).unwrap_or(0);
    let differ = |v: u32, at: u8, width: u8| v ^ 1 << (width - 1 - at);
    for (i, &(a, b, c)) in shapes
        .iter()
        .take(n_masks.min(EXPLOSION_HEADERS))
        .enumerate()
    {
        // Each wants the tuple's own bits but for the last one of its prefixes, so none covers
        // another and the headers below agree with it for as long as they can.
        rules.push(GeneratedRule {
            priority: (40_000 - i) as u16,
            src: (differ(SRC, a - 1, 32) & prefix_mask(a), a),
            dst: (differ(DST, b - 1, 32) & prefix_mask(b), b),
            proto: Some(17),
            sport: (4242, 0xffff),
            dport: (
                differ(DPORT.into(), c - 1, 16) as u16 & port_mask(c),
                port_mask(c),
            ),
        });
    }
    rules.push(GeneratedRule {
        priority: 1,
        src: (0, 0),
        dst: (0, 0),
        proto: None,
        sport: (0, 0),
        dport: (0, 0),
    });
    let headers = shapes
        .iter()
        .map(|&(a, b, c)| Header {
            src: differ(SRC, a - 1, 32),
            dst: differ(DST, b - 1, 32),
            proto: 17,
            // Not the port the rules want: the last reason not to match, behind all prefixes.
            sport: 4243,
            dport: differ(DPORT.into(), c - 1, 16) as u16,
        })
        .collect();
    Explosion { rules, headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_set_of_different_rules() {
        for kind in Kind::ALL {
            let a = rules(kind, 2000, 7);
            assert_eq!(a, rules(kind, 2000, 7), "{kind:?}");
            assert_ne!(a, rules(kind, 2000, 8), "{kind:?}");
            let matches: HashSet<Match> = a.iter().map(|r| r.matching()).collect();
            assert_eq!(matches.len(), 2000, "{kind:?}");
            let masks: HashSet<_> = a
                .iter()
                .map(|r| (r.src.1, r.dst.1, r.proto.is_some(), r.sport.1, r.dport.1))
                .collect();
            match kind {
                Kind::Exact => assert_eq!(masks.len(), 1),
                _ => assert!(masks.len() > 100, "{kind:?}: {}", masks.len()),
            }
        }
    }

    #[test]
    fn packets_are_inside_their_rules() {
        for kind in Kind::ALL {
            for (i, r) in rules(kind, 1000, 3).iter().enumerate() {
                assert!(r.contains(&packet_for(r, i as u64)), "{r:?}");
            }
        }
    }

    #[test]
    fn lines_are_flows() {
        let r = GeneratedRule {
            priority: 9,
            src: (0x0a00_0000, 8),
            dst: (0x0a01_0203, 32),
            proto: Some(17),
            sport: (0, 0),
            dport: (0x400, 0xfc00),
        };
        assert_eq!(
            r.line(2),
            "priority=9,udp,nw_src=10.0.0.0/8,nw_dst=10.1.2.3/32,tp_dst=0x400/0xfc00,actions=output:2"
        );
    }

    #[test]
    fn an_explosion_has_its_masks_and_its_headers_miss() {
        let e = explosion(200);
        let masks: HashSet<_> = e
            .rules
            .iter()
            .map(|r| (r.src.1, r.dst.1, r.dport.1))
            .collect();
        assert_eq!(masks.len(), 201);
        let (last, list) = e.rules.split_last().unwrap();
        for h in &e.headers {
            assert!(last.contains(h) && !list.iter().any(|r| r.contains(h)));
        }
    }
}
