//! What the daemons have in common: detaching, pid files, logs, signals.
//!
//! Going into the background needs no `fork` here: the program starts itself once more with the same
//! arguments, a mark in its environment ([`STAGE`]) and one end of a pair of sockets as standard input.
//! The first process waits until the second says there that it serves ([`Started::ready`]) and only
//! then ends, so that a script may go on right after.
//! With `--monitor` the second process only watches over a third, and starts it again if it crashes.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use switchd::PidFile;

use crate::getopt::{Spec, Takes};
use crate::paths;

/// Environment variable that tells a process started by itself which part it plays.
const STAGE: &str = "WEIR_DAEMON_STAGE";
/// The mark of the process that watches over the daemon.
const MONITOR: &str = "monitor";
/// The mark of the daemon proper.
const WORKER: &str = "worker";
/// What the daemon writes to its starter when it serves.
const READY: &[u8] = b"ready\n";
/// Least time between two starts of a daemon that crashes.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// The options that every daemon has.
pub const OPTIONS: &[Spec] = &[
    ("detach", None, Takes::Nothing),
    ("no-chdir", None, Takes::Nothing),
    ("pidfile", None, Takes::Maybe),
    ("overwrite-pidfile", None, Takes::Nothing),
    ("monitor", None, Takes::Nothing),
    ("no-self-confinement", None, Takes::Nothing),
    ("user", None, Takes::Value),
    ("verbose", Some('v'), Takes::Maybe),
    ("log-file", None, Takes::Maybe),
    ("syslog-method", None, Takes::Value),
    ("syslog-target", None, Takes::Value),
    ("unixctl", None, Takes::Value),
    ("help", Some('h'), Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
];

/// The lines of `--help` about [`OPTIONS`].
pub const HELP: &str = "\
Daemon options:
  --detach                  go into the background once serving
  --no-chdir                do not change to / then
  --pidfile[=FILE]          write the process id to FILE (default: RUNDIR/PROGRAM.pid)
  --overwrite-pidfile       even if another process holds it
  --monitor                 start the daemon again if it crashes
  --unixctl=SOCKET          control socket (default: RUNDIR/PROGRAM.PID.ctl)
  -v, --verbose[=SPEC]      log levels, as MODULE:DESTINATION:LEVEL
  --log-file[=FILE]         log to FILE (default: LOGDIR/PROGRAM.log)
  -h, --help                this text
  -V, --version             the version
";

/// What those options say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the program, as in `PROGRAM.pid`.
    pub program: &'static str,
    /// Run directory, for the pid file.
    pub run_dir: PathBuf,
    /// Go into the background.
    pub detach: bool,
    /// Stay in the working directory.
    pub no_chdir: bool,
    /// Standard output and error stay open in the background.
    pub keep_output: bool,
    /// Watch over the daemon.
    pub monitor: bool,
    /// Where to write the process id.
    pub pidfile: Option<PathBuf>,
    /// Take the pid file over from a living process.
    pub overwrite_pidfile: bool,
    /// Where to log to, besides console and syslog.
    pub log_file: Option<PathBuf>,
    /// `-v` specifications in the order given.
    pub levels: Vec<String>,
    /// Control socket, if not the usual one; `none` for none.
    pub unixctl: Option<PathBuf>,
}

impl Settings {
    /// A daemon in the foreground, without pid file or log file.
    pub fn new(program: &'static str, run_dir: PathBuf) -> Settings {
        Settings {
            program,
            run_dir,
            detach: false,
            no_chdir: false,
            keep_output: false,
            monitor: false,
            pidfile: None,
            overwrite_pidfile: false,
            log_file: None,
            levels: Vec::new(),
            unixctl: None,
        }
    }

