//! Every action through bytes of every version that has it, and through text.

use bytes::Bytes;
use openflow::action::*;
use openflow::text::{Names, format_actions, parse_actions};
use openflow::wire::{OF10, OF11, OF12, OF13, OF15, SUPPORTED, decode, encode};
use openflow::{Action, FieldId, Match, Message, PacketOut, PortNo, Subfield};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn port() -> impl Strategy<Value = PortNo> {
    prop_oneof![
        (1u32..0xff00).prop_map(PortNo),
        Just(PortNo::LOCAL),
        Just(PortNo::IN_PORT)
    ]
}

/// Bits of fields of all widths, with Nicira's names and with the standard's.
fn bits(most: u8) -> impl Strategy<Value = Subfield> {
    use FieldId::*;
    let fields = [
        Reg0,
        Reg15,
        Xreg3,
        Xxreg2,
        Metadata,
        EthSrc,
        EthDst,
        TunId,
        PktMark,
        VlanTci,
        TunMetadata5,
    ];
    (proptest::sample::select(fields.to_vec()), any::<(u8, u8)>()).prop_map(
        move |(field, (a, b))| {
            let width = (field.info().bits as u8).min(most);
            let offset = a % width;
            Subfield {
                field,
                offset,
                bits: 1 + b % (width - offset),
            }
        },
    )
}

/// One bit of a field.
fn bit() -> impl Strategy<Value = Subfield> {
    bits(128).prop_map(|s| Subfield { bits: 1, ..s })
}

fn ones(s: Subfield) -> u128 {
    u128::MAX >> (128 - u32::from(s.bits))
}

fn set_field() -> impl Strategy<Value = Action> {
    use FieldId::*;
    let fields = [
        Reg3,
        Xreg1,
        Xxreg0,
        Metadata,
        EthSrc,
        Ipv4Src,
        Ipv6Dst,
        TunId,
        TunDst,
        PktMark,
        TcpDst,
        IpDscp,
        IpEcn,
        NwTtl,
        MplsLabel,
        MplsTtl,
        ArpSpa,
        NdTarget,
        NshC2,
        TunErspanIdx,
    ];
    let field = proptest::sample::select(fields.to_vec());
    (field, any::<u128>(), any::<u128>(), any::<bool>()).prop_map(|(field, value, mask, whole)| {
        let info = field.info();
        let masked = info.mask == openflow::field::MaskRule::Any && !whole;
        let mask = match mask & info.full_mask() {
            0 => info.full_mask(),
            m if masked => m,
            _ => info.full_mask(),
        };
        let value = value & mask;
        Action::SetField { field, value, mask }
    })
}

fn learn() -> impl Strategy<Value = Action> {
    let pair = (bits(64), any::<u128>()).prop_flat_map(|(target, value)| {
        let value = value & ones(target);
        let bits = target.bits;
        let constant = LearnSource::Value { value, bits };
        let source = Subfield {
            field: FieldId::Xxreg1,
            offset: 3,
            bits,
        };
        let one = |source, target| LearnSpec { source, target };
        proptest::sample::select(vec![
            one(constant, LearnTarget::Match(target)),
            one(constant, LearnTarget::Load(target)),
            one(LearnSource::Field(source), LearnTarget::Match(target)),
            one(LearnSource::Field(target), LearnTarget::Match(target)),
            one(LearnSource::Field(source), LearnTarget::Load(target)),
            one(LearnSource::Field(source), LearnTarget::Output),
        ])
    });
    (
        any::<[u16; 5]>(),
        any::<(u64, bool, bool, u32)>(),
        0u8..255,
        proptest::option::of(bit()),
        proptest::collection::vec(pair, 0..4),
    )
        .prop_map(|(n, (cookie, rem, delete, limit), table, result, specs)| {
            Action::Learn(Box::new(Learn {
                idle_timeout: n[0],
                hard_timeout: n[1],
                priority: n[2],
                cookie,
                send_flow_rem: rem,
                delete_learned: delete,
                table,
                fin_idle_timeout: n[3],
                fin_hard_timeout: n[4],
                limit: limit & 0x7fff_ffff,
                result,
                specs,
            }))
        })
}

