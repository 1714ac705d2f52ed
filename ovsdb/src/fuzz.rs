//! Entry point for fuzzing: arbitrary bytes as a client sends them, without any I/O.

use std::time::{Duration, Instant};

use crate::database::Database;
use crate::engine::{Engine, Output};
use crate::schema::vswitch_schema;
use crate::stream::JsonStream;
use crate::transaction::Transaction;

/// Feeds `data` to a server with a small database, as one client's stream while a second one
/// monitors, and lets waiting transactions run out. Nothing may panic, and what the server says
/// must be JSON.
pub fn fuzz_json(data: &[u8]) {
    let mut engine = Engine::new();
    engine.add_database(Database::new(vswitch_schema().clone()), None);
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
    let mut stream = JsonStream::new(1 << 20);
    for piece in data.chunks(61) {
        stream.feed(piece);
        while let Ok(Some(message)) = stream.next_message() {
            engine.handle(1, message, now);
        }
    }
    engine.tick(now + Duration::from_secs(3600));
    for output in engine.take_output() {
        if let Output::Send(_, text) = output {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(parsed.is_ok(), "not JSON: {text}");
        }
    }
    engine.disconnect(1);
}
