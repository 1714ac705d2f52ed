//! Traffic chosen against the switch: headers that make wildcard caches explode, and flows that nobody has seen before.

use super::{Scenario, WINDOW, Wanted, sweep};
use crate::classbench::{self, GeneratedRule, Kind};
use crate::load::frame::{Flows, Patch};
use crate::load::{Pace, Plan, Size, Source};
use crate::metric::Want;
use crate::peers::{Peer, Setup};

/// Masks of the access list.
const MASKS: usize = 200;
/// One packet in so many is the attacker's.
const ONE_IN: u32 = 100;
/// Flows of the clean traffic.
const CLEAN: usize = 10_000;
/// What the attacker's port sends per second while the other ports are measured.
const ATTACKERS_RATE: f64 = 1e6;

fn explosion() -> (Plan, Setup) {
    let e = classbench::explosion(MASKS);
    let mut rules: Vec<String> = e.rules.iter().map(|r| r.line(2)).collect();
    rules.push("priority=65535,in_port=3,actions=output:4".into());
    rules.push("priority=65535,in_port=4,actions=output:3".into());
    let headers = e.headers.iter().map(|h| Patch::new(h, 64)).collect();
    let mut attacked = Source::new(Flows::many(CLEAN, 64), 1);
    attacked.attack = Some((ONE_IN - 1, headers));
    let plan = Plan {
        size: Size::Plain(64),
        packed: false,
        sources: vec![
            Some(attacked),
            None,
            Some(Source::new(Flows::many(CLEAN, 64), 3)),
            None,
        ],
    };
    let setup = Setup {
        rules,
        ..Setup::default()
    };
    (plan, setup)
}

fn new_flows(
    name: &'static str,
    about: &'static str,
    rules: fn() -> Vec<GeneratedRule>,
) -> Scenario {
    Scenario::new(name, about, move |run, name| {
        run.table
            .want(&format!("{name}.kpps"), Want::Ratio(Peer::OvsDpdk, 10.0));
        let list = rules();
        run.alternate(
            name,
            |kind| {
                let mut rules: Vec<String> = list.iter().map(|r| r.line(2)).collect();
                rules.push("priority=0,actions=output:2".into());
                let plan = Plan {
                    size: Size::Plain(64),
                    packed: false,
                    sources: vec![Some(Source::new(Flows::endless(&list, 64, 3), 1)), None],
                };
                let setup = Setup {
                    rules,
                    ..Setup::default()
                };
                Ok((kind != Peer::TestpmdForward).then_some((plan, setup)))
            },
            |subject, table| {
                // A switch that sweeps its flows does so on the traffic's processor, which has time to spare at these rates.
                let wanted = Wanted {
                    time: 2 * WINDOW,
                    shares: (super::WHOLE, 0.2),
                    ..Wanted::OPEN
                };
                let s = subject.measure(name, wanted)?;
                let (kind, d) = (subject.kind, Some(s.distance));
                let rate = s.window.rate();
                table.add(&format!("{name}.kpps"), "kpps", kind, rate / 1e3, d);
                table.add(
                    &format!("{name}.per-cpu-second"),
                    "kpackets per CPU second",
                    kind,
                    rate / 1e3 / s.switch_cpu,
                    d,
                );
                if let Some(c) = s.cycles {
                    table.add(&format!("{name}.cycles"), "cycles/packet", kind, c, d);
                }
                Ok(())
            },
        );
        Ok(())
    })
}

/// Explosion and new flows.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "explosion",
            "an access list of 200 masks; 1 packet in 100 chosen against it; the same port, and another pair of ports while the attacker sends 1 Mpps",
            |run, name| {
                run.table.want(&format!("{name}.kept"), Want::AtLeast(70.0));
                run.table
                    .want(&format!("{name}.others-kept"), Want::AtLeast(95.0));
                run.alternate(
                    name,
                    |kind| Ok((kind != Peer::TestpmdForward).then(explosion)),
                    |subject, table| {
                        let kind = subject.kind;
                        let mut figure = |metric: &str,
                                          ports: &[usize],
                                          attack: bool,
                                          out: usize|
                         -> anyhow::Result<(f64, f64)> {
                            subject.load.only(ports);
                            subject.load.attack(attack);
                            let pace = match ports {
                                [_] => Pace::Open,
                                _ => Pace::First(ATTACKERS_RATE),
                            };
                            let s = subject.measure(
                                name,
                                Wanted {
                                    pace,
                                    ..Wanted::OPEN
                                },
                            )?;
                            let rate =
                                s.window.received[out] as f64 / s.window.time.as_secs_f64() / 1e6;
                            table.add(
                                &format!("{name}.{metric}"),
                                "Mpps",
                                kind,
                                rate,
                                Some(s.distance),
                            );
                            if let Some(c) = s.cycles {
                                table.add(
                                    &format!("{name}.{metric}-cycles"),
                                    "cycles/packet",
                                    kind,
                                    c,
                                    Some(s.distance),
                                );
                            }
                            Ok((rate, s.distance))
                        };
                        let clean = figure("clean", &[0], false, 1)?;
                        let attacked = figure("attacked", &[0], true, 1)?;
                        // The attack's flows are cached by now: the worst for whoever shares the cache.
                        let others_attacked = figure("others-attacked", &[0, 2], true, 3)?;
                        let others = figure("others-clean", &[0, 2], false, 3)?;
                        table.add(
                            &format!("{name}.kept"),
                            "%",
                            kind,
                            attacked.0 / clean.0 * 100.0,
                            Some(attacked.1),
                        );
                        table.add(
                            &format!("{name}.others-kept"),
                            "%",
                            kind,
                            others_attacked.0 / others.0 * 100.0,
                            Some(others.1),
                        );
                        Ok(())
                    },
                );
                Ok(())
            },
        ),
        new_flows(
            "new-flows/exact",
            "every packet a flow never seen, 100,000 rules of all but the source port",
            || sweep::almost_exact(100_000),
        ),
        new_flows(
            "new-flows/acl",
            "every packet a flow never seen, 100,000 ClassBench-like rules",
            || classbench::rules(Kind::Acl, 100_000, 7),
        ),
    ]
}
