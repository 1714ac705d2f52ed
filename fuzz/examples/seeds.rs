//! Writes inputs for the fuzzers to begin with into `seeds/`, made with the crates themselves.

use std::fs;
use std::path::Path;

use openflow::action::PacketInReason;
use openflow::text::{FlowCommand, Names, parse_flow};
use openflow::*;

fn put(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new("seeds").join(target);
    fs::create_dir_all(&dir).expect("a directory for seeds");
    fs::write(dir.join(name), bytes).expect("a seed is written");
}

fn main() {
    let lines: Vec<&str> = include_str!("../../openflow/tests/flows.txt")
        .lines()
        .collect();
    for (i, line) in lines.iter().enumerate() {
        put("flow_text", &format!("line{i}"), line.as_bytes());
    }
    let requests = include_str!("../inputs/ovsdb.txt");
    for (i, request) in requests.lines().enumerate() {
        put("ovsdb_json", &format!("request{i}"), request.as_bytes());
    }
    put("ovsdb_json", "all", requests.as_bytes());
    packets(&lines);
    let messages = messages(&lines);
    for version in wire::SUPPORTED {
        for (i, message) in messages.iter().enumerate() {
            if let Ok(bytes) = wire::encode(*version, i as u32, message) {
                put("openflow_decode", &format!("v{version}-{i}"), &bytes);
            }
        }
    }
}

/// Frames of many kinds, each alone, tagged and behind flows of its own; and large packets that guests leave to be cut.
fn packets(lines: &[&str]) {
    let frames: Vec<Vec<u8>> = include_str!("../inputs/frames.txt")
        .lines()
        .map(|l| {
            let byte = |i| u8::from_str_radix(&l[i..i + 2], 16).expect("hex");
            (0..l.len()).step_by(2).map(byte).collect()
        })
        .collect();
    for (i, frame) in frames.iter().enumerate() {
        for how in [0u8, 1] {
            put(
                "packet",
                &format!("frame{i}-{how}"),
                &[&[how][..], frame].concat(),
            );
        }
    }
    let own = include_str!("../inputs/pipelines.txt")
        .lines()
        .map(|l| l.replace(';', "\n"));
    let plain = lines.iter().map(|l| (*l).to_string());
    for (i, flows) in own.chain(plain).enumerate() {
        let frame = &frames[i * 7 % frames.len()];
        let bytes = [&[0x80][..], flows.as_bytes(), &[0], frame].concat();
        put("packet", &format!("flows{i}"), &bytes);
    }
    for (kind, first, header) in [(1u8, 0x0800u16, 34u8), (4, 0x86dd, 54)] {
        let ether = first.to_be_bytes();
        if let Some(frame) = frames.iter().find(|f| f[12..14] == ether) {
            let vnet = [1, kind, header + 20, 0, 100, 0, header, 0, 16, 0];
            let bytes = [&[0x40][..], &vnet, frame, &[7; 1000]].concat();
            put("packet", &format!("large{kind}"), &bytes);
        }
    }
}

