//! The paths and JSON of Ryu's `ofctl_rest` for OpenFlow 1.3, so that scripts written for it run.
//!
//! What differs: the token is asked for; a flow change is answered after the switch's barrier, and
//! a refusal is a problem document with the switch's words rather than an empty 200.

use super::{App, Json, Problem};
use crate::flows::{SwitchRef, fields_of, parse_actions, parse_match};
use crate::inventory::DatapathId;
use crate::switch::{SwitchHandle, answer};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use openflow::field::Format;
use openflow::text::Names;
use openflow::{
    Action, FieldId, FlowFilter, FlowFlags, FlowMod, FlowModCommand, FlowStats, Instructions,
    MacAddr, Match, Message, MultipartReply, MultipartRequest, PortDesc, PortNo, PortStats,
    TABLE_ALL,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn find(app: &App, dpid: &str) -> Result<Arc<SwitchHandle>, Problem> {
    // Ryu writes ids in decimal and reads them as Python's int(dpid, 0) does.
    let id = match dpid.strip_prefix("0x") {
        Some(h) => u64::from_str_radix(h, 16).ok(),
        None => dpid.parse().ok(),
    }
    .ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-dpid",
            format!("{dpid}: a datapath id is a decimal number here"),
        )
    })?;
    app.hub
        .switch(&SwitchRef::Id(DatapathId(id)))
        .ok_or_else(|| Problem::not_found(format!("switch {dpid} is not connected")))
}

fn keyed(h: &SwitchHandle, v: Value) -> Response {
    let mut o = Map::new();
    o.insert(h.dpid.0.to_string(), v);
    axum::Json(Value::Object(o)).into_response()
}

fn unexpected() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "switch-error",
        "the switch answered another question",
    )
}

pub(super) async fn switches(State(app): State<App>) -> Response {
    let ids: Vec<u64> = app.hub.switches().iter().map(|h| h.dpid.0).collect();
    axum::Json(ids).into_response()
}

pub(super) async fn desc(
    State(app): State<App>,
    Path(dpid): Path<String>,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let MultipartReply::Desc(d) = h.ask(MultipartRequest::Desc).await? else {
        return Err(unexpected());
    };
    let v = json!({"mfr_desc": d.manufacturer, "hw_desc": d.hardware, "sw_desc": d.software,
        "serial_num": d.serial, "dp_desc": d.datapath});
    Ok(keyed(&h, v))
}

pub(super) async fn flow(app: State<App>, dpid: Path<String>) -> Result<Response, Problem> {
    flow_filtered(app, dpid, Json(json!({}))).await
}

pub(super) async fn flow_filtered(
    State(app): State<App>,
    Path(dpid): Path<String>,
    Json(body): Json,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let filter = parse_filter(&body)?;
    let priority = body.get("priority").and_then(Value::as_u64);
    let MultipartReply::Flow(flows) = h.ask(MultipartRequest::Flow(filter)).await? else {
        return Err(unexpected());
    };
    let version = h.with(|s| s.version);
    let list = flows
        .iter()
        .filter(|f| priority.is_none_or(|p| p == u64::from(f.priority)))
        .map(|f| flow_json(version, f))
        .collect();
    Ok(keyed(&h, Value::Array(list)))
}

pub(super) async fn aggregate(app: State<App>, dpid: Path<String>) -> Result<Response, Problem> {
    aggregate_filtered(app, dpid, Json(json!({}))).await
}

pub(super) async fn aggregate_filtered(
    State(app): State<App>,
    Path(dpid): Path<String>,
    Json(body): Json,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let filter = parse_filter(&body)?;
    let MultipartReply::Aggregate(a) = h.ask(MultipartRequest::Aggregate(filter)).await? else {
        return Err(unexpected());
    };
    let v = json!([{"packet_count": a.packets, "byte_count": a.bytes, "flow_count": a.flows}]);
    Ok(keyed(&h, v))
}

