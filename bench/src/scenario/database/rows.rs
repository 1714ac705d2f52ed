//! A hundred thousand rows: loaded, told to a client, searched, kept in memory and read from a file.

use super::client::{Client, Requests, pump, transaction};
use super::server::{Server, Sync};
use super::{alternate, beside};
use crate::metric::{Want, median};
use crate::peers::{self, Peer};
use crate::scenario::{Run, Scenario};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

const ROWS: usize = 100_000;
/// Rows of a transaction that loads.
const BATCH: usize = 1000;
/// Transactions that load in flight.
const DEPTH: usize = 2;
/// Different rows searched for.
const SEARCHES: usize = 50;

const MONITOR: &str = r#"{"id":0,"method":"monitor_cond","params":["Open_vSwitch",null,{"Queue":[{"columns":["dscp","external_ids","other_config"]}]}]}"#;

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "ovsdb/rows",
        "100,000 rows: loaded 1,000 a transaction, first monitor of all, select by a map entry, memory, start from a file",
        measure,
    )]
}

fn measure(run: &mut Run, name: &str) -> Result<()> {
    let rows = if run.smoke { ROWS / 20 } else { ROWS };
    for metric in ["load", "monitor", "select", "start"] {
        run.table.want(&format!("{name}.{metric}"), beside(2.0));
    }
    for metric in ["memory-loaded", "memory-started", "memory-peak"] {
        run.table.want(
            &format!("{name}.{metric}"),
            Want::RatioAtMost(Peer::OvsdbServer, 1.0),
        );
    }
    let loads = Requests::new(rows / BATCH, |i, out| {
        transaction(i, i * BATCH, (i + 1) * BATCH, false, out);
    });
    // All servers start from the same file, written by Open vSwitch's tool.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("rows.db");
    super::server::create(&file)?;
    fill(&file, &loads, rows)?;
    alternate(run, name, |kind, table| {
        let mut add = |metric: &str, unit, value| {
            table.add(&format!("{name}.{metric}"), unit, kind, value, None);
        };
        loaded(kind, &loads, rows, &mut add)?;
        started(kind, &file, rows, &mut add)
    })
}

/// Where a figure goes: its name, unit and value.
type Add<'a> = dyn FnMut(&str, &'static str, f64) + 'a;

/// Bytes in a megabyte.
const MB: f64 = 1e6;

/// An empty server is given the rows, and is asked for them.
fn loaded(kind: Peer, loads: &Requests, rows: usize, add: &mut Add) -> Result<()> {
    let server = Server::start(kind, Sync::Lazy, None)?;
    let mut clients = [Client::connect(&server.socket())?];
    let done = pump(&mut clients, loads, 0, DEPTH, Duration::MAX)?;
    add("load", "rows/s", done.rate() * BATCH as f64);
    add("memory-loaded", "MB", server.memory()?.0 / MB);
    let [client] = &mut clients;
    let searches = Requests::new(SEARCHES, |i, out| search(i, i * (rows / SEARCHES), out));
    let mut times = vec![];
    for i in 0..SEARCHES {
        let time = client.ask_with(searches.get(i), |answer| {
            let found = occurrences(answer, b"port-");
            ensure!(found == 1, "{found} rows were found instead of one");
            Ok(())
        })?;
        times.push(time.as_secs_f64());
    }
    add("select", "searches/s", 1.0 / median(&times));
    Ok(())
}

/// A server starts from the file; a client wants to know everything.
fn started(kind: Peer, file: &Path, rows: usize, add: &mut Add) -> Result<()> {
    let server = Server::start(kind, Sync::Always, Some(file))?;
    add(
        "start",
        "rows/s",
        rows as f64 / server.started.as_secs_f64(),
    );
    add("memory-started", "MB", server.memory()?.0 / MB);
    let mut client = Client::connect(&server.socket())?;
    let mut told = 0;
    let time = client.ask_with(MONITOR.as_bytes(), |answer| {
        told = occurrences(answer, b"iface-id");
        Ok(())
    })?;
    ensure!(told == rows, "{told} rows were told of {rows}");
    add("monitor", "rows/s", rows as f64 / time.as_secs_f64());
    add("memory-peak", "MB", server.memory()?.1 / MB);
    Ok(())
}

/// Appends the request for the row whose map has an entry that no other has.
fn search(id: usize, row: usize, out: &mut String) {
    *out += &format!(
        r#"{{"id":{id},"method":"transact","params":["Open_vSwitch",{{"op":"select","table":"Queue","where":[["external_ids","includes",["map",[["iface-id","port-{row:08}"]]]]]}}]}}"#
    );
}

fn occurrences(text: &[u8], what: &[u8]) -> usize {
    text.windows(what.len()).filter(|w| *w == what).count()
}

/// Loads the rows into a file by Open vSwitch's server and compacts it by its tool.
fn fill(file: &Path, loads: &Requests, rows: usize) -> Result<()> {
    let server = Server::start(Peer::OvsdbServer, Sync::Lazy, None)?;
    let mut clients = [Client::connect(&server.socket())?];
    let done = pump(&mut clients, loads, 0, DEPTH, Duration::MAX)?;
    ensure!(
        done.answered * BATCH == rows,
        "only {} loaded",
        done.answered
    );
    std::fs::copy(server.file(), file)?;
    drop(server);
    peers::run("ovsdb-tool", &["compact", &file.to_string_lossy()], &[]).map(drop)
}
