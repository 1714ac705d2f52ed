//! Packets through a whole datapath, by dummy ports, under a clock that the test moves.

mod common;

use common::*;
use datapath::*;
use openflow::*;
use std::time::Duration;

#[test]
fn a_learning_switch_floods_then_forwards_and_counts_exactly() {
    let t = Switch::new(3);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2)), (3, udp(1, 2))]);
    t.send(2, &udp(2, 1));
    assert_eq!(t.sent(), [(1, udp(2, 1))]);
    for _ in 0..100 {
        t.send(1, &udp(1, 2));
    }
    assert_eq!(t.sent().len(), 100);
    let s = &t.dp.flow_stats(t.br, &FlowFilter::default())[0];
    assert_eq!((s.packets, s.bytes), (102, 102 * 60));
    let p = t.dp.port_stats(t.br, PortNo(2)).unwrap();
    assert_eq!((p.rx_packets, p.tx_packets, p.tx_bytes), (1, 101, 101 * 60));
    let fdb = t.dp.fdb(t.br);
    assert_eq!(fdb.len(), 2);
    assert_eq!((fdb[0].port, fdb[0].mac.0[5]), (PortNo(1), 1));
    // A host that moves is found at once.
    t.send(3, &udp(2, 1));
    assert_eq!(t.sent(), [(1, udp(2, 1))]);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(3, udp(1, 2))]);
    t.send(2, &udp(2, 1));
    t.sent();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2))], "and back");
    // Ageing.
    t.dp.clock().warp(Duration::from_secs(301));
    t.dp.expire(t.dp.clock().now());
    assert!(t.dp.fdb(t.br).is_empty());
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent().len(), 2);
}

#[test]
fn vlans_are_kept_apart_and_tagged_as_configured() {
    let vlan = |mode, tag, trunks: &[u16]| VlanConfig {
        mode,
        tag,
        trunks: trunks.iter().copied().collect(),
        ..VlanConfig::default()
    };
    let t = Switch::with(vec![
        vlan(VlanMode::Access, Some(10), &[]),
        vlan(VlanMode::Access, Some(10), &[]),
        vlan(VlanMode::Access, Some(20), &[]),
        vlan(VlanMode::Trunk, None, &[10, 20]),
        vlan(VlanMode::NativeUntagged, Some(20), &[]),
        vlan(VlanMode::NativeTagged, Some(20), &[20]),
    ]);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    let f = udp(1, 9);
    t.send(1, &f);
    let tagged = |vid| tag(&f, 0x8100, vid);
    assert_eq!(t.sent(), [(2, f.clone()), (4, tagged(10)), (5, tagged(10))]);
    t.send(3, &udp(3, 9));
    let g = udp(3, 9);
    let g20 = tag(&g, 0x8100, 20);
    assert_eq!(
        t.sent(),
        [(4, g20.clone()), (5, g.clone()), (6, g20.clone())]
    );
    // Tagged into the trunk: untagged out of access ports, and back in the tag's own kind.
    let h = tag(&udp(4, 9), 0x88a8, 10);
    t.send(4, &h);
    assert_eq!(t.sent(), [(1, udp(4, 9)), (2, udp(4, 9)), (5, h)]);
    t.send(4, &tag(&udp(4, 9), 0x8100, 30));
    t.send(1, &tag(&udp(1, 9), 0x8100, 10));
    assert_eq!(t.sent(), []);
    let drops = t.dp.drop_stats(t.br, None);
    assert_eq!(drops["vlan_not_on_trunk"], 1);
    assert_eq!(drops["vlan_tag_on_access_port"], 1);
    // Link-local multicast stops here.
    let mut bpdu = udp(1, 9);
    bpdu[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0]);
    t.send(1, &bpdu);
    assert_eq!(t.sent(), []);
    assert_eq!(
        t.dp.drop_stats(t.br, Some(PortNo(1)))["reserved_multicast"],
        1
    );
}

#[test]
fn flow_changes_are_seen_by_the_next_packet_and_bundles_are_all_or_nothing() {
    let t = Switch::new(3);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
    assert_eq!(t.dp.drop_stats(t.br, Some(PortNo(1)))["no_match"], 1);
    let table = t.dp.table_stats(t.br).remove(0);
    assert_eq!((table.lookups, table.matched), (1, 0));
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    t.send(1, &udp(1, 2));
    t.flow(FlowMod::add(
        Match::new().with(FieldId::EthType, 0x800),
        out(PortNo(3)),
    ));
    let mut high = FlowMod::add(Match::new().with(FieldId::InPort, 1), out(PortNo(3)));
    high.priority = 0xffff;
    t.flow(high);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2)), (3, udp(1, 2))]);
    let good = FlowMod {
        command: FlowModCommand::Delete,
        table: TABLE_ALL,
        ..FlowMod::add(Match::new(), Instructions::default())
    };
    let bad = FlowMod::add(Match::new(), Instructions::apply(vec![Action::Group(1)]));
    let (at, _) =
        t.dp.changes_atomic(t.br, &[good.clone(), bad].map(datapath::Change::Flow), 0)
            .unwrap_err();
    assert_eq!(at, 1);
    assert_eq!(t.dp.flow_stats(t.br, &FlowFilter::default()).len(), 3);
    t.flow(good);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
}

