//! The database file: the standalone format of ovsdb(5).
//!
//! A file is a list of records, each `OVSDB JSON <length> <sha1>`, a line end, and that many bytes
//! of JSON with that check sum. The first record is the schema; every other is a transaction:
//! rows by table and UUID (`null` for deleted ones, changed columns for others, as differences
//! where `_is_diff` is true), `_date` and `_comment`.
//!
//! Records are only ever added at the end. A crash can leave the last one incomplete or garbled;
//! its check sum tells, and it is cut off when the file is opened for writing: its transaction
//! was never answered, since answers wait for `fsync`. Bytes that are cut off and hold further
//! records (damage in the middle) are kept aside in `<file>.damaged`.
//!
//! Two locks keep a second server away, both on `.<file>.~lock~`: the POSIX record lock that
//! Open vSwitch's server takes, and an `flock`, as record locks do not tell apart two servers
//! within one process.
//!
//! One thread may use a [`Journal`] at a time; appending costs one `write`, [`Journal::sync`] one
//! `fdatasync` for all records since the last.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::database::Database;
use crate::error::OvsdbError;
use crate::schema::DatabaseSchema;

const MAGIC: &str = "OVSDB JSON ";

/// Longest record read: what a snapshot of a large database may need.
pub const MAX_RECORD: usize = 1 << 30;

/// A file is compacted by itself when it has grown by this much since the last time,
pub const COMPACT_MIN_GROWTH: u64 = 1 << 20;
/// and to this many times its size then.
pub const COMPACT_FACTOR: u64 = 4;

/// What can be wrong with a database file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("{path}: {what} failed ({source})")]
    Io {
        /// The file.
        path: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another server or tool has it open.
    #[error(
        "{0}: failed to lock lockfile (Resource temporarily unavailable): another server has this database open"
    )]
    Locked(String),
    /// It is no database file, or of another kind.
    #[error("{0}: {1}")]
    Format(String, String),
    /// A record does not fit the schema.
    #[error("{path}: record {number}: {error}")]
    Record {
        /// The file.
        path: String,
        /// Its position, the schema being 0.
        number: u64,
        /// What is wrong.
        error: OvsdbError,
    },
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.display().to_string();
    move |source| JournalError::Io { path, what, source }
}

/// The header line of a record.
fn header(json: &str) -> String {
    // The line end behind the JSON belongs to the record.
    let mut sha = Sha1::new();
    sha.update(json.as_bytes());
    sha.update(b"\n");
    let sum: String = sha.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("{MAGIC}{} {sum}\n", json.len() + 1)
}

/// One record of the file.
pub fn encode_record(json: &str) -> String {
    format!("{}{json}\n", header(json))
}

/// One record read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its JSON.
    pub json: Value,
    /// Where the next one begins.
    pub end: u64,
}

/// Reads records from the bytes of a file. No I/O.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Records<'a> {
    /// Over a whole file.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// Where the next record begins; behind an error, where the good part ends.
    pub fn position(&self) -> usize {
        self.pos
    }

    fn parse(&self) -> Result<Option<(Record, usize)>, String> {
        let rest = &self.bytes[self.pos..];
        if rest.is_empty() {
            return Ok(None);
        }
        // A header is short; a longer line is none.
        let line_end = rest
            .iter()
            .take(100)
            .position(|b| *b == b'\n')
            .ok_or("record header is incomplete or not one")?;
        let line =
            std::str::from_utf8(&rest[..line_end]).map_err(|_| "record header is not text")?;
        if line.starts_with("OVSDB CLUSTER ") {
            return Err("clustered databases are not supported, only standalone ones".into());
        }
        let (len, sum) = line
            .strip_prefix(MAGIC)
            .and_then(|l| l.split_once(' '))
            .ok_or("parse error in record header")?;
        let len: usize = len.parse().map_err(|_| "bad length in record header")?;
        if len > MAX_RECORD {
            return Err(format!("record of {len} bytes is longer than {MAX_RECORD}"));
        }
        let data = rest[line_end + 1..].get(..len).ok_or_else(|| {
            format!(
                "record of {len} bytes is cut short after {}",
                rest.len() - line_end - 1
            )
        })?;
        let actual: String = Sha1::digest(data)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if actual != sum {
            return Err(format!(
                "{len} bytes have SHA-1 hash {actual} instead of expected {sum}"
            ));
        }
        let json = serde_json::from_slice(data).map_err(|e| format!("record is not JSON: {e}"))?;
        let end = self.pos + line_end + 1 + len;
        Ok(Some((
            Record {
                json,
                end: end as u64,
            },
            end,
        )))
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the bytes that follow.
    pub fn next_record(&mut self) -> Result<Option<Record>, String> {
        match self.parse()? {
            None => Ok(None),
            Some((record, end)) => {
                self.pos = end;
                Ok(Some(record))
            }
        }
    }
}

/// What was read from a file.
pub struct Loaded {
    /// The database.
    pub db: Database,
    /// How many transaction records.
    pub records: u64,
    /// Size of the good part.
    pub good: u64,
    /// What is wrong behind it.
    pub damage: Option<String>,
}

