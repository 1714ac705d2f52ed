//! What goes out comes in the same, over the wire and through text.

use openflow::text::{FlowCommand, Names, parse_flow};
use openflow::{Message, fuzz_decode, fuzz_text, wire};
use proptest::prelude::*;

/// The flows of the comparison with the stock tool, as far as they are right.
fn flows() -> Vec<openflow::FlowMod> {
    include_str!("flows.txt")
        .lines()
        .filter_map(|l| parse_flow(l, FlowCommand::Add, &Names::default()).ok())
        .map(|l| l.for_version(wire::OF13))
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
}

proptest! {
    #[test]
    fn any_bytes_of_any_type_are_refused_or_survive(kind in 0u8..32, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let len = (8 + body.len() as u16).to_be_bytes();
        let head = [4, kind, len[0], len[1], 0, 0, 0, 1];
        fuzz_decode(&[&head[..], &body].concat());
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
    fn any_text_is_refused_or_survives(s in "[a-z0-9_:=,./()>\\[\\]-]{0,60}") {
        fuzz_text(&s);
    }
}
