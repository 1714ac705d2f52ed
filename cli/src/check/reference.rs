//! What rules and groups speak of that is not there.

use super::{Bridge, Finding, Kind, actions_of, each_action, finding};
use openflow::{Action, Bucket, FieldId, FlowStats, GroupDesc, GroupType, PortNo};
use std::collections::{BTreeMap, BTreeSet};

pub fn check(b: &Bridge) -> Vec<Finding> {
    let mut found = Vec::new();
    for f in &b.flows {
        let mut missing = BTreeSet::new();
        actions_of(f, &mut |a| absent(b, a, &mut missing));
        if let Some(m) = f.instructions.meter
            && !b.meters.contains(&m)
        {
            missing.insert((Kind::NoMeter, m));
        }
        found.extend(
            missing
                .into_iter()
                .map(|(kind, n)| finding(kind, f, words(kind, n))),
        );
    }
    for g in &b.groups {
        found.extend(group(b, g));
    }
    found.extend(conjunctions(&b.flows));
    found
}

fn words(kind: Kind, n: u32) -> String {
    match kind {
        Kind::NoPort => format!("outputs to port {n}, which does not exist"),
        Kind::NoGroup => format!("uses group {n}, which does not exist"),
        _ => format!("uses meter {n}, which does not exist"),
    }
}

/// What an action speaks of that is not there.
fn absent(b: &Bridge, a: &Action, missing: &mut BTreeSet<(Kind, u32)>) {
    let mut port = |p: PortNo| {
        let real = p.is_physical() || p == PortNo::LOCAL;
        if real && !b.ports.iter().any(|d| d.port == p) {
            missing.insert((Kind::NoPort, p.0));
        }
    };
    match a {
        Action::Output { port: p, .. }
        | Action::OutputTrunc { port: p, .. }
        | Action::Enqueue { port: p, .. } => port(*p),
        Action::Bundle(s) => s.ports.iter().copied().for_each(port),
        Action::Group(g) if !b.groups.iter().any(|d| d.group == *g) => {
            missing.insert((Kind::NoGroup, *g));
        }
        Action::Meter(m) | Action::Controller { meter: Some(m), .. } if !b.meters.contains(m) => {
            missing.insert((Kind::NoMeter, *m));
        }
        _ => {}
    }
}

fn of_group(kind: Kind, text: String) -> Finding {
    Finding {
        kind,
        table: None,
        rule: None,
        text,
    }
}

fn group(b: &Bridge, g: &GroupDesc) -> Vec<Finding> {
    let id = g.group;
    let mut found = Vec::new();
    for bucket in &g.buckets {
        let mut missing = BTreeSet::new();
        each_action(&bucket.actions, &mut |a| absent(b, a, &mut missing));
        for (kind, n) in missing {
            let text = format!("group {id}, bucket {}: {}", bucket.id, words(kind, n));
            found.push(of_group(kind, text));
        }
    }
    if g.buckets.is_empty() {
        found.push(of_group(
            Kind::NoBuckets,
            format!("group {id} has no buckets"),
        ));
    } else if matches!(g.kind, GroupType::Select | GroupType::FastFailover)
        && !g
            .buckets
            .iter()
            .any(|x| live(b, g, x, &mut BTreeSet::new()))
    {
        let text = format!("group {id} has no live bucket: it sends packets nowhere");
        found.push(of_group(Kind::NoLiveBucket, text));
    }
    found
}

/// Whether a bucket is live: what it watches is (OpenFlow 1.3.5 6.5). One of a select group need not watch anything.
fn live(b: &Bridge, g: &GroupDesc, bucket: &Bucket, seen: &mut BTreeSet<u32>) -> bool {
    let port = bucket.watch_port;
    let watches = port != PortNo::ANY || bucket.watch_group.is_some();
    if !watches {
        return g.kind != GroupType::FastFailover;
    }
    let up = |p: &openflow::PortDesc| p.port == port && !p.link_down && !p.config.port_down;
    port != PortNo::ANY && b.ports.iter().any(up)
        || bucket.watch_group.is_some_and(|w| {
            seen.insert(w)
                && b.groups
                    .iter()
                    .find(|d| d.group == w)
                    .is_some_and(|d| d.buckets.iter().any(|x| live(b, d, x, seen)))
        })
}

/// Clauses of one conjunction in one table: an example of a rule, how many there are said to be, which are there.
struct Clauses<'a> {
    rule: &'a FlowStats,
    of: u8,
    there: BTreeSet<u8>,
    agreed: bool,
}

fn conjunctions(flows: &[FlowStats]) -> Vec<Finding> {
    let mut all: BTreeMap<(u8, u32), Clauses> = BTreeMap::new();
    let mut wanted: BTreeMap<(u8, u32), &FlowStats> = BTreeMap::new();
    for f in flows {
        if let Some(id) = f.matching.exact(FieldId::ConjId) {
            wanted.entry((f.table, id as u32)).or_insert(f);
        }
        actions_of(f, &mut |a| {
            let Action::Conjunction {
                id,
                clause,
                clauses,
            } = a
            else {
                return;
            };
            let c = all.entry((f.table, *id)).or_insert_with(|| Clauses {
                rule: f,
                of: *clauses,
                there: BTreeSet::new(),
                agreed: true,
            });
            c.agreed &= c.of == *clauses;
            c.there.insert(*clause);
        });
    }
    let mut found = Vec::new();
    for ((table, id), c) in &all {
        let missing: Vec<String> = (0..c.of)
            .filter(|k| !c.there.contains(k))
            .map(|k| format!("{}/{}", k + 1, c.of))
            .collect();
        if !c.agreed {
            let text = format!("conjunction {id}: rules disagree on how many clauses it has");
            found.push(finding(Kind::Conjunction, c.rule, text));
        } else if !missing.is_empty() {
            let text = format!(
                "conjunction {id}: no rule has clause {}",
                missing.join(" or ")
            );
            found.push(finding(Kind::Conjunction, c.rule, text));
        }
        if !wanted.contains_key(&(*table, *id)) {
            let text = format!("conjunction {id}: no rule of the table matches conj_id={id}");
            found.push(finding(Kind::Conjunction, c.rule, text));
        }
    }
    for ((table, id), f) in &wanted {
        if !all.contains_key(&(*table, *id)) {
            let text = format!("conj_id={id}: no rule of the table is a clause of it");
            found.push(finding(Kind::Conjunction, f, text));
        }
    }
    found
}
