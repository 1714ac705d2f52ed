//! Rates in real time: what a policer passes of more than it should, between vhost-user guests, and what that costs
//! other ports. Every combination, and TSO, is exact under a test's clock in `datapath/tests/rates.rs`; what is seen here is whether
//! a real clock and a busy thread keep up, to 10 Gbit/s.

use super::{Scenario, Subject, Wanted};
use crate::load::frame::Flows;
use crate::load::{Pace, Plan, Size, Source};
use crate::metric::{Table, Want};
use crate::peers::{Peer, Setup};
use anyhow::Result;
use std::time::Duration;

/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(10);
/// Mbit/s.
const RATES: [u64; 5] = [1, 10, 100, 1_000, 10_000];
/// What is offered, of the rate.
const OFFERED: f64 = 1.3;
/// Frames a second that the traffic's side surely sends; a rate that takes more at a size is left out.
const FRAMES_MAX: f64 = 6e6;
/// Percent that a rate may be off, and of its own rate that a neighbour may lose.
const OFF: f64 = 1.0;
const NEIGHBOUR: f64 = 5.0;

fn plan(frame: usize, neighbour: bool) -> (Plan, Setup) {
    let source = |to| Some(Source::new(Flows::many(16, frame), to));
    let mut sources = vec![source(1), None];
    let mut rules = vec!["in_port=1,actions=output:2".into()];
    if neighbour {
        sources.extend([source(3), None]);
        rules.push("in_port=3,actions=output:4".into());
    }
    let plan = Plan {
        size: Size::Plain(frame),
        packed: false,
        sources,
    };
    let setup = Setup {
        rules,
        ..Setup::default()
    };
    (plan, setup)
}

/// Polices port 1 to so many Mbit/s, with a burst of 20 ms: what the thread may miss while others have its processor.
fn police(s: &Subject, mbps: u64) -> Result<()> {
    let rate = format!("ingress_policing_rate={}", mbps * 1000);
    let burst = format!("ingress_policing_burst={}", (mbps * 20).max(24));
    s.switch
        .vsctl(&["set", "interface", "p0", rate.as_str(), burst.as_str()])?;
    Ok(())
}

fn measure(s: &mut Subject, name: &str, table: &mut Table, frame: usize) -> Result<()> {
    let bits = frame as f64 * 8.0;
    for mbps in RATES {
        let rate = mbps as f64 * 1e6;
        if rate * OFFERED / bits > FRAMES_MAX {
            continue;
        }
        s.switch.resume()?;
        police(s, mbps)?;
        let wanted = Wanted {
            time: MEASURED,
            pace: Pace::PerSecond(rate * OFFERED / bits),
            may_sleep: true,
            // Warming empties the bucket.
            ..Wanted::OPEN
        };
        let sampled = s.measure(name, wanted)?;
        let passed = sampled.window.rate() * bits;
        let metric = format!("{name}/{mbps}");
        table.add(
            &format!("{metric}.mbps"),
            "Mbit/s",
            s.kind,
            passed / 1e6,
            Some(sampled.distance),
        );
        let off = (passed / rate - 1.0).abs() * 100.0;
        let metric = format!("{metric}.off");
        table.want(&metric, Want::AtMost(OFF));
        table.add(&metric, "%", s.kind, off, Some(sampled.distance));
    }
    Ok(())
}

/// What a port sends as fast as it can, beside one that sends half as much again as it may: policed, and not.
fn beside(s: &mut Subject, name: &str, table: &mut Table) -> Result<()> {
    const FRAME: f64 = 1500.0 * 8.0;
    const MBPS: u64 = 1_000;
    let wanted = Wanted {
        pace: Pace::First(MBPS as f64 * 1.5e6 / FRAME),
        ..Wanted::OPEN
    };
    let neighbour = |s: &mut Subject, mbps| -> Result<f64> {
        s.switch.resume()?;
        police(s, mbps)?;
        let sampled = s.measure(name, wanted)?;
        let received = sampled.window.received.get(3).copied().unwrap_or(0);
        Ok(received as f64 / sampled.window.time.as_secs_f64())
    };
    let (free, policed) = (neighbour(s, 0)?, neighbour(s, MBPS)?);
    let metric = format!("{name}.lost");
    table.want(&metric, Want::AtMost(NEIGHBOUR));
    table.add(&metric, "%", s.kind, (1.0 - policed / free) * 100.0, None);
    Ok(())
}

/// Policing at three sizes of frames, and a policed port beside another.
pub fn scenarios() -> Vec<Scenario> {
    let only_weir = |kind: Peer, plan: (Plan, Setup)| (kind == Peer::Weir).then_some(plan);
    let mut list: Vec<Scenario> = [64, 512, 1500]
        .into_iter()
        .map(|frame| {
            Scenario::new(
                format!("rates/policing/{frame}"),
                format!("frames of {frame} bytes through ingress policing of 1 Mbit/s to 10 Gbit/s, and how far off it is"),
                move |run, name| {
                    run.alternate(
                        name,
                        |kind| Ok(only_weir(kind, plan(frame, false))),
                        |s, table| measure(s, name, table, frame),
                    );
                    Ok(())
                },
            )
        })
        .collect();
    list.push(Scenario::new(
        "rates/beside",
        "what a port loses when another one is policed",
        move |run, name| {
            run.alternate(
                name,
                |kind| Ok(only_weir(kind, plan(1500, true))),
                |s, table| beside(s, name, table),
            );
            Ok(())
        },
    ));
    list
}