pub(super) async fn table(
    State(app): State<App>,
    Path(dpid): Path<String>,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let MultipartReply::Table(tables) = h.ask(MultipartRequest::Table).await? else {
        return Err(unexpected());
    };
    let list = tables
        .iter()
        .map(|t| json!({"table_id": t.table, "active_count": t.active, "lookup_count": t.lookups, "matched_count": t.matched}))
        .collect();
    Ok(keyed(&h, Value::Array(list)))
}

pub(super) async fn port(app: State<App>, Path(dpid): Path<String>) -> Result<Response, Problem> {
    port_stats(app, dpid, PortNo::ANY).await
}

pub(super) async fn one_port(
    app: State<App>,
    Path((dpid, port)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let port = port_number(&port)?;
    port_stats(app, dpid, port).await
}

async fn port_stats(
    State(app): State<App>,
    dpid: String,
    port: PortNo,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let MultipartReply::PortStats(ports) = h.ask(MultipartRequest::PortStats(port)).await? else {
        return Err(unexpected());
    };
    Ok(keyed(&h, ports.iter().map(port_stats_json).collect()))
}

pub(super) async fn portdesc(
    State(app): State<App>,
    Path(dpid): Path<String>,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    Ok(keyed(
        &h,
        h.with(|s| s.ports().map(port_desc_json).collect()),
    ))
}

pub(super) async fn one_portdesc(
    State(app): State<App>,
    Path((dpid, port)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let port = port_number(&port)?;
    let list = h
        .with(|s| s.port(port).map(port_desc_json))
        .into_iter()
        .collect();
    Ok(keyed(&h, list))
}

fn port_number(s: &str) -> Result<PortNo, Problem> {
    match s {
        "ANY" | "ALL" => Ok(PortNo::ANY),
        "LOCAL" => Ok(PortNo::LOCAL),
        _ => s.parse().map(PortNo).map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-port",
                format!("{s}: a port number or LOCAL is wanted"),
            )
        }),
    }
}

pub(super) async fn clear(
    State(app): State<App>,
    Path(dpid): Path<String>,
) -> Result<Response, Problem> {
    let h = find(&app, &dpid)?;
    let all = FlowMod {
        command: FlowModCommand::Delete,
        table: TABLE_ALL,
        ..FlowMod::add(Match::new(), Instructions::default())
    };
    send(&h, all).await
}

pub(super) async fn flowentry(
    State(app): State<App>,
    Path(command): Path<String>,
    Json(body): Json,
) -> Result<Response, Problem> {
    let command = match command.as_str() {
        "add" => FlowModCommand::Add,
        "modify" => FlowModCommand::Modify,
        "modify_strict" => FlowModCommand::ModifyStrict,
        "delete" => FlowModCommand::Delete,
        "delete_strict" => FlowModCommand::DeleteStrict,
        other => {
            return Err(Problem::not_found(format!(
                "{other} is none of add, modify, modify_strict, delete, delete_strict"
            )));
        }
    };
    let dpid = match body.get("dpid") {
        Some(Value::Number(n)) => n.to_string(),
        Some(Value::String(s)) => s.clone(),
        _ => {
            return Err(crate::flows::FieldError::new(
                "/dpid",
                "the switch's datapath id is wanted",
            )
            .into());
        }
    };
    let h = find(&app, &dpid)?;
    let matching = body_match(&body)?;
    let instructions = match body.get("actions") {
        Some(Value::Array(list)) => parse_actions(list, &matching, &Names::default(), "/actions")?,
        None => Instructions::default(),
        Some(_) => {
            return Err(crate::flows::FieldError::new("/actions", "a list is wanted").into());
        }
    };
    let flags = number(&body, "flags", 0, 0x1f)?;
    let message = FlowMod {
        command,
        cookie: number(&body, "cookie", 0, u64::MAX)?,
        cookie_mask: number(&body, "cookie_mask", 0, u64::MAX)?,
        table: number(&body, "table_id", 0, 0xff)? as u8,
        priority: number(&body, "priority", 0, 0xffff)? as u16,
        idle_timeout: number(&body, "idle_timeout", 0, 0xffff)? as u16,
        hard_timeout: number(&body, "hard_timeout", 0, 0xffff)? as u16,
        out_port: PortNo(number(&body, "out_port", PortNo::ANY.0.into(), u32::MAX.into())? as u32),
        out_group: out_group(&body)?,
        flags: FlowFlags {
            send_flow_rem: flags & 1 != 0,
            check_overlap: flags & 2 != 0,
            reset_counts: flags & 4 != 0,
            no_packet_counts: flags & 8 != 0,
            no_byte_counts: flags & 16 != 0,
        },
        ..FlowMod::add(matching, instructions)
    };
    send(&h, message).await
}

