//! What the kernel tells of links, addresses, routes, neighbours and rules, and the [`Routes`] that follow from it. Pure.
//!
//! Only what an underlay needs is kept: unicast and local routes of the tables `local`, `main` and `default`, and of those tables
//! that a rule leads packets with a mark to (ip-rule(8): `fwmark M lookup T`); of a multipath route the first hop that is alive.

use datapath::route::{Device, Route, Routes};
use openflow::MacAddr;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHopFlags, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Tables that every packet is looked up in (rtnetlink(7): `RT_TABLE_UNSPEC`, `DEFAULT`, `MAIN`, `LOCAL`).
const STANDARD_TABLES: [u32; 4] = [0, 253, 254, 255];

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its address; zero if it has none of six bytes.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub carrier: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
}

/// A route of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which table.
    pub table: u32,
    /// Network.
    pub network: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The number of the interface it leads out of.
    pub link: u32,
    /// The gateway, if there is one.
    pub gateway: Option<IpAddr>,
    /// The source address it prefers.
    pub source: Option<IpAddr>,
    /// Smaller is preferred.
    pub metric: u32,
    /// Whether it leads to the host itself.
    pub local: bool,
}

/// A neighbour whose Ethernet address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface's number.
    pub link: u32,
    /// Its IP address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// A rule that leads marked packets to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// IPv4, not IPv6.
    pub ipv4: bool,
    /// The mark.
    pub mark: u32,
    /// The table.
    pub table: u32,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By number.
    pub links: BTreeMap<u32, Link>,
    /// In the kernel's order.
    pub addresses: Vec<Address>,
    /// In the kernel's order.
    pub routes: Vec<Entry>,
    /// In the kernel's order.
    pub neighbours: Vec<Neighbour>,
    /// In the kernel's order.
    pub marked: Vec<Marked>,
}

