//! Controllers, managers, SSL, auto-attach, `emer-reset` and `show`: ovs-vsctl(8), "Open vSwitch
//! Commands" and "OpenFlow Controller Connectivity" to "Auto-Attach Commands".

use std::collections::BTreeMap;

use ovsdb::Atom;
use ovsdb::text::atom_text;
use uuid::Uuid;

use super::bridge;
use super::context::fatal;
use super::context::{Context, Outcome};
use super::model::Datum;
use super::text;

/// `init`: the row of table `Open_vSwitch` is made before any command runs.
pub fn nothing(_: &mut Context) -> Outcome {
    Ok(())
}

/// Prints the `target`s of the rows that a column refers to, sorted.
fn print_targets(ctx: &mut Context, table: &str, row: Uuid, column: &str, of: &str) {
    let rows = ctx.view.get_verified(table, row, column).to_uuids();
    let mut targets: Vec<String> = rows
        .iter()
        .map(|r| ctx.view.get(of, *r, "target").as_str().to_string())
        .collect();
    targets.sort();
    for target in targets {
        ctx.line(target);
    }
}

/// Deletes the rows that a column refers to.
fn delete_targets(ctx: &mut Context, table: &str, row: Uuid, column: &str, of: &str) {
    for target in ctx.view.get_verified(table, row, column).to_uuids() {
        ctx.view.delete(of, target);
    }
    ctx.view.set(table, row, column, Datum::empty_set());
}

/// Makes rows for the targets that are the arguments from `first` on.
fn insert_targets(
    ctx: &mut Context,
    table: &str,
    row: Uuid,
    column: &str,
    of: &str,
    first: usize,
) -> Outcome {
    let probe = match ctx.call.value("--inactivity-probe") {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Ok(n) if n >= 0 => Some(n),
            _ => fatal!("--inactivity-probe is \"{text}\", which is no number of milliseconds"),
        },
    };
    let mut rows = Vec::new();
    for target in ctx.args_from(first) {
        let method = target.split_once(':').map(|(m, _)| m);
        if !matches!(
            method,
            Some("tcp" | "unix" | "ssl" | "ptcp" | "punix" | "pssl")
        ) {
            ctx.warn(
                "vsctl",
                &format!("target type \"{target}\" is possibly erroneous"),
            );
        }
        let row = ctx.view.insert(of, &[("target", Datum::string(target))]);
        if let Some(probe) = probe {
            ctx.view
                .set(of, row, "inactivity_probe", Datum::integer(probe));
        }
        rows.push(row);
    }
    ctx.view.set(table, row, column, Datum::uuids(rows));
    Ok(())
}

/// `get-controller BRIDGE`
pub fn get_controller(ctx: &mut Context) -> Outcome {
    let bridge = bridge::map(ctx).bridge(ctx, ctx.arg(1))?;
    print_targets(ctx, "Bridge", bridge.row, "controller", "Controller");
    Ok(())
}

/// `del-controller BRIDGE`
pub fn del_controller(ctx: &mut Context) -> Outcome {
    let bridge = bridge::map(ctx).real_bridge(ctx, ctx.arg(1))?;
    delete_targets(ctx, "Bridge", bridge.row, "controller", "Controller");
    Ok(())
}

/// `set-controller BRIDGE TARGET...`
pub fn set_controller(ctx: &mut Context) -> Outcome {
    let bridge = bridge::map(ctx).real_bridge(ctx, ctx.arg(1))?;
    delete_targets(ctx, "Bridge", bridge.row, "controller", "Controller");
    insert_targets(ctx, "Bridge", bridge.row, "controller", "Controller", 2)
}

/// `get-fail-mode BRIDGE`
pub fn get_fail_mode(ctx: &mut Context) -> Outcome {
    let bridge = bridge::map(ctx).bridge(ctx, ctx.arg(1))?;
    let mode = ctx.view.get_verified("Bridge", bridge.row, "fail_mode");
    if mode.len() > 0 {
        ctx.line(mode.as_str());
    }
    Ok(())
}

/// `del-fail-mode BRIDGE`
pub fn del_fail_mode(ctx: &mut Context) -> Outcome {
    let bridge = bridge::map(ctx).real_bridge(ctx, ctx.arg(1))?;
    ctx.view
        .set("Bridge", bridge.row, "fail_mode", Datum::empty_set());
    Ok(())
}

/// `set-fail-mode BRIDGE MODE`
pub fn set_fail_mode(ctx: &mut Context) -> Outcome {
    let bridge = bridge::map(ctx).real_bridge(ctx, ctx.arg(1))?;
    let mode = ctx.arg(2);
    if mode != "standalone" && mode != "secure" {
        fatal!("fail-mode must be \"standalone\" or \"secure\"");
    }
    ctx.view
        .set("Bridge", bridge.row, "fail_mode", Datum::string(mode));
    Ok(())
}

