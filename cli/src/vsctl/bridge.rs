//! Bridges, ports and interfaces: ovs-vsctl(8), "Bridge Commands" to "Interface Commands".
//!
//! A port with `fake_bridge` set makes a "fake bridge" within its bridge: to these commands it is a
//! bridge of its own, whose ports are those of the parent that carry the same VLAN tag.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::Atom;
use uuid::Uuid;

use super::context::fatal;
use super::context::{Context, Outcome, Stop};
use super::database::set_column;
use super::model::Datum;

/// A real or fake bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// The row of the real bridge: its own or its parent's.
    pub row: Uuid,
    /// Parent of a fake bridge.
    pub parent: Option<String>,
    /// VLAN of a fake bridge, else 0.
    pub vlan: i64,
}

/// A port.
#[derive(Clone, Debug)]
struct Port {
    row: Uuid,
    /// Name of the real or fake bridge it belongs to.
    bridge: String,
}

/// All bridges, ports and interfaces by name.
#[derive(Debug, Default)]
pub struct Map {
    pub bridges: BTreeMap<String, Bridge>,
    ports: BTreeMap<String, Port>,
    /// Interface name to port name.
    interfaces: BTreeMap<String, String>,
}

fn vlan_tag(ctx: &Context, port: Uuid) -> Option<i64> {
    ctx.view
        .get("Port", port, "tag")
        .as_int()
        .filter(|t| (0..=4095).contains(t))
}

fn fake_bridge_vlan(ctx: &Context, port: Uuid) -> Option<i64> {
    if ctx.view.get("Port", port, "fake_bridge").as_bool() {
        vlan_tag(ctx, port)
    } else {
        None
    }
}

/// Reads the map of bridges, warning of what is there twice.
pub fn map(ctx: &mut Context) -> Map {
    let mut map = Map::default();
    let name = |ctx: &Context, table, row| ctx.view.get(table, row, "name").as_str().to_string();
    let mut real = Vec::new();
    for row in ctx.view.get("Open_vSwitch", ctx.root, "bridges").to_uuids() {
        let bridge = name(ctx, "Bridge", row);
        if map.bridges.contains_key(&bridge) {
            ctx.warn(
                "vsctl",
                &format!("{bridge}: database contains duplicate bridge name"),
            );
            continue;
        }
        real.push((row, bridge.clone()));
        map.bridges.insert(
            bridge,
            Bridge {
                row,
                parent: None,
                vlan: 0,
            },
        );
    }
    let mut vlans: BTreeMap<(Uuid, i64), String> = BTreeMap::new();
    for (bridge_row, bridge) in &real {
        for row in ctx.view.get("Bridge", *bridge_row, "ports").to_uuids() {
            let Some(vlan) = fake_bridge_vlan(ctx, row) else {
                continue;
            };
            let port = name(ctx, "Port", row);
            if map.bridges.contains_key(&port) {
                continue;
            }
            if let Some(other) = vlans.get(&(*bridge_row, vlan)) {
                let text = format!(
                    "{bridge}: bridge has multiple VLAN bridges ({other} and {port}) for VLAN {vlan}, but only one is allowed"
                );
                ctx.warn("vsctl", &text);
            } else {
                vlans.insert((*bridge_row, vlan), port.clone());
            }
            map.bridges.insert(
                port,
                Bridge {
                    row: *bridge_row,
                    parent: Some(bridge.clone()),
                    vlan,
                },
            );
        }
    }
    for (bridge_row, bridge) in &real {
        for row in ctx.view.get("Bridge", *bridge_row, "ports").to_uuids() {
            let port = name(ctx, "Port", row);
            if let Some(other) = map.ports.get(&port) {
                let text = if other.row == row {
                    format!(
                        "{port}: port is in multiple bridges ({bridge} and {})",
                        other.bridge
                    )
                } else {
                    format!("{port}: database contains duplicate port name")
                };
                ctx.warn("vsctl", &text);
                continue;
            }
            let owner = match vlan_tag(ctx, row) {
                Some(vlan) => vlans.get(&(*bridge_row, vlan)).unwrap_or(bridge),
                None => bridge,
            };
            map.ports.insert(
                port.clone(),
                Port {
                    row,
                    bridge: owner.clone(),
                },
            );
            for interface_row in ctx.view.get("Port", row, "interfaces").to_uuids() {
                let interface = name(ctx, "Interface", interface_row);
                if map.interfaces.contains_key(&interface) {
                    ctx.warn(
                        "vsctl",
                        &format!("{interface}: database contains duplicate interface name"),
                    );
                    continue;
                }
                map.interfaces.insert(interface, port.clone());
            }
        }
    }
    map
}

