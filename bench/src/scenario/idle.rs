//! What a switch uses while nothing is to be done.

use super::{Scenario, Subject, sweep};
use crate::load::{self, Plan, Size};
use crate::machine;
use crate::metric::{Table, Want};
use crate::peers::{Extra, Peer, Setup, Switch};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How long a look takes.
const LOOK: Duration = Duration::from_secs(5);
/// Until a switch that has just been let run is as quiet as it gets.
const SETTLE: Duration = Duration::from_secs(2);

fn look(table: &mut Table, name: &str, switch: &mut Switch) -> Result<()> {
    switch.resume()?;
    std::thread::sleep(SETTLE);
    let before = switch.times();
    let start = Instant::now();
    std::thread::sleep(LOOK);
    let all = machine::shares(&before, &switch.times(), start.elapsed()).all;
    switch.pause();
    table.add(
        &format!("{name}.cpu"),
        "% of a core",
        switch.kind,
        all * 100.0,
        None,
    );
    Ok(())
}

/// Two ports, and a hundred.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "idle",
            "two connected vhost-user ports, no frames",
            |run, name| {
                run.table.want(&format!("{name}.cpu"), Want::AtMost(0.5));
                run.alternate(
                    name,
                    |_| Ok(Some(sweep::Bridge::Normal.build(64, false))),
                    |subject, table| look(table, name, &mut subject.switch),
                );
                Ok(())
            },
        ),
        Scenario::new(
            "idle-100",
            "a hundred ports: 50 vhost-user (8 with a guest, the others waiting for one), 25 taps, 25 internal; no frames",
            |run, name| {
                run.table.want(&format!("{name}.cpu"), Want::AtMost(0.5));
                for _ in 0..run.rounds {
                    for &kind in run.switches {
                        if !matches!(kind, Peer::Weir | Peer::OvsDpdk) {
                            continue;
                        }
                        if let Err(e) =
                            hundred(kind).and_then(|mut s| look(run.table, name, &mut s.switch))
                        {
                            run.table.failed(name, kind, &e);
                        }
                    }
                }
                crate::peers::release_huge_pages();
                Ok(())
            },
        ),
    ]
}

fn hundred(kind: Peer) -> Result<Subject> {
    let plan = Plan {
        size: Size::Plain(64),
        packed: false,
        sources: vec![None; 8],
    };
    let mut switch = Switch::prepare(kind, plan.sources.len())?;
    let mut load = load::listen(&plan, &switch.sockets)?;
    let mut extra: Vec<Extra> = (0..42)
        .map(|i| Extra::Vhost(switch.path(&format!("nobody{i}.sock"))))
        .collect();
    extra.extend(vec![Extra::Tap; 25]);
    extra.extend(vec![Extra::Internal; 25]);
    switch.start(&Setup {
        rules: vec!["actions=NORMAL".into()],
        private: true,
        extra,
        ..Setup::default()
    })?;
    load.connect()
        .with_context(|| format!("log ends with: {}", switch.tail()))?;
    Ok(Subject {
        kind,
        switch,
        load,
        smoke: false,
    })
}
