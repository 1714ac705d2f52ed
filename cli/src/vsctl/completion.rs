//! `--commands` and `--options`: the grammar in the form that Open vSwitch's completion for bash reads.

use super::syntax::{COMMANDS, global};
use crate::getopt::Takes;

/// One line a command: options, name, arguments. Marks before an argument say how often it may come:
/// `!` once, `?` once or not at all, `+` once or more, `*` any number of times.
pub fn commands() -> String {
    let line = |c: &super::syntax::Command| {
        let options: String = c.options.iter().map(|o| format!("[{o}] ")).collect();
        format!("{options},{},{}\n", c.name, arguments(c.usage))
    };
    COMMANDS.iter().map(line).collect()
}

fn arguments(usage: &str) -> String {
    let mark = |word: &str| {
        let (word, many) = match word.strip_suffix("...") {
            Some(word) => (word, true),
            None => (word, false),
        };
        let (word, optional) = match word.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
            Some(inside) => (inside, true),
            None => (word, false),
        };
        let mark = match (optional, many) {
            (false, false) => '!',
            (true, false) => '?',
            (false, true) => '+',
            (true, true) => '*',
        };
        // What is optional within a word.
        format!("{mark}{}", word.replace('[', "?").replace(']', ""))
    };
    usage
        .split_terminator(' ')
        .map(mark)
        .collect::<Vec<_>>()
        .join(" ")
}

/// One line an option, its letter after its name.
pub fn options() -> String {
    let mut out = String::new();
    for (name, letter, takes) in global() {
        let (long, short) = match takes {
            Takes::Nothing => ("", ""),
            Takes::Value | Takes::Maybe => ("=ARG", " ARG"),
        };
        out.push_str(&format!("--{name}{long}\n"));
        if let Some(letter) = letter {
            out.push_str(&format!("-{letter}{short}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_marked_as_completion_expects() {
        for (usage, marked) in [
            ("", ""),
            ("BRIDGE", "!BRIDGE"),
            (
                "NEW-BRIDGE [PARENT] [NEW-VLAN]",
                "!NEW-BRIDGE ?PARENT ?NEW-VLAN",
            ),
            ("TABLE [RECORD]...", "!TABLE *RECORD"),
            ("TABLE COLUMN[:KEY]=VALUE...", "!TABLE +COLUMN?:KEY=VALUE"),
            ("RECORD [COLUMN[:KEY]]...", "!RECORD *COLUMN?:KEY"),
            ("COLUMN [KEY=]VALUE...", "!COLUMN +?KEY=VALUE"),
        ] {
            assert_eq!(arguments(usage), marked);
        }
    }
}
