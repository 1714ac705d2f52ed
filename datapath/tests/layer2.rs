//! Hosts that move, addresses put in by hand, tags inside tags: through a whole datapath.

mod common;

use common::*;
use datapath::*;
use openflow::*;
use std::time::Duration;

/// A switch of three ports that learns, with these VLANs.
fn learning(vlans: Vec<VlanConfig>) -> Switch {
    let t = Switch::with(vlans);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    t
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn place(t: &Switch, n: u8) -> Option<PortNo> {
    let fdb = t.dp.fdb(t.br);
    fdb.iter().find(|e| e.mac == mac(n)).map(|e| e.port)
}

/// What a host says of itself: gratuitous ARP, a request or a reply, or RARP.
fn announcement(kind: u16, op: u8) -> Vec<u8> {
    let mut f = [&[0xff; 6][..], &mac(2).0, &kind.to_be_bytes()].concat();
    f.extend([0, 1, 8, 0, 6, 4, 0, op]);
    f.extend([&mac(2).0[..], &[10, 0, 0, 2], &mac(2).0, &[10, 0, 0, 2]].concat());
    f.resize(60, 0);
    f
}

#[test]
fn one_frame_moves_a_host_and_cached_flows_follow() {
    let t = learning(vec![VlanConfig::default(); 3]);
    t.send(1, &udp(1, 2));
    let frames = [
        announcement(0x0806, 1),
        announcement(0x0806, 2),
        announcement(0x8035, 3),
    ];
    // Between the same two ports, so that all is cached from the time before; and the port it left is busy.
    for turn in 0..9 {
        let (old, new) = [(3, 2), (2, 3)][turn % 2];
        let frame = &frames[turn % 3];
        t.send(new, frame);
        assert_eq!(place(&t, 2), Some(PortNo(new as u32)), "turn {turn}");
        t.sent();
        t.send(1, &udp(1, 2));
        assert_eq!(t.sent(), [(new, udp(1, 2))], "turn {turn}, from {old}");
        for _ in 0..50 {
            t.send(new, &udp(2, 1));
            t.send(1, &udp(1, 2));
        }
        t.sent();
        // Counts are handed on late; they are not to bring it back to where it was.
        t.dp.clock().warp(Duration::from_secs(1));
        t.dp.expire(t.dp.clock().now());
    }
}

#[test]
fn an_address_put_in_by_hand_stays_where_it_is() {
    let t = learning(vec![VlanConfig::default(); 3]);
    t.send(3, &udp(2, 9));
    t.sent();
    let add = |port, vlan, mac| t.dp.fdb_add(t.br, PortNo(port), vlan, mac);
    let before = FdbBefore {
        port: Some(PortNo(3)),
        fixed: false,
    };
    assert_eq!(add(2, 0, mac(2)), Ok(Some(before)));
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2))]);
    // It does not move by what is seen, and does not age.
    t.send(3, &udp(2, 1));
    t.dp.clock().warp(Duration::from_secs(4000));
    t.dp.expire(t.dp.clock().now());
    t.dp.fdb_flush(t.br);
    let fdb = t.dp.fdb(t.br);
    assert_eq!((fdb.len(), fdb[0].port, fdb[0].age), (1, PortNo(2), None));
    assert_eq!(t.dp.fdb_stats(t.br).fixed, 1);
    assert!(add(9, 0, mac(3)).is_err() && add(2, 4096, mac(3)).is_err());
    assert!(add(2, 0, MacAddr([1, 0, 0, 0, 0, 1])).is_err());
    assert!(!t.dp.fdb_remove(t.br, 5, mac(2)));
    assert!(t.dp.fdb_remove(t.br, 0, mac(2)));
    t.sent();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent().len(), 2, "unknown again, with the next frame");
    t.dp.fdb_clear_stats(t.br);
    let stats = t.dp.fdb_stats(t.br);
    assert_eq!((stats.learned, stats.moved, stats.expired), (0, 0, 0));
}

#[test]
fn a_customers_frames_cross_in_the_providers_vlan() {
    let tunnel = |cvlans: &[u16]| VlanConfig {
        mode: VlanMode::Dot1qTunnel,
        tag: Some(100),
        cvlans: cvlans.iter().copied().collect(),
        ..VlanConfig::default()
    };
    let t = learning(vec![
        tunnel(&[]),
        VlanConfig::default(),
        tunnel(&[0, 7]),
        VlanConfig {
            mode: VlanMode::Access,
            tag: Some(100),
            ..VlanConfig::default()
        },
    ]);
    let plain = udp(1, 9);
    t.send(1, &plain);
    let all = [
        (2, tag(&plain, 0x88a8, 100)),
        (3, plain.clone()),
        (4, plain.clone()),
    ];
    assert_eq!(t.sent(), all);
    // A VLAN inside it is not for an access port, and not for a tunnel that does not carry it.
    for (vid, carried) in [(7, true), (8, false)] {
        let inside = tag(&udp(1, 9), 0x8100, vid);
        let outside = tag(&inside, 0x88a8, 100);
        t.send(1, &inside);
        let mut wanted = vec![(2, outside.clone())];
        if carried {
            wanted.push((3, inside.clone()));
        }
        assert_eq!(t.sent(), wanted, "VLAN {vid}");
        t.send(2, &outside);
        let mut wanted = vec![(1, inside.clone())];
        if carried {
            wanted.push((3, inside.clone()));
        }
        assert_eq!(t.sent(), wanted, "VLAN {vid} back");
    }
    t.send(3, &tag(&udp(1, 9), 0x8100, 8));
    assert_eq!(t.sent(), []);
    let drops = t.dp.drop_stats(t.br, Some(PortNo(3)));
    assert_eq!(drops["cvlan_not_carried"], 1);
}

#[test]
fn with_one_tag_looked_at_the_next_is_payload() {
    let t = Switch::new(2);
    let inner = Match::new().with(FieldId::EthType, 0x8100);
    t.flow(FlowMod::add(inner, out(PortNo(2))));
    let two = tag(&tag(&udp(1, 9), 0x8100, 7), 0x88a8, 5);
    t.send(1, &two);
    assert_eq!(t.sent(), [], "both tags are looked at");
    t.dp.set_vlan_limit(1);
    t.send(1, &two);
    assert_eq!(t.sent(), [(2, two.clone())]);
    t.dp.set_vlan_limit(0);
    t.send(1, &two);
    assert_eq!(t.sent(), []);
}

#[test]
fn protected_ports_do_not_reach_one_another_whatever_sends() {
    let t = Switch::new(3);
    for n in [1, 2] {
        let spec = PortSpec {
            protected: true,
            ..t.spec(&n.to_string(), VlanConfig::default())
        };
        t.dp.set_port(t.br, PortNo(n), spec).unwrap();
    }
    t.flow(FlowMod::add(Match::new(), out(PortNo::ALL)));
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(3, udp(1, 2))]);
    t.send(3, &udp(3, 2));
    assert_eq!(t.sent().len(), 2);
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
    let drops = t.dp.drop_stats(t.br, Some(PortNo(1)));
    assert!(drops["protected_ports"] >= 1, "{drops:?}");
}
