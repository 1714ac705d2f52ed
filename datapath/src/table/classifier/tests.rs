//! The classifier against a list of rules.

use super::*;
use crate::flow::WORDS;
use openflow::{Instructions, Match};
use proptest::prelude::*;

fn rule(id: u64, priority: u16, matching: Match) -> Arc<Rule> {
    Arc::new(Rule {
        id,
        table: 0,
        priority,
        pattern: Pattern::new(&matching),
        instructions: Arc::new(Instructions::default()),
        cookie: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        importance: 0,
        flags: Default::default(),
        created: Default::default(),
        modified: Default::default(),
        counters: Arc::default(),
    })
}

fn matching(entries: &[(Slot, u128, u128)]) -> Match {
    let mut m = Match::new();
    for &(slot, value, mask) in entries {
        m.set_slot(slot, value & mask, mask, mask);
    }
    m
}

fn matches(rule: &Rule, key: &FlowKey) -> bool {
    rule.matching()
        .entries()
        .iter()
        .all(|e| key.get(e.slot) & e.mask == e.value)
}

/// Small random numbers, from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn one<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// What kinds of rules a random table gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    /// Any masks on a few slots with few values.
    Wild,
    /// Prefixes of one field.
    Prefixes,
    /// One mask, and a few others.
    Exact,
    /// Prefixes, ports and protocols, as access lists have them.
    Lists,
    /// Every rule another mask.
    Masks,
}

const STYLES: [Style; 5] = [
    Style::Wild,
    Style::Prefixes,
    Style::Exact,
    Style::Lists,
    Style::Masks,
];

fn prefix(len: u64) -> u128 {
    (0xffff_ffffu128 << (32 - len)) & 0xffff_ffff
}

fn address(r: &mut Random) -> u128 {
    let a = [10, 10, 172][r.below(3) as usize] << 24;
    u128::from(a | r.below(3) << 16 | r.below(4) << 8 | r.below(8))
}

fn random_match(style: Style, r: &mut Random) -> Match {
    let ports = |r: &mut Random| {
        (
            u128::from(r.below(24)),
            [0xffff, 0xfffc, 0xfff0, 0][r.below(4) as usize],
        )
    };
    match style {
        Style::Wild => {
            let slots = [
                Slot::EthType,
                Slot::NwSrc,
                Slot::TpDst,
                Slot::Ipv6Dst,
                Slot::InPort,
            ];
            let list: Vec<_> = slots
                .iter()
                .map(|&s| (s, u128::from(r.below(8)), u128::from(r.below(8))))
                .collect();
            matching(&list)
        }
        Style::Prefixes => matching(&[
            (Slot::EthType, 0x800, 0xffff),
            (Slot::NwDst, address(r), prefix(r.below(33))),
        ]),
        Style::Exact if r.below(12) > 0 => matching(&[
            (Slot::EthType, 0x800, 0xffff),
            (Slot::NwDst, address(r), prefix(32)),
            (Slot::TpDst, u128::from(r.below(16)), 0xffff),
        ]),
        Style::Exact => {
            let port = ports(r);
            matching(&[(Slot::TpDst, port.0, port.1)])
        }
        Style::Lists => {
            let (src, dst) = (ports(r), ports(r));
            let len = |r: &mut Random| r.one(&[0, 0, 8, 13, 16, 22, 24, 27, 32, 32]);
            let (a, b) = (len(r), len(r));
            matching(&[
                (Slot::EthType, 0x800, 0xffff),
                (Slot::NwSrc, address(r), prefix(a)),
                (Slot::NwDst, address(r), prefix(b)),
                (Slot::NwProto, r.one(&[6, 17]), r.one(&[0xff, 0xff, 0])),
                (Slot::TpSrc, src.0, src.1),
                (Slot::TpDst, dst.0, dst.1),
            ])
        }
        Style::Masks => matching(&[
            (Slot::NwDst, 0, u128::from(r.below(1 << 12))),
            (Slot::TpDst, 0, u128::from(r.below(1 << 4))),
        ]),
    }
}

fn random_key(r: &mut Random) -> FlowKey {
    let mut k = FlowKey::default();
    k.set(Slot::EthType, r.one(&[0x800, 0x800, 0x800, 3]));
    k.set(Slot::InPort, r.below(8).into());
    let few = r.below(3) == 0;
    for slot in [Slot::NwSrc, Slot::NwDst] {
        let a = if few { r.below(8).into() } else { address(r) };
        k.set(slot, a);
    }
    k.set(Slot::NwProto, r.one(&[6, 17]));
    k.set(Slot::TpSrc, r.below(24).into());
    k.set(Slot::TpDst, r.below(24).into());
    k.set(Slot::Ipv6Dst, r.below(8).into());
    k
}

