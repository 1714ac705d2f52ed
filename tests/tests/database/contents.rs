//! What a server's databases hold, in a form that two servers can be compared by.
//!
//! Rows have random names, so a row is known by what is in it: its table, its values, and, for
//! each reference, what the row referred to is known by, a few references deep. Rows sorted by that are numbered, and
//! references are printed as those numbers.

use crate::pair::Running;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many references deep rows are told apart; the longest way in the Open_vSwitch schema is five.
const DEPTH: usize = 8;

/// Every row of every database but `_Server`, sorted, one a line.
pub fn contents(pair: &Running) -> String {
    let mut out = String::new();
    for db in pair.client(&["list-dbs"]).lines() {
        if db == "_Server" {
            continue;
        }
        let schema = json(&pair.client(&["get-schema", db]));
        let tables: Vec<&String> = schema["tables"]
            .as_object()
            .expect("tables")
            .keys()
            .collect();
        let mut transaction = vec![json!(db)];
        transaction.extend(
            tables
                .iter()
                .map(|t| json!({"op": "select", "table": t, "where": []})),
        );
        let results = json(&pair.client(&["transact", &Value::from(transaction).to_string()]));
        let rows = tables.iter().zip(results.as_array().expect("results"));
        let rows = rows.flat_map(|(table, result)| {
            let rows = result["rows"].as_array().expect("rows").iter();
            rows.map(|row| (table.as_str(), row))
        });
        out.push_str(&format!("database {db} {}\n", schema["version"]));
        for line in named(rows.collect()) {
            out.push_str(&format!("{line}\n"));
        }
    }
    out
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The rows, each with its table, as texts in which they are named by their contents.
fn named(rows: Vec<(&str, &Value)>) -> Vec<String> {
    let uuid = |row: &Value| row["_uuid"][1].as_str().expect("a _uuid").to_owned();
    let mut names: HashMap<String, String> = rows
        .iter()
        .map(|(table, row)| (uuid(row), (*table).to_owned()))
        .collect();
    for _ in 0..DEPTH {
        let next = rows.iter().map(|(table, row)| {
            let mut hasher = DefaultHasher::new();
            text(table, row, &names).hash(&mut hasher);
            (uuid(row), format!("{table}:{:016x}", hasher.finish()))
        });
        names = next.collect();
    }
    let mut sorted: Vec<(String, &str, &Value)> = rows
        .iter()
        .map(|(t, row)| (text(t, row, &names), *t, *row))
        .collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    // Rows that cannot be told apart have one number.
    let mut numbers = HashMap::new();
    for (n, (_, table, row)) in sorted.iter().enumerate() {
        let first = sorted[..n]
            .iter()
            .rposition(|r| r.0 != sorted[n].0)
            .map_or(0, |x| x + 1);
        numbers.insert(uuid(row), format!("{table}#{first}"));
    }
    let lines = sorted
        .iter()
        .map(|(_, table, row)| format!("{} = {}", numbers[&uuid(row)], text(table, row, &numbers)));
    lines.collect()
}

/// A row without its own name and version.
fn text(table: &str, row: &Value, names: &HashMap<String, String>) -> String {
    let mut cells: Vec<String> = row
        .as_object()
        .expect("a row")
        .iter()
        .filter(|(column, _)| !matches!(column.as_str(), "_uuid" | "_version"))
        .map(|(column, value)| format!("{column}={}", value_text(value, names)))
        .collect();
    cells.sort_unstable();
    format!("{table} {}", cells.join(" "))
}

/// A `<value>` (RFC 7047 5.1) in which sets and maps are sorted by what they show.
fn value_text(value: &Value, names: &HashMap<String, String>) -> String {
    let sorted = |parts: &Value, one: &dyn Fn(&Value) -> String| {
        let mut parts: Vec<String> = parts
            .as_array()
            .expect("elements")
            .iter()
            .map(one)
            .collect();
        parts.sort_unstable();
        parts.join(",")
    };
    match (value[0].as_str(), &value[1]) {
        (Some("uuid"), uuid) => {
            let uuid = uuid.as_str().expect("a UUID");
            names.get(uuid).map_or("no row", |n| n).to_owned()
        }
        (Some("set"), elements) => format!("[{}]", sorted(elements, &|e| value_text(e, names))),
        (Some("map"), pairs) => {
            let pair =
                |p: &Value| format!("{}:{}", value_text(&p[0], names), value_text(&p[1], names));
            format!("{{{}}}", sorted(pairs, &pair))
        }
        _ => value.to_string(),
    }
}

#[test]
fn rows_are_known_by_their_contents() {
    let (a, b, c) = (
        json!(["uuid", "00000000-0000-4000-8000-00000000000a"]),
        json!(["uuid", "00000000-0000-4000-8000-00000000000b"]),
        json!(["uuid", "00000000-0000-4000-8000-00000000000c"]),
    );
    let rows = |p1: &Value, p2: &Value, tag: u32| {
        named(vec![
            ("Bridge", &json!({"_uuid": c, "ports": ["set", [a, b]]})),
            ("Port", &json!({"_uuid": p1, "name": "p1"})),
            ("Port", &json!({"_uuid": p2, "name": "p2", "tag": tag})),
        ])
    };
    assert_eq!(rows(&a, &b, 1), rows(&b, &a, 1));
    assert_ne!(rows(&a, &b, 1), rows(&a, &b, 2));
    assert_eq!(
        rows(&a, &b, 1)[0],
        r#"Bridge#0 = Bridge ports=[Port#1,Port#2]"#
    );
}
