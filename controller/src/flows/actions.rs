//! Actions and instructions as JSON: a list of objects told apart by `type`.
//!
//! The types and members are those of Ryu's `ofctl_rest` (`OUTPUT` with `port`, `SET_FIELD` with
//! `field` and `value`, `PUSH_VLAN` with `ethertype`, ...), in any case, so one description serves
//! both APIs. Instructions stand in the same list (`GOTO_TABLE`, `WRITE_METADATA`, `METER`,
//! `WRITE_ACTIONS`, `CLEAR_ACTIONS`). An empty list, or `[{"type": "drop"}]`, drops.

use super::fields::{
    VID_PRESENT, field_by_name, parse_port, parse_value, prereq_met, prereq_text, value_json,
};
use super::{FieldError, Result};
use openflow::field::{FieldInfo, Prereq};
use openflow::text::Names;
use openflow::{Action, FieldId, Instructions, MacAddr, Match, PortNo};
use serde_json::{Map, Value, json};

/// Actions in one flow; what a 64 KB message holds is far less than what a body may ask for.
pub const MAX_ACTIONS: usize = 1_024;

/// Reads a list of actions and instructions for packets of `matching`.
///
/// # Errors
/// Names the element and member that is wrong.
pub fn parse_actions(
    list: &[Value],
    matching: &Match,
    names: &Names,
    at: &str,
) -> Result<Instructions> {
    if list.len() > MAX_ACTIONS {
        return Err(FieldError::new(
            at,
            format!("more than {MAX_ACTIONS} actions"),
        ));
    }
    let mut out = Instructions::default();
    // What earlier actions made of the packet decides whether later set_fields make sense.
    let mut shape = matching.clone();
    for (i, v) in list.iter().enumerate() {
        let at = format!("{at}/{i}");
        let o = Reader::new(v, names, &at)?;
        match o.kind.as_str() {
            "DROP" if list.len() == 1 => o.done(&[])?,
            "DROP" => {
                return Err(FieldError::new(
                    &at,
                    "drop stands alone: it has no other actions",
                ));
            }
            "GOTO_TABLE" => {
                out.goto_table = Some(o.number("table_id", 0xfe)? as u8);
                o.done(&["table_id"])?;
            }
            "WRITE_METADATA" => {
                let mask = match o.object.get("metadata_mask") {
                    Some(_) => o.number("metadata_mask", u64::MAX)?,
                    None => u64::MAX,
                };
                out.metadata = Some((o.number("metadata", u64::MAX)? & mask, mask));
                o.done(&["metadata", "metadata_mask"])?;
            }
            "METER" => {
                out.meter = Some(o.number("meter_id", 0xffff_0000)? as u32);
                o.done(&["meter_id"])?;
            }
            "CLEAR_ACTIONS" => {
                out.clear_actions = true;
                o.done(&[])?;
            }
            "WRITE_ACTIONS" | "APPLY_ACTIONS" => {
                let inner = o
                    .object
                    .get("actions")
                    .and_then(Value::as_array)
                    .ok_or_else(|| {
                        FieldError::new(format!("{at}/actions"), "a list of actions is wanted")
                    })?;
                o.done(&["actions"])?;
                for (j, a) in inner.iter().enumerate().take(MAX_ACTIONS) {
                    let at = format!("{at}/actions/{j}");
                    let actions = parse_action(&Reader::new(a, names, &at)?, &mut shape)?;
                    if o.kind == "WRITE_ACTIONS" {
                        out.write.extend(actions);
                    } else {
                        out.apply.extend(actions);
                    }
                }
            }
            _ => out.apply.extend(parse_action(&o, &mut shape)?),
        }
    }
    Ok(out)
}

struct Reader<'a> {
    kind: String,
    object: &'a Map<String, Value>,
    names: &'a Names,
    at: &'a str,
}

