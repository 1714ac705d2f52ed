//! `/api/v1/openapi.json`: the API described for programs (OpenAPI 3.1).

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(super) async fn document() -> Response {
    axum::Json(openapi()).into_response()
}

fn list(name: &str, item: &str) -> Value {
    json!({"type": "object", "required": [name], "properties": {name: {"type": "array", "items": reference(item)}}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn ok(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn problem(description: &str) -> Value {
    json!({"description": description, "content": {"application/problem+json": {"schema": reference("Problem")}}})
}

/// One operation. Every one of them may find no token, or take too long.
fn operation(
    id: &str,
    summary: &str,
    answers: Vec<(&str, Value)>,
    body: Option<Value>,
    parameters: &[Value],
) -> Value {
    let mut responses = serde_json::Map::new();
    for (status, answer) in answers {
        responses.insert(status.into(), answer);
    }
    responses.insert("401".into(), problem("No token, or a wrong one"));
    responses.insert("408".into(), problem("The request took too long"));
    let mut o = json!({"operationId": id, "summary": summary, "responses": responses, "parameters": parameters});
    if let Some(schema) = body {
        o["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    o
}

fn parameter(name: &str, place: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "description": description, "schema": schema})
}

/// The document.
pub(super) fn openapi() -> Value {
    let which = parameter(
        "switch",
        "path",
        "Datapath id (16 hexadecimal digits) or bridge name",
        json!({"type": "string"}),
    );
    let name = parameter(
        "name",
        "path",
        "The flow's name",
        json!({"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}),
    );
    let table = parameter(
        "table",
        "query",
        "Only this table",
        json!({"type": "integer", "minimum": 0, "maximum": 254}),
    );
    let gone = || problem("No such switch is connected");
    let failed = |mut v: Vec<(&'static str, Value)>| {
        v.push((
            "502",
            problem("The switch answered with an error, or disconnected"),
        ));
        v.push(("503", problem("Too many requests wait for the switch")));
        v.push(("504", problem("The switch did not answer")));
        v
    };
    let changing = |mut v: Vec<(&'static str, Value)>| {
        v.push(("400", problem("The body is not JSON")));
        v.push((
            "409",
            problem("The name, or the match at this priority, is taken"),
        ));
        v.push(("413", problem("The body is larger than 4 MiB")));
        v.push((
            "422",
            problem(
                "A member is wrong (field names it), or the switch refused; nothing was changed",
            ),
        ));
        v.push(("500", problem("The store failed; nothing was changed")));
        v.push(("507", problem("There are as many flows as can be kept")));
        v
    };
    let no_flow = || problem("There is no such flow");
    json!({
        "openapi": "3.1.0",
        "info": {"title": "weir controller", "version": "1", "description": "Switches, hosts, links and named flows. Answers to changes come after the switch has confirmed them by barrier (200, 201), or say that they wait for it (202)."},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            "/api/v1/switches": {"get": operation("listSwitches", "The connected switches", vec![("200", ok("Switches", list("switches", "Switch")))], None, &[])},
            "/api/v1/switches/{switch}": {"get": operation("getSwitch", "One switch", vec![("200", ok("The switch", reference("Switch"))), ("404", gone())], None, std::slice::from_ref(&which))},
            "/api/v1/switches/{switch}/ports": {"get": operation("listPorts", "Its ports with their counters, as of now", failed(vec![("200", ok("Ports", list("ports", "Port"))), ("404", gone())]), None, std::slice::from_ref(&which))},
            "/api/v1/switches/{switch}/tables": {"get": operation("listTables", "Its tables, as of now", failed(vec![("200", ok("Tables", list("tables", "Table"))), ("404", gone())]), None, std::slice::from_ref(&which))},
            "/api/v1/switches/{switch}/flows": {"get": operation("listSwitchFlows", "All flows on it, whoever installed them, as of now", failed(vec![("200", ok("Flows", list("flows", "SwitchFlow"))), ("404", gone()), ("422", problem("The filter is wrong"))]), None, &[which, table])},
            "/api/v1/hosts": {"get": operation("listHosts", "Hosts heard of", vec![("200", ok("Hosts", list("hosts", "Host")))], None, &[])},
            "/api/v1/links": {"get": operation("listLinks", "Links between switches, one entry a direction", vec![("200", ok("Links", list("links", "Link")))], None, &[])},
            "/api/v1/stats": {"get": operation("getStats", "Counters of the controller and of each switch", vec![("200", ok("Counters", json!({"type": "object"})))], None, &[])},
            "/api/v1/flows": {
                "get": operation("listFlows", "The named flows", vec![("200", ok("Flows", list("flows", "NamedFlow")))], None, &[]),
                "post": operation("addFlows", "Adds a flow, or a list of flows (all or none)", changing(vec![
                    ("201", ok("Added, and confirmed by the switch", json!({"oneOf": [reference("NamedFlow"), list("flows", "NamedFlow")]}))),
                    ("202", ok("Stored; to be installed when the switch is connected and confirms", json!({"oneOf": [reference("NamedFlow"), list("flows", "NamedFlow")]}))),
                ]), Some(json!({"oneOf": [reference("NewFlow"), {"type": "array", "maxItems": super::v1::MAX_BATCH, "items": reference("NewFlow")}]})), &[]),
            },
            "/api/v1/flows/{name}": {
                "get": operation("getFlow", "One named flow", vec![("200", ok("The flow", reference("NamedFlow"))), ("404", no_flow())], None, std::slice::from_ref(&name)),
                "put": operation("putFlow", "Makes the flow be as given; may be repeated", changing(vec![
                    ("200", ok("As given, and confirmed by the switch", reference("NamedFlow"))),
                    ("201", ok("Added, and confirmed by the switch", reference("NamedFlow"))),
                    ("202", ok("Stored; to be installed when the switch is connected and confirms", reference("NamedFlow"))),
                ]), Some(reference("NewFlow")), std::slice::from_ref(&name)),
                "delete": operation("deleteFlow", "Deletes it", vec![("204", json!({"description": "Deleted, on the switch too if it is connected"})), ("404", no_flow()), ("500", problem("The store failed; nothing was changed"))], None, std::slice::from_ref(&name)),
            },
            "/api/v1/openapi.json": {"get": operation("getDocument", "This document", vec![("200", ok("The document", json!({"type": "object"})))], None, &[])},
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "The token of rest.token in the run directory"}}, "schemas": schemas()},
    })
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let number = || json!({"type": "integer", "minimum": 0});
    let seconds = || json!({"type": "number", "minimum": 0});
    let word = |max: u32| json!({"type": "integer", "minimum": 0, "maximum": max});
    let port = || json!({"oneOf": [{"type": "integer", "minimum": 1}, {"const": "LOCAL"}]});
    let end = json!({"type": "object", "properties": {"switch": text(), "switch_name": {"type": ["string", "null"]}, "port": port(), "port_name": {"type": ["string", "null"]}}});
    let matching = json!({"description": "Field names and values (a mask behind a slash), or ovs-ofctl's words", "oneOf": [{"type": "object", "additionalProperties": {"type": ["integer", "string"]}}, {"type": "string"}],
        "examples": [{"protocol": "tcp", "tcp_dst": 8080}, "icmp"]});
    let actions = json!({"description": "Actions and instructions in order; none, or drop, drops", "oneOf": [
        {"type": "array", "maxItems": crate::flows::MAX_ACTIONS, "items": {"type": "object", "required": ["type"], "properties": {"type": text()}}}, {"type": "string"}],
        "examples": [[{"type": "set_field", "field": "tcp_dst", "value": 80}, {"type": "output", "port": 2}], "mod_tp_dst:80,output:2"]});
    let new_flow = json!({
        "name": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
        "switch": {"type": "string", "description": "Datapath id or bridge name; node is another word for it"},
        "node": text(),
        "table": {"type": "integer", "minimum": 0, "maximum": 254, "default": 0},
        "priority": {"type": "integer", "minimum": 0, "maximum": 65535, "default": crate::flows::DEFAULT_PRIORITY},
        "match": matching,
        "actions": actions,
        "idle_timeout": {"type": "integer", "minimum": 0, "maximum": 65535, "default": 0},
        "hard_timeout": {"type": "integer", "minimum": 0, "maximum": 65535, "default": 0},
    });
    let mut named = new_flow.clone();
    named["cookie"] = text();
    named["text"] = json!({"type": "string", "description": "The flow as ovs-ofctl writes it"});
    named["state"] = json!({"enum": ["pending", "installed", "refused", "expired", "removed"]});
    named["detail"] = json!({"type": ["string", "null"]});
    let mut switch = json!({
        "id": text(), "dpid": number(), "name": text(), "address": text(), "version": text(),
        "connected_seconds": seconds(),
        "description": {"type": "object", "additionalProperties": text()},
        "tables": word(255), "buffers": number(), "capabilities": number(),
        "ports": {"type": "array", "items": reference("Port")},
    });
    for (name, help, _) in crate::switch::Counters::default().rows() {
        switch[name] = json!({"type": "integer", "minimum": 0, "description": help});
    }
    json!({
        "Problem": {"type": "object", "description": "RFC 9457", "required": ["type", "title", "status", "detail"], "properties": {
            "type": text(), "title": text(), "status": word(599), "detail": text(),
            "field": {"type": "string", "description": "JSON pointer of the member that is wrong"}}},
        "NewFlow": {"type": "object", "required": ["actions"], "properties": new_flow},
        "NamedFlow": {"type": "object", "required": ["name", "switch", "table", "priority", "match", "actions", "state"], "properties": named},
        "Switch": {"type": "object", "required": ["id", "name", "ports", "packet_ins"], "properties": switch},
        "Port": {"type": "object", "required": ["port", "name", "up"], "properties": {
            "port": port(), "name": text(), "mac": text(), "up": {"type": "boolean"}, "link": {"type": "boolean"}, "enabled": {"type": "boolean"},
            "current_speed_kbps": number(), "max_speed_kbps": number(), "counters": {"type": ["object", "null"]}}},
        "Table": {"type": "object", "properties": {"table": word(254), "flows": number(), "lookups": number(), "matched": number()}},
        "SwitchFlow": {"type": "object", "properties": {
            "table": word(254), "priority": word(65535), "match": {"type": "object"}, "actions": {"type": ["array", "null"]},
            "idle_timeout": word(65535), "hard_timeout": word(65535), "cookie": text(), "text": text(),
            "owner": {"enum": ["named", "learning-switch", "table-miss", "lldp", "other"]}, "name": {"type": ["string", "null"]},
            "packets": number(), "bytes": number(), "duration_seconds": seconds()}},
        "Host": {"type": "object", "properties": {
            "mac": text(), "vlan": {"type": ["integer", "null"]}, "ips": {"type": "array", "items": text()}, "place": end.clone(),
            "moves": number(), "known_seconds": seconds(), "last_seen_seconds": seconds()}},
        "Link": {"type": "object", "properties": {"from": end.clone(), "to": end, "known_seconds": seconds()}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_path_parameter_is_described() {
        fn walk(v: &Value, document: &Value) {
            match v {
                Value::Object(o) => {
                    if let Some(Value::String(r)) = o.get("$ref") {
                        assert!(document.pointer(r.trim_start_matches('#')).is_some(), "{r}");
                    }
                    o.values().for_each(|v| walk(v, document));
                }
                Value::Array(a) => a.iter().for_each(|v| walk(v, document)),
                _ => {}
            }
        }
        let d = openapi();
        walk(&d, &d);
        for (path, operations) in d["paths"].as_object().unwrap() {
            for (verb, o) in operations.as_object().unwrap() {
                for part in path.split('{').skip(1) {
                    let name = part.split('}').next().unwrap();
                    let described = o["parameters"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|p| p["name"] == name);
                    assert!(described, "{verb} {path}: {name}");
                }
            }
        }
    }
}
