//! All messages but multipart ones.

use super::flows::{actions, flow_mod, matching, removed};
use super::{any_port, bytes, duration, few, mac, multipart, name, port};
use openflow::action::PacketInReason;
use openflow::error::ErrorKind;
use openflow::wire::{OF10, OF11, OF12, OF13, OF14, OF15};
use openflow::*;
use proptest::prelude::*;
use proptest::sample::select;

/// A message of the version.
pub fn message(version: u8) -> BoxedStrategy<Message> {
    let mut all: Vec<BoxedStrategy<Message>> = vec![
        hello(version),
        error(version),
        bytes(20).prop_map(Message::EchoRequest).boxed(),
        bytes(20).prop_map(Message::EchoReply).boxed(),
        select(
            &[
                Message::FeaturesRequest,
                Message::GetConfigRequest,
                Message::BarrierRequest,
                Message::BarrierReply,
                Message::TlvTableRequest,
                Message::FlowAge,
            ][..],
        )
        .boxed(),
        features(version),
        (0u16..3, any::<u16>())
            .prop_map(|(flags, miss_send_len)| {
                Message::SetConfig(SwitchConfig {
                    flags,
                    miss_send_len,
                })
            })
            .boxed(),
        packet_in(version).prop_map(Message::PacketIn).boxed(),
        packet_in2(version).prop_map(Message::PacketIn2).boxed(),
        packet_in2(version).prop_map(Message::Resume).boxed(),
        removed(version).prop_map(Message::FlowRemoved).boxed(),
        (
            select(&[PortReason::Add, PortReason::Delete, PortReason::Modify][..]),
            port_desc(version),
        )
            .prop_map(|(r, p)| Message::PortStatus(r, p))
            .boxed(),
        packet_out(version),
        flow_mod(version).prop_map(Message::FlowMod).boxed(),
        port_mod(version),
        multipart::request(version)
            .prop_map(Message::MultipartRequest)
            .boxed(),
        multipart::reply(version)
            .prop_map(Message::MultipartReply)
            .boxed(),
        any::<bool>().prop_map(Message::FlowModTableId).boxed(),
        (0u32..3).prop_map(Message::SetPacketInFormat).boxed(),
        any::<u16>().prop_map(Message::SetControllerId).boxed(),
        any::<u16>().prop_map(Message::CtFlushZone).boxed(),
        (
            select(
                &[
                    TlvTableCommand::Add,
                    TlvTableCommand::Delete,
                    TlvTableCommand::Clear,
                ][..],
            ),
            few(tlv()),
        )
            .prop_map(|(c, maps)| Message::TlvTableMod(c, maps))
            .boxed(),
        (any::<(u32, u16)>(), few(tlv()))
            .prop_map(|((space, n), maps)| Message::TlvTableReply(space, n, maps))
            .boxed(),
        role(version),
        set_async(version),
    ];
    if version == OF10 {
        all.push(any::<u32>().prop_map(Message::SetFlowFormat).boxed());
    }
    // Groups are Nicira's in 1.0.
    all.push(group_mod(version).prop_map(Message::GroupMod).boxed());
    all.push(
        (any::<u32>(), group_mod(version))
            .prop_map(|(xid, g)| Message::RequestForward(xid, Box::new(Message::GroupMod(g))))
            .boxed(),
    );
    if version < OF14 {
        all.push(any::<u32>().prop_map(Message::FlowMonitorCancel).boxed());
        all.push(select(&[Message::FlowMonitorPaused, Message::FlowMonitorResumed][..]).boxed());
        let queues =
            (port(), few(multipart::queue(version))).prop_map(move |(port, mut queues)| {
                // Only later do queues say whose they are.
                if version < OF12 {
                    queues.iter_mut().for_each(|q| q.port = port);
                }
                Message::QueueGetConfigReply(port, queues)
            });
        all.push(queues.boxed());
        all.push(
            (1u32..0xff00)
                .prop_map(|p| Message::QueueGetConfigRequest(PortNo(p)))
                .boxed(),
        );
    }
    if version >= OF11 {
        let config = multipart::table_config(version);
        all.push(
            config
                .prop_map(|mut c| {
                    c.vacancy_now = 0;
                    Message::TableMod(c)
                })
                .boxed(),
        );
    }
    if version >= OF13 {
        all.push(meter_mod().prop_map(Message::MeterMod).boxed());
        all.push(Just(Message::GetAsyncRequest).boxed());
        all.push(
            async_config(version)
                .prop_map(Message::GetAsyncReply)
                .boxed(),
        );
        all.push(bundle(version));
        let reasons = &[
            RoleReason::MasterRequest,
            RoleReason::Config,
            RoleReason::Experimenter,
        ][..];
        all.push(
            (select(reasons), any::<u64>())
                .prop_map(|(reason, generation)| {
                    let role = RoleMsg {
                        role: Role::Secondary,
                        generation,
                        short_id: 0,
                    };
                    Message::RoleStatus(reason, role)
                })
                .boxed(),
        );
    }
    if version >= OF14 {
        let reasons = &[TableReason::VacancyDown, TableReason::VacancyUp][..];
        all.push(
            (select(reasons), multipart::table_config(version))
                .prop_map(|(r, c)| Message::TableStatus(r, c))
                .boxed(),
        );
    }
    if version >= OF15 {
        all.push(
            multipart::controller_status()
                .prop_map(Message::ControllerStatus)
                .boxed(),
        );
    }
    proptest::strategy::Union::new(all).boxed()
}

