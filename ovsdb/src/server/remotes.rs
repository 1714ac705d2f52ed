//! The remotes of a server: sockets it listens on and peers it calls (ovsdb-server(1),
//! `--remote`), added and removed while it runs.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::Place;
use super::{Shared, lock};
use crate::engine::ClientId;
use crate::probe;
use crate::target::Target;
use crate::transport::{self, Listener};

/// First wait before a peer is called, or a socket tried to be listened on, again; it doubles up to
/// the remote's `max_backoff`.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest such wait, where nothing else is said.
pub const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// Longest wait after accepting failed, as it does for want of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// How connections over a remote are treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Silence after which a client is probed; `None`: it never is.
    pub probe: Option<Duration>,
    /// Longest wait between two attempts to connect or to listen.
    pub max_backoff: Duration,
    /// DSCP of packets over TCP.
    pub dscp: u8,
}

/// DSCP where nothing else is said: that of network control, as in Open vSwitch.
pub const DEFAULT_DSCP: u8 = 48;

impl RemoteOptions {
    /// What holds for a target where nothing else is said.
    pub fn of(target: &Target) -> RemoteOptions {
        RemoteOptions {
            probe: target.needs_probes().then_some(probe::DEFAULT_INTERVAL),
            max_backoff: MAX_BACKOFF,
            dscp: DEFAULT_DSCP,
        }
    }
}

/// What connections of a remote are told.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) options: RemoteOptions,
    /// Counts the times that all were asked to connect anew.
    pub(super) reconnects: u64,
    /// The remote is no more.
    pub(super) closed: bool,
}

/// Who asked for a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The command line, or a command.
    Given,
    /// A column of a database.
    Column,
}

/// A remote at work.
pub(super) struct Remote {
    pub(super) state: Arc<RemoteState>,
    pub(super) origin: Origin,
    task: JoinHandle<()>,
}

/// What a remote's task, its connections and those who watch it share.
pub(super) struct RemoteState {
    /// The target's text.
    pub(super) name: String,
    control: watch::Sender<Control>,
    standing: Mutex<Standing>,
    /// Told of every change of the standing of any remote.
    events: Arc<Notify>,
}

/// How a remote fares.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Who is connected.
    pub(super) clients: BTreeSet<ClientId>,
    /// It is listened on.
    pub(super) listening: bool,
    /// The TCP port it is listened on.
    pub(super) local: Option<std::net::SocketAddr>,
    /// It is being called.
    pub(super) calling: bool,
    /// When the last connection came.
    pub(super) connected: Option<Instant>,
    /// When the last connection went.
    pub(super) disconnected: Option<Instant>,
    /// What went wrong last.
    pub(super) error: Option<String>,
}

impl RemoteState {
    fn change(&self, f: impl FnOnce(&mut Standing)) {
        f(&mut lock(&self.standing));
        self.events.notify_one();
    }

    /// How it fares now.
    pub(super) fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    /// What its connections are told, from now on.
    pub(super) fn control(&self) -> watch::Receiver<Control> {
        self.control.subscribe()
    }

    /// Somebody has come.
    pub(super) fn arrived(&self, id: ClientId) {
        self.change(|s| {
            s.clients.insert(id);
            s.calling = false;
            s.connected = Some(Instant::now());
            s.error = None;
        });
    }

    /// Somebody has gone.
    pub(super) fn left(&self, id: ClientId, why: &str) {
        self.change(|s| {
            s.clients.remove(&id);
            s.disconnected = Some(Instant::now());
            s.error = Some(why.to_owned());
        });
    }

    fn failed(&self, e: &io::Error) {
        self.change(|s| {
            s.calling = false;
            s.listening = false;
            s.error = Some(e.to_string());
        });
    }

    /// Changes the options of the remote, and of the connections there are.
    pub(super) fn set_options(&self, options: &RemoteOptions) {
        self.control.send_if_modified(|c| {
            let other = c.options != *options;
            if other {
                // What connections there are keep the mark they have: they are made anew.
                c.reconnects += u64::from(c.options.dscp != options.dscp);
                c.options = options.clone();
            }
            other
        });
    }

    /// Ends all connections; peers that are called are called again.
    pub(super) fn reconnect(&self) {
        self.control.send_modify(|c| c.reconnects += 1);
    }

    fn dscp(&self) -> u8 {
        self.control.borrow().options.dscp
    }

