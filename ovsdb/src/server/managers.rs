//! Remotes that a database names (`db:DATABASE,TABLE,COLUMN`, ovsdb-server(1)), such as the rows of
//! `Manager`: they are served as the rows say, and what comes of it is written into `is_connected`
//! and `status`. Keys and certificates may come from a database likewise.
//!
//! One task looks again whenever the database or a connection has changed, but not more often than
//! each [`PAUSE`], so that a storm of either costs little.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;

use super::remotes::{Origin, RemoteOptions, Standing};
use super::{ServerHandle, lock};
use crate::engine::{Engine, LockNames};
use crate::probe;
use crate::target::Target;
use crate::tls::TlsOptions;
use crate::transaction::Transaction;
use crate::value::{Datum, Uuid};

/// Least time between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How often seconds and locks in `status` are brought up to date while a peer is called.
const REFRESH: Duration = Duration::from_secs(5);
/// Shortest `max_backoff`.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// A remote that a column names.
struct Named {
    /// As the column has it.
    text: String,
    /// Its row, where it has one of its own: database, table and row.
    row: Option<(String, String, Uuid)>,
    /// Column `inactivity_probe`, in milliseconds.
    probe: Option<i64>,
    /// Column `max_backoff`, in milliseconds.
    backoff: Option<i64>,
    /// `dscp` in column `other_config`.
    dscp: Option<u8>,
}

impl Named {
    fn options(&self, target: &Target) -> RemoteOptions {
        let mut options = RemoteOptions::of(target);
        let ms = |n: i64| Duration::from_millis(n.max(0).unsigned_abs());
        if let Some(n) = self.probe {
            options.probe = (n > 0).then(|| ms(n).max(probe::MIN_INTERVAL));
        }
        if let Some(n) = self.backoff {
            options.max_backoff = ms(n).max(MIN_BACKOFF);
        }
        if let Some(n) = self.dscp {
            options.dscp = n;
        }
        options
    }
}

/// Why a `db:` remote can name nothing, in Open vSwitch's words.
pub(super) fn check(engine: &Engine, target: &Target) -> Result<(), String> {
    let Target::Database { db, table, column } = target else {
        return Ok(());
    };
    let Some(database) = engine.database(db) else {
        return Err(format!("\"{target}\": no database named {db}"));
    };
    let Some(schema) = database.schema().table(table) else {
        return Err(format!("\"{target}\": no table named {table}"));
    };
    if schema.column(column).is_none() {
        return Err(format!(
            "\"{target}\": table \"{table}\" has no column \"{column}\""
        ));
    }
    Ok(())
}

/// The remotes that the column of a `db:` target names.
fn named(engine: &Engine, target: &Target) -> Vec<Named> {
    let Target::Database { db, table, column } = target else {
        return Vec::new();
    };
    let Some((database, schema)) = engine
        .database(db)
        .and_then(|d| Some((d, d.schema().table(table)?.column(column)?)))
    else {
        return Vec::new();
    };
    let cells = database
        .rows(table)
        .filter_map(|r| database.cell(table, r, column));
    let Some(to) = &schema.ty.key.ref_table else {
        return cells
            .flat_map(Datum::strs)
            .map(|text| Named {
                text: text.to_owned(),
                row: None,
                probe: None,
                backoff: None,
                dscp: None,
            })
            .collect();
    };
    let ids: Vec<_> = cells.flat_map(Datum::uuids).collect();
    database
        .rows(to)
        .filter(|r| ids.contains(&r.uuid))
        .filter_map(|r| {
            let cell = |column| database.cell(to, r, column);
            Some(Named {
                text: cell("target")?.as_scalar_str()?.to_owned(),
                row: Some((db.clone(), to.to_string(), r.uuid)),
                probe: cell("inactivity_probe").and_then(Datum::as_scalar_int),
                backoff: cell("max_backoff").and_then(Datum::as_scalar_int),
                // What is no DSCP is as if it were not there, as in Open vSwitch.
                dscp: cell("other_config")
                    .and_then(|d| d.map_get_str("dscp"))
                    .and_then(|s| s.parse().ok())
                    .filter(|n| *n < 64),
            })
        })
        .collect()
}

/// The options with every `db:` text replaced by what the first row has there.
fn resolved(engine: &Engine, options: &TlsOptions) -> TlsOptions {
    options.map(|text| match text.parse() {
        Ok(Target::Database { db, table, column }) => {
            let database = engine.database(&db)?;
            database
                .rows(&table)
                .find_map(|r| database.cell(&table, r, &column)?.as_scalar_str())
                .filter(|found| !found.is_empty())
                .map(str::to_owned)
        }
        _ => Some(text.to_owned()),
    })
}

/// The pairs of column `status` (ovs-vswitchd.conf.db(5), table Manager).
fn status(standing: &Standing, passive: bool, locks: &LockNames) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    let mut put = |name, value: String| pairs.push((name, value));
    let count = standing.clients.len();
    if standing.listening {
        // No single connection to speak of; Open vSwitch says the same.
        put("sec_since_connect", "0".into());
        put("sec_since_disconnect", "0".into());
        if let Some(address) = standing.local {
            put("bound_port", address.port().to_string());
        }
        if count > 1 {
            put("n_connections", count.to_string());
        }
        return pairs;
    }
    let state = match (count, standing.calling) {
        (1.., _) => "ACTIVE",
        (0, true) => "CONNECTING",
        (0, false) => "BACKOFF",
    };
    put("state", state.into());
    if !passive {
        if let Some(at) = standing.connected {
            put("sec_since_connect", at.elapsed().as_secs().to_string());
        }
        if let Some(at) = standing.disconnected {
            put("sec_since_disconnect", at.elapsed().as_secs().to_string());
        }
    }
    if let Some(e) = &standing.error {
        put("last_error", e.clone());
    }
    for (name, locks) in [
        ("locks_held", &locks.held),
        ("locks_waiting", &locks.waiting),
        ("locks_lost", &locks.lost),
    ] {
        if !locks.is_empty() {
            put(name, locks.join(" "));
        }
    }
    pairs
}

