//! Bridges, ports and interfaces by name, as the commands see them: fake bridges are bridges.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::vsctl::context::{Context, Outcome, Stop, fatal};

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
pub struct Port {
    pub row: Uuid,
    /// Name of the real or fake bridge it belongs to.
    pub bridge: String,
}

/// All bridges, ports and interfaces by name.
#[derive(Debug, Default)]
pub struct Map {
    pub bridges: BTreeMap<String, Bridge>,
    pub ports: BTreeMap<String, Port>,
    /// Interface name to port name.
    pub interfaces: BTreeMap<String, String>,
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
    pub fn find_bridge(
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

    /// The port of that name that is no bridge's local port; the transaction then depends on all ports.
    pub fn find_port(
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
    pub fn port_of_interface(&self, name: &str) -> Option<(&str, &Port)> {
        let port_name = self.interfaces.get(name)?;
        let port = self.ports.get(port_name)?;
        (port.bridge != name).then_some((port_name, port))
    }

    /// An error that begins with `what` if anything has this name.
    pub fn check_conflicts(&self, ctx: &mut Context, name: &str, what: &str) -> Outcome {
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

    /// The fake bridge of a VLAN of a real bridge.
    pub fn vlan_bridge(&self, parent: Uuid, vlan: i64) -> Option<&String> {
        self.bridges
            .iter()
            .find(|(_, b)| b.parent.is_some() && b.row == parent && b.vlan == vlan)
            .map(|(name, _)| name)
    }
}

fn verify_bridges(ctx: &mut Context) {
    ctx.view.verify("Open_vSwitch", ctx.root, "bridges");
}

/// Makes the transaction depend on which ports and interfaces there are.
pub fn verify_ports(ctx: &mut Context) {
    verify_bridges(ctx);
    for bridge in ctx.view.rows("Bridge") {
        ctx.view.verify("Bridge", bridge, "ports");
    }
    for port in ctx.view.rows("Port") {
        ctx.view.verify("Port", port, "interfaces");
    }
}
