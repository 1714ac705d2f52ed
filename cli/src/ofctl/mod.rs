//! `ovs-ofctl`: asks and changes a switch over OpenFlow.
//!
//! Output and exit codes are the stock tool's. Today it speaks OpenFlow 1.3 alone.

mod commands;
mod conn;

use openflow::text::Sort;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

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

/// Options with an argument: long name and letter.
const WITH_ARGUMENT: &[(&str, char)] = &[
    ("protocols", 'O'),
    ("timeout", 't'),
    ("flow-format", 'F'),
    ("packet-in-format", 'P'),
    ("private-key", 'p'),
    ("certificate", 'c'),
    ("ca-cert", 'C'),
    ("unixctl", '\0'),
];

/// Options whose argument must be attached with `=`.
const OPTIONAL_ARGUMENT: &[&str] = &["sort", "rsort", "color", "verbose", "log-file", "pidfile"];

/// A failure before anything was sent: told as the stock tool does, exit code 1.
fn complain(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "ovs-ofctl: {message}");
    ExitCode::FAILURE
}

/// Runs `ovs-ofctl` with these arguments.
///
/// Exit codes: 0 done; 1 refused or impossible; 142 out of time (`--timeout`).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let mut words = Vec::new();
    for a in args {
        match a.into_string() {
            Ok(s) => words.push(s),
            Err(a) => return complain(&format!("{}: not UTF-8", a.to_string_lossy())),
        }
    }
    let mut o = Options {
        versions: vec![openflow::wire::OF13],
        strict: false,
        more: 0,
        timestamp: false,
        names: None,
        stats: true,
        sort: Vec::new(),
        readd: false,
    };
    match parse_options(words, &mut o) {
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
fn parse_options(words: Vec<String>, o: &mut Options) -> Result<Option<Vec<String>>, String> {
    let mut left = Vec::new();
    let mut words = words.into_iter();
    while let Some(w) = words.next() {
        if w == "--" {
            left.extend(words);
            break;
        }
        if let Some(long) = w.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((n, v)) => (n.to_string(), Some(v.to_string())),
                None => (long.to_string(), None),
            };
            let takes = WITH_ARGUMENT.iter().any(|a| a.0 == name);
            if value.is_some() && !takes && !OPTIONAL_ARGUMENT.contains(&name.as_str()) {
                return Err(format!("option '--{name}' doesn't allow an argument"));
            }
            let value = match value {
                None if takes => Some(
                    words
                        .next()
                        .ok_or(format!("option '--{name}' requires an argument"))?,
                ),
                v => v,
            };
            if !option(&name, value, o)? {
                return Ok(None);
            }
        } else if w.len() > 1 && w.starts_with('-') {
            for (i, c) in w[1..].char_indices() {
                let attached = &w[1 + i + c.len_utf8()..];
                if let Some((name, _)) = WITH_ARGUMENT.iter().find(|a| a.1 == c) {
                    let value = match attached {
                        "" => words
                            .next()
                            .ok_or(format!("option requires an argument -- '{c}'"))?,
                        v => v.to_string(),
                    };
                    option(name, Some(value), o)?;
                    break;
                }
                if c == 'v' {
                    break; // -vSPEC: log levels, of which this tool has none.
                }
                let name = match c {
                    'm' => "more",
                    'h' => "help",
                    'V' => "version",
                    c => return Err(format!("invalid option -- '{c}'")),
                };
                if !option(name, None, o)? {
                    return Ok(None);
                }
            }
        } else {
            left.push(w);
        }
    }
    Ok(Some(left))
}

/// Takes one option; false if it answered everything.
fn option(name: &str, value: Option<String>, o: &mut Options) -> Result<bool, String> {
    let v = value.unwrap_or_default();
    match name {
        "protocols" => o.versions = versions(&v)?,
        "timeout" => {
            let secs: u64 = v
                .parse()
                .ok()
                .filter(|s| *s > 0)
                .ok_or(format!("value {v} on -t or --timeout is invalid"))?;
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_secs(secs));
                eprintln!("ovs-ofctl: no answer within {secs} seconds");
                // As the shell reports a program ended by SIGALRM.
                std::process::exit(142);
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
        "flow-format" if v.starts_with("OXM") || v == "any" || v == "OpenFlow13" => {}
        "flow-format" => return Err(format!("flow format {v}: only OXM is supported yet")),
        "packet-in-format" if v == "standard" || v == "openflow10" => {}
        "packet-in-format" => {
            return Err(format!(
                "packet-in format {v}: only standard is supported yet"
            ));
        }
        "help" => {
            print!("{}", commands::help());
            return Ok(false);
        }
        "version" => {
            println!("ovs-ofctl (weir) {}", env!("CARGO_PKG_VERSION"));
            println!("OpenFlow versions 0x4:0x4");
            return Ok(false);
        }
        "private-key" | "certificate" | "ca-cert" | "unixctl" | "bundle" | "read-only"
        | "detach" | "pidfile" | "no-chdir" | "monitor" | "may-create" => {
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
        return Err(format!("-O {s}: only OpenFlow13 is supported yet"));
    }
    Ok(spoken)
}
