//! One client's connection: its bytes to messages for the engine, and back.
//!
//! Between the engine and the socket lies a queue. The engine never waits for it: a client that
//! does not take its updates is cut off once [`MAX_BACKLOG`](super::MAX_BACKLOG) bytes wait for it.
//! Towards the engine a client is not heard while more than [`MAX_UNREAD`] bytes wait for it: what
//! it has sent already is held back request by request ([`Peer`]), and its socket is not read, so
//! that one that only sends is slowed down by its own socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::ready;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::driver::Input;
use super::remotes::{Control, RemoteState};
use super::{MAX_CLIENTS, MAX_MESSAGE, Shared};
use crate::engine::{ClientId, Message};
use crate::probe::{self, Due, Probe};
use crate::stream::JsonStream;
use crate::transport::{Connection, is_plain_end};

/// Bytes that may wait for a client before its next requests have to.
pub const MAX_UNREAD: usize = 1 << 20;
/// Bytes read, or gathered to be written, at a time.
const CHUNK: usize = 64 << 10;

/// The engine's end of a client's queue.
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Queued>,
    backlog: Arc<Backlog>,
    /// Dropped to disconnect the client.
    _life: oneshot::Sender<()>,
}

struct Queued {
    message: Message,
    /// Bytes of it that are held for this client alone.
    private: usize,
}

/// What waits for a client.
struct Backlog {
    bytes: AtomicUsize,
    private: AtomicUsize,
    /// The same over all clients.
    all_private: Arc<AtomicUsize>,
    /// Counts the bytes that have left.
    sent: AtomicUsize,
    /// Requests held back.
    held: AtomicUsize,
    /// Told when no more than [`MAX_UNREAD`] bytes wait again, or nothing is held back any more.
    room: Notify,
}

impl Backlog {
    fn new(all_private: Arc<AtomicUsize>) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            private: AtomicUsize::new(0),
            all_private,
            sent: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// True while the client's next request may be run.
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) <= MAX_UNREAD
    }

    fn add(&self, bytes: usize, private: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.private.fetch_add(private, Ordering::Relaxed);
        self.all_private.fetch_add(private, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize, private: usize) {
        self.private.fetch_sub(private, Ordering::Relaxed);
        self.all_private.fetch_sub(private, Ordering::Relaxed);
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > MAX_UNREAD && before - bytes <= MAX_UNREAD {
            self.room.notify_one();
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.all_private
            .fetch_sub(*self.private.get_mut(), Ordering::Relaxed);
    }
}

impl Outbox {
    /// Bytes that wait for the client.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.bytes.load(Ordering::Relaxed)
    }

    /// Those of them that are held for it alone.
    pub(super) fn private_backlog(&self) -> usize {
        self.backlog.private.load(Ordering::Relaxed)
    }

    /// Disconnects the client and no longer counts what waits for it.
    pub(super) fn forget(self) {
        let private = self.backlog.private.swap(0, Ordering::Relaxed);
        self.backlog
            .all_private
            .fetch_sub(private, Ordering::Relaxed);
    }

    /// Counts a message among what waits, before it may be sent.
    pub(super) fn announce(&self, message: &Message) {
        self.backlog.add(message.len(), message.private_len());
    }

    /// Queues a message that was announced.
    pub(super) fn send(&self, message: Message) {
        let private = message.private_len();
        // Whoever has gone is taken away by `Input::Gone`.
        _ = self.queue.send(Queued { message, private });
    }
}

/// A client as the driver knows it.
pub(super) struct Peer {
    pub(super) outbox: Outbox,
    /// How it is called in the log.
    pub(super) name: String,
    /// Requests that have come, but are not run while too much waits for the client. As its socket
    /// is not read meanwhile there are never more than the inbox holds.
    held: VecDeque<Value>,
}

impl Peer {
    pub(super) fn new(outbox: Outbox, name: String) -> Self {
        Self {
            outbox,
            name,
            held: VecDeque::new(),
        }
    }

