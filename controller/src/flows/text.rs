//! Matches and actions in the words of `ovs-ofctl`, as far as the JSON form can say them.
//!
//! Each word is turned into its JSON form and read as that, so both forms mean the same and are
//! checked by the same rules.

use super::{FieldError, Ports, Result};
use openflow::{Instructions, Match};
use serde_json::{Map, Value, json};

/// `tcp,tp_dst=80,in_port=v0`: protocol words and `field=value`.
pub(super) fn parse_match(s: &str, ports: Ports<'_>) -> Result<Match> {
    let mut o = Map::new();
    for part in s.split([',', ' ']).filter(|p| !p.is_empty()) {
        let (k, v) = match part.split_once('=') {
            // ovs-ofctl's words for the VLAN: 0xffff is "no tag".
            Some(("dl_vlan", "0xffff")) => ("vlan_vid", json!("none")),
            Some((k, v)) => (k, json!(v)),
            None => ("protocol", json!(part)),
        };
        if o.insert(k.to_owned(), v).is_some() {
            return Err(FieldError::new(
                "/match",
                format!("{part}: {k} is said twice"),
            ));
        }
    }
    super::parse_match(&o, ports, "/match").map_err(|e| {
        FieldError::new(
            "/match",
            format!("{}: {}", e.pointer.trim_start_matches("/match/"), e.detail),
        )
    })
}

/// `mod_tp_dst:80,output:2`, `drop`, `NORMAL`, ...
pub(super) fn parse_actions(s: &str, matching: &Match, ports: Ports<'_>) -> Result<Instructions> {
    let mut list = Vec::new();
    let mut words = Vec::new();
    for word in split(s) {
        list.push(action(word)?);
        words.push(word);
    }
    if words.is_empty() {
        return Err(FieldError::new("/actions", "no action; \"drop\" drops"));
    }
    super::parse_actions(&list, matching, ports, "/actions").map_err(|e| {
        let index = e
            .pointer
            .split('/')
            .nth(2)
            .and_then(|i| i.parse::<usize>().ok());
        let word = index.and_then(|i| words.get(i)).copied().unwrap_or(s);
        FieldError::new("/actions", format!("{word}: {}", e.detail))
    })
}

/// At commas and blanks outside brackets.
fn split(s: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    s.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (c == ',' || c == ' ')
    })
    .filter(|w| !w.is_empty())
}

