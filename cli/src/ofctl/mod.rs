//! `ovs-ofctl`: asks and changes a switch over OpenFlow.
//!
//! Output and exit codes are the stock tool's. It speaks OpenFlow 1.0, as the stock
//! tool does unless told otherwise, and 1.3 (`-O OpenFlow13`).

mod commands;
mod conn;

use openflow::text::Sort;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::exit;
use crate::getopt::{self, Spec, Takes};

/// What the options say.
pub struct Options {
    versions: Vec<u8>,
    strict: bool,
    more: u8,
    timestamp: bool,
    names: Option<bool>,
    stats: bool,
    sort: Vec<(Sort, bool)>,
    readd: bool,
    /// `--packet-in-format`.
    nicira_packets: Option<bool>,
}

impl Options {
    /// Whether to print names of ports and tables: as told, else if a person is looking.
    fn show_names(&self) -> bool {
        self.names
            .unwrap_or_else(|| std::io::stdout().is_terminal())
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
    ("verbose", Some('v'), Takes::Maybe),
    ("log-file", None, Takes::Maybe),
    ("help", Some('h'), Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
    // Refused, each by its name.
    ("unixctl", None, Takes::Value),
    ("bundle", None, Takes::Nothing),
    ("read-only", None, Takes::Nothing),
    ("detach", None, Takes::Nothing),
    ("pidfile", None, Takes::Maybe),
    ("no-chdir", None, Takes::Nothing),
    ("monitor", None, Takes::Nothing),
    ("may-create", None, Takes::Nothing),
];

/// A failure before anything was sent: told as the stock tool does, exit code 1.
fn complain(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "ovs-ofctl: {message}");
    ExitCode::FAILURE
}

/// Runs `ovs-ofctl` with these arguments.
///
/// Exit codes: 0 done; 1 refused or impossible; 142 out of time (`--timeout`).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let mut o = Options {
        versions: vec![openflow::wire::OF10],
        strict: false,
        more: 0,
        timestamp: false,
        names: None,
        stats: true,
        sort: Vec::new(),
        readd: false,
        nicira_packets: None,
    };
    match parse_options(args, &mut o) {
        Ok(Some(words)) => {
            let Some((name, rest)) = words.split_first() else {
                return complain("missing command name; use --help for help");
            };
            let Some(command) = commands::COMMANDS.iter().find(|c| c.name == *name) else {
                return complain(&format!("unknown command '{name}'; use --help for help"));
            };
            if rest.len() < command.min {
                return complain(&format!(
                    "'{name}' command requires at least {} arguments",
                    command.min
                ));
            }
            if rest.len() > command.max {
                return complain(&format!(
                    "'{name}' command takes at most {} arguments",
                    command.max
                ));
            }
            let args: Vec<&str> = rest.iter().map(String::as_str).collect();
            match (command.run)(&o, &args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => match e.downcast_ref::<conn::Refused>() {
                    Some(refused) => {
                        let _ = std::io::stderr().write_all(refused.0.as_bytes());
                        ExitCode::FAILURE
                    }
                    None => {
                        let text = match e.chain().nth(1) {
                            Some(cause) => format!("{e} ({cause})"),
                            None => e.to_string(),
                        };
                        complain(&text)
                    }
                },
            }
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(message) => complain(&message),
    }
}

/// Takes the options out; the words that are left, or nothing if an option answered everything.
fn parse_options(args: Vec<OsString>, o: &mut Options) -> Result<Option<Vec<String>>, String> {
    let (options, words) = getopt::parse(args, &[OPTIONS, getopt::TLS], false)?;
    for (name, value) in options {
        if !option(name, value, o)? {
            return Ok(None);
        }
    }
    Ok(Some(words))
}

/// Takes one option; false if it answered everything.
fn option(name: &str, value: Option<String>, o: &mut Options) -> Result<bool, String> {
    let v = value.unwrap_or_default();
    match name {
        "protocols" => o.versions = versions(&v)?,
        "timeout" => {
            let limit = exit::timeout('t', &v)?;
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
            let sort = Sort::parse(&v).map_err(|e| e.to_string())?;
            o.sort.push((sort, name == "rsort"));
        }
        "readd" => o.readd = true,
        // There is no colour here, nor a log.
        "color" | "verbose" | "log-file" => {}
        "flow-format" => {
            let known = ["any", "NXM", "OpenFlow10", "OpenFlow13"];
            if !v
                .split(',')
                .all(|f| f.starts_with("OXM") || f.starts_with("NXM") || known.contains(&f))
            {
                return Err(format!(
                    "flow format {v}: only OpenFlow10, NXM and OXM are supported yet"
                ));
            }
        }
        "packet-in-format" => match v.as_str() {
            "standard" | "openflow10" => o.nicira_packets = Some(false),
            "nxt_packet_in" | "nxm" => o.nicira_packets = Some(true),
            _ => {
                return Err(format!(
                    "packet-in format {v}: only standard and nxt_packet_in are supported yet"
                ));
            }
        },
        "help" => {
            print!("{}", commands::help());
            return Ok(false);
        }
        "version" => {
            println!("ovs-ofctl (weir) {}", env!("CARGO_PKG_VERSION"));
            println!("OpenFlow versions 0x1:0x4");
            return Ok(false);
        }
        _ if getopt::TLS.iter().any(|(n, ..)| *n == name) => {
            return Err(format!("--{name}: connections by TLS are not supported"));
        }
        "unixctl" | "bundle" | "read-only" | "detach" | "pidfile" | "no-chdir" | "monitor"
        | "may-create" => {
            return Err(format!("--{name}: this option is not supported yet"));
        }
        other => return Err(format!("unrecognized option '--{other}'")),
    }
    Ok(true)
}

/// The versions of `-O`, as far as they are spoken here.
fn versions(s: &str) -> Result<Vec<u8>, String> {
    let mut wanted = Vec::new();
    for name in s.split([',', ' ']).filter(|n| !n.is_empty()) {
        match VERSIONS.iter().find(|v| v.0.eq_ignore_ascii_case(name)) {
            Some((_, v)) => wanted.push(*v),
            None => return Err(format!("Unknown OpenFlow version: \"{name}\"")),
        }
    }
    let spoken: Vec<u8> = wanted
        .iter()
        .copied()
        .filter(|v| openflow::wire::SUPPORTED.contains(v))
        .collect();
    if spoken.is_empty() {
        return Err(format!(
            "-O {s}: only OpenFlow10 and OpenFlow13 are supported yet"
        ));
    }
    Ok(spoken)
}
