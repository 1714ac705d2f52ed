//! `/api/v1`: the controller's own API.

use super::{App, Json, Problem};
use crate::flows::{NamedFlow, SwitchRef, actions_json, check_name, match_json};
use crate::hub::{FlowEntry, FlowState, Step};
use crate::inventory::{Switch, is_up};
use crate::switch::SwitchHandle;
use crate::topology::{Endpoint, Host, Link};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use openflow::text::Names;
use openflow::{
    FlowFilter, FlowStats, MultipartReply, MultipartRequest, PortDesc, PortNo, PortStats, TABLE_ALL,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Flows in one POST.
pub const MAX_BATCH: usize = 10_000;

pub(super) fn find(app: &App, which: &str) -> Result<Arc<SwitchHandle>, Problem> {
    app.hub.switch(&SwitchRef::parse(which)).ok_or_else(|| {
        Problem::not_found(format!(
            "no switch {which} is connected; a switch is named by its datapath id (16 hexadecimal digits) or its bridge's name"
        ))
    })
}

fn unexpected() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "switch-error",
        "the switch answered another question",
    )
}

fn switch_json(h: &SwitchHandle) -> Value {
    let s: Switch = h.info();
    let mut v = json!({
        "id": s.dpid.to_string(),
        "dpid": s.dpid.0,
        "name": s.name(),
        "address": s.peer.to_string(),
        "version": version_text(s.version),
        "connected_seconds": h.since.elapsed().as_secs_f64(),
        "description": {
            "manufacturer": s.desc.manufacturer, "hardware": s.desc.hardware,
            "software": s.desc.software, "serial": s.desc.serial, "datapath": s.desc.datapath,
        },
        "tables": s.features.tables,
        "buffers": s.features.buffers,
        "capabilities": s.features.capabilities,
        "ports": s.ports().map(port_json).collect::<Vec<_>>(),
    });
    for (name, _, n) in h.counters.rows() {
        v[name] = json!(n);
    }
    v
}

fn version_text(v: u8) -> String {
    match v {
        1..=6 => format!("1.{}", v - 1),
        _ => v.to_string(),
    }
}

fn port_number(p: PortNo) -> Value {
    if p == PortNo::LOCAL {
        json!("LOCAL")
    } else {
        json!(p.0)
    }
}

fn port_json(p: &PortDesc) -> Value {
    json!({
        "port": port_number(p.port),
        "name": p.name,
        "mac": p.mac.to_string(),
        "up": is_up(p),
        "link": !p.link_down,
        "enabled": !p.config.port_down,
        "current_speed_kbps": p.current_speed,
        "max_speed_kbps": p.max_speed,
    })
}

fn counters_json(p: &PortStats) -> Value {
    // All ones: a counter that the switch does not keep.
    let c = |v: u64| if v == u64::MAX { Value::Null } else { json!(v) };
    json!({
        "rx_packets": c(p.rx_packets), "tx_packets": c(p.tx_packets),
        "rx_bytes": c(p.rx_bytes), "tx_bytes": c(p.tx_bytes),
        "rx_dropped": c(p.rx_dropped), "tx_dropped": c(p.tx_dropped),
        "rx_errors": c(p.rx_errors), "tx_errors": c(p.tx_errors),
        "collisions": c(p.collisions), "duration_seconds": p.duration.as_secs_f64(),
    })
}

pub(super) async fn switches(State(app): State<App>) -> Response {
    let list: Vec<_> = app.hub.switches().iter().map(|h| switch_json(h)).collect();
    axum::Json(json!({"switches": list})).into_response()
}

pub(super) async fn switch(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(axum::Json(switch_json(&*find(&app, &id)?)).into_response())
}

pub(super) async fn ports(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let h = find(&app, &id)?;
    let MultipartReply::PortStats(stats) = h.ask(MultipartRequest::PortStats(PortNo::ANY)).await?
    else {
        return Err(unexpected());
    };
    let stats: HashMap<u32, PortStats> = stats.into_iter().map(|s| (s.port, s)).collect();
    let list: Vec<_> = h.with(|s| {
        s.ports()
            .map(|p| {
                let mut v = port_json(p);
                v["counters"] = stats.get(&p.port.0).map_or(Value::Null, counters_json);
                v
            })
            .collect()
    });
    Ok(axum::Json(json!({"ports": list})).into_response())
}

pub(super) async fn tables(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let h = find(&app, &id)?;
    let MultipartReply::Table(tables) = h.ask(MultipartRequest::Table).await? else {
        return Err(unexpected());
    };
    let list: Vec<_> = tables
        .iter()
        .map(|t| json!({"table": t.table, "flows": t.active, "lookups": t.lookups, "matched": t.matched}))
        .collect();
    Ok(axum::Json(json!({"tables": list})).into_response())
}

