//! Matching, against a table that is searched rule by rule: packets go through the real caches of a forwarding thread, and
//! whatever was cached before, each is done to what the first rule that matches it says.
//!
//! The model knows a packet by its fields, never by the switch's key; so keys are tried too. Packets come from a small
//! world, so that most of them agree with others on what a cached flow's mask looks at: a mask that looks at too little gives
//! one of them another's treatment.

mod common;

use common::*;
use datapath::packet::checksum;
use openflow::*;
use proptest::prelude::*;

const PORTS: usize = 4;

/// A packet by its fields.
#[derive(Clone, Debug, PartialEq)]
struct Packet {
    port: u32,
    dst: u8,
    src: u8,
    /// Priority and VLAN.
    vlan: Option<u16>,
    inside: Inside,
}

#[derive(Clone, Debug, PartialEq)]
enum Inside {
    Other,
    Arp {
        op: u8,
        spa: u32,
        tpa: u32,
    },
    Ip {
        v6: bool,
        src: u32,
        dst: u32,
        tos: u8,
        ttl: u8,
        frag: Frag,
        l4: L4,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Frag {
    No,
    First,
    Later,
}

#[derive(Clone, Debug, PartialEq)]
enum L4 {
    Tcp(u16, u16, u8),
    Udp(u16, u16),
    Icmp(u8, u8),
}

const OTHER: u16 = 0x1234;

impl L4 {
    fn proto(&self, v6: bool) -> u8 {
        match self {
            L4::Tcp(..) => 6,
            L4::Udp(..) => 17,
            L4::Icmp(..) if v6 => 58,
            L4::Icmp(..) => 1,
        }
    }

    /// Its bytes, the checksum left out.
    fn bytes(&self) -> Vec<u8> {
        match *self {
            L4::Tcp(s, d, flags) => {
                let mut b = [s.to_be_bytes(), d.to_be_bytes()].concat();
                b.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
                b
            }
            L4::Udp(s, d) => [s.to_be_bytes(), d.to_be_bytes(), [0, 12], [0, 0]].concat(),
            L4::Icmp(t, c) => vec![t, c, 0, 0, 0, 7, 0, 9],
        }
    }

    fn sum_at(&self) -> usize {
        match self {
            L4::Tcp(..) => 16,
            L4::Udp(..) => 6,
            L4::Icmp(..) => 2,
        }
    }
}

fn address6(v: u32) -> [u8; 16] {
    let mut a = [0; 16];
    a[0] = 0xfd;
    a[12..].copy_from_slice(&v.to_be_bytes());
    a
}

impl Packet {
    fn frame(&self) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, self.dst, 2, 0, 0, 0, 0, self.src];
        if let Some(tci) = self.vlan {
            f.extend([0x81, 0]);
            f.extend(tci.to_be_bytes());
        }
        f.extend(self.eth_type().to_be_bytes());
        match &self.inside {
            Inside::Other => f.extend([7; 20]),
            Inside::Arp { op, spa, tpa } => {
                f.extend([0, 1, 8, 0, 6, 4, 0, *op, 2, 0, 0, 0, 0, self.src]);
                f.extend(spa.to_be_bytes());
                f.extend([0; 6]);
                f.extend(tpa.to_be_bytes());
            }
            Inside::Ip {
                v6: false,
                src,
                dst,
                tos,
                ttl,
                frag,
                l4,
            } => {
                let mut body = l4.bytes();
                body.extend([0xab; 4]);
                let mut h = vec![0x45, *tos];
                h.extend((20 + body.len() as u16).to_be_bytes());
                h.extend([0, 1]);
                h.extend(match frag {
                    Frag::No => [0x40, 0],
                    Frag::First => [0x20, 0],
                    Frag::Later => [0, 3],
                });
                h.extend([*ttl, l4.proto(false), 0, 0]);
                h.extend(src.to_be_bytes());
                h.extend(dst.to_be_bytes());
                let c = checksum::of(&h);
                h[10..12].copy_from_slice(&c.to_be_bytes());
                let mut pseudo = h[12..20].to_vec();
                pseudo.extend([0, l4.proto(false)]);
                pseudo.extend((body.len() as u16).to_be_bytes());
                // A later fragment has no ports and no checksum, only bytes.
                if *frag != Frag::Later {
                    sum(&mut body, l4, &pseudo);
                }
                f.extend(h);
                f.extend(body);
            }
            Inside::Ip {
                src,
                dst,
                tos,
                ttl,
                l4,
                ..
            } => {
                let mut body = l4.bytes();
                body.extend([0xab; 4]);
                f.extend([0x60 | tos >> 4, tos << 4, 0, 0]);
                f.extend((body.len() as u16).to_be_bytes());
                f.extend([l4.proto(true), *ttl]);
                f.extend(address6(*src));
                f.extend(address6(*dst));
                let mut pseudo = [address6(*src), address6(*dst)].concat();
                pseudo.extend((body.len() as u32).to_be_bytes());
                pseudo.extend([0, 0, 0, l4.proto(true)]);
                sum(&mut body, l4, &pseudo);
                f.extend(body);
            }
        }
        f
    }

