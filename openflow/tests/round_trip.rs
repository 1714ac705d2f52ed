//! What goes out comes in the same, over the wire and through text.

use openflow::text::{FlowCommand, Names, parse_flow};
use openflow::{Message, Slot, fuzz_decode, fuzz_text, wire};
use proptest::prelude::*;

/// The flows of the comparison with the stock tool, as far as they are right.
fn flows() -> Vec<openflow::FlowMod> {
    include_str!("flows.txt")
        .lines()
        .filter_map(|l| parse_flow(l, FlowCommand::Add, &Names::default()).ok())
        .map(|l| l.flow_mod)
        .collect()
}

#[test]
fn flows_survive_the_wire_and_text() {
    let flows = flows();
    assert!(flows.len() > 50, "only {} flows", flows.len());
    for f in flows {
        let bytes = wire::encode(wire::OF13, 1, &Message::FlowMod(f)).unwrap();
        let first = wire::decode(&bytes).unwrap();
        let again = wire::encode(wire::OF13, 1, &first.message).unwrap();
        assert_eq!(bytes, again);
        assert_eq!(first, wire::decode(&again).unwrap());
    }
    include_str!("flows.txt").lines().for_each(fuzz_text);
    include_str!("actions.txt").lines().for_each(fuzz_text);
}

/// The flows as OpenFlow 1.0 can say them, in its own form or else in Nicira's.
fn flows10() -> Vec<Message> {
    flows()
        .into_iter()
        .filter_map(|f| {
            let own = Message::FlowMod(f.clone());
            let nicira = Message::Nicira(Box::new(own.clone()));
            [own, nicira]
                .into_iter()
                .find(|m| wire::encode(wire::OF10, 1, m).is_ok())
        })
        .collect()
}

#[test]
fn flows_survive_openflow_10_in_one_of_its_forms() {
    let flows = flows10();
    let nicira = flows.iter().filter(|m| matches!(m, Message::Nicira(_)));
    assert!(nicira.count() > 20);
    assert!(flows.len() > 50, "only {} flows", flows.len());
    for m in flows {
        let bytes = wire::encode(wire::OF10, 1, &m).unwrap();
        let first = wire::decode(&bytes).unwrap();
        let (Message::FlowMod(a), Message::FlowMod(b)) = (bare(&m), bare(&first.message)) else {
            panic!("{m:?} became {first:?}");
        };
        let mut wanted = a.matching.clone();
        let (tci, mask) = wanted.slot(Slot::VlanTci);
        if matches!(m, Message::FlowMod(_)) && mask == 0x1fff && tci & 0x1000 == 0 {
            // 1.0's own form says "no tag" of the whole field.
            wanted.set_slot(Slot::VlanTci, 0, 0xffff, 0xffff);
        }
        assert_eq!(wanted, b.matching);
        let again = wire::encode(wire::OF10, 1, &first.message).unwrap();
        assert_eq!(bytes, again);
        fuzz_decode(&bytes);
    }
}

fn bare(m: &Message) -> &Message {
    match m {
        Message::Nicira(m) => m,
        m => m,
    }
}

proptest! {
    #[test]
    fn any_bytes_of_any_type_are_refused_or_survive(kind in 0u8..36, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let len = (8 + body.len() as u16).to_be_bytes();
        for version in wire::SUPPORTED {
            let head = [*version, kind, len[0], len[1], 0, 0, 0, 1];
            fuzz_decode(&[&head[..], &body].concat());
        }
    }

    #[test]
    fn a_flow_with_changed_bytes_is_refused_or_survives(at in 0usize..60, changes in proptest::collection::vec((8usize..300, any::<u8>()), 0..4)) {
        let flows = flows();
        let f = flows[at % flows.len()].clone();
        let mut bytes = wire::encode(wire::OF13, 1, &Message::FlowMod(f)).unwrap().to_vec();
        for (i, b) in changes {
            let i = 8 + i % (bytes.len() - 8);
            bytes[i] = b;
        }
        fuzz_decode(&bytes);
    }

    #[test]
    fn any_nicira_message_is_refused_or_survives(kind in 8u32..33, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for version in wire::SUPPORTED {
            let mut m = vec![*version, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0x23, 0x20];
            m.extend(kind.to_be_bytes());
            m.extend(&body);
            m[3] = m.len() as u8;
            fuzz_decode(&m);
        }
    }

    #[test]
    fn any_multipart_is_refused_or_survives(reply: bool, kind in 0u8..20, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for version in &wire::SUPPORTED[1..] {
            let mut m = vec![*version, 18 + u8::from(reply), 0, 0, 0, 0, 0, 1, 0, kind, 0, 0, 0, 0, 0, 0];
            m.extend(&body);
            m[3] = m.len() as u8;
            fuzz_decode(&m);
        }
    }

    #[test]
    fn any_statistics_of_10_are_refused_or_survive(reply: bool, kind in prop_oneof![0u8..6, Just(13), Just(0xff)], nicira in 0u8..2, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let high = if kind == 0xff { 0xff } else { 0 };
        let mut m = vec![1, 16 + u8::from(reply), 0, 0, 0, 0, 0, 1, high, kind, 0, 0];
        if kind == 0xff {
            m.extend([0, 0, 0x23, 0x20, 0, 0, 0, nicira, 0, 0, 0, 0]);
        }
        m.extend(&body);
        m[3] = m.len() as u8;
        fuzz_decode(&m);
    }

    #[test]
    fn a_flow_of_10_with_changed_bytes_is_refused_or_survives(at in 0usize..60, changes in proptest::collection::vec((8usize..300, any::<u8>()), 0..4)) {
        let flows = flows10();
        let mut bytes = wire::encode(wire::OF10, 1, &flows[at % flows.len()]).unwrap().to_vec();
        for (i, b) in changes {
            let i = 8 + i % (bytes.len() - 8);
            bytes[i] = b;
        }
        fuzz_decode(&bytes);
    }

    #[test]
    fn matches_of_twelve_fields_survive(bytes in proptest::collection::vec(any::<u8>(), 40), wild in 0u32..1 << 22) {
        // A flow-mod to delete, with this match.
        let mut m = vec![1, 14, 0, 72, 0, 0, 0, 1];
        m.extend(&bytes);
        m[8..12].copy_from_slice(&wild.to_be_bytes());
        m[30..32].copy_from_slice(&[8, 0]);
        m.extend([0; 8]);
        m.extend([0, 3, 0, 0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        fuzz_decode(&m);
    }

    #[test]
    fn any_text_is_refused_or_survives(s in "[a-z0-9_:=,./()>\\[\\]-]{0,60}") {
        fuzz_text(&s);
    }
}
