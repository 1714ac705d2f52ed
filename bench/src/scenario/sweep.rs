//! How fast: frame sizes, numbers of flows, numbers and kinds of rules, pipelines, and both kinds of rings.

use super::{Scenario, Wanted, record};
use crate::classbench::{self, GeneratedRule, Header, Kind};
use crate::load::frame::Flows;
use crate::load::{Change, Plan, Size, Source};
use crate::metric::Want;
use crate::peers::{Peer, Setup};
use anyhow::{Result, bail};

/// What the bridge does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bridge {
    /// A rule a port, both ways, and so many flows.
    OneRule(usize),
    /// Learning, both ways.
    Normal,
    /// Exact 5-tuples: rules, flows.
    Exact(usize, usize),
    /// All of a 5-tuple but the source port: rules, flows.
    AlmostExact(usize, usize),
    /// Rules like those of lists found in the wild: rules, flows.
    Wild(Kind, usize, usize),
    /// Three tables, the last of which pushes a VLAN tag on the way there.
    ThreeTables,
    /// Ten tables, each looking at something else.
    TenTables,
}

const SEED: u64 = 7;

/// Rules of a kind, and as many flows inside them. `in_port` 1 goes to port 2.
pub fn wild(kind: Kind, rules: usize, flows: usize) -> (Vec<String>, Vec<Header>) {
    of(&classbench::rules(kind, rules, SEED), flows)
}

/// Exact rules without a source port.
pub fn almost_exact(n: usize) -> Vec<GeneratedRule> {
    let mut list = classbench::rules(Kind::Exact, n, SEED);
    for r in &mut list {
        r.sport = (0, 0);
    }
    list
}

fn of(list: &[GeneratedRule], flows: usize) -> (Vec<String>, Vec<Header>) {
    let mut lines: Vec<String> = list.iter().map(|r| r.line(2)).collect();
    lines.push("priority=0,actions=output:2".into());
    let headers = (0..flows)
        .map(|i| classbench::packet_for(&list[i % list.len()], (i / list.len()) as u64))
        .collect();
    (lines, headers)
}

const TEN: [&str; 9] = [
    "ip",
    "ip,nw_src=0.0.0.0/1",
    "ip,nw_dst=0.0.0.0/1",
    "udp",
    "ip,nw_tos=0",
    "ip,nw_src=0.0.0.0/2",
    "udp,tp_dst=0/0x8000",
    "dl_src=52:54:00:00:00:00/ff:ff:ff:ff:00:00",
    "dl_dst=52:54:00:00:00:00/ff:ff:ff:ff:00:00",
];

impl Bridge {
    /// Flows of the bridge, and traffic from each port.
    pub fn build(self, frame: usize, packed: bool) -> (Plan, Setup) {
        let lines = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let both = |n: usize| {
            vec![
                Some(Source::new(Flows::many(n, frame), 1)),
                Some(Source::new(Flows::many(n, frame), 0)),
            ]
        };
        let one_way =
            |headers: Vec<Header>| vec![Some(Source::new(Flows::list(headers, frame), 1)), None];
        let (rules, sources) = match self {
            Bridge::OneRule(n) => (
                lines(&["in_port=1,actions=output:2", "in_port=2,actions=output:1"]),
                both(n),
            ),
            Bridge::Normal => (lines(&["actions=NORMAL"]), both(1)),
            Bridge::Exact(rules, flows) => {
                let (l, h) = wild(Kind::Exact, rules, flows);
                (l, one_way(h))
            }
            Bridge::AlmostExact(rules, flows) => {
                let list = almost_exact(rules);
                let (l, mut h) = of(&list, flows);
                // Chosen, not drawn: no two flows are the same.
                for (i, h) in h.iter_mut().enumerate() {
                    h.sport = (i / list.len()) as u16 + 1024;
                }
                (l, one_way(h))
            }
            Bridge::Wild(kind, rules, flows) => {
                let (l, h) = wild(kind, rules, flows);
                (l, one_way(h))
            }
            Bridge::ThreeTables => {
                let rules = lines(&[
                    "table=0,in_port=1,actions=goto_table:1",
                    "table=0,in_port=2,actions=output:1",
                    "table=1,ip,actions=goto_table:2",
                    "table=2,in_port=1,dl_dst=52:54:00:00:00:02,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2",
                ]);
                let mut s = both(1);
                if let Some(s) = &mut s[0] {
                    s.change = Change::Vlan(10);
                }
                (rules, s)
            }
            Bridge::TenTables => {
                let mut rules: Vec<String> = TEN
                    .iter()
                    .enumerate()
                    .map(|(i, m)| format!("table={i},{m},actions=goto_table:{}", i + 1))
                    .collect();
                rules.push("table=9,in_port=1,actions=output:2".into());
                rules.push("table=9,in_port=2,actions=output:1".into());
                (rules, both(100))
            }
        };
        let plan = Plan {
            size: Size::Plain(frame),
            packed,
            sources,
        };
        let setup = Setup {
            rules,
            ..Setup::default()
        };
        (plan, setup)
    }

    /// Whether forwarding blindly would do the same to frames.
    fn is_blind(self) -> bool {
        self != Bridge::ThreeTables
    }
}

