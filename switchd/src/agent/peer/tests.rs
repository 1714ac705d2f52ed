//! One connection's answers, exactly.

use super::*;
use crate::agent::failmode::FailModes;
use crate::agent::{Async, HIDDEN_COOKIE};
use crate::config::diff::tests::bridge as conf;
use crate::plane::Change;
use crate::plane::fake::Fake;
use crate::plane::{BridgeParams, Plane, PortParams};
use openflow::action::PacketInReason;
use openflow::{
    Action, AsyncChange, AsyncConfig, BundleId, BundleStep, FlowMod, FlowMonitorCommand,
    FlowMonitorRequest, FlowRemoved, FlowRemovedReason, FlowStatsReason, FlowUpdate, GroupMod,
    GroupModCommand, GroupType, Match, MeterConfig, MeterMod, MeterModCommand, MonitoredFlow,
    PacketIn, PacketOut, PortMod, RoleMsg, SwitchConfig, TABLE_ALL,
};
use std::time::Duration;

fn bridge() -> (Arc<Fake>, Bridge) {
    let fake = Arc::new(Fake::default());
    fake.add_bridge("br0", &BridgeParams::default()).unwrap();
    fake.add_port("br0", &PortParams::default()).unwrap();
    let b = Bridge::new("br0".into(), fake.clone(), "3.1.0".into(), FailModes::new());
    b.configure(&conf("br0", vec![]), 7);
    (fake, b)
}

fn peer(id: ConnId, kind: Kind, version: u8) -> Peer {
    Peer::new(id, kind, version, Arc::default())
}

fn handle(p: &mut Peer, b: &Bridge, xid: u32, message: Message) -> Vec<Answer> {
    at(p, b, Duration::ZERO, xid, message)
}

fn at(p: &mut Peer, b: &Bridge, now: Now, xid: u32, message: Message) -> Vec<Answer> {
    let raw = openflow::wire::encode(p.version, xid, &message).unwrap_or_default();
    let raw = &raw[..];
    p.handle(b, &Request { xid, raw, now }, message)
}

fn packet_in(reason: PacketInReason, max_len: u16) -> Async {
    Async::PacketIn {
        packet: PacketIn {
            buffer: None,
            total_len: 100,
            reason,
            table: 0,
            cookie: 0,
            metadata: Match::new(),
            data: Bytes::from(vec![0; 100]),
            ..PacketIn::default()
        },
        max_len,
        controller_id: 0,
        buffer: None,
    }
}

fn length(m: Option<Message>) -> Option<usize> {
    match m {
        Some(Message::PacketIn(p)) => Some(p.data.len()),
        None => None,
        m => panic!("{m:?}"),
    }
}

#[test]
fn a_secondary_reads_and_changes_nothing() {
    let (fake, b) = bridge();
    let mut p = peer(1, Kind::Primary, 4);
    let ask = Message::RoleRequest(RoleMsg {
        role: Role::Secondary,
        generation: 1,
        short_id: 0,
    });
    assert!(matches!(
        handle(&mut p, &b, 5, ask)[..],
        [(5, Message::RoleReply(_))]
    ));
    let flows = fake.bridges()["br0"].flows.len();
    let add = Message::FlowMod(FlowMod::add(Match::new(), Default::default()));
    let answers = handle(&mut p, &b, 6, add);
    let [(6, Message::Error(e))] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(e.kind, ErrorKind::IsSlave);
    assert_eq!(
        e.data[..8],
        [4, 14, 0, 56, 0, 0, 0, 6],
        "the refused message comes back"
    );
    assert_eq!(fake.bridges()["br0"].flows.len(), flows);
    let stats = Message::MultipartRequest(MultipartRequest::Flow(Default::default()));
    assert_eq!(handle(&mut p, &b, 7, stats), [], "it is told in parts");
    assert!(matches!(
        p.part(),
        Some(((7, Message::MultipartReply(_)), false))
    ));
    let event = packet_in(PacketInReason::Action, 0xffff);
    assert_eq!(p.tell(&b, &event, Duration::ZERO), None);
    let status = Async::PortStatus(
        openflow::PortReason::Add,
        fake.port_desc("br0", PortNo(1)).unwrap(),
    );
    assert!(p.tell(&b, &status, Duration::ZERO).is_some());
}

