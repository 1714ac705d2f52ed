//! A bridge's OpenFlow side: who is connected, in which role, and what they are told.
//!
//! [`Bridge`] is what all connections of a bridge share; [`peer::Peer`] is one connection's own state
//! and answers its messages. Neither does I/O: [`io`] has the tasks that move bytes. Asynchronous
//! messages (packet-ins, removed flows, port changes) are put into each connection's bounded queue;
//! each connection then decides whether its controller wants them.

pub mod buffers;
pub mod conversation;
mod fail;
pub mod failmode;
pub mod fair;
pub mod in_band;
pub mod io;
pub mod peer;
pub mod rconn;
pub mod roles;
pub mod target;
mod tell;
mod tlv;

use crate::config::desired::{BridgeConf, ControllerConf};
use crate::config::report::{self, ControllerReport};
use crate::plane::{Change, Plane};
use crate::switch::RowReport;
use buffers::{Buffers, Waiting};
use failmode::FailModes;
use fair::FairStats;
use openflow::{
    FlowMod, FlowRemoved, FlowStats, Message, OfError, PacketIn, PortDesc, PortReason, RoleMsg,
    RoleReason, TlvMap, TlvTableCommand,
};
use peer::Monitors;
use rconn::{Now, Reconnect};
use roles::Roles;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tell::StatusReason;
use tlv::TlvTable;
use tokio::sync::{Notify, broadcast, mpsc, watch};

/// Tables that controllers see; one more is kept for the switch's own use.
pub const TABLES: u8 = 254;
/// Asynchronous messages that may wait in front of one connection. Packet-ins beyond are dropped;
/// anything else beyond ends the connection, since a controller must not miss it unknowingly.
pub const ASYNC_QUEUE: usize = 1024;
/// Connections a bridge takes at a time, its controllers apart.
pub const MAX_SERVICE_CONNECTIONS: usize = 128;
/// `other_config:bundle-idle-timeout` where it is not set.
pub const DEFAULT_BUNDLE_IDLE: Duration = Duration::from_secs(10);
/// Messages kept for a slow snooper before it misses some.
const SNOOP_QUEUE: usize = 1024;
/// The first cookie of the switch's own rules, by which they are kept out of controllers' sight: that of the
/// fail-open rule.
pub const HIDDEN_COOKIE: u64 = 0xfa11_09e4_0000_0001;
/// Cookies that agree with [`HIDDEN_COOKIE`] under this mask are the switch's own.
pub const HIDDEN_MASK: u64 = 0xffff_ffff_ffff_0000;

/// Whether a cookie is that of a rule of the switch's own.
pub fn is_hidden(cookie: u64) -> bool {
    (cookie ^ HIDDEN_COOKIE) & HIDDEN_MASK == 0
}

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
        /// Under which id the packet waits in the switch, if it does.
        buffer: Option<u32>,
    },
    /// A flow ended.
    FlowRemoved(FlowRemoved),
    /// Flows passed thresholds of their stat-trigger instructions.
    FlowStats(Vec<FlowStats>),
    /// A port came, went or changed.
    PortStatus(PortReason, PortDesc),
    /// A controller is no longer primary, since another is now.
    Demoted {
        /// Which connection.
        who: ConnId,
        /// Why.
        reason: RoleReason,
        /// What it is now.
        role: RoleMsg,
    },
    /// Groups or meters were changed by a controller, for others to know.
    Forward {
        /// By which connection.
        from: ConnId,
        /// Transaction id of the change.
        xid: u32,
        /// The change.
        message: Message,
    },
    /// A controller's connection came, went or changed its role.
    ControllerStatus(openflow::ControllerStatus),
}

/// Names a connection within its bridge, from 1 on.
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

/// Who asks for a change, as the forwarding plane is told it: a connection and a transaction id. 0 is the
/// switch itself.
pub fn origin(id: ConnId, xid: u32) -> u64 {
    id << 32 | u64::from(xid)
}

/// The connection and transaction id of an [`origin`].
pub fn who(origin: u64) -> (ConnId, u32) {
    (origin >> 32, origin as u32)
}

