//! The ports of guests in the switch's database.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use ovsdb::{Client, Outcome, Target};
use serde_json::{Value, json};

use crate::paths::DATABASE;
use crate::profile;

/// A port to be added for a guest's card.
pub struct NewPort<'a> {
    pub bridge: &'a str,
    pub port: &'a str,
    /// `dpdkvhostuserclient` or `dpdkvhostuser`.
    pub kind: &'a str,
    /// Socket path, for the client type.
    pub socket: Option<&'a Path>,
    pub mac: String,
    pub guest: &'a str,
    pub tag: Option<u16>,
}

pub(crate) async fn connect(target: &str) -> Result<Client> {
    let parsed: Target = target.parse().map_err(|e| anyhow!("{e}"))?;
    Client::connect(&parsed)
        .await
        .with_context(|| format!("the database at {target} (is \"weir up\" running?)"))
}

pub(crate) async fn transact(client: &Client, ops: Vec<Value>) -> Result<Outcome> {
    let results = client.transact(DATABASE, ops).await?;
    Outcome::check(results).map_err(|e| anyhow!("{e}"))
}

pub(crate) fn select(table: &str, name: &str, columns: &[&str]) -> Value {
    json!({"op": "select", "table": table, "where": [["name", "==", name]], "columns": columns})
}

/// The UUID of the only row of result `index`.
fn found(outcome: &Outcome, index: usize) -> Option<String> {
    let row = outcome.results.get(index)?.rows.as_ref()?.first()?;
    row.get("_uuid")?.get(1)?.as_str().map(str::to_owned)
}

/// Asks the switch to look at its configuration.
pub(crate) fn touch() -> Value {
    json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]})
}

/// Adds ports, all or none of them, as the profile of a name says; returns their UUIDs in order.
pub async fn add_ports(
    target: &str,
    ports: &[NewPort<'_>],
    profile: Option<&str>,
) -> Result<Vec<String>> {
    let client = connect(target).await?;
    let profile = match profile {
        Some(name) => Some(profile::named(&client, name).await?),
        None => None,
    };
    let mut asked = Vec::new();
    for port in ports {
        asked.push(select("Bridge", port.bridge, &["_uuid"]));
        asked.push(select("Port", port.port, &["_uuid"]));
    }
    let known = transact(&client, asked).await?;
    let mut ops = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let Some(bridge) = found(&known, 2 * i) else {
            bail!(
                "there is no bridge {} (\"weir vsctl add-br {}\" makes one)",
                port.bridge,
                port.bridge
            );
        };
        if found(&known, 2 * i + 1).is_some() {
            bail!(
                "there is a port {} already (\"weir vsctl del-port {}\" removes it)",
                port.port,
                port.port
            );
        }
        let options = port.socket.map_or(json!([]), |path| {
            json!([["vhost-server-path", path.to_string_lossy()]])
        });
        let ids = json!([
            ["iface-id", format!("{}/{}", port.guest, port.port)],
            ["attached-mac", port.mac],
            ["iface-status", "active"],
            ["vm-name", port.guest],
        ]);
        let (interface_row, port_row) = (format!("interface{i}"), format!("port{i}"));
        let mut row = json!({"name": port.port, "type": port.kind, "options": ["map", options],
            "external_ids": ["map", ids]});
        if let (Some(p), Some(row)) = (&profile, row.as_object_mut()) {
            row.extend(p.columns(true));
        }
        ops.push(json!({
            "op": "insert", "table": "Interface", "uuid-name": interface_row, "row": row,
        }));
        let mut row = json!({"name": port.port, "interfaces": ["named-uuid", interface_row]});
        if let Some(tag) = port.tag {
            row["tag"] = json!(tag);
        }
        if let (Some(p), Some(row)) = (&profile, row.as_object_mut()) {
            row.extend(p.columns(false));
            row.insert("external_ids".into(), json!(["map", [p.mark()]]));
        }
        ops.push(json!({"op": "insert", "table": "Port", "uuid-name": port_row, "row": row}));
        ops.push(json!({
            "op": "mutate", "table": "Bridge", "where": [["_uuid", "==", ["uuid", bridge]]],
            "mutations": [["ports", "insert", ["named-uuid", port_row]]],
        }));
    }
    ops.push(touch());
    ops.push(json!({"op": "comment", "comment": format!("weir vm run {}", ports.first().map_or("", |p| p.guest))}));
    let done = transact(&client, ops)
        .await
        .context("adding the guest's ports")?;
    Ok((0..ports.len())
        .filter_map(|i| done.results.get(3 * i + 1)?.uuid)
        .map(|uuid| uuid.to_string())
        .collect())
}

/// Removes ports by UUID. Those that are gone already are no error.
pub async fn remove_ports(target: &str, uuids: &[String]) -> Result<()> {
    let client = connect(target).await?;
    let mut ops: Vec<_> = uuids
        .iter()
        .map(|uuid| {
            json!({
                "op": "mutate", "table": "Bridge",
                "where": [["ports", "includes", ["uuid", uuid]]],
                "mutations": [["ports", "delete", ["uuid", uuid]]],
            })
        })
        .collect();
    ops.push(touch());
    transact(&client, ops)
        .await
        .context("removing the guest's ports")?;
    Ok(())
}
