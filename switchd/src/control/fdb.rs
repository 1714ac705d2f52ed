//! `fdb/…`: learned addresses, and those put in by hand; the texts are those of Open vSwitch 3.1.

use super::commands::Context;
use crate::switch::Switch;
use openflow::{MacAddr, PortNo};
use std::fmt::Write as _;

/// A port as it is shown.
fn shown(port: PortNo) -> String {
    match port {
        PortNo::LOCAL => "LOCAL".to_owned(),
        n => n.0.to_string(),
    }
}

fn check_bridge(c: &Context, bridge: &str) -> Result<(), String> {
    match c.switch.bridge(bridge) {
        Some(_) => Ok(()),
        None => Err("no such bridge".to_owned()),
    }
}

/// The named bridge, or all.
fn bridges(c: &Context, args: &[String]) -> Result<Vec<String>, String> {
    match args.first() {
        Some(name) => check_bridge(c, name).map(|()| vec![name.clone()]),
        None => Ok(c
            .switch
            .bridges()
            .iter()
            .map(|b| b.name().to_owned())
            .collect()),
    }
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse::<MacAddr>()
        .ok()
        .filter(|m| !m.is_multicast())
        .ok_or_else(|| "bad MAC address".to_owned())
}

fn vlan(text: &str) -> Result<u16, String> {
    text.parse::<u16>()
        .ok()
        .filter(|v| *v < 4096)
        .ok_or_else(|| format!("bad VLAN \"{text}\": 0 to 4095, 0 for none"))
}

/// `fdb/add bridge port vlan mac`.
pub fn add(c: &Context, a: &[String]) -> Result<String, String> {
    let bridge = &a[0];
    check_bridge(c, bridge)?;
    let mac = mac(&a[3])?;
    let port = c
        .switch
        .state()
        .actual
        .bridges
        .get(bridge)
        .and_then(|b| b.ports.get(&a[1]))
        .map(|p| p.number)
        .ok_or("software error, odp port is present but no ofp port")?;
    let vlan = vlan(&a[2])?;
    let added = c.switch.plane().fdb_add(bridge, port, vlan, mac);
    match added.map_err(|why| format!("could not add static mac entry: {why}"))? {
        None => Ok(String::new()),
        Some(b) if b.fixed && b.port == Some(port) => Ok(String::new()),
        Some(b) => {
            let kind = if b.fixed { "static" } else { "dynamic" };
            let was = b
                .port
                .map_or_else(|| "a port that is gone".to_owned(), shown);
            Ok(format!(
                "Overriding already existing {kind} entry on {was}\n"
            ))
        }
    }
}

/// `fdb/del bridge vlan mac`.
pub fn delete(c: &Context, a: &[String]) -> Result<String, String> {
    check_bridge(c, &a[0])?;
    let mac = mac(&a[2])?;
    let there = match vlan(&a[1]) {
        Ok(vlan) => c.switch.plane().fdb_remove(&a[0], vlan, mac),
        Err(_) => false,
    };
    match there {
        true => Ok(String::new()),
        false => Err("could not find static mac entry".to_owned()),
    }
}

/// `fdb/flush [bridge]`.
pub fn flush(c: &Context, a: &[String]) -> Result<String, String> {
    for bridge in bridges(c, a)? {
        c.switch.plane().fdb_flush(&bridge);
    }
    Ok("table successfully flushed".to_owned())
}

/// `fdb/stats-clear [bridge]`.
pub fn clear_stats(c: &Context, a: &[String]) -> Result<String, String> {
    for bridge in bridges(c, a)? {
        c.switch.plane().fdb_clear_stats(&bridge);
    }
    Ok("statistics successfully cleared".to_owned())
}

/// `fdb/show bridge`.
pub fn show(switch: &Switch, bridge: &str) -> Result<String, String> {
    switch.bridge(bridge).ok_or("no such bridge")?;
    let mut out = String::from(" port  VLAN  MAC                Age\n");
    for e in switch.plane().fdb(bridge) {
        let _ = write!(out, "{:>5}  {:>4}  {}  ", shown(e.port), e.vlan, e.mac);
        let _ = match e.age {
            Some(age) => writeln!(out, "{:>3}", age.as_secs()),
            None => writeln!(out, "static"),
        };
    }
    Ok(out)
}

/// `fdb/stats-show bridge`.
pub fn stats(switch: &Switch, bridge: &str) -> Result<String, String> {
    switch.bridge(bridge).ok_or("no such bridge")?;
    let s = switch.plane().fdb_stats(bridge);
    Ok(format!(
        "Statistics for bridge \"{bridge}\":\n\
         \x20 Current/maximum MAC entries in the table: {}/{}\n\
         \x20 Current static MAC entries in the table : {}\n\
         \x20 Total number of learned MAC entries     : {}\n\
         \x20 Total number of expired MAC entries     : {}\n\
         \x20 Total number of evicted MAC entries     : {}\n\
         \x20 Total number of port moved MAC entries  : {}\n",
        s.current, s.max, s.fixed, s.learned, s.expired, s.evicted, s.moved
    ))
}
