//! The task that ties database, switch, controllers and control socket together.

use crate::agent::{Async, io::Driver};
use crate::config::desired::{self, DUMMY_KINDS, KINDS, ReadOptions};
use crate::config::report::Out;
use crate::config::value::Columns;
use crate::control::{ControlSocket, commands};
use crate::host::Host;
use crate::log::Vlog;
use crate::pidfile::PidFile;
use crate::plane::door::Door;
use crate::switch::Switch;
use anyhow::Context as _;
use datapath::{Clock, Config, Event, Events};
use ovsdb::{
    ClientError, ClientOptions, DATABASE, Datum, Session, SessionOptions, Target, Tls, TlsOptions,
    Transaction,
};
use std::future::Future;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// How to run a switch.
#[derive(Clone)]
pub struct Options {
    /// The database server.
    pub database: Target,
    /// Keys and certificates, where [`Options::database`] is `ssl:` or `pssl:`.
    pub tls: Tls,
    /// The same for controllers, where the database's `SSL` row does not say otherwise.
    pub controller_tls: TlsOptions,
    /// Where sockets and the pid file go.
    pub run_dir: PathBuf,
    /// Forwarding threads, at least one.
    pub forwarding_threads: usize,
    /// Processor of each, if they are to be pinned.
    pub pin: Option<Vec<usize>>,
    /// What `Open_vSwitch.ovs_version`, `version` and the description of bridges say.
    pub version: String,
    /// `external_ids:system-id`, set if the database has none.
    pub system_id: Option<String>,
    /// Interfaces of type dummy, and a clock that can be moved (`--enable-dummy`).
    pub enable_dummy: bool,
    /// Control socket in place of `ovs-vswitchd.<pid>.ctl`.
    pub unixctl: Option<PathBuf>,
    /// Log levels; [`run`] makes some that nothing listens to if there are none.
    pub log: Option<Arc<Vlog>>,
    /// Make the `Open_vSwitch` row if the database has none.
    pub init_database: bool,
}

impl Options {
    /// A switch with one forwarding thread that calls itself by this crate's version.
    pub fn new(database: Target, run_dir: impl Into<PathBuf>) -> Options {
        Options {
            database,
            tls: Tls::default(),
            controller_tls: TlsOptions::default(),
            run_dir: run_dir.into(),
            forwarding_threads: 1,
            pin: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system_id: None,
            enable_dummy: false,
            unixctl: None,
            log: None,
            init_database: true,
        }
    }
}

/// Between two looks at timeouts, fail modes and link states.
const TICK: Duration = Duration::from_secs(1);
/// Between two attempts at interfaces that could not be made.
const RETRY: Duration = Duration::from_secs(2);
/// How long a lost database is waited for before looking whether it is back unnoticed.
const RECONNECT: Duration = Duration::from_secs(10);

/// The events with their file descriptor, which lives as long as they do.
struct EventSource(Events);

impl AsRawFd for EventSource {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd()
    }
}

/// Runs a switch until `shutdown` ends or `exit` is asked for on the control socket. Ports and
/// bridges are taken down on the way out; the database keeps what it says.
///
/// # Errors
/// The datapath or the control socket cannot be started, or the database refuses to be monitored.
/// An absent database is waited for.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let (door, events) = Door::start(Config {
        run_dir: options.run_dir.clone(),
        forwarding_threads: options.forwarding_threads,
        pin: options.pin.clone(),
        clock: Clock::real(),
    })
    .context("starting the datapath")?;
    let door = Arc::new(door);
    let switch = Arc::new(Switch::new(door.clone(), options.version.clone()));
    let nudge = Arc::new(Notify::new());
    let published = door.clone();
    let (host, watch) = Host::new(move |routes| published.datapath().set_routes(routes.clone()));
    let pump = pump(
        door.clone(),
        switch.clone(),
        host.clone(),
        events,
        nudge.clone(),
    );
    let plane = async {
        tokio::select! {
            r = pump => r,
            () = watch => Ok(()),
        }
    };
    let outcome = serve(
        options,
        switch,
        Some(door.clone()),
        host,
        nudge,
        plane,
        shutdown,
    )
    .await;
    door.shutdown();
    outcome
}

