//! Tables: configuration, counters and features.

use super::{err, read_all};
use crate::error::{ErrorKind, OfError};
use crate::field::FieldId;
use crate::message::*;
use crate::wire::codes::{TABLE_FEATURES_COMMANDS, TABLE_MISSES, named, number};
use crate::wire::cursor::{Reader, Writer};
use crate::wire::{OF12, OF13, OF14, OF15, oxm, property, sized};

/// `OFPTC_EVICTION` and `OFPTC_VACANCY_EVENTS`.
const EVICTION_BIT: u32 = 1 << 2;
const VACANCY_BIT: u32 = 1 << 3;
/// `OFPTMPT_EVICTION` and `OFPTMPT_VACANCY`.
const EVICTION: u16 = 2;
const VACANCY: u16 = 3;

/// Reads `OFPT_TABLE_MOD`.
pub(super) fn read_mod(r: &mut Reader<'_>, version: u8) -> Result<TableConfig, OfError> {
    let table = r.u8()?;
    r.skip(3)?;
    let mut c = TableConfig {
        table,
        ..TableConfig::default()
    };
    read_config(r, &mut c, version, property::unknown)?;
    Ok(c)
}

pub(super) fn put_mod(w: &mut Writer, c: &TableConfig, version: u8) -> Result<(), OfError> {
    if version < OF14 && (c.eviction.is_some() || c.vacancy.is_some()) {
        return err(
            ErrorKind::TableModBadConfig,
            "tables evict and tell of vacancy from OpenFlow 1.4 on",
        );
    }
    if version > OF12 && c.miss.is_some() {
        return err(
            ErrorKind::TableModBadConfig,
            "what a table does without a matching rule can be configured in OpenFlow 1.1 and 1.2",
        );
    }
    w.u8(c.table);
    w.zeros(3);
    put_config(w, c, version)
}

