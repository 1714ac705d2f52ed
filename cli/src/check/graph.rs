//! Tables as a graph: which are never reached, and where packets may go round.

use super::{Bridge, Finding, Kind, each_action, rule};
use openflow::{Action, FlowStats};
use std::collections::{BTreeMap, BTreeSet};

/// Tables that actions of a list send packets to from `table`, through groups too.
fn targets(
    b: &Bridge,
    table: u8,
    list: &[Action],
    groups: &mut BTreeSet<u32>,
    to: &mut BTreeSet<u8>,
) {
    let mut used = Vec::new();
    each_action(list, &mut |a| match a {
        Action::Resubmit { table: t, .. } => {
            to.insert(t.unwrap_or(table));
        }
        Action::Ct(c) => to.extend(c.table),
        Action::Group(g) => used.push(*g),
        _ => {}
    });
    for g in used {
        if groups.insert(g)
            && let Some(g) = b.groups.iter().find(|d| d.group == g)
        {
            for bucket in &g.buckets {
                targets(b, table, &bucket.actions, groups, to);
            }
        }
    }
}

/// Tables that a rule resubmits packets to.
pub fn resubmits(b: &Bridge, f: &FlowStats) -> BTreeSet<u8> {
    let mut to = BTreeSet::new();
    let mut groups = BTreeSet::new();
    targets(b, f.table, &f.instructions.apply, &mut groups, &mut to);
    targets(b, f.table, &f.instructions.write, &mut groups, &mut to);
    to
}

pub fn check(b: &Bridge) -> Vec<Finding> {
    // An example of a rule for every way from one table to another.
    let mut edges: BTreeMap<u8, BTreeMap<u8, &FlowStats>> = BTreeMap::new();
    for f in &b.flows {
        let from = edges.entry(f.table).or_default();
        for t in resubmits(b, f).into_iter().chain(f.instructions.goto_table) {
            from.entry(t).or_insert(f);
        }
    }
    let mut found = unreached(b, &edges);
    found.extend(circles(&edges));
    found
}

fn unreached(b: &Bridge, edges: &BTreeMap<u8, BTreeMap<u8, &FlowStats>>) -> Vec<Finding> {
    let mut reached = BTreeSet::from([0u8]);
    let mut next = vec![0u8];
    while let Some(t) = next.pop() {
        for &to in edges.get(&t).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to) {
                next.push(to);
            }
        }
    }
    let mut rules: BTreeMap<u8, usize> = BTreeMap::new();
    for f in &b.flows {
        *rules.entry(f.table).or_default() += 1;
    }
    rules
        .into_iter()
        .filter(|(t, _)| !reached.contains(t))
        .map(|(t, n)| Finding {
            kind: Kind::Unreached,
            table: Some(t),
            rule: None,
            text: format!("table {t}: nothing sends packets to it (it has {n} rules)"),
        })
        .collect()
}

/// Tables in circles, one finding for each set of tables that lead to one another.
fn circles(edges: &BTreeMap<u8, BTreeMap<u8, &FlowStats>>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for &start in edges.keys() {
        if told.contains(&start) {
            continue;
        }
        let Some(way) = way_back(edges, start) else {
            continue;
        };
        told.extend(way.iter().copied());
        let rules: Vec<String> = way
            .windows(2)
            .filter_map(|w| edges.get(&w[0])?.get(&w[1]).map(|f| rule(f)))
            .collect();
        let tables: Vec<String> = way.iter().map(ToString::to_string).collect();
        found.push(Finding {
            kind: Kind::Loop,
            table: Some(start),
            rule: None,
            text: format!(
                "tables {} send packets in a circle, by {}: one that goes round is dropped when it is too deep",
                tables.join(" -> "),
                rules.join(" and ")
            ),
        });
    }
    found
}

/// The shortest way from a table back to it.
fn way_back(edges: &BTreeMap<u8, BTreeMap<u8, &FlowStats>>, start: u8) -> Option<Vec<u8>> {
    let mut came: BTreeMap<u8, u8> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(t) = queue.pop_front() {
        for &to in edges.get(&t).into_iter().flat_map(BTreeMap::keys) {
            if to == start {
                let mut way = vec![start, t];
                let mut at = t;
                while at != start {
                    at = came[&at];
                    way.push(at);
                }
                if t == start {
                    way.truncate(2);
                }
                way.reverse();
                return Some(way);
            }
            if let std::collections::btree_map::Entry::Vacant(e) = came.entry(to) {
                e.insert(t);
                queue.push_back(to);
            }
        }
    }
    None
}
