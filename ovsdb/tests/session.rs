//! A session whose server goes away: what it asks for when it comes back, and what it makes of the
//! answers.

use std::collections::BTreeMap;

use ovsdb::session::SessionOptions;
use ovsdb::stream::JsonStream;
use ovsdb::{ChangeKind, Session, Target, Wanted};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const ROWS: [&str; 2] = [
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
];
const TXNS: [&str; 3] = [
    "00000000-0000-4000-8000-00000000000a",
    "00000000-0000-4000-8000-00000000000b",
    "00000000-0000-4000-8000-00000000000c",
];

/// Serves one connection as long as requests are answered, then closes it. What was asked.
async fn serve(listener: &UnixListener, answers: &BTreeMap<&str, Value>, then: &str) -> Vec<Value> {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut stream = JsonStream::new(1 << 20);
    let mut asked = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let n = socket.read(&mut buf).await.unwrap();
        stream.feed(&buf[..n]);
        while let Some(request) = stream.next_message().unwrap() {
            let method = request["method"].as_str().unwrap();
            let answer = json!({"id": request["id"], "result": answers[method], "error": null});
            let text = answer.to_string();
            let last = method == "monitor_cond_since";
            asked.push(request);
            socket.write_all(text.as_bytes()).await.unwrap();
            if last {
                socket.write_all(then.as_bytes()).await.unwrap();
                return asked;
            }
        }
    }
}

#[tokio::test]
async fn after_a_reconnection_only_what_was_missed_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let schema = json!({"name": "db", "tables": {"t": {"columns": {"n": {"type": "integer"}}}}});
    let answer = |found: bool, txn: &str, rows: Value| {
        BTreeMap::from([
            ("get_schema", schema.clone()),
            ("monitor_cond_since", json!([found, txn, {"t": rows}])),
        ])
    };
    let first = answer(false, TXNS[0], json!({ROWS[0]: {"initial": {"n": 1}}}));
    let missed = json!({ROWS[0]: {"modify": {"n": 7}}, ROWS[1]: {"insert": {}}});
    let second = answer(true, TXNS[2], missed);
    let update = json!({"id": null, "method": "update3",
        "params": ["session", TXNS[1], {"t": {ROWS[0]: {"modify": {"n": 5}}}}]});
    let update = update.to_string();

    let options = SessionOptions {
        reconnect: true,
        ..SessionOptions::default()
    };
    let target = Target::Unix(path);
    let open = Session::open_with(&target, "db", Wanted::new(), options);
    let (asked, session) = tokio::join!(serve(&listener, &first, &update), open);
    let mut session = session.unwrap();
    assert_eq!(
        asked[1]["params"][3],
        "00000000-0000-0000-0000-000000000000"
    );

    // It hears of the update, finds the connection closed, and comes again.
    let changed = async {
        let mut all = Vec::new();
        while session.connects() < 2 {
            all.extend(session.changed().await.unwrap().changes);
        }
        all
    };
    let (asked, changes) = tokio::join!(serve(&listener, &second, ""), changed);
    assert_eq!(asked[1]["params"][3], TXNS[1]);
    let n = |row: &str| {
        let row = session.replica().row("t", &row.parse().unwrap()).unwrap();
        row.get("n").as_scalar_int()
    };
    assert_eq!((n(ROWS[0]), n(ROWS[1])), (Some(7), Some(0)));
    let kinds: Vec<&ChangeKind> = changes.iter().map(|c| &c.kind).collect();
    assert!(
        matches!(
            kinds[..],
            [
                ChangeKind::Insert,
                ChangeKind::Modify(_),
                ChangeKind::Modify(_),
                ChangeKind::Insert
            ]
        ),
        "{kinds:?}"
    );
}
