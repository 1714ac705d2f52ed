//! Samples, medians and ratios.
//!
//! Every sample knows how far apart the two processors were when it was taken (see [`crate::machine::cpu_distance`]). A figure of two
//! processors that are near each other cannot be compared with one of two that are not, so a metric's medians are
//! taken over the samples of one state only, if every switch has some of it. (Samples without a distance do not depend on it.)

use crate::peers::Peer;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Nanoseconds between "near" and "far".
const FAR: f64 = 90.0;

/// What a metric should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// weir's median at least so many times that of this switch.
    Ratio(Peer, f64),
    /// weir's median at most so many times that of this switch.
    RatioAtMost(Peer, f64),
    /// weir's median at least.
    AtLeast(f64),
    /// weir's median at most.
    AtMost(f64),
}

struct Sample {
    metric: String,
    unit: &'static str,
    switch: Peer,
    value: f64,
    distance: Option<f64>,
}

/// All samples of a run, in the order of metrics as they came.
#[derive(Default)]
pub struct Table {
    samples: Vec<Sample>,
    wants: BTreeMap<String, Vec<Want>>,
    failures: Vec<(String, Peer, String)>,
    notes: Vec<String>,
    json: Option<std::fs::File>,
}

impl Table {
    /// One that also writes its JSON lines to a file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(json: Option<&std::path::Path>) -> Result<Table> {
        let json = json
            .map(|p| {
                std::fs::File::create(p).with_context(|| format!("cannot write {}", p.display()))
            })
            .transpose()?;
        Ok(Table {
            json,
            ..Table::default()
        })
    }

    /// A JSON line, on the standard output and in the file.
    pub fn line(&mut self, line: &serde_json::Value) {
        println!("{line}");
        if let Some(f) = &mut self.json {
            let _ = writeln!(f, "{line}");
        }
    }

    /// Keeps a sample and prints it.
    pub fn add(
        &mut self,
        metric: &str,
        unit: &'static str,
        switch: Peer,
        value: f64,
        distance: Option<f64>,
    ) {
        self.line(&serde_json::json!({
            "metric": metric, "switch": switch.name(), "value": value, "unit": unit, "distance": distance
        }));
        self.samples.push(Sample {
            metric: metric.to_owned(),
            unit,
            switch,
            value,
            distance,
        });
    }

    /// Says what a metric should come to.
    pub fn want(&mut self, metric: &str, want: Want) {
        let all = self.wants.entry(metric.to_owned()).or_default();
        if !all.contains(&want) {
            all.push(want);
        }
    }

    /// Remembers that a switch could not be measured.
    pub fn failed(&mut self, scenario: &str, switch: Peer, error: &anyhow::Error) {
        let error = format!("{error:#}");
        eprintln!("{scenario} {}: FAILED: {error}", switch.name());
        self.line(
            &serde_json::json!({"failed": scenario, "switch": switch.name(), "error": error}),
        );
        self.failures.push((scenario.to_owned(), switch, error));
    }

    /// Something the reader must know.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.line(&serde_json::json!({"note": note}));
            self.notes.push(note);
        }
    }

    /// Medians, spread, weir's ratio to each peer and what was wanted, as a Markdown table.
    pub fn markdown(&self) -> String {
        let mut s = String::from(
            "| metric | switch | median | spread | unit | rounds | CPU distance | weir is | wanted |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        let mut done = BTreeSet::new();
        for first in &self.samples {
            if !done.insert(&first.metric) {
                continue;
            }
            s += &self.rows(&first.metric, first.unit);
        }
        if !self.failures.is_empty() {
            s += "\nNot measured:\n\n";
            for (scenario, switch, error) in &self.failures {
                s += &format!(
                    "- {scenario}, {}: {}\n",
                    switch.name(),
                    error.replace('\n', " ")
                );
            }
        }
        if !self.notes.is_empty() {
            s += "\nNotes:\n\n";
            for n in &self.notes {
                s += &format!("- {n}\n");
            }
        }
        s
    }

    fn rows(&self, metric: &str, unit: &str) -> String {
        let of = |p: Peer, far: Option<bool>| -> Vec<&Sample> {
            self.samples
                .iter()
                .filter(|s| s.metric == metric && s.switch == p)
                .filter(|s| match (far, s.distance) {
                    (Some(far), Some(d)) => (d > FAR) == far,
                    _ => true,
                })
                .collect()
        };
        let switches: BTreeSet<Peer> = self
            .samples
            .iter()
            .filter(|s| s.metric == metric)
            .map(|s| s.switch)
            .collect();
        // The state of the machine that most switches were measured in, if all were.
        let fewest = |far| {
            switches
                .iter()
                .map(|&p| of(p, Some(far)).len())
                .min()
                .unwrap_or(0)
        };
        let (near, distant) = (fewest(false), fewest(true));
        let state = match (near, distant) {
            (0, 0) => None,
            _ => Some(distant > near),
        };
        let middle = |p: Peer| {
            let v: Vec<f64> = of(p, state).iter().map(|s| s.value).collect();
            median(&v)
        };
        let wants = self.wants.get(metric).map_or(&[][..], Vec::as_slice);
        let weir = switches.contains(&Peer::Weir).then(|| middle(Peer::Weir));
        let mut rows = String::new();
        for &p in &switches {
            let samples = of(p, state);
            let all = of(p, None).len();
            let m = middle(p);
            let values = samples.iter().map(|s| s.value);
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            let ratio = weir.filter(|_| p != Peer::Weir && m > 0.0).map(|w| w / m);
            let wanted: Vec<String> = wants
                .iter()
                .filter_map(|w| match *w {
                    Want::Ratio(q, r) if q == p => {
                        Some(format!("{r:.2}x {}", met(ratio.is_some_and(|x| x >= r))))
                    }
                    Want::RatioAtMost(q, r) if q == p => Some(format!(
                        "at most {r:.2}x {}",
                        met(ratio.is_some_and(|x| x <= r))
                    )),
                    Want::AtLeast(v) if matches!(p, Peer::Weir | Peer::None) => {
                        Some(format!(">= {v} {}", met(m >= v)))
                    }
                    Want::AtMost(v) if p == Peer::Weir => Some(format!("<= {v} {}", met(m <= v))),
                    _ => None,
                })
                .collect();
            let distances: Vec<f64> = samples.iter().filter_map(|s| s.distance).collect();
            let distance = if distances.is_empty() {
                String::new()
            } else {
                let mixed = state.is_none() && switches.len() > 1;
                format!(
                    "{:.0} ns{}",
                    median(&distances),
                    if mixed { " (differs)" } else { "" }
                )
            };
            let rounds = if samples.len() == all {
                all.to_string()
            } else {
                format!("{} of {all}", samples.len())
            };
            rows += &format!(
                "| {metric} | {} | {} | {}..{} | {unit} | {rounds} | {distance} | {} | {} |\n",
                p.name(),
                number(m),
                number(low),
                number(high),
                ratio.map(|r| format!("{r:.2}x")).unwrap_or_default(),
                wanted.join(", ")
            );
        }
        rows
    }
}