    /// Takes one of [`OPTIONS`]; false if it is none of those handled here.
    ///
    /// # Errors
    /// The option is known but cannot be done.
    pub fn accept(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match name {
            "detach" => self.detach = true,
            "no-chdir" => self.no_chdir = true,
            "monitor" => self.monitor = true,
            "overwrite-pidfile" => self.overwrite_pidfile = true,
            // There is no confinement of paths to lift.
            "no-self-confinement" => {}
            "pidfile" => {
                let default = format!("{}.pid", self.program);
                self.pidfile = Some(in_dir(self.run_dir.clone(), value, default));
            }
            "log-file" => {
                let default = format!("{}.log", self.program);
                self.log_file = Some(in_dir(paths::log_dir(), value, default));
            }
            "unixctl" => {
                let dir = self.run_dir.clone();
                self.unixctl = value.map(|v| if v == "none" { v.into() } else { dir.join(v) });
            }
            "verbose" => self.levels.push(value.unwrap_or("dbg").to_string()),
            "user" => {
                return Err("--user is not supported: start the program as that user".into());
            }
            "syslog-method" | "syslog-target" => check_syslog(name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Starts the log as the options say.
    ///
    /// # Errors
    /// A level that is none, or a log file that cannot be written.
    pub fn start_log(&self) -> anyhow::Result<Arc<switchd::Vlog>> {
        let log = switchd::Vlog::new(self.program);
        for spec in &self.levels {
            log.set(spec)
                .map_err(|e| anyhow::anyhow!("-v{spec}: {e}"))?;
        }
        log.install();
        if let Some(path) = &self.log_file {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make {}", dir.display()))?;
            }
            log.open_file(path)
                .with_context(|| format!("cannot write log file {}", path.display()))?;
        }
        Ok(log)
    }

    /// Detaches if asked to. In the process that is to do the work this returns; in those that only
    /// start or watch it, `Err` with their exit code.
    pub fn start(&self) -> Result<Started, ExitCode> {
        let stage = std::env::var(STAGE).unwrap_or_default();
        let started = match (self.detach, self.monitor, stage.as_str()) {
            (true, true, "") => return Err(self.launch(MONITOR)),
            (true, false, "") => return Err(self.launch(WORKER)),
            (_, true, "" | MONITOR) => return Err(self.watch(stage == MONITOR)),
            _ => self.settle(stage == WORKER),
        };
        started.map_err(|e| {
            eprintln!("{}: {e:#}", self.program);
            ExitCode::FAILURE
        })
    }

    /// This program with its arguments once more, in the given part.
    fn again(&self, stage: &str) -> std::io::Result<Command> {
        let mut args = std::env::args_os();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0(args.next().unwrap_or_else(|| OsString::from("weir")));
        command.args(args).env(STAGE, stage);
        Ok(command)
    }

    /// Starts the process that goes to the background, and waits until it serves or fails.
    fn launch(&self, stage: &str) -> ExitCode {
        let attempt = || -> anyhow::Result<ExitCode> {
            let (mut ours, theirs) = UnixStream::pair()?;
            // The command holds our copy of the other end: it must go for the stream to end with
            // the new process.
            let mut child = self
                .again(stage)?
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .spawn()?;
            let mut said = [0; READY.len()];
            match ours.read_exact(&mut said) {
                Ok(()) if said == *READY => Ok(ExitCode::SUCCESS),
                _ => match child.wait()?.code() {
                    Some(code) if code != 0 => Ok(ExitCode::from(code.clamp(1, 255) as u8)),
                    _ => bail!("the daemon ended before it served"),
                },
            }
        };
        attempt().unwrap_or_else(|e| {
            eprintln!("{}: could not detach: {e:#}", self.program);
            ExitCode::FAILURE
        })
    }

    /// Runs the daemon as a child, and again when it crashes.
    fn watch(&self, detached: bool) -> ExitCode {
        let attempt = || -> anyhow::Result<ExitCode> {
            if detached {
                rustix::process::setsid().context("setsid")?;
            }
            loop {
                let start = Instant::now();
                let mut child = self.again(WORKER)?.spawn()?;
                let status = child.wait()?;
                // Panics end with code 101; the signals are those of a fault.
                let crashed = matches!(status.code(), Some(101))
                    || matches!(
                        status.signal(),
                        Some(3 | 4 | 6 | 7 | 8 | 11 | 13 | 24 | 25 | 31)
                    );
                if !crashed {
                    return Ok(match status.code() {
                        Some(code) => ExitCode::from(code.clamp(0, 255) as u8),
                        None => ExitCode::FAILURE,
                    });
                }
                eprintln!(
                    "{}: the daemon crashed ({status}); starting it again",
                    self.program
                );
                std::thread::sleep(RESTART_PAUSE.saturating_sub(start.elapsed()));
            }
        };
        attempt().unwrap_or_else(|e| {
            eprintln!("{}: cannot watch over the daemon: {e:#}", self.program);
            ExitCode::FAILURE
        })
    }

    fn settle(&self, started_by_us: bool) -> anyhow::Result<Started> {
        if self.detach {
            if !self.monitor {
                rustix::process::setsid().context("setsid")?;
            }
            if !self.no_chdir {
                std::env::set_current_dir("/").context("cannot change to /")?;
            }
        }
        let pidfile = match &self.pidfile {
            Some(path) => Some(PidFile::create(path, self.overwrite_pidfile)?),
            None => None,
        };
        Ok(Started {
            tell: started_by_us && self.detach,
            keep_output: self.keep_output,
            _pidfile: pidfile,
        })
    }
}

/// The path that an option names, within `dir` unless absolute; `default` there if it names none.
fn in_dir(dir: PathBuf, value: Option<&str>, default: String) -> PathBuf {
    match value {
        Some(path) => absolute(&dir.join(path)),
        None => dir.join(default),
    }
}

/// Checks `--syslog-method` and `--syslog-target`, which can only say what is so anyway.
///
/// # Errors
/// They say something else.
pub fn check_syslog(option: &str, value: Option<&str>) -> Result<(), String> {
    match (option, value) {
        ("syslog-method", Some("libc" | "null" | "unix:/dev/log") | None) => Ok(()),
        ("syslog-method", Some(v)) => Err(format!("--syslog-method={v} is not supported; libc is")),
        _ => Err("--syslog-target is not supported: logs go to the local syslog".into()),
    }
}

/// `path` made independent of the working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A daemon that has started; holds its pid file.
#[derive(Debug)]
pub struct Started {
    tell: bool,
    keep_output: bool,
    _pidfile: Option<PidFile>,
}

impl Started {
    /// Tells the process that waits for it that the daemon serves now, and lets go of the terminal.
    pub fn ready(&mut self) {
        if !std::mem::take(&mut self.tell) {
            return;
        }
        // Whoever waited may have gone; whoever watches over us has seen an earlier one serve.
        let _ = rustix::io::write(rustix::stdio::stdin(), READY);
        if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            if !self.keep_output {
                let _ = rustix::stdio::dup2_stdout(&null);
                let _ = rustix::stdio::dup2_stderr(&null);
            }
        }
    }
}

/// Ends when the process is asked to: SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// The signals cannot be listened for.
pub fn shutdown() -> anyhow::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: going down"),
            _ = int.recv() => tracing::info!("SIGINT: going down"),
            _ = hup.recv() => tracing::info!("SIGHUP: going down"),
        }
    })
}

