//! Waiting for the switch to have applied a change, and telling what it could not set up.

use std::time::Duration;

use ovsdb::Replica;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::context::{Stop, fatal};
use super::link::Link;
use super::syntax::Request;

/// When to tell that the switch has not answered, without `--timeout`.
const PATIENCE: Duration = Duration::from_secs(5);
/// When to give up waiting for the switch, without `--timeout`.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until the switch says, by `cur_cfg`, that it has applied configuration `next_cfg`. Should
/// the connection to the database break meanwhile, it is made anew.
pub async fn wait(link: &mut Link, next_cfg: i64, request: &Request) -> Result<(), Stop> {
    let start = Instant::now();
    if request.timeout.is_some() {
        return applied(link, next_cfg, request).await; // the alarm ends it
    }
    if let Ok(done) = timeout_at(start + PATIENCE, applied(link, next_cfg, request)).await {
        return done;
    }
    eprintln!(
        "ovs-vsctl: the change is in the database; waiting for ovs-vswitchd (or weir up) to apply it (--no-wait does not wait)"
    );
    match timeout_at(start + SWITCH_TIMEOUT, applied(link, next_cfg, request)).await {
        Ok(done) => done,
        Err(_) => fatal!(
            "the change is in the database, but ovs-vswitchd (or weir up) did not apply it within {} seconds; is it running? (--timeout=SECS waits so long, --no-wait not at all)",
            SWITCH_TIMEOUT.as_secs()
        ),
    }
}

async fn applied(link: &mut Link, next_cfg: i64, request: &Request) -> Result<(), Stop> {
    loop {
        let current = link.replica.table("Open_vSwitch").values().next();
        match current.and_then(|r| r.get("cur_cfg").as_scalar_int()) {
            Some(cur_cfg) if cur_cfg >= next_cfg => return Ok(()),
            _ => {}
        }
        if link.changed().await.is_err() {
            *link = Link::open(request, true).await?;
        }
        link.catch_up()?;
    }
}

/// Tells which of these interfaces the switch could not set up.
pub fn report_errors(replica: &Replica, interfaces: &[Uuid]) {
    let mut any = false;
    for uuid in interfaces {
        let Some(row) = replica.row("Interface", uuid) else {
            continue;
        };
        if row.get("ofport").as_scalar_int().is_some_and(|n| n != -1) {
            continue;
        }
        let name = row.str("name");
        let why = match row.get("error").as_scalar_str() {
            Some(error) => format!(": {error}"),
            None => String::new(),
        };
        eprintln!(
            "ovs-vsctl: Error detected while setting up '{name}'{why}.  See ovs-vswitchd log for details."
        );
        any = true;
    }
    if any {
        eprintln!(
            "ovs-vsctl: The default log directory is \"{}\".",
            crate::paths::log_dir().display()
        );
    }
}