fn hello(version: u8) -> BoxedStrategy<Message> {
    proptest::option::of(any::<u32>())
        .prop_map(move |versions| Message::Hello(Hello { version, versions }))
        .boxed()
}

/// Errors that the version has numbers of its own for.
fn error(version: u8) -> BoxedStrategy<Message> {
    let own = |k: &&ErrorKind| {
        k.numbers(version)
            .is_some_and(|n| ErrorKind::from_numbers(version, n) == **k)
    };
    let kinds: Vec<ErrorKind> = ErrorKind::ALL.iter().filter(own).copied().collect();
    (select(kinds), bytes(64))
        .prop_map(|(kind, data)| Message::Error(ErrorMsg { kind, data }))
        .boxed()
}

fn features(version: u8) -> BoxedStrategy<Message> {
    (
        any::<(u64, u32, u8, u8, u32, u32)>(),
        few(port_desc(version)),
    )
        .prop_map(move |(n, ports)| {
            Message::FeaturesReply(Features {
                datapath_id: n.0,
                buffers: n.1,
                tables: n.2,
                auxiliary_id: if version >= OF13 { n.3 } else { 0 },
                capabilities: n.4,
                actions: if version == OF10 { n.5 } else { 0 },
                ports: if version < OF13 { ports } else { Vec::new() },
            })
        })
        .boxed()
}

pub fn port_desc(version: u8) -> BoxedStrategy<PortDesc> {
    let optical = any::<([u32; 7], u16, u16)>().prop_map(|(n, power_min, power_max)| {
        PortProperty::Optical(OpticalPort {
            supported: n[0],
            tx_min: n[1],
            tx_max: n[2],
            tx_grid: n[3],
            rx_min: n[4],
            rx_max: n[5],
            rx_grid: n[6],
            power_min,
            power_max,
        })
    });
    let more = match version {
        ..OF14 => few(optical).prop_map(|_| Vec::new()).boxed(),
        OF14 => few(optical).boxed(),
        _ => few(prop_oneof![
            optical,
            Just(PortProperty::PipelineInput(vec![
                FieldId::TunId,
                FieldId::Metadata
            ])),
            Just(PortProperty::PipelineOutput(vec![FieldId::TunId])),
            few((1u32..99).prop_map(PortNo)).prop_map(PortProperty::Recirculate),
        ])
        .boxed(),
    };
    (
        (port(), mac(), name(16), port_flags()),
        any::<[bool; 2]>(),
        any::<[u16; 4]>(),
        any::<[u32; 2]>(),
        more,
    )
        .prop_map(
            move |((port, mac, name, config), state, links, speeds, properties)| {
                // 1.0 has fewer kinds of links, and tells speeds by them.
                let old = version == OF10;
                let link = |n: u16| {
                    let n = u32::from(n);
                    if old { n & 0xf07f } else { n }
                };
                let mut p = PortDesc {
                    port,
                    mac,
                    name,
                    config,
                    link_down: state[0],
                    live: state[1] && !old,
                    current: link(links[0]),
                    advertised: link(links[1]),
                    supported: link(links[2]),
                    peer: link(links[3]),
                    current_speed: speeds[0],
                    max_speed: speeds[1],
                    properties,
                };
                if old {
                    (p.current, p.supported) = (0, 0);
                    (p.current_speed, p.max_speed) = (0, 0);
                }
                p
            },
        )
        .boxed()
}

