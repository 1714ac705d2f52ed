//! The command line: global options as getopt reads them, then commands separated by `--`.

use std::ffi::OsString;
use std::sync::Arc;

use super::context::fatal;
use super::context::{Call, Context, Outcome};
use super::{bridge, completion, config, database, zone};
use crate::exit;
use crate::getopt::{self, Spec, Takes};
use crate::table::{self, Format, Style};
use crate::vsctl::context::Stop;
use crate::{daemon, paths};
use ovsdb::TlsOptions;
use switchd::Vlog;
use switchd::log::Level;

/// One command of the grammar.
pub struct Command {
    pub name: &'static str,
    /// Fewest and most arguments.
    pub args: (usize, usize),
    /// Its options, `--name` or, with a value, `--name=`.
    pub options: &'static [&'static str],
    /// Whether it can change the database.
    pub writes: bool,
    pub run: fn(&mut Context) -> Outcome,
    /// For `--help`: arguments and what it does.
    pub usage: &'static str,
    pub help: &'static str,
}

const MANY: usize = usize::MAX;

macro_rules! command {
    ($name:literal $usage:literal, $min:tt..$max:tt, $options:expr, $writes:literal, $run:path, $help:literal) => {
        Command {
            name: $name,
            args: ($min, $max),
            options: $options,
            writes: $writes,
            run: $run,
            usage: $usage,
            help: $help,
        }
    };
}