async fn send(h: &SwitchHandle, message: FlowMod) -> Result<Response, Problem> {
    let refused = answer(h.program(vec![message])?).await?;
    match refused.into_iter().next() {
        None => Ok(StatusCode::OK.into_response()),
        Some((_, why)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "refused-by-switch",
            format!("the switch refused the flow: {why}"),
        )),
    }
}

fn number(body: &Value, name: &str, default: u64, max: u64) -> Result<u64, Problem> {
    let v = match body.get(name) {
        None => return Ok(default),
        Some(Value::String(s)) => match s.strip_prefix("0x") {
            Some(h) => u64::from_str_radix(h, 16).ok(),
            None => s.parse().ok(),
        },
        Some(v) => v.as_u64(),
    };
    v.filter(|v| *v <= max).ok_or_else(|| {
        crate::flows::FieldError::new(
            format!("/{name}"),
            format!("a number from 0 to {max} is wanted"),
        )
        .into()
    })
}

fn out_group(body: &Value) -> Result<Option<u32>, Problem> {
    let g = number(body, "out_group", u32::MAX.into(), u32::MAX.into())? as u32;
    Ok((g != u32::MAX).then_some(g))
}

fn body_match(body: &Value) -> Result<Match, Problem> {
    match body.get("match") {
        None => Ok(Match::new()),
        Some(Value::Object(o)) => Ok(parse_match(o, &Names::default(), "/match")?),
        Some(_) => Err(crate::flows::FieldError::new("/match", "an object is wanted").into()),
    }
}

fn parse_filter(body: &Value) -> Result<FlowFilter, Problem> {
    if !body.is_object() {
        return Err(crate::flows::FieldError::new("", "an object is wanted").into());
    }
    Ok(FlowFilter {
        table: number(body, "table_id", TABLE_ALL.into(), 0xff)? as u8,
        out_port: PortNo(number(body, "out_port", PortNo::ANY.0.into(), u32::MAX.into())? as u32),
        out_group: out_group(body)?,
        cookie: number(body, "cookie", 0, u64::MAX)?,
        cookie_mask: number(body, "cookie_mask", 0, u64::MAX)?,
        matching: body_match(body)?,
    })
}

fn flow_json(version: u8, f: &FlowStats) -> Value {
    let flags = u16::from(f.flags.send_flow_rem)
        | u16::from(f.flags.check_overlap) << 1
        | u16::from(f.flags.reset_counts) << 2
        | u16::from(f.flags.no_packet_counts) << 3
        | u16::from(f.flags.no_byte_counts) << 4;
    // A flow's statistics and the message that adds it are equally long (OpenFlow 1.3.5 7.3.4.1 and
    // 7.3.5.2: 48 bytes before the match in both).
    let again = FlowMod::add(f.matching.clone(), f.instructions.clone());
    let length =
        openflow::wire::encode(version, 0, &Message::FlowMod(again)).map_or(0, |b| b.len());
    json!({
        "priority": f.priority,
        "cookie": f.cookie,
        "idle_timeout": f.idle_timeout,
        "hard_timeout": f.hard_timeout,
        "actions": actions_text(&f.instructions),
        "match": match_text(&f.matching),
        "byte_count": f.bytes,
        "duration_sec": f.duration.as_secs(),
        "duration_nsec": f.duration.subsec_nanos(),
        "packet_count": f.packets,
        "table_id": f.table,
        "flags": flags,
        "length": length,
    })
}

