//! The tasks that carry OpenFlow: one for each listening socket and one for each connection.
//!
//! A connection reads only while little is waiting to be written, and handles one message at a time,
//! so that whoever does not read his answers cannot make the switch keep more than about
//! [`HIGH_WATER`] bytes and one answer for him; whoever reads nothing for [`STALL_LIMIT`] is cut off.

use super::conversation::Conversation;
use super::peer::{Kind, Peer};
use super::rconn::{Reconnect, Step};
use super::target::Target;
use super::{Bridge, Command, Controller, ControllerStatus, MAX_SERVICE_CONNECTIONS};
use crate::switch::Switch;
use bytes::{Buf, BytesMut};
use openflow::Message;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Bytes waiting to be written from which on no further message is handled.
pub const HIGH_WATER: usize = 256 << 10;
/// Bytes read at once.
const READ_SIZE: usize = 64 << 10;
/// How long a peer may leave written bytes unread.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How long a peer may take to agree on a version.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Starts and ends the tasks.
pub struct Driver {
    run_dir: PathBuf,
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
            tasks: Mutex::default(),
            changed: Arc::default(),
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
                            kind: Kind::Service,
                            limit: None,
                            enable_async: true,
                            status: Arc::new(Mutex::new(ControllerStatus {
                                reconnect: Some(Reconnect::accepted(bridge.now(), None)),
                                ..ControllerStatus::default()
                            })),
                            command: watch::channel(Command::Run).1,
                            changed: None,
                        };
                        converse(stream, &bridge, line).await;
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
                        snooper(stream, &bridge).await;
                        count.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Err(e) => accept_failed("snoop", &e).await,
            },
        }
    }
}

async fn accept(door: &Option<UnixDoor>) -> io::Result<UnixStream> {
    match door {
        Some(d) => d.listener.accept().await.map(|(s, _)| s),
        None => std::future::pending().await,
    }
}

/// Serves a controller as configured, until it is removed.
async fn run_controller(
    bridge: Arc<Bridge>,
    controller: Controller,
    run_dir: PathBuf,
    changed: Arc<Notify>,
) {
    match Target::parse(&controller.conf.target, &run_dir) {
        Err(why) => {
            tracing::warn!(
                "{}: controller \"{}\": {why}",
                bridge.name(),
                controller.conf.target
            );
            lock(&controller.status).problem = Some(why);
            changed.notify_one();
            let mut command = controller.command.subscribe();
            told_to_close(&mut command).await;
        }
        Ok(Target::Tcp(host, port)) => {
            let dial = || async {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            active(&bridge, &controller, &changed, dial).await;
        }
        Ok(Target::Unix(path)) => {
            active(&bridge, &controller, &changed, || {
                UnixStream::connect(&path)
            })
            .await;
        }
        Ok(target) => passive(&bridge, &controller, &changed, target).await,
    }
}

/// Keeps one connection up.
async fn active<S, F>(
    bridge: &Arc<Bridge>,
    controller: &Controller,
    changed: &Arc<Notify>,
    dial: impl Fn() -> F,
) where
    S: AsyncRead + AsyncWrite + Send,
    F: Future<Output = io::Result<S>>,
{
    let target = &controller.conf.target;
    let what = format!("{}<->{target}", bridge.name());
    let mut command = controller.command.subscribe();
    lock(&controller.status).reconnect = Some(Reconnect::new(
        bridge.now(),
        controller.conf.max_backoff,
        controller.conf.probe,
    ));
    // `None` only if someone else took the state away, which nobody does.
    let with = |f: &mut dyn FnMut(&mut Reconnect)| {
        if let Some(r) = &mut lock(&controller.status).reconnect {
            f(r);
        }
    };
    let mut said = String::new();
    loop {
        if *command.borrow_and_update() == Command::Close {
            return;
        }
        let mut step = Step::Wait;
        with(&mut |r| step = r.poll(bridge.now()));
        match step {
            Step::Connect => {
                let mut due = bridge.now() + super::rconn::CONNECT_TIMEOUT_MIN;
                with(&mut |r| {
                    if let Step::WaitUntil(t) = r.poll(bridge.now()) {
                        due = t;
                    }
                });
                let left = due.saturating_sub(bridge.now());
                let outcome = tokio::select! {
                    r = tokio::time::timeout(left, dial()) => r,
                    _ = command.changed() => {
                        with(&mut |r| r.reconnect(bridge.now()));
                        continue;
                    }
                };
                let why = match outcome {
                    Ok(Ok(stream)) => {
                        let conf = bridge
                            .controller_conf(target)
                            .unwrap_or_else(|| controller.conf.clone());
                        let line = Line {
                            what: what.clone(),
                            kind: if conf.service {
                                Kind::Service
                            } else {
                                Kind::Primary
                            },
                            limit: conf.rate_limit,
                            enable_async: conf.enable_async,
                            status: controller.status.clone(),
                            command: command.clone(),
                            changed: Some(changed.clone()),
                        };
                        said.clear();
                        converse(stream, bridge, line).await
                    }
                    Ok(Err(e)) => words(&e),
                    Err(_) => "Connection timed out".to_owned(),
                };
                if *command.borrow() != Command::Run && command.has_changed().unwrap_or(true) {
                    with(&mut |r| r.reconnect(bridge.now()));
                } else {
                    if said != why {
                        tracing::warn!(target: "switchd::agent::rconn", "{what}: connection failed ({why})");
                        said.clone_from(&why);
                    }
                    with(&mut |r| r.failed(bridge.now(), why.clone()));
                }
                changed.notify_one();
            }
            Step::WaitUntil(t) => {
                let wait = t.saturating_sub(bridge.now());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = command.changed() => with(&mut |r| r.reconnect(bridge.now())),
                }
            }
            // Only a connection that is up says these, and that is handled where it is served.
            Step::Probe | Step::Disconnect | Step::Wait => tokio::task::yield_now().await,
        }
    }
}

