//! What is done to whole files and to schemas: `create`, `compact`, `convert`, and what is told of
//! them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use ovsdb::journal::{self, JournalError, Kind, Lock, Records};
use ovsdb::{Database, DatabaseSchema, OvsdbError};
use serde_json::Value;
use switchd::log::since_epoch;

use crate::exit;

/// The whole of a file that is only read.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| JournalError::Io {
        path: path.display().to_string(),
        what: "open failed",
        error,
    };
    Ok(fs::read(path).map_err(failed)?)
}

/// The schema in a file, or the built-in one.
fn read_schema(path: Option<PathBuf>) -> Result<DatabaseSchema> {
    let Some(path) = path else {
        return Ok(ovsdb::vswitch_schema().clone());
    };
    let name = path.display();
    let unreadable = |why: String| {
        anyhow!("failed to read schema: \"{name}\" could not be read as JSON ({why})")
    };
    let text = fs::read(&path)
        .map_err(|e| unreadable(format!("error opening \"{name}\": {}", exit::words(&e))))?;
    let json: Value = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
    Ok(DatabaseSchema::from_json(&json).map_err(|e| OvsdbError {
        details: format!("failed to parse \"{name}\" as ovsdb schema: {}", e.details),
        ..e
    })?)
}

/// The schema in a database file.
fn db_schema(path: &Path) -> Result<DatabaseSchema> {
    Ok(journal::schema(path, &bytes(path)?)?.0)
}

pub(super) fn create(db: &Path, schema: Option<PathBuf>) -> Result<ExitCode> {
    journal::create(db, &read_schema(schema)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compact(db: &Path, to: Option<PathBuf>) -> Result<ExitCode> {
    rewrite(db, to, "compacted", Ok)
}

pub(super) fn convert(db: &Path, schema: Option<PathBuf>, to: Option<PathBuf>) -> Result<ExitCode> {
    let schema = read_schema(schema)?;
    rewrite(db, to, "converted", |db| {
        ovsdb::convert::convert(&db, schema)
    })
}

/// Writes what `change` makes of a database to another file, or into its own place.
fn rewrite(
    from: &Path,
    to: Option<PathBuf>,
    what: &str,
    change: impl FnOnce(Database) -> Result<Database, OvsdbError>,
) -> Result<ExitCode> {
    let to = to.as_deref().unwrap_or(from);
    let lock = Lock::take(to).map_err(|e| {
        let text = e.to_string();
        anyhow!("{}", text.strip_prefix("I/O error: ").unwrap_or(&text))
    })?;
    let db = change(journal::read(from)?)?;
    let comment = format!("{what} by {} {}", super::PROGRAM, env!("CARGO_PKG_VERSION"));
    journal::save(&lock, &db, since_epoch().as_millis() as u64, &comment)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn needs_conversion(db: &Path, schema: Option<PathBuf>) -> Result<ExitCode> {
    let same = db_schema(db)? == read_schema(schema)?;
    println!("{}", if same { "no" } else { "yes" });
    Ok(ExitCode::SUCCESS)
}

/// Prints one thing of a schema.
pub(super) fn of_schema(
    path: Option<PathBuf>,
    what: fn(&DatabaseSchema) -> &String,
) -> Result<ExitCode> {
    println!("{}", what(&read_schema(path)?));
    Ok(ExitCode::SUCCESS)
}

/// Prints one thing of the schema in a database.
pub(super) fn of_db(path: &Path, what: fn(&DatabaseSchema) -> &String) -> Result<ExitCode> {
    println!("{}", what(&db_schema(path)?));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn db_name(path: &Path) -> Result<ExitCode> {
    match journal::kind(path, &bytes(path)?)? {
        Kind::Standalone => of_db(path, |s| &s.name),
        Kind::Clustered => of_cluster(path, "name"),
    }
}

pub(super) fn is_kind(path: &Path, kind: Kind) -> Result<ExitCode> {
    Ok(if journal::kind(path, &bytes(path)?)? == kind {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// Prints a member of the first record of a clustered database (ovsdb(5), "Clustered Format").
pub(super) fn of_cluster(path: &Path, member: &str) -> Result<ExitCode> {
    let bytes = bytes(path)?;
    let name = path.display();
    if journal::kind(path, &bytes)? != Kind::Clustered {
        bail!("{name}: not a clustered database");
    }
    let header = Records::of_cluster(&bytes)
        .next_record()
        .map_err(|e| anyhow!("{}: {name}: {e}", e.name()))?
        .unwrap_or_default();
    match header.get(member).and_then(Value::as_str) {
        Some(text) => println!("{text}"),
        None if member == "cluster_id" => {
            eprintln!("{name}: cluster ID not yet known");
            return Ok(ExitCode::from(2));
        }
        None => bail!("{name}: the first record has no \"{member}\""),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compare_versions(a: &str, op: &str, b: &str) -> Result<ExitCode> {
    let version = |s: &str| -> Result<Vec<u64>> {
        let digits = |p: &str| p.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<u64> = s
            .split('.')
            .filter(|p| digits(p))
            .filter_map(|p| p.parse().ok())
            .collect();
        if parts.len() != 3 || s.split('.').count() != 3 {
            bail!("{s}: not an OVSDB version number in format x.y.z");
        }
        Ok(parts)
    };
    let (a, b) = (version(a)?, version(b)?);
    let holds = match op {
        "<" => a < b,
        "<=" => a <= b,
        "==" => a == b,
        ">=" => a >= b,
        ">" => a > b,
        "!=" => a != b,
        _ => bail!("{op}: not a relational operator"),
    };
    Ok(ExitCode::from(if holds { 0 } else { 2 }))
}
