//! A connection to an OVSDB server (RFC 7047 4.1), over tokio.
//!
//! A reader task owns the receiving half; it answers the server's `echo`, hands replies to who
//! waits for them and notifications to one channel. [`Client`] is cheap to clone; the connection
//! ends when the last clone is dropped.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::error::OvsdbError;
use crate::probe::{self, Due, Probe};
use crate::schema::DatabaseSchema;
use crate::stream::JsonStream;
use crate::target::Target;
use crate::tls::Tls;
use crate::transaction::OperationResult;
use crate::transport;

/// Longest message accepted from a server: a full dump of a large database is one message.
pub const MAX_SERVER_MESSAGE: usize = 256 << 20;

/// Most notifications waiting to be taken; a client that takes none for so long is out of step
/// and is disconnected.
pub const MAX_PENDING_NOTIFICATIONS: usize = 100_000;

/// What can go wrong between client and server.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("failed to connect to \"{target}\" ({reason})")]
    Connect {
        /// Where to.
        target: String,
        /// Why not, in the words of the system.
        reason: String,
    },
    /// The connection ended.
    #[error("connection to the database closed ({0})")]
    Closed(String),
    /// The server said something that makes no sense.
    #[error("the database server sent {0}")]
    Protocol(String),
    /// The server answered with an error.
    #[error(transparent)]
    Answer(#[from] OvsdbError),
}

/// Something the server tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Notification {
    /// `update`, `update2` or `update3`.
    Update {
        /// 1, 2 or 3: the method.
        version: u8,
        /// The monitor's name, as given to `monitor`.
        monitor: Value,
        /// `update3`: the transaction this belongs to.
        txn: Option<String>,
        /// The `<table-updates>`.
        updates: Value,
    },
    /// A lock that was waited for is ours.
    Locked(String),
    /// Another client took our lock.
    Stolen(String),
    /// `monitor_canceled`: the server gave up a monitor, as its database is gone.
    MonitorCanceled(Value),
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, ClientError>>>;

struct Shared {
    waiting: Mutex<Option<Waiting>>,
    why: Mutex<String>,
    next_id: AtomicU64,
    pending: AtomicUsize,
    out: mpsc::UnboundedSender<String>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Shared {
    fn close(&self, why: &str) {
        let waiting = lock(&self.waiting).take();
        {
            let mut w = lock(&self.why);
            if w.is_empty() {
                *w = why.into();
            }
        }
        for (_, tx) in waiting.into_iter().flatten() {
            _ = tx.send(Err(ClientError::Closed(why.into())));
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the reader task to stop once nobody uses the connection.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(stop) = lock(&self.0.stop).take() {
            _ = stop.send(());
        }
    }
}

/// A connection to a server.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    _guard: Arc<Guard>,
    notifications: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Notification>>>,
}

fn system_words(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// How to connect.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Keys and certificates for `ssl:`.
    pub tls: Tls,
    /// Silence after which the server is probed ([`crate::probe`]), and given up after as much
    /// again; `None`: it never is.
    pub probe: Option<Duration>,
}

impl Client {
    /// Connects to `unix:` or `tcp:`, without probes.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn connect(target: &Target) -> Result<Self, ClientError> {
        Self::connect_with(target, &ClientOptions::default()).await
    }

