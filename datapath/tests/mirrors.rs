//! Mirrors: which copies are made, of what, where to; and that nothing else changes by them.

mod common;

use common::{Switch, out, tag, tso, udp};
use datapath::*;
use openflow::*;
use proptest::prelude::*;

/// A mirror that selects nothing yet.
fn mirror(id: u128, output: MirrorOutput) -> MirrorSpec {
    MirrorSpec {
        id,
        all: false,
        sources: Default::default(),
        destinations: Default::default(),
        vlans: Default::default(),
        filter: None,
        output,
        snaplen: None,
    }
}

fn to_port(t: &Switch, id: u128, port: usize) -> MirrorSpec {
    mirror(id, MirrorOutput::Port(t.name(&port.to_string())))
}

fn names(t: &Switch, ports: &[usize]) -> std::collections::BTreeSet<String> {
    ports.iter().map(|p| t.name(&p.to_string())).collect()
}

fn set(t: &Switch, mirrors: Vec<MirrorSpec>) {
    let config = t.dp.bridge_config(t.br).unwrap();
    t.dp.set_bridge(t.br, BridgeConfig { mirrors, ..config })
        .unwrap();
}

fn normal(t: &Switch) {
    t.flow(FlowMod::add(Match::new(), out(PortNo::NORMAL)));
}

fn access(tag: u16) -> VlanConfig {
    VlanConfig {
        mode: VlanMode::Access,
        tag: Some(tag),
        ..VlanConfig::default()
    }
}

fn set_src(last: u8) -> Action {
    Action::SetField {
        field: FieldId::EthSrc,
        value: 0x0200_0000_0000 | u128::from(last),
        mask: 0xffff_ffff_ffff,
    }
}

fn output(port: u32) -> Action {
    Action::Output {
        port: PortNo(port),
        max_len: 0,
    }
}

#[test]
fn what_comes_in_is_copied_as_it_came_and_what_leaves_as_it_left() {
    let t = Switch::new(4);
    let actions = vec![set_src(7), output(2)];
    t.flow(FlowMod::add(Match::new(), Instructions::apply(actions)));
    let src = MirrorSpec {
        sources: names(&t, &[1]),
        ..to_port(&t, 1, 3)
    };
    let dst = MirrorSpec {
        destinations: names(&t, &[2]),
        ..to_port(&t, 2, 4)
    };
    set(&t, vec![src.clone(), dst.clone()]);
    // The second time by the caches.
    for n in 1..=2 {
        t.send(1, &udp(1, 2));
        assert_eq!(t.sent(), [(2, udp(7, 2)), (3, udp(1, 2)), (4, udp(7, 2))]);
        assert_eq!(t.dp.mirror_stats(t.br, 1), Some((n, n * 60)));
        assert_eq!(t.dp.mirror_stats(t.br, 2), Some((n, n * 60)));
    }
    // Two that select it for one target: one copy, of the first to be eligible, told of by that mirror.
    let output = src.output.clone();
    set(&t, vec![src, MirrorSpec { output, ..dst }]);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(7, 2)), (3, udp(1, 2))]);
    assert_eq!(t.dp.mirror_stats(t.br, 1), Some((3, 180)));
    assert_eq!(t.dp.mirror_stats(t.br, 2), Some((2, 120)));
    set(&t, vec![]);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(7, 2))]);
    assert_eq!(t.dp.mirror_stats(t.br, 1), None);
}

#[test]
fn all_is_everything_but_the_output_port_which_is_nobody_elses() {
    let t = Switch::new(4);
    normal(&t);
    let all = MirrorSpec {
        all: true,
        ..to_port(&t, 1, 4)
    };
    set(&t, vec![all]);
    t.send(1, &udp(1, 2));
    assert_eq!(
        t.sent(),
        [(2, udp(1, 2)), (3, udp(1, 2)), (4, udp(1, 2))],
        "flooded, and one copy"
    );
    // Nothing from there is taken, nor learned.
    t.send(4, &udp(2, 1));
    assert_eq!(t.sent(), []);
    assert_eq!(t.dp.drop_stats(t.br, None)["mirror_output_port"], 1);
    assert_eq!(t.dp.fdb(t.br).len(), 1);
    t.send(2, &udp(2, 1));
    assert_eq!(t.sent(), [(1, udp(2, 1)), (4, udp(2, 1))]);
    // A packet-out said to come from a port is as good as from there.
    let m = PacketOut {
        buffer: None,
        in_port: PortNo(1),
        actions: vec![output(3)],
        data: udp(9, 9).into(),
        fields: Match::new(),
    };
    t.dp.packet_out(t.br, &m).unwrap();
    t.dp.settle();
    assert_eq!(t.sent(), [(3, udp(9, 9)), (4, udp(9, 9))]);
}

