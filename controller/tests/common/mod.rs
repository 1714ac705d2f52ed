//! A controller in this process, its REST called over TCP, and a switch that speaks the codec.
#![allow(dead_code, reason = "each test program uses its part")]

use controller::{Controller, Options};
use openflow::session::{End, Event, Session};
use openflow::wire::OF13;
use openflow::*;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Polls until `f` gives something.
pub fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(v) = f() {
            return v;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub struct Running {
    pub openflow: SocketAddr,
    pub rest: SocketAddr,
    pub token: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    runtime: Option<tokio::runtime::Runtime>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// Starts a controller on free ports with its files in `dir`.
pub fn start(dir: &Path) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut options = Options::new(dir.join("controller.redb"), dir.join("rest.token"));
    options.openflow = vec!["127.0.0.1:0".parse().unwrap()];
    options.rest = "127.0.0.1:0".parse().unwrap();
    let c = runtime.block_on(Controller::bind(options)).unwrap();
    let a = c.addresses().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = runtime.spawn(async move {
        c.run(async {
            let _ = stopped.await;
        })
        .await
        .unwrap();
    });
    Running {
        openflow: a.openflow[0],
        rest: a.rest,
        token: std::fs::read_to_string(dir.join("rest.token"))
            .unwrap()
            .trim()
            .to_owned(),
        stop: Some(stop),
        runtime: Some(runtime),
        task: Some(task),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let (Some(r), Some(t)) = (self.runtime.take(), self.task.take()) {
            let _ = r.block_on(t);
        }
    }
}

impl Running {
    /// Status and JSON (or text) of an answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.raw(method, path, Some(&self.token), body.map(Value::to_string))
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, v) = self.call("GET", path, None);
        assert_eq!(status, 200, "{path}: {v}");
        v
    }

    pub fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .max_redirects(0)
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.rest));
        if let Some(t) = token {
            request = request.header("Authorization", format!("Bearer {t}"));
        }
        let mut response = agent
            .run(request.body(body.unwrap_or_default()).unwrap())
            .unwrap();
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }
}

/// Priority that the fake switch refuses.
pub const REFUSED: u16 = 666;

#[derive(Default)]
pub struct State {
    pub flows: Vec<FlowMod>,
    pub packets: Vec<PacketOut>,
    pub mods: Vec<FlowMod>,
}