impl Map {
    /// The bridge of that name; what was found is what the transaction then depends on.
    fn find_bridge(
        &self,
        ctx: &mut Context,
        name: &str,
        must_exist: bool,
    ) -> Result<Option<Bridge>, Stop> {
        match self.bridges.get(name) {
            Some(bridge) => {
                verify_bridges(ctx);
                ctx.view.verify("Bridge", bridge.row, "name");
                Ok(Some(bridge.clone()))
            }
            None if must_exist => fatal!("no bridge named {name}"),
            None => {
                verify_bridges(ctx);
                Ok(None)
            }
        }
    }

    /// As [`Map::find_bridge`], an error if there is none.
    pub fn bridge(&self, ctx: &mut Context, name: &str) -> Result<Bridge, Stop> {
        match self.find_bridge(ctx, name, true)? {
            Some(b) => Ok(b),
            None => fatal!("no bridge named {name}"),
        }
    }

    /// As [`Map::bridge`], an error if it is a fake one.
    pub fn real_bridge(&self, ctx: &mut Context, name: &str) -> Result<Bridge, Stop> {
        let bridge = self.bridge(ctx, name)?;
        if bridge.parent.is_some() {
            fatal!("{name} is a fake bridge");
        }
        Ok(bridge)
    }

    fn find_port(
        &self,
        ctx: &mut Context,
        name: &str,
        must_exist: bool,
    ) -> Result<Option<Port>, Stop> {
        let port = self.ports.get(name).filter(|p| p.bridge != name);
        match port {
            None if must_exist => fatal!("no port named {name}"),
            _ => {
                verify_ports(ctx);
                Ok(port.cloned())
            }
        }
    }

    /// The port that the interface belongs to, unless it is a local port's.
    fn port_of_interface(&self, name: &str) -> Option<(&str, &Port)> {
        let port_name = self.interfaces.get(name)?;
        let port = self.ports.get(port_name)?;
        (port.bridge != name).then_some((port_name, port))
    }

    fn check_conflicts(&self, ctx: &mut Context, name: &str, what: &str) -> Outcome {
        verify_ports(ctx);
        if self.bridges.contains_key(name) {
            fatal!("{what} because a bridge named {name} already exists");
        }
        if let Some(port) = self.ports.get(name) {
            fatal!(
                "{what} because a port named {name} already exists on bridge {}",
                port.bridge
            );
        }
        if let Some(port) = self.interfaces.get(name) {
            let bridge = self.ports.get(port).map_or("", |p| &p.bridge);
            fatal!("{what} because an interface named {name} already exists on bridge {bridge}");
        }
        Ok(())
    }

    fn vlan_bridge(&self, parent: Uuid, vlan: i64) -> Option<&String> {
        self.bridges
            .iter()
            .find(|(_, b)| b.parent.is_some() && b.row == parent && b.vlan == vlan)
            .map(|(name, _)| name)
    }
}

fn verify_bridges(ctx: &mut Context) {
    ctx.view.verify("Open_vSwitch", ctx.root, "bridges");
}

fn verify_ports(ctx: &mut Context) {
    verify_bridges(ctx);
    for bridge in ctx.view.rows("Bridge") {
        ctx.view.verify("Bridge", bridge, "ports");
    }
    for port in ctx.view.rows("Port") {
        ctx.view.verify("Port", port, "interfaces");
    }
}

