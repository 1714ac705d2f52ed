//! `ovsdb-client transact`, `query` and `dump`.

use anyhow::{Context, Result, bail};
use ovsdb::{AtomType, Datum, TableSchema, Type};
use serde_json::{Value, json};

use super::{Tool, sorted_columns};
use crate::table::{Cell, Printer, Table};

/// A transaction as typed: the database's name and the operations, the `params` of RFC 7047 4.1.3.
#[derive(Debug, Clone)]
pub struct Params(Vec<Value>);

impl Params {
    /// Takes what was typed.
    ///
    /// # Errors
    /// Not an array that begins with a name.
    pub fn new(json: Value) -> Result<Params> {
        match json {
            Value::Array(list) if list.first().is_some_and(Value::is_string) => Ok(Params(list)),
            _ => bail!("not a valid OVSDB query"),
        }
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.0[0].as_str().unwrap_or_default()
    }
}

impl Tool {
    /// Runs a transaction and prints the results.
    pub(super) async fn transact(&self, params: Params) -> Result<()> {
        let results = self.request("transact", Value::Array(params.0)).await?;
        self.print_json(&results);
        Ok(())
    }

    /// The same with an operation at the end that undoes the others.
    pub(super) async fn query(&self, Params(mut params): Params) -> Result<()> {
        let operations = params.len() - 1;
        params.push(json!({"op": "abort"}));
        let mut results = self.request("transact", Value::Array(params)).await?;
        if let Some(list) = results.as_array_mut()
            && list.len() == operations + 1
            && list[operations]["error"] == "aborted"
        {
            list.pop();
        }
        self.print_json(&results);
        Ok(())
    }

    /// Fetches tables, each with its columns, in one transaction.
    pub(super) async fn fetch(
        &self,
        tables: &[(&TableSchema, Vec<(String, Type)>)],
    ) -> Result<Vec<Vec<Vec<Datum>>>> {
        let ops = tables
            .iter()
            .map(|(t, columns)| {
                let names: Vec<_> = columns.iter().map(|c| &c.0).collect();
                json!({"op": "select", "table": t.name, "where": [], "columns": names})
            })
            .collect();
        let results = self.client.transact(&self.db, ops).await?;
        let mut out = Vec::new();
        for ((t, columns), result) in tables.iter().zip(results) {
            if let Some(e) = result.error {
                bail!(
                    "{} table reply is not an object with a \"rows\" member array: {}",
                    t.name,
                    crate::table::json_text(&e.to_json())
                );
            }
            let mut rows = Vec::new();
            for row in result.rows.unwrap_or_default() {
                let cells = columns
                    .iter()
                    .map(|(name, ty)| {
                        let json = row.get(name).with_context(|| {
                            format!("row of table {} without column {name}", t.name)
                        })?;
                        Ok(Datum::from_json(ty, json)?)
                    })
                    .collect::<Result<Vec<_>>>()?;
                rows.push(cells);
            }
            // By their contents, as far as those are not the names of rows, which are random.
            let plain: Vec<usize> = (0..columns.len())
                .filter(|x| columns[*x].1.key.atom != AtomType::Uuid)
                .collect();
            let contents = |row: &Vec<Datum>| -> Vec<Datum> {
                plain.iter().map(|x| row[*x].clone()).collect()
            };
            rows.sort_by_cached_key(|row| (contents(row), row.clone()));
            out.push(rows);
        }
        Ok(out)
    }

    /// Prints all tables, or one, or some of its columns.
    pub(super) async fn dump(&self) -> Result<()> {
        let schema = self.schema().await?;
        let mut tables = Vec::new();
        if let Some((name, columns)) = self.args.split_first() {
            let t = schema
                .table(name)
                .with_context(|| format!("No table \"{name}\" found."))?;
            tables.push((&**t, chosen(t, columns)?));
        } else {
            for t in schema.tables.values() {
                tables.push((&**t, sorted_columns(t, true)));
            }
        }
        let contents = self.fetch(&tables).await?;
        let mut printer = Printer::new(self.style.clone());
        for ((t, columns), rows) in tables.iter().zip(contents) {
            printer.print(&Table {
                caption: Some(format!("{} table", t.name)),
                headings: columns.iter().map(|c| c.0.clone()).collect(),
                rows: rows
                    .into_iter()
                    .map(|r| {
                        r.into_iter()
                            .zip(columns)
                            .map(|(d, c)| Cell::Datum(d, c.1.clone().into()))
                            .collect()
                    })
                    .collect(),
                ..Table::default()
            })?;
        }
        Ok(())
    }
}

/// The columns of these names, sorted by them; all if there are none. `_version` is never shown.
fn chosen(t: &TableSchema, names: &[String]) -> Result<Vec<(String, Type)>> {
    let all = sorted_columns(t, true);
    if names.is_empty() {
        return Ok(all);
    }
    let mut list = Vec::new();
    for name in names.iter().filter(|n| *n != "_version") {
        let Some(column) = all.iter().find(|c| c.0 == *name) else {
            bail!("Table \"{}\" has no column {name}.", t.name);
        };
        list.push(column.clone());
    }
    list.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(list)
}