struct Subscriber {
    kind: peer::Kind,
    /// `PROTOCOL:ADDRESS:PORT` of the other side.
    uri: String,
    queue: mpsc::Sender<Arc<Async>>,
    overflow: watch::Sender<bool>,
    monitors: Arc<Mutex<Monitors>>,
    wake: Arc<Notify>,
}

/// What a connection gets when it joins.
pub struct Membership {
    /// Its name.
    pub id: ConnId,
    /// Its asynchronous messages.
    pub queue: mpsc::Receiver<Arc<Async>>,
    /// Turns true when it must end because it was told too much.
    pub overflow: watch::Receiver<bool>,
    /// Its flow monitors.
    pub monitors: Arc<Mutex<Monitors>>,
    /// Says that its flow monitors have something to tell.
    pub wake: Arc<Notify>,
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
    /// Its `rate_limit`, for connections that are open.
    pub limit: watch::Sender<Option<(u32, u32)>>,
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
    /// Packet-ins that found too many waiting to be written.
    pub dropped: u64,
    /// What the limits on misses and on other packet-ins did.
    pub limits: Option<[FairStats; 2]>,
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
    /// `other_config:packet-buffers`.
    pub packet_buffers: usize,
}

struct Inner {
    identity: Identity,
    bundle_idle: Duration,
    fail: FailModes,
    roles: Roles,
    subscribers: BTreeMap<ConnId, Subscriber>,
    next_conn: ConnId,
    controllers: BTreeMap<String, Controller>,
    reconnects: u64,
    dropped_packet_ins: u64,
    /// Primary controllers that speak a version in which unmatched packets go to controllers.
    legacy: BTreeSet<ConnId>,
    buffers: Buffers,
    tlv: TlvTable,
    /// `OFPC_FRAG_*`.
    fragments: u16,
    /// Connections with flow monitors.
    watchers: usize,
    /// The rules of the switch's own that are to be in the tables: those of in-band control...
    in_band: Vec<FlowMod>,
    /// ...and that of a bridge that failed open.
    fail_open: Option<FlowMod>,
    in_band_queue: Option<u32>,
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
                bundle_idle: DEFAULT_BUNDLE_IDLE,
                fail,
                roles: Roles::default(),
                subscribers: BTreeMap::new(),
                next_conn: 1,
                controllers: BTreeMap::new(),
                reconnects: 0,
                dropped_packet_ins: 0,
                legacy: BTreeSet::new(),
                buffers: Buffers::default(),
                tlv: TlvTable::default(),
                fragments: 0,
                watchers: 0,
                in_band: Vec::new(),
                fail_open: None,
                in_band_queue: None,
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
            packet_buffers: conf.packet_buffers,
        };
        let mut inner = self.lock();
        inner.bundle_idle = conf.bundle_idle;
        inner.in_band_queue = conf.in_band_queue;
        inner.buffers.set_limit(conf.packet_buffers);
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
        inner.reconnects += 1;
        let anew = inner.reconnects;
        for (target, new) in &conf.controllers {
            match inner.controllers.get_mut(target) {
                Some(c) => {
                    // What a connection was made with cannot be changed under it.
                    let made_with = |c: &ControllerConf| (c.dscp, c.auxiliary);
                    if made_with(&c.conf) != made_with(new) {
                        let _ = c.command.send(Command::Reconnect(anew));
                    }
                    if c.conf != *new {
                        let mut status = c.status.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(r) = &mut status.reconnect {
                            r.set_limits(new.max_backoff, new.probe);
                        }
                    }
                    if c.conf.rate_limit != new.rate_limit {
                        c.limit.send_replace(new.rate_limit);
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
                            limit: watch::Sender::new(new.rate_limit),
                        },
                    );
                }
            }
        }
        let primary = conf.controllers.values().any(|c| !c.service);
        let change = inner.fail.configure(conf.fail_mode, primary);
        drop(inner);
        self.change_flows(change);
        self.refresh_in_band();
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

    /// Enters a connection of a controller or tool at `uri`.
    pub fn join(&self, kind: peer::Kind, uri: &str) -> Membership {
        let (tx, queue) = mpsc::channel(ASYNC_QUEUE);
        let overflow = watch::Sender::new(false);
        let flag = overflow.subscribe();
        let mut inner = self.lock();
        let id = inner.next_conn;
        inner.next_conn += 1;
        let monitors: Arc<Mutex<Monitors>> = Arc::default();
        let wake = Arc::new(Notify::new());
        let subscriber = Subscriber {
            kind,
            uri: uri.to_owned(),
            queue: tx,
            overflow,
            monitors: monitors.clone(),
            wake: wake.clone(),
        };
        inner.subscribers.insert(id, subscriber);
        drop(inner);
        self.tell_status(id, StatusReason::Channel, true);
        Membership {
            id,
            queue,
            overflow: flag,
            monitors,
            wake,
        }
    }

    /// Forgets a connection.
    pub fn leave(&self, id: ConnId) {
        self.tell_status(id, StatusReason::Channel, false);
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

    /// Makes changes of flows and groups, all or none.
    ///
    /// # Errors
    /// Which one failed and why.
    pub fn change(&self, changes: &[Change], origin: u64) -> Result<(), (usize, OfError)> {
        if changes.is_empty() {
            return Ok(());
        }
        self.plane.changes_atomic(&self.name, changes, origin)?;
        self.restore_hidden(changes);
        Ok(())
    }

    /// Makes changes one by one, visible together, each with who asks for it; those that failed and why.
    pub fn change_each(&self, changes: &[(u64, Change)]) -> Vec<(usize, OfError)> {
        let failed = self.plane.changes(&self.name, changes);
        self.restore_hidden(changes.iter().map(|(_, c)| c));
        failed
    }

    /// How fragments are treated, `OFPC_FRAG_*`.
    pub fn fragments(&self) -> u16 {
        self.lock().fragments
    }

    /// Treats fragments so. As in Open vSwitch a way that there is not leaves things as they are: the answer
    /// to a later question tells.
    pub fn set_fragments(&self, mode: u16) {
        let mut inner = self.lock();
        if inner.fragments != mode {
            match self.plane.set_fragments(&self.name, mode) {
                Ok(()) => inner.fragments = mode,
                Err(e) => tracing::warn!("{}: {e}", self.name),
            }
        }
    }

    /// How long a bundle may lie untouched.
    pub fn bundle_idle(&self) -> Duration {
        self.lock().bundle_idle
    }

    /// Takes a packet that waits out of its buffer.
    ///
    /// # Errors
    /// There is none under that id.
    pub fn take_buffer(&self, id: u32, now: Now) -> Result<Waiting, OfError> {
        self.lock().buffers.take(id, now)
    }

    /// Changes which tunnel options are fields.
    ///
    /// # Errors
    /// As `TlvTable::change`.
    pub fn tlv_table_mod(&self, command: TlvTableCommand, maps: &[TlvMap]) -> Result<(), OfError> {
        use openflow::FlowFilter;
        // Which fields flows use is asked only when some are to lose their option.
        let mut used = BTreeSet::new();
        if command != TlvTableCommand::Add {
            for f in self.plane.flow_stats(&self.name, &FlowFilter::default()) {
                let actions = f.instructions.apply.iter().chain(&f.instructions.write);
                tlv::fields_of(&f.matching, actions, &mut |n| {
                    used.insert(n);
                });
            }
        }
        let mut state = self.lock();
        state
            .tlv
            .change(command, maps, |field| used.contains(&field))?;
        self.plane.set_tunnel_options(&self.name, state.tlv.maps());
        Ok(())
    }

    /// Whether the tunnel options that flow-mods use are there, and what failed where they are not.
    ///
    /// # Errors
    /// As `TlvTable::check`.
    pub fn check_options(&self, m: &FlowMod) -> Result<(), OfError> {
        self.lock().tlv.check(m)
    }

    /// Which tunnel options are fields.
    pub fn tlv_table(&self) -> Message {
        let maps = self.lock().tlv.maps();
        Message::TlvTableReply(tlv::SPACE as u32, tlv::FIELDS, maps)
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

    /// Whether the switch has put rules of its own into the tables.
    pub fn has_hidden_flows(&self) -> bool {
        let inner = self.lock();
        inner.fail_open.is_some() || !inner.in_band.is_empty()
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
                r.limits = status.limits;
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
                queue_size: 100,
                dscp: 48,
                auxiliary: 0,
                in_band: false,
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
