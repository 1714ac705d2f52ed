//! `/`: the state of the network on one page, made on the server; no script.

use super::App;
use super::v1;
use crate::hub::FlowState;
use crate::inventory::is_up;
use crate::topology::Host;
use axum::extract::State;
use axum::response::Html;
use openflow::FlowFilter;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Rows shown of one table; REST has them all.
const MAX_ROWS: usize = 200;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1b2330;--dim:#5b6675;--line:#dfe4ea;--accent:#0b6bcb;--good:#12703a;--bad:#b3261e;--wait:#8a5a00}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2028;--text:#e6ebf2;--dim:#9aa7b7;--line:#2c3541;--accent:#6cb4ff;--good:#5fd38d;--bad:#ff8a80;--wait:#f3c26b}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;gap:.5rem 2rem;align-items:baseline;padding:1.25rem 1.5rem;background:var(--card);border-bottom:1px solid var(--line)}
h1{font-size:1.35rem;margin:0;letter-spacing:.02em}h1 span{color:var(--accent)}h2{font-size:1.05rem;margin:0 0 .6rem}h3{font-size:.95rem;margin:1.1rem 0 .4rem}
header p{margin:0;color:var(--dim)}header b{color:var(--text)}main{max-width:76rem;margin:1.25rem auto;padding:0 1rem;display:grid;gap:1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem 1.25rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--dim);font-weight:600;font-size:.82rem}th,td{padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td{border-bottom:0}td.n,th.n{text-align:right}code{font:13px/1.5 ui-monospace,monospace}.dim,.none{color:var(--dim)}
.good{color:var(--good)}.bad{color:var(--bad)}.wait{color:var(--wait)}a{color:var(--accent)}
";

/// The page.
pub(super) async fn page(State(app): State<App>) -> Html<String> {
    let hub = &app.hub;
    let switches = hub.switches();
    let flows = hub.flows();
    let (hosts, links) = {
        let t = hub.topology();
        let hosts: Vec<Host> = t.hosts().take(MAX_ROWS).cloned().collect();
        (hosts, t.links().count())
    };
    let mut p = Page::open("weir controller");
    let _ = write!(
        p.0,
        "<header><h1><span>weir</span> controller</h1><p><b>{}</b> switches</p><p><b>{}</b> hosts</p><p><b>{links}</b> links</p><p><b>{}</b> named flows</p><p>up {}</p></header><main>",
        switches.len(),
        hosts.len(),
        flows.len(),
        span(hub.start.elapsed())
    );

    p.section("Named flows");
    let rows: Vec<_> = flows
        .iter()
        .take(MAX_ROWS)
        .map(|e| {
            let class = match e.state {
                FlowState::Installed => "good",
                FlowState::Pending => "wait",
                _ => "bad",
            };
            let j = e.flow.to_json();
            vec![
                Cell::code(&e.flow.name),
                Cell::text(&e.flow.switch.to_string()),
                Cell::number(e.flow.table),
                Cell::number(e.flow.priority),
                Cell::code(&matched(&j["match"])),
                Cell::code(&actions(&j["actions"])),
                Cell::classed(class, e.state.word()),
            ]
        })
        .collect();
    p.table(
        &[
            "Name",
            "Switch",
            "#Table",
            "#Priority",
            "Match",
            "Actions",
            "State",
        ],
        rows,
        "No flow has been named yet: POST /api/v1/flows adds one.",
    );
    p.close_section();

    p.section("Hosts");
    let now = Instant::now();
    let rows: Vec<_> = hosts
        .iter()
        .map(|h| {
            let handle = switches.iter().find(|s| s.dpid == h.place.dpid);
            let (switch, port) = handle.map_or_else(
                || (h.place.dpid.to_string(), h.place.port.to_string()),
                |s| {
                    s.with(|i| {
                        (
                            i.name(),
                            i.port(h.place.port).map_or_else(
                                || h.place.port.to_string(),
                                |p| format!("{} ({})", p.name, p.port),
                            ),
                        )
                    })
                },
            );
            let ips: Vec<_> = h.ips.iter().map(ToString::to_string).collect();
            vec![
                Cell::code(&h.mac.to_string()),
                Cell::text(&h.vlan.map_or_else(|| "–".into(), |v| v.to_string())),
                Cell::code(&ips.join(", ")),
                Cell::text(&switch),
                Cell::text(&port),
                Cell::text(&format!(
                    "{} ago",
                    span(now.saturating_duration_since(h.seen))
                )),
            ]
        })
        .collect();
    p.table(
        &["MAC", "VLAN", "Addresses", "Switch", "Port", "Last seen"],
        rows,
        "No host has been heard of yet.",
    );
    p.close_section();

    for h in switches.iter().take(MAX_ROWS) {
        let s = h.info();
        p.section(&s.name());
        let n = h.counters.rows();
        let count = |name: &str| n.iter().find(|r| r.0 == name).map_or(0, |r| r.2);
        let _ = write!(
            p.0,
            "<p class=dim><code>{}</code> · {} · {} {} · connected {} · {} packet-ins, {} flow changes, {} errors</p>",
            s.dpid,
            s.peer,
            escape(&s.desc.manufacturer),
            escape(&s.desc.software),
            span(h.since.elapsed()),
            count("packet_ins"),
            count("flow_mods"),
            count("errors"),
        );
        p.heading("Ports");
        let rows: Vec<_> = s
            .ports()
            .take(MAX_ROWS)
            .map(|d| {
                let (class, word) = if is_up(d) {
                    ("good", "up")
                } else {
                    ("bad", "down")
                };
                vec![
                    Cell::text(&d.port.to_string()),
                    Cell::text(&d.name),
                    Cell::code(&d.mac.to_string()),
                    Cell::classed(class, word),
                ]
            })
            .collect();
        p.table(
            &["Port", "Name", "MAC", "Link"],
            rows,
            "The switch has no ports.",
        );
        p.heading("Flows on the switch");
        match tokio::time::timeout(
            Duration::from_secs(2),
            v1::on_switch(h, FlowFilter::default()),
        )
        .await
        {
            Ok(Ok(flows)) => {
                let rows: Vec<_> = flows
                    .iter()
                    .take(MAX_ROWS)
                    .map(|f| {
                        let list = crate::flows::actions_json(&f.instructions).unwrap_or_default();
                        vec![
                            Cell::number(f.table),
                            Cell::number(f.priority),
                            Cell::code(&matched(&crate::flows::match_json(&f.matching))),
                            Cell::code(&actions(&list)),
                            Cell::number(f.packets),
                            Cell::number(f.bytes),
                            Cell::text(&span(f.duration)),
                            Cell::text(v1::owner(f.cookie)),
                        ]
                    })
                    .collect();
                p.table(
                    &[
                        "#Table",
                        "#Priority",
                        "Match",
                        "Actions",
                        "#Packets",
                        "#Bytes",
                        "Age",
                        "Owner",
                    ],
                    rows,
                    "The switch has no flows.",
                );
            }
            _ => p.0.push_str("<p class=bad>The switch does not answer.</p>"),
        }
        p.close_section();
    }
    p.0.push_str("<p class=dim>The same as JSON: <code>/api/v1/openapi.json</code> lists the addresses.</p></main>");
    p.finish()
}

/// What somebody sees who has no token yet.
pub(super) fn sign_in() -> Html<String> {
    let mut p = Page::open("weir controller: sign in");
    p.0.push_str("<header><h1><span>weir</span> controller</h1></header><main><section><h2>Sign in</h2><p>This page needs the token that the controller wrote to <code>rest.token</code> in its run directory. Open <code>/?token=TOKEN</code> once in this browser; programs send <code>Authorization: Bearer TOKEN</code>.</p></section></main>");
    p.finish()
}

struct Page(String);

/// A table's cell, escaped already.
struct Cell(&'static str, String);

impl Cell {
    fn text(s: &str) -> Cell {
        Cell("", escape(s))
    }

    fn code(s: &str) -> Cell {
        Cell("", format!("<code>{}</code>", escape(s)))
    }

    fn number(n: impl std::fmt::Display) -> Cell {
        Cell("n", n.to_string())
    }

    fn classed(class: &'static str, s: &str) -> Cell {
        Cell(class, escape(s))
    }
}

impl Page {
    fn open(title: &str) -> Page {
        Page(format!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>"
        ))
    }

    fn section(&mut self, title: &str) {
        let _ = write!(self.0, "<section><h2>{}</h2>", escape(title));
    }

    fn close_section(&mut self) {
        self.0.push_str("</section>");
    }

    fn heading(&mut self, title: &str) {
        let _ = write!(self.0, "<h3>{}</h3>", escape(title));
    }

    /// Columns whose name begins with `#` are numbers.
    fn table(&mut self, columns: &[&str], rows: Vec<Vec<Cell>>, none: &str) {
        if rows.is_empty() {
            let _ = write!(self.0, "<p class=none>{}</p>", escape(none));
            return;
        }
        self.0
            .push_str("<div class=scroll tabindex=0><table><thead><tr>");
        for c in columns {
            match c.strip_prefix('#') {
                Some(c) => {
                    let _ = write!(self.0, "<th scope=col class=n>{c}</th>");
                }
                None => {
                    let _ = write!(self.0, "<th scope=col>{c}</th>");
                }
            }
        }
        self.0.push_str("</tr></thead><tbody>");
        let cut = rows.len() == MAX_ROWS;
        for row in rows {
            self.0.push_str("<tr>");
            for Cell(class, html) in row {
                let _ = match class {
                    "" => write!(self.0, "<td>{html}</td>"),
                    _ => write!(self.0, "<td class={class}>{html}</td>"),
                };
            }
            self.0.push_str("</tr>");
        }
        self.0.push_str("</tbody></table></div>");
        if cut {
            let _ = write!(self.0, "<p class=dim>The first {MAX_ROWS} are shown.</p>");
        }
    }

    fn finish(mut self) -> Html<String> {
        self.0.push_str("</body></html>");
        Html(self.0)
    }
}

/// Switches name their ports as they like: nothing of theirs is markup here.
fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn plain(v: &serde_json::Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

fn matched(v: &serde_json::Value) -> String {
    match v.as_object() {
        Some(o) if o.is_empty() => "everything".into(),
        Some(o) => o
            .iter()
            .map(|(k, v)| format!("{k}={}", plain(v)))
            .collect::<Vec<_>>()
            .join(", "),
        None => plain(v),
    }
}

fn actions(v: &serde_json::Value) -> String {
    match v.as_array() {
        Some(a) if a.is_empty() => "drop".into(),
        Some(a) => a
            .iter()
            .map(|a| {
                let args: Vec<_> = a
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(k, _)| *k != "type" && *k != "max_len")
                    .map(|(_, v)| plain(v))
                    .collect();
                format!("{} {}", plain(&a["type"]), args.join(" "))
                    .trim()
                    .to_owned()
            })
            .collect::<Vec<_>>()
            .join(", "),
        None => "not shown".into(),
    }
}

fn span(d: Duration) -> String {
    match d.as_secs() {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_switch_is_markup() {
        let mut p = Page::open("t");
        p.table(
            &["A"],
            vec![vec![Cell::code("<script>alert('1')</script>")]],
            "",
        );
        assert!(!p.0.contains("<script>") && p.0.contains("&lt;script&gt;"));
    }
}
