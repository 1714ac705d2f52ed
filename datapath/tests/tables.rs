//! How tables are set up, through the door: room, eviction, misses, features, and who watches.

mod common;

use common::{Switch, out, udp};
use datapath::{BridgeConfig, Change, Event, TableSpec};
use openflow::action::{PacketInReason, StatTrigger};
use openflow::error::ErrorKind;
use openflow::*;
use std::time::Duration;

fn flow(n: u32, importance: u16) -> FlowMod {
    let mut m = FlowMod::add(
        Match::new()
            .with(FieldId::EthType, 0x800)
            .with(FieldId::Ipv4Dst, n.into()),
        out(PortNo(2)),
    );
    m.table = 1;
    m.importance = importance;
    m.hard_timeout = 1000;
    m.cookie = n.into();
    m.flags.send_flow_rem = true;
    m
}

fn cookies(t: &Switch, table: u8) -> Vec<u64> {
    let filter = FlowFilter {
        table,
        ..FlowFilter::default()
    };
    let mut list: Vec<u64> =
        t.dp.flow_stats(t.br, &filter)
            .iter()
            .map(|f| f.cookie)
            .collect();
    list.sort_unstable();
    list
}

fn set_up(t: &Switch, spec: TableSpec) {
    let config = BridgeConfig {
        tables: [(1, spec)].into(),
        ..BridgeConfig::default()
    };
    t.dp.set_bridge(t.br, config).unwrap();
}

#[test]
fn a_full_table_refuses_or_evicts_the_least_important() {
    let t = Switch::new(2);
    let spec = TableSpec {
        name: "two".into(),
        flow_limit: Some(2),
        ..TableSpec::default()
    };
    set_up(&t, spec.clone());
    t.flow(flow(1, 5));
    t.flow(flow(2, 3));
    assert_eq!(t.refused(flow(3, 4)), ErrorKind::TableFull);
    // What is there may be changed, and other tables are not full.
    t.flow(flow(2, 3));
    t.flow(FlowMod {
        table: 2,
        ..flow(3, 0)
    });
    let config = TableConfig {
        table: 1,
        eviction: Some(true),
        ..TableConfig::default()
    };
    t.dp.table_mod(t.br, &config).unwrap();
    t.flow(flow(3, 4));
    assert_eq!(cookies(&t, 1), [1, 3]);
    let Some(Event::FlowRemoved { removed, .. }) = t.event() else {
        panic!("somebody was to be told");
    };
    assert_eq!(
        (removed.reason, removed.flow.cookie),
        (FlowRemovedReason::Eviction, 2)
    );
    // Without a timeout a flow stays, whatever comes.
    for n in 4..6 {
        t.flow(FlowMod {
            hard_timeout: 0,
            ..flow(n, 0)
        });
    }
    assert_eq!(cookies(&t, 1), [4, 5]);
    assert_eq!(t.refused(flow(6, 9)), ErrorKind::TableFull);
    // Less room, and eviction by the database: what goes beyond it goes if it may.
    t.flow(FlowMod {
        command: FlowModCommand::Delete,
        ..flow(5, 0)
    });
    t.flow(flow(7, 1));
    set_up(
        &t,
        TableSpec {
            flow_limit: Some(1),
            evict: true,
            ..spec
        },
    );
    assert_eq!(cookies(&t, 1), [4]);
    assert_eq!(t.dp.table_stats(t.br)[1].name, "two");
    assert_eq!(t.dp.table_features(t.br)[1].max_entries, 1);
}

#[test]
fn a_miss_goes_where_the_table_says() {
    let t = Switch::new(2);
    let miss = |table, miss| {
        let config = TableConfig {
            table,
            miss: Some(miss),
            ..TableConfig::default()
        };
        t.dp.table_mod(t.br, &config)
    };
    t.flow(FlowMod {
        table: 2,
        ..FlowMod::add(Match::new(), out(PortNo(2)))
    });
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
    // A flow of the caches notices.
    miss(0, TableMiss::Continue).unwrap();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [], "table 1 drops");
    miss(1, TableMiss::Continue).unwrap();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), [(2, udp(1, 2))]);
    miss(1, TableMiss::Controller).unwrap();
    t.send(1, &udp(1, 2));
    assert_eq!(t.sent(), []);
    let Some(Event::PacketIn { packet_in, .. }) = t.event() else {
        panic!("the controller was to get it");
    };
    assert_eq!(
        (packet_in.reason, packet_in.table),
        (PacketInReason::NoMatch, 1)
    );
    miss(TABLE_ALL, TableMiss::Drop).unwrap();
    t.send(1, &udp(1, 2));
    assert!(t.sent().is_empty() && t.event().is_none());
    assert_eq!(t.dp.table_desc(t.br)[7].miss, Some(TableMiss::Drop));
    // The last table has none to go on to.
    miss(254, TableMiss::Continue).unwrap();
}

