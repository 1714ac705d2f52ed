//! The mask of a translation must be sound: any packet that agrees on it is done the same to.

use super::*;
use crate::bridge::{Bridge, Epoch, PortEntry, World};
use crate::config::{BridgeConfig, PortSpec, PriorityTags, VlanConfig, VlanMode};
use crate::flow::{FlowKey, PACKET_WORDS};
use crate::mirror::{MirrorOutput, MirrorSpec, Mirrors};
use crate::port::InterfaceConfig;
use crate::table::Limits;
use openflow::{
    Action, Bucket, FieldId, FlowMod, GroupMod, GroupModCommand, GroupType, Instructions, Match,
    PortFlags, PortNo, Slot, Subfield,
};
use proptest::prelude::*;
use std::sync::Arc;

const PORTS: u32 = 4;

pub(super) fn world(flows: &[FlowMod]) -> World {
    mirrored_world(flows, &[])
}

fn mirrored_world(flows: &[FlowMod], mirrors: &[MirrorSpec]) -> World {
    let epoch: Arc<Epoch> = Arc::default();
    let bridge = Bridge::new(0, "br", BridgeConfig::default(), epoch);
    let _: Result<(), ()> = bridge.update(|s| {
        s.ports = Arc::new((0..PORTS).map(|n| (n + 1, n)).collect());
        let limits = Limits { tables: 4 };
        for g in groups() {
            let r = s
                .tables
                .apply_group(&g, &limits, Default::default(), &mut Default::default());
            assert!(r.is_ok(), "{r:?}");
        }
        for m in flows {
            let r = s
                .tables
                .apply(m, &limits, Default::default(), &mut Default::default());
            assert!(r.is_ok(), "{r:?}");
        }
        Ok(())
    });
    for (vlan, mac, port) in [(0, 0, 1), (0, 2, 2), (10, 2, 3)] {
        bridge.learn(vlan, mac, port, Default::default(), 100);
    }
    let ports = (0..PORTS)
        .map(|n| {
            let (mode, tag, priority_tags) = [
                (VlanMode::Dot1qTunnel, Some(10), PriorityTags::Always),
                (VlanMode::Access, Some(10), PriorityTags::Never),
                (VlanMode::NativeUntagged, Some(10), PriorityTags::IfNonzero),
                (VlanMode::NativeTagged, Some(0), PriorityTags::Always),
            ][n as usize];
            let vlan = VlanConfig {
                mode,
                tag,
                priority_tags,
                cvlans: [0, 10].into(),
                ..VlanConfig::default()
            };
            Some(Arc::new(PortEntry {
                index: n,
                bridge: 0,
                number: PortNo(n + 1),
                spec: PortSpec {
                    vlan,
                    interface: InterfaceConfig {
                        name: format!("p{}", n + 1),
                        ..InterfaceConfig::default()
                    },
                    ..PortSpec::default()
                },
                flags: PortFlags::default(),
                patch: None,
                tunnel: None,
                sequence: None,
                socket: None,
                device: None,
                shaper: None,
                counters: Arc::default(),
                ingress: None,
                created: Default::default(),
            }))
        })
        .collect();
    let world = World {
        version: 1,
        ports,
        bridges: vec![Some(Arc::new(bridge))],
        ..World::default()
    };
    let _: Result<(), ()> = world.bridge(0).unwrap().update(|s| {
        s.mirrors = Mirrors::resolve(mirrors, &s.ports, &world, &s.mirrors);
        Ok(())
    });
    world
}

