//! Log levels by module and destination, as `vlog/list` and `vlog/set` know them.
//!
//! A *module* is a short name for a part of the switch (`bridge`, `connmgr`, `netdev`, ...), found
//! from the target of a `tracing` event by the longest prefix in [`MODULES`]. Each module has a level
//! for each of three destinations: console (standard error), syslog (`/dev/log`) and the log file.
//! [`Vlog::layer`] is the `tracing` layer that obeys them; changes count at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How much is logged: everything up to and including a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// Emergencies; weir has no event of this level, so it is the same as off.
    Emer,
    /// Errors.
    Err,
    /// Warnings.
    Warn,
    /// What one wants to know about a healthy switch.
    Info,
    /// Everything.
    Dbg,
}

impl Level {
    const ALL: [Level; 6] = [
        Level::Off,
        Level::Emer,
        Level::Err,
        Level::Warn,
        Level::Info,
        Level::Dbg,
    ];

    /// The name, upper case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "OFF",
            Level::Emer => "EMER",
            Level::Err => "ERR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Dbg => "DBG",
        }
    }

    fn parse(s: &str) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|l| l.name().eq_ignore_ascii_case(s))
    }

    fn of(level: &tracing::Level) -> Level {
        match *level {
            tracing::Level::ERROR => Level::Err,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Dbg,
        }
    }
}

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    Console,
    /// The system log.
    Syslog,
    /// The log file, if there is one.
    File,
}

impl Destination {
    const ALL: [Destination; 3] = [Destination::Console, Destination::Syslog, Destination::File];

    fn parse(s: &str) -> Option<Destination> {
        match s.to_ascii_lowercase().as_str() {
            "console" => Some(Destination::Console),
            "syslog" => Some(Destination::Syslog),
            "file" => Some(Destination::File),
            _ => None,
        }
    }
}

/// Target prefixes and their modules; the longest prefix counts. An empty prefix only makes the
/// name known: the part that logs under it is not in every build.
pub const MODULES: &[(&str, &str)] = &[
    ("", "bond"),
    ("", "fatal_signal"),
    ("", "jsonrpc"),
    ("", "lacp"),
    ("", "poll_loop"),
    ("", "stream"),
    ("", "vsctl"),
    ("controller", "controller"),
    ("datapath", "dpif_netdev"),
    ("datapath::bridge", "ofproto_dpif"),
    ("datapath::cache", "dpif_netdev"),
    ("datapath::engine", "dpif_netdev"),
    ("datapath::mac", "mac_learning"),
    ("datapath::pipeline", "ofproto_dpif_xlate"),
    ("datapath::port", "netdev"),
    ("datapath::port::tap", "netdev_linux"),
    ("datapath::port::system", "netdev_linux"),
    ("datapath::port::vhost_user", "netdev_vhost"),
    ("datapath::table", "classifier"),
    ("openflow", "ofp_msgs"),
    ("ovsdb", "ovsdb"),
    ("ovsdb::client", "reconnect"),
    ("ovsdb::server", "ovsdb_server"),
    ("ovsdb::journal", "ovsdb_log"),
    ("switchd", "vswitchd"),
    ("switchd::agent", "connmgr"),
    ("switchd::agent::failmode", "fail_open"),
    ("switchd::agent::rconn", "rconn"),
    ("switchd::config", "bridge"),
    ("switchd::control", "unixctl"),
    ("switchd::log", "vlog"),
    ("switchd::switch", "bridge"),
    ("vmm_net", "vmm"),
    ("weir", "weir"),
];

/// The module of a target.
pub fn module_of(target: &str) -> &str {
    let mut best: Option<(&str, &str)> = None;
    for &(prefix, module) in MODULES {
        let within = !prefix.is_empty()
            && target
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        if within && best.is_none_or(|(b, _)| prefix.len() > b.len()) {
            best = Some((prefix, module));
        }
    }
    match best {
        Some((_, module)) => module,
        None => target.split("::").next().unwrap_or(target),
    }
}

type Levels = [Level; 3];

/// The levels and the destinations.
pub struct Vlog {
    levels: RwLock<BTreeMap<String, Levels>>,
    other: RwLock<Levels>,
    file: Mutex<Option<(PathBuf, File)>>,
    syslog: OnceLock<Option<UnixDatagram>>,
    sequence: AtomicU64,
    program: &'static str,
}

impl Vlog {
    /// Everything at INFO, no log file.
    pub fn new(program: &'static str) -> Arc<Vlog> {
        let info = [Level::Info; 3];
        Arc::new(Vlog {
            levels: RwLock::new(
                MODULES
                    .iter()
                    .map(|(_, module)| (module.to_string(), info))
                    .collect(),
            ),
            other: RwLock::new(info),
            file: Mutex::new(None),
            syslog: OnceLock::new(),
            sequence: AtomicU64::new(0),
            program,
        })
    }

