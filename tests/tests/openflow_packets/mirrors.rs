//! Mirrors, beside Open vSwitch's: drawn ports with VLANs, mirrors and flows; what every port sends, copies among it, and what
//! the mirrors count.
//!
//! Not drawn, because weir does something else there (`docs/mirrors.md`): patch ports, VLANs for copies that hosts are learned in, and
//! the meters and queues that copies do not go through. Mirrors to one target have the same `snaplen`, and are counted together:
//! which of them is first is each switch's own. Nor are priorities: which of a flood's copies is first, and so copied, is too.

use super::case::{Case, PORTS};
use super::frames::{Frame, Kind};
use super::generate::Rng;
use super::switch::Pair;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How many cases are drawn.
const DRAWN: u64 = 240;
/// How many pairs of switches share them.
const PAIRS: u64 = 4;
/// VLANs of ports and frames.
const VLANS: [u64; 3] = [10, 20, 30];

#[test]
fn drawn_mirrors_agree() {
    tests::need!(Root, Ovs);
    let only: Option<u64> = std::env::var("WEIR_CASE").ok().and_then(|s| s.parse().ok());
    std::thread::scope(|s| {
        for first in 0..PAIRS {
            s.spawn(move || {
                let seeds = (first..DRAWN).step_by(PAIRS as usize);
                let seeds: Vec<u64> = match only {
                    Some(seed) if first == 0 => vec![seed],
                    Some(_) => return,
                    None => seeds.collect(),
                };
                let mut pair = Pair::start();
                for seed in seeds {
                    let case = draw(seed);
                    pair.compare(&case);
                    pair.compare_mirrors(&case);
                }
                pair.finish();
            });
        }
    });
}

/// Packets and bytes by target, of the lines of `list mirror`: mirrors are called after their targets.
pub fn by_target(lines: &str) -> BTreeMap<String, (u64, u64)> {
    let mut sums = BTreeMap::new();
    for line in lines.lines() {
        let name = line.split(['_', ',']).next().unwrap_or_default();
        let number = |key: &str| -> u64 {
            let rest = line.split(key).nth(1).unwrap_or("=0");
            let digits = rest[1..].chars().take_while(char::is_ascii_digit);
            digits.collect::<String>().parse().unwrap_or(0)
        };
        let sum: &mut (u64, u64) = sums.entry(name.to_owned()).or_default();
        sum.0 += number("tx_packets");
        sum.1 += number("tx_bytes");
    }
    sums
}