pub(super) async fn switch_flows(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Problem> {
    let h = find(&app, &id)?;
    let mut filter = FlowFilter::default();
    for (k, v) in &query {
        match (k.as_str(), v.parse()) {
            ("table", Ok(t)) if t < TABLE_ALL => filter.table = t,
            ("table", _) => {
                return Err(crate::flows::FieldError::new(
                    "?table",
                    format!("{v}: a number from 0 to 254 is wanted"),
                )
                .into());
            }
            _ => {
                return Err(crate::flows::FieldError::new(
                    format!("?{k}"),
                    "there is no such filter; there is table",
                )
                .into());
            }
        }
    }
    let flows = on_switch(&h, filter).await?;
    let names: HashMap<u64, String> = app
        .hub
        .flows()
        .into_iter()
        .map(|e| (crate::cookie::named(&e.flow.name), e.flow.name.clone()))
        .collect();
    let list: Vec<_> = flows.iter().map(|f| stats_json(f, &names)).collect();
    Ok(axum::Json(json!({"flows": list})).into_response())
}

pub(super) async fn on_switch(
    h: &SwitchHandle,
    filter: FlowFilter,
) -> Result<Vec<FlowStats>, Problem> {
    match h.ask(MultipartRequest::Flow(filter)).await? {
        MultipartReply::Flow(mut flows) => {
            flows.sort_by(|a, b| (a.table, b.priority).cmp(&(b.table, a.priority)));
            Ok(flows)
        }
        _ => Err(unexpected()),
    }
}

/// Who installed a flow, by its cookie.
pub(super) fn owner(cookie: u64) -> &'static str {
    use crate::cookie::{LEARNED, LLDP, NAMED, OWNER_MASK, TABLE_MISS};
    match cookie & OWNER_MASK {
        NAMED => "named",
        LEARNED => "learning-switch",
        TABLE_MISS => "table-miss",
        LLDP => "lldp",
        _ => "other",
    }
}

fn stats_json(f: &FlowStats, names: &HashMap<u64, String>) -> Value {
    json!({
        "table": f.table,
        "priority": f.priority,
        "match": match_json(&f.matching),
        "actions": actions_json(&f.instructions),
        "text": crate::flows::flow_text(f.priority, &f.matching, &f.instructions),
        "idle_timeout": f.idle_timeout,
        "hard_timeout": f.hard_timeout,
        "cookie": format!("{:#018x}", f.cookie),
        "owner": owner(f.cookie),
        "name": names.get(&f.cookie),
        "packets": f.packets,
        "bytes": f.bytes,
        "duration_seconds": f.duration.as_secs_f64(),
    })
}

fn end_json(app: &App, e: Endpoint) -> Value {
    let (name, port) = match app.hub.switch(&SwitchRef::Id(e.dpid)) {
        Some(h) => h.with(|s| (Some(s.name()), s.port(e.port).map(|p| p.name.clone()))),
        None => (None, None),
    };
    json!({"switch": e.dpid.to_string(), "switch_name": name, "port": port_number(e.port), "port_name": port})
}

pub(super) async fn hosts(State(app): State<App>) -> Response {
    let hosts: Vec<Host> = app.hub.topology().hosts().cloned().collect();
    let now = Instant::now();
    let list: Vec<_> = hosts
        .iter()
        .map(|h| {
            json!({
                "mac": h.mac.to_string(),
                "vlan": h.vlan,
                "ips": h.ips,
                "place": end_json(&app, h.place),
                "moves": h.moves,
                "known_seconds": now.saturating_duration_since(h.since).as_secs_f64(),
                "last_seen_seconds": now.saturating_duration_since(h.seen).as_secs_f64(),
            })
        })
        .collect();
    axum::Json(json!({"hosts": list})).into_response()
}

pub(super) async fn links(State(app): State<App>) -> Response {
    let mut links: Vec<Link> = app.hub.topology().links().copied().collect();
    links.sort_by_key(|l| l.from);
    let now = Instant::now();
    let list: Vec<_> = links
        .iter()
        .map(|l| {
            json!({
                "from": end_json(&app, l.from),
                "to": end_json(&app, l.to),
                "known_seconds": now.saturating_duration_since(l.since).as_secs_f64(),
            })
        })
        .collect();
    axum::Json(json!({"links": list})).into_response()
}