/// `add-br BRIDGE [PARENT VLAN]`
pub fn add_br(ctx: &mut Context) -> Outcome {
    let may_exist = ctx.call.has("--may-exist");
    let name = ctx.arg(1);
    if name.is_empty() {
        fatal!("bridge name must not be empty string");
    }
    let parent = match ctx.call.argv.len() {
        2 => None,
        4 => {
            // As typed: not a number counts as 0, as it always did.
            let vlan: i64 = ctx.arg(3).parse().unwrap_or(0);
            if !(0..=4095).contains(&vlan) {
                fatal!("{}: vlan must be between 0 and 4095", ctx.arg(0));
            }
            Some((ctx.arg(2), vlan))
        }
        _ => fatal!("'{}' command takes exactly 1 or 3 arguments", ctx.arg(0)),
    };
    let map = map(ctx);
    if may_exist && let Some(bridge) = map.find_bridge(ctx, name, false)? {
        match (parent, &bridge.parent) {
            (None, Some(_)) => {
                fatal!(
                    "\"--may-exist add-br {name}\" but {name} is a VLAN bridge for VLAN {}",
                    bridge.vlan
                )
            }
            (Some((p, v)), None) => {
                fatal!("\"--may-exist add-br {name} {p} {v}\" but {name} is not a VLAN bridge")
            }
            (Some((p, v)), Some(is)) if p != is => {
                fatal!("\"--may-exist add-br {name} {p} {v}\" but {name} has the wrong parent {is}")
            }
            (Some((p, v)), Some(_)) if v != bridge.vlan => fatal!(
                "\"--may-exist add-br {name} {p} {v}\" but {name} is a VLAN bridge for the wrong VLAN {}",
                bridge.vlan
            ),
            _ => return Ok(()),
        }
    }
    map.check_conflicts(ctx, name, &format!("cannot create a bridge named {name}"))?;
    let bridge = match parent {
        None => None,
        Some((parent, vlan)) => match map.find_bridge(ctx, parent, false)? {
            None => fatal!("parent bridge {parent} does not exist"),
            Some(b) if b.parent.is_some() => {
                fatal!("cannot create bridge with fake bridge as parent")
            }
            Some(b) => {
                if let Some(other) = map.vlan_bridge(b.row, vlan) {
                    fatal!(
                        "bridge {parent} already has a child VLAN bridge {other} on VLAN {vlan}"
                    );
                }
                Some((b, vlan))
            }
        },
    };
    let named = ("name", Datum::string(name));
    let interface = ctx.view.insert(
        "Interface",
        &[named.clone(), ("type", Datum::string("internal"))],
    );
    ctx.interfaces.push(interface);
    let port = ctx.view.insert(
        "Port",
        &[named.clone(), ("interfaces", Datum::uuids([interface]))],
    );
    match bridge {
        None => {
            let row = ctx
                .view
                .insert("Bridge", &[named, ("ports", Datum::uuids([port]))]);
            ctx.view
                .put("Open_vSwitch", ctx.root, "bridges", Datum::uuids([row]));
        }
        Some((parent, vlan)) => {
            ctx.view
                .set("Port", port, "fake_bridge", Datum::boolean(true));
            ctx.view.set("Port", port, "tag", Datum::integer(vlan));
            ctx.view
                .put("Bridge", parent.row, "ports", Datum::uuids([port]));
        }
    }
    Ok(())
}

/// `del-br BRIDGE`
pub fn del_br(ctx: &mut Context) -> Outcome {
    let must_exist = !ctx.call.has("--if-exists");
    let name = ctx.arg(1);
    let map = map(ctx);
    let Some(bridge) = map.find_bridge(ctx, name, must_exist)? else {
        return Ok(());
    };
    if bridge.parent.is_none() {
        for set in ctx.view.rows("Flow_Sample_Collector_Set") {
            if ctx
                .view
                .get("Flow_Sample_Collector_Set", set, "bridge")
                .to_uuids()
                == [bridge.row]
            {
                ctx.view.delete("Flow_Sample_Collector_Set", set);
            }
        }
        for port in ctx.view.get("Bridge", bridge.row, "ports").to_uuids() {
            delete_port(ctx, bridge.row, port);
        }
        ctx.view
            .take("Open_vSwitch", ctx.root, "bridges", bridge.row);
        ctx.view.delete("Bridge", bridge.row);
    } else {
        for port in map.ports.values().filter(|p| p.bridge == name) {
            delete_port(ctx, bridge.row, port.row);
        }
    }
    Ok(())
}

