//! Compaction: the file written anew as the schema and one record with all rows.
//!
//! It happens beside the serving of clients. [`Journal::begin_compaction`] takes a [`Snapshot`],
//! which shares the rows with the database; [`Compaction::run`], on any thread, writes it to
//! `<file>.new` and copies behind it what was appended to the journal meanwhile;
//! [`Journal::finish_compaction`] copies the little that has come since, makes the new file durable
//! and renames it over the old one. Until the rename every record is in the old file, after it
//! every record is in the new one, so a crash at any point loses nothing.
//!
//! The serving thread pays for one pointer and one count per row at the beginning, and one
//! `fsync` and at most about [`CATCH_UP`] bytes at the end. Nothing is held in memory but the
//! rows' old versions.
//!
//! [`Journal::begin_compaction`]: super::Journal::begin_compaction
//! [`Journal::finish_compaction`]: super::Journal::finish_compaction

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha1::{Digest, Sha1};

use super::record::{MAGIC, encode_record, hex};
use super::{JournalError, io_error};
use crate::database::{Database, DbRow};
use crate::schema::{DatabaseSchema, TableSchema};
use crate::value::{Datum, write_json_string};

/// What may be left for [`Journal::finish_compaction`](super::Journal::finish_compaction) to copy,
/// in bytes, unless the journal grows faster than it can be copied.
pub const CATCH_UP: u64 = 256 << 10;
/// How often [`Compaction::run`] tries to get that far.
const CATCH_UP_ROUNDS: usize = 16;
/// Bytes written or copied at a time.
const CHUNK: usize = 256 << 10;
/// Digits of a length that is written before it is known, with zeros in front.
const LENGTH_DIGITS: usize = 15;
/// Bytes of such a record's header: magic, length, space, SHA-1, line end.
const HEADER: u64 = (MAGIC.len() + LENGTH_DIGITS + 1 + 40 + 1) as u64;

/// All rows at one moment.
#[derive(Debug)]
pub struct Snapshot {
    schema: Arc<DatabaseSchema>,
    tables: Vec<SnapshotTable>,
    /// Milliseconds since 1970, for the record's `_date`.
    date: u64,
    comment: String,
}

#[derive(Debug)]
struct SnapshotTable {
    schema: Arc<TableSchema>,
    defaults: Vec<Datum>,
    rows: Vec<Arc<DbRow>>,
}

impl SnapshotTable {
    /// One row as a member of the table's object: the columns that differ from their defaults.
    fn write_row(&self, row: &DbRow, out: &mut String) {
        use std::fmt::Write;
        _ = write!(out, "\"{}\":{{", row.uuid);
        let mut first = true;
        for c in self.schema.column_list.iter().filter(|c| !c.ephemeral) {
            if row.cells[c.index] != self.defaults[c.index] {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                _ = write!(out, "\"{}\":", c.name);
                row.cells[c.index].write_json(out);
            }
        }
        out.push('}');
    }
}

impl Snapshot {
    /// Of `db` as it is, with the record's `_date` and `_comment`.
    pub fn new(db: &Database, date: u64, comment: &str) -> Self {
        let tables = db
            .tables
            .iter()
            .filter(|t| !t.rows.is_empty())
            .map(|t| SnapshotTable {
                schema: t.schema.clone(),
                defaults: t.defaults.clone(),
                rows: t.rows.values().cloned().collect(),
            })
            .collect();
        Self {
            schema: db.schema().clone(),
            tables,
            date,
            comment: comment.into(),
        }
    }

    /// Writes the file, and tells its size. The rows' record is written as it is made; its length
    /// and check sum are filled in at the end, so that memory for it is not needed.
    fn write(&self, file: &File, cancelled: &AtomicBool) -> io::Result<u64> {
        check(cancelled)?;
        let schema = encode_record(&self.schema.to_json().to_string());
        file.write_all_at(schema.as_bytes(), 0)?;
        let begin = schema.len() as u64;
        let mut body = Body {
            file,
            end: begin + HEADER,
            sha: Sha1::new(),
        };
        let mut text = format!("{{\"_date\":{},\"_comment\":", self.date);
        write_json_string(&self.comment, &mut text);
        for t in &self.tables {
            text.push_str(",\"");
            text.push_str(&t.schema.name);
            text.push_str("\":");
            for (i, row) in t.rows.iter().enumerate() {
                text.push(if i == 0 { '{' } else { ',' });
                t.write_row(row, &mut text);
                if text.len() >= CHUNK {
                    body.write(&text)?;
                    text.clear();
                    check(cancelled)?;
                }
            }
            text.push('}');
        }
        text.push_str("}\n");
        body.write(&text)?;
        let Body { end, sha, .. } = body;
        let length = end - begin - HEADER;
        let header = format!("{MAGIC}{length:0LENGTH_DIGITS$} {}\n", hex(sha));
        file.write_all_at(header.as_bytes(), begin)?;
        Ok(end)
    }
}

