//! What daemons share: going to the background, the pid file, restarting after a crash, and logs
//! in Open vSwitch's format.
//!
//! Rust programs cannot safely fork. To go to the background the program therefore starts itself
//! once more, in a session of its own (`setsid`), with one end of a socket pair as standard input;
//! the child writes a byte into it when it is ready, and the first process exits then. If the
//! child ends before, its exit code is passed on, so that a service script sees the failure.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_subscriber::layer::SubscriberExt;

use super::options::{Opt, Takes, opt};
use crate::paths;

/// First argument of a process that is in the background already.
const CHILD: &str = "--weir-in-background";
/// First argument of a process that another one watches over.
const WORKER: &str = "--weir-watched-over";

/// The options of daemons and of logging.
pub const OPTIONS: &[Opt] = &[
    opt("detach", None, Takes::Nothing),
    opt("monitor", None, Takes::Nothing),
    opt("no-chdir", None, Takes::Nothing),
    opt("pidfile", None, Takes::Maybe),
    opt("overwrite-pidfile", None, Takes::Nothing),
    opt("log-file", None, Takes::Maybe),
    opt("verbose", Some('v'), Takes::Maybe),
];

/// A daemon's way of running.
#[derive(Debug, Default)]
pub struct Daemon {
    program: &'static str,
    detach: bool,
    monitor: bool,
    no_chdir: bool,
    pidfile: Option<PathBuf>,
    overwrite_pidfile: bool,
    log_file: Option<PathBuf>,
    levels: Vec<Rule>,
    in_background: bool,
    watched_over: bool,
    keep_stdout: bool,
    pid_held: Option<(PathBuf, File)>,
}