    fn eth_type(&self) -> u16 {
        match self.inside {
            Inside::Other => OTHER,
            Inside::Arp { .. } => 0x0806,
            Inside::Ip { v6: false, .. } => 0x0800,
            Inside::Ip { .. } => 0x86dd,
        }
    }

    /// A field's value, if the packet has it.
    fn get(&self, field: FieldId) -> Option<u128> {
        let tci = self.vlan.map_or(0, |t| t | 0x1000);
        Some(match field {
            FieldId::InPort => self.port.into(),
            FieldId::EthDst => 0x0200_0000_0000 | u128::from(self.dst),
            FieldId::EthSrc => 0x0200_0000_0000 | u128::from(self.src),
            FieldId::EthType => self.eth_type().into(),
            FieldId::VlanVid => (tci & 0x1fff).into(),
            FieldId::VlanPcp => (tci >> 13).into(),
            _ => return self.inner(field),
        })
    }

    fn inner(&self, field: FieldId) -> Option<u128> {
        match &self.inside {
            Inside::Other => None,
            Inside::Arp { op, spa, tpa } => Some(match field {
                FieldId::ArpOp => (*op).into(),
                FieldId::ArpSpa => (*spa).into(),
                FieldId::ArpTpa => (*tpa).into(),
                _ => return None,
            }),
            Inside::Ip {
                v6,
                src,
                dst,
                tos,
                ttl,
                frag,
                l4,
            } => {
                let wide = |a| u128::from_be_bytes(address6(a));
                let ported = *frag == Frag::No;
                Some(match (field, l4) {
                    (FieldId::IpProto, l4) => l4.proto(*v6).into(),
                    (FieldId::IpDscp, _) => (tos >> 2).into(),
                    (FieldId::IpEcn, _) => (tos & 3).into(),
                    (FieldId::NwTtl, _) => (*ttl).into(),
                    (FieldId::IpFrag, _) => [0, 1, 3][*frag as usize],
                    (FieldId::Ipv4Src, _) if !v6 => (*src).into(),
                    (FieldId::Ipv4Dst, _) if !v6 => (*dst).into(),
                    (FieldId::Ipv6Src, _) if *v6 => wide(*src),
                    (FieldId::Ipv6Dst, _) if *v6 => wide(*dst),
                    // Of a fragment, be it the first, ports are zero (`ovs-ofctl set-frags normal`).
                    (FieldId::TcpSrc, L4::Tcp(s, ..)) | (FieldId::UdpSrc, L4::Udp(s, _)) => {
                        if ported {
                            (*s).into()
                        } else {
                            0
                        }
                    }
                    (FieldId::TcpDst, L4::Tcp(_, d, _)) | (FieldId::UdpDst, L4::Udp(_, d)) => {
                        if ported {
                            (*d).into()
                        } else {
                            0
                        }
                    }
                    // Its flags are not.
                    (FieldId::TcpFlags, L4::Tcp(_, _, f)) => {
                        if *frag != Frag::Later {
                            (*f).into()
                        } else {
                            0
                        }
                    }
                    (FieldId::Icmpv4Type, L4::Icmp(t, _)) if !v6 => {
                        if ported {
                            (*t).into()
                        } else {
                            0
                        }
                    }
                    (FieldId::Icmpv6Type, L4::Icmp(t, _)) if *v6 => (*t).into(),
                    _ => return None,
                })
            }
        }
    }
}

fn sum(body: &mut [u8], l4: &L4, pseudo: &[u8]) {
    let mut all = match l4 {
        L4::Icmp(..) if pseudo.len() < 40 => Vec::new(),
        _ => pseudo.to_vec(),
    };
    all.extend_from_slice(body);
    if all.len() % 2 == 1 {
        all.push(0);
    }
    let at = l4.sum_at();
    body[at..at + 2].copy_from_slice(&checksum::of(&all).to_be_bytes());
}