/// Reads a database from the bytes of a file named `path`.
///
/// # Errors
/// No schema at the beginning, or a record that does not fit it.
pub fn load(path: &Path, bytes: &[u8]) -> Result<Loaded, JournalError> {
    let name = path.display().to_string();
    let mut records = Records::new(bytes);
    let first = match records.next_record() {
        Ok(Some(r)) => r,
        Ok(None) => return Err(JournalError::Format(name, "file is empty".into())),
        Err(e) => {
            return Err(JournalError::Format(
                name,
                format!("not a database file: {e}"),
            ));
        }
    };
    let record_error = |number, error| JournalError::Record {
        path: path.display().to_string(),
        number,
        error,
    };
    let schema = DatabaseSchema::from_json(&first.json).map_err(|e| record_error(0, e))?;
    let mut db = Database::new(schema);
    let mut number = 0;
    let damage = loop {
        match records.next_record() {
            Ok(Some(r)) => {
                number += 1;
                db.load(&r.json).map_err(|e| record_error(number, e))?;
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

/// The lock on a database file, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the database `path` (ovsdb-server(1): one server per file).
    ///
    /// # Errors
    /// [`JournalError::Locked`], or what the system says.
    pub fn take(path: &Path) -> Result<Self, JournalError> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".~lock~");
        let lock_path = path.with_file_name(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error(&lock_path, "opening the lock file"))?;
        let busy = || JournalError::Locked(path.display().to_string());
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(busy()),
            Err(fs::TryLockError::Error(e)) => return Err(io_error(&lock_path, "locking")(e)),
        }
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(busy()),
            Err(e) => Err(io_error(&lock_path, "locking")(e.into())),
        }
    }
}

/// An open database file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// Size after the last compaction, or at the opening.
    base: u64,
    dirty: bool,
    _lock: Lock,
}

fn write_new(path: &Path, contents: &str) -> Result<File, JournalError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
        .map_err(io_error(path, "create"))?;
    file.write_all(contents.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error(path, "write"))?;
    sync_dir(path);
    Ok(file)
}

/// Makes a new name in a directory durable; some file systems cannot, which is not an error.
fn sync_dir(path: &Path) {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Ok(dir) = File::open(dir.unwrap_or(Path::new("."))) {
        _ = dir.sync_all();
    }
}

/// Makes a database file with nothing but a schema.
///
/// # Errors
/// It exists already, or what the system says.
pub fn create(path: &Path, schema: &DatabaseSchema) -> Result<(), JournalError> {
    let _lock = Lock::take(path)?;
    write_new(path, &encode_record(&schema.to_json().to_string())).map(drop)
}

/// Reads a database file without locking or changing it.
///
/// # Errors
/// See [`load`].
pub fn read(path: &Path) -> Result<Loaded, JournalError> {
    let bytes = fs::read(path).map_err(io_error(path, "open"))?;
    load(path, &bytes)
}

