//! A client with a replica kept in step, reconnecting by itself if asked.

use std::time::Duration;

use serde_json::json;

use crate::client::{Client, ClientError, ClientOptions, Notification};
use crate::error::OvsdbError;
use crate::replica::{ChangeSet, Replica, Wanted};
use crate::target::Target;
use crate::transaction::{Outcome, Transaction};

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
}

async fn link(
    target: &Target,
    db: &str,
    wanted: &Wanted,
    options: &SessionOptions,
) -> Result<(Client, Replica, ChangeSet, bool), ClientError> {
    let mut how = options.client.clone();
    if how.probe.is_none() && target.needs_probes() {
        how.probe = Some(crate::probe::DEFAULT_INTERVAL);
    }
    let client = Client::connect_with(target, &how).await?;
    let schema = client.get_schema(db).await?;
    let mut replica = Replica::new(&schema, wanted);
    let requests = replica.monitor_requests();
    let set = match client
        .monitor_cond(db, json!("session"), requests.clone())
        .await
    {
        Ok(updates) => replica.apply2(&updates)?,
        Err(ClientError::Answer(e)) if e.name == "unknown method" => {
            let updates = client.monitor(db, json!("session"), requests).await?;
            replica.apply(&updates)?
        }
        Err(e) => return Err(e),
    };
    let has_lock = match &options.lock {
        Some(name) => client.lock(name).await?,
        None => false,
    };
    Ok((client, replica, set, has_lock))
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
        let (client, replica, untold, has_lock) = loop {
            match link(target, db, &wanted, &options).await {
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
        Ok(Self {
            target: target.clone(),
            db: db.into(),
            wanted,
            options,
            client,
            replica,
            untold,
            has_lock,
            connects: 1,
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
                version, updates, ..
            } => {
                let set = if version == 1 {
                    self.replica.apply(&updates)?
                } else {
                    self.replica.apply2(&updates)?
                };
                self.untold.extend(set);
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

    /// Connects anew; tells what differs from before.
    async fn relink(&mut self) -> Result<(), ClientError> {
        let mut wait = BACKOFF_MIN;
        self.has_lock = false;
        loop {
            match link(&self.target, &self.db, &self.wanted, &self.options).await {
                Ok((client, replica, _, has_lock)) => {
                    let set = difference(&self.replica, &replica);
                    self.untold.extend(set);
                    self.client = client;
                    self.replica = replica;
                    self.has_lock = has_lock;
                    self.connects += 1;
                    return Ok(());
                }
                Err(e) => {
                    tracing::debug!(%e, "trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                }
            }
        }
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
