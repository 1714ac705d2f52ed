//! A client with a replica kept in step, reconnecting by itself if asked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, ClientError, ClientOptions, Notification};
use crate::error::OvsdbError;
use crate::replica::{ChangeSet, Replica, Wanted};
use crate::schema::DatabaseSchema;
use crate::target::Target;
use crate::transaction::{Outcome, Transaction};
use crate::value::Uuid;

/// First wait before connecting again; doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before connecting again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// How a session is to behave.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Connect again whenever the connection ends, and also keep trying at first.
    pub reconnect: bool,
    /// A lock to ask for on every connection; see [`Session::has_lock`].
    pub lock: Option<String>,
    /// How to connect. Without an interval of its own, a server over a network is probed each
    /// [`crate::probe::DEFAULT_INTERVAL`].
    pub client: ClientOptions,
}

/// A client whose [`Replica`] follows the database.
pub struct Session {
    target: Target,
    db: String,
    wanted: Wanted,
    options: SessionOptions,
    client: Client,
    replica: Replica,
    /// Changes already in the replica but not yet told by [`Session::changed`].
    untold: ChangeSet,
    has_lock: bool,
    connects: u64,
    /// Conditions by table, where not all rows are followed.
    conditions: BTreeMap<String, Value>,
    /// The transaction up to which the replica is complete under these conditions, if known.
    last_txn: Option<String>,
}

/// The name of a session's monitor.
const MONITOR: &str = "session";

/// What a new connection begins with.
enum Start {
    /// All rows.
    All(Replica, ChangeSet),
    /// The `<table-updates2>` since the last transaction seen.
    Missed(Value),
}

struct Link {
    client: Client,
    start: Start,
    has_lock: bool,
    last_txn: Option<String>,
}

/// Connects and monitors, by the best method the server knows. `seen` is what is known already: a
/// schema and the transaction up to which its rows are known.
async fn link(
    target: &Target,
    db: &str,
    wanted: &Wanted,
    conditions: &BTreeMap<String, Value>,
    options: &SessionOptions,
    seen: Option<(&DatabaseSchema, &str)>,
) -> Result<Link, ClientError> {
    let mut how = options.client.clone();
    if how.probe.is_none() && target.needs_probes() {
        how.probe = Some(crate::probe::DEFAULT_INTERVAL);
    }
    let client = Client::connect_with(target, &how).await?;
    let schema = client.get_schema(db).await?;
    let mut replica = Replica::new(&schema, wanted);
    let plain = replica.monitor_requests();
    let mut requests = plain.clone();
    for (table, condition) in conditions {
        if let Some(request) = requests.get_mut(table).and_then(|r| r.get_mut(0)) {
            request["where"] = condition.clone();
        }
    }
    let unknown =
        |e: &ClientError| matches!(e, ClientError::Answer(e) if e.name == "unknown method");
    let nil = Uuid::nil().to_string();
    let seen = seen.filter(|(s, _)| **s == schema).map(|(_, txn)| txn);
    let name = json!(MONITOR);
    let since = client
        .monitor_cond_since(db, name.clone(), requests.clone(), seen.unwrap_or(&nil))
        .await;
    let (start, last_txn) = match since {
        Ok((true, last, updates)) if seen.is_some() => (Start::Missed(updates), Some(last)),
        Ok((_, last, updates)) => {
            let set = replica.apply2(&updates)?;
            (Start::All(replica, set), Some(last))
        }
        Err(e) if unknown(&e) => {
            let set = match client.monitor_cond(db, name.clone(), requests).await {
                Ok(updates) => replica.apply2(&updates)?,
                // A server that knows no conditions tells all rows.
                Err(e) if unknown(&e) => replica.apply(&client.monitor(db, name, plain).await?)?,
                Err(e) => return Err(e),
            };
            (Start::All(replica, set), None)
        }
        Err(e) => return Err(e),
    };
    let has_lock = match &options.lock {
        Some(name) => client.lock(name).await?,
        None => false,
    };
    Ok(Link {
        client,
        start,
        has_lock,
        last_txn,
    })
}