/// `get-manager`
pub fn get_manager(ctx: &mut Context) -> Outcome {
    print_targets(ctx, "Open_vSwitch", ctx.root, "manager_options", "Manager");
    Ok(())
}

/// `del-manager`
pub fn del_manager(ctx: &mut Context) -> Outcome {
    delete_targets(ctx, "Open_vSwitch", ctx.root, "manager_options", "Manager");
    Ok(())
}

/// `set-manager TARGET...`
pub fn set_manager(ctx: &mut Context) -> Outcome {
    delete_targets(ctx, "Open_vSwitch", ctx.root, "manager_options", "Manager");
    insert_targets(
        ctx,
        "Open_vSwitch",
        ctx.root,
        "manager_options",
        "Manager",
        1,
    )
}

/// `get-ssl`
pub fn get_ssl(ctx: &mut Context) -> Outcome {
    for row in ctx
        .view
        .get_verified("Open_vSwitch", ctx.root, "ssl")
        .to_uuids()
    {
        for (what, column) in [
            ("Private key", "private_key"),
            ("Certificate", "certificate"),
            ("CA Certificate", "ca_cert"),
        ] {
            let value = ctx.view.get("SSL", row, column);
            ctx.line(format!("{what}: {}", value.as_str()));
        }
        let bootstrap = ctx.view.get("SSL", row, "bootstrap_ca_cert").as_bool();
        ctx.line(format!("Bootstrap: {bootstrap}"));
    }
    Ok(())
}

/// `del-ssl`
pub fn del_ssl(ctx: &mut Context) -> Outcome {
    delete_targets(ctx, "Open_vSwitch", ctx.root, "ssl", "SSL");
    Ok(())
}

/// `set-ssl PRIVATE-KEY CERTIFICATE CA-CERT`
pub fn set_ssl(ctx: &mut Context) -> Outcome {
    delete_targets(ctx, "Open_vSwitch", ctx.root, "ssl", "SSL");
    let columns = [
        ("private_key", Datum::string(ctx.arg(1))),
        ("certificate", Datum::string(ctx.arg(2))),
        ("ca_cert", Datum::string(ctx.arg(3))),
        (
            "bootstrap_ca_cert",
            Datum::boolean(ctx.call.has("--bootstrap")),
        ),
    ];
    let row = ctx.view.insert("SSL", &columns);
    ctx.view
        .set("Open_vSwitch", ctx.root, "ssl", Datum::uuids([row]));
    Ok(())
}

/// The auto-attach row of the bridge that the first argument names.
fn auto_attach(ctx: &mut Context, make: bool) -> Result<Option<Uuid>, super::context::Stop> {
    let bridge = bridge::map(ctx).bridge(ctx, ctx.arg(1))?;
    match ctx
        .view
        .get_verified("Bridge", bridge.row, "auto_attach")
        .to_uuids()
        .first()
    {
        Some(row) => Ok(Some(*row)),
        None if make => {
            let row = ctx.view.insert("AutoAttach", &[]);
            ctx.view
                .set("Bridge", bridge.row, "auto_attach", Datum::uuids([row]));
            Ok(Some(row))
        }
        None => Ok(None),
    }
}

fn isid_and_vlan(ctx: &Context) -> Result<(i64, i64), super::context::Stop> {
    match (ctx.arg(2).parse(), ctx.arg(3).parse()) {
        (Ok(isid), Ok(vlan)) => Ok((isid, vlan)),
        (Err(_), _) => fatal!("Invalid argument {}", ctx.arg(2)),
        (_, Err(_)) => fatal!("Invalid argument {}", ctx.arg(3)),
    }
}

/// `add-aa-mapping BRIDGE I-SID VLAN`
pub fn add_aa_mapping(ctx: &mut Context) -> Outcome {
    let (isid, vlan) = isid_and_vlan(ctx)?;
    if let Some(row) = auto_attach(ctx, true)?
        && let Datum::Map(mut map) = ctx.view.get_verified("AutoAttach", row, "mappings")
    {
        map.insert(Atom::Integer(isid), Atom::Integer(vlan));
        ctx.view.set("AutoAttach", row, "mappings", Datum::Map(map));
    }
    Ok(())
}

/// `del-aa-mapping BRIDGE I-SID VLAN`
pub fn del_aa_mapping(ctx: &mut Context) -> Outcome {
    let (isid, vlan) = isid_and_vlan(ctx)?;
    if let Some(row) = auto_attach(ctx, false)?
        && let Datum::Map(mut map) = ctx.view.get_verified("AutoAttach", row, "mappings")
    {
        map.retain(|k, v| *k != Atom::Integer(isid) || *v != Atom::Integer(vlan));
        ctx.view.set("AutoAttach", row, "mappings", Datum::Map(map));
    }
    Ok(())
}

