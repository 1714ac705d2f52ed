//! What is measured: every scenario by name, and how switches take turns in one.
//!
//! In each round each switch is let run, warmed until its rate no longer changes, and measured for a window of a second in which both busy
//! threads must have had their processors to themselves (else the window is taken again). A switch that fails is told and left out
//! of the scenario; the others go on.

mod attack;
mod bare;
mod changes;
mod database;
mod flowmods;
mod generator;
mod idle;
mod kernel;
mod latency;
mod rates;
mod sweep;
mod tso;
mod tunnel;

use crate::load::{self, Pace, Plan, Traffic, Window};
use crate::machine;
use crate::metric::Table;
use crate::peers::{Peer, Setup, Switch};
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};

/// Something that can be measured.
pub struct Scenario {
    /// As typed.
    pub name: String,
    /// In words.
    pub about: String,
    run: Body,
}

type Body = Box<dyn Fn(&mut Run, &str) -> Result<()>>;

impl Scenario {
    fn new(
        name: impl Into<String>,
        about: impl Into<String>,
        run: impl Fn(&mut Run, &str) -> Result<()> + 'static,
    ) -> Scenario {
        Scenario {
            name: name.into(),
            about: about.into(),
            run: Box::new(run),
        }
    }
}

/// Between whom, how often, and where the samples go.
pub struct Run<'a> {
    /// The switches, weir first.
    pub switches: &'a [Peer],
    /// Alternating rounds.
    pub rounds: usize,
    /// Only to see that everything works: whatever else the machine does, windows count.
    pub smoke: bool,
    /// Where samples go.
    pub table: &'a mut Table,
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let mut list = vec![];
    for s in crate::vhost::SCENARIOS {
        list.push(Scenario::new(s.name, s.about, |run, name| {
            crate::vhost::run(name, run);
            Ok(())
        }));
    }
    list.extend(sweep::scenarios());
    list.extend(tso::scenarios());
    list.extend(tunnel::scenarios());
    list.extend(attack::scenarios());
    list.extend(changes::scenarios());
    list.extend(flowmods::scenarios());
    list.extend(latency::scenarios());
    list.extend(rates::scenarios());
    list.extend(idle::scenarios());
    list.extend(kernel::scenarios());
    list.extend(generator::scenarios());
    list.extend(database::scenarios());
    list
}

/// Whether a name is asked for: by itself, by its beginning, or by a pattern with `*`.
pub fn fits(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Runs one; what fails is in the table.
pub fn run(scenario: &Scenario, run: &mut Run) {
    eprintln!("{}: {}", scenario.name, scenario.about);
    if let Err(e) = (scenario.run)(run, &scenario.name) {
        run.table.failed(&scenario.name, Peer::None, &e);
    }
}

/// Length of a window that counts.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Windows tried for one good one.
const TRIES: usize = 20;
/// The share of its processor that a busy thread must have had.
pub const WHOLE: f64 = 0.97;
/// The same where single delays matter: waiting for two percent of the time delays two percent of the packets.
pub const UNDISTURBED: f64 = 0.98;
/// Warming: so long at a time, until every flow was there and the rate changes by less, but no longer than that.
const WARM: Duration = Duration::from_millis(200);
const WARM_CHANGE: f64 = 0.03;
const WARM_MAX: Duration = Duration::from_secs(30);

/// A switch with the traffic made for it.
pub struct Subject {
    /// Which switch.
    pub kind: Peer,
    /// The switch, paused between samples.
    pub switch: Switch,
    /// Its guests.
    pub load: Box<dyn Traffic>,
    /// As in [`Run`].
    pub smoke: bool,
}

/// A window to be measured.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// How long.
    pub time: Duration,
    /// How fast.
    pub pace: Pace,
    /// Whether the latency of each packet is looked at.
    pub latency: bool,
    /// Shares of their processors that the forwarding thread and the traffic must have had.
    pub shares: (f64, f64),
    /// The forwarding thread may sleep: what counts is only that it never had to wait for its processor.
    pub may_sleep: bool,
    /// Whether to warm.
    pub warm: bool,
}

impl Wanted {
    /// As fast as it goes, for a window.
    pub const OPEN: Wanted = Wanted {
        time: WINDOW,
        pace: Pace::Open,
        latency: false,
        shares: (WHOLE, WHOLE),
        may_sleep: false,
        warm: true,
    };
}

/// A window that was measured.
pub struct Sampled {
    /// What arrived.
    pub window: Window,
    /// Nanoseconds between the processors.
    pub distance: f64,
    /// Cycles per packet of the forwarding thread, where the switch tells.
    pub cycles: Option<f64>,
    /// Processors used by all of the switch's threads together.
    pub switch_cpu: f64,
}

impl Subject {
    /// Starts the switch, its guests, and makes sure that frames pass as they should.
    ///
    /// # Errors
    /// When something does not start, or frames do not come out as expected.
    pub fn start(kind: Peer, plan: &Plan, setup: &Setup) -> Result<Subject> {
        let mut switch = Switch::prepare(kind, plan.sources.len())?;
        let mut load = load::listen(plan, &switch.sockets)?;
        switch.start(setup)?;
        load.connect()
            .with_context(|| format!("log ends with: {}", switch.tail()))?;
        load.verify()
            .with_context(|| format!("log ends with: {}", switch.tail()))?;
        switch.pause();
        Ok(Subject {
            kind,
            switch,
            load,
            smoke: false,
        })
    }

