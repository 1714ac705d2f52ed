//! Multipart requests and answers.

use super::flows::{filter, flow_stats, matching, monitored};
use super::messages::{buckets, group_kind, meter_config, port_desc, selection};
use super::{any_port, duration, few, name, port};
use openflow::wire::{OF10, OF11, OF12, OF13, OF14, OF15};
use openflow::*;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use std::time::Duration;

/// A duration that a version has no room for.
const UNKNOWN: Duration = Duration::from_secs(u32::MAX as u64);

pub fn request(version: u8) -> BoxedStrategy<MultipartRequest> {
    use MultipartRequest as Q;
    let queue = || (any_port(), proptest::option::of(0..u32::MAX));
    let mut all: Vec<BoxedStrategy<Q>> = vec![
        select(&[Q::Desc, Q::Table, Q::IpfixBridge, Q::IpfixFlow][..]).boxed(),
        filter(version).prop_map(Q::Flow).boxed(),
        filter(version).prop_map(Q::Aggregate).boxed(),
        any_port().prop_map(Q::PortStats).boxed(),
        queue()
            .prop_map(|(port, queue)| Q::Queue { port, queue })
            .boxed(),
        any::<u32>().prop_map(Q::Group).boxed(),
        any::<u32>()
            .prop_map(move |n| {
                let narrow = version == OF10 || version >= OF15;
                Q::GroupDesc(if narrow { n } else { GROUP_ALL })
            })
            .boxed(),
        Just(Q::GroupFeatures).boxed(),
        any_port()
            .prop_map(move |p| Q::PortDesc(if version >= OF15 { p } else { PortNo::ANY }))
            .boxed(),
        few(monitor(version)).prop_map(Q::FlowMonitor).boxed(),
    ];
    if version >= OF13 {
        all.push(any::<u32>().prop_map(Q::Meter).boxed());
        all.push(any::<u32>().prop_map(Q::MeterConfig).boxed());
        all.push(Just(Q::MeterFeatures).boxed());
        all.push(
            few(table_features(version))
                .prop_map(Q::TableFeatures)
                .boxed(),
        );
    }
    if version >= OF14 {
        all.push(Just(Q::TableDesc).boxed());
        let queues = queue().prop_map(|(port, queue)| Q::QueueDesc { port, queue });
        all.push(queues.boxed());
    }
    if version >= OF15 {
        all.push(filter(version).prop_map(Q::FlowStats).boxed());
        all.push(select(&[Q::ControllerStatus, Q::BundleFeatures][..]).boxed());
    }
    Union::new(all).boxed()
}

fn monitor(version: u8) -> BoxedStrategy<FlowMonitorRequest> {
    let form = if version < OF13 { OF12 } else { version };
    let commands = &[
        FlowMonitorCommand::Add,
        FlowMonitorCommand::Modify,
        FlowMonitorCommand::Delete,
    ][..];
    (
        any::<(u32, u8)>(),
        select(commands),
        0u16..0x80,
        any_port(),
        proptest::option::of(0..u32::MAX),
        matching(form),
    )
        .prop_map(
            move |((id, table), command, flags, out_port, group, matching)| {
                let old = version < OF14;
                FlowMonitorRequest {
                    id,
                    command: if old {
                        FlowMonitorCommand::Add
                    } else {
                        command
                    },
                    flags: flags & if old { 0x3f } else { 0x7f },
                    table,
                    out_port,
                    out_group: group.filter(|_| !old),
                    matching: without_metadata(matching, version),
                }
            },
        )
        .boxed()
}

/// Nicira has no field for metadata, and 1.0's form of matches no other.
fn without_metadata(mut m: Match, version: u8) -> Match {
    if version < OF13 {
        m.set_masked(FieldId::Metadata, 0, 0);
    }
    m
}