    /// The log of a tool that has no `tracing`: its console shows warnings only, and besides
    /// [`MODULES`] it knows these.
    pub fn of_tool(program: &'static str, modules: &[&str]) -> Arc<Vlog> {
        let log = Vlog::new(program);
        {
            let mut levels = log.levels.write().unwrap_or_else(PoisonError::into_inner);
            levels.extend(modules.iter().map(|m| (m.to_string(), [Level::Info; 3])));
            for module in levels.values_mut() {
                module[Destination::Console as usize] = Level::Warn;
            }
        }
        log
    }

    /// Opens (creates, appends to) the log file, or another one in its place.
    pub fn open_file(&self, path: &Path) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        *lock(&self.file) = Some((path.to_owned(), file));
        tracing::info!("opened log file {}", path.display());
        Ok(())
    }

    /// Opens the log file again under its name, after a log rotation (`vlog/reopen`).
    pub fn reopen(&self) -> Result<(), String> {
        let path = match &*lock(&self.file) {
            Some((path, _)) => path.clone(),
            None => return Err("Logging to file not configured".to_owned()),
        };
        self.open_file(&path)
            .map_err(|e| format!("{}: open failed ({e})", path.display()))
    }

    /// Stops logging to the file (`vlog/close`).
    pub fn close(&self) {
        *lock(&self.file) = None;
    }

    /// Applies one specification of `vlog/set` or `-v`: a module, a destination and a level, in any
    /// order, apart by `:`, `,` or blanks. What is left out means all of them (level: DBG).
    pub fn set(&self, spec: &str) -> Result<(), String> {
        if spec.to_ascii_lowercase().starts_with("pattern:") {
            return Err("log line patterns are fixed in this version".to_owned());
        }
        match spec.to_ascii_lowercase().strip_prefix("facility:") {
            None => {}
            Some("daemon") => return Ok(()),
            Some(_) => {
                return Err("the syslog facility is fixed to daemon in this version".to_owned());
            }
        }
        let (mut level, mut destination, mut module) = (None, None, None);
        for word in spec
            .split([' ', ',', ':', '\t', '\n'])
            .filter(|w| !w.is_empty())
        {
            if let Some(l) = Level::parse(word) {
                if level.replace(l).is_some() {
                    return Err("cannot specify multiple levels".to_owned());
                }
            } else if let Some(d) = Destination::parse(word) {
                if destination.replace(d).is_some() {
                    return Err("cannot specify multiple destinations".to_owned());
                }
            } else if word.eq_ignore_ascii_case("any") {
                // All modules and all destinations is what leaving them out means.
            } else if read(&self.levels).contains_key(word) {
                if module.replace(word.to_owned()).is_some() {
                    return Err("cannot specify multiple modules".to_owned());
                }
            } else {
                return Err(format!("no destination, level, or module \"{word}\""));
            }
        }
        let level = level.unwrap_or(Level::Dbg);
        let set = |levels: &mut Levels| match destination {
            Some(d) => levels[d as usize] = level,
            None => *levels = [level; 3],
        };
        {
            let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
            match module {
                Some(m) => {
                    if let Some(l) = levels.get_mut(&m) {
                        set(l);
                    }
                }
                None => {
                    levels.values_mut().for_each(set);
                    set(&mut self.other.write().unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// The table that `vlog/list` shows.
    pub fn list(&self) -> String {
        let mut out = String::from(
            "                 console    syslog    file\n                 -------    ------    ------\n",
        );
        for (module, l) in read(&self.levels).iter() {
            let [console, syslog, file] = l.map(Level::name);
            let _ = writeln!(
                out,
                "{module:<16}  {console:>4}       {syslog:>4}       {file:>4}"
            );
        }
        out
    }

    /// The table that `vlog/list-pattern` shows: what [`Vlog::write`] makes of a message, in the
    /// terms of ovs-appctl(8).
    pub fn list_pattern(&self) -> &'static str {
        concat!(
            "         prefix                            format\n",
            "         ------                            ------\n",
            "SYSLOG   <%B>%A[%P]:                       ovs|%05N|%c|%p|%m\n",
            "CONSOLE  none                              %D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c|%p|%m\n",
            "FILE     none                              %D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c|%p|%m\n",
        )
    }

    /// The layer to put into a `tracing` subscriber.
    pub fn layer(self: &Arc<Vlog>) -> VlogLayer {
        VlogLayer(self.clone())
    }

    /// Makes it the process's subscriber. False if there is one already.
    pub fn install(self: &Arc<Vlog>) -> bool {
        use tracing_subscriber::prelude::*;
        tracing_subscriber::registry()
            .with(self.layer())
            .try_init()
            .is_ok()
    }

    fn levels_of(&self, module: &str) -> Levels {
        match read(&self.levels).get(module) {
            Some(l) => *l,
            None => *read(&self.other),
        }
    }

    /// Writes a line of `module` to wherever its level is wanted.
    pub fn write(&self, module: &str, level: Level, message: &str) {
        let levels = self.levels_of(module);
        let wanted = |d: Destination| {
            levels[d as usize] >= level && (d != Destination::File || lock(&self.file).is_some())
        };
        if !Destination::ALL.into_iter().any(wanted) {
            return;
        }
        let n = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let name = level.name();
        let now = since_epoch();
        if wanted(Destination::Console) {
            let line = format!("{}|{n:05}|{module}|{name}|{message}\n", utc(now, false));
            // Standard error may be closed; there is nobody left to tell.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        if wanted(Destination::File)
            && let Some((_, file)) = &mut *lock(&self.file)
        {
            let line = format!("{}|{n:05}|{module}|{name}|{message}\n", utc(now, true));
            let _ = file.write_all(line.as_bytes());
        }
        if wanted(Destination::Syslog)
            && let Some(socket) = self.syslog.get_or_init(open_syslog)
        {
            // Facility daemon (3), severities of RFC 5424.
            let severity = match level {
                Level::Err => 3,
                Level::Warn => 4,
                Level::Info => 6,
                _ => 7,
            };
            let line = format!(
                "<{}>{}[{}]: ovs|{n:05}|{module}|{name}|{message}",
                3 * 8 + severity,
                self.program,
                std::process::id()
            );
            let _ = socket.send(line.as_bytes());
        }
    }
}

fn open_syslog() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect("/dev/log").ok()?;
    Some(socket)
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(m: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    m.read().unwrap_or_else(PoisonError::into_inner)
}

/// The time since the epoch, by the system's clock.
pub fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// `2026-11-21T00:22:51.833Z` from the time since the epoch (proleptic Gregorian, days counted
/// from the first of March).
pub fn utc(t: Duration, millis: bool) -> String {
    let (days, secs) = (t.as_secs() / 86_400, t.as_secs() % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    if millis {
        let ms = t.subsec_millis();
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    } else {
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    }
}

/// The `tracing` layer over a [`Vlog`].
pub struct VlogLayer(Arc<Vlog>);

impl<S: Subscriber> Layer<S> for VlogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = Level::of(metadata.level());
        self.0
            .levels_of(module_of(metadata.target()))
            .iter()
            .any(|l| *l >= level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let meta = event.metadata();
        self.0.write(
            module_of(meta.target()),
            Level::of(meta.level()),
            &(line.message + &line.fields),
        );
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = if field.name() == "message" {
            write!(self.message, "{value}")
        } else {
            write!(self.fields, " {}={value}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_names_the_module() {
        assert_eq!(module_of("switchd::agent::rconn"), "rconn");
        assert_eq!(module_of("switchd::agent::io"), "connmgr");
        assert_eq!(module_of("switchd"), "vswitchd");
        assert_eq!(module_of("switchdx::y"), "switchdx");
    }

    #[test]
    fn levels_are_set_by_module_and_destination_in_any_order() {
        let v = Vlog::new("test");
        v.set("console:bond:off").unwrap();
        v.set("syslog err bond").unwrap();
        assert!(
            v.list()
                .contains("bond               OFF        ERR       INFO\n"),
            "{}",
            v.list()
        );
        v.set("dbg").unwrap();
        assert!(
            v.list()
                .contains("bond               DBG        DBG        DBG\n")
        );
        v.set("rconn").unwrap();
        assert_eq!(
            v.set("nosuch").unwrap_err(),
            "no destination, level, or module \"nosuch\""
        );
        assert!(v.set("err:warn").is_err());
        assert!(v.set("bond:rconn").is_err());
    }

    #[test]
    fn lines_go_to_the_file_as_long_as_their_level_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let v = Vlog::new("test");
        assert!(v.reopen().is_err());
        v.set("any:console:off").unwrap();
        v.set("any:syslog:off").unwrap();
        v.open_file(&path).unwrap();
        v.write("bridge", Level::Info, "one");
        v.write("bridge", Level::Dbg, "two");
        v.set("bridge:file:dbg").unwrap();
        v.write("bridge", Level::Dbg, "three");
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        v.reopen().unwrap();
        v.write("bridge", Level::Warn, "four");
        let old = std::fs::read_to_string(dir.path().join("old")).unwrap();
        assert!(old.contains("|bridge|INFO|one\n") && !old.contains("two"));
        assert!(old.contains("|bridge|DBG|three\n"));
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(new.ends_with("|bridge|WARN|four\n") && !new.contains("three"));
    }

    #[test]
    fn dates() {
        assert_eq!(
            utc(Duration::from_millis(1_795_220_571_833), true),
            "2026-11-21T00:22:51.833Z"
        );
        assert_eq!(
            utc(Duration::from_secs(951_782_400), false),
            "2000-02-29T00:00:00Z"
        );
    }
}
