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
//! Each connection is a tokio task on that thread's own runtime: a reader that cuts and parses JSON
//! and a writer. Between engine and writer lies a queue bounded in bytes: a client that does not
//! read its updates is cut off when it is full, as its own fault must not cost others memory.
//! Towards the engine, readers wait in a bounded channel, which in turn lets TCP slow the sender
//! down.

mod driver;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::driver::{Driver, Input, Job, Outbox, SharedJournal};
use crate::engine::{ClientId, Engine, Message};
use crate::journal::{Journal, JournalError};
use crate::schema::DatabaseSchema;
use crate::session::{BACKOFF_MAX, BACKOFF_MIN};
use crate::stream::JsonStream;
use crate::target::Target;
use crate::transaction::Transaction;
use crate::value::Datum;

/// Longest message accepted from a client.
pub const MAX_MESSAGE: usize = 32 << 20;
/// Most bytes waiting to be sent to one client before it is cut off.
pub const MAX_BACKLOG: usize = 64 << 20;
/// Most clients at a time.
pub const MAX_CLIENTS: usize = 4096;
/// Most messages between two looks at the disk.
const BATCH: usize = 256;
/// Most messages to a client that leave in one system call.
const GATHERED: usize = 64;
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
    /// Where to listen (`punix:`, `ptcp:`), whom to call (`unix:`, `tcp:`), and columns that
    /// tell more of these (`db:`).
    pub remotes: Vec<Target>,
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
    /// Trouble with a remote.
    #[error("{remote}: {source}")]
    Remote {
        /// The remote.
        remote: String,
        /// What the system says.
        source: io::Error,
    },
    /// The engine has stopped.
    #[error("the database server has stopped: {0}")]
    Stopped(String),
}
struct Shared {
    inbox: mpsc::Sender<Input>,
    /// The engine's thread, where all connections are served.
    runtime: Handle,
    next_client: AtomicU64,
    clients: AtomicUsize,
    listeners: Mutex<HashMap<Target, Remote>>,
    /// Connected clients by the remote they came over.
    connections: Mutex<HashMap<Target, usize>>,
}

struct Remote {
    task: JoinHandle<()>,
    /// A socket file to remove at the end.
    socket: Option<PathBuf>,
    /// Where it really listens.
    local: Option<std::net::SocketAddr>,
    /// Named by a `db:` remote.
    from_db: bool,
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
        let mut engine = Engine::new();
        let mut journals = Vec::new();
        for (i, path) in std::iter::once(&options.db_path)
            .chain(&options.more)
            .enumerate()
        {
            let create = if i == 0 {
                options.create.as_ref()
            } else {
                None
            };
            let (journal, db) = Journal::open(path, create)?;
            let journal = SharedJournal(Arc::new(Mutex::new(journal)));
            journals.push((db.schema().name.clone(), journal.clone()));
            engine.add_database(db, Some(Box::new(journal)));
        }
        let (inbox, rx) = mpsc::channel(INBOX);
        let (dead_tx, dead) = watch::channel(None);
        let (changed_tx, changed) = watch::channel(0);
        let driver = Driver {
            engine,
            journals,
            lazy: options.lazy_sync,
            clients: HashMap::new(),
            changed: changed_tx,
        };
        let thread_error = |source| ServerError::Remote {
            remote: "thread".into(),
            source,
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
            next_client: AtomicU64::new(1),
            clients: AtomicUsize::new(0),
            listeners: Mutex::default(),
            connections: Mutex::default(),
        });
        let columns: Vec<Target> = options
            .remotes
            .iter()
            .filter(|t| matches!(t, Target::Database { .. }))
            .cloned()
            .collect();
        let manager = tokio::spawn(follow_columns(
            ServerHandle {
                shared: shared.clone(),
            },
            columns,
            changed,
        ));
        let server = Self {
            shared,
            engine: Some(thread),
            dead,
            manager,
        };
        for remote in &options.remotes {
            if !matches!(remote, Target::Database { .. }) {
                server.handle().add_remote(remote).await?;
            }
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
        for (_, remote) in lock(&self.shared.listeners).drain() {
            remote.close();
        }
        _ = self.shared.inbox.send(Input::Stop).await;
        if let Some(thread) = self.engine.take() {
            _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.manager.abort();
        for (_, remote) in lock(&self.shared.listeners).drain() {
            remote.close();
        }
        if self.engine.is_some() {
            _ = self.shared.inbox.try_send(Input::Stop);
        }
    }
}

