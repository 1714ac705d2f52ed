//! What the database asks of forwarding threads, in the words of Open vSwitch: `pmd-*` of
//! `Open_vSwitch.other_config`, and `pmd-rxq-affinity` of `Interface.other_config`.

use datapath::{AutoBalance, Placing, ThreadSettings};
use std::collections::BTreeMap;
use std::time::Duration;

/// Highest processor number that is understood.
const CPU_MAX: usize = 4096;
/// Longest interval between two thoughts about balance, in minutes, as Open vSwitch has it.
const INTERVAL_MAX: u64 = 20_000;

/// Settings that have no meaning here, and why.
const MEANINGLESS: &[(&str, &str)] = &[
    (
        "pmd-maxsleep",
        "threads without packets always sleep, and are woken by the first one",
    ),
    (
        "pmd-perf-metrics",
        "figures are always kept; dpif-netdev/pmd-stats-show has them",
    ),
    ("emc-insert-inv-prob", "the caches decide by themselves"),
    ("smc-enable", "there is no signature cache"),
    (
        "dpdk-init",
        "there is no DPDK; vhost-user ports work without",
    ),
];

/// Reads `Open_vSwitch.other_config`; what is not obeyed goes to `notes`.
pub fn read(other: &BTreeMap<String, String>, notes: &mut Vec<String>) -> ThreadSettings {
    let mut settings = ThreadSettings::default();
    for (key, why) in MEANINGLESS {
        if other.contains_key(*key) {
            notes.push(format!("other_config:{key} changes nothing: {why}"));
        }
    }
    if let Some(mask) = other.get("pmd-cpu-mask") {
        match cpus(mask) {
            Some(cores) => settings.cores = Some(cores),
            None => notes.push(format!(
                "other_config:pmd-cpu-mask \"{mask}\" is not a number in hex digits with a bit set for each CPU"
            )),
        }
    }
    settings.placing = match other.get("pmd-rxq-assign").map(String::as_str) {
        None | Some("cycles") => Placing::Cycles,
        Some("roundrobin") => Placing::RoundRobin,
        Some("group") => Placing::Group,
        Some(what) => {
            notes.push(format!(
                "other_config:pmd-rxq-assign \"{what}\" is none of cycles, roundrobin, group; cycles it is"
            ));
            Placing::Cycles
        }
    };
    let is = |key: &str, default: bool| other.get(key).map_or(default, |v| v == "true");
    settings.isolate = is("pmd-rxq-isolate", true);
    if !settings.isolate && settings.placing != Placing::Group {
        notes.push(
            "other_config:pmd-rxq-isolate can only be set false with pmd-rxq-assign=group"
                .to_owned(),
        );
        settings.isolate = true;
    }
    let mut number = |key: &str, default: u64, max: u64| match other.get(key).map(|v| v.parse()) {
        None => default,
        Some(Ok(n)) if n <= max => n,
        Some(_) => {
            notes.push(format!(
                "other_config:{key} \"{}\" is not a number up to {max}; {default} it is",
                other[key]
            ));
            default
        }
    };
    let minutes = number("pmd-auto-lb-rebal-interval", 1, INTERVAL_MAX).max(1);
    let load = number("pmd-auto-lb-load-threshold", 95, 100) as u8;
    let improvement = number("pmd-auto-lb-improvement-threshold", 25, 100) as u8;
    settings.auto = is("pmd-auto-lb", false).then_some(AutoBalance {
        interval: Duration::from_secs(60 * minutes),
        load,
        improvement,
    });
    settings
}

/// The bits of a mask in hex digits; `None` if it is none, or empty.
fn cpus(mask: &str) -> Option<Vec<usize>> {
    let digits = mask
        .strip_prefix("0x")
        .or_else(|| mask.strip_prefix("0X"))
        .unwrap_or(mask);
    if digits.len() > CPU_MAX / 4 {
        return None;
    }
    let mut cores = Vec::new();
    for (i, digit) in digits.chars().rev().enumerate() {
        let bits = digit.to_digit(16)?;
        cores.extend((0..4).filter(|b| bits >> b & 1 == 1).map(|b| 4 * i + b));
    }
    (!cores.is_empty()).then_some(cores)
}

/// Reads `pmd-rxq-affinity`: `QUEUE:CPU,...`.
///
/// # Errors
/// Which part is not of that form.
pub fn affinity(text: &str) -> Result<BTreeMap<u16, usize>, String> {
    let pair = |part: &str| {
        let (queue, core) = part.trim().split_once(':')?;
        let core = core.trim().parse().ok().filter(|c| *c < CPU_MAX)?;
        Some((queue.trim().parse().ok()?, core))
    };
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            pair(part).ok_or_else(|| {
                format!(
                    "other_config:pmd-rxq-affinity: \"{}\" is not QUEUE:CPU",
                    part.trim()
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn settings_are_read_as_open_vswitch_writes_them() {
        let mut notes = Vec::new();
        assert_eq!(read(&other(&[]), &mut notes), ThreadSettings::default());
        let s = read(
            &other(&[
                ("pmd-cpu-mask", "0x1000000000000000000000006"),
                ("pmd-rxq-assign", "group"),
                ("pmd-rxq-isolate", "false"),
                ("pmd-auto-lb", "true"),
                ("pmd-auto-lb-rebal-interval", "3"),
                ("pmd-auto-lb-load-threshold", "70"),
                ("pmd-auto-lb-improvement-threshold", "50"),
            ]),
            &mut notes,
        );
        assert_eq!(notes, [""; 0]);
        assert_eq!(s.cores, Some(vec![1, 2, 96]));
        assert_eq!((s.placing, s.isolate), (Placing::Group, false));
        let auto = s.auto.unwrap();
        assert_eq!((auto.load, auto.improvement), (70, 50));
        assert_eq!(auto.interval, Duration::from_secs(180));
    }

    #[test]
    fn what_makes_no_sense_is_noted_and_leaves_the_default() {
        let mut notes = Vec::new();
        let s = read(
            &other(&[
                ("pmd-cpu-mask", "0x0"),
                ("pmd-rxq-assign", "best"),
                ("pmd-rxq-isolate", "false"),
                ("pmd-auto-lb-load-threshold", "101"),
                ("pmd-maxsleep", "100"),
            ]),
            &mut notes,
        );
        assert_eq!(s, ThreadSettings::default());
        assert_eq!(notes.len(), 5, "{notes:?}");
        assert_eq!(cpus("xyz"), None);
        assert_eq!(cpus(&"f".repeat(5000)), None);
    }

    #[test]
    fn affinity_names_a_processor_for_each_queue() {
        assert_eq!(affinity("0:3, 1:5"), Ok(BTreeMap::from([(0, 3), (1, 5)])));
        assert_eq!(affinity(""), Ok(BTreeMap::new()));
        for bad in ["0", "0:", "a:1", "1:99999", "70000:1"] {
            assert!(
                affinity(bad).unwrap_err().contains("is not QUEUE:CPU"),
                "{bad}"
            );
        }
    }
}