#[test]
fn sets_tags_resubmits_and_registers() {
    let t = Switch::new(3);
    let set = |field: FieldId, value| Action::SetField {
        field,
        value,
        mask: field.info().full_mask(),
    };
    let ip = Match::new().with(FieldId::EthType, 0x800);
    let output = |n| Action::Output {
        port: PortNo(n),
        max_len: 0,
    };
    t.flow(FlowMod::add(
        ip.clone(),
        Instructions::apply(vec![
            set(FieldId::Reg0, 3),
            output(2),
            set(FieldId::EthDst, 0x0200_0000_0077),
            Action::DecTtl(vec![]),
            Action::SetVlanVid(7),
            Action::Resubmit {
                in_port: None,
                table: Some(5),
                ct: false,
            },
        ]),
    ));
    let mut m = FlowMod::add(
        Match::new().with(FieldId::VlanVid, 0x1007),
        Instructions::apply(vec![Action::OutputReg {
            source: Subfield::whole(FieldId::Reg0),
            max_len: 0,
        }]),
    );
    m.table = 5;
    t.flow(m);
    for _ in 0..3 {
        t.send(1, &udp(1, 2));
        let mut want = udp(1, 0x77);
        want[22] -= 1;
        want[24] += 1; // the header checksum grows by what the TTL shrank
        assert_eq!(t.sent(), [(2, udp(1, 2)), (3, tag(&want, 0x8100, 7))]);
    }
    // A TTL that runs out goes to the controller instead.
    let mut dying = udp(1, 2);
    dying[22] = 1;
    t.send(1, &dying);
    assert_eq!(t.sent(), [(2, dying)]);
    let Some(Event::PacketIn { packet_in, .. }) = t.event() else {
        panic!("no packet-in")
    };
    assert_eq!(
        packet_in.reason,
        openflow::action::PacketInReason::InvalidTtl
    );
}

#[test]
fn the_action_set_runs_at_the_end_and_goto_carries_metadata() {
    let t = Switch::new(2);
    let i = Instructions {
        write: vec![
            Action::Output {
                port: PortNo(2),
                max_len: 0,
            },
            Action::PushVlan(0x88a8),
        ],
        metadata: Some((0xab00, 0xff00)),
        goto_table: Some(3),
        ..Instructions::default()
    };
    t.flow(FlowMod::add(Match::new(), i));
    let set = Action::SetField {
        field: FieldId::EthSrc,
        value: 5,
        mask: 0xff,
    };
    let mut m = FlowMod::add(
        Match::new().with(FieldId::Metadata, 0xab00),
        Instructions::apply(vec![set]),
    );
    m.table = 3;
    t.flow(m);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, tag(&udp(5, 2), 0x88a8, 0))]);
}

#[test]
fn hosts_are_forgotten_when_their_port_changes_vlan() {
    let t = Switch::new(2);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    t.send(1, &udp(1, 2));
    t.send(2, &udp(2, 1));
    assert_eq!(t.dp.fdb(t.br).len(), 2);
    let access = VlanConfig {
        mode: VlanMode::Access,
        tag: Some(10),
        ..VlanConfig::default()
    };
    t.dp.set_port(t.br, PortNo(1), t.spec("1", access)).unwrap();
    let left: Vec<_> = t.dp.fdb(t.br).iter().map(|e| e.port).collect();
    assert_eq!(left, [PortNo(2)]);
}