impl Remote {
    fn close(self) {
        self.task.abort();
        if let Some(path) = self.socket {
            _ = std::fs::remove_file(path);
        }
    }
}

/// Listens on a Unix socket, taking the place of one that nobody listens on any more.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another server listens on this socket",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))?;
    Ok(listener)
}

impl ServerHandle {
    /// Begins to listen on, or to call, one more remote. One that is there already stays.
    ///
    /// # Errors
    /// What the system says.
    pub async fn add_remote(&self, remote: &Target) -> Result<(), ServerError> {
        self.add(remote, false).await
    }

    async fn add(&self, remote: &Target, from_db: bool) -> Result<(), ServerError> {
        if lock(&self.shared.listeners).contains_key(remote) {
            return Ok(());
        }
        let fail = |source| ServerError::Remote {
            remote: remote.to_string(),
            source,
        };
        let mut socket = None;
        let mut local = None;
        let shared = self.shared.clone();
        let runtime = &self.shared.runtime;
        let name = remote.clone();
        let task = match remote {
            Target::PassiveUnix(path) => {
                let listener = {
                    let _entered = runtime.enter();
                    bind_unix(path).map_err(fail)?
                };
                socket = Some(path.clone());
                runtime.spawn(async move {
                    loop {
                        match listener.accept().await {
                            Ok((s, _)) => {
                                let (r, w) = s.into_split();
                                serve(&shared, &name, r, w);
                            }
                            Err(e) => accept_failed(&name, e).await,
                        }
                    }
                })
            }
            Target::PassiveTcp { port, host } => {
                let (host, port) = (host.clone(), *port);
                let listener = runtime
                    .spawn(async move {
                        match host {
                            Some(h) => TcpListener::bind((h.as_str(), port)).await,
                            None => {
                                TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await
                            }
                        }
                    })
                    .await
                    .unwrap_or_else(|e| Err(io::Error::other(e)))
                    .map_err(fail)?;
                local = listener.local_addr().ok();
                runtime.spawn(async move {
                    loop {
                        match listener.accept().await {
                            Ok((s, _)) => {
                                _ = s.set_nodelay(true);
                                let (r, w) = s.into_split();
                                serve(&shared, &name, r, w);
                            }
                            Err(e) => accept_failed(&name, e).await,
                        }
                    }
                })
            }
            Target::Unix(_) | Target::Tcp { .. } => runtime.spawn(call(shared, name)),
            Target::Database { .. } => {
                return Err(fail(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "db: remotes are given when the server is opened",
                )));
            }
        };
        lock(&self.shared.listeners).insert(
            remote.clone(),
            Remote {
                task,
                socket,
                local,
                from_db,
            },
        );
        tracing::info!(%remote, "serving");
        Ok(())
    }

    /// Stops to listen on a remote; connections over it go on. False where there is none.
    pub fn remove_remote(&self, remote: &Target) -> bool {
        match lock(&self.shared.listeners).remove(remote) {
            Some(r) => {
                r.close();
                true
            }
            None => false,
        }
    }

    /// The remotes there are.
    pub fn remotes(&self) -> Vec<Target> {
        let mut out: Vec<_> = lock(&self.shared.listeners).keys().cloned().collect();
        out.sort();
        out
    }

    /// The address a `ptcp:` remote listens on, which tells the port if 0 was asked for.
    pub fn local_addr(&self, remote: &Target) -> Option<std::net::SocketAddr> {
        lock(&self.shared.listeners).get(remote)?.local
    }

    /// Runs something on the engine, between two messages.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn with_engine<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> Result<R, ServerError> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move |e| {
            _ = tx.send(f(e));
        });
        let stopped = || ServerError::Stopped("it was asked to".into());
        self.shared
            .inbox
            .send(Input::Job(job))
            .await
            .map_err(|_| stopped())?;
        rx.await.map_err(|_| stopped())
    }

    /// Compacts the database files now.
    ///
    /// # Errors
    /// What went wrong; the old file is still in use then.
    pub async fn compact(&self) -> Result<(), ServerError> {
        let (tx, rx) = oneshot::channel();
        let stopped = || ServerError::Stopped("it was asked to".into());
        self.shared
            .inbox
            .send(Input::Compact(tx))
            .await
            .map_err(|_| stopped())?;
        rx.await
            .map_err(|_| stopped())?
            .map_err(ServerError::Stopped)
    }
}