/// One mirror of each kind, each with something of the packet to look at.
fn mirrors() -> Vec<MirrorSpec> {
    let of = |id, output| MirrorSpec {
        id,
        all: true,
        sources: Default::default(),
        destinations: Default::default(),
        vlans: Default::default(),
        filter: None,
        output,
        snaplen: None,
    };
    let p4 = || MirrorOutput::Port("p4".into());
    vec![
        MirrorSpec {
            vlans: [10].into(),
            ..of(1, p4())
        },
        MirrorSpec {
            all: false,
            sources: ["p1".into(), "p2".into()].into(),
            destinations: ["p3".into()].into(),
            filter: Some(Match::new().with(FieldId::IpProto, 6)),
            snaplen: Some(64),
            ..of(2, p4())
        },
        MirrorSpec {
            filter: Some(Match::new().with(FieldId::EthSrc, 2)),
            ..of(3, MirrorOutput::Vlan(10))
        },
    ]
}

/// Out of a port.
pub(super) fn out_of(port: u32) -> Instructions {
    Instructions::apply(vec![Action::Output {
        port: PortNo(port),
        max_len: 0,
    }])
}

/// One group of each kind, by number: some send to others, some to tables.
fn groups() -> Vec<GroupMod> {
    let output = |p| Action::Output {
        port: PortNo(p),
        max_len: 0,
    };
    let again = Action::Resubmit {
        in_port: None,
        table: Some(3),
        ct: false,
    };
    let of = |group, kind, lists: Vec<Vec<Action>>| GroupMod {
        command: GroupModCommand::Add,
        kind,
        group,
        buckets: lists
            .into_iter()
            .enumerate()
            .map(|(n, actions)| Bucket {
                weight: u16::from(kind == GroupType::Select) * (n as u16 + 1),
                watch_port: match kind {
                    GroupType::FastFailover => PortNo(n as u32 * 9 + 9),
                    _ => PortNo::ANY,
                },
                watch_group: (kind == GroupType::FastFailover && n == 1).then_some(1),
                id: n as u32,
                actions,
            })
            .collect(),
        position: Default::default(),
        selection: Default::default(),
    };
    vec![
        of(
            1,
            GroupType::Select,
            vec![vec![output(1)], vec![output(2)], vec![output(3)]],
        ),
        of(
            2,
            GroupType::All,
            vec![
                vec![set(FieldId::EthDst, 1, 3), again],
                vec![Action::PushVlan(0x8100), Action::Group(1)],
                vec![set(FieldId::EthSrc, 2, 3), output(4)],
            ],
        ),
        of(
            3,
            GroupType::FastFailover,
            vec![
                vec![output(1)],
                vec![set(FieldId::Reg0, 2, 3), Action::Group(1)],
            ],
        ),
        of(
            4,
            GroupType::Indirect,
            vec![vec![Action::PopVlan, output(2)]],
        ),
    ]
}

/// What was to be learned.
fn lessons_of(t: &Translation) -> Vec<&FlowMod> {
    t.credits
        .iter()
        .filter_map(|c| match c {
            Credit::Lesson(l) => Some(l.rule()),
            _ => None,
        })
        .collect()
}

pub(super) fn translate(w: &World, key: FlowKey, port: u32) -> Translation {
    Xlate::new(w, key, Default::default(), false).run(w.port(port).unwrap())
}

/// Which rules counted.
fn rules_of(t: &Translation) -> Vec<*const crate::table::Counters> {
    t.credits
        .iter()
        .filter_map(|c| match c {
            Credit::Mirror(r) | Credit::Rule(r) | Credit::Group(r) => Some(Arc::as_ptr(r)),
            _ => None,
        })
        .collect()
}

