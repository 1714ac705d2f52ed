//! The OpenFlow side: one task a connection, around the sans-IO session and applications.
//!
//! A connection reads only while what it has to write stays below [`MAX_OUTPUT`], so a switch that
//! asks without listening holds a fixed amount of memory; one that takes nothing for
//! [`WRITE_TIMEOUT`] is closed. The session cuts messages, answers echoes and probes silence; here
//! is the handshake (features, description, ports, our flows on the switch), the pairing of answers
//! and errors with requests by transaction id, and the passing of events to the applications.

use crate::Options;
use crate::apps::LearningSwitch;
use crate::cookie;
use crate::flows::lldp_flow;
use crate::hub::Hub;
use crate::inventory::{PortChange, Switch, is_up};
use crate::packet::{ETH_TYPE_LLDP, Frame};
use crate::switch::{
    ANSWER_TIMEOUT, Command, Counters, MAX_COMMANDS, Refusals, RequestError, SwitchHandle,
};
use crate::topology::{Endpoint, LLDP_INTERVAL};
use bytes::{Buf, Bytes};
use openflow::session::{End, Event, Session};
use openflow::wire::OF13;
use openflow::{
    Action, Features, FieldId, FlowFilter, FlowMod, FlowRemoved, FlowRemovedReason, FlowStats,
    Message, MultipartReply, MultipartRequest, PacketIn, PacketOut, PortDesc, PortNo, PortReason,
    SwitchConfig, SwitchDesc,
};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Connections held at once, of all switches together.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Bytes that may wait to be written to one switch before no more is read from it.
pub const MAX_OUTPUT: usize = 1 << 20;
/// Requests that may wait for one switch's answer.
pub const MAX_PENDING: usize = 256;
/// How long a switch may be silent before it is asked, and then again before it is given up.
pub const PROBE: Duration = Duration::from_secs(5);
/// Time for the handshake after the hello.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a switch may take nothing of what waits for it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Port changes remembered during the handshake.
const MAX_EARLY: usize = 1_024;
/// Bytes read at once.
const READ_SIZE: usize = 64 << 10;
/// Reads before others get a turn.
const READS_A_TURN: usize = 4;
const TICK: Duration = Duration::from_secs(1);

/// Accepts switches until `stop`.
pub(crate) async fn listen(
    listener: TcpListener,
    hub: Arc<Hub>,
    options: Arc<Options>,
    permits: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            () = is_set(&mut stop) => return,
            a = listener.accept() => a,
        };
        let (stream, peer) = match accepted {
            Ok(a) => a,
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a switch");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            Counters::count(&hub.rejected);
            tracing::warn!(%peer, "{MAX_CONNECTIONS} switches are connected already; turned away");
            continue;
        };
        Counters::count(&hub.accepted);
        let (hub, options, stop) = (hub.clone(), options.clone(), stop.clone());
        tokio::spawn(async move {
            let (connection, commands) = Connection::new(hub, options, peer);
            let why = connection.run(stream, commands, stop).await;
            tracing::info!(%peer, why, "OpenFlow connection ended");
            drop(permit);
        });
    }
}

/// Waits until a flag is set, or can never be.
pub(crate) async fn is_set(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|s| *s).await;
}

/// Somebody who waits for an answer.
enum Waiting {
    Answer(oneshot::Sender<Result<Message, RequestError>>),
    Barrier {
        refusals: Refusals,
        mods: Vec<u32>,
        reply: oneshot::Sender<Result<Refusals, RequestError>>,
    },
}

/// What the handshake has gathered.
#[derive(Default)]
struct Setup {
    features: Option<Features>,
    desc: Option<SwitchDesc>,
    ports: Option<Vec<PortDesc>>,
    flows: Option<Vec<FlowStats>>,
    early: Vec<(PortReason, PortDesc)>,
}

struct Connection {
    hub: Arc<Hub>,
    options: Arc<Options>,
    peer: SocketAddr,
    session: Session,
    setup: Setup,
    /// The handshake is complete: to be made known.
    ready: Option<(Arc<SwitchHandle>, Vec<FlowStats>)>,
    handle: Option<Arc<SwitchHandle>>,
    learning: LearningSwitch,
    waiting: HashMap<u32, (Waiting, Instant)>,
    /// Flow changes on their way: the barrier that will tell, and the place in its command.
    mods: HashMap<u32, (u32, usize)>,
    commands: mpsc::Sender<Command>,
    close: watch::Sender<bool>,
    ticks: u64,
    restored: Option<Instant>,
    ended: Option<String>,
    started: Instant,
}