/// A rule of the model: fields with values and masks, and what is done.
#[derive(Clone, Debug)]
struct Rule {
    table: u8,
    priority: u16,
    wants: Vec<(FieldId, u128, u128)>,
    does: Vec<Does>,
    next: Option<u8>,
}

#[derive(Clone, Debug, PartialEq)]
enum Does {
    Output(u32),
    Dst(u8),
    Reg(u8),
    Vid(u16),
    Untag,
    Ipv4(u32),
    Resubmit(u8),
}

impl Rule {
    fn matches(&self, p: &Packet, reg: u8) -> bool {
        self.wants.iter().all(|(field, value, mask)| {
            let has = match field {
                FieldId::Reg0 => Some(reg.into()),
                f => p.get(*f),
            };
            has.is_some_and(|has| has & mask == value & mask)
        })
    }

    fn to_mod(&self) -> FlowMod {
        let mut m = Match::new();
        for (field, value, mask) in &self.wants {
            m.set_masked(*field, value & mask, *mask);
        }
        let set = |field: FieldId, value: u128| Action::SetField {
            field,
            value,
            mask: field.info().full_mask(),
        };
        let apply = self.does.iter().map(|d| match *d {
            Does::Output(p) => Action::Output {
                port: PortNo(p),
                max_len: 0,
            },
            Does::Dst(n) => set(FieldId::EthDst, 0x0200_0000_0000 | u128::from(n)),
            Does::Reg(n) => set(FieldId::Reg0, n.into()),
            Does::Vid(v) => Action::SetVlanVid(v),
            Does::Untag => Action::PopVlan,
            Does::Ipv4(a) => set(FieldId::Ipv4Src, a.into()),
            Does::Resubmit(t) => Action::Resubmit {
                in_port: None,
                table: Some(t),
                ct: false,
            },
        });
        FlowMod {
            table: self.table,
            priority: self.priority,
            ..FlowMod::add(
                m,
                Instructions {
                    apply: apply.collect(),
                    goto_table: self.next,
                    ..Instructions::default()
                },
            )
        }
    }
}

/// What the model sends: port and frame.
fn expect(rules: &[Rule], packet: &Packet) -> Vec<(usize, Vec<u8>)> {
    let mut sent = Vec::new();
    let (mut p, mut reg) = (packet.clone(), 0);
    walk(rules, 0, &mut p, &mut reg, &mut sent);
    sent.sort();
    sent
}

fn walk(rules: &[Rule], table: u8, p: &mut Packet, reg: &mut u8, sent: &mut Vec<(usize, Vec<u8>)>) {
    let best = rules
        .iter()
        .filter(|r| r.table == table && r.matches(p, *reg))
        .max_by_key(|r| r.priority);
    let Some(rule) = best else {
        return;
    };
    for d in &rule.does {
        match *d {
            Does::Output(port) if port != p.port => sent.push((port as usize, p.frame())),
            Does::Output(_) => {}
            Does::Dst(n) => p.dst = n,
            Does::Reg(n) => *reg = n,
            Does::Vid(v) => p.vlan = Some(p.vlan.unwrap_or(0) & 0xe000 | v),
            Does::Untag => p.vlan = None,
            Does::Ipv4(a) => {
                if let Inside::Ip { src, .. } = &mut p.inside {
                    *src = a;
                }
            }
            Does::Resubmit(t) => walk(rules, t, p, reg, sent),
        }
    }
    if let Some(next) = rule.next {
        walk(rules, next, p, reg, sent);
    }
}

const ADDRESSES: [u32; 4] = [0x0a00_0001, 0x0a00_0002, 0x0a00_0101, 0xc0a8_0001];
const NUMBERS: [u16; 4] = [80, 81, 443, 0x8050];

fn address() -> impl Strategy<Value = u32> {
    proptest::sample::select(&ADDRESSES[..])
}

fn number() -> impl Strategy<Value = u16> {
    proptest::sample::select(&NUMBERS[..])
}