/// Reads configuration bits and, from 1.4 on, properties.
fn read_config(
    r: &mut Reader<'_>,
    c: &mut TableConfig,
    version: u8,
    unknown: fn(u16, &mut Reader<'_>, &str) -> Result<(), OfError>,
) -> Result<(), OfError> {
    let bits = r.u32()?;
    if version < OF13 {
        if bits & !3 != 0 {
            return err(
                ErrorKind::TableModBadConfig,
                format!("configuration {bits:#x} has bits that are not known"),
            );
        }
        c.miss = TABLE_MISSES.get(bits as usize).copied();
        return Ok(());
    }
    if version < OF14 {
        // The bits of 1.2 are deprecated and mean nothing.
        return Ok(());
    }
    c.eviction = Some(bits & EVICTION_BIT != 0);
    let mut vacancy = None;
    property::read(r, |kind, v| {
        match kind {
            EVICTION => c.eviction_flags = Some(v.u32()?),
            VACANCY => {
                let (down, up) = (v.u8()?, v.u8()?);
                c.vacancy_now = v.u8()?;
                v.skip(1)?;
                if down > up || up > 100 {
                    return err(
                        ErrorKind::PropertyBadValue,
                        format!(
                            "vacancy between {down} and {up} percent; least first, 100 at most"
                        ),
                    );
                }
                vacancy = Some((down, up));
            }
            _ => return unknown(kind, v, "a table"),
        }
        v.end()
    })?;
    c.vacancy = Some(vacancy.filter(|_| bits & VACANCY_BIT != 0));
    if bits & VACANCY_BIT == 0 {
        c.vacancy_now = 0;
    } else if vacancy.is_none() {
        return err(
            ErrorKind::TableModBadConfig,
            "vacancy is to be told of, but the property that says when is missing",
        );
    }
    Ok(())
}

fn put_config(w: &mut Writer, c: &TableConfig, version: u8) -> Result<(), OfError> {
    if version < OF14 {
        let none = if version < OF13 { 3 } else { 0 };
        w.u32(c.miss.map_or(none, |m| number(TABLE_MISSES, &m).into()));
        return Ok(());
    }
    let vacancy = c.vacancy.flatten();
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    w.u32(bit(c.eviction == Some(true), EVICTION_BIT) | bit(vacancy.is_some(), VACANCY_BIT));
    if let Some(flags) = c.eviction_flags {
        property::put(w, EVICTION, |w| w.u32(flags))?;
    }
    if let Some((down, up)) = vacancy {
        property::put(w, VACANCY, |w| {
            w.u8(down);
            w.u8(up);
            w.u8(c.vacancy_now);
            w.u8(0);
        })?;
    }
    Ok(())
}

/// Reads an `ofp_table_desc` (1.4.1 7.3.5.16).
pub(super) fn read_desc(r: &mut Reader<'_>, version: u8) -> Result<TableConfig, OfError> {
    let mut e = sized(r, 8)?;
    let table = e.u8()?;
    e.skip(1)?;
    let mut c = TableConfig {
        table,
        ..TableConfig::default()
    };
    read_config(&mut e, &mut c, version, |_, v, _| property::pass(v))?;
    Ok(c)
}

/// Writes an `ofp_table_desc`.
pub(super) fn put_desc(w: &mut Writer, c: &TableConfig, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u8(c.table);
    w.u8(0);
    put_config(w, c, version)?;
    w.set_len(start, start)
}

/// `ofp_table_reason`.
const REASONS: [(u8, TableReason); 2] =
    [(3, TableReason::VacancyDown), (4, TableReason::VacancyUp)];

pub(super) fn read_status(
    r: &mut Reader<'_>,
    version: u8,
) -> Result<(TableReason, TableConfig), OfError> {
    let n = r.u8()?;
    r.skip(7)?;
    let Some((_, reason)) = REASONS.iter().find(|x| x.0 == n) else {
        return err(
            ErrorKind::BadReason,
            format!("{n} is no reason for a table status"),
        );
    };
    Ok((*reason, read_desc(r, version)?))
}

pub(super) fn put_status(
    w: &mut Writer,
    reason: TableReason,
    c: &TableConfig,
    version: u8,
) -> Result<(), OfError> {
    let found = REASONS.iter().find(|x| x.1 == reason);
    w.u8(found.expect("the table has all reasons").0);
    w.zeros(7);
    put_desc(w, c, version)
}

/// Reads one table's counters; 1.1 and 1.2 tell beside them what 1.3 made table features.
pub(super) fn read_stats(r: &mut Reader<'_>, version: u8) -> Result<TableStats, OfError> {
    let mut t = TableStats {
        table: r.u8()?,
        ..TableStats::default()
    };
    if version >= OF13 {
        r.skip(3)?;
    } else {
        r.skip(7)?;
        t.name = r.text(32)?;
        let mut l = LegacyTable::default();
        if version < OF12 {
            (l.wildcards, l.matches) = (r.u32()?.into(), r.u32()?.into());
            l.instructions = r.u32()?;
            (l.write_actions, l.apply_actions) = (r.u32()?, r.u32()?);
        } else {
            (l.matches, l.wildcards) = (r.u64()?, r.u64()?);
            (l.write_actions, l.apply_actions) = (r.u32()?, r.u32()?);
            (l.write_setfields, l.apply_setfields) = (r.u64()?, r.u64()?);
            (l.metadata_match, l.metadata_write) = (r.u64()?, r.u64()?);
            l.instructions = r.u32()?;
        }
        (l.config, l.max_entries) = (r.u32()?, r.u32()?);
        t.legacy = Some(l);
    }
    (t.active, t.lookups, t.matched) = (r.u32()?, r.u64()?, r.u64()?);
    Ok(t)
}

pub(super) fn put_stats(w: &mut Writer, t: &TableStats, version: u8) {
    w.u8(t.table);
    if version >= OF13 {
        w.zeros(3);
    } else {
        w.zeros(7);
        w.text(&t.name, 32);
        let l = t.legacy.unwrap_or_default();
        if version < OF12 {
            w.u32(l.wildcards as u32);
            w.u32(l.matches as u32);
            w.u32(l.instructions);
            w.u32(l.write_actions);
            w.u32(l.apply_actions);
        } else {
            w.u64(l.matches);
            w.u64(l.wildcards);
            w.u32(l.write_actions);
            w.u32(l.apply_actions);
            w.u64(l.write_setfields);
            w.u64(l.apply_setfields);
            w.u64(l.metadata_match);
            w.u64(l.metadata_write);
            w.u32(l.instructions);
        }
        w.u32(l.config);
        w.u32(l.max_entries);
    }
    w.u32(t.active);
    w.u64(t.lookups);
    w.u64(t.matched);
}

const SYNC_FROM: u16 = 16;
const PACKET_TYPES: u16 = 22;

/// Reads one table's features (1.3.5 7.3.5.5, 1.5.1 7.3.5.18).
pub(super) fn read_features(r: &mut Reader<'_>, version: u8) -> Result<TableFeatures, OfError> {
    let mut e = sized(r, 64)?;
    let mut t = TableFeatures {
        table: e.u8()?,
        ..TableFeatures::default()
    };
    if version >= OF15 {
        let what = "command of table features";
        let command = e.u8()?.into();
        t.command = named(
            TABLE_FEATURES_COMMANDS,
            command,
            ErrorKind::TableFeaturesBadCommand,
            what,
        )?;
        t.features = e.u32()?;
    } else {
        e.skip(5)?;
    }
    t.name = e.text(32)?;
    (t.metadata_match, t.metadata_write) = (e.u64()?, e.u64()?);
    (t.config, t.max_entries) = (e.u32()?, e.u32()?);
    property::read(&mut e, |kind, v| {
        let miss = kind & 1 != 0;
        let ids = |v: &mut Reader<'_>| -> Result<Vec<FieldId>, OfError> {
            Ok(oxm::read_ids(v)?.into_iter().map(|f| f.0).collect())
        };
        t.properties.push(match kind {
            0 | 1 => TableProperty::Instructions {
                miss,
                types: types(v)?,
            },
            2 | 3 => TableProperty::NextTables {
                miss,
                tables: v.all().to_vec(),
            },
            4 | 5 => TableProperty::WriteActions {
                miss,
                types: types(v)?,
            },
            6 | 7 => TableProperty::ApplyActions {
                miss,
                types: types(v)?,
            },
            8 => TableProperty::Match(oxm::read_ids(v)?),
            10 => TableProperty::Wildcards(ids(v)?),
            12 | 13 => TableProperty::WriteSetField {
                miss,
                fields: ids(v)?,
            },
            14 | 15 => TableProperty::ApplySetField {
                miss,
                fields: ids(v)?,
            },
            SYNC_FROM if version >= OF14 => TableProperty::SyncFrom(v.all().to_vec()),
            18 | 19 if version >= OF15 => TableProperty::WriteCopyField {
                miss,
                fields: ids(v)?,
            },
            20 | 21 if version >= OF15 => TableProperty::ApplyCopyField {
                miss,
                fields: ids(v)?,
            },
            PACKET_TYPES if version >= OF15 => {
                let values = oxm::read_values(v)?;
                if values.iter().any(|x| x.0 != FieldId::PacketType) {
                    return err(
                        ErrorKind::PropertyBadValue,
                        "packet types are told by other fields than packet_type",
                    );
                }
                TableProperty::PacketTypes(values.iter().map(|x| x.1 as u32).collect())
            }
            _ => return property::unknown(kind, v, "table features"),
        });
        Ok(())
    })?;
    Ok(t)
}

