//! The tasks that carry OpenFlow: one for each listening socket and one for each connection
//! (`connect` makes controllers' connections, `converse` serves one, `auxiliary` those beside a main
//! one, `snoop` shows what is said).
//!
//! A connection reads only while little is waiting to be written, and handles one message at a time,
//! so that whoever does not read his answers cannot make the switch keep more than about
//! [`HIGH_WATER`] bytes and one answer (or a part of one that lists flows) for him; whoever reads nothing for [`STALL_LIMIT`] is cut off.

mod auxiliary;
mod connect;
mod converse;
mod snoop;

pub use auxiliary::MAX_AUXILIARY;

use super::peer::Kind;
use super::rconn::Reconnect;
use super::{Bridge, Command, ControllerStatus, MAX_SERVICE_CONNECTIONS};
use crate::switch::Switch;
use connect::run_controller;
use converse::{Line, converse};
use ovsdb::transport::Connection;
use ovsdb::{Tls, TlsOptions};
use snoop::snooper;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Bytes waiting to be written from which on no further message is handled.
pub const HIGH_WATER: usize = 256 << 10;
/// How long a peer may leave written bytes unread.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Packet-ins that may wait to be written to one controller, where `controller_queue_size` is not set.
pub const DEFAULT_QUEUE_SIZE: usize = 100;
/// How long a peer may take to agree on a version.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Starts and ends the tasks.
pub struct Driver {
    run_dir: PathBuf,
    /// Keys and certificates of `ssl:` and `pssl:` controllers.
    tls: Tls,
    tasks: Mutex<Vec<Task>>,
    changed: Arc<Notify>,
}

struct Task {
    /// Whose: a bridge's listeners, or a controller (by its status).
    key: Key,
    bridge: Arc<Bridge>,
    handle: JoinHandle<()>,
}

enum Key {
    Listeners,
    Controller(Arc<Mutex<ControllerStatus>>),
}

impl Driver {
    /// A driver whose sockets lie in `run_dir`.
    pub fn new(run_dir: PathBuf) -> Driver {
        Driver {
            run_dir,
            tls: Tls::default(),
            tasks: Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// Uses these keys and certificates from the next connection on.
    pub fn set_tls(&self, options: &TlsOptions) {
        if let Err(e) = self.tls.set(options.clone()) {
            tracing::error!("controllers by TLS: {e}");
        }
    }

    /// Starts what the bridges have and no task serves yet. What is gone ends by itself.
    pub fn sync(&self, switch: &Switch) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|t| !t.handle.is_finished());
        for bridge in switch.bridges() {
            let mine = |t: &&Task| Arc::ptr_eq(&t.bridge, &bridge);
            if !tasks
                .iter()
                .filter(mine)
                .any(|t| matches!(t.key, Key::Listeners))
            {
                let handle = tokio::spawn(listeners(bridge.clone(), self.run_dir.clone()));
                tasks.push(Task {
                    key: Key::Listeners,
                    bridge: bridge.clone(),
                    handle,
                });
            }
            for controller in bridge.controllers() {
                let started = tasks.iter().filter(mine).any(
                    |t| matches!(&t.key, Key::Controller(s) if Arc::ptr_eq(s, &controller.status)),
                );
                if !started {
                    let key = Key::Controller(controller.status.clone());
                    let handle = tokio::spawn(run_controller(
                        bridge.clone(),
                        controller,
                        self.run_dir.clone(),
                        self.tls.clone(),
                        self.changed.clone(),
                    ));
                    tasks.push(Task {
                        key,
                        bridge: bridge.clone(),
                        handle,
                    });
                }
            }
        }
    }

    /// Waits until the state of some controller's connection changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Ends all tasks.
    pub async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for t in &tasks {
            t.bridge.close();
        }
        for t in tasks {
            let abort = t.handle.abort_handle();
            if tokio::time::timeout(Duration::from_secs(1), t.handle)
                .await
                .is_err()
            {
                abort.abort();
            }
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the flag is true, or nobody is left to make it so.
async fn turned_true(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|f| *f).await;
}

/// Waits for a command; for ever where nobody is left to give one.
async fn commanded(command: &mut watch::Receiver<Command>) {
    if command.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits until the controller is removed.
async fn told_to_close(command: &mut watch::Receiver<Command>) {
    let _ = command.wait_for(|c| *c == Command::Close).await;
}

/// An error of the system as the C library words it.
fn words(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A bound unix socket whose file goes with it, unless somebody else has bound there since.
struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let m = std::fs::symlink_metadata(path).ok()?;
    Some((m.dev(), m.ino()))
}

impl UnixDoor {
    fn bind(path: &Path) -> io::Result<UnixDoor> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        Ok(UnixDoor {
            listener: UnixListener::bind(path)?,
            path: path.to_owned(),
            inode: inode(path),
        })
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Pauses after a failed accept (no file descriptors left, mostly).
async fn accept_failed(what: &str, e: &io::Error) {
    tracing::warn!("{what}: accept failed ({})", words(e));
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// `<bridge>.mgmt` and `<bridge>.snoop`.
async fn listeners(bridge: Arc<Bridge>, run_dir: PathBuf) {
    let bind = |suffix: &str| {
        let path = run_dir.join(format!("{}.{suffix}", bridge.name()));
        UnixDoor::bind(&path)
            .inspect_err(|e| tracing::error!("{}: cannot listen ({})", path.display(), words(e)))
            .ok()
    };
    let (mgmt, snoop) = (bind("mgmt"), bind("snoop"));
    let mut closed = bridge.closed();
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        tokio::select! {
            () = turned_true(&mut closed) => return,
            r = accept(&mgmt) => match r {
                Ok(stream) if count.load(Ordering::Relaxed) >= MAX_SERVICE_CONNECTIONS => drop(stream),
                Ok(stream) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    let (bridge, count) = (bridge.clone(), count.clone());
                    tokio::spawn(async move {
                        let line = Line {
                            what: format!("{}<->unix", bridge.name()),
                            uri: "unix".to_owned(),
                            kind: Kind::Service,
                            limit: None,
                            enable_async: true,
                            queue_size: DEFAULT_QUEUE_SIZE,
                            status: Arc::new(Mutex::new(ControllerStatus {
                                reconnect: Some(Reconnect::accepted(bridge.now(), None)),
                                ..ControllerStatus::default()
                            })),
                            command: watch::channel(Command::Run).1,
                            changed: None,
                            auxiliary: None,
                        };
                        converse(connection(stream), &bridge, line).await;
                        count.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Err(e) => accept_failed("mgmt", &e).await,
            },
            r = accept(&snoop) => match r {
                Ok(stream) if count.load(Ordering::Relaxed) >= MAX_SERVICE_CONNECTIONS => drop(stream),
                Ok(stream) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    let (bridge, count) = (bridge.clone(), count.clone());
                    tokio::spawn(async move {
                        snooper(connection(stream), &bridge).await;
                        count.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Err(e) => accept_failed("snoop", &e).await,
            },
        }
    }
}

fn connection(stream: UnixStream) -> Connection {
    let (reader, writer) = stream.into_split();
    Connection {
        reader: Box::new(reader),
        writer: Box::new(writer),
    }
}

async fn accept(door: &Option<UnixDoor>) -> io::Result<UnixStream> {
    match door {
        Some(d) => d.listener.accept().await.map(|(s, _)| s),
        None => std::future::pending().await,
    }
}