/// A cached flow: what was asked, which bits were looked at, what was found.
struct Cached {
    key: FlowKey,
    mask: FlowMask,
    cells: Cells,
    changes: Arc<Changes>,
    since: u64,
    /// Identity of the rule found: a modified rule is another.
    rule: Option<*const Rule>,
}

fn look(c: &Classifier, key: FlowKey, since: u64) -> Cached {
    let mut mask = FlowMask::default();
    let mut cells = Cells::default();
    let rule = c
        .lookup_noting(&key, &mut mask, &mut cells)
        .map(Arc::as_ptr);
    Cached {
        key,
        mask,
        cells,
        changes: c.changes().clone(),
        since,
        rule,
    }
}

fn agreeing(key: &FlowKey, other: &FlowKey, mask: &FlowMask) -> FlowKey {
    let mut k = *other;
    for i in 0..WORDS {
        k.0[i] = k.0[i] & !mask.0[i] | key.0[i] & mask.0[i];
    }
    k
}

/// Random changes; after each, answers, masks, selections and what cached flows are told are compared
/// with those of a list. Gives how many cached flows were right, and how many of these were told to look again.
fn run(style: Style, seed: u64, size: usize, steps: usize) -> (usize, usize) {
    let mut r = Random(seed);
    let mut c = Classifier::default();
    let mut list: Vec<Arc<Rule>> = Vec::new();
    let mut cached: Vec<Cached> = Vec::new();
    let (mut right, mut told) = (0, 0);
    for step in 1..=steps {
        let version = step as u64;
        let snapshot = c.clone();
        let before = list.len();
        // Grows to the size wanted, shrinks to nothing, grows again.
        let grow = match (step / (2 * size)) % 2 {
            0 => list.len() < size,
            _ => r.below(8) == 0,
        };
        let roll = r.below(10);
        if list.is_empty() || roll < 8 && grow {
            let new = rule(version, r.below(60_000) as u16, random_match(style, &mut r));
            let old = c.insert(new.clone()).map(|o| o.id);
            let at = list
                .iter()
                .position(|l| l.priority == new.priority && l.pattern == new.pattern);
            assert_eq!(old, at.map(|i| list[i].id));
            at.map(|i| list.swap_remove(i));
            list.push(new);
        } else if roll == 8 {
            let at = r.below(list.len() as u64) as usize;
            let new = Arc::new((*list[at]).clone());
            assert_eq!(c.insert(new.clone()).map(|o| o.id), Some(new.id));
            list[at] = new;
        } else {
            let gone = list.swap_remove(r.below(list.len() as u64) as usize);
            assert_eq!(
                c.remove(&gone.pattern, gone.priority).map(|g| g.id),
                Some(gone.id)
            );
            assert!(c.remove(&gone.pattern, gone.priority).is_none());
        }
        assert_eq!((c.len(), snapshot.len()), (list.len(), before));
        c.publish(version);

        // Cached flows: whose answer changed is told so, for any packet of the flow.
        for f in &mut cached {
            let other = agreeing(&f.key, &random_key(&mut r), &f.mask);
            let holds = f.changes.unchanged(&f.cells, f.since);
            let now = look(&c, f.key, version);
            let others = look(&c, other, version);
            let same = now.rule == f.rule && others.rule == f.rule;
            assert!(!holds || same, "{style:?} seed {seed} step {step}");
            right += usize::from(same);
            told += usize::from(same && !holds);
            if !holds {
                *f = now;
            }
        }
        // Answers and masks.
        let best = |k: &FlowKey| {
            list.iter()
                .filter(|r| matches(r, k))
                .map(|r| r.priority)
                .max()
        };
        for _ in 0..3 {
            let f = look(&c, random_key(&mut r), version);
            let got = c.lookup(&f.key, &mut FlowMask::default());
            assert_eq!(
                got.map(|g| g.priority),
                best(&f.key),
                "{style:?} seed {seed} step {step}"
            );
            assert!(got.is_none_or(|g| matches(g, &f.key)));
            for _ in 0..3 {
                let other = agreeing(&f.key, &random_key(&mut r), &f.mask);
                assert_eq!(
                    c.lookup(&other, &mut FlowMask::default()).map(Arc::as_ptr),
                    f.rule,
                    "{style:?} seed {seed} step {step}: the mask is too small"
                );
                assert_eq!(got.map(|g| g.priority), best(&other));
            }
            match cached.len() {
                0..40 => cached.push(f),
                n => cached[r.below(n as u64) as usize] = f,
            }
        }
        // Selections.
        if step % 16 == 0 {
            let wanted = random_match(style, &mut r);
            let ids = |v: Vec<&Arc<Rule>>| {
                let mut ids: Vec<u64> = v.iter().map(|r| r.id).collect();
                ids.sort_unstable();
                ids
            };
            let within = list
                .iter()
                .filter(|r| r.matching().is_within(&wanted))
                .collect();
            assert_eq!(ids(c.within(&Pattern::new(&wanted))), ids(within));
            let priority = list.first().map_or(0, |r| r.priority);
            let overlaps = list
                .iter()
                .any(|r| r.priority == priority && r.matching().overlaps(&wanted));
            assert_eq!(
                c.overlapping(&Pattern::new(&wanted), priority).is_some(),
                overlaps
            );
            assert_eq!(ids(c.rules()), ids(list.iter().collect()));
            let mut masks: Vec<_> = list.iter().map(|r| r.pattern.mask().clone()).collect();
            masks.sort();
            masks.dedup();
            assert_eq!(c.masks(), masks.len());
        }
    }
    (right, told)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn agrees_with_a_list_through_all_changes(
        style in 0..STYLES.len(),
        seed in any::<u64>(),
        size in 1usize..260,
    ) {
        run(STYLES[style], seed, size, size * 5);
    }
}

