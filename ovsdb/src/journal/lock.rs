//! Who may write a database file, and which file a name means.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{JournalError, io_error};

/// Symbolic links followed from one to the next; more are a circle.
const LINKS_MAX: usize = 40;

/// The file that `path` leads to, which need not exist. Compaction puts a new file into its
/// place, and must not put it into the place of a link.
pub(super) fn follow_symlinks(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        let Ok(to) = fs::read_link(&path) else {
            break;
        };
        path = match path.parent() {
            Some(dir) => dir.join(to),
            None => to,
        };
    }
    path
}

/// The lock on a database file, held as long as this lives: the POSIX record lock on
/// `.<file>.~lock~` that Open vSwitch's server takes, and an `flock` on the same, as record locks
/// do not tell apart two servers within one process.
#[derive(Debug)]
pub struct Lock {
    /// The database file, links followed.
    pub(super) path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks the database `path` (ovsdb-server(1): one server per file).
    ///
    /// # Errors
    /// [`JournalError::Locked`], or what the system says.
    pub fn take(path: &Path) -> Result<Self, JournalError> {
        let real = follow_symlinks(path);
        let mut name = OsString::from(".");
        name.push(real.file_name().unwrap_or_default());
        name.push(".~lock~");
        let failed = |e: io::Error| io_error(path, "failed to lock lockfile")(e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(real.with_file_name(name))
            .map_err(failed)?;
        let busy = || JournalError::Locked(path.display().to_string());
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(busy()),
            Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: real,
                _file: file,
            }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(busy()),
            Err(e) => Err(failed(e.into())),
        }
    }
}
