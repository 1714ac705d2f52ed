//! Cases drawn by a seed.
//!
//! A case has a few kinds of packets, rules that match on those kinds, and actions that the match allows: so rules hit, and
//! little is refused. Values come from small pools, for the same reason.
//!
//! Not drawn, because Open vSwitch does something else there (`docs/openflow-differences.md`): tags put on without setting
//! them, more than two of them or more than three labels, NORMAL with two tags, fields of RARP set, action sets together with
//! `clone` or `check_pkt_larger`, and `check_pkt_larger` where a resubmit leads.

use super::case::{Case, PORTS};
use super::frames::{Frame, Kind};

/// Numbers drawn from a seed (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One of several.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// `n` times in 100.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// Tables that cases use.
const TABLES: u64 = 4;

/// What a packet is while actions are drawn.
#[derive(Clone, Copy)]
struct Known {
    /// OpenFlow 1.0: no instructions, and VLAN actions that need no tag.
    old: bool,
    /// Packets have tags: NORMAL is not drawn.
    tags: bool,
    kind: Option<Kind>,
    tagged: bool,
    mpls: bool,
    /// The label is the last.
    bottom: bool,
    /// There is a group 1.
    group: bool,
    /// `clone` and `check_pkt_larger` are drawn, and no action sets.
    branches: bool,
    table: u64,
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed);
    let kinds: Vec<Kind> = (0..1 + rng.below(3)).map(|_| rng.one(&Kind::ALL)).collect();
    let tagged = rng.percent(40);
    let old = rng.percent(30);
    let mpls = !old && rng.percent(25);
    let group = !old && rng.percent(25);
    let branches = old || seed % 2 == 1;
    // With tags put on there are two, as many as Open vSwitch keeps, if there was one.
    let most_tags = if old { 2 } else { 1 };
    let mut case = Case {
        version: if old { 10 } else { 13 },
        name: format!("drawn {seed} (WEIR_CASE={seed})"),
        ..Case::default()
    };
    if group {
        let buckets: Vec<String> = (0..1 + rng.below(3))
            .map(|_| {
                let mut nothing = Known {
                    kind: None,
                    old,
                    tags: tagged,
                    tagged: false,
                    mpls: false,
                    bottom: false,
                    group: false,
                    branches: false,
                    table: 3,
                };
                format!(
                    "bucket=actions={},output:{}",
                    set_action(&mut rng, &mut nothing),
                    port(&mut rng)
                )
            })
            .collect();
        let kind = match buckets.len() {
            1 => rng.one(&["all", "indirect", "select"]),
            _ => "all",
        };
        case.groups
            .push(format!("group_id=1,type={kind},{}", buckets.join(",")));
    }
    for _ in 0..3 + rng.below(10) {
        let flow = flow(&mut rng, &kinds, (tagged, mpls, old, group, branches));
        case.flows.push(flow);
    }
    let ports = [
        1 + rng.below(PORTS as u64) as usize,
        1 + rng.below(PORTS as u64) as usize,
    ];
    for _ in 0..10 {
        let kind = if rng.percent(90) {
            rng.one(&kinds)
        } else {
            rng.one(&Kind::ALL)
        };
        let port = rng.one(&ports);
        let mut f = Frame::draw(&mut rng, kind, port);
        if tagged && rng.percent(70) {
            for _ in 0..1 + rng.below(most_tags) {
                f.tags
                    .push((rng.one(&[0x8100, 0x88a8]), rng.one(&[0, 10, 20, 0x600a])));
            }
        }
        // What is behind a label can be anything, but is found to be of a kind again only if it is IP.
        if mpls && rng.percent(70) && f.kind != Kind::Snap {
            for _ in 0..1 + rng.below(2) {
                f.labels.push(
                    rng.one(&[0, 3, 16, 99]) << 12
                        | rng.one(&[0, 5]) << 9
                        | rng.one(&[0, 1, 2, 64]),
                );
            }
        }
        case.packets.push((port, f.bytes()));
    }
    case
}