/// Every command, in the order of `--help`.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command!("init" "", 0..0, &[], true, config::nothing, "make the root row of an empty database"),
    command!("show" "", 0..0, &[], false, config::show, "print what is configured"),
    command!("emer-reset" "", 0..0, &[], true, config::emer_reset, "drop controllers, managers, mirrors, SSL and monitoring"),
    command!("add-br" "NEW-BRIDGE [PARENT] [NEW-VLAN]", 1..3, &["--may-exist"], true, bridge::add_br, "make a bridge, or a fake one for a VLAN of PARENT"),
    command!("del-br" "BRIDGE", 1..1, &["--if-exists"], true, bridge::del_br, "delete a bridge and its ports"),
    command!("list-br" "", 0..0, &["--real", "--fake"], false, bridge::list_br, "print the names of the bridges"),
    command!("br-exists" "BRIDGE", 1..1, &[], false, bridge::br_exists, "exit with code 2 if there is no such bridge"),
    command!("br-to-vlan" "BRIDGE", 1..1, &[], false, bridge::br_to_vlan, "print the VLAN of a fake bridge, else 0"),
    command!("br-to-parent" "BRIDGE", 1..1, &[], false, bridge::br_to_parent, "print the parent of a fake bridge"),
    command!("br-set-external-id" "BRIDGE KEY [VALUE]", 2..3, &[], true, bridge::br_set_external_id, "set or remove an external id"),
    command!("br-get-external-id" "BRIDGE [KEY]", 1..2, &[], false, bridge::br_get_external_id, "print external ids"),
    command!("list-ports" "BRIDGE", 1..1, &[], false, bridge::list_ports, "print the names of a bridge's ports"),
    command!("add-port" "BRIDGE NEW-PORT [COLUMN[:KEY]=VALUE]...", 2..MANY, &["--may-exist"], true, bridge::add_port, "add a port"),
    command!("add-bond" "BRIDGE BOND IFACE... [COLUMN[:KEY]=VALUE]...", 4..MANY, &["--may-exist", "--fake-iface"], true, bridge::add_bond, "add a port of several interfaces"),
    command!("add-bond-iface" "BOND IFACE", 2..2, &["--may-exist"], true, bridge::add_bond_iface, "add an interface to a port"),
    command!("del-bond-iface" "[BOND] IFACE", 1..2, &["--if-exists"], true, bridge::del_bond_iface, "take an interface out of its port"),
    command!("del-port" "[BRIDGE] PORT|IFACE", 1..2, &["--if-exists", "--with-iface"], true, bridge::del_port, "delete a port"),
    command!("port-to-br" "PORT", 1..1, &[], false, bridge::port_to_br, "print the bridge of a port"),
    command!("list-ifaces" "BRIDGE", 1..1, &[], false, bridge::list_ifaces, "print the names of a bridge's interfaces"),
    command!("iface-to-br" "IFACE", 1..1, &[], false, bridge::iface_to_br, "print the bridge of an interface"),
    command!("get-controller" "BRIDGE", 1..1, &[], false, config::get_controller, "print a bridge's controllers"),
    command!("del-controller" "BRIDGE", 1..1, &[], true, config::del_controller, "remove a bridge's controllers"),
    command!("set-controller" "BRIDGE TARGET...", 1..MANY, &["--inactivity-probe="], true, config::set_controller, "set a bridge's controllers"),
    command!("get-fail-mode" "BRIDGE", 1..1, &[], false, config::get_fail_mode, "print what a bridge does without controller: standalone or secure"),
    command!("del-fail-mode" "BRIDGE", 1..1, &[], true, config::del_fail_mode, "reset it"),
    command!("set-fail-mode" "BRIDGE MODE", 2..2, &[], true, config::set_fail_mode, "set it"),
    command!("get-manager" "", 0..0, &[], false, config::get_manager, "print the database's managers"),
    command!("del-manager" "", 0..0, &[], true, config::del_manager, "remove them"),
    command!("set-manager" "TARGET...", 1..MANY, &["--inactivity-probe="], true, config::set_manager, "set them"),
    command!("get-ssl" "", 0..0, &[], false, config::get_ssl, "print the SSL configuration"),
    command!("del-ssl" "", 0..0, &[], true, config::del_ssl, "remove it"),
    command!("set-ssl" "PRIVATE-KEY CERTIFICATE CA-CERT", 3..3, &["--bootstrap"], true, config::set_ssl, "set it"),
    command!("add-aa-mapping" "BRIDGE I-SID VLAN", 3..3, &[], true, config::add_aa_mapping, "add an auto-attach mapping"),
    command!("del-aa-mapping" "BRIDGE I-SID VLAN", 3..3, &[], true, config::del_aa_mapping, "remove an auto-attach mapping"),
    command!("get-aa-mapping" "BRIDGE", 1..1, &[], false, config::get_aa_mapping, "print the auto-attach mappings"),
    command!("add-zone-tp" "DATAPATH zone=ID KEY=SECONDS...", 3..MANY, &["--may-exist"], true, zone::add, "set the timeouts of a connection tracking zone"),
    command!("del-zone-tp" "DATAPATH zone=ID", 2..2, &["--if-exists"], true, zone::delete, "forget them"),
    command!("list-zone-tp" "DATAPATH", 1..1, &[], false, zone::list, "print the timeouts of all zones"),
    command!("list-dp-cap" "DATAPATH", 1..1, &[], false, zone::capabilities, "print what a datapath can do"),
    command!("comment" "[ARG]...", 0..MANY, &[], false, config::nothing, "note the arguments in the database's log"),
    command!("list" "TABLE [RECORD]...", 1..MANY, &["--if-exists", "--columns="], false, database::list, "print records"),
    command!("find" "TABLE [COLUMN[:KEY]=VALUE]...", 1..MANY, &["--columns="], false, database::find, "print the records that match"),
    command!("get" "TABLE RECORD [COLUMN[:KEY]]...", 2..MANY, &["--if-exists", "--id="], false, database::get, "print values of a record"),
    command!("set" "TABLE RECORD COLUMN[:KEY]=VALUE...", 3..MANY, &["--if-exists"], true, database::set, "set values"),
    command!("add" "TABLE RECORD COLUMN [KEY=]VALUE...", 4..MANY, &["--if-exists"], true, database::add, "add to a set or map"),
    command!("remove" "TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...", 4..MANY, &["--if-exists"], true, database::remove, "remove from a set or map"),
    command!("clear" "TABLE RECORD COLUMN...", 3..MANY, &["--if-exists"], true, database::clear, "empty columns"),
    command!("create" "TABLE COLUMN[:KEY]=VALUE...", 2..MANY, &["--id="], true, database::create, "make a record and print its UUID"),
    command!("destroy" "TABLE [RECORD]...", 1..MANY, &["--if-exists", "--all"], true, database::destroy, "delete records"),
    command!("wait-until" "TABLE RECORD [COLUMN[:KEY]=VALUE]...", 2..MANY, &[], false, database::wait_until, "wait for a record to be so"),
];

/// The command of that name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name)
}