/// Listens for controllers.
async fn passive(
    bridge: &Arc<Bridge>,
    controller: &Controller,
    changed: &Arc<Notify>,
    target: Target,
) {
    enum Listener {
        Tcp(TcpListener),
        Unix(UnixDoor),
    }
    let mut command = controller.command.subscribe();
    let bound = match &target {
        Target::PassiveTcp(host, port) => TcpListener::bind((host.as_str(), *port))
            .await
            .map(Listener::Tcp),
        Target::PassiveUnix(path) => UnixDoor::bind(path).map(Listener::Unix),
        _ => return,
    };
    let listener = match bound {
        Ok(l) => l,
        Err(e) => {
            let why = format!("cannot listen ({})", words(&e));
            tracing::error!("{}: \"{}\": {why}", bridge.name(), controller.conf.target);
            lock(&controller.status).problem = Some(why);
            changed.notify_one();
            told_to_close(&mut command).await;
            return;
        }
    };
    lock(&controller.status).accepted = Some(0);
    changed.notify_one();
    let mut n = 0u64;
    loop {
        n += 1;
        let conf = bridge
            .controller_conf(&controller.conf.target)
            .unwrap_or_else(|| controller.conf.clone());
        let line = Line {
            what: format!("{}<->{}#{n}", bridge.name(), controller.conf.target),
            kind: if conf.service {
                Kind::Service
            } else {
                Kind::Primary
            },
            limit: conf.rate_limit,
            enable_async: conf.enable_async,
            status: Arc::new(Mutex::new(ControllerStatus {
                reconnect: Some(Reconnect::accepted(bridge.now(), conf.probe)),
                ..ControllerStatus::default()
            })),
            command: controller.command.subscribe(),
            changed: Some(changed.clone()),
        };
        let accepted = async {
            match &listener {
                Listener::Tcp(l) => l.accept().await.map(|(s, _)| Accepted::Tcp(s)),
                Listener::Unix(d) => d.listener.accept().await.map(|(s, _)| Accepted::Unix(s)),
            }
        };
        tokio::select! {
            () = told_to_close(&mut command) => return,
            r = accepted => match r {
                Ok(_) if lock(&controller.status).accepted.unwrap_or(0) >= MAX_SERVICE_CONNECTIONS => {}
                Ok(stream) => {
                    let (bridge, status, changed) = (bridge.clone(), controller.status.clone(), changed.clone());
                    tokio::spawn(async move {
                        let count = |up: bool| {
                            if let Some(n) = &mut lock(&status).accepted {
                                *n = if up { *n + 1 } else { n.saturating_sub(1) };
                            }
                            changed.notify_one();
                        };
                        count(true);
                        match stream {
                            Accepted::Tcp(s) => {
                                let _ = s.set_nodelay(true);
                                converse(s, &bridge, line).await
                            }
                            Accepted::Unix(s) => converse(s, &bridge, line).await,
                        };
                        count(false);
                    });
                }
                Err(e) => accept_failed(&controller.conf.target, &e).await,
            },
        }
    }
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a connection needs besides its stream and bridge.
struct Line {
    what: String,
    kind: Kind,
    limit: Option<(u32, u32)>,
    enable_async: bool,
    status: Arc<Mutex<ControllerStatus>>,
    command: watch::Receiver<Command>,
    changed: Option<Arc<Notify>>,
}

/// Agrees on a version; what went wrong otherwise.
async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    talk: &mut Conversation,
) -> Result<(), String> {
    let mut input = BytesMut::with_capacity(4096);
    loop {
        let mut out = talk.take_output();
        if !out.is_empty() {
            stream
                .write_all_buf(&mut out)
                .await
                .map_err(|e| words(&e))?;
        }
        if talk.version().is_some() {
            return Ok(());
        }
        if let Some(why) = talk.failure() {
            return Err(why);
        }
        let n = stream.read_buf(&mut input).await.map_err(|e| words(&e))?;
        if n == 0 {
            return Err("End of file".to_owned());
        }
        talk.receive(&input.split());
    }
}