fn flow(
    rng: &mut Rng,
    kinds: &[Kind],
    (tagged, mpls, old, group, branches): (bool, bool, bool, bool, bool),
) -> String {
    let table = if rng.percent(50) {
        0
    } else {
        rng.below(TABLES)
    };
    let mut known = Known {
        old,
        tags: tagged,
        kind: rng.percent(75).then(|| rng.one(kinds)),
        tagged: false,
        mpls: mpls && rng.percent(60),
        bottom: false,
        group,
        branches,
        table,
    };
    let matching = matching(rng, &mut known, tagged);
    let mut text = format!(
        "table={table},priority={}{matching} actions=",
        rng.below(60000)
    );
    let mut list: Vec<String> = vec![];
    for _ in 0..1 + rng.below(4) {
        list.push(action(rng, &mut known));
    }
    if !branches && rng.percent(20) {
        let mut then = known;
        let set: Vec<String> = (0..1 + rng.below(2))
            .map(|_| set_action(rng, &mut then))
            .collect();
        list.push(format!(
            "write_actions({},output:{})",
            set.join(","),
            port(rng)
        ));
    }
    if !old && rng.percent(5) {
        list.push("clear_actions".into());
    }
    if !old && rng.percent(15) {
        list.push(format!("write_metadata:{}/0x3", rng.below(4)));
    }
    // The order in which instructions are written is fixed.
    let order = |a: &String| match &a[..] {
        "clear_actions" => 1,
        a if a.starts_with("write_actions") => 2,
        a if a.starts_with("write_metadata") => 3,
        _ => 0,
    };
    list.sort_by_key(order);
    if !old && table + 1 < TABLES && rng.percent(30) {
        list.push(format!(
            "goto_table:{}",
            table + 1 + rng.below(TABLES - table - 1)
        ));
    }
    text.push_str(&list.join(","));
    text
}

fn port(rng: &mut Rng) -> u64 {
    1 + rng.below(PORTS as u64)
}

fn mac(rng: &mut Rng) -> String {
    format!(
        "02:00:00:00:00:{:02x}",
        rng.one(&[0x10u8, 0x11, 0x20, 0x21, 0x30, 0x41])
    )
}