/// Instruction or action types: type and length each; what an experimenter adds is passed over.
fn types(p: &mut Reader<'_>) -> Result<Vec<u16>, OfError> {
    read_all(p, |p| Ok(p.tlv(4, 1)?.0))
}

/// Writes one table's features. Properties that a version does not have are left out.
pub(super) fn put_features(w: &mut Writer, t: &TableFeatures, version: u8) -> Result<(), OfError> {
    let start = w.len();
    w.u16(0);
    w.u8(t.table);
    if version >= OF15 {
        w.u8(number(TABLE_FEATURES_COMMANDS, &t.command));
        w.u32(t.features);
    } else {
        w.zeros(5);
    }
    w.text(&t.name, 32);
    w.u64(t.metadata_match);
    w.u64(t.metadata_write);
    w.u32(t.config);
    w.u32(t.max_entries);
    for p in &t.properties {
        let kind = |base: u16, miss: &bool| base + u16::from(*miss);
        let (kind, since) = match p {
            TableProperty::Instructions { miss, .. } => (kind(0, miss), OF13),
            TableProperty::NextTables { miss, .. } => (kind(2, miss), OF13),
            TableProperty::WriteActions { miss, .. } => (kind(4, miss), OF13),
            TableProperty::ApplyActions { miss, .. } => (kind(6, miss), OF13),
            TableProperty::Match(_) => (8, OF13),
            TableProperty::Wildcards(_) => (10, OF13),
            TableProperty::WriteSetField { miss, .. } => (kind(12, miss), OF13),
            TableProperty::ApplySetField { miss, .. } => (kind(14, miss), OF13),
            TableProperty::SyncFrom(_) => (SYNC_FROM, OF14),
            TableProperty::WriteCopyField { miss, .. } => (kind(18, miss), OF15),
            TableProperty::ApplyCopyField { miss, .. } => (kind(20, miss), OF15),
            TableProperty::PacketTypes(_) => (PACKET_TYPES, OF15),
        };
        if version < since {
            continue;
        }
        property::put(w, kind, |w| match p {
            TableProperty::Instructions { types, .. }
            | TableProperty::WriteActions { types, .. }
            | TableProperty::ApplyActions { types, .. } => {
                for t in types {
                    w.u16(*t);
                    w.u16(4);
                }
            }
            TableProperty::NextTables { tables, .. } | TableProperty::SyncFrom(tables) => {
                w.put(tables);
            }
            TableProperty::Match(fields) => {
                for (f, masked) in fields {
                    oxm::put_id(w, *f, *masked, version);
                }
            }
            TableProperty::Wildcards(fields)
            | TableProperty::WriteSetField { fields, .. }
            | TableProperty::ApplySetField { fields, .. }
            | TableProperty::WriteCopyField { fields, .. }
            | TableProperty::ApplyCopyField { fields, .. } => {
                for f in fields {
                    oxm::put_id(w, *f, false, version);
                }
            }
            TableProperty::PacketTypes(types) => {
                for t in types {
                    oxm::put_exact(w, FieldId::PacketType, (*t).into(), version);
                }
            }
        })?;
    }
    w.set_len(start, start)
}