/// Serves one connection until it ends; why it did.
async fn converse<S: AsyncRead + AsyncWrite + Send>(
    stream: S,
    bridge: &Arc<Bridge>,
    line: Line,
) -> String {
    let mut stream = Box::pin(stream);
    let mut talk = Conversation::new(&bridge.identity().protocols);
    let mut closed = bridge.closed();
    let agreed = tokio::select! {
        r = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&mut stream, &mut talk)) => {
            r.unwrap_or_else(|_| Err("Connection timed out".to_owned()))
        }
        () = turned_true(&mut closed) => Err("the bridge was removed".to_owned()),
    };
    if let Err(why) = agreed {
        tracing::debug!("{}: {why}", line.what);
        return why;
    }
    let (id, queue, overflow) = bridge.join();
    {
        let mut status = lock(&line.status);
        status.conn = Some(id);
        if let Some(r) = &mut status.reconnect {
            r.connected(bridge.now());
        }
    }
    if let Some(changed) = &line.changed {
        tracing::info!(target: "switchd::agent::rconn", "{}: connected", line.what);
        changed.notify_one();
    }
    let mut peer = Peer::new(id, line.kind, talk.version().unwrap_or(4));
    bridge.speaks(id, line.kind, talk.version().unwrap_or(4));
    peer.enable_async(line.enable_async);
    peer.limit(line.limit, bridge.now());
    let why = serve(&mut stream, bridge, &mut peer, talk, queue, overflow, &line).await;
    bridge.leave(id);
    lock(&line.status).conn = None;
    if peer.dropped() > 0 {
        tracing::info!(
            "{}: {} packet-ins were over its rate limit",
            line.what,
            peer.dropped()
        );
    }
    if let Some(changed) = &line.changed {
        tracing::info!(target: "switchd::agent::rconn", "{}: connection closed ({why})", line.what);
        changed.notify_one();
    }
    why
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    bridge: &Arc<Bridge>,
    peer: &mut Peer,
    mut talk: Conversation,
    mut queue: tokio::sync::mpsc::Receiver<Arc<super::Async>>,
    mut overflow: watch::Receiver<bool>,
    line: &Line,
) -> String {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut closed = bridge.closed();
    let mut command = line.command.clone();
    command.mark_unchanged();
    let snooped = peer.kind() == Kind::Primary;
    let mut input = BytesMut::new();
    let mut out = BytesMut::new();
    let mut stalled_since = Instant::now();
    loop {
        // Answer what is here, as long as there is room for answers.
        while out.len() < HIGH_WATER {
            let mods = talk.flow_mods(|m| peer.batches(m));
            let answers = if !mods.is_empty() {
                if snooped && bridge.is_snooped() {
                    for (xid, m) in &mods {
                        bridge.snoop(&talk.encode(*xid, &Message::FlowMod(m.clone())));
                    }
                }
                peer.handle_flow_mods(bridge, mods)
            } else if let Some(m) = talk.next() {
                if snooped && bridge.is_snooped() {
                    bridge.snoop(&talk.encode(m.xid, &m.message));
                }
                peer.handle(bridge, m.xid, m.message)
            } else {
                break;
            };
            for (xid, answer) in answers {
                talk.send(xid, &answer);
            }
            let bytes = talk.take_output();
            if snooped {
                bridge.snoop(&bytes);
            }
            out.extend_from_slice(&bytes);
        }
        let bytes = talk.take_output();
        out.extend_from_slice(&bytes);
        if let Some(why) = talk.failure() {
            // The error message that says so should still leave.
            let _ =
                tokio::time::timeout(Duration::from_secs(1), writer.write_all_buf(&mut out)).await;
            return why;
        }
        let mut step = Step::Wait;
        if let Some(r) = &mut lock(&line.status).reconnect {
            step = r.poll(bridge.now());
        }
        let mut wake = Instant::now() + Duration::from_secs(3600);
        match step {
            Step::Probe => {
                talk.probe();
                let bytes = talk.take_output();
                out.extend_from_slice(&bytes);
                continue;
            }
            Step::Disconnect => return "no response to inactivity probe".to_owned(),
            Step::WaitUntil(t) => wake = Instant::now() + t.saturating_sub(bridge.now()),
            Step::Wait | Step::Connect => {}
        }
        if out.is_empty() {
            stalled_since = Instant::now();
        } else {
            wake = wake.min(stalled_since + STALL_LIMIT);
        }
        let room = out.len() < HIGH_WATER;
        input.reserve(READ_SIZE);
        tokio::select! {
            r = reader.read_buf(&mut input), if room => match r {
                Ok(0) => return "Connection closed by peer".to_owned(),
                Ok(_) => {
                    if let Some(r) = &mut lock(&line.status).reconnect {
                        r.activity(bridge.now());
                    }
                    talk.receive(&input);
                    input.clear();
                }
                Err(e) => return words(&e),
            },
            r = writer.write(&out), if !out.is_empty() => match r {
                Ok(0) => return "Broken pipe".to_owned(),
                Ok(n) => {
                    out.advance(n);
                    stalled_since = Instant::now();
                }
                Err(e) => return words(&e),
            },
            event = queue.recv(), if room => match event {
                Some(event) => {
                    if let Some(message) = peer.tell(bridge, &event, bridge.now()) {
                        talk.send(0, &message);
                        let bytes = talk.take_output();
                        if snooped {
                            bridge.snoop(&bytes);
                        }
                        out.extend_from_slice(&bytes);
                    }
                }
                None => return "the bridge was removed".to_owned(),
            },
            () = turned_true(&mut overflow) => {
                return "it does not read its messages".to_owned();
            }
            () = sleep_until(wake) => {
                if !out.is_empty() && stalled_since.elapsed() >= STALL_LIMIT {
                    return "it does not read its messages".to_owned();
                }
            }
            () = commanded(&mut command) => return "asked to".to_owned(),
            () = turned_true(&mut closed) => return "the bridge was removed".to_owned(),
        }
    }
}

/// Shows a snooper what the bridge and its controllers say.
async fn snooper(mut stream: UnixStream, bridge: &Arc<Bridge>) {
    let mut messages = bridge.snooped();
    let mut closed = bridge.closed();
    let mut talk = Conversation::new(&[]);
    if !matches!(
        tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&mut stream, &mut talk)).await,
        Ok(Ok(()))
    ) {
        return;
    }
    let (mut reader, mut writer) = stream.split();
    let mut ignored = [0; 256];
    loop {
        tokio::select! {
            () = turned_true(&mut closed) => return,
            r = reader.read(&mut ignored) => if !matches!(r, Ok(n) if n > 0) {
                return;
            },
            m = messages.recv() => match m {
                Ok(bytes) => if writer.write_all(&bytes).await.is_err() {
                    return;
                },
                // Missing some is better than slowing the switch down.
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(_) => return,
            },
        }
    }
}
