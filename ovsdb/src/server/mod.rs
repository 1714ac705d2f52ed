//! The server: sockets around an [`Engine`], and the journal under it.
//!
//! One thread owns the engine, the journal and the connections; nothing is locked. It takes all
//! messages that have come from all clients, up to `BATCH`, runs them, makes the journal durable
//! once, and only then hands the answers and updates out. While it waits for the disk the next
//! messages gather in the sockets, so that many clients share one `fsync` (group commit) and a
//! single one pays no more than its own. Most requests are done in less time than it takes to wake
//! another thread, so handing them from an I/O thread to another one and back would cost more than
//! it spreads.
//!
//! Each connection is a tokio task on that thread's own runtime (`connection.rs`): a reader that
//! cuts and parses JSON and a writer, with a bounded queue between engine and writer. Where
//! connections come from is in `remotes.rs`; what the database itself says about that, and is told
//! of it, in `managers.rs`.

mod compaction;
mod connection;
mod driver;
mod managers;
mod remotes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::connection::MAX_UNREAD;
use self::driver::{Driver, Input, Job, SharedJournal};
pub use self::remotes::{MAX_BACKOFF, RemoteOptions};
use self::remotes::{Origin, Remote, RemoteState};
use crate::engine::Engine;
use crate::journal::{Journal, JournalError};
use crate::schema::DatabaseSchema;
use crate::target::Target;
use crate::tls::{Tls, TlsError, TlsOptions};

/// Longest message accepted from a client.
pub const MAX_MESSAGE: usize = 32 << 20;
/// Most bytes waiting to be sent to one client before it is cut off.
pub const MAX_BACKLOG: usize = 64 << 20;
/// Most bytes waiting over all clients, counting what is held for one client alone; where there are
/// more, whoever has the most waiting is cut off. What many are told alike is held once, and for no
/// longer than the slowest of them may lag.
pub const MAX_TOTAL_BACKLOG: usize = 512 << 20;
/// Most clients at a time, those in a handshake included.
pub const MAX_CLIENTS: usize = 4096;
/// Most messages between two looks at the disk.
const BATCH: usize = 256;
/// Messages that may wait for the engine.
const INBOX: usize = 1024;

/// How to open a server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The database file.
    pub db_path: PathBuf,
    /// Schema to make the file with where there is none; `None`: it must exist.
    pub create: Option<DatabaseSchema>,
    /// More database files to serve.
    pub more: Vec<PathBuf>,
    /// Where to listen (`punix:`, `ptcp:`, `pssl:`), whom to call (`unix:`, `tcp:`, `ssl:`), and
    /// columns that tell more of these (`db:`).
    pub remotes: Vec<Target>,
    /// Where the sockets of `unix:` and `punix:` remotes with relative paths lie, those that columns
    /// name included; empty: in the working directory.
    pub run_dir: PathBuf,
    /// Keys and certificates for TLS. A text `db:DATABASE,TABLE,COLUMN` stands for what the first
    /// row has there.
    pub tls: TlsOptions,
    /// Answer transactions before they are on disk, unless they ask for it (`commit` with
    /// `durable`). Faster, and a crash of the machine may lose what was answered.
    pub lazy_sync: bool,
}

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Trouble with a database file.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Options of TLS that cannot be met.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A `db:` remote of a database, table or column that is not there.
    #[error("{0}")]
    NoColumn(String),
    /// A database that is served already, or is not.
    #[error("{0}")]
    Database(String),
    /// Trouble with a remote.
    #[error("{remote}: {error}")]
    Remote {
        /// The remote.
        remote: String,
        /// What the system says. It is in the words already, so it is no `source`.
        error: io::Error,
    },
    /// The engine has stopped.
    #[error("the database server has stopped: {0}")]
    Stopped(String),
}

fn duplicate(name: &str) -> ServerError {
    ServerError::Database(format!("ovsdb error: {name}: duplicate database name"))
}

