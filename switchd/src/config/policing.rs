//! What a port may send in, out of the database: ingress policing (`Interface.ingress_policing_*`), storm control
//! (`Port.other_config:storm-*`, docs/storm-control.md) and anti-spoofing (`Port.other_config:guard-*`, docs/anti-spoofing.md).

use super::value::Columns;
use datapath::{Guard, Prefix, RateSpec, StormSpec};
use openflow::MacAddr;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// kbit that pass at once where a policing rate has no burst (ovs-vswitchd.conf.db(5)).
const POLICING_BURST: u32 = 8000;
/// Thousand packets that do.
const POLICING_KPKTS_BURST: u32 = 16;
/// The part of a second whose worth of a rate of storm control passes at once, where it has no burst: a tenth.
const STORM_BURST: u32 = 10;
/// kbit, and packets, that pass at once in any case.
const STORM_BURST_MIN: u32 = 16;

/// What storm control tells apart: the beginning of its keys.
const STORM_KINDS: [&str; 3] = [
    "storm-broadcast",
    "storm-multicast",
    "storm-unknown-unicast",
];
/// Their ends: kbit/s, kbit, packets/s and packets.
const STORM_KEYS: [&str; 4] = ["rate", "burst", "pkts-rate", "pkts-burst"];
const GUARD_KEYS: [&str; 3] = ["guard-macs", "guard-addresses", "guard-direction"];

/// Ingress policing of an interface. A rate of 0 is none; a burst of 0 is the usual one.
pub fn policing(row: &Columns<'_>) -> RateSpec {
    let number = |column: &str| {
        let n = row.int(column).unwrap_or(0);
        u32::try_from(n.max(0)).unwrap_or(u32::MAX)
    };
    let or = |n: u32, usual: u32| if n == 0 { usual } else { n };
    RateSpec {
        kbps: number("ingress_policing_rate"),
        kbits: or(number("ingress_policing_burst"), POLICING_BURST),
        pps: number("ingress_policing_kpkts_rate").saturating_mul(1000),
        packets: or(number("ingress_policing_kpkts_burst"), POLICING_KPKTS_BURST)
            .saturating_mul(1000),
    }
}

/// Storm control of a port, by its `other_config`.
pub fn storm(other: &BTreeMap<String, String>, notes: &mut Vec<String>) -> StormSpec {
    let known = |key: &str| {
        let mut kinds = STORM_KINDS.iter();
        kinds.any(|kind| STORM_KEYS.iter().any(|end| key == format!("{kind}-{end}")))
    };
    for key in other.keys().filter(|k| k.starts_with("storm-")) {
        if !known(key) {
            notes.push(format!(
                "other_config:{key} is not known: keys of storm control are {}, with {} behind",
                STORM_KINDS.join(", "),
                STORM_KEYS.map(|k| format!("-{k}")).join(", ")
            ));
        }
    }
    let [broadcast, multicast, unknown_unicast] = STORM_KINDS.map(|kind| {
        let mut number = |end: &str| {
            let key = format!("{kind}-{end}");
            let text = other.get(&key)?;
            match text.parse::<u32>() {
                Ok(n) => Some(n),
                Err(_) => {
                    notes.push(format!(
                        "other_config:{key} \"{text}\" is not a number up to {}",
                        u32::MAX
                    ));
                    None
                }
            }
        };
        let [kbps, kbits, pps, packets] = STORM_KEYS.map(|end| number(end).filter(|n| *n > 0));
        let burst = |rate: u32| (rate / STORM_BURST).max(STORM_BURST_MIN);
        let (kbps, pps) = (kbps.unwrap_or(0), pps.unwrap_or(0));
        RateSpec {
            kbps,
            kbits: kbits.unwrap_or(burst(kbps)),
            pps,
            packets: packets.unwrap_or(burst(pps)),
        }
    });
    StormSpec {
        broadcast,
        multicast,
        unknown_unicast,
    }
}

