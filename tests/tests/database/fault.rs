//! The server is killed at random moments under load, several hundred times: what it has
//! acknowledged is there after the restart, and no transaction is half there.
//!
//! Each [`WRITERS`] sends transaction after transaction. Number N of a writer inserts [`PARTS`] rows
//! and deletes those of number N - [`KEEP`], so the rows in the database tell exactly which
//! transactions took effect, and whether wholly. Each test is [`ROUNDS`] rounds of start, check,
//! load and kill on one file, with another fault beside the kill.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tests::peers::Peer;
use tests::process::{Daemon, run};
use tests::tools::Tools;
use tests::wait;

/// Rounds of each of the four tests: 500 in all.
const ROUNDS: u32 = 125;
const WRITERS: usize = 4;
const PARTS: u64 = 3;
const KEEP: u64 = 4;
/// Acknowledged transactions of a round before the kill, at most.
const ACKS: u64 = 40;

#[test]
fn kills() {
    let mut bench = Bench::new();
    for _ in 0..ROUNDS {
        let mut load = bench.start(false);
        load.until_acks(bench.random(ACKS));
        bench.end(load);
    }
    bench.finish();
}

#[test]
fn kills_while_compacting() {
    let mut bench = Bench::new();
    for _ in 0..ROUNDS {
        let mut load = bench.start(true);
        load.until_acks(bench.random(ACKS));
        bench.end(load);
    }
    let done = bench.compactions.load(Ordering::Relaxed);
    assert!(done > u64::from(ROUNDS) / 2, "{done} compactions");
    bench.finish();
}

/// The last write before the kill reaches the disk in part only.
#[test]
fn kills_within_a_write() {
    let mut bench = Bench::new();
    let mut torn = 0;
    for i in 0..ROUNDS {
        let mut load = bench.start(i % 2 == 0);
        load.until_acks(bench.random(ACKS));
        bench.end(load);
        torn += usize::from(bench.tear());
    }
    let load = bench.start(false);
    bench.end(load);
    let log = std::fs::read_to_string(bench.path("log")).expect("log");
    let told = log.matches("are cut off").count();
    assert_eq!(told, torn, "every cut is told");
    assert!(torn > ROUNDS as usize / 2, "{torn} torn writes");
    bench.finish();
}

/// Writes fail at a random byte, as on a full disk; half of the time there is space again
/// before the kill.
#[test]
fn kills_on_a_full_disk() {
    let mut bench = Bench::new();
    for i in 0..ROUNDS {
        let compact = i % 3 == 0;
        let mut load = bench.start(compact);
        load.until_acks(bench.random(ACKS / 2));
        // A file that compaction makes smaller must not fit, either.
        let size = match compact {
            true => 0,
            false => std::fs::metadata(bench.path("db")).expect("file").len(),
        };
        load.limit_files(&(size + bench.random(2000)).to_string());
        load.until_refusals(1 + bench.random(4));
        if i % 2 == 0 {
            load.limit_files("unlimited");
            let acks = load.acks.load(Ordering::Relaxed);
            load.until_acks(acks + WRITERS as u64);
        }
        bench.end(load);
    }
    bench.finish();
}

/// What a writer knows of its transactions.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The last one that was acknowledged.
    acknowledged: u64,
    /// The last one that was sent.
    sent: u64,
    /// That one was refused.
    refused: bool,
}

/// A database file and what is known of it.
struct Bench {
    directory: tempfile::TempDir,
    known: [Known; WRITERS],
    random: u64,
    compactions: Arc<AtomicU64>,
}

/// A server at work, and those who write.
struct Load {
    server: Daemon,
    writers: Vec<JoinHandle<Known>>,
    compactor: Option<JoinHandle<()>>,
    acks: Arc<AtomicU64>,
    refusals: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::Builder::new()
            .prefix("wf")
            .tempdir()
            .expect("temporary directory");
        let columns: serde_json::Map<String, Value> = ["writer", "number", "part"]
            .map(|c| (c.to_owned(), json!({"type": "integer"})))
            .into_iter()
            .chain([("pad".to_owned(), json!({"type": "string"}))])
            .collect();
        let schema = json!({"name": "d", "version": "1.0.0", "tables": {"t": {
            "isRoot": true, "columns": columns, "indexes": [["writer", "number", "part"]]}}});
        let bench = Bench {
            // Other moments in every run.
            random: RandomState::new().build_hasher().finish(),
            directory,
            known: Default::default(),
            compactions: Arc::default(),
        };
        let file = bench.path("schema");
        std::fs::write(&file, schema.to_string()).expect("schema");
        let mut c = Tools::Weir.command("ovsdb-tool", bench.directory.path(), None);
        c.arg("create").arg(bench.path("db")).arg(&file);
        tests::process::output(c).ok();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A number below `end` (xorshift64).
    fn random(&mut self, end: u64) -> u64 {
        let mut x = self.random | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        (x >> 16) % end.max(1)
    }