#[test]
fn packet_ins_are_cut_filtered_and_limited() {
    let (_, b) = bridge();
    let now = Duration::from_secs(1);
    let mut p = peer(1, Kind::Primary, 4);
    let action = packet_in(PacketInReason::Action, 64);
    assert_eq!(length(p.tell(&b, &action, now)), Some(64));
    let miss = packet_in(PacketInReason::NoMatch, 64);
    assert_eq!(length(p.tell(&b, &miss, now)), Some(100));
    let ttl = packet_in(PacketInReason::InvalidTtl, 64);
    assert_eq!(p.tell(&b, &ttl, now), None);
    let mut other = action.clone();
    if let Async::PacketIn { controller_id, .. } = &mut other {
        *controller_id = 3;
    }
    assert_eq!(p.tell(&b, &other, now), None);
    handle(&mut p, &b, 1, Message::SetControllerId(3));
    assert!(p.tell(&b, &other, now).is_some());
    p.hearing().limit(Some((10, 2)), now);
    let sent = (0..5).filter(|_| p.tell(&b, &other, now).is_some()).count();
    let [_, actions] = p.hearing().limited().unwrap();
    assert_eq!((sent, actions.dropped, actions.backlog), (2, 1, 2));
    assert_eq!(p.wake(&b), Some(now + Duration::from_millis(100)));
    assert!(p.hearing().due(now + Duration::from_millis(100)).is_some());
    assert!(p.hearing().due(now + Duration::from_millis(100)).is_none());
    let off = AsyncConfig {
        packet_in: [1, 0],
        ..AsyncConfig::default()
    };
    handle(&mut p, &b, 1, Message::SetAsync(off.into()));
    assert_eq!(p.tell(&b, &other, now + Duration::from_secs(9)), None);
    assert_eq!(
        handle(&mut p, &b, 2, Message::GetAsyncRequest),
        [(2, Message::GetAsyncReply(off))]
    );
}

#[test]
fn a_service_client_hears_nothing_until_it_sets_a_miss_length() {
    let (_, b) = bridge();
    let mut p = peer(1, Kind::Service, 4);
    let event = packet_in(PacketInReason::Action, 64);
    assert_eq!(p.tell(&b, &event, Duration::ZERO), None);
    let set = SwitchConfig {
        flags: 0,
        miss_send_len: 128,
    };
    assert_eq!(handle(&mut p, &b, 1, Message::SetConfig(set)), []);
    assert!(p.tell(&b, &event, Duration::ZERO).is_some());
    assert_eq!(
        handle(&mut p, &b, 2, Message::GetConfigRequest),
        [(2, Message::GetConfigReply(set))]
    );
    let bad = SwitchConfig { flags: 4, ..set };
    assert!(matches!(
        handle(&mut p, &b, 3, Message::SetConfig(bad))[..],
        [(3, Message::Error(_))]
    ));
}