#[test]
fn a_packet_that_is_dropped_is_copied_and_told_of_as_dropped() {
    let t = Switch::new(2);
    let all = MirrorSpec {
        all: true,
        ..to_port(&t, 1, 2)
    };
    set(&t, vec![all]);
    for _ in 0..3 {
        t.send(1, &udp(1, 2));
    }
    assert_eq!(t.sent(), vec![(2, udp(1, 2)); 3]);
    assert_eq!(t.dp.drop_stats(t.br, Some(PortNo(1)))["no_match"], 3);
}

#[test]
fn vlans_are_those_of_the_port_and_copies_are_tagged_as_their_port_wants_them() {
    let t = Switch::with(vec![
        access(10),
        access(10),
        access(20),
        VlanConfig::default(),
        access(99),
    ]);
    normal(&t);
    let of = |id, port, vlan: u16| MirrorSpec {
        all: true,
        vlans: [vlan].into(),
        ..to_port(&t, id, port)
    };
    set(&t, vec![of(1, 4, 10), of(2, 5, 10)]);
    t.send(1, &udp(1, 2));
    assert_eq!(
        t.sent(),
        [
            (2, udp(1, 2)),
            (4, tag(&udp(1, 2), 0x8100, 10)),
            (5, udp(1, 2))
        ]
    );
    t.send(3, &udp(1, 2));
    assert_eq!(t.sent(), []);
    // An access port takes no tags: such a frame is in no VLAN.
    t.send(1, &tag(&udp(1, 2), 0x8100, 10));
    assert_eq!(t.sent(), []);
    assert_eq!(t.dp.mirror_stats(t.br, 1), Some((1, 60)));
}

#[test]
fn to_a_vlan_is_to_every_port_that_carries_it() {
    let t = Switch::with(vec![
        VlanConfig::default(),
        access(10),
        access(7),
        VlanConfig::default(),
    ]);
    let rspan = MirrorSpec {
        sources: names(&t, &[1, 4]),
        ..mirror(1, MirrorOutput::Vlan(7))
    };
    let port = to_port(&t, 2, 4);
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    set(&t, vec![rspan.clone()]);
    let tagged = tag(&udp(1, 2), 0x8100, 5);
    let copy = tag(&udp(1, 2), 0x8100, 7);
    t.send(1, &tagged);
    assert_eq!(
        t.sent(),
        [
            (1, copy.clone()),
            (2, tagged.clone()),
            (3, udp(1, 2)),
            (4, copy.clone())
        ]
    );
    // Not what is in it already, nor what no bridge forwards, nor to ports for other mirrors.
    t.send(1, &copy);
    assert_eq!(t.sent(), [(2, copy.clone())]);
    let mut bpdu = udp(1, 2);
    bpdu[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 2]);
    t.send(1, &bpdu);
    assert_eq!(t.sent(), [(2, bpdu)]);
    set(&t, vec![rspan, port]);
    t.send(1, &tagged);
    assert_eq!(t.sent(), [(1, copy.clone()), (2, tagged), (3, udp(1, 2))]);
    // What comes in on it is flooded, and teaches nothing.
    normal(&t);
    t.send(1, &copy);
    assert_eq!(t.sent(), [(3, udp(1, 2))]);
    assert_eq!(t.dp.fdb(t.br), []);
}

#[test]
fn copies_are_cut_and_the_rest_is_not() {
    let t = Switch::new(3);
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    let cut = MirrorSpec {
        sources: names(&t, &[1]),
        snaplen: Some(34),
        ..to_port(&t, 1, 3)
    };
    set(&t, vec![cut]);
    for _ in 0..2 {
        t.send(1, &udp(1, 2));
        assert_eq!(t.sent(), [(2, udp(1, 2)), (3, udp(1, 2)[..34].to_vec())]);
    }
    let (frame, offload) = tso(3000, 1000);
    t.send_with(1, &frame, offload);
    let sent = t.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], (2, frame.clone()));
    assert_eq!(sent[1].1, frame[..34]);
    assert_eq!(
        t.dp.mirror_stats(t.br, 1),
        Some((3, 120 + frame.len() as u64))
    );
}

