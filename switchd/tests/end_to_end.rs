//! A whole switch in one process: our database server, the real forwarding plane with dummy ports,
//! an OpenFlow peer and the control socket. Needs no tools and no rights.

use openflow::session::{End, Event, Session as OfSession};
use openflow::{
    Action, FlowFlags, FlowMod, FlowRemovedReason, Instructions, Match, Message, MultipartReply,
    MultipartRequest, PacketOut, PortNo,
};
use ovsdb::server::{Server, ServerOptions};
use ovsdb::{Cell, DATABASE, Datum, NewRow, Session, Target, Transaction, vswitch_schema};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn until<T>(what: &str, mut f: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(t) = f().await {
            return t;
        }
        assert!(Instant::now() < end, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Stand {
    dir: tempfile::TempDir,
    db: Session,
    ends: Vec<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    switch: Option<JoinHandle<anyhow::Result<()>>>,
    /// Makes names of dummy ports unique in the process.
    tag: &'static str,
}

impl Stand {
    async fn new(tag: &'static str) -> Stand {
        let dir = tempfile::tempdir().unwrap();
        let sock = dir.path().join("db.sock");
        let server = Server::open(ServerOptions {
            db_path: dir.path().join("conf.db"),
            create: Some(vswitch_schema().clone()),
            remotes: vec![Target::PassiveUnix(sock.clone())],
            lazy_sync: true,
            ..ServerOptions::default()
        })
        .await
        .unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let _ = server
                .run(async {
                    let _ = ended.await;
                })
                .await;
        });
        let db = Session::open(&Target::Unix(sock), DATABASE, Default::default())
            .await
            .unwrap();
        let mut stand = Stand {
            dir,
            db,
            ends: vec![end],
            server,
            switch: None,
            tag,
        };
        stand.start();
        stand.settle().await;
        stand
    }

    fn start(&mut self) {
        let mut options = switchd::Options::new(
            Target::Unix(self.dir.path().join("db.sock")),
            self.dir.path(),
        );
        options.enable_dummy = true;
        options.unixctl = Some("ctl".into());
        let (end, ended) = oneshot::channel::<()>();
        self.ends.push(end);
        self.switch = Some(tokio::spawn(switchd::run(options, async {
            let _ = ended.await;
        })));
    }

    async fn stop_switch(&mut self) {
        let _ = self.ends.pop().unwrap().send(());
        self.switch.take().unwrap().await.unwrap().unwrap();
    }

    async fn stop(mut self) {
        self.stop_switch().await;
        let _ = self.ends.pop().unwrap().send(());
        drop(self.db);
        self.server.await.unwrap();
    }

    fn port(&self, n: u32) -> String {
        format!("{}{n}", self.tag)
    }

    /// Waits until the switch has applied what the database says.
    async fn settle(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let row = self.db.replica().table("Open_vSwitch").values().next();
            if row.is_some_and(|r| {
                r.get("cur_cfg") == r.get("next_cfg") && !r.get("ovs_version").is_empty()
            }) {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::timeout(left, self.db.changed())
                .await
                .expect("the switch applies the configuration")
                .unwrap();
        }
    }

    async fn commit(&mut self, mut t: Transaction) {
        let root = *self
            .db
            .replica()
            .table("Open_vSwitch")
            .keys()
            .next()
            .unwrap();
        t.mutate(
            "Open_vSwitch",
            root,
            "next_cfg",
            ovsdb::Mutator::Add,
            Datum::scalar(1i64),
        );
        self.db.transact(t).await.unwrap();
        self.settle().await;
    }

    fn new_port(&self, t: &mut Transaction, name: &str, kind: &str, tag: Option<i64>) -> NewRow {
        let interface = t.insert(
            "Interface",
            [("name", Cell::from(name)), ("type", Cell::from(kind))],
        );
        let mut columns = vec![
            ("name", Cell::from(name)),
            ("interfaces", Cell::from(&interface)),
        ];
        if let Some(tag) = tag {
            columns.push(("tag", Cell::from(tag)));
        }
        t.insert("Port", columns)
    }

    /// The bridge's name, and that of its device: unique in the process, too.
    fn name(&self) -> String {
        format!("{}-br", self.tag)
    }

    /// Its management socket.
    fn mgmt(&self) -> PathBuf {
        self.dir.path().join(format!("{}.mgmt", self.name()))
    }

    /// A bridge with dummy ports 1 to `ports`.
    async fn bridge(&mut self, ports: u32, secure: bool, controller: Option<&str>) {
        let root = *self
            .db
            .replica()
            .table("Open_vSwitch")
            .keys()
            .next()
            .unwrap();
        let mut t = Transaction::new();
        let name = self.name();
        let mut rows = vec![self.new_port(&mut t, &name, "internal", None)];
        for n in 1..=ports {
            rows.push(self.new_port(&mut t, &self.port(n), "dummy", None));
        }
        let mut columns = vec![
            ("name", Cell::from(&name[..])),
            ("ports", Cell::rows(rows)),
            (
                "other_config",
                Cell::from(Datum::map([("hwaddr", "aa:55:aa:55:00:00")])),
            ),
        ];
        if secure {
            columns.push(("fail_mode", Cell::from("secure")));
        }
        if let Some(target) = controller {
            let c = t.insert("Controller", [("target", Cell::from(target))]);
            columns.push(("controller", Cell::from(&c)));
        }
        let bridge = t.insert("Bridge", columns);
        t.mutate(
            "Open_vSwitch",
            root,
            "bridges",
            ovsdb::Mutator::Insert,
            Cell::from(&bridge),
        );
        self.commit(t).await;
    }

    fn interface(&self, name: &str, column: &str) -> Datum {
        self.db
            .replica()
            .find("Interface", "name", name)
            .unwrap_or_else(|| panic!("no interface {name}"))
            .get(column)
            .clone()
    }

    async fn control(&self, command: &str) -> Result<String, String> {
        control(&self.dir.path().join("ctl"), command).await
    }

    fn inject(&self, port: u32, frame: &[u8]) {
        let h = datapath::port::dummy::handle(&self.port(port)).expect("the port is open");
        assert!(h.inject(frame, Default::default()));
    }

    async fn received(&self, port: u32) -> Vec<u8> {
        let h = datapath::port::dummy::handle(&self.port(port)).expect("the port is open");
        until(&format!("a frame on port {port}"), async || {
            h.take_sent().into_iter().next()
        })
        .await
        .bytes
    }
}

