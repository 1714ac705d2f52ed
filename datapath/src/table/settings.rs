//! How tables are set up: by the database (`Flow_Table`), and by controllers (table-mods and table features).

use crate::config::TableSpec;
use openflow::TableMiss;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Both, for all tables of a bridge; tables that are as they come are in neither. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    database: Arc<BTreeMap<u8, TableSpec>>,
    controllers: Arc<BTreeMap<u8, Asked>>,
}

/// What controllers asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A name.
    pub name: Option<String>,
    /// Room for no more flows.
    pub max_entries: Option<u32>,
    /// That a full table evicts.
    pub eviction: bool,
    /// What happens to packets that no rule matches.
    pub miss: Option<TableMiss>,
}

impl Settings {
    /// Sets what the database says; whether it is anything new.
    pub(super) fn set_database(&mut self, tables: &BTreeMap<u8, TableSpec>) -> bool {
        let new = *self.database != *tables;
        if new {
            self.database = Arc::new(tables.clone());
        }
        new
    }

    /// Changes what controllers ask of a table.
    pub(super) fn ask(&mut self, table: u8, change: impl FnOnce(&mut Asked)) {
        change(
            Arc::make_mut(&mut self.controllers)
                .entry(table)
                .or_default(),
        );
    }

    /// What controllers ask of a table.
    pub fn asked(&self, table: u8) -> Asked {
        self.controllers.get(&table).cloned().unwrap_or_default()
    }

    /// Tables that the database speaks of.
    pub(super) fn tables(&self) -> impl Iterator<Item = u8> {
        self.database.keys().copied()
    }

    /// What the database says of a table.
    pub(super) fn spec(&self, table: u8) -> Option<&TableSpec> {
        self.database.get(&table)
    }

    /// Its name, empty for none.
    pub fn name(&self, table: u8) -> String {
        let own = || Some(self.database.get(&table)?.name.clone());
        let asked = self.controllers.get(&table).and_then(|a| a.name.clone());
        asked.or_else(own).unwrap_or_default()
    }

    /// How many flows it takes, if that is limited.
    pub fn limit(&self, table: u8) -> Option<u32> {
        let asked = self.controllers.get(&table).and_then(|a| a.max_entries);
        let own = self.database.get(&table).and_then(|s| s.flow_limit);
        asked.into_iter().chain(own).min()
    }

    /// Whether it evicts when it is full.
    pub fn evicts(&self, table: u8) -> bool {
        self.database.get(&table).is_some_and(|s| s.evict)
            || self.controllers.get(&table).is_some_and(|a| a.eviction)
    }

    /// What happens to packets that no rule matches, if controllers said so.
    #[inline]
    pub fn miss(&self, table: u8) -> Option<TableMiss> {
        self.controllers.get(&table)?.miss
    }
}
