//! How long a frame takes: at half of the slowest switch's rate, at ten thousand a second, and as the first after a silence.

use super::{Scenario, Subject, Wanted, bare, sweep};
use crate::load::Pace;
use crate::load::histogram::Histogram;
use crate::machine;
use crate::metric::{Table, Want, median};
use crate::peers::Peer;
use anyhow::Result;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// Frames per second of the slow pace.
const SLOW: f64 = 10_000.0;
/// Silence before a first frame, and how many of them make a sample.
const SILENCE: Duration = Duration::from_millis(100);
const FIRSTS: usize = 50;

fn microseconds(cycles: f64) -> f64 {
    cycles / machine::tsc_hz() * 1e6
}

fn quantiles(table: &mut Table, name: &str, kind: Peer, latency: &Histogram, distance: f64) {
    let d = Some(distance);
    for (what, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let v = microseconds(latency.quantile(share));
        table.add(&format!("{name}.{what}"), "us", kind, v, d);
    }
    let max = microseconds(latency.max());
    table.add(&format!("{name}.max"), "us", kind, max, d);
}

fn firsts(table: &mut Table, name: &str, kind: Peer, cycles: Vec<f64>, distance: f64) {
    let took: Vec<f64> = cycles.into_iter().map(microseconds).collect();
    let max = took.iter().copied().fold(0.0, f64::max);
    let metric = format!("{name}.median");
    table.add(&metric, "us", kind, median(&took), Some(distance));
    table.add(&format!("{name}.max"), "us", kind, max, Some(distance));
}

fn half_load(name: &'static str, about: &'static str, bridge: sweep::Bridge) -> Scenario {
    Scenario::new(name, about, move |run, name| {
        // First round: what each can do. The pace is the same for all: half of what the slowest can.
        let best: RefCell<BTreeMap<Peer, f64>> = RefCell::default();
        let learn = |s: &mut Subject| -> Result<()> {
            let w = s.measure(name, Wanted::OPEN)?;
            best.borrow_mut().insert(s.kind, w.window.rate());
            Ok(())
        };
        let rounds = run.rounds;
        run.rounds += 1;
        let mut turn = 0;
        let switches = run.switches.iter().filter(|k| k.has_vhost()).count();
        run.alternate(
            name,
            |kind| {
                Ok(
                    (kind != Peer::TestpmdForward || bridge != sweep::Bridge::ThreeTables)
                        .then(|| bridge.build(64, false)),
                )
            },
            |subject, table| {
                turn += 1;
                if turn <= switches && !best.borrow().contains_key(&subject.kind) {
                    return learn(subject);
                }
                let pace = best.borrow().values().copied().fold(f64::MAX, f64::min) / 2.0;
                let wanted = Wanted {
                    pace: Pace::PerSecond(pace),
                    latency: true,
                    // A switch that sleeps between frames is welcome to.
                    shares: (super::UNDISTURBED, super::UNDISTURBED),
                    may_sleep: true,
                    ..Wanted::OPEN
                };
                let s = subject.measure(name, wanted)?;
                table.add(
                    &format!("{name}.pace"),
                    "Mpps",
                    subject.kind,
                    s.window.rate() / 1e6,
                    Some(s.distance),
                );
                quantiles(table, name, subject.kind, &s.window.latency, s.distance);
                Ok(())
            },
        );
        run.rounds = rounds;
        Ok(())
    })
}

/// Half load, ten thousand a second, waking.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        half_load(
            "latency/one-rule",
            "64-byte frames, one rule a port, at half of what the slowest switch can",
            sweep::Bridge::OneRule(1),
        ),
        half_load(
            "latency/rules-1k-flows-1k",
            "1,000 flows over 1,000 exact rules, at half of what the slowest switch can",
            sweep::Bridge::Exact(1000, 1000),
        ),
        Scenario::new(
            "10kpps",
            "10,000 frames a second: processors used by all of the switch's threads, and latency",
            |run, name| {
                run.table.want(&format!("{name}.cpu"), Want::AtMost(10.0));
                run.table.want(&format!("{name}.p99"), Want::AtMost(100.0));
                run.alternate(
                    name,
                    |_| Ok(Some(sweep::Bridge::OneRule(1).build(64, false))),
                    |subject, table| {
                        let wanted = Wanted {
                            time: Duration::from_secs(1),
                            pace: Pace::PerSecond(SLOW),
                            latency: true,
                            shares: (super::UNDISTURBED, super::UNDISTURBED),
                            may_sleep: true,
                            ..Wanted::OPEN
                        };
                        let s = subject.measure(name, wanted)?;
                        table.add(
                            &format!("{name}.cpu"),
                            "% of a core",
                            subject.kind,
                            s.switch_cpu * 100.0,
                            Some(s.distance),
                        );
                        quantiles(table, name, subject.kind, &s.window.latency, s.distance);
                        if subject.kind == Peer::Weir {
                            let d = machine::cpu_distance();
                            let (took, cpu) = bare::at_rate(SLOW, Duration::from_secs(1))?;
                            let metric = format!("{name}.cpu");
                            table.add(
                                &metric,
                                "% of a core",
                                Peer::BareThread,
                                cpu * 100.0,
                                Some(d),
                            );
                            quantiles(table, name, Peer::BareThread, &took, d);
                        }
                        Ok(())
                    },
                );
                Ok(())
            },
        ),
        Scenario::new(
            "wake",
            "the first frame after 100 ms of silence, 50 times a round",
            |run, name| {
                run.table.want(&format!("{name}.max"), Want::AtMost(200.0));
                run.alternate(
                    name,
                    |_| Ok(Some(sweep::Bridge::OneRule(1).build(64, false))),
                    |subject, table| {
                        let d = machine::cpu_distance();
                        subject.switch.resume()?;
                        let times = if subject.smoke { 5 } else { FIRSTS };
                        let took = subject.load.wake(SILENCE, times);
                        subject.switch.pause();
                        firsts(table, name, subject.kind, took?, d);
                        if subject.kind == Peer::Weir {
                            let d = machine::cpu_distance();
                            let bare = bare::after(SILENCE, times)?;
                            firsts(table, name, Peer::BareThread, bare, d);
                        }
                        Ok(())
                    },
                );
                Ok(())
            },
        ),
    ]
}
