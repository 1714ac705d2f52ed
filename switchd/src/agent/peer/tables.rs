//! The tables' counters and configuration.

use crate::agent::{Bridge, HIDDEN_COOKIE, HIDDEN_MASK, TABLES};
use openflow::error::ErrorKind;
use openflow::wire::{INSTRUCTION_TYPES, OF10};
use openflow::{
    FlowFilter, LegacyTable, OfError, TableConfig, TableFeatures, TableProperty, TableStats,
};

/// Flows that a table is said to take.
pub(super) const MAX_ENTRIES: u32 = 1_000_000;

/// A table's configuration, if it is a table that controllers may set up.
pub(super) fn checked(t: TableConfig) -> Result<TableConfig, OfError> {
    match t.table {
        // The one behind the last, which controllers do not get to see.
        TABLES => Err(OfError::new(
            ErrorKind::TableModEperm,
            format!("table {TABLES} is the switch's own"),
        )),
        _ => Ok(t),
    }
}

/// What tables can do, as far as a version has words for it.
pub(super) fn features(bridge: &Bridge, version: u8) -> Vec<TableFeatures> {
    let known = |kind: &u16| {
        let mut types = INSTRUCTION_TYPES.iter();
        types.any(|t| t.0 == *kind && (t.2..=t.3).contains(&version))
    };
    let mut tables = bridge.plane().table_features(bridge.name());
    for p in tables.iter_mut().flat_map(|t| &mut t.properties) {
        if let TableProperty::Instructions { types, .. } = p {
            types.retain(known);
        }
    }
    tables
}

/// Every table's counters.
pub(super) fn stats(bridge: &Bridge, version: u8) -> Vec<TableStats> {
    let mut tables: Vec<TableStats> = (0..TABLES)
        .map(|table| TableStats {
            table,
            ..TableStats::default()
        })
        .collect();
    for t in bridge.plane().table_stats(bridge.name()) {
        if let Some(slot) = tables.get_mut(usize::from(t.table)) {
            *slot = t;
        }
    }
    let hidden = FlowFilter {
        table: 0,
        cookie: HIDDEN_COOKIE,
        cookie_mask: HIDDEN_MASK,
        ..FlowFilter::default()
    };
    if bridge.has_hidden_flows() {
        let hidden = bridge.plane().aggregate_stats(bridge.name(), &hidden);
        tables[0].active = tables[0].active.saturating_sub(hidden.flows);
    }
    if version == OF10 {
        for t in &mut tables {
            t.legacy = Some(LegacyTable {
                wildcards: openflow::wire::WILD_ALL.into(),
                max_entries: MAX_ENTRIES,
                ..LegacyTable::default()
            });
        }
    }
    tables
}
