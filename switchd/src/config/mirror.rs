//! Mirrors (`Mirror` of ovs-vswitchd.conf.db(5)).

use super::desired::PortConf;
use super::value::Columns;
use datapath::{MirrorOutput, MirrorSpec};
use openflow::text::{self, Names};
use openflow::{FlowFilter, Match, PortNo};
use ovsdb::{Replica, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// A mirror.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorConf {
    /// Row.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// What it is to do; none if it cannot be obeyed.
    pub spec: Option<MirrorSpec>,
    /// Values that are not obeyed, and why.
    pub notes: Vec<String>,
}

/// How the forwarding plane knows a mirror.
pub fn id(row: &Uuid) -> u128 {
    row.as_u128()
}

/// The mirrors of a bridge with these ports, by name and row. A port is known by the names of its interfaces.
pub fn read(
    db: &Replica,
    bridge: &Columns<'_>,
    ports: &BTreeMap<String, PortConf>,
) -> Vec<MirrorConf> {
    let rows = bridge.uuids("mirrors");
    let rows = rows.iter().filter_map(|u| Columns::row(db, "Mirror", u));
    let mut mirrors: Vec<MirrorConf> = rows.map(|row| mirror(db, &row, ports)).collect();
    mirrors.sort_by(|a, b| (&a.name, a.uuid).cmp(&(&b.name, b.uuid)));
    mirrors
}

fn mirror(db: &Replica, row: &Columns<'_>, ports: &BTreeMap<String, PortConf>) -> MirrorConf {
    let mut notes = Vec::new();
    let spec = spec(db, row, ports, &mut notes)
        .map_err(|why| notes.push(why))
        .ok();
    MirrorConf {
        uuid: row.uuid(),
        name: row.string("name"),
        spec,
        notes,
    }
}

/// What a row asks for, or why it is ignored.
fn spec(
    db: &Replica,
    row: &Columns<'_>,
    ports: &BTreeMap<String, PortConf>,
    notes: &mut Vec<String>,
) -> Result<MirrorSpec, String> {
    let interfaces = |port: &Uuid| {
        let port = ports.values().find(|p| p.uuid == *port)?;
        Some(port.interfaces.iter().map(|i| i.name.clone()))
    };
    let vlan = row.int("output_vlan").and_then(|v| u16::try_from(v).ok());
    let output = match (row.uuids("output_port").first(), vlan) {
        (Some(port), vlan) => {
            if vlan.is_some() {
                notes.push(
                    "specifies both output port and output vlan; ignoring output vlan".into(),
                );
            }
            let first = interfaces(port).and_then(|mut names| names.next());
            MirrorOutput::Port(first.ok_or("outputs to port not on bridge")?)
        }
        (None, Some(vlan)) => MirrorOutput::Vlan(vlan),
        (None, None) => return Err("does not specify output; ignoring".into()),
    };
    let mut selected = |column: &str| -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for port in row.uuids(column) {
            match interfaces(&port) {
                Some(of_port) => names.extend(of_port),
                None => {
                    let name = Columns::row(db, "Port", &port).map(|p| p.string("name"));
                    let name = name.unwrap_or_else(|| port.to_string());
                    notes.push(format!("cannot match on nonexistent port {name}"));
                }
            }
        }
        names
    };
    let all = row.bool("select_all") == Some(true);
    Ok(MirrorSpec {
        id: id(&row.uuid()),
        all,
        sources: match all {
            true => BTreeSet::new(),
            false => selected("select_src_port"),
        },
        destinations: match all {
            true => BTreeSet::new(),
            false => selected("select_dst_port"),
        },
        vlans: row.vlans("select_vlan"),
        filter: match row.string("filter").as_str() {
            "" => None,
            text => Some(filter(text, ports).map_err(|e| format!("filter is invalid: {e}"))?),
        },
        output,
        snaplen: row
            .int("snaplen")
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| (14..u16::MAX).contains(n)),
    })
}

