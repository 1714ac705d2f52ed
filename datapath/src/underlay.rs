//! The network under the tunnels, as the datapath knows it: the host's routes, and which Ethernet addresses neighbours have.
//!
//! Routes are given whole by who watches the host ([`Datapath::set_routes`](crate::Datapath::set_routes)). Neighbours are the
//! host's, and those that the datapath hears of by itself: answers of ARP and neighbour discovery that a bridge hands to its own
//! interface. A tunnel whose neighbour is not known *asks* for it, at most once every [`ASK_EVERY`], however many packets wish to go there;
//! its packets are dropped until the answer comes.
//!
//! Everything here is looked at when a flow is translated, and by no packet after. A translation that looked
//! depends on the [version](Underlay::version), which is counted up after whatever could have changed its answer: so a cached flow
//! that leads into a tunnel is looked at again when routes change, and all others are left alone. An answer that nobody asked for
//! disturbs no flow.

use crate::bridge::Epoch;
use crate::clock::Now;
use crate::packet::OwnedPacket;
use crate::route::Routes;
use arc_swap::ArcSwap;
use openflow::MacAddr;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Neighbours that are kept; answers beyond are not heard.
pub const NEIGHBOURS_MAX: usize = 4096;
/// Neighbours asked for at a time.
pub const ASKS_MAX: usize = 1024;
/// How often a neighbour is asked for at most.
pub const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a neighbour is known that is not used, unless told otherwise (`tnl/neigh/aging`).
pub const AGING: Duration = Duration::from_secs(15 * 60);

/// A neighbour and where it is: an interface (of a bridge) and an address.
type At = (String, IpAddr);

/// See the module.
pub struct Underlay {
    routes: ArcSwap<Routes>,
    version: AtomicU64,
    epoch: Arc<Epoch>,
    heard: Mutex<Heard>,
}

struct Heard {
    neighbours: HashMap<At, Neighbour>,
    asks: HashMap<At, Arc<Ask>>,
    aging: Duration,
}

/// What is known of a neighbour.
#[derive(Clone)]
struct Neighbour {
    mac: MacAddr,
    use_: Arc<Use>,
}

/// When a neighbour was last used or heard of, nanoseconds of the datapath's clock.
#[derive(Debug, Default)]
pub struct Use(AtomicU64);

