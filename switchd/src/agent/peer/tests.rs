//! One connection's answers, exactly.

use super::*;
use crate::agent::failmode::FailModes;
use crate::config::diff::tests::bridge as conf;
use crate::plane::fake::Fake;
use crate::plane::{BridgeParams, Plane, PortParams};
use openflow::{FlowRemoved, FlowRemovedReason, Match, RoleMsg};
use std::sync::Arc;

fn bridge() -> (Arc<Fake>, Bridge) {
    let fake = Arc::new(Fake::default());
    fake.add_bridge("br0", &BridgeParams::default()).unwrap();
    fake.add_port("br0", &PortParams::default()).unwrap();
    let b = Bridge::new("br0".into(), fake.clone(), "3.1.0".into(), FailModes::new());
    b.configure(&conf("br0", vec![]), 7);
    (fake, b)
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
    let mut p = Peer::new(1, Kind::Primary, 4);
    let ask = Message::RoleRequest(RoleMsg {
        role: Role::Secondary,
        generation: 1,
        short_id: 0,
    });
    assert!(matches!(
        p.handle(&b, 5, ask)[..],
        [(5, Message::RoleReply(_))]
    ));
    let flows = fake.bridges()["br0"].flows.len();
    let add = Message::FlowMod(FlowMod::add(Match::new(), Default::default()));
    let answers = p.handle(&b, 6, add);
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
    assert!(matches!(
        p.handle(&b, 7, stats)[..],
        [(7, Message::MultipartReply(_))]
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
    let mut p = Peer::new(1, Kind::Primary, 4);
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
    p.handle(&b, 1, Message::SetControllerId(3));
    assert!(p.tell(&b, &other, now).is_some());
    p.limit(Some((10, 2)), now);
    let sent = (0..5).filter(|_| p.tell(&b, &other, now).is_some()).count();
    assert_eq!((sent, p.dropped()), (2, 3));
    assert!(
        p.tell(&b, &other, now + Duration::from_millis(100))
            .is_some()
    );
    let off = AsyncConfig {
        packet_in: [1, 0],
        ..AsyncConfig::default()
    };
    p.handle(&b, 1, Message::SetAsync(off));
    assert_eq!(p.tell(&b, &other, now + Duration::from_secs(9)), None);
    assert_eq!(
        p.handle(&b, 2, Message::GetAsyncRequest),
        [(2, Message::GetAsyncReply(off))]
    );
}

#[test]
fn a_service_client_hears_nothing_until_it_sets_a_miss_length() {
    let (_, b) = bridge();
    let mut p = Peer::new(1, Kind::Service, 4);
    let event = packet_in(PacketInReason::Action, 64);
    assert_eq!(p.tell(&b, &event, Duration::ZERO), None);
    let set = SwitchConfig {
        flags: 0,
        miss_send_len: 128,
    };
    assert_eq!(p.handle(&b, 1, Message::SetConfig(set)), []);
    assert!(p.tell(&b, &event, Duration::ZERO).is_some());
    assert_eq!(
        p.handle(&b, 2, Message::GetConfigRequest),
        [(2, Message::GetConfigReply(set))]
    );
    let bad = SwitchConfig { flags: 2, ..set };
    assert!(matches!(
        p.handle(&b, 3, Message::SetConfig(bad))[..],
        [(3, Message::Error(_))]
    ));
}

#[test]
fn the_switchs_own_flows_are_not_shown() {
    let (fake, b) = bridge();
    let own = FlowMod {
        cookie: HIDDEN_COOKIE,
        ..FlowMod::add(Match::new(), Default::default())
    };
    fake.flow_mod("br0", &own).unwrap();
    let mut p = Peer::new(1, Kind::Primary, 4);
    let ask = Message::MultipartRequest(MultipartRequest::Flow(Default::default()));
    let answers = p.handle(&b, 1, ask);
    let [(1, Message::MultipartReply(MultipartReply::Flow(flows)))] = &answers[..] else {
        panic!("{answers:?}")
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
fn bundles_are_bounded_and_need_their_steps_in_order() {
    let (_, b) = bridge();
    let mut p = Peer::new(1, Kind::Primary, 4);
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
            code(p.handle(&b, 1, control(BundleStep::OpenRequest, n))),
            None
        );
    }
    let more = p.handle(&b, 1, control(BundleStep::OpenRequest, 99));
    assert_eq!(code(more), Some(ErrorKind::OutOfBundles));
    assert_eq!(
        code(p.handle(&b, 1, control(BundleStep::CloseRequest, 0))),
        None
    );
    let add = Message::BundleAdd(
        id(0),
        1,
        Box::new(Message::FlowMod(FlowMod::add(
            Match::new(),
            Default::default(),
        ))),
    );
    assert_eq!(code(p.handle(&b, 1, add)), Some(ErrorKind::BundleClosed));
    let unsupported = Message::BundleAdd(id(1), 1, Box::new(Message::BarrierRequest));
    assert_eq!(
        code(p.handle(&b, 1, unsupported)),
        Some(ErrorKind::BundleMsgUnsup)
    );
    assert_eq!(
        code(p.handle(&b, 1, control(BundleStep::CommitRequest, 77))),
        Some(ErrorKind::BundleBadId)
    );
}

#[test]
fn a_flow_change_with_a_buffer_is_made_and_the_buffer_refused() {
    let (fake, b) = bridge();
    let mut p = Peer::new(1, Kind::Primary, 4);
    let before = fake.bridges()["br0"].flows.len();
    let m = FlowMod {
        buffer: Some(3),
        table: TABLE_ALL,
        ..FlowMod::add(Match::new(), Default::default())
    };
    let answers = p.handle(&b, 1, Message::FlowMod(m));
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