fn action(word: &str) -> Result<Value> {
    let (name, arg) = word.split_once(':').unwrap_or((word, ""));
    let lower = name.to_ascii_lowercase();
    let set = |field: &str| json!({"type": "set_field", "field": field, "value": arg});
    let bad = |what: &str| FieldError::new("/actions", format!("{word}: {what}"));
    Ok(match (lower.as_str(), arg.is_empty()) {
        ("drop", true) => json!({"type": "drop"}),
        ("normal" | "flood" | "all" | "local" | "in_port", true) => {
            json!({"type": "output", "port": name})
        }
        ("controller", true) => json!({"type": "output", "port": "CONTROLLER"}),
        ("controller", false) => json!({"type": "output", "port": "CONTROLLER", "max_len": arg}),
        ("output", false) => json!({"type": "output", "port": arg}),
        ("enqueue", false) => {
            let (port, queue) = arg
                .split_once([':', ','])
                .ok_or_else(|| bad("enqueue:PORT:QUEUE is wanted"))?;
            json!({"type": "enqueue", "port": port, "queue_id": queue})
        }
        ("set_queue", false) => json!({"type": "set_queue", "queue_id": arg}),
        ("group", false) => json!({"type": "group", "group_id": arg}),
        ("goto_table", false) => json!({"type": "goto_table", "table_id": arg}),
        ("meter", false) => json!({"type": "meter", "meter_id": arg}),
        ("clear_actions", true) => json!({"type": "clear_actions"}),
        ("mod_dl_src", false) => set("eth_src"),
        ("mod_dl_dst", false) => set("eth_dst"),
        ("mod_nw_src", false) => set("ip_src"),
        ("mod_nw_dst", false) => set("ip_dst"),
        ("mod_nw_tos", false) => set("nw_tos"),
        ("mod_nw_ttl", false) => json!({"type": "set_nw_ttl", "nw_ttl": arg}),
        ("mod_tp_src", false) => set("tp_src"),
        ("mod_tp_dst", false) => set("tp_dst"),
        ("mod_vlan_vid", false) => json!({"type": "set_vlan_vid", "vlan_vid": arg}),
        ("mod_vlan_pcp", false) => json!({"type": "set_vlan_pcp", "vlan_pcp": arg}),
        ("strip_vlan" | "pop_vlan", true) => json!({"type": "pop_vlan"}),
        ("push_vlan", false) => json!({"type": "push_vlan", "ethertype": arg}),
        ("push_mpls", false) => json!({"type": "push_mpls", "ethertype": arg}),
        ("pop_mpls", false) => json!({"type": "pop_mpls", "ethertype": arg}),
        ("dec_ttl", true) => json!({"type": "dec_nw_ttl"}),
        ("dec_mpls_ttl", true) => json!({"type": "dec_mpls_ttl"}),
        ("set_field", false) => {
            let (value, field) = arg
                .split_once("->")
                .ok_or_else(|| bad("set_field:VALUE->FIELD is wanted"))?;
            json!({"type": "set_field", "field": field, "value": value})
        }
        // A bare port number.
        (_, true) if name.bytes().all(|b| b.is_ascii_digit()) => {
            json!({"type": "output", "port": name})
        }
        _ => {
            return Err(bad(
                "not an action that can be written here; output:2, NORMAL, drop, mod_tp_dst:80, set_field:VALUE->FIELD, ... can",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::no_ports;
    use super::*;
    use openflow::{Action, FieldId, PortNo};

    fn names(n: &str) -> Option<PortNo> {
        (n == "fed2").then_some(PortNo(2))
    }

    #[test]
    fn the_book_s_port_rewrite() {
        let m = parse_match("tcp,tp_dst=8080", &no_ports).unwrap();
        assert_eq!(m.exact(FieldId::TcpDst), Some(8080));
        let i = parse_actions("mod_tp_dst:80,output:fed2", &m, &names).unwrap();
        assert_eq!(
            i.apply,
            [
                Action::SetField {
                    field: FieldId::TcpDst,
                    value: 80,
                    mask: 0xffff
                },
                Action::Output {
                    port: PortNo(2),
                    max_len: 0
                }
            ]
        );
    }

    #[test]
    fn words_of_each_kind() {
        let any = Match::new();
        let out = |s| parse_actions(s, &any, &names).map(|i| i.apply);
        assert_eq!(
            out("NORMAL").unwrap(),
            [Action::Output {
                port: PortNo::NORMAL,
                max_len: 0
            }]
        );
        assert_eq!(
            out("3").unwrap(),
            [Action::Output {
                port: PortNo(3),
                max_len: 0
            }]
        );
        assert_eq!(out("drop").unwrap(), []);
        assert_eq!(out("enqueue:2:1").unwrap().len(), 2);
        assert_eq!(
            out("set_field:52:54:00:00:00:01->eth_dst").unwrap(),
            [Action::SetField {
                field: FieldId::EthDst,
                value: 0x5254_0000_0001,
                mask: 0xffff_ffff_ffff
            }]
        );
        for wrong in [
            "fly",
            "",
            "output:fed9",
            "drop,1",
            "mod_tp_dst:80",
            "resubmit(,1)",
        ] {
            let e = out(wrong).unwrap_err();
            assert_eq!(e.pointer, "/actions", "{wrong}");
        }
        let m = parse_match("in_port=fed2,dl_vlan=10", &names).unwrap();
        assert_eq!(m.exact(FieldId::InPort), Some(2));
        assert_eq!(m.exact(FieldId::VlanVid), Some(0x100a));
        assert!(parse_match("tcp,udp", &no_ports).is_err());
    }
}
