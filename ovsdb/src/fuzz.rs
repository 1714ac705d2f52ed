//! Entry point for fuzzing: arbitrary bytes as a client sends them, without any I/O.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::engine::{Engine, Output};
use crate::schema::DatabaseSchema;
use crate::stream::JsonStream;
use crate::transaction::Transaction;

/// A database small enough to be made thousands of times a second, with every kind of column and reference. Its
/// names are those of Open vSwitch's, so that the same inputs mean something to both.
const SCHEMA: &str = r#"{"name": "Open_vSwitch", "version": "1.0.0", "tables": {
 "Open_vSwitch": {"isRoot": true, "maxRows": 1, "columns": {
  "bridges": {"type": {"key": {"type": "uuid", "refTable": "Bridge"}, "min": 0, "max": "unlimited"}},
  "next_cfg": {"type": "integer"}, "cur_cfg": {"type": "integer"},
  "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
 "Bridge": {"indexes": [["name"]], "columns": {
  "name": {"type": "string", "mutable": false},
  "ports": {"type": {"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"}},
  "datapath_type": {"type": "string"},
  "stp_enable": {"type": "boolean"},
  "flood_vlans": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 4095}, "min": 0, "max": 4096}},
  "mirror_to": {"type": {"key": {"type": "uuid", "refTable": "Port", "refType": "weak"}, "min": 0, "max": 2}},
  "other_config": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
 "Port": {"indexes": [["name", "tag"]], "columns": {
  "name": {"type": {"key": {"type": "string", "minLength": 1, "maxLength": 15}}},
  "interfaces": {"type": {"key": {"type": "uuid", "refTable": "Interface"}, "min": 1, "max": 3}},
  "tag": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 4095}, "min": 0}},
  "qos": {"type": {"key": {"type": "uuid", "refTable": "QoS"}, "min": 0}},
  "vlan_mode": {"type": {"key": {"type": "string", "enum": ["set", ["trunk", "access"]]}, "min": 0}}}},
 "Interface": {"columns": {
  "name": {"type": "string"}, "type": {"type": "string"},
  "load": {"type": {"key": {"type": "real", "minReal": 0.0, "maxReal": 100.0}, "min": 0, "max": 2}},
  "statistics": {"type": {"key": "string", "value": "integer", "min": 0, "max": "unlimited"}, "ephemeral": true}}},
 "QoS": {"isRoot": true, "columns": {
  "type": {"type": "string"},
  "queues": {"type": {"key": {"type": "integer", "minInteger": 0}, "value": {"type": "uuid", "refTable": "Queue"},
   "min": 0, "max": "unlimited"}}}},
 "Queue": {"isRoot": true, "columns": {
  "dscp": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 63}, "min": 0}},
  "weights": {"type": {"key": "uuid", "value": "real", "min": 0, "max": 4}},
  "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}
}}"#;

fn schema() -> &'static DatabaseSchema {
    static S: LazyLock<DatabaseSchema> = LazyLock::new(|| {
        let json = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        DatabaseSchema::from_json(&json).expect("the schema is right")
    });
    &S
}

/// Feeds `data` to a server with a small database, as one client's stream while a second one
/// monitors, and lets waiting transactions run out. Nothing may panic, and what the server says
/// must be JSON.
pub fn fuzz_json(data: &[u8]) {
    let mut engine = Engine::new();
    engine.add_database(Database::new(schema().clone()), None);
    let mut t = Transaction::new();
    t.insert("Queue", [("dscp", 1i64)]);
    engine
        .run_internal("Open_vSwitch", t)
        .expect("a Queue can be inserted");
    engine.connect(1);
    engine.connect(2);
    let now = Instant::now();
    for method in ["monitor", "monitor_cond"] {
        let request = serde_json::json!({"id": 1, "method": method,
            "params": ["Open_vSwitch", method, {"Queue": {}, "QoS": {}, "Port": {}}]});
        engine.handle(2, request, now);
    }
    engine.take_output();
    let mut stream = JsonStream::new(1 << 20);
    for piece in data.chunks(61) {
        stream.feed(piece);
        while let Ok(Some(message)) = stream.next_message() {
            engine.handle(1, message, now);
        }
    }
    engine.tick(now + Duration::from_secs(3600));
    for output in engine.take_output() {
        if let Output::Send(_, message) = output {
            let text = message.to_string();
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(parsed.is_ok(), "not JSON: {text}");
        }
    }
    engine.disconnect(1);
}
