//! `ovs-ofctl`: asks and changes a switch over OpenFlow.
//!
//! Output and exit codes are the stock tool's. It speaks OpenFlow 1.0, as the stock tool does
//! unless told otherwise, and every version that is asked for (`-O`).
//!
//! * `commands` — the table of commands, and those that only show what the switch answers
//! * `conn` — a connection;  `names` — ports and tables by name
//! * `flows`, `compare` — flows;  `groups`, `meters`, `tables`, `ports` — the rest of a switch
//! * `bundle` — changes all at once
//! * `packets` — packets out, made up and taken apart;  `pcap` — and from files
//! * `monitor` — what comes by itself;  `probe` — echoes
//! * `parse` — what has no switch: texts and bytes into each other

mod bundle;
mod commands;
mod compare;
pub mod conn;
mod flows;
mod groups;
mod meters;
mod monitor;
mod names;
mod packets;
mod parse;
mod pcap;
mod ports;
mod probe;
mod tables;

use openflow::text::{Names, Protocols, Sort, Style};
use openflow::wire;
use ovsdb::TlsOptions;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::daemon::{self, Settings};
use crate::exit;
use crate::getopt::{self, Spec, Takes};

/// What the options say.
#[derive(Clone)]
pub struct Options {
    /// Flow formats that may be used.
    pub allowed: Protocols,
    strict: bool,
    more: u8,
    timestamp: bool,
    names: Option<bool>,
    stats: bool,
    sort: Vec<(Sort, bool)>,
    readd: bool,
    bundle: bool,
    may_create: bool,
    read_only: bool,
    /// `--packet-in-format`, as `NXPIF_*`.
    packet_in: Option<u32>,
    tls: TlsOptions,
    daemon: Settings,
}

impl Options {
    /// As if none was given.
    pub fn new() -> Options {
        Options {
            allowed: Protocols::ANY,
            strict: false,
            more: 0,
            timestamp: false,
            names: None,
            stats: true,
            sort: Vec::new(),
            readd: false,
            bundle: false,
            may_create: false,
            read_only: false,
            packet_in: None,
            tls: TlsOptions::default(),
            daemon: Settings::new("ovs-ofctl", crate::paths::run_dir(None)),
        }
    }

    /// Whether to print names of ports and tables: as told, else if a person is looking.
    fn show_names(&self) -> bool {
        self.names
            .unwrap_or_else(|| std::io::stdout().is_terminal())
    }

    /// The versions that may be agreed on.
    fn versions(&self) -> Vec<u8> {
        self.allowed.versions()
    }

    /// How answers are shown; `extra` more than usual.
    fn style<'a>(&self, names: &'a Names, extra: u8) -> Style<'a> {
        Style {
            names,
            verbosity: self.more.saturating_add(extra),
            packet: Some(&packets::describe),
        }
    }
}

/// OpenFlow versions by name.
const VERSIONS: &[(&str, u8)] = &[
    ("OpenFlow10", 1),
    ("OpenFlow11", 2),
    ("OpenFlow12", 3),
    ("OpenFlow13", 4),
    ("OpenFlow14", 5),
    ("OpenFlow15", 6),
];

/// A version's name, as `-O` takes it.
fn version_option(v: u8) -> &'static str {
    VERSIONS.iter().find(|x| x.1 == v).map_or("", |x| x.0)
}

/// A list of versions' names.
fn version_options(versions: &[u8]) -> String {
    let names: Vec<&str> = versions.iter().map(|v| version_option(*v)).collect();
    names.join(", ")
}

const OPTIONS: &[Spec] = &[
    ("protocols", Some('O'), Takes::Value),
    ("timeout", Some('t'), Takes::Value),
    ("flow-format", Some('F'), Takes::Value),
    ("packet-in-format", Some('P'), Takes::Value),
    ("strict", None, Takes::Nothing),
    ("more", Some('m'), Takes::Nothing),
    ("timestamp", None, Takes::Nothing),
    ("names", None, Takes::Nothing),
    ("no-names", None, Takes::Nothing),
    ("stats", None, Takes::Nothing),
    ("no-stats", None, Takes::Nothing),
    ("sort", None, Takes::Maybe),
    ("rsort", None, Takes::Maybe),
    ("readd", None, Takes::Nothing),
    ("color", None, Takes::Maybe),
    ("bundle", None, Takes::Nothing),
    ("read-only", None, Takes::Nothing),
    ("may-create", None, Takes::Nothing),
];

/// A failure before anything was sent: told as the stock tool does, exit code 1.
fn complain(message: &str) -> ExitCode {
    let _ = std::io::stdout().flush();
    let _ = writeln!(std::io::stderr(), "ovs-ofctl: {message}");
    ExitCode::FAILURE
}

/// A command that ends with a code of its own, everything told.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
struct Ended(u8);

/// Runs `ovs-ofctl` with these arguments.
///
/// Exit codes: 0 done; 1 refused or impossible; 2 flows differ (`diff-flows`); 142 out of time
/// (`--timeout`).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let mut o = Options::new();
    let outcome = parse_options(args, &mut o).and_then(|words| match words {
        None => Ok(ExitCode::SUCCESS),
        Some(words) => command(&o, &words),
    });
    outcome.unwrap_or_else(|message| complain(&message))
}