fn port_flags() -> impl Strategy<Value = PortFlags> {
    any::<[bool; 7]>().prop_map(|b| PortFlags {
        port_down: b[0],
        no_recv: b[1],
        no_fwd: b[2],
        no_packet_in: b[3],
        no_flood: b[4],
        no_stp: b[5],
        no_recv_stp: b[6],
    })
}

fn port_mod(version: u8) -> BoxedStrategy<Message> {
    let optical = any::<(u32, u32, i32, u32, u32)>().prop_map(|n| OpticalMod {
        configure: n.0,
        frequency: n.1,
        offset: n.2,
        grid: n.3,
        power: n.4,
    });
    (
        (port(), mac(), port_flags(), port_flags()),
        any::<u16>(),
        proptest::option::of(optical),
    )
        .prop_map(move |((port, mac, config, mask), advertise, optical)| {
            Message::PortMod(PortMod {
                port,
                mac,
                config,
                mask,
                advertise: u32::from(advertise) & if version == OF10 { 0xf07f } else { 0xffff },
                optical: optical.filter(|_| version >= OF14),
            })
        })
        .boxed()
}

fn reason(version: u8) -> BoxedStrategy<PacketInReason> {
    use PacketInReason::*;
    let old = &[NoMatch, Action, InvalidTtl][..];
    let all = &[NoMatch, Action, InvalidTtl, ActionSet, Group, PacketOut][..];
    select(if version < OF14 { old } else { all }).boxed()
}

fn packet_in(version: u8) -> BoxedStrategy<PacketIn> {
    (
        proptest::option::of(0..u32::MAX),
        any::<(u16, u8, u64)>(),
        reason(version),
        (1u32..0xff00, any::<u64>()),
        bytes(70),
    )
        .prop_map(
            move |(buffer, (total_len, table, cookie), reason, (in_port, tun), data)| {
                let mut metadata = Match::new().with(FieldId::InPort, in_port.into());
                if version >= OF12 {
                    metadata.set(FieldId::TunId, tun.into());
                }
                PacketIn {
                    buffer,
                    total_len,
                    reason,
                    table: if version == OF10 { 0 } else { table },
                    cookie: if version >= OF13 { cookie } else { u64::MAX },
                    metadata,
                    data,
                    ..PacketIn::default()
                }
            },
        )
        .boxed()
}

fn packet_in2(version: u8) -> BoxedStrategy<PacketIn> {
    (
        packet_in(version),
        any::<(u8, u64)>(),
        bytes(20),
        proptest::option::of(bytes(40)),
        any::<u8>(),
    )
        .prop_map(|(p, (table, cookie), userdata, continuation, more)| {
            // Open vSwitch takes none for not there.
            let data = if p.data.is_empty() {
                vec![1].into()
            } else {
                p.data
            };
            PacketIn {
                table,
                cookie,
                total_len: data.len() as u16 + u16::from(more),
                userdata,
                continuation,
                data,
                ..p
            }
        })
        .boxed()
}

fn packet_out(version: u8) -> BoxedStrategy<Message> {
    (
        proptest::option::of(0..u32::MAX),
        port(),
        any::<u64>(),
        actions(version),
        bytes(70),
    )
        .prop_map(move |(buffer, in_port, metadata, actions, data)| {
            let mut fields = Match::new();
            if version >= OF15 {
                fields.set(FieldId::Metadata, metadata.into());
            }
            Message::PacketOut(PacketOut {
                buffer,
                in_port,
                fields,
                actions,
                data,
            })
        })
        .boxed()
}

