//! Looking out for a monitor's socket, so that a port that nobody connects to costs nothing while it waits.
//!
//! The directory is watched (inotify) from before the first attempt to connect: a socket that appears after it failed is told
//! of however long it takes. In a directory where much comes and goes a port looks at most once a [`REST`].

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;

/// Least time between two looks at what happened.
const REST: Duration = Duration::from_millis(50);

/// A watch on the directory of a socket.
pub(super) struct Lookout {
    events: OwnedFd,
    path: PathBuf,
    /// The directory is no more where it was.
    lost: bool,
}

impl Lookout {
    /// On the directory of `path`; none where there is no such directory, or no more watches are to be had.
    pub(super) fn new(path: &Path) -> Option<Lookout> {
        let directory = match path.parent()? {
            p if p == Path::new("") => Path::new("."),
            p => p,
        };
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, directory, flags).ok()?;
        Some(Lookout {
            events,
            path: path.to_owned(),
            lost: false,
        })
    }

    /// Whether the directory has gone, so that nothing will be told any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether there is nothing to connect to, and it will be told when there is.
    pub(super) fn is_sure_of_nothing(&self) -> bool {
        !self.lost
            && std::fs::symlink_metadata(&self.path)
                .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    /// Waits for the socket to appear, but no longer than `limit`; false if `stop` became readable.
    pub(super) fn wait(&mut self, stop: RawFd, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let ms = left.as_millis().min(i32::MAX as u128) as i32;
            let [events, stop_] = sys::poll([(self.events.as_raw_fd(), false), (stop, false)], ms)?;
            if stop_.read {
                return Ok(false);
            }
            if left.is_zero() || events.read && self.has_appeared() || self.lost {
                return Ok(true);
            }
            if events.read {
                let [stop_] = sys::poll([(stop, false)], REST.as_millis() as i32)?;
                if stop_.read {
                    return Ok(false);
                }
            }
        }
    }

    /// Reads what happened; whether something of the socket's name came.
    fn has_appeared(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut appeared = false;
        while let Ok(event) = reader.next() {
            let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
            self.lost |= event.events().intersects(gone);
            // After an overflow nobody knows.
            appeared |= event.events().contains(ReadFlags::QUEUE_OVERFLOW)
                || event.file_name().is_some_and(|n| {
                    Some(OsStr::from_bytes(n.to_bytes())) == self.path.file_name()
                });
        }
        appeared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_socket_that_appears_ends_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let stop = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let mut lookout = Lookout::new(&path).unwrap();
        assert!(lookout.is_sure_of_nothing());
        // Others do not matter, and what came before the wait is not missed.
        std::fs::write(directory.path().join("other"), "").unwrap();
        assert!(!lookout.has_appeared());
        let other = directory.path().join("t");
        let _listener = std::os::unix::net::UnixListener::bind(&other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(lookout.wait(stop.as_raw_fd(), LONG).unwrap());
        assert!(!lookout.is_sure_of_nothing());
        rustix::io::write(&stop, &1u64.to_ne_bytes()).unwrap();
        assert!(!lookout.wait(stop.as_raw_fd(), LONG).unwrap());
    }

    #[test]
    fn a_directory_that_goes_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("d");
        std::fs::create_dir(&inner).unwrap();
        let stop = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let mut lookout = Lookout::new(&inner.join("s")).unwrap();
        std::fs::remove_dir(&inner).unwrap();
        assert!(lookout.wait(stop.as_raw_fd(), LONG).unwrap());
        assert!(!lookout.is_sure_of_nothing());
        assert!(Lookout::new(&inner.join("s")).is_none());
    }
}
