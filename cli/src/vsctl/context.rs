//! What a command has at hand while it runs.

use uuid::Uuid;

use super::log::Log;
use super::text::Symbols;
use super::view::View;
use crate::table::Table;

/// Why the commands stopped.
#[derive(Debug)]
pub enum Stop {
    /// An error, printed after the program's name; exit code 1.
    Fatal(String),
    /// This exit code, silently.
    Exit(u8),
    /// Something awaited is not so yet: run again once the database has changed.
    NotYet,
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::Fatal(message)
    }
}

/// Ends a command with an error message.
macro_rules! fatal {
    ($($arg:tt)*) => { return Err($crate::vsctl::context::Stop::Fatal(format!($($arg)*))) };
}
pub(crate) use fatal;

/// What a command gives back.
pub type Outcome = Result<(), Stop>;

/// One command of the command line.
#[derive(Clone, Debug)]
pub struct Call {
    /// Options with their leading `--`, in the order typed, and their values.
    pub options: Vec<(String, Option<String>)>,
    /// The command's name and its arguments.
    pub argv: Vec<String>,
}

impl Call {
    /// Whether an option was given.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(o, _)| o == option)
    }

    /// The value of an option.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(o, _)| o == option)
            .and_then(|(_, v)| v.as_deref())
    }

    /// The command as typed.
    pub fn text(&self) -> String {
        let mut words: Vec<String> = self
            .options
            .iter()
            .map(|(o, v)| match v {
                Some(v) => format!("{o}={v}"),
                None => o.clone(),
            })
            .collect();
        words.sort();
        words.extend(self.argv.iter().cloned());
        words.join(" ")
    }
}

/// What a command has at hand while it runs.
pub struct Context<'a, 'v> {
    pub view: &'a mut View<'v>,
    pub symbols: &'a mut Symbols,
    pub call: &'a Call,
    /// The row of table `Open_vSwitch`.
    pub root: Uuid,
    /// Text to print once the transaction has succeeded.
    pub out: String,
    /// Table to print once the transaction has succeeded.
    pub table: Option<Table>,
    /// Row whose UUID, as the server gave it, is to be printed.
    pub created: Option<Uuid>,
    /// Interfaces that the command made: table rows to look for errors at in the end.
    pub interfaces: &'a mut Vec<Uuid>,
    pub log: &'a mut Log,
}

impl<'a> Context<'a, '_> {
    /// Argument `i` of the command, counted from 1.
    pub fn arg(&self, i: usize) -> &'a str {
        self.call.argv.get(i).map_or("", String::as_str)
    }

    /// The arguments from `i` on.
    pub fn args_from(&self, i: usize) -> &'a [String] {
        self.call.argv.get(i..).unwrap_or(&[])
    }

    /// Adds a line to the output.
    pub fn line(&mut self, text: impl std::fmt::Display) {
        self.out.push_str(&format!("{text}\n"));
    }
}
