//! `/metrics`: Prometheus' text format.

use super::App;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let mut out = String::new();
    let hub = &app.hub;
    let switches = hub.switches();
    let (hosts, links) = {
        let t = hub.topology();
        (t.hosts().count() as u64, t.links().count() as u64)
    };
    let single: [(&str, &str, &str, u64); 7] = [
        (
            "uptime_seconds",
            "gauge",
            "Time since the controller started",
            hub.start.elapsed().as_secs(),
        ),
        (
            "switches",
            "gauge",
            "Connected switches",
            switches.len() as u64,
        ),
        ("hosts", "gauge", "Known hosts", hosts),
        ("links", "gauge", "Known links, one a direction", links),
        (
            "named_flows",
            "gauge",
            "Named flows",
            hub.flows().len() as u64,
        ),
        (
            "connections_accepted_total",
            "counter",
            "OpenFlow connections accepted",
            hub.accepted.load(Ordering::Relaxed),
        ),
        (
            "connections_rejected_total",
            "counter",
            "OpenFlow connections turned away",
            hub.rejected.load(Ordering::Relaxed),
        ),
    ];
    for (name, kind, help, value) in single {
        let _ = writeln!(
            out,
            "# HELP weir_controller_{name} {help}\n# TYPE weir_controller_{name} {kind}\nweir_controller_{name} {value}"
        );
    }
    let rows: Vec<_> = switches
        .iter()
        .map(|h| (h.dpid.to_string(), h.with(|s| s.name()), h.counters.rows()))
        .collect();
    let columns = rows.first().map_or(0, |r| r.2.len());
    for i in 0..columns {
        let (name, help, _) = rows[0].2[i];
        let _ = writeln!(
            out,
            "# HELP weir_controller_switch_{name}_total {help}\n# TYPE weir_controller_switch_{name}_total counter"
        );
        for (id, switch, counters) in &rows {
            let _ = writeln!(
                out,
                "weir_controller_switch_{name}_total{{switch=\"{id}\",name=\"{}\"}} {}",
                escape(switch),
                counters[i].2
            );
        }
    }
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, out).into_response()
}

fn escape(s: &str) -> String {
    s.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