pub(super) async fn stats(State(app): State<App>) -> Response {
    let switches = app.hub.switches();
    let per: Vec<_> = switches
        .iter()
        .map(|h| {
            let mut v = json!({"id": h.dpid.to_string(), "name": h.with(|s| s.name())});
            for (name, _, n) in h.counters.rows() {
                v[name] = json!(n);
            }
            v
        })
        .collect();
    let (hosts, links) = {
        let t = app.hub.topology();
        (t.hosts().count(), t.links().count())
    };
    let body = json!({
        "uptime_seconds": app.hub.start.elapsed().as_secs_f64(),
        "connections_accepted": app.hub.accepted.load(std::sync::atomic::Ordering::Relaxed),
        "connections_rejected": app.hub.rejected.load(std::sync::atomic::Ordering::Relaxed),
        "hosts": hosts,
        "links": links,
        "named_flows": app.hub.flows().len(),
        "switches": per,
    });
    axum::Json(body).into_response()
}

/// A named flow as answers carry it.
pub(super) fn flow_json(e: &FlowEntry) -> Value {
    let mut v = e.flow.to_json();
    v["cookie"] = json!(format!("{:#018x}", crate::cookie::named(&e.flow.name)));
    v["text"] = json!(e.flow.text());
    v["state"] = json!(e.state.word());
    v["detail"] = match &e.state {
        FlowState::Refused(why) => json!(why),
        FlowState::Pending => {
            json!("stored; installed as soon as the switch is connected and confirms it")
        }
        _ => Value::Null,
    };
    v
}

pub(super) async fn flows(State(app): State<App>) -> Response {
    let list: Vec<_> = app.hub.flows().iter().map(flow_json).collect();
    axum::Json(json!({"flows": list})).into_response()
}

pub(super) async fn flow(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let e = app.hub.flow(&name).ok_or_else(|| missing(&name))?;
    Ok(axum::Json(flow_json(&e)).into_response())
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format!("there is no flow named {name}"))
}

/// The port names of connected switches.
fn ports_of(app: &App) -> impl Fn(&SwitchRef) -> Names {
    |which| {
        let ports = app
            .hub
            .switch(which)
            .map(|h| h.with(|s| s.ports().map(|p| (p.port, p.name.clone())).collect()));
        Names {
            ports: ports.unwrap_or_default(),
            ..Names::default()
        }
    }
}

/// POST: one new flow, or a list of them (all or none).
pub(super) async fn add_flow(
    State(app): State<App>,
    Json(body): Json,
) -> Result<Response, Problem> {
    let Value::Array(list) = body else {
        let flow = NamedFlow::parse(&body, None, &ports_of(&app))?;
        let name = flow.name.clone();
        app.hub.change(vec![Step::Create(flow)]).await?;
        return answer_with(&app, &name, StatusCode::CREATED);
    };
    if list.len() > MAX_BATCH {
        return Err(crate::flows::FieldError::new(
            "",
            format!("{} flows; a list has at most {MAX_BATCH}", list.len()),
        )
        .into());
    }
    let mut steps = Vec::with_capacity(list.len());
    let mut names = Vec::with_capacity(list.len());
    for (i, v) in list.iter().enumerate() {
        let flow =
            NamedFlow::parse(v, None, &ports_of(&app)).map_err(|e| Problem::from(e).at(i))?;
        names.push(flow.name.clone());
        steps.push(Step::Create(flow));
    }
    app.hub.change(steps).await?;
    let entries: Vec<_> = names.iter().filter_map(|n| app.hub.flow(n)).collect();
    let pending = entries.iter().any(|e| e.state != FlowState::Installed);
    let status = if pending {
        StatusCode::ACCEPTED
    } else {
        StatusCode::CREATED
    };
    let list: Vec<_> = entries.iter().map(flow_json).collect();
    Ok((status, axum::Json(json!({"flows": list}))).into_response())
}

/// PUT: the flow is as given afterwards, whether it was there or not.
pub(super) async fn put_flow(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(body): Json,
) -> Result<Response, Problem> {
    let flow = NamedFlow::parse(&body, Some(&name), &ports_of(&app))?;
    if let Some(e) = app.hub.flow(&name)
        && *e.flow == flow
        && e.state == FlowState::Installed
    {
        // As it is already: the flow keeps its counters.
        return answer_with(&app, &name, StatusCode::OK);
    }
    let replaced = app.hub.change(vec![Step::Put(flow)]).await?;
    let new = replaced == [false];
    answer_with(
        &app,
        &name,
        if new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
    )
}

pub(super) async fn delete_flow(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    if check_name(&name).is_err() {
        return Err(missing(&name));
    }
    app.hub.change(vec![Step::Delete(name)]).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The flow; 202 while no switch has confirmed it.
fn answer_with(app: &App, name: &str, status: StatusCode) -> Result<Response, Problem> {
    let e = app.hub.flow(name).ok_or_else(|| missing(name))?;
    let status = if e.state == FlowState::Installed {
        status
    } else {
        StatusCode::ACCEPTED
    };
    let location = format!("/api/v1/flows/{name}");
    Ok((
        status,
        [(header::LOCATION, location)],
        axum::Json(flow_json(&e)),
    )
        .into_response())
}
