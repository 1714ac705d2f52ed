//! What tables can do, told in numbers of OpenFlow 1.3.

use crate::agent::TABLES;
use openflow::{FieldId, TableFeatures, TableProperty};

/// Flows that a table is said to take.
const MAX_ENTRIES: u32 = 1_000_000;

/// What a table can do.
pub fn table_features(table: u8) -> TableFeatures {
    // Output, pop and push of VLAN tags, decrement TTL, set field.
    let actions = || vec![0, 17, 18, 24, 25];
    // Write metadata, write, apply and clear actions, and in all but the last table goto.
    let mut instructions = vec![2, 3, 4, 5];
    let last = table + 1 == TABLES;
    if !last {
        instructions.insert(0, 1);
    }
    let fields: Vec<FieldId> = openflow::field::FIELDS
        .iter()
        .filter(|f| f.oxm.is_some() && f.since <= 4)
        .map(|f| f.id)
        .collect();
    TableFeatures {
        table,
        name: if table == 0 {
            "classifier".to_owned()
        } else {
            format!("table{table}")
        },
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        config: 0,
        max_entries: MAX_ENTRIES,
        properties: vec![
            TableProperty::Instructions {
                miss: false,
                types: instructions,
            },
            TableProperty::NextTables {
                miss: false,
                tables: (table + 1..TABLES).collect(),
            },
            TableProperty::WriteActions {
                miss: false,
                types: actions(),
            },
            TableProperty::ApplyActions {
                miss: false,
                types: actions(),
            },
            TableProperty::Match(fields.iter().map(|f| (*f, true)).collect()),
            TableProperty::Wildcards(fields.clone()),
            TableProperty::WriteSetField {
                miss: false,
                fields: fields.clone(),
            },
            TableProperty::ApplySetField {
                miss: false,
                fields,
            },
        ],
        ..TableFeatures::default()
    }
}