fn delete_port(ctx: &mut Context, bridge: Uuid, port: Uuid) {
    for interface in ctx.view.get("Port", port, "interfaces").to_uuids() {
        ctx.view.delete("Interface", interface);
        ctx.interfaces.retain(|i| *i != interface);
    }
    ctx.view.delete("Port", port);
    ctx.view.take("Bridge", bridge, "ports", port);
}

/// `list-br`
pub fn list_br(ctx: &mut Context) -> Outcome {
    let (real, fake) = (ctx.call.has("--real"), ctx.call.has("--fake"));
    let both = real == fake;
    for (name, bridge) in map(ctx).bridges {
        if both || bridge.parent.is_some() == fake {
            ctx.line(name);
        }
    }
    Ok(())
}

/// `br-exists BRIDGE`: exit code 2 if not.
pub fn br_exists(ctx: &mut Context) -> Outcome {
    match map(ctx).bridges.contains_key(ctx.arg(1)) {
        true => Ok(()),
        false => Err(Stop::Exit(2)),
    }
}

/// `br-to-vlan BRIDGE`
pub fn br_to_vlan(ctx: &mut Context) -> Outcome {
    let bridge = map(ctx).bridge(ctx, ctx.arg(1))?;
    ctx.line(bridge.vlan);
    Ok(())
}

/// `br-to-parent BRIDGE`
pub fn br_to_parent(ctx: &mut Context) -> Outcome {
    let bridge = map(ctx).bridge(ctx, ctx.arg(1))?;
    ctx.line(bridge.parent.as_deref().unwrap_or(ctx.arg(1)));
    Ok(())
}

/// Where a bridge's external ids are: table, row, and what their keys begin with.
fn external_ids(ctx: &mut Context) -> Result<(&'static str, Uuid, &'static str), Stop> {
    let map = map(ctx);
    let bridge = map.bridge(ctx, ctx.arg(1))?;
    Ok(match (bridge.parent, map.ports.get(ctx.arg(1))) {
        (Some(_), Some(port)) => ("Port", port.row, "fake-bridge-"),
        _ => ("Bridge", bridge.row, ""),
    })
}

/// `br-set-external-id BRIDGE KEY [VALUE]`
pub fn br_set_external_id(ctx: &mut Context) -> Outcome {
    let (table, row, prefix) = external_ids(ctx)?;
    if let Datum::Map(mut ids) = ctx.view.get_verified(table, row, "external_ids") {
        let key = Atom::from(format!("{prefix}{}", ctx.arg(2)));
        match ctx.call.argv.get(3) {
            Some(value) => ids.insert(key, Atom::from(value.as_str())),
            None => ids.remove(&key),
        };
        ctx.view.set(table, row, "external_ids", Datum::Map(ids));
    }
    Ok(())
}

/// `br-get-external-id BRIDGE [KEY]`
pub fn br_get_external_id(ctx: &mut Context) -> Outcome {
    let (table, row, prefix) = external_ids(ctx)?;
    let ids = ctx.view.get_verified(table, row, "external_ids");
    for (key, value) in ids.string_pairs() {
        let Some(key) = key.strip_prefix(prefix) else {
            continue;
        };
        match ctx.call.argv.get(2) {
            None => ctx.line(format!("{key}={value}")),
            Some(wanted) if wanted == key => ctx.line(value),
            Some(_) => {}
        }
    }
    Ok(())
}

/// `list-ports BRIDGE`
pub fn list_ports(ctx: &mut Context) -> Outcome {
    let map = map(ctx);
    map.bridge(ctx, ctx.arg(1))?;
    for (name, port) in &map.ports {
        if port.bridge == ctx.arg(1) && name != ctx.arg(1) {
            ctx.line(name);
        }
    }
    Ok(())
}

