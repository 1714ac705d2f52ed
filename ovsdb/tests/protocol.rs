//! The same raw requests to our server and to Open vSwitch's: all answers and notifications must be
//! equal but for UUIDs.
//!
//! The requests are in `protocol/*.txt`, each file played from an empty database. A line is the name
//! of a client (connected when first named), what to send, and its parameters: a method with JSON
//! parameters; `raw` and `post` with a whole message; or a shorthand, see `Line::parse`. After each
//! line every client is asked for an echo, so that everything that was told is seen.
//!
//! What is left out, because Open vSwitch 3.1
//! - crashes: `monitor` or its successors without requests, `monitor_cond_change` without `where`,
//!   `convert` of `_Server`;
//! - answers in the order of a hash table: which of several superfluous members it names, which of
//!   several default values that are not allowed, which of several dangling references;
//! - keeps a weak reference to a row that a change of the referring row itself made garbage;
//! - tells the owner of a lock again that it has it when another client stops to wait for it;
//! - loses digits: reals have 17 digits here where 15 do not tell the value, so that they survive;
//! - is stricter than it need be: the empty set as a map, a reply that nobody waits for;
//! - does not answer a canceled transaction, which RFC 7047 4.1.4 wants;
//! - remembers no transactions of a standalone database, so that it always calls the last one zero.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ovsdb::stream::JsonStream;
use ovsdb::{DatabaseSchema, Server, ServerOptions, Target};
use serde_json::Value;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol");

struct Line {
    client: String,
    message: String,
    /// The id of the answer to wait for.
    id: Option<Value>,
}

impl Line {
    fn parse(n: usize, text: &str) -> Self {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (client, what, rest) = (word(), word(), word());
        let one_op = |op: String, column: &str| {
            let column = if column == "nope" { "name" } else { column };
            let select = format!(
                "{{\"op\":\"select\",\"table\":\"root\",\"where\":[],\"columns\":[\"{column}\"]}}"
            );
            ("transact", format!("[\"db\",{op},{select}]"))
        };
        let (method, params) = match what {
            "raw" | "post" => {
                return Self {
                    client: client.into(),
                    message: rest.into(),
                    id: None,
                };
            }
            // A column of all rows of table root is given a value.
            "set" => {
                let (column, value) = rest.split_once(' ').unwrap();
                one_op(
                    format!(
                        "{{\"op\":\"update\",\"table\":\"root\",\"where\":[],\"row\":{{\"{column}\":{value}}}}}"
                    ),
                    column,
                )
            }
            // Likewise by a mutator.
            "mutate" => {
                let (column, rest) = rest.split_once(' ').unwrap();
                let (mutator, value) = rest.split_once(' ').unwrap();
                let mutator = if mutator.starts_with('"') || mutator.parse::<u8>().is_ok() {
                    mutator.to_owned()
                } else {
                    format!("\"{mutator}\"")
                };
                one_op(
                    format!(
                        "{{\"op\":\"mutate\",\"table\":\"root\",\"where\":[],\"mutations\":[[\"{column}\",{mutator},{value}]]}}"
                    ),
                    column,
                )
            }
            // The names of the rows that fit.
            "where" => (
                "transact",
                format!(
                    "[\"db\",{{\"op\":\"select\",\"table\":\"root\",\"columns\":[\"name\"],\"where\":{rest}}}]"
                ),
            ),
            method => (method, rest.to_owned()),
        };
        Self {
            client: client.into(),
            message: format!("{{\"id\":{n},\"method\":\"{method}\",\"params\":{params}}}"),
            id: Some(n.into()),
        }
    }
}