struct Shared {
    inbox: mpsc::Sender<Input>,
    /// The engine's thread, where all connections are served.
    runtime: Handle,
    /// As in [`ServerOptions::run_dir`].
    run_dir: PathBuf,
    next_client: AtomicU64,
    /// Clients there are.
    clients: AtomicUsize,
    /// The log has been told that there are too many.
    full: AtomicBool,
    /// Bytes that wait for clients and are held for one alone, as in [`MAX_TOTAL_BACKLOG`].
    backlog: Arc<AtomicUsize>,
    /// Remotes by their text.
    remotes: Mutex<BTreeMap<String, Remote>>,
    /// The `db:` remotes.
    columns: Mutex<BTreeSet<Target>>,
    /// Told when a connection or a remote has changed.
    events: Arc<Notify>,
    tls: Tls,
}

impl Shared {
    fn close_remotes(&self) {
        for remote in std::mem::take(&mut *lock(&self.remotes)).into_values() {
            remote.close();
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A database server. Dropping it (or the end of [`Server::run`]) ends all connections.
pub struct Server {
    shared: Arc<Shared>,
    engine: Option<std::thread::JoinHandle<()>>,
    dead: watch::Receiver<Option<String>>,
    manager: JoinHandle<()>,
}

/// Runs things on a running server from elsewhere, as a control socket does.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the database files and begins to listen.
    ///
    /// # Errors
    /// A file that is locked, missing or no database; a remote that cannot be listened on.
    pub async fn open(options: ServerOptions) -> Result<Self, ServerError> {
        // A limit on the size of files is to fail a write, not to end the server.
        let too_large = rustix::process::Signal::XFSZ.as_raw();
        _ = tokio::signal::unix::signal(SignalKind::from_raw(too_large));
        // What is in a database is added when it has been read.
        let tls = Tls::new(
            options
                .tls
                .map(|t| (!t.starts_with("db:")).then(|| t.to_owned())),
        )?;
        let mut engine = Engine::new();
        let mut journals: Vec<(String, SharedJournal)> = Vec::new();
        for (i, path) in std::iter::once(&options.db_path)
            .chain(&options.more)
            .enumerate()
        {
            let create = if i == 0 {
                options.create.as_ref()
            } else {
                None
            };
            // A file that is named twice is served once.
            if journals.iter().any(|(_, j)| j.is_file(path)) {
                continue;
            }
            let (journal, db) = Journal::open(path, create)?;
            let name = db.schema().name.clone();
            let journal = SharedJournal(Arc::new(Mutex::new(journal)));
            if !engine.add_database(db, Some(Box::new(journal.clone()))) {
                return Err(duplicate(&name));
            }
            journals.push((name, journal));
        }
        let (inbox, rx) = mpsc::channel(INBOX);
        let (dead_tx, dead) = watch::channel(None);
        let (committed_tx, committed) = watch::channel(0);
        let backlog = Arc::new(AtomicUsize::new(0));
        let driver = Driver {
            engine,
            journals,
            lazy: options.lazy_sync,
            clients: HashMap::new(),
            outgoing: Vec::new(),
            cut: Vec::new(),
            committed: committed_tx,
            backlog: backlog.clone(),
        };
        let thread_error = |error| ServerError::Remote {
            remote: "thread".into(),
            error,
        };
        let (runtime_tx, runtime) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("ovsdb".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(r) => {
                        _ = runtime_tx.send(Ok(r.handle().clone()));
                        // As a task it is woken as cheaply as the connections are.
                        _ = r.block_on(r.spawn(driver.run(rx, dead_tx)));
                    }
                    Err(e) => _ = runtime_tx.send(Err(e)),
                }
            })
            .map_err(thread_error)?;
        let runtime = runtime
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the engine's thread has ended")))
            .map_err(thread_error)?;
        let shared = Arc::new(Shared {
            inbox,
            runtime,
            run_dir: options.run_dir,
            next_client: AtomicU64::new(1),
            clients: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            backlog,
            remotes: Mutex::default(),
            columns: Mutex::default(),
            events: Arc::new(Notify::new()),
            tls,
        });
        let handle = ServerHandle {
            shared: shared.clone(),
        };
        let manager = tokio::spawn(managers::follow(handle.clone(), options.tls, committed));
        let server = Self {
            shared,
            engine: Some(thread),
            dead,
            manager,
        };
        for remote in &options.remotes {
            handle.try_remote(remote).await?.map_err(|error| {
                let remote = remote.to_string();
                ServerError::Remote { remote, error }
            })?;
        }
        Ok(server)
    }