fn met(yes: bool) -> &'static str {
    if yes { "(met)" } else { "(NOT met)" }
}

/// Three digits that matter.
fn number(v: f64) -> String {
    match v.abs() {
        a if a >= 1000.0 => format!("{v:.0}"),
        a if a >= 100.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}

/// The middle value; the mean of the two middle ones of an even number.
pub fn median(values: &[f64]) -> f64 {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    match v.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => v[n / 2],
        n => f64::midpoint(v[n / 2 - 1], v[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert!((super::median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((super::median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn only_samples_of_one_state_are_compared() {
        let mut t = Table::default();
        for (p, v, d) in [
            (Peer::Weir, 20.0, 30.0),
            (Peer::Weir, 6.0, 200.0),
            (Peer::Weir, 21.0, 30.0),
            (Peer::OvsDpdk, 10.0, 30.0),
            (Peer::OvsDpdk, 3.0, 210.0),
        ] {
            t.add("x", "Mpps", p, v, Some(d));
        }
        t.want("x", Want::Ratio(Peer::OvsDpdk, 2.0));
        t.want("x", Want::AtLeast(30.0));
        let m = t.markdown();
        assert!(
            m.contains(
                "| x | weir | 20.50 | 20.00..21.00 | Mpps | 2 of 3 | 30 ns |  | >= 30 (NOT met) |"
            ),
            "{m}"
        );
        assert!(m.contains("| x | ovs-dpdk | 10.00 | 10.00..10.00 | Mpps | 1 of 2 | 30 ns | 2.05x | 2.00x (met) |"), "{m}");
    }
}