/// Runs a switch over any forwarding plane. `pump` hands the plane's events on, and only ends if it
/// fails; `nudge` is told when something may have to be reported.
pub(crate) async fn serve(
    options: Options,
    switch: Arc<Switch>,
    door: Option<Arc<Door>>,
    host: Arc<Host>,
    nudge: Arc<Notify>,
    pump: impl Future<Output = anyhow::Result<()>>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let log = options.log.clone().unwrap_or_else(|| Vlog::new("weir"));
    let (exit, mut exited) = watch::channel(false);
    let socket = ControlSocket::bind(&options.run_dir, "ovs-vswitchd", options.unixctl.as_deref())
        .with_context(|| format!("control socket in {}", options.run_dir.display()))?;
    let _pidfile = PidFile::create(&options.run_dir.join("ovs-vswitchd.pid"), false)?;
    let context = commands::Context {
        switch: switch.clone(),
        door,
        host: host.clone(),
        log,
        version: format!(
            "ovs-vswitchd (Open vSwitch) {} (weir {})",
            options.version,
            env!("CARGO_PKG_VERSION")
        ),
        exit,
        thread_base: Default::default(),
        dummy: options.enable_dummy,
    };
    let driver = Driver::new(options.run_dir.clone());
    let control = socket.serve(Arc::new(move |name: &str, args: &[String]| {
        commands::run(&context, name, args)
    }));
    let outcome = tokio::select! {
        r = follow(&options, &switch, &driver, &host, &nudge) => r,
        r = pump => r,
        () = control => Ok(()),
        () = shutdown => Ok(()),
        _ = exited.wait_for(|e| *e) => Ok(()),
    };
    // Lets the answer to "exit" leave.
    tokio::time::sleep(Duration::from_millis(20)).await;
    driver.close().await;
    switch.close();
    outcome
}

/// Hands the datapath's events to the bridges.
async fn pump(
    door: Arc<Door>,
    switch: Arc<Switch>,
    host: Arc<Host>,
    events: Events,
    nudge: Arc<Notify>,
) -> anyhow::Result<()> {
    // Its successors are unsafe functions; what they want is promised by `EventSource`, which owns
    // what the descriptor belongs to.
    #[allow(deprecated, reason = "the sound use of it that needs no unsafe code")]
    let mut source = AsyncFd::with_interest(EventSource(events), tokio::io::Interest::READABLE)
        .context("waiting for the datapath's events")?;
    loop {
        let mut ready = source
            .readable_mut()
            .await
            .context("waiting for the datapath's events")?;
        // Bounded, so that a flood of packets cannot keep other tasks off this thread.
        for n in 0.. {
            let Some(event) = ready.get_inner_mut().0.try_recv() else {
                ready.clear_ready();
                break;
            };
            let bridge = door.bridge_of(&event).and_then(|name| switch.bridge(&name));
            match &event {
                Event::PortStatus { .. } => nudge.notify_one(),
                Event::NeighbourWanted { device, ip } => host.resolve(device, *ip),
                _ => {}
            }
            if let Some(bridge) = bridge {
                bridge.publish(match event {
                    Event::PacketIn {
                        packet_in,
                        max_len,
                        controller_id,
                        ..
                    } => Async::PacketIn {
                        packet: packet_in,
                        max_len,
                        controller_id,
                        buffer: None,
                    },
                    Event::FlowRemoved { removed, .. } => Async::FlowRemoved(removed),
                    Event::FlowStats { flows, .. } => Async::FlowStats(flows),
                    Event::PortStatus { reason, desc, .. } => Async::PortStatus(reason, desc),
                    Event::FlowUpdate {
                        update,
                        origin,
                        version,
                        ..
                    } => {
                        bridge.publish_update(&update, origin, version);
                        continue;
                    }
                    // Is no bridge's.
                    Event::NeighbourWanted { .. } => continue,
                });
            }
            if n == 255 {
                tokio::task::yield_now().await;
                break;
            }
        }
    }
}

