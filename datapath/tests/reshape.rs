//! Packets whose headers come and go, byte for byte.

mod common;

use common::*;
use datapath::*;
use openflow::error::ErrorKind;
use openflow::*;

fn output(port: u32) -> Action {
    Action::Output {
        port: PortNo(port),
        max_len: 0,
    }
}

fn set(field: FieldId, value: u128) -> Action {
    Action::SetField {
        field,
        value,
        mask: field.info().full_mask(),
    }
}

fn to_table(table: u8) -> Action {
    Action::Resubmit {
        in_port: None,
        table: Some(table),
        ct: false,
    }
}

fn rule(table: u8, m: Match, apply: Vec<Action>) -> FlowMod {
    FlowMod {
        table,
        ..FlowMod::add(m, Instructions::apply(apply))
    }
}

fn ip() -> Match {
    Match::new().with(FieldId::EthType, 0x800)
}

fn mpls() -> Match {
    Match::new().with(FieldId::EthType, 0x8847)
}

/// A frame with label stack entries on.
fn labelled(frame: &[u8], entries: &[u32]) -> Vec<u8> {
    let mut f = frame.to_vec();
    f[12..14].copy_from_slice(&[0x88, 0x47]);
    let stack: Vec<u8> = entries.iter().flat_map(|e| e.to_be_bytes()).collect();
    f.splice(14..14, stack);
    f
}