pub fn buckets(version: u8, kind: GroupType) -> BoxedStrategy<Vec<Bucket>> {
    let bucket = (
        any::<u16>(),
        any_port(),
        proptest::option::of(0..0xffff_ff00u32),
        0..0xffff_ff00u32,
        actions(version),
    )
        .prop_map(|(weight, watch_port, watch_group, id, actions)| Bucket {
            weight,
            watch_port,
            watch_group,
            id,
            actions,
        });
    few(bucket)
        .prop_map(move |mut buckets| {
            for (i, b) in buckets.iter_mut().enumerate() {
                if (OF11..OF15).contains(&version) {
                    b.id = i as u32;
                }
                if kind != GroupType::Select {
                    b.weight = 0;
                }
                if matches!(kind, GroupType::All | GroupType::Indirect) {
                    (b.watch_port, b.watch_group) = (PortNo::ANY, None);
                }
            }
            buckets
        })
        .boxed()
}

pub fn group_kind() -> impl Strategy<Value = GroupType> {
    select(
        &[
            GroupType::All,
            GroupType::Select,
            GroupType::Indirect,
            GroupType::FastFailover,
        ][..],
    )
}

pub fn selection(version: u8, kind: GroupType) -> BoxedStrategy<Selection> {
    if (OF11..OF15).contains(&version) || kind != GroupType::Select {
        return Just(Selection::default()).boxed();
    }
    (any::<u64>(), any::<u32>())
        .prop_map(|(param, mask)| Selection {
            method: "hash".into(),
            param,
            fields: vec![
                (FieldId::Ipv4Src, mask.into()),
                (FieldId::TcpDst, 0xffff),
                (FieldId::EthDst, 0xffff_ffff_ffff),
            ],
        })
        .boxed()
}

fn group_mod(version: u8) -> BoxedStrategy<GroupMod> {
    use GroupModCommand::*;
    let old = &[Add, Modify, AddOrModify, Delete][..];
    let all = &[Add, Modify, AddOrModify, Delete, InsertBucket, RemoveBucket][..];
    let commands = if (OF11..OF15).contains(&version) {
        old
    } else {
        all
    };
    let position = prop_oneof![
        Just(BucketPosition::First),
        Just(BucketPosition::Last),
        (0..0xffff_ff00u32).prop_map(BucketPosition::Id)
    ];
    (select(commands), group_kind(), 0..0xffff_ff00u32, position)
        .prop_flat_map(move |(command, kind, group, position)| {
            (buckets(version, kind), selection(version, kind)).prop_map(
                move |(buckets, selection)| {
                    let removes = command == RemoveBucket;
                    GroupMod {
                        command,
                        kind,
                        group,
                        buckets: if removes { Vec::new() } else { buckets },
                        position: match command {
                            InsertBucket | RemoveBucket => position,
                            _ => BucketPosition::default(),
                        },
                        selection: if removes {
                            Selection::default()
                        } else {
                            selection
                        },
                    }
                },
            )
        })
        .boxed()
}

pub fn meter_config() -> impl Strategy<Value = MeterConfig> {
    let band = (any::<(u32, u32)>(), proptest::option::of(any::<u8>())).prop_map(
        |((rate, burst), level)| MeterBand {
            kind: level.map_or(MeterBandKind::Drop, MeterBandKind::DscpRemark),
            rate,
            burst,
        },
    );
    (
        1..0xffff_0000u32,
        select(&[1u16, 2, 5, 6, 9, 14][..]),
        few(band),
    )
        .prop_map(|(meter, flags, bands)| MeterConfig {
            meter,
            flags,
            bands,
        })
}

fn meter_mod() -> impl Strategy<Value = MeterMod> {
    let commands = &[
        MeterModCommand::Add,
        MeterModCommand::Modify,
        MeterModCommand::Delete,
    ][..];
    (select(commands), meter_config()).prop_map(|(command, config)| MeterMod { command, config })
}

