//! The server without its sockets (RFC 7047 4.1): messages and the time in, messages out.
//!
//! An [`Engine`] holds the databases, and for each client its monitors, locks and transactions
//! that wait. Whoever drives it (one thread, see [`crate::server`]) hands it messages in the order
//! they come and then sends what [`Engine::take_output`] returns. A commit takes effect in memory
//! at once and its record is handed to the database's [`CommitLog`]; the driver lets no output out
//! before the log is safe on disk, so that a whole batch of transactions shares one `fsync`.
//!
//! A client that says nothing else is taken for one that knows nothing of databases that come, go or
//! change their schema: it is disconnected when that happens, and finds the new state when it comes
//! back. One that has called itself aware of that (`set_db_change_aware`) is told (`monitor_canceled`,
//! and the `_Server` database) and stays.

mod databases;
mod locks;
mod message;
mod monitors;
#[cfg(test)]
mod tests;
mod transact;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use crate::database::{Database, Size};
use crate::error::OvsdbError;
use crate::value::Uuid;

pub use databases::CommitLog;
use databases::Served;
use locks::Locks;
pub use locks::{LockNames, MAX_LOCKS};
pub use message::Message;
pub use monitors::MAX_MONITORS;
use monitors::Registered;
pub use transact::MAX_WAITING;
use transact::Waiting;

/// Names a client within the server.
pub type ClientId = u64;

/// What is to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A message to a client.
    Send(ClientId, Message),
    /// The client is to be disconnected, for this reason: it broke the protocol, or must find
    /// changed databases by connecting anew. What was sent before should still reach it.
    Disconnect(ClientId, String),
}

#[derive(Default)]
struct ClientState {
    /// By the JSON text of their names.
    monitors: BTreeMap<String, Registered>,
    locks: Vec<String>,
    waiting: usize,
    /// It wants to be told of changed databases (`set_db_change_aware`).
    aware: bool,
}

/// The server's state.
pub struct Engine {
    dbs: BTreeMap<String, Served>,
    clients: HashMap<ClientId, ClientState>,
    locks: Locks,
    waiting: Vec<Waiting>,
    output: Vec<Output>,
    server_id: Uuid,
    /// Counts commits that changed something.
    commits: u64,
    durable: bool,
    /// Clients may monitor with conditions.
    conditions: bool,
    /// Milliseconds since 1970 to write into the journal, set by the driver.
    date: u64,
}

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
            locks: Locks::default(),
            waiting: Vec::new(),
            output: Vec::new(),
            server_id: Uuid::new_v4(),
            commits: 0,
            durable: false,
            conditions: true,
            date: 0,
        };
        e.add_server_database();
        e
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

    /// From now on there is neither `monitor_cond` nor `monitor_cond_since`, so that clients fall
    /// back to `monitor` (`ovsdb-server/disable-monitor-cond`).
    pub fn disable_monitor_cond(&mut self) {
        self.conditions = false;
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
        for (name, m) in state.monitors {
            if let Some(served) = self.dbs.get_mut(&m.db) {
                served.watchers.leave(m.view, client, &name);
            }
        }
        self.waiting.retain(|w| w.client != client);
    }

    /// Clients that are here.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Monitors there are; those of several clients that want the same count once.
    pub fn monitor_count(&self) -> usize {
        self.dbs.values().map(|s| s.watchers.len()).sum()
    }

    /// What all databases hold. Looks at every row.
    pub fn size(&self) -> Size {
        let sizes = self.dbs.values().map(|s| s.db.size());
        sizes.fold(Size::default(), |a, b| Size {
            cells: a.cells + b.cells,
            atoms: a.atoms + b.atoms,
        })
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
        let text = match result {
            Ok(v) => format!("{{\"id\":{id},\"result\":{v},\"error\":null}}"),
            // As OVS has it, an error comes without a result.
            Err(e) if e.details.is_empty() => {
                format!("{{\"id\":{id},\"error\":{}}}", Value::from(e.name))
            }
            Err(e) => format!("{{\"id\":{id},\"error\":{}}}", e.to_json()),
        };
        self.send(client, text);
    }

    /// Gives a client up; what it sent after this is not looked at any more.
    fn cut(&mut self, client: ClientId, why: impl Into<String>) {
        self.disconnect(client);
        self.output.push(Output::Disconnect(client, why.into()));
    }

    /// Takes one message of a client.
    pub fn handle(&mut self, client: ClientId, message: Value, now: Instant) {
        if !self.clients.contains_key(&client) {
            return;
        }
        if let Err(why) = self.message(client, message, now) {
            self.cut(client, why);
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
        if ["result", "error"]
            .iter()
            .any(|m| map.get(*m).is_some_and(|v| !v.is_null()))
        {
            return Err("request must not have \"result\" or \"error\"".into());
        }
        let params = match map.remove("params") {
            Some(p @ Value::Array(_)) => p,
            _ => return Err("params must be JSON array".into()),
        };
        if id.is_null() {
            if method == "cancel" {
                self.cancel(client, &params);
            }
            return Ok(());
        }
        let result = match method.as_str() {
            "echo" => Ok(params),
            "transact" => {
                self.transact(client, id, params, now);
                return Ok(());
            }
            "monitor_cond" | "monitor_cond_since" if !self.conditions => {
                Err(OvsdbError::new("unknown method", ""))
            }
            "monitor" | "monitor_cond" | "monitor_cond_since" => {
                self.monitor(client, &id, &params, &method);
                return Ok(());
            }
            "list_dbs" => Ok(self.dbs.keys().cloned().collect()),
            "get_schema" => self
                .named_db("get_schema", &params)
                .map(|(_, s)| s.db.schema().to_json()),
            "get_server_id" => Ok(self.server_id.to_string().into()),
            "monitor_cond_change" => self.monitor_change(client, &params),
            "monitor_cancel" => self.monitor_cancel(client, &params),
            "convert" => self.convert(&params),
            "set_db_change_aware" => match params.as_array().map(Vec::as_slice) {
                Some([Value::Bool(aware)]) => {
                    self.clients.entry(client).or_default().aware = *aware;
                    Ok(json!({}))
                }
                _ => Err(bad_params(
                    &params,
                    "set_db_change_aware: true or false parameter expected",
                )),
            },
            "lock" => self.lock(client, &params, false),
            "steal" => self.lock(client, &params, true),
            "unlock" => self.unlock(client, &params),
            _ => Err(OvsdbError::new("unknown method", "")),
        };
        let changed = method == "convert" && result.is_ok();
        self.reply(client, &id, result);
        if changed {
            self.cut_unaware("database schema changed");
        }
        Ok(())
    }

    /// Disconnects those who would not notice that databases came, went or changed.
    fn cut_unaware(&mut self, why: &str) {
        let unaware: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, s)| !s.aware)
            .map(|(c, _)| *c)
            .collect();
        for client in unaware {
            self.cut(client, why);
        }
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
}
