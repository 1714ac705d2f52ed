//! What the traffic's own side can do at most, beside a switch that does next to nothing: it takes every frame from one port's ring, copies its
//! first line into the other's buffer and says so. Figures of switches near this one are the traffic's, not theirs.

use super::{Scenario, WINDOW};
use crate::load::{self, Pace, Plan, Size, Source, Wires, frame::Flows};
use crate::machine::{self, SWITCH_CPU};
use crate::metric::Want;
use crate::peers::Peer;
use anyhow::Result;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// Most frames passed on in one go.
const BURST: u16 = 128;

/// One direction, in addresses of this process.
struct Direction {
    from: Wires,
    to: Wires,
    taken: u16,
    given: u16,
}

impl Direction {
    /// Passes on what there is; how many frames.
    fn pass(&mut self) -> u16 {
        // SAFETY: the rings and buffers of the traffic's two ports, which live until this thread has ended; the indices are the split
        // ring's as the other side publishes them (virtio 1.2 2.7).
        unsafe {
            let index = |ring: u64| AtomicU16::from_ptr((ring as *mut u16).add(1));
            let sent = index(self.from.available).load(Ordering::Acquire);
            let room = index(self.to.available).load(Ordering::Acquire);
            let n = sent
                .wrapping_sub(self.taken)
                .min(room.wrapping_sub(self.given))
                .min(BURST);
            if n == 0 {
                return 0;
            }
            let element = |ring: u64, at: u16, size: u16| {
                ((ring + 4) as *mut [u32; 2]).add(usize::from(at & (size - 1)))
            };
            let slot = |at: u16, size: u16| usize::from(at & (size - 1));
            for i in 0..n {
                let (a, b) = (self.taken.wrapping_add(i), self.given.wrapping_add(i));
                load::prefetch(
                    (self.from.buffers + slot(a, self.from.size) * self.from.stride) as *const u8,
                );
                load::prefetch_own(
                    (self.to.buffers + slot(b, self.to.size) * self.to.stride) as *const u8,
                );
            }
            for i in 0..n {
                let (a, b) = (self.taken.wrapping_add(i), self.given.wrapping_add(i));
                let source = self.from.buffers + slot(a, self.from.size) * self.from.stride;
                let target = self.to.buffers + slot(b, self.to.size) * self.to.stride;
                let mut line = (source as *const [u8; 64]).read_unaligned();
                // One receive buffer.
                line[10] = 1;
                (target as *mut [u8; 64]).write_unaligned(line);
                let s = u32::from(a & (self.from.size - 1));
                element(self.from.used, a, self.from.size).write_volatile([s, 0]);
                let s = u32::from(b & (self.to.size - 1));
                element(self.to.used, b, self.to.size).write_volatile([s, 76]);
            }
            self.taken = self.taken.wrapping_add(n);
            self.given = self.given.wrapping_add(n);
            // Both say that they want no kicks.
            AtomicU16::from_ptr(self.from.used as *mut u16).store(1, Ordering::Relaxed);
            index(self.to.used).store(self.given, Ordering::Release);
            index(self.from.used).store(self.taken, Ordering::Release);
            n
        }
    }
}

/// The traffic alone.
pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "generator",
        "what the traffic's own side sends and receives at most, beside a thread that copies only a cache line",
        |run, name| {
            let metric = format!("{name}.mpps");
            run.table.want(&metric, Want::AtLeast(25.0));
            for _ in 0..run.rounds {
                let d = machine::cpu_distance();
                let rate = sample()? / 1e6;
                run.table.add(&metric, "Mpps", Peer::None, rate, Some(d));
            }
            Ok(())
        },
    )]
}

fn sample() -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let sockets = [directory.path().join("0"), directory.path().join("1")];
    let plan = Plan {
        size: Size::Plain(64),
        packed: false,
        sources: vec![
            Some(Source::new(Flows::many(1000, 64), 1)),
            Some(Source::new(Flows::many(1000, 64), 0)),
        ],
    };
    let mut load = load::listen(&plan, &sockets)?;
    let wires = load.wires();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            machine::pin(SWITCH_CPU);
            let direction = |from: usize, to: usize| Direction {
                from: wires[from].1,
                to: wires[to].0,
                taken: 0,
                given: 0,
            };
            let mut both = [direction(0, 1), direction(1, 0)];
            while !stop.load(Ordering::Relaxed) {
                for d in &mut both {
                    d.pass();
                }
            }
        });
        let result = load
            .run(WINDOW / 4, Pace::Open, false, &mut || ())
            .and_then(|_| load.run(WINDOW, Pace::Open, false, &mut || ()));
        stop.store(true, Ordering::Relaxed);
        let w = result?;
        anyhow::ensure!(w.bad == 0 && w.lost == 0, "{} bad, {} lost", w.bad, w.lost);
        Ok(w.rate())
    })
}

#[cfg(test)]
mod tests {
    /// Sends, receives, loses nothing, and notices nothing wrong.
    #[test]
    fn frames_go_round() {
        assert!(super::sample().expect("frames pass") > 10_000.0);
    }
}