/// A small world of keys, so that rules hit.
fn keys() -> impl Strategy<Value = FlowKey> {
    (
        (0u64..4, 0u64..4, 0usize..4, 0usize..4),
        (0u64..3, 0u64..3, 0usize..3, 0u64..3, 0u64..3, 0u64..3),
    )
        .prop_map(|((dst, src, ty, tci), (a, b, proto, sp, dp, ttl))| {
            let mut k = FlowKey::default();
            k.set(Slot::InPort, 1);
            k.set(Slot::EthDst, dst.into());
            k.set(Slot::EthSrc, src.into());
            let ty = [0x0800, 0x0806, 0x1234, 0x8847][ty];
            k.set(Slot::EthType, ty);
            k.set(Slot::VlanTci, [0, 0x1000, 0x100a, 0x3014][tci]);
            if tci == 2 {
                k.set(Slot::InnerVlanTci, 0x1005);
            }
            if ty == 0x8847 {
                k.set(Slot::Mpls, ((a << 12) | (b & 1) << 8 | ttl).into());
            } else if ty != 0x1234 {
                k.set(Slot::NwSrc, a.into());
                k.set(Slot::NwDst, b.into());
            }
            if ty == 0x0800 {
                k.set(Slot::NwProto, [6, 17, 50][proto]);
                k.set(Slot::NwTtl, ttl.into());
                // Some are fragments.
                k.set(Slot::NwFrag, u128::from(a == 2));
                if proto < 2 {
                    k.set(Slot::TpSrc, sp.into());
                    k.set(Slot::TpDst, dp.into());
                }
            }
            k
        })
}

fn set(field: FieldId, value: u128, mask: u128) -> Action {
    Action::SetField {
        field,
        value: value & mask,
        mask,
    }
}