/// Ryu's names where they differ from the field table's.
fn ryu_name(id: FieldId, name: &'static str) -> &'static str {
    match id {
        FieldId::EthSrc => "dl_src",
        FieldId::EthDst => "dl_dst",
        FieldId::EthType => "dl_type",
        FieldId::VlanVid => "dl_vlan",
        FieldId::Ipv4Src => "nw_src",
        FieldId::Ipv4Dst => "nw_dst",
        FieldId::IpProto => "nw_proto",
        FieldId::TcpSrc | FieldId::UdpSrc => "tp_src",
        FieldId::TcpDst | FieldId::UdpDst => "tp_dst",
        FieldId::Icmpv4Type => "icmpv4_type",
        FieldId::Icmpv4Code => "icmpv4_code",
        FieldId::TunId => "tunnel_id",
        FieldId::Ipv6Label => "ipv6_flabel",
        FieldId::NdTarget => "ipv6_nd_target",
        FieldId::NdSll => "ipv6_nd_sll",
        FieldId::NdTll => "ipv6_nd_tll",
        _ => name,
    }
}

fn match_text(m: &Match) -> Value {
    let mut o = Map::new();
    for (f, value, mask) in fields_of(m) {
        let full = mask == f.full_mask();
        let v = match f.id {
            FieldId::VlanVid if !full => json!(format!("{value:#06x}/{mask:#06x}")),
            FieldId::VlanVid if value & 0x1000 != 0 => json!((value & 0xfff).to_string()),
            FieldId::VlanVid => json!(format!("{value:#06x}")),
            FieldId::InPort => port_json(value as u32),
            _ if full => match u64::try_from(value) {
                Ok(v) if is_number(f.format) => json!(v),
                _ => json!(plain(f.format, value)),
            },
            _ => json!(format!(
                "{}/{}",
                plain(f.format, value),
                plain(f.format, mask)
            )),
        };
        o.insert(ryu_name(f.id, f.name).to_owned(), v);
    }
    Value::Object(o)
}

fn is_number(f: Format) -> bool {
    !matches!(
        f,
        Format::Ethernet | Format::Ipv4 | Format::Ipv6 | Format::Port
    )
}

fn plain(f: Format, v: u128) -> String {
    match f {
        Format::Ethernet => MacAddr::from_u64(v as u64).to_string(),
        Format::Ipv4 => std::net::Ipv4Addr::from(v as u32).to_string(),
        Format::Ipv6 => std::net::Ipv6Addr::from(v).to_string(),
        Format::Port => PortNo(v as u32).to_string(),
        _ => v.to_string(),
    }
}

fn actions_text(i: &Instructions) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(m) = i.meter {
        out.push(json!(format!("METER:{m}")));
    }
    out.extend(i.apply.iter().map(|a| json!(action_text(a))));
    if i.clear_actions {
        out.push(json!("CLEAR_ACTIONS"));
    }
    if !i.write.is_empty() {
        out.push(json!({"WRITE_ACTIONS": i.write.iter().map(action_text).collect::<Vec<_>>()}));
    }
    if let Some((v, m)) = i.metadata {
        out.push(json!(if m == 0 {
            format!("WRITE_METADATA:{v:#x}")
        } else {
            format!("WRITE_METADATA:{v:#x}/{m:#x}")
        }));
    }
    if let Some(t) = i.goto_table {
        out.push(json!(format!("GOTO_TABLE:{t}")));
    }
    out
}

