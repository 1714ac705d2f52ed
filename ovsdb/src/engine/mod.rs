//! The server without its sockets (RFC 7047 4.1): messages and the time in, messages out.
//!
//! An [`Engine`] holds the databases, and for each client its monitors, locks and transactions
//! that wait. Whoever drives it (one thread, see [`crate::server`]) hands it messages in the order
//! they come and then sends what [`Engine::take_output`] returns. A commit takes effect in memory
//! at once and its record is handed to the database's [`CommitLog`]; the driver lets no output out
//! before the log is safe on disk, so that a whole batch of transactions shares one `fsync`.

mod message;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::database::{Commit, Database};
use crate::error::OvsdbError;
use crate::exec::{Context, Executed, execute};
use crate::monitor::Monitor;
use crate::schema::server_schema;
use crate::transaction::Transaction;
use crate::value::{Datum, Uuid};

pub use message::Message;

/// Most transactions of one client that may wait at a time.
pub const MAX_WAITING: usize = 1000;
/// Most monitors of one client.
pub const MAX_MONITORS: usize = 1000;
/// Most locks of one client.
pub const MAX_LOCKS: usize = 1000;

/// Names a client within the server.
pub type ClientId = u64;

/// Where commits are kept.
pub trait CommitLog: Send {
    /// Adds one record, a JSON text without line end.
    ///
    /// # Errors
    /// Then the record must not have been added, and the transaction fails.
    fn append(&mut self, record: &str) -> std::io::Result<()>;
}

/// What is to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A message to a client.
    Send(ClientId, Message),
    /// The client broke the protocol: to be disconnected, for this reason.
    Disconnect(ClientId, String),
}

/// The locks of a client (RFC 7047 4.1.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockNames {
    /// Those that are its own.
    pub held: Vec<String>,
    /// Those it waits for.
    pub waiting: Vec<String>,
    /// Those that were stolen from it.
    pub lost: Vec<String>,
}

struct Served {
    db: Database,
    log: Option<Box<dyn CommitLog>>,
    read_only: bool,
}

#[derive(Default)]
struct ClientState {
    /// By the JSON text of their names.
    monitors: BTreeMap<String, Monitor>,
    locks: Vec<String>,
    waiting: usize,
}

/// A transaction whose `wait` does not hold yet.
struct Waiting {
    client: ClientId,
    id: Value,
    db: String,
    ops: Vec<Value>,
    since: Instant,
    deadline: Option<Instant>,
}

/// The server's state.
pub struct Engine {
    dbs: BTreeMap<String, Served>,
    clients: HashMap<ClientId, ClientState>,
    /// Each lock's owner and those who wait for it, in order.
    locks: HashMap<String, VecDeque<ClientId>>,
    waiting: Vec<Waiting>,
    output: Vec<Output>,
    server_id: Uuid,
    /// Counts commits that changed something.
    commits: u64,
    durable: bool,
    /// Milliseconds since 1970 to write into the journal, set by the driver.
    date: u64,
}

const SERVER_DB: &str = "_Server";

