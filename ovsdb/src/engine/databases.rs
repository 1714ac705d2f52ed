//! The databases served: added, removed, converted, and described in the database `_Server`
//! (ovsdb-server(5), ovsdb-server(7) 4.1.17 to 4.1.20).

use serde_json::{Value, json};

use super::{ClientId, Engine, bad_params};
use crate::convert::convert;
use crate::database::Database;
use crate::error::OvsdbError;
use crate::history::History;
use crate::monitor::Watchers;
use crate::schema::{DatabaseSchema, server_schema};
use crate::transaction::Transaction;
use crate::value::Datum;

const SERVER_DB: &str = "_Server";

/// Where commits are kept.
pub trait CommitLog: Send {
    /// Adds one record, a JSON text without line end.
    ///
    /// # Errors
    /// Then the record must not have been added, and the transaction fails.
    fn append(&mut self, record: &str) -> std::io::Result<()>;

    /// Replaces everything by the schema and rows of `db`, durably: it was converted. `date` is in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// Then the old records must still be there, and the conversion fails.
    fn replace(&mut self, db: &Database, date: u64) -> std::io::Result<()>;
}

pub(super) struct Served {
    pub(super) db: Database,
    pub(super) log: Option<Box<dyn CommitLog>>,
    pub(super) watchers: Watchers,
    pub(super) history: History,
    /// Counts commits that changed something.
    pub(super) commits: u64,
}

impl Served {
    fn new(db: Database, log: Option<Box<dyn CommitLog>>) -> Self {
        Self {
            history: History::new(db.last_txn),
            db,
            log,
            watchers: Watchers::default(),
            commits: 0,
        }
    }
}

fn schema_text(db: &Database) -> Datum {
    Datum::scalar(db.schema().to_json().to_string())
}

impl Engine {
    pub(super) fn add_server_database(&mut self) {
        self.serve(Database::new(server_schema().clone()), None);
    }

    fn serve(&mut self, db: Database, log: Option<Box<dyn CommitLog>>) {
        let name = db.schema().name.clone();
        let schema = schema_text(&db);
        self.dbs.insert(name.clone(), Served::new(db, log));
        let mut t = Transaction::new();
        t.insert(
            "Database",
            [
                ("name", Datum::scalar(name)),
                ("model", "standalone".into()),
                ("connected", true.into()),
                ("leader", true.into()),
                ("schema", schema),
            ],
        );
        self.describe(t);
    }

    fn describe(&mut self, t: Transaction) {
        if let Err(e) = self.run_internal(SERVER_DB, t) {
            tracing::error!(%e, "describing the databases");
        }
    }

    /// Serves a database, under its schema's name; `log` keeps its commits. Clients that may have
    /// missed it so far are disconnected. False, and nothing done, where a database of that name is
    /// served already.
    pub fn add_database(&mut self, db: Database, log: Option<Box<dyn CommitLog>>) -> bool {
        let name = db.schema().name.clone();
        if self.dbs.contains_key(&name) {
            return false;
        }
        self.serve(db, log);
        self.cut_unaware(&format!("adding {name} database"));
        true
    }

    /// Ends the service of a database and of all who use it; `false` where there is none of that
    /// name, or it is the server's own.
    pub fn remove_database(&mut self, name: &str) -> bool {
        if name == SERVER_DB || !self.dbs.contains_key(name) {
            return false;
        }
        self.leave_database(name);
        self.dbs.remove(name);
        let mut t = Transaction::new();
        t.raw(json!({"op": "delete", "table": "Database", "where": [["name", "==", name]]}));
        self.describe(t);
        self.cut_unaware(&format!("removing {name} database"));
        true
    }

    /// Cancels the monitors and waiting transactions of a database that goes or changes.
    fn leave_database(&mut self, name: &str) {
        let mut canceled: Vec<(ClientId, Value)> = Vec::new();
        for (client, state) in &mut self.clients {
            state.monitors.retain(|_, m| {
                if m.db != name {
                    return true;
                }
                if state.aware {
                    canceled.push((*client, m.id.clone()));
                }
                false
            });
        }
        for (client, id) in canceled {
            self.notify(client, "monitor_canceled", json!([id]));
        }
        let (gone, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w| w.db == name);
        self.waiting = rest;
        for w in gone {
            if let Some(state) = self.clients.get_mut(&w.client) {
                state.waiting -= 1;
            }
            self.reply(w.client, &w.id, Err(OvsdbError::new("canceled", "")));
        }
    }

    /// `convert`: puts a database under another schema, rows and all.
    pub(super) fn convert(&mut self, params: &Value) -> Result<Value, OvsdbError> {
        let (name, served) = self.named_db("convert", params)?;
        let Some([_, json]) = params.as_array().map(Vec::as_slice) else {
            return Err(bad_params(params, "array expected"));
        };
        let schema = DatabaseSchema::from_json(json)?;
        if schema.name != name {
            return Err(OvsdbError::new(
                "invalid parameters",
                format!(
                    "new schema name ({}) does not match database name ({name})",
                    schema.name
                ),
            ));
        }
        if name == SERVER_DB {
            return Err(OvsdbError::new(
                "not allowed",
                format!("the schema of the reserved database {name} cannot be changed"),
            ));
        }
        let new = convert(&served.db, schema)?;
        let date = self.date;
        let Some(served) = self.dbs.get_mut(&name) else {
            return Err(OvsdbError::new("unknown database", name));
        };
        if let Some(log) = &mut served.log {
            log.replace(&new, date).map_err(|e| {
                OvsdbError::new(
                    "I/O error",
                    format!("writing the database file failed: {e}"),
                )
            })?;
        }
        let schema = schema_text(&new);
        let log = served.log.take();
        *served = Served::new(new, log);
        self.leave_database(&name);
        self.commits += 1;
        let mut t = Transaction::new();
        t.raw(json!({
            "op": "update", "table": "Database", "where": [["name", "==", name]],
            "row": {"schema": schema.to_json()},
        }));
        self.describe(t);
        Ok(json!({}))
    }
}