pub fn reply(version: u8) -> BoxedStrategy<MultipartReply> {
    use MultipartReply as A;
    let mut all: Vec<BoxedStrategy<A>> = vec![
        (name(256), name(32))
            .prop_map(|(long, serial)| {
                A::Desc(SwitchDesc {
                    manufacturer: long.clone(),
                    hardware: long.clone(),
                    software: "1".into(),
                    serial,
                    datapath: long,
                })
            })
            .boxed(),
        few(flow_stats(version)).prop_map(A::Flow).boxed(),
        (0..u64::MAX, 0..u64::MAX, any::<u32>())
            .prop_map(|(packets, bytes, flows)| {
                A::Aggregate(AggregateStats {
                    packets,
                    bytes,
                    flows,
                })
            })
            .boxed(),
        few(table_stats(version)).prop_map(A::Table).boxed(),
        few(port_stats(version)).prop_map(A::PortStats).boxed(),
        few(queue_stats(version)).prop_map(A::Queue).boxed(),
        few(port_desc(version)).prop_map(A::PortDesc).boxed(),
        few(group_stats(version)).prop_map(A::Group).boxed(),
        few(group_desc(version)).prop_map(A::GroupDesc).boxed(),
        any::<(u32, u32, [u32; 4], [u32; 4])>()
            .prop_map(|(types, capabilities, max_groups, actions)| {
                A::GroupFeatures(GroupFeatures {
                    types,
                    capabilities,
                    max_groups,
                    actions,
                })
            })
            .boxed(),
        ipfix().prop_map(A::IpfixBridge).boxed(),
        few(ipfix()).prop_map(A::IpfixFlow).boxed(),
        few(update(version)).prop_map(A::FlowMonitor).boxed(),
    ];
    if version >= OF13 {
        all.push(few(meter_stats()).prop_map(A::Meter).boxed());
        all.push(few(meter_config()).prop_map(A::MeterConfig).boxed());
        let features = any::<(u32, u32, u32, u8, u8, u32)>().prop_map(move |n| {
            A::MeterFeatures(MeterFeatures {
                max_meters: n.0,
                band_types: n.1,
                capabilities: n.2,
                max_bands: n.3,
                max_color: n.4,
                features: if version >= OF15 { n.5 } else { 0 },
            })
        });
        all.push(features.boxed());
        all.push(
            few(table_features(version))
                .prop_map(A::TableFeatures)
                .boxed(),
        );
    }
    if version >= OF14 {
        all.push(few(table_config(version)).prop_map(A::TableDesc).boxed());
        all.push(few(queue(version)).prop_map(A::QueueDesc).boxed());
    }
    if version >= OF15 {
        let reasons = &[FlowStatsReason::Request, FlowStatsReason::Trigger][..];
        let counted = (select(reasons), flow_stats(version)).prop_map(|(reason, f)| {
            let f = FlowStats {
                idle_timeout: 0,
                hard_timeout: 0,
                importance: 0,
                cookie: 0,
                flags: FlowFlags::default(),
                instructions: Instructions::default(),
                ..f
            };
            (reason, f)
        });
        all.push(few(counted).prop_map(A::FlowStats).boxed());
        all.push(
            few(controller_status())
                .prop_map(A::ControllerStatus)
                .boxed(),
        );
        let features = any::<u16>()
            .prop_map(|capabilities| A::BundleFeatures(BundleFeatures { capabilities }));
        all.push(features.boxed());
    }
    Union::new(all).boxed()
}

fn table_stats(version: u8) -> BoxedStrategy<TableStats> {
    (
        any::<(u8, u32, u64, u64)>(),
        name(32),
        any::<([u32; 6], [u64; 6])>(),
    )
        .prop_map(
            move |((table, active, lookups, matched), name, (n, wide))| {
                let mut legacy = LegacyTable {
                    wildcards: u64::from(n[0]),
                    max_entries: n[1],
                    ..LegacyTable::default()
                };
                if version >= OF11 {
                    legacy = LegacyTable {
                        matches: n[2].into(),
                        instructions: n[3],
                        write_actions: n[4],
                        apply_actions: n[5],
                        config: n[0],
                        ..legacy
                    };
                }
                if version >= OF12 {
                    legacy = LegacyTable {
                        wildcards: wide[0],
                        matches: wide[1],
                        write_setfields: wide[2],
                        apply_setfields: wide[3],
                        metadata_match: wide[4],
                        metadata_write: wide[5],
                        ..legacy
                    };
                }
                let old = version < OF13;
                TableStats {
                    table,
                    name: if old { name } else { String::new() },
                    active,
                    lookups,
                    matched,
                    legacy: old.then_some(legacy),
                }
            },
        )
        .boxed()
}