fn matching(rng: &mut Rng, known: &mut Known, tagged: bool) -> String {
    let mut m = String::new();
    let mut add = |s: String| {
        m.push(',');
        m.push_str(&s);
    };
    if rng.percent(20) {
        add(format!("in_port={}", port(rng)));
    }
    if rng.percent(15) {
        add(format!(
            "dl_src={}{}",
            mac(rng),
            rng.one(&["", "/00:00:00:00:00:f0", "/00:00:00:00:00:01"])
        ));
    }
    if rng.percent(15) {
        add(format!(
            "dl_dst={}{}",
            mac(rng),
            rng.one(&["", "/01:00:00:00:00:00", "/00:00:00:00:00:0f"])
        ));
    }
    if tagged && rng.percent(60) {
        let new = if known.old {
            ("dl_vlan=20", true)
        } else {
            ("vlan_vid=0x1000/0x1001", true)
        };
        let (text, is) = rng.one(&[
            ("dl_vlan=10", true),
            ("vlan_tci=0", false),
            ("vlan_tci=0x1000/0x1000", true),
            ("dl_vlan_pcp=3", true),
            new,
        ]);
        add(text.into());
        known.tagged = is;
    }
    if rng.percent(15) {
        add(rng
            .one(&["reg0=1", "reg0=2/3", "metadata=1/1", "xreg1=5", "reg2=0"])
            .into());
    }
    if known.mpls {
        add(rng.one(&["dl_type=0x8847", "mpls"]).into());
        known.kind = None;
        if rng.percent(50) {
            known.bottom = rng.percent(60);
            add(format!("mpls_bos={}", u8::from(known.bottom)));
        }
        if rng.percent(40) {
            add(rng
                .one(&["mpls_label=16", "mpls_tc=5", "mpls_label=0", "mpls_ttl=1"])
                .into());
        }
        return m;
    }
    let Some(kind) = known.kind else { return m };
    let n = rng.one(&[1, 2, 3, 129]);
    match kind {
        Kind::Arp | Kind::Rarp => {
            add(if kind == Kind::Arp { "arp" } else { "rarp" }.into());
            if rng.percent(40) {
                add(format!("arp_spa=10.0.0.{n}"));
            }
            if rng.percent(30) {
                add(rng
                    .one(&[
                        "arp_op=1",
                        "arp_op=2",
                        "arp_tpa=10.0.0.0/30",
                        "arp_sha=02:00:00:00:00:11",
                    ])
                    .into());
            }
        }
        Kind::Unknown | Kind::Snap => add("dl_type=0x9999".into()),
        _ => {
            let whole = rng.percent(40);
            let v4 = kind.is_v4();
            let name = match kind {
                _ if whole => {
                    if v4 {
                        "ip"
                    } else {
                        "ipv6"
                    }
                }
                Kind::Tcp4 => "tcp",
                Kind::Udp4 | Kind::First4 => "udp",
                Kind::Icmp4 => "icmp",
                Kind::Sctp4 => "sctp",
                Kind::Tcp6 => "tcp6",
                Kind::Sctp6 => "sctp6",
                Kind::Udp6 | Kind::First6 | Kind::Options6 => "udp6",
                Kind::Icmp6 | Kind::Solicit | Kind::Advert => "icmp6",
                _ => {
                    if v4 {
                        "ip"
                    } else {
                        "ipv6"
                    }
                }
            };
            add(name.into());
            if matches!(name, "ip" | "ipv6") {
                // Without the protocol, ports cannot be spoken of.
                known.kind = Some(if v4 { Kind::Other4 } else { Kind::Later6 });
            }
            if rng.percent(30) {
                add(match v4 {
                    true => format!("nw_src=10.0.0.{n}{}", rng.one(&["", "/24", "/30"])),
                    false => format!("ipv6_src=fd00::{n:x}{}", rng.one(&["", "/64", "/126"])),
                });
            }
            if rng.percent(20) {
                add(match v4 {
                    true => format!("nw_dst=10.0.0.{n}/255.0.0.1"),
                    false => format!("ipv6_dst=fd00::{n:x}"),
                });
            }
            if rng.percent(15) {
                add(rng
                    .one(&[
                        "nw_tos=40",
                        "nw_ecn=3",
                        "nw_ttl=1",
                        "nw_ttl=64",
                        "ip_frag=no",
                        "ip_frag=yes",
                        "ip_frag=later",
                        "ip_frag=not_later",
                    ])
                    .into());
            }
            if !v4 && rng.percent(10) {
                add("ipv6_label=0x12345".into());
            }
            if matches!(name, "tcp" | "udp" | "sctp" | "tcp6" | "udp6" | "sctp6") && rng.percent(40)
            {
                add(rng
                    .one(&[
                        "tp_src=80",
                        "tp_dst=80",
                        "tp_src=1000/0xfff0",
                        "tp_dst=443",
                        "tp_dst=0x1/0x1",
                    ])
                    .into());
            }
            if matches!(name, "tcp" | "tcp6") && rng.percent(20) {
                add(rng
                    .one(&["tcp_flags=+syn", "tcp_flags=+ack-fin", "tcp_flags=+rst"])
                    .into());
            }
            match (kind, name) {
                (Kind::Icmp4, "icmp") if rng.percent(40) => {
                    add(rng.one(&["icmp_type=8", "icmp_type=0,icmp_code=1"]).into());
                }
                (Kind::Icmp6, "icmp6") if rng.percent(40) => {
                    add(rng.one(&["icmp_type=8", "icmp_type=0,icmp_code=1"]).into());
                }
                (Kind::Solicit, "icmp6") => add(format!(
                    "icmp_type=135,icmp_code=0{}",
                    rng.one(&["", ",nd_target=fd00::2", ",nd_sll=02:00:00:00:00:11"])
                )),
                (Kind::Advert, "icmp6") => add(format!(
                    "icmp_type=136,icmp_code=0{}",
                    rng.one(&["", ",nd_target=fd00::2", ",nd_tll=02:00:00:00:00:11"])
                )),
                _ => {}
            }
        }
    }
    m
}