    /// Connects to `unix:`, `tcp:` or `ssl:`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn connect_with(
        target: &Target,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let fail = |e: io::Error| ClientError::Connect {
            target: target.to_string(),
            reason: system_words(&e),
        };
        let connection = transport::dial(target, &options.tls, 0)
            .await
            .map_err(fail)?;
        Ok(Self::over(
            connection.reader,
            connection.writer,
            options.probe,
        ))
    }

    /// Speaks over any stream; `probe` as in [`ClientOptions::probe`].
    pub fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        probe: Option<Duration>,
    ) -> Self {
        let (out, out_rx) = mpsc::unbounded_channel();
        let (notify, notifications) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Some(HashMap::new())),
            why: Mutex::new(String::new()),
            next_id: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            out,
            stop: Mutex::new(Some(stop)),
        });
        let for_task = shared.clone();
        tokio::spawn(async move {
            let why = tokio::select! {
                why = read_loop(reader, &for_task, notify, probe) => why,
                why = write_loop(writer, out_rx) => why,
                _ = stopped => "closed by this side".to_owned(),
            };
            for_task.close(&why);
        });
        Self {
            _guard: Arc::new(Guard(shared.clone())),
            shared,
            notifications: Arc::new(tokio::sync::Mutex::new(notifications)),
        }
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed(lock(&self.shared.why).clone())
    }

    /// True once the connection has ended.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared.waiting).is_none()
    }

    /// Sends a request and waits for its result (RFC 7047 4).
    ///
    /// # Errors
    /// The connection's end, or the server's error.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value, ClientError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        match lock(&self.shared.waiting).as_mut() {
            Some(w) => w.insert(id, tx),
            None => return Err(self.closed()),
        };
        let text = json!({"method": method, "params": params, "id": id}).to_string();
        if self.shared.out.send(text).is_err() {
            return Err(self.closed());
        }
        rx.await.unwrap_or_else(|_| Err(self.closed()))
    }

    /// The names of the databases (RFC 7047 4.1.1).
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn list_dbs(&self) -> Result<Vec<String>, ClientError> {
        let v = self.request("list_dbs", json!([])).await?;
        v.as_array()
            .map(|l| {
                l.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            })
            .ok_or_else(|| ClientError::Protocol("a list_dbs reply that is no array".into()))
    }

    /// A database's schema in JSON (RFC 7047 4.1.2).
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn get_schema_json(&self, db: &str) -> Result<Value, ClientError> {
        self.request("get_schema", json!([db])).await
    }

    /// A database's schema.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn get_schema(&self, db: &str) -> Result<DatabaseSchema, ClientError> {
        Ok(DatabaseSchema::from_json(&self.get_schema_json(db).await?)?)
    }

    /// Runs operations as one transaction (RFC 7047 4.1.3). The results are one per operation,
    /// and one more where the commit failed; see [`crate::Outcome::check`].
    ///
    /// # Errors
    /// As [`Client::request`]; errors of operations are in the results.
    pub async fn transact(
        &self,
        db: &str,
        ops: Vec<Value>,
    ) -> Result<Vec<OperationResult>, ClientError> {
        let v = self.transact_json(db, ops).await?;
        v.as_array()
            .map(|l| l.iter().map(OperationResult::from_json).collect())
            .ok_or_else(|| ClientError::Protocol("a transact reply that is no array".into()))
    }

    /// As [`Client::transact`], with the results in JSON.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn transact_json(&self, db: &str, ops: Vec<Value>) -> Result<Value, ClientError> {
        let mut params = vec![Value::from(db)];
        params.extend(ops);
        self.request("transact", Value::Array(params)).await
    }

    /// Monitors tables (RFC 7047 4.1.5): the initial `<table-updates>`; later ones come by
    /// [`Client::next_notification`] with the name `id`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn monitor(
        &self,
        db: &str,
        id: Value,
        requests: Value,
    ) -> Result<Value, ClientError> {
        self.request("monitor", json!([db, id, requests])).await
    }

    /// As [`Client::monitor`] with the more compact updates of `monitor_cond`
    /// (ovsdb-server(7) 4.1.12); servers older than OVS 2.6 answer `unknown method`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn monitor_cond(
        &self,
        db: &str,
        id: Value,
        requests: Value,
    ) -> Result<Value, ClientError> {
        self.request("monitor_cond", json!([db, id, requests]))
            .await
    }

    /// As [`Client::monitor_cond`], for a client that knows the rows as of transaction `last`
    /// (the nil UUID: none), `monitor_cond_since` (ovsdb-server(7) 4.1.15): whether the server
    /// remembers that transaction, the id of the last one, and then what changed since, else all
    /// rows.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn monitor_cond_since(
        &self,
        db: &str,
        id: Value,
        requests: Value,
        last: &str,
    ) -> Result<(bool, String, Value), ClientError> {
        let params = json!([db, id, requests, last]);
        let answer = self.request("monitor_cond_since", params).await?;
        match answer {
            Value::Array(mut list) if list.len() == 3 => {
                let updates = list.pop().unwrap_or_default();
                if let (Some(found), Some(last)) = (list[0].as_bool(), list[1].as_str()) {
                    return Ok((found, last.to_owned(), updates));
                }
            }
            _ => {}
        }
        Err(ClientError::Protocol(
            "a monitor_cond_since reply that is not [<boolean>, <string>, <table-updates2>]".into(),
        ))
    }

    /// Gives a monitor of [`Client::monitor_cond`] or [`Client::monitor_cond_since`] other
    /// conditions, and another name if `new` differs from `old` (ovsdb-server(7) 4.1.13). What comes
    /// and goes by that is notified before this returns.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn monitor_cond_change(
        &self,
        old: Value,
        new: Value,
        requests: Value,
    ) -> Result<(), ClientError> {
        let params = json!([old, new, requests]);
        self.request("monitor_cond_change", params).await.map(drop)
    }

    /// Ends a monitor (RFC 7047 4.1.7).
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn monitor_cancel(&self, id: Value) -> Result<(), ClientError> {
        self.request("monitor_cancel", json!([id])).await.map(drop)
    }

    /// Asks for a sign of life (RFC 7047 4.1.11).
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn echo(&self) -> Result<(), ClientError> {
        self.request("echo", json!([])).await.map(drop)
    }

    async fn lock_request(&self, method: &str, name: &str) -> Result<bool, ClientError> {
        let v = self.request(method, json!([name])).await?;
        Ok(v.get("locked").and_then(Value::as_bool).unwrap_or(false))
    }

    /// Asks for a lock (RFC 7047 4.1.8): true if it is ours at once, else
    /// [`Notification::Locked`] tells when.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn lock(&self, name: &str) -> Result<bool, ClientError> {
        self.lock_request("lock", name).await
    }

    /// Takes a lock from whoever has it.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn steal(&self, name: &str) -> Result<bool, ClientError> {
        self.lock_request("steal", name).await
    }

    /// Gives a lock up, or no longer waits for it.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn unlock(&self, name: &str) -> Result<(), ClientError> {
        self.request("unlock", json!([name])).await.map(drop)
    }

    /// The next thing the server tells unasked; may be dropped and called again without loss.
    ///
    /// # Errors
    /// The connection's end.
    pub async fn next_notification(&self) -> Result<Notification, ClientError> {
        let n = self.notifications.lock().await.recv().await;
        match n {
            Some(n) => {
                self.shared.pending.fetch_sub(1, Ordering::Relaxed);
                Ok(n)
            }
            None => Err(self.closed()),
        }
    }

    /// A notification that is already here.
    pub fn try_notification(&self) -> Option<Notification> {
        let n = self.notifications.try_lock().ok()?.try_recv().ok()?;
        self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        Some(n)
    }
}

