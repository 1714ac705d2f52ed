//! `transact` and `cancel` (RFC 7047 4.1.3 and 4.1.4): transactions, and those that wait.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ClientId, Engine};
use crate::database::Commit;
use crate::error::OvsdbError;
use crate::exec::{Context, Executed, execute};
use crate::transaction::Transaction;

/// Most transactions of one client that may wait at a time.
pub const MAX_WAITING: usize = 1000;

/// A transaction whose `wait` does not hold yet.
pub(super) struct Waiting {
    pub(super) client: ClientId,
    pub(super) id: Value,
    pub(super) db: String,
    ops: Vec<Value>,
    since: Instant,
    pub(super) deadline: Option<Instant>,
    /// How many commits its database had seen when it was tried last.
    seen: u64,
}

impl Engine {
    /// `transact` (RFC 7047 4.1.3).
    pub(super) fn transact(&mut self, client: ClientId, id: Value, params: Value, now: Instant) {
        let db = match self.named_db("transact", &params) {
            Ok((name, _)) => name,
            Err(e) => return self.reply(client, &id, Err(e)),
        };
        let Value::Array(mut ops) = params else {
            return;
        };
        ops.remove(0);
        let waiting = Waiting {
            client,
            id,
            db,
            ops,
            since: now,
            deadline: None,
            seen: 0,
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
            owns_lock: &|name| locks.owner(name) == Some(client),
            waited: now.saturating_duration_since(w.since),
            internal: false,
        };
        match execute(&served.db, &w.ops, &context) {
            Executed::Wait(left) => {
                // A server with a stopped clock must still come to an end.
                w.deadline = left.map(|l| now + l.max(Duration::from_millis(1)));
                w.seen = served.commits;
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
        served.commits += 1;
        self.commits += 1;
        self.durable |= commit.durable;
        served
            .watchers
            .tell(&served.db, &commit.changes, &mut self.output);
        served.history.push(served.db.last_txn, commit.changes);
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
            internal: true,
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
                // Only what changed since, or the end of its time, can have made a difference.
                let changed = self.dbs.get(&w.db).is_none_or(|s| s.commits != w.seen);
                if !changed && w.deadline.is_none_or(|d| d > now) {
                    self.waiting.push(w);
                    continue;
                }
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

    /// Gives up a transaction that waits (RFC 7047 4.1.4).
    pub(super) fn cancel(&mut self, client: ClientId, params: &Value) {
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
}