#[test]
fn a_filter_sees_the_packet_where_it_is_eligible() {
    let t = Switch::new(3);
    let actions = vec![set_src(7), output(2)];
    t.flow(FlowMod::add(Match::new(), Instructions::apply(actions)));
    let of = |id, src: u128| MirrorSpec {
        all: true,
        filter: Some(Match::new().with(FieldId::EthSrc, 0x0200_0000_0000 | src)),
        ..to_port(&t, id, 3)
    };
    set(&t, vec![of(1, 1), of(2, 7)]);
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(7, 2)), (3, udp(1, 2))]);
    t.send(1, &udp(5, 2));
    assert_eq!(t.sent(), [(2, udp(7, 2)), (3, udp(7, 2))]);
    assert_eq!(t.dp.mirror_stats(t.br, 1), Some((1, 60)));
    assert_eq!(t.dp.mirror_stats(t.br, 2), Some((1, 60)));
}

#[test]
fn bridges_on_both_sides_of_a_patch_have_mirrors_of_their_own() {
    let t = Switch::new(4);
    let other = t.dp.add_bridge("other", BridgeConfig::default()).unwrap();
    let patch = |name: &str, peer: &str| {
        let mut spec = t.spec(name, VlanConfig::default());
        spec.interface.kind = "patch".into();
        spec.interface.options.insert("peer".into(), t.name(peer));
        spec
    };
    let a = t.dp.add_port(t.br, patch("a", "b")).unwrap();
    t.dp.add_port(other, patch("b", "a")).unwrap();
    let far = t.dp.add_port(other, t.spec("far", VlanConfig::default()));
    let watch = t.dp.add_port(other, t.spec("watch", VlanConfig::default()));
    let take = |name: &str| {
        let sent = datapath::port::dummy::handle(&t.name(name)).unwrap();
        let sent = sent.take_sent().into_iter();
        sent.map(|p| p.bytes).collect::<Vec<_>>()
    };
    let actions = vec![output(a.0), output(2)];
    t.flow(FlowMod::add(Match::new(), Instructions::apply(actions)));
    let actions = vec![set_src(7), output(far.unwrap().0)];
    let m = FlowMod::add(Match::new(), Instructions::apply(actions));
    t.dp.flow_mod(other, &m).unwrap();
    assert!(watch.is_ok());
    let dst = MirrorSpec {
        destinations: [t.name("a")].into(),
        ..to_port(&t, 1, 3)
    };
    set(&t, vec![dst]);
    let src = MirrorSpec {
        sources: [t.name("b")].into(),
        ..mirror(2, MirrorOutput::Port(t.name("watch")))
    };
    let config = t.dp.bridge_config(other).unwrap();
    let mirrors = vec![src];
    t.dp.set_bridge(other, BridgeConfig { mirrors, ..config })
        .unwrap();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2)), (3, udp(1, 2))]);
    assert_eq!(take("far"), [udp(7, 2)]);
    assert_eq!(take("watch"), [udp(1, 2)]);
}

#[test]
fn a_target_that_comes_later_is_found_and_one_that_goes_is_let_go() {
    let t = Switch::new(2);
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    let late = MirrorSpec {
        all: true,
        ..to_port(&t, 1, 3)
    };
    set(&t, vec![late]);
    t.send(1, &udp(1, 2));
    assert_eq!(t.dp.mirror_stats(t.br, 1), None);
    let three = t.dp.add_port(t.br, t.spec("3", VlanConfig::default()));
    t.send(1, &udp(1, 2));
    assert_eq!(t.port(3).unwrap().take_sent().len(), 1);
    t.dp.remove_port(t.br, three.unwrap());
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), vec![(2, udp(1, 2)); 3]);
}

