//! `query` and `transact`: one transaction on a file that no server serves.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use ovsdb::engine::{CommitLog, Engine, Output};
use ovsdb::journal::{self, Journal};
use ovsdb::{Database, OvsdbError};
use serde_json::{Value, json};
use switchd::log::since_epoch;

use crate::table::json_text;

/// The journal of a single transaction.
struct Log(Journal);

impl CommitLog for Log {
    fn append(&mut self, record: &str) -> std::io::Result<()> {
        self.0.append(record)?;
        self.0.sync()
    }

    fn replace(&mut self, db: &Database, date: u64) -> std::io::Result<()> {
        let comment = "converted by ovsdb-tool";
        self.0
            .replace(db, date, comment)
            .map_err(std::io::Error::other)
    }
}

/// Runs the transaction `text` on the database file `path` and prints the answer. Only with
/// `write` does it change the file.
pub(super) fn run(path: &Path, text: &str, write: bool, role: Option<&str>) -> Result<ExitCode> {
    let db = journal::read(path)?;
    let mut params: Value = serde_json::from_str(text).map_err(|e| anyhow!("\"{text}\": {e}"))?;
    let name = db.schema().name.clone();
    if role.is_some() && db.schema().table("RBAC_Role").is_some() {
        bail!("--rbac-role: role-based access control, which {name} has, is not supported");
    }
    let refused = if !params.is_array() {
        Some("array expected")
    } else if params.get(0).and_then(Value::as_str) != Some(&name) {
        Some("database name expected as first parameter")
    } else {
        None
    };
    if let Some(why) = refused {
        println!("{}", json_text(&OvsdbError::syntax(&params, why).to_json()));
        return Ok(ExitCode::SUCCESS);
    }
    let patient = never_wait(&mut params);
    let mut engine = Engine::new();
    engine.set_date(since_epoch().as_millis() as u64);
    if write {
        let (journal, db) = Journal::open(path, None)?;
        engine.add_database(db, Some(Box::new(Log(journal))));
    } else {
        engine.add_database(db, None);
    }
    engine.connect(1);
    let request = json!({"id": 0, "method": "transact", "params": params});
    engine.handle(1, request, Instant::now());
    match engine.take_output().into_iter().next() {
        Some(Output::Send(_, message)) => {
            let mut reply: Value = serde_json::from_str(&message.to_string())?;
            if !reply["error"].is_null() {
                bail!("transaction returned error: {}", json_text(&reply["error"]));
            }
            let mut results = reply["result"].take();
            for i in patient {
                if results[i]["error"] == "timed out" {
                    results[i] =
                        OvsdbError::new("not supported", "triggers not supported").to_json();
                }
            }
            println!("{}", json_text(&results));
            Ok(ExitCode::SUCCESS)
        }
        Some(Output::Disconnect(_, why)) => bail!(why),
        None => bail!("the transaction was not answered"),
    }
}

/// Makes all `wait` operations decide at once, as nobody else changes the file, and tells which of
/// them wanted to wait, by their position among the results.
fn never_wait(params: &mut Value) -> Vec<usize> {
    let operations = params.as_array_mut().into_iter().flatten().skip(1);
    let mut patient = Vec::new();
    for (i, op) in operations.enumerate() {
        if op.get("op").and_then(Value::as_str) == Some("wait")
            && !matches!(op.get("timeout"), Some(t) if !t.is_number() || t.as_f64() == Some(0.0))
            && let Some(map) = op.as_object_mut()
        {
            map.insert("timeout".into(), 0.into());
            patient.push(i);
        }
    }
    patient
}
