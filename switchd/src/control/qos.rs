//! `qos/show` and `qos/show-types`.

use crate::switch::Switch;
use datapath::qos::spec::{CodelSpec, Device, PolicerSpec};
use datapath::qos::{Discipline, QueueSpec, TYPES};
use openflow::PortNo;
use std::fmt::Write;

type Details = Vec<(&'static str, u64)>;

/// The bridge and number of an interface.
fn find(switch: &Switch, name: &str) -> Result<(String, PortNo), String> {
    let plane = switch.plane();
    for bridge in switch.bridges() {
        for port in plane.ports(bridge.name()) {
            let desc = plane.port_desc(bridge.name(), port);
            if desc.is_some_and(|d| d.name == name) {
                return Ok((bridge.name().to_owned(), port));
            }
        }
    }
    Err("no such interface".to_owned())
}

/// The types that an interface can have: each can have all.
pub fn show_types(switch: &Switch, name: &str) -> Result<String, String> {
    find(switch, name)?;
    Ok(TYPES.iter().map(|t| format!("QoS type: {t}\n")).collect())
}

fn codel(c: &CodelSpec) -> Details {
    vec![
        ("target", c.target),
        ("limit", c.limit.into()),
        ("interval", c.interval),
    ]
}

fn policer(p: &PolicerSpec) -> Details {
    vec![
        ("cir", p.cir),
        ("cbs", p.cbs),
        ("eir", p.eir),
        ("ebs", p.ebs),
    ]
}

/// What a type's settings come to, by their names in `other_config`.
fn details(discipline: &Discipline, device: &Device) -> Details {
    match discipline {
        Discipline::Htb { max_rate } | Discipline::Hfsc { max_rate } => {
            vec![("max-rate", device.max_rate(*max_rate))]
        }
        Discipline::Sfq { perturb, quantum } => vec![
            ("quantum", quantum.unwrap_or(device.mtu()).into()),
            ("perturb", *perturb),
        ],
        Discipline::Codel(c) => codel(c),
        Discipline::FqCodel {
            codel: c,
            flows,
            quantum,
        } => {
            let mut all = codel(c);
            all.extend([("flows", (*flows).into()), ("quantum", (*quantum).into())]);
            all
        }
        Discipline::Netem {
            latency,
            jitter,
            limit,
            loss,
        } => {
            let mut all = vec![
                ("latency", *latency),
                ("limit", (*limit).into()),
                ("loss", (*loss).into()),
            ];
            all.extend((*jitter != 0).then_some(("jitter", *jitter)));
            all
        }
        Discipline::Noop => Vec::new(),
        Discipline::Policer(p) => policer(p)[..2].to_vec(),
        Discipline::TrTcm(p) => policer(p),
    }
}

fn queue_details(discipline: &Discipline, device: &Device, q: &QueueSpec) -> Details {
    let max = |asked: Option<u64>| device.max_rate(asked);
    let (class, htb) = match discipline {
        Discipline::Htb { max_rate } => (device.htb_class(q, max(*max_rate)), true),
        Discipline::Hfsc { max_rate } => (device.hfsc_class(q, max(*max_rate)), false),
        _ => return q.policer.as_ref().map_or_else(Vec::new, policer),
    };
    let mut all = vec![("min-rate", class.min)];
    if class.min != class.max {
        all.push(("max-rate", class.max));
    }
    if htb {
        all.push(("burst", class.burst * 8));
        if class.priority != 0 {
            all.push(("priority", class.priority.into()));
        }
    }
    all
}

/// What an interface's quality of service is, and what its queues did.
pub fn show(switch: &Switch, name: &str) -> Result<String, String> {
    let (bridge, port) = find(switch, name)?;
    let plane = switch.plane();
    let Some((spec, device)) = plane.qos(&bridge, port) else {
        return Ok(format!("QoS not configured on {name}\n"));
    };
    let mut s = format!("QoS: {name} {}\n", spec.name());
    for (key, value) in details(&spec.discipline, &device) {
        let _ = writeln!(s, "{key}: {value}");
    }
    let stats = plane.queue_stats(&bridge, port);
    for (id, queue) in &spec.queues {
        match id {
            0 => s.push_str("\nDefault:\n"),
            id => _ = write!(s, "\nQueue {id}:\n"),
        }
        for (key, value) in queue_details(&spec.discipline, &device, queue) {
            let _ = writeln!(s, "  {key}: {value}");
        }
        if let Some(q) = stats.iter().find(|q| q.queue == *id) {
            let _ = writeln!(s, "  tx_packets: {}", q.tx_packets);
            let _ = writeln!(s, "  tx_bytes: {}", q.tx_bytes);
            let _ = writeln!(s, "  tx_errors: {}", q.tx_errors);
        }
    }
    Ok(s)
}
