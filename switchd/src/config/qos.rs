//! Quality of service of a port: the `QoS` row that its `qos` column names, with that row's queues.

use super::value::Columns;
use datapath::qos::QosSpec;
use datapath::qos::spec::QueueRow;
use datapath::tunnel::TunnelKind;
use ovsdb::Replica;
use std::sync::Arc;

/// Reads what a `Port` row asks for. What of it is not obeyed goes into `notes`.
pub fn read(db: &Replica, port: &Columns<'_>, notes: &mut Vec<String>) -> Option<Arc<QosSpec>> {
    let uuid = port.uuids("qos").into_iter().next()?;
    let row = Columns::row(db, "QoS", &uuid)?;
    let queue = |(number, uuid)| {
        let row = Columns::row(db, "Queue", &uuid)?;
        let dscp = row.int("dscp").and_then(|d| u8::try_from(d).ok());
        let options = row.map("other_config");
        Some((number, QueueRow { dscp, options }))
    };
    let rows = row.int_uuids("queues").into_iter().filter_map(queue);
    let kind = row.string("type");
    // An empty type is none.
    if kind.is_empty() {
        return None;
    }
    let spec = QosSpec::read(&kind, &row.map("other_config"), &rows.collect(), notes);
    match spec {
        Ok(spec) => Some(Arc::new(spec)),
        Err(why) => {
            notes.push(format!("qos: {why}: traffic leaves unshaped"));
            None
        }
    }
}

/// Why interfaces of a type are not shaped: what has no way out of its own.
pub fn unshaped(kind: &str) -> Option<String> {
    let without = kind == "patch" || TunnelKind::of_type(kind).is_some();
    without.then(|| {
        format!("qos of a port of type {kind} is not supported yet: traffic leaves unshaped")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::qos::{Discipline, QueueSpec};
    use serde_json::{Value, json};

    fn id(n: u32) -> String {
        format!("00000000-0000-0000-0000-{n:012}")
    }

    fn read_with(qos: Value) -> (Option<Arc<QosSpec>>, Vec<String>) {
        let mut db = Replica::new(ovsdb::vswitch_schema(), &Default::default());
        db.apply(&json!({
            "Port": {id(1): {"new": {"name": "p1", "qos": ["uuid", id(2)]}}},
            "QoS": {id(2): {"new": qos}},
            "Queue": {
                id(3): {"new": {"dscp": 46, "other_config": ["map", [["min-rate", "1000000"], ["max-rate", "2000000"],
                    ["burst", "80000"], ["priority", "3"]]]}},
                id(4): {"new": {"other_config": ["map", [["max-rate", "fast"]]]}},
            },
        }))
        .unwrap();
        let mut notes = Vec::new();
        let rows = Columns::rows(&db, "Port");
        let spec = read(&db, &rows[0], &mut notes);
        (spec, notes)
    }

    #[test]
    fn rows_read_with_their_queues_and_bad_numbers_are_named() {
        let (spec, notes) = read_with(json!({
            "type": "linux-htb",
            "other_config": ["map", [["max-rate", "10000000"]]],
            "queues": ["map", [[5, ["uuid", id(3)]], [7, ["uuid", id(4)]], [61_440, ["uuid", id(4)]]]],
        }));
        let spec = spec.unwrap();
        let max_rate = Some(10_000_000);
        assert_eq!(spec.discipline, Discipline::Htb { max_rate });
        let five = QueueSpec {
            dscp: Some(46),
            min_rate: Some(1_000_000),
            max_rate: Some(2_000_000),
            burst: Some(80_000),
            priority: 3,
            policer: None,
        };
        assert_eq!(spec.queues[&5], five);
        assert_eq!(spec.queues[&7], QueueSpec::default());
        assert_eq!(spec.queues[&0], QueueSpec::default());
        assert_eq!(spec.queues.len(), 3);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("\"fast\" is not a whole number"));
        assert!(notes[1].contains("61440 is not used"));
    }

    #[test]
    fn what_is_no_type_is_named_with_those_there_are() {
        let (spec, notes) = read_with(json!({"type": "linux-tbf"}));
        assert_eq!(spec, None);
        assert!(
            notes[0].contains("linux-tbf") && notes[0].contains("linux-htb"),
            "{notes:?}"
        );
        assert_eq!(read_with(json!({"type": ""})), (None, Vec::new()));
    }
}