    /// A handle for other tasks.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle {
            shared: self.shared.clone(),
        }
    }

    /// Serves until `shutdown` is done, then ends all connections and syncs the journal.
    ///
    /// # Errors
    /// The journal could not be made durable: nothing more can be promised.
    pub async fn run(
        mut self,
        shutdown: impl std::future::Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let mut dead = self.dead.clone();
        tokio::select! {
            () = shutdown => {}
            _ = dead.wait_for(Option::is_some) => {}
        }
        self.stop().await;
        let why = self.dead.borrow().clone();
        match why {
            Some(why) if !why.is_empty() => Err(ServerError::Stopped(why)),
            _ => Ok(()),
        }
    }

    async fn stop(&mut self) {
        self.manager.abort();
        self.shared.close_remotes();
        _ = self.shared.inbox.send(Input::Stop).await;
        if let Some(thread) = self.engine.take() {
            _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.manager.abort();
        self.shared.close_remotes();
        if self.engine.is_some() {
            _ = self.shared.inbox.try_send(Input::Stop);
        }
    }
}

impl ServerHandle {
    /// Begins to listen on, or to call, one more remote, or to follow one more column. One that is
    /// there already stays. A socket that cannot be listened on now is tried again later, and the
    /// log says why.
    ///
    /// # Errors
    /// There is no such column.
    pub async fn add_remote(&self, remote: &Target) -> Result<(), ServerError> {
        self.try_remote(remote).await.map(drop)
    }

    /// As [`ServerHandle::add_remote`], and tells how the first attempt to listen went.
    async fn try_remote(&self, remote: &Target) -> Result<io::Result<()>, ServerError> {
        if let Target::Database { .. } = remote {
            let asked = remote.clone();
            self.with_engine(move |e| managers::check(e, &asked))
                .await?
                .map_err(ServerError::NoColumn)?;
            lock(&self.shared.columns).insert(remote.clone());
            self.shared.events.notify_one();
            return Ok(Ok(()));
        }
        Ok(self
            .add(remote, RemoteOptions::of(remote), Origin::Given)
            .await)
    }

    /// Serves a remote that is not served yet, and sets the options of one that is. The error is
    /// that of the first attempt; there will be more.
    async fn add(&self, remote: &Target, options: RemoteOptions, origin: Origin) -> io::Result<()> {
        let tried = {
            let mut remotes = lock(&self.shared.remotes);
            match remotes.get(&remote.to_string()) {
                Some(r) => {
                    if r.origin == origin {
                        r.state.set_options(&options);
                    }
                    return Ok(());
                }
                None => {
                    let (r, tried) = Remote::start(&self.shared, remote.clone(), options, origin);
                    remotes.insert(remote.to_string(), r);
                    tried
                }
            }
        };
        tried
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the server is going down")))
    }

    /// Stops to listen on, to call or to follow a remote, and ends the connections over it. False
    /// where there is none.
    pub async fn remove_remote(&self, remote: &Target) -> bool {
        if let Target::Database { .. } = remote {
            let was = lock(&self.shared.columns).remove(remote);
            self.shared.events.notify_one();
            return was;
        }
        let removed = lock(&self.shared.remotes).remove(&remote.to_string());
        let Some(removed) = removed else {
            return false;
        };
        // Its socket is closed when its task has ended.
        _ = removed.close().await;
        tracing::info!("{remote}: remote deconfigured");
        true
    }

    /// Removes the remotes that columns named and `wanted` does not hold for.
    async fn keep_named(&self, wanted: impl Fn(&str) -> bool) {
        let gone: Vec<(String, Remote)> = lock(&self.shared.remotes)
            .extract_if(.., |name, r| r.origin == Origin::Column && !wanted(name))
            .collect();
        for (name, remote) in gone {
            _ = remote.close().await;
            tracing::info!("{name}: remote deconfigured");
        }
    }