async fn control(socket: &Path, line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let request = serde_json::json!({
        "id": 0, "method": words.next(), "params": words.collect::<Vec<_>>(),
    });
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream
        .write_all(request.to_string().as_bytes())
        .await
        .unwrap();
    let mut all = Vec::new();
    loop {
        let n = tokio::time::timeout(PATIENCE, stream.read_buf(&mut all))
            .await
            .expect("an answer")
            .unwrap();
        assert!(n > 0, "the switch hung up");
        if let Ok(v) = serde_json::from_slice::<serde_json::Value>(&all) {
            return match v["error"].as_str() {
                Some(e) => Err(e.to_owned()),
                None => Ok(v["result"].as_str().unwrap().to_owned()),
            };
        }
    }
}

/// An OpenFlow peer.
struct Peer {
    stream: tokio::net::UnixStream,
    session: OfSession,
    events: VecDeque<Event>,
}

impl Peer {
    async fn over(stream: tokio::net::UnixStream) -> Peer {
        let session = OfSession::new(End::Controller, &[4], None, Instant::now());
        let mut p = Peer {
            stream,
            session,
            events: VecDeque::new(),
        };
        assert_eq!(p.event().await, Event::Negotiated(4));
        p
    }

    async fn mgmt(path: &Path) -> Peer {
        let stream = until("the management socket", async || {
            tokio::net::UnixStream::connect(path).await.ok()
        })
        .await;
        Peer::over(stream).await
    }

    async fn event(&mut self) -> Event {
        loop {
            let out = self.session.take_output();
            self.stream.write_all(&out).await.unwrap();
            if let Some(e) = self.events.pop_front() {
                return e;
            }
            let mut buf = vec![0; 65536];
            let n = tokio::time::timeout(PATIENCE, self.stream.read(&mut buf))
                .await
                .expect("the switch says something")
                .unwrap();
            assert!(n > 0, "the switch hung up");
            self.events
                .extend(self.session.receive(&buf[..n], Instant::now()));
        }
    }

    async fn message(&mut self) -> Message {
        match self.event().await {
            Event::Message { message, .. } => message,
            e => panic!("{e:?}"),
        }
    }