/// `list-ifaces BRIDGE`
pub fn list_ifaces(ctx: &mut Context) -> Outcome {
    let map = map(ctx);
    map.bridge(ctx, ctx.arg(1))?;
    for name in map.interfaces.keys() {
        if name != ctx.arg(1)
            && map
                .port_of_interface(name)
                .is_some_and(|(_, p)| p.bridge == ctx.arg(1))
        {
            ctx.line(name);
        }
    }
    Ok(())
}

/// `add-port BRIDGE PORT [COLUMN[:KEY]=VALUE]...`
pub fn add_port(ctx: &mut Context) -> Outcome {
    let interface = [ctx.arg(2).to_string()];
    add(ctx, &interface, ctx.args_from(3), false)
}

/// `add-bond BRIDGE PORT INTERFACE... [COLUMN[:KEY]=VALUE]...`
pub fn add_bond(ctx: &mut Context) -> Outcome {
    let rest = ctx.args_from(3);
    let n = rest
        .iter()
        .position(|a| a.contains('='))
        .unwrap_or(rest.len());
    if n < 2 {
        fatal!("add-bond requires at least 2 interfaces, but only {n} were specified");
    }
    add(ctx, &rest[..n], &rest[n..], ctx.call.has("--fake-iface"))
}

fn add(ctx: &mut Context, interfaces: &[String], settings: &[String], fake: bool) -> Outcome {
    let (bridge_name, port_name) = (ctx.arg(1), ctx.arg(2));
    if port_name.is_empty() {
        fatal!("port name must not be empty string");
    }
    if interfaces.iter().any(String::is_empty) {
        fatal!("interface name must not be empty string");
    }
    let map = map(ctx);
    if ctx.call.has("--may-exist")
        && let Some(port) = map.find_port(ctx, port_name, false)?
    {
        let command = ctx.call.text();
        if port.bridge != bridge_name {
            fatal!(
                "\"{command}\" but {port_name} is actually attached to bridge {}",
                port.bridge
            );
        }
        let rows = ctx.view.get("Port", port.row, "interfaces").to_uuids();
        let have: BTreeSet<String> = rows
            .iter()
            .map(|r| ctx.view.get("Interface", *r, "name").as_str().to_string())
            .collect();
        if have != interfaces.iter().cloned().collect() {
            let have: Vec<String> = have.into_iter().collect();
            fatal!(
                "\"{command}\" but {port_name} actually has interface(s) {}",
                have.join(", ")
            );
        }
        return Ok(());
    }
    map.check_conflicts(
        ctx,
        port_name,
        &format!("cannot create a port named {port_name}"),
    )?;
    for name in interfaces {
        map.check_conflicts(
            ctx,
            name,
            &format!("cannot create an interface named {name}"),
        )?;
    }
    let bridge = map.bridge(ctx, bridge_name)?;
    let mut rows = Vec::new();
    for name in interfaces {
        let row = ctx
            .view
            .insert("Interface", &[("name", Datum::string(name))]);
        ctx.interfaces.push(row);
        rows.push(row);
    }
    let columns = [
        ("name", Datum::string(port_name)),
        ("interfaces", Datum::uuids(rows)),
        ("bond_fake_iface", Datum::boolean(fake)),
    ];
    let port = ctx.view.insert("Port", &columns);
    if bridge.parent.is_some() {
        ctx.view
            .set("Port", port, "tag", Datum::integer(bridge.vlan));
    }
    for setting in settings {
        set_column(ctx, "Port", port, setting)?;
    }
    ctx.view
        .put("Bridge", bridge.row, "ports", Datum::uuids([port]));
    Ok(())
}