/// A frame whose IPv4 TTL is another.
fn with_ttl(frame: &[u8], ttl: u8) -> Vec<u8> {
    let mut f = frame.to_vec();
    f[22] = ttl;
    f[24..26].fill(0);
    let sum = packet::checksum::of(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f
}

#[test]
fn labels_are_put_on_changed_and_taken_off_with_what_is_behind_them_known_again() {
    let t = Switch::new(4);
    let f = with_ttl(&udp(1, 2), 64);
    t.flow(rule(
        0,
        ip(),
        vec![
            output(2),
            Action::PushMpls(0x8847),
            output(3),
            set(FieldId::MplsLabel, 16),
            set(FieldId::MplsTc, 5),
            Action::DecMplsTtl,
            Action::PushMpls(0x8847),
            output(4),
        ],
    ));
    t.send(1, &f);
    let one = 16 << 12 | 5 << 9 | 0x100 | 63;
    assert_eq!(
        t.sent(),
        [
            (2, f.clone()),
            (3, labelled(&f, &[0x100 | 64])),
            (4, labelled(&f, &[one & !0x100, one]))
        ]
    );
    // Off again: IP is matched on and changed, in another table, and in what came before there.
    t.flow(rule(
        0,
        mpls(),
        vec![to_table(1), output(3), Action::Exit, output(4)],
    ));
    t.flow(rule(
        1,
        mpls(),
        vec![output(4), Action::PopMpls(0x0800), to_table(2)],
    ));
    t.flow(rule(
        2,
        ip().with(FieldId::IpProto, 17),
        vec![Action::DecTtl(vec![]), output(2)],
    ));
    let l = labelled(&f, &[one]);
    t.send(1, &l);
    assert_eq!(
        t.sent(),
        [(2, with_ttl(&f, 63)), (3, with_ttl(&f, 63)), (4, l)]
    );
}

#[test]
fn an_action_set_works_behind_a_label_it_took_off() {
    let t = Switch::new(4);
    let f = with_ttl(&udp(1, 2), 9);
    // In the action set, after a table that only matches.
    let mut write = rule(0, mpls(), vec![]);
    write.instructions.write = vec![Action::PopMpls(0x0800), Action::DecTtl(vec![]), output(2)];
    write.instructions.goto_table = Some(1);
    write.instructions.metadata = Some((7, 0xff));
    t.flow(write);
    t.flow(rule(
        1,
        Match::new().with(FieldId::Metadata, 7),
        vec![output(3)],
    ));
    let l = labelled(&f, &[0x100 | 50]);
    t.send(1, &l);
    assert_eq!(t.sent(), [(2, with_ttl(&f, 8)), (3, l)]);
}

#[test]
fn ttls_are_copied_between_labels_and_ip() {
    let t = Switch::new(3);
    let f = with_ttl(&udp(1, 2), 9);
    let port = |n| mpls().with(FieldId::InPort, n);
    t.flow(rule(0, port(1), vec![Action::CopyTtlOut, output(3)]));
    t.flow(rule(
        0,
        port(2),
        vec![Action::CopyTtlIn, Action::PopMpls(0x0800), output(3)],
    ));
    t.send(1, &labelled(&f, &[0x100 | 50]));
    t.send(1, &labelled(&f, &[50, 0x100 | 40]));
    t.send(2, &labelled(&f, &[0x100 | 50]));
    assert_eq!(
        t.sent(),
        [
            (3, labelled(&f, &[0x100 | 9])),
            (3, labelled(&f, &[40, 0x100 | 40])),
            (3, with_ttl(&f, 50)),
        ]
    );
}

#[test]
fn an_expired_ttl_ends_the_rule_but_not_who_asked_for_it() {
    let t = Switch::new(4);
    t.flow(rule(0, ip(), vec![to_table(1), output(2)]));
    let mut dec = rule(1, ip(), vec![Action::DecTtl(vec![]), output(3)]);
    dec.instructions.goto_table = Some(2);
    t.flow(dec);
    t.flow(rule(2, Match::new(), vec![output(4)]));
    let f = with_ttl(&udp(1, 2), 1);
    t.send(1, &f);
    assert_eq!(t.sent(), [(2, f)]);
}

#[test]
fn a_copy_is_truncated_and_the_packet_is_not() {
    let t = Switch::new(3);
    let trunc = |port, max_len| Action::OutputTrunc {
        port: PortNo(port),
        max_len,
    };
    t.flow(rule(
        0,
        Match::new(),
        vec![
            trunc(2, 20),
            output(3),
            trunc(3, 1000),
            trunc(PortNo::IN_PORT.0, 14),
        ],
    ));
    let mut long = udp(1, 2);
    long.resize(1400, 7);
    for f in [udp(1, 2), long] {
        t.send(1, &f);
        let part = |n: usize| f[..n.min(f.len())].to_vec();
        assert_eq!(
            t.sent(),
            [
                (1, part(14)),
                (2, part(20)),
                (3, f.clone()),
                (3, part(1000)),
            ]
        );
    }
}

#[test]
fn labels_on_a_large_frame_are_labels_on_its_segments() {
    let t = Switch::new(2);
    t.flow(rule(0, ip(), vec![Action::PushMpls(0x8847), output(2)]));
    let (large, offload) = tso(3000, 1000);
    t.send_with(1, &large, offload);
    let sent = t.sent();
    assert_eq!(sent.len(), 3);
    for (i, (port, f)) in sent.iter().enumerate() {
        assert_eq!((*port, &f[12..14]), (2, &[0x88, 0x47][..]));
        let ip = &f[18..];
        assert_eq!(packet::checksum::of(&ip[..20]), 0);
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
        assert_eq!(ip[40], (i * 1000 % 256) as u8);
        let sum = packet::checksum::pseudo(&ip[12..20], 6, ip.len() - 20);
        let sum = packet::checksum::add(sum, &ip[20..]);
        assert_eq!(packet::checksum::fold(sum), 0xffff);
    }
}

#[test]
fn actions_on_labels_need_labels() {
    let t = Switch::new(1);
    let kind = |m: Match, a: Action| t.refused(rule(0, m, vec![a]));
    for a in [
        Action::PopMpls(0x800),
        Action::DecMplsTtl,
        Action::CopyTtlIn,
        set(FieldId::MplsLabel, 1),
    ] {
        assert_eq!(kind(ip(), a), ErrorKind::MatchInconsistent);
    }
    assert_eq!(kind(ip(), Action::PushMpls(0x800)), ErrorKind::BadArgument);
    assert_eq!(
        kind(mpls(), set(FieldId::MplsBos, 1)),
        ErrorKind::BadSetType
    );
}

#[test]
fn a_service_tag_is_put_on_changed_matched_and_taken_off() {
    let t = Switch::new(4);
    let f = udp(1, 2);
    let pbb = Match::new().with(FieldId::EthType, 0x88e7);
    t.flow(rule(
        0,
        Match::new().with(FieldId::InPort, 1),
        vec![
            Action::PushPbb(0x88e7),
            set(FieldId::PbbIsid, 0x01_0203),
            set(FieldId::EthDst, 9),
            output(2),
            to_table(1),
        ],
    ));
    t.flow(rule(
        1,
        pbb.clone().with(FieldId::PbbIsid, 0x01_0203),
        vec![
            set(FieldId::PbbUca, 1),
            output(3),
            Action::PopPbb,
            to_table(2),
        ],
    ));
    t.flow(rule(2, ip(), vec![output(4)]));
    let tagged = tag(&f, 0x8100, 0x600a);
    for f in [f, tagged] {
        t.send(1, &f);
        // Priority is the tag's.
        let pcp = if f[12] == 0x81 { 0x60 } else { 0 };
        let with = |uca: u8| {
            let mut p = vec![0, 0, 0, 0, 0, 9];
            p.extend(&f[6..12]);
            p.extend([0x88, 0xe7, pcp | uca, 1, 2, 3]);
            p.extend(&f);
            p
        };
        assert_eq!(t.sent(), [(2, with(0)), (3, with(8)), (4, f)]);
    }
    assert_eq!(
        t.refused(rule(3, ip(), vec![Action::PopPbb])),
        ErrorKind::MatchInconsistent
    );
}

#[test]
fn ipv6_extension_headers_are_matched_on() {
    let t = Switch::new(2);
    let mut wanted = Match::new().with(FieldId::EthType, 0x86dd);
    // A destination header, and nothing out of order or twice.
    wanted.set_masked(FieldId::Ipv6Exthdr, 1 << 3, 1 << 3 | 1 << 7 | 1 << 8);
    t.flow(rule(0, wanted, vec![output(2)]));
    let frame = |headers: &[u8]| {
        let mut f = vec![
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0,
        ];
        let len = headers.len() as u16 * 8 + 8;
        f.extend(len.to_be_bytes());
        f.extend([*headers.first().unwrap_or(&17), 64]);
        f.extend([0xfd; 32]);
        for n in 1..=headers.len() {
            f.extend([*headers.get(n).unwrap_or(&17), 0, 1, 4, 0, 0, 0, 0]);
        }
        f.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        f
    };
    for (headers, matches) in [
        (&[][..], false),
        (&[60][..], true),
        (&[0, 60, 43, 60], true),
        (&[0], false),
        // Routing twice.
        (&[60, 43, 43], false),
        // Hop-by-hop not first.
        (&[60, 0], false),
        (&[60, 60, 60], false),
    ] {
        t.send(1, &frame(headers));
        assert_eq!(t.sent().len(), usize::from(matches), "{headers:?}");
    }
}

#[test]
fn fragments_are_shown_without_ports_or_with_them_or_dropped() {
    let t = Switch::new(3);
    let port = |n| ip().with(FieldId::IpProto, 17).with(FieldId::UdpDst, n);
    t.flow(rule(0, port(80), vec![output(2)]));
    t.flow(rule(0, port(0), vec![output(3)]));
    let mut first = udp(1, 2);
    first[20] = 0x20;
    for (mode, to) in [
        (Fragments::Normal, Some(3)),
        (Fragments::NxMatch, Some(2)),
        (Fragments::Drop, None),
    ] {
        t.dp.set_fragments(t.br, mode).unwrap();
        assert_eq!(t.dp.fragments(t.br), Some(mode));
        t.send(1, &first);
        let sent: Vec<usize> = t.sent().iter().map(|s| s.0).collect();
        assert_eq!(sent, to.into_iter().collect::<Vec<_>>());
        t.send(1, &udp(1, 2));
        assert_eq!(t.sent().len(), 1, "others are not concerned");
    }
    assert_eq!(t.dp.drop_stats(t.br, Some(PortNo(1)))["fragment"], 1);
    assert!(Fragments::from_flags(2).is_err(), "reassembly is refused");
}

#[test]
fn a_service_header_is_put_on_in_ethernet_and_taken_off() {
    let t = Switch::new(4);
    let f = udp(1, 2);
    let encap = |packet_type, properties| {
        Action::Encap(Box::new(openflow::action::Encap {
            packet_type,
            header_size: 0,
            properties,
        }))
    };
    let nsh = encap(1 << 16 | 0x894f, vec![]);
    let ethernet = encap(0, vec![]);
    t.flow(rule(
        0,
        Match::new().with(FieldId::InPort, 1),
        vec![
            nsh.clone(),
            // It has no Ethernet header now.
            output(2),
            set(FieldId::NshSpi, 0x01_0203),
            set(FieldId::NshC4, 5),
            ethernet.clone(),
            set(FieldId::EthDst, 9),
            output(3),
            Action::DecNshTtl,
            to_table(1),
        ],
    ));
    let service = Match::new()
        .with(FieldId::EthType, 0x894f)
        .with(FieldId::NshSpi, 0x01_0203)
        .with(FieldId::NshTtl, 62);
    t.flow(rule(
        1,
        service,
        vec![
            output(4),
            Action::Decap(None),
            Action::Decap(None),
            to_table(2),
        ],
    ));
    t.flow(rule(2, ip(), vec![output(2)]));
    t.send(1, &f);
    let with = |ttl: u16| {
        let mut p = vec![0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0x89, 0x4f];
        p.extend((ttl << 6 | 6).to_be_bytes());
        p.extend([1, 3, 1, 2, 3, 255]);
        p.extend([0; 15]);
        p.push(5);
        p.extend(&f);
        p
    };
    assert_eq!(t.sent(), [(2, f.clone()), (3, with(63)), (4, with(62))]);
    // Metadata of its own kinds.
    let tlv = |value: &[u8]| (4, 2, bytes::Bytes::copy_from_slice(value));
    let kind = (4, 1, bytes::Bytes::from_static(&[2]));
    let header = encap(
        1 << 16 | 0x894f,
        vec![kind.clone(), tlv(&[0x10, 0, 7, 3, 1, 2, 3, 0])],
    );
    t.flow(rule(
        0,
        Match::new().with(FieldId::InPort, 1),
        vec![header, ethernet.clone(), output(3)],
    ));
    t.send(1, &f);
    let sent = t.sent();
    assert_eq!(
        sent[0].1[14..30],
        [0x0f, 0xc4, 2, 3, 0, 0, 0, 255, 0x10, 0, 7, 3, 1, 2, 3, 0]
    );
    assert_eq!(sent[0].1[30..], f);
    for (a, kind) in [
        (ethernet, ErrorKind::MatchInconsistent),
        (encap(1 << 16 | 0x0800, vec![]), ErrorKind::BadHeaderType),
        (
            encap(1 << 16 | 0x894f, vec![(9, 9, bytes::Bytes::new())]),
            ErrorKind::UnknownEncapProperty,
        ),
        (
            encap(1 << 16 | 0x894f, vec![kind, tlv(&[0, 0, 0, 9])]),
            ErrorKind::BadEncapProperty,
        ),
        (Action::DecNshTtl, ErrorKind::MatchInconsistent),
    ] {
        assert_eq!(t.refused(rule(3, Match::new(), vec![a])), kind);
    }
}