/// A filter, in the syntax of ovs-ofctl(8). Ports may be named once they have numbers.
fn filter(text: &str, ports: &BTreeMap<String, PortConf>) -> Result<Match, String> {
    let interfaces = ports.values().flat_map(|p| &p.interfaces);
    let numbered = interfaces.filter_map(|i| {
        let number = match i.local {
            true => PortNo::LOCAL,
            false => PortNo(i.ofport?.into()),
        };
        Some((number, i.name.clone()))
    });
    let names = Names {
        ports: numbered.collect(),
        ..Names::default()
    };
    let read = text::parse_flow_filter(text, &names).map_err(|e| e.to_string())?;
    let matching = read.matching.clone();
    let only_fields = FlowFilter {
        matching: matching.clone(),
        ..FlowFilter::default()
    };
    if read != only_fields {
        return Err(format!("{text}: only fields of packets can be matched on"));
    }
    Ok(matching)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::desired::{BridgeConf, ReadOptions, read};
    use openflow::FieldId;
    use serde_json::{Value, json};

    fn refer(n: u32) -> Value {
        json!(["uuid", format!("00000000-0000-4000-8000-{n:012}")])
    }

    /// A bridge with ports br0 (1), p1 (3) and p2 (5), another with p9 (9), and a mirror with these columns.
    fn bridge(mirror: Value) -> BridgeConf {
        let id = |n: u32| format!("00000000-0000-4000-8000-{n:012}");
        let mut row = json!({"name": "m"});
        row.as_object_mut()
            .unwrap()
            .extend(mirror.as_object().unwrap().clone());
        let mut ports = serde_json::Map::new();
        let mut interfaces = serde_json::Map::new();
        for (n, name) in [(1, "br0"), (3, "p1"), (5, "p2"), (7, "other"), (9, "p9")] {
            ports.insert(
                id(n),
                json!({"new": {"name": name, "interfaces": refer(n + 1)}}),
            );
            let kind = if n == 1 || n == 7 { "internal" } else { "" };
            let ofport = if n == 3 {
                json!(33)
            } else {
                json!(["set", []])
            };
            interfaces.insert(
                id(n + 1),
                json!({"new": {"name": name, "type": kind, "ofport": ofport}}),
            );
        }
        let mut db = Replica::new(ovsdb::vswitch_schema(), &Default::default());
        db.apply(&json!({
            "Open_vSwitch": {id(100): {"new": {"bridges": ["set", [refer(101), refer(102)]]}}},
            "Bridge": {
                id(101): {"new": {"name": "br0", "mirrors": refer(103),
                    "ports": ["set", [refer(1), refer(3), refer(5)]]}},
                id(102): {"new": {"name": "other", "ports": ["set", [refer(7), refer(9)]]}},
            },
            "Mirror": {id(103): {"new": row}},
            "Port": ports, "Interface": interfaces,
        }))
        .unwrap();
        let mut desired = read(&db, ReadOptions { dummy: false });
        desired.bridges.remove("br0").unwrap()
    }

    fn only(mirror: Value) -> MirrorConf {
        let mut b = bridge(mirror);
        assert_eq!(b.mirrors.len(), 1);
        b.mirrors.remove(0)
    }

    #[test]
    fn columns_read_by_the_names_of_interfaces() {
        let m = only(json!({
            "select_src_port": ["set", [refer(3), refer(5)]], "select_dst_port": refer(5),
            "select_vlan": ["set", [0, 10]], "output_port": refer(1), "snaplen": 100,
            "filter": "in_port=p1,tcp,tp_dst=80"
        }));
        let s = m.spec.unwrap();
        assert_eq!(m.notes, Vec::<String>::new());
        assert_eq!(s.sources, ["p1".into(), "p2".into()].into());
        assert_eq!(s.destinations, ["p2".into()].into());
        assert_eq!(s.vlans, [0, 10].into());
        assert_eq!(s.output, MirrorOutput::Port("br0".into()));
        assert_eq!((s.all, s.snaplen), (false, Some(100)));
        let f = s.filter.unwrap();
        assert_eq!(f.exact(FieldId::InPort), Some(33));
        assert_eq!(f.exact(FieldId::TcpDst), Some(80));
    }

    #[test]
    fn what_cannot_be_obeyed_is_told() {
        let told = |mirror| {
            let m = only(mirror);
            (m.spec.is_some(), m.notes.join("; "))
        };
        assert_eq!(
            told(json!({"select_all": true})),
            (false, "does not specify output; ignoring".into())
        );
        assert_eq!(
            told(json!({"output_port": refer(9)})),
            (false, "outputs to port not on bridge".into())
        );
        let both = "specifies both output port and output vlan; ignoring output vlan";
        assert_eq!(
            told(json!({"output_port": refer(3), "output_vlan": 7})),
            (true, both.into())
        );
        assert_eq!(
            told(json!({"output_vlan": 7, "select_src_port": refer(9)})),
            (true, "cannot match on nonexistent port p9".into())
        );
        for bad in ["nonsense", "tcp,nonsense=1", "table=3,tcp", "out_port=1"] {
            let (made, why) = told(json!({"output_vlan": 7, "filter": bad}));
            assert!(
                !made && why.starts_with("filter is invalid: "),
                "{bad}: {why}"
            );
        }
    }
}
