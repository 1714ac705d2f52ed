//! The host's routes and neighbours, as tunnels need them: a value that is replaced whole.
//!
//! Who watches the host (netlink) is not the datapath's business: it is given a [`Routes`] whenever something changed.

use openflow::MacAddr;
use std::collections::HashMap;
use std::net::IpAddr;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network, IPv4 or IPv6.
    pub network: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Packets with this mark only (`pkt_mark`, `egress_pkt_mark`); 0 for those without any, and for all that no marked route fits.
    pub mark: u32,
    /// The interface it leads out of.
    pub device: String,
    /// The gateway; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// Smaller is preferred among routes to the same network.
    pub metric: u32,
    /// Whether it leads to the host itself.
    pub local: bool,
    /// Whether it was given by a person (`ovs/route/add`) and not by the host.
    pub user: bool,
}

/// Where packets to an address go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Out of this interface.
    pub device: String,
    /// To this address on the link.
    pub next: IpAddr,
    /// From this address, if the route or the interface has one.
    pub source: Option<IpAddr>,
    /// Whether the address is the host's own.
    pub local: bool,
}

/// An interface of the host, as far as routes ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub carrier: bool,
}

/// All routes, interfaces and neighbours at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// In the order in which they are tried: the host's own addresses, what a person gave, what the host has; of each the
    /// longest prefix first, then the smallest metric.
    routes: Vec<Route>,
    /// By name.
    pub devices: HashMap<String, Device>,
    /// Ethernet addresses, by interface and IP address.
    pub neighbours: HashMap<(String, IpAddr), MacAddr>,
}

impl Routes {
    /// Of these.
    pub fn new(mut routes: Vec<Route>) -> Routes {
        routes.sort_by_key(|r| (!r.local, !r.user, u8::MAX - r.prefix, r.metric));
        Routes {
            routes,
            ..Routes::default()
        }
    }

    /// The routes, in the order in which they are tried.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Where packets to `to` go, those with this mark.
    pub fn lookup(&self, to: IpAddr, mark: u32) -> Option<Hop> {
        let fits = |r: &&Route| covers(r.network, r.prefix, to);
        let marked = |m: u32| self.routes.iter().filter(fits).find(|r| r.mark == m);
        let route = match mark {
            0 => marked(0),
            m => marked(m).or_else(|| marked(0)),
        }?;
        let device = self.devices.get(&route.device);
        let of_family = |a: &&IpAddr| a.is_ipv4() == to.is_ipv4();
        let source = route
            .source
            .or_else(|| device?.addresses.iter().find(of_family).copied());
        Some(Hop {
            device: route.device.clone(),
            next: route.gateway.unwrap_or(to),
            source,
            local: route.local,
        })
    }

    /// The Ethernet address of a neighbour.
    pub fn neighbour(&self, device: &str, ip: IpAddr) -> Option<MacAddr> {
        // The key owns its name; a look-up happens only when a flow is translated.
        self.neighbours.get(&(device.to_owned(), ip)).copied()
    }
}

/// Whether a network has an address in it.
pub fn covers(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    let bits = |a: IpAddr| match a {
        IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, true),
        IpAddr::V6(a) => (u128::from(a), false),
    };
    let ((a, a4), (b, b4)) = (bits(network), bits(ip));
    let shift = 128 - u32::from(prefix);
    a4 == b4 && (a ^ b).checked_shr(shift).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str, prefix: u8, device: &str) -> Route {
        Route {
            network: network.parse().unwrap(),
            prefix,
            mark: 0,
            device: device.into(),
            gateway: None,
            source: None,
            metric: 0,
            local: false,
            user: false,
        }
    }

    #[test]
    fn the_longest_prefix_of_the_family_is_taken() {
        let mut r = vec![
            route("0.0.0.0", 0, "any"),
            route("10.0.0.0", 8, "ten"),
            route("10.1.0.0", 16, "one"),
            route("::", 0, "six"),
        ];
        r[0].gateway = Some("10.9.9.9".parse().unwrap());
        let routes = Routes::new(r);
        let to = |ip: &str| routes.lookup(ip.parse().unwrap(), 0).unwrap();
        assert_eq!(to("10.1.2.3").device, "one");
        assert_eq!(to("10.2.2.3").device, "ten");
        assert_eq!(to("11.2.2.3").device, "any");
        assert_eq!(to("11.2.2.3").next.to_string(), "10.9.9.9");
        assert_eq!(to("2001::1").device, "six");
    }

    #[test]
    fn marked_packets_have_routes_of_their_own_first() {
        let mut marked = route("0.0.0.0", 0, "marked");
        marked.mark = 7;
        let routes = Routes::new(vec![route("10.0.0.0", 8, "plain"), marked]);
        let to = |ip: &str, mark| routes.lookup(ip.parse().unwrap(), mark).map(|h| h.device);
        assert_eq!(to("10.0.0.1", 7).as_deref(), Some("marked"));
        assert_eq!(to("10.0.0.1", 8).as_deref(), Some("plain"));
        assert_eq!(to("11.0.0.1", 8), None);
    }
}