impl Use {
    /// It was.
    pub fn at(&self, nanos: u64) {
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// A neighbour that is wanted.
#[derive(Debug)]
pub struct Ask {
    /// The interface.
    pub device: String,
    /// The neighbour.
    pub ip: IpAddr,
    /// The port of that interface.
    pub port: u32,
    /// The request, which comes in by that port.
    pub request: OwnedPacket,
    /// Nanoseconds when it was last asked for, and one.
    last: AtomicU64,
}

impl Ask {
    /// Whether it is time to ask (again); if so, the asker is to do it.
    pub fn is_due(&self, now: u64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now + 1 >= last + ASK_EVERY.as_nanos() as u64;
        due && self
            .last
            .compare_exchange(last, now + 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

impl PartialEq for Ask {
    fn eq(&self, other: &Ask) -> bool {
        (&self.device, self.ip, self.port) == (&other.device, other.ip, other.port)
    }
}

/// A neighbour, for people (`tnl/neigh/show`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelNeighbour {
    /// The interface, which has the name of its bridge.
    pub device: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

impl Default for Underlay {
    fn default() -> Underlay {
        Underlay::new(Arc::default())
    }
}

impl Underlay {
    /// Without routes and neighbours; changes are counted by `epoch` too.
    pub fn new(epoch: Arc<Epoch>) -> Underlay {
        Underlay {
            routes: ArcSwap::default(),
            version: AtomicU64::new(0),
            epoch,
            heard: Mutex::new(Heard {
                neighbours: HashMap::new(),
                asks: HashMap::new(),
                aging: AGING,
            }),
        }
    }

    /// To be read before anything else is: what is read after that is at least as new.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.epoch.bump();
    }

    /// The routes.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// The routes from now on; nothing happens if they are as they were.
    pub fn set_routes(&self, routes: Routes) {
        if **self.routes.load() != routes {
            self.routes.store(Arc::new(routes));
            self.changed();
        }
    }

    /// The Ethernet address of a neighbour, and whom to tell that it is used. Who was answered in the negative is to depend on the
    /// [`Underlay::version`] and to [`Underlay::ask`].
    pub fn neighbour(&self, device: &str, ip: IpAddr) -> Option<(MacAddr, Arc<Use>)> {
        let at = (device.to_owned(), ip);
        let heard = self.heard.lock();
        if let Some(n) = heard.neighbours.get(&at) {
            return Some((n.mac, n.use_.clone()));
        }
        drop(heard);
        let mac = self.routes.load().neighbour(device, ip)?;
        Some((mac, Arc::default()))
    }

    /// A neighbour is wanted. `request` makes the frame that asks for it.
    pub fn ask(
        &self,
        device: &str,
        ip: IpAddr,
        port: u32,
        request: impl FnOnce() -> OwnedPacket,
    ) -> Arc<Ask> {
        let at = (device.to_owned(), ip);
        let mut heard = self.heard.lock();
        if let Some(ask) = heard.asks.get(&at)
            && ask.port == port
        {
            return ask.clone();
        }
        let ask = Arc::new(Ask {
            device: at.0.clone(),
            ip,
            port,
            request: request(),
            last: AtomicU64::new(0),
        });
        if heard.asks.len() < ASKS_MAX {
            heard.asks.insert(at, ask.clone());
        }
        ask
    }

    /// A neighbour answered.
    pub fn heard(&self, device: &str, ip: IpAddr, mac: MacAddr, now: Now) {
        self.learn(device, ip, mac, now);
    }

    fn learn(&self, device: &str, ip: IpAddr, mac: MacAddr, now: Now) {
        let at = (device.to_owned(), ip);
        let mut heard = self.heard.lock();
        let heard = &mut *heard;
        let asked = heard.asks.remove(&at).is_some() || heard.asks.len() >= ASKS_MAX;
        let known = heard.neighbours.get(&at).map(|n| n.mac);
        if known.is_none() && heard.neighbours.len() >= NEIGHBOURS_MAX {
            return;
        }
        let fresh = || Neighbour {
            mac,
            use_: Arc::default(),
        };
        let n = heard.neighbours.entry(at).or_insert_with(fresh);
        n.mac = mac;
        n.use_.at(now.as_nanos() as u64);
        // Flows that were made without it may use what the host knew of it.
        let moved = known.map_or_else(
            || {
                self.routes
                    .load()
                    .neighbour(device, ip)
                    .is_some_and(|m| m != mac)
            },
            |m| m != mac,
        );
        if asked || moved {
            self.changed();
        }
    }

    /// A person says where a neighbour is.
    pub fn set_neighbour(&self, device: &str, ip: IpAddr, mac: MacAddr, now: Now) {
        self.learn(device, ip, mac, now);
        self.changed();
    }

    /// Forgets all neighbours that were heard of.
    pub fn flush_neighbours(&self) {
        self.heard.lock().neighbours.clear();
        self.changed();
    }

    /// The neighbours that were heard of, in order.
    pub fn neighbours(&self) -> Vec<TunnelNeighbour> {
        let heard = self.heard.lock();
        let mut list: Vec<_> = heard
            .neighbours
            .iter()
            .map(|((device, ip), n)| TunnelNeighbour {
                device: device.clone(),
                ip: *ip,
                mac: n.mac,
            })
            .collect();
        list.sort();
        list
    }

    /// How long a neighbour is known that is not used.
    pub fn aging(&self) -> Duration {
        self.heard.lock().aging
    }

    /// Changes that.
    pub fn set_aging(&self, aging: Duration) {
        self.heard.lock().aging = aging;
    }

    /// Forgets neighbours that were not used for too long. Counts are to be handed on before, since they tell of use.
    pub fn expire(&self, now: Now) {
        let mut heard = self.heard.lock();
        let aging = heard.aging;
        let before = heard.neighbours.len();
        heard.neighbours.retain(|_, n| {
            let used = Duration::from_nanos(n.use_.0.load(Ordering::Relaxed));
            now.saturating_sub(used) < aging
        });
        if heard.neighbours.len() != before {
            drop(heard);
            self.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn mac(n: u64) -> MacAddr {
        MacAddr::from_u64(n)
    }

    #[test]
    fn an_answer_that_was_asked_for_or_that_differs_disturbs_flows_and_no_other() {
        let u = Underlay::default();
        let now = Duration::from_secs(5);
        let since = |v: u64| u.version() != v;
        let v = u.version();
        u.heard("br0", ip(1), mac(1), now);
        u.heard("br0", ip(1), mac(1), now);
        assert!(!since(v), "nobody asked");
        let ask = u.ask("br0", ip(2), 7, OwnedPacket::default);
        assert!(ask.is_due(0) && !ask.is_due(999_999_998) && ask.is_due(1_000_000_000));
        assert!(Arc::ptr_eq(
            &ask,
            &u.ask("br0", ip(2), 7, OwnedPacket::default)
        ));
        u.heard("br0", ip(2), mac(2), now);
        assert!(since(v));
        let v = u.version();
        u.heard("br0", ip(1), mac(9), now);
        assert!(since(v), "it moved");
        assert_eq!(u.neighbour("br0", ip(1)).unwrap().0, mac(9));
        assert!(u.neighbour("br1", ip(1)).is_none());
    }

    #[test]
    fn neighbours_age_unless_they_are_used_and_their_number_is_bounded() {
        let u = Underlay::default();
        u.heard("br0", ip(1), mac(1), Duration::ZERO);
        u.heard("br0", ip(2), mac(2), Duration::ZERO);
        u.neighbour("br0", ip(2))
            .unwrap()
            .1
            .at(AGING.as_nanos() as u64);
        let v = u.version();
        u.expire(AGING);
        assert_eq!(
            u.neighbours().iter().map(|n| n.ip).collect::<Vec<_>>(),
            [ip(2)]
        );
        assert_ne!(u.version(), v);
        for n in 0..NEIGHBOURS_MAX as u32 + 9 {
            u.heard("br0", std::net::Ipv4Addr::from(n).into(), mac(1), AGING);
        }
        assert_eq!(u.neighbours().len(), NEIGHBOURS_MAX);
    }
}
