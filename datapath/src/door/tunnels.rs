//! What tunnels go by: routes, neighbours; and what is special about their ports.

use super::ports::PORTS_MAX;
use super::{Control, Datapath, DatapathError};
use crate::bridge::{PortCounters, PortEntry, World};
use crate::config::{BridgeId, PortSpec};
use crate::port::tunnel::Endpoint;
use crate::port::{self, InterfaceConfig, OpenPort, PortError};
use crate::route::Routes;
use crate::tunnel::ports::Claim;
use crate::tunnel::{Given, TunnelKind, TunnelSpec};
use crate::underlay::TunnelNeighbour;
use openflow::{MacAddr, PortFlags, PortNo, TlvMap};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

impl Datapath {
    /// Opens the sockets of the host that tunnel ports need, and closes those that none needs any more. One that cannot be
    /// opened is tried again when tunnel ports change; until then [`Datapath::port_status`] tells why.
    pub(super) fn tend_sockets(&self, control: &mut Control) {
        let world = self.inner.world.load_full();
        let tunnels = world.ports.iter().flatten();
        let needed: BTreeSet<Endpoint> = tunnels
            .filter_map(|p| p.tunnel.as_deref())
            .flat_map(Endpoint::needed_by)
            .collect();
        let mut open = BTreeSet::new();
        for p in world.ports.iter().flatten() {
            match p.socket {
                Some(s) if needed.contains(&s) => _ = open.insert(s),
                Some(_) => {
                    self.withdraw(&mut control.crew, p.index);
                    self.publish(|w| w.ports[p.index as usize] = None);
                    self.inner.synchronize();
                }
                None => {}
            }
        }
        control.refused.clear();
        for &socket in needed.difference(&open) {
            match port::tunnel::open(&socket, &self.inner.context) {
                Ok(opened) => self.add_socket(control, socket, opened),
                Err(e) => _ = control.refused.insert(socket, e.to_string()),
            }
        }
    }

    /// A port of no bridge, for a socket of the host.
    fn add_socket(&self, control: &mut Control, socket: Endpoint, open: OpenPort) {
        let world = self.inner.world.load_full();
        let free = world.ports.iter().position(Option::is_none);
        let index = free.unwrap_or(world.ports.len());
        if index >= PORTS_MAX {
            let why = format!("There are {PORTS_MAX} ports, as many as can be");
            control.refused.insert(socket, why);
            return;
        }
        let counters: Arc<PortCounters> = Arc::default();
        let entry = PortEntry {
            index: index as u32,
            bridge: u32::MAX,
            number: PortNo::ANY,
            spec: PortSpec {
                interface: InterfaceConfig {
                    name: socket.name(),
                    ..InterfaceConfig::default()
                },
                ..PortSpec::default()
            },
            flags: PortFlags::default(),
            patch: None,
            tunnel: None,
            sequence: None,
            socket: Some(socket),
            device: Some(open.port.clone()),
            counters: counters.clone(),
            ingress: None,
            shaper: None,
            created: self.now(),
        };
        self.publish(|w| {
            if w.ports.len() <= index {
                w.ports.resize(index + 1, None);
            }
            w.ports[index] = Some(Arc::new(entry));
        });
        let none = BTreeMap::new();
        self.spread(
            &mut control.crew,
            index as u32,
            Some(open),
            &none,
            &counters,
        );
    }

    /// Why the host's sockets do not carry a tunnel's packets, if they should and do not.
    pub(super) fn socket_error(&self, spec: &TunnelSpec) -> Option<String> {
        let Given::Fixed(remote) = spec.remote else {
            return None;
        };
        let world = self.inner.world.load();
        let hop = world.underlay.routes().lookup(remote, spec.egress_mark)?;
        if !hop.local && world.tunnels.interface(&hop.device).is_some() {
            return None;
        }
        let socket = Endpoint::sender(spec, remote.is_ipv6());
        self.inner.control.lock().refused.get(&socket).cloned()
    }

    /// Which Geneve options the `tun_metadata` fields of a bridge's flows are, from now on. (Checked by who gives them.)
    ///
    /// # Errors
    /// If there is no such bridge.
    pub fn set_tunnel_options(
        &self,
        bridge: BridgeId,
        maps: Vec<TlvMap>,
    ) -> Result<(), DatapathError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| DatapathError::Bridge(format!("There is no bridge {}", bridge.0)))?;
        let _control = self.inner.control.lock();
        b.update(|s| {
            s.options = Arc::new(maps);
            Ok::<(), DatapathError>(())
        })?;
        // Packets of tunnels are taken or not by what options are known.
        self.publish(|_| ());
        Ok(())
    }

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