#[test]
fn a_target_that_takes_nothing_costs_nobody_anything() {
    let t = Switch::new(3);
    t.flow(FlowMod::add(Match::new(), out(PortNo(2))));
    let all = MirrorSpec {
        all: true,
        ..to_port(&t, 1, 3)
    };
    set(&t, vec![all]);
    t.port(3).unwrap().set_up(false);
    for _ in 0..100 {
        t.send(1, &udp(1, 2));
    }
    assert_eq!(t.sent(), vec![(2, udp(1, 2)); 100]);
    let drops = |port| t.dp.drop_stats(t.br, Some(PortNo(port)));
    assert_eq!(drops(1).values().sum::<u64>(), 0, "{:?}", drops(1));
    assert_eq!(t.dp.port_stats(t.br, PortNo(3)).unwrap().tx_dropped, 100);
}

/// Actions that change packets, and send them in several states.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        (1u32..=4).prop_map(output),
        (1u8..9).prop_map(set_src),
        Just(Action::PushVlan(0x8100)),
        Just(Action::PopVlan),
        (0u16..4).prop_map(Action::SetVlanVid),
        (1u32..=4).prop_map(|p| Action::Clone(vec![set_src(3), output(p)])),
        Just(Action::Output {
            port: PortNo::NORMAL,
            max_len: 0
        }),
        Just(Action::OutputTrunc {
            port: PortNo(2),
            max_len: 20
        }),
        Just(Action::Output {
            port: PortNo::FLOOD,
            max_len: 0
        }),
    ];
    proptest::collection::vec(one, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_mirrored_goes_where_it_went_before(
        flows in proptest::collection::vec((1u32..=4, actions()), 1..5),
        picks in proptest::collection::vec((0u8..32, 0u8..32, any::<bool>(), 0usize..2, 14u16..90), 1..5),
        frames in proptest::collection::vec((1usize..=4, 1u8..5, 1u8..5, 0u16..3), 20),
    ) {
        let vlans = || {
            let mut v = vec![VlanConfig::default(), access(1), access(2)];
            v.resize(6, VlanConfig::default());
            v
        };
        let (plain, mirrored) = (Switch::with(vlans()), Switch::with(vlans()));
        for t in [&plain, &mirrored] {
            // Ports 5 and 6 are for mirrors: no flood reaches them.
            for port in [5, 6] {
                let desc = t.dp.port_desc(t.br, PortNo(port)).unwrap();
                let change = PortFlags { no_flood: true, ..PortFlags::default() };
                let m = PortMod { port: PortNo(port), mac: desc.mac, config: change, mask: change, advertise: 0, optical: None };
                t.dp.port_mod(t.br, &m).unwrap();
            }
            for (port, actions) in &flows {
                let m = Match::new().with(FieldId::InPort, (*port).into());
                t.flow(FlowMod::add(m, Instructions::apply(actions.clone())));
            }
        }
        let ports = |bits: u8| -> Vec<usize> { (1..=4).filter(|p| bits >> p & 1 != 0).collect() };
        let mirrors = picks.iter().enumerate().map(|(n, &(src, dst, all, to, snaplen))| MirrorSpec {
            all,
            sources: names(&mirrored, &ports(src)),
            destinations: names(&mirrored, &ports(dst)),
            snaplen: (snaplen < 60).then_some(snaplen),
            ..to_port(&mirrored, n as u128, 5 + to)
        });
        set(&mirrored, mirrors.collect());
        let mut copied = [0, 0];
        for (port, src, dst, vlan) in frames {
            let mut frame = udp(src, dst);
            if vlan > 0 {
                frame = tag(&frame, 0x8100, vlan);
            }
            plain.send(port, &frame);
            mirrored.send(port, &frame);
            let (copies, sent): (Vec<_>, Vec<_>) = mirrored.sent().into_iter().partition(|(p, _)| *p > 4);
            prop_assert_eq!(sent, plain.sent());
            for (n, sum) in copied.iter_mut().enumerate() {
                let to = copies.iter().filter(|(p, _)| *p == 5 + n).count() as u64;
                prop_assert!(to <= 1, "one copy a target");
                *sum += to;
            }
        }
        for (n, sum) in copied.into_iter().enumerate() {
            let counted = picks.iter().enumerate().filter(|(_, p)| p.3 == n);
            let counted: u64 = counted.map(|(i, _)| mirrored.dp.mirror_stats(mirrored.br, i as u128).unwrap().0).sum();
            prop_assert_eq!(counted, sum);
        }
        let drops = |t: &Switch| t.dp.drop_stats(t.br, None);
        prop_assert_eq!(drops(&mirrored), drops(&plain));
    }
}
