//! What the switch writes back into the database: for each row the columns as they should read.
//! Pure; the caller compares with the replica and writes only what differs.

use crate::agent::fair::FairStats;
use crate::plane::PortState;
use openflow::PortNo;
use std::collections::BTreeMap;
use std::time::Duration;

/// A column's value, of the kinds that are written back.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    /// The empty set.
    Empty,
    /// One integer.
    Int(i64),
    /// One string.
    Str(String),
    /// One boolean.
    Bool(bool),
    /// A set of strings.
    Strs(Vec<String>),
    /// String to string.
    Map(BTreeMap<String, String>),
    /// String to integer.
    Counters(BTreeMap<String, i64>),
}

/// Columns by name.
pub type Row = BTreeMap<&'static str, Out>;

/// An interface as reported.
#[derive(Clone, Debug, Default)]
pub struct InterfaceReport {
    /// Number, if the port exists.
    pub number: Option<PortNo>,
    /// Its state, if it exists.
    pub state: Option<PortState>,
    /// Why it does not exist or is less than asked for.
    pub error: Option<String>,
    /// Settings that are not obeyed.
    pub notes: Vec<String>,
}

fn some<T>(value: Option<T>, out: impl Fn(T) -> Out) -> Out {
    value.map_or(Out::Empty, out)
}

/// Where notes go in a `status` column.
pub const NOTES_KEY: &str = "unsupported";

fn with_notes(mut status: BTreeMap<String, String>, notes: &[String]) -> Out {
    if !notes.is_empty() {
        status.insert(NOTES_KEY.to_owned(), notes.join("; "));
    }
    Out::Map(status)
}

/// `Interface`, statistics apart.
pub fn interface(report: &InterfaceReport) -> Row {
    let state = report.state.as_ref();
    let up = |up: bool| Out::Str(if up { "up" } else { "down" }.to_owned());
    let speed = state.map(|s| s.speed_kbps).filter(|s| *s != 0);
    Row::from([
        (
            "ofport",
            match report.number {
                Some(n) if n == PortNo::LOCAL => Out::Int(65534),
                Some(n) => Out::Int(i64::from(n.0)),
                None => Out::Int(-1),
            },
        ),
        (
            "error",
            some(
                report
                    .error
                    .clone()
                    .or_else(|| state.and_then(|s| s.error.clone())),
                Out::Str,
            ),
        ),
        ("admin_state", some(state.map(|s| s.admin_up), up)),
        ("link_state", some(state.map(|s| s.link_up), up)),
        (
            "link_speed",
            some(speed, |s| {
                Out::Int((s.saturating_mul(1000)).min(i64::MAX as u64) as i64)
            }),
        ),
        ("duplex", some(speed, |_| Out::Str("full".to_owned()))),
        (
            "mac_in_use",
            some(state.and_then(|s| s.mac), |m| Out::Str(m.to_string())),
        ),
        (
            "mtu",
            some(state.and_then(|s| s.mtu), |m| Out::Int(i64::from(m))),
        ),
        (
            "ifindex",
            some(state.map(|s| s.ifindex), |n| Out::Int(i64::from(n))),
        ),
        (
            "link_resets",
            some(state.map(|s| s.link_resets), |n| Out::Int(n as i64)),
        ),
        (
            "status",
            with_notes(
                state.map(|s| s.status.clone()).unwrap_or_default(),
                &report.notes,
            ),
        ),
    ])
}

/// `Interface.statistics`.
pub fn statistics(counters: &BTreeMap<String, u64>) -> Out {
    Out::Counters(
        counters
            .iter()
            .filter(|(_, n)| **n != u64::MAX)
            .map(|(k, n)| (k.clone(), (*n).min(i64::MAX as u64) as i64))
            .collect(),
    )
}

/// `Mirror`: packets and bytes, none of a mirror that is not carried out.
pub fn mirror(counts: Option<(u64, u64)>) -> Row {
    let counts = counts.map(|(packets, bytes)| [("tx_packets", packets), ("tx_bytes", bytes)]);
    let counts = counts.into_iter().flatten();
    let counts = counts.map(|(name, n)| (name.to_owned(), n)).collect();
    Row::from([("statistics", statistics(&counts))])
}

/// `Bridge`.
pub fn bridge(datapath_id: u64, version: &str, notes: &[String]) -> Row {
    Row::from([
        ("datapath_id", Out::Str(format!("{datapath_id:016x}"))),
        ("datapath_version", Out::Str(version.to_owned())),
        ("status", with_notes(BTreeMap::new(), notes)),
    ])
}

/// `Port`.
pub fn port(notes: &[String]) -> Row {
    Row::from([("status", with_notes(BTreeMap::new(), notes))])
}