fn spread() -> impl Strategy<Value = Action> {
    let hash = proptest::sample::select(vec![
        HashFields::EthSrc,
        HashFields::SymmetricL4,
        HashFields::SymmetricL3L4,
        HashFields::SymmetricL3L4Udp,
        HashFields::NwSrc,
        HashFields::NwDst,
        HashFields::SymmetricL3,
    ]);
    let algorithm = proptest::sample::select(vec![
        MultipathAlgorithm::ModuloN,
        MultipathAlgorithm::HashThreshold,
        MultipathAlgorithm::Hrw,
        MultipathAlgorithm::IterHash,
    ]);
    let wide = Subfield {
        field: FieldId::Reg4,
        offset: 8,
        bits: 16,
    };
    let one = (hash.clone(), algorithm, any::<[u16; 2]>(), bits(64)).prop_map(
        |(fields, algorithm, [basis, link], target)| {
            let max_link = u128::from(link).min(ones(target)) as u16;
            let arg = link.into();
            Action::Multipath(Box::new(Multipath {
                fields,
                basis,
                algorithm,
                max_link,
                arg,
                target,
            }))
        },
    );
    let ports = proptest::collection::vec(port(), 0..5);
    let other = (hash, any::<(u16, bool, bool)>(), ports).prop_map(
        move |(fields, (basis, active_backup, load), ports)| {
            Action::Bundle(Box::new(Spread {
                fields,
                basis,
                active_backup,
                ports,
                target: load.then_some(wide),
            }))
        },
    );
    prop_oneof![one, other]
}

fn nat() -> impl Strategy<Value = Nat> {
    let address = |n: u32, six: bool| match six {
        true => IpAddr::V6(Ipv6Addr::from(0xfe80 << 112 | u128::from(n))),
        false => IpAddr::V4(Ipv4Addr::from(n)),
    };
    let range = (1u32..1000, 0u32..1000, 1u16..100, 0u16..100);
    (any::<[bool; 5]>(), any::<(bool, bool)>(), range).prop_map(
        move |([src, persistent, hash, six, ranged], (last, ports), (a, more, p, q))| {
            let first = address(a, six);
            let end = address(a + more + 1, six);
            Nat {
                src,
                dst: !src,
                persistent: ranged && persistent,
                hash: ranged && hash,
                random: ranged && !hash && persistent,
                addresses: ranged.then_some((first, last.then_some(end))),
                ports: (ranged && ports).then_some((p, last.then_some(p + q + 1))),
            }
        },
    )
}

fn ct() -> impl Strategy<Value = Action> {
    let zone = prop_oneof![
        any::<u16>().prop_map(ConntrackZone::Number),
        Just(ConntrackZone::Field(Subfield {
            field: FieldId::Reg9,
            offset: 16,
            bits: 16,
        })),
    ];
    let alg = proptest::sample::select(vec![0u16, 21, 69]);
    let table = proptest::option::of(0u8..255);
    (any::<[bool; 3]>(), zone, alg, table, nat(), any::<u32>()).prop_map(
        |([commit, force, with], zone, alg, table, nat, mark)| {
            let mut actions = Vec::new();
            if commit && with {
                actions.push(Action::Nat(Box::new(nat)));
                actions.push(Action::SetField {
                    field: FieldId::CtMark,
                    value: mark.into(),
                    mask: u32::MAX.into(),
                });
            }
            Action::Ct(Box::new(Conntrack {
                commit,
                force: commit && force,
                zone,
                table,
                alg,
                actions,
            }))
        },
    )
}

