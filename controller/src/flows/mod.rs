//! Named flows: what users want on their switches, whether these are connected or not.
//!
//! A named flow is a JSON document: `name`, `switch` (datapath id or name), `table` (0), `priority`
//! (500), `match`, `actions`, `idle_timeout`, `hard_timeout` (0: none). It is checked whole before
//! anything happens; an error names the member by JSON pointer (RFC 6901).

mod actions;
mod fields;
mod plan;
mod text;

pub use actions::{MAX_ACTIONS, actions_json, parse_actions};
pub use fields::{fields_of, match_json, parse_match, prereq_met};
pub use plan::{Change, difference};

use crate::cookie;
use crate::inventory::DatapathId;
use openflow::text::{Names, format_instructions, format_match};
use openflow::{FlowFlags, FlowMod, FlowModCommand, Instructions, Match};
use serde_json::{Map, Value, json};

/// Priority of a named flow that gives none.
pub const DEFAULT_PRIORITY: u16 = 500;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 128;
/// Named flows in all.
pub const MAX_FLOWS: usize = 100_000;

/// What is wrong with which member of a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct FieldError {
    /// JSON pointer of the member.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// An error about the member at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

type Result<T> = std::result::Result<T, FieldError>;

/// How a document says which switch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SwitchRef {
    /// By datapath id.
    Id(DatapathId),
    /// By the name of its local port, which is the bridge's.
    Name(String),
}

impl SwitchRef {
    /// Reads an id (16 hexadecimal digits or `0x...`) or else a name.
    pub fn parse(s: &str) -> SwitchRef {
        s.parse()
            .map_or_else(|_| SwitchRef::Name(s.to_owned()), SwitchRef::Id)
    }

    /// Whether a switch of this id and name is meant.
    pub fn is(&self, dpid: DatapathId, name: &str) -> bool {
        match self {
            SwitchRef::Id(id) => *id == dpid,
            SwitchRef::Name(n) => n == name,
        }
    }
}

impl std::fmt::Display for SwitchRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SwitchRef::Id(id) => id.fmt(f),
            SwitchRef::Name(n) => f.write_str(n),
        }
    }
}

/// A named flow that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedFlow {
    /// Its name, unique in the controller.
    pub name: String,
    /// Where it belongs.
    pub switch: SwitchRef,
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Seconds without a packet until it ends, 0 for never.
    pub idle_timeout: u16,
    /// Seconds until it ends, 0 for never.
    pub hard_timeout: u16,
    /// Which packets.
    pub matching: Match,
    /// What happens to them.
    pub instructions: Instructions,
}

/// What makes two flows one on a switch (OpenFlow 1.3.5 6.4).
pub type FlowKey = (u8, u16, Match);

impl NamedFlow {
    /// Reads a document. `name` is given where the URL says it; a `name` inside must agree. `names`
    /// knows the ports of a switch; the flow keeps their numbers.
    ///
    /// # Errors
    /// The first member that is wrong.
    pub fn parse(
        document: &Value,
        name: Option<&str>,
        names: &dyn Fn(&SwitchRef) -> Names,
    ) -> Result<NamedFlow> {
        const MEMBERS: [&str; 9] = [
            "name",
            "switch",
            "node",
            "table",
            "priority",
            "match",
            "actions",
            "idle_timeout",
            "hard_timeout",
        ];
        // Members that answers carry; accepted so that what was read can be sent back.
        const ANSWERED: [&str; 4] = ["cookie", "state", "detail", "text"];
        let o = document
            .as_object()
            .ok_or_else(|| FieldError::new("", "a flow is a JSON object"))?;
        if let Some(k) = o
            .keys()
            .find(|k| !MEMBERS.contains(&k.as_str()) && !ANSWERED.contains(&k.as_str()))
        {
            return Err(FieldError::new(
                format!("/{k}"),
                format!("a flow has no such member; it has {}", MEMBERS.join(", ")),
            ));
        }
        let inside = text(o, "name")?;
        let name = match (name, inside) {
            (Some(url), Some(inside)) if url != inside => {
                return Err(FieldError::new(
                    "/name",
                    format!("{inside:?} is not the name in the address, {url:?}"),
                ));
            }
            (Some(n), _) | (None, Some(n)) => n,
            (None, None) => return Err(FieldError::new("/name", "a flow needs a name")),
        };
        check_name(name).map_err(|e| FieldError::new("/name", e))?;
        let switch = match (text(o, "switch")?, text(o, "node")?) {
            (Some(s), None) | (None, Some(s)) if !s.is_empty() && s.len() <= MAX_NAME => {
                SwitchRef::parse(s)
            }
            _ => {
                return Err(FieldError::new(
                    "/switch",
                    "a flow needs one switch: its datapath id (16 hexadecimal digits) or bridge name",
                ));
            }
        };
        let names = names(&switch);
        let matching = match o.get("match") {
            None => Match::new(),
            Some(Value::Object(m)) => parse_match(m, &names, "/match")?,
            Some(Value::String(s)) => text::parse_match(s, &names)?,
            Some(_) => {
                return Err(FieldError::new(
                    "/match",
                    "an object of fields, or text like \"tcp,tp_dst=80\"",
                ));
            }
        };
        let instructions = match o.get("actions") {
            Some(Value::Array(list)) => parse_actions(list, &matching, &names, "/actions")?,
            Some(Value::String(s)) => text::parse_actions(s, &matching, &names)?,
            _ => {
                return Err(FieldError::new(
                    "/actions",
                    "a list of actions, or text like \"drop\" or \"mod_tp_dst:80,output:2\"",
                ));
            }
        };
        let table = number(o, "table", 0, 0xfe)? as u8;
        if instructions.goto_table.is_some_and(|t| t <= table) {
            return Err(FieldError::new(
                "/actions",
                format!("goto_table leads to later tables only than {table}"),
            ));
        }
        let flow = NamedFlow {
            name: name.to_owned(),
            switch,
            table,
            priority: number(o, "priority", DEFAULT_PRIORITY.into(), 0xffff)? as u16,
            idle_timeout: number(o, "idle_timeout", 0, 0xffff)? as u16,
            hard_timeout: number(o, "hard_timeout", 0, 0xffff)? as u16,
            matching,
            instructions,
        };
        for own in [crate::apps::LearningSwitch::table_miss(), lldp_flow()] {
            if flow.key() == (own.table, own.priority, own.matching) {
                return Err(FieldError::new(
                    "/priority",
                    format!(
                        "the controller's own flow has this match at priority {}; choose another",
                        own.priority
                    ),
                ));
            }
        }
        Ok(flow)
    }

