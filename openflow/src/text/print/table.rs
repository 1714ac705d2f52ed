//! Tables: counters, features, configuration.

use super::bits;
use super::fold::fold;
use super::group::ACTIONS;
use crate::field::{FIELDS, FieldId};
use crate::message::{
    LegacyTable, TABLE_ALL, TableConfig, TableFeatures, TableMiss, TableProperty, TableReason,
    TableStats,
};
use crate::text::Names;
use crate::wire::{OF10, OF12, OF14};
use std::fmt::{Result, Write};

/// Fields that a table of OpenFlow 1.0 can leave out, by their wildcard bits.
const FIELDS_10: &[(u64, FieldId)] = &[
    (1 << 0, FieldId::InPort),
    (1 << 1, FieldId::VlanVid),
    (1 << 2, FieldId::EthSrc),
    (1 << 3, FieldId::EthDst),
    (1 << 4, FieldId::EthType),
    (1 << 5, FieldId::IpProto),
    (1 << 6, FieldId::TcpSrc),
    (1 << 7, FieldId::TcpDst),
    (0x3f << 8, FieldId::Ipv4Src),
    (0x3f << 14, FieldId::Ipv4Dst),
    (1 << 20, FieldId::VlanPcp),
    (1 << 21, FieldId::NwTos),
];

/// Fields of OpenFlow 1.1's matches by their bits (1.1.0 A.2.3).
const FIELDS_11: &[(u64, FieldId)] = &[
    (1 << 0, FieldId::InPort),
    (1 << 1, FieldId::VlanVid),
    (1 << 2, FieldId::VlanPcp),
    (1 << 3, FieldId::EthType),
    (1 << 4, FieldId::NwTos),
    (1 << 5, FieldId::IpProto),
    (1 << 6, FieldId::TcpSrc),
    (1 << 7, FieldId::TcpDst),
    (1 << 8, FieldId::MplsLabel),
    (1 << 9, FieldId::MplsTc),
    (1 << 11, FieldId::EthSrc),
    (1 << 12, FieldId::EthDst),
    (1 << 13, FieldId::Ipv4Src),
    (1 << 14, FieldId::Ipv4Dst),
    (1 << 15, FieldId::Metadata),
];

/// Instruction types by number, in the order in which they are told.
const INSTRUCTIONS: &[(u16, &str)] = &[
    (6, "meter"),
    (4, "apply_actions"),
    (5, "clear_actions"),
    (3, "write_actions"),
    (2, "write_metadata"),
    (1, "goto_table"),
    (7, "stat_trigger"),
];

/// `OFPTC_EVICTION` and `OFPTC_VACANCY_EVENTS` (OpenFlow 1.4.1 7.3.3).
const EVICTION: u32 = 4;
const VACANCY_EVENTS: u32 = 8;

