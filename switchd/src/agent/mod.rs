//! A bridge's OpenFlow side: who is connected, in which role, and what they are told.
//!
//! [`Bridge`] is what all connections of a bridge share; [`peer::Peer`] is one connection's own state
//! and answers its messages. Neither does I/O: [`io`] has the tasks that move bytes. Asynchronous
//! messages (packet-ins, removed flows, port changes) are put into each connection's bounded queue;
//! each connection then decides whether its controller wants them.

mod conversation;
pub mod failmode;
pub mod io;
pub mod peer;
pub mod rconn;
pub mod roles;
pub mod target;

use crate::config::desired::{BridgeConf, ControllerConf};
use crate::config::report::{self, ControllerReport};
use crate::plane::Plane;
use crate::switch::RowReport;
use failmode::{FAIL_OPEN_PRIORITY, FailModes, FlowChange};
use openflow::{
    Action, FlowMod, FlowModCommand, FlowRemoved, Instructions, Match, PacketIn, PortDesc, PortNo,
    PortReason, TABLE_ALL,
};
use rconn::{DEFAULT_PROBE, Now, Reconnect};
use roles::Roles;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};

/// Tables that controllers see; one more is kept for the switch's own use.
pub const TABLES: u8 = 254;
/// Asynchronous messages that may wait in front of one connection. Packet-ins beyond are dropped;
/// anything else beyond ends the connection, since a controller must not miss it unknowingly.
pub const ASYNC_QUEUE: usize = 1024;
/// Connections a bridge takes at a time, its controllers apart.
pub const MAX_SERVICE_CONNECTIONS: usize = 128;
/// Messages kept for a slow snooper before it misses some.
const SNOOP_QUEUE: usize = 1024;
/// Cookie of the switch's own rules, by which they are kept out of controllers' sight.
pub const HIDDEN_COOKIE: u64 = 0xfa11_09e4_0000_0001;

/// What controllers are told without having asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Async {
    /// A packet.
    PacketIn {
        /// The packet whole.
        packet: PacketIn,
        /// How many bytes the action asked for.
        max_len: u16,
        /// Which controllers the action named, 0 for the usual ones.
        controller_id: u16,
    },
    /// A flow ended.
    FlowRemoved(FlowRemoved),
    /// A port came, went or changed.
    PortStatus(PortReason, PortDesc),
}

/// Names a connection within its bridge.
pub type ConnId = u64;

/// What a connection's task is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Carry on.
    Run,
    /// Drop the connection and connect again at once; the number makes each request a new one.
    Reconnect(u64),
    /// End.
    Close,
}

struct Subscriber {
    queue: mpsc::Sender<Arc<Async>>,
    overflow: watch::Sender<bool>,
}

/// A controller as configured, and the state its task keeps for the database.
#[derive(Clone)]
pub struct Controller {
    /// As configured.
    pub conf: ControllerConf,
    /// Kept by the task.
    pub status: Arc<Mutex<ControllerStatus>>,
    /// Tells the task.
    pub command: watch::Sender<Command>,
}

/// What a controller's task keeps for the database.
#[derive(Debug, Default)]
pub struct ControllerStatus {
    /// State of an active connection.
    pub reconnect: Option<Reconnect>,
    /// Its connection, while there is one.
    pub conn: Option<ConnId>,
    /// Connections of a passive one.
    pub accepted: Option<usize>,
    /// Why there can be no connection.
    pub problem: Option<String>,
}

/// What connections need to know of their bridge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Datapath id.
    pub datapath_id: u64,
    /// `other_config:dp-desc`.
    pub dp_desc: Option<String>,
    /// `other_config:dp-sn`.
    pub dp_sn: Option<String>,
    /// Allowed versions by name, empty for the default ones.
    pub protocols: Vec<String>,
}

struct Inner {
    identity: Identity,
    fail: FailModes,
    roles: Roles,
    subscribers: BTreeMap<ConnId, Subscriber>,
    next_conn: ConnId,
    controllers: BTreeMap<String, Controller>,
    reconnects: u64,
    dropped_packet_ins: u64,
    /// Primary controllers that speak a version in which unmatched packets go to controllers.
    legacy: BTreeSet<ConnId>,
}