    /// The document, in the form in which [`NamedFlow::parse`] reads it.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "switch": self.switch.to_string(),
            "table": self.table,
            "priority": self.priority,
            "match": match_json(&self.matching),
            // What the JSON form cannot say, the words of ovs-ofctl can.
            "actions": actions_json(&self.instructions)
                .unwrap_or_else(|| json!(format_instructions(&self.instructions, &Names::default()))),
            "idle_timeout": self.idle_timeout,
            "hard_timeout": self.hard_timeout,
        })
    }

    /// As `ovs-ofctl` writes it: `priority=500,icmp actions=drop`.
    pub fn text(&self) -> String {
        flow_text(self.priority, &self.matching, &self.instructions)
    }

    /// What makes it one with another flow on the switch.
    pub fn key(&self) -> FlowKey {
        (self.table, self.priority, self.matching.clone())
    }

    /// The message that installs it.
    pub fn add(&self) -> FlowMod {
        FlowMod {
            cookie: cookie::named(&self.name),
            table: self.table,
            priority: self.priority,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            flags: FlowFlags {
                send_flow_rem: true,
                ..FlowFlags::default()
            },
            ..FlowMod::add(self.matching.clone(), self.instructions.clone())
        }
    }

    /// The message that removes it, and nothing that is not its own.
    pub fn delete(&self) -> FlowMod {
        FlowMod {
            command: FlowModCommand::DeleteStrict,
            cookie_mask: u64::MAX,
            flags: FlowFlags::default(),
            instructions: Instructions::default(),
            ..self.add()
        }
    }
}

/// A flow as `ovs-ofctl` writes it.
pub fn flow_text(priority: u16, matching: &Match, instructions: &Instructions) -> String {
    let names = Names::default();
    format!(
        "{} actions={}",
        format_match(matching, Some(priority), &names),
        format_instructions(instructions, &names)
    )
}

/// The controller's flow for LLDP: above everything, so that no user's flow hides a link.
pub fn lldp_flow() -> FlowMod {
    FlowMod {
        cookie: cookie::LLDP,
        priority: 0xffff,
        flags: FlowFlags {
            send_flow_rem: true,
            ..FlowFlags::default()
        },
        ..FlowMod::add(
            Match::new().with(
                openflow::FieldId::EthType,
                crate::packet::ETH_TYPE_LLDP.into(),
            ),
            Instructions::apply(vec![openflow::Action::Output {
                port: openflow::PortNo::CONTROLLER,
                max_len: crate::apps::learning_switch::NO_BUFFER,
            }]),
        )
    }
}

/// Whether a name can be a flow's: it stands in URLs and logs as it is.
///
/// # Errors
/// What a name is.
pub fn check_name(name: &str) -> std::result::Result<(), String> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(ok) {
        return Err(format!(
            "{name:?}: a name has 1 to {MAX_NAME} letters, digits and any of \"-_.:\""
        ));
    }
    Ok(())
}

fn text<'a>(o: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    match o.get(name) {
        None => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(v) => Err(FieldError::new(
            format!("/{name}"),
            format!("{v}: a string is wanted"),
        )),
    }
}

