//! What a command has at hand while it runs.

use uuid::Uuid;

use super::syntax;
use super::text::Symbols;
use super::view::View;
use crate::table::Table;
use switchd::Vlog;
use switchd::log::Level;

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

    /// Whether the command can change the database.
    pub fn writes(&self) -> bool {
        syntax::find(&self.argv[0]).is_some_and(|c| c.writes)
    }

    /// The command as messages quote it, with its options in the order of `--help`.
    pub fn text(&self) -> String {
        let known = syntax::find(&self.argv[0]).map_or(&[][..], |c| c.options);
        let place = |o: &str| known.iter().position(|k| k.trim_end_matches('=') == o);
        let mut options: Vec<&(String, Option<String>)> = self.options.iter().collect();
        options.sort_by_key(|(o, _)| place(o));
        let mut words: Vec<String> = options
            .into_iter()
            .map(|(o, v)| match v {
                Some(v) => format!("{o}={v}"),
                None => o.clone(),
            })
            .collect();
        words.extend(self.argv.iter().cloned());
        quoted(&words)
    }
}

/// A command line as the database's log shows it: words that need it in quotes.
pub fn quoted(words: &[String]) -> String {
    let quote = |word: &String| {
        if word.contains([' ', '\t', '\r', '\n', '\x0b', '\\', '\'', '"']) {
            format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            word.clone()
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
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
    /// Whether this is the last command of the line: what it does to a set or map may then be told
    /// to the server as a change of these elements only (`mutate`, RFC 7047 5.2.4), which others'
    /// changes of the same column do not disturb.
    pub last: bool,
    pub log: &'a Vlog,
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

    /// Logs a warning of `module`.
    pub fn warn(&self, module: &str, text: &str) {
        self.log.write(module, Level::Warn, text);
    }

    /// Adds a line to the output.
    pub fn line(&mut self, text: impl std::fmt::Display) {
        self.out.push_str(&format!("{text}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_where_a_shell_would_split_them() {
        let words = ["add-br", "a b", "c\"d", "e=f"].map(String::from);
        assert_eq!(quoted(&words), "add-br \"a b\" \"c\\\"d\" e=f");
        let call = Call {
            options: vec![("--fake-iface".into(), None), ("--may-exist".into(), None)],
            argv: vec!["add-bond".into(), "b".into()],
        };
        assert_eq!(call.text(), "--may-exist --fake-iface add-bond b");
    }
}