#[test]
fn what_tables_cannot_be_is_refused() {
    let t = Switch::new(1);
    let config = TableConfig {
        table: 1,
        ..TableConfig::default()
    };
    for (wrong, kind) in [
        (
            TableConfig {
                vacancy: Some(Some((10, 20))),
                ..config
            },
            ErrorKind::TableModBadConfig,
        ),
        (
            TableConfig {
                eviction_flags: Some(8),
                ..config
            },
            ErrorKind::TableModBadConfig,
        ),
    ] {
        assert_eq!(t.dp.table_mod(t.br, &wrong).unwrap_err().kind, kind);
    }
    let few = BridgeConfig {
        max_tables: 4,
        ..BridgeConfig::default()
    };
    t.dp.set_bridge(t.br, few).unwrap();
    let missing = TableConfig { table: 4, ..config };
    let e = t.dp.table_mod(t.br, &missing).unwrap_err();
    assert_eq!(e.kind, ErrorKind::TableModBadTable);

    let have = t.dp.table_features(t.br);
    assert_eq!(have.len(), 4);
    t.dp.set_table_features(t.br, &have).unwrap();
    let change = |f: &dyn Fn(&mut TableFeatures)| {
        let mut list = have.clone();
        f(&mut list[2]);
        t.dp.set_table_features(t.br, &list).map_err(|e| e.kind)
    };
    assert_eq!(
        change(&|f| f.table = 9),
        Err(ErrorKind::TableFeaturesBadTable)
    );
    assert_eq!(
        change(&|f| f.table = 1),
        Err(ErrorKind::TableFeaturesDupTable)
    );
    assert_eq!(
        change(&|f| f.metadata_write = 0),
        Err(ErrorKind::TableFeaturesBadMetadata)
    );
    assert_eq!(
        change(&|f| f.features = 2),
        Err(ErrorKind::TableFeaturesBadFeatures)
    );
    assert_eq!(
        change(&|f| f.max_entries = u32::MAX),
        Err(ErrorKind::TableFeaturesBadMaxEnt)
    );
    let other = TableProperty::ApplyActions {
        miss: false,
        types: vec![0],
    };
    assert_eq!(
        change(&|f| f.properties = vec![other.clone()]),
        Err(ErrorKind::TableFeaturesEperm)
    );
    change(&|f| {
        f.name = "third".into();
        f.max_entries = 1;
    })
    .unwrap();
    assert_eq!(t.dp.table_features(t.br)[2].name, "third");
    let third = |n| FlowMod {
        table: 2,
        ..flow(n, 0)
    };
    t.flow(third(1));
    assert_eq!(t.refused(third(2)), ErrorKind::TableFull);
}

#[test]
fn features_are_what_flows_may_do() {
    let t = Switch::new(1);
    let tables = t.dp.table_features(t.br);
    let first = &tables[0];
    let all = |wanted: &dyn Fn(&TableProperty) -> bool| first.properties.iter().any(wanted);
    assert!(all(
        &|p| matches!(p, TableProperty::ApplyActions { types, .. } if types.contains(&0) && types.contains(&25))
    ));
    assert!(all(
        &|p| matches!(p, TableProperty::Match(f) if f.contains(&(FieldId::Ipv4Dst, true)))
    ));
    assert!(all(
        &|p| matches!(p, TableProperty::ApplySetField { fields, .. } if fields.contains(&FieldId::TcpDst) && !fields.contains(&FieldId::EthType))
    ));
    let next = |f: &TableFeatures| {
        f.properties.iter().find_map(|p| match p {
            TableProperty::NextTables { tables, .. } => Some(tables.len()),
            _ => None,
        })
    };
    assert_eq!((next(first), next(&tables[254])), (Some(254), Some(0)));
}