/// Accepting can fail for want of descriptors; that passes.
async fn accept_failed(remote: &Target, e: io::Error) {
    tracing::warn!(%remote, error = %e, "accepting a connection failed");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Keeps a connection to a client that listens.
async fn call(shared: Arc<Shared>, remote: Target) {
    let mut wait = BACKOFF_MIN;
    loop {
        let reader = match &remote {
            Target::Unix(path) => UnixStream::connect(path).await.map(|s| {
                let (r, w) = s.into_split();
                serve(&shared, &remote, r, w)
            }),
            Target::Tcp { host, port } => {
                TcpStream::connect((host.as_str(), *port)).await.map(|s| {
                    _ = s.set_nodelay(true);
                    let (r, w) = s.into_split();
                    serve(&shared, &remote, r, w)
                })
            }
            _ => return,
        };
        match reader {
            Ok(Some(task)) => {
                wait = BACKOFF_MIN;
                // The connection ends with this task when the remote is removed.
                let _guard = AbortOnDrop(task.abort_handle());
                _ = task.await;
            }
            Ok(None) => {}
            Err(e) => tracing::debug!(%remote, error = %e, "connecting failed"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF_MAX);
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts a connection as long as it lives, however its task ends.
struct Counted {
    shared: Arc<Shared>,
    remote: Target,
    id: ClientId,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
        if let Some(n) = lock(&self.shared.connections).get_mut(&self.remote) {
            *n = n.saturating_sub(1);
        }
        let inbox = self.shared.inbox.clone();
        let id = self.id;
        if let Err(mpsc::error::TrySendError::Full(m)) = inbox.try_send(Input::Gone(id)) {
            self.shared
                .runtime
                .spawn(async move { inbox.send(m).await });
        }
    }
}

/// Serves one connection.
fn serve(
    shared: &Arc<Shared>,
    remote: &Target,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> Option<JoinHandle<()>> {
    if shared.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
        shared.clients.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(%remote, "connection refused: {MAX_CLIENTS} clients are here already");
        return None;
    }
    let id = shared.next_client.fetch_add(1, Ordering::Relaxed);
    *lock(&shared.connections).entry(remote.clone()).or_default() += 1;
    let counted = Counted {
        shared: shared.clone(),
        remote: remote.clone(),
        id,
    };
    let inbox = shared.inbox.clone();
    let name = format!("{remote}#{id}");
    Some(tokio::spawn(async move {
        let _counted = counted;
        let (queue, queue_rx) = mpsc::unbounded_channel();
        let (life, ended) = oneshot::channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let outbox = Outbox {
            queue,
            backlog: backlog.clone(),
            _life: life,
        };
        if inbox
            .send(Input::Connect(id, outbox, name.clone()))
            .await
            .is_err()
        {
            return;
        }
        let why = tokio::select! {
            why = read_loop(id, reader, &inbox) => why,
            why = write_loop(writer, queue_rx, backlog) => why,
            _ = ended => return,
        };
        match why {
            Some(why) => tracing::warn!(client = name, "connection dropped: {why}"),
            None => tracing::debug!(client = name, "connection closed"),
        }
    }))
}

async fn read_loop(
    id: ClientId,
    mut reader: impl AsyncRead + Unpin,
    inbox: &mpsc::Sender<Input>,
) -> Option<String> {
    let mut stream = JsonStream::new(MAX_MESSAGE);
    let mut buf = vec![0; 16 << 10];
    loop {
        match reader.read(&mut buf).await {
            Ok(0) => return None,
            Ok(n) => stream.feed(&buf[..n]),
            Err(e) => return Some(e.to_string()),
        }
        loop {
            match stream.next_message() {
                Ok(None) => break,
                Ok(Some(v)) => {
                    if inbox.send(Input::Message(id, v)).await.is_err() {
                        return None;
                    }
                }
                Err(e) => return Some(e.to_string()),
            }
        }
    }
}

async fn write_loop(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::UnboundedReceiver<Message>,
    backlog: Arc<AtomicUsize>,
) -> Option<String> {
    let mut messages: Vec<Message> = Vec::new();
    while queue.recv_many(&mut messages, GATHERED).await > 0 {
        let parts = messages.iter().flat_map(Message::parts);
        let mut parts = Parts(parts.map(str::as_bytes).filter(|p| !p.is_empty()).collect());
        let bytes = parts.remaining();
        if let Err(e) = writer.write_all_buf(&mut parts).await {
            return Some(e.to_string());
        }
        backlog.fetch_sub(bytes, Ordering::Relaxed);
        messages.clear();
    }
    None
}

/// Bytes that lie in several places, to be written by few system calls.
struct Parts<'a>(VecDeque<&'a [u8]>);

impl Buf for Parts<'_> {
    fn remaining(&self) -> usize {
        self.0.iter().map(|p| p.len()).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().copied().unwrap_or_default()
    }

    fn chunks_vectored<'b>(&'b self, out: &mut [io::IoSlice<'b>]) -> usize {
        let n = self.0.len().min(out.len());
        for (slot, part) in out.iter_mut().zip(&self.0) {
            *slot = io::IoSlice::new(part);
        }
        n
    }

    fn advance(&mut self, mut n: usize) {
        while let Some(part) = self.0.front_mut() {
            if n < part.len() {
                *part = &part[n..];
                return;
            }
            n -= part.len();
            self.0.pop_front();
        }
    }
}

/// Serves the remotes that database columns name, and writes into their rows whether they are
/// connected.
async fn follow_columns(
    handle: ServerHandle,
    columns: Vec<Target>,
    mut changed: watch::Receiver<u64>,
) {
    if columns.is_empty() {
        return;
    }
    // Errors that the log has been told.
    let mut told_errors: HashMap<String, String> = HashMap::new();
    loop {
        let asked = columns.clone();
        let Ok(wanted) = handle
            .with_engine(move |e| {
                asked
                    .iter()
                    .flat_map(|c| named_targets(e, c))
                    .collect::<Vec<_>>()
            })
            .await
        else {
            return;
        };
        let mut targets = Vec::new();
        // What is wrong with those that cannot be served, by their text in the column.
        let mut errors = HashMap::new();
        for text in wanted {
            match text.parse::<Target>() {
                Ok(Target::Database { .. }) => {
                    errors.insert(text, "a column may not name another column".to_owned());
                }
                Ok(t) => targets.push((text, t)),
                Err(e) => _ = errors.insert(text, e.to_string()),
            }
        }
        let gone: Vec<Target> = lock(&handle.shared.listeners)
            .iter()
            .filter(|(t, r)| r.from_db && !targets.iter().any(|(_, wanted)| wanted == *t))
            .map(|(t, _)| t.clone())
            .collect();
        for t in gone {
            handle.remove_remote(&t);
        }
        let mut standings = HashMap::new();
        for (text, t) in targets {
            let standing = match handle.add(&t, true).await {
                Ok(()) => Standing {
                    connections: lock(&handle.shared.connections)
                        .get(&t)
                        .copied()
                        .unwrap_or(0),
                    passive: t.is_passive(),
                    port: handle.local_addr(&t).map(|a| a.port()),
                    error: None,
                },
                Err(e) => Standing {
                    error: Some(e.to_string()),
                    ..Standing::default()
                },
            };
            standings.insert(text, standing);
        }
        standings.extend(errors.into_iter().map(|(text, e)| {
            let standing = Standing {
                error: Some(e),
                ..Standing::default()
            };
            (text, standing)
        }));
        for (text, s) in &standings {
            if let Some(e) = &s.error
                && told_errors.insert(text.clone(), e.clone()).as_ref() != Some(e)
            {
                tracing::warn!("{text}: remote in the database cannot be served: {e}");
            }
        }
        told_errors.retain(|text, _| standings.contains_key(text));
        let asked = columns.clone();
        let told = handle
            .with_engine(move |e| {
                for c in &asked {
                    tell_status(e, c, &standings);
                }
            })
            .await;
        if told.is_err() {
            return;
        }
        changed.borrow_and_update();
        // Also look now and then for connections that came and went.
        tokio::select! {
            r = changed.changed() => if r.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(2500)) => {}
        }
    }
}