/// What is to be written into a row.
struct Report {
    row: (String, String, Uuid),
    passive: bool,
    standing: Standing,
}

fn write(engine: &mut Engine, reports: &[Report]) {
    let mut by_db: HashMap<&str, Transaction> = HashMap::new();
    for r in reports {
        let (name, table, uuid) = &r.row;
        let Some((db, row)) = engine
            .database(name)
            .and_then(|db| Some((db, db.rows(table).find(|row| row.uuid == *uuid)?)))
        else {
            continue;
        };
        let locks = match r.standing.clients.first() {
            Some(client) if !r.passive => engine.lock_names(*client),
            _ => LockNames::default(),
        };
        let mut cells = Vec::new();
        for (column, new) in [
            (
                "is_connected",
                Datum::scalar(!r.standing.clients.is_empty()),
            ),
            ("status", Datum::map(status(&r.standing, r.passive, &locks))),
        ] {
            if db.cell(table, row, column).is_some_and(|old| *old != new) {
                cells.push((column, new));
            }
        }
        if !cells.is_empty() {
            by_db.entry(name).or_default().update(table, *uuid, cells);
        }
    }
    for (name, t) in by_db {
        if let Err(e) = engine.run_internal(name, t) {
            tracing::warn!("telling how remotes fare: {e}");
        }
    }
}

/// Follows what databases say about remotes and keys, for as long as the server lives.
pub(super) async fn follow(
    handle: ServerHandle,
    tls: TlsOptions,
    mut committed: watch::Receiver<u64>,
) {
    let events = handle.shared.events.clone();
    let mut tls_in_db = false;
    _ = tls.map(|text| {
        tls_in_db |= text.starts_with("db:");
        None
    });
    let mut had_columns = None;
    // Errors that the log has been told.
    let mut told: HashMap<String, String> = HashMap::new();
    loop {
        let columns: Vec<Target> = lock(&handle.shared.columns).iter().cloned().collect();
        let mut refresh = false;
        let has_columns = !columns.is_empty();
        // The keys must be set once, and what the last column named be removed once.
        if tls_in_db || has_columns || had_columns != Some(has_columns) {
            had_columns = Some(has_columns);
            committed.borrow_and_update();
            let keys = tls.clone();
            let looked = handle.with_engine(move |e| {
                let wanted: Vec<Named> = columns.iter().flat_map(|c| named(e, c)).collect();
                (wanted, resolved(e, &keys))
            });
            let Ok((wanted, keys)) = looked.await else {
                return;
            };
            if let Err(e) = handle.shared.tls.set(keys) {
                tracing::error!("{e}");
            }
            let reports = serve(&handle, wanted, &mut told).await;
            refresh = reports.iter().any(|r| !r.passive);
            if handle
                .with_engine(move |e| write(e, &reports))
                .await
                .is_err()
            {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            r = committed.changed() => if r.is_err() { return },
            () = events.notified() => {}
            () = tokio::time::sleep(REFRESH), if refresh => {}
        }
    }
}

/// Serves the wanted remotes and no others of their origin, and says how they fare.
async fn serve(
    handle: &ServerHandle,
    wanted: Vec<Named>,
    told: &mut HashMap<String, String>,
) -> Vec<Report> {
    let mut targets = Vec::new();
    // What is wrong with those that cannot be served, by their text.
    let mut errors = HashMap::new();
    for named in &wanted {
        match named.text.parse::<Target>() {
            Ok(Target::Database { .. }) => {
                let why = "a column may not name another column".to_owned();
                errors.insert(named.text.clone(), why);
            }
            Ok(t) => targets.push((named, t)),
            Err(e) => _ = errors.insert(named.text.clone(), e.to_string()),
        }
    }
    for (text, e) in &errors {
        if told.insert(text.clone(), e.clone()).as_ref() != Some(e) {
            tracing::warn!("{text}: remote in the database cannot be served: {e}");
        }
    }
    told.retain(|text, _| errors.contains_key(text));
    handle
        .keep_named(|name| targets.iter().any(|(_, t)| t.to_string() == name))
        .await;
    let mut standings = HashMap::new();
    for (named, t) in targets {
        let options = named.options(&t);
        // It is tried again where it fails, and its standing tells why.
        _ = handle.add(&t, options, Origin::Column).await;
        if let Some(state) = handle.state(&t) {
            standings.insert(named.text.clone(), (t.is_passive(), state.standing()));
        }
    }
    wanted
        .into_iter()
        .filter_map(|named| {
            let (passive, standing) = match standings.get(&named.text) {
                Some((passive, standing)) => (*passive, standing.clone()),
                None => {
                    let error = errors.get(&named.text).cloned();
                    let standing = Standing {
                        error,
                        ..Standing::default()
                    };
                    (true, standing)
                }
            };
            Some(Report {
                row: named.row?,
                passive,
                standing,
            })
        })
        .collect()
}
