//! The columns of VLANs (ovs-vswitchd.conf.db(5), Port TABLE: VLAN Configuration).

use super::value::Columns;
use datapath::{PriorityTags, QinqEthertype, VlanConfig, VlanMode};
use std::collections::BTreeMap;

/// How many VLAN tags are looked at where `vlan-limit` does not say.
const DEFAULT_LIMIT: u8 = 1;

/// `Open_vSwitch.other_config:vlan-limit`; 0 for as many as can be.
pub fn limit(other: &BTreeMap<String, String>, notes: &mut Vec<String>) -> u8 {
    let Some(text) = other.get("vlan-limit") else {
        return DEFAULT_LIMIT;
    };
    match text.parse::<u32>() {
        Ok(n) => n.min(u8::MAX.into()) as u8,
        Err(_) => {
            notes.push(format!(
                "other_config:vlan-limit \"{text}\" is not a number of VLAN tags, or 0 for no limit"
            ));
            DEFAULT_LIMIT
        }
    }
}

/// A port's columns.
pub fn port(row: &Columns<'_>, notes: &mut Vec<String>) -> VlanConfig {
    let other = row.map("other_config");
    let tag = row
        .int("tag")
        .and_then(|t| u16::try_from(t).ok())
        .filter(|t| *t < 4096);
    let mut trunks = row.vlans("trunks");
    let mut cvlans = row.vlans("cvlans");
    let mode = match row.string("vlan_mode").as_str() {
        "access" => VlanMode::Access,
        "native-tagged" => VlanMode::NativeTagged,
        "native-untagged" => VlanMode::NativeUntagged,
        "dot1q-tunnel" => VlanMode::Dot1qTunnel,
        "" if tag.is_some() => {
            if !(trunks.is_empty() && cvlans.is_empty()) {
                notes.push("trunks is ignored in favor of the implicit access VLAN".to_owned());
            }
            VlanMode::Access
        }
        // The schema has no other values.
        _ => VlanMode::Trunk,
    };
    if matches!(mode, VlanMode::Access | VlanMode::Dot1qTunnel) {
        trunks.clear();
    }
    if mode != VlanMode::Dot1qTunnel {
        cvlans.clear();
    }
    VlanConfig {
        mode,
        tag,
        trunks,
        cvlans,
        qinq_ethtype: qinq_ethtype(&other, notes),
        priority_tags: priority_tags(&other, notes),
    }
}

fn qinq_ethtype(other: &BTreeMap<String, String>, notes: &mut Vec<String>) -> QinqEthertype {
    match other.get("qinq-ethtype").map(String::as_str) {
        None | Some("802.1ad") => QinqEthertype::Dot1ad,
        Some("802.1q") => QinqEthertype::Dot1q,
        Some(v) => {
            notes.push(format!(
                "other_config:qinq-ethtype \"{v}\" is none of 802.1ad, 802.1q"
            ));
            QinqEthertype::default()
        }
    }
}

fn priority_tags(other: &BTreeMap<String, String>, notes: &mut Vec<String>) -> PriorityTags {
    match other.get("priority-tags").map(String::as_str) {
        None | Some("never" | "no" | "false") => PriorityTags::Never,
        // "true" is of the time when there were two values.
        Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
        Some("always") => PriorityTags::Always,
        Some(v) => {
            notes.push(format!(
                "other_config:priority-tags \"{v}\" is none of never, if-nonzero, always"
            ));
            PriorityTags::Never
        }
    }
}
