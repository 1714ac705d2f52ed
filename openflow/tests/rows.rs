//! What `docs/openflow.md` says of fields and errors, exercised row by row.

use bytes::Bytes;
use openflow::error::{ErrorKind, ErrorNumbers};
use openflow::field::{FIELDS, Prereq};
use openflow::text::{FlowCommand, Names, format_match, parse_flow};
use openflow::wire::{self, decode, encode};
use openflow::{ErrorMsg, FieldId, FlowMod, Instructions, Match, Message};

/// A packet that has the field, so far as a match must say.
fn prerequisites(p: Prereq) -> Match {
    let ip = |proto: u128| {
        Match::new()
            .with(FieldId::EthType, 0x0800)
            .with(FieldId::IpProto, proto)
    };
    let icmp6 = |kind: u128| {
        Match::new()
            .with(FieldId::EthType, 0x86dd)
            .with(FieldId::IpProto, 58)
            .with(FieldId::Icmpv6Type, kind)
    };
    let eth = |t: u128| Match::new().with(FieldId::EthType, t);
    let of = [
        Match::new(),
        Match::new().with(FieldId::VlanVid, 0x1005),
        eth(0x0800),
        eth(0x86dd),
        eth(0x0806),
        eth(0x8847),
        eth(0x88e7),
        eth(0x894f),
        ip(6),
        ip(17),
        ip(132),
        ip(1),
        icmp6(128),
        icmp6(135),
        icmp6(136),
        tracked(),
    ];
    let met = of.into_iter().find(|m| m.meets(p));
    met.unwrap_or_else(|| panic!("no packet has {p:?}"))
}

fn tracked() -> Match {
    let mut m = Match::new();
    m.set_masked(FieldId::CtState, 0x20, 0x30);
    m
}

/// Whether what came back is `m`: what is written by another name says the same.
fn again(version: u8, m: &Match) -> Result<Match, String> {
    let sent = Message::FlowMod(FlowMod::add(m.clone(), Instructions::default()));
    let sent = match version {
        1 => Message::Nicira(Box::new(sent)),
        _ => sent,
    };
    let bytes = encode(version, 1, &sent).map_err(|e| e.to_string())?;
    let mut got = decode(&bytes).map_err(|e| e.to_string())?.message;
    if let Message::Nicira(inner) = got {
        got = *inner;
    }
    match got {
        Message::FlowMod(f) => Ok(f.matching),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn every_field_survives_the_wire_and_text() {
    let names = Names::default();
    let mut wrong = Vec::new();
    for f in FIELDS {
        let mut m = prerequisites(f.prereq);
        if m.get(f.id).1 == 0 {
            match f.id {
                // Flags are matched one by one: others have no names.
                FieldId::TunFlags => m.set_masked(f.id, 1, 1),
                FieldId::CtState => m.set_masked(f.id, 0x21, 0x21),
                // A tag that is there.
                FieldId::VlanTci | FieldId::VlanVid => m.set(f.id, 0x1005),
                id => m.set(id, 1),
            }
        }
        for &v in wire::SUPPORTED {
            match again(v, &m) {
                Ok(got) if got == m => {}
                // The fixed match of 1.1 has twelve-tuples and a little more.
                Err(_) if v == 2 => {}
                other => wrong.push(format!("{} in version {v}: {other:?}", f.name)),
            }
        }
        let text = format!("{},actions=drop", format_match(&m, None, &names));
        match parse_flow(&text, FlowCommand::Add, &names) {
            Ok(line) if line.flow_mod.matching == m => {}
            other => wrong.push(format!("{text}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_error_survives_every_version_that_has_it() {
    let mut wrong = Vec::new();
    for &kind in ErrorKind::ALL {
        for &v in wire::SUPPORTED {
            let Some(numbers) = kind.numbers(v) else {
                continue;
            };
            let sent = Message::Error(ErrorMsg {
                kind,
                data: Bytes::from(vec![v, 14, 0, 8, 0, 0, 0, 1]),
            });
            let got = encode(v, 1, &sent).and_then(|b| decode(&b));
            let Ok(Message::Error(e)) = got.map(|d| d.message) else {
                wrong.push(format!("{} in version {v}", kind.name()));
                continue;
            };
            // One pair of numbers may mean several errors in an old version.
            if e.kind.numbers(v) != Some(numbers) || e.kind == ErrorKind::Other(numbers) {
                wrong.push(format!(
                    "{} in version {v} came back as {:?}",
                    kind.name(),
                    e.kind
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unknown = ErrorNumbers {
        experimenter: None,
        r#type: 99,
        code: 9,
    };
    assert_eq!(
        ErrorKind::from_numbers(4, unknown),
        ErrorKind::Other(unknown)
    );
}