impl<'a> Reader<'a> {
    fn new(v: &'a Value, names: &'a Names, at: &'a str) -> Result<Reader<'a>> {
        let object = v.as_object().ok_or_else(|| {
            FieldError::new(
                at,
                format!("{v}: an object like {{\"type\": \"output\", \"port\": 2}} is wanted"),
            )
        })?;
        let kind = object.get("type").and_then(Value::as_str).ok_or_else(|| {
            FieldError::new(
                format!("{at}/type"),
                "a name of an action is wanted, like \"output\"",
            )
        })?;
        Ok(Reader {
            kind: kind.to_ascii_uppercase(),
            object,
            names,
            at,
        })
    }

    fn number(&self, name: &str, max: u64) -> Result<u64> {
        let bad = |what: String| FieldError::new(format!("{}/{name}", self.at), what);
        let v = match self.object.get(name) {
            None => return Err(bad(format!("{} needs it", self.kind.to_ascii_lowercase()))),
            Some(Value::Number(n)) => n.as_u64(),
            Some(Value::String(s)) => match s.strip_prefix("0x") {
                Some(h) => u64::from_str_radix(h, 16).ok(),
                None => s.parse().ok(),
            },
            Some(_) => None,
        };
        v.filter(|v| *v <= max).ok_or_else(|| {
            bad(format!(
                "{}: a number from 0 to {max} is wanted",
                self.object[name]
            ))
        })
    }

    fn port(&self) -> Result<PortNo> {
        let bad = |what: String| FieldError::new(format!("{}/port", self.at), what);
        match self.object.get("port") {
            Some(Value::String(s)) => self.names.port(s).or_else(|| parse_port(s)).ok_or_else(|| {
                bad(format!("{s:?} is no port number, no reserved port (NORMAL, FLOOD, CONTROLLER, LOCAL, IN_PORT, ALL), and no port of the switch (as far as it is connected)"))
            }),
            _ => Ok(PortNo(self.number("port", u32::MAX.into())? as u32)),
        }
    }

    /// Refuses members that nobody reads.
    fn done(&self, known: &[&str]) -> Result<()> {
        match self
            .object
            .keys()
            .find(|k| *k != "type" && !known.contains(&k.as_str()))
        {
            None => Ok(()),
            Some(k) => Err(FieldError::new(
                format!("{}/{k}", self.at),
                format!("{} has no such member", self.kind.to_ascii_lowercase()),
            )),
        }
    }
}

fn parse_action(o: &Reader<'_>, shape: &mut Match) -> Result<Vec<Action>> {
    let (action, members): (Action, &[&str]) = match o.kind.as_str() {
        "OUTPUT" => {
            let max_len = match o.object.get("max_len") {
                Some(_) => o.number("max_len", 0xffff)? as u16,
                None => 0xffff,
            };
            let port = o.port()?;
            if port == PortNo::ANY || port == PortNo::UNSET || port.0 == 0 {
                return Err(FieldError::new(
                    format!("{}/port", o.at),
                    format!("{port} is no port to send to"),
                ));
            }
            // It counts for the controller alone; kept out elsewhere so that equal flows are equal.
            let max_len = if port == PortNo::CONTROLLER {
                max_len
            } else {
                0
            };
            (Action::Output { port, max_len }, &["port", "max_len"])
        }
        "ENQUEUE" => {
            let queue = o.number("queue_id", u32::MAX.into())? as u32;
            let port = o.port()?;
            o.done(&["port", "queue_id"])?;
            return Ok(vec![Action::Enqueue { port, queue }]);
        }
        "SET_QUEUE" => (
            Action::SetQueue(o.number("queue_id", u32::MAX.into())? as u32),
            &["queue_id"],
        ),
        "GROUP" => (
            Action::Group(o.number("group_id", 0xffff_ff00)? as u32),
            &["group_id"],
        ),
        "SET_FIELD" => {
            let a = set_field(o, shape)?;
            (a, &["field", "value"])
        }
        "SET_DL_SRC" => (named_set(o, FieldId::EthSrc, "dl_src")?, &["dl_src"]),
        "SET_DL_DST" => (named_set(o, FieldId::EthDst, "dl_dst")?, &["dl_dst"]),
        "SET_VLAN_VID" => (
            Action::SetVlanVid(o.number("vlan_vid", 0xfff)? as u16),
            &["vlan_vid"],
        ),
        "SET_VLAN_PCP" => (
            Action::SetVlanPcp(o.number("vlan_pcp", 7)? as u8),
            &["vlan_pcp"],
        ),
        "POP_VLAN" | "STRIP_VLAN" => (Action::PopVlan, &[]),
        "PUSH_VLAN" => {
            let t = ethertype(o, &[0x8100, 0x88a8])?;
            shape.set(FieldId::VlanVid, VID_PRESENT);
            (Action::PushVlan(t), &["ethertype"])
        }
        "PUSH_MPLS" => {
            let t = ethertype(o, &[0x8847, 0x8848])?;
            shape.set(FieldId::EthType, t.into());
            (Action::PushMpls(t), &["ethertype"])
        }
        "POP_MPLS" => {
            let t = o.number("ethertype", 0xffff)? as u16;
            shape.set(FieldId::EthType, t.into());
            (Action::PopMpls(t), &["ethertype"])
        }
        "SET_NW_TTL" => {
            let ttl = o.number("nw_ttl", 0xff)?;
            (set(FieldId::NwTtl, ttl.into()), &["nw_ttl"])
        }
        "DEC_NW_TTL" => (Action::DecTtl(Vec::new()), &[]),
        "SET_MPLS_TTL" => {
            let ttl = o.number("mpls_ttl", 0xff)?;
            (set(FieldId::MplsTtl, ttl.into()), &["mpls_ttl"])
        }
        "DEC_MPLS_TTL" => (Action::DecMplsTtl, &[]),
        "COPY_TTL_OUT" => (Action::CopyTtlOut, &[]),
        "COPY_TTL_IN" => (Action::CopyTtlIn, &[]),
        other => {
            return Err(FieldError::new(
                format!("{}/type", o.at),
                format!(
                    "{other:?} is not an action that weir knows: output, set_field, push_vlan, pop_vlan, push_mpls, pop_mpls, set_queue, enqueue, group, dec_nw_ttl, set_nw_ttl, dec_mpls_ttl, set_mpls_ttl, copy_ttl_in, copy_ttl_out, drop; goto_table, write_metadata, meter, write_actions, clear_actions"
                ),
            ));
        }
    };
    o.done(members)?;
    Ok(vec![action])
}

fn set(field: FieldId, value: u128) -> Action {
    Action::SetField {
        field,
        value,
        mask: field.info().full_mask(),
    }
}

fn named_set(o: &Reader<'_>, field: FieldId, member: &str) -> Result<Action> {
    let at = format!("{}/{member}", o.at);
    let mac: MacAddr = o
        .object
        .get(member)
        .and_then(Value::as_str)
        .ok_or_else(|| FieldError::new(&at, "a MAC address is wanted"))?
        .parse()
        .map_err(|e: String| FieldError::new(&at, e))?;
    Ok(set(field, mac.to_u64().into()))
}

fn ethertype(o: &Reader<'_>, allowed: &[u16]) -> Result<u16> {
    let t = o.number("ethertype", 0xffff)? as u16;
    if allowed.contains(&t) {
        Ok(t)
    } else {
        let names: Vec<_> = allowed.iter().map(|t| format!("{t} ({t:#06x})")).collect();
        Err(FieldError::new(
            format!("{}/ethertype", o.at),
            format!("{t} is none of {}", names.join(", ")),
        ))
    }
}

fn set_field(o: &Reader<'_>, shape: &Match) -> Result<Action> {
    let at = format!("{}/field", o.at);
    let name = o
        .object
        .get("field")
        .and_then(Value::as_str)
        .ok_or_else(|| FieldError::new(&at, "the name of a field is wanted, like \"tcp_dst\""))?;
    let id = field_by_name(name, &at)?;
    let info = id.info();
    if !info.writable {
        return Err(FieldError::new(&at, format!("{name} cannot be written")));
    }
    // tp_src and tp_dst mean whichever protocol is matched.
    let id = match (id, name) {
        (FieldId::TcpSrc, "tp_src") if prereq_met(shape, Prereq::Udp) => FieldId::UdpSrc,
        (FieldId::TcpDst, "tp_dst") if prereq_met(shape, Prereq::Udp) => FieldId::UdpDst,
        (FieldId::TcpSrc, "tp_src") if prereq_met(shape, Prereq::Sctp) => FieldId::SctpSrc,
        (FieldId::TcpDst, "tp_dst") if prereq_met(shape, Prereq::Sctp) => FieldId::SctpDst,
        _ => id,
    };
    let info: &FieldInfo = if id == info.id { info } else { id.info() };
    if !prereq_met(shape, info.prereq) {
        return Err(FieldError::new(
            &at,
            format!(
                "writing {name} needs a match on {}",
                prereq_text(info.prereq)
            ),
        ));
    }
    let at = format!("{}/value", o.at);
    let value = o
        .object
        .get("value")
        .ok_or_else(|| FieldError::new(&at, "set_field needs it"))?;
    let (mut value, mask) = parse_value(info, value, &at)?;
    if id == FieldId::VlanVid {
        value |= VID_PRESENT;
    }
    Ok(Action::SetField {
        field: id,
        value: value & mask,
        mask,
    })
}

/// Instructions as JSON, for [`parse_actions`] to read; `None` for an action that has no JSON form.
pub fn actions_json(i: &Instructions) -> Option<Value> {
    let list = |actions: &[Action]| actions.iter().map(action_json).collect::<Option<Vec<_>>>();
    let mut out = Vec::new();
    if let Some(m) = i.meter {
        out.push(json!({"type": "meter", "meter_id": m}));
    }
    out.extend(list(&i.apply)?);
    if i.clear_actions {
        out.push(json!({"type": "clear_actions"}));
    }
    if !i.write.is_empty() {
        out.push(json!({"type": "write_actions", "actions": list(&i.write)?}));
    }
    if let Some((value, mask)) = i.metadata {
        out.push(json!({"type": "write_metadata", "metadata": value, "metadata_mask": mask}));
    }
    if let Some(t) = i.goto_table {
        out.push(json!({"type": "goto_table", "table_id": t}));
    }
    Some(Value::Array(out))
}

fn port_json(p: PortNo) -> Value {
    if p >= PortNo::UNSET {
        json!(p.to_string())
    } else {
        json!(p.0)
    }
}

fn action_json(a: &Action) -> Option<Value> {
    Some(match a {
        Action::Output {
            port: PortNo::CONTROLLER,
            max_len,
        } => {
            json!({"type": "output", "port": "CONTROLLER", "max_len": max_len})
        }
        Action::Output { port, .. } => json!({"type": "output", "port": port_json(*port)}),
        Action::Enqueue { port, queue } => {
            json!({"type": "enqueue", "port": port_json(*port), "queue_id": queue})
        }
        Action::Load { target, value } => {
            let (value, mask) = Action::load_as_masked(*target, *value);
            json!({"type": "set_field", "field": target.field.info().name,
                "value": value_json(target.field.info(), value, mask)})
        }
        Action::SetQueue(q) => json!({"type": "set_queue", "queue_id": q}),
        Action::Group(g) => json!({"type": "group", "group_id": g}),
        Action::SetField { field, value, mask } => {
            json!({"type": "set_field", "field": field.info().name,
                "value": value_json(field.info(), *value, *mask)})
        }
        Action::SetVlanVid(v) => json!({"type": "set_vlan_vid", "vlan_vid": v}),
        Action::SetVlanPcp(v) => json!({"type": "set_vlan_pcp", "vlan_pcp": v}),
        Action::PopVlan => json!({"type": "pop_vlan"}),
        Action::PushVlan(t) => json!({"type": "push_vlan", "ethertype": t}),
        Action::PushMpls(t) => json!({"type": "push_mpls", "ethertype": t}),
        Action::PopMpls(t) => json!({"type": "pop_mpls", "ethertype": t}),
        Action::DecTtl(ids) if ids.is_empty() => json!({"type": "dec_nw_ttl"}),
        Action::DecMplsTtl => json!({"type": "dec_mpls_ttl"}),
        Action::CopyTtlOut => json!({"type": "copy_ttl_out"}),
        Action::CopyTtlIn => json!({"type": "copy_ttl_in"}),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> Match {
        Match::new()
            .with(FieldId::EthType, 0x0800)
            .with(FieldId::IpProto, 6)
    }

    fn parse(v: Value, m: &Match) -> Result<Instructions> {
        parse_actions(v.as_array().unwrap(), m, &Names::default(), "/actions")
    }

    #[test]
    fn a_list_of_each_kind_round_trips() {
        let v = json!([
            {"type": "meter", "meter_id": 3},
            {"type": "set_field", "field": "tcp_dst", "value": 80},
            {"type": "set_field", "field": "ip_dst", "value": "10.0.0.3"},
            {"type": "set_field", "field": "eth_dst", "value": "52:54:00:00:00:03"},
            {"type": "dec_nw_ttl"},
            {"type": "push_vlan", "ethertype": 0x8100},
            {"type": "set_field", "field": "vlan_vid", "value": 10},
            {"type": "set_queue", "queue_id": 1},
            {"type": "group", "group_id": 5},
            {"type": "output", "port": 2},
            {"type": "output", "port": "NORMAL"},
            {"type": "output", "port": "CONTROLLER", "max_len": 128},
            {"type": "clear_actions"},
            {"type": "write_actions", "actions": [{"type": "output", "port": 7}]},
            {"type": "write_metadata", "metadata": 1, "metadata_mask": 255},
            {"type": "goto_table", "table_id": 8}
        ]);
        let i = parse(v.clone(), &tcp()).unwrap();
        assert_eq!(actions_json(&i).unwrap(), v);
        assert_eq!(i.goto_table, Some(8));
        assert_eq!(i.write.len(), 1);
    }

    #[test]
    fn ryu_spellings_are_read() {
        let i = parse(
            json!([{"type": "SET_FIELD", "field": "vlan_vid", "value": 4102}, {"type": "OUTPUT", "port": 4294967293u32, "max_len": 65535}]),
            &Match::new().with(FieldId::VlanVid, 0x1005),
        )
        .unwrap();
        assert_eq!(
            i.apply[0],
            Action::SetField {
                field: FieldId::VlanVid,
                value: 0x1006,
                mask: 0x1fff
            }
        );
        assert_eq!(
            i.apply[1],
            Action::Output {
                port: PortNo::CONTROLLER,
                max_len: 0xffff
            }
        );
    }

    #[test]
    fn drop_is_nothing_and_stands_alone() {
        assert_eq!(
            parse(json!([{"type": "drop"}]), &tcp()).unwrap(),
            Instructions::default()
        );
        assert_eq!(
            parse(
                json!([{"type": "drop"}, {"type": "output", "port": 1}]),
                &tcp()
            )
            .unwrap_err()
            .pointer,
            "/actions/0"
        );
    }

    #[test]
    fn errors_name_the_member() {
        for (v, at) in [
            (json!([{"type": "ouput", "port": 1}]), "/actions/0/type"),
            (
                json!([{"type": "output", "port": "fed2"}]),
                "/actions/0/port",
            ),
            (json!([{"type": "output"}]), "/actions/0/port"),
            (json!([{"type": "output", "port": 0}]), "/actions/0/port"),
            (
                json!([{"type": "output", "port": 1, "prot": 2}]),
                "/actions/0/prot",
            ),
            (
                json!([{"type": "set_field", "field": "udp_dst", "value": 80}]),
                "/actions/0/field",
            ),
            (
                json!([{"type": "set_field", "field": "eth_type", "value": 80}]),
                "/actions/0/field",
            ),
            (
                json!([{"type": "set_field", "field": "tcp_dst", "value": 65536}]),
                "/actions/0/value",
            ),
            (
                json!([{"type": "push_vlan", "ethertype": 2048}]),
                "/actions/0/ethertype",
            ),
            (json!(["output"]), "/actions/0"),
            (
                json!([{"type": "write_actions", "actions": [{"type": "group"}]}]),
                "/actions/0/actions/0/group_id",
            ),
        ] {
            assert_eq!(parse(v.clone(), &tcp()).unwrap_err().pointer, at, "{v}");
        }
    }
}