/// One message of every kind, and every flow of the text tests.
fn messages(lines: &[&str]) -> Vec<Message> {
    let flows: Vec<FlowMod> = lines
        .iter()
        .filter_map(|l| parse_flow(l, FlowCommand::Add, &Names::default()).ok())
        .map(|l| l.flow_mod)
        .collect();
    let stats: Vec<FlowStats> = flows
        .iter()
        .map(|f| FlowStats {
            table: f.table,
            duration: std::time::Duration::from_millis(1500),
            idle_age: None,
            hard_age: None,
            priority: f.priority,
            idle_timeout: 1,
            hard_timeout: 2,
            importance: 0,
            flags: FlowFlags::default(),
            cookie: 9,
            packets: 1,
            bytes: 60,
            matching: f.matching.clone(),
            instructions: f.instructions.clone(),
        })
        .collect();
    let port = PortDesc {
        port: PortNo(1),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        name: "p1".into(),
        config: PortFlags::default(),
        link_down: false,
        live: true,
        current: 0x840,
        advertised: 0,
        supported: 0,
        peer: 0,
        current_speed: 10_000_000,
        max_speed: 0,
        properties: Vec::new(),
    };
    let bundle = BundleId {
        id: 7,
        atomic: true,
        ordered: true,
    };
    let meter = MeterConfig {
        meter: 1,
        flags: 1,
        bands: vec![
            MeterBand {
                kind: MeterBandKind::Drop,
                rate: 1000,
                burst: 0,
            },
            MeterBand {
                kind: MeterBandKind::DscpRemark(1),
                rate: 500,
                burst: 10,
            },
        ],
    };
    let bucket = Bucket {
        weight: 1,
        watch_port: PortNo::ANY,
        watch_group: None,
        id: 0,
        actions: vec![
            Action::PushVlan(0x8100),
            Action::SetVlanVid(5),
            Action::Output {
                port: PortNo(2),
                max_len: 0,
            },
        ],
    };
    let table = TableFeatures {
        table: 0,
        name: "classifier".into(),
        max_entries: 1000,
        properties: vec![
            TableProperty::Instructions {
                miss: false,
                types: vec![1, 2, 3, 4],
            },
            TableProperty::NextTables {
                miss: true,
                tables: vec![1, 2, 3],
            },
            TableProperty::ApplyActions {
                miss: false,
                types: vec![0, 17],
            },
            TableProperty::Match(vec![(FieldId::EthType, true), (FieldId::Ipv4Src, true)]),
            TableProperty::Wildcards(vec![FieldId::EthDst]),
            TableProperty::ApplySetField {
                miss: false,
                fields: vec![FieldId::EthDst],
            },
        ],
        ..TableFeatures::default()
    };
    let packet_in = |reason| {
        Message::PacketIn(PacketIn {
            buffer: None,
            total_len: 60,
            reason,
            table: 1,
            cookie: 5,
            metadata: Match::new()
                .with(FieldId::InPort, 1)
                .with(FieldId::TunId, 9),
            data: vec![0x55; 60].into(),
            ..PacketIn::default()
        })
    };
    let config = SwitchConfig {
        flags: 0,
        miss_send_len: 128,
    };
    let role = RoleMsg {
        role: Role::Primary,
        generation: 3,
        short_id: 0,
    };
    let asynchronous = AsyncConfig {
        packet_in: [7, 0],
        port_status: [7, 7],
        flow_removed: [15, 0],
        ..AsyncConfig::default()
    };
    let mut all = vec![
        Message::Hello(Hello {
            version: 4,
            versions: Some(0x12),
        }),
        Message::Error(ErrorMsg {
            kind: error::ErrorKind::BadPort,
            data: vec![4, 13, 0, 8, 0, 0, 0, 1].into(),
        }),
        Message::EchoRequest(vec![1, 2, 3].into()),
        Message::EchoReply(vec![].into()),
        Message::FeaturesRequest,
        Message::FeaturesReply(Features {
            datapath_id: 1,
            buffers: 0,
            tables: 254,
            auxiliary_id: 0,
            capabilities: 0x4f,
            actions: 0xfff,
            ports: vec![port.clone()],
        }),
        Message::GetConfigRequest,
        Message::GetConfigReply(config),
        Message::SetConfig(config),
        packet_in(PacketInReason::NoMatch),
        packet_in(PacketInReason::Action),
        Message::FlowRemoved(FlowRemoved {
            reason: FlowRemovedReason::IdleTimeout,
            flow: stats[0].clone(),
        }),
        Message::PortStatus(PortReason::Add, port.clone()),
        Message::PacketOut(PacketOut {
            buffer: None,
            in_port: PortNo::CONTROLLER,
            actions: bucket.actions.clone(),
            data: vec![0xaa; 60].into(),
            ..PacketOut::default()
        }),
        Message::GroupMod(GroupMod {
            command: GroupModCommand::Add,
            kind: GroupType::Select,
            group: 1,
            buckets: vec![bucket.clone(), bucket.clone()],
            position: BucketPosition::default(),
            selection: Selection::default(),
        }),
        Message::MeterMod(MeterMod {
            command: MeterModCommand::Add,
            config: meter.clone(),
        }),
        Message::TableMod(TableConfig::default()),
        Message::PortMod(PortMod {
            port: PortNo(1),
            mac: port.mac,
            config: PortFlags {
                port_down: true,
                ..PortFlags::default()
            },
            mask: PortFlags {
                port_down: true,
                no_flood: true,
                ..PortFlags::default()
            },
            advertise: 0,
            optical: None,
        }),
        Message::BarrierRequest,
        Message::BarrierReply,
        Message::QueueGetConfigRequest(PortNo(1)),
        Message::QueueGetConfigReply(
            PortNo(1),
            vec![QueueConfig {
                queue: 1,
                port: PortNo(1),
                min_rate: Some(100),
                max_rate: Some(500),
            }],
        ),
        Message::RoleRequest(role),
        Message::RoleReply(role),
        Message::GetAsyncRequest,
        Message::GetAsyncReply(asynchronous),
        Message::SetAsync(asynchronous.into()),
        Message::BundleControl(BundleStep::OpenRequest, bundle),
        Message::BundleControl(BundleStep::CommitReply, bundle),
        Message::BundleAdd(bundle, 3, Box::new(Message::FlowMod(flows[1].clone()))),
        Message::SetFlowFormat(2),
        Message::FlowModTableId(true),
        Message::SetPacketInFormat(1),
        Message::SetControllerId(5),
    ];
    let filter = FlowFilter {
        matching: flows[1].matching.clone(),
        ..FlowFilter::default()
    };
    let requests = [
        MultipartRequest::Desc,
        MultipartRequest::Flow(filter.clone()),
        MultipartRequest::Aggregate(filter),
        MultipartRequest::Table,
        MultipartRequest::PortStats(PortNo::ANY),
        MultipartRequest::Queue {
            port: PortNo::ANY,
            queue: None,
        },
        MultipartRequest::Group(GROUP_ALL),
        MultipartRequest::GroupDesc(1),
        MultipartRequest::GroupFeatures,
        MultipartRequest::Meter(METER_ALL),
        MultipartRequest::MeterConfig(1),
        MultipartRequest::MeterFeatures,
        MultipartRequest::TableFeatures(vec![table.clone()]),
        MultipartRequest::PortDesc(PortNo::ANY),
    ];
    all.extend(requests.map(Message::MultipartRequest));
    let replies = [
        MultipartReply::Desc(SwitchDesc {
            manufacturer: "weir".into(),
            ..SwitchDesc::default()
        }),
        MultipartReply::Flow(stats[..4].to_vec()),
        MultipartReply::Aggregate(AggregateStats {
            packets: 1,
            bytes: 2,
            flows: 3,
        }),
        MultipartReply::Table(vec![TableStats {
            table: 0,
            active: 1,
            lookups: 2,
            matched: 1,
            name: String::new(),
            legacy: Some(LegacyTable {
                wildcards: 0x3f_ffff,
                max_entries: 1000,
                ..LegacyTable::default()
            }),
        }]),
        MultipartReply::PortStats(vec![PortStats {
            port: 1,
            ..PortStats::default()
        }]),
        MultipartReply::Queue(vec![QueueStats {
            port: 1,
            queue: 2,
            ..QueueStats::default()
        }]),
        MultipartReply::Group(vec![GroupStats {
            group: 1,
            buckets: vec![(1, 2), (3, 4)],
            ..GroupStats::default()
        }]),
        MultipartReply::GroupDesc(vec![GroupDesc {
            group: 1,
            kind: GroupType::FastFailover,
            buckets: vec![bucket],
            selection: Selection::default(),
        }]),
        MultipartReply::GroupFeatures(GroupFeatures::default()),
        MultipartReply::Meter(vec![MeterStats {
            meter: 1,
            bands: vec![(1, 2)],
            ..MeterStats::default()
        }]),
        MultipartReply::MeterConfig(vec![meter]),
        MultipartReply::MeterFeatures(MeterFeatures::default()),
        MultipartReply::TableFeatures(vec![table]),
        MultipartReply::PortDesc(vec![port]),
    ];
    all.extend(replies.map(Message::MultipartReply));
    all.extend(flows.into_iter().map(Message::FlowMod));
    all.extend(
        stats
            .into_iter()
            .map(|s| Message::MultipartReply(MultipartReply::Flow(vec![s]))),
    );
    all
}