    fn state(&self, remote: &Target) -> Option<Arc<RemoteState>> {
        let remotes = lock(&self.shared.remotes);
        Some(remotes.get(&remote.to_string())?.state.clone())
    }

    /// The remotes that were asked for, in order; not those that columns name.
    pub fn remotes(&self) -> Vec<String> {
        let given = lock(&self.shared.remotes)
            .iter()
            .filter(|(_, r)| r.origin == Origin::Given)
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>();
        let columns = lock(&self.shared.columns);
        let mut out: Vec<_> = columns.iter().map(Target::to_string).chain(given).collect();
        out.sort();
        out
    }

    /// The address a `ptcp:` or `pssl:` remote listens on, which tells the port if 0 was asked for.
    pub fn local_addr(&self, remote: &Target) -> Option<std::net::SocketAddr> {
        self.state(remote)?.standing().local
    }

    /// Ends all connections, so that every client connects anew.
    pub fn reconnect(&self) {
        for remote in lock(&self.shared.remotes).values() {
            remote.state.reconnect();
        }
    }

    /// Bytes that wait for clients, counting what is held for one client alone.
    pub fn backlog(&self) -> usize {
        self.shared.backlog.load(Ordering::Relaxed)
    }

    /// Serves one more database file.
    ///
    /// # Errors
    /// A file that is served already, is locked, or is no database; a database of that name that is
    /// served already.
    pub async fn add_database(&self, path: PathBuf) -> Result<(), ServerError> {
        let file = path.clone();
        let served = move |d: &mut Driver| d.journals.iter().any(|(_, j)| j.is_file(&file));
        if self.with_driver(served).await? {
            let path = path.display();
            return Err(ServerError::Database(format!(
                "ovsdb error: {path}: already open"
            )));
        }
        let (journal, db) = tokio::task::spawn_blocking(move || Journal::open(&path, None))
            .await
            .map_err(|e| ServerError::Stopped(e.to_string()))??;
        let name = db.schema().name.clone();
        match self
            .with_driver(move |d| d.add_database(journal, db))
            .await?
        {
            true => Ok(()),
            false => Err(duplicate(&name)),
        }
    }

    /// Ends the service of a database; its file stays. False where there is none of that name.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn remove_database(&self, name: &str) -> Result<bool, ServerError> {
        let name = name.to_owned();
        self.with_driver(move |d| d.remove_database(&name)).await
    }

    async fn with_driver<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Driver) -> R + Send + 'static,
    ) -> Result<R, ServerError> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move |d| {
            _ = tx.send(f(d));
        });
        let stopped = || ServerError::Stopped("it was asked to".into());
        self.shared
            .inbox
            .send(Input::Job(job))
            .await
            .map_err(|_| stopped())?;
        rx.await.map_err(|_| stopped())
    }

    /// Runs something on the engine, between two messages.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn with_engine<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> Result<R, ServerError> {
        self.with_driver(|d| f(&mut d.engine)).await
    }

    /// How the file of a database fares: well, or what went wrong with it last. `None` where there is
    /// no such database.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn storage_status(
        &self,
        name: &str,
    ) -> Result<Option<Result<(), String>>, ServerError> {
        let name = name.to_owned();
        self.with_driver(move |d| match d.journal(&name) {
            Some(journal) => Some(journal.with(|j| j.status())),
            // `_Server` has no file that could fail.
            None => d.engine.database(&name).map(|_| Ok(())),
        })
        .await
    }

    /// Compacts the file of a database now, or the files of all.
    ///
    /// # Errors
    /// What went wrong; the old file is still in use then.
    pub async fn compact(&self, name: Option<&str>) -> Result<(), ServerError> {
        let (tx, rx) = oneshot::channel();
        let stopped = || ServerError::Stopped("it was asked to".into());
        self.shared
            .inbox
            .send(Input::Compact(name.map(str::to_owned), tx))
            .await
            .map_err(|_| stopped())?;
        rx.await
            .map_err(|_| stopped())?
            .map_err(ServerError::Stopped)
    }
}