/// Runs the command that the words name.
fn command(o: &Options, words: &[String]) -> Result<ExitCode, String> {
    let Some((name, rest)) = words.split_first() else {
        return Err("missing command name; use --help for help".into());
    };
    let Some(command) = commands::COMMANDS.iter().find(|c| c.name == *name) else {
        return Err(format!("unknown command '{name}'; use --help for help"));
    };
    let (min, max) = (command.min, command.max);
    if rest.len() < min {
        return Err(format!(
            "'{name}' command requires at least {min} arguments"
        ));
    }
    if rest.len() > max {
        return Err(format!("'{name}' command takes at most {max} arguments"));
    }
    if o.read_only && command.writes {
        return Err(format!("'{name}' command does not work in read only mode"));
    }
    let args: Vec<&str> = rest.iter().map(String::as_str).collect();
    let Err(e) = (command.run)(o, &args) else {
        return Ok(ExitCode::SUCCESS);
    };
    let _ = std::io::stdout().flush();
    if let Some(refused) = e.downcast_ref::<conn::Refused>() {
        let _ = std::io::stderr().write_all(refused.0.as_bytes());
        return Ok(ExitCode::FAILURE);
    }
    if let Some(Ended(code)) = e.downcast_ref() {
        return Ok(ExitCode::from(*code));
    }
    Err(match e.chain().nth(1) {
        Some(cause) => format!("{e} ({cause})"),
        None => e.to_string(),
    })
}

/// Takes the options out; the words that are left, or nothing if an option answered everything.
fn parse_options(args: Vec<OsString>, o: &mut Options) -> Result<Option<Vec<String>>, String> {
    let known: &[&[Spec]] = &[OPTIONS, getopt::TLS, daemon::OPTIONS];
    let (options, words) = getopt::parse(args, known, false)?;
    let mut versions = vec![wire::OF10];
    let mut formats = Protocols::ANY;
    for (name, value) in options {
        match (name, value.as_deref()) {
            ("protocols", v) => versions = parse_versions(v.unwrap_or_default())?,
            ("flow-format", v) => {
                formats = Protocols::parse(v.unwrap_or_default()).map_err(|e| e.0)?;
            }
            ("help", _) => {
                print!("{}", commands::help());
                return Ok(None);
            }
            ("version", _) => {
                println!("ovs-ofctl (weir) {}", env!("CARGO_PKG_VERSION"));
                let (low, high) = (wire::SUPPORTED.first(), wire::SUPPORTED.last());
                let number = |v: Option<&u8>| v.copied().unwrap_or_default();
                println!("OpenFlow versions {:#x}:{:#x}", number(low), number(high));
                return Ok(None);
            }
            (name, v) => option(name, v, o)?,
        }
    }
    let spoken = versions.iter().filter(|v| wire::SUPPORTED.contains(v));
    let spoken = spoken.fold(Protocols::NONE, |all, v| all.or(Protocols::of_version(*v)));
    o.allowed = spoken.and(formats);
    if spoken.is_empty() {
        let list = version_options(&versions);
        return Err(format!("-O {list}: none of these versions is spoken here"));
    }
    if o.allowed.is_empty() {
        return Err(format!(
            "None of the enabled OpenFlow versions ({}) supports any of the enabled flow formats ({formats}).  \
             (Use -O to enable additional OpenFlow versions or -F to enable additional flow formats.)",
            version_options(&versions)
        ));
    }
    Ok(Some(words))
}

/// Takes one option.
fn option(name: &str, value: Option<&str>, o: &mut Options) -> Result<(), String> {
    let v = value.unwrap_or_default();
    match name {
        "timeout" => {
            let limit = exit::timeout('t', v)?;
            std::thread::spawn(move || {
                std::thread::sleep(limit);
                exit::out_of_time();
            });
        }
        "strict" => o.strict = true,
        "more" => o.more += 1,
        "timestamp" => o.timestamp = true,
        "names" => o.names = Some(true),
        "no-names" => o.names = Some(false),
        "stats" => o.stats = true,
        "no-stats" => o.stats = false,
        "sort" | "rsort" => {
            let sort = Sort::parse(v).map_err(|e| e.to_string())?;
            o.sort.push((sort, name == "rsort"));
        }
        "readd" => o.readd = true,
        "bundle" => o.bundle = true,
        "may-create" => o.may_create = true,
        "read-only" => o.read_only = true,
        // There is no colour here.
        "color" => {
            let known = [
                "", "always", "yes", "force", "never", "no", "none", "auto", "tty", "if-tty",
            ];
            if !known.contains(&v) {
                return Err(format!("incorrect value `{v}' for --color"));
            }
        }
        "packet-in-format" => {
            o.packet_in = Some(match v {
                "standard" | "openflow10" => 0,
                "nxt_packet_in" | "nxm" => 1,
                "nxt_packet_in2" => 2,
                _ => return Err(format!("unknown packet-in format `{v}'")),
            });
        }
        _ if o.tls.accept(name, v) => {}
        _ => {
            if !o.daemon.accept(name, value)? {
                return Err(format!("unrecognized option '--{name}'"));
            }
        }
    }
    Ok(())
}

/// The versions of `-O`.
fn parse_versions(s: &str) -> Result<Vec<u8>, String> {
    let mut wanted = Vec::new();
    for name in s.split([',', ' ']).filter(|n| !n.is_empty()) {
        match VERSIONS.iter().find(|v| v.0.eq_ignore_ascii_case(name)) {
            Some((_, v)) => wanted.push(*v),
            None => return Err(format!("Unknown OpenFlow version: \"{name}\"")),
        }
    }
    if wanted.is_empty() {
        wanted.extend(VERSIONS.iter().map(|v| v.1));
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}
