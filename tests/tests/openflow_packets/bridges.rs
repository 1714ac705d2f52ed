//! Bridges with NORMAL alone, drawn by a seed: ports of all VLAN modes, and frames with all kinds of tags and addresses.
//!
//! Not drawn, because Open vSwitch does something else there (`docs/vlan.md`): frames that are drop eligible; a tag of VLAN 0
//! beside another one, that of a dot1q-tunnel included; two tags that are looked at, where a dot1q-tunnel puts on a third one;
//! a native VLAN 0 that `trunks` does not have; and a tag of the frame's own where a port has `priority-tags`.

use super::case::{Case, PORTS};
use super::frames::{Frame, Kind};
use super::generate::Rng;
use std::fmt::Write as _;

/// VLANs of ports and frames.
const VLANS: [u16; 4] = [10, 20, 30, 4095];

/// Addresses that frames go to: everybody, groups, and neighbours alone,
const TO: [[u8; 6]; 11] = [
    [0xff; 6],
    [0xff; 6],
    [1, 0, 0x5e, 0, 0, 1],
    [0x33, 0x33, 0, 0, 0, 1],
    [1, 0x80, 0xc2, 0, 0, 0],
    [1, 0x80, 0xc2, 0, 0, 0x0e],
    [1, 0x80, 0xc2, 0, 0, 0x10],
    [1, 0, 0x0c, 0xcc, 0xcc, 0xcc],
    [1, 0, 0x0c, 0xcc, 0xcc, 0xc9],
    [2, 0, 0, 0, 0, 0x77],
    [0, 0xe0, 0x2b, 0, 0, 4],
];
/// and hosts, known by and by.
const HOSTS: [u8; 6] = [0x10, 0x11, 0x20, 0x21, 0x30, 0x41];

/// Some of [`VLANS`], and 0.
fn some(rng: &mut Rng) -> String {
    let list: Vec<String> = VLANS
        .into_iter()
        .chain([0])
        .filter(|_| rng.percent(45))
        .map(|v| v.to_string())
        .collect();
    list.join(",")
}

/// A port.
struct Port {
    /// Its settings, for `ovs-vsctl`.
    line: String,
    tunnel: bool,
    cvlans: bool,
}

fn port(rng: &mut Rng, n: usize) -> Port {
    let mut line = format!(
        " -- clear port p{n} vlan_mode tag trunks cvlans other_config -- set port p{n} protected={}",
        rng.percent(15)
    );
    let modes = [
        "",
        "",
        "access",
        "trunk",
        "native-tagged",
        "native-untagged",
        "dot1q-tunnel",
    ];
    let mode = rng.one(&modes);
    if !mode.is_empty() {
        let _ = write!(line, " vlan_mode={mode}");
    }
    let tunnel = mode == "dot1q-tunnel";
    let tag = match rng.percent(70) || tunnel {
        true => rng.one(&[10, 20, 30, 0]),
        false => 0,
    };
    let tag = if tunnel { tag.max(10) } else { tag };
    if tag != 0 || rng.percent(50) {
        let _ = write!(line, " tag={tag}");
    }
    let trunks = some(rng);
    if !trunks.is_empty() && rng.percent(60) && !(mode.starts_with("native") && tag == 0) {
        let _ = write!(line, " trunks={trunks}");
    }
    let cvlans = some(rng);
    let has_cvlans = !cvlans.is_empty() && rng.percent(60);
    if has_cvlans {
        let _ = write!(line, " cvlans={cvlans}");
    }
    if rng.percent(40) && !tunnel && mode != "native-untagged" {
        let _ = write!(
            line,
            " other_config:priority-tags={}",
            rng.one(&["never", "if-nonzero", "always", "true"])
        );
    }
    if rng.percent(30) {
        let _ = write!(
            line,
            " other_config:qinq-ethtype={}",
            rng.one(&["802.1q", "802.1ad"])
        );
    }
    Port {
        line,
        tunnel,
        cvlans: has_cvlans,
    }
}

/// The tags of a frame; `seen` is how many of them are looked at.
fn tags(rng: &mut Rng, seen: usize, tunnel: bool) -> Vec<(u16, u16)> {
    let most = if tunnel && seen > 1 { 1 } else { 3 };
    let count = rng.one(&[0, 0, 1, 1, 1, 2, 2, 3]).min(most);
    (0..count)
        .map(|_| {
            let vid = match rng.percent(25) && !tunnel && !(count > 1 && seen > 1) {
                true => 0,
                false => rng.one(&VLANS),
            };
            let tci = vid | rng.one(&[0, 0, 1, 5, 7]) << 13;
            (rng.one(&[0x8100, 0x8100, 0x88a8]), tci)
        })
        .collect()
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed ^ 0x9e37);
    let limit = rng.one(&[0, 1, 1, 2, 5]);
    let seen = if limit == 1 { 1 } else { 2 };
    let mut settings = format!(
        "set Open_vSwitch . other_config:vlan-limit={limit} -- clear bridge br0 flood_vlans \
         -- set bridge br0 other_config:forward-bpdu={}",
        rng.percent(20)
    );
    if rng.percent(30) {
        let _ = write!(
            settings,
            " flood_vlans={}",
            rng.one(&["10", "20,30", "0,10"])
        );
    }
    let ports: Vec<Port> = (1..=PORTS).map(|n| port(&mut rng, n)).collect();
    for p in &ports {
        settings.push_str(&p.line);
    }
    // Frames that a port does not carry for the tags inside them are to be flooded, not sent to where a host is.
    let picky = ports.iter().any(|p| p.tunnel && p.cvlans);
    let packets = (0..16)
        .map(|_| {
            let n = 1 + rng.below(PORTS as u64) as usize;
            let tunnel = ports[n - 1].tunnel;
            let mut f = Frame::new(rng.one(&[Kind::Udp4, Kind::Arp, Kind::Icmp6, Kind::Unknown]));
            f.tags = tags(&mut rng, seen, tunnel);
            let inside = f.tags.len().min(seen) + usize::from(tunnel) > 1;
            let mut bytes = f.bytes();
            let to = match rng.percent(40) && !picky && !inside {
                true => [2, 0, 0, 0, 0, rng.one(&HOSTS)],
                false => rng.one(&TO),
            };
            bytes[..6].copy_from_slice(&to);
            // Most hosts stay where they are.
            let at = if rng.percent(10) { 1 } else { n as u8 };
            bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, at << 4 | rng.below(2) as u8]);
            if rng.percent(3) {
                bytes[6] = 3;
            }
            (n, bytes)
        })
        .collect();
    Case {
        name: format!("bridge {seed} (WEIR_BRIDGE={seed})"),
        version: 13,
        settings: settings.split_whitespace().map(str::to_owned).collect(),
        flows: vec!["actions=normal".to_owned()],
        packets,
        ..Case::default()
    }
}
