//! Controllers' sessions: by TLS, beside a main connection, looked at from outside, told too much.

#[path = "../../../ovsdb/tests/common/pki.rs"]
mod pki;

use super::{PATIENCE, Stand};
use crate::agent::Async;
use openflow::action::PacketInReason;
use openflow::error::ErrorKind;
use openflow::session::{End, Event, Session};
use openflow::{FlowMod, Match, Message, PacketIn, Role, RoleMsg};
use ovsdb::transport::{Connection, Listener};
use ovsdb::{Target, Tls, TlsOptions};
use pki::Pki;
use std::collections::{BTreeSet, VecDeque};
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A controller's end of a connection.
struct Controller {
    stream: Connection,
    session: Session,
    events: VecDeque<Event>,
}

impl Controller {
    async fn accept(listener: &Listener, version: u8) -> Controller {
        let (caller, _) = tokio::time::timeout(PATIENCE, listener.accept())
            .await
            .expect("the switch calls")
            .unwrap();
        let stream = caller.greet(0).await.unwrap();
        let mut c = Controller {
            stream,
            session: Session::new(End::Controller, &[version], None, Instant::now()),
            events: VecDeque::new(),
        };
        assert_eq!(c.next().await, Some(Event::Negotiated(version)));
        c
    }

    /// What comes next; none once the switch has hung up.
    async fn next(&mut self) -> Option<Event> {
        let mut buf = [0; 4096];
        loop {
            let out = self.session.take_output();
            self.stream.writer.write_all(&out).await.ok()?;
            self.stream.writer.flush().await.ok()?;
            if let Some(e) = self.events.pop_front() {
                return Some(e);
            }
            let n = tokio::time::timeout(PATIENCE, self.stream.reader.read(&mut buf))
                .await
                .expect("something comes")
                .ok()
                .filter(|n| *n > 0)?;
            let events = self.session.receive(&buf[..n], Instant::now());
            self.events.extend(events);
        }
    }

    /// The answer to a request.
    async fn ask(&mut self, request: &Message) -> Message {
        let asked = self.session.send(request).unwrap();
        loop {
            match self.next().await.expect("an answer") {
                Event::Message { xid, message } if xid == asked => return message,
                Event::Message { .. } => {}
                e => panic!("{e:?}"),
            }
        }
    }

    async fn auxiliary_id(&mut self) -> u8 {
        match self.ask(&Message::FeaturesRequest).await {
            Message::FeaturesReply(f) => f.auxiliary_id,
            m => panic!("{m:?}"),
        }
    }
}

