//! What is told to whom, driven without sockets.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Engine, Output};
use crate::database::Database;
use crate::schema::DatabaseSchema;

fn schema(columns: &Value) -> Value {
    json!({"name": "db", "version": "1.0.0", "tables": {"t": {"columns": columns}}})
}

fn engine(clients: u64) -> Engine {
    let mut e = Engine::new();
    let schema = schema(&json!({"n": {"type": "integer"}}));
    let schema = DatabaseSchema::from_json(&schema).unwrap();
    assert!(e.add_database(Database::new(schema), None));
    (1..=clients).for_each(|c| e.connect(c));
    e
}

fn send(e: &mut Engine, client: u64, id: u64, method: &str, params: Value) {
    let message = json!({"id": id, "method": method, "params": params});
    e.handle(client, message, Instant::now());
}

/// What went out: to whom, and the message; `null` where the client is disconnected.
fn told(e: &mut Engine) -> Vec<(u64, Value)> {
    e.take_output()
        .into_iter()
        .map(|o| match o {
            Output::Send(c, m) => (c, serde_json::from_str(&m.to_string()).unwrap()),
            Output::Disconnect(c, _) => (c, Value::Null),
        })
        .collect()
}

fn insert(n: i64) -> Value {
    json!(["db", {"op": "insert", "table": "t", "row": {"n": n}}])
}

#[test]
fn what_many_are_told_is_encoded_once() {
    let mut e = engine(100);
    for c in 1..=100 {
        let method = ["monitor_cond", "monitor"][c as usize % 2];
        send(
            &mut e,
            c,
            1,
            method,
            json!(["db", format!("name{c}"), {"t": {}}]),
        );
    }
    e.take_output();
    send(&mut e, 1, 2, "transact", insert(5));
    let mut bodies: Vec<*const u8> = Vec::new();
    for output in e.take_output() {
        let Output::Send(c, m) = output else {
            panic!("{output:?}")
        };
        let v: Value = serde_json::from_str(&m.to_string()).unwrap();
        if v.get("method").is_some() {
            assert_eq!(v["params"][0], format!("name{c}"));
            bodies.push(m.parts()[1].as_ptr());
        }
    }
    assert_eq!(bodies.len(), 100);
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 2, "one text for each of the two forms");
}

#[test]
fn a_view_ends_with_its_last_follower() {
    let mut e = engine(2);
    for c in 1..=2 {
        send(&mut e, c, 1, "monitor", json!(["db", "m", {"t": {}}]));
    }
    send(&mut e, 1, 2, "monitor_cancel", json!(["m"]));
    e.take_output();
    send(&mut e, 1, 3, "transact", insert(5));
    let to: Vec<u64> = told(&mut e).into_iter().map(|(c, _)| c).collect();
    assert_eq!(to, [2, 1]);
    e.disconnect(2);
    send(&mut e, 1, 4, "transact", insert(6));
    assert_eq!(told(&mut e).len(), 1);
}

#[test]
fn a_canceled_transaction_is_answered() {
    let mut e = engine(1);
    let wait = json!(["db", {"op": "wait", "table": "t", "where": [], "until": "!=", "rows": []}]);
    send(&mut e, 1, 7, "transact", wait);
    assert!(e.has_waiting() && told(&mut e).is_empty());
    let cancel = json!({"id": null, "method": "cancel", "params": [7]});
    e.handle(1, cancel, Instant::now());
    assert_eq!(told(&mut e), [(1, json!({"id": 7, "error": "canceled"}))]);
    assert!(!e.has_waiting());
}

#[test]
fn a_lock_passes_on_when_its_owner_goes() {
    let mut e = engine(2);
    send(&mut e, 1, 1, "lock", json!(["l"]));
    send(&mut e, 2, 1, "lock", json!(["l"]));
    e.take_output();
    e.disconnect(1);
    let locked = json!({"id": null, "method": "locked", "params": ["l"]});
    assert_eq!(told(&mut e), [(2, locked)]);
}

#[test]
fn who_is_aware_is_told_and_others_must_come_again() {
    let mut e = engine(2);
    send(&mut e, 1, 1, "set_db_change_aware", json!([true]));
    for c in 1..=2 {
        send(&mut e, c, 2, "monitor", json!(["db", "m", {"t": {}}]));
    }
    e.take_output();
    let other = schema(&json!({"n": {"type": "integer"}, "more": {"type": "string"}}));
    send(&mut e, 1, 3, "convert", json!(["db", other]));
    let canceled = json!({"id": null, "method": "monitor_canceled", "params": ["m"]});
    assert_eq!(
        told(&mut e),
        [
            (1, canceled),
            (1, json!({"id": 3, "result": {}, "error": null})),
            (2, Value::Null)
        ]
    );
    // Nothing of the old monitors is left.
    send(&mut e, 1, 4, "transact", insert(1));
    assert_eq!(told(&mut e).len(), 1);
    // The schema of the database that describes the others is not for clients to change.
    send(
        &mut e,
        1,
        5,
        "convert",
        json!(["_Server", {"name": "_Server", "tables": {}}]),
    );
    assert_eq!(told(&mut e)[0].1["error"]["error"], "not allowed");
}

#[test]
fn databases_come_and_go() {
    let mut e = engine(1);
    send(&mut e, 1, 1, "set_db_change_aware", json!([true]));
    send(
        &mut e,
        1,
        2,
        "monitor",
        json!(["_Server", "s", {"Database": {"columns": ["name"]}}]),
    );
    send(&mut e, 1, 3, "monitor", json!(["db", "m", {}]));
    e.take_output();
    assert!(e.remove_database("db") && !e.remove_database("db"));
    assert!(!e.remove_database("_Server"));
    let told = told(&mut e);
    assert_eq!(told[0].1["method"], "monitor_canceled");
    assert_eq!(told[1].1["params"][0], "s");
    send(&mut e, 1, 4, "transact", insert(1));
    let e = &told_error(&mut e)["error"];
    assert_eq!(e, "unknown database");
}

fn told_error(e: &mut Engine) -> Value {
    told(e).remove(0).1["error"].take()
}
