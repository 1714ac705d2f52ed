//! The database server beside Open vSwitch's, over a Unix socket.
//!
//! In each round each server starts with a database of its own, is measured, and ends. The client is one thread that sends bytes made
//! beforehand and counts answers ([`client`]). What is compared is alike: ovsdb-server syncs its file only for transactions that ask for it
//! (`commit` with `durable`), so the rates of those that do not ask are taken of weir with `--lazy-sync`, which does the same. All
//! other figures are taken of weir as it is by default, where every answer waits for the disk.

mod client;
mod clients;
mod rates;
mod rows;
mod server;

use super::{Run, Scenario};
use crate::metric::{Table, Want};
use crate::peers::Peer;
use anyhow::Result;

/// Rates of small transactions, a hundred thousand rows, a thousand clients.
pub fn scenarios() -> Vec<Scenario> {
    let mut list = rates::scenarios();
    list.extend(rows::scenarios());
    list.extend(clients::scenarios());
    list
}

/// Lets each database server take its turn in each round; one that fails is left out of the scenario.
fn alternate(
    run: &mut Run,
    name: &str,
    mut sample: impl FnMut(Peer, &mut Table) -> Result<()>,
) -> Result<()> {
    let mut servers: Vec<Peer> = run
        .switches
        .iter()
        .copied()
        .filter(|p| matches!(p, Peer::Weir | Peer::OvsdbServer))
        .collect();
    for _ in 0..run.rounds {
        servers.retain(|&kind| match sample(kind, run.table) {
            Ok(()) => true,
            Err(e) => {
                run.table.failed(name, kind, &e);
                false
            }
        });
    }
    Ok(())
}

/// What weir's figure should come to beside ovsdb-server's.
fn beside(factor: f64) -> Want {
    Want::Ratio(Peer::OvsdbServer, factor)
}
