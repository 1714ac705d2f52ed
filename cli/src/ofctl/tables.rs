//! Tables: their features and their configuration.

use super::commands::out;
use super::conn::Conn;
use super::{Options, names, version_options};
use anyhow::{Result, bail};
use openflow::text::{Protocols, TableChange, TableFeaturesText, parse_table_change};
use openflow::wire;
use openflow::{Message, MultipartReply, MultipartRequest, TABLE_ALL, TableConfig, TableFeatures};

/// `dump-table-features SWITCH`
pub fn dump_table_features(o: &Options, a: &[&str]) -> Result<()> {
    let mut conn = names::open(o, a[0])?;
    if conn.version < wire::OF13 {
        bail!("dump-table-features needs OpenFlow 1.3 or later ('-O OpenFlow13')");
    }
    let names = openflow::text::Names::default();
    let version = conn.version;
    // What is as in the last table of one part is not told again in the next.
    let mut text = TableFeaturesText::default();
    let q = Message::MultipartRequest(MultipartRequest::TableFeatures(Vec::new()));
    conn.ask(&q, |d| match &d.message {
        Message::MultipartReply(MultipartReply::TableFeatures(tables)) => {
            for t in tables {
                out(&text.table(t, version, &names));
            }
        }
        _ => out(&o.style(&names, 1).message(&d)),
    })?;
    out(&text.finish());
    out("\n");
    Ok(())
}

/// `dump-table-desc SWITCH`
pub fn dump_table_desc(o: &Options, a: &[&str]) -> Result<()> {
    let mut conn = names::open(o, a[0])?;
    if conn.version < 5 {
        bail!("dump-table-desc needs OpenFlow 1.4 or later ('-O OpenFlow14')");
    }
    let names = names::shown(o, a[0])?;
    let q = Message::MultipartRequest(MultipartRequest::TableDesc);
    conn.show(&q, &o.style(&names, 1))
}

/// `mod-table SWITCH TABLE SETTING`
pub fn mod_table(o: &Options, a: &[&str]) -> Result<()> {
    let number = |t: &str| t.parse::<u8>().is_ok() || t.eq_ignore_ascii_case("all");
    let known = if number(a[1]) {
        openflow::text::Names::default()
    } else {
        names::accepted(o, a[0])?
    };
    let change = parse_table_change(a[1], a[2], &known)?;
    let versions: &[u8] = match &change {
        TableChange::Config(_, versions) => versions,
        TableChange::Name(..) => &[4, 5, 6],
    };
    let able = versions
        .iter()
        .fold(Protocols::NONE, |all, v| all.or(Protocols::of_version(*v)));
    let mut with = o.clone();
    with.allowed = o.allowed.and(able);
    if with.allowed.is_empty() {
        let list = version_options(versions);
        bail!(
            "table_mod '{}' requires one of the OpenFlow versions {list}",
            a[2]
        );
    }
    let mut conn = names::open(&with, a[0])?;
    match change {
        TableChange::Config(config, _) => configure(&with, &mut conn, a[0], config),
        TableChange::Name(table, name) => rename(&with, &mut conn, a[0], table, name),
    }
}

/// Changes what is asked for, and sends along how the rest of the table's configuration stands.
fn configure(o: &Options, conn: &mut Conn, switch: &str, change: TableConfig) -> Result<()> {
    let names = names::shown(o, switch)?;
    let style = o.style(&names, 2);
    if conn.version < 5 {
        return conn.change(&[Message::TableMod(change)], &style);
    }
    let mut there: Vec<TableConfig> = Vec::new();
    let q = Message::MultipartRequest(MultipartRequest::TableDesc);
    conn.ask(&q, |d| {
        if let Message::MultipartReply(MultipartReply::TableDesc(t)) = d.message {
            there.extend(t);
        }
    })?;
    let merged = |table: u8| {
        let old = there
            .iter()
            .find(|t| t.table == table)
            .copied()
            .unwrap_or_default();
        let mut new = TableConfig { table, ..change };
        if new.eviction.is_some() {
            new.vacancy = old.vacancy;
        } else {
            new.eviction = old.eviction;
            new.eviction_flags = old.eviction_flags;
        }
        Message::TableMod(new)
    };
    let all: Vec<Message> = if change.table == TABLE_ALL {
        there.iter().map(|t| merged(t.table)).collect()
    } else {
        vec![merged(change.table)]
    };
    conn.change(&all, &style)
}

/// Gives a table a name: a request of table features that says only that.
fn rename(o: &Options, conn: &mut Conn, switch: &str, table: u8, name: String) -> Result<()> {
    let mut there = None;
    let q = Message::MultipartRequest(MultipartRequest::TableFeatures(Vec::new()));
    conn.ask(&q, |d| {
        if let Message::MultipartReply(MultipartReply::TableFeatures(tables)) = d.message {
            there = there
                .take()
                .or(tables.into_iter().find(|t| t.table == table));
        }
    })?;
    let Some(features) = there else {
        bail!("switch does not have table {table}");
    };
    // Without properties: those stay as they are.
    let wanted = TableFeatures {
        name,
        properties: Vec::new(),
        ..features
    };
    let q = Message::MultipartRequest(MultipartRequest::TableFeatures(vec![wanted]));
    let names = names::shown(o, switch)?;
    let mut refused = None;
    conn.ask(&q, |d| {
        if matches!(d.message, Message::Error(_)) {
            refused = Some(d);
        }
    })?;
    match refused {
        None => Ok(()),
        Some(d) => Err(super::conn::Refused(o.style(&names, 2).message(&d)).into()),
    }
}