/// Where the JSON of a record goes.
struct Body<'a> {
    file: &'a File,
    end: u64,
    sha: Sha1,
}

impl Body<'_> {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.sha.update(text.as_bytes());
        self.file.write_all_at(text.as_bytes(), self.end)?;
        self.end += text.len() as u64;
        Ok(())
    }
}

pub(super) fn check(cancelled: &AtomicBool) -> io::Result<()> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(io::Error::new(
            ErrorKind::Interrupted,
            "the database was closed or converted meanwhile",
        ));
    }
    Ok(())
}

/// A file that disappears unless it is put into the place of another.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) file: File,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Makes `path` beside the file it is to replace, with the permissions of that if there is
    /// one; what lies there is left over from a crash.
    pub(super) fn create(path: PathBuf, old: Option<&File>) -> Result<Self, JournalError> {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(io_error(&path, "remove failed")(e));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)
            .map_err(io_error(&path, "create failed"))?;
        let new = Self {
            file,
            path,
            kept: false,
        };
        if let Some(Ok(meta)) = old.map(File::metadata) {
            // Only a privileged process may keep another owner.
            _ = std::os::unix::fs::fchown(&new.file, Some(meta.uid()), Some(meta.gid()));
            _ = new.file.set_permissions(meta.permissions());
        }
        Ok(new)
    }

    /// Puts it, durable, into the place of `path`.
    pub(super) fn replace(mut self, path: &Path) -> Result<File, JournalError> {
        self.file
            .sync_all()
            .map_err(io_error(&self.path, "fsync failed"))?;
        fs::rename(&self.path, path).map_err(io_error(path, "rename failed"))?;
        self.kept = true;
        super::sync_dir(path);
        self.file.try_clone().map_err(io_error(path, "dup failed"))
    }

    pub(super) fn write(
        &self,
        snapshot: &Snapshot,
        cancelled: &AtomicBool,
    ) -> Result<u64, JournalError> {
        snapshot
            .write(&self.file, cancelled)
            .map_err(io_error(&self.path, "write failed"))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let mine = || {
            let (a, b) = (self.file.metadata().ok()?, fs::metadata(&self.path).ok()?);
            Some((a.dev(), a.ino()) == (b.dev(), b.ino()))
        };
        if !self.kept && mine() == Some(true) {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// A compaction that is to be [run](Compaction::run).
#[derive(Debug)]
pub struct Compaction {
    pub(super) snapshot: Snapshot,
    pub(super) new: NewFile,
    /// The journal's file, and where the first record is that the snapshot does not have.
    pub(super) old: File,
    pub(super) from: u64,
    /// The journal's size as it grows.
    pub(super) size: Arc<AtomicU64>,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Compaction {
    /// Writes the new file, beside the serving of clients.
    ///
    /// # Errors
    /// What the system says; the new file is gone then. The journal must be told in any case.
    pub fn run(self) -> Result<Compacted, JournalError> {
        let base = self.new.write(&self.snapshot, &self.cancelled)?;
        // The rows' old versions need not be kept any longer.
        drop(self.snapshot);
        let mut done = Compacted {
            new: self.new,
            old: self.old,
            size: base,
            base,
            copied: self.from,
        };
        for _ in 0..CATCH_UP_ROUNDS {
            let size = self.size.load(Ordering::Acquire);
            if size - done.copied <= CATCH_UP {
                break;
            }
            done.copy(size, &self.cancelled)?;
        }
        // So that little is left for the last sync, on which clients wait.
        done.new
            .file
            .sync_data()
            .map_err(io_error(&done.new.path, "fsync failed"))?;
        Ok(done)
    }
}

/// A compaction that has [run](Compaction::run).
#[derive(Debug)]
pub struct Compacted {
    pub(super) new: NewFile,
    old: File,
    /// Of the new file.
    pub(super) size: u64,
    /// Of the new file without what was appended meanwhile.
    pub(super) base: u64,
    /// How much of the old file is in the new one.
    copied: u64,
}

impl Compacted {
    /// Copies the records of the old file up to `end`.
    pub(super) fn copy(&mut self, end: u64, cancelled: &AtomicBool) -> Result<(), JournalError> {
        let mut buf = vec![0; CHUNK.min((end - self.copied) as usize)];
        while self.copied < end {
            let n = buf.len().min((end - self.copied) as usize);
            check(cancelled)
                .and_then(|()| self.old.read_exact_at(&mut buf[..n], self.copied))
                .and_then(|()| self.new.file.write_all_at(&buf[..n], self.size))
                .map_err(io_error(&self.new.path, "write failed"))?;
            self.copied += n as u64;
            self.size += n as u64;
        }
        Ok(())
    }
}
