//! From the bytes of a file to rows.

use std::fs;
use std::path::Path;

use super::record::{CLUSTER_MAGIC, MAGIC, RecordError, Records};
use super::{JournalError, io_error};
use crate::database::Database;
use crate::schema::DatabaseSchema;

/// What was read from a file.
pub struct Loaded {
    /// The database.
    pub db: Database,
    /// How many transaction records.
    pub records: u64,
    /// Size of the good part.
    pub good: u64,
    /// What is wrong behind it.
    pub damage: Option<RecordError>,
}

/// The two kinds of database files (ovsdb(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One that a server writes alone.
    Standalone,
    /// One that a cluster of servers agrees upon.
    Clustered,
}

/// Tells from its first bytes what kind of database the file `path` is.
///
/// # Errors
/// It is none.
pub fn kind(path: &Path, bytes: &[u8]) -> Result<Kind, JournalError> {
    let format = |why: &str| Err(JournalError::Format(path.display().to_string(), why.into()));
    if bytes.is_empty() {
        format("cannot identify file type")
    } else if bytes.starts_with(MAGIC.as_bytes()) {
        Ok(Kind::Standalone)
    } else if bytes.starts_with(CLUSTER_MAGIC.as_bytes()) {
        Ok(Kind::Clustered)
    } else {
        format("unexpected file format")
    }
}

/// The records of a standalone database, and its schema, which the first one is.
///
/// # Errors
/// Not a standalone database, or no schema at its beginning.
pub fn schema<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<(DatabaseSchema, Records<'a>), JournalError> {
    if kind(path, bytes)? == Kind::Clustered {
        return Err(JournalError::Format(
            path.display().to_string(),
            "cannot apply this operation to clustered database file".into(),
        ));
    }
    let mut records = Records::new(bytes);
    let json = records
        .next_record()
        .map_err(|e| JournalError::damaged(path, e))?
        .unwrap_or_default();
    let schema = DatabaseSchema::from_json(&json).map_err(JournalError::Record)?;
    Ok((schema, records))
}

/// Reads a database from the bytes of a file named `path`. What is damaged ends it and is told.
///
/// # Errors
/// No schema at the beginning, or a record that does not fit it.
pub fn load(path: &Path, bytes: &[u8]) -> Result<Loaded, JournalError> {
    let (schema, mut records) = schema(path, bytes)?;
    let mut db = Database::new(schema);
    let mut number = 0;
    let damage = loop {
        match records.next_members() {
            Ok(Some(members)) => {
                number += 1;
                db.load(&members).map_err(JournalError::Record)?;
            }
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
    };
    db.rebuild();
    Ok(Loaded {
        db,
        records: number,
        good: records.position() as u64,
        damage,
    })
}

/// Reads a database file without locking or changing it.
///
/// # Errors
/// See [`load`]; and a file that is damaged, however little.
pub fn read(path: &Path) -> Result<Database, JournalError> {
    let bytes = fs::read(path).map_err(io_error(path, "open failed"))?;
    let loaded = load(path, &bytes)?;
    match loaded.damage {
        Some(e) => Err(JournalError::damaged(path, e)),
        None => Ok(loaded.db),
    }
}
