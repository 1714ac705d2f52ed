//! The host's side of tunnels and interfaces: its interfaces, addresses, routes and neighbours, watched by netlink.
//!
//! [`Host`] keeps what the kernel tells (`table`, `watch`) beside the routes that a person gave by `ovs/route/add`, and hands
//! both over to the datapath as one [`Routes`] whenever they changed. It also says when links changed, so that ports follow at
//! once, and has the kernel look for neighbours that tunnels need. `show` answers the commands.

pub mod show;
pub mod table;
mod watch;

use self::table::Table;
use datapath::route::{Route, Routes};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Neighbours that may wait to be asked for; those beyond are wanted again by the next packet.
const WANTED_MAX: usize = 256;
/// Most routes that are given by hand.
pub const BY_HAND_MAX: usize = 4096;

#[derive(Default)]
struct State {
    table: Table,
    by_hand: Vec<Route>,
    routes: Arc<Routes>,
}

/// The host, as far as it is known.
pub struct Host {
    state: Mutex<State>,
    publish: Box<dyn Fn(&Routes) + Send + Sync>,
    links: Notify,
    wanted: mpsc::Sender<(String, IpAddr)>,
}

/// Why a route given by hand is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The interface does not exist, or has no address that packets could come from.
    NoSource,
    /// There are [`BY_HAND_MAX`].
    Full,
}

impl Host {
    /// A host of which nothing is known yet, and the task that follows it. `publish` is called with each change.
    pub fn new(
        publish: impl Fn(&Routes) + Send + Sync + 'static,
    ) -> (Arc<Host>, impl Future<Output = ()> + Send) {
        let (wanted, receiver) = mpsc::channel(WANTED_MAX);
        let host = Arc::new(Host {
            state: Mutex::default(),
            publish: Box::new(publish),
            links: Notify::new(),
            wanted,
        });
        (host.clone(), watch::run(host, receiver))
    }

    /// Ends when interfaces came, went, or changed since the last call did.
    pub async fn links_changed(&self) {
        self.links.notified().await;
    }

    /// Has the kernel find out who has `ip` on the link of `device`.
    pub fn resolve(&self, device: &str, ip: IpAddr) {
        // Full: the next packet wants it again.
        let _ = self.wanted.try_send((device.to_owned(), ip));
    }

    /// What was published last.
    pub fn routes(&self) -> Arc<Routes> {
        self.state().routes.clone()
    }

    /// Adds a route by hand, or changes the one to the same network with the same mark. Its source address is found if it gives none.
    ///
    /// # Errors
    /// It cannot be used, or there are too many.
    pub fn add_route(&self, mut route: Route) -> Result<(), Refused> {
        let mut state = self.state();
        let link = state.table.index(&route.device).ok_or(Refused::NoSource)?;
        let (to, gateway) = (route.network, route.gateway);
        route.source = Some(match route.source {
            Some(ip) if state.table.may_send_from(link, ip, to, gateway) => ip,
            Some(_) => return Err(Refused::NoSource),
            None => state
                .table
                .source(link, to, gateway)
                .ok_or(Refused::NoSource)?,
        });
        let same =
            |r: &Route| (r.network, r.prefix, r.mark) == (route.network, route.prefix, route.mark);
        state.by_hand.retain(|r| !same(r));
        if state.by_hand.len() == BY_HAND_MAX {
            return Err(Refused::Full);
        }
        state.by_hand.push(route);
        self.renew(&mut state);
        Ok(())
    }

    /// Removes a route that was added by hand; whether there was one.
    pub fn remove_route(&self, network: IpAddr, prefix: u8, mark: u32) -> bool {
        let mut state = self.state();
        let before = state.by_hand.len();
        state
            .by_hand
            .retain(|r| (r.network, r.prefix, r.mark) != (network, prefix, mark));
        let removed = state.by_hand.len() < before;
        if removed {
            self.renew(&mut state);
        }
        removed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, device: &str) -> Option<u32> {
        self.state().table.index(device)
    }

    fn set_table(&self, table: Table) {
        let mut state = self.state();
        if state.table != table {
            state.table = table;
            self.renew(&mut state);
        }
    }

    /// Publishes what follows from the state, under its lock, so that changes stay in order.
    fn renew(&self, state: &mut State) {
        let routes = state.table.routes(&state.by_hand);
        if routes != *state.routes {
            (self.publish)(&routes);
            state.routes = Arc::new(routes);
        }
    }
}

#[cfg(test)]
mod tests;
