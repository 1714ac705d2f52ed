//! Forwarding while rules change: the same traffic with and without ten thousand changes a second of other rules.

use super::{Sampled, Scenario, Subject, Wanted, sweep};
use crate::classbench::{self, Kind};
use crate::load::Pace;
use crate::machine::{self, TRAFFIC_CPU};
use crate::metric::Want;
use crate::peers::Peer;
use anyhow::{Context, Result, bail, ensure};
use openflow::session::{End, Event, Session};
use openflow::wire::OF13;
use openflow::{FlowMod, FlowModCommand, Message};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Changes per second.
const RATE: u64 = 10_000;
/// Rules that come, change and go: none that the traffic matches.
const OTHERS: usize = 1000;
/// Sent at once, with a barrier behind them.
const BATCH: u64 = 50;
/// Changes that were not acknowledged yet, at most: a switch that is slower is not buried.
const WINDOW_MAX: u64 = 5000;

/// Adds a rule, changes its actions, and takes it out again.
fn changes() -> Vec<FlowMod> {
    let mut list = vec![];
    // Another seed than the rules of the traffic; what they have in common would be a change that matters.
    for r in classbench::rules(Kind::Exact, OTHERS, 4711) {
        let mut changed = r.flow_mod(1);
        changed.command = FlowModCommand::ModifyStrict;
        let mut gone = r.flow_mod(2);
        gone.command = FlowModCommand::DeleteStrict;
        gone.instructions = Default::default();
        list.extend([r.flow_mod(2), changed, gone]);
    }
    list
}

/// A controller that does nothing but change rules.
struct Changer {
    stream: UnixStream,
    session: Session,
}

impl Changer {
    fn connect(path: &Path) -> Result<Changer> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_nonblocking(true)?;
        let mut c = Changer {
            stream,
            session: Session::new(End::Controller, &[OF13], None, Instant::now()),
        };
        let end = Instant::now() + Duration::from_secs(10);
        while c.session.version().is_none() {
            c.flush()?;
            c.receive()?;
            ensure!(Instant::now() < end, "no hello from the switch");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(c)
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = self.session.take_output();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(e) => return Err(e).context("the switch closed the OpenFlow connection"),
            }
        }
        Ok(())
    }

    /// Barriers that were answered.
    fn receive(&mut self) -> Result<u64> {
        let mut buffer = [0; 16384];
        let mut answered = 0;
        loop {
            let n = match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the switch closed the OpenFlow connection"),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(answered),
                Err(e) => return Err(e.into()),
            };
            for event in self.session.receive(&buffer[..n], Instant::now()) {
                match event {
                    Event::Message {
                        message: Message::BarrierReply,
                        ..
                    } => answered += 1,
                    Event::Message {
                        message: Message::Error(e),
                        ..
                    } => bail!("the switch refused a change: {e:?}"),
                    Event::Closed(why) => bail!("the OpenFlow session ended: {why}"),
                    _ => {}
                }
            }
        }
    }

    /// Changes rules at the rate until told to stop; acknowledged changes per second.
    fn run(&mut self, stop: &AtomicBool) -> Result<f64> {
        machine::pin(TRAFFIC_CPU);
        let changes = changes();
        let start = Instant::now();
        let (mut sent, mut acknowledged) = (0u64, 0u64);
        while !stop.load(Ordering::Relaxed) {
            let due = (start.elapsed().as_secs_f64() * RATE as f64) as u64;
            while sent + BATCH <= due && sent - acknowledged < WINDOW_MAX {
                for _ in 0..BATCH {
                    let m = changes[(sent % changes.len() as u64) as usize].clone();
                    self.session.send(&Message::FlowMod(m))?;
                    sent += 1;
                }
                self.session.send(&Message::BarrierRequest)?;
            }
            self.flush()?;
            acknowledged += self.receive()? * BATCH;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(acknowledged as f64 / start.elapsed().as_secs_f64())
    }
}

/// Packets per second for which the traffic's thread was on its processor: it shares that one with the changes' client and the switch's
/// control plane, so that only the forwarding thread's own slowness shows.
fn rate(s: &Sampled) -> f64 {
    s.window.received.iter().sum::<u64>() as f64 / s.window.on_cpu
}

fn sample(subject: &mut Subject, wanted: Wanted, name: &str) -> Result<(Sampled, Sampled, f64)> {
    let quiet = subject.measure(name, wanted)?;
    let path: PathBuf = subject.switch.openflow();
    let stop = AtomicBool::new(false);
    subject.switch.resume()?;
    let mut changer = Changer::connect(&path)?;
    std::thread::scope(|s| {
        let client = s.spawn(|| changer.run(&stop));
        // Changes go on while the switch is paused before the window: the client waits for its barriers.
        let busy = subject.measure(name, wanted);
        stop.store(true, Ordering::Relaxed);
        let done = client.join().expect("does not panic");
        Ok((quiet, busy?, done?))
    })
}

/// With exact rules.
pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "changes",
        "1,000 flows over 1,000 exact rules while 10,000 changes of other rules per second arrive (client on the traffic's processor)",
        |run, name| {
            run.table.want(&format!("{name}.kept"), Want::AtLeast(80.0));
            run.table.note(format!(
                "{name}: rates are per second that the traffic's thread was on its processor, which it shares with the client of the changes and the control plane"
            ));
            let wanted = Wanted {
                time: Duration::from_secs(2),
                pace: Pace::Open,
                shares: (0.2, 0.1),
                ..Wanted::OPEN
            };
            run.alternate(
                name,
                |kind| {
                    Ok((kind != Peer::TestpmdForward)
                        .then(|| sweep::Bridge::Exact(1000, 1000).build(64, false)))
                },
                |subject, table| {
                    let (quiet, busy, done) = sample(subject, wanted, name)?;
                    let (d, kind) = (Some(busy.distance), subject.kind);
                    let (before, during) = (rate(&quiet) / 1e6, rate(&busy) / 1e6);
                    table.add(
                        &format!("{name}.quiet"),
                        "Mpps",
                        kind,
                        before,
                        Some(quiet.distance),
                    );
                    table.add(&format!("{name}.during"), "Mpps", kind, during, d);
                    table.add(
                        &format!("{name}.kept"),
                        "%",
                        kind,
                        during / before * 100.0,
                        d,
                    );
                    table.add(
                        &format!("{name}.acknowledged"),
                        "changes/s",
                        kind,
                        done,
                        None,
                    );
                    if let (Some(a), Some(b)) = (quiet.cycles, busy.cycles) {
                        table.add(
                            &format!("{name}.cycles-quiet"),
                            "cycles/packet",
                            kind,
                            a,
                            Some(quiet.distance),
                        );
                        table.add(
                            &format!("{name}.cycles-during"),
                            "cycles/packet",
                            kind,
                            b,
                            d,
                        );
                    }
                    Ok(())
                },
            );
            Ok(())
        },
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_rules_are_not_the_traffics() {
        let ours = classbench::rules(Kind::Exact, 1000, 7);
        for r in classbench::rules(Kind::Exact, OTHERS, 4711) {
            let same = |o: &classbench::GeneratedRule| {
                (o.src, o.dst, o.sport, o.dport) == (r.src, r.dst, r.sport, r.dport)
            };
            assert!(!ours.iter().any(same));
        }
        assert_eq!(changes().len(), 3 * OTHERS);
    }
}
