//! The OpenFlow controller: a network one can see and program.
//!
//! * [`southbound`] — connections of switches, around the `openflow` session
//! * [`inventory`], [`topology`] — what is known: switches and ports; links and hosts
//! * [`apps`] — applications, without I/O: the learning switch
//! * [`flows`], [`store`] — named flows: their JSON, and on disk
//! * [`hub`] — what all of these share, and the changes of named flows
//! * `rest` — `/api/v1`, Ryu's `/stats`, `/metrics` and the page
//!
//! It knows switches only through OpenFlow: any OpenFlow 1.3 switch will do.
//!
//! ```no_run
//! # async fn example() -> Result<(), controller::Error> {
//! let options = controller::Options::new("/var/lib/weir/controller.redb", "/run/weir/rest.token");
//! let controller = controller::Controller::bind(options).await?;
//! println!("REST on {}", controller.addresses().rest);
//! controller.run(std::future::pending()).await
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod apps;
pub mod cookie;
pub mod flows;
pub mod hub;
pub mod inventory;
pub mod packet;
pub mod rest;
pub mod southbound;
pub mod store;
pub mod switch;
pub mod topology;

use crate::apps::LearningSwitchConfig;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long connections have to end when the controller stops.
const STOP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// How a controller is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where switches connect: 127.0.0.1:6653, and 6633, the number older documents use.
    pub openflow: Vec<SocketAddr>,
    /// Where REST and the page are served: 127.0.0.1:8080.
    pub rest: SocketAddr,
    /// The store's file; made if it is not there.
    pub store: PathBuf,
    /// The token's file; made, mode 0600, if it is not there.
    pub token_file: PathBuf,
    /// Whether REST asks for the token. Without, only loopback addresses can be served.
    pub rest_auth: bool,
    /// Whether the learning switch runs.
    pub learn: bool,
    /// Its settings.
    pub learning: LearningSwitchConfig,
}

impl Options {
    /// The documented values, with these two files.
    pub fn new(store: impl Into<PathBuf>, token_file: impl Into<PathBuf>) -> Options {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Options {
            openflow: vec![local(6653), local(6633)],
            rest: local(8080),
            store: store.into(),
            token_file: token_file.into(),
            rest_auth: true,
            learn: true,
            learning: LearningSwitchConfig::default(),
        }
    }
}

/// Where a controller listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For switches.
    pub openflow: Vec<SocketAddr>,
    /// For REST.
    pub rest: SocketAddr,
}

/// Why a controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("the controller cannot listen on {address} ({what}): {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The token file cannot be used.
    #[error("the token file {path}: {source}")]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// REST without token to the world.
    #[error(
        "REST without authentication is for loopback addresses; {0} is not one: turn authentication on"
    )]
    OpenRest(SocketAddr),
}

/// A controller that listens.
pub struct Controller {
    options: Arc<Options>,
    addresses: Addresses,
    openflow: Vec<TcpListener>,
    rest: TcpListener,
    token: Option<rest::Token>,
    hub: Arc<hub::Hub>,
}

impl Controller {
    /// Opens the store, reads or makes the token, and listens; nothing is accepted yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bind(options: Options) -> Result<Controller, Error> {
        if !options.rest_auth && !options.rest.ip().is_loopback() {
            return Err(Error::OpenRest(options.rest));
        }
        let mut openflow = Vec::new();
        for a in &options.openflow {
            openflow.push(listen(*a, "OpenFlow").await?);
        }
        let rest = listen(options.rest, "REST").await?;
        let (path, token_path, auth) = (
            options.store.clone(),
            options.token_file.clone(),
            options.rest_auth,
        );
        let opened = tokio::task::spawn_blocking(move || {
            let store = store::Store::open(&path)?;
            let token = if auth {
                Some(
                    rest::Token::load_or_create(&token_path).map_err(|source| Error::Token {
                        path: token_path,
                        source,
                    })?,
                )
            } else {
                None
            };
            let mut secret = [0; 32];
            secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
            secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
            let topology = topology::Topology::new(Instant::now(), secret);
            Ok::<_, Error>((hub::Hub::new(store, topology)?, token))
        });
        let (hub, token) = opened.await.map_err(|e| {
            store::StoreError::Access(Box::new(redb::Error::Io(std::io::Error::other(e))))
        })??;
        let addresses = Addresses {
            openflow: openflow
                .iter()
                .zip(&options.openflow)
                .map(|(l, a)| l.local_addr().unwrap_or(*a))
                .collect(),
            rest: rest.local_addr().unwrap_or(options.rest),
        };
        Ok(Controller {
            options: Arc::new(options),
            addresses,
            openflow,
            rest,
            token,
            hub: Arc::new(hub),
        })
    }

    /// Where it listens: the real ports where 0 was asked for.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The shared state, to look into.
    pub fn hub(&self) -> Arc<hub::Hub> {
        self.hub.clone()
    }

    /// Serves until `shutdown`, then closes all connections; flows stay on the switches.
    ///
    /// # Errors
    /// None today; what ends a running controller is `shutdown` alone.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let (stop, stopped) = watch::channel(false);
        let permits = Arc::new(Semaphore::new(southbound::MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        for l in self.openflow {
            tasks.spawn(southbound::listen(
                l,
                self.hub.clone(),
                self.options.clone(),
                permits.clone(),
                stopped.clone(),
            ));
        }
        let router = rest::router(self.hub.clone(), self.token);
        tasks.spawn(rest::serve(self.rest, router, stopped.clone()));
        let hub = self.hub.clone();
        let mut stopping = stopped;
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
            loop {
                tokio::select! {
                    () = southbound::is_set(&mut stopping) => return,
                    _ = tick.tick() => hub.topology().tick(Instant::now()),
                }
            }
        });
        tracing::info!(openflow = ?self.addresses.openflow, rest = %self.addresses.rest, "controller runs");
        shutdown.await;
        stop.send_replace(true);
        while tasks.join_next().await.is_some() {}
        // Until the last connection has let go of the store, so that another controller can open it.
        let all = permits.acquire_many(southbound::MAX_CONNECTIONS as u32);
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("connections of switches are still open");
        }
        Ok(())
    }
}

async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen {
            address,
            what,
            source,
        })
}

/// Binds and runs a controller.
///
/// # Errors
/// As [`Controller::bind`].
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    Controller::bind(options).await?.run(shutdown).await
}