/// `get-aa-mapping BRIDGE`
pub fn get_aa_mapping(ctx: &mut Context) -> Outcome {
    if let Some(row) = auto_attach(ctx, false)?
        && let Datum::Map(map) = ctx.view.get_verified("AutoAttach", row, "mappings")
    {
        for (isid, vlan) in map {
            ctx.line(format!("{} {}", atom_text(&isid), atom_text(&vlan)));
        }
    }
    Ok(())
}

/// `emer-reset`
pub fn emer_reset(ctx: &mut Context) -> Outcome {
    for column in ["manager_options", "ssl"] {
        ctx.view
            .set("Open_vSwitch", ctx.root, column, Datum::empty_set());
    }
    for row in ctx.view.rows("Bridge") {
        let kept: BTreeMap<Atom, Atom> = match ctx.view.get("Bridge", row, "other_config") {
            Datum::Map(m) => m
                .into_iter()
                .filter(|(k, _)| k.as_str() == Some("hwaddr"))
                .collect(),
            Datum::Set(_) => BTreeMap::new(),
        };
        ctx.view
            .set("Bridge", row, "other_config", Datum::Map(kept));
        for column in [
            "controller",
            "fail_mode",
            "mirrors",
            "netflow",
            "sflow",
            "ipfix",
        ] {
            ctx.view.set("Bridge", row, column, Datum::empty_set());
        }
    }
    for row in ctx.view.rows("Port") {
        ctx.view
            .set("Port", row, "other_config", Datum::empty_map());
    }
    for row in ctx.view.rows("Interface") {
        ctx.view
            .set("Interface", row, "ingress_policing_rate", Datum::integer(0));
        ctx.view.set(
            "Interface",
            row,
            "ingress_policing_burst",
            Datum::integer(0),
        );
    }
    for table in [
        "Mirror",
        "Controller",
        "Manager",
        "NetFlow",
        "sFlow",
        "IPFIX",
        "SSL",
        "Flow_Sample_Collector_Set",
    ] {
        for row in ctx.view.rows(table) {
            ctx.view.delete(table, row);
        }
    }
    Ok(())
}

/// What `show` prints of a table: the column that names a row, and the columns below it.
struct Shown {
    table: &'static str,
    name: Option<&'static str>,
    columns: &'static [&'static str],
}

const SHOWN: &[Shown] = &[
    Shown {
        table: "Open_vSwitch",
        name: None,
        columns: &["manager_options", "bridges", "ovs_version"],
    },
    Shown {
        table: "Bridge",
        name: Some("name"),
        columns: &["controller", "fail_mode", "datapath_type", "ports"],
    },
    Shown {
        table: "Port",
        name: Some("name"),
        columns: &["tag", "trunks", "interfaces"],
    },
    Shown {
        table: "Interface",
        name: Some("name"),
        columns: &["type", "options", "error"],
    },
    Shown {
        table: "Controller",
        name: Some("target"),
        columns: &["is_connected"],
    },
    Shown {
        table: "Manager",
        name: Some("target"),
        columns: &["is_connected"],
    },
];

/// `show`
pub fn show(ctx: &mut Context) -> Outcome {
    for row in ctx.view.rows("Open_vSwitch") {
        show_row(ctx, &SHOWN[0], row, 0);
    }
    Ok(())
}

fn show_row(ctx: &mut Context, shown: &Shown, row: Uuid, level: usize) {
    let indent = "    ".repeat(level);
    let Some(schema) = ctx.view.schema.tables.get(shown.table).cloned() else {
        return;
    };
    match shown.name.and_then(|column| schema.columns.get(column)) {
        Some(column) => {
            let name = ctx.view.get(shown.table, row, &column.name);
            let name = text::print(&name, &column.ty);
            ctx.line(format!("{indent}{} {name}", shown.table));
        }
        None => ctx.line(format!("{indent}{row}")),
    }
    for column in shown.columns {
        let Some(spec) = schema.columns.get(*column) else {
            continue;
        };
        let value = ctx.view.get(shown.table, row, column);
        let below = SHOWN
            .iter()
            .find(|s| spec.ty.key.ref_table.as_deref() == Some(s.table));
        if let Some(below) = below {
            for id in value.to_uuids() {
                if ctx.view.exists(below.table, id) {
                    show_row(ctx, below, id, level + 1);
                }
            }
        } else if value != Datum::default_of(&spec.ty) {
            ctx.line(format!(
                "{indent}    {column}: {}",
                text::print(&value, &spec.ty)
            ));
        }
    }
}
