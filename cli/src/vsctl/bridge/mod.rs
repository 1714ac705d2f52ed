//! Bridges, ports and interfaces: ovs-vsctl(8), "Bridge Commands" to "Interface Commands".
//!
//! A port with `fake_bridge` set makes a "fake bridge" within its bridge: to these commands it is a
//! bridge of its own, whose ports are those of the parent that carry the same VLAN tag.

mod map;

use std::collections::BTreeSet;

use ovsdb::Atom;
use uuid::Uuid;

use super::context::{Context, Outcome, Stop, fatal};
use super::database::set_column;
use super::model::Datum;
pub use map::map;
use map::verify_ports;

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