/// An action for an action list.
fn action(rng: &mut Rng, known: &mut Known) -> String {
    match rng.below(100) {
        0..25 => format!("output:{}", port(rng)),
        25..28 if !known.tags && rng.percent(40) => "normal".into(),
        25..28 => rng.one(&["in_port", "all", "flood"]).into(),
        28..31 => format!(
            "output(port={},max_len={})",
            port(rng),
            rng.one(&[14, 20, 64, 100, 2000])
        ),
        31..39 if known.table + 1 < TABLES => {
            let table = known.table + 1 + rng.below(TABLES - known.table - 1);
            // What happens to the packet there is not known.
            *known = Known {
                kind: None,
                tagged: false,
                mpls: false,
                bottom: false,
                ..*known
            };
            match rng.percent(30) {
                true => format!("resubmit({},{table})", port(rng)),
                false => format!("resubmit(,{table})"),
            }
        }
        39 => "exit".into(),
        62..66 if known.branches => {
            let mut copy = *known;
            format!("clone({},output:{})", set_action(rng, &mut copy), port(rng))
        }
        66..68 => "push:NXM_OF_ETH_SRC[0..7],pop:NXM_NX_REG0[0..7]".into(),
        68..70 if known.branches && known.table == 0 => format!(
            "check_pkt_larger({})->NXM_NX_REG0[0]",
            rng.one(&[59, 60, 100, 1000])
        ),
        70..74 if known.group => "group:1".into(),
        40 => "note:01.02".into(),
        41..43 => "output:NXM_NX_REG0[]".into(),
        43..46 => "load:2->NXM_NX_REG0[0..3]".into(),
        46..48 => "move:NXM_OF_ETH_SRC[0..7]->NXM_NX_REG0[8..15]".into(),
        48..50 => "move:NXM_NX_REG0[0..2]->NXM_OF_ETH_DST[8..10]".into(),
        50..53 if known.old || known.tagged => tag_off(known),
        53..57 if !known.old => tag_on_and_off(rng, known),
        57..62 if !known.old => mpls(rng, known),
        _ => set_action(rng, known),
    }
}

fn tag_off(known: &mut Known) -> String {
    known.tagged = false;
    "strip_vlan".into()
}

/// A tag put on, set and seen, and taken off again.
fn tag_on_and_off(rng: &mut Rng, known: &mut Known) -> String {
    let was = known.tagged;
    known.tagged = true;
    let text = format!(
        "push_vlan:{},set_field:{}->vlan_vid,set_field:{}->vlan_pcp,{},output:{},strip_vlan",
        rng.one(&["0x8100", "0x88a8"]),
        rng.one(&[4096, 4106]),
        rng.below(8),
        set_action(rng, known),
        port(rng)
    );
    known.tagged = was;
    text
}

fn mpls(rng: &mut Rng, known: &mut Known) -> String {
    if !known.mpls {
        if known.table + 1 < TABLES {
            return set_action(rng, known);
        }
        known.mpls = true;
        known.bottom = false;
        known.kind = None;
        return rng.one(&["push_mpls:0x8847", "push_mpls:0x8848"]).into();
    }
    match rng.below(5) {
        0 => "dec_mpls_ttl".into(),
        1 => format!("set_field:{}->mpls_label", rng.one(&[0, 16, 1_048_575])),
        2 => format!("set_field:{}->mpls_tc", rng.below(8)),
        3 => format!("set_mpls_ttl:{}", rng.one(&[1, 2, 64])),
        _ if known.bottom => {
            known.mpls = false;
            rng.one(&["pop_mpls:0x0800", "pop_mpls:0x86dd"]).into()
        }
        _ => "pop_mpls:0x8847".into(),
    }
}