fn encap() -> impl Strategy<Value = Action> {
    (
        1u8..3,
        any::<(u16, u8)>(),
        proptest::collection::vec(any::<u8>(), 1..40),
    )
        .prop_map(|(md, (class, kind), data)| {
            let mut tlv = [&class.to_be_bytes()[..], &[kind, data.len() as u8], &data].concat();
            tlv.resize(4 + data.len().next_multiple_of(8), 0);
            let properties = vec![
                (4, 1, Bytes::copy_from_slice(&[md])),
                (4, 2, Bytes::from(tlv)),
            ];
            Action::Encap(Box::new(Encap {
                packet_type: 0x1_894f,
                header_size: 0,
                properties,
            }))
        })
}

/// Every action of the model that `version` has a form of (and of those that all have, every one).
fn action(version: u8) -> BoxedStrategy<Action> {
    let plain = |a: Action| Just(a).boxed();
    let mut all: Vec<BoxedStrategy<Action>> = vec![
        port()
            .prop_map(|port| Action::Output { port, max_len: 0 })
            .boxed(),
        any::<u16>()
            .prop_map(|max_len| Action::Output {
                port: PortNo::CONTROLLER,
                max_len,
            })
            .boxed(),
        bits(64)
            .prop_map(|source| Action::OutputReg {
                source,
                max_len: u16::MAX,
            })
            .boxed(),
        (
            any::<(u16, u32, bool)>(),
            proptest::option::of(0u32..9),
            1u16..9,
        )
            .prop_map(|((max_len, data, pause), meter, id)| Action::Controller {
                max_len,
                reason: PacketInReason::InvalidTtl,
                id,
                userdata: Bytes::copy_from_slice(&data.to_be_bytes()[..(data % 5) as usize]),
                pause,
                meter,
            })
            .boxed(),
        (port(), 14u32..)
            .prop_map(|(port, max_len)| Action::OutputTrunc { port, max_len })
            .boxed(),
        any::<u32>().prop_map(Action::SetQueue).boxed(),
        any::<u32>().prop_map(Action::Group).boxed(),
        set_field().boxed(),
        (bits(64), any::<u64>())
            .prop_filter(
                "a load is of fields whose names have four bytes",
                |(t, _)| !t.field.info().is_option(),
            )
            .prop_map(|(target, n)| Action::Load {
                target,
                value: n & ones(target) as u64,
            })
            .boxed(),
        (bits(128), any::<u8>())
            .prop_map(|(target, _)| Action::Move {
                source: Subfield {
                    field: FieldId::Xxreg3,
                    offset: 0,
                    bits: target.bits,
                },
                target,
            })
            .boxed(),
        plain(Action::PopQueue),
        plain(Action::PopVlan),
        plain(Action::DecMplsTtl),
        plain(Action::Exit),
        plain(Action::CtClear),
        any::<bool>()
            .prop_map(|m| Action::PushMpls(if m { 0x8848 } else { 0x8847 }))
            .boxed(),
        any::<u16>().prop_map(Action::PopMpls).boxed(),
        any::<(u32, bool)>()
            .prop_map(|(id, wide)| Action::SetTunnel {
                id: u64::from(id) << if wide { 20 } else { 0 },
                wide,
            })
            .boxed(),
        proptest::collection::vec(any::<u16>(), 0..4)
            .prop_map(Action::DecTtl)
            .boxed(),
        (proptest::option::of(1u32..0xff00), 0u8..255, any::<bool>())
            .prop_map(|(p, table, ct)| Action::Resubmit {
                in_port: p.map(PortNo),
                table: Some(table),
                ct,
            })
            .boxed(),
        proptest::collection::vec(any::<u8>(), 0..3)
            .prop_map(|n| {
                let mut bytes = n.clone();
                bytes.resize(6 + 8 * n.len(), 0);
                Action::Note(bytes.into())
            })
            .boxed(),
        learn().boxed(),
        spread().boxed(),
        bits(128).prop_map(Action::Push).boxed(),
        bits(128).prop_map(Action::Pop).boxed(),
        any::<(u16, u16)>()
            .prop_map(|(idle, hard)| Action::FinTimeout { idle, hard })
            .boxed(),
        (
            1u16..,
            any::<[u32; 3]>(),
            proptest::option::of(port()),
            0u8..3,
        )
            .prop_map(|(probability, n, sampling_port, d)| {
                Action::Sample(Sample {
                    probability,
                    collector_set: n[0],
                    obs_domain: n[1],
                    obs_point: n[2],
                    sampling_port,
                    direction: [
                        SampleDirection::Default,
                        SampleDirection::Ingress,
                        SampleDirection::Egress,
                    ][usize::from(d)],
                })
            })
            .boxed(),
        ct().boxed(),
        (any::<u16>(), bit())
            .prop_map(|(len, target)| Action::CheckPktLarger { len, target })
            .boxed(),
        plain(Action::DeleteField(FieldId::TunMetadata9)),
        any::<(u16, u8)>()
            .prop_map(|(v, p)| match p % 2 {
                0 => Action::SetVlanVid(v & 0xfff),
                _ => Action::SetVlanPcp(p & 7),
            })
            .boxed(),
        (port(), any::<u32>())
            .prop_map(|(port, queue)| Action::Enqueue { port, queue })
            .boxed(),
    ];
    if version >= OF11 {
        all.push(plain(Action::CopyTtlOut));
        all.push(plain(Action::CopyTtlIn));
        all.push(plain(Action::PushVlan(0x88a8)));
    }
    if version >= OF13 {
        all.push(plain(Action::PushPbb(0x88e7)));
        all.push(plain(Action::PopPbb));
        all.push(plain(Action::DecNshTtl));
        all.push(encap().boxed());
        all.push(
            proptest::option::of(0x1_0000u32..0x2_0000)
                .prop_map(Action::Decap)
                .boxed(),
        );
    }
    if version >= OF15 {
        all.push((1u32..0xffff_0000).prop_map(Action::Meter).boxed());
    }
    proptest::strategy::Union::new(all).boxed()
}