async fn write_loop(
    mut writer: impl AsyncWrite + Unpin,
    mut out: mpsc::UnboundedReceiver<String>,
) -> String {
    while let Some(text) = out.recv().await {
        if let Err(e) = writer.write_all(text.as_bytes()).await {
            return system_words(&e);
        }
        // A stream that encrypts may hold bytes back.
        if let Err(e) = writer.flush().await {
            return system_words(&e);
        }
    }
    "closed by this side".into()
}

async fn read_loop(
    mut reader: impl AsyncRead + Unpin,
    shared: &Shared,
    notify: mpsc::UnboundedSender<Notification>,
    probe: Option<Duration>,
) -> String {
    let now = || tokio::time::Instant::now().into_std();
    let mut stream = JsonStream::new(MAX_SERVER_MESSAGE);
    let mut buf = vec![0; 64 << 10];
    let mut probe = Probe::new(probe, now());
    loop {
        let read = tokio::select! {
            read = reader.read(&mut buf) => read,
            due = probe::due(&mut probe) => {
                if due == Due::GiveUp {
                    return probe.reason();
                }
                _ = shared.out.send(probe::ECHO.into());
                continue;
            }
        };
        match read {
            Ok(0) => return "End of file".into(),
            Ok(n) => stream.feed(&buf[..n]),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return "End of file".into(),
            Err(e) => return system_words(&e),
        }
        probe.heard(now());
        loop {
            match stream.next_message() {
                Ok(None) => break,
                Ok(Some(v)) => {
                    if let Err(why) = take_message(v, shared, &notify) {
                        return why;
                    }
                }
                Err(e) => return e.to_string(),
            }
        }
    }
}

fn take_message(
    mut v: Value,
    shared: &Shared,
    notify: &mpsc::UnboundedSender<Notification>,
) -> Result<(), String> {
    let Some(method) = v.get("method").and_then(Value::as_str).map(str::to_owned) else {
        let id = v.get("id").and_then(Value::as_u64);
        let tx = id.and_then(|id| lock(&shared.waiting).as_mut()?.remove(&id));
        // A reply nobody waits for: the asker gave up.
        if let Some(tx) = tx {
            let error = v["error"].take();
            let answer = if error.is_null() {
                Ok(v["result"].take())
            } else {
                Err(ClientError::Answer(
                    OvsdbError::from_json(&error).unwrap_or_else(|| {
                        OvsdbError::new(
                            error.as_str().unwrap_or("error"),
                            if error.is_string() {
                                String::new()
                            } else {
                                error.to_string()
                            },
                        )
                    }),
                ))
            };
            _ = tx.send(answer);
        }
        return Ok(());
    };
    let params = v["params"].take();
    let first = |params: &Value| params.get(0).cloned().unwrap_or_default();
    let name = |params: &Value| first(params).as_str().unwrap_or_default().to_owned();
    let n = match method.as_str() {
        "echo" => {
            let reply = json!({"id": v["id"].take(), "result": params, "error": null});
            _ = shared.out.send(reply.to_string());
            return Ok(());
        }
        "update" | "update2" => Notification::Update {
            version: if method == "update" { 1 } else { 2 },
            monitor: first(&params),
            txn: None,
            updates: params.get(1).cloned().unwrap_or_default(),
        },
        "update3" => Notification::Update {
            version: 3,
            monitor: first(&params),
            txn: params.get(1).and_then(Value::as_str).map(str::to_owned),
            updates: params.get(2).cloned().unwrap_or_default(),
        },
        "locked" => Notification::Locked(name(&params)),
        "stolen" => Notification::Stolen(name(&params)),
        "monitor_canceled" => Notification::MonitorCanceled(first(&params)),
        other => {
            tracing::debug!(method = other, "notification of an unknown kind ignored");
            return Ok(());
        }
    };
    if shared.pending.fetch_add(1, Ordering::Relaxed) >= MAX_PENDING_NOTIFICATIONS {
        return Err(format!(
            "{MAX_PENDING_NOTIFICATIONS} updates came that nobody took"
        ));
    }
    _ = notify.send(n);
    Ok(())
}