fn port_stats(version: u8) -> BoxedStrategy<PortStats> {
    let optical = any::<([u32; 7], [u16; 4])>().prop_map(|(n, m)| OpticalStats {
        flags: n[0],
        tx: n[1],
        tx_offset: n[2],
        tx_grid: n[3],
        rx: n[4],
        rx_offset: n[5],
        rx_grid: n[6],
        tx_power: m[0],
        rx_power: m[1],
        bias: m[2],
        temperature: m[3],
    });
    (
        port(),
        any::<[u64; 12]>(),
        duration(),
        proptest::option::of(optical),
    )
        .prop_map(move |(port, n, duration, optical)| PortStats {
            port: port.0,
            rx_packets: n[0],
            tx_packets: n[1],
            rx_bytes: n[2],
            tx_bytes: n[3],
            rx_dropped: n[4],
            tx_dropped: n[5],
            rx_errors: n[6],
            tx_errors: n[7],
            rx_frame_err: n[8],
            rx_over_err: n[9],
            rx_crc_err: n[10],
            collisions: n[11],
            duration: if version >= OF13 { duration } else { UNKNOWN },
            optical: optical.filter(|_| version >= OF14),
        })
        .boxed()
}

fn queue_stats(version: u8) -> BoxedStrategy<QueueStats> {
    (port(), any::<(u32, u64, u64, u64)>(), duration())
        .prop_map(move |(port, n, duration)| QueueStats {
            port: port.0,
            queue: n.0,
            tx_bytes: n.1,
            tx_packets: n.2,
            tx_errors: n.3,
            duration: if version >= OF13 { duration } else { UNKNOWN },
        })
        .boxed()
}

pub fn queue(_version: u8) -> BoxedStrategy<QueueConfig> {
    let rate = || proptest::option::of(0u16..=1000);
    (any::<u32>(), port(), rate(), rate())
        .prop_map(|(queue, port, min_rate, max_rate)| QueueConfig {
            queue,
            port,
            min_rate,
            max_rate,
        })
        .boxed()
}

fn group_stats(version: u8) -> BoxedStrategy<GroupStats> {
    (
        any::<(u32, u32, u64, u64)>(),
        duration(),
        few(any::<(u64, u64)>()),
    )
        .prop_map(move |(n, duration, buckets)| GroupStats {
            group: n.0,
            references: n.1,
            packets: n.2,
            bytes: n.3,
            duration: match version {
                OF11 | OF12 => UNKNOWN,
                _ => duration,
            },
            buckets,
        })
        .boxed()
}

fn group_desc(version: u8) -> BoxedStrategy<GroupDesc> {
    (any::<u32>(), group_kind())
        .prop_flat_map(move |(group, kind)| {
            (buckets(version, kind), selection(version, kind)).prop_map(
                move |(buckets, selection)| GroupDesc {
                    group,
                    kind,
                    buckets,
                    selection,
                },
            )
        })
        .boxed()
}

fn meter_stats() -> impl Strategy<Value = MeterStats> {
    (
        any::<(u32, u32, u64, u64)>(),
        duration(),
        few(any::<(u64, u64)>()),
    )
        .prop_map(|(n, duration, bands)| MeterStats {
            meter: n.0,
            flows: n.1,
            packets: n.2,
            bytes: n.3,
            duration,
            bands,
        })
}

/// A table's configuration, with all that the version tells.
pub fn table_config(version: u8) -> BoxedStrategy<TableConfig> {
    let misses = &[TableMiss::Controller, TableMiss::Continue, TableMiss::Drop][..];
    (
        any::<(u8, bool, u8)>(),
        proptest::option::of(select(misses)),
        proptest::option::of(0u32..8),
        proptest::option::of((0u8..50, 50u8..=100)),
    )
        .prop_map(move |((table, eviction, now), miss, flags, vacancy)| {
            let new = version >= OF14;
            TableConfig {
                table,
                miss: miss.filter(|_| version < OF13),
                eviction: new.then_some(eviction),
                eviction_flags: flags.filter(|_| new),
                vacancy: new.then_some(vacancy),
                vacancy_now: if new && vacancy.is_some() { now } else { 0 },
            }
        })
        .boxed()
}

