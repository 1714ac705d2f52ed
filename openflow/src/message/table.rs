//! Tables: configuration, counters, features, and the Geneve options that stand for fields.

use crate::field::FieldId;

/// What OpenFlow 1.0 to 1.2 say of a table beside its counters (1.0.0 5.3.5, 1.1.0 A.3.6.3, 1.2 A.3.6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyTable {
    /// What flows may leave out: `OFPFW_*` bits, in 1.2 a bit per OXM field.
    pub wildcards: u64,
    /// How many flows it can hold.
    pub max_entries: u32,
    /// What flows can match, as `wildcards` (1.1 and 1.2, as what follows).
    pub matches: u64,
    /// Bit per instruction type.
    pub instructions: u32,
    /// Bit per action type that can be written to the action set.
    pub write_actions: u32,
    /// Bit per action type that can be applied.
    pub apply_actions: u32,
    /// What happens to packets that no rule matches.
    pub config: u32,
    /// Bit per OXM field that written actions can set (1.2, as what follows).
    pub write_setfields: u64,
    /// Bit per OXM field that applied actions can set.
    pub apply_setfields: u64,
    /// Bits of metadata that can be matched.
    pub metadata_match: u64,
    /// Bits of metadata that can be written.
    pub metadata_write: u64,
}

/// A table's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Which.
    pub table: u8,
    /// Its name, at most 31 bytes (1.0 to 1.2).
    pub name: String,
    /// Flows in it.
    pub active: u32,
    /// Lookups.
    pub lookups: u64,
    /// Those that found a rule.
    pub matched: u64,
    /// In OpenFlow 1.0 to 1.2 alone.
    pub legacy: Option<LegacyTable>,
}

/// A table's features (OpenFlow 1.3.5 7.3.5.5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFeatures {
    /// Which table.
    pub table: u8,
    /// What to do with the tables (1.5; older requests replace).
    pub command: TableFeaturesCommand,
    /// `OFPTFF_*`: 1 ingress, 2 egress, 16 first egress (1.5).
    pub features: u32,
    /// Its name.
    pub name: String,
    /// Metadata bits it can match.
    pub metadata_match: u64,
    /// Metadata bits it can write.
    pub metadata_write: u64,
    /// `OFPTC_*` bits; from 1.4 on, those that can be configured.
    pub config: u32,
    /// How many flows.
    pub max_entries: u32,
    /// What it can do.
    pub properties: Vec<TableProperty>,
}

/// `OFPTFC_*` (OpenFlow 1.5.1 7.3.5.18.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableFeaturesCommand {
    #[default]
    Replace,
    Modify,
    Enable,
    Disable,
}

/// What a table does with packets that no rule matches, before OpenFlow 1.3 had table-miss rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableMiss {
    Controller,
    Continue,
    Drop,
}

/// A table's configuration, in a change or (complete) in a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableConfig {
    /// Which, or [`super::TABLE_ALL`].
    pub table: u8,
    /// What happens to packets that no rule matches (1.1 and 1.2); `None` for no change.
    pub miss: Option<TableMiss>,
    /// Whether a full table evicts (1.4 and later).
    pub eviction: Option<bool>,
    /// `OFPTMPEF_*`: 1 other, 2 importance, 4 lifetime.
    pub eviction_flags: Option<u32>,
    /// Whether and at what free percentages it tells (down, up) (1.4 and later).
    pub vacancy: Option<Option<(u8, u8)>>,
    /// The free percentage now, in descriptions.
    pub vacancy_now: u8,
}

/// Why a table's status is told (OpenFlow 1.4.1 7.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableReason {
    VacancyDown,
    VacancyUp,
}

/// A Geneve option's place among the `tun_metadata` fields (NXT_TLV_TABLE_MOD).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlvMap {
    /// Option class.
    pub class: u16,
    /// Option type.
    pub kind: u8,
    /// Bytes: 4 to 124, a multiple of 4.
    pub len: u8,
    /// The field's number, 0 to 63.
    pub index: u16,
}

/// `NXTTMC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Nicira's names")]
pub enum TlvTableCommand {
    Add,
    Delete,
    Clear,
}

/// One property of a table's features. `miss` is about the table-miss rule alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum TableProperty {
    /// Instruction types (numbers of OpenFlow 1.3).
    Instructions {
        miss: bool,
        types: Vec<u16>,
    },
    NextTables {
        miss: bool,
        tables: Vec<u8>,
    },
    /// Action types (numbers of OpenFlow 1.3).
    WriteActions {
        miss: bool,
        types: Vec<u16>,
    },
    /// Action types (numbers of OpenFlow 1.3).
    ApplyActions {
        miss: bool,
        types: Vec<u16>,
    },
    /// Fields that can be matched; with whether any mask is allowed.
    Match(Vec<(FieldId, bool)>),
    /// Fields that may be left out of a match.
    Wildcards(Vec<FieldId>),
    WriteSetField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    ApplySetField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    /// Tables whose flows this one takes over (1.4).
    SyncFrom(Vec<u8>),
    /// Fields that copy_field can write to (1.5, as what follows).
    WriteCopyField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    ApplyCopyField {
        miss: bool,
        fields: Vec<FieldId>,
    },
    /// Packet types: namespace in the high half.
    PacketTypes(Vec<u32>),
}
