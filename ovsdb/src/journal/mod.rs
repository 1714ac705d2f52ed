//! The database file: the standalone format of ovsdb(5).
//!
//! A file is a list of records ([`record`]). The first is the schema; every other is a
//! transaction: rows by table and UUID (`null` for deleted ones, changed columns for others, as
//! differences where `_is_diff` is true), `_date` and `_comment`.
//!
//! Records are only ever added at the end, and an answer waits for `fsync`. So a crash can leave
//! nothing worse than a last record that is incomplete or garbled, whose transaction was never
//! answered; its check sum tells, and it is cut off when the file is opened for writing. Bytes that
//! are cut off and hold further records (damage in the middle) are kept aside in `<file>.damaged`.
//! A record that cannot be written whole (a full disk, a limit on file sizes) is cut off at once:
//! its transaction is refused, and the next one may fit again. A file that was removed or replaced
//! under the server takes no more transactions, as they would be lost; compaction writes a removed
//! one anew.
//!
//! A file that has grown to [`COMPACT_FACTOR`] times its size after the last compaction, and by
//! [`COMPACT_MIN_GROWTH`] at least, is due for compaction ([`compact`]), which goes on beside the
//! serving of clients. So each byte is rewritten less than once on average, and a start reads at
//! most [`COMPACT_FACTOR`] times what the rows need. After a failure the next attempt waits for
//! another [`COMPACT_MIN_GROWTH`].
//!
//! One thread may use a [`Journal`] at a time; appending costs one `write`, [`Journal::sync`] one
//! `fdatasync` for all records since the last.

pub mod compact;
mod load;
mod lock;
pub mod record;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use compact::{Compacted, Compaction, Snapshot};
pub use load::{Kind, Loaded, kind, load, read, schema};
pub use lock::Lock;
pub use record::{RecordError, Records, encode_record};

use crate::database::Database;
use crate::error::OvsdbError;
use crate::schema::DatabaseSchema;
use compact::NewFile;

/// A file is compacted by itself when it has grown by this much since the last time,
pub const COMPACT_MIN_GROWTH: u64 = 1 << 20;
/// and to this many times its size then.
pub const COMPACT_FACTOR: u64 = 4;

/// What can be wrong with a database file, in the words of Open vSwitch.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("I/O error: {path}: {what} ({})", reason(error))]
    Io {
        /// The file.
        path: String,
        /// What failed.
        what: &'static str,
        /// Why. It is in the words already, so it is no `source`.
        error: io::Error,
    },
    /// Another server or tool has it open.
    #[error("I/O error: {0}: failed to lock lockfile (Resource temporarily unavailable)")]
    Locked(String),
    /// It is no database file, or of another kind.
    #[error("ovsdb error: {0}: {1}")]
    Format(String, String),
    /// A record is damaged.
    #[error("{}: {path}: {error}", error.name())]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong where.
        error: RecordError,
    },
    /// A record is whole, but does not fit the schema.
    #[error("{0}")]
    Record(OvsdbError),
}

impl JournalError {
    pub(crate) fn damaged(path: &Path, error: RecordError) -> Self {
        JournalError::Damaged {
            path: path.display().to_string(),
            error,
        }
    }
}

/// What the system says, without the number that Rust adds.
fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.into(),
        None => text,
    }
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.display().to_string();
    move |error| JournalError::Io { path, what, error }
}

/// `path` with more behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a new name in a directory durable; some file systems cannot, which is not an error.
fn sync_dir(path: &Path) {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Ok(dir) = File::open(dir.unwrap_or(Path::new("."))) {
        _ = dir.sync_all();
    }
}

/// Makes a database file, whole or not at all. The lock is held, so nobody else makes it.
fn write_new(path: &Path, schema: &DatabaseSchema) -> Result<(), JournalError> {
    let new = NewFile::create(beside(path, ".tmp"), None)?;
    let text = encode_record(&schema.to_json().to_string());
    new.file
        .write_all_at(text.as_bytes(), 0)
        .map_err(io_error(path, "write failed"))?;
    new.replace(path).map(drop)
}

/// Makes a database file with nothing but a schema.
///
/// # Errors
/// It exists already, or what the system says.
pub fn create(path: &Path, schema: &DatabaseSchema) -> Result<(), JournalError> {
    let lock = Lock::take(path)?;
    if lock.path.exists() {
        let exists = io::Error::from(rustix::io::Errno::EXIST);
        return Err(io_error(path, "create failed")(exists));
    }
    write_new(&lock.path, schema)
}

