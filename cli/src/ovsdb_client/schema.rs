//! `ovsdb-client get-schema`, `list-tables`, `list-columns`, `convert`, `needs-conversion`.

use std::path::Path;

use anyhow::{Result, anyhow};
use ovsdb::{AtomType, DatabaseSchema, Type};
use serde_json::{Value, json};

use super::order::hash_order;
use super::{Tool, told};
use crate::table::{Cell, Printer, Table};

/// The members of a JSON object in the order Open vSwitch's tools go through them.
fn member_order(json: &Value) -> Vec<&str> {
    let members = json.as_object().into_iter().flatten();
    hash_order(members.map(|(name, _)| name.as_str()))
}

/// Reads a schema from a file.
///
/// # Errors
/// It cannot be read, or is no schema.
pub fn read(path: &str) -> Result<DatabaseSchema> {
    let json = crate::json::read(Path::new(path)).map_err(|e| {
        anyhow!("failed to read schema: \"{path}\" could not be read as JSON ({e})")
    })?;
    DatabaseSchema::from_json(&json).map_err(|mut e| {
        e.details = format!("failed to parse \"{path}\" as ovsdb schema: {}", e.details);
        told(&e.into())
    })
}

impl Tool {
    pub(super) async fn get_schema(&self) -> Result<()> {
        let schema = self.schema().await?;
        self.print_json(&schema.to_json());
        Ok(())
    }

    pub(super) async fn list_tables(&self) -> Result<()> {
        let json = self.client.get_schema_json(&self.db).await?;
        DatabaseSchema::from_json(&json)?;
        let table = Table {
            headings: vec!["Table".into()],
            rows: hash_order(member_order(&json["tables"]))
                .into_iter()
                .map(|t| vec![t.into()])
                .collect(),
            ..Table::default()
        };
        Ok(Printer::new(self.style.clone()).print(&table)?)
    }

    pub(super) async fn list_columns(&self) -> Result<()> {
        let json = self.client.get_schema_json(&self.db).await?;
        let schema = DatabaseSchema::from_json(&json)?;
        let asked = self.args.first();
        let mut table = Table::default();
        if asked.is_none() {
            table.headings.push("Table".into());
        }
        table.headings.extend(["Column".into(), "Type".into()]);
        for name in hash_order(member_order(&json["tables"])) {
            if asked.is_some_and(|a| a != name) {
                continue;
            }
            let t = &schema.tables[name];
            let columns = member_order(&json["tables"][name]["columns"]);
            let names = ["_uuid", "_version"].into_iter().chain(columns);
            for column in hash_order(names) {
                let ty = t
                    .column(column)
                    .map_or_else(|| Type::scalar(AtomType::Uuid), |c| c.ty.clone());
                let mut row: Vec<Cell> = vec![column.into(), Cell::Json(ty.to_json())];
                if asked.is_none() {
                    row.insert(0, name.into());
                }
                table.rows.push(row);
            }
        }
        Ok(Printer::new(self.style.clone()).print(&table)?)
    }

    /// Asks the server to change the schema to `new`.
    pub(super) async fn convert(&self, new: &DatabaseSchema) -> Result<()> {
        self.say_aware_of_changes().await?;
        let params = json!([new.name, new.to_json()]);
        self.request("convert", params).await.map(drop)
    }

    /// Prints whether the server's schema is another than `new`.
    pub(super) async fn needs_conversion(&self, new: &DatabaseSchema) -> Result<()> {
        let same = self.schema().await?.to_json() == new.to_json();
        println!("{}", if same { "no" } else { "yes" });
        Ok(())
    }
}