/// Rows that the column of a `db:` target refers to.
fn referred<'e>(
    engine: &'e Engine,
    target: &Target,
) -> Option<(
    &'e crate::Database,
    String,
    Vec<&'e Arc<crate::database::DbRow>>,
)> {
    let Target::Database { db, table, column } = target else {
        return None;
    };
    let database = engine.database(db)?;
    let to = database
        .schema()
        .table(table)?
        .column(column)?
        .ty
        .key
        .ref_table
        .clone()?;
    let ids: Vec<_> = database
        .rows(table)
        .filter_map(|r| database.cell(table, r, column))
        .flat_map(Datum::uuids)
        .collect();
    let rows = database
        .rows(&to)
        .filter(|r| ids.contains(&r.uuid))
        .collect();
    Some((database, to, rows))
}

fn named_targets(engine: &Engine, target: &Target) -> Vec<String> {
    if let Some((db, table, rows)) = referred(engine, target) {
        return rows
            .into_iter()
            .filter_map(|r| {
                db.cell(&table, r, "target")?
                    .as_scalar_str()
                    .map(str::to_owned)
            })
            .collect();
    }
    let Target::Database { db, table, column } = target else {
        return Vec::new();
    };
    let Some(database) = engine.database(db) else {
        return Vec::new();
    };
    database
        .rows(table)
        .filter_map(|r| database.cell(table, r, column))
        .flat_map(|d| d.strs().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// How a remote that a column names fares.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Connections at present.
    connections: usize,
    /// Whether it is listened on.
    passive: bool,
    /// The TCP port it is listened on.
    port: Option<u16>,
    /// Why it cannot be served.
    error: Option<String>,
}

impl Standing {
    /// The pairs of column `status`.
    fn status(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        if let Some(e) = &self.error {
            pairs.push(("last_error", e.clone()));
        }
        if !self.passive || self.error.is_some() {
            let state = if self.connections > 0 {
                "ACTIVE"
            } else {
                "BACKOFF"
            };
            pairs.push(("state", state.to_owned()));
        }
        if let Some(port) = self.port {
            pairs.push(("bound_port", port.to_string()));
        }
        if self.passive && self.connections > 1 {
            pairs.push(("n_connections", self.connections.to_string()));
        }
        pairs
    }
}

/// Sets `is_connected` and `status` of the rows a `db:` target refers to.
fn tell_status(engine: &mut Engine, target: &Target, standings: &HashMap<String, Standing>) {
    let Target::Database { db: name, .. } = target else {
        return;
    };
    let mut t = Transaction::new();
    if let Some((db, table, rows)) = referred(engine, target) {
        for row in rows {
            let (Some(target), Some(connected), Some(status)) = (
                db.cell(&table, row, "target")
                    .and_then(Datum::as_scalar_str),
                db.cell(&table, row, "is_connected"),
                db.cell(&table, row, "status"),
            ) else {
                continue;
            };
            let Some(standing) = standings.get(target) else {
                continue;
            };
            let new_connected = Datum::scalar(standing.connections > 0);
            let new_status = Datum::map(standing.status());
            if *connected != new_connected || *status != new_status {
                t.update(
                    &table,
                    row.uuid,
                    [("is_connected", new_connected), ("status", new_status)],
                );
            }
        }
    }
    if !t.is_empty()
        && let Err(e) = engine.run_internal(name, t)
    {
        tracing::warn!(%e, "telling the state of remotes");
    }
}