fn bad_params(params: &Value, text: impl Into<String>) -> OvsdbError {
    OvsdbError::syntax(params, text)
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// A server without databases, but for the `_Server` one that describes it.
    pub fn new() -> Self {
        let mut e = Self {
            dbs: BTreeMap::new(),
            clients: HashMap::new(),
            locks: HashMap::new(),
            waiting: Vec::new(),
            output: Vec::new(),
            server_id: Uuid::new_v4(),
            commits: 0,
            durable: false,
            date: 0,
        };
        e.put(
            SERVER_DB.into(),
            Database::new(server_schema().clone()),
            None,
            true,
        );
        e
    }

    fn put(
        &mut self,
        name: String,
        db: Database,
        log: Option<Box<dyn CommitLog>>,
        read_only: bool,
    ) {
        // A server's own tables tell the schema of all but themselves.
        let schema = if name == SERVER_DB {
            Datum::empty_set()
        } else {
            Datum::scalar(db.schema().to_json().to_string())
        };
        self.dbs.insert(name.clone(), Served { db, log, read_only });
        let mut t = Transaction::new();
        t.insert(
            "Database",
            [
                ("name", Datum::scalar(name)),
                ("model", "standalone".into()),
                ("connected", true.into()),
                ("leader", true.into()),
                ("schema", schema),
            ],
        );
        if let Err(e) = self.run_internal(SERVER_DB, t) {
            tracing::error!(%e, "describing a database");
        }
    }

    /// Serves a database, under its schema's name; `log` keeps its commits.
    pub fn add_database(&mut self, db: Database, log: Option<Box<dyn CommitLog>>) {
        self.put(db.schema().name.clone(), db, log, false);
    }

    /// A served database.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.dbs.get(name).map(|s| &s.db)
    }

    /// The names of the databases, in order.
    pub fn database_names(&self) -> Vec<String> {
        self.dbs.keys().cloned().collect()
    }

    /// Counts up with every commit that changed something.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// True where transactions wait for something to change.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// True where a commit since the last call asked for durability by itself.
    pub fn take_durable(&mut self) -> bool {
        std::mem::take(&mut self.durable)
    }

    /// The server's id, random at each start (`get_server_id`).
    pub fn server_id(&self) -> Uuid {
        self.server_id
    }

    /// Sets the wall clock time that journal records carry, in milliseconds since 1970.
    pub fn set_date(&mut self, ms: u64) {
        self.date = ms;
    }

    /// A client has come.
    pub fn connect(&mut self, client: ClientId) {
        self.clients.insert(client, ClientState::default());
    }

    /// A client has gone.
    pub fn disconnect(&mut self, client: ClientId) {
        let Some(state) = self.clients.remove(&client) else {
            return;
        };
        for name in state.locks {
            self.release(client, &name);
        }
        self.waiting.retain(|w| w.client != client);
    }

    /// The locks of a client, by how it stands with them.
    pub fn lock_names(&self, client: ClientId) -> LockNames {
        let mut names = LockNames::default();
        for name in self.clients.get(&client).into_iter().flat_map(|s| &s.locks) {
            let queue = self.locks.get(name);
            let list = match queue.and_then(|q| q.iter().position(|c| *c == client)) {
                Some(0) => &mut names.held,
                Some(_) => &mut names.waiting,
                None => &mut names.lost,
            };
            list.push(name.clone());
        }
        names
    }

    /// Clients that are here.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// What is to go out since the last call.
    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.output)
    }

    /// When [`Engine::tick`] wants to be called though nothing came in.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|w| w.deadline).min()
    }

    fn send(&mut self, client: ClientId, text: String) {
        self.output.push(Output::Send(client, Message::new(text)));
    }

    fn notify(&mut self, client: ClientId, method: &str, params: Value) {
        self.send(
            client,
            json!({"id": null, "method": method, "params": params}).to_string(),
        );
    }

    fn reply(&mut self, client: ClientId, id: &Value, result: Result<Value, OvsdbError>) {
        let (result, error) = match result {
            Ok(v) => (v, Value::Null),
            Err(e) if e.details.is_empty() => (Value::Null, e.name.into()),
            Err(e) => (Value::Null, e.to_json()),
        };
        self.reply_text(client, id, &result.to_string(), &error.to_string());
    }

    fn reply_text(&mut self, client: ClientId, id: &Value, result: &str, error: &str) {
        self.send(
            client,
            format!("{{\"id\":{id},\"result\":{result},\"error\":{error}}}"),
        );
    }

    /// Takes one message of a client.
    pub fn handle(&mut self, client: ClientId, message: Value, now: Instant) {
        if !self.clients.contains_key(&client) {
            return;
        }
        if let Err(why) = self.message(client, message, now) {
            self.output.push(Output::Disconnect(client, why));
        }
    }

    fn message(
        &mut self,
        client: ClientId,
        mut message: Value,
        now: Instant,
    ) -> Result<(), String> {
        let Some(map) = message.as_object_mut() else {
            return Err("message is not a JSON object".into());
        };
        if let Some(extra) = map
            .keys()
            .find(|k| !matches!(k.as_str(), "method" | "params" | "id" | "result" | "error"))
        {
            return Err(format!("message has unexpected member \"{extra}\""));
        }
        let id = map.remove("id").unwrap_or_default();
        let method = match map.remove("method") {
            None | Some(Value::Null) => {
                // A reply to our own `echo`, or to nothing.
                return if map.contains_key("result") || map.contains_key("error") {
                    Ok(())
                } else {
                    Err("message has neither \"method\" nor \"result\"".into())
                };
            }
            Some(Value::String(m)) => m,
            Some(_) => return Err("method is not a JSON string".into()),
        };
        let params = match map.remove("params") {
            Some(p @ Value::Array(_)) => p,
            _ => return Err("params must be JSON array".into()),
        };
        if id.is_null() {
            if method == "cancel" {
                self.cancel(client, &params);
            } else {
                return Err(format!("unknown notification \"{method}\""));
            }
            return Ok(());
        }
        let result = match method.as_str() {
            "echo" => Ok(params),
            "transact" => return self.transact(client, id, params, now),
            "list_dbs" => Ok(self.dbs.keys().cloned().collect()),
            "get_schema" => self
                .named_db("get_schema", &params)
                .map(|(_, s)| s.db.schema().to_json()),
            "get_server_id" => Ok(self.server_id.to_string().into()),
            "monitor" => return self.monitor(client, id, params, 1),
            "monitor_cond" => return self.monitor(client, id, params, 2),
            "monitor_cond_since" => return self.monitor(client, id, params, 3),
            "monitor_cond_change" => self.monitor_change(client, &params),
            "monitor_cancel" => self.monitor_cancel(client, &params),
            "set_db_change_aware" => match params.as_array().map(Vec::as_slice) {
                Some([Value::Bool(_)]) => Ok(json!({})),
                _ => Err(bad_params(
                    &params,
                    "set_db_change_aware request params must be [<boolean>]",
                )),
            },
            "lock" => self.lock(client, &params, false),
            "steal" => self.lock(client, &params, true),
            "unlock" => self.unlock(client, &params),
            _ => Err(OvsdbError::new("unknown method", "")),
        };
        self.reply(client, &id, result);
        Ok(())
    }

    fn named_db(&self, method: &str, params: &Value) -> Result<(String, &Served), OvsdbError> {
        let name = params.get(0).and_then(Value::as_str).ok_or_else(|| {
            bad_params(
                params,
                format!("{method} request params must begin with <db-name>"),
            )
        })?;
        match self.dbs.get(name) {
            Some(s) => Ok((name.into(), s)),
            None => Err(OvsdbError::new(
                "unknown database",
                format!("{method} request specifies unknown database {name}"),
            )
            .at(params)),
        }
    }

    // --- transactions ---

    fn transact(
        &mut self,
        client: ClientId,
        id: Value,
        params: Value,
        now: Instant,
    ) -> Result<(), String> {
        let db = match self.named_db("transact", &params) {
            Ok((name, _)) => name,
            Err(e) => {
                self.reply(client, &id, Err(e));
                return Ok(());
            }
        };
        let Value::Array(mut ops) = params else {
            return Ok(());
        };
        ops.remove(0);
        let waiting = Waiting {
            client,
            id,
            db,
            ops,
            since: now,
            deadline: None,
        };
        if let Some(mut waiting) = self.attempt(waiting, now) {
            waiting.since = now;
            let state = self.clients.entry(client).or_default();
            if state.waiting >= MAX_WAITING {
                let e = OvsdbError::new(
                    "resources exhausted",
                    format!("{MAX_WAITING} transactions of this client wait already"),
                );
                self.reply(client, &waiting.id, Err(e));
            } else {
                state.waiting += 1;
                self.waiting.push(waiting);
            }
        }
        Ok(())
    }

    /// Runs a transaction; gives it back if it has to wait.
    fn attempt(&mut self, mut w: Waiting, now: Instant) -> Option<Waiting> {
        let Some(served) = self.dbs.get(&w.db) else {
            let id = w.id;
            self.reply(w.client, &id, Err(OvsdbError::new("canceled", "")));
            return None;
        };
        let locks = &self.locks;
        let client = w.client;
        let context = Context {
            owns_lock: &|name| locks.get(name).and_then(VecDeque::front) == Some(&client),
            waited: now.saturating_duration_since(w.since),
            read_only: served.read_only,
        };
        match execute(&served.db, &w.ops, &context) {
            Executed::Wait(left) => {
                // A server with a stopped clock must still come to an end.
                w.deadline = left.map(|l| now + l.max(Duration::from_millis(1)));
                Some(w)
            }
            Executed::Failed(results) => {
                self.reply(client, &w.id, Ok(results.into()));
                None
            }
            Executed::Done(mut results, commit) => {
                if let Err(e) = self.commit(&w.db, commit) {
                    results.push(e.to_json());
                }
                self.reply(client, &w.id, Ok(results.into()));
                None
            }
        }
    }

    /// Journals a checked commit, puts it into effect and tells the monitors.
    fn commit(&mut self, name: &str, mut commit: Commit) -> Result<(), OvsdbError> {
        if commit.changes.is_empty() {
            return Ok(());
        }
        let Some(served) = self.dbs.get_mut(name) else {
            return Ok(());
        };
        commit.changes.sort_by_key(|c| c.table);
        if let Some(log) = &mut served.log
            && let Some(record) = served.db.record(&commit, self.date)
        {
            log.append(&record).map_err(|e| {
                tracing::error!(db = name, error = %e, "writing the journal failed, transaction refused");
                OvsdbError::new("I/O error", format!("writing the database file failed: {e}"))
            })?;
        }
        served.db.apply(&mut commit);
        self.commits += 1;
        self.durable |= commit.durable;
        let db = &served.db;
        for (client, state) in &self.clients {
            for m in state.monitors.values().filter(|m| m.db == name) {
                if let Some(text) = m.update(db, &commit) {
                    self.output.push(Output::Send(*client, Message::new(text)));
                }
            }
        }
        Ok(())
    }

    /// Runs a transaction of the server itself.
    ///
    /// # Errors
    /// As for any client.
    pub fn run_internal(&mut self, db: &str, t: Transaction) -> Result<(), OvsdbError> {
        let Some(served) = self.dbs.get(db) else {
            return Err(OvsdbError::new("unknown database", db));
        };
        let context = Context {
            owns_lock: &|_| false,
            waited: Duration::MAX,
            read_only: false,
        };
        match execute(&served.db, t.operations(), &context) {
            Executed::Done(_, commit) => self.commit(db, commit),
            Executed::Failed(results) => Err(results
                .iter()
                .find_map(OvsdbError::from_json)
                .unwrap_or_else(|| OvsdbError::new("aborted", ""))),
            Executed::Wait(_) => Err(OvsdbError::new("timed out", "")),
        }
    }

    /// Tries waiting transactions again: after commits, and when their time is up.
    pub fn tick(&mut self, now: Instant) {
        loop {
            let commits = self.commits;
            let list = std::mem::take(&mut self.waiting);
            for w in list {
                let client = w.client;
                match self.attempt(w, now) {
                    Some(w) => self.waiting.push(w),
                    None => {
                        if let Some(state) = self.clients.get_mut(&client) {
                            state.waiting -= 1;
                        }
                    }
                }
            }
            if self.commits == commits {
                return;
            }
        }
    }

    fn cancel(&mut self, client: ClientId, params: &Value) {
        let Some(id) = params.get(0) else {
            return;
        };
        let found = self
            .waiting
            .iter()
            .position(|w| w.client == client && w.id == *id);
        if let Some(i) = found {
            let w = self.waiting.remove(i);
            if let Some(state) = self.clients.get_mut(&client) {
                state.waiting -= 1;
            }
            self.reply(client, &w.id, Err(OvsdbError::new("canceled", "")));
        }
    }

    // --- monitors ---

    fn monitor(
        &mut self,
        client: ClientId,
        id: Value,
        params: Value,
        version: u8,
    ) -> Result<(), String> {
        match self.start_monitor(client, &params, version) {
            Ok(text) => self.reply_text(client, &id, &text, "null"),
            Err(e) => self.reply(client, &id, Err(e)),
        }
        Ok(())
    }

    fn start_monitor(
        &mut self,
        client: ClientId,
        params: &Value,
        version: u8,
    ) -> Result<String, OvsdbError> {
        let (name, served) = self.named_db("monitor", params)?;
        let list = params.as_array().map(Vec::as_slice).unwrap_or_default();
        let (id, requests, since) = match (version, list) {
            (3, [_, id, requests, since]) => (id, requests, since.as_str()),
            (1 | 2, [_, id, requests]) => (id, requests, None),
            _ => return Err(bad_params(params, "invalid parameters")),
        };
        let key = id.to_string();
        let state = self.clients.get(&client);
        if state.is_some_and(|s| s.monitors.contains_key(&key)) {
            return Err(OvsdbError::new("syntax error", "duplicate monitor ID"));
        }
        if state.is_some_and(|s| s.monitors.len() >= MAX_MONITORS) {
            return Err(OvsdbError::new(
                "resources exhausted",
                format!("{MAX_MONITORS} monitors of this client exist already"),
            ));
        }
        let monitor = Monitor::parse(&served.db, &name, id.clone(), version, requests)?;
        let last = served.db.last_txn.to_string();
        let text = if version < 3 {
            monitor.initial(&served.db)
        } else if since == Some(last.as_str()) {
            // The client has everything there is.
            format!("[true,\"{last}\",{{}}]")
        } else {
            format!("[false,\"{last}\",{}]", monitor.initial(&served.db))
        };
        self.clients
            .entry(client)
            .or_default()
            .monitors
            .insert(key, monitor);
        Ok(text)
    }

    fn monitor_change(&mut self, client: ClientId, params: &Value) -> Result<Value, OvsdbError> {
        let Some([old, new, requests]) = params.as_array().map(Vec::as_slice) else {
            return Err(bad_params(params, "invalid parameters"));
        };
        let unknown = || OvsdbError::new("unknown monitor session", "");
        let state = self.clients.get_mut(&client).ok_or_else(unknown)?;
        let (old_key, new_key) = (old.to_string(), new.to_string());
        if old_key != new_key && state.monitors.contains_key(&new_key) {
            return Err(OvsdbError::new("syntax error", "duplicate monitor ID"));
        }
        let mut m = state.monitors.remove(&old_key).ok_or_else(unknown)?;
        let Some(served) = self.dbs.get(&m.db) else {
            return Err(unknown());
        };
        if m.version == 1 {
            state.monitors.insert(old_key, m);
            return Err(OvsdbError::new(
                "syntax error",
                "monitor_cond_change needs a monitor made by monitor_cond or monitor_cond_since",
            ));
        }
        m.id = new.clone();
        match m.change(&served.db, requests) {
            Err(e) => {
                m.id = old.clone();
                state.monitors.insert(old_key, m);
                Err(e)
            }
            Ok(update) => {
                state.monitors.insert(new_key, m);
                if let Some(text) = update {
                    self.send(client, text);
                }
                Ok(json!({}))
            }
        }
    }

    fn monitor_cancel(&mut self, client: ClientId, params: &Value) -> Result<Value, OvsdbError> {
        let Some([id]) = params.as_array().map(Vec::as_slice) else {
            return Err(bad_params(params, "invalid parameters"));
        };
        let state = self.clients.entry(client).or_default();
        match state.monitors.remove(&id.to_string()) {
            Some(_) => Ok(json!({})),
            None => Err(OvsdbError::new("unknown monitor", "")),
        }
    }

    // --- locks ---

    fn lock_name<'p>(params: &'p Value, method: &str) -> Result<&'p str, OvsdbError> {
        match params.as_array().map(Vec::as_slice) {
            Some([Value::String(name)]) if crate::value::is_id(name) => Ok(name),
            _ => Err(bad_params(
                params,
                format!("{method} request params must be <id>"),
            )),
        }
    }

    fn lock(&mut self, client: ClientId, params: &Value, steal: bool) -> Result<Value, OvsdbError> {
        let name = Self::lock_name(params, if steal { "steal" } else { "lock" })?.to_owned();
        let state = self.clients.entry(client).or_default();
        if state.locks.contains(&name) {
            let method = if steal { "steal" } else { "lock" };
            return Err(bad_params(
                params,
                format!("must issue \"unlock\" before new \"{method}\""),
            ));
        }
        if state.locks.len() >= MAX_LOCKS {
            return Err(OvsdbError::new(
                "resources exhausted",
                format!("{MAX_LOCKS} locks of this client exist already"),
            ));
        }
        state.locks.push(name.clone());
        let queue = self.locks.entry(name.clone()).or_default();
        if !steal {
            queue.push_back(client);
            return Ok(json!({"locked": queue.len() == 1}));
        }
        let victim = queue.front().copied();
        queue.push_front(client);
        if let Some(victim) = victim {
            self.notify(victim, "stolen", json!([name]));
        }
        Ok(json!({"locked": true}))
    }

    fn unlock(&mut self, client: ClientId, params: &Value) -> Result<Value, OvsdbError> {
        let name = Self::lock_name(params, "unlock")?.to_owned();
        let state = self.clients.entry(client).or_default();
        let Some(i) = state.locks.iter().position(|l| *l == name) else {
            return Err(bad_params(
                params,
                "unlock: \"unlock\" without \"lock\" or \"steal\"",
            ));
        };
        state.locks.remove(i);
        self.release(client, &name);
        Ok(json!({}))
    }

    /// Takes a client out of a lock's queue; the next one may get it.
    fn release(&mut self, client: ClientId, name: &str) {
        let Some(queue) = self.locks.get_mut(name) else {
            return;
        };
        let owned = queue.front() == Some(&client);
        queue.retain(|c| *c != client);
        match queue.front().copied() {
            None => {
                self.locks.remove(name);
            }
            Some(next) if owned => self.notify(next, "locked", json!([name])),
            Some(_) => {}
        }
    }
}