impl Session {
    /// Connects and fetches the wanted tables and columns (an empty map for everything, an empty
    /// list for all columns of a table).
    ///
    /// # Errors
    /// No connection, no such database. With [`SessionOptions::reconnect`] connecting is tried
    /// until it works, and only an answer with an error ends it.
    pub async fn open_with(
        target: &Target,
        db: &str,
        wanted: Wanted,
        options: SessionOptions,
    ) -> Result<Self, ClientError> {
        let mut wait = BACKOFF_MIN;
        let conditions = BTreeMap::new();
        let link = loop {
            match link(target, db, &wanted, &conditions, &options, None).await {
                Ok(x) => break x,
                Err(e @ (ClientError::Connect { .. } | ClientError::Closed(_)))
                    if options.reconnect =>
                {
                    tracing::debug!(%e, "trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                }
                Err(e) => return Err(e),
            }
        };
        let Start::All(replica, untold) = link.start else {
            return Err(ClientError::Protocol(
                "what changed since a transaction nobody named".into(),
            ));
        };
        Ok(Self {
            target: target.clone(),
            db: db.into(),
            wanted,
            options,
            client: link.client,
            replica,
            untold,
            has_lock: link.has_lock,
            connects: 1,
            conditions,
            last_txn: link.last_txn,
        })
    }

    /// As [`Session::open_with`] without reconnection or lock.
    ///
    /// # Errors
    /// No connection, no such database.
    pub async fn open(target: &Target, db: &str, wanted: Wanted) -> Result<Self, ClientError> {
        Self::open_with(target, db, wanted, SessionOptions::default()).await
    }

    /// The database as last told.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The connection, for requests of other kinds.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// True while the lock asked for in the options is ours.
    pub fn has_lock(&self) -> bool {
        self.has_lock
    }

    /// How many times a connection was made; a higher number than before tells of a reconnection.
    pub fn connects(&self) -> u64 {
        self.connects
    }

    fn take(&mut self, n: Notification) -> Result<(), ClientError> {
        match n {
            Notification::Update {
                version,
                updates,
                txn,
                ..
            } => {
                let set = if version == 1 {
                    self.replica.apply(&updates)?
                } else {
                    self.replica.apply2(&updates)?
                };
                self.untold.extend(set);
                if txn.is_some() {
                    self.last_txn = txn;
                }
            }
            Notification::Locked(name) if self.options.lock.as_ref() == Some(&name) => {
                self.has_lock = true;
            }
            Notification::Stolen(name) if self.options.lock.as_ref() == Some(&name) => {
                self.has_lock = false;
            }
            Notification::MonitorCanceled(_) => {
                return Err(ClientError::Protocol(
                    "monitor_canceled: the database is gone".into(),
                ));
            }
            Notification::Locked(_) | Notification::Stolen(_) => {}
        }
        Ok(())
    }

    /// Connects anew; tells what differs from before. A server that remembers what this session
    /// saw last sends only what came after it.
    async fn relink(&mut self) -> Result<(), ClientError> {
        let mut wait = BACKOFF_MIN;
        self.has_lock = false;
        loop {
            let seen = self.last_txn.as_deref();
            let seen = seen.map(|txn| (self.replica.schema(), txn));
            let (target, options) = (&self.target, &self.options);
            let linked = link(
                target,
                &self.db,
                &self.wanted,
                &self.conditions,
                options,
                seen,
            );
            let failed = match linked.await {
                Ok(link) => match self.resume(link) {
                    Ok(()) => return Ok(()),
                    Err(e) => {
                        // What it remembers does not fit: everything anew.
                        self.last_txn = None;
                        e
                    }
                },
                Err(e) => e,
            };
            tracing::debug!(e = %failed, "trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    fn resume(&mut self, link: Link) -> Result<(), ClientError> {
        let set = match link.start {
            Start::All(replica, _) => {
                let set = difference(&self.replica, &replica);
                self.replica = replica;
                set
            }
            Start::Missed(updates) => self.replica.apply2(&updates)?,
        };
        self.untold.extend(set);
        self.client = link.client;
        self.has_lock = link.has_lock;
        self.last_txn = link.last_txn;
        self.connects += 1;
        Ok(())
    }

    /// Follows only those rows of a table for which one clause of `condition` holds (an array as in
    /// RFC 7047 5.1, also of booleans); `None` for all rows again. When this returns, the replica
    /// has what the condition lets in, and [`Session::changed`] tells of it. A server that knows no
    /// conditions goes on telling all rows.
    ///
    /// # Errors
    /// The server's refusal (then all is as before) or the connection's end.
    pub async fn set_condition(
        &mut self,
        table: &str,
        condition: Option<Value>,
    ) -> Result<(), ClientError> {
        let all = || json!([true]);
        let clauses = condition.clone().unwrap_or_else(all);
        let before = match condition {
            Some(c) => self.conditions.insert(table.to_owned(), c),
            None => self.conditions.remove(table),
        };
        // Until the server has agreed, the replica fits neither the old nor the new condition, and a
        // new connection must begin with everything.
        let last_txn = self.last_txn.take();
        let requests = json!({table: [{"where": clauses}]});
        let result = self
            .client
            .monitor_cond_change(json!(MONITOR), json!(MONITOR), requests)
            .await;
        if let Err(ClientError::Answer(e)) = &result {
            match before {
                Some(c) => _ = self.conditions.insert(table.to_owned(), c),
                None => _ = self.conditions.remove(table),
            }
            if e.name == "unknown method" {
                return Ok(());
            }
        }
        while let Some(n) = self.client.try_notification() {
            self.take(n)?;
        }
        if self.last_txn.is_none() && !matches!(result, Err(ClientError::Closed(_))) {
            self.last_txn = last_txn;
        }
        result
    }

    /// Waits until something changes (rows, or the lock), and tells what. The first call tells
    /// at once about the rows there were in the beginning. May be dropped and called again
    /// without loss. After a reconnection it tells what became different meanwhile.
    ///
    /// # Errors
    /// The connection's end, unless reconnection was asked for.
    pub async fn changed(&mut self) -> Result<ChangeSet, ClientError> {
        loop {
            let lock_before = self.has_lock;
            let mut result = Ok(());
            while let Some(n) = self.client.try_notification() {
                result = self.take(n);
                if result.is_err() {
                    break;
                }
            }
            if result.is_ok() && (!self.untold.is_empty() || lock_before != self.has_lock) {
                return Ok(std::mem::take(&mut self.untold));
            }
            if result.is_ok() {
                result = match self.client.next_notification().await {
                    Ok(n) => self.take(n),
                    Err(e) => Err(e),
                };
                if result.is_ok() && lock_before != self.has_lock {
                    return Ok(std::mem::take(&mut self.untold));
                }
            }
            match result {
                Ok(()) => {}
                Err(e) if self.options.reconnect => {
                    tracing::warn!(%e, "connecting to the database again");
                    self.relink().await?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Runs a transaction; the replica shows its effects when this returns, and
    /// [`Session::changed`] tells of them too.
    ///
    /// # Errors
    /// The server's first error ([`ClientError::Answer`]; `timed out` where a
    /// [`Transaction::verify`] failed: look again and try again), or the connection's end (then
    /// it is not known whether it was committed; with reconnection, the next
    /// [`Session::changed`] connects anew).
    pub async fn transact(&mut self, transaction: Transaction) -> Result<Outcome, ClientError> {
        let mut results = self
            .client
            .transact(&self.db, transaction.into_operations())
            .await;
        // Updates come before the reply, so that they are here already.
        while let Some(n) = self.client.try_notification() {
            if let Err(e) = self.take(n) {
                results = Err(e);
            }
        }
        Ok(Outcome::check(results?).map_err(|e: OvsdbError| e)?)
    }
}

/// What makes `new` of `old`.
fn difference(old: &Replica, new: &Replica) -> ChangeSet {
    use crate::replica::{Change, ChangeKind};
    let mut changes = Vec::new();
    for table in old.table_names() {
        for (uuid, row) in old.table(table) {
            if new.row(table, uuid).is_none() {
                changes.push(Change {
                    table: table.into(),
                    uuid: *uuid,
                    kind: ChangeKind::Delete(row.clone()),
                });
            }
        }
    }
    for table in new.table_names() {
        for (uuid, row) in new.table(table) {
            let kind = match old.row(table, uuid) {
                None => ChangeKind::Insert,
                Some(o) if o == row => continue,
                Some(o) => ChangeKind::Modify(
                    row.columns
                        .iter()
                        .filter(|(c, v)| o.columns.get(*c) != Some(v))
                        .map(|(c, _)| c.clone())
                        .collect(),
                ),
            };
            changes.push(Change {
                table: table.into(),
                uuid: *uuid,
                kind,
            });
        }
    }
    ChangeSet { changes }
}
