//! What tunnels go by: routes, neighbours; and what is special about their ports.

use super::Datapath;
use crate::bridge::World;
use crate::port::{InterfaceConfig, PortError};
use crate::route::Routes;
use crate::tunnel::ports::Claim;
use crate::tunnel::{Given, TunnelKind, TunnelSpec};
use crate::underlay::TunnelNeighbour;
use openflow::MacAddr;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
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

/// What the options of an interface ask for, if it is a tunnel.
pub(super) fn spec(c: &InterfaceConfig) -> Result<Option<Arc<TunnelSpec>>, PortError> {
    if TunnelKind::of_type(&c.kind).is_none() {
        return Ok(None);
    }
    match TunnelSpec::from_options(&c.kind, &c.options) {
        Ok((spec, _)) => Ok(Some(Arc::new(spec))),
        Err(why) => Err(PortError::Other(format!("{}: {why}", c.name))),
    }
}

/// Refuses a tunnel that would take the packets of another; `own` is the port that is to be changed.
pub(super) fn check_claim(
    world: &World,
    spec: &TunnelSpec,
    own: Option<u32>,
) -> Result<(), PortError> {
    match world.tunnels.claimed(&Claim::of(spec)) {
        Some(other) if Some(other) != own => {
            let other = world.port(other).map_or("", |p| p.name());
            Err(PortError::Claimed(other.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Where the tunnel's packets leave the host, for the `status` column: nowhere that is known if flows say where they go.
pub(super) fn egress(spec: &TunnelSpec, routes: &Routes) -> BTreeMap<String, String> {
    let Given::Fixed(remote) = spec.remote else {
        return BTreeMap::new();
    };
    let Some(hop) = routes.lookup(remote, spec.egress_mark) else {
        return BTreeMap::new();
    };
    let carrier = routes.devices.get(&hop.device).is_some_and(|d| d.carrier);
    let carrier = if carrier { "up" } else { "down" };
    BTreeMap::from([
        ("tunnel_egress_iface".to_owned(), hop.device),
        ("tunnel_egress_iface_carrier".to_owned(), carrier.to_owned()),
    ])
}

/// The Ethernet address that controllers are told of a tunnel: its own, and the same after a restart.
pub(super) fn mac(name: &str) -> MacAddr {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let mut mac = [0; 6];
    mac.copy_from_slice(&hasher.finish().to_be_bytes()[..6]);
    // Unicast, locally administered.
    mac[0] = mac[0] & !1 | 2;
    MacAddr(mac)
}