    /// Starts the server, checks what it has, and puts it under load.
    fn start(&mut self, compact: bool) -> Load {
        let dir = self.directory.path();
        let mut c = Tools::Weir.command("ovsdb-server", dir, None);
        c.current_dir(dir)
            .args(["--remote=punix:s", "--unixctl=ctl", "db"]);
        let mut server = Daemon::spawn(c, &self.path("log"));
        let socket = self.path("s");
        wait::until("the server to listen", || {
            assert!(server.is_running(), "the server ended");
            UnixStream::connect(&socket).is_ok()
        });
        self.check(&mut Client::connect(&socket));
        let (acks, refusals) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let writers = (0..WRITERS)
            .map(|w| {
                let client = Client::connect(&socket);
                let (known, acks, refusals) = (self.known[w], acks.clone(), refusals.clone());
                thread::spawn(move || write(client, w, known, &acks, &refusals))
            })
            .collect();
        let compactor = compact.then(|| {
            let control = self.path("ctl");
            wait::until("the control socket", || {
                UnixStream::connect(&control).is_ok()
            });
            let mut control = Client::connect(&control);
            let done = self.compactions.clone();
            thread::spawn(move || {
                while let Some(answer) = control.call("ovsdb-server/compact", json!([])) {
                    if answer["error"].is_null() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        Load {
            server,
            writers,
            compactor,
            acks,
            refusals,
        }
    }

    /// Compares the rows that are there with what is known.
    fn check(&mut self, client: &mut Client) {
        let select = json!(["d", {"op": "select", "table": "t", "where": []}]);
        let answer = client.call("transact", select).expect("an answer");
        let rows = answer["result"][0]["rows"].as_array().expect("rows");
        let mut there = [const { BTreeMap::<u64, u64>::new() }; WRITERS];
        for row in rows {
            let column = |name: &str| row[name].as_u64().expect("a number");
            *there[column("writer") as usize]
                .entry(column("number"))
                .or_default() += 1;
        }
        for (w, (there, known)) in there.iter().zip(&mut self.known).enumerate() {
            let last = there.keys().last().copied().unwrap_or(0);
            let (acknowledged, sent) = (known.acknowledged, known.sent);
            assert!(
                last >= acknowledged,
                "writer {w}: {acknowledged} was acknowledged, {last} is there"
            );
            assert!(last <= sent, "writer {w}: {sent} was sent, {last} is there");
            if known.refused {
                assert_eq!(last, acknowledged, "writer {w}: {sent} was refused");
            }
            let whole: BTreeMap<u64, u64> = (1..=last)
                .filter(|n| n + KEEP > last)
                .map(|n| (n, PARTS))
                .collect();
            assert_eq!(there, &whole, "writer {w}: transactions are whole");
            *known = Known {
                acknowledged: last,
                sent: last,
                refused: false,
            };
        }
    }

    /// Kills the server and hears from the writers what they know.
    fn end(&mut self, mut load: Load) {
        load.server.kill();
        for (w, writer) in std::mem::take(&mut load.writers).into_iter().enumerate() {
            self.known[w] = writer.join().expect("a writer");
        }
        if let Some(compactor) = load.compactor.take() {
            compactor.join().expect("the compactor");
        }
    }

    /// Makes the file end within a record that was not acknowledged: one that is there, or one
    /// more. False where it happens to end well.
    fn tear(&mut self) -> bool {
        let path = self.path("db");
        let mut bytes = std::fs::read(&path).expect("file");
        let mut ends = vec![];
        let mut last_good = 0;
        let mut pos = 0;
        while let Some((json, end)) = record(&bytes[pos..]) {
            pos += end;
            ends.push(pos);
            // The schema and snapshots count as acknowledged.
            if ends.len() <= 2 || self.acknowledged(&json) {
                last_good = pos;
            }
        }
        if last_good == bytes.len() {
            let text = json!({"t": {"pad": "x".repeat(self.random(300) as usize)}}).to_string();
            // A good header, but not the JSON it belongs to.
            let header = format!("OVSDB JSON {} {}\n", text.len(), "0".repeat(40));
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let span = (bytes.len() - last_good) as u64;
        let cut = last_good + self.random(span) as usize;
        bytes.truncate(cut);
        std::fs::write(&path, &bytes).expect("file");
        cut != last_good && !ends.contains(&cut)
    }

    /// Whether a record is of a transaction that its writer knows to have been acknowledged.
    fn acknowledged(&self, record: &Value) -> bool {
        let rows = record["t"].as_object().into_iter().flatten();
        rows.filter_map(|(_, row)| Some((row["writer"].as_u64(), row["number"].as_u64()?)))
            // Defaults are not written: writer 0.
            .any(|(w, n)| n <= self.known[w.unwrap_or(0) as usize].acknowledged)
    }

    /// The file at the end is one that Open vSwitch reads.
    fn finish(mut self) {
        let mut load = self.start(true);
        load.until_acks(1);
        self.end(load);
        if Peer::Ovs.missing().is_none() {
            let db = self.path("db");
            run("ovsdb-tool", [Path::new("-mm"), Path::new("show-log"), &db]).ok();
            let query = r#"["d",{"op":"select","table":"t","where":[]}]"#;
            run("ovsdb-tool", [Path::new("query"), &db, Path::new(query)]).ok();
        }
        drop(self.start(false));
    }
}

/// The first record in `bytes`, and its length.
fn record(bytes: &[u8]) -> Option<(Value, usize)> {
    let line = bytes.split(|b| *b == b'\n').next()?;
    let header = std::str::from_utf8(line).ok()?;
    let length: usize = header.split(' ').nth(2)?.parse().ok()?;
    let end = line.len() + 1 + length;
    let json = serde_json::from_slice(bytes.get(line.len() + 1..end)?).ok()?;
    Some((json, end))
}

impl Load {
    fn until_acks(&mut self, n: u64) {
        self.until("answers", &self.acks.clone(), n);
    }

    fn until_refusals(&mut self, n: u64) {
        self.until("refusals", &self.refusals.clone(), n);
    }

    fn until(&mut self, what: &str, count: &AtomicU64, n: u64) {
        wait::until(what, || {
            assert!(self.server.is_running(), "the server ended");
            count.load(Ordering::Relaxed) >= n
        });
    }

    /// Bounds the size of files the server writes (`RLIMIT_FSIZE`).
    fn limit_files(&self, bytes: &str) {
        // The soft limit only, so that it can be raised again.
        run(
            "prlimit",
            [
                format!("--pid={}", self.server.pid()),
                format!("--fsize={bytes}:unlimited"),
            ],
        )
        .ok();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.server.kill();
        for writer in self.writers.drain(..) {
            _ = writer.join();
        }
    }
}

/// Sends transactions until the server is gone.
fn write(
    mut client: Client,
    writer: usize,
    mut known: Known,
    acks: &AtomicU64,
    refusals: &AtomicU64,
) -> Known {
    loop {
        let number = known.acknowledged + 1;
        let pad = "p".repeat((number * 97 % 500) as usize);
        let mut params = vec![json!("d")];
        for part in 0..PARTS {
            let row = json!({"writer": writer, "number": number, "part": part, "pad": pad});
            params.push(json!({"op": "insert", "table": "t", "row": row}));
        }
        if number > KEEP {
            let old = json!([["writer", "==", writer], ["number", "==", number - KEEP]]);
            params.push(json!({"op": "delete", "table": "t", "where": old}));
        }
        known.sent = number;
        known.refused = false;
        let Some(answer) = client.call("transact", params.into()) else {
            return known;
        };
        let results = answer["result"].as_array().expect("results");
        match results.iter().find_map(|r| r["error"].as_str()) {
            None => {
                known.acknowledged = number;
                acks.fetch_add(1, Ordering::Relaxed);
            }
            Some("I/O error") => {
                known.refused = true;
                refusals.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => panic!("{answer}"),
        }
    }
}

/// A JSON-RPC client that does one thing at a time.
struct Client {
    stream: UnixStream,
    answers: serde_json::StreamDeserializer<
        'static,
        serde_json::de::IoRead<BufReader<UnixStream>>,
        Value,
    >,
}

impl Client {
    fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).expect("connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("timeout");
        let reader = BufReader::new(stream.try_clone().expect("descriptor"));
        Client {
            stream,
            answers: serde_json::Deserializer::from_reader(reader).into_iter(),
        }
    }

    /// The answer; `None` where the connection has ended.
    fn call(&mut self, method: &str, params: Value) -> Option<Value> {
        let request = json!({"id": 0, "method": method, "params": params}).to_string();
        self.stream.write_all(request.as_bytes()).ok()?;
        match self.answers.next()? {
            Ok(answer) => Some(answer),
            Err(e) => {
                let timeout = e.io_error_kind() == Some(std::io::ErrorKind::WouldBlock);
                assert!(!timeout, "no answer to {method}");
                None
            }
        }
    }
}