/// Follows the database and reports back, for ever.
async fn follow(
    options: &Options,
    switch: &Arc<Switch>,
    driver: &Driver,
    host: &Host,
    nudge: &Notify,
) -> anyhow::Result<()> {
    let mut session = Session::open_with(
        &options.database,
        DATABASE,
        Default::default(),
        SessionOptions {
            reconnect: true,
            lock: Some("ovs_vswitchd".to_owned()),
            client: ClientOptions {
                tls: options.tls.clone(),
                ..ClientOptions::default()
            },
        },
    )
    .await
    .with_context(|| format!("database {}", options.database))?;
    let read = ReadOptions {
        dummy: options.enable_dummy,
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_statistics = Instant::now();
    let mut next_retry = Instant::now() + RETRY;
    let mut told_of_lock = false;
    let mut reconfigure = true;
    let mut last = None;
    loop {
        if !session.has_lock() {
            if !told_of_lock {
                tracing::warn!(
                    "another switch is running on {}, waiting for it to end",
                    options.database
                );
                told_of_lock = true;
            }
        } else {
            if reconfigure {
                if options.init_database {
                    init_database(&mut session).await;
                }
                let desired = desired::read(session.replica(), read);
                // What the switch writes back is a change too, but none to act on.
                if last.as_ref() != Some(&desired) {
                    let of_row = desired.root.as_ref().and_then(|r| r.tls.clone());
                    driver.set_tls(of_row.as_ref().unwrap_or(&options.controller_tls));
                    switch.configure(desired.clone(), false);
                    // What is new has counters at once.
                    next_statistics = Instant::now();
                    last = Some(desired);
                    driver.sync(switch);
                }
            }
            let interval = last
                .as_ref()
                .and_then(|d| d.root.as_ref())
                .map_or(Duration::from_secs(5), |r| r.stats_interval);
            let statistics = Instant::now() >= next_statistics;
            if statistics {
                next_statistics = Instant::now() + interval;
            }
            if let Err(e) = write_back(options, &mut session, switch, statistics).await {
                tracing::warn!("cannot write to the database: {e}");
            }
        }
        if session.client().is_closed() {
            // Connecting again may take longer than a tick, and must not be begun anew by each.
            let end = Instant::now() + RECONNECT;
            let changed = session.changed();
            tokio::pin!(changed);
            loop {
                tokio::select! {
                    r = &mut changed => {
                        r.context("following the database")?;
                        break;
                    }
                    _ = tick.tick() => housekeeping(switch),
                    () = tokio::time::sleep_until(end) => break,
                }
            }
            reconfigure = true;
            continue;
        }
        reconfigure = tokio::select! {
            changed = session.changed() => {
                changed.context("following the database")?;
                true
            }
            _ = tick.tick() => {
                housekeeping(switch);
                if Instant::now() >= next_retry && switch.has_failures() {
                    next_retry = Instant::now() + RETRY;
                    if let Some(desired) = &last {
                        switch.configure(desired.clone(), true);
                    }
                }
                false
            }
            () = host.links_changed() => {
                switch.plane().look_at_ports();
                if switch.has_failures() && let Some(desired) = &last {
                    // What could not be opened may have come.
                    switch.configure(desired.clone(), true);
                }
                false
            }
            () = nudge.notified() => false,
            () = driver.changed() => false,
        };
    }
}

/// What time brings: ends of flows and learned addresses, fail modes.
fn housekeeping(switch: &Switch) {
    switch.plane().expire();
    for bridge in switch.bridges() {
        bridge.tick();
    }
}

/// Makes the root row where there is none.
async fn init_database(session: &mut Session) {
    if !session.replica().table("Open_vSwitch").is_empty() {
        return;
    }
    let mut t = Transaction::new();
    // Somebody else may have made it since.
    t.raw(serde_json::json!({
        "op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["_uuid"],
        "until": "==", "rows": [], "timeout": 0,
    }));
    t.insert("Open_vSwitch", [("next_cfg", 0i64)]);
    t.comment("weir: initializing the database");
    if let Err(e) = session.transact(t).await {
        tracing::debug!("the root row was not made: {e}");
    }
}

/// Writes what differs between the replica and what the switch has to say.
async fn write_back(
    options: &Options,
    session: &mut Session,
    switch: &Switch,
    statistics: bool,
) -> Result<(), ClientError> {
    let mut t = Transaction::new();
    let db = session.replica();
    for report in switch.report(statistics) {
        let Some(row) = Columns::row(db, report.table, &report.uuid) else {
            continue;
        };
        let columns: Vec<(&str, Datum)> = report
            .columns
            .iter()
            .filter(|(name, out)| row.has(name) && !out.is(row.datum(name)))
            .filter(|(name, out)| {
                // The seconds in it pass by themselves; they are no reason to write.
                statistics
                    || (report.table, **name) != ("Controller", "status")
                    || !out.is_but_for_seconds(row.datum(name))
            })
            .map(|(name, out)| (*name, out.to_datum()))
            .collect();
        if !columns.is_empty() {
            t.update(report.table, report.uuid, columns);
        }
    }
    if let Some(root) = Columns::rows(db, "Open_vSwitch").into_iter().next() {
        let applied = switch
            .state()
            .desired
            .root
            .as_ref()
            .filter(|r| r.uuid == root.uuid())
            .map(|r| r.next_cfg);
        let columns: Vec<(&str, Datum)> =
            root_columns(options, db.schema().version.clone(), applied)
                .into_iter()
                .filter(|(name, out)| root.has(name) && !out.is(root.datum(name)))
                .map(|(name, out)| (name, out.to_datum()))
                .collect();
        if !columns.is_empty() {
            t.update("Open_vSwitch", root.uuid(), columns);
        }
        let ids = root.map("external_ids");
        if let (Some(id), None) = (&options.system_id, ids.get("system-id")) {
            t.mutate(
                "Open_vSwitch",
                root.uuid(),
                "external_ids",
                ovsdb::Mutator::Insert,
                Datum::map([("system-id", id.as_str())]),
            );
        }
    }
    if t.is_empty() {
        return Ok(());
    }
    session.transact(t).await.map(drop)
}

fn root_columns(
    options: &Options,
    db_version: String,
    applied: Option<i64>,
) -> Vec<(&'static str, Out)> {
    let strs =
        |lists: &[&[&str]]| Out::Strs(lists.concat().iter().map(|s| (*s).to_owned()).collect());
    let dummy: &[&str] = if options.enable_dummy {
        DUMMY_KINDS
    } else {
        &[]
    };
    let (system, version) = system();
    let mut out = vec![
        ("ovs_version", Out::Str(options.version.clone())),
        ("db_version", Out::Str(db_version)),
        ("datapath_types", strs(&[&["netdev", "system"]])),
        ("iface_types", strs(&[KINDS, dummy])),
        ("dpdk_initialized", Out::Bool(false)),
        ("dpdk_version", Out::Str("none".to_owned())),
        ("system_type", Out::Str(system)),
        ("system_version", Out::Str(version)),
    ];
    if let Some(n) = applied {
        out.push(("cur_cfg", Out::Int(n)));
    }
    out
}

/// Name and version of the operating system (os-release(5)).
fn system() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
            .map_or_else(|| "unknown".to_owned(), |v| v.trim_matches('"').to_owned())
    };
    (value("ID"), value("VERSION_ID"))
}