/// A switch with a flow table and no packets but those a test makes.
pub struct FakeSwitch {
    pub state: Arc<Mutex<State>>,
    send: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

pub fn port(n: u32, name: &str) -> PortDesc {
    PortDesc {
        port: PortNo(n),
        mac: MacAddr::from_u64(0x0200_0000_0000 | u64::from(n)),
        name: name.into(),
        config: PortFlags::default(),
        link_down: false,
        live: true,
        current: 0,
        advertised: 0,
        supported: 0,
        peer: 0,
        current_speed: 0,
        max_speed: 0,
        properties: Vec::new(),
    }
}

impl FakeSwitch {
    /// Connects, with these flows in its table.
    pub fn connect(
        to: SocketAddr,
        dpid: u64,
        name: &'static str,
        flows: Vec<FlowMod>,
    ) -> FakeSwitch {
        let state = Arc::new(Mutex::new(State {
            flows,
            ..State::default()
        }));
        let shared = state.clone();
        let (send, injected) = channel::<Message>();
        let thread = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(to).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            let mut session = Session::new(End::Switch, &[OF13], None, Instant::now());
            let mut buffer = [0; 65536];
            loop {
                loop {
                    match injected.try_recv() {
                        Ok(m) => session.reply(0, &m).unwrap(),
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                        Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                    }
                }
                if stream.write_all(&session.take_output()).is_err() {
                    return;
                }
                let n = match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) => n,
                    Err(e)
                        if matches!(
                            e.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                        ) =>
                    {
                        continue;
                    }
                    Err(_) => return,
                };
                for e in session.receive(&buffer[..n], Instant::now()) {
                    match e {
                        Event::Message { xid, message } => {
                            answer(&mut session, &shared, xid, message, dpid, name)
                        }
                        Event::Negotiated(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
        FakeSwitch {
            state,
            send: Some(send),
            thread: Some(thread),
        }
    }

    pub fn inject(&self, m: Message) {
        self.send.as_ref().unwrap().send(m).unwrap();
    }

    /// A packet that missed the table.
    pub fn packet(&self, in_port: u32, data: Vec<u8>) {
        self.inject(Message::PacketIn(PacketIn {
            buffer: None,
            total_len: data.len() as u16,
            reason: action::PacketInReason::NoMatch,
            table: 0,
            cookie: controller::cookie::TABLE_MISS,
            metadata: Match::new().with(FieldId::InPort, in_port.into()),
            data: data.into(),
            ..PacketIn::default()
        }));
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }

    /// Disconnects and gives the flows it had.
    pub fn stop(mut self) -> Vec<FlowMod> {
        self.send.take();
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.state.lock().unwrap().flows)
    }
}

fn stats(f: &FlowMod) -> FlowStats {
    FlowStats {
        table: f.table,
        duration: Duration::from_secs(1),
        idle_age: None,
        hard_age: None,
        priority: f.priority,
        idle_timeout: f.idle_timeout,
        hard_timeout: f.hard_timeout,
        importance: 0,
        flags: f.flags,
        cookie: f.cookie,
        packets: 3,
        bytes: 180,
        matching: f.matching.clone(),
        instructions: f.instructions.clone(),
    }
}

fn answer(s: &mut Session, state: &Mutex<State>, xid: u32, m: Message, dpid: u64, name: &str) {
    let mut t = state.lock().unwrap();
    let reply = match m {
        Message::FeaturesRequest => Message::FeaturesReply(Features {
            actions: 0,
            datapath_id: dpid,
            buffers: 0,
            tables: 254,
            auxiliary_id: 0,
            capabilities: 0x4f,
            ports: Vec::new(),
        }),
        Message::BarrierRequest => Message::BarrierReply,
        Message::MultipartRequest(r) => Message::MultipartReply(match r {
            MultipartRequest::Desc => MultipartReply::Desc(SwitchDesc {
                manufacturer: "fake".into(),
                ..SwitchDesc::default()
            }),
            MultipartRequest::PortDesc(_) => MultipartReply::PortDesc(vec![
                port(1, "eth1"),
                port(2, "eth2"),
                port(3, "eth3"),
                port(PortNo::LOCAL.0, name),
            ]),
            MultipartRequest::Flow(f) => MultipartReply::Flow(
                t.flows
                    .iter()
                    .filter(|x| x.cookie & f.cookie_mask == f.cookie & f.cookie_mask)
                    .map(stats)
                    .collect(),
            ),
            MultipartRequest::Table => MultipartReply::Table(vec![TableStats {
                active: t.flows.len() as u32,
                lookups: 10,
                matched: 9,
                ..TableStats::default()
            }]),
            MultipartRequest::PortStats(_) => MultipartReply::PortStats(vec![PortStats {
                port: 1,
                rx_packets: 7,
                ..PortStats::default()
            }]),
            MultipartRequest::Aggregate(_) => MultipartReply::Aggregate(AggregateStats {
                packets: 3,
                bytes: 180,
                flows: t.flows.len() as u32,
            }),
            other => panic!("{other:?}"),
        }),
        Message::FlowMod(f) if f.priority == REFUSED && f.command == FlowModCommand::Add => {
            s.refuse_message(xid, error::ErrorKind::TableFull, &Message::FlowMod(f));
            return;
        }
        Message::FlowMod(f) => {
            let same = |x: &FlowMod| {
                x.table == f.table && x.priority == f.priority && x.matching == f.matching
            };
            let cookie = |x: &FlowMod| x.cookie & f.cookie_mask == f.cookie & f.cookie_mask;
            match f.command {
                FlowModCommand::DeleteStrict => t.flows.retain(|x| !(same(x) && cookie(x))),
                FlowModCommand::Delete => t
                    .flows
                    .retain(|x| !(x.matching.is_within(&f.matching) && cookie(x))),
                _ => {
                    t.flows.retain(|x| !same(x));
                    t.flows.push(f.clone());
                }
            }
            t.mods.push(f);
            return;
        }
        Message::PacketOut(p) => {
            t.packets.push(p);
            return;
        }
        Message::SetConfig(_) => return,
        other => panic!("unexpected {other:?}"),
    };
    s.reply(xid, &reply).unwrap();
}

/// An Ethernet frame without a tag.
pub fn frame(dst: u64, src: u64) -> Vec<u8> {
    let mut f = Vec::new();
    f.extend(MacAddr::from_u64(dst).0);
    f.extend(MacAddr::from_u64(src).0);
    f.extend([0x08, 0x00]);
    f.resize(60, 0);
    f
}
