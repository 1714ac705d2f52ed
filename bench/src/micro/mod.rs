//! Micro benches: what one step of a packet's way costs, by itself, on one thread.
//!
//! An entry is a closure that does a known number of operations. It is called until a sample is long enough
//! to be timed, a hundred such samples are taken, and the best and the middle one are told as cycles of the time stamp counter per
//! operation. The best is what the code costs; the middle says how disturbed the machine was. Beside them: allocations per
//! operation, counted by the program's allocator, and instructions where the machine counts them for us (else callgrind does:
//! `valgrind --tool=callgrind target/release/bench micro NAME`).
//!
//! A room of entries is a module with `pub fn run(h: &mut Harness)`, listed in [`ROOMS`].

pub mod allocations;
mod caches;
mod counter;
mod extract;
mod rings;
mod tables;

use datapath::engine::wake::cycles;
use std::hint::black_box;

/// Every room: its name, which is the first part of its entries' names, and its entries.
const ROOMS: &[Room] = &[
    ("extract", extract::run),
    ("cache", caches::run),
    ("forward", caches::forwarding),
    ("rings", rings::run),
    ("table", tables::run),
];

type Room = (&'static str, fn(&mut Harness));

/// Cycles a sample takes at least: two hundred times what reading the clock costs.
const SAMPLE: u64 = 10_000;
/// Samples of an entry.
const SAMPLES: usize = 101;

/// Takes the measurements of the entries that were asked for.
pub struct Harness {
    wanted: Vec<String>,
    counter: Option<counter::Instructions>,
    results: Vec<Outcome>,
}

/// What came of one entry.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// As typed.
    pub micro: String,
    /// Cycles per operation, the best sample.
    pub cycles: f64,
    /// Cycles per operation, the middle sample.
    pub median: f64,
    /// Allocations per operation.
    pub allocations: f64,
    /// Instructions per operation, where they can be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<f64>,
}

impl Harness {
    /// Whether an entry whose name begins so is asked for: ask before building something expensive.
    pub fn wants(&self, name: &str) -> bool {
        let fits = |w: &String| name.starts_with(w.as_str()) || w.starts_with(name);
        self.wanted.is_empty() || self.wanted.iter().any(fits)
    }

    /// Measures `body`, which does `operations` operations at each call.
    pub fn bench<R>(&mut self, name: &str, operations: u64, mut body: impl FnMut() -> R) {
        if !self.wants(name) {
            return;
        }
        // Warm, and how many calls make a sample.
        let mut calls = 1u64;
        loop {
            let start = cycles();
            for _ in 0..calls {
                black_box(body());
            }
            if cycles() - start >= SAMPLE || calls >= 1 << 30 {
                break;
            }
            calls *= 2;
        }
        let per = (calls * operations.max(1)) as f64;
        let mut samples = Vec::with_capacity(SAMPLES);
        let count = self.counter.as_ref().map(counter::Instructions::read);
        let allocated = allocations::so_far();
        for _ in 0..SAMPLES {
            let start = cycles();
            for _ in 0..calls {
                black_box(body());
            }
            samples.push((cycles() - start) as f64 / per);
        }
        let allocated = allocations::so_far() - allocated;
        let count = count.and_then(|before| Some(self.counter.as_ref()?.read() - before));
        samples.sort_by(f64::total_cmp);
        let all = per * SAMPLES as f64;
        let outcome = Outcome {
            micro: name.to_owned(),
            cycles: samples[0],
            median: samples[SAMPLES / 2],
            allocations: allocated as f64 / all,
            instructions: count.map(|c| c as f64 / all),
        };
        println!(
            "{}",
            serde_json::to_string(&outcome).expect("numbers and a name")
        );
        self.results.push(outcome);
    }

    /// As [`Harness::bench`] for a body that is expensive to prepare: `prepare` is not timed, and each sample is one
    /// call of `body` on what it made.
    pub fn bench_prepared<S, R>(
        &mut self,
        name: &str,
        operations: u64,
        samples: usize,
        mut prepare: impl FnMut() -> S,
        mut body: impl FnMut(&mut S) -> R,
    ) {
        if !self.wants(name) {
            return;
        }
        let per = operations.max(1) as f64;
        let mut taken = Vec::with_capacity(samples.max(1));
        let (mut allocated, mut count) = (0, 0);
        for _ in 0..samples.max(1) {
            let mut state = prepare();
            let before = (
                allocations::so_far(),
                self.counter.as_ref().map_or(0, counter::Instructions::read),
            );
            let start = cycles();
            black_box(body(&mut state));
            taken.push((cycles() - start) as f64 / per);
            allocated += allocations::so_far() - before.0;
            count += self.counter.as_ref().map_or(0, counter::Instructions::read) - before.1;
        }
        taken.sort_by(f64::total_cmp);
        let all = per * taken.len() as f64;
        let outcome = Outcome {
            micro: name.to_owned(),
            cycles: taken[0],
            median: taken[taken.len() / 2],
            allocations: allocated as f64 / all,
            instructions: self.counter.as_ref().map(|_| count as f64 / all),
        };
        println!(
            "{}",
            serde_json::to_string(&outcome).expect("numbers and a name")
        );
        self.results.push(outcome);
    }

    fn table(&self) -> String {
        let mut s = String::from(
            "| step | cycles (best) | cycles (median) | instructions | allocations |\n| --- | --- | --- | --- | --- |\n",
        );
        for r in &self.results {
            let instructions = r.instructions.map_or("-".into(), |i| format!("{i:.1}"));
            s += &format!(
                "| {} | {:.1} | {:.1} | {instructions} | {} |\n",
                r.micro,
                r.cycles,
                r.median,
                if r.allocations == 0.0 {
                    "0".to_owned()
                } else {
                    format!("{:.3}", r.allocations)
                }
            );
        }
        s
    }
}

/// Runs the entries whose names begin with one of `names` (all, if there are none) and prints JSON lines, then a Markdown table,
/// which it returns.
///
/// # Errors
/// When a name fits nothing.
pub fn run(names: &[String]) -> anyhow::Result<String> {
    let mut h = Harness {
        wanted: names.to_vec(),
        counter: counter::Instructions::open(),
        results: vec![],
    };
    crate::machine::pin(crate::machine::SWITCH_CPU);
    for (room, entries) in ROOMS {
        if h.wants(room) {
            entries(&mut h);
        }
    }
    anyhow::ensure!(
        !h.results.is_empty(),
        "no micro bench is called {names:?}; `bench list` names them"
    );
    Ok(h.table())
}

/// Prints the names of the rooms.
pub fn list() {
    for (room, _) in ROOMS {
        println!("micro {room}/...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_timed_and_its_allocations_counted() {
        let mut h = Harness {
            wanted: vec!["a/".into()],
            counter: None,
            results: vec![],
        };
        h.bench("a/allocates", 2, || {
            (black_box(Box::new(1u64)), black_box(Box::new(2u64)))
        });
        h.bench("a/adds", 1, || black_box(1u64) + black_box(2));
        h.bench("b/is not asked for", 1, || 0);
        assert_eq!(h.results.len(), 2);
        assert!((h.results[0].allocations - 1.0).abs() < 0.01);
        assert_eq!(h.results[1].allocations, 0.0);
        assert!(h.results[1].cycles < 1000.0);
        assert!(h.table().contains("| a/adds |"));
    }
}