fn packets() -> impl Strategy<Value = Packet> {
    let l4 = prop_oneof![
        3 => (number(), number(), prop_oneof![Just(2u8), Just(0x10)]).prop_map(|(s, d, f)| L4::Tcp(s, d, f)),
        2 => (number(), number()).prop_map(|(s, d)| L4::Udp(s, d)),
        1 => (prop_oneof![Just(8u8), Just(128)], 0u8..2).prop_map(|(t, c)| L4::Icmp(t, c)),
    ];
    let frag = prop_oneof![6 => Just(Frag::No), 1 => Just(Frag::First), 1 => Just(Frag::Later)];
    let ip = (
        any::<bool>(),
        address(),
        address(),
        prop_oneof![Just(0u8), Just(0x21)],
        1u8..4,
        frag,
        l4,
    )
        .prop_map(|(v6, src, dst, tos, ttl, frag, l4)| Inside::Ip {
            v6,
            src,
            dst,
            tos,
            ttl,
            frag: if v6 { Frag::No } else { frag },
            l4,
        });
    let inside = prop_oneof![
        1 => Just(Inside::Other),
        2 => (1u8..3, address(), address()).prop_map(|(op, spa, tpa)| Inside::Arp { op, spa, tpa }),
        8 => ip,
    ];
    let vlan = prop_oneof![2 => Just(None), 1 => Just(Some(5)), 1 => Just(Some(0x6006)), 1 => Just(Some(0x6005))];
    (1..=PORTS as u32, 1u8..4, 1u8..4, vlan, inside).prop_map(|(port, dst, src, vlan, inside)| {
        Packet {
            port,
            dst,
            src,
            vlan,
            inside,
        }
    })
}

/// Wants of packets that have certain fields: what says so, and a choice of those fields with values and masks.
fn wants() -> impl Strategy<Value = Vec<(FieldId, u128, u128)>> {
    let exact = |f: FieldId, v: u128| (f, v, f.info().full_mask());
    let mac = (
        1u128..4,
        prop_oneof![Just(3u128), Just(1), Just(0xffff_ffff_ffff)],
    )
        .prop_map(|(v, m)| (0x0200_0000_0000 | v, m));
    let link = proptest::collection::vec(
        prop_oneof![
            (1..=PORTS as u128).prop_map(move |p| exact(FieldId::InPort, p)),
            mac.clone().prop_map(|(v, m)| (FieldId::EthDst, v, m)),
            mac.prop_map(|(v, m)| (FieldId::EthSrc, v, m)),
            Just((FieldId::VlanVid, 0, 0x1fff)),
            Just((FieldId::VlanVid, 0x1000, 0x1000)),
            Just((FieldId::VlanVid, 0x1005, 0x1fff)),
            (0u128..3).prop_map(|r| (FieldId::Reg0, r, 3)),
        ],
        0..3,
    );
    let prefix = || {
        prop_oneof![
            Just(0xffff_ff00u128),
            Just(0xffff_ffff),
            Just(0xff00_0000),
            Just(3)
        ]
    };
    let port = || {
        (
            number(),
            prop_oneof![Just(0xffffu128), Just(0xfffe), Just(0x8000)],
        )
    };
    let net = || (address(), prefix());
    let ip = move |ty: u128, proto: Option<u128>| {
        let mut w = vec![exact(FieldId::EthType, ty)];
        w.extend(proto.map(|p| exact(FieldId::IpProto, p)));
        w
    };
    let inner = prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(vec![exact(FieldId::EthType, OTHER.into())]),
        1 => (1u128..3, net()).prop_map(move |(op, (a, m))| vec![
            exact(FieldId::EthType, 0x0806), exact(FieldId::ArpOp, op), (FieldId::ArpSpa, a.into(), m)]),
        3 => (net(), any::<bool>()).prop_map(move |((a, m), dst)| {
            let mut w = ip(0x0800, None);
            w.push((if dst { FieldId::Ipv4Dst } else { FieldId::Ipv4Src }, a.into(), m));
            w
        }),
        2 => (net(), port()).prop_map(move |((a, m), (p, pm))| {
            let mut w = ip(0x0800, Some(6));
            w.push((FieldId::Ipv4Src, a.into(), m));
            w.push((FieldId::TcpDst, p.into(), pm));
            w
        }),
        2 => (port(), any::<bool>()).prop_map(move |((p, pm), six)| {
            let mut w = ip(if six { 0x86dd } else { 0x0800 }, Some(17));
            w.push((FieldId::UdpSrc, p.into(), pm));
            w
        }),
        1 => (net(), 0u128..128).prop_map(move |((a, _), keep)| {
            let mut w = ip(0x86dd, None);
            let mask = u128::MAX << keep;
            w.push((FieldId::Ipv6Dst, u128::from_be_bytes(address6(a)), mask));
            w
        }),
        1 => (1u128..4).prop_map(move |t| { let mut w = ip(0x0800, None); w.push(exact(FieldId::NwTtl, t)); w }),
        1 => Just({ let mut w = ip(0x0800, None); w.push(exact(FieldId::IpDscp, 8)); w }),
        1 => prop_oneof![Just((0u128, 3u128)), Just((1, 3)), Just((3, 3)), Just((1, 1)), Just((0, 2))]
            .prop_map(move |(v, m)| { let mut w = ip(0x0800, None); w.push((FieldId::IpFrag, v, m)); w }),
        1 => Just({ let mut w = ip(0x0800, Some(6)); w.push((FieldId::TcpFlags, 2, 2)); w }),
        1 => Just({ let mut w = ip(0x0800, Some(1)); w.push(exact(FieldId::Icmpv4Type, 8)); w }),
        1 => Just({ let mut w = ip(0x86dd, Some(58)); w.push(exact(FieldId::Icmpv6Type, 128)); w }),
        1 => (0u128..8).prop_map(move |p| vec![(FieldId::VlanVid, 0x1000, 0x1000), exact(FieldId::VlanPcp, p)]),
    ];
    (link, inner).prop_map(|(link, inner)| {
        let mut w = link;
        // One want for each field.
        w.retain(|(f, ..)| !inner.iter().any(|(g, ..)| g == f));
        let mut seen = Vec::new();
        w.retain(|(f, ..)| {
            !seen.contains(f) && {
                seen.push(*f);
                true
            }
        });
        w.extend(inner);
        w
    })
}