/// A listener, and its port.
async fn listen(kind: &str, tls: &Tls) -> (Listener, u16) {
    let target: Target = format!("{kind}:0:127.0.0.1").parse().unwrap();
    let listener = Listener::bind(&target, tls).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn tls(pki: &Pki) -> Tls {
    Tls::new(TlsOptions {
        private_key: Some(pki.path("key.pem")),
        certificate: Some(pki.path("cert.pem")),
        ca_cert: Some(pki.path("ca.pem")),
        // For whoever learns the authority.
        peer_ca_cert: Some(pki.path("ca.pem")),
        ..TlsOptions::default()
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_are_called_and_listened_for_by_tls() {
    let Some(s) = Stand::new().await else { return };
    let pki = Pki::new();
    let (listener, port) = listen("pssl", &tls(&pki)).await;
    let (stranger, strange) = listen("pssl", &tls(&Pki::new())).await;
    let own = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .unwrap()
        .port();
    // The authority is not known yet: the first that comes is believed, and kept.
    let authority = s.path("learned.pem");
    s.vsctl(&format!(
        "--bootstrap set-ssl {} {} {} -- add-br br0 -- set-controller br0 ssl:127.0.0.1:{port}",
        pki.path("key.pem"),
        pki.path("cert.pem"),
        authority.display(),
    ))
    .await;
    let serve = async {
        loop {
            let (caller, _) = listener.accept().await.unwrap();
            // The first connection is given up for one that is held to the authority.
            if let Ok(stream) = caller.greet(0).await {
                let mut c = Controller {
                    stream,
                    session: Session::new(End::Controller, &[4], None, Instant::now()),
                    events: VecDeque::new(),
                };
                if c.next().await == Some(Event::Negotiated(4)) {
                    return c;
                }
            }
        }
    };
    let mut c = tokio::time::timeout(PATIENCE, serve)
        .await
        .expect("the switch calls");
    assert_eq!(c.auxiliary_id().await, 0);
    let learned = std::fs::read_to_string(&authority).unwrap();
    let known = std::fs::read_to_string(pki.path("ca.pem")).unwrap();
    assert_eq!(learned.replace("\r\n", "\n"), known.replace("\r\n", "\n"));
    // Who cannot prove himself is no controller.
    s.vsctl(&format!(
        "set-controller br0 ssl:127.0.0.1:{strange} pssl:{own}:127.0.0.1"
    ))
    .await;
    let (caller, _) = tokio::time::timeout(PATIENCE, stranger.accept())
        .await
        .expect("the switch calls")
        .unwrap();
    assert!(
        match caller.greet(0).await {
            Err(_) => true,
            Ok(mut stream) => !matches!(stream.reader.read(&mut [0; 8]).await, Ok(n) if n > 0),
        },
        "nothing is said to it"
    );
    // Stock tools come in by TLS.
    let at = format!("ssl:127.0.0.1:{own}");
    let mut args = pki.arguments();
    args.extend(["--timeout=15", "dump-flows", &at].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    s.until("the listener", async || {
        let out = s.try_tool("ovs-ofctl", &args).await;
        out.is_ok_and(|o| o.starts_with("NXST_FLOW reply"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auxiliary_connections_have_their_numbers_and_the_main_ones_role() {
    let Some(s) = Stand::new().await else { return };
    let (listener, port) = listen("ptcp", &Tls::default()).await;
    s.vsctl(&format!(
        "add-br br0 -- set-controller br0 tcp:127.0.0.1:{port} -- set controller br0 other_config:auxiliary-connections=2"
    ))
    .await;
    let mut main = Controller::accept(&listener, 5).await;
    assert_eq!(main.auxiliary_id().await, 0);
    let mut others = [
        Controller::accept(&listener, 5).await,
        Controller::accept(&listener, 5).await,
    ];
    let mut numbers = BTreeSet::new();
    for c in &mut others {
        numbers.insert(c.auxiliary_id().await);
    }
    assert_eq!(numbers, BTreeSet::from([1, 2]));
    let role = RoleMsg {
        role: Role::Secondary,
        generation: 1,
        short_id: 0,
    };
    main.ask(&Message::RoleRequest(role)).await;
    let add = Message::FlowMod(FlowMod::add(Match::new(), Default::default()));
    let Message::Error(e) = others[0].ask(&add).await else {
        panic!("a secondary controller changed flows")
    };
    assert_eq!(e.kind, ErrorKind::IsSlave);
    // They end with the main connection.
    drop(main);
    for c in &mut others {
        assert_eq!(c.next().await, None);
    }
    s.vsctl("del-controller br0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snooper_sees_both_directions_in_any_version() {
    let Some(s) = Stand::new().await else { return };
    for version in [1, 4, 6] {
        let (listener, port) = listen("ptcp", &Tls::default()).await;
        s.vsctl(&format!(
            "--may-exist add-br br0 -- set-controller br0 tcp:127.0.0.1:{port}"
        ))
        .await;
        let mut c = Controller::accept(&listener, version).await;
        let mut snoop = tokio::process::Command::new("ovs-ofctl")
            .env("OVS_RUNDIR", s.dir.path())
            .args(["--timeout=30", "snoop", "br0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut text = String::new();
        let mut out = snoop.stderr.take().unwrap();
        let mut buf = [0; 4096];
        let wanted = [
            "OFPT_ECHO_REQUEST",
            "OFPT_ECHO_REPLY",
            "OFPT_FEATURES_REQUEST",
            "OFPT_FEATURES_REPLY",
        ];
        let end = Instant::now() + PATIENCE;
        while !wanted.iter().all(|w| text.contains(w)) {
            assert!(Instant::now() < end, "version {version}: {text}");
            // Until the snooper listens nothing is shown to it.
            c.ask(&Message::FeaturesRequest).await;
            let _ = c.session.send(&Message::EchoRequest(Default::default()));
            c.ask(&Message::BarrierRequest).await;
            let more =
                tokio::time::timeout(std::time::Duration::from_millis(50), out.read(&mut buf));
            if let Ok(Ok(n)) = more.await {
                text.push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        }
    }
    s.vsctl("del-controller br0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_reads_nothing_loses_packet_ins_and_nobody_else_does() {
    let Some(s) = Stand::new().await else { return };
    let (listener, port) = listen("ptcp", &Tls::default()).await;
    s.vsctl(&format!(
        "add-br br0 -- set-controller br0 tcp:127.0.0.1:{port}"
    ))
    .await;
    // It says hello and then reads no more.
    let _stalled = Controller::accept(&listener, 4).await;
    let bridge = s.switch.bridge("br0").unwrap();
    s.until("the handshake's end", async || {
        let all = bridge.controllers();
        all[0].status.lock().unwrap().conn.is_some()
    })
    .await;
    let packet = |n: u32| Async::PacketIn {
        packet: PacketIn {
            total_len: 60_000,
            reason: PacketInReason::Action,
            metadata: Match::new().with(openflow::FieldId::InPort, n.into()),
            data: vec![n as u8; 60_000].into(),
            ..PacketIn::default()
        },
        max_len: 0xffff,
        controller_id: 0,
        buffer: None,
    };
    // Far more than socket buffers, the outbox and the queue hold.
    for n in 0..3000 {
        bridge.publish(packet(n));
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let out = s.ofctl("dump-flows br0").await;
    assert!(out.starts_with("OFPST_FLOW reply"), "{out}");
    let dropped = || {
        let waiting: u64 = bridge
            .controllers()
            .iter()
            .map(|c| c.status.lock().unwrap().dropped)
            .sum();
        waiting + bridge.dropped_packet_ins()
    };
    s.until("packets over the bound to be dropped", async || {
        dropped() > 1000
    })
    .await;
    s.vsctl("del-controller br0").await;
}