impl Link {
    /// An interface as the kernel tells of it, with its number.
    pub fn read(m: &LinkMessage) -> Option<(u32, Link)> {
        let mut link = Link {
            name: String::new(),
            mac: MacAddr::default(),
            mtu: 0,
            carrier: m.header.flags.contains(LinkFlags::Running),
        };
        for a in &m.attributes {
            match a {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = ethernet(bytes).unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some((m.header.index, link))
    }
}

impl Address {
    /// An address as the kernel tells of it.
    pub fn read(m: &AddressMessage) -> Option<Address> {
        let mut ip = None;
        for a in &m.attributes {
            match a {
                // Of a point-to-point link `Address` is the other end's.
                AddressAttribute::Local(local) => ip = Some(*local),
                AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
                _ => {}
            }
        }
        Some(Address {
            link: m.header.index,
            ip: ip?,
            prefix: m.header.prefix_len,
        })
    }
}

impl Entry {
    /// A route as the kernel tells of it; none if it is of no use to an underlay.
    pub fn read(m: &RouteMessage) -> Option<Entry> {
        let h = &m.header;
        if !matches!(h.kind, RouteType::Unicast | RouteType::Local)
            || h.scope == RouteScope::NoWhere
        {
            return None;
        }
        let mut entry = Entry {
            table: h.table.into(),
            network: match h.address_family {
                AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
                AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
                _ => return None,
            },
            prefix: h.destination_prefix_length,
            link: 0,
            gateway: None,
            source: None,
            metric: 0,
            local: h.kind == RouteType::Local,
        };
        for a in &m.attributes {
            match a {
                RouteAttribute::Table(table) => entry.table = *table,
                RouteAttribute::Destination(a) => entry.network = address(a)?,
                RouteAttribute::PrefSource(a) => entry.source = address(a),
                RouteAttribute::Priority(metric) => entry.metric = *metric,
                RouteAttribute::MultiPath(hops) => {
                    let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                    let hop = hops.iter().find(|h| !h.flags.intersects(dead))?;
                    entry.link = hop.interface_index;
                    hop.attributes.iter().for_each(|a| entry.hop(a));
                }
                a => entry.hop(a),
            }
        }
        (entry.link != 0).then_some(entry)
    }

    /// What a route says of its hop, or a hop of a multipath route of itself.
    fn hop(&mut self, a: &RouteAttribute) {
        match a {
            RouteAttribute::Oif(link) => self.link = *link,
            RouteAttribute::Gateway(a) => self.gateway = address(a),
            // An IPv4 route by an IPv6 gateway (RFC 5549).
            RouteAttribute::Via(rtnetlink::packet_route::route::RouteVia::Inet6(a)) => {
                self.gateway = Some((*a).into());
            }
            _ => {}
        }
    }
}

impl Neighbour {
    /// A neighbour as the kernel tells of it; none while its Ethernet address is not known.
    pub fn read(m: &NeighbourMessage) -> Option<Neighbour> {
        let known = matches!(
            m.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
        );
        let (mut ip, mut mac) = (None, None);
        for a in &m.attributes {
            match a {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                    ip = Some((*a).into())
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                    ip = Some((*a).into());
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = ethernet(bytes),
                _ => {}
            }
        }
        known.then_some(Neighbour {
            link: m.header.ifindex,
            ip: ip?,
            mac: mac?,
        })
    }
}

impl Marked {
    /// A rule as the kernel tells of it; none if it asks for more than a mark.
    pub fn read(m: &RuleMessage) -> Option<Marked> {
        let h = &m.header;
        if h.action != RuleAction::ToTable || h.src_len != 0 || h.dst_len != 0 || h.tos != 0 {
            return None;
        }
        let mut rule = Marked {
            ipv4: h.family == AddressFamily::Inet,
            mark: 0,
            table: h.table.into(),
        };
        for a in &m.attributes {
            match a {
                RuleAttribute::FwMark(mark) => rule.mark = *mark,
                RuleAttribute::FwMask(u32::MAX) => {}
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::FwMask(_)
                | RuleAttribute::Source(_)
                | RuleAttribute::Destination(_)
                | RuleAttribute::Iifname(_)
                | RuleAttribute::Oifname(_)
                | RuleAttribute::TunId(_)
                | RuleAttribute::L3MDev(true)
                | RuleAttribute::UidRange(_)
                | RuleAttribute::IpProtocol(_)
                | RuleAttribute::SourcePortRange(_)
                | RuleAttribute::DestinationPortRange(_) => return None,
                _ => {}
            }
        }
        (rule.mark != 0).then_some(rule)
    }
}

impl Table {
    /// The routes, interfaces and neighbours, with those routes that were given by hand.
    pub fn routes(&self, by_hand: &[Route]) -> Routes {
        let mut list = by_hand.to_vec();
        for e in &self.routes {
            let Some(device) = self.links.get(&e.link) else {
                continue;
            };
            let route = Route {
                network: e.network,
                prefix: e.prefix,
                mark: 0,
                device: device.name.clone(),
                gateway: e.gateway,
                source: e
                    .source
                    .or_else(|| self.source(e.link, e.network, e.gateway)),
                metric: e.metric,
                local: e.local,
                user: false,
            };
            let marked = self
                .marked
                .iter()
                .filter(|m| m.table == e.table && m.ipv4 == e.network.is_ipv4());
            list.extend(marked.map(|m| Route {
                mark: m.mark,
                ..route.clone()
            }));
            if STANDARD_TABLES.contains(&e.table) {
                list.push(route);
            }
        }
        let mut routes = Routes::new(list);
        for (index, link) in &self.links {
            let device = Device {
                mac: link.mac,
                addresses: self.of_link(*index).map(|a| a.ip).collect(),
                mtu: link.mtu,
                carrier: link.carrier,
            };
            routes.devices.insert(link.name.clone(), device);
        }
        let known: HashMap<_, _> = self
            .neighbours
            .iter()
            .filter_map(|n| Some(((self.links.get(&n.link)?.name.clone(), n.ip), n.mac)))
            .collect();
        routes.neighbours = known;
        routes
    }

    /// The number of the interface of this name.
    pub fn index(&self, name: &str) -> Option<u32> {
        let found = self.links.iter().find(|(_, l)| l.name == name)?;
        Some(*found.0)
    }

    /// The source address of packets to a network by an interface: of the interface's own addresses that whose network has the
    /// destination in it, or else the gateway, the longest prefix first.
    pub fn source(&self, link: u32, to: IpAddr, gateway: Option<IpAddr>) -> Option<IpAddr> {
        let near = |ip: IpAddr| {
            self.of_link(link)
                .filter(|a| datapath::route::covers(a.ip, a.prefix, ip))
                .min_by_key(|a| u8::MAX - a.prefix)
                .map(|a| a.ip)
        };
        near(to).or_else(|| near(gateway?))
    }

    /// Whether an interface has this address in the same network as the destination, or else the gateway.
    pub fn may_send_from(
        &self,
        link: u32,
        source: IpAddr,
        to: IpAddr,
        gateway: Option<IpAddr>,
    ) -> bool {
        let near = |ip| {
            self.of_link(link)
                .any(|a| a.ip == source && datapath::route::covers(a.ip, a.prefix, ip))
        };
        near(to) || gateway.is_some_and(near)
    }

    fn of_link(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |a| a.link == link)
    }
}

fn address(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

fn ethernet(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}
