//! Rules that no packet can match.
//!
//! Rules of one table are put together by the bits they look at, their *mask*: there are far fewer masks than rules. A rule
//! is shadowed by one of another mask only if that mask is within its own, and then there is one place to look: under the
//! rule's own values. So the cost is rules times masks, each a look into a hash table.
//!
//! A rule may also be shadowed by several that each take a part of its packets. For rules that few others overlap this is
//! found by cutting what the others take out of the rule's own packets, bit by bit, until nothing is left or something is.

use super::{Bridge, Finding, Kind, finding, rule};
use openflow::action::LearnTarget;
use openflow::{Action, FieldId, FlowStats, PortNo, Slot};
use std::collections::HashMap;

/// Most looks at rules of other masks, all tables together: a few seconds.
const LOOKS_MAX: usize = 100_000_000;
/// Most rules that together shadow one.
const UNION_MAX: usize = 16;
/// Most pieces a rule's packets are cut into.
const PIECES_MAX: usize = 2_000;

/// The bits of a match, slot by slot.
type Bits = Vec<(Slot, u128)>;

/// Rules of one mask, of one table.
struct Group {
    mask: Bits,
    /// By value under the mask, the rule of highest priority: its index.
    best: HashMap<Vec<u128>, usize>,
    rules: Vec<usize>,
    /// The highest priority of all.
    top: u16,
}

pub fn check(b: &Bridge) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tables: HashMap<u8, Vec<usize>> = HashMap::new();
    for (i, f) in b.flows.iter().enumerate() {
        tables.entry(f.table).or_default().push(i);
    }
    let alone = outside(b);
    let mut looks = 0;
    for rules in tables.values() {
        let groups = group(&b.flows, rules);
        for (g, own) in groups.iter().enumerate() {
            // Masks within this one, and all others.
            let within: Vec<usize> = (0..groups.len())
                .filter(|&o| groups[o].top >= 1 && is_within(&groups[o].mask, &own.mask))
                .collect();
            looks += own.rules.len() * within.len();
            if looks > LOOKS_MAX {
                break;
            }
            for &i in &own.rules {
                let f = &b.flows[i];
                if let Some(text) = impossible(b, f, &alone) {
                    found.push(finding(Kind::NeverMatches, f, text));
                    continue;
                }
                let single = within
                    .iter()
                    .filter(|&&o| groups[o].top > f.priority)
                    .find_map(|&o| {
                        let s = *groups[o].best.get(&values(f, &groups[o].mask))?;
                        (b.flows[s].priority > f.priority).then_some(s)
                    });
                if let Some(s) = single {
                    let text =
                        format!("never matches: {} takes all its packets", rule(&b.flows[s]));
                    found.push(finding(Kind::Shadowed, f, text));
                    continue;
                }
                if let Some(by) = union(b, &groups, g, f, &mut looks) {
                    let names: Vec<String> = by.iter().map(|&s| rule(&b.flows[s])).collect();
                    let text = format!(
                        "never matches: {} together take all its packets",
                        names.join(" and ")
                    );
                    found.push(finding(Kind::Shadowed, f, text));
                }
            }
        }
    }
    if looks > LOOKS_MAX {
        found.push(Finding {
            kind: Kind::Unfinished,
            table: None,
            rule: None,
            text: format!("not all rules were compared: there are more than {LOOKS_MAX} pairs of rule and mask"),
        });
    }
    found
}

fn group(flows: &[FlowStats], rules: &[usize]) -> Vec<Group> {
    let mut at: HashMap<Bits, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for &i in rules {
        let f = &flows[i];
        let mask: Bits = f
            .matching
            .entries()
            .iter()
            .map(|e| (e.slot, e.mask))
            .collect();
        let g = *at.entry(mask.clone()).or_insert_with(|| {
            groups.push(Group {
                mask,
                best: HashMap::new(),
                rules: Vec::new(),
                top: 0,
            });
            groups.len() - 1
        });
        let g = &mut groups[g];
        g.rules.push(i);
        g.top = g.top.max(f.priority);
        let best = g.best.entry(values(f, &g.mask)).or_insert(i);
        if flows[*best].priority < f.priority {
            *best = i;
        }
    }
    groups
}

/// A rule's values under a mask.
fn values(f: &FlowStats, mask: &Bits) -> Vec<u128> {
    let of = |(slot, bits): &(Slot, u128)| f.matching.slot(*slot).0 & bits;
    mask.iter().map(of).collect()
}

/// Whether every bit of `a` is one of `b`.
fn is_within(a: &Bits, b: &Bits) -> bool {
    a.iter().all(|(slot, bits)| {
        b.iter()
            .find(|(s, _)| s == slot)
            .is_some_and(|(_, other)| bits & other == *bits)
    })
}

/// A few rules of higher priority that together take all packets of a rule.
fn union(
    b: &Bridge,
    groups: &[Group],
    own: usize,
    f: &FlowStats,
    looks: &mut usize,
) -> Option<Vec<usize>> {
    let mut few = Vec::new();
    for (g, other) in groups.iter().enumerate() {
        if g == own || other.top <= f.priority {
            continue;
        }
        // With many rules of a mask, those that overlap would have to be searched for; they are seldom few.
        if other.rules.len() > UNION_MAX * 4 {
            continue;
        }
        *looks += other.rules.len();
        if *looks > LOOKS_MAX {
            return None;
        }
        for &i in &other.rules {
            let o = &b.flows[i];
            if o.priority > f.priority && o.matching.overlaps(&f.matching) {
                few.push(i);
                if few.len() > UNION_MAX {
                    return None;
                }
            }
        }
    }
    if few.len() < 2 {
        return None;
    }
    let mut used = Vec::new();
    let cube: Vec<(Slot, u128, u128)> = f
        .matching
        .entries()
        .iter()
        .map(|e| (e.slot, e.value, e.mask))
        .collect();
    let mut pieces = 0;
    covered(&b.flows, &few, cube, &mut used, &mut pieces).then(|| {
        used.sort_unstable();
        used.dedup();
        used
    })
}

