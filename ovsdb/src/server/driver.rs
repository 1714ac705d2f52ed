//! The engine's thread: takes what has come in, runs it, makes it durable, and lets the answers out.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::compaction::Compactions;
use super::connection::{Outbox, Peer};
use super::{BATCH, MAX_BACKLOG, MAX_TOTAL_BACKLOG, MAX_UNREAD};
use crate::database::Database;
use crate::engine::{ClientId, CommitLog, Engine, Message, Output};
use crate::journal::Journal;

/// A journal shared between the engine (which appends) and the driver (which syncs and compacts),
/// both on the same thread.
#[derive(Clone)]
pub(super) struct SharedJournal(pub(super) Arc<Mutex<Journal>>);

impl SharedJournal {
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Journal) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True where it is the file of that name.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.with(|j| j.path().canonicalize().is_ok_and(|p| p == real))
    }
}

impl CommitLog for SharedJournal {
    fn append(&mut self, record: &str) -> io::Result<()> {
        self.with(|j| j.append(record))
    }

    fn replace(&mut self, db: &Database, date: u64) -> io::Result<()> {
        let comment = "converted by ovsdb-server";
        self.with(|j| j.replace(db, date, comment))
            .map_err(io::Error::other)
    }
}

pub(super) type Job = Box<dyn FnOnce(&mut Driver) + Send>;

pub(super) enum Input {
    Connect(ClientId, Outbox, String),
    Message(ClientId, Value),
    /// There is room for answers to a client again, whose requests were held back.
    Room(ClientId),
    Gone(ClientId),
    Job(Job),
    /// Compact the journal of that database, or all, and tell when that is done.
    Compact(Option<String>, oneshot::Sender<Result<(), String>>),
    Stop,
}

/// How long the thread polls before it sleeps. Who was answered usually asks on within this, and to
/// wake a thread takes about as long.
const LINGER: Duration = Duration::from_micros(40);

/// The engine's thread.
pub(super) struct Driver {
    pub(super) engine: Engine,
    pub(super) journals: Vec<(String, SharedJournal)>,
    pub(super) lazy: bool,
    pub(super) clients: HashMap<ClientId, Peer>,
    /// What is to be sent once it is durable.
    pub(super) outgoing: Vec<(ClientId, Message)>,
    /// Clients that are to be disconnected after that, and why.
    pub(super) cut: Vec<(ClientId, String)>,
    /// Counts batches that committed something.
    pub(super) committed: watch::Sender<u64>,
    /// As in [`MAX_TOTAL_BACKLOG`].
    pub(super) backlog: Arc<AtomicUsize>,
}

/// Milliseconds since 1970.
pub(super) fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// Polls for what comes next, for a while.
async fn linger(inbox: &mut mpsc::Receiver<Input>, batch: &mut Vec<Input>) {
    static PAYS: LazyLock<bool> =
        LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|n| n.get() > 1));
    let start = Instant::now();
    while *PAYS && batch.is_empty() && start.elapsed() < LINGER {
        // Connections read meanwhile.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(input) = inbox.try_recv()
        {
            batch.push(input);
        }
    }
}

impl Driver {
    /// Serves one more database; false where one of that name is served already.
    pub(super) fn add_database(&mut self, journal: Journal, db: Database) -> bool {
        let name = db.schema().name.clone();
        let journal = SharedJournal(Arc::new(Mutex::new(journal)));
        let added = self
            .engine
            .add_database(db, Some(Box::new(journal.clone())));
        if added {
            self.journals.push((name, journal));
        }
        added
    }