struct Client {
    socket: UnixStream,
    stream: JsonStream,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        let limit = Some(Duration::from_secs(30));
        socket.set_read_timeout(limit).unwrap();
        Self {
            socket,
            stream: JsonStream::new(1 << 24),
        }
    }

    fn send(&mut self, text: &str) {
        // A connection that is closed shows when reading.
        _ = self.socket.write_all(text.as_bytes());
    }

    /// The next message, `None` where the connection is closed.
    fn receive(&mut self) -> Option<Value> {
        let mut buf = [0; 1 << 14];
        loop {
            if let Some(v) = self.stream.next_message().unwrap() {
                return Some(v);
            }
            match self.socket.read(&mut buf) {
                Ok(n) if n > 0 => self.stream.feed(&buf[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the server does not answer")
                }
                _ => return None,
            }
        }
    }

    /// Everything up to the answer with that id, and whether the connection is still there.
    fn until(&mut self, id: &Value, out: &mut Vec<Value>) -> bool {
        loop {
            match self.receive() {
                None => {
                    out.push("closed".into());
                    return false;
                }
                Some(v) if v["id"] == *id && v.get("method").is_none() => {
                    out.push(v);
                    return true;
                }
                Some(v) => out.push(v),
            }
        }
    }
}

/// What each client was told after each line.
type Told = Vec<BTreeMap<String, Vec<Value>>>;