fn nested(version: u8) -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        4 => action(version),
        1 => proptest::collection::vec(action(version), 0..3).prop_map(|mut inside| {
            inside.retain(|a| !matches!(a, Action::Meter(_)));
            Action::Clone(inside)
        }),
    ];
    proptest::collection::vec(one, 1..4)
}

/// Whether a version says the action in another way: as loads or as set_fields, or in several steps.
fn turned(a: &Action, version: u8) -> bool {
    match a {
        Action::SetField { field, mask, .. } => {
            let info = field.info();
            version < OF12 || version < OF15 && *mask != info.full_mask()
        }
        Action::Load { .. } => version >= OF15,
        Action::SetTunnel { .. } => version >= OF12,
        Action::SetVlanVid(_) | Action::SetVlanPcp(_) | Action::Enqueue { .. } => version > OF10,
        Action::Clone(inside) => inside.iter().any(|a| turned(a, version)),
        Action::Ct(c) => c.actions.iter().any(|a| turned(a, version)),
        _ => false,
    }
}

fn sent(actions: Vec<Action>) -> Message {
    Message::PacketOut(PacketOut {
        buffer: None,
        in_port: PortNo::LOCAL,
        actions,
        data: Bytes::new(),
        ..PacketOut::default()
    })
}

proptest! {
    #[test]
    fn actions_survive_every_version(
        (version, actions) in proptest::sample::select(SUPPORTED).prop_flat_map(|v| (Just(v), nested(v)))
    ) {
        let bytes = encode(version, 1, &sent(actions.clone())).unwrap();
        let got = decode(&bytes).unwrap().message;
        let Message::PacketOut(out) = &got else { panic!("{got:?}") };
        if !actions.iter().any(|a| turned(a, version)) {
            prop_assert_eq!(&out.actions, &actions);
        }
        // Whatever became of it stays.
        prop_assert_eq!(encode(version, 1, &got).unwrap(), bytes);
    }

    #[test]
    fn actions_survive_text(actions in nested(OF13)) {
        let names = Names::default();
        let text = format_actions(&actions, &names);
        let again = parse_actions(&text, &Match::new(), &names);
        prop_assert_eq!(again.map_err(|e| format!("{text}: {e}")), Ok(actions));
    }
}
