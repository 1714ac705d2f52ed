//! Changes of tables in text: what `ovs-ofctl mod-table` takes.

use super::{Names, Result, fail, parse_uint};
use crate::message::{TABLE_ALL, TableConfig, TableMiss};

/// What a table is to be: a change over OpenFlow, with the versions (wire numbers) that can say it,
/// or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// A table-mod.
    Config(TableConfig, &'static [u8]),
    /// A new name, which table features carry.
    Name(u8, String),
}

/// OpenFlow 1.1 and 1.2: tables say what happens to packets that no rule matches.
const WITH_MISS: &[u8] = &[2, 3];
/// OpenFlow 1.4 and later: tables evict and tell how full they are.
const WITH_EVICTION: &[u8] = &[5, 6];

/// Reads a table and its setting.
///
/// # Errors
/// What is wrong, as Open vSwitch says it.
pub fn parse_table_change(table: &str, setting: &str, names: &Names) -> Result<TableChange> {
    let number = if table.eq_ignore_ascii_case("all") {
        TABLE_ALL
    } else {
        match names.table(table) {
            Some(n) => n,
            None => return fail(format!("unknown table \"{table}\"")),
        }
    };
    let none = TableConfig {
        table: number,
        ..TableConfig::default()
    };
    let miss = |m| TableConfig {
        miss: Some(m),
        ..none
    };
    let eviction = |on| TableConfig {
        eviction: Some(on),
        ..none
    };
    Ok(match setting {
        "controller" => TableChange::Config(miss(TableMiss::Controller), WITH_MISS),
        "continue" if number == TABLE_ALL - 1 => {
            return fail("last table's flow miss handling can not be continue");
        }
        "continue" => TableChange::Config(miss(TableMiss::Continue), WITH_MISS),
        "drop" => TableChange::Config(miss(TableMiss::Drop), WITH_MISS),
        "evict" => TableChange::Config(eviction(true), WITH_EVICTION),
        "noevict" => TableChange::Config(eviction(false), WITH_EVICTION),
        "novacancy" => {
            let vacancy = Some(None);
            TableChange::Config(TableConfig { vacancy, ..none }, WITH_EVICTION)
        }
        _ => match setting.split_once(':').unwrap_or((setting, "")) {
            ("name", name) if setting.contains(':') => TableChange::Name(number, name.to_owned()),
            // Any beginning of the word will do.
            (word, range) if "vacancy".starts_with(word) => {
                let vacancy = Some(Some(parse_vacancy(range)?));
                TableChange::Config(TableConfig { vacancy, ..none }, WITH_EVICTION)
            }
            _ => return fail(format!("invalid table_mod setting {setting}")),
        },
    })
}

fn parse_vacancy(range: &str) -> Result<(u8, u8)> {
    let mut parts = range.split(',').filter(|p| !p.is_empty());
    let mut percent = |what: &str| match parts.next() {
        None => fail(format!("Vacancy {what} value missing")),
        Some(p) => match parse_uint(p) {
            Some(n @ 0..=100) => Ok(n as u8),
            _ => fail(format!("Invalid vacancy {what} value \"{p}\"")),
        },
    };
    let (down, up) = (percent("down")?, percent("up")?);
    if down > up {
        return fail(
            "Invalid vacancy range, vacancy up should be greater than vacancy down (OFPBPC_BAD_VALUE)",
        );
    }
    Ok((down, up))
}