/// The text of `--help`.
pub fn help() -> String {
    let mut out = String::from(
        "ovs-vsctl: reads and changes the configuration of the switch\n\
         usage: ovs-vsctl [OPTIONS] [--] [COMMAND-OPTIONS] COMMAND [ARG...] [-- COMMAND [ARG...]]...\n\n\
         Commands separated by \"--\" take effect together, or none does.\n\nCommands:\n",
    );
    for c in COMMANDS {
        let options: String = c
            .options
            .iter()
            .map(|o| {
                if o.ends_with('=') {
                    format!("[{o}...] ")
                } else {
                    format!("[{o}] ")
                }
            })
            .collect();
        let usage = format!("{options}{} {}", c.name, c.usage);
        out.push_str(&format!("  {}\n          {}\n", usage.trim_end(), c.help));
    }
    out.push_str(&format!(
        "
Records are named by UUID (four or more of its first digits do), and bridges, ports,
interfaces, mirrors and the like by name; the only row of Open_vSwitch and SSL is \".\".
Names of tables and columns may be abbreviated, in any case, with - for _.

Options:
  --db=TARGET             database to connect to (default: {})
  --no-wait               do not wait for the switch to apply the change
  --retry                 keep trying to connect
  -t, --timeout=SECS      give up after so many seconds
  --dry-run               change nothing
  --oneline               print one line per command
  -f, --format=FORMAT     of list and find: table, list, html, csv or json
  -d, --data=FORMAT       of their values: string, bare or json
  --no-headings           leave out the headings
  --pretty                spread JSON over lines
  --bare                  short for --format=list --data=bare --no-headings
  --max-column-width=N    cut wider columns of format table
  -p, --private-key=FILE  key for ssl: connections; with -c, --certificate=FILE, and -C, --ca-cert=FILE
                          or --bootstrap-ca-cert=FILE; --peer-ca-cert, --ssl-protocols, --ssl-ciphers
  -v, --verbose[=SPEC]    what to log on the console (as MODULE:DESTINATION:LEVEL)
  --no-syslog             do not log the call to syslog
  --log-file[=FILE]       log to a file, too
  -h, --help              this text
  -V, --version           the version

Exit codes: 0 done; 1 error; 2 br-exists found no such bridge.

Example:
  ovs-vsctl add-br br0 -- add-port br0 p1 tag=10 -- set Interface p1 type=internal
",
        crate::paths::default_db_target()
    ));
    out
}

/// The parts that the log's levels can be set for.
const MODULES: &[&str] = &[
    "db_ctl_base",
    "ovsdb_idl",
    "reconnect",
    "socket_util",
    "stream_ssl",
    "stream_tcp",
    "stream_unix",
    "vlog",
];

/// What the command line asks for.
pub struct Request {
    pub db: String,
    pub wait: bool,
    pub dry_run: bool,
    pub oneline: bool,
    pub retry: bool,
    pub timeout: Option<std::time::Duration>,
    pub style: Style,
    pub log: Arc<Vlog>,
    pub tls: TlsOptions,
    pub calls: Vec<Call>,
}

/// The outcome of reading the command line.
pub enum Parsed {
    Run(Box<Request>),
    /// Nothing but to print this.
    Print(String),
}

/// The options before the first command, besides those of tables and TLS, in the order in which
/// ambiguity is told.
const GLOBAL: &[Spec] = &[
    ("db", None, Takes::Value),
    ("no-syslog", None, Takes::Nothing),
    ("no-wait", None, Takes::Nothing),
    ("dry-run", None, Takes::Nothing),
    ("oneline", None, Takes::Nothing),
    ("timeout", Some('t'), Takes::Value),
    ("retry", None, Takes::Nothing),
    ("help", Some('h'), Takes::Nothing),
    ("commands", None, Takes::Nothing),
    ("options", None, Takes::Nothing),
    ("leader-only", None, Takes::Nothing),
    ("no-leader-only", None, Takes::Nothing),
    ("shuffle-remotes", None, Takes::Nothing),
    ("no-shuffle-remotes", None, Takes::Nothing),
    ("version", Some('V'), Takes::Nothing),
    ("verbose", Some('v'), Takes::Maybe),
    ("log-file", None, Takes::Maybe),
    ("syslog-method", None, Takes::Value),
    ("syslog-target", None, Takes::Value),
];

/// All options that are no command's.
pub fn global() -> impl Iterator<Item = &'static Spec> {
    GLOBAL.iter().chain(table::OPTIONS).chain(getopt::TLS)
}