/// An action that is good for an action set too: it changes a field of the packet.
fn set_action(rng: &mut Rng, known: &mut Known) -> String {
    let mut may = vec![
        format!("set_field:{}->eth_dst", mac(rng)),
        format!("set_field:{}->eth_src", mac(rng)),
        format!("load:{}->NXM_OF_ETH_DST[0..7]", rng.below(256)),
        format!("load:{}->NXM_NX_REG0[0..1]", rng.below(4)),
    ];
    // From OpenFlow 1.1 on they put a tag on, unless there is known to be one.
    if known.old || known.tagged {
        may.push(format!("mod_vlan_vid:{}", rng.one(&[0, 10, 4095])));
        may.push(format!("mod_vlan_pcp:{}", rng.below(8)));
    }
    if known.tagged && !known.old {
        may.push(format!("set_field:{}->vlan_vid", rng.one(&[4096, 4106])));
        may.push(format!("set_field:{}->vlan_pcp", rng.below(8)));
    }
    let n = rng.one(&[1, 3, 200]);
    if let Some(kind) = known.kind.filter(|_| !known.mpls) {
        if kind.is_v4() || kind.is_v6() {
            may.push(format!("mod_nw_tos:{}", rng.one(&[0, 40, 252])));
            let ecn = rng.below(4);
            may.push(match known.old {
                true => format!("mod_nw_ecn:{ecn}"),
                false => format!("set_field:{ecn}->nw_ecn"),
            });
            may.push(format!("mod_nw_ttl:{}", rng.one(&[1, 2, 64])));
            may.push("dec_ttl".into());
        }
        if kind.is_v4() {
            may.push(format!("mod_nw_src:10.1.0.{n}"));
            may.push(format!("mod_nw_dst:10.2.0.{n}"));
            may.push("move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]".into());
        }
        if kind.is_v6() {
            may.push(format!("set_field:fd01::{n}->ipv6_src"));
            may.push(format!("set_field:fd02::{n}->ipv6_dst"));
            may.push(format!("set_field:{}->ipv6_label", rng.below(1 << 20)));
        }
        match kind {
            Kind::Tcp4 | Kind::Tcp6 => {
                may.push(format!("set_field:{}->tcp_src", rng.one(&[0, 5, 0xffff])));
                may.push(format!("set_field:{}->tcp_dst", rng.one(&[0, 5, 0xffff])));
            }
            Kind::Udp4 | Kind::Udp6 | Kind::First4 | Kind::First6 | Kind::Options6 => {
                may.push(format!("set_field:{}->udp_src", rng.one(&[0, 5, 0xffff])));
                may.push(format!("set_field:{}->udp_dst", rng.one(&[0, 5, 0xffff])));
            }
            Kind::Sctp4 | Kind::Sctp6 if !known.old => {
                may.push(format!("set_field:{}->sctp_src", rng.one(&[0, 5, 0xffff])));
                may.push(format!("set_field:{}->sctp_dst", rng.one(&[0, 5, 0xffff])));
            }
            Kind::Icmp4 => {
                may.push(format!("set_field:{}->icmp_type", rng.one(&[0, 8])));
                may.push(format!("set_field:{}->icmp_code", rng.below(4)));
            }
            Kind::Icmp6 => may.push(format!("set_field:{}->icmpv6_code", rng.below(4))),
            Kind::Solicit => {
                may.push(format!("set_field:fd00::{n}->nd_target"));
                may.push(format!("set_field:{}->nd_sll", mac(rng)));
            }
            Kind::Advert => {
                may.push(format!("set_field:fd00::{n}->nd_target"));
                may.push(format!("set_field:{}->nd_tll", mac(rng)));
            }
            Kind::Arp => {
                may.push(format!("set_field:{}->arp_op", rng.one(&[1, 2])));
                may.push(format!("set_field:10.9.0.{n}->arp_spa"));
                may.push(format!("set_field:10.9.0.{n}->arp_tpa"));
                may.push(format!("set_field:{}->arp_sha", mac(rng)));
                may.push(format!("set_field:{}->arp_tha", mac(rng)));
                may.push("move:NXM_OF_ETH_SRC[]->NXM_NX_ARP_THA[]".into());
            }
            _ => {}
        }
    }
    let at = rng.below(may.len() as u64) as usize;
    may.swap_remove(at)
}