#[test]
fn very_many_flows_are_told_in_parts_as_they_were_when_asked_for() {
    let (fake, b) = bridge();
    let standalone = fake.bridges()["br0"].flows.len();
    let add = |cookie| {
        let matching = Match::new().with(openflow::FieldId::Metadata, u128::from(cookie));
        let flow_mod = FlowMod {
            cookie,
            ..FlowMod::add(matching, Default::default())
        };
        fake.changes_atomic("br0", &[Change::Flow(flow_mod)], 0)
    };
    for cookie in 1..=1000 {
        add(cookie).unwrap();
    }
    let mut p = peer(1, Kind::Primary, 4);
    let ask = Message::MultipartRequest(MultipartRequest::Flow(Default::default()));
    assert_eq!(handle(&mut p, &b, 1, ask), []);
    add(1001).unwrap();
    let mut cookies = Vec::new();
    let mut parts = 0;
    while let Some(((xid, answer), more)) = p.part() {
        let Message::MultipartReply(MultipartReply::Flow(flows)) = answer else {
            panic!("{answer:?}")
        };
        assert!(xid == 1 && flows.len() < 500, "a part is small");
        cookies.extend(flows.iter().map(|f| f.cookie));
        parts += 1;
        assert_eq!(more, cookies.len() < 1000 + standalone);
    }
    assert!(parts > 1 && p.part().is_none());
    cookies.retain(|c| *c != 0);
    assert_eq!(cookies, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn the_switchs_own_flows_are_not_shown() {
    let (fake, b) = bridge();
    let own = FlowMod {
        cookie: HIDDEN_COOKIE,
        ..FlowMod::add(Match::new(), Default::default())
    };
    fake.changes_atomic("br0", &[Change::Flow(own)], 0).unwrap();
    let mut p = peer(1, Kind::Primary, 4);
    let ask = Message::MultipartRequest(MultipartRequest::Flow(Default::default()));
    assert_eq!(handle(&mut p, &b, 1, ask), [], "it is told in parts");
    let Some(((1, Message::MultipartReply(MultipartReply::Flow(flows))), false)) = p.part() else {
        panic!("no part")
    };
    assert_eq!(
        flows.len(),
        1,
        "only the NORMAL flow of a standalone bridge"
    );
    let mut flow = flows[0].clone();
    let mut tell = |cookie| {
        flow.cookie = cookie;
        let removed = FlowRemoved {
            reason: FlowRemovedReason::Delete,
            flow: flow.clone(),
        };
        p.tell(&b, &Async::FlowRemoved(removed), Duration::ZERO)
            .is_some()
    };
    assert!(tell(0) && !tell(HIDDEN_COOKIE));
}

#[test]
fn statistics_that_pass_thresholds_are_told_in_version_1_5() {
    let (_, b) = bridge();
    let flow = |cookie| openflow::FlowStats {
        cookie,
        packets: 10,
        ..Default::default()
    };
    let event = Async::FlowStats(vec![flow(1), flow(HIDDEN_COOKIE), flow(2)]);
    let mut old = peer(1, Kind::Primary, 5);
    assert_eq!(old.tell(&b, &event, Duration::ZERO), None);
    let mut p = peer(2, Kind::Primary, 6);
    let trigger = FlowStatsReason::Trigger;
    let want = vec![(trigger, flow(1)), (trigger, flow(2))];
    assert_eq!(
        p.tell(&b, &event, Duration::ZERO),
        Some(Message::MultipartReply(MultipartReply::FlowStats(want)))
    );
    let own = Async::FlowStats(vec![flow(HIDDEN_COOKIE)]);
    assert_eq!(p.tell(&b, &own, Duration::ZERO), None);
    // OFPACPT_FLOW_STATS_MASTER.
    let off = AsyncChange {
        masks: AsyncConfig::default(),
        given: 1 << 13,
    };
    assert_eq!(handle(&mut p, &b, 1, Message::SetAsync(off)), []);
    assert_eq!(p.tell(&b, &event, Duration::ZERO), None);
}

#[test]
fn bundles_are_bounded_and_need_their_steps_in_order() {
    let (_, b) = bridge();
    let mut p = peer(1, Kind::Primary, 4);
    let id = |id| BundleId {
        id,
        atomic: true,
        ordered: true,
    };
    let code = |answers: Vec<Answer>| match &answers[..] {
        [(_, Message::Error(e))] => Some(e.kind),
        _ => None,
    };
    let control = |step, n| Message::BundleControl(step, id(n));
    for n in 0..MAX_BUNDLES as u32 {
        assert_eq!(
            code(handle(&mut p, &b, 1, control(BundleStep::OpenRequest, n))),
            None
        );
    }
    let more = handle(&mut p, &b, 1, control(BundleStep::OpenRequest, 99));
    assert_eq!(code(more), Some(ErrorKind::OutOfBundles));
    assert_eq!(
        code(handle(&mut p, &b, 1, control(BundleStep::CloseRequest, 0))),
        None
    );
    let late = Message::BundleAdd(
        id(0),
        1,
        Box::new(Message::FlowMod(FlowMod::add(
            Match::new(),
            Default::default(),
        ))),
    );
    assert_eq!(
        code(handle(&mut p, &b, 1, late)),
        Some(ErrorKind::BundleClosed)
    );
    let unsupported = Message::BundleAdd(id(1), 1, Box::new(Message::BarrierRequest));
    assert_eq!(
        code(handle(&mut p, &b, 1, unsupported)),
        Some(ErrorKind::BundleMsgUnsup)
    );
    assert_eq!(
        code(handle(&mut p, &b, 2, add(id(1), 1, flow(0)))),
        Some(ErrorKind::BundleMsgBadXid)
    );
    assert_eq!(code(handle(&mut p, &b, 2, add(id(1), 2, flow(0)))), None);
    assert_eq!(
        code(handle(
            &mut p,
            &b,
            1,
            control(BundleStep::CommitRequest, 77)
        )),
        Some(ErrorKind::BundleBadId)
    );
}

#[test]
fn a_flow_change_with_a_buffer_is_made_and_the_buffer_refused() {
    let (fake, b) = bridge();
    let mut p = peer(1, Kind::Primary, 4);
    let before = fake.bridges()["br0"].flows.len();
    let m = FlowMod {
        buffer: Some(3),
        table: TABLE_ALL,
        ..FlowMod::add(Match::new(), Default::default())
    };
    let answers = handle(&mut p, &b, 1, Message::FlowMod(m));
    let [(1, Message::Error(e))] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(e.kind, ErrorKind::BufferUnknown);
    let flows = &fake.bridges()["br0"].flows;
    assert_eq!(flows.len(), before + 1);
    assert_eq!(
        flows[before].table, 0,
        "an add to all tables goes to the first"
    );
}

fn group(command: GroupModCommand, group: u32) -> Message {
    Message::GroupMod(GroupMod {
        command,
        kind: GroupType::All,
        group,
        buckets: Vec::new(),
        position: Default::default(),
        selection: Default::default(),
    })
}

fn kind_of(answers: Vec<Answer>) -> Option<ErrorKind> {
    match &answers[..] {
        [.., (_, Message::Error(e))] => Some(e.kind),
        _ => None,
    }
}

const ATOMIC: BundleId = BundleId {
    id: 7,
    atomic: true,
    ordered: true,
};
const LOOSE: BundleId = BundleId {
    id: 8,
    atomic: false,
    ordered: true,
};

fn add(id: BundleId, xid: u32, message: Message) -> Message {
    Message::BundleAdd(id, xid, Box::new(message))
}

fn flow(table: u8) -> Message {
    Message::FlowMod(FlowMod {
        table,
        ..FlowMod::add(Match::new(), Default::default())
    })
}

#[test]
fn a_bundle_changes_flows_groups_and_ports_and_sends_or_does_nothing() {
    let (fake, b) = bridge();
    let mut p = peer(1, Kind::Primary, 4);
    let packet = |data: &'static [u8]| {
        Message::PacketOut(PacketOut {
            data: data.into(),
            ..PacketOut::default()
        })
    };
    let flows = || fake.bridges()["br0"].flows.len();
    let before = flows();
    // The third message cannot be carried out: nothing is, and the error names it.
    for (xid, m) in [
        (11, flow(1)),
        (12, group(GroupModCommand::Add, 5)),
        (13, flow(254)),
        (14, packet(b"x")),
    ] {
        assert_eq!(handle(&mut p, &b, xid, add(ATOMIC, xid, m)), []);
    }
    let commit = |id| Message::BundleControl(BundleStep::CommitRequest, id);
    let answers = handle(&mut p, &b, 20, commit(ATOMIC));
    let [(13, Message::Error(first)), (20, Message::Error(second))] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(first.kind, ErrorKind::RequestEperm);
    assert_eq!(first.data[..2], [4, 14], "the message inside comes back");
    assert_eq!(second.kind, ErrorKind::BundleMsgFailed);
    assert_eq!(flows(), before);
    assert!(fake.bridges()["br0"].groups.is_empty() && fake.packets.lock().unwrap().is_empty());
    // A packet that cannot be sent fails it as well, before anything is changed.
    for (xid, m) in [(11, flow(1)), (14, packet(b""))] {
        handle(&mut p, &b, xid, add(ATOMIC, xid, m));
    }
    let answers = handle(&mut p, &b, 21, commit(ATOMIC));
    assert!(matches!(&answers[..], [(14, _), (21, _)]), "{answers:?}");
    assert_eq!(flows(), before);

    let desc = fake.port_desc("br0", PortNo(1)).unwrap();
    let port = |mac| {
        Message::PortMod(PortMod {
            port: PortNo(1),
            mac,
            config: Default::default(),
            mask: Default::default(),
            advertise: 0,
            optical: None,
        })
    };
    for (xid, m) in [
        (11, flow(1)),
        (12, group(GroupModCommand::Add, 5)),
        (13, port(desc.mac)),
        (14, packet(b"x")),
    ] {
        assert_eq!(handle(&mut p, &b, xid, add(LOOSE, xid, m)), []);
    }
    assert!(matches!(
        handle(&mut p, &b, 22, commit(LOOSE))[..],
        [(22, Message::BundleControl(BundleStep::CommitReply, _))]
    ));
    assert_eq!(flows(), before + 1);
    assert_eq!(fake.bridges()["br0"].groups.len(), 1);
    assert_eq!(fake.packets.lock().unwrap().len(), 1);
    // Ports do not change with flows at one instant, and only under their own address.
    handle(&mut p, &b, 1, add(ATOMIC, 1, port(desc.mac)));
    assert_eq!(
        kind_of(handle(&mut p, &b, 23, commit(ATOMIC))),
        Some(ErrorKind::BundleMsgFailed)
    );
    handle(&mut p, &b, 1, add(LOOSE, 1, port(Default::default())));
    let answers = handle(&mut p, &b, 24, commit(LOOSE));
    let [(1, Message::Error(e)), _] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(e.kind, ErrorKind::PortModBadHwAddr);
}

#[test]
fn a_bundle_that_nobody_touches_goes_and_its_opening_is_refused_late() {
    let (_, b) = bridge();
    let mut p = peer(1, Kind::Primary, 5);
    let s = Duration::from_secs;
    let open = Message::BundleControl(BundleStep::OpenRequest, ATOMIC);
    at(&mut p, &b, s(100), 31, open.clone());
    at(&mut p, &b, s(105), 32, add(ATOMIC, 32, flow(0)));
    assert_eq!(p.wake(&b), Some(s(115)));
    assert_eq!(p.expire(&b, s(114)), []);
    let gone = p.expire(&b, s(115));
    assert!(matches!(&gone[..], [(31, Message::Error(_))]));
    assert_eq!(kind_of(gone), Some(ErrorKind::BundleTimeout));
    assert_eq!(p.wake(&b), None);
    // Flags must stay the same; a bundle that was misused is gone.
    at(&mut p, &b, s(200), 33, open);
    let other = BundleId {
        atomic: false,
        ..ATOMIC
    };
    assert_eq!(
        kind_of(at(&mut p, &b, s(200), 34, add(other, 34, flow(0)))),
        Some(ErrorKind::BundleBadFlags)
    );
    let discard = Message::BundleControl(BundleStep::DiscardRequest, ATOMIC);
    assert_eq!(
        kind_of(at(&mut p, &b, s(200), 35, discard)),
        Some(ErrorKind::BundleBadId)
    );
}

#[test]
fn groups_and_meters_are_changed_shown_and_forwarded() {
    let (_, b) = bridge();
    let mut p = peer(1, Kind::Primary, 5);
    assert_eq!(handle(&mut p, &b, 1, group(GroupModCommand::Add, 5)), []);
    let again = handle(&mut p, &b, 2, group(GroupModCommand::Add, 5));
    assert_eq!(kind_of(again), Some(ErrorKind::GroupExists));
    let ask = |m| Message::MultipartRequest(m);
    let answers = handle(
        &mut p,
        &b,
        3,
        ask(MultipartRequest::GroupDesc(openflow::GROUP_ALL)),
    );
    let [(3, Message::MultipartReply(MultipartReply::GroupDesc(groups)))] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((groups.len(), groups[0].group), (1, 5));
    let meter = |command, meter| {
        Message::MeterMod(MeterMod {
            command,
            config: MeterConfig {
                meter,
                flags: 1,
                bands: Vec::new(),
            },
        })
    };
    assert_eq!(handle(&mut p, &b, 4, meter(MeterModCommand::Add, 9)), []);
    for (number, want) in [
        (9, None),
        (openflow::METER_ALL, None),
        (8, Some(ErrorKind::UnknownMeter)),
        (0, Some(ErrorKind::InvalidMeter)),
    ] {
        let answers = handle(&mut p, &b, 5, ask(MultipartRequest::MeterConfig(number)));
        assert_eq!(kind_of(answers), want, "{number:#x}");
    }
    // Another controller that wants to know hears of the change, its maker does not.
    let event = Async::Forward {
        from: 1,
        xid: 4,
        message: meter(MeterModCommand::Add, 9),
    };
    let want = AsyncConfig {
        request_forward: [2, 0],
        ..AsyncConfig::default()
    };
    let mut others = [
        peer(1, Kind::Primary, 5),
        peer(2, Kind::Primary, 5),
        peer(3, Kind::Primary, 4),
    ];
    let heard: Vec<bool> = others
        .iter_mut()
        .map(|p| {
            handle(p, &b, 1, Message::SetAsync(want.into()));
            p.tell(&b, &event, Duration::ZERO).is_some()
        })
        .collect();
    assert_eq!(heard, [false, true, false]);
}

#[test]
fn a_new_primary_is_told_to_the_old_one_if_it_wants_to_know() {
    let (_, b) = bridge();
    let first = b.join(Kind::Primary, "tcp:192.0.2.1:6653");
    let second = b.join(Kind::Primary, "tcp:192.0.2.2:6653");
    let mut p1 = Peer::new(first.id, Kind::Primary, 5, first.monitors);
    let mut p2 = Peer::new(second.id, Kind::Primary, 5, second.monitors);
    let want = AsyncConfig {
        role_status: [7, 0],
        ..AsyncConfig::default()
    };
    handle(&mut p1, &b, 1, Message::SetAsync(want.into()));
    let ask = |generation| {
        Message::RoleRequest(RoleMsg {
            role: Role::Primary,
            generation,
            short_id: 0,
        })
    };
    handle(&mut p1, &b, 1, ask(1));
    handle(&mut p2, &b, 1, ask(2));
    let mut queue = first.queue;
    let mut told = Vec::new();
    while let Ok(event) = queue.try_recv() {
        told.extend(p1.tell(&b, &event, Duration::ZERO));
    }
    let [Message::RoleStatus(openflow::RoleReason::MasterRequest, role)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((role.role, role.generation), (Role::Secondary, 2));
    let statuses = b.controller_statuses();
    let roles: Vec<_> = statuses.iter().map(|s| (s.uri.as_str(), s.role)).collect();
    assert_eq!(
        roles,
        [
            ("tcp:192.0.2.1:6653", Role::Secondary),
            ("tcp:192.0.2.2:6653", Role::Primary)
        ]
    );
}

#[test]
fn packets_wait_in_buffers_where_the_bridge_says_so() {
    let (fake, b) = bridge();
    let mut c = conf("br0", vec![]);
    c.packet_buffers = 2;
    b.configure(&c, 7);
    let member = b.join(Kind::Primary, "tcp:192.0.2.1:6653");
    let mut p = Peer::new(member.id, Kind::Primary, 4, member.monitors);
    let mut queue = member.queue;
    let answers = handle(&mut p, &b, 1, Message::FeaturesRequest);
    let [(1, Message::FeaturesReply(f))] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(f.buffers, 2);
    let mut next = || {
        b.publish(packet_in(PacketInReason::NoMatch, 0));
        loop {
            let event = queue.try_recv().unwrap();
            match p.tell(&b, &event, b.now()) {
                Some(Message::PacketIn(m)) => break m,
                _ => continue,
            }
        }
    };
    let first = next();
    assert_eq!(first.data.len(), 100, "128 bytes are wanted of each");
    let id = first.buffer.expect("it waits");
    let second = next().buffer.expect("it waits");
    let out = |buffer| {
        Message::PacketOut(PacketOut {
            buffer,
            actions: vec![],
            ..PacketOut::default()
        })
    };
    assert_eq!(handle(&mut p, &b, 2, out(Some(id))), []);
    assert_eq!(fake.packets.lock().unwrap()[0].data.len(), 100);
    assert_eq!(
        kind_of(handle(&mut p, &b, 3, out(Some(id)))),
        Some(ErrorKind::BufferEmpty)
    );
    // A flow-mod sends it through the tables.
    let m = FlowMod {
        buffer: Some(second),
        ..FlowMod::add(Match::new(), Default::default())
    };
    let now = b.now();
    assert_eq!(at(&mut p, &b, now, 4, Message::FlowMod(m)), []);
    let packets = fake.packets.lock().unwrap();
    let through = Action::Output {
        port: PortNo::TABLE,
        max_len: 0,
    };
    assert_eq!(packets[1].actions, [through]);
}

#[test]
fn packet_ins_come_in_the_form_asked_for() {
    let (_, b) = bridge();
    let mut p = peer(1, Kind::Primary, 4);
    let mut event = packet_in(PacketInReason::Action, 0xffff);
    if let Async::PacketIn { packet, .. } = &mut event {
        packet.userdata = Bytes::from_static(b"u");
        packet.continuation = Some(Bytes::from_static(b"c"));
    }
    let mut form = |n| {
        assert_eq!(handle(&mut p, &b, 1, Message::SetPacketInFormat(n)), []);
        p.tell(&b, &event, Duration::ZERO).unwrap()
    };
    assert!(matches!(form(0), Message::PacketIn(p) if p.userdata.is_empty()));
    assert!(matches!(form(1), Message::Nicira(_)));
    let Message::PacketIn2(second) = form(2) else {
        panic!()
    };
    assert_eq!(second.continuation.as_deref(), Some(&b"c"[..]));
    let bad = handle(&mut p, &b, 1, Message::SetPacketInFormat(3));
    assert_eq!(kind_of(bad), Some(ErrorKind::RequestEperm));
}

fn monitored(table: u8, cookie: u64) -> MonitoredFlow {
    MonitoredFlow {
        table,
        priority: 1,
        idle_timeout: 0,
        hard_timeout: 0,
        cookie,
        matching: Match::new(),
        instructions: Some(Default::default()),
    }
}

fn watch(flags: u16, table: u8) -> Message {
    Message::MultipartRequest(MultipartRequest::FlowMonitor(vec![FlowMonitorRequest {
        id: 3,
        command: FlowMonitorCommand::Add,
        flags,
        table,
        out_port: PortNo::ANY,
        out_group: None,
        matching: Match::new(),
    }]))
}

fn updates(messages: Vec<Message>) -> Vec<FlowUpdate> {
    messages
        .into_iter()
        .flat_map(|m| match m {
            Message::MultipartReply(MultipartReply::FlowMonitor(u)) => u,
            Message::FlowMonitorPaused => vec![FlowUpdate::Paused],
            Message::FlowMonitorResumed => vec![FlowUpdate::Resumed],
            m => panic!("{m:?}"),
        })
        .collect()
}

#[test]
fn a_monitor_sees_what_it_asked_for_and_its_own_changes_in_short() {
    let (fake, b) = bridge();
    let member = b.join(Kind::Service, "unix");
    let mut p = Peer::new(member.id, Kind::Service, 4, member.monitors.clone());
    let take = || updates(member.monitors.lock().unwrap().take(4, true));
    let answers = handle(&mut p, &b, 1, watch(1 | 2 | 4 | 8, TABLE_ALL));
    let [(1, Message::MultipartReply(MultipartReply::FlowMonitor(initial)))] = &answers[..] else {
        panic!("{answers:?}")
    };
    let [FlowUpdate::Added(f)] = &initial[..] else {
        panic!("{initial:?}")
    };
    assert!(f.instructions.is_none(), "not asked for");
    assert!(fake.bridges()["br0"].watched);
    assert_eq!(
        kind_of(handle(&mut p, &b, 2, watch(2, 0))),
        Some(ErrorKind::MonitorExists)
    );
    // What was in the first answer is not told again; the switch's own flows never are.
    let version = fake.bridges()["br0"].version;
    b.publish_update(&FlowUpdate::Added(monitored(0, 1)), 0, version);
    b.publish_update(
        &FlowUpdate::Added(monitored(0, HIDDEN_COOKIE)),
        0,
        version + 1,
    );
    b.publish_update(&FlowUpdate::Added(monitored(0, 2)), 0, version + 1);
    let own = crate::agent::origin(member.id, 77);
    for _ in 0..2 {
        b.publish_update(&FlowUpdate::Modified(monitored(0, 2)), own, version + 2);
    }
    let seen = take();
    assert!(matches!(&seen[0], FlowUpdate::Added(f) if f.cookie == 2 && f.instructions.is_none()));
    assert_eq!(seen[1..], [FlowUpdate::Abbreviated(77)]);
    assert_eq!(handle(&mut p, &b, 3, Message::FlowMonitorCancel(3)), []);
    assert_eq!(
        kind_of(handle(&mut p, &b, 4, Message::FlowMonitorCancel(3))),
        Some(ErrorKind::UnknownMonitor)
    );
    assert!(!fake.bridges()["br0"].watched);
}

#[test]
fn a_monitor_that_does_not_read_is_paused_and_told_the_difference() {
    let (_, b) = bridge();
    let member = b.join(Kind::Service, "unix");
    let mut p = Peer::new(member.id, Kind::Service, 4, member.monitors.clone());
    handle(&mut p, &b, 1, watch(2 | 4 | 8, TABLE_ALL));
    let changed = |table, cookie, kind: fn(MonitoredFlow) -> FlowUpdate| {
        b.publish_update(&kind(monitored(table, cookie)), 0, u64::MAX);
    };
    let removed = |f| FlowUpdate::Removed(FlowRemovedReason::Delete, f);
    for n in 0..MAX_UPDATES as u64 {
        changed(1, n, FlowUpdate::Modified);
    }
    // A known flow goes and comes, one is changed, one comes and goes, one comes, one goes.
    changed(2, 1, removed);
    changed(2, 2, FlowUpdate::Added);
    changed(3, 1, FlowUpdate::Modified);
    changed(4, 1, FlowUpdate::Added);
    changed(4, 1, removed);
    changed(5, 1, FlowUpdate::Added);
    changed(6, 1, removed);
    let first = updates(member.monitors.lock().unwrap().take(4, true));
    assert_eq!(first.len(), MAX_UPDATES + 1);
    assert_eq!(first.last(), Some(&FlowUpdate::Paused));
    assert!(member.monitors.lock().unwrap().take(4, false).is_empty());
    let then = updates(member.monitors.lock().unwrap().take(4, true));
    let told: Vec<(char, u8, u64)> = then
        .iter()
        .map(|u| match u {
            FlowUpdate::Removed(_, f) => ('-', f.table, f.cookie),
            FlowUpdate::Added(f) => ('+', f.table, f.cookie),
            FlowUpdate::Modified(f) => ('*', f.table, f.cookie),
            FlowUpdate::Resumed => ('.', 0, 0),
            u => panic!("{u:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            ('-', 6, 1),
            ('*', 2, 2),
            ('*', 3, 1),
            ('+', 5, 1),
            ('.', 0, 0)
        ]
    );
    changed(1, 9, FlowUpdate::Modified);
    assert_eq!(
        updates(member.monitors.lock().unwrap().take(4, true)).len(),
        1
    );
}
