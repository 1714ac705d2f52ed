//! The commands a user types.

use crate::netns::Namespace;
use crate::process::{Ran, output};
use crate::switch::{Weir, weir_binary};
use std::path::PathBuf;
use std::process::Command;

/// Whose programs type the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tools {
    /// Debian's Open vSwitch.
    Stock,
    /// weir's subcommands.
    Weir,
}

impl Tools {
    /// Both, stock first.
    pub const BOTH: [Tools; 2] = [Tools::Stock, Tools::Weir];

    /// `program` (`ovs-vsctl`, `ovsdb-client`, ...) as a command that finds weir's run directory `run_dir`.
    pub fn command(
        self,
        program: &str,
        run_dir: &std::path::Path,
        namespace: Option<&Namespace>,
    ) -> Command {
        let (path, first): (PathBuf, Option<&str>) = match self {
            Tools::Stock => (program.into(), None),
            Tools::Weir => {
                let sub = program.strip_prefix("ovs-").unwrap_or(program);
                (weir_binary(), Some(sub))
            }
        };
        let mut c = match namespace {
            Some(ns) => ns.command(path),
            None => Command::new(path),
        };
        c.args(first).env("OVS_RUNDIR", run_dir);
        c
    }
}

/// The same switch, driven by one set of tools.
pub struct Typed<'a> {
    /// The switch.
    pub weir: &'a Weir,
    /// Whose programs.
    pub tools: Tools,
}

impl Typed<'_> {
    /// Types a line, split at blanks; quotes are not known.
    pub fn line(&self, line: &str) -> Ran {
        let mut words = line.split_whitespace();
        let mut c = self.tools.command(
            words.next().expect("a program"),
            &self.weir.run_dir,
            self.weir.namespace.as_ref(),
        );
        c.args(words);
        output(c)
    }

    /// Types a line that must succeed; its standard output.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let ran = self.line(line);
        assert_eq!(
            ran.code, 0,
            "{:?}: {line}\nstdout: {}\nstderr: {}",
            self.tools, ran.stdout, ran.stderr
        );
        ran.stdout
    }
}
