//! `show-log`: what each record of a file did.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ovsdb::journal;
use ovsdb::text::datum_text;
use ovsdb::{DatabaseSchema, Datum, Type};
use serde_json::Value;

use super::file::bytes;
use crate::ovsdb_client::order::hash_order;
use crate::table::{json_text, plain_time};

/// Prints the records of `path`: with `more`, the rows that each changed, and with more than
/// that, the columns.
pub(super) fn run(path: &Path, more: u32) -> Result<ExitCode> {
    let bytes = bytes(path)?;
    let (schema, mut records) = journal::schema(path, &bytes)?;
    println!(
        "record 0: \"{}\" schema, version=\"{}\", cksum=\"{}\"\n",
        schema.name, schema.version, schema.cksum
    );
    let mut rows = Rows {
        schema: &schema,
        names: HashMap::new(),
    };
    for number in 1.. {
        let next = records
            .next_record()
            .map_err(|e| anyhow!("{}: {}: {e}", e.name(), path.display()))?;
        let Some(record) = next else {
            break;
        };
        print!("record {number}:");
        if let Some(date) = record.get("_date").and_then(Value::as_i64) {
            // Old files have seconds.
            let old = date < i64::from(i32::MAX);
            let ms = if old { date * 1000 } else { date };
            print!(" {}", plain_time(Duration::from_millis(ms.max(0) as u64)));
        }
        if let Some(c) = record.get("_comment").and_then(Value::as_str) {
            print!(" \"{c}\"");
        }
        if more > 0 {
            rows.show(&record, more > 1);
        }
        println!();
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of the rows so far.
struct Rows<'a> {
    schema: &'a DatabaseSchema,
    /// What each row is called: its `name` in JSON, or the beginning of its UUID.
    names: HashMap<String, String>,
}

impl Rows<'_> {
    fn show(&mut self, record: &Value, columns: bool) {
        let Some(map) = record.as_object() else {
            return;
        };
        let is_diff = map.get("_is_diff") == Some(&Value::Bool(true));
        let mut first = true;
        for table in hash_order(map.keys().map(String::as_str)) {
            let Some(rows) = map[table].as_object().filter(|_| !table.starts_with('_')) else {
                continue;
            };
            if std::mem::take(&mut first) {
                println!();
            }
            for uuid in hash_order(rows.keys().map(String::as_str)) {
                self.row(table, uuid, &rows[uuid], is_diff, columns);
            }
        }
    }

    fn row(&mut self, table: &str, uuid: &str, row: &Value, is_diff: bool, columns: bool) {
        let short = uuid.get(..8).unwrap_or(uuid);
        let new_name = row.get("name").map(json_text);
        match (self.names.get(uuid), &new_name) {
            (None, Some(n)) => println!("  table {table} insert row {n} ({short}):"),
            (None, None) => println!("  table {table} insert row {short}:"),
            (Some(old), _) => {
                let diff = if is_diff { " diff" } else { "" };
                println!("  table {table} row {old} ({short}){diff}:");
            }
        }
        if row.is_null() {
            println!("    delete row");
            self.names.remove(uuid);
        }
        let Some(cells) = row.as_object() else {
            return;
        };
        if columns {
            for column in hash_order(cells.keys().map(String::as_str)) {
                println!("    {column}={}", self.value(table, column, &cells[column]));
            }
        }
        if let Some(name) = new_name {
            self.names.insert(uuid.into(), name);
        } else if !self.names.contains_key(uuid) {
            self.names.insert(uuid.into(), short.into());
        }
    }

    fn value(&self, table: &str, column: &str, json: &Value) -> String {
        let column = self.schema.table(table).and_then(|t| t.column(column));
        let text = column.and_then(|c| {
            // A difference may have fewer members than a value.
            let ty = Type {
                min: 0,
                ..c.ty.clone()
            };
            Some(datum_text(&Datum::from_json(&ty, json).ok()?, &ty))
        });
        text.unwrap_or_else(|| json_text(json))
    }
}