fn miss_name(m: TableMiss) -> &'static str {
    match m {
        TableMiss::Controller => "controller",
        TableMiss::Continue => "continue",
        TableMiss::Drop => "drop",
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn eviction_flags(n: u32) -> String {
    let names = [(1, "OTHER"), (2, "IMPORTANCE"), (4, "LIFETIME")];
    if n == 0 {
        "(none)".into()
    } else {
        bits(n, &names).replace(' ', "|")
    }
}

pub(super) fn table_mod(w: &mut String, c: &TableConfig, names: &Names) -> Result {
    if c.table == TABLE_ALL {
        w.push_str(" table_id: ALL_TABLES");
    } else {
        write!(w, " table_id={}", names.table_text(c.table))?;
    }
    if let Some(miss) = c.miss {
        write!(w, ", flow_miss_config={}", miss_name(miss))?;
    }
    if let Some(on) = c.eviction {
        write!(w, ", eviction={}", on_off(on))?;
    }
    if let Some(flags) = c.eviction_flags {
        write!(w, "eviction_flags={}", eviction_flags(flags))?;
    }
    if let Some(vacancy) = c.vacancy {
        write!(w, ", vacancy={}", on_off(vacancy.is_some()))?;
        if let Some((down, up)) = vacancy {
            write!(w, " vacancy:{down},{up}")?;
        }
    }
    Ok(())
}

pub(super) fn description(w: &mut String, c: &TableConfig, names: &Names) -> Result {
    writeln!(w, "\n  table {}:", names.table_text(c.table))?;
    let eviction = on_off(c.eviction.unwrap_or_default());
    let flags = eviction_flags(c.eviction_flags.unwrap_or_default());
    writeln!(w, "   eviction={eviction} eviction_flags={flags}")?;
    match c.vacancy.flatten() {
        None => writeln!(w, "   vacancy=off"),
        Some((down, up)) => {
            let now = c.vacancy_now;
            write!(w, "   vacancy=on vacancy_down={down}% vacancy_up={up}%")?;
            writeln!(w, " vacancy={now}%")
        }
    }
}

pub(super) fn status(
    w: &mut String,
    reason: TableReason,
    c: &TableConfig,
    names: &Names,
) -> Result {
    let reason = match reason {
        TableReason::VacancyDown => "VACANCY_DOWN",
        TableReason::VacancyUp => "VACANCY_UP",
    };
    write!(w, " reason={reason}\ntable_desc:-")?;
    description(w, c, names)
}

pub(super) fn stats(w: &mut String, tables: &[TableStats], version: u8, names: &Names) -> Result {
    let mut runs = Dittos::default();
    let mut last: Option<(&TableStats, Shape)> = None;
    for (i, t) in tables.iter().enumerate() {
        let shape = t
            .legacy
            .as_ref()
            .map(|l| Shape::legacy(l, version))
            .unwrap_or_default();
        let same_features = last.as_ref().is_some_and(|l| l.1 == shape);
        let same_stats =
            |l: &TableStats| (l.active, l.lookups, l.matched) == (t.active, t.lookups, t.matched);
        if same_features && last.as_ref().is_some_and(|l| same_stats(l.0)) {
            runs.add(t.table);
            continue;
        }
        w.push_str(if i == 0 { "\n" } else { "" });
        runs.finish(w)?;
        w.push_str(if i == 0 { "" } else { "\n" });
        writeln!(w, "  table {}:", named(t.table, &t.name, names))?;
        let (active, lookups, matched) = (t.active, t.lookups, t.matched);
        writeln!(
            w,
            "    active={active}, lookup={lookups}, matched={matched}"
        )?;
        if !same_features {
            shape.write(w, last.as_ref().map(|l| &l.1))?;
        } else if shape != Shape::default() {
            writeln!(w, "    (same features)")?;
        }
        last = Some((t, shape));
    }
    runs.finish(w)
}

/// A table's number, with its name in quotes if it has one.
fn named(table: u8, own: &str, names: &Names) -> String {
    let known = names
        .tables
        .iter()
        .find(|n| n.0 == table && !n.1.is_empty());
    let name = known.map_or(own, |n| n.1.as_str());
    if name.is_empty() {
        table.to_string()
    } else {
        format!("{table} (\"{name}\")")
    }
}

/// Tables that are as the one before them, gathered for one line.
#[derive(Default)]
struct Dittos(Option<(u8, u8)>);

impl Dittos {
    fn add(&mut self, table: u8) {
        let first = self.0.map_or(table, |r| r.0);
        self.0 = Some((first, table));
    }

    fn finish(&mut self, w: &mut String) -> Result {
        match self.0.take() {
            None => Ok(()),
            Some((first, last)) if first == last => writeln!(w, "\n  table {first}: ditto"),
            Some((first, last)) => writeln!(w, "\n  tables {first}...{last}: ditto"),
        }
    }
}

pub(super) fn features(
    w: &mut String,
    tables: &[TableFeatures],
    version: u8,
    names: &Names,
) -> Result {
    let mut text = TableFeaturesText::default();
    w.push('\n');
    for t in tables {
        w.push_str(&text.table(t, version, names));
    }
    w.push_str(&text.finish());
    Ok(())
}

/// Writes the features of tables one after the other, and what is as before only as such. One may do
/// for several messages.
#[derive(Default)]
pub struct TableFeaturesText {
    last: Option<Shape>,
    dittos: Dittos,
}

/// What is told of a table.
#[derive(Clone, Default, PartialEq)]
struct Shape {
    table: u8,
    metadata: (u64, u64),
    miss_config: Option<TableMiss>,
    /// What can be configured, from OpenFlow 1.4 on.
    config: Option<u32>,
    max_entries: u32,
    hit: Abilities,
    miss: Abilities,
    matching: Vec<FieldId>,
    masks: Vec<FieldId>,
    wildcards: Vec<FieldId>,
}

/// What rules can do, or the table-miss rule.
#[derive(Clone, Default, PartialEq)]
struct Abilities {
    next: Vec<u8>,
    instructions: Vec<u16>,
    write: ActionSet,
    apply: ActionSet,
}

#[derive(Clone, Default, PartialEq)]
struct ActionSet {
    types: u32,
    fields: Vec<FieldId>,
}

impl TableFeaturesText {
    /// Adds a table: text that can be written now.
    pub fn table(&mut self, t: &TableFeatures, version: u8, names: &Names) -> String {
        let shape = Shape::of(t, version);
        let mut s = String::new();
        if self.last.as_ref().is_some_and(|l| l.same(&shape)) {
            self.dittos.add(t.table);
            return s;
        }
        let _ = self.dittos.finish(&mut s);
        if self.last.is_some() {
            s.push('\n');
        }
        let _ = writeln!(s, "  table {}:", named(t.table, &t.name, names));
        let _ = shape.write(&mut s, self.last.as_ref());
        self.last = Some(shape);
        s
    }

    /// The rest.
    pub fn finish(&mut self) -> String {
        let mut s = String::new();
        let _ = self.dittos.finish(&mut s);
        s
    }
}

impl Shape {
    fn of(t: &TableFeatures, version: u8) -> Shape {
        let mut shape = Shape {
            table: t.table,
            metadata: (t.metadata_match, t.metadata_write),
            config: (version >= OF14).then_some(t.config),
            max_entries: t.max_entries,
            ..Shape::default()
        };
        for p in &t.properties {
            shape.take(p);
        }
        // What can be masked can be matched, and left out; what cannot be matched cannot be left out.
        for f in &shape.masks {
            shape.matching.push(*f);
            shape.wildcards.push(*f);
        }
        for list in [&mut shape.matching, &mut shape.masks, &mut shape.wildcards] {
            in_order(list);
        }
        shape.wildcards.retain(|f| shape.matching.contains(f));
        shape
    }

    /// Whether a later table is as this one: it may go on to those behind it, as this one does.
    fn same(&self, later: &Shape) -> bool {
        let bare = |s: &Shape| Shape {
            table: 0,
            hit: s.hit.beyond(later.table),
            miss: s.miss.beyond(later.table),
            ..s.clone()
        };
        bare(self) == bare(later)
    }

    /// What OpenFlow 1.0 to 1.2 say with a table's counters.
    fn legacy(l: &LegacyTable, version: u8) -> Shape {
        let mut shape = Shape {
            max_entries: l.max_entries,
            ..Shape::default()
        };
        let fields = |bits: u64| -> Vec<FieldId> {
            let table = if version == OF10 {
                FIELDS_10
            } else {
                FIELDS_11
            };
            let mut list: Vec<FieldId> = match version {
                OF12.. => (FIELDS.iter())
                    .filter(|f| {
                        f.oxm
                            .is_some_and(|c| c.class == 0x8000 && bits & 1 << (c.field & 63) != 0)
                    })
                    .map(|f| f.id)
                    .collect(),
                _ => table
                    .iter()
                    .filter(|f| bits & f.0 == f.0)
                    .map(|f| f.1)
                    .collect(),
            };
            in_order(&mut list);
            list
        };
        shape.wildcards = fields(l.wildcards);
        shape.matching = fields(l.matches | l.wildcards);
        if version == OF10 {
            return shape;
        }
        let set = |types: u32, bits: u64| ActionSet {
            types,
            fields: if version < OF12 {
                Vec::new()
            } else {
                fields(bits)
            },
        };
        shape.hit = Abilities {
            next: Vec::new(),
            instructions: (0..16).filter(|t| l.instructions & 1 << t != 0).collect(),
            write: set(l.write_actions, l.write_setfields),
            apply: set(l.apply_actions, l.apply_setfields),
        };
        shape.miss = shape.hit.clone();
        shape.metadata = (l.metadata_match, l.metadata_write);
        shape.miss_config = match l.config & 3 {
            0 => Some(TableMiss::Controller),
            1 => Some(TableMiss::Continue),
            2 => Some(TableMiss::Drop),
            _ => None,
        };
        shape
    }

    fn take(&mut self, p: &TableProperty) {
        let set = |types: &[u16]| types.iter().filter(|t| **t < 32).fold(0, |n, t| n | 1 << t);
        let fields = |all: &[FieldId]| {
            let mut list = all.to_vec();
            in_order(&mut list);
            list
        };
        match p {
            TableProperty::Instructions { miss, types } => {
                self.side(*miss).instructions.clone_from(types);
            }
            TableProperty::NextTables { miss, tables } => {
                self.side(*miss).next.clone_from(tables);
            }
            TableProperty::WriteActions { miss, types } => {
                self.side(*miss).write.types = set(types)
            }
            TableProperty::ApplyActions { miss, types } => {
                self.side(*miss).apply.types = set(types)
            }
            TableProperty::WriteSetField { miss, fields: f } => {
                self.side(*miss).write.fields = fields(f);
            }
            TableProperty::ApplySetField { miss, fields: f } => {
                self.side(*miss).apply.fields = fields(f);
            }
            TableProperty::Match(all) => {
                for (field, mask) in all {
                    let list = if *mask {
                        &mut self.masks
                    } else {
                        &mut self.matching
                    };
                    list.push(*field);
                }
            }
            TableProperty::Wildcards(all) => self.wildcards.extend(all),
            // Open vSwitch's text has no words for what came with 1.4 and 1.5.
            TableProperty::SyncFrom(_)
            | TableProperty::WriteCopyField { .. }
            | TableProperty::ApplyCopyField { .. }
            | TableProperty::PacketTypes(_) => {}
        }
    }

    fn side(&mut self, miss: bool) -> &mut Abilities {
        if miss { &mut self.miss } else { &mut self.hit }
    }

    fn write(&self, w: &mut String, last: Option<&Shape>) -> Result {
        let (read, write) = self.metadata;
        if read != 0 || write != 0 {
            writeln!(w, "    metadata: match={read:#x} write={write:#x}")?;
        }
        if let Some(miss) = self.miss_config {
            writeln!(w, "    config={}", miss_name(miss))?;
        }
        if let Some(config) = self.config {
            let able = |bit| if config & bit != 0 { "" } else { "not " };
            writeln!(w, "    eviction: {}supported", able(EVICTION))?;
            writeln!(w, "    vacancy events: {}supported", able(VACANCY_EVENTS))?;
        }
        if self.max_entries != 0 {
            writeln!(w, "    max_entries={}", self.max_entries)?;
        }
        let empty = Abilities::default();
        let as_here = |l: &Abilities, s: &Abilities| l.beyond(self.table) == s.beyond(self.table);
        if last.is_some_and(|l| as_here(&l.hit, &self.hit) && as_here(&l.miss, &self.miss)) {
            if self.hit != empty {
                writeln!(w, "    (same instructions)")?;
            }
        } else if self.hit != self.miss {
            writeln!(w, "    instructions (other than table miss):")?;
            self.hit.write(w, last.map(|l| &l.hit))?;
            writeln!(w, "    instructions (table miss):")?;
            self.miss.write(w, last.map(|l| &l.miss))?;
        } else if self.hit != empty {
            writeln!(w, "    instructions (table miss and others):")?;
            self.hit.write(w, last.map(|l| &l.hit))?;
        }
        if self.matching.is_empty() {
            return Ok(());
        }
        if last.is_some_and(|l| l.matching == self.matching) {
            return writeln!(w, "    (same matching)");
        }
        writeln!(w, "    matching:")?;
        type Which<'a> = (&'static str, &'a dyn Fn(&FieldId) -> bool);
        let masked = |f: &FieldId| self.masks.contains(f);
        let wild = |f: &FieldId| !masked(f) && self.wildcards.contains(f);
        let exact = |f: &FieldId| !masked(f) && !self.wildcards.contains(f);
        let kinds: [Which<'_>; 3] = [
            ("arbitrary mask", &masked),
            ("exact match or wildcard", &wild),
            ("must exact match", &exact),
        ];
        for (what, which) in kinds {
            let list: Vec<FieldId> = self.matching.iter().copied().filter(which).collect();
            if !list.is_empty() {
                writeln!(w, "      {what}: {}", folded(&list))?;
            }
        }
        Ok(())
    }
}

impl Abilities {
    /// The same without the way to tables up to `table`.
    fn beyond(&self, table: u8) -> Abilities {
        Abilities {
            next: self.next.iter().copied().filter(|n| *n > table).collect(),
            ..self.clone()
        }
    }

    fn write(&self, w: &mut String, last: Option<&Abilities>) -> Result {
        if !self.next.is_empty() {
            writeln!(w, "      next tables: {}", ranges(&self.next))?;
        }
        if !self.instructions.is_empty() {
            let known = INSTRUCTIONS
                .iter()
                .filter(|i| self.instructions.contains(&i.0));
            let names: Vec<&str> = known.map(|i| i.1).collect();
            if last.is_some_and(|l| l.instructions == self.instructions) {
                writeln!(w, "      (same instructions)")?;
            } else {
                writeln!(w, "      instructions: {}", names.join(" "))?;
            }
        }
        let same = last.is_some_and(|l| l.write == self.write && l.apply == self.apply);
        if same && !self.write.fields.is_empty() {
            writeln!(w, "      (same actions)")?;
        } else if self.write != self.apply {
            writeln!(w, "      Write-Actions features:")?;
            self.write.write(w)?;
            writeln!(w, "      Apply-Actions features:")?;
            self.apply.write(w)?;
        } else if self.write != ActionSet::default() {
            writeln!(w, "      Write-Actions and Apply-Actions features:")?;
            self.write.write(w)?;
        }
        Ok(())
    }
}

impl ActionSet {
    fn write(&self, w: &mut String) -> Result {
        if self.types != 0 {
            writeln!(w, "        actions: {}", bits(self.types, ACTIONS))?;
        }
        if !self.fields.is_empty() {
            writeln!(
                w,
                "        supported on Set-Field: {}",
                folded(&self.fields)
            )?;
        }
        Ok(())
    }
}

fn in_order(list: &mut Vec<FieldId>) {
    list.sort_by_key(|f| *f as usize);
    list.dedup();
}

fn folded(list: &[FieldId]) -> String {
    let names: Vec<&str> = list.iter().map(|f| FIELDS[*f as usize].name).collect();
    fold(&names)
}

/// Numbers with neighbours as `1-5`.
fn ranges(numbers: &[u8]) -> String {
    let mut out: Vec<(u8, u8)> = Vec::new();
    for n in numbers {
        match out.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(*n) => *end = *n,
            _ => out.push((*n, *n)),
        }
    }
    let texts = out.iter().map(|(a, b)| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}-{b}")
        }
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_all_fields_of_openflow_10_are_known() {
        let all = FIELDS_10.iter().fold(0, |all, f| all | f.0);
        assert_eq!(all, u64::from(crate::wire::WILD_ALL));
    }

    #[test]
    fn tables_like_the_one_before_are_told_in_one_line() {
        let table = |n: u8, entries| TableFeatures {
            table: n,
            max_entries: entries,
            properties: vec![TableProperty::NextTables {
                miss: false,
                tables: vec![1, 2, 3, 7],
            }],
            ..TableFeatures::default()
        };
        let tables = [table(0, 5), table(1, 5), table(2, 5), table(3, 6)];
        let mut s = String::new();
        features(&mut s, &tables, OF14, &Names::default()).unwrap();
        assert_eq!(
            s,
            "\n  table 0:\n    eviction: not supported\n    vacancy events: not supported\n    max_entries=5\n    \
             instructions (other than table miss):\n      next tables: 1-3,7\n    instructions (table miss):\n\n  \
             tables 1...2: ditto\n\n  table 3:\n    eviction: not supported\n    vacancy events: not supported\n    \
             max_entries=6\n    (same instructions)\n"
        );
    }
}
