//! What tunnels go by: routes, neighbours.

use super::Datapath;
use crate::route::Routes;
use crate::underlay::TunnelNeighbour;
use openflow::MacAddr;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

impl Datapath {
    /// The host's routes, interfaces and neighbours, from now on. Flows that lead into tunnels are looked at again with their
    /// next packet; no others.
    pub fn set_routes(&self, routes: Routes) {
        self.inner.world.load().underlay.set_routes(routes);
    }

    /// The routes that were last given.
    pub fn routes(&self) -> Arc<Routes> {
        self.inner.world.load().underlay.routes()
    }

    /// Neighbours that bridges heard of (`tnl/neigh/show`), by interface and address.
    pub fn tunnel_neighbours(&self) -> Vec<TunnelNeighbour> {
        self.inner.world.load().underlay.neighbours()
    }

    /// A person says where a neighbour is (`tnl/neigh/set`).
    pub fn set_tunnel_neighbour(&self, device: &str, ip: IpAddr, mac: MacAddr) {
        let world = self.inner.world.load();
        world.underlay.set_neighbour(device, ip, mac, self.now());
    }

    /// Forgets all neighbours that bridges heard of (`tnl/neigh/flush`).
    pub fn flush_tunnel_neighbours(&self) {
        self.inner.world.load().underlay.flush_neighbours();
    }

    /// How long a neighbour is known that is not used (`tnl/neigh/aging`).
    pub fn tunnel_neighbour_aging(&self) -> Duration {
        self.inner.world.load().underlay.aging()
    }

    /// Changes that.
    pub fn set_tunnel_neighbour_aging(&self, aging: Duration) {
        self.inner.world.load().underlay.set_aging(aging);
    }
}