/// Makes the locked file one with the schema and the rows of `db` in one record, that has
/// `date` (in milliseconds since 1970) and `comment`.
///
/// # Errors
/// What the system says; a file that was there is as before then.
pub fn save(lock: &Lock, db: &Database, date: u64, comment: &str) -> Result<(), JournalError> {
    let old = File::open(&lock.path).ok();
    let new = NewFile::create(beside(&lock.path, ".tmp"), old.as_ref())?;
    new.write(&Snapshot::new(db, date, comment), &AtomicBool::new(false))?;
    new.replace(&lock.path).map(drop)
}

/// An open database file.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Bytes of whole records; what lies behind them is left over from a failed write.
    size: Arc<AtomicU64>,
    torn: bool,
    /// Size after the last compaction, or at the opening.
    base: u64,
    dirty: bool,
    /// Set while a compaction runs beside us.
    compaction: Option<Arc<AtomicBool>>,
    /// Size at which a compaction is tried again after one that failed.
    retry_at: u64,
    /// What went wrong the last time that something was written, if it did.
    failure: Option<String>,
    lock: Lock,
}

impl Journal {
    /// Opens a database file for writing, making it with `create` where there is none. A damaged
    /// tail is cut off, with a message in the log.
    ///
    /// # Errors
    /// Locked by another server, no database file, or what the system says.
    pub fn open(
        name: &Path,
        create: Option<&DatabaseSchema>,
    ) -> Result<(Self, Database), JournalError> {
        let lock = Lock::take(name)?;
        let path = &lock.path;
        if let Some(schema) = create
            && !path.exists()
        {
            write_new(path, schema)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error(name, "open failed"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(io_error(name, "read failed"))?;
        let loaded = load(name, &bytes)?;
        if let Some(damage) = &loaded.damage {
            cut(path, &file, &bytes, &loaded, damage)?;
        }
        let journal = Self {
            file,
            size: Arc::new(loaded.good.into()),
            torn: false,
            base: loaded.good,
            dirty: false,
            compaction: None,
            retry_at: 0,
            failure: None,
            lock,
        };
        Ok((journal, loaded.db))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.lock.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Whether the file still has its name.
    fn placed(&self) -> io::Result<Placed> {
        let mine = self.file.metadata()?;
        match fs::metadata(self.path()) {
            Ok(m) if (m.dev(), m.ino()) == (mine.dev(), mine.ino()) => Ok(Placed::Here),
            Ok(_) => Ok(Placed::Replaced),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Placed::Removed),
            Err(e) => Err(e),
        }
    }

    /// An error where the file has lost its name: what is written to it would be lost.
    fn check_place(&self) -> io::Result<()> {
        let path = self.path().display();
        match self.placed()? {
            Placed::Here => Ok(()),
            Placed::Removed => Err(io::Error::other(format!(
                "{path} was removed or renamed; compact the database to write it anew"
            ))),
            Placed::Replaced => Err(io::Error::other(format!(
                "{path} was replaced by another file; restart the server to read that one"
            ))),
        }
    }

    /// How the storage fares (`ovsdb-server/get-db-storage-status`).
    ///
    /// # Errors
    /// Why the next record would be lost, or why the last write or compaction failed.
    pub fn status(&self) -> Result<(), String> {
        self.check_place().map_err(|e| reason(&e))?;
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Keeps in mind how a write went.
    fn noted<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Result<T, E> {
        self.failure = result.as_ref().err().map(E::to_string);
        result
    }

    /// Adds a record; [`Journal::sync`] makes it durable.
    ///
    /// # Errors
    /// Then the file is as before.
    pub fn append(&mut self, json: &str) -> io::Result<()> {
        let result = self.add(json);
        self.noted(result)
    }

    fn add(&mut self, json: &str) -> io::Result<()> {
        // Once for all records that are synced together.
        if !self.dirty {
            self.check_place()?;
        }
        let size = self.size();
        if self.torn {
            self.file.set_len(size)?;
            self.torn = false;
        }
        let record = encode_record(json);
        if let Err(e) = self.file.write_all_at(record.as_bytes(), size) {
            // A part of it may be there.
            self.torn = self.file.set_len(size).is_err();
            return Err(e);
        }
        self.size
            .store(size + record.len() as u64, Ordering::Release);
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
        let size = self.size();
        self.compaction.is_none()
            && size > self.base + COMPACT_MIN_GROWTH
            && size > self.base * COMPACT_FACTOR
            && size >= self.retry_at
    }

    /// Begins to compact the file to the rows of `db`, which must be those that its records lead
    /// to. What is returned is to be [run](Compaction::run) on another thread, and its outcome
    /// given to [`Journal::finish_compaction`]. `None` while one is under way.
    ///
    /// # Errors
    /// The new file cannot be made.
    pub fn begin_compaction(
        &mut self,
        db: &Database,
        date: u64,
        comment: &str,
    ) -> Result<Option<Compaction>, JournalError> {
        if self.compaction.is_some() {
            return Ok(None);
        }
        // What fails here would fail with the next transaction, too.
        self.retry_at = self.size() + COMPACT_MIN_GROWTH;
        let old = self
            .file
            .try_clone()
            .map_err(io_error(self.path(), "dup failed"))?;
        let new = NewFile::create(beside(self.path(), ".new"), Some(&self.file));
        let new = self.noted(new)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        self.compaction = Some(cancelled.clone());
        Ok(Some(Compaction {
            snapshot: Snapshot::new(db, date, comment),
            new,
            old,
            from: self.size(),
            size: self.size.clone(),
            cancelled,
        }))
    }

    /// Puts the compacted file into the place of the old one. What was appended is then on disk,
    /// too.
    ///
    /// # Errors
    /// What went wrong, here or before; the old file is still in use then.
    pub fn finish_compaction(
        &mut self,
        outcome: Result<Compacted, JournalError>,
    ) -> Result<(), JournalError> {
        let cancelled = self.compaction.take().unwrap_or_default();
        let result = outcome.and_then(|done| self.finish(done, &cancelled));
        if cancelled.load(Ordering::Relaxed) {
            return result;
        }
        self.noted(result)
    }

    fn finish(&mut self, mut done: Compacted, cancelled: &AtomicBool) -> Result<(), JournalError> {
        compact::check(cancelled).map_err(io_error(self.path(), "compaction failed"))?;
        done.copy(self.size(), cancelled)?;
        let (size, base) = (done.size, done.base);
        self.adopt(done.new, size, base)
    }

    /// Replaces the file by one with the schema and the rows of `db`, which may be others than the
    /// journal led to, as after a conversion. A compaction under way is given up.
    ///
    /// # Errors
    /// Then the old file is still in use.
    pub fn replace(&mut self, db: &Database, date: u64, comment: &str) -> Result<(), JournalError> {
        self.cancel();
        let new = NewFile::create(beside(self.path(), ".tmp"), Some(&self.file))?;
        let size = new.write(&Snapshot::new(db, date, comment), &AtomicBool::new(false))?;
        self.adopt(new, size, size)
    }

    fn adopt(&mut self, new: NewFile, size: u64, base: u64) -> Result<(), JournalError> {
        let failed = io_error(self.path(), "stat failed");
        if self.placed().map_err(failed)? == Placed::Replaced {
            return Err(JournalError::Format(
                self.path().display().to_string(),
                "was replaced by another file, which is left alone".into(),
            ));
        }
        self.file = new.replace(self.path())?;
        self.size = Arc::new(size.into());
        self.base = base;
        self.retry_at = 0;
        self.dirty = false;
        self.torn = false;
        self.failure = None;
        Ok(())
    }

    fn cancel(&self) {
        if let Some(c) = &self.compaction {
            c.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What a file's name leads to.
#[derive(Debug, PartialEq, Eq)]
enum Placed {
    /// That file.
    Here,
    /// Nothing.
    Removed,
    /// Another file.
    Replaced,
}

/// Cuts a damaged tail off, and keeps it aside where it holds further records.
fn cut(
    path: &Path,
    file: &File,
    bytes: &[u8],
    loaded: &Loaded,
    damage: &RecordError,
) -> Result<(), JournalError> {
    let tail = &bytes[loaded.good as usize..];
    tracing::warn!(
        file = %path.display(),
        "{damage}: the {} bytes from offset {} on are cut off, {} transactions before them are good",
        tail.len(), loaded.good, loaded.records
    );
    let magic = record::MAGIC.as_bytes();
    let more = tail
        .windows(magic.len() + 1)
        .any(|w| w[0] == b'\n' && &w[1..] == magic);
    if more {
        let aside = beside(path, ".damaged");
        fs::write(&aside, tail).map_err(io_error(&aside, "write failed"))?;
        tracing::warn!(file = %aside.display(), "they hold further records and are kept here");
    }
    file.set_len(loaded.good)
        .and_then(|()| file.sync_all())
        .map_err(io_error(path, "truncate failed"))
}

#[cfg(test)]
mod tests;