#[test]
fn patch_ports_cross_bridges_without_leaving_marks() {
    let t = Switch::new(2);
    let b2 = t.dp.add_bridge("other", BridgeConfig::default()).unwrap();
    let patch = |name: &str, peer: &str| PortSpec {
        interface: InterfaceConfig {
            name: name.into(),
            kind: "patch".into(),
            options: [("peer".to_string(), peer.to_string())].into(),
            ..InterfaceConfig::default()
        },
        ..PortSpec::default()
    };
    let (a, b) = (t.name("pa"), t.name("pb"));
    let pa = t.dp.add_port(t.br, patch(&a, &b)).unwrap();
    let pb = t.dp.add_port(b2, patch(&b, &a)).unwrap();
    assert!(!t.dp.port_desc(t.br, pa).unwrap().link_down);
    // The first end was added without its peer: that it has a link by now is told.
    while t.any_event().is_some() {}
    t.dp.expire(t.dp.clock().now());
    let told = std::iter::from_fn(|| t.any_event()).any(|e| {
        matches!(e, Event::PortStatus { reason: PortReason::Modify, desc, .. } if desc.port == pa && !desc.link_down)
    });
    assert!(told);
    let far = t.name("far");
    let mut spec = patch(&far, "");
    spec.interface.kind = "dummy".into();
    spec.interface.options.clear();
    let far_no = t.dp.add_port(b2, spec).unwrap();
    let handle = datapath::port::dummy::handle(&far).unwrap();
    let two = Instructions::apply(vec![
        Action::Output {
            port: pa,
            max_len: 0,
        },
        Action::Output {
            port: PortNo(2),
            max_len: 0,
        },
    ]);
    t.flow(FlowMod::add(Match::new(), two));
    let change = Instructions::apply(vec![
        Action::SetField {
            field: FieldId::EthDst,
            value: 0x0200_0000_0055,
            mask: FieldId::EthDst.info().full_mask(),
        },
        Action::SetVlanVid(9),
        Action::Output {
            port: far_no,
            max_len: 0,
        },
    ]);
    let m = FlowMod::add(Match::new().with(FieldId::InPort, pb.0.into()), change);
    t.dp.flow_mod(b2, &m).unwrap();
    for dst in [2, 3] {
        t.send(1, &udp(1, dst));
        assert_eq!(
            t.sent(),
            [(2, udp(1, dst))],
            "what the other bridge changed is undone"
        );
        let got: Vec<_> = handle.take_sent().into_iter().map(|p| p.bytes).collect();
        assert_eq!(got, [tag(&udp(1, 0x55), 0x8100, 9)]);
    }
    assert_eq!(t.dp.port_stats(t.br, pa).unwrap().tx_packets, 2);
    assert_eq!(t.dp.port_stats(b2, pb).unwrap().rx_packets, 2);
}

#[test]
fn timeouts_and_removals_tell_with_exact_counts() {
    let t = Switch::new(2);
    let mut m = FlowMod::add(Match::new(), out(PortNo(2)));
    m.idle_timeout = 10;
    m.flags.send_flow_rem = true;
    t.flow(m);
    t.dp.clock().warp(Duration::from_secs(8));
    for _ in 0..5 {
        t.send(1, &udp(1, 2));
    }
    t.dp.clock().warp(Duration::from_secs(8));
    t.dp.expire(t.dp.clock().now());
    assert!(t.event().is_none());
    t.dp.clock().warp(Duration::from_secs(2));
    t.dp.expire(t.dp.clock().now());
    let Some(Event::FlowRemoved { removed, .. }) = t.event() else {
        panic!("no flow-removed")
    };
    assert_eq!(removed.reason, FlowRemovedReason::IdleTimeout);
    assert_eq!(removed.flow.packets, 5);
    assert_eq!(removed.flow.duration, Duration::from_secs(18));
    t.sent();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
}

#[test]
fn packet_outs_and_packet_ins_and_their_budget() {
    let t = Switch::new(2);
    let m = PacketOut {
        buffer: None,
        in_port: PortNo::CONTROLLER,
        actions: vec![Action::Output {
            port: PortNo::FLOOD,
            max_len: 0,
        }],
        data: udp(1, 2).into(),
        ..PacketOut::default()
    };
    t.dp.packet_out(t.br, &m).unwrap();
    t.dp.settle();
    assert_eq!(t.sent().len(), 2);
    let mut short = m.clone();
    short.data = vec![0; 5].into();
    assert_eq!(
        t.dp.packet_out(t.br, &short).unwrap_err().kind,
        openflow::error::ErrorKind::BadPacket
    );
    let mut miss = FlowMod::add(Match::new(), out(PortNo::CONTROLLER));
    miss.priority = 0;
    miss.cookie = 77;
    t.flow(miss);
    for _ in 0..300 {
        t.send(1, &udp(1, 2));
    }
    let mut n = 0;
    while let Some(e) = t.event() {
        let Event::PacketIn { packet_in: p, .. } = e else {
            continue;
        };
        assert_eq!(
            (p.cookie, p.reason),
            (77, openflow::action::PacketInReason::NoMatch)
        );
        assert_eq!(p.metadata.exact(FieldId::InPort), Some(1));
        assert_eq!(p.data, udp(1, 2));
        n += 1;
    }
    assert_eq!(n, 256);
    assert_eq!(
        t.dp.drop_stats(t.br, Some(PortNo(1)))["packet_in_limit"],
        44
    );
}

