//! Matches and actions in the words of `ovs-ofctl`.
//!
//! A match's words are turned into the JSON form and read as that: what a field needs and does not
//! have is an error here, where `ovs-ofctl` leaves the field out with a warning.

use super::{FieldError, Result};
use openflow::text::Names;
use openflow::{Instructions, Match};
use serde_json::{Map, json};

/// `tcp,tp_dst=80,in_port=v0`: protocol words and `field=value`.
pub(super) fn parse_match(s: &str, names: &Names) -> Result<Match> {
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
    super::parse_match(&o, names, "/match").map_err(|e| {
        FieldError::new(
            "/match",
            format!("{}: {}", e.pointer.trim_start_matches("/match/"), e.detail),
        )
    })
}

/// `mod_tp_dst:80,output:2`, `drop`, `NORMAL`, ...
pub(super) fn parse_actions(s: &str, matching: &Match, names: &Names) -> Result<Instructions> {
    if s.trim().is_empty() {
        return Err(FieldError::new("/actions", "no action; \"drop\" drops"));
    }
    openflow::text::parse_instructions(s, matching, names)
        .map_err(|e| FieldError::new("/actions", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::{Action, FieldId, PortNo};

    fn names() -> Names {
        Names {
            ports: vec![(PortNo(2), "fed2".into())],
            ..Names::default()
        }
    }

    #[test]
    fn the_book_s_port_rewrite() {
        let m = parse_match("tcp,tp_dst=8080", &Names::default()).unwrap();
        assert_eq!(m.exact(FieldId::TcpDst), Some(8080));
        let i = parse_actions("mod_tp_dst:80,output:fed2", &m, &names()).unwrap();
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
        let out = |s| parse_actions(s, &any, &names()).map(|i| i.apply);
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
        assert_eq!(
            out("enqueue:2:1").unwrap(),
            [Action::Enqueue {
                port: PortNo(2),
                queue: 1
            }]
        );
        assert_eq!(
            out("set_field:52:54:00:00:00:01->eth_dst").unwrap(),
            [Action::SetField {
                field: FieldId::EthDst,
                value: 0x5254_0000_0001,
                mask: 0xffff_ffff_ffff
            }]
        );
        for wrong in ["fly", "", "output:fed9", "mod_tp_dst:80"] {
            let e = out(wrong).unwrap_err();
            assert_eq!(e.pointer, "/actions", "{wrong}");
        }
        let m = parse_match("in_port=fed2,dl_vlan=10", &names()).unwrap();
        assert_eq!(m.exact(FieldId::InPort), Some(2));
        assert_eq!(m.exact(FieldId::VlanVid), Some(0x100a));
        assert!(parse_match("tcp,udp", &Names::default()).is_err());
    }
}
