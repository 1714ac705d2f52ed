//! Conjunctions against what ovs-fields(7) says, rule by rule.

use super::*;
use openflow::{Action, FieldId, Instructions, Match};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Sketch {
    priority: u16,
    matching: Match,
    /// Of a clause: conjunction, clause.
    clauses: Vec<(u32, u8)>,
}

/// Clauses in each conjunction, by its number.
const CLAUSES: [u8; 3] = [2, 3, 2];

fn rule(id: u64, s: &Sketch) -> Arc<Rule> {
    let conjunction = |&(id, clause): &(u32, u8)| Action::Conjunction {
        id,
        clause,
        clauses: CLAUSES[id as usize],
    };
    Arc::new(Rule {
        id,
        table: 0,
        priority: s.priority,
        pattern: Pattern::new(&s.matching),
        instructions: Arc::new(Instructions::apply(
            s.clauses.iter().map(conjunction).collect(),
        )),
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

fn matches() -> impl Strategy<Value = Match> {
    let one = (
        0usize..4,
        0u128..4,
        prop_oneof![Just(3u128), Just(1), Just(2)],
    );
    proptest::collection::vec(one, 0..3).prop_map(|list| {
        let mut m = Match::new();
        for (field, v, mask) in list {
            match field {
                0 => m.set_masked(FieldId::EthSrc, v, mask),
                1 => m.set_masked(FieldId::EthDst, v, mask),
                2 => m.set_masked(FieldId::Reg0, v, mask),
                _ => m.set(FieldId::InPort, v),
            }
        }
        m
    })
}

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let clause = (0u32..3, 0u8..3).prop_map(|(id, c)| (id, c % CLAUSES[id as usize]));
    let one = (
        0u16..5,
        matches(),
        prop_oneof![
            3 => proptest::collection::vec(clause, 1..3),
            1 => Just(Vec::new()),
        ],
        proptest::option::weighted(0.3, 0u128..3),
    );
    let one = one.prop_map(|(priority, mut matching, clauses, conj)| {
        if let (true, Some(id)) = (clauses.is_empty(), conj) {
            matching.set(FieldId::ConjId, id + 1);
        }
        // Ids begin with one where they are matched.
        let clauses = clauses.into_iter().collect();
        Sketch {
            priority,
            matching,
            clauses,
        }
    });
    proptest::collection::vec(one, 1..40)
}

fn key(words: (u64, u64, u64, u64)) -> FlowKey {
    let mut k = FlowKey::default();
    k.set(Slot::EthSrc, words.0.into());
    k.set(Slot::EthDst, words.1.into());
    k.set(Slot::Xxreg0, u128::from(words.2) << 96);
    k.set(Slot::InPort, words.3.into());
    k
}

/// The best plain rule, one rule after the other.
fn plain<'a>(rules: &'a [Arc<Rule>], key: &FlowKey) -> Option<&'a Arc<Rule>> {
    let plain = rules
        .iter()
        .filter(|r| !is_clause(r) && r.pattern.matches(key));
    plain.max_by_key(|r| r.priority)
}

/// What is found, by the words of the manual.
fn naive<'a>(rules: &'a [Arc<Rule>], key: &FlowKey) -> Option<&'a Arc<Rule>> {
    let hard = plain(rules, key);
    for priority in (0..5).rev() {
        if hard.is_some_and(|h| h.priority >= priority) {
            break;
        }
        let mut clauses: Vec<_> = rules
            .iter()
            .filter(|r| is_clause(r) && r.priority == priority && r.pattern.matches(key))
            .collect();
        clauses.sort_by_key(|r| r.id);
        let mut seen = std::collections::HashSet::new();
        let mut met = None;
        for a in clauses.iter().flat_map(|r| &r.instructions.apply) {
            if let Action::Conjunction {
                id,
                clause,
                clauses,
            } = a
            {
                seen.insert((id, clause));
                let n = seen.iter().filter(|(i, _)| i == &id).count();
                if met.is_none() && n == usize::from(*clauses) {
                    met = Some(*id);
                }
            }
        }
        if let Some(id) = met {
            let mut joined = *key;
            joined.set(Slot::ConjId, id.into());
            let found = plain(rules, &joined);
            if found.is_some() {
                return found;
            }
        }
    }
    hard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn conjunctions_are_what_the_manual_says(
        sketches in sketches(),
        gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        keys in proptest::collection::vec((0u64..4, 0u64..4, 0u64..4, 0u64..4), 60),
    ) {
        let mut c = Classifier::default();
        let mut rules: Vec<Arc<Rule>> = Vec::new();
        for (id, s) in sketches.iter().enumerate() {
            let r = rule(id as u64, s);
            let same = |o: &Arc<Rule>| o.priority == r.priority && o.pattern == r.pattern;
            let old = rules.iter().position(same).map(|i| rules.remove(i));
            prop_assert_eq!(c.insert(r.clone()).map(|r| r.id), old.map(|r| r.id));
            rules.push(r);
        }
        for g in &gone {
            if rules.is_empty() {
                break;
            }
            let r = rules.remove(g.index(rules.len()));
            prop_assert_eq!(c.remove(&r.pattern, r.priority).map(|r| r.id), Some(r.id));
        }
        prop_assert_eq!(c.len(), rules.len());
        prop_assert_eq!(c.rules().len(), rules.len());
        let keys: Vec<FlowKey> = keys.into_iter().map(key).collect();
        for k in &keys {
            let mut mask = FlowMask::default();
            let found = c.lookup(k, &mut mask).map(|r| r.id);
            // Of several plain rules of one priority any may be found.
            let wanted = naive(&rules, k);
            let by_id = |id: u64| rules.iter().find(|r| r.id == id).unwrap().priority;
            prop_assert_eq!(found.map(by_id), wanted.map(|r| r.priority));
            for other in &keys {
                let agrees = (0..crate::flow::WORDS).all(|i| (k.0[i] ^ other.0[i]) & mask.0[i] == 0);
                if agrees {
                    prop_assert_eq!(c.lookup(other, &mut FlowMask::default()).map(|r| r.id), found);
                }
            }
        }
    }
}

#[test]
fn who_depends_on_clauses_looks_again_when_they_change() {
    let mut c = Classifier::default();
    let clause = |id: u64, clause, port| {
        rule(
            id,
            &Sketch {
                priority: 4,
                matching: Match::new().with(FieldId::InPort, port),
                clauses: vec![(0, clause)],
            },
        )
    };
    let key = key((0, 0, 0, 1));
    let mut version = 0;
    let mut since = (Cells::default(), c.changes().clone());
    let mut check = |c: &mut Classifier, changed: bool| {
        version += 1;
        c.publish(version);
        assert_eq!(since.1.unchanged(&since.0, version - 1), !changed);
        let mut cells = Cells::default();
        c.lookup_noting(&key, &mut FlowMask::default(), &mut cells);
        since = (cells, c.changes().clone());
    };
    check(&mut c, false);
    let one = clause(1, 0, 1);
    c.insert(one.clone());
    check(&mut c, true);
    c.insert(clause(2, 1, 2));
    check(&mut c, true);
    c.remove(&one.pattern, 4);
    check(&mut c, true);
    check(&mut c, false);
}