fn action_text(a: &Action) -> String {
    match a {
        Action::Output { port, .. } => format!("OUTPUT:{port}"),
        Action::CopyTtlOut => "COPY_TTL_OUT".into(),
        Action::CopyTtlIn => "COPY_TTL_IN".into(),
        Action::SetField {
            field: FieldId::MplsTtl,
            value,
            ..
        } => format!("SET_MPLS_TTL:{value}"),
        Action::SetField {
            field: FieldId::NwTtl,
            value,
            ..
        } => format!("SET_NW_TTL:{value}"),
        Action::SetField { field, value, .. } => {
            let name = match field {
                FieldId::Ipv4Src => "ipv4_src",
                FieldId::Ipv4Dst => "ipv4_dst",
                FieldId::IpProto => "ip_proto",
                f => match ryu_name(*f, f.info().name) {
                    n if n.starts_with("dl_") || n.starts_with("tp_") => f.info().name,
                    n => n,
                },
            };
            format!(
                "SET_FIELD: {{{name}:{}}}",
                plain(field.info().format, *value)
            )
        }
        Action::DecMplsTtl => "DEC_MPLS_TTL".into(),
        Action::PushVlan(t) => format!("PUSH_VLAN:{t}"),
        Action::PopVlan => "POP_VLAN".into(),
        Action::PushMpls(t) => format!("PUSH_MPLS:{t}"),
        Action::PopMpls(t) => format!("POP_MPLS:{t}"),
        Action::SetQueue(q) => format!("SET_QUEUE:{q}"),
        Action::Group(g) => format!("GROUP:{g}"),
        Action::DecTtl(_) => "DEC_NW_TTL".into(),
        _ => "UNKNOWN".into(),
    }
}

fn port_json(n: u32) -> Value {
    if n == PortNo::LOCAL.0 {
        json!("LOCAL")
    } else {
        json!(n)
    }
}

fn port_stats_json(p: &PortStats) -> Value {
    json!({
        "port_no": port_json(p.port),
        "rx_packets": p.rx_packets, "tx_packets": p.tx_packets,
        "rx_bytes": p.rx_bytes, "tx_bytes": p.tx_bytes,
        "rx_dropped": p.rx_dropped, "tx_dropped": p.tx_dropped,
        "rx_errors": p.rx_errors, "tx_errors": p.tx_errors,
        "rx_frame_err": p.rx_frame_err, "rx_over_err": p.rx_over_err, "rx_crc_err": p.rx_crc_err,
        "collisions": p.collisions,
        "duration_sec": p.duration.as_secs(), "duration_nsec": p.duration.subsec_nanos(),
    })
}

fn port_desc_json(p: &PortDesc) -> Value {
    // OFPPC_* and OFPPS_* bits (OpenFlow 1.3.5 7.2.1).
    let c = &p.config;
    let config = u32::from(c.port_down)
        | u32::from(c.no_recv) << 2
        | u32::from(c.no_fwd) << 5
        | u32::from(c.no_packet_in) << 6;
    let state = u32::from(p.link_down) | u32::from(p.live) << 2;
    json!({
        "port_no": port_json(p.port.0), "hw_addr": p.mac.to_string(), "name": p.name,
        "config": config, "state": state,
        "curr": p.current, "advertised": p.advertised, "supported": p.supported, "peer": p.peer,
        "curr_speed": p.current_speed, "max_speed": p.max_speed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_and_actions_are_written_as_ryu_does() {
        let m = Match::new()
            .with(FieldId::InPort, 1)
            .with(FieldId::EthDst, 0x5254_0000_0001)
            .with(FieldId::EthType, 0x0800)
            .with(FieldId::VlanVid, 0x100a)
            .with(FieldId::IpProto, 6)
            .with(FieldId::TcpDst, 80);
        assert_eq!(
            match_text(&m),
            json!({"in_port": 1, "dl_dst": "52:54:00:00:00:01", "dl_type": 2048, "dl_vlan": "10", "nw_proto": 6, "tp_dst": 80})
        );
        let i = Instructions {
            apply: vec![
                Action::SetField {
                    field: FieldId::TcpDst,
                    value: 8080,
                    mask: 0xffff,
                },
                Action::Output {
                    port: PortNo(2),
                    max_len: 0,
                },
                Action::Output {
                    port: PortNo::CONTROLLER,
                    max_len: 0xffff,
                },
            ],
            goto_table: Some(3),
            ..Instructions::default()
        };
        assert_eq!(
            actions_text(&i),
            [
                json!("SET_FIELD: {tcp_dst:8080}"),
                json!("OUTPUT:2"),
                json!("OUTPUT:CONTROLLER"),
                json!("GOTO_TABLE:3")
            ]
        );
    }
}
