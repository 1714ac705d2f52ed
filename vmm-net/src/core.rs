//! A guest's life seen from outside, the same for every kind of guest: its console, its control
//! socket, its links, and its end.
//!
//! The end has one order, kept by a thread of its own ([`supervise`]): something says that it is
//! over ([`Core::end`], the first to say so decides why); the guest's own threads are stopped;
//! the switches get their rings back; the console is written out; then whoever waits is told.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tracing::info;

use crate::config::VmConfig;
use crate::console::{Console, Outlets, spawn};
use crate::error::{Context, Result};
use crate::memory::GuestRam;
use crate::poll::{self, Wake};
use crate::vhost_user::{Link, LinkStatus};

/// Longest line of the control socket.
const MAX_CONTROL_LINE: u64 = 4096;
/// How long a control client may be silent.
const CONTROL_PATIENCE: Duration = Duration::from_secs(30);

/// Why a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered itself off.
    Poweroff,
    /// The guest asked for a reset. It is not started again: that is for the caller to decide.
    Reset,
    /// It was stopped from outside.
    Stopped,
    /// It could not go on, for this reason.
    Failed(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Poweroff => f.write_str("powered off"),
            Exit::Reset => f.write_str("reset itself"),
            Exit::Stopped => f.write_str("stopped"),
            Exit::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// How a guest is doing.
#[derive(Clone, Debug)]
pub struct GuestStatus {
    /// Why it ended, if it did.
    pub exit: Option<Exit>,
    /// The links of its cards, in order.
    pub links: Vec<LinkStatus>,
}

/// A running guest of any kind. Dropping it stops it.
pub trait Guest: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;
    /// `kvm` or `process`.
    fn kind(&self) -> &'static str;
    /// Its console.
    fn console(&self) -> &Arc<Console>;
    /// How it is doing.
    fn status(&self) -> GuestStatus;
    /// Asks for its end and returns at once.
    fn stop(&self);
    /// Waits for its end: everything is cleaned up then.
    fn wait(&self) -> Exit;
}

#[derive(Default)]
struct Ending {
    exit: Option<Exit>,
    done: bool,
}

/// What all kinds of guest have.
pub(crate) struct Core {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) console: Arc<Console>,
    pub(crate) links: Vec<Arc<Link>>,
    over: AtomicBool,
    /// Awake from the moment that it is over.
    pub(crate) over_wake: Wake,
    ending: Mutex<Ending>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Core {
    /// Makes console and links; the sockets of listening cards are there when this returns.
    pub(crate) fn new(config: &VmConfig, kind: &'static str, ram: &GuestRam) -> Result<Arc<Self>> {
        let mut links = Vec::new();
        for (i, nic) in config.nics.iter().enumerate() {
            let name = format!("{} card {i}", config.name);
            links.push(Link::start_link(&name, nic, ram.clone())?);
        }
        Ok(Arc::new(Core {
            name: config.name.clone(),
            kind,
            console: Console::new(),
            links,
            over: AtomicBool::new(false),
            over_wake: Wake::new()?,
            ending: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Says that the guest is over. Only the first call counts.
    pub(crate) fn end(&self, exit: Exit) {
        lock(&self.ending).exit.get_or_insert(exit);
        self.over.store(true, Ordering::Release);
        self.changed.notify_all();
        self.over_wake.wake();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits for the first connection of every card, but not beyond the configured time.
    pub(crate) fn freeze_links(&self, config: &VmConfig) {
        let deadline = std::time::Instant::now() + config.wait_backend;
        for link in &self.links {
            link.freeze(deadline, || self.is_over());
        }
    }

    pub(crate) fn status(&self) -> GuestStatus {
        GuestStatus {
            exit: lock(&self.ending).exit.clone(),
            links: self.links.iter().map(|l| l.status()).collect(),
        }
    }

    pub(crate) fn wait(&self) -> Exit {
        let mut ending = lock(&self.ending);
        while !ending.done {
            ending = self.changed.wait(ending).unwrap_or_else(|e| e.into_inner());
        }
        ending.exit.clone().unwrap_or(Exit::Stopped)
    }

    /// Ends links that no guest came to use.
    pub(crate) fn abandon(&self) {
        self.end(Exit::Stopped);
        for link in &self.links {
            link.quit();
        }
    }
}

/// Starts console, control socket, and the thread that keeps the order of the end. `stop_guest`
/// ends the guest's own threads.
pub(crate) fn supervise(
    core: &Arc<Core>,
    config: &VmConfig,
    stop_guest: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let mut outlets = Outlets::start(&core.console, &config.console)?;
    let control = config
        .control_socket
        .as_ref()
        .map(|path| control_socket(core, path.clone()))
        .transpose()?;
    let core = core.clone();
    spawn("guest-end", move || {
        let mut ending = lock(&core.ending);
        while ending.exit.is_none() {
            ending = core.changed.wait(ending).unwrap_or_else(|e| e.into_inner());
        }
        drop(ending);
        stop_guest();
        for link in &core.links {
            link.quit();
        }
        core.console.no_hook();
        core.console.close();
        outlets.finish();
        if let Some((thread, path)) = control {
            let _ = thread.join();
            let _ = std::fs::remove_file(path);
        }
        let mut ending = lock(&core.ending);
        if let Some(exit) = &ending.exit {
            info!("guest {} {exit}", core.name);
        }
        ending.done = true;
        drop(ending);
        core.changed.notify_all();
    })?;
    Ok(())
}

/// Serves the control socket, one client at a time, until the guest is over.
fn control_socket(core: &Arc<Core>, path: PathBuf) -> Result<(JoinHandle<()>, PathBuf)> {
    let listener = poll::listen(&path)?;
    listener
        .set_nonblocking(true)
        .context(|| format!("socket {}", path.display()))?;
    let core = core.clone();
    let thread = spawn("control", move || {
        while poll::readable(&listener, &core.over_wake) {
            if let Ok((stream, _)) = listener.accept() {
                let core = core.clone();
                // A silent client must not keep others out.
                let _ = spawn("control-client", move || {
                    let _ = control_client(&core, stream);
                });
            }
        }
    })?;
    Ok((thread, path))
}

fn control_client(core: &Core, stream: UnixStream) -> std::io::Result<()> {
    use std::io::Read;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CONTROL_PATIENCE))?;
    stream.set_write_timeout(Some(CONTROL_PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader
            .by_ref()
            .take(MAX_CONTROL_LINE)
            .read_line(&mut line)?
            == 0
        {
            return Ok(());
        }
        let answer = control(core, line.trim());
        writeln!(writer, "{answer}")?;
    }
}

/// One command of the control socket.
fn control(core: &Core, command: &str) -> serde_json::Value {
    match command {
        "status" => {
            let status = core.status();
            let cards: Vec<_> = status
                .links
                .iter()
                .map(|l| {
                    json!({
                        "connected": l.connected,
                        "running": l.running,
                        "connections": l.connections,
                        "error": l.error,
                    })
                })
                .collect();
            json!({
                "name": core.name,
                "kind": core.kind,
                "state": status.exit.map_or("running".to_owned(), |e| e.to_string()),
                "cards": cards,
            })
        }
        "stop" => {
            core.end(Exit::Stopped);
            json!({"ok": true})
        }
        other => json!({
            "error": format!("there is no command {other:?}; the commands are: status, stop"),
        }),
    }
}
