//! Connection tracking zones and datapaths: ovs-vsctl(8), "Conntrack Zone Commands" and "Datapath
//! Capabilities Command".
//!
//! Stricter than Open vSwitch in one thing: a zone or timeout that is no number is refused, where
//! Open vSwitch takes what its digits happen to begin with, or whatever was in memory.

use std::collections::BTreeMap;

use ovsdb::Atom;
use ovsdb::text::atom_bare;
use uuid::Uuid;

use super::context::{Context, Outcome, Stop, fatal};
use super::model::Datum;

/// The datapath named by the first argument.
fn datapath(ctx: &mut Context) -> Option<Uuid> {
    let wanted = Atom::from(ctx.arg(1));
    let datapaths = ctx.view.get_verified("Open_vSwitch", ctx.root, "datapaths");
    match datapaths {
        Datum::Map(map) => map.get(&wanted).and_then(Atom::as_uuid),
        Datum::Set(_) => None,
    }
}

/// As [`datapath()`], an error if there is none.
fn existing_datapath(ctx: &mut Context) -> Result<Uuid, Stop> {
    match datapath(ctx) {
        Some(row) => Ok(row),
        None => fatal!("datapath {} does not exist", ctx.arg(1)),
    }
}

/// The second argument, `zone=ID`.
fn zone_id(ctx: &Context) -> Result<i64, Stop> {
    let typed = ctx.arg(2);
    match typed.strip_prefix("zone=").map(str::parse) {
        Some(Ok(id)) => Ok(id),
        _ => fatal!("{typed}: a zone is given as zone=ID, where ID is a number from 0 to 65535"),
    }
}

/// The zones of a datapath, by number.
fn zones(ctx: &mut Context, datapath: Uuid) -> BTreeMap<i64, Uuid> {
    match ctx.view.get_verified("Datapath", datapath, "ct_zones") {
        Datum::Map(map) => map
            .iter()
            .filter_map(|(id, row)| Some((id.as_int()?, row.as_uuid()?)))
            .collect(),
        Datum::Set(_) => BTreeMap::new(),
    }
}

fn set_zones(ctx: &mut Context, datapath: Uuid, zones: BTreeMap<i64, Uuid>) {
    let map = zones
        .into_iter()
        .map(|(id, row)| (Atom::Integer(id), Atom::Uuid(row)));
    let map = Datum::Map(map.collect());
    ctx.view.set("Datapath", datapath, "ct_zones", map);
}

/// The timeout policy that the arguments from the third on (`KEY=SECONDS`) describe: a row that is
/// there already, else a new one.
fn timeout_policy(ctx: &mut Context) -> Result<Uuid, Stop> {
    let mut timeouts = BTreeMap::new();
    for arg in ctx.args_from(3) {
        match arg.split_once('=').map(|(k, v)| (k, v.parse())) {
            Some((key, Ok(seconds))) => timeouts.insert(Atom::from(key), Atom::Integer(seconds)),
            _ => fatal!("{arg}: a timeout is given as KEY=SECONDS, for example tcp_syn_sent=30"),
        };
    }
    let timeouts = Datum::Map(timeouts);
    for row in ctx.view.rows("CT_Timeout_Policy") {
        if ctx.view.get_verified("CT_Timeout_Policy", row, "timeouts") == timeouts {
            return Ok(row);
        }
    }
    Ok(ctx
        .view
        .insert("CT_Timeout_Policy", &[("timeouts", timeouts)]))
}

/// `add-zone-tp DATAPATH zone=ID KEY=SECONDS...`
pub fn add(ctx: &mut Context) -> Outcome {
    let id = zone_id(ctx)?;
    let datapath = existing_datapath(ctx)?;
    let mut zones = zones(ctx, datapath);
    let known = zones.get(&id).copied();
    if known.is_some() && !ctx.call.has("--may-exist") {
        fatal!("zone id {id} already exists");
    }
    let policy = ("timeout_policy", Datum::uuids([timeout_policy(ctx)?]));
    match known {
        Some(zone) => ctx.view.set("CT_Zone", zone, policy.0, policy.1),
        None => {
            let zone = ctx.view.insert("CT_Zone", &[policy]);
            zones.insert(id, zone);
            set_zones(ctx, datapath, zones);
        }
    }
    Ok(())
}

/// `del-zone-tp DATAPATH zone=ID`
pub fn delete(ctx: &mut Context) -> Outcome {
    let id = zone_id(ctx)?;
    let datapath = existing_datapath(ctx)?;
    let mut zones = zones(ctx, datapath);
    if zones.remove(&id).is_some() {
        set_zones(ctx, datapath, zones);
    } else if !ctx.call.has("--if-exists") {
        fatal!("zone id {id} does not exist");
    }
    Ok(())
}

/// Pairs as `key=value`, separated by blanks.
fn pairs(value: &Datum) -> String {
    let text = |(k, v)| format!("{}={}", atom_bare(k), atom_bare(v));
    match value {
        Datum::Map(map) => map.iter().map(text).collect::<Vec<_>>().join(" "),
        Datum::Set(_) => String::new(),
    }
}

/// `list-zone-tp DATAPATH`
pub fn list(ctx: &mut Context) -> Outcome {
    let Some(datapath) = datapath(ctx) else {
        fatal!("datapath: {} record not found", ctx.arg(1));
    };
    for (id, zone) in zones(ctx, datapath) {
        let policy = ctx.view.get("CT_Zone", zone, "timeout_policy");
        let timeouts = match policy.to_uuids().first() {
            Some(row) => pairs(&ctx.view.get("CT_Timeout_Policy", *row, "timeouts")),
            None => "system default".into(),
        };
        ctx.line(format!("Zone:{id}, Timeout Policies: {timeouts}"));
    }
    Ok(())
}

/// `list-dp-cap DATAPATH`
pub fn capabilities(ctx: &mut Context) -> Outcome {
    let Some(datapath) = datapath(ctx) else {
        fatal!("datapath \"{}\" record not found", ctx.arg(1));
    };
    let capabilities = ctx.view.get("Datapath", datapath, "capabilities");
    ctx.line(pairs(&capabilities));
    Ok(())
}
