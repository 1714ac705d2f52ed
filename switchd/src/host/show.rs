//! `ovs/route/...`: the routes as ovs-appctl shows and changes them (ovs-vswitchd(8)).

use super::{Host, Refused};
use datapath::route::Route;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;

/// `ovs/route/show`. Only routes that packets can leave by are shown: those with a source address; and of several to the same
/// network the one that is used.
pub fn routes(host: &Host) -> String {
    let mut out = String::from("Route Table:\n");
    let mut shown = HashSet::new();
    for r in host.routes().routes() {
        let Some(source) = r.source else { continue };
        if !shown.insert((r.network, r.prefix, r.mark, r.local, r.user)) {
            continue;
        }
        let kind = if r.user { "User" } else { "Cached" };
        _ = write!(out, "{kind}: {}/{}", r.network, r.prefix);
        if r.mark != 0 {
            _ = write!(out, " MARK {}", r.mark);
        }
        _ = write!(out, " dev {}", r.device);
        if let Some(gateway) = r.gateway {
            _ = write!(out, " GW {gateway}");
        }
        _ = write!(out, " SRC {source}");
        out.push_str(if r.local { " local\n" } else { "\n" });
    }
    out
}

/// `ovs/route/add ip/plen output_netdev [gw] [pkt_mark=mark] [src=src_ip]`; the source address is newer than Open vSwitch 3.1.
///
/// # Errors
/// An argument is wrong, or the route cannot be used.
pub fn add_route(host: &Host, args: &[String]) -> Result<String, String> {
    let (network, prefix) = network(&args[0]).ok_or("Invalid parameters")?;
    let mut route = Route {
        network,
        prefix,
        mark: 0,
        device: args[1].clone(),
        gateway: None,
        source: None,
        metric: 0,
        local: false,
        user: true,
    };
    let of_family = |text: &str| {
        let ip: IpAddr = text.parse().ok()?;
        (ip.is_ipv4() == network.is_ipv4()).then_some(ip)
    };
    for (place, arg) in args[2..].iter().enumerate() {
        if let Some(mark) = mark(arg) {
            route.mark = mark;
        } else if let Some(ip) = arg.strip_prefix("src=").and_then(of_family) {
            route.source = Some(ip);
        } else if let Some(ip) = of_family(arg) {
            route.gateway = Some(ip);
        } else {
            let why = match place {
                0 => "Invalid pkt_mark or gateway",
                _ => "Invalid pkt_mark",
            };
            return Err(why.to_owned());
        }
    }
    match host.add_route(route) {
        Ok(()) => Ok("OK".to_owned()),
        Err(Refused::NoSource) => Err("Error while inserting route.".to_owned()),
        Err(Refused::Full) => Err(format!(
            "there are {} routes by hand, as many as can be",
            super::BY_HAND_MAX
        )),
    }
}

/// `ovs/route/del ip/plen [pkt_mark=mark]`.
///
/// # Errors
/// An argument is wrong, or there is no such route by hand.
pub fn delete_route(host: &Host, args: &[String]) -> Result<String, String> {
    let (network, prefix) = network(&args[0]).ok_or("Invalid parameters")?;
    match host.remove_route(network, prefix, optional_mark(args.get(1))?) {
        true => Ok("OK".to_owned()),
        false => Err("Not found".to_owned()),
    }
}

/// `ovs/route/lookup ip_addr [pkt_mark=mark]`.
///
/// # Errors
/// An argument is wrong, or there is no route.
pub fn lookup(host: &Host, args: &[String]) -> Result<String, String> {
    let to = match network(&args[0]) {
        Some((ip @ IpAddr::V4(_), 32)) | Some((ip @ IpAddr::V6(_), 128)) => ip,
        _ => return Err("Invalid parameters".to_owned()),
    };
    let mark = optional_mark(args.get(1))?;
    let hop = host.routes().lookup(to, mark).ok_or("Not found")?;
    let or_none = |ip: Option<IpAddr>| ip.map_or_else(|| "::".to_owned(), |ip| ip.to_string());
    Ok(format!(
        "src {}\ngateway {}\ndev {}\n",
        or_none(hop.source),
        or_none(Some(hop.next).filter(|next| *next != to)),
        hop.device
    ))
}

/// An address with or without a prefix length, or an IPv4 network with a mask; bits beyond the prefix are cleared.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, prefix) = match text.split_once('/') {
        None => (text.parse().ok()?, None),
        Some((ip, length)) => (ip.parse::<IpAddr>().ok()?, Some(length)),
    };
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(text) => match text.parse::<u8>() {
            Ok(n) => n,
            Err(_) => {
                let mask: std::net::Ipv4Addr = text.parse().ok().filter(|_| ip.is_ipv4())?;
                let mask = u32::from(mask);
                (mask.leading_ones() + mask.trailing_zeros() >= 32)
                    .then_some(mask.leading_ones() as u8)?
            }
        },
    };
    if prefix > bits {
        return None;
    }
    let ip = match ip {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    };
    Some((ip, prefix))
}

/// `pkt_mark=N`, decimal, hexadecimal or octal.
fn mark(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("pkt_mark=")?;
    if let Some(hex) = digits.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => digits.parse().ok(),
    }
}

fn optional_mark(arg: Option<&String>) -> Result<u32, &'static str> {
    arg.map_or(Ok(0), |a| mark(a).ok_or("Invalid pkt_mark"))
}
