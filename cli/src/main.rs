//! The weir binary: one subcommand per tool.
//!
//! What to run is decided by the name the binary was called by (`ovs-vsctl` and so on, see
//! `weir links`), else by the first word of the command line. Everything after that belongs to
//! the tool: each one reads its own arguments, because several of them (`vsctl` above all) have a
//! grammar that no general parser knows.
//!
//! To add a command, add its `mod` line and one entry to [`COMMANDS`]; help, aliases and
//! `weir links` come from there.

#![forbid(unsafe_code)]

mod appctl;
mod capture;
mod check;
mod controller;
mod daemon;
mod demo;
mod exit;
mod getopt;
mod json;
mod links;
mod ofctl;
mod ovsdb_client;
mod ovsdb_server;
mod ovsdb_tool;
mod paths;
mod profile;
mod switchd;
mod table;
mod trace;
mod up;
mod vm;
mod vsctl;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Transactions of the database are thousands of small pieces that come and go between others that
/// stay; the C library's allocator spends more time on that than all the rest takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One tool of the binary.
pub struct Command {
    /// The subcommand: `weir NAME`.
    pub name: &'static str,
    /// The program of Open vSwitch it stands in for, if any: called by this name, the binary
    /// behaves as that program.
    pub alias: Option<&'static str>,
    /// One line for `weir --help`.
    pub help: &'static str,
    /// Runs it with the arguments that follow its name.
    pub run: fn(Vec<OsString>) -> ExitCode,
}

/// Every command, in the order `weir --help` shows them.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "up",
        alias: None,
        help: "run database, switch and controller in one process",
        run: up::run,
    },
    Command {
        name: "demo",
        alias: None,
        help: "watch two guests talk through a switch that a controller programs",
        run: demo::run,
    },
    Command {
        name: "vsctl",
        alias: Some("ovs-vsctl"),
        help: "read and change the configuration",
        run: vsctl::run,
    },
    Command {
        name: "appctl",
        alias: Some("ovs-appctl"),
        help: "send commands to a running daemon",
        run: appctl::run,
    },
    Command {
        name: "dpctl",
        alias: Some("ovs-dpctl"),
        help: "show the datapath of the running switch",
        run: appctl::run_dpctl,
    },
    Command {
        name: "switchd",
        alias: Some("ovs-vswitchd"),
        help: "run the switch alone",
        run: switchd::run,
    },
    Command {
        name: "controller",
        alias: None,
        help: "run the controller alone",
        run: controller::run,
    },
    Command {
        name: "vm",
        alias: None,
        help: "start and stop guests on ports of the switch",
        run: vm::run,
    },
    Command {
        name: "profile",
        alias: None,
        help: "settings of ports under a name",
        run: profile::run,
    },
    Command {
        name: "ofctl",
        alias: Some("ovs-ofctl"),
        help: "ask and change flows, ports and tables over OpenFlow",
        run: ofctl::run,
    },
    Command {
        name: "trace",
        alias: None,
        help: "what a bridge would do with a packet, and why",
        run: trace::run,
    },
    Command {
        name: "capture",
        alias: None,
        help: "what passes a port, as a capture file",
        run: capture::run,
    },
    Command {
        name: "check",
        alias: None,
        help: "what is wrong with a bridge's flow tables",
        run: check::run,
    },
    Command {
        name: "ovsdb-client",
        alias: Some("ovsdb-client"),
        help: "ask and watch a database server",
        run: ovsdb_client::run,
    },
    Command {
        name: "ovsdb-tool",
        alias: Some("ovsdb-tool"),
        help: "make, read and compact database files",
        run: ovsdb_tool::run,
    },
    Command {
        name: "ovsdb-server",
        alias: Some("ovsdb-server"),
        help: "serve a database by itself",
        run: ovsdb_server::run,
    },
    Command {
        name: "links",
        alias: None,
        help: "make links named ovs-vsctl, ovs-ofctl, ... to this binary in a directory",
        run: links::run,
    },
];

/// The command that the program name `argv0` asks for.
fn by_alias(argv0: &OsStr) -> Option<&'static Command> {
    let name = Path::new(argv0).file_name()?.to_str()?;
    COMMANDS.iter().find(|c| c.alias == Some(name))
}

/// The command called `name`, by either of its names (`weir ovs-vsctl` works too).
fn by_name(name: &OsStr) -> Option<&'static Command> {
    let name = name.to_str()?;
    COMMANDS
        .iter()
        .find(|c| c.name == name || c.alias == Some(name))
}

/// The text of `weir --help`.
fn help() -> String {
    let mut text = String::from(
        "weir: a virtual switch, its database, its controller and their tools in one program\n\n\
         usage: weir COMMAND [ARG...]\n\ncommands:\n",
    );
    for c in COMMANDS {
        let alias = c.alias.map(|a| format!(" (as {a})")).unwrap_or_default();
        text.push_str(&format!("  {:<14} {}{alias}\n", c.name, c.help));
    }
    text.push_str(
        "\n\"weir COMMAND --help\" tells more about each.\n\n\
         exit codes: 0 done; 1 not done, with the reason on standard error; others as each command's help says\n\n\
         example:\n  weir up &                       start database, switch and controller\n  \
         weir vsctl add-br br0           make a bridge\n  \
         weir vsctl show                 see what is there\n",
    );
    text
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    if let Some(command) = by_alias(&argv0) {
        return (command.run)(args.collect());
    }
    let Some(word) = args.next() else {
        eprint!("{}", help());
        return ExitCode::FAILURE;
    };
    if let Some(command) = by_name(&word) {
        return (command.run)(args.collect());
    }
    match word.to_str() {
        Some("-h" | "--help" | "help") => {
            if let Some(command) = args.next().as_deref().and_then(by_name) {
                return (command.run)(vec!["--help".into()]);
            }
            print!("{}", help());
            ExitCode::SUCCESS
        }
        Some("-V" | "--version") => {
            println!("weir {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            let names: Vec<_> = COMMANDS.iter().map(|c| c.name).collect();
            eprintln!(
                "weir: there is no command \"{}\"; the commands are: {}",
                word.to_string_lossy(),
                names.join(", ")
            );
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for c in COMMANDS {
            assert!(seen.insert(c.name), "{} twice", c.name);
            if let Some(alias) = c.alias
                && alias != c.name
            {
                assert!(seen.insert(alias), "{alias} twice");
            }
        }
    }

    #[test]
    fn help_names_every_command() {
        for c in COMMANDS {
            assert!(help().contains(&format!("  {:<14} {}", c.name, c.help)));
        }
    }
}