/// Makes the run directory, for its owner alone to write in.
///
/// # Errors
/// It cannot be made, or belongs to somebody else.
pub fn make_run_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make run directory {}", dir.display()))?;
    let owner = std::fs::metadata(dir)
        .with_context(|| format!("cannot use run directory {}", dir.display()))?
        .uid();
    let me = rustix::process::geteuid().as_raw();
    if me != 0 && owner != me {
        bail!(
            "run directory {} belongs to user {owner}, not to {me}",
            dir.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_or_refused() {
        let mut s = Settings::new("ovs-vswitchd", "/run/x".into());
        assert_eq!(s.accept("pidfile", None), Ok(true));
        assert_eq!(
            s.pidfile.as_deref(),
            Some(Path::new("/run/x/ovs-vswitchd.pid"))
        );
        assert_eq!(s.accept("pidfile", Some("a.pid")), Ok(true));
        assert_eq!(s.pidfile.as_deref(), Some(Path::new("/run/x/a.pid")));
        assert_eq!(s.accept("pidfile", Some("/y/a.pid")), Ok(true));
        assert_eq!(s.pidfile.as_deref(), Some(Path::new("/y/a.pid")));
        assert_eq!(s.accept("unixctl", Some("z.ctl")), Ok(true));
        assert_eq!(s.unixctl.as_deref(), Some(Path::new("/run/x/z.ctl")));
        assert_eq!(s.accept("mlockall", None), Ok(false));
        assert!(s.accept("user", Some("a")).is_err());
    }
}
