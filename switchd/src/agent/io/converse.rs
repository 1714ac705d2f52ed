//! One connection, from the handshake to its end.

use super::super::conversation::Conversation;
use super::super::peer::{Kind, Monitors, Peer, Request};
use super::super::rconn::Step;
use super::super::{ASYNC_QUEUE, Async, Bridge, Command, ControllerStatus};
use super::auxiliary::{Auxiliaries, Spec};
use super::{HANDSHAKE_LIMIT, HIGH_WATER, STALL_LIMIT, commanded, lock, turned_true, words};
use bytes::{Buf, BytesMut};
use openflow::Message;
use ovsdb::transport::Connection;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes read at once.
const READ_SIZE: usize = 64 << 10;

/// What a connection needs besides its stream and bridge.
pub(super) struct Line {
    /// For the log.
    pub(super) what: String,
    /// Its other side, `PROTOCOL:ADDRESS:PORT`.
    pub(super) uri: String,
    pub(super) kind: Kind,
    /// Of packet-ins, so many a second and so many at once, as it changes; none for a connection that never has one.
    pub(super) limit: Option<watch::Receiver<Option<(u32, u32)>>>,
    pub(super) enable_async: bool,
    /// Packet-ins that may wait to be written.
    pub(super) queue_size: usize,
    pub(super) status: Arc<Mutex<ControllerStatus>>,
    pub(super) command: watch::Receiver<Command>,
    pub(super) changed: Option<Arc<Notify>>,
    /// Further connections to the same controller.
    pub(super) auxiliary: Option<Spec>,
}

/// Agrees on a version; what went wrong otherwise.
pub(super) async fn handshake(
    stream: &mut Connection,
    talk: &mut Conversation,
) -> Result<(), String> {
    let mut input = BytesMut::with_capacity(4096);
    loop {
        let mut out = talk.take_output();
        if !out.is_empty() {
            stream
                .writer
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
        let n = stream
            .reader
            .read_buf(&mut input)
            .await
            .map_err(|e| words(&e))?;
        if n == 0 {
            return Err("End of file".to_owned());
        }
        talk.receive(&input.split());
        talk.negotiate();
    }
}

/// Agrees on a version unless that takes too long or the bridge goes.
pub(super) async fn agree(
    stream: &mut Connection,
    talk: &mut Conversation,
    bridge: &Bridge,
) -> Result<u8, String> {
    let mut closed = bridge.closed();
    tokio::select! {
        r = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(stream, talk)) => {
            r.unwrap_or_else(|_| Err("Connection timed out".to_owned()))?;
        }
        () = turned_true(&mut closed) => return Err("the bridge was removed".to_owned()),
    }
    talk.version()
        .ok_or_else(|| "no version was agreed on".to_owned())
}

/// Serves one connection until it ends; why it did.
pub(super) async fn converse(mut stream: Connection, bridge: &Arc<Bridge>, line: Line) -> String {
    let mut talk = Conversation::new(&bridge.identity().protocols);
    let version = match agree(&mut stream, &mut talk, bridge).await {
        Ok(v) => v,
        Err(why) => {
            tracing::debug!("{}: {why}", line.what);
            return why;
        }
    };
    let member = bridge.join(line.kind, &line.uri);
    let id = member.id;
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
    bridge.speaks(id, line.kind, version);
    let mut peer = Peer::new(id, line.kind, version, member.monitors.clone());
    if !line.enable_async {
        peer.hearing().enable(false);
    }
    let limit = line.limit.as_ref().and_then(|l| *l.borrow());
    peer.hearing().limit(limit, bridge.now());
    // They end with this connection.
    let _auxiliaries = line
        .auxiliary
        .as_ref()
        .filter(|_| version >= openflow::wire::OF13)
        .map(|spec| Auxiliaries::start(spec, bridge, id, &line));
    let mut hears = Hears {
        queue: Some(member.queue),
        overflow: member.overflow,
        monitors: member.monitors,
        wake: member.wake,
    };
    let why = serve(stream, bridge, &mut peer, talk, &mut hears, &line).await;
    peer.leave(bridge);
    bridge.leave(id);
    {
        let mut status = lock(&line.status);
        status.conn = None;
        status.limits = None;
    }
    if let Some(changed) = &line.changed {
        tracing::info!(target: "switchd::agent::rconn", "{}: connection closed ({why})", line.what);
        changed.notify_one();
    }
    why
}