/// The options that the commands have, which may stand before the first of them, too.
fn command_options() -> Vec<Spec> {
    let mut all: Vec<Spec> = Vec::new();
    for option in COMMANDS.iter().flat_map(|c| c.options) {
        let name = option.trim_start_matches("--");
        let (name, takes) = match name.strip_suffix('=') {
            Some(name) => (name, Takes::Value),
            None => (name, Takes::Nothing),
        };
        if !global().any(|s| s.0 == name) && !all.iter().any(|s| s.0 == name) {
            all.push((name, None, takes));
        }
    }
    all
}

/// Reads the command line.
pub fn parse(args: Vec<OsString>) -> Result<Parsed, Stop> {
    let (options, words) = getopt::parse(
        args,
        &[GLOBAL, table::OPTIONS, getopt::TLS, &command_options()],
        true,
    )?;
    let mut request = Request {
        db: crate::paths::default_db_target(),
        wait: true,
        dry_run: false,
        oneline: false,
        retry: false,
        timeout: None,
        style: Style {
            format: Format::List,
            ..Style::default()
        },
        log: Vlog::of_tool("ovs-vsctl", MODULES),
        tls: TlsOptions::default(),
        calls: Vec::new(),
    };
    if let Ok(secs) = std::env::var("OVS_CTL_TIMEOUT")
        && let Ok(limit) = exit::timeout('t', &secs)
    {
        request.timeout = Some(limit);
    }
    let mut local: Vec<(String, Option<String>)> = Vec::new();
    for (name, value) in options {
        if global().any(|(n, ..)| *n == name) {
            if let Some(done) = apply(&mut request, name, value.as_deref())? {
                return Ok(done);
            }
        } else {
            local.push((format!("--{name}"), value));
        }
    }
    request.calls = parse_commands(&words, local)?;
    Ok(Parsed::Run(Box::new(request)))
}

fn set_levels(log: &Vlog, spec: &str) -> Result<(), Stop> {
    match log.set(spec) {
        Ok(()) => Ok(()),
        Err(e) => fatal!("processing \"{spec}\": {e}"),
    }
}

fn version() -> String {
    format!(
        "ovs-vsctl (weir) {}\nDB Schema {}\n",
        env!("CARGO_PKG_VERSION"),
        ovsdb::schema::vswitch_schema().version
    )
}

fn apply(request: &mut Request, name: &str, value: Option<&str>) -> Result<Option<Parsed>, Stop> {
    let given = value.unwrap_or("");
    if request.style.set(name, value)? {
        return Ok(None);
    }
    match name {
        "help" => return Ok(Some(Parsed::Print(help()))),
        "version" => return Ok(Some(Parsed::Print(version()))),
        "commands" => return Ok(Some(Parsed::Print(completion::commands()))),
        "options" => return Ok(Some(Parsed::Print(completion::options()))),
        "db" => request.db = given.into(),
        "no-wait" => request.wait = false,
        "dry-run" => request.dry_run = true,
        "oneline" => request.oneline = true,
        "retry" => request.retry = true,
        "timeout" => request.timeout = Some(exit::timeout('t', given)?),
        "verbose" => set_levels(&request.log, value.unwrap_or("dbg"))?,
        "no-syslog" => set_levels(&request.log, "vsctl:syslog:warn")?,
        "log-file" => {
            let path = match value {
                Some(path) => path.into(),
                None => paths::log_dir().join("ovs-vsctl.log"),
            };
            let shown = path.display();
            if let Err(e) = request.log.open_file(&path) {
                let why = exit::words(&e);
                let text = format!("failed to open {shown} for logging: {why}");
                request.log.write("vlog", Level::Warn, &text);
                return Err(Stop::Exit(1));
            }
            let text = format!("opened log file {shown}");
            request.log.write("vlog", Level::Info, &text);
        }
        "syslog-method" | "syslog-target" => daemon::check_syslog(name, value)?,
        // A single server is not asked whether it leads.
        "leader-only" | "no-leader-only" | "shuffle-remotes" | "no-shuffle-remotes" => {}
        tls => _ = request.tls.accept(tls, given),
    }
    Ok(None)
}