fn role(version: u8) -> BoxedStrategy<Message> {
    let roles = &[Role::NoChange, Role::Equal, Role::Primary, Role::Secondary];
    let roles = if version < OF12 { &roles[1..] } else { roles };
    (
        select(roles.to_vec()),
        any::<u64>(),
        any::<u16>(),
        any::<bool>(),
    )
        .prop_map(move |(role, generation, short_id, reply)| {
            let m = RoleMsg {
                role,
                generation: if version < OF12 { u64::MAX } else { generation },
                short_id: if version >= OF15 { short_id } else { 0 },
            };
            if reply {
                Message::RoleReply(m)
            } else {
                Message::RoleRequest(m)
            }
        })
        .boxed()
}

fn async_config(version: u8) -> BoxedStrategy<AsyncConfig> {
    any::<[[u32; 2]; 8]>()
        .prop_map(move |m| {
            let mut c = AsyncConfig::default();
            let kinds = match version {
                ..OF14 => 3,
                OF14 => 6,
                _ => 8,
            };
            // Bits of reasons that there are.
            let reasons = [7, 7, 0xf, 7, 0x18, 3, 3, 0x7f];
            for ((to, mask), known) in c.all_mut().into_iter().zip(m).zip(reasons).take(kinds) {
                *to = mask.map(|m| m & known);
            }
            c
        })
        .boxed()
}

fn set_async(version: u8) -> BoxedStrategy<Message> {
    // Masks that are not given are zero, and only some are given.
    (async_config(OF15), any::<u16>(), any::<bool>())
        .prop_map(move |(c, given, old)| {
            let all = if version >= OF15 { 0xffff } else { 0x0fff };
            let given = match version < OF14 && old {
                true => 0x3f,
                // So that the first form cannot say it.
                false => given & all & !1,
            };
            let mut masks = AsyncConfig::default();
            let change = AsyncChange { masks: c, given };
            change.apply(&mut masks);
            Message::SetAsync(AsyncChange { masks, given })
        })
        .boxed()
}

fn bundle(version: u8) -> BoxedStrategy<Message> {
    use BundleStep::*;
    let steps = &[
        OpenRequest,
        OpenReply,
        CloseRequest,
        CloseReply,
        CommitRequest,
        CommitReply,
        DiscardRequest,
        DiscardReply,
    ][..];
    let id = any::<(u32, bool, bool)>().prop_map(|(id, atomic, ordered)| BundleId {
        id,
        atomic,
        ordered,
    });
    let inner = prop_oneof![
        flow_mod(version).prop_map(Message::FlowMod),
        group_mod(version).prop_map(Message::GroupMod),
        port_mod(version)
    ];
    prop_oneof![
        (select(steps), id.clone()).prop_map(|(s, id)| Message::BundleControl(s, id)),
        (id, any::<u32>(), inner).prop_map(|(id, xid, m)| Message::BundleAdd(id, xid, Box::new(m)))
    ]
    .boxed()
}

fn tlv() -> impl Strategy<Value = TlvMap> {
    (any::<(u16, u8)>(), 1u8..31, 0u16..64).prop_map(|((class, kind), len, index)| TlvMap {
        class,
        kind,
        len: len * 4,
        index,
    })
}

/// What is not told in Nicira's packet-ins is left out of the match as well.
pub fn nicira(version: u8) -> BoxedStrategy<Message> {
    let packet = packet_in(version).prop_map(|p| Message::Nicira(Box::new(Message::PacketIn(p))));
    if version > OF10 {
        return packet.boxed();
    }
    let flow = (flow_mod(OF10), matching(OF12)).prop_map(|(f, matching)| {
        let mut matching = matching;
        // 1.0 has no metadata; Nicira has no field for it.
        matching.set_masked(FieldId::Metadata, 0, 0);
        Message::Nicira(Box::new(Message::FlowMod(FlowMod { matching, ..f })))
    });
    let removed = (removed(OF10), duration(), 0u8..255).prop_map(|(mut m, duration, table)| {
        m.flow.duration = duration;
        m.flow.table = table;
        Message::Nicira(Box::new(Message::FlowRemoved(m)))
    });
    prop_oneof![packet, flow, removed].boxed()
}