/// What a connection is told by its bridge.
pub(super) struct Hears {
    /// None for a connection that only answers.
    pub(super) queue: Option<mpsc::Receiver<Arc<Async>>>,
    pub(super) overflow: watch::Receiver<bool>,
    pub(super) monitors: Arc<Mutex<Monitors>>,
    pub(super) wake: Arc<Notify>,
}

impl Hears {
    async fn next(&mut self) -> Option<Arc<Async>> {
        match &mut self.queue {
            Some(q) => q.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// What waits to be written.
#[derive(Default)]
struct Outbox {
    bytes: BytesMut,
    /// Messages that nobody asked for, until there is room: packet-ins, of which so many wait at most...
    packets: VecDeque<Message>,
    /// ...and others, none of which may be lost.
    others: VecDeque<Message>,
}

impl Outbox {
    fn has_room(&self) -> bool {
        self.bytes.len() < HIGH_WATER
    }

    /// Takes what the session has to say, and shows it to who snoops.
    fn take(&mut self, talk: &mut Conversation, snooped: Option<&Bridge>) {
        let bytes = talk.take_output();
        if let Some(bridge) = snooped {
            bridge.snoop(&bytes);
        }
        self.bytes.extend_from_slice(&bytes);
    }
}

fn is_packet_in(m: &Message) -> bool {
    match m {
        Message::PacketIn(_) | Message::PacketIn2(_) => true,
        Message::Nicira(m) => is_packet_in(m),
        _ => false,
    }
}

pub(super) async fn serve(
    stream: Connection,
    bridge: &Arc<Bridge>,
    peer: &mut Peer,
    mut talk: Conversation,
    hears: &mut Hears,
    line: &Line,
) -> String {
    let Connection {
        mut reader,
        mut writer,
    } = stream;
    let mut closed = bridge.closed();
    let mut overflow = hears.overflow.clone();
    let told = hears.wake.clone();
    let mut command = line.command.clone();
    command.mark_unchanged();
    let mut limits = line.limit.clone();
    let snooped = (peer.kind() == Kind::Primary).then_some(&**bridge);
    let mut input = BytesMut::new();
    let mut out = Outbox::default();
    let mut stalled_since = Instant::now();
    loop {
        // Answer what is here, as long as there is room for answers.
        while out.has_room() {
            if let Some(((xid, answer), more)) = peer.part() {
                if !talk.send_part(xid, &answer, more) {
                    peer.cut_short();
                }
                out.take(&mut talk, snooped);
                continue;
            }
            let see = |raw: &[u8]| {
                if let Some(bridge) = snooped {
                    bridge.snoop(raw);
                }
            };
            let mods = talk.flow_mods(|m| peer.batches(m), see);
            let answers = if !mods.is_empty() {
                peer.handle_flow_mods(bridge, mods)
            } else if let Some(m) = talk.next(see) {
                let request = Request {
                    xid: m.xid,
                    raw: &m.raw,
                    now: bridge.now(),
                };
                peer.handle(bridge, &request, m.message)
            } else {
                break;
            };
            for (xid, answer) in answers {
                talk.send(xid, &answer);
            }
            out.take(&mut talk, snooped);
        }
        tell(bridge, peer, &mut talk, hears, &mut out, line);
        out.take(&mut talk, snooped);
        if out.others.len() > ASYNC_QUEUE {
            return "it does not read its messages".to_owned();
        }
        if let Some(why) = talk.failure() {
            // The error message that says so should still leave.
            let _ =
                tokio::time::timeout(Duration::from_secs(1), writer.write_all_buf(&mut out.bytes))
                    .await;
            return why;
        }
        let mut step = Step::Wait;
        if let Some(r) = &mut lock(&line.status).reconnect {
            step = r.poll(bridge.now());
        }
        // Most connections have nothing to wait for but bytes, and need no timer.
        let mut wake = None;
        match step {
            Step::Probe => {
                talk.probe();
                out.take(&mut talk, snooped);
                continue;
            }
            Step::Disconnect => return "no response to inactivity probe".to_owned(),
            Step::WaitUntil(t) => wake = Some(Instant::now() + t.saturating_sub(bridge.now())),
            Step::Wait | Step::Connect => {}
        }
        let room = out.has_room();
        if let Some(t) = peer.wake(bridge).filter(|_| room) {
            wake = sooner(wake, Instant::now() + t.saturating_sub(bridge.now()));
        }
        if out.bytes.is_empty() {
            stalled_since = Instant::now();
        } else {
            wake = sooner(wake, stalled_since + STALL_LIMIT);
        }
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
            r = writer.write(&out.bytes), if !out.bytes.is_empty() => match r {
                Ok(0) => return "Broken pipe".to_owned(),
                Ok(n) => {
                    out.bytes.advance(n);
                    if out.bytes.is_empty() {
                        // By TLS what was written may still have to become a record.
                        match tokio::time::timeout(STALL_LIMIT, writer.flush()).await {
                            Ok(Ok(())) => {}
                            Ok(Err(e)) => return words(&e),
                            Err(_) => return "it does not read its messages".to_owned(),
                        }
                    }
                    stalled_since = Instant::now();
                }
                Err(e) => return words(&e),
            },
            event = hears.next() => match event {
                Some(event) => {
                    match peer.tell(bridge, &event, bridge.now()) {
                        Some(m) if is_packet_in(&m) => keep(&mut out, m, line),
                        Some(m) => out.others.push_back(m),
                        None => {}
                    }
                }
                None => return "the bridge was removed".to_owned(),
            },
            () = told.notified() => {}
            limit = changed(&mut limits) => peer.hearing().limit(limit, bridge.now()),
            () = turned_true(&mut overflow) => {
                return "it does not read its messages".to_owned();
            }
            () = reached(wake) => {
                if !out.bytes.is_empty() && stalled_since.elapsed() >= STALL_LIMIT {
                    return "it does not read its messages".to_owned();
                }
            }
            () = commanded(&mut command) => return "asked to".to_owned(),
            () = turned_true(&mut closed) => return "the bridge was removed".to_owned(),
        }
    }
}

/// The next value, if there is ever one.
async fn changed<T: Copy>(values: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(values) = values
        && values.changed().await.is_ok()
    {
        return *values.borrow_and_update();
    }
    std::future::pending().await
}

/// The earlier of a time that may be none and another.
fn sooner(a: Option<Instant>, b: Instant) -> Option<Instant> {
    Some(a.map_or(b, |a| a.min(b)))
}

/// Waits until a time; for ever if there is none.
async fn reached(time: Option<Instant>) {
    match time {
        Some(t) => sleep_until(t).await,
        None => std::future::pending().await,
    }
}

/// Lets a packet-in wait for room, unless too many do.
fn keep(out: &mut Outbox, m: Message, line: &Line) {
    if out.packets.len() < line.queue_size {
        out.packets.push_back(m);
    } else {
        lock(&line.status).dropped += 1;
    }
}

/// Says what nobody asked for, as far as there is room.
fn tell(
    bridge: &Bridge,
    peer: &mut Peer,
    talk: &mut Conversation,
    hears: &Hears,
    out: &mut Outbox,
    line: &Line,
) {
    let now = bridge.now();
    for (xid, error) in peer.expire(bridge, now) {
        talk.send(xid, &error);
    }
    while let Some(m) = peer.hearing().due(now).filter(|_| out.has_room()) {
        keep(out, m, line);
    }
    if line.limit.is_some() {
        lock(&line.status).limits = peer.hearing().limited();
    }
    let version = talk.version().unwrap_or(openflow::wire::OF13);
    if out.has_room() {
        let idle = out.bytes.is_empty();
        for m in lock(&hears.monitors).take(version, idle) {
            talk.send(0, &m);
        }
    }
    while out.has_room() {
        let Some(m) = out.others.pop_front().or_else(|| out.packets.pop_front()) else {
            break;
        };
        talk.send(0, &m);
        let bytes = talk.take_output();
        if peer.kind() == Kind::Primary {
            bridge.snoop(&bytes);
        }
        out.bytes.extend_from_slice(&bytes);
    }
}
