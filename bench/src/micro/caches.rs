//! A packet's way without the rings: keys, caches, tables, gathering by destination. And the caches by themselves.

use super::Harness;
use crate::classbench::{Header, Kind, Random, explosion, packet_for, rules};
use datapath::Bench;
use datapath::cache::exact::ExactCache;
use datapath::cache::wildcard::{PortCache, Wanted};
use datapath::cache::{Flow, Keys};
use datapath::flow::{Hasher, PACKET_WORDS, TAGS_PARSED, extract};
use datapath::packet::{BATCH, Batch, OwnedPacket};
use openflow::{Action, FlowMod, Instructions, Match, PortNo};

/// A 60-byte frame with this header.
pub(super) fn frame(h: &Header) -> OwnedPacket {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, h.proto, 0, 0]);
    f.extend(h.src.to_be_bytes());
    f.extend(h.dst.to_be_bytes());
    f.extend(h.sport.to_be_bytes());
    f.extend(h.dport.to_be_bytes());
    f.extend([0, 26, 0, 0]);
    f.resize(60, 0);
    if h.proto == 6 {
        f[46] = 0x50;
    }
    OwnedPacket::new(f)
}

fn to(port: PortNo) -> Action {
    Action::Output { port, max_len: 0 }
}

/// One rule in each table up to `last`, which does `actions`.
fn chain(last: u8, actions: Vec<Action>) -> Vec<FlowMod> {
    (0..=last)
        .map(|table| {
            let instructions = Instructions {
                apply: if table == last {
                    actions.clone()
                } else {
                    vec![]
                },
                goto_table: (table < last).then_some(table + 1),
                ..Instructions::default()
            };
            FlowMod {
                table,
                ..FlowMod::add(Match::new(), instructions)
            }
        })
        .collect()
}

fn output(port: PortNo) -> FlowMod {
    let mut rest = FlowMod::add(Match::new(), Instructions::apply(vec![to(port)]));
    rest.priority = 0;
    rest
}

/// Runs the frames round and round through one port.
fn forward(h: &mut Harness, name: &str, flows: &[FlowMod], frames: Vec<OwnedPacket>) {
    let mut bench = Bench::new(flows, false);
    let mut batch = Batch::new();
    let mut next = 0;
    let mut round = || {
        bench.forwarder.now += 1_000;
        batch.clear();
        for _ in 0..BATCH {
            // SAFETY: `frames` outlives the batch.
            unsafe { batch.push_borrowed(&frames[next]) };
            next = if next + 1 == frames.len() {
                0
            } else {
                next + 1
            };
        }
        bench.forwarder.process(&mut batch, 0);
        bench.forwarder.notify();
    };
    // Until the caches are as they stay.
    for _ in 0..(frames.len() * 4).max(40_000) / BATCH {
        round();
    }
    h.bench(name, BATCH as u64, round);
}

/// `n` headers that go round the rules of a set.
fn headers(list: &[crate::classbench::GeneratedRule], n: usize) -> Vec<OwnedPacket> {
    let rules = list.len();
    (0..n)
        .map(|i| frame(&packet_for(&list[i % rules], (i / rules) as u64)))
        .collect()
}

/// A packet's way without the rings.
pub fn forwarding(h: &mut Harness) {
    let any = |n: usize| -> Vec<OwnedPacket> {
        let mut r = Random(7);
        (0..n)
            .map(|_| {
                let (a, b) = (r.next_u64(), r.next_u64());
                frame(&Header {
                    src: a as u32,
                    dst: (a >> 32) as u32,
                    proto: 17,
                    sport: b as u16,
                    dport: (b >> 16) as u16,
                })
            })
            .collect()
    };
    for (name, n) in [("1", 1), ("10k", 10_000), ("1M", 1_000_000)] {
        let name = format!("forward/one-rule/{name}-flows");
        if h.wants(&name) {
            forward(h, &name, &[output(PortNo(4))], any(n));
        }
    }
    if h.wants("forward/normal/100-flows") {
        forward(
            h,
            "forward/normal/100-flows",
            &[output(PortNo::NORMAL)],
            any(100),
        );
    }
    for (name, last, actions) in [
        (
            "forward/three-tables-vlan-push/1-flows",
            2,
            vec![
                Action::PushVlan(0x8100),
                Action::SetVlanVid(10),
                to(PortNo(4)),
            ],
        ),
        ("forward/ten-tables/1-flows", 9, vec![to(PortNo(4))]),
    ] {
        if h.wants(name) {
            forward(h, name, &chain(last, actions), any(1));
        }
    }
    for (kind, n, flows) in [
        (Kind::Exact, 1_000, 1_000),
        (Kind::Exact, 10_000, 10_000),
        (Kind::Exact, 10_000, 1_000_000),
        (Kind::Acl, 1_000, 1_000),
        (Kind::Acl, 10_000, 10_000),
        (Kind::Firewall, 10_000, 10_000),
        (Kind::Chain, 10_000, 10_000),
    ] {
        let name = format!("forward/{}-{n}-rules/{flows}-flows", kind.name());
        if h.wants(&name) {
            let list = rules(kind, n, 1);
            let mut mods: Vec<FlowMod> = list.iter().map(|r| r.flow_mod(4)).collect();
            mods.push(output(PortNo(4)));
            forward(h, &name, &mods, headers(&list, flows));
        }
    }
    // Every packet a flow never seen, as far as 4 million headers go round unseen.
    for kind in [Kind::Exact, Kind::Acl, Kind::Firewall, Kind::Chain] {
        let name = format!("forward/new-flows/{}-100k-rules", kind.name());
        if h.wants(&name) {
            let list = rules(kind, 100_000, 1);
            let mut mods: Vec<FlowMod> = list.iter().map(|r| r.flow_mod(4)).collect();
            mods.push(output(PortNo(4)));
            let mut fresh = list.clone();
            fresh.iter_mut().for_each(|r| r.src.1 = r.src.1.min(24));
            forward(h, &name, &mods, headers(&fresh, 1_000_000));
        }
    }
    // Of a hundred packets, so many have headers chosen against the rules.
    for attack in [0, 1, 10, 100] {
        let name = format!("forward/explosion/{attack}-percent");
        if h.wants(&name) {
            let set = explosion(200);
            let mods: Vec<FlowMod> = set.rules.iter().map(|r| r.flow_mod(4)).collect();
            let clean = headers(&set.rules[..1], 10_000);
            let bad: Vec<OwnedPacket> = set.headers.iter().map(frame).collect();
            let mut next = 0;
            let mixed = (0..clean.len() * 10)
                .map(|i| {
                    if i % 100 < attack {
                        next += 1;
                        return bad[next % bad.len()].clone();
                    }
                    clean[i % clean.len()].clone()
                })
                .collect();
            forward(h, &name, &mods, mixed);
        }
    }
}