impl Connection {
    fn new(
        hub: Arc<Hub>,
        options: Arc<Options>,
        peer: SocketAddr,
    ) -> (Connection, mpsc::Receiver<Command>) {
        let now = Instant::now();
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let (close, _) = watch::channel(false);
        let connection = Connection {
            session: Session::new(End::Controller, &[OF13], Some(PROBE), now),
            learning: LearningSwitch::new(options.learning),
            hub,
            options,
            peer,
            setup: Setup::default(),
            ready: None,
            handle: None,
            waiting: HashMap::new(),
            mods: HashMap::new(),
            commands,
            close,
            ticks: 0,
            restored: None,
            ended: None,
            started: now,
        };
        (connection, received)
    }

    /// Runs until the connection ends; why it did.
    async fn run(
        mut self,
        stream: TcpStream,
        mut commands: mpsc::Receiver<Command>,
        mut stop: watch::Receiver<bool>,
    ) -> String {
        let _ = stream.set_nodelay(true);
        let why = self.talk(&stream, &mut commands, &mut stop).await;
        // A refusal is worth one attempt to be heard.
        let last = self.session.take_output();
        let _ = stream.try_write(&last);
        if let Some(h) = self
            .handle
            .take()
            .or_else(|| self.ready.take().map(|r| r.0))
        {
            self.hub.disconnected(&h);
        } else {
            Counters::count(&self.hub.rejected);
        }
        for (_, (w, _)) in self.waiting.drain() {
            fail(w, RequestError::Disconnected);
        }
        why
    }

    async fn talk(
        &mut self,
        stream: &TcpStream,
        commands: &mut mpsc::Receiver<Command>,
        stop: &mut watch::Receiver<bool>,
    ) -> String {
        let mut close = self.close.subscribe();
        let mut out = Bytes::new();
        let mut progress = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some((handle, flows)) = self.ready.take() {
                self.handle = Some(handle.clone());
                self.hub.connected(handle, &flows).await;
            }
            if out.is_empty() {
                out = self.session.take_output();
                progress = Instant::now();
            }
            // Most of the time the socket takes it at once.
            while !out.is_empty() {
                match stream.try_write(&out) {
                    Ok(n) => {
                        out.advance(n);
                        progress = Instant::now();
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => return format!("cannot write: {e}"),
                }
            }
            if let Some(why) = self.ended.take() {
                return why;
            }
            if out.is_empty() && self.session.output_len() > 0 {
                continue;
            }
            let room = out.len() + self.session.output_len() < MAX_OUTPUT;
            tokio::select! {
                () = is_set(stop) => return "the controller stops".into(),
                () = is_set(&mut close) => return "closed for another connection of the switch, or to bring it in step".into(),
                r = stream.writable(), if !out.is_empty() => {
                    if let Err(e) = r {
                        return format!("cannot write: {e}");
                    }
                }
                r = stream.readable(), if room => {
                    if let Err(e) = r {
                        return format!("cannot read: {e}");
                    }
                    if let Err(why) = self.read(stream) {
                        return why;
                    }
                }
                Some(c) = commands.recv(), if room && self.waiting.len() < MAX_PENDING => {
                    self.command(c);
                }
                _ = tick.tick() => {
                    let now = Instant::now();
                    if !out.is_empty() && now.saturating_duration_since(progress) > WRITE_TIMEOUT {
                        return format!("the switch read nothing for {} seconds", WRITE_TIMEOUT.as_secs());
                    }
                    self.tick(now);
                }
            }
        }
    }

