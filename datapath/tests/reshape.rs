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