/// The caches by themselves, with `n` IPv4 flows in them.
fn alone(h: &mut Harness, n: usize) {
    let hasher = Hasher::new();
    let frames: Vec<OwnedPacket> = {
        let list = rules(Kind::Exact, n, 3);
        list.iter().map(|r| frame(&packet_for(r, 0))).collect()
    };
    let mut batch = Batch::new();
    let keys: Vec<_> = frames
        .iter()
        .map(|f| {
            batch.clear();
            // SAFETY: `frames` outlives the batch.
            unsafe { batch.push_borrowed(f) };
            let mut k = Keys::default().keys[0];
            k.len = extract(batch.packet_mut(0), 0, TAGS_PARSED, &mut k.words) as u32;
            k
        })
        .collect();
    let flow = |k: &datapath::cache::Key, mask: [u64; PACKET_WORDS]| {
        let mut f = Flow::vacant();
        f.live = true;
        f.body.key = k.words;
        f.body.mask = mask;
        f
    };
    let load = |k: &mut Keys, next: &mut usize| {
        for at in 0..BATCH {
            k.keys[at] = keys[*next];
            *next = (*next + 1) % keys.len();
        }
    };
    for words in [2usize, 4] {
        let name = format!("cache/wildcard/{words}-words/{n}-flows");
        if h.wants(&name) {
            let mut mask = [0; PACKET_WORDS];
            mask[3] = u64::MAX;
            mask[4] = u64::MAX;
            if words == 4 {
                mask[1] = u64::MAX;
                mask[2] = u64::MAX;
            }
            let flows: Vec<Flow> = keys.iter().map(|k| flow(k, mask)).collect();
            let mut cache = PortCache::default();
            (0..n as u32).for_each(|f| cache.insert(f, &hasher, &flows));
            let (mut k, mut next) = (Keys::default(), 0);
            h.bench(&name, BATCH as u64, || {
                load(&mut k, &mut next);
                let mut wanted = Wanted::all(BATCH);
                cache.find(&mut k, &mut wanted, true, &hasher, &flows);
                assert!(wanted.list().is_empty());
            });
        }
    }
    let name = format!("cache/exact/{n}-flows");
    if h.wants(&name) {
        let flows: Vec<Flow> = keys.iter().map(|k| flow(k, [0; PACKET_WORDS])).collect();
        let mut cache = ExactCache::default();
        for (f, k) in keys.iter().enumerate() {
            let hash = hasher.hash(&k.words[..k.len as usize]);
            cache.insert(hash, k, f as u32, &flows);
        }
        let (mut k, mut next, mut hits) = (Keys::default(), 0, 0);
        h.bench(&name, BATCH as u64, || {
            load(&mut k, &mut next);
            for i in 0..BATCH {
                let len = k.keys[i].len as usize;
                k.hashes[i] = hasher.hash(&k.keys[i].words[..len]);
                cache.prefetch(k.hashes[i]);
            }
            hits += cache.find(&mut k, BATCH, &flows);
        });
        assert!(hits > 0);
    }
}

/// The caches by themselves.
pub fn run(h: &mut Harness) {
    for n in [100, 5_000, 50_000] {
        alone(h, n);
    }
}