#[test]
fn who_watches_is_told_of_every_change_in_order_until_it_is_too_much() {
    let t = Switch::new(2);
    t.flow(flow(1, 0));
    t.dp.watch_flows(t.br, true);
    let (version, flows) = t.dp.flow_snapshot(t.br, &FlowFilter::default());
    assert_eq!(flows.len(), 1);
    let change = |command, n| {
        Change::Flow(FlowMod {
            command,
            flags: FlowFlags::default(),
            ..flow(n, 0)
        })
    };
    use FlowModCommand::{Add, Delete, Modify};
    let bad = Change::Flow(FlowMod {
        table: 1,
        instructions: Instructions {
            goto_table: Some(0),
            ..Instructions::default()
        },
        ..flow(9, 0)
    });
    let failed = t.dp.changes(
        t.br,
        &[
            (7, change(Add, 2)),
            (7, bad.clone()),
            (8, change(Modify, 1)),
            (9, change(Delete, 2)),
        ],
    );
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].0, failed[0].1.kind),
        (1, ErrorKind::BadInstTableId)
    );
    // All or nothing: nothing is told.
    let e = t.dp.changes_atomic(t.br, &[change(Add, 3), bad], 5);
    assert_eq!(e.unwrap_err().0, 1);
    t.dp.clock().warp(Duration::from_secs(1001));
    t.dp.expire(t.dp.clock().now());
    let mut told = Vec::new();
    while let Some(e) = t.event() {
        if let Event::FlowUpdate {
            update,
            origin,
            version: at,
            ..
        } = e
        {
            assert!(at > version);
            let flow = |kind, f: MonitoredFlow| (kind, f.cookie, origin);
            told.push(match update {
                FlowUpdate::Added(f) => flow('+', f),
                FlowUpdate::Modified(f) => flow('~', f),
                FlowUpdate::Removed(FlowRemovedReason::Delete, f) => flow('-', f),
                FlowUpdate::Removed(FlowRemovedReason::HardTimeout, f) => flow('h', f),
                other => panic!("{other:?}"),
            });
        }
    }
    assert_eq!(told, [('+', 2, 7), ('~', 1, 8), ('-', 2, 9), ('h', 1, 0)]);
    // Nobody takes them: a pause is told of, and nothing after it.
    let many: Vec<(u64, Change)> = (0..20_000).map(|n| (1, change(Add, n))).collect();
    assert_eq!(t.dp.changes(t.br, &many), []);
    let mut updates = Vec::new();
    while let Some(e) = t.event() {
        if let Event::FlowUpdate { update, .. } = e {
            updates.push(update);
        }
    }
    assert!(updates.len() < 10_000);
    assert_eq!(updates.pop(), Some(FlowUpdate::Paused));
    assert!(!updates.contains(&FlowUpdate::Paused));
    t.flow(flow(30_000, 0));
    assert_eq!(t.event(), None, "until it is asked for again");
}

#[test]
fn a_modify_of_old_versions_adds() {
    let t = Switch::new(2);
    let modify = |cookie, with: u64, mask| Change::ModifyOrAdd {
        cookie,
        flow_mod: FlowMod {
            command: FlowModCommand::ModifyStrict,
            cookie: with,
            cookie_mask: mask,
            ..flow(1, 0)
        },
    };
    let run = |c| t.dp.changes_atomic(t.br, &[c], 0).unwrap();
    run(modify(true, 4, u64::MAX));
    assert_eq!(cookies(&t, 1), [], "it asks for flows of a cookie");
    run(modify(true, 4, 0));
    assert_eq!(cookies(&t, 1), [4]);
    run(modify(false, 5, 0));
    assert_eq!(cookies(&t, 1), [4]);
    run(modify(true, 6, 0));
    assert_eq!(cookies(&t, 1), [6]);
}

/// A rule for packets to port 80 that goes out by port 2 and tells of its statistics.
fn triggered(trigger: StatTrigger) -> FlowMod {
    let matching = Match::new()
        .with(FieldId::EthType, 0x800)
        .with(FieldId::IpProto, 17)
        .with(FieldId::UdpDst, 80);
    let instructions = Instructions {
        stat_trigger: Some(Box::new(trigger)),
        ..out(PortNo(2))
    };
    FlowMod::add(matching, instructions)
}

/// What is told of it when time has passed and packets came: packets, and seconds of age and idleness.
fn told(t: &Switch, seconds: u64, packets: usize) -> Option<(u64, u64, u64)> {
    t.dp.clock().warp(Duration::from_secs(seconds));
    for _ in 0..packets {
        t.send(1, &udp(1, 2));
    }
    t.dp.expire(t.dp.clock().now());
    let told = t.event().map(|e| match e {
        Event::FlowStats { flows, .. } => {
            let [f] = &flows[..] else { panic!("{flows:?}") };
            assert_eq!(f.bytes, f.packets * 60);
            let idle = f.idle_age.unwrap().as_secs();
            (f.packets, f.duration.as_secs(), idle)
        }
        e => panic!("{e:?}"),
    });
    assert!(t.event().is_none(), "at most one for each look");
    told
}