    /// The request, if it may be run at once; otherwise it is held back.
    pub(super) fn admit(&mut self, request: Value) -> Option<Value> {
        if self.held.is_empty() && self.outbox.backlog.has_room() {
            return Some(request);
        }
        self.held.push_back(request);
        self.outbox.backlog.held.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// The next request held back that may be run. When there is none because too much waits, the connection
    /// says [`Input::Room`] in time.
    pub(super) fn next_request(&mut self) -> Option<Value> {
        let backlog = &self.outbox.backlog;
        if !backlog.has_room() {
            return None;
        }
        let request = self.held.pop_front()?;
        if backlog.held.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.held = VecDeque::new();
            backlog.room.notify_one();
        }
        Some(request)
    }
}

/// A place among the clients there may be. Dropping it gives it back, however the connection ends.
pub(super) struct Place {
    shared: Arc<Shared>,
    remote: Arc<RemoteState>,
    id: ClientId,
    joined: bool,
}

impl Place {
    /// Takes a place, if there is one left.
    pub(super) fn take(shared: &Arc<Shared>, remote: &Arc<RemoteState>) -> Option<Place> {
        if shared.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            if !shared.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "{}: connections are refused: {MAX_CLIENTS} clients are here already",
                    remote.name
                );
            }
            return None;
        }
        shared.full.store(false, Ordering::Relaxed);
        Some(Place {
            shared: shared.clone(),
            remote: remote.clone(),
            id: shared.next_client.fetch_add(1, Ordering::Relaxed),
            joined: false,
        })
    }

    /// The number of the client that has this place.
    pub(super) fn id(&self) -> ClientId {
        self.id
    }

    /// Serves the client until it leaves, or is sent away.
    pub(super) async fn serve(mut self, connection: Connection, name: String) {
        let (queue, queue_rx) = mpsc::unbounded_channel();
        let (life, ended) = oneshot::channel();
        let backlog = Arc::new(Backlog::new(self.shared.backlog.clone()));
        let outbox = Outbox {
            queue: queue.clone(),
            backlog: backlog.clone(),
            _life: life,
        };
        let connect = Input::Connect(self.id, outbox, name.clone());
        if self.shared.inbox.send(connect).await.is_err() {
            return;
        }
        self.joined = true;
        self.remote.arrived(self.id);
        let reader = Reader {
            id: self.id,
            inbox: &self.shared.inbox,
            queue,
            backlog: backlog.clone(),
            control: self.remote.control(),
        };
        let why = tokio::select! {
            why = reader.run(connection.reader) => why,
            why = write_loop(connection.writer, queue_rx, &backlog) => why,
            _ = ended => return,
        };
        match &why {
            Some(why) => tracing::warn!("{name}: connection dropped: {why}"),
            None => tracing::debug!("{name}: connection closed by peer"),
        }
        self.remote
            .left(self.id, why.as_deref().unwrap_or("End of file"));
        self.joined = false;
        _ = self.shared.inbox.send(Input::Gone(self.id)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
        if !self.joined {
            return;
        }
        self.remote.left(self.id, "connection dropped");
        let inbox = self.shared.inbox.clone();
        if let Err(mpsc::error::TrySendError::Full(m)) = inbox.try_send(Input::Gone(self.id)) {
            self.shared
                .runtime
                .spawn(async move { inbox.send(m).await });
        }
    }
}

/// The receiving half.
struct Reader<'a> {
    id: ClientId,
    inbox: &'a mpsc::Sender<Input>,
    /// For probes.
    queue: mpsc::UnboundedSender<Queued>,
    backlog: Arc<Backlog>,
    control: watch::Receiver<Control>,
}

