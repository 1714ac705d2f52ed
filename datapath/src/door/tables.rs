//! How tables are set up by controllers, and what they are.

use super::{Datapath, no_bridge};
use crate::config::BridgeId;
use crate::table::{Limits, RULES_MAX, features};
use openflow::error::ErrorKind;
use openflow::{OfError, TABLE_ALL, TableConfig, TableFeatures, TableStats};

/// `OFPTMPEF_*`: eviction looks at other things, importance and lifetime.
const EVICTION_FLAGS: u32 = 1 | 2 | 4;

impl Datapath {
    /// Every table's counters.
    pub fn table_stats(&self, bridge: BridgeId) -> Vec<TableStats> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        self.flush();
        let state = b.state.load();
        (0..state.config.max_tables)
            .map(|n| {
                let t = state.tables.get(n);
                let (matched, missed) = t.map_or((0, 0), |t| {
                    (t.counters.matched.get().0, t.counters.missed.get().0)
                });
                TableStats {
                    table: n,
                    name: state.tables.settings().name(n),
                    active: t.map_or(0, |t| t.classifier.len() as u32),
                    lookups: matched + missed,
                    matched,
                    legacy: None,
                }
            })
            .collect()
    }

    /// What every table can do (OpenFlow 1.3.5 7.3.5.5).
    pub fn table_features(&self, bridge: BridgeId) -> Vec<TableFeatures> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        let state = b.state.load();
        let limits = Limits {
            tables: state.config.max_tables,
        };
        features::of(state.tables.settings(), &limits)
    }

    /// Gives tables other names, or less room. All else must be what [`Datapath::table_features`] says.
    ///
    /// # Errors
    /// `OFPTFFC_*`; then nothing was changed.
    pub fn set_table_features(
        &self,
        bridge: BridgeId,
        asked: &[TableFeatures],
    ) -> Result<(), OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::TableFeaturesBadTable, bridge))?;
        features::allowed(asked, &self.table_features(bridge))?;
        let now = self.now();
        self.update_telling(&b, now, |s, effects| {
            for f in asked {
                let change = |a: &mut crate::table::Asked| {
                    a.name = Some(f.name.clone());
                    // Zero says nothing; what there is anyway is no limit.
                    a.max_entries =
                        Some(f.max_entries).filter(|n| *n != 0 && (*n as usize) < RULES_MAX);
                };
                s.tables.ask(f.table, change, now, effects);
            }
            Ok(())
        })
    }

    /// How every table is set up (OpenFlow 1.4.1 7.3.5.16).
    pub fn table_desc(&self, bridge: BridgeId) -> Vec<TableConfig> {
        let Some(b) = self.bridge(bridge) else {
            return Vec::new();
        };
        let state = b.state.load();
        let settings = state.tables.settings();
        (0..state.config.max_tables)
            .map(|n| TableConfig {
                table: n,
                miss: settings.miss(n),
                eviction: Some(settings.evicts(n)),
                eviction_flags: Some(EVICTION_FLAGS),
                vacancy: Some(None),
                vacancy_now: 0,
            })
            .collect()
    }

    /// Sets up a table, or all (OpenFlow 1.3.5 7.3.3, 1.4.1 7.3.4.2): what happens without a matching rule, and whether a
    /// full table evicts.
    ///
    /// # Errors
    /// `OFPTMFC_BAD_TABLE`; `OFPTMFC_BAD_CONFIG` for vacancy events, and for eviction by anything but what
    /// [`Datapath::table_desc`] says.
    pub fn table_mod(&self, bridge: BridgeId, config: &TableConfig) -> Result<(), OfError> {
        let b = self
            .bridge(bridge)
            .ok_or_else(|| no_bridge(ErrorKind::TableModBadTable, bridge))?;
        let max = b.state.load().config.max_tables;
        if config.table != TABLE_ALL && config.table >= max {
            return Err(OfError::new(
                ErrorKind::TableModBadTable,
                format!("table {}: there are tables 0 to {}", config.table, max - 1),
            ));
        }
        if let Some(Some(_)) = config.vacancy {
            return Err(OfError::new(
                ErrorKind::TableModBadConfig,
                "vacancy events are not supported",
            ));
        }
        if let Some(flags) = config.eviction_flags
            && flags & !EVICTION_FLAGS != 0
        {
            return Err(OfError::new(
                ErrorKind::TableModBadConfig,
                format!("eviction flags {flags:#x}: importance and lifetime are what counts"),
            ));
        }
        let tables = match config.table {
            TABLE_ALL => 0..max,
            n => n..n + 1,
        };
        let now = self.now();
        self.update_telling(&b, now, |s, effects| {
            for n in tables {
                let change = |a: &mut crate::table::Asked| {
                    a.miss = config.miss.or(a.miss);
                    a.eviction = config.eviction.unwrap_or(a.eviction);
                };
                s.tables.ask(n, change, now, effects);
            }
            Ok(())
        })
    }
}
