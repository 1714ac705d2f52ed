//! Transactions per second: one row each, with and without the disk, one and many in flight.

use super::client::{Client, Requests, pump, transaction};
use super::server::{Server, Sync};
use super::{alternate, beside};
use crate::metric::Table;
use crate::peers::Peer;
use crate::scenario::{Run, Scenario};
use anyhow::Result;
use std::time::Duration;

/// Of a sample.
const WINDOW: Duration = Duration::from_secs(1);
/// Transactions before the clock starts.
const WARM: usize = 500;
/// Transactions made ready for a window: more than any server does in it.
const READY: usize = 120_000;

/// How transactions come.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    about: &'static str,
    connections: usize,
    /// Unanswered on each connection.
    depth: usize,
    durable: bool,
    /// weir's rate is to be so many times ovsdb-server's.
    want: f64,
}

const LOADS: &[Load] = &[
    Load {
        name: "ovsdb/insert-1",
        about: "transactions that insert a row, one in flight, none asks for the disk",
        connections: 1,
        depth: 1,
        durable: false,
        want: 2.0,
    },
    Load {
        name: "ovsdb/insert-64",
        about: "the same, 64 in flight on one connection",
        connections: 1,
        depth: 64,
        durable: false,
        want: 2.0,
    },
    Load {
        name: "ovsdb/insert-64-clients",
        about: "the same, 64 clients with one in flight each",
        connections: 64,
        depth: 1,
        durable: false,
        want: 2.0,
    },
    Load {
        name: "ovsdb/durable-1",
        about: "transactions that insert a row and are answered when it is on disk, one in flight",
        connections: 1,
        depth: 1,
        durable: true,
        want: 2.0,
    },
    Load {
        name: "ovsdb/durable-64",
        about: "the same, 64 in flight on one connection",
        connections: 1,
        depth: 64,
        durable: true,
        want: 8.0,
    },
    Load {
        name: "ovsdb/durable-64-clients",
        about: "the same, 64 clients with one in flight each",
        connections: 64,
        depth: 1,
        durable: true,
        want: 8.0,
    },
];

pub fn scenarios() -> Vec<Scenario> {
    LOADS
        .iter()
        .map(|load| Scenario::new(load.name, load.about, |run, _| measure(run, load)))
        .collect()
}

fn measure(run: &mut Run, load: &'static Load) -> Result<()> {
    let metric = format!("{}.rate", load.name);
    run.table.want(&metric, beside(load.want));
    let count = if run.smoke { READY / 20 } else { READY };
    let requests = Requests::new(count, |i, out| {
        transaction(i, i, i + 1, load.durable, out);
    });
    alternate(run, load.name, |kind, table| {
        sample(kind, load, &requests, &metric, table)
    })
}

fn sample(
    kind: Peer,
    load: &Load,
    requests: &Requests,
    metric: &str,
    table: &mut Table,
) -> Result<()> {
    let sync = if load.durable {
        Sync::Always
    } else {
        Sync::Lazy
    };
    let server = Server::start(kind, sync, None)?;
    let mut clients = (0..load.connections)
        .map(|_| Client::connect(&server.socket()))
        .collect::<Result<Vec<_>>>()?;
    let warm = requests.first(WARM);
    let warmed = pump(&mut clients, &warm, 0, load.depth, WINDOW)?.answered;
    let done = pump(&mut clients, requests, warmed, load.depth, WINDOW)?;
    table.add(metric, "transactions/s", kind, done.rate(), None);
    Ok(())
}