/// A bridge's OpenFlow side.
pub struct Bridge {
    name: String,
    plane: Arc<dyn Plane>,
    version: String,
    origin: std::time::Instant,
    inner: Mutex<Inner>,
    snoop: broadcast::Sender<bytes::Bytes>,
    closed: watch::Sender<bool>,
}

impl Bridge {
    /// The OpenFlow side of a bridge that the plane has.
    pub fn new(name: String, plane: Arc<dyn Plane>, version: String, fail: FailModes) -> Bridge {
        Bridge {
            name,
            plane,
            version,
            origin: std::time::Instant::now(),
            inner: Mutex::new(Inner {
                identity: Identity::default(),
                fail,
                roles: Roles::default(),
                subscribers: BTreeMap::new(),
                next_conn: 1,
                controllers: BTreeMap::new(),
                reconnects: 0,
                dropped_packet_ins: 0,
                legacy: BTreeSet::new(),
            }),
            snoop: broadcast::channel(SNOOP_QUEUE).0,
            closed: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The forwarding plane.
    pub fn plane(&self) -> &dyn Plane {
        &*self.plane
    }

    /// What the switch calls itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Time since the bridge was made, the origin of its connections' times.
    pub fn now(&self) -> Now {
        self.origin.elapsed()
    }

    /// What connections need to know.
    pub fn identity(&self) -> Identity {
        self.lock().identity.clone()
    }

    /// Applies what the database says. A changed datapath id or version list makes every controller
    /// connect anew, since it was told otherwise.
    pub fn configure(&self, conf: &BridgeConf, datapath_id: u64) {
        let identity = Identity {
            datapath_id,
            dp_desc: conf.dp_desc.clone(),
            dp_sn: conf.dp_sn.clone(),
            protocols: conf.protocols.clone(),
        };
        let mut inner = self.lock();
        let renamed = inner.identity != Identity::default() && inner.identity != identity;
        inner.identity = identity;
        inner.controllers.retain(|target, c| {
            let keep = conf
                .controllers
                .get(target)
                .is_some_and(|new| new.service == c.conf.service);
            if !keep {
                tracing::info!("{}: removed controller \"{target}\"", self.name);
                let _ = c.command.send(Command::Close);
            }
            keep
        });
        for (target, new) in &conf.controllers {
            match inner.controllers.get_mut(target) {
                Some(c) => {
                    if c.conf != *new {
                        let mut status = c.status.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(r) = &mut status.reconnect {
                            r.set_limits(new.max_backoff, new.probe);
                        }
                    }
                    c.conf = new.clone();
                }
                None => {
                    tracing::info!(
                        "{}: added {} controller \"{target}\"",
                        self.name,
                        if new.service { "service" } else { "primary" }
                    );
                    inner.controllers.insert(
                        target.clone(),
                        Controller {
                            conf: new.clone(),
                            status: Arc::default(),
                            command: watch::Sender::new(Command::Run),
                        },
                    );
                }
            }
        }
        let primary = conf.controllers.values().any(|c| !c.service);
        let change = inner.fail.configure(conf.fail_mode, primary);
        drop(inner);
        self.change_flows(change);
        if renamed {
            self.reconnect();
        }
    }

    /// The controllers, for the task that starts their tasks.
    pub fn controllers(&self) -> Vec<Controller> {
        self.lock().controllers.values().cloned().collect()
    }

    /// One controller's present settings; `None` once it was removed.
    pub fn controller_conf(&self, target: &str) -> Option<ControllerConf> {
        self.lock().controllers.get(target).map(|c| c.conf.clone())
    }

    /// Drops all controllers' connections; they connect again at once.
    pub fn reconnect(&self) {
        let mut inner = self.lock();
        inner.reconnects += 1;
        let n = inner.reconnects;
        for c in inner.controllers.values() {
            let _ = c.command.send(Command::Reconnect(n));
        }
    }

    /// Ends every connection and listener.
    pub fn close(&self) {
        let inner = self.lock();
        for c in inner.controllers.values() {
            let _ = c.command.send(Command::Close);
        }
        self.closed.send_replace(true);
    }

    /// Turns true when the bridge goes.
    pub fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Enters a connection: its id, its queue of asynchronous messages, and a flag that turns true
    /// when it must end because that queue ran over.
    pub fn join(&self) -> (ConnId, mpsc::Receiver<Arc<Async>>, watch::Receiver<bool>) {
        let (tx, rx) = mpsc::channel(ASYNC_QUEUE);
        let overflow = watch::Sender::new(false);
        let flag = overflow.subscribe();
        let mut inner = self.lock();
        let id = inner.next_conn;
        inner.next_conn += 1;
        inner.subscribers.insert(
            id,
            Subscriber {
                queue: tx,
                overflow,
            },
        );
        (id, rx, flag)
    }

    /// Forgets a connection.
    pub fn leave(&self, id: ConnId) {
        let mut inner = self.lock();
        inner.subscribers.remove(&id);
        inner.roles.leave(id);
        if inner.legacy.remove(&id) && inner.legacy.is_empty() {
            self.plane.set_legacy(&self.name, false);
        }
    }

    /// Tells which version a connection speaks: before OpenFlow 1.3 packets that no rule matches go
    /// to the controllers, tools and service controllers apart.
    pub fn speaks(&self, id: ConnId, kind: peer::Kind, version: u8) {
        let mut inner = self.lock();
        if kind == peer::Kind::Primary && version < openflow::wire::OF13 {
            inner.legacy.insert(id);
            self.plane.set_legacy(&self.name, true);
        }
    }

    /// Runs `f` on the roles of the bridge's connections.
    pub fn with_roles<T>(&self, f: impl FnOnce(&mut Roles) -> T) -> T {
        f(&mut self.lock().roles)
    }

    /// Tells every connection.
    pub fn publish(&self, event: Async) {
        let event = Arc::new(event);
        let mut dropped = 0;
        let mut inner = self.lock();
        for s in inner.subscribers.values() {
            if s.queue.try_send(event.clone()).is_err() {
                match *event {
                    Async::PacketIn { .. } => dropped += 1,
                    _ => {
                        s.overflow.send_replace(true);
                    }
                }
            }
        }
        inner.dropped_packet_ins += dropped;
    }

    /// Packet-ins that found a connection's queue full.
    pub fn dropped_packet_ins(&self) -> u64 {
        self.lock().dropped_packet_ins
    }

    /// Whether anyone snoops.
    pub fn is_snooped(&self) -> bool {
        self.snoop.receiver_count() > 0
    }

    /// Lets snoopers see a message's bytes.
    pub fn snoop(&self, bytes: &[u8]) {
        if self.is_snooped() && !bytes.is_empty() {
            let _ = self.snoop.send(bytes::Bytes::copy_from_slice(bytes));
        }
    }

    /// A snooper's queue.
    pub fn snooped(&self) -> broadcast::Receiver<bytes::Bytes> {
        self.snoop.subscribe()
    }

    /// Fails open or recovers, as the controllers' state asks; to be called about once a second.
    pub fn tick(&self) {
        let now = self.now();
        let mut inner = self.lock();
        let mut gone: Option<Duration> = None;
        let mut probe = Duration::ZERO;
        for c in inner.controllers.values().filter(|c| !c.conf.service) {
            let status = c.status.lock().unwrap_or_else(PoisonError::into_inner);
            let d = match (&status.reconnect, status.accepted) {
                (Some(r), _) => r.disconnected_for(now),
                (None, Some(n)) if n > 0 => Duration::ZERO,
                _ => now,
            };
            gone = Some(gone.map_or(d, |g| g.min(d)));
            probe = probe.max(c.conf.probe.unwrap_or(DEFAULT_PROBE));
        }
        let change = gone.and_then(|gone| {
            let change = inner.fail.tick(gone, probe);
            if change == Some(FlowChange::FailOpen) {
                tracing::warn!(
                    target: "switchd::agent::failmode",
                    "{}: could not connect to controller for {} seconds, failing open",
                    self.name,
                    gone.as_secs()
                );
            }
            change
        });
        drop(inner);
        self.change_flows(change);
    }

    fn change_flows(&self, change: Option<FlowChange>) {
        let Some(change) = change else { return };
        let delete = |cookie: Option<u64>| FlowMod {
            command: FlowModCommand::Delete,
            table: TABLE_ALL,
            cookie: cookie.unwrap_or(0),
            cookie_mask: cookie.map_or(0, |_| u64::MAX),
            ..FlowMod::add(Match::new(), Instructions::default())
        };
        let normal = |priority: u16, cookie: u64| FlowMod {
            priority,
            cookie,
            ..FlowMod::add(
                Match::new(),
                Instructions::apply(vec![Action::Output {
                    port: PortNo::NORMAL,
                    max_len: 0,
                }]),
            )
        };
        let mods = match change {
            FlowChange::Flush { normal: false } => vec![delete(None)],
            FlowChange::Flush { normal: true } => vec![delete(None), normal(0, 0)],
            FlowChange::FailOpen => {
                vec![delete(None), normal(FAIL_OPEN_PRIORITY, HIDDEN_COOKIE)]
            }
            FlowChange::Recover => {
                tracing::info!(
                    target: "switchd::agent::failmode",
                    "{}: no longer in fail-open mode", self.name
                );
                vec![delete(Some(HIDDEN_COOKIE))]
            }
        };
        if let Err((i, e)) = self.plane.flow_mods(&self.name, &mods) {
            tracing::error!("{}: {change:?}: step {i} failed: {e}", self.name);
        }
    }

    /// What the rows of the controllers should read.
    pub fn report_controllers(&self) -> Vec<RowReport> {
        let now = self.now();
        let inner = self.lock();
        inner
            .controllers
            .values()
            .map(|c| {
                let status = c.status.lock().unwrap_or_else(PoisonError::into_inner);
                let mut r = ControllerReport {
                    notes: c.conf.notes.clone(),
                    ..ControllerReport::default()
                };
                r.notes.extend(status.problem.clone());
                if let Some(reconnect) = &status.reconnect {
                    r.connected = reconnect.is_connected();
                    r.state = Some(reconnect.state().name());
                    r.last_error = reconnect.last_error().map(str::to_owned);
                    r.since_connect = reconnect.since_connect(now);
                    r.since_disconnect = reconnect.since_disconnect(now);
                }
                if let Some(n) = status.accepted {
                    r.connected = n > 0;
                    r.connections = Some(n);
                }
                if r.connected {
                    r.role = Some(match status.conn.map(|id| inner.roles.role(id)) {
                        Some(openflow::Role::Primary) => "master",
                        Some(openflow::Role::Secondary) => "slave",
                        _ => "other",
                    });
                }
                RowReport {
                    table: "Controller",
                    uuid: c.conf.uuid,
                    columns: report::controller(&r),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diff::tests::bridge as conf;
    use crate::plane::fake::Fake;
    use crate::plane::{BridgeParams, Plane};

    #[test]
    fn a_bridge_fails_open_and_recovers_with_hidden_flows() {
        let fake = Arc::new(Fake::default());
        fake.add_bridge("br0", &BridgeParams::default()).unwrap();
        let b = Bridge::new("br0".into(), fake.clone(), "3.1.0".into(), FailModes::new());
        let mut c = conf("br0", vec![]);
        c.controllers.insert(
            "tcp:192.0.2.1:6653".into(),
            ControllerConf {
                uuid: ovsdb::Uuid::new_v4(),
                target: "tcp:192.0.2.1:6653".into(),
                max_backoff: Duration::from_secs(8),
                probe: Some(Duration::from_secs(5)),
                service: false,
                rate_limit: None,
                enable_async: true,
                notes: Vec::new(),
            },
        );
        b.configure(&c, 7);
        let flows = || fake.bridges()["br0"].flows.clone();
        assert!(flows().is_empty(), "a controller is to fill the table");
        let status = b.controllers()[0].status.clone();
        status.lock().unwrap().accepted = Some(1);
        b.tick();
        assert!(flows().is_empty());
        let mut inner = b.lock();
        let change = inner
            .fail
            .tick(Duration::from_secs(15), Duration::from_secs(5));
        drop(inner);
        b.change_flows(change);
        let now = flows();
        assert_eq!(now.len(), 1);
        assert_eq!((now[0].cookie, now[0].priority), (HIDDEN_COOKIE, u16::MAX));
        b.tick();
        assert!(flows().is_empty(), "a controller is there again");
    }
}
