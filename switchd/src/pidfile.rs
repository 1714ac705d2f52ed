//! Pid files: how scripts and `ovs-appctl` find a daemon and tell that it lives.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

/// A pid file of this process: locked as long as it is held, which is how others tell that the
/// process lives; removed on drop.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Writes this process's id to `path`. With `overwrite` even if another process holds the file.
    ///
    /// # Errors
    /// Another process holds it, or it cannot be written; the message names the file.
    pub fn create(path: &Path, overwrite: bool) -> io::Result<PidFile> {
        let lock = |f: &File| fcntl_lock(f, FlockOperation::NonBlockingLockExclusive);
        if !overwrite
            && let Ok(old) = OpenOptions::new().read(true).write(true).open(path)
            && lock(&old).is_err()
        {
            let pid = std::fs::read_to_string(path).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{}: already running as pid {}, aborting",
                path.display(),
                pid.trim()
            )));
        }
        // Written aside and moved into place, so that nobody reads half of it.
        let pid = std::process::id();
        let aside = path.with_extension(format!("pid.tmp{pid}"));
        let make = || -> io::Result<File> {
            let mut file = File::create(&aside)?;
            file.write_all(format!("{pid}\n").as_bytes())?;
            lock(&file)?;
            std::fs::rename(&aside, path)?;
            Ok(file)
        };
        let locked = make().map_err(|e| {
            let text = format!("cannot write pid file {}: {e}", path.display());
            io::Error::new(e.kind(), text)
        })?;
        Ok(PidFile {
            path: path.to_path_buf(),
            _locked: locked,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        std::fs::write(&path, "1\n").unwrap(); // left behind: nobody holds its lock
        let file = PidFile::create(&path, false).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        drop(file);
        assert!(!path.exists());
        let e = PidFile::create(&dir.path().join("no/x.pid"), false).unwrap_err();
        assert!(e.to_string().contains("no/x.pid"), "{e}");
    }
}