/// The addresses a port is held to, by its `other_config`. A list of which nothing can be read allows nothing: a slip of the
/// pen opens no door.
pub fn guard(other: &BTreeMap<String, String>, notes: &mut Vec<String>) -> Option<Guard> {
    for key in other.keys().filter(|k| k.starts_with("guard-")) {
        if !GUARD_KEYS.contains(&key.as_str()) {
            notes.push(format!(
                "other_config:{key} is not known: keys of anti-spoofing are {}",
                GUARD_KEYS.join(", ")
            ));
        }
    }
    let macs = list(other, "guard-macs", notes, |word| {
        let mac = word.parse::<MacAddr>().ok();
        mac.filter(|m| !m.is_multicast())
            .ok_or("a unicast MAC address, such as 52:54:00:12:34:56")
    });
    let addresses = list(other, "guard-addresses", notes, |word| {
        prefix(word).ok_or("an IP address or prefix, such as 10.0.0.5 or fd00::/64")
    });
    let (ingress, egress) = match other.get("guard-direction").map(String::as_str) {
        None | Some("ingress") => (true, false),
        Some("egress") => (false, true),
        Some("both") => (true, true),
        Some(v) => {
            notes.push(format!(
                "other_config:guard-direction \"{v}\" is none of ingress, egress, both"
            ));
            (true, true)
        }
    };
    (macs.is_some() || addresses.is_some()).then_some(Guard {
        ingress,
        egress,
        macs,
        addresses,
    })
}

/// The words of a list, with commas or blanks between them; none if there is no list.
fn list<T>(
    other: &BTreeMap<String, String>,
    key: &str,
    notes: &mut Vec<String>,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Option<Vec<T>> {
    let text = other.get(key)?;
    let words = text.split([',', ' ']).filter(|w| !w.is_empty());
    let mut out = Vec::new();
    for word in words {
        match read(word) {
            Ok(value) => out.push(value),
            Err(right) => notes.push(format!("other_config:{key} \"{word}\" is not {right}")),
        }
    }
    Some(out)
}

/// An address, perhaps with the length of a prefix behind it.
fn prefix(word: &str) -> Option<Prefix> {
    let (address, len) = match word.split_once('/') {
        None => (word, None),
        Some((address, len)) => (address, Some(len.parse::<u8>().ok()?)),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = len.unwrap_or(most);
    (len <= most).then_some(Prefix { address, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn rates_of_storms_have_bursts_of_their_own_or_usual_ones() {
        let mut notes = Vec::new();
        let other = config(&[
            ("storm-broadcast-rate", "1000"),
            ("storm-multicast-pkts-rate", "500"),
            ("storm-multicast-pkts-burst", "7"),
            ("storm-unknown-unicast-rate", "fast"),
            ("storm-anycast-rate", "1"),
        ]);
        let s = storm(&other, &mut notes);
        assert_eq!((s.broadcast.kbps, s.broadcast.kbits), (1000, 100));
        assert_eq!((s.multicast.kbps, s.multicast.pps), (0, 500));
        assert_eq!((s.multicast.packets, s.unknown_unicast.kbps), (7, 0));
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("other_config:storm-anycast-rate is not known"));
        assert_eq!(
            notes[1],
            "other_config:storm-unknown-unicast-rate \"fast\" is not a number up to 4294967295"
        );
    }

    #[test]
    fn guards_hold_to_what_can_be_read_and_are_off_by_default() {
        let mut notes = Vec::new();
        assert_eq!(guard(&config(&[]), &mut notes), None);
        let other = config(&[
            ("guard-macs", "52:54:00:00:00:01, 52:54:00:00:00:02"),
            ("guard-addresses", "10.0.0.1,fd00::/64,10.0.0.0/33"),
            ("guard-direction", "both"),
        ]);
        let g = guard(&other, &mut notes).unwrap();
        assert!(g.ingress && g.egress);
        assert_eq!(g.macs.unwrap().len(), 2);
        let lens: Vec<u8> = g.addresses.unwrap().iter().map(|p| p.len).collect();
        assert_eq!(lens, [32, 64]);
        assert_eq!(
            notes,
            [
                "other_config:guard-addresses \"10.0.0.0/33\" is not an IP address or prefix, \
              such as 10.0.0.5 or fd00::/64"
            ]
        );
        let g = guard(&config(&[("guard-macs", "x")]), &mut notes).unwrap();
        assert_eq!((g.macs, g.addresses), (Some(Vec::new()), None));
    }
}