    /// Takes what has come in, not more than a few buffers, so that others get their turn.
    fn read(&mut self, stream: &TcpStream) -> Result<(), String> {
        // On the stack and not across an await: idle connections hold no buffer.
        let mut buffer = [0; READ_SIZE];
        for _ in 0..READS_A_TURN {
            match stream.try_read(&mut buffer) {
                Ok(0) => return Err("the switch closed".into()),
                Ok(n) => {
                    let now = Instant::now();
                    for e in self.session.receive(&buffer[..n], now) {
                        self.event(e, now);
                    }
                    if n < READ_SIZE || self.session.output_len() > MAX_OUTPUT {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(format!("cannot read: {e}")),
            }
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.ticks += 1;
        for e in self.session.tick(now) {
            self.event(e, now);
        }
        let late: Vec<u32> = self
            .waiting
            .iter()
            .filter(|(_, (_, until))| now >= *until)
            .map(|(x, _)| *x)
            .collect();
        for xid in late {
            if let Some((w, _)) = self.waiting.remove(&xid) {
                self.forget_mods(&w);
                fail(w, RequestError::Timeout);
            }
        }
        self.learning.tick(now);
        let Some(handle) = self.handle.clone() else {
            if now.saturating_duration_since(self.started)
                > HANDSHAKE_TIMEOUT + openflow::session::HELLO_TIMEOUT
            {
                self.ended = Some("the handshake took too long".into());
            }
            return;
        };
        // Ports take turns, so that a large switch is not flooded at one instant.
        let turns = LLDP_INTERVAL.as_secs().max(1);
        let turn = self.ticks % turns;
        let ports = lldp_ports(&handle, |i| i as u64 % turns == turn);
        for p in ports {
            self.send_lldp(&handle, &p, now);
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Negotiated(_) => {
                self.send(&Message::FeaturesRequest);
            }
            Event::Message { xid, message } => self.message(xid, message, now),
            Event::Refused { xid, error } => {
                tracing::warn!(peer = %self.peer, xid, %error, "message of the switch not understood");
                if let Some((w, _)) = self.waiting.remove(&xid) {
                    self.forget_mods(&w);
                    fail(
                        w,
                        RequestError::Refused(format!("its answer was not understood: {error}")),
                    );
                } else if self.handle.is_none() && self.ready.is_none() {
                    self.ended = Some(format!("handshake: {error}"));
                }
            }
            Event::Closed(reason) => self.ended = Some(reason.to_string()),
        }
    }

    fn message(&mut self, xid: u32, message: Message, now: Instant) {
        if let Message::Error(e) = &message {
            return self.error(xid, e.kind);
        }
        if let Some((w, _)) = self.waiting.remove(&xid) {
            self.forget_mods(&w);
            match w {
                Waiting::Answer(reply) => {
                    let _ = reply.send(Ok(message));
                }
                Waiting::Barrier {
                    refusals, reply, ..
                } => {
                    let _ = reply.send(Ok(refusals));
                }
            }
            return;
        }
        match (self.handle.clone(), message) {
            (Some(h), Message::PacketIn(p)) => self.packet_in(&h, &p, now),
            (Some(h), Message::FlowRemoved(f)) => self.flow_removed(&h, &f, now),
            (Some(h), Message::PortStatus(reason, desc)) => self.port_status(&h, reason, desc, now),
            (None, m) => self.handshake(m, now),
            (Some(_), other) => tracing::debug!(peer = %self.peer, xid, ?other, "unasked message"),
        }
    }

    fn handshake(&mut self, message: Message, now: Instant) {
        match message {
            Message::FeaturesReply(f) if self.setup.features.is_none() => {
                if f.auxiliary_id != 0 {
                    self.ended = Some("an auxiliary connection; only main ones are served".into());
                    return;
                }
                self.setup.features = Some(f);
                self.send(&Message::SetConfig(SwitchConfig {
                    flags: 0,
                    miss_send_len: 0xffff,
                }));
                self.send(&Message::MultipartRequest(MultipartRequest::Desc));
                self.send(&Message::MultipartRequest(MultipartRequest::PortDesc(
                    PortNo::ANY,
                )));
                self.send(&Message::MultipartRequest(MultipartRequest::Flow(
                    FlowFilter {
                        cookie: cookie::OURS,
                        cookie_mask: cookie::OURS_MASK,
                        ..FlowFilter::default()
                    },
                )));
            }
            Message::MultipartReply(MultipartReply::Desc(d)) => self.setup.desc = Some(d),
            Message::MultipartReply(MultipartReply::PortDesc(p)) => self.setup.ports = Some(p),
            Message::MultipartReply(MultipartReply::Flow(f)) => self.setup.flows = Some(f),
            Message::PortStatus(reason, desc) if self.setup.early.len() < MAX_EARLY => {
                self.setup.early.push((reason, desc));
            }
            _ => return,
        }
        if self.setup.desc.is_none() || self.setup.ports.is_none() || self.setup.flows.is_none() {
            return;
        }
        let setup = std::mem::take(&mut self.setup);
        let (Some(features), Some(desc), Some(ports), Some(flows)) =
            (setup.features, setup.desc, setup.ports, setup.flows)
        else {
            return;
        };
        let version = self.session.version().unwrap_or(OF13);
        let mut switch = Switch::new(self.peer, version, features, desc, ports);
        for (reason, desc) in setup.early {
            switch.port_status(reason, desc);
        }
        let handle = Arc::new(SwitchHandle::new(
            switch,
            self.commands.clone(),
            self.close.clone(),
        ));
        // Only what is not there yet: flows keep their counters.
        let has = |c: u64| flows.iter().any(|f| f.cookie == c);
        let mut send = Vec::new();
        if !has(cookie::LLDP) {
            send.push(Message::FlowMod(lldp_flow()));
        }
        if self.options.learn {
            if !has(cookie::TABLE_MISS) {
                send.extend(self.learning.connected());
            }
            self.learning.recall(now, &flows);
        }
        self.apply(&handle, send);
        for p in lldp_ports(&handle, |i| i < MAX_EARLY) {
            self.send_lldp(&handle, &p, now);
        }
        self.ready = Some((handle, flows));
    }

    fn packet_in(&mut self, h: &SwitchHandle, p: &PacketIn, now: Instant) {
        let (Some(port), Some(frame)) = (p.metadata.exact(FieldId::InPort), Frame::parse(&p.data))
        else {
            Counters::count(&h.counters.packet_ins);
            return;
        };
        let place = Endpoint {
            dpid: h.dpid,
            port: PortNo(port as u32),
        };
        if frame.eth_type == ETH_TYPE_LLDP {
            Counters::count(&h.counters.lldp_received);
            let found = self.hub.topology().lldp_received(now, place, &p.data);
            match found {
                Ok(Some(link)) => {
                    tracing::info!(from = %link.from.dpid, from_port = %link.from.port, to = %link.to.dpid, to_port = %link.to.port, "link found");
                }
                Ok(None) => {}
                Err(e) => {
                    Counters::count(&h.counters.lldp_refused);
                    tracing::debug!(switch = %h.dpid, port, error = %e, "LLDP not believed");
                }
            }
            return;
        }
        Counters::count(&h.counters.packet_ins);
        self.hub.topology().packet_in(now, place, &frame);
        if self.options.learn {
            let out = self.learning.packet_in(now, p);
            self.apply(h, out);
        }
    }

    fn flow_removed(&mut self, h: &SwitchHandle, f: &FlowRemoved, now: Instant) {
        Counters::count(&h.counters.flow_removed);
        let c = f.flow.cookie;
        if cookie::owned_by(c, cookie::NAMED) {
            self.hub.flow_removed(h, f);
            return;
        }
        // Somebody deleted what the controller lives by: put back, but not in a race with another
        // controller that keeps deleting.
        let own = c == cookie::TABLE_MISS || c == cookie::LLDP;
        if own && f.reason == FlowRemovedReason::Delete {
            let soon = self
                .restored
                .is_some_and(|t| now.saturating_duration_since(t) < TICK);
            if !soon {
                self.restored = Some(now);
                let mut out = vec![Message::FlowMod(lldp_flow())];
                if self.options.learn {
                    out.extend(self.learning.connected());
                }
                self.apply(h, out);
            }
            return;
        }
        if self.options.learn {
            let out = self.learning.flow_removed(now, f);
            self.apply(h, out);
        }
    }

    fn port_status(
        &mut self,
        h: &Arc<SwitchHandle>,
        reason: PortReason,
        desc: PortDesc,
        now: Instant,
    ) {
        let port = desc.clone();
        match h.change(|s| s.port_status(reason, desc)) {
            PortChange::Up(_) => {
                if port.port.is_physical() {
                    self.send_lldp(h, &port, now);
                }
            }
            PortChange::Down(p) => {
                self.hub.topology().port_gone(Endpoint {
                    dpid: h.dpid,
                    port: p,
                });
                if self.options.learn {
                    let out = self.learning.port_gone(p);
                    self.apply(h, out);
                }
            }
            PortChange::Other => {}
        }
    }

    fn error(&mut self, xid: u32, kind: openflow::error::ErrorKind) {
        let numbers = kind.numbers(OF13).map(|n| format!(" ({n})"));
        let text = format!("{}{}", kind.name(), numbers.unwrap_or_default());
        if let Some(h) = &self.handle {
            Counters::count(&h.counters.errors);
        }
        if let Some((barrier, index)) = self.mods.remove(&xid) {
            if let Some((Waiting::Barrier { refusals, .. }, _)) = self.waiting.get_mut(&barrier) {
                refusals.push((index, text));
            }
        } else if let Some((w, _)) = self.waiting.remove(&xid) {
            self.forget_mods(&w);
            fail(w, RequestError::Refused(text));
        } else {
            tracing::warn!(peer = %self.peer, xid, error = text, "error from the switch");
            if self.handle.is_none() && self.ready.is_none() {
                self.ended = Some(format!("handshake: {text}"));
            }
        }
    }

    fn command(&mut self, command: Command) {
        let until = Instant::now() + ANSWER_TIMEOUT;
        match command {
            Command::Ask(message, reply) => match self.session.send(&message) {
                Ok(xid) => {
                    self.waiting.insert(xid, (Waiting::Answer(reply), until));
                }
                Err(e) => {
                    let _ = reply.send(Err(RequestError::Refused(e.to_string())));
                }
            },
            Command::Program(changes, reply) => {
                let (mut refusals, mut xids) = (Vec::new(), Vec::new());
                for (i, m) in changes.into_iter().enumerate() {
                    match self.session.send(&Message::FlowMod(m)) {
                        Ok(xid) => xids.push((xid, i)),
                        Err(e) => refusals.push((i, e.to_string())),
                    }
                }
                if let Some(h) = &self.handle {
                    h.counters
                        .flow_mods
                        .fetch_add(xids.len() as u64, Ordering::Relaxed);
                }
                match self.session.send(&Message::BarrierRequest) {
                    Ok(barrier) => {
                        let mods = xids.iter().map(|x| x.0).collect();
                        self.mods
                            .extend(xids.into_iter().map(|(x, i)| (x, (barrier, i))));
                        self.waiting.insert(
                            barrier,
                            (
                                Waiting::Barrier {
                                    refusals,
                                    mods,
                                    reply,
                                },
                                until,
                            ),
                        );
                    }
                    Err(e) => {
                        let _ = reply.send(Err(RequestError::Refused(e.to_string())));
                    }
                }
            }
        }
    }

    fn forget_mods(&mut self, w: &Waiting) {
        if let Waiting::Barrier { mods, .. } = w {
            for x in mods {
                self.mods.remove(x);
            }
        }
    }

    /// Sends what an application decided.
    fn apply(&mut self, h: &SwitchHandle, messages: Vec<Message>) {
        for m in messages {
            match &m {
                Message::FlowMod(FlowMod { .. }) => Counters::count(&h.counters.flow_mods),
                Message::PacketOut(_) => Counters::count(&h.counters.packet_outs),
                _ => {}
            }
            self.send(&m);
        }
    }

    fn send_lldp(&mut self, h: &SwitchHandle, port: &PortDesc, now: Instant) {
        let from = Endpoint {
            dpid: h.dpid,
            port: port.port,
        };
        let data = self.hub.topology().lldp(now, from, port.mac).into();
        Counters::count(&h.counters.lldp_sent);
        self.send(&Message::PacketOut(PacketOut {
            buffer: None,
            in_port: PortNo::CONTROLLER,
            actions: vec![Action::Output {
                port: port.port,
                max_len: 0,
            }],
            data,
            ..PacketOut::default()
        }));
    }

    fn send(&mut self, message: &Message) {
        if let Err(e) = self.session.send(message) {
            tracing::error!(peer = %self.peer, error = %e, "message cannot be sent");
        }
    }
}

/// Ports that LLDP goes out of: up, real, and chosen by `which` among them.
fn lldp_ports(h: &SwitchHandle, which: impl Fn(usize) -> bool) -> Vec<PortDesc> {
    h.with(|s| {
        s.ports()
            .filter(|p| is_up(p) && p.port.is_physical())
            .enumerate()
            .filter(|(i, _)| which(*i))
            .map(|(_, p)| p.clone())
            .collect()
    })
}

fn fail(w: Waiting, error: RequestError) {
    match w {
        Waiting::Answer(reply) => {
            let _ = reply.send(Err(error));
        }
        Waiting::Barrier { reply, .. } => {
            let _ = reply.send(Err(error));
        }
    }
}
