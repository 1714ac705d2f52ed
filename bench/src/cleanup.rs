//! What must not be left behind, however the program ends: processes, mounts, private directories.
//!
//! Children are registered when they start and die with their owner ([`Process`]), with a signal to this program (a thread waits for
//! them), and, should this program be killed outright, with the thread that started them. All by their own numbers.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};

#[derive(Default)]
struct Left {
    processes: Vec<u32>,
    directories: BTreeMap<PathBuf, Kind>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Mount,
    Namespace,
}

static LEFT: Mutex<Option<Left>> = Mutex::new(None);

fn left(f: impl FnOnce(&mut Left)) {
    let mut guard: MutexGuard<'_, Option<Left>> = LEFT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    f(guard.get_or_insert_default());
}

/// A child process that ends with this value.
pub struct Process {
    /// For its pipes.
    pub child: Child,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(command: &mut Command) -> Result<Process> {
        // SAFETY: prctl is safe to call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        left(|l| l.processes.push(child.id()));
        Ok(Process { child })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send(self.id(), signal);
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let id = self.id();
        left(|l| l.processes.retain(|&p| p != id));
    }
}

fn send(process: u32, signal: i32) {
    // SAFETY: a plain call; the process is a child of ours that was not waited for.
    unsafe { libc::kill(process as i32, signal) };
}

/// A directory to be removed at the end.
pub fn directory(path: &Path) {
    left(|l| {
        l.directories.insert(path.to_owned(), Kind::Plain);
    });
}

/// A mount to be undone at the end.
pub fn mount(path: &Path) {
    left(|l| {
        l.directories.insert(path.to_owned(), Kind::Mount);
    });
}

/// A network namespace to be deleted at the end.
pub fn namespace(name: &str) {
    left(|l| {
        l.directories.insert(PathBuf::from(name), Kind::Namespace);
    });
}

/// It is gone already.
pub fn forget(path: &Path) {
    left(|l| {
        l.directories.remove(path);
    });
}

/// Ends and removes everything.
pub fn all() {
    let mut list = Left::default();
    left(|l| list = std::mem::take(l));
    for &p in list.processes.iter().rev() {
        send(p, libc::SIGKILL);
        // SAFETY: waits for a child of ours; another thread doing so at the same time only makes this fail.
        unsafe { libc::waitpid(p as i32, std::ptr::null_mut(), 0) };
    }
    for (d, kind) in list.directories {
        match kind {
            Kind::Mount => {
                let _ = Command::new("umount").arg(&d).status();
                let _ = std::fs::remove_dir(&d);
            }
            Kind::Namespace => {
                let _ = Command::new("ip")
                    .args(["netns", "del"])
                    .arg(&d)
                    .stderr(std::process::Stdio::null())
                    .status();
            }
            Kind::Plain => {
                let _ = std::fs::remove_dir_all(&d);
            }
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP clean up before they end the program. To be called before any thread is started.
pub fn on_signals() {
    // SAFETY: the set lives on the stack; children start with an empty mask, as the standard library sees to.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for s in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut set, s);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both live through the call.
        if unsafe { libc::sigwait(&set, &mut signal) } == 0 {
            eprintln!("ended by signal {signal}: cleaning up");
            all();
            std::process::exit(128 + signal);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_its_owner() {
        let p = Process::start(Command::new("sleep").arg("1000")).expect("sleep");
        let stat = format!("/proc/{}/stat", p.id());
        assert!(Path::new(&stat).exists());
        drop(p);
        assert!(!Path::new(&stat).exists());
    }
}
