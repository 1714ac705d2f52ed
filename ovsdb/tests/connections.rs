//! Connections of every kind, and of every bad manner: TLS beside Open vSwitch's programs, managers
//! that the database names, probes, many clients and those that mean no good.

mod common;
#[path = "common/pki.rs"]
mod pki;

use std::process::Command;
use std::time::Duration;

use ovsdb::server::{MAX_CLIENTS, ServerError};
use ovsdb::{
    Client, ClientError, ClientOptions, DATABASE, Datum, Notification, Server, ServerHandle,
    ServerOptions, Session, Target, Tls, TlsOptions, Transaction, Uuid, vswitch_schema,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use common::{Real, have};
use pki::Pki;

/// A server of ours on an empty database, in a directory of its own.
struct Ours {
    dir: tempfile::TempDir,
    handle: ServerHandle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Ours {
    async fn start(tls: TlsOptions) -> Ours {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::open(ServerOptions {
            db_path: dir.path().join("conf.db"),
            create: Some(vswitch_schema().clone()),
            remotes: vec![
                Target::PassiveUnix(dir.path().join("db.sock")),
                "db:Open_vSwitch,Open_vSwitch,manager_options"
                    .parse()
                    .unwrap(),
            ],
            tls,
            lazy_sync: true,
            ..ServerOptions::default()
        })
        .await
        .unwrap();
        let handle = server.handle();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(server.run(async move { _ = stopped.await }));
        Ours {
            dir,
            handle,
            stop: Some(stop),
        }
    }

    fn socket(&self) -> Target {
        Target::Unix(self.dir.path().join("db.sock"))
    }

    async fn session(&self) -> Session {
        Session::open(&self.socket(), DATABASE, Default::default())
            .await
            .unwrap()
    }

    /// Listens on a port that the kernel chooses.
    async fn listen(&self, kind: &str) -> std::net::SocketAddr {
        let target = format!("{kind}:0:127.0.0.1").parse().unwrap();
        self.handle.add_remote(&target).await.unwrap();
        self.handle.local_addr(&target).unwrap()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        _ = self.stop.take().map(|s| s.send(()));
    }
}

impl Pki {
    fn options(&self) -> TlsOptions {
        TlsOptions {
            private_key: Some(self.path("key.pem")),
            certificate: Some(self.path("cert.pem")),
            ca_cert: Some(self.path("ca.pem")),
            ..TlsOptions::default()
        }
    }
}

fn by_tls(options: TlsOptions) -> ClientOptions {
    ClientOptions {
        tls: Tls::new(options).unwrap(),
        probe: None,
    }
}

fn reason(result: Result<Client, ClientError>) -> String {
    match result {
        Err(ClientError::Connect { reason, .. }) => reason,
        Err(e) => e.to_string(),
        Ok(_) => "connected".into(),
    }
}

/// Waits until `f` holds.
async fn until<F: Future<Output = bool>>(what: &str, mut f: impl FnMut() -> F) {
    let wait = async {
        while !f().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .is_err()
    {
        panic!("in vain waited until {what}");
    }
}

/// What `openssl x509 -req` made before OpenSSL 3.4 when told of no extensions.
const V1_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBFzCBvQIUEER8/zF84I1Ec9N1imadNc4Z3RwwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCdjEwIBcNMjYxMTIxMTYyNTUzWhgPMjEyNjEwMjgxNjI1NTNaMA0xCzAJ
BgNVBAMMAnYxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2pFqbTb3Xu6erT5x
G7swhhbk9N2AsyqJIpyA7vc8Uzglz7xNWNmsUc4mPl75CloiiQwhW8iVo0FZXa92
jTaOpzAKBggqhkjOPQQDAgNJADBGAiEAtZRU+xOddDSWIcJeRjjQ4ZGWkO7vogZR
8sFseFMDRFICIQCWRhsdkhbV9CDeiXtRLsu3d+47flBX2qMAX/c2T88KUg==
-----END CERTIFICATE-----
";

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_authority_open_the_door_and_no_others() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let ours = Ours::start(pki.options()).await;
    let address = ours.listen("pssl").await;
    let target: Target = format!("ssl:{address}").parse().unwrap();
    // The certificate bears another name than the address: only the authority counts.
    let client = Client::connect_with(&target, &by_tls(pki.options()))
        .await
        .unwrap();
    assert_eq!(client.list_dbs().await.unwrap(), [DATABASE, "_Server"]);

    let none = reason(Client::connect(&target).await);
    assert!(none.starts_with("Protocol not available"), "{none}");
    let wrong = reason(Client::connect_with(&target, &by_tls(foreign.options())).await);
    assert!(wrong.contains("SSL handshake failed"), "{wrong}");
    // One of a format that is no longer read.
    let old = Pki::new();
    std::fs::write(old.path("cert.pem"), V1_CERTIFICATE).unwrap();
    let v1 = reason(Client::connect_with(&target, &by_tls(old.options())).await);
    assert!(v1.contains("it must be X.509 v3"), "{v1}");
    // A client that believes the server, but is not believed.
    let mut options = foreign.options();
    options.ca_cert = Some(pki.path("ca.pem"));
    if let Ok(client) = Client::connect_with(&target, &by_tls(options)).await {
        assert!(client.list_dbs().await.is_err());
    }
    // Plain text, and a handshake that never comes, hurt nobody else.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(br#"{"id":0,"method":"echo","params":[]}"#)
        .await
        .unwrap();
    let mut rest = Vec::new();
    _ = plain.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("result"));
    let _silent = TcpStream::connect(address).await.unwrap();
    client.echo().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_learned_once_and_renewed_files_are_read() {
    let pki = Pki::new();
    let mut options = pki.options();
    options.peer_ca_cert = Some(pki.path("ca.pem"));
    let ours = Ours::start(options).await;
    let target: Target = format!("ssl:{}", ours.listen("pssl").await)
        .parse()
        .unwrap();
    let learned = pki.path("learned.pem");
    let mut options = pki.options();
    options.ca_cert = Some(learned.clone());
    options.bootstrap = true;
    let client = by_tls(options);
    Client::connect_with(&target, &client)
        .await
        .unwrap()
        .echo()
        .await
        .unwrap();
    let text = |p: &str| std::fs::read_to_string(p).unwrap().replace('\r', "");
    assert_eq!(text(&learned), text(&pki.path("ca.pem")));
    // The server's files now come from another authority, which is not the learned one.
    let other = Pki::new();
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(other.path(file), pki.path(file)).unwrap();
    }
    let refused = reason(Client::connect_with(&target, &client).await);
    assert!(refused.contains("SSL handshake failed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_tools_speak_tls_with_our_server() {
    if !have("ovs-vsctl") {
        return;
    }
    let pki = Pki::new();
    // Keys from the database, as ovs-ctl asks for them.
    let from = |column: &str| Some(format!("db:Open_vSwitch,SSL,{column}"));
    let ours = Ours::start(TlsOptions {
        private_key: from("private_key"),
        certificate: from("certificate"),
        ca_cert: from("ca_cert"),
        ..TlsOptions::default()
    })
    .await;
    let db = format!("--db={}", ours.socket());
    let vsctl = |db: String, words: Vec<String>| async move {
        tokio::task::spawn_blocking(move || {
            Command::new("ovs-vsctl")
                .args(["--no-wait", "--timeout=30", &db])
                .args(words)
                .output()
                .unwrap()
        })
        .await
        .unwrap()
    };
    let files = ["key.pem", "cert.pem", "ca.pem"].map(|f| pki.path(f));
    let [key, cert, ca] = files;
    let words = ["set-ssl".into(), key, cert, ca]
        .into_iter()
        .chain(["--", "set-manager", "pssl:0:127.0.0.1"].map(str::to_owned));
    let out = vsctl(db.clone(), words.collect()).await;
    assert!(out.status.success(), "{out:?}");
    let manager: Target = "pssl:0:127.0.0.1".parse().unwrap();
    until("the manager is listened on", async || {
        ours.handle.local_addr(&manager).is_some()
    })
    .await;
    let port = ours.handle.local_addr(&manager).unwrap().port();
    let mut words = pki.arguments();
    words.extend(["get", "manager", "pssl:0:127.0.0.1", "status:bound_port"].map(str::to_owned));
    let out = vsctl(format!("--db=ssl:127.0.0.1:{port}"), words).await;
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        format!("\"{port}\"\n"),
        "{out:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_speaks_tls_with_ovsdb_server() {
    if !have("ovsdb-server") {
        return;
    }
    let pki = Pki::new();
    let mut arguments = pki.arguments();
    arguments.push("--remote=pssl:0:127.0.0.1".into());
    let stock = Real::start(&arguments);
    let log = || std::fs::read_to_string(stock.path("log")).unwrap_or_default();
    let listening = async || log().contains("listening on port ");
    until("ovsdb-server listens", listening).await;
    let text = log();
    let (_, rest) = text.split_once("listening on port ").unwrap();
    let port = rest.lines().next().unwrap().trim();
    let target: Target = format!("ssl:127.0.0.1:{port}").parse().unwrap();
    let client = Client::connect_with(&target, &by_tls(pki.options()))
        .await
        .unwrap();
    assert!(
        client
            .list_dbs()
            .await
            .unwrap()
            .contains(&DATABASE.to_owned())
    );
    let refused = reason(Client::connect_with(&target, &by_tls(Pki::new().options())).await);
    assert!(refused.contains("SSL handshake failed"), "{refused}");
}

/// Adds a manager and says which row it is.
async fn add_manager(session: &mut Session, target: &str, probe: Option<i64>) -> Uuid {
    let root = *session
        .replica()
        .table("Open_vSwitch")
        .keys()
        .next()
        .unwrap();
    let mut t = Transaction::new();
    let mut cells = vec![("target", ovsdb::Cell::from(Datum::scalar(target)))];
    if let Some(ms) = probe {
        cells.push(("inactivity_probe", Datum::scalar(ms).into()));
    }
    let row = t.insert("Manager", cells);
    t.mutate(
        "Open_vSwitch",
        root,
        "manager_options",
        ovsdb::Mutator::Insert,
        &row,
    );
    let outcome = session.transact(t).await.unwrap();
    outcome.uuid(&row).unwrap()
}

async fn root_row(session: &mut Session) {
    let mut t = Transaction::new();
    t.insert("Open_vSwitch", Vec::<(&str, Datum)>::new());
    session.transact(t).await.unwrap();
}

/// The row's `is_connected` and the pairs of its `status`, once `f` holds for them.
async fn status_when(
    session: &mut Session,
    row: Uuid,
    f: impl Fn(bool, &dyn Fn(&str) -> Option<String>) -> bool,
) {
    let wait = async {
        loop {
            if let Some(r) = session.replica().row("Manager", &row) {
                let connected = r.get("is_connected").as_scalar_bool();
                let status = r.get("status").clone();
                let get = |k: &str| status.map_get_str(k).map(str::to_owned);
                if f(connected == Some(true), &get) {
                    return;
                }
            }
            session.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the status in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_are_served_and_told_of() {
    let ours = Ours::start(TlsOptions::default()).await;
    let mut session = ours.session().await;
    root_row(&mut session).await;
    let passive = add_manager(&mut session, "ptcp:0:127.0.0.1", None).await;
    status_when(&mut session, passive, |up, get| {
        !up && get("bound_port").is_some()
    })
    .await;
    let address = ours
        .handle
        .local_addr(&"ptcp:0:127.0.0.1".parse().unwrap())
        .unwrap();
    let first = TcpStream::connect(address).await.unwrap();
    status_when(&mut session, passive, |up, get| {
        up && get("n_connections").is_none()
    })
    .await;
    let second = TcpStream::connect(address).await.unwrap();
    status_when(&mut session, passive, |up, get| {
        up && get("n_connections").as_deref() == Some("2")
    })
    .await;
    drop((first, second));
    status_when(&mut session, passive, |up, _| !up).await;

    // One that is called, takes a lock, and falls silent: probed, given up, called again.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    let active = add_manager(&mut session, &target, Some(1000)).await;
    let (mut peer, _) = listener.accept().await.unwrap();
    peer.write_all(br#"{"id":1,"method":"lock","params":["l"]}"#)
        .await
        .unwrap();
    status_when(&mut session, active, |up, get| {
        up && get("state").as_deref() == Some("ACTIVE")
    })
    .await;
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains(r#""method":"echo""#), "{said}");
    status_when(&mut session, active, |up, get| {
        !up && get("last_error").is_some_and(|e| e.contains("inactivity probe"))
    })
    .await;
    let (_again, _) = listener.accept().await.unwrap();
    status_when(&mut session, active, |up, _| up).await;

    // What cannot be served is told, too.
    let bad = add_manager(&mut session, "nonsense:1", None).await;
    status_when(&mut session, bad, |up, get| {
        !up && get("last_error").is_some()
    })
    .await;
}

#[tokio::test]
async fn a_client_gives_up_a_server_that_is_silent() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let (r, w) = tokio::io::split(near);
    let client = Client::over(r, w, Some(Duration::from_millis(20)));
    let request = client.list_dbs().await.unwrap_err();
    assert_eq!(
        request.to_string(),
        "connection to the database closed (no response to inactivity probe after 0.02 seconds)"
    );
    let mut said = String::new();
    far.read_to_string(&mut said).await.unwrap();
    assert!(
        said.contains("list_dbs") && said.contains(r#""method":"echo""#),
        "{said}"
    );
}

/// As many descriptors as the system gives: thousands of clients need two each.
fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_monitors_follow_one_writer_and_idlers_are_cut_off() {
    const CLIENTS: usize = 1000;
    const COMMITS: usize = 20;
    if raise_descriptors() < 3000 {
        eprintln!("SKIPPED: too few descriptors for {CLIENTS} clients");
        return;
    }
    let ours = Ours::start(TlsOptions::default()).await;
    let mut writer = ours.session().await;
    root_row(&mut writer).await;
    // One that asks for everything over and over and never reads.
    let path = ours.dir.path().join("db.sock");
    let mut deaf = UnixStream::connect(&path).await.unwrap();
    let ask = json!({"id": 1, "method": "get_schema", "params": [DATABASE]}).to_string();
    let deaf = tokio::spawn(async move { while deaf.write_all(ask.as_bytes()).await.is_ok() {} });
    let everything: serde_json::Map<String, serde_json::Value> = vswitch_schema()
        .tables
        .keys()
        .map(|table| (table.to_string(), json!([{}])))
        .collect();
    let mut readers = Vec::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(&ours.socket()).await.unwrap();
        let requests = everything.clone().into();
        client
            .monitor_cond(DATABASE, json!("all"), requests)
            .await
            .unwrap();
        readers.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < COMMITS {
                if let Notification::Update { updates, .. } =
                    client.next_notification().await.unwrap()
                {
                    seen += usize::from(updates.get("Bridge").is_some());
                }
            }
        }));
    }
    for i in 0..COMMITS {
        let mut t = Transaction::new();
        let root = *writer
            .replica()
            .table("Open_vSwitch")
            .keys()
            .next()
            .unwrap();
        let row = t.insert("Bridge", [("name", Datum::scalar(format!("br{i}")))]);
        t.mutate(
            "Open_vSwitch",
            root,
            "bridges",
            ovsdb::Mutator::Insert,
            &row,
        );
        writer.transact(t).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
    // The deaf one waits at its own socket; one answer goes beyond the bound.
    let held = ours.handle.backlog();
    assert!(held < 2 * ovsdb::server::MAX_UNREAD, "{held} bytes wait");
    assert!(!deaf.is_finished());
    deaf.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_to_many_requests_wait_for_their_reader() {
    const REQUESTS: usize = 200;
    let ours = Ours::start(TlsOptions::default()).await;
    let mut asker = UnixStream::connect(ours.dir.path().join("db.sock"))
        .await
        .unwrap();
    let request = |id: usize, operation: serde_json::Value| {
        json!({"id": id, "method": "transact", "params": [DATABASE, operation]}).to_string()
    };
    let config = json!(["map", [["large", "x".repeat(400 << 10)]]]);
    let row = json!({"op": "insert", "table": "Open_vSwitch", "row": {"other_config": config}});
    asker.write_all(request(1, row).as_bytes()).await.unwrap();
    asker.read_u8().await.unwrap();
    let inserted = async || ours.handle.backlog() == 0;
    until("the row is there", inserted).await;
    let mut answer = vec![0; 4096];
    _ = asker.read(&mut answer).await.unwrap();

    // One answer to know its length, which is the same for all numbers of three digits.
    let select = |id| {
        request(
            id,
            json!({"op": "select", "table": "Open_vSwitch", "where": []}),
        )
    };
    asker.write_all(select(100).as_bytes()).await.unwrap();
    let mut first = Vec::new();
    while serde_json::from_slice::<serde_json::Value>(&first).is_err() {
        assert!(asker.read_buf(&mut first).await.unwrap() > 0);
    }
    assert!(first.len() * REQUESTS > ovsdb::server::MAX_BACKLOG);
    let all: String = (101..=100 + REQUESTS).map(select).collect();
    asker.write_all(all.as_bytes()).await.unwrap();
    let stalled = async || ours.handle.backlog() > ovsdb::server::MAX_UNREAD;
    until("answers wait", stalled).await;
    let mut answer = vec![0; first.len()];
    for id in 101..=100 + REQUESTS {
        asker.read_exact(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(&format!("\"id\":{id}")), "{id}");
        // Only one request is run beyond the bound.
        let waiting = ours.handle.backlog();
        let bound = ovsdb::server::MAX_UNREAD + first.len();
        assert!(waiting <= bound, "{waiting} bytes wait at {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_manners_end_the_own_connection_only() {
    let ours = Ours::start(TlsOptions::default()).await;
    let path = ours.dir.path().join("db.sock");
    let good = Client::connect(&ours.socket()).await.unwrap();
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"{]",
        br#"{"id":0}"#,
        br#"{"id":0,"method":"x","params":[],"more":1}"#,
        &[b'['; 1000],
    ];
    for text in garbage {
        let mut s = UnixStream::connect(&path).await.unwrap();
        s.write_all(text).await.unwrap();
        let mut rest = Vec::new();
        _ = s.read_to_end(&mut rest).await;
        good.echo().await.unwrap();
    }
    // A message longer than the bound.
    let mut long = UnixStream::connect(&path).await.unwrap();
    let piece = vec![b'a'; 1 << 20];
    let mut sent = long.write_all(b"{\"").await;
    while sent.is_ok() {
        sent = long.write_all(&piece).await;
    }
    // Half a message may stay half for ever.
    let mut half = UnixStream::connect(&path).await.unwrap();
    half.write_all(br#"{"id":0,"meth"#).await.unwrap();
    good.echo().await.unwrap();
    // A remote that goes takes its connections along, and a reconnection is for all.
    let address = ours.listen("ptcp").await;
    let mut there = TcpStream::connect(address).await.unwrap();
    let target = "ptcp:0:127.0.0.1".parse().unwrap();
    assert!(ours.handle.remove_remote(&target).await);
    assert!(!ours.handle.remove_remote(&target).await);
    assert_eq!(there.read(&mut [0; 10]).await.unwrap_or(0), 0);
    ours.handle.reconnect();
    until("the old client is gone", async || good.is_closed()).await;
    assert!(Client::connect(&ours.socket()).await.is_ok());
    // A column that is not there.
    let e = ours.handle.add_remote(&"db:x,y,z".parse().unwrap()).await;
    assert!(
        matches!(&e, Err(ServerError::NoColumn(t)) if t == "\"db:x,y,z\": no database named x"),
        "{e:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_places_for_so_many_and_they_are_given_back() {
    if raise_descriptors() < 2 * MAX_CLIENTS as u64 + 1000 {
        eprintln!("SKIPPED: too few descriptors for {MAX_CLIENTS} clients");
        return;
    }
    let ours = Ours::start(TlsOptions::default()).await;
    let path = ours.dir.path().join("db.sock");
    let mut there = Vec::new();
    for _ in 0..MAX_CLIENTS {
        there.push(UnixStream::connect(&path).await.unwrap());
    }
    let refused = async || match Client::connect(&ours.socket()).await {
        Ok(c) => c.echo().await.is_err(),
        Err(_) => true,
    };
    until("one more is refused", refused).await;
    there.clear();
    until("there is room again", async || !refused().await).await;
}
