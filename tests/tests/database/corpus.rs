//! A list of commands, typed by every pair.

use crate::contents::contents;
use crate::normal::{Rows, normal};
use crate::pair::Running;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tests::pairs::{Pair, difference, shown};
use tests::process::Ran;

/// The most lines that are reported in full; later ones usually follow from the first.
const MAX_REPORTED: usize = 50;

/// A command of a corpus.
struct Line {
    /// From 1.
    number: usize,
    /// For `sh`.
    text: String,
    rows: Rows,
    /// Whether only the exit code is compared.
    code_only: bool,
}

/// Where corpora lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/database/corpus")
}

fn lines(text: &str) -> Vec<Line> {
    let lines = text.lines().enumerate().filter_map(|(n, line)| {
        if line.trim().is_empty() || line.starts_with('#') {
            return None;
        }
        let unordered = line.strip_prefix("~ ");
        let code_only = line.strip_prefix("? ");
        Some(Line {
            number: n + 1,
            text: unordered.or(code_only).unwrap_or(line).to_owned(),
            rows: if unordered.is_some() {
                Rows::Unordered
            } else {
                Rows::Ordered
            },
            code_only: code_only.is_some(),
        })
    });
    lines.collect()
}

/// What came of a corpus: of each line, and in the databases.
type Outcome = (Vec<Ran>, String);

fn type_all(pair: Pair, lines: &[Line]) -> Outcome {
    let running = Running::start(pair, &directory());
    let ran = lines.iter().map(|line| {
        let ran = running.line(&line.text);
        let normal = |text: &str| match line.code_only {
            true => String::new(),
            false => normal(text, running.dir(), line.rows),
        };
        Ran {
            code: ran.code,
            stdout: normal(&ran.stdout),
            stderr: normal(&ran.stderr),
        }
    });
    (ran.collect(), contents(&running))
}

/// Types the corpus in `file` with each pair; panics with every line of which the outcomes differ.
pub fn agree(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lines = lines(&text);
    let lines = &lines;
    let outcomes: Vec<Outcome> = Pair::each(|pair| type_all(pair, lines));
    let mut report = String::new();
    let mut wrong = 0;
    for (n, line) in lines.iter().enumerate() {
        let ran: Vec<String> = outcomes.iter().map(|o| shown(&o.0[n])).collect();
        if let Some(difference) = difference(&ran) {
            wrong += 1;
            if wrong <= MAX_REPORTED {
                _ = writeln!(
                    report,
                    "{}:{}: {}\n{difference}",
                    file.display(),
                    line.number,
                    line.text
                );
            }
        }
    }
    let contents: Vec<String> = outcomes.into_iter().map(|o| o.1).collect();
    if let Some(difference) = difference(&contents) {
        _ = writeln!(
            report,
            "{}: the databases at the end\n{difference}",
            file.display()
        );
    }
    assert!(
        report.is_empty(),
        "{wrong} of {} lines differ\n{report}",
        lines.len()
    );
}

#[test]
fn prefixes_are_not_part_of_the_command() {
    let read = lines("# a\n\n~ b\n? c\nd ~ e\n");
    let texts: Vec<(&str, usize)> = read.iter().map(|l| (l.text.as_str(), l.number)).collect();
    assert_eq!(texts, [("b", 3), ("c", 4), ("d ~ e", 5)]);
    assert!(read[0].rows == Rows::Unordered && !read[0].code_only && read[1].code_only);
}