    /// Serves a database no more; false where there is none of that name.
    pub(super) fn remove_database(&mut self, name: &str) -> bool {
        self.journals.retain(|(n, _)| n != name);
        self.engine.remove_database(name)
    }

    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Input>,
        dead: watch::Sender<Option<String>>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut compactions = Compactions::default();
        let why = loop {
            let deadline = self.engine.next_deadline();
            linger(&mut inbox, &mut batch).await;
            let idle = batch.is_empty();
            let timeout = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let open = tokio::select! {
                () = std::future::ready(()), if !idle => true,
                n = inbox.recv_many(&mut batch, BATCH), if idle => n > 0,
                done = compactions.next() => {
                    let journal = self.journal(&done.0).cloned();
                    compactions.finish(done, journal.as_ref());
                    continue;
                }
                () = timeout => true,
            };
            if !open {
                break String::new();
            }
            let before = self.engine.commits();
            let now = Instant::now();
            self.engine.set_date(wall_clock());
            let mut stop = false;
            let mut compact = Vec::new();
            for input in batch.drain(..) {
                match input {
                    Input::Connect(id, outbox, name) => {
                        self.clients.insert(id, Peer::new(outbox, name));
                        self.engine.connect(id);
                    }
                    Input::Message(id, message) => {
                        let peer = self.clients.get_mut(&id);
                        if let Some(request) = peer.and_then(|p| p.admit(message)) {
                            self.handle(id, request, now);
                        }
                    }
                    Input::Room(id) => {
                        while let Some(peer) = self.clients.get_mut(&id)
                            && let Some(request) = peer.next_request()
                        {
                            self.handle(id, request, now);
                        }
                    }
                    Input::Gone(id) => {
                        self.clients.remove(&id);
                        self.engine.disconnect(id);
                    }
                    Input::Job(job) => job(&mut self),
                    Input::Compact(name, tx) => compact.push((name, tx)),
                    Input::Stop => stop = true,
                }
            }
            if self.engine.next_deadline().is_some_and(|d| d <= now)
                || deadline.is_some_and(|d| d <= now)
            {
                self.engine.tick(now);
            }
            let committed = self.engine.commits() != before;
            if committed && (!self.lazy || self.engine.take_durable()) {
                let failed = self
                    .journals
                    .iter()
                    .find_map(|(_, j)| j.with(|j| j.sync().err()));
                if let Some(e) = failed {
                    // What is in memory may not be on disk: no answer may go out.
                    tracing::error!(error = %e, "the journal cannot be made durable, stopping");
                    break format!("making the journal durable failed: {e}");
                }
            }
            self.send();
            if committed {
                self.committed.send_modify(|n| *n += 1);
                self.compact(&mut compactions, |_, journal| {
                    journal.with(|j| j.wants_compaction())
                });
            }
            for (only, tx) in compact {
                self.compact(&mut compactions, |name, _| {
                    only.as_deref().is_none_or(|o| o == name)
                });
                compactions.notify(tx);
            }
            if stop {
                for (_, j) in &self.journals {
                    if let Err(e) = j.with(Journal::sync) {
                        tracing::error!(error = %e, "syncing the journal at the end");
                    }
                }
                break String::new();
            }
        };
        _ = dead.send(Some(why));
    }

    /// Runs a request.
    fn handle(&mut self, id: ClientId, request: Value, now: Instant) {
        let commits = self.engine.commits();
        self.engine.handle(id, request, now);
        if self.engine.commits() != commits && self.engine.has_waiting() {
            self.engine.tick(now);
        }
        self.collect();
    }

    pub(super) fn journal(&self, name: &str) -> Option<&SharedJournal> {
        let found = self.journals.iter().find(|(n, _)| n == name);
        found.map(|(_, journal)| journal)
    }

    /// Begins to compact the journals that are `wanted`.
    fn compact(
        &self,
        compactions: &mut Compactions,
        wanted: impl Fn(&str, &SharedJournal) -> bool,
    ) {
        for (name, journal) in &self.journals {
            if wanted(name, journal)
                && let Some(db) = self.engine.database(name)
            {
                compactions.begin(name, journal, db);
            }
        }
    }

    /// Takes what the engine has to say and counts it, so that a client's next request knows.
    fn collect(&mut self) {
        for output in self.engine.take_output() {
            match output {
                Output::Send(id, message) => {
                    let Some(Peer { outbox, .. }) = self.clients.get(&id) else {
                        continue;
                    };
                    // A single message may be longer than the bound, as an initial dump must be.
                    let queued = outbox.backlog();
                    if queued > MAX_UNREAD && queued + message.len() > MAX_BACKLOG {
                        self.cut.push((
                            id,
                            format!("it does not read: {queued} bytes wait to be sent, {MAX_BACKLOG} may"),
                        ));
                        continue;
                    }
                    outbox.announce(&message);
                    self.outgoing.push((id, message));
                }
                Output::Disconnect(id, why) => self.cut.push((id, why)),
            }
        }
    }

    fn send(&mut self) {
        self.collect();
        for (id, message) in self.outgoing.drain(..) {
            if let Some(peer) = self.clients.get(&id) {
                peer.outbox.send(message);
            }
        }
        for (id, why) in std::mem::take(&mut self.cut) {
            self.cut_off(id, &why);
        }
        // Rare, and each round frees what one client had waiting: looking at all is cheap enough.
        while self.backlog.load(Ordering::Relaxed) > MAX_TOTAL_BACKLOG {
            let worst = self
                .clients
                .iter()
                .map(|(id, peer)| (peer.outbox.private_backlog(), *id))
                .max();
            let Some((waiting @ 1.., id)) = worst else {
                break;
            };
            self.cut_off(
                id,
                &format!("of all clients, who together have {MAX_TOTAL_BACKLOG} bytes waiting, it reads least: {waiting} bytes"),
            );
        }
    }

    fn cut_off(&mut self, id: ClientId, why: &str) {
        if let Some(Peer { outbox, name, .. }) = self.clients.remove(&id) {
            tracing::warn!("{name}: connection dropped: {why}");
            outbox.forget();
            self.engine.disconnect(id);
        }
    }
}