/// What steers the pipeline.
fn steering() -> impl Strategy<Value = Action> {
    use openflow::action::*;
    let run = |field, offset, bits| Subfield {
        field,
        offset,
        bits,
    };
    let fields = prop_oneof![
        Just(HashFields::EthSrc),
        Just(HashFields::SymmetricL4),
        Just(HashFields::SymmetricL3L4Udp),
        Just(HashFields::NwDst),
    ];
    let algorithm = prop_oneof![
        Just(MultipathAlgorithm::ModuloN),
        Just(MultipathAlgorithm::HashThreshold),
        Just(MultipathAlgorithm::Hrw),
        Just(MultipathAlgorithm::IterHash),
    ];
    let spread = move |load: bool, fields| Spread {
        fields,
        basis: 1,
        active_backup: false,
        ports: vec![PortNo(1), PortNo(9), PortNo(3), PortNo(4)],
        target: load.then_some(run(FieldId::Reg0, 0, 16)),
    };
    let learn = Learn {
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 1,
        cookie: 0,
        send_flow_rem: false,
        delete_learned: false,
        table: 3,
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        limit: 3,
        result: Some(run(FieldId::Reg0, 1, 1)),
        specs: vec![
            LearnSpec {
                source: LearnSource::Field(run(FieldId::EthSrc, 0, 48)),
                target: LearnTarget::Match(run(FieldId::EthDst, 0, 48)),
            },
            LearnSpec {
                source: LearnSource::Field(run(FieldId::Reg0, 0, 16)),
                target: LearnTarget::Output,
            },
        ],
    };
    prop_oneof![
        (1u32..5).prop_map(Action::Group),
        (1u32..5).prop_map(Action::Group),
        (fields.clone(), algorithm).prop_map(move |(fields, algorithm)| {
            Action::Multipath(Box::new(Multipath {
                fields,
                basis: 7,
                algorithm,
                max_link: 2,
                arg: 5,
                target: run(FieldId::Reg0, 0, 2),
            }))
        }),
        (any::<bool>(), fields)
            .prop_map(move |(load, f)| Action::Bundle(Box::new(spread(load, f)))),
        Just(Action::Push(run(FieldId::EthDst, 0, 2))),
        Just(Action::Push(run(FieldId::EthSrc, 0, 2))),
        Just(Action::Pop(run(FieldId::Reg0, 0, 2))),
        Just(Action::Pop(run(FieldId::EthDst, 0, 2))),
        Just(Action::Learn(Box::new(learn))),
        Just(Action::CheckPktLarger {
            len: 100,
            target: run(FieldId::Reg0, 0, 1)
        }),
        proptest::collection::vec(plain(), 1..4).prop_map(Action::Clone),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![3 => plain(), 1 => steering()]
}

fn plain() -> impl Strategy<Value = Action> {
    let output = |p| Action::Output {
        port: PortNo(p),
        max_len: 0,
    };
    let run = |field, offset, bits| Subfield {
        field,
        offset,
        bits,
    };
    prop_oneof![
        (1u32..6).prop_map(output),
        Just(output(PortNo::NORMAL.0)),
        Just(output(PortNo::FLOOD.0)),
        Just(output(PortNo::CONTROLLER.0)),
        Just(output(PortNo::IN_PORT.0)),
        (0u128..4, 1u128..4).prop_map(|(v, m)| set(FieldId::EthDst, v, m)),
        (0u128..4).prop_map(|v| set(FieldId::EthSrc, v, 0xffff_ffff_ffff)),
        (0u128..4, 1u128..4).prop_map(|(v, m)| set(FieldId::Reg0, v, m)),
        Just(Action::Move {
            source: run(FieldId::EthSrc, 0, 2),
            target: run(FieldId::Reg0, 0, 2)
        }),
        Just(Action::Move {
            source: run(FieldId::Reg0, 0, 2),
            target: run(FieldId::EthDst, 1, 2)
        }),
        Just(Action::OutputReg {
            source: Subfield::whole(FieldId::Reg0),
            max_len: 0
        }),
        (0u16..3).prop_map(Action::SetVlanVid),
        (0u8..3).prop_map(Action::SetVlanPcp),
        Just(Action::PopVlan),
        Just(Action::PushVlan(0x88a8)),
        (1u8..4).prop_map(|t| Action::Resubmit {
            in_port: None,
            table: Some(t),
            ct: false
        }),
        (1u32..5).prop_map(|p| Action::Resubmit {
            in_port: Some(PortNo(p)),
            table: Some(3),
            ct: false
        }),
        Just(Action::Exit),
    ]
}

fn matches() -> impl Strategy<Value = Match> {
    (0usize..13, 0u128..4, 0u128..4).prop_map(|(which, v, m)| {
        let mut x = Match::new();
        match which {
            0 => {}
            1 => x.set_masked(FieldId::EthDst, v, m),
            2 => x.set_masked(FieldId::EthSrc, v, m),
            3 => x.set_masked(FieldId::Reg0, v, m),
            4 => x.set(FieldId::VlanVid, [0, 0x1000, 0x100a, 0x1001][v as usize]),
            5 => x.set_masked(FieldId::VlanVid, 0x1000, 0x1000),
            6 => x.set(FieldId::InPort, v + 1),
            9 => x.set(FieldId::ConjId, v),
            10 => x.set(FieldId::ActsetOutput, v),
            7 => {
                x.set(FieldId::EthType, 0x0800);
                x.set_masked(FieldId::Ipv4Src, v, m);
            }
            8 => {
                x.set(FieldId::EthType, 0x8847);
                x.set(FieldId::MplsLabel, v);
            }
            11 => x.set(FieldId::EthType, 0x8847),
            _ => {
                x.set(FieldId::EthType, 0x0800);
                x.set(FieldId::IpProto, 6);
                x.set_masked(FieldId::TcpDst, v, m);
            }
        }
        x
    })
}

fn flows() -> impl Strategy<Value = Vec<FlowMod>> {
    let one = (
        0u8..4,
        matches(),
        proptest::collection::vec(actions(), 0..5),
        proptest::collection::vec(actions(), 0..3),
        any::<bool>(),
    );
    proptest::collection::vec(one, 1..25).prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(|(i, (table, matching, mut apply, mut write, ttl))| {
                write.retain(is_for_sets);
                if ttl && matching.exact(FieldId::EthType) == Some(0x800) {
                    apply.insert(0, Action::DecTtl(vec![]));
                    apply.push(set(FieldId::Ipv4Dst, 9, 0xff));
                } else if ttl && matching.exact(FieldId::EthType) == Some(0x8847) {
                    apply.insert(0, Action::DecMplsTtl);
                    apply.push(set(FieldId::MplsTc, 5, 7));
                    apply.push([Action::PopMpls(0x0800), Action::CopyTtlIn][i % 2].clone());
                } else if ttl && i % 4 == 0 {
                    apply.push(Action::PushMpls(0x8847));
                    apply.push(set(FieldId::MplsLabel, 2, 3));
                }
                if i % 7 == 0 {
                    apply.push(Action::OutputTrunc {
                        port: PortNo(3),
                        max_len: 64,
                    });
                }
                if i % 4 == 1 && matching.exact(FieldId::ConjId).is_none() {
                    // A clause.
                    let apply = vec![Action::Conjunction {
                        id: (i / 8) as u32 % 2 + 1,
                        clause: (i / 4) as u8 % 2,
                        clauses: 2,
                    }];
                    return FlowMod {
                        table: table % 2,
                        priority: 30,
                        ..FlowMod::add(matching, Instructions::apply(apply))
                    };
                }
                FlowMod {
                    table,
                    priority: i as u16,
                    ..FlowMod::add(
                        matching,
                        Instructions {
                            apply,
                            write,
                            goto_table: (table < 3 && i % 3 == 0).then_some(table + 1),
                            ..Instructions::default()
                        },
                    )
                }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn packets_that_agree_on_the_mask_are_done_the_same_to(flows in flows(), key in keys(), others in proptest::collection::vec(keys(), 40), port in 0u32..4, mirrored in any::<bool>()) {
        let mirrors = if mirrored { mirrors() } else { vec![] };
        let w = mirrored_world(&flows, &mirrors);
        let mut key = key;
        key.set(Slot::InPort, (port + 1).into());
        let t = translate(&w, key, port);
        for other in others {
            // As the caches see it: only bits of the packet count.
            let mut other = other;
            for i in 0..PACKET_WORDS {
                other.0[i] = other.0[i] & !t.mask.0[i] | key.0[i] & t.mask.0[i];
            }
            // No packet has a tag that is not there.
            let absent = |s| other.get64(s) != 0 && other.get64(s) & 0x1000 == 0;
            if absent(Slot::VlanTci) || absent(Slot::InnerVlanTci) {
                continue;
            }
            let o = translate(&w, other, port);
            prop_assert_eq!(&o.actions, &t.actions);
            // By another way of telling apart perhaps, but the same rules.
            prop_assert_eq!(o.drop, t.drop);
            prop_assert_eq!(rules_of(&o), rules_of(&t));
            prop_assert_eq!(lessons_of(&o), lessons_of(&t));
        }
    }
}

#[test]
fn loops_end_and_tell_why() {
    let again = Action::Resubmit {
        in_port: None,
        table: Some(0),
        ct: false,
    };
    let w = world(&[FlowMod::add(
        Match::new(),
        Instructions::apply(vec![again.clone()]),
    )]);
    let t = translate(&w, FlowKey::default(), 0);
    assert_eq!(t.drop, Some(crate::drop::DropReason::TooDeep));
    // Wide and deep: 2^63 resubmits if nothing stopped them.
    let apply = Instructions::apply(vec![again.clone(), again]);
    let w = world(&[FlowMod::add(Match::new(), apply)]);
    let t = translate(&w, FlowKey::default(), 0);
    assert!(t.drop.is_some() && t.actions.is_empty());
    let mut wide = Vec::new();
    for table in 0..3u8 {
        let next = Action::Resubmit {
            in_port: None,
            table: Some(table + 1),
            ct: false,
        };
        wide.push(FlowMod {
            table,
            ..FlowMod::add(Match::new(), Instructions::apply(vec![next; 30]))
        });
    }
    let t = translate(&world(&wide), FlowKey::default(), 0);
    assert_eq!(t.drop, Some(crate::drop::DropReason::TooManyResubmits));
}