impl Journal {
    /// Opens a database file for writing, making it with `create` where there is none. A damaged
    /// tail is cut off, with a message in the log.
    ///
    /// # Errors
    /// Locked by another server, no database file, or what the system says.
    pub fn open(
        path: &Path,
        create: Option<&DatabaseSchema>,
    ) -> Result<(Self, Database), JournalError> {
        // Compaction replaces the file, so a symbolic link must be followed now.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let lock = Lock::take(path)?;
        if let Some(schema) = create
            && !path.exists()
        {
            write_new(path, &encode_record(&schema.to_json().to_string()))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error(path, "open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(io_error(path, "read"))?;
        let loaded = load(path, &bytes)?;
        if let Some(damage) = &loaded.damage {
            let tail = &bytes[loaded.good as usize..];
            tracing::warn!(
                file = %path.display(),
                "{damage} at offset {}: the {} bytes from there on are cut off, {} transactions before them are good",
                loaded.good, tail.len(), loaded.records
            );
            let more = tail
                .windows(MAGIC.len() + 1)
                .any(|w| w[0] == b'\n' && &w[1..] == MAGIC.as_bytes());
            if more {
                let aside = PathBuf::from({
                    let mut name = path.as_os_str().to_owned();
                    name.push(".damaged");
                    name
                });
                fs::write(&aside, tail).map_err(io_error(&aside, "write"))?;
                tracing::warn!(file = %aside.display(), "they hold further records and are kept here");
            }
            file.set_len(loaded.good)
                .and_then(|()| file.sync_all())
                .map_err(io_error(path, "truncate"))?;
        }
        file.seek(SeekFrom::Start(loaded.good))
            .map_err(io_error(path, "seek"))?;
        let journal = Self {
            path: path.clone(),
            file,
            size: loaded.good,
            base: loaded.good,
            dirty: false,
            _lock: lock,
        };
        Ok((journal, loaded.db))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a record; [`Journal::sync`] makes it durable.
    ///
    /// # Errors
    /// Then the file is as before.
    pub fn append(&mut self, json: &str) -> io::Result<()> {
        let record = encode_record(json);
        if let Err(e) = self.file.write_all(record.as_bytes()) {
            // A part of it may be there.
            self.file.set_len(self.size)?;
            self.file.seek(SeekFrom::Start(self.size))?;
            return Err(e);
        }
        self.size += record.len() as u64;
        self.dirty = true;
        Ok(())
    }

    /// Waits until all records are on disk.
    ///
    /// # Errors
    /// What the system says; then it is not known what is on disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// True where compaction is worth while.
    pub fn wants_compaction(&self) -> bool {
        self.size > self.base + COMPACT_MIN_GROWTH && self.size > self.base * COMPACT_FACTOR
    }

    /// Replaces the file by one with the schema and one record with all rows. The old file stays
    /// until the new one is on disk.
    ///
    /// # Errors
    /// Then the old file is still in use.
    pub fn compact(
        &mut self,
        db: &Database,
        date: Option<u64>,
        comment: &str,
    ) -> Result<(), JournalError> {
        let tmp = PathBuf::from({
            let mut name = self.path.as_os_str().to_owned();
            name.push(".tmp");
            name
        });
        match fs::remove_file(&tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&tmp, "remove")(e));
            }
            _ => {}
        }
        let mut text = encode_record(&db.schema().to_json().to_string());
        text.push_str(&encode_record(&db.snapshot(date, comment)));
        let file = write_new(&tmp, &text)?;
        fs::rename(&tmp, &self.path).map_err(io_error(&self.path, "rename"))?;
        sync_dir(&self.path);
        self.file = file;
        self.size = text.len() as u64;
        self.base = self.size;
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::vswitch_schema;
    use serde_json::json;

    fn record(i: u64) -> String {
        let mut uuid = "00000000-0000-4000-8000-000000000000".to_owned();
        uuid.replace_range(30.., &format!("{i:06}"));
        json!({"Queue": {uuid: {"dscp": i % 64}}, "_date": i, "_is_diff": true}).to_string()
    }

    #[test]
    fn headers_are_those_of_ovs() {
        // Written by `ovsdb-tool create` of Open vSwitch.
        let text = encode_record(r#"{"name":"x","tables":{}}"#);
        assert!(text.starts_with("OVSDB JSON 25 "), "{text}");
        let mut r = Records::new(text.as_bytes());
        assert!(r.next_record().unwrap().is_some());
        assert!(r.next_record().unwrap().is_none());
    }

    #[test]
    fn a_file_cut_anywhere_keeps_all_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let (mut j, _) = Journal::open(&path, Some(vswitch_schema())).unwrap();
        let mut ends = vec![j.size()];
        for i in 0..5 {
            j.append(&record(i)).unwrap();
            ends.push(j.size());
        }
        j.sync().unwrap();
        drop(j);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, ends[5]);
        for cut in (ends[0]..=ends[5]).step_by(7).chain([ends[1], ends[5] - 1]) {
            let copy = dir.path().join(format!("cut{cut}.db"));
            fs::write(&copy, &bytes[..cut as usize]).unwrap();
            let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
            let (mut j, db) = Journal::open(&copy, None).unwrap();
            assert_eq!(db.row_count("Queue"), whole, "cut at {cut}");
            assert_eq!(j.size(), ends[whole]);
            // What is written after the cut is read back.
            j.append(&record(77)).unwrap();
            drop(j);
            let (_, db) = Journal::open(&copy, None).unwrap();
            assert_eq!(db.row_count("Queue"), whole + 1);
        }
    }

    #[test]
    fn damage_in_the_middle_keeps_the_rest_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let (mut j, _) = Journal::open(&path, Some(vswitch_schema())).unwrap();
        j.append(&record(1)).unwrap();
        let at = j.size() as usize;
        j.append(&record(2)).unwrap();
        j.append(&record(3)).unwrap();
        drop(j);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at + 80] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (_, db) = Journal::open(&path, None).unwrap();
        assert_eq!(db.row_count("Queue"), 1);
        let aside = fs::read(dir.path().join("x.db.damaged")).unwrap();
        assert_eq!(aside, &bytes[at..]);
    }

    #[test]
    fn only_one_server_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let first = Journal::open(&path, Some(vswitch_schema())).unwrap();
        let e = Journal::open(&path, None).unwrap_err();
        assert!(matches!(e, JournalError::Locked(_)), "{e}");
        drop(first);
        Journal::open(&path, None).unwrap();
    }

    #[test]
    fn compaction_keeps_rows_and_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let (mut j, mut db) = Journal::open(&path, Some(vswitch_schema())).unwrap();
        for i in 0..64 {
            let r = record(i % 4);
            db.load(&serde_json::from_str(&r).unwrap()).unwrap();
            j.append(&r).unwrap();
        }
        let before = j.size();
        j.compact(&db, Some(1), "test").unwrap();
        assert!(j.size() < before);
        j.append(&record(9)).unwrap();
        drop(j);
        let (_, db) = Journal::open(&path, None).unwrap();
        assert_eq!(db.row_count("Queue"), 5);
    }

    #[test]
    fn foreign_files_are_refused() {
        for text in ["", "hello\n", "OVSDB CLUSTER 3 abc\n{}\n"] {
            assert!(load(Path::new("f"), text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