fn thousands(n: usize) -> String {
    match n {
        n if n >= 1_000_000 => format!("{}m", n / 1_000_000),
        n if n >= 1000 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

fn throughput(
    name: &str,
    about: &str,
    bridge: Bridge,
    frame: usize,
    packed: bool,
    wants: &'static [Want],
) -> Scenario {
    Scenario::new(name, about, move |run, name| {
        for &w in wants {
            run.table.want(&format!("{name}.mpps"), w);
        }
        run.alternate(
            name,
            |kind| {
                Ok((kind != Peer::TestpmdForward || bridge.is_blind())
                    .then(|| bridge.build(frame, packed)))
            },
            |subject, table| {
                let s = subject.measure(name, Wanted::OPEN)?;
                record(table, name, subject.kind, &s);
                Ok(())
            },
        );
        Ok(())
    })
}

const BLIND: &[Want] = &[Want::Ratio(Peer::TestpmdForward, 1.0)];
const BLIND_LONG: &[Want] = &[Want::Ratio(Peer::TestpmdForward, 1.25)];
const HALF_AGAIN: &[Want] = &[Want::Ratio(Peer::OvsDpdk, 1.5)];
const TWICE: &[Want] = &[Want::Ratio(Peer::OvsDpdk, 2.0)];
const THRICE: &[Want] = &[Want::Ratio(Peer::OvsDpdk, 3.0)];

/// The sweep.
pub fn scenarios() -> Vec<Scenario> {
    let mut list = vec![];
    for frame in [64, 512, 1500] {
        let blind = match frame {
            64 => BLIND,
            1500 => BLIND_LONG,
            _ => &[],
        };
        list.push(throughput(
            &format!("{frame}/one-rule"),
            &format!("{frame}-byte frames, one rule a port, both ways"),
            Bridge::OneRule(1),
            frame,
            false,
            blind,
        ));
        list.push(throughput(
            &format!("{frame}/normal"),
            &format!("{frame}-byte frames, NORMAL, both ways"),
            Bridge::Normal,
            frame,
            false,
            blind,
        ));
    }
    for flows in [100, 10_000, 1_000_000] {
        list.push(throughput(
            &format!("64/rules-1-flows-{}", thousands(flows)),
            &format!("{flows} flows each way, one rule a port"),
            Bridge::OneRule(flows),
            64,
            false,
            if flows == 1_000_000 { THRICE } else { &[] },
        ));
    }
    for (rules, flows, frame, wants) in [
        (100, 100, 64, &[][..]),
        (1000, 1000, 64, TWICE),
        (1000, 1000, 512, &[]),
        (1000, 1000, 1500, &[]),
        (10_000, 10_000, 64, THRICE),
        (100_000, 10_000, 64, &[]),
        (100_000, 100_000, 64, &[]),
    ] {
        list.push(throughput(
            &format!(
                "{frame}/rules-{}-flows-{}",
                thousands(rules),
                thousands(flows)
            ),
            &format!("{flows} flows over {rules} exact UDP rules, one way"),
            Bridge::Exact(rules, flows),
            frame,
            false,
            wants,
        ));
    }
    list.push(throughput(
        "64/rules-10k-flows-1m",
        "a million flows over 10,000 rules (all but the source port), one way",
        Bridge::AlmostExact(10_000, 1_000_000),
        64,
        false,
        THRICE,
    ));
    for kind in [Kind::Acl, Kind::Firewall, Kind::Chain] {
        for rules in [1000, 10_000, 100_000] {
            list.push(throughput(
                &format!("64/{}-{}-flows-10k", kind.name(), thousands(rules)),
                &format!("10,000 flows over {rules} ClassBench-like rules, one way"),
                Bridge::Wild(kind, rules, 10_000),
                64,
                false,
                &[],
            ));
        }
    }
    list.push(throughput(
        "64/three-tables-vlan",
        "three tables, VLAN push one way",
        Bridge::ThreeTables,
        64,
        false,
        HALF_AGAIN,
    ));
    list.push(throughput(
        "64/ten-tables",
        "ten tables that look at different fields, 100 flows each way",
        Bridge::TenTables,
        64,
        false,
        HALF_AGAIN,
    ));
    list.push(Scenario::new(
        "64/vxlan",
        "VXLAN on both ways",
        |_, _| -> Result<()> { bail!("not supported yet: weir has no tunnel ports") },
    ));
    for (name, about, bridge, wants) in [
        ("one-rule", "one rule a port", Bridge::OneRule(1), BLIND),
        ("normal", "NORMAL", Bridge::Normal, BLIND),
        (
            "rules-1k-flows-1k",
            "1,000 flows over 1,000 exact UDP rules",
            Bridge::Exact(1000, 1000),
            TWICE,
        ),
        (
            "rules-10k-flows-10k",
            "10,000 flows over 10,000 exact UDP rules",
            Bridge::Exact(10_000, 10_000),
            THRICE,
        ),
    ] {
        list.push(throughput(
            &format!("packed/64/{name}"),
            &format!("64-byte frames, packed rings, {about}"),
            bridge,
            64,
            true,
            wants,
        ));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn flows_are_as_many_as_the_name_says() {
        for (bridge, n) in [
            (Bridge::OneRule(100), 100),
            (Bridge::Exact(100, 100), 100),
            (Bridge::AlmostExact(100, 5000), 5000),
        ] {
            let (plan, setup) = bridge.build(64, false);
            let Some(Source {
                flows: Flows::List(l),
                ..
            }) = &plan.sources[0]
            else {
                panic!("a list");
            };
            let different: HashSet<[u8; 16]> = l.iter().map(|p| p.0).collect();
            assert_eq!((l.len(), different.len()), (n, n));
            assert!(!setup.rules.is_empty());
        }
    }
}