fn play(socket: &Path, lines: &[&str]) -> Told {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    let mut told = Told::new();
    for (n, text) in lines.iter().enumerate() {
        let line = Line::parse(n, text);
        let mut now: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let client = clients
            .entry(line.client.clone())
            .or_insert_with(|| Client::connect(socket));
        client.send(&line.message);
        let mut gone = Vec::new();
        if let Some(id) = &line.id {
            let out = now.entry(line.client.clone()).or_default();
            if !client.until(id, out) {
                gone.push(line.client.clone());
            }
        }
        for (name, client) in &mut clients {
            if gone.contains(name) {
                continue;
            }
            client.send(r#"{"id":"flush","method":"echo","params":[]}"#);
            let out = now.entry(name.clone()).or_default();
            if client.until(&"flush".into(), out) {
                out.pop();
            } else {
                gone.push(name.clone());
            }
        }
        clients.retain(|name, _| !gone.contains(name));
        now.retain(|_, out| !out.is_empty());
        told.push(now);
    }
    told
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().filter(|b| *b == b'-').count() == 4
}

/// The text with every UUID, also within words, replaced by what `f` makes of it.
fn replace_uuids(text: &str, f: &mut dyn FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match rest.get(..36) {
            Some(u) if is_uuid(u) && u.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) => {
                out.push_str(&f(u));
                rest = &rest[36..];
            }
            _ => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// UUIDs that the corpus itself gives.
fn fixed(uuid: &str) -> bool {
    uuid.starts_with("00000000-0000-4000")
}

fn masked(v: &Value) -> String {
    replace_uuids(&ordered(v).to_string(), &mut |u| {
        if fixed(u) { u.into() } else { "?".into() }
    })
}

/// Members in alphabetical order, those named by UUIDs and rows by what they hold.
fn ordered(v: &Value) -> Value {
    match v {
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> =
                map.iter().map(|(k, v)| (k.clone(), ordered(v))).collect();
            pairs.sort_by_cached_key(|(k, v)| {
                if is_uuid(k) && !fixed(k) {
                    masked(v)
                } else {
                    k.clone()
                }
            });
            for (k, v) in &mut pairs {
                if let (true, Value::Array(rows)) = (k == "rows", v) {
                    rows.sort_by_cached_key(masked);
                }
            }
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(ordered).collect()),
        other => other.clone(),
    }
}

/// The two rows that an error about a unique index speaks of have no order.
fn order_rows(v: &mut Value) {
    match v {
        Value::String(s) => {
            if let Some((head, rows)) = s.split_once("  First row, ")
                && let Some((a, b)) = rows.split_once("  Second row, ")
            {
                let mut rows = [a, b];
                rows.sort_by_cached_key(|r| masked(&Value::from(*r)));
                *s = format!("{head}  {}  {}", rows[0], rows[1]);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(order_rows),
        Value::Object(map) => map.values_mut().for_each(order_rows),
        _ => {}
    }
}

/// The told in a form that is the same for both servers.
fn normal(told: Told, lines: &[&str]) -> Vec<String> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut out = Vec::new();
    for (now, line) in told.into_iter().zip(lines) {
        let mut text = String::new();
        for (client, mut list) in now {
            for v in &mut list {
                order_rows(v);
                if v.get("method").is_some_and(|m| m == "update3") {
                    v["params"][1] = "TXN".into();
                }
                if line.contains("monitor_cond_since")
                    && v.get("result").is_some_and(Value::is_array)
                {
                    v["result"][1] = "TXN".into();
                }
                if let (true, Some(names)) = (
                    line.contains("list_dbs"),
                    v.get_mut("result").and_then(Value::as_array_mut),
                ) {
                    names.sort_by_key(Value::to_string);
                }
            }
            // Notifications that come together have no order between them.
            for group in list.chunk_by_mut(|a, b| {
                a.get("method").is_some() == b.get("method").is_some() && a.is_object()
            }) {
                group.sort_by_cached_key(masked);
            }
            for v in list {
                text += &format!("{client} < {}\n", ordered(&v));
            }
        }
        out.push(replace_uuids(&text, &mut |u| {
            if fixed(u) {
                return u.into();
            }
            let next = numbers.len();
            format!("<{}>", numbers.entry(u.into()).or_insert(next))
        }));
    }
    out
}

struct Stock(Child);

impl Drop for Stock {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn wait_for(socket: &Path) {
    let end = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "the server did not start");
        std::thread::yield_now();
    }
}

fn schema() -> DatabaseSchema {
    let text = std::fs::read_to_string(format!("{DIR}/schema.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    DatabaseSchema::from_json(&json).unwrap()
}

fn compare(name: &str) {
    let program = ["/usr/sbin/ovsdb-server", "/usr/bin/ovsdb-server"]
        .into_iter()
        .find(|p| Path::new(p).is_file());
    let Some(program) = program else {
        eprintln!("SKIPPED: ovsdb-server is not installed, nothing was compared with it");
        return;
    };
    let text = std::fs::read_to_string(format!("{DIR}/{name}.txt")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| -> PathBuf { dir.path().join(file) };

    ovsdb::journal::create(&path("stock.db"), &schema()).unwrap();
    let _stock = Stock(
        Command::new(program)
            .arg(path("stock.db"))
            .arg(format!("--remote=punix:{}", path("stock").display()))
            .arg(format!("--unixctl={}", path("ctl").display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_for(&path("stock"));
    let theirs = normal(play(&path("stock"), &lines), &lines);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = ServerOptions {
        db_path: path("ours.db"),
        create: Some(schema()),
        remotes: vec![Target::PassiveUnix(path("ours"))],
        ..ServerOptions::default()
    };
    let _server = runtime.block_on(Server::open(options)).unwrap();
    let ours = normal(play(&path("ours"), &lines), &lines);

    let mut wrong = 0;
    for ((line, theirs), ours) in lines.iter().zip(&theirs).zip(&ours) {
        if theirs != ours {
            wrong += 1;
            eprintln!("{line}\n  Open vSwitch:\n{theirs}  ours:\n{ours}");
        }
    }
    assert_eq!(wrong, 0, "of {} answers of {name}.txt differ", lines.len());
}

#[test]
fn json_rpc_and_methods() {
    compare("rpc");
}

#[test]
fn operations() {
    compare("operations");
}

#[test]
fn values() {
    compare("values");
}

#[test]
fn conditions() {
    compare("conditions");
}

#[test]
fn mutations() {
    compare("mutations");
}

#[test]
fn references() {
    compare("references");
}

#[test]
fn waits_and_locks() {
    compare("waits");
}

#[test]
fn monitors() {
    compare("monitors");
}

#[test]
fn conversion() {
    compare("convert");
}