    /// Lets the switch run, warms it, measures, stops it.
    ///
    /// # Errors
    /// When no window had both processors, or frames were wrong.
    pub fn measure(&mut self, name: &str, mut wanted: Wanted) -> Result<Sampled> {
        if self.smoke {
            wanted.time /= 4;
            wanted.shares = (0.0, 0.0);
        }
        for _ in 0..TRIES {
            let near = machine::cpu_distance();
            self.switch.resume()?;
            let sampled = self.once(wanted);
            self.switch.pause();
            let far = machine::cpu_distance();
            let (mut s, shares) = sampled?;
            let busy = if wanted.may_sleep {
                1.0 - shares.waited
            } else {
                shares.busiest
            };
            ensure!(
                s.window.bad == 0,
                "{} frames that were not what they should be",
                s.window.bad
            );
            let traffic = s.window.on_cpu / s.window.time.as_secs_f64();
            if busy < wanted.shares.0
                || traffic < wanted.shares.1
                || !self.smoke && near.max(far) > 2.0 * near.min(far)
            {
                eprintln!(
                    "{name} {}: {:.2} Mpps not counted (switch had {busy:.2}, traffic {traffic:.2} of a processor; distance {near:.0} to {far:.0} ns)",
                    self.kind.name(),
                    s.window.rate() / 1e6
                );
                continue;
            }
            s.distance = f64::midpoint(near, far);
            return Ok(s);
        }
        bail!("no window of {TRIES} had both processors to itself: something else is running")
    }

    /// Sends until the rate stays as it is: caches are filled, addresses learned.
    pub fn warm(&mut self, pace: Pace) -> Result<()> {
        let (mut last, mut sent) = (0.0, 0);
        let end = Instant::now() + WARM_MAX;
        while Instant::now() < end {
            let w = self.load.run(WARM, pace, false, &mut || ())?;
            sent += w.sent.iter().sum::<u64>();
            let rate = w.rate();
            let all = pace != Pace::Open || sent >= self.load.round();
            if all && (rate - last).abs() <= WARM_CHANGE * rate {
                break;
            }
            last = rate;
        }
        Ok(())
    }

    fn once(&mut self, wanted: Wanted) -> Result<(Sampled, machine::Shares)> {
        if self.smoke {
            self.load.run(WARM, wanted.pace, false, &mut || ())?;
        } else if wanted.warm {
            self.warm(wanted.pace)?;
        }
        self.switch.clear_cycles()?;
        let switch = &self.switch;
        let mut times = vec![];
        let window = self
            .load
            .run(wanted.time, wanted.pace, wanted.latency, &mut || {
                times.push(switch.times());
            })?;
        let cycles = self.switch.cycles_per_packet()?;
        let shares = match &times[..] {
            [before, after] => machine::shares(before, after, window.time),
            _ => machine::Shares::default(),
        };
        let sampled = Sampled {
            window,
            distance: 0.0,
            cycles,
            switch_cpu: shares.all,
        };
        Ok((sampled, shares))
    }
}

impl Run<'_> {
    /// Starts each switch that `build` has something for, then lets each take its turn in each round.
    pub fn alternate(
        &mut self,
        name: &str,
        build: impl Fn(Peer) -> Result<Option<(Plan, Setup)>>,
        mut sample: impl FnMut(&mut Subject, &mut Table) -> Result<()>,
    ) {
        let mut subjects = vec![];
        for &kind in self.switches {
            let started = build(kind).and_then(|b| match b {
                Some((plan, setup)) if kind.has_vhost() => {
                    let mut s = Subject::start(kind, &plan, &setup)?;
                    s.smoke = self.smoke;
                    Ok(Some(s))
                }
                _ => Ok(None),
            });
            match started {
                Ok(s) => subjects.extend(s),
                Err(e) => self.table.failed(name, kind, &e),
            }
        }
        if self.smoke {
            self.table
                .note("only a trial: the figures mean nothing".into());
        }
        if subjects.iter().any(|s| !s.load.huge()) {
            self.table
                .note("some guests' memory was not in huge pages: none were left".into());
        }
        for _ in 0..self.rounds {
            subjects.retain_mut(|s| match sample(s, self.table) {
                Ok(()) => true,
                Err(e) => {
                    let e = match s.switch.resume() {
                        Ok(()) => e,
                        Err(dead) => e.context(dead),
                    };
                    self.table.failed(name, s.kind, &e);
                    false
                }
            });
        }
        drop(subjects);
        crate::peers::release_huge_pages();
    }
}

/// Puts rate, cycles and losses of a window at full speed into the table.
pub fn record(table: &mut Table, name: &str, kind: Peer, s: &Sampled) {
    let d = Some(s.distance);
    table.add(
        &format!("{name}.mpps"),
        "Mpps",
        kind,
        s.window.rate() / 1e6,
        d,
    );
    if let Some(c) = s.cycles {
        table.add(&format!("{name}.cycles"), "cycles/packet", kind, c, d);
    }
    let sent = s.window.sent.iter().sum::<u64>().max(1);
    let lost = s.window.lost as f64 / sent as f64 * 100.0;
    // What is lost at full speed belongs to the figure; nothing lost needs no row.
    if lost >= 0.01 {
        table.add(&format!("{name}.lost"), "% of sent", kind, lost, d);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_fit_by_themselves_by_beginning_and_by_pattern() {
        for (pattern, yes) in [
            ("64/one-rule", true),
            ("64", true),
            ("*rule", true),
            ("6*/one", true),
            ("1500", false),
            ("64/*normal", false),
            ("", true),
        ] {
            assert_eq!(super::fits("64/one-rule", pattern), yes, "{pattern}");
        }
    }

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<String> = super::all().into_iter().map(|s| s.name).collect();
        let n = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n);
    }
}