/// A controller connection as reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControllerReport {
    /// Whether it is connected.
    pub connected: bool,
    /// `other`, `master` or `slave`, while connected.
    pub role: Option<&'static str>,
    /// State name, where there is one connection.
    pub state: Option<&'static str>,
    /// Why the last attempt or connection ended.
    pub last_error: Option<String>,
    /// Time since the connection began.
    pub since_connect: Option<Duration>,
    /// Time since the last one ended.
    pub since_disconnect: Option<Duration>,
    /// Number of connections of a passive controller.
    pub connections: Option<usize>,
    /// What the limits on misses and on other packet-ins did.
    pub limits: Option<[FairStats; 2]>,
    /// Settings that are not obeyed, or why there is no connection at all.
    pub notes: Vec<String>,
}

/// `Controller`.
pub fn controller(r: &ControllerReport) -> Row {
    let mut status = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(v) = value {
            status.insert(key.to_owned(), v);
        }
    };
    put("state", r.state.map(str::to_owned));
    put("last_error", r.last_error.clone());
    put(
        "sec_since_connect",
        r.since_connect.map(|t| t.as_secs().to_string()),
    );
    put(
        "sec_since_disconnect",
        r.since_disconnect.map(|t| t.as_secs().to_string()),
    );
    put("n_connections", r.connections.map(|n| n.to_string()));
    for (name, l) in ["miss", "action"].iter().zip(r.limits.iter().flatten()) {
        for (what, n) in [
            ("bypassed", l.bypassed),
            ("queued", l.queued),
            ("dropped", l.dropped),
            ("backlog", l.backlog as u64),
        ] {
            put(&format!("packet-in-{name}-{what}"), Some(n.to_string()));
        }
    }
    Row::from([
        ("is_connected", Out::Bool(r.connected)),
        ("role", some(r.role, |s| Out::Str(s.to_owned()))),
        ("status", with_notes(status, &r.notes)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_interface_has_minus_one_and_nothing_else() {
        let row = interface(&InterfaceReport {
            error: Some("could not open network device p1 (No such device)".to_owned()),
            ..InterfaceReport::default()
        });
        assert_eq!(row["ofport"], Out::Int(-1));
        assert_eq!(
            row["error"],
            Out::Str("could not open network device p1 (No such device)".to_owned())
        );
        for column in [
            "admin_state",
            "link_state",
            "mac_in_use",
            "mtu",
            "ifindex",
            "link_resets",
        ] {
            assert_eq!(row[column], Out::Empty, "{column}");
        }
        assert_eq!(row["status"], Out::Map(BTreeMap::new()));
    }

    #[test]
    fn a_working_interface_reads_as_its_port() {
        let row = interface(&InterfaceReport {
            number: Some(PortNo::LOCAL),
            state: Some(PortState {
                link_up: true,
                speed_kbps: 10_000_000,
                mac: Some("92:be:52:cc:21:4a".parse().unwrap()),
                mtu: Some(1500),
                ..PortState::default()
            }),
            notes: vec!["a".to_owned(), "b".to_owned()],
            ..InterfaceReport::default()
        });
        assert_eq!(row["ofport"], Out::Int(65534));
        assert_eq!(row["error"], Out::Empty);
        assert_eq!(row["link_state"], Out::Str("up".to_owned()));
        assert_eq!(row["admin_state"], Out::Str("down".to_owned()));
        assert_eq!(row["link_speed"], Out::Int(10_000_000_000));
        assert_eq!(row["duplex"], Out::Str("full".to_owned()));
        assert_eq!(row["mac_in_use"], Out::Str("92:be:52:cc:21:4a".to_owned()));
        assert_eq!(
            row["status"],
            Out::Map([(NOTES_KEY.to_owned(), "a; b".to_owned())].into())
        );
    }

    #[test]
    fn counters_that_are_not_kept_are_left_out() {
        let c = BTreeMap::from([
            ("rx_packets".to_owned(), 3),
            ("rx_errors".to_owned(), u64::MAX),
        ]);
        assert_eq!(
            statistics(&c),
            Out::Counters([("rx_packets".to_owned(), 3)].into())
        );
    }

    #[test]
    fn controller_status_uses_the_names_that_scripts_read() {
        let row = controller(&ControllerReport {
            connected: true,
            role: Some("other"),
            state: Some("ACTIVE"),
            since_connect: Some(Duration::from_millis(12_900)),
            ..ControllerReport::default()
        });
        let Out::Map(status) = &row["status"] else {
            panic!()
        };
        assert_eq!(status["state"], "ACTIVE");
        assert_eq!(status["sec_since_connect"], "12");
        assert_eq!(row["is_connected"], Out::Bool(true));
    }
}