impl Reader<'_> {
    /// Reads until the end; says why, where it is not the client's own wish.
    async fn run(mut self, mut bytes: impl AsyncRead + Unpin) -> Option<String> {
        let mut stream = JsonStream::new(MAX_MESSAGE);
        let first = self.control.borrow_and_update().clone();
        if first.closed {
            return Some("remote deconfigured".into());
        }
        let mut probe = Probe::new(first.options.probe, now());
        let mut sent = 0;
        loop {
            let may_read =
                self.backlog.held.load(Ordering::Relaxed) == 0 && self.backlog.has_room();
            tokio::select! {
                read = read_some(&mut bytes, &mut stream), if may_read => match read {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(e) if is_plain_end(&e) => return None,
                    Err(e) => return Some(e.to_string()),
                },
                () = self.backlog.room.notified() => {
                    let held = self.backlog.held.load(Ordering::Relaxed) > 0;
                    if held && self.inbox.send(Input::Room(self.id)).await.is_err() {
                        return None;
                    }
                    continue;
                }
                due = probe::due(&mut probe) => {
                    // While a client still takes what waits for it, that is its sign of life.
                    let progress = self.backlog.sent.load(Ordering::Relaxed);
                    let taking = std::mem::replace(&mut sent, progress) != progress
                        && self.backlog.bytes.load(Ordering::Relaxed) > 0;
                    if taking {
                        probe.heard(now());
                    } else if due == Due::GiveUp {
                        return Some(probe.reason());
                    } else {
                        let message = Message::new(probe::ECHO);
                        self.backlog.add(message.len(), 0);
                        _ = self.queue.send(Queued { message, private: 0 });
                    }
                    continue;
                }
                changed = self.control.changed() => {
                    let control = self.control.borrow_and_update().clone();
                    if changed.is_err() || control.closed {
                        return Some("remote deconfigured".into());
                    }
                    if control.reconnects != first.reconnects {
                        return Some("forced reconnection".into());
                    }
                    probe.set_interval(control.options.probe);
                    continue;
                }
            }
            loop {
                match stream.next_message() {
                    Ok(None) => break,
                    Ok(Some(message)) => {
                        let input = Input::Message(self.id, message);
                        if self.inbox.send(input).await.is_err() {
                            return None;
                        }
                    }
                    Err(e) => return Some(e.to_string()),
                }
            }
            // What took long on our side is not the client's silence.
            probe.heard(now());
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Reads what there is into `stream`. The buffer is the thread's, so that idle clients have none.
async fn read_some(
    bytes: &mut (impl AsyncRead + Unpin),
    stream: &mut JsonStream,
) -> io::Result<usize> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; CHUNK]);
    }
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *bytes).poll_read(cx, &mut buffer))?;
            stream.feed(buffer.filled());
            std::task::Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

/// Writes what is queued, many short messages at a time.
async fn write_loop(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::UnboundedReceiver<Queued>,
    backlog: &Backlog,
) -> Option<String> {
    let mut gathered = Vec::new();
    while let Some(mut queued) = queue.recv().await {
        // Bytes and private bytes of the messages in `gathered`.
        let mut done = (0, 0);
        loop {
            done = (done.0 + queued.message.len(), done.1 + queued.private);
            for part in queued.message.parts() {
                if part.len() > CHUNK {
                    if let Err(e) = write_all(&mut writer, &gathered, backlog).await {
                        return ended(&e);
                    }
                    gathered.clear();
                    if let Err(e) = write_all(&mut writer, part.as_bytes(), backlog).await {
                        return ended(&e);
                    }
                } else {
                    gathered.extend_from_slice(part.as_bytes());
                }
            }
            if gathered.len() > CHUNK {
                break;
            }
            match queue.try_recv() {
                Ok(next) => queued = next,
                Err(_) => break,
            }
        }
        if let Err(e) = write_all(&mut writer, &gathered, backlog).await {
            return ended(&e);
        }
        if let Err(e) = writer.flush().await {
            return ended(&e);
        }
        backlog.remove(done.0, done.1);
        // A burst's memory is not kept for a client that may be idle from now on.
        if gathered.capacity() > 4096 {
            gathered = Vec::new();
        }
        gathered.clear();
    }
    None
}

fn ended(e: &io::Error) -> Option<String> {
    (!is_plain_end(e)).then(|| e.to_string())
}

/// Writes all of it, counting what leaves.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    backlog: &Backlog,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = writer.write(bytes).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        backlog.sent.fetch_add(n, Ordering::Relaxed);
        bytes = &bytes[n..];
    }
    Ok(())
}