fn rules() -> impl Strategy<Value = Rule> {
    let does = proptest::collection::vec(
        prop_oneof![
            5 => (1..=PORTS as u32).prop_map(Does::Output),
            1 => (1u8..4).prop_map(Does::Dst),
            1 => (0u8..3).prop_map(Does::Reg),
            1 => (5u16..7).prop_map(Does::Vid),
            1 => Just(Does::Untag),
            1 => address().prop_map(Does::Ipv4),
            1 => (1u8..3).prop_map(Does::Resubmit),
        ],
        0..4,
    );
    (0u8..3, 0u16..1000, wants(), does, any::<bool>()).prop_map(
        |(table, priority, wants, mut does, on)| {
            let v4 = wants.contains(&(FieldId::EthType, 0x0800, 0xffff));
            does.retain(|d| v4 || !matches!(d, Does::Ipv4(_)));
            // Resubmits go forward, so that all ends.
            does.retain(|d| !matches!(d, Does::Resubmit(t) if *t <= table));
            Rule {
                table,
                priority,
                wants,
                does,
                next: (on && table < 2).then_some(table + 1),
            }
        },
    )
}

/// What happens: rules come and go between packets.
#[derive(Clone, Debug)]
enum Event {
    Add(Rule),
    Remove(usize),
    Send(Packet),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(
        prop_oneof![
            2 => rules().prop_map(Event::Add),
            1 => any::<usize>().prop_map(Event::Remove),
            12 => packets().prop_map(Event::Send),
        ],
        40..160,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn packets_through_the_caches_are_done_to_what_a_linear_table_says(
        first in proptest::collection::vec(rules(), 1..25),
        events in events(),
    ) {
        let s = Switch::new(PORTS);
        let mut table: Vec<Rule> = Vec::new();
        let mut serial = 0u16;
        for event in first.into_iter().map(Event::Add).chain(events) {
            match event {
                Event::Add(mut rule) => {
                    // No two of one priority, whose order would be nobody's business.
                    serial += 1;
                    rule.priority = rule.priority % 60 * 1000 + serial;
                    s.flow(rule.to_mod());
                    table.push(rule);
                }
                Event::Remove(n) if !table.is_empty() => {
                    let rule = table.remove(n % table.len());
                    s.flow(FlowMod { command: FlowModCommand::DeleteStrict, ..rule.to_mod() });
                }
                Event::Remove(_) => {}
                Event::Send(p) => {
                    s.send(p.port as usize, &p.frame());
                    let mut sent = s.sent();
                    sent.sort();
                    prop_assert_eq!(sent, expect(&table, &p), "{:?} through {:#?}", p, table);
                }
            }
        }
    }
}