#[test]
fn ports_come_and_go_and_settings_act_at_once() {
    let t = Switch::new(3);
    t.flow(FlowMod::add(Match::new(), out(PortNo::FLOOD)));
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent().len(), 2);
    let flags = PortFlags {
        no_flood: true,
        ..PortFlags::default()
    };
    let mac = t.dp.port_desc(t.br, PortNo(3)).unwrap().mac;
    let pm = PortMod {
        port: PortNo(3),
        mac,
        config: flags,
        mask: flags,
        advertise: 0,
        optical: None,
    };
    t.dp.port_mod(t.br, &pm).unwrap();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2))]);
    t.dp.remove_port(t.br, PortNo(2));
    assert!(
        datapath::port::dummy::handle(&t.name("2")).is_none(),
        "the device is closed"
    );
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
    assert_eq!(t.dp.ports(t.br), [PortNo(1), PortNo(3)]);
    let again =
        t.dp.add_port(t.br, t.spec("2", VlanConfig::default()))
            .unwrap();
    assert_eq!(again, PortNo(2));
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2))]);
}

#[test]
fn cached_flows_are_shown_in_dpctls_form_and_swept_when_unused() {
    let t = Switch::new(2);
    let mut m = FlowMod::add(
        Match::new()
            .with(FieldId::EthType, 0x800)
            .with(FieldId::IpProto, 17),
        out(PortNo(2)),
    );
    m.priority = 5;
    t.flow(m);
    t.send(1, &udp(1, 2));
    t.send(1, &udp(1, 3));
    let flows = t.dp.cached_flows();
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].packets, 2);
    assert_eq!(
        flows[0].key,
        format!(
            "recirc_id(0),in_port({}),eth_type(0x0800),ipv4(proto=17,frag=no)",
            t.name("1")
        )
    );
    assert_eq!(flows[0].actions, t.name("2"));
    let s = t.dp.cache_stats();
    assert_eq!((s.misses, s.wildcard_hits + s.exact_hits), (1, 1));
    t.dp.clock().warp(Duration::from_secs(11));
    wait_until(|| t.dp.cached_flows().is_empty());
}

#[test]
fn an_idle_thread_sleeps_and_the_first_packet_wakes_it() {
    let t = Switch::new(2);
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    let sleeps = || t.dp.thread_stats()[0].sleeps;
    for _ in 0..20 {
        let before = sleeps();
        // Asking nothing of the thread, which would wake it.
        assert!(t.port(1).unwrap().inject(&udp(1, 2), Default::default()));
        let mut got = Vec::new();
        wait_until(|| {
            got.extend(t.port(2).unwrap().take_sent());
            !got.is_empty()
        });
        wait_until(|| sleeps() > before);
    }
}

#[test]
fn two_threads_share_one_switch() {
    let t = Switch::threads(2, vec![VlanConfig::default(); 4]);
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
    for n in 1..=4u8 {
        t.send(n.into(), &udp(n, 9));
    }
    t.sent();
    let mut want = 0;
    std::thread::scope(|s| {
        let dp = &t.dp;
        s.spawn(move || {
            // Changes all the while: nothing may be lost or miscounted by them.
            for i in 0..200u16 {
                let m = FlowMod {
                    priority: 7,
                    command: if i % 2 == 0 {
                        FlowModCommand::Add
                    } else {
                        FlowModCommand::DeleteStrict
                    },
                    ..FlowMod::add(
                        Match::new().with(FieldId::EthType, 0x88cc),
                        out(PortNo::CONTROLLER),
                    )
                };
                dp.flow_mod(BridgeId(0), &m).unwrap();
            }
        });
        for round in 0..50 {
            for n in 1..=4u8 {
                let to = 1 + (n + round) % 4;
                let frame = udp(n, to);
                assert!(t.port(n.into()).unwrap().inject(&frame, Default::default()));
                want += usize::from(to != n);
            }
        }
    });
    t.dp.settle();
    assert_eq!(t.sent().len(), want);
    let s = &t.dp.flow_stats(t.br, &FlowFilter::default())[0];
    assert_eq!(s.packets, 204);
    let packets: Vec<u64> = t.dp.thread_stats().iter().map(|s| s.packets).collect();
    assert_eq!(packets.iter().sum::<u64>(), 204);
    assert!(packets.iter().all(|p| *p > 0), "{packets:?}");
}