/// `add-bond-iface BOND INTERFACE`
pub fn add_bond_iface(ctx: &mut Context) -> Outcome {
    let (bond, name) = (ctx.arg(1), ctx.arg(2));
    let map = map(ctx);
    let Some(port) = map.find_port(ctx, bond, true)? else {
        return Ok(());
    };
    if ctx.call.has("--may-exist")
        && let Some((owner, _)) = map.port_of_interface(name)
    {
        if owner == bond {
            return Ok(());
        }
        let command = ctx.call.text();
        fatal!("\"{command}\" but {name} is actually attached to port {owner}");
    }
    map.check_conflicts(
        ctx,
        name,
        &format!("cannot create an interface named {name}"),
    )?;
    let row = ctx
        .view
        .insert("Interface", &[("name", Datum::string(name))]);
    ctx.interfaces.push(row);
    ctx.view
        .put("Port", port.row, "interfaces", Datum::uuids([row]));
    Ok(())
}

/// `del-bond-iface [BOND] INTERFACE`
pub fn del_bond_iface(ctx: &mut Context) -> Outcome {
    let must_exist = !ctx.call.has("--if-exists");
    let name = ctx.call.argv.last().map_or("", String::as_str);
    let map = map(ctx);
    let Some((port_name, port)) = map.port_of_interface(name) else {
        if must_exist {
            fatal!("no interface named {name}");
        }
        return Ok(());
    };
    verify_ports(ctx);
    if ctx.call.argv.len() == 3 && port_name != ctx.arg(1) {
        map.find_port(ctx, ctx.arg(1), true)?;
        fatal!("port {} does not have an interface {name}", ctx.arg(1));
    }
    let rows = ctx.view.get("Port", port.row, "interfaces").to_uuids();
    if rows.len() < 2 {
        fatal!("cannot delete last interface from port {port_name}");
    }
    for row in rows {
        if ctx.view.get("Interface", row, "name").as_str() == name {
            ctx.view.take("Port", port.row, "interfaces", row);
            ctx.view.delete("Interface", row);
        }
    }
    Ok(())
}

/// `del-port [BRIDGE] PORT`
pub fn del_port(ctx: &mut Context) -> Outcome {
    let must_exist = !ctx.call.has("--if-exists");
    let target = ctx.call.argv.last().map_or("", String::as_str);
    let map = map(ctx);
    if map.find_bridge(ctx, target, false)?.is_some() {
        if must_exist {
            fatal!(
                "cannot delete port {target} because it is the local port for bridge {target} (deleting this port requires deleting the entire bridge)"
            );
        }
        return Ok(());
    }
    let port = if ctx.call.has("--with-iface") {
        let by_name = map.find_port(ctx, target, false)?;
        let port = by_name.or_else(|| map.port_of_interface(target).map(|(_, p)| p.clone()));
        if must_exist && port.is_none() {
            fatal!("no port or interface named {target}");
        }
        port
    } else {
        map.find_port(ctx, target, must_exist)?
    };
    let Some(port) = port else { return Ok(()) };
    let owner = map.bridge(ctx, &port.bridge)?;
    if ctx.call.argv.len() == 3 {
        let wanted = ctx.arg(1);
        map.bridge(ctx, wanted)?;
        if wanted != port.bridge {
            if owner.parent.as_deref() == Some(wanted) {
                fatal!(
                    "bridge {wanted} does not have a port {target} (although its child bridge {} does)",
                    port.bridge
                );
            }
            fatal!("bridge {wanted} does not have a port {target}");
        }
    }
    delete_port(ctx, owner.row, port.row);
    Ok(())
}

/// `port-to-br PORT`
pub fn port_to_br(ctx: &mut Context) -> Outcome {
    let map = map(ctx);
    if let Some(port) = map.find_port(ctx, ctx.arg(1), true)? {
        ctx.line(port.bridge);
    }
    Ok(())
}

/// `iface-to-br INTERFACE`
pub fn iface_to_br(ctx: &mut Context) -> Outcome {
    let map = map(ctx);
    verify_ports(ctx);
    match map.port_of_interface(ctx.arg(1)) {
        Some((_, port)) => ctx.line(&port.bridge),
        None => fatal!("no interface named {}", ctx.arg(1)),
    }
    Ok(())
}