/// The case of a seed.
fn draw(seed: u64) -> Case {
    let mut rng = Rng(seed.wrapping_mul(7919) ^ 0x6d69_7272);
    let mut line = "clear bridge br0 mirrors flood_vlans".to_owned();
    for p in 1..=PORTS {
        let _ = write!(line, " -- clear port p{p} tag vlan_mode trunks");
        let tag = rng.one(&VLANS);
        let _ = match rng.below(7) {
            0..=2 => Ok(()),
            3 => write!(line, " -- set port p{p} tag={tag}"),
            4 => write!(line, " -- set port p{p} trunks={tag},40"),
            n => {
                let mode = if n == 5 {
                    "native-tagged"
                } else {
                    "native-untagged"
                };
                write!(
                    line,
                    " -- set port p{p} vlan_mode={mode} tag={tag} trunks=10,30"
                )
            }
        };
    }
    let mut flood = BTreeSet::new();
    let mut cuts = BTreeMap::new();
    // Copies may be copied, and what comes of that depends on which mirror is first. So there is one target, or none of the ports
    // that copies leave by is watched for what leaves.
    let one = rng.percent(50);
    let vlan = rng.one(&VLANS);
    let to_vlan = one && rng.percent(50);
    let port = 3 + rng.below(2);
    for n in 0..1 + rng.below(4) {
        let (target, columns) = if to_vlan {
            flood.insert(vlan.to_string());
            (format!("v{vlan}"), format!("output_vlan={vlan}"))
        } else {
            let port = if one { port } else { 3 + rng.below(2) };
            (format!("p{port}"), format!("output_port=@p{port}"))
        };
        let cut = *cuts
            .entry(target.clone())
            .or_insert_with(|| rng.percent(30).then(|| 14 + rng.below(80)));
        let _ = write!(
            line,
            " -- --id=@m{n} create mirror name={target}_{n} {columns}"
        );
        if let Some(cut) = cut {
            let _ = write!(line, " snaplen={cut}");
        }
        if one && rng.percent(25) {
            line.push_str(" select_all=true");
        }
        for column in ["select_src_port", "select_dst_port"] {
            let most = if one || column == "select_src_port" {
                PORTS
            } else {
                2
            };
            let ports = (1..=most).filter(|_| rng.percent(35));
            let ports: Vec<String> = ports.map(|p| format!("@p{p}")).collect();
            if !ports.is_empty() {
                let _ = write!(line, " {column}={}", ports.join(","));
            }
        }
        if rng.percent(30) {
            let vlan = rng.one(&[0, 10, 30]);
            let _ = write!(line, " select_vlan={vlan},20");
        }
        let _ = write!(line, " -- add bridge br0 mirrors @m{n}");
    }
    if !flood.is_empty() {
        let flood: Vec<String> = flood.into_iter().collect();
        let _ = write!(line, " -- set bridge br0 flood_vlans={}", flood.join(","));
    }
    for p in 1..=PORTS {
        if line.contains(&format!("@p{p}")) {
            line = format!("--id=@p{p} get port p{p} -- {line}");
        }
    }
    let mut case = Case {
        name: format!("mirrors {seed} (WEIR_CASE={seed})"),
        version: 10,
        settings: line.split_whitespace().map(str::to_owned).collect(),
        ..Case::default()
    };
    if rng.percent(40) {
        case.flows.push("table=0,priority=0 actions=normal".into());
    } else {
        for port in 1..=PORTS {
            let list: Vec<String> = (0..rng.below(6)).map(|_| action(&mut rng)).collect();
            let list = match list.is_empty() {
                true => "drop".to_owned(),
                false => list.join(","),
            };
            case.flows
                .push(format!("table=0,priority=1,in_port={port} actions={list}"));
        }
        let action = action(&mut rng);
        case.flows
            .push(format!("table=1,priority=0 actions={action}"));
    }
    for _ in 0..12 {
        // Nothing comes in by a port for copies, so nothing would be seen of it.
        let port = loop {
            let port = 1 + rng.below(PORTS as u64) as usize;
            if !cuts.contains_key(&format!("p{port}")) {
                break port;
            }
        };
        let kind = rng.one(&[Kind::Tcp4, Kind::Udp4, Kind::Arp, Kind::Udp6, Kind::Unknown]);
        let mut f = Frame::draw(&mut rng, kind, port);
        if rng.percent(50) {
            let tci = rng.one(&[10, 20, 30, 0]);
            f.tags.push((0x8100, tci));
        }
        let mut bytes = f.bytes();
        if rng.percent(10) {
            bytes[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 2]);
        }
        case.packets.push((port, bytes));
    }
    case
}

fn action(rng: &mut Rng) -> String {
    let port = 1 + rng.below(PORTS as u64);
    match rng.below(12) {
        0..=4 => format!("output:{port}"),
        5 => format!("mod_dl_src:02:00:00:00:00:{:02x}", rng.below(256)),
        6 => format!("mod_vlan_vid:{}", rng.one(&VLANS)),
        7 => "strip_vlan".into(),
        8 => rng.one(&["flood", "all", "in_port"]).into(),
        9 => "resubmit(,1)".into(),
        10 => "normal".into(),
        _ => format!("clone(mod_dl_dst:02:00:00:00:00:77,output:{port})"),
    }
}
