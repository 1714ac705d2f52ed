//! Samples, medians and ratios.

use crate::peers::Peer;
use std::collections::BTreeMap;

/// All samples of a run, by metric and switch.
#[derive(Default)]
pub struct Table {
    samples: BTreeMap<(String, &'static str), BTreeMap<Peer, Vec<f64>>>,
}

impl Table {
    /// Keeps a sample and prints it as a JSON line.
    pub fn add(&mut self, metric: &str, unit: &'static str, switch: Peer, value: f64) {
        println!(
            "{}",
            serde_json::json!({"metric": metric, "switch": switch.name(), "value": value, "unit": unit})
        );
        self.samples
            .entry((metric.to_owned(), unit))
            .or_default()
            .entry(switch)
            .or_default()
            .push(value);
    }

    /// Medians, spread and weir's ratio to each peer, as a Markdown table.
    pub fn print(&self) {
        println!(
            "\n| metric | switch | median | spread | unit | rounds | weir is |\n| --- | --- | --- | --- | --- | --- | --- |"
        );
        for ((metric, unit), by_switch) in &self.samples {
            let weir = by_switch.get(&Peer::Weir).map(|v| median(v));
            for (switch, values) in by_switch {
                let m = median(values);
                let (low, high) = values
                    .iter()
                    .fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
                let ratio = match weir {
                    Some(w) if *switch != Peer::Weir && m > 0.0 => format!("{:.2}x", w / m),
                    _ => String::new(),
                };
                println!(
                    "| {metric} | {} | {m:.3} | {low:.3}..{high:.3} | {unit} | {} | {ratio} |",
                    switch.name(),
                    values.len()
                );
            }
        }
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
    #[test]
    fn median_of_odd_and_even() {
        assert!((super::median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((super::median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