fn table_features(version: u8) -> BoxedStrategy<TableFeatures> {
    use TableProperty as P;
    let fields = || {
        select(vec![
            vec![FieldId::EthDst, FieldId::Ipv4Src],
            vec![FieldId::Metadata],
            vec![],
        ])
    };
    let types = || few(0u16..30);
    let mut all: Vec<BoxedStrategy<P>> = vec![
        (any::<bool>(), types())
            .prop_map(|(miss, types)| P::Instructions { miss, types })
            .boxed(),
        (any::<bool>(), few(any::<u8>()))
            .prop_map(|(miss, tables)| P::NextTables { miss, tables })
            .boxed(),
        (any::<bool>(), types())
            .prop_map(|(miss, types)| P::WriteActions { miss, types })
            .boxed(),
        (any::<bool>(), types())
            .prop_map(|(miss, types)| P::ApplyActions { miss, types })
            .boxed(),
        fields()
            .prop_map(|f| P::Match(f.into_iter().map(|f| (f, true)).collect()))
            .boxed(),
        fields().prop_map(P::Wildcards).boxed(),
        (any::<bool>(), fields())
            .prop_map(|(miss, fields)| P::WriteSetField { miss, fields })
            .boxed(),
        (any::<bool>(), fields())
            .prop_map(|(miss, fields)| P::ApplySetField { miss, fields })
            .boxed(),
    ];
    if version >= OF14 {
        all.push(few(any::<u8>()).prop_map(P::SyncFrom).boxed());
    }
    if version >= OF15 {
        all.push(
            (any::<bool>(), fields())
                .prop_map(|(miss, fields)| P::WriteCopyField { miss, fields })
                .boxed(),
        );
        all.push(
            (any::<bool>(), fields())
                .prop_map(|(miss, fields)| P::ApplyCopyField { miss, fields })
                .boxed(),
        );
        all.push(few(any::<u32>()).prop_map(P::PacketTypes).boxed());
    }
    let commands = &[
        TableFeaturesCommand::Replace,
        TableFeaturesCommand::Modify,
        TableFeaturesCommand::Enable,
        TableFeaturesCommand::Disable,
    ][..];
    (
        any::<(u8, u64, u64, u32, u32, u32)>(),
        name(32),
        select(commands),
        few(Union::new(all)),
    )
        .prop_map(move |(n, name, command, properties)| {
            let new = version >= OF15;
            TableFeatures {
                table: n.0,
                command: if new {
                    command
                } else {
                    TableFeaturesCommand::Replace
                },
                features: if new { n.5 } else { 0 },
                name,
                metadata_match: n.1,
                metadata_write: n.2,
                config: n.3,
                max_entries: n.4,
                properties,
            }
        })
        .boxed()
}

pub fn controller_status() -> BoxedStrategy<ControllerStatus> {
    let roles = &[Role::Equal, Role::Primary, Role::Secondary][..];
    (any::<(u16, u8, bool)>(), select(roles), "tcp:[0-9.]{0,9}")
        .prop_map(|((id, reason, up), role, uri)| ControllerStatus {
            id,
            role,
            reason,
            up,
            uri,
        })
        .boxed()
}

fn ipfix() -> impl Strategy<Value = IpfixStats> {
    (any::<[u64; 10]>(), any::<u32>()).prop_map(|(n, collector_set)| IpfixStats {
        total_flows: n[0],
        current_flows: n[1],
        packets: n[2],
        ipv4_packets: n[3],
        ipv6_packets: n[4],
        error_packets: n[5],
        ipv4_error_packets: n[6],
        ipv6_error_packets: n[7],
        tx_packets: n[8],
        tx_errors: n[9],
        collector_set,
    })
}

fn update(version: u8) -> BoxedStrategy<FlowUpdate> {
    let flow = move || {
        monitored(version).prop_map(move |mut f| {
            f.matching = without_metadata(f.matching, version);
            f
        })
    };
    let reasons = &[
        FlowRemovedReason::IdleTimeout,
        FlowRemovedReason::GroupDelete,
        FlowRemovedReason::Eviction,
    ][..];
    let old = prop_oneof![
        flow().prop_map(FlowUpdate::Added),
        flow().prop_map(FlowUpdate::Modified),
        (select(reasons), flow()).prop_map(|(r, f)| FlowUpdate::Removed(r, f)),
        any::<u32>().prop_map(FlowUpdate::Abbreviated),
    ];
    if version < OF14 {
        return old.boxed();
    }
    prop_oneof![
        3 => old,
        1 => flow().prop_map(FlowUpdate::Initial),
        1 => select(&[FlowUpdate::Paused, FlowUpdate::Resumed][..])
    ]
    .boxed()
}
