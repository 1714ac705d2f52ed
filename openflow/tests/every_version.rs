//! Every message of every version, encoded and decoded, is itself again.

mod common;

use openflow::error::ErrorKind;
use openflow::wire::{self, OF10, OF11, OF12, OF13, OF14, OF15};
use openflow::*;
use proptest::prelude::*;

fn survives(version: u8, xid: u32, m: &Message) -> Result<(), TestCaseError> {
    let bytes = match wire::encode(version, xid, m) {
        Ok(bytes) => bytes,
        Err(e) => return Err(TestCaseError::fail(format!("not encoded: {e}"))),
    };
    let d = wire::decode(&bytes);
    let d = d.map_err(|e| TestCaseError::fail(format!("not decoded: {e}\n{bytes:02x?}")))?;
    prop_assert_eq!(&d.message, m);
    prop_assert_eq!((d.version, d.xid, d.more), (version, xid, false));
    Ok(())
}

macro_rules! versions {
    ($($name:ident $version:ident;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(1500))]
            $(
                #[test]
                fn $name(m in common::message($version), xid: u32) {
                    survives($version, xid, &m)?;
                }
            )*
        }
    };
}

versions! {
    messages_of_10_survive OF10;
    messages_of_11_survive OF11;
    messages_of_12_survive OF12;
    messages_of_13_survive OF13;
    messages_of_14_survive OF14;
    messages_of_15_survive OF15;
}

proptest! {
    #[test]
    fn niciras_forms_survive(version in OF10..=OF15, a in common::nicira(OF10), b in common::nicira(OF13)) {
        if version == OF10 {
            survives(OF10, 1, &a)?;
        } else if version >= OF13 {
            survives(version, 1, &b)?;
        }
    }
}

fn refused(version: u8, m: &Message, kind: ErrorKind) {
    match wire::encode(version, 1, m) {
        Err(e) => assert_eq!(e.kind, kind, "version {version}: {m:?}"),
        Ok(_) => panic!("version {version} can not say {m:?}"),
    }
}