fn number(o: &Map<String, Value>, name: &str, default: u64, max: u64) -> Result<u64> {
    match o.get(name) {
        None => Ok(default),
        Some(v) => v.as_u64().filter(|n| *n <= max).ok_or_else(|| {
            FieldError::new(
                format!("/{name}"),
                format!("{v}: a number from 0 to {max} is wanted"),
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_book_s_block_icmp() {
        let v = json!({"name": "block-icmp", "node": "vswitch001", "priority": 500,
            "match": {"protocol": "icmp"}, "actions": "drop"});
        let f = NamedFlow::parse(&v, None, &|_| Names::default()).unwrap();
        assert_eq!(f.switch, SwitchRef::Name("vswitch001".into()));
        let m = f.add();
        assert_eq!(
            (m.priority, m.table, m.cookie),
            (500, 0, cookie::named("block-icmp"))
        );
        assert_eq!(m.instructions, Instructions::default());
        let again =
            NamedFlow::parse(&f.to_json(), Some("block-icmp"), &|_| Names::default()).unwrap();
        assert_eq!(again, f);
        let d = f.delete();
        assert_eq!(d.command, FlowModCommand::DeleteStrict);
        assert_eq!(
            (d.priority, d.matching, d.cookie_mask),
            (500, m.matching, u64::MAX)
        );
    }

    /// Any small document: members that exist and some that do not, with values of all kinds.
    fn any_document() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("0x800/0xff"),
            Just("10.0.0.1/40"),
            Just("::/128"),
            Just("drop"),
            Just("tcp,tp_dst=1"),
            Just("NORMAL"),
            Just("4294967295"),
            Just("0x"),
            Just("resubmit(,999)"),
            Just("br0"),
            Just("-1/"),
        ];
        let leaf = prop_oneof![
            any::<u64>().prop_map(|n| json!(n)),
            any::<i32>().prop_map(|n| json!(n)),
            word.prop_map(|w| json!(w)),
            Just(Value::Null),
        ];
        let name = prop_oneof![
            Just("name"),
            Just("switch"),
            Just("match"),
            Just("actions"),
            Just("priority"),
            Just("type"),
            Just("port"),
            Just("eth_type"),
            Just("vlan_vid"),
            Just("ip_src"),
            Just("ipv6_dst"),
            Just("reg0"),
            Just("xxreg0"),
            Just("field"),
            Just("value"),
            Just("protocol"),
            Just("tcp_flags"),
            Just("table"),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((name.clone(), inner), 0..6).prop_map(|m| Value::Object(
                    m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
                )),
            ]
        })
    }

    proptest! {
        /// No document brings the reader down, and what it takes it also gives back.
        #[test]
        fn any_document_is_survived(matching in any_document(), actions in any_document(), whole in any_document()) {
            let _ = NamedFlow::parse(&whole, None, &|_| Names::default());
            for actions in [actions, json!("drop")] {
                let v = json!({"name": "a", "switch": "br0", "match": matching, "actions": actions});
                if let Ok(f) = NamedFlow::parse(&v, None, &|_| Names::default()) {
                    prop_assert_eq!(NamedFlow::parse(&f.to_json(), None, &|_| Names::default()).unwrap(), f);
                }
            }
        }
    }

    #[test]
    fn actions_without_a_json_form_are_kept_as_text() {
        let v = json!({"name": "a", "switch": "br0", "match": {}, "actions": "load:0x5->NXM_NX_REG0[],resubmit(,3)"});
        let f = NamedFlow::parse(&v, None, &|_| Names::default()).unwrap();
        assert!(f.to_json()["actions"].is_string());
        assert_eq!(
            NamedFlow::parse(&f.to_json(), None, &|_| Names::default()).unwrap(),
            f
        );
        assert!(f.text().starts_with("priority=500"), "{}", f.text());
    }

    #[test]
    fn errors_name_the_member() {
        let base = json!({"name": "a", "switch": "br0", "match": {}, "actions": []});
        for (member, value, at) in [
            ("name", json!("a b"), "/name"),
            ("name", json!("other"), "/name"),
            ("name", json!(3), "/name"),
            ("switch", json!(""), "/switch"),
            ("node", json!("br1"), "/switch"),
            ("table", json!(255), "/table"),
            ("priority", json!(65536), "/priority"),
            ("priority", json!("high"), "/priority"),
            ("priority", json!(0), "/priority"),
            ("match", json!([]), "/match"),
            ("match", json!("tcp,foo=1"), "/match"),
            ("actions", json!(3), "/actions"),
            (
                "actions",
                json!([{"type": "goto_table", "table_id": 0}]),
                "/actions",
            ),
            ("prority", json!(3), "/prority"),
        ] {
            let mut v = base.clone();
            v[member] = value;
            assert_eq!(
                NamedFlow::parse(&v, Some("a"), &|_| Names::default())
                    .unwrap_err()
                    .pointer,
                at,
                "{v}"
            );
        }
        assert!(NamedFlow::parse(&base, Some("a"), &|_| Names::default()).is_ok());
    }
}