/// One `-v` rule.
#[derive(Debug, Clone)]
struct Rule {
    module: Option<String>,
    facility: Option<Facility>,
    level: Option<tracing::Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Facility {
    Console,
    File,
}

/// A time in milliseconds since 1970 as `YYYY-MM-DD`, `HH:MM:SS` and milliseconds, in UTC.
pub fn utc(ms: u64) -> (String, String, u64) {
    let (days, rest) = ((ms / 86_400_000) as i64, ms % 86_400_000);
    // Days to date by the calendar's 400-year cycle, years beginning in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let d = doy - (153 * mp + 2) / 5 + 1;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    let y = yoe + era * 400 + i64::from(m <= 2);
    let s = rest / 1000;
    (
        format!("{y:04}-{m:02}-{d:02}"),
        format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
        rest % 1000,
    )
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

impl Daemon {
    /// For the program of that name; strips our own marks from `args`.
    pub fn new(program: &'static str, args: &mut Vec<OsString>) -> Self {
        let mut d = Self::default();
        d.program = program;
        while let Some(first) = args.first() {
            if first == CHILD {
                d.in_background = true;
            } else if first == WORKER {
                d.watched_over = true;
            } else {
                break;
            }
            args.remove(0);
        }
        d
    }

    /// Standard output stays open in the background (`ovsdb-client monitor --detach`).
    pub fn keep_stdout(&mut self) {
        self.keep_stdout = true;
    }

    /// True if `--detach` was given.
    pub fn detaches(&self) -> bool {
        self.detach
    }

    /// Takes one option; false if it is none of [`OPTIONS`].
    ///
    /// # Errors
    /// A `-v` that cannot be understood.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        let absolute = |v: Option<&str>, dir: PathBuf, default: String| {
            let path = v.map_or_else(|| PathBuf::from(default), PathBuf::from);
            // Relative names are meant within the run or log directory, as in OVS.
            std::path::absolute(dir.join(path)).map_err(|e| e.to_string())
        };
        match name {
            "detach" => self.detach = true,
            "monitor" => self.monitor = true,
            "no-chdir" => self.no_chdir = true,
            "overwrite-pidfile" => self.overwrite_pidfile = true,
            "pidfile" => {
                let name = format!("{}.pid", self.program);
                self.pidfile = Some(absolute(value, paths::run_dir(None), name)?);
            }
            "log-file" => {
                let name = format!("{}.log", self.program);
                self.log_file = Some(absolute(value, paths::log_dir(), name)?);
            }
            "verbose" => self.verbose(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn verbose(&mut self, value: Option<&str>) -> Result<(), String> {
        let mut rule = Rule {
            module: None,
            facility: None,
            level: Some(tracing::Level::TRACE),
        };
        let mut syslog = false;
        for word in value.unwrap_or_default().split([':', ' ', ',']) {
            match word.to_ascii_lowercase().as_str() {
                "" | "any" => {}
                "console" => rule.facility = Some(Facility::Console),
                "file" => rule.facility = Some(Facility::File),
                "syslog" => syslog = true,
                "off" => rule.level = None,
                "emer" | "err" => rule.level = Some(tracing::Level::ERROR),
                "warn" => rule.level = Some(tracing::Level::WARN),
                "info" => rule.level = Some(tracing::Level::INFO),
                "dbg" => rule.level = Some(tracing::Level::TRACE),
                module
                    if module
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
                {
                    rule.module = Some(module.to_owned());
                }
                other => {
                    return Err(format!(
                        "\"{other}\" is no module, facility (console, file, syslog) or level (off, emer, err, warn, info, dbg)"
                    ));
                }
            }
        }
        // Nothing is ever sent to syslog, so that any level for it is kept to.
        if !syslog {
            self.levels.push(rule);
        }
        Ok(())
    }

    /// Goes to the background if asked to, begins to log and takes the pid file. `tool` and `args`
    /// are this process's own. With `Some`, this process is done.
    ///
    /// # Errors
    /// Another one is running, or what the system says.
    pub fn start(&mut self, tool: &str, args: &[OsString]) -> Result<Option<ExitCode>, String> {
        if self.detach && !self.in_background {
            return self.into_background(tool, args).map(Some);
        }
        if self.in_background && !self.watched_over {
            // Fails only in a process that leads a session already.
            _ = rustix::process::setsid();
        }
        if self.monitor && !self.watched_over {
            return self.watch_over(tool, args).map(Some);
        }
        self.init_log()?;
        self.take_pidfile()?;
        Ok(None)
    }

    fn again(&self, tool: &str, args: &[OsString], mark: &[&str]) -> Result<Command, String> {
        let exe = std::env::current_exe().map_err(|e| format!("finding this program: {e}"))?;
        let mut c = Command::new(exe);
        c.arg(tool).args(mark).args(args);
        Ok(c)
    }

    fn into_background(&self, tool: &str, args: &[OsString]) -> Result<ExitCode, String> {
        let fail = |e: std::io::Error| format!("going to the background: {e}");
        let (mut ours, theirs) = UnixStream::pair().map_err(fail)?;
        let mut child = self
            .again(tool, args, &[CHILD])?
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(fail)?;
        let mut byte = [0];
        // The Command, and with it our copy of the other end, is gone: the end of the child is
        // the end of the stream.
        match ours.read(&mut byte) {
            Ok(1) => Ok(ExitCode::SUCCESS),
            _ => {
                let status = child.wait().map_err(fail)?;
                Ok(ExitCode::from(
                    u8::try_from(status.code().unwrap_or(1)).unwrap_or(1).max(1),
                ))
            }
        }
    }

    /// Starts the program again whenever it crashes.
    fn watch_over(&self, tool: &str, args: &[OsString]) -> Result<ExitCode, String> {
        /// ILL, ABRT, BUS, FPE, SEGV, PIPE, ALRM, XCPU, XFSZ: no one asked for the end.
        const CRASHES: [i32; 9] = [4, 6, 7, 8, 11, 13, 14, 24, 25];
        let marks: &[&str] = if self.in_background {
            &[CHILD, WORKER]
        } else {
            &[WORKER]
        };
        let mut first = true;
        loop {
            let mut c = self.again(tool, args, marks)?;
            if !first {
                // The waiting first process has been told already.
                c.stdin(Stdio::null());
            }
            let mut child = c.spawn().map_err(|e| format!("starting again: {e}"))?;
            if first && self.in_background {
                release_stdin();
            }
            let status = child.wait().map_err(|e| e.to_string())?;
            match status.signal() {
                Some(s) if CRASHES.contains(&s) => {
                    eprintln!("{}: killed by signal {s}, starting again", self.program);
                    first = false;
                    // A program that crashes at once must not take a whole processor.
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
                _ => {
                    let code = status.code().unwrap_or(0);
                    return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
                }
            }
        }
    }

    fn take_pidfile(&mut self) -> Result<(), String> {
        let Some(path) = self.pidfile.clone() else {
            return Ok(());
        };
        let fail = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::fcntl_lock(&file, lock).is_err() && !self.overwrite_pidfile {
            let mut pid = String::new();
            _ = file.read_to_string(&mut pid);
            return Err(format!(
                "{}: already running as pid {}, aborting",
                path.display(),
                pid.trim()
            ));
        }
        file.set_len(0).map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        self.pid_held = Some((path, file));
        Ok(())
    }

    /// Tells that the daemon works: the process that waits in the foreground may end.
    pub fn ready(&self) {
        if !self.no_chdir && self.in_background {
            _ = std::env::set_current_dir("/");
        }
        if self.in_background {
            _ = rustix::io::write(rustix::stdio::stdin(), b"r");
            release_stdin();
            if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
                if !self.keep_stdout {
                    _ = rustix::stdio::dup2_stdout(&null);
                }
                _ = rustix::stdio::dup2_stderr(&null);
            }
        }
    }

    fn init_log(&self) -> Result<(), String> {
        let file = match &self.log_file {
            None => None,
            Some(path) => Some(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|e| format!("opening log file {}: {e}", path.display()))?,
            ),
        };
        let layer = OvsLog {
            rules: self.levels.clone(),
            file: file.map(Mutex::new),
            lines: AtomicU64::new(0),
        };
        // A second logger in one process (tests) is no reason to stop.
        _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.pid_held {
            _ = std::fs::remove_file(path);
        }
    }
}

fn release_stdin() {
    if let Ok(null) = File::open("/dev/null") {
        _ = rustix::stdio::dup2_stdin(null);
    }
}

/// Writes events as OVS does: `TIME|NUMBER|MODULE|LEVEL|TEXT`.
struct OvsLog {
    rules: Vec<Rule>,
    file: Option<Mutex<File>>,
    lines: AtomicU64,
}

impl OvsLog {
    fn wants(&self, facility: Facility, module: &str, level: tracing::Level) -> bool {
        let mut most = Some(tracing::Level::INFO);
        for r in &self.rules {
            if r.module.as_deref().is_none_or(|m| m == module)
                && r.facility.is_none_or(|f| f == facility)
            {
                most = r.level;
            }
        }
        most.is_some_and(|m| level <= m)
    }
}

struct Words {
    message: String,
    fields: String,
}

impl tracing::field::Visit for Words {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            _ = write!(self.message, "{value:?}");
        } else {
            _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        _ = write!(self.fields, " {}={value}", field.name());
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for OvsLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let meta = event.metadata();
        let module = meta.target().rsplit("::").next().unwrap_or_default();
        let level = *meta.level();
        let console = self.wants(Facility::Console, module, level);
        let file = self
            .file
            .as_ref()
            .filter(|_| self.wants(Facility::File, module, level));
        if !console && file.is_none() {
            return;
        }
        let mut words = Words {
            message: String::new(),
            fields: String::new(),
        };
        event.record(&mut words);
        let name = match level {
            tracing::Level::ERROR => "ERR",
            tracing::Level::WARN => "WARN",
            tracing::Level::INFO => "INFO",
            _ => "DBG",
        };
        let n = self.lines.fetch_add(1, Ordering::Relaxed) + 1;
        let (day, time, ms) = utc(now_ms());
        let tail = format!(
            "Z|{n:05}|{module}|{name}|{}{}\n",
            words.message, words.fields
        );
        if console {
            _ = std::io::stderr().write_all(format!("{day}T{time}{tail}").as_bytes());
        }
        if let Some(file) = file {
            let mut f = file
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            _ = f.write_all(format!("{day}T{time}.{ms:03}{tail}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0).0, "1970-01-01");
        assert_eq!(utc(951_782_400_000).0, "2000-02-29");
        let (d, t, ms) = utc(1_795_220_692_516);
        assert_eq!(
            (d.as_str(), t.as_str(), ms),
            ("2026-11-21", "00:24:52", 516)
        );
    }

    #[test]
    fn verbosity_rules_apply_in_order() {
        let mut d = Daemon::default();
        for v in ["console:off", "server:dbg", "file:warn"] {
            d.set("verbose", Some(v)).unwrap();
        }
        let log = OvsLog {
            rules: d.levels.clone(),
            file: None,
            lines: AtomicU64::new(0),
        };
        use tracing::Level;
        assert!(!log.wants(Facility::Console, "engine", Level::ERROR));
        assert!(log.wants(Facility::Console, "server", Level::DEBUG));
        assert!(!log.wants(Facility::File, "server", Level::INFO));
        assert!(d.set("verbose", Some("a-b")).is_err());
    }
}