/// What a version has no form of, or only a poorer one, is an error and not something else.
#[test]
fn what_a_version_cannot_say_is_refused() {
    let versions = OF10..=OF15;
    let first = |m: Message, since: u8, kind: ErrorKind| {
        for version in versions.clone() {
            if version < since {
                refused(version, &m, kind);
            } else {
                assert!(wire::encode(version, 1, &m).is_ok(), "{version}: {m:?}");
            }
        }
    };
    let ask = Message::MultipartRequest;
    first(Message::GetAsyncRequest, OF13, ErrorKind::BadType);
    first(
        Message::MeterMod(MeterMod {
            command: MeterModCommand::Add,
            config: MeterConfig {
                meter: 1,
                flags: 1,
                bands: Vec::new(),
            },
        }),
        OF13,
        ErrorKind::BadType,
    );
    first(
        ask(MultipartRequest::Meter(1)),
        OF13,
        ErrorKind::BadMultipart,
    );
    first(
        ask(MultipartRequest::TableDesc),
        OF14,
        ErrorKind::BadMultipart,
    );
    first(
        ask(MultipartRequest::FlowStats(FlowFilter::default())),
        OF15,
        ErrorKind::BadMultipart,
    );
    first(
        ask(MultipartRequest::ControllerStatus),
        OF15,
        ErrorKind::BadMultipart,
    );
    let role = RoleMsg {
        role: Role::Primary,
        generation: 1,
        short_id: 0,
    };
    first(
        Message::RoleStatus(RoleReason::Config, role),
        OF13,
        ErrorKind::BadType,
    );
    // Registers are not among the fields of 1.0 and 1.1.
    let matching = Match::new().with(FieldId::Reg0, 1);
    let flow = Message::FlowMod(FlowMod::add(matching, Instructions::default()));
    first(flow, OF12, ErrorKind::BadField);
    let insert = Message::GroupMod(GroupMod {
        command: GroupModCommand::InsertBucket,
        kind: GroupType::Select,
        group: 1,
        buckets: Vec::new(),
        position: BucketPosition::Last,
        selection: Selection::default(),
    });
    for version in OF11..OF15 {
        refused(version, &insert, ErrorKind::BadGroupCommand);
    }
    for version in OF14..=OF15 {
        refused(version, &Message::FlowMonitorCancel(1), ErrorKind::BadType);
        let queues = Message::QueueGetConfigRequest(PortNo::ANY);
        refused(version, &queues, ErrorKind::BadType);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Whatever comes of a message with some bytes changed, nobody panics; and what can still be
    /// decoded has a form of its own that stays.
    #[test]
    fn a_message_with_changed_bytes_is_refused_or_survives(
        (version, m) in (OF10..=OF15).prop_flat_map(|v| (Just(v), common::message(v))),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = wire::encode(version, 1, &m).unwrap().to_vec();
        if bytes.len() > 8 {
            for (at, b) in changes {
                let at = 8 + at.index(bytes.len() - 8);
                bytes[at] = b;
            }
        }
        fuzz_decode(&bytes);
    }
}

/// Bytes of the version, from what is left of a description: the header is made.
fn bytes_of(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let len = (8 + body.len() as u16).to_be_bytes();
    [&[version, kind, len[0], len[1], 0, 0, 0, 1], body].concat()
}

#[test]
fn scheduled_bundles_are_refused() {
    // Commit of bundle 7, with the flag that it has a time.
    let flag = bytes_of(OF15, 33, &[0, 0, 0, 7, 0, 4, 0, 5]);
    // The same with the time itself.
    let time = [&[0, 0, 0, 7, 0, 4, 0, 1, 0, 1, 0, 24][..], &[0; 20]].concat();
    for m in [flag, bytes_of(OF15, 33, &time)] {
        let e = wire::decode(&m).unwrap_err();
        assert_eq!(e.kind, ErrorKind::SchedNotSupported);
    }
    let flag = bytes_of(OF14, 33, &[0, 0, 0, 7, 0, 4, 0, 5]);
    assert_eq!(
        wire::decode(&flag).unwrap_err().kind,
        ErrorKind::BundleBadFlags
    );
}

#[test]
fn versions_without_stat_triggers_are_told_of_flows_and_refuse_to_add_them() {
    let mut flow = FlowStats {
        instructions: Instructions {
            goto_table: Some(3),
            stat_trigger: Some(Box::new(action::StatTrigger {
                packets: 5,
                ..Default::default()
            })),
            ..Default::default()
        },
        ..Default::default()
    };
    let add = FlowMod::add(Match::new(), flow.instructions.clone());
    let told = Message::MultipartReply(MultipartReply::Flow(vec![flow.clone()]));
    flow.instructions.stat_trigger = None;
    for version in OF10..OF15 {
        let e = wire::encode(version, 1, &Message::FlowMod(add.clone()));
        assert_eq!(e.unwrap_err().kind, ErrorKind::UnsupInst);
        let bytes = wire::encode(version, 1, &told).unwrap();
        let Message::MultipartReply(MultipartReply::Flow(flows)) =
            wire::decode(&bytes).unwrap().message
        else {
            panic!("{bytes:02x?}")
        };
        // What 1.0 has for a goto is an action.
        if version > OF10 {
            assert_eq!(flows[0].instructions, flow.instructions);
        }
    }
}

#[test]
fn properties_that_are_not_known_are_refused_in_requests_and_passed_over_in_answers() {
    // A port-mod with property 9, and with one of experimenter 5.
    let body = [0; 24];
    let unknown = [&body[..], &[0, 9, 0, 4, 0, 0, 0, 0]].concat();
    let e = wire::decode(&bytes_of(OF14, 16, &unknown)).unwrap_err();
    assert_eq!(e.kind, ErrorKind::PropertyBadType);
    let theirs = [
        &body[..],
        &[0xff, 0xff, 0, 12, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0],
    ]
    .concat();
    let e = wire::decode(&bytes_of(OF14, 16, &theirs)).unwrap_err();
    assert_eq!(e.kind, ErrorKind::PropertyBadExperimenter);
    // A property shorter than its own header.
    let short = [&body[..], &[0, 0, 0, 3, 0, 0, 0, 0]].concat();
    let e = wire::decode(&bytes_of(OF14, 16, &short)).unwrap_err();
    assert_eq!(e.kind, ErrorKind::PropertyBadLen);
    // A port's description with property 9.
    let mut port = vec![0, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48];
    port.resize(8 + 40, 0);
    port.extend([0, 9, 0, 8, 1, 2, 3, 4]);
    let d = wire::decode(&bytes_of(OF14, 19, &port)).unwrap();
    let Message::MultipartReply(MultipartReply::PortDesc(ports)) = d.message else {
        panic!("{:?}", d.message);
    };
    assert_eq!(ports[0].port, PortNo(1));
}

/// A bundle in a bundle in a bundle..., a forwarded request in a forwarded request: no end of them
/// would exhaust the stack.
#[test]
fn messages_in_messages_in_messages_are_refused() {
    for kind in [32, 34] {
        let mut m = bytes_of(OF14, 20, &[]);
        for _ in 0..2000 {
            let head: &[u8] = if kind == 34 { &[0; 8] } else { &[] };
            m = bytes_of(OF14, kind, &[head, &m].concat());
            if m.len() > 0xff00 {
                break;
            }
        }
        assert!(wire::decode(&m).is_err());
    }
}