/// Splits the words at `--` and checks each command's name, options and number of arguments.
fn parse_commands(
    words: &[String],
    local: Vec<(String, Option<String>)>,
) -> Result<Vec<Call>, Stop> {
    let mut calls = Vec::new();
    let mut options = local;
    for part in words.split(|w| w == "--") {
        if part.is_empty() {
            if !options.is_empty() {
                fatal!("missing command name (use --help for help)");
            }
            continue;
        }
        let mut options = std::mem::take(&mut options);
        let n = part.iter().take_while(|w| w.starts_with('-')).count();
        for word in &part[..n] {
            let (name, value) = match word.split_once('=') {
                Some((n, v)) => (n.to_string(), Some(v.to_string())),
                None => (word.clone(), None),
            };
            if options.iter().any(|(o, _)| *o == name) {
                fatal!("'{word}' option specified multiple times");
            }
            options.push((name, value));
        }
        let argv = &part[n..];
        let Some(name) = argv.first() else {
            fatal!("missing command name (use --help for help)");
        };
        let Some(command) = find(name) else {
            fatal!("unknown command '{name}'; use --help for help");
        };
        for (option, value) in &options {
            let takes = command.options.contains(&format!("{option}=").as_str());
            if !takes && !command.options.contains(&option.as_str()) {
                fatal!("'{name}' command has no '{option}' option");
            }
            match value {
                None if takes => {
                    fatal!("missing argument to '{option}' option on '{name}' command")
                }
                Some(_) if !takes => {
                    fatal!("'{option}' option on '{name}' does not accept an argument")
                }
                _ => {}
            }
        }
        let (given, (min, max)) = (argv.len() - 1, command.args);
        if given < min {
            fatal!("'{name}' command requires at least {min} arguments");
        }
        if given > max {
            let hint = if argv[1..].iter().any(|a| a.starts_with('-')) {
                " (note that options must precede command names and follow a \"--\" argument)"
            } else {
                ""
            };
            fatal!("'{name}' command takes at most {max} arguments{hint}");
        }
        calls.push(Call {
            options,
            argv: argv.to_vec(),
        });
    }
    if calls.is_empty() {
        fatal!("missing command name (use --help for help)");
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(line: &str) -> Result<Vec<String>, String> {
        match parse(line.split(' ').map(OsString::from).collect()) {
            Ok(Parsed::Run(r)) => Ok(r.calls.iter().map(Call::text).collect()),
            Ok(_) => Err("help".into()),
            Err(Stop::Fatal(e)) => Err(e),
            Err(_) => Err("stop".into()),
        }
    }

    #[test]
    fn commands_and_options() {
        let line = "--no-wait --id=@q create queue dscp=3 -- -- --if-exists del-port p1";
        assert_eq!(
            calls(line).unwrap(),
            ["--id=@q create queue dscp=3", "--if-exists del-port p1"]
        );
        assert_eq!(
            calls("--format table --column=name list port").unwrap(),
            ["--columns=name list port"]
        );
        for (line, error) in [
            (
                "--no show",
                "option '--no' is ambiguous; possibilities: '--no-syslog' '--no-wait' '--no-leader-only' '--no-shuffle-remotes' '--no-headings'",
            ),
            ("--ti", "option '--timeout' requires an argument"),
            ("--nosuch", "unrecognized option '--nosuch'"),
            (
                "--may-exist=3 add-br x",
                "option '--may-exist' doesn't allow an argument",
            ),
            (
                "-- --bad add-br x",
                "'add-br' command has no '--bad' option",
            ),
            (
                "-- --may-exist=3 add-br x",
                "'--may-exist' option on 'add-br' does not accept an argument",
            ),
            (
                "-- --id create queue a=b",
                "missing argument to '--id' option on 'create' command",
            ),
            ("foo", "unknown command 'foo'; use --help for help"),
            ("add-br", "'add-br' command requires at least 1 arguments"),
            ("del-br a b", "'del-br' command takes at most 1 arguments"),
            (
                "del-br a --if-exists",
                "'del-br' command takes at most 1 arguments (note that options must precede command names and follow a \"--\" argument)",
            ),
            ("--id=@x", "missing command name (use --help for help)"),
            ("-t 0 show", "value 0 on -t or --timeout is invalid"),
            ("-f foo list port", "unknown output format \"foo\""),
        ] {
            assert_eq!(calls(line), Err(error.to_string()), "{line}");
        }
    }
}
