//! Network namespaces of the test's own.

use crate::process::{Ran, output, run};
use std::ffi::OsStr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A short name nobody else on this machine has: fits in an interface name with a prefix of 2.
pub fn unique() -> String {
    format!(
        "{:x}x{:x}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

/// A network namespace; removed when dropped.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes one, with loopback up.
    pub fn new() -> Namespace {
        let name = format!("weir-{}", unique());
        run("ip", ["netns", "add", &name]).ok();
        let ns = Namespace { name };
        ns.run(["ip", "link", "set", "lo", "up"]).ok();
        ns
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.name]).arg(program);
        c
    }

    /// Runs a command in it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        let mut words = words.into_iter();
        let mut c = self.command(words.next().expect("a program"));
        c.args(words);
        output(c)
    }

    /// Runs a shell line in it to its end.
    pub fn shell(&self, line: &str) -> Ran {
        self.run(["sh", "-c", line])
    }

    /// A veth pair: `here` in this namespace, `there` in the other, both up.
    pub fn veth(&self, here: &str, other: &Namespace, there: &str) {
        self.run([
            "ip",
            "link",
            "add",
            here,
            "type",
            "veth",
            "peer",
            "name",
            there,
            "netns",
            &other.name,
        ])
        .ok();
        self.run(["ip", "link", "set", here, "up"]).ok();
        other.run(["ip", "link", "set", there, "up"]).ok();
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run("ip", ["netns", "del", &self.name]);
    }
}

impl Namespace {
    /// Runs `work` on a thread of its own whose sockets belong to this namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file =
            std::fs::File::open(format!("/run/netns/{}", self.name)).expect("namespace file");
        std::thread::scope(|s| {
            let inside = s.spawn(move || {
                // SAFETY: the descriptor is open, and only this thread, which ends here, changes its namespace.
                let rc = unsafe {
                    libc::setns(std::os::fd::AsRawFd::as_raw_fd(&file), libc::CLONE_NEWNET)
                };
                assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            inside
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }
}
