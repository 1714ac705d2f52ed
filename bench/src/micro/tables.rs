//! The tables by themselves: each structure a table may choose, by rule set and size.
//!
//! `warm` looks up the same 256 headers, `cold` 100,000 others, each drawn from a random rule. `update` adds or deletes one
//! rule in a table others still hold, as a flow-mod published alone does. `load` adds all rules to an empty
//! table, told per rule.

use super::Harness;
use crate::classbench::{GeneratedRule, Header, Kind, Random, packet_for, rules};
use datapath::flow::{FlowKey, FlowMask};
use datapath::table::{Cells, Limits, Tables};
use openflow::{FieldId, FlowMod, FlowModCommand, Match, Slot};
use std::hint::black_box;

const LIMITS: Limits = Limits { tables: 255 };
/// Headers of a cold run.
const COLD: usize = 100_000;
/// Headers of a warm run.
const WARM: usize = 256;

fn key(h: &Header) -> FlowKey {
    let mut k = FlowKey::default();
    for (slot, value) in [
        (Slot::InPort, 1),
        (Slot::EthType, 0x0800),
        (Slot::NwSrc, h.src),
        (Slot::NwDst, h.dst),
        (Slot::NwProto, h.proto.into()),
        (Slot::NwTtl, 64),
        (Slot::TpSrc, h.sport.into()),
        (Slot::TpDst, h.dport.into()),
    ] {
        k.set(slot, value.into());
    }
    k
}

fn apply(t: &mut Tables, m: &FlowMod) {
    let done = t.apply(m, &LIMITS, Default::default(), &mut Default::default());
    if let Err(e) = done {
        panic!("a generated rule was refused: {e}");
    }
}

fn load(mods: &[FlowMod]) -> Tables {
    let mut t = Tables::default();
    mods.iter().for_each(|m| apply(&mut t, m));
    t
}

/// One table's entries: `name` and its rules, with keys drawn from them.
fn table(h: &mut Harness, name: &str, mods: &[FlowMod], mut draw: impl FnMut(u64) -> FlowKey) {
    let names = ["warm", "cold", "update", "load"].map(|what| format!("table/{name}/{what}"));
    if !names.iter().any(|n| h.wants(n)) {
        return;
    }
    let [warm, cold, update, whole] = names;
    let t = load(mods);
    let classifier = &t.get(0).expect("rules went into table 0").classifier;
    println!("# {name}: {}", classifier.describe());
    let look = |keys: &[FlowKey]| {
        let mut found = 0;
        for k in keys {
            let mut mask = FlowMask::default();
            let mut cells = Cells::default();
            let rule = classifier.lookup_noting(k, &mut mask, &mut cells);
            found += usize::from(rule.is_some());
            black_box((&mask, &cells));
        }
        found
    };
    let keys: Vec<FlowKey> = (0..WARM as u64).map(&mut draw).collect();
    h.bench(&warm, WARM as u64, || look(&keys));
    if h.wants(&cold) {
        let keys: Vec<FlowKey> = (0..COLD as u64).map(&mut draw).collect();
        let mut at = 0;
        h.bench(&cold, 1000, || {
            at = (at + 1000) % COLD;
            look(&keys[at..at + 1000])
        });
    }
    if h.wants(&update) {
        let mut held = t.clone();
        let mut r = Random(3);
        h.bench(&update, 2, || {
            let m = &mods[r.below(mods.len() as u64) as usize];
            let mut d = m.clone();
            d.command = FlowModCommand::DeleteStrict;
            for m in [&d, m] {
                let mut next = held.clone();
                apply(&mut next, m);
                held = next;
            }
        });
    }
    if h.wants(&whole) && mods.len() <= 10_000 {
        h.bench(&whole, mods.len() as u64, || load(mods));
    }
}

fn generated(h: &mut Harness, kind: Kind, n: usize) {
    let name = format!("{}-{n}", kind.name());
    if !h.wants(&format!("table/{name}/")) {
        return;
    }
    let list: Vec<GeneratedRule> = rules(kind, n, 7);
    let mods: Vec<FlowMod> = list.iter().map(|r| r.flow_mod(2)).collect();
    let mut r = Random(5);
    table(h, &name, &mods, |i| {
        key(&packet_for(&list[r.below(n as u64) as usize], i))
    });
}

/// `n` prefixes of the destination, the longer the higher, as a routing table has them.
fn routes(h: &mut Harness, n: usize) {
    let name = format!("routes-{n}");
    if !h.wants(&format!("table/{name}/")) {
        return;
    }
    let mut r = Random(11);
    let mut mods = Vec::with_capacity(n);
    let mut nets = Vec::with_capacity(n);
    for _ in 0..n {
        let len = [8u16, 16, 19, 20, 22, 23, 24, 24, 24, 24, 32][r.below(11) as usize];
        let mask = u32::MAX << (32 - len);
        let net = (r.next_u64() as u32 & 0x3fff_ffff | 0x0a00_0000) & mask;
        let mut m = Match::new().with(FieldId::EthType, 0x0800);
        m.set_masked(FieldId::Ipv4Dst, net.into(), mask.into());
        let base = GeneratedRule {
            priority: len,
            src: (0, 0),
            dst: (net, len as u8),
            proto: None,
            sport: (0, 0),
            dport: (0, 0),
        };
        mods.push(FlowMod {
            matching: m,
            ..base.flow_mod(2)
        });
        nets.push(base);
    }
    table(h, &name, &mods, |i| {
        key(&packet_for(&nets[r.below(n as u64) as usize], i))
    });
}

/// The naive worst case: every rule another mask.
fn masks(h: &mut Harness, n: u32) {
    let name = format!("masks-{n}");
    let mods: Vec<FlowMod> = (1..=n)
        .map(|i| {
            let mut m = Match::new().with(FieldId::EthType, 0x0800);
            m.set_masked(FieldId::Ipv4Dst, 0, i.into());
            let base = GeneratedRule {
                priority: i as u16,
                src: (0, 0),
                dst: (0, 0),
                proto: None,
                sport: (0, 0),
                dport: (0, 0),
            };
            FlowMod {
                matching: m,
                ..base.flow_mod(2)
            }
        })
        .collect();
    let mut r = Random(2);
    table(h, &name, &mods, |_| {
        key(&Header {
            src: 1,
            dst: r.next_u64() as u32,
            proto: 17,
            sport: 1,
            dport: 2,
        })
    });
}

/// All tables.
pub fn run(h: &mut Harness) {
    for kind in Kind::ALL {
        for n in [1, 10, 1_000, 10_000, 100_000] {
            generated(h, kind, n);
        }
    }
    routes(h, 10_000);
    masks(h, 4_000);
}