#[test]
fn a_flow_tells_of_thresholds_it_passes() {
    let t = Switch::new(2);
    t.flow(triggered(StatTrigger {
        packets: 3,
        duration: 10,
        ..StatTrigger::default()
    }));
    assert_eq!(told(&t, 1, 2), None);
    assert_eq!(told(&t, 1, 2), Some((4, 2, 0)));
    assert_eq!(told(&t, 1, 20), None, "each threshold once");
    assert_eq!(told(&t, 7, 0), Some((24, 10, 7)));
    assert_eq!(told(&t, 100, 20), None);
    // Counters that begin anew pass thresholds anew.
    t.flow(FlowMod {
        command: FlowModCommand::ModifyStrict,
        flags: FlowFlags {
            reset_counts: true,
            ..FlowFlags::default()
        },
        ..triggered(StatTrigger {
            packets: 3,
            duration: 10,
            ..StatTrigger::default()
        })
    });
    assert_eq!(told(&t, 1, 2), None);
    assert_eq!(told(&t, 1, 1).map(|t| t.0), Some(3));
    t.flow(FlowMod {
        command: FlowModCommand::Delete,
        ..FlowMod::add(Match::new(), Instructions::default())
    });
    assert_eq!(told(&t, 1000, 0), None, "it is gone");
}

#[test]
fn periodic_and_first_triggers() {
    let t = Switch::new(2);
    let periodic = StatTrigger {
        periodic: true,
        packets: 3,
        ..StatTrigger::default()
    };
    t.flow(triggered(periodic));
    assert_eq!(told(&t, 1, 7), Some((7, 1, 0)), "two at once");
    assert_eq!(told(&t, 1, 1), None);
    // The same again leaves what was told as it is.
    t.flow(triggered(periodic));
    assert_eq!(told(&t, 0, 0), None);
    assert_eq!(told(&t, 1, 1).map(|t| t.0), Some(9));

    // It begins with what there is already: 9 packets.
    let first = StatTrigger {
        only_first: true,
        packets: 10,
        bytes: 12 * 60,
        ..StatTrigger::default()
    };
    t.flow(triggered(first));
    assert_eq!(told(&t, 1, 1).map(|t| t.0), Some(10));
    assert_eq!(told(&t, 1, 30), None, "bytes passed later");

    let both = StatTrigger {
        periodic: true,
        packets: 0,
        duration: 0,
        idle: 5,
        bytes: 60_000,
        ..first
    };
    t.flow(triggered(both));
    assert_eq!(told(&t, 4, 0), None);
    assert_eq!(told(&t, 1, 0), Some((40, 5, 5)));
    assert_eq!(told(&t, 5, 0).map(|t| t.2), Some(10));
    assert_eq!(told(&t, 1, 1), None);
    // Idle anew.
    assert_eq!(told(&t, 5, 0).map(|t| t.2), Some(5));
    assert_eq!(told(&t, 1, 1000), None, "bytes were not first");
}

#[test]
fn many_triggers_at_once_come_in_parts_and_none_is_lost() {
    let t = Switch::new(1);
    let trigger = StatTrigger {
        duration: 5,
        ..StatTrigger::default()
    };
    let all = 20_000;
    let changes: Vec<(u64, Change)> = (0..all)
        .map(|n| {
            let mut m = flow(n, 0);
            m.instructions.stat_trigger = Some(Box::new(trigger));
            (0, Change::Flow(m))
        })
        .collect();
    assert_eq!(t.dp.changes(t.br, &changes), []);
    t.dp.clock().warp(Duration::from_secs(5));
    let mut seen = std::collections::BTreeSet::new();
    let mut looks = Vec::new();
    while seen.len() < all as usize {
        t.dp.expire(t.dp.clock().now());
        let before = seen.len();
        while let Some(Event::FlowStats { flows, .. }) = t.event() {
            assert!(flows.len() <= 32);
            for f in flows {
                assert!(seen.insert(f.cookie), "told twice");
            }
        }
        looks.push(seen.len() - before);
        assert_ne!(looks.last(), Some(&0), "{looks:?}");
    }
    assert_eq!(looks[0], 32 * 256);
}