/// Whether the packets of `cube` are all taken by `rules`; those that were needed are added to `used`.
fn covered(
    flows: &[FlowStats],
    rules: &[usize],
    mut cube: Vec<(Slot, u128, u128)>,
    used: &mut Vec<usize>,
    pieces: &mut usize,
) -> bool {
    *pieces += 1;
    if *pieces > PIECES_MAX {
        return false;
    }
    let Some((&first, rest)) = rules.split_first() else {
        return false;
    };
    let m = &flows[first].matching;
    let mut disjoint = false;
    let mut open = Vec::new();
    for e in m.entries() {
        let (value, mask) = cube
            .iter()
            .find(|c| c.0 == e.slot)
            .map_or((0, 0), |c| (c.1, c.2));
        disjoint |= (value ^ e.value) & mask & e.mask != 0;
        if e.mask & !mask != 0 {
            open.push((e.slot, e.value, e.mask & !mask));
        }
    }
    if disjoint {
        return covered(flows, rest, cube, used, pieces);
    }
    used.push(first);
    // What this rule does not take: for each bit that it looks at beside, the packets that differ there first.
    for (slot, value, bits) in open {
        for n in (0..128).filter(|n| bits >> n & 1 != 0) {
            let bit = 1u128 << n;
            let mut piece = cube.clone();
            narrow(&mut piece, slot, !value & bit, bit);
            if !covered(flows, rest, piece, used, pieces) {
                return false;
            }
            narrow(&mut cube, slot, value & bit, bit);
        }
    }
    true
}

fn narrow(cube: &mut Vec<(Slot, u128, u128)>, slot: Slot, value: u128, bit: u128) {
    match cube.iter_mut().find(|c| c.0 == slot) {
        Some(c) => {
            c.1 = c.1 & !bit | value;
            c.2 |= bit;
        }
        None => cube.push((slot, value, bit)),
    }
}

/// Slots that are zero when a packet comes in, and that only actions fill.
const FILLED_IN: &[Slot] = &[
    Slot::Metadata,
    Slot::Xxreg0,
    Slot::Xxreg1,
    Slot::Xxreg2,
    Slot::Xxreg3,
];

/// Which tables are looked up with a packet as it came only.
fn outside(b: &Bridge) -> [bool; 256] {
    let mut alone = [false; 256];
    let mut again = [false; 256];
    for f in &b.flows {
        if let Some(t) = f.instructions.goto_table {
            again[usize::from(t)] = true;
        }
        for t in super::graph::resubmits(b, f) {
            again[usize::from(t)] = true;
        }
    }
    alone[0] = !again[0];
    alone
}

/// Why no packet is such as a rule wants, whatever other rules there are.
fn impossible(b: &Bridge, f: &FlowStats, alone: &[bool; 256]) -> Option<String> {
    let m = &f.matching;
    let (tci, mask) = m.slot(Slot::VlanTci);
    if mask & 0x1000 != 0 && tci & 0x1000 == 0 && tci != 0 {
        return Some("never matches: it wants bits of a VLAN tag, and no tag".into());
    }
    let (frag, mask) = m.slot(Slot::NwFrag);
    if mask & 3 == 3 && frag & 3 == 2 {
        return Some("never matches: what is no fragment is no later fragment".into());
    }
    if let Some(port) = m.exact(FieldId::InPort) {
        let port = PortNo(port as u32);
        let known = b.ports.iter().any(|p| p.port == port);
        let other = matches!(port, PortNo::CONTROLLER | PortNo::ANY | PortNo::LOCAL);
        if !known && !other && !rewritten(b, Slot::InPort) {
            return Some(format!("never matches: there is no port {port}"));
        }
    }
    if alone[usize::from(f.table)] {
        let filled = m
            .entries()
            .iter()
            .find(|e| FILLED_IN.contains(&e.slot) && e.value != 0);
        if filled.is_some() {
            return Some(
                "never matches: registers and metadata are zero in the first table, and no rule sends packets there again"
                    .into(),
            );
        }
    }
    None
}

/// Whether some rule changes a slot, or looks a packet up as if it had another value there.
fn rewritten(b: &Bridge, slot: Slot) -> bool {
    let mut found = false;
    for f in &b.flows {
        super::actions_of(f, &mut |a| {
            found |= match a {
                Action::SetField { field, .. } => field.info().slot == slot,
                Action::Load { target, .. } | Action::Move { target, .. } | Action::Pop(target) => {
                    target.field.info().slot == slot
                }
                Action::Resubmit { in_port, .. } => slot == Slot::InPort && in_port.is_some(),
                Action::Learn(l) => l.specs.iter().any(
                    |s| matches!(s.target, LearnTarget::Load(t) if t.field.info().slot == slot),
                ),
                _ => false,
            };
        });
        if found {
            return true;
        }
    }
    false
}