    /// The answer to a request; anything else that comes before is passed over.
    async fn ask(&mut self, request: Message) -> Message {
        let asked = self.session.send(&request).unwrap();
        loop {
            match self.event().await {
                Event::Message { xid, message } if xid == asked => return message,
                _ => {}
            }
        }
    }

    /// Says something that has no answer, and waits until it is done.
    async fn tell(&mut self, message: Message) {
        self.session.send(&message).unwrap();
        assert_eq!(
            self.ask(Message::BarrierRequest).await,
            Message::BarrierReply
        );
    }

    async fn flows(&mut self) -> Vec<openflow::FlowStats> {
        let ask = Message::MultipartRequest(MultipartRequest::Flow(Default::default()));
        match self.ask(ask).await {
            Message::MultipartReply(MultipartReply::Flow(flows)) => flows,
            m => panic!("{m:?}"),
        }
    }
}

/// An Ethernet frame of 60 bytes between two stations.
fn frame(from: u8, to: u8) -> Vec<u8> {
    let mut f = vec![
        0x50, 0x54, 0, 0, 0, to, 0x50, 0x54, 0, 0, 0, from, 0x12, 0x34,
    ];
    f.resize(60, from);
    f
}

fn output(port: u32) -> Instructions {
    Instructions::apply(vec![Action::Output {
        port: PortNo(port),
        max_len: 0xffff,
    }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_bridge_learns_and_reports() {
    let mut s = Stand::new("sl").await;
    s.bridge(3, false, None).await;
    assert_eq!(s.interface(&s.name(), "ofport"), Datum::scalar(65534i64));
    for n in 1..=3 {
        assert_eq!(
            s.interface(&s.port(n), "ofport"),
            Datum::scalar(i64::from(n))
        );
        assert!(s.interface(&s.port(n), "error").is_empty());
    }
    s.inject(1, &frame(9, 10));
    assert_eq!(s.received(2).await, frame(9, 10));
    assert_eq!(s.received(3).await, frame(9, 10));
    s.inject(2, &frame(10, 9));
    assert_eq!(s.received(1).await, frame(10, 9));
    let fdb = s.control(&format!("fdb/show {}", s.name())).await.unwrap();
    assert!(
        fdb.starts_with(" port  VLAN  MAC                Age\n"),
        "{fdb}"
    );
    assert!(fdb.contains("    1     0  50:54:00:00:00:09"), "{fdb}");
    assert!(fdb.contains("    2     0  50:54:00:00:00:0a"), "{fdb}");
    let stats = s
        .control(&format!("fdb/stats-show {}", s.name()))
        .await
        .unwrap();
    assert!(
        stats.contains("Current/maximum MAC entries in the table: 2/8192"),
        "{stats}"
    );
    s.control(&format!("fdb/flush {}", s.name())).await.unwrap();
    assert_eq!(
        s.control(&format!("fdb/show {}", s.name()))
            .await
            .unwrap()
            .lines()
            .count(),
        1
    );
    let flows = s
        .control(&format!("bridge/dump-flows {}", s.name()))
        .await
        .unwrap();
    assert!(flows.contains("priority=0,actions=NORMAL"), "{flows}");
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vlans_follow_the_database_live() {
    let mut s = Stand::new("vl").await;
    s.bridge(3, false, None).await;
    let mut t = Transaction::new();
    for (n, tag) in [(1, 10i64), (2, 20), (3, 10)] {
        let uuid =
            s.db.replica()
                .find("Port", "name", &s.port(n))
                .unwrap()
                .uuid;
        t.update("Port", uuid, [("tag", Datum::scalar(tag))]);
    }
    s.commit(t).await;
    s.inject(1, &frame(1, 2));
    assert_eq!(s.received(3).await, frame(1, 2));
    let h = datapath::port::dummy::handle(&s.port(2)).unwrap();
    assert!(h.take_sent().is_empty(), "VLAN 20 saw a frame of VLAN 10");
    assert!(
        s.control(&format!("fdb/show {}", s.name()))
            .await
            .unwrap()
            .contains("    1    10  50:54:00:00:00:01")
    );
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secure_bridge_does_what_its_controller_says() {
    let mut s = Stand::new("of").await;
    let path = s.dir.path().join("controller.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    s.bridge(2, true, Some(&format!("unix:{}", path.display())))
        .await;
    let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept())
        .await
        .expect("the switch connects")
        .unwrap();
    let mut c = Peer::over(stream).await;
    let Message::FeaturesReply(f) = c.ask(Message::FeaturesRequest).await else {
        panic!("no features")
    };
    assert_eq!(
        (f.datapath_id, f.tables, f.buffers),
        (0xaa55_aa55_0000, 254, 0)
    );
    assert!(c.flows().await.is_empty());
    // A table-miss rule, a packet-in, a packet-out.
    let miss = FlowMod {
        priority: 0,
        ..FlowMod::add(Match::new(), output(PortNo::CONTROLLER.0))
    };
    c.tell(Message::FlowMod(miss)).await;
    s.inject(1, &frame(1, 2));
    let Message::PacketIn(p) = c.message().await else {
        panic!("no packet-in")
    };
    assert_eq!(&p.data[..], &frame(1, 2)[..]);
    assert_eq!(p.metadata.exact(openflow::FieldId::InPort), Some(1));
    c.tell(Message::PacketOut(PacketOut {
        buffer: None,
        in_port: PortNo(1),
        actions: vec![Action::Output {
            port: PortNo::FLOOD,
            max_len: 0,
        }],
        data: p.data,
        ..PacketOut::default()
    }))
    .await;
    assert_eq!(s.received(2).await, frame(1, 2));
    // A flow of its own carries the next one; it is counted, and its end is told.
    let m = Match::new().with(openflow::FieldId::InPort, 1);
    let flow = FlowMod {
        idle_timeout: 10,
        cookie: 77,
        flags: FlowFlags {
            send_flow_rem: true,
            ..FlowFlags::default()
        },
        ..FlowMod::add(m, output(2))
    };
    c.tell(Message::FlowMod(flow)).await;
    s.inject(1, &frame(1, 2));
    assert_eq!(s.received(2).await, frame(1, 2));
    let counted = c.flows().await;
    let hit = counted.iter().find(|f| f.cookie == 77).expect("the flow");
    assert_eq!((hit.packets, hit.bytes), (1, 60));
    s.control("time/stop").await.unwrap();
    s.control("time/warp 11000").await.unwrap();
    let Message::FlowRemoved(r) = c.message().await else {
        panic!("no flow-removed")
    };
    assert_eq!(
        (r.reason, r.flow.cookie),
        (FlowRemovedReason::IdleTimeout, 77)
    );
    assert_eq!(r.flow.packets, 1);
    // Another client sees what is left; hostile numbers are refused.
    let mut ofctl = Peer::mgmt(&s.mgmt()).await;
    assert_eq!(ofctl.flows().await.len(), 1);
    let bad = FlowMod {
        table: 254,
        ..FlowMod::add(Match::new(), output(1))
    };
    assert!(matches!(
        ofctl.ask(Message::FlowMod(bad)).await,
        Message::Error(_)
    ));
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_keep_their_numbers_over_a_restart() {
    let mut s = Stand::new("re").await;
    s.bridge(3, false, None).await;
    let uuid =
        s.db.replica()
            .find("Port", "name", &s.port(1))
            .unwrap()
            .uuid;
    let bridge =
        s.db.replica()
            .find("Bridge", "name", &s.name())
            .unwrap()
            .uuid;
    let mut t = Transaction::new();
    t.mutate(
        "Bridge",
        bridge,
        "ports",
        ovsdb::Mutator::Delete,
        Datum::scalar(uuid),
    );
    s.commit(t).await;
    assert!(datapath::port::dummy::handle(&s.port(1)).is_none());
    s.stop_switch().await;
    assert!(!s.mgmt().exists());
    s.start();
    until("the ports' return", async || {
        datapath::port::dummy::handle(&s.port(3))
    })
    .await;
    let mut p = Peer::mgmt(&s.mgmt()).await;
    let ask = Message::MultipartRequest(MultipartRequest::PortDesc(PortNo::ANY));
    let Message::MultipartReply(MultipartReply::PortDesc(ports)) = p.ask(ask).await else {
        panic!("no ports")
    };
    let numbers: Vec<_> = ports.iter().map(|p| (p.name.clone(), p.port)).collect();
    assert_eq!(
        numbers,
        [
            (s.port(2), PortNo(2)),
            (s.port(3), PortNo(3)),
            (s.name(), PortNo::LOCAL)
        ]
    );
    s.stop().await;
}
