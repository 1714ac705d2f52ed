//! `ovsdb-client backup` and `restore`: a database's contents as a database file.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use ovsdb::journal::{self, JournalError};
use ovsdb::{DatabaseSchema, Datum};
use serde_json::{Map, Value, json};
use switchd::log::since_epoch;

use super::{Tool, sorted_columns};
use crate::table::json_text;

/// Longest snapshot that is read: what is sent to the server is of about the same size, and it
/// takes no longer message.
const MAX_SNAPSHOT: u64 = 1 << 30;

impl Tool {
    /// Writes the schema and everything but ephemeral columns to standard output.
    pub(super) async fn backup(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if out.is_terminal() {
            bail!("not writing backup to a terminal; please redirect stdout to a file");
        }
        let schema = self.schema().await?;
        let tables: Vec<_> = schema
            .tables
            .values()
            .map(|t| {
                let mut columns = sorted_columns(t, true);
                columns.retain(|(n, _)| t.column(n).is_none_or(|c| !c.ephemeral));
                (&**t, columns)
            })
            .collect();
        let contents = self.fetch(&tables).await?;
        let mut record = Map::new();
        record.insert(
            "_comment".into(),
            "produced by \"ovsdb-client backup\"".into(),
        );
        record.insert("_is_diff".into(), true.into());
        record.insert("_date".into(), (since_epoch().as_millis() as u64).into());
        for ((t, columns), rows) in tables.iter().zip(contents) {
            let mut json = Map::new();
            for row in rows {
                let uuid = row[0].as_scalar_uuid().unwrap_or_default();
                let cells: Map<String, Value> = columns
                    .iter()
                    .zip(&row)
                    .skip(1)
                    .map(|((n, _), d)| (n.clone(), d.to_json()))
                    .collect();
                json.insert(uuid.to_string(), Value::Object(cells));
            }
            if !json.is_empty() {
                record.insert(t.name.clone(), Value::Object(json));
            }
        }
        for json in [schema.to_json(), Value::Object(record)] {
            out.write_all(journal::encode_record(&json.to_string()).as_bytes())?;
        }
        Ok(out.flush()?)
    }

    /// Replaces everything in the database by the snapshot on standard input, in one transaction.
    /// Rows get new names (RFC 7047 does not let a client choose them).
    pub(super) async fn restore(&self) -> Result<()> {
        let stdin = std::io::stdin().lock();
        if stdin.is_terminal() {
            bail!("not reading backup from a terminal; please redirect stdin from a file");
        }
        let mut bytes = Vec::new();
        stdin.take(MAX_SNAPSHOT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_SNAPSHOT {
            bail!("/dev/stdin: a snapshot must not be longer than {MAX_SNAPSHOT} bytes");
        }
        let backup = read_snapshot(&bytes)?;
        let (ours, theirs) = (backup.schema(), self.schema().await?);
        if ours.to_json() != theirs.to_json() {
            let why = difference(ours, &theirs);
            if !self.force {
                bail!(
                    "{why} (use --force to override differences, or \"ovsdb-client convert\" to change the schema)"
                );
            }
            tracing::info!("{why}");
        }
        let mut transaction = vec![Value::from(ours.name.as_str())];
        for t in ours.tables.values() {
            transaction.push(json!({"op": "delete", "table": t.name, "where": []}));
            for row in backup.rows(&t.name) {
                let mut cells = Map::new();
                for c in t.column_list.iter().filter(|c| !c.ephemeral) {
                    let datum = backup.cell(&t.name, row, &c.name);
                    if let Some(d) = datum.filter(|d| **d != c.ty.default_datum()) {
                        cells.insert(c.name.clone(), with_row_names(d));
                    }
                }
                let name = row_name(&row.uuid.to_string());
                transaction.push(
                    json!({"op": "insert", "table": t.name, "uuid-name": name, "row": cells}),
                );
            }
        }
        let results = self.request("transact", Value::Array(transaction)).await?;
        check_results(&results)
    }
}

/// That every operation was done.
pub(super) fn check_results(results: &Value) -> Result<()> {
    let Some(list) = results.as_array() else {
        bail!("result is not array");
    };
    for result in list {
        let Some(object) = result.as_object() else {
            bail!("result array element is not object");
        };
        if object.contains_key("error") {
            bail!("server returned error reply: {}", json_text(result));
        }
    }
    Ok(())
}

fn read_snapshot(bytes: &[u8]) -> Result<ovsdb::Database> {
    let name = Path::new("/dev/stdin");
    if bytes.is_empty() {
        bail!("ovsdb error: /dev/stdin: cannot identify file type");
    }
    if !bytes.starts_with(b"OVSDB ") {
        bail!("ovsdb error: /dev/stdin: unexpected file format");
    }
    let loaded = journal::load(name, bytes).map_err(|e| match e {
        JournalError::Format(..) => anyhow!("syntax error: {e}"),
        other => other.into(),
    })?;
    match loaded.damage {
        // Half a snapshot would delete the other half.
        Some(damage) => bail!("/dev/stdin: {damage}"),
        None => Ok(loaded.db),
    }
}

fn difference(backup: &DatabaseSchema, database: &DatabaseSchema) -> String {
    if backup.version == database.version {
        return format!(
            "backup schema and database schema are both version {} but still differ",
            backup.version
        );
    }
    format!(
        "backup schema has version \"{}\" but database schema has version \"{}\"",
        backup.version, database.version
    )
}

/// The name by which a transaction's other operations know a row.
fn row_name(uuid: &str) -> String {
    format!("row{}", uuid.replace('-', "_"))
}

/// A value in which references are to rows that the same transaction inserts.
fn with_row_names(datum: &Datum) -> Value {
    fn rename(json: &mut Value) {
        let Value::Array(list) = json else { return };
        match list.as_mut_slice() {
            [Value::String(kind), Value::String(uuid)] if kind == "uuid" => {
                *uuid = row_name(uuid);
                *kind = "named-uuid".into();
            }
            [Value::String(kind), Value::Array(parts)] if kind == "set" || kind == "map" => {
                for part in parts {
                    match part {
                        // A pair of a map.
                        Value::Array(pair) if kind == "map" => pair.iter_mut().for_each(rename),
                        atom => rename(atom),
                    }
                }
            }
            _ => {}
        }
    }
    let mut json = datum.to_json();
    rename(&mut json);
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::{Atom, Uuid};

    #[test]
    fn references_become_names_of_rows() {
        let uuid: Uuid = "12345678-0000-4000-8000-00000000000a".parse().unwrap();
        let name = json!(["named-uuid", "row12345678_0000_4000_8000_00000000000a"]);
        assert_eq!(with_row_names(&Datum::scalar(uuid)), name);
        let map = Datum::map([(Atom::from(1i64), Atom::from(uuid))]);
        assert_eq!(with_row_names(&map), json!(["map", [[1, name]]]));
        let text = Datum::map([("uuid", "x")]);
        assert_eq!(with_row_names(&text), text.to_json());
    }

    #[test]
    fn damaged_snapshots_are_refused() {
        let schema = ovsdb::vswitch_schema().to_json().to_string();
        let whole = journal::encode_record(&schema) + &journal::encode_record("{}");
        assert!(read_snapshot(whole.as_bytes()).is_ok());
        assert!(read_snapshot(&whole.as_bytes()[..whole.len() - 1]).is_err());
        assert!(read_snapshot(b"").is_err() && read_snapshot(b"hello\n").is_err());
    }
}
