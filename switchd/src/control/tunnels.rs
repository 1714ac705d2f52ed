//! `tnl/...`: what tunnels listen on and whom they know (ovs-vswitchd(8), ovs-appctl of Open vSwitch 3.1).

use super::commands::Context;
use super::show;
use crate::config::tunnel::Tunnel;
use datapath::Datapath;
use datapath::route::Routes;
use datapath::tunnel::encap;
use openflow::MacAddr;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Longest time that neighbours may be kept without use.
const AGING_MAX: u32 = 3600;

fn datapath(c: &Context) -> Result<&Datapath, String> {
    c.door
        .as_deref()
        .map(|d| d.datapath())
        .ok_or_else(|| "there is no datapath".to_owned())
}

/// `tnl/neigh/show`.
///
/// # Errors
/// There is no datapath.
pub fn neighbours(c: &Context) -> Result<String, String> {
    let mut out = format!("{:<46}{:<20}Bridge\n{:=<74}\n", "IP", "MAC", "");
    let mut all = datapath(c)?.tunnel_neighbours();
    all.sort();
    for n in all {
        _ = writeln!(out, "{:<46}{}   {}", n.ip.to_string(), n.mac, n.device);
    }
    Ok(out)
}

/// `tnl/neigh/set bridge ip mac`.
///
/// # Errors
/// An argument is wrong.
pub fn set_neighbour(c: &Context, args: &[String]) -> Result<String, String> {
    let ip: IpAddr = args[1].parse().map_err(|_| "bad IP address")?;
    let mac: MacAddr = args[2].parse().map_err(|_| "bad MAC address")?;
    datapath(c)?.set_tunnel_neighbour(&args[0], ip, mac);
    Ok("OK".to_owned())
}

/// `tnl/neigh/flush`.
///
/// # Errors
/// There is no datapath.
pub fn flush_neighbours(c: &Context) -> Result<String, String> {
    datapath(c)?.flush_tunnel_neighbours();
    Ok("OK".to_owned())
}

/// `tnl/neigh/aging [seconds]`.
///
/// # Errors
/// The time is none of 1 to 3600.
pub fn aging(c: &Context, args: &[String]) -> Result<String, String> {
    let datapath = datapath(c)?;
    let Some(arg) = args.first() else {
        return Ok(datapath.tunnel_neighbour_aging().as_secs().to_string());
    };
    match arg.parse::<u32>() {
        Ok(secs @ 1..=AGING_MAX) => {
            datapath.set_tunnel_neighbour_aging(Duration::from_secs(secs.into()));
            Ok("OK".to_owned())
        }
        _ => Err("bad aging value".to_owned()),
    }
}

/// One place where tunnelled packets are taken in: all tunnels of a kind and port have it together.
struct Listening {
    /// As Open vSwitch calls it.
    name: String,
    number: u32,
    tunnel: Tunnel,
    tunnels: usize,
}

fn listening(c: &Context) -> Vec<Listening> {
    let mut all: BTreeMap<u32, Listening> = BTreeMap::new();
    for p in show::datapath_ports(&c.switch).into_values() {
        if let Some(tunnel) = p.tunnel {
            let entry = all.entry(p.datapath_port).or_insert_with(|| Listening {
                name: tunnel.system_name(),
                number: p.datapath_port,
                tunnel,
                tunnels: 0,
            });
            entry.tunnels += 1;
        }
    }
    all.into_values().collect()
}

/// `tnl/ports/show [-v]`.
pub fn ports(c: &Context, args: &[String]) -> String {
    let mut out = String::from("Listening ports:\n");
    let verbose = args.first().is_some_and(|a| a == "-v");
    let routes = c.host.routes();
    for l in listening(c) {
        if verbose {
            l.matches(&routes, &mut out);
        } else {
            _ = writeln!(out, "{} ({}) ref_cnt={}", l.name, l.number, l.tunnels);
        }
    }
    out
}

impl Listening {
    /// The packets that are taken in: to which addresses of the host.
    fn matches(&self, routes: &Routes, out: &mut String) {
        // As Open vSwitch 3.1, which says nothing of ERSPAN.
        let (protocol, port) = match (self.tunnel.kind.as_str(), self.tunnel.spec.kind.udp_port()) {
            ("erspan" | "ip6erspan", _) => return,
            (_, None) => (47, String::new()),
            (_, Some(_)) => (17, format!(",udp(dst={})", self.tunnel.spec.port)),
        };
        let mut devices: Vec<_> = routes.devices.iter().collect();
        devices.sort_by_key(|(name, _)| *name);
        for (_, d) in devices {
            for ip in d.addresses.iter().filter(|ip| !ip.is_loopback()) {
                let (ethertype, word) = match ip {
                    IpAddr::V4(_) => ("0x0800", "ipv4"),
                    IpAddr::V6(_) => ("0x86dd", "ipv6"),
                };
                _ = writeln!(
                    out,
                    "{} ({}) : eth(dst={}),eth_type({ethertype}),{word}(dst={ip},proto={protocol},frag=no){port}",
                    self.name, self.number, d.mac
                );
            }
        }
    }
}

/// `tnl/egress_port_range [min max]`. What is wrong is told as an answer, not as an error: so does Open vSwitch.
pub fn egress_ports(args: &[String]) -> String {
    let [min, max] = args else {
        let (min, max) = encap::port_range();
        return format!("Tunnel UDP source port range: {min}-{max}\n");
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0);
    match (port(min), port(max)) {
        (None, _) => "Invalid min.".to_owned(),
        (_, None) => "Invalid max.".to_owned(),
        (Some(min), Some(max)) => {
            encap::set_port_range(min, max);
            "OK".to_owned()
        }
    }
}
