//! What `docs/openflow.md` says of fields is what the tables do.

mod common;

use common::*;
use openflow::field::{FIELDS, Prereq};
use openflow::*;

/// A field's state as documented.
fn documented(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openflow.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = text
        .lines()
        .skip_while(|l| *l != "## Fields")
        .find(|l| l.starts_with(&format!("| `{name}` |")))
        .unwrap_or_else(|| panic!("{name} has no row"));
    row.split('|').nth(7).unwrap().trim().to_owned()
}

/// What a match must say for a field to be there.
fn prerequisites(p: Prereq) -> Match {
    let eth = |t: u128| Match::new().with(FieldId::EthType, t);
    let ip = |t, proto: u128| eth(t).with(FieldId::IpProto, proto);
    let icmp6 = |kind: u128| ip(0x86dd, 58).with(FieldId::Icmpv6Type, kind);
    let of = [
        Match::new(),
        Match::new().with(FieldId::VlanVid, 0x1005),
        eth(0x0800),
        eth(0x86dd),
        eth(0x0806),
        eth(0x8847),
        eth(0x88e7),
        eth(0x894f),
        ip(0x0800, 6),
        ip(0x0800, 17),
        ip(0x0800, 132),
        ip(0x0800, 1),
        ip(0x86dd, 58),
        icmp6(135),
        icmp6(136),
    ];
    of.into_iter().find(|m| m.meets(p)).unwrap_or_default()
}

#[test]
fn every_field_is_matched_or_refused_as_documented() {
    let s = Switch::new(1);
    let mut wrong = Vec::new();
    for f in FIELDS {
        let mut m = prerequisites(f.prereq);
        if m.get(f.id).1 == 0 {
            m.set(f.id, 1);
        }
        let is = match s
            .dp
            .flow_mod(s.br, &FlowMod::add(m, Instructions::default()))
        {
            Ok(()) => "yes".to_owned(),
            Err(e) => format!("refused: {}", e.kind.name()),
        };
        let said = documented(f.name);
        if is != said {
            wrong.push(format!("{}: {is}, but the page says {said}", f.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