#[test]
fn changes_disturb_few() {
    for style in [Style::Exact, Style::Lists] {
        let (right, told) = run(style, 7, 900, 1800);
        // Growth itself rearranges; still almost all flows are left alone.
        assert!(told * 6 < right, "{style:?}: {told} of {right}");
    }
}

#[test]
fn one_match_at_many_priorities() {
    let mut c = Classifier::default();
    let any = Match::new;
    c.insert(rule(1, 5, any()));
    c.insert(rule(2, 9, any()));
    let best = |c: &Classifier| {
        c.lookup(&FlowKey::default(), &mut FlowMask::default())
            .map(|r| r.id)
    };
    assert_eq!(best(&c), Some(2));
    assert_eq!(c.insert(rule(3, 9, any())).map(|r| r.id), Some(2));
    assert_eq!((best(&c), c.len()), (Some(3), 2));
    c.remove(&Pattern::new(&any()), 9);
    assert_eq!(best(&c), Some(1));
    for p in 100..2000 {
        c.insert(rule(p.into(), p, any()));
    }
    assert_eq!((best(&c), c.len(), c.masks()), (Some(1999), 1901, 1));
    assert_eq!(c.tree.shape(), (1, 1));
    for p in (100..2000).rev() {
        assert_eq!(best(&c), Some(p.into()));
        c.remove(&Pattern::new(&any()), p);
    }
    assert_eq!(best(&c), Some(1));
}

#[test]
fn structure_follows_the_rules() {
    let mut c = Classifier::default();
    let exact = |i: u128| matching(&[(Slot::NwDst, i, prefix(32)), (Slot::TpDst, i % 7, 0xffff)]);
    for i in 0..1000 {
        c.insert(rule(i as u64, 10, exact(i)));
    }
    c.insert(rule(5000, 1, Match::new()));
    assert_eq!((c.exact.len(), c.exact[0].len()), (1, 1000));
    assert_eq!(c.tree.shape(), (1, 1));
    for i in 0..995 {
        c.remove(&Pattern::new(&exact(i)), 10);
    }
    assert_eq!((c.exact.len(), c.len(), c.masks()), (0, 6, 2));
    assert_eq!(c.tree.shape(), (1, 6));
}

#[test]
fn prefixes_are_told_apart_by_few_bits() {
    let mut c = Classifier::default();
    for i in 0..4096u128 {
        let m = matching(&[(Slot::NwDst, 10 << 24 | i << 8, prefix(24))]);
        c.insert(rule(i as u64, 24, m));
    }
    c.insert(rule(
        9999,
        8,
        matching(&[(Slot::NwDst, 10 << 24, prefix(8))]),
    ));
    let mut key = FlowKey::default();
    key.set(Slot::NwDst, 0x0a80_0001);
    let mut mask = FlowMask::default();
    assert_eq!(c.lookup(&key, &mut mask).map(|r| r.id), Some(9999));
    // 10.128.0.1 is in 10/8 and in no 10.x.y/24: two bytes tell.
    assert_eq!(
        mask.get(Slot::NwDst) & 0xff,
        0,
        "{:x}",
        mask.get(Slot::NwDst)
    );
}

#[test]
fn every_mask_another() {
    // The naive worst case: as many masks as rules, each wanting zeros, and keys that fit none.
    let mut c = Classifier::default();
    for i in 1..4096u128 {
        c.insert(rule(i as u64, i as u16, matching(&[(Slot::NwDst, 0, i)])));
    }
    assert_eq!(c.masks(), 4095);
    let mut key = FlowKey::default();
    for bits in [0u128, 1, 0xfff, 0x555, 0x800] {
        key.set(Slot::NwDst, bits);
        let mut mask = FlowMask::default();
        let got = c.lookup(&key, &mut mask).map(|r| u128::from(r.priority));
        assert_eq!(got, (1..4096).rev().find(|i| i & bits == 0));
    }
    const LEAF: usize = super::leaf::LEAF_MAX;
    let (depth, longest) = c.tree.shape();
    assert!(depth <= 16 && longest <= LEAF, "{depth} {longest}");
}