    async fn pause(&self, wait: &mut Duration) {
        let max = self.control.borrow().options.max_backoff;
        tokio::time::sleep((*wait).min(max)).await;
        *wait = (*wait * 2).min(max);
    }
}

impl Remote {
    /// Begins to serve a target. The second value tells how the first attempt to listen went;
    /// after one that failed there are more.
    pub(super) fn start(
        shared: &Arc<Shared>,
        target: Target,
        options: RemoteOptions,
        origin: Origin,
    ) -> (Remote, oneshot::Receiver<io::Result<()>>) {
        let (first, tried) = oneshot::channel();
        let (control, _) = watch::channel(Control {
            options,
            reconnects: 0,
            closed: false,
        });
        let state = Arc::new(RemoteState {
            name: target.to_string(),
            control,
            standing: Mutex::default(),
            events: shared.events.clone(),
        });
        let (s, r) = (shared.clone(), state.clone());
        let target = target.map_path(|p| shared.run_dir.join(p));
        let task = shared.runtime.spawn(async move {
            if target.is_active() {
                _ = first.send(Ok(()));
                call(&s, &r, &target).await;
            } else {
                listen(&s, &r, &target, first).await;
            }
        });
        let remote = Remote {
            state,
            origin,
            task,
        };
        (remote, tried)
    }

    /// Ends it and its connections. Once the returned task has ended its socket is closed, too.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.state.control.send_modify(|c| c.closed = true);
        self.task.abort();
        self.task
    }
}

/// Listens, for ever.
async fn listen(
    shared: &Arc<Shared>,
    state: &Arc<RemoteState>,
    target: &Target,
    first: oneshot::Sender<io::Result<()>>,
) {
    let mut first = Some(first);
    let mut tell = move |result| {
        if let Some(first) = first.take() {
            _ = first.send(result);
        }
    };
    let mut wait = BACKOFF_MIN;
    loop {
        match Listener::bind(target, &shared.tls).await {
            Ok(listener) => {
                let local = listener.local_addr();
                state.change(|s| {
                    s.listening = true;
                    s.local = local;
                    s.error = None;
                });
                tracing::info!("{target}: listening");
                tell(Ok(()));
                accept_all(shared, state, target, &listener).await;
            }
            Err(e) => {
                tracing::error!("{target}: listen failed: {e}");
                state.failed(&e);
                tell(Err(e));
            }
        }
        state.pause(&mut wait).await;
    }
}

async fn accept_all(
    shared: &Arc<Shared>,
    state: &Arc<RemoteState>,
    target: &Target,
    listener: &Listener,
) {
    let kind = match target {
        Target::PassiveSsl { .. } => "ssl",
        _ => "tcp",
    };
    let mut wait = Duration::ZERO;
    loop {
        let (caller, address) = match listener.accept().await {
            Ok(come) => come,
            Err(e) => {
                // Waiting longer and longer, and telling once, keeps the log short and others served.
                if wait.is_zero() {
                    tracing::warn!("{target}: accepting a connection failed: {e}");
                }
                wait = (wait * 2).clamp(Duration::from_millis(10), ACCEPT_BACKOFF);
                tokio::time::sleep(wait).await;
                continue;
            }
        };
        wait = Duration::ZERO;
        let Some(place) = Place::take(shared, state) else {
            continue;
        };
        let name = match address {
            Some(a) => format!("{kind}:{a}"),
            None => format!("{target}#{}", place.id()),
        };
        let dscp = state.dscp();
        tokio::spawn(async move {
            match caller.greet(dscp).await {
                Ok(connection) => place.serve(connection, name).await,
                Err(e) => tracing::warn!("{name}: connection dropped: {e}"),
            }
        });
    }
}

/// Keeps a connection to a client that listens.
async fn call(shared: &Arc<Shared>, state: &Arc<RemoteState>, target: &Target) {
    let mut wait = BACKOFF_MIN;
    loop {
        state.change(|s| s.calling = true);
        match transport::dial(target, &shared.tls, state.dscp()).await {
            Ok(connection) => {
                if let Some(place) = Place::take(shared, state) {
                    tracing::info!("{target}: connected");
                    let began = Instant::now();
                    place.serve(connection, target.to_string()).await;
                    // A peer that stayed for a while is called again soon.
                    if began.elapsed() >= wait {
                        wait = BACKOFF_MIN;
                    }
                }
            }
            Err(e) => {
                tracing::debug!("{target}: connection attempt failed: {e}");
                state.failed(&e);
            }
        }
        state.change(|s| s.calling = false);
        state.pause(&mut wait).await;
    }
}
